"""frontctl and the control socket: docs/control.md."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import control
from control import GOAWAY, HELLO, REQUEST, RESPONSE, Control, asked, frame, frontctl
from harness import ROOT, Load, rpc_route, wait_for, ws_route


def pool(site, name="app"):
    return next(one for one in asked(site, "pools")["pools"] if one["pool"] == name)


def worker(site, name):
    found = [one for one in asked(site, "workers")["workers"] if one["address"].endswith(name)]
    assert len(found) == 1, found
    return found[0]


def socket_options(site):
    return ["-S", site.path("run/control.sock")]


def test_what_is_shown(site):
    """Each command against a front that serves, and exit codes of what goes wrong."""
    one = site(shards=2)
    one.fake(concurrency=2)
    one.start()
    with one.client() as client:
        assert client.rpc("demo.echo", {}).status == 200
        status = asked(one, "status")
        assert (status["pid"], status["state"], status["connections"]) == (one.front.pid, "steady", 1)
        assert len(status["shards"]) == 2 and status["totals"]["calls"] == 1
        assert [listener["name"] for listener in status["listeners"]] == ["web"]
        assert status["config"]["path"] == one.path("frontd.yaml")
        assert status["memory"]["shards"] > status["memory"]["supervisor"] > 1 << 20
        text = frontctl(one, "status")
        assert "listener           web: 127.0.0.1:" in text and "SHARD" in text and "\033" not in text
        entry = worker(one, "app-1.sock")
        assert (entry["state"], entry["concurrency"], entry["pid"]) == ("ready", 2, os.getpid())
        assert entry["memory"] > 1 << 20 and entry["shards"] == 2 and not entry["managed"]
        assert "app-1.sock" in frontctl(one, "workers", "--sort", "memory")
        method = asked(one, "methods")["methods"][0]
        assert (method["method"], method["calls"], method["errors"], method["failed"]) == ("demo.echo", 1, 0, 0)
        assert 0 < method["p50"] <= method["p99"] and 0 < method["slowest"] == method["spent"]
        assert "demo.echo" in frontctl(one, "methods", "--sort", "p99")
        quiet = next(line.split() for line in frontctl(one, "methods", "--interval", "1").splitlines() if "demo.echo" in line)
        assert quiet[1:8] == ["0.0", "0", "0", "0", "-", "-", "0"], quiet
        assert 0 < pool(one)["p50"] <= pool(one)["p99"]
        assert pool(one)["concurrency"] == 2 and pool(one)["workers"]["ready"] == 1
        assert "POOL" in frontctl(one, "pools")
        lines = [json.loads(line) for line in frontctl(one, "top", "--count", "1", "--json").splitlines()]
        assert lines[0]["connections"] == 1 and lines[0]["pools"][0]["pool"] == "app"
        assert lines[0]["methods"][0]["method"] == "demo.echo"
        assert "CALLS/S" in frontctl(one, "top", "--count", "1")
    assert "there is no pool" in frontctl(one, "pause", "nope", code=4)
    assert "there is no worker" in frontctl(one, "drain", "nope", code=4)
    assert "level:" in frontctl(one, "log", "loud", code=2)
    for words in (["pools", "x"], ["nope"], ["log"], ["top", "--count", "0"], ["workers", "--sort", "x"], ["pause"],
                  ["status", "--nope"], ["methods", "--sort", "x"], ["methods", "--interval", "0"], ["drain", "--wait=1", "x"]):
        frontctl(one, *words, code=2)
    frontctl(one, "status", code=2, options=["-c", one.path("none.yaml")])
    assert "does frontd run" in frontctl(one, "status", code=3, options=["-S", one.path("none.sock")])
    assert "usage: frontctl pause" in frontctl(one, "pause", "--help")
    assert "frontctl " in frontctl(one, "--version")


def test_who_may_ask(site):
    """The socket is the front's user's alone; a client that cannot be served is told why."""
    one = site()
    one.fake()
    one.start()
    path = one.path("run/control.sock")
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)           # what the mode would have kept out, the kernel's word for its user does
    for folder in (one.dir, one.path("run")):
        os.chmod(folder, 0o755)
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", control.FRONTCTL, "-S", path, "status"],
                          capture_output=True, text=True, timeout=30)
    if "setpriv:" not in done.stderr:        # in a user namespace there is no other user
        assert done.returncode == 4 and "only root" in done.stderr, done
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(Control(one))
        with Control(one, hello=False) as late:
            kind, _, body = late.read()
            assert kind == GOAWAY and body["reason"] == "full"
        assert "too many" in frontctl(one, "status", code=3)
    wait_for(lambda: asked(one, "status"), "an answer")


def test_calls_wait_while_a_pool_is_paused(front):
    """Under load: none fails, and none reaches a worker meanwhile; also over the supervisor's death."""
    one = front(shards=2)
    one.fake()
    one.start()
    load = Load(one, 8)
    load.wait(50)
    assert frontctl(one, "pause", "app", "--wait").startswith("app is paused")
    assert "already" in frontctl(one, "pause", "app")
    wait_for(lambda: pool(one)["waiting"] == 8, "eight calls in the queue")
    assert pool(one)["paused"] and pool(one)["in_progress"] == 0 and pool(one)["oldest"] > 0
    assert "paused" in frontctl(one, "pools") and asked(one, "status")["paused"] == ["app"]
    served = len(load.results)
    os.kill(one.front.pid, signal.SIGKILL)
    one.front.wait()
    frontctl(one, "status", code=3)         # the socket is there, and nothing listens
    one.launch(ready=False)
    wait_for(lambda: one.count(" serves: "), "the reload of the next supervisor")
    assert pool(one)["paused"]
    assert len(load.results) == served
    frontctl(one, "resume", "app")
    assert not pool(one)["paused"] and "not paused" in frontctl(one, "resume", "app")
    load.wait(50)
    assert set(load.stop()) == {200}


