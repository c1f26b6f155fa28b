"""Workers, clients and shards that misbehave or die: one defined error, nobody else disturbed."""
import os
import re
import signal
import threading
import time

import pytest

import fakeworker
from fakeworker import RESPONSE, echo, frame, hold
from harness import Load, http_route, rpc_route, stat, wait_for
from httpclient import BadResponse, Client, Closed, rpc_request
from reloads import Paused


def response(call, body):
    return frame(RESPONSE, call.call, body)


def ok(call):
    return b'{"jsonrpc":"2.0","id":' + call.id + b',"result":"ok"}'


BREAK = {       # what a worker sends on a call, none of it allowed; then it stays silent
    "garbage": lambda c: b"\xff" * 64,
    "text": lambda c: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "4-gib": lambda c: fakeworker.HEADER.pack(0xffffffff, RESPONSE, 0, 0, c.call, 0, 0, 0),
    "meta-over-length": lambda c: fakeworker.HEADER.pack(4, RESPONSE, 0, 0, c.call, 0, 5, 0) + b"abcd",
    "blob-over-length": lambda c: fakeworker.HEADER.pack(4, RESPONSE, 0, 0, c.call, 0, 0, 5) + b"abcd",
    "lengths-wrap": lambda c: fakeworker.HEADER.pack(
        4, RESPONSE, 0, 0, c.call, 0, 0xffffffff, 0xffffffff) + b"abcd",
    "unknown-type": lambda c: frame(99, c.call),
    "type-0": lambda c: frame(0, c.call),
}


def one_bad(site, handler, **keys):
    """A site with one worker that misbehaves on methods `bad.*`, and one for the others."""
    web = site(pools={"app": {"wait_for_worker": "30s"}}, **keys)
    bad = web.fake("app-bad", handler, hello={"methods": ["bad.*"]})
    bad.tolerant = True
    good = web.fake("app-good", hello={"methods": ["demo.*"]})
    web.start()
    return web, bad, good


def undisturbed(web, shard, client):
    for n in range(3):
        assert client.rpc("demo.echo", [n]).json()["result"] == [n]
    assert web.shard == shard, "the shard died"


@pytest.mark.parametrize("data", BREAK.values(), ids=BREAK.keys())
def test_a_worker_that_breaks_the_protocol(site, data):
    web, bad, good = one_bad(site, lambda call: call.channel.send(data(call)))
    shard = web.shard
    with web.client() as client, web.client() as other:
        other.send(rpc_request("bad.held", id="h"))
        client.send(rpc_request("bad.call", id="b"))
        for one, id in ((client, "b"), (other, "h")):
            r = one.read_response()
            assert r.status == 502 and r.json()["error"]["code"] == -32002
            assert r.json()["id"] == id
        undisturbed(web, shard, client)
        # The worker may come back, on a new channel.
        bad.handler = lambda call: call.reply("well")
        client.sock.settimeout(30)
        assert client.rpc("bad.call").json()["result"] == "well"
        assert len(good.channels) == 1


@pytest.mark.parametrize("part", [1, 31, 32, 40])
def test_half_a_frame_then_the_end(site, part):
    def half(call):
        call.channel.send(response(call, ok(call))[:part])
        call.channel.close()

    web, bad, _ = one_bad(site, half)
    shard = web.shard
    with web.client() as client:
        r = client.rpc("bad.call")
        assert r.status == 502 and r.json()["error"]["code"] == -32002
        undisturbed(web, shard, client)


def test_a_frame_byte_by_byte(site):
    def dribble(call):
        for byte in response(call, ok(call)):
            call.channel.send(bytes([byte]))

    web, _, _ = one_bad(site, dribble)
    assert web.rpc("bad.call").json()["result"] == "ok"


def test_unknown_extensions_are_skipped(site):
    web, bad, _ = one_bad(site, lambda call: call.channel.send(
        frame(200, 77, b"what") + frame(128) + frame(255, blob=b"x" * 100000)
        + fakeworker.HEADER.pack(len(ok(call)), RESPONSE, 0xf0, 0xffff, call.call, 9, 0, 0) + ok(call)))
    with web.client() as client:
        for _ in range(3):
            assert client.rpc("bad.call").json()["result"] == "ok"
    assert len(bad.channels) == 1


@pytest.mark.parametrize("extra", ["again", "unknown", "zero"])
def test_answers_nobody_waits_for(site, extra):
    """The first answer counts; another one, or one to no call, never reaches a client."""
    def answer(call):
        number = {"again": call.call, "unknown": call.call + 1000, "zero": 0}[extra]
        call.channel.send(response(call, ok(call)) + frame(RESPONSE, number, b'{"jsonrpc":"2.0","id":'
                          + call.id + b',"result":"stray"}'))

    web, bad, _ = one_bad(site, answer)
    shard = web.shard
    with web.client(timeout=30) as client:
        for n in range(3):
            assert client.rpc("bad.call", id=n).json() == {"jsonrpc": "2.0", "id": n, "result": "ok"}
        undisturbed(web, shard, client)
    assert len(bad.channels) == 1


