"""Upgrades to WebSocket among other requests of their connection: what comes of bytes does not depend on where
they are cut, nor on whether the answers before them are out."""
import contextlib
import signal
import socket

import pytest

from fakeworker import echo
from harness import Site, http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request
from reloads import HUP, USR2, unread, wait_read
from wsclient import PING, TEXT, WsClient, upgrade, ws_frame

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def answer(call):
    """`slow` is left to the test; `no` refuses to let in; the others are answered."""
    if call.method == "frontd.connect":
        if not call.notify:
            call.error() if "no" in call.params["query"] else call.reply()
    elif call.method == "http.request":
        call.http(200, [], call.params["path"].encode()) if call.params["path"] != "/slow" else None
    elif call.method != "slow":
        echo(call)


ROUTES = [rpc_route(), http_route(), ws_route(), ws_route("/ask", events=True, connect="ask"),
          ws_route("/tell", events=True, headers=["X-Who"])]


@pytest.fixture(scope="module")
def web():
    # Longer than a hundred clients take on any machine: what has begun goes on.
    with Site(routes=[{**r, **({"ping": "60s"} if r["kind"] == "websocket" else {"timeout": "60s"})} for r in ROUTES],
              limits={"header_timeout": "60s", "body_timeout": "60s"}) as site:
        site.fake(handler=answer)
        yield site.start()


def all_read(clients):
    """Whether the front has read all that these clients have sent."""
    return not any(unread(client) for client in clients)


def text(n):
    return ws_frame(TEXT, rpc_body("demo.echo", [n], n))


def speaks(client, *numbers):
    """The connection is a WebSocket, and the frames with these numbers have been read."""
    got = [client.read_json() for _ in numbers]
    assert sorted(a["id"] for a in got) == sorted(numbers) and all(a["result"] == [a["id"]] for a in got), got
    assert client.call("demo.echo", ["more"]) == ["more"]


def released(worker, count):
    """Answers so many calls of `slow`, the latest first, when all are there."""
    def there():
        return [c for c in worker.calls if not c.done and
                (c.method == "slow" or (c.method == "http.request" and c.params["path"] == "/slow"))]
    worker.wait(lambda: len(there()) >= count, "%d calls" % count, 60)
    for call in reversed(there()):
        call.http(200, [], b"/slow") if call.method == "http.request" else call.reply("slow")


def learn(web, worker):
    """The front knows from now on how large an answer of `slow` is: it looks at what is behind such a call at once."""
    with web.client() as client:
        client.send(rpc_request("slow", id=0))
        released(worker, 1)
        assert client.read_response().status == 200
    worker.forget()


CHUNKED = upgrade(headers=[("Transfer-Encoding", "chunked")]) + b"4;a=b\r\nGET \r\n0\r\nX: y\r\n\r\n"
STREAMS = {
    "calls": rpc_request("slow", id=1) + rpc_request("demo.echo", [2], id=2) + upgrade() + text(1) + text(2),
    "http": request("GET", "/slow") + upgrade("/tell", headers=[("X-Who", "me")]) + text(1) + ws_frame(PING, b"p"),
    "asked": rpc_request("slow", id=1) + upgrade("/ask") + text(1),
    "body": rpc_request("slow", id=1) + CHUNKED + text(1),
    "close": rpc_request("slow", id=1) + upgrade(replace={"Connection": "close, Upgrade"}) + text(1),
    "target": rpc_request("slow", id=1) + upgrade("http://front.test/x/..//%77s", host="other.test") + text(1),
}


def outcome(client, name):
    """All that has to come, in this order, whatever was cut where."""
    if name == "http":
        assert client.read_response().body == b"/slow"
    else:
        assert client.read_response().json() == {"jsonrpc": "2.0", "id": 1, "result": "slow"}
    if name == "calls":
        assert client.read_response().json()["id"] == 2
    client.upgraded()
    speaks(client, *([1, 2] if name == "calls" else [1]))
    assert client.pongs == ([b"p"] if name == "http" else [])


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("order", ["answered", "waiting"])
def test_cut_at_every_byte(web, name, order):
    """The answers before it come before the second part does, or only when all has been read."""
    worker, = web.workers
    data = STREAMS[name]
    first = data.index(b"\r\n\r\n") + 4 + (len(rpc_body("slow", id=1)) if name != "http" else 0)
    step = 100
    for begin in range(1, len(data), step):
        cuts = range(begin, min(begin + step, len(data)))
        with contextlib.ExitStack() as stack:
            clients = [(cut, stack.enter_context(WsClient(web.address, None, timeout=60))) for cut in cuts]
            for cut, client in clients:
                client.send(data[:cut])
            if order == "answered":
                wait_for(lambda: all_read([client for _, client in clients]), "the front to read", 60)
                released(worker, sum(cut >= first for cut in cuts))
            for cut, client in clients:
                client.send(data[cut:])
            released(worker, len(clients) - (sum(cut >= first for cut in cuts) if order == "answered" else 0))
            for _, client in clients:
                outcome(client, name)


def test_behind_more_calls_than_a_connection_may_have(web):
    worker, = web.workers
    with WsClient(web.address, None) as client:
        client.send(b"".join(rpc_request("slow", id=n) for n in range(64)) +
                    b"".join(rpc_request("demo.echo", [n], id=n) for n in range(64, 100)) + upgrade() + text(1))
        released(worker, 64)
        for n in range(100):
            assert client.read_response().json()["id"] == n
        client.upgraded()
        speaks(client, 1)


@pytest.mark.parametrize("bad, status", [
    ({"Sec-WebSocket-Key": "short"}, 400), ({"Sec-WebSocket-Version": "8"}, 426), ({"Upgrade": "h2c"}, 426)])
