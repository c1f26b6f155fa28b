"""scripts/bench overload: what becomes of calls when more come than workers can answer."""

import argparse
import json
import signal
import statistics
import time

import common
import fairness
import queueing
import servers
from common import number

DESCRIPTION = """\
Starts frontd with several shards and workers that take one call at a time, each for a random time of an
exponential distribution, and with a short timeout on its route. Capacity is measured first: the calls/s that are
answered while a few connections each make a call as soon as the one before has ended. Then

load      calls come at random (Poisson), 0.5, 1, 2 and 4 times as many as the capacity, each on a connection that
          has no other one. A call is answered, refused (-32001, 503) or late (-32003, 504). Goodput is what is
          answered, and refusals are timed
flood     100 connections have calls come at random, for half of the capacity, without and with another client that
          sends calls on one connection as fast as it can
stopped   the same, without and with another pool whose workers do not run any more (SIGSTOP), for which as many
          calls come as it could answer

Ratios are taken within a round, whose runs follow each other; the median of the rounds is shown. The client that
floods runs when nobody else wants to (SCHED_IDLE). A goal that was missed is only said. Exits with 1 when a call
had none of these ends."""

TIMES = [0.5, 1, 2, 4]
GOODPUT = 0.95
ACCEPTED = 2  # times the p99 at 1 x
REFUSED_US = 5000
FLOODED = 1.5
STOPPED = 1.1
NORMAL = 100  # connections
BUSY = 0.5  # of the capacity, for flood and stopped
CLOSED = 4  # connections a worker, with which capacity is measured
SETTLE_SECONDS = 0.5  # before a run beside somebody, and after it
CALL = '{"jsonrpc":"2.0","id":1,"method":"work"}'

FRONTD = """
run_dir: {path}run
shards: {shards}
drain: 1s
limits: {{calls_per_connection: 10000}}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /rpc, kind: jsonrpc, pool: app, timeout: {timeout}ms}}
      - {{path: /other, kind: jsonrpc, pool: other, timeout: {timeout}ms}}
pools:
  - {{name: app, workers: ["unix:{path}app-*.sock"], {balance}}}
  - {{name: other, workers: ["unix:{path}other-*.sock"]}}
"""

BALANCES = {"least": "balance: least", "hash": "balance: hash, hash: conn"}


class Front(queueing.Front):
    """With a second pool, that is stopped."""

    targets = queueing.Front.targets + [fairness.FLOOD]
    text = FRONTD
    pools = 2
    alone = 0

    def __init__(self, processes, args):
        super().__init__(processes, args)
        self.timeout_ms = args.timeout
        self.settle = min(SETTLE_SECONDS, args.seconds)
        self.text = FRONTD.replace("{balance}", BALANCES[args.balance])

    def start_worker(self):
        self.others = self.start_pool("other")
        self.start_pool("app")

    def signal_others(self, number):
        for worker in self.others:
            worker.send_signal(number)


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench overload", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    queueing.add_options(p)
    p.add_argument("--service-us", type=int, default=5000, help="mean (5000)")
    p.add_argument("--timeout", type=int, default=100, help="of a call, ms (100)")
    p.add_argument("--balance", choices=list(BALANCES), default="least", help="of the pool (least)")
    p.add_argument("--cases", metavar="NAMES", default="load,flood,stopped", help="(load,flood,stopped)")
    p.add_argument("--rounds", type=int, default=3, help="(3)")
    p.add_argument("--seconds", type=float, default=10, help="of each run (10)")
    args = p.parse_args(argv)
    given = [args.workers, args.shards, args.service_us, args.timeout, args.rounds, args.connections, args.seconds]
    if min(given) <= 0:
        p.error("numbers must be positive")
    args.cases = args.cases.split(",")
    unknown = set(args.cases) - {"load", "flood", "stopped"}
    if unknown:
        p.error(f"--cases: there is no {unknown.pop()}")
    return args


def main(argv):
    args = parse(argv)
    common.raise_descriptor_limit(2 * args.connections + 1000)
    servers.prepare([Front], args.build_dir)
    with common.Processes() as processes:
        front = Front(processes, args).start()
        rounds = [measure(args, front, args.seed + 100 * n) for n in range(args.rounds)]
    table, goals = summary(args, rounds), judge(args, rounds)
    print_results(args, rounds, table)
    common.print_goals(goals)
    options = {k: v for k, v in vars(args).items() if k != "build_dir"}
    common.write_results("overload", {"options": options, "rounds": rounds, "table": table, "goals": goals})
    return 1 if any(is_wrong(x) for found in rounds for x in found["runs"].values()) else 0


# Running


def measure(args, front, seed):
    closed = front.load(0, seed, CLOSED * args.workers)
    capacity = closed["in_time"] / closed["seconds"]
    runs = {"capacity": closed}
    if "load" in args.cases:
        for times in TIMES:
            runs[f"{times:g} x"] = front.load(times * capacity, seed)
    for case in ("flood", "stopped"):
        if case in args.cases:
            runs[f"without {case}"] = front.load(BUSY * capacity, seed, NORMAL)
            runs[case] = BESIDE[case](args, front, capacity, seed)
    return {"capacity": capacity, "runs": runs}


