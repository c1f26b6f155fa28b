"""auth.jwt: who is let in by a token, what workers are told of it, and both over reloads of keys and connections."""
import base64
import contextlib
import json
import time

import pytest

from fakeworker import echo
from h2client import H2Client
from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import Client, request, rpc_request
from reloads import HUP, USR2, Paused
from streamworker import build
from test_http2_websocket import Socket
from wsclient import upgrade

jwt = pytest.importorskip("jwt", reason="Debian's python3-jwt is not installed")
pytest.importorskip("cryptography", reason="Debian's python3-cryptography is not installed")
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

ISSUER, AUDIENCE = "https://issuer.test", "front"
KEYS = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate()}
OTHER = ed25519.Ed25519PrivateKey.generate()


def public(key, kid):
    name = {rsa.RSAPrivateKey: "RSAAlgorithm", ec.EllipticCurvePrivateKey: "ECAlgorithm"}
    of = next((n for t, n in name.items() if isinstance(key, t)), "OKPAlgorithm")
    made = json.loads(getattr(jwt.algorithms, of).to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return {**made, "kid": kid}


def write_keys(web, keys):
    with open(web.path("keys.json"), "w") as f:
        json.dump({"keys": [public(key, kid) for kid, key in keys.items()]}, f)


def token(alg="EdDSA", key=None, kid=True, header=None, **claims):
    now = int(time.time())
    told = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "sub": "me", "scope": ["a", {"b": 1.50}], "more": 1}
    told.update(claims)
    head = {**({"kid": alg} if kid is True else {"kid": kid} if kid else {}), **(header or {})}
    return jwt.encode({k: v for k, v in told.items() if v is not None}, key or KEYS[alg], alg, head)


def bearer(text):
    return [("Authorization", "Bearer " + text)]


def configure(web, keys=KEYS, **more):
    write_keys(web, keys)
    web.config["listeners"][0]["auth"] = {"jwt": {
        "jwks": web.path("keys.json"), "issuer": ISSUER, "audience": ["x", AUDIENCE],
        "claims": ["sub", "scope", "absent"], **more}}


ROUTES = [rpc_route(), http_route(), ws_route(events=True)]
OPEN = {**rpc_route("/open"), "auth": {"none": True}}


def answer(call):
    if call.method == "frontd.connect":
        return
    echo(call)


@pytest.fixture
def web(front):
    site = front(shards=2, routes=[*ROUTES, OPEN])
    configure(site, query="access_token")
    site.worker = site.fake(handler=answer)
    return site.start()


TOLD = {"sub": "me", "scope": ["a", {"b": 1.50}]}


@pytest.mark.parametrize("alg", KEYS)
@pytest.mark.parametrize("kid", [True, False])
def test_who_is_let_in(web, alg, kid):
    text = token(alg, kid=kid)
    with web.client() as client:
        for _ in range(2):      # verified, and remembered
            assert client.rpc("demo.echo", [1], headers=bearer(text)).status == 200
            assert web.worker.calls[-1].meta == {"auth": TOLD}
        assert client.request("GET", "/x", headers=bearer(text)).status == 200
        assert web.worker.calls[-1].meta == {"auth": TOLD}
        assert client.request("GET", "/x", headers=[("Authorization", "bEARER  " + text)]).status == 200
        assert client.request("OPTIONS", "/rpc").status == 204
        assert client.rpc("demo.echo", [1], path="/open").status == 200
        assert web.worker.calls[-1].meta == {}


def refused(client, headers, wrong=True, path="/rpc"):
    """Both forms of the answer, and the connection goes on."""
    challenge = 'Bearer error="invalid_token"' if wrong else "Bearer"
    answer = client.rpc("demo.echo", [1], headers=headers, path=path)
    assert (answer.status, answer.header("WWW-Authenticate")) == (401, challenge)
    assert answer.json() == {"jsonrpc": "2.0", "id": None, "error": {"code": -32008, "message": "unauthorized"}}
    answer = client.request("GET", "/x", headers=headers)
    assert (answer.status, answer.header("WWW-Authenticate")) == (401, challenge)
    assert answer.body == b"401 Unauthorized\n"


