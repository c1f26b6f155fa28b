// Frames and what is in them (section 2 to 4 of proto/PROTOCOL.md): bytes to values and back, without state.

// Frame types and flags (section 3).
export const HELLO = 1, REQUEST = 2, RESPONSE = 3, CANCEL = 4, PING = 5, PONG = 6, GOAWAY = 7;
export const PUSH = 8, PUBLISH = 9, SUBSCRIBE = 10, UNSUBSCRIBE = 11, DISCONNECT = 12, DATA = 13, WINDOW = 14;
export const STATE = 143;
export const LAST_TYPE = 14, FIRST_EXTENSION = 128;
export const NOTIFY = 0x01, MORE = 0x02, BINARY = 0x04, RETRY = 0x08;

export const MAX_FRAME = 16 * 1024 * 1024; // bytes of payload (section 2)
export const HEADER_SIZE = 32;

export const PARSE_ERROR = -32700, INVALID_REQUEST = -32600, METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602, INTERNAL_ERROR = -32603, CANCELLED = -32800;

const EMPTY = Buffer.alloc(0);
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A JSON-RPC error for the client; throw it in a handler. */
export class RpcError extends Error {
  constructor(code, message, data) {
    if (!Number.isSafeInteger(code) || typeof message !== "string") {
      throw new TypeError("the code of an error is an integer, its message a string");
    }
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
  }
}

/** The other side broke the protocol: GOAWAY and close (section 2). kind: "parts", "type" or "limit" for a bad
 * frame header; "version" where HELLO has no common version; else "protocol". */
export class ProtocolError extends Error {
  constructor(text, kind = "protocol") {
    super(text);
    this.name = "ProtocolError";
    this.kind = kind;
  }
}

/** No channel is open to a connection's front, or the worker stops. */
export class ConnectionError extends Error {
  name = "ConnectionError";
}

/** The front is too far behind in reading. */
export class BufferError extends Error {
  name = "BufferError";
}

/** A client has not answered in time. */
export class TimeoutError extends Error {
  name = "TimeoutError";
}

/** The bytes of a frame (section 2). call, conn: BigInt.  meta, body: string or Uint8Array.  blob: Uint8Array. */
export function encodeFrame({ type, flags = 0, call = 0n, conn = 0n, meta = "", body = "", blob = EMPTY }) {
  const metaLength = byteLength(meta), bodyLength = byteLength(body), length = metaLength + bodyLength + blob.length;
  const bytes = Buffer.allocUnsafe(HEADER_SIZE + length);
  bytes.writeUInt32BE(length, 0);
  bytes[4] = type;
  bytes[5] = flags;
  bytes.writeUInt16BE(0, 6);
  bytes.writeBigUInt64BE(call, 8);
  bytes.writeBigUInt64BE(conn, 16);
  bytes.writeUInt32BE(metaLength, 24);
  bytes.writeUInt32BE(blob.length, 28);
  put(bytes, meta, HEADER_SIZE);
  put(bytes, body, HEADER_SIZE + metaLength);
  bytes.set(blob, HEADER_SIZE + metaLength + bodyLength);
  return bytes;
}

function byteLength(part) {
  return typeof part === "string" ? Buffer.byteLength(part) : part.length;
}

function put(bytes, part, at) {
  if (typeof part === "string") bytes.write(part, at);
  else bytes.set(part, at);
}

/** How many bytes the frame that starts at `offset` has, or its header where that is not all there yet. Throws
 * ProtocolError as soon as the 32 bytes of the header break a rule. maxFrame: the limit that we announced. */
export function frameSize(data, offset, maxFrame) {
  if (data.length - offset < HEADER_SIZE) return HEADER_SIZE;
  const length = data.readUInt32BE(offset), type = data[offset + 4];
  if (type === 0 || (type > LAST_TYPE && type < FIRST_EXTENSION)) {
    throw new ProtocolError(`unknown frame type ${type}`, "type");
  }
  if (length > maxFrame) throw new ProtocolError(`frame of ${length} bytes over the limit of ${maxFrame}`, "limit");
  if (data.readUInt32BE(offset + 24) + data.readUInt32BE(offset + 28) > length) {
    throw new ProtocolError("meta and blob longer than the frame", "parts");
  }
  return HEADER_SIZE + length;
}

