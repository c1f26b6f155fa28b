"""What shards tell an operator: conns, topics, kick, errors, tap, explain, profile (docs/control.md)."""
import contextlib
import json
import os
import signal
import subprocess
import threading

import pytest

from control import FRONTCTL, Control, asked, frontctl
from duplex import Crowd
from fakeworker import echo, hold
from harness import LIMIT, rpc_request, rpc_route, wait_for, ws_route
from reloads import USR2, Paused
from wsclient import WsClosed


def rows(site, *words):
    return asked(site, "conns", *words)["conns"]


def ids(found):
    return {int(row["id"]) for row in found}


@pytest.fixture
def made(front):
    site = front(shards=2, routes=[rpc_route(methods=[{"match": "report.*", "timeout": "7s", "calls": 5}]), ws_route(events=True)], streams={"line": {}},
                 drain="3s")
    site.worker = site.fake()
    return site.start()


def test_connections_and_topics(made):
    with Crowd(made, made.worker) as crowd, made.client() as web:
        crowd.spread(3)
        crowd.add("line")
        crowd.join("news", crowd.members[:4])
        crowd.join("n\"ew\u00fc\x1b[31m".encode().decode(), crowd.members[:1])
        made.worker.handler = hold
        web.send(rpc_request("slow", [1]))
        made.worker.wait_calls(1)
        known = {conn for _, conn, _ in crowd.members}

        answer = asked(made, "conns")
        assert answer["complete"] and answer["silent"] == [] and answer["shards"] == 2
        assert answer["matched"] == len(crowd.members) + 1
        assert known < ids(answer["conns"])
        row, = [r for r in answer["conns"] if int(r["id"]) not in known]
        assert row["protocol"] == "http1" and row["calls"] == 1 and row["listener"] == "web"
        assert row["peer"].startswith("127.0.0.1:")
        assert ids(rows(made, "--calls", "1")) == ids([row])
        assert ids(rows(made, "--peer", row["peer"])) == ids([row])
        assert ids(rows(made, "--topic", "news")) == {conn for _, conn, _ in crowd.members[:4]}
        assert ids(rows(made, "--protocol=line")) == {crowd.members[-1][1]}
        assert ids(rows(made, "--listener", "line")) == {crowd.members[-1][1]}
        assert len(rows(made, "--route", "/ws")) == 6
        assert rows(made, "--older", "1h") == []
        pages = [rows(made, "--limit", "3", "--offset", str(at)) for at in (0, 3, 6, 9)]
        assert [len(page) for page in pages] == [3, 3, 2, 0]
        assert set().union(*map(ids, pages)) == known | ids([row])
        assert [r["topics"] for r in rows(made, "--sort", "topics", "--limit", "2")] == [2, 1]

        assert asked(made, "topics")["topics"] == [
            {"name": "news", "members": 4, "shards": 2},
            {"name": "n\"ew\u00fc\x1b[31m", "members": 1, "shards": 1}]
        assert [t["name"] for t in asked(made, "topics", "--prefix", "n\"")["topics"]] == ["n\"ew\u00fc\x1b[31m"]
        text = frontctl(made, "topics", "--sort", "name")
        assert "\x1b" not in text and text.index("n\"ew") < text.index("news")
        assert str(crowd.members[0][1]) in frontctl(made, "conns")

        # However often they are asked: an answer to a question is never one too many.
        shards = made.shards()
        with Control(made) as control:
            for _ in range(300):
                assert "result" in control.call("topics")[0]
        assert made.shards() == shards

        frontctl(made, "conns", "--sort", "size", code=2)
        frontctl(made, "conns", "--peer", "nobody", code=2)
        frontctl(made, "conns", "--older", "x", code=2)
        frontctl(made, "topics", "now", code=2)


def test_kick(made):
    with Crowd(made, made.worker) as crowd, made.client() as web:
        ws, conn, _ = crowd.add()
        line, of_line, _ = crowd.add("line")
        assert "closed" in frontctl(made, "kick", str(conn))
        with pytest.raises(WsClosed) as closed:
            ws.read_text()
        ws.close()
        assert closed.value.code == 1008 and closed.value.reason == "closed by an operator"
        assert made.worker.wait_disconnect(conn).params["code"] == 1008
        frontctl(made, "kick", str(of_line))
        line.ends()
        assert web.rpc("demo.echo", [1]).status == 200
        row, = rows(made, "--protocol", "http1")
        assert asked(made, "kick", row["id"]) == {"outcome": "kicked"}
        assert web.at_end()
        assert "there is no connection" in frontctl(made, "kick", row["id"], code=4)
        for wrong in ("x", "", "0", str(1 << 64)):
            frontctl(made, "kick", wrong, code=2)
        frontctl(made, "kick", code=2)


