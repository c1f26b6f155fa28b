"""What a worker that frontd runs has started ends with it: wrappers, helpers, daemons."""
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

import harness
from harness import LIMIT, Load, command_line, processes, stat, wait_for
from test_managed_workers import change_version, children_of, managed, reload, start, workers

HELPERS = 4     # of one worker


def wrap(web):
    """The command becomes a shell that starts the worker, waits for it, and does something afterwards."""
    pool = web.config["pools"][0]
    pool["command"] = ["/bin/sh", "-c", 'unset LISTEN_PID; "$@"; echo over', "sh", *pool["command"]]
    return web


def wrapped(site, *words, drain="10s", **keys):
    web = wrap(managed(site, *words, **keys))
    web.config["drain"] = drain
    return web


def serve(web, count):
    """Until so many workers are ready; the one behind a shell has another PID than the log says."""
    wait_for(lambda: len(workers(web)) == count, "%d workers" % count, 3 * LIMIT)
    wait_for(lambda: web.rpc("version").status == 200, "an answer", 3 * LIMIT)


def start_all(web, count=2):
    web.start()
    serve(web, count)
    return web


def alive(pids):
    return [pid for pid in pids if (stat(pid) or "X")[0] not in "ZX"]


def helpers(web, count):
    """The processes that workers say they have started."""
    found = lambda: [int(pid) for pid in re.findall(r": helper (\d+)", web.front.text())]
    wait_for(lambda: len(found()) >= count, "%d helpers" % count)
    return found()


def all_of(web):
    """Every process that has the test's script in its command line."""
    return [pid for pid, _ in processes() if web.path("worker.py") in command_line(pid)]


def ended(pids, timeout=3 * LIMIT):
    wait_for(lambda: not alive(pids), "the end of %r" % pids, timeout)


@pytest.fixture(autouse=True)
def sweep(monkeypatch):
    """Nothing that a failed test leaves goes on; other tests, which run at the same time, have such workers too."""
    mark = "%d-%d" % (os.getpid(), time.monotonic_ns())
    monkeypatch.setenv("FRONTD_TESTS_MARK", mark)
    yield
    for pid, _ in list(processes()):
        with contextlib.suppress(OSError):
            with open("/proc/%d/environ" % pid, "rb") as f:
                marked = ("FRONTD_TESTS_MARK=" + mark).encode() in f.read().split(b"\0")
            if marked:
                os.kill(pid, signal.SIGKILL)


def test_each_leads_a_session_without_a_terminal(site):
    web = start(managed(site))
    for pid in workers(web):
        assert os.getpgid(pid) == os.getsid(pid) == pid
    for pid in web.shards():
        assert os.getsid(pid) == web.front.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_nothing_outlives_frontd(site, number):
    web = start_all(wrapped(site, "helpers", drain="1s"))
    pids = helpers(web, 2 * HELPERS) + all_of(web)
    assert len(alive(pids)) == len(pids) >= 2 * HELPERS + 4
    web.front.signal(number)
    assert web.front.wait(3 * LIMIT) == 0
    assert not alive(pids)


def test_nothing_outlives_frontd_after_sigusr2(site):
    web = start_all(wrapped(site, "helpers", instances=1, drain="1s"), 1)
    pids = helpers(web, HELPERS) + all_of(web)
    reload(web, signal.SIGUSR2)
    os.kill(children_of(web)[0], signal.SIGKILL)     # the shell: what it leaves is on its way out at the next one
    reload(web, signal.SIGUSR2)
    serve(web, 1)
    pids += helpers(web, 2 * HELPERS) + all_of(web)
    web.front.signal(signal.SIGTERM)
    assert web.front.wait(3 * LIMIT) == 0
    assert not alive(pids)


def test_a_wrapped_worker_finishes_its_calls(site):
    """The shell ends at SIGTERM, at once; the worker behind it has the time that workers have."""
    web = start_all(wrapped(site, shards=2))
    load = Load(web, 16)
    load.wait(100)
    before = all_of(web)
    change_version(web, 2)
    reload(web)
    wait_for(lambda: len(workers(web)) == 2 and not alive(before), "the end of the old ones", 3 * LIMIT)
    load.wait(50)
    assert set(load.stop()) == {200}
    assert web.rpc("version").json()["result"][0] == 2


