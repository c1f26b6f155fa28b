"""A client that is gone is noticed at once, whatever its connection is in the middle of: its calls are cancelled,
long before their deadline, and workers that know the connection are told."""
import time

import pytest

from fakeworker import hold
from harness import rpc_route, stat, wait_for, ws_route
from httpclient import Client, rpc_body, rpc_request
from patience import patient, within
from wsclient import StreamClient, WsClient, upgrade

CALLS = 8               # calls_per_connection of these sites
DRAIN = "100ms"         # what is in progress at a test's end is not waited for
AT_ONCE = 5.0           # seconds, for what would else take the deadline's 60
KINDS = ["http", "ws", "frame", "line"]
PLACES = ["tcp", "unix"]


def build(site, place="tcp", connect="notify", limits=None, handler=hold, **keys):
    """A site whose listeners, of all kinds, are at `place`; its worker holds what it is asked."""
    stays = {"events": True, "connect": connect, "timeout": "60s"}
    web = site(streams={"frame": stays, "line": stays},
               routes=[rpc_route(timeout="60s"), ws_route(**stays)],
               limits={"calls_per_connection": CALLS, **(limits or {})}, **{"drain": DRAIN, **keys})
    if place == "unix":
        for listener in web.config["listeners"][1:]:
            listener["address"] = "unix:" + web.path(listener["name"])
        web.config["listeners"].append({**web.config["listeners"][0], "name": "unix",
                                        "address": "unix:" + web.path("web")})
    web.worker = web.fake(handler=handler)
    web.place = place
    return web.start()


def connect(web, kind, **keys):
    name = "web" if kind in ("http", "ws") else kind
    address = web.path(name) if web.place == "unix" else ("127.0.0.1", web.ports[name])
    if kind == "http":
        return Client(address, **keys)
    return WsClient(address, **keys) if kind == "ws" else StreamClient(address, kind, **keys)


def call(client, method="demo.echo", params=None, id=1):
    """The bytes of a call, or with id=None of a notification."""
    if hasattr(client, "wrap"):
        return client.wrap(rpc_body(method, params, id))
    return rpc_request(method, params, id=id)


def lost(client, place):
    client.reset() if place == "tcp" else client.close()


def cancelled(web, calls, timeout=AT_ONCE):
    web.worker.wait(lambda: all(c.cancelled for c in calls), "CANCEL for each call", timeout)


def told_of_the_end(web, kind):
    if kind != "http":
        web.worker.wait(lambda: len(web.worker.disconnects) == len(web.worker.connects), "frontd.disconnect", AT_ONCE)


# What the connection is in the middle of. Each returns the calls that are in progress.

def one_call(web, client):
    client.send(call(client))
    web.worker.wait_calls(1)


def all_calls(web, client):
    """No more may be started: it is not read. Some that were read wait to be looked at."""
    client.send(b"".join(call(client, id=n) for n in range(2 * CALLS)))
    web.worker.wait_calls(CALLS)


def unread_bytes(web, client):
    """As all_calls(), and much that the shard has not even read."""
    all_calls(web, client)
    client.sock.setblocking(False)
    piece = call(client, params=["x" * 10000]) * 10
    try:
        while True:
            client.sock.send(piece)
    except BlockingIOError:
        pass


def a_reader_that_is_slow(web, client):
    """It has not read an answer that is larger than write_buffer, and has a call in progress."""
    client.send(call(client, id=1) + call(client, id=2))
    web.worker.wait_calls(2)
    web.worker.calls[0].reply(b'"' + b"x" * (8 << 20) + b'"')
    web.worker.calls[1].channel.sync()
    del web.worker.calls[0]


