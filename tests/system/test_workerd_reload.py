"""workerd and SIGUSR2: the program on disk takes its place, and nobody notices."""

import array
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import threading

import pytest

from fakefront import CANCEL, GOAWAY, HELLO, FakeFront, dial, until
from harness import DEMO, Load, descriptors, free_port, open_files, processes
from harness import stat as process_stat
from test_workerd import LAUNCHER, WORKERD
from workerproc import PYTHON, WorkerProcess

STARTED = "is started as the successor"
LATE = "is not ready in time"
SERVES = re.compile(r"process (\d+) serves from now on")
CLEAN = {"NOTIFY_SOCKET", "SYSTEMD_EXEC_PID", "LISTEN_FDS", "LISTEN_PID", "WORKERD_TAKEOVER"}


class Line(WorkerProcess):
    """A workerd with its successors. They are in one session, and write to one log."""

    def __init__(self, folder, options=(), env=None, argv=None, passed=None, address=None, **more):
        """passed: the path of a listening socket that `argv` has made descriptor 3."""
        self.folder, self.path = folder, passed or str(folder / "w.sock")
        address = address or f"unix:{self.path}"
        self.binary, self.module = folder / "workerd", folder / "demo.so"
        shutil.copy(WORKERD, self.binary)
        shutil.copy(DEMO, self.module)
        listen = [] if passed else ["--listen", address]
        for name in CLEAN:
            os.environ.pop(name, None)
        super().__init__(["setsid", "--wait", *(argv or []), str(self.binary), *listen, "--module",
                          str(self.module), "--concurrency", "0", *options],
                         address, folder / "line.log", env=env, **more)

    def family(self):
        """All its processes that live."""
        return sorted(pid for pid, found in processes() if found[2] == self.session())

    def session(self):
        """The session: that of the first process, whose PID it is."""
        if not hasattr(self, "first"):
            found = until(lambda: re.search(r"\[(\d+)\]: ", self.output()), "a line of the log")
            self.first = int(found[1])
        return self.first

    @property
    def pid(self):
        """Who serves, as the log has it."""
        served = SERVES.findall(self.output())
        return int(served[-1]) if served else self.session()

    def ask(self, number=signal.SIGUSR2):
        os.kill(self.pid, number)

    def replace(self, attempts=1):
        """SIGUSR2, and what comes of it: the new PID, once the old process has gone. attempts: at most,
        where the successor is given so little time that on a busy machine it may be too late."""
        old = self.pid
        for left in reversed(range(attempts)):
            late = self.output().count(LATE)
            self.ask()
            until(lambda: self.pid != old or left and self.output().count(LATE) > late, "the successor to serve")
            if self.pid != old:
                break
        until(lambda: old not in self.family(), "the old process to end")
        return self.pid

    def settled(self):
        """Whether a successor has seen the other end of the pair closed, the last thing of a replacement."""
        return not os.path.lexists(f"/proc/{self.pid}/fd/3")

    def program(self, text, mode=0o755):
        """Puts another program in place of the binary; `real` is the real one."""
        self.binary.rename(self.folder / "real")
        self.binary.write_text(text)
        self.binary.chmod(mode)

    def serves(self, pid=None):
        """Whether a new channel is answered, by that process."""
        with FakeFront(self.address) as front:
            hello = front.hello()
            assert front.call("demo.add", [20, 22])["result"] == 42
            return pid is None or hello["pid"] == pid

    def said(self, text, count=1):
        until(lambda: self.output().count(text) >= count, f"{text!r} in the log")

    def kill(self):
        def gone():     # one that was being started has to be found too
            for pid in self.family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.family()
        until(gone, "the end of all")
        super().kill()


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*options, **more):
        started.append(Line(tmp_path, options, **more))
        return started[-1].wait_until_up()

    yield start
    for line in started:
        line.kill()
        assert "Sanitizer" not in line.output() and "check failed" not in line.output()


