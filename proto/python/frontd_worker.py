"""Workers for frontd in Python: one file, standard library only, Python 3.9 or newer.

    from frontd_worker import RpcError, Worker, run

    worker = Worker(name="orders", concurrency=64)

    @worker.method("orders.get")
    async def get(id):
        return {"id": id}

    run(worker, "unix:/run/frontd/app-1.sock")

The protocol is proto/PROTOCOL.md; "section" below means a section there. One file is easily copied.

How a request goes: bytes arrive at a _Channel, which takes frames out of them; a REQUEST is made into a _Call
and given to the Worker, which starts it or lets it wait while `concurrency` calls are in progress. A coroutine
handler runs as a task, a plain function in a thread. When it ends, the call makes its RESPONSE and its channel
writes all that one turn of the loop has made at once.

How it ends otherwise: CANCEL, or the loss of the channel, cancels a handler's task; a thread can only be asked
(Context.cancelled). The call keeps its slot until its handler has really ended. A bad frame costs its channel
only. SIGTERM: GOAWAY on each channel, calls taken are finished, then run() returns. What goes to clients unasked
goes by Connection (Context.conn is one) and Worker.publish().
"""

import argparse
import asyncio
import collections
import concurrent.futures
import errno
import fcntl
import inspect
import json
import logging
import os
import signal
import socket
import stat
import struct
import threading
import time

__all__ = ["Connection", "Context", "Frame", "HttpRequest", "HttpResponse", "ProtocolError", "RpcError",
           "Worker", "encode_frame", "read_frame", "read_front_hello", "run"]

# Frame types and flags (section 3).
HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY = 1, 2, 3, 4, 5, 6, 7
PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT = 8, 9, 10, 11, 12
LAST_TYPE, FIRST_EXTENSION = 14, 128
NOTIFY, MORE, BINARY, RETRY = 0x01, 0x02, 0x04, 0x08

MAX_FRAME = 16 * 1024 * 1024  # bytes of payload (section 2)
HELLO_TIMEOUT = 5.0           # seconds (section 4)
PING_AFTER, DEAD_AFTER = 15.0, 45.0  # seconds without traffic, and without an answer to a PING (section 10)
LINGER = 2.0                  # seconds for the front to close after we have said our last
WAITING_MAX = 1000            # calls beyond `concurrency` before reading pauses
THREADS_MAX = 64              # threads for blocking handlers, unless said otherwise
WRITE_BUFFER = 1024 * 1024    # bytes that a front has not read before we read no more of it
PUSH_BUFFER = 4 * 1024 * 1024  # bytes that a front has not read before push() and others fail
PING_MAX, TOPIC_MAX, REASON_MAX = 64, 255, 123  # bytes of a PING's body, a topic, a reason to disconnect
BACKLOG = 128                 # channels waiting to be accepted

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR, CANCELLED = -32602, -32603, -32800

log = logging.getLogger("frontd_worker")
_HEADER = struct.Struct(">IBBHQQII")


class RpcError(Exception):
    """A JSON-RPC error for the client; raise it in a handler. code: an integer; -32000 and below are JSON-RPC's
    and the front's own (section 6).  message: a short text.  data: any JSON value, or None to leave it out."""
    def __init__(self, code, message, data=None):
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.data = code, message, data


class ProtocolError(Exception):
    """The other side broke the protocol: GOAWAY and close (section 2). kind: "parts", "type" or "limit" for a
    bad frame header; "version" where HELLO has no common version; else "protocol"."""
    def __init__(self, text, kind="protocol"):
        super().__init__(text)
        self.kind = kind


# ---- frames (section 2) ----

class Frame(collections.namedtuple("Frame", "type flags call conn meta body blob",
                                   defaults=(0, 0, 0, b"", b"", b""))):
    """One frame: type, flags, call and conn are integers; meta, body and blob are bytes."""
    __slots__ = ()

    @property
    def size(self):
        """Bytes on the wire, header included."""
        return _HEADER.size + len(self.meta) + len(self.body) + len(self.blob)


def encode_frame(frame):
    """Return the bytes of a frame (section 2)."""
    length = len(frame.meta) + len(frame.body) + len(frame.blob)
    head = _HEADER.pack(length, frame.type, frame.flags, 0, frame.call, frame.conn,
                        len(frame.meta), len(frame.blob))
    return b"".join((head, frame.meta, frame.body, frame.blob))


def read_frame(data, offset=0, max_frame=MAX_FRAME):
    """Read the frame that starts at `offset` in `data` (section 2). data: bytes, bytearray or memoryview.
    max_frame: the limit that we announced, bytes of payload.  Returns a Frame, or None when it is not all
    there yet. Raises ProtocolError as soon as the 32 bytes of the header break a rule."""
    if len(data) - offset < _HEADER.size:
        return None
    length, type, flags, _, call, conn, meta_len, blob_len = _HEADER.unpack_from(data, offset)
    if not (HELLO <= type <= LAST_TYPE or type >= FIRST_EXTENSION):
        raise ProtocolError(f"unknown frame type {type}", "type")
    if length > max_frame:
        raise ProtocolError(f"frame of {length} bytes over the limit of {max_frame}", "limit")
    if meta_len + blob_len > length:
        raise ProtocolError("meta and blob longer than the frame", "parts")
    start = offset + _HEADER.size
    if len(data) < start + length:
        return None
    with memoryview(data) as view:
        body, blob = start + meta_len, start + length - blob_len
        return Frame(type, flags, call, conn, bytes(view[start:body]), bytes(view[body:blob]),
                     bytes(view[blob:start + length]))


