"""scripts/bench fairness: what normal clients notice of one that takes what it can, and what a shard holds."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import time

import common
import holders
import servers
from common import number

DESCRIPTION = """\
Puts 100 normal clients on frontd with one shard: each makes a small call, over HTTP with keep-alive or
over a WebSocket, and the next some ms later. Their p99 is measured alone and beside somebody who takes
what there is, in turns within one run:

pipelined   one client that sends requests over HTTP as fast as it can
batches     one that sends batches of 1,000 calls so
websocket   one that sends calls over a WebSocket so
published   a worker that publishes as fast as it can to 1,000 subscribers
unheard     the same, to nobody
stopped     a pool whose worker does not run any more (SIGSTOP), with 200 calls waiting for it
many        200 clients that send calls as fast as they can, more than the queue takes

Clients and workers of the other side run when nobody else wants to (SCHED_IDLE): what is asked is
whether frontd is fair, not whether two cores are enough. What it costs by itself that a machine is
busy (its hypervisor may stop it then, for milliseconds) is measured in the same round: beside
programs that do nothing else, and have nothing to do with frontd. The ratio is to that. Ratios are
taken within a round; the median of the rounds is shown.

Then what a shard holds for each of several kinds of clients that have it hold as much as they can,
beside what it may (limits.memory; where this frontd has no such key there is nothing to judge).

A goal that was missed is only said."""

GOAL_TIMES = 1.5
GOAL_HELD = 1.1
CALLS = "tests/bench/bench_fair_calls"
FLOOD = "tests/bench/bench_flood"
MODULE = "tests/bench/bench_fair_worker.so"
OPEN_SECONDS = 60
RUN_SECONDS = 60  # that a run may take longer than it should
SETTLE_SECONDS = 0.3  # from the beginning of a flood until it counts, and from its end
QUEUE = 1000
CONCURRENCY = 16

ECHO = '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["hello"]}'
SLEEP = '{"jsonrpc":"2.0","id":1,"method":"demo.sleep","params":{"ms":1}}'
PUBLISH = '{"jsonrpc":"2.0","id":1,"method":"fair.publish","params":{"count":1000}}'
SUBSCRIBE = '{"jsonrpc":"2.0","id":1,"method":"fair.subscribe"}'

# Name: the programs that flood, each (mode, path, connections, call, more options).
CASES = {
    "pipelined": [("pipeline", "/rpc", 1, ECHO, ())],
    "batches": [("pipeline", "/rpc", 1, ECHO, ("--batch", "1000"))],
    "websocket": [("websocket", "/ws", 1, ECHO, ())],
    "published": [
        ("subscribe", "/noisy-ws", None, SUBSCRIBE, ()),
        ("pipeline", "/noisy", 1, PUBLISH, ()),
    ],
    "unheard": [("pipeline", "/noisy", 1, PUBLISH, ())],
    "stopped": [("once", "/stopped", 200, ECHO, ())],
    "many": [("pipeline", "/rpc", 200, SLEEP, ())],
}


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench fairness",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--cases", metavar="NAMES", help=f"of {','.join(CASES)} (all; none: none)")
    p.add_argument("--holders", metavar="NAMES", help=f"of {','.join(holders.KINDS)} (all; none: none)")
    p.add_argument("--clients", type=int, default=100, help="normal ones (100)")
    p.add_argument("--pause", type=int, default=25, help="ms between an answer and the next call (25)")
    p.add_argument("--subscribers", type=int, default=1000, help="of what is published (1000)")
    p.add_argument("--seconds", type=float, default=1.5, help="of a run (1.5)")
    p.add_argument("--rounds", type=int, default=4, help="of all runs (4)")
    p.add_argument("--budget", type=int, default=64, help="MiB of limits.memory (64)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if min(args.clients, args.pause, args.subscribers, args.seconds, args.rounds, args.budget) <= 0:
        p.error("numbers must be positive")
    for option, known in (("cases", CASES), ("holders", holders.KINDS)):
        given = getattr(args, option)
        names = list(known) if given is None else [] if given == "none" else given.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            p.error(f"--{option}: there is no {unknown[0]}")
        setattr(args, option, names)
    return args


CONFIG = """
run_dir: {path}run
shards: 1
drain: 1s
{limits}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    protocol: http
    routes:
      - {{path: /rpc, kind: jsonrpc, pool: app}}
      - {{path: /ws, kind: websocket, pool: app}}
      - {{path: /noisy, kind: jsonrpc, pool: noisy}}
      - {{path: /noisy-ws, kind: websocket, pool: noisy}}
      - {{path: /stopped, kind: jsonrpc, pool: stopped}}
  - name: frames
    address: 127.0.0.1:{frame_port}
    protocol: frame
    pool: app
