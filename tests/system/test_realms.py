"""Realms: what workers of a pool do with connections and topics stays within the pool's realm; and connection
ids, which nobody can guess."""
import contextlib
import os
import signal

import pytest

from fakeworker import DISCONNECT, PUBLISH, PUSH, SUBSCRIBE, UNSUBSCRIBE, data_frame, frame
from harness import LIMIT, Site, rpc_route, wait_for, ws_route
from reloads import HUP, SLOW, USR2, channel_to
from duplex import Crowd
from test_reload_pushes import Source, judge
from wsclient import Reader

END = b'"end"'
POOLS = {"red": {"realm": "red"}, "crimson": {"realm": "red"}, "blue": {"realm": "blue"}, "app": {}}
ROUTES = [ws_route("/red", pool="red"), ws_route("/blue", pool="blue"), ws_route(), rpc_route()]


class Realms:
    """A site with a worker for each pool, and clients of each realm."""

    def __init__(self, site):
        self.site = site
        self.workers = {name: site.fake(name + "-1") for name in POOLS}
        self.stack = contextlib.ExitStack()

    def crowd(self, pool):
        return self.stack.enter_context(Crowd(self.site, self.workers[pool]))

    def settled(self, strange, channel, crowd):
        """Until what `strange`, a channel of another worker to the same shard, has sent before has reached the
        crowd's clients, or has not: what that shard passes on stays in order."""
        assert strange.front["shard"] == channel.front["shard"]
        assert strange.sync()
        crowd.settle(channel)


def path_of(pool):
    return "/ws" if pool == "app" else "/" + pool


@pytest.fixture(scope="module")
def web():
    with Site(shards=2, routes=ROUTES, pools=POOLS, limits={"subscriptions": 2},
              streams={"frame": {"pool": "red"}, "line": {"pool": "blue"}}) as site:
        made = Realms(site)
        site.start()
        site.realms = made
        yield site


@pytest.fixture
def realms(web):
    with contextlib.ExitStack() as stack:
        web.realms.stack = stack
        yield web.realms


@pytest.fixture(params=[0, 1], ids=["same shard", "other shard"])
def far(request):
    return request.param


def everything_strange(conn, topic=b'"t"'):
    """What a worker can do with a connection; none of it may be seen."""
    return (data_frame(PUSH, b'"strange"', conn) + frame(SUBSCRIBE, conn=conn, meta=b'{"topic":"new"}')
            + frame(UNSUBSCRIBE, conn=conn, meta=b'{"topic":' + topic + b"}") + frame(UNSUBSCRIBE, conn=conn)
            + data_frame(PUBLISH, b'"strange"', topic="t") + data_frame(PUBLISH, b'"strange"', topic="new")
            + frame(DISCONNECT, conn=conn, meta=b'{"code":4000}'))


def untouched(realms, crowd, client, conn, own, strange):
    """The connection has its topic "t", no other one, and nothing has come."""
    realms.settled(strange, own, crowd)
    own.publish("new", b'"it has joined what it should not"')
    own.publish("t", b'"mine"')
    assert client.read_text() == b'"mine"'
    assert client.call("demo.echo", [1]) == [1]


@pytest.mark.parametrize("stranger", ["blue", "app"])
@pytest.mark.parametrize("kind", ["ws", "frame"])
def test_connections_of_another_realm(realms, kind, far, stranger):
    crowd = realms.crowd("red")
    client, conn, shard = crowd.add(kind, **({"path": "/red"} if kind == "ws" else {}))
    own = realms.workers["red"].channel(shard ^ far)
    strange = realms.workers[stranger].channel(shard ^ far)
    crowd.join("t", channel=own)
    strange.send(everything_strange(conn))
    untouched(realms, crowd, client, conn, own, strange)
    assert len(realms.workers[stranger].live()) == 2 and len(realms.workers[stranger].channels) == 2


def test_a_named_realm_does_not_reach_those_without(realms, far):
    crowd = realms.crowd("app")
    client, conn, shard = crowd.add()
    own = realms.workers["app"].channel(shard ^ far)
    strange = realms.workers["red"].channel(shard ^ far)
    crowd.join("t", channel=own)
    strange.send(everything_strange(conn))
    untouched(realms, crowd, client, conn, own, strange)


def test_pools_of_one_realm_share_all(realms, far):
    crowd = realms.crowd("red")
    client, conn, shard = crowd.add(path="/red")
    other = realms.workers["crimson"].channel(shard ^ far)
    other.push(conn, b'"pushed"')
    assert client.read_text() == b'"pushed"'
    other.subscribe(conn, "t")
    other.publish("t", b'"published"')
    assert client.read_text() == b'"published"'
    other.unsubscribe(conn)
    other.publish("t", b'"left"')
    crowd.settle(other)
    other.disconnect(conn, 4000)
    client.expect_close(4000)


