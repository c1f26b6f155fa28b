"""JSON-RPC on connections that stay: the same over WebSocket, frames and lines."""
import contextlib
import json
import threading

import pytest

from fakeworker import echo
from harness import Site, rpc_route, ws_route
from httpclient import Closed
from wsclient import BINARY, ws_frame


KINDS = ["ws", "frame", "line"]
CALLS = 6               # limits.calls_per_connection
BODY = 4096             # limits.body
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(handler=echo, route=None, concurrency=0, **keys):
    """A site with all three kinds, and one worker."""
    route = route or {}
    site = Site(routes=[ws_route(**route), ws_route("/raw", messages="raw"), rpc_route()],
                streams={"frame": route, "line": route},
                limits={"calls_per_connection": CALLS, "body": BODY}, **keys)
    if handler:
        site.fake(handler=handler, concurrency=concurrency)
    return site


@pytest.fixture(scope="module")
def web():
    with build() as site:
        yield site.start()


@pytest.fixture(scope="module")
def held():
    """The worker leaves the answers of its calls to the test; `who` and demo.echo are answered."""
    def handler(call):
        if call.method in ("who", "demo.echo"):
            echo(call)
    with build(handler) as site:
        yield site.start()


def number(worker):
    """A place in the list of calls, to find those that come after it."""
    with worker.cond:
        return len(worker.calls)


def after(worker, start, count):
    """The `count` calls after the place `start`, when they have come."""
    worker.wait_calls(start + count)
    return worker.calls[start:start + count]


def error(answer, code, id=None):
    assert answer["error"]["code"] == code and answer["id"] == id and answer["jsonrpc"] == "2.0", answer
    assert isinstance(answer["error"]["message"], str)


# Answers

@every_kind
def test_calls(web, kind):
    with web.stays(kind) as client:
        for n, params in enumerate([{}, [], {"a": [1, None, "\u20ac"]}, ["x" * 3000]]):
            assert client.call("demo.echo", params, n) == params
        assert client.call("demo.add", [2, 3]) == 5


@every_kind
@pytest.mark.parametrize("id", [0, -1, 1.5, 10**15, "", "a", "\u00e4\"\\", None])
def test_ids(web, kind, id):
    with web.stays(kind) as client:
        client.send_json({"jsonrpc": "2.0", "id": id, "method": "demo.echo", "params": [1]})
        assert client.read_json() == {"jsonrpc": "2.0", "id": id, "result": [1]}


@every_kind
def test_errors_of_the_worker(web, kind):
    with web.stays(kind) as client:
        client.ask("demo.error", {"code": 4711, "message": "so"})
        assert client.read_json() == {"jsonrpc": "2.0", "id": 1, "error": {"code": 4711, "message": "so"}}


@every_kind
def test_the_calls_and_answers_byte_for_byte(held, kind):
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client:
        text = b'{ "method":"\\u0061" , "id" : 1e0,"params":[ 1.50, "\\u20AC" ],"jsonrpc": "2.0", "x":{} }'
        client.send_text(text)
        call, = after(worker, start, 1)
        assert call.body == text
        assert call.conn and not call.notify
        answer = b'{"result" : [ 1.0,"\\/\xe2\x82\xac" ],"id": 1e0, "jsonrpc":"2.0" }'
        call.send(answer)
        assert client.read_text() == answer


@every_kind
def test_answers_with_white_space(held, kind):
    """On lines an answer is one line, whatever the worker's JSON looks like; elsewhere it is untouched."""
    worker, = held.workers
    with held.stays(kind) as client:
        for answer in (b'{"jsonrpc":"2.0",\n "id":1,\r\n\t"result":"a\\n b\\r\\u000a"}',
                       b'\n{"jsonrpc":"2.0","id":1,"result":[\n\n]\n}\n'):
            start = number(worker)
            client.ask("m")
            after(worker, start, 1)[0].send(answer)
            got = client.read_text()
            assert json.loads(got) == json.loads(answer)
            if kind != "line":
                assert got == answer


@every_kind
def test_notifications_are_answered_by_nothing(web, kind):
    worker, = web.workers
    start = number(worker)
    with web.stays(kind) as client:
        client.ask("demo.note", [1], id=None)
        assert client.call("demo.echo", [2]) == [2]
        note, call = after(worker, start, 2)
        assert note.notify and note.method == "demo.note" and note.conn == call.conn


@every_kind
def test_calls_go_out_in_order(held, kind):
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client:
        client.send(b"".join(client.wrap(b'{"jsonrpc":"2.0","method":"n","params":[%d]}' % n) for n in range(300)))
        assert [c.params for c in after(worker, start, 300)] == [[n] for n in range(300)]


# Many at a time

@every_kind
def test_answers_as_they_come(held, kind):
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client:
        for n in range(CALLS):
            client.ask("m", id=n)
        calls = after(worker, start, CALLS)
        for n in (3, 5, 0, 1, 4, 2):
            calls[n].reply(n * 10)
            assert client.read_json() == {"jsonrpc": "2.0", "id": n, "result": n * 10}


