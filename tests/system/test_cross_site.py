"""Requests that a browser makes for pages of other sites: what is refused, who may read the answers."""
import json
import time

import pytest

import chromium
from fakeworker import echo, hold
from harness import Site, free_port, http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body, rpc_request
from reloads import HUP, USR2
from wsclient import WsClient, upgrade

GOOD, LOCAL, EVIL, OWN = "https://good.test", "http://localhost:3000", "https://evil.test", "https://front.test"
JSON, PLAIN = ("Content-Type", "application/json"), ("Content-Type", "text/plain;charset=UTF-8")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
CROSS, COOKIE = ("Sec-Fetch-Site", "cross-site"), ("Cookie", "session=1")
ASKS = ("Access-Control-Request-Method", "POST")
CORS = {"headers": ["X-Tag"], "credentials": True, "max_age": "1h"}
BODY = rpc_body("demo.echo", [1])
BATCH = b"[" + BODY + b"," + rpc_body("demo.echo", [2], 2) + b"]"

ROUTES = [
    rpc_route(),
    rpc_route("/listed", origins=[GOOD, LOCAL], cors=CORS),
    rpc_route("/late", origins=[GOOD], cors=CORS, timeout="1s"),
    rpc_route("/any", origins=["*"]),
    rpc_route("/open", cross_site="allow"),
    rpc_route("/lenient", origins=[GOOD], cross_site="allow"),
    rpc_route("/full", "full", origins=[GOOD]),
    rpc_route("/nobody", "nobody", origins=[GOOD]),
    http_route("/web"),
    ws_route(),
    ws_route("/ws-own", cross_site="refuse"),
]
LIMITS = {"body": 4096, "batch": 10, "body_timeout": "3s"}


def handler(call):
    if call.method in ("demo.echo", "http.request"):
        echo(call)
    elif call.method == "demo.error":
        call.error(5, "no")
    elif call.method == "demo.bad":
        call.send(b"{}")
    elif call.method == "demo.die":
        call.channel.close()


@pytest.fixture(scope="module")
def web():
    pools = {"app": {}, "full": {"queue": 0}, "nobody": {"wait_for_worker": "1ms"}}
    with Site(routes=ROUTES, pools=pools, limits=LIMITS, streams={"line": {}, "frame": {}}) as site:
        site.fake(handler=handler)
        site.fake("full-1", handler=hold, concurrency=1)
        yield site.start()


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def origin(text):
    return ("Origin", text)


def post(client, path, *headers, body=BODY):
    return client.request("POST", path, body, headers)


def readable(r, by=GOOD, credentials=True):
    """Whether a page of that origin may read this answer; None: nobody's may."""
    assert r.header("vary") == "Origin", r
    assert r.header("access-control-allow-origin") == by, r
    assert r.header("access-control-allow-credentials") == ("true" if by and credentials else None), r
    return r


def bare(r):
    """An answer that no page of another site may read."""
    assert not [name for name, _ in r.headers if name.startswith("access-control-")], r
    return r


# Without `origins`

@pytest.mark.parametrize("headers", [
    (origin(EVIL), PLAIN, COOKIE),
    (origin(EVIL), FORM),
    (origin(EVIL), ("Content-Type", "Multipart/Form-Data; boundary=x")),
    (origin(EVIL),),
    (origin(EVIL), ("Content-Type", "")),
    (origin(EVIL), ("Content-Type", "application/json, text/plain")),
    (origin(EVIL), JSON, PLAIN),
    (origin("null"), PLAIN),
    (origin("https://front.test:8443"), PLAIN),
    (origin("https://sub.front.test"), PLAIN),
    (origin(OWN), origin(EVIL), PLAIN),
    (CROSS, PLAIN),
    (CROSS,),
    (origin(OWN), ("Sec-Fetch-Site", "same-site"), PLAIN),
], ids=str)
def test_refused(web, client, headers):
    before = len(web.workers[0].calls)
    assert bare(post(client, "/rpc", *headers)).status == 403
    assert client.rpc("demo.echo", [7]).json()["result"] == [7]     # the connection goes on
    assert len(web.workers[0].calls) == before + 1                  # and this is all that was carried out


