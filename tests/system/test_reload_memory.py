"""Connections for which much waits go over in bounded rounds: they are not in memory twice, others are served
meanwhile, and what was shared stays so."""
import contextlib
import json
import threading

from harness import memory, rpc_route, sanitized, wait_for, ws_route
from httpclient import rpc_request
from reloads import HUP
from test_client_memory import Big

MB = 1 << 20
CLIENTS = 20 if sanitized() else 80
SIZE = 6 * MB           # an answer, of which the kernel takes a part


class Sum(threading.Thread):
    """The most that all shards have together."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.site = site
        self.most = 0
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.005):
            total = 0
            with contextlib.suppress(OSError, StopIteration):
                for pid in self.site.shards():
                    total += memory(pid)
            self.most = max(self.most, total)

    def stop(self):
        self.over.set()
        self.join()
        return self.most


def test_what_waits_is_not_there_twice(front):
    site = front(routes=[rpc_route(), ws_route()], drain="30s",
                 limits={"write_buffer": "8MiB", "memory": "4GiB", "body_timeout": "5m"})
    worker = site.fake(handler=Big(SIZE))
    site.start()
    shard = site.shard
    assert site.rpc("demo.echo", [1]).status == 200
    base = memory(shard)
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(site.ws(rcvbuf=4096) if n % 2 else site.client(rcvbuf=4096))
                for n in range(CLIENTS)]
        for n, client in enumerate(made):
            if n % 2:
                client.ask("big", [n], id=n)
            else:
                client.send(rpc_request("big", [n], id=n))
        worker.wait_calls(CLIENTS + 1)
        wait_for(lambda: all(call.done for call in worker.calls), "the answers", 30)
        assert worker.channel().sync()
        held = memory(shard) - base
        assert held > CLIENTS * MB / 2 or sanitized(), "%d MiB" % (held >> 20)
        total = Sum(site)
        with site.client() as other:
            site.say(HUP)
            served = 0
            while not site.count("the old shards are gone"):
                assert other.rpc("demo.echo", [served]).json()["result"] == [served]
                served += 1
        most = total.stop()
        assert site.count("connections were handed over") == 1
        assert served >= 3
        if not sanitized():
            assert most < 2 * base + 1.25 * held + 8 * MB, "%d MiB of %d" % (most >> 20, held >> 20)
        for n, client in enumerate(made):
            answer = client.read_json() if n % 2 else client.read_response().json()
            assert answer["id"] == n and len(answer["result"]) == SIZE


def test_what_is_shared_stays_shared(front):
    """A hundred clients wait for the same 4 MiB of messages."""
    site = front(routes=[rpc_route(), ws_route(slow="drop")], drain="30s",
                 limits={"write_buffer": "8MiB", "memory": "4GiB"})
    worker = site.fake()
    site.start()
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(site.ws(rcvbuf=4096)) for _ in range(100)]
        for client in made:
            assert client.call("demo.echo", [1]) == [1]
        conns = [call.conn for call in worker.calls if call.conn]
        channel = worker.channel()
        for conn in conns:
            channel.subscribe(conn, "all")
        texts = [json.dumps([n, "t" * 20000]).encode() for n in range(200)]
        for text in texts:
            channel.publish("all", text)
        assert channel.sync()
        old = memory(site.shard)
        site.reload()
        if not sanitized():
            assert memory(site.shard) < old + 30 * MB, "%d MiB, before %d" % (memory(site.shard) >> 20, old >> 20)
        for client in made[:10]:
            assert [client.read_json()[0] for _ in range(200)] == list(range(200))
