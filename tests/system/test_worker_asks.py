"""Workers of both libraries that ask clients (protocol section 9): by demo.ask, which asks its own caller."""

import json
import re
import signal

import pytest

from fakefront import BINARY, GOAWAY, NOTIFY, PUSH
from harness import Site, wait_for, ws_route
from workerproc import KINDS, Starter, starting

CONN = 2**63 + 5


@pytest.fixture(params=KINDS)
def start(request, tmp_path):
    yield from starting(tmp_path, request.param)


@pytest.fixture
def front(start):
    return start.demo().front()


def asked(front, conn=CONN, **params):
    """The call id of demo.ask, and what it has pushed, as a dict."""
    call = front.request("demo.ask", {"method": "confirm", **params}, id="a%d" % conn, conn=conn)
    frame = front.expect(PUSH)
    assert (frame.conn, frame.flags & BINARY, frame.meta, frame.blob) == (conn, 0, b"", b"")
    return call, json.loads(frame.body)


def respond(front, id, conn=CONN, said=None, **members):
    response = {"jsonrpc": "2.0", "id": id, **(members or {"result": True})}
    front.request("frontd.response", {"conn": str(said or conn), "response": response}, flags=NOTIFY, conn=conn)


def result(front, call):
    return json.loads(front.response(call).body)


def test_hello_says_how_ids_begin(start):
    one, other = (start.demo().front().worker["responses"] for _ in range(2))
    assert re.fullmatch("[A-Za-z0-9_-]{8,64}", one) and one != other


@pytest.mark.parametrize("params", [None, {"text": "?"}, [1, [2]]])
def test_ask(front, params):
    call, request = asked(front, params=params) if params is not None else asked(front)
    expected = {"jsonrpc": "2.0", "id": request["id"], "method": "confirm"}
    assert request == (expected if params is None else {**expected, "params": params})
    assert request["id"].startswith(front.worker["responses"])
    respond(front, request["id"], result={"a": [1, None, "\u20ac"]})
    answer = result(front, call)
    assert (answer["id"], answer["result"]) == ("a%d" % CONN, {"a": [1, None, "\u20ac"]})


def test_a_result_that_is_null(front):
    call, request = asked(front)
    respond(front, request["id"], result=None)
    answer = result(front, call)
    assert "result" in answer and answer["result"] is None and "error" not in answer


@pytest.mark.parametrize("data", [{}, {"data": [1]}])
def test_an_error_of_the_client(front, data):
    call, request = asked(front)
    error = {"code": -32601, "message": "no such \"method\"", **data}
    respond(front, request["id"], error=error)
    assert result(front, call)["error"] == error


def test_many_in_any_order(start):
    """Each answer to its own call, also where clients use the same numbers."""
    front = start.demo(concurrency=100).front()
    calls = {conn: asked(front, conn) for conn in range(1, 101)}
    assert len({request["id"] for _, request in calls.values()}) == 100
    for conn in reversed(range(1, 101)):
        respond(front, calls[conn][1]["id"], conn, result=conn)
    for conn, (call, _) in calls.items():
        assert result(front, call)["result"] == conn


def test_responses_that_are_not_it(front):
    """Of another connection, with another id, a second one: nothing happens."""
    call, request = asked(front)
    token = front.worker["responses"]
    respond(front, request["id"], conn=7, result="stolen")
    respond(front, request["id"], conn=CONN + 1, result="stolen")
    for id in (token, token + ".", token + ".0", token + ".99999999999999999999999", token + ".1x", request["id"] + "0",
               token + "x" * 100, "", None, 1, 1.5):
        respond(front, id, result="wrong")
    front.ping()
    assert not front.kept
    respond(front, request["id"], result="right")
    respond(front, request["id"], result="late")
    assert result(front, call)["result"] == "right"
    assert front.call("demo.add", [1, 2])["result"] == 3


def test_on_another_channel(start):
    """The front's shards are one front: asked on one, answered on the other; another front is not."""
    worker = start.demo()
    one, other, foreign = worker.front(shard=0), worker.front(shard=1), worker.front(instance="e" * 16)
    call, request = asked(one)
    respond(foreign, request["id"], result="foreign")
    foreign.ping()
    respond(other, request["id"], result="other")
    assert result(one, call)["result"] == "other"


