"""What a worker tells of a call before it answers: `progress: true`."""
import json
import threading

import pytest

from fakeworker import PUSH, echo, frame
from h2client import H2Client
from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request
from workerproc import LIBRARY

SSE = [("Accept", "application/json, text/event-stream")]
KINDS = ("ws", "frame", "line")


def steps(call):
    """`steps` [n]: that many messages of progress, then the answer."""
    if call.method == "steps":
        for n in range(call.params[0]):
            call.progress(b'{"step":\n%d}' % n, body=n % 2 == 1)
        call.reply("done")
    elif call.method == "fail":
        call.progress(b"1")
        call.error(-5, "no")
    elif call.method == "break":
        call.progress(b"1")
        call.send(b"no JSON")
    elif call.method == "wanted":
        call.reply(call.meta.get("progress", False))
    elif call.method not in ("hold", "frontd.disconnect"):
        echo(call)


def build(site, progress=True, handler=steps, streams=None, **keys):
    web = site(routes=[rpc_route(progress=progress), http_route(), ws_route(progress=progress)],
               streams={kind: {"progress": progress} for kind in streams or ()}, **keys)
    worker = web.fake(handler=handler)
    web.start()
    return web, worker


def events(text):
    """The data of Server-Sent Events."""
    assert text.endswith(b"\n\n")
    return [json.loads(one[len(b"data: "):]) for one in text[:-2].split(b"\n\n")]


def test_over_http(site):
    web, _ = build(site)
    with web.client() as client:
        for n in (1, 3):        # the connection goes on
            answer = client.rpc("steps", [n], headers=SSE)
            assert answer.status == 200 and answer.header("content-type") == "text/event-stream"
            assert answer.header("cache-control") == "no-store"
            assert events(answer.body) == [{"step": k} for k in range(n)] + [{"jsonrpc": "2.0", "id": 1, "result": "done"}]
        answer = client.rpc("steps", [0], headers=SSE)      # there is nothing to tell
        assert answer.header("content-type") == "application/json" and answer.json()["result"] == "done"


def test_errors_end_the_stream(site):
    web, worker = build(site, pools={"app": {}})
    with web.client() as client:
        for method, code in (("fail", -5), ("break", -32007)):
            said = events(client.rpc(method, headers=SSE).body)
            assert said[0] == 1 and said[1]["error"]["code"] == code and said[1]["id"] == 1
        assert client.rpc("demo.echo", [1]).status == 200


def test_a_deadline_and_a_lost_worker(site):
    web = site(routes=[rpc_route(progress=True, timeout="300ms")])
    worker = web.fake(handler=lambda call: call.progress(b"1"))
    web.start()
    with web.client() as client:
        said = events(client.rpc("a", headers=SSE).body)
        assert said[0] == 1 and said[1]["error"]["code"] == -32003
        client.send(rpc_request("a", headers=SSE))
        wait_for(lambda: client._fill() and b"data: 1" in client.buffer, "the first event")
        worker.die()
        said = events(client.read_response().body)
        assert said[1]["error"]["code"] in (-32002, -32003)


def test_a_batch(site):
    web, _ = build(site)
    body = b"[%s,%s,%s]" % (rpc_body("steps", [2], id=1), rpc_body("demo.note", id=None), rpc_body("steps", [1], id=2))
    with web.client() as client:
        client.send(request("POST", "/rpc", body=body, headers=SSE))
        said = events(client.read_response().body)
    assert [one["step"] for one in said[:3]] == [0, 1, 0]
    assert {one["id"]: one["result"] for one in said[3]} == {1: "done", 2: "done"} and len(said) == 4


