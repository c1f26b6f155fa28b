"""Who is given up with bytes unsent is reset, so that no kernel keeps them; an orderly end stays orderly."""
import contextlib
import errno
import signal
import socket
import threading
import time

import pytest

from fakeworker import HELLO, echo, frame, hold
from harness import LIMIT, http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request
from kernelsockets import ORPHANS, front_end, orphans, ports, table
from patience import patient
from reloads import Front

MB = 1 << 20
KINDS = ["http", "ws", "frame", "line"]
BIG = 16 * MB - 4096        # of an answer that no buffers of the kernel have room for
SOME = 256 << 10            # of one that the kernel takes at once, and the client's has no room for
SMALL = 4096                # receive buffer of a client that does not read


def answer(call):
    size = BIG if call.method == "big" or call.method == "http.request" and "big" in call.params["path"] else SOME
    if call.method in ("big", "some"):
        call.reply("x" * size)
    elif call.method == "http.request":
        call.http(200, [], b"x" * size)
    else:
        echo(call)


def build(site, limits=None, handler=answer, **keys):
    stays = {"events": True, "timeout": "60s"}
    web = site(streams={"frame": stays, "line": stays}, routes=[rpc_route(), http_route("/get"), ws_route(**stays)],
               limits={"body_timeout": "1s", **(limits or {})}, **keys)
    web.fake(handler=handler)
    return web.start()


def connect(web, kind, **keys):
    return web.client(**keys) if kind == "http" else web.stays(kind, **keys)


def ask(client, method):
    if hasattr(client, "wrap"):
        client.send(client.wrap(rpc_body(method, None, 1)))
    else:
        client.send(rpc_request(method, None, id=1))


def waits(pair):
    """Something waits in the front's kernel for a client that does not read."""
    wait_for(lambda: (front_end(pair) or (0, 0))[1] > 8192, "what is not read")


def is_reset(client):
    """Reads all that has come; whether the connection ended with a reset, and not as if it were complete."""
    with contextlib.suppress(AttributeError):
        client.sock.settimeout(LIMIT)
    try:
        while client.sock.recv(1 << 20):
            pass
        return False
    except OSError as e:
        assert e.errno == errno.ECONNRESET, e
        return True


def is_over(web, pair):
    wait_for(lambda: front_end(pair) is None, "the end of the socket", 2 * LIMIT)
    assert not orphans([pair])


def takes_nothing(web, client, pair):
    """body_timeout"""


def reads_too_slowly(web, client, pair):
    """write_rate: a little now and then, of more than write_buffer."""
    deadline = time.monotonic() + 3 * LIMIT
    with contextlib.suppress(ConnectionResetError):
        while front_end(pair) is not None:
            assert time.monotonic() < deadline
            client.sock.recv(100)
            time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [takes_nothing, reads_too_slowly], ids=lambda f: f.__name__)
def test_a_slow_reader(site, kind, how):
    web = build(site, {"write_rate": "1MiB"})
    with connect(web, kind, rcvbuf=SMALL) as client:
        ask(client, "big")
        pair = ports(client)
        waits(pair)
        how(web, client, pair)
        is_over(web, pair)
        if how is takes_nothing:
            assert is_reset(client)
    wait_for(lambda: web.connections() == 0, "its end")


@pytest.mark.parametrize("kind", ["http", "frame", "line"])
@pytest.mark.parametrize("shut", [False, True], ids=["open", "half closed"])
@patient(0.2)
def test_one_whose_answer_is_all_in_the_kernel(site, kind, shut):
    """Nothing waits in the shard any more, which shuts its side. The connection is kept, and counted, for as long as
    the client reads; one that does not is reset."""
    web = build(site)
    with connect(web, kind, rcvbuf=SMALL) as client:
        ask(client, "some") if kind != "http" else client.send(
            request("GET", "/get/some", None, [("Connection", "close")]))
        pair = ports(client)
        waits(pair)
        if shut or kind != "http":
            client.sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: (front_end(pair) or "-")[0] != "01", "its end")
        assert web.connections() == 1, "nobody counts it"
        is_over(web, pair)
        assert is_reset(client)


