// lib/protocol.js without I/O: bytes in, events and bytes out.
import assert from "node:assert/strict";
import { test } from "node:test";

import { RpcError, encodeFrame, readFrame } from "../lib/frames.js";
import { PUSH_BUFFER, Protocol, STREAM_WINDOW, WINDOW_STEP } from "../lib/protocol.js";

const HELLO = 1, REQUEST = 2, RESPONSE = 3, CANCEL = 4, PING = 5, PONG = 6, GOAWAY = 7, PUSH = 8, DATA = 13, WINDOW = 14;
const NOTIFY = 1, MORE = 2;

function hello(more = {}) {
  return encodeFrame({ type: HELLO, body: JSON.stringify({ protocol: [1], instance: "i", max_frame: 1000, ...more }) });
}

function request(call, more = {}) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: call, method: "m" });
  return encodeFrame({ type: REQUEST, call: BigInt(call), body, ...more });
}

/** All events of these bytes. */
function events(protocol, bytes, now = 0) {
  protocol.receive(bytes, now);
  const found = [];
  for (let event; (event = protocol.nextEvent()) !== null; ) {
    found.push(event);
    if (event.kind === "hello") protocol.sayHello({ protocol: 1 });
  }
  return found;
}

/** The frames that it wants to be written. */
function sent(protocol) {
  const data = Buffer.concat(protocol.dataToSend()), frames = [];
  for (let at = 0; at < data.length; at += frames.at(-1).size) frames.push(readFrame(data, at));
  return frames;
}

function opened(options, more) {
  const protocol = new Protocol(0, options);
  events(protocol, hello(more));
  assert.deepEqual(sent(protocol).map((frame) => frame.type), [HELLO]);
  return protocol;
}

function kinds(protocol, bytes) {
  return events(protocol, bytes).map((event) => event.kind);
}

test("a call", () => {
  const protocol = opened();
  const body = '{"jsonrpc":"2.0","id":5,"method":"add","params":[1,2]}';
  const frame = { type: REQUEST, call: 5n, conn: 2n ** 64n - 1n, meta: '{"peer":"p"}', body, blob: Buffer.from("x") };
  const [event] = events(protocol, encodeFrame(frame));
  assert.deepEqual([event.method, event.params, event.meta], ["add", [1, 2], { peer: "p" }]);
  assert.deepEqual([event.call, event.conn, event.blob.toString()], [5n, 2n ** 64n - 1n, "x"]);
  protocol.respond(5n, 3, Buffer.from("blob"));
  const [answer] = sent(protocol);
  assert.deepEqual([answer.type, answer.call, answer.blob.toString()], [RESPONSE, 5n, "blob"]);
  assert.equal(answer.body.toString(), '{"jsonrpc":"2.0","id":5,"result":3}');
});

for (const id of [
  "9007199254740993", "1.0", "1e3", "-0", "1E400", '"a\\u0041\\/\\"\\\\"', '"\u00fc\\ud83d"', '""', "null",
  '"' + "\\\\".repeat(3000) + '"',
]) {
  for (const [where, body] of [
    ["first", `{"id":${id},"jsonrpc":"2.0","method":"m"}`],
    ["last", `{"jsonrpc":"2.0","method":"m","params":{"id":7,"a":["]}\\"",{"id":[]}],"b":"\\\\"},"id":${id}}`],
    ["with space", ` {\n"method" :\t"m" , "params" : [ 1 , {} , "," ],\r\n "\\u0069d" : ${id} } `],
  ]) {
    test(`the id comes back as it was: ${id.slice(0, 30)} ${where}`, () => {
      const protocol = opened({}, { max_frame: 100_000 });
      events(protocol, encodeFrame({ type: REQUEST, call: 1n, body }));
      protocol.respond(1n, true);
      assert.equal(sent(protocol)[0].body.toString(), `{"jsonrpc":"2.0","id":${id},"result":true}`);
    });
  }
}

for (const [body, code] of [
  ["{", -32700], [Buffer.from('"\xff"', "latin1"), -32700], ["\ufeff{}", -32700], ["[]", -32600], ['{"id":1}', -32600],
  ['{"id":1,"method":"m","params":1}', -32600], ['{"id":1,"method":"m","params":null}', -32600], ["null", -32600],
]) {
  test(`a request that is none is answered here: ${JSON.stringify(body.toString())}`, () => {
    const protocol = opened();
    assert.deepEqual(kinds(protocol, encodeFrame({ type: REQUEST, call: 1n, body })), []);
    const answer = JSON.parse(sent(protocol)[0].body);
    assert.deepEqual([answer.error.code, answer.id], [code, null]);
    assert.deepEqual(kinds(protocol, encodeFrame({ type: REQUEST, flags: NOTIFY, body })), []);
    assert.deepEqual(sent(protocol), []);
  });
}

