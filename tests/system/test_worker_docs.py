"""The Python in docs/writing-workers.md, taken from the page and run, so that it cannot rot."""

import json
import os
import re
import signal

import pytest

from fakefront import CANCEL, DATA, GOAWAY, HELLO, MORE, NOTIFY, PUBLISH, PUSH, RESPONSE, SUBSCRIBE, WINDOW
from workerproc import PYTHON, ROOT, Starter

PAGE = os.path.join(ROOT, "docs", "writing-workers.md")


def blocks():
    """The page's Python blocks by the file name in their first line."""
    with open(PAGE, encoding="utf-8") as file:
        found = re.findall(r"^```python\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    names = [re.match(r"# (\w+\.py)\n", text) for text in found]
    assert all(names), "a block without a file name is not tested"
    return {name[1]: text for name, text in zip(names, found)}


BLOCKS = blocks()


@pytest.fixture
def start(tmp_path):
    starter = Starter(tmp_path)
    yield starter
    starter.close()


def run_library(start, name):
    return start.script(BLOCKS[name], "--listen", "{address}")


def run_plain(start):
    path = start.folder / "plain.sock"
    (start.folder / "plain.py").write_text(BLOCKS["plain.py"])
    return start.start([PYTHON, str(start.folder / "plain.py"), str(path)], f"unix:{path}")


def stop(worker):
    worker.signal(signal.SIGTERM)
    for front in worker.fronts:
        front.expect_closed()
    assert worker.wait() == 0


def test_the_examples_are_as_short_as_the_page_says():
    assert sorted(BLOCKS) == ["clock.py", "news.py", "orders.py", "plain.py", "site.py"]
    assert len(BLOCKS["orders.py"].splitlines()) < 30
    lines = [line for line in BLOCKS["plain.py"].splitlines() if line.strip()]
    assert len(lines) < 55
    assert "frontd_worker" not in BLOCKS["plain.py"]


def test_orders(start):
    worker = run_library(start, "orders.py")
    front = worker.front()
    assert front.worker["concurrency"] == 64
    assert front.call("orders.get", {"id": 7})["result"] == {"id": 7, "item": "tea"}
    error = front.call("orders.get", [9])["error"]
    assert (error["code"], error["data"]) == (404, {"id": 9})
    call = front.request("orders.add", ["milk"], meta={"peer": "192.0.2.7:1"})
    assert json.loads(front.response(call).body)["result"] == 8
    assert front.call("orders.get", [8])["result"]["from"] == "192.0.2.7:1"
    assert front.call("orders.get")["error"]["code"] == -32602
    assert front.call("orders.eat")["error"]["code"] == -32601
    stop(worker)


def test_site(start):
    worker = run_library(start, "site.py")
    front = worker.front()
    status, headers, body = front.http(path="/")
    assert (status, b"Hello" in body) == (200, True)
    assert dict(headers)["content-type"].startswith("text/html")
    assert front.http("PUT", "/a", b"12345") == (201, [], b"5 bytes\n")
    assert front.http(path="/b")[0] == 404
    assert front.call("visits", ["/a"])["result"] == 1
    stop(worker)


def test_clock(start):
    """Events as they come; a long answer no faster than it is taken."""
    worker = run_library(start, "clock.py")
    front = worker.front()
    call = front.request("http.request", {"method": "GET", "path": "/events", "headers": []})
    first, part = front.expect(RESPONSE), front.expect(DATA)
    assert first.flags & MORE and json.loads(first.body)["result"]["headers"] == [["content-type", "text/event-stream"]]
    assert part.flags & MORE and re.fullmatch(rb"event: tick\ndata: [\d:]{8}\n\n", part.blob)
    front.send(CANCEL, call=call)
    last = front.expect(RESPONSE)
    assert not last.flags & MORE and json.loads(last.body)["error"]["code"] == -32800
    front.kept.clear()
    call, got = front.request("http.request", {"method": "GET", "path": "/", "headers": []}), b""
    assert front.response(call).flags & MORE
    while len(got) < 262144:
        got += front.expect(DATA).blob
    assert len(got) == 262144 and got.startswith(b"0\n1\n2\n")
    front.ping()
    assert not front.kept, "more than the window"
    front.send(WINDOW, call=call, body=b'{"bytes":10}')
    assert len(front.expect(DATA).blob) <= 10


def test_news(start):
    worker = run_library(start, "news.py")
    front = worker.front()
    assert front.call("news.follow")["error"]["code"] == -32602
    assert front.call("news.follow", conn=7)["result"] is True
    frame = front.expect(SUBSCRIBE)
    assert (frame.conn, json.loads(frame.meta)) == (7, {"topic": "news"})
    for conn, path in ((8, "/editors"), (9, "/ws")):
        front.request("frontd.connect", {"conn": str(conn), "path": path, "headers": {}, "peer": "p"},
                      flags=NOTIFY, conn=conn)
    assert front.call("news.write", ["hi"], conn=7)["result"] is None
    assert json.loads(front.expect(PUBLISH).body)["params"] == {"text": "hi"}
    frame = front.expect(PUSH)
    assert (frame.conn, json.loads(frame.body)["params"]) == (8, ["hi"])
    front.request("frontd.disconnect", {"conn": "8", "code": 1000}, flags=NOTIFY, conn=8)
    assert front.call("news.write", {"text": "hi"})["result"] is None
    front.expect(PUBLISH)
    assert front.kept == []
    stop(worker)


def test_plain(start):
    worker = run_plain(start)
    fronts = [worker.front() for _ in range(3)]
    assert fronts[0].worker["concurrency"] == 1
    for n, front in enumerate(fronts):
        assert front.call("add", [n, 1])["result"] == n + 1
        assert front.call("add", {"a": 1, "b": 2}, id="x") == {
            "jsonrpc": "2.0", "id": "x", "result": 3}
        assert front.call("nothing")["error"]["code"] == -32601
        assert front.call("greet", [])["error"]["code"] == -32603
        front.ping(b"\x00\xff")
        front.request("greet", ["you"], flags=NOTIFY)
        front.send(200, body=b"an extension")
        call = front.request("greet", ["you"], meta={"peer": "p"}, blob=b"ignored")
        assert json.loads(front.response(call).body)["result"] == "Hello, you"
        front.ping()
        assert front.kept == []


def test_plain_refuses_what_it_must(start):
    worker = run_plain(start)
    front, other, strange = worker.front(), worker.front(), worker.dial()
    other.send_raw(b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n")
    assert [frame.type for frame in other.expect_closed()] == [GOAWAY]
    strange.send(HELLO, body={"protocol": [2]})
    assert strange.goaway()["reason"] == "version"
    strange.expect_closed()
    assert front.call("add", [1, 2])["result"] == 3


def test_plain_can_be_started_again(start):
    worker = run_plain(start)
    worker.kill()
    assert run_plain(start).front().call("add", [1, 2])["result"] == 3
