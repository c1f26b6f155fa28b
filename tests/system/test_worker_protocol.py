"""What any worker must do, from proto/PROTOCOL.md; run against each of workerproc.DEMO_WORKERS."""

import json
import signal

import pytest

from fakefront import (BINARY, CANCEL, GOAWAY, HEADER, HELLO, NOTIFY, PING, PONG, PUBLISH, PUSH,
                       REQUEST, RESPONSE, RETRY, SUBSCRIBE, UNSUBSCRIBE, FakeFront, encode)
from workerproc import KINDS, Starter

FOREVER = {"ms": 3_600_000}  # demo.sleep that ends only by CANCEL


@pytest.fixture(params=KINDS)
def start(request, tmp_path):
    starter = Starter(tmp_path, request.param)
    yield starter
    starter.close()


@pytest.fixture
def worker(start):
    return start.demo()


@pytest.fixture
def front(worker):
    return worker.front()


def error_code(response):
    return response["error"]["code"]


def is_alive(front):
    """The channel works: a call is answered."""
    return front.call("demo.add", [20, 22])["result"] == 42


# HELLO (section 4)

def test_hello(start):
    worker = start.demo(concurrency=7)
    hello = worker.front().worker
    assert hello["protocol"] == 1
    assert hello["concurrency"] == 7
    assert hello.get("pid", worker.process.pid) == worker.process.pid
    assert hello["max_frame"] >= 65536


def test_hello_with_unknown_members_and_versions(worker):
    assert is_alive(worker.front(protocol=[2, 1], future={"a": [None]}))


def test_hello_with_only_what_is_required(worker):
    front = worker.dial()
    front.send(HELLO, body={"protocol": [1]})
    front.expect(HELLO)
    assert is_alive(front)


def test_no_common_version(worker, front):
    other = worker.dial()
    other.send(HELLO, body={"protocol": [2, 3]})
    assert other.goaway()["reason"] == "version"
    assert other.expect_closed() == []
    assert is_alive(front)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"{}", b"null", b'{"protocol":[1]}x', b"\xff"])
def test_bad_hello(worker, front, body):
    other = worker.dial()
    other.send(HELLO, body=body)
    assert [frame.type for frame in other.expect_closed()] == [GOAWAY]
    assert is_alive(front)


@pytest.mark.parametrize("type", [REQUEST, PING, CANCEL, RESPONSE])
def test_something_else_before_hello(worker, front, type):
    other = worker.dial()
    other.send(type, call=1, body={"jsonrpc": "2.0", "id": 1, "method": "demo.echo"})
    assert HELLO not in [frame.type for frame in other.expect_closed()]
    assert is_alive(front)


def test_no_hello_at_all(worker, front):
    silent = worker.dial()
    assert all(frame.type == GOAWAY for frame in silent.expect_closed())
    assert is_alive(front)


# Calls (section 5)

@pytest.mark.parametrize("params", [
    None, [], {}, [1, "two", None, True, 1.5], {"a": {"b": [[], {}]}}, {"ctx": 1, "self": 2},
    ["ünïcödé \u0000 \U0001f600"]])
def test_echo(front, params):
    assert front.call("demo.echo", params)["result"] == params


def test_params_by_position_and_name(front):
    assert front.call("demo.add", [1, 2])["result"] == 3
    assert front.call("demo.add", {"b": 1, "a": 0.5})["result"] == 1.5


@pytest.mark.parametrize("id", ["a", "", "ü", 0, -1, 1.5, 2**53 + 1, 10**30, "x" * 5000])
def test_the_id_is_the_clients(front, id):
    assert front.call("demo.add", [1, 1], id=id) == {"jsonrpc": "2.0", "id": id, "result": 2}


def test_id_null_is_a_call(front):
    call = front.next_call()
    front.send(REQUEST, call=call, body={"jsonrpc": "2.0", "id": None, "method": "demo.add",
                                         "params": [1, 1]})
    assert json.loads(front.response(call).body) == {"jsonrpc": "2.0", "id": None, "result": 2}


