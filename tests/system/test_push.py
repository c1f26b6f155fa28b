"""What workers push: to connections on any shard, to topics, in order; and DISCONNECT. Protocol section 9."""
import json
import threading

import pytest

from fakeworker import DISCONNECT, PUBLISH, PUSH, SUBSCRIBE, UNSUBSCRIBE, data_frame, echo, frame, hold
from harness import Site, rpc_route, sanitized, wait_for, ws_route
from httpclient import rpc_request
from duplex import Crowd, runs_of
from wsclient import BINARY, TEXT, Closed, Reader, WsClosed


KINDS = ["ws", "frame", "line"]
TOPICS = 5              # limits.subscriptions
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def web():
    with Site(shards=2, routes=[ws_route(), ws_route("/raw", messages="raw"), rpc_route()],
              streams={"frame": {}, "line": {}}, limits={"subscriptions": TOPICS}) as site:
        site.fake()
        yield site.start()


@pytest.fixture
def worker(web):
    return web.workers[0]


@pytest.fixture
def crowd(web, worker):
    with Crowd(web, worker) as made:
        yield made


@pytest.fixture(params=[0, 1], ids=["same shard", "other shard"])
def far(request):
    """Added to a client's shard: that of the channel to be used."""
    return request.param


# PUSH

@every_kind
def test_push(crowd, worker, kind, far):
    client, conn, shard = crowd.add(kind)
    channel = worker.channel(shard ^ far)
    for n in range(3):
        channel.push(conn, b'{"n":%d}' % n)
        assert client.read_text() == b'{"n":%d}' % n
    channel.push(conn, b'{"jsonrpc":"2.0","method":"news"}', body=True)
    assert client.read_text() == b'{"jsonrpc":"2.0","method":"news"}'
    assert client.call("demo.echo", [1]) == [1]


def test_push_of_text_and_bytes(crowd, worker, far):
    client, conn, shard = crowd.add()
    channel = worker.channel(shard ^ far)
    for binary, data in ((False, b""), (True, b""), (True, b"\xff\0"), (False, "\u20ac".encode()), (True, b"x" * 126),
                         (False, b"y" * 65536), (True, b"z" * 200_000)):
        channel.push(conn, data, binary)
        assert client.read_message() == (BINARY if binary else TEXT, data)


def test_a_push_on_a_line_is_one_line(crowd, worker, far):
    client, conn, shard = crowd.add("line")
    channel = worker.channel(shard ^ far)
    channel.push(conn, b'{\n  "a": "\\n",\r\n  "b": 1\n}\n')
    assert json.loads(client.read_text()) == {"a": "\n", "b": 1}
    channel.push(conn, b'{\n"a": 2}\n', body=True)
    assert json.loads(client.read_text()) == {"a": 2}
    assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_order_of_pushes(crowd, worker, kind, far):
    client, conn, shard = crowd.add(kind)
    channel = worker.channel(shard ^ far)
    channel.send(b"".join(data_frame(PUSH, b'"a %d"' % n, conn) for n in range(5000)))
    assert [client.read_text() for _ in range(5000)] == [b'"a %d"' % n for n in range(5000)]


def test_order_of_pushes_of_two_channels(crowd, worker):
    """Each keeps its own."""
    client, conn, _ = crowd.add()
    threads = [threading.Thread(target=lambda k=k: [worker.channel(k).push(conn, b"%d %d" % (k, n))
                                                    for n in range(1000)]) for k in (0, 1)]
    for thread in threads:
        thread.start()
    runs = runs_of(client.read_text() for _ in range(2000))
    assert runs == {"0": list(range(1000)), "1": list(range(1000))}
    for thread in threads:
        thread.join()


