#!/usr/bin/python3
"""What one worker that publishes as fast as it can costs the calls of others: latency of 100 clients that call
another pool, without it and beside it. Prints a table; FRONTD_BUILD says which build (build/release).

    tests/bench/publisher.py [--seconds N] [--subscribers N] [--shards N] [--kinds fan,push,nobody]
"""

import argparse
import json
import multiprocessing
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("FRONTD_BUILD", "build/release"))
HEADER = struct.Struct(">IBBHQQII")
HELLO, REQUEST, PING, PONG, PUSH, PUBLISH, SUBSCRIBE = 1, 2, 5, 6, 8, 9, 10
CALL = '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":[1]}'
ANSWER = '{"jsonrpc":"2.0","id":1,"result":[1]}'
UPGRADE = (b"GET /sub HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
CONFIG = """
run_dir: {dir}/run
shards: {shards}
log: {{level: warning}}
drain: 1s
limits: {{write_buffer: 16MiB}}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /ws, kind: websocket, pool: app}}
      - {{path: /sub, kind: websocket, pool: pub, events: true, slow: drop, ping: 1h}}
pools:
  - {{name: app, workers: ["unix:{dir}/app.sock"]}}
  - {{name: pub, workers: ["unix:{dir}/pub.sock"]}}
"""


def frame(kind, meta=b"", body=b"", conn=0):
    return HEADER.pack(len(meta) + len(body), kind, 0, 0, 0, conn, len(meta), 0) + meta + body


class Publisher:
    """A worker of the pool `pub`: it knows who is connected, and floods the first shard's channel."""

    def __init__(self, path, shards):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.shards, self.channels, self.conns, self.buffers = shards, [], [], {}

    def serve(self, seconds, until=None):
        """Reads what comes, for so long or until `until()`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (until and until()):
            for ready in select.select([self.listener] + self.channels, [], [], 0.02)[0]:
                if ready is self.listener:
                    channel = self.listener.accept()[0]
                    channel.sendall(frame(HELLO, body=b'{"protocol":1,"push":true,"concurrency":0}'))
                    self.channels.append(channel)
                    self.buffers[channel] = b""
                else:
                    self.read(ready)

    def read(self, channel):
        data = self.buffers[channel] + channel.recv(1 << 18)
        at = 0
        while len(data) - at >= HEADER.size:
            length, kind, _, _, _, conn, _, _ = HEADER.unpack_from(data, at)
            if len(data) - at < HEADER.size + length:
                break
            if kind == REQUEST and b"frontd.connect" in data[at:at + HEADER.size + length]:
                self.conns.append(conn)
            elif kind == PING:
                channel.sendall(frame(PONG, body=data[at + HEADER.size:at + HEADER.size + length]))
            at += HEADER.size + length
        self.buffers[channel] = data[at:]

    def subscribe(self):
        for channel in self.channels[:1]:
            channel.sendall(b"".join(frame(SUBSCRIBE, b'{"topic":"t"}', conn=c) for c in self.conns))

    def flood(self, data, stop):
        """As fast as it is read, until `stop()`."""
        channel = self.channels[0]
        channel.setblocking(False)
        at, count = 0, 0
        while not stop():
            readable, writable, _ = select.select([channel], [channel], [], 0.02)
            if readable:
                channel.setblocking(True)
                self.read(channel)
                channel.setblocking(False)
            if writable:
                try:
                    at += channel.send(data[at:])
                except BlockingIOError:
                    continue
                if at == len(data):
                    at, count = 0, count + 1
        channel.setblocking(True)
        channel.sendall(data[at:])
        return count


def sink(port, count, ready):
    """Connects subscribers, and reads and forgets what they are sent."""
    poll = select.epoll()
    socks = {}
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(UPGRADE)
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    ready.set()
    buffer = bytearray(1 << 16)
    while True:
        for fd, _ in poll.poll():
            socks[fd].recv_into(buffer)


def payload(kind, conns):
    text = b"x" * 200
    if kind == "fan":
        return frame(PUBLISH, b'{"topic":"t"}', text)
    if kind == "push":
        return b"".join(frame(PUSH, b"", text, conn) for conn in conns[:1000])
    return frame(PUBLISH, b'{"topic":"nobody"}', text) * 1000


def load(port, seconds, connections):
    command = [os.path.join(BUILD, "tests/bench/bench_ws_calls"), "--connect", "127.0.0.1:%d" % port,
               "--path", "/ws", "--connections", str(connections), "--seconds", str(seconds), "--call", CALL,
               "--answer", ANSWER]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process):
    out = process.communicate()[0]
    line = next(x for x in out.splitlines() if "{" in x)
    return json.loads(line[line.index("{"):])


def measure(args, folder):
    port = 9471
    config = os.path.join(folder, "frontd.yaml")
    with open(config, "w") as f:
        f.write(CONFIG.format(dir=folder, port=port, shards=args.shards))
    worker = subprocess.Popen([os.path.join(BUILD, "workerd/workerd"), "--listen", "unix:%s/app.sock" % folder,
                               "--module", os.path.join(BUILD, "workerd/modules/demo.so"), "--concurrency", "0"])
    publisher = Publisher(os.path.join(folder, "pub.sock"), args.shards)
    front = subprocess.Popen([os.path.join(BUILD, "frontd/frontd"), "-c", config])
    ready = multiprocessing.Event()
    subscribers = None
    rows = []
    try:
        publisher.serve(20, lambda: len(publisher.channels) == args.shards)
        publisher.serve(0.5)
        subscribers = multiprocessing.Process(target=sink, args=(port, args.subscribers, ready), daemon=True)
        subscribers.start()
        publisher.serve(60, lambda: len(publisher.conns) == args.subscribers)
        publisher.subscribe()
        publisher.serve(1)
        for n in range(args.rounds):
            for kind in ["alone"] + args.kinds.split(","):
                process = load(port, args.seconds, args.connections)
                count = None
                if kind == "alone":
                    publisher.serve(3600, lambda: process.poll() is not None)
                else:
                    count = publisher.flood(payload(kind, publisher.conns), lambda: process.poll() is not None)
                rows.append((n, kind, result_of(process), count))
                publisher.serve(1)
    finally:
        front.terminate()
        front.wait()
        worker.kill()
        if subscribers:
            subscribers.kill()
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=int, default=3)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--connections", type=int, default=100)
    p.add_argument("--subscribers", type=int, default=5000)
    p.add_argument("--shards", type=int, default=1)
    p.add_argument("--kinds", default="fan,push,nobody")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="fp-") as folder:
        rows = measure(args, folder)
    alone = {}
    for n, kind, result, count in rows:
        if kind == "alone":
            alone[n] = result
        ratio = result["p99_us"] / max(alone[n]["p99_us"], 1)
        print("%d %-7s %8.0f calls/s  p50 %7.2f ms  p99 %8.2f ms  x%-7.2f sent %s" % (
            n, kind, result["requests"] * 1e6 / result["duration_us"], result["p50_us"] / 1000,
            result["p99_us"] / 1000, ratio, count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
