"""The opening handshake of WebSocket: RFC 6455 section 4.2, and what the route adds to it."""
import base64
import os

import pytest

from harness import Site, http_route, rpc_route, ws_route
from httpclient import Client, request, rpc_request
from wsclient import KEY, TEXT, WsClient, accept_of, upgrade, ws_frame


ROUTES = [
    ws_route(),
    ws_route("/strict", origins=["https://good.test", "http://also.test:8080"]),
    ws_route("/any", origins=["*"]),
    ws_route("/named", protocols=["chat.v2", "chat.v1"]),
    ws_route("/raw", messages="raw"),
    rpc_route(),
    http_route("/web"),
]


@pytest.fixture(scope="module")
def web():
    with Site(routes=ROUTES) as site:
        site.fake()
        yield site.start()


def answer(web, data):
    """The answer to these bytes; a 101 is followed by a call that works."""
    with WsClient(web.address, None) as client:
        client.send(data)
        r = client.read_response()
        if r.status == 101:
            assert client.call("demo.echo", [1]) == [1]
            client.finish()
        return r


def test_the_example_of_the_rfc(web):
    assert accept_of(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    with web.ws() as client:
        r = client.response
        assert r.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert r.header("sec-websocket-protocol") is None
        assert r.header("content-length") is None and r.header("transfer-encoding") is None
        assert client.call("demo.echo", {"a": 1}) == {"a": 1}


def test_keys(web):
    for _ in range(20):
        key = base64.b64encode(os.urandom(16)).decode()
        with web.ws(key=key) as client:
            client.finish()


@pytest.mark.parametrize("replace", [
    {"Connection": "keep-alive, Upgrade"},
    {"Connection": "upgrade"},
    {"Connection": "UPGRADE,keep-alive"},
    {"Connection": "close, Upgrade"},           # the HTTP ends, and the WebSocket begins
    {"Upgrade": "WebSocket"},
    {"Upgrade": "WEBSOCKET"},
    {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
    {"Sec-WebSocket-Extensions": "x-unknown, permessage-deflate"},
    {"Sec-WebSocket-Protocol": "chat.v1"},
    {"Origin": "https://somewhere.test"},
], ids=str)
def test_accepted(web, replace):
    r = answer(web, upgrade(replace=replace))
    assert r.status == 101
    assert r.header("sec-websocket-extensions") is None     # declined
    assert r.header("sec-websocket-protocol") is None       # none is configured


def test_names_of_fields_in_any_case(web):
    head = upgrade().decode()
    line, rest = head.split("\r\n", 1)
    for change in (str.lower, str.upper):
        fields = [change(f.partition(":")[0]) + ":" + f.partition(":")[2] if f else ""
                  for f in rest.split("\r\n")]
        assert answer(web, "\r\n".join([line] + fields).encode()).status == 101


@pytest.mark.parametrize("replace", [
    {"Sec-WebSocket-Key": None},
    {"Sec-WebSocket-Key": ""},
    {"Sec-WebSocket-Key": "short"},
    {"Sec-WebSocket-Key": base64.b64encode(b"x" * 15).decode()},
    {"Sec-WebSocket-Key": base64.b64encode(b"x" * 17).decode()},
    {"Sec-WebSocket-Key": base64.b64encode(b"x" * 18).decode()},
    {"Sec-WebSocket-Key": KEY[:-2]},
    {"Sec-WebSocket-Key": KEY + "="},
    {"Sec-WebSocket-Key": "!" + KEY[1:]},
    {"Sec-WebSocket-Key": KEY[:-3] + "==="},
    {"Sec-WebSocket-Key": KEY + ", " + KEY},
], ids=str)
def test_bad_keys(web, replace):
    assert answer(web, upgrade(replace=replace)).status == 400


def test_a_key_that_is_repeated(web):
    assert answer(web, upgrade(headers=[("Sec-WebSocket-Key", KEY)])).status == 400


@pytest.mark.parametrize("version", [None, "", "8", "12", "14", "013", "13.0", "x", "13, 13"])
def test_other_versions(web, version):
    r = answer(web, upgrade(version=version))
    assert r.status == 426
    assert r.header("sec-websocket-version") == "13"


@pytest.mark.parametrize("replace", [
    {"Upgrade": None},
    {"Connection": None},
    {"Connection": "keep-alive"},
    {"Connection": "upgraded"},
    {"Upgrade": "websocket2"},
    {"Upgrade": "h2c"},
], ids=str)
def test_what_asks_for_no_upgrade(web, replace):
    r = answer(web, upgrade(replace=replace))
    assert r.status == 426
    assert r.header("upgrade").lower() == "websocket"
    assert "upgrade" in r.header("connection").lower()


def test_plain_requests(web):
    r = answer(web, request("GET", "/ws"))
    assert r.status == 426 and r.header("upgrade").lower() == "websocket"
    assert answer(web, request("POST", "/ws", b"{}")).status in (405, 426)
    old = upgrade().replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert answer(web, old).status in (400, 426)


def test_only_where_the_route_is(web):
    assert answer(web, upgrade("/nowhere")).status == 404
    assert answer(web, upgrade("/ws/below?x=1")).status == 101      # prefixes of whole segments
    assert answer(web, upgrade("/wsx")).status == 404
    assert answer(web, upgrade("/web")).status == 200
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1],
                                headers=[("Upgrade", "websocket"), ("Connection", "Upgrade")]))
        assert client.read_response().status == 200


