"""No descriptor and no memory grows with the number of requests and connections."""
import re
import struct
import socket

import pytest

from harness import descriptors, http_route, memory, rpc_route, sanitized, wait_for
from httpclient import request, rpc_body, rpc_request

SCALE = 20 if sanitized() else 100      # thousands of requests
ALLOWED = 3 << 20                       # bytes: what an allocator may keep


def pipelined(client, data, count):
    """Sends `data`, which has `count` requests, and counts the answers by their first lines."""
    client.send(data)
    got = b""
    while got.count(b"HTTP/1.1 ") < count or not client_done(got, count):
        piece = client.sock.recv(262144)
        assert piece, "ended after %d of %d answers" % (got.count(b"HTTP/1.1 "), count)
        got += piece
    return got


def client_done(got, count):
    """Whether the last answer is whole."""
    head, mark, body = got[got.rindex(b"HTTP/1.1 "):].partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(mark) and (not length or len(body) >= int(length[1]))


class Round:
    """A thousand requests of all kinds, some on connections of their own."""

    def __init__(self, web):
        self.web = web
        body = rpc_body("demo.echo", {"key": "x" * 40})
        self.batch = (request("POST", "/rpc", body) * 80
                      + request("POST", "/rpc", rpc_body("demo.echo", [1], id=None)) * 5
                      + request("POST", "/rpc", b"[" + b",".join([body] * 5) + b"]") * 3
                      + request("POST", "/echo", b"b" * 3000) * 3
                      + request("GET", "/rpc") * 1
                      + request("POST", "/rpc", b"{")
                      + request("POST", "/rpc", rpc_body("demo.error", {"code": 1, "message": "m"})) * 2)
        self.count = 80 + 5 + 3 + 3 + 1 + 1 + 2
        self.lasting = web.client()

    def run(self):
        for _ in range(10):
            pipelined(self.lasting, self.batch, self.count)
        for n in range(20):
            with self.web.client() as client:
                if n % 4 == 0:
                    client.send(b"BAD\r\n\r\n")
                    assert client.read_response().status == 400
                elif n % 4 == 1:
                    client.send(rpc_request("demo.sleep", {"ms": 1}))
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    assert client.rpc("demo.echo", [n]).status == 200

    def close(self):
        self.lasting.close()


def settle(web):
    wait_for(lambda: web.connections() == 0, "the end of all connections")


@pytest.mark.parametrize("worker", ["workerd", "fake"])
def test_nothing_grows(site, worker):
    web = site(routes=[rpc_route(), http_route()])
    if worker == "workerd":
        web.workerd()
        rounds = SCALE
    else:
        web.fake()
        rounds = SCALE // 10
    web.start()
    watched = [web.front.pid, web.shard] + ([web.workers[0].pid] if worker == "workerd" else [])

    def look():
        settle(web)
        return [(descriptors(pid), memory(pid)) for pid in watched]

    def drive(count):
        one = Round(web)
        for _ in range(count):
            one.run()
            if worker == "fake":
                web.workers[0].forget()
        one.close()

    drive(max(rounds // 5, 2))
    before = look()
    drive(rounds)
    after = look()
    assert web.shard == watched[1]
    for pid, (fds, size), (fds_after, size_after) in zip(watched, before, after):
        assert fds_after <= fds, "descriptors of %d grew" % pid
        if not sanitized():
            assert size_after - size < ALLOWED, "%d grew by %d bytes" % (pid, size_after - size)


def test_connections_cost_nothing_when_gone(site):
    web = site()
    web.fake()
    web.start()
    shard = web.shard

    def cycle(count):
        clients = [web.client() for _ in range(count)]
        for client in clients:
            client.send(rpc_request("demo.echo", [1]))
        for client in clients:
            assert client.read_response().status == 200
            client.close()
        settle(web)

    cycle(500)
    fds, size = descriptors(shard), memory(shard)
    for _ in range(6):
        cycle(500)
    assert descriptors(shard) <= fds
    if not sanitized():
        assert memory(shard) - size < ALLOWED