@pytest.fixture
def line(start):
    return start()


def zombies(parent):
    found = (process_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in found if one and one[1] == parent and one[0] == "Z"]


def close_on_exec(pid):
    """Whether each descriptor but the standard ones is."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                flags = int(re.search(r"flags:\s*(\d+)", file.read())[1], 8)
        except FileNotFoundError:
            continue
        if int(fd) > 2 and not flags & os.O_CLOEXEC:
            return False
    return True


# It takes its place

def test_the_successor_serves_and_the_old_process_ends(line):
    old = line.pid
    front = line.front()
    before = os.stat(line.path)
    new = line.replace()
    assert new != old and line.serves(new) and line.family() == [new]
    assert front.goaway() == {"reason": "replaced", "last_call": 0}
    front.expect_closed()
    after = os.stat(line.path)
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before.st_ino, 0o660)
    assert "listening on" in line.output() and "stale" not in line.output()
    os.kill(new, signal.SIGTERM)
    until(lambda: not line.family(), "the end")
    assert not os.path.lexists(line.path)


def test_a_call_in_progress_is_finished_by_the_old_process(line):
    old, front = line.pid, line.front()
    slow = front.request("demo.sleep", {"ms": 1000})
    front.ping()
    line.ask()
    assert front.goaway() == {"reason": "replaced", "last_call": slow}
    until(lambda: line.pid != old, "the successor to serve")
    assert line.serves(line.pid)
    assert front.response(slow)
    front.expect_closed()
    until(lambda: line.family() == [line.pid], "the old process to end")


def test_no_connection_is_refused(start):
    """Whoever dials is greeted, or sent away by one that goes; never refused or forgotten."""
    line = start(env={"WORKERD_TIMES": "5000,15000,45000,60000"})   # a thread may be slow to say HELLO
    counts, failures, done = {HELLO: 0, GOAWAY: 0}, [], threading.Event()

    def dial_again_and_again():
        while not done.is_set():
            try:
                with FakeFront(line.address) as front:
                    front.send(HELLO, body={"protocol": [1]})
                    counts[front.recv().type] += 1
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=dial_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            line.replace()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures and counts[HELLO] > 0


def test_no_call_fails_under_load(site, start):
    """A real frontd with two shards, a worker that is replaced again and again."""
    line = start()
    web = site(shards=2, pools={"app": {"workers": [line.address]}}).start()
    load = Load(web, 8)
    slow = Load(web, 2, "demo.sleep", {"ms": 100})
    try:
        load.wait(20)
        for _ in range(6):
            line.replace()
            load.wait(50)
    finally:
        results = load.stop() + slow.stop()
    assert set(results) == {200}
    assert line.output().count(STARTED) == 6


def test_two_workers_of_a_pattern_under_load(site, start):
    web = site(shards=2)
    line = start()
    os.symlink(line.path, web.path("app-2.sock"))
    web.workerd("app-1")
    web.start()
    load = Load(web, 8)
    try:
        load.wait(20)
        for _ in range(4):
            line.replace()
            load.wait(50)
    finally:
        results = load.stop()
    assert set(results) == {200}


def test_nothing_is_left_behind_by_many_replacements(line):
    """Descriptors, processes, files: as before."""
    line.replace()
    until(line.settled, "the end of the replacement")
    count, files = descriptors(line.pid), sorted(os.listdir(line.folder))
    for _ in range(50):
        line.replace()
    assert line.family() == [line.pid]
    until(lambda: descriptors(line.pid) == count, "as many descriptors as before")
    assert close_on_exec(line.pid) and sorted(os.listdir(line.folder)) == files
    assert line.serves(line.pid)


def test_tcp(start):
    line = start(address=f"tcp://127.0.0.1:{free_port()}")
    assert line.serves(line.replace())


def test_a_socket_file_that_is_somebody_elses_by_now_stays(line):
    new = line.replace()
    os.rename(line.path, line.path + ".old")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(line.path)
        os.kill(new, signal.SIGTERM)
        until(lambda: not line.family(), "the end")
        assert os.path.exists(line.path)


# It does not: the old one serves on

FAILURES = {
    "gone": (None, "No such file or directory"),
    "not executable": (0o644, "Permission denied"),
    "ends": ("#!/bin/sh\nexit 7\n", "ended with status 7 before it was ready"),
    "is killed": ("#!/bin/sh\nkill -9 $$\n", "was ended by signal 9 before it was ready"),
    "hangs": ("#!/bin/sh\nexec sleep 1000\n", LATE),
    "hangs without the pair": ("#!/bin/sh\nexec sleep 1000 3>&-\n", LATE),
    "ignores SIGTERM": ("#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n", LATE),
    "babbles": ("#!/bin/sh\necho hello >&3\nexec sleep 1000\n", "does not speak as a successor"),
    "knows nothing of it": ("#!/bin/sh\nunset WORKERD_TAKEOVER\nexec ./real \"$@\"\n",
                            "ended with status 1 before it was ready"),
    "is a grandchild": ("#!/bin/sh\n./real \"$@\"\nexit $?\n", "descriptor 3 is not from"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_successor_that_cannot_serve(start, tmp_path, monkeypatch, failure):
    monkeypatch.chdir(tmp_path)
    text, said = FAILURES[failure]
    line = start(env={"WORKERD_TIMES": "5000,15000,45000,1000,1500"} if said == LATE else {})
    front, pid, count = line.front(), line.pid, None
    if text is None:
        line.binary.rename(tmp_path / "real")
    elif isinstance(text, int):
        line.binary.chmod(text)
    else:
        line.program(text)
    for attempt in (1, 2, 3):
        line.ask()
        line.said(said, attempt)
        line.said("serving on", attempt)
        until(lambda: line.family() == [pid] and not zombies(pid), "no process besides")
        assert front.call("demo.add", [1, 2])["result"] == 3
        assert count in (None, descriptors(pid))
        count = descriptors(pid)
    assert line.serves(pid)
    if isinstance(text, int):
        line.binary.chmod(0o755)
    else:
        (tmp_path / "real").replace(line.binary)
    new = line.replace(attempts=5 if said == LATE else 1)   # once the reason is gone
    assert line.serves(new) and front.goaway()["reason"] == "replaced"


def test_a_module_that_does_not_load_any_more(line):
    pid = line.pid
    line.module.unlink()
    line.module.write_text("nonsense")
    line.ask()
    line.said("cannot load module")
    line.said("ended with status 1 before it was ready: serving on")
    assert line.serves(pid) and os.path.exists(line.path)


def test_at_the_limit_of_descriptors(line):
    pid = line.pid
    front = line.front()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowest = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, hard))
    line.ask()
    line.said("as the successor: Too many open files: serving on")
    assert front.call("demo.add", [1, 2])["result"] == 3
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert line.serves(line.replace())


def test_the_old_process_has_no_memory_to_start_another(tmp_path):
    """The n-th allocation fails, until the one is found that the replacement needs."""
    for n in range(200):
        folder = tmp_path / str(n)
        folder.mkdir()
        line = Line(folder, env={"FRONTD_FAIL_ALLOC": str(n)})
        try:
            until(lambda: line.process.poll() is not None or "listening on" in line.output(), "a start")
            if line.process.poll() is not None:
                continue
            line.program(f"#!/bin/sh\nunset FRONTD_FAIL_ALLOC\nexec {folder}/real \"$@\"\n")
            pid = line.pid
            until(lambda: str(folder) not in open_files(pid).values(), "the end of the lock on the folder")
            count = descriptors(pid)
            line.ask()
            until(lambda: line.pid != pid or "serving on" in line.output(), "an outcome")
            if line.pid != pid:
                continue
            assert "Cannot allocate memory" in line.output()
            assert line.serves(pid) and line.family() == [pid]
            until(lambda: descriptors(pid) == count, "as many descriptors as before")
            assert line.serves(line.replace())
            return
        finally:
            line.kill()
    raise AssertionError("no allocation was needed")


@pytest.mark.parametrize("nth", range(12))
def test_the_successor_has_no_memory(start, nth):
    line = start(env={"WORKERD_TIMES": "5000,15000,45000,1000,1500"})
    line.program(f"#!/bin/sh\nexport FRONTD_FAIL_ALLOC={nth}\nexec {line.folder}/real \"$@\"\n")
    pid = line.pid
    line.ask()
    until(lambda: line.pid != pid or "serving on" in line.output(), "an outcome")
    try:
        assert line.serves()
    except (AssertionError, OSError):
        assert line.serves()    # the failure cost one channel


# Signals that come meanwhile

WAITS = """#!/bin/sh
[ -e second ] && exec ./real "$@"
touch first
while [ ! -e second ]; do sleep 0.01; done
exit 1
"""


def test_a_second_signal_is_remembered(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = start()
    pid = line.pid
    line.program(WAITS)
    line.ask()
    until(lambda: os.path.exists("first"), "the first attempt")
    for _ in range(3):
        line.ask()
        line.said("is remembered")
    (tmp_path / "second").touch()
    line.said("ended with status 1 before it was ready")
    until(lambda: line.pid != pid, "the second attempt to succeed")
    assert line.serves(line.pid) and line.output().count(STARTED) == 2


def test_a_signal_during_a_success_is_passed_on(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = start()
    line.program(WAITS.replace("exit 1", "exec ./real \"$@\""))
    line.ask()
    until(lambda: os.path.exists("first"), "the first attempt")
    line.ask()
    line.said("is remembered")
    (tmp_path / "second").touch()
    line.said("serves from now on", 2)
    until(lambda: line.family() == [line.pid], "the others to end")
    assert line.serves(line.pid)


def test_fifty_signals_at_once(line):
    pid = line.pid
    for _ in range(50):
        try:
            os.kill(pid, signal.SIGUSR2)
        except ProcessLookupError:
            break

    settled = []

    def is_settled():
        output = line.output()
        started = output.count(STARTED)
        quiet = started > 0 and output.count("serving in its place") == started
        settled.append(quiet and line.family() == [line.pid] and line.settled())
        return len(settled) >= 20 and all(settled[-20:])
    until(is_settled, "one process that serves")
    assert line.serves(line.pid)


@pytest.mark.parametrize("text", ["exec sleep 1000", "trap '' TERM\nexec sleep 1000"])
def test_sigterm_during_a_replacement_ends_both(line, text):
    line.program(f"#!/bin/sh\n{text}\n")
    front = line.front()
    slow = front.request("demo.sleep", {"ms": 300})
    front.ping()
    line.ask()
    line.said(STARTED)
    line.ask(signal.SIGTERM)
    assert front.goaway() == {"reason": "shutdown", "last_call": slow}
    assert front.response(slow)
    front.expect_closed()
    until(lambda: not line.family(), "the end of both")
    assert line.wait() == 0 and not os.path.lexists(line.path)


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_stopping_at_once_during_a_replacement(line, signals):
    line.program("#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n")
    front = line.front()
    front.request("demo.sleep", {"ms": 3_600_000})
    front.ping()
    line.ask()
    line.said(STARTED)
    for number in signals:
        line.ask(number)
        line.said("stopping: ")
    front.expect_closed()
    until(lambda: not line.family(), "the end of both")
    assert line.wait() == 0 and not os.path.lexists(line.path)


def test_sigusr2_while_it_stops_is_ignored(line):
    front = line.front()
    slow = front.request("demo.sleep", {"ms": 3_600_000})
    front.ping()
    line.ask(signal.SIGTERM)
    front.goaway()
    line.ask()
    line.said("SIGUSR2 is ignored")
    front.send(CANCEL, call=slow)
    assert front.response(slow)
    front.expect_closed()
    assert line.wait() == 0 and STARTED not in line.output()


# A successor by itself: this test is the process that is replaced

MESSAGE = struct.Struct("=IIQQBBBB108s")
OFFER, READY, GO = 1, 2, 3


def message(kind, owns=False, path="", version=1, again=False):
    found = os.stat(path) if path else None
    return MESSAGE.pack(version, kind, found.st_dev if found else 0, found.st_ino if found else 0, owns,
                        0, again, 0, os.fsencode(path))


class Old:
    """A listening socket, and the pair by which it is handed over."""

    def __init__(self, folder):
        self.path = str(folder / "handed.sock")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        self.pair, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pair.settimeout(20)

    def offer(self, data=None, sockets=1):
        data = message(OFFER, True, self.path) if data is None else data
        fds = array.array("i", [self.socket.fileno()] * sockets)
        self.pair.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if sockets else [])

    def start(self, folder, **env):
        fd = self.theirs.fileno()
        launcher = "import os, sys\nos.dup2(int(sys.argv[1]), 3)\nos.execv(sys.argv[2], sys.argv[2:])"
        worker = WorkerProcess(
            [PYTHON, "-c", launcher, str(fd), WORKERD, "--listen", f"unix:{folder}/own.sock",
             "--module", DEMO], f"unix:{self.path}", folder / "new.log",
            env={"WORKERD_TAKEOVER": "3", **env}, pass_fds=[fd])
        self.theirs.close()
        return worker

    def ready(self):
        assert MESSAGE.unpack(self.pair.recv(1000))[1] == READY

    def close(self):
        for one in (self.socket, self.pair, self.theirs):
            one.close()


@pytest.fixture
def old(tmp_path):
    made = Old(tmp_path)
    yield made
    made.close()


@pytest.fixture
def succeed(old, tmp_path):
    started = []

    def succeed(**env):
        started.append(old.start(tmp_path, **env))
        return started[-1]

    yield succeed
    for worker in started:
        worker.kill()
        assert "Sanitizer" not in worker.output() and "check failed" not in worker.output()


def test_it_accepts_after_go_and_not_before(old, succeed):
    old.offer()
    worker = succeed()
    old.ready()
    waiting = dial(worker.address)
    old.socket.settimeout(20)
    old.socket.accept()[0].close()      # nobody else took it
    waiting.close()
    front = worker.dial()
    old.pair.send(message(GO))
    old.socket.close()
    front.hello()
    assert front.call("demo.add", [1, 2])["result"] == 3
    worker.signal()
    assert worker.wait() == 0 and not os.path.lexists(old.path)


@pytest.mark.parametrize("ready", [True, False])
def test_where_the_old_one_dies_it_serves(old, succeed, ready):
    old.offer()
    worker = succeed()
    if ready:
        old.ready()
    old.pair.close()
    old.socket.close()
    front = worker.front()
    assert front.call("demo.add", [1, 2])["result"] == 3
    assert "has died" in worker.output()
    worker.signal()
    assert worker.wait() == 0 and not os.path.lexists(old.path)


def test_sigterm_before_go_leaves_the_socket_to_the_old_one(old, succeed):
    old.offer()
    worker = succeed()
    old.ready()
    worker.signal()
    assert worker.wait() == 0 and os.path.exists(old.path)
    with pytest.raises(OSError):
        old.pair.send(message(GO))


def test_go_that_came_just_before_sigterm_counts(old, succeed):
    """Then the file is its own, and is removed. It is stopped meanwhile, so that both wait for it."""
    old.offer()
    worker = succeed()
    old.ready()
    worker.signal(signal.SIGSTOP)
    old.pair.send(message(GO))
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGCONT)
    assert worker.wait() == 0 and not os.path.lexists(old.path)


@pytest.mark.parametrize("data, sockets", [
    (message(OFFER, version=2), 1), (message(OFFER), 0), (message(OFFER), 2), (message(GO), 1),
    (message(OFFER)[:-1], 1), (message(OFFER) + b"x", 1), (b"x", 1),
    (message(OFFER)[:-108] + b"p" * 108, 1),
], ids=["version", "no socket", "two sockets", "kind", "short", "long", "one byte", "endless path"])
def test_an_offer_that_is_not_understood(old, succeed, data, sockets):
    old.offer(data, sockets)
    worker = succeed()
    assert worker.wait() == 1 and "is not understood" in worker.output()
    assert os.path.exists(old.path)


def test_what_is_offered_is_no_listening_socket(old, succeed):
    old.socket.close()
    old.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    old.offer()
    worker = succeed()
    assert worker.wait() == 1 and "no listening stream socket" in worker.output()


def test_an_answer_to_ready_that_is_not_understood(old, succeed):
    old.offer()
    worker = succeed()
    old.ready()
    old.pair.send(message(READY))
    assert worker.wait() == 0 and "is not understood" in worker.output() and os.path.exists(old.path)


@pytest.mark.parametrize("value", ["3", "4", ""])
def test_a_variable_without_a_pair(old, succeed, value):
    old.theirs.close()
    old.theirs = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker = succeed(WORKERD_TAKEOVER=value)
    assert worker.wait() == 1 and "descriptor 3 is not from" in worker.output()


# Under a service manager

@pytest.fixture
def manager(tmp_path):
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


@pytest.fixture
def passed(start, tmp_path):
    """passed(**environment): a workerd that is given its socket as descriptor 3."""
    def passed(**env):
        path = str(tmp_path / "passed.sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            sock.listen()
            fd = sock.fileno()
            return start(passed=path, argv=[PYTHON, "-c", LAUNCHER, str(fd)], pass_fds=[fd],
                         env={"LISTEN_FDS": "1", **env})
    return passed


def told(manager, *lines):
    """The next message has these lines; returns the rest of them."""
    got = manager.recv(1000).decode().splitlines()
    assert [one for one in lines if one in got] == list(lines)
    return [one for one in got if one not in lines]


def test_systemd_is_told_who_serves(passed, manager):
    line = passed(NOTIFY_SOCKET=manager.getsockname())
    told(manager, "READY=1")
    for _ in range(3):
        new = line.replace()
        assert told(manager, "RELOADING=1")[0].startswith("MONOTONIC_USEC=")
        told(manager, f"MAINPID={new}", "READY=1")
        assert line.serves(new)
    line.ask(signal.SIGTERM)
    told(manager, "STOPPING=1")
    until(lambda: not line.family(), "the end")
    assert os.path.exists(line.path)    # who made it unlinks it


def test_systemd_is_told_when_nothing_came_of_it(start, manager):
    line = start(env={"NOTIFY_SOCKET": manager.getsockname()})
    told(manager, "READY=1")
    line.program("#!/bin/sh\nexit 1\n")
    line.ask()
    told(manager, "RELOADING=1")
    assert told(manager, "READY=1")[0].startswith("STATUS=")
    assert line.serves(line.pid)


@pytest.mark.parametrize("somebody", [True, False])
def test_who_passed_the_socket_and_does_not_follow_is_asked_instead(passed, manager, somebody):
    """As frontd does it: the worker is its child. A NOTIFY_SOCKET that it has inherited is not its own."""
    line = passed(**({"NOTIFY_SOCKET": manager.getsockname(), "SYSTEMD_EXEC_PID": "1"} if somebody else {}))
    pid = line.pid
    line.ask()
    line.said("SIGUSR2 is ignored")
    assert line.serves(pid) and line.family() == [pid] and STARTED not in line.output()
    line.ask(signal.SIGTERM)
    until(lambda: not line.family(), "the end")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)
