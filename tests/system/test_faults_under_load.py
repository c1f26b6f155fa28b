"""Faults under load with every call accounted for: each has exactly one answer, which is its own, or its connection has
ended as the protocol allows; one that may not run twice has reached one worker at most, once; what the front has counted
is what clients have seen. One table of faults; for longer and in any order scripts/soak."""
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from account import Load, check_metrics, check_workers, ledgers
from control import frontctl
from faulty_worker import CONCURRENCY, FAULTS
from harness import LIMIT, ROOT, Site, http_route, rpc_route, sanitized, wait_for, ws_route
from httpclient import rpc_request
from reloads import Paused, endpoint
from scrapes import scrape
import kernelsockets
import harness

SECONDS = float(os.environ.get("FRONTD_SOAK_SECONDS", 0))
SEED = int(os.environ.get("FRONTD_SOAK_SEED", 1))
WORKERS = 4
PYTHON = "/usr/bin/python3"
STRACE = shutil.which("strace")
SCRIPT = os.path.join(ROOT, "tests", "system", "lib", "faulty_worker.py")


class Pool:
    """The worker processes of a site, started anew when they have ended."""

    def __init__(self, site, rng):
        self.site, self.rng = site, rng
        self.processes = {}
        self.stopped = set()
        for n in range(WORKERS):
            with open(self.mode(n), "wb") as f:
                f.write(FAULTS["good"])
            with open(self.ledger(n), "wb"):
                pass
            self.start(n)

    def mode(self, n):
        return self.site.path("mode-%d" % n)

    def ledger(self, n):
        return self.site.path("ledger-%d" % n)

    def start(self, n):
        self.processes[n] = subprocess.Popen(
            [PYTHON, SCRIPT, self.site.path("app-%d.sock" % n), self.ledger(n), self.mode(n), str(self.rng.randrange(1 << 30))],
            stdin=subprocess.DEVNULL, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})

    def set(self, fault, workers=range(WORKERS)):
        for n in workers:
            with open(self.mode(n), "r+b") as f:
                f.write(FAULTS[fault])

    def signal(self, number, workers):
        for n in workers:
            self.processes[n].send_signal(number)

    def tend(self):
        """Starts those anew that have ended."""
        for n, process in self.processes.items():
            if process.poll() is not None:
                self.start(n)

    def repair(self):
        self.set("good")
        self.signal(signal.SIGCONT, self.processes)
        self.tend()

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


class Rig:
    """A site with those workers, and the load."""

    def __init__(self, seed, timeout="10s", pool=None, **keys):
        self.rng = random.Random(seed)
        self.asked = self.runs = 0
        routes = {"timeout": timeout}
        rpc = {**routes, "methods": [{"match": "load.again", "idempotent": True}, {"match": "load.gather", "timeout": "30s"}]}
        http = [http_route("/whole", **routes), http_route("/down", **routes),
                http_route("/up", stream_body="8MiB", **routes)]
        self.site = Site(
            shards=2, routes=[rpc_route(**rpc), ws_route(**rpc), *http], streams={"frame": dict(rpc)},
            pools={"app": {"kill_after": "1s", "queue": 60, "health": {"ejected": "1ms"}, **(pool or {})}},
            limits={"body": "64KiB"}, slow_log="off", drain="10s", **keys)
        self.site.config["listeners"][0]["h2c"] = True
        self.pool = Pool(self.site, self.rng)

    def start(self):
        self.site.start()
        self.wait_workers()
        return self

    def wait_workers(self):
        """Until none of them is left out, and all of their slots have a call at once, and no more."""
        slots = WORKERS * CONCURRENCY

        def given():
            return ledgers([self.pool.ledger(n) for n in range(WORKERS)])

        def all_serve():
            self.asked += 1
            tags = {"p%d.%d" % (self.asked, n) for n in range(8 * WORKERS)}
            client.send(b"".join(rpc_request("load.once", [tag], id=tag) for tag in tags))
            for _ in tags:
                client.read_response()
            return min(len(tags & set(ledgers([self.pool.ledger(n)]))) for n in range(WORKERS)) > 1

        with self.site.client(timeout=40) as client, contextlib.ExitStack() as stack:
            wait_for(all_serve, "all workers to serve", 3 * LIMIT)
            # Each on a connection of its own, so that none waits for how large the others' answers may be.
            calls = {"g%d.%d" % (self.asked, n): stack.enter_context(self.site.client(timeout=40)) for n in range(slots + 2)}
            for tag, one in calls.items():
                one.send(rpc_request("load.gather", [tag], id=tag))
            wait_for(lambda: len(set(calls) & set(given())) >= slots, "calls in all slots: one is lost", 2 * LIMIT)
            assert len(set(calls) & set(given())) == slots
            self.pool.set("lets go")
            for tag, one in calls.items():
                assert one.read_response().json().get("result") == tag
            self.pool.set("good")

    def quiet(self):
        """What is counted, when nothing is in progress."""
        def over():
            now = scrape(self.site)
            return now if not now.total("frontd_calls_in_progress") and not now.total("frontd_requests_in_progress") else None
        now = wait_for(over, "the end of all calls", 3 * LIMIT)
        now.check()
        return now

    def holders(self, load):
        """{connection: the pid of the shard that has it}."""
        inodes = {row[:2]: row[5] for row in kernelsockets.table()}
        held = {pid: harness.sockets(pid) for pid in self.site.shards()}
        found = {}
        for conn in load.connections():
            with contextlib.suppress(OSError):
                inode = inodes.get(endpoint(conn))
                found[conn] = next((pid for pid in held if inode in held[pid]), None)
        return found

    def close(self):
        try:
            self.site.stop()
        finally:
            self.pool.close()