def beside_flood(args, front, capacity, seed):
    command = [front.built(fairness.FLOOD), "--connect", f"127.0.0.1:{front.port}", "--path", "/rpc"]
    command += ["--mode", "pipeline", "--call", CALL, "--connections", "1"]
    flood = front.processes.talk("flood", command)
    fairness.yield_to_all(flood.process.pid)
    flood.wait_for("READY", servers.READY_SECONDS)
    time.sleep(front.settle)
    found = front.load(BUSY * capacity, seed, NORMAL)
    flood.process.terminate()
    flood.process.wait(servers.READY_SECONDS)
    found["others"] = json.loads(flood.wait_for("RESULT ", 1))
    front.processes.started.remove(flood.process)
    time.sleep(front.settle)
    return found


def beside_stopped(args, front, capacity, seed):
    front.signal_others(signal.SIGSTOP)
    command = front.load_command("/other", args.connections, capacity, args.seconds + 2 * front.settle, seed + 1)
    other = front.processes.start("load-other", command)
    time.sleep(front.settle)
    found = front.load(BUSY * capacity, seed, NORMAL)
    other.wait(args.seconds + 60)
    front.processes.started.remove(other)
    found["others"] = json.loads(common.read(other.log).partition("RESULT ")[2])
    front.signal_others(signal.SIGCONT)
    time.sleep(front.settle)
    return found


BESIDE = {"flood": beside_flood, "stopped": beside_stopped}

# Judging and showing


def is_wrong(x):
    return x["wrong"] + x["unanswered"] > 0 or x["calls"] == 0


def median(rounds, of):
    """of(round): what is shown of it, or None."""
    found = [x for x in map(of, rounds) if x is not None]
    return statistics.median(found) if found else None


def goodput(found, name):
    """To the capacity."""
    x = found["runs"].get(name)
    return x and x["in_time"] / x["seconds"] / found["capacity"]


def ratio(found, name, base):
    """Of the p99s of two runs."""
    x, y = found["runs"].get(name), found["runs"].get(base)
    return x and y and x["took_p99_us"] / y["took_p99_us"]


def refusal_ms(found, name):
    x = found["runs"].get(name)
    return x["refused_p99_us"] / 1000 if x and x["refused"] > 0 else None


def judge(args, rounds):
    goals = []

    def add(text, of, limit, at_most):
        goals.append(common.goal(text, median(rounds, of), limit, at_most))

    for name in ("1 x", "2 x", "4 x") if "load" in args.cases else ():
        add(f"goodput at {name}, to the capacity, >= {GOODPUT}", lambda f, n=name: goodput(f, n), GOODPUT, False)
    for name in ("2 x", "4 x") if "load" in args.cases else ():
        add(f"p99 of answered calls at {name}, to that at 1 x, <= {ACCEPTED}",
            lambda f, n=name: ratio(f, n, "1 x"), ACCEPTED, True)
        add(f"p99 of refusals at {name}, ms, <= {REFUSED_US / 1000:g}",
            lambda f, n=name: refusal_ms(f, n), REFUSED_US / 1000, True)
    for case, limit in (("flood", FLOODED), ("stopped", STOPPED)):
        if case in args.cases:
            what = "a client that floods" if case == "flood" else "a stopped pool"
            add(f"p99 beside {what}, to that without, <= {limit}",
                lambda f, c=case: ratio(f, c, f"without {c}"), limit, True)
    return goals


COUNTS = ("calls", "refused", "late", "missed")


def summary(args, rounds):
    table = []
    for name in rounds[0]["runs"]:
        runs = [found["runs"][name] for found in rounds]
        row = {"run": name, "goodput": median(rounds, lambda f, n=name: goodput(f, n))}
        row.update({key: sum(x[key] for x in runs) for key in COUNTS})
        row["wrong"] = sum(x["wrong"] + x["unanswered"] for x in runs)
        row["took_p99_ms"] = statistics.median(x["took_p99_us"] for x in runs) / 1000
        row["refused_p99_ms"] = median(rounds, lambda f, n=name: refusal_ms(f, n))
        table.append(row)
    return table


def print_results(args, rounds, table):
    print(f"{args.workers} workers, {args.service_us / 1000:g} ms a call, timeout {args.timeout} ms, {args.shards} shards,")
    print(f"capacity {number(median(rounds, lambda f: f['capacity']))} calls/s (of {number(queueing.capacity(args))} "
          f"without any cost); {args.rounds} rounds of {args.seconds:g} s: sums of calls, medians of the rest")
    head = ["", "goodput", "answered", "refused", "late", "wrong", "p99 ms", "of refusals"]
    rows = [
        [x["run"], number(x["goodput"], 2)]
        + [number(x[key]) for key in ("calls", "refused", "late", "wrong")]
        + [number(x["took_p99_ms"], 1), number(x["refused_p99_ms"], 2)]
        for x in table
    ]
    common.print_table(head, rows)
    for case, what in (("flood", "The client that floods"), ("stopped", "The stopped pool's clients")):
        others = [found["runs"][case]["others"] for found in rounds if case in found["runs"]]
        if others:
            had = [sum(x.get(key, 0) for x in others) for key in ("answers", "refused", "late", "unanswered")]
            answered = had[0] - had[1] if case == "flood" else sum(x["calls"] for x in others)
            print(f"{what} had {number(answered)} calls answered, {number(had[1])} refused"
                  + (f", {number(had[2] + had[3])} not in time." if case == "stopped" else "."))
    if any(x["missed"] for x in table):
        missed = ", ".join(f"{number(x['missed'])} at {x['run']}" for x in table if x["missed"])
        print(f"Calls that found no free connection were left out ({missed}): more --connections are needed.")
