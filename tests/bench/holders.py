"""Clients that have a shard hold as much as they can, for scripts/bench fairness."""

import os
import socket
import struct
import time

import common
import servers

LARGE = 1 << 20  # bytes of an answer, a body or a call, and what limits.body is
TIMES = 4  # as much as the budget is asked for
SECONDS = 8  # in which it grows at most
QUIET_SECONDS = 1  # without growing: that is all
REST_SECONDS = 2  # for what is left when they have gone

LARGE_CALL = '{"jsonrpc":"2.0","id":%d,"method":"fair.large","params":{"bytes":%d}}'
PIPELINED = 32  # calls on one connection


def measure(server, kind, budget):
    """Bytes of a shard's memory beyond what it had before: at most, and when they have gone."""
    shard = server.shard()
    asked = TIMES * budget << 20
    before = resident(shard)
    clients = []
    try:
        KINDS[kind](server, asked // LARGE, clients)
        held = peak(shard, clients) - before
    finally:
        for client, _ in clients:
            client.close()
    server.stopped.send_signal(18)  # SIGCONT
    time.sleep(REST_SECONDS)
    left = resident(shard) - before
    if server.shard() != shard:
        raise common.BenchError(f"the shard has ended{server.logs()}")
    return {"kind": kind, "asked": asked, "held": held, "left": left}


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


def peak(pid, clients):
    """The most that a process has while the clients send what they have to."""
    most = last = resident(pid)
    grew = start = time.monotonic()
    while time.monotonic() - grew < QUIET_SECONDS and time.monotonic() - start < SECONDS:
        busy = False
        for n, (client, rest) in enumerate(clients):
            if not rest:
                continue
            try:
                sent = client.send(rest)
                clients[n] = (client, rest[sent:])
                busy = True
            except BlockingIOError:
                pass
            except OSError:  # it was ended
                clients[n] = (client, b"")
        most = max(most, resident(pid))
        if busy or most > last + LARGE:
            grew, last = time.monotonic(), most
        time.sleep(0.005)
    return most


def connect(port, clients, data, upgrade=b""):
    """A connection that takes in next to nothing, and has that to send."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.settimeout(servers.READY_SECONDS)
    client.connect(("127.0.0.1", port))
    client.sendall(upgrade)
    head = b""
    while upgrade and b"\r\n\r\n" not in head:
        more = client.recv(1024)
        if not more:
            raise common.BenchError("a WebSocket was refused")
        head += more
    client.setblocking(False)
    clients.append((client, memoryview(data)))


def post(path, body, length=None):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


def large_calls(wrap):
    return b"".join(wrap((LARGE_CALL % (n, LARGE - 100)).encode()) for n in range(PIPELINED))


def http_answers(server, count, clients):
    data = large_calls(lambda text: post("/rpc", text))
    for _ in range(count // PIPELINED):
        connect(server.port, clients, data)


def ws_frame(text):
    """A masked text frame of at most 125 bytes; the mask is 0."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def websocket_answers(server, count, clients):
    data = large_calls(ws_frame)
    for _ in range(count // PIPELINED):
        connect(server.port, clients, data, UPGRADE)


def frame_answers(server, count, clients):
    data = large_calls(lambda text: struct.pack(">I", len(text)) + text)
    for _ in range(count // PIPELINED):
        connect(server.frame_port, clients, data)


def half_bodies(server, count, clients):
    data = post("/rpc", b'{"jsonrpc":"2.0","id":1,"params":["' + b"x" * (LARGE - 4096), LARGE - 100)
    for _ in range(count):
        connect(server.port, clients, data)


def queued_calls(server, count, clients):
    """Nobody takes them: the worker is stopped."""
    server.stop_worker()
    call = b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["%s"]}' % (b"x" * (LARGE - 4096))
    for _ in range(count):
        connect(server.port, clients, post("/stopped", call))


KINDS = {
    "http-answers": http_answers,
    "websocket-answers": websocket_answers,
    "frame-answers": frame_answers,
    "half-bodies": half_bodies,
    "queued-calls": queued_calls,
}
