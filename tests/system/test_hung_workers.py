"""Workers that hang are taken out in the configured time, and used again when they go on (`worker_timeout`,
`kill_after`). Those that are slow and say that they live are left alone."""
import contextlib
import json
import os
import re
import signal
import time

import pytest

from fakeworker import PING, PONG, hold
from harness import LIMIT, clients, failed, rpc_route, wait_for
from httpclient import rpc_body, rpc_request
from patience import HeldUp, patient
from reloads import Paused
from test_managed_workers import managed, serving, start, workers

TIMEOUT = 1.0           # s, what the front has for `worker_timeout`
EARLY = 0.05            # its clock counts from the turn of its loop
LATE = 10.0             # what a busy machine may add


def pool(**keys):
    return {"app": {"worker_timeout": "%dms" % (TIMEOUT * 1000), "idempotent": ["demo.echo"], **keys}}


def taken_out(web):
    return re.findall(r"worker (\S+) has not answered `(\S+)` for ([\d.]+) s: taken out, (\d+) calls fail, "
                      r"(\d+) go elsewhere", web.front.text())


def there(web, name="app-1"):
    return len(re.findall(r"/%s.sock \(.*is there" % name, web.front.text()))


def mute(channel):
    """Leaves the front's PINGs unanswered."""
    real = channel.send
    channel.send = lambda data: None if data[4] == PONG else real(data)


def work(site, kind, concurrency):
    web = site(shards=site.shards, pools=pool(**site.keys), routes=[rpc_route(timeout="60s")])
    made = getattr(web, kind)
    stopped, other = made("app-1", concurrency), made("app-2", concurrency)
    web.start()
    wait_for(lambda: there(web) == there(web, "app-2") == web.config["shards"], "the workers")
    return web, stopped, other


@pytest.fixture(params=["least", "hash", "two shards"])
def ways(request, site):
    site.keys = {"balance": "hash", "hash": "param:key"} if request.param == "hash" else {}
    site.shards = 2 if request.param == "two shards" else 1
    return site


@pytest.mark.parametrize("concurrency", [0, 64])
@pytest.mark.parametrize("kind", ["workerd", "python_worker"])
@patient()
def test_a_stopped_worker_is_taken_out_and_used_again(ways, kind, concurrency):
    """Its idempotent calls go to another worker, the others fail; nothing goes to it until it goes on."""
    web, stopped, _ = work(ways, kind, concurrency)
    # Where the other worker is quick one call is all that goes to this one, so those that fail come first.
    echoes = [n >= 6 and n % 2 == 1 for n in range(20)]
    with clients(web, 20) as made, Paused(stopped.pid):
        start = time.monotonic()
        for n, client in enumerate(made):
            client.send(rpc_request("demo.echo", {"key": n}, id=n) if echoes[n] else rpc_request("demo.add", {"a": n}, id=n))
        answers = [client.read_response() for client in made]
        took = time.monotonic() - start
        assert all(r.status == 200 for n, r in enumerate(answers) if echoes[n])
        assert {r.status for r in answers} <= {200, 502}
        assert TIMEOUT - EARLY <= took <= TIMEOUT + LATE
        out = taken_out(web)
        assert 1 <= len(out) <= ways.shards and out[0][0].endswith("app-1.sock")
        failed_there = sum(int(o[3]) for o in out)
        assert failed_there == sum(r.status == 502 for r in answers)
        if not failed_there:
            raise HeldUp("no call that may not go elsewhere was there")
        assert all(TIMEOUT - EARLY <= float(o[2]) for o in out)
        for n in range(40):
            assert made[n % 20].rpc("demo.echo", {"key": n}, id=n).status == 200
        assert len(taken_out(web)) <= ways.shards
    wait_for(lambda: there(web) > ways.shards, "the worker to be used again", 3 * LIMIT)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind", ["workerd", "python_worker"])
def test_a_stopped_worker_that_handles_one_call_at_a_time(site, kind, shards):
    """It may be silent while it works: it is taken out `kill_after` past the deadline of its call. Shards that have
    not called it know by then."""
    web = site(shards=shards, pools=pool(kill_after="1200ms"), routes=[rpc_route(timeout="700ms")])
    stopped = getattr(web, kind)("app-1", 1)
    other = getattr(web, kind)("app-2", 1)
    web.start()
    wait_for(lambda: there(web) == there(web, "app-2") == shards, "the workers")
    with clients(web, 6) as made, Paused(stopped.pid):
        start = time.monotonic()
        late = 0
        while not late:
            late = sum(client.rpc("demo.echo", {"n": 1}).status == 504 for client in made[:2])
        wait_for(lambda: taken_out(web), "the end of it", 3 * LIMIT)
        assert time.monotonic() - start >= 1.9 - EARLY
        (_, method, seconds, fail, elsewhere), = taken_out(web)
        assert (method, fail, elsewhere) == ("demo.echo", "0", "0") and float(seconds) >= 1.9 - EARLY
        assert [client.rpc("demo.echo", {"n": 1}).status for client in made * 4] == [200] * 24
    wait_for(lambda: there(web) > shards, "the worker to be used again", 3 * LIMIT)
    assert other.running()


