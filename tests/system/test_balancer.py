"""Proxies in front: PROXY headers, X-Forwarded-For, Forwarded, and who is believed. Our own address is the proxy's."""
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess

import pytest

import certs
from harness import free_port, rpc_route, wait_for, ws_route
from httpclient import Client, Closed, rpc_request
from reloads import HUP, USR2, wait_read
from wsclient import StreamClient, WsClient, upgrade

TRUST = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}
OTHERS = {"trusted_proxies": ["10.0.0.0/8"]}
ROUTES = [rpc_route(meta=["peer"], headers=["x-forwarded-for"]), ws_route(meta=["peer"]),
          rpc_route("/hashed", pool="hashed")]
LISTENERS = {
    "proxied": {"proxy_protocol": True, **TRUST, "routes": ROUTES},
    "frame": {"proxy_protocol": True, **TRUST, "protocol": "frame", "pool": "app", "meta": ["peer"], "events": True},
    "strangers": {"proxy_protocol": True, **OTHERS, "routes": ROUTES},
    "xff": {"forwarded": "x-forwarded-for", **TRUST, "routes": ROUTES},
    "rfc": {"forwarded": "forwarded", **TRUST, "routes": ROUTES},
    "unbelieved": {"forwarded": "x-forwarded-for", **OTHERS, "routes": ROUTES},
}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"


def line(address, port=51412):
    family = "TCP6" if ":" in address else "TCP4"
    return ("PROXY %s %s %s %d 443\r\n" % (family, address, "::1" if ":" in address else "192.0.2.1", port)).encode()


def binary(address, port=51412):
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    body = socket.inet_pton(family, address) + socket.inet_pton(family, "::1" if six else "192.0.2.1")
    body += struct.pack(">HH", port, 443) + b"\x02\0\x05front"      # with the name as an extension
    return SIGNATURE + b"\x21" + (b"\x21" if six else b"\x11") + struct.pack(">H", len(body)) + body


def build(make, shards=2, limits=None, workers=("app-1", "hashed-1", "hashed-2")):
    web = make(shards=shards, pools={"app": {}, "hashed": {"balance": "hash", "hash": "peer"}}, limits=limits)
    for name, keys in LISTENERS.items():
        web.ports[name] = free_port()
        web.config["listeners"].append({"name": name, "address": "127.0.0.1:%d" % web.ports[name], **keys})
    web.config["listeners"].append({"name": "unix", "address": "unix:" + web.path("web.sock"), "proxy_protocol": True,
                                    "trusted_proxies": ["unix"], "routes": ROUTES})
    made = {name: web.fake(name) for name in workers}
    web.start()
    return web, made


def connect(web, name, client=Client, **keys):
    return client(web.path("web.sock") if name == "unix" else ("127.0.0.1", web.ports[name]), **keys)


def peer_of(worker, client, **keys):
    """The peer that the worker is told with a call of this client."""
    before = len(worker.calls)
    assert client.rpc("demo.echo", [1], **keys).status == 200
    return worker.calls[before].meta["peer"]


def own(client):
    return "127.0.0.1:%d" % client.sock.getsockname()[1]


def test_a_proxy_header(site):
    web, made = build(site)
    worker = made["app-1"]
    for name in "proxied", "unix":
        for header, peer in [(line("203.0.113.5"), "203.0.113.5:51412"), (line("2001:db8::5"), "[2001:db8::5]:51412"),
                             (binary("203.0.113.5"), "203.0.113.5:51412"),
                             (binary("2001:db8::5", 80), "[2001:db8::5]:80")]:
            with connect(web, name) as client:
                client.send(header + rpc_request("demo.echo", [1]))     # in one segment
                assert client.read_response().status == 200
                assert worker.calls[-1].meta["peer"] == peer
                assert peer_of(worker, client, headers=[("X-Forwarded-For", "6.6.6.6")]) == peer
    for header in line("203.0.113.5"), binary("203.0.113.5"):
        with connect(web, "proxied") as client:
            for n in range(len(header)):
                client.send(header[n:n + 1])
            assert peer_of(worker, client) == "203.0.113.5:51412"
    with connect(web, "proxied") as client:
        client.send(LOCAL)
        assert peer_of(worker, client) == own(client)
    with connect(web, "proxied", WsClient, path=None) as client:
        client.send(binary("203.0.113.5") + upgrade())
        client.upgraded()
        client.send_json({"jsonrpc": "2.0", "id": 1, "method": "who"})
        client.read_json()
        assert worker.calls[-1].meta["peer"] == "203.0.113.5:51412"
    with connect(web, "frame", StreamClient, kind="frame") as client:
        client.send(binary("203.0.113.5")[:20])
        wait_read(client)
        assert not worker.connects
        client.send(binary("203.0.113.5")[20:])
        worker.wait(lambda: worker.connects, "frontd.connect")
        assert worker.connects[0].params["peer"] == "203.0.113.5:51412"


