"""Load of every kind in which every call is accounted for: what became of it is known exactly once, and agrees with what
workers have written down (faulty_worker.py) and what the front has counted."""
import collections
import contextlib
import json
import random
import selectors
import socket
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from httpclient import request
from wsclient import TEXT, upgrade, ws_frame

MESSAGES = {"worker lost": "-32002", "deadline exceeded": "-32003", "bad worker response": "-32007",
            "overloaded": "-32001", "unavailable": "-32004"}
# Outcomes are codes of errors and:
#   ok, sent (a notification), cut (an answer that broke off)
#   closed: its connection has ended before an answer; unread: the front had said that it ends
UNSEEN = {"-32001", "-32004", "unread"}     # no worker has had the call
ROUTES = {"/whole", "/down", "/up"}
STALLED = 20.0                      # seconds for the last answers, on a busy machine

class Call:
    """kind: once, again (may run twice), note (no answer), whole, down (an answer in parts), up (a body in parts)."""
    __slots__ = "tag", "kind", "times", "outcome"

    def __init__(self, tag, kind, times=0):
        self.tag, self.kind, self.times, self.outcome = tag, kind, times, None

    def rpc(self):
        id = "" if self.kind == "note" else '"id":"%s",' % self.tag
        return '{"jsonrpc":"2.0",%s"method":"load.%s","params":["%s"]}' % (id, self.kind, self.tag)

    def path(self):
        return "/%s/%s/%d" % (self.kind, self.tag, self.times)

    def judge(self, status, body, cut=False):
        """What became of a call of an http route."""
        if cut:
            return "cut"
        if status != 200:
            return MESSAGES.get(body.decode("latin-1").strip(), "%d %r" % (status, body[:80]))
        wanted = {"whole": b"%s 0", "up": b"%s %d", "down": b""}[self.kind]
        tag = self.tag.encode()
        wanted = tag * self.times if self.kind == "down" else b"%s %d" % (tag, self.times if self.kind == "up" else 0)
        return "ok" if body == wanted else "not its own answer: %r" % body[:80]


class Connection:
    """One of the load. `calls` are those that have no outcome yet, in order, by tag."""
    depth = 4
    handshake = b""

    def __init__(self, load, address):
        self.load = load
        self.calls = {}
        self.unread, self.unsent = bytearray(), bytearray(self.handshake)
        self.ends = False       # the front has said that it does
        self.sock = socket.create_connection(address, STALLED)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def __repr__(self):
        return "%s that has ended with %r" % (self.kind, self.left)

    def end(self, call, outcome):
        self.calls.pop(call.tag, None)
        self.load.end(call, outcome)

    def answered(self, message):
        """A Response or a batch of them, as JSON."""
        for answer in message if isinstance(message, list) else [message]:
            call = self.calls.get(answer.get("id"))
            if call is None:
                self.load.problem("an answer that is nobody's here: %r" % answer)
            elif "error" in answer:
                self.end(call, str(answer["error"]["code"]))
            else:
                self.end(call, "ok" if answer["result"] == call.tag else "not its own answer: %r" % answer)

    def over(self, calls, status, body, cut=False):
        """A request of HTTP has its answer."""
        if "/%s" % calls[0].kind in ROUTES:
            self.end(calls[0], calls[0].judge(status, body, cut))
            return
        notes = [call for call in calls if call.kind == "note"]
        if (status == 204) != (len(notes) == len(calls)):
            self.load.problem("%d to %d calls, %d of them notifications" % (status, len(calls), len(notes)))
        for call in notes:
            self.end(call, "sent")
        if status != 204:
            self.answered(json.loads(body))
        left = [call.tag for call in calls if call.tag in self.calls]
        if left:
            self.load.problem("no answer to %r in %d %r" % (left, status, body[:200]))

    def fill(self):
        while len(self.calls) < self.depth and len(self.unsent) < 200000 and not self.ends:
            self.issue()

    def rpc_message(self):
        """One call, or a batch; as text, its calls noted."""
        kinds = self.load.rng.choice([["once"], ["once"], ["again"], ["note"], ["once", "note", "again"]])
        calls = [self.load.call(self, kind) for kind in kinds]
        text = calls[0].rpc() if len(calls) == 1 else "[%s]" % ",".join(call.rpc() for call in calls)
        return calls, text.encode()

    def is_cut(self):
        """Whether the end of this connection is how the answer ends that is under way."""
        return False

    def lost(self):
        if not self.ends and not self.is_cut() and not self.load.closing:
            self.load.losses.append(self)
            self.left = ["%s %s" % (call.kind, call.tag) for call in self.calls.values()]
        for call in list(self.calls.values()):
            self.end(call, "unread" if self.ends and not self.is_cut() else "closed")


