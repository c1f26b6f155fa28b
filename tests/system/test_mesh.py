"""A shard that does not keep up with what its siblings pass on: it loses pushes to itself, and nobody else loses
or waits for anything. It is stopped here, with a shard_timeout that leaves it alone."""
import contextlib
import os
import re
import signal
import threading
import time

import pytest

from fakeworker import PUBLISH, PUSH, SUBSCRIBE, data_frame, frame, topic_meta
from harness import LIMIT, rpc_route, wait_for, ws_route
from reloads import HUP, SLOW, USR2, Paused, call
from duplex import Crowd
from wsclient import Reader

MIB = 1024 * 1024
LOST = re.compile(r"the shard on seat \d+ (keeps up again|has ended): (\d+) messages of workers did not reach it")
SLOW_LINE = "does not keep up: what workers send to its connections is lost"
KINDS = ["http", "ws", "frame", "line"]
END = b'"end"'


def build(front, shards=3, **keys):
    keys.setdefault("shard_timeout", "1h")
    keys.setdefault("limits", {"write_buffer": "1GiB"})
    keys.setdefault("drain", "30s")
    site = front(shards=shards, routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}},
                 pools={"app": {}, "pub": {}}, **keys)
    worker = site.fake()
    worker.keep_frames = False
    publisher = site.fake("pub-1")
    site.start()
    return site, worker, publisher


def hang(site, shard):
    """Stops that shard within a `with`."""
    return Paused(site.shards()[shard])


class Flood:
    """Sends bytes on some channels at the same time, each in a thread."""

    def __init__(self, channels, data):
        self.channels = channels
        self.threads = [threading.Thread(target=c.send, args=(data,), daemon=True) for c in channels]
        for thread in self.threads:
            thread.start()

    def wait(self):
        """Until all of it has been carried out."""
        for thread in self.threads:
            thread.join(6 * LIMIT * SLOW)
            assert not thread.is_alive(), "a channel is not read"
        for channel in self.channels:
            assert channel.sync()


def on_shards(site, worker, shards, kind):
    """A client of each of these shards."""
    found = {}
    for _ in range(300):
        client = site.client() if kind == "http" else site.stays(kind)
        if kind == "http":
            shard = client.rpc("who").json()["result"]["shard"]
        else:
            shard = client.who()[1]
        if shard in shards and shard not in found:
            found[shard] = client
        else:
            client.close()
        if len(found) == len(shards):
            return [found[shard] for shard in shards]
    raise AssertionError("300 connections, and none on some shard")


