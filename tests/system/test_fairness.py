"""Clients take turns in a pool's queue: who has much waiting neither delays others for long nor keeps them out."""
import contextlib
import json
import os
import selectors
import threading
import time

import pytest

from fakeworker import echo, hold
from harness import clients, failed, http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request
from patience import patient
from reloads import Paused

KINDS = ["batch", "pipelined", "http", "ws", "ws-batch", "frame", "line", "line-batch"]
MANY = 500
DRAIN = "100ms"         # what waits at the end of a test is not waited for


def sites(site, **keys):
    return site(routes=[rpc_route(timeout="60s"), http_route("/h", timeout="60s"), ws_route(timeout="60s")], drain=DRAIN,
                streams={"frame": {"timeout": "60s"}, "line": {"timeout": "60s"}},
                limits={"calls_per_connection": MANY}, **keys)


def batch(count, method="flood"):
    return json.dumps([json.loads(rpc_body(method, [n], n)) for n in range(count)]).encode()


def post(body, path="/rpc"):
    return request("POST", path, body)


def flood(web, kind, count=MANY):
    """A client of that kind that has sent so many calls at once."""
    if kind in ("batch", "pipelined", "http"):
        client = web.client()
        if kind == "pipelined":
            client.send(b"".join(rpc_request("flood", [n], id=n) for n in range(count)))
        elif kind == "http":
            client.send(request("GET", "/h") * count)
        else:
            client.send(post(batch(count)))
        return client
    client = web.stays(kind.split("-")[0])
    if kind.endswith("batch"):
        client.send_text(batch(count))
    else:
        client.send(b"".join(client.wrap(rpc_body("flood", [n], n)) for n in range(count)))
    return client


def wait_for_more(web, worker):
    """Until the shard has seen what came before: it answers this by itself."""
    with web.client() as client:
        for _ in range(3):
            assert client.request("GET", "/nowhere").status == 404


def index_of(worker, method):
    return next((n for n, call in enumerate(worker.calls) if call.method == method), None)


def answer_until(worker, method, limit, takes=0):
    """Answers one call after the other, each after `takes` seconds, until one of that method comes."""
    answered = start = sum(call.done for call in worker.calls)
    while index_of(worker, method) is None:
        assert answered - start <= limit, "%d calls went first" % (answered - start)
        worker.wait(lambda: len(worker.calls) > answered or index_of(worker, method) is not None, "a call")
        time.sleep(takes)
        worker.calls[answered].reply("r") if worker.calls[answered].method != "http.request" else \
            worker.calls[answered].http(200, [], b"r")
        answered += 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_waits_for_one_of_each_other_client(site, kind):
    """One client has hundreds of calls waiting, another one is next but one all the same."""
    web = sites(site)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with contextlib.closing(flood(web, kind)), web.client() as normal, web.client() as other:
        worker.wait_calls(1)
        wait_for_more(web, worker)
        for n, client in enumerate((normal, other)):
            client.send(rpc_request("normal%d" % n, id=n))
        wait_for_more(web, worker)
        answer_until(worker, "normal0", 5)
        answer_until(worker, "normal1", 5)


def on_shard(web, pid):
    """A client that this shard has accepted."""
    for _ in range(200):
        client = web.client()
        if wait_for(lambda: web.shard_of(client), "its shard") == pid:
            return client
        client.close()
    raise AssertionError("no connection goes to that shard")


@contextlib.contextmanager
def greedy_and_normal(site, how):
    """A worker that has a call of one client, of which hundreds wait, and a client on the other shard."""
    keys = {"hash": "peer", "balance": "hash"} if how == "hash" else {}
    web = site(shards=2, pools={"app": keys}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1, hello={"methods": ["*"]} if how == "methods" else {})
    web.start()
    one, two = web.shards()
    with on_shard(web, one) as greedy, on_shard(web, two) as normal:
        greedy.send(post(batch(MANY)))
        worker.wait_calls(1)
        wait_for_more(web, worker)
        yield worker, normal


@pytest.mark.parametrize("how", ["all", "methods", "hash"])
def test_clients_of_different_shards_take_turns(site, how):
    with greedy_and_normal(site, how) as (worker, normal):
        normal.send(rpc_request("normal"))
        answer_until(worker, "normal", 50, 0.001)   # shards give way by the millisecond


@pytest.mark.parametrize("how", ["all", "methods", "hash"])
def test_clients_of_different_shards_take_turns_where_calls_take_long(site, how):
    """Longer than a shard is let go first: it is not passed over for not going while all workers are busy."""
    with greedy_and_normal(site, how) as (worker, normal):
        for n in range(4):
            normal.send(rpc_request("normal%d" % n, id=n))
            answer_until(worker, "normal%d" % n, 3, 0.05)