class Http1(Connection):
    """Keep-alive, with pipelining."""

    def __init__(self, load, address):
        super().__init__(load, address)
        self.waiting = collections.deque()      # the calls of each request
        self.head, self.body, self.more = None, bytearray(), None

    def issue(self):
        kind = self.load.rng.choice(["rpc"] * 6 + ["whole", "whole", "down", "up"])
        if kind == "rpc":
            calls, text = self.rpc_message()
            self.unsent += request("POST", "/rpc", text)
        else:
            call = self.load.call(self, kind)
            calls = [call]
            if kind == "up":
                body = call.tag.encode() * call.times
                self.unsent += request("POST", call.path(), None, [("Transfer-Encoding", "chunked")])
                for at in range(0, len(body), 16384):
                    self.unsent += b"%x\r\n%s\r\n" % (len(body[at:at + 16384]), body[at:at + 16384])
                self.unsent += b"0\r\n\r\n"
            else:
                self.unsent += request("GET", call.path())
        self.waiting.append(calls)

    def is_cut(self):
        return self.head is not None and self.waiting and self.waiting[0][0].kind == "down"

    def lost(self):
        if self.is_cut():
            self.end(self.waiting[0][0], "cut")
        super().lost()

    def take(self):
        while self.unread and self.take_one():
            pass

    def take_one(self):
        """One head, chunk or body; False: not all of it is there."""
        if self.head is None:
            end = self.unread.find(b"\r\n\r\n")
            if end < 0:
                return False
            lines = bytes(self.unread[:end]).decode("latin-1").split("\r\n")
            del self.unread[:end + 4]
            fields = dict(line.lower().split(": ", 1) for line in lines[1:])
            self.head = int(lines[0].split()[1])
            self.ends = self.ends or fields.get("connection") == "close"
            self.more = None if fields.get("transfer-encoding") else int(fields.get("content-length", 0))
            self.body.clear()
            if not self.waiting:
                self.load.problem("an answer to no request: %r" % lines)
        if self.more is None:
            line, found, _ = self.unread.partition(b"\r\n")
            if not found or len(self.unread) < len(line) + 4 + int(line, 16):
                return False
            size = int(line, 16)
            self.body += self.unread[len(line) + 2:len(line) + 2 + size]
            del self.unread[:len(line) + 4 + size]
            if size > 0:
                return True
        else:
            if len(self.unread) < self.more:
                return False
            self.body += self.unread[:self.more]
            del self.unread[:self.more]
        self.complete(self.head, bytes(self.body))
        self.head = None
        return True

    def complete(self, status, body):
        if status == 100:
            return
        self.over(self.waiting.popleft(), status, body)


class Short(Http1):
    """The same, and it ends after a few requests."""
    left_to_send = 6

    def fill(self):
        while self.left_to_send and len(self.calls) < self.depth:
            self.left_to_send -= 1
            self.issue()
        if not self.left_to_send and not self.waiting:
            self.ends = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)


class Staying(Connection):
    """A connection on which answers come as they do."""

    def issue(self):
        calls, text = self.rpc_message()
        self.unsent += self.wrap(text)
        for call in calls:
            if call.kind == "note":
                self.end(call, "sent")


class Frames(Staying):
    def wrap(self, text):
        return len(text).to_bytes(4, "big") + text

    def take(self):
        while len(self.unread) >= 4:
            end = 4 + int.from_bytes(self.unread[:4], "big")
            if len(self.unread) < end:
                return
            self.answered(json.loads(self.unread[4:end]))
            del self.unread[:end]


class WebSockets(Staying):
    handshake = upgrade("/ws")
    ready = False

    def wrap(self, text):
        return ws_frame(TEXT, text, mask=b"\0\0\0\0")

    def fill(self):
        if self.ready:
            super().fill()

    def take(self):
        if not self.ready:
            end = self.unread.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self.unread.startswith(b"HTTP/1.1 101 "):
                self.load.refused.append(bytes(self.unread[:end]))
                self.ends = True        # it is busy, and says so
            self.ready = True
            del self.unread[:end + 4]
        while len(self.unread) >= 2:
            size, at = self.unread[1], 2
            if size > 125:
                at = 4 if size == 126 else 10
                size = int.from_bytes(self.unread[2:at], "big")
            if len(self.unread) < at + size:
                return
            data, first = bytes(self.unread[at:at + size]), self.unread[0]
            del self.unread[:at + size]
            if first == 0x81:
                self.answered(json.loads(data))
            elif first == 0x89:
                self.unsent += ws_frame(10, data)
            else:
                self.load.problem("a frame that begins with %#x: %r" % (first, data))


