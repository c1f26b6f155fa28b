// Workers for frontd in Node.js. "Section" means a section of proto/PROTOCOL.md. Times are milliseconds.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Params = any[] | { [name: string]: any } | undefined;

/** What is sent to a client: bytes as a binary message, a string as any text, else a value that is sent as JSON. */
export type Message = Uint8Array | string | object | number | boolean | null;

export const PARSE_ERROR: -32700;
export const INVALID_REQUEST: -32600;
export const METHOD_NOT_FOUND: -32601;
export const INVALID_PARAMS: -32602;
export const INTERNAL_ERROR: -32603;
export const CANCELLED: -32800;

/** A JSON-RPC error for the client; throw it in a handler. */
export class RpcError extends Error {
  /** code: an integer; -32000 and below are JSON-RPC's and the front's own (section 6).  message: a short text.  data:
   * any JSON value, undefined to leave it out. Throws TypeError for another code or message. */
  constructor(code: number, message: string, data?: any);
  readonly code: number;
  readonly data: any;
}

/** The other side broke the protocol (section 2). kind: "parts", "type", "limit", "version" or "protocol". */
export class ProtocolError extends Error {
  constructor(text: string, kind?: string);
  readonly kind: string;
}

/** No channel is open to a connection's front, or the worker stops. */
export class ConnectionError extends Error {}

/** The front is 4 MiB behind in reading. */
export class BufferError extends Error {}

/** A client has not answered in time. */
export class TimeoutError extends Error {}

/** A client's connection that stays (section 9). It may be kept, and its methods may be called at any time. What is sent
 * about one connection takes effect in the order sent, the response to its call included. For one that has gone it is
 * dropped by the front. push() and the others throw RangeError or TypeError for what cannot be sent, or is over the front's
 * max_frame; ConnectionError when no channel to its front is open; BufferError when the front is 4 MiB behind in
 * reading. Then nothing was sent. */
export class Connection {
  /** One that another worker or a database knows. id: also as a string of decimal digits. */
  constructor(worker: Worker, id: bigint | string, instance: string);
  /** Its number, and which front's it is. */
  readonly id: bigint;
  readonly instance: string;
  /** Both as one string: a key for a Map. Of two objects for one connection it is the same. */
  readonly key: string;
  /** Send one message to this client (PUSH). */
  push(message: Message): void;
  /** Send a JSON-RPC request to this client, and return its result, on routes with `responses: true`, where the pool takes
   * frontd.response. timeout: 30,000 unless given.  signal: ends the waiting, such as Context.signal. Rejects with RpcError,
   * the client's own error; TimeoutError; ConnectionError, also when the worker stops; and what push() throws. */
  ask(method: string, params?: Params, options?: { timeout?: number; signal?: AbortSignal }): Promise<any>;
  /** Have this client get what is published to `topic`, of 1 to 255 bytes (SUBSCRIBE). */
  subscribe(topic: string): void;
  /** End a subscription, where no topic is given all of this client (UNSUBSCRIBE). */
  unsubscribe(topic?: string): void;
  /** Have the front keep these bytes with this connection, in place of those that it kept before (STATE); none end that. The
   * worker that gets the connection next is given them with the event "rebound", as Context.state. Throws RangeError also
   * for more bytes than the front keeps, which may be none. */
  keep(state: Uint8Array): void;
  /** Close this connection (DISCONNECT). code: WebSocket close code, 1000 unless given: 1000 to 1003, 1007 to 1014, 3000 to
   * 4999.  reason: 123 bytes of UTF-8 at most. Other connections than WebSockets are just closed. */
  disconnect(code?: number, reason?: string): void;
}

