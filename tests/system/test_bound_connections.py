"""Connections that are bound to a worker (`on_worker_lost`), and the state that workers keep with them."""
import json
import signal
import threading

import pytest

from fakeworker import echo
from harness import LIMIT, rpc_route, wait_for, ws_route
from scrapes import memory_uses
from wsclient import WsClosed

KINDS = ("ws", "frame", "line")


def handler(call):
    """`keep` keeps its param with the connection, `worker` says which worker it is that answers."""
    if call.method == "keep":
        call.channel.state(call.conn, call.params[0].encode())
        call.reply(True)
    elif call.method == "worker":
        call.reply(call.channel.worker.name)
    elif not call.notify:
        echo(call)


def build(make, lost="keep", shards=1, workers=3, streams=None, limits=None, start=True, **keys):
    """A site whose workers are processes of their own, as far as the front can see."""
    pool = {"balance": "hash", "hash": "conn", "on_worker_lost": lost} if lost else {}
    web = make(shards=shards, pools={"app": {**pool, **keys}}, limits=limits or {}, streams=streams,
               routes=[rpc_route(), ws_route(events=True)])
    made = [web.fake("app-%d" % n, handler=handler, hello={"pid": 1000 + n}) for n in range(workers)]
    web.start()
    return web, {worker.address.rsplit("/", 1)[-1]: worker for worker in made}


def its_worker(made, client, id="w"):
    return made[client.call("worker", id=id)]


def others(made, worker):
    return [one for one in made.values() if one is not worker]


def rebounds(workers):
    return [event for worker in workers for event in worker.rebounds]


def end(worker, way):
    """The worker is gone: at once, or in good order."""
    if way == "lost":
        worker.die()
        return
    worker.hide()
    for channel in worker.channels:
        channel.goaway_now(channel.last_call)


