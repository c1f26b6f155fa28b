"""Workers that frontd runs itself: `command` of a pool."""
import os
import pwd
import re
import shutil
import signal
import stat as stat_of
import subprocess
import sys

import pytest

from control import asked
from harness import FRONTD, LIMIT, ROOT, Load, open_files, processes, stat, wait_for, wait_idle

SCRIPT = os.path.join(ROOT, "tests", "system", "lib", "managed_worker.py")
LIBRARY = os.path.join(ROOT, "proto", "python")


def pool(web, *words, **keys):
    """The keys of a pool that runs the script, copied into the site's folder."""
    if not os.path.exists(web.path("worker.py")):
        shutil.copy(SCRIPT, web.path("worker.py"))
    return {"name": "app", "command": [sys.executable, web.path("worker.py"), LIBRARY, *words],
            "restart_delay": "50ms", **keys}


def managed(site, *words, shards=1, instances=2, **keys):
    """A site whose pool `app` is run by frontd; not started. A worker that is held up for a while has its calls
    answered all the same, and ends by itself."""
    web = site(shards=shards, drain="10s")
    web.config["pools"] = [pool(web, *words, instances=instances, **keys)]
    return web


def start(web, instances=2):
    web.start()
    wait_for(lambda: serving(web, instances), "%d workers" % instances)
    return web


def workers(web, name="app"):
    """The processes of a pool that the log says are ready and have not been asked to finish or ended, in the
    order in which they were started."""
    alive = []
    for line in web.front.text().splitlines():
        found = re.search(r"\]: worker %s/\d+ \(pid (\d+)\) (is ready|is asked|exited|was ended|has ended|of the frontd before has)"
                          % name, line)
        if found and found[2] == "is ready":
            alive.append(int(found[1]))
        elif found and int(found[1]) in alive:
            alive.remove(int(found[1]))
    return alive


def serving(web, count):
    """The workers, once there are so many and each has answered."""
    alive = workers(web)
    if len(alive) != count:
        return None
    answered = set()
    for _ in range(20 * count):
        answer = web.rpc("version")
        if answer.status == 200:
            answered.add(answer.json()["result"][2])
        if answered == set(alive):
            return alive
    return None


def children_of(web, name="app"):
    """All processes that were started for a pool and still run."""
    started = re.findall(r"worker %s/\d+ \(pid (\d+)\) is started" % name, web.front.text())
    alive = {pid for pid, _ in processes()}
    return [int(pid) for pid in started if int(pid) in alive]


def reload(web, number=signal.SIGHUP):
    """Sends the signal, and waits until the old shards are gone."""
    web.write()
    done = web.front.text().count("the old shards are gone")
    web.front.signal(number)
    wait_for(lambda: web.front.text().count("the old shards are gone") > done, "the reload", 3 * LIMIT)


def change_version(web, number):
    """A new script takes the place of the old one, as an installation does it."""
    with open(SCRIPT) as f:
        text = f.read().replace("VERSION = 1\n", "VERSION = %d\n" % number)
    with open(web.path("worker.new"), "w") as f:
        f.write(text)
    os.rename(web.path("worker.new"), web.path("worker.py"))


def output(web):
    """What workers have written, as it stands in the log."""
    return re.findall(r"worker app/\d+ \(pid \d+\)(?:, goes on)?: (.*)", web.front.text())


def test_started_and_answering(site):
    web = start(managed(site, "a b", "", "$HOME;", shards=2, instances=3), 3)
    answer = web.rpc("version").json()["result"]
    assert answer[:2] == [1, ["a b", "", "$HOME;"]]     # no shell has seen the words
    folder = web.path("run/workers")
    assert stat_of.S_IMODE(os.stat(folder).st_mode) == 0o750
    sockets = sorted(name for name in os.listdir(folder) if name.endswith(".sock"))
    assert len(sockets) == 3
    for name in sockets:
        assert re.fullmatch(r"app\.[0-2]-\d+\.sock", name)
        assert stat_of.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_sigterm_takes_them_down_after_the_shards(site):
    web = start(managed(site))
    pids = children_of(web)
    web.front.signal(signal.SIGTERM)
    assert web.front.wait() == 0
    assert not any(stat(pid) for pid in pids)
    assert os.listdir(web.path("run/workers")) == []
    text = web.front.text()
    assert len(re.findall(r"worker app/\d \(pid \d+\) is asked to finish", text)) == 2
    assert len(re.findall(r"worker app/\d \(pid \d+\) exited with status 0", text)) == 2