def _load_json(text):
    """Parse bytes as JSON, strictly; raises ValueError for whatever is wrong with them."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=int)  # which refuses NaN and Infinity
    except RecursionError:
        raise ValueError("nested too deep") from None


def _dump_json(value):
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def read_front_hello(body):
    """Read the body of the front's HELLO (section 4). Returns it as a dict in which `max_frame` (bytes) is
    always set. Raises ProtocolError, of kind "version" when the front does not speak version 1."""
    try:
        hello = _load_json(body)
    except ValueError as error:
        raise ProtocolError(f"bad HELLO: {error}") from None
    if not isinstance(hello, dict) or not isinstance(hello.get("protocol"), list):
        raise ProtocolError("bad HELLO: no list of versions")
    if not any(type(version) is int and version == 1 for version in hello["protocol"]):
        raise ProtocolError("version", "version")
    most = hello.setdefault("max_frame", MAX_FRAME)
    if type(most) is not int or most < 0:
        raise ProtocolError("bad HELLO: max_frame")
    return hello


# ---- what handlers see ----

class Context:
    """What is known about a call besides its params; for handlers that declare a `ctx` parameter. method: its
    name.  params: as they came (dict, list or None).  blob: bytes (section 9, raw messages).  call: id of the
    call.  conn: the client's Connection, None where it does not stay.  meta: what the route adds (section 5),
    a dict.  front: the front's HELLO, a dict.  notify: no response follows.  binary: the blob is a binary
    message.  retry: another worker may have been given this call before.  cancelled: nobody waits for the
    result any more; blocking handlers look at it from time to time, coroutines are cancelled anyway."""
    def __init__(self, frame, method, params, meta, channel):
        self.method, self.params, self.blob = method, params, frame.blob
        self.call, self.meta, self.front = frame.call, meta, channel.front
        self.conn = Connection(channel.worker, frame.conn, channel.instance, channel) if frame.conn else None
        self.notify, self.binary, self.retry = (bool(frame.flags & flag) for flag in (NOTIFY, BINARY, RETRY))
        self.cancelled = False
        self._came = time.monotonic()

    @property
    def peer(self):
        """The client's address, "192.0.2.7:51412", or None where the route does not say."""
        return self.meta.get("peer")

    @property
    def headers(self):
        """The forwarded request headers, lower-case names to values; {} where none are."""
        return self.meta.get("headers", {})

    def message(self):
        """The blob: bytes where it came as a binary message, else str."""
        return self.blob if self.binary else self.blob.decode(errors="replace")

    def remaining(self):
        """Seconds until the deadline, below 0 when it has passed, None where the route gives none."""
        left = self.meta.get("deadline_ms")
        return None if left is None else left / 1000 - (time.monotonic() - self._came)


class Connection:
    """A client's connection that stays (section 9). It may be kept, and its methods may be called at any time
    and from any thread; from another than the loop's they wait until the loop has done it.
    id, instance: its number, and which front's it is. Two are equal where both are the same, and
    Connection(worker, id, instance) makes one that another worker or a database knows.
    What is sent about one connection takes effect in the order sent, the response to its call included. For
    one that has gone it is dropped by the front. push() and the others raise ValueError for what cannot be
    sent, or is over the front's max_frame; ConnectionError when no channel to its front is open; BufferError
    when the front is 4 MiB behind in reading. Then nothing was sent."""
    __slots__ = ("id", "instance", "_worker", "_channel")

    def __init__(self, worker, id, instance, channel=None):
        self.id, self.instance, self._worker, self._channel = id, instance, worker, channel

    def __eq__(self, other):
        return isinstance(other, Connection) and (self.id, self.instance) == (other.id, other.instance)

    def __hash__(self):
        return hash((self.id, self.instance))

    def push(self, message):
        """Send one message to this client (PUSH).
        message: bytes for a binary one, str for any text; else a value that is sent as JSON."""
        self._send(PUSH, **_message_parts(message))

    def ask(self, method, params=None, timeout=30.0):
        """Send a JSON-RPC request to this client, and return its result, on routes with `responses: true` whose
        pool takes frontd.response (section 9). In the loop's thread it is to be awaited.
        params: dict, list or None.  timeout: seconds.  Raises RpcError with the client's error,
        asyncio.TimeoutError where no answer comes in time, and what push() does."""
        asking, worker = self._worker._ask(self, method, params, timeout), self._worker
        other = worker._thread not in (None, threading.get_ident())
        return asyncio.run_coroutine_threadsafe(asking, worker._loop).result() if other else asking

    def subscribe(self, topic):
        """Have this client get what is published to `topic`, a str of 1 to 255 bytes (SUBSCRIBE)."""
        self._send(SUBSCRIBE, meta=_topic_meta(topic))

    def unsubscribe(self, topic=None):
        """End that, for all topics where none is given (UNSUBSCRIBE)."""
        self._send(UNSUBSCRIBE, meta=b"" if topic is None else _topic_meta(topic))

    def disconnect(self, code=1000, reason=""):
        """Close this connection (DISCONNECT). code: WebSocket close code, 1000 to 1003, 1007 to 1014, 3000 to 4999.
        reason: 123 bytes of UTF-8 at most. Other connections than WebSockets are just closed."""
        good = 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
        if type(code) is not int or not good or len(reason.encode()) > REASON_MAX:
            raise ValueError(f"bad close code {code!r}, or a reason over {REASON_MAX} bytes")
        self._send(DISCONNECT, meta=_dump_json({"code": code, "reason": reason}))

    def _send(self, type, **parts):
        frame = Frame(type, conn=self.id, **parts)
        self._worker._in_loop(lambda: self._worker._channel_to(self.instance, self._channel).push(frame))


