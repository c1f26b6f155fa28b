"""Any one allocation fails, in our code or in a library, and nothing but what needed it comes to harm: no
process ends by a signal, and the front serves afterwards. By default some of the allocations of each case are
tried; with FRONTD_ALLOCATIONS=all every one."""
import contextlib
import os
import re
import shutil
import signal
import sys
import time

import pytest

import harness
from allocations import LIBRARY, Allocations
from certs import make, pair
from harness import LIMIT, ROOT, Program, free_port, http_route, rpc_route, wait_for, ws_route
from httpclient import BadResponse, Client, Closed, rpc_body
from reloads import Front
from tlsclient import V12, V13, context
from wsclient import WsClosed

pytestmark = pytest.mark.skipif(not os.path.exists(LIBRARY), reason="ASan has an allocator of its own")

ALL = os.environ.get("FRONTD_ALLOCATIONS") == "all"
ENDED = re.compile(r"shard \S+ \(pid \d+\) was ended by signal (\d+)")
OVER = re.compile(r" (?:error supervisor\[\d+\]: (?!shard|cannot take over)|info supervisor\[\d+\]: the old shards are gone)")
GONE = (OSError, Closed, BadResponse, WsClosed, AssertionError)       # how a client may find that it was its turn


def some(total, dense=0, sparse=16):
    """Of the numbers below `total` the first ones, one of each `sparse`, and the last `dense`."""
    if ALL:
        return list(range(total))
    return sorted(set(range(min(4, total))) | set(range(0, total, sparse))
                  | set(range(max(0, total - dense), total)))


class Tried(Front):
    """A front whose processes are under Allocations."""

    def __init__(self, **keys):
        keys.setdefault("routes", [rpc_route(), http_route(), ws_route()])
        keys.setdefault("drain", "500ms")
        super().__init__(**keys)
        self.allocations = Allocations(self.path("allocations"))

    def launch(self, ready=True):
        os.environ.update(self.allocations.env)
        try:
            self.front = Program([self.exe, "-c", self.path("frontd.yaml")], self.path("frontd.log"))
        finally:
            for name in self.allocations.env:
                del os.environ[name]
        if ready:
            self.wait_served()
        return self

    def unharmed(self):
        """Nobody was ended by a signal, but for a shard that the supervisor could not go on with."""
        text = self.log_text()
        killed = text.count(", killing it")
        signals = [int(number) for number in ENDED.findall(text)]
        assert signals.count(signal.SIGKILL) <= killed and set(signals) <= {signal.SIGKILL}, text[-3000:]
        assert "check failed" not in text, text[-3000:]

    def answers(self, what=""):
        """It serves, soon at least: what had no memory may have to be tried again."""
        def good():
            try:
                return self.rpc("demo.echo", [1]).status == 200
            except (OSError, Closed, BadResponse):
                return False
        # Where libseccomp does not end for want of memory, its process has a second of CPU time.
        wait_for(good, "an answer " + what, 4 * LIMIT)


@pytest.fixture
def tried(request):
    made = []

    def make(**keys):
        made.append(Tried(**keys))
        return made[-1]

    yield make
    for one in made:
        one.allocations.disarm()
        one.end()


def counted(web, act, pid=0, role=None):
    """How many allocations a process makes in `act`."""
    web.allocations.fail(0, count=0, pid=pid, role=role)
    act()
    web.allocations.disarm()
    return web.allocations.seen


def each(web, act, pid, dense=0, margin=4, sparse=16, check=None):
    """Does `act` again and again, of whose allocations in the process each of some fails in its turn, and
    then all that follow for a while."""
    total = counted(web, act, pid) + margin
    for count in (1, 50):
        for n in some(total, dense, sparse if count == 1 else 4 * sparse):
            web.allocations.fail(n, count, pid=pid)
            act()
            web.allocations.disarm()
            web.unharmed()
            if check:
                check()
    web.answers()


# Cold: a process starts.