@pytest.mark.parametrize("headers", [
    (),                                             # no browser
    (PLAIN,), (FORM, COOKIE), (JSON,),
    (origin(OWN), PLAIN, COOKIE),                   # the server's own page
    (origin("http://front.test"),),
    (origin("HTTPS://FRONT.test:443"), FORM),
    (origin(OWN), ("Sec-Fetch-Site", "same-origin"), PLAIN),
    (origin("https://outside.test"), ("Sec-Fetch-Site", "same-origin"), PLAIN),     # a proxy changes Host
    (("Sec-Fetch-Site", "none"),),
    (origin(EVIL), JSON, COOKIE),                   # a preflight has guarded it
    (CROSS, ("Content-Type", "application/json-rpc")),
], ids=str)
def test_carried_out(client, headers):
    r = bare(post(client, "/rpc", *headers))
    assert r.status == 200 and r.json()["result"] == [1]
    assert r.header("vary") is None


def test_preflights_without_origins(client):
    assert bare(client.request("OPTIONS", "/rpc", headers=[origin(EVIL), ASKS])).status == 403
    r = bare(client.request("OPTIONS", "/rpc"))
    assert r.status == 204 and r.header("allow") == "POST, OPTIONS"


def test_a_key_turns_it_off(client):
    assert bare(post(client, "/open", origin(EVIL), PLAIN, COOKIE)).json()["result"] == [1]
    assert bare(client.request("OPTIONS", "/open", headers=[origin(EVIL), ASKS])).status == 204
    r = post(client, "/lenient", origin(EVIL), PLAIN)
    assert r.json()["result"] == [1] and r.header("access-control-allow-origin") is None
    readable(post(client, "/lenient", origin(GOOD), PLAIN), credentials=False)
    assert client.request("OPTIONS", "/lenient", headers=[origin(EVIL), ASKS]).status == 204


def test_the_hosts_final_dot(web):
    with web.client() as client:
        for host in ("front.test", "front.test."):
            r = client.request("POST", "/rpc", BODY, [origin(OWN), PLAIN], host)
            assert r.status == 200


def test_other_kinds_of_routes_are_left_to_workers(web, client):
    assert client.request("POST", "/web", b"x", [origin(EVIL), PLAIN, COOKIE]).status == 200
    before = len(web.workers[0].calls)
    client.request("OPTIONS", "/web", headers=[origin(EVIL), ASKS])
    assert [c.params["method"] for c in web.workers[0].calls[before:]] == ["OPTIONS"]


# With `origins`

@pytest.mark.parametrize("by", [GOOD, LOCAL])
def test_preflights(client, by):
    r = readable(client.request("OPTIONS", "/listed", headers=[
        origin(by), ASKS, ("Access-Control-Request-Headers", "content-type,x-tag")]), by)
    assert r.status == 204 and r.body == b""
    assert r.header("access-control-allow-methods") == "POST"
    assert r.header("access-control-allow-headers") == "content-type, X-Tag"
    assert r.header("access-control-max-age") == "3600"


@pytest.mark.parametrize("by", [EVIL, "null", "*", "", "http://good.test", "https://good.test:443", "https://good.test.",
                                "https://good.test.evil.test", "https://good.test, https://good.test", OWN])
def test_preflights_of_others(client, by):
    readable(client.request("OPTIONS", "/listed", headers=[origin(by), ASKS]), None)


def test_others_are_refused(web, client):
    for headers in ((origin(EVIL), JSON), (origin(EVIL), PLAIN), (CROSS, JSON), (origin("null"), JSON),
                    (origin(GOOD), origin(EVIL), JSON), (origin(EVIL), origin(GOOD), JSON)):
        before = len(web.workers[0].calls)
        assert readable(post(client, "/listed", *headers), None).status == 403
        assert len(web.workers[0].calls) == before


def test_its_own_pages_and_no_browsers(client):
    for headers in ((), (JSON,), (PLAIN, COOKIE), (origin(OWN), PLAIN), (("Sec-Fetch-Site", "same-origin"),)):
        assert readable(post(client, "/listed", *headers), None).json()["result"] == [1]


