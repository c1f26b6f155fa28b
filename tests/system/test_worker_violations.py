"""What a worker does wrongly costs what the tables of PROTOCOL.md section 11 say, and nobody else anything. The
names of the cases below are the rows of those tables."""
import json
import os
import random
import re

import pytest

from fakeworker import (CANCEL, DATA, DISCONNECT, GOAWAY, HEADER, HELLO, MAX_FRAME, MORE, PING, PONG, PUBLISH, PUSH,
                        REQUEST, RESPONSE, STATE, SUBSCRIBE, UNSUBSCRIBE, WINDOW, echo, frame, topic_meta)
from harness import ROOT, http_route, rpc_route, wait_for, ws_route
from httpclient import BadResponse, Closed, request, rpc_body, rpc_request

SKIP_MAX = 16 * MAX_FRAME
KINDS = ["post", "batch", "pipelined", "http", "ws", "frame", "line"]
STAYS = ("ws", "frame", "line")


def ok(call, result=b'"well"'):
    if call.method == "http.request":
        result = b'{"status":200,"headers":[]}'
    return b'{"jsonrpc":"2.0","id":' + call.id + b',"result":' + result + b"}"


def right(call):
    return frame(RESPONSE, call.call, ok(call))


def part(call, blob=b"", more=True):
    return frame(DATA, call.call, blob=blob, flags=MORE if more else 0)


def begin(call, blob=b""):
    return frame(RESPONSE, call.call, ok(call), blob=blob, flags=MORE)


def counted(call, length):
    """Begins an answer of HTTP that is to have that many bytes."""
    return frame(RESPONSE, call.call, b'{"jsonrpc":"2.0","id":1,"result":{"status":200,"headers":'
                 b'[["content-length","%d"]]}}' % length, flags=MORE)


def head(call, type, length, flags=0, meta=0, blob=0):
    return HEADER.pack(length, type, flags, 0, call.call, 0, meta, blob)


def long(call, type, flags=0, length=MAX_FRAME + 1):
    return head(call, type, length, flags, blob=length) + bytes(length)


def table(title):
    """{first column} of the table under the paragraph of section 11 that begins with this title."""
    with open(os.path.join(ROOT, "proto/PROTOCOL.md")) as f:
        text = f.read().split("**%s" % title)[1]
    rows = re.search(r"\n\|-+\|-+\|\n((?:\|.*\n)+)", text)[1]
    return [line.split(" | ")[0].lstrip("| ") for line in rows.splitlines()]


class Asker:
    """A client of one kind whose call `bad` the worker answers wrongly, with a good call beside it where the
    kind has both at once."""

    def __init__(self, web, kind, method="bad", id="b"):
        self.web, self.kind, self.id = web, kind, id
        self.client = web.stays(kind, timeout=30) if kind in STAYS else web.client(timeout=30)
        bad, good = rpc_body(method, id=id), rpc_body("demo.echo", [1], id="good")
        if kind == "batch":
            self.client.send(request("POST", "/rpc", b"[%s,%s]" % (bad, good)))
        elif kind == "http":
            self.client.send(request("GET", "/h/" + method))
        elif kind in STAYS:
            self.client.send_text(bad)
        else:
            self.client.send(request("POST", "/rpc", bad))
        if kind == "pipelined":
            self.client.send(request("POST", "/rpc", good))

    def answer(self):
        """What the bad call was answered with: a JSON-RPC answer, or an HTTP response."""
        if self.kind == "http":
            return self.client.read_response()
        if self.kind in STAYS:
            return self.client.read_json()
        response = self.client.read_response()
        found = response.json()
        if self.kind == "batch":
            found = {a["id"]: a for a in found}
            assert found["good"]["result"] == [1]
            found = found[self.id]
        elif "error" in found:
            assert response.status == 502
        if self.kind == "pipelined":
            assert self.client.read_response().json()["result"] == [1]
        assert found["id"] == self.id
        return found

    def fails(self, code=-32007, status=502, early=False):
        """early: where a part of an HTTP answer may have gone out, it may end early instead."""
        try:
            found = self.answer()
        except (BadResponse, Closed):
            assert self.kind == "http" and early
            self.client = self.web.client(timeout=30)
            return
        if self.kind == "http":
            assert found.status == status and b"error" not in found.body
        else:
            assert found["error"]["code"] == code and found["id"] == self.id

    def works(self):
        """Its connection goes on."""
        if self.kind == "http":
            assert self.client.request("GET", "/h/x", b"xy").body == b"xy"
        elif self.kind in STAYS:
            assert self.client.call("demo.echo", [2]) == [2]
        else:
            assert self.client.rpc("demo.echo", [2]).json()["result"] == [2]
        self.client.close()


