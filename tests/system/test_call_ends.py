"""How a call ends: deadlines, cancelling, workers that go away, retries."""
import time

import pytest

from fakeworker import hold
from harness import Load, ask, clients, failed, rpc_route, sockets, wait_for
from httpclient import request, rpc_body, rpc_request


def test_cancel_at_the_deadline_and_the_slot_stays(site):
    """504 and CANCEL at the deadline; only the RESPONSE gives the slot back."""
    web = site(routes=[rpc_route("/short", timeout="300ms"), rpc_route("/long")])
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with clients(web, 2) as (one, two):
        start = time.monotonic()
        failed(one.rpc("demo.echo", path="/short"), 504, -32003)
        assert time.monotonic() - start >= 0.25
        first = worker.wait_calls(1)
        worker.wait(lambda: first.cancelled, "CANCEL")
        ask([two], path="/long")
        assert not two.readable(0.2) and len(worker.calls) == 1
        first.error(-32800, "cancelled")
        worker.wait_calls(2).reply("r")
        assert two.read_response().json()["result"] == "r"
        assert one.rpc("demo.echo", path="/rpc").status == 404      # and nothing late came on `one`


@pytest.mark.parametrize("how", ["reset", "half-closed"])
def test_cancel_when_the_client_is_gone(site, how):
    web = site()
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    client = web.client()
    client.send(rpc_request("demo.echo"))
    first = worker.wait_calls(1)
    if how == "reset":
        client.reset()
    else:
        client.sock.shutdown(1)
    worker.wait(lambda: first.cancelled, "CANCEL")
    with web.client() as other:
        other.send(rpc_request("demo.echo", [2], id=2))
        assert not other.readable(0.2) and len(worker.calls) == 1
        first.reply("late")
        worker.wait_calls(2).reply("r")
        assert other.read_response().json() == {"jsonrpc": "2.0", "id": 2, "result": "r"}
    client.close()


def test_a_queued_call_of_a_gone_client_is_not_started(site):
    web = site()
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with clients(web, 2) as (one, other):
        ask([one])
        first = worker.wait_calls(1)
        wait_for(lambda: web.connections() == 2, "both connections")
        before = sockets(web.shard)
        gone = web.client()
        gone.send(rpc_request("demo.gone", id=99))
        its = wait_for(lambda: sockets(web.shard) - before, "the connection")
        gone.reset()
        wait_for(lambda: not its & sockets(web.shard), "the end of the connection, as the shard sees it")
        ask([other], first=5)
        first.reply("r")
        worker.wait_calls(2).reply("r")
        assert other.read_response().json()["id"] == 5
        assert [c.method for c in worker.calls] == ["demo.echo"] * 2


def test_the_deadline_includes_the_queue(site):
    web = site(routes=[rpc_route("/short", timeout="400ms"), rpc_route("/long", timeout="20s")])
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with clients(web, 2) as (one, two):
        ask([one], path="/long")
        first = worker.wait_calls(1)
        start = time.monotonic()
        failed(two.rpc("demo.queued", path="/short"), 504, -32003)
        assert time.monotonic() - start >= 0.35
        first.reply("r")
        assert one.read_response().status == 200
        ask([one], path="/long")
        assert worker.wait_calls(2).method == "demo.echo"       # the expired one was never sent


def test_deadline_in_meta_is_what_is_left(site):
    web = site(routes=[rpc_route(timeout="20s", meta=["deadline"])])
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.client() as client:
        # In one request, so that the second call does not come later than the first.
        client.send(request("POST", "/rpc", b"[" + rpc_body("m", id=1) + b"," + rpc_body("m", id=2) + b"]"))
        first = worker.wait_calls(1)
        time.sleep(0.5)
        first.reply("r")
        second = worker.wait_calls(2)
        assert 10000 < first.meta["deadline_ms"] <= 20000
        assert second.meta["deadline_ms"] <= first.meta["deadline_ms"] - 400


def test_goaway_gives_back_what_was_not_started(site):
    """Calls above last_call go to another worker, those below stay, and no new ones come."""
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    old = web.fake("app-old", hold)
    web.start()
    with clients(web, 6) as made:
        ask(made[:4])
        old.wait_calls(4)
        new = web.fake("app-new", hold)
        new.wait_ready()
        old.hide()      # else it is dialled again, being there
        old.channels[0].goaway_now(sorted(c.call for c in old.calls)[1])
        new.wait_calls(2)
        ask(made[4:], first=4)
        new.wait_calls(4)
        assert len(old.calls) == 4
        kept = sorted(old.calls, key=lambda c: c.call)[:2]
        moved = sorted(old.calls, key=lambda c: c.call)[2:]
        assert {c.id for c in new.calls} == {c.id for c in moved} | {b"4", b"5"}
        for call in kept + new.calls:
            call.reply(call.channel.worker.name)
        got = {str(n).encode(): c.read_response().json()["result"] for n, c in enumerate(made)}
        assert all(got[c.id] == "app-old.sock" for c in kept)
        assert all(got[c.id] == "app-new.sock" for c in new.calls)


def test_goaway_of_the_only_worker_and_its_return(site):
    """Given-back calls wait in the queue for the worker's successor."""
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    old = web.fake(handler=hold)
    web.start()
    with clients(web, 2) as made:
        ask(made)
        old.wait_calls(2)
        old.hide()      # else it is dialled again before it has gone
        old.channels[0].goaway_now(0)
        old.close()
        web.workers.remove(old)
        web.fake()
        assert [c.read_response().json()["result"] for c in made] == [[0], [1]]


def test_real_worker_goes_away_without_a_lost_call(site):
    """SIGTERM to one workerd of two, under load: not one call fails."""
    web = site(shards=2)
    first, second = web.workerd("app-1", 8), web.workerd("app-2", 8)
    web.start()
    load = Load(web, 8, "demo.sleep", {"ms": 2})
    load.wait(100)
    first.signal(15)
    assert first.wait() == 0
    load.wait(200)
    assert set(load.stop()) == {200}
    assert second.running()


@pytest.mark.parametrize("method, retried", [("get_x", True), ("set_x", False)])
def test_retry_of_idempotent_methods_only(site, method, retried):
    web = site(pools={"app": {"idempotent": ["get_*"], "wait_for_worker": "30s"}})
    bad = web.fake("app-bad", hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request(method, ["p"], id="r"))
        first = bad.wait_calls(1)
        assert not first.flags & 8
        good = web.fake("app-good")
        good.wait_ready()
        bad.die()
        r = client.read_response()
        if retried:
            assert r.json() == {"jsonrpc": "2.0", "id": "r", "result": ["p"]}
            assert good.calls[0].flags & 8 and good.calls[0].body == first.body
        else:
            failed(r, 502, -32002)
            assert r.json()["id"] == "r"
            assert not good.calls
        assert client.rpc("demo.echo", [1]).status == 200


def test_a_lost_notification_is_not_run_again(site):
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    bad = web.fake("app-bad", hold)
    web.start()
    with web.client() as client:
        assert client.rpc("set_x", id=None).status == 204
        bad.wait_calls(1)
        good = web.fake("app-good")
        good.wait_ready()
        bad.die()
        assert client.rpc("demo.echo", [1]).status == 200
        assert [c.method for c in good.calls] == ["demo.echo"]