def test_pushes_and_answers_of_a_call_keep_their_order(site):
    """On the channel that the call came on: pushed before the RESPONSE, there before it."""
    def handler(call):
        call.push(b'"before"')
        call.reply("answer")
        call.push(b'"after"')
    web = site(shards=2, routes=[ws_route(), rpc_route()], streams={"frame": {}, "line": {}})
    web.fake(handler=handler)
    web.start()
    for kind in KINDS:
        with web.stays(kind) as client:
            for _ in range(20):
                client.ask("m")
                assert client.read_json() == "before"
                assert client.read_json()["result"] == "answer"
                assert client.read_json() == "after"


def test_pushes_to_nobody(web, crowd, worker):
    """Connections that are gone, or never were: dropped, and nobody else is touched."""
    client, conn, _ = crowd.add()
    with web.ws() as gone:
        old, _ = gone.who()
        gone.finish()
    for shard in (0, 1):
        channel = worker.channel(shard)
        for other in (0, 1, old, conn + 10**6, conn ^ 1 << 63, (1 << 64) - 1):
            if other != conn:
                channel.push(other, b'"nobody"')
                channel.subscribe(other, "t")
                channel.unsubscribe(other)
                channel.disconnect(other, 1000)
        channel.publish("t", b'"nobody"')
        crowd.settle(channel)
    assert len(worker.live()) == 2


# SUBSCRIBE, PUBLISH, UNSUBSCRIBE

@every_kind
def test_topics(crowd, worker, kind, far):
    members = crowd.spread(2, kind)
    channel = worker.channel(far)
    crowd.join("both", channel=channel)
    crowd.join("one", members[:1], channel)
    channel.publish("both", b'"all"')
    channel.publish("none", b'"nobody"')
    channel.publish("one", b'"first"')
    channel.publish("both", b'"body"', body=True)
    for client, conn, _ in members:
        assert client.read_text() == b'"all"'
        if (client, conn) == members[0][:2]:
            assert client.read_text() == b'"first"'
        assert client.read_text() == b'"body"'
    for _, conn, _ in members[:2]:
        channel.unsubscribe(conn, "both")
    channel.publish("both", b'"rest"')
    for client, _, _ in members[2:]:
        assert client.read_text() == b'"rest"'
    crowd.settle(channel)
    for _, conn, _ in members:
        channel.unsubscribe(conn)
    crowd.settle(channel)
    for topic in ("both", "one"):
        channel.publish(topic, b'"left"')
    crowd.settle(channel)


def test_publish_of_bytes(web, crowd, worker):
    made = [crowd.add("ws", shard) for shard in (0, 1)]
    crowd.join("t")
    for size in (0, 1, 125, 126, 65535, 65536, 300_000):
        worker.channel(0).publish("t", b"b" * size, binary=True)
        for client, _, _ in made:
            assert client.read_message() == (BINARY, b"b" * size)


def test_publish_to_clients_of_every_kind(crowd, worker):
    """Encoded for each: as text, behind a length, as a line."""
    for kind in KINDS:
        crowd.spread(1, kind)
    crowd.join("t")
    worker.channel(0).publish("t", b'{\n"a":\t1}')
    for client, _, _ in crowd.members:
        assert client.read_json() == {"a": 1}


def test_who_joins_twice_hears_once(crowd, worker, far):
    client, conn, shard = crowd.add()
    channel = worker.channel(shard ^ far)
    for _ in range(3 * TOPICS):
        channel.subscribe(conn, "t")
    channel.publish("t", b'"once"')
    assert client.read_text() == b'"once"'
    crowd.settle(channel)
    channel.unsubscribe(conn, "t")
    channel.unsubscribe(conn, "t")
    channel.unsubscribe(conn, "never")
    channel.publish("t", b'"again"')
    crowd.settle(channel)


