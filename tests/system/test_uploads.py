"""Bodies of requests that go to the worker in parts, on routes with `stream_body`."""
import concurrent.futures
import contextlib
import hashlib
import os
import struct
import socket
import time

import pytest

import harness
from h2client import H2Client
from harness import Site, http_route, memory, sanitized, wait_for
from httpclient import BadResponse, Closed
from reloads import Paused
from streamworker import build

LIMIT, MOST = 65536, 8 << 20
BODY = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def web():
    routes = [{**http_route("/"), "stream_body": "8MiB", "stream_timeout": "3s"}, http_route("/whole")]
    with Site(shards=1, routes=routes, limits={"body": "64KiB", "body_timeout": "1s"}) as site:
        site.config["listeners"][0]["h2c"] = True
        yield build(site)


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def head(path, n=None, *fields):
    lines = ["POST %s HTTP/1.1" % path, "Host: h", *fields]
    lines.append("Transfer-Encoding: chunked" if n is None else "Content-Length: %d" % n)
    return "\r\n".join(lines + ["", ""]).encode()


def chunks(body, size):
    return b"".join(b"%x\r\n%b\r\n" % (len(body[i:i + size]), body[i:i + size])
                    for i in range(0, len(body), size)) + b"0\r\n\r\n"


def told(body):
    return "%d %s " % (len(body), hashlib.sha256(body).hexdigest())


def answered(answer, body):
    assert answer.status == 200, answer.body
    assert answer.body.decode().startswith(told(body))
    return int(answer.body.split()[-1])


def uploads(web, what):
    """How many have begun, or ended without their body, in the worker."""
    with web.client() as client:
        return client.request("GET", "/" + what).body.count(b"upload")


@pytest.mark.parametrize("n", [0, 1, LIMIT, LIMIT + 1, 1 << 20])
@pytest.mark.parametrize("size", [None, 1000, 100000], ids=["length", "small", "large"])
def test_a_body_of_any_length(client, n, size):
    """And the connection goes on: the next request is one of its own."""
    body = BODY[:n]
    for _ in range(2):
        if size is None:
            client.send(head("/upload", n) + body)
        else:
            client.send(head("/upload") + chunks(body, size))
        count = answered(client.read_response(), body)
        assert size is not None or n > LIMIT or count <= 1
    assert client.request("GET", "/parts/3").body == b"0,1,2,"


def test_cut_anywhere(client):
    """Chunks and what follows them, a byte at a time."""
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in head("/upload") + chunks(b"hello", 2) + head("/upload", 3) + b"abc":
        client.send(bytes([byte]))
    answered(client.read_response(), b"hello")
    answered(client.read_response(), b"abc")


def test_pipelined(client):
    body = BODY[:200000]
    client.send(head("/upload", 5) + b"first" + head("/upload", len(body)) + body + head("/upload") + chunks(body, 9999)
                + head("/upload", 4) + b"last")
    for expected in (b"first", body, body, b"last"):
        answered(client.read_response(), expected)


def test_expect(client):
    client.send(head("/upload", LIMIT + 1, "Expect: 100-continue"))
    assert client.read_response().status == 100
    client.send(BODY[:LIMIT + 1])
    answered(client.read_response(), BODY[:LIMIT + 1])


def test_both_at_once(client):
    """What comes back as it is sent: the worker answers before the body is complete."""
    client.send(head("/echo"))
    got = b""
    for i in range(20):
        client.send(b"6\r\npart%02d\r\n" % i)
        while b"part%02d" % i not in client.buffer:
            assert client._fill()
    client.send(b"0\r\n\r\n")
    assert client.read_response().body == b"".join(b"part%02d" % i for i in range(20))


@pytest.mark.parametrize("path, n, status", [("/upload", MOST, 200), ("/upload", MOST + 1, 413), ("/whole", LIMIT + 1, 413)])
def test_limits(client, path, n, status):
    client.send(head(path, n))
    if status == 200:
        for _ in range(0, n, 1 << 20):
            client.send(BODY)
    assert client.read_response().status == status


def test_too_long_in_chunks(client):
    client.send(head("/upload"))
    with pytest.raises((BrokenPipeError, ConnectionResetError, socket.timeout)):
        for _ in range(0, MOST + (4 << 20), 1 << 20):
            client.send(b"100000\r\n%b\r\n" % BODY)
        client.send(b"0\r\n\r\n")
        assert client.read_response().status == 413
        raise BrokenPipeError
    # Either way the answer is there.


