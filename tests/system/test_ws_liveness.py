"""Connections that stay are asked for a sign of life, and released after three intervals without one."""
import os
import select
import signal
import socket
import time

import pytest

from fakeclock import SPEED
from fakeworker import echo, hold
from harness import LIMIT, rpc_route, sanitized, wait_for, ws_route
from kernelsockets import look, ports
from patience import patient, within
from wsclient import CONTINUATION, TEXT, Closed, Reader, WsClosed, quiet, ws_frame


PING = "200ms"
HELD_UP = 0.1           # seconds in which this process does nothing, and its clients come near to being lost
TCP_REPAIR = 19         # linux/tcp.h: what is done to the socket then is not told to the peer


def build(site, limits=None, handler=echo, **keys):
    route = {"ping": PING, "events": True, **keys}
    web = site(routes=[ws_route(**route), rpc_route(), ws_route("/calm", ping="1h", events=True),
                       ws_route("/later", ping="800ms", events=True)],
               streams={"frame": route, "line": route}, limits=limits)
    worker = web.fake(handler=handler)
    web.start()
    return web, worker


def pings_until_the_end(client):
    """Reads without answering; how many pings came before the connection ended."""
    try:
        while True:
            client.read_message()
    except (Closed, WsClosed):
        return len(client.pings)


@patient(HELD_UP)
def test_who_answers_lives(site):
    web, worker = build(site)
    with web.ws() as client, web.ws(pong=False) as mute:
        conn, _ = client.who()
        lost, _ = mute.who()
        while len(client.pings) < 8:        # more than twice as long as one may be silent
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        assert client.call("demo.echo", [1]) == [1]
        assert worker.wait_disconnect(lost).params["code"] == 1006
        assert [c.conn for c in worker.disconnects] == [lost]


@patient(HELD_UP)
def test_who_does_not_answer_is_asked_and_released(site):
    """Two Pings, and the end after three intervals: not before, and before another's whose intervals are
    longer by a third."""
    web, worker = build(site, ping="600ms")
    with web.ws(pong=False) as client, web.ws("/later", pong=False) as later:
        start = time.monotonic()
        conn, _ = client.who()
        other, _ = later.who()
        assert pings_until_the_end(client) == 2
        assert time.monotonic() - start >= 3 * 0.6 - 0.05   # its clock counts from the turn of its loop
        assert pings_until_the_end(later) == 2
        assert worker.wait_disconnect(conn).params["code"] == 1006
        worker.wait_disconnect(other)
        assert [c.conn for c in worker.disconnects] == [conn, other]


def test_pings_are_spread(site):
    """Clients that came together are not asked together, but within an eighth of the interval."""
    web, worker = build(site, ping="4s")
    # They are, where the front or we are held up when it is time.
    assert any(spread(web) >= 0.125 for _ in range(3))                  # of 0.5


def spread(web):
    """Between the shortest and the longest time after which one of some clients is sent a Ping."""
    count = 24
    clients = [web.ws(pong=False) for _ in range(count)]
    said, waited = {}, {}
    for client in clients:
        said[client.sock.fileno()] = time.monotonic()
        client.who()
    while len(waited) < count:
        ready, _, _ = select.select(set(said) - set(waited), [], [], LIMIT)
        assert ready, "%d of %d Pings" % (len(waited), count)
        for fd in ready:
            waited[fd] = time.monotonic() - said[fd]
    for client in clients:
        client.close()
    assert min(waited.values()) >= 4 * 7 / 8 - 0.05                     # its clock counts whole milliseconds
    return max(waited.values()) - min(waited.values())


@patient(HELD_UP)
def test_a_message_that_has_only_begun_does_not_shorten_it(site):
    """When the rate of a message is looked at, silence counts as long as ever."""
    web, worker = build(site, ping="1s", limits={"body_timeout": "3500ms"})
    with web.ws(pong=False) as client:
        conn, _ = client.who()
        client.send(ws_frame(TEXT, b"x" * 3000, fin=False))
        time.sleep(0.8)
        last = time.monotonic()
        client.send(ws_frame(9, b"here") + ws_frame(CONTINUATION, b"y" * 3000, length=6000))
        assert client.read_pong() == b"here"                # after a Ping, where those 0.8 s became more
        client.pings.clear()
        assert pings_until_the_end(client) == 2
        assert time.monotonic() - last >= 3 - 0.05          # its clock counts whole milliseconds


@patient(HELD_UP)
def test_a_silent_client_at_calls_per_connection(site):
    """No message is taken up, but it is asked, and its Pong is heard; one that does not answer is lost."""
    web, worker = build(site, ping="600ms", handler=hold, limits={"calls_per_connection": 1})
    with web.ws() as client, web.ws(pong=False) as mute:
        client.ask("m")
        mute.ask("m")
        worker.wait_calls(2)
        while len(client.pings) < 8:            # more than twice as long as one may be silent
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        assert pings_until_the_end(mute) == 2
        worker.wait(lambda: worker.disconnects, "frontd.disconnect")
        assert len(worker.disconnects) == 1
        next(c for c in worker.calls if c.conn != worker.disconnects[0].conn).reply()
        client.read_json()