def test_over_reloads(made):
    """Both generations are asked; each connection is there once. One that is silent is said to be so."""
    with Crowd(made, made.worker) as crowd, made.client() as busy:
        crowd.spread(2)
        known = {conn for _, conn, _ in crowd.members}
        made.worker.handler = hold
        busy.send(rpc_request("slow", [1]))
        slow = made.worker.wait_calls(1)
        made.reload(gone=False)
        wait_for(lambda: ids(rows(made, "--protocol", "websocket")) == known, "all that have moved")
        answer = asked(made, "conns")
        assert answer["shards"] > 2 and len(answer["conns"]) == len(known) + 1, answer
        kicked, conn, _ = crowd.members[0]
        frontctl(made, "kick", str(conn))
        with contextlib.suppress(WsClosed):
            kicked.read_text()
        wait_for(lambda: ids(rows(made, "--protocol", "websocket")) == known - {conn}, "its end")
        slow.reply([1])
        made.wait_log("the old shards are gone")
        stopped = made.shards()[0]
        with Paused(stopped):
            answer = asked(made, "conns")
            assert [one["pid"] for one in answer["silent"]] == [stopped] and answer["shards"] == 1
        made.reload(USR2)
        assert asked(made, "conns")["silent"] == []
        os.kill(made.front.pid, signal.SIGKILL)
        made.front.wait()
        made.launch(ready=False)
        made.wait_log("found the shards")
        made.wait_log("the old shards are gone", 3)
        answer = asked(made, "conns", "--protocol", "websocket")
        assert answer["silent"] == [] and ids(answer["conns"]) == known - {conn}


def errors(site, listener):
    return {e["last"]["what"].split(" (")[0]: e for e in asked(site, "errors")["errors"] if e.get("listener") == listener}


def test_errors(made):
    """The last refused request of a listener with the byte that was wrong, whichever shard has refused it."""
    with made.client() as web:
        web.send(b"GET /a?access_token=abc HTTP/1.1\r\nAuthorization: Basic QQ==\r\nHo st: x\r\n\r\n")
        assert web.read_response().status == 400
    for _ in range(3):
        assert made.rpc("x" * 10, {"password": "abc"}, path="/none").status == 404
    with made.stream("line") as line:
        line.send_text(b'{"jsonrpc":"2.0","method":"a","params":{"token":"abc"},}')
        assert line.read_json()["error"]["code"] == -32700
    made.worker.handler = lambda c: c.send(b"no")
    assert made.rpc("bad.answer", [1]).json()["error"]["code"] == -32007
    found = errors(made, "web")
    last = found["a request is refused, its HTTP is wrong"]["last"]
    assert last["bytes"] == ("GET /a?access_token=*** HTTP/1.1\\r\\nAuthorization:***********\\r\\n"
                             "Ho st: x\\r\\n\\r\\n"), last
    assert last["offset"] == 63 and last["length"] == 73
    none = found["a request is refused, there is no route for it"]
    assert none["times"] == 3 and none["last"]["bytes"].startswith("POST /none\\r\\nHost: ")
    last = errors(made, "line")["a request is refused that is no JSON"]["last"]
    assert last["bytes"] == '{"jsonrpc":"2.0","method":"a","params":{"token":"***"},}' and last["offset"] == 55
    worker, = [e["last"] for e in asked(made, "errors")["errors"] if "listener" not in e]
    assert worker["pool"] == "app" and worker["method"] == "bad.answer" and worker["what"] == "no JSON", worker
    text = frontctl(made, "errors")
    assert "^ wrong here (byte 63)" in text and "abc" not in text and "method bad.answer" in text
    lines = text.splitlines()
    at = next(i for i, one in enumerate(lines) if "byte 63" in one)
    assert lines[at - 1][lines[at].index("^")] == " ", lines[at - 1:at + 1]


