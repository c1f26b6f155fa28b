"""Raw clients that stay: WebSocket (RFC 6455), and JSON-RPC on TCP by length or by line.

Frames are made by hand, so that anything invalid can be sent and cut anywhere; what the server sends
is judged strictly.
"""
import base64
import hashlib
import json
import os
import select
import struct
import threading

from httpclient import Client, Closed, request, rpc_body

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"


class BadFrame(AssertionError):
    """What the server sent breaks its protocol."""


class WsClosed(Exception):
    """A Close frame came where a message was expected; `code` is 1005 when it had none."""

    def __init__(self, code, reason):
        super().__init__("closed with %d %r" % (code, reason))
        self.code, self.reason = code, reason


def masked(data, mask):
    """XORs the data with a mask that is repeated."""
    if not data or mask == b"\0\0\0\0":
        return data
    key = (mask * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")


def ws_frame(opcode, payload=b"", fin=True, rsv=0, mask=MASK, length=None, form=None):
    """A frame as a client sends it. mask None: not masked. length: what its head says instead of the
    payload's; form: its bits (7, 16 or 64) instead of the fewest."""
    n = len(payload) if length is None else length
    form = form or (7 if n < 126 else 16 if n < 65536 else 64)
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 7:
        head += bytes([bit | n])
    elif form == 16:
        head += struct.pack(">BH", bit | 126, n)
    else:
        head += struct.pack(">BQ", bit | 127, n)
    return head + (payload if mask is None else mask + masked(payload, mask))


def ws_close(code=None, reason=b"", **keys):
    payload = b"" if code is None else struct.pack(">H", code) + reason
    return ws_frame(CLOSE, payload, **keys)


def upgrade(path="/ws", headers=(), key=KEY, version="13", protocols=None, origin=None, host="front.test",
            replace=None):
    """The bytes of an upgrade. headers: more fields; replace: {name: value}, None leaves one out."""
    fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": version,
              "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": protocols, "Origin": origin}
    fields.update(replace or {})
    fields = [(k, v) for k, v in fields.items() if v is not None]
    return request("GET", path, None, fields + list(headers), host)


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Staying(Client):
    """What the clients have in common: JSON texts go and come, calls with ids are told apart."""

    def send_json(self, value):
        self.send_text(json.dumps(value).encode())

    def read_json(self):
        return json.loads(self.read_text())

    def ask(self, method, params=None, id=1):
        """Sends a call, or with id=None a notification."""
        self.send_text(rpc_body(method, params, id))

    def call(self, method, params=None, id=1):
        """One call: its result. Nothing else may come before the answer."""
        self.ask(method, params, id)
        answer = self.read_json()
        assert answer.get("id") == id and "result" in answer, answer
        return answer["result"]

    def who(self):
        """(connection id, shard) of a connection whose worker answers `who`."""
        self.ask("who", id="who")
        while True:
            answer = self.read_json()
            if isinstance(answer, dict) and answer.get("id") == "who":
                return int(answer["result"]["conn"]), answer["result"]["shard"]

    def ends(self, timeout=10.0):
        """True when the connection ends within `timeout`, whatever comes before."""
        self.sock.settimeout(timeout)
        try:
            while self._fill():
                self.buffer.clear()
        except TimeoutError:
            return False
        return True


