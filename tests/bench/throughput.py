"""scripts/bench throughput: the same load on every server, in turns, and what it cost them."""

import argparse
import json
import os
import re
import statistics
import sys
import time

import common
import servers
from common import number

DESCRIPTION = """\
Starts a bare epoll server that answers by itself (the limit), nginx, HAProxy and frontd, each with
one single-threaded front, puts the same load of JSON-RPC echo calls on each in turns, and on frontd
also one of the same calls over WebSockets, one in flight on each, and prints requests/s, latency, and the CPU time of the front and of its worker per request. Ratios are taken
within a round and the median of the rounds is shown, since what else runs on the machine changes.
Exits with 1 when an answer was wrong or a connection failed; a goal that was missed is only said."""

LUA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rpc.lua")
ERRORS = ["connect", "read", "write", "timeout", "status"]
# Of a load that could not even begin, because the server is gone.
NO_RESULT = {"requests": 0, "duration_us": 1, "p50_us": 0, "p99_us": 0, **dict.fromkeys(ERRORS, 0)}
WS_CALLS = "tests/bench/bench_ws_calls"
OPTIONS = ("seconds", "rounds", "connections", "websockets", "threads")
WARM_UP_SECONDS = 1
HANDSHAKES_PER_SECOND = 400
QUIET_SECONDS = 0.3  # what closing the connections costs belongs to the load that opened them


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench throughput",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--seconds", type=int, default=5, help="of a load (5)")
    p.add_argument("--rounds", type=int, default=3, help="of all loads (3)")
    p.add_argument("--tls", action="store_true", help="HTTPS: nginx, HAProxy and frontd")
    p.add_argument("--h2", action="store_true", help="the same over HTTP/2, by h2load")
    p.add_argument("--streams", type=int, default=8, help="with --h2, of a connection at a time (8)")
    p.add_argument("--connections", help="(64,256,1024,4096; over TLS 256,4096)")
    p.add_argument("--websockets", help="(256,1024; none: \"\"; over TLS none)")
    p.add_argument("--only", metavar="NAMES", help="of limit,nginx,haproxy,frontd (all)")
    p.add_argument("--threads", type=int, help="of the load program (1; of wrk over TLS 2: it seals, too, and takes a CPU)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    args.tls = args.tls or args.h2
    if args.threads is None:
        args.threads = 2 if args.tls and not args.h2 else 1
    if args.connections is None:
        args.connections = "256,4096" if args.tls else "64,256,1024,4096"
    if args.websockets is None:
        args.websockets = "" if args.tls else "256,1024"
    if args.tls and args.websockets:
        p.error("there is no load of WebSockets over TLS")
    try:
        args.connections = [int(c) for c in args.connections.split(",")]
        args.websockets = [int(c) for c in args.websockets.split(",") if c]
    except ValueError:
        p.error("--connections and --websockets take numbers, separated by commas")
    counts = args.connections + args.websockets
    if min([args.seconds, args.rounds, args.threads] + counts) < 1:
        p.error("numbers must be positive")
    return args


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, [c for c in servers.ALL if c.has_tls or not args.tls])
    # A proxy has two descriptors a client, one of them to its worker.
    common.raise_descriptor_limit(2 * max(args.connections + args.websockets) + 200)
    servers.prepare(classes, args.build_dir, ["h2load" if args.h2 else "wrk"], [WS_CALLS])
    with common.Processes() as processes:
        running = [c(processes, args.build_dir, args.tls, args.h2).start() for c in classes]
        loads = run_loads(args, processes, running)
    websockets = [x for x in loads if x["protocol"] == "websocket"]
    loads = [x for x in loads if x["protocol"] == "http"]
    table = [summary(loads, c, s.name) for c in args.connections for s in running]
    ws_table = [summary(websockets, c, s.name) for c in args.websockets for s in ws_only(running)]
    goals = judge_tls(loads) if args.tls else judge(loads)
    print_results(args, running, table)
    print_websockets(ws_table)
    common.print_goals(goals)
    options = {k: getattr(args, k) for k in OPTIONS}
    sizes = {s.name: s.answer_bytes for s in running}
    results = {"options": options, "answer_bytes": sizes, "table": table, "goals": goals}
    results["websocket_table"] = ws_table
    common.write_results(f"throughput{'-h2' if args.h2 else '-tls' if args.tls else ''}", {**results, "loads": loads + websockets})
    return 1 if any(row["errors"] for row in table + ws_table) else 0


# Running