def _message_parts(message):
    if isinstance(message, (bytes, bytearray, memoryview)):
        return {"flags": BINARY, "blob": bytes(message)}
    return {"blob": message.encode()} if isinstance(message, str) else {"body": _dump_json(message)}


def _topic_meta(topic):
    if not isinstance(topic, str) or not 1 <= len(topic.encode()) <= TOPIC_MAX:
        raise ValueError(f"a topic is a str of 1 to {TOPIC_MAX} bytes")
    return _dump_json({"topic": topic})


class HttpRequest:
    """A request on a route of kind `http` (section 8), the argument of an http handler. method, scheme,
    authority, path, query: str.  headers: list of (name, value), names lower-case.  body: bytes.  ctx: the Context."""
    def __init__(self, ctx):
        params = ctx.params if isinstance(ctx.params, dict) else {}
        for name in ("method", "scheme", "authority", "path", "query"):
            setattr(self, name, params.get(name) or "")
        self.headers = [(name, value) for name, value in params.get("headers") or []]
        self.body, self.ctx = ctx.blob, ctx

    def header(self, name, default=None):
        """The value of the first header of that name, in any case of letters, or `default`."""
        return next((value for key, value in self.headers if key == name.lower()), default)


class HttpResponse:
    """What an http handler returns (section 8). body: bytes, or str, which is sent as UTF-8.  status: 200 to
    599.  headers: a dict or a list of (name, value); content-length is the front's business.  Raises
    ValueError for a header that could end the head early or a bad status; TypeError for another body."""
    def __init__(self, body=b"", status=200, headers=()):
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.headers = [(str(name).lower(), str(value)) for name, value in pairs]
        if any(c in name + value for name, value in self.headers for c in "\r\n\0"):
            raise ValueError("line break in a header")
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"bad status {status!r}")
        if not isinstance(body, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"a body is bytes or str, not {type(body).__name__}")
        self.status, self.body = status, body.encode() if isinstance(body, str) else bytes(body)


class _Handler:
    """A registered function and how it is called: with the params, or with what `make(ctx)` returns."""
    def __init__(self, function, make=None, http=False):
        self.function, self.make, self.http = function, make, http
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = inspect.signature(function)
        params = self.signature.parameters
        self.ctx = params.get("ctx")
        self.visible = self.signature.replace(parameters=[p for name, p in params.items() if name != "ctx"])

    def bind(self, ctx):
        """Return (args, kwargs) for a call; raises RpcError -32602 when its params do not fit."""
        if self.make is not None:
            try:
                return self.make(ctx), {}
            except (TypeError, ValueError):
                raise RpcError(INVALID_PARAMS, "invalid params") from None
        params = ctx.params
        args, kwargs = ((), params) if isinstance(params, dict) else (params or (), {})
        try:
            if self.ctx and self.ctx.kind is not self.ctx.POSITIONAL_ONLY and "ctx" in kwargs:
                raise TypeError("got an unexpected keyword argument 'ctx'")
            bound = self.visible.bind(*args, **kwargs)
        except TypeError as error:
            # The text may quote a name that the client chose, of any length.
            raise RpcError(INVALID_PARAMS, f"invalid params: {str(error)[:200]}") from None
        if self.ctx:
            bound = inspect.BoundArguments(self.signature, {**bound.arguments, "ctx": ctx})
        return bound.args, bound.kwargs


