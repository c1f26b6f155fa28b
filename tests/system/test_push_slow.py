"""Clients that do not read what is pushed to them: bounded, and nobody else is affected."""
import contextlib
import json
import os
import signal
import socket
import threading
import time

import pytest

from fakeworker import PUSH, PUBLISH, data_frame, echo
from harness import memory, rpc_route, sanitized, wait_for, ws_route
from httpclient import rpc_body
from duplex import Crowd, everything, runs_of
from wsclient import BadFrame, Closed, Reader, WsClosed, ws_close


KINDS = ["ws", "frame", "line"]
DRAIN = "100ms"         # what has not been read at a test's end is not waited for
BUFFER = 128 << 10      # limits.write_buffer
BODY = 1 << 20          # limits.body
LARGE = 12 << 20        # bytes that no buffers of the kernel have room for
SMALL = 4096            # receive buffer of a client that does not read
SIZE = 4096             # bytes of a message
ROUND = 16              # messages that are sent before the fast clients have read them: BUFFER holds them
ROUNDS = 150            # so many fit in no buffer of the kernel
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(site, slow, kind, handler=echo, shards=1, buffer=BUFFER, body=BODY):
    keys = {"slow": slow, "events": True}
    web = site(shards=shards, routes=[ws_route(**keys), rpc_route()], drain=DRAIN,
               streams={} if kind == "ws" else {kind: keys}, limits={"write_buffer": buffer, "body": body})
    worker = web.fake(handler=handler)
    web.start()
    return web, worker


def message(n):
    return (b'"p %d ' % n).ljust(SIZE - 1, b".") + b'"'


def flood(worker, members, until, rounds=ROUNDS):
    """Publishes to "t" in rounds, which all of `members` read, until a round after which `until()` holds;
    each has to get each message, in order. Returns how many there were."""
    sent = 0
    for _ in range(rounds):
        worker.channel().send(b"".join(data_frame(PUBLISH, message(sent + k), topic="t") for k in range(ROUND)))
        for client, _, _ in members:
            for k in range(ROUND):
                assert client.read_text() == message(sent + k)
        sent += ROUND
        if until():
            break
    return sent


@every_kind
def test_a_slow_one_among_fast_ones_is_closed(site, kind):
    web, worker = build(site, "close", kind, shards=2)
    with Crowd(web, worker) as crowd:
        fast = crowd.spread(2, kind)
        slow, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        crowd.join("t")
        sent = flood(worker, fast, lambda: False)
        # It reads what was on its way: no message is missing before the end, or half there.
        code, got = None, []
        try:
            while True:
                got.append(slow.read_text())
        except WsClosed as e:
            code = e.code
            slow.try_send(ws_close(code))
        except (Closed, AssertionError, ConnectionError):
            pass                                            # ended within a message
        assert code in (None, 1013)
        assert got == [message(n) for n in range(len(got))]
        assert len(got) < sent
        slow.close()
        worker.wait_disconnect(conn)
        flood(worker, fast, lambda: False, 3)
        for client, _, _ in fast:
            assert client.call("demo.echo", [1]) == [1]


def test_one_over_the_buffer_is_told_1013(site):
    """Two pushes that are too large by themselves: once the client reads there is room for the Close."""
    web, worker = build(site, "close", "ws")
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(rcvbuf=SMALL)
        for _ in range(2):
            worker.channel().push(conn, b"x" * (8 << 20))
        assert worker.channel().sync()
        assert client.read_close()[0] == 1013
        client.send(ws_close(1013))
        assert client.at_end()
        client.close()
        assert worker.wait_disconnect(conn).params["code"] == 1013


@every_kind
def test_a_slow_one_among_fast_ones_loses_the_oldest(site, kind):
    """It stays, gets what there is room for in order, the newest among it, and every answer."""
    web, worker = build(site, "drop", kind)
    with Crowd(web, worker) as crowd:
        fast = crowd.spread(2, kind)
        slow, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        crowd.join("t")
        asked = [0]

        def ask_now_and_then():
            if asked[0] < 60:
                slow.ask("demo.echo", [asked[0]], id=asked[0])
                asked[0] += 1
                worker.wait(lambda: sum(c.conn == conn and c.method == "demo.echo" and c.done
                                        for c in worker.calls) == asked[0])
            return False
        sent = flood(worker, fast, ask_now_and_then)
        assert not worker.disconnects
        worker.channel().push(conn, b'"end"')
        got = everything(slow, b'"end"')
        answers = [json.loads(t) for t in got if t.startswith(b"{")]
        assert [a["id"] for a in answers] == list(range(60)) == [a["result"][0] for a in answers]
        pushed = [t for t in got if t.startswith(b'"p')]
        numbers = runs_of(t.strip(b'"') for t in pushed)["p"]
        assert all(t == message(n) for t, n in zip(pushed, numbers))
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 0 and numbers[-1] == sent - 1 and len(numbers) < sent
        # What is left at the end is one run of the newest, which fits in the buffer.
        tail = next(k for k in range(len(numbers) - 1, -1, -1) if k == 0 or numbers[k - 1] != numbers[k] - 1)
        assert 0 < len(numbers) - tail <= BUFFER // SIZE + ROUND
        assert slow.call("demo.echo", ["fine"]) == ["fine"]


