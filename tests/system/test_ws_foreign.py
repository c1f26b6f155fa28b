"""WebSocket as clients written by others speak it: python3-websockets, and npm's ws."""
import asyncio
import json
import random
import signal
import subprocess

import pytest

import nodejs
from fakeworker import echo
from harness import LIMIT, rpc_route, ws_route
from patience import patient
from reloads import Front


def chat(call):
    """`join` a topic, `say` something to one, `leave`."""
    if call.method == "join":
        call.channel.subscribe(call.conn, call.params[0])
        call.reply()
    elif call.method == "say":
        call.channel.publish(call.params[0], json.dumps(call.params[1]).encode())
    elif call.method == "leave":
        call.channel.disconnect(call.conn, 4001, "as asked")
    else:
        echo(call)


@pytest.fixture(scope="module")
def web():
    with Front(shards=2, routes=[
            ws_route(), ws_route("/raw", messages="raw"), ws_route("/pinged", ping="100ms"),
            ws_route("/packed", compression=True), ws_route("/packed-raw", messages="raw", compression=True),
            ws_route("/named", protocols=["chat"], origins=["http://good.test"]), rpc_route()],
            limits={"body": 500_000}) as site:
        site.fake(handler=chat)
        yield site.start()


# python3-websockets

@pytest.fixture
def talk(web):
    """Runs a coroutine, bounded, with a function that connects."""
    websockets = pytest.importorskip("websockets", reason="Debian's python3-websockets is not installed")

    def connect(path="/ws", **keys):
        return websockets.connect("ws://127.0.0.1:%d%s" % (web.port, path), max_size=None, **keys)

    def run(body):
        asyncio.run(asyncio.wait_for(body(websockets, connect), 3 * LIMIT))
    return run


def call(id, method, params=None):
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def note(method, params=()):
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params)})


def test_python_calls(talk):
    async def body(_, connect):
        async with connect() as ws:
            for n in range(50):
                await ws.send(call(n, "demo.echo", [n, "\u20ac"]))
            answers = [json.loads(await ws.recv()) for _ in range(50)]
            assert sorted(a["id"] for a in answers) == list(range(50))
            assert all(a["result"] == [a["id"], "\u20ac"] for a in answers)
            await ws.send("[%s,%s]" % (call(1, "demo.echo"), call(2, "demo.echo")))
            assert len(json.loads(await ws.recv())) == 2
            await ws.send("no JSON")
            assert json.loads(await ws.recv())["error"]["code"] == -32700
        assert ws.close_code == 1000
    talk(body)


def test_python_messages(talk):
    async def body(_, connect):
        async with connect("/raw", compression="deflate") as ws:
            assert not ws.extensions
            for size in (0, 1, 125, 126, 65535, 65536, 300_000):
                for data in (b"\xff" * size, "t" * size):
                    await ws.send(data)
                    assert await ws.recv() == data
            await ws.send(["in ", "", "fragments ", "\u20ac"])
            assert await ws.recv() == "in fragments \u20ac"
            await ws.send([b"\xff", b"", b"\0"])
            assert await ws.recv() == b"\xff\0"
            await ws.close(4000, "\u20ac")
            assert ws.close_code == 4000
    talk(body)


def test_python_compression(talk, web):
    """Messages of all sizes and kinds, pushes, what inflates to too much; over reloads."""
    async def body(websockets, connect):
        assert not (await connect("/packed", compression=None)).extensions
        async with connect("/packed-raw") as raw, connect("/packed") as ws:
            assert "server_no_context_takeover" in raw.response_headers["Sec-WebSocket-Extensions"]
            await ws.send(call(1, "join", ["t"]))
            assert json.loads(await ws.recv())["id"] == 1
            for number in (signal.SIGHUP, signal.SIGUSR2):
                for size in (0, 1, 127, 128, 65536, 400_000):
                    for data in (random.Random(size).randbytes(size), "text \u20ac"[:size] * (size // 8)):
                        await raw.send(data)
                        assert await raw.recv() == data
                await raw.send(["in ", "", "fragments \u20ac" * 20])
                assert await raw.recv() == "in fragments \u20ac" + "fragments \u20ac" * 19
                await ws.send(note("say", ["t", "p" * 300]))
                assert json.loads(await ws.recv()) == "p" * 300
                web.reload(number)
            await ws.send(call(2, "demo.echo", ["e" * 10_000]))
            assert json.loads(await ws.recv())["result"] == ["e" * 10_000]
            await raw.send("x" * 500_001)               # 600 bytes on the wire
            with pytest.raises(websockets.ConnectionClosed):
                await raw.recv()
            assert raw.close_code == 1009
    talk(body)


@patient(0.1)          # the front pings as often
def test_python_pings(talk):
    async def body(_, connect):
        async with connect("/raw") as ws:
            await asyncio.gather(*[await ws.ping(b"%d" % n) for n in range(10)])
        async with connect("/pinged", ping_interval=0.02, ping_timeout=LIMIT) as ws:
            for _ in range(20):
                await ws.send(call(1, "demo.echo"))
                await ws.recv()
                await asyncio.wait_for(await ws.ping(), LIMIT)
    talk(body)


def test_python_handshakes(talk):
    async def body(websockets, connect):
        async with connect("/named", subprotocols=["other", "chat"], origin="http://good.test") as ws:
            assert ws.subprotocol == "chat"
        for path, origin, status in (("/named", "http://evil.test", 403), ("/nowhere", None, 404)):
            with pytest.raises(websockets.InvalidStatusCode) as e:
                await connect(path, origin=origin)
            assert e.value.status_code == status
    talk(body)


def test_python_refused(talk):
    async def body(websockets, connect):
        for data, code in ((b"{}", 1003), ("x" * 500_001, 1009)):
            async with connect() as ws:
                await ws.send(data)
                with pytest.raises(websockets.ConnectionClosed):
                    await ws.recv()
                assert ws.close_code == code
        async with connect() as ws:
            await ws.send(note("leave"))
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4001, "as asked")
    talk(body)


def test_python_topics(talk):
    async def body(_, connect):
        made = [await connect() for _ in range(20)]
        for ws in made:
            await ws.send(call(1, "join", ["t"]))
            assert json.loads(await ws.recv())["id"] == 1
        for n in range(50):
            await made[0].send(note("say", ["t", n]))
        for ws in made:
            assert [json.loads(await ws.recv()) for _ in range(50)] == list(range(50))
        await asyncio.gather(*[ws.close() for ws in made])
        assert {ws.close_code for ws in made} == {1000}
    talk(body)


def test_python_at_the_end(site):
    websockets = pytest.importorskip("websockets", reason="Debian's python3-websockets is not installed")
    web = site(routes=[ws_route(), rpc_route()])
    web.fake()
    web.start()

    async def body():
        ws = await websockets.connect("ws://127.0.0.1:%d/ws" % web.port)
        web.front.signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1001
    asyncio.run(asyncio.wait_for(body(), 3 * LIMIT))
    assert web.front.wait() == 0


# npm's ws

def test_node(web):
    argv, env = nodejs.command("client.js", "ws://127.0.0.1:%d" % web.port)
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * LIMIT)
    assert done.returncode == 0 and done.stdout.endswith("all done\n"), done.stdout + done.stderr