class WsClient(Staying):
    """`path` None: the connection is not upgraded, for the test to do it. Answers pings by itself
    unless `pong` is False; `pings` and `pongs` have the payloads of those that came."""

    def __init__(self, address, path="/ws", timeout=10.0, rcvbuf=None, pong=True, tls=None, **keys):
        super().__init__(address, timeout, rcvbuf, tls)
        self.pong = pong
        self.pings, self.pongs = [], []
        self.closed = None          # the server's Close: (code, reason)
        self.response = None
        if path is not None:
            self.send(upgrade(path, **keys))
            self.upgraded(keys.get("key", KEY))

    def upgraded(self, key=KEY):
        """Reads the answer to an upgrade that has to succeed."""
        r = self.response = self.read_response()
        assert r.status == 101, r
        assert r.header("upgrade").lower() == "websocket", r
        assert r.header("connection").lower() == "upgrade", r
        assert r.header("sec-websocket-accept") == accept_of(key), r
        self._extensions(r.header("sec-websocket-extensions"))
        return r

    def _extensions(self, answer):
        """Judges what the server says to Sec-WebSocket-Extensions; overridden where something was offered."""
        assert answer is None, answer

    # What goes out.

    def wrap(self, text):
        return ws_frame(TEXT, text)

    def send_frame(self, opcode, payload=b"", **keys):
        self.send(ws_frame(opcode, payload, **keys))

    def send_text(self, text):
        self.send_frame(TEXT, text, mask=os.urandom(4))

    def send_binary(self, data):
        self.send_frame(BINARY, data, mask=os.urandom(4))

    def send_close(self, code=1000, reason=b""):
        self.send(ws_close(code, reason))

    # What comes in.

    def _reserved(self, first):
        """Judges the reserved bits of a frame's first byte; overridden where there are extensions."""
        if first & 0x70:
            raise BadFrame("reserved bits: %02x" % first)

    def read_frame(self):
        """(fin, opcode, payload) of the next frame; Closed where the stream ends between frames."""
        if not self.buffer and not self._fill():
            raise Closed()
        first, second = self._bytes(2)
        opcode, n = first & 15, second & 127
        self._reserved(first)
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise BadFrame("opcode %d" % opcode)
        if second & 128:
            raise BadFrame("masked")
        if n == 126:
            n, = struct.unpack(">H", self._bytes(2))
            if n < 126:
                raise BadFrame("length %d in 16 bits" % n)
        elif n == 127:
            n, = struct.unpack(">Q", self._bytes(8))
            if n < 65536 or n >> 63:
                raise BadFrame("length %d in 64 bits" % n)
        if opcode >= CLOSE and (n > 125 or not first & 128):
            raise BadFrame("control frame of %d bytes, fin %d" % (n, first >> 7))
        return bool(first & 128), opcode, self._bytes(n)

    def _control(self, opcode, payload):
        if opcode == PING:
            self.pings.append(payload)
            if self.pong:
                self.try_send(ws_frame(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            if len(payload) == 1:
                raise BadFrame("Close of one byte")
            code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            if payload and not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
                raise BadFrame("Close with %d" % code)
            self.closed = code, payload[2:].decode()
            raise WsClosed(*self.closed)

    def read_message(self):
        """(opcode, payload) of the next message, its fragments put together."""
        kind, parts = None, []
        while True:
            fin, opcode, payload = self.read_frame()
            if opcode >= CLOSE:
                self._control(opcode, payload)
                continue
            if (kind is None) == (opcode == CONTINUATION):
                raise BadFrame("opcode %d %s a message" % (opcode, "outside" if kind is None else "within"))
            kind = opcode if kind is None else kind
            parts.append(payload)
            if fin:
                return kind, self._whole(kind, b"".join(parts))

    def _whole(self, kind, data):
        """The payload of a message, once all of it is there."""
        if kind == TEXT:
            data.decode()
        return data

    def read_text(self):
        kind, data = self.read_message()
        assert kind == TEXT, data
        return data

    def read_pong(self):
        """The next pong; no message may come before it."""
        count = len(self.pongs)
        while len(self.pongs) == count:
            fin, opcode, payload = self.read_frame()
            assert opcode in (PING, PONG), (opcode, payload)
            self._control(opcode, payload)
        return self.pongs[-1]

    def read_close(self):
        """The server's Close, whatever comes before it: (code, reason)."""
        try:
            while True:
                self.read_message()
        except WsClosed as e:
            return e.code, e.reason

    def expect_close(self, *codes, first=True):
        """A Close with one of these codes comes, with `first` before anything else; it is answered, and
        the server ends the connection."""
        try:
            message = self.read_message()
            assert not first, "%r instead of a Close" % (message,)
            self.read_close()
        except WsClosed:
            pass
        assert self.closed[0] in codes, "closed with %r" % (self.closed,)
        self.try_send(ws_close(None if self.closed[0] == 1005 else self.closed[0]))
        assert self.at_end(), "something follows the Close"
        return self.closed

    def finish(self, code=1000):
        """The closing handshake, begun by us: what the server's Close says."""
        self.send_close(code)
        closed = self.read_close()
        assert self.at_end()
        return closed


class StreamClient(Staying):
    """`kind`: frame or line."""

    def __init__(self, address, kind, timeout=10.0, rcvbuf=None, tls=None):
        super().__init__(address, timeout, rcvbuf, tls)
        self.kind = kind
        self.heartbeats = 0

    def wrap(self, text):
        return struct.pack(">I", len(text)) + text if self.kind == "frame" else text + b"\n"

    def send_text(self, text):
        self.send(self.wrap(text))

    def read_text(self):
        """The next text; heartbeats before it are counted. Closed at the end of the stream."""
        while True:
            if not self.buffer and not self._fill():
                raise Closed()
            if self.kind == "frame":
                n, = struct.unpack(">I", self._bytes(4))
                if n:
                    return self._bytes(n)
                self.heartbeats += 1
                continue
            while b"\n" not in self.buffer:
                if not self._fill():
                    raise BadFrame("ended within a line: %r" % bytes(self.buffer))
            line = self._bytes(self.buffer.index(b"\n") + 1)[:-1]
            if not line or b"\r" in line:
                raise BadFrame("a line %r" % line)
            return line

    def read_heartbeat(self):
        assert self._bytes(4) == b"\0\0\0\0"
        self.heartbeats += 1


class Reader(threading.Thread):
    """Reads the messages of one client until it ends or `done(messages)` holds; `messages` has them,
    `end` the exception that ended it."""

    def __init__(self, client, done):
        super().__init__(daemon=True)
        self.client, self.done = client, done
        self.messages, self.end = [], None
        self.start()

    def run(self):
        try:
            while not self.done(self.messages):
                self.messages.append(self.client.read_text())
        except (Closed, WsClosed, OSError, AssertionError) as e:
            self.end = e

    def finish(self, timeout=60.0):
        self.join(timeout)
        assert not self.is_alive(), "%d messages, then nothing" % len(self.messages)
        assert self.end is None, "%d messages, then %r" % (len(self.messages), self.end)
        return self.messages


def quiet(client, seconds):
    """Nothing comes within so many seconds."""
    return not client.buffer and not select.select([client.sock], [], [], seconds)[0]