def test_topics_of_one_name(realms, far):
    """One in each realm: nobody reads in another one's, and each is there as long as it has members."""
    pools = ("red", "blue", "app")
    crowds = {pool: realms.crowd(pool) for pool in pools}
    for pool, crowd in crowds.items():
        for shard in (0, 1):
            crowd.add(shard=shard, path=path_of(pool))
        crowd.join("t", channel=realms.workers[pool].channel(far))
    for leaver in (None, *pools):
        if leaver:                      # who is first in a topic leaves: those in the others do not
            for _, conn, _ in crowds[leaver].members:
                realms.workers[leaver].channel(far).unsubscribe(conn, "t")
        for pool in pools:
            realms.workers[pool].channel(far).publish("t", b'"%s"' % pool.encode())
        for pool in pools:
            assert realms.workers[pool].channel(far).sync()
        gone = pools[:pools.index(leaver) + 1] if leaver else ()
        for pool, crowd in crowds.items():
            for client, _, _ in crowd.members:
                if pool not in gone:
                    assert client.read_text() == b'"%s"' % pool.encode()
            crowd.settle(realms.workers[pool].channel(far))


def test_strangers_do_not_count_for_the_limit_of_topics(realms, far):
    crowd = realms.crowd("red")
    client, conn, shard = crowd.add(path="/red")
    own = realms.workers["red"].channel(shard ^ far)
    strange = realms.workers["blue"].channel(shard ^ far)
    for n in range(4):                  # limits.subscriptions is 2
        strange.subscribe(conn, "theirs %d" % n)
    realms.settled(strange, own, crowd)
    for n in range(2):
        own.subscribe(conn, "mine %d" % n)
        own.publish("mine %d" % n, b'"%d"' % n)
        assert client.read_text() == b'"%d"' % n


def test_a_line_in_the_log_and_no_more(site):
    """Where the connection is known; as many as there may be for frames that are wrong."""
    web = site(shards=2, routes=ROUTES, pools=POOLS)
    realms = Realms(web)
    web.start()
    with realms.stack:
        crowd = realms.crowd("red")
        client, conn, shard = crowd.add(path="/red")
        for far in (0, 1):
            own = realms.workers["red"].channel(shard ^ far)
            strange = realms.workers["blue"].channel(shard ^ far)
            strange.send(data_frame(PUSH, b'"strange"', conn) * 1000)
            strange.send(data_frame(PUSH, b'"strange"', conn + 1) * 1000)     # nobody: no line
            realms.settled(strange, own, crowd)
            wait_for(lambda: web.front.text().count("is of another realm") == far + 1, "a line in the log")
        near, passed_on = [line for line in web.front.text().splitlines() if "is of another realm" in line]
        assert "pool blue: worker unix:%s: PUSH is dropped" % web.path("blue-1.sock") in near
        assert "PUSH from another shard is dropped" in passed_on


# Over reloads

@pytest.mark.parametrize("how", [HUP, USR2, "kill"])
def test_realms_after_a_reload(front, how):
    site = front(shards=2, routes=ROUTES, pools=POOLS, drain="20s")
    realms = Realms(site)
    site.start()
    with realms.stack:
        crowd = realms.crowd("red")
        blues = realms.crowd("blue")
        for shard in (0, 1):
            crowd.add(shard=shard, path="/red")
            blues.add(shard=shard, path="/blue")
        crowd.join("t")
        blues.join("t")
        ids = {conn for _, conn, _ in crowd.members + blues.members}
        if how == "kill":
            os.kill(site.front.pid, signal.SIGKILL)
            site.front.wait()
            served = site.count(" serves: ")
            site.launch()
            site.wait_log(" serves: ", served + 1)
            site.wait_log("the old shards are gone")
        else:
            site.reload(how)
        for shard in (0, 1):
            own = channel_to(site, realms.workers["red"], shard)
            strange = channel_to(site, realms.workers["blue"], shard)
            for client, conn, _ in crowd.members:
                strange.send(everything_strange(conn))
                assert strange.sync()
            for client, _, _ in blues.members:          # its own have "t", and are published to
                for _ in crowd.members:
                    assert client.read_text() == b'"strange"'
            for client, conn, _ in crowd.members:
                realms.settled(strange, own, crowd)
            own.publish("new", b'"wrong"')
            own.publish("t", b'"mine"')
            for client, _, _ in crowd.members:
                assert client.read_text() == b'"mine"'
        for client, conn, _ in crowd.members:
            assert client.who()[0] == conn
        for _ in range(20):
            ids.add(crowd.add(path="/red")[1])
        assert len(ids) == 24, "an id was given twice"


