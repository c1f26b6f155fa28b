"""frontctl and the control socket: docs/control.md."""
import threading

from control import asked, frontctl
from harness import Load, wait_for


def test_status(site):
    one = site(shards=2)
    one.fake()
    one.start()
    print(frontctl(one, "status"))
    status = asked(one, "status")
    assert status["pid"] == one.front.pid
    assert len(status["shards"]) == 2
    assert [listener["name"] for listener in status["listeners"]] == ["web"]


def pool(site, name="app"):
    return next(one for one in asked(site, "pools")["pools"] if one["pool"] == name)


def test_calls_wait_while_a_pool_is_paused(site):
    """Under load: none fails, and none reaches a worker meanwhile; also over a reload."""
    one = site(shards=2)
    worker = one.fake()
    one.start()
    load = Load(one, 8)
    load.wait(50)
    assert frontctl(one, "pause", "app", "--wait").startswith("app is paused")
    assert pool(one)["paused"] and pool(one)["in_progress"] == 0
    wait_for(lambda: pool(one)["waiting"] == 8, "eight calls in the queue")
    print(frontctl(one, "pools"))
    print(frontctl(one, "workers"))
    frontctl(one, "resume", "app")
    assert not pool(one)["paused"]
    load.wait(50)
    load.stop()


def test_reloads(front):
    """What each has come to is known by the exit code, and why."""
    one = front(shards=2)
    one.fake()
    one.start()
    with one.client() as client:
        assert client.rpc("demo.echo", {}).status == 200
        done = asked(one, "reload")
        assert (done["outcome"], done["number"], done["moved"], done["stayed"]) == ("ok", 1, 1, 0)
        assert asked(one, "status")["generation"] == 2
        text = frontctl(one, "upgrade")
        assert "generation 3 serves; 1 connections moved, 0 did not" in text
        status = asked(one, "status")
        assert status["last_reload"]["kind"] == "upgrade" and status["last_reload"]["number"] == 2
        good = one.write()
        one.write("listeners: 7\n")
        why = frontctl(one, "reload", code=1, options=["-S", one.path("run/control.sock")])
        assert "listeners" in why and "nothing changes" in why
        one.write()
        one.replace("#!/bin/sh\nexit 3\n")
        assert "status 3" in frontctl(one, "upgrade", code=1)
        assert asked(one, "status")["last_reload"]["outcome"] == "failed"
        one.replace()
        assert client.rpc("demo.echo", {}).status == 200
    assert asked(one, "status")["generation"] == 3
