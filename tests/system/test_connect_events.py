"""frontd.connect and frontd.disconnect, and workers that are asked before a client is let in."""
import json
import signal

import pytest

from fakeworker import echo, hold
from harness import rpc_route, wait_for, ws_route
from duplex import Crowd
from wsclient import TEXT, WsClient, upgrade, ws_frame


KINDS = ["ws", "frame", "line"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(site, handler=echo, shards=1, pools=None, limits=None, drain="1s", concurrency=0, **keys):
    route = {"events": True, **keys}
    stream = {k: v for k, v in route.items() if k not in ("headers", "origins")}
    web = site(shards=shards, pools=pools, limits=limits, drain=drain, streams={"frame": stream, "line": stream},
               routes=[ws_route(**route), ws_route("/quiet"), rpc_route()])
    worker = web.fake(handler=handler, concurrency=concurrency) if handler else None
    return web.start(), worker


def test_connect(site):
    web, worker = build(site, headers=["x-user", "cookie", "x-none"])
    with web.ws("/ws/room?a=b", headers=[("X-User", "me"), ("Cookie", "k=\"v\""), ("X-Other", "no")]) as client:
        worker.wait(lambda: worker.connects, "frontd.connect")
        event, = worker.connects
        assert event.notify
        params = event.params
        assert params["conn"] == str(event.conn)
        assert (params["path"], params["query"]) == ("/ws/room", "a=b")
        assert params["headers"] == {"x-user": "me", "cookie": "k=\"v\""}
        assert params["peer"] == "127.0.0.1:%d" % client.sock.getsockname()[1]
        assert client.who()[0] == event.conn


@every_kind
def test_connect_without_query_and_headers(site, kind):
    web, worker = build(site, headers=["x-user"])
    with web.stays(kind) as client:
        worker.wait(lambda: worker.connects, "frontd.connect")
        event, = worker.connects
        assert event.params == {"conn": str(event.conn), "path": "/ws" if kind == "ws" else "/", "query": "",
                                "headers": {}, "peer": "127.0.0.1:%d" % client.sock.getsockname()[1]}


OWN = ["frontd.connect", "frontd.disconnect", "frontd.message", "frontd.response", "frontd.", "frontd.x", "http.request"]


@pytest.mark.parametrize("kind", KINDS + ["http"])
def test_no_client_can_make_events_up(site, kind):
    """Whatever way the name is written in, alone or in a batch, with an id or without."""
    web, worker = build(site)
    with (web.client() if kind == "http" else web.stays(kind)) as client:
        def ask(text):
            if kind == "http":
                return client.post(text).json()
            client.send_text(text)
            return client.read_json()
        for name in OWN:
            for written in (name, name.replace("r", "\\u0072"), name.replace(".", "\\u002E"),
                            "".join("\\u%04x" % ord(c) for c in name), name.title(), name.upper(),
                            "".join("\\u%04X" % ord(c) for c in name.upper()), name[:-1] + name[-1].upper(),
                            name.replace("s", "\u017f"), name.replace("s", "\\u017f"), name + "\\u0000x"):
                call = '{"jsonrpc":"2.0","id":%%d,"method":"%s","params":{"conn":"1"}}' % written
                answer = ask((call % 7).encode())
                assert (answer["id"], answer["error"]["code"]) == (7, -32601), written
                note = call.replace('"id":%d,', "")
                echo_call = '{"jsonrpc":"2.0","id":9,"method":"demo.echo","params":[1]}'
                answers = ask(("[%s,%s,%s]" % (call % 8, note, echo_call)).encode())
                assert {a["id"]: a.get("error", {}).get("code", a.get("result")) for a in answers} == \
                    {8: -32601, 9: [1]}
        others = ["frontd", "frontdx", "Frontd_connect", "http.request2", "HTTP.requests", "x.frontd.connect"]
        for name in others:
            assert ask(b'{"jsonrpc":"2.0","id":1,"method":"%s","params":[2]}' % name.encode())["result"] == [2]
    assert {c.method for c in worker.calls} == {"demo.echo", *others}
    assert len(worker.connects) == (kind != "http") and not worker.messages


@every_kind
def test_connect_comes_before_the_first_call(site, kind):
    order = []

    def handler(call):
        order.append((call.conn, call.method))
        echo(call)
    web, worker = build(site, handler)
    for _ in range(30):
        with web.stays(kind) as client:
            conn, _ = client.who()
            assert [m for c, m in order if c == conn] == ["frontd.connect", "who"]
    worker.wait(lambda: [m for _, m in order].count("frontd.disconnect") == 30, "30 disconnects")
    assert {c.conn for c in worker.disconnects} == {c.conn for c in worker.connects}
    assert all([m for c, m in order if c == conn] == ["frontd.connect", "who", "frontd.disconnect"]
               for conn in {c for c, _ in order})


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999, None])
def test_codes_of_clients_that_say_goodbye(site, code):
    web, worker = build(site)
    with web.ws() as client:
        conn, _ = client.who()
        client.finish(code)
    assert worker.wait_disconnect(conn).params == {"conn": str(conn), "code": code or 1005}


