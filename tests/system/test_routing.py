"""Which route a request takes, and which worker a call goes to where the pool says `balance: hash`."""
import contextlib
import json

import pytest

from fakeworker import echo
from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body
from wsclient import WsClient


@pytest.fixture
def web(site):
    """Routes with and without a host; the pool's name is the path that its worker answers with."""
    made = site(
        routes=[rpc_route("/", pool="any"), rpc_route("/", pool="a", host="a.Test"),
                rpc_route("/deep", pool="deep"), rpc_route("/", pool="six", host="[::1]")],
        pools={name: {} for name in ("any", "a", "deep", "six")})
    for name in ("any", "a", "deep", "six"):
        made.fake(name + "-1", lambda call, name=name: call.reply(name))
    return made.start()


@pytest.mark.parametrize("host, path, pool", [
    ("a.test", "/", "a"), ("A.TEST", "/", "a"), ("a.test:8080", "/", "a"), ("a.test:", "/", "a"),
    ("b.test", "/", "any"), ("xa.test", "/", "any"), ("a.test.", "/", "a"), ("", "/", "any"),
    ("[::1]:80", "/", "six"), ("[::1]", "/", "six"), ("[::2]", "/", "any"),
    # A route with a host comes before a longer path without one.
    ("a.test", "/deep", "a"), ("b.test", "/deep", "deep"), ("b.test", "/deep/er", "deep"),
    ("b.test", "/deeper", "any"), ("b.test", "/deep?x=/", "deep"),
    # However it is spelled; more in test_route_paths.py.
    ("b.test", "/%64eep", "deep"), ("b.test", "/x/../deep", "deep"), ("b.test", "//deep", "deep"),
])
def test_host_and_path(web, host, path, pool):
    with web.client() as client:
        client.send(request("POST", path, rpc_body("m"), host=host))
        assert client.read_response().json()["result"] == pool


def test_the_absolute_target_says_the_host(web):
    with web.client() as client:
        client.send(request("POST", "http://a.test/", rpc_body("m"), host="b.test"))
        assert client.read_response().json()["result"] == "a"


def test_a_host_that_was_ignored_is_shown_to_nobody(site):
    """RFC 9112 section 3.2.2: in the context of calls, and in what events tell."""
    keys = {"headers": ["Host"]}
    web = site(routes=[rpc_route(**keys), http_route(**keys), ws_route(events=True, **keys)])
    worker = web.fake(handler=lambda call: call.http() if call.method == "http.request" else echo(call))
    web.start()
    with web.client() as client:
        for target in ("http://one.test:81/rpc", "http://one.test:81/x"):
            client.send(request("POST", target, rpc_body("m"), host="two.test"))
            assert client.read_response().status == 200
        client.send(b"POST http://one.test:81/rpc HTTP/1.0\r\nHost: two.test\r\nContent-Length: %d\r\n\r\n%s" %
                    (len(rpc_body("m")), rpc_body("m")))
        assert client.read_response().status == 200
    with WsClient(web.address, "http://one.test:81/ws", host="two.test") as client:
        client.call("m")
        client.finish()
    assert [c.meta["headers"] for c in worker.calls if "headers" in c.meta] == [{"host": "one.test:81"}] * 4
    assert worker.connects[0].params["headers"] == {"host": "one.test:81"}
    for call in worker.calls:
        assert b"two.test" not in call.body


def test_a_host_that_was_ignored_is_not_hashed(site):
    web = hashed(site, "header:host")
    with web.client() as client:
        def of(target, host):
            client.send(request("POST", target, rpc_body("m"), host=host))
            return client.read_response().json()["result"]
        found = [[of("http://h%d.test/rpc" % n, "h%d.test" % m) for m in range(8)] for n in range(8)]
        assert [of("/rpc", "h%d.test" % n) for n in range(8)] == [row[0] for row in found]
    assert all(len(set(row)) == 1 for row in found) and len({row[0] for row in found}) > 1


def hashed(site, key, shards=1, workers=4, **keys):
    """A site whose workers answer with their names; they are in `web.workers`."""
    web = site(shards=shards, pools={"app": {"balance": "hash", "hash": key, **keys}},
               routes=[rpc_route(), http_route()])
    for n in range(workers):
        web.fake("app-%d" % n, lambda call, n=n: call.http() if call.method == "http.request"
                 else call.reply(n))
    return web.start()


def ask(client, params=None, headers=()):
    r = client.rpc("m", params, headers=headers)
    assert r.status == 200, r
    return r.json()["result"]


def test_hash_by_peer(site):
    """One address has one worker, on any connection and shard."""
    web = hashed(site, "peer", shards=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.client()) for _ in range(24)]
        assert len({ask(c) for c in clients for _ in range(2)}) == 1
        one = web.shard_of(clients[0])
        assert any(web.shard_of(c) != one for c in clients[1:])


def test_hash_by_conn(site):
    """A connection keeps its worker; connections are spread."""
    web = hashed(site, "conn")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.client()) for _ in range(30)]
        first = [ask(c) for c in clients]
        assert [ask(c) for c in clients] == first
        assert len(set(first)) > 1


def test_hash_by_header(site):
    web = hashed(site, "header:X-Tenant", shards=3)

    def all_of(tag):
        found = set()
        for name in ("X-Tenant", "x-tenant"):
            for _ in range(3):
                with web.client() as client:
                    found.add(ask(client, headers=[(name, tag)]))
        return found
    each = [all_of("t%d" % n) for n in range(20)]
    assert all(len(one) == 1 for one in each)
    assert len(set.union(*each)) > 1
    with web.client() as client:    # without it, the connection counts
        assert len({ask(client) for _ in range(5)}) == 1


