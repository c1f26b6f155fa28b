"""A client's connection, as handlers see it, and what can be sent about it (section 9 of proto/PROTOCOL.md)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Optional, Union

from .frames import BINARY, DISCONNECT, PUSH, STATE, SUBSCRIBE, UNSUBSCRIBE, Frame, dump_json

if TYPE_CHECKING:
    from .channel import Channel
    from .worker import Worker

TOPIC_MAX, REASON_MAX = 255, 123  # bytes of a topic, of a reason to disconnect


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

    def __init__(self, worker: Worker, id: int, instance: str, channel: Optional[Channel] = None) -> None:
        self.id, self.instance, self._worker, self._channel = id, instance, worker, channel

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Connection) and (self.id, self.instance) == (other.id, other.instance)

    def __hash__(self) -> int:
        return hash((self.id, self.instance))

    def push(self, message: Any) -> None:
        """Send one message to this client (PUSH).
        message: bytes for a binary one, str for any text; else a value that is sent as JSON."""
        self._send(PUSH, **message_parts(message))

    def ask(self, method: str, params: Union[dict[str, Any], list[Any], None] = None, timeout: float = 30.0) -> Any:
        """Send a JSON-RPC request to this client, and return its result, on routes with `responses: true`, where
        the pool takes frontd.response (section 9). In the loop's thread it is to be awaited.
        params: dict, list or None.  timeout: seconds.  Raises RpcError with the client's error,
        asyncio.TimeoutError where no answer comes in time, and what push() does."""
        worker = self._worker
        asking = worker._ask(self, method, params, timeout)
        if worker._in_its_thread():
            return asking
        return asyncio.run_coroutine_threadsafe(asking, worker._loop).result()

    def subscribe(self, topic: str) -> None:
        """Have this client get what is published to `topic`, a str of 1 to 255 bytes (SUBSCRIBE)."""
        self._send(SUBSCRIBE, meta=topic_meta(topic))

    def unsubscribe(self, topic: Optional[str] = None) -> None:
        """End a subscription, where no topic is given all of this client (UNSUBSCRIBE)."""
        self._send(UNSUBSCRIBE, meta=b"" if topic is None else topic_meta(topic))

    def keep(self, state: bytes) -> None:
        """Have the front keep these bytes with this connection, in place of those that it kept before (STATE); b"" ends
        that. The worker that gets the connection next is given them with the event "rebound", as ctx.state. Raises
        ValueError also for more bytes than the front keeps, which may be none."""
        frame = Frame(STATE, conn=self.id, blob=bytes(state))
        self._worker._in_loop(lambda: self._worker._channel_to(self.instance, self._channel).keep(frame))

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """Close this connection (DISCONNECT). code: WebSocket close code, 1000 to 1003, 1007 to 1014, 3000 to 4999.
        reason: 123 bytes of UTF-8 at most. Other connections than WebSockets are just closed."""
        good = 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
        if type(code) is not int or not good or len(reason.encode()) > REASON_MAX:
            raise ValueError(f"bad close code {code!r}, or a reason over {REASON_MAX} bytes")
        self._send(DISCONNECT, meta=dump_json({"code": code, "reason": reason}))

    def _send(self, type: int, **parts: Any) -> None:
        frame = Frame(type, conn=self.id, **parts)
        self._worker._in_loop(lambda: self._worker._channel_to(self.instance, self._channel).push(frame))


def message_parts(message: Any) -> dict[str, Any]:
    """How a message is sent, as parts of a Frame: bytes as a binary one, str as text, else as JSON."""
    if isinstance(message, (bytes, bytearray, memoryview)):
        return {"flags": BINARY, "blob": bytes(message)}
    return {"blob": message.encode()} if isinstance(message, str) else {"body": dump_json(message)}


def topic_meta(topic: str) -> bytes:
    """The meta of a frame about a topic; raises ValueError where `topic` is none."""
    if not isinstance(topic, str) or not 1 <= len(topic.encode()) <= TOPIC_MAX:
        raise ValueError(f"a topic is a str of 1 to {TOPIC_MAX} bytes")
    return dump_json({"topic": topic})
