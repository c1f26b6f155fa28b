// A client's connection, as handlers see it, and what can be sent about it (section 9 of proto/PROTOCOL.md).

import { BINARY, DISCONNECT, PUSH, STATE, SUBSCRIBE, UNSUBSCRIBE, dumpJson } from "./frames.js";

const TOPIC_MAX = 255, REASON_MAX = 123; // bytes of a topic, of a reason to disconnect

/** A client's connection that stays (section 9); index.d.ts describes it and its methods. */
export class Connection {
  #worker;
  #channel;

  constructor(worker, id, instance, channel = null) {
    this.id = BigInt(id);
    this.instance = instance;
    this.#worker = worker;
    this.#channel = channel;
  }

  get key() {
    return `${this.id} ${this.instance}`;
  }

  push(message) {
    this.#send({ type: PUSH, ...messageParts(message) });
  }

  ask(method, params, options = {}) {
    return this.#worker._ask(this, method, params, options);
  }

  subscribe(topic) {
    this.#send({ type: SUBSCRIBE, meta: topicMeta(topic) });
  }

  unsubscribe(topic) {
    this.#send({ type: UNSUBSCRIBE, meta: topic === undefined ? "" : topicMeta(topic) });
  }

  keep(state) {
    if (!(state instanceof Uint8Array)) throw new TypeError("a state is bytes");
    this._channel().keep({ type: STATE, conn: this.id, blob: state });
  }

  disconnect(code = 1000, reason = "") {
    const good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
    if (!Number.isInteger(code) || !good || Buffer.byteLength(reason) > REASON_MAX) {
      throw new RangeError(`bad close code ${code}, or a reason over ${REASON_MAX} bytes`);
    }
    this.#send({ type: DISCONNECT, meta: dumpJson({ code, reason }) });
  }

  /** The channel for what is sent about this connection. */
  _channel() {
    return this.#worker._channelTo(this.instance, this.#channel);
  }

  #send(frame) {
    this._channel().push({ ...frame, conn: this.id });
  }
}

/** How a message is sent, as parts of a frame: bytes as a binary one, a string as text, else as JSON. */
export function messageParts(message) {
  if (message instanceof Uint8Array) return { flags: BINARY, blob: message };
  if (message instanceof ArrayBuffer || ArrayBuffer.isView(message)) throw new TypeError("bytes are a Uint8Array");
  return typeof message === "string" ? { blob: Buffer.from(message) } : { body: dumpJson(message) };
}

/** The meta of a frame about a topic; throws where `topic` is none. */
export function topicMeta(topic) {
  const size = typeof topic === "string" ? Buffer.byteLength(topic) : 0;
  if (size < 1 || size > TOPIC_MAX) throw new RangeError(`a topic is a string of 1 to ${TOPIC_MAX} bytes`);
  return dumpJson({ topic });
}
