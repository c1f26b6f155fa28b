"""The supervisor is killed at each step of a reload, and started again; shards are killed beside it. Live
connections of processes that were not killed go on, and afterwards one complete generation serves."""
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from fakeworker import echo, hold
from harness import FRONTD, LIMIT, born, rpc_request, rpc_route, wait_for, ws_route
from patience import patient
from reloads import HUP, SLOW, USR2, Paused, call, check_in_time

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


@pytest.fixture
def killable(front):
    """Starts a front whose starts can be made slow."""
    def make(**keys):
        keys.setdefault("drain", "3s")
        site = front(pools={"app": {}, "mute": {}}, routes=[rpc_route(), ws_route()], **keys)
        site.fake()
        site.fake("mute-1")
        return site.start()
    return make


def kill_supervisor(site):
    site.front.signal(signal.SIGKILL)
    site.front.wait()


def comes_back(site, stays, shards=None):
    """A supervisor that is started again ends up with one complete generation, and nobody else is left."""
    site.launch(ready=False)
    wait_for(lambda: sorted(site.family()) == sorted(site.shards() + [site.front.pid]) and
             len(site.shards()) == (shards or site.config["shards"]) and site.count("are gone") > 0
             or not site.front.running(), "one generation", 3 * LIMIT * SLOW)
    assert site.front.running()
    for client in stays:
        call(client)
    with site.client() as new:
        call(new)
    site.reload()
    for client in stays:
        call(client)
        client.close()


def some(site, count=6):
    clients = [site.client() for _ in range(count)] + [site.ws() for _ in range(count)]
    for client in clients:
        call(client)
    return clients


def test_supervisor_killed_when_steady(killable):
    site = killable(shards=2)
    stays = some(site)
    kill_supervisor(site)
    for client in stays:
        call(client)
    comes_back(site, stays)


def test_supervisor_killed_whose_config_is_not_utf_8(front):
    """YAML may be UTF-16, which JSON has no way to say: the record has it nevertheless, to the byte."""
    site = front(pools={"app": {}}, routes=[rpc_route(), ws_route()], shards=2, drain="3s")
    worker = site.fake()
    path = site.write()
    with open(path) as f:
        text = f.read().encode("utf-16")
    with open(path, "wb") as f:
        f.write(text)
    site.launch()
    worker.wait_ready(2)
    stays = some(site)
    with open(site.path("run/supervisor.json")) as f:
        generation, = json.load(f)["generations"]
    assert bytes.fromhex(generation["conf_bytes"]) == text and "conf" not in generation
    kill_supervisor(site)
    comes_back(site, stays)


@BOTH
def test_supervisor_killed_while_checking(killable, number):
    site = killable(shards=2)
    stays = some(site)
    with site.slow_checks() as begun:
        site.front.signal(number)
        begun()
        kill_supervisor(site)
    comes_back(site, stays)


def births_of_new(site, old):
    """When each new shard was forked, once all are there beside the old ones."""
    new = lambda: [pid for pid in site.shards() if pid not in old]
    wait_for(lambda: len(new()) == len(old), "the new shards")
    return [born(pid) for pid in new()]


@BOTH
@patient()
def test_supervisor_killed_while_shards_start(killable, number):
    site = killable(shards=2)
    old = site.shards()
    stays = some(site)
    with site.slow_starts():
        site.front.signal(number)
        check_in_time(births_of_new(site, old))
        kill_supervisor(site)
        wait_for(lambda: len(site.family()) == 2, "the end of those that were to start", 3 * LIMIT)
    comes_back(site, stays)


class Held:
    """The shards of a front come as far as HELLO and wait there for a worker, until `ready_unheard()`."""

    def __init__(self, site):
        self.site = site
        self.waiting = []
        site.workers[0].on_hello = self.waiting.append

    def ready_unheard(self, count):
        """`count` shards say READY, which their supervisor does not read any more: it is killed."""
        wait_for(lambda: len(self.waiting) == count, "the shards to look for workers")
        there = self.site.count(" is there, ")
        with Paused(self.site.front.pid):
            self.site.workers[0].on_hello = lambda channel: channel.hello()
            for channel in self.waiting:
                channel.hello()
            wait_for(lambda: self.site.count(" is there, ") == there + count, "their workers")
            threading.Event().wait(0.2 * SLOW)     # READY follows, in the same turn
            kill_supervisor(self.site)


def test_supervisor_killed_before_its_shards_accept(front):
    """They hold the sockets, of each listener one for each: all of them accept."""
    site = front(routes=[rpc_route(), ws_route()], shards=2, drain="3s")
    site.fake()
    held = Held(site)
    site.start(ready=False)
    held.ready_unheard(2)
    for _ in range(30):
        with site.client() as client:
            call(client)
    comes_back(site, some(site))


