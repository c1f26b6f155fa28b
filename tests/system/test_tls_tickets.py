"""What of TLS outlives processes: keys of session tickets, certificates that are loaded anew, connections that stay."""
import os
import re
import shutil
import signal
import socket
import ssl

import pytest

import harness
from certs import make, pair
from fakeworker import echo
from harness import LIMIT, free_port, rpc_request, rpc_route, wait_for
from patience import patient, within
from reloads import HUP, SLOW, USR2

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Https:
    """A client that keeps its sessions, as a browser does."""

    def __init__(self, port, version=ssl.TLSVersion.TLSv1_3):
        self.port = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version

    def connect(self, session=None):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT * SLOW)
        return self.context.wrap_socket(sock, session=session)

    def session(self, session=None):
        """Does a call over a connection of its own. Returns its session, and whether it was resumed."""
        with self.connect(session) as sock:
            ask(sock)  # in 1.3 tickets come after the handshake
            return sock.session, sock.session_reused


def ask(sock):
    sock.sendall(rpc_request("demo.echo", ["hello"]))
    got = b""
    while not got.endswith(b'"hello"]}'):
        more = sock.recv(4096)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 200 ")


def start(front, shards=2, **tls):
    """A site with a plain listener and one with TLS; its port is site.https."""
    site = front(shards=shards, routes=[rpc_route()])
    site.https = free_port()
    site.files = make(site.dir)
    site.config["listeners"].append({
        "name": "https", "address": "127.0.0.1:%d" % site.https, "protocol": "http", "routes": [rpc_route()],
        "tls": {"certificates": [pair(site.files)], **tls}})
    site.fake(handler=echo)
    site.start()
    return site


def kill_shards(site):
    before = site.shards()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(site.shards()) == len(before) and not set(before) & set(site.shards()), "new shards",
             LIMIT * SLOW)


def kill_supervisor(site):
    gone = site.count("the old shards are gone")
    site.front.signal(signal.SIGKILL)
    site.front.wait()
    site.launch()
    site.wait_log("the old shards are gone", gone + 1)


def test_sessions_are_resumed_whatever_ends(front):
    """By any of three shards, with the tickets that the first ones gave."""
    site = start(front, shards=3)
    clients = [Https(site.https, version) for version in VERSIONS]
    firsts = [client.session() for client in clients]
    assert all(first.has_ticket and not resumed for first, resumed in firsts)
    for ends in (lambda: None, site.reload, lambda: site.reload(USR2), lambda: kill_shards(site),
                 lambda: kill_supervisor(site), lambda: kill_shards(site)):
        ends()
        for client, (first, _) in zip(clients, firsts):
            assert all(client.session(first)[1] for _ in range(3))
    with open(site.path("run/supervisor.json")) as f:
        record = f.read()
    assert "tickets" not in record and "tls_fd" not in record


def test_without_tickets_no_session_is_resumed(front):
    site = start(front, shards=1, tickets="off")
    for version in VERSIONS:
        client = Https(site.https, version)
        first, _ = client.session()
        assert not (first and first.has_ticket) and not client.session(first)[1]


@pytest.mark.skipif(harness.sanitized(), reason="its clock is that of the system")
@patient()
def test_keys_change_by_themselves(front, clock):
    """Of `tickets: 2m` a new key is made each minute, and one is good for three: two seconds each, and six."""
    with clock:
        site = start(front, shards=1, tickets="2m")
    client = Https(site.https)
    first, _ = client.session()
    with within(3.9):       # it is good for two minutes at least
        assert client.session(first)[1]
    wait_for(lambda: not client.session(first)[1], "the end of the first key", interval=0.5)
    with within(3.9):
        assert client.session(client.session()[0])[1], "there is no other key"


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_new_certificates_are_for_new_handshakes(front, number):
    """As certbot does it: the file that the config names is another one by now. Connections stay."""
    site = start(front)
    client = Https(site.https)
    with client.connect() as old:
        ask(old)
        before = old.getpeercert(True)
        os.mkdir(site.path("new"))
        for new, file in zip(make(site.path("new"), "b.test"), site.files):
            os.rename(new, file)
        with client.connect() as other:
            assert other.getpeercert(True) == before
        site.reload(number)
        with client.connect() as other:
            ask(other)
            assert other.getpeercert(True) != before
        ask(old)
        # What is wrong is not loaded, and a shard that is started again has what the others have.
        shutil.copy(make(site.path("new"), "c.test")[1], site.files[1])
        site.refused("the key does not belong to the certificate", number)
        kill_shards(site)
        with client.connect() as other:
            assert other.getpeercert(True) != before
    # What was loaded is in the log, and nothing of a key.
    with open(site.files[1]) as f:
        key = [line for line in f.read().splitlines() if "-----" not in line]
    said = site.log_text()
    assert len(re.findall(r"certificates read: 1, of which %s is the first to expire, on \d{4}-\d\d-\d\d\n" %
                          re.escape(site.files[0]), said)) == 2
    assert "PRIVATE KEY" not in said and not [line for line in key if line in said]
