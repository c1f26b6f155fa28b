// A worker: its handlers, the calls in progress over all its channels, and how it starts and stops.

import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";

import { Channel } from "./channel.js";
import { messageParts, topicMeta } from "./connection.js";
import { BufferError, ConnectionError, MAX_FRAME, PUBLISH, RpcError, TimeoutError, isObject } from "./frames.js";
import { Handler, HttpRequest } from "./handlers.js";
import { openListener } from "./listen.js";
import { DEAD_AFTER, PING_AFTER } from "./protocol.js";

const WAITING_MAX = 1000; // calls beyond `concurrency` before reading pauses
const METHODS_MAX = 256; // names in a HELLO (section 4)
const ASK_TIMEOUT = 30_000; // ms
const LINGER = 2_000; // ms for a front to close after we have said our last

const stderr = {
  info: (text) => console.error(`INFO frontd_worker: ${text}`),
  warn: (text) => console.error(`WARNING frontd_worker: ${text}`),
  error: (text) => console.error(`ERROR frontd_worker: ${text}`),
};

/** index.d.ts describes it and its methods. */
export class Worker {
  constructor({ name, concurrency = 64, maxFrame = MAX_FRAME, pingAfter = PING_AFTER, deadAfter = DEAD_AFTER,
    log = stderr } = {}) {
    if (![concurrency, maxFrame].every((number) => Number.isSafeInteger(number) && number >= 0)) {
      throw new RangeError("concurrency and maxFrame are whole numbers from 0");
    }
    Object.assign(this, { name, concurrency, maxFrame, pingAfter, deadAfter, log });
    this.parts = false; // the http handler reads long bodies as they come
    this._handlers = new Map(); // by exact name
    this._patterns = []; // [start of a name, Handler], the longest first
    this._channels = new Set(); // the oldest first
    this._usual = new Map(); // by instance, see _channelTo()
    this._waiting = new Set(); // `concurrency` has no room for these calls yet
    this._running = 0; // handlers in progress, notifications' included
    this._starting = false; // _startWaiting() is at work
    this._asked = new Map(); // by connection and id
    this._token = randomBytes(8).toString("hex"); // the ids of what we ask begin with it
    this._linger = LINGER;
    this._stopping = false;
    this._listener = null;
    this._stopped = new Promise((resolve) => (this._resolveStopped = resolve));
  }

  method(name, handler, { params = null } = {}) {
    return this._add(name, new Handler(handler, { names: params }));
  }

  http(handler, { parts = false } = {}) {
    const make = (ctx, body) => new HttpRequest(ctx, body);
    this._add("http.request", new Handler(handler, { make, http: true }));
    this.parts = parts;
    return this;
  }

  event(name, handler) {
    return this._add(`frontd.${name}`, new Handler(handler, { make: (ctx) => ctx }));
  }

  publish(topic, message, after = null) {
    const frame = { type: PUBLISH, meta: topicMeta(topic), ...messageParts(message) };
    const open = [...this._channels].filter((channel) => channel.isOpen());
    const instances = new Set(open.map((channel) => channel.protocol.instance));
    const errors = [];
    for (const instance of instances) {
      try {
        const channel = after?.instance === instance ? after._channel() : this._channelTo(instance);
        channel.push(frame);
      } catch (error) {
        if (!(error instanceof RangeError || error instanceof BufferError)) throw error;
        errors.push(error);
      }
    }
    if (errors.length === instances.size) throw errors.at(-1) ?? new ConnectionError("no channel is open");
  }

  run(address) {
    return this.serve(address, { signals: true });
  }

  async serve(address, { signals = false } = {}) {
    const names = signals ? ["SIGTERM", "SIGINT"] : [];
    const onSignal = (name, number) => this._onSignal(number);
    // Before the socket can be seen: what sees it may send SIGTERM.
    for (const name of names) process.on(name, onSignal);
    try {
      this._listener = await openListener(address, (socket) => this._channels.add(new Channel(this, socket)));
      this.log.info(`listening on ${this._listener.name}`);
      if (this._stopping) this._leave();
      await this._stopped;
    } finally {
      for (const name of names) process.off(name, onSignal);
    }
  }

  stop() {
    if (this._stopping) return;
    this._stopping = true;
    if (this._listener !== null) this._leave(); // else serve() does it as soon as there is one
  }

  _leave() {
    this._listener.close();
    for (const asked of [...this._asked.values()]) asked.reject(new ConnectionError("the worker stops"));
    for (const channel of [...this._channels]) channel.goAway("shutdown");
    this._checkStopped();
  }

  _onSignal(number) {
    if (this._stopping) process.exit(128 + number);
    this.log.info(`stopping, ${this._running + this._waiting.size} calls in progress`);
    this.stop();
  }

  _add(name, handler) {
    if (typeof name !== "string" || name === "") throw new TypeError("the name of a method is a string");
    if (this._handlers.size + this._patterns.length >= METHODS_MAX) {
      throw new RangeError(`over ${METHODS_MAX} methods`);
    }
    if (name.endsWith("*")) this._addPattern(name.slice(0, -1), handler);
    else if (this._handlers.has(name)) throw new RangeError(`${name} has a handler already`);
    else this._handlers.set(name, handler);
    return this;
  }

  _addPattern(start, handler) {
    if (this._patterns.some(([other]) => other === start)) throw new RangeError(`${start}* has a handler already`);
    this._patterns.push([start, handler]);
    this._patterns.sort(([a], [b]) => b.length - a.length);
  }

  /** An exact name goes before a pattern, and a longer pattern before a shorter. */
  _find(method) {
    return this._handlers.get(method) ?? this._patterns.find(([start]) => method.startsWith(start))?.[1];
  }

