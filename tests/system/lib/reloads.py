"""What tests of reloads have in common: a front whose program can be replaced, and its generations as its
log tells them."""
import contextlib
import itertools
import os
import re
import shutil
import signal
import threading
import time

import harness
import kernelsockets
from harness import LIMIT, Program, Site, born, children, stat, wait_for
from httpclient import BadResponse, Client, Closed
from patience import HeldUp

HUP, USR2 = signal.SIGHUP, signal.SIGUSR2
SERVES = re.compile(r"generation (\d+) serves: (\d+) shards")
SLOW = 3 if harness.sanitized() else 1      # how much longer all takes in a build with ASan
UNREADY = 0.95      # seconds after its fork for which a new shard is surely not ready within slow_starts()


def check_in_time(births):
    """None of the shards that were forked at these times can be ready by now; else raises HeldUp, for @patient()."""
    if time.clock_gettime(time.CLOCK_BOOTTIME) >= min(births) + UNREADY:
        raise HeldUp("new shards may have been ready before that")


class Front(Site):
    """A site whose frontd is a copy of its own, so that a test can replace it; and which reloads."""

    def __init__(self, **keys):
        super().__init__(**keys)
        self.exe = self.path("frontd")
        shutil.copy2(harness.FRONTD, self.exe)

    def launch(self, ready=True):
        """Starts the supervisor, for the first time or after it has been killed."""
        self.front = Program([self.exe, "-c", self.path("frontd.yaml")], self.path("frontd.log"), self.nofile)
        if ready:
            self.wait_served()
        return self

    def start(self, ready=True):
        self.write()
        self.launch(ready=ready)
        for worker in self.workers if ready else []:
            worker.wait_ready(self.config["shards"])
        return self

    # The program on disk.

    def replace(self, text=None, mode=0o755):
        """Puts a script in the place of the program, or with None the program itself, in one step."""
        new = self.path("frontd.new")
        if text is None:
            shutil.copy2(harness.FRONTD, new)
        else:
            with open(new, "w") as f:
                f.write(text)
            os.chmod(new, mode)
        os.rename(new, self.exe)

    # Generations.

    def log_text(self):
        with open(self.path("frontd.log"), errors="replace") as f:
            return f.read()

    def count(self, words):
        return self.log_text().count(words)

    def wait_log(self, words, count=1, timeout=LIMIT * SLOW):
        wait_for(lambda: self.count(words) >= count or not self.front.running(),
                 "%r in the log, %d times" % (words, count), timeout)
        assert self.count(words) >= count, "the front has ended"

    def generation(self):
        """The number of the last generation that the log says serves; 1 before the first reload."""
        found = SERVES.findall(self.log_text())
        return int(found[-1][0]) if found else 1

    def say(self, number=HUP, **changes):
        """Changes the config and sends a signal, without waiting for anything."""
        self.config.update(changes)
        self.write()
        self.front.signal(number)

    def reload(self, number=HUP, gone=True, timeout=2 * LIMIT * SLOW, **changes):
        """Changes members of the config, sends a signal, and waits until a new generation serves; with
        `gone` until the old one has ended."""
        before = set(self.shards())
        served, ended = self.count(" serves: "), self.count("the old shards are gone")
        self.say(number, **changes)
        self.wait_log(" serves: ", served + 1, timeout)
        if gone:
            self.wait_log("the old shards are gone", ended + 1, timeout)
            # What was said may have been said of shards that another reload had left.
            wait_for(lambda: not before & set(self.shards()), "the end of the shards %r" % before, timeout)
            assert len(self.shards()) == self.config["shards"], self.shards()

    def refused(self, words, number=HUP, timeout=2 * LIMIT * SLOW, **changes):
        """A reload that has to fail with these words in the log, and touches no shard."""
        before, said = self.shards(), self.count(words)
        kept = dict(self.config)
        self.say(number, **changes)
        self.wait_log(words, said + 1, timeout)
        wait_for(lambda: self.shards() == before, "the old shards alone: %r" % before)
        self.config = kept
        self.write()

    def end(self, broken=False):
        """Stops it and sees that no process is left. broken: it is known not to end in good order."""
        family = self.family()
        if broken:
            for pid in family:
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(AssertionError):
                self.stop(None)
            return
        try:
            self.stop()
            left = [pid for pid in family if stat(pid) and stat(pid)[0] not in "ZX"]
            assert not left, "processes are left: %r" % left
        finally:
            for pid in set(family) & set(self.family()):
                os.kill(pid, signal.SIGKILL)

    def family(self):
        """All processes of this front, those of supervisors killed before too."""
        exe = os.path.realpath(self.exe)
        found = []
        for pid, _ in harness.processes():
            with contextlib.suppress(OSError):
                target = os.readlink("/proc/%d/exe" % pid)
                if target.removesuffix(" (deleted)") == exe:
                    found.append(pid)
        return sorted(found)

    @contextlib.contextmanager
    def slow_starts(self):
        """Within it new shards need a second to be ready: the worker of the pool `mute` is as long with its
        HELLO. Whoever has to do something in that second asks check_in_time()."""
        mute = next(worker for worker in self.workers if worker.name.startswith("mute-"))
        answer = mute.on_hello

        def later(channel):
            timer = threading.Timer(1, answer, [channel])
            timer.daemon = True
            timer.start()
        mute.on_hello = later
        try:
            yield
        finally:
            mute.on_hello = answer

    @contextlib.contextmanager
    def slow_checks(self):
        """Within it checks of the config do not end: the value waits for one and returns its process ID."""
        path = self.path("frontd.yaml")
        os.unlink(path)
        os.mkfifo(path)
        checks = lambda: [pid for pid in harness.children(self.front.pid) if "--check" in harness.command_line(pid)]
        try:
            yield lambda: wait_for(checks, "the check")[0]
        finally:
            with contextlib.suppress(OSError):      # nobody reads it
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            os.unlink(path)
            self.write()

    def paused(self, pids):
        return Paused(pids)

    def holders(self, clients):
        """{client: pid of the shard that has it}."""
        inodes = {row[:2]: row[5] for row in kernelsockets.table()}
        held = {pid: harness.sockets(pid) for pid in self.shards()}
        return {client: pid for client in clients for pid in held if inodes[endpoint(client)] in held[pid]}

    def where(self, clients):
        """{pid of each shard: how many of these clients it has}."""
        found = list(self.holders(clients).values())
        return {pid: found.count(pid) for pid in self.shards()}


