"""Workers for frontd in Python: standard library only, Python 3.9 or newer.

    from frontd_worker import RpcError, Worker, run

    worker = Worker(name="orders", concurrency=64)

    @worker.method("orders.get")
    async def get(id):
        return {"id": id}

    run(worker, "unix:/run/frontd/app-1.sock")

The protocol is proto/PROTOCOL.md; "section" means a section there. From the bottom to the top:

    frames      frames and HELLO: bytes to values and back
    protocol    one channel without I/O: a state, bytes and calls in, events and bytes out
    connection  a client's connection, and what is pushed to it
    handlers    Context, HttpRequest, HttpResponse; how a handler is called; a call until its response
    channel     one channel over asyncio
    listen      the socket where it listens
    worker      Worker, run()

How a request goes: bytes arrive at a Channel, its Protocol makes a Request of them; a Call is made of that
and given to the Worker, which starts it or lets it wait while `concurrency` calls are in progress. A coroutine
handler runs as a task, a plain function in a thread. When it ends, its channel answers, and writes all that one
turn of the loop has made at once.

How it ends otherwise: CANCEL, or the loss of the channel, cancels a handler's task; a thread can only be asked
(Context.cancelled). The call keeps its slot until its handler has really ended. A bad frame costs its channel
only. SIGTERM: GOAWAY on each channel, calls taken are finished, then run() returns. What goes to clients unasked
goes by Connection (Context.conn is one) and Worker.publish().
"""

from .connection import Connection
from .frames import CANCELLED, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from .frames import Frame, ProtocolError, RpcError, encode_frame, read_frame, read_front_hello
from .handlers import Context, HttpRequest, HttpResponse, server_event
from .worker import Worker, run

__all__ = ["CANCELLED", "INTERNAL_ERROR", "INVALID_PARAMS", "INVALID_REQUEST", "METHOD_NOT_FOUND", "PARSE_ERROR",
           "Connection", "Context", "Frame", "HttpRequest", "HttpResponse", "ProtocolError", "RpcError",
           "Worker", "encode_frame", "read_frame", "read_front_hello", "run", "server_event"]