  _hello() {
    const methods = [...this._handlers.keys(), ...this._patterns.map(([start]) => `${start}*`)].sort();
    return {
      protocol: 1, name: this.name, pid: process.pid, concurrency: this.concurrency, max_frame: this.maxFrame, methods,
      features: ["push", "stream"], responses: this._token,
    };
  }

  /** A channel is gone. held: what it has held for another one of the same front. */
  _forget(channel, held) {
    this._channels.delete(channel);
    const { instance } = channel.protocol;
    if (this._usual.get(instance) === channel) this._usual.delete(instance);
    if (held.length === 0) return;
    try {
      this._channelTo(instance).takeOver(held);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.log.warn(`${held.length} messages are lost: ${error.message}`);
    }
  }

  /** All channels of that front. */
  _of(instance) {
    return [...this._channels].filter((channel) => channel.protocol.instance === instance);
  }

  /** A channel of that front: the one given while it is open, else the usual one, which is the same until it has closed,
   * since between two there is no order; then the oldest, those that go away last. */
  _channelTo(instance, given = null) {
    if (given?.isOpen()) return given;
    const usual = this._usual.get(instance);
    if (usual?.isOpen()) return usual;
    const rank = (channel) => (channel.holding ? 2 : 0) + (channel.going ? 1 : 0);
    const found = this._of(instance).filter((channel) => channel.isOpen()).sort((a, b) => rank(a) - rank(b));
    if (found.length === 0) throw new ConnectionError("no channel is open to this connection's front");
    this._usual.set(instance, found[0]);
    return found[0];
  }

  async _ask(conn, method, params, { timeout = ASK_TIMEOUT, signal } = {}) {
    signal?.throwIfAborted();
    if (this._stopping) throw new ConnectionError("the worker stops"); // after its GOAWAY no front sends it an answer
    const id = `${this._token}.${randomBytes(8).toString("hex")}`, key = `${id} ${conn.key}`;
    conn.push({ jsonrpc: "2.0", id, method, params });
    let timer, onAbort;
    try {
      const response = await new Promise((resolve, reject) => {
        this._asked.set(key, { resolve, reject });
        timer = setTimeout(() => reject(new TimeoutError("no answer in time")), timeout);
        onAbort = () => reject(signal.reason);
        signal?.addEventListener("abort", onAbort);
      });
      const { error, result } = response;
      if (error) throw new RpcError(error.code, error.message, error.data);
      return result;
    } finally {
      this._asked.delete(key);
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Whether a client's Response is to one of our requests, in time or not. */
  _answered(ctx) {
    const response = ctx.params?.response;
    if (!isObject(response) || ctx.conn === null) return false;
    const id = String(response.id);
    this._asked.get(`${id} ${ctx.conn.key}`)?.resolve(response);
    return id.startsWith(this._token);
  }

  _full() {
    return this._waiting.size >= WAITING_MAX;
  }

  _hasRoom() {
    return this.concurrency === 0 || this._running < this.concurrency;
  }

  _take(call) {
    if (this._hasRoom()) this._start(call);
    else this._waiting.add(call);
  }

  _start(call) {
    this._running++;
    call.started = true;
    let result;
    try {
      result = call.handler.handler(...call.arguments);
    } catch (thrown) {
      return this._failed(call, thrown);
    }
    if (typeof result?.then !== "function") return this._returned(call, result);
    result.then((value) => this._returned(call, value), (thrown) => this._failed(call, thrown));
  }

  _failed(call, thrown) {
    call.error = { thrown };
    this._ended(call);
  }

  _returned(call, result) {
    call.result = result;
    if (!call.channel.beginStream(call)) return this._ended(call);
    call.channel.stream(call).then(() => this._ended(call), (thrown) => this._failed(call, thrown));
  }

  _ended(call) {
    this._running--;
    call.channel.finish(call);
    this._startWaiting();
    this._checkStopped();
  }

  /** Start calls that have waited, as far as there is room. A plain function ends at once and comes back to here. */
  _startWaiting() {
    if (this._starting) return;
    this._starting = true;
    while (this._waiting.size > 0 && this._hasRoom()) {
      const [call] = this._waiting;
      this._unwait(call);
      this._start(call);
    }
    this._starting = false;
  }

  /** Take a call out of the queue; channels that had to stop for a full one go on. */
  _unwait(call) {
    if (this._full()) {
      for (const channel of this._channels) setImmediate(() => channel.parse());
    }
    this._waiting.delete(call);
  }

  _cancel(call) {
    call.cancel();
    if (call.started) return;
    this._unwait(call);
    call.channel.finish(call);
  }

  _checkStopped() {
    if (this._stopping && this._channels.size + this._running + this._waiting.size === 0) this._resolveStopped();
  }
}

/** A worker's main(): read --listen and --concurrency, then worker.run(), then end the process. */
export async function run(worker, defaultAddress, argv = process.argv.slice(2)) {
  let address = defaultAddress;
  try {
    const { values } = parseArgs({ args: argv, options: { listen: { type: "string" }, concurrency: { type: "string" } } });
    address = values.listen ?? defaultAddress;
    if (values.concurrency !== undefined) {
      if (!/^\d+$/.test(values.concurrency)) throw new RangeError("--concurrency is no whole number from 0");
      worker.concurrency = Number(values.concurrency);
    }
    await worker.run(address);
  } catch (error) {
    console.error(`${process.argv[1]}: ${address}: ${error.message}`);
    process.exit(1);
  }
  process.exit(0);
}
