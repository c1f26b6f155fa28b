// The worker's side of one channel, without I/O: bytes and calls in, events and bytes out (proto/PROTOCOL.md).
//
// No socket, timer or clock is used here; times are arguments, in milliseconds. The owner gives what it has read to
// receive() and takes events from nextEvent() until there are none; it answers with sayHello(), respond() and
// respondError(), sends what is no answer with push(), and writes what dataToSend() returns. tick() is called again
// after the time that it returned.
//
// How a channel ends: a bad frame throws ProtocolError, and fail() says GOAWAY. A GOAWAY of either side leads to
// `finished` once no call is owed a response; then the owner calls close(), and lost() when the connection is gone.

import assert from "node:assert/strict";

import {
  CANCEL, CANCELLED, DATA, FIRST_EXTENSION, GOAWAY, HELLO, INTERNAL_ERROR, INVALID_REQUEST, MAX_FRAME, MORE, NOTIFY,
  PARSE_ERROR, PING, PONG, REQUEST, RESPONSE, WINDOW, BufferError, ProtocolError, RpcError, decodeText, dumpJson,
  encodeFrame, frameSize, HEADER_SIZE, isObject, loadJson, memberText, readFrame, readFrontHello,
} from "./frames.js";

export const HELLO_TIMEOUT = 5_000; // milliseconds (section 4)
export const PING_AFTER = 15_000, DEAD_AFTER = 45_000; // without traffic; without an answer to a PING (section 10)
export const PUSH_BUFFER = 4 * 1024 * 1024; // bytes that a front has not read before push() fails
export const WINDOW_STEP = 65_536; // bytes taken for which a WINDOW is sent
export const STREAM_WINDOW = 262_144; // bytes of DATA that the other side has not acknowledged (section 8)
const PING_MAX = 64; // bytes of a PING's body

const EMPTY = Buffer.alloc(0);

// What the worker may still send on a channel, and the moves that are allowed; any other is a bug of ours.
//   opening  the front's HELLO has not been answered
//   open     both have said HELLO
//   leaving  our GOAWAY is said: calls taken are finished, new ones dropped
//   holding  as closing, but what is pushed is kept, for another channel to the same front
//   closing  nothing more is sent, and what comes is thrown away
//   closed   the connection is gone
const MOVES = {
  opening: ["open", "leaving", "closing", "closed"],
  open: ["leaving", "holding", "closing", "closed"],
  leaving: ["closing", "closed"],
  holding: ["closed"],
  closing: ["closed"],
  closed: [],
};
// What the front may still send: going: its GOAWAY has come; ended: it has closed its direction, and may still read.
const FRONT_MOVES = { sending: ["going", "ended"], going: ["ended"], ended: [] };

/** One channel. now: the time in ms, of any monotonic clock.  maxFrame: the limit that we announce, bytes of payload.
 * pingAfter, deadAfter: ms, section 10.  parts: requests that are streamed (section 8) are events as they come;
 * else they are gathered first. */
export class Protocol {
  constructor(now, { maxFrame = MAX_FRAME, pingAfter = PING_AFTER, deadAfter = DEAD_AFTER, parts = false } = {}) {
    Object.assign(this, { maxFrame, pingAfter, deadAfter, parts });
    this.state = "opening";
    this.frontState = "sending";
    this.front = null; // its HELLO, once it has come
    this.instance = null; // of that: the same for every channel of one front
    this.pushed = false; // something was sent that is no answer
    this._owed = new Map(); // calls that a response is owed for -> their id as JSON text
    this._rooms = new Map(); // of answers that are streamed: bytes of DATA that may be sent
    this._coming = new Map(); // requests that come in parts -> bytes taken that no WINDOW told of
    this._gathering = new Map(); // requests that are streamed, and what came of them
    this._lastCall = 0n; // the highest number taken
    this._chunks = []; // what was received and not looked at
    this._have = 0; // bytes in there
    this._need = HEADER_SIZE; // bytes that are wanted before it is worth to look
    this._output = []; // encoded frames, to be written or, in holding, kept
    this._unsent = 0; // bytes in there
    this._opened = this._heard = now; // when it was made; when bytes have come last
    this._pinged = null; // when our PING went out, if nothing has come since
  }

