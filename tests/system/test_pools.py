"""How a pool chooses among its workers, queues, and waits: concurrency, deadlines, cancelling."""
import threading
import time

import pytest

from fakeworker import PING, PONG, echo, frame, hold
from harness import Load, ask, clients, failed, free_port, http_route, rpc_route, wait_for
from httpclient import rpc_request, wait_readable
from scrapes import scrape


def test_hello_of_the_front(site):
    web = site(shards=2)
    worker = web.fake()
    web.start()
    hellos = [c.front for c in worker.live()]
    assert sorted(h["shard"] for h in hellos) == [0, 1]
    for h in hellos:
        assert 1 in h["protocol"] and h["shards"] == 2 and h["pool"] == "app"
        assert h["front"].startswith("frontd/") and h["max_frame"] >= 1 << 20
        assert isinstance(h["instance"], str) and isinstance(h["generation"], int)
    assert len({h["instance"] for h in hellos}) == 1


def test_calls_go_to_both_workers(site):
    web = site()
    workers = [web.fake("app-%d" % n, hold, 10) for n in range(2)]
    web.start()
    with clients(web, 20) as made:
        ask(made)
        for worker in workers:
            worker.wait_calls(10)
        assert [worker.busy for worker in workers] == [10, 10]
        for worker in workers:
            for call in worker.calls:
                call.reply("r")
        assert {c.read_response().status for c in made} == {200}


def test_the_less_loaded_of_two(site):
    """With unlimited concurrency too, two workers share the calls that are held."""
    web = site()
    workers = [web.fake("app-%d" % n, hold) for n in range(2)]
    web.start()
    with clients(web, 20) as made:
        ask(made)
        wait_for(lambda: sum(w.busy for w in workers) == 20, "all calls")
        assert all(8 <= w.busy <= 12 for w in workers), [w.busy for w in workers]


def test_concurrency_holds_over_all_shards(site):
    """Four shards, one worker of concurrency 3: never more, and nothing is left waiting."""
    web = site(shards=4)
    lock = threading.Lock()

    def later(call):
        with lock:
            timer = threading.Timer(0.005, call.reply, [call.params])
            timer.daemon = True
            timer.start()

    worker = web.fake(handler=later, concurrency=3)
    web.start()
    load = Load(web, 24)
    load.wait(600)
    assert set(load.stop()) == {200}
    assert worker.max_busy == 3


def test_absent_concurrency_is_one(site):
    web = site()
    worker = web.fake(handler=hold, hello={"concurrency": None})
    web.start()
    with clients(web, 3) as made:
        ask(made)
        for n in range(3):
            worker.wait_calls(n + 1).reply(n)
        assert {c.read_response().status for c in made} == {200}
    assert worker.max_busy == 1


def test_concurrency_one_and_another_idle(site):
    """While one worker of concurrency 1 is busy the idle one gets the call, from any shard."""
    web = site(shards=2)
    workers = [web.fake("app-%d" % n, hold, 1) for n in range(2)]
    web.start()
    for _ in range(15):
        with clients(web, 2) as made:
            ask(made)
            for worker in workers:
                worker.wait_calls(1)
            for worker in workers:
                worker.calls[0].reply("r")
            assert {c.read_response().status for c in made} == {200}
        for worker in workers:
            assert worker.max_busy == 1
            worker.forget()


def test_a_freed_slot_goes_to_a_call_on_any_shard(site):
    web = site(shards=4)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with clients(web, 16) as made:
        ask(made)
        for n in range(16):
            worker.wait_calls(n + 1).reply(n)
        assert {c.read_response().status for c in made} == {200}
        assert len({web.shard_of(c) for c in made}) > 1
    assert worker.max_busy == 1


def test_no_shard_starves(site):
    """One connection's call gets its turn while many others, on all shards, call without end."""
    web = site(shards=2)
    web.fake(handler=echo, concurrency=1)
    web.start()
    load = Load(web, 8)
    for n in range(20):
        assert web.rpc("demo.echo", [n]).json()["result"] == [n]
    assert set(load.stop()) == {200}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("queue", [0, 3])
def test_queue_limit(site, shards, queue):
    """One call in progress, `queue` waiting, the next one refused at once; over all shards."""
    web = site(shards=shards, pools={"app": {"queue": queue}})
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with clients(web, queue + 4) as made:
        ask(made[:1])
        worker.wait_calls(1)
        waiting = made[1:]
        ask(waiting, first=1)
        for _ in range(3):      # whichever of them they are: three are too many
            refused = wait_readable(waiting)[0]
            r = failed(refused.read_response(), 503, -32001)
            assert int(r.header("retry-after")) >= 1
            waiting.remove(refused)
        assert not wait_readable(waiting, 0.05)
        for n in range(queue + 1):
            worker.wait_calls(n + 1).reply(n)
        assert {c.read_response().status for c in [made[0], *waiting]} == {200}
        ask(made[:1])
        worker.wait_calls(queue + 2).reply(0)
        assert made[0].read_response().status == 200


def refusals(web, why):
    return scrape(web).total("frontd_calls_refused_total", reason=why)


