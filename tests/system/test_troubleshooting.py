"""The sessions of docs/troubleshooting.md: each trouble is made, and its commands find it, three at most."""
import os
import re
import shlex
import signal
import sys
import threading
import time

import pytest

from control import asked, frontctl
from chromium import PROGRAM, Chromium
from harness import LIMIT, ROOT, Load, Site, clients, free_port, rpc_request, rpc_route, wait_for

WORKER = """\
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
from frontd_worker import Worker
worker, kept = Worker(name="app", concurrency=int(sys.argv[2])), []
@worker.method("demo.echo")
async def echo(**params):
    return params
@worker.method("demo.sleep")
async def sleep(seconds):
    await asyncio.sleep(seconds)
@worker.method("demo.grow")
async def grow(mebibytes):
    kept.append(b"x" * mebibytes * 1048576)
    return os.getpid()
worker.run("unix:/nowhere")
"""


@pytest.fixture(scope="module")
def made():
    admin = free_port()
    with Site(shards=2, admin={"address": str(admin)}, routes=[rpc_route(), rpc_route("/small", "small")], pools={"app": {}, "small": {}}) as site:
        with open(site.path("worker.py"), "w", encoding="utf-8") as file:
            file.write(WORKER)
        command = [sys.executable, site.path("worker.py"), os.path.join(ROOT, "proto", "python")]
        for pool, instances, concurrency in (("app", 3, "64"), ("small", 1, "1")):
            entry = next(one for one in site.config["pools"] if one["name"] == pool)
            del entry["workers"]
            entry.update(command=[*command, concurrency], instances=instances, restart_delay="50ms")
        site.admin = admin
        site.start()
        for path in ("/rpc", "/small"):
            with site.client() as client:
                assert client.rpc("demo.echo", {}, path=path).status == 200
        wait_for(lambda: site.front.text().count(" is ready") >= 4, "all workers")
        yield site


def session(title):
    """The commands of a section, as lists of words."""
    with open(os.path.join(ROOT, "docs", "troubleshooting.md"), encoding="utf-8") as file:
        section = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", file.read(), re.M | re.S).group(1)
    commands = [shlex.split(line) for line in re.findall(r"^\$ frontctl (.*)$", section, re.M)]
    assert 1 <= len(commands) <= 3, title
    return commands


def row(text, number=0):
    """A row of the first table, as words."""
    lines = text.splitlines()
    return lines[number + 1].split() if len(lines) > number + 1 else [""]


def rows(text, word):
    return [line.split() for line in text.splitlines() if word in line.split()]


def test_a_method_is_slow(made):
    methods, tap = session("A method is slow")
    fast, slow = Load(made, 2), Load(made, 2, "demo.sleep", {"seconds": 0.3})
    try:
        slow.wait(4)
        fast.wait(20)
        assert row(frontctl(made, *methods))[0] == "demo.sleep"
        seen = frontctl(made, *tap)
        assert re.search(r"demo\.sleep  ok  3\d\d ms \(queue .*, worker 3\d\d ms\)", seen), seen
    finally:
        fast.stop()
        slow.stop()


def test_a_worker_is_stopped(made):
    pools, workers = session("A worker is stopped")
    pid = next(one["pid"] for one in asked(made, "workers")["workers"] if one["pool"] == "app")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: any("stopped" in line for line in rows(frontctl(made, *workers), str(pid))),
                 "the worker that is stopped", interval=0.1)
        assert rows(frontctl(made, *pools), "app")
    finally:
        os.kill(pid, signal.SIGCONT)


def floods(client):
    """A client that asks without a pause, until it is closed; its thread."""
    def send():
        while True:
            client.send(rpc_request("demo.echo", {}) * 20)
            time.sleep(0.005)
            for _ in range(20):
                client.read_response()

    thread = threading.Thread(target=lambda: pytest.raises(Exception, send), daemon=True)
    thread.start()
    return thread


def test_a_client_floods(made):
    conns, kick = session("A client floods")
    with clients(made, 3) as others, made.client() as flood:
        for other in others:
            assert other.rpc("demo.echo", {}).status == 200
        thread = floods(flood)
        first = row(frontctl(made, *conns))
        assert "%s:%d" % flood.sock.getsockname() in first, first
        frontctl(made, *[first[0] if word == "CONN" else word for word in kick])
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert others[0].rpc("demo.echo", {}).status == 200


def test_a_client_does_not_read(made):
    conns, = session("A client does not read")
    with clients(made, 3) as others, made.client() as deaf:
        for other in others:
            assert other.rpc("demo.echo", {}).status == 200
        for _ in range(16):
            deaf.send(rpc_request("demo.echo", {"text": "x" * 400_000}))
        wait_for(lambda: "%s:%d" % deaf.sock.getsockname() in row(frontctl(made, *conns)), "the client that does not read",
                 interval=0.1)


def test_a_pool_is_too_small(made):
    pools, methods = session("A pool is too small")
    with clients(made, 4) as waiting:
        for client in waiting:
            client.send(rpc_request("demo.sleep", {"seconds": 0.5}, path="/small"))

        def full():
            line, = rows(frontctl(made, *pools), "small")
            return line[1] == "3" and "1/1" in line
        wait_for(full, "three calls that wait", interval=0.05)
        assert row(frontctl(made, *methods))[0] == "demo.sleep"
        for client in waiting:
            assert client.read_response().status == 200


def test_a_worker_leaks(made):
    workers, = session("A worker leaks")
    with made.client() as client:
        pid = client.rpc("demo.grow", {"mebibytes": 100}).json()["result"]
    wait_for(lambda: str(pid) in row(frontctl(made, *workers)), "the worker that has most", interval=0.1)


@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")
def test_all_on_the_dashboard(made, tmp_path):
    """Five of the six at once, and then the last one, which holds up the calls of others: each is named at the top of the
    page."""
    says = "[...document.querySelectorAll('#news li')].some(li => %s.test(li.textContent))"
    with Chromium(tmp_path) as browser, made.client() as flood, made.client() as deaf, clients(made, 6) as waiting:
        page = browser.open("http://127.0.0.1:%d/" % made.admin)
        page.until("document.querySelectorAll('#workers tbody tr').length >= 4")
        with made.client() as client:
            grown = client.rpc("demo.grow", {"mebibytes": 300}).json()["result"]
        for _ in range(16):
            deaf.send(rpc_request("demo.echo", {"text": "x" * 400_000}))
        for client in waiting:
            client.send(rpc_request("demo.sleep", {"seconds": 3}, path="/small"))
        slow, thread = Load(made, 2, "demo.sleep", {"seconds": 1.5}), floods(flood)
        stopped = next(one["pid"] for one in asked(made, "workers")["workers"]
                       if one["pool"] == "app" and one["pid"] != grown)
        try:
            page.until(says % "/Pool small is too small/")      # these end by themselves
            page.until(says % "/Client \\d+ does not read/")
            named = page.until("(/Client (\\d+) floods/.exec(document.getElementById('news').textContent) || [])[1]")
            assert frontctl(made, "conns", "--id", named).splitlines()[1].split()[0] == named
            page.until(says % ("/pool app grows.*PID %d/" % grown))
            page.until(says % "/Method demo.sleep is slow/")
            os.kill(stopped, signal.SIGSTOP)
            page.until(says % ("/pool app is stopped.*PID %d/" % stopped))
        finally:
            os.kill(stopped, signal.SIGCONT)
            flood.close()
            slow.stop()
            thread.join(LIMIT)