def test_subscribe_takes_effect_before_the_response(site):
    """Whoever has the answer has the topic: on any channel, PUBLISH reaches it from then on."""
    def handler(call):
        call.channel.subscribe(call.conn, call.params[0])
        call.reply()
    web = site(shards=2, routes=[ws_route(), rpc_route()])
    worker = web.fake(handler=handler)
    web.start()
    for n in range(40):
        with web.ws() as client:
            topic = "t%d" % n  # its own: what was published before may still be on its way
            client.call("join", [topic])
            worker.channel(n & 1).publish(topic, b'"%d"' % n)
            assert client.read_text() == b'"%d"' % n


NAMES = ["a", "b", "a b", "a\u0000b", "a\u0000c", "\u20ac", "\"\\/", "a.*", "*", "A", "x" * 254, "x" * 255,
         "x" * 254 + "y", "\u20ac" * 85, "\U0001f600" * 63 + "abc"]


def test_names_of_topics(crowd, worker):
    """Up to 255 bytes, any of them, and no two alike."""
    crowd.spread(1)
    channel = worker.channel(0)
    for name in NAMES:
        crowd.join(name, channel=channel)
        for other in NAMES:
            if other != name:
                channel.publish(other, b'"wrong"')
        channel.publish(name, b'"right"')
        for client, conn, _ in crowd.members:
            assert client.read_text() == b'"right"', name
            channel.unsubscribe(conn, name)
        crowd.settle(channel)


def test_names_written_in_other_ways(crowd, worker):
    client, conn, _ = crowd.add()
    channel = worker.channel(0)
    for one, other in ((b'"\\u0061"', b'"a"'), (b'"\\u20ac"', '"\u20ac"'.encode()),
                       (b'"\\ud83d\\ude00"', '"\U0001f600"'.encode()),
                       (b'"\\/"', b'"/"'), (b'"\\u002F"', b'"\\/"')):
        channel.subscribe(conn, one)
        channel.publish(other, b'"1"')
        assert client.read_text() == b'"1"'
        channel.unsubscribe(conn, other)
        channel.publish(one, b'"2"')
        crowd.settle(channel)


# Frames that are wrong: each is dropped with a line in the log, and the channel goes on.

def refused(web, what):
    """The line in the log that says so. There is one in 10 s for each worker."""
    wait_for(lambda: what in web.front.text(), "a line in the log")
    return next(line for line in web.front.text().splitlines() if what in line)


@pytest.mark.parametrize("name", ["", "x" * 256, "\u20ac" * 86, "x" * 70000], ids=len)
def test_names_that_are_too_long_or_empty(site, name):
    """Nobody joins such a topic, or the beginning of its name; nothing else is lost."""
    web = site(routes=[ws_route(), rpc_route()])
    worker = web.fake(handler=lambda call: held.append(call) if call.method == "held" else echo(call))
    held = []
    web.start()
    with Crowd(web, worker) as crowd, web.client() as other:
        other.send(rpc_request("held", []))
        client, conn, _ = crowd.add()
        channel = worker.channel()
        wait_for(lambda: held, "a call in progress")
        channel.subscribe(conn, name)
        channel.unsubscribe(conn, name)
        for topic in {name, name[:255] or "x", name[:85] or "y"}:
            channel.publish(topic, b'"wrong"')
        crowd.settle(channel)
        line = refused(web, "a topic has 1 to 255 bytes")
        assert "pool app: worker unix:" in line and "SUBSCRIBE is dropped" in line
        held[0].reply("well")           # calls in progress of the channel go on
        assert other.read_response().json()["result"] == "well"
        assert not channel.closed and len(worker.channels) == 1


WRONG_METAS = {b"": "names no topic", b"{}": "names no topic", b'{"topic":1}': "no string",
               b'{"topic":null}': "no string", b'{"topic":[]}': "no string", b"[]": "names no topic",
               b"{": "no JSON", b"1": "names no topic", b'{"topic":"\\ud800"}': "no text",
               b'{"topic":"\xff"}': "no JSON", b'{"topic":"a"} ,': "no JSON"}


