"""A worker inside the test process, scripted, and written from the worker protocol alone.

It records every frame and judges what the front sends: a frame that breaks the protocol is kept in
`errors`, and `close()` raises it, so that each test which uses a FakeWorker checks the front's half.
"""
import json
import os
import re
import socket
import struct
import threading
import time

HEADER = struct.Struct(">IBBHQQII")
HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY = 1, 2, 3, 4, 5, 6, 7
PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT = 8, 9, 10, 11, 12
NOTIFY, MORE, BINARY, RETRY = 1, 2, 4, 8
DATA, WINDOW, STATE = 13, 14, 143
FROM_FRONT = {HELLO, REQUEST, CANCEL, PING, PONG, GOAWAY, DATA, WINDOW}
MAX_FRAME = 16 * 1024 * 1024
LIMIT = 10.0
EVENTS = ("frontd.connect", "frontd.disconnect", "frontd.message", "frontd.rebound", "frontd.response")


def frame(type, call=0, body=b"", meta=b"", blob=b"", flags=0, conn=0):
    return HEADER.pack(len(meta) + len(body) + len(blob), type, flags, 0, call, conn,
                       len(meta), len(blob)) + meta + body + blob


def data_frame(type, data, conn=0, binary=False, topic=None, body=False):
    """PUSH or PUBLISH of `data`, bytes, as the blob, or with `body` as the body."""
    meta = b"" if topic is None else topic_meta(topic)
    return frame(type, meta=meta, conn=conn, flags=BINARY if binary else 0,
                 **{"body" if body else "blob": data})


def topic_meta(topic):
    """The meta of a topic, a str; bytes are its JSON string as it is to be sent."""
    if isinstance(topic, bytes):
        return b'{"topic":' + topic + b"}"
    return json.dumps({"topic": topic}, ensure_ascii=False).encode()


def members(text):
    """The top-level members of a JSON object as the bytes they were written in."""
    text = text.decode()
    decoder = json.JSONDecoder()
    space = re.compile(r"[ \t\r\n]*")
    found = {}
    at = space.match(text).end()
    assert text[at] == "{", text
    at = space.match(text, at + 1).end()
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = space.match(text, at).end()
        assert text[at] == ":"
        start = space.match(text, at + 1).end()
        _, at = decoder.raw_decode(text, start)
        found[key] = text[start:at].encode()
        at = space.match(text, at).end()
        if text[at] == ",":
            at = space.match(text, at + 1).end()
    return found


class Call:
    """One REQUEST."""

    def __init__(self, channel, call, flags, conn, meta, body, blob):
        self.channel = channel
        self.call = call
        self.flags = flags
        self.conn = conn
        self.meta = json.loads(meta) if meta else {}
        self.body = body
        self.blob = blob
        self.raw = members(body)
        self.method = json.loads(self.raw["method"])
        self.notify = bool(flags & NOTIFY)
        self.cancelled = False
        self.done = False

    @property
    def id(self):
        return self.raw.get("id", b"null")

    @property
    def binary(self):
        return bool(self.flags & BINARY)

    def push(self, data, binary=False):
        """Pushes to the connection that the call came on, on the channel that it came on."""
        self.channel.push(self.conn, data, binary)

    def progress(self, data, **keys):
        """Tells the client of progress of this call."""
        self.channel.send(frame(PUSH, self.call, flags=BINARY if keys.pop("binary", False) else 0,
                                **({"body": data} if keys.pop("body", False) else {"blob": data})))

    @property
    def params(self):
        return json.loads(self.raw["params"]) if "params" in self.raw else None

    def send(self, body, blob=b""):
        """Answers with these bytes as the body of the RESPONSE."""
        self.channel.finished(self)
        self.channel.send(frame(RESPONSE, self.call, body, blob=blob))

    def reply(self, result=True, blob=b""):
        """Answers with a result: bytes are sent as they are, anything else as JSON."""
        if not isinstance(result, bytes):
            result = json.dumps(result).encode()
        self.send(b'{"jsonrpc":"2.0","id":' + self.id + b',"result":' + result + b"}", blob)

    def error(self, code=-1, message="no"):
        error = json.dumps({"code": code, "message": message}).encode()
        self.send(b'{"jsonrpc":"2.0","id":' + self.id + b',"error":' + error + b"}")

    def http(self, status=200, headers=(), body=b""):
        self.reply({"status": status, "headers": [list(pair) for pair in headers]}, body)