class Bench:
    """A site with one worker, which does `wrong` on methods `bad`, answers `held` when the test says so, and all
    else at once. It does two calls at a time: one of them is `held`, so that the other slot has to come back."""

    def __init__(self, site, wrong, **keys):
        keys.setdefault("routes", [rpc_route(), http_route("/h"), ws_route()])
        self.wrong, self.held, self.bad = wrong, [], []
        self.web = site(streams={"frame": {}, "line": {}}, **keys)
        self.worker = self.web.fake(handler=self._handle, concurrency=2, hello={"features": ["push", "stream"]})
        self.worker.keep_frames = False
        self.web.start()
        self.other = self.web.client(timeout=30)
        self.other.send(rpc_request("held", id="h"))
        wait_for(lambda: self.held, "the other call")
        self.channel = self.worker.channels[0]

    def _handle(self, call):
        if call.method == "held":
            self.held.append(call)
        elif call.method == "bad" or call.method == "http.request" and call.params["path"] == "/h/bad":
            self.bad.append(call)
            call.channel.finished(call)
            call.channel.send(self.wrong(call))
        else:
            echo(call)

    def log(self):
        return self.web.front.text()

    def untouched(self):
        """The channel goes on, with the other client's call."""
        assert self.channel.sync()
        self.held[0].reply("well")
        answer = self.other.read_response()
        assert answer.json() == {"jsonrpc": "2.0", "id": "h", "result": "well"}
        self.other.close()
        assert len(self.worker.channels) == 1 and not self.channel.goaway


# One call fails. Each: what is sent, what is sent once the call has been cancelled (None: nothing is left to send),
# and what the log says.