def test_two_calls_with_the_same_id(front):
    calls = [front.request("demo.add", [n, 0], id="same") for n in range(2)]
    results = [json.loads(front.response(call).body)["result"] for call in calls]
    assert results == [0, 1]


def test_unknown_method(front):
    assert error_code(front.call("demo.nothing")) == -32601
    assert is_alive(front)


@pytest.mark.parametrize("params", [[], [1], {"a": 1}, ["a", "b"], [[], {}]])
def test_invalid_params(front, params):
    assert error_code(front.call("demo.add", params)) == -32602


def test_error_of_the_worker(front):
    error = front.call("demo.error", {"code": 17, "message": "so \u2028 it is"})["error"]
    assert (error["code"], error["message"]) == (17, "so \u2028 it is")


def test_notifications_are_not_answered(front):
    front.request("demo.echo", [1], flags=NOTIFY)
    front.request("demo.nothing", flags=NOTIFY)
    front.request("demo.add", ["bad"], flags=NOTIFY)
    front.send(REQUEST, NOTIFY, call=0, body={"jsonrpc": "2.0", "method": "demo.echo"})
    assert is_alive(front)
    front.ping()
    assert front.kept == []


def test_answers_in_any_order(front):
    slow = front.request("demo.sleep", FOREVER)
    assert is_alive(front)
    front.send(CANCEL, call=slow)
    front.response(slow)


def test_sleep(front):
    assert front.call("demo.sleep", {"ms": 1})["result"] is True


def test_ids_of_call_and_conn_may_be_large(front):
    front.last_call = 2**62
    call = front.request("demo.add", [1, 2], id=1, conn=2**64 - 1)
    assert call > 2**62
    assert json.loads(front.response(call).body)["result"] == 3


def test_meta_blob_flags_and_reserved_bits_do_no_harm(front):
    meta = {"peer": "192.0.2.7:51412", "deadline_ms": 1000, "headers": {"a": "b"}, "later": [1]}
    call = front.request("demo.add", [1, 2], flags=RETRY | 0xf0, meta=meta, blob=b"\x00\xff")
    assert json.loads(front.response(call).body)["result"] == 3
    data = bytearray(encode(PING, 0xff, body=b"reserved"))
    data[6:8] = b"\xff\xff"
    front.send_raw(data)
    assert front.expect(PONG).body == b"reserved"


def test_a_thousand_calls_in_one_write(front):
    front.send_raw(b"".join(
        encode(REQUEST, call=n, body=b'{"jsonrpc":"2.0","id":%d,"method":"demo.add","params":[%d,1]}'
               % (n, n)) for n in range(1, 1001)))
    front.last_call = 1000
    results = {}
    for _ in range(1000):
        frame = front.expect(RESPONSE)
        assert frame.call not in results
        results[frame.call] = json.loads(frame.body)["result"]
    assert results == {n: n + 1 for n in range(1, 1001)}


def test_frames_byte_by_byte(front):
    front.send_raw(b"")
    data = encode(PING, body=b"slow") + encode(200, body=b"skipped") + encode(
        REQUEST, call=1, meta=b"{}", body=b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}', blob=b"b")
    for n in range(len(data)):
        front.send_raw(data[n:n + 1])
    assert front.expect(PONG).body == b"slow"
    assert json.loads(front.response(1).body) == {"jsonrpc": "2.0", "id": 1, "result": None}


def test_a_large_call(front):
    text = "x" * (4 * 1024 * 1024)
    assert front.call("demo.echo", [text])["result"] == [text]


def test_answer_over_the_fronts_limit(worker):
    front = worker.front(max_frame=2000)
    assert "error" in front.call("demo.echo", ["x" * 3000])  # the front would refuse a longer frame
    assert is_alive(front)


# CANCEL (section 5)

def test_cancelled_calls_are_answered_once(front):
    calls = [front.request("demo.sleep", FOREVER) for _ in range(10)]
    for call in calls * 2:
        front.send(CANCEL, call=call)
    for call in calls:
        assert error_code(json.loads(front.response(call).body)) == -32800
    front.ping()
    assert front.kept == []


