"""The front's side of one channel, for tests of workers. Written from proto/PROTOCOL.md alone, so that
it shares no mistake with a worker library. Blocking; each wait has a bound.

    with FakeFront(address) as front:
        front.hello()
        assert front.call("demo.add", [1, 2]) == {"jsonrpc": "2.0", "id": 1, "result": 3}
"""

import collections
import json
import os
import select
import socket
import struct
import time

HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY, PUSH = 1, 2, 3, 4, 5, 6, 7, 8
PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, DATA, WINDOW = 9, 10, 11, 12, 13, 14
STATE = 143
NOTIFY, MORE, BINARY, RETRY = 1, 2, 4, 8

WAIT = 20  # seconds; how long anything may take before a test fails

HEADER = struct.Struct(">IBBHQQII")

Frame = collections.namedtuple("Frame", "type flags call conn meta body blob")


class Refused(Exception):
    """What was received breaks a rule; str() says which, in the words of proto/vectors/."""


def encode(type, flags=0, call=0, conn=0, meta=b"", body=b"", blob=b""):
    """The bytes of a frame."""
    length = len(meta) + len(body) + len(blob)
    return (HEADER.pack(length, type, flags, 0, call, conn, len(meta), len(blob))
            + meta + body + blob)


def decode(data, max_frame=16 * 1024 * 1024):
    """The first frame in `data` and how many bytes it has, or None when it is not all there."""
    if len(data) < 32:
        return None
    length, type, flags, _, call, conn, meta_len, blob_len = HEADER.unpack(data[:32])
    if type == 0 or 14 < type < 128:
        raise Refused("type")
    if length > max_frame:
        raise Refused("limit")
    if meta_len + blob_len > length:
        raise Refused("parts")
    if len(data) < 32 + length:
        return None
    payload = bytes(data[32:32 + length])
    split = length - blob_len
    frame = Frame(type, flags, call, conn, payload[:meta_len], payload[meta_len:split],
                  payload[split:])
    return frame, 32 + length


def _refuse(text):
    raise ValueError(f"{text} is not JSON")


def read_worker_hello(body):
    """A worker's HELLO body (section 4) as a dict, defaults filled in; Refused("bad" or "version")."""
    try:
        # bytes.decode, not json's own guess: that would take UTF-16 too.
        hello = json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except ValueError:
        raise Refused("bad") from None
    if not isinstance(hello, dict) or type(hello.get("protocol")) is not int:
        raise Refused("bad")
    if hello["protocol"] != 1:
        raise Refused("version")
    hello = {"concurrency": 1, "max_frame": 16 * 1024 * 1024, **hello}
    for key in ("concurrency", "max_frame"):
        if type(hello[key]) is not int or hello[key] < 0:
            raise Refused("bad")
    for key in ("methods", "features"):
        strings = hello.get(key, [])
        if not isinstance(strings, list) or not all(type(one) is str for one in strings):
            raise Refused("bad")
    return hello


def until(condition, what="condition", wait=WAIT):
    """Wait until condition() is true, and return what it returned."""
    end = time.monotonic() + wait
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.005)


