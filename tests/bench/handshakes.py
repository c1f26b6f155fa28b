"""scripts/bench handshakes: TLS handshakes a second, and what calls on other connections notice."""

import argparse
import json
import statistics
import sys
import time

import common
import reload_servers
import servers
from common import BenchError, number

DESCRIPTION = """\
Starts nginx, HAProxy and frontd, each with one single-threaded front and the same ECDSA P-256
certificate, and has a load program make TLS 1.3 handshakes with each in turns, 64 at a time, each on
a connection of its own: full ones, then ones that resume a session. Prints handshakes/s and the
front's CPU time for each. Then 1,000 TLS connections are opened to each, 300 calls/s are made on
them, and the 99th percentile of what a call takes is shown, alone and while full handshakes take
what CPU is left. Exits with 1 when a handshake or a call of frontd's failed; a goal that was missed
is only said."""

HANDSHAKES = "tests/bench/bench_handshakes"
LOAD = "tests/bench/bench_reload_load"
OPEN_SECONDS = 120
ANSWER_SECONDS = 30


class Nginx(reload_servers.Nginx):
    workers = 1
    listen = ""


class Haproxy(reload_servers.Haproxy):
    threads = 1
    mode = ["-db"]


class Frontd(reload_servers.Frontd):
    shards = 1


ALL = [Nginx, Haproxy, Frontd]


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench handshakes",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--seconds", type=int, default=3, help="of a load (3)")
    p.add_argument("--rounds", type=int, default=3, help="of all loads (3)")
    p.add_argument("--concurrency", type=int, default=64, help="handshakes at a time (64)")
    p.add_argument("--connections", type=int, default=1000, help="on which calls are made (1000)")
    p.add_argument("--calls", type=int, default=300, help="a second (300)")
    p.add_argument("--only", metavar="NAMES", help="of nginx,haproxy,frontd (all)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if min(args.seconds, args.rounds, args.concurrency, args.connections, args.calls) < 1:
        p.error("numbers must be positive")
    return args


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, ALL)
    common.raise_descriptor_limit(2 * args.connections + 500)
    servers.prepare(classes, args.build_dir, more_targets=[HANDSHAKES, LOAD])
    with common.Processes() as processes:
        running = [c(processes, args.build_dir, tls=True).start() for c in classes]
        loads = [
            {"round": i, **make_handshakes(args, processes, server, resume)}
            for i in range(args.rounds)
            for resume in (False, True)
            for server in running
        ]
        calls = []
        for server in running:
            calls += [{"round": i, **one} for i, one in enumerate(make_calls(args, processes, server))]
    goals = judge(calls)
    print_results(args, running, loads, calls)
    common.print_goals(goals)
    options = {k: v for k, v in vars(args).items() if k != "build_dir"}
    results = {"options": options, "handshakes": loads, "calls": calls, "goals": goals}
    common.write_results("handshakes", results)
    return 1 if any(x["failed"] for x in loads + calls if x["server"] == "frontd") else 0


def command(args, server, resume):
    line = [server.built(HANDSHAKES), "--connect", f"127.0.0.1:{server.port}"]
    line += ["--ca", server.certificate.cert, "--concurrency", str(args.concurrency)]
    return line + ["--seconds", str(args.seconds)] + (["--resume", "yes"] if resume else [])


def result_of(server, status, text):
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if status != 0 or not lines:
        raise BenchError(f"{server.name}: {HANDSHAKES} ended with {status}: {text}{server.logs()}")
    return json.loads(lines[0].removeprefix("RESULT "))


def make_handshakes(args, processes, server, resume):
    before = common.cpu_ns(server.front.pid)
    result = result_of(server, *processes.run(command(args, server, resume), args.seconds + 60))
    cpu = common.cpu_ns(server.front.pid) - before
    made = result["handshakes"]
    if resume and result["resumed"] != made:
        print(f"bench: {server.name}: {made - result['resumed']} were full handshakes", file=sys.stderr)
    return {
        "server": server.name,
        "kind": "resumed" if resume else "full",
        "rate": made * 1e6 / result["duration_us"],
        "front": cpu / 1000 / made if made else None,
        "failed": result["failed"],
    }


def make_calls(args, processes, server):
    """For each round the times of calls in ms: alone, and beside handshakes."""
    line = [server.built(LOAD), "--connect", f"127.0.0.1:{server.port}", "--path", servers.PATH]
    line += ["--kind", "http", "--clients", str(args.connections), "--topics", "1"]
    load = processes.talk(f"{server.name}-calls", line + ["--ca", server.certificate.cert])
    load.wait_for("READY", OPEN_SECONDS)
    tell(load, f"calls {args.calls}", "OK")
    rounds = []
    for _ in range(args.rounds):
        before = stats(load)
        time.sleep(args.seconds)
        alone = stats(load)
        flood = processes.start(f"{server.name}-flood", command(args, server, False))
        flood.wait(args.seconds + 60)
        beside = stats(load)
        made = result_of(server, flood.returncode, common.read(flood.log))
        processes.started.remove(flood)
        rounds.append(
            {
                "server": server.name,
                "alone": alone["call_p99_us"] / 1000,
                "beside": beside["call_p99_us"] / 1000,
                "rate": made["handshakes"] * 1e6 / made["duration_us"],
                "failed": beside["failed"] + beside["closed"] - before["failed"] - before["closed"],
            }
        )
    tell(load, "calls 0", "OK")
    common.stop(load.process)
    processes.started.remove(load.process)
    return rounds


def tell(load, line, word):
    load.say(line)
    return load.wait_for(word, ANSWER_SECONDS)


def stats(load):
    return json.loads(tell(load, "mark", "STATS "))


def median(rows, server, key):
    values = [row[key] for row in rows if row["server"] == server and row[key] is not None]
    return statistics.median(values) if values else None


def judge(calls):
    mine = median(calls, "frontd", "beside")
    others = [median(calls, name, "beside") for name in ("nginx", "haproxy")]
    value = mine / min(others) if mine is not None and None not in others else None
    text = "p99 of calls beside handshakes <= that of the better of nginx, HAProxy"
    return [common.goal(text, value, 1, at_most=True)]


def print_results(args, running, loads, calls):
    print(f"TLS 1.3, ECDSA P-256; medians of {args.rounds} rounds of {args.seconds} s")
    for kind in ("full", "resumed"):
        print(f"\n{kind.capitalize()} handshakes, {args.concurrency} at a time")
        rows = [x for x in loads if x["kind"] == kind]
        head = ["server", "handshakes/s", "front µs", "failed"]
        cells = [
            [s.name, number(median(rows, s.name, "rate")), number(median(rows, s.name, "front"))]
            + [number(sum(x["failed"] for x in rows if x["server"] == s.name))]
            for s in running
        ]
        common.print_table(head, cells)
    print(f"\n{number(args.calls)} calls/s on {number(args.connections)} connections; p99 in ms")
    head = ["server", "alone", "beside handshakes", "handshakes/s", "failed"]
    cells = [
        [s.name, number(median(calls, s.name, "alone"), 2), number(median(calls, s.name, "beside"), 2)]
        + [number(median(calls, s.name, "rate"))]
        + [number(sum(x["failed"] for x in calls if x["server"] == s.name))]
        for s in running
    ]
    common.print_table(head, cells)