def test_cancel_of_what_is_not_there(front):
    done = front.request("demo.add", [1, 2])
    front.response(done)
    for call in (done, 12345, 0):
        front.send(CANCEL, call=call)
    assert is_alive(front)
    assert front.kept == []


# Channels (section 1)

def test_channels_are_independent(worker):
    fronts = [worker.front(shard=shard, shards=5) for shard in range(5)]
    calls = [front.request("demo.add", [i, 100]) for i, front in enumerate(fronts)]
    assert set(calls) == {1}
    for i, front in reversed(list(enumerate(fronts))):
        assert json.loads(front.response(1).body)["result"] == 100 + i
        front.ping()
        assert front.kept == []


def test_a_lost_channel_costs_only_itself(worker, front):
    slow = front.request("demo.sleep", FOREVER)
    for size in (0, 5, 32, 40):
        other = worker.front()
        other.request("demo.sleep", FOREVER)
        other.send_raw(encode(REQUEST, call=9, body=b"x" * 50)[:size])
        other.close()
    assert is_alive(front)
    front.send(CANCEL, call=slow)
    front.response(slow)


def test_lost_calls_give_their_slots_back(start):
    worker = start.demo(concurrency=2)
    for _ in range(3):
        other = worker.front()
        for _ in range(2):
            other.request("demo.sleep", FOREVER)
        other.ping()
        other.close()
    assert is_alive(worker.front())


# PING (section 10)

@pytest.mark.parametrize("body", [b"", b"\x00\xff", bytes(64)])
def test_ping(front, body):
    slow = front.request("demo.sleep", FOREVER)
    front.ping(body)
    front.send(CANCEL, call=slow)
    front.response(slow)


# Bad frames (section 2)

BAD_FRAMES = {
    "type 0": HEADER.pack(0, 0, 0, 0, 0, 0, 0, 0),
    "type 15": HEADER.pack(0, 15, 0, 0, 0, 0, 0, 0),
    "type 127": HEADER.pack(0, 127, 0, 0, 0, 0, 0, 0),
    "parts": HEADER.pack(4, REQUEST, 0, 0, 1, 0, 3, 2) + b"xxxx",
    "parts overflow": HEADER.pack(4, REQUEST, 0, 0, 1, 0, 0xffffffff, 2) + b"xxxx",
    "4 GiB": HEADER.pack(0xffffffff, REQUEST, 0, 0, 1, 0, 0, 0),
    "HTTP": b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_costs_its_channel(worker, front, name):
    slow = front.request("demo.sleep", FOREVER)
    other = worker.front()
    other.send_raw(encode(PING, body=b"good") + BAD_FRAMES[name])
    *before, last = other.expect_closed()
    assert [frame.body for frame in before] == [b"good"]
    assert last.type == GOAWAY and json.loads(last.body)["reason"]
    assert is_alive(front)
    front.send(CANCEL, call=slow)
    front.response(slow)


def test_the_limit_is_the_announced_one(worker):
    front = worker.front()
    limit = front.worker["max_frame"]
    front.send(200, blob=bytes(limit))
    assert is_alive(front)
    front.send_raw(HEADER.pack(limit + 1, 200, 0, 0, 0, 0, 0, 0))
    assert [frame.type for frame in front.expect_closed()] == [GOAWAY]


def test_extensions_are_skipped(front):
    for type in (128, 200, 255):
        front.send(type, 0xff, call=9, conn=9, meta=b"m", body=b"b", blob=b"B")
    assert is_alive(front)
    assert front.kept == []


# GOAWAY (section 7)

def test_sigterm(worker):
    busy, idle = worker.front(), worker.front()
    assert is_alive(busy)
    slow = busy.request("demo.sleep", FOREVER)
    busy.ping()
    worker.signal(signal.SIGTERM)
    told = busy.goaway()
    assert (told["reason"], told["last_call"]) == ("shutdown", slow)
    assert idle.goaway()["last_call"] == 0
    assert idle.expect_closed() == []
    late = busy.request("demo.add", [1, 2])  # has crossed the GOAWAY: not started, not answered
    busy.ping()
    busy.send(CANCEL, call=slow)
    left = busy.expect_closed()
    assert [frame.call for frame in left] == [slow] and late > slow
    assert worker.wait() == 0


def test_sigterm_lets_calls_finish(worker, front):
    slow = front.request("demo.sleep", {"ms": 300})
    front.ping()
    worker.signal(signal.SIGTERM)
    assert json.loads(front.response(slow).body)["result"] is True
    assert all(frame.type == GOAWAY for frame in front.expect_closed())
    assert worker.wait() == 0


def test_sigterm_without_channels(worker):
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_goaway_of_the_front(worker, front):
    slow = front.request("demo.sleep", FOREVER)
    front.send(GOAWAY, body={"reason": "shutdown"})
    front.ping()
    front.send(CANCEL, call=slow)
    front.response(slow)
    front.close()
    assert is_alive(worker.front())


# http.request (section 8)

def test_http_page(front):
    status, headers, body = front.http()
    assert status == 200 and b"WebSocket" in body  # docs/chat.html
    assert dict(headers)["content-type"].startswith("text/html")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "BREW"])