def test_calls_in_progress_are_answered_at_sigterm(site):
    web = start(managed(site))
    load = Load(web, 8)
    load.wait(50)
    web.front.signal(signal.SIGTERM)
    assert web.front.wait(3 * LIMIT) == 0
    results = load.stop()
    assert set(results) <= {200, "Closed", "ConnectionRefusedError", "ConnectionResetError"}, set(results)


def test_sigint_kills_them(site):
    web = start(managed(site))
    pids = children_of(web)
    web.front.signal(signal.SIGINT)
    assert web.front.wait() == 0
    assert not any(stat(pid) for pid in pids)


def test_what_they_are_given(site):
    os.environ["OF_FRONTD"] = "kept"
    try:
        web = start(managed(site, instances=1), 1)
    finally:
        del os.environ["OF_FRONTD"]
    given = web.rpc("process").json()["result"]
    fds = given["fds"]
    pid, = workers(web)
    assert fds["0"] == "/dev/null"
    assert fds["1"] == fds["2"] and fds["1"].startswith("pipe:")
    assert fds["3"].startswith("socket:")
    # Everything else it has made itself, since it runs: what frontd has is not among it.
    for theirs in open_files(web.front.pid).values():
        if theirs.startswith(("socket:", "pipe:")) and theirs in fds.values():
            assert theirs in (fds["1"], fds["3"])
    assert given["env"]["LISTEN_FDS"] == "1"
    assert given["env"]["LISTEN_PID"] == str(pid)
    assert given["env"]["LISTEN_FDNAMES"] == "app"
    assert given["env"]["OF_FRONTD"] == "kept"
    assert int(given["status"]["SigBlk"], 16) == 0
    # Python ignores SIGPIPE and SIGXFSZ by itself.
    assert int(given["status"]["SigIgn"], 16) & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    assert given["cwd"] == os.getcwd()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_run_as_the_user(site):
    web = managed(site, instances=1)
    web.config["user"] = "nobody"
    # The user gets into run_dir because frontd sees to it, and into what is around it by this.
    os.chmod(web.dir, 0o755)
    shutil.copytree(LIBRARY, web.path("library"), ignore=shutil.ignore_patterns("__pycache__"))
    web.config["pools"][0]["command"][2] = web.path("library")
    start(web, 1)
    entry = pwd.getpwnam("nobody")
    given = web.rpc("process").json()["result"]
    assert given["status"]["Uid"].split() == [str(entry.pw_uid)] * 4
    assert given["status"]["Gid"].split() == [str(entry.pw_gid)] * 4
    assert "0" not in given["status"]["Groups"].split()
    assert int(given["status"]["CapEff"], 16) == 0
    assert given["env"]["USER"] == given["env"]["LOGNAME"] == "nobody"
    assert given["env"]["HOME"] == entry.pw_dir
    name, = [name for name in os.listdir(web.path("run/workers")) if name.endswith(".sock")]
    socket = os.stat(web.path("run/workers/" + name))
    assert socket.st_uid == entry.pw_uid and stat_of.S_IMODE(socket.st_mode) == 0o600
    folder = os.stat(web.path("run/workers"))
    assert folder.st_uid == 0 and folder.st_gid == entry.pw_gid and stat_of.S_IMODE(folder.st_mode) == 0o750
    # Files of its own: what it writes goes through the pipe, which it can open again.
    reply = web.rpc("write", {"hex": b"by nobody\n".hex()})
    assert reply.status == 200
    wait_for(lambda: "by nobody" in output(web), "its line")


def test_one_that_dies_is_started_again_on_the_same_socket(site):
    web = start(managed(site))
    before = sorted(os.listdir(web.path("run/workers")))
    for status in (7, 0):
        victim = web.rpc("die", {"status": status})
        assert victim.status == 502
    wait_for(lambda: serving(web, 2), "both workers")
    os.kill(workers(web)[0], signal.SIGKILL)
    wait_for(lambda: len(re.findall("exited with status|was ended by", web.front.text())) == 3, "three ends")
    wait_for(lambda: serving(web, 2), "both workers")
    text = web.front.text()
    assert "exited with status 7" in text and "exited with status 0" in text
    assert "was ended by signal 9" in text
    wait_for(lambda: sorted(os.listdir(web.path("run/workers"))) == before, "the same sockets")


