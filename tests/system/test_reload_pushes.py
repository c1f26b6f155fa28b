"""What workers push while connections move from generation to generation: each message arrives once, and in
order for each channel that it came on."""
import contextlib
import os
import signal
import threading

from fakeworker import PUBLISH, PUSH, data_frame
from harness import LIMIT, rpc_route, stat, wait_for, ws_route
from reloads import HUP, SLOW, USR2, Catch, call
from duplex import Crowd
from wsclient import Reader

END = b'"end"'
PLAN = [(HUP, 2), (USR2, 2), (HUP, 3), (USR2, 1), (HUP, 4), (HUP, 2), (USR2, 2), (HUP, 1), (USR2, 2), (HUP, 2)]


def build(front, shards=2, **keys):
    site = front(shards=shards, routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, drain="20s",
                 **keys)
    worker = site.fake()
    worker.keep_frames = False
    site.start()
    return site, worker


class Source(threading.Thread):
    """Publishes "NAME.CHANNEL NUMBER" to the topic "t" and pushes "NAME.CHANNELp NUMBER" to each of
    `conns`, on all channels in turn. What could not be sent on a channel, which the front had closed, goes
    out on the next; `sent` has how many were sent under each name, `channels` the channel of each."""

    def __init__(self, worker, name, conns):
        super().__init__(daemon=True)
        self.worker, self.name, self.conns = worker, name, conns
        self.sent, self.closing, self.numbers, self.channels = {}, threading.Event(), {}, {}
        self.start()

    def _channel(self, turn):
        live = [c for c in self.worker.live() if c.ready and not c.goaway]
        return live[turn % len(live)] if live else None

    def _send(self, channel, kind, make):
        number = self.numbers.setdefault(channel, len(self.numbers))
        name = "%s.%d%s" % (self.name, number, kind)
        n = self.sent.get(name, 0) + 1
        try:
            with channel.lock:
                channel.sock.sendall(make(b"%s %d" % (name.encode(), n)))
        except OSError:
            return False
        self.sent[name], self.channels[name] = n, channel
        return True

    def run(self):
        turn = 0
        while not self.closing.wait(0.002):
            turn += 1
            channel = self._channel(turn)
            if channel is None or not self._send(channel, "", lambda text: data_frame(PUBLISH, text, topic="t")):
                continue
            for conn in self.conns:
                if not self._send(channel, "p%d" % conn, lambda text: data_frame(PUSH, text, conn)):
                    break

    def stop(self):
        self.closing.set()
        self.join(LIMIT)
        assert not self.is_alive()
        return self.sent


def judge(conn, messages, sent, broken):
    """Of what was published and of what was pushed to this connection, everything came, once and in order;
    of what was sent on a channel to a shard that was killed, what came did so."""
    got = {}
    for message in messages:
        if message != END:
            name, number = message.split()
            got.setdefault(name.decode(), []).append(int(number))
    for name, count in sent.items():
        if "p" in name.split(".")[1] and not name.endswith("p%d" % conn):
            continue
        numbers = got.pop(name, [])
        whole = len(numbers) == count or name in broken
        if not whole or numbers != sorted(set(numbers)):
            missing = sorted(set(range(1, count + 1)) - set(numbers))
            return "%s: %d of %d, missing %s, %d doubled, in order: %s" % (
                name, len(numbers), count, missing[:5], len(numbers) - len(set(numbers)),
                numbers == sorted(numbers))
    return "not sent: %s" % list(got) if got else None