class Fault:
    """act(rig, load, fault): what happens, and its end. codes: the outcomes that it may have besides "ok"; sure: of these at
    least one call has one, until then it goes on. ends: connections may end of it. shards: whether they stay the
    same. keys: of the site."""

    def __init__(self, act, codes=(), sure=(), ends=False, shards="same", **keys):
        self.act, self.codes, self.sure, self.ends, self.shards = act, {*codes, *sure}, set(sure), ends, shards
        self.keys = keys

    def shown(self, load):
        """Whether a call has had an outcome that is sure."""
        return not self.sure or self.sure & set(load.outcomes()) or load.problems


LOST, LATE, BAD, FULL, NONE = "-32002", "-32003", "-32007", "-32001", "-32004"
IMPATIENT = {"timeout": "600ms", "pool": {"worker_timeout": "400ms", "wait_for_worker": "300ms"}}


def wait_queue(rig):
    """Until calls wait for workers."""
    wait_for(lambda: scrape(rig.site).total("frontd_calls_in_progress") > WORKERS * CONCURRENCY, "a queue")


def killed(count, stay_away=False):
    def act(rig, load, fault):
        wait_queue(rig)
        some = rig.rng.sample(range(WORKERS), count)
        rig.pool.signal(signal.SIGKILL, some)
        wait_for(lambda: all(rig.pool.processes[n].poll() is not None for n in some), "their end")
        if stay_away:
            wait_for(lambda: fault.shown(load), "what is sure", 3 * LIMIT)
        rig.pool.tend()
    return act


def stopped(count, seconds=0.0):
    def act(rig, load, fault):
        wait_queue(rig)
        some = rig.rng.sample(range(WORKERS), count)
        rig.pool.signal(signal.SIGSTOP, some)
        time.sleep(seconds)
        wait_for(lambda: fault.shown(load), "what is sure", 3 * LIMIT)
        rig.pool.signal(signal.SIGCONT, some)
    return act


def does(what, count=WORKERS // 2, seconds=0.4):
    def act(rig, load, fault):
        rig.pool.set(what, rig.rng.sample(range(WORKERS), count))
        until = time.monotonic() + seconds
        deadline = until + 3 * LIMIT
        while time.monotonic() < until or not fault.shown(load) and time.monotonic() < deadline:
            time.sleep(0.02)
            rig.pool.tend()
        rig.pool.set("good")
    return act


def shard_killed(rig, load, fault):
    """With calls queued. Only its own connections end."""
    wait_queue(rig)
    victim, other = rig.rng.sample(rig.site.shards(), 2)
    with Paused([other]):      # so that none ends or comes while it is looked who has it
        holders = rig.holders(load)
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in rig.site.shards() and len(rig.site.shards()) == 2, "another shard")
    assert other in rig.site.shards()
    strangers = [conn for conn in load.losses if holders.get(conn) == other]
    assert not strangers, "%d connections of the other shard have ended" % len(strangers)


def shard_stopped(rig, load, fault):
    wait_queue(rig)
    with Paused([rig.rng.choice(rig.site.shards())]):
        time.sleep(0.3)


