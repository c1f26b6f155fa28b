"""Slow clients of every kind end at their limit, while a healthy one is served as before."""
import time

import pytest

from fakeworker import echo, hold
from harness import Site, http_route, rpc_route, wait_for
from httpclient import BadResponse, Client, Closed, request, rpc_body, rpc_request
from patience import HeldUp, patient
from reloads import Paused

HEADER, BODY, IDLE = 0.5, 0.7, 0.9      # seconds, of this file's site
LIMITS = {"header_timeout": "500ms", "body_timeout": "700ms", "idle_timeout": "900ms"}
EARLY = 0.05                            # what a clock may differ by


class Punctual(Client):
    """A client that knows when it was itself so slow that the front may have closed the connection."""

    def __init__(self, web, **keys):
        self.last = time.monotonic()
        super().__init__(web.address, **keys)

    def send(self, data):
        before, self.last = self.last, time.monotonic()
        try:
            super().send(data)
        finally:
            if time.monotonic() - before > BODY - EARLY:
                raise HeldUp("too late for the front")


def now(web):
    """A time to measure from: the front's clock stands still for a turn, and each that comes is later."""
    with Punctual(web) as client:
        start = time.monotonic()
        assert client.rpc("demo.echo").status == 200
    return start


def slow(call):
    """http.request /big: a big answer; /hold: none; else an echo."""
    path = call.params["path"] if call.method == "http.request" else ""
    if path.startswith("/big"):
        call.http(200, [], b"b" * 400000)
    elif path != "/hold":
        echo(call)


@pytest.fixture(scope="module")
def web():
    with Site(routes=[rpc_route(), http_route()], limits={**LIMITS, "write_buffer": "1MiB"}) as site:
        site.fake(handler=slow)
        site.start()
        yield site


class Healthy:
    """A client that is served again and again while others misbehave."""

    def __init__(self, web):
        self.web = web
        self.served = 0
        self.connect()

    def connect(self):
        self.asked = time.monotonic()
        self.client = self.web.client()

    def call(self):
        before, self.asked = self.asked, time.monotonic()
        try:
            assert self.client.rpc("demo.echo", [self.served]).json()["result"] == [self.served]
        except (OSError, Closed, BadResponse):
            idle = "idle_timeout" in self.web.config["limits"] and time.monotonic() - before >= IDLE
            assert idle, "the connection was closed after %g s" % (time.monotonic() - before)
            self.client.close()
            self.connect()
        else:
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
    start = now(web)
    client.send(data)
    sent = [time.monotonic()]

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


@patient()
def test_half_a_head(web):
    with Punctual(web) as client:
        assert ends(web, client, b"GET / HTTP/1.1\r\nHost") >= HEADER - EARLY
        timed_out(client)


@patient()
def test_half_a_head_on_a_used_connection(web):
    with Punctual(web) as client:
        assert client.request("GET", "/").status == 200
        assert ends(web, client, b"GET / HT") >= HEADER - EARLY
        timed_out(client)


@patient()
def test_dribbled_head(web):
    """The timeout is for the whole head: single bytes do not extend it."""
    with Punctual(web) as client:
        assert ends(web, client, b"GET / HTTP/1.1\r\nX: ", dribble=b"a") >= HEADER - EARLY
        timed_out(client)


@patient()
def test_a_connection_without_a_byte(web):
    with Punctual(web) as client:
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
@patient()
def test_half_a_body(web, data):
    with Punctual(web) as client:
        assert ends(web, client, data) >= BODY - EARLY
        timed_out(client)


@patient()
def test_no_byte_of_the_body_after_continue(web):
    start = now(web)
    with Punctual(web) as client:
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
@patient()
def test_dribbled_body(web, data, dribble):
    """A byte now and then keeps `body_timeout` away, the least rate ends it all the same."""
    with Punctual(web) as client:
        ends(web, client, data, dribble=dribble, every=0.2)
        timed_out(client)


@patient()
def test_a_body_that_comes_in_time(web):
    """Pauses below `body_timeout` are allowed, even when they add up to more."""
    body = rpc_body("demo.echo", ["x" * 40000])
    with Punctual(web) as client:
        client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        step = len(body) // 5 + 1
        for n in range(0, len(body), step):
            time.sleep(BODY / 4)
            client.send(body[n:n + step])
        assert client.read_response().status == 200


@patient()
def test_idle(web):
    with Punctual(web) as client:
        start = time.monotonic()
        assert client.request("GET", "/").status == 200
        ends(web, client)
        assert time.monotonic() - start >= IDLE - EARLY
        assert client.at_end()      # and not a byte before


