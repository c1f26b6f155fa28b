"""Listeners with `tls`: what is spoken over them, who is let in, and connections that a reload does not close."""
import contextlib
import json
import re
import ssl

import pytest

from certs import issue, make, pair
from fakeworker import echo
from harness import free_port, http_route, rpc_request, rpc_route, wait_for, ws_route
from httpclient import Client, Closed
from reloads import HUP, USR2
from tlsclient import V12, V13, CutClient, context
from wsclient import StreamClient, WsClient

META = {"meta": ["tls"]}
SUITES = [(V13, None)] + [(V12, "ECDHE-ECDSA-" + name)
                          for name in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")]


class Https:
    """The ports of a site whose further listeners have `tls`: https, frames, lines."""

    def __init__(self, site, **tls):
        tls = {"certificates": [pair(make(site.dir))], **tls}
        self.site = site
        self.ports = {name: free_port() for name in ("https", "frame", "line")}
        site.ports.update(self.ports)
        keys = {"https": {"protocol": "http", "routes": [rpc_route(**META), http_route(**META),
                                                         ws_route(events=True, **META)]},
                "frame": {"protocol": "frame", "pool": "app", "events": True, **META},
                "line": {"protocol": "line", "pool": "app", **META}}
        for name, port in self.ports.items():
            listener = {"name": "tls-" + name, "address": "127.0.0.1:%d" % port, "tls": dict(tls), **keys[name]}
            if name != "https":
                listener["tls"].pop("alpn", None)
            site.config["listeners"].append(listener)

    def address(self, name="https"):
        return "127.0.0.1", self.ports[name]

    def client(self, tls=None, name="a.test"):
        return Client(self.address(), tls=tls or context(), name=name)

    def stays(self, kind, tls=None):
        if kind == "ws":
            return WsClient(self.address(), "/ws", tls=tls or context())
        return StreamClient(self.address(kind), kind, tls=tls or context())


def last(worker, method):
    return wait_for(lambda: next((call for call in reversed(worker.calls) if call.method == method), None), method)


def test_all_protocols(site):
    web = site()
    https = Https(web, alpn=["http/1.1"])
    worker = web.fake(handler=echo)
    web.start()
    with https.client(context(V13, alpn=["h3", "http/1.1"])) as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.rpc("demo.echo", ["x"]).json()["result"] == ["x"]
        assert client.rpc("demo.echo", ["x" * 200000]).json()["result"] == ["x" * 200000]
        assert last(worker, "demo.echo").meta["tls"] == {
            "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "sni": "a.test", "alpn": "http/1.1"}
        client.send(b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        client.read_response()
        assert json.loads(last(worker, "http.request").raw["params"])["scheme"] == "https"
        assert client.sock.recv(1) == b""       # SSLEOFError, had there been no close_notify
    for kind in ("ws", "frame", "line"):
        with https.stays(kind, context(V12)) as client:
            assert client.call("demo.echo", [kind]) == [kind]
            assert last(worker, "demo.echo").meta["tls"]["version"] == "TLSv1.2"
            if kind != "line":
                assert worker.connects[-1].params["tls"]["version"] == "TLSv1.2"
    with web.client() as client:
        client.rpc("demo.echo", ["plain"])
        assert "tls" not in last(worker, "demo.echo").meta


def test_what_is_no_handshake(site):
    web = site()
    https = Https(web, handshake_timeout="300ms", alpn=["http/1.1"])
    web.start()
    with Client(https.address()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        response = client.read_response()
        assert response.status == 400 and b"https://" in response.body
        assert client.sock.recv(1) == b""
    with Client(https.address("line")) as client:
        client.send(b"{}\n")
        assert client.sock.recv(1) == b""
    with Client(https.address()) as client:       # silent
        assert client.sock.recv(1) == b""
    with CutClient(https.address(), context()) as client:     # half a hello, then nothing
        client.start()
        client.push(20)
        assert client.sock.recv(1) == b""
    with pytest.raises(ssl.SSLError, match="NO_APPLICATION_PROTOCOL|no application protocol"):
        https.client(context(alpn=["spdy/1"]))
    for words in ("a client is refused that speaks no TLS: HTTP", "whose TLS handshake does not come on",
                  "there is nothing that both sides know: no application protocol"):
        assert words in web.front.text(), words


def test_certificates_by_name(site):
    web = site()
    files = [make(web.dir, "a.test"), make(web.dir, "*.b.test"), make(web.dir, "www.b.test")]
    https = Https(web, certificates=[pair(each) for each in files])
    web.start()
    for name, index in (("a.test", 0), ("x.b.test", 1), ("www.b.test", 2)):
        with https.client(context(trusts=files[index][0]), name=name) as client:
            client.send(b"OPTIONS /rpc HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.read_response().status == 204
    with pytest.raises(ssl.SSLCertVerificationError):       # the default: no name of c.test
        https.client(context(trusts=files[0][0]), name="c.test")


def joined(path, *parts):
    """A file with the text of these."""
    with open(path, "w") as out:
        for part in parts:
            with open(part) as f:
                out.write(f.read())
    return path


def test_certificates_that_clients_refuse(site):
    """Each client is told what is there, and decides by itself; the front serves the others."""
    web = site()
    root = make(web.dir, "root")
    middle = issue(web.dir, root, "middle", "DNS:middle", ca=True)
    good, bare = (issue(web.dir, middle, name, "DNS:" + name) for name in ("good.test", "bare.test"))
    late = issue(web.dir, root, "late.test", "DNS:late.test", days=-1)
    wild = issue(web.dir, root, "wild", "DNS:*.wild.test")
    chain = joined(web.path("chain.pem"), good[0], middle[0])
    https = Https(web, certificates=[pair(each) for each in ((chain, good[1]), bare, late, wild)])
    web.fake(handler=echo)
    web.start()

    def ask(name, tls=None):
        with https.client(tls or context(trusts=root[0]), name=name) as client:
            assert client.rpc("demo.echo", ["x"]).status == 200

    for name, words in (("bare.test", "unable to get local issuer"), ("late.test", "has expired"),
                        ("a.b.wild.test", "Hostname mismatch"), ("wild.test", "Hostname mismatch")):
        with pytest.raises(ssl.SSLCertVerificationError, match=words):
            ask(name)
        ask("good.test")
    ask("a.wild.test")
    for name in (None, "none.test"):
        ask(name, context())


def refused(https, tls):
    """The reason that a client has for its handshake, or in TLS 1.3 for its first read, to fail."""
    with pytest.raises(ssl.SSLError) as failure:
        with https.client(tls) as client:
            client.send(rpc_request("demo.echo", ["x"]))
            client.sock.recv(1)
    return failure.value.reason


def test_client_certificates(site):
    web = site()
    ca, other = make(web.dir, "ca"), make(web.dir, "other")
    ann = issue(web.dir, ca, "Ann", "DNS:ann.test,email:ann@a.test")
    bob = issue(web.dir, other, "Bob", "DNS:bob.test")
    old = issue(web.dir, ca, "Old", "DNS:old.test", days=-1)
    https = Https(web, client_ca=ca[0], client_auth="required")
    worker = web.fake(handler=echo)
    web.start()
    for version in (V12, V13):
        with https.client(context(version, files=ann)) as client:
            assert client.rpc("demo.echo", ["x"]).status == 200
        told = last(worker, "demo.echo").meta["tls"]["client"]
        assert told["subject"] == "CN=Ann" and told["sans"] == ["DNS:ann.test", "email:ann@a.test"]
        assert re.fullmatch("[0-9a-f]{64}", told["sha256"]) and re.fullmatch("[0-9a-f]+", told["serial"])
        assert refused(https, context(version, files=bob)) == "TLSV1_ALERT_UNKNOWN_CA"
        assert refused(https, context(version, files=old)) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    assert refused(https, context(V13)) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert refused(https, context(V12)) == "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert "a TLS handshake fails, by the client's certificate: " in web.front.text()


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_reload(front, number):
    """Connections of each cipher, idle and in the middle of a record, and one in its handshake: none is closed."""
    site = front(shards=2, drain="20s")
    https = Https(site)
    worker = site.fake(handler=echo)
    site.start()
    request = rpc_request("demo.echo", ["x" * 100])
    idle, cut = [], []
    for version, cipher in SUITES:
        tls = context(version, cipher)
        idle += [https.stays(kind, tls) for kind in ("ws", "frame", "line")]
        for at in (0, 3, 5, 17, 60):
            client = CutClient(https.address(), tls)
            client.shake()
            client.send(request)
            assert client.read_response().status == 200
            client.seal(request)
            client.push(at)
            cut.append(client)
    for client in idle:
        assert client.call("demo.echo", ["before"]) == ["before"]
    opening = CutClient(https.address(), context(V12))
    opening.start()
    opening.push(100)
    # V12: the shard has answered when a part of the client's second flight is out
    begun = CutClient(https.address(), context(V12))
    begun.start()
    begun.push()
    with contextlib.suppress(ssl.SSLWantReadError):
        begun._feed()
        begun.tls.do_handshake()
    begun.push(10)
    old = site.shards()
    site.reload(number, gone=False)
    for client in idle:
        assert client.call("demo.echo", ["after"]) == ["after"]
        wait_for(lambda c=client: site.shard_of(c) not in [None, *old], "its move")
    for client in cut:
        client.push()
        assert client.read_response().json()["result"] == ["x" * 100]
    for client in (opening, begun):
        client.push()
        client.shake()
        client.send(request)
        assert client.read_response().status == 200
        wait_for(lambda c=client: site.shard_of(c) not in [None, *old], "its move after its handshake")
    site.wait_log("the old shards are gone")
    for client in idle + cut + [opening, begun]:
        client.close()
    assert worker.errors == []
