"""TLS, and HTTP/2 over it, as clients written by others speak them. Connections that stay see one reload each."""
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import textwrap

import pytest

import certs
import chromium
import nodejs
from fakeworker import echo
from harness import FRONTD, LIMIT, ROOT, Program, free_port, http_route, rpc_route, wait_for, ws_route
from reloads import USR2, Front


def answer(call):
    if call.method == "http.request" and call.params["path"] == "/page":
        call.http(200, [("content-type", "text/html")], b"<!doctype html><title>a page</title>")
    else:
        echo(call)


@pytest.fixture(scope="module")
def web():
    """A site whose listener `tls` has a certificate of a.test and localhost; `site.ca` is who has issued it."""
    with Front(shards=2, drain="10s", routes=[rpc_route(), ws_route(meta=["peer"]), http_route(meta=["peer"])]) as site:
        authority = certs.make(site.dir, "ca")
        site.ca = authority[0]
        site.files = certs.issue(site.dir, authority, "a.test", "DNS:a.test,DNS:localhost")
        for name, keys in (("tls", {}), ("h2ws", {"h2_websocket": True})):
            site.ports[name] = free_port()
            site.config["listeners"].append({
                "name": name, "address": "127.0.0.1:%d" % site.ports[name], **keys,
                "routes": site.config["listeners"][0]["routes"], "tls": {"certificates": [certs.pair(site.files)]}})
        site.fake(handler=answer)
        yield site.start()


def url(web, path="/echo", host="localhost", listener="tls"):
    return "https://%s:%d%s" % (host, web.ports[listener], path)


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason="needs " + program)