class _Call:
    """A REQUEST from its frame to its RESPONSE. `work` is the handler's future while it runs."""
    def __init__(self, channel, ctx, id, handler, arguments):
        self.channel, self.ctx, self.id = channel, ctx, id
        self.handler, self.arguments, self.work = handler, arguments, None

    def cancel(self):
        """Nobody waits any more. A thread that runs cannot be stopped: then only the flag is set."""
        self.ctx.cancelled = True
        if self.work is not None:
            self.work.cancel()

    def failure(self):
        """After `work` is done or cancelled unstarted: the RpcError that it ended with, or None."""
        if self.work is None or self.work.cancelled():
            return RpcError(CANCELLED, "cancelled")
        error = self.work.exception()
        if error is None or isinstance(error, RpcError):
            return error
        log.error("%s failed", self.ctx.method, exc_info=error)
        return RpcError(INTERNAL_ERROR, "internal error")

    def outcome(self):
        """The same as (member, value, blob) of the response."""
        error = self.failure()
        if error is not None:
            return _error(error)
        result = self.work.result()
        if not self.handler.http:
            return "result", result, b""
        if not isinstance(result, HttpResponse):
            result = HttpResponse(result)
        return "result", {"status": result.status, "headers": result.headers}, result.body


def _error(error):
    data = {} if error.data is None else {"data": error.data}
    return "error", {"code": error.code, "message": error.message, **data}, b""


def _id_text(request, body):
    """The request's id as JSON text; a number with a fraction or exponent keeps its own digits."""
    id = request.get("id")
    if isinstance(id, float):
        return json.loads(body, parse_float=str)["id"].encode()
    return _dump_json(id) if isinstance(id, (str, int)) and not isinstance(id, bool) else b"null"


# ---- one channel (section 1) ----

