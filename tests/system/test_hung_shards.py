"""Shards that hang: one that is stopped serves nobody, is noticed and replaced; others serve on all the time."""
import contextlib
import os
import re
import signal
import time

import pytest

from harness import LIMIT, Load, rpc_route, stat, wait_for, ws_route
from reloads import HUP, SLOW, USR2, Paused, call
from wsclient import Closed, WsClosed

TIMEOUT = 2.0
HUNG = re.compile(r"shard (\d+)/(\d+) \(pid (\d+)\) has hung: no sign of life for (\d+) ms, killing it")
BOUND = 6 * LIMIT * SLOW        # generous: what is tested is that it comes at all


def build(front, shards=3, **keys):
    keys.setdefault("shard_timeout", "2s")
    site = front(shards=shards, routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, **keys)
    worker = site.fake()
    worker.keep_frames = False
    site.start()
    return site, worker


def stop_process(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: (stat(pid) or "X")[0] in "TXZ", "it to stop")


def gone(pid):
    return lambda: (stat(pid) or "X")[0] in "ZX"


def clients_of(site, kind="ws", each=1):
    """{pid of each shard: clients that it has}."""
    found = {pid: [] for pid in site.shards()}
    for _ in range(200):
        client = site.stays(kind) if kind != "http" else site.client()
        call(client)
        pid = site.shard_of(client)
        if len(found[pid]) < each:
            found[pid].append(client)
        else:
            client.close()
        if all(len(clients) == each for clients in found.values()):
            return found
    raise AssertionError("200 connections, and none on some shard")


def wait_all_serve(site):
    """Until each shard has answered a call: one that is stopped before is no shard that hangs, but one not ready."""
    seen = set()

    def asked():
        with contextlib.closing(site.client()) as client:
            call(client)
            seen.add(site.shard_of(client))
        return len(site.shards()) == 2 and seen >= set(site.shards())

    wait_for(asked, "an answer of each shard")


@pytest.mark.parametrize("kind", ["http", "ws", "frame", "line"])
def test_a_stopped_shard_is_replaced(front, kind):
    site, worker = build(front)
    held = clients_of(site, kind)
    victim = site.shards()[1]
    others = [pid for pid in site.shards() if pid != victim]
    stop_process(victim)
    start = time.monotonic()
    rounds = 0
    while not gone(victim)():               # the others serve all the time
        for pid in others:
            call(held[pid][0], rounds)
        rounds += 1
        assert time.monotonic() - start < BOUND, "it is still there"
    assert rounds > 10
    found = HUNG.findall(site.log_text())
    assert [int(f[2]) for f in found] == [victim], found
    assert int(found[0][3]) >= 2000
    wait_for(lambda: len(site.shards()) == 3, "the successor")
    assert set(others) < set(site.shards())
    with pytest.raises((Closed, WsClosed, ConnectionError)):
        call(held[victim][0])               # as in a crash
    for pid in others:
        call(held[pid][0])
    worker.wait_ready(3)
    for clients in clients_of(site, kind).values():
        for client in clients:
            client.close()
    assert site.count("has hung") == 1


def test_a_shard_that_hangs_again_and_again(front):
    """Each process counts anew."""
    site, _ = build(front, shards=2)
    for n in range(3):
        wait_all_serve(site)
        victim = site.shards()[-1]
        stop_process(victim)
        wait_for(gone(victim), "its end", BOUND)
        site.wait_log("has hung", n + 1)
    wait_for(lambda: len(site.shards()) == 2, "both shards")
    time.sleep(2 * TIMEOUT)                 # nothing happens to those that live
    assert site.count("has hung") == 3
    assert site.rpc("demo.echo", [1]).status == 200


@pytest.mark.parametrize("order", ["supervisor first", "shards first"])
def test_a_front_that_is_stopped_as_a_whole_kills_nobody(front, order):
    site, _ = build(front)
    before = site.shards()
    pids = [site.front.pid] + before
    for n in range(2):
        for pid in pids:
            stop_process(pid)
        time.sleep(2 * TIMEOUT)
        for pid in pids if order == "supervisor first" else pids[::-1]:
            os.kill(pid, signal.SIGCONT)
        site.rpc("demo.echo", [n])
    time.sleep(TIMEOUT)                     # whoever would be killed is by then
    assert site.shards() == before and "has hung" not in site.log_text()


def test_a_supervisor_that_was_stopped_kills_nobody(front):
    site, _ = build(front)
    before = site.shards()
    with Paused(site.front.pid):
        time.sleep(2 * TIMEOUT)
    time.sleep(TIMEOUT)
    assert site.shards() == before and "has hung" not in site.log_text()


def test_a_shard_that_was_stopped_for_less_is_left_alone(front):
    site, _ = build(front, shard_timeout="1m")
    before = site.shards()
    with Paused(before[0]):
        time.sleep(2 * TIMEOUT)
    wait_for(lambda: site.rpc("demo.echo", [1]).status == 200)
    assert site.shards() == before and "has hung" not in site.log_text()


@pytest.mark.parametrize("number", [HUP, USR2])
def test_a_shard_of_the_old_generation_hangs(front, number):
    """It is killed in the middle of the reload, which then comes to its end."""
    site, worker = build(front, drain="60s")
    held = clients_of(site)
    victim = site.shards()[0]
    stop_process(victim)
    site.say(number)
    site.wait_log(" serves: ", 1, BOUND)
    site.wait_log("the old shards are gone", 1, BOUND)
    assert [int(f[2]) for f in HUNG.findall(site.log_text())] == [victim]
    for pid, clients in held.items():
        if pid != victim:
            call(clients[0])
    assert len(site.shards()) == 3


@pytest.mark.parametrize("number", [HUP, USR2])
def test_a_shard_of_the_new_generation_hangs(front, number):
    """As soon as it serves: connections that were about to go there go elsewhere."""
    site, worker = build(front, drain="60s")
    held = clients_of(site)
    old = site.shards()
    with site.paused(old):                  # so that the new one is stopped before anything goes there
        site.say(number)
        site.wait_log(" serves: ", 1, BOUND)
        victim = [pid for pid in site.shards() if pid not in old][0]
        stop_process(victim)
    site.wait_log("the old shards are gone", 1, BOUND)
    site.wait_log("has hung", 1, BOUND)
    wait_for(gone(victim), "its end")
    wait_for(lambda: len(site.shards()) == 3, "three shards", BOUND)
    assert [int(f[2]) for f in HUNG.findall(site.log_text())] == [victim]
    for clients in held.values():
        call(clients[0])


def test_a_shard_hangs_under_load(front):
    site, worker = build(front)
    worker.wait_ready(3)
    load = Load(site, 12)
    load.wait(100)
    victim = site.shards()[2]
    stop_process(victim)
    wait_for(gone(victim), "its end", BOUND)
    wait_for(lambda: len(site.shards()) == 3, "the successor")
    load.wait(100)
    results = load.stop()
    # Who was connected to it has lost the connection, and waits for it for as long as it hung.
    lost = [r for r in results if r != 200]
    assert len(lost) <= 12 and all(isinstance(r, str) for r in lost), lost
    assert site.count("has hung") == 1