@every_kind
def test_codes_of_clients_that_are_lost(site, kind):
    web, worker = build(site)
    for way in ("close", "reset"):
        client = web.stays(kind)
        conn, _ = client.who()
        getattr(client, way)()
        event = worker.wait_disconnect(conn)
        assert event.params["conn"] == str(conn)
        if kind == "ws":
            assert event.params["code"] == 1006


def test_the_code_of_a_disconnect(site):
    web, worker = build(site)
    with web.ws() as client:
        conn, _ = client.who()
        worker.channel().disconnect(conn, 4001, "go")
        client.expect_close(4001)
    assert worker.wait_disconnect(conn).params["code"] == 4001


def test_errors_of_the_client(site):
    """The end of each is told once, whatever ended it."""
    web, worker = build(site)
    for data, code in ((ws_frame(TEXT, b"x", rsv=1), 1002), (ws_frame(TEXT, b"\xff"), 1007), (ws_frame(2, b""), 1003),
                       (ws_frame(TEXT, b"", length=1 << 40), 1009)):
        with web.ws() as client:
            conn, _ = client.who()
            client.send(data)
            client.expect_close(code)
        worker.wait_disconnect(conn)
    assert len(worker.connects) == len(worker.disconnects) == 4


def test_routes_without_events(site):
    web, worker = build(site)
    with web.ws("/quiet") as client:
        client.who()
        client.finish()
    with web.ws() as client:
        client.who()
        assert len(worker.connects) == 1


def test_every_connection_comes_and_goes_once(site):
    """FakeWorker complains of a second time."""
    web, worker = build(site, shards=2)
    count = 60
    for n in range(count):
        with web.stays(KINDS[n % 3]) as client:
            if n % 2:
                client.who()
            if n % 5 == 0:
                client.reset()
            elif n % 3 == 0 and n % 4:
                client.finish()
    worker.wait(lambda: len(worker.disconnects) == count, "all disconnects")
    assert {c.conn for c in worker.disconnects} == {c.conn for c in worker.connects}
    assert len(worker.connects) == count


@every_kind
def test_no_worker_to_tell(site, kind):
    """A client is let in all the same where nobody is asked."""
    web, _ = build(site, None, pools={"app": {"wait_for_worker": "100ms"}})
    with web.stays(kind) as client:
        client.ask("m")
        assert client.read_json()["error"]["code"] == -32004
    worker = web.fake()
    worker.wait_ready()
    with web.stays(kind) as client:
        client.who()


# connect: ask

def test_asked_and_let_in(site):
    web, worker = build(site, connect="ask", headers=["x-user"])
    with web.ws(headers=[("X-User", "me")]) as client:
        event, = worker.connects
        assert not event.notify and event.done
        assert event.params["headers"] == {"x-user": "me"}
        assert client.who()[0] == event.conn


def test_asked_and_refused(site):
    def handler(call):
        if call.method == "frontd.connect" and call.params["headers"].get("x-user") != "me":
            call.error(1, "who are you?")
        else:
            echo(call)
    web, worker = build(site, handler, connect="ask", headers=["x-user"])
    for _ in range(3):
        with WsClient(web.address, None) as client:
            client.send(upgrade(headers=[("X-User", "you")]))
            assert client.read_response().status == 403
    with web.ws(headers=[("X-User", "me")]) as client:
        conn, _ = client.who()
    worker.wait_disconnect(conn)
    assert [c.conn for c in worker.disconnects] == [conn]       # the others never came
    assert len(worker.connects) == 4