@every_kind
def test_the_newest_stay_behind_an_answer(site, kind):
    """While a long answer is being written, too, it is the oldest pushes that are dropped."""
    def handler(call):
        if call.method != "big":
            echo(call)
    web, worker = build(site, "drop", kind, handler, buffer=12 << 20)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        client.ask("big", id="big")
        worker.wait(lambda: worker.calls[-1].method == "big", "the call")
        worker.calls[-1].reply("x" * (8 << 20))
        count = 4000
        worker.channel().send(b"".join(data_frame(PUSH, message(n), conn) for n in range(count)))
        assert worker.channel().sync()
        worker.channel().push(conn, b'"end"')
        got = everything(client, b'"end"')
        assert json.loads(got[0])["id"] == "big"
        numbers = runs_of(t.strip(b'"') for t in got[1:-1])["p"]
        assert numbers == sorted(set(numbers)) and len(numbers) < count
        assert numbers[-1] == count - 1


@every_kind
@pytest.mark.parametrize("slow", ["close", "drop"])
def test_what_was_dropped_is_counted(site, kind, slow):
    """For each connection: a line when it begins (slow: drop), and one with the count at its end."""
    web, worker = build(site, slow, kind)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        fast, _, _ = crowd.add(kind)
        count = 4000
        worker.channel().send(b"".join(data_frame(PUSH, message(n), conn) for n in range(count)))
        assert worker.channel().sync()
        worker.channel().push(conn, b'"end"')
        got = everything(client, b'"end"')
        client.close()
        worker.wait_disconnect(conn)
    wait_for(lambda: "connection %d ends" % conn in web.front.text(), "a line in the log")
    lines = [line for line in web.front.text().splitlines() if "connection %d " % conn in line]
    if slow == "drop":
        assert len(lines) == 2 and "connection %d (127.0.0.1:" % conn in lines[0]
        assert " %d pushes" % (count + 1 - len(got)) in lines[1]
    else:
        line, = lines
        assert 0 < int(line.split(" pushes")[0].split()[-1]) <= count - len(got)


def payload_of(kind, size):
    """What becomes a message of `size` bytes on that kind of connection; over 64 KiB."""
    return b"x" * (size - {"ws": 10, "frame": 4, "line": 1}[kind])


@every_kind
@pytest.mark.parametrize("size", [BUFFER - 1, BUFFER, BUFFER + 1, BODY, BODY + 1, 8 << 20])
def test_a_push_as_large_as_the_buffer(site, kind, size):
    """A client for which nothing waits gets one of any size up to limits.body, and small ones behind it; what is
    larger than that finds every client too slow."""
    over = size > BODY
    for slow in ("close", "drop"):
        web, worker = build(site, slow, kind)
        with Crowd(web, worker) as crowd:
            client, conn, _ = crowd.add(kind)
            large = b"x" * size if size >= BODY else payload_of(kind, size)
            worker.channel().push(conn, b'"first"')
            assert client.read_text() == b'"first"'
            worker.channel().push(conn, large)
            worker.channel().push(conn, b'"end"')
            expected = [] if over else [large]
            if not over or slow == "drop":
                expected.append(b'"end"')
            assert everything(client, b'"end"') == expected
            if over and slow == "close" and kind == "ws":
                assert client.closed[0] == 1013


