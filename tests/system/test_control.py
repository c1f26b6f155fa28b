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
