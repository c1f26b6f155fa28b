"""`limits.memory`: whatever holds a shard's memory, it stays within its budget, others are served or told that
it is overloaded, and afterwards all is as before."""
import concurrent.futures
import contextlib
import json
import socket
import threading
import time

import pytest

from fakeworker import echo, frame
from harness import http_route, memory, rpc_route, sanitized, wait_for, ws_route
from httpclient import BadResponse, Closed, request, rpc_body, rpc_request
from test_client_memory import Watched, connect
from wsclient import CONTINUATION, TEXT, ws_frame
from wsdeflate import DeflateClient, deflated, frames

MB = 1 << 20
LIMIT = 64 * MB
ALLOWED = LIMIT + LIMIT // 10

# In a build with ASan the allocator keeps what is freed: there it is only seen that all goes on.


def build(site, handler=echo, memory="64MiB", timeout="30s", **limits):
    keys = {"timeout": timeout}
    web = site(routes=[rpc_route(**keys), http_route(**keys), ws_route(**keys),
                      ws_route("/packed", pool="none", compression=True, **keys)],
               pools={"app": {}, "none": {"wait_for_worker": "1h"}},
               streams={"frame": dict(keys), "line": dict(keys)}, limits={"memory": memory, **limits})
    worker = web.fake(handler=handler)
    web.start()
    with web.client() as one:
        for n in range(50):
            assert one.rpc("demo.echo", ["w" * 10000]).status == 200
    return web, worker


class Normal(threading.Thread):
    """A client that calls all the time: each call has an answer or -32001, within a time."""

    def __init__(self, web):
        super().__init__(daemon=True)
        self.web = web
        self.served = self.refused = 0
        self.problems = []
        self.closing = threading.Event()

    def run(self):
        client = None
        while not self.closing.is_set():
            try:
                client = client or self.web.client(timeout=20)
                answer = client.rpc("demo.echo", [1])
                if answer.status == 200:
                    self.served += 1
                else:
                    assert answer.status == 503 and answer.json()["error"]["code"] == -32001, answer
                    assert answer.header("retry-after"), answer
                    self.refused += 1
            except (OSError, Closed, BadResponse, AssertionError) as e:
                self.problems.append(repr(e))
                client = None
            time.sleep(0.005)
        if client:
            client.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.closing.set()
        self.join(30)
        if kind is None:
            assert not self.is_alive() and not self.problems, self.problems[:3]
            assert self.served + self.refused > 0


def works_again(web):
    wait_for(lambda: web.connections() == 0, "the end of all connections", 60)
    wait_for(lambda: web.rpc("demo.echo", [2]).status == 200, "service", 60)


@contextlib.contextmanager
def attacked(web):
    """What is in it, beside a normal client, with the shard's memory watched."""
    with Watched(web.shard) as watched, contextlib.ExitStack() as stack:
        stack.watched = watched
        with Normal(web) as normal:
            yield stack
            served = normal.served + normal.refused
            wait_for(lambda: normal.served + normal.refused > served or normal.problems, "the normal client", 30)
    works_again(web)
    if not sanitized():
        assert watched.most < ALLOWED, "%d MiB" % (watched.most >> 20)