@pytest.mark.parametrize("keys", [{}, {"balance": "hash", "hash": "peer"}], ids=["least", "hash"])
def test_calls_that_would_be_late_are_refused(site, keys):
    """The measured time of calls says which deadlines cannot be met, and when to come again."""
    web = site(pools={"app": keys}, routes=[rpc_route(), rpc_route("/short", timeout="300ms"), rpc_route("/tiny", timeout="15ms"),
                       http_route("/http", timeout="300ms")])
    took = 0.03

    def later(call):
        timer = threading.Timer(took, call.reply, [1])
        timer.daemon = True
        timer.start()

    worker = web.fake(handler=later, concurrency=1)
    web.start()

    def refused(path, why):
        before = refusals(web, why)
        with web.client() as client:
            if path == "/http":
                r = client.request("GET", path)
            else:
                client.send(rpc_request("demo.late", path=path))
                r = failed(client.read_response(), 503, -32001)
        assert r.status == 503
        assert refusals(web, why) == before + 1
        return int(r.header("retry-after"))

    for _ in range(64):     # before that nothing is refused
        assert web.rpc("demo.measured").status == 200
    worker.handler = hold
    with clients(web, 60) as made:
        ask(made[:1])
        worker.wait_calls(65)
        assert 1 <= refused("/tiny", "too_late") <= 60      # no call has ever taken so little
        ask(made[1:], first=1)
        wait_for(lambda: scrape(web).total("frontd_calls_in_progress") == 60, "59 calls in the queue")
        for path in ("/short", "/http"):
            assert 2 <= refused(path, "wait_too_long") <= 60    # 59 x 30 ms at least
        worker.handler = later
        worker.calls[-1].reply(1)
        assert {c.read_response().status for c in made} == {200}


def test_wait_for_worker_ends(site):
    web = site(pools={"app": {"wait_for_worker": "400ms"}})
    web.start()
    with web.client() as client:
        start = time.monotonic()
        failed(client.rpc("demo.echo", [1]), 503, -32004)
        assert time.monotonic() - start >= 0.35


def test_a_worker_that_appears_is_used_at_once(site):
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1]))
        assert not client.readable(0.2)
        web.fake()
        assert client.read_response().json()["result"] == [1]


def test_a_worker_comes_into_a_new_folder_entry_by_rename(site):
    """A socket that is bound under another name and then renamed appears as well."""
    import os
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    web.start()
    worker = web.fake("starting")
    os.rename(web.path("starting.sock"), web.path("app-1.sock"))
    assert web.rpc("demo.echo", [1]).status == 200
    worker.close()
    web.workers.remove(worker)


def test_a_worker_goes_and_comes_back(site):
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    web.fake()
    web.start()
    with web.client(timeout=30) as client:
        for n in range(3):
            assert client.rpc("demo.echo", [n]).status == 200
            web.workers.pop().close()
            web.fake()
        assert client.rpc("demo.echo", ["last"]).status == 200


def test_a_stale_socket_file_is_retried(site):
    """The file is there, nobody listens: the front keeps trying, and others are not disturbed."""
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    web.fake().die()
    web.workers.clear()
    web.start()
    with web.client(timeout=30) as client:
        client.send(rpc_request("demo.echo", [1]))
        assert not client.readable(0.3)
        web.fake()
        assert client.read_response().status == 200


def test_a_channel_that_breaks_is_dialled_again(site):
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    worker = web.fake()
    web.start()
    with web.client(timeout=30) as client:
        for n in range(3):
            worker.drop()
            worker.wait(lambda: not worker.live() or len(worker.channels) > n + 1, "the break")
            assert client.rpc("demo.echo", [n]).status == 200


def test_tcp_worker(site):
    address = ("127.0.0.1", free_port())
    web = site(pools={"app": {"workers": ["tcp://127.0.0.1:%d" % address[1]], "wait_for_worker": "30s"}})
    worker = web.fake(address)
    web.start()
    with web.client(timeout=30) as client:
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]
        worker.close()
        web.workers.remove(worker)
        client.send(rpc_request("demo.echo", [2]))
        web.fake(address)
        assert client.read_response().json()["result"] == [2]


def test_methods_of_hello(site):
    web = site(pools={"app": {"wait_for_worker": "300ms"}})
    for name, methods in [("app-orders", ["orders.*", "health"]), ("app-users", ["users.*"])]:
        web.fake(name, lambda call: call.reply(call.channel.worker.name), hello={"methods": methods})
    web.start()
    with web.client() as client:
        for _ in range(5):
            assert client.rpc("orders.new").json()["result"] == "app-orders.sock"
            assert client.rpc("health").json()["result"] == "app-orders.sock"
            assert client.rpc("users.x.y").json()["result"] == "app-users.sock"
        for method in ("ordersx", "healthy", "other"):
            r = client.rpc(method)
            assert (r.status, r.json()["error"]["code"]) in [(404, -32601), (503, -32004)]


def test_late_hello(site):
    """Nothing is sent to a worker before its HELLO, and it may take its time."""
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    worker = web.fake(on_hello=lambda channel: None)
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1]))
        worker.wait(lambda: worker.live() and worker.live()[0].front, "the front's HELLO")
        assert not client.readable(0.3)
        worker.live()[0].hello()
        assert client.read_response().status == 200


