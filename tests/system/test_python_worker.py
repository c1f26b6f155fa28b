"""proto/python/frontd_worker: what it adds to what any worker does (test_worker_protocol.py)."""

import json
import os
import select
import signal

import pytest

from fakefront import (BINARY, CANCEL, GOAWAY, MORE, NOTIFY, PING, PONG, REQUEST, RESPONSE, RETRY,
                       WINDOW, encode, until)
from workerproc import Starter

FOREVER = {"ms": 3_600_000}

# Handlers that wait for a file or leave one behind, so that tests can see and steer them.
SCRIPT = '''
import asyncio, math, os, sys, time
from frontd_worker import HttpResponse, RpcError, Worker, run

worker = Worker(name="test", {options})

def touch(path):
    open(path, "w").close()

@worker.method("block")
def block(started, end, ctx):
    touch(started)
    while not os.path.exists(end):
        if ctx.cancelled:
            touch(started + ".cancelled")
        time.sleep(0.005)
    return "ended"

@worker.method("wait")
async def wait(started, cancelled):
    touch(started)
    try:
        await asyncio.sleep(3600)
    finally:
        touch(cancelled)

@worker.method("stubborn")
async def stubborn():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "all the same"

@worker.method("context")
def context(ctx, a=1, *, b=2):
    return {{"peer": ctx.peer, "headers": ctx.headers, "left": ctx.remaining(), "call": ctx.call,
            "conn": ctx.conn and ctx.conn.id, "retry": ctx.retry, "notify": ctx.notify, "binary": ctx.binary,
            "blob": ctx.blob.decode("latin-1"), "method": ctx.method, "params": ctx.params,
            "meta": ctx.meta, "front": ctx.front["front"], "a": a, "b": b}}

@worker.method("raw")
async def raw(path, ctx):
    with open(path, "wb") as file:
        file.write(bytes([ctx.binary, ctx.notify]) + ctx.blob)

@worker.method("fail")
def fail(how):
    if how == "type": raise TypeError("secret")
    if how == "exit": sys.exit(3)
    if how == "data": raise RpcError(7, "seven", data=[7])
    return {{"nan": math.nan, "set": set(), "deep": deep()}}[how]

def deep():
    value = []
    for _ in range(100000):
        value = [value]
    return value

@worker.method()
async def named_by_itself():
    return "yes"

@worker.http
def page(request):
    return {{"/bytes": lambda: b"\\x00\\xff", "/str": lambda: "\\u00fc",
            "/bad-header": lambda: HttpResponse(headers={{"x": "a\\r\\nb: c"}}),
            "/bad-status": lambda: HttpResponse(status=99), "/number": lambda: 5,
            "/header": lambda: HttpResponse(request.header("X-A", "none"), 201, [("X-B", 1)]),
            "/all": lambda: " ".join([request.method, request.scheme, request.authority,
                                      request.path, request.query])}}[request.path]()

if __name__ == "__main__":
    run(worker, "{address}")
'''


@pytest.fixture
def start(tmp_path):
    starter = Starter(tmp_path)
    yield starter
    starter.close()


@pytest.fixture
def worker(start):
    return script(start)


@pytest.fixture
def front(worker):
    return worker.front()


def script(start, options=""):
    return start.script(SCRIPT.format(options=options, address="{address}"))


def is_alive(front):
    return front.call("named_by_itself")["result"] == "yes"


def exists(path):
    return until(lambda: os.path.exists(path), path)


def touch(path):
    open(path, "w").close()


def error_code(frame):
    return json.loads(frame.body)["error"]["code"]


# Handlers

def test_context(front):
    meta = {"peer": "192.0.2.7:51412", "headers": {"a": "b"}, "deadline_ms": 60000, "x": 1}
    call = front.request("context", [3], flags=RETRY | BINARY, conn=77, meta=meta, blob=b"\xff")
    result = json.loads(front.response(call).body)["result"]
    assert 0 < result.pop("left") <= 60
    assert result == {
        "peer": "192.0.2.7:51412", "headers": {"a": "b"}, "call": call, "conn": 77, "retry": True,
        "notify": False, "binary": True, "blob": "\xff", "method": "context", "params": [3],
        "meta": meta, "front": "fakefront/1", "a": 3, "b": 2}


def test_context_of_a_route_that_asks_for_nothing(front):
    result = front.call("context", {"b": 5})["result"]
    assert (result["peer"], result["headers"], result["left"]) == (None, {}, None)
    assert (result["a"], result["b"], result["params"]) == (1, 5, {"b": 5})


@pytest.mark.parametrize("params", [[1, 2], {"ctx": 1}, {"c": 1}, {"a" * 100_000: 1}])
def test_invalid_params(worker, params):
    front = worker.front(max_frame=4096)
    error = front.call("context", params)["error"]
    assert error["code"] == -32602


