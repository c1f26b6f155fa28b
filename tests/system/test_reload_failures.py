"""Reloads that come to nothing: whatever fails, the old generation serves on, why is in the log, and the
next reload works. Supervisors here are stopped and killed; no client may notice."""
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess

import pytest

import harness
from harness import LIMIT, born, rpc_route, wait_for, wait_idle, ws_route
from patience import HeldUp, patient
from reloads import HUP, SLOW, USR2, Catch, Paused, call, check_in_time
from test_managed_workers import managed, serving, start, workers

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def untouched(site, act, words, count=1, **keys):
    """`act()` makes a reload fail: the same shards serve old and new clients, then a reload works."""
    shards, generation = site.shards(), site.generation()
    with site.client() as old:
        call(old)
        said = site.count(words)
        act()
        site.wait_log(words, said + count, 2 * LIMIT * SLOW)
        wait_for(lambda: site.shards() == shards, "the old shards and nobody else")
        assert site.generation() == generation
        call(old)
        for _ in range(12):
            with site.client() as new:
                call(new)
        site.replace()
        site.write()
        site.reload(**keys)
        call(old)


@BOTH
@pytest.mark.parametrize("text", ["nonsense: [", "shards: many\n", ""], ids=["no-yaml", "no-config", "empty"])
def test_a_config_that_is_wrong(front, number, text):
    site = front()
    site.fake()
    site.start()

    def act():
        site.write(text)
        site.front.signal(number)
    untouched(site, act, "--check says (status 1): " + site.path("frontd.yaml"))


@BOTH
def test_a_config_that_is_gone(front, number):
    site = front()
    site.fake()
    site.start()

    def act():
        os.unlink(site.path("frontd.yaml"))
        site.front.signal(number)
    untouched(site, act, "--check says (status 1)")


def other_program(site, path):
    shutil.copy2(path, site.path("frontd.new"))
    os.rename(site.path("frontd.new"), site.exe)


NO_PROGRAM = {
    "not-executable": (lambda site: site.replace("#!/bin/sh\n", mode=0o644), "cannot execute it: Permission denied"),
    "missing": (lambda site: os.unlink(site.exe), "cannot execute it: No such file"),
    "exits": (lambda site: site.replace("#!/bin/sh\necho no good; exit 1\n"), "(status 1): no good"),
    "exits-in-silence": (lambda site: site.replace("#!/bin/sh\nexit 7\n"), "--check says (status 7)"),
    "killed": (lambda site: site.replace("#!/bin/sh\nkill -9 $$\n"), "--check was ended by signal 9"),
    "no-format": (lambda site: site.replace("no program\n"), "cannot execute it: Exec format error"),
    "true": (lambda site: other_program(site, "/bin/true"), "is not frontd: it did not identify itself"),
    "echo": (lambda site: other_program(site, "/bin/echo"), "is not frontd: it did not identify itself"),
    "a-script": (lambda site: site.replace("#!/bin/sh\nexit 0\n"), "is not frontd: it did not identify itself"),
    "claims": (lambda site: site.replace("#!/bin/sh\necho \"frontd 0.1.0 state 1: $5\"\n"),
               "is not frontd: it did not identify itself"),
    "no-interpreter": (lambda site: site.replace("#!/nonexistent/sh\n"), "cannot execute it: No such file"),
}


@pytest.mark.parametrize("kind", NO_PROGRAM)
def test_a_program_that_cannot_run(front, kind):
    site = front()
    site.fake()
    site.start()
    spoil, words = NO_PROGRAM[kind]

    def act():
        spoil(site)
        site.front.signal(USR2)
    untouched(site, act, words)


@pytest.mark.parametrize("kind", NO_PROGRAM)
def test_a_config_needs_no_program_on_disk(front, kind):
    """The shards of a reload are of the program that runs, which judges the config, too."""
    site = front(shards=2)
    site.fake()
    site.start()
    with site.client() as client:
        call(client)
        NO_PROGRAM[kind][0](site)
        site.reload(HUP, shards=1)
        call(client)
        site.refused("--check says (status 1): " + site.path("frontd.yaml"), HUP, shards="many")
        os.kill(site.shard, signal.SIGKILL)     # another one is started
        site.wait_log("starting it again")
        wait_for(lambda: len(site.shards()) == 1, "the next shard")
        site.reload(HUP, shards=2)
        site.replace()
        site.reload(USR2)
    with site.client() as client:
        call(client)


