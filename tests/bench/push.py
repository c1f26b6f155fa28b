"""scripts/bench push: messages of one worker to many subscribers, and what a delivery costs."""

import argparse
import json
import socket
import statistics
import time

import common
import servers
from common import BenchError, number

DESCRIPTION = """\
Connects 10,000 WebSockets to frontd with two shards, all subscribed to one topic, to which one
worker publishes messages of 200 bytes; and as many to a bare epoll program that writes the same
frames to its sockets itself (the limit). Both are measured in turns, by the same subscribers:

loaded  as many messages as can be, of which at most --window are on their way at once: the next is
        published when a message has reached everybody. What is published together goes to a
        subscriber in one write, on both sides
single  one message on its way at a time, so that each delivery is a write of its own
quiet   the same with a pause in between

Prints deliveries/s, CPU time per delivery of all of frontd's processes and of its worker, and the
time from PUBLISH until the last subscriber has read the message. Every subscriber must get every
message once and in order, or the benchmark fails. Ratios are taken within a round and the median
of the rounds is shown. A goal that was missed is only said."""

GOAL_TIMES = 1.3
OPEN_SECONDS = 120  # until all are subscribed
RUN_SECONDS = 60  # that a run may take longer than it should
WARM_UP_SECONDS = 0.5
SUBSCRIBERS = "tests/bench/bench_subscribers"


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench push",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--subscribers", type=int, default=10000, help="(10000)")
    p.add_argument("--seconds", type=float, default=5, help="of a run (5)")
    p.add_argument("--rounds", type=int, default=3, help="of all runs (3)")
    p.add_argument("--window", type=int, default=16, help="messages on their way (16)")
    p.add_argument("--pause", type=int, default=20, help="ms between quiet messages (20)")
    p.add_argument("--shards", type=int, default=2, help="of frontd (2)")
    p.add_argument("--only", metavar="NAMES", help="of limit,frontd (all)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if min(args.subscribers, args.seconds, args.rounds, args.window, args.shards) <= 0:
        p.error("numbers must be positive")
    if args.window > 64:
        p.error("--window is at most 64: what is on its way has to fit into a socket's buffer")
    if not 0 <= args.pause <= 10000:
        p.error("--pause is at most 10000")
    if args.subscribers > servers.CONNECTIONS:
        p.error(f"the servers are configured for {servers.CONNECTIONS} connections")
    return args


class Fanout(servers.Server):
    """Writes the messages itself; nothing that takes them from a worker can cost less."""

    name = "limit"
    targets = ["tests/bench/bench_fanout"]

    def start_front(self):
        fanout = self.built("tests/bench/bench_fanout")
        self.front = self.spawn("front", [fanout, "--port", str(self.port)])

    def wait_ready(self):
        deadline = time.monotonic() + servers.READY_SECONDS
        while not connects(self.port):
            self.check_running(self.front)
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not listen{self.logs()}")
            time.sleep(0.02)


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


class Frontd(servers.Frontd):
    """With as many shards as are asked for."""


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, [Fanout, Frontd])
    Frontd.shards = args.shards
    common.raise_descriptor_limit(args.subscribers + 200)
    servers.prepare(classes, args.build_dir, more_targets=[SUBSCRIBERS])
    modes = {"loaded": (args.window, 0), "single": (1, 0), "quiet": (1, args.pause)}
    with common.Processes() as processes:
        sides = [Side(args, processes, c) for c in classes]
        for side in sides:
            side.run(WARM_UP_SECONDS, args.window, 0)
        runs = []
        for i in range(args.rounds):
            for mode, (window, pause) in modes.items():
                for side in sides:
                    one = side.run(args.seconds, window, pause)
                    runs.append({"round": i, "mode": mode, "server": side.server.name, **one})
    table = [summary(runs, mode, c.name) for mode in modes for c in classes]
    goals = judge(table)
    print_results(args, table)
    common.print_goals(goals)
    names = ("subscribers", "seconds", "rounds", "window", "pause", "shards")
    options = {name: getattr(args, name) for name in names}
    common.write_results("push", {"options": options, "table": table, "goals": goals, "runs": runs})
    return 0


