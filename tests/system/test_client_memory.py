"""What one client can make a shard hold is bounded, however it is held, and a client that reads gets everything."""
import contextlib
import json
import threading
import time

import pytest

from fakeworker import DATA, MORE, RESPONSE, echo, frame
from harness import http_route, memory, rpc_route, sanitized, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request

MB = 1 << 20
BUFFER = MB             # limits.write_buffer
ANSWER = MB             # each answer
SLACK = 3 * MB          # the allocator's, the worker's channel, what a peak of the shard's own leaves
CALLS = 64

every_kind = pytest.mark.parametrize("kind", ["http", "gateway", "ws", "frame", "line"])


class Big:
    """Answers of ANSWER bytes: one text for all, since it is the front that is to be slow."""

    def __init__(self, size=ANSWER):
        self.text = b'"' + b"x" * size + b'"'

    def __call__(self, call):
        if call.method == "http.request":
            call.http(200, [], self.text)
        elif call.method == "big":
            call.reply(self.text)
        else:
            echo(call)


def build(site, handler=None, **limits):
    web = site(routes=[rpc_route(), http_route(), ws_route()], streams={"frame": {}, "line": {}},
               limits={"write_buffer": BUFFER, **limits})
    worker = web.fake(handler=handler or Big())
    web.start()
    return web, worker


def connect(web, kind, **keys):
    return web.client(**keys) if kind in ("http", "gateway") else web.stays(kind, **keys)


def calls(client, kind, count, first=0, method="big"):
    """The bytes of so many calls."""
    if kind == "gateway":
        return b"".join(request("GET", "/big?%d" % n) for n in range(count))
    if kind == "http":
        return b"".join(rpc_request(method, [n], id=n) for n in range(first, first + count))
    return b"".join(client.wrap(rpc_body(method, [n], id=n)) for n in range(first, first + count))


def answers(client, kind, count):
    """(id, result) of each."""
    if kind == "gateway":
        return [(n, client.read_response().body) for n in range(count)]
    if kind == "http":
        found = [client.read_response().json() for _ in range(count)]
    else:
        found = [client.read_json() for _ in range(count)]
    return [(answer["id"], answer.get("result")) for answer in found]


class Watched:
    """The most memory that a shard has while this is the context, beyond what it had before."""

    def __init__(self, pid):
        self.pid = pid
        self.base = memory(pid)
        self.most = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def look(self):
        self.most = max(self.most, memory(self.pid) - self.base)

    def _watch(self):
        while not self.over.wait(0.002):
            self.look()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.look()


@every_kind
def test_answers_that_are_not_read(site, kind):
    """Of 64 calls for 1 MiB each, as many are answered as write_buffer has room for."""
    web, worker = build(site)
    with web.client() as one, connect(web, kind) as first:
        one.rpc("demo.echo", [1])
        first.send(calls(first, kind, 1))   # so that what an answer takes is known, however late the next one is
        answers(first, kind, 1)
    with Watched(web.shard) as watched, connect(web, kind, rcvbuf=4096) as client:
        client.send(calls(client, kind, CALLS))
        wait_for(lambda: worker.calls and all(call.done for call in worker.calls), "the first answers")
        for _ in range(20):
            assert web.rpc("demo.echo", [2]).status == 200
            time.sleep(0.01)
        assert len([call for call in worker.calls if call.method != "demo.echo"]) < CALLS / 4
    if not sanitized():
        assert watched.most < BUFFER + 2 * ANSWER + SLACK


@every_kind
def test_a_client_that_reads_gets_all(site, kind):
    """No call of one that reads normally is refused, at first contact either, when nothing is known."""
    web, worker = build(site)
    with connect(web, kind) as client:
        for first in (0, CALLS):
            client.send(calls(client, kind, CALLS, first))
            found = answers(client, kind, CALLS)
            assert all(result and len(result) >= ANSWER for _, result in found)
            assert sorted(id for id, _ in found) == list(range(CALLS)) or kind != "gateway" and \
                sorted(id for id, _ in found) == list(range(first, first + CALLS))


@every_kind
def test_small_calls_are_side_by_side(site, kind):
    """As many as calls_per_connection, whether their kind has been answered before or not."""
    web, worker = build(site, handler=lambda call: None)
    with connect(web, kind) as client:
        client.send(calls(client, kind, CALLS + 10, method="slow"))
        worker.wait_calls(CALLS)
        assert not worker.errors
        for call in list(worker.calls):
            call.http(200, [], b"x") if kind == "gateway" else call.reply("x")
        worker.wait_calls(CALLS + 10)
        for call in worker.calls[CALLS:]:
            call.http(200, [], b"x") if kind == "gateway" else call.reply("x")
        assert len(answers(client, kind, CALLS + 10)) == CALLS + 10


