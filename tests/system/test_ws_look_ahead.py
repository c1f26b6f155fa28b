"""While no more messages of a connection may be started, what its protocol has answered by itself is read and
answered all the same: Ping and Close of a WebSocket, heartbeats of `frame`."""
import contextlib
import os
import signal
import time

import pytest

from fakeworker import echo, hold
from harness import memory, rpc_route, sanitized, stat, wait_for, ws_route
from kernelsockets import front_end, ports
from patience import patient
from reloads import Front
from wsclient import CONTINUATION, PING, TEXT, quiet, ws_close, ws_frame

CALLS = 2               # limits.calls_per_connection
BODY = 256 << 10        # limits.body
READ = 64 << 10         # what is read at a time
HEARTBEAT = b"\0\0\0\0"
KINDS = ["ws", "frame"]


def build(site, limits=None, handler=hold, **keys):
    route = {"events": True, "timeout": "60s", **keys}
    web = site(routes=[ws_route(**route), ws_route("/raw", messages="raw", **route), rpc_route()],
               streams={"frame": route, "line": route},
               limits={"calls_per_connection": CALLS, "body": BODY, **(limits or {})})
    worker = web.fake(handler=handler)
    web.start()
    return web, worker


def text(n, size=0):
    return b'{"jsonrpc":"2.0","id":%d,"method":"m","params":[%d,"%s"]}' % (n, n, b"x" * size)


def of_size(n, size):
    """A message of so many bytes."""
    return text(n, size - len(text(n)))


def busy(worker, client):
    """As many calls as there may be; the next messages wait."""
    client.send(b"".join(client.wrap(text(n)) for n in range(CALLS)))
    worker.wait_calls(CALLS)


def asks(client, mark=b"?"):
    return ws_frame(PING, mark) if hasattr(client, "pongs") else HEARTBEAT


def is_answered(client, mark=b"?"):
    if hasattr(client, "pongs"):
        assert client.read_pong() == mark
    else:
        client.read_heartbeat()