def test_raw_message(front, tmp_path):
    path = str(tmp_path / "raw")
    front.request("raw", [path], flags=NOTIFY | BINARY, conn=5, blob=b"\x00\xff")
    until(lambda: os.path.exists(path) and os.path.getsize(path) == 4, "the notification")
    with open(path, "rb") as file:
        assert file.read() == b"\x01\x01\x00\xff"


@pytest.mark.parametrize("how", ["type", "nan", "set", "deep", "unknown", "exit"])
def test_a_handler_that_fails(worker, front, how):
    error = front.call("fail", [how])["error"]
    assert error == {"code": -32603, "message": "internal error"}
    assert is_alive(front)


def test_error_with_data(front):
    assert front.call("fail", ["data"])["error"] == {"code": 7, "message": "seven", "data": [7]}


@pytest.mark.parametrize("id", ["1.0", "1e2", "1E400", "-0.0", "12345678901234567890.5", "1" * 40])
def test_a_numeric_id_keeps_its_digits(front, id):
    front.send(REQUEST, call=1, body=b'{"jsonrpc":"2.0","method":"named_by_itself","id":%b}'
               % id.encode())
    assert front.response(1).body == b'{"jsonrpc":"2.0","id":%b,"result":"yes"}' % id.encode()


@pytest.mark.parametrize("body, code", [
    (b"", -32700), (b"{", -32700), (b"\xff", -32700), (b"[" * 100_000, -32700), (b"NaN", -32700),
    (b"[]", -32600), (b"{}", -32600), (b'{"method":1}', -32600),
    (b'{"method":"context","params":1}', -32600), (b'{"method":"none","id":{}}', -32601)])
def test_bodies_that_a_front_does_not_send(front, body, code):
    front.send(REQUEST, call=1, body=body)
    assert error_code(front.response(1)) == code
    front.last_call = 1
    assert is_alive(front)


def test_an_id_that_no_answer_has_room_for(worker):
    front = worker.front(max_frame=500)
    answer = front.call("named_by_itself", id="x" * 1000)
    assert answer["id"] is None and "error" in answer


def test_methods_are_announced(front):
    assert front.worker["methods"] == sorted([
        "block", "wait", "stubborn", "context", "raw", "fail", "named_by_itself", "http.request"])
    assert front.worker["name"] == "test" and front.worker["concurrency"] == 64


# http.request

def test_http_results(front):
    assert front.http(path="/bytes") == (200, [], b"\x00\xff")
    assert front.http(path="/str") == (200, [], "ü".encode())
    assert front.http(path="/header", headers=[("x-a", "1"), ("x-a", "2")]) == (
        201, [("x-b", "1")], b"1")
    assert front.http(path="/header")[2] == b"none"
    assert front.http("BREW", "/all", query="x=1")[2] == b"BREW http example.org /all x=1"


@pytest.mark.parametrize("path", ["/bad-header", "/bad-status", "/number", "/missing"])
def test_http_results_that_are_none(front, path):
    params = {"method": "GET", "path": path, "headers": []}
    assert front.call("http.request", params)["error"]["code"] == -32603


def test_http_params_that_are_none(front):
    answer = front.call("http.request", {"headers": [1]})
    assert answer["error"]["code"] == -32602


# Concurrency, over all channels

def test_no_more_than_concurrency_in_threads(start, tmp_path):
    worker = script(start, "concurrency=2")
    fronts = [worker.front() for _ in range(3)]
    names = [str(tmp_path / name) for name in "abc"]
    calls = []
    for front, name in zip(fronts, names):
        calls.append(front.request("block", [name, name + ".end"]))
        front.ping()  # so each REQUEST was read, in this order
    exists(names[0]), exists(names[1])
    assert not os.path.exists(names[2])
    touch(names[0] + ".end")
    exists(names[2])
    for front, name, call in zip(fronts, names, calls):
        touch(name + ".end")
        assert json.loads(front.response(call).body)["result"] == "ended"


def test_no_more_than_concurrency_in_coroutines(start):
    worker = start.demo(concurrency=1)
    first, second = worker.front(), worker.front()
    slow = first.request("demo.sleep", FOREVER)
    first.ping()
    call = second.request("demo.add", [1, 2])
    second.ping()
    assert second.kept == []
    first.send(CANCEL, call=slow)
    first.response(slow)
    second.response(call)


def test_concurrency_0_is_no_limit(start):
    front = start.demo(concurrency=0).front()
    assert front.worker["concurrency"] == 0
    calls = [front.request("demo.sleep", FOREVER) for _ in range(300)]
    assert front.call("demo.add", [1, 2])["result"] == 3
    for call in calls:
        front.send(CANCEL, call=call)
    for call in calls:
        front.response(call)


