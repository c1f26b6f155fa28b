"""A worker process for calls that are accounted for: it writes each one down before anything becomes of it, and
misbehaves as it is told meanwhile.

    faulty_worker.py SOCKET LEDGER MODE SEED

LEDGER: a file to which a line is appended for each call, its tag and the frame's flags; it is there though the process is
killed. MODE: a file whose first byte, one of FAULTS, says what it does wrongly; it may change at any time.
"""
import heapq
import json
import mmap
import os
import random
import selectors
import socket
import struct
import sys
import time

HEADER = struct.Struct(">IBBHQQII")
HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY, DATA, WINDOW = 1, 2, 3, 4, 5, 6, 7, 13, 14
NOTIFY, MORE = 1, 2
CONCURRENCY = 4
CREDIT = 262144
FAULTS = {
    "good": b"\0",
    "exits": b"e",      # in the middle of a frame
    "garbage": b"g",    # bytes that are no frame
    "bad": b"b",        # an answer that is none
    "twice": b"t",      # answers again, and to calls that there are not
    "slow": b"s",       # often later than the deadline
    "mute": b"m",       # never, until the call is cancelled
    "hangs up": b"h",   # closes a channel
    "leaves": b"l",     # GOAWAY: what it took is answered, what crosses it is not
    "gives up": b"u",   # in the middle of an answer in parts
    "lets go": b"r",    # nothing: calls of load.gather are answered then
}


def frame(type, call=0, body=b"", blob=b"", flags=0):
    return HEADER.pack(len(body) + len(blob), type, flags, 0, call, 0, 0, len(blob)) + body + blob


class Channel:
    def __init__(self, sock):
        self.sock = sock
        self.unread, self.unsent = bytearray(), bytearray()
        self.calls = {}         # number → Call
        self.last = 0
        self.leaving = self.shut = False

    def send(self, data):
        self.unsent += data


class Call:
    def __init__(self, channel, number, message, blob):
        self.channel, self.number, self.message = channel, number, message
        self.blob = bytearray(blob)
        self.credit, self.parts = CREDIT, None

    @property
    def id(self):
        return json.dumps(self.message["id"]).encode()


