"""What PROTOCOL.md says of the front, where no other test looks: each of its statements is so."""
import json
import signal

import pytest

from fakeworker import GOAWAY, REQUEST, frame, hold
from harness import ask, clients, failed, http_route, rpc_route, wait_for
from httpclient import request, rpc_request
from reloads import HUP, USR2


def test_instance_and_generation(front):
    """Section 4: one instance over reloads, new programs and a lost supervisor; the generation grows."""
    site = front(shards=2)
    worker = site.fake()
    site.start()
    seen = []

    def note():
        """The HELLO of all shards that serve now."""
        live = [c for c in worker.live() if c.ready and not c.goaway]
        assert {c.front["shard"] for c in live} == {0, 1} and all(c.front["shards"] == 2 for c in live)
        seen.append(({c.front["instance"] for c in live}, {c.front["generation"] for c in live}))
    note()
    for number in (HUP, USR2):
        site.reload(number)
        worker.wait_ready(2)
        wait_for(lambda: len([c for c in worker.live() if c.ready and not c.goaway]) == 2, "the new channels")
        note()
    site.front.signal(signal.SIGKILL)
    site.front.wait()
    served = site.count(" serves: ")
    site.launch(ready=False)
    site.wait_log(" serves: ", served + 1, 30)
    wait_for(lambda: len([c for c in worker.live() if c.ready and not c.goaway and
                          c.front["generation"] > max(seen[-1][1])]) == 2, "channels of the new shards", 30)
    wait_for(lambda: len([c for c in worker.live() if c.ready and not c.goaway]) == 2, "the end of the old ones", 30)
    note()
    assert len(set.union(*(instances for instances, _ in seen))) == 1
    generations = [max(g) for _, g in seen]
    assert all(len(g) == 1 for _, g in seen) and sorted(set(generations)) == generations
    stopped = [c for c in worker.live() if not c.goaway]
    site.front.signal(signal.SIGTERM)
    worker.wait(lambda: all(c.goaway is not None for c in stopped), "GOAWAY", 30)
    assert all("last_call" not in c.goaway for c in stopped)       # section 7


@pytest.mark.parametrize("pools", [1, 2])
def test_concurrency_holds_per_front(site, pools):
    """Over the shards and pools of one front; a second front counts by itself."""
    names = ["app", "more"][:pools]
    webs = []
    for _ in range(2):
        webs.append(site(shards=2, pools={name: {} for name in names},
                         routes=[rpc_route("/" + name, pool=name) for name in names]))
        for pool in webs[-1].config["pools"]:
            pool["workers"] = ["unix:" + webs[0].path("app-1.sock")]
    worker = webs[0].fake(handler=hold, concurrency=3)
    for n, web in enumerate(webs):
        web.start()
        worker.wait_ready(2 * pools * (n + 1))
    with clients(webs[0], 6) as made, clients(webs[1], 6) as others:
        for n, one in enumerate(made):
            ask([one], path="/" + names[n % pools])
        worker.wait_calls(3)
        for n, one in enumerate(others):
            ask([one], path="/" + names[n % pools])
        worker.wait_calls(6)
        assert not any(one.readable(0.05) for one in made + others) and worker.busy == 6
        for n in range(12):
            worker.wait_calls(n + 1).reply("r")
            assert worker.max_busy <= 6
        assert all(one.read_response().status == 200 for one in made + others)


@pytest.mark.parametrize("methods, taken, refused", [
    (["a.*", "b"], ["a.", "a.b.c", "b"], ["a", "b.", "A.x", "bb", "http.request"]),
    (["*"], ["a", "http.request"], []),
    (["a*b"], ["a*b"], ["axb", "a*", "ab"]),
    (["http.*"], ["http.request"], ["http"]),
    ([], [], ["a", "http.request"]),
    (None, ["a", "http.request"], []),
])
def test_patterns_of_methods(site, methods, taken, refused):
    web = site(routes=[rpc_route(), http_route("/h")])
    web.fake(hello={} if methods is None else {"methods": methods})
    web.start()
    with web.client() as client:
        for method in taken + refused:
            if method == "http.request":
                assert client.request("GET", "/h").status == (200 if method in taken else 404)
            elif method in taken:
                assert client.rpc(method).json()["result"] is None, method
            else:
                failed(client.rpc(method), 404, -32601)


def test_http_request_params(site):
    """Section 8: what is always there, and that nothing is decoded or joined."""
    web = site(routes=[http_route("/")])
    worker = web.fake()
    web.start()

    def asked(text):
        with web.client() as client:
            client.send(text)
            assert client.read_response().status == 200
        return worker.calls[-1].params
    for target, path, query in [("/", "/", ""), ("/a?", "/a", ""), ("/a%2Fb//c?x=%20&y=?z", "/a%2Fb//c", "x=%20&y=?z"),
                                ("/x/%2e%2e/y", "/x/%2e%2e/y", ""), ("http://front.test/p?q", "/p", "q"),
                                ("http://front.test", "/", "")]:
        params = asked(request("GET", target))
        assert (params["path"], params["query"]) == (path, query)
        assert set(params) == {"method", "scheme", "authority", "path", "query", "headers"}
    params = asked(request("GET", "/", headers=[("X-A", "1"), ("x-b", "\xe9"), ("x-a", "2"), ("y" * 256, "3"),
                                                ("z" * 257, "4")]))
    assert params["headers"] == [["host", "front.test"], ["x-a", "1"], ["x-b", "\xe9"], ["x-a", "2"], ["y" * 256, "3"]]
    assert asked(b"GET / HTTP/1.0\r\n\r\n")["authority"] == ""


def test_a_request_is_byte_for_byte(site):
    """Section 5: whatever the client's JSON looks like, alone or as a member of a batch."""
    web = site()
    worker = web.fake()
    web.start()
    text = b'{ "id":\t1.0e0 ,"method" : "m\\u0031","jsonrpc":"\\u0032.0", "params":{"a":[1.50, "\\/"] } , "x":null}'
    with web.client() as client:
        assert client.post(text).status == 200
        assert client.post(b" [ " + text + b" ] ").status == 200
    assert [c.body for c in worker.calls] == [text, text]


@pytest.mark.parametrize("last", [None, "1", -1, 0.5, 1e3])
def test_goaway_without_a_usable_last_call(site, last):
    """Every call counts as taken: none is given to another worker."""
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request("m"))
        call = worker.wait_calls(1)
        worker.hide()
        body = {"reason": "shutdown"} if last is None else {"reason": "shutdown", "last_call": last}
        worker.channels[0].send(frame(GOAWAY, body=json.dumps(body).encode()))
        other = web.fake("app-2")
        other.wait_ready()
        call.reply("mine")
        assert client.read_response().json()["result"] == "mine"
        assert not other.calls
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]     # by the other one
        assert len(other.calls) == 1 and len([f for f in worker.frames if f[0] == REQUEST]) == 1
