"""Starts and stops the programs under test, and looks at them through /proc."""
import contextlib
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import kernelsockets
from fakeworker import FakeWorker, echo
from httpclient import BadResponse, Client, Closed, rpc_request
from wsclient import StreamClient, WsClient

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("FRONTD_BUILD") or "build/release")
FRONTD = os.path.join(BUILD, "frontd", "frontd")
WORKERD = os.path.join(BUILD, "workerd", "workerd")
DEMO = os.path.join(BUILD, "workerd", "modules", "demo.so")
PYTHON_WORKER = os.path.join(ROOT, "proto", "python", "demo_worker.py")
LIMIT = 10.0            # seconds after which something that should happen is taken to hang
SANITIZERS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "LeakSanitizer:",
              "check failed", "the seccomp filter has refused", "was ended by signal 31")

STARTED = re.compile(r"\]: worker \S+ \(pid (\d+)\) is started")
logs = {}               # path of each log written since the last look → what wrote it


@functools.cache
def sanitized():
    """Whether the build under test has ASan."""
    try:
        with open(FRONTD, "rb") as f:
            return b"__asan_init" in f.read()
    except FileNotFoundError:
        return False


def wait_for(condition, what="the condition", timeout=LIMIT, interval=None):
    """Polls until `condition()` is true, and returns what it gave. interval: seconds; None: the more, the longer it
    takes, since looking costs more than waiting."""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        assert waited < timeout, "waited %g s for %s" % (timeout, what)
        time.sleep(min(0.002 + waited / 16, 0.03) if interval is None else interval)


PORTS = range(12000, 32000)     # above those of scripts/bench, below those that the kernel gives to clients
SLICES = 8                      # of them; each process that runs tests has one for itself
given_ports = set()


def free_port():
    """A port nobody listens on, not given before (as long as there are others), nor by another process."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    mine = PORTS[(worker % 4 + 4 * sanitized())::SLICES]
    while True:
        if len(given_ports) >= len(mine) // 2:
            given_ports.clear()
        port = random.choice(mine)
        if port in given_ports:
            continue
        given_ports.add(port)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def stat(pid):
    """(state, parent, session, CPU seconds) of a process; None when there is none."""
    try:
        fd = os.open("/proc/%d/stat" % pid, os.O_RDONLY)
        try:
            rest = os.read(fd, 4096).decode(errors="replace").rsplit(")", 1)[1].split()
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return rest[0], int(rest[1]), int(rest[3]), (int(rest[11]) + int(rest[12])) / ticks


def born(pid):
    """When a process was forked, in seconds since the system was started, or up to a tick earlier."""
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")


def wait_idle(pid):
    """Until a process sleeps. One of frontd does so at the end of a turn only, when what was let go of in it is
    closed: before, it may have more descriptors than what its log says last lets one expect."""
    wait_for(lambda: (stat(pid) or "X")[0] == "S", "process %d to sleep" % pid)


def processes():
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = stat(int(name))
            if found and found[0] not in "ZX":
                yield int(name), found


def children(pid):
    return sorted(p for p, s in processes() if s[1] == pid)


def command_line(pid):
    """The words that a process was started with; none when it has ended."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().decode(errors="replace").split("\0")
    except OSError:
        return []


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def memory(pid):
    """Resident bytes."""
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


def open_files(pid):
    """{descriptor: what it is} of a process; without those that are closed meanwhile."""
    found = {}
    with contextlib.suppress(OSError):
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                found[int(fd)] = os.readlink("/proc/%d/fd/%s" % (pid, fd))
    return found


def sockets(pid):
    """The inodes of a process's sockets."""
    return {int(target[8:-1]) for target in open_files(pid).values() if target.startswith("socket:[")}


class Program:
    """A process with its log in a file, in a session of its own."""

    def __init__(self, argv, log, nofile=None, pass_fds=()):
        self.tolerated = ()     # words of SANITIZERS that may be in its log
        self.argv = argv
        self.log = log
        logs[log] = os.path.basename(argv[0])
        env = dict(os.environ)
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")

        def limit():
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            start_new_session=True, env=env, pass_fds=pass_fds,
                                            preexec_fn=limit if nofile else None)
        self.pid = self.process.pid

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=LIMIT):
        return self.process.wait(timeout)

    def family(self):
        """The processes of its session, and of those of the workers that it runs, if it is a frontd."""
        sessions = {self.pid} | {int(pid) for pid in STARTED.findall(self.text())}
        return [p for p, s in processes() if s[2] in sessions]

    def stop(self, code=0, timeout=3 * LIMIT):
        """Ends it with SIGTERM and checks its exit code, its log, and that no process is left."""
        try:
            if self.running():
                self.signal(signal.SIGTERM)
            got = self.process.wait(timeout)
            left = lambda: not self.family()
            try:
                wait_for(left, "the end of all processes of %s" % self.argv[0])
            finally:
                self.check_log()
            if code is not None:
                assert got == code, "%s exited with %d" % (self.argv[0], got)
        finally:
            self.kill()

    def kill(self):
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def check_log(self):
        text = self.text()
        for word in SANITIZERS:
            if word in self.tolerated:
                continue
            assert word not in text, "%s in the log of %s" % (word, self.argv[0])