  /** Whether nothing more is written on this channel. */
  get closing() {
    return this.state === "holding" || this.state === "closing" || this.state === "closed";
  }

  /** Whether one side goes away, and no response is owed that the front would still take. */
  get finished() {
    const going = this.state === "leaving" || this.frontState !== "sending";
    return going && !this.closing && (this.frontState === "ended" || this._owed.size + this._gathering.size === 0);
  }

  _move(state) {
    assert(MOVES[this.state].includes(state), `${this.state} -> ${state}`);
    this.state = state;
  }

  _frontMoves(state) {
    if (state === this.frontState) return;
    assert(FRONT_MOVES[this.frontState].includes(state), `${this.frontState} -> ${state}`);
    this.frontState = state;
  }

  // ---- what comes in ----

  /** Take bytes that have been read; nextEvent() tells what is in them. */
  receive(data, now) {
    this._heard = now;
    this._pinged = null;
    if (this.closing) return;
    this._chunks.push(data);
    this._have += data.length;
  }

  /** The front has closed its direction. */
  receiveEof() {
    if (this.state !== "closed") this._frontMoves("ended");
  }

  /** Handle frames up to the next one that the owner must know of. Returns the event, or null when the rest of a frame
   * has to be received first. Throws ProtocolError, after which fail() is to be called. An event has a `kind`:
   *   hello    to be answered with sayHello()
   *   request  {call, conn, flags, method, params, meta, body, blob}: to be answered with respond(), respondError() or
   *            refuse() unless NOTIFY is among its flags
   *   part     {call, blob, last}: more of the blob of a request with MORE among its flags; took() gives the front room
   *   cancel   {call}: the response that is owed is not wanted any more; it is to be sent all the same
   *   room     {call}: the front has taken some of a streamed answer: room() is larger now
   *   goaway   {reason}: the front sends no more calls on this channel (section 7)
   *   dropped  {type}: a frame that a front has no reason to send (section 11) */
  nextEvent() {
    while (!this.closing && this._have >= this._need) {
      const data = this._chunks.length > 1 ? Buffer.concat(this._chunks) : this._chunks[0];
      const frame = readFrame(data, 0, this.maxFrame);
      if (frame === null) {
        this._need = frameSize(data, 0, this.maxFrame);
        this._chunks = [data];
        break;
      }
      this._have -= frame.size;
      this._need = HEADER_SIZE;
      this._chunks = this._have > 0 ? [data.subarray(frame.size)] : [];
      const event = frame.type < FIRST_EXTENSION ? this._onFrame(frame) : null;
      if (event !== null) return event;
    }
    return null;
  }

  _onFrame(frame) {
    if (frame.type === GOAWAY) {
      if (this.frontState === "sending") this._frontMoves("going");
      return { kind: "goaway", reason: frame.body };
    }
    if (this.front === null) return this._onHello(frame);
    switch (frame.type) {
      case REQUEST:
        return this._onRequest(frame);
      case DATA:
        return this._gathering.has(frame.call) ? this._onData(frame) : this._onPart(frame);
      case WINDOW:
        return this._onWindow(frame);
      case CANCEL:
        return this._onCancel(frame.call);
      case PING:
        if (frame.body.length > PING_MAX) return { kind: "dropped", type: PING };
        this._send({ type: PONG, body: frame.body });
        return null;
      case PONG:
        return null;
      default: // wrong by itself (section 11)
        return { kind: "dropped", type: frame.type };
    }
  }

