"""Connections on which nothing comes: they end at limits.first_byte_timeout, and where there is no room they are
closed for clients that come, the oldest first. One that was ever used is neither."""
import contextlib
import os
import resource
import socket
import threading
import time

import pytest

from fakeworker import echo, hold
from harness import http_route, rpc_route, stat, wait_for, ws_route
from httpclient import BadResponse, Client, Closed, rpc_request
from patience import HeldUp, patient
from reloads import HUP, USR2
from wsclient import StreamClient

FIRST = 0.8             # seconds, where it is to end soon
EARLY = 0.05            # what a clock may differ by
KINDS = ["http", "frame", "line"]
BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def build(make, limits=None, shards=1, handler=echo, nofile=None, **stays):
    web = make(shards=shards, nofile=nofile, routes=[rpc_route(timeout="60s"), http_route(), ws_route()],
               streams={kind: {"events": True, **stays} for kind in ("frame", "line")},
               limits=limits)
    web.worker = web.fake(handler=handler)
    return web.start()


def silent(web, kind):
    """A connection on which nothing is sent."""
    name = "web" if kind == "http" else kind
    address = "127.0.0.1", web.ports[name]
    return Client(address) if kind == "http" else StreamClient(address, kind)


def conn_of(web, n=1):
    """The id of the connection that came as the n-th on a listener with events."""
    web.worker.wait(lambda: len(web.worker.connects) >= n, "frontd.connect")
    return web.worker.connects[n - 1].conn


def served(web, timeout=10.0):
    with web.client(timeout=timeout) as client:
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]


# The time until the first byte

@patient()
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_comes(site, kind):
    """At the limit it is open, a moment later it is closed, without a word."""
    web = build(site, {"first_byte_timeout": "800ms"})
    begun = time.monotonic()
    with silent(web, kind) as client:
        assert client.readable(5)
        took = time.monotonic() - begun
        assert client.at_end()
    assert took >= FIRST - EARLY
    if kind != "http":
        assert web.worker.wait_disconnect(conn_of(web)).params["code"] == 1008
    if took > FIRST + 1:
        raise HeldUp("closed after %.3f s" % took)


