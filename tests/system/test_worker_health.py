"""Workers that fail repeatedly are left out for a growing time, and tried with one call (`health` of a pool)."""
import re
import signal
import threading

import pytest

from control import asked
from fakeworker import echo
from harness import LIMIT, rpc_route, wait_for
from httpclient import rpc_request


class Failing:
    """Fails in the calls that it gets, in one way, until it is mended."""

    def __init__(self, way):
        self.way, self.calls, self.mended = way, 0, False

    def __call__(self, call):
        self.calls += 1
        if self.mended:
            echo(call)
        elif self.way == "garbage":
            call.send(b"garbage")
        elif self.way == "lost":
            call.channel.close()
        else:
            threading.Timer(0.5, echo, [call]).start()


def serve(site, ways, shards=1, **health):
    web = site(shards=shards, pools={"app": {"health": health}}, routes=[rpc_route(timeout="300ms")])
    handlers = [Failing(way) if way else echo for way in ways]
    for i, handler in enumerate(handlers):
        web.fake("app-%d" % i, handler)
    web.start()
    wait_for(lambda: len(re.findall("is there", web.front.text())) == len(ways) * shards, "the workers")
    return web, handlers


def ask(web, count):
    """Calls one after the other; returns what became of each: a result, or the code of its error."""
    ended = []
    for i in range(count):
        client = web.client(timeout=LIMIT)
        client.send(rpc_request("demo.echo", [i], id=i))
        answer = client.read_response().json()
        assert answer["id"] == i
        ended.append("ok" if "result" in answer else answer["error"]["code"])
        client.close()
    return ended


def ejected(web):
    return sum(w["state"] == "ejected" for w in asked(web, "workers")["workers"])


CODES = {"garbage": -32007, "lost": -32002, "late": -32003}


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("way", sorted(CODES))
def test_it_is_left_out_and_comes_back(site, way, shards):
    web, (bad, _) = serve(site, [way, None], shards, failures=3, ejected="1s")
    failed = []
    wait_for(lambda: failed.extend(ask(web, 1)) or "times in a row: it gets no calls" in web.front.text(), "the failures")
    # Chance may have chosen the bad one each time.
    assert set(failed) <= {"ok", CODES[way]} and failed.count(CODES[way]) >= 3
    bad.mended = True
    wait_for(lambda: ask(web, 1) and "it gets calls again" in web.front.text(), "the trial")
    before = bad.calls
    wait_for(lambda: ask(web, 1) == ["ok"] and bad.calls > before, "calls for the one that is back")


def test_half_of_the_pool(site):
    web, handlers = serve(site, ["garbage", "garbage", None, None], failures=2, ejected="5m")
    wait_for(lambda: ask(web, 4) and ejected(web) == 2, "two that are left out")
    before = [h.calls for h in handlers[:2]]
    assert ask(web, 40) == ["ok"] * 40
    assert [h.calls for h in handlers[:2]] == before


def test_the_whole_pool_is_tried_all_the_same(site):
    web, handlers = serve(site, ["garbage"] * 4, failures=2, ejected="5m")
    wait_for(lambda: ask(web, 4) and ejected(web) == 2, "half of them that are left out")
    before = sum(h.calls for h in handlers)
    assert ask(web, 20) == [-32007] * 20
    assert sum(h.calls for h in handlers) == before + 20
    assert ejected(web) == 2
    for handler in handlers:
        handler.mended = True
    assert ask(web, 20) == ["ok"] * 20


def test_it_stays_left_out_over_a_reload(site):
    web, (bad, _) = serve(site, ["garbage", None], failures=2, ejected="5m")
    wait_for(lambda: ask(web, 2) and ejected(web) == 1, "one that is left out")
    before = bad.calls
    web.front.signal(signal.SIGHUP)
    wait_for(lambda: "the old shards are gone" in web.front.text(), "the reload")
    assert ask(web, 20) == ["ok"] * 20
    assert bad.calls == before


def test_slow_start_is_not_begun_anew_by_a_reload(site):
    web = site(shards=2, pools={"app": {"slow_start": "1h"}}, routes=[rpc_route()])
    left = lambda: [w["slow_start_for"] for w in sorted(asked(web, "workers")["workers"], key=lambda w: w["address"])]
    web.fake("app-0", echo)
    web.start()
    wait_for(lambda: web.front.text().count("is there") == 2, "the first worker")
    first, = left()
    web.fake("app-1", echo)
    wait_for(lambda: web.front.text().count("is there") == 4, "the second worker")
    before = left()
    assert before[0] <= first <= 3600 and before[0] < before[1] <= 3600
    assert ask(web, 20) == ["ok"] * 20
    web.front.signal(signal.SIGHUP)
    wait_for(lambda: "the old shards are gone" in web.front.text(), "the reload")
    after = left()
    assert after[0] < before[0] and after[1] < before[1] and after[0] < after[1]
    assert ask(web, 20) == ["ok"] * 20