def test_who_is_closed(site):
    web, _ = build(site, shards=1, limits={"first_byte_timeout": "1s"})

    def is_closed(name, data):
        with connect(web, name) as client:
            client.try_send(data)
            return client.at_end()
    assert is_closed("strangers", line("203.0.113.5") + rpc_request("demo.echo", [1]))
    assert is_closed("proxied", rpc_request("demo.echo", [1]))
    assert is_closed("proxied", b"PROXY TCP4 203.0.113.5")
    for words in ["listener strangers: 127.0.0.1:", "none of trusted_proxies", "listener proxied: 127.0.0.1:",
                  "does not begin with a right PROXY header", "no PROXY header has come"]:
        wait_for(lambda: words in web.front.text(), words)
    assert web.rpc("demo.echo", [1]).status == 200


def test_connections_per_peer(site):
    web, _ = build(site, limits={"connections_per_peer": 2})
    # What asked whether the front serves may not be gone yet.
    wait_for(lambda: web.connections() == 0, "the end of the first")
    with contextlib.ExitStack() as stack:
        def let_in(address):
            client = stack.enter_context(connect(web, "proxied"))
            client.send(line(address))
            try:
                return client.rpc("demo.echo", [1]).status == 200 and client
            except (OSError, Closed):
                return None

        def shake(address, name="xff"):
            client = stack.enter_context(connect(web, name, WsClient, path=None))
            client.send(upgrade(headers=[("X-Forwarded-For", address)]))
            return client, client.read_response().status
        first, _, third = let_in("203.0.113.5"), let_in("203.0.113.5"), let_in("203.0.113.5")
        assert first and third is None
        assert let_in("203.0.113.6")
        assert shake("203.0.113.5")[1] == 429, "connections of all listeners count together"
        first.close()
        client = wait_for(lambda: next((c for c, status in [shake("203.0.113.5")] if status == 101), None), "room")
        assert let_in("203.0.113.5") is None
        client.close()
        assert wait_for(lambda: let_in("203.0.113.5"), "room once more")
        # The proxy itself is not counted where it tells of its clients; elsewhere it is a client as any other.
        assert all(shake("203.0.113.%d" % n)[1] == 101 for n in range(10, 15))
        assert web.rpc("demo.echo", [1]).status == 200
    text = web.front.text()
    assert "listener proxied: 203.0.113.5:51412: a connection is closed at once, its peer has limits" in text