@pytest.mark.parametrize("type", [SUBSCRIBE, PUBLISH])
def test_metas_that_name_no_topic(site, type):
    """The connection joins nothing, and is sent nothing."""
    web = site(routes=[ws_route(), rpc_route()], pools={"app": {}, "bad": {}})
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add()
        for n, (meta, what) in enumerate(WRONG_METAS.items()):
            bad = web.fake("bad-%d" % n)
            bad.wait_ready()
            about = conn if type == SUBSCRIBE else 0
            bad.channel().send(frame(type, meta=meta, conn=about, body=b"" if about else b'"wrong"'))
            assert bad.channel().sync()
            line = refused(web, "bad-%d.sock: %s is dropped" % (n, "SUBSCRIBE" if about else "PUBLISH"))
            assert what in line, meta
            assert len(bad.channels) == 1
        crowd.settle()
        assert client.call("demo.echo", [1]) == [1]


@pytest.mark.parametrize("type, meta", [(PUSH, b""), (SUBSCRIBE, b'{"topic":"t"}'), (UNSUBSCRIBE, b""),
                                        (DISCONNECT, b"")])
def test_no_connection_is_named(site, type, meta):
    web = site(routes=[ws_route(), rpc_route()], shards=2)
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        crowd.spread(1)
        channel = worker.channel(0)
        channel.send(frame(type, meta=meta, body=b'"wrong"'))
        channel.publish("t", b'"wrong"')
        crowd.settle(channel)
        refused(web, "it names no connection")
        assert len(worker.live()) == 2


def test_many_wrong_frames_are_one_line(web, crowd, worker):
    client, conn, _ = crowd.add()
    channel = worker.channel()
    channel.send(frame(SUBSCRIBE, conn=conn) * 10000)
    crowd.settle(channel)
    assert web.front.text().count("names no topic") <= 1    # another test's may have been before it
    assert len(worker.live()) == 2


def test_subscriptions_at_their_limit(web, crowd, worker, far):
    client, conn, shard = crowd.add()
    channel = worker.channel(shard ^ far)
    before = web.front.text()
    for n in range(TOPICS):
        channel.subscribe(conn, "t%d" % n)
    crowd.settle(channel)
    assert "subscri" not in web.front.text()[len(before):]
    channel.subscribe(conn, "one more")
    channel.subscribe(conn, "t0")               # it has that
    channel.publish("one more", b'"wrong"')
    for n in range(TOPICS):
        channel.publish("t%d" % n, b'"%d"' % n)
    assert [client.read_text() for _ in range(TOPICS)] == [b'"%d"' % n for n in range(TOPICS)]
    wait_for(lambda: "subscri" in web.front.text(), "a line in the log")     # one in 10 s
    channel.unsubscribe(conn, "t0")
    channel.subscribe(conn, "one more")
    channel.publish("one more", b'"fits"')
    assert client.read_text() == b'"fits"'
    channel.unsubscribe(conn)
    for n in range(TOPICS):
        channel.subscribe(conn, "u%d" % n)
        channel.publish("u%d" % n, b'"u"')
        assert client.read_text() == b'"u"'
    crowd.settle(channel)