class _Channel(asyncio.Protocol):
    """A connection from a front's shard. asyncio calls connection_made() to resume_writing()."""
    def __init__(self, worker):
        self.worker = worker
        self.loop = asyncio.get_running_loop()
        self.front = None       # its HELLO, once it has come
        self.instance = None    # of that: the same for every channel of one front
        self.calls, self.last_call = {}, 0  # id -> _Call that a RESPONSE is owed for; the highest taken
        self.leaving = False    # we have sent GOAWAY: no new calls
        self.going = self.ended = False  # the front has sent it; has closed its side
        self.staying = False    # the front goes, and its next channel may be waited for
        self.pushed = False     # something was sent that is no answer
        self.closing = False    # nothing more is sent, and what comes is thrown away
        self.holding = False    # what is for clients waits until the front has closed
        self.blocked = False    # the front does not read
        self.input, self.output = bytearray(), bytearray()  # frames of this turn, or those that are held
        self.pinged, self.heard = None, self.loop.time()  # when our PING went out if nothing has come since

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.worker._channels[self] = None
        self.timer = self.loop.call_later(HELLO_TIMEOUT, self._fail, ProtocolError("no HELLO in time"))
        if self.worker._stopping:
            self.go_away("shutdown")

    def connection_lost(self, error):
        self.closing = True
        self.timer.cancel()
        self._drop_calls()
        self.worker._forget(self)
        self.input = bytearray()  # a Connection that is kept keeps this object
        self.worker._check_stopped()

    def eof_received(self):
        """The front has closed, perhaps its side only, and reads on: what waits is written first."""
        self.ended = True
        if not self._awaits_other():
            self._close()
        return not self.closing  # else asyncio closes it

    def data_received(self, data):
        self.heard, self.pinged = self.loop.time(), None
        if not self.closing:
            self.input += data
            self.parse()

    def pause_writing(self):
        self.blocked = True
        self.update_reading()

    def resume_writing(self):
        self.blocked = False
        self.parse()

    def update_reading(self):
        """Read only while the front reads too, and while there is room for more calls."""
        if self.transport.is_closing():
            return
        stopped = (self.blocked or self.worker._full()) and not self.closing
        (self.transport.pause_reading if stopped else self.transport.resume_reading)()

    def parse(self):
        """Handle the frames that are there, as long as there is room for what they bring."""
        offset = 0
        try:
            while not self.closing and not self.blocked and not self.worker._full():
                frame = read_frame(self.input, offset, self.worker.max_frame)
                if frame is None:
                    break
                offset += frame.size
                self._on_frame(frame)
        except ProtocolError as error:
            self._fail(error)
        del self.input[:len(self.input) if self.closing else offset]
        self.update_reading()

    def _on_frame(self, frame):
        if frame.type >= FIRST_EXTENSION:
            return
        if frame.type == GOAWAY:
            log.info("%s goes away: %r", self._name(), frame.body[:200])
            self.going = self.staying = True
            self.loop.call_later(LINGER, self._close_if_done, True)
            self._close_if_done()
        elif self.front is None:
            self._on_hello(frame)
        elif frame.type == REQUEST:
            self._on_request(frame)
        elif frame.type == CANCEL:
            if frame.call in self.calls:  # else its response has crossed the CANCEL
                self.worker._cancel(self.calls[frame.call])
        elif frame.type == PING and len(frame.body) <= PING_MAX:
            self._send(Frame(PONG, body=frame.body))
        elif frame.type not in (PONG, LAST_TYPE):  # WINDOW: we send no DATA; else wrong by itself (section 11)
            log.warning("%s: a frame of type %d is dropped", self._name(), frame.type)

    def _on_hello(self, frame):
        if frame.type != HELLO:
            raise ProtocolError(f"frame type {frame.type} before HELLO")
        self.front = read_front_hello(frame.body)
        self.instance = str(self.front.get("instance", ""))
        self._send(Frame(HELLO, body=_dump_json(self.worker._hello())))
        self.timer.cancel()
        self.timer = self.loop.call_later(self.worker.ping_after, self._tick)
        for channel in self.worker._of(self.instance):
            channel._close_if_done()

    def _on_request(self, frame):
        notify = bool(frame.flags & NOTIFY)
        if frame.flags & MORE:
            raise ProtocolError("streamed REQUEST without feature stream")
        if frame.call <= self.last_call and not (notify and frame.call == 0):
            raise ProtocolError(f"call id {frame.call} after {self.last_call}")
        if self.leaving:
            return  # it crossed our GOAWAY: the front gives it to another worker
        try:
            meta = _load_json(frame.meta) if frame.meta else {}
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise ProtocolError("meta is not a JSON object")
        self.last_call = max(self.last_call, frame.call)
        id = b"null"
        try:
            request = self._read_request(frame)
            id = _id_text(request, frame.body)
            ctx = Context(frame, request["method"], request.get("params"), meta, self)
            if notify and ctx.method == "frontd.response" and self.worker._answered(ctx):
                return
            handler = self.worker._handlers.get(ctx.method)
            if handler is None:
                raise RpcError(METHOD_NOT_FOUND, "method not found")
            call = _Call(self, ctx, id, handler, handler.bind(ctx))
        except RpcError as error:
            if not notify:
                self._respond_error(frame.call, id, error)
            return
        if not notify:
            self.calls[frame.call] = call
        self.worker._take(call)

    def _read_request(self, frame):
        try:
            request = _load_json(frame.body)
        except ValueError:
            raise RpcError(PARSE_ERROR, "parse error") from None
        if (not isinstance(request, dict) or not isinstance(request.get("method"), str)
                or not isinstance(request.get("params", {}), (dict, list))):
            raise RpcError(INVALID_REQUEST, "invalid request")
        return request

    def finish(self, call):
        """Answer a call that has ended; with the channel gone, the answer is dropped."""
        if call.ctx.notify or self.closing:
            call.failure()  # which is in the log, at least
            return
        del self.calls[call.ctx.call]
        try:
            member, value, blob = call.outcome()
            self._respond(call.ctx.call, call.id, member, value, blob)
        except (TypeError, ValueError, RecursionError) as error:
            log.error("%s: its result cannot be sent: %s", call.ctx.method, error)
            self._respond_error(call.ctx.call, call.id, RpcError(INTERNAL_ERROR, "internal error"))
        self._close_if_done()

    def _respond_error(self, call, id, error):
        """Answer with an error; without the id where that, being the client's, is too long."""
        for text in (id, b"null"):
            try:
                return self._respond(call, text, *_error(error))
            except ValueError:
                pass
        self._fail(ProtocolError("max_frame has no room for an error"))

    def _respond(self, call, id, member, value, blob):
        body = b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (id, member.encode(), _dump_json(value))
        if len(body) + len(blob) > self.front["max_frame"]:
            raise ValueError(f"{len(body) + len(blob)} bytes are over the front's max_frame")
        self._send(Frame(RESPONSE, call=call, body=body, blob=blob))

    def is_open(self):
        """Whether frames about connections can be sent."""
        return self.holding or not (self.front is None or self.closing or self.transport.is_closing())

    def push(self, frame):
        """Send a frame that is no answer: what is not read by the front has its limit here."""
        size = frame.size - _HEADER.size
        if size > self.front["max_frame"]:
            raise ValueError(f"{size} bytes are over the front's max_frame")
        if len(self.output) + self.transport.get_write_buffer_size() > PUSH_BUFFER:
            self._flush()
            if len(self.output) + self.transport.get_write_buffer_size() > PUSH_BUFFER:
                raise BufferError(f"{self._name()} does not read")
        self.pushed = True
        self._send(frame)

    def _send(self, frame):
        if not self.closing or self.holding:
            self.take(encode_frame(frame))

    def take(self, data):
        """Send encoded frames when the turn ends."""
        if not self.output:
            self.loop.call_soon(self._flush)
        self.output += data

    def _flush(self):
        if not self.holding:
            data, self.output = self.output, bytearray()
            if data and not self.transport.is_closing():
                self.transport.write(data)

    def go_away(self, reason):
        """Take no more calls, finish those taken, then close (section 7)."""
        if not self.leaving:
            self.leaving = True
            self._send(Frame(GOAWAY, body=_dump_json({"reason": reason, "last_call": self.last_call})))
            self._close_if_done()

    def _awaits_other(self):
        """Whether what is pushed meanwhile would have nowhere to go: the front reads on until we close, and
        its next shards dial us, but none has been heard of yet. Where it stops none comes: for LINGER."""
        front = self.worker._of(self.instance) if self.staying and not self.leaving else []
        return any(c.pushed for c in front) and not any(c.is_open() and not c.going for c in front)

    def _close_if_done(self, late=False):
        self.staying = self.staying and not late
        if (self.leaving or self.going) and (self.ended or not self.calls) and not self._awaits_other():
            self._close()

    def _fail(self, error):
        log.warning("%s is closed: %s", self._name(), error)
        self.leaving = False  # a protocol error is told even after a first GOAWAY
        self.go_away(str(error))
        self._close()

    def _close(self):
        """End our direction first and wait for the front's end: closing while bytes from it are unread would reset
        the connection and could lose what we said last. Where the front goes, its end tells that what we said has
        taken effect: what comes now is held until then, and is sent on another channel, so that the order stays."""
        if self.closing:
            return
        self._flush()
        self.closing = True
        if not (self.leaving or self.ended):
            self.holding = any(c.is_open() and not c.holding for c in self.worker._of(self.instance))
        self.timer.cancel()
        self._drop_calls()
        self.update_reading()
        if self.transport.is_closing():
            return
        try:
            (self.transport.close if self.ended else self.transport.write_eof)()
        except OSError:  # reset by the front meanwhile
            self.transport.abort()
        self.timer = self.loop.call_later(
            self.worker.dead_after if self.ended else LINGER, self.transport.abort)

    def _drop_calls(self):
        calls, self.calls = self.calls, {}
        for call in calls.values():
            self.worker._cancel(call)

    def _tick(self):
        """Section 10: PING after silence; close when nothing comes back, unless calls are in progress."""
        now = self.loop.time()
        wait = self.worker.ping_after - (now - self.heard)
        if self.pinged is not None:
            wait = self.worker.dead_after - (now - self.pinged)
            if wait <= 0 and self.worker._running == 0:
                self._fail(ProtocolError("timeout"))
                return
        elif wait <= 0:
            self._send(Frame(PING))
            self.pinged, wait = now, self.worker.dead_after
        # An answered PING starts the silence anew, so look again after that long at the latest.
        most = self.worker.ping_after
        self.timer = self.loop.call_later(min(wait, most) if wait > 0 else most, self._tick)

    def _name(self):
        front = self.front or {}
        return "channel of {} shard {}".format(front.get("front", "a front"), front.get("shard", "?"))