def test_any_origin(client):
    for by in (EVIL, "null"):
        r = readable(post(client, "/any", origin(by), PLAIN), "*", credentials=False)
        assert r.json()["result"] == [1]
        r = readable(client.request("OPTIONS", "/any", headers=[origin(by), ASKS]), "*", credentials=False)
        assert r.status == 204 and r.header("access-control-allow-headers") == "content-type"
        assert readable(post(client, "/any", origin(by), JSON, COOKIE), "*", credentials=False).status == 200
        # What no preflight has guarded does not get the user's cookies.
        assert readable(post(client, "/any", origin(by), PLAIN, COOKIE), None).status == 403
        assert readable(post(client, "/any", origin(by), ("Authorization", "Basic eDp5")), None).status == 403
    assert readable(post(client, "/any", origin(OWN), PLAIN, COOKIE), "*", credentials=False).status == 200


ANSWERS = {
    "result": (200, BODY),
    "plain": (200, BODY, PLAIN, COOKIE),
    "error": (200, rpc_body("demo.error")),
    "batch": (200, BATCH),
    "notification": (204, rpc_body("demo.echo", [1], None)),
    "batch of notifications": (204, b"[" + rpc_body("demo.echo", [1], None) + b"]"),
    "no JSON": (400, b"{"),
    "no request": (400, b"{}"),
    "empty": (400, b""),
    "no such method": (404, rpc_body("frontd.connect")),
    "too large": (413, b"x" * 4097),
    "too many": (413, b"[" + b",".join([BODY] * 11) + b"]"),
    "bad answer": (502, rpc_body("demo.bad")),
    "too late": (504, rpc_body("demo.never")),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_can_be_read(web, name):
    status, body, *headers = ANSWERS[name]
    with web.client() as client:
        path = "/late" if status == 504 else "/listed"
        r = readable(post(client, path, origin(GOOD), *(headers or [JSON]), body=body))
        assert r.status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "X-Y"])
def test_other_methods(client, method):
    r = readable(client.request(method, "/listed", headers=[origin(GOOD)]))
    assert r.status == 405 and r.header("allow") == "POST, OPTIONS"
    assert readable(client.request(method, "/listed", headers=[origin(EVIL)]), None).status == 405
    assert bare(client.request(method, "/rpc", headers=[origin(EVIL)])).status == 405


def test_plain_options(client):
    r = readable(client.request("OPTIONS", "/listed", headers=[origin(GOOD)]))
    assert r.status == 204 and r.header("allow") == "POST, OPTIONS"
    assert readable(client.request("OPTIONS", "/listed"), None).status == 204
    assert readable(client.request("OPTIONS", "/listed", headers=[origin(EVIL)]), None).status == 403
    assert bare(client.request("OPTIONS", "*", headers=[origin(EVIL), ASKS])).status == 204


def test_when_to_come_again_can_be_read(web):
    with web.client() as first, web.client() as client:
        first.send(rpc_request("demo.hold", path="/full"))
        web.workers[1].wait_calls(1)
        r = readable(post(client, "/full", origin(GOOD), JSON), credentials=False)
        assert (r.status, r.header("retry-after")) == (503, "1")
        assert r.header("access-control-expose-headers") == "Retry-After"
        r = post(client, "/full", JSON)
        assert (r.status, r.header("retry-after")) == (503, "1")
        web.workers[1].calls[0].reply()
        assert first.read_response().status == 200


def test_no_worker(client):
    r = readable(post(client, "/nobody", origin(GOOD), JSON), credentials=False)
    assert r.status == 503 and r.json()["error"]["code"] == -32004


def test_a_worker_that_dies(site):
    web = site(routes=[rpc_route(origins=[GOOD])])
    web.fake(handler=handler)
    web.start()
    with web.client() as client:
        r = readable(client.rpc("demo.die", headers=[origin(GOOD)]), credentials=False)
        assert r.status == 502


