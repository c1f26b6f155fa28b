"""What handlers are given and return, how they are called with it, and a call from its REQUEST to its RESPONSE."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterable, Iterator, Mapping, Optional, Union

from .connection import Connection, message_parts
from .frames import BINARY, CANCELLED, INTERNAL_ERROR, INVALID_PARAMS, MORE, NOTIFY, PUSH, RETRY, Frame, RpcError
from .protocol import Request

if TYPE_CHECKING:
    from .channel import Channel

log = logging.getLogger("frontd_worker")


class Context:
    """What is known about a call besides its params; for handlers that declare a `ctx` parameter. method: its
    name.  params: as they came (dict, list or None).  blob: bytes (section 9, raw messages).  call: id of the
    call.  conn: the client's Connection, None where it does not stay.  meta: what the route adds (section 5),
    a dict.  front: the front's HELLO, a dict.  notify: no response follows.  binary: the blob is a binary
    message.  retry: another worker may have been given this call before.  state: of "rebound", what was kept.
    cancelled: the result is not waited for any more; blocking handlers look at it from time to time, coroutines are
    cancelled anyway."""
    def __init__(self, request: Request, channel: Channel) -> None:
        front, instance = channel.protocol.front or {}, channel.protocol.instance or ""
        self.method, self.params, self.blob = request.method, request.params, request.blob
        self.call, self.meta, self.front = request.call, request.meta, front
        self.conn = Connection(channel.worker, request.conn, instance, channel) if request.conn else None
        self.notify, self.binary, self.retry = (bool(request.flags & flag) for flag in (NOTIFY, BINARY, RETRY))
        self.state = request.blob if request.method == "frontd.rebound" else b""
        self.cancelled = False
        self.parts: Optional[Parts] = None
        if channel.protocol.parts and request.method == "http.request":
            self.parts = Parts(channel, request.call, request.blob, not request.flags & MORE)
        self._came, self._channel = time.monotonic(), channel

    @property
    def peer(self) -> Optional[str]:
        """The client's address, "192.0.2.7:51412", or None where the route does not say."""
        return self.meta.get("peer")

    @property
    def headers(self) -> dict[str, str]:
        """The forwarded request headers, lower-case names to values; {} where none are."""
        return self.meta.get("headers", {})

    def message(self) -> Union[bytes, str]:
        """The blob: bytes where it came as a binary message, else str."""
        return self.blob if self.binary else self.blob.decode(errors="replace")

    @property
    def wants_progress(self) -> bool:
        """Whether the client is told what progress() says (section 8)."""
        return self.meta.get("progress") is True

    def progress(self, message: Any) -> None:
        """Tell the client of progress before the call is answered, on routes with `progress: true`; for a client that
        does not want it, nothing is sent. message, threads and errors: as of Connection.push(), but over HTTP no bytes."""
        if self.wants_progress:
            frame = Frame(PUSH, call=self.call, **message_parts(message))
            self._channel.worker._in_loop(lambda: self._channel.push(frame))

    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, below 0 when it has passed, None where the route gives none."""
        left = self.meta.get("deadline_ms")
        return None if left is None else left / 1000 - (time.monotonic() - self._came)


class Parts:
    """The body of an HttpRequest as it comes: an iterator of bytes, asynchronous for a coroutine, plain for a
    function. One that comes whole is one part. While no part is asked for, the client is held up. Raises
    RpcError -32800 where the client has gone."""
    def __init__(self, channel: Channel, call: int, first: bytes, whole: bool) -> None:
        self._channel, self._call = channel, call
        self._first = first
        self._ready: collections.deque[bytes] = collections.deque()
        self._whole, self._cancelled = whole, False
        self._more = asyncio.Event()

    def add(self, blob: bytes, last: bool) -> None:
        """More has come. last: that is all."""
        if blob:
            self._ready.append(blob)
        self._whole = last
        self._more.set()

    def cancel(self) -> None:
        """Nothing more comes."""
        self._cancelled = True
        self._more.set()

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> bytes:
        if self._first:  # which came with the REQUEST, and takes nothing of the window
            first, self._first = self._first, b""
            return first
        while not self._ready:
            if self._cancelled:
                raise RpcError(CANCELLED, "cancelled")
            if self._whole:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        part = self._ready.popleft()
        self._channel.took(self._call, len(part))
        return part

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> bytes:
        async def next_or_none() -> Optional[bytes]:
            try:
                return await self.__anext__()
            except StopAsyncIteration:
                return None
        part = asyncio.run_coroutine_threadsafe(next_or_none(), self._channel.loop).result()
        if part is None:
            raise StopIteration
        return part


class HttpRequest:
    """A request on a route of kind `http` (section 8), the argument of an http handler. method, scheme,
    authority, path, query: str.  headers: list of (name, value), names lower-case.  body: bytes.  ctx: the Context.
    parts: the body as it comes, for handlers that ask for it by http(parts=True); then `body` is its beginning."""
    def __init__(self, ctx: Context) -> None:
        params = ctx.params if isinstance(ctx.params, dict) else {}
        self.method: str = params.get("method") or ""
        self.scheme: str = params.get("scheme") or ""
        self.authority: str = params.get("authority") or ""
        self.path: str = params.get("path") or ""
        self.query: str = params.get("query") or ""
        self.headers: list[tuple[str, str]] = [(name, value) for name, value in params.get("headers") or []]
        self.body, self.ctx, self.parts = ctx.blob, ctx, ctx.parts

    def header(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """The value of the first header of that name, in any case of letters, or `default`."""
        return next((value for key, value in self.headers if key == name.lower()), default)


class HttpResponse:
    """What an http handler returns (section 8). body: bytes, or str, which is sent as UTF-8; or a generator of
    these, asynchronous or not, whose parts go out as they come.  status: 200 to 599.  headers: a dict or a
    list of (name, value); content-length is the front's business, but for a generator: then a body of another
    length counts as broken off.  Raises ValueError for a header that could end the head early or a bad status;
    TypeError for another body."""
    def __init__(self, body: Union[bytes, bytearray, memoryview, str, Iterator[Any], AsyncIterator[Any]] = b"",
                 status: int = 200,
                 headers: Union[Mapping[str, Any], Iterable[tuple[str, Any]]] = ()) -> None:
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.headers = [(str(name).lower(), str(value)) for name, value in pairs]
        if any(c in name + value for name, value in self.headers for c in "\r\n\0"):
            raise ValueError("line break in a header")
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"bad status {status!r}")
        self.parts: Union[Iterator[Any], AsyncIterator[Any], None] = None
        if hasattr(body, "__anext__") or hasattr(body, "__next__"):
            self.parts, body = body, b""  # type: ignore[assignment]
        if not isinstance(body, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"a body is bytes or str, not {type(body).__name__}")
        self.status, self.body = status, body.encode() if isinstance(body, str) else bytes(body)


def server_event(data: str, event: Optional[str] = None, id: Optional[str] = None) -> bytes:
    """One event of a text/event-stream (Server-Sent Events). data: its text, of any number of lines.  event: its
    type.  id: what the client names when it comes back. Raises ValueError for a line end in one of the last two."""
    if any(c in (event or "") + (id or "") for c in "\r\n\0"):
        raise ValueError("line break in an event's type or id")
    lines = [f"{name}: {value}" for name, value in (("id", id), ("event", event)) if value is not None]
    return "\n".join([*lines, *(f"data: {line}" for line in data.splitlines() or [""]), "", ""]).encode()


class Handler:
    """A registered function and how it is called: with the params, or with what `make(ctx)` returns."""
    def __init__(self, function: Callable[..., Any], make: Optional[Callable[[Context], tuple[Any, ...]]] = None,
                 http: bool = False) -> None:
        self.function, self.make, self.http = function, make, http
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = inspect.signature(function)
        params = self.signature.parameters
        self.ctx = params.get("ctx")
        self.visible = self.signature.replace(parameters=[p for name, p in params.items() if name != "ctx"])

    def bind(self, ctx: Context) -> tuple[Iterable[Any], Mapping[str, Any]]:
        """Return (args, kwargs) for a call; raises RpcError -32602 when its params do not fit."""
        if self.make is not None:
            try:
                return self.make(ctx), {}
            except (TypeError, ValueError):
                raise RpcError(INVALID_PARAMS, "invalid params") from None
        params = ctx.params
        args: Iterable[Any] = () if isinstance(params, dict) else params or ()
        kwargs: dict[str, Any] = params if isinstance(params, dict) else {}
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


class Call:
    """A REQUEST from its frame to its RESPONSE. `work` is the handler's future while it runs."""
    def __init__(self, channel: Channel, ctx: Context, handler: Handler,
                 arguments: tuple[Iterable[Any], Mapping[str, Any]]) -> None:
        self.channel, self.ctx, self.handler, self.arguments = channel, ctx, handler, arguments
        self.work: Union[asyncio.Task[Any], concurrent.futures.Future[Any], None] = None
        self.parts: Union[Iterator[Any], AsyncIterator[Any], None] = None  # of an answer that is streamed
        self.more_room = asyncio.Event()  # of one that waits for the front

    def cancel(self) -> None:
        """The result is not waited for any more. A thread that runs cannot be stopped: only the flag is set then."""
        self.ctx.cancelled = True
        if self.ctx.parts is not None:
            self.ctx.parts.cancel()
        if self.work is not None:
            self.work.cancel()

    def failure(self) -> Optional[RpcError]:
        """After `work` is done or cancelled unstarted: the RpcError that it ended with, or None."""
        if self.work is None or self.work.cancelled():
            return RpcError(CANCELLED, "cancelled")
        error = self.work.exception()
        if error is None or isinstance(error, RpcError):
            return error
        log.error("%s failed", self.ctx.method, exc_info=error)
        return RpcError(INTERNAL_ERROR, "internal error")

    def outcome(self) -> tuple[Any, bytes]:
        """After `work` has ended without an error: (result, blob) of the response."""
        assert self.work is not None
        result = self.work.result()
        if not self.handler.http:
            return result, b""
        if not isinstance(result, HttpResponse):
            result = HttpResponse(result)
        self.parts = result.parts
        return {"status": result.status, "headers": result.headers}, result.body
