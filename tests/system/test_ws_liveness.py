"""Connections that stay are asked for a sign of life, and released after three intervals without one."""
import socket

import pytest

from harness import LIMIT, rpc_route, wait_for, ws_route
from wsclient import CONTINUATION, TEXT, Closed, Reader, WsClosed, ws_frame


PING = "200ms"
TCP_REPAIR = 19         # linux/tcp.h: what is done to the socket then is not told to the peer


def build(site, **keys):
    route = {"ping": PING, "events": True, **keys}
    web = site(routes=[ws_route(**route), rpc_route(), ws_route("/calm", ping="1h", events=True)],
               streams={"frame": route, "line": route})
    worker = web.fake()
    web.start()
    return web, worker


def pings_until_the_end(client):
    """Reads without answering; how many pings came before the connection ended."""
    try:
        while True:
            client.read_message()
    except (Closed, WsClosed):
        return len(client.pings)


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


def test_who_does_not_answer_is_asked_and_released(site):
    web, worker = build(site)
    with web.ws(pong=False) as client:
        conn, _ = client.who()
        assert 1 <= pings_until_the_end(client) <= 4
        assert worker.wait_disconnect(conn).params["code"] == 1006


def test_half_open_connections(site):
    """Clients that stop taking part, the kernel still answering for them: all are released, one that
    takes part is not."""
    web, worker = build(site)
    with web.ws() as lives:
        here, _ = lives.who()
        reader = Reader(lives, lambda got: False)       # answers pings
        silent = [web.ws(rcvbuf=4096) for _ in range(12)]
        conns = {client.who()[0] for client in silent}
        assert web.connections() == 13
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
    web, worker = build(site, ping="1s")
    client = web.stays(kind)
    conn, _ = client.who()
    try:
        client.sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        client.close()
        pytest.skip("only root can make a socket vanish")
    client.close()
    assert web.connections() == 1
    assert worker.wait_disconnect(conn, 2 * LIMIT).params["code"] == 1006
    wait_for(lambda: web.connections() == 0, "its end")


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


def test_what_is_pushed_is_no_sign_of_life(site):
    web, worker = build(site)
    with web.ws(pong=False, rcvbuf=4096) as client:
        conn, shard = client.who()

        def gone():
            worker.channel().push(conn, b"x" * 100)
            return any(c.conn == conn for c in worker.disconnects)
        wait_for(gone, "the end of a silent client", interval=0.02)


@pytest.mark.parametrize("what", ["notifications", "pings", "pongs", "fragments"])
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
def test_the_beginning_of_a_frame_is_no_life(site, data):
    web, worker = build(site)
    with web.ws(pong=False) as client:
        conn, _ = client.who()
        client.send(data)
        worker.wait_disconnect(conn)


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


def test_no_pings_where_the_interval_is_long(site):
    web, worker = build(site)
    with web.ws("/calm", pong=False) as calm:
        conn, _ = calm.who()
        with web.ws(pong=False) as client:
            assert pings_until_the_end(client) >= 1
        assert calm.call("demo.echo", [1]) == [1]
        assert calm.pings == []