def test_a_worker_is_drained(front):
    """Under load, over a reload, and another process at its address; what it has it finishes."""
    one = front(shards=2)
    one.fake("app-1")
    one.fake("app-2")
    one.start()
    load = Load(one, 8)
    load.wait(50)
    assert "app-1.sock is drained" in frontctl(one, "drain", "app-1.sock", "--wait")
    assert worker(one, "app-1.sock")["state"] == "drained" and worker(one, "app-2.sock")["state"] == "ready"
    wait_for(lambda: worker(one, "app-1.sock")["in_progress"] == 0, "no call in progress")
    load.wait(50)
    frontctl(one, "reload")
    assert worker(one, "app-1.sock")["state"] == "drained"
    assert pool(one)["workers"] == {"ready": 1, "drained": 1, "ejected": 0, "hung": 0, "down": 0}
    load.wait(50)
    frontctl(one, "undrain", one.path("app-1.sock"))
    wait_for(lambda: worker(one, "app-1.sock")["state"] == "ready", "the worker")
    load.wait(50)
    assert set(load.stop()) == {200}


def test_the_level_of_the_log(front):
    """Of all processes, until the next reload."""
    one = front(log={"level": "warning", "format": "text"})
    one.fake("app-1")
    one.start()
    frontctl(one, "log", "info")
    assert "the level of the log is info" in one.log_text()
    one.fake("app-2").wait_ready(1)
    wait_for(lambda: one.count("app-2.sock (app-2.sock"), "a line of a shard")
    frontctl(one, "reload")
    one.fake("app-3").wait_ready(1)
    wait_for(lambda: worker(one, "app-3.sock")["state"] == "ready", "the worker")
    assert one.count("app-3.sock (") == 0