  _onHello(frame) {
    if (frame.type !== HELLO) throw new ProtocolError(`frame type ${frame.type} before HELLO`);
    this.front = readFrontHello(frame.body);
    this.instance = String(this.front.instance ?? "");
    return { kind: "hello" };
  }

  _onRequest(frame, gathered = false) {
    const notify = (frame.flags & NOTIFY) !== 0;
    if (frame.flags & MORE && !this.parts) return this._onFirstPart(frame);
    if (frame.call <= this._lastCall && !gathered && !(notify && frame.call === 0n)) {
      throw new ProtocolError(`call id ${frame.call} after ${this._lastCall}`);
    }
    // What has crossed our GOAWAY the front gives to another worker; what was gathered was taken before it.
    if (this.state === "leaving" && !gathered) return null;
    const meta = readMeta(frame.meta);
    if (frame.call > this._lastCall) this._lastCall = frame.call;
    let request;
    try {
      request = readRequest(frame.body);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (!notify) this._refuseUnread(frame.call, error);
      return null;
    }
    if (!notify) this._owed.set(frame.call, request.id);
    if (frame.flags & MORE) this._coming.set(frame.call, 0);
    const { call, conn, flags, body, blob } = frame;
    return { kind: "request", call, conn, flags, method: request.method, params: request.params, meta, body, blob };
  }

  /** Answer a call whose id is not known. */
  _refuseUnread(call, error) {
    this._owed.set(call, "null");
    this.refuse(call, error);
  }

  /** A streamed request is gathered: handlers get it whole. */
  _onFirstPart(frame) {
    if (frame.flags & NOTIFY || frame.call <= this._lastCall) {
      throw new ProtocolError(`streamed REQUEST with call id ${frame.call}`);
    }
    if (this.state === "leaving") return null;
    this._lastCall = frame.call;
    this._gathering.set(frame.call, { first: frame, blobs: [frame.blob], size: frame.blob.length });
    return null;
  }

  _onData(frame) {
    const gathered = this._gathering.get(frame.call);
    gathered.size += frame.blob.length;
    if (gathered.size <= this.maxFrame) gathered.blobs.push(frame.blob);
    else gathered.blobs.length = 0; // too large already: the rest is thrown away
    if (frame.flags & MORE) {
      this._sendWindow(frame.call, frame.blob.length);
      return null;
    }
    this._gathering.delete(frame.call);
    if (gathered.size > this.maxFrame) {
      this._refuseUnread(frame.call, new RpcError(INTERNAL_ERROR, "the request is too large"));
      return null;
    }
    const { first, blobs } = gathered;
    return this._onRequest({ ...first, flags: first.flags & ~MORE, blob: Buffer.concat(blobs) }, true);
  }

  /** Of a call that has been answered meanwhile there may be more on its way: it is thrown away. */
  _onPart(frame) {
    if (!this._coming.has(frame.call)) return null;
    const last = (frame.flags & MORE) === 0;
    if (last) this._coming.delete(frame.call);
    return { kind: "part", call: frame.call, blob: frame.blob, last };
  }

  /** That many bytes of parts have been used: the front may send as many more. */
  took(call, n) {
    if (!this._coming.has(call)) return;
    const taken = this._coming.get(call) + n;
    if (taken >= WINDOW_STEP) this._sendWindow(call, taken);
    this._coming.set(call, taken >= WINDOW_STEP ? 0 : taken);
  }

  _sendWindow(call, bytes) {
    this._send({ type: WINDOW, call, body: dumpJson({ bytes }) });
  }

  _onWindow(frame) {
    let more;
    try {
      more = loadJson(frame.body).bytes;
    } catch {
      return null;
    }
    if (!this._rooms.has(frame.call) || !Number.isSafeInteger(more) || more < 0) return null;
    this._rooms.set(frame.call, this._rooms.get(frame.call) + more);
    return { kind: "room", call: frame.call };
  }