@pytest.mark.parametrize("kind", ["http", "frame", "line"])
def test_one_that_reads_to_the_end(site, kind):
    """As before, but it reads, and for longer than a connection lingers: it gets all of it and an orderly end."""
    web = build(site, {"write_rate": "16KiB"})
    with connect(web, kind, rcvbuf=SMALL) as client:
        ask(client, "some") if kind != "http" else client.send(
            request("GET", "/get/some", None, [("Connection", "close")]))
        pair = ports(client)
        waits(pair)
        if kind != "http":
            client.sock.shutdown(socket.SHUT_WR)
        got, began = 0, time.monotonic()
        while True:
            data = client.sock.recv(SOME // 50)
            if not data:
                break
            got += len(data)
            if time.monotonic() - began < 5:
                time.sleep(0.1)
        assert got > SOME
        assert time.monotonic() - began >= 4
    wait_for(lambda: web.connections() == 0, "its end")


@pytest.mark.parametrize("size", ["some", "big"])
@patient(0.2)
def test_an_idle_connection(site, size):
    """At idle_timeout nothing waits in the shard, but the client has not read it all."""
    web = build(site, {"idle_timeout": "1s"})
    with web.client(rcvbuf=SMALL) as client, web.client(rcvbuf=SMALL) as reads:
        pairs = ports(client), ports(reads)
        if size == "big":
            ask(client, "big")
            waits(pairs[0])
        for each in (client, reads):
            with contextlib.suppress(OSError):      # on a busy machine it may have been given up by now
                ask(each, "some")
        waits(pairs[1])
        time.sleep(1.5)
        got = reads.read_response()
        assert len(got.body) > SOME and reads.at_end()
        is_over(web, pairs[0])
        assert is_reset(client)


def test_a_websocket_that_does_not_answer_our_close(site):
    """What was pushed before is all in the kernel: one that reads gets it, and the Close."""
    web = build(site)
    worker = web.workers[0]
    with web.ws(rcvbuf=SMALL, timeout=20) as client, web.ws(rcvbuf=SMALL) as deaf:
        pairs = ports(client), ports(deaf)
        worker.wait(lambda: len(worker.connects) == 2, "frontd.connect")
        conns = [c.params["conn"] for c in worker.connects]
        for conn in conns:
            worker.channel().push(int(conn), b'"%s"' % (b"x" * SOME))
            worker.channel().disconnect(int(conn), 4000)
        assert worker.channel().sync()
        for pair in pairs:
            waits(pair)
        assert len(client.read_text()) > SOME
        client.expect_close(4000)
        is_over(web, pairs[1])
        assert is_reset(deaf)


def test_many_that_are_pushed_too_much(site):
    """slow: close, and nobody reads: their kernel buffers are full when they end."""
    web = build(site, {"write_buffer": "64KiB"})
    worker = web.workers[0]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(web, kind, rcvbuf=SMALL)) for kind in KINDS[1:] for _ in range(4)]
        pairs = [ports(client) for client in clients]
        worker.wait(lambda: len(worker.connects) == len(clients), "frontd.connect")
        channel = worker.channel()
        for c in worker.connects:
            for _ in range(200):
                channel.push(int(c.params["conn"]), b'"%s"' % (b"x" * 60000))
        assert channel.sync()
        worker.wait(lambda: len(worker.disconnects) == len(clients), "frontd.disconnect", 3 * LIMIT)
        wait_for(lambda: web.connections() == 0, "the end of all")
        assert not orphans(pairs)
        assert all(is_reset(client) for client in clients)


def test_the_drain_limit(site):
    """What has not been read by then is given up, with the process."""
    web = build(site, {"body_timeout": "60s"}, drain="1s")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(web, kind, rcvbuf=SMALL)) for kind in KINDS]
        last = stack.enter_context(web.client(rcvbuf=SMALL))
        idle = [stack.enter_context(connect(web, kind)) for kind in KINDS]
        pairs = [ports(client) for client in [*clients, last]]
        for client in clients:
            ask(client, "big")
        last.send(request("GET", "/get/some", None, [("Connection", "close")]))
        for pair in pairs:
            waits(pair)
        web.front.signal(signal.SIGTERM)
        assert web.front.wait() == 0
        assert not orphans(pairs)
        assert all(is_reset(client) for client in [*clients, last])
        assert not any(is_reset(client) for client in idle)
    web.front = None


