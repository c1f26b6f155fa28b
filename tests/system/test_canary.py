"""A route's canary: a pool that gets the calls of some clients."""
import signal

import pytest

from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body
from test_bound_connections import handler

KINDS = ("rpc", "http", "ws")


def answer(call):
    if call.method == "http.request":
        call.http(200, [], call.channel.worker.name.encode())
    else:
        handler(call)


def build(make, percent=0, canary=True, shards=1, methods=None, pools=None):
    keys = {"canary": {"pool": "next", "percent": percent, "header": "x-canary"}}
    web = make(shards=shards, pools=pools or {"app": {}, "next": {"methods": methods} if methods else {}},
               routes=[rpc_route(**keys), http_route(**keys), ws_route(**keys)])
    web.fake("app-1", handler=answer)
    if canary:
        web.fake("next-1", handler=answer, hello={"pid": 2})
    web.start()
    return web


def its_pool(web, kind, value=None):
    headers = [("x-canary", value)] if value is not None else []
    if kind == "ws":
        with web.ws(headers=headers) as client:
            return client.call("worker").split("-")[0]
    with web.client() as client:
        if kind == "rpc":
            return client.rpc("worker", headers=headers).json()["result"].split("-")[0]
        return client.request("GET", "/", headers=headers).body.decode().split("-")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_by_a_header(site, kind):
    web = build(site)
    for value, pool in (("always", "next"), ("Always", "next"), ("never", "app"), (None, "app"), ("yes", "app"), ("", "app")):
        assert its_pool(web, kind, value) == pool, value
    web.workers[1].wait(lambda: not web.workers[1].busy, "its calls")


@pytest.mark.parametrize("kind", KINDS)
def test_all_clients(site, kind):
    web = build(site, percent=100)
    for value, pool in (("always", "next"), ("never", "app"), (None, "next"), ("yes", "next")):
        assert its_pool(web, kind, value) == pool, value


def test_a_batch(site):
    web = build(site)
    with web.client() as client:
        body = b"[%s,%s]" % (rpc_body("worker", id=1), rpc_body("worker", id=2))
        client.send(request("POST", "/rpc", body=body, headers=[("x-canary", "always")]))
        assert {one["result"] for one in client.read_response().json()} == {"next-1.sock"}


def test_an_address_stays_on_one_side(site):
    """Whatever it calls, and on however many connections."""
    web = build(site, percent=50)
    first = its_pool(web, "rpc")
    assert [its_pool(web, kind) for kind in KINDS * 5] == [first] * 15


def test_a_method_that_it_does_not_take(site):
    web = build(site, percent=100, methods=["other.*"])
    assert its_pool(web, "rpc") == "app"


def test_a_canary_without_a_worker(site):
    """Its clients are served as all others are, at once."""
    web = build(site, percent=100, canary=False)
    assert [its_pool(web, kind, "always") for kind in KINDS] == ["app"] * 3
    web.fake("next-1", handler=answer, hello={"pid": 2}).wait_ready(1)
    wait_for(lambda: its_pool(web, "rpc") == "next", "the canary")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_over_a_reload(front, number):
    """A connection stays where its handshake has put it, whatever becomes of the percent."""
    web = build(front)
    on = web.ws(headers=[("x-canary", "always")])
    off = web.ws()
    assert on.call("worker") == "next-1.sock" and off.call("worker") == "app-1.sock"
    for route in web.config["listeners"][0]["routes"]:
        route["canary"]["percent"] = 100
    web.reload(number)
    assert on.call("worker", id=2) == "next-1.sock" and off.call("worker", id=2) == "app-1.sock"
    assert its_pool(web, "ws") == "next"
    for route in web.config["listeners"][0]["routes"]:
        del route["canary"]
    web.reload(number)
    assert on.call("worker", id=3) == "app-1.sock"
    on.close()
    off.close()
