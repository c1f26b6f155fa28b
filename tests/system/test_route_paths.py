"""Which route takes a path, however it is spelled: what guards a path cannot be passed by another spelling of it."""
import json

import pytest

from harness import Site, free_port, http_route, rpc_route, ws_route
from httpclient import Client, request, rpc_body
from wsclient import WsClient, upgrade

ROUTES = [http_route("/", "open"), http_route("/secret", "guard"), rpc_route("/rpc", "guard"),
          ws_route("/ws", "guard"), http_route("/a%20b/", "guard"), http_route("/rpc/*", "star"),
          http_route("/h\u00e4", "guard"), http_route("/", "named", host="One.Test.")]


def handler(name):
    def answer(call):
        if call.method == "http.request":
            call.http(200, [("x-pool", name)], json.dumps(call.params).encode())
        else:
            call.reply(name)
    return answer


@pytest.fixture(scope="module")
def web():
    names = ("open", "guard", "star", "named")
    site = Site(routes=ROUTES, pools={name: {} for name in names})
    site.strict = free_port()
    site.config["listeners"].append({"name": "strict", "address": "127.0.0.1:%d" % site.strict, "paths": "strict",
                                     "routes": ROUTES})
    with site:
        for name in names:
            site.fake(name + "-1", handler(name))
        yield site.start()


# path → (who takes it; None: 400, whether `paths: strict` lets it pass)
SPELLINGS = {
    "/secret": ("guard", True),
    "/secret/": ("guard", True),
    "/secret/x": ("guard", True),
    "/secret?x=//../%": ("guard", True),
    "/secretx": ("open", True),
    "/Secret": ("open", True),
    "//secret": ("guard", False),
    "///secret//": ("guard", False),
    "/%73ecret": ("guard", False),
    "/%73%65%63%72%65%74": ("guard", False),
    "/%2Fsecret": ("guard", False),
    "/%2fsecret": ("guard", False),
    "/secret%2Fx": ("guard", False),
    "/secret%2fx": ("guard", False),
    "/x/../secret": ("guard", False),
    "/x/%2e%2E/secret": ("guard", False),
    "/x/.%2e/secret": ("guard", False),
    "/x%2F..%2Fsecret": ("guard", False),
    "/./secret": ("guard", False),
    "/%2e/secret": ("guard", False),
    "/secret/..": ("open", False),
    "/secret/../x": ("open", False),
    "/secret/.": ("guard", False),
    "/x//../secret": ("guard", False),
    "/x/..;/secret": ("open", True),
    "/secret;v=1": ("open", True),
    "/secret/;v=1": ("guard", True),
    "/%2573ecret": ("open", True),
    "/%252e%252e/secret": ("open", True),
    "/x/%C0%AE%C0%AE/secret": ("open", True),
    "/secret%3Fx": ("open", True),
    "/secret%23x": ("open", True),
    "/secret%20": ("open", True),
    "/secret%5C..": ("open", True),
    "/secret\\..": ("open", False),
    "/secret%0d": ("open", False),
    "/secret%0D": ("open", True),
    "/a%20b/": ("guard", True),
    "/a%20b/c": ("guard", True),
    "/a%20b": ("open", True),
    "/a+b/": ("open", True),
    "/h%C3%A4": ("guard", True),
    "/h%c3%a4": ("guard", False),
    "/h%E4": ("open", True),
    "/rpc/*": ("star", True),
    "/rpc/%2A": ("star", False),
    "/..": (None, False),
    "/../secret": (None, False),
    "/%2e%2e/secret": (None, False),
    "/x/../../secret": (None, False),
    "/secret/../..": (None, False),
    "/%": (None, False),
    "/secret%": (None, False),
    "/secret%7": (None, False),
    "/%zz/../secret": (None, False),
    "/%u0073ecret": (None, False),
    "/secret%00": (None, False),
    "/%00/../secret": (None, False),
}


def took(r):
    return r.header("x-pool") if r.status == 200 else None if r.status == 400 else r


@pytest.mark.parametrize("path", SPELLINGS)
def test_spellings(web, path):
    """In each form of a target; the worker gets the path as it was sent; the connection goes on."""
    pool, strict = SPELLINGS[path]
    plain, _, query = path.partition("?")
    for address, expected in [(web.address, pool), (("127.0.0.1", web.strict), pool if strict else None)]:
        with Client(address) as client:
            for target in (path, "http://front.test" + path, "HTTPS://front.test:80" + path):
                for method in ("GET", "POST", "OPTIONS", "PURGE"):
                    r = client.request(method, target, b"x" if method == "POST" else None)
                    assert took(r) == expected, (target, r)
                    if expected:
                        asked = r.json()
                        assert (asked["path"], asked["query"]) == (plain, query)
            assert client.request("GET", "/").status == 200