test("bytes may be cut anywhere", () => {
  const ping = encodeFrame({ type: PING, body: "p" });
  const all = Buffer.concat([hello(), request(1), ping, request(2), encodeFrame({ type: 200, blob: Buffer.alloc(99) }), request(3)]);
  for (let cut = 1; cut < all.length; cut++) {
    const protocol = new Protocol(0);
    const found = [...kinds(protocol, all.subarray(0, cut)), ...kinds(protocol, all.subarray(cut))];
    assert.deepEqual(found, ["hello", "request", "request", "request"]);
  }
  const protocol = new Protocol(0), found = [];
  for (const byte of all) found.push(...kinds(protocol, Buffer.from([byte])));
  assert.deepEqual(found, ["hello", "request", "request", "request"]);
  assert.deepEqual(sent(protocol).map((frame) => frame.type), [HELLO, PONG]);
});

for (const [what, bytes] of [
  ["a call id again", Buffer.concat([request(1), request(1)])],
  ["a call id that is less", Buffer.concat([request(2), request(1)])],
  ["call id 0", request(0)],
  ["a streamed notification", request(1, { flags: NOTIFY | MORE })],
  ["meta that is no JSON", request(1, { meta: "{" })],
  ["meta that is no object", request(1, { meta: "[]" })],
  ["an unknown type", encodeFrame({ type: 15 })],
]) {
  test(`the channel ends: ${what}`, () => {
    const protocol = opened();
    assert.throws(() => events(protocol, bytes), (error) => {
      protocol.fail(error);
      return error.name === "ProtocolError";
    });
    assert.equal(sent(protocol).at(-1).type, GOAWAY);
    assert.equal(protocol.state, "closing");
  });
}

for (const [what, frame, found] of [
  ["PING of 64 bytes", { type: PING, body: "x".repeat(64) }, [PONG]],
  ["PING of 65 bytes", { type: PING, body: "x".repeat(65) }, []],
  ["a second HELLO", { type: HELLO, body: "x" }, []],
  ["RESPONSE", { type: RESPONSE, call: 1n }, []],
  ["PUSH", { type: PUSH }, []],
  ["DATA of no call", { type: DATA, call: 9n }, []],
  ["WINDOW of no call", { type: WINDOW, call: 9n, body: '{"bytes":1}' }, []],
  ["WINDOW that is no JSON", { type: WINDOW, call: 9n, body: "x" }, []],
  ["CANCEL of no call", { type: CANCEL, call: 9n }, []],
]) {
  test(`the channel goes on: ${what}`, () => {
    const protocol = opened();
    events(protocol, encodeFrame(frame));
    assert.deepEqual(sent(protocol).map((one) => one.type), found);
    assert.deepEqual(kinds(protocol, request(1)), ["request"]);
  });
}

test("the front's max_frame, at the limit and over", () => {
  const protocol = opened({}, { max_frame: 200 });
  const empty = '{"jsonrpc":"2.0","id":1,"result":""}'.length;
  events(protocol, request(1));
  assert.throws(() => protocol.respond(1n, "x".repeat(201 - empty)), RangeError);
  protocol.respond(1n, "x".repeat(200 - empty));
  assert.equal(sent(protocol)[0].body.length, 200);
  protocol.push({ type: PUSH, conn: 1n, blob: Buffer.alloc(200) });
  assert.throws(() => protocol.push({ type: PUSH, conn: 1n, blob: Buffer.alloc(201) }), RangeError);
});

test("an error goes without an id that is too long", () => {
  const protocol = opened({}, { max_frame: 200 });
  events(protocol, encodeFrame({ type: REQUEST, call: 1n, body: JSON.stringify({ id: "x".repeat(200), method: "m" }) }));
  protocol.refuse(1n, new RpcError(-32601, "method not found"));
  assert.equal(JSON.parse(sent(protocol)[0].body).id, null);
});

test("values that are no JSON are still owed", () => {
  const protocol = opened();
  events(protocol, request(1));
  const circle = {};
  circle.circle = circle;
  for (const value of [undefined, () => 1, 1n, circle]) assert.throws(() => protocol.respond(1n, value), TypeError);
  assert.deepEqual(sent(protocol), []);
  protocol.respond(1n, null);
  assert.equal(sent(protocol).length, 1);
});

test("pushes have a limit", () => {
  const protocol = opened({}, { max_frame: PUSH_BUFFER });
  protocol.push({ type: PUSH, conn: 1n, blob: Buffer.alloc(PUSH_BUFFER - 32) });
  assert.equal(protocol.unsent, PUSH_BUFFER);
  protocol.push({ type: PUSH, conn: 1n });
  assert.throws(() => protocol.push({ type: PUSH, conn: 1n }), { name: "BufferError" });
  sent(protocol);
  protocol.push({ type: PUSH, conn: 1n }, PUSH_BUFFER);
  assert.throws(() => protocol.push({ type: PUSH, conn: 1n }, PUSH_BUFFER), { name: "BufferError" });
});

test("after our GOAWAY new calls are dropped, those taken are answered", () => {
  const protocol = opened();
  events(protocol, request(4));
  protocol.goAway("shutdown");
  assert.equal(sent(protocol)[0].body.toString(), '{"reason":"shutdown","last_call":4}');
  assert.deepEqual(kinds(protocol, request(5)), []);
  assert.equal(protocol.finished, false);
  protocol.respond(4n, 1);
  assert.equal(protocol.finished, true);
});

