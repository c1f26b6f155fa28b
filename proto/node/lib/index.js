// Workers for frontd in Node.js, without dependencies. The protocol is proto/PROTOCOL.md; "section" means a section there.
// From the bottom to the top:
//
//   frames      frames and HELLO: bytes to values and back; errors
//   protocol    one channel without I/O: a state, bytes and calls in, events and bytes out
//   connection  a client's connection, and what is pushed to it
//   handlers    Context, HttpRequest, HttpResponse; how a handler is called; a call until its response
//   channel     one channel over a socket
//   listen      the socket where it listens
//   worker      Worker, run()
//
// How a request goes: bytes arrive at a Channel, its Protocol makes a request of them; a Call is made of that and given to
// the Worker, which starts it or lets it wait while `concurrency` calls are in progress. When the handler's promise is
// settled its channel answers, and writes all that one turn of the loop has made at once.
//
// How it ends otherwise: CANCEL, or the loss of the channel, aborts Context.signal; a promise cannot be stopped, so the
// call keeps its slot until its handler has really ended. A bad frame costs its channel only. SIGTERM: GOAWAY on each
// channel, calls taken are finished, then run() ends. What goes to clients unasked goes by Connection (Context.conn is
// one) and Worker.publish().

export { Connection } from "./connection.js";
export {
  CANCELLED, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR,
  BufferError, ConnectionError, ProtocolError, RpcError, TimeoutError, encodeFrame, readFrame, readFrontHello,
} from "./frames.js";
export { Context, HttpRequest, HttpResponse, serverEvent } from "./handlers.js";
export { Worker, run } from "./worker.js";
