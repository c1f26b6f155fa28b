// A worker and a front in one process: what handlers get, concurrency, patterns, cancelling, bodies in parts.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";

import { Connection, HttpResponse, RpcError, Worker, encodeFrame, readFrame, serverEvent } from "../lib/index.js";

const HELLO = 1, REQUEST = 2, RESPONSE = 3, CANCEL = 4, GOAWAY = 7, PUSH = 8, DATA = 13, WINDOW = 14;
const NOTIFY = 1, MORE = 2;

const WAIT = 20_000; // ms; how long anything may take before a test fails

/** One channel to a worker. */
class Front {
  calls = 0n;
  input = Buffer.alloc(0);
  ended = false;

  constructor(file) {
    this.socket = net.connect(file);
    this.socket.on("data", (data) => (this.input = Buffer.concat([this.input, data])));
    this.socket.on("end", () => (this.ended = true));
    this.socket.on("error", () => {}); // next() says so
    this.socket.setTimeout(WAIT, () => this.socket.destroy(new Error("nothing comes")));
    this.send({ type: HELLO, body: JSON.stringify({ protocol: [1], instance: "i", features: ["stream"] }) });
  }

  send(frame) {
    this.socket.write(encodeFrame(frame));
  }

  request(method, params, more = {}) {
    this.send({ type: REQUEST, call: ++this.calls, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }), ...more });
    return this.calls;
  }

  /** The next frame, null at the end. */
  async next() {
    for (;;) {
      const frame = readFrame(this.input);
      if (frame !== null) {
        this.input = this.input.subarray(frame.size);
        return frame;
      }
      if (this.ended) return null;
      await Promise.race([once(this.socket, "data"), once(this.socket, "end")]);
    }
  }

  async answer() {
    const frame = await this.next();
    assert.equal(frame.type, RESPONSE);
    return JSON.parse(frame.body);
  }

  async call(...request) {
    this.request(...request);
    return this.answer();
  }
}

/** Has `use` talk to a worker by a Front; then both stop. */
async function serving(worker, use) {
  const folder = mkdtempSync(path.join(tmpdir(), "frontd-node-"));
  const lines = [];
  worker.log = { info: () => {}, warn: (text) => lines.push(text), error: (text) => lines.push(text) };
  const stopped = worker.serve(`unix:${folder}/w.sock`);
  let front;
  try {
    while (worker._listener === null) await new Promise(setImmediate);
    front = new Front(`${folder}/w.sock`);
    const hello = await front.next();
    await use(front, JSON.parse(hello.body), lines, `${folder}/w.sock`);
    worker.stop();
    while ((await front.next()) !== null);
    front.socket.end();
    await stopped;
  } finally {
    front.socket.destroy();
    worker.stop();
    rmSync(folder, { recursive: true });
  }
}

test("patterns: an exact name goes before one, a longer before a shorter", async () => {
  const worker = new Worker();
  for (const name of ["*", "orders.*", "orders.get", "a*b"]) worker.method(name, (params, ctx) => [name, ctx.method]);
  assert.throws(() => worker.method("orders.*", () => 1), RangeError);
  assert.throws(() => worker.method("orders.get", () => 1), RangeError);
  await serving(worker, async (front, hello) => {
    assert.deepEqual(hello.methods, ["*", "a*b", "orders.*", "orders.get"]);
    for (const [method, name] of [["orders.get", "orders.get"], ["orders.gets", "orders.*"], ["Orders.get", "*"], ["a*b", "a*b"], ["axb", "*"]]) {
      assert.deepEqual((await front.call(method)).result, [name, method]);
    }
  });
});

test("256 methods, and one more", () => {
  const worker = new Worker();
  for (let n = 0; n < 256; n++) worker.method(`m${n}`, () => n);
  assert.throws(() => worker.method("m256", () => 1), { message: "over 256 methods" });
});

