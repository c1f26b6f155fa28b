// Node's https and http2, and npm's `ws`, against frontd with TLS: node tls.js PORT CAFILE. Each opens a connection
// and asks; after a line on stdin each asks again, on the same connection. Ends with 1 at the first thing that is wrong.
"use strict";
const assert = require("assert");
const fs = require("fs");
const http2 = require("http2");
const https = require("https");
const readline = require("readline");
const WebSocket = require("ws");

const [port, caFile] = process.argv.slice(2);
const tls = { ca: fs.readFileSync(caFile), servername: "a.test" };
const BODY = Buffer.alloc(300000, "abc");

function fail(what) {
  console.log(what);
  process.exit(1);
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

// Each of these returns a function that asks once.

function overHttps(maxVersion) {
  const agent = new https.Agent({ ...tls, keepAlive: true, maxSockets: 1, maxVersion });
  let first = true;
  return async () => {
    const request = https.request({ port, host: "127.0.0.1", path: "/echo", method: "POST", agent });
    request.end(BODY);
    const response = await new Promise((give, refuse) => request.on("response", give).on("error", refuse));
    assert.strictEqual(response.socket.getProtocol(), maxVersion);
    assert.ok(BODY.equals(await collect(response)));
    assert.strictEqual(request.reusedSocket, !first);
    first = false;
    await new Promise(setImmediate); // only then the agent has its socket back
  };
}

function overHttp2() {
  const session = http2.connect(`https://127.0.0.1:${port}`, tls);
  for (const event of ["goaway", "close", "error"]) session.on(event, () => fail("http2: " + event));
  return async () => {
    await Promise.all(Array.from({ length: 20 }, async (_, n) => {
      const body = BODY.subarray(n * 1000);
      const stream = session.request({ ":path": "/echo", ":method": "POST" });
      stream.end(body);
      assert.ok(body.equals(await collect(stream)));
    }));
    assert.strictEqual(session.alpnProtocol, "h2");
  };
}

function overWebSocket() {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/ws`, tls);
  const open = new Promise((give) => socket.on("open", give));
  for (const event of ["close", "error"]) socket.on(event, () => fail("ws: " + event));
  return async () => {
    await open;
    const answer = new Promise((give) => socket.once("message", (data) => give(JSON.parse(data))));
    const params = ["x".repeat(70000)];
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "demo.echo", params }));
    assert.deepStrictEqual((await answer).result, params);
  };
}

(async () => {
  const clients = [overHttps("TLSv1.3"), overHttps("TLSv1.2"), overHttp2(), overWebSocket()];
  const ask = async () => {
    for (const client of clients) for (let n = 0; n < 3; n++) await client();
  };
  await ask();
  console.log("ready");
  await new Promise((give) => readline.createInterface(process.stdin).once("line", give));
  await ask();
  console.log("all done");
  process.exit(0);
})().catch((error) => fail(error.stack));