@every_kind
def test_calls_per_connection(held, kind):
    """As many at a time, exactly; the others come when those are answered, and none is lost."""
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client, held.stays(kind) as other:
        client.send(b"".join(client.wrap(b'{"jsonrpc":"2.0","id":%d,"method":"m"}' % n)
                             for n in range(3 * CALLS)))
        after(worker, start, CALLS)
        assert other.call("demo.echo", [1]) == [1]      # its connection is not held up
        mine = lambda: [c for c in worker.calls[start:] if c.method == "m"]
        assert len(mine()) == CALLS
        for n in range(3 * CALLS):
            worker.wait(lambda: len(mine()) > n)
            assert len(mine()) <= n + CALLS
            mine()[n].reply(n)
            assert client.read_json()["id"] == n


@every_kind
def test_the_same_id_twice(held, kind):
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client:
        client.ask("m", id=7)
        client.ask("m", id=7)
        one, two = after(worker, start, 2)
        two.reply("two")
        one.reply("one")
        assert [client.read_json()["result"] for _ in range(2)] == ["two", "one"]


@every_kind
def test_nobody_gets_what_is_not_theirs(kind):
    """Clients with calls in progress, two shards, answers out of order."""
    with build(None, shards=2) as site:
        def mix(call):
            if call.call % 3:
                call.reply(call.params)
            else:
                threading.Timer(0.002, call.reply, [call.params]).start()

        worker = site.fake(handler=mix)
        site.start()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(site.stays(kind)) for _ in range(20)]
            for turn in range(5):
                for n, client in enumerate(clients):
                    for k in range(CALLS):
                        client.ask("m", ["%d.%d.%d" % (n, turn, k)], id=k)
                for n, client in enumerate(clients):
                    answers = [client.read_json() for _ in range(CALLS)]
                    assert sorted((a["id"], a["result"]) for a in answers) == [
                        (k, ["%d.%d.%d" % (n, turn, k)]) for k in range(CALLS)]
            by_client = {}
            for call in worker.calls:
                by_client.setdefault(call.params[0].split(".")[0], set()).add(call.conn)
            assert all(len(ids) == 1 for ids in by_client.values())
            assert len(set.union(*by_client.values())) == 20


# Batches

@every_kind
def test_batches(web, kind):
    with web.stays(kind) as client:
        note = {"jsonrpc": "2.0", "method": "demo.note"}
        call = lambda n: {"jsonrpc": "2.0", "id": n, "method": "demo.echo", "params": [n]}
        client.send_json([call(1), note, call(2), call(3)])
        assert sorted(a["id"] for a in client.read_json()) == [1, 2, 3]
        client.send_json([call(9)])
        answer, = client.read_json()
        assert answer == {"jsonrpc": "2.0", "id": 9, "result": [9]}
        client.send_json([note, note])
        client.send_json([])
        error(client.read_json(), -32600)
        client.send_json([1, call(5), {}])
        answers = client.read_json()
        assert sorted(str(a["id"]) for a in answers) == ["5", "None", "None"]
        assert [a["error"]["code"] for a in answers if "error" in a] == [-32600] * 2
        assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_a_call_overtakes_a_batch(held, kind):
    worker, = held.workers
    start = number(worker)
    with held.stays(kind) as client:
        client.send_json([{"jsonrpc": "2.0", "id": n, "method": "m"} for n in (1, 2)])
        one, two = after(worker, start, 2)
        assert one.conn == two.conn
        two.reply(2)
        assert client.call("demo.echo", ["between"], 3) == ["between"]
        one.reply(1)
        assert sorted(a["id"] for a in client.read_json()) == [1, 2]


@every_kind
def test_a_batch_of_more_than_calls_per_connection(web, kind):
    with web.stays(kind) as client:
        client.send_json([{"jsonrpc": "2.0", "id": n, "method": "demo.echo"} for n in range(4 * CALLS)])
        assert sorted(a["id"] for a in client.read_json()) == list(range(4 * CALLS))
        assert client.call("demo.echo", [1]) == [1]


# What is wrong

@every_kind
def test_texts_that_are_no_calls(web, kind):
    with web.stays(kind) as client:
        for text, code in ((b"{", -32700), (b"x", -32700), (b'{"a":01}', -32700), (b'[1,', -32700),
                           (b'{"jsonrpc":"2.0","id":1,"method":"m"} x', -32700), (b"NaN", -32700),
                           (b'{"jsonrpc":"2.0","id":1,"method":"\x01"}', -32700),
                           (b"[" * 3000, -32700), (b"1", -32600), (b"null", -32600), (b'"s"', -32600),
                           (b"{}", -32600), (b'{"jsonrpc":"1.0","id":null,"method":"m"}', -32600),
                           (b'{"jsonrpc":"2.0","method":1}', -32600)):
            client.send_text(text)
            error(client.read_json(), code)
            assert client.call("demo.echo", [1]) == [1]         # the connection stays


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_bytes_that_are_no_utf8(web, kind):
    """WebSocket has a Close for that."""
    with web.stays(kind) as client:
        client.send_text(b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["\xff"]}')
        error(client.read_json(), -32700)
        assert client.call("demo.echo", [1]) == [1]