/** The frame that starts at `offset` in `data`, a Buffer, or null when it is not all there yet; its parts are views of
 * `data`. Throws as frameSize() does. */
export function readFrame(data, offset = 0, maxFrame = MAX_FRAME) {
  const size = frameSize(data, offset, maxFrame);
  if (data.length - offset < HEADER_SIZE || data.length - offset < size) return null;
  const start = offset + HEADER_SIZE, end = offset + size;
  const body = start + data.readUInt32BE(offset + 24), blob = end - data.readUInt32BE(offset + 28);
  return {
    size,
    type: data[offset + 4],
    flags: data[offset + 5],
    call: data.readBigUInt64BE(offset + 8),
    conn: data.readBigUInt64BE(offset + 16),
    meta: data.subarray(start, body),
    body: data.subarray(body, blob),
    blob: data.subarray(blob, end),
  };
}

/** Bytes as text; throws TypeError where they are no UTF-8. */
export function decodeText(bytes) {
  return utf8.decode(bytes);
}

/** Parse bytes as JSON, strictly; throws for whatever is wrong with them. */
export function loadJson(bytes) {
  return JSON.parse(decodeText(bytes));
}

/** A value as JSON text; throws TypeError or RangeError where it is none. */
export function dumpJson(value) {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`no JSON value: ${typeof value}`);
  return text;
}

/** Whether a JSON value is an object: neither null nor an array. */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The body of the front's HELLO (section 4) as an object in which `max_frame` (bytes) is always set. Throws
 * ProtocolError, of kind "version" when the front does not speak version 1. */
export function readFrontHello(body) {
  let hello;
  try {
    hello = loadJson(body);
  } catch (error) {
    throw new ProtocolError(`bad HELLO: ${error.message}`);
  }
  if (!isObject(hello) || !Array.isArray(hello.protocol)) throw new ProtocolError("bad HELLO: no list of versions");
  if (!hello.protocol.includes(1)) throw new ProtocolError("version", "version");
  hello.max_frame = hello.max_frame === undefined ? MAX_FRAME : hello.max_frame;
  if (!Number.isInteger(hello.max_frame) || hello.max_frame < 0) throw new ProtocolError("bad HELLO: max_frame");
  return hello;
}

const QUOTE = 0x22, BACKSLASH = 0x5c;

/** The text of the value of a member of the object in `text`, as it stands there, or undefined. text: an object that
 * JSON.parse() takes. So an id keeps its bytes: 9007199254740993, 1.0 and escapes are not the same once parsed. */
export function memberText(text, name) {
  let at = skipSpace(text, skipSpace(text, 0) + 1);
  while (text.charCodeAt(at) === QUOTE) {
    const end = stringEnd(text, at);
    const value = skipSpace(text, skipSpace(text, end) + 1); // behind the colon
    const next = valueEnd(text, value);
    if (JSON.parse(text.slice(at, end)) === name) return text.slice(value, next);
    at = skipSpace(text, skipSpace(text, next) + 1); // behind the comma
  }
  return undefined;
}

function isSpace(code) {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

function skipSpace(text, at) {
  while (isSpace(text.charCodeAt(at))) at++;
  return at;
}

/** Behind the string that starts at `at`. */
function stringEnd(text, at) {
  for (;;) {
    at = text.indexOf('"', at + 1);
    let slashes = 0;
    while (text.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return at + 1;
  }
}

/** Behind the value that starts at `at`. */
function valueEnd(text, at) {
  for (let depth = 0; ; at++) {
    const char = text[at];
    if (char === '"') {
      at = stringEnd(text, at) - 1;
      if (depth === 0) return at + 1;
    } else if (char === "{" || char === "[") {
      depth++;
    } else if (char === "}" || char === "]") {
      if (depth === 0) return at; // a number or a word ends with what it stands in
      if (--depth === 0) return at + 1;
    } else if (depth === 0 && (char === "," || isSpace(text.charCodeAt(at)))) {
      return at;
    }
  }
}