test("last_call has 64 bits", () => {
  const protocol = opened();
  events(protocol, request(1, { call: 2n ** 62n + 1n }));
  protocol.goAway("shutdown");
  assert.equal(sent(protocol)[0].body.toString(), `{"reason":"shutdown","last_call":${2n ** 62n + 1n}}`);
});

test("a streamed request is gathered, within max_frame", () => {
  for (const [size, whole] of [[300, true], [301, false]]) {
    const protocol = opened({ maxFrame: 300 });
    const parts = [100, 100, size - 200];
    const first = request(1, { flags: MORE, blob: Buffer.alloc(100, 1) });
    assert.deepEqual(kinds(protocol, first), []);
    assert.deepEqual(kinds(protocol, encodeFrame({ type: DATA, flags: MORE, call: 1n, blob: Buffer.alloc(parts[1], 2) })), []);
    const [window] = sent(protocol);
    assert.deepEqual([window.type, window.body.toString()], [WINDOW, '{"bytes":100}']);
    protocol.goAway("shutdown"); // it was taken before that
    sent(protocol);
    assert.equal(protocol.finished, false);
    const found = events(protocol, encodeFrame({ type: DATA, call: 1n, blob: Buffer.alloc(parts[2], 3) }));
    if (whole) assert.equal(found[0].blob.length, size);
    else assert.equal(JSON.parse(sent(protocol)[0].body).error.message, "the request is too large");
  }
});

test("a request in parts, and WINDOW as they are used", () => {
  const protocol = opened({ parts: true });
  assert.equal(events(protocol, request(1, { flags: MORE, blob: Buffer.from("a") }))[0].flags, MORE);
  const more = encodeFrame({ type: DATA, flags: MORE, call: 1n, blob: Buffer.alloc(WINDOW_STEP) });
  assert.deepEqual(kinds(protocol, more), ["part"]);
  protocol.took(1n, WINDOW_STEP - 1);
  assert.deepEqual(sent(protocol), []);
  protocol.took(1n, 1);
  assert.equal(sent(protocol)[0].body.toString(), `{"bytes":${WINDOW_STEP}}`);
  protocol.respond(1n, null); // before the body is complete: what comes of it is thrown away
  assert.deepEqual(kinds(protocol, more), []);
  protocol.took(1n, WINDOW_STEP);
  assert.deepEqual(sent(protocol).map((frame) => frame.type), [RESPONSE]);
});

test("an answer in parts keeps to its window", () => {
  const protocol = opened();
  events(protocol, request(1));
  protocol.respondFirst(1n, { status: 200 });
  assert.equal(protocol.room(1n), STREAM_WINDOW);
  protocol.stream(1n, Buffer.alloc(STREAM_WINDOW - 1));
  assert.equal(protocol.room(1n), 1);
  protocol.stream(1n, Buffer.alloc(1));
  assert.throws(() => protocol.stream(1n, Buffer.alloc(1)), { name: "AssertionError" });
  assert.deepEqual(kinds(protocol, encodeFrame({ type: WINDOW, call: 1n, body: '{"bytes":7}' })), ["room"]);
  assert.equal(protocol.room(1n), 7);
  protocol.stream(1n, Buffer.alloc(0), true);
  assert.deepEqual(sent(protocol).map((frame) => [frame.type, frame.flags]), [[RESPONSE, MORE], [DATA, MORE], [DATA, MORE], [DATA, 0]]);
});

test("an answer in parts that breaks off", () => {
  const protocol = opened();
  events(protocol, request(1));
  protocol.respondFirst(1n, { status: 200 });
  assert.deepEqual(kinds(protocol, encodeFrame({ type: CANCEL, call: 1n })), ["cancel"]);
  protocol.breakOff(1n, new RpcError(-32800, "cancelled"));
  assert.deepEqual(sent(protocol).map((frame) => [frame.type, frame.flags]), [[RESPONSE, MORE], [RESPONSE, 0]]);
});

test("what is held goes to another channel", () => {
  const [one, other] = [opened(), opened()];
  one.close(true);
  one.push({ type: PUSH, conn: 1n, body: "1" });
  assert.deepEqual(one.dataToSend(), []);
  other.takeOver(one.lost());
  assert.deepEqual(sent(other).map((frame) => frame.body.toString()), ["1"]);
});

test("the time", () => {
  assert.throws(() => new Protocol(0).tick(5000, true), { message: "no HELLO in time" });
  assert.equal(new Protocol(0).tick(4999, false), 1);
  const protocol = opened({ pingAfter: 15_000, deadAfter: 45_000 });
  assert.equal(protocol.tick(14_999, false), 1);
  assert.deepEqual(sent(protocol), []);
  protocol.tick(15_000, false);
  assert.deepEqual(sent(protocol).map((frame) => frame.type), [PING]);
  protocol.tick(59_999, false);
  protocol.tick(60_000, true); // a call in progress may keep us from reading
  assert.throws(() => protocol.tick(60_000, false), { message: "timeout" });
  events(protocol, encodeFrame({ type: 200 }), 60_001); // any frame is a sign of life
  assert.equal(protocol.tick(60_002, false), 14_999);
});
