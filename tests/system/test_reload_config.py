"""What a reload changes: the number of shards, listeners, routes, pools, limits, the log. And what becomes of
calls in progress and of connections that the new config has no place for."""
import os
import time

import pytest

from fakeworker import echo, hold
from harness import LIMIT, free_port, http_route, rpc_request, rpc_route, wait_for, ws_route
from httpclient import Client, Closed
from reloads import HUP, SLOW, USR2, Connector, Paused, call

BOTH = pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])


def web_of(site, port=None, routes=None, name="web"):
    return {"name": name, "address": "127.0.0.1:%d" % (port or site.port), "protocol": "http",
            "routes": routes or [rpc_route(), http_route(), ws_route()]}


def start(front, shards=1, **keys):
    keys.setdefault("routes", [rpc_route(), http_route(), ws_route()])
    site = front(shards=shards, **keys)
    worker = site.fake()
    site.start()
    return site, worker


# Shards

@BOTH
def test_more_and_fewer_shards(front, number):
    """Connections are spread evenly over the new shards, and somebody connects all the time."""
    site, _ = start(front, drain="5s")
    clients = [site.client() for _ in range(60)] + [site.ws() for _ in range(60)]
    for client in clients:
        call(client)
    with Connector(site, threads=1):
        for shards in (3, 2, 1, 4):
            site.reload(number, shards=shards)
            found = site.where(clients)
            assert sorted(found) == site.shards() and sum(found.values()) == len(clients)
            assert max(found.values()) - min(found.values()) <= 2 * 4, found
            for client in clients:
                call(client)


@BOTH
@pytest.mark.parametrize("before,after", [(1, 3), (3, 1), (2, 2)])
def test_what_waits_in_accept_queues_is_served(front, number, before, after):
    """Clients connect while all shards are stopped; those of the next generation accept them."""
    site, _ = start(front, before, drain="5s")
    with Paused(site.shards()):
        clients = [site.client(timeout=2 * LIMIT) for _ in range(40)]
        for n, client in enumerate(clients):
            client.send(rpc_request("demo.echo", [n]))
        site.say(number, shards=after)
        site.wait_log(" serves: ", timeout=2 * LIMIT)
        # Those that wait are for the new ones, as far as these have the sockets.
        for n, client in enumerate(clients):
            answer = client.read_response()
            assert answer.status == 200 and answer.json()["result"] == [n]
    site.wait_log("the old shards are gone", timeout=2 * LIMIT)
    for client in clients:
        call(client)
        client.close()


# Listeners

@BOTH
def test_a_listener_is_added_and_its_address_changed(front, number):
    site, _ = start(front, 2)
    more, other = free_port(), free_port()
    with site.client() as stays, site.ws() as ws:
        site.reload(number, listeners=[web_of(site), web_of(site, more, name="more")])
        with Client(("127.0.0.1", more)) as client:
            call(client)
            call(stays)
            site.reload(number, listeners=[web_of(site), web_of(site, other, name="more")])
            call(client)        # its listener has another address now
            with Client(("127.0.0.1", other)) as new:
                call(new)
            with pytest.raises(ConnectionRefusedError):
                Client(("127.0.0.1", more))
        call(ws)
        call(stays)


def listens(port):
    with open("/proc/net/tcp") as f:
        next(f)
        return any(int(fields[1].split(":")[1], 16) == port and fields[3] == "0A" for fields in map(str.split, f))


@BOTH
def test_a_listener_on_all_addresses_instead_of_one(front, number):
    """And back: the old address and the new one, of the same port, are not in each other's way."""
    site, _ = start(front, 2)
    web = web_of(site)
    everywhere = {**web, "address": "0.0.0.0:%d" % site.port}
    with site.client() as stays:
        call(stays)
        for listener in (everywhere, web):
            site.reload(number, listeners=[listener])
            call(stays)
            with site.client() as new:
                call(new)
        site.reload(number, listeners=[web, {**everywhere, "name": "everywhere"}])
        call(stays)
        with Client(("127.0.0.2", site.port)) as new:
            call(new)


@BOTH
def test_a_listener_is_removed(front, number):
    """New connects are refused, its clients are closed within the drain time, the others know nothing of it."""
    site, worker = start(front, 2, streams={"line": {"events": True}, "frame": {}}, drain="1s")
    web = site.config["listeners"][0]
    with site.client() as stays, site.stream("line") as line, site.stream("frame") as frame:
        call(stays), call(line), call(frame)
        site.reload(number, gone=False, listeners=[web])
        call(stays)
        for client in (line, frame):
            assert client.ends()
        wait_for(lambda: not listens(site.ports["line"]), "the end of its sockets")
        with pytest.raises(ConnectionRefusedError):
            site.stream("line")
        site.wait_log("the old shards are gone")
        worker.wait(lambda: len(worker.disconnects) == 1, "frontd.disconnect")
        call(stays)