def rpc_route(path="/rpc", pool="app", **keys):
    return {"path": path, "kind": "jsonrpc", **({"pool": pool} if pool else {}), **keys}


def http_route(path="/", pool="app", **keys):
    return {"path": path, "kind": "http", "pool": pool, **keys}


def ws_route(path="/ws", pool="app", **keys):
    return {"path": path, "kind": "websocket", "pool": pool, **keys}


class Site:
    """A folder with a frontd, its config, and its workers. Used as a context.

    `streams` maps names of further listeners to their keys; one of `protocol` line or frame, which is
    its name if it is left out. `pools` maps names to their keys; their workers default to `NAME-*.sock` in the folder. `limits`
    and `top` go into the config as they are.
    """

    def __init__(self, shards=1, routes=None, pools=None, limits=None, nofile=None, listeners=None,
                 streams=None, **top):
        self.dir = tempfile.mkdtemp(prefix="fd-")
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.front = None
        self.nofile = nofile
        self.workers = []
        pools = {"app": {}} if pools is None else pools
        self.config = {
            "run_dir": self.path("run"),
            "shards": shards,
            "log": {"level": "info", "format": "text"},
            "drain": "1s",
            **top,
            "listeners": listeners or [{
                "name": "web", "address": "127.0.0.1:%d" % self.port, "protocol": "http",
                "routes": routes or [rpc_route(), http_route()]}],
            "pools": [{"name": name, "workers": ["unix:" + self.path(name + "-*.sock")], **keys}
                      for name, keys in pools.items()],
        }
        self.ports = {"web": self.port}
        for name, keys in (streams or {}).items():
            self.ports[name] = free_port()
            self.config["listeners"].append({
                "name": name, "address": "127.0.0.1:%d" % self.ports[name], "protocol": name,
                "pool": "app", **keys})
        if limits:
            self.config["limits"] = limits

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, config=None, name="frontd.yaml"):
        """Writes the config (JSON is YAML) and returns its path."""
        path = self.path(name)
        with open(path, "w") as f:
            if isinstance(config, str):
                f.write(config)
            else:
                json.dump(config or self.config, f, indent=1)
                f.write("\n")
        return path

    # Workers, made before or after start().

    def fake(self, name="app-1", handler=echo, concurrency=0, **keys):
        address = name if isinstance(name, tuple) else self.path(name + ".sock")
        worker = FakeWorker(address, handler, concurrency, **keys)
        self.workers.append(worker)
        return worker

    def _program(self, name, argv):
        worker = Program(argv, self.path(name + ".log"))
        self.workers.append(worker)
        wait_for(lambda: os.path.exists(self.path(name + ".sock")) or not worker.running(),
                 "the socket of " + name)
        assert worker.running(), worker.text()
        return worker

    def workerd(self, name="app-1", concurrency=64):
        return self._program(name, [
            WORKERD, "--listen", "unix:" + self.path(name + ".sock"), "--module", DEMO,
            "--concurrency", str(concurrency)])

    def python_worker(self, name="app-1", concurrency=64):
        return self._program(name, [
            sys.executable, PYTHON_WORKER, "--listen", "unix:" + self.path(name + ".sock"),
            "--concurrency", str(concurrency)])

    # The front.

    def start(self, ready=True):
        if "LD_PRELOAD" in os.environ:      # a fast clock, by which a shard that waits for a CPU would have hung
            self.config.setdefault("shard_timeout", "1h")
        self.front = Program([FRONTD, "-c", self.write()], self.path("frontd.log"), self.nofile)
        if ready:
            self.wait_served()
            for worker in self.workers:
                if isinstance(worker, FakeWorker) and not worker.scripted_hello:
                    worker.wait_ready(self.config["shards"])
        return self

    def wait_served(self):
        """Until every shard runs and one of them answers (a bad request, so no worker sees it)."""
        wait_for(lambda: len(self.shards()) == self.config["shards"] or not self.front.running(),
                 "the shards")

        def answers():
            assert self.front.running(), "frontd ended:\n" + self.front.text()
            try:
                with Client(self.address, timeout=2) as client:
                    client.send(b"\x01\r\n\r\n")
                    return client.read_response().status >= 400
            except (OSError, Closed):
                return False
        wait_for(answers, "an answer of frontd")

    def shards(self):
        """The process ids of the shards; workers that frontd runs are children too."""
        return [pid for pid in children(self.front.pid) if "--shard" in command_line(pid)]

    @property
    def shard(self):
        """The process id of the only shard."""
        pid, = self.shards()
        return pid

    def shard_of(self, client):
        """The process id of the shard that has accepted this client; None when none has yet."""
        try:
            row = kernelsockets.look(kernelsockets.ports(client))
        except OSError:
            return None  # the connection has ended
        inode = row and row[5]
        return next((pid for pid in self.shards() if inode and inode in sockets(pid)), None)

    def has_shut(self, client):
        """Whether the front's kernel knows that this client sends no more."""
        row = kernelsockets.look(kernelsockets.ports(client))
        return row is not None and row[2] == kernelsockets.CLOSE_WAIT

    def connections(self):
        """How many client connections the shards hold open."""
        ours = set()
        for pid in self.shards():
            ours |= sockets(pid)
        ports = self.ports.values()
        # A line may come twice while sockets come and go.
        return len({row[5] for row in kernelsockets.table() if row[0] in ports and row[2] != kernelsockets.LISTEN} & ours)

    def client(self, **keys):
        return Client(self.address, **keys)

    def ws(self, path="/ws", **keys):
        """A WebSocket client, with its upgrade done."""
        return WsClient(self.address, path, **keys)

    def stream(self, name, **keys):
        """A client of the listener `name`, which is frame or line."""
        return StreamClient(("127.0.0.1", self.ports[name]), name, **keys)

    def stays(self, kind, **keys):
        """A client that stays: ws, frame or line."""
        return self.ws(**keys) if kind == "ws" else self.stream(kind, **keys)

    def rpc(self, method, params=None, **keys):
        """One call on a connection of its own."""
        with self.client() as client:
            return client.rpc(method, params, **keys)

    def stop(self, code=0):
        """Stops the front, then the workers; all are stopped before anything is raised."""
        problems = []
        programs = ([self.front] if self.front else []) + self.workers
        for program in programs:
            try:
                if isinstance(program, FakeWorker):
                    program.close()
                else:
                    program.stop(code if program is self.front else None)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                problems.append(e)
        self.front, self.workers = None, []
        if problems:
            raise problems[0]
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop()
        except (AssertionError, subprocess.TimeoutExpired):
            if kind is None:    # else the first failure says more
                raise


