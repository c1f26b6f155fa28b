"""scripts/bench queue: how long calls wait for a worker, beside what the theory of queues says."""

import argparse
import json
import math
import statistics
import time

import common
import servers
from common import BenchError, number

DESCRIPTION = """\
Starts frontd with several shards and workers that take one call at a time, each for a random time of an
exponential distribution, and has calls come at random (Poisson) as often as keeps the workers busy for that
part of the time. Prints the mean and the p99 of how long calls waited, beside those of M/M/n: one queue for all
workers, without any cost, for the calls/s and the workers' time that were measured. A call's wait is what it took
beyond its worker's time and what a call takes on an idle front. Exits with 1 when a call went wrong; a goal that
was missed is only said."""

WORKER = "tests/bench/bench_queue_worker"
LOAD = "tests/bench/bench_queue_load"
READY_SECONDS = 20
WITHIN = 1.25  # of the theory

FRONTD = """
run_dir: {path}run
shards: {shards}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /rpc, kind: jsonrpc, pool: app, timeout: {timeout}ms}}
pools:
  - name: app
    workers: ["unix:{path}app-*.sock"]
"""


class Front(servers.Frontd):
    """frontd with workers of the benchmark; its settings are the options of the command."""

    targets = ["frontd/frontd", WORKER, LOAD]
    text = FRONTD
    pools = 1
    timeout_ms = 30000
    alone = 300  # calls one after the other, before the load

    def __init__(self, processes, args):
        super().__init__(processes, args.build_dir)
        self.args = args

    def start_worker(self):
        self.start_pool("app")

    def start_pool(self, name):
        """The processes of its workers."""
        workers = []
        for i in range(self.args.workers):
            sock = self.path(f"{name}-{i}.sock")
            command = [self.built(WORKER), sock, str(self.args.service_us), str(self.args.seed + i)]
            self.worker = self.spawn(f"{name}-{i}", command)
            self.wait_for_socket(sock)
            workers.append(self.worker)
        return workers

    def start_front(self):
        text = self.text.format(path=self.path(""), shards=self.args.shards, port=self.port, timeout=self.timeout_ms)
        self.front = self.spawn("front", [self.built("frontd/frontd"), "-c", self.config(text)])

    def wait_ready(self):
        """When all shards have all workers."""
        deadline = time.monotonic() + READY_SECONDS
        channels = self.pools * self.args.workers * self.args.shards
        while common.read(self.front.log).count(" is there, concurrency 1") < channels:
            self.check_running(self.front)
            if time.monotonic() > deadline:
                raise BenchError(f"frontd does not find its workers{self.logs()}")
            time.sleep(0.05)

    def load_command(self, path, connections, rate, seconds, seed):
        command = [self.built(LOAD), self.port, path, connections, rate, seconds, seed, self.alone]
        return [str(word) for word in command]

    def load(self, rate, seed, connections=None):
        """Has calls come for a while; what the load program says of them."""
        args = self.args
        command = self.load_command("/rpc", connections or args.connections, rate, args.seconds, seed)
        status, said = self.processes.run(command, args.seconds + 60)
        if status != 0:
            raise BenchError(f"the load ended with {status}: {common.tail(said)}{self.logs()}")
        return json.loads(said.partition("RESULT ")[2])


def capacity(args):
    """Calls/s that the workers could answer."""
    return args.workers * 1e6 / args.service_us


def theory(workers, rate, service_us):
    """M/M/n: (mean, p99) of the wait, us; None where calls come faster than they are served."""
    offered = rate * service_us / 1e6
    if offered >= workers:
        return None
    # Erlang B by its recursion, then C, the probability that a call has to wait at all.
    blocked = 1.0
    for n in range(1, workers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    waits = blocked / (1 - offered / workers * (1 - blocked))
    free_us = service_us / (workers - offered)  # the mean wait of a call that has to
    return waits * free_us, free_us * math.log(waits / 0.01) if waits > 0.01 else 0.0


def add_options(p):
    p.add_argument("--workers", type=int, default=8, help="of concurrency 1 (8)")
    p.add_argument("--shards", type=int, default=4, help="(4)")
    p.add_argument("--connections", type=int, default=1000, help="of the load (1000)")
    p.add_argument("--seed", type=int, default=1, help="(1)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench queue", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(p)
    p.add_argument("--service-us", type=int, default=2000, help="mean (2000)")
    p.add_argument("--load", type=int, default=80, help="%% of what the workers could answer (80)")
    p.add_argument("--rounds", type=int, default=3, help="(3)")
    p.add_argument("--seconds", type=float, default=10, help="of each (10)")
    args = p.parse_args(argv)
    if min(args.workers, args.shards, args.service_us, args.load, args.rounds, args.connections, args.seconds) <= 0:
        p.error("numbers must be positive")
    return args


def main(argv):
    args = parse(argv)
    common.raise_descriptor_limit(2 * args.connections + 500)
    servers.prepare([Front], args.build_dir)
    with common.Processes() as processes:
        front = Front(processes, args).start()
        loads = [front.load(capacity(args) * args.load / 100, args.seed + 100 + i) for i in range(args.rounds)]
    for x in loads:
        found = theory(args.workers, (x["calls"] + x["refused"]) / x["seconds"], x["service_us"])
        x["theory_us"], x["theory_p99_us"] = found or (None, None)
    goals = judge(loads)
    print_results(args, loads)
    common.print_goals(goals)
    options = {k: v for k, v in vars(args).items() if k != "build_dir"}
    common.write_results("queue", {"options": options, "loads": loads, "goals": goals})
    return 1 if any(is_wrong(x) for x in loads) else 0


def is_wrong(x):
    return x["wrong"] + x["late"] + x["unanswered"] > 0 or x["calls"] == 0


def ratio(loads, what):
    """The median of the rounds."""
    found = [x[f"wait_{what}us"] / x[f"theory_{what}us"] for x in loads if x[f"theory_{what}us"]]
    return statistics.median(found) if found else None


def judge(loads):
    return [
        common.goal(f"the {name} of the wait, to that of M/M/n, at most {WITHIN}", ratio(loads, what), WITHIN, True)
        for name, what in (("mean", ""), ("p99", "p99_"))
    ]


def print_results(args, loads):
    rows = [
        [
            f"round {i + 1}",
            number(x["calls"]),
            number(x["refused"]),
            number(x["wrong"] + x["late"] + x["unanswered"]),
            number(100 * x["calls"] / x["seconds"] * x["service_us"] / 1e6 / args.workers, 1),
            number(x["way_us"]),
        ]
        + [number(x[key]) for key in ("wait_us", "theory_us", "wait_p99_us", "theory_p99_us")]
        for i, x in enumerate(loads)
    ]
    head = ["", "calls", "refused", "wrong", "load, %", "way, us", "wait, us", "M/M/n", "p99", "M/M/n"]
    common.print_table(head, rows)
    if any(x["missed"] for x in loads):
        print("Calls that found no free connection were left out: more --connections are needed.")