class Talk:
    """A program that reads lines, and what it has written, stdout and stderr in one."""

    def __init__(self, web, argv, env=None):
        self.path = web.path(os.path.basename(argv[0]) + ".out")
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=out, stderr=out)
        self.heard = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def text(self):
        with open(self.path, errors="replace") as f:
            return f.read()

    def say(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def hear(self, words):
        """Waits for words behind those that were heard before."""
        ended = lambda: self.process.poll() is not None
        wait_for(lambda: words in self.text()[self.heard:] or ended(), "%r in %s" % (words, self.path), 3 * LIMIT)
        found = self.text().find(words, self.heard)
        assert found >= 0, self.text()
        self.heard = found + len(words)

    def ask(self, n):
        """A call over HTTP/1.1. A line ends it, behind which these programs look for commands."""
        body = json.dumps({"jsonrpc": "2.0", "id": n, "method": "demo.echo", "params": [n]}) + "\n"
        self.say("POST /rpc HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                 % (len(body), body))
        self.hear('"id":%d,"result":[%d]}' % (n, n))

    def ended(self):
        return self.process.wait(3 * LIMIT)


# Programs that ask once

def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * LIMIT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@needs("curl")
@pytest.mark.parametrize("version,http", [("1.2", "1.1"), ("1.2", "2"), ("1.3", "1.1"), ("1.3", "2")])
def test_curl(web, version, http):
    """A body there and back, twice on one connection."""
    body = web.path("body")
    with open(body, "wb") as f:
        f.write(os.urandom(300_000))
    got = [web.path("got-1"), web.path("got-2")]
    request = ["-sS", "--cacert", web.ca, "--resolve", "a.test:%d:127.0.0.1" % web.ports["tls"], "--tls-max", version,
               "--http%s" % http, "--data-binary", "@" + body, "-w", "%{http_version} %{http_code} %{num_connects}\n"]
    address = url(web, host="a.test")
    said = run("curl", *request, "-o", got[0], address, "--next", *request, "-o", got[1], address)
    assert said.split("\n")[:2] == [http + " 200 1", http + " 200 0"]
    for path in got:
        with open(body, "rb") as one, open(path, "rb") as other:
            assert one.read() == other.read()


@needs("h2load")
@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_h2load(web, protocol):
    """Every connection has requests in progress when the binary is replaced, and more of them behind these: nothing
    fails, and all connections move."""
    worker, held, count, clients = web.workers[0], [], 2000, 8
    worker.forget()
    worker.handler = lambda call: answer(call) if len(worker.calls) < 100 else held.append(call)
    who = lambda: {call.meta["peer"] for call in list(worker.calls)}
    moved = re.compile(r" (\d+) connections were handed over")
    before = len(moved.findall(web.log_text()))
    argv = ["h2load", "-n", str(count), "-c", str(clients), "-m", "10", "--npn-list=" + protocol,
            url(web, host="127.0.0.1")]
    try:
        with Talk(web, argv) as load:
            wait_for(lambda: len(held) >= clients and len(who()) == clients, "calls of all connections")
            web.reload(USR2, gone=False)
            worker.handler = answer

            def done():
                while held:
                    answer(held.pop())
                return load.process.poll() is not None
            wait_for(done, "the end of the load", 3 * LIMIT)
            assert load.ended() == 0
            text = load.text()
    finally:
        worker.handler = answer
    assert "Application protocol: " + protocol in text
    assert "%d succeeded, 0 failed, 0 errored, 0 timeout" % count in text, text
    web.wait_log("the old shards are gone", web.generation() - 1)
    assert sum(map(int, moved.findall(web.log_text())[before:])) == clients


# openssl s_client and gnutls-cli: new keys, asked for and not, and what TLS 1.2 had in their place

def s_client(web, *options):
    return Talk(web, ["openssl", "s_client", "-connect", "127.0.0.1:%d" % web.ports["tls"], "-servername", "a.test",
                      "-verify_hostname", "a.test", "-CAfile", web.ca, "-verify_return_error", *options])


@needs("openssl")
def test_openssl_keys(web):
    with s_client(web, "-alpn", "http/1.1", "-msg") as talk:
        talk.ask(1)
        for n, command in enumerate("KkKkK", 2):
            talk.say(command + "\n")
            talk.hear("KEYUPDATE")
            if n == 4:
                web.reload(USR2)
            talk.ask(n)
        talk.say("Q\n")
        assert talk.ended() == 0
        text = talk.text()
        assert "Verification: OK" in text and "ALPN protocol: http/1.1" in text
        assert text.count(">>> TLS 1.3, Handshake [length 0005], KeyUpdate") == 5
        assert text.count("<<< TLS 1.3, Handshake [length 0005], KeyUpdate") == 3     # K asks for one


@needs("openssl")
def test_openssl_renegotiation(web):
    with s_client(web, "-tls1_2") as talk:
        talk.ask(1)
        web.reload(USR2)
        talk.ask(2)
        talk.say("R\n")
        talk.hear("no renegotiation")
        assert talk.ended() != 0


def gnutls_cli(web, priority):
    return Talk(web, ["gnutls-cli", "--inline-commands", "--priority", priority, "--x509cafile", web.ca,
                      "--sni-hostname", "a.test", "--verify-hostname", "a.test", "--alpn", "http/1.1",
                      "-p", str(web.ports["tls"]), "127.0.0.1"])


@needs("gnutls-cli")
@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"])
def test_gnutls_keys(web, cipher):
    with gnutls_cli(web, "NORMAL:-CIPHER-ALL:+" + cipher) as talk:
        talk.hear("(TLS1.3-X.509)")
        talk.hear("(%s)" % cipher)
        talk.ask(1)
        for n, command in enumerate(["^rekey^", "^rekey1^", "^rekey^"], 2):
            talk.say(command + "\n")
            talk.hear("Rekey was completed")
            if n == 3:
                web.reload(USR2)
            talk.ask(n)
        talk.process.stdin.close()
        talk.hear("Peer has closed the GnuTLS connection")
        assert talk.ended() == 0


@needs("gnutls-cli")
def test_gnutls_renegotiation(web):
    with gnutls_cli(web, "NORMAL:-VERS-TLS1.3") as talk:
        talk.hear("(TLS1.2-X.509)")
        talk.ask(1)
        web.reload(USR2)
        talk.ask(2)
        talk.say("^renegotiate^\n")
        talk.hear("No renegotiation")
        assert talk.ended() != 0


# Libraries

@pytest.mark.parametrize("http", ["HTTP/1.1", "HTTP/2"])
def test_httpx(web, http):
    httpx = pytest.importorskip("httpx", reason="Debian's python3-httpx is not installed")
    worker = web.workers[0]
    worker.forget()
    with httpx.Client(http2=http == "HTTP/2", verify=web.ca, timeout=3 * LIMIT, trust_env=False) as client:
        for n in range(6):
            if n == 3:
                web.reload(USR2)
            body = os.urandom(100_000)
            got = client.post(url(web), content=body)
            assert (got.status_code, got.http_version) == (200, http) and got.content == body
    assert len(worker.calls) == 6 and len({call.meta["peer"] for call in worker.calls}) == 1


def test_node(web):
    argv, env = nodejs.command("tls.js", str(web.ports["tls"]), web.ca)
    with Talk(web, argv, env) as talk:
        talk.hear("ready\n")
        web.reload(USR2)
        talk.say("go on\n")
        talk.hear("all done\n")
        assert talk.ended() == 0


@needs("go")
def test_go(web):
    """Its net/http over both versions of HTTP, and its sessions."""
    program = web.path("go-tls")
    env = {**os.environ, "GO111MODULE": "off", "GOCACHE": web.path("go-cache"), "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", program, os.path.join(ROOT, "tests", "system", "go", "tls.go")], env=env,
                   check=True, timeout=10 * LIMIT)
    with Talk(web, [program, str(web.ports["tls"]), web.ca]) as talk:
        talk.hear("ready\n")
        web.reload(USR2)
        talk.say("go on\n")
        talk.hear("all done\n")
        assert talk.ended() == 0


# The browser

ASKS = """
Promise.all([...Array(10).keys()].map(async (n) => {
  const body = "x".repeat(n * 10000);
  const response = await fetch("/echo", { method: "POST", body });
  return response.status === 200 && await response.text() === body;
})).then((all) => all.every((one) => one))
"""
OPENS = """
new Promise((give, refuse) => {
  window.closed = 0;
  window.socket = new WebSocket(`wss://${location.host}/ws`);
  socket.onopen = () => give(true);
  socket.onerror = socket.onclose = () => { window.closed++; refuse(new Error("closed")); };
})
"""
CALLS = """
new Promise((give) => {
  socket.onmessage = (event) => give(JSON.parse(event.data).result[0].length);
  socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "demo.echo", params: ["x".repeat(70000)] }));
})
"""


def pin(cert):
    """The hash of a certificate's public key, by which Chromium takes it for valid."""
    pem = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def peers_of(worker):
    """From where requests have come, and from where messages of WebSockets."""
    of = [set(), set()]
    for call in list(worker.calls):
        of[call.method != "http.request"].add(call.meta["peer"])
    return of


@pytest.mark.skipif(chromium.PROGRAM is None, reason="needs chromium")
def test_chromium(web, tmp_path):
    web.workers[0].forget()  # the calls of other tests
    with chromium.Chromium(tmp_path, "--host-resolver-rules=MAP a.test 127.0.0.1",
                           "--ignore-certificate-errors-spki-list=" + pin(web.files[0])) as browser:
        page = browser.open(url(web, "/page", "a.test"))
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        assert page.evaluate(OPENS) and page.evaluate(ASKS) and page.evaluate(CALLS) == 70000
        page.evaluate("performance.clearResourceTimings()")
        worker = web.workers[0]
        http, socket = peers_of(worker)
        assert len(http) == len(socket) == 1 and http != socket
        # Where WebSocket over HTTP/2 is announced, that is what it uses: all is on one connection, which moves.
        worker.forget()
        other = browser.open(url(web, "/page", "a.test", "h2ws"))
        assert other.evaluate(OPENS) and other.evaluate(ASKS) and other.evaluate(CALLS) == 70000
        web.reload(USR2)
        assert other.evaluate(ASKS) and other.evaluate(CALLS) == 70000 and other.evaluate("closed") == 0
        http, socket = peers_of(worker)
        assert len(http) == 1 and http == socket
        assert other.problems() == []
        assert page.evaluate(ASKS) and page.evaluate(CALLS) == 70000 and page.evaluate("closed") == 0
        entries = json.loads(page.evaluate("JSON.stringify(performance.getEntriesByType('resource'))"))
        assert len(entries) == 10 and {entry["nextHopProtocol"] for entry in entries} == {"h2"}
        assert all(entry["connectStart"] == entry["connectEnd"] for entry in entries), "a new connection"
        assert page.problems() == []


# What the documents have a new user do

def test_https_in_five_minutes(site):
    """The commands of docs/operating.md, in its order, in a folder of their own."""
    web = site(shards=2)
    with open(os.path.join(ROOT, "docs", "operating.md")) as f:
        text = f.read().split("\n## Certificates\n")[1].split("\n**")[0]
    blocks = re.findall(r"(?:^    .*\n)+", text, re.M)
    make, listener, ask = (textwrap.dedent(block.replace("/etc/", web.dir + "/").replace("/run/frontd", web.path("run"))
                                           .replace("8443", str(web.port))) for block in blocks)
    with open(os.path.join(ROOT, "docs", "example.yaml")) as f:
        config = f.read().replace("/run/frontd", web.path("run")).replace("shards: auto", "shards: 2")
    os.mkdir(web.path("run"), 0o750)
    web.fake("run/app-1", handler=answer)
    web.write(config.replace("127.0.0.1:8080", "127.0.0.1:%d" % web.port))
    web.front = Program([FRONTD, "-c", web.path("frontd.yaml")], web.path("frontd.log"))
    web.wait_served()
    run("sh", "-ec", make)
    head = re.compile(r"listeners:\n  - name: web\n    address: .*\n")
    assert head.search(config)
    web.write(head.sub(lambda _: listener, config))
    check, hup, curl = ask.splitlines()
    assert run("sh", "-ec", check.replace("frontd ", FRONTD + " ", 1)) == ""
    run("sh", "-ec", hup)
    wait_for(lambda: "the old shards are gone" in web.front.text(), "the end of the reload")
    for option, version in (("", "2"), (" --http1.1", "1.1")):
        assert run("sh", "-ec", curl + option + " -sS -w '%{http_version} %{http_code}'") == version + " 200"