@BOTH
def test_supervisor_killed_before_new_shards_accept(front, number):
    """They end, since the old ones serve on."""
    site = front(routes=[rpc_route(), ws_route()], shards=2, drain="3s")
    site.fake()
    site.start()
    stays = some(site)
    old = site.shards()
    held = Held(site)
    site.front.signal(number)
    held.ready_unheard(2)
    wait_for(lambda: site.family() == sorted(old), "the end of the new shards")
    assert site.count("this shard ends, since those that it was to replace serve on") == 2
    for client in stays:
        call(client)
    comes_back(site, stays)


@BOTH
def test_supervisor_killed_just_after_the_switch(killable, number):
    site = killable(shards=2)
    stays = some(site)
    served = site.count(" serves: ")
    site.front.signal(number)
    wait_for(lambda: site.count(" serves: ") > served, "the switch", 2 * LIMIT * SLOW, interval=0)
    kill_supervisor(site)
    comes_back(site, stays)


def test_supervisor_killed_while_old_shards_leave(killable):
    """A call is in progress on an old shard; it is answered, and its connection goes on to the new ones."""
    site = killable(shards=2, drain="30s")
    old = site.shards()
    site.workers[0].handler = hold
    busy = site.client()
    busy.send(rpc_request("slow", [1]))
    slow = site.workers[0].wait_calls(1)
    site.workers[0].handler = echo
    stays = some(site)
    site.reload(gone=False)
    wait_for(lambda: len(site.family()) == 4, "the end of the other old shard")
    slowest = set(old) & set(site.shards())
    kill_supervisor(site)
    with Paused(slowest):       # for longer than the new supervisor waits for shards that nobody knows of
        site.launch(ready=False)
        site.wait_log("found the new supervisor", 2)
        threading.Event().wait(0.7)
    site.wait_log("found the shards")
    site.wait_log("found the new supervisor", 3)
    slow.reply([1])
    assert busy.read_response().json()["result"] == [1]
    wait_for(lambda: sorted(site.family()) == sorted(site.shards() + [site.front.pid]) and
             len(site.shards()) == 2, "one generation")
    for client in stays + [busy]:
        call(client)


@contextlib.contextmanager
def orphans_come_to_us():
    """Within it we are whose children processes become that lose their parent, as those of systemd do."""
    set_subreaper = lambda on: ctypes.CDLL(None).prctl(36, on, 0, 0, 0)
    assert set_subreaper(1) == 0
    try:
        yield
    finally:
        set_subreaper(0)


def test_an_old_shard_ends_while_it_is_being_found(killable):
    """It has reported and is gone, a zombie no more, before the supervisor has heard of all: nobody waits for
    it, and reloads go on."""
    site = killable(shards=1, drain="30s")
    site.workers[0].handler = hold
    with site.client() as busy, site.client() as stays:
        busy.send(rpc_request("slow", [1]))
        site.workers[0].wait_calls(1)
        site.workers[0].handler = echo
        call(stays)
        old = site.shard
        site.reload(gone=False)
        wait_for(lambda: len(site.shards()) == 2 and site.shard_of(stays) != old, "the hand-over")
        new, = set(site.shards()) - {old}
        with orphans_come_to_us():
            kill_supervisor(site)
            with Paused(new):
                site.launch(ready=False)
                site.wait_log("found the new supervisor")
                os.kill(old, signal.SIGKILL)
                os.waitpid(old, 0)
            site.wait_log("found the shards")
            os.waitpid(new, 0)      # it is replaced, too, by another one
            site.wait_log("the old shards are gone")
        assert site.count("before all were ready") == 0
        call(stays)
        site.reload()
        call(stays)
    for line in site.log_text().splitlines():
        if "are gone, " in line:
            assert int(line.split("are gone, ")[1].split()[0]) < 3600 * 1000, line


def test_supervisor_and_all_shards_killed(killable):
    """The last shard ends while the new supervisor already looks for it."""
    site = killable(shards=2)
    victims = site.shards()
    with Paused(victims):
        kill_supervisor(site)
        site.launch(ready=False)
        site.wait_log("waiting for their reports")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    site.wait_served()
    site.reload()


def test_supervisor_killed_after_all_shards(killable):
    site = killable(shards=2)
    with Paused(site.front.pid):
        for pid in site.shards():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not site.shards(), "their end")
        site.front.signal(signal.SIGKILL)
    site.front.wait()
    site.launch()
    site.reload()


