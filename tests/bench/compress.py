"""scripts/bench compress: what compressing answers costs, and gains."""

import argparse
import json
import os
import random
import socket
import statistics

import common
import compress_ws
import servers
from common import number

DESCRIPTION = """\
Starts frontd with one shard and a worker, and nginx with one worker and files. Asks both for the same JSON
of several sizes, as it is and compressed, in turns: what a compressed answer takes more of the front's CPU
time, per KiB of the JSON, and how many times smaller it is. nginx has gzip alone. The median of the rounds
is shown. Then WebSockets with permessage-deflate, beside npm's ws.
Exits with 1 when an answer was wrong."""

SIZES = [1, 16, 256]  # KiB
WAYS = [("gzip", 1), ("gzip", 3), ("gzip", 6), ("gzip", 9), ("br", 0), ("br", 2), ("br", 4), ("br", 5)]
BURST = 64  # KiB that are asked for at a time, so that what a turn costs is not what is seen
TYPE = "application/json"

CONFIG = """
run_dir: {path}run
shards: 1
log: {{level: error}}
limits: {{body: 16MiB}}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /rpc, kind: jsonrpc, pool: app}}
{routes}
pools:
  - {{name: app, workers: ["unix:{path}app-1.sock"]}}
"""
ROUTE = """      - path: /{coding}{level}
        kind: jsonrpc
        pool: app
        compress: {{encodings: [{coding}], {coding}_level: {level}, from: 1, up_to: 4MiB}}"""
LOCATION = """
        location /gzip{level}/ {{
            alias {path};
            default_type application/json;
            gzip on;
            gzip_comp_level {level};
            gzip_types application/json;
            gzip_min_length 1;
        }}"""


def document(size, seed=1):
    """JSON such as a list of users has, of `size` bytes; the same each time."""
    source = random.Random(seed)
    rows, n = [], 2
    while True:
        user = source.randrange(10**6)
        row = {"id": user, "name": f"user-{source.randrange(5000)}", "email": f"user{user}@example.test",
               "active": source.random() < 0.5, "score": round(source.random() * 100, 2),
               "tags": source.sample(["alpha", "beta", "gamma", "delta"], 2), "created": f"2024-{user % 12 + 1:02d}-01T00:00:00Z"}
        n += len(json.dumps(row, separators=(",", ":"))) + 1
        if n > size - 100:
            break
        rows.append(row)
    text = json.dumps(rows, separators=(",", ":"))
    return text[:-1] + ("," if rows else "") + json.dumps("x" * (size - len(text) - 3 - (1 if rows else 0) + 1)) + "]"