def test_a_script_that_has_frontd_as_a_child(front):
    """It would be the supervisor's process itself, and get its signals."""
    site = front()
    site.fake()
    site.start()
    real = site.path("real")
    shutil.copy2(harness.FRONTD, real)
    site.replace("#!/bin/sh\n%s \"$@\"\nexit $?\n" % real)
    untouched(site, lambda: site.front.signal(USR2), "runs frontd as a child")
    site.reload(HUP)
    site.replace("#!/bin/sh\nexec %s \"$@\"\n" % real)
    site.reload(USR2)


ANSWERS = r"""
#include <string.h>
#include "common/siphash.h"

/* A frontd of another version: answers to the token in its last argument. */
int main(int argc, char **argv)
{
    static const struct hash_key key = {0x66726f6e74642d69ULL, 0x64656e746974792dULL};
    static const char claim[] = "frontd 9.9.9 state 98,99";
    uint64_t both[2] = {hash_bytes(&key, argv[argc - 1], strlen(argv[argc - 1])),
                        hash_bytes(&key, claim, strlen(claim))};
    printf("%s: %016llx\n", claim, (unsigned long long)hash_bytes(&key, both, sizeof(both)));
    return 0;
}
"""


def test_a_program_that_cannot_read_the_state(front):
    """It is frontd; but it does not take the place of this one."""
    site = front()
    site.fake()
    site.start()
    with open(site.path("answers.c"), "w") as f:
        f.write(ANSWERS)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-I", harness.ROOT, "-o", site.path("answers"), site.path("answers.c"),
                    *(os.path.join(harness.ROOT, "common", name) for name in ("siphash.c", "random.c"))], check=True)
    site.reload(USR2)
    generation = site.generation()
    other_program(site, site.path("answers"))
    site.refused("is a frontd that cannot read this program's state: nothing changes", USR2)
    assert site.generation() == generation
    site.reload(HUP)
    site.replace()
    site.reload(USR2)


def test_a_program_that_changes_while_it_is_checked(front):
    """What would be executed is not what was checked."""
    site = front()
    site.fake()
    site.start()
    site.replace("#!/bin/sh\ncase $1 in --check) touch \"$0\";; esac\nexec %s \"$@\"\n" % harness.FRONTD)
    site.refused("has changed since it was checked: this program serves on", USR2)
    with site.client() as client:
        call(client)


def test_a_script_that_executes_frontd(front):
    """It may say something, even much, before; what it says does not hide the proof."""
    site = front()
    site.fake()
    site.start()
    site.replace("#!/bin/sh\necho hello; head -c 20000 /dev/zero | tr '\\0' x; echo\nexec %s \"$@\"\n" % site.path("real"))
    shutil.copy2(harness.FRONTD, site.path("real"))
    pid = site.front.pid
    site.reload(HUP)
    site.reload(USR2)
    assert os.readlink("/proc/%d/exe" % pid) == os.path.realpath(site.path("real"))
    with site.client() as client:
        call(client)
    site.exe = site.path("real")    # so that its processes are known at the end
    assert len(site.family()) == 2


# Each has frontd executed when two of its children have ended, and nobody can wait for them any more.
WAITING = ["""#!/bin/sh
case $1 in --check) ;; *) kill -9 {0} {1}; while kill -0 {0} || kill -0 {1}; do sleep 0.02; done;; esac
exec {2} "$@"
""", """#!/usr/bin/python3
import os, signal, sys
if sys.argv[1] != "--check":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for pid in ({0}, {1}):
        os.kill(pid, 9)
        while os.path.exists("/proc/%d" % pid):
            pass
os.execv("{2}", sys.argv)
"""]


def test_a_script_that_waits_for_its_children(front):
    """waitpid() never tells of a shard and a worker that have ended before frontd is executed. They are missed at
    once, and started again."""
    site = start(managed(front, shards=2))
    shutil.copy2(harness.FRONTD, site.path("real"))
    for script in WAITING:
        shard, worker = site.shards()[0], workers(site)[0]
        site.replace(script.format(shard, worker, site.path("real")))
        site.reload(USR2)
        site.wait_log("(pid %d) has ended" % worker)
        site.wait_log("(pid %d) has ended" % shard)
        wait_for(lambda: serving(site, 2), "two workers")
        assert not {shard, worker} & {*site.shards(), *workers(site)}
    site.exe = site.path("real")