@patient()
def test_who_answers_pings_may_take_long(site):
    """A call in progress for many times `worker_timeout`."""
    web = site(pools=pool(worker_timeout="300ms"), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=hold, concurrency=8)
    web.start()
    with web.client() as client:
        client.send(rpc_request("slow"))
        call = worker.wait_calls(1)
        time.sleep(2)
        assert not worker.channels[0].closed and len(worker.channels) == 1
        assert sum(f[0] == PING for f in worker.frames) >= 4, "PINGs, each after a quarter of the time"
        call.reply("r")
        assert client.read_response().status == 200


def test_a_blocking_worker_may_be_silent_within_the_deadline(site):
    web = site(shards=2, pools=pool(worker_timeout="300ms", kill_after="300ms"), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    for channel in worker.live():
        mute(channel)
    with web.client() as client, clients(web, 6) as waiting:
        client.send(rpc_request("slow"))
        call = worker.wait_calls(1)
        for other in waiting:               # which is no reason either
            other.send(rpc_request("next"))
        time.sleep(2)
        assert len(worker.channels) == 2 and len(worker.live()) == 2
        call.reply("r")
        assert client.read_response().status == 200
        for n in range(6):
            worker.wait_calls(n + 2).reply("r")
        assert {other.read_response().status for other in waiting} == {200}


def test_idle_silence_is_judged_once_calls_come(site):
    """The time counts from the first call, not from when it was heard last."""
    web = site(pools=pool(), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=hold, concurrency=0)
    web.start()
    channel = worker.channels[0]
    mute(channel)
    time.sleep(2 * TIMEOUT)
    assert not channel.closed
    with web.client() as client:
        start = time.monotonic()
        client.send(rpc_request("held"))
        failed(client.read_response(), 502, -32002)
        assert TIMEOUT - EARLY <= time.monotonic() - start <= TIMEOUT + LATE


def test_a_worker_that_reads_slowly_is_not_hung(site):
    """PING waits behind what it is reading, of which it takes some all the time."""
    def slow(call):
        time.sleep(0.02)

    web = site(pools=pool(worker_timeout="500ms"), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=slow, concurrency=0)
    web.start()
    with clients(web, 100) as made:
        for client in made:
            client.send(rpc_request("big", ["x" * 60000]))
        worker.wait_calls(100, 30)
        assert len(worker.channels) == 1 and not worker.channels[0].closed
        for call in worker.calls:
            call.reply("r")
        assert {client.read_response().status for client in made} == {200}


@patient()
def test_a_front_that_was_held_up_asks_again(site):
    web = site(pools=pool(worker_timeout="400ms"), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=hold, concurrency=0)
    web.start()
    with web.client() as client:
        client.send(rpc_request("held"))
        call = worker.wait_calls(1)
        for _ in range(3):
            with Paused(web.shard):
                time.sleep(1.5)
        call.reply("r")
        assert client.read_response().status == 200
        assert len(worker.channels) == 1


def cancelled(worker, count):
    worker.wait(lambda: sum(call.cancelled for call in worker.calls) >= count, "CANCEL")


@pytest.mark.parametrize("how", ["least", "hash"])
@pytest.mark.parametrize("end", ["client", "deadline"])
def test_a_slot_of_a_call_that_is_never_answered_comes_back(site, how, end):
    """After `kill_after`, not before. The worker says that it lives, and is left alone; its late answer is dropped."""
    keys = {"balance": "hash", "hash": "peer"} if how == "hash" else {}
    web = site(pools=pool(kill_after="1s", **keys),
               routes=[rpc_route(timeout="60s"), rpc_route("/short", timeout="300ms")])
    worker = web.fake(handler=hold, concurrency=2)
    web.start()
    with web.client() as client:
        with clients(web, 2) as made:
            for n, other in enumerate(made):
                other.send(rpc_request("lost", [n], path="/short" if end == "deadline" else "/rpc"))
            worker.wait_calls(2)
            if end == "deadline":
                for other in made:
                    failed(other.read_response(), 504, -32003)
            start = time.monotonic()
        cancelled(worker, 2)
        client.send(rpc_request("next"))
        worker.wait_calls(3)
        assert time.monotonic() - start >= 1 - 2 * EARLY
        assert "has not answered `lost` for" in web.front.text()
        worker.calls[0].reply("late")
        worker.calls[2].reply("r")
        assert client.read_response().json()["result"] == "r"
        worker.calls[1].reply("late")
        assert worker.channels[0].sync() and len(worker.channels) == 1


def test_too_many_calls_that_are_never_answered(site):
    """A thousand on one channel are borne, one more is not."""
    web = site(pools=pool(kill_after="300ms", worker_timeout="30s"), routes=[rpc_route(timeout="2s")],
               limits={"calls_per_connection": 2000})
    worker = web.fake(handler=hold, concurrency=0)
    web.start()
    body = json.dumps([json.loads(rpc_body("lost", [n], n)) for n in range(1000)]).encode()
    with web.client() as client:
        assert client.post(body).status == 200
        cancelled(worker, 1000)
        time.sleep(1)                   # all have been given up
        assert worker.channels[0].sync()
        failed(client.rpc("lost"), 504, -32003)
        worker.wait(lambda: worker.channels[0].closed, "the end of the channel")
        worker.wait(lambda: len(worker.channels) == 2, "a new one")


def test_a_worker_that_does_not_say_hello_gets_no_calls(site):
    """A stopped process accepts connections all the same: its kernel does."""
    web = site(pools=pool(wait_for_worker="500ms"))
    stopped = web.python_worker("app-1")
    with Paused(stopped.pid):
        web.start(ready=False)
        web.wait_served()
        failed(web.rpc("demo.echo"), 503, -32004)
    wait_for(lambda: web.rpc("demo.echo", {"a": 1}).status == 200, "the worker", 3 * LIMIT)


def test_what_is_lost_is_said_once(site):
    """One line names pool, worker, the oldest call's method, how long, and what becomes of the calls."""
    web = site(pools=pool(), routes=[rpc_route(timeout="60s")])
    worker = web.fake(handler=hold, concurrency=0)
    web.start()
    mute(worker.channels[0])
    with clients(web, 5) as made:
        for n, client in enumerate(made):
            client.send(rpc_request("demo.echo" if n < 2 else "report.build\\u0001", {"n": n}))
            worker.wait_calls(n + 1)
        for client in made[2:]:
            failed(client.read_response(), 502, -32002)
        (name, method, _, fail, elsewhere), = taken_out(web)
        assert (name, method, fail, elsewhere) == ("unix:" + web.path("app-1.sock"), "demo.echo", "3", "2")
        assert "pool app: worker unix:" in web.front.text()
        worker.wait_calls(7)
        for call in worker.calls[5:]:
            call.reply("r")
        assert {client.read_response().status for client in made[:2]} == {200}


# Workers that frontd runs.

def test_a_managed_worker_that_hangs_is_killed_and_started_again(site):
    web = managed(site, instances=2, worker_timeout="700ms", idempotent=["demo.echo", "version"])
    start(web)
    hung = workers(web)[0]
    os.kill(hung, signal.SIGSTOP)
    try:
        with clients(web, 8) as made:
            for n, client in enumerate(made):
                client.send(rpc_request("demo.echo", {"n": n}))
            assert {client.read_response().status for client in made} == {200}
        wait_for(lambda: re.search(r"pid %d\) was ended by signal 9" % hung, web.front.text()), "its end", 3 * LIMIT)
        assert re.search(r"\(pid %d\) hangs: it does not answer a HELLO; killing it" % hung, web.front.text())
        alive = wait_for(lambda: serving(web, 2), "another one", 3 * LIMIT)
        assert hung not in alive
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung, signal.SIGCONT)