@patient()
@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_in_time(site, kind):
    """From then on other timeouts count: the request is completed much later, and its connection lives on."""
    web = build(site, {"first_byte_timeout": "800ms"})
    begun = time.monotonic()
    with silent(web, kind) as client:
        data = client.wrap(b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":[1]}') if kind != "http" \
            else rpc_request("demo.echo", [1])
        time.sleep(FIRST / 2)
        client.send(data[:1])
        if time.monotonic() - begun > FIRST - EARLY:
            raise HeldUp("too late for the front")
        assert not client.readable(FIRST * 1.5)
        client.send(data[1:])
        answer = client.read_response().json() if kind == "http" else client.read_json()
        assert answer["result"] == [1]
        assert not client.readable(FIRST * 1.5)


@patient()
def test_a_websocket_may_be_silent(site):
    web = build(site, {"first_byte_timeout": "800ms"})
    with web.ws() as client:
        assert not client.readable(FIRST * 2)
        assert client.call("demo.echo", [1]) == [1]


@pytest.mark.parametrize("idle,first", [("400ms", "60s"), ("60s", "400ms")])
def test_the_shorter_of_two(site, idle, first):
    """idle_timeout also ends a connection on which nothing has come yet."""
    web = build(site, {"first_byte_timeout": first, "idle_timeout": idle})
    with silent(web, "http") as client:
        assert client.at_end(5)


@patient()
@pytest.mark.parametrize("kind", ["frame", "line"])
@pytest.mark.parametrize("use", ["push", "subscribe", "unsubscribe", "publish"])
def test_a_listener_that_workers_use(site, kind, use):
    """A client may only ever listen: it lives when a worker has begun to use it."""
    web = build(site, {"first_byte_timeout": "800ms"})
    begun = time.monotonic()
    with silent(web, kind) as client, silent(web, kind) as other:
        conn = conn_of(web)
        channel = web.worker.channel()
        if use == "push":
            channel.push(conn, b"{}")
        else:
            channel.subscribe(conn, "t")
        if use == "unsubscribe":
            channel.unsubscribe(conn, "t")
        if use == "publish":
            channel.publish("t", b"{}")
        channel.sync()
        if time.monotonic() - begun > FIRST - EARLY:
            raise HeldUp("too late for the front")
        if use in ("push", "publish"):
            assert client.read_json() == {}
        assert other.at_end(5), "one that is only known is not used"
        assert not client.readable(FIRST * 1.5)
        channel.push(conn, b"[]")
        assert client.read_json() == []


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_one_that_was_let_in(site, kind):
    """A worker has said that it may stay: neither the time that it took counts, nor what follows."""
    web = build(site, {"first_byte_timeout": "300ms"}, handler=hold, connect="ask")
    with silent(web, kind) as client:
        conn = conn_of(web)
        assert not client.readable(1)
        web.worker.connects[0].reply()
        assert not client.readable(1)
        web.worker.channel().push(conn, b"{}")
        assert client.read_json() == {}


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_the_time_goes_on_over_reloads(front, kind, number):
    """A reload is no new beginning."""
    web = build(front, {"first_byte_timeout": "3s"})
    with silent(web, kind) as client:
        begun = time.monotonic()
        last = begun
        for n in range(100):
            if kind != "http":
                conn_of(web)
            web.reload(number)
            if client.readable(0.3):
                break
            last = time.monotonic()
        assert client.at_end()
        assert last - begun < 4 or n == 0


@BOTH
@pytest.mark.parametrize("kind", ["frame", "line"])
def test_who_is_used_stays_so_over_reloads(front, kind, number):
    web = build(front, {"first_byte_timeout": "2s"})
    with silent(web, kind) as client, web.client() as spoken:
        served(web)
        spoken.send(b"G")
        conn = conn_of(web)
        web.worker.channel().subscribe(conn, "t")
        web.worker.channel().sync()
        web.worker.channel().unsubscribe(conn, "t")
        web.worker.channel().sync()
        begun = time.monotonic()
        web.reload(number)
        assert not client.readable(max(0, begun + 3 - time.monotonic()))
        assert not spoken.readable()
        web.worker.wait_ready()
        web.worker.channel().push(conn, b"{}")
        assert client.read_json() == {}


# Where there is no room

@contextlib.contextmanager
def many(web, count, kinds=KINDS):
    """So many connections on which nothing is sent; frontd may close any of them."""
    made = []
    try:
        for n in range(count):
            made.append(silent(web, kinds[n % len(kinds)]))
        yield made
    finally:
        for client in made:
            client.close()


def closed(clients):
    return [client for client in clients if client.readable()]


LIMITS = {"descriptors": {"nofile": 256}, "connections": {"limits": {"connections": 150}}}
MOST = {"descriptors": 192, "connections": 150}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS], ids="-".join)
def test_clients_are_served(site, limit, kinds):
    """However many are silent, each client that comes is served, and goes on being served."""
    web = build(site, **LIMITS[limit])
    shard = web.shard
    with web.client() as first:
        assert first.rpc("demo.echo", [0]).status == 200
        with many(web, 400, kinds) as crowd, contextlib.ExitStack() as stack:
            clients = []
            for n in range(60):
                clients.append(stack.enter_context(web.client()))
                assert clients[-1].rpc("demo.echo", [n]).json()["result"] == [n]
            for client in [first] + clients:
                assert client.rpc("demo.echo", ["again"]).status == 200
            count = 400 + 61 - MOST[limit]
            wait_for(lambda: len(closed(crowd)) >= count, "the end of %d" % count)
            gone = closed(crowd)
            assert len(gone) == count, "no more than there has to be"
            for one in range(len(kinds)):   # their listeners have queues of their own
                of_kind = crowd[one::len(kinds)]
                assert [c for c in of_kind if c in gone] == of_kind[:sum(c in gone for c in of_kind)]
            lines = web.front.text().count("on which nothing has come is closed")
            assert 1 <= lines <= 3, "%d lines" % lines
            assert web.shard == shard