@pytest.mark.parametrize("size", [200, 64 * 1024, MIB])
@pytest.mark.parametrize("same", [True, False], ids=["same worker", "other worker"])
def test_calls_while_one_is_stopped_and_much_is_published_to_nobody(front, same, size):
    """18 MB, then what is beyond every bound: calls on the others are answered all the time."""
    site, worker, publisher = build(front)
    source = worker if same else publisher
    channels = [source.channel(shard) for shard in (0, 1)]
    clients = {kind: on_shards(site, worker, (0, 1), kind) for kind in KINDS}
    message = data_frame(PUBLISH, b"x" * size, topic="nobody")
    with hang(site, 2):
        for megabytes in (18, 40):
            flood = Flood(channels, message * (megabytes * 1000 * 1000 // size))
            for n in range(20):
                for kind in KINDS:
                    for client in clients[kind]:
                        call(client, n)
            flood.wait()
            for kind in KINDS:
                for client in clients[kind]:
                    call(client)
            assert (SLOW_LINE in site.log_text()) == (megabytes == 40)
    # It goes on where it can, and says what has not come.
    wait_for(lambda: len(LOST.findall(site.log_text())) == 2, "both siblings to say it", 3 * LIMIT * SLOW)
    sent = 2 * (18 * 1000 * 1000 // size + 40 * 1000 * 1000 // size)
    assert 0 < sum(int(n) for _, n in LOST.findall(site.log_text())) < sent
    for shard in on_shards(site, worker, (0, 1, 2), "ws"):
        call(shard)
        shard.close()
    for made in clients.values():
        for client in made:
            client.close()


def numbered(topic, count, size):
    return [data_frame(PUBLISH, b"%08d" % n + b"x" * size, topic=topic) for n in range(count)]


def numbers_of(messages):
    return [int(m[:8]) for m in messages if m != END]


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_what_is_published_and_pushed_to_the_others_comes(front, kind):
    """Far more than what can wait for the one that is stopped: the others miss nothing, in order; it gets
    what came before and after, and in between what there was room for."""
    site, worker, publisher = build(front)
    with Crowd(site, worker) as crowd:
        members = crowd.spread(2, kind)
        crowd.join("t", channel=worker.channel(0))
        readers = [Reader(client, lambda m: m and m[-1] == END) for client, _, _ in members]
        channel = publisher.channel(0)
        count, size = 750, 64 * 1024
        frames = numbered("t", count, size)
        with hang(site, 2):
            for at in range(0, count, 50):
                channel.send(b"".join(frames[at:at + 50]))
                for _, conn, shard in members:
                    channel.push(conn, b"%08d pushed" % (10 ** 6 + at))
            assert channel.sync()
            expected = [n for at in range(0, count, 50) for n in [*range(at, at + 50), 10 ** 6 + at]]
            for reader, (_, _, shard) in zip(readers, members):
                if shard != 2:
                    wait_for(lambda r=reader: len(r.messages) >= len(expected), "all messages", 3 * LIMIT * SLOW)
                    assert numbers_of(reader.messages) == expected
        wait_for(lambda: LOST.search(site.log_text()), "a word of it", 3 * LIMIT * SLOW)
        for _, conn, _ in members:
            channel.push(conn, END)
        for reader, (_, _, shard) in zip(readers, members):
            got = numbers_of(reader.finish())
            if shard == 2:
                order = {n: at for at, n in enumerate(expected)}
                places = [order[n] for n in got]
                assert places == sorted(set(places)) and 100 < len(got) < len(expected)
        lost = sum(int(n) for _, n in LOST.findall(site.log_text()))
        assert lost > 0


def test_subscribe_floods(front):
    """More than there is room for is about a connection of the one that is stopped."""
    site, worker, publisher = build(front)
    with Crowd(site, worker) as crowd:
        members = crowd.spread(1)
        conn = members[2][1]
        one = frame(SUBSCRIBE, meta=topic_meta("t" * 200), conn=conn)
        with hang(site, 2):
            flood = Flood([publisher.channel(0)], one * (45 * MIB // len(one)))
            while any(thread.is_alive() for thread in flood.threads):
                for client, _, _ in members[:2]:
                    call(client)
            flood.wait()
            for client, _, _ in members[:2]:
                call(client)
            wait_for(lambda: SLOW_LINE in site.log_text())
        wait_for(lambda: LOST.search(site.log_text()), "a word of it", 3 * LIMIT * SLOW)
        publisher.channel(0).publish("t" * 200, b'"joined"')
        assert members[2][0].read_text() == b'"joined"'


def test_small_frames_have_room_for_longer(front):
    """A PUSH that finds no room is lost, a SUBSCRIBE after it is not."""
    site, worker, publisher = build(front)
    with Crowd(site, worker) as crowd:
        client, conn, _ = crowd.add("ws", 2)
        channel = publisher.channel(0)
        with hang(site, 2):
            channel.send(data_frame(PUSH, b"y" * MIB, conn) * 50)
            channel.subscribe(conn, "late")
            channel.sync()
            wait_for(lambda: SLOW_LINE in site.log_text())
        reader = Reader(client, lambda m: m and m[-1] == END)
        wait_for(lambda: LOST.search(site.log_text()), "a word of it", 3 * LIMIT * SLOW)
        channel.publish("late", b'"late"')
        channel.push(conn, END)
        got = reader.finish()
        assert got[-2:] == [b'"late"', END]
        assert 25 <= len(got) - 2 < 50


@pytest.mark.parametrize("size", [1000, 300 * 1000])
def test_a_burst_to_one_that_is_slow_but_lives_is_not_lost(front, size):
    """It gets a tenth of the time: 30 MB from a worker that only publishes all come."""
    site, worker, publisher = build(front)
    with Crowd(site, worker) as crowd:
        members = [crowd.add("frame", shard) for shard in (0, 2)]
        crowd.join("t", channel=worker.channel(0))
        readers = [Reader(client, lambda m: m and m[-1] == END) for client, _, _ in members]
        count = 30 * 1000 * 1000 // size
        channel = publisher.channel(0)
        victim, stop = site.shards()[2], threading.Event()

        def slow_down():
            while not stop.is_set():
                os.kill(victim, signal.SIGSTOP)
                time.sleep(0.09)
                os.kill(victim, signal.SIGCONT)
                time.sleep(0.01)
        slower = threading.Thread(target=slow_down, daemon=True)
        slower.start()
        try:
            Flood([channel], b"".join(numbered("t", count, size - 8))).wait()
            wait_for(lambda: all(len(r.messages) >= count for r in readers), "all messages", 6 * LIMIT * SLOW)
        finally:
            stop.set()
            slower.join()
        for _, conn, _ in members:
            channel.push(conn, END)
        for reader in readers:
            assert numbers_of(reader.finish()) == list(range(count))
        assert SLOW_LINE not in site.log_text()


@pytest.mark.parametrize("which", ["old", "new"])
@pytest.mark.parametrize("number", [HUP, USR2])
def test_a_shard_hangs_in_a_reload_while_much_is_published(front, number, which):
    """The hand-over of the others comes to its end, and their connections miss nothing."""
    site, worker, publisher = build(front, shard_timeout="10s", drain="60s")
    with Crowd(site, worker) as crowd:
        members = [crowd.add("frame", shard) for shard in (0, 1) for _ in range(3)]
        crowd.join("t", channel=worker.channel(0))
        readers = [Reader(client, lambda m: m and m[-1] == END) for client, _, _ in members]
        old = site.shards()
        first = publisher.channel(0)
        count, size, part = 1200, 64 * 1024, 100
        frames = numbered("t", count, size)
        with contextlib.ExitStack() as stack:
            if which == "old":
                stack.enter_context(Paused(old[2]))
                site.say(number)
                site.wait_log(" serves: ", 1, 3 * LIMIT * SLOW)
            else:
                with Paused(old):
                    site.say(number)
                    site.wait_log(" serves: ", 1, 3 * LIMIT * SLOW)
                    victim = site.shards()[-1]
                    stack.enter_context(Paused(victim))
            # On a channel of a new shard, which is there to the end.
            publisher.wait(lambda: [c for c in publisher.live() if c.ready and c.front["generation"] == 2
                                    and c.front["shard"] == 0], "a channel")
            channel, = [c for c in publisher.live() if c.front["generation"] == 2 and c.front["shard"] == 0]
            for at in range(0, count, part):
                channel.send(b"".join(frames[at:at + part]))
                assert channel.sync()
            site.wait_log("the old shards are gone", 1, 6 * LIMIT * SLOW)
        for _, conn, _ in members:
            channel.push(conn, END)
        for reader in readers:
            assert numbers_of(reader.finish()) == list(range(count))
        assert first is not channel
        for client, _, _ in members:
            call(client)
