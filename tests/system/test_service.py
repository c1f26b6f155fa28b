"""frontd as a service of systemd: what it tells its manager, and the sockets that it is passed."""
import os
import shutil
import signal
import socket
import stat
import struct
import time

import pytest

from harness import (DEMO, FRONTD, WORKERD, Program, children, free_port, http_route, open_files, rpc_route, sockets,
                     wait_for)
from httpclient import Client, rpc_request
from manager import Manager, listening, start


@pytest.fixture
def manager(monkeypatch):
    one = Manager()
    monkeypatch.setenv("NOTIFY_SOCKET", one.address)
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    yield one
    one.close()


def launch(web, sockets=()):
    web.front = start([FRONTD, "-c", web.write()], web.path("frontd.log"), sockets)
    return web.front


def environment(pid):
    with open("/proc/%d/environ" % pid) as f:
        return dict(variable.split("=", 1) for variable in f.read().split("\0") if "=" in variable)


# What the manager is told


def test_ready_when_every_shard_accepts(site, manager):
    web = site(shards=2)
    web.fake()
    front = launch(web)
    message = manager.wait(READY="1")
    assert message.pid == front.pid
    assert len(web.shards()) == 2
    assert [m for m in manager.seen if m.get("READY")] == [message]
    assert "2 shards, 1 listeners" in manager.wait(STATUS="*")["STATUS"]
    assert web.rpc("demo.echo", [1]).status == 200