@every_kind
@pytest.mark.parametrize("slow", ["close", "drop"])
@pytest.mark.parametrize("first", ["push", "publish", "answer"])
def test_what_follows_a_large_one(site, kind, slow, first):
    """Its size is not held against the client: write_buffer is there for what follows, answers among it."""
    web, worker = build(site, slow, kind, lambda call: None if call.method == "m" else echo(call), body=16 << 20)
    large = b'"%s"' % (b"x" * LARGE)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        crowd.join("t")
        client.send(b"".join(client.wrap(rpc_body("m", None, n)) for n in range(4)))
        worker.wait(lambda: sum(c.method == "m" for c in worker.calls) == 4)
        calls = [c for c in worker.calls if c.method == "m"]
        channel = worker.channel()
        if first == "push":
            channel.push(conn, large)
        elif first == "publish":
            channel.publish("t", large)
        else:
            calls[3].reply("x" * LARGE)
        pushes = [message(n) for n in range(20)]            # 80 KiB of the 128
        for text in pushes:
            channel.push(conn, text)
        for n in range(3):
            calls[n].reply("y" * 1000)
        assert channel.sync()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        pushed, answers = [], {}
        for _ in range(24):
            text = client.read_text()
            if text.startswith(b"{"):
                answer = json.loads(text)
                answers[answer["id"]] = answer.get("result")
            else:
                pushed.append(text)
        assert pushed == (pushes if first == "answer" else [large] + pushes)
        assert [answers[n] for n in range(3)] == ["y" * 1000] * 3
        assert not worker.disconnects


@every_kind
def test_what_follows_a_large_one_is_bounded(site, kind):
    """To a client that does not read: the large one that is being written, and write_buffer besides."""
    web, worker = build(site, "drop", kind, body=16 << 20)
    large = b'"%s"' % (b"x" * LARGE)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        crowd.add(kind)
        channel = worker.channel()
        channel.push(conn, large)
        channel.push(conn, large)                           # there is no room for a second one
        count = 4 * BUFFER // SIZE
        for n in range(count):
            channel.push(conn, message(n))
        assert channel.sync()
        channel.push(conn, b'"end"')
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        got = everything(client, b'"end"')
        assert got[0] == large
        numbers = runs_of(t.strip(b'"') for t in got[1:-1])["p"]
        assert numbers == list(range(numbers[0], count)) and BUFFER // 2 < len(numbers) * SIZE <= BUFFER
        assert worker.channel().sync() and not worker.disconnects


@every_kind
def test_a_push_that_never_fits_takes_no_others_place(site, kind):
    buffer = 8 << 20
    web, worker = build(site, "drop", kind, buffer=buffer)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind, rcvbuf=SMALL)
        waiting = [b'"%d %s"' % (n, b"x" * (1 << 20)) for n in range(7)]
        for text in [*waiting, payload_of(kind, buffer + 1), b'"end"']:
            worker.channel().push(conn, text)
        assert worker.channel().sync()
        assert everything(client, b'"end"') == [*waiting, b'"end"']


@pytest.mark.parametrize("slow", ["close", "drop"])
def test_very_many_empty_pushes_to_a_client_that_never_reads(site, slow):
    """A message costs more than its bytes, and is counted as what it costs."""
    buffer = 1 << 20
    web, worker = build(site, slow, "ws", buffer=buffer)
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(rcvbuf=SMALL)
        crowd.add()
        channel = worker.channel()
        data = data_frame(PUSH, b"", conn) * 10000
        peak, before = 0, memory(web.shard)
        for _ in range(100 if sanitized() else 400):
            channel.send(data)
            peak = max(peak, memory(web.shard))
        assert channel.sync()
        if not sanitized():
            assert max(peak, memory(web.shard)) - before < 3 * buffer + (4 << 20)