@pytest.mark.parametrize("kind", ["http", "gateway"])
def test_answers_behind_a_slow_one(site, kind):
    """Held back in the shard, since the first is not there: no more than fits."""
    big = Big()

    def handler(call):
        if len(worker.calls) == 1:
            return
        big(call)

    web, worker = build(site, handler=handler)
    with web.client() as one:       # the kind is known to be small: more are started than fit
        worker.handler = lambda call: call.http(200, [], b"x") if call.method == "http.request" else call.reply(1)
        for _ in range(3):
            one.send(calls(one, kind, 1))
            answers(one, kind, 1)
    worker.forget()
    worker.handler = handler
    with Watched(web.shard) as watched, web.client() as client:
        client.send(calls(client, kind, CALLS))
        wait_for(lambda: len(worker.calls) > 1 and all(c.done for c in worker.calls[1:]), "the other answers")
        assert web.rpc("demo.echo", [2]).status == 200
        first = worker.calls[0]
        first.http(200, [], b"first") if kind == "gateway" else first.reply("first")
        statuses = []
        for n in range(CALLS):
            answer = client.read_response()
            statuses.append(answer.status)
            assert n > 0 or b"first" in answer.body
        assert set(statuses) <= {200, 503} and 200 in statuses[1:]
    if not sanitized():
        assert watched.most < BUFFER + 2 * ANSWER + SLACK


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_large_requests_in_progress(site, kind):
    """The frames of calls that a worker has count, too: one of 700 KiB, and a second one, and no third."""
    web, worker = build(site, handler=lambda call: None)
    with Watched(web.shard) as watched, connect(web, kind) as client:
        body = [client.wrap(rpc_body("hold", ["y" * 700000], id=n)) for n in range(8)]
        sender = threading.Thread(target=lambda: client.try_send(b"".join(body)), daemon=True)
        sender.start()
        worker.wait_calls(2)
        for _ in range(20):
            assert len(worker.calls) == 2
            time.sleep(0.01)
        done = 0
        while done < 8:
            worker.wait_calls(done + 1).reply(done)
            done += 1
        sender.join()
        assert sorted(result for _, result in answers(client, kind, 8)) == list(range(8))
    if not sanitized():
        assert watched.most < 4 * MB + SLACK


def test_parts_of_answers_that_stream(site):
    """Many at a time, each held until it is complete: together no more than write_buffer and one of them."""
    parts, size, count = 30, 100000, 32
    web, worker = build(site, handler=lambda call: None)
    with web.client() as one:       # it is known to be small: so all of them are started
        worker.handler = lambda call: call.http(200, [], b"x")
        for _ in range(2):
            one.send(request("GET", "/stream"))
            assert one.read_response().status == 200
    worker.handler = lambda call: None
    worker.forget()
    with Watched(web.shard) as watched, web.client() as client:
        client.send(request("GET", "/stream") * count)
        worker.wait_calls(count)
        for call in worker.calls:
            call.channel.send(frame(
                RESPONSE, call.call, b'{"jsonrpc":"2.0","id":' + call.id + b',"result":{"status":200}}', flags=MORE))
        for n in range(parts):
            for call in worker.calls:
                call.channel.send(frame(DATA, call.call, blob=b"p" * size, flags=MORE if n < parts - 1 else 0))
        statuses = [client.read_response().status for _ in range(count)]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 1
    if not sanitized():
        assert watched.most < BUFFER + 2 * parts * size + SLACK      # it is copied once, when it is complete
    with web.client() as one:
        worker.handler = lambda call: call.http(200, [], b"x")
        one.send(request("GET", "/stream"))
        assert one.read_response().status == 200


@pytest.mark.parametrize("kind", ["http", "ws"])
def test_a_reader_below_the_rate(site, kind):
    """More than write_buffer waits, and 2 kB a second are read: it is ended; one that reads faster is not."""
    web, worker = build(site, handler=Big(4 * MB), body_timeout="1s", write_rate=200000)
    with connect(web, kind, rcvbuf=4096) as slow, connect(web, kind, rcvbuf=65536) as fast:
        for client in (slow, fast):
            client.send(calls(client, kind, 1))
        worker.wait_calls(2)
        over = threading.Event()
        result = []
        reader = threading.Thread(target=lambda: result.append(answers(fast, kind, 1)), daemon=True)
        reader.start()
        deadline = time.monotonic() + 60
        while web.shard_of(slow):
            assert time.monotonic() < deadline, "it is kept"
            slow.sock.recv(20)
            time.sleep(0.01)
        over.set()
        reader.join(30)
        assert len(result[0][0][1]) == 4 * MB