def b64(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_who_is_not(web):
    now = int(time.time())
    right = token()
    head, body, signature = right.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    wrong = {
        "none": b64({"alg": "none"}) + "." + body + ".",
        "none of a key": b64({"alg": "none", "kid": "EdDSA"}) + "." + body + "." + signature,
        "hmac": jwt.encode(claims, b"key", "HS256", {"kid": "ES256"}),
        "alg of another key": token("ES256", kid="EdDSA"),
        "other kid": token(kid="unknown"),
        "other key": token(key=OTHER),
        "RS512": token("RS256").replace(token("RS256").split(".")[0], b64({"alg": "RS512", "kid": "RS256"})),
        "crit": token(header={"crit": ["exp"]}),
        "no signature": head + "." + body + ".",
        "cut": right[:-1],
        "padded": right + "=",
        "other claims": head + "." + b64({**claims, "sub": "root"}) + "." + signature,
        "expired": token(exp=now - 40),
        "never ends": token(exp=None),
        "not yet": token(nbf=now + 100),
        "issued later": token(iat=now + 100),
        "issuer": token(iss="https://other.test"),
        "no issuer": token(iss=None),
        "audience": token(aud=["other"]),
        "no audience": token(aud=None),
        "no token": "x",
        "too large": token(pad="x" * 6200),
        "der": ".".join([b64({"alg": "ES256", "kid": "ES256"}), body, b64(
            KEYS["ES256"].sign((b64({"alg": "ES256", "kid": "ES256"}) + "." + body).encode(),
                               ec.ECDSA(hashes.SHA256())))]),
    }
    with web.client() as client:
        for name, text in wrong.items():
            try:
                refused(client, bearer(text))
            except AssertionError as e:
                raise AssertionError(name) from e
        refused(client, bearer(right) * 2)
        refused(client, [], wrong=False)
        refused(client, [("Authorization", "Basic " + right)], wrong=False)
        refused(client, [("X-Token", right)], wrong=False)
        assert client.request("GET", "/x?access_token=" + right).status == 401, "only for WebSockets"
        assert client.rpc("demo.echo", [1], headers=bearer(token(nbf=now + 20, iat=now + 20, exp=now - 20))).status == 200
    assert len(web.worker.calls) == 1
    web.wait_log("a request is refused for its token (401, -32008)")


def handshake(web, path="/ws", headers=()):
    with Client(("127.0.0.1", web.port)) as client:
        client.send(upgrade(path, headers=headers))
        return client.read_response(head=True)


def test_websockets(web):
    text = token()
    assert handshake(web).header("WWW-Authenticate") == "Bearer"
    for path, headers in (("/ws", bearer(token(key=OTHER))), ("/ws?access_token=x", ()),
                          ("/ws?access_token=" + text + "&access_token=" + text, ())):
        answer = handshake(web, path, headers)
        assert (answer.status, answer.header("WWW-Authenticate")) == (401, 'Bearer error="invalid_token"'), path
    for path, headers in (("/ws", bearer(text)), ("/ws?a=b&access_token=" + text, ())):
        del web.worker.connects[:]
        with web.ws(path, headers=headers) as client:
            web.worker.wait(lambda: web.worker.connects, "frontd.connect")
            assert web.worker.connects[-1].params["auth"] == TOLD
            assert client.call("demo.echo", [1]) == [1]
            assert web.worker.calls[-1].meta == {"auth": TOLD}


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_reloads(web, number):
    """Keys change: requests on open connections are held to the new ones, WebSockets stay, with their claims."""
    text, new = token(), token(key=OTHER)
    with web.client() as client, web.ws(headers=bearer(text)) as socket:
        assert client.rpc("demo.echo", [1], headers=bearer(text)).status == 200
        write_keys(web, {"EdDSA": OTHER})
        web.reload(number)
        refused(client, bearer(text))
        assert client.rpc("demo.echo", [1], headers=bearer(new)).status == 200
        assert socket.call("demo.echo", [2]) == [2]
        assert web.worker.calls[-1].meta == {"auth": TOLD}
        assert socket.who()[0] == web.worker.connects[-1].conn
        with open(web.path("keys.json"), "w") as f:
            f.write('{"keys":[{"kty":"oct","k":"AAAA"}]}')
        web.refused("it has a secret (k): only public keys have a place here", number)
        assert client.rpc("demo.echo", [1], headers=bearer(new)).status == 200


def test_another_header_and_other_algorithms(site):
    web = site(routes=[rpc_route(), http_route()])
    configure(web, header="X-Token", algorithms=["ES256"], claims=[])
    worker = web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("demo.echo", [1], headers=[("x-token", token("ES256"))]).status == 200
        assert worker.calls[-1].meta == {"auth": {}}
        refused(client, [("x-token", token())])
        refused(client, bearer(token("ES256")), wrong=False)


def test_over_http2(site):
    web = site(routes=ROUTES)
    configure(web)
    web.config["listeners"][0].update(h2c=True, h2_websocket=True)
    worker = web.fake(handler=answer)
    web.start()
    fields = [("authorization", "Bearer " + token())]
    with H2Client(("127.0.0.1", web.port)) as client:
        number = client.open("GET", "/x", headers=[])
        client.until(lambda: client.streams[number].status)
        assert int(client.streams[number].status) == 401
        number = client.open("GET", "/x", headers=fields)
        client.until(lambda: client.streams[number].status)
        assert int(client.streams[number].status) == 200
        assert worker.calls[-1].meta == {"auth": TOLD}
        assert int(Socket(client).stream.status) == 401
        socket = Socket(client, headers=fields)
        assert int(socket.stream.status) == 200
        assert socket.call("demo.echo", [1]) == [1]
        assert worker.calls[-1].meta == {"auth": TOLD}


def test_a_token_ends(front):
    """One that is remembered, too. With expires: close WebSockets end with it, also in another process than the one that
    has seen the token, which came in a cookie."""
    web = front(shards=1, routes=[ws_route(events=True, origins=["https://a.test"]), ws_route("/keep", events=True),
                                  rpc_route()])
    configure(web, leeway="0s", cookie="session", expires="close")
    web.config["listeners"][0]["routes"][1]["auth"] = {
        "jwt": {**web.config["listeners"][0]["auth"]["jwt"], "expires": "keep"}}
    worker = web.fake(handler=answer)
    web.start()
    text = token(exp=int(time.time()) + 3)
    cookie = [("Cookie", 'a=b; session="%s"' % text)]
    with web.ws(headers=cookie, origin="https://a.test") as ends, web.ws("/keep", headers=cookie) as stays:
        conn = ends.who()[0]
        assert web.rpc("demo.echo", [1], headers=cookie).status == 200
        web.reload(USR2)
        ends.expect_close(1008)
        assert worker.wait_disconnect(conn).params["code"] == 1008
        assert stays.call("demo.echo", [1]) == [1]
        assert handshake(web, headers=[*cookie, ("Origin", "https://a.test")]).status == 401
        assert web.rpc("demo.echo", [1], headers=cookie).status == 401
    web.wait_log("a WebSocket is closed whose token has ended (1008)")


def test_a_flood_of_wrong_tokens(site):
    """It holds up nobody whose token is known: all of it is there before that request, and waits its turn. What has
    waited goes on with its body, and a client that is gone is forgotten."""
    many, streams = 100, 30
    web = site(shards=1, routes=[rpc_route(deny_methods=["denied"])],
               access_log={"path": None, "format": "${outcome}"})
    web.config["access_log"]["path"] = web.path("access.log")
    configure(web)
    web.config["listeners"][0]["h2c"] = True
    worker = web.fake()
    web.start()
    known, wrong = token(), token(key=OTHER)
    bad = rpc_request("flood", [1], headers=bearer(wrong))
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(web.client())
        assert good.rpc("demo.echo", [1], headers=bearer(known)).status == 200
        flood = [stack.enter_context(web.client()) for _ in range(many)]
        late = stack.enter_context(web.client())
        h2 = stack.enter_context(H2Client(web.address))
        with Paused(web.shards()):
            for client in flood:
                client.send(bad * 2)
            for client in flood[:5]:
                client.close()
            numbers = [h2.open("POST", "/rpc", headers=[("authorization", "Bearer " + wrong)], body=b"{}")
                       for _ in range(streams)]
            late.send(rpc_request("demo.echo", ["late"], headers=bearer(token(sub="late"))))
            good.send(rpc_request("denied", [1], headers=bearer(known)))
        assert good.read_response().json()["error"]["code"] == -32601
        assert late.read_response().json()["result"] == ["late"]
        assert worker.calls[-1].meta["auth"]["sub"] == "late"
        for client in flood[5:]:
            assert [client.read_response().status for _ in range(2)] == [401, 401]
        h2.until(lambda: all(h2.streams[number].status for number in numbers))
        assert {int(h2.streams[number].status) for number in numbers} == {401}
        with web.client() as client:
            assert client.rpc("demo.echo", [2], headers=bearer(known)).status == 200
    outcomes = wait_for(lambda: (lambda all: all.count("ok") == 3 and all)(open(web.path("access.log")).read().split()),
                        "the access log")
    assert outcomes.count("-32008") >= 2 * (many - 5) + streams
    assert outcomes.index("-32601") < many / 5, outcomes


def test_an_upload_behind_a_flood(site):
    """A body that goes in parts waits with its request, over either HTTP."""
    body = bytes(200000)
    web = site(shards=1, routes=[{**http_route("/"), "stream_body": "1MiB"}, {**http_route("/whole"), "auth": {"none": True}}],
               limits={"body": "64KiB"})
    configure(web)
    web.config["listeners"][0]["h2c"] = True
    build(web)
    bad = request("GET", "/x", headers=bearer(token(key=OTHER)))
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(web.client()) for _ in range(30)]
        late = stack.enter_context(web.client())
        h2 = stack.enter_context(H2Client(web.address))
        with Paused(web.shards()):
            for client in flood:
                client.send(bad)
            late.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n"
                      % (len(body), token(sub="1").encode()) + body[:50000])
            number = h2.open("POST", "/upload", headers=[("authorization", "Bearer " + token(sub="2"))], end=False)
        late.send(body[50000:])
        h2.data(number, body)
        assert late.read_response().body.startswith(b"%d " % len(body))
        h2.until(lambda: h2.streams[number].ended)
        assert h2.streams[number].body.startswith(b"%d " % len(body))
        assert {client.read_response().status for client in flood} == {401}