@pytest.mark.parametrize("body", [
    b"", b"x", b"[]", b"1", b"null", b'{"jsonrpc":"2.0","id":1}', b'{"jsonrpc":"2.0","id":1,"result":1',
    b'{"jsonrpc":"2.0","id":1,"result":1}}', b'{"jsonrpc":"1.0","id":1,"result":1}', b'{"id":1,"result":1}',
    b'{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"m"}}',
    b'{"jsonrpc":"2.0","id":1,"error":1}', b'{"jsonrpc":"2.0","id":1,"result":NaN}',
    b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', b'[{"jsonrpc":"2.0","id":1,"result":1}]',
    b'{"jsonrpc":"2.0","result":1}', b'{"jsonrpc":"2.0","id":1,"result":1}\0',
    b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100000 + b"]" * 100000 + b"}",
    b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}',
], ids=range(19))
def test_a_response_that_is_none(site, body):
    """-32007 for this call, and the shard and the worker's other calls go on."""
    web, _, _ = one_bad(site, lambda call: call.send(body))
    shard = web.shard
    with web.client() as client:
        r = client.rpc("bad.call", id=1)
        assert r.status == 502 and r.json()["error"]["code"] == -32007 and r.json()["id"] == 1
        batch = b"[%s,%s]" % (b'{"jsonrpc":"2.0","id":1,"method":"bad.x"}',
                              b'{"jsonrpc":"2.0","id":2,"method":"demo.echo","params":[2]}')
        r = client.post(batch)
        assert r.status == 200
        by_id = {a["id"]: a for a in r.json()}
        assert by_id[1]["error"]["code"] == -32007 and by_id[2]["result"] == [2]
        undisturbed(web, shard, client)


def test_a_response_with_spaces_is_relayed_as_it_is(site):
    body = b' {"result" : [ 1.0 ] ,"extra":0, "id":1 , "jsonrpc":"2.0"}'
    web, _, _ = one_bad(site, lambda call: call.send(body))
    assert web.rpc("bad.call", id=1).body.strip() == body.strip()


def test_a_worker_that_never_answers(site):
    web, bad, _ = one_bad(site, hold, routes=[rpc_route(), rpc_route("/short", timeout="300ms")])
    shard = web.shard
    with web.client() as client:
        for _ in range(3):
            r = client.rpc("bad.call", path="/short")
            assert r.status == 504 and r.json()["error"]["code"] == -32003
        undisturbed(web, shard, client)
    bad.wait(lambda: all(c.cancelled for c in bad.calls), "CANCEL")


def test_a_worker_that_stops_reading(site):
    """What waits for it is bounded; its calls end at their deadlines; the other worker serves."""
    web, bad, _ = one_bad(site, hold, routes=[rpc_route(), rpc_route("/short", timeout="1s")])
    shard = web.shard
    bad.channels[0].paused.set()
    memory = int(open("/proc/%d/statm" % shard).read().split()[1]) * 4096
    body = ["x" * 500000]
    clients = [web.client(timeout=20) for _ in range(80)]
    try:
        for n, client in enumerate(clients):
            client.send(rpc_request("bad.call", body, id=n, path="/short"))
        with web.client() as healthy:
            undisturbed(web, shard, healthy)
        for client in clients:
            r = client.read_response()
            assert (r.status, r.json()["error"]["code"]) in [(504, -32003), (503, -32001), (502, -32002)]
        grown = int(open("/proc/%d/statm" % shard).read().split()[1]) * 4096 - memory
        assert grown < 400 << 20
        with web.client() as healthy:
            undisturbed(web, shard, healthy)
    finally:
        for client in clients:
            client.close()
    bad.channels[0].paused.clear()


def test_stopped_worker(site):
    """SIGSTOP: its calls get 504 at their deadlines, the others are served, and it comes back."""
    web = site(routes=[rpc_route(), rpc_route("/short", timeout="500ms")])
    stopped = web.workerd("app-1", 2)
    other = web.fake("app-2", concurrency=2)
    web.start()
    with web.client() as client:
        wait_for(lambda: client.rpc("demo.echo", [1]).status == 200, "a worker")
        with Paused(stopped.pid):
            other.forget()
            statuses = [client.rpc("demo.echo", [n], path="/short").status for n in range(20)]
        assert set(statuses) <= {200, 504}
        late = {n for n in range(20) if statuses[n] == 504}
        theirs = {call.params[0] for call in other.calls}   # where this process slept
        assert len(late - theirs) <= 2, "more calls than the stopped worker's concurrency"
        for n in range(20):
            assert client.rpc("demo.echo", [n]).status == 200