  /** Of a call that is not owed, the response has crossed the CANCEL. */
  _onCancel(call) {
    if (this._gathering.delete(call)) this._refuseUnread(call, new RpcError(CANCELLED, "cancelled"));
    this._coming.delete(call);
    return this._owed.has(call) ? { kind: "cancel", call } : null;
  }

  // ---- what goes out ----

  /** Take all bytes that are to be written now, in this order: a list of Buffers. */
  dataToSend() {
    if (this.state === "holding") return [];
    return this._takeOutput();
  }

  _takeOutput() {
    const output = this._output;
    this._output = [];
    this._unsent = 0;
    return output;
  }

  /** How many bytes dataToSend() would return, or are held. */
  get unsent() {
    return this._unsent;
  }

  /** Answer the front's HELLO with ours (section 4), a JSON object. */
  sayHello(hello) {
    this._send({ type: HELLO, body: dumpJson(hello) });
    if (this.state === "opening") this._move("open");
  }

  /** Answer a call with its result, any JSON value. Throws TypeError or RangeError for one that cannot be sent, or is
   * over the front's max_frame; then the call is still owed a response. */
  respond(call, result, blob = EMPTY) {
    this._respond(call, this._owed.get(call), "result", result, blob);
  }

  /** Begin an answer whose blob follows with stream(); throws as respond() does (section 8). */
  respondFirst(call, result) {
    this._respond(call, this._owed.get(call), "result", result, EMPTY, true);
    this._rooms.set(call, STREAM_WINDOW);
  }

  /** How many bytes stream() may be given now; a room event says when that becomes more. */
  room(call) {
    return this._rooms.get(call) ?? 0;
  }

  /** Send more of the blob, at most room() bytes. last: the answer is complete with it. */
  stream(call, blob, last = false) {
    const room = this._rooms.get(call);
    assert(blob.length <= room);
    this._rooms.set(call, room - blob.length);
    if (last) {
      this._rooms.delete(call);
      this._answered(call);
    }
    this._send({ type: DATA, flags: last ? 0 : MORE, call, blob });
  }

  /** The rest of an answer that was begun does not come: its client is told that it is not complete. */
  breakOff(call, error) {
    this._rooms.delete(call);
    this.refuse(call, error);
  }

  /** Answer a call with an error; throws as respond() does. */
  respondError(call, error) {
    this._respond(call, this._owed.get(call), "error", errorMember(error), EMPTY);
  }

  /** Answer a call with an error of ours, which has no data; without the request's id where that, being the client's,
   * is too long. Throws ProtocolError where the front has no room even for that. */
  refuse(call, error) {
    for (const id of [this._owed.get(call), "null"]) {
      try {
        return this._respond(call, id, "error", errorMember(error), EMPTY);
      } catch (failure) {
        if (!(failure instanceof RangeError)) throw failure;
      }
    }
    throw new ProtocolError("max_frame has no room for an error");
  }

  _respond(call, id, member, value, blob, more = false) {
    assert(id !== undefined, "the call is owed no response");
    const body = `{"jsonrpc":"2.0","id":${id},"${member}":${dumpJson(value)}}`;
    const frame = encodeFrame({ type: RESPONSE, flags: more ? MORE : 0, call, body, blob });
    this._checkSize(frame);
    if (!more) this._answered(call);
    this._queue(frame);
  }

  _answered(call) {
    this._owed.delete(call);
    this._coming.delete(call);
  }

  _checkSize(frame) {
    const payload = frame.length - HEADER_SIZE;
    if (payload > this.front.max_frame) throw new RangeError(`${payload} bytes are over the front's max_frame`);
  }

  /** Send a frame that is no answer, or hold it in holding. unread: bytes that have been taken from dataToSend() and
   * that the front has not read.  Throws RangeError for a frame over the front's max_frame, and BufferError where the
   * front is too far behind; then nothing is sent. */
  push(parts, unread = 0) {
    const frame = encodeFrame(parts);
    this._checkSize(frame);
    if (this._unsent + unread > PUSH_BUFFER) throw new BufferError("the front does not read");
    this.pushed = true;
    this._queue(frame);
  }