@patient(HELD_UP)
def test_a_silent_client_that_was_not_read(site):
    """While as much of it waits as may, nothing is read and no Ping sent. After it the client is asked anew, and has
    as long to answer as ever."""
    web, worker = build(site, ping="600ms", handler=hold, limits={"calls_per_connection": 1, "body": 4096})
    with web.ws() as client:
        client.ask("m")
        call = worker.wait_calls(1)
        client.send(client.wrap(b'{"jsonrpc":"2.0","method":"note","params":["%s"]}' % (b"x" * 4000)) * 20)
        assert worker.channel().sync()
        while client.readable():                        # a Ping of before it was read
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        client.pings.clear()
        with web.ws("/later", pong=False) as mute:      # which is lost after more than three intervals
            pings_until_the_end(mute)
        assert client.pings == [] and not client.readable()
        call.reply()
        client.read_json()
        while len(client.pings) < 3:
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        worker.handler = echo
        assert client.call("demo.echo", [1]) == [1]


@patient(HELD_UP)
def test_a_front_that_was_held_up(site):
    """Its client could not be asked meanwhile: it is asked now, and has as long to answer as ever."""
    web, worker = build(site, ping="600ms")
    with web.ws() as client:
        client.who()
        os.kill(web.shard, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(web.shard, signal.SIGCONT)
        while len(client.pings) < 3:
            fin, opcode, payload = client.read_frame()
            client._control(opcode, payload)
        assert client.call("demo.echo", [1]) == [1]


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
@patient()
def test_a_message_that_waited_while_nothing_was_read(site, kind):
    """Its time (body_timeout) counts from when it is read on."""
    web, worker = build(site, ping="1h", handler=hold,
                        limits={"calls_per_connection": 1, "body_timeout": "1500ms"})
    with web.stays(kind) as client:
        text = b'{"jsonrpc":"2.0","id":%d,"method":"m"}'
        second = client.wrap(text % 2)
        client.send(client.wrap(text % 1) + second[:20])
        call = worker.wait_calls(1)
        assert quiet(client, 2)         # longer than body_timeout
        with within(1.5):
            call.reply(1)
            assert client.read_json()["id"] == 1
            assert quiet(client, 0.2)
            client.send(second[20:])
            worker.wait_calls(2).reply(2)
            assert client.read_json()["id"] == 2


@pytest.mark.skipif(sanitized(), reason="the fast clock does not go with ASan")
def test_the_goodbye_is_waited_for_5_s(site, clock):
    """A client that does not answer the Close; one that does ends at once."""
    web = site(routes=[ws_route(events=True, ping="1h", timeout="1h"), rpc_route()],
               pools={"app": {"wait_for_worker": "10m"}})
    worker = web.fake()
    with clock:
        web.start(ready=False)
    web.wait_served()
    worker.wait_ready()
    assert any(says_goodbye(web, worker) for _ in range(20))    # 5 s are but 1/6 of a second


def says_goodbye(web, worker):
    """Whether one that was told to go later, and answered, has gone before the one that did not answer, and that one
    within a minute; never before the 5 s."""
    with web.ws() as mute, web.ws() as polite:
        conn, _ = mute.who()
        other, _ = polite.who()
        start = time.monotonic()
        worker.channel().disconnect(conn, 4001)
        assert mute.read_close()[0] == 4001
        worker.channel().disconnect(other, 4002)
        polite.expect_close(4002)
        assert worker.wait_disconnect(other).params["code"] == 4002
        assert mute.at_end()
        took = (time.monotonic() - start) * SPEED
        assert took >= 4.9
        assert worker.wait_disconnect(conn).params["code"] == 4001
        return took <= 60 and [c.conn for c in worker.disconnects[-2:]] == [other, conn]


@patient(HELD_UP)
def test_half_open_connections(site):
    """Clients that stop taking part, the kernel still answering for them: all are released, one that
    takes part is not."""
    web, worker = build(site, ping="600ms")
    with web.ws() as lives:
        here, _ = lives.who()
        reader = Reader(lives, lambda got: False)       # answers pings
        silent = [web.ws(rcvbuf=4096) for _ in range(12)]
        conns = {client.who()[0] for client in silent}
        worker.wait(lambda: conns <= {c.conn for c in worker.disconnects}, "the end of all")
        wait_for(lambda: web.connections() == 1, "the end of all")
        assert {c.conn for c in worker.disconnects} == conns
        assert {c.params["code"] for c in worker.disconnects} == {1006}
        assert reader.is_alive()
        lives.sock.shutdown(socket.SHUT_RDWR)
        reader.join(10)


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_clients_that_vanish(site, kind):
    """No FIN and no RST is sent, as when a machine is switched off; nobody asks for them to."""
    vanish(site, kind)


@pytest.mark.parametrize("kind", ["ws", "frame", "line"])
def test_clients_that_vanish_while_they_are_not_read(site, kind):
    """At calls_per_connection, where a call takes longer: its worker is told."""
    vanish(site, kind, busy=True)


def acknowledged(client):
    """Whether each end's kernel has acknowledged all that the other has sent."""
    ends = [look(pair) for pair in (ports(client), ports(client)[::-1])]
    return all(end and end[3] == 0 for end in ends)


def vanish(site, kind, busy=False):
    web, worker = build(site, ping="1s", limits={"calls_per_connection": 1} if busy else None)
    client = web.stays(kind)
    start = time.monotonic()
    conn, _ = client.who()
    if busy:
        worker.handler = hold
        client.ask("m")
        worker.wait(lambda: any(c.method == "m" for c in worker.calls), "the call")
    # What comes afterwards, an acknowledgement or something once more, would be answered with a RST.
    wait_for(lambda: acknowledged(client), "acknowledgements")
    try:
        client.sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        client.close()
        pytest.skip("only root can make a socket vanish")
    client.close()
    # Nothing has told the front, which looks after 7/8 of a second at the earliest.
    assert web.connections() == 1 or time.monotonic() - start > 0.8
    assert worker.wait_disconnect(conn, 2 * LIMIT).params["code"] == 1006
    wait_for(lambda: web.connections() == 0, "its end")
    for call in worker.calls:
        if not call.done:
            worker.wait(lambda: call.cancelled, "CANCEL")
            call.reply("late")


def keep_alive(web, client):
    """Whether the kernel's keep-alive timer runs for the shard's end of this connection."""
    ours, theirs = client.sock.getpeername()[1], client.sock.getsockname()[1]
    with open("/proc/net/tcp") as f:
        next(f)
        for line in f:
            fields = line.split()
            if (int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16)) == (ours, theirs):
                return fields[5].startswith("02:")
    return None