@pytest.mark.parametrize("path, status", [
    ("//rpc", 200), ("/%72pc", 200), ("/x/../rpc", 200), ("/rpc%2Fx", 200), ("/rpc/..", None), ("/rpc/../..", 400),
    ("/rpc%", 400), ("/rpc%00", 400)])
def test_other_kinds_of_routes(web, path, status):
    """A jsonrpc route and a WebSocket's are as hard to miss."""
    with web.client() as client:
        r = client.post(rpc_body("m"), path)
        assert r.json()["result"] == "guard" if status == 200 else took(r) == ("open" if status is None else None)
    with WsClient(web.address, None) as client:
        client.send(upgrade(path.replace("rpc", "ws").replace("%72pc", "%77s")))
        if status == 200:
            client.upgraded()
            assert client.call("m") == "guard"
            client.finish()
        else:
            assert took(client.read_response()) == ("open" if status is None else None)
    with Client(("127.0.0.1", web.strict)) as client:
        for target in (path, path.replace("rpc", "ws")):
            assert client.request("POST", target, rpc_body("m")).status == 400


def test_forms_without_a_path(web):
    for address in (web.address, ("127.0.0.1", web.strict)):
        with Client(address) as client:
            assert client.request("OPTIONS", "*").status == 204
            for target in ("http://front.test", "http://front.test?a=b", "http://front.test/"):
                r = client.request("GET", target)
                assert took(r) == "open" and r.json()["path"] == "/"
            assert client.request("CONNECT", "front.test:80").status == 405


@pytest.mark.parametrize("headers", [[("Expect", "100-continue"), ("Content-Length", "4")],
                                     [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]])
def test_no_body_is_waited_for(web, headers):
    with web.client() as client:
        client.send(request("POST", "/x/../..", None, headers))
        r = client.read_response()
        assert r.status == 400 and r.header("connection") == "close"
        assert client.at_end()


def test_a_body_that_is_too_large_for_a_path_that_is_wrong(web):
    with web.client() as client:
        client.send(request("POST", "/%", None, [("Content-Length", 2 << 20)]))
        assert client.read_response().status == 400


@pytest.mark.parametrize("size", [1000, 1023, 1024, 1025, 8000])
def test_long_paths(web, size):
    with web.client() as client:
        path = "/" * (size - 8) + "%73ecret"
        assert took(client.request("GET", path)) == "guard"
        assert took(client.request("GET", "/x" * (size // 5) + "/.." * (size // 5) + "/secret")) == "guard"
        assert took(client.request("GET", "/x" * (size // 5) + "/.." * (size // 5 + 1))) is None


@pytest.mark.parametrize("host, pool", [
    ("one.test", "named"), ("ONE.test", "named"), ("one.test.", "named"), ("one.test:80", "named"),
    ("One.Test.:8080", "named"), ("one.test.:", "named"), ("one.test..", "open"), ("one.test.x", "open"),
    ("xone.test", "open"), ("two.test", "open")])
def test_hosts(web, host, pool):
    """Of Host, or of the target, which wins; the worker is shown no other one."""
    with web.client() as client:
        r = client.request("GET", "/x", host=host)
        assert took(r) == pool and r.json()["authority"] == host
        for other in ("one.test", "two.test", ""):
            r = client.request("GET", "http://%s/x" % host, host=other)
            assert took(r) == pool
            asked = r.json()
            assert asked["authority"] == host
            assert [v for n, v in asked["headers"] if n == "host"] == [host]


@pytest.mark.parametrize("path", ["//web", "/%77eb", "/x/../web"])
def test_config_is_spelled_as_one_likes(site, path):
    """A route's own path is made normal too; what workers see of it is as it was written."""
    web = site(routes=[http_route(path, meta=["route"]), http_route("/", "rest")], pools={"app": {}, "rest": {}})
    worker = web.fake()
    web.fake("rest-1", lambda call: call.http(404))
    worker.handler = lambda call: call.http(200, [], json.dumps(call.meta).encode())
    web.start()
    with web.client() as client:
        for asked in ("/web", "//web/x", "/%77eb"):
            r = client.request("GET", asked)
            assert r.status == 200 and r.json() == {"route": path}
        assert client.request("GET", "/webs").status == 404