def test_empty_and_binary_messages(web):
    with web.ws() as client:
        client.send_text(b"")
        error(client.read_json(), -32700)
        client.send_text(b" \r\n ")
        error(client.read_json(), -32700)
    for first in (ws_frame(BINARY, b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}'), ws_frame(BINARY),
                  ws_frame(BINARY, b"x", fin=False) + ws_frame(0, b"")):
        with web.ws() as client:
            client.send(first)
            client.expect_close(1003)


@every_kind
def test_the_largest_text(web, kind):
    text = lambda n: b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["%s"]}' % (b"x" * n)
    room = BODY - len(text(0))
    with web.stays(kind) as client:
        for less in (1, 0):
            client.send_text(text(room - less))
            assert len(client.read_json()["result"][0]) == room - less
        client.send_text(text(room + 1))
        if kind == "ws":
            client.expect_close(1009)
        else:
            error(client.read_json(), -32005)
            assert client.at_end()


def test_texts_over_the_limit_are_refused_before_they_end(web):
    for kind, data in (("frame", (BODY + 1).to_bytes(4, "big")), ("frame", b"\xff\xff\xff\xff"),
                       ("line", b"x" * (BODY + 2)), ("line", b" " * (4 * BODY))):
        with web.stays(kind) as client:
            client.send(data)
            error(client.read_json(), -32005)
            assert client.at_end()


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_a_text_over_the_limit_behind_a_call(held, kind):
    """The call before it is answered or given up; the error is there, and then the end."""
    with held.stays(kind) as client:
        client.send(client.wrap(b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}') + b"\x7f" * (2 * BODY))
        codes = []
        with contextlib.suppress(Closed):
            while True:
                codes.append(client.read_json().get("error", {}).get("code"))
        assert codes in ([None, -32005], [-32005])
    with held.stays(kind) as client:        # behind what the worker may still be sent of that one
        assert client.call("demo.echo", [1]) == [1]


# Frames and lines on the wire

def test_heartbeats(web):
    with web.stream("frame") as client:
        for _ in range(5):
            client.send(b"\0\0\0\0")
            client.read_heartbeat()
        client.send(b"\0\0\0\0" * 3 + client.wrap(b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}') + b"\0\0\0\0")
        assert client.read_json()["id"] == 1
        while client.heartbeats < 9:
            client.read_heartbeat()


def test_line_ends(web):
    with web.stream("line") as client:
        call = b'{"jsonrpc":"2.0","id":%d,"method":"demo.echo"}'
        client.send(b"\n\r\n\n" + call % 1 + b"\r\n\r\n" + call % 2 + b"\n")
        assert sorted(client.read_json()["id"] for _ in range(2)) == [1, 2]
        client.send(call % 3 + b"\r\r\n")           # CR is white space in JSON
        assert client.read_json()["id"] == 3


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_texts_cut_everywhere(web, kind):
    call = lambda n: b'{"jsonrpc":"2.0","id":%d,"method":"demo.echo","params":["\xe2\x82\xac"]}' % n
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(web.stays(kind))
        data = b"".join(client.wrap(call(n)) for n in range(2)) + (b"\r\n" if kind == "line" else b"\0" * 4)
        made = [stack.enter_context(web.stays(kind)) for _ in range(len(data) - 1)]
        for cut, client in enumerate(made, 1):
            client.send(data[:cut])
        assert web.rpc("demo.echo", [1]).status == 200
        for cut, client in enumerate(made, 1):
            client.send(data[cut:])
        for client in made:
            assert sorted(client.read_json()["id"] for _ in range(2)) == [0, 1]


# Context, and connection ids

@every_kind
def test_ids_of_connections(web, kind):
    """The same for all calls of one; never given again."""
    seen = set()
    for _ in range(40):
        with web.stays(kind) as client:
            conn, _ = client.who()
            assert conn and client.who()[0] == conn
        assert conn not in seen
        seen.add(conn)


def test_what_a_route_asks_for(site):
    keys = {"meta": ["peer", "route", "deadline"], "timeout": "20s"}
    web = site(routes=[ws_route(headers=["authorization", "x-none"], **keys)], streams={"frame": keys, "line": keys})
    worker = web.fake()
    web.start()
    for kind in KINDS:
        fields = {"headers": [("Authorization", "Bearer x"), ("X-Other", "y")]} if kind == "ws" else {}
        with web.stays(kind, **fields) as client:
            for _ in range(2):
                client.call("demo.echo")
                meta = worker.calls[-1].meta
                assert meta["peer"] == "127.0.0.1:%d" % client.sock.getsockname()[1]
                assert 0 < meta["deadline_ms"] <= 20000 and "route" in meta
                if kind == "ws":
                    assert meta["headers"] == {"authorization": "Bearer x"}
