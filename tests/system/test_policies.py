"""What a route says of methods: who is denied, how often, how many at once, for how long."""
import json
import time

import pytest

from harness import Site, http_route, rpc_route, wait_for, ws_route
from h2client import H2Client
from httpclient import rpc_request
from reloads import HUP

RATE = [{"rate": "6/m", "burst": 3}]


def code(answer):
    return answer.json().get("error", {}).get("code")


def ask(web, method, n=1):
    """Each on a connection of its own: the kernel spreads them over the shards."""
    return [web.rpc(method) for _ in range(n)]


def told(client, method):
    """The code of the error to a call on a connection that stays; None: there is none."""
    client.send_json({"jsonrpc": "2.0", "id": 1, "method": method})
    return client.read_json().get("error", {}).get("code")


def test_lists(site):
    web = site(routes=[{**rpc_route(), "allow_methods": ["demo.*"], "deny_methods": ["demo.secret"]},
                       {**http_route(), "deny_methods": ["DELETE"]}], streams={"line": {"deny_methods": ["demo.secret"]}})
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert code(client.rpc("demo.echo")) is None
        for method in ("demo.secret", "other"):
            answer = client.rpc(method)
            assert answer.status == 404 and code(answer) == -32601
        client.send(b"POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n"
                    + b'{"jsonrpc":"2.0","id":1,"method":"demo.s\\u0065cret"}'.ljust(60))
        assert code(client.read_response()) == -32601        # however it is spelled
        assert client.request("DELETE", "/x").status == 403 and client.request("GET", "/x").status == 200
    with web.stays("line") as client:
        assert [told(client, method) for method in ("demo.secret", "demo.echo")] == [-32601, None]
    assert "demo.secret" not in [call.method for call in worker.calls]


def test_timeout_and_idempotent(site):
    web = site(routes=[{**rpc_route(), "timeout": "20s", "methods": [
        {"match": "slow.*", "timeout": "200ms"}, {"match": "again", "idempotent": True}]}])
    seen = []

    def answer(call):
        seen.append(call.method)
        if call.method == "again" and seen.count("again") == 1:
            call.channel.sock.shutdown(2)
        elif call.method == "again":
            call.reply(1)
    web.fake(handler=answer)
    web.start()
    assert code(ask(web, "slow.one")[0]) == -32003
    assert ask(web, "again")[0].json()["result"] == 1 and seen.count("again") == 2


@pytest.mark.parametrize("shards", [1, 2])
def test_calls_at_once(site, shards):
    """Over all shards; what is at its limit does not hold up others."""
    web = site(shards=shards, routes=[{**rpc_route(), "methods": [{"match": "held", "calls": 3}]}])
    held = []
    web.fake(handler=lambda call: held.append(call) if call.method == "held" else call.reply(1), concurrency=0)
    web.start()
    clients = [web.client() for _ in range(12)]
    for client in clients[:3]:
        client.send(rpc_request("held"))
        wait_for(lambda: len(held) == clients.index(client) + 1, "the call")
    for client in clients[3:]:
        answer = client.rpc("held")
        assert answer.status == 503 and code(answer) == -32001 and answer.header("retry-after")
        assert code(client.rpc("other")) is None
    held[0].reply(2)
    assert clients[0].read_response().json()["result"] == 2
    clients[1].close()                              # its call is in progress until its worker has answered
    time.sleep(0.1)
    assert sum(code(c.rpc("other")) is None for c in clients[3:]) == 9
    held[1].reply(2)
    assert held[1].channel.sync()
    clients[4].send(rpc_request("held"))
    wait_for(lambda: len(held) == 4, "a place in the limit")
    for client in clients:
        client.close()


def check_refused(answer):
    assert answer.status == 429 and code(answer) == -32006
    assert 1 <= int(answer.header("retry-after")) <= 10


@pytest.mark.parametrize("shards", [1, 2])
def test_rate(site, shards):
    """Of a peer, over all shards, and over a reload."""
    web = site(shards=shards, routes=[{**rpc_route(), "methods": [{"match": "demo.echo", "rate": RATE}]}])
    web.fake()
    web.start()
    answers = ask(web, "demo.echo", 8)
    assert [code(a) for a in answers] == [None] * 3 + [-32006] * 5
    check_refused(answers[-1])
    assert [code(a) for a in ask(web, "demo.other", 5)] == [None] * 5
    if shards == 1:
        web.front.signal(HUP)
        wait_for(lambda: "generation 2 serves" in web.front.text(), "the reload")
        assert code(ask(web, "demo.echo")[0]) == -32006


def test_rate_in_every_protocol(site):
    web = site(routes=[{**rpc_route(), "rate": [{"per": "connection", "rate": "1/h", "burst": 2}]},
                       {**ws_route(), "rate": [{"per": "connection", "rate": "1/h", "burst": 2}]},
                       {**http_route(), "rate": [{"per": "header:x-key", "rate": "1/h", "burst": 2}]}],
               streams={"line": {"rate": [{"per": "connection", "rate": "1/h", "burst": 2}]},
                        "frame": {"rate": [{"per": "connection", "rate": "1/h", "burst": 2}]}})
    web.config["listeners"][0]["h2c"] = True
    web.fake()
    web.start()
    for kind in ("ws", "line", "frame"):
        with web.stays(kind) as client:
            assert [told(client, "demo.echo") for _ in range(3)] == [None, None, -32006]
    with web.client() as client:
        body = json.dumps([{"jsonrpc": "2.0", "id": i, "method": "demo.echo"} for i in range(4)]).encode()
        client.send(b"POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        answers = {a["id"]: a.get("error", {}).get("code") for a in client.read_response().json()}
        assert sorted(answers.values(), key=str) == [-32006, -32006, None, None]
        for key, statuses in (("a", [200, 200, 429]), ("b", [200, 200, 429]), (None, [200, 200, 429])):
            headers = [] if key is None else [("x-key", key)]
            assert [client.request("GET", "/x", headers=headers).status for _ in range(3)] == statuses
    with H2Client(web.address) as client:
        answers = [client.wait(client.rpc("demo.echo")) for _ in range(3)]
        assert [a.status for a in answers] == [200, 200, 429] and "retry-after" in answers[2].headers


def test_a_burst_is_saved_again(site):
    web = site(routes=[{**rpc_route(), "rate": [{"rate": "20/s", "burst": 2}]}])
    web.fake()
    web.start()
    with web.client() as client:
        while code(client.rpc("demo.echo")) is None:
            pass
        wait_for(lambda: code(client.rpc("demo.echo")) is None, "the next one")