def test_what_a_leader_leaves_is_ended(site):
    """Whoever kills the command's own process ends all of it, and another one is started."""
    web = start_all(wrapped(site, "helpers", instances=1, drain="500ms"), 1)
    old = helpers(web, HELPERS)[:HELPERS]
    group = all_of(web)
    os.kill(children_of(web)[0], signal.SIGKILL)
    # The one in a group of its own, and the daemon, are beyond the group: they end with frontd.
    ended(group + [old[0], old[2]])
    assert "has left processes of its group behind" in web.front.text()
    assert "what it has left behind is still there, killing it" in web.front.text()     # deaf to SIGTERM
    serve(web, 1)


def test_what_leaves_late_is_still_heard(site):
    """Lines of a worker whose shell has ended are in the log, over SIGUSR2 too."""
    script = "trap '' TERM; sleep 1; echo one; sleep 2; echo two"
    web = managed(site, instances=1, restart_delay="1h", start_timeout="1h")
    web.config["drain"] = "20s"
    web.config["pools"][0]["command"] = ["/bin/sh", "-c", "(%s) & sleep 0.2; exit 3" % script]
    web.start()
    wait_for(lambda: "exited with status 3" in web.front.text(), "the end of the shell")
    wait_for(lambda: ": one" in web.front.text(), "a line")
    reload(web, signal.SIGUSR2)
    wait_for(lambda: ": two" in web.front.text(), "another line")
    wait_for(lambda: "what it had left behind has ended" in web.front.text(), "the end of the rest")


def test_one_that_hangs_is_killed_with_its_group(site):
    web = start_all(wrapped(site, "helpers", instances=1, worker_timeout="500ms"), 1)
    old = helpers(web, HELPERS)
    group = all_of(web)
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    with web.client() as client:
        assert client.rpc("version").status == 502
    ended(group + [old[0], old[2]])
    assert "killing it" in web.front.text() and "is still there" not in web.front.text()
    serve(web, 1)


def test_one_that_is_never_ready_is_killed_with_its_group(site):
    web = wrapped(site, "helpers", "silent", instances=1, start_timeout="2s", restart_delay="1h")
    web.start()
    old = helpers(web, HELPERS)
    group = all_of(web)
    ended(group + [old[0], old[2]])


@pytest.mark.parametrize("leader", ["lives", "is killed meanwhile"])
def test_supervisor_killed_and_started_again(site, leader):
    web = start_all(wrapped(site, "helpers", instances=1, drain="1s"), 1)
    old = helpers(web, HELPERS)[:HELPERS]
    group = all_of(web)
    lead = children_of(web)
    os.kill(web.front.pid, signal.SIGKILL)
    web.front.process.wait()
    if leader != "lives":
        os.kill(lead[0], signal.SIGKILL)
        wait_for(lambda: not stat(lead[0]), "its end")
    killed, web.front = web.front, None
    web.start(ready=False)
    ended(group + [old[0], old[2]])
    serve(web, 1)
    for pid in alive([old[1], old[3]]):      # those that nobody knows any more: docs/operating.md
        os.kill(pid, signal.SIGKILL)
    web.front.stop()
    killed.check_log()


def test_ctrl_c_in_a_terminal(site):
    """The terminal tells frontd alone, which kills the workers."""
    web = wrapped(site, "helpers", instances=1)
    config = web.write()
    log = open(web.path("frontd.log"), "ab")
    pid, master = pty.fork()
    if pid == 0:
        os.dup2(log.fileno(), 2)
        os.execv(harness.FRONTD, [harness.FRONTD, "-c", config])
    log.close()
    text = lambda: open(web.path("frontd.log"), errors="replace").read()
    wait_for(lambda: text().count(": helper ") == HELPERS and "is ready" in text(), "the worker", 3 * LIMIT)
    pids = [int(n) for n in re.findall(r": helper (\d+)", text())] + all_of(web)
    assert pids
    os.write(master, b"\x03")
    wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "its end", 3 * LIMIT)
    os.close(master)
    assert "stopping at once" in text() and "stopped" in text()
    assert not alive(pids)


def test_children_that_are_others_are_left_alone(site):
    """A shell that has started something before it became frontd."""
    web = managed(site, instances=1)
    script = 'sleep 3600 & echo $! > "$0"; exec "$@"'
    other = web.path("other.pid")
    done = subprocess.Popen(["/bin/sh", "-c", script, other, harness.FRONTD, "-c", web.write()],
                            stderr=open(web.path("log"), "wb"), start_new_session=True)
    text = lambda: open(web.path("log"), errors="replace").read()
    wait_for(lambda: "is ready" in text(), "the worker")
    with open(other) as f:
        pid = int(f.read())
    try:
        done.send_signal(signal.SIGTERM)
        assert done.wait(3 * LIMIT) == 0
        assert alive([pid])
    finally:
        os.kill(pid, signal.SIGKILL)
