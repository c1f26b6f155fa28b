// What handlers are given and return, how they are called with it, and a call from its REQUEST to its RESPONSE.

import { Connection, messageParts } from "./connection.js";
import { BINARY, CANCELLED, INTERNAL_ERROR, INVALID_PARAMS, MORE, NOTIFY, PUSH, RETRY, RpcError, isObject } from "./frames.js";

const EMPTY = Buffer.alloc(0);

/** What is known about a call besides its params; index.d.ts describes it. */
export class Context {
  #channel;
  #came = performance.now();
  #abort = null;

  constructor(request, channel) {
    const { method, params, body, blob, call, meta, flags } = request;
    Object.assign(this, { method, params, body, blob, call, meta });
    this.front = channel.protocol.front;
    this.conn = request.conn ? new Connection(channel.worker, request.conn, channel.protocol.instance, channel) : null;
    this.notify = (flags & NOTIFY) !== 0;
    this.binary = (flags & BINARY) !== 0;
    this.retry = (flags & RETRY) !== 0;
    this.state = method === "frontd.rebound" ? blob : EMPTY;
    this.cancelled = false;
    this.#channel = channel;
  }

  get peer() {
    return this.meta.peer;
  }

  get headers() {
    return this.meta.headers ?? {};
  }

  get wantsProgress() {
    return this.meta.progress === true;
  }

  /** Made when it is first asked for: most handlers do without. */
  get signal() {
    if (this.#abort === null) {
      this.#abort = new AbortController();
      if (this.cancelled) this.#abort.abort();
    }
    return this.#abort.signal;
  }

  message() {
    return this.binary ? this.blob : this.blob.toString();
  }

  progress(message) {
    if (this.wantsProgress) this.#channel.push({ type: PUSH, call: this.call, ...messageParts(message) });
  }

  remaining() {
    const left = this.meta.deadline_ms;
    return left === undefined ? undefined : left - (performance.now() - this.#came);
  }

  _cancel() {
    this.cancelled = true;
    this.#abort?.abort();
  }
}

/** The body of an HttpRequest as it comes: an asynchronous iterator of Buffers. While no part is asked for, the client
 * is held up. Throws RpcError -32800 where the client has gone. */
export class Parts {
  #channel;
  #call;
  #first; // what came with the REQUEST takes nothing of the window
  #ready = [];
  #whole;
  #cancelled = false;
  #wake = null;

  constructor(channel, call, first, whole) {
    this.#channel = channel;
    this.#call = call;
    this.#first = first;
    this.#whole = whole;
  }

  /** More has come. last: that is all. */
  add(blob, last) {
    if (blob.length > 0) this.#ready.push(blob);
    this.#whole = last;
    this.#wake?.();
  }