def test_killed_worker_under_load(site):
    """SIGKILL one workerd of two: its calls get -32002, nothing hangs, all others are answered."""
    web = site(shards=2)
    killed = web.workerd("app-1", 4)
    web.workerd("app-2", 4)
    web.start()
    load = Load(web, 12, "demo.sleep", {"ms": 5})
    load.wait(100)
    killed.kill()
    load.wait(300)
    results = load.stop()
    assert set(results) <= {200, 502}, set(results)
    # The kernel closes its channels one after the other: slots that the loss of the first gave back may
    # be taken again on the second.
    assert results.count(502) <= 2 * 4, "more calls were lost than the worker had"
    web.workerd("app-1", 4)
    for _ in range(20):
        assert web.rpc("demo.echo", [1]).status == 200


def test_killed_worker_gives_its_calls_one_defined_error(site):
    web = site()
    killed = web.workerd("app-1", 4)
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo", [0], id=0) + rpc_request("demo.sleep", {"ms": 30000}, id=1))
        assert client.read_response().status == 200
        time.sleep(0.1)         # let the second call reach the worker; either way it ends in an error
        killed.kill()
        r = client.read_response()
        assert (r.status, r.json()["error"]["code"]) in [(502, -32002), (503, -32004)]


def test_killed_shard_under_load(site):
    """SIGKILL one shard of two: the other's clients notice nothing, connects are never refused."""
    web = site(shards=2)
    worker = web.fake(concurrency=4, handler=echo)
    web.start()
    clients = [web.client(timeout=20) for _ in range(16)]
    refused = []
    closing = threading.Event()

    def connects():
        while not closing.is_set():
            try:
                with Client(web.address, timeout=20) as client:
                    client.rpc("demo.echo", [1])
            except ConnectionRefusedError as e:
                refused.append(e)
            except (OSError, Closed, BadResponse):
                pass                # it was on the shard that died

    try:
        for client in clients:
            assert client.rpc("demo.echo", [1]).status == 200
        homes = [web.shard_of(client) for client in clients]
        victim, survivor = web.shards()
        assert {victim, survivor} >= set(homes)
        thread = threading.Thread(target=connects, daemon=True)
        thread.start()
        os.kill(victim, signal.SIGKILL)
        for n in range(50):
            for client, home in zip(clients, homes):
                if home == survivor:
                    assert client.rpc("demo.echo", [n]).json()["result"] == [n]
        wait_for(lambda: len(web.shards()) == 2 and victim not in web.shards(), "the new shard")
        assert survivor in web.shards()
        for client, home in zip(clients, homes):
            assert home != victim or client.at_end()
        fresh = wait_for(lambda: [p for p in web.shards() if p != survivor], "the new shard")[0]
        wait_for(lambda: served_by(web, fresh), "a connection on the new shard", interval=0)
        closing.set()
        thread.join(20)
        assert not refused
    finally:
        closing.set()
        for client in clients:
            client.close()
    assert worker.max_busy <= 4 + 4     # calls of the dead shard may still be running in the worker


def served_by(web, pid):
    with web.client() as client:
        return client.rpc("demo.echo", [1]).status == 200 and web.shard_of(client) == pid


