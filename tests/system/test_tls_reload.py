"""Connections over TLS move to the next shards as others do, and no key is ever used by two processes with the same
nonce, whatever is killed when. (tests/unit/shard/test_two_shards.c cuts the hand-over at each of its messages.)"""
import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import pytest

import certs
import seallog
from harness import LIMIT, rpc_route, wait_for, ws_route
from httpclient import Client, Closed, rpc_body, rpc_request
from reloads import HUP, SLOW, USR2, Paused, call
from tlsclient import V12, V13, context
from tlsrecords import Records
from wsclient import StreamClient, WsClient

SUITES = [(V13, None), (V12, "ECDHE-ECDSA-AES128-GCM-SHA256"), (V12, "ECDHE-ECDSA-AES256-GCM-SHA384"),
          (V12, "ECDHE-ECDSA-CHACHA20-POLY1305")]
KINDS = ["http", "ws", "frame"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certs.pair(certs.make(str(tmp_path_factory.mktemp("certs"))))


@pytest.fixture
def over_tls(front, pair, monkeypatch):
    """Starts a front whose listeners web, frame and line have tls; when the test is over, no key was used twice."""
    sites = []

    def make(**keys):
        keys.setdefault("shards", 2)
        site = front(routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, **keys)
        for listener in site.config["listeners"]:
            listener["tls"] = {"certificates": [pair]}
        site.seals = site.path("seals")
        monkeypatch.setenv("FRONTD_SEAL_LOG", site.seals)
        sites.append(site)
        site.fake()
        site.write()
        site.launch(ready=False)
        site.workers[0].wait_ready(site.config["shards"])
        site.wait_log("ready: ")
        return site

    yield make
    for site in sites:
        records, shards = seallog.check(site.seals)
        assert (records > 0 and shards > 1) == seallog.is_on()


def connect(site, kind, suite):
    tls = Records(context(*suite))
    if kind == "http":
        return Client(site.address, tls=tls)
    if kind == "ws":
        return WsClient(site.address, tls=tls)
    return StreamClient(("127.0.0.1", site.ports[kind]), kind, tls=tls)


def framed(client, n):
    """A call as its kind of connection sends it."""
    if type(client) is Client:
        return rpc_request("demo.echo", [n])
    return client.wrap(rpc_body("demo.echo", [n], n))


def answered(client, n):
    answer = client.read_response().json() if type(client) is Client else client.read_json()
    assert answer["result"] == [n], answer


def everywhere(site):
    return [connect(site, kind, suite) for kind in KINDS for suite in SUITES]


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_in_mid_record(over_tls, number):
    """Each connection has a part of a record with the old shard; over the reloads it comes a part at a time."""
    site = over_tls()
    clients = everywhere(site)
    cuts = [1, 4, 5, 6, 20, -1]
    for client in clients:
        call(client)
    for turn in range(2):
        rest = []
        for n, client in enumerate(clients):
            record = client.sock.seal(framed(client, n))
            cut = cuts[(n + turn) % len(cuts)]
            client.sock.raw.sendall(record[:cut])
            rest.append(record[cut:])
        site.reload(number)
        for n, client in enumerate(clients):
            client.sock.raw.sendall(rest[n][:1])
        if turn == 0:
            site.reload(number)
        for n, client in enumerate(clients):
            client.sock.raw.sendall(rest[n][1:])
        for n, client in enumerate(clients):
            answered(client, n)
    for client in clients:
        call(client)
        client.close()


def test_unread_and_ending(over_tls):
    """Records that the old shard has not read, and half of a close_notify."""
    site = over_tls()
    clients, ends = everywhere(site), everywhere(site)
    for client in clients + ends:
        call(client)
    rest = []
    for client in ends:
        notify = client.sock.seal_end()
        client.sock.raw.sendall(notify[:7])
        rest.append(notify[7:])
    with Paused(site.shards()):
        for client in clients:
            for n in range(3):
                client.send(framed(client, n))
        site.say()
    site.wait_log("the old shards are gone")
    for client in clients:
        for n in range(3):
            answered(client, n)
        call(client)
    for client, left in zip(ends, rest):
        client.sock.raw.sendall(left)
    for client in ends:
        assert client.sock.recv(1000) == b"" or type(client) is WsClient
        client.close()
    for client in clients:
        client.close()


SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


def test_keys_are_updated(over_tls):
    """By openssl(1), before the reload and after it, each side's."""
    site = over_tls()
    peers = [subprocess.Popen(
        ["openssl", "s_client", "-connect", "127.0.0.1:%d" % site.ports["line"], "-tls1_3", "-ciphersuites", suite],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for suite in SUITES_13]
    end = lambda: [peer.kill() for peer in peers]
    limit = threading.Timer(3 * LIMIT, end)
    limit.start()

    def tell(text, answer):
        """What is told next would be data with the text, unless openssl has read that by then."""
        for peer in peers:
            peer.stdin.write(text + b"\n")
            peer.stdin.flush()
        for peer in peers:
            assert any(answer in line for line in peer.stdout), "no answer to %r" % text

    try:
        for n, command in enumerate([b"K", b"k", None, b"k", b"K"]):
            tell(rpc_body("demo.echo", [n], n), b'"result":[%d]' % n)
            if command is None:
                site.reload()
            else:
                tell(command, b"KEYUPDATE")
        tell(rpc_body("demo.echo", [99], 99), b'"result":[99]')
    finally:
        limit.cancel()
        end()
        for peer in peers:
            peer.communicate()


def test_pushes_come_once(over_tls):
    """While connections move, on both sides' channels: none is lost, none comes twice."""
    site = over_tls()
    worker = site.workers[0]
    clients = [connect(site, kind, suite) for kind in ("ws", "frame") for suite in SUITES]
    ids = []
    worker.handler = lambda call: call.reply({"conn": str(call.conn), "shard": 0})
    for client in clients:
        ids.append(client.who()[0])
    got, sent, closing = [[] for _ in clients], [0] * len(clients), threading.Event()

    def publish():
        while not closing.is_set():
            for at, conn in enumerate(ids):
                for channel in worker.live():
                    if channel.ready:
                        channel.push(conn, b'{"n":%d}' % sent[at])
                        sent[at] += 1
                        break
            time.sleep(0.002)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for number in (HUP, USR2):
            site.reload(number)
    finally:
        closing.set()
        thread.join()
    for at, client in enumerate(clients):
        while len(got[at]) < sent[at]:
            got[at].append(client.read_json()["n"])
        assert sorted(got[at]) == list(range(sent[at]))
        client.close()
    assert min(sent) > 20


@pytest.mark.parametrize("victim", ["old", "new"])
def test_shards_are_killed(over_tls, victim):
    """While they hand connections over. Those of shards that live are all there, and calls go on on them."""
    site = over_tls(drain="5s")
    clients = [connect(site, KINDS[n % 3], SUITES[n % 4]) for n in range(120)]
    chance = random.Random(7)
    for _ in range(3):
        old = site.shards()
        served = site.count(" serves: ")
        site.front.signal(HUP)
        wait_for(lambda: site.count(" serves: ") > served, "the switch", 2 * LIMIT * SLOW, interval=0)
        time.sleep(chance.random() * 0.01)
        there = old if victim == "old" else [pid for pid in site.shards() if pid not in old]
        with contextlib.suppress(ProcessLookupError):  # it may be through with it
            if there:
                os.kill(chance.choice(there), signal.SIGKILL)
        wait_for(lambda: not set(old) & set(site.shards()) and len(site.shards()) == 2, "one generation",
                 3 * LIMIT * SLOW)
        stay = []
        for client in clients:
            try:
                call(client)
                stay.append(client)
            except (OSError, Closed):       # it was the victim's
                client.close()
        assert len(stay) >= 10, "connections of a shard that lives are lost"
        clients = stay + [connect(site, KINDS[n % 3], SUITES[n % 4]) for n in range(120 - len(stay))]
    for client in clients:
        client.close()


@pytest.mark.parametrize("which", ["old", "new"])
def test_shards_are_stopped(over_tls, which):
    """In the middle of the hand-over, and go on: both sides wait, and no connection is lost."""
    site = over_tls(drain="20s")
    clients = [connect(site, KINDS[n % 3], SUITES[n % 4]) for n in range(60)]
    old = site.shards()
    served, ended = site.count(" serves: "), site.count("are gone")
    site.front.signal(HUP)
    wait_for(lambda: site.count(" serves: ") > served, "the switch", 2 * LIMIT * SLOW, interval=0)
    with Paused(old if which == "old" else [pid for pid in site.shards() if pid not in old]):
        time.sleep(0.3)
    site.wait_log("are gone", ended + 1)
    for client in clients:
        call(client)
        client.close()


def test_the_supervisor_is_killed(over_tls):
    """While connections move to shards that it has just started."""
    site = over_tls(drain="5s")
    clients = [connect(site, KINDS[n % 3], SUITES[n % 4]) for n in range(24)]
    served = site.count(" serves: ")
    site.front.signal(USR2)
    wait_for(lambda: site.count(" serves: ") > served, "the switch", 2 * LIMIT * SLOW, interval=0)
    site.front.signal(signal.SIGKILL)
    site.front.wait()
    for client in clients:
        call(client)
    site.launch(ready=False)
    wait_for(lambda: sorted(site.family()) == sorted(site.shards() + [site.front.pid]) and len(site.shards()) == 2 and
             site.count("are gone") > 0, "one generation", 3 * LIMIT * SLOW)
    for client in clients:
        call(client)
        client.close()