def test_the_channel_that_has_asked_goes(start):
    worker = start.demo()
    one, other = worker.front(shard=0), worker.front(shard=1)
    call, request = asked(one)
    one.send(GOAWAY, body={"reason": "reload"})
    respond(other, request["id"], result="other")
    assert result(one, call)["result"] == "other"


def test_no_answer_in_time(front):
    call, request = asked(front, ms=50)
    assert result(front, call)["error"] == {"code": -32603, "message": "no answer"}
    respond(front, request["id"], result="late")
    call, request = asked(front)
    respond(front, request["id"], result="in time")
    assert result(front, call)["result"] == "in time"


def test_the_first_to_be_due_need_not_be_the_first(front):
    slow = asked(front, 1, ms=60_000)
    quick = asked(front, 2, ms=20)
    slower = asked(front, 3, ms=3_600_000)
    assert "error" in result(front, quick[0])
    for call, request in (slower, slow):
        respond(front, request["id"], 1 if call == slow[0] else 3)
        assert result(front, call)["result"] is True


def test_where_the_worker_stops(start):
    """After its GOAWAY no front gives it anything: those who wait are told, and it ends in good order."""
    worker = start.demo()
    front = worker.front()
    call, _ = asked(front, ms=3_600_000)
    worker.signal(signal.SIGTERM)
    assert front.goaway()["reason"] == "shutdown"
    assert result(front, call)["error"]["code"] == -32603
    front.close()
    assert worker.wait() == 0


def test_a_client_that_does_not_stay(front):
    answer = front.call("demo.ask", {"method": "confirm"})
    assert answer["error"]["code"] in (-32602, -32603)


SCRIPT = '''
from frontd_worker import RpcError, Worker, run

worker = Worker(concurrency=1, threads=4)

@worker.method("ask")
def ask(ctx, n):    # in a thread, which waits
    return [ctx.conn.ask("confirm", [n], timeout=10), n]

@worker.event("response")
async def response(ctx):
    ctx.conn.push(["not mine", ctx.params])

if __name__ == "__main__":
    run(worker, "{address}")
'''


def test_in_python_from_a_thread(tmp_path):
    """A plain handler waits, with every slot taken; what nobody has asked for goes to the handler of the event."""
    starter = Starter(tmp_path)
    try:
        front = starter.script(SCRIPT).front()
        call = front.request("ask", {"n": 5}, conn=CONN)
        request = json.loads(front.expect(PUSH).body)
        assert request["params"] == [5]
        respond(front, request["id"], result="yes")
        assert result(front, call)["result"] == ["yes", 5]
        respond(front, "b7", result=1)
        what, params = json.loads(front.expect(PUSH).body)
        assert what == "not mine" and params["response"]["id"] == "b7"
    finally:
        starter.close()


# With frontd between them

KINDS = ["ws", "frame", "line"]


@pytest.mark.parametrize("library", ["python_worker", "workerd"])
@pytest.mark.parametrize("kind", KINDS)
def test_through_frontd(library, kind):
    """Four workers, one call at a time each, which all wait for their clients: each answer finds its own."""
    keys = {"responses": True}
    with Site(shards=2, routes=[ws_route(**keys)], streams={"frame": keys, "line": keys}) as site:
        for n in range(4):
            getattr(site, library)("app-%d" % n, concurrency=1)
        site.start()
        wait_for(lambda: site.front.text().count("is there") >= 8, "every worker on every shard")
        clients = [site.stays(kind) for _ in range(4)]
        for n, client in enumerate(clients):
            client.ask("demo.ask", {"method": "confirm", "params": [n]}, id=7)
        requests = [client.read_json() for client in clients]
        for n in (2, 0, 3, 1):
            assert requests[n]["params"] == [n]
            clients[n].send_json({"jsonrpc": "2.0", "id": requests[n]["id"], "result": "yes %d" % n})
            assert clients[n].read_json() == {"jsonrpc": "2.0", "id": 7, "result": "yes %d" % n}
        for client in clients:
            client.close()
        assert "dropped" not in site.front.text()