def test_no_slot_is_lost_with_a_shard(site):
    """Calls in progress on a killed shard give their slots back."""
    web = site(shards=2)
    worker = web.fake(handler=hold, concurrency=2)
    web.start()
    clients = [web.client() for _ in range(2)]
    for n, client in enumerate(clients):
        client.send(rpc_request("demo.echo", [n], id=n))
    worker.wait_calls(2)
    killed, channels = web.shards(), list(worker.channels)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(stat(pid) and stat(pid)[0] not in "ZX" for pid in killed), "their end")
    wait_for(lambda: len(web.shards()) == 2, "new shards")
    for client in clients:
        assert client.at_end()
        client.close()
    worker.wait(lambda: sum(c.ready for c in worker.live() if c not in channels) == 2, "new channels")
    clients = [web.client() for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(rpc_request("demo.echo", [n], id=n))
    worker.wait_calls(4)
    for call in worker.calls[2:4]:
        call.reply("r")
    worker.wait_calls(5).reply("r")
    assert [c.read_response().status for c in clients] == [200] * 3
    for client in clients:
        client.close()


def test_no_slot_is_lost_with_clients(site):
    """Clients that reset in mid-call, over and over, leave the worker's slots as they were."""
    def soon(call):
        if call.params != ["held"]:
            threading.Timer(0.01, call.reply, ["r"]).start()

    web = site(shards=2)
    worker = web.fake(handler=soon, concurrency=2)
    web.start()
    for n in range(100):
        client = web.client()
        client.send(rpc_request("demo.echo", [n]))
        if n % 3 == 0:
            worker.wait(lambda: len(worker.calls) > n / 4, "calls")
        client.reset()
    clients = [web.client() for _ in range(2)]
    for client in clients:
        client.send(rpc_request("demo.echo", ["held"]))

    def held():     # those that nobody waits for may still come before and among them
        return [call for call in worker.calls if call.params == ["held"]]

    worker.wait(lambda: len(held()) == 2, "both slots")
    for call in held():
        call.reply("r")
    assert [c.read_response().status for c in clients] == [200, 200]
    assert worker.max_busy <= 2
    for client in clients:
        client.close()


def test_a_shard_that_keeps_dying_comes_back(site):
    web = site()
    web.fake()
    web.start()
    for _ in range(3):
        pid = web.shard
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: web.shards() not in ([], [pid]), "the new shard")
        with web.client(timeout=20) as client:
            assert client.rpc("demo.echo", [1]).status == 200


def test_resets_everywhere(site):
    """Clients that reset at every point of a request, with a healthy one in between."""
    web = site(routes=[rpc_route(), http_route()])
    web.fake()
    web.start()
    shard = web.shard
    data = rpc_request("demo.echo", ["x" * 50]) + rpc_request("demo.echo", ["y"])
    with web.client() as healthy:
        for n in range(1, len(data), 3):
            client = web.client()
            client.send(data[:n])
            client.reset()
            if n % 30 == 1:
                assert healthy.rpc("demo.echo", [n]).json()["result"] == [n]
        undisturbed(web, shard, healthy)
    wait_for(lambda: web.connections() == 0, "the end of all connections")


def test_descriptor_limit(site):
    """More clients than descriptors: those in are served, the rest wait, and nothing spins."""
    web = site(nofile=100)
    web.fake()
    web.start()
    shard = web.shard
    clients = []
    try:
        for n in range(110):
            clients.append(web.client())
            clients[-1].send(rpc_request("demo.echo", [n]))
        said = re.compile(r"accepting pauses: the descriptor limit .*; (\d+) connections are open")
        most = int(wait_for(lambda: said.findall(web.front.text()), "the limit")[0])
        assert 30 <= most < 110

        def answered():
            return [c for c in clients if c.readable()]

        wait_for(lambda: len(answered()) == most, "answers to those that were accepted")
        before = stat(shard)[3]
        time.sleep(1.0)
        assert stat(shard)[3] - before < 0.3, "the shard spins"
        accepted = answered()
        assert len(accepted) == most
        for client in accepted:
            assert client.read_response().status == 200
        assert accepted[0].rpc("demo.echo", ["again"]).status == 200
        for client in accepted:
            client.close()
        for client in clients:
            assert client in accepted or client.read_response().status == 200
        assert web.shard == shard
    finally:
        for client in clients:
            client.close()


def test_connections_limit(site):
    """`connections`: beyond it accepting pauses, and goes on when one has left."""
    web = site(limits={"connections": 5})
    web.fake()
    web.start()
    wait_for(lambda: web.connections() == 0, "the end of the first connection")
    clients = [web.client() for _ in range(8)]
    try:
        for client in clients:
            client.send(rpc_request("demo.echo", [1]))
        wait_for(lambda: sum(c.readable() for c in clients) == 5, "five answers")
        time.sleep(0.2)
        served = [c for c in clients if c.readable()]
        assert len(served) == 5
        for client in served:
            assert client.read_response().status == 200
            client.close()
            clients.remove(client)
        for client in clients:
            assert client.read_response().status == 200
    finally:
        for client in clients:
            client.close()


def test_connections_per_peer(site):
    web = site(limits={"connections_per_peer": 3})
    web.fake()
    web.start()

    def admitted():
        client = web.client()
        try:
            if client.rpc("demo.echo", [1]).status == 200:
                return client
        except (Closed, OSError, BadResponse):
            pass
        client.close()
        return None

    # A connection that has ended counts until the shard has seen its end.
    clients = [wait_for(admitted, "room for one more") for _ in range(3)]
    with web.client() as more:
        more.try_send(rpc_request("demo.echo", [1]))
        try:
            assert more.read_response().status in (429, 503)
        except Closed:
            pass
    for client in clients:
        assert client.rpc("demo.echo", [1]).status == 200
    clients.pop().close()
    clients.append(wait_for(admitted, "room for one more"))
    for client in clients:
        client.close()