def switches(pid):
    """How often a process has been taken off a CPU."""
    with open("/proc/%d/status" % pid) as f:
        return [line for line in f if "ctxt_switches" in line]


def detach(tracer, pid):
    """Ends a strace while the process is stopped: a call that it was in would fail by ENOSYS."""
    os.kill(pid, signal.SIGSTOP)
    try:
        before = None
        while before != switches(pid):
            before = switches(pid)
            time.sleep(0.03)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(LIMIT)
    finally:
        os.kill(pid, signal.SIGCONT)


def fails(*what):
    """System calls of a shard fail: each is (names, error, of how many one), while workers hang up, so that all kinds are
    made."""
    def act(rig, load, fault):
        rig.pool.set("hangs up", [0])
        words = []
        for names, error, one_in in what:
            words += ["-e", "inject=%s:error=%s:when=%d+%d" % (names, error, 1 + rig.rng.randrange(one_in), one_in)]
        names = ",".join(names for names, _, _ in what)
        shard = rig.rng.choice(rig.site.shards())
        with open(rig.site.path("strace.log"), "wb") as log:
            tracer = subprocess.Popen([STRACE, "-o", "/dev/null", "-e", "trace=" + names, *words, "-p", str(shard)],
                                      stderr=log)
        try:
            wait_for(lambda: os.path.getsize(log.name), "strace to say something")
            with open(log.name) as said:
                if "attached" not in said.read():
                    pytest.skip("strace may not attach to a shard")
            time.sleep(0.5)
        finally:
            detach(tracer, shard)
        rig.pool.set("good")
    return act


def reloaded(rig, load, fault):
    """No call is lost, and no connection ends."""
    before = set(rig.site.shards())
    rig.site.front.signal(signal.SIGHUP)
    wait_for(lambda: len(rig.site.shards()) == 2 and not before & set(rig.site.shards()), "new shards", 3 * LIMIT)


