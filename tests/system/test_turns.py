"""What one party sends in one go does not hold up the others: workers that publish and push to very many, and
clients that send very many small things. Times are compared within a run only."""
import select
import statistics
import threading
import time

import pytest

from fakeworker import PUBLISH, PUSH, RESPONSE, data_frame, frame, hold, topic_meta
from harness import LIMIT, http_route, rpc_route, sanitized, wait_for, ws_route
from patience import HeldUp, patient
from reloads import SLOW, Paused
from duplex import Crowd
from wsclient import Reader

END = b'"end"'


class Sink(threading.Thread):
    """Reads and forgets what clients are sent; `bytes` has how much it was."""

    def __init__(self, clients):
        super().__init__(daemon=True)
        self.poll, self.socks, self.bytes, self.closing = select.epoll(), {}, 0, False
        for client in clients:
            assert not client.buffer
            self.socks[client.sock.fileno()] = client.sock
            self.poll.register(client.sock.fileno(), select.EPOLLIN)
        self.start()

    def run(self):
        buffer = bytearray(1 << 18)
        while not self.closing:
            for fd, _ in self.poll.poll(0.1):
                self.bytes += self.socks[fd].recv_into(buffer)

    def stop(self):
        self.closing = True
        self.join(LIMIT)


def build(site, shards=1, **keys):
    web = site(shards=shards, routes=[rpc_route(), ws_route(), http_route()],
               pools={"app": {}, "pub": {}}, streams={"frame": {}, "line": {}},
               limits={"write_buffer": 64 << 20}, **keys)
    worker, publisher = web.fake(), web.fake("pub-1")
    worker.keep_frames = publisher.keep_frames = False
    web.start()
    return web, worker, publisher


@pytest.mark.parametrize("far", [False, True], ids=["same shard", "other shard"])
@pytest.mark.parametrize("kind", ["http", "ws", "frame", "line"])
@patient()
def test_calls_beside_a_burst_to_many(site, far, kind):
    """All of it is there at once; calls of another pool take a small part of the time that it takes."""
    web, worker, publisher = build(site, 2 if far else 1)
    shard = 1 if far else 0
    with Crowd(web, worker) as crowd:
        members = [crowd.add("frame", shard) for _ in range(60 if sanitized() else 200)]
        crowd.join("t", channel=worker.channel(0))
        client = crowd.add(kind, shard)[0] if kind != "http" else None
        while client is None:
            client = web.client()
            if client.rpc("who").json()["result"]["shard"] != shard:
                client.close()
                client = None
        count, text = 2000, b"x" * 28
        sink = Sink([member for member, _, _ in members])
        with Paused(web.shards()):
            publisher.channel(0).send(data_frame(PUBLISH, text, topic="t") * count)
        start, took, expected = time.monotonic(), [], count * (len(text) + 4) * len(members)
        while sink.bytes < expected:
            before = time.monotonic()
            if kind == "http":
                assert client.rpc("demo.echo", [1]).status == 200
            else:
                assert client.call("demo.echo", [1]) == [1]
            took.append(time.monotonic() - before)
            assert time.monotonic() - start < 60 * SLOW
        whole = time.monotonic() - start
        sink.stop()
        assert sink.bytes == expected
        client.close()
    if len(took) < 3:
        raise HeldUp("the burst was over before the calls began")
    # Once the frames have been read, the sink alone is what is slow: the first calls say more.
    assert statistics.median(took) < whole / 2, (took, whole)


