"""Live connections go from one generation to the next at any point of what they do, over SIGHUP and
SIGUSR2: each test prepares one, reloads, and goes on with it."""
import contextlib
import json
import socket
import struct
import time

import pytest

from fakeworker import echo, hold
from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import Closed, request, rpc_body, rpc_request
from patience import patient, within
from reloads import HUP, USR2, call, channel_to, wait_read
from wsclient import CONTINUATION, PING, TEXT, Reader, WsClient, WsClosed, upgrade, ws_close, ws_frame

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
MANY = {"headers": ["x-tag"], "meta": ["peer"], "events": True}
MB = 1 << 20


def build(front, shards=1, limits=None, handler=echo, **keys):
    site = front(shards=shards, routes=[rpc_route(), http_route(), ws_route(**{**MANY, **keys})],
                 streams={"frame": {"events": True, "meta": ["peer"]}, "line": {"events": True, "meta": ["peer"]}},
                 # Longer than a reload takes on any machine: what has begun goes on after it.
                 limits={"header_timeout": "60s", **(limits or {})}, drain="20s")
    worker = site.fake(handler=handler)
    site.start()
    return site, worker


def moved(site, client, old):
    """The client is on a shard of the new generation."""
    pid = site.shard_of(client)
    assert pid in site.shards() and pid not in old, (pid, old)


def reload(site, client, number, **keys):
    old = site.shards()
    site.reload(number, **keys)
    moved(site, client, old)


# HTTP: what has been read of a request, and what comes after the reload

BODY = rpc_body("demo.echo", ["x" * 100])
HEAD = b"POST /rpc HTTP/1.1\r\nHost: front.test\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (BODY[:50], BODY[50:])) + b"0\r\nX-Trailer: 1\r\n\r\n"
N = len(HEAD)
CUTS = {
    "idle": (b"", WHOLE),
    "method": (WHOLE[:3], WHOLE[3:]),
    "field-name": (WHOLE[:N + 7], WHOLE[N + 7:]),
    "between-cr-and-lf": (WHOLE[:N - 1], WHOLE[N - 1:]),
    "before-the-empty-line": (WHOLE[:WHOLE.index(b"\r\n\r\n") + 2], WHOLE[WHOLE.index(b"\r\n\r\n") + 2:]),
    "before-the-body": (WHOLE[:-len(BODY)], BODY),
    "within-the-body": (WHOLE[:-30], WHOLE[-30:]),
    "last-byte": (WHOLE[:-1], WHOLE[-1:]),
    "chunk-size": (CHUNKED[:CHUNKED.index(b";ext")], CHUNKED[CHUNKED.index(b";ext"):]),
    "chunk-extension": (CHUNKED[:CHUNKED.index(b";ext") + 3], CHUNKED[CHUNKED.index(b";ext") + 3:]),
    "chunk-data": (CHUNKED[:CHUNKED.index(b"jsonrpc")], CHUNKED[CHUNKED.index(b"jsonrpc"):]),
    "chunk-end": (CHUNKED[:CHUNKED.rindex(b";ext") - 3], CHUNKED[CHUNKED.rindex(b";ext") - 3:]),
    "trailer": (CHUNKED[:-8], CHUNKED[-8:]),
    "last-chunk": (CHUNKED[:-18], CHUNKED[-18:]),
}


@BOTH
def test_http_in_the_middle_of_a_request(front, number):
    """One connection for each place; it is the second request of each that is cut."""
    site, _ = build(front, shards=2)
    clients = {cut: site.client() for cut in CUTS}
    for cut, client in clients.items():
        call(client)
        client.send(CUTS[cut][0])
        wait_read(client)
    old = site.shards()
    site.reload(number)
    for cut, client in clients.items():
        moved(site, client, old)
        client.send(CUTS[cut][1])
        answer = client.read_response()
        assert answer.status == 200 and answer.json()["result"] == ["x" * 100], cut
        call(client)
        client.close()


@BOTH
def test_http_that_was_told_to_continue(front, number):
    site, _ = build(front)
    with site.client() as client:
        client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert client.read_response().status == 100
        reload(site, client, number)
        client.send(BODY)
        assert client.read_response().status == 200
        call(client)