def answer_all(worker, client, count):
    """Each call is answered in its turn, and each answer comes."""
    for n in range(count):
        worker.wait_calls(n + 1).reply(n)
    assert [c.params[0] for c in worker.calls] == list(range(count))
    got = [client.read_json() for _ in range(count)]
    assert [(a["id"], a["result"]) for a in got] == [(n, n) for n in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_at_calls_per_connection(site, kind):
    web, worker = build(site)
    with web.stays(kind) as client:
        busy(worker, client)
        for n in range(3):
            client.send(asks(client, b"%d" % n))
            is_answered(client, b"%d" % n)
        answer_all(worker, client, CALLS)


@pytest.mark.parametrize("kind", KINDS)
def test_behind_messages_that_wait(site, kind):
    """They stay in their order, each as it was; in one segment with what is answered, and byte by byte."""
    web, worker = build(site)
    for bytewise in (False, True):
        with web.stays(kind) as client:
            busy(worker, client)
            data = b"".join(asks(client, b"%d" % n) + client.wrap(text(CALLS + n, n * 7)) for n in range(9))
            data += asks(client, b"9")
            for piece in (data[i:i + 1] for i in range(len(data))) if bytewise else [data]:
                client.send(piece)
            for n in range(10):
                is_answered(client, b"%d" % n)
            assert len(worker.calls) == CALLS
            answer_all(worker, client, CALLS + 9)
            worker.forget()


def test_within_a_message_that_waits(site):
    """Behind its fragments, of which the last has not come; and one is itself in pieces."""
    web, worker = build(site)
    with web.ws() as client:
        busy(worker, client)
        whole = text(CALLS, 500)
        ping = ws_frame(PING, b"in pieces")
        client.send(ws_frame(TEXT, whole[:100], fin=False) + asks(client) + ws_frame(CONTINUATION, whole[100:200], fin=False)
                    + ping[:5])
        is_answered(client)
        client.send(ping[5:] + ws_frame(CONTINUATION, whole[200:], length=len(whole) - 200)[:50])
        is_answered(client, b"in pieces")
        client.send(ws_frame(CONTINUATION, whole[200:])[50:] + asks(client, b"last"))
        is_answered(client, b"last")
        answer_all(worker, client, CALLS + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_had_begun_before(site, kind):
    web, worker = build(site)
    with web.stays(kind) as client:
        third = client.wrap(text(CALLS, 1000))
        client.send(client.wrap(text(0)) + client.wrap(text(1)) + third[:300])
        worker.wait_calls(CALLS)
        client.send(third[300:] + asks(client))
        is_answered(client)
        answer_all(worker, client, CALLS + 1)


def fill(client, size):
    """Messages that wait, of `size` bytes with their framing; returns how many."""
    count = size // 10000
    head = 8 if hasattr(client, "pongs") else 4
    sizes = [size - 10000 * (count - 1)] + [10000] * (count - 1)
    client.send(b"".join(client.wrap(of_size(CALLS + n, each - head)) for n, each in enumerate(sizes)))
    return count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("over", [0, 1])
def test_how_far_is_read(site, kind, over):
    """What waits may be as much as limits.body and one read; what is behind that is answered when there is room."""
    web, worker = build(site)
    with web.stays(kind) as client:
        busy(worker, client)
        ask = asks(client)
        count = CALLS + fill(client, BODY + READ - len(ask) + over)
        client.send(ask)
        pair = ports(client)
        wait_for(lambda: front_end(pair)[2] == over, "the bytes to be read")
        if over == 0:
            is_answered(client)
        else:
            assert quiet(client, 0.3)
        for n in range(count):
            worker.wait_calls(n + 1).reply(n)
        assert [client.read_json()["id"] for _ in range(count)] == list(range(count))
        assert len(client.pongs if kind == "ws" else [HEARTBEAT] * client.heartbeats) == 1


@pytest.mark.skipif(sanitized(), reason="its quarantine keeps what has been freed")
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_costs(site, kind):
    """Clients that send all they can while nothing may be started make the shard hold no more than that."""
    web, worker = build(site)
    count = 20
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(web.stays(kind)) for _ in range(count)]
        for n, client in enumerate(clients):
            client.send(b"".join(client.wrap(text(i)) for i in range(CALLS)))
        worker.wait_calls(CALLS * count)
        before = memory(web.shard)
        for client in clients:
            client.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.sock.send(client.wrap(text(9, 10000)) * 10)
        pairs = [ports(client) for client in clients]
        wait_for(lambda: all(front_end(pair)[2] > 0 for pair in pairs), "what is not read")
        assert memory(web.shard) - before < count * (BODY + READ) * 1.25 + (4 << 20)


@pytest.mark.parametrize("kind", KINDS)
def test_very_many_at_once(site, kind):
    """Each is answered, in their order; the shard serves others meanwhile, and rests afterwards."""
    web, worker = build(site, handler=lambda call: None if call.method == "m" else echo(call))
    with web.stays(kind, timeout=30) as client, web.client() as other:
        busy(worker, client)
        wait_behind = client.wrap(text(CALLS))
        count = 5000
        client.send(wait_behind + asks(client) * count)
        for _ in range(count):
            is_answered(client)
        assert other.rpc("demo.echo", [1]).json()["result"] == [1]
        assert quiet(client, 0.1)
        used = stat(web.shard)[3]
        time.sleep(0.8)
        assert stat(web.shard)[3] - used < 0.3, "it spins"
        worker.calls[0].reply(0)
        assert client.read_json()["id"] == 0
        worker.wait(lambda: [c.params[0] for c in worker.calls if c.method == "m"] == [0, 1, 2], "the next message")


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_does_not_read(site, kind):
    """While more than write_buffer waits for it there is no room for an answer, however much it asks: what it asked
    is answered when it has read."""
    web, worker = build(site, limits={"write_buffer": "64KiB"})
    with web.stays(kind, rcvbuf=4096, timeout=30) as client:
        busy(worker, client)
        worker.calls[0].reply("x" * (8 << 20))
        pair = ports(client)
        wait_for(lambda: front_end(pair)[1] > 0, "what is not read")
        before = memory(web.shard)
        count = 20000
        client.sock.settimeout(5)
        client.send(asks(client) * count)
        wait_for(lambda: front_end(pair)[2] == 0, "all to be read")
        if not sanitized():
            assert memory(web.shard) - before < 4 << 20
        assert client.read_json()["id"] == 0
        for _ in range(count):
            is_answered(client)


@patient()
def test_what_waits_is_not_slow(site):
    """Whole messages, and one that has begun, wait for longer than body_timeout while the client is asked for signs
    of life."""
    web, worker = build(site, {"body_timeout": "500ms"}, ping="200ms")
    with web.ws() as client:
        busy(worker, client)
        fourth = text(CALLS + 1)
        client.send(client.wrap(text(CALLS)) + ws_frame(TEXT, fourth[:20], fin=False))
        while len(client.pings) < 8:
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        client.send(ws_frame(CONTINUATION, fourth[20:]))
        answer_all(worker, client, CALLS + 2)


# Close

def test_close_at_calls_per_connection(site):
    web, worker = build(site)
    with web.ws() as client:
        busy(worker, client)
        client.send(ws_close(4001, b"bye"))
        assert client.read_close() == (4001, "")
        assert client.at_end()
    worker.wait(lambda: all(c.cancelled for c in worker.calls), "CANCEL")
    worker.wait(lambda: worker.disconnects, "frontd.disconnect")
    assert worker.disconnects[0].params["code"] == 4001


@pytest.mark.parametrize("path", ["/ws", "/raw"])
def test_close_behind_messages_that_wait(site, path):
    """It is answered at once. What came before it happens before it, as where there is no limit."""
    web, worker = build(site)
    with web.ws(path) as client:
        if path == "/raw":
            worker.hello["concurrency"] = 1         # a message is in progress until a worker takes it
            worker.drop()
            worker.wait_ready()
        first = client.wrap(text(0)) + client.wrap(text(1))
        notes = b"".join(client.wrap(b'{"jsonrpc":"2.0","method":"note","params":[%d]}' % n) for n in range(40))
        client.send(first)
        if path == "/ws":
            worker.wait_calls(CALLS)
        client.send(notes + ws_close(1000) + ws_frame(PING, b"too late") + client.wrap(text(9)))
        assert client.read_close() == (1000, "")
        assert client.at_end() and not client.pongs
    worker.wait(lambda: worker.disconnects, "frontd.disconnect")
    if path == "/raw":
        worker.wait(lambda: len(worker.messages) == 42, "all messages")
    else:
        worker.wait(lambda: all(c.cancelled for c in worker.calls[:CALLS]), "CANCEL")
        worker.wait_calls(CALLS + 40)
        assert [c.params[0] for c in worker.calls[CALLS:]] == list(range(40))


def test_close_behind_requests_that_wait(site):
    """More than may be in progress: nobody waits for their answers. Those in progress are cancelled, the others are
    not started, and what is no call among them comes to the worker."""
    web, worker = build(site)
    note = b'{"jsonrpc":"2.0","method":"note"}'
    with web.ws() as client:
        busy(worker, client)
        client.send(b"".join(client.wrap(text(CALLS + n)) for n in range(5 * CALLS)) + client.wrap(note)
                    + client.wrap(b"[" + text(98) + b"," + note + b"," + text(99) + b"]") + ws_close(1001))
        assert client.read_close() == (1001, "")
        assert client.at_end()
    worker.wait_calls(CALLS + 2)
    worker.wait(lambda: worker.disconnects, "frontd.disconnect")
    assert worker.channel().sync()
    assert [c.method for c in worker.calls] == ["m"] * CALLS + ["note"] * 2
    assert all(c.cancelled for c in worker.calls[:CALLS])


def test_close_behind_very_many(site):
    """What came before it is taken up over many turns, in which others have theirs."""
    web, worker = build(site, handler=lambda call: None)
    count = 1000
    with web.ws() as client, web.stream("line") as other:
        busy(worker, client)
        client.send(client.wrap(b'{"jsonrpc":"2.0","method":"m"}') * count)
        pair = ports(client)
        wait_for(lambda: front_end(pair)[2] == 0, "all to be read")
        os.kill(web.shard, signal.SIGSTOP)          # so that it finds both at once
        try:
            client.send(ws_close(1000))
            other.send(b'{"jsonrpc":"2.0","method":"other"}\n' * 200)
        finally:
            os.kill(web.shard, signal.SIGCONT)
        assert client.read_close() == (1000, "")
        worker.wait(lambda: len(worker.calls) >= CALLS + count + 200, "all calls", 60)
    methods = [c.method for c in worker.calls]
    last = len(methods) - 1 - methods[::-1].index("other")
    assert "m" in methods[last:], "the others have waited for all of it"


def test_a_wrong_frame_behind_messages_that_wait(site):
    """It is an error in its turn; what is asked behind it is not answered."""
    web, worker = build(site)
    with web.ws() as client:
        busy(worker, client)
        client.send(client.wrap(text(CALLS)) + ws_frame(3, b"no such opcode") + asks(client))
        assert quiet(client, 0.2)
        for n in range(2):
            worker.calls[n].reply(n)
            assert client.read_json()["id"] == n
        client.expect_close(1002)


# Reload

@pytest.fixture
def front():
    with contextlib.ExitStack() as stack:
        def make(**keys):
            web = Front(**keys)
            stack.callback(web.end)
            return web
        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_over_a_reload(front, kind):
    """An old shard answers as long as it has the connection; what was read and waits goes along."""
    route = {"timeout": "60s"}
    web = front(drain="60s", routes=[ws_route(**route), rpc_route()], streams={"frame": route},
                limits={"calls_per_connection": 1, "body": BODY})
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind) as client, web.client() as idle:
        ask = asks(client)
        client.send(client.wrap(text(0)))
        first = worker.wait_calls(1)
        client.send(client.wrap(text(1)) + ask + client.wrap(text(2)) + ask[:2])
        is_answered(client)
        old = web.shards()
        wait_for(lambda: web.shard_of(idle) in old, "the idle one")
        web.reload(gone=False)
        wait_for(lambda: web.shard_of(idle) in set(web.shards()) - set(old), "the old shard to hand over")
        client.send(ask[2:] + ask[:3])
        is_answered(client)
        first.reply(0)
        assert client.read_json()["id"] == 0
        second = worker.wait_calls(2)
        web.wait_log("the old shards are gone")
        client.send(ask[3:])
        is_answered(client)
        second.reply(1)
        worker.wait_calls(3).reply(2)
        assert [c.channel.front["generation"] for c in worker.calls] == [1, 2, 2]
        assert [client.read_json()["id"] for _ in range(2)] == [1, 2]