def reload(web, manager, number=signal.SIGHUP):
    """Signals, and returns what was said from RELOADING to READY; it ends with the new status."""
    manager.rest()
    before = time.monotonic_ns() // 1000
    web.front.signal(number)
    first = manager.wait(RELOADING="1")
    assert before <= int(first["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    last = manager.wait(READY="1")
    assert first.pid == last.pid == web.front.pid
    manager.wait(STATUS="*")
    return manager.seen[manager.seen.index(first):]


def test_ready_again_when_the_new_config_serves(site, manager):
    web = site(shards=1)
    web.fake()
    launch(web)
    manager.wait(READY="1")
    port = free_port()
    web.config["listeners"].append({**web.config["listeners"][0], "name": "more", "address": "127.0.0.1:%d" % port})
    web.write()
    said = reload(web, manager)
    with Client(("127.0.0.1", port)) as client:
        assert client.rpc("demo.echo", [1]).status == 200
    assert "1 shards, 2 listeners" in said[-1]["STATUS"]


def test_ready_again_when_a_reload_came_to_nothing(site, manager):
    """The status says why, in one line, whatever is in the config."""
    web = site(shards=1)
    web.fake()
    launch(web)
    manager.wait(READY="1")
    web.write("nonsense: true\nMAINPID: 1\n")
    said = reload(web, manager)
    assert "nonsense" in said[-1]["STATUS"]
    assert "MAINPID" not in [name for message in said for name in message]
    assert web.rpc("demo.echo", [1]).status == 200
    web.write()
    assert "nonsense" not in reload(web, manager)[-1]["STATUS"]


def test_ready_again_when_the_program_was_replaced(site, manager, monkeypatch):
    """By the new program, with the same process ID; the watchdog is pinged before and after."""
    monkeypatch.setenv("WATCHDOG_USEC", "800000")
    web = site(shards=2)
    web.fake()
    launch(web)
    manager.wait(READY="1")
    manager.wait(WATCHDOG="1")
    for _ in range(2):
        reload(web, manager, signal.SIGUSR2)
        manager.rest()
        manager.wait(WATCHDOG="1")
    assert web.rpc("demo.echo", [1]).status == 200


def test_no_ping_without_a_watchdog(site, manager, monkeypatch):
    """Or with one that is another process's."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    web = site()
    launch(web)
    manager.wait(READY="1")
    web.stop()
    manager.wait(STOPPING="1")
    assert not [message for message in manager.seen if "WATCHDOG" in message]


def test_stopping_takes_as_long_as_calls_may(site, manager):
    web = site(shards=2, drain="3s")
    launch(web)
    manager.wait(READY="1")
    web.front.signal(signal.SIGTERM)
    message = manager.wait(STOPPING="1")
    assert 3000000 < int(message["EXTEND_TIMEOUT_USEC"]) < 10000000
    assert web.front.wait() == 0


def test_only_the_supervisor_speaks(site, manager, monkeypatch):
    """What it starts does not even know of the manager."""
    monkeypatch.setenv("WATCHDOG_USEC", "800000")
    web = site(shards=2)
    front = launch(web)
    manager.wait(READY="1")
    for pid in web.shards():
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(environment(pid))
    reload(web, manager)
    assert {message.pid for message in manager.seen} == {front.pid}


def test_a_manager_that_is_gone_is_no_reason_to_end(site, manager):
    web = site()
    web.fake()
    manager.close()
    launch(web)
    web.wait_served()
    wait_for(lambda: "cannot tell the service manager (NOTIFY_SOCKET) of being ready" in web.front.text(), "the warning")
    assert web.rpc("demo.echo", [1]).status == 200


def managed_pool(web):
    """A pool with one worker that frontd runs, which everybody can execute."""
    for program in (WORKERD, DEMO):
        shutil.copy(program, web.dir)
    return {"name": "app", "command": [web.path("workerd"), "--module", web.path("demo.so")], "instances": 1}


def test_workers_have_their_time_to_stop_too(site, manager):
    """The manager is asked again to wait, once the shards are gone and the workers finish."""
    web = site(drain="3s")
    web.config["pools"] = [managed_pool(web)]
    launch(web)
    manager.wait(READY="1")
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "a worker")
    web.front.signal(signal.SIGTERM)
    for _ in range(2):
        assert 3000000 < int(manager.wait(STOPPING="1")["EXTEND_TIMEOUT_USEC"]) < 10000000
    assert web.front.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
def test_shards_and_workers_do_not_get_the_capability_to_bind(site):
    """AmbientCapabilities=CAP_NET_BIND_SERVICE is for the supervisor alone."""
    web = site(shards=2)
    web.config["pools"] = [managed_pool(web)]
    os.chmod(web.dir, 0o1777)
    os.chmod(web.write(), 0o644)
    web.front = Program(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+net_bind_service",
         "--ambient-caps=+net_bind_service", "--bounding-set=-all,+net_bind_service",
         shutil.copy(FRONTD, web.dir), "-c", web.path("frontd.yaml")], web.path("frontd.log"))
    web.wait_served()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "the worker")

    def capabilities(pid):
        with open("/proc/%d/status" % pid) as f:
            found = dict(line.split(":\t") for line in f)
        return {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")}
    assert capabilities(web.front.pid)["CapEff"] == 1 << 10
    assert len(children(web.front.pid)) == 3
    for pid in children(web.front.pid):
        assert set(capabilities(pid).values()) == {0}


# Sockets that are passed


@pytest.fixture
def bound():
    """Binds sockets that are closed after the test, as systemd keeps them beyond frontd's life."""
    made = []

    def bind(address, **keys):
        made.append(listening(address, **keys))
        return made[-1]

    yield bind
    for one in made:
        one.close()


def inode(sock):
    return os.fstat(sock.fileno()).st_ino


def wait_shards_have(web, *socks):
    """Until each shard has these sockets."""
    wanted = {inode(sock) for sock in socks}
    wait_for(lambda: len(web.shards()) == web.config["shards"] and
             all(wanted <= sockets(pid) for pid in web.shards()), "the sockets in each shard")


def held(pid, sock):
    """How many descriptors of a process are this socket: one as passed, another one where it is used."""
    return list(open_files(pid).values()).count("socket:[%d]" % inode(sock))


def listener(name, address):
    return {"name": name, "address": address, "protocol": "http", "routes": [rpc_route(), http_route()]}


def test_a_passed_tcp_socket_serves(site, bound):
    """All shards accept on it, each answer is sent at once (TCP_NODELAY); after the end it is as before."""
    web = site(shards=2)
    web.fake()
    sock = bound(web.address)
    launch(web, [sock])
    web.wait_served()
    wait_shards_have(web, sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("I", info, 28) == (64,), "the backlog (tcpi_sacked of a listening socket) is the manager's"
    assert web.rpc("demo.echo", [1]).status == 200
    for pid in web.shards():
        assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(environment(pid))
    web.front.stop()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_clients_wait_while_it_is_stopped(site, bound):
    """One that connects before the start is served after it."""
    web = site()
    web.fake()
    sock = bound(web.address)
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1], id=1))
        launch(web, [sock])
        assert client.read_response().status == 200


def test_a_passed_unix_socket_stays_the_managers(site, bound):
    """Its mode is left alone, and it is there after the end."""
    web = site(shards=2)
    web.fake()
    path = web.path("front.sock")
    sock = bound(path)
    os.chmod(path, 0o600)
    web.config["listeners"].append(listener("local", "unix:" + path))
    launch(web, [sock])
    web.wait_served()
    with Client(path) as client:
        assert client.rpc("demo.echo", [1]).status == 200
    web.front.stop()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_several_sockets_of_one_address(site, bound):
    """ReusePort=yes: the kernel spreads clients over them, so none may be left out."""
    web = site(shards=2)
    web.fake()
    socks = [bound(web.address, reuse_port=True) for _ in range(3)]
    launch(web, socks)
    web.wait_served()
    wait_shards_have(web, *socks)
    for _ in range(20):
        assert web.rpc("demo.echo", [1]).status == 200


