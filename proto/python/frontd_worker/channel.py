"""One channel over asyncio: a connection from a front's shard (section 1 of proto/PROTOCOL.md).

Bytes go through its Protocol, which says what they mean. A Request is made into a Call and given to the Worker;
when it has ended, finish() answers it. All that one turn of the loop has made is written at once. Reading pauses
while the front does not read, and while the worker has no room for more calls.

How it ends: close_if_done() looks after each step whether the Protocol is finished; a ProtocolError and the time
end it too. Our direction is ended first, the front's end is waited for (LINGER), then the transport is closed.
Channels to the same front look at each other, so that what is pushed has somewhere to go, and keeps its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Optional, cast

from .frames import INTERNAL_ERROR, METHOD_NOT_FOUND, NOTIFY, Frame, ProtocolError, RpcError
from .handlers import Call, Context
from .protocol import (PUSH_BUFFER, Cancel, Dropped, Event, FrontState, GoAway, Hello, Part, Protocol, Request, Room,
                       State)

if TYPE_CHECKING:
    from .worker import Worker

LINGER = 2.0                # seconds for the front to close after we have said our last
WRITE_BUFFER = 1024 * 1024  # bytes that a front has not read before we read no more of it
PART = 65536                # bytes of a streamed answer in one frame
END = object()              # after the last part

log = logging.getLogger("frontd_worker")


class Channel(asyncio.Protocol):
    """A connection from a front's shard. The methods from connection_made() to resume_writing() are asyncio's."""
    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loop = asyncio.get_running_loop()
        self.protocol = Protocol(self.loop.time(), worker.max_frame, worker.ping_after, worker.dead_after,
                                 worker.parts)
        self.calls: dict[int, Call] = {}  # those that a response is owed for
        self.staying = False    # the front goes, and its next channel may be waited for
        self.blocked = False    # the front does not read
        self.writing = False    # _flush() is called when this turn of the loop ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.worker._channels[self] = None
        self.timer = self.loop.call_soon(self._tick)
        if self.worker._stopping:
            self.go_away("shutdown")

    def connection_lost(self, error: Optional[Exception]) -> None:
        self.timer.cancel()
        held = self.protocol.lost()  # first of all: the channel is closed to what follows
        self._drop_calls()
        self.worker._forget(self, held)
        self.worker._check_stopped()

    def eof_received(self) -> bool:
        """The front has closed, perhaps its direction only, and reads on: what waits is written first."""
        self.protocol.receive_eof()
        self.close_if_done()
        return not self.protocol.closing  # False: asyncio closes the transport

    def data_received(self, data: bytes) -> None:
        self.protocol.receive(data, self.loop.time())
        if not self.protocol.closing:
            self.parse()

    def pause_writing(self) -> None:
        self.blocked = True
        self.update_reading()

    def resume_writing(self) -> None:
        self.blocked = False
        self.parse()

    def update_reading(self) -> None:
        """Read only while the front reads too, and while there is room for more calls."""
        if self.transport.is_closing():
            return
        stopped = (self.blocked or self.worker._full()) and not self.protocol.closing
        (self.transport.pause_reading if stopped else self.transport.resume_reading)()

    def parse(self) -> None:
        """Handle the frames that are there, as long as there is room for what they bring."""
        try:
            while not self.blocked and not self.worker._full():
                event = self.protocol.next_event()
                if event is None:
                    break
                self._on_event(event)
        except ProtocolError as error:
            self._fail(error)
        self._write_soon()
        self.update_reading()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Request):
            self._on_request(event)
        elif isinstance(event, Cancel):
            self.worker._cancel(self.calls[event.call])
        elif isinstance(event, Part):
            parts = self.calls[event.call].ctx.parts
            assert parts is not None
            parts.add(event.blob, event.last)
        elif isinstance(event, Room):
            self.calls[event.call].more_room.set()
        elif isinstance(event, Hello):
            self._on_hello()
        elif isinstance(event, GoAway):
            log.info("%s goes away: %r", self._name(), event.reason[:200])
            self.staying = True
            self.loop.call_later(LINGER, self.close_if_done, True)
            self.close_if_done()
        elif isinstance(event, Dropped):
            log.warning("%s: a frame of type %d is dropped", self._name(), event.type)

    def _on_hello(self) -> None:
        self.protocol.say_hello(self.worker._hello())
        self.timer.cancel()
        self.timer = self.loop.call_later(self.worker.ping_after, self._tick)
        for channel in self.worker._of(self.protocol.instance):
            channel.close_if_done()

    def _on_request(self, request: Request) -> None:
        notify = bool(request.flags & NOTIFY)
        try:
            ctx = Context(request, self)
            if notify and ctx.method == "frontd.response" and self.worker._answered(ctx):
                return
            handler = self.worker._handlers.get(ctx.method)
            if handler is None:
                raise RpcError(METHOD_NOT_FOUND, "method not found")
            call = Call(self, ctx, handler, handler.bind(ctx))
        except RpcError as error:
            if not notify:
                self.protocol.refuse(request.call, error)
            return
        if not notify:
            self.calls[request.call] = call
        self.worker._take(call)

    def took(self, call: int, n: int) -> None:
        """A handler has used so many bytes of its request."""
        self.protocol.took(call, n)
        self._write_soon()

    def finish(self, call: Call) -> None:
        """Answer a call that has ended; with the channel gone, the answer is dropped."""
        if call.ctx.notify or self.protocol.closing:
            call.failure()  # which is in the log, at least
            return
        id = call.ctx.call
        del self.calls[id]
        try:
            if call.parts is not None:
                self._end_stream(id, call)
            else:
                self._respond(id, call)
        except ProtocolError as error:
            self._fail(error)
        self._write_soon()
        self.close_if_done()

    def _respond(self, id: int, call: Call) -> None:
        try:
            if (error := call.failure()) is not None:
                self.protocol.respond_error(id, error)
            else:
                self.protocol.respond(id, *call.outcome())
        except (TypeError, ValueError, RecursionError) as error:
            log.error("%s: its result cannot be sent: %s", call.ctx.method, error)
            self.protocol.refuse(id, RpcError(INTERNAL_ERROR, "internal error"))

    def begin_stream(self, call: Call) -> bool:
        """Whether the answer of a call whose handler has ended comes in parts: then stream() is its work from now on."""
        work = call.work
        if not call.handler.http or call.parts is not None or call.ctx.notify or self.protocol.closing:
            return False
        if work is None or work.cancelled() or work.exception() is not None:
            return False
        try:
            result, _ = call.outcome()
            if call.parts is None:
                return False
            self.protocol.respond_first(call.ctx.call, result)
        except (TypeError, ValueError, RecursionError):
            call.parts = None
            return False  # finish() says so
        self._write_soon()
        return True

    async def stream(self, call: Call) -> None:
        """Send the parts of an answer as they come, and as the front has room for them."""
        parts: Any = call.parts
        asynchronous = hasattr(parts, "__anext__")
        try:
            while True:
                if asynchronous:
                    part = await anext_or(parts, END)
                else:
                    part = await self.loop.run_in_executor(self.worker._threads, next, parts, END)
                if part is END:
                    break
                rest = memoryview(part.encode() if isinstance(part, str) else part)
                while rest:
                    while (room := self.protocol.room(call.ctx.call)) == 0:
                        call.more_room.clear()
                        await call.more_room.wait()
                    n = min(room, len(rest), PART)
                    self.protocol.stream(call.ctx.call, bytes(rest[:n]))
                    rest = rest[n:]
                    self._write_soon()
        finally:
            if asynchronous:
                await parts.aclose() if hasattr(parts, "aclose") else None
            elif hasattr(parts, "close"):
                with contextlib.suppress(ValueError):  # a thread is in it: it ends with that
                    parts.close()

    def _end_stream(self, id: int, call: Call) -> None:
        if (error := call.failure()) is not None:
            self.protocol.break_off(id, error)
        else:
            self.protocol.stream(id, b"", last=True)

    @property
    def going(self) -> bool:
        """Whether the front goes away on this channel."""
        return self.protocol.front_state is not FrontState.SENDING

    @property
    def holding(self) -> bool:
        """Whether what is pushed waits until the front has closed, and is sent on another channel then."""
        return self.protocol.state is State.HOLDING

    def is_open(self) -> bool:
        """Whether frames about connections can be sent."""
        return self.holding or (self.protocol.state in (State.OPEN, State.LEAVING)
                                and not self.transport.is_closing())

    def push(self, frame: Frame) -> None:
        """Send a frame that is no answer; how much of that the front may leave unread has a limit."""
        if self.protocol.unsent + self.transport.get_write_buffer_size() > PUSH_BUFFER:
            self._flush()
        try:
            self.protocol.push(frame, self.transport.get_write_buffer_size())
        except BufferError:
            raise BufferError(f"{self._name()} does not read") from None
        self._write_soon()

    def keep(self, frame: Frame) -> None:
        """Send a STATE, if the front keeps that many bytes."""
        most = (self.protocol.front or {}).get("state", 0)
        if len(frame.blob) > most:
            raise ValueError(f"the front keeps {most} bytes with a connection, not {len(frame.blob)}")
        if most > 0:
            self.push(frame)

    def take_over(self, held: bytearray) -> None:
        """Send what another channel has held."""
        self.protocol.take_over(held)
        self._write_soon()

    def _write_soon(self) -> None:
        """Write when this turn of the loop ends, if there is anything to write."""
        if self.protocol.unsent and not self.writing:
            self.writing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.writing = False
        data = self.protocol.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def go_away(self, reason: str) -> None:
        """Take no more calls, finish those taken, then close (section 7)."""
        self.protocol.go_away(reason)
        self._write_soon()
        self.close_if_done()

    def _awaits_other(self) -> bool:
        """Whether the channel has to stay because what is pushed would have no other one to go on. The front
        reloads: it has said GOAWAY and reads on until we close, and the channels of its next shards are not open
        yet. A front that stops opens none, so this has a limit, LINGER."""
        if not self.staying or self.protocol.state is State.LEAVING:
            return False
        front = self.worker._of(self.protocol.instance)
        return any(c.protocol.pushed for c in front) and not any(c.is_open() and not c.going for c in front)

    def close_if_done(self, late: bool = False) -> None:
        """Close the channel once it is finished and no other is waited for. late: none is waited for any more."""
        self.staying = self.staying and not late
        if self.protocol.finished and not self._awaits_other():
            self._close()

    def _fail(self, error: ProtocolError) -> None:
        log.warning("%s is closed: %s", self._name(), error)
        self.protocol.fail(error)
        self._close()

    def _close(self) -> None:
        """End our direction first and wait for the front's end: closing while bytes from it are unread would reset
        the connection and could lose what we said last. Where the front goes, its end tells that what we said has
        taken effect: what comes now is held until then, and is sent on another channel, so that the order stays."""
        self._flush()
        ended = self.protocol.front_state is FrontState.ENDED
        others = [c for c in self.worker._of(self.protocol.instance) if c is not self]
        self.protocol.close(hold=self.protocol.state is State.OPEN and not ended
                            and any(c.is_open() and not c.holding for c in others))
        self.timer.cancel()
        self._drop_calls()
        self.update_reading()
        if self.transport.is_closing():
            return
        try:
            (self.transport.close if ended else self.transport.write_eof)()
        except OSError:  # reset by the front meanwhile
            self.transport.abort()
        self.timer = self.loop.call_later(self.worker.dead_after if ended else LINGER, self.transport.abort)

    def _drop_calls(self) -> None:
        calls, self.calls = self.calls, {}
        for call in calls.values():
            self.worker._cancel(call)

    def _tick(self) -> None:
        try:
            wait = self.protocol.tick(self.loop.time(), self.worker._running > 0)
        except ProtocolError as error:
            self._fail(error)
            return
        self._write_soon()
        self.timer = self.loop.call_later(wait, self._tick)

    def _name(self) -> str:
        front: dict[str, Any] = self.protocol.front or {}
        return "channel of {} shard {}".format(front.get("front", "a front"), front.get("shard", "?"))


async def anext_or(parts: Any, end: object) -> Any:
    """The next of an asynchronous iterator, or `end` (anext() is there from Python 3.10 on)."""
    try:
        return await parts.__anext__()
    except StopAsyncIteration:
        return end