@pytest.mark.parametrize("slow", ["close", "drop"])
def test_very_many_pushes_to_a_client_that_never_reads(site, slow):
    web, worker = build(site, slow, "ws")
    count = 100_000 if sanitized() else 1_000_000
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(rcvbuf=SMALL)
        other, _, _ = crowd.add()
        channel = worker.channel()
        before = memory(web.shard)
        start = time.monotonic()
        block = 2000
        data = data_frame(PUSH, b"x" * 100, conn) * block
        for _ in range(count // block):
            channel.send(data)
        assert channel.sync()
        assert other.call("demo.echo", [1]) == [1]
        if not sanitized():             # whose quarantine keeps what has been freed
            assert memory(web.shard) - before < 8 * BUFFER + (4 << 20)
        if slow == "close":
            with contextlib.suppress(Closed, BadFrame):
                client.read_close()
            # It is told; unless all this took longer than the 5 s for which the front waits for its Close.
            told = client.closed and client.closed[0]
            assert told == 1013 or told is None and time.monotonic() - start >= 5 - 0.05
            client.try_send(ws_close(1013))
            assert client.at_end()
            client.close()
            worker.wait_disconnect(conn)
        else:
            assert not worker.disconnects
            channel.push(conn, b"end")
            got = everything(client, b"end")
            assert 0 < len(got) < count and set(got[:-1]) == {b"x" * 100}


@every_kind
def test_very_many_subscriptions_of_clients_that_never_read(site, kind):
    """What waits for twenty of them is bounded for each; one message is not copied for each either."""
    web, worker = build(site, "drop", kind)
    with Crowd(web, worker) as crowd:
        for _ in range(20):
            crowd.add(kind, rcvbuf=SMALL)
        reads, _, _ = crowd.add(kind)
        crowd.join("t")
        before = memory(web.shard)
        flood(worker, crowd.members[-1:], lambda: False, 200)
        if not sanitized():
            assert memory(web.shard) - before < 20 * BUFFER + (4 << 20)
        assert reads.call("demo.echo", [1]) == [1]


@every_kind
@pytest.mark.skipif(sanitized(), reason="its quarantine keeps what has been freed")
def test_what_waits_for_many_is_in_memory_once(site, kind):
    """Twenty that do not read, and for whom write_buffer is full of the same messages."""
    buffer, many = 4 << 20, 20
    web, worker = build(site, "drop", kind, buffer=buffer)
    with Crowd(web, worker) as crowd:
        for _ in range(many):
            crowd.add(kind, rcvbuf=SMALL)
        crowd.add(kind)
        crowd.join("t")
        before = memory(web.shard)
        full = lambda: web.front.text().count("the oldest pushes for it are dropped") == many
        flood(worker, crowd.members[-1:], full, 16 * buffer // SIZE // ROUND)
        assert full()
        assert memory(web.shard) - before < many * buffer // 4


@every_kind
def test_calls_of_a_client_that_never_reads(site, kind):
    """Answers are never dropped: beyond the buffer the client is closed, or not read any more."""
    web, worker = build(site, "drop", kind, handler=lambda call: None if call.notify else call.reply("x" * SIZE))
    with web.stays(kind, rcvbuf=SMALL) as client:
        client.sock.settimeout(0.5)
        asked = 0
        try:
            while asked < ROUND * ROUNDS:
                client.ask("m", id=asked)
                asked += 1
        except OSError:                 # it is not read any more, or gone
            pass
        client.sock.settimeout(10)
        done = []
        try:
            while len(done) < asked - 1:
                done.append(client.read_json()["id"])
        except (Closed, WsClosed, AssertionError, OSError):
            pass
        assert done == list(range(len(done)))
        assert done
    wait_for(lambda: web.connections() == 0, "its end")
    assert len(worker.live()) == 1


# A shard that does not keep up

class Flood(threading.Thread):
    """Publishes COUNT messages of 60 KB to "t" on one channel."""

    COUNT = 400

    def __init__(self, name, channel):
        super().__init__(daemon=True)
        self.label, self.channel = name, channel
        channel.sock.settimeout(60)
        self.start()

    def run(self):
        for n in range(self.COUNT):
            self.channel.publish("t", (b"%s %d " % (self.label, n)).ljust(60000, b"."))


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def on_two_shards(site):
    """A site whose clients may have much waiting, and its worker."""
    web = site(shards=2, routes=[ws_route(timeout="1h", ping="1h"), rpc_route()], shard_timeout="1h",
               limits={"write_buffer": 256 << 20}, pools={"app": {"wait_for_worker": "10m"}})
    worker = web.fake()
    web.start()
    return web, worker


def test_a_shard_that_does_not_keep_up(site):
    """Its sibling goes on reading from workers, and keeps no more for it than 32 MiB: what is beyond is lost to
    its clients, and to nobody else's."""
    web, worker = on_two_shards(site)
    with Crowd(web, worker) as crowd:
        crowd.spread(1)
        crowd.join("t")
        pids = {shard: web.shard_of(client) for client, _, shard in crowd.members}
        with stopped(pids[1]):
            before = memory(pids[0])
            late = web.fake("app-2")
            late.wait(lambda: any(c.ready and c.front["shard"] == 0 for c in late.live()), "the channel")
            floods = [Flood(b"first", worker.channel(0)), Flood(b"second", late.channel(0))]
            reader = Reader(crowd.members[0][0], lambda got: len(got) == 2 * Flood.COUNT)
            assert runs_of(reader.finish()) == {"first": list(range(Flood.COUNT)),
                                                "second": list(range(Flood.COUNT))}
            for flood in floods:
                flood.join(60)
                assert not flood.is_alive()
            if not sanitized():
                assert memory(pids[0]) - before < 72 << 20
        last = Reader(crowd.members[1][0], lambda got: got and got[-1] == b"last 0")
        wait_for(lambda: "messages of workers did not reach it" in web.front.text(), timeout=60)
        worker.channel(0).publish("t", b"last 0")
        runs = runs_of(last.finish())
        kept = runs["first"] + runs["second"]
        assert 36 << 20 > len(kept) * 60000 > 24 << 20     # what its socket's buffer has counts not
        assert all(run == sorted(set(run)) for run in runs.values())