/** What is known about a call besides its params. */
export class Context {
  private constructor();
  readonly method: string;
  readonly params: Params;
  /** The request as the client has sent it, where JSON.parse() loses something, as of numbers over 2^53. */
  readonly body: Buffer;
  /** Section 9, raw messages. */
  readonly blob: Buffer;
  /** Id of the call, and what the route adds (section 5). */
  readonly call: bigint;
  readonly meta: { [name: string]: any };
  /** The client's connection, null where it does not stay. */
  readonly conn: Connection | null;
  /** The front's HELLO. */
  readonly front: { [name: string]: any };
  /** No response follows. */
  readonly notify: boolean;
  /** The blob is a binary message. */
  readonly binary: boolean;
  /** Another worker may have been given this call before. */
  readonly retry: boolean;
  /** Of "rebound": what was kept. */
  readonly state: Buffer;
  /** The result is not waited for any more; then `signal` is aborted. The call keeps its slot until its handler ends. */
  readonly cancelled: boolean;
  readonly signal: AbortSignal;
  /** The client's address, "192.0.2.7:51412", and the forwarded headers, where the route says so. */
  readonly peer: string | undefined;
  readonly headers: { [name: string]: string };
  /** The blob: a Buffer where it came as a binary message, else a string. */
  message(): Buffer | string;
  /** Whether the client is told what progress() says (section 8). */
  readonly wantsProgress: boolean;
  /** Tell the client of progress before the call is answered, on routes with `progress: true`; for a client that does not
   * want it, nothing is sent. Errors: as of Connection.push(), but over HTTP no bytes. */
  progress(message: Message): void;
  /** Until the deadline, below 0 when it has passed, undefined where the route gives none. */
  remaining(): number | undefined;
}

/** A request on a route of kind `http` (section 8), the argument of an http handler. */
export class HttpRequest {
  private constructor();
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly query: string;
  /** Names are lower-case. */
  readonly headers: [string, string][];
  /** With `parts: true` its beginning. */
  readonly body: Buffer;
  /** The body as it comes, for handlers that ask for it by http(…, {parts: true}); else null. While no part is asked for, the
   * client is held up. Throws RpcError -32800 where the client has gone. */
  readonly parts: AsyncIterableIterator<Buffer>;
  readonly ctx: Context;
  /** Of the Context. A generator that waits passes it on, so that it ends when the client has gone. */
  readonly signal: AbortSignal;
  /** The value of the first header of that name, in any case of letters. */
  header(name: string): string | undefined;
  header(name: string, otherwise: string): string;
}

export type Part = Uint8Array | string;
export type Body = Part | Iterator<Part> | AsyncIterable<Part>;
export type Headers = { [name: string]: unknown } | Iterable<readonly [string, unknown]>;

/** What an http handler returns (section 8). */
export class HttpResponse {
  /** body: bytes, or a string, which is sent as UTF-8; or an iterator of these, asynchronous or not, such as a generator or
   * a stream, whose parts go out as they come.  status: 200 to 599, 200 unless given.  headers: content-length is the
   * front's business, but for an iterator: then a body of another length counts as broken off. Throws RangeError for a
   * header that could end the head early or a bad status; TypeError for another body. */
  constructor(body?: Body, status?: number, headers?: Headers);
}

/** One event of a text/event-stream (Server-Sent Events). data: its text, of any number of lines.  event: its type.  id: what
 * the client names when it comes back. Throws RangeError for a line end in one of the last two. */
export function serverEvent(data: string, event?: string, id?: string): string;