def test_the_answer_is_waited_for(site):
    """Nothing goes out before; what the client has sent meanwhile is looked at afterwards."""
    def handler(call):
        if call.method != "frontd.connect":
            echo(call)
    web, worker = build(site, handler, connect="ask")
    with WsClient(web.address, None) as client:
        client.send(upgrade() + ws_frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":[7]}'))
        worker.wait(lambda: worker.connects, "frontd.connect")
        assert worker.channel().sync()
        assert web.rpc("demo.echo", [1]).status == 200
        assert not client.readable() and len(worker.calls) == 1
        worker.connects[0].reply()
        client.upgraded()
        assert client.read_json()["result"] == [7]


def test_a_client_gone_while_its_worker_is_asked(site):
    web, worker = build(site, lambda call: None, connect="ask")
    for n, way in enumerate(("close", "reset")):
        client = WsClient(web.address, None)
        client.send(upgrade())
        worker.wait(lambda: len(worker.connects) > n, "frontd.connect")
        getattr(client, way)()
        event = worker.connects[n]
        worker.wait(lambda: event.cancelled, "CANCEL")
        event.reply()
    worker.handler = echo
    with web.ws() as client:
        conn, _ = client.who()
    worker.wait_disconnect(conn)


def test_what_is_said_before_the_answer(site):
    """A subscription made before the client is let in holds, on any shard's word."""
    def handler(call):
        if call.method == "frontd.connect":
            call.channel.subscribe(call.conn, "t")
        echo(call)
    web, worker = build(site, handler, shards=2, connect="ask")
    for n in range(20):
        with web.ws() as client:
            worker.channel(n & 1).publish("t", b'"news"')
            assert client.read_json() == "news"


def test_pushes_before_the_answer(site):
    """They come behind the upgrade, in their order."""
    def handler(call):
        if call.method == "frontd.connect":
            for n in range(3):
                call.channel.push(call.conn, b'"welcome %d"' % n)
        echo(call)
    web, worker = build(site, handler, connect="ask")
    with web.ws() as client:
        assert [client.read_json() for _ in range(3)] == ["welcome %d" % n for n in range(3)]


def ask_to_come(web, kind):
    """A client about which a worker is asked; a WebSocket has sent its upgrade."""
    if kind != "ws":
        return web.stream(kind)
    client = WsClient(web.address, None)
    client.send(upgrade())
    return client


def turned_away(client, kind, status=403):
    if kind == "ws":
        assert client.read_response().status == status
    assert client.at_end()


@every_kind
@pytest.mark.parametrize("pushes", [0, 3])
@pytest.mark.parametrize("answer", ["error", "result", "none"])
def test_a_disconnect_before_the_answer(site, kind, pushes, answer):
    """It refuses, whatever the answer says; what was pushed before is not sent."""
    def handler(call):
        if call.method == "frontd.connect":
            for _ in range(pushes):
                call.push(b'"before"')
            call.channel.subscribe(call.conn, "t")
            call.channel.disconnect(call.conn, 4003, "banned")
            call.push(b'"after"')
            if answer != "none":
                call.error(1, "banned") if answer == "error" else call.reply()
        else:
            echo(call)
    web, worker = build(site, handler, connect="ask")
    with ask_to_come(web, kind) as client:
        turned_away(client, kind)
    event, = worker.connects
    worker.wait(lambda: event.cancelled, "CANCEL")
    if answer == "none":
        event.reply()
    wait_for(lambda: web.connections() == 0, "its end")
    worker.channel().publish("t", b'"nobody"')
    assert worker.channel().sync()
    assert web.rpc("demo.echo", [1]).status == 200


@every_kind
@pytest.mark.parametrize("others", [0, 3])
def test_too_much_before_the_answer(site, kind, others):
    """What is pushed and published before is bounded, too: over write_buffer the client is refused, and leaves
    its topics while they are published to."""
    web, worker = build(site, connect="ask", limits={"write_buffer": 65536})
    with Crowd(web, worker) as crowd:
        for n in range(others):
            crowd.add(KINDS[n])
        crowd.join("t")
        worker.handler = lambda call: None if call.method == "frontd.connect" else echo(call)
        new = [ask_to_come(web, kind) for _ in range(4)]
        worker.wait(lambda: len(worker.connects) == others + 4, "frontd.connect")
        asked = worker.connects[others:]
        for call in asked:
            worker.channel().subscribe(call.conn, "t")
        for _ in range(3):
            worker.channel().publish("t", b'"%s"' % (b"x" * 30000))
        for client in new:
            with client:
                turned_away(client, kind)
        for call in asked:
            worker.wait(lambda: call.cancelled, "CANCEL")
            call.reply()
        for client, _, _ in crowd.members:
            for _ in range(3):
                assert len(client.read_text()) == 30002
        crowd.settle()
        wait_for(lambda: web.connections() == others, "the end of those refused")


def test_nobody_to_ask(site):
    web, _ = build(site, None, connect="ask", pools={"app": {"wait_for_worker": "100ms"}})
    with WsClient(web.address, None) as client:
        client.send(upgrade())
        assert client.read_response().status == 503
    web.fake().wait_ready()
    with web.ws() as client:
        client.who()


def test_nobody_who_answers(site):
    web, worker = build(site, lambda call: None, connect="ask", timeout="200ms")
    with WsClient(web.address, None) as client:
        client.send(upgrade())
        assert client.read_response().status == 504
        worker.wait(lambda: worker.connects, "frontd.connect")      # it may be read later than the answer
        event, = worker.connects
        worker.wait(lambda: event.cancelled, "CANCEL")
        event.reply()
        assert worker.channel().sync()


def test_a_worker_lost_while_it_is_asked(site):
    web, worker = build(site, lambda call: None, connect="ask")
    with WsClient(web.address, None) as client:
        client.send(upgrade())
        worker.wait(lambda: worker.connects, "frontd.connect")
        worker.drop()
        assert client.read_response().status == 502


def test_too_many_to_ask(site):
    web, worker = build(site, hold, connect="ask", pools={"app": {"queue": 0}}, concurrency=1)
    with ask_to_come(web, "ws") as asked:
        worker.wait(lambda: worker.connects, "frontd.connect")
        with ask_to_come(web, "ws") as refused:
            r = refused.read_response()
            assert r.status == 503 and r.header("retry-after")
        worker.connects[0].reply()
        asked.upgraded()
        assert len(worker.connects) == 1 and not worker.disconnects


def test_an_answer_that_is_none(site):
    web, worker = build(site, lambda call: None if call.notify else call.send(b'{"x":1}'), connect="ask")
    worker.tolerant = True
    with ask_to_come(web, "ws") as client:
        turned_away(client, "ws", 502)
    event, = worker.connects
    worker.wait_disconnect(event.conn)


@every_kind
@pytest.mark.parametrize("end", ["close", "reset", "deadline", "disconnect"])
def test_an_answer_that_comes_too_late(site, kind, end):
    """It may be a result: who has been asked and has not said no hears of the end, too."""
    web, worker = build(site, hold, connect="ask", timeout="200ms" if end == "deadline" else "30s")
    with ask_to_come(web, kind) as client:
        worker.wait(lambda: worker.connects, "frontd.connect")
        event, = worker.connects
        if end == "disconnect":
            worker.channel().disconnect(event.conn, 4001)
        elif end == "deadline":
            turned_away(client, kind, 504)
        else:
            getattr(client, end)()
        worker.wait(lambda: event.cancelled, "CANCEL")
        event.reply()
        assert worker.wait_disconnect(event.conn).params["code"] == (4001 if end == "disconnect" else 1006)
    assert worker.channel().sync()


@every_kind
def test_the_answer_comes_while_the_front_stops(site, kind):
    """Who is let in then is told goodbye at once."""
    web, worker = build(site, hold, connect="ask", drain="20s")
    with ask_to_come(web, kind) as client, ask_to_come(web, kind) as refused, web.ws("/quiet") as idle:
        worker.wait(lambda: len(worker.connects) == 2, "frontd.connect")
        port = client.sock.getsockname()[1]
        event, other = sorted(worker.connects, key=lambda c: not c.params["peer"].endswith(":%d" % port))
        web.front.signal(signal.SIGTERM)
        idle.expect_close(1001)     # so that is under way
        event.reply()
        other.error(1, "no")
        if kind == "ws":
            client.upgraded()
            client.expect_close(1001)
        else:
            assert client.at_end()
        turned_away(refused, kind)
        assert web.front.wait() == 0


def test_bad_handshakes_ask_nobody(site):
    web, worker = build(site, connect="ask", origins=["http://good.test"])
    for data, status in ((upgrade(key="x"), 400), (upgrade(version="8"), 426),
                         (upgrade(origin="http://evil.test"), 403)):
        with WsClient(web.address, None) as client:
            client.send(data)
            assert client.read_response().status == status
    with web.ws() as client:
        client.who()
    assert len(worker.connects) == 1


# messages: raw

def test_raw_messages(site):
    """Each goes to a worker as it is: text and bytes, empty ones, JSON and none, in order."""
    web = site(routes=[ws_route("/raw", messages="raw", events=True), rpc_route()])
    worker = web.fake(handler=lambda call: None)
    web.start()
    sent = [(False, b""), (True, b""), (False, b"x"), (True, bytes(range(256))), (False, b'{"jsonrpc":"2.0"}'),
            (False, "\u20ac".encode() * 1000), (True, b"z" * 70_000), (False, b"[")] + [
                (bool(n & 1), b"%d" % n) for n in range(200)]
    with web.ws("/raw") as client:
        for binary, data in sent:
            (client.send_binary if binary else client.send_text)(data)
        worker.wait(lambda: len(worker.messages) == len(sent), "all messages")
        assert [(c.binary, c.blob) for c in worker.messages] == sent
        conn, = {c.conn for c in worker.messages}
        assert worker.connects[0].conn == conn
        assert json.loads(worker.messages[0].body) == {"jsonrpc": "2.0", "method": "frontd.message"}
        worker.channel().push(conn, b"\xff", binary=True)
        assert client.read_message() == (2, b"\xff")
        client.finish(4000)
    assert worker.wait_disconnect(conn).params["code"] == 4000


def test_raw_lines_and_frames(site):
    """An empty line is a message; the length 0 is a heartbeat."""
    web = site(routes=[rpc_route()], streams={"line": {"messages": "raw"}, "frame": {"messages": "raw"}})
    worker = web.fake(handler=lambda call: None)
    web.start()
    with web.stream("line") as client:
        client.send(b"one\n\n\r\n{\n two \r\n\n")
        worker.wait(lambda: len(worker.messages) == 6, "all lines")
        assert [c.blob for c in worker.messages] == [b"one", b"", b"", b"{", b" two ", b""]
    with web.stream("frame") as client:
        client.send(client.wrap(b"one") + client.wrap(b"") + client.wrap(b"\n"))
        client.read_heartbeat()
        worker.wait(lambda: len(worker.messages) == 8, "all frames")
        assert [c.blob for c in worker.messages[6:]] == [b"one", b"\n"]


def test_raw_messages_of_many(site):
    web = site(shards=2, routes=[ws_route("/raw", messages="raw"), rpc_route()])
    worker = web.fake()
    web.start()
    made = [web.ws("/raw") for _ in range(20)]
    for turn in range(20):
        for n, client in enumerate(made):
            client.send_text(b"%d.%d" % (n, turn))
    for turn in range(20):
        for n, client in enumerate(made):
            assert client.read_text() == b"%d.%d" % (n, turn)
    assert len({c.conn for c in worker.messages}) == 20
    for client in made:
        client.close()
    wait_for(lambda: web.connections() == 0, "the end of all")


def test_raw_messages_without_a_worker(site):
    """Nobody takes them: they are lost, as notifications are, and the client stays."""
    web = site(routes=[ws_route("/raw", messages="raw"), rpc_route()], pools={"app": {"wait_for_worker": "100ms"}})
    web.start()
    with web.ws("/raw") as client:
        client.send_text(b"lost")
        assert web.rpc("m").status == 503           # so long has it waited
        worker = web.fake()
        worker.wait_ready()
        client.send_text(b"there")
        assert client.read_text() == b"there"


def test_a_worker_that_subscribes_at_connect(site):
    def handler(call):
        if call.method == "frontd.connect":
            call.channel.subscribe(call.conn, "all")
        else:
            echo(call)
    web, worker = build(site, handler, shards=2)
    with Crowd(web, worker) as crowd:
        for kind in KINDS:
            crowd.spread(1, kind)
        worker.channel(0).publish("all", b'"hello"')
        for client, _, _ in crowd.members:
            assert client.read_json() == "hello"