@pytest.mark.parametrize("path", ["/echo", "/echo/a/b"])
def test_http_echo(front, method, path):
    body = bytes(range(256))
    assert front.http(method, path, body, [("accept", "*/*")], "x=1")[::2] == (200, body)


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_http_bodies_of_any_size(front, size):
    assert front.http("PUT", "/echo", b"\xfe" * size)[2] == b"\xfe" * size


def test_http_answer_over_the_fronts_limit(worker):
    front = worker.front(max_frame=2000)
    params = {"method": "PUT", "scheme": "http", "authority": "a", "path": "/echo", "query": "",
              "headers": []}
    answer = json.loads(front.response(front.request("http.request", params, blob=bytes(2000))).body)
    assert "error" in answer
    assert is_alive(front)


def test_http_not_found(front):
    assert front.http(path="/echoes")[0] == 404


# Connections that stay (section 9)

def chat(room, name, text):
    return {"jsonrpc": "2.0", "method": "chat", "params": {"room": room, "name": name, "text": text}}


def after(front, call):
    """The frames that came before the response of a call, and its result."""
    frames = []
    while not frames or frames[-1].call != call:
        frames.append(front.recv())
    front.ping()
    assert front.kept == []
    return frames[:-1], json.loads(frames[-1].body)["result"]


def of_topic(frame):
    assert frame.flags == 0 and frame.blob == b""
    return frame.type, frame.conn, json.loads(frame.meta)["topic"]


def test_hello_says_push(front):
    assert "push" in front.worker["features"]


@pytest.mark.parametrize("room", ["a", "\u00fc\U0001f600 \"\\/ room", "r" * 200],
                         ids=["plain", "any", "long"])
def test_join_says_and_leave(front, room):
    """What is sent about the connection is there before the response, in this order."""
    joined, result = after(front, front.request("demo.join", {"room": room, "name": "Ada"}, conn=77))
    assert [of_topic(frame) for frame in joined] == [
        (SUBSCRIBE, 77, f"room:{room}"), (PUBLISH, 0, f"room:{room}")]
    assert (joined[0].body, json.loads(joined[1].body)) == (b"", chat(room, "Ada", "Ada joined"))
    assert result is True
    (said,), result = after(front, front.request("demo.say", [room, "Ada", "\"hi\" \u2028 \\"], conn=77))
    assert of_topic(said) == (PUBLISH, 0, f"room:{room}")
    assert (json.loads(said.body), result) == (chat(room, "Ada", "\"hi\" \u2028 \\"), True)
    left, result = after(front, front.request("demo.leave", {"room": room, "name": "Ada"}, conn=77))
    assert [of_topic(frame) for frame in left] == [
        (UNSUBSCRIBE, 77, f"room:{room}"), (PUBLISH, 0, f"room:{room}")]
    assert (json.loads(left[1].body), result) == (chat(room, "Ada", "Ada left"), True)