class Load:
    """Clients in threads, each calling again and again until `stop()`; what they got is counted.

    `results` has the status of every answer, or the name of the exception that ended a connection. Each waits a
    little between its calls: what is tested is what happens to them, beside other tests on the same machine.
    """

    def __init__(self, site, clients, method="demo.echo", params=None):
        self.site = site
        self.method = method
        self.params = params
        self.results = []
        self.closing = False
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                        for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        client = None
        tag = 0
        while not self.closing:
            try:
                client = client or self.site.client()
                tag += 1
                params = self.params or {"tag": "%d.%d" % (number, tag)}
                answer = client.rpc(self.method, params, id=tag)
                result = answer.status
                if result == 200 and answer.json().get("id") != tag:
                    result = "answer %r to call %d" % (answer.body, tag)
                if answer.header("connection") == "close":
                    client.close()
                    client = None
            except (OSError, Closed, BadResponse) as e:
                result = type(e).__name__
                if client:
                    client.close()
                client = None
            except AssertionError as e:
                result = "%s: %s" % (type(e).__name__, e)
                client = None
            self.results.append(result)
            time.sleep(0.01)
        if client:
            client.close()

    def wait(self, count):
        """Until so many more results are there."""
        goal = len(self.results) + count
        wait_for(lambda: len(self.results) >= goal, "%d more answers" % count, 3 * LIMIT)

    def stop(self):
        self.closing = True
        for thread in self.threads:
            thread.join(2 * LIMIT)
            assert not thread.is_alive(), "a client hangs"
        return self.results


@contextlib.contextmanager
def clients(web, count):
    made = [web.client() for _ in range(count)]
    try:
        yield made
    finally:
        for client in made:
            client.close()


def ask(made, method="demo.echo", path="/rpc", first=0):
    for n, client in enumerate(made, first):
        client.send(rpc_request(method, [n], id=n, path=path))


def failed(r, status, code):
    assert r.status == status, r
    assert r.json()["error"]["code"] == code
    return r