def test_supervisor_and_one_shard_killed(killable):
    site = killable(shards=2)
    clients = some(site)
    victim = site.shard_of(clients[0])
    stays = [client for client in clients if site.shard_of(client) != victim]
    kill_supervisor(site)
    os.kill(victim, signal.SIGKILL)
    comes_back(site, stays)


@BOTH
def test_new_program_fails_after_it_has_taken_over(killable, number):
    """The check goes well, but the program ends when it is executed with --state; shards serve on."""
    site = killable(shards=2)
    stays = some(site)
    site.replace("#!/bin/sh\ncase $1 in --check) exec %s \"$@\";; *) exit 1;; esac\n" % FRONTD)
    if number == HUP:       # nobody executes it
        site.reload()
    else:
        site.front.signal(USR2)
        assert site.front.wait() == 1
    for client in stays:
        call(client)
    site.replace()
    if number == HUP:
        return
    comes_back(site, stays)


@BOTH
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]],
                         ids=["term", "int", "term-twice"])
@pytest.mark.parametrize("phase", ["checking", "starting", "leaving"])
def test_stop_in_each_phase(killable, number, phase, signals):
    # Who is asked to stop once in the middle of a call is to answer it before that.
    answered = phase == "leaving" and signals == [signal.SIGTERM]
    site = killable(shards=2, drain="20s" if answered else "500ms")
    if phase == "leaving":
        site.workers[0].handler = hold
        busy = site.client()
        busy.send(rpc_request("slow", [1]))
        slow = site.workers[0].wait_calls(1)
        site.reload(number, gone=False)
    elif phase == "checking":
        with site.slow_checks() as begun:
            site.front.signal(number)
            begun()
            for one in signals:
                site.front.signal(one)
            assert site.front.wait(3 * LIMIT) == 0
        signals = []
    else:
        site.workers[1].on_hello = lambda channel: None
        old = site.shards()
        site.front.signal(number)
        births_of_new(site, old)
    for one in signals:
        site.front.signal(one)
    if answered:
        slow.reply([1])
        assert busy.read_response().json()["result"] == [1]
    assert site.front.wait(3 * LIMIT) == 0
    wait_for(lambda: not site.family(), "the end of all")


@pytest.mark.parametrize("step", ["starting", "leaving"])
@patient()
def test_an_old_shard_is_killed(killable, step):
    """Its own connections are lost, those of the other go on."""
    site = killable(shards=2)
    old = site.shards()
    clients = some(site)
    victim = site.shard_of(clients[0])
    stays = [client for client in clients if site.shard_of(client) != victim]
    lost = [client for client in clients if client not in stays]
    if step == "starting":
        with site.slow_starts():
            site.front.signal(HUP)
            births = births_of_new(site, old)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            check_in_time([max(births)])
            site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
    else:
        with Paused(victim):
            site.front.signal(HUP)
            site.wait_log(" serves: ")
            os.kill(victim, signal.SIGKILL)
        site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
    for client in lost:
        assert client.at_end()
    for client in stays:
        call(client)
    assert len(site.shards()) == 2


def test_a_lock_that_a_killed_supervisor_left_with_a_child(killable):
    """A process that it was about to execute keeps the lock for a moment: a start waits for that."""
    site = killable()
    with site.client() as client:
        call(client)
        kill_supervisor(site)
        with open(site.path("run/frontd.pid"), "r+") as child:
            fcntl.flock(child, fcntl.LOCK_EX)
            site.launch(ready=False)
            with pytest.raises(subprocess.TimeoutExpired):
                site.front.wait(0.3)
        site.wait_log("the old shards are gone")
        call(client)
        with open(site.path("run/frontd.pid")) as f:
            assert int(f.read()) == site.front.pid


def test_a_supervisor_that_runs_is_not_waited_for(killable):
    site = killable()
    began = site.log_text()
    second = subprocess.run([site.exe, "-c", site.path("frontd.yaml")], stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert second.returncode == 1 and "another frontd runs with it" in second.stderr
    assert site.log_text() == began


def test_a_shard_ends_while_the_program_is_replaced(killable):
    """Its end is seen by the new program before its loop runs: the supervisor goes on, and starts another one."""
    site = killable(shards=2)
    # No shell: that would wait for the shard itself.
    site.replace("#!%s\nimport os, sys, time\nif '--check' not in sys.argv:\n    os.kill(%d, 9)\n    time.sleep(0.1)\n"
                 "os.execv('%s', sys.argv)\n" % (sys.executable, site.shards()[0], FRONTD))
    before = site.shards()
    site.reload(USR2)
    assert site.front.running() and not set(before) & set(site.shards())
    assert site.count("was ended by signal 9, its connections are lost; starting it again") == 1
