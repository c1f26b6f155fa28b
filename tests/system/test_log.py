"""The log: a pipe, terminal or socket that takes no more holds no process up, and nobody can fill it at will."""
import contextlib
import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from fakeworker import hold
from harness import wait_for
from patience import patient
from reloads import HUP, USR2, Front

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (error|warning|info|debug) (supervisor|shard \d+/\d+)\[\d+\]: [ -~]*")


def log_flags(pid):
    """The flags of a process's standard error."""
    with open("/proc/%d/fdinfo/2" % pid) as f:
        return next(int(line.split()[1], 8) for line in f if line.startswith("flags"))


def is_nonblocking(pid):
    return bool(log_flags(pid) & os.O_NONBLOCK)


class Piped(Front):
    """A site whose log goes where `sink` says: `reader` and `writer` are our ends, which block."""

    def __init__(self, sink, **keys):
        super().__init__(**keys)
        self.sink = sink
        if sink == "pipe":
            self.reader, self.writer = os.pipe()
        elif sink == "pty":
            self.reader, self.writer = pty.openpty()
        else:
            pair = socket.socketpair()
            self.reader, self.writer = (sock.detach() for sock in pair)

    def launch(self, ready=True):
        program = harness.Program.__new__(harness.Program)
        program.argv = [self.exe, "-c", self.path("frontd.yaml")]
        program.log = self.path("frontd.log")
        open(program.log, "w").close()
        program.process = subprocess.Popen(
            program.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.writer,
            start_new_session=True, pass_fds=[])
        program.pid, program.tolerated = program.process.pid, ()
        self.front = program
        if ready:
            self.wait_served()
        return self

    def fill(self):
        """Until it takes no more, whoever may have written to it; returns how much that was."""
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        total = 0
        size = 4096
        while size:
            try:
                total += os.write(self.writer, b"f" * size)
            except BlockingIOError:
                size //= 2
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)
        return total

    def read(self):
        """What there is."""
        fcntl.fcntl(self.reader, fcntl.F_SETFL, os.O_NONBLOCK)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                data += os.read(self.reader, 1 << 16)
        return data.decode(errors="replace").replace("\r\n", "\n")


@pytest.fixture
def piped():
    made = []

    def make(sink, **keys):
        made.append(Piped(sink, drain="2s", **keys))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        os.close(one.reader)
        os.close(one.writer)


def served(web, count=5):
    for n in range(count):
        assert web.rpc("demo.echo", [n]).json()["result"] == [n]


def goes_on(web):
    """As served(), while workers go: a call of one that does is lost, nothing else is."""
    for n in range(5):
        assert web.rpc("demo.echo", [n]).status in (200, 502)


def crowd(web, count):
    workers = [web.fake("app-%d" % n) for n in range(count)]
    for worker in workers:
        worker.tolerant = True
    return workers


def noise(workers):
    """Makes lines of several kinds in each shard: a worker goes, and comes again a while later."""
    workers[0].drop()
    workers.append(workers.pop(0))


@pytest.mark.parametrize("sink", ["pipe", "pty", "socket"])
def test_nobody_waits_for_a_log_that_is_full(piped, sink):
    web = piped(sink, shards=2)
    workers = crowd(web, 5)
    web.start()
    assert "ready: 2 shards" in web.read()
    assert not fcntl.fcntl(web.writer, fcntl.F_GETFL) & os.O_NONBLOCK, "what others share is as it was"
    if sink != "socket":
        for pid in [web.front.pid] + web.shards():
            assert is_nonblocking(pid)
    web.fill()
    for _ in range(3):
        noise(workers)
        goes_on(web)
    before = set(web.shards())
    for number in (HUP, USR2):
        web.front.signal(number)
        wait_for(lambda: len(web.shards()) == 2 and not before & set(web.shards()), "new shards")
        before = set(web.shards())
        served(web)
    web.wait_served()
    text = web.read()
    assert "generation 3 serves" not in text, "it was full"
    noise(workers)
    wait_for(lambda: "log lines were lost: standard error was full" in web.read(), "a line that says so")


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_descriptors_do_not_pile_up(piped, number):
    web = piped("pipe")
    web.fake()
    web.start()

    def ends(pid):
        """How many descriptors of the process are this pipe."""
        inode = os.fstat(web.writer).st_ino
        found = []
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(FileNotFoundError):    # closed meanwhile
                found.append(os.stat("/proc/%d/fd/%s" % (pid, fd)).st_ino)
        return found.count(inode)

    for _ in range(3):
        before = web.shard
        web.front.signal(number)
        wait_for(lambda: web.shards() not in ([], [before]) and len(web.shards()) == 1, "a new shard")
        served(web)
        for pid in (web.front.pid, web.shard):
            assert is_nonblocking(pid)
            assert ends(pid) == 1


@patient(1.0)
def test_others_fill_the_pipe_at_any_moment(piped):
    """A process that writes whenever there is room, while lines come and somebody reads a little."""
    web = piped("pipe")
    workers = crowd(web, 20)
    web.start()
    filler = subprocess.Popen(["sh", "-c", "while :; do printf %4000d 0; done"], stdout=web.writer,
                              stderr=subprocess.DEVNULL)
    closing = threading.Event()

    def sip():
        while not closing.wait(0.002):
            with contextlib.suppress(BlockingIOError):
                os.read(web.reader, 4096)

    fcntl.fcntl(web.reader, fcntl.F_SETFL, os.O_NONBLOCK)
    thread = threading.Thread(target=sip, daemon=True)
    thread.start()
    try:
        slowest = 0
        with web.client() as client:
            for n in range(100):
                noise(workers)
                time.sleep(0.02)
                begun = time.monotonic()
                assert client.rpc("demo.echo", [n]).status in (200, 502)   # of the worker that goes
                slowest = max(slowest, time.monotonic() - begun)
        closing.set()       # nobody reads any more
        thread.join(5)
        for _ in range(10):
            noise(workers)
            goes_on(web)
        assert slowest < 2
    finally:
        closing.set()
        filler.kill()
        filler.wait()


