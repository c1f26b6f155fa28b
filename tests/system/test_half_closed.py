"""The end of a client's side within a message: what becomes of what has come of it, on each kind of connection."""
import json
import socket

import pytest

from fakeworker import echo
from harness import rpc_route, wait_for, ws_route
from httpclient import rpc_body
from patience import patient, within
from reloads import HUP, USR2, wait_read
from wsclient import BINARY, CONTINUATION, TEXT, Closed, StreamClient, ws_frame

BODY = 4096
HALF_CLOSED = 1         # seconds for an answer to a client that has shut its side
BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def build(site, messages="jsonrpc", handler=echo, **keys):
    route = {"messages": messages, "events": True}
    web = site(routes=[ws_route(**route), rpc_route()], streams={"frame": route, "line": route},
               **{"limits": {"body": BODY}, **keys})
    return web, web.fake(handler=handler)


def said(client, data):
    """Sends this and shuts its side: all texts that come until the connection ends."""
    client.send(data)
    client.sock.shutdown(socket.SHUT_WR)
    found = []
    try:
        while True:
            found.append(json.loads(client.read_text()))
    except Closed:
        return found


def errors(answers):
    return [(a["id"], a["error"]["code"]) for a in answers]


CALL = rpc_body("demo.echo", [1], 1)


@pytest.mark.parametrize("end", [b"", b"\r", b" ", b"\t\r"])
@patient()
def test_the_last_line_needs_no_line_end(site, end):
    web, worker = build(site)
    web.start()
    with web.stream("line") as client, within(HALF_CLOSED):
        assert said(client, CALL + end) == [{"jsonrpc": "2.0", "id": 1, "result": [1]}]
    with web.stream("line") as client, within(HALF_CLOSED):
        assert [a["id"] for a in said(client, b"\n" + CALL + b"\r\n" + CALL + end)] == [1, 1]
    with web.stream("line") as client, within(HALF_CLOSED):
        batch = b"[" + CALL + b"," + rpc_body("demo.echo", [2], 2) + b"]"
        assert sorted(a["id"] for a in said(client, batch + end)[0]) == [1, 2]
    worker.forget()
    with web.stream("line") as client, within(HALF_CLOSED):
        assert said(client, rpc_body("n", id=None) + end) == []
    worker.wait(lambda: [c for c in worker.calls if c.method == "n"], "the notification")


def test_a_last_line_that_is_closed_at_once(site):
    """Its client waits for nothing: close() and not shutdown()."""
    web, worker = build(site)
    web.start()
    for _ in range(20):
        client = web.stream("line")
        client.send(rpc_body("n", id=None))
        client.close()
    worker.wait(lambda: len([c for c in worker.calls if c.method == "n"]) == 20, "the notifications")


@patient()
def test_a_last_line_that_is_cut(site):
    """Any prefix of a request but itself is no JSON: the client is told, and nothing is called."""
    web, worker = build(site)
    web.start()
    for cut in range(1, len(CALL)):
        with web.stream("line") as client, within(HALF_CLOSED):
            assert errors(said(client, CALL[:cut])) == [(None, -32700)], cut
    for nothing in (b"", b"\n", b"\r\n", b"\r"):
        with web.stream("line") as client, within(HALF_CLOSED):
            assert said(client, CALL + b"\n" + nothing) == [{"jsonrpc": "2.0", "id": 1, "result": [1]}]
    assert len([c for c in worker.calls if c.method == "demo.echo"]) == 4


@pytest.mark.parametrize("more, code", [(-1, None), (0, None), (1, -32005), (2, -32005)])
@patient()
def test_the_limit_of_a_last_line(site, more, code):
    web, _ = build(site)
    web.start()
    text = rpc_body("demo.echo", ["x" * (BODY - len(rpc_body("demo.echo", [""], 1)) + more)], 1)
    assert len(text) == BODY + more
    with web.stream("line") as client, within(HALF_CLOSED):
        answers = said(client, text)
        assert errors(answers) == [(None, code)] if code else answers[0]["id"] == 1
    if code is None:            # a CR belongs to the line's end
        with web.stream("line") as client, within(HALF_CLOSED):
            assert said(client, text + b"\r")[0]["id"] == 1


@pytest.mark.parametrize("last", [b"x", b"a b", b"\xff\x00", b"{", b"x" * BODY])
@patient()
def test_a_last_line_of_raw_messages(site, last):
    web, worker = build(site, "raw", handler=lambda call: None)
    web.start()
    for data, blobs in [(last, [last]), (last + b"\r", [last]), (b"1\n\n" + last, [b"1", b"", last]), (b"1\n", [b"1"])]:
        before, ends = len(worker.messages), len(worker.disconnects)
        with web.stream("line") as client, within(HALF_CLOSED):
            assert said(client, data) == []
            worker.wait(lambda: len(worker.disconnects) > ends, "its end")
        assert [c.blob for c in worker.messages[before:]] == blobs