def test_one_that_is_refused_keeps_its_place(web, bad, status):
    """What follows it is a request."""
    worker, = web.workers
    with WsClient(web.address, None) as client:
        client.send(rpc_request("slow", id=1) + upgrade(replace=bad) + request("GET", "/after"))
        released(worker, 1)
        assert client.read_response().json()["id"] == 1
        assert client.read_response().status == status
        assert client.read_response().body == b"/after"


def test_one_that_a_worker_refuses(web):
    """As where nothing was before it: the connection ends."""
    worker, = web.workers
    for before in (b"", rpc_request("slow", id=1)):
        with WsClient(web.address, None) as client:
            client.send(before + upgrade("/ask?no") + request("GET", "/after"))
            if before:
                released(worker, 1)
                assert client.read_response().status == 200
            assert client.read_response().status == 403
            assert client.at_end()


def test_two_in_a_row(web):
    """The second one is no request any more: its bytes are no frame."""
    worker, = web.workers
    for before in (b"", rpc_request("slow", id=1)):
        with WsClient(web.address, None) as client:
            client.send(before + upgrade() + upgrade())
            if before:
                released(worker, 1)
                assert client.read_response().status == 200
            client.upgraded()
            client.expect_close(1002)


def test_events_come_once_and_when_it_is_its_turn(web):
    worker, = web.workers
    before = len(worker.connects)
    with WsClient(web.address, None) as client:
        client.send(rpc_request("slow", id=1) + upgrade("/tell?a=b", headers=[("X-Who", "me")]))
        worker.wait(lambda: [c for c in worker.calls if c.method == "slow" and not c.done], "the call")
        assert worker.channel().sync() and len(worker.connects) == before
        released(worker, 1)
        assert client.read_response().status == 200
        client.upgraded()
        worker.wait(lambda: len(worker.connects) > before, "frontd.connect")
        params = worker.connects[before].params
        assert (params["path"], params["query"], params["headers"]) == ("/tell", "a=b", {"x-who": "me"})
        client.finish()
        worker.wait_disconnect(int(params["conn"]))
    assert len(worker.connects) == before + 1


@pytest.mark.parametrize("way", ["close", "reset", "shut"])
def test_a_client_that_goes_while_it_waits(site, way):
    web = site(routes=ROUTES)
    worker = web.fake(handler=answer)
    web.start()
    learn(web, worker)
    client = WsClient(web.address, None)
    client.send(rpc_request("slow", id=1) + upgrade("/tell") + text(1))
    call = worker.wait_calls(1)
    wait_read(client)
    if way == "shut":
        client.sock.shutdown(socket.SHUT_WR)
    else:
        getattr(client, way)()
    if way == "reset":
        worker.wait(lambda: call.cancelled, "CANCEL")
    call.reply("late")
    wait_for(lambda: web.connections() == 0, "its end")
    client.close()
    assert web.rpc("demo.echo", [1]).status == 200


def test_a_stop_while_it_waits(site):
    """The answer before it comes, then it is refused, as every upgrade is by then."""
    web = site(routes=ROUTES, drain="10s")
    worker = web.fake(handler=answer)
    web.start()
    learn(web, worker)
    with WsClient(web.address, None) as client, web.client() as idle:
        assert idle.request("GET", "/x").status == 200
        client.send(rpc_request("slow", id=1) + upgrade() + text(1))
        call = worker.wait_calls(2)
        web.front.signal(signal.SIGTERM)
        assert idle.at_end()        # so the shard has heard of it
        call.reply("slow")
        assert client.read_response().json()["result"] == "slow"
        r = client.read_response()
        assert r.status == 503 and r.header("connection") == "close"
        assert client.at_end()


@BOTH
def test_over_a_reload(front, number):
    """It waits in the old shard, where the call before it is; then the connection moves, as a WebSocket."""
    site = front(shards=1, routes=ROUTES, drain="20s")
    worker = site.fake(handler=answer)
    site.start()
    learn(site, worker)
    with WsClient(site.address, None) as client, site.client() as idle:
        assert idle.rpc("demo.echo", [1]).status == 200
        client.send(rpc_request("slow", id=1) + upgrade("/tell") + text(1) + text(2)[:9])
        call = worker.wait_calls(2)
        wait_read(client)
        old = site.shards()
        site.reload(number, gone=False)
        wait_for(lambda: site.shard_of(idle) in set(site.shards()) - set(old), "the old shard to hand over")
        call.reply("slow")
        assert client.read_response().json()["result"] == "slow"
        client.upgraded()
        site.wait_log("the old shards are gone")
        assert site.shard_of(client) not in old
        client.send(text(2)[9:])
        speaks(client, 1, 2)
    assert len(worker.connects) == 1


@BOTH
def test_unread_at_a_reload(front, number):
    """The connection may have one call: what is behind it was not looked at, and moves as it is."""
    site = front(shards=1, routes=ROUTES, drain="20s", limits={"calls_per_connection": 1})
    worker = site.fake(handler=answer)
    site.start()
    with WsClient(site.address, None) as client:
        client.send(rpc_request("slow", id=1) + rpc_request("demo.echo", [2], id=2) + upgrade() + text(1))
        call = worker.wait_calls(1)
        wait_read(client)
        old = site.shards()
        site.reload(number, gone=False)
        call.reply("slow")
        assert [client.read_response().json()["id"] for _ in range(2)] == [1, 2]
        client.upgraded()
        site.wait_log("the old shards are gone")
        assert site.shard_of(client) not in old
        speaks(client, 1)