def test_tap(made):
    made.worker.handler = echo
    with made.client() as web, made.ws() as ws:
        argv = [FRONTCTL, "-c", made.path("frontd.yaml"), "tap", "--json", "--bodies", "--method", "user.*", "--count", "3"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as tap:
            # From when all shards are tapped on, nothing is missed: a call is made until one is seen.
            lines = []
            reader = threading.Thread(target=lambda: lines.extend(tap.stdout))
            reader.start()
            calls = 0
            while reader.is_alive() and calls < 500:
                assert web.rpc("user.get", {"password": "abc", "n": calls}).status == 200
                assert web.rpc("other", [calls]).status == 200
                ws.call("user.set", {"n": calls})
                calls += 1
                reader.join(0.05)
            assert tap.wait(LIMIT) == 0
        seen = [json.loads(line) for line in lines]
        assert len(seen) == 3 and {one["method"] for one in seen} <= {"user.get", "user.set"}
        for one in seen:
            assert one["code"] == "ok" and one["whole_us"] >= one["worker_us"] > 0 and one["worker"].endswith("app-1.sock")
            assert "abc" not in one["request"] and '"n": ' in one["request"] and one["bytes_in"] > len(one["request"])
        conn, _ = ws.who()
        row, = [r for r in rows(made, "--sort", "rate") if int(r["id"]) == conn]
        assert row["requests_per_s"] == 0
        assert "REQUESTS/S" in frontctl(made, "conns", "--sort", "rate")
        assert frontctl(made, "tap", "--for", "0") == ""
        frontctl(made, "tap", "--for", "2h", code=2)
        frontctl(made, "tap", "--conn", "x", code=2)


def test_explain(made):
    def explained(*words, listener="web"):
        one, = asked(made, "explain", *words, "--listener", listener)["listeners"]
        return one

    with open(made.path("frontd.yaml")) as f:
        lines = f.read().splitlines()
    one = explained("POST", "/rpc", "--rpc", "user.get")
    assert one["route"]["path"] == "/rpc" and one["pool"]["name"] == "app" and "refused" not in one
    worker, = one["pool"]["workers"]
    assert worker["state"] == "ready" and worker["takes"] and worker["worker"].endswith("app-1.sock")
    assert '"web"' in "".join(lines[one["line"] - 1:one["line"] + 2])
    assert '"/rpc"' in "".join(lines[one["route"]["line"] - 1:one["route"]["line"] + 2])
    assert '"app"' in "".join(lines[one["pool"]["line"] - 1:one["pool"]["line"] + 2])
    assert explained("GET", "/rpc")["refused"].startswith("405")
    assert explained("GET", "/nothing")["refused"].startswith("404")
    assert explained("POST", "/rpc", "--origin", "https://evil.test")["route"]["kind"] == "jsonrpc"
    assert explained("--rpc", "a.b", listener="line")["route"]["kind"] == "stream"
    text = frontctl(made, "explain", "POST", "/rpc", "--rpc", "user.get")
    assert "pool      app (line" in text and "app-1.sock: ready" in text
    applies = explained("POST", "/rpc", "--rpc", "report.year")["applies"]
    assert [line.partition(" (line")[0] for line in applies] == ["timeout: 7000 ms", "calls: 5"]
    assert [line.partition(" (")[0] for line in one["applies"]] == ["timeout: 30000 ms"]
    assert "applies   calls: 5 (line" in frontctl(made, "explain", "POST", "/rpc", "--rpc", "report.year")
    frontctl(made, "explain", "POST", "/rpc", "--listener", "other", code=4)
    frontctl(made, "explain", "POST", code=2)
    # What is said is what is done.
    assert made.rpc("frontd.connect").json()["error"]["code"] == -32601
    assert explained("POST", "/rpc", "--rpc", "frontd.connect")["refused"].startswith("-32601")


def test_profile(made):
    stop = threading.Event()

    def load():
        with made.client() as web:
            while not stop.is_set():
                assert web.rpc("demo.echo", [1]).status == 200
    thread = threading.Thread(target=load)
    thread.start()
    try:
        answer = asked(made, "profile", "--for", "1")
    finally:
        stop.set()
        thread.join()
    assert len(answer["shards"]) == 2 and answer["silent"] == []
    for one in answer["shards"]:
        told = one["answer"]
        assert sum(told["ns"].values()) == told["whole_ns"] > 900000000
    busy = [one["answer"]["ns"] for one in answer["shards"]]
    assert all(sum(ns[kind] for ns in busy) > 0 for kind in ("waiting", "reading", "workers", "writing")), busy
    assert "FAN-OUT" in frontctl(made, "profile", "--for", "0")
    frontctl(made, "profile", "--for", "2m", code=2)