def test_reloads(front):
    """What each has come to is known by the exit code, and why."""
    one = front(shards=2, routes=[rpc_route(), ws_route()])
    one.fake()
    one.start()
    with one.client() as client:
        assert client.rpc("demo.echo", {}).status == 200
        done = asked(one, "reload")
        assert (done["outcome"], done["number"], done["moved"], done["stayed"]) == ("ok", 1, 1, 0)
        assert asked(one, "status")["generation"] == 2
        refused, over = [], threading.Event()

        def knock():        # no connect is refused while the program is replaced
            while not over.is_set():
                with socket.socket(socket.AF_UNIX) as sock:
                    if sock.connect_ex(one.path("run/control.sock")):
                        refused.append(1)
                over.wait(0.002)
        knocker = threading.Thread(target=knock, daemon=True)
        knocker.start()
        text = frontctl(one, "upgrade")
        over.set()
        knocker.join()
        assert not refused
        assert "generation 3 serves; 1 connections moved, 0 did not" in text
        status = asked(one, "status")
        assert status["last_reload"]["kind"] == "upgrade" and status["last_reload"]["number"] == 2
        one.write("listeners: 7\n")
        why = frontctl(one, "reload", code=1, options=socket_options(one))
        assert "listeners" in why and "nothing changes" in why
        assert "listeners" in frontctl(one, "reload", "--dry-run", code=1, options=socket_options(one))
        one.write()
        one.replace("#!/bin/sh\nexit 3\n")
        assert "status 3" in frontctl(one, "upgrade", code=1)
        assert asked(one, "status")["last_reload"]["outcome"] == "failed"
        one.replace()
        assert "the config is as it was" in frontctl(one, "reload", "--dry-run")
        was, one.config["drain"] = one.config["drain"], "7s"
        one.config["listeners"][0]["routes"] = [rpc_route(), rpc_route("/more")]
        one.config["pools"].append({"name": "other", "workers": ["unix:" + one.path("other-*.sock")]})
        one.write()
        would = asked(one, "reload", "--dry-run")
        assert {"key": "drain", "from": was, "to": "7s"} in would["changes"]
        assert would["pools_added"] == ["other"] and would["listeners_removed"] == []
        assert would["routes_added"] == [{"listener": "web", "path": "/more"}]
        assert [(stay["path"], stay["reason"]) for stay in would["connections_stay"]] == [
            ("/ws", "the route is not in the new config")]
        assert "~ drain: %s -> 7s" % was in frontctl(one, "reload", "--dry-run")
        assert client.rpc("demo.echo", {}).status == 200
    assert asked(one, "status")["generation"] == 3


class Fake:
    """A supervisor of another version: answers what its table has."""

    def __init__(self, path, answers):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen()
        self.answers = answers
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError, EOFError):
            while True:
                conn = Control.__new__(Control)
                conn.sock, _ = self.sock.accept()
                self.serve(conn)

    def serve(self, conn):
        with conn, contextlib.suppress(EOFError):
            conn.sock.sendall(frame(HELLO, {"program": "frontd", "version": "9.9", "control": 2, "new": [1]}))
            while True:
                kind, call, body = conn.read()
                if kind != REQUEST:
                    continue
                result = self.answers.get(body["method"])
                known = {"result": result} if result else {"error": {"code": -32601, "message": "no such method"}}
                conn.sock.sendall(frame(200, b"an extension"))
                conn.sock.sendall(frame(RESPONSE, {"jsonrpc": "2.0", "id": body["id"], **known}, call))


def test_supervisors_of_other_versions(tmp_path):
    """One that has less, and one that says more: what is there is shown."""
    class At:
        def path(self, name):
            return str(tmp_path / name)
    fake = Fake(str(tmp_path / "s"), {
        "status": {"version": "9.9", "news": {"x": 1}, "shards": [{"shard": 0, "more": True}]},
        "pools": {"pools": [{"pool": "a\033[2J", "waiting": 1.5e3, "later": None}]}})
    options = ["-S", str(tmp_path / "s")]
    text = frontctl(At(), "status", options=options)
    assert "version            9.9" in text and "pid" not in text.split("SHARD")[0]
    text = frontctl(At(), "pools", options=options)
    assert "1500" in text and "\033" not in text and " - " in text
    why = frontctl(At(), "workers", code=4, options=options)
    assert "frontd 9.9, does not know workers" in why
    fake.sock.close()


def test_what_shells_complete(tmp_path):
    path = os.path.join(ROOT, "frontd", "frontctl", "frontctl.bash")
    script = ("PATH=%s:$PATH; . %s; complete_it() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "
              "_frontctl; echo \"${COMPREPLY[*]}\"; }; complete_it frontctl und; complete_it frontctl reload --d; "
              "complete_it frontctl log w" % (os.path.dirname(control.FRONTCTL), path))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.split("\n")[:3] == ["undrain", "--dry-run", "warning"], done