def pushes_over(site, worker, act, each=5, sources=2):
    """`act()` while pushes go out; then every client has to have got everything."""
    with Crowd(site, worker) as crowd:
        for _ in range(each):
            for kind in ("ws", "frame", "line"):
                crowd.add(kind)
        crowd.join("t")
        readers = [(conn, Reader(client, lambda m: m and m[-1] == END)) for client, conn, _ in crowd.members]
        conns = [conn for _, conn, _ in crowd.members[::3]][:5]
        running = [Source(worker, "s%d" % n, conns) for n in range(sources)]
        act()
        sent = {}
        for source in running:
            sent.update(source.stop())
        for channel in worker.live():
            if channel.ready:       # one of a shard that is just being started has nothing on it
                channel.sync()
        broken = {name for source in running for name, channel in source.channels.items()
                  if channel.closed and not channel.goaway}
        # What came to another shard may still be on its way between shards, so the end has to wait.
        with contextlib.suppress(AssertionError):   # which tells less than what follows
            wait_for(lambda: all(judge(conn, r.messages, sent, broken) is None for conn, r in readers),
                     timeout=LIMIT * SLOW)
        # On all channels: one may be to a shard that was killed, which its thread has not noticed yet.
        for channel in [c for c in worker.live() if c.ready]:
            for _, conn, _ in crowd.members:
                channel.push(conn, END)
        problems = [(conn, judge(conn, r.finish(), sent, broken)) for conn, r in readers]
        problems = [problem for problem in problems if problem[1]]
        assert not problems, "%d: %s" % (len(problems), problems[:5])
        assert sum(sent.values()) > 50


def test_pushes_over_ten_reloads(front):
    site, worker = build(front)

    def act():
        for number, shards in PLAN:
            site.reload(number, shards=shards)
    pushes_over(site, worker, act)
    assert site.generation() == 11


def test_pushes_to_many_over_reloads(front):
    """To so many that a message is on its way for several turns, and connections are sent in between."""
    site, worker = build(front)

    def act():
        for number, shards in PLAN[:5]:
            site.reload(number, shards=shards, timeout=6 * LIMIT * SLOW)
    pushes_over(site, worker, act, each=30)
    assert site.generation() == 6


def test_pushes_while_a_new_shard_is_stopped_for_a_while(front):
    """It is stopped as soon as it is there; connections that were offered to it wait, nobody else does."""
    site, worker = build(front)

    def act():
        for number in (HUP, USR2):
            catch = Catch(site, signal.SIGSTOP)
            site.say(number)
            wait_for(lambda: catch.caught, "a new shard")
            threading.Event().wait(0.3)
            os.kill(catch.stop()[0], signal.SIGCONT)
            site.wait_log("the old shards are gone", 1 if number == HUP else 2, 3 * LIMIT)
    pushes_over(site, worker, act)


def test_pushes_while_an_old_shard_is_stopped_for_a_while(front):
    site, worker = build(front)

    def act():
        for n, number in enumerate((HUP, USR2)):
            victim = site.shards()[0]
            with site.paused(victim):
                site.say(number)
                site.wait_log(" serves: ", n + 1, 2 * LIMIT)
                threading.Event().wait((0.3, 4)[n])
            site.wait_log("the old shards are gone", n + 1, 3 * LIMIT)
    pushes_over(site, worker, act)


def test_pushes_while_a_new_shard_dies_before_it_has_taken_anything(front):
    """Stopped before the hand-over, and killed in it: what it was offered stays with the old shards, which
    give it to the other one and to the one that is started again."""
    site, worker = build(front)

    def act():
        for n in range(6):
            wait_for(lambda: len(site.shards()) == 2, "all shards")
            old = site.shards()
            with site.paused(old):
                site.say(HUP)
                wait_for(lambda: len(site.shards()) == 4, "the new shards")
                site.wait_log(" serves: ", n + 1, 2 * LIMIT)
                victim = [pid for pid in site.shards() if pid not in old][0]
                os.kill(victim, signal.SIGSTOP)
                wait_for(lambda: stat(victim)[0] == "T", "it to stop")
            threading.Event().wait(0.004 * n)   # another moment in each round
            os.kill(victim, signal.SIGKILL)
            site.wait_log("the old shards are gone", n + 1, 3 * LIMIT)
    pushes_over(site, worker, act)


def test_calls_over_ten_reloads(front):
    """Each connection calls again and again, and no call fails."""
    site, worker = build(front)
    stop = threading.Event()
    failures, done = [], []

    def run(client):
        n = 0
        try:
            while not stop.is_set():
                n += 1
                call(client, n)
        except Exception as e:
            failures.append(repr(e))
        done.append(n)
    clients = [site.client() for _ in range(3)] + [site.stays(kind) for kind in ("ws", "frame", "line")]
    threads = [threading.Thread(target=run, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for number, shards in PLAN:
        site.reload(number, shards=shards)
    stop.set()
    for thread in threads:
        thread.join(LIMIT)
    assert not failures and len(done) == len(clients) and min(done) > 10, (failures, done)
