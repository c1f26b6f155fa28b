"""What goes wrong around calls of connections that stay: clients and workers that go, deadlines, the end."""
import signal
import socket
import threading

import pytest

from fakeworker import CANCEL, echo, hold
from harness import rpc_route, sockets, wait_for, ws_route
from httpclient import rpc_body
from patience import patient, within
from duplex import Crowd
from wsclient import TEXT, Closed, WsClosed, upgrade, ws_close, ws_frame


KINDS = ["ws", "frame", "line"]
LIMITED = 4             # limits.calls_per_connection of some
HALF_CLOSED = 1         # seconds for an answer to a client that has shut its side
every_kind = pytest.mark.parametrize("kind", KINDS)
streams = pytest.mark.parametrize("kind", KINDS[1:])


def build(site, route=None, **keys):
    route = route or {}
    return site(routes=[ws_route(**route), rpc_route()], streams={"frame": route, "line": route}, **keys)


def fails(client, code, id=1):
    answer = client.read_json()
    assert answer["id"] == id and answer["error"]["code"] == code, answer


# Clients that go

@pytest.mark.parametrize("kind,way", [("ws", "goodbye")] + [(k, w) for k in KINDS for w in ("close", "reset")])
def test_a_client_gone_in_mid_call(site, kind, way):
    """CANCEL reaches the worker; the slot comes back with the worker's answer, not before."""
    web = build(site)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.stays(kind) as other:
        client = web.stays(kind)
        client.ask("m", id="gone")
        call = worker.wait_calls(1)
        other.ask("m", id=2)
        if way == "goodbye":
            client.send_close()
        getattr(client, "reset" if way == "reset" else "close")()
        worker.wait(lambda: call.cancelled, "CANCEL")
        assert worker.channel().sync()
        assert len(worker.calls) == 1
        call.error(-32800, "cancelled")
        worker.wait_calls(2).reply("x")
        assert other.read_json() == {"jsonrpc": "2.0", "id": 2, "result": "x"}
        assert sum(f[0] == CANCEL for f in worker.frames) == 1
    assert worker.max_busy == 1


@every_kind
@pytest.mark.parametrize("limit", [11, 10], ids=["below the limit", "at the limit"])
def test_a_client_gone_with_many_calls_and_a_batch(site, kind, limit):
    """At calls_per_connection nothing is read from it, but its end is seen all the same."""
    web = build(site, limits={"calls_per_connection": limit})
    worker = web.fake(handler=hold)
    web.start()
    client = web.stays(kind)
    for n in range(5):
        client.ask("m", id=n)
    client.send_json([{"jsonrpc": "2.0", "id": n, "method": "m"} for n in range(5)])
    worker.wait_calls(10)
    client.reset()
    worker.wait(lambda: all(c.cancelled for c in worker.calls), "CANCEL of all")
    for call in worker.calls:
        call.reply("late")
    worker.handler = echo
    with web.stays(kind) as other:
        assert other.call("demo.echo", [1]) == [1]


def test_a_client_that_says_goodbye_and_waits_for_its_answer(site):
    """After its Close there is nobody to answer: CANCEL, and the Close comes back without the call."""
    web = build(site)
    worker = web.fake(handler=hold)
    web.start()
    with web.ws() as client:
        client.ask("m")
        call = worker.wait_calls(1)
        client.send(ws_close(1000))
        client.expect_close(1000)
        worker.wait(lambda: call.cancelled, "CANCEL")
        call.reply("late")
    assert worker.channel().sync()


@every_kind
def test_calls_of_a_client_gone_while_they_wait_in_the_queue(site, kind):
    """They never reach a worker."""
    web = build(site)
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.stays(kind) as other:
        other.ask("m", ["first"])
        first = worker.wait_calls(1)
        client = web.stays(kind)
        client.ask("m", ["gone"])
        client.send_text(b"{")          # answered by the front: it has the call
        fails(client, -32700, None)
        before = sockets(web.shard)
        client.reset()
        wait_for(lambda: len(sockets(web.shard)) < len(before), "its end")
        assert worker.channel().sync()
        first.reply(1)
        other.read_json()
        other.ask("m", ["second"])
        assert worker.wait_calls(2).params == ["second"]
        worker.calls[1].reply(2)
        assert other.read_json()["result"] == 2


# Clients that shut their sending side

def shut(web, worker, client):
    """Shuts the client's side; the front has had the occasion to see it."""
    client.sock.shutdown(socket.SHUT_WR)
    wait_for(lambda: web.has_shut(client), "the end of its side")
    for _ in range(2):
        assert worker.channel().sync()