CALLS = {
    "RESPONSE or DATA over `max_frame`": [
        (lambda c: long(c, RESPONSE), None, "over max_frame"),
        (lambda c: long(c, RESPONSE, MORE), lambda c: part(c, b"x") + part(c, more=False), "over max_frame"),
        (lambda c: begin(c) + long(c, DATA), None, "over max_frame"),
        (lambda c: begin(c) + long(c, DATA, MORE), lambda c: right(c), "over max_frame"),
    ],
    "a streamed answer over 16 MiB, where it is gathered": [
        (lambda c: begin(c) + part(c, bytes(MAX_FRAME)) + part(c, b"x", False), None,
         "over max_frame, its parts together"),
        (lambda c: begin(c, bytes(MAX_FRAME // 2)) + part(c, bytes(MAX_FRAME // 2)) + part(c, b"x"),
         lambda c: part(c, bytes(MAX_FRAME)) + part(c, b"x") + part(c, more=False),
         "over max_frame, its parts together"),
    ],
    "a second RESPONSE in a streamed answer": [
        (lambda c: begin(c) + right(c), None, "given up by its worker in the middle"),
        (lambda c: begin(c) + begin(c), lambda c: part(c, more=False), "two RESPONSEs"),
    ],
    "to `http.request`: a streamed answer with more or fewer bytes than its `content-length`": [
        (lambda c: counted(c, 3) + part(c, b"1234"), lambda c: part(c, more=False), "longer than its content-length"),
        (lambda c: counted(c, 3) + part(c, b"1234", False), None, "longer than its content-length"),
        (lambda c: counted(c, 3) + part(c, b"12", False), None, "shorter than its content-length"),
    ],
    "DATA before RESPONSE": [
        (lambda c: part(c, b"x", False), None, "begun with DATA"),
        (lambda c: part(c, b"x"), lambda c: right(c), "begun with DATA"),
    ],
    "DATA with bytes outside its blob": [
        (lambda c: begin(c) + frame(DATA, c.call, b"x"), None, "in DATA with bytes that are no blob"),
        (lambda c: begin(c) + frame(DATA, c.call, b"x", flags=MORE), lambda c: part(c, more=False),
         "in DATA with bytes that are no blob"),
    ],
    "a body that is no JSON, or nested over 128 deep": [
        (lambda c: frame(RESPONSE, c.call, b""), None, "no JSON"),
        (lambda c: frame(RESPONSE, c.call, ok(c) + b"x"), None, "no JSON"),
        (lambda c: frame(RESPONSE, c.call, ok(c, b"[" * 128 + b"]" * 128)
                         if c.method == "bad" else b"["), None, "no JSON"),
        (lambda c: frame(RESPONSE, c.call, b"x", flags=MORE) + part(c, more=False), None, "no JSON"),
    ],
    "a body that is no JSON-RPC 2.0 response, or has `jsonrpc`, `id`, `result` or `error` twice": [
        (lambda c, body=body: frame(RESPONSE, c.call, body), None, "no JSON-RPC response")
        for body in (b"{}", b"[]", b'[{"jsonrpc":"2.0","id":"b","result":1}]', b'{"jsonrpc":"2.0","result":1}',
                     b'{"jsonrpc":"2.0","id":true,"result":1}', b'{"jsonrpc":"2.0","id":"b","result":1,"error":null}',
                     b'{"jsonrpc":"2.0","id":"b","method":"m"}', b'{"jsonrpc":"2.0","id":"b","error":{"code":1}}')
    ],
    "to `http.request`: a result that is no HTTP response": [
        (lambda c, result=result: frame(RESPONSE, c.call, b'{"jsonrpc":"2.0","id":1,"result":%s}' % result), None,
         "none of HTTP: its status or a header field is wrong")
        for result in (b"1", b"{}", b'{"status":199}', b'{"status":600}', b'{"status":200,"headers":[["a","b\\r\\nc"]]}')
    ],
}


BEYOND_WINDOW = ("to `http.request`: DATA while 262,144 bytes or more are unacknowledged, where it is not gathered")
EARLY = ["RESPONSE or DATA over `max_frame`", "a second RESPONSE in a streamed answer", "DATA with bytes outside its blob",
         "to `http.request`: a streamed answer with more or fewer bytes than its `content-length`"]


@pytest.mark.parametrize("row", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_costs_a_call(site, row, kind):
    if "16 MiB" in row and kind == "http":
        pytest.skip("it goes out as it comes, and may be of any length")
    if "http.request" in row and kind != "http":
        pytest.skip("there is no such call")
    bench = Bench(site, lambda call: wrong(call))
    for wrong, rest, said in CALLS[row]:
        count = len(bench.bad)
        asker = Asker(bench.web, kind)
        if kind not in ("batch", "pipelined"):      # whose other call waits for the slot
            asker.fails(early=row in EARLY)
        if rest:
            bench.worker.wait(lambda: len(bench.bad) > count and bench.bad[-1].cancelled, "CANCEL")
            bench.channel.send(rest(bench.bad[-1]))
        if kind in ("batch", "pipelined"):
            asker.fails()
        asker.works()
    method = "http.request" if kind == "http" else "bad"
    path = bench.worker.address
    wait_for(lambda: "pool app: worker unix:%s: its answer to `%s` is %s: the client gets -32007\n" % (
        path, method, said) in bench.log(), "a line in the log")
    bench.untouched()


# One frame is dropped: each is sent before the right answer to a call, and after it. The log says what is wrong.

def stray(call, number):
    return frame(RESPONSE, number, ok(call, b'"stray"'))


IN_PROGRESS = "is dropped: the call is not in progress"
FRAMES = {
    "RESPONSE or DATA for a call that is not in progress on the channel": [
        (lambda c: stray(c, 0), "RESPONSE to `?` (call 0) " + IN_PROGRESS),
        (lambda c: stray(c, c.call + 1000), IN_PROGRESS),
        (lambda c: frame(DATA, c.call + 1000, blob=b"x"), "DATA to `?` "),
        (lambda c: frame(DATA, c.call + 1000, blob=b"x", flags=MORE), "DATA to `?` "),
    ],
    "a second HELLO": [
        (lambda c: frame(HELLO, body=b'{"protocol":1,"concurrency":1,"methods":[]}'), "HELLO is dropped: HELLO has come"),
        (lambda c: frame(HELLO, body=b"x"), "HELLO is dropped: HELLO has come before"),
        (lambda c: long(c, HELLO), "HELLO is dropped: it is over max_frame"),
    ],
    "REQUEST or CANCEL": [
        (lambda c: frame(REQUEST, c.call, b'{"jsonrpc":"2.0","id":1,"method":"x"}'), "REQUEST is dropped: only a front"),
        (lambda c: frame(CANCEL, c.call), "CANCEL is dropped: only a front sends it"),
    ],
    "PING over 64 bytes": [(lambda c: frame(PING, body=b"p" * 65), "PING is dropped: it has over 64 bytes")],
    "PUSH or any other frame over `max_frame`": [
        (lambda c, type=type: long(c, type), "is dropped: it is over max_frame")
        for type in (PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, PING, PONG, WINDOW, REQUEST, 200)
    ] + [(lambda c: HEADER.pack(MAX_FRAME + 1, RESPONSE, 0, 0, c.call + 1000, 0, 0, 0) + bytes(MAX_FRAME + 1),
          "is dropped: it is over max_frame")],
    "PUBLISH or SUBSCRIBE without a topic; a topic, of UNSUBSCRIBE too, that is empty, over 255 bytes or no string": [
        (lambda c: frame(PUBLISH, blob=b"x"), "PUBLISH is dropped: it names no topic"),
        (lambda c: frame(SUBSCRIBE, conn=1), "is dropped: it names no topic"),
        (lambda c: frame(PUBLISH, meta=topic_meta(""), blob=b"x"), "is dropped: a topic has 1 to 255 bytes"),
        (lambda c: frame(UNSUBSCRIBE, meta=topic_meta("t" * 256), conn=1), "is dropped: a topic has 1 to 255 bytes"),
        (lambda c: frame(UNSUBSCRIBE, meta=topic_meta(b"1"), conn=1), "is dropped: its topic is no string"),
    ],
    "PUBLISH, SUBSCRIBE or UNSUBSCRIBE whose meta is no JSON": [
        (lambda c, type=type: frame(type, meta=b"{", conn=1), "is dropped: its meta is no JSON")
        for type in (PUBLISH, SUBSCRIBE, UNSUBSCRIBE)
    ],
    "PUSH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT or STATE with `conn` 0": [
        (lambda c, type=type: frame(type, meta=topic_meta("t"), blob=b"x"), "is dropped: it names no connection")
        for type in (PUSH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, STATE)
    ],
    "PUSH for a call that is not in progress on the channel, whose meta has no `progress`, or with BINARY to a client of HTTP": [
        (lambda c: frame(PUSH, c.call + 1000, blob=b"1"), "PUSH is dropped: no call of this number is in progress"),
        (lambda c: frame(PUSH, c.call, blob=b"1"), "is dropped: the client has not asked for progress"),
    ],      # and test_progress.py::test_what_a_worker_does_wrongly
    "STATE with more bytes than the front's HELLO says": [
        (lambda c: frame(STATE, conn=1, blob=bytes(4097)), "STATE is dropped: it is over limits.state"),
    ],
}
ELSEWHERE = {       # rows that are tested by others
    "one of these for a connection of another realm": "test_realms.py::test_connections_of_another_realm",
    "no HELLO within 5 s; silence, as section 10 says": "test_liveness.py::test_no_hello_within_5_s",
}


@pytest.mark.parametrize("row", FRAMES)
def test_what_costs_a_frame(site, row):
    bench = Bench(site, lambda call: wrong(call) + right(call) + wrong(call))
    for wrong, said in FRAMES[row]:
        for kind in KINDS if "max_frame" not in said else ["post"]:
            asker = Asker(bench.web, kind)
            found = asker.answer()
            assert found.status == 200 if kind == "http" else found["result"] == "well"
            asker.works()
        line = "pool app: worker unix:%s: " % bench.worker.address
        wait_for(lambda: re.search(re.escape(line) + ".*" + re.escape(said), bench.log()), "%r in the log" % said)
    bench.untouched()


def test_a_second_answer_is_named(site):
    """The method of a call that has just been answered is still known: an answer once more, or to a notification."""
    bench = Bench(site, lambda call: right(call) * 3 + part(call, b"x", False))
    asker = Asker(bench.web, "post")
    assert asker.answer()["result"] == "well"
    line = "pool app: worker unix:%s: RESPONSE to `bad` (call %d) %s" % (
        bench.worker.address, bench.bad[0].call, IN_PROGRESS)
    wait_for(lambda: line in bench.log(), "a line in the log")
    asker.works()
    bench.untouched()


def test_an_answer_to_a_notification(site):
    bench = Bench(site, None)
    bench.worker.handler = lambda call: (call.channel.send(frame(RESPONSE, call.call, b"{}")) if call.notify
                                         else Bench._handle(bench, call))
    with bench.web.client() as client:
        assert client.rpc("note", id=None).status == 204
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]
    wait_for(lambda: re.search(r"RESPONSE to `note` \(call \d+\) " + IN_PROGRESS, bench.log()), "a line in the log")
    bench.untouched()


def test_answers_above_last_call(site):
    """They were given to another worker: what the first one says of them is dropped."""
    bench = Bench(site, None, pools={"app": {"wait_for_worker": "30s"}})
    bench.worker.handler = lambda call: bench.bad.append(call)
    with bench.web.client(timeout=30) as client:
        client.send(rpc_request("late", id="l"))
        wait_for(lambda: bench.bad, "the call")
        bench.worker.hide()
        bench.channel.goaway_now(bench.held[0].call)
        other = bench.web.fake("app-2")
        other.wait_ready()
        assert client.read_response().json() == {"jsonrpc": "2.0", "id": "l", "result": None}
        bench.bad[0].reply("twice")
        wait_for(lambda: "RESPONSE to `late` (call %d) %s" % (bench.bad[0].call, IN_PROGRESS) in bench.log(),
                 "a line in the log")
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]
    bench.held[0].reply("well")
    assert bench.other.read_response().json()["result"] == "well"
    bench.other.close()


# The channel ends.

FATAL = {
    "`meta_len + blob_len` over `length`": [
        lambda c: head(c, RESPONSE, 4, meta=5) + b"abcd",
        lambda c: head(c, RESPONSE, 4, blob=5) + b"abcd",
        lambda c: head(c, RESPONSE, 4, meta=0xffffffff, blob=0xffffffff) + b"abcd",
        lambda c: head(c, RESPONSE, MAX_FRAME + 1, blob=MAX_FRAME + 2),
    ],
    "type 0, or an unknown one below 128": [lambda c, type=type: frame(type, c.call) for type in (0, 15, 99, 127)],
    "`length` over 268,435,456 (16 × `max_frame`)": [
        lambda c: head(c, RESPONSE, SKIP_MAX + 1), lambda c: head(c, DATA, 0xffffffff),
        lambda c: head(c, PUSH, SKIP_MAX + 1), lambda c: head(c, 200, SKIP_MAX + 1)],
    "HELLO or anything else before it, or GOAWAY, over `max_frame`": [lambda c: long(c, GOAWAY)],
    "the end of the connection within a frame": [lambda c: right(c)[:40]],
}


@pytest.mark.parametrize("row, number", [(row, n) for row in FATAL for n in range(len(FATAL[row]))])
def test_what_ends_the_channel(site, row, number):
    bench = Bench(site, FATAL[row][number], pools={"app": {"wait_for_worker": "30s"}})
    bench.worker.tolerant = True
    asker = Asker(bench.web, "post")
    if "end of the connection" in row:
        wait_for(lambda: bench.bad, "the call")
        bench.channel.close()
    asker.fails(-32002)
    assert bench.other.read_response().json()["error"]["code"] == -32002
    bench.other.close()
    bench.worker.wait(lambda: bench.channel.closed, "the end of the channel")
    if "end of the connection" not in row:
        assert bench.channel.goaway["reason"]
    asker.works()           # on a new channel
    assert re.search(r"pool app: worker unix:\S+ is lost with 2 calls in progress: \S", bench.log())


HELLOS = {
    "a frame before HELLO, but for PING, PONG, WINDOW, GOAWAY and extensions": [
        frame(type, 1, conn=1) for type in (REQUEST, RESPONSE, CANCEL, PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE,
                                            DISCONNECT, DATA)],
    "HELLO that is no JSON object, without `protocol`, or with a member of a wrong type or out of its range; no common version": [
        frame(HELLO, body=body) for body in (
            b"", b"x", b"[]", b"{}", b'{"protocol":2}', b'{"protocol":1,"concurrency":-1}',
            b'{"protocol":1,"methods":[1]}', b'{"protocol":1,"methods":[""]}', b'{"protocol":1,"max_frame":0}')],
    "HELLO or anything else before it, or GOAWAY, over `max_frame`": [
        HEADER.pack(MAX_FRAME + 1, HELLO, 0, 0, 0, 0, 0, 0) + bytes(1000),
        HEADER.pack(MAX_FRAME + 1, 200, 0, 0, 0, 0, 0, 0) + bytes(1000)],
}


@pytest.mark.parametrize("row, number", [(row, n) for row in HELLOS for n in range(len(HELLOS[row]))])
def test_what_ends_a_channel_before_it_began(site, row, number):
    web = site(pools={"app": {"wait_for_worker": "30s"}})
    worker = web.fake("app-bad", on_hello=lambda channel: channel.send(HELLOS[row][number]))
    worker.tolerant = True
    good = web.fake("app-good")
    web.start()
    worker.wait(lambda: worker.channels and worker.channels[0].closed, "the end of the channel")
    assert worker.channels[0].goaway["reason"]
    assert web.rpc("demo.echo", [1]).json()["result"] == [1]
    wait_for(lambda: re.search(r"pool app: worker unix:\S+app-bad.sock: \S", web.front.text()), "a line in the log")
    worker.on_hello = lambda channel: (channel.send(frame(PING, body=b"x") + frame(PONG) + frame(WINDOW) + frame(200)),
                                       channel.hello())
    worker.wait_ready()
    assert len(good.channels) == 1


# What there is besides the tables.

def test_each_row_of_the_protocol_has_its_cases():
    assert set(table("One call fails**")) == {*CALLS, BEYOND_WINDOW}
    with open(os.path.join(ROOT, "tests", "unit", "shard", "test_http_stream.c")) as f:
        assert "Test(http_stream, beyond_the_window)" in f.read()
    assert set(table("One frame is dropped**")) == {*FRAMES, "one of these for a connection of another realm"}
    assert set(table("The channel ends**")) == {*FATAL, *HELLOS, "no HELLO within 5 s; silence, as section 10 says"}
    for name in ELSEWHERE.values():
        file, test = name.split("::")
        with open(os.path.join(os.path.dirname(__file__), file)) as f:
            assert "def %s(" % test in f.read()


def test_the_longest_frame_that_is_skipped(site):
    """16 times max_frame; one byte more ends the channel, as above."""
    def longest(call):
        call.channel.send(head(call, RESPONSE, SKIP_MAX, blob=SKIP_MAX))
        piece = bytes(1 << 20)
        for _ in range(SKIP_MAX >> 20):
            call.channel.send(piece)
        return b""
    bench = Bench(site, longest)
    asker = Asker(bench.web, "post")
    asker.fails()
    asker.works()
    bench.untouched()


def test_a_long_frame_in_small_pieces_among_others(site):
    """Whatever stands in it is skipped, though it looks like frames; calls on other workers' channels go on."""
    bench = Bench(site, None)
    count = (MAX_FRAME >> 6) + 1

    def wrong(call):
        inside = frame(RESPONSE, call.call, b"x" * 32)
        call.channel.send(head(call, RESPONSE, len(inside) * count, blob=0))
        for _ in range(0, count, 1021):
            call.channel.send(inside * 1021)
        call.channel.send(inside * (count % 1021))
        return b""
    count -= count % 1021
    bench.wrong = wrong
    for _ in range(3):
        asker = Asker(bench.web, "ws")
        asker.fails()
        asker.works()
    bench.untouched()


def test_a_cancelled_stream_may_end_in_any_way(site):
    """The client has gone in the middle of a streamed answer: RESPONSE ends it as well as DATA, and nothing that
    the worker still sends is worth a line in the log."""
    bench = Bench(site, lambda call: begin(call) + part(call, b"x"))
    ends = [lambda c: frame(RESPONSE, c.call, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32800,"message":"cancelled"}}'),
            lambda c: part(c, b"y") + part(c, more=False), lambda c: begin(c) + frame(RESPONSE, c.call, b"whatever"),
            lambda c: part(c, bytes(MAX_FRAME)) + part(c, b"x") + part(c, more=False)]
    for end in ends:
        asker = Asker(bench.web, "post")
        bench.worker.wait(lambda: len(bench.bad) == ends.index(end) + 1, "the call")
        asker.client.reset()
        call = bench.bad[-1]
        bench.worker.wait(lambda: call.cancelled, "CANCEL")
        call.channel.send(end(call))
        assert bench.channel.sync()
        assert bench.web.rpc("demo.echo", [1]).json()["result"] == [1]      # its slot is free
    assert "is dropped" not in bench.log()
    bench.untouched()