def test_start_of_the_supervisor(tried):
    web = tried()
    web.fake()
    web.write()

    def start():
        web.launch(ready=False)
        wait_for(lambda: "ready: " in web.log_text() or not web.front.running(), "its start")

    def ended():
        web.allocations.disarm()
        if web.front.running():
            web.front.signal(signal.SIGTERM)
        status = web.front.process.wait(20)
        os.rename(web.path("frontd.log"), web.path("before.log"))
        return status

    web.allocations.fail(0, count=0, role="supervisor")
    start()
    total = web.allocations.seen
    assert ended() == 0 and total > 100
    for n in some(total, dense=30):
        web.allocations.fail(n, role="supervisor")
        start()
        web.unharmed()
        started = "ready: " in web.log_text()
        text = web.log_text()
        assert ended() == (0 if started else 1), text
        assert web.allocations.failed == 1
    web.launch()
    web.answers()


def test_start_of_a_shard(tried):
    """It ends, and another one is started."""
    web = tried()
    web.fake()
    web.start()

    def restart():
        before = web.shard
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: web.shards() not in ([], [before]), "another shard")
        web.answers()

    # Each start that fails in a row is longer waited for: a front for each few.
    total = counted(web, restart, role="shard")
    assert total > 100
    web.stop()
    for n in some(total, dense=75, sparse=40):
        one = tried(drain="100ms")
        one.fake()
        one.allocations.fail(n, role="shard")
        one.write()
        one.launch(ready=False)
        one.answers("after allocation %d" % n)
        assert one.allocations.failed == 1, n
        one.unharmed()
        one.end()


# Warm: a process serves, and goes on to serve.

def test_calls_of_every_kind(tried):
    """Requests on new connections and on those that stay: each ends in an answer, an error, or the end of its
    connection."""
    web = tried(streams={"frame": {}, "line": {}})

    def handle(call):
        if call.method == "http.request":
            call.reply({"status": 200, "headers": [["x-long", "v" * 3000], ["content-type", "text/plain"]]},
                       blob=b"b" * 3000)
        else:
            call.reply(call.params)

    web.fake(handler=handle)
    web.start()
    answered, wrong = [], []

    def http(method, path, body=None):
        with web.client(timeout=5) as client:
            r = client.request(method, path, body)
        answered.append(r.status)
        if r.status == 200 and method == "GET" and (r.header("x-long") != "v" * 3000 or r.body != b"b" * 3000):
            wrong.append(r)

    def stays(kind):
        client = web.stays(kind, timeout=5)
        try:
            client.ask("demo.echo", ["x" * 30000])
            r = client.read_json()
        finally:
            client.close()
        if "error" not in r and r["result"] != ["x" * 30000]:
            wrong.append(r)

    calls = [(http, "GET", "/page"), (stays, "ws"), (stays, "frame"), (stays, "line"),
             (http, "POST", "/rpc", rpc_body("demo.echo", ["x" * 70000]))]

    def act():
        for call in calls:
            try:
                call[0](*call[1:])
            except GONE:
                pass

    shard = web.shard
    each(web, act, shard, dense=40, sparse=2)
    assert web.shard == shard
    assert 200 in answered and not wrong, wrong


def test_a_worker_that_comes(tried):
    """Its channel is not opened, or is later; the other worker's is left alone."""
    web = tried()
    web.fake("app-1")
    web.start()
    shard = web.shard

    def act():
        worker = web.fake("app-2")
        try:
            wait_for(lambda: worker.live() and worker.live()[0].ready, "its channel", timeout=0.3)
        except AssertionError:
            pass                # it was its turn
        worker.close()
        web.workers.remove(worker)

    def check():
        with web.client() as client:
            assert client.rpc("demo.echo", [1]).status in (200, 502, 503)

    each(web, act, shard, check=check, sparse=1)
    assert web.shard == shard


def over(web, number):
    """Sends a signal and waits until what it asked for is done, or has come to nothing."""
    before = len(OVER.findall(web.log_text()))
    web.front.signal(number)
    wait_for(lambda: len(OVER.findall(web.log_text())) > before or not web.front.running(), "its end", 30)
    assert web.front.running(), web.log_text()[-3000:]