class Frontd(servers.Frontd):
    def write_config(self):
        routes = "\n".join(ROUTE.format(coding=coding, level=level) for coding, level in WAYS)
        return self.config(CONFIG.format(path=self.path(""), port=self.port, routes=routes))

    def request(self, way, size):
        """The bytes of a request for `size` KiB, with a coding and level or None."""
        body = '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":%s}' % document(size * 1024 - 40)
        path, accept = ("/%s%d" % way, way[0]) if way else ("/rpc", "identity")
        return (f"POST {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accept}\r\nContent-Type: {TYPE}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


class Nginx(servers.Nginx):
    @property
    def locations(self):
        for size in SIZES:
            common.write(self.path(f"{size}.json"), document(size * 1024))
        levels = [level for coding, level in WAYS if coding == "gzip"]
        return "".join(LOCATION.format(level=level, path=self.path("")) for level in levels)

    def request(self, way, size):
        path = "/gzip%d/%d.json" % (way[1] if way else WAYS[0][1], size)
        return f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {'gzip' if way else 'identity'}\r\n\r\n".encode()


class Client:
    """One connection, and some requests at a time."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.buffer = b""

    def until(self, complete):
        while not complete():
            data = self.sock.recv(1 << 20)
            if not data:
                raise common.BenchError("the connection was closed")
            self.buffer += data

    def take(self, n):
        self.until(lambda: len(self.buffer) >= n)
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken

    def line(self):
        self.until(lambda: b"\r\n" in self.buffer)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode().lower()

    def ask(self, request, times):
        """Returns what answers there are: (Content-Encoding, bytes of the body) of each that differs."""
        self.sock.sendall(request * times)
        return {self.answer() for _ in range(times)}

    def answer(self):
        status = self.line()
        if " 200 " not in status + " ":
            raise common.BenchError(f"answer: {status}")
        fields = {}
        while line := self.line():
            name, _, fields[name] = line.partition(": ")
        n = 0
        if "content-length" in fields:
            n = len(self.take(int(fields["content-length"])))
        else:
            while size := int(self.line(), 16):
                self.take(size + 2)
                n += size
            self.line()
        return fields.get("content-encoding"), n


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench compress",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--kib", type=int, default=8192, help="of JSON that are asked for each time (8192)")
    p.add_argument("--only", choices=["answers", "websockets"], help="(both)")
    p.add_argument("--connections", type=int, default=1000, help="of WebSockets that are idle (1000)")
    p.add_argument("--rounds", type=int, default=5, help="(5)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if min(args.kib, args.rounds, args.connections) < 1:
        p.error("numbers must be positive")
    return args


def measure(args, server, client, way, size):
    """Returns (µs of the front's CPU time for a request, bytes of a body)."""
    request = server.request(way, size)
    times = max(BURST // size, 1)
    count = max(args.kib // size // times, 1)
    coding, n = client.ask(request, 1).pop()
    if coding != (way[0] if way else None):
        raise common.BenchError(f"{server.name}: {way} of {size} KiB has {coding}")
    before = common.cpu_ns(server.front.pid)
    for _ in range(count):
        if client.ask(request, times) != {(coding, n)}:
            raise common.BenchError(f"{server.name}: another answer")
    return (common.cpu_ns(server.front.pid) - before) / 1000 / count / times, n


def run(args, processes):
    results = []
    running = [Frontd(processes, args.build_dir).start(), Nginx(processes, args.build_dir).start()]
    clients = [Client(server.port) for server in running]
    for i in range(args.rounds):
        for size in SIZES:
            for server, client in zip(running, clients):
                plain, bytes_plain = measure(args, server, client, None, size)
                for way in WAYS:
                    if way[0] == "br" and server.name == "nginx":
                        continue
                    us, n = measure(args, server, client, way, size)
                    results.append({"round": i, "server": server.name, "kib": size, "coding": way[0], "level": way[1],
                                    "us_per_kib": (us - plain) / size, "plain_us": plain, "ratio": bytes_plain / n})
    return results


def median(results, server, way, size, key):
    values = [r[key] for r in results if (r["server"], r["coding"], r["level"], r["kib"]) == (server, *way, size)]
    return statistics.median(values) if values else None


def main(argv):
    args = parse(argv)
    written = {}
    if args.only != "websockets":
        written["results"] = answers(args)
    if args.only != "answers":
        written["websockets"] = compress_ws.main(args, document)
    common.write_results("compress", written)
    return 0


def answers(args):
    servers.prepare([Frontd, Nginx], args.build_dir)
    with common.Processes() as processes:
        results = run(args, processes)
    rows = []
    for way in WAYS:
        row = ["%s %d" % way]
        for size in SIZES:
            for server in ("frontd", "nginx"):
                row += [number(median(results, server, way, size, key), 2) for key in ("us_per_kib", "ratio")]
        rows.append(row)
    print(f"CPU of the front for compressing, µs per KiB, and how many times smaller; medians of {args.rounds} rounds\n")
    head = ["coding, level"]
    for size in SIZES:
        head += [f"{size} KiB", "ratio", "nginx", "ratio"]
    common.print_table(head, rows)
    plain = {(s, k): median(results, s, WAYS[0], k, "plain_us") for s in ("frontd", "nginx") for k in SIZES}
    print("\nWithout, µs an answer: " + "; ".join(
        f"{s} " + ", ".join(f"{plain[s, k]:,.0f} ({k} KiB)" for k in SIZES) for s in ("frontd", "nginx")))
    return results