class Http2(Connection):
    """Streams, of the same kinds as the requests of Http1."""
    depth = 8

    def __init__(self, load, address):
        super().__init__(load, address)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.conn.initiate_connection()
        self.streams = {}       # number → [calls, status, body]
        self.bodies = {}        # number → what is still to be sent

    def issue(self):
        kind = self.load.rng.choice(["rpc"] * 4 + ["whole", "down", "up"])
        if kind == "rpc":
            calls, body = self.rpc_message()
            method, path = "POST", "/rpc"
        else:
            calls = [self.load.call(self, kind)]
            method, path, body = "GET", calls[0].path(), b""
            if kind == "up":
                method, body = "POST", calls[0].tag.encode() * calls[0].times
        number = self.conn.get_next_available_stream_id()
        self.conn.send_headers(number, [(":method", method), (":scheme", "http"), (":authority", "front.test"),
                                        (":path", path)], end_stream=not body)
        self.streams[number] = [calls, 0, bytearray()]
        if body:
            self.bodies[number] = body

    def fill(self):
        super().fill()
        for number in list(self.bodies):
            body = self.bodies[number]
            room = min(self.conn.local_flow_control_window(number), self.conn.max_outbound_frame_size, len(body))
            if room > 0:
                self.bodies[number] = body[room:]
                self.conn.send_data(number, body[:room], end_stream=room == len(body))
                if room == len(body):
                    del self.bodies[number]
        self.unsent += self.conn.data_to_send()

    def take(self):
        data = bytes(self.unread)
        self.unread.clear()
        for event in self.conn.receive_data(data):
            number = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ConnectionTerminated):
                self.load.problem("GOAWAY %r" % event.error_code)
                self.ends = True
            elif number not in self.streams:
                continue
            elif isinstance(event, h2.events.ResponseReceived):
                self.streams[number][1] = int(dict(event.headers)[b":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.streams[number][2] += event.data
                self.conn.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended(number, getattr(event, "error_code", None))

    def ended(self, number, reset):
        calls, status, body = self.streams.pop(number)
        self.bodies.pop(number, None)
        if reset is not None:
            if reset != h2.errors.ErrorCodes.INTERNAL_ERROR or not status or calls[0].kind != "down":
                self.load.problem("%r of a stream with %r: status %d" % (reset, [call.tag for call in calls], status))
        self.over(calls, status, bytes(body), reset is not None)


KINDS = {"http": Http1, "short": Short, "ws": WebSockets, "frame": Frames, "h2": Http2}


class Load:
    """Many connections in one thread: each calls again and again, until stop()."""

    def __init__(self, site, seed, prefix="t.", http=4, short=2, ws=4, frame=4, h2=2):
        self.site = site
        self.rng = random.Random(seed)
        self.prefix = prefix            # of the tags of its calls, which no other load on this site has
        self.addresses = {"http": site.address, "short": site.address, "ws": site.address, "h2": site.address,
                          "frame": ("127.0.0.1", site.ports["frame"])}
        self.calls = {}                 # tag → Call
        self.problems, self.losses, self.refused = [], [], []
        self.open = 0                   # calls that have no outcome
        self.ended = 0                  # those that have one
        self.counted = collections.Counter()
        self.closing = self.over = False
        self.selector = selectors.DefaultSelector()
        self.live = set()
        self.counts = {"http": http, "short": short, "ws": ws, "frame": frame, "h2": h2}
        for kind, count in self.counts.items():
            for _ in range(count):
                self.connect(kind)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def problem(self, text):
        if len(self.problems) < 20:
            self.problems.append(text)

    def call(self, conn, kind):
        tag = "%s%d." % (self.prefix, len(self.calls))
        times = {"down": self.rng.choice([300, 3000, 80000]), "up": self.rng.choice([20, 2000, 30000])}.get(kind, 0)
        call = self.calls[tag] = Call(tag, kind, times)
        self.open += 1
        conn.calls[tag] = call
        return call

    def end(self, call, outcome):
        if call.outcome is not None:
            self.problem("%s %s: %s, and then %s" % (call.kind, call.tag, call.outcome, outcome))
        else:
            self.open -= 1
            self.ended += 1
            self.counted[outcome] += 1
            call.outcome = outcome

    def connections(self):
        return list(self.live)

    def connect(self, kind):
        try:
            conn = KINDS[kind](self, self.addresses[kind])
        except OSError as e:
            self.problem("connect: %r" % e)     # a front that runs refuses none
            return
        conn.kind = kind
        self.live.add(conn)
        self.selector.register(conn.sock, selectors.EVENT_READ, conn)

    def _run(self):
        try:
            while not self.over:
                self._turn()
        except Exception as e:          # pylint: disable=broad-except
            self.problem("%s: %r" % (type(e).__name__, e))
            raise

    def _turn(self):
        for conn in self.connections():
            if not self.closing:
                conn.fill()
            elif conn.kind == "h2":
                conn.depth = 0
                conn.fill()
            self._write(conn)
        for key, events in self.selector.select(0.02):
            if events & selectors.EVENT_READ:
                self._read(key.data)

    def _write(self, conn):
        if conn.unsent:
            try:
                del conn.unsent[:conn.sock.send(conn.unsent)]
            except BlockingIOError:
                pass
            except OSError:             # what has been answered is still to be read
                conn.unsent.clear()
        self.selector.modify(conn.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if conn.unsent else 0), conn)

    def _read(self, conn):
        try:
            data = conn.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            conn.unread += data
            conn.take()
            return
        self.selector.unregister(conn.sock)
        self.live.discard(conn)
        conn.sock.close()
        conn.lost()
        if not self.closing:
            self.connect(conn.kind)

    def stop(self):
        """No call more; until each has its outcome."""
        self.closing = True
        deadline = time.monotonic() + STALLED
        while self.open and time.monotonic() < deadline and self.thread.is_alive():
            time.sleep(0.002)
        self.over = True
        self.thread.join(STALLED)
        if self.open:
            left = [(call.kind, call.tag) for call in self.calls.values() if call.outcome is None]
            self.problem("%d have no answer: %r" % (self.open, left[:10]))
        for conn in self.connections():
            conn.sock.close()

    def outcomes(self):
        """How many calls have had which outcome so far."""
        return collections.Counter(self.counted)


def ledgers(paths):
    """{tag: (times with the flag RETRY, times without)}."""
    found = collections.defaultdict(lambda: [0, 0])
    for path in paths:
        with open(path, encoding="ascii") as f:
            for line in f.read().splitlines():
                tag, flags = line.split()
                found[tag][0 if int(flags) & 8 else 1] += 1
    return found


def check_workers(load, found):
    """What workers were given is what clients have sent, once, or more often where it may be."""
    wrong = []
    for tag in found:
        if tag not in load.calls and tag.startswith(load.prefix):
            wrong.append("nobody has sent %s" % tag)
    for tag, call in load.calls.items():
        retried, first = found.get(tag, (0, 0))
        most = 1 if call.kind != "again" else 9
        if first > 1 or retried + first > most:
            wrong.append("%s %s: %s, and workers have had it %d + %d times" % (call.kind, tag, call.outcome, first, retried))
        if call.outcome == "ok" and not first + retried:
            wrong.append("%s %s was answered by nobody" % (call.kind, tag))
        if call.outcome in UNSEEN and call.kind != "again" and first + retried:
            wrong.append("%s %s: %s, but a worker has had it" % (call.kind, tag, call.outcome))
    assert not wrong, "\n".join(wrong[:20])


def counted(scraped):
    """{outcome: how many calls the front has counted as that}."""
    found = collections.Counter()
    for (code,), number in scraped.sums("frontd_calls_total", "code").items():
        found["ok" if code == "2xx" else code] += int(number)
    return found


def check_metrics(load, before, after):
    """What the front has counted of calls is what clients have seen. Of those without an answer it is known only that
    they were counted, and of those whose connection has ended not even that."""
    front = counted(after)
    front.subtract(counted(before))
    seen = load.outcomes()
    maybe = seen.pop("closed", 0)
    maybe += seen.pop("sent", 0) if maybe else 0
    hidden = sum(seen.pop(outcome, 0) for outcome in ("sent", "cut"))
    seen.pop("unread", None)
    more = {code: front[code] - seen[code] for code in front | seen}
    assert all(number >= 0 for number in more.values()), (more, front, seen)
    assert hidden <= sum(more.values()) <= hidden + maybe, (more, front, seen, hidden, maybe)