def test_a_waiting_call_can_be_cancelled(start):
    front = start.demo(concurrency=1).front()
    slow, waiting = front.request("demo.sleep", FOREVER), front.request("demo.add", [1, 2])
    front.send(CANCEL, call=waiting)
    assert error_code(front.response(waiting)) == -32800
    front.send(CANCEL, call=slow)
    front.response(slow)
    front.ping()
    assert front.kept == []


def test_more_calls_than_may_wait(start):
    """Reading pauses and goes on; nothing is lost and the order is kept."""
    front = start.demo(concurrency=1).front()
    slow = front.request("demo.sleep", FOREVER)
    frames = [encode(REQUEST, call=n, body=b'{"jsonrpc":"2.0","id":%d,"method":"demo.echo"}' % n)
              for n in range(2, 5001)]
    # CANCEL stands where it is still read: behind fewer calls than may wait.
    frames.insert(900, encode(CANCEL, call=slow))
    front.send_raw(b"".join(frames))
    assert error_code(front.expect(RESPONSE)) == -32800
    assert [front.expect(RESPONSE).call for _ in range(2, 5001)] == list(range(2, 5001))


# CANCEL and lost channels

def test_cancel_reaches_a_coroutine(front, tmp_path):
    started, cancelled = str(tmp_path / "started"), str(tmp_path / "cancelled")
    call = front.request("wait", [started, cancelled])
    exists(started)
    front.send(CANCEL, call=call)
    assert error_code(front.response(call)) == -32800
    assert os.path.exists(cancelled)


def test_a_coroutine_may_answer_all_the_same(front):
    call = front.request("stubborn")
    front.ping()
    front.send(CANCEL, call=call)
    assert json.loads(front.response(call).body)["result"] == "all the same"


def test_a_cancelled_thread_keeps_its_slot_until_it_ends(start, tmp_path):
    front = script(start, "concurrency=1").front()
    started, end = str(tmp_path / "started"), str(tmp_path / "end")
    call = front.request("block", [started, end])
    exists(started)
    waiting = front.request("named_by_itself")
    front.send(CANCEL, call=call)
    exists(started + ".cancelled")
    front.ping()
    assert front.kept == []
    touch(end)
    assert json.loads(front.response(call).body)["result"] == "ended"
    front.response(waiting)


def test_a_lost_channel_cancels_its_calls(worker, tmp_path):
    started, cancelled = str(tmp_path / "started"), str(tmp_path / "cancelled")
    front = worker.front()
    front.request("wait", [started, cancelled])
    exists(started)
    front.close()
    exists(cancelled)


def test_a_lost_channel_does_not_cancel_notifications(worker, tmp_path):
    started, end = str(tmp_path / "started"), str(tmp_path / "end")
    raw, cancelled = str(tmp_path / "raw"), str(tmp_path / "cancelled")
    front = worker.front()
    front.request("wait", [raw, cancelled], flags=NOTIFY)
    front.request("block", [started, end], flags=NOTIFY)
    exists(raw), exists(started)
    front.close()
    assert is_alive(worker.front())
    assert not os.path.exists(cancelled) and not os.path.exists(started + ".cancelled")
    touch(end)


# The front's mistakes

MISTAKES = dict([
    ("streamed", encode(REQUEST, MORE | NOTIFY, call=5, body=b"{}")),
    ("call 0", encode(REQUEST, call=0, body=b"{}")),
    ("call again", encode(REQUEST, call=1, body=b"{}")),
    ("meta", encode(REQUEST, call=5, meta=b"[]", body=b"{}")),
    ("meta cut", encode(REQUEST, call=5, meta=b"{", body=b"{}"))])
FRAMES = [encode(1, body=b'{"protocol":[1]}'), encode(RESPONSE, call=5, body=b"{}"), encode(PING, body=bytes(65))]


@pytest.mark.parametrize("name", MISTAKES)
def test_the_fronts_mistakes_cost_their_channel(worker, front, name):
    other = worker.front()
    assert is_alive(other)
    other.send_raw(MISTAKES[name])
    assert other.goaway()["last_call"] == 1
    assert other.expect_closed() == []
    assert is_alive(front)


def test_frames_that_are_wrong_by_themselves_are_dropped(worker, front):
    for data in FRAMES:
        front.send_raw(data)
        assert is_alive(front)
    assert worker.output().count(" is dropped") == len(FRAMES)
    front.send_raw(encode(WINDOW, call=5, body=b'{"bytes":1}'))
    assert is_alive(front)
    assert worker.output().count(" is dropped") == len(FRAMES)        # that one is not wrong