test("params with names", async () => {
  const worker = new Worker();
  worker.method("named", (params) => params, { params: ["a", "b?"] });
  worker.method("free", (params) => params ?? "none");
  await serving(worker, async (front) => {
    assert.deepEqual((await front.call("named", [1])).result, { a: 1 });
    assert.deepEqual((await front.call("named", [1, null])).result, { a: 1, b: null });
    assert.deepEqual((await front.call("named", { b: 2, a: 1 })).result, { a: 1, b: 2 });
    for (const params of [undefined, [], [1, 2, 3], { b: 1 }, { a: 1, c: 2 }, { a: 1, toString: 1 }]) {
      assert.equal((await front.call("named", params)).error.code, -32602);
    }
    assert.equal((await front.call("free")).result, "none");
    assert.deepEqual((await front.call("free", [1])).result, [1]);
  });
});

test("what handlers throw and return", async () => {
  const worker = new Worker();
  worker.method("throws", () => {
    throw new Error("secret");
  });
  worker.method("rejects", async () => {
    throw new RpcError(7, "no", { why: 1 });
  });
  worker.method("function", () => () => 1);
  worker.method("nothing", () => {});
  await serving(worker, async (front, hello, lines) => {
    assert.deepEqual((await front.call("throws")).error, { code: -32603, message: "internal error" });
    assert.match(lines[0], /secret/);
    assert.deepEqual((await front.call("rejects")).error, { code: 7, message: "no", data: { why: 1 } });
    assert.deepEqual((await front.call("function")).error, { code: -32603, message: "internal error" });
    assert.equal((await front.call("nothing")).result, null);
  });
});

test("what is known about a call", async () => {
  const worker = new Worker();
  let seen;
  worker.method("m", (params, ctx) => void (seen = ctx));
  await serving(worker, async (front) => {
    const meta = JSON.stringify({ peer: "p", headers: { a: "b" }, deadline_ms: 60_000, progress: true });
    await front.call("m", undefined, { conn: 2n ** 63n + 1n, meta, flags: 8 });
    assert.deepEqual([seen.peer, seen.headers, seen.retry, seen.notify, seen.wantsProgress], ["p", { a: "b" }, true, false, true]);
    assert(seen.remaining() <= 60_000 && seen.remaining() > 0);
    assert.deepEqual([seen.conn.id, seen.conn.instance, seen.conn.key], [2n ** 63n + 1n, "i", new Connection(worker, "9223372036854775809", "i").key]);
    await front.call("m");
    assert.deepEqual([seen.peer, seen.headers, seen.conn, seen.remaining()], [undefined, {}, null, undefined]);
  });
});

test("no more than concurrency at once, in the order in which they came", async () => {
  const worker = new Worker({ concurrency: 2 });
  const started = [], ends = [];
  worker.method("m", ([n]) => {
    started.push(n);
    return new Promise((resolve) => ends.push(() => resolve(n)));
  });
  await serving(worker, async (front) => {
    for (let n = 0; n < 5; n++) front.request("m", [n]);
    front.send({ type: CANCEL, call: 4n }); // it waits, and is never started
    assert.equal((await front.answer()).error.code, -32800);
    assert.deepEqual(started, [0, 1]);
    for (const n of [0, 1, 2, 4]) {
      ends.shift()();
      assert.equal((await front.answer()).result, n);
    }
    assert.deepEqual(started, [0, 1, 2, 4]);
  });
});

test("more calls than may wait: reading stops, and goes on", async () => {
  const worker = new Worker({ concurrency: 1 });
  let release, most = 0;
  const gate = new Promise((resolve) => (release = resolve));
  worker.method("m", async ([n]) => {
    await gate;
    most = Math.max(most, worker._waiting.size);
    return n;
  });
  await serving(worker, async (front) => {
    for (let n = 0; n < 3000; n++) front.request("m", [n]);
    while (worker._waiting.size < 1000) await new Promise(setImmediate);
    for (let n = 0; n < 100; n++) await new Promise(setImmediate);
    release();
    for (let n = 0; n < 3000; n++) assert.equal((await front.answer()).result, n);
    assert(most <= 1000);
  });
});