@streams
@pytest.mark.parametrize("count", [1, LIMITED - 1, LIMITED, LIMITED + 1, 5 * LIMITED])
@patient()
def test_a_client_that_has_shut_its_side_gets_its_answers(site, kind, count):
    """Below calls_per_connection, at it, and with calls beyond it that are not read yet; in its order."""
    web = build(site, limits={"calls_per_connection": LIMITED})
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind) as client:
        client.send(b"".join(client.wrap(rpc_body("m", id=n)) for n in range(count)))
        worker.wait_calls(min(count, LIMITED))
        with within(HALF_CLOSED):
            shut(web, worker, client)
            for n in range(count):
                worker.wait_calls(n + 1).reply(n)
                assert client.read_json() == {"jsonrpc": "2.0", "id": n, "result": n}
            assert client.at_end()
            assert not any(call.cancelled for call in worker.calls)


@streams
@patient()
def test_calls_on_their_way_when_a_side_is_shut(site, kind):
    """More than one read takes, and the end right behind them."""
    web = build(site, limits={"calls_per_connection": LIMITED})
    web.fake()
    web.start()
    with web.stays(kind) as client:
        count = 300
        client.send(b"".join(client.wrap(rpc_body("m", "x" * 1000, n)) for n in range(count)))
        with within(HALF_CLOSED):
            client.sock.shutdown(socket.SHUT_WR)
            assert [client.read_json()["id"] for _ in range(count)] == list(range(count))
            assert client.at_end()


@streams
@patient()
def test_an_answer_that_waits_when_a_side_is_shut(site, kind):
    """The call has ended, its answer is not read yet."""
    web = build(site, limits={"write_buffer": 32 << 20})
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind, rcvbuf=4096) as client:
        client.ask("m")
        worker.wait_calls(1).reply("x" * (12 << 20))
        assert worker.channel().sync()
        with within(HALF_CLOSED):
            shut(web, worker, client)
            assert len(client.read_json()["result"]) == 12 << 20
            assert client.at_end()


@streams
def test_no_answer_after_a_side_is_shut(site, kind):
    """It is not waited for for ever: with nothing for a second the connection ends, at the limit too."""
    web = build(site, limits={"calls_per_connection": LIMITED})
    worker = web.fake(handler=hold)
    web.start()
    for count in (1, LIMITED):
        with web.stays(kind) as client:
            worker.forget()
            for n in range(count):
                client.ask("m", id=n)
            worker.wait_calls(count)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.ends()
            worker.wait(lambda: all(call.cancelled for call in worker.calls), "CANCEL of all")
            for call in worker.calls:
                call.reply("late")


@streams
@patient()
def test_a_side_that_is_shut_while_a_worker_is_asked(site, kind):
    web = build(site, {"events": True, "connect": "ask"})
    worker = web.fake(handler=hold)
    web.start()
    with web.stream(kind) as client:
        client.ask("demo.echo", [1])
        worker.wait(lambda: worker.connects, "frontd.connect")
        with within(HALF_CLOSED):
            shut(web, worker, client)
            worker.handler = echo
            worker.connects[0].reply()
            assert client.read_json()["result"] == [1]
            assert client.at_end()


# Workers that go, or do not come

@every_kind
def test_a_worker_that_is_lost(site, kind):
    web = build(site)
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind) as client:
        client.ask("m", id=1)
        client.send_json([{"jsonrpc": "2.0", "id": 2, "method": "m"}])
        worker.wait_calls(2)
        worker.die()
        answers = [client.read_json() for _ in range(2)]
        single = next(a for a in answers if isinstance(a, dict))
        batch, = next(a for a in answers if isinstance(a, list))
        assert (single["id"], single["error"]["code"]) == (1, -32002)
        assert (batch["id"], batch["error"]["code"]) == (2, -32002)
        worker.close()
        web.fake("app-2").wait_ready()
        assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_answers_that_are_none(site, kind):
    web = build(site)
    worker = web.fake(handler=lambda call: call.send(b'{"no":"response"}'))
    worker.tolerant = True
    web.start()
    with web.stays(kind) as client:
        client.ask("m")
        fails(client, -32007)


@every_kind
@patient()
def test_deadlines(site, kind):
    web = build(site, {"timeout": "200ms"})
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.stays(kind) as client:
        client.ask("m", id=1)
        client.ask("m", id=2)       # waits in the queue, which counts
        call = worker.wait_calls(1)
        assert sorted(a["id"] for a in (client.read_json(), client.read_json())
                      if a["error"]["code"] == -32003) == [1, 2]
        worker.wait(lambda: call.cancelled, "CANCEL")
        worker.handler = echo
        with within(0.2):
            call.reply("late")
            assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_a_full_queue(site, kind):
    web = build(site, pools={"app": {"queue": 1}})
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.stays(kind) as client:
        for n in range(3):
            client.ask("m", id=n)
        fails(client, -32001, 2)
        for n in range(2):
            worker.wait_calls(n + 1).reply(n)
            assert client.read_json()["result"] == n