def test_wrong_in_the_middle(client):
    client.send(head("/upload") + b"5\r\nhello\r\nwrong")
    assert client.read_response().status == 400
    assert client.rest() == b""


def test_an_early_answer(client):
    """The rest is not waited for, and the connection ends."""
    client.send(head("/early", MOST) + BODY[:100000])
    answer = client.read_response()
    assert answer.status == 403 and answer.body == b"enough" and answer.header("connection") == "close"


def test_a_slow_worker_holds_up_its_client_alone(web, client):
    before = memory(web.shard)
    with web.client(timeout=60) as slow:
        slow.send(head("/upload/slow", 8 << 20))
        slow.sock.setblocking(False)
        sent, until = 0, time.monotonic() + 1
        while time.monotonic() < until:
            try:
                sent += slow.sock.send(BODY)
            except BlockingIOError:
                assert client.request("GET", "/parts/3").status == 200
        assert memory(web.shard) - before < (4 if not sanitized() else 64) << 20


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_goes(web, how):
    """In the middle of its body: the worker is told at once."""
    begun, ended = uploads(web, "begun"), uploads(web, "ended")
    with web.client() as client:
        client.send(head("/upload", 1 << 20) + BODY[:300000])
        wait_for(lambda: uploads(web, "begun") > begun, "the beginning in the worker")
        if how == "half":
            client.sock.shutdown(socket.SHUT_WR)
        elif how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            client.close()
        wait_for(lambda: uploads(web, "ended") > ended, "the end in the worker")


def test_a_client_that_shuts_its_side_behind_the_body(client):
    client.send(head("/upload", 300000) + BODY[:300000])
    client.sock.shutdown(socket.SHUT_WR)
    answered(client.read_response(), BODY[:300000])


def test_a_slow_client(client):
    client.send(head("/upload", 1 << 20) + BODY[:1000])
    assert client.read_response().status == 408


def test_a_worker_that_stops_taking(client):
    """Nothing moves for `stream_timeout`."""
    client.send(head("/upload/stop", 1 << 20) + BODY)
    assert client.read_response().status == 504


def test_a_worker_that_is_lost(web):
    with web.client() as client:
        client.send(head("/upload/die", 1 << 20) + BODY[:500000])
        assert client.read_response().status == 502
    with web.client() as client:
        wait_for(lambda: client.request("GET", "/whole").status == 200, "a worker")


def test_of_http2(web):
    with H2Client(web.address) as client:
        numbers = [client.open("POST", "/upload", BODY[:n]) for n in (3, LIMIT + 1, 300000)]
        for number, n in zip(numbers, (3, LIMIT + 1, 300000)):
            answer = client.wait(number)
            assert answer.status == 200 and answer.body.decode().startswith(told(BODY[:n]))
        echo = client.open("POST", "/echo", end=False)
        for i in range(10):
            client.data(echo, b"part%02d" % i, end=False)
            client.until(lambda: client.streams[echo].body.endswith(b"part%02d" % i))
        client.data(echo, b"", end=True)
        assert client.wait(echo).body == b"".join(b"part%02d" % i for i in range(10))
        early = client.open("POST", "/early", BODY[:100], end=False)
        assert client.wait(early).status == 403
        slow = client.open("POST", "/upload", BODY[:100], end=False)
        assert client.wait(slow).status == 408


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_of_http2_that_goes(web, how):
    begun, ended = uploads(web, "begun"), uploads(web, "ended")
    with H2Client(web.address) as client:
        number = client.open("POST", "/upload", BODY[:100], end=False)
        client.read()
        wait_for(lambda: uploads(web, "begun") > begun, "the beginning in the worker")
        if how == "reset":
            client.conn.reset_stream(number, 8)
            client.flush()
        else:
            client.close()
        wait_for(lambda: uploads(web, "ended") > ended, "the end in the worker")


def test_a_worker_that_stops_for_a_while(web):
    """More than may wait in its channel for all bodies together: all of them go on when it reads again."""
    worker, = [pid for pid in harness.children(web.front.pid) if web.path("worker.py") in harness.command_line(pid)]
    data = head("/upload") + chunks(BODY, 100000)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.client(timeout=60)) for _ in range(60)]
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(clients)))
        with Paused(worker):
            sent = [pool.submit(client.send, data) for client in clients]
            time.sleep(0.3)         # of the worker's 32 slots 8 MiB would be there, but for the limit of 4
        for one, client in zip(sent, clients):
            one.result(60)
            answered(client.read_response(), BODY)