def test_a_managed_worker_that_goes_on_in_time_is_left_alone(site):
    web = managed(site, instances=1, worker_timeout="2s", wait_for_worker="30s")
    start(web, 1)
    hung, = workers(web)
    with web.client(timeout=30) as client, Paused(hung):
        client.send(rpc_request("demo.echo", {"n": 1}))
        wait_for(lambda: "seems to hang, asking it" in web.front.text(), "the suspicion", 3 * LIMIT)
    wait_for(lambda: "answers a HELLO, it is left alone" in web.front.text(), "the end of it")
    assert workers(web) == [hung]
    wait_for(lambda: web.rpc("version").status == 200, "the worker", 3 * LIMIT)


def test_a_managed_worker_that_hangs_in_a_call_is_killed(site):
    """One call at a time: it answers PING and HELLO, but not its call."""
    web = managed(site, "blocking", instances=1, kill_after="1s", worker_timeout="300ms")
    web.config["listeners"][0]["routes"] = [rpc_route(timeout="400ms")]
    start(web, 1)
    hung, = workers(web)
    served = time.monotonic()
    wait_for(lambda: time.monotonic() - served > 1, "it to have served for `kill_after`")
    failed(web.rpc("stuck"), 504, -32003)
    wait_for(lambda: re.search(r"pid %d\) was ended by signal 9" % hung, web.front.text()), "its end", 3 * LIMIT)
    assert re.search(r"\(pid %d\) hangs: it has not answered a call; killing it" % hung, web.front.text())
    wait_for(lambda: workers(web) and workers(web) != [hung] and web.rpc("version").status == 200, "another one",
             3 * LIMIT)
