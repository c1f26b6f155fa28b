// Answers and bodies in parts, as lib/streamworker.py has them in Python: stream_worker.mjs LIBRARY
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { HttpResponse, Worker, run, serverEvent } = await import(`${process.argv[2]}/lib/index.js`);

const worker = new Worker({ name: "streams", concurrency: 32 });
const begun = [], ended = [];

async function upload({ path, parts, signal }) {
  const digest = createHash("sha256");
  let n = 0, count = 0;
  begun.push("upload");
  try {
    for await (const part of parts) {
      digest.update(part);
      n += part.length;
      count++;
      if (path === "/upload/slow") await sleep(50);
      if (path === "/upload/die" && n > 100_000) process.exit(1);
      while (path === "/upload/stop") await sleep(1000, null, { signal });
    }
  } catch (error) {
    ended.push("upload");
    throw error;
  }
  return `${n} ${digest.digest("hex")} ${count}`;
}

function* times(n, part) {
  for (let i = 0; i < n; i++) yield part(i);
}

function* fails() {
  yield "begun";
  throw new Error("as asked");
}

async function* dies() {
  yield "begun";
  await sleep(20); // by then it has been written
  process.exit(1);
}

async function* hangs(signal) {
  yield "begun";
  await sleep(60_000, null, { signal });
}

async function* events(signal) {
  try {
    for (let n = 0; ; n++) {
      yield serverEvent(String(n));
      await sleep(20, null, { signal });
    }
  } finally {
    ended.push("events");
  }
}

const ANSWERS = {
  parts: (n) => new HttpResponse(times(n, (i) => `${i},`), 200, { "x-kind": "parts" }),
  bytes: (n) => new HttpResponse(times(n, (i) => Buffer.alloc(65536, i % 251)), 200, { "content-length": 65536 * n }),
  cut: () => new HttpResponse(fails(), 200, [["content-type", "text/plain"]]),
  short: (n) => new HttpResponse(["x".repeat(10)].values(), 200, { "content-length": n }),
  fails: () => new HttpResponse(fails()),
  events: (n, signal) => new HttpResponse(events(signal), 200, new Map([["content-type", "text/event-stream"]])),
  ended: () => ended.join(),
  begun: () => begun.join(),
  die: () => new HttpResponse(dies()),
  hang: (n, signal) => new HttpResponse(hangs(signal)),
};

worker.http((request) => {
  if (request.path.startsWith("/upload")) return upload(request);
  if (request.path === "/echo") return new HttpResponse(request.parts);
  if (request.path === "/early") return new HttpResponse("enough", 403);
  const [what, n] = request.path.slice(1).split("/");
  return ANSWERS[what]?.(Number(n ?? 0), request.signal) ?? "whole";
}, { parts: true });

run(worker, "unix:/nowhere", []);