def test_a_program_that_talks_without_end_is_cut(front):
    site = front()
    site.fake()
    site.start()

    def act():
        site.replace("#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x; exit 3\n")
        site.front.signal(USR2)
    untouched(site, act, "--check says (status 3): xxx")
    assert max(len(line) for line in site.log_text().splitlines()) < 4096


def test_a_check_that_does_not_end_and_a_signal_that_waits(front):
    """The second signal's check does not hang: it is what is loaded."""
    site = front()
    site.fake()
    site.start()
    site.reload()       # what the second generation needs is there from now on
    wait_idle(site.front.pid)
    before = harness.descriptors(site.front.pid)
    site.replace("#!/bin/sh\n>%s\nexec sleep 1000\n" % site.path("begun"))
    with site.client() as client:
        site.front.signal(USR2)
        wait_for(lambda: os.path.exists(site.path("begun")), "the check")
        site.front.signal(HUP)
        site.replace()
        site.wait_log("--check does not end", timeout=3 * LIMIT)
        site.wait_log("the old shards are gone", 2, timeout=2 * LIMIT * SLOW)
        call(client)
    wait_for(lambda: len(site.family()) == 2, "the supervisor and one shard")
    wait_idle(site.front.pid)
    assert harness.descriptors(site.front.pid) == before


def test_a_wrong_config_with_signals_that_wait(front):
    site = front()
    site.fake()
    site.start()

    def act():
        site.write("nonsense: [")
        with Paused(site.front.pid):    # else some of them may come so late that there is a third check
            for n in range(50):
                site.front.signal((HUP, USR2)[n % 2])
    untouched(site, act, "nothing changes", count=2)
    assert site.front.running()


def test_an_address_that_somebody_else_has(front):
    site = front()
    site.fake()
    site.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = {"name": "more", "address": "127.0.0.1:%d" % taken.getsockname()[1], "protocol": "http",
                "routes": [rpc_route()]}
        listeners = site.config["listeners"]

        def act():
            site.say(shards=3, listeners=listeners + [more])
            site.config.update(shards=1, listeners=listeners)
        untouched(site, act, "cannot listen on")


@BOTH
def test_another_run_dir(front, number):
    """It holds the lock, and the next supervisor looks there for shards: that one which is killed meanwhile
    is found to have shards."""
    site = front()
    site.fake()
    site.start()
    with site.client() as client:
        call(client)
        site.refused("run_dir cannot change while the front runs", number, run_dir=site.path("other"))
        assert not os.path.exists(site.path("other"))
        site.front.signal(signal.SIGKILL)
        site.front.wait()
        site.launch(ready=False)
        site.wait_log("the old shards are gone")
        call(client)