def test_no_hello_ends_the_channel(site):
    web = site(pools={"app": {"wait_for_worker": "300ms"}})
    worker = web.fake(on_hello=lambda channel: None)
    start = time.monotonic()
    web.start()
    worker.wait(lambda: worker.channels and worker.channels[0].closed, "the end of the channel", 20)
    assert time.monotonic() - start >= 4.9
    failed(web.rpc("demo.echo"), 503, -32004)


@pytest.mark.parametrize("hello", [
    {"protocol": 2}, {"protocol": None}, {"protocol": "1"}, {"protocol": [1]}, {"concurrency": -1},
    {"concurrency": "many"}, {"methods": "all"}, {"methods": [1]}, {"max_frame": "x"},
], ids=str)
def test_bad_hello(site, hello):
    """A HELLO that breaks the protocol: the channel ends, the other worker serves."""
    web = site()
    bad = web.fake("app-bad", hello=hello, on_hello=lambda channel: channel.hello())
    bad.tolerant = True
    web.fake("app-good")
    web.start()
    bad.wait(lambda: any(c.closed for c in bad.channels), "the end of the channel")
    for n in range(5):
        assert web.rpc("demo.echo", [n]).status == 200
    assert not bad.calls


def test_version_mismatch_answered_by_goaway(site):
    def refuse(channel):
        channel.send(frame(7, body=b'{"reason":"version"}'))
        channel.close()

    web = site(pools={"app": {"wait_for_worker": "300ms"}})
    bad = web.fake("app-bad", on_hello=refuse)
    web.start()
    bad.wait(lambda: bad.channels, "a channel")
    failed(web.rpc("demo.echo"), 503, -32004)
    web.fake("app-good")
    wait_for(lambda: web.rpc("demo.echo").status == 200, "the good worker")


def test_ping_is_answered(site):
    web = site()
    worker = web.fake()
    web.start()
    for body in (b"", b"x", b"y" * 64):
        worker.channels[0].send(frame(PING, body=body))
        worker.wait(lambda: body in worker.channels[0].pongs, "PONG")
    assert [f[4:] for f in worker.frames if f[0] == PONG][-1] == (b"", b"y" * 64, b"")


def test_unknown_pool_members_do_not_matter(site):
    """Files that match a pattern and are no sockets are no workers, and stop nothing."""
    web = site()
    with open(web.path("app-0.sock"), "w") as f:
        f.write("not a socket")
    web.fake()
    web.start()
    assert web.rpc("demo.echo", [1]).status == 200


def test_a_worker_of_two_pools(site):
    """Its slots are those of one process, and one that is freed in one pool goes to the other."""
    web = site(pools={"app": {"methods": ["a.*"]}, "other": {"methods": ["b.*"]}},
               routes=[rpc_route(pool=None, pools=["app", "other"])])
    for pool in web.config["pools"]:
        pool["workers"] = ["unix:" + web.path("app-*.sock")]
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    worker.wait_ready(2)
    with web.client() as one, web.client() as two:
        one.send(rpc_request("a.x", [1]))
        worker.wait_calls(1)
        two.send(rpc_request("b.x", [1]))
        assert not two.readable(0.2) and len(worker.calls) == 1
        worker.calls[0].reply("r")
        assert one.read_response().status == 200
        worker.wait_calls(2).reply("r")
        assert two.read_response().status == 200
        assert worker.max_busy == 1


def test_a_slow_worker_that_reads_again(site):
    """Notifications take all the room for what waits for a worker. None is answered, so no slot is
    freed; what waits behind them goes on when the worker has read them."""
    web = site()
    worker = web.fake()
    web.start()
    worker.channels[0].paused.set()
    note = rpc_request("demo.note", ["x" * 900000], id=None)
    with web.client() as client, web.client() as other:
        for _ in range(6):
            client.send(note)           # not answered before it has been sent
        client.send(rpc_request("demo.echo", ["behind"]))
        assert not other.readable(0.3)
        other.send(rpc_request("demo.echo", [1]))
        assert not other.readable(0.3)
        worker.channels[0].paused.clear()
        assert other.read_response().json()["result"] == [1]


@pytest.mark.parametrize("keys", [{}, {"balance": "hash", "hash": "param:k"}, {"balance": "bounded", "hash": "param:k"}])
def test_weights(site, keys):
    """Of 400 calls, one after another, a worker with weight 3 has three for one of the other."""
    web = site(pools={"app": keys})
    pool = web.config["pools"][0]
    pool["workers"] = ["unix:" + web.path("app-1.sock"), "unix:%s weight=3" % web.path("app-2*.sock")]
    light, heavy = web.fake("app-1"), web.fake("app-2x")
    web.start()
    with web.client() as client:
        for n in range(400):
            assert client.rpc("demo.echo", {"k": "key %d" % n}).status == 200
    assert len(light.calls) + len(heavy.calls) == 400
    assert 60 < len(light.calls) < 140, len(light.calls)