def test_behind_another_request(site):
    """Answers stay in the order of their requests."""
    held = []
    web, worker = build(site, handler=lambda call: held.append(call) if call.method == "hold" else steps(call))
    with web.client() as client:
        client.send(rpc_request("hold", id=7) + rpc_request("steps", [2], headers=SSE))
        worker.wait_calls(2)
        assert held[0].channel.sync()
        held[0].reply("first")
        assert client.read_response().json()["result"] == "first"
        assert len(events(client.read_response().body)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_on_connections_that_stay(site, kind):
    web, _ = build(site, streams=("frame", "line"))
    with web.stays(kind) as client:
        client.ask("steps", [2], id=5)
        assert [client.read_json() for _ in range(3)] == [{"step": 0}, {"step": 1},
                                                          {"jsonrpc": "2.0", "id": 5, "result": "done"}]


def test_over_http2(site):
    web = site(routes=[rpc_route(progress=True)])
    web.config["listeners"][0]["h2c"] = True
    web.fake(handler=steps)
    web.start()
    with H2Client(web.address) as client:
        answer = client.wait(client.open("POST", "/rpc", rpc_body("steps", [3]), [("accept", "text/event-stream")]))
        assert events(answer.body)[-1]["result"] == "done" and len(events(answer.body)) == 4
        assert answer.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("accept, wanted", [
    ([("Accept", "text/event-stream")], True), ([("Accept", "TEXT/Event-Stream;q=0.1")], True),
    ([("Accept", "application/json"), ("Accept", "text/event-stream;q=1")], True),
    ([("Accept", "text/event-stream;q=0")], False), ([("Accept", "text/event-stream;q=0.000")], False),
    ([("Accept", "*/*")], False), ([("Accept", "text/*")], False), ([("Accept", "text/event-streams")], False), ([], False)])
def test_who_wants_it(site, accept, wanted):
    web, _ = build(site)
    with web.client() as client:
        assert client.rpc("wanted", headers=accept).json()["result"] is wanted
        answer = client.rpc("steps", [2], headers=accept)
        assert (answer.header("content-type") == "text/event-stream") is wanted
    assert ("the client has not asked for progress" in web.front.text()) is not wanted


def test_a_route_that_does_not_say_so(site):
    web, _ = build(site, progress=False)
    with web.client() as client, web.ws() as ws:
        assert client.rpc("wanted", headers=SSE).json()["result"] is False
        assert client.rpc("steps", [2], headers=SSE).json()["result"] == "done"
        assert ws.call("wanted") is False and ws.call("steps", [2], id=2) == "done"
    wait_for(lambda: "the client has not asked for progress" in web.front.text(), "a line in the log")


def test_what_a_worker_does_wrongly(site):
    def wrong(call):
        if call.method != "wrong":
            steps(call)
            return
        call.progress(b"\x00\x01", binary=True)
        call.channel.send(frame(PUSH, call.call + 1000, blob=b"1"))
        call.reply("fine")
    web, _ = build(site, handler=wrong)
    with web.client() as client:
        answer = client.rpc("wrong", headers=SSE)
        assert answer.header("content-type") == "application/json" and answer.json()["result"] == "fine"
        assert events(client.rpc("steps", [1], headers=SSE).body)[1]["result"] == "done"
    for text in ("a binary message cannot be sent over HTTP", "no call of this number is in progress"):
        assert text in web.front.text()


def test_a_client_that_does_not_read(site):
    """What has no room is dropped, and the answer comes behind what had."""
    sent = []

    def much(call):
        if call.method != "much":
            echo(call)
            return
        for n in range(200):
            call.progress(json.dumps("%d" % n + "x" * 50000).encode())
            call.channel.sync()
            sent.append(n)
        call.reply("done")
    web, worker = build(site, handler=None, limits={"write_buffer": "256KiB"})
    worker.handler = lambda call: threading.Thread(target=much, args=(call,), daemon=True).start()
    with web.client(rcvbuf=4096, timeout=20) as client:
        client.send(rpc_request("much", headers=SSE))
        wait_for(lambda: len(sent) == 200, "all of it", 20)
        said = events(client.read_response().body)
    assert said[-1]["result"] == "done" and 2 < len(said) < 150
    numbers = [int(one.rstrip("x")) for one in said[:-1]]
    assert numbers == sorted(numbers)


def test_a_client_that_goes(site):
    web, worker = build(site, handler=lambda call: call.progress(b"1"))
    client = web.client()
    client.send(rpc_request("a", headers=SSE))
    worker.wait_calls(1)
    wait_for(lambda: client._fill() and b"data: 1" in client.buffer, "the first event")
    client.close()
    worker.wait(lambda: worker.calls[0].cancelled, "CANCEL")
    worker.calls[0].progress(b"2")
    worker.calls[0].reply("late")
    assert worker.calls[0].channel.sync()
    assert "no call of this number" not in web.front.text()


SCRIPT = '''
from frontd_worker import Worker, run

worker = Worker()

@worker.method("coroutine")
async def coroutine(ctx, n):
    for step in range(n):
        ctx.progress({"step": step})
    return ctx.wants_progress

@worker.method("thread")
def thread(ctx, n):
    for step in range(n):
        ctx.progress({"step": step})
    return ctx.wants_progress

run(worker, "unix:%s")
'''


@pytest.mark.parametrize("method", ["coroutine", "thread"])
def test_the_python_library(site, tmp_path, method):
    web = site(routes=[rpc_route(progress=True), ws_route(progress=True)])
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT % web.path("app-1.sock"))
    web._program("app-1", ["/usr/bin/env", "PYTHONPATH=" + LIBRARY, "/usr/bin/python3", str(script)])
    web.start()
    with web.client() as client, web.ws() as ws:
        assert events(client.rpc(method, [2], headers=SSE).body) == [
            {"step": 0}, {"step": 1}, {"jsonrpc": "2.0", "id": 1, "result": True}]
        assert client.rpc(method, [2]).json()["result"] is False
        ws.ask(method, [1])
        assert [ws.read_json() for _ in range(2)] == [{"step": 0}, {"jsonrpc": "2.0", "id": 1, "result": True}]