def dial(address):
    """A connected socket for "unix:PATH" or "tcp://HOST:PORT"."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        target = address[5:]
    else:
        host, port = address[len("tcp://"):].rsplit(":", 1)
        sock = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
        target = (host.strip("[]"), int(port))
    sock.settimeout(WAIT)
    try:
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


class FakeFront:
    """One channel to the worker at `address`. Frames that a wait does not want are kept for later."""

    def __init__(self, address, max_frame=16 * 1024 * 1024):
        self.max_frame = max_frame  # what we announce, and hold the worker to
        self.socket = dial(address)
        self.input = bytearray()
        self.kept = []
        self.last_call = 0
        self.worker = None  # its HELLO

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # sending

    def send_raw(self, data):
        """Send any bytes at all."""
        self.socket.sendall(data)

    def send(self, type, flags=0, call=0, conn=0, meta=b"", body=b"", blob=b""):
        """Send a frame; meta and body may be given as JSON values instead of bytes."""
        meta, body = (part if isinstance(part, bytes) else json.dumps(part).encode()
                      for part in (meta, body))
        self.send_raw(encode(type, flags, call, conn, meta, body, blob))

    def hello(self, more=b"", **members):
        """Say HELLO, wait for the worker's, return it. members: instead of the usual ones. more: frames
        in the same write, for what must not come late where the worker's patience is short."""
        body = {"protocol": [1], "front": "fakefront/1", "instance": "f" * 16, "generation": 1,
                "shard": 0, "shards": 1, "pool": "test", "max_frame": self.max_frame}
        self.send_raw(encode(HELLO, body=json.dumps({**body, **members}).encode()) + more)
        frame = self.expect(HELLO)
        self.worker = read_worker_hello(frame.body)
        return self.worker

    def next_call(self):
        """A call id that was not used before."""
        self.last_call += 1
        return self.last_call

    def request(self, method, params=None, id=None, flags=0, conn=0, meta=b"", blob=b""):
        """Send a REQUEST and return its call id, which is also the JSON-RPC id unless `id` is given."""
        call = self.next_call()
        body = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            body["params"] = params
        if not flags & NOTIFY:
            body["id"] = call if id is None else id
        self.send(REQUEST, flags, call, conn, meta, body, blob)
        return call

    # receiving

    def recv(self, wait=WAIT):
        """The next frame from the socket; None when the worker has closed. Kept ones are not looked at."""
        end = time.monotonic() + wait
        while True:
            found = decode(self.input, self.max_frame)
            if found:
                del self.input[:found[1]]
                return found[0]
            left = end - time.monotonic()
            assert left > 0 and select.select([self.socket], [], [], left)[0], "no frame in time"
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self.input, "closed in the middle of a frame"
                return None
            self.input += data

    def want(self, wanted, what, wait=WAIT):
        """The first frame, kept or to come, for which wanted(frame) is true."""
        for i, frame in enumerate(self.kept):
            if wanted(frame):
                return self.kept.pop(i)
        end = time.monotonic() + wait
        while True:
            frame = self.recv(max(end - time.monotonic(), 0.001))
            assert frame is not None, f"closed instead of {what}"
            if wanted(frame):
                return frame
            self.kept.append(frame)

    def expect(self, type, wait=WAIT):
        """The first frame of that type."""
        return self.want(lambda frame: frame.type == type, f"frame type {type}", wait)

    def response(self, call, wait=WAIT):
        """The RESPONSE frame of a call."""
        return self.want(lambda frame: frame.type == RESPONSE and frame.call == call,
                         f"response of call {call}", wait)

    def call(self, method, params=None, **more):
        """A whole call: the JSON-RPC response as a dict."""
        return json.loads(self.response(self.request(method, params, **more)).body)

    def http(self, method="GET", path="/", body=b"", headers=(), query=""):
        """A whole http.request: (status, headers as a list of pairs, body)."""
        params = {"method": method, "scheme": "http", "authority": "example.org", "path": path,
                  "query": query, "headers": [list(pair) for pair in headers]}
        frame = self.response(self.request("http.request", params, blob=body))
        result = json.loads(frame.body)["result"]
        return result["status"], [tuple(pair) for pair in result["headers"]], frame.blob

    def ping(self, body=b"ping"):
        """PING and wait for its PONG."""
        self.send(PING, body=body)
        assert self.expect(PONG).body == body

    def goaway(self, wait=WAIT):
        """The body of the worker's GOAWAY."""
        return json.loads(self.expect(GOAWAY, wait).body)

    def expect_closed(self, wait=WAIT):
        """The worker closes, and so do we; what it sent before that is returned."""
        end = time.monotonic() + wait
        frames, self.kept = self.kept, []
        while True:
            frame = self.recv(max(end - time.monotonic(), 0.001))
            if frame is None:
                self.close()
                return frames
            frames.append(frame)


def answers(address):
    """Whether a worker listens there."""
    try:
        dial(address).close()
    except OSError:
        return False
    return True


def read_records(path):
    """The records of a file in proto/vectors/: lists of (key, value), as its README.md says."""
    records, current = [], []
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file.read().split("\n") + [""]:
            if line.startswith("#"):
                continue
            if line.startswith("  "):
                key, value = current[-1]
                current[-1] = (key, value + line[2:])
            elif line:
                key, _, value = line.partition(":")
                current.append((key, value[1:]))
            elif current:
                records.append(current)
                current = []
    return records


VECTORS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "proto", "vectors")
