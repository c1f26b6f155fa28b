"""Slow clients of every kind end at their limit, while a healthy one is served as before."""
import time

import pytest

from fakeworker import echo, hold
from harness import Site, http_route, rpc_route, wait_for
from httpclient import Closed, request, rpc_body, rpc_request

HEADER, BODY, IDLE = 0.5, 0.7, 0.9      # seconds, of this file's site
EARLY = 0.05                            # what a clock may differ by


def slow(call):
    """http.request /big: a big answer; /hold: none; else an echo."""
    path = call.params["path"] if call.method == "http.request" else ""
    if path.startswith("/big"):
        call.http(200, [], b"b" * 400000)
    elif path != "/hold":
        echo(call)


@pytest.fixture(scope="module")
def web():
    limits = {"header_timeout": "500ms", "body_timeout": "700ms", "idle_timeout": "900ms",
              "write_buffer": "1MiB"}
    with Site(routes=[rpc_route(), http_route()], limits=limits) as site:
        site.fake(handler=slow)
        site.start()
        yield site


class Healthy:
    """A client that is served again and again while others misbehave."""

    def __init__(self, web):
        self.web = web
        self.client = web.client()
        self.served = 0

    def call(self):
        assert self.client.rpc("demo.echo", [self.served]).json()["result"] == [self.served]
        self.served += 1

    def until(self, condition, what, timeout=15):
        deadline = time.monotonic() + timeout
        while not condition():
            self.call()
            assert time.monotonic() < deadline, "waited %g s for %s" % (timeout, what)
            time.sleep(0.01)
        self.client.close()


def ends(web, client, data=b"", dribble=None, every=0.05):
    """Sends `data`, then waits, a healthy client being served, until the server ends the connection
    or answers on it.

    Returns the seconds it took. `dribble` is what to send every so many seconds meanwhile.
    """
    start = time.monotonic()
    client.send(data)
    sent = [start]

    def over():
        if dribble and time.monotonic() - sent[0] >= every:
            sent[0] = time.monotonic()
            client.try_send(dribble)
        return client.readable()

    Healthy(web).until(over, "the end of a slow client")
    return time.monotonic() - start


def timed_out(client, status=408):
    r = client.read_response()
    assert r.status == status
    assert r.header("connection") == "close"
    assert client.at_end()


def test_half_a_head(web):
    with web.client() as client:
        assert ends(web, client, b"GET / HTTP/1.1\r\nHost") >= HEADER - EARLY
        timed_out(client)


def test_half_a_head_on_a_used_connection(web):
    with web.client() as client:
        assert client.request("GET", "/").status == 200
        assert ends(web, client, b"GET / HT") >= HEADER - EARLY
        timed_out(client)


def test_dribbled_head(web):
    """The timeout is for the whole head: single bytes do not extend it."""
    with web.client() as client:
        assert ends(web, client, b"GET / HTTP/1.1\r\nX: ", dribble=b"a") >= HEADER - EARLY
        timed_out(client)


def test_a_connection_without_a_byte(web):
    with web.client() as client:
        ends(web, client)
        try:
            timed_out(client)
        except Closed:
            pass


POST = b"POST /rpc HTTP/1.1\r\nHost: x\r\n"
LENGTH = POST + b"Content-Length: 100000\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("data", [LENGTH + b"\r\n", LENGTH + b"\r\n{", CHUNKED + b"\r\n64\r\n{",
                                  CHUNKED + b"\r\n1\r\n{\r\n"],
                         ids=["no-byte", "one-byte", "half-a-chunk", "one-chunk"])
def test_half_a_body(web, data):
    with web.client() as client:
        assert ends(web, client, data) >= BODY - EARLY
        timed_out(client)


