"""WebSockets over HTTP/2 (RFC 8441), over real processes: several on a connection, beside requests, over reloads."""
import json
import struct
import zlib

import pytest

import certs
from fakeworker import echo
from h2client import H2Client
from harness import free_port, http_route, rpc_route, wait_for, ws_route
from reloads import HUP, USR2, Front
from wsclient import CLOSE, CONTINUATION, PING, PONG, TEXT, masked, ws_close, ws_frame

CONNECT_SETTING, PROTOCOL_ERROR, CANCEL = 8, 1, 8


class Socket:
    """A WebSocket on a stream of its own."""

    def __init__(self, client, path="/ws", headers=(), protocol="websocket"):
        self.client = client
        self.number = client.open("CONNECT", path, headers=[
            (":protocol", protocol), ("sec-websocket-version", "13"), *headers], end=False)
        self.stream = client.streams[self.number]
        client.until(lambda: self.stream.status or self.stream.reset is not None)

    def send(self, data, end=False):
        self.client.data(self.number, data, end)

    def frame(self):
        """The next frame: (opcode, payload)."""
        def head():
            body = self.stream.body
            if len(body) < 2:
                return None
            size = body[1]
            at = {126: 4, 127: 10}.get(size, 2)
            if len(body) < at:
                return None
            if at > 2:
                size = int.from_bytes(body[2:at], "big")
            return (at, size) if len(body) >= at + size else None
        self.client.until(lambda: head() is not None)
        at, size = head()
        first, payload = self.stream.body[0], self.stream.body[at:at + size]
        self.stream.body = self.stream.body[at + size:]
        assert first & 0x80, "a fragment"
        return first & 15, payload

    def text(self):
        opcode, payload = self.frame()
        assert opcode == TEXT, (opcode, payload)
        return payload

    def ask(self, method, params=None, id=1):
        message = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        self.send(ws_frame(TEXT, json.dumps(message).encode()))

    def call(self, method, params=None, id=1):
        self.ask(method, params, id)
        answer = json.loads(self.text())
        assert answer["id"] == id, answer
        return answer["result"]

    def who(self):
        told = self.call("who", id="who")
        return int(told["conn"]), told["shard"]

    def close(self):
        self.send(ws_close(1000))
        assert self.frame() == (CLOSE, struct.pack(">H", 1000))
        self.send(b"", end=True)
        self.client.until(lambda: self.stream.ended)


@pytest.fixture(scope="module")
def web():
    routes = [rpc_route(), http_route(), ws_route(), ws_route("/raw", messages="raw", events=True, meta=["tls"]),
              ws_route("/packed", compression=True), ws_route("/own", origins=["https://a.test"], protocols=["b", "a"])]
    with Front(shards=2, routes=routes, drain="20s", limits={"body": 200000, "write_buffer": "64KiB"}) as site:
        site.ports["tls"] = free_port()
        site.config["listeners"][0].update(h2c=True, h2_websocket=True)
        site.config["listeners"].append({
            "name": "tls", "address": "127.0.0.1:%d" % site.ports["tls"], "h2_websocket": True, "routes": routes,
            "tls": {"certificates": [certs.pair(certs.make(site.dir))]}})
        site.fake(handler=echo)
        yield site.start()


def connect(web, listener="web", **keys):
    return H2Client(("127.0.0.1", web.ports[listener]), tls=listener == "tls", **keys)


def test_several_on_a_connection(web):
    with connect(web) as client:
        first, second = Socket(client), Socket(client, "/own", [("sec-websocket-protocol", "x, a, b"),
                                                               ("origin", "https://a.test")])
        assert client.conn.remote_settings.get(CONNECT_SETTING) == 1
        assert (first.stream.status, second.stream.status) == (200, 200)
        assert second.stream.headers["sec-websocket-protocol"] == "b"
        assert "sec-websocket-accept" not in second.stream.headers
        assert first.call("m", [1]) == [1] and client.get("/x").status == 200 and second.call("m", [2]) == [2]
        assert first.who()[0] != second.who()[0]
        first.send(ws_frame(PING, b"hello") + ws_frame(TEXT, b'{"jsonrpc":"2.0",', fin=False))
        assert first.frame() == (PONG, b"hello")
        first.send(ws_frame(CONTINUATION, b'"id":3,"method":"m","params":[3]}'))
        assert json.loads(first.text())["result"] == [3]
        large = second.call("m", ["x" * 150000])
        assert large == ["x" * 150000]
        second.close()
        assert first.call("m", [4]) == [4]
        first.send(b"", end=True)                           # as FIN without a Close
        client.until(lambda: first.stream.ended)
        assert client.get("/x").status == 200


