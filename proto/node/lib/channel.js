// One channel over a socket: a connection from a front's shard (section 1 of proto/PROTOCOL.md).
//
// Bytes go through its Protocol, which says what they mean. A request is made into a Call and given to the Worker; when
// it has ended, finish() answers it. All that one turn of the loop has made is written at once. Reading pauses while the
// front does not read, and while the worker has no room for more calls.
//
// How it ends: closeIfDone() looks after each step whether the Protocol is finished; a ProtocolError and the time end it
// too. Our direction is ended first, the front's end is waited for (Worker._linger), then the socket is destroyed. Channels to
// the same front look at each other, so that what is pushed has somewhere to go, and keeps its order.

import { CANCELLED, INTERNAL_ERROR, METHOD_NOT_FOUND, ProtocolError, RpcError, BufferError } from "./frames.js";
import { Call, Context, HttpResponse } from "./handlers.js";
import { PUSH_BUFFER, Protocol } from "./protocol.js";

const WRITE_BUFFER = 1024 * 1024; // bytes that a front has not read before we read no more of it
const PART = 65_536; // bytes of a streamed answer in one frame

export class Channel {
  constructor(worker, socket) {
    this.worker = worker;
    this.socket = socket;
    this.log = worker.log;
    this.protocol = new Protocol(performance.now(), worker);
    this.calls = new Map(); // those that a response is owed for
    this.staying = false; // the front goes, and its next channel may be waited for
    this.blocked = false; // the front does not read
    this.writing = false; // flush() is called when this turn of the loop ends
    this.timer = null;
    socket.on("data", (data) => this.received(data));
    socket.on("end", () => this.ended());
    socket.on("drain", () => this.drained());
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => this.closed());
    this.tick();
    if (worker._stopping) this.goAway("shutdown");
  }

  closed() {
    clearTimeout(this.timer);
    const held = this.protocol.lost(); // first of all: the channel is closed to what follows
    this.dropCalls();
    this.worker._forget(this, held);
    this.worker._checkStopped();
  }

  /** The front has closed, perhaps its direction only, and reads on: what waits is written first. */
  ended() {
    this.protocol.receiveEof();
    if (this.protocol.closing) this.socket.end();
    else this.closeIfDone();
  }

  received(data) {
    this.protocol.receive(data, performance.now());
    if (!this.protocol.closing) this.parse();
  }

  drained() {
    this.blocked = false;
    this.parse();
  }

  /** Read only while the front reads too, and while there is room for more calls. */
  updateReading() {
    const stopped = (this.blocked || this.worker._full()) && !this.protocol.closing;
    if (stopped) this.socket.pause();
    else if (this.socket.isPaused()) this.socket.resume();
  }

  /** Handle the frames that are there, as long as there is room for what they bring. */
  parse() {
    try {
      while (!this.blocked && !this.worker._full()) {
        const event = this.protocol.nextEvent();
        if (event === null) break;
        this.onEvent(event);
      }
    } catch (error) {
      this.failed(error);
    }
    this.writeSoon();
    this.updateReading();
  }

  onEvent(event) {
    switch (event.kind) {
      case "request":
        return this.onRequest(event);
      case "cancel":
        return this.worker._cancel(this.calls.get(event.call));
      case "part":
        return this.calls.get(event.call)?.parts?.add(event.blob, event.last);
      case "room":
        return this.calls.get(event.call).moreRoom?.();
      case "hello":
        return this.onHello();
      case "goaway":
        return this.onGoaway(event.reason);
      default:
        return this.log.warn(`${this.name}: a frame of type ${event.type} is dropped`);
    }
  }

  onHello() {
    this.protocol.sayHello(this.worker._hello());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tick(), this.worker.pingAfter);
    for (const channel of this.worker._of(this.protocol.instance)) channel.closeIfDone();
  }

  onGoaway(reason) {
    this.log.info(`${this.name} goes away: ${JSON.stringify(reason.toString().slice(0, 200))}`);
    if (!this.staying) setTimeout(() => this.closeIfDone(true), this.worker._linger).unref();
    this.staying = true;
    this.closeIfDone();
  }

  onRequest(request) {
    const ctx = new Context(request, this);
    let call;
    try {
      if (ctx.notify && ctx.method === "frontd.response" && this.worker._answered(ctx)) return;
      const handler = this.worker._find(ctx.method);
      if (handler === undefined) throw new RpcError(METHOD_NOT_FOUND, "method not found");
      call = new Call(this, request, ctx, handler);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (!ctx.notify) this.protocol.refuse(request.call, error);
      return;
    }
    if (!ctx.notify) this.calls.set(request.call, call);
    this.worker._take(call);
  }

  /** A handler has used so many bytes of its request. */
  took(call, n) {
    this.protocol.took(call, n);
    this.writeSoon();
  }

  /** Answer a call that has ended; with the channel gone, the answer is dropped. */
  finish(call) {
    if (call.ctx.notify || this.protocol.closing) {
      call.failure(this.log); // which is in the log, at least
      return;
    }
    this.calls.delete(call.ctx.call);
    try {
      if (call.streaming) this.endStream(call);
      else this.respond(call);
    } catch (error) {
      this.failed(error);
    }
    this.writeSoon();
    this.closeIfDone();
  }

  respond(call) {
    const id = call.ctx.call, error = call.failure(this.log);
    try {
      if (error !== null) this.protocol.respondError(id, error);
      else if (call.response !== null) this.protocol.respond(id, head(call.response), call.response.body);
      else this.protocol.respond(id, call.result === undefined ? null : call.result);
    } catch (failure) {
      if (failure instanceof ProtocolError) throw failure;
      this.log.error(`${call.ctx.method}: its result cannot be sent: ${failure.message}`);
      this.protocol.refuse(id, new RpcError(INTERNAL_ERROR, "internal error"));
    }
  }

  /** Whether the answer of a call whose handler has ended comes in parts: then stream() is its work from now on. */
  beginStream(call) {
    if (!call.handler.http || call.error !== undefined) return false;
    try {
      call.response = call.result instanceof HttpResponse ? call.result : new HttpResponse(call.result);
      if (call.response.parts === null) return false;
      if (call.ctx.notify || this.protocol.closing || call.ctx.cancelled) throw new RpcError(CANCELLED, "cancelled");
      this.protocol.respondFirst(call.ctx.call, head(call.response));
    } catch (thrown) {
      call.error = { thrown }; // finish() says so
      call.response?._discard();
      return false;
    }
    call.streaming = true;
    this.writeSoon();
    return true;
  }

  /** Send the parts of an answer as they come, and as the front has room for them. */
  async stream(call) {
    const { parts } = call.response, id = call.ctx.call;
    let whole = false;
    try {
      while (!call.ctx.cancelled) {
        const { value, done } = await parts.next();
        if (done) {
          whole = true;
          return;
        }
        if (typeof value !== "string" && !(value instanceof Uint8Array)) {
          throw new TypeError("a part of a body is a string or bytes");
        }
        let rest = typeof value === "string" ? Buffer.from(value) : value;
        while (rest.length > 0 && !call.ctx.cancelled) {
          const n = Math.min(this.protocol.room(id), rest.length, PART);
          if (n === 0) {
            await new Promise((resolve) => (call.moreRoom = resolve));
            continue;
          }
          this.protocol.stream(id, rest.subarray(0, n));
          rest = rest.subarray(n);
          this.writeSoon();
        }
      }
      throw new RpcError(CANCELLED, "cancelled");
    } finally {
      if (!whole) await this.end(call.response);
    }
  }

  /** End the iterator of an answer of which the rest is not wanted. */
  async end(response) {
    response._discard();
    try {
      await response.parts.return?.();
    } catch (error) {
      this.log.error(`the end of an answer in parts failed: ${error?.stack ?? error}`);
    }
  }

  endStream(call) {
    const error = call.failure(this.log), id = call.ctx.call;
    if (error !== null) this.protocol.breakOff(id, error);
    else this.protocol.stream(id, Buffer.alloc(0), true);
  }

  /** Whether the front goes away on this channel. */
  get going() {
    return this.protocol.frontState !== "sending";
  }

  /** Whether what is pushed waits until the front has closed, and is sent on another channel then. */
  get holding() {
    return this.protocol.state === "holding";
  }

  get ending() {
    return this.socket.destroyed || this.socket.writableEnded;
  }

  /** Whether frames about connections can be sent. */
  isOpen() {
    const { state } = this.protocol;
    return state === "holding" || ((state === "open" || state === "leaving") && !this.ending);
  }

  /** Send a frame that is no answer; how much of that the front may leave unread has a limit. */
  push(frame) {
    if (this.protocol.unsent + this.socket.writableLength > PUSH_BUFFER) this.flush();
    try {
      this.protocol.push(frame, this.socket.writableLength);
    } catch (error) {
      throw error instanceof BufferError ? new BufferError(`${this.name} does not read`) : error;
    }
    this.writeSoon();
  }

  /** Send a STATE, if the front keeps that many bytes. */
  keep(frame) {
    const most = this.protocol.front.state ?? 0;
    if (frame.blob.length > most) {
      throw new RangeError(`the front keeps ${most} bytes with a connection, not ${frame.blob.length}`);
    }
    if (most > 0) this.push(frame);
  }

  /** Send what another channel has held. */
  takeOver(held) {
    this.protocol.takeOver(held);
    this.writeSoon();
  }

  /** Write when this turn of the loop ends, if there is anything to write. */
  writeSoon() {
    if (this.protocol.unsent === 0 || this.writing || this.holding) return;
    this.writing = true;
    setImmediate(() => this.flush());
  }

  flush() {
    this.writing = false;
    const frames = this.protocol.dataToSend();
    if (frames.length === 0 || this.ending) return;
    this.socket.write(frames.length === 1 ? frames[0] : Buffer.concat(frames));
    if (this.socket.writableLength > WRITE_BUFFER && !this.blocked) {
      this.blocked = true;
      this.updateReading();
    }
  }

  /** Take no more calls, finish those taken, then close (section 7). */
  goAway(reason) {
    this.protocol.goAway(reason);
    this.writeSoon();
    this.closeIfDone();
  }

  /** Whether the channel has to stay because what is pushed would have no other one to go on. The front reloads: it has
   * said GOAWAY and reads on until we close, and the channels of its next shards are not open yet. A front that stops
   * opens none, so this has a limit, Worker._linger. */
  awaitsOther() {
    if (!this.staying || this.protocol.state === "leaving") return false;
    const front = this.worker._of(this.protocol.instance);
    return front.some((one) => one.protocol.pushed) && !front.some((one) => one.isOpen() && !one.going);
  }

  /** Close the channel once it is finished and no other is waited for. late: none is waited for any more. */
  closeIfDone(late = false) {
    this.staying = this.staying && !late;
    if (this.protocol.finished && !this.awaitsOther()) this.close();
  }

  failed(error) {
    if (!(error instanceof ProtocolError)) throw error;
    this.log.warn(`${this.name} is closed: ${error.message}`);
    this.protocol.fail(error);
    this.close();
  }

  /** End our direction first and wait for the front's end: closing while bytes from it are unread would reset the
   * connection and could lose what we said last. Where the front goes, its end tells that what we said has taken effect:
   * what comes now is held until then, and is sent on another channel, so that the order stays. */
  close() {
    this.flush();
    const ended = this.protocol.frontState === "ended";
    const others = this.worker._of(this.protocol.instance).filter((one) => one !== this);
    const hold = this.protocol.state === "open" && !ended && others.some((one) => one.isOpen() && !one.holding);
    this.protocol.close(hold);
    clearTimeout(this.timer);
    this.dropCalls();
    this.updateReading(); // what comes is thrown away, up to the front's end
    if (this.socket.destroyed) return;
    this.socket.end();
    this.timer = setTimeout(() => this.socket.destroy(), ended ? this.worker.deadAfter : this.worker._linger);
  }

  dropCalls() {
    const calls = [...this.calls.values()];
    this.calls.clear();
    for (const call of calls) this.worker._cancel(call);
  }

  tick() {
    try {
      const wait = this.protocol.tick(performance.now(), this.worker._running > 0);
      this.timer = setTimeout(() => this.tick(), wait);
      this.writeSoon();
    } catch (error) {
      this.failed(error);
    }
  }

  get name() {
    const front = this.protocol.front ?? {};
    return `channel of ${front.front ?? "a front"} shard ${front.shard ?? "?"}`;
  }
}

/** The result of a call of `http.request`. */
function head({ status, headers }) {
  return { status, headers };
}