def test_hash_by_param(site):
    web = hashed(site, "param:user", shards=2)
    with web.client() as client, web.client() as other:
        first = [ask(client, {"x": n, "user": n}) for n in range(30)]
        assert [ask(other, {"user": n}) for n in range(30)] == first
        assert len(set(first)) > 1
        assert len({ask(client, [n]) for n in range(5)}) == 1   # no names: the connection counts
        assert client.request("GET", "/").status == 200         # no params at all


def test_hash_moves_only_the_keys_of_a_worker_that_goes(site):
    web = hashed(site, "param:user")
    with web.client() as client:
        first = [ask(client, {"user": n}) for n in range(60)]
        web.workers[2].close()
        then = [ask(client, {"user": n}) for n in range(60)]
    assert 2 in first and 2 not in then
    assert all(now == was for was, now in zip(first, then) if was != 2)


def test_bounded_load_spreads_a_key_over_all_shards(site):
    """All calls have one key: no worker has over 1.25 times the mean of what is in progress in all shards."""
    web = site(shards=3, pools={"app": {"balance": "bounded", "hash": "param:user"}})
    workers = [web.fake("app-%d" % n, lambda call: None, concurrency=64) for n in range(4)]
    web.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.client()) for _ in range(32)]
        for sent, client in enumerate(clients, 1):
            client.send(request("POST", "/rpc", rpc_body("m", {"user": 0}, id=sent)))
            wait_for(lambda: sum(len(w.calls) for w in workers) == sent, what="the call")
            loads = [len(w.calls) for w in workers]
            home = loads.index(1) if sent == 1 else home    # the first call goes to the worker of its hash
            assert max(loads) <= -(-5 * sent // (4 * len(workers))), loads
        assert len({web.shard_of(c) for c in clients}) > 1
        assert loads[home] == 10, loads     # a key stays where it belongs until then
        for call in [call for w in workers for call in w.calls]:
            call.reply()
        assert all(client.read_response().status == 200 for client in clients)
        before = [len(w.calls) for w in workers]
        for _ in range(5):
            clients[0].send(request("POST", "/rpc", rpc_body("m", {"user": 0}, id=99)))
            workers[home].wait_calls(before[home] + 1)
            workers[home].calls[-1].reply()
            assert clients[0].read_response().status == 200
            before[home] += 1
        assert [len(w.calls) for w in workers] == before, "nothing else is in progress: its worker has them all"


def test_hash_waits_for_its_worker_while_another_is_idle(site):
    """The worker of a key is busy: the call waits for it, and others pass by."""
    web = site(pools={"app": {"balance": "hash", "hash": "param:user"}})
    workers = [web.fake("app-%d" % n, lambda call: None, concurrency=1) for n in range(2)]
    web.start()

    def taken():
        return [call for worker in workers for call in worker.calls]

    with web.client() as one, web.client() as two, web.client() as three:
        one.send(request("POST", "/rpc", rpc_body("m", {"user": 0}, id="one")))
        mine = next(w for w in workers if w in _with_calls(workers))
        two.send(request("POST", "/rpc", rpc_body("m", {"user": 0}, id="two")))
        other = next(w for w in workers if w is not mine)
        for n in range(1, 40):      # a key of the other worker
            three.send(request("POST", "/rpc", rpc_body("m", {"user": n}, id=n)))
            if _arrives(other):
                break
        assert [json.loads(c.id) for c in mine.calls] == ["one"]
        mine.calls[0].reply()
        mine.wait_calls(2)
        assert json.loads(mine.calls[1].id) == "two"
        assert len(taken()) == 3


def _with_calls(workers):
    workers[0].wait(lambda: any(w.calls for w in workers), "the first call")
    return [w for w in workers if w.calls]


def _arrives(worker):
    try:
        worker.wait_calls(1, timeout=0.2)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("value", ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None])
def test_traceparent(site, value):
    web = site(routes=[rpc_route(meta=["traceparent"])])
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("m", headers=[("Traceparent", value)] if value else []).status == 200
    assert worker.calls[0].meta == ({"traceparent": value} if value else {})


def test_a_forwarded_header_that_stands_twice_is_a_list(site):
    web = site(routes=[rpc_route(headers=["X-Tag"])])
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("m", headers=[("X-Tag", "a"), ("x-tag", "b, c")]).status == 200
        assert client.rpc("m").status == 200
    assert worker.calls[0].meta == {"headers": {"x-tag": "a, b, c"}}
    assert worker.calls[1].meta == {"headers": {}}


def test_cookies_that_stand_twice_are_one_field(site):
    web = site(routes=[rpc_route(headers=["Cookie", "X-Tag"])])
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("m", headers=[("Cookie", "a=1"), ("X-Tag", "x"), ("COOKIE", "b=2; c=3")]).status == 200
    assert worker.calls[0].meta == {"headers": {"cookie": "a=1; b=2; c=3", "x-tag": "x"}}


def test_peer_of_a_unix_client(site):
    web = site()
    web.config["listeners"] = [{"name": "web", "address": "unix:" + web.path("web.sock"),
                                "routes": [rpc_route(meta=["peer"])]}]
    web.address = web.path("web.sock")
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("m").status == 200
    assert worker.calls[0].meta == {"peer": "unix:"}