@pytest.mark.parametrize("method", ["demo.join", "demo.leave"])
def test_only_a_connection_that_stays_can_join(front, method):
    error = front.call(method, {"room": "a", "name": "Ada"})["error"]
    assert error["code"] == -32602 and "connection" in error["message"]
    assert front.kept == []


def test_anybody_may_say_something(front):
    assert front.call("demo.say", {"room": "a", "name": "curl", "text": "x" * 4000})["result"] is True
    (said,) = front.kept
    assert json.loads(said.body)["params"]["text"] == "x" * 4000


@pytest.mark.parametrize("params", [
    None, {}, {"room": "a"}, {"room": "", "name": "n"}, {"room": "a", "name": ""}, {"room": 1, "name": "n"},
    {"room": "r" * 201, "name": "n"}, {"room": "a", "name": "n" * 101}, {"room": "a\0", "name": "n"},
    {"room": "\u00fc" * 101, "name": "n"}, {"room": "a", "name": "\n"}])
def test_rooms_and_names_that_are_none(front, params):
    for method, more in (("demo.join", {}), ("demo.leave", {}), ("demo.say", {"text": "hi"})):
        given = params if params is None else {**params, **more}
        assert error_code(json.loads(front.response(front.request(method, given, conn=77)).body)) == -32602
    assert front.kept == []


@pytest.mark.parametrize("text", ["", 7, None, "x" * 4001, "a\u0007"])
def test_texts_that_are_none(front, text):
    assert error_code(front.call("demo.say", {"room": "a", "name": "n", "text": text})) == -32602


def test_what_is_said_is_published_once_to_each_front(worker):
    fronts = [worker.front(instance=instance, shard=shard, shards=2)
              for shard in range(2) for instance in ("a", "b")]
    assert fronts[2].call("demo.say", {"room": "r", "name": "n", "text": "t"}, conn=5)["result"] is True
    for front in fronts:
        front.ping()
    kept = [[frame.type for frame in front.kept] for front in fronts]
    assert kept[2] == [PUBLISH] and kept[0] == []  # of its own front, the channel that it came on
    assert sorted([kept[1], kept[3]]) == [[], [PUBLISH]]


@pytest.mark.parametrize("flags, blob", [
    (0, b"text"), (0, "\u00fc\0".encode()), (0, b""), (BINARY, b""), (BINARY, bytes(range(256))),
    (BINARY, b"\xff" * 1_000_000)], ids=lambda value: str(value)[:20])
def test_raw_messages_come_back_as_they_are(front, flags, blob):
    front.request("frontd.message", flags=NOTIFY | flags, conn=2**63 + 1, blob=blob)
    frame = front.expect(PUSH)
    assert frame == (PUSH, flags, 0, 2**63 + 1, b"", b"", blob)
    front.ping()
    assert front.kept == []


def test_raw_messages_come_back_in_order(front):
    front.send_raw(b"".join(
        encode(REQUEST, NOTIFY, call=n, conn=7, body=b'{"jsonrpc":"2.0","method":"frontd.message"}',
               blob=b"%d" % n) for n in range(1, 501)))
    assert [front.expect(PUSH).blob for _ in range(500)] == [b"%d" % n for n in range(1, 501)]


def test_events_that_nobody_waits_for(front):
    front.request("frontd.connect", {"conn": "7", "path": "/ws", "headers": {}, "peer": ""},
                  flags=NOTIFY, conn=7)
    front.request("frontd.disconnect", {"conn": "7", "code": 1000}, flags=NOTIFY, conn=7)
    assert is_alive(front)
    assert front.kept == []


def test_one_channel_after_another(worker):
    for _ in range(50):
        with FakeFront(worker.address) as front:
            front.hello()
            assert is_alive(front)