  /** Send what another channel to the same front has held: encoded frames. */
  takeOver(held) {
    held.forEach((frame) => this._queue(frame));
  }

  _send(parts) {
    if (!this.closing) this._queue(encodeFrame(parts));
  }

  _queue(frame) {
    if (this.closing && this.state !== "holding") return;
    this._output.push(frame);
    this._unsent += frame.length;
  }

  // ---- how it ends ----

  /** Take no more calls (section 7); those taken are finished. */
  goAway(reason) {
    if (this.state !== "opening" && this.state !== "open") return;
    this._move("leaving");
    this._sayGoaway(reason);
  }

  /** Say GOAWAY with the text of the error, even after a first GOAWAY; nothing more is sent after it. */
  fail(error) {
    if (this.closing) return;
    this._sayGoaway(error.message);
    this.close();
  }

  /** The number of the last call is written as it is: it has 64 bits. */
  _sayGoaway(reason) {
    this._send({ type: GOAWAY, body: `{"reason":${dumpJson(reason)},"last_call":${this._lastCall}}` });
  }

  /** Send nothing more than dataToSend() has, and owe no response any more. hold: keep what is pushed from now on for
   * lost(); only in open, with nothing left in dataToSend(). */
  close(hold = false) {
    if (this.closing) return;
    assert(!(hold && this._unsent > 0));
    this._move(hold ? "holding" : "closing");
    this._forget();
  }

  /** The connection is gone. Returns what was held, for takeOver() of another channel. */
  lost() {
    const held = this.state === "holding" ? this._takeOutput() : [];
    if (this.state !== "closed") this._move("closed");
    this._takeOutput();
    this._forget();
    return held;
  }

  _forget() {
    for (const map of [this._owed, this._rooms, this._gathering, this._coming]) map.clear();
    this._chunks = [];
    this._have = 0;
  }

  /** Look at the time: HELLO has to come soon (section 4); after silence a PING is sent, and the channel is lost when
   * nothing comes back (section 10). busy: calls are in progress, on any channel, which may keep this process from
   * reading.  Returns after how many ms to call it again. Throws ProtocolError when the time is up. */
  tick(now, busy) {
    if (this.state === "opening") {
      const left = HELLO_TIMEOUT - (now - this._opened);
      if (left <= 0) throw new ProtocolError("no HELLO in time");
      return left;
    }
    let wait = this.pingAfter - (now - this._heard);
    if (this._pinged !== null) {
      wait = this.deadAfter - (now - this._pinged);
      if (wait <= 0 && !busy) throw new ProtocolError("timeout");
    } else if (wait <= 0) {
      this._send({ type: PING });
      this._pinged = now;
      wait = this.deadAfter;
    }
    // An answered PING starts the silence anew, so look again after that long at the latest.
    return wait > 0 ? Math.min(wait, this.pingAfter) : this.pingAfter;
  }
}

function readMeta(bytes) {
  if (bytes.length === 0) return {};
  let meta;
  try {
    meta = loadJson(bytes);
  } catch {
    meta = null;
  }
  if (!isObject(meta)) throw new ProtocolError("meta is not a JSON object");
  return meta;
}

function readRequest(body) {
  let text, request;
  try {
    text = decodeText(body);
    request = JSON.parse(text);
  } catch {
    throw new RpcError(PARSE_ERROR, "parse error");
  }
  const { method, params, id } = isObject(request) ? request : {};
  if (typeof method !== "string" || !(params === undefined || (typeof params === "object" && params !== null))) {
    throw new RpcError(INVALID_REQUEST, "invalid request");
  }
  const known = typeof id === "string" || typeof id === "number";
  return { method, params, id: known ? memberText(text, "id") : "null" };
}

function errorMember({ code, message, data }) {
  return data === undefined ? { code, message } : { code, message, data };
}