STATES = [one_call, all_calls, unread_bytes, a_reader_that_is_slow]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES, ids=lambda f: f.__name__)
def test_a_client_that_is_lost(site, state, kind, place):
    web = build(site, place, limits={"write_buffer": "64KiB"})
    client = connect(web, kind)
    state(web, client)
    before = list(web.worker.calls)
    assert not any(c.cancelled for c in before)
    lost(client, place)
    cancelled(web, before)
    told_of_the_end(web, kind)
    assert len(web.worker.calls) == len(before), "calls were started for a client that is gone"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_one_that_waits_to_be_let_in(site, kind, place):
    web = build(site, place, connect="ask")
    if kind == "ws":
        client = connect(web, kind, path=None)
        client.send(upgrade())
    else:
        client = connect(web, kind)
    web.worker.wait(lambda: web.worker.connects, "frontd.connect")
    lost(client, place)
    cancelled(web, web.worker.connects)
    told_of_the_end(web, kind)


@patient()
@pytest.mark.parametrize("kind", ["http", "frame", "line"])
def test_a_reset_after_half_a_close(site, kind):
    """One that has shut its side has a second to get its answers; when it is reset that is over."""
    web = build(site)
    client = connect(web, kind)
    one_call(web, client)
    with within(1):
        client.sock.shutdown(1)
        wait_for(lambda: web.has_shut(client), "its end")
        lost(client, "tcp")
        cancelled(web, web.worker.calls, 0.9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [one_call, all_calls], ids=lambda f: f.__name__)
def test_a_client_that_closes_in_order(site, state, kind):
    """Its end is seen whether it is read or not; it has a second to be answered, since it may have shut its side only."""
    web = build(site)
    client = connect(web, kind)
    state(web, client)
    before = list(web.worker.calls)
    client.close()
    cancelled(web, before)
    told_of_the_end(web, kind)
    assert len(web.worker.calls) == len(before)


@pytest.mark.parametrize("kind", ["http", "frame", "line"])
def test_the_end_of_one_side_is_no_reset(site, kind):
    """What was sent before is answered, though the client's end has come while it was not read."""
    web = build(site)
    with connect(web, kind) as client:
        client.send(b"".join(call(client, params=[n], id=n) for n in range(2 * CALLS)))
        web.worker.wait_calls(CALLS)
        client.sock.shutdown(1)
        wait_for(lambda: web.has_shut(client), "its end")
        for n in range(2 * CALLS):
            web.worker.wait_calls(n + 1).reply()
        for n in range(2 * CALLS):
            answer = client.read_response().json() if kind == "http" else client.read_json()
            assert answer == {"jsonrpc": "2.0", "id": n, "result": True}
        assert client.at_end()


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_notifications_of_one_that_has_closed_its_socket(site, kind):
    """They wait for a worker, and are delivered: nobody is to be answered."""
    web = build(site, "unix", handler=hold)
    web.worker.hello["concurrency"] = 1
    web.worker.drop()
    web.worker.wait_ready()
    with connect(web, "http") as other:
        other.send(call(other))
        first = web.worker.wait_calls(1)
        client = connect(web, kind)
        client.send(call(client, "demo.notify", [1], id=None) + call(client, "demo.notify", [2], id=None))
        client.close()
        with connect(web, "http") as later:     # its answer comes in a turn after that
            later.send(b"\x01\r\n\r\n")
            assert later.read_response().status == 400
        first.reply()
        web.worker.wait_calls(3)
        assert [c.params for c in web.worker.calls[1:]] == [[1], [2]]
    told_of_the_end(web, kind)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["http", "frame", "line"])
@pytest.mark.parametrize("notify", [False, True], ids=["calls", "notifications"])
def test_nothing_spins(site, kind, place, notify):
    """One end is shut, or a UNIX socket is closed, while the connection waits: no turn is made in vain."""
    web = build(site, place)
    web.worker.hello["concurrency"] = CALLS if not notify else 1
    web.worker.drop()
    web.worker.wait_ready()
    with connect(web, "http") as other, connect(web, kind) as client:
        if notify:
            other.send(call(other))
            web.worker.wait_calls(1)
        client.send(b"".join(call(client, id=None if notify else n) for n in range(2 * CALLS)))
        if not notify:
            web.worker.wait_calls(CALLS)
        shard = web.shard
        before = stat(shard)[3]
        if notify and place == "unix":
            client.close()
        else:
            client.sock.shutdown(1)
        time.sleep(0.8)         # less than it has after its end
        assert stat(shard)[3] - before < 0.3