class Channel:
    def __init__(self, worker, sock):
        self.worker = worker
        self.sock = sock
        self.front = None       # the front's HELLO
        self.ready = False      # our HELLO has been sent
        self.closed = self.dropped = False
        self.last_call = 0
        self.pongs = []
        self.goaway = None
        self.lock = threading.Lock()
        self.paused = threading.Event()

    def send(self, data):
        with self.lock:
            self._send(data)

    def _send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass            # the front has closed it; the reader notices

    def hello(self, **members):
        message = {"protocol": 1, "name": self.worker.name, "pid": os.getpid()}
        message.update(self.worker.hello)
        message.update(members)
        message = {k: v for k, v in message.items() if v is not None}
        with self.lock:         # no other thread sends between the two, nor finds a REQUEST too early
            self.ready = True
            self._send(frame(HELLO, body=json.dumps(message).encode()))

    def goaway_now(self, last_call, reason="shutdown"):
        self.send(frame(GOAWAY, body=json.dumps({"reason": reason, "last_call": last_call}).encode()))

    # Connections that stay. What is sent is bytes; topics are str, or a JSON string as bytes.

    def push(self, conn, data, binary=False, body=False):
        self.send(data_frame(PUSH, data, conn, binary, body=body))

    def publish(self, topic, data, binary=False, body=False):
        self.send(data_frame(PUBLISH, data, 0, binary, topic, body))

    def subscribe(self, conn, topic):
        self.send(frame(SUBSCRIBE, meta=topic_meta(topic), conn=conn))

    def unsubscribe(self, conn, topic=None):
        self.send(frame(UNSUBSCRIBE, meta=b"" if topic is None else topic_meta(topic), conn=conn))

    def state(self, conn, state, body=False):
        """Keeps these bytes with a connection."""
        self.send(data_frame(STATE, state, conn, body=body))

    def sync(self):
        """Until the front has read what was sent before; False when it has closed the channel."""
        mark = b"sync %d" % time.monotonic_ns()
        self.send(frame(PING, body=mark))
        self.worker.wait(lambda: self.closed or mark in self.pongs, "PONG")
        return mark in self.pongs

    def disconnect(self, conn, code=None, reason=None):
        meta = {k: v for k, v in (("code", code), ("reason", reason)) if v is not None}
        self.send(frame(DISCONNECT, meta=json.dumps(meta).encode() if meta else b"", conn=conn))

    def close(self):
        """Ends the channel at once, both ways."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def finished(self, call):
        with self.worker.cond:
            if not call.done and not call.notify:
                call.done = True
                self.worker.busy -= 1
            self.worker.cond.notify_all()

    def _read(self, count):
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(min(count - len(data), 1 << 20))
            if not piece:
                if data:
                    self.worker.complain("channel ended within a frame")
                return None
            data += piece
        return bytes(data)

    def run(self):
        try:
            while True:
                while self.paused.is_set() and not self.worker.closing:
                    time.sleep(0.01)
                header = self._read(HEADER.size)
                if header is None:
                    return
                self._frame(*HEADER.unpack(header))
        except OSError:
            pass
        except Exception as e:      # a broken handler or frame must show in the test
            self.worker.complain("%s: %s" % (type(e).__name__, e))
        finally:
            with self.worker.cond:
                self.closed = True
                for call in self.worker.calls + self.worker.connects:
                    if call.channel is self and not call.done and not call.notify:
                        call.done = True
                        self.worker.busy -= 1
                self.worker.cond.notify_all()
            self.close()

    def _frame(self, length, type, flags, reserved, call, conn, meta_len, blob_len):
        worker = self.worker
        if type not in FROM_FRONT or reserved or flags & ~15 or meta_len + blob_len > length:
            worker.complain("bad header: %r" % ((length, type, flags, reserved, meta_len, blob_len),))
        if length > MAX_FRAME:
            worker.complain("frame of %d bytes" % length)
        payload = self._read(length) if length else b""
        if payload is None:
            return worker.complain("no payload")
        meta, body = payload[:meta_len], payload[meta_len:length - blob_len]
        blob = payload[length - blob_len:]
        with worker.cond:
            if worker.keep_frames:
                worker.frames.append((type, flags, call, conn, meta, body, blob))
        if self.front is None and type != HELLO:
            worker.complain("frame %d before HELLO" % type)
        if type == HELLO:
            self.front = json.loads(body)
            worker.on_hello(self)
        elif type == REQUEST:
            self._request(call, flags, conn, meta, body, blob)
        elif type == CANCEL:
            with worker.cond:
                for c in worker.calls + worker.connects:
                    if c.channel is self and c.call == call:
                        c.cancelled = True
                        break
                else:
                    if not 0 < call <= self.last_call:  # others were forgotten by the test
                        worker.complain("CANCEL for unknown call %d" % call)
        elif type == PING:
            self.send(frame(PONG, body=body))
        elif type == PONG:
            self.pongs.append(body)
        elif type == GOAWAY:
            self.goaway = json.loads(body) if body else {}
        with worker.cond:
            worker.cond.notify_all()

    def _request(self, call, flags, conn, meta, body, blob):
        worker = self.worker
        if not self.ready:
            worker.complain("REQUEST before our HELLO")
        if call <= self.last_call:
            worker.complain("call %d after %d" % (call, self.last_call))
        self.last_call = call
        c = Call(self, call, flags, conn, meta, body, blob)
        if c.notify != ("id" not in c.raw):
            worker.complain("NOTIFY does not fit the message: %r" % body)
        if c.method in EVENTS:
            self._event(c)
        elif c.binary:
            worker.complain("BINARY on a call: %r" % body)
        with worker.cond:
            {"frontd.connect": worker.connects, "frontd.disconnect": worker.disconnects,
             "frontd.message": worker.messages, "frontd.rebound": worker.rebounds,
             "frontd.response": worker.responses}.get(c.method, worker.calls).append(c)
            if not c.notify:
                worker.busy += 1
                worker.max_busy = max(worker.max_busy, worker.busy)
            worker.cond.notify_all()
        if worker.handler:
            worker.handler(c)

    def _event(self, c):
        """Judges what the front says about a connection: protocol section 9."""
        worker = self.worker
        if not c.conn:
            worker.complain("%s without a connection" % c.method)
        if c.method == "frontd.message":
            if not c.notify or json.loads(c.body) != {"jsonrpc": "2.0", "method": "frontd.message"}:
                worker.complain("frontd.message: %r" % c.body)
            return
        if c.params.get("conn") != str(c.conn):
            worker.complain("%s for %d: %r" % (c.method, c.conn, c.body))
        if c.method == "frontd.response":
            if not c.notify or c.binary or c.blob or set(c.params) != {"conn", "response"}:
                worker.complain("frontd.response: %r" % c.body)
            return
        if c.method == "frontd.rebound":
            if not c.notify or c.binary or c.meta or not {"conn", "headers", "peer"} <= set(c.params):
                worker.complain("frontd.rebound: %r" % c.body)
            return
        with worker.cond:
            seen = worker.connects if c.method == "frontd.connect" else worker.disconnects
            if any(other.conn == c.conn for other in seen):
                worker.complain("%s twice for %d" % (c.method, c.conn))
        if c.method == "frontd.disconnect" and (not c.notify or c.binary or c.blob):
            worker.complain("frontd.disconnect: %r" % c.body)


def echo(call):
    """Answers demo methods as the demo module does, http.request as an echo; `who` says which
    connection it came on, a message of a raw route is pushed back."""
    if call.method == "frontd.message":
        call.push(call.blob, call.binary)
    if call.notify:
        return
    if call.method == "who":
        call.reply({"conn": str(call.conn), "shard": call.channel.front["shard"]})
    elif call.method == "http.request":
        call.http(200, [("content-type", "application/octet-stream")], call.blob)
    elif call.method == "demo.add":
        call.reply(sum(call.params.values() if isinstance(call.params, dict) else call.params))
    elif call.method == "demo.error":
        call.error(call.params["code"], call.params["message"])
    else:
        call.reply(call.raw.get("params", b"null"))


def hold(_call):
    """Answers nothing: the test does, with calls it finds in `worker.calls`."""


class FakeWorker:
    """Listens on `address` (a path, or (host, port)) from its making until `close()`.

    `handler(call)` runs in the channel's thread. `hello` has members that replace those of our HELLO
    (None leaves one out); `on_hello(channel)` replaces the whole answer to the front's HELLO.
    """

    def __init__(self, address, handler=echo, concurrency=0, hello=None, on_hello=None):
        self.address = address
        self.name = str(address).rsplit("/", 1)[-1]
        self.handler = handler
        self.hello = {"concurrency": concurrency, **(hello or {})}
        self.scripted_hello = on_hello is not None
        self.on_hello = on_hello or (lambda channel: channel.hello())
        self.cond = threading.Condition(threading.RLock())
        self.frames, self.calls, self.channels, self.errors = [], [], [], []
        # frontd.connect, frontd.disconnect and the others of that kind, which are not among the calls
        self.connects, self.disconnects, self.messages, self.rebounds, self.responses = [], [], [], [], []
        self.keep_frames = True     # a test with very many of them can do without
        self.busy = self.max_busy = 0
        self.closing = False
        self.tolerant = False       # the test makes the front misbehave: keep no errors
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif os.path.exists(address):
            os.unlink(address)
        self.listener.bind(address)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            channel = Channel(self, sock)
            with self.cond:
                self.channels.append(channel)
                self.cond.notify_all()
            if self.closing:        # accepted just before the listener ended
                channel.close()
            threading.Thread(target=channel.run, daemon=True).start()

    def complain(self, text):
        with self.cond:
            if not self.tolerant:
                self.errors.append("%s: %s" % (self.name, text))

    def wait(self, condition, what="the condition", timeout=LIMIT):
        """Waits until `condition()` holds; looks after every frame."""
        deadline = time.monotonic() + timeout
        with self.cond:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, "%s: waited %g s for %s" % (self.name, timeout, what)
                self.cond.wait(min(left, 0.1))

    def wait_calls(self, count, timeout=LIMIT):
        self.wait(lambda: len(self.calls) >= count,
                  "%d calls" % count, timeout)
        return self.calls[count - 1]

    def live(self):
        return [c for c in self.channels if not c.closed]

    def channel(self, shard=None):
        """The live channel to that shard; to any when None."""
        return next(c for c in self.live() if c.ready and shard in (None, c.front["shard"]))

    def wait_disconnect(self, conn, timeout=LIMIT):
        """The frontd.disconnect of a connection."""
        found = lambda: [c for c in self.disconnects if c.conn == conn]
        self.wait(found, "the frontd.disconnect of %d" % conn, timeout)
        return found()[0]

    def wait_ready(self, channels=1, timeout=LIMIT):
        """Until so many channels have said HELLO and the front has read ours (it answered a PING)."""
        asked = set()       # one that was there at first may be on its way out

        def answered():
            ready = [c for c in self.live() if c.ready and not c.dropped]
            for channel in set(ready) - asked:
                channel.send(frame(PING, body=b"ready"))
                asked.add(channel)
            return sum(bool(c.pongs) for c in ready) >= channels
        self.wait(answered, "%d channels" % channels, timeout)

    def forget(self):
        with self.cond:
            self.calls.clear()
            self.frames.clear()
            self.max_busy = self.busy

    def drop(self):
        """Closes the channels, keeps listening."""
        for channel in list(self.channels):
            channel.dropped = True
            channel.close()

    def hide(self):
        """Listens no more, and goes on with the channels that there are; the socket file stays."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)    # wakes the thread in accept()
        except OSError:
            pass
        self.listener.close()

    def die(self):
        """Closes all sockets at once, as a killed process does; the socket file stays."""
        self.closing = True
        self.hide()
        self.drop()

    def close(self):
        """Ends all, removes the socket file, and raises what the front did wrong."""
        self.die()
        if isinstance(self.address, str) and os.path.exists(self.address):
            os.unlink(self.address)
        assert not self.errors, self.errors