def run_loads(args, processes, running):
    run_http = run_h2load if args.h2 else run_wrk
    for server in running:
        load(args, processes, server, min(args.connections), WARM_UP_SECONDS, run_http)
    loads = []
    for i in range(args.rounds):
        for connections in args.connections:
            progress(f"round {i + 1} of {args.rounds}, {connections} connections")
            for server in running:
                one = load(args, processes, server, connections, seconds_of(args, connections), run_http)
                loads.append({"round": i, "protocol": "http", **one})
        for connections in args.websockets if ws_only(running) else []:
            progress(f"round {i + 1} of {args.rounds}, {connections} WebSockets")
            for server in ws_only(running):
                one = load(args, processes, server, connections, args.seconds, run_ws)
                loads.append({"round": i, "protocol": "websocket", **one})
    progress("")
    return loads


def seconds_of(args, connections):
    """Over TLS some go into the handshakes, which are part of the load."""
    return args.seconds + (connections // HANDSHAKES_PER_SECOND if args.tls else 0)


def ws_only(running):
    """The others would not make calls of what comes as messages."""
    return [s for s in running if isinstance(s, servers.Frontd)]


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def load(args, processes, server, connections, seconds, run):
    """One run of a load program on one server; times in µs."""
    before = cpu(server)
    result = run(args, processes, server, connections, seconds)
    time.sleep(QUIET_SECONDS)
    front, worker = (after - b for after, b in zip(cpu(server), before))
    requests = result["requests"]
    return {
        "server": server.name,
        "connections": connections,
        "rate": requests * 1e6 / result["duration_us"],
        "p50": result["p50_us"],
        "p99": result["p99_us"],
        "front": per_request(front, requests),
        "worker": per_request(worker, requests) if server.worker else None,
        "errors": errors_of(server, result),
    }


def cpu(server):
    worker = common.cpu_ns(server.worker.pid) if server.worker else 0
    return common.cpu_ns(server.front.pid), worker


def per_request(ns, requests):
    """µs; None where a process that was counted before the load has ended since."""
    return ns / 1000 / requests if requests and ns >= 0 else None


def run_wrk(args, processes, server, connections, seconds):
    threads = min(args.threads, connections)
    command = [common.tool("wrk"), f"-t{threads}", f"-c{connections}", f"-d{seconds}s"]
    # The limit for a late answer is long: that an answer is late shows in p99.
    command += ["--timeout", "10s", "--latency", "-s", LUA]
    command += [server.url(servers.PATH), "--", servers.REQUEST]
    return run_program(processes, server, command, seconds)


def run_h2load(args, processes, server, connections, seconds):
    body = server.path("request")
    common.write(body, servers.REQUEST)
    command = [common.tool("h2load"), "-c", str(connections), "-m", str(args.streams), "-d", body]
    command += ["-D", str(seconds), "-t", str(min(args.threads, connections))]
    command += ["-H", "content-type: application/json", server.url(servers.PATH)]
    status, text = processes.run(command, timeout=seconds + 60)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    codes = re.search(r"status codes: (\d+) 2xx", text)
    if status != 0 or not counts or not codes:
        print(f"bench: {server.name}: h2load ended with {status}: {text.strip()}", file=sys.stderr)
        return NO_RESULT
    succeeded, failed, errored, timeout = map(int, counts.groups())
    # What it says of the times of requests has no percentiles.
    result = {"requests": succeeded, "duration_us": seconds * 1e6, "p50_us": None, "p99_us": None}
    result |= {"connect": 0, "read": errored, "write": 0, "timeout": timeout}
    return result | {"status": failed + succeeded - int(codes[1])}


def run_ws(args, processes, server, connections, seconds):
    command = [os.path.join(args.build_dir, WS_CALLS), "--connect", f"127.0.0.1:{server.port}"]
    command += ["--path", servers.WS_PATH, "--connections", str(connections)]
    command += ["--seconds", str(seconds), "--call", servers.REQUEST, "--answer", servers.ANSWER]
    return run_program(processes, server, command, seconds)


def run_program(processes, server, command, seconds):
    """What a load program says in its line RESULT."""
    status, text = processes.run(command, timeout=seconds + 60)
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if status != 0 or not lines:
        print(f"bench: {server.name}: {command[0]} ended with {status}: {text.strip()}", file=sys.stderr)
        return NO_RESULT
    return json.loads(lines[0].removeprefix("RESULT "))


def errors_of(server, result):
    """What went wrong in a load, by kind; empty when nothing did."""
    errors = {kind: result[kind] for kind in ERRORS if result[kind]}
    if result["requests"] == 0:
        errors["no answers"] = 1
    for role, process in (("front", server.front), ("worker", server.worker)):
        if process and process.poll() is not None:
            errors[f"{role} ended"] = 1
    return errors


# Judging


def pick(loads, connections, server):
    """The loads of a server in order of the rounds."""
    return [x for x in loads if x["connections"] == connections and x["server"] == server]


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def summary(loads, connections, server):
    mine = pick(loads, connections, server)
    row = {"connections": connections, "server": server}
    for key in ("rate", "p50", "p99", "front", "worker"):
        row[key] = median([x[key] for x in mine])
    row["front_to_limit"] = front_to_limit(loads, connections, server)
    row["rate_to_best_proxy"] = rate_to_best_proxy(loads, connections, server)
    row["errors"] = {}
    for kind, count in ((k, n) for x in mine for k, n in x["errors"].items()):
        row["errors"][kind] = row["errors"].get(kind, 0) + count
    return row


def front_to_limit(loads, connections, server):
    pairs = zip(pick(loads, connections, server), pick(loads, connections, "limit"))
    both = [(mine["front"], limit["front"]) for mine, limit in pairs]
    return median([mine / limit for mine, limit in both if mine and limit])


def beside_proxies(loads, connections, server):
    """Of each round. None unless both were measured: half of the comparison would be no answer."""
    return zip(
        pick(loads, connections, server),
        pick(loads, connections, "nginx"),
        pick(loads, connections, "haproxy"),
    )


def rate_to_best_proxy(loads, connections, server):
    rounds = beside_proxies(loads, connections, server)
    best = [(mine["rate"], max(a["rate"], b["rate"])) for mine, a, b in rounds]
    return median([mine / proxy for mine, proxy in best if proxy])


def front_to_best_proxy(loads, connections, server):
    rounds = beside_proxies(loads, connections, server)
    fronts = [(mine["front"], a["front"], b["front"]) for mine, a, b in rounds]
    return median([mine / min(a, b) for mine, a, b in fronts if mine and a and b])


def without_errors(loads):
    """Of servers that made none: failing fast is no achievement."""
    failed = {(x["connections"], x["server"]) for x in loads if x["errors"]}
    return [x for x in loads if (x["connections"], x["server"]) not in failed]


def judge_tls(loads):
    loads = without_errors(loads)
    goals = []
    for connections in (256, 4096):
        best = f"at {connections:,} connections"
        value = front_to_best_proxy(loads, connections, "frontd")
        text = f"front CPU per request {best} <= 0.75 x the better of nginx's, HAProxy's"
        goals.append(common.goal(text, value, 0.75, at_most=True))
        value = rate_to_best_proxy(loads, connections, "frontd")
        text = f"requests/s {best} >= 1.5 x the better of nginx, HAProxy"
        goals.append(common.goal(text, value, 1.5, at_most=False))
    return goals


def judge(loads):
    loads = without_errors(loads)
    goals = []
    for connections in (256, 1024):
        text = f"front CPU per request at {connections:,} connections <= 1.3 x the limit's"
        value = front_to_limit(loads, connections, "frontd")
        goals.append(common.goal(text, value, 1.3, at_most=True))
    for connections, times in ((256, 1.8), (4096, 2.5)):
        text = f"requests/s at {connections:,} connections >= {times} x the better of nginx, HAProxy"
        value = rate_to_best_proxy(loads, connections, "frontd")
        goals.append(common.goal(text, value, times, at_most=False))
    return goals


# Showing

HEAD = ["server", "requests/s", "p50 ms", "p99 ms", "front µs", "worker µs"]
HEAD += ["front/limit", "req/s/best proxy", "errors"]


def print_results(args, running, table):
    print(f"Medians of {args.rounds} rounds of {args.seconds} s; µs of CPU per request. ", end="")
    print("Bytes of an answer:", ", ".join(f"{s.name} {s.answer_bytes}" for s in running))
    for connections in args.connections:
        print(f"\n{connections:,} connections")
        rows = [row for row in table if row["connections"] == connections]
        common.print_table(HEAD, [cells(row) for row in rows])


def print_websockets(table):
    if not table:
        return
    print("\nCalls over WebSockets, one in flight on each")
    # The two ratios are to servers that have no such calls.
    head = [HEAD[0], "WebSockets"] + HEAD[1:6] + HEAD[8:]
    rows = []
    for row in table:
        c = cells(row)
        rows.append([c[0], number(row["connections"])] + c[1:6] + c[8:])
    common.print_table(head, rows)


def milliseconds(us):
    return number(us and us / 1000, 2)


def cells(row):
    errors = ", ".join(f"{kind} {count}" for kind, count in row["errors"].items())
    return [
        row["server"],
        number(row["rate"]),
        milliseconds(row["p50"]),
        milliseconds(row["p99"]),
        number(row["front"], 2),
        number(row["worker"], 2),
        number(row["front_to_limit"], 2),
        number(row["rate_to_best_proxy"], 2),
        errors or "none",
    ]
