"""frontd as a service of systemd: what it tells its manager."""
import os
import signal
import time

import pytest

from harness import FRONTD, Program, free_port, wait_for
from httpclient import Client
from manager import Manager


@pytest.fixture
def manager(monkeypatch):
    one = Manager()
    monkeypatch.setenv("NOTIFY_SOCKET", one.address)
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    yield one
    one.close()


def launch(web):
    web.front = Program([FRONTD, "-c", web.write()], web.path("frontd.log"))
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
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
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
    monkeypatch.setenv("WATCHDOG_USEC", "50000")
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
def test_shards_do_not_get_the_capability_to_bind(site, monkeypatch):
    """AmbientCapabilities=CAP_NET_BIND_SERVICE is for the supervisor alone."""
    web = site(shards=2)
    os.chmod(web.dir, 0o777)
    os.chmod(web.write(), 0o644)
    web.front = Program(
        ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all,+net_bind_service",
         "--ambient-caps=+net_bind_service", "--bounding-set=-all,+net_bind_service",
         FRONTD, "-c", web.path("frontd.yaml")], web.path("frontd.log"))
    web.wait_served()

    def capabilities(pid):
        with open("/proc/%d/status" % pid) as f:
            found = dict(line.split(":\t") for line in f)
        return {name: int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    assert capabilities(web.front.pid)["CapEff"] == 1 << 10
    for pid in web.shards():
        found = capabilities(pid)
        assert (found["CapPrm"], found["CapEff"], found["CapAmb"]) == (0, 0, 0)