@patient()
def test_a_frame_that_is_cut(site):
    """Told and not called, wherever it is cut; answers before it come."""
    web, worker = build(site)
    web.start()
    with web.stream("frame") as client, within(HALF_CLOSED):
        frame = client.wrap(CALL)
        assert said(client, frame) == [{"jsonrpc": "2.0", "id": 1, "result": [1]}]
    for cut in range(1, len(frame)):
        with web.stream("frame") as client, within(HALF_CLOSED):
            found = said(client, frame + frame[:cut])
            assert sorted(errors([a for a in found if "error" in a])) == [(None, -32700)], cut
            assert [a["id"] for a in found if "result" in a] == [1]
    assert len(worker.calls) == len(frame)      # the first one, and one before each that was cut


@patient()
def test_a_frame_of_raw_messages_that_is_cut(site):
    web, worker = build(site, "raw", handler=lambda call: None)
    web.start()
    with web.stream("frame") as client, within(HALF_CLOSED):
        assert errors(said(client, client.wrap(b"one") + client.wrap(b"two")[:-1])) == [(None, -32700)]
    worker.wait(lambda: worker.disconnects, "its end")
    assert [c.blob for c in worker.messages] == [b"one"]


@pytest.mark.parametrize("messages, data", [
    ("jsonrpc", ws_frame(TEXT, CALL)[:-1]), ("jsonrpc", ws_frame(TEXT, CALL, fin=False)),
    ("jsonrpc", ws_frame(TEXT, CALL[:9], fin=False) + ws_frame(CONTINUATION, CALL[9:])[:-1]),
    ("raw", ws_frame(BINARY, b"abc")[:-1]), ("raw", ws_frame(BINARY, b"abc", fin=False))])
def test_a_websocket_message_that_is_cut(site, messages, data):
    """RFC 6455 section 7.1.5: the connection ends without a Close, which is 1006; nothing of it is called."""
    web, worker = build(site, messages)
    web.start()
    with web.ws() as client:
        client.send(data)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.at_end()
    worker.wait(lambda: worker.disconnects, "its end")
    assert worker.disconnects[0].params["code"] == 1006
    assert not worker.messages and not worker.calls


@pytest.mark.parametrize("kind", ["line", "frame"])
def test_a_reset_is_no_end_of_a_message(site, kind):
    web, worker = build(site)
    web.start()
    client = web.stays(kind)
    client.send(rpc_body("n", id=None))
    wait_read(client)
    client.reset()
    worker.wait(lambda: worker.disconnects, "its end")
    assert worker.channel().sync()
    assert not [c for c in worker.calls if c.method == "n"]


@pytest.mark.parametrize("limit", [1, 2, 3])
@patient()
def test_a_last_line_behind_calls_in_progress(site, limit):
    """At the limit of calls it is not read, or not started, until there is room."""
    web, worker = build(site, limits={"calls_per_connection": limit, "body": BODY}, handler=lambda call: None)
    web.start()
    with web.stream("line") as client, within(HALF_CLOSED):
        client.send(b"".join(client.wrap(rpc_body("m", id=n)) for n in range(2)) + rpc_body("last", id=2))
        client.sock.shutdown(socket.SHUT_WR)

        def calls():
            return [c for c in worker.calls if c.method in ("m", "last")]
        for n in range(3):
            worker.wait(lambda: len(calls()) > n, "call %d" % n)
            calls()[n].reply(n)
        assert sorted(client.read_json()["result"] for _ in range(3)) == [0, 1, 2]
        assert client.at_end()


@BOTH
@pytest.mark.parametrize("kind, data, answers", [
    ("line", CALL, [1]), ("line", CALL[:-1], [-32700]), ("line", CALL + b"\r", [1]), ("frame", b"\0\0", [-32700]),
    ("frame", len(CALL).to_bytes(4, "big") + CALL[:-1], [-32700])])
@patient()
def test_the_end_comes_after_a_reload(front, number, kind, data, answers):
    """What has come of the message has moved with its connection."""
    web, worker = build(front, drain="20s")
    web.start()
    with web.stays(kind) as client:
        client.call("demo.echo", [0], 0)
        client.send(data)
        wait_read(client)
        old = web.shards()
        web.reload(number)
        assert web.shard_of(client) not in old
        with within(HALF_CLOSED):
            found = said(client, b"")
            assert [a["id"] if "result" in a else a["error"]["code"] for a in found] == answers