def reload_to(web, config=None, number=signal.SIGHUP):
    """Until the new shards serve and the old ones are gone."""
    before = set(web.shards())
    if config:
        web.config = config
        web.write()
    web.front.signal(number)
    wait_for(lambda: len(web.shards()) == web.config["shards"] and not before & set(web.shards()), "new shards")


def test_a_socket_without_a_listener_waits_for_one(site, bound):
    """It is named in the log; a config that is loaded later may use it, give it up, and use it again."""
    web = site(shards=2)
    web.fake()
    port = free_port()
    sock = bound(("127.0.0.1", port))
    launch(web, [sock])
    web.wait_served()
    warning = "127.0.0.1:%d was passed by the service manager, but no listener has this address" % port
    assert web.front.text().count(warning) == 1
    without = dict(web.config)
    with_it = {**web.config, "listeners": web.config["listeners"] + [listener("more", "127.0.0.1:%d" % port)]}
    for count in (1, 2):
        reload_to(web, with_it)
        wait_shards_have(web, sock)
        with Client(("127.0.0.1", port)) as client:
            assert client.rpc("demo.echo", [count]).status == 200
        reload_to(web, without)
        assert not any(inode(sock) in sockets(pid) for pid in web.shards())
        wait_for(lambda: web.front.text().count(warning) == 1 + count, "the warning")


def test_passed_sockets_outlive_the_program(site, bound, manager):
    """SIGUSR2, each time with another number of shards: they are neither bound anew nor lost nor doubled."""
    web = site(shards=2)
    web.fake()
    port = free_port()
    path = web.path("front.sock")
    socks = [bound(web.address), bound(path), bound(("127.0.0.1", port))]
    web.config["listeners"].append(listener("local", "unix:" + path))
    launch(web, socks)
    manager.wait(READY="1")
    for shards in (3, 1, 2):
        reload_to(web, {**web.config, "shards": shards}, signal.SIGUSR2)
        wait_shards_have(web, *socks[:2])
        assert web.rpc("demo.echo", [1]).status == 200
        with Client(path) as client:
            assert client.rpc("demo.echo", [1]).status == 200
        assert [held(web.front.pid, sock) for sock in socks] == [2, 2, 1]
    # The third has had no listener so far.
    reload_to(web, {**web.config, "listeners": web.config["listeners"] + [listener("more", "127.0.0.1:%d" % port)]})
    wait_shards_have(web, *socks)
    web.front.stop()
    assert os.path.exists(path)


def test_a_program_that_cannot_be_executed_changes_nothing(site, bound, manager):
    """What runs it vanishes after its check: the old program serves on, and what it starts inherits nothing."""
    web = site(shards=1)
    web.fake()
    spare = ("127.0.0.1", free_port())
    socks = [bound(web.address), bound(spare)]
    program = shutil.copy(FRONTD, web.path("frontd"))
    web.front = start([program, "-c", web.write()], web.path("frontd.log"), socks)
    manager.wait(READY="1")
    with open(web.path("vanishing"), "w") as f:
        f.write("#!%s\nrm %s\nexec %s \"$@\"\n" % (shutil.copy("/bin/sh", web.path("sh")), web.path("sh"), FRONTD))
    os.chmod(web.path("vanishing"), 0o755)
    os.rename(web.path("vanishing"), program)
    said = reload(web, manager, signal.SIGUSR2)
    assert "cannot execute %s: No such file" % program in said[-1]["STATUS"]
    old = web.shard
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: web.shards() not in ([], [old]), "another shard")
    assert web.rpc("demo.echo", [1]).status == 200
    assert not {"LISTEN_FDS", "LISTEN_PID"} & set(environment(web.shard))
    assert [held(web.shard, sock) for sock in socks] == [1, 0]


def test_a_restarted_supervisor_takes_them_again(site, bound, manager):
    """systemd passes the same sockets to it; the shards of the one that was killed have them already."""
    web = site(shards=2)
    web.fake()
    sock = bound(web.address)
    launch(web, [sock])
    manager.wait(READY="1")
    left = web.shards()
    with web.client() as client:
        assert client.rpc("demo.echo", [1], id=1).status == 200
        web.front.process.kill()
        web.front.wait()
        launch(web, [sock])
        manager.wait(READY="1")
        assert client.rpc("demo.echo", [2], id=2).status == 200
    wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in left), "the end of the old shards")
    wait_shards_have(web, sock)
    assert web.rpc("demo.echo", [1]).status == 200