def asks_twice(web, client, method):
    """And sends no more. Its first call is answered when the second one has come, which never is."""
    both = [rpc_body(method, None, 1), rpc_body("never", None, 2)]
    if hasattr(client, "wrap"):
        client.send(b"".join(client.wrap(body) for body in both))
    else:
        client.send(b"".join(request("POST", "/rpc", body) for body in both))
    client.sock.shutdown(socket.SHUT_WR)
    web.workers[0].wait_calls(2)
    answer(web.workers[0].calls[0])
    wait_for(lambda: web.workers[0].calls[1].cancelled, "CANCEL")


@pytest.mark.parametrize("kind", ["http", "frame", "line"])
@pytest.mark.parametrize("size", ["some", "big"])
def test_a_half_closed_client_whose_second_call_takes_too_long(site, size, kind):
    """The first answer is left to it, also what of it the kernel has not taken yet."""
    web = build(site, {"body_timeout": "30s"}, hold)
    with connect(web, kind, rcvbuf=SMALL, timeout=20) as client:
        asks_twice(web, client, size)
        got = 0
        while data := client.sock.recv(1 << 20):
            got += len(data)
        assert got > (SOME if size == "some" else BIG)


@pytest.mark.parametrize("kind", ["http", "frame", "line"])
def test_a_half_closed_client_that_reads_nothing(site, kind):
    """It has body_timeout for the rest, and is reset then."""
    web = build(site, {"body_timeout": "3s"}, hold)
    with connect(web, kind, rcvbuf=SMALL) as client:
        asks_twice(web, client, "big")
        pair = ports(client)
        assert front_end(pair) is not None
        is_over(web, pair)
        assert is_reset(client)
    wait_for(lambda: web.connections() == 0, "its end")


def test_over_a_reload():
    """One that lingers moves, and is reset by the new shard, or reads to its end there."""
    web = Front(drain="60s", routes=[http_route("/")], limits={"body_timeout": "3s"})
    try:
        web.fake(handler=answer)
        web.start()
        with web.client(rcvbuf=SMALL) as deaf, web.client(rcvbuf=SMALL, timeout=20) as reads:
            for client in (deaf, reads):
                client.send(request("GET", "/some", None, [("Connection", "close")]))
            pairs = ports(deaf), ports(reads)
            for pair in pairs:
                waits(pair)
            deaf.sock.shutdown(socket.SHUT_WR)
            web.reload()
            assert web.connections() == 2
            assert len(reads.read_response().body) == SOME and reads.at_end()
            is_over(web, pairs[0])
            assert is_reset(deaf)
    finally:
        web.end()


class DeafWorker(threading.Thread):
    """Answers each HELLO over TCP, and reads nothing after that."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.socks = []
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            head = sock.recv(32, socket.MSG_WAITALL)
            sock.recv(int.from_bytes(head[:4], "big"), socket.MSG_WAITALL)
            sock.sendall(frame(HELLO, body=b'{"protocol":1,"concurrency":0}'))

    def close(self):
        self.listener.close()
        for sock in self.socks:
            sock.close()


def test_a_worker_over_tcp_that_does_not_read(site):
    """Much is on its way to it when it is given up, in the shard and in the kernel: its channel is reset."""
    worker = DeafWorker()
    web = site(routes=[rpc_route(timeout="5s")], limits={"body": 8 * MB},
               pools={"app": {"workers": ["tcp://127.0.0.1:%d" % worker.port], "worker_timeout": "1s"}})
    web.start(ready=False)
    web.wait_served()
    wait_for(lambda: "is there" in web.front.text(), "the worker")
    with contextlib.ExitStack() as stack:
        stack.callback(worker.close)
        clients = [stack.enter_context(web.client(timeout=30)) for _ in range(4)]
        for client in clients:
            client.send(rpc_request("m", ["x" * (3 * MB)], id=1))
        for client in clients:
            assert client.read_response().status in (502, 503, 504)
        assert "taken out" in web.front.text()
        web.stop()
        wait_for(lambda: not [row for row in table() if row[1] == worker.port and row[2] in ORPHANS and row[3] > 4096],
                 "the end of what was on its way")
        with pytest.raises(ConnectionResetError):
            worker.socks[0].settimeout(LIMIT)
            while worker.socks[0].recv(1 << 20):
                pass