@BOTH
def test_http_upload_in_pieces_over_reloads(front, number):
    site, _ = build(front)
    data = b"0123456789abcdef" * (MB // 32)
    with site.client() as client:
        client.send(request("POST", "/x", None, [("Content-Length", len(data))]))
        for at in range(0, len(data), len(data) // 4):
            client.send(data[at:at + len(data) // 4])
            reload(site, client, number)
        answer = client.read_response()
        assert answer.status == 200 and answer.body == data


@BOTH
def test_http_requests_behind_a_call_in_progress(front, number):
    """The first is answered by the old shard, the others by the new one, in order."""
    site, worker = build(front, limits={"calls_per_connection": 1}, handler=hold)
    with site.client() as client, site.client() as idle:
        client.send(b"".join(rpc_request("m", [n], id=n) for n in range(4)))
        first = worker.wait_calls(1)
        old = site.shards()
        wait_for(lambda: site.shard_of(idle) in old, "the idle one")
        site.reload(number, gone=False)
        wait_for(lambda: site.shard_of(idle) in set(site.shards()) - set(old), "the old shard to hand over")
        worker.handler = echo
        first.reply([0])
        for n in range(4):
            answer = client.read_response().json()
            assert answer["id"] == n and answer["result"] == [n]
        generations = [c.channel.front["generation"] for c in worker.calls]
        assert generations == [1, 2, 2, 2]
        site.wait_log("the old shards are gone")
        moved(site, client, old)


@BOTH
@patient()
def test_http_half_closed_behind_a_call_in_progress(front, number):
    site, worker = build(front, limits={"calls_per_connection": 1}, handler=hold)
    with site.client() as client:
        client.send(rpc_request("m", [0], id=0) + rpc_request("m", [1], id=1))
        client.sock.shutdown(socket.SHUT_WR)
        first = worker.wait_calls(1)
        wait_for(lambda: site.has_shut(client), "its end")
        site.reload(number, gone=False)
        worker.handler = echo
        with within(1):         # so long is an answer waited for once the end has been seen
            first.reply([0])
            for n in range(2):
                answer = client.read_response().json()
                assert answer["id"] == n and answer["result"] == [n]
        assert client.at_end()
        site.wait_log("the old shards are gone")


@BOTH
def test_http_that_ends_while_it_moves(front, number):
    site, _ = build(front)
    clients = [site.client() for _ in range(50)]
    for client in clients:
        call(client)
    site.say(number)
    for client in clients:
        client.close()
    site.wait_log("the old shards are gone")
    wait_for(lambda: site.connections() == 0, "the end of all connections")


def big(c):
    if c.method == "http.request":
        c.http(200, [], b"".join(struct.pack(">I", n) for n in range(MB)))
    else:
        echo(c)


@BOTH
def test_http_answer_half_written(front, number):
    """4 MiB for a client that reads after the reload only, and asks for more on the same connection."""
    site, worker = build(front, handler=big, limits={"write_buffer": "8MiB"})
    with site.client(rcvbuf=4096) as client:
        client.send(request("GET", "/big"))
        worker.wait_calls(1)
        wait_for(client.readable, "the beginning of the answer")
        reload(site, client, number)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MB)
        answer = client.read_response()
        assert answer.body == b"".join(struct.pack(">I", n) for n in range(MB))
        call(client)


@BOTH
def test_http_idle_time_goes_on(front, number):
    """Each reload in less than the idle time; nobody is idle for a new time after each."""
    site, _ = build(front, limits={"idle_timeout": "1500ms"})
    with contextlib.ExitStack() as stack:
        last = time.monotonic()
        client, busy = (stack.enter_context(site.client()) for _ in range(2))
        call(client)
        for n in range(100):
            site.reload(number)
            begun = time.monotonic()
            try:
                call(busy)
                last = begun
            except (Closed, OSError):       # a reload that took longer than that
                assert time.monotonic() - last >= 1.45
                last = time.monotonic()
                busy = stack.enter_context(site.client())
            if client.readable(0):
                break
        assert client.at_end()


@BOTH
def test_http_body_time_goes_on(front, number):
    site, _ = build(front, limits={"body_timeout": "1500ms"})
    with site.client() as client:
        client.send(WHOLE[:-30])
        for n in range(100):
            site.reload(number)
            if client.readable(0):
                break
        assert client.read_response().status == 408


# Connections that stay

def text(payload):
    return ws_frame(TEXT, payload)


LONG = rpc_body("demo.echo", ["y" * 70000], id=7)
MIDDLE = rpc_body("demo.echo", ["y" * 300], id=7)
SHORT = rpc_body("demo.echo", [1], id=7)
FRAGMENTS = (ws_frame(TEXT, MIDDLE[:10], fin=False) + ws_frame(CONTINUATION, MIDDLE[10:200], fin=False) +
             ws_frame(PING, b"p") + ws_frame(CONTINUATION, MIDDLE[200:]))
STREAMS = {
    "ws": {"short": text(SHORT), "middle": text(MIDDLE), "long": text(LONG), "fragments": FRAGMENTS},
    "frame": {"middle": struct.pack(">I", len(MIDDLE)) + MIDDLE},
    "line": {"middle": MIDDLE + b"\n", "crlf": MIDDLE + b"\r\n"},
}
PLACES = {
    ("ws", "short"): [1, 2, 4, 6, 20, -1], ("ws", "middle"): [1, 2, 3, 4, 6, 8, 100, -1],
    ("ws", "long"): [3, 9, 10, 12, 14, 5000, 69000],
    ("ws", "fragments"): [3, 16, 17, 30, 150, 214, 216, 220, 222, 224, 240],
    ("frame", "middle"): [1, 3, 4, 5, 200, -1], ("line", "middle"): [1, 200, -1], ("line", "crlf"): [-1],
}


@BOTH
@pytest.mark.parametrize("kind,what", PLACES, ids=["%s-%s" % key for key in PLACES])
def test_a_message_that_is_cut(front, number, kind, what):
    """One connection for each place to cut at; all move at once."""
    site, worker = build(front, shards=2)
    data = STREAMS[kind][what]
    clients = [(site.stays(kind), at if at > 0 else len(data) + at) for at in PLACES[kind, what]]
    conns = []
    for client, at in clients:
        conns.append(client.who()[0])
        client.send(data[:at])
        wait_read(client)
    site.reload(number)
    for (client, at), conn in zip(clients, conns):
        client.send(data[at:])
        answer = client.read_json()
        assert answer["id"] == 7 and "result" in answer, (at, answer)
        assert client.who()[0] == conn
        if what == "fragments":
            assert client.pongs == [b"p"]
        client.close()
    worker.wait(lambda: len(worker.disconnects) == len(clients), "their ends")
    assert len(worker.connects) == len(clients)


@BOTH
@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_what_workers_know_of_a_connection(front, number, kind):
    """Id, peer, headers, topics, their limit; a push goes to it by the old id; one connect, one disconnect."""
    site, worker = build(front, shards=2, limits={"subscriptions": 2})
    keys = {"headers": [("X-Tag", "seven")]} if kind == "ws" else {}
    with site.stays(kind, **keys) as client:
        conn, _ = client.who()
        meta = worker.calls[-1].meta
        channel = worker.channel()
        for topic in ("a", "b"):
            channel.subscribe(conn, topic)
        channel.push(conn, b'"before"')
        assert client.read_text() == b'"before"'
        for _ in range(3):
            reload(site, client, number)
            assert client.who()[0] == conn
            assert worker.calls[-1].meta == meta
            for shard in range(2):
                channel = channel_to(site, worker, shard)
                channel.subscribe(conn, "c")    # refused: there are two
                for topic in ("a", "c", "b"):
                    channel.publish(topic, b'"%s"' % topic.encode())
                channel.push(conn, b'"push"')
                assert [client.read_text() for _ in range(3)] == [b'"a"', b'"b"', b'"push"']
        assert not worker.disconnects and len(worker.connects) == 1
    worker.wait_disconnect(conn)
    assert site.count("cannot subscribe") >= 3     # in each generation


@BOTH
@patient()
def test_a_websocket_whose_close_by_a_worker_is_under_way(front, number):
    site, worker = build(front)
    with site.ws() as client:
        conn, _ = client.who()
        with within(5):         # so long is the client's Close waited for
            worker.channel().disconnect(conn, 4001, "enough")
            with pytest.raises(WsClosed) as closed:
                client.read_message()
            assert closed.value.code == 4001
            reload(site, client, number)
            client.send(ws_close(4001))
        assert client.at_end()
    assert worker.wait_disconnect(conn).params["code"] == 4001
    assert len(worker.disconnects) == 1


@BOTH
def test_a_websocket_that_has_said_close(front, number):
    """The answer has come, our end of the connection has not: it is finished by who has it then."""
    site, worker = build(front)
    with site.ws() as client:
        conn, _ = client.who()
        client.send(ws_close(1000))
        assert client.read_close()[0] == 1000
        site.reload(number)
        assert client.at_end()
    assert worker.wait_disconnect(conn).params["code"] == 1000
    assert len(worker.disconnects) == 1


@BOTH
def test_a_close_frame_that_is_cut(front, number):
    site, worker = build(front)
    with site.ws() as client:
        conn, _ = client.who()
        frame = ws_close(1001, b"bye")
        client.send(frame[:7])
        wait_read(client)
        reload(site, client, number)
        client.send(frame[7:])
        assert client.read_close()[0] == 1001
        assert client.at_end()
    worker.wait_disconnect(conn)


@BOTH
@patient(0.3)
def test_pings_go_on(front, number):
    """A silent client is asked, and is lost in the end, however often the front reloads meanwhile; one that
    answers is not."""
    site, worker = build(front, ping="600ms")
    with site.ws() as answers, site.ws(pong=False) as mute:
        here, _ = answers.who()
        conn, _ = mute.who()
        reader = Reader(answers, lambda messages: messages)
        for n in range(200):
            site.reload(number)
            if worker.disconnects:
                break
        assert worker.wait_disconnect(conn).params["code"] == 1006
        wait_for(lambda: len(answers.pings) >= 2, "pings")
        answers.ask("demo.echo", [1])
        assert json.loads(reader.finish()[0])["result"] == [1]
        assert here not in [c.conn for c in worker.disconnects] and len(worker.disconnects) == 1


@BOTH
def test_one_that_waits_to_be_let_in(front, number):
    """`connect: ask`: the worker's answer comes after the reload; then the connection follows."""
    site, worker = build(front, connect="ask", handler=hold)
    with WsClient(site.address, None) as client:
        client.send(upgrade())
        worker.wait(lambda: worker.connects, "frontd.connect")
        old = site.shards()
        site.reload(number, gone=False)
        worker.handler = echo
        worker.connects[0].reply(True)
        client.upgraded()
        site.wait_log("the old shards are gone")
        moved(site, client, old)
        assert client.who()[0] == worker.connects[0].conn
        assert len(worker.connects) == 1