@pytest.mark.parametrize("limit", LIMITS)
def test_what_was_used_is_not_closed(site, limit):
    """There is no room, and none is made: others wait, nothing spins, and who is in is served."""
    web = build(site, **LIMITS[limit])
    with contextlib.ExitStack() as stack:
        used = [stack.enter_context(web.client()) for _ in range(MOST[limit])]
        for client in used:
            assert client.rpc("demo.echo", [1]).status == 200
        waiting = stack.enter_context(web.client())
        waiting.send(rpc_request("demo.echo", [2]))
        wait_for(lambda: "accepting pauses" in web.front.text(), "a line")
        before = stat(web.shard)[3]
        assert not waiting.readable(1)
        assert stat(web.shard)[3] - before < 0.3, "the shard spins"
        for client in used:
            assert client.rpc("demo.echo", ["again"]).status == 200
        used[7].close()
        assert waiting.read_response().status == 200


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_what_workers_use_is_not_closed(site, kind):
    web = build(site, **LIMITS["descriptors"])
    with many(web, 10, [kind]) as listeners:
        conn_of(web, 10)
        for n in range(10):
            web.worker.channel().subscribe(conn_of(web, n + 1), "t")
        web.worker.channel().sync()
        with many(web, 300, [kind]) as crowd:
            for _ in range(30):
                served(web)
            wait_for(lambda: len(closed(crowd)) >= 100, "closed ones")
            assert not closed(listeners)
            web.worker.channel().publish("t", b"{}")
            for client in listeners:
                assert client.read_json() == {}
    web.worker.tolerant = True


@patient()
def test_the_young_get_their_chance(site):
    """A client that sends its request a moment after it has connected is served, while others come and go."""
    web = build(site, **LIMITS["descriptors"])
    with many(web, 400):
        for _ in range(20):
            begun = time.monotonic()
            with web.client() as client, many(web, 20):
                time.sleep(0.02)
                if time.monotonic() - begun > 0.08:
                    raise HeldUp("that was more than a moment")
                assert client.rpc("demo.echo", [1]).status == 200


def test_a_flood(site):
    """Others open connections as fast as they can, and close none."""
    web = build(site, **LIMITS["descriptors"])
    closing = threading.Event()
    held = []

    def flood():
        while not closing.is_set() and len(held) < 6000:
            sock = socket.socket()
            sock.setblocking(False)
            held.append(sock)
            sock.connect_ex(web.address)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
    try:
        with web.client() as steady:
            assert steady.rpc("demo.echo", [1]).status == 200
            for thread in threads:
                thread.start()
            wait_for(lambda: len(held) >= 1000, "a flood")
            for n in range(30):
                served(web, timeout=30)
                assert steady.rpc("demo.echo", [n]).json()["result"] == [n]
        served(web)
    finally:
        closing.set()
        for thread in threads:
            thread.join(20)
        for sock in held:
            sock.close()


@pytest.mark.parametrize("shards", [2, 4])
def test_the_unused_ones_are_on_another_shard(site, shards):
    """limits.connections is for all: a shard that has no unused one of its own gets room from another."""
    web = build(site, limits={"connections": 60}, shards=shards)
    with many(web, 60), contextlib.ExitStack() as stack:
        wait_for(lambda: web.connections() >= 60, "connections")
        for n in range(58):     # far more than the unused ones of one shard
            client = stack.enter_context(web.client(timeout=20))
            assert client.rpc("demo.echo", [n]).json()["result"] == [n]


def test_descriptors_run_out_on_the_way(site):
    """accept() fails with EMFILE, which no limit of the config foretells."""
    web = build(site)
    shard = web.shard
    with many(web, 50):
        wait_for(lambda: web.connections() == 50, "connections")
        before = resource.prlimit(shard, resource.RLIMIT_NOFILE)
        top = max(int(fd) for fd in os.listdir("/proc/%d/fd" % shard)) + 1
        resource.prlimit(shard, resource.RLIMIT_NOFILE, (top, before[1]))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(web.client()) for _ in range(40)]
            for n, client in enumerate(clients):
                assert client.rpc("demo.echo", [n]).json()["result"] == [n]
            for client in clients:
                assert client.rpc("demo.echo", ["again"]).status == 200
        resource.prlimit(shard, resource.RLIMIT_NOFILE, before)
        assert web.shard == shard


@BOTH
def test_a_reload_when_there_is_no_room(front, number):
    """Those that are used find room in the new shard, though silent ones fill it while they come."""
    web = build(front, nofile=256, shards=1)
    with contextlib.ExitStack() as stack:
        used = [stack.enter_context(web.client()) for _ in range(100)]
        for client in used:
            assert client.rpc("demo.echo", [1]).status == 200
        with many(web, 300):
            served(web)
            web.reload(number)
            for client in used:
                assert client.rpc("demo.echo", [2]).json()["result"] == [2]
            served(web)