def test_refused_handshakes(web):
    with connect(web) as client:
        for status, keys in [(501, {"protocol": "connect-udp"}), (403, {"headers": [("origin", "https://b.test")]}),
                             (405, {"path": "/x"}), (405, {"path": "/rpc"})]:
            assert Socket(client, **{"path": "/own", **keys}).stream.status == status
        assert client.get("/x").status == 200


def test_compression(web):
    """As over HTTP/1.1: test_ws_foreign.py."""
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "demo.echo", "params": ["z" * 5000]}).encode()
    with connect(web) as client:
        socket = Socket(client, "/packed", [("sec-websocket-extensions", "permessage-deflate")])
        headers = dict(socket.stream.headers)
        assert headers["sec-websocket-extensions"].startswith("permessage-deflate; server_no_context_takeover"), headers
        packer = zlib.compressobj(wbits=-15)
        packed = (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        frame = bytearray(ws_frame(TEXT, packed))
        frame[0] |= 0x40
        socket.send(bytes(frame))
        opcode, payload = socket.frame()
        answer = zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")
        assert json.loads(answer)["result"] == ["z" * 5000] and len(payload) < 200
        assert "sec-websocket-extensions" not in dict(Socket(client).stream.headers)


def test_what_breaks_the_protocol(web):
    """The codes are those of a WebSocket over HTTP/1.1; the other streams go on."""
    with connect(web) as client:
        stays = Socket(client)
        for code, data in [(1002, ws_frame(TEXT, b"{}", mask=None)), (1007, ws_frame(TEXT, b"\xff")),
                           (1009, ws_frame(TEXT, b"", length=200001)), (1003, ws_frame(2, b"{}"))]:
            socket = Socket(client)
            socket.send(data)
            opcode, payload = socket.frame()
            assert opcode == CLOSE and payload[:2] == struct.pack(">H", code), (code, payload)
            if code == 1003:
                socket.send(ws_close(1003), end=True)
            client.until(lambda: socket.stream.ended)
        assert stays.call("m", [1]) == [1]


def test_pushes_and_slow_readers(web):
    """What is pushed to one that opens no window does not hold up another one on the same connection."""
    worker = web.workers[0]
    with connect(web, window=False) as client:
        slow, other = Socket(client), Socket(client)
        conns = [slow.who()[0], other.who()[0]]
        channel = worker.channel()
        client.conn.increment_flow_control_window(1 << 24)
        client.conn.increment_flow_control_window(1 << 24, other.number)
        client.flush()
        for n in range(40):
            for conn in conns:
                channel.push(conn, b"%d " % n + b"p" * 9000)
        for n in range(40):
            assert other.text().startswith(b"%d " % n)
        channel.disconnect(conns[1], 4001, "enough")
        assert other.frame() == (CLOSE, struct.pack(">H", 4001) + b"enough")
        client.conn.increment_flow_control_window(1 << 24, slow.number)
        client.flush()
        while True:                                         # some came, then it was told why no more did
            opcode, payload = slow.frame()
            if opcode == CLOSE:
                break
        assert payload == struct.pack(">H", 1013) + b"too slow"


@pytest.mark.parametrize("number,listener", [(HUP, "web"), (USR2, "tls")])
def test_a_reload_keeps_them(web, number, listener):
    """Each with its id, its topics, half a message, what waits for its window; one with a call, and with it its
    connection, follows when that has ended."""
    worker = web.workers[0]
    held = []

    def handler(call):
        if call.method == "hold":
            held.append(call)
        else:
            echo(call)
    worker.handler = handler
    clients = [connect(web, listener, window=n != 2) for n in range(6)]
    try:
        sockets = [[Socket(client) for _ in range(3)] for client in clients]
        told = len(worker.connects)
        raw = Socket(clients[0], "/raw")
        worker.wait(lambda: len(worker.connects) > told, "frontd.connect")
        assert ("tls" in worker.connects[-1].params) == (listener == "tls")
        ids = [[socket.who()[0] for socket in some] for some in sockets]
        assert len({conn for some in ids for conn in some}) == 18
        channel = worker.channel()
        for some in ids:
            channel.subscribe(some[0], "t")
        assert channel.sync()
        message = ws_frame(TEXT, json.dumps({"jsonrpc": "2.0", "id": 9, "method": "m", "params": ["h" * 500]}).encode())
        sockets[1][1].send(message[:200])
        sockets[1][2].send(message[:1])
        for _ in range(3):
            channel.push(ids[2][2], b"w" * 30000)           # more than its window
        sockets[3][1].ask("hold", id=5)
        wait_for(lambda: held, "the call")
        before = web.shards()
        web.reload(number, gone=False)
        late = Socket(clients[3])                           # on the old shard, whose connection waits for a call
        assert late.stream.status == 200
        held[0].reply("held")
        assert json.loads(sockets[3][1].text())["result"] == "held"
        wait_for(lambda: not set(before) & set(web.shards()), "the end of the old shards")
        assert [[socket.who()[0] for socket in some] for n, some in enumerate(sockets) if n not in (1, 2)] == \
            [some for n, some in enumerate(ids) if n not in (1, 2)]
        sockets[1][1].send(message[200:])
        sockets[1][2].send(message[1:])
        for n in (1, 2):
            assert json.loads(sockets[1][n].text())["result"] == ["h" * 500]
        clients[2].conn.increment_flow_control_window(1 << 20)
        clients[2].conn.increment_flow_control_window(1 << 20, sockets[2][2].number)
        clients[2].flush()
        assert [len(sockets[2][2].text()) for _ in range(3)] == [30000] * 3
        worker.channel().publish("t", b"all")
        for some in sockets:
            assert some[0].text() == b"all"
        raw.send(ws_frame(TEXT, b"echoed"))
        assert raw.text() == b"echoed"
        assert late.call("m", [1]) == [1]
        assert not any(client.goaways for client in clients)
        assert not any(call.conn in {c for some in ids for c in some} for call in worker.disconnects)
    finally:
        worker.handler = echo
        for client in clients:
            client.close()


def test_a_reload_switches_them_on(web):
    """It is told to clients that are connected; and that it is off again is not."""
    listener = web.config["listeners"][0]
    listener["h2_websocket"] = False
    web.write()
    web.reload(HUP)
    with connect(web) as client:
        assert Socket(client).stream.reset == PROTOCOL_ERROR
        listener["h2_websocket"] = True
        web.write()
        web.reload(HUP)
        client.until(lambda: client.conn.remote_settings.get(CONNECT_SETTING) == 1)
        socket = Socket(client)
        assert socket.stream.status == 200
        listener["h2_websocket"] = False
        web.write()
        web.reload(HUP)
        assert socket.call("m", [1]) == [1] and Socket(client).call("m", [2]) == [2]
        with connect(web) as other:
            assert Socket(other).stream.reset == PROTOCOL_ERROR


def test_the_end(web):
    """Closed with 1001, the connection with GOAWAY."""
    with connect(web, "tls") as client:
        sockets = [Socket(client) for _ in range(3)]
        web.front.signal(15)
        for socket in sockets:
            assert socket.frame() == (CLOSE, struct.pack(">H", 1001) + b"going away")
            socket.send(ws_close(1001), end=True)
        assert client.ended() == 0
        assert all(socket.stream.ended and socket.stream.reset is None for socket in sockets)
