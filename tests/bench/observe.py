"""scripts/bench observe: what it costs to be looked at."""

import argparse
import http.client
import http.server
import os
import socket
import statistics
import sys
import threading
import time

import common
import servers
import throughput
from common import number

DESCRIPTION = """\
Starts frontd twice, each with one shard, one worker and one config: in one of them everything that looks
at it is off, in the other it is scraped every second, 1 % of the requests go into the access log, and
1 % of the calls are traced to a collector. Puts the same load on both in turns, and prints requests/s and
CPU time per request; ratios are taken within a round, and their median is shown. The CPU time is that of
all of frontd's processes. Then opens connections, makes calls of many methods, and prints what a scrape
takes of the CPU time of the process that answers it, and of the shard's.
Exits with 1 when an answer was wrong or a connection failed; a goal that was missed is only said."""

ADMIN = """
admin:
  address: 127.0.0.1:{admin_port}
"""
OBSERVED = """
access_log:
  path: {path}access.log
  format: json
  sample: 0.01
tracing:
  endpoint: http://127.0.0.1:{collector_port}
  ratio: 0.01
"""
NAMED = """
metrics:
  methods: [{methods}]
"""
SCRAPES = 20
METHODS_MAX = 100  # that have metrics of their own


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench observe",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--seconds", type=int, default=1, help="of a load (1)")
    p.add_argument("--rounds", type=int, default=60, help="of both loads (60): many short ones, since a machine changes its pace")
    p.add_argument("--connections", type=int, default=256, help="of the load (256)")
    p.add_argument("--idle", type=int, default=15000, help="connections while it is scraped (15000)")
    p.add_argument("--methods", type=int, default=500, help="that are called (500)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    args.threads = 1
    if min(args.seconds, args.rounds, args.connections, args.idle, args.methods) < 1:
        p.error("numbers must be positive")
    return args


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans, and counts them."""

    protocol_version = "HTTP/1.1"
    spans = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Collector.spans += body.count(b'"spanId"')
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Off(servers.Frontd):
    name = "off"
    admin_port = None

    def more(self):
        return ""

    def write_config(self):
        path = super().write_config()
        with open(path, "a", encoding="utf-8") as file:
            file.write(self.more())
        return path


class On(Off):
    name = "on"

    def more(self):
        self.admin_port = common.free_port()
        self.collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        self.collector.daemon_threads = True
        threading.Thread(target=self.collector.serve_forever, daemon=True).start()
        return (ADMIN + OBSERVED + NAMED).format(
            path=self.path(""), admin_port=self.admin_port, collector_port=self.collector.server_port,
            methods=", ".join(method_name(i) for i in range(METHODS_MAX)),
        )


class Scraper:
    """Reads /metrics every second for as long as it is entered."""

    def __init__(self, port):
        self.port = port
        self.scrapes = 0
        self.stop = threading.Event()

    def __enter__(self):
        if self.port:
            self.thread = threading.Thread(target=self.run)
            self.thread.start()
        return self

    def __exit__(self, *_):
        if self.port:
            self.stop.set()
            self.thread.join()

    def run(self):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.stop.wait(1):
            scrape(client)
            self.scrapes += 1
        client.close()


def method_name(i):
    return f"bench.method{i}"


def scrape(client):
    """The text of /metrics."""
    client.request("GET", "/metrics")
    response = client.getresponse()
    text = response.read()
    if response.status != 200 or not text.endswith(b"\n"):
        raise common.BenchError(f"/metrics: {response.status} {text[:200]!r}")
    return text


def main(argv):
    args = parse(argv)
    common.raise_descriptor_limit(args.idle + 500)
    servers.prepare([Off, On], args.build_dir, ["wrk"])
    with common.Processes() as processes:
        running = [c(processes, args.build_dir).start() for c in (Off, On)]
        loads, scrapes = run_loads(args, processes, running)
        cost = scrape_cost(args, running[1])
        logged = common.read(running[1].path("access.log")).count("\n")
    ratio = {key: ratio_of(loads, key) for key in ("rate", "front")}
    goals = [
        common.goal("CPU per request, observed <= 1.03 x unobserved", ratio["front"], 1.03, at_most=True),
        common.goal("requests/s, observed >= 0.97 x unobserved", ratio["rate"], 0.97, at_most=False),
        common.goal("a scrape takes <= 20 ms of CPU time", cost["admin_ms"], 20, at_most=True),
    ]
    print_results(args, loads, ratio, cost)
    print(f"While it was observed: {scrapes} scrapes, {logged:,} lines of the access log, {Collector.spans:,} spans")
    common.print_goals(goals)
    common.write_results("observe", {"loads": loads, "ratio": ratio, "scrape": cost, "goals": goals})
    seen = scrapes > 0 and logged > 0 and Collector.spans > 0
    return 1 if any(x["errors"] for x in loads) or not seen else 0


def run_loads(args, processes, running):
    for server in running:
        throughput.load(args, processes, server, args.connections, 1, throughput.run_wrk)
    loads, scrapes = [], 0
    for i in range(args.rounds):
        for server in running if i % 2 == 0 else reversed(running):
            with Scraper(server.admin_port) as scraper:
                one = throughput.load(args, processes, server, args.connections, args.seconds, throughput.run_wrk)
            scrapes += scraper.scrapes
            loads.append({"round": i, **one})
    return loads, scrapes


def ratio_of(loads, key):
    """The median of the rounds' ratios, observed to unobserved."""
    rounds = {}
    for load in loads:
        rounds.setdefault(load["round"], {})[load["server"]] = load[key]
    ratios = [r["on"] / r["off"] for r in rounds.values() if r["on"] and r["off"]]
    return statistics.median(ratios) if ratios else None


def scrape_cost(args, server):
    """CPU time of a scrape, of the admin process and of all others, ms, and the size of the text."""
    clients = []
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for i in range(args.methods):
        body = servers.REQUEST.replace("demo.echo", method_name(i))
        client.request("POST", servers.PATH, body, {"Content-Type": "application/json"})
        client.getresponse().read()
    for _ in range(args.idle):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        clients.append(one)
    admin = [pid for pid in common.process_tree(server.front.pid) if b"--admin" in cmdline(pid)]
    if len(admin) != 1:
        raise common.BenchError(f"there is not one admin process: {admin}")
    scraper = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=30)
    text = scrape(scraper)
    time.sleep(1)
    before = common.process_cpu_ns(admin[0]), common.cpu_ns(server.front.pid)
    for _ in range(SCRAPES):
        text = scrape(scraper)
    after = common.process_cpu_ns(admin[0]), common.cpu_ns(server.front.pid)
    for one in clients:
        one.close()
    mine, all_of_it = ((b - a) / SCRAPES / 1e6 for a, b in zip(before, after))
    return {"admin_ms": mine, "others_ms": all_of_it - mine, "bytes": len(text)}


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def print_results(args, loads, ratio, cost):
    print(f"Medians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections")
    rows = []
    for name in ("off", "on"):
        mine = [x for x in loads if x["server"] == name]
        errors = sum(sum(x["errors"].values()) for x in mine)
        rows.append([
            "everything off" if name == "off" else "scraped, logged, traced",
            number(statistics.median(x["rate"] for x in mine)),
            number(statistics.median(x["front"] for x in mine), 2),
            number(errors),
        ])
    rows.append(["ratio", number(ratio["rate"], 3), number(ratio["front"], 3), ""])
    common.print_table(["", "requests/s", "front µs", "errors"], rows)
    print(f"\nA scrape with {args.idle:,} connections and {args.methods} methods: {number(cost['admin_ms'], 2)} ms of CPU, "
          f"{number(cost['others_ms'], 2)} ms of all other processes, {cost['bytes']:,} bytes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