class Worker:
    def __init__(self, path, ledger, mode, seed):
        self.path = path
        self.rng = random.Random(seed)
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(mode, "rb") as f:
            self.mode = mmap.mmap(f.fileno(), 1, prot=mmap.PROT_READ)
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self.listener.bind(path + ".new")       # nobody dials before it listens
        self.listener.listen(64)
        os.rename(path + ".new", path)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.timers, self.order = [], 0

    def later(self, seconds, act, call):
        self.order += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.order, act, call))

    def does(self, fault, one_in=1):
        return self.mode[:1] == FAULTS[fault] and self.rng.randrange(one_in) == 0

    def run(self):
        while True:
            wait = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, events in self.selector.select(wait):
                if key.data is None:
                    sock, _ = self.listener.accept()
                    self.selector.register(sock, selectors.EVENT_READ, Channel(sock))
                elif events & selectors.EVENT_READ and not self.read(key.data):
                    self.close(key.data)
            while self.timers and self.timers[0][0] <= time.monotonic():
                _, _, act, call = heapq.heappop(self.timers)
                if call.channel.calls.get(call.number) is call:
                    act(call)
            for key in list(self.selector.get_map().values()):
                if key.data is not None:
                    self.write(key.data)

    def close(self, channel):
        if channel.sock.fileno() >= 0:
            self.selector.unregister(channel.sock)
            channel.sock.close()
        channel.calls.clear()
        channel.unsent.clear()

    def write(self, channel):
        if channel.sock.fileno() < 0:
            return
        if channel.unsent:
            try:
                sent = channel.sock.send(channel.unsent, socket.MSG_DONTWAIT)
                del channel.unsent[:sent]
            except BlockingIOError:
                pass
            except OSError:
                self.close(channel)
                return
        if channel.leaving and not channel.shut and not channel.calls and not channel.unsent:
            channel.shut = True
            channel.sock.shutdown(socket.SHUT_WR)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.unsent else 0)
        self.selector.modify(channel.sock, events, channel)

    def read(self, channel):
        try:
            data = channel.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            return False
        channel.unread += data
        at = 0
        while len(channel.unread) - at >= HEADER.size:
            length, type, flags, _, call, _, meta, blob = HEADER.unpack_from(channel.unread, at)
            end = at + HEADER.size + length
            if len(channel.unread) < end:
                break
            self.take(channel, type, flags, call, bytes(channel.unread[at + HEADER.size + meta:end - blob]),
                      bytes(channel.unread[end - blob:end]))
            at = end
        del channel.unread[:at]
        return channel.sock.fileno() >= 0

    def take(self, channel, type, flags, number, body, blob):
        if type == HELLO:
            channel.send(frame(HELLO, body=json.dumps({
                "protocol": 1, "name": "faulty", "pid": os.getpid(), "concurrency": CONCURRENCY,
                "features": ["push", "stream"]}).encode()))
        elif type == PING:
            channel.send(frame(PONG, body=body))
        elif type == REQUEST and not (channel.leaving and number > channel.last):
            self.request(channel, flags, number, json.loads(body), blob)
        elif number in channel.calls:
            call = channel.calls[number]
            if type == CANCEL:
                self.answer(call, b'"error":{"code":-32800,"message":"cancelled"}')
            elif type == WINDOW:
                call.credit += json.loads(body)["bytes"]
                self.part(call)
            elif type == DATA:
                call.blob += blob
                channel.send(frame(WINDOW, number, b'{"bytes":%d}' % len(blob)))
                if not flags & MORE:
                    self.uploaded(call)

    def request(self, channel, flags, number, message, blob):
        channel.last = number
        method, params = message["method"], message.get("params")
        tag = str(params["path"].split("/")[2] if method == "http.request" else params[0])
        os.write(self.ledger, b"%s %d\n" % (tag.encode(), flags))
        if flags & NOTIFY:
            return
        call = Call(channel, number, message, blob)
        channel.calls[number] = call
        if self.does("hangs up", 30):
            self.close(channel)
        elif self.does("leaves", 60) and not channel.leaving:
            channel.leaving = True
            channel.send(frame(GOAWAY, body=b'{"reason":"as told","last_call":%d}' % number))
            self.serve(call, method, flags)
        elif not self.does("mute", 8):
            self.serve(call, method, flags)

    def serve(self, call, method, flags):
        if method == "load.gather":
            self.gather(call)
            return
        seconds = self.rng.uniform(0.002, 0.012)
        if self.does("slow", 3):
            seconds += self.rng.uniform(0.05, 1)
        if method != "http.request":
            self.later(seconds, self.result, call)
        elif call.message["params"]["path"].startswith("/down/"):
            self.later(seconds, self.begin, call)
        elif not flags & MORE:
            self.later(seconds, self.uploaded, call)

    def gather(self, call):
        if self.does("lets go"):
            self.result(call)
        else:
            self.later(0.005, self.gather, call)

    def answer(self, call, members, blob=b"", flags=0):
        channel = call.channel
        if not flags & MORE:
            channel.calls.pop(call.number, None)
        whole = frame(RESPONSE, call.number, b'{"jsonrpc":"2.0","id":' + call.id + b"," + members + b"}", blob, flags)
        if self.does("exits", 25):
            channel.sock.setblocking(True)
            channel.sock.sendall(channel.unsent + whole[:self.rng.randrange(1, len(whole))])
            os._exit(1)
        if self.does("garbage", 25):
            whole = b"\xff" * 64
        elif self.does("bad", 6):
            whole = frame(RESPONSE, call.number, b'{"jsonrpc":"2.0","result":', flags=flags)
        elif self.does("twice", 2) and not flags:
            whole += whole + frame(RESPONSE, call.number + 1000, b'{"jsonrpc":"2.0","id":1,"result":"stray"}') * 2
        channel.send(whole)

    def result(self, call):
        self.answer(call, b'"result":' + json.dumps(call.message["params"][0]).encode())

    def uploaded(self, call):
        """Answers with the tag, and how often the body repeats it."""
        tag = call.message["params"]["path"].split("/")[2].encode()
        times = len(call.blob) // len(tag)
        well = bytes(call.blob) == tag * times
        self.answer(call, b'"result":{"status":200,"headers":[]}', b"%s %d" % (tag, times) if well else b"mixed up")

    def begin(self, call):
        """An answer in parts: the tag, as often as the path says."""
        _, _, tag, times = call.message["params"]["path"].split("/")
        whole = tag.encode() * int(times)
        size = max(1, len(whole) // 6)
        call.parts = [whole[at:at + size] for at in range(0, len(whole), size)]
        self.answer(call, b'"result":{"status":200,"headers":[["content-type","text/plain"]]}', flags=MORE)
        self.later(0.002, self.part, call)

    def part(self, call):
        if not call.parts or call.credit < len(call.parts[0]):
            return
        part = call.parts.pop(0)
        call.credit -= len(part)
        channel = call.channel
        if self.does("gives up", 10):
            self.answer(call, b'"error":{"code":1,"message":"as told"}')
            return
        channel.send(frame(DATA, call.number, blob=part, flags=MORE if call.parts else 0))
        if call.parts:
            self.later(0.002, self.part, call)
        else:
            channel.calls.pop(call.number)


if __name__ == "__main__":
    Worker(*sys.argv[1:4], int(sys.argv[4])).run()