@pytest.mark.parametrize("role", ["shard", "check", "old shard", "supervisor"])
def test_reload(tried, role):
    """It is refused, or goes on without what had no memory; the front serves all along."""
    web = tried(streams={"frame": {}}, drain="3s")
    web.fake()
    web.start()
    one = {"http": web.client(), "ws": web.ws(), "frame": web.stream("frame")}

    lost = []

    def used():
        """Connections are there, each with something that goes along."""
        for kind, make in (("http", web.client), ("ws", web.ws), ("frame", lambda: web.stream("frame"))):
            try:
                if kind == "http":
                    assert one[kind].rpc("demo.echo", [1]).status == 200
                else:
                    assert one[kind].call("demo.echo", [1]) == [1]
            except GONE as e:   # it was its turn
                lost.append((kind, e))
                one[kind].close()
                one[kind] = make()

    def arm(n, count):
        pid = {"supervisor": web.front.pid, "old shard": web.shards()[0]}.get(role, 0)
        web.allocations.fail(n, count, pid=pid, role=role if pid == 0 else None)

    def reload():
        over(web, signal.SIGHUP)
        web.allocations.disarm()
        wait_for(lambda: len(web.shards()) == 1, "one shard")
        web.unharmed()
        used()

    used()
    arm(0, 0)
    reload()
    total = web.allocations.seen
    for n in some(total, dense=25, sparse=max(8, total // 12)):
        arm(n, 1)
        reload()
    web.answers()
    assert not lost or role == "old shard", lost
    assert len(lost) < 10, lost
    for client in one.values():
        client.close()


def test_a_program_executed_in_place(tried):
    """The old supervisor refuses, or the new one finds the shards where it cannot read what it was left."""
    web = tried()
    web.fake()
    web.start()
    supervisor = web.front.pid

    def upgrade():
        over(web, signal.SIGUSR2)
        web.allocations.disarm()
        wait_for(lambda: len(web.shards()) == 1, "one shard")
        web.unharmed()
        web.answers()

    web.allocations.fail(0, count=0, pid=supervisor)
    upgrade()
    total = web.allocations.seen
    for n in some(total, dense=0, sparse=total // 20):
        web.allocations.fail(n, pid=supervisor)
        upgrade()
    assert web.front.running()


def test_workers_that_frontd_runs(tried):
    """One that cannot be started is, later: the supervisor and what it serves are left alone."""
    web = tried()
    pool = web.config["pools"][0]
    del pool["workers"]
    pool.update(command=[harness.WORKERD, "--module", harness.DEMO], instances=1, restart_delay="10ms")
    web.start()
    web.answers()

    def with_instances(count):
        pool["instances"] = count
        web.write()
        over(web, signal.SIGHUP)

    def started():
        return len([pid for pid in harness.children(web.front.pid) if "--module" in harness.command_line(pid)])

    def act():
        """A second one, which is taken away again."""
        with_instances(2)
        try:
            wait_for(lambda: started() == 2, "another worker", timeout=0.5)
        except AssertionError:
            pass                # it was its turn
        web.allocations.disarm()
        with_instances(1)
        wait_for(lambda: started() == 1, "one worker")
        web.unharmed()

    total = counted(web, act, pid=web.front.pid)
    for n in some(total, sparse=max(4, total // 10)):
        web.allocations.fail(n, pid=web.front.pid)
        act()
    with_instances(2)
    wait_for(lambda: started() == 2, "another worker")
    web.answers()


# TLS: OpenSSL allocates in every step of a handshake.

def test_handshakes(tried):
    web = tried()
    port = free_port()
    web.config["listeners"].append({
        "name": "https", "address": "127.0.0.1:%d" % port, "protocol": "http", "routes": [rpc_route()],
        "tls": {"certificates": [pair(make(web.dir))]}})
    web.fake()
    web.start()
    contexts = [context(V12), context(V13)]

    def act():
        for tls in contexts:
            with contextlib.suppress(*GONE), Client(("127.0.0.1", port), tls=tls, timeout=20) as client:
                assert client.rpc("demo.echo", [1]).status == 200

    act()
    each(web, act, web.shards()[0], sparse=4)
    act()