@pytest.mark.parametrize("kind", ["frame", "line"])
@patient(HELD_UP)
def test_silent_streams_stay(site, kind):
    """There the kernel asks the client's kernel, and the client need not say anything."""
    web, worker = build(site)
    with web.stays(kind) as quiet:
        conn, _ = quiet.who()
        wait_for(lambda: keep_alive(web, quiet), "the kernel's timer")
        for _ in range(2):
            with web.ws(pong=False) as client:
                worker.wait_disconnect(client.who()[0])
        assert conn not in [c.conn for c in worker.disconnects]
        assert quiet.call("demo.echo", [1]) == [1]


@patient(HELD_UP)
def test_what_is_pushed_is_no_sign_of_life(site):
    web, worker = build(site)
    with web.ws(pong=False, rcvbuf=4096) as client:
        conn, shard = client.who()

        def gone():
            worker.channel().push(conn, b"x" * 100)
            return any(c.conn == conn for c in worker.disconnects)
        wait_for(gone, "the end of a silent client", interval=0.02)


@pytest.mark.parametrize("what", ["notifications", "pings", "pongs", "fragments"])
@patient(HELD_UP)
def test_traffic_is_a_sign_of_life(site, what):
    """A client that answers no ping but sends something lives for as long as several that do not."""
    web, worker = build(site)
    data = {"notifications": ws_frame(TEXT, b'{"jsonrpc":"2.0","method":"demo.note"}'), "pings": ws_frame(9),
            "pongs": ws_frame(10, b"for nothing"), "fragments": ws_frame(CONTINUATION, b"", fin=False)}[what]

    def talk():
        talking.send(data)
        return any(c.conn == mute for c in worker.disconnects)

    with web.ws(pong=False) as talking:
        conn, _ = talking.who()
        if what == "fragments":
            talking.send(ws_frame(TEXT, b'{"jsonrpc":"2.0","method":"demo.note"}', fin=False))
        for _ in range(3):
            with web.ws(pong=False) as client:
                mute, _ = client.who()
                wait_for(talk, "the end of a silent client", interval=0.02)
        assert conn not in [c.conn for c in worker.disconnects]
        if what == "fragments":
            talking.send(ws_frame(CONTINUATION))
        assert talking.call("demo.echo", [1]) == [1]


@pytest.mark.parametrize("data", [b"", b"\x81", b"\x81\xff\0\0\0\0\0\0"],
                         ids=["nothing", "half a head", "half a length"])
@patient(HELD_UP)
def test_the_beginning_of_a_frame_is_no_life(site, data):
    web, worker = build(site)
    with web.ws(pong=False) as client:
        conn, _ = client.who()
        client.send(data)
        worker.wait_disconnect(conn)


@patient(HELD_UP)
def test_a_call_in_progress_does_not_keep_a_dead_client(site):
    """Its worker is told, too."""
    web = site(routes=[ws_route(ping=PING, events=True), rpc_route()])
    worker = web.fake(handler=lambda call: None)
    web.start()
    with web.ws(pong=False) as client:
        client.ask("m")
        call = worker.wait_calls(1)
        worker.wait(lambda: call.cancelled, "CANCEL")
        worker.wait_disconnect(call.conn)
        call.reply("late")


@patient(HELD_UP)
def test_no_pings_where_the_interval_is_long(site):
    web, worker = build(site)
    with web.ws("/calm", pong=False) as calm:
        conn, _ = calm.who()
        with web.ws(pong=False) as client:
            assert pings_until_the_end(client) >= 1
        assert calm.call("demo.echo", [1]) == [1]
        assert calm.pings == []