@pytest.mark.parametrize("how", ["all", "methods"])
def test_a_shard_that_was_late_has_its_turn_all_the_same(site, how):
    """It takes no turn for longer than the other one lets it go first; then it is there again."""
    web = site(shards=2, pools={"app": {}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1, hello={"methods": ["*"]} if how == "methods" else {})
    web.start()
    one, two = web.shards()
    with on_shard(web, one) as greedy, on_shard(web, two) as normal:
        greedy.send(rpc_request("flood"))
        worker.wait_calls(1).reply("r")     # what an answer takes is known then, and all members are started at once
        assert greedy.read_response().status == 200
        greedy.send(post(batch(2 * MANY)))
        worker.wait_calls(2)
        wait_for_more(web, worker)
        normal.send(rpc_request("normal"))
        for _ in range(5):
            wait_for_more(web, worker)
        with Paused(two):
            for n in range(1, 10):
                time.sleep(0.005)           # shards give way by the millisecond
                worker.wait_calls(n + 1).reply("r")
        answer_until(worker, "normal", MANY, 0.002)


@pytest.mark.parametrize("kind", ["batch", "ws", "line-batch"])
def test_who_floods_has_its_turn_too(site, kind):
    """And in the order in which it sent them."""
    web = sites(site)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with contextlib.closing(flood(web, kind, 20)), clients(web, 3) as made:
        worker.wait_calls(1)
        wait_for_more(web, worker)
        for client in made:
            client.send(rpc_request("normal", [1], id=1) * 10)
        wait_for_more(web, worker)
        for n in range(50):
            worker.wait_calls(n + 1).reply("r")
        mine = [call.params[0] for call in worker.calls if call.method == "flood"]
        assert mine == list(range(20))
        assert index_of(worker, "normal") <= 3
        assert [c.method for c in worker.calls[4:40]].count("flood") in (8, 9, 10)


@pytest.mark.parametrize("shards", [1, 2])
def test_who_has_most_in_a_full_queue_makes_room(site, shards):
    """Until all have as much: then one more is refused."""
    web = site(shards=shards, pools={"app": {"queue": 4}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.client() as greedy, clients(web, 6) as made:
        greedy.send(post(batch(5)))
        worker.wait_calls(1)
        wait_for(lambda: web.shard_of(greedy), "its shard")
        wait_for_more(web, worker)
        for n, client in enumerate(made[:3]):
            client.send(rpc_request("normal%d" % n, id=n))
            wait_for_more(web, worker)
            assert not client.readable(0.1)
        last = made[3]
        last.send(rpc_request("last", id=3))
        failed(last.read_response(), 503, -32001)
        for n in range(5):
            worker.wait_calls(n + 1).reply("r")
        assert {client.read_response().status for client in made[:3]} == {200}
        answer = greedy.read_response().json()
        assert [r["id"] for r in answer if "result" in r] == [0, 1]
        assert {r["error"]["code"] for r in answer if "error" in r} == {-32001}
        worker.wait(lambda: all(c.done for c in worker.calls), "the end of all calls")


def test_what_another_shard_has_too_much_of_makes_room(site):
    """It takes no turn for now, and each of its clients has little; but all of them have much."""
    web = site(shards=2, pools={"app": {"queue": 100}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    one, two = web.shards()
    with contextlib.ExitStack() as stack:
        greedy, normal = ([stack.enter_context(on_shard(web, pid)) for _ in range(20)] for pid in (one, two))
        greedy[0].send(rpc_request("flood"))
        worker.wait_calls(1).reply("r")     # what an answer takes is known then, and all members are started at once
        assert greedy[0].read_response().status == 200
        greedy[0].send(rpc_request("flood"))
        worker.wait_calls(2)
        for client in greedy:
            client.send(post(batch(5)))
        for _ in range(5):
            wait_for_more(web, worker)
        with Paused(one):
            for n, client in enumerate(normal):
                client.send(rpc_request("normal", id=n))
            assert not any(client.readable(0.1) for client in normal)
        for n in range(1, 102):
            worker.wait_calls(n + 1).reply("r")
        assert {client.read_response().status for client in normal} == {200}


def test_a_lone_client_has_the_whole_queue(site):
    web = site(pools={"app": {"queue": 50}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.client() as client:
        client.send(rpc_request("flood"))
        worker.wait_calls(1).reply("r")     # what an answer takes is known then, and all members are started at once
        assert client.read_response().status == 200
        client.send(post(batch(60)))
        for n in range(51):
            worker.wait_calls(n + 2).reply("r")
        answer = client.read_response().json()
        assert sum("result" in r for r in answer) == 51 and len(answer) == 60
        assert [r["id"] for r in answer if "error" in r] == list(range(51, 60)), "the newest are refused"


def test_a_client_that_goes_leaves_room(site):
    web = site(pools={"app": {"queue": 30}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.client() as client, web.client() as other:
        client.send(post(batch(31)))
        worker.wait_calls(1)
        client.reset()
        worker.wait(lambda: worker.calls[0].cancelled, "CANCEL")
        other.send(post(batch(30)))
        for n in range(31):
            worker.wait_calls(n + 1).reply("r")
        assert all("result" in r for r in other.read_response().json())


class Flooders(threading.Thread):
    """Connections that send requests again and again, `depth` at a time."""

    def __init__(self, web, count, depth):
        super().__init__(daemon=True)
        self.data = rpc_request("flood", [1]) * depth
        self.depth = depth
        self.closing = False
        self.refused = self.served = 0
        self.made = [web.client() for _ in range(count)]
        self.start()

    def run(self):
        with selectors.DefaultSelector() as selector:
            for client in self.made:
                client.left, client.tail = self.depth, b""
                client.send(self.data)
                client.sock.setblocking(False)
                selector.register(client.sock, selectors.EVENT_READ, client)
            while not self.closing:
                for key, _ in selector.select(0.1):
                    self.read(key.data)
        for client in self.made:
            client.close()

    def read(self, client):
        data = client.tail + client.sock.recv(1 << 20)
        client.tail = data[-11:]        # a byte less than what is counted
        ok, busy = data.count(b"HTTP/1.1 200"), data.count(b"HTTP/1.1 503")
        self.served, self.refused = self.served + ok, self.refused + busy
        client.left -= ok + busy
        if client.left <= 0:
            client.left += self.depth
            client.sock.setblocking(True)
            client.send(self.data)
            client.sock.setblocking(False)

    def stop(self):
        self.closing = True
        self.join(10)


@pytest.mark.parametrize("shards", [1, 2])
def test_beside_200_pipelining_connections_nobody_is_refused(site, shards):
    """200 connections keep a queue full; ten normal clients get no 503."""
    def slow(call):
        time.sleep(0.0003)
        echo(call)

    web = site(shards=shards, pools={"app": {"queue": 2000}}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    web.fake(handler=slow, concurrency=1).keep_frames = False
    web.start()
    flooders = Flooders(web, 200, 60)
    try:
        wait_for(lambda: flooders.refused > 200 or not flooders.is_alive(), "a full queue", 30)
        statuses = []

        def call(client):
            for n in range(8):
                statuses.append(client.rpc("demo.echo", [n], id=n).status)

        with clients(web, 10) as made:
            threads = [threading.Thread(target=call, args=(client,)) for client in made]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert statuses == [200] * 80
        assert flooders.is_alive()
    finally:
        flooders.stop()


def cpu(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("how", ["methods", "hash"])
@pytest.mark.parametrize("kind", [True, False], ids=["notifications", "calls"])
@patient()
def test_what_waits_for_one_worker_costs_another_nothing(site, how, kind):
    """Ten batches of a thousand for a worker that is busy: a call for another one costs the shard as before."""
    keys = {"hash": "param:key", "balance": "hash"} if how == "hash" else {}
    web = site(pools={"app": keys}, routes=[rpc_route(timeout="60s")], drain=DRAIN)
    busy = web.fake("app-1", hold, 1, hello={"methods": ["busy.*"]})
    web.fake("app-2", echo, hello={"methods": ["other"]})
    web.start()
    body = json.dumps([json.loads(rpc_body("busy.x", {"key": n}, None if kind else n))
                       for n in range(1000)]).encode()

    def spent():
        start = cpu(web.shard)
        with web.client() as client:
            for _ in range(20):
                client.send(rpc_request("other", {"key": 1}) * 100)
                for _ in range(100):
                    assert client.read_response().status == 200
        return cpu(web.shard) - start

    alone = min(spent() for _ in range(2))
    with clients(web, 11) as made:
        made[0].send(rpc_request("busy.first", {"key": 0}))
        busy.wait_calls(1)
        for client in made[1:]:
            client.send(post(body))
        wait_for_more(web, busy)
        beside = min(spent() for _ in range(2))
    assert beside <= 2 * alone + 0.15, (alone, beside)