def test_no_rate(site):
    """write_rate: 0: whoever takes something within body_timeout stays, as slow as it may be."""
    web, worker = build(site, handler=Big(4 * MB), body_timeout="1s", write_rate=0)
    with web.client(rcvbuf=4096) as slow:
        slow.send(calls(slow, "http", 1))
        worker.wait_calls(1)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            slow.sock.recv(4096)
            time.sleep(0.05)
        assert web.shard_of(slow)


def batch(count, method="hold", first=0):
    return b"[" + b",".join(rpc_body(method, [n], id=n) for n in range(first, first + count)) + b"]"


def send_batch(client, kind, text):
    client.send(request("POST", "/rpc", text) if kind == "http" else client.wrap(text))


def read_batch(client, kind):
    return client.read_response().json() if kind == "http" else client.read_json()


batch_kinds = pytest.mark.parametrize("kind", ["http", "ws", "frame", "line"])


@batch_kinds
def test_members_are_started_as_others_end(site, kind):
    """A batch counts as its members: no more of them than calls_per_connection are in progress."""
    web, worker = build(site, handler=lambda call: None, calls_per_connection=4)
    with connect(web, kind) as client:
        send_batch(client, kind, batch(20))
        for done in range(20):
            worker.wait_calls(min(done + 4, 20))
            assert len(worker.calls) <= done + 4
            worker.calls[done].reply(done)
        assert worker.max_busy <= 4
        assert [(a["id"], a["result"]) for a in read_batch(client, kind)] == [(n, n) for n in range(20)]
        # and the connection goes on
        worker.handler = echo
        client.send(calls(client, kind, 1, method="demo.echo"))
        assert answers(client, kind, 1) == [(0, [0])]


@batch_kinds
def test_batches_beside_others(site, kind):
    """Two batches and a single call on one connection share what it may have in progress."""
    web, worker = build(site, handler=lambda call: None, calls_per_connection=3)
    with connect(web, kind) as client:
        send_batch(client, kind, batch(5))
        send_batch(client, kind, batch(5, first=5))
        client.send(calls(client, kind, 1, first=10, method="hold"))
        for done in range(11):
            worker.wait_calls(done + 1).reply(json.loads(worker.calls[done].id))
        assert worker.max_busy <= 3
        found = []
        for _ in range(3):
            answer = read_batch(client, kind)
            found += answer if isinstance(answer, list) else [answer]
        assert sorted((a["id"], a["result"]) for a in found) == [(n, n) for n in range(11)]


@batch_kinds
def test_a_batch_that_is_broken_at_its_end(site, kind):
    """Nothing of it is started."""
    web, worker = build(site, calls_per_connection=2)
    with connect(web, kind) as client:
        send_batch(client, kind, batch(50)[:-1] + b",}")
        assert read_batch(client, kind)["error"]["code"] == -32700
        assert not worker.calls


@batch_kinds
def test_members_of_all_kinds_that_wait(site, kind):
    """Invalid ones, notifications, unknown methods, escapes: each is what it would be at once."""
    web, worker = build(site, handler=echo, calls_per_connection=1)
    with connect(web, kind) as client:
        text = (b'[{"jsonrpc":"2.0","method":"demo.echo","params":[0],"id":0}, 7,'
                b'{"jsonrpc":"2.0","method":"demo.echo"},'
                b'{"jsonrpc":"2.0","method":"frontd.x","id":2} ,'
                b'{"jsonrpc":"2.0","method":"demo.\\u0065cho","params":["\xc3\xa4"],"id":"3"},'
                b'{"jsonrpc":"1.0","method":"demo.echo","id":4},'
                b'{"jsonrpc":"2.0","method":"demo.echo","params":[5],"id":5}]')
        send_batch(client, kind, text)
        found = read_batch(client, kind)
        by_id = {json.dumps(a["id"]): a for a in found}
        assert by_id["0"]["result"] == [0] and by_id["5"]["result"] == [5] and by_id['"3"']["result"] == ["\u00e4"]
        assert by_id["null"]["error"]["code"] == -32600 and by_id["4"]["error"]["code"] == -32600
        assert by_id["2"]["error"]["code"] == -32601
        assert len(found) == 6 and len(worker.calls) == 4