# ---- the worker ----

class Worker:
    """A worker: its handlers, and the calls in progress over all its channels.
    name: what the front shows for it.  concurrency: calls in progress at once, 0 for no limit (section 4);
    what comes beyond it waits.  threads: most threads for plain functions (default: `concurrency`, at most
    64).  max_frame: largest payload taken, bytes.  ping_after, dead_after: seconds, section 10.
    Handlers get the params as positional or keyword arguments, and the Context where they declare a parameter
    `ctx`. What they return is the result, any JSON value. They raise RpcError for an error of their own; any
    other exception is logged and the client gets -32603."""
    def __init__(self, name=None, concurrency=64, threads=None, max_frame=MAX_FRAME,
                 ping_after=PING_AFTER, dead_after=DEAD_AFTER):
        if not all(type(number) is int and number >= 0 for number in (concurrency, max_frame)):
            raise ValueError("concurrency and max_frame are whole numbers from 0")
        self.name, self.concurrency, self.threads = name, concurrency, threads
        self.max_frame, self.ping_after, self.dead_after = max_frame, ping_after, dead_after
        self._handlers = {}
        self._loop = self._thread = None     # once it serves
        self._channels = {}                  # _Channel -> None, the oldest first
        self._usual = {}                     # instance -> _Channel, see _channel_to()
        self._waiting = collections.deque()  # calls for which `concurrency` has no room yet
        self._running = 0                    # handlers in progress, notifications' included
        self._asked, self._token = {}, os.urandom(8).hex()  # (Connection, id) -> future; how our ids begin
        self._stopping = False

    def method(self, name=None):
        """Decorator: the function answers JSON-RPC method `name` (default: its own name), section 5. A coroutine
        function runs in the event loop, a plain one in a thread. Raises ValueError when the name is taken."""
        return lambda function: self._add(name or function.__name__, _Handler(function))

    def http(self, function):
        """Decorator: the function answers the requests of `http` routes (section 8). It is given an HttpRequest and
        returns an HttpResponse, or bytes or str for a plain 200. Raises ValueError when there is one already."""
        return self._add("http.request", _Handler(function, lambda ctx: (HttpRequest(ctx),), http=True))

    def event(self, name):
        """Decorator: the function is called with the Context, ctx.conn being the connection (section 9).
        "connect": a client has come, on routes with `events: true`; ctx.params is {"conn", "path", "query",
        "headers", "peer"}. Where the route says `connect: ask`, an RpcError refuses the client.  "disconnect": it has gone;
        ctx.params is {"conn", "code"}.  "response": with `responses: true`, a Response that is not for ask(),
        {"conn", "response"}.
        "message": each message on routes with `messages: raw`; it is ctx.message(). What is returned is
        thrown away, answer with ctx.conn.push()."""
        return lambda function: self._add(f"frontd.{name}", _Handler(function, lambda ctx: (ctx,)))

    def publish(self, topic, message, after=None):
        """Send one message to every client that has subscribed to `topic` (PUBLISH, section 9). topic, message,
        threads: see Connection.  after: a Connection: what was sent about it before takes effect before. Sent
        once to each front; raises as Connection says when to none."""
        frame = Frame(PUBLISH, meta=_topic_meta(topic), **_message_parts(message))
        self._in_loop(lambda: self._publish(frame, after))

    def run(self, address):
        """Serve `address` until SIGTERM or SIGINT, then finish the calls taken and return. address: "unix:PATH",
        "tcp://HOST:PORT" or "tcp://[V6]:PORT". A socket inherited as descriptor 3 (LISTEN_FDS, and LISTEN_PID
        where set) is used instead where there is one. A second signal ends the process at once. Raises OSError
        or ValueError when it cannot listen."""
        asyncio.run(self.serve(address, signals=True))

    async def serve(self, address, signals=False):
        """Like run(), inside a running event loop, once per Worker. signals: handle SIGTERM and SIGINT."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._stopped = asyncio.Event()
        threads = self.threads or min(self.concurrency or THREADS_MAX, THREADS_MAX)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "handler")
        # Before anybody can see the socket: who sees it may send SIGTERM.
        for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._server, self._listener = None, _open_listener(address)
        try:
            # create_server() takes UNIX sockets too, and unlike its sister it never unlinks one.
            self._server = await self._loop.create_server(
                lambda: _Channel(self), sock=self._listener.socket, backlog=BACKLOG)
            log.info("listening on %s", self._listener.name)
            if self._stopping:
                self._leave()
            await self._stopped.wait()
        finally:  # nothing is left to do here unless we were cancelled
            if self._server is not None:
                self._server.close()
            for channel in self._channels:
                channel.transport.abort()
            self._listener.close()
            self._threads.shutdown(wait=False)

    def stop(self):
        """Say GOAWAY on every channel, take no more calls, finish those taken (section 7), whose asking ends with
        ConnectionError. Call it in the event loop; serve() returns when all is done."""
        if not self._stopping:
            self._stopping = True
            if self._server is not None:  # else serve() does it as soon as there is one
                self._leave()

    def _leave(self):
        self._server.close()
        self._listener.close()
        for answer in self._asked.values():
            answer.done() or answer.set_exception(ConnectionError("the worker stops"))
        for channel in list(self._channels):
            channel.go_away("shutdown")
        self._check_stopped()

    def _on_signal(self, number):
        if self._stopping:
            os._exit(128 + number)
        log.info("stopping, %d calls in progress", self._running + len(self._waiting))
        self.stop()

    def _add(self, name, handler):
        if name in self._handlers:
            raise ValueError(f"{name} has a handler already")
        self._handlers[name] = handler
        return handler.function

    def _hello(self):
        hello = {"protocol": 1, "pid": os.getpid(), "concurrency": self.concurrency,
                 "max_frame": self.max_frame, "methods": sorted(self._handlers),
                 "features": ["push"], "responses": self._token}
        return hello if self.name is None else {**hello, "name": self.name}

    def _forget(self, channel):
        self._channels.pop(channel, None)
        if self._usual.get(channel.instance) is channel:
            del self._usual[channel.instance]
        held, channel.holding = channel.holding and channel.output, False
        if held:
            try:
                self._channel_to(channel.instance).take(held)
            except ConnectionError as error:
                log.warning("%d bytes of messages are lost: %s", len(held), error)

    def _of(self, instance):
        return [c for c in self._channels if c.instance == instance]

    def _channel_to(self, instance, channel=None):
        """A channel of that front: the one given while it is open, else the usual one, which is the same until it
        has closed, since between two there is no order; then the oldest, those that go away last."""
        if channel is None or not channel.is_open():
            channel = self._usual.get(instance)
        if channel is None or not channel.is_open():
            found = [c for c in self._of(instance) if c.is_open()]
            if not found:
                raise ConnectionError("no channel is open to this connection's front")
            channel = self._usual[instance] = min(found, key=lambda c: (c.holding, c.going))
        return channel

    def _publish(self, frame, after):
        errors, instances = [], {c.instance for c in self._channels if c.is_open()}
        for instance in instances:
            first = after._channel if after is not None and after.instance == instance else None
            try:
                self._channel_to(instance, first).push(frame)
            except (ValueError, BufferError) as error:
                errors.append(error)
        if len(errors) == len(instances):
            raise errors[-1] if errors else ConnectionError("no channel is open")

    async def _ask(self, conn, method, params, timeout):
        if self._stopping:
            raise ConnectionError("the worker stops")  # no front gives it anything any more
        id, more = f"{self._token}.{os.urandom(8).hex()}", {} if params is None else {"params": params}
        answer = self._asked[conn, id] = self._loop.create_future()
        try:
            conn.push({"jsonrpc": "2.0", "id": id, "method": method, **more})
            response = await asyncio.wait_for(answer, timeout)
        finally:
            self._asked.pop((conn, id), None)
        if (error := response.get("error")) is not None:
            raise RpcError(error["code"], error["message"], error.get("data"))
        return response["result"]

    def _answered(self, ctx):
        """Whether a client's Response is to one of our requests, in time or not."""
        id = str(ctx.params["response"].get("id"))
        if (answer := self._asked.pop((ctx.conn, id), None)) is not None and not answer.done():
            answer.set_result(ctx.params["response"])
        return id.startswith(self._token)

    def _in_loop(self, function):
        """Call `function` in the loop's thread, from another one too, and raise what it raises."""
        if self._thread in (None, threading.get_ident()):
            return function()

        async def call():
            return function()
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _full(self):
        return len(self._waiting) >= WAITING_MAX

    def _take(self, call):
        busy = self.concurrency and self._running >= self.concurrency
        (self._waiting.append if busy else self._start)(call)

    def _start(self, call):
        self._running += 1
        function, (args, kwargs) = call.handler.function, call.arguments
        if call.handler.is_async:
            call.work = self._loop.create_task(function(*args, **kwargs))
            call.work.add_done_callback(lambda _: self._ended(call))
        else:
            call.work = self._threads.submit(function, *args, **kwargs)
            call.work.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._ended, call))

    def _ended(self, call):
        self._running -= 1
        call.channel.finish(call)
        if self._waiting:
            self._unwait(self._waiting[0])
        self._check_stopped()

    def _unwait(self, call, start=True):
        """Take a call out of the queue; channels that had to stop for a full one go on."""
        if self._full():
            for channel in self._channels:
                self._loop.call_soon(channel.parse)
        self._waiting.remove(call)
        if start:
            self._start(call)

    def _cancel(self, call):
        call.cancel()
        if call.work is None:
            self._unwait(call, start=False)
            call.channel.finish(call)

    def _check_stopped(self):
        if self._stopping and not (self._channels or self._running or self._waiting):
            self._stopped.set()