def test_pipelined(web):
    """Each answer has what its own request is to have, in order, though a later one is ready first."""
    with web.client() as client:
        client.send(request("POST", "/full", rpc_body("demo.hold"), [origin(GOOD), JSON]) +
                    request("POST", "/listed", BODY, [origin(LOCAL), JSON]) +
                    request("POST", "/listed", BODY, [origin(EVIL), JSON]) +
                    request("OPTIONS", "/listed", None, [origin(GOOD), ASKS]) +
                    request("POST", "/rpc", BODY, [origin(EVIL), PLAIN]) +
                    request("HEAD", "/listed", None, [origin(GOOD)]) +
                    request("POST", "/rpc", BODY, [JSON]) +
                    request("POST", "/any", BODY, [origin(EVIL), JSON]))
        worker = web.workers[1]
        worker.wait(lambda: any(not c.done for c in worker.calls), "the call that is held")
        next(c for c in worker.calls if not c.done).reply()
        assert readable(client.read_response(), credentials=False).status == 200
        assert readable(client.read_response(), LOCAL).status == 200
        assert readable(client.read_response(), None).status == 403
        assert readable(client.read_response()).status == 204
        assert bare(client.read_response()).status == 403
        assert readable(client.read_response(head=True)).status == 405
        assert bare(client.read_response()).status == 200
        assert readable(client.read_response(), "*", credentials=False).status == 200


def test_who_waits_for_100_is_refused_at_once(client):
    client.send(request("POST", "/rpc", None, [
        origin(EVIL), PLAIN, ("Expect", "100-continue"), ("Content-Length", "100")]))
    r = bare(client.read_response())
    assert r.status == 403 and r.header("connection") == "close"
    assert client.at_end()


def test_who_waits_for_100_and_may(client):
    client.send(request("POST", "/listed", None, [
        origin(GOOD), JSON, ("Expect", "100-continue"), ("Content-Length", str(len(BODY)))]))
    assert client.read_response().status == 100
    client.send(BODY)
    assert readable(client.read_response()).status == 200


def test_a_body_that_is_too_large(client):
    """Refused for its size, or for whom it comes from: the latter is true whatever it has."""
    r = bare(post(client, "/rpc", origin(EVIL), PLAIN, body=b"x" * 5000))
    assert r.status == 403 and r.header("connection") == "close"


@pytest.mark.parametrize("by, status", [(GOOD, 408), (EVIL, 403)])
def test_a_body_that_never_comes(web, by, status):
    with web.client() as client:
        client.send(request("POST", "/listed", None, [origin(by), JSON, ("Content-Length", "100")]) + b"{")
        assert readable(client.read_response(), by if by == GOOD else None).status == status


@pytest.mark.parametrize("by, status", [(GOOD, 400), (EVIL, 403)])
def test_a_body_that_ends_early(web, by, status):
    with web.client() as client:
        client.send(request("POST", "/listed", None, [origin(by), JSON, ("Content-Length", "100")]) + b"{")
        client.sock.shutdown(1)
        assert readable(client.read_response(), by if by == GOOD else None).status == status


def test_a_chunk_that_is_wrong(web):
    with web.client() as client:
        client.send(request("POST", "/listed", None, [origin(GOOD), JSON, ("Transfer-Encoding", "chunked")]) + b"x\r\n")
        assert readable(client.read_response()).status == 400


def test_the_longest_lists(site):
    long = ["https://" + ("a%d." % n).ljust(292, "b") for n in range(256)]
    names = [("x-%d-" % n).ljust(64, "c") for n in range(64)]
    assert {len(one) for one in long} == {300}
    web = site(routes=[rpc_route(origins=long, cors={"headers": names, "credentials": True})])
    web.fake()
    web.start()
    with web.client() as client:
        for by in (long[0], long[-1]):
            r = readable(client.request("OPTIONS", "/rpc", headers=[origin(by), ASKS]), by)
            assert r.header("access-control-allow-headers") == ", ".join(["content-type"] + names)
            assert readable(client.rpc("demo.echo", [1], headers=[origin(by)]), by).status == 200
        assert readable(client.rpc("demo.echo", [1], headers=[origin(long[0] + "b")]), None).status == 403