def test_text_that_is_not_utf8(site):
    """A WebSocket is not sent it, since the client would break off; the other kinds get what was pushed. One
    line in the log says so, however often it happens."""
    web = site(routes=[ws_route(), rpc_route()], streams={"frame": {}, "line": {}})
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        for kind in KINDS:
            crowd.add(kind)
        crowd.join("t")
        channel = worker.channel()
        for bad in (b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\x80"):
            for _ in range(50):
                channel.publish("t", bad)
                channel.push(crowd.members[0][1], bad)
            for client, conn, _ in crowd.members[1:]:
                channel.push(conn, bad)
                for _ in range(51):
                    assert client.read_text() == bad
        channel.push(crowd.members[0][1], b"\xff", binary=True)
        assert crowd.members[0][0].read_message() == (BINARY, b"\xff")
        crowd.settle()
        for n in range(200):
            channel.subscribe(crowd.members[0][1], "t%d" % n)
        crowd.settle()
        for text in ("not UTF-8", "cannot subscribe"):
            assert 1 <= web.front.text().count(text) <= 10


# DISCONNECT

def test_disconnect(crowd, worker, far):
    for code, reason in ((1000, ""), (1001, "away"), (4000, "\u20ac"), (3000, None), (4999, "x" * 123)):
        client, conn, shard = crowd.add()
        channel = worker.channel(shard ^ far)
        channel.push(conn, b'"last"')
        channel.disconnect(conn, code, reason)
        channel.push(conn, b'"too late"')
        assert client.read_text() == b'"last"'
        assert client.expect_close(code)[1] == (reason or "")
    client, conn, shard = crowd.add()
    worker.channel(shard ^ far).disconnect(conn)
    client.expect_close(1000)


@pytest.mark.parametrize("kind", ["frame", "line"])
def test_disconnect_of_streams(crowd, worker, kind, far):
    client, conn, shard = crowd.add(kind)
    channel = worker.channel(shard ^ far)
    channel.push(conn, b'"last"')
    channel.disconnect(conn, 4000, "why")
    assert client.read_text() == b'"last"'
    assert client.at_end()


@every_kind
def test_disconnect_with_a_call_in_progress(site, kind):
    """It ends at once, with CANCEL; nobody waits for the answer."""
    web = site(routes=[ws_route(), rpc_route()], streams={"frame": {}, "line": {}})
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add(kind)
        worker.handler = hold
        worker.forget()
        client.ask("m")
        call = worker.wait_calls(1)
        worker.channel().push(conn, b'"last"')
        worker.channel().disconnect(conn)
        assert client.read_text() == b'"last"'
        if kind == "ws":
            client.expect_close(1000)
        else:
            assert client.at_end()
        worker.wait(lambda: call.cancelled, "CANCEL")
        call.reply("late")
        assert worker.channel().sync()


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536,
                                  65536 + 1000, -1, 1.5, "1000", None])
def test_codes_that_no_close_may_have(site, code):
    """Never on the wire; WsClient sees to that. It counts as none, and the channel goes on."""
    web = site(routes=[ws_route(), rpc_route()])
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        client, conn, _ = crowd.add()
        other, _, _ = crowd.add()
        worker.channel().send(frame(DISCONNECT, conn=conn, meta=json.dumps({"code": code}).encode()))
        client.expect_close(1000)
        assert other.call("demo.echo", [1]) == [1]
        assert len(worker.channels) == 1 and worker.channels[0].sync()


def test_long_reasons_are_cut_between_characters(crowd, worker):
    for reason in ("x" * 124, "\u20ac" * 42, "x" + "\U0001f600" * 40, "y" * 5000):
        client, conn, _ = crowd.add()
        worker.channel().disconnect(conn, 4000, reason)
        got = client.expect_close(4000)[1]
        assert reason.startswith(got) and 119 < len(got.encode()) <= 123


# Workers that come and go

def test_subscriptions_outlive_the_worker_that_made_them(site):
    web = site(shards=2, routes=[ws_route(), rpc_route()])
    worker = web.fake("app-1")
    web.start()
    with Crowd(web, worker) as crowd:
        crowd.spread(2)
        crowd.join("t")
        worker.die()
        worker.close()
        second = crowd.worker = web.fake("app-2")
        second.wait_ready(2)
        for shard in (0, 1):
            second.channel(shard).publish("t", b'"still %d"' % shard)
            for client, _, _ in crowd.members:
                assert client.read_text() == b'"still %d"' % shard
        for client, _, _ in crowd.members:
            assert client.call("demo.echo", [1]) == [1]
        _, conn, _ = crowd.members[0]
        second.channel().unsubscribe(conn, "t")
        second.channel().publish("t", b'"rest"')
        for client, _, _ in crowd.members[1:]:
            assert client.read_text() == b'"rest"'
        crowd.settle()