# ---- where it listens (section 1) ----

class _Listener:
    """A listening socket; `path` where we made a socket file, which is ours to unlink."""
    def __init__(self, socket, name, path=None):
        self.socket, self.name, self.path = socket, name, path
        self.status = path and os.lstat(path)

    def close(self):
        """Close it, and unlink its file unless somebody else's is there by now."""
        self.socket.close()
        path, self.path = self.path, None
        try:
            if path and os.path.samestat(os.lstat(path), self.status):
                os.unlink(path)
        except FileNotFoundError:
            pass


def _open_listener(address):
    if (inherited := _inherited_socket()) is not None:
        return _Listener(inherited, "descriptor 3")
    if address.startswith("unix:"):
        return _open_unix(address[len("unix:"):])
    if address.startswith("tcp://"):
        return _open_tcp(address)
    raise ValueError(f"{address}: neither unix:PATH nor tcp://HOST:PORT")


def _inherited_socket():
    """Descriptor 3, as systemd and frontd pass it; the variables are not for our children."""
    count, pid = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    if count is None or (pid is not None and pid != str(os.getpid())):
        return None
    if count != "1":
        raise ValueError(f"LISTEN_FDS is {count}, one socket is wanted")
    os.set_inheritable(3, False)
    inherited = socket.socket(fileno=3)
    if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError("descriptor 3 is not a listening socket")
    return inherited