def test_it_is_logged(site):
    web = site(routes=[rpc_route(), rpc_route("/listed", origins=[GOOD])])
    web.fake()
    web.start()
    begun = time.monotonic()
    with web.client() as client:
        for path, by in (("/rpc", EVIL), ("/listed", EVIL), ("/rpc", "x" * 1000)):
            assert post(client, path, origin(by), PLAIN).status == 403
    line = "listener web, route /rpc: a cross-site request is refused with 403 (Origin: %s)" % EVIL
    wait_for(lambda: line in web.front.text(), "the line")
    lines = web.front.text().count("a cross-site request is refused")
    assert lines == 1 or time.monotonic() - begun >= 10     # at most one in 10 s


# Reloads

@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_a_request_in_progress_over_a_reload(front, number):
    """It stays where it is, with the config that it was judged by; the next one has the new one."""
    site = front(routes=[rpc_route(origins=[GOOD], timeout="60s")], drain="60s")
    worker = site.fake(handler=hold)
    site.start()
    with site.client() as client:
        client.send(rpc_request("demo.hold", headers=[origin(GOOD), JSON]))
        worker.wait_calls(1)
        site.config["listeners"][0]["routes"][0]["origins"] = [LOCAL]
        site.reload(number, gone=False)
        worker.calls[0].reply()
        assert readable(client.read_response(), credentials=False).status == 200
        site.wait_log("the old shards are gone")
        client.send(rpc_request("demo.hold", headers=[origin(GOOD), JSON]))
        assert readable(client.read_response(), None).status == 403


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
@pytest.mark.parametrize("cut", [-5, -len(BODY), -len(BODY) - 2], ids=["body", "no body", "head"])
def test_an_incomplete_request_over_a_reload(front, number, cut):
    """It is judged where it is complete, by the config there."""
    site = front(routes=[rpc_route(origins=[GOOD])], limits={"header_timeout": "60s", "body_timeout": "60s"})
    site.fake()
    site.start()
    data = rpc_request("demo.echo", [1], headers=[origin(LOCAL), JSON])
    with site.client() as client, site.client() as other:
        for one in (client, other):
            one.send(data[:cut])
        site.config["listeners"][0]["routes"][0]["origins"] = [LOCAL]
        site.reload(number)
        client.send(data[cut:])
        assert readable(client.read_response(), LOCAL, credentials=False).status == 200
        site.config["listeners"][0]["routes"][0]["origins"] = [GOOD]
        site.reload(number)
        other.send(data[cut:])
        assert readable(other.read_response(), None).status == 403


# WebSockets

@pytest.mark.parametrize("path, headers, status", [
    ("/ws", [origin(EVIL), CROSS], 101),
    ("/ws-own", [], 101),
    ("/ws-own", [origin(OWN)], 101),
    ("/ws-own", [origin(EVIL), ("Sec-Fetch-Site", "same-origin")], 101),
    ("/ws-own", [origin(EVIL)], 403),
    ("/ws-own", [origin("null")], 403),
    ("/ws-own", [origin(OWN), origin(EVIL)], 403),
    ("/ws-own", [origin(OWN), CROSS], 403),
    ("/ws-own", [CROSS], 403),
], ids=str)
def test_websockets(web, path, headers, status):
    with WsClient(web.address, None) as client:
        client.send(upgrade(path, headers))
        assert client.read_response().status == status
        if status == 101:
            assert client.call("demo.echo", [1]) == [1]
            client.finish()


# Other protocols: what a page can have a browser send to any port

HTTP = request("POST", "/", BODY + b"\r\n", [origin(EVIL), PLAIN])