def test_the_order_on_one_channel_is_kept(site):
    """What comes behind a message to many waits for it, wherever the members are: PUSH, UNSUBSCRIBE, a second topic,
    and the answer of a call."""
    web, worker, publisher = build(site, 2)
    worker.handler = lambda call: hold(call) if call.method == "held" else call.reply(
        {"conn": str(call.conn), "shard": call.channel.front["shard"]})
    with Crowd(web, worker) as crowd:
        members = crowd.spread(60, "frame")
        crowd.join("t", channel=worker.channel(0))
        crowd.join("u", members[::2], worker.channel(0))
        client, conn, shard = members[0]
        readers = [Reader(member, lambda m: m and m[-1] == END) for member, _, _ in members[1:]]
        for n in range(20):
            client.ask("held", id=n)
            worker.wait(lambda: len([c for c in worker.calls if c.method == "held"]) == n + 1, "the call")
            held = [c for c in worker.calls if c.method == "held"][-1]
            body = b'{"jsonrpc":"2.0","id":%d,"result":0}' % n
            held.channel.finished(held)
            held.channel.send(
                b"".join(data_frame(PUBLISH, b'"t %d"' % k, topic="t") for k in range(100)) +
                data_frame(PUBLISH, b'"u"', topic="u") + data_frame(PUSH, b'"push"', conn) +
                frame(RESPONSE, held.call, body) + data_frame(PUBLISH, b'"after"', topic="t"))
            expected = [b'"t %d"' % k for k in range(100)] + [b'"u"', b'"push"', body, b'"after"']
            assert [client.read_text() for _ in expected] == expected
        channel = worker.channel(shard)
        for _, other, _ in members[1:]:
            channel.push(other, END)
        for reader, (_, _, where) in zip(readers, members[1:]):
            once = [m for m in reader.finish() if m != b'"u"']
            assert once == ([b'"t %d"' % k for k in range(100)] + [b'"after"']) * 20 + [END]


@pytest.mark.parametrize("end", ["closes", "breaks"])
def test_a_worker_that_ends_behind_a_burst(site, end):
    """All complete frames that it has sent are carried out, on both shards, before its end is seen."""
    web, worker, publisher = build(site, 2)
    publisher.tolerant = True
    with Crowd(web, worker) as crowd:
        members = crowd.spread(40, "frame")
        crowd.join("t", channel=worker.channel(0))
        readers = [Reader(member, lambda m: m and m[-1] == END) for member, _, _ in members]
        count = 3000
        channel = publisher.channel(0)
        data = b"".join(data_frame(PUBLISH, b"%d" % n, topic="t") for n in range(count))
        data += b"".join(data_frame(PUSH, b'"last"', conn) for _, conn, _ in members)
        channel.send(data + (b"\xff" * 64 if end == "breaks" else frame(PUSH, meta=topic_meta("x"))[:40]))
        if end == "closes":
            channel.close()
        wait_for(lambda: all(r.messages and r.messages[-1] == b'"last"' for r in readers), "the last message",
                 6 * LIMIT * SLOW)
        for _, conn, _ in members:
            worker.channel(0).push(conn, END)
        for reader in readers:
            assert reader.finish() == [b"%d" % n for n in range(count)] + [b'"last"', END]
        wait_for(lambda: channel.closed, "the end of the channel")


SMALL = {       # what a client sends very often, and with which protocol
    "heartbeats": ("frame", b"\0\0\0\0"),
    "pings": ("ws", b"\x89\x80\0\0\0\0"),
    "invalid lines": ("line", b"x\n"),
    "empty lines": ("line", b"\n"),
    "requests": ("http", b"OPTIONS /rpc HTTP/1.1\r\nHost: a\r\n\r\n"),
}


@pytest.mark.parametrize("what", SMALL)
def test_clients_beside_one_that_sends_very_many_small_things(site, what):
    """It is not read faster than others are served."""
    web, worker, _ = build(site)
    kind, one = SMALL[what]
    flooder = web.client() if kind == "http" else web.stays(kind)
    stop = threading.Event()
    sent = []

    def flood():
        data = one * ((1 << 20) // len(one))
        flooder.sock.settimeout(2 * LIMIT)
        while not stop.is_set():
            try:
                flooder.sock.sendall(data)
                sent.append(len(data))
            except OSError:
                return

    def drain():
        try:
            while flooder.sock.recv(1 << 18):
                pass
        except OSError:
            pass
    threads = [threading.Thread(target=f, daemon=True) for f in (flood, drain)]
    for thread in threads:
        thread.start()
    with web.ws() as client:
        for n in range(50):
            assert client.call("demo.echo", [n]) == [n]
    stop.set()
    flooder.close()
    assert web.rpc("demo.echo", [1]).status == 200