export interface Log {
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

export interface WorkerOptions {
  /** What the front shows for it. */
  name?: string;
  /** Calls in progress at once, 0 for no limit (section 4); what comes beyond it waits. 64 unless given. */
  concurrency?: number;
  /** Largest payload taken, bytes. 16 MiB unless given. */
  maxFrame?: number;
  /** Section 10. 15,000 and 45,000 unless given. */
  pingAfter?: number;
  deadAfter?: number;
  /** Where it says what happens: standard error unless given. */
  log?: Log;
}

export type MethodHandler = (params: any, ctx: Context) => unknown;
export type HttpHandler = (request: HttpRequest) => HttpResponse | Body | Promise<HttpResponse | Body>;
export type EventName = "connect" | "disconnect" | "message" | "rebound" | "response";

/** A worker: its handlers, and the calls in progress over all its channels. A handler returns the result, any JSON value, or
 * a promise of it. It throws RpcError for an error of its own; any other is logged and the client gets -32603. */
export class Worker {
  constructor(options?: WorkerOptions);
  /** The handler answers JSON-RPC method `name`, or with a `*` at its end all that begin so (section 4); "*" is the catch-all.
   * An exact name goes before a pattern, a longer pattern before a shorter. A pattern means the front's own methods
   * too, where they begin so.  params: names, where they are to be checked: then params by position come by name too, and
   * -32602 is the answer to others; one that ends in "?" may be missing. Throws RangeError when the name is taken, or
   * for the 257th. */
  method(name: string, handler: MethodHandler, options?: { params?: string[] | null }): this;
  /** The handler answers the requests of `http` routes (section 8).  parts: it reads long bodies as they come, by
   * request.parts; else those are gathered, up to maxFrame. */
  http(handler: HttpHandler, options?: { parts?: boolean }): this;
  /** The handler is called with the Context, ctx.conn being the connection (section 9).
   * "connect": a client has come, on routes with `events: true`; ctx.params is {conn, path, query, headers, peer}. Where
   * the route says `connect: ask`, an RpcError refuses the client.
   * "disconnect": it has gone; {conn, code}.
   * "rebound": another worker had it, {conn, headers, peer}; ctx.state is what was kept.
   * "response": with `responses: true`, a Response that is not for ask(), {conn, response}.
   * "message": each message on routes with `messages: raw`; it is ctx.message(). What is returned is thrown away,
   * answer with ctx.conn.push(). */
  event(name: EventName, handler: (ctx: Context) => unknown): this;
  /** Send one message to every client that has subscribed to `topic` (PUBLISH, section 9), once to each front.  after: what was
   * sent about that connection before takes effect before. Throws as Connection says when to none. */
  publish(topic: string, message: Message, after?: Connection | null): void;
  /** Serve `address` until SIGTERM or SIGINT, then finish the calls taken. address: "unix:PATH", "tcp://HOST:PORT" or
   * "tcp://[V6]:PORT". A socket inherited as descriptor 3 (LISTEN_FDS, and LISTEN_PID where set) is used instead where
   * there is one. A second signal ends the process at once. Rejects when it cannot listen. */
  run(address: string): Promise<void>;
  /** Like run(), once per Worker. signals: handle SIGTERM and SIGINT, false unless given. */
  serve(address: string, options?: { signals?: boolean }): Promise<void>;
  /** Say GOAWAY on every channel, take no more calls, finish those taken (section 7); what they ask of clients ends with
   * ConnectionError. The promise of serve() is fulfilled when all is done. */
  stop(): void;
}

/** A worker's main(): read --listen and --concurrency, then worker.run(), then end the process: with 0, or 1 and a message
 * when it cannot listen. argv: the arguments, process.argv.slice(2) unless given. */
export function run(worker: Worker, defaultAddress: string, argv?: string[]): Promise<never>;

export interface Frame {
  /** Bytes on the wire, header included. */
  size: number;
  type: number;
  flags: number;
  call: bigint;
  conn: bigint;
  meta: Buffer;
  body: Buffer;
  blob: Buffer;
}

/** The bytes of a frame (section 2). */
export function encodeFrame(frame: {
  type: number; flags?: number; call?: bigint; conn?: bigint;
  meta?: Uint8Array | string; body?: Uint8Array | string; blob?: Uint8Array;
}): Buffer;

/** The frame that starts at `offset`, or null when it is not all there yet. Throws ProtocolError for a bad header. */
export function readFrame(data: Buffer, offset?: number, maxFrame?: number): Frame | null;

/** The body of the front's HELLO (section 4), with max_frame filled in. Throws ProtocolError. */
export function readFrontHello(body: Uint8Array): { [name: string]: any };