@pytest.mark.parametrize("kind", ["line", "frame"])
@pytest.mark.parametrize("pieces", [1, 2, len(HTTP)])
def test_http_on_other_listeners(web, kind, pieces):
    before = len(web.workers[0].calls)
    with web.stream(kind) as client:
        size = -(-len(HTTP) // pieces)
        for at in range(0, len(HTTP), size):
            client.try_send(HTTP[at:at + size])
        assert client.read_json()["error"]["code"] == (-32700 if kind == "line" else -32005)
        assert client.at_end()
    assert len(web.workers[0].calls) == before


def test_tls_on_a_line_listener(web):
    before = len(web.workers[0].calls)
    with web.stream("line") as client:
        client.try_send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n" + BODY + b"\n")
        assert client.read_json()["error"]["code"] == -32700
        assert client.at_end()
    assert len(web.workers[0].calls) == before


def test_lines_that_only_name_http(web):
    with web.stream("line") as client:
        assert client.call("demo.echo", ["GET / HTTP/1.1"]) == ["GET / HTTP/1.1"]
        client.send(b"GET / HTTP/1.1 \n")
        assert client.read_json()["error"]["code"] == -32700
        assert client.call("demo.echo", [2]) == [2]
        client.send(b"GET / HTTP/1.0\r\n")     # not the first one
        assert client.read_json()["error"]["code"] == -32700
        assert client.at_end()


def test_raw_lines_are_anything(site):
    web = site(streams={"line": {"messages": "raw"}})
    worker = web.fake()
    web.start()
    with web.stream("line") as client:
        client.send(b"POST / HTTP/1.1\r\n")
        assert client.read_text() == b"POST / HTTP/1.1"
        assert worker.messages[0].blob == b"POST / HTTP/1.1"


# A browser

FETCH = """(async (url, options) => {
    try {
        const r = await fetch(url, options);
        return [r.type, r.status, await r.text()];
    } catch (e) {
        return [e.name, 0, ""];
    }
})(%s, %s)"""


@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium")
def test_a_browser(site, tmp_path):
    web = site(routes=[http_route("/")])
    listed = "http://127.0.0.1:%d" % web.port
    port = free_port()
    web.config["listeners"].append({
        "name": "api", "address": "127.0.0.1:%d" % port, "protocol": "http", "routes": [
            rpc_route("/default"), rpc_route("/own", cross_site="refuse"),
            rpc_route("/listed", origins=[listed], cors={"headers": ["x-tag"], "credentials": True}),
            rpc_route("/any", origins=["*"]), rpc_route("/others", origins=[GOOD]), http_route("/")]})
    worker = web.fake(handler=lambda call: call.http(200, [("content-type", "text/html")], b"<p>page</p>")
                      if call.method == "http.request" else echo(call))
    web.start()
    api = "http://127.0.0.1:%d" % port

    def fetch(page, path, kind="application/json", body=BODY, **options):
        options = {"method": "POST", "body": body.decode(), "headers": {"content-type": kind}, **options}
        return page.evaluate(FETCH % (json.dumps(api + path), json.dumps(options)))

    def carried_out():
        return sum(call.method != "http.request" for call in worker.calls)

    with chromium.Chromium(str(tmp_path)) as browser:
        page = browser.open(listed + "/")
        answer = ["cors", 200]
        assert fetch(page, "/listed")[:2] == answer
        assert fetch(page, "/listed", credentials="include")[:2] == answer
        assert fetch(page, "/listed", headers={"content-type": "application/json", "x-tag": "1"})[:2] == answer
        assert fetch(page, "/listed", "text/plain")[:2] == answer
        assert fetch(page, "/any")[:2] == answer
        assert fetch(page, "/listed", body=b"{")[:2] == ["cors", 400]
        assert json.loads(fetch(page, "/listed", body=b"{")[2])["error"]["code"] == -32700
        before = carried_out()
        assert fetch(page, "/listed", headers={"content-type": "application/json", "x-no": "1"})[0] == "TypeError"
        assert fetch(page, "/any", credentials="include")[0] == "TypeError"
        for path in ("/default", "/own", "/others"):
            for kind in ("application/json", "text/plain"):
                assert fetch(page, path, kind)[0] == "TypeError"
            assert fetch(page, path, "text/plain", mode="no-cors")[0] == "opaque"
        assert carried_out() == before
        own = browser.open(api + "/")       # a page of the server itself
        for path in ("/default", "/own", "/others", "/listed"):
            for kind in ("application/json", "text/plain"):
                assert fetch(own, path, kind)[:2] == ["basic", 200]