@pytest.mark.parametrize("path,origin,status", [
    ("/strict", "https://good.test", 101),
    ("/strict", "HTTPS://Good.Test", 101),
    ("/strict", "http://also.test:8080", 101),
    ("/strict", None, 101),                     # no browser
    ("/strict", "http://good.test", 403),
    ("/strict", "https://good.test.evil", 403),
    ("/strict", "https://good.tes", 403),
    ("/strict", "https://good.test:444", 403),
    ("/strict", "http://also.test", 403),
    ("/strict", "null", 403),
    ("/strict", "", 403),
    ("/any", "https://evil.test", 101),
    ("/ws", "https://evil.test", 101),
])
def test_origins(web, path, origin, status):
    assert answer(web, upgrade(path, origin=origin)).status == status


def test_one_of_two_origins_refused(web):
    data = upgrade("/strict", origin="https://good.test", headers=[("Origin", "https://evil.test")])
    assert answer(web, data).status in (400, 403)


@pytest.mark.parametrize("offered,chosen", [
    ("chat.v1", "chat.v1"),
    ("chat.v2", "chat.v2"),
    ("chat.v1, chat.v2", "chat.v2"),            # as the server likes it
    ("x, chat.v1 ,y", "chat.v1"),
    ("Chat.v1", None),
    ("chat", None),
    ("chat.v22", None),
    (None, None),
])
def test_protocols(web, offered, chosen):
    r = answer(web, upgrade("/named", protocols=offered))
    assert r.status == 101
    assert r.header("sec-websocket-protocol") == chosen


def test_protocols_on_two_lines(web):
    data = upgrade("/named", protocols="x, chat.v1", headers=[("Sec-WebSocket-Protocol", "chat.v2")])
    assert answer(web, data).header("sec-websocket-protocol") == "chat.v2"


def test_refused_protocols_that_are_none(web):
    assert answer(web, upgrade("/named", protocols="chat v1")).status == 400


def test_a_refusal_leaves_the_connection_or_ends_it(web):
    """A client that goes on after a refusal is served, or told before that it will not be."""
    for data in (request("GET", "/ws"), upgrade(version="8"), upgrade(key="x"),
                 upgrade("/strict", origin="http://evil.test")):
        with web.client() as client:
            client.send(data)
            r = client.read_response()
            assert r.status >= 400
            if "close" in (r.header("connection") or "").lower():
                assert client.at_end()
            else:
                assert client.rpc("demo.echo", [1]).status == 200


def test_frames_right_behind_the_upgrade(web):
    with WsClient(web.address, None) as client:
        client.send(upgrade("/raw") + b"".join(ws_frame(TEXT, b"%d" % n) for n in range(50)))
        client.upgraded()
        assert [client.read_text() for _ in range(50)] == [b"%d" % n for n in range(50)]


def test_an_upgrade_behind_other_requests(web):
    with WsClient(web.address, None) as client:
        assert client.rpc("demo.echo", [1]).status == 200
        client.send(rpc_request("demo.echo", [2]) + rpc_request("demo.echo", [3]) + upgrade("/raw")
                    + ws_frame(TEXT, b"x"))
        assert client.read_response().json()["result"] == [2]
        assert client.read_response().json()["result"] == [3]
        client.upgraded()       # in its turn; more in test_upgrades.py
        assert client.read_text() == b"x"


def test_requests_behind_an_upgrade_are_no_requests(web):
    with WsClient(web.address, None) as client:
        client.send(upgrade("/raw") + rpc_request("demo.echo", [2]))
        client.upgraded()
        client.expect_close(1002)


def test_an_upgrade_in_pieces(web):
    data = upgrade("/raw") + ws_frame(TEXT, b"x")
    with WsClient(web.address, None) as client:
        for n in range(len(data)):
            client.send(data[n:n + 1])
        client.upgraded()
        assert client.read_text() == b"x"


def test_a_body_is_never_taken_for_frames(web):
    """A request with a body has it as a body: refused, or skipped."""
    body = ws_frame(TEXT, b"smuggled")
    for fields, data in (({"Content-Length": str(len(body))}, body),
                         ({"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))):
        with WsClient(web.address, None) as client:
            client.send(upgrade("/raw", replace=fields) + data + ws_frame(TEXT, b"real"))
            r = client.read_response()
            if r.status == 101:
                assert client.read_text() == b"real"
            else:
                assert r.status >= 400


def test_heads_that_no_request_may_have(web):
    for data in (upgrade(host=None), upgrade() .replace(b"Host: front.test", b"Host : front.test"),
                 upgrade(headers=[("Bad Name", "x")])):
        assert answer(web, data).status == 400


def test_a_client_that_leaves_after_its_upgrade(web):
    """Nothing is left of connections that end right away, in any way."""
    for n in range(30):
        client = Client(web.address)
        client.send(upgrade("/raw") + (ws_frame(TEXT, b"x") if n & 1 else b""))
        if n & 2:
            client.reset()
        else:
            client.close()
    assert web.rpc("demo.echo", [1]).status == 200