@patient()
def test_a_shard_that_was_down_when_the_program_was_replaced(front):
    """It waits for its next start, the new program's shards cannot start: then that of the old ones does."""
    site = front(shards=2)
    site.fake()
    site.start()
    stays = site.shards()[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = {"name": "more", "address": "127.0.0.1:%d" % taken.getsockname()[1], "protocol": "http",
                "routes": [rpc_route()]}
        while not site.count("starting it again in 1600 ms"):
            for pid in set(site.shards()) - {stays}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        site.say(USR2, listeners=site.config["listeners"] + [more])
        site.wait_log("cannot listen on")
    if site.shards() != [stays]:
        raise HeldUp("it has been started again already")
    wait_for(lambda: len(site.shards()) == 2 and stays in site.shards(), "the other one", 2 * LIMIT * SLOW)
    for _ in range(12):
        with site.client(timeout=LIMIT) as client:
            call(client)


@BOTH
def test_a_signal_during_the_start(front, number):
    """The first shards are not ready yet: those of the second generation serve in their place."""
    site = front(pools={"app": {}, "mute": {}})
    site.fake()
    mute = site.fake("mute-1")
    with site.slow_starts():
        site.start(ready=False)
        mute.wait(lambda: mute.channels and mute.channels[0].front, "HELLO of the first shard")
    site.front.signal(number)
    site.wait_log("the old shards are gone")
    assert site.generation() == 2
    assert " error " not in site.log_text()
    with site.client() as client:
        call(client)


def control_socket(pid):
    """A copy of the supervisor's socket to its only shard."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    for name in os.listdir("/proc/%d/fd" % pid):
        fd = libc.syscall(438, pidfd, int(name), 0)     # pidfd_getfd
        if fd < 0:
            pytest.skip("may not look into another process: " + os.strerror(ctypes.get_errno()))
        if os.readlink("/proc/self/fd/%d" % fd).startswith("socket:"):
            sock = socket.socket(fileno=fd)
            if sock.family == socket.AF_UNIX and sock.type & socket.SOCK_SEQPACKET == socket.SOCK_SEQPACKET:
                os.close(pidfd)
                return sock
            sock.close()
        else:
            os.close(fd)
    raise AssertionError("no control socket")


@patient(1)
def test_a_supervisor_of_another_version(front):
    """What it says of new shards is not understood and changes nothing; that the shard is to leave is. Nobody
    can take its connections, so they are closed in the course of the drain time, the last ones too."""
    site = front(routes=[rpc_route(), ws_route()], drain="6s")    # in the last quarter all are closed
    site.fake()
    site.start()
    shard = site.shard
    clients = [site.ws() for _ in range(20)]
    with site.client() as client, control_socket(site.front.pid) as control:
        call(client)
        def say(kind, size):
            control.send(struct.pack("=IHHI4x", 0x46726e74, 9, kind, size).ljust(size, b"\xff"))
        say(6, 24)      # PEER
        site.wait_log("it is of another version of the program")
        for one in clients + [client]:
            call(one)
        say(9, 64)      # LEAVE, with more than there is now
        for one in clients:
            one.expect_close(1012)
            one.close()
        assert client.at_end()
    assert site.count("the drain limit has passed") == 0
    wait_for(lambda: site.shards() not in ([], [shard]), "another shard")
    with site.client() as client:
        call(client)


def with_mute(front, **keys):
    """A site whose starts can be made slow, so that there is time to kill somebody meanwhile."""
    site = front(pools={"app": {}, "mute": {}}, **keys)
    site.fake()
    site.fake("mute-1")
    return site.start()


@BOTH
@pytest.mark.parametrize("shards,skip", [(1, 0), (2, 1), (3, 0)])
@patient()
def test_a_new_shard_that_crashes(front, number, shards, skip):
    site = with_mute(front, shards=shards)
    catch = Catch(site, signal.SIGKILL, skip=skip)

    def act():
        site.say(number)
        catch.wait()
    with site.slow_starts():
        untouched(site, act, "a new shard has ended before all were ready")
    assert catch.stop()


@BOTH
@patient()
def test_a_crash_of_one_of_more_shards_leaves_no_socket_that_nobody_accepts_on(front, number):
    site = with_mute(front)
    catch = Catch(site, signal.SIGKILL)

    def act():
        site.say(number, shards=4)
        site.config["shards"] = 1
        catch.wait()
    with site.slow_starts():
        untouched(site, act, "a new shard has ended before all were ready")
    assert catch.stop()


@patient()
def test_a_slow_start_of_more_shards_keeps_no_client_waiting(front):
    site = with_mute(front)
    old = site.shards()
    with site.slow_starts():
        site.say(shards=4)
        new = lambda: [pid for pid in site.shards() if pid not in old]
        wait_for(lambda: len(new()) == 4, "the new shards")
        with Paused(new()) as new:
            check_in_time([max(born(pid) for pid in new.pids)])
            clients = [site.client() for _ in range(20)]
            for client in clients:
                client.send(harness.rpc_request("demo.echo", [1]))
            for client in clients:
                client.read_response()
                client.close()
            assert site.generation() == 1, "answers came with the new shards only"
    site.wait_log("the old shards are gone")


@patient()
def test_new_shards_that_hang_take_no_client_with_them(front):
    """One of two is stopped before it is ready; the other would be ready. The old ones rest meanwhile, so
    that a new one would be the first to accept."""
    site = with_mute(front, shards=2, shard_timeout="1m")
    old = site.shards()
    catch = Catch(site, signal.SIGSTOP)
    with site.slow_starts():
        site.say()
        catch.wait()
        with Paused(old):
            clients = [site.client(timeout=LIMIT) for _ in range(20)]
            for client in clients:
                client.send(harness.rpc_request("demo.echo", [1]))
            site.wait_log("not ready within 10 s", timeout=2 * LIMIT)
    for client in clients:
        assert client.read_response().json()["result"] == [1]
        call(client)
        client.close()
    catch.stop()
    wait_for(lambda: site.shards() == old, "the old shards and nobody else")
    site.reload()