def test_any_worker_may_push_to_any_connection(site):
    """One of another pool too, which has never had a call of it."""
    web = site(shards=2, routes=[ws_route(), rpc_route()], pools={"app": {}, "other": {}})
    worker, other = web.fake("app-1"), web.fake("other-1")
    web.start()
    with Crowd(web, worker) as crowd:
        crowd.spread(1)
        for shard in (0, 1):
            crowd.join("t", channel=other.channel(shard))
            other.channel(shard).publish("t", b'"x"')
            for client, _, _ in crowd.members:
                assert client.read_text() == b'"x"'


# Under load

def publish_all(channel, topic, sender, count, size=200):
    for start in range(0, count, 50):
        channel.send(b"".join(data_frame(PUBLISH, (b"%s %d " % (sender, n)).ljust(size, b"."), topic=topic)
                              for n in range(start, min(start + 50, count))))


def test_publish_under_load(site):
    """Two channels, subscribers on two shards: each gets every message, in the order of each channel."""
    count, each = (400, 5) if sanitized() else (1500, 10)
    web = site(shards=2, routes=[ws_route(), rpc_route()], limits={"write_buffer": "64MiB"})
    worker = web.fake()
    web.start()
    with Crowd(web, worker) as crowd:
        crowd.spread(each)
        crowd.join("t")
        readers = [Reader(client, lambda got: len(got) == 2 * count) for client, _, _ in crowd.members]
        senders = [threading.Thread(target=publish_all, args=(worker.channel(k), "t", b"%d" % k, count))
                   for k in (0, 1)]
        for thread in senders:
            thread.start()
        for reader in readers:
            assert runs_of(reader.finish()) == {"0": list(range(count)), "1": list(range(count))}
        for thread in senders:
            thread.join()
        crowd.settle()


def test_subscribers_that_come_and_go(site):
    """Those that stay miss nothing; one that comes hears everything from then on, without a gap."""
    def handler(call):
        if call.method == "join":
            call.channel.subscribe(call.conn, "t")
            call.reply()
        else:
            echo(call)
    web = site(shards=2, routes=[ws_route(), rpc_route()], limits={"write_buffer": "64MiB"})
    worker = web.fake(handler=handler)
    web.start()
    stop, problems, visits = threading.Event(), [], []

    def visit(way):
        try:
            while not stop.is_set():
                with web.ws() as client:
                    client.ask("join")
                    got = []
                    while len(got) < 20:
                        text = client.read_text()
                        if not text.startswith(b"{"):
                            got.append(int(text.split()[1]))
                    assert got == list(range(got[0], got[0] + 20)), got
                    visits.append(got)
                    if way == "close":
                        client.send_close()
                    elif way == "reset":
                        client.reset()
        except (AssertionError, OSError, Closed, WsClosed) as e:
            problems.append(repr(e))

    with Crowd(web, worker) as crowd:
        crowd.spread(2)
        crowd.join("t")
        readers = [Reader(client, lambda got: got and got[-1] == b"0 -1") for client, _, _ in crowd.members]
        visitors = [threading.Thread(target=visit, args=(way,), daemon=True)
                    for way in ("close", "reset", "drop", "close")]
        for thread in visitors:
            thread.start()
        count = 0
        while any(thread.is_alive() for thread in visitors) and count < 200_000:
            for _ in range(50):
                worker.channel(0).publish("t", b"0 %d" % count)
                count += 1
            wait_for(lambda: all(len(r.messages) > count - 500 or r.end for r in readers), "the readers")
            if len(visits) >= 40 or problems:
                stop.set()
        worker.channel(0).publish("t", b"0 -1")
        for reader in readers:
            assert runs_of(reader.finish()) == {"0": list(range(count)) + [-1]}
        for thread in visitors:
            thread.join(20)
        assert not problems, problems
