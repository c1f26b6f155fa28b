"""What the front counts agrees with itself at every moment, whatever ends or is replaced meanwhile."""
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import harness
from control import asked
from fakeworker import echo
from harness import LIMIT, ROOT, rpc_route, http_route, wait_for, ws_route
from httpclient import BadResponse, Closed, request, rpc_body, rpc_request
from reloads import HUP, SLOW, USR2
from scrapes import SCRAPE, Watch, scrape

SECONDS = float(os.environ.get("FRONTD_METRICS_SECONDS", 5))      # how long the one below runs
BATCH = b"[%s,%s,1]" % (rpc_body("demo.echo", id=1), rpc_body("demo.echo", id=2))
GONE = (OSError, Closed, BadResponse, AssertionError, ValueError)


def answer(call):
    """A few are never answered, and some late; what is left is echoed."""
    if call.method == "demo.never":
        return
    if call.method == "demo.fail":
        call.error(-5, "no")
    elif call.method == "http.request":
        call.http(404 if "missing" in call.params["path"] else 200, [], b"body")
    else:
        echo(call)


class Clients:
    """Threads whose connections come, call, and go in all manners; nothing that befalls them matters."""

    def __init__(self, site, threads=4, seed=1):
        self.site = site
        self.closing = False
        self.threads = [threading.Thread(target=self._run, args=(random.Random(seed + i),), daemon=True)
                        for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _http(self, rng):
        with self.site.client(timeout=2) as client:
            for _ in range(rng.randrange(1, 20)):
                if self.closing:
                    return
                kind = rng.randrange(8)
                if kind < 4:
                    client.rpc("demo.echo", [1])
                elif kind == 4:
                    client.rpc("demo.fail")
                elif kind == 5:
                    client.send(b"GET /missing HTTP/1.1\r\nHost: h\r\n\r\n")
                    client.read_response()
                elif kind == 6:
                    client.send(request("POST", "/rpc", body=BATCH))
                    client.read_response()
                else:
                    client.send(rpc_request("demo.never", id=9))
                    return      # with a call in progress

    def _ws(self, rng):
        with self.site.ws(timeout=2) as client:
            for _ in range(rng.randrange(1, 20)):
                if self.closing:
                    return
                client.call("demo.echo", [1])

    def _run(self, rng):
        while not self.closing:
            with contextlib.suppress(*GONE):
                self._http(rng) if rng.randrange(3) else self._ws(rng)

    def stop(self):
        self.closing = True
        for thread in self.threads:
            thread.join(3 * LIMIT)
            assert not thread.is_alive()


def disturb(site, rng, step):
    """Something happens to the front, which goes on by itself."""
    what = ("reload", "shard", "worker", "reload", "shard in reload", "upgrade")[step % 6]
    if what == "reload":
        site.say(HUP)
    elif what == "upgrade":
        site.say(USR2)
    elif what == "worker":
        site.workers[0].drop()
    else:
        if what == "shard in reload":
            site.say(HUP)
            time.sleep(rng.random() * 0.3 * SLOW)
        shards = site.shards()
        if shards:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(shards), signal.SIGKILL)
    time.sleep(rng.random() * 0.3)


def all_is_over(site, watch, open_now=0):
    """Nothing is in progress, and as many connections are open as the test has."""
    now = watch.look()
    return (now is not None and now.total("frontd_connections_open") == open_now and
            now.total("frontd_requests_in_progress") == 0 and now.total("frontd_calls_in_progress") == 0) and now


def is_settled(site):
    """No reload is in progress, and all shards are there."""
    with contextlib.suppress(AssertionError):       # the program is being replaced
        return asked(site, "status")["state"] == "steady" and len(site.shards()) == 2
    return False