@every_kind
def test_no_worker(site, kind):
    web = build(site, pools={"app": {"wait_for_worker": "100ms"}})
    web.start()
    with web.stays(kind) as client:
        client.ask("m")
        fails(client, -32004)
        worker = web.fake()
        worker.wait_ready()
        assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_methods_that_no_pool_takes(site, kind):
    web = build(site, pools={"app": {"methods": ["demo.*"]}})
    web.fake()
    web.start()
    with web.stays(kind) as client:
        client.ask("other.method")
        fails(client, -32601)
        assert client.call("demo.echo", [1]) == [1]


@every_kind
def test_notifications_that_fail_are_answered_by_nothing(site, kind):
    web = build(site, pools={"app": {"methods": ["demo.*"], "wait_for_worker": "50ms"}})
    web.start()
    with web.stays(kind) as client:
        client.ask("other.method", id=None)
        client.ask("demo.note", id=None)
        client.ask("demo.echo", id=5)
        fails(client, -32004, 5)


# The end of the program

@every_kind
def test_calls_are_finished_at_the_end(site, kind):
    """SIGTERM: what is in progress is answered; then WebSocket clients are told 1001, and all end."""
    web = build(site, drain="20s")
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind) as busy, web.stays(kind) as idle:
        busy.ask("m")
        call = worker.wait_calls(1)
        web.front.signal(signal.SIGTERM)
        if kind == "ws":
            idle.expect_close(1001)
        else:
            assert idle.at_end()
        call.reply("in time")
        assert busy.read_json()["result"] == "in time"
        if kind == "ws":
            busy.expect_close(1001)
        else:
            assert busy.at_end()
    assert web.front.wait() == 0


@every_kind
def test_the_drain_limit(site, kind):
    """A call that is not answered does not hold up the end for longer."""
    web = build(site, drain="300ms")
    worker = web.fake(handler=hold)
    web.start()
    with web.stays(kind) as client:
        client.ask("m")
        worker.wait_calls(1)
        web.front.signal(signal.SIGTERM)
        assert client.ends()
    assert web.front.wait() == 0


def test_clients_that_do_not_answer_the_goodbye(site):
    web = build(site, drain="1s")
    web.fake()
    web.start()
    with web.ws() as client, web.ws() as deaf:
        deaf.pong = False
        web.front.signal(signal.SIGTERM)
        assert client.read_close()[0] == 1001       # not answered
        assert web.front.wait() == 0
        assert client.at_end()


def test_half_a_frame_and_half_an_upgrade_at_the_end(site):
    """What has only begun holds up nothing."""
    web = build(site, drain="20s")
    web.fake()
    web.start()
    with web.ws() as one, web.stream("frame") as two, web.stream("line") as three, web.client() as four:
        one.send(ws_frame(TEXT, b"{", length=100))
        two.send(b"\0\0\0\x09{")
        three.send(b'{"jsonrpc"')
        four.send(upgrade()[:40])
        assert web.rpc("demo.echo", [1]).status == 200
        web.front.signal(signal.SIGTERM)
        one.expect_close(1001)
        assert two.at_end() and three.at_end()
    assert web.front.wait() == 0


# Many of everything

def test_a_storm(site):
    """Clients of all kinds come, call, join and go in every way while workers lose their channels; afterwards
    nothing is left, and a new client is served."""
    def handler(call):
        if call.method == "who":
            return echo(call)
        if call.method == "join":
            call.channel.subscribe(call.conn, "t")
            call.channel.publish("t", b'"hello"')
        if not call.notify:
            call.reply(call.params)
        return None
    web = build(site, {"events": True}, shards=2)
    workers = [web.fake("app-%d" % n, handler) for n in range(2)]
    for worker in workers:
        worker.tolerant = True          # a frame may end within when a channel is closed
    web.start()
    stop, problems, turns = threading.Event(), [], [0]

    def run(seed):
        turn = seed
        while not stop.is_set():
            turn += 1
            try:
                with web.stays(KINDS[turn % 3]) as client:
                    for n in range(turn % 4):
                        client.ask("join" if n == 1 else "m", [turn], id=n)
                        answer = client.read_json()
                        while answer == "hello":
                            answer = client.read_json()
                        if answer.get("id") != n or not ("error" in answer or answer["result"] == [turn]):
                            problems.append(answer)
                    if turn % 5 == 0:
                        client.reset()
                    elif turn % 3 == 0 and turn % 2:
                        client.send_close()
            except (Closed, WsClosed) as e:
                problems.append(repr(e))
            turns[0] += 1

    threads = [threading.Thread(target=run, args=(n * 7,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for goal in range(50, 350, 50):
        wait_for(lambda: turns[0] >= goal or problems, "%d turns" % goal, 30)
        workers[goal // 50 % 2].drop()
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not problems, problems[:3]
    wait_for(lambda: web.connections() == 0, "the end of all")
    for worker in workers:
        worker.wait_ready(2)
    with Crowd(web, workers[0]) as crowd:
        crowd.spread(1)
        workers[0].channel().publish("t", b'"nobody"')
        crowd.settle()