def test_fields_of_proxies(site):
    web, made = build(site)
    worker = made["app-1"]
    with connect(web, "xff") as client:
        for value, peer in [("203.0.113.5", "203.0.113.5:0"), ("6.6.6.6, 2001:db8::5, 10.0.0.1", "[2001:db8::5]:0"),
                            ("203.0.113.7:4711", "203.0.113.7:4711"), ("unknown", own(client))]:
            assert peer_of(worker, client, headers=[("X-Forwarded-For", value)]) == peer
            assert worker.calls[-1].meta["headers"]["x-forwarded-for"] == value, "workers get it as it came"
        assert peer_of(worker, client, headers=[("X-Forwarded-For", "203.0.113.5"),
                                                ("X-Forwarded-For", "127.0.0.1")]) == "203.0.113.5:0"
        assert peer_of(worker, client, headers=[("Forwarded", "for=203.0.113.5")]) == own(client)
        assert client.request("GET", "/none", headers=[("X-Forwarded-For", "203.0.113.99")]).status == 404
        wait_for(lambda: "listener xff: 203.0.113.99:0: a request is refused" in web.front.text(), "the client's line")
    with connect(web, "rfc") as client:
        value = 'for="[2001:db8::5]:4711";proto=https, for=10.0.0.1'
        assert peer_of(worker, client, headers=[("Forwarded", value)]) == "[2001:db8::5]:4711"
        assert peer_of(worker, client, headers=[("X-Forwarded-For", "203.0.113.5")]) == own(client)
    for name in "unbelieved", "web":
        with connect(web, name) as client:
            made_up = [("X-Forwarded-For", "203.0.113.5"), ("Forwarded", "for=203.0.113.5")]
            if name == "unbelieved":
                assert peer_of(worker, client, headers=made_up) == own(client)
            else:
                assert client.rpc("demo.echo", [1], headers=made_up).status == 200


def test_hash_by_peer(site):
    web, made = build(site)
    hashed = [made["hashed-1"], made["hashed-2"]]

    def chosen(call):
        before = [len(worker.calls) for worker in hashed]
        assert call().status == 200
        return [len(worker.calls) - n for worker, n in zip(hashed, before)]
    addresses = ["203.0.113.%d" % n for n in range(1, 17)]
    with connect(web, "xff") as client:
        first = {address: chosen(lambda: client.rpc("demo.echo", [1], path="/hashed", headers=[
            ("X-Forwarded-For", address)])) for address in addresses}
    assert [1, 0] in first.values() and [0, 1] in first.values()
    for address in addresses:
        with connect(web, "proxied") as client:
            client.send(line(address))
            assert chosen(lambda: client.rpc("demo.echo", [1], path="/hashed")) == first[address]


def test_reloads_within_the_header(front):
    site, made = build(front, workers=("app-1", "hashed-1"))
    worker = made["app-1"]
    with contextlib.ExitStack() as stack:
        waiting = []
        for header in [line("203.0.113.5"), binary("203.0.113.5")]:
            for cuts in [(0, 0), (0, 5), (5, 20), (16, 27), (20, len(header))]:
                client = stack.enter_context(connect(site, "proxied"))
                waiting.append((client, header, cuts))
        local = stack.enter_context(connect(site, "proxied"))
        local.send(LOCAL)
        shaken = stack.enter_context(connect(site, "xff", WsClient, headers=[("X-Forwarded-For", "203.0.113.9")]))
        for client, header, (one, _) in waiting:
            client.send(header[:one])
        for client in [local] + [client for client, _, _ in waiting]:
            wait_read(client)
        site.reload(HUP)
        for client, header, (one, two) in waiting:
            client.send(header[one:two])
            wait_read(client)
        site.reload(USR2)
        for client, header, (_, two) in waiting:
            client.send(header[two:] + rpc_request("demo.echo", [1]))
            assert client.read_response().status == 200
            assert worker.calls[-1].meta["peer"] == "203.0.113.5:51412"
        assert peer_of(worker, local) == own(local)
        shaken.send_json({"jsonrpc": "2.0", "id": 1, "method": "who"})
        shaken.read_json()
        assert worker.calls[-1].meta["peer"] == "203.0.113.9:0"