def _open_tcp(address):
    host, _, port = address[len("tcp://"):].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address}: not tcp://HOST:PORT")
    family, *_, name = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    listening = socket.create_server(name, family=family, backlog=BACKLOG,
                                     dualstack_ipv6=family == socket.AF_INET6)
    return _Listener(listening, f"tcp://{host}:{listening.getsockname()[1]}")


def _open_unix(path):
    if not path or path[0] in "@\0":
        raise ValueError(f"unix:{path}: a path is wanted; abstract sockets have no permissions")
    path = os.path.abspath(path)
    # Of two workers that find the same stale file, the second must not unlink what the first has
    # made meanwhile, so one at a time looks and binds. A lock on the folder leaves nothing behind.
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o117)  # mode 0660 from birth
        try:
            listening.bind(path)
        finally:
            os.umask(mask)
        listening.listen(BACKLOG)
        return _Listener(listening, f"unix:{path}", path)
    finally:
        os.close(folder)


def _remove_stale(path):
    """Unlink a socket file that nobody listens on; anything else that is there raises OSError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is an answer too
        result = probe.connect_ex(path)
    if result != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, "somebody listens there already", path)
    os.unlink(path)


def run(worker, default_address, argv=None):
    """A worker's main(): read --listen and --concurrency, then worker.run(). default_address: where to listen
    unless --listen says otherwise, see Worker.run().  argv: the arguments, default sys.argv[1:]. Logs to stderr
    unless logging is set up already. Exits with 1 and a message when it cannot listen."""
    parser = argparse.ArgumentParser(description=f"frontd worker {worker.name or ''}".strip())
    parser.add_argument("--listen", default=default_address, metavar="ADDRESS",
                        help="unix:PATH or tcp://HOST:PORT (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=worker.concurrency, metavar="N",
                        help="calls in progress at once, 0: no limit (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.concurrency < 0:
        parser.error("--concurrency is below 0")
    worker.concurrency = options.concurrency
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        worker.run(options.listen)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {options.listen}: {error}\n")