def test_counts_add_up(front):
    rng = random.Random(7)
    site = front(shards=2, pools={"app": {"kill_after": "1s"}}, drain="1s",
                 routes=[rpc_route(timeout="30s"), http_route(timeout="30s"), ws_route(timeout="30s")])
    site.fake(handler=answer)
    site.start()
    watch = Watch(site)
    stay = [site.client() for _ in range(10)] + [site.ws() for _ in range(10)]
    clients = Clients(site)
    problems = []
    done = threading.Event()

    def look_on():
        try:
            while not done.is_set():
                watch.look()
        except Exception as e:      # pylint: disable=broad-except
            problems.append(e)

    looking = threading.Thread(target=look_on, daemon=True)
    looking.start()
    until = time.monotonic() + SECONDS
    step = 0
    while time.monotonic() < until and not problems:
        disturb(site, rng, step)
        step += 1
    clients.stop()
    done.set()
    looking.join(3 * LIMIT)
    assert not problems, problems[0]
    for client in stay:
        client.close()
    last = wait_for(lambda: all_is_over(site, watch), "the end of all that is open", 6 * LIMIT * SLOW)
    print("%d scrapes, %d disturbances" % (watch.count, step))
    assert watch.count > 5 and step > 5
    assert last.total("frontd_connections_closed_total", reason="crash") > 0
    assert last.total("frontd_connections_handed_over_total") > 0
    assert last.total("frontd_requests_total", code="ok") > 0
    assert last.total("frontd_requests_total", code="app") > 0
    assert last.total("frontd_requests_total", **{"class": "member", "code": "-32600"}) > 0
    assert last.total("frontd_requests_total", **{"class": "get", "code": "4xx"}) > 0
    assert last.total("frontd_reloads_total", kind="config", outcome="ok") > 0
    # And from here on they are exact: what the last disturbance has begun is over, and nothing moves by itself.
    wait_for(lambda: is_settled(site) and is_settled(site), "the end of the last reload", 6 * LIMIT * SLOW)
    more = [site.client() for _ in range(7)] + [site.ws() for _ in range(5)]
    for client in more:
        client.call("demo.echo", [1]) if hasattr(client, "call") else client.rpc("demo.echo", [1])
    now = wait_for(lambda: all_is_over(site, watch, 12), "12 connections", LIMIT * SLOW)
    assert now.total("frontd_connections_open", protocol="websocket") == 5
    # All of them move, once.
    moved = now.total("frontd_connections_handed_over_total")
    accepted = now.total("frontd_connections_accepted_total")
    site.reload()
    now = wait_for(lambda: all_is_over(site, watch, 12), "12 connections", LIMIT * SLOW)
    assert now.total("frontd_connections_accepted_total") == accepted
    assert now.total("frontd_connections_handed_over_total") == moved + 12
    assert now.total("frontd_connections_open", protocol="websocket") == 5
    # A supervisor that is started in the place of one that was killed goes on with them.
    site.front.signal(signal.SIGKILL)
    site.front.wait()
    site.launch()
    now = wait_for(lambda: all_is_over(site, watch, 12), "12 connections", 3 * LIMIT * SLOW)
    assert now.total("frontd_connections_accepted_total") >= accepted
    for client in more:
        client.close()
    wait_for(lambda: all_is_over(site, watch), "the end of the last ones", LIMIT * SLOW)
    check_with_promtool(site)


def check_with_promtool(site):
    if shutil.which("promtool") is None:
        return
    text = subprocess.run([SCRAPE, str(site.front.pid)], stdout=subprocess.PIPE, check=True).stdout
    done = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout.decode()


def documented():
    with open(os.path.join(ROOT, "docs", "metrics.md")) as f:
        return set(re.findall(r"^\| `(frontd_[a-z_]+)`", f.read(), re.M))


def test_every_metric_is_documented(site):
    """docs/metrics.md has a row for each, and no others."""
    web = site()
    web.fake()
    web.start()
    web.rpc("demo.echo", [1])
    shown = set(scrape(web).kinds)
    pools = {name for name in documented() if name.startswith("frontd_pool_")}
    exporter = {"frontd_spans_exported_total", "frontd_spans_rejected_total", "frontd_spans_waiting"}    # with `tracing` alone
    assert documented() == shown | pools | exporter and pools, shown ^ documented()