# What comes between the parts of a message

@patient()
def test_what_comes_between_is_no_progress(site):
    """A message whose rest does not come ends at body_timeout, however much its client asks meanwhile."""
    web, worker = build(site, limits={"body_timeout": "1s"})
    with web.ws() as client:
        client.send(ws_frame(TEXT, b"{", fin=False))
        deadline = time.monotonic() + 20
        while not client.readable() or not closes(client):
            assert time.monotonic() < deadline, "it is held for ever"
            client.try_send(ws_frame(PING, b"x" * 100))
            time.sleep(0.02)
        assert client.closed[0] == 1008


def closes(client):
    """Reads one frame; whether it is a Close."""
    fin, opcode, payload = client.read_frame()
    with contextlib.suppress(Exception):
        client._control(opcode, payload)
    return client.closed is not None


@pytest.mark.parametrize("kind", ["empty", "one byte"])
def test_fragments_without_end(site, kind):
    """What their heads take beyond what they bring is held against limits.body."""
    web, worker = build(site)
    with web.ws() as client:
        payload = b"" if kind == "empty" else b"x"
        data = ws_frame(CONTINUATION, payload, fin=False) * 1000
        client.send(ws_frame(TEXT, payload, fin=False))
        sent = 0
        while client.try_send(data):
            sent += len(data)
            assert sent < 40 * BODY, "they never end"
            if client.readable():
                break
        assert client.read_close()[0] == 1009
        assert sent >= BODY