def test_one_that_keeps_dying_backs_off(site):
    web = managed(site, "exit", instances=1)
    web.start()
    delays = lambda: [int(ms) for ms in re.findall(r"started again in (\d+) ms", web.front.text())]
    wait_for(lambda: len(delays()) >= 5, "five restarts", 3 * LIMIT)
    assert delays()[:5] == [50, 100, 200, 400, 800]
    assert web.front.running()
    r = web.rpc("version")
    assert r.status == 503 and r.json()["error"]["code"] == -32004


def test_a_program_that_is_not_there(site):
    web = managed(site)
    web.config["pools"][0]["command"] = ["no-such-program-here"]
    web.start()
    wait_for(lambda: web.front.text().count("cannot find its program: No such file") >= 4, "tries")
    web.config["pools"] = [pool(web, instances=2)]
    reload(web)
    wait_for(lambda: serving(web, 2), "workers")


def test_output_line_by_line(site):
    web = start(managed(site, instances=1), 1)
    pid, = workers(web)
    written = [
        (b"one\ntwo\n", ["one", "two"]),
        (b"\x00\x1b[31mred\x7f\xff\r\n", [r"\x00\x1b[31mred\x7f\xff\x0d"]),
        (b"2026-01-01T00:00:00.000Z error supervisor[1]: forged\n",
         ["2026-01-01T00:00:00.000Z error supervisor[1]: forged"]),
        (b"x" * 10000 + b"\n", ["x" * 3072] * 3 + ["x" * (10000 - 3 * 3072)]),
        (b"%s%n\n", ["%s%n"]),
        (b"\n", [""]),
        (b"left over", []),
    ]
    # What the worker says of itself at its start comes before this, but perhaps only now.
    assert web.rpc("write", {"hex": b"begin\n".hex()}).status == 200
    wait_for(lambda: "begin" in output(web), "the first line")
    expected = output(web)
    assert expected[-1] == "begin"
    for data, lines in written:
        for fd in (1, 2):
            if data == b"left over" and fd == 2:
                continue
            assert web.rpc("write", {"hex": data.hex(), "fd": fd}).status == 200
            expected += lines
    wait_for(lambda: output(web) == expected, "the lines", interval=0.05)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "left over" in output(web), "the line without an end")
    # Each is one line of ours, with our time, level and process before it.
    ours = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \w+ [^\[]+\[\d+\]: ")
    web.front.stop()        # so that no line is just being written
    assert all(ours.match(line) for line in web.front.text().splitlines())


def test_a_worker_that_floods_the_log_stops_nobody(site):
    web = start(managed(site))
    load = Load(web, 4)
    load.wait(20)
    assert web.rpc("flood", {"lines": 5000}).status == 200
    load.wait(20)
    assert set(load.stop()) == {200}
    lost = lambda: sum(int(n) for n in re.findall(r"(\d+) log lines were lost", web.front.text()))
    wait_for(lambda: len([line for line in output(web) if re.fullmatch(r"\d{100}", line)]) + lost() >= 5000,
             "all lines", 3 * LIMIT, interval=0.2)


@pytest.mark.parametrize("what", ["script", "command", "both"])
def test_rolling_restart_under_load(site, what):
    web = start(managed(site, shards=2, instances=3), 3)
    before = workers(web)
    load = Load(web, 16)
    load.wait(100)
    for turn in range(2, 4):
        if what != "command":
            change_version(web, turn)
        if what != "script":
            web.config["pools"] = [pool(web, "turn%d" % turn, instances=3)]
        reload(web)
        wait_for(lambda: len(workers(web)) == 3 and not set(workers(web)) & set(before), "new workers",
                 3 * LIMIT)
        wait_for(lambda: sorted(children_of(web)) == sorted(workers(web)), "the end of the old workers", 3 * LIMIT)
        before = workers(web)
        answer = web.rpc("version").json()["result"]
        assert answer[0] == (1 if what == "command" else turn)
        assert answer[1] == ([] if what == "script" else ["turn%d" % turn])
        load.wait(50)
    assert set(load.stop()) == {200}
    # One at a time: a new one is ready before an old one is asked to finish.
    serving_now = 0
    for line in web.front.text().splitlines():
        if re.search(r"worker app/\d+ \(pid \d+\) is ready", line):
            serving_now += 1
            assert serving_now <= 4
        elif re.search(r"worker app/\d+ \(pid \d+\) is asked", line):
            serving_now -= 1
            assert serving_now >= 3


def recycled(web):
    return web.front.text().count("is to be recycled: calls")


def test_recycled_one_at_a_time_under_load(site):
    web = start(managed(site, shards=2, max_calls=100))
    load = Load(web, 8)
    wait_for(lambda: recycled(web) >= 4, "workers that are recycled", 3 * LIMIT)
    assert set(load.stop()) == {200}
    there, leave = set(), set()
    for line in web.front.text().splitlines():
        found = re.search(r"worker app/\d+ \(pid (\d+)\) (is ready|is to be|is asked|exited)", line)
        if found and found[2] == "is ready":
            there.add(found[1])
        elif found and found[2] == "is to be":
            assert len(there) == 2 and not leave
        elif found and found[2] == "is asked":
            assert len(there) == 3
            leave.add(found[1])
            there.remove(found[1])
        elif found:
            leave.remove(found[1])


def test_calls_and_age_go_on_over_reloads(site):
    web = start(managed(site, instances=1, max_calls=200), 1)
    one = lambda: asked(web, "workers")["workers"][0]
    before = one()
    for signal_ in (signal.SIGHUP, signal.SIGUSR2):
        reload(web, signal_)
        was = one()
        for _ in range(5):
            assert web.rpc("version").status == 200
        now = one()
        assert now["pid"] == before["pid"] and now["served"] == was["served"] + 5
        assert now["age"] > before["age"]
    assert now["served"] == before["served"] + 10 and not recycled(web)
    for _ in range(200 - now["served"]):
        assert web.rpc("version").status == 200
    wait_for(lambda: recycled(web) == 1, "its recycling")
    assert "it has had 200, max_calls is 200" in web.front.text()
    wait_for(lambda: len(workers(web)) == 1 and workers(web) != [before["pid"]], "its successor")
    wait_for(lambda: one()["served"] < 200 and one()["pid"] != before["pid"], "its end")


def test_reload_without_a_change_leaves_them_alone(site):
    web = start(managed(site))
    before = workers(web)
    reload(web)
    reload(web)
    assert workers(web) == before and sorted(children_of(web)) == sorted(before)


def test_other_number_of_instances_under_load(site):
    web = start(managed(site, shards=2), 2)
    first = workers(web)
    load = Load(web, 8)
    load.wait(50)
    web.config["pools"][0]["instances"] = 4
    reload(web)
    wait_for(lambda: len(workers(web)) == 4, "four workers")
    assert workers(web)[:2] == first
    web.config["pools"][0]["instances"] = 1
    reload(web)
    wait_for(lambda: workers(web) == first[:1] or workers(web) == first[1:], "one worker")
    wait_for(lambda: len(children_of(web)) == 1, "the end of the others", 3 * LIMIT)
    load.wait(20)
    assert set(load.stop()) == {200}


def test_pools_added_and_removed(site):
    web = start(managed(site))
    old = workers(web)
    web.config["pools"] = [pool(web, "second", name="other")]
    for route in web.config["listeners"][0]["routes"]:
        route["pool"] = "other"
    reload(web)
    wait_for(lambda: len(workers(web, "other")) == 1, "the worker of the new pool")
    wait_for(lambda: not any(stat(pid) for pid in old), "the end of the old pool's workers", 3 * LIMIT)
    assert web.rpc("version").json()["result"][1] == ["second"]


@pytest.mark.parametrize("word", ["silent", "exit"])
def test_a_new_one_that_does_not_get_ready_leaves_the_old_ones(site, word):
    web = start(managed(site))
    before = workers(web)
    web.config["pools"] = [pool(web, word, instances=2, start_timeout="500ms")]
    reload(web)
    wait_for(lambda: "the old ones stay until the next reload" in web.front.text(), "the news", 3 * LIMIT)
    wait_for(lambda: sorted(children_of(web)) == sorted(before), "the end of the new one")
    if word == "silent":
        assert "is not ready in time: it does not answer; killing it" in web.front.text()
    assert web.rpc("version").json()["result"][1] == []
    web.config["pools"] = [pool(web, "good", instances=2)]
    reload(web)
    wait_for(lambda: serving(web, 2) and not set(workers(web)) & set(before), "new workers", 3 * LIMIT)


def test_left_alone_when_the_program_is_replaced(site):
    web = start(managed(site, shards=2))
    before = workers(web)
    load = Load(web, 8)
    load.wait(50)
    assert web.rpc("write", {"hex": b"half a ".hex()}).status == 200
    for turn in range(2):
        reload(web, signal.SIGUSR2)
        assert sorted(children_of(web)) == sorted(before)
        load.wait(20)
    assert set(load.stop()) == {200}
    # Their output and their ends are still seen.
    pid = web.rpc("version").json()["result"][2]
    while web.rpc("version").json()["result"][2] != pid:
        pass
    os.kill(before[0], signal.SIGKILL)
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: "half a " in output(web), "what was begun before")
    wait_for(lambda: serving(web, 2), "new workers")
    assert not set(workers(web)) & set(before)
    # What has changed meanwhile is found at the next SIGHUP.
    now = workers(web)
    change_version(web, 5)
    reload(web, signal.SIGUSR2)
    assert workers(web) == now
    reload(web)
    wait_for(lambda: len(workers(web)) == 2 and not set(workers(web)) & set(now), "new workers", 3 * LIMIT)
    wait_for(lambda: sorted(children_of(web)) == sorted(workers(web)), "the end of the old workers", 3 * LIMIT)
    assert web.rpc("version").json()["result"][0] == 5