def test_a_header_before_tls(front):
    """It comes in the clear: in one segment with the ClientHello, and cut over a reload."""
    site = front(pools={"app": {}})
    files = certs.make(site.dir)
    site.ports["secure"] = free_port()
    site.config["listeners"].append({
        "name": "secure", "address": "127.0.0.1:%d" % site.ports["secure"], "proxy_protocol": True, **TRUST,
        "routes": ROUTES[:1], "tls": {"certificates": [certs.pair(files)]}})
    worker = site.fake()
    site.start()
    context = ssl.create_default_context(cafile=files[0])

    def secure(client, header=b""):
        """The client over TLS; header: sent in one segment with the ClientHello."""
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(into, out, server_hostname="a.test")
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                client.send(header + out.read())
                header = b""
                into.write(client.sock.recv(65536))
                continue
            client.send(out.read())
            return tls, into, out

    def rpc(client, tls, into, out):
        tls.write(rpc_request("demo.echo", [1]))
        client.send(out.read())
        while True:
            try:
                return tls.read(65536)
            except ssl.SSLWantReadError:
                into.write(client.sock.recv(65536))
    with connect(site, "secure") as one, connect(site, "secure") as cut:
        header = binary("203.0.113.5")
        cut.send(header[:20])
        wait_read(cut)
        assert rpc(one, *secure(one, header)).startswith(b"HTTP/1.1 200")
        assert worker.calls[-1].meta["peer"] == "203.0.113.5:51412"
        site.reload(HUP)
        assert rpc(cut, *secure(cut, header[20:])).startswith(b"HTTP/1.1 200")
        assert worker.calls[-1].meta["peer"] == "203.0.113.5:51412"


HAPROXY = """
defaults
    mode %s
    timeout connect 5s
    timeout client 30s
    timeout server 30s
%s
"""
SECTION = """
listen %s
    bind 127.0.0.1:%d
    %s
    server frontd 127.0.0.1:%d %s
"""


@contextlib.contextmanager
def proxy(web, argv, text, ports):
    """A proxy with this config, whose file is the last argument, until it accepts connections on these ports."""
    with open(web.path("proxy.cfg"), "w") as f:
        f.write(text)
    with subprocess.Popen(argv + [web.path("proxy.cfg")], stderr=subprocess.PIPE, text=True) as process:
        def accepts(port):
            assert process.poll() is None, process.stderr.read()
            with contextlib.suppress(OSError), Client(("127.0.0.1", port)):
                return True
        try:
            for port in ports:
                wait_for(lambda: accepts(port), argv[0])
            yield
        finally:
            process.terminate()


def shake_behind(worker, port):
    """The peer of a WebSocket that has come through a proxy."""
    with WsClient(("127.0.0.1", port)) as client:
        client.send_json({"jsonrpc": "2.0", "id": 1, "method": "who"})
        client.read_json()
        return worker.calls[-1].meta["peer"], own(client)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_behind_haproxy(site, mode):
    web, made = build(site)
    worker = made["app-1"]
    if mode == "tcp":
        behind = {"v1": ("proxied", "", "send-proxy check inter 100ms"),
                  "v2": ("proxied", "", "send-proxy-v2 check inter 100ms"),
                  "crc": ("proxied", "", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority")}
    else:
        behind = {"xff": ("xff", "option forwardfor", "")}
    ports = {name: free_port() for name in behind}
    text = HAPROXY % (mode, "".join(SECTION % (name, ports[name], option, web.ports[to], keys)
                                    for name, (to, option, keys) in behind.items()))
    with proxy(web, ["haproxy", "-db", "-f"], text, ports.values()):
        for port in ports.values():
            with Client(("127.0.0.1", port)) as client:
                assert peer_of(worker, client) == (own(client) if mode == "tcp" else "127.0.0.1:0")
            peer, address = shake_behind(worker, port)
            assert peer == (address if mode == "tcp" else "127.0.0.1:0")
    assert "PROXY header" not in web.front.text()


NGINX = """
daemon off;
pid {dir}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{front};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_behind_nginx(site):
    web, made = build(site)
    worker = made["app-1"]
    port = free_port()
    text = NGINX.format(dir=web.dir, port=port, front=web.ports["xff"])
    with proxy(web, ["nginx", "-e", "stderr", "-c"], text, [port]):
        with Client(("127.0.0.1", port)) as client:
            assert peer_of(worker, client) == "127.0.0.1:0"
            assert peer_of(worker, client, headers=[("X-Forwarded-For", "203.0.113.5")]) == "203.0.113.5:0", \
                "from what is a trusted proxy here too"
            assert peer_of(worker, client, headers=[("X-Forwarded-For", "6.6.6.6, 203.0.113.5, 10.0.0.1")]) == \
                "203.0.113.5:0"
        assert shake_behind(worker, port)[0] == "127.0.0.1:0"
