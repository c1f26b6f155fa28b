"""allow and deny: clients by their addresses, at a listener and at a route, behind proxies, over reloads."""
import contextlib
import json

import pytest

from h2client import H2Client
from harness import free_port, http_route, rpc_route, ws_route
from httpclient import Client, Closed, rpc_body
from reloads import HUP, USR2
from test_connections_per_peer import from_address
from wsclient import upgrade


@pytest.fixture
def web(front):
    """127.0.0.2 may not connect, but for 127.0.0.66; /ws is for 127.0.0.3 alone, /x for all but that."""
    site = front(shards=2, routes=[rpc_route(), {**ws_route(), "allow": ["127.0.0.3", "::1"]},
                                   {**http_route(), "deny": ["127.0.0.3"]}])
    site.config["listeners"][0].update(deny=["127.0.0.2", "127.0.0.64/26"], allow=["127.0.0.66", "127.0.0.0/24"])
    site.fake()
    return site.start()


def status(web, address, path="/x", **keys):
    client = from_address(web, address)
    assert client is not None, address
    with client:
        return client.request("GET", path, **keys).status


def test_who_is_let_in(web):
    for address in ("127.0.0.2", "127.0.0.65", "127.0.0.127"):
        assert from_address(web, address) is None, address
    for address, at_x, at_ws in (("127.0.0.1", 200, 403), ("127.0.0.3", 403, 101), ("127.0.0.66", 200, 403)):
        assert status(web, address) == at_x, address
        with from_address(web, address) as client:
            client.send(upgrade())
            assert b" %d " % at_ws in client._line(), address
    web.wait_log("the listener is not for its address (allow, deny)")
    web.wait_log("its origin, its address or a worker says no (403, -32009)")


FORBIDDEN = {"jsonrpc": "2.0", "id": None, "error": {"code": -32009, "message": "forbidden"}}


def test_json_rpc(site):
    """A client of JSON-RPC is told by an error, over either HTTP; another route of the same listener says it in a text."""
    web = site(routes=[{**rpc_route(), "deny": ["127.0.0.1"]}, {**ws_route(), "deny": ["127.0.0.1"]},
                       {**http_route(), "deny": ["127.0.0.1"]}])
    web.config["listeners"][0]["h2c"] = True
    worker = web.fake()
    web.start()
    with web.client() as client:
        for _ in range(2):
            answer = client.rpc("demo.echo", [1])
            assert (answer.status, answer.header("Content-Type"), answer.json()) == (403, "application/json", FORBIDDEN)
        assert client.request("GET", "/x").body == b"403 Forbidden\n"
        client.send(upgrade())
        assert client.read_response().body == b"403 Forbidden\n"
    with H2Client(web.address) as client:
        number = client.open("POST", "/rpc", body=rpc_body("demo.echo", [1]))
        client.until(lambda: client.streams[number].ended)
        stream = client.streams[number]
        assert (int(stream.status), json.loads(stream.body)) == (403, FORBIDDEN)
    assert not worker.calls
    assert from_address(web, "127.0.0.2").rpc("demo.echo", [1]).status == 200


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_a_reload_holds_each_request_to_it(web, number):
    """Also on connections that are there."""
    client = from_address(web, "127.0.0.9")
    with client:
        web.config["listeners"][0]["deny"] = ["127.0.0.9"]
        web.reload(number)
        assert client.rpc("demo.echo", [1]).status == 403
        assert from_address(web, "127.0.0.9") is None
        web.config["listeners"][0]["deny"] = []
        web.reload(number)
        assert client.rpc("demo.echo", [1]).status == 200


def test_behind_proxies(site):
    """The client counts, and a proxy is let in by itself."""
    web = site(routes=[rpc_route(), {**http_route(), "deny": ["203.0.113.7"]}])
    web.config["listeners"][0].update(forwarded="x-forwarded-for", trusted_proxies=["127.0.0.1"],
                                      allow=["203.0.113.0/24"])
    header = {**web.config["listeners"][0], "name": "header", "proxy_protocol": True}
    del header["forwarded"]
    web.ports["header"] = free_port()
    web.config["listeners"].append({**header, "address": "127.0.0.1:%d" % web.ports["header"]})
    web.fake()
    web.start()
    with Client(("127.0.0.1", web.port)) as client:
        assert client.request("GET", "/x").status == 200, "a proxy's own check"
        for told, at_x in (("203.0.113.1", 200), ("203.0.113.7", 403), ("198.51.100.1", 403)):
            assert client.request("GET", "/x", headers=[("X-Forwarded-For", told)]).status == at_x, told
    assert from_address(web, "127.0.0.5") is None
    for told, at_x in (("203.0.113.1", 200), ("203.0.113.7", 403), ("198.51.100.1", None)):
        with Client(("127.0.0.1", web.ports["header"])) as client:
            client.send(b"PROXY TCP4 %s 127.0.0.1 1 2\r\n" % told.encode())
            found = None
            with contextlib.suppress(OSError, Closed):
                found = client.request("GET", "/x").status
            assert found == at_x, told