test("cancelling: the signal, and the slot until the handler has ended", async () => {
  const worker = new Worker({ concurrency: 1 });
  let end;
  worker.method("stubborn", async (params, { signal }) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    return new Promise((resolve) => (end = resolve));
  });
  worker.method("quick", () => 1);
  await serving(worker, async (front) => {
    front.request("stubborn");
    front.send({ type: CANCEL, call: front.calls });
    front.request("quick");
    while (end === undefined) await new Promise(setImmediate);
    assert.deepEqual([worker._running, worker._waiting.size], [1, 1]);
    end("late");
    assert.equal((await front.answer()).result, "late");
    assert.equal((await front.answer()).result, 1);
  });
});

test("asking a client: its error, an abort, and the end of the worker", async () => {
  const worker = new Worker();
  const abort = new AbortController();
  worker.method("ask", async (params, { conn }) => {
    try {
      return await conn.ask("q", params, { signal: abort.signal });
    } catch (error) {
      return error.name;
    }
  });
  await serving(worker, async (front) => {
    front.request("ask", [1], { conn: 5n });
    const asked = await front.next(), { id, ...rest } = JSON.parse(asked.body);
    assert.deepEqual([asked.type, asked.conn, rest], [PUSH, 5n, { jsonrpc: "2.0", method: "q", params: [1] }]);
    const response = { jsonrpc: "2.0", id, error: { code: 1, message: "no" } };
    front.request("frontd.response", { conn: "5", response }, { flags: NOTIFY, conn: 5n });
    assert.equal((await front.answer()).result, "RpcError");
    front.request("ask", [2], { conn: 5n });
    await front.next();
    abort.abort();
    assert.equal((await front.answer()).result, "AbortError");
    assert.equal(worker._asked.size, 0);
  });
});

test("an answer in parts keeps to its window, and its generator ends when it is cancelled", async () => {
  const worker = new Worker();
  let ended = 0;
  worker.http(() => new HttpResponse((function* () {
    try {
      for (;;) yield "x".repeat(100_000);
    } finally {
      ended++;
    }
  })()));
  await serving(worker, async (front) => {
    const call = front.request("http.request", {});
    const first = await front.next();
    assert.deepEqual([first.type, first.flags, JSON.parse(first.body).result], [RESPONSE, MORE, { status: 200, headers: [] }]);
    let bytes = 0;
    while (bytes < 262_144) {
      const part = await front.next();
      assert.deepEqual([part.type, part.flags], [DATA, MORE]);
      bytes += part.blob.length;
    }
    assert.equal(bytes, 262_144);
    front.send({ type: WINDOW, call, body: '{"bytes":1}' });
    assert.equal((await front.next()).blob.length, 1);
    front.send({ type: CANCEL, call });
    assert.deepEqual((await front.answer()).error.code, -32800);
    assert.equal(ended, 1);
  });
});

test("a body in parts, held up until they are asked for, and one that is cancelled", async () => {
  const worker = new Worker();
  const sizes = [];
  let go, failed;
  const gate = new Promise((resolve) => (go = resolve));
  worker.http(async (request) => {
    await gate;
    try {
      for await (const part of request.parts) sizes.push(part.length);
    } catch (error) {
      failed = error.code;
      throw error;
    }
    return `${sizes}`;
  }, { parts: true });
  await serving(worker, async (front) => {
    const call = front.request("http.request", {}, { flags: MORE, blob: Buffer.from("first") });
    front.send({ type: DATA, flags: MORE, call, blob: Buffer.alloc(65_536) });
    front.send({ type: 5 });
    assert.equal((await front.next()).type, 6); // no WINDOW before it
    go();
    const window = await front.next();
    assert.deepEqual([window.type, window.call, window.body.toString()], [WINDOW, call, '{"bytes":65536}']);
    front.send({ type: DATA, call, blob: Buffer.from("last") });
    assert.equal((await front.next()).blob.toString(), "5,65536,4");
    const other = front.request("http.request", {}, { flags: MORE });
    front.send({ type: CANCEL, call: other });
    assert.equal((await front.answer()).error.code, -32800);
    assert.equal(failed, -32800);
  });
});