# Running


class Side:
    """A server and its subscribers."""

    def __init__(self, args, processes, server_class):
        self.server = server_class(processes, args.build_dir).start()
        command = [self.server.built(SUBSCRIBERS)]
        command += ["--connect", f"127.0.0.1:{self.server.port}", "--path", servers.WS_PATH]
        command += ["--subscribers", str(args.subscribers)]
        self.subscribers = processes.talk(f"{self.server.name}-subscribers", command)
        self.wait_for("READY", OPEN_SECONDS)

    def wait_for(self, word, timeout):
        try:
            return self.subscribers.wait_for(word, timeout)
        except BenchError as e:
            raise BenchError(f"{self.server.name}: {e}{self.server.logs()}") from e

    def run(self, seconds, window, pause):
        before = self.cpu()
        self.subscribers.say(f"{seconds} {window} {pause}")
        result = json.loads(self.wait_for("RESULT ", seconds + RUN_SECONDS))
        front, worker = (after - b for after, b in zip(self.cpu(), before))
        deliveries = result["deliveries"]
        return {
            "messages": result["messages"],
            "rate": deliveries * 1e6 / result["duration_us"],
            "front": front / 1000 / deliveries,
            "worker": worker / 1000 / deliveries if self.server.worker else None,
            "p50": result["p50_us"],
            "p99": result["p99_us"],
        }

    def cpu(self):
        worker = common.cpu_ns(self.server.worker.pid) if self.server.worker else 0
        return common.cpu_ns(self.server.front.pid), worker


# Judging and showing


def pick(runs, mode, server):
    """The runs of a server in order of the rounds."""
    return [x for x in runs if x["mode"] == mode and x["server"] == server]


def summary(runs, mode, server):
    mine, limit = pick(runs, mode, server), pick(runs, mode, Fanout.name)
    row = {"mode": mode, "server": server, "messages": sum(x["messages"] for x in mine)}
    for key in ("rate", "front", "worker", "p50", "p99"):
        values = [x[key] for x in mine if x[key] is not None]
        row[key] = statistics.median(values) if values else None
    ratios = [a["front"] / b["front"] for a, b in zip(mine, limit)]
    row["front_to_limit"] = statistics.median(ratios) if ratios else None
    return row


def judge(table):
    goals = []
    for row in table:
        if row["server"] == Frontd.name:
            text = f"CPU per delivery, {row['mode']} <= {GOAL_TIMES} x the limit's"
            goals.append(common.goal(text, row["front_to_limit"], GOAL_TIMES, at_most=True))
    return goals


HEAD = ["server", "messages", "deliveries/s", "front µs", "worker µs", "front/limit"]
HEAD += ["p50 ms", "p99 ms"]


def print_results(args, table):
    print(f"{args.subscribers:,} subscribers, frontd with {args.shards} shards; ", end="")
    print(f"medians of {args.rounds} rounds of {args.seconds:g} s; µs of CPU per delivery;")
    print("ms from PUBLISH to the last subscriber")
    titles = {
        "loaded": f"Loaded: at most {args.window} messages on their way",
        "single": "Single: one message on its way at a time",
        "quiet": f"Quiet: the same, {args.pause} ms in between",
    }
    for mode, title in titles.items():
        print(f"\n{title}")
        common.print_table(HEAD, [cells(row) for row in table if row["mode"] == mode])


def cells(row):
    return [
        row["server"],
        number(row["messages"]),
        number(row["rate"]),
        number(row["front"], 3),
        number(row["worker"], 3),
        number(row["front_to_limit"], 2),
        number(row["p50"] / 1000, 1),
        number(row["p99"] / 1000, 1),
    ]