pools:
  - {{name: app, workers: ["unix:{path}app.sock"], queue: {queue}}}
  - {{name: noisy, workers: ["unix:{path}noisy.sock"]}}
  - {{name: stopped, workers: ["unix:{path}stopped.sock"], queue: {queue}}}
"""


class Frontd(servers.Frontd):
    """With three pools, of which one worker is a bad neighbour and one is stopped."""

    targets = ["frontd/frontd", "workerd/workerd", "workerd/modules/demo.so", MODULE, CALLS, FLOOD]
    budget = None  # MiB

    def start_worker(self):
        self.worker = self.workerd("app", CONCURRENCY)
        self.noisy = self.workerd("noisy", 1)
        self.stopped = self.workerd("stopped", CONCURRENCY)
        yield_to_all(self.noisy.pid)

    def workerd(self, name, concurrency):
        sock = self.path(name + ".sock")
        command = [self.built("workerd/workerd"), "--listen", "unix:" + sock]
        for module in ("workerd/modules/demo.so", MODULE):
            command += ["--module", self.built(module)]
        process = self.spawn(name, command + ["--concurrency", str(concurrency)])
        self.worker = process  # the one that is waited for
        self.wait_for_socket(sock)
        return process

    def write_config(self):
        limits = f"limits: {{memory: {self.budget}MiB}}" if self.budget else ""
        return self.config(
            CONFIG.format(
                path=self.path(""),
                port=self.port,
                frame_port=self.frame_port,
                limits=limits,
                queue=QUEUE,
            )
        )

    def stop_worker(self):
        """SIGSTOP, once the shard has its channel: before, there would be no worker at all."""
        self.stopped.send_signal(signal.SIGSTOP)

    def shard(self):
        """The process id of its shard."""
        deadline = time.monotonic() + servers.READY_SECONDS
        while True:
            for pid in common.process_tree(self.front.pid)[1:]:
                if b"--shard" in open(f"/proc/{pid}/cmdline", "rb").read():
                    return pid
            if time.monotonic() > deadline:
                raise common.BenchError(f"frontd has no shard{self.logs()}")
            time.sleep(0.02)


def yield_to_all(pid):
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def knows_memory(build_dir, directory):
    """Whether this frontd has the key limits.memory."""
    path = os.path.join(directory, "check.yaml")
    text = CONFIG.format(path="/tmp/", port=1, frame_port=2, limits="limits: {memory: 64MiB}", queue=1)
    common.write(path, text)
    check = [os.path.join(build_dir, "frontd/frontd"), "--check", "-c", path]
    return subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main(argv):
    args = parse(argv)
    common.raise_descriptor_limit(args.subscribers + args.clients + 1000)
    servers.prepare([Frontd], args.build_dir)
    runs, held = [], []
    with common.Processes() as processes:
        budget = args.budget if knows_memory(args.build_dir, processes.dir) else 0
        if args.cases:  # which are about time: with the memory that a shard has if nothing is said
            runs = measure(args, processes)
    Frontd.budget = budget
    for kind in args.holders:
        with common.Processes() as processes:
            server = Frontd(processes, args.build_dir).start()
            held.append(holders.measure(server, kind, args.budget))
    table = [summary(args, runs, case) for case in args.cases]
    goals = judge(args, table, held)
    print_results(args, table, held)
    common.print_goals(goals)
    names = ("clients", "pause", "subscribers", "seconds", "rounds", "budget")
    options = {name: getattr(args, name) for name in names}
    results = {"options": options, "table": table, "held": held, "goals": goals, "runs": runs}
    common.write_results("fairness", results)
    return 0


# Running


def measure(args, processes):
    server = Frontd(processes, args.build_dir).start()
    websockets = args.clients // 2
    command = [server.built(CALLS), "--connect", f"127.0.0.1:{server.port}", "--path", "/rpc"]
    command += ["--ws-path", "/ws", "--http", str(args.clients - websockets)]
    command += ["--websockets", str(websockets), "--pause-us", str(args.pause * 1000), "--call", ECHO]
    normal = processes.talk("normal", command)
    normal.wait_for("READY", OPEN_SECONDS)
    run(normal, args.seconds)  # to warm up
    runs = []
    for n in range(args.rounds):
        for case in args.cases:
            alone = run(normal, args.seconds)
            busy = run_busy(args, processes, normal)
            beside, floods = run_beside(args, processes, server, normal, case)
            runs.append(dict(round=n, case=case, alone=alone, busy=busy, beside=beside, floods=floods))
    server.stopped.send_signal(signal.SIGCONT)
    return runs


def run(normal, seconds):
    normal.say(str(int(seconds * 1000)))
    return json.loads(normal.wait_for("RESULT ", seconds + RUN_SECONDS))


def run_busy(args, processes, normal):
    """Beside programs that have nothing to do with frontd."""
    programs = [processes.start("busy", ["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    for process in programs:
        yield_to_all(process.pid)
    time.sleep(SETTLE_SECONDS)
    busy = run(normal, args.seconds)
    for process in programs:
        process.kill()
        process.wait()
        processes.started.remove(process)
    return busy


def run_beside(args, processes, server, normal, case):
    if case == "stopped":
        server.stop_worker()
    programs = []
    for mode, path, connections, call, more in CASES[case]:
        command = [server.built(FLOOD), "--connect", f"127.0.0.1:{server.port}", "--path", path]
        command += ["--mode", mode, "--call", call, *more]
        command += ["--connections", str(connections or args.subscribers)]
        programs.append(processes.talk(f"flood-{case}-{mode}", command))
        yield_to_all(programs[-1].process.pid)
        programs[-1].wait_for("READY", OPEN_SECONDS)
    time.sleep(SETTLE_SECONDS)
    beside = run(normal, args.seconds)
    floods = []
    for program in reversed(programs):
        program.process.terminate()
        program.process.wait(servers.READY_SECONDS)
        floods.insert(0, json.loads(program.wait_for("RESULT ", 1)))
    for program in programs:
        processes.started.remove(program.process)
    if case == "stopped":
        server.stopped.send_signal(signal.SIGCONT)
    time.sleep(SETTLE_SECONDS)
    return beside, floods


# Judging and showing


def percentile(args, side, key):
    """Where no call was answered with a result, all took longer than the run, as far as is known."""
    answered = side["calls"] - side["refused"] - side["failed"]
    return side[key] if answered > 0 else args.seconds * 1e6


def summary(args, runs, case):
    mine = [x for x in runs if x["case"] == case]
    row = {"case": case}
    for side in SIDES:
        for key in ("p50_us", "p99_us"):
            row[f"{side}_{key}"] = statistics.median(percentile(args, x[side], key) for x in mine)
        for key in ("calls", "refused", "failed"):
            row[f"{side}_{key}"] = sum(x[side][key] for x in mine)
    ratios = [percentile(args, x["beside"], "p99_us") / max(x["busy"]["p99_us"], 1) for x in mine]
    row["ratio"] = statistics.median(ratios)
    row["answers"] = sum(flood["answers"] for x in mine for flood in x["floods"])
    row["bytes"] = sum(flood["bytes"] for x in mine for flood in x["floods"])
    return row


def judge(args, table, held):
    goals = []
    for row in table:
        text = f"p99 beside {row['case']} <= {GOAL_TIMES} x beside busy programs"
        goals.append(common.goal(text, row["ratio"], GOAL_TIMES, at_most=True))
        text = f"normal calls refused or failed beside {row['case']} = 0"
        goals.append(common.goal(text, row["beside_refused"] + row["beside_failed"], 0, at_most=True))
    for row in held:
        share = row["held"] / (args.budget << 20) if Frontd.budget else None
        text = f"held for {row['kind']} <= {GOAL_HELD} x limits.memory"
        goals.append(common.goal(text, share, GOAL_HELD, at_most=True))
    return goals


SIDES = ["beside", "busy", "alone"]
HEAD = ["beside", "p50 ms", "busy", "alone", "p99 ms", "busy", "alone", "ratio", "calls", "refused", "failed"]
HEAD += ["answers", "MiB"]


def print_results(args, table, held):
    if table:
        print(f"{args.clients} normal clients, half over HTTP, half over WebSockets; medians of ", end="")
        print(f"{args.rounds} rounds of {args.seconds:g} s;\nanswers, MiB: what the others got meanwhile")
        common.print_table(HEAD, [cells(row) for row in table])
    if held:
        budget = f"{args.budget} MiB" if Frontd.budget else "none, this frontd has no limits.memory"
        print(f"\nMiB that a shard holds, beyond what it has at its start; limits.memory: {budget}")
        names = ["for", "asked for", "held", "left after"]
        mib = [[row["kind"]] + [number(row[k] / 2**20, 1) for k in ("asked", "held", "left")] for row in held]
        common.print_table(names, mib)


def cells(row):
    ms = [number(row[f"{side}_{key}"] / 1000, 2) for key in ("p50_us", "p99_us") for side in SIDES]
    counts = [number(row[key]) for key in ("beside_calls", "beside_refused", "beside_failed", "answers")]
    return [row["case"], *ms, number(row["ratio"], 2), *counts, number(row["bytes"] / 2**20, 1)]