class Paused:
    """Processes that are stopped within a `with`, but for those that have ended by then."""

    def __init__(self, pids):
        self.pids = [pids] if isinstance(pids, int) else list(pids)

    def __enter__(self):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in self.pids:
            wait_for(lambda: (stat(pid) or "X")[0] in "TtXZ", "process %d to stop" % pid)
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Catch(threading.Thread):
    """Sends a signal to new shards as soon as they appear: `want` of them, those not in `known`."""

    def __init__(self, site, number, want=1, skip=0):
        super().__init__(daemon=True)
        self.site, self.number, self.want, self.skip = site, number, want, skip
        self.known = set(site.shards())
        self.caught, self.closing = [], False
        self.births = []
        self.start()

    def _is_shard(self, pid):
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                return b"--shard" in f.read()
        except OSError:
            return False

    def run(self):
        seen = []
        while not self.closing and len(self.caught) < self.want:
            for pid in children(self.site.front.pid):
                if pid in self.known or pid in seen or not self._is_shard(pid):
                    continue
                seen.append(pid)
                if len(seen) > self.skip and len(self.caught) < self.want:
                    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                        birth = born(pid)
                        os.kill(pid, self.number)
                        self.births.append(birth)
                        self.caught.append(pid)

    def wait(self):
        """Until all are caught, before they were ready."""
        wait_for(lambda: len(self.caught) >= self.want, "%d new shards" % self.want)
        try:
            check_in_time(self.births)
        except HeldUp:
            for pid in self.caught:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            raise

    def stop(self):
        self.closing = True
        self.join(LIMIT)
        return self.caught


class Connector:
    """Clients in threads that connect, call once, and leave, all the time; `failures` has what went wrong."""

    def __init__(self, site, threads=2, method="demo.echo"):
        self.site, self.method = site, method
        self.done, self.failures = 0, []
        self.closing = False
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        for n in itertools.count(1):
            if self.closing:
                return
            try:
                with self.site.client(timeout=2 * LIMIT) as client:
                    answer = client.rpc(self.method, [n])
                    assert answer.status == 200 and answer.json()["result"] == [n], answer
                self.done += 1
                time.sleep(0.01)
            except (OSError, Closed, BadResponse, AssertionError) as e:
                self.failures.append("%s: %s" % (type(e).__name__, e))

    def stop(self):
        self.closing = True
        for thread in self.threads:
            thread.join(3 * LIMIT)
            assert not thread.is_alive()
        assert not self.failures, "%d of %d: %s" % (
            len(self.failures), self.done + len(self.failures), self.failures[:5])
        return self.done

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.closing = True
        if kind is None:
            self.stop()


def call(client, n=1):
    """One call on a connection of any kind; it has to be answered."""
    if hasattr(client, "call"):
        assert client.call("demo.echo", [n], id=n) == [n]
    else:
        answer = client.rpc("demo.echo", [n])
        assert answer.status == 200 and answer.json()["result"] == [n], answer


def endpoint(client):
    """(port of the front, port of the client) of a TCP client."""
    return client.sock.getpeername()[1], client.sock.getsockname()[1]


def unread(client):
    """How many bytes of this client wait in the kernel for the front to read; None where it has none."""
    row = kernelsockets.look(endpoint(client))
    return row and row[4]


def wait_read(client):
    """Until the front has read all that this client has sent."""
    wait_for(lambda: unread(client) == 0, "the front to read")


def channel_to(site, worker, shard):
    """The worker's channel to that shard of the generation that serves."""
    generation = site.generation()

    def found():
        return [c for c in worker.live() if c.ready and c.front["generation"] == generation and
                c.front["shard"] == shard]
    worker.wait(found, "the channel of shard %d" % shard)
    return found()[0]