@patient()
def test_idle_starts_anew_with_each_request(web):
    with Punctual(web) as client:
        start = time.monotonic()
        while time.monotonic() - start < 2 * IDLE:
            assert client.request("GET", "/").status == 200
            time.sleep(IDLE / 5)
        assert client.request("GET", "/").status == 200


@patient()
def test_a_call_in_progress_is_not_idle(web):
    """A call takes as long as its route allows; the connection's timeouts don't touch it."""
    worker = web.workers[0]
    worker.forget()
    with Punctual(web) as client:
        client.send(request("GET", "/hold"))
        worker.wait(lambda: any(c.method == "http.request" for c in worker.calls), "the call")
        call = next(c for c in worker.calls if c.method == "http.request")
        start = time.monotonic()
        Healthy(web).until(lambda: time.monotonic() - start > 1.5 * IDLE, "some time")
        call.http(200, [], b"done")
        assert client.read_response().body == b"done"


@patient()
def test_reader_that_takes_nothing(web):
    """Answers of 40 MB for a client that reads none: it is closed when `write_buffer` is full."""
    with Punctual(web, rcvbuf=4096) as client:
        web.workers[0].forget()
        client.send(request("GET", "/big") * 100)
        web.workers[0].wait_calls(1)
        Healthy(web).until(lambda: not web.shard_of(client), "the end of the connection")
        assert len(client.rest()) < 100 * 400000


@patient()
def test_reader_that_takes_nothing_of_a_small_buffer(web):
    """Below `write_buffer` too: what is not read in time ends the connection."""
    with Punctual(web, rcvbuf=4096) as client:
        web.workers[0].forget()
        client.send(request("GET", "/big"))
        web.workers[0].wait_calls(1)
        Healthy(web).until(lambda: not web.shard_of(client), "the end of the connection", 30)


@patient()
def test_slow_reader_that_reads_is_served(web):
    """One who reads slowly, but reads, gets all of it."""
    with Punctual(web, rcvbuf=65536) as client:
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


@pytest.mark.parametrize("write_buffer, size, started", [("1MiB", 100000, 5), ("4KiB", 1000, 2)])
def test_a_client_that_pipelines_and_reads_is_not_slow(site, write_buffer, size, started):
    """Answers that become ready at the same moment are written before anybody is called slow."""
    def hold_first(call):
        if call.raw["id"] != b"0":
            echo(call)

    web = site(limits={"write_buffer": write_buffer})
    worker = web.fake(handler=hold_first)
    web.start()
    with web.client() as client:
        client.send(b"".join(rpc_request("demo.echo", ["x" * size, n], id=n) for n in range(30)))
        worker.wait_calls(started)
        next(call for call in worker.calls if call.raw["id"] == b"0").reply("late")
        assert [client.read_response().json()["id"] for _ in range(30)] == list(range(30))


def test_a_head_dribbled_behind_an_answer_that_is_not_read(site):
    """Bytes that come do not excuse that nothing is read."""
    limits = {"header_timeout": "60s", "body_timeout": "700ms", "write_buffer": "64MiB"}
    web = site(routes=[rpc_route(), http_route()], limits=limits)
    worker = web.fake(handler=lambda c: echo(c) if c.method != "http.request" else c.http(200, [], b"b" * 12000000))
    web.start()
    with web.client(rcvbuf=4096) as client:
        client.send(request("GET", "/big"))
        worker.wait(lambda: any(c.method == "http.request" for c in worker.calls), "the request")

        def over():
            client.try_send(b"G")
            return not web.shard_of(client)

        Healthy(web).until(over, "the end of the connection")


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


@patient()
def test_what_comes_while_a_shard_does_not_run_is_in_time(site):
    """It is read before anybody is judged: a request, the rest of one, and a worker's answer."""
    web = site(routes=[rpc_route(), rpc_route("/short", timeout="500ms")], limits=LIMITS)
    worker = web.fake(handler=lambda call: None if call.method == "held" else echo(call))
    web.start()
    data = rpc_request("demo.echo", ["half"])
    start = time.monotonic()
    with web.client() as idle, web.client() as half, web.client() as caller:
        assert idle.rpc("demo.echo", [1]).status == 200
        half.send(data[:-5])
        caller.send(rpc_request("held", path="/short"))
        worker.wait(lambda: any(call.method == "held" for call in worker.calls), "the call")
        with Paused(web.shard):
            idle.send(rpc_request("demo.echo", [2]))
            half.send(data[-5:])
            next(call for call in worker.calls if call.method == "held").reply("late")
            if time.monotonic() - start > HEADER - EARLY:
                raise HeldUp("too late for the front")
            time.sleep(1.5 * IDLE)      # all that they had
        assert idle.read_response().json()["result"] == [2]
        assert half.read_response().json()["result"] == ["half"]
        assert caller.read_response().json()["result"] == "late"