def test_workers_and_checks_get_no_such_descriptor(front):
    """A worker that frontd runs has a pipe of its own, which blocks as programs expect."""
    web = front()
    web.config["pools"] = [{"name": "app", "command": [harness.WORKERD, "--module", harness.DEMO], "instances": 1}]
    web.start()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "the worker")
    worker, = [pid for pid in harness.children(web.front.pid) if pid not in web.shards()]
    with open("/proc/%d/fdinfo/1" % worker) as f:   # its standard output, which it has not touched
        flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags"))
    assert not flags & os.O_NONBLOCK


# How many lines there may be

BURST, RATE = 50, 10    # lines of one kind


def lines_with(web, words):
    return [line for line in web.front.text().splitlines() if words in line]


def all_are_lines(web):
    for line in web.front.text().splitlines():
        assert LINE.fullmatch(line), line


def bounded(web, words, begun):
    """Not more lines of a kind than there may be; some, and it is said how many were left out."""
    took = time.monotonic() - begun
    lines = lines_with(web, words)
    assert 0 < len(lines) <= BURST + RATE * (took + 1), "%d lines in %.1f s" % (len(lines), took)
    return lines


def test_clients_that_read_slowly(site):
    """Two lines for each of them, which any number of clients can make happen."""
    web = site(limits={"write_buffer": "4KiB"}, streams={"line": {"events": True, "slow": "drop"}})
    worker = web.fake()
    web.start()
    begun = time.monotonic()
    clients = [web.stream("line", rcvbuf=2048) for _ in range(300)]
    worker.wait(lambda: len(worker.connects) == 300, "frontd.connect")
    channel = worker.channel()
    for call in worker.connects:
        channel.subscribe(call.conn, "t")
    for _ in range(200):
        channel.publish("t", b'"' + b"x" * 30000 + b'"')
    channel.sync()
    for client in clients:
        client.close()
    wait_for(lambda: web.connections() == 0, "their end")
    bounded(web, "reads too slowly: the oldest pushes", begun)
    bounded(web, "ends: it read too slowly", begun)
    served(web)

    def told():
        counted = sum(int(n) for n in re.findall(r"(\d+) more lines were left out of the kind: connection", web.front.text()))
        counted += sum(int(n) for n in re.findall(r"connection.* \(and (\d+) more like it", web.front.text()))
        kinds = len(lines_with(web, "reads too slowly:")) + len(lines_with(web, "ends: it read too slowly"))
        return counted + kinds - len(lines_with(web, "left out of the kind: connection"))
    wait_for(lambda: bool(worker.drop() or worker.wait_ready() or told() == 600), "how many there were", interval=0.3)
    all_are_lines(web)


def test_a_worker_that_breaks_the_protocol_all_the_time(site):
    """However fast it comes again, and whatever it calls itself."""
    name = "w\x1b[2J\n\r\0\u2028" + "n" * 300

    def on_hello(channel):
        channel.hello(name=name)
        channel.send(b"\xff" * 64)     # no frame has such a length

    web = site()
    bad = [web.fake("app-%d" % n, hold, on_hello=on_hello) for n in range(60)]
    for worker in bad:
        worker.tolerant = True
    good = web.fake("app-good")
    begun = time.monotonic()
    web.start()
    good.wait_ready()
    wait_for(lambda: sum(len(worker.channels) for worker in bad) > 300, "channels", timeout=60)
    with web.client() as client:
        for n in range(20):
            client.rpc("demo.echo", [n])
    text = web.front.text()
    took = time.monotonic() - begun
    kinds = {}
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
        kind = re.sub(r"app-\w+\.sock|\d+|\(.*\)", "", line.split("]: ", 1)[1])
        kinds[kind] = kinds.get(kind, 0) + 1
    assert max(kinds.values()) <= BURST + RATE * (took + 1), kinds


def test_a_worker_that_writes_all_the_time(site):
    """Of what it writes so many lines a second are logged; others' lines are there."""
    web = site()
    script = web.path("noisy.py")
    with open(script, "w") as f:
        f.write("import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
                "while True: os.write(1, b'noise\\n' * 600)\n")
    web.config["pools"].append({"name": "noisy", "command": ["/usr/bin/python3", script], "instances": 1,
                                "start_timeout": "30s"})
    web.fake()
    begun = time.monotonic()
    web.start()
    wait_for(lambda: lines_with(web, "lines were left out: it writes more than 1000"), "a line")
    time.sleep(1)
    web.front.signal(signal.SIGUSR1)
    wait_for(lambda: lines_with(web, "signal %d is ignored" % signal.SIGUSR1), "another line")
    served(web)
    took = time.monotonic() - begun
    lines = len(lines_with(web, ": noise"))
    assert 10000 <= lines + sum(map(int, re.findall(r"(\d+) log lines were lost", web.front.text())))
    assert lines <= 10000 + 1000 * (took + 2)
    all_are_lines(web)