test("http responses", () => {
  const { headers, status } = new HttpResponse("", 204, { "Set-Cookie": "a", "x-n": 1 });
  assert.deepEqual([headers, status], [[["set-cookie", "a"], ["x-n", "1"]], 204]);
  assert.deepEqual(new HttpResponse("", 200, [["a", "1"], ["a", "2"]]).headers, [["a", "1"], ["a", "2"]]);
  assert.deepEqual(new HttpResponse("", 200, new Map([["a", "1"]])).headers, [["a", "1"]]);
  for (const status of [199, 600, 200.5, "200", NaN]) assert.throws(() => new HttpResponse("", status), RangeError);
  for (const bad of ["a\rb", "a\nb", "a\0b"]) {
    assert.throws(() => new HttpResponse("", 200, { h: bad }), RangeError);
    assert.throws(() => new HttpResponse("", 200, { [bad]: "v" }), RangeError);
  }
  for (const body of [1, null, {}, [1], true]) assert.throws(() => new HttpResponse(body), TypeError);
  assert.equal(new HttpResponse("", 599).status, 599);
});

test("server-sent events", () => {
  assert.equal(serverEvent("a\r\nb\rc\nd", "e", "7"), "id: 7\nevent: e\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
  assert.equal(serverEvent(""), "data: \n\n");
  for (const bad of ["a\rb", "a\nb", "a\0b"]) {
    assert.throws(() => serverEvent("", bad), RangeError);
    assert.throws(() => serverEvent("", undefined, bad), RangeError);
  }
});

test("workers that are none", () => {
  for (const options of [{ concurrency: -1 }, { concurrency: 1.5 }, { maxFrame: -1 }, { maxFrame: "1" }]) {
    assert.throws(() => new Worker(options), RangeError);
  }
  assert.throws(() => new Worker().method("m"), TypeError);
  assert.throws(() => new Worker().method("", () => 1), TypeError);
  assert.throws(() => new RpcError("1", "m"), TypeError);
});

test("stopping: what is in progress is finished, and the socket's file goes", async () => {
  const worker = new Worker();
  let end;
  worker.method("slow", () => new Promise((resolve) => (end = resolve)));
  await serving(worker, async (front) => {
    front.request("slow");
    while (end === undefined) await new Promise(setImmediate);
    worker.stop();
    const goaway = await front.next();
    assert.deepEqual([goaway.type, JSON.parse(goaway.body)], [GOAWAY, { reason: "shutdown", last_call: 1 }]);
    front.request("slow"); // has crossed it
    end(1);
    assert.equal((await front.answer()).result, 1);
    assert.equal(await front.next(), null);
  });
});

test("events: raw messages, what was kept, Responses to what others have asked", async () => {
  const worker = new Worker(), seen = [];
  worker.event("message", (ctx) => seen.push(ctx.message()));
  worker.event("rebound", (ctx) => seen.push([ctx.conn.id, ctx.state.toString(), ctx.params.peer]));
  worker.event("response", (ctx) => seen.push(ctx.params.response.id));
  worker.method("done", () => {});
  await serving(worker, async (front, hello) => {
    front.request("frontd.message", undefined, { flags: NOTIFY, conn: 5n, blob: Buffer.from("\u00fc") });
    front.request("frontd.message", undefined, { flags: NOTIFY | 4, conn: 5n, blob: Buffer.from([0, 255]) });
    front.request("frontd.rebound", { conn: "5", peer: "p" }, { flags: NOTIFY, conn: 5n, blob: Buffer.from("kept") });
    for (const response of [{ id: "other" }, { id: `${hello.responses}.late` }, { id: 7 }, null, 1]) {
      front.request("frontd.response", { conn: "5", response }, { flags: NOTIFY, conn: 5n });
    }
    await front.call("done");
    assert.deepEqual(seen.slice(0, 5), ["\u00fc", Buffer.from([0, 255]), [5n, "kept", "p"], "other", 7]);
  });
});

test("messages and topics that are none", async () => {
  const worker = new Worker();
  const bad = { message: [undefined, () => 1, new ArrayBuffer(1), new Uint16Array(1)], topic: ["", "x".repeat(256), 7, null] };
  const good = [{}, [], null, 0, false, "", new Uint8Array(1)];
  worker.method("m", (params, { conn }) => {
    for (const message of bad.message) assert.throws(() => conn.push(message), TypeError);
    for (const topic of bad.topic) assert.throws(() => worker.publish(topic, ""), RangeError);
    for (const message of good) conn.push(message);
    assert.throws(() => conn.keep("text"), TypeError);
  });
  await serving(worker, async (front) => {
    front.request("m", undefined, { conn: 1n });
    for (const text of ["{}", "[]", "null", "0", "false"]) assert.equal((await front.next()).body.toString(), text);
    for (const size of [0, 1]) assert.equal((await front.next()).blob.length, size);
    assert.equal((await front.answer()).result, null);
  });
});

test("a stream as an answer is destroyed when nobody waits for it, begun or not", async () => {
  const worker = new Worker(), streams = [];
  let begin;
  const gate = new Promise((resolve) => (begin = resolve));
  worker.http(async (request) => {
    if (request.path === "/late") await gate;
    streams.push(new Readable({ read() {} })); // which never has anything
    return new HttpResponse(streams.at(-1));
  });
  await serving(worker, async (front) => {
    const call = front.request("http.request", { path: "/" });
    assert.equal((await front.next()).flags, MORE);
    front.send({ type: CANCEL, call });
    assert.equal((await front.answer()).error.code, -32800);
    front.send({ type: CANCEL, call: front.request("http.request", { path: "/late" }) });
    front.send({ type: 5 });
    assert.equal((await front.next()).type, 6);
    begin();
    assert.equal((await front.answer()).error.code, -32800);
    assert.deepEqual(streams.map((stream) => stream.destroyed), [true, true]);
  });
});

test("a stream as an answer: all of it", async () => {
  const worker = new Worker();
  worker.http(() => new HttpResponse(Readable.from(["a", Buffer.from("b"), "c"])));
  await serving(worker, async (front) => {
    front.request("http.request", {});
    const parts = [];
    for (let flags = MORE; flags === MORE; flags = parts.at(-1).flags) parts.push(await front.next());
    assert.equal(Buffer.concat(parts.map((part) => part.blob)).toString(), "abc");
  });
});

test("an answer in parts that fails, and parts that are none", async () => {
  const worker = new Worker();
  worker.http(({ path }) => new HttpResponse((function* () {
    yield "begun";
    if (path === "/fails") throw new Error("as asked");
    yield 7;
  })()));
  await serving(worker, async (front, hello, lines) => {
    for (const path of ["/fails", "/none"]) {
      front.request("http.request", { path });
      const frames = [await front.next(), await front.next()];
      assert.deepEqual(frames.map((frame) => frame.type), [RESPONSE, DATA]);
      assert.equal((await front.answer()).error.code, -32603);
    }
    assert.match(lines.join("\n"), /as asked[^]*a part of a body/);
  });
});

test("a silent front is sent PING, and is given up", async () => {
  const worker = new Worker({ pingAfter: 20, deadAfter: 40 });
  await serving(worker, async (front) => {
    assert.equal((await front.next()).type, 5);
    const goaway = await front.next();
    assert.deepEqual([goaway.type, JSON.parse(goaway.body).reason], [GOAWAY, "timeout"]);
    assert.equal(await front.next(), null);
  });
});

test("what a front does wrongly costs its channel", async () => {
  const worker = new Worker();
  worker.method("m", () => 1);
  await serving(worker, async (front, hello, lines, file) => {
    const other = new Front(file);
    await other.next();
    other.send({ type: 15 });
    assert.equal((await other.next()).type, GOAWAY);
    assert.equal(await other.next(), null);
    other.socket.end();
    assert.equal((await front.call("m")).result, 1);
    assert.match(lines[0], /unknown frame type 15/);
  });
});