def test_a_long_answer_that_nobody_waits_for(site):
    bench = Bench(site, lambda call: b"")
    for n, end in enumerate([lambda c: long(c, RESPONSE), lambda c: long(c, RESPONSE, MORE) + part(c, more=False)]):
        asker = Asker(bench.web, "post")
        bench.worker.wait(lambda: len(bench.bad) == n + 1, "the call")
        asker.client.reset()
        bench.worker.wait(lambda: bench.bad[-1].cancelled, "CANCEL")
        bench.channel.send(end(bench.bad[-1]))
        assert bench.channel.sync()
        assert bench.web.rpc("demo.echo", [1]).json()["result"] == [1]      # its slot is free
    assert "RESPONSE to `bad` (call %d) is dropped: it is over max_frame" % bench.bad[0].call in bench.log()
    assert "the client gets" not in bench.log()
    bench.untouched()


def test_a_worker_without_the_rest_of_its_answer(site):
    """A call whose answer cannot be relayed is over for its client, though the worker never sends the rest: its slot
    comes back after `kill_after`."""
    bench = Bench(site, lambda call: begin(call) + begin(call), pools={"app": {"kill_after": "300ms"}})
    asker = Asker(bench.web, "post")
    asker.fails()
    asker.works()
    bench.untouched()