def test_supervisor_killed_and_started_again(site):
    web = start(managed(site))
    old = workers(web)
    shards = web.shards()
    os.kill(web.front.pid, signal.SIGKILL)
    web.front.process.wait()
    assert all(stat(pid) for pid in old)
    with open(web.path("run/workers/pids")) as f:
        assert sorted(int(line.split()[0]) for line in f) == sorted(old)
    killed = web.front
    try:
        web.front = None
        web.start(ready=False)
        wait_for(lambda: not any(stat(pid) for pid in old), "the end of the old workers", 3 * LIMIT)
        wait_for(lambda: serving(web, 2), "answers of the new ones", 3 * LIMIT)
        text = web.front.text()
        assert len(re.findall("of the frontd before still runs", text)) == 2
    finally:
        for pid in old + shards:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        killed.check_log()


def check(web):
    return subprocess.run([FRONTD, "--check", "-c", web.write(name="other.yaml")], capture_output=True, text=True,
                          timeout=20, stdin=subprocess.DEVNULL)


def test_both_keys_and_neither_are_refused(site):
    web = managed(site)
    assert check(web).returncode == 0
    web.config["pools"][0]["workers"] = ["unix:/somewhere"]
    done = check(web)
    assert done.returncode == 1
    assert re.search(r"other\.yaml:\d+: pools\[0\]\.command: a pool has either workers or a command", done.stderr)
    web.config["pools"] = [{"name": "app"}]
    done = check(web)
    assert re.search(r"other\.yaml:\d+: pools\[0\]\.workers: a pool needs workers or a command", done.stderr)


def test_no_descriptors_or_processes_are_left_by_many_ends(site):
    web = start(managed(site))
    count = lambda: len(os.listdir("/proc/%d/fd" % web.front.pid))

    def replace_all(turn):
        web.config["pools"] = [pool(web, "turn%d" % turn, instances=2)]
        old = workers(web)
        reload(web)
        wait_for(lambda: len(workers(web)) == 2 and not set(workers(web)) & set(old), "new workers", 3 * LIMIT)
        wait_for(lambda: len(children_of(web)) == 2, "the end of the old ones", 3 * LIMIT)
    replace_all(0)
    wait_idle(web.front.pid)
    before = count()
    for turn in range(1, 10):
        replace_all(turn)
    wait_for(lambda: count() <= before, "the descriptors of before")
    names = lambda: os.listdir(web.path("run/workers"))
    wait_for(lambda: len(names()) == 3, "two sockets and `pids`")
