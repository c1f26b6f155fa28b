"""Frames and what is in them (section 2 to 4 of proto/PROTOCOL.md): bytes to values and back, without state."""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple, Optional, Union

# Frame types and flags (section 3).
HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY = 1, 2, 3, 4, 5, 6, 7
PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT = 8, 9, 10, 11, 12
DATA, WINDOW = 13, 14
STATE = 143
LAST_TYPE, FIRST_EXTENSION = 14, 128
NOTIFY, MORE, BINARY, RETRY = 0x01, 0x02, 0x04, 0x08

MAX_FRAME = 16 * 1024 * 1024  # bytes of payload (section 2)

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR, CANCELLED = -32602, -32603, -32800

HEADER = struct.Struct(">IBBHQQII")


class RpcError(Exception):
    """A JSON-RPC error for the client; raise it in a handler. code: an integer; -32000 and below are JSON-RPC's
    and the front's own (section 6).  message: a short text.  data: any JSON value, or None to leave it out."""
    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.data = code, message, data


class ProtocolError(Exception):
    """The other side broke the protocol: GOAWAY and close (section 2). kind: "parts", "type" or "limit" for a
    bad frame header; "version" where HELLO has no common version; else "protocol"."""
    def __init__(self, text: str, kind: str = "protocol") -> None:
        super().__init__(text)
        self.kind = kind


class Frame(NamedTuple):
    """One frame: type, flags, call and conn are integers; meta, body and blob are bytes."""
    type: int
    flags: int = 0
    call: int = 0
    conn: int = 0
    meta: bytes = b""
    body: bytes = b""
    blob: bytes = b""

    @property
    def size(self) -> int:
        """Bytes on the wire, header included."""
        return HEADER.size + self.payload

    @property
    def payload(self) -> int:
        """Bytes that count against a max_frame: all but the header."""
        return len(self.meta) + len(self.body) + len(self.blob)


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of a frame (section 2)."""
    head = HEADER.pack(frame.payload, frame.type, frame.flags, 0, frame.call, frame.conn,
                       len(frame.meta), len(frame.blob))
    return b"".join((head, frame.meta, frame.body, frame.blob))


def read_frame(data: Union[bytes, bytearray, memoryview], offset: int = 0,
               max_frame: int = MAX_FRAME) -> Optional[Frame]:
    """Read the frame that starts at `offset` in `data` (section 2). data: bytes, bytearray or memoryview.
    max_frame: the limit that we announced, bytes of payload.  Returns a Frame, or None when it is not all
    there yet. Raises ProtocolError as soon as the 32 bytes of the header break a rule."""
    if len(data) - offset < HEADER.size:
        return None
    length, type, flags, _, call, conn, meta_len, blob_len = HEADER.unpack_from(data, offset)
    if not (HELLO <= type <= LAST_TYPE or type >= FIRST_EXTENSION):
        raise ProtocolError(f"unknown frame type {type}", "type")
    if length > max_frame:
        raise ProtocolError(f"frame of {length} bytes over the limit of {max_frame}", "limit")
    if meta_len + blob_len > length:
        raise ProtocolError("meta and blob longer than the frame", "parts")
    start = offset + HEADER.size
    if len(data) < start + length:
        return None
    with memoryview(data) as view:
        body, blob = start + meta_len, start + length - blob_len
        return Frame(type, flags, call, conn, bytes(view[start:body]), bytes(view[body:blob]),
                     bytes(view[blob:start + length]))


def load_json(text: bytes) -> Any:
    """Parse bytes as JSON, strictly; raises ValueError for whatever is wrong with them."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=int)  # which refuses NaN and Infinity
    except RecursionError:
        raise ValueError("nested too deep") from None


def dump_json(value: Any) -> bytes:
    """Return a value as JSON; raises TypeError, ValueError or RecursionError where it is none."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def read_front_hello(body: bytes) -> dict[str, Any]:
    """Read the body of the front's HELLO (section 4). Returns it as a dict in which `max_frame` (bytes) is
    always set. Raises ProtocolError, of kind "version" when the front does not speak version 1."""
    try:
        hello = load_json(body)
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
