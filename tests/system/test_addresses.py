"""The addresses frontd listens on: taken, stale, not its own, too long."""
import os
import socket

import pytest

from harness import FRONTD, Program, rpc_route
from httpclient import Client


def fails_to_start(web, word):
    program = Program([FRONTD, "-c", web.write()], web.path("second.log"))
    try:
        assert program.wait(20) not in (0, None)
        program.check_log()
        assert word in program.text(), program.text()
    finally:
        program.kill()


def test_address_in_use(site):
    web = site()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)     # there may have been connections
        s.bind(web.address)
        s.listen()
        fails_to_start(web, str(web.port))


def test_of_two_starts_one_wins(site):
    web = site()
    web.fake()
    web.start()
    fails_to_start(web, "")
    for n in range(5):
        assert web.rpc("demo.echo", [n]).status == 200


def unix_site(site):
    web = site()
    web.address = web.path("web.sock")
    web.config["listeners"][0]["address"] = "unix:" + web.address
    return web


def test_unix_listener(site):
    web = unix_site(site)
    web.config["shards"] = 2
    web.fake()
    web.start()
    for n in range(10):
        assert web.rpc("demo.echo", [n]).status == 200
    web.front.stop()
    assert not os.path.exists(web.address)


def test_unix_listener_replaces_a_stale_socket(site):
    web = unix_site(site)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(web.address)
    web.fake()
    web.start()
    assert web.rpc("demo.echo", [1]).status == 200


def test_unix_listener_leaves_a_live_socket(site):
    web = unix_site(site)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(web.address)
        s.listen()
        fails_to_start(web, "web.sock")
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(web.address)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_unix_listener_removes_nothing_it_did_not_make(site, kind):
    web = unix_site(site)
    other = web.path("precious")
    with open(other, "w") as f:
        f.write("precious")
    if kind == "file":
        os.link(other, web.address)
    elif kind == "folder":
        os.mkdir(web.address)
    else:
        os.symlink(other, web.address)
    fails_to_start(web, "web.sock")
    assert os.path.lexists(web.address)
    with open(other) as f:
        assert f.read() == "precious"


def test_unix_path_too_long(site):
    web = unix_site(site)
    web.config["listeners"][0]["address"] = "unix:" + web.path("x" * 108)
    fails_to_start(web, "x" * 20)


def test_ipv6_listener(site):
    web = site()
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    web.config["listeners"].append({
        "name": "six", "address": "[::1]:%d" % web.port, "protocol": "http",
        "routes": [rpc_route(meta=["peer"])]})
    worker = web.fake()
    web.start()
    with Client(("::1", web.port)) as client:
        assert client.rpc("demo.echo", [6]).status == 200
    assert worker.calls[-1].meta["peer"].startswith("[::1]:")
