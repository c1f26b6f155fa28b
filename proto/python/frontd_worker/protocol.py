"""The worker's side of one channel, without I/O: bytes and calls in, events and bytes out (proto/PROTOCOL.md).

No socket, thread or clock is used here; times are arguments. The owner gives what it has read to receive() and
takes events from next_event() until there are none; it answers with say_hello(), respond() and respond_error(),
sends what is no answer with push(), and writes what data_to_send() returns. tick() is called again after the time
that it returned.

How a channel ends: a bad frame raises ProtocolError, and fail() says GOAWAY. A GOAWAY of either side leads to
`finished` once no call is owed a response; then the owner calls close(), and lost() when the connection is gone.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple, Optional, Union

from .frames import (CANCEL, CANCELLED, DATA, FIRST_EXTENSION, GOAWAY, HELLO, INTERNAL_ERROR, INVALID_REQUEST, MAX_FRAME,
                     MORE, NOTIFY, PARSE_ERROR, PING, PONG, REQUEST, RESPONSE, WINDOW, Frame, ProtocolError, RpcError,
                     dump_json, encode_frame, load_json, read_front_hello, read_frame)

HELLO_TIMEOUT = 5.0                  # seconds (section 4)
PING_AFTER, DEAD_AFTER = 15.0, 45.0  # seconds without traffic, and without an answer to a PING (section 10)
PUSH_BUFFER = 4 * 1024 * 1024        # bytes that a front has not read before push() fails
PING_MAX = 64                        # bytes of a PING's body
WINDOW_STEP = 65536                  # bytes taken for which a WINDOW is sent
STREAM_WINDOW = 262144               # bytes of DATA that the other side has not acknowledged (section 8)


class State(enum.Enum):
    """What the worker may still send on a channel."""
    OPENING = "opening"  # the front's HELLO has not been answered
    OPEN = "open"        # both have said HELLO
    LEAVING = "leaving"  # our GOAWAY is said: calls taken are finished, new ones dropped
    HOLDING = "holding"  # as CLOSING, but what is pushed is kept, for another channel to the same front
    CLOSING = "closing"  # nothing more is sent, and what comes is thrown away
    CLOSED = "closed"    # the connection is gone


class FrontState(enum.Enum):
    """What the front may still send on a channel."""
    SENDING = "sending"
    GOING = "going"      # its GOAWAY has come
    ENDED = "ended"      # it has closed its direction, and may still read


# The moves that are allowed; any other is a bug of ours.
MOVES: dict[Any, frozenset[Any]] = {
    State.OPENING: frozenset((State.OPEN, State.LEAVING, State.CLOSING, State.CLOSED)),
    State.OPEN: frozenset((State.LEAVING, State.HOLDING, State.CLOSING, State.CLOSED)),
    State.LEAVING: frozenset((State.CLOSING, State.CLOSED)),
    State.HOLDING: frozenset((State.CLOSED,)),
    State.CLOSING: frozenset((State.CLOSED,)),
    State.CLOSED: frozenset(),
    FrontState.SENDING: frozenset((FrontState.GOING, FrontState.ENDED)),
    FrontState.GOING: frozenset((FrontState.ENDED,)),
    FrontState.ENDED: frozenset(),
}
CLOSING_STATES = (State.HOLDING, State.CLOSING, State.CLOSED)


class Hello(NamedTuple):
    """The front's HELLO, to be answered with say_hello()."""
    front: dict[str, Any]


class Request(NamedTuple):
    """A call, to be answered with respond(), respond_error() or refuse() unless NOTIFY is among its flags."""
    call: int
    conn: int
    flags: int
    method: str
    params: Union[dict[str, Any], list[Any], None]
    meta: dict[str, Any]
    blob: bytes


class Cancel(NamedTuple):
    """The response to a call that is owed one is not wanted any more; it is to be sent all the same."""
    call: int


class Part(NamedTuple):
    """More of the blob of a Request with MORE among its flags; took() lets the front send more. last: it is all
    there."""
    call: int
    blob: bytes
    last: bool


