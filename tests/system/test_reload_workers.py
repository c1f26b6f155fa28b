"""Workers that push and publish all the time while the front is reloaded: each message arrives once, and in
order, whether the C library sends it or the Python one, its loop's thread or another."""
import contextlib
import json
import os
import signal
import sys
import time

import pytest

from harness import BUILD, LIMIT, ROOT, WORKERD, Program, rpc_route, wait_for, ws_route
from reloads import SLOW, Front
from duplex import runs_of
from wsclient import Reader

FLOOD = os.path.join(BUILD, "tests", "modules", "flood.so")
RELOADS = 5
SCRIPT = '''
import asyncio, sys, threading, time
sys.path.insert(0, sys.argv.pop(1))
from frontd_worker import Worker, run

worker = Worker(concurrency=64)
on = threading.Event()
sent = {"publish": 0, "push": 0, "error": 0}

def send(what, function, *arguments):
    try:
        function(*arguments, "%s %d" % (what, sent[what] + 1))
        sent[what] += 1
    except BufferError:
        pass
    except Exception as error:
        sent["error"] = sent["error"] or repr(error)

def send_some(conn):
    for _ in range(5):
        send("publish", worker.publish, "flood")
        send("push", conn.push)

def in_thread(conn):
    while on.is_set():
        send_some(conn)
        time.sleep(0.002)

async def in_loop(conn):
    while on.is_set():
        send_some(conn)
        await asyncio.sleep(0.002)

@worker.method("flood.join")
async def join(ctx):
    ctx.conn.subscribe("flood")
    return True

@worker.method("flood.start")
async def start(ctx, thread):
    global work
    on.set()
    work = asyncio.get_running_loop().create_task(
        asyncio.to_thread(in_thread, ctx.conn) if thread else in_loop(ctx.conn))
    return True

@worker.method("flood.stop")
async def stop():
    on.clear()
    await work
    worker.publish("flood", "end")
    return sent

run(worker, "unix:/nowhere")
'''


@pytest.fixture
def front():
    """Makes a front that ends with the test, its workers too."""
    with contextlib.ExitStack() as stack:
        def make(**keys):
            site = Front(**keys)
            stack.callback(site.end)
            return site
        yield make


def start(web, kind):
    address = "unix:" + web.path("app-1.sock")
    if kind == "workerd":
        argv = [WORKERD, "--listen", address, "--concurrency", "64", "--module", FLOOD]
    else:
        with open(web.path("flood.py"), "w") as f:
            f.write(SCRIPT)
        argv = [sys.executable, web.path("flood.py"), os.path.join(ROOT, "proto", "python"),
                "--listen", address]
    web.workers.append(Program(argv, web.path("worker.log")))
    wait_for(lambda: os.path.exists(web.path("app-1.sock")), "the worker")
    web.write()
    web.launch()


@contextlib.contextmanager
def flooded(web, thread=False):
    """Six clients that get what the worker publishes, the first one what it pushes too: a function that waits for
    more of it, and one that ends it and returns what was sent and, for each client, what came."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.ws()) for _ in range(6)]
        for client in clients:
            assert client.call("flood.join") is True
        clients[0].ask("flood.start", {"thread": thread}, id="start")
        readers = [Reader(client, lambda messages: messages and messages[-1] == b"end") for client in clients]

        def more():
            seen = [len(reader.messages) for reader in readers]
            wait_for(lambda: all(len(r.messages) > n for r, n in zip(readers, seen)), "messages", LIMIT * SLOW)

        def end():
            sent = web.rpc("flood.stop").json()["result"]
            assert sent["error"] == 0 and sent["publish"] >= 20 and sent["push"] >= 20
            assert "lost" not in web.workers[0].text()
            got = []
            for reader in readers:
                messages = reader.finish()
                answers = [json.loads(m) for m in messages if m.startswith(b"{")]
                assert [a["id"] for a in answers] == (["start"] if reader is readers[0] else [])
                got.append(runs_of(m for m in messages if not m.startswith(b"{") and m != b"end"))
            return sent, got

        yield more, end


@pytest.mark.parametrize("thread", [False, True], ids=["loop", "thread"])
@pytest.mark.parametrize("kind", ["workerd", "python"])
def test_each_message_arrives_once_and_in_order(front, kind, thread):
    web = front(shards=2, routes=[rpc_route(), ws_route()], drain="20s")
    start(web, kind)
    with flooded(web, thread) as (more, end):
        for _ in range(RELOADS):
            web.reload()
            more()
        sent, got = end()
    for i, one in enumerate(got):
        assert one.pop("publish") == list(range(1, sent["publish"] + 1))
        assert one == ({"push": list(range(1, sent["push"] + 1))} if i == 0 else {})


@pytest.mark.parametrize("kind", ["workerd", "python"])
def test_each_message_of_a_worker_that_is_held_up_arrives_once(front, kind):
    """For longer than new shards wait for it before they serve, and old ones for its end: when it goes on,
    it has not heard of the new ones yet. Then the order may suffer."""
    web = front(shards=2, routes=[rpc_route(), ws_route()], drain="20s")
    start(web, kind)
    with flooded(web) as (more, end):
        for _ in range(2):
            more()
            text = web.front.text()
            os.kill(web.workers[0].pid, signal.SIGSTOP)
            web.front.signal(signal.SIGHUP)
            wait_for(lambda: web.front.text().count(" serves: ") > text.count(" serves: "), "new shards", LIMIT * SLOW)
            time.sleep(1.3)
            os.kill(web.workers[0].pid, signal.SIGCONT)
            gone = "the old shards are gone"
            wait_for(lambda: web.front.text().count(gone) > text.count(gone), "the reload", LIMIT * SLOW)
        more()
        sent, got = end()
    for i, one in enumerate(got):
        assert sorted(one.pop("publish")) == list(range(1, sent["publish"] + 1))
        assert sorted(one.pop("push", [])) == (list(range(1, sent["push"] + 1)) if i == 0 else [])
        assert not one