def test_a_pool_that_changes_its_realm(front):
    """Its connections are of the new realm, and take their topics along; the old realm has lost them."""
    site = front(shards=2, routes=ROUTES, pools=POOLS, drain="20s")
    realms = Realms(site)
    site.start()
    with realms.stack:
        crowd = realms.crowd("red")
        blues = realms.crowd("blue")
        crowd.spread(1, path="/red")
        blues.spread(1, path="/blue")
        crowd.join("t")
        blues.join("t")
        pools = [dict(pool, **({"realm": "blue"} if pool["name"] == "red" else {}))
                 for pool in site.config["pools"]]
        site.reload(pools=pools)
        for shard in (0, 1):
            blue, old = (channel_to(site, realms.workers[pool], shard) for pool in ("blue", "crimson"))
            red = channel_to(site, realms.workers["red"], shard)
            for client, conn, _ in crowd.members:
                old.send(everything_strange(conn))
                assert old.sync()
            blue.publish("t", b'"to both"')
            for client, _, _ in crowd.members + blues.members:
                assert client.read_text() == b'"to both"'
            crowd.settle(blue)          # they can be reached, from the one pool and the other
            blues.settle(red)
        # And back, with SIGUSR2: topics of two realms again.
        site.reload(USR2, pools=[dict(pool, **POOLS[pool["name"]]) for pool in pools])
        blue, red = (channel_to(site, realms.workers[pool], 0) for pool in ("blue", "red"))
        blue.publish("t", b'"blue"')
        for client, _, _ in blues.members:
            assert client.read_text() == b'"blue"'
        realms.settled(blue, red, crowd)
        red.publish("t", b'"red"')
        for client, _, _ in crowd.members:
            assert client.read_text() == b'"red"'


def test_pushes_while_connections_move(front):
    """Those of the realm arrive once and in order, and strangers', who use the same ids and topics, never."""
    site = front(shards=2, routes=ROUTES, pools=POOLS, drain="20s")
    realms = Realms(site)
    for worker in realms.workers.values():
        worker.keep_frames = False
    site.start()
    red, blue = realms.workers["red"], realms.workers["blue"]
    with realms.stack:
        crowd = realms.crowd("red")
        for _ in range(15):
            crowd.add(path="/red")
        crowd.join("t")
        conns = [conn for _, conn, _ in crowd.members[::3]]
        readers = [(conn, Reader(client, lambda m: m and m[-1] == END)) for client, conn, _ in crowd.members]
        own = [Source(red, "s%d" % n, conns) for n in range(2)]
        strangers = Source(blue, "x", conns)
        for how, shards in ((HUP, 2), (USR2, 3), (HUP, 2)):
            site.reload(how, shards=shards)
        sent = {}
        for source in own:
            sent.update(source.stop())
        assert strangers.stop()
        for channel in red.live() + blue.live():
            if channel.ready:
                channel.sync()
        # What came to another shard may still be on its way between shards, so the end has to wait.
        with contextlib.suppress(AssertionError):       # which tells less than what follows
            wait_for(lambda: all(judge(conn, r.messages, sent, set()) is None for conn, r in readers),
                     timeout=LIMIT * SLOW)
        for channel in [c for c in red.live() if c.ready]:
            for _, conn, _ in crowd.members:
                channel.push(conn, END)
        for conn, reader in readers:
            assert judge(conn, reader.finish(), sent, set()) is None


# Connection ids

def test_ids_tell_nothing_of_others(realms):
    """Neither the first half nor the second of one is that of another, and no difference comes twice."""
    crowd = realms.crowd("app")
    ids = [crowd.add()[1] for _ in range(200)]
    for shard in (0, 1):
        mine = [conn for _, conn, where in crowd.members if where == shard]
        assert len({conn >> 32 for conn in mine}) >= len(mine) - 1
        assert len({conn & 0xffffffff for conn in mine}) >= len(mine) - 1
        assert len({(b - a) % (1 << 64) for a, b in zip(mine, mine[1:])}) == len(mine) - 1
    assert len(set(ids)) == 200 and 0 not in ids
    assert sum(bin(conn).count("1") for conn in ids) / len(ids) == pytest.approx(32, abs=3)
