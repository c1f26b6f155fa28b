"""A worker: its handlers, the calls in progress over all its channels, and how it starts and stops."""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import logging
import os
import signal
import threading
from typing import Any, Callable, Optional, Sequence, TypeVar, Union

from .channel import Channel
from .connection import Connection, message_parts, topic_meta
from .frames import MAX_FRAME, PUBLISH, Frame, RpcError
from .handlers import Call, Context, Handler, HttpRequest
from .listen import BACKLOG, Listener, open_listener
from .protocol import DEAD_AFTER, PING_AFTER

WAITING_MAX = 1000  # calls beyond `concurrency` before reading pauses
THREADS_MAX = 64    # threads for blocking handlers, unless said otherwise

log = logging.getLogger("frontd_worker")
F = TypeVar("F", bound=Callable[..., Any])


class Worker:
    """A worker: its handlers, and the calls in progress over all its channels.
    name: what the front shows for it.  concurrency: calls in progress at once, 0 for no limit (section 4);
    what comes beyond it waits.  threads: most threads for plain functions (default: `concurrency`, at most
    64).  max_frame: largest payload taken, bytes.  ping_after, dead_after: seconds, section 10.
    Handlers get the params as positional or keyword arguments, and the Context where they declare a parameter
    `ctx`. What they return is the result, any JSON value. They raise RpcError for an error of their own; any
    other exception is logged and the client gets -32603."""
    def __init__(self, name: Optional[str] = None, concurrency: int = 64, threads: Optional[int] = None,
                 max_frame: int = MAX_FRAME, ping_after: float = PING_AFTER, dead_after: float = DEAD_AFTER) -> None:
        if not all(type(number) is int and number >= 0 for number in (concurrency, max_frame)):
            raise ValueError("concurrency and max_frame are whole numbers from 0")
        self.name, self.concurrency, self.threads = name, concurrency, threads
        self.max_frame, self.ping_after, self.dead_after = max_frame, ping_after, dead_after
        self._handlers: dict[str, Handler] = {}
        self._loop: asyncio.AbstractEventLoop    # once it serves
        self._thread: Optional[int] = None       # the loop's thread, once it serves
        self._channels: dict[Channel, None] = {}  # the oldest first
        self._usual: dict[str, Channel] = {}     # by instance, see _channel_to()
        self._waiting: collections.deque[Call] = collections.deque()  # `concurrency` has no room for them yet
        self._running = 0                        # handlers in progress, notifications' included
        self._asked: dict[tuple[Connection, str], asyncio.Future[dict[str, Any]]] = {}  # by connection and id
        self._token = os.urandom(8).hex()        # the ids of what we ask begin with it
        self.parts = False                       # the http handler reads long bodies as they come
        self._stopping = False
        self._server: Optional[asyncio.AbstractServer] = None

    def method(self, name: Optional[str] = None) -> Callable[[F], F]:
        """Decorator: the function answers JSON-RPC method `name` (default: its own name), section 5. A coroutine
        function runs in the event loop, a plain one in a thread. Raises ValueError when the name is taken."""
        return lambda function: self._add(name or function.__name__, function, Handler(function))

    def http(self, function: Optional[F] = None, *, parts: bool = False) -> Any:
        """Decorator: the function answers the requests of `http` routes (section 8). It is given an HttpRequest and
        returns an HttpResponse, or bytes or str for a plain 200. parts: it reads long bodies as they come, by
        request.parts; else those are gathered, up to max_frame. Raises ValueError when there is one already."""
        def add(function: F) -> F:
            self.parts = parts
            return self._add("http.request", function, Handler(function, lambda ctx: (HttpRequest(ctx),), http=True))
        return add if function is None else add(function)

    def event(self, name: str) -> Callable[[F], F]:
        """Decorator: the function is called with the Context, ctx.conn being the connection (section 9).
        "connect": a client has come, on routes with `events: true`; ctx.params is {"conn", "path", "query",
        "headers", "peer"}. Where the route says `connect: ask`, an RpcError refuses the client.
        "disconnect": it has gone; ctx.params is {"conn", "code"}.
        "rebound": another worker had it, ctx.params is {"conn", "headers", "peer"}; ctx.state is what was kept.
        "response": with `responses: true`, a Response that is not for ask(), {"conn", "response"}.
        "message": each message on routes with `messages: raw`; it is ctx.message(). What is returned is
        thrown away, answer with ctx.conn.push()."""
        return lambda function: self._add(f"frontd.{name}", function, Handler(function, lambda ctx: (ctx,)))

    def publish(self, topic: str, message: Any, after: Optional[Connection] = None) -> None:
        """Send one message to every client that has subscribed to `topic` (PUBLISH, section 9). topic, message,
        threads: see Connection.  after: a Connection: what was sent about it before takes effect before. Sent
        once to each front; raises as Connection says when to none."""
        frame = Frame(PUBLISH, meta=topic_meta(topic), **message_parts(message))
        self._in_loop(lambda: self._publish(frame, after))

    def run(self, address: str) -> None:
        """Serve `address` until SIGTERM or SIGINT, then finish the calls taken and return. address: "unix:PATH",
        "tcp://HOST:PORT" or "tcp://[V6]:PORT". A socket inherited as descriptor 3 (LISTEN_FDS, and LISTEN_PID
        where set) is used instead where there is one. A second signal ends the process at once. Raises OSError
        or ValueError when it cannot listen."""
        asyncio.run(self.serve(address, signals=True))

    async def serve(self, address: str, signals: bool = False) -> None:
        """Like run(), inside a running event loop, once per Worker. signals: handle SIGTERM and SIGINT."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._stopped = asyncio.Event()
        threads = self.threads or min(self.concurrency or THREADS_MAX, THREADS_MAX)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "handler")
        # Before the socket can be seen: what sees it may send SIGTERM.
        for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._listener: Listener = open_listener(address)
        try:
            # create_server() takes UNIX sockets too, and unlike its sister it never unlinks one.
            self._server = await self._loop.create_server(
                lambda: Channel(self), sock=self._listener.socket, backlog=BACKLOG)
            log.info("listening on %s", self._listener.name)
            if self._stopping:
                self._leave()
            await self._stopped.wait()
        finally:  # all is closed already, unless serve() was cancelled
            if self._server is not None:
                self._server.close()
            for channel in self._channels:
                channel.transport.abort()
            self._listener.close()
            self._threads.shutdown(wait=False)

    def stop(self) -> None:
        """Say GOAWAY on every channel, take no more calls, finish those taken (section 7); what they ask of clients
        ends with ConnectionError. Call it in the event loop; serve() returns when all is done."""
        if not self._stopping:
            self._stopping = True
            if self._server is not None:  # else serve() does it as soon as there is one
                self._leave()

    def _leave(self) -> None:
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the worker stops"))
        for channel in list(self._channels):
            channel.go_away("shutdown")
        self._check_stopped()

    def _on_signal(self, number: int) -> None:
        if self._stopping:
            os._exit(128 + number)
        log.info("stopping, %d calls in progress", self._running + len(self._waiting))
        self.stop()

    def _add(self, name: str, function: F, handler: Handler) -> F:
        if name in self._handlers:
            raise ValueError(f"{name} has a handler already")
        self._handlers[name] = handler
        return function

    def _hello(self) -> dict[str, Any]:
        hello = {"protocol": 1, "pid": os.getpid(), "concurrency": self.concurrency,
                 "max_frame": self.max_frame, "methods": sorted(self._handlers),
                 "features": ["push", "stream"], "responses": self._token}
        return hello if self.name is None else {**hello, "name": self.name}

    def _forget(self, channel: Channel, held: bytearray) -> None:
        """A channel is gone. held: what it has held for another one of the same front."""
        self._channels.pop(channel, None)
        instance = channel.protocol.instance
        if instance is not None and self._usual.get(instance) is channel:
            del self._usual[instance]
        if instance is not None and held:
            try:
                self._channel_to(instance).take_over(held)
            except ConnectionError as error:
                log.warning("%d bytes of messages are lost: %s", len(held), error)

    def _of(self, instance: Optional[str]) -> list[Channel]:
        """All channels of that front."""
        return [c for c in self._channels if c.protocol.instance == instance]

    def _channel_to(self, instance: str, channel: Optional[Channel] = None) -> Channel:
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

    def _publish(self, frame: Frame, after: Optional[Connection]) -> None:
        errors: list[Exception] = []
        instances = {c.protocol.instance for c in self._channels if c.is_open() and c.protocol.instance is not None}
        for instance in instances:
            first = after._channel if after is not None and after.instance == instance else None
            try:
                self._channel_to(instance, first).push(frame)
            except (ValueError, BufferError) as error:
                errors.append(error)
        if len(errors) == len(instances):
            raise errors[-1] if errors else ConnectionError("no channel is open")

    async def _ask(self, conn: Connection, method: str, params: Union[dict[str, Any], list[Any], None],
                   timeout: float) -> Any:
        if self._stopping:
            raise ConnectionError("the worker stops")  # after its GOAWAY no front sends it an answer
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

    def _answered(self, ctx: Context) -> bool:
        """Whether a client's Response is to one of our requests, in time or not."""
        assert isinstance(ctx.params, dict) and ctx.conn is not None
        id = str(ctx.params["response"].get("id"))
        if (answer := self._asked.pop((ctx.conn, id), None)) is not None and not answer.done():
            answer.set_result(ctx.params["response"])
        return id.startswith(self._token)

    def _in_its_thread(self) -> bool:
        """Whether this is the loop's thread, or it does not serve yet."""
        return self._thread in (None, threading.get_ident())

    def _in_loop(self, function: Callable[[], None]) -> None:
        """Call `function` in the loop's thread, from another one too, and raise what it raises."""
        if self._in_its_thread():
            return function()

        async def call() -> None:
            function()
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _full(self) -> bool:
        return len(self._waiting) >= WAITING_MAX

    def _take(self, call: Call) -> None:
        busy = self.concurrency and self._running >= self.concurrency
        (self._waiting.append if busy else self._start)(call)

    def _start(self, call: Call) -> None:
        self._running += 1
        function, (args, kwargs) = call.handler.function, call.arguments
        if call.handler.is_async:
            call.work = self._loop.create_task(function(*args, **kwargs))
            call.work.add_done_callback(lambda _: self._ended(call))
        else:
            call.work = self._threads.submit(function, *args, **kwargs)
            call.work.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._ended, call))

    def _ended(self, call: Call) -> None:
        if call.channel.begin_stream(call):
            call.work = self._loop.create_task(call.channel.stream(call))
            call.work.add_done_callback(lambda _: self._ended(call))
            return
        self._running -= 1
        call.channel.finish(call)
        if self._waiting:
            self._unwait(self._waiting[0])
        self._check_stopped()

    def _unwait(self, call: Call, start: bool = True) -> None:
        """Take a call out of the queue; channels that had to stop for a full one go on."""
        if self._full():
            for channel in self._channels:
                self._loop.call_soon(channel.parse)
        self._waiting.remove(call)
        if start:
            self._start(call)

    def _cancel(self, call: Call) -> None:
        call.cancel()
        if call.work is None:
            self._unwait(call, start=False)
            call.channel.finish(call)

    def _check_stopped(self) -> None:
        if self._stopping and not (self._channels or self._running or self._waiting):
            self._stopped.set()


def run(worker: Worker, default_address: str, argv: Optional[Sequence[str]] = None) -> None:
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
