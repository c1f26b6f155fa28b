// A worker to try things with, and to test: node demo-worker.js --listen unix:/tmp/demo.sock
//
// The methods of proto/python/demo_worker.py: demo.echo, demo.add, demo.sleep and demo.error; demo.ask, which asks its
// client; a chat in rooms with demo.join, demo.say and demo.leave; raw messages come back as they are. On http routes
// docs/chat.html at /, or where that is not there a line of text, and, at /echo and below, the request's own body back.

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import {
  ConnectionError, HttpResponse, INTERNAL_ERROR, INVALID_PARAMS, RpcError, TimeoutError, Worker, run,
} from "./lib/index.js";

const PAGE = new URL("../../docs/chat.html", import.meta.url);

const worker = new Worker({ name: "demo", concurrency: 64 });

function invalid(text) {
  return new RpcError(INVALID_PARAMS, text);
}

worker.method("demo.echo", (params) => params);

worker.method("demo.add", ({ a, b }) => {
  if (typeof a !== "number" || typeof b !== "number") throw invalid("a and b are numbers");
  return a + b;
}, { params: ["a", "b"] });

worker.method("demo.sleep", async ({ ms }, ctx) => {
  if (typeof ms !== "number" || ms < 0) throw invalid("ms is a number from 0");
  return sleep(ms, true, { signal: ctx.signal });
}, { params: ["ms"] });

worker.method("demo.error", ({ code, message }) => {
  if (!Number.isSafeInteger(code) || typeof message !== "string") {
    throw invalid("code is an integer, message a string");
  }
  throw new RpcError(code, message);
}, { params: ["code", "message"] });

/** A string of 1 to `most` bytes of UTF-8 without control characters, else -32602. */
function check(what, value, most) {
  const size = typeof value === "string" ? Buffer.byteLength(value) : 0;
  if (size < 1 || size > most || /[\0-\x1f]/.test(value)) {
    throw invalid(`${what} is a string of 1 to ${most} bytes`);
  }
}

/** Publish what was said, after what was sent about the connection before. */
function chat(room, name, text, conn) {
  worker.publish(`room:${room}`, { jsonrpc: "2.0", method: "chat", params: { room, name, text } }, conn);
  return true;
}

function checkMember(room, name, conn) {
  if (conn === null) throw invalid("only a connection that stays (WebSocket) can be in a room");
  check("room", room, 200);
  check("name", name, 100);
}

worker.method("demo.join", ({ room, name }, { conn }) => {
  checkMember(room, name, conn);
  conn.subscribe(`room:${room}`);
  return chat(room, name, `${name} joined`, conn);
}, { params: ["room", "name"] });

worker.method("demo.say", ({ room, name, text }, { conn }) => {
  check("room", room, 200);
  check("name", name, 100);
  check("text", text, 4000);
  return chat(room, name, text, conn);
}, { params: ["room", "name", "text"] });

worker.method("demo.leave", ({ room, name }, { conn }) => {
  checkMember(room, name, conn);
  conn.unsubscribe(`room:${room}`);
  return chat(room, name, `${name} left`, conn);
}, { params: ["room", "name"] });

worker.method("demo.ask", async ({ method, params, ms = 10_000 }, { conn, signal }) => {
  if (conn === null || typeof method !== "string" || !Number.isSafeInteger(ms) || ms < 0) {
    throw invalid("method is a string, params an object or array, ms a number");
  }
  try {
    return await conn.ask(method, params ?? undefined, { timeout: ms, signal });
  } catch (error) {
    if (error instanceof TimeoutError || error instanceof ConnectionError) {
      throw new RpcError(INTERNAL_ERROR, "no answer");
    }
    throw error;
  }
}, { params: ["method", "params?", "ms?"] });

worker.event("message", (ctx) => ctx.conn.push(ctx.message()));

worker.http(async (request) => {
  if (request.path === "/") {
    if (!["GET", "HEAD"].includes(request.method)) {
      return new HttpResponse("method not allowed\n", 405, { "content-type": "text/plain" });
    }
    const page = await readFile(PAGE).catch(() => "<!doctype html><title>demo</title><p>It works.\n");
    return new HttpResponse(page, 200, { "content-type": "text/html; charset=utf-8" });
  }
  if (request.path === "/echo" || request.path.startsWith("/echo/")) {
    const kind = request.header("content-type", "application/octet-stream");
    return new HttpResponse(request.body, 200, { "content-type": kind });
  }
  return new HttpResponse("not found\n", 404, { "content-type": "text/plain" });
});

run(worker, "unix:/tmp/demo.sock");