TABLE = {
    "nothing": Fault(lambda rig, load, fault: time.sleep(0.2)),
    "a worker is killed": Fault(killed(1), [LOST]),
    "half of the workers are killed": Fault(killed(WORKERS // 2), [LOST]),
    "all workers are killed": Fault(killed(WORKERS), sure=[LOST]),
    "all workers are killed and stay away": Fault(killed(WORKERS, stay_away=True), [LOST, LATE], sure=[NONE], **IMPATIENT),
    "a worker is stopped": Fault(stopped(1, 0.3)),
    "a worker is stopped for long": Fault(stopped(1), sure=[LATE, LOST], **IMPATIENT),
    "half of the workers are stopped": Fault(stopped(WORKERS // 2), sure=[LATE, LOST], **IMPATIENT),
    "all workers are stopped": Fault(stopped(WORKERS), [NONE], sure=[LATE, LOST], **IMPATIENT),
    "workers exit in the middle of answers": Fault(does("exits"), sure=[LOST]),
    "workers send garbage": Fault(does("garbage"), sure=[LOST]),
    "workers answer badly": Fault(does("bad"), sure=[BAD]),
    "workers answer twice": Fault(does("twice")),
    "workers are slow": Fault(does("slow"), [LOST], sure=[LATE], **IMPATIENT),
    "workers do not answer": Fault(does("mute"), [LOST], sure=[LATE], **IMPATIENT),
    "workers hang up": Fault(does("hangs up"), sure=[LOST]),
    "workers leave": Fault(does("leaves"), [LOST]),       # a body in parts that had begun is not given to another
    "workers give answers up": Fault(does("gives up", WORKERS), sure=["cut"]),
    "a shard is killed": Fault(shard_killed, ends=True, shards="new"),
    "a shard is stopped": Fault(shard_stopped),
    "a reload": Fault(reloaded, shards="new"),
    "a reload while workers hang up": Fault(lambda rig, *more: (rig.pool.set("hangs up"), reloaded(rig, *more)), [LOST],
                                            shards="new"),
}
# Those that may fail by these errors. Not epoll_ctl(): strace cannot tell what it is asked for (see test_poller.c).
CALLS = "recvfrom,recvmsg,read,sendto,sendmsg,write,writev"
SYSTEM = {
    "are interrupted": Fault(fails((CALLS + ",epoll_wait,accept4", "EINTR", 5)), [LOST]),
    "would block": Fault(fails((CALLS + ",accept4", "EAGAIN", 5)), [LOST]),
    "have no memory": Fault(fails((CALLS + ",accept4" + (",mmap" if not sanitized() else ""), "ENOMEM", 40)), [LOST, LATE], ends=True),
    "have no buffers": Fault(fails(("sendto,sendmsg,write,writev,connect,accept4", "ENOBUFS", 40)), [LOST, LATE], ends=True),
    "have no descriptors": Fault(fails(("accept4,socket", "EMFILE", 2)), [LOST, LATE]),
    "have no place in the table of files": Fault(fails(("accept4,socket", "ENFILE", 2)), [LOST, LATE]),
    "find connections reset": Fault(fails((CALLS, "ECONNRESET", 60), ("accept4", "ECONNABORTED", 2)), [LOST, LATE], ends=True),
    "find nobody there": Fault(fails(("connect", "ECONNREFUSED", 2), ("shutdown,getpeername,getsockname", "ENOTCONN", 2)),
                               [LOST, LATE]),
    "cannot set or ask": Fault(fails(("setsockopt,getsockopt,ioctl,fcntl,fstat,statx", "EINVAL", 2)), [LOST]),
    "cannot close": Fault(fails(("close,munmap", "EIO", 2)), [LOST]),
}


def run(rig, fault, seed, more=()):
    before = rig.quiet()
    rig.runs += 1
    rig.well = False
    load = Load(rig.site, seed, "t%d." % rig.runs)
    try:
        wait_for(lambda: load.ended > 100 or load.problems, "calls", 3 * LIMIT)
        shards = rig.site.shards()
        fault.act(rig, load, fault)
        ended = load.ended
        wait_for(lambda: load.ended > ended + 100 or load.problems, "more calls", 3 * LIMIT)
    finally:
        load.stop()
        rig.pool.repair()
    after = rig.quiet()
    outcomes = load.outcomes()
    print(dict(outcomes))
    assert not load.problems, load.problems
    check_workers(load, ledgers([rig.pool.ledger(n) for n in range(WORKERS)]))
    check_metrics(load, before, after)
    allowed = {"ok", "sent", "cut", "unread", FULL, *fault.codes, *more, *(["closed"] if fault.ends or outcomes["cut"] else [])}
    assert fault.ends or not load.losses, (load.losses, dict(after.sums("frontd_connections_closed_total", "reason")))
    assert set(outcomes) <= allowed, outcomes
    assert not fault.sure or fault.sure & set(outcomes), outcomes
    assert fault.shards != "same" or rig.site.shards() == shards
    rig.wait_workers()
    rig.site.front.check_log()
    rig.well = True


@pytest.fixture(scope="module")
def rigs():
    """Those that go on to be used, by what is special of them."""
    made = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def rig(request, rigs):
    """Where system calls fail without the filter, which is asked about a call that strace has made another one of."""
    keys = {"seccomp": "system" not in request.node.name, **request.node.callspec.params["fault"].keys}
    one = rigs.pop(repr(keys), None)
    if one is None:
        one = Rig(SEED, **keys)
        try:
            one.start()
        except BaseException:
            one.close()
            raise
    yield one
    if one.well:
        rigs[repr(keys)] = one
    else:
        one.close()


@pytest.mark.parametrize("fault", TABLE.values(), ids=[name.replace(" ", "-") for name in TABLE])
def test_every_call_is_accounted_for(rig, fault):
    run(rig, fault, SEED)


@pytest.mark.skipif(STRACE is None, reason="Debian's strace is not installed")
@pytest.mark.parametrize("fault", SYSTEM.values(), ids=[name.replace(" ", "-") for name in SYSTEM])
def test_system_calls(rig, fault):
    """They fail in one of the shards, which goes on."""
    run(rig, fault, SEED)


@pytest.mark.skipif(not SECONDS, reason="scripts/soak runs it")
def test_soak():
    """Faults of both tables in any order, those of a round on one site."""
    rng = random.Random(SEED)
    faults = {**TABLE, **(SYSTEM if STRACE else {})}
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        rig = Rig(rng.randrange(1 << 30), seccomp=False, timeout="1s", pool=IMPATIENT["pool"])
        try:
            rig.start()
            for name in rng.sample(sorted(faults), len(faults)):
                seed = rng.randrange(1 << 30)
                print("%s, seed %d" % (name, seed), flush=True)
                run(rig, faults[name], seed, [LATE, LOST, NONE])
                if time.monotonic() > until:
                    break
        except BaseException:
            print(rig.site.front.text()[-20000:], frontctl(rig.site, "workers"), sep="\n")
            raise
        finally:
            rig.close()