@BOTH
def test_what_waits_for_a_listener_that_is_removed_is_accepted(front, number):
    site, worker = start(front, 2, streams={"line": {}}, drain="3s")
    web = site.config["listeners"][0]
    old = site.shards()
    with Paused(old):
        clients = [site.stream("line") for _ in range(10)]
        for client in clients:
            client.ask("demo.echo", [1])
        site.say(number, listeners=[web])
        site.wait_log(" serves: ", timeout=2 * LIMIT)
    for client in clients:
        assert client.read_json()["result"] == [1]
        assert client.ends()
    site.wait_log("the old shards are gone")


@BOTH
def test_a_websocket_whose_route_is_removed(front, number):
    """It stays with the old shard, is served there, and is told 1012 in the course of the drain time."""
    # Clients that are held up answer later than that; not so with more of it.
    assert told_in_time(front, number, "2s") or told_in_time(front, number, "10s")


def told_in_time(front, number, drain):
    """Whether nobody was left at the drain limit."""
    site, worker = start(front, 2, drain=drain)
    clients = [site.ws() for _ in range(20)]
    for client in clients:
        call(client)
    with site.client() as stays:
        call(stays)
        site.reload(number, gone=False, listeners=[web_of(site, routes=[rpc_route(), http_route("/x")])])
        for client in clients:
            client.expect_close(1012)
            client.close()
        site.wait_log("the old shards are gone")
        call(stays)
    return site.count("the drain limit has passed") == 0


@BOTH
def test_a_route_that_serves_something_else(front, number):
    site, _ = start(front, drain="1s")
    with site.ws() as client:
        call(client)
        site.reload(number, gone=False,
                    listeners=[web_of(site, routes=[rpc_route(), ws_route(messages="raw")])])
        client.expect_close(1012)
    with site.ws() as client:
        client.send_text(b"raw")
        assert client.read_text() == b"raw"


@BOTH
def test_a_listener_on_a_unix_socket(front, number):
    """Its file is the same one all the time, and is removed with the listener."""
    site, _ = start(front)
    path = site.path("web.sock")
    web = web_of(site)
    unix = {**web_of(site, name="unix"), "address": "unix:" + path}
    site.reload(number, listeners=[web, unix])
    inode = os.stat(path).st_ino
    with Client(path) as client:
        call(client)
        for shards in (3, 1):
            site.reload(number, shards=shards)
            assert os.stat(path).st_ino == inode
            call(client)
            with Client(path) as new:
                call(new)
        site.reload(number, gone=False, listeners=[web])
        wait_for(lambda: not os.path.exists(path), "the end of its file")
        assert client.at_end()


# Pools, limits, log

@BOTH
def test_pools_are_added_removed_and_reordered(front, number):
    site, first = start(front, 2, pools={"app": {}, "b": {}})
    site.fake("b-1", lambda c: c.reply("b"))
    site.fake("c-1", lambda c: c.reply("c"))
    def conf(*names, **paths):
        return {"pools": [{"name": n, "workers": ["unix:" + site.path(n + "-*.sock")]} for n in names],
                "listeners": [web_of(site, routes=[rpc_route("/" + p, n) for p, n in paths.items()])]}
    def ask(client, path):
        return client.rpc("m", [1], path="/" + path).json()["result"]
    with site.client() as client:
        site.reload(number, **conf("app", "b", rpc="app", x="b"))
        assert ask(client, "rpc") == [1] and ask(client, "x") == "b"
        site.reload(number, **conf("c", "b", "app", rpc="app", x="b", y="c"))
        assert (ask(client, "rpc"), ask(client, "x"), ask(client, "y")) == ([1], "b", "c")
        site.reload(number, **conf("c", "app", rpc="app", x="c"))
        assert (ask(client, "rpc"), ask(client, "x")) == ([1], "c")
        site.reload(number, **conf("app", rpc="app"))
        assert ask(client, "rpc") == [1]
    b = site.workers[1]
    b.wait(lambda: not b.live(), "the end of its channels")


