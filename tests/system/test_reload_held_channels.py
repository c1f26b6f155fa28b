"""Workers that do not close their channels to old shards: these wait for seconds once their connections are elsewhere,
and not for as long as `drain`."""
import contextlib
import os
import re
import signal
import threading
import time

import pytest

from fakeworker import echo, hold
from harness import LIMIT, rpc_route, wait_for, ws_route
from httpclient import rpc_request
from reloads import HUP, SLOW, Front

SILENT, LATEST = 5, 10          # seconds for a worker that is silent, and for any
DRAIN = 120
OVERDUE = re.compile(r"pool app: worker (\S+) has not closed its channel for ([0-9.]+) s")


@pytest.fixture
def front():
    with contextlib.ExitStack() as stack:
        def make(**keys):
            keys.setdefault("routes", [rpc_route(), ws_route(events=True)])
            web = Front(drain="%ds" % DRAIN, **keys)
            stack.callback(web.end)
            return web
        yield make


def reload(web, number=HUP, least=SILENT):
    """A reload whose old shards are gone long before `drain`; how long the log says that workers were waited for."""
    before, began = len(OVERDUE.findall(web.log_text())), time.monotonic()
    web.reload(number, timeout=DRAIN / 2)
    assert time.monotonic() - began < DRAIN / 3
    found = OVERDUE.findall(web.log_text())[before:]
    assert all(name == "unix:" + web.path("app-1.sock") for name, _ in found), found
    assert all(least <= float(seconds) < DRAIN / 4 for _, seconds in found)
    return len(found)


@pytest.mark.parametrize("features", [[], ["push"]], ids=["plain", "push"])
def test_a_child_that_has_a_copy(front, features):
    """The worker closes its end, but not the last one of it."""
    web = front(shards=2)
    worker = web.fake(hello={"features": features})
    web.start()
    with web.ws() as client:
        assert client.call("demo.echo", [1]) == [1]
        copies = []
        for channel in worker.live():
            copies.append(channel.sock.dup())
            channel.close = channel.sock.close
        try:
            assert reload(web) == 2
        finally:
            for copy in copies:
                copy.close()
        assert client.call("demo.echo", [2]) == [2]
        assert web.rpc("demo.echo", [3]).json()["result"] == [3]
        assert reload(web) == 0, "the next ones close theirs"


def test_a_worker_that_is_stopped(front):
    web = front()
    web.write()
    web.launch()
    worker = web.python_worker()
    wait_for(lambda: "result" in web.rpc("demo.echo", [1]).json(), "the worker")
    with web.ws() as client:
        assert client.call("demo.echo", [1]) == [1]
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            assert reload(web) == 1
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        assert client.call("demo.echo", [2]) == [2]


def test_a_worker_that_does_not_stop_talking(front):
    """It is never silent, and stays on the old channel."""
    web = front()
    worker = web.fake(hello={"features": ["push"]})
    web.start()
    old = worker.channel()
    end = threading.Event()

    def talk():
        while not end.is_set():
            old.publish("t", b"still here")
            end.wait(0.1)
    thread = threading.Thread(target=talk)
    copy = old.sock.dup()
    old.close = lambda: None
    thread.start()
    try:
        assert reload(web, least=LATEST) == 1
    finally:
        end.set()
        thread.join()
        copy.close()
        old.sock.close()


def test_a_worker_that_is_stuck_in_a_call(front):
    """Its client has gone, so nobody waits for the answer; and what the worker is to be told of that waits, too."""
    web = front(pools={"app": {"kill_after": "10m", "worker_timeout": "10m"}})
    worker = web.fake(handler=hold, concurrency=1, hello={"features": ["push"]})
    web.start()
    with web.ws() as client:
        client.ask("m")
        call = worker.wait_calls(1)
        client.close()
        worker.wait(lambda: call.cancelled, "CANCEL")
    worker.handler = echo
    assert reload(web) == 1
    assert "no worker takes 1 calls that nobody waits for any more" in web.log_text()


def test_a_call_that_is_waited_for(front):
    """The wait begins when its connection is elsewhere: a call may take longer than workers are waited for."""
    web = front()
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request("m", [1], id=1))
        call = worker.wait_calls(1)
        web.reload(gone=False)
        time.sleep(LATEST + 2)
        call.reply("late")
        assert client.read_response().json()["result"] == "late"
        web.wait_log("the old shards are gone", timeout=LIMIT * SLOW)
        assert not OVERDUE.findall(web.log_text())
