"""frontctl and the control socket: docs/control.md."""
from control import asked, frontctl


def test_status(site):
    one = site(shards=2)
    one.fake()
    one.start()
    print(frontctl(one, "status"))
    status = asked(one, "status")
    assert status["pid"] == one.front.pid
    assert len(status["shards"]) == 2
    assert [listener["name"] for listener in status["listeners"]] == ["web"]