def test_a_front_that_never_reads(start):
    """It is read no further, its answers stay bounded, and others are served."""
    worker = start.demo()
    deaf, front = worker.front(), worker.front()
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "demo.echo", "params": ["x" * 60000]})
    data, sent, blocked = b"", 0, False
    deaf.socket.setblocking(False)
    for call in range(1, 2000):  # 120 MB, far beyond all buffers
        data += encode(REQUEST, call=call, body=body.encode())
        while data and not blocked:
            try:
                n = deaf.socket.send(data)
            except BlockingIOError:
                blocked = not select.select([], [deaf.socket], [], 1)[1]
                continue
            data, sent = data[n:], sent + n
        if blocked:
            break
    assert blocked and sent < 100_000_000
    assert front.call("demo.add", [1, 2])["result"] == 3
    deaf.socket.setblocking(True)
    deaf.response(1)


# Liveness (section 10)

def test_ping_after_silence_and_the_end_of_a_front_that_is_gone(start):
    worker = script(start, "ping_after=0.1, dead_after=0.3")
    front = worker.front()
    assert front.expect(PING)
    assert front.goaway()["reason"] == "timeout"
    assert front.expect_closed() == []


def test_a_front_that_answers_pings_stays(start):
    worker = script(start, "ping_after=0.05, dead_after=5")
    front = worker.front()
    for _ in range(5):
        front.send(PONG, body=front.expect(PING).body)
    assert is_alive(front)


def test_calls_in_progress_on_any_channel_keep_a_silent_front(start, tmp_path):
    worker = script(start, "ping_after=0.05, dead_after=0.1")
    started, end = str(tmp_path / "started"), str(tmp_path / "end")
    busy, call = worker.dial(), 1
    busy.hello(encode(REQUEST, call=call, body=json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "block", "params": [started, end]}).encode()))
    exists(started)
    silent = worker.front()
    assert silent.expect(PING)
    for _ in range(10):  # each answered PING on the other channel: another 0.05 s have passed
        busy.send(PONG, body=busy.expect(PING).body)
    assert select.select([silent.socket], [], [], 0)[0] == []
    touch(end)
    busy.response(call)
    assert silent.goaway()["reason"] == "timeout"


# Stopping

def test_a_blocking_handler_is_finished(worker, front, tmp_path):
    started, end = str(tmp_path / "started"), str(tmp_path / "end")
    call = front.request("block", [started, end])
    exists(started)
    worker.signal(signal.SIGTERM)
    assert front.goaway()["last_call"] == call
    touch(end)
    assert json.loads(front.response(call).body)["result"] == "ended"
    assert front.expect_closed() == []
    assert worker.wait() == 0


def test_a_notification_is_finished(worker, front, tmp_path):
    started, end = str(tmp_path / "started"), str(tmp_path / "end")
    front.request("block", [started, end], flags=NOTIFY)
    exists(started)
    worker.signal(signal.SIGINT)
    assert front.goaway()["reason"] == "shutdown"
    front.expect_closed()
    assert worker.process.poll() is None
    touch(end)
    assert worker.wait() == 0


def test_calls_that_wait_are_finished(start):
    worker = start.demo(concurrency=1)
    front = worker.front()
    slow, waiting = front.request("demo.sleep", FOREVER), front.request("demo.add", [1, 2])
    front.ping()
    worker.signal(signal.SIGTERM)
    assert front.goaway()["last_call"] == waiting
    front.send(CANCEL, call=slow)
    assert json.loads(front.response(waiting).body)["result"] == 3
    front.expect_closed()
    assert worker.wait() == 0


def test_the_second_signal_ends_it_at_once(worker, front):
    front.request("stubborn")
    front.ping()
    worker.signal(signal.SIGTERM)
    front.expect(GOAWAY)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 128 + signal.SIGTERM
    assert not os.path.exists(worker.address[len("unix:"):])


def test_a_channel_that_has_said_nothing_is_told_too(worker):
    quiet, front = worker.dial(), worker.front()
    worker.signal(signal.SIGTERM)
    assert quiet.goaway() == {"reason": "shutdown", "last_call": 0}
    front.close()
    quiet.expect_closed()
    assert worker.wait() == 0


# The command line

def test_command_line(start):
    text = SCRIPT.format(options="concurrency=3", address="{address}")
    worker = start.script(text, "--concurrency", "5", "--listen", "{address}.other", up=False)
    worker.address += ".other"
    assert worker.wait_until_up().front().worker["concurrency"] == 5


@pytest.mark.parametrize("arguments", [["--concurrency", "-1"], ["--concurrency", "x"], ["--nonsense"]])
def test_command_lines_that_are_none(start, arguments):
    worker = start.script(SCRIPT.format(options="", address="{address}"), *arguments, up=False)
    assert worker.wait() == 2 and worker.output()