@BOTH
def test_connections_per_peer_from_none_to_some_and_back(front, number):
    """Those that are in count, and are not refused; the number holds over both generations."""
    site, _ = start(front, 2)
    stays = [site.client() for _ in range(5)]
    for client in stays:
        call(client)

    def refused():
        with site.client() as client:
            try:
                return client.rpc("demo.echo", [1]).status != 200
            except (OSError, Closed):
                return True
    assert not refused()
    for limit, more in ((6, 1), (3, 0), (0, 9), (5, 0)):
        site.reload(number, limits={"connections_per_peer": limit})
        new = []
        for _ in range(more):
            new.append(site.client())
            call(new[-1])
        assert refused() == (limit > 0)
        for client in stays + new:
            call(client)
        for client in new:
            client.close()
        wait_for(lambda: site.connections() == len(stays), "the end of the new ones")
    stays.pop().close()
    wait_for(lambda: not refused(), "room for one more")


@BOTH
def test_limits_and_log_of_the_new_config(front, number):
    site, _ = start(front)
    with site.client() as client:
        assert client.rpc("demo.echo", ["x" * 5000]).status == 200
        site.reload(number, limits={"body": "4KiB"})
        assert client.rpc("demo.echo", ["x" * 5000]).status == 413
    site.reload(number, log={"level": "info", "format": "json"}, limits={})
    assert site.log_text().splitlines()[-1].startswith("{")
    for level in ("error", "info"):
        old = site.shards()
        site.say(number, log={"level": level, "format": "text"})
        wait_for(lambda: len(site.shards()) == 1 and site.shards() != old, "the next generation")


# Calls in progress

@BOTH
def test_a_call_that_ends_in_time(front, number):
    """The old shard answers; meanwhile other calls of the same WebSocket go on, and then it follows."""
    site, worker = start(front, drain="20s")
    with site.ws() as ws, site.client() as client:
        worker.handler = hold
        ws.ask("slow", [0], id="slow")
        client.send(rpc_request("slow", [1]))
        slow = sorted((worker.wait_calls(2), worker.calls[0]), key=lambda c: c.params)
        worker.handler = echo
        old = site.shards()
        site.reload(number, gone=False)
        for n in range(20):
            call(ws, n)
        assert site.shard_of(ws) in old and site.shard_of(client) in old
        for one in slow:
            one.reply("done")
        assert ws.read_json() == {"jsonrpc": "2.0", "id": "slow", "result": "done"}
        assert client.read_response().json()["result"] == "done"
        site.wait_log("the old shards are gone")
        for one in (ws, client):
            assert site.shard_of(one) in site.shards()
            call(one)


@BOTH
def test_a_call_that_never_ends(front, number):
    """At `drain` a WebSocket is told 1012, others are closed, the worker is told to cancel."""
    site, worker = start(front, drain="1s", streams={"line": {}})
    with site.ws() as ws, site.client() as client, site.stream("line") as line, site.client() as stays:
        call(stays)
        worker.handler = hold
        ws.ask("slow", [0])
        line.ask("slow", [0])
        client.send(rpc_request("slow", [1]))
        worker.wait_calls(3 + 1)
        worker.handler = echo
        site.reload(number, gone=False)
        assert ws.read_close()[0] == 1012
        assert line.at_end() and client.at_end()
        worker.wait(lambda: sum(c.cancelled for c in worker.calls) == 3, "CANCEL")
        site.wait_log("the old shards are gone")
        call(stays)


# Signals

def test_a_reload_during_a_reload(front):
    """50 signals within a second, mixed, and one winner: the config as it is at the end."""
    site, _ = start(front)
    with site.client() as client, Connector(site, threads=1):
        for n in range(50):
            site.say((HUP, USR2)[n % 2], shards=1 + n % 3)
            time.sleep(0.01)
        site.config["shards"] = 2
        site.say(HUP)
        said = lambda: [line for line in site.log_text().splitlines() if " supervisor[" in line]
        wait_for(lambda: len(site.shards()) == 2 and sorted(site.family()) == sorted(
            site.shards() + [site.front.pid]) and "are gone" in said()[-1],
            "the last generation", 2 * LIMIT * SLOW)
        call(client)


def test_signals_that_come_at_once_are_remembered_once(front):
    site, _ = start(front)
    with site.client() as client:
        with Paused(site.front.pid):
            for n in range(50):
                site.front.signal((HUP, USR2)[n % 2])
        site.wait_log("are gone", 2, 2 * LIMIT * SLOW)
        site.reload()
        assert site.generation() == 4
        call(client)