@batch_kinds
def test_the_deadline_of_a_batch(site, kind):
    """It counts from when the batch came, for members that wait, too."""
    web = site(routes=[rpc_route(timeout="600ms"), ws_route(timeout="600ms")],
               streams={"frame": {"timeout": "600ms"}, "line": {"timeout": "600ms"}},
               limits={"calls_per_connection": 2})
    worker = web.fake(handler=lambda call: None)
    web.start()
    with connect(web, kind) as client:
        start = time.monotonic()
        send_batch(client, kind, batch(9))
        worker.wait_calls(2)
        found = read_batch(client, kind)
        assert 0.5 < time.monotonic() - start
        assert [a["error"]["code"] for a in found] == [-32003] * 9
        assert len(worker.calls) == 2


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_a_client_that_leaves_in_the_middle_of_a_batch(site, kind):
    web, worker = build(site, handler=lambda call: None, calls_per_connection=2)
    with connect(web, kind) as client:
        send_batch(client, kind, batch(50))
        worker.wait_calls(2)
    worker.wait(lambda: all(call.cancelled for call in worker.calls), "CANCEL")
    for call in list(worker.calls):
        call.reply("late")
    wait_for(lambda: web.connections() == 0, "the end")
    assert len(worker.calls) == 2


@batch_kinds
def test_a_batch_while_the_front_stops(site, kind):
    """It is finished: members that wait belong to what is in progress."""
    web = site(routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, drain="10s",
               limits={"calls_per_connection": 2})
    worker = web.fake(handler=lambda call: None)
    web.start()
    with connect(web, kind) as client:
        send_batch(client, kind, batch(7))
        worker.wait_calls(2)
        web.front.signal(15)
        for done in range(7):
            worker.wait_calls(done + 1).reply(done)
        assert [a["result"] for a in read_batch(client, kind)] == list(range(7))


@batch_kinds
def test_batches_of_large_answers_that_are_not_read(site, kind):
    """Each gathers one answer of up to 16 MiB; those behind it wait for it to be read."""
    web, worker = build(site)
    with Watched(web.shard) as watched, connect(web, kind, rcvbuf=4096) as client:
        for n in range(10):
            send_batch(client, kind, batch(8, "big", 8 * n))
        wait_for(lambda: len(worker.calls) >= 8 and all(call.done for call in worker.calls), "a batch")
        for _ in range(20):
            assert web.rpc("demo.echo", [2]).status == 200
            time.sleep(0.01)
        assert len([call for call in worker.calls if call.method == "big"]) < 20
    if not sanitized():
        assert watched.most < BUFFER + 2 * 8 * ANSWER + 2 * SLACK


def test_gathering_is_bounded_by_what_fits(site):
    """Two batches gather at a time: the second one waits rather than being refused."""
    web, worker = build(site)
    with web.ws() as client:
        for n in range(4):
            send_batch(client, "ws", batch(6, "big", 6 * n))
        found = [a for _ in range(4) for a in client.read_json()]
        assert sorted(a["id"] for a in found) == list(range(24))
        assert all(len(a["result"]) == ANSWER for a in found), [a for a in found if "error" in a]




def test_requests_that_need_no_call(site):
    """Behind a slow one: what each takes counts, not only the bytes of its answer."""
    web, worker = build(site, handler=lambda call: None if call.method == "slow" else echo(call))
    with web.client() as one:
        one.rpc("demo.echo", [1])
    with Watched(web.shard) as watched, web.client() as client:
        client.send(rpc_request("slow", [1]))
        worker.wait_calls(2)
        client.sock.settimeout(1)
        with contextlib.suppress(OSError):
            client.sock.sendall(request("OPTIONS", "/rpc") * 60000)
        for _ in range(50):     # first it has room for no more than the slow one
            assert web.rpc("demo.echo", [2]).status == 200
            time.sleep(0.01)
    if not sanitized():
        assert watched.most < BUFFER + SLACK


def test_a_surprise_is_not_for_others_to_pay(site):
    """One answer is much larger than was expected: those that are as expected are not refused for it."""
    sizes = {"large": 3 * MB // 2}

    def handler(call):
        if call.method == "slow" and call.params:
            held.append(call)
        else:
            call.reply("x" * sizes.get((call.params or [None])[0], 10))
    held = []
    web, worker = build(site, handler=handler)
    with web.client() as client:
        for method in ("slow", "get"):
            assert client.rpc(method).status == 200
        client.send(b"".join([rpc_request("slow", [1], id=0), rpc_request("get", ["large"], id=1)] +
                             [rpc_request("get", [""], id=n) for n in range(2, 12)]))
        worker.wait_calls(14)
        assert worker.channel().sync()
        held[0].reply(b"0")
        found = answers(client, "http", 12)
    assert [id for id, result in found if result is None] == []
