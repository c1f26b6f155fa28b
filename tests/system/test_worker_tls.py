"""Workers elsewhere: tls://, what they show and are shown, and where one is refused."""
import signal
import socket
import ssl
import threading

import pytest

from certs import issue, make
from harness import LIMIT, free_port, rpc_route, wait_for
from test_log_reasons import said


class Terminator:
    """Speaks TLS in front of a worker on a UNIX socket, as stunnel does."""

    def __init__(self, path, cert, ask_ca=None):
        self.port = free_port()
        self.path = path
        self.opened = []  # subjects of the clients' certificates, one for each channel
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*cert)
        if ask_ca:
            self.context.load_verify_locations(ask_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.settimeout(LIMIT)
        try:
            client = self.context.wrap_socket(sock, server_side=True)
            self.opened.append((client.getpeercert() or {}).get("subject"))
            worker = socket.socket(socket.AF_UNIX)
            worker.connect(self.path)
        except OSError:
            sock.close()
            return
        client.settimeout(0.01)  # one thread has the TLS, so that it is used by one at a time
        worker.settimeout(0.01)
        with client, worker:
            while self._pass(client, worker) and self._pass(worker, client):
                pass

    @staticmethod
    def _pass(source, to):
        try:
            data = source.recv(1 << 16)
        except (TimeoutError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        if not data:
            return False
        to.settimeout(LIMIT)
        try:
            to.sendall(data)
        except OSError:
            return False
        to.settimeout(0.01)
        return True

    def close(self):
        self.listener.close()


class Elsewhere:
    """A site whose workers are behind a Terminator."""

    def __init__(self, site, names="IP:127.0.0.1,DNS:worker.test", asks=False, **tls):
        self.web = web = site(routes=[rpc_route()], shards=2)
        self.ca = make(web.dir, "ca.test")
        cert = issue(web.dir, self.ca, "worker.test", names)
        self.terminator = Terminator(web.path("app-1.sock"), cert, self.ca[0] if asks else None)
        pool = web.config["pools"][0]
        pool["workers"] = ["tls://127.0.0.1:%d" % self.terminator.port]
        pool["wait_for_worker"] = "200ms"
        pool["tls"] = {"ca": self.ca[0], **tls}
        self.tls = pool["tls"]

    def add_own(self):
        cert, key = issue(self.web.dir, self.ca, "front.test", "DNS:front.test")
        self.tls.update(cert=cert, key=key)


@pytest.fixture
def elsewhere(site):
    made = []

    def make_one(**keys):
        made.append(Elsewhere(site, **keys))
        return made[-1]

    yield make_one
    for one in made:
        one.terminator.close()


def test_calls_over_reloads(elsewhere):
    there = elsewhere(asks=True)
    there.add_own()
    web = there.web
    web.workerd()
    web.start()
    large = "x" * 300_000
    for number in (None, signal.SIGHUP, signal.SIGUSR2):
        if number is not None:
            done = web.front.text().count("the old shards are gone")
            channels = len(there.terminator.opened)
            web.front.signal(number)
            wait_for(lambda: web.front.text().count("the old shards are gone") > done, "a reload")
            wait_for(lambda: len(there.terminator.opened) >= channels + 2, "channels of new shards")
        for text in ("small", large):
            assert web.rpc("demo.echo", [text]).json()["result"] == [text]
    assert there.terminator.opened[0] == ((("commonName", "front.test"),),)


def test_the_name_may_be_said(elsewhere):
    there = elsewhere(names="DNS:worker.test", server_name="worker.test")
    there.web.workerd()
    there.web.start()
    assert there.web.rpc("demo.echo", [1]).json()["result"] == [1]


def speak_another(sock, **_):
    """Waits for the front's end: one with bytes unread would be a reset, and may overtake the answer."""
    sock.recv(1 << 16)
    sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    while sock.recv(1 << 16):
        pass
    raise OSError


@pytest.mark.parametrize("what", ["name", "authority", "no certificate", "no TLS"])
def test_what_is_refused(elsewhere, what):
    there = elsewhere(names="DNS:worker.test" if what == "name" else "IP:127.0.0.1", asks=what == "no certificate")
    web = there.web
    if what == "authority":
        there.tls["ca"] = make(web.dir, "other.test")[0]
    if what == "no TLS":
        there.terminator.context.wrap_socket = speak_another
    worker = web.fake()
    web.start(ready=False)
    why = {"name": "IP address mismatch", "authority": "unable to get local issuer certificate",
           "no certificate": "alert", "no TLS": "wrong version number"}[what]
    said(web, r"pool app: worker tls://127\.0\.0\.1:%d: .*%s" % (there.terminator.port, why))
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 503, "an answer that there is no worker")
    assert not worker.calls


def test_files_that_are_wrong(site):
    web = site(routes=[rpc_route()])
    pool = web.config["pools"][0]
    pool.update(workers=["tls://127.0.0.1:9"], tls={"ca": web.path("none.pem")})
    web.start(ready=False)
    web.front.wait()
    assert "pools[0].tls.ca: %s of pool app: cannot read it" % web.path("none.pem") in web.front.text()
    web.front = None
