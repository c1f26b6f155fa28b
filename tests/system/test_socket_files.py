"""A socket's file that was removed or replaced, of listeners and of workers; and pools that new shards do not
reach."""
import glob
import os
import re
import signal
import socket

import pytest

from harness import LIMIT, Load, wait_for
from reloads import HUP, USR2
from test_managed_workers import children_of, managed, reload, serving, start, workers

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def local(site):
    """A front with a UNIX listener beside the other one."""
    site.config["listeners"].append({"name": "local", "address": "unix:" + site.path("l.sock"), "protocol": "line",
                                     "pool": "app"})
    site.fake()
    return site.start()


def ask(path, n=1):
    """One call over a `line` listener."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(path)
        return ask_on(sock, n)


def ask_on(sock, n):
    sock.sendall(b'{"jsonrpc":"2.0","id":%d,"method":"demo.echo","params":[%d]}\n' % (n, n))
    got = b""
    while not got.endswith(b"\n"):
        piece = sock.recv(4096)
        assert piece, got
        got += piece
    return b'"result":[%d]' % n in got


@BOTH
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_listener_whose_path_is_gone(front, number, how):
    site = local(front(shards=2))
    path = site.path("l.sock")
    with socket.socket(socket.AF_UNIX) as old:
        old.connect(path)
        assert ask_on(old, 1)
        os.unlink(path)
        if how == "replaced":       # by a socket that nobody listens on
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
        with pytest.raises(OSError):
            ask(path)
        site.reload(number)
        assert site.count("listener local: %s was %s, it is bound again" % (path, how)) == 1
        assert all(ask(path, n) for n in range(20))
        assert ask_on(old, 2), "the connection from before"
    site.reload(number)
    assert site.count("it is bound again") == 1
    assert all(ask(path, n) for n in range(5))
    assert site.connections() == 0


def test_a_path_that_is_somebody_elses_now(front):
    """Nothing that is alive is taken away: the reload comes to nothing, and says why."""
    site = local(front())
    path = site.path("l.sock")
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        site.refused("listener local: %s was replaced, and cannot be bound again: somebody listens there" % path)
    os.unlink(path)
    with open(path, "w") as f:
        f.write("precious")
    site.refused("was replaced, and cannot be bound again: there is a file of that name that is no socket")
    with open(path) as f:
        assert f.read() == "precious"
    os.unlink(path)
    site.reload()
    assert ask(path)


def test_a_reload_that_fails_leaves_no_path(front):
    site = local(front())
    os.unlink(site.path("l.sock"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        site.refused("cannot listen on", listeners=site.config["listeners"] + [
            {"name": "taken", "address": "127.0.0.1:%d" % other.getsockname()[1], "protocol": "line", "pool": "app"}])
    assert not os.path.exists(site.path("l.sock"))
    site.reload()
    assert ask(site.path("l.sock"))


def sockets(web):
    return sorted(glob.glob(web.path("run/workers/*.sock")))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=["hup", "usr2"])
@pytest.mark.parametrize("how", ["removed", "replaced", "with their folder"])
def test_sockets_of_our_workers_that_are_gone(site, number, how):
    web = start(managed(site, shards=2))
    before = workers(web)
    load = Load(web, 8)
    load.wait(50)
    for path in sockets(web):
        os.unlink(path)
        if how == "replaced":
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
    if how == "with their folder":
        for path in glob.glob(web.path("run/workers/*")):
            os.unlink(path)
        os.rmdir(web.path("run/workers"))
    load.wait(20)
    reload(web, number)
    wait_for(lambda: serving(web, 2) and not set(workers(web)) & set(before), "new workers", 3 * LIMIT)
    wait_for(lambda: sorted(children_of(web)) == sorted(workers(web)), "the end of the old ones", 3 * LIMIT)
    load.wait(50)
    assert set(load.stop()) == {200}
    text = web.front.text()
    found = re.findall(r"worker app/\d \(pid \d+\): its socket \S+ was (\w+): another one takes its place", text)
    assert found == ["replaced" if how == "replaced" else "removed"] * 2
    assert len(sockets(web)) == (4 if how == "replaced" else 2)     # what others have made is left
    for path in sockets(web):
        os.unlink(path)
    wait_for(lambda: web.rpc("version").status == 200, "an answer without any")


def test_one_that_waits_for_its_restart_gets_another_socket(site):
    web = managed(site, "exit", instances=1, restart_delay="1h")
    web.start()
    wait_for(lambda: "will be started again" in web.front.text(), "its end")
    path, = sockets(web)
    os.unlink(path)
    reload(web)
    wait_for(lambda: len(sockets(web)) == 1, "another socket")


@BOTH
def test_new_shards_wait_for_a_worker_that_old_ones_have(front, number):
    """Its file comes back before their time is over."""
    site = front(shards=2)
    worker = site.fake()
    site.start()
    os.rename(site.path("app-1.sock"), site.path("hidden"))
    site.say(number)
    site.wait_log("pool app: the shards that serve reach a worker of it, this one does not yet")
    with site.client() as client:
        assert client.rpc("demo.echo", [1]).status == 200
    assert site.generation() == 1
    os.rename(site.path("hidden"), site.path("app-1.sock"))
    site.wait_log("the old shards are gone")
    worker.wait_ready(2)
    with site.client() as client:
        assert client.rpc("demo.echo", [2]).status == 200


@BOTH
@pytest.mark.parametrize("why", ["no file", "no worker"])
def test_new_shards_that_do_not_reach_a_pool_are_not_ready(front, number, why):
    site = front(pools={"app": {}, "other": {}})
    site.fake()
    other = site.fake("other-1")
    site.start()
    if why == "no file":
        os.unlink(site.path("other-1.sock"))
    else:       # something else has its place
        answer = other.on_hello

        def refuse(channel):
            channel.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            channel.close()
        other.on_hello, other.tolerant = refuse, True
    site.refused("a new shard has ended before all were ready: the old ones serve on", number)
    found, = re.findall(r"error shard 2/0\[\d+\]: pool other: the shards that serve reach a worker of it, "
                        r"this one does not \((.*)\): it does not take their place", site.log_text())
    assert found == ("there is none where it looks" if why == "no file" else
                     "it speaks HTTP, not the protocol of workers")
    with site.client() as client:
        assert client.rpc("demo.echo", [1]).status == 200
    other.drop()        # now the old ones do not reach it either
    if why == "no worker":
        wait_for(lambda: "worker unix:%s" % site.path("other-1.sock") in site.log_text(), "the news")
        other.on_hello = answer
    site.reload(number)


def test_a_worker_that_is_held_up_holds_up_no_reload(front):
    """It takes the connection, and says nothing: to the old shards neither."""
    site = front(pools={"app": {}, "other": {}})
    site.fake()
    other = site.fake("other-1")
    site.start()
    other.on_hello = lambda channel: None
    site.reload()
    assert site.count("it does not take their place") == 0


def test_a_pool_that_nobody_reaches_holds_up_no_reload(front):
    site = front(pools={"app": {}, "other": {}})
    site.fake()
    site.start()
    site.reload()
    assert site.count("waiting for one") == 0
    site.reload(pools=site.config["pools"] + [{"name": "third", "workers": ["unix:/nowhere/*.sock"]}])
    assert site.count("waiting for one") == 0


def test_a_pool_that_frontd_runs_from_now_on(site):
    """Its workers are started when the new shards serve: those are not to wait for them."""
    web = site(shards=1, drain="5s")
    web.fake()
    web.start()
    assert web.rpc("demo.echo", [1]).status == 200
    web.config["pools"] = managed(site).config["pools"]
    web.config["pools"][0]["instances"] = 1
    reload(web)
    wait_for(lambda: serving(web, 1), "the worker", 3 * LIMIT)


def test_a_shard_that_is_started_again_waits_for_nobody(front):
    site = front(shards=2, pools={"app": {}, "other": {}})
    site.fake()
    site.fake("other-1")
    site.start()
    os.unlink(site.path("other-1.sock"))
    victim = site.shards()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(site.shards()) == 2 and victim not in site.shards(), "another shard")
    site.wait_served()
    assert site.count("waiting for one") == 0