class Room(NamedTuple):
    """The front has taken some of a streamed answer: room() is larger now."""
    call: int


class GoAway(NamedTuple):
    """The front sends no more calls on this channel (section 7). reason: the body of its GOAWAY."""
    reason: bytes


class Dropped(NamedTuple):
    """A frame that a front has no reason to send, which has been dropped (section 11)."""
    type: int


Event = Union[Hello, Request, Part, Cancel, Room, GoAway, Dropped]


class Protocol:
    """One channel. now: the time in seconds, of any monotonic clock.  max_frame: the limit that we announce,
    bytes of payload.  ping_after, dead_after: seconds, section 10.  parts: requests that are streamed (section 8)
    are events as they come; else they are gathered first."""
    def __init__(self, now: float, max_frame: int = MAX_FRAME, ping_after: float = PING_AFTER,
                 dead_after: float = DEAD_AFTER, parts: bool = False) -> None:
        self.max_frame, self.ping_after, self.dead_after = max_frame, ping_after, dead_after
        self.state, self.front_state = State.OPENING, FrontState.SENDING
        self.front: Optional[dict[str, Any]] = None  # its HELLO, once it has come
        self.instance: Optional[str] = None          # of that: the same for every channel of one front
        self.pushed = False                          # something was sent that is no answer
        self._owed: dict[int, bytes] = {}            # calls that a response is owed for -> their id as JSON text
        self._rooms: dict[int, int] = {}  # of answers that are streamed: bytes of DATA that may be sent
        self.parts = parts
        self._coming: dict[int, int] = {}  # requests that come in parts -> bytes taken that no WINDOW told of
        self._gathering: dict[int, tuple[Frame, bytearray]] = {}  # requests that are streamed, and what came of them
        self._last_call = 0                          # the highest number taken
        self._input, self._offset = bytearray(), 0   # what was received; where the next frame starts in it
        self._output = bytearray()                   # encoded frames, to be written or, in HOLDING, kept
        self._opened = self._heard = now             # when it was made; when bytes have come last
        self._pinged: Optional[float] = None         # when our PING went out, if nothing has come since

    @property
    def closing(self) -> bool:
        """Whether nothing more is written on this channel."""
        return self.state in CLOSING_STATES

    @property
    def finished(self) -> bool:
        """Whether one side goes away, and no response is owed that the front would still take."""
        going = self.state is State.LEAVING or self.front_state is not FrontState.SENDING
        return going and not self.closing and (self.front_state is FrontState.ENDED or not self._owed)

    def _move(self, state: State) -> None:
        assert state in MOVES[self.state], f"{self.state} -> {state}"
        self.state = state

    def _front_moves(self, state: FrontState) -> None:
        if state is not self.front_state:
            assert state in MOVES[self.front_state], f"{self.front_state} -> {state}"
            self.front_state = state

    # ---- what comes in ----

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes that have been read; next_event() tells what is in them."""
        self._heard, self._pinged = now, None
        if not self.closing:
            self._input += data

    def receive_eof(self) -> None:
        """The front has closed its direction."""
        if self.state is not State.CLOSED:
            self._front_moves(FrontState.ENDED)

    def next_event(self) -> Optional[Event]:
        """Handle frames up to the next one that the owner must know of. Returns the event, or None when the rest
        of a frame has to be received first. Raises ProtocolError, after which fail() is to be called."""
        while not self.closing:
            frame = read_frame(self._input, self._offset, self.max_frame)
            if frame is None:
                break
            self._offset += frame.size
            if frame.type < FIRST_EXTENSION and (event := self._on_frame(frame)) is not None:
                return event
        del self._input[:self._offset]
        self._offset = 0
        return None

    def _on_frame(self, frame: Frame) -> Optional[Event]:
        if frame.type == GOAWAY:
            if self.front_state is FrontState.SENDING:
                self._front_moves(FrontState.GOING)
            return GoAway(frame.body)
        if self.front is None:
            return self._on_hello(frame)
        if frame.type == REQUEST:
            return self._on_request(frame)
        if frame.type == DATA and frame.call in self._gathering:
            return self._on_data(frame)
        if frame.type == DATA:
            return self._on_part(frame)
        if frame.type == WINDOW:
            return self._on_window(frame)
        if frame.type == CANCEL:  # for a call that is not owed, its response has crossed the CANCEL
            if self._gathering.pop(frame.call, None) is not None:
                self._owed[frame.call] = b"null"
                self.refuse(frame.call, RpcError(CANCELLED, "cancelled"))
            return Cancel(frame.call) if frame.call in self._owed else None
        if frame.type == PING and len(frame.body) <= PING_MAX:
            self._send(Frame(PONG, body=frame.body))
        elif frame.type != PONG:  # wrong by itself (section 11)
            return Dropped(frame.type)
        return None

    def _on_hello(self, frame: Frame) -> Hello:
        if frame.type != HELLO:
            raise ProtocolError(f"frame type {frame.type} before HELLO")
        self.front = read_front_hello(frame.body)
        self.instance = str(self.front.get("instance", ""))
        return Hello(self.front)

    def _on_request(self, frame: Frame, gathered: bool = False) -> Optional[Request]:
        notify = bool(frame.flags & NOTIFY)
        if frame.flags & MORE and not self.parts:
            return self._on_first_part(frame)
        if frame.call <= self._last_call and not gathered and not (notify and frame.call == 0):
            raise ProtocolError(f"call id {frame.call} after {self._last_call}")
        if self.state is State.LEAVING:
            return None  # it crossed our GOAWAY: the front gives it to another worker
        try:
            meta = load_json(frame.meta) if frame.meta else {}
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise ProtocolError("meta is not a JSON object")
        self._last_call = max(self._last_call, frame.call)
        if not notify:
            self._owed[frame.call] = b"null"
        try:
            request = _read_request(frame.body)
        except RpcError as error:
            if not notify:
                self.refuse(frame.call, error)
            return None
        if not notify:
            self._owed[frame.call] = _id_text(request, frame.body)
        if frame.flags & MORE:
            self._coming[frame.call] = 0
        return Request(frame.call, frame.conn, frame.flags, request["method"], request.get("params"), meta, frame.blob)

    def _on_first_part(self, frame: Frame) -> None:
        """A streamed request is gathered: handlers get it whole."""
        if frame.flags & NOTIFY or frame.call <= self._last_call:
            raise ProtocolError(f"streamed REQUEST with call id {frame.call}")
        self._last_call = frame.call
        if self.state is not State.LEAVING:
            self._gathering[frame.call] = frame, bytearray(frame.blob)

    def _on_data(self, frame: Frame) -> Optional[Request]:
        first, blob = self._gathering[frame.call]
        if len(blob) <= self.max_frame:  # else it is too large already: the rest is thrown away
            blob += frame.blob
        if frame.flags & MORE:
            self._send(Frame(WINDOW, call=frame.call, body=dump_json({"bytes": len(frame.blob)})))
            return None
        del self._gathering[frame.call]
        if len(blob) > self.max_frame:
            self._owed[frame.call] = b"null"
            self.refuse(frame.call, RpcError(INTERNAL_ERROR, "the request is too large"))
            return None
        return self._on_request(first._replace(flags=first.flags & ~MORE, blob=bytes(blob)), gathered=True)

    def _on_part(self, frame: Frame) -> Optional[Part]:
        """Of a call that has been answered meanwhile there may be more on its way: it is thrown away."""
        if frame.call not in self._coming:
            return None
        last = not frame.flags & MORE
        if last:
            del self._coming[frame.call]
        return Part(frame.call, frame.blob, last)

    def took(self, call: int, n: int) -> None:
        """That many bytes of Parts have been used: the front may send as many more."""
        if call not in self._coming:
            return
        self._coming[call] += n
        if self._coming[call] >= WINDOW_STEP:
            self._send(Frame(WINDOW, call=call, body=dump_json({"bytes": self._coming[call]})))
            self._coming[call] = 0

    def _on_window(self, frame: Frame) -> Optional[Room]:
        try:
            more = load_json(frame.body)["bytes"]
        except (ValueError, KeyError, TypeError):
            return None
        if frame.call not in self._rooms or type(more) is not int or more < 0:
            return None
        self._rooms[frame.call] += more
        return Room(frame.call)

    # ---- what goes out ----

    def data_to_send(self) -> bytearray:
        """Take all bytes that are to be written now, in this order."""
        if self.state is State.HOLDING:
            return bytearray()
        data, self._output = self._output, bytearray()
        return data

    @property
    def unsent(self) -> int:
        """How many bytes data_to_send() would return, or are held."""
        return len(self._output)

    def say_hello(self, hello: dict[str, Any]) -> None:
        """Answer the front's HELLO with ours (section 4), a JSON object."""
        self._send(Frame(HELLO, body=dump_json(hello)))
        if self.state is State.OPENING:
            self._move(State.OPEN)

    def respond(self, call: int, result: Any, blob: bytes = b"") -> None:
        """Answer a call with its result, any JSON value. Raises TypeError, ValueError or RecursionError for one that
        cannot be sent, or is over the front's max_frame; then the call is still owed a response."""
        self._respond(call, self._owed[call], "result", result, blob)

    def respond_first(self, call: int, result: Any) -> None:
        """Begin an answer whose blob follows with stream(); raises as respond() does (section 8)."""
        self._respond(call, self._owed[call], "result", result, more=True)
        self._rooms[call] = STREAM_WINDOW

    def room(self, call: int) -> int:
        """How many bytes stream() may be given now; Room says when that becomes more."""
        return self._rooms.get(call, 0)

    def stream(self, call: int, blob: bytes, last: bool = False) -> None:
        """Send more of the blob, at most room() bytes. last: the answer is complete with it."""
        assert len(blob) <= self._rooms[call]
        self._rooms[call] -= len(blob)
        if last:
            del self._owed[call], self._rooms[call]
            self._coming.pop(call, None)
        self._send(Frame(DATA, 0 if last else MORE, call, blob=blob))

    def break_off(self, call: int, error: RpcError) -> None:
        """The rest of an answer that was begun does not come: its client is told that it is not complete."""
        del self._rooms[call]
        self.refuse(call, error)

    def respond_error(self, call: int, error: RpcError) -> None:
        """Answer a call with an error; raises as respond() does."""
        self._respond(call, self._owed[call], "error", _error_member(error))

    def refuse(self, call: int, error: RpcError) -> None:
        """Answer a call with an error of ours, which has no data; without the request's id where that, being the
        client's, is too long. Raises ProtocolError where the front has no room even for that."""
        for id in (self._owed[call], b"null"):
            try:
                return self._respond(call, id, "error", _error_member(error))
            except ValueError:
                pass
        raise ProtocolError("max_frame has no room for an error")

    def _respond(self, call: int, id: bytes, member: str, value: Any, blob: bytes = b"", more: bool = False) -> None:
        body = b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (id, member.encode(), dump_json(value))
        assert self.front is not None
        if len(body) + len(blob) > self.front["max_frame"]:
            raise ValueError(f"{len(body) + len(blob)} bytes are over the front's max_frame")
        if not more:
            del self._owed[call]
            self._coming.pop(call, None)
        self._send(Frame(RESPONSE, MORE if more else 0, call, body=body, blob=blob))

    def push(self, frame: Frame, unread: int = 0) -> None:
        """Send a frame that is no answer, or hold it in HOLDING. unread: bytes that have been taken from
        data_to_send() and that the front has not read.  Raises ValueError for a frame over the front's max_frame,
        and BufferError where the front is too far behind; then nothing is sent."""
        assert self.front is not None
        if frame.payload > self.front["max_frame"]:
            raise ValueError(f"{frame.payload} bytes are over the front's max_frame")
        if len(self._output) + unread > PUSH_BUFFER:
            raise BufferError("the front does not read")
        self.pushed = True
        if not self.closing or self.state is State.HOLDING:
            self._output += encode_frame(frame)

    def take_over(self, held: bytearray) -> None:
        """Send what another channel to the same front has held: encoded frames."""
        self._output += held

    def _send(self, frame: Frame) -> None:
        if not self.closing:
            self._output += encode_frame(frame)

    # ---- how it ends ----

    def go_away(self, reason: str) -> None:
        """Take no more calls (section 7); those taken are finished."""
        if self.state in (State.OPENING, State.OPEN):
            self._move(State.LEAVING)
            self._say_goaway(reason)

    def fail(self, error: ProtocolError) -> None:
        """Say GOAWAY with the text of the error, even after a first GOAWAY; nothing more is sent after it."""
        if not self.closing:
            self._say_goaway(str(error))
            self.close()

    def _say_goaway(self, reason: str) -> None:
        self._send(Frame(GOAWAY, body=dump_json({"reason": reason, "last_call": self._last_call})))

    def close(self, hold: bool = False) -> None:
        """Send nothing more than data_to_send() has, and owe no response any more. hold: keep what is pushed from now
        on for lost(); only in OPEN, with nothing left in data_to_send()."""
        if not self.closing:
            assert not (hold and self._output)
            self._move(State.HOLDING if hold else State.CLOSING)
            self._forget()

    def lost(self) -> bytearray:
        """The connection is gone. Returns what was held, for take_over() of another channel."""
        held = self._output if self.state is State.HOLDING else bytearray()
        if self.state is not State.CLOSED:
            self._move(State.CLOSED)
        self._output = bytearray()
        self._forget()
        return held

    def _forget(self) -> None:
        self._owed.clear()
        self._rooms.clear()
        self._gathering.clear()
        self._coming.clear()
        self._input, self._offset = bytearray(), 0

    def tick(self, now: float, busy: bool) -> float:
        """Look at the time: HELLO has to come soon (section 4); after silence a PING is sent, and the channel is lost
        when nothing comes back (section 10). busy: calls are in progress, on any channel, which may keep this process
        from reading.  Returns after how many seconds to call it again. Raises ProtocolError when the time is up."""
        if self.state is State.OPENING:
            if (wait := HELLO_TIMEOUT - (now - self._opened)) <= 0:
                raise ProtocolError("no HELLO in time")
            return wait
        wait = self.ping_after - (now - self._heard)
        if self._pinged is not None:
            wait = self.dead_after - (now - self._pinged)
            if wait <= 0 and not busy:
                raise ProtocolError("timeout")
        elif wait <= 0:
            self._send(Frame(PING))
            self._pinged, wait = now, self.dead_after
        # An answered PING starts the silence anew, so look again after that long at the latest.
        return min(wait, self.ping_after) if wait > 0 else self.ping_after


def _read_request(body: bytes) -> dict[str, Any]:
    try:
        request = load_json(body)
    except ValueError:
        raise RpcError(PARSE_ERROR, "parse error") from None
    if (not isinstance(request, dict) or not isinstance(request.get("method"), str)
            or not isinstance(request.get("params", {}), (dict, list))):
        raise RpcError(INVALID_REQUEST, "invalid request")
    return request


def _error_member(error: RpcError) -> dict[str, Any]:
    data = {} if error.data is None else {"data": error.data}
    return {"code": error.code, "message": error.message, **data}


def _id_text(request: dict[str, Any], body: bytes) -> bytes:
    """The request's id as JSON text; a number with a fraction or exponent keeps its own digits."""
    id = request.get("id")
    if isinstance(id, float):
        return json.loads(body, parse_float=str)["id"].encode()
    return dump_json(id) if isinstance(id, (str, int)) and not isinstance(id, bool) else b"null"