def test_each_kind_has_its_line_and_no_more(site):
    """Of each kind one line at once, however many come; the others are counted."""
    bench = Bench(site, lambda call: (frame(PING, body=b"p" * 65) + frame(CANCEL) + stray(call, 0)) * 500 + right(call))
    with bench.web.client(timeout=30) as client:
        for _ in range(3):
            assert client.rpc("bad").status == 200
    bench.untouched()
    for said in ("PING is dropped", "CANCEL is dropped", "RESPONSE to `?` (call 0) is dropped"):
        assert bench.log().count(said) == 1, said


def test_workers_that_do_everything_wrong_at_random(site):
    """Violations of all kinds that do not end a channel, in any order, between the right answers of many clients:
    each call has the answer that it is due, and no channel is lost."""
    source = random.Random(7)
    frames = [wrong for rows in FRAMES.values() for wrong, _ in rows if wrong.__defaults__ is None]
    calls = [wrong for row, cases in CALLS.items() if "http" not in row for wrong, rest, _ in cases if rest is None]
    small = [f for f in frames + calls if len(f(FakeCall())) < 1 << 20]
    frames, calls = [f for f in frames if f in small], [f for f in calls if f in small]
    assert len(frames) > 8 and len(calls) > 8

    def handle(call):
        call.channel.finished(call)
        noise = b"".join(source.choice(frames)(call) for _ in range(source.randrange(4)))
        wrong = source.choice(calls)(call) if call.method == "bad" else frame(RESPONSE, call.call, ok(call, call.id))
        after = b"".join(source.choice(frames)(call) for _ in range(source.randrange(4)))
        call.channel.send(noise + wrong + after)
    web = site(shards=2, streams={"frame": {}, "line": {}}, routes=[rpc_route(), ws_route()])
    worker = web.fake(handler=handle)
    worker.keep_frames = False
    web.start()
    worker.wait_ready(2)
    clients = [web.stays(kind, timeout=30) for kind in STAYS for _ in range(3)]
    try:
        for turn in range(40):
            for n, client in enumerate(clients):
                id = "%d.%d" % (turn, n)
                client.send_text(rpc_body(source.choice(["bad", "good"]), id=id))
                client.send_text(rpc_body("good", id=id + "!"))
            for n, client in enumerate(clients):
                found = {}
                for _ in range(2):
                    answer = client.read_json()
                    found[answer["id"]] = answer
                id = "%d.%d" % (turn, n)
                assert found[id + "!"]["result"] == id + "!"
                assert found[id].get("result", id) == id and found[id].get("error", {}).get("code", -32007) == -32007
    finally:
        for client in clients:
            client.close()
    assert len(worker.channels) == 2 and not any(c.closed for c in worker.channels)


class FakeCall:
    """For the size of what a case sends."""
    call, id, method = 1, b"1", "bad"
