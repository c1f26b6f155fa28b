// npm's `ws` against frontd: node client.js ws://HOST:PORT. Does what is below in turn, and prints the
// names of what it has done, one a line; ends with 1 and what is wrong at the first thing that is.
"use strict";
const assert = require("assert");
const WebSocket = require("ws");

const base = process.argv[2];

function open(path, protocols, options) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(base + path, protocols, options);
    const waiting = [];
    const came = [];
    socket.next = () => new Promise((give) => (came.length ? give(came.shift()) : waiting.push(give)));
    socket.on("message", (data, binary) => {
      const message = binary ? data : data.toString();
      if (waiting.length) waiting.shift()(message);
      else came.push(message);
    });
    socket.ended = new Promise((give) => socket.on("close", (code, reason) => give([code, reason.toString()])));
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_, response) => reject(new Error("status " + response.statusCode)));
    socket.on("error", reject);
  });
}

const call = (id, method, params) => JSON.stringify({ jsonrpc: "2.0", id, method, params });

// Answers five pings, by itself, one each 100 ms. Who says nothing for 300 ms is lost: false where we were held up.
async function pinged() {
  let said = Date.now();
  const socket = await open("/pinged");
  const ended = socket.ended.then(() => null);
  const lost = () => {
    assert.ok(Date.now() - said >= 295, "lost too early");
    return false;
  };
  for (let n = 0; n < 5; n++) {
    const ping = new Promise((give) => socket.once("ping", give));
    if ((await Promise.race([ended, ping])) === null) return lost();
    said = Date.now();
  }
  socket.send(call(1, "demo.echo", [1]));
  const answer = await Promise.race([ended, socket.next()]);
  if (answer === null) return lost();
  assert.strictEqual(JSON.parse(answer).id, 1);
  socket.close();
  await ended;
  return true;
}

const steps = {
  async calls() {
    const socket = await open("/ws");
    for (let n = 0; n < 50; n++) socket.send(call(n, "demo.echo", [n, "\u20ac"]));
    const seen = new Set();
    for (let n = 0; n < 50; n++) {
      const answer = JSON.parse(await socket.next());
      assert.deepStrictEqual(answer.result, [answer.id, "\u20ac"]);
      seen.add(answer.id);
    }
    assert.strictEqual(seen.size, 50);
    socket.send("[" + [call(1, "demo.echo"), call(2, "demo.echo")].join() + "]");
    assert.strictEqual(JSON.parse(await socket.next()).length, 2);
    socket.close(1000, "done");
    assert.deepStrictEqual((await socket.ended)[0], 1000);
  },

  async compression() {
    const socket = await open("/raw", [], { perMessageDeflate: true });
    assert.strictEqual(socket.extensions, "");
    socket.send("x".repeat(5000));
    assert.strictEqual(await socket.next(), "x".repeat(5000));
    socket.close();
    await socket.ended;
  },

  async messages() {
    const socket = await open("/raw");
    for (const size of [0, 1, 125, 126, 65535, 65536, 300000]) {
      const data = Buffer.alloc(size, size & 255);
      socket.send(data);
      const back = await socket.next();
      assert.ok(Buffer.isBuffer(back) && back.equals(data), "binary of " + size);
      socket.send("t".repeat(size));
      assert.strictEqual(await socket.next(), "t".repeat(size));
    }
    socket.send("one ", { fin: false });
    socket.ping("within");
    socket.send("two ", { fin: false });
    socket.send("three", { fin: true });
    assert.strictEqual(await socket.next(), "one two three");
    socket.close(4000, "\u20ac");
    assert.strictEqual((await socket.ended)[0], 4000);
  },

  async pings() {
    const socket = await open("/raw");
    const pong = new Promise((give) => socket.on("pong", (data) => give(data.toString())));
    socket.ping("hello");
    assert.strictEqual(await pong, "hello");
    socket.close();
    await socket.ended;
    for (let left = 4; !(await pinged()); left--) assert.ok(left > 0, "held up again and again");
  },

  async protocols() {
    const socket = await open("/named", ["other", "chat"], { origin: "http://good.test" });
    assert.strictEqual(socket.protocol, "chat");
    socket.close();
    await socket.ended;
    await assert.rejects(open("/named", ["chat"], { origin: "http://evil.test" }), /status 403/);
    await assert.rejects(open("/nowhere"), /status 404/);
  },

  async refused() {
    const binary = await open("/ws");
    binary.send(Buffer.from("{}"));
    assert.strictEqual((await binary.ended)[0], 1003);
    const large = await open("/ws");
    large.send("x".repeat(600000));
    assert.strictEqual((await large.ended)[0], 1009);
  },

  async topics() {
    const sockets = await Promise.all(Array.from({ length: 20 }, () => open("/ws")));
    for (const socket of sockets) {
      socket.send(call(1, "join", ["t"]));
      assert.strictEqual(JSON.parse(await socket.next()).id, 1);
    }
    for (let n = 0; n < 20; n++) sockets[0].send(call(undefined, "say", ["t", n]));
    for (const socket of sockets) {
      for (let n = 0; n < 20; n++) assert.deepStrictEqual(JSON.parse(await socket.next()), n);
      socket.terminate();
      await socket.ended;
    }
  },

  async compressed() {
    const options = { perMessageDeflate: { threshold: 0, clientMaxWindowBits: true } };
    const socket = await open("/packed", [], options);
    assert.match(socket.extensions, /^permessage-deflate/);
    for (const size of [0, 1, 200, 70000]) {
      const text = "\u20ac".repeat(size);
      socket.send(call(1, "demo.echo", [text]));
      assert.deepStrictEqual(JSON.parse(await socket.next()).result, [text]);
    }
    socket.close();
    await socket.ended;
    const small = await open("/packed", [], { perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9 } });
    small.send(call(1, "demo.echo", ["ab".repeat(2000)]));
    assert.deepStrictEqual(JSON.parse(await small.next()).result, ["ab".repeat(2000)]);
    small.close();
    await small.ended;
  },

  async kicked() {
    const socket = await open("/ws");
    socket.send(call(undefined, "leave"));
    assert.deepStrictEqual(await socket.ended, [4001, "as asked"]);
  },
};

(async () => {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
    } catch (error) {
      console.log(`${name}: ${error.stack}`);
      process.exit(1);
    }
    console.log(name);
  }
  console.log("all done");
  process.exit(0);
})();
