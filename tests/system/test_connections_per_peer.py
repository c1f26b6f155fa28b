"""limits.connections_per_peer for IPv6: a peer is its network, limits.peer_prefix bits of its address."""
import contextlib
import shutil
import socket
import subprocess

import pytest

from harness import wait_for
from httpclient import Client, Closed
from reloads import HUP, USR2

SAME = ["2001:db8:0:1::%x" % n for n in (1, 2, 0xffff)] + ["2001:db8:0:1:8000::1"]     # one /64, two /65
OTHER = ["2001:db8:0:2::1", "2001:db8:0:3::1"]
ADDRESSES = SAME + OTHER


def usable():
    """Whether clients can come from these addresses here: they are put on the loopback of a network of our own."""
    with open("/proc/self/net/dev") as f:
        others = [line for line in f.readlines()[2:] if line.split(":")[0].strip() != "lo"]
    if others or shutil.which("ip") is None:
        return False    # the network of the machine is left as it is
    for address in ADDRESSES:
        subprocess.run(["ip", "-6", "addr", "add", address + "/128", "dev", "lo", "nodad"],
                       stderr=subprocess.DEVNULL)
    try:
        for address in ADDRESSES:
            with socket.socket(socket.AF_INET6) as sock:
                sock.bind((address, 0))
    except OSError:
        return False
    return True


def from_address(web, address):
    """A client that comes from there, if it is let in; else None."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = Client.__new__(Client)
    client.sock = socket.socket(family)
    client.sock.settimeout(10)
    client.buffer, client.eof = bytearray(), False
    try:
        client.sock.bind((address, 0))
        client.sock.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", web.port))
        if client.rpc("demo.echo", [1]).status == 200:
            return client
    except (OSError, Closed):
        pass
    client.close()
    return None


def build(make, shards=2, **limits):
    web = make(shards=shards, limits={"connections_per_peer": 2, **limits})
    web.config["listeners"].append({**web.config["listeners"][0], "name": "six", "address": "[::1]:%d" % web.port})
    web.fake()
    return web.start()


@contextlib.contextmanager
def let_in(web, addresses):
    """Clients from these addresses, all of which are let in."""
    clients = [wait_for(lambda: from_address(web, address), "a client from " + address) for address in addresses]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def test_the_loopback(site):
    web = build(site)
    with let_in(web, ["::1", "::1", "127.0.0.1", "127.0.0.1"]):
        assert from_address(web, "::1") is None
        assert from_address(web, "127.0.0.1") is None
        with let_in(web, ["127.0.0.2"]):
            pass


needs_network = pytest.mark.skipif(not usable(), reason="no network of its own with IPv6")


@needs_network
@pytest.mark.parametrize("prefix,refused,accepted", [
    (62, SAME + OTHER, ["::1"]), (63, SAME, OTHER[:1]), (64, SAME, OTHER), (65, SAME[:3], SAME[3:] + OTHER),
    (128, SAME[:2], SAME[2:] + OTHER)])
def test_a_network_is_one_peer(site, prefix, refused, accepted):
    web = build(site, peer_prefix=prefix)
    first = refused[:1] * 2 if prefix == 128 else refused[:2]
    with let_in(web, first):
        for address in refused[:1] if prefix == 128 else refused:
            assert from_address(web, address) is None, address
        with let_in(web, accepted):
            pass


@needs_network
@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_a_reload_changes_the_prefix(front, number):
    """Those that are in stay, are counted anew where they are, and are taken back as they were counted."""
    web = build(front, peer_prefix=128)
    with let_in(web, SAME) as clients:
        for prefix in (64, 128, 48, 65):
            web.reload(number, limits={"connections_per_peer": 2, "peer_prefix": prefix})
            for client in clients:
                assert client.rpc("demo.echo", [prefix]).status == 200
            admitted = from_address(web, SAME[0])
            assert (admitted is None) == (prefix != 128), prefix
            if admitted:
                admitted.close()
        web.reload(number, limits={"connections_per_peer": 2, "peer_prefix": 64})
    for _ in range(3):
        with let_in(web, SAME[:2]):
            assert from_address(web, SAME[2]) is None
    assert web.count("was ended by signal") == 0