  /** Nothing more comes. */
  cancel() {
    this.#cancelled = true;
    this.#wake?.();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    if (this.#first.length > 0) {
      const value = this.#first;
      this.#first = EMPTY;
      return { value, done: false };
    }
    while (this.#ready.length === 0) {
      if (this.#cancelled) throw new RpcError(CANCELLED, "cancelled");
      if (this.#whole) return { value: undefined, done: true };
      await new Promise((resolve) => (this.#wake = resolve));
    }
    const value = this.#ready.shift();
    this.#channel.took(this.#call, value.length);
    return { value, done: false };
  }
}

/** A request on a route of kind `http` (section 8), the argument of an http handler. */
export class HttpRequest {
  constructor(ctx, parts) {
    const params = isObject(ctx.params) ? ctx.params : {};
    for (const name of ["method", "scheme", "authority", "path", "query"]) this[name] = params[name] ?? "";
    this.headers = params.headers ?? [];
    this.body = ctx.blob;
    this.ctx = ctx;
    this.parts = parts;
  }

  get signal() {
    return this.ctx.signal;
  }

  header(name, otherwise) {
    const wanted = name.toLowerCase();
    const found = this.headers.find(([key]) => key === wanted);
    return found === undefined ? otherwise : found[1];
  }
}

/** What an http handler returns (section 8). */
export class HttpResponse {
  #source;

  constructor(body = "", status = 200, headers = []) {
    const pairs = typeof headers[Symbol.iterator] === "function" ? headers : Object.entries(headers);
    this.headers = Array.from(pairs, ([name, value]) => [String(name).toLowerCase(), String(value)]);
    if (this.headers.some(([name, value]) => /[\r\n\0]/.test(name + value))) {
      throw new RangeError("line break in a header");
    }
    if (!Number.isInteger(status) || status < 200 || status > 599) throw new RangeError(`bad status ${status}`);
    this.status = status;
    this.parts = null;
    this.body = EMPTY;
    if (typeof body === "string") this.body = Buffer.from(body);
    else if (body instanceof Uint8Array) this.body = body;
    else this.parts = iteratorOf(body);
    this.#source = this.parts && body;
  }

  /** The rest is not wanted. An iterator of which nothing was asked for does not end what it is of, and one that waits does
   * not end before it has something: a stream of node's is ended by itself, or its file stays open. */
  _discard() {
    this.#source?.destroy?.();
  }
}

function iteratorOf(body) {
  const iterator = body?.[Symbol.asyncIterator]?.() ?? (typeof body?.next === "function" ? body : undefined);
  if (typeof iterator?.next !== "function") {
    throw new TypeError("a body is a string, bytes, or an iterator of these");
  }
  return iterator;
}

/** One event of a text/event-stream (Server-Sent Events), as a string. */
export function serverEvent(data, event, id) {
  if (/[\r\n\0]/.test((event ?? "") + (id ?? ""))) throw new RangeError("line break in an event's type or id");
  const lines = [["id", id], ["event", event]].filter(([, value]) => value !== undefined);
  lines.push(...data.split(/\r\n|\r|\n/).map((line) => ["data", line]));
  return lines.map(([name, value]) => `${name}: ${value}\n`).join("") + "\n";
}

/** A registered function and how it is called: handler(params, ctx), or with what `make` returns.
 * names: of the params, where they are checked; one that ends in "?" may be missing. */
export class Handler {
  constructor(handler, { names = null, make = null, http = false } = {}) {
    if (typeof handler !== "function") throw new TypeError("a handler is a function");
    this.handler = handler;
    this.make = make;
    this.http = http;
    this.names = names && names.map((name) => name.replace(/\?$/, ""));
    this.required = names && names.filter((name) => !name.endsWith("?"));
  }

  /** The arguments for a call; throws RpcError -32602 when its params do not fit. */
  bind(ctx, parts) {
    if (this.make !== null) return [this.make(ctx, parts)];
    return [this.names === null ? ctx.params : this.#named(ctx.params ?? {}), ctx];
  }

  #named(params) {
    const { names } = this;
    if (Array.isArray(params) && params.length > names.length) throw invalid(`at most ${names.length} are taken`);
    const object = Array.isArray(params) ? Object.fromEntries(params.map((value, i) => [names[i], value])) : params;
    for (const name of Object.keys(object)) {
      // The text quotes a name that the client chose, of any length.
      if (!names.includes(name)) throw invalid(`${name.slice(0, 100)} is none of them`);
    }
    for (const name of this.required) {
      if (!Object.hasOwn(object, name)) throw invalid(`${name} is missing`);
    }
    return object;
  }
}

function invalid(text) {
  return new RpcError(INVALID_PARAMS, `invalid params: ${text}`);
}

/** A REQUEST from its frame to its RESPONSE. */
export class Call {
  constructor(channel, request, ctx, handler) {
    this.channel = channel;
    this.ctx = ctx;
    this.handler = handler;
    const streamed = handler.http && channel.protocol.parts;
    this.parts = streamed ? new Parts(channel, request.call, request.blob, (request.flags & MORE) === 0) : null;
    this.arguments = handler.bind(ctx, this.parts);
    this.started = false;
    this.error = undefined; // what the handler has thrown, wrapped
    this.result = undefined; // what it has returned
    this.response = null; // of an http handler: the HttpResponse
    this.streaming = false; // its answer comes in parts, and has begun
    this.moreRoom = null; // wakes a streamed answer that waits for the front
  }

  /** The result is not waited for any more. What runs cannot be stopped: it is told so. */
  cancel() {
    this.ctx._cancel();
    this.parts?.cancel();
    this.response?._discard();
    this.moreRoom?.();
  }

  /** After the handler has ended, or the call was cancelled unstarted: the RpcError that it ended with, or null. */
  failure(log) {
    if (!this.started) return new RpcError(CANCELLED, "cancelled");
    if (this.error === undefined) return null;
    const { thrown } = this.error;
    if (thrown instanceof RpcError) return thrown;
    if (this.ctx.cancelled) return new RpcError(CANCELLED, "cancelled");
    log.error(`${this.ctx.method} failed: ${thrown?.stack ?? thrown}`);
    return new RpcError(INTERNAL_ERROR, "internal error");
  }
}