def test_no_byte_of_the_body_after_continue(web):
    with web.client() as client:
        start = time.monotonic()
        client.send(LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert client.read_response().status == 100
        ends(web, client)
        assert time.monotonic() - start >= BODY - EARLY
        timed_out(client)


@pytest.mark.parametrize("data, dribble", [
    (LENGTH + b"\r\n", b" "),
    (CHUNKED + b"\r\n1869F\r\n", b" "),
    (CHUNKED + b"\r\n", b"1\r\n \r\n"),
    (CHUNKED + b"\r\n1;", b"a"),
], ids=["length", "chunk", "chunks", "extension"])
def test_dribbled_body(web, data, dribble):
    """A byte now and then keeps `body_timeout` away, the least rate ends it all the same."""
    with web.client() as client:
        ends(web, client, data, dribble=dribble, every=0.2)
        timed_out(client)


def test_a_body_that_comes_in_time(web):
    """Pauses below `body_timeout` are allowed, even when they add up to more."""
    body = rpc_body("demo.echo", ["x" * 40000])
    with web.client() as client:
        client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        step = len(body) // 5 + 1
        for n in range(0, len(body), step):
            time.sleep(BODY / 4)
            client.send(body[n:n + step])
        assert client.read_response().status == 200


def test_idle(web):
    with web.client() as client:
        start = time.monotonic()
        assert client.request("GET", "/").status == 200
        ends(web, client)
        assert time.monotonic() - start >= IDLE - EARLY
        assert client.at_end()      # and not a byte before


def test_idle_starts_anew_with_each_request(web):
    with web.client() as client:
        start = time.monotonic()
        while time.monotonic() - start < 2 * IDLE:
            assert client.request("GET", "/").status == 200
            time.sleep(IDLE / 5)
        assert client.request("GET", "/").status == 200


def test_a_call_in_progress_is_not_idle(web):
    """A call takes as long as its route allows; the connection's timeouts don't touch it."""
    worker = web.workers[0]
    worker.forget()
    with web.client() as client:
        client.send(request("GET", "/hold"))
        worker.wait(lambda: any(c.method == "http.request" for c in worker.calls), "the call")
        call = next(c for c in worker.calls if c.method == "http.request")
        start = time.monotonic()
        Healthy(web).until(lambda: time.monotonic() - start > 1.5 * IDLE, "some time")
        call.http(200, [], b"done")
        assert client.read_response().body == b"done"


def test_reader_that_takes_nothing(web):
    """Answers of 40 MB for a client that reads none: it is closed when `write_buffer` is full."""
    with web.client(rcvbuf=4096) as client:
        web.workers[0].forget()
        client.send(request("GET", "/big") * 100)
        web.workers[0].wait_calls(1)
        Healthy(web).until(lambda: not web.shard_of(client), "the end of the connection")
        assert len(client.rest()) < 100 * 400000


def test_reader_that_takes_nothing_of_a_small_buffer(web):
    """Below `write_buffer` too: what is not read in time ends the connection."""
    with web.client(rcvbuf=4096) as client:
        web.workers[0].forget()
        client.send(request("GET", "/big"))
        web.workers[0].wait_calls(1)
        Healthy(web).until(lambda: not web.shard_of(client), "the end of the connection", 30)


def test_slow_reader_that_reads_is_served(web):
    """One who reads slowly, but reads, gets all of it."""
    with web.client(rcvbuf=65536) as client:
        client.send(request("GET", "/big"))
        for _ in range(20):
            time.sleep(0.05)
            client._fill()
        assert len(client.read_response().body) == 400000


def test_many_slow_clients_at_once(web):
    kinds = [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX",
             b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
             b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
             b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 99]
    clients = []
    for n in range(60):
        clients.append(web.client())
        clients[-1].send(kinds[n % len(kinds)])
    try:
        Healthy(web).until(lambda: all(c.readable() for c in clients), "the end of slow clients")
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: web.connections() == 0, "the end of all connections")


def test_calls_per_connection(site):
    """Beyond `calls_per_connection` reading pauses; nothing is lost."""
    web = site(limits={"calls_per_connection": 4})
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client, web.client() as other:
        client.send(b"".join(rpc_request("demo.echo", [n], id=n) for n in range(10)))
        worker.wait_calls(4)
        other.send(rpc_request("demo.echo", ["other"], id=99))
        worker.wait(lambda: any(c.id == b"99" for c in worker.calls), "the other client's call")
        assert len(worker.calls) == 5
        done = 0
        while done < 11:
            worker.wait_calls(done + 1).reply("r")
            done += 1
        assert [client.read_response().json()["id"] for _ in range(10)] == list(range(10))
        assert other.read_response().json()["id"] == 99
        assert worker.max_busy <= 5


@pytest.mark.parametrize("write_buffer, size", [("1MiB", 100000), ("4KiB", 1000)])
def test_a_client_that_pipelines_and_reads_is_not_slow(site, write_buffer, size):
    """Answers that become ready at the same moment are written before anybody is called slow."""
    def hold_first(call):
        if call.raw["id"] != b"0":
            echo(call)

    web = site(limits={"write_buffer": write_buffer})
    worker = web.fake(handler=hold_first)
    web.start()
    with web.client() as client:
        client.send(b"".join(rpc_request("demo.echo", ["x" * size, n], id=n) for n in range(30)))
        worker.wait_calls(5)
        next(call for call in worker.calls if call.raw["id"] == b"0").reply("late")
        assert [client.read_response().json()["id"] for _ in range(30)] == list(range(30))


def test_a_head_dribbled_behind_an_answer_that_is_not_read(site):
    """Bytes that come do not excuse that nothing is read."""
    web = site(routes=[rpc_route(), http_route()], limits={"body_timeout": "700ms", "write_buffer": "64MiB"})
    web.fake(handler=lambda c: echo(c) if c.method != "http.request" else c.http(200, [], b"b" * 12000000))
    web.start()
    with web.client(rcvbuf=4096) as client:
        client.send(request("GET", "/big"))
        wait_for(lambda: web.shard_of(client), "the connection")

        def over():
            client.try_send(b"G")
            return not web.shard_of(client)

        Healthy(web).until(over, "the end of the connection", 5)


def test_half_closed_after_a_while(site):
    """How long the call has taken by then does not matter."""
    web = site()
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo"))
        call = worker.wait_calls(1)
        time.sleep(1.3)
        client.sock.shutdown(1)
        assert not client.readable(0.2)
        call.reply("r")
        assert client.read_response().json()["result"] == "r"
        assert client.at_end()
