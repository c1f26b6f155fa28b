"""scripts/bench stream: long bodies in both directions, and Server-Sent Events."""

import argparse
import json
import os
import statistics
import threading
import time

import common
import servers
from common import BenchError, number

DESCRIPTION = """\
Starts nginx with its buffering off and frontd, each with one single-threaded front and the same backend
behind it, and has curl take a body of 1 GiB and send one, by turns; then opens 1,000 connections to each
on which ten events a second come. Prints MB/s, the front's CPU time for it, and by how much the front's
memory grew. Exits with 1 when something of frontd's was wrong; a goal that was missed is only said."""

BACKEND = "tests/bench/bench_stream_backend"
EVENTS = "tests/bench/bench_stream_events"
EVENTS_A_SECOND = 10  # on each connection
GROWTH_MIB = 4


class Backed:
    """A server with the backend behind it."""

    speaks = None

    def start_worker(self):
        sock = self.path("app-1.sock" if self.speaks == "worker" else "app.sock")
        self.worker = self.spawn("worker", [self.built(BACKEND), self.speaks, sock, str(self.body_bytes)])
        self.wait_for_socket(sock)

    def try_request(self):
        client = self.http_client()
        try:
            client.request("PUT", "/up", b"12345")
            response = client.getresponse()
            body = response.read()
        except OSError as e:
            return repr(e)
        finally:
            client.close()
        return None if response.status == 200 and body == b"5" else f"status {response.status}, body {body[:200]!r}"


class Nginx(Backed, servers.Nginx):
    speaks = "http"
    targets = [BACKEND]
    locations = "client_max_body_size 0; proxy_buffering off; proxy_request_buffering off;"


FRONTD = """
run_dir: {path}run
shards: 1
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /, kind: http, pool: app, stream_body: 1024GiB}}
pools:
  - name: app
    workers: ["unix:{path}app-*.sock"]
"""


class Frontd(Backed, servers.Frontd):
    speaks = "worker"
    targets = ["frontd/frontd", BACKEND]

    def start_front(self):
        config = self.config(FRONTD.format(path=self.path(""), port=self.port))
        self.front = self.spawn("front", [self.built("frontd/frontd"), "-c", config])


ALL = [Nginx, Frontd]


class Growth:
    """By how much a front's memory grows meanwhile, looked at ten times a second."""

    def __init__(self, front):
        self.front = front
        self.before = self.most = common.memory(front.pid)
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ends.wait(0.1):
            self.most = max(self.most, common.memory(self.front.pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()

    @property
    def bytes(self):
        return self.most - self.before


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench stream", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--bytes", type=int, default=1 << 30, help="of a body (1 GiB)")
    p.add_argument("--rounds", type=int, default=3, help="of all loads (3)")
    p.add_argument("--clients", type=int, default=1000, help="of events (1000)")
    p.add_argument("--seconds", type=int, default=5, help="of events (5)")
    p.add_argument("--only", metavar="NAMES", help="of nginx,frontd (all)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if min(args.bytes, args.rounds, args.clients, args.seconds) < 1:
        p.error("numbers must be positive")
    return args


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, ALL)
    common.raise_descriptor_limit(4 * args.clients + 500)
    servers.prepare(classes, args.build_dir, more_targets=[EVENTS])
    Backed.body_bytes = args.bytes
    with common.Processes() as processes:
        running = [c(processes, args.build_dir).start() for c in classes]
        body = os.path.join(processes.dir, "body")
        with open(body, "wb") as file:
            file.truncate(args.bytes)
        loads = [
            {"round": i, **load(args, processes, server, body)}
            for i in range(args.rounds)
            for load in (take, send, hear)
            for server in (running if i % 2 else running[::-1])
        ]
    goals = judge(args, loads)
    print_results(loads, running)
    common.print_goals(goals)
    options = {k: v for k, v in vars(args).items() if k != "build_dir"}
    common.write_results("stream", {"options": options, "loads": loads, "goals": goals})
    return 1 if any(x["wrong"] for x in loads if x["server"] == "frontd") else 0


def curl(args, processes, server, kind, options):
    before = common.cpu_ns(server.front.pid)
    with Growth(server.front) as growth:
        command = [common.tool("curl"), "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}"] + options
        status, said = processes.run(command, 300)
    cpu = common.cpu_ns(server.front.pid) - before
    code, _, seconds = said.partition(" ")
    return {
        "server": server.name,
        "kind": kind,
        "rate": args.bytes / 1e6 / float(seconds),
        "cpu": cpu / 1e6 / (args.bytes / 1e9),
        "growth": growth.bytes,
        "wrong": status != 0 or code != "200",
    }


def take(args, processes, server, _body):
    return curl(args, processes, server, "down", [server.url("/down")])


def send(args, processes, server, body):
    return curl(args, processes, server, "up", ["-H", "Expect:", "-T", body, server.url("/up")])


def hear(args, processes, server, _body):
    command = [server.built(EVENTS), str(server.port), str(args.clients), str(args.seconds)]
    with Growth(server.front) as growth:
        clients = processes.start("events", command)
        while "BEGIN" not in common.read(clients.log):
            server.check_running(server.front)
            if clients.poll() is not None:
                raise BenchError(f"events: {common.read(clients.log)}{server.logs()}")
            time.sleep(0.01)
        before = common.cpu_ns(server.front.pid)
        clients.wait(args.seconds + 60)
        cpu = common.cpu_ns(server.front.pid) - before
    processes.started.remove(clients)
    result = json.loads(common.read(clients.log).partition("RESULT ")[2])
    return {
        "server": server.name,
        "kind": "events",
        "rate": result["events"] * 1e6 / result["duration_us"],
        "cpu": cpu / 1000 / max(result["events"], 1),
        "growth": growth.bytes,
        "wrong": result["closed"] > 0 or result["events"] == 0,
    }


def median(loads, name, kind, what):
    found = [x[what] for x in loads if x["server"] == name and x["kind"] == kind]
    return statistics.median(found) if found else None


def ratio(loads, kind):
    ours, theirs = (median(loads, name, kind, "rate") for name in ("frontd", "nginx"))
    return ours / theirs if ours and theirs else None


def judge(args, loads):
    sent = args.clients * EVENTS_A_SECOND if median(loads, "frontd", "events", "rate") else None
    growth = [x["growth"] for x in loads if x["server"] == "frontd" and x["kind"] != "events"]
    return [
        common.goal("MB/s down, to nginx's, at least 1", ratio(loads, "down"), 1, False),
        common.goal("MB/s up, to nginx's, at least 1", ratio(loads, "up"), 1, False),
        common.goal(
            "events/s, to those that are sent, at least 0.99",
            sent and median(loads, "frontd", "events", "rate") / sent,
            0.99,
            False,
        ),
        common.goal("growth with a body, MiB, at most 4", max(growth) / (1 << 20) if growth else None, GROWTH_MIB, True),
    ]


def print_results(loads, running):
    units = {"down": ("MB/s", "ms a GB"), "up": ("MB/s", "ms a GB"), "events": ("events/s", "us an event")}
    rows = [
        [
            f"{server.name}, {kind}",
            f"{number(median(loads, server.name, kind, 'rate'))} {of}",
            f"{number(median(loads, server.name, kind, 'cpu'), 2)} {a}",
            number(max(x["growth"] for x in loads if x["server"] == server.name and x["kind"] == kind) / (1 << 20), 2),
        ]
        for kind, (of, a) in units.items()
        for server in running
    ]
    common.print_table(["median", "rate", "front's CPU", "growth, MiB"], rows)