@pytest.mark.parametrize("way", ["lost", "leaves"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_worker_is_told(site, kind, way):
    web, made = build(site, streams={"frame": {}, "line": {}})
    client = web.stays(kind)
    first = its_worker(made, client)
    client.call("keep", ["what matters"])
    end(first, way)
    rest = others(made, first)
    wait_for(lambda: rebounds(rest), "frontd.rebound")
    second = its_worker(made, client)
    told, = rebounds(rest)
    assert told.channel.worker is second and told.blob == b"what matters" and told.conn == second.calls[-1].conn
    assert told.params["conn"] == str(told.conn) and told.params["peer"].startswith("127.0.0.1:")
    assert not first.rebounds
    client.close()


def test_it_stays_with_its_worker(site):
    """Others come, which its hash would give it to: they get new connections only."""
    web, made = build(site, workers=1)
    only = made["app-0.sock"]
    clients = [web.ws() for _ in range(20)]
    for client in clients:
        assert its_worker(made, client) is only
    new = [web.fake("app-%d" % n, handler=handler, hello={"pid": 1000 + n}) for n in range(1, 6)]
    for worker in new:
        worker.wait_ready(1)
    made.update({worker.name: worker for worker in new})
    for client in clients:
        assert its_worker(made, client, 2) is only
    later = [web.ws() for _ in range(20)]
    assert any(its_worker(made, client) is not only for client in later)
    assert not rebounds(made.values())
    for client in clients + later:
        client.close()


def test_it_does_not_come_back(site):
    """A worker that is a new process at the same address knows nothing of it."""
    web, made = build(site, workers=1)
    client = web.ws()
    old = its_worker(made, client)
    client.call("keep", ["1"])
    old.die()
    web.workers.remove(old)
    assert not old.errors
    new = web.fake("app-0", handler=handler, hello={"pid": 2000})
    new.wait(lambda: new.rebounds, "frontd.rebound")
    assert new.rebounds[0].blob == b"1"
    assert client.call("worker", id=3) == "app-0.sock" and len(new.rebounds) == 1
    client.close()


def test_the_same_process_comes_back(site):
    """Its channel was lost, and no other worker was there: it has the connection still."""
    web, made = build(site, workers=1)
    client = web.ws()
    worker = its_worker(made, client)
    worker.drop()
    worker.wait(lambda: len(worker.channels) == 2 and worker.channels[1].ready, "a new channel")
    assert client.call("worker", id=2) == "app-0.sock"
    assert not worker.rebounds
    client.close()


@pytest.mark.parametrize("way", ["lost", "leaves"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_closed(site, kind, way):
    web, made = build(site, lost="close", streams={"frame": {}, "line": {}})
    clients = [web.stays(kind) for _ in range(12)]
    its = [its_worker(made, client) for client in clients]
    gone = its[0]
    end(gone, way)
    for client, worker in zip(clients, its):
        if worker is not gone:
            assert its_worker(made, client, 2) is worker
        elif kind == "ws":
            with pytest.raises(WsClosed) as closed:
                client.read_json()
            assert closed.value.code == 1012
        else:
            assert client.ends()
        client.close()
    assert not rebounds(made.values())


def test_its_calls_end_before_it_is_closed(site):
    """Of a worker that leaves in good order they have their answers, of one that is lost -32002."""
    held = []

    def slow(call):
        if call.method == "slow":
            held.append(call)
        else:
            handler(call)
    for way in ("leaves", "lost"):
        held.clear()
        web, made = build(site, lost="close")
        for worker in made.values():
            worker.handler = slow
        client = web.ws()
        its = its_worker(made, client)
        client.ask("slow", id=5)
        its.wait(lambda: held, "the call")
        end(its, way)
        if way == "leaves":
            wait_for(lambda: "goes away" in web.front.text(), "GOAWAY")
            client.ask("worker", id=6)
            refused = client.read_json()
            assert refused["id"] == 6 and refused["error"]["code"] == -32002
            held[0].reply("done")
            assert client.read_json()["result"] == "done"
        else:
            assert client.read_json()["error"]["code"] == -32002
        with pytest.raises(WsClosed) as closed:
            client.read_json()
        assert closed.value.code == 1012
        client.close()


def test_state_without_binding(site):
    """Any worker may get the next call: one that had not the last one is told before it."""
    web, made = build(site, lost=None)
    client = web.ws()
    client.call("keep", ["v0"])
    last, version = None, b"v0"
    for n in range(30):
        its = its_worker(made, client, n + 10)
        if last is not None and its is not last:
            assert its.rebounds[-1].blob == version
            assert its.rebounds[-1].call < its.calls[-1].call
        last = its
    assert len({w.name for w in made.values() if w.calls}) == 3
    before = len(rebounds(made.values()))
    client.call("keep", [""])       # no state is no state
    for n in range(10):
        its_worker(made, client, n + 50)
    assert len(rebounds(made.values())) <= before + 1
    client.close()


def test_the_limit(site):
    web, made = build(site, workers=2, limits={"state": "100"})
    assert made["app-0.sock"].channels[0].front["state"] == 100
    assert "state" in made["app-0.sock"].channels[0].front["features"]
    client = web.ws()
    first = its_worker(made, client)
    client.call("keep", ["a" * 100])
    client.call("keep", ["b" * 101])
    wait_for(lambda: "it is over limits.state" in web.front.text(), "a line in the log")
    end(first, "lost")
    second, = others(made, first)
    second.wait(lambda: second.rebounds, "frontd.rebound")
    assert second.rebounds[0].blob == b"a" * 100
    client.close()


def test_without_state(site):
    web, made = build(site, workers=1, limits={"state": "0"})
    front = made["app-0.sock"].channels[0].front
    assert "state" not in front["features"] and "state" not in front


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_over_a_reload(front, number):
    web, made = build(front, shards=2)
    clients = [web.ws() for _ in range(8)]
    its = [its_worker(made, client) for client in clients]
    for n, client in enumerate(clients):
        client.call("keep", ["state %d" % n])
    web.reload(number)
    assert not rebounds(made.values())
    assert [its_worker(made, client, 2) for client in clients] == its
    gone = its[0]
    end(gone, "lost")
    bound = [n for n, worker in enumerate(its) if worker is gone]
    rest = others(made, gone)
    wait_for(lambda: len(rebounds(rest)) == len(bound), "frontd.rebound")
    assert sorted(event.blob for event in rebounds(rest)) == sorted(b"state %d" % n for n in bound)
    for client in clients:
        client.close()


def test_a_worker_that_is_lost_during_a_reload(front):
    """The new shards find that it is not there."""
    web, made = build(front)
    client = web.ws()
    first = its_worker(made, client)
    client.call("keep", ["here"])
    first.hide()                            # the new shard cannot reach it
    web.reload(gone=False)
    first.die()
    rest = others(made, first)
    wait_for(lambda: rebounds(rest), "frontd.rebound")
    assert [event.blob for event in rebounds(rest)] == [b"here"]
    client.close()


def test_the_method_is_asked_for(site):
    """A worker whose methods have no frontd.rebound is not told, and gets the calls all the same."""
    web, made = build(site, workers=1)
    client = web.ws()
    first = its_worker(made, client)
    second = web.fake("app-9", handler=handler, hello={"pid": 9, "methods": ["worker", "frontd.disconnect"]})
    second.wait_ready(1)
    made["app-9.sock"] = second
    end(first, "lost")
    assert its_worker(made, client, 2) is second
    assert not second.rebounds
    client.close()


def test_the_headers_and_the_route(site):
    web = site(pools={"app": {"balance": "hash", "hash": "conn", "on_worker_lost": "keep"}},
               routes=[rpc_route(), ws_route(headers=["x-user"])])
    made = {}
    for n in range(2):
        worker = web.fake("app-%d" % n, handler=handler, hello={"pid": 1000 + n})
        made[worker.name] = worker
    web.start()
    client = web.ws(headers=[("x-user", "ann")])
    first = its_worker(made, client)
    end(first, "lost")
    second, = others(made, first)
    second.wait(lambda: second.rebounds, "frontd.rebound")
    assert second.rebounds[0].params["headers"] == {"x-user": "ann"} and second.rebounds[0].blob == b""
    client.close()


def test_idle_connections_of_http_are_not_bound(site):
    web, made = build(site)
    with web.client() as client:
        name = client.rpc("worker").json()["result"]
        made[name].die()
        assert client.rpc("worker").json()["result"] != name
    assert not rebounds(made.values())


def test_state_through_another_shard(site):
    """A worker may send it on any channel."""
    web, made = build(site, shards=2, workers=2)
    client = web.ws()
    conn_worker = its_worker(made, client)
    call = conn_worker.calls[-1]
    other = next(c for c in conn_worker.channels if c is not call.channel)
    other.state(call.conn, b"from afar")
    assert other.sync() and call.channel.sync()
    client.call("worker", id=3)
    end(conn_worker, "lost")
    second, = others(made, conn_worker)
    second.wait(lambda: second.rebounds, "frontd.rebound", LIMIT)
    assert second.rebounds[0].blob == b"from afar"
    client.close()


def test_many(site):
    """More than a turn looks at: all are told, each once."""
    web, made = build(site, workers=2)
    clients = [web.ws() for _ in range(1500)]
    its = [its_worker(made, client) for client in clients]
    gone = its[0]
    second, = others(made, gone)
    end(gone, "lost")
    count = its.count(gone)
    second.wait(lambda: len(second.rebounds) >= count, "frontd.rebound")
    assert len({event.conn for event in second.rebounds}) == len(second.rebounds) == count
    assert json.loads(second.rebounds[0].body)["method"] == "frontd.rebound"
    for client in clients:
        client.close()


def test_what_it_holds_is_in_the_metrics(site):
    web, made = build(site, workers=1)
    before = memory_uses(web)
    clients = [web.ws() for _ in range(20)]
    for client in clients:
        client.call("keep", ["x" * 4000])
    wait_for(lambda: memory_uses(web)["states"] - before.get("states", 0) == 20 * (4000 + 16), "the gauge")
    for client in clients:
        client.close()
    wait_for(lambda: memory_uses(web)["states"] == before.get("states", 0), "their end")


def test_the_last_state_is_the_one_that_is_kept(front):
    """Clients whose worker keeps another state with each call, while they move from shard to shard."""
    web, made = build(front, shards=2, workers=2)
    clients = [web.ws() for _ in range(12)]
    its = [its_worker(made, client) for client in clients]
    gone = its[0]
    last = [0] * len(clients)
    done = threading.Event()

    def work(n):
        while not done.is_set():
            last[n] += 1
            assert clients[n].call("keep", ["%d:%d" % (n, last[n])], id=last[n])
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(clients))]
    for thread in threads:
        thread.start()
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
        web.reload(number)
    done.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert min(last) > 3
    assert not rebounds(made.values())
    end(gone, "lost")
    want = sorted(b"%d:%d" % (n, last[n]) for n in range(len(clients)) if its[n] is gone)
    second, = others(made, gone)
    second.wait(lambda: len(second.rebounds) >= len(want), "frontd.rebound")
    assert sorted(event.blob for event in second.rebounds) == want
    for client in clients:
        client.close()