def some_at_once(count, attack):
    """attack(n) for each n below `count`. Most of the time each waits for a shard that does not read."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(attack, range(count)))


def send_some(client, data):
    """As much of it as goes; the other side may have ended."""
    client.sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        client.sock.sendall(data)


def half_sent(client, kind, size):
    body = rpc_body("demo.echo", ["h" * size])
    if kind == "http":
        return rpc_request("demo.echo", ["h" * size])[:-10]
    if kind == "ws":
        return ws_frame(TEXT, body[:size // 2], fin=False) + ws_frame(CONTINUATION, body[size // 2:], fin=False)
    return client.wrap(body)[:-10]


@pytest.mark.parametrize("kind, size, count", [(kind, 900000, 100) for kind in ("http", "ws", "frame", "line")] +
                         [(kind, 50000, 1500) for kind in ("http", "ws")])
def test_half_sent(site, kind, size, count):
    """Bodies and messages that never end: 90 MB, and 75 MB of small ones."""
    web, _ = build(site, body_timeout="3s")
    with attacked(web) as stack:
        attackers = []

        def attack(_):
            with contextlib.suppress(OSError, Closed, AssertionError):      # new ones wait, or get 503
                client = stack.enter_context(connect(web, kind, timeout=0.5))
                attackers.append(client)
                send_some(client, half_sent(client, kind, size))
        some_at_once(count, attack)
        assert len(attackers) > count // 10


@pytest.mark.parametrize("kind", ["http", "ws", "frame", "line", "batch"])
def test_answers_that_are_not_read(site, kind):
    """Of many clients, each within what one may have."""
    text = b'"' + b"x" * MB + b'"'
    web, worker = build(site, handler=lambda call: call.reply(text) if call.method == "big" else echo(call))
    with attacked(web) as stack:
        def attack(_):
            with contextlib.suppress(OSError, Closed, AssertionError):
                client = stack.enter_context(connect(web, "ws" if kind == "batch" else kind, rcvbuf=4096, timeout=0.5))
                bodies = [rpc_body("big", [n], id=n) for n in range(4)]
                if kind == "http":
                    data = b"".join(rpc_request("big", [n], id=n) for n in range(4))
                elif kind == "batch":
                    data = client.wrap(b"[" + b",".join(bodies) + b"]")
                else:
                    data = b"".join(client.wrap(body) for body in bodies)
                send_some(client, data)
        some_at_once(150, attack)


@pytest.mark.parametrize("size, count", [(1000000, 90), (60000, 1500)])
def test_calls_that_wait_for_a_worker(site, size, count):
    """The queue is bounded by what its calls hold, too."""
    web, worker = build(site, handler=lambda call: None if call.method == "hold" else echo(call), timeout="2s",
                        body_timeout="4s")
    with attacked(web) as stack:
        made = [stack.enter_context(web.client(timeout=60)) for _ in range(count)]
        senders = [threading.Thread(target=client.try_send, args=(rpc_request("hold", ["q" * size], id=n),))
                   for n, client in enumerate(made)]
        for sender in senders:
            sender.daemon = True
            sender.start()
        statuses = []
        for client in made:
            with contextlib.suppress(OSError, Closed, BadResponse):     # some are ended in the middle of theirs
                statuses.append(client.read_response().status)
        assert set(statuses) <= {408, 503, 504}, set(statuses)
        assert 504 in statuses and (size > 100000 or 503 in statuses)


def test_messages_that_inflate(site):
    """Each is a kilobyte when it comes, and a call of a megabyte that waits for a worker which never comes."""
    web, _ = build(site)
    bomb = frames(TEXT, deflated(rpc_body("late", ["b" * 1_000_000])))
    assert len(bomb) < 2000
    with attacked(web) as stack:
        made = []

        def attack(_):
            with contextlib.suppress(OSError, Closed, AssertionError):      # new ones wait, or get 503
                client = stack.enter_context(DeflateClient(web.address, "/packed", timeout=0.5))
                send_some(client, bomb * 40)
                made.append(client)
        some_at_once(50, attack)
        assert len(made) > 2
        wait_for(lambda: "refused for want of room" in web.front.text(), "memory to be short")


def test_answers_in_parts(site):
    """Streams of many clients, none of which ever ends."""
    held = []

    def handler(call):
        if call.method != "http.request":
            echo(call)
            return
        held.append(call)
        call.channel.send(frame(3, call.call, b'{"jsonrpc":"2.0","id":' + call.id + b',"result":{"status":200}}',
                                flags=2))
        for _ in range(10):
            call.channel.send(frame(13, call.call, blob=b"p" * 100000, flags=2))

    web, worker = build(site, handler=handler, timeout="5s")
    with attacked(web) as stack:
        def attack(_):
            with contextlib.suppress(OSError, Closed, AssertionError):
                client = stack.enter_context(web.client(timeout=0.5))
                send_some(client, request("GET", "/stream"))
        some_at_once(150, attack)
        wait_for(lambda: len(held) > 30, "streams")


@pytest.mark.parametrize("slow", ["close", "drop"])
def test_pushes_to_clients_that_do_not_read(site, slow):
    """Each has its own, within write_buffer."""
    web = site(routes=[rpc_route(), ws_route(slow=slow)], limits={"memory": "64MiB", "write_buffer": "1MiB"})
    worker = web.fake(handler=echo)
    web.start()
    with attacked(web) as stack:
        made = []

        def attack(_):
            with contextlib.suppress(OSError, Closed, AssertionError):
                client = stack.enter_context(web.ws(rcvbuf=4096, timeout=2))
                client.send_json({"jsonrpc": "2.0", "id": 1, "method": "demo.echo"})
                made.append(client)
        some_at_once(150, attack)
        worker.wait(lambda: len([c for c in worker.calls if c.conn]) >= len(made) // 2, "their calls")
        for call in [c for c in worker.calls if c.conn]:
            for _ in range(60):
                call.push(json.dumps({"p": "z" * 50000}).encode())
        assert worker.channel().sync()


def test_a_client_that_is_paused_goes_on(site):
    """Not read while memory is short; what it sends is served when there is some again."""
    web, worker = build(site, body_timeout="20s")
    with contextlib.ExitStack() as stack:
        # Fewer than the budget has room for: when it is used up, the largest are ended.
        attackers = [stack.enter_context(web.client(timeout=1)) for _ in range(52)]
        large = stack.enter_context(web.client(timeout=60))
        whole = rpc_request("demo.echo", ["l" * 900000], id=7)
        large.send(whole[:200000])
        for client in attackers:
            send_some(client, half_sent(client, "http", 900000))
        sender = threading.Thread(target=lambda: large.try_send(whole[200000:]), daemon=True)
        sender.start()
        wait_for(lambda: memory(web.shard) > 40 * MB or sanitized(), "memory to be short")
        for client in attackers:
            client.close()
        answer = large.read_response()
        assert answer.status == 200 and len(answer.json()["result"][0]) == 900000
        sender.join(10)
    works_again(web)


def test_what_holds_memory_is_in_the_log(site):
    web, _ = build(site, memory="16MiB")
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            with contextlib.suppress(OSError, Closed):
                client = stack.enter_context(web.client(timeout=0.5))
                send_some(client, half_sent(client, "http", 60000))
            if "limits.memory" in web.front.text():
                break
        wait_for(lambda: "limits.memory" in web.front.text(), "a line in the log")
        assert web.front.text().count("connections that hold the most are ended") <= 2
    works_again(web)


def test_no_more_connections_while_it_is_short(site):
    """They wait in the accept queue, and are served when there is memory again."""
    reads = threading.Event()

    def handler(call):
        if call.method == "hold":
            reads.wait(30)      # and takes nothing from its channel meanwhile
        else:
            echo(call)
    web, worker = build(site, handler=handler, timeout="3s")
    with contextlib.ExitStack() as stack:
        stack.callback(reads.set)
        with web.client(timeout=30) as before:
            made = [stack.enter_context(web.client(timeout=30)) for _ in range(1200)]
            # No more than it takes: what is not read yet would make it short once more when it is read.
            for n, client in enumerate(made):
                send_some(client, rpc_request("hold", ["q" * 60000], id=n))
                if "refused for want of room" in web.front.text():
                    break
            wait_for(lambda: "refused for want of room" in web.front.text(), "memory to be short", interval=0.02)
            assert before.rpc("demo.echo").status == 503
            late = stack.enter_context(web.client(timeout=30))
            late.send(rpc_request("demo.echo", ["late"]))
            reads.set()
            assert late.read_response().status == 200
        assert "accepting pauses: limits.memory" in web.front.text()
    works_again(web)


def test_memory_of_a_peak_is_given_back(site):
    """Of many connections, and of large answers: little stays."""
    if sanitized():
        pytest.skip("its allocator keeps what is freed")
    text = b'"' + b"x" * MB + b'"'
    web, worker = build(site, handler=lambda call: call.reply(text) if call.method == "big" else echo(call),
                        memory="1GiB", write_buffer="4MiB")
    base = memory(web.shard)

    def rest(peak):
        wait_for(lambda: memory(web.shard) - base < 0.15 * (peak - base) + MB, "memory to be given back", 20)

    with contextlib.ExitStack() as stack:
        for n in range(6000):
            client = socket.create_connection(web.address)
            stack.callback(client.close)
            if n % 3 == 0:
                client.sendall(rpc_request("demo.echo", [n]))
        wait_for(lambda: web.connections() == 6000, "all connections", 60)
        peak = memory(web.shard)
    wait_for(lambda: web.connections() == 0, "their end", 60)
    rest(peak)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(web.client(rcvbuf=4096))
            client.send(b"".join(rpc_request("big", [n]) for n in range(12)))
        wait_for(lambda: memory(web.shard) - base > 100 * MB, "the peak", 30)
        peak = memory(web.shard)
    wait_for(lambda: web.connections() == 0, "their end", 60)
    rest(peak)
    assert web.rpc("demo.echo", [1]).status == 200


@pytest.mark.parametrize("kind", ["line", "ws"])
def test_topics_and_headers_fill_it(site, kind):
    """Of each line client the topics, of each WebSocket a header field. Nobody waits for anything then, and nothing would ever become less by itself: the largest go after a while."""
    web = site(routes=[rpc_route(), ws_route(headers=["x-large"])], streams={"line": {}}, limits={"memory": "16MiB"})

    def handler(call):
        if call.method != "join" or kind == "ws":
            echo(call)
            return
        for n in range(64):
            call.channel.subscribe(call.conn, "%d.%d." % (call.conn, n) + "t" * 220)
        call.reply(1)
    worker = web.fake(handler=handler)
    worker.keep_frames = False
    web.start()
    with contextlib.ExitStack() as stack:
        few = stack.enter_context(web.stays("line", timeout=30))
        few.call("demo.echo", [1])
        for _ in range(1000):
            with contextlib.suppress(OSError, Closed, AssertionError):
                keys = {"headers": [("x-large", "h" * 14000)]} if kind == "ws" else {}
                client = stack.enter_context(web.stays(kind, timeout=30, **keys))
                client.ask("join")
                client.read_json()
            if "accepting pauses: limits.memory" in web.front.text():
                break
        with web.client(timeout=30) as late:
            assert late.rpc("demo.echo", [2]).status == 200
        assert "connections that hold the most are ended" in web.front.text()
        assert few.call("demo.echo", [3], id=2) == [3]      # who holds little stays
    works_again(web)
