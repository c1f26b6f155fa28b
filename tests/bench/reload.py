"""scripts/bench reload: what clients notice when a server is replaced, and what that costs it."""

import argparse
import json
import os
import statistics
import sys
import time

import common
import reload_servers
import servers
from common import BenchError, number
from reload_servers import KINDS

DESCRIPTION = """\
Opens 15,000 connections to frontd with two shards, a third each HTTP keep-alive, WebSocket (each
subscribed to one of --topics topics) and framed TCP, makes 2,000 calls/s on them in turns and has
its worker publish 1,000 messages/s to the topics in turns; sends SIGUSR2 ten times, every other
time with another number of shards in the config, and waits each time for the old generation's
processes to be gone. The same for nginx and HAProxy with their own reloads and as many connections
of the kinds that they can forward calls on, HTTP and WebSocket; they are told to end what is left
of an old generation after 5 s, without which it would stay as long as its WebSockets do.

closed   connections that the server closed, each of which is opened again at once
refused  attempts at that which came to nothing
failed   calls answered with an error or not in 10 s, or closed meanwhile
lost     messages that a subscriber never got, each of whose connections in turn
doubled  messages that a subscriber got twice
pause    the longest time from when a call was due to its answer; for as long without reloads too

CPU time is that of the supervisor and all its children, from the signal until the old generation is
gone. What a connection costs that is handed over is taken from reloads with all connections idle,
less what reloads cost without connections. Exits with 1 when a connection, call or message of
frontd's was not as it should be; a goal that was missed is only said."""

GOALS = {"pause": 250, "gone": 3, "cpu": 10}
TLS_GOALS = {"cpu": 8}
LOAD = "tests/bench/bench_reload_load"
OPEN_SECONDS = 120  # until all clients are
ANSWER_SECONDS = 30  # of a load program, which waits 12 s for what may still come
GONE_SECONDS = 45  # frontd gives calls 30 s: an old generation that lives on is stuck
POLL_SECONDS = 0.005
SETTLE_SECONDS = 1  # after the load has begun, and after the last reload
BAD = ("closed", "refused", "failed", "lost", "doubled", "strange")
QUICK = {"connections": 300, "calls": 300, "publishes": 200, "topics": 10, "reloads": 2}
QUICK |= {"idle_reloads": 2, "interval": 0.2, "seconds": 2}


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench reload",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--tls", action="store_true", help="all connections over TLS, a quarter of them HTTP/2")
    p.add_argument("--connections", type=int, default=15000, help="(15000)")
    p.add_argument("--calls", type=int, default=2000, help="a second (2000)")
    p.add_argument("--publishes", type=int, default=1000, help="a second (1000)")
    p.add_argument("--topics", type=int, default=100, help="(100)")
    p.add_argument("--reloads", type=int, default=10, help="under load; 0: none at all (10)")
    p.add_argument("--idle-reloads", type=int, default=6, help="for the CPU time (6)")
    p.add_argument("--seconds", type=float, default=10, help="of load where --reloads is 0 (10)")
    p.add_argument("--interval", type=float, default=1, help="s between two reloads (1)")
    p.add_argument("--only", metavar="NAMES", help="of frontd,nginx,haproxy (all)")
    p.add_argument("--quick", action="store_true", help="a small load; writes no results")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    # So that what is given beside --quick counts.
    if "--quick" in argv:
        p.set_defaults(**QUICK)
    args = p.parse_args(argv)
    if min(args.connections // share(args), args.topics) < 1:
        p.error("--connections is at least 4, --topics at least 1")
    if min(args.calls, args.publishes, args.reloads, args.idle_reloads, args.interval, args.seconds) < 0:
        p.error("numbers must not be negative")
    if args.connections > servers.CONNECTIONS:
        p.error(f"the servers are configured for {servers.CONNECTIONS} connections")
    return args


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, reload_servers.ALL)
    # Behind each WebSocket a proxy has a second descriptor.
    common.raise_descriptor_limit(args.connections + 500)
    servers.prepare(classes, args.build_dir, more_targets=[LOAD])
    results = [measure(args, c) for c in classes]
    goals = judge(args, results)
    print_results(args, results)
    common.print_goals(goals)
    if not args.quick:
        options = {k: v for k, v in vars(args).items() if k != "build_dir"}
        name = "reload-tls" if args.tls else "reload"
        common.write_results(name, {"options": options, "servers": results, "goals": goals})
    return 1 if any(failures(r) for r in results if r["keeps"]) else 0


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# Running


def share(args):
    """Of how many kinds connections are: with TLS there is HTTP/2 besides."""
    return 4 if args.tls else 3


class Clients:
    """Load programs, one for each kind of connection."""

    def __init__(self, args, processes, server):
        self.server = server
        self.programs = {}
        self.each = args.connections // share(args)
        for kind in server.kinds:
            command = [server.built(LOAD), "--connect", f"127.0.0.1:{server.port_of(kind)}"]
            command += ["--path", servers.WS_PATH if kind == "websocket" else servers.PATH]
            command += ["--ca", server.certificate.cert] if server.certificate else []
            command += ["--kind", kind, "--clients", str(self.each), "--topics", str(args.topics)]
            self.programs[kind] = processes.talk(f"{server.name}-{kind}", command)
        self.collect("READY", OPEN_SECONDS)

    def collect(self, word, timeout=ANSWER_SECONDS):
        """What each of them says, by kind."""
        try:
            return {k: p.wait_for(word, timeout) for k, p in self.programs.items()}
        except BenchError as e:
            raise BenchError(f"{self.server.name}: {e}{self.server.logs()}") from e

    def say(self, line):
        for program in self.programs.values():
            program.say(line)

    def call(self, rate):
        """Makes so many calls a second on each kind."""
        self.say(f"calls {rate}")
        self.collect("OK")

    def wait_open(self):
        """Until all that was closed is open again."""
        deadline = time.monotonic() + OPEN_SECONDS
        while any(s["open"] < self.each for s in self.stats("look").values()):
            if time.monotonic() > deadline:
                raise BenchError(f"{self.server.name}: not all connections can be opened again")
            time.sleep(SETTLE_SECONDS)

    def stats(self, command):
        self.say(command)
        return {kind: json.loads(text) for kind, text in self.collect("STATS ").items()}


def measure(args, server_class):
    with common.Processes() as processes:
        server = server_class(processes, args.build_dir, args.tls, args.tls).start()
        result = {"server": server.name, "keeps": server.keeps}
        idle = args.idle_reloads if server.keeps and args.reloads else 0
        result["empty"] = [reload_once(server, f"{i + 1}, no connections") for i in range(idle)]
        clients = Clients(args, processes, server)
        result["connections"] = clients.each
        result["idle"] = [reload_once(server, f"{i + 1}, idle") for i in range(idle)]
        result |= run_loaded(args, server, clients)
        progress("")
    return result


def reload_once(server, name):
    """Reloads, and waits until no process of before is left. ms, and ms of CPU time."""
    progress(f"{server.name}: reload {name}")
    old, cpu, start = server.generation(), cpu_ms(server), time.monotonic()
    server.reload()
    wait_until(server, lambda: all(reload_servers.started(p) != old[p] for p in old))
    gone = time.monotonic()
    # Its CPU time is the supervisor's once that has waited for it.
    wait_until(server, lambda: not any(reload_servers.is_there(p, old[p]) for p in old))
    server.check_reloaded()
    return {"ms": (gone - start) * 1000, "cpu_ms": cpu_ms(server) - cpu}


def wait_until(server, condition):
    deadline = time.monotonic() + GONE_SECONDS
    while not condition():
        server.check_running(server.front)
        if time.monotonic() > deadline:
            raise BenchError(
                f"{server.name}: the old generation is still there after {GONE_SECONDS} s"
                + server.logs()
            )
        time.sleep(POLL_SECONDS)


def cpu_ms(server):
    """Of all its processes, those that have ended included."""
    ticks = 0
    for pid in common.process_tree(server.front.pid):
        fields = common.stat_fields(pid)
        ticks += int(fields[13]) + int(fields[14]) if fields else 0
    ended = ticks * 1000 / os.sysconf("SC_CLK_TCK")
    return common.cpu_ns(server.front.pid) / 1e6 + ended


def run_loaded(args, server, clients):
    """The reloads under load, as much time without any, and what became of everything sent."""
    each = args.calls / share(args)
    clients.call(each)
    server.publish(args.publishes, args.topics)
    time.sleep(SETTLE_SECONDS)
    before, start = clients.stats("mark"), time.monotonic()
    reloads = []
    for i in range(args.reloads):
        reloads.append(reload_once(server, f"{i + 1} of {args.reloads}, under load"))
        time.sleep(args.interval)
        clients.wait_open()
    time.sleep(SETTLE_SECONDS)
    during = clients.stats("mark")
    seconds = time.monotonic() - start if reloads else args.seconds
    progress(f"{server.name}: {seconds:.0f} s without reloads")
    cpu, start = cpu_ms(server), time.monotonic()
    time.sleep(seconds)
    cpu, took = cpu_ms(server) - cpu, time.monotonic() - start
    after = clients.stats("mark")
    published = server.publish(0, args.topics)
    end = clients.stats(f"end {published}")
    return {
        "reloads": reloads,
        "seconds": seconds,
        "reference_cpu": cpu / took / 1000,
        "published": published,
        "clients": {k: compare(before[k], during[k], after[k], end[k]) for k in end},
    }


def compare(before, during, after, end):
    """Counts of everything, and the longest times with and without reloads, in ms."""
    row = {key: end[key] for key in BAD + ("calls", "pushes", "late")}
    for key in ("call", "push"):
        row[key + "_longest"] = during[f"{key}_longest_us"] / 1000
        row[key + "_reference"] = after[f"{key}_longest_us"] / 1000
    row["call_mean"] = mean(before, during)
    row["call_mean_reference"] = mean(during, after)
    return row


def mean(then, now):
    calls = now["calls"] - then["calls"]
    return now["call_sum_us"] / 1000 / calls if calls else None


# Judging


def total(result, key):
    return sum(row[key] for row in result["clients"].values())


def failures(result):
    return {key: total(result, key) for key in BAD if total(result, key)}


def median(values):
    return statistics.median(values) if values else None


def cpu_each(result, connections):
    """µs of CPU time for each connection that is handed over."""
    idle, empty, loaded = (result[key] for key in ("idle", "empty", "reloads"))
    if not result["keeps"] or not loaded:
        return None
    # Means, since one reload's CPU time is known to some clock ticks only.
    raw = statistics.fmean(r["cpu_ms"] for r in idle) if idle else None
    start = statistics.fmean(r["cpu_ms"] for r in empty) if empty else None
    load = statistics.fmean(r["cpu_ms"] - r["ms"] * result["reference_cpu"] for r in loaded)
    return {
        "start_ms": start,
        "raw": raw and raw * 1000 / connections,
        "net": raw and (raw - start) * 1000 / connections,
        "loaded": load * 1000 / connections,
    }


def all_connections(result):
    return result["connections"] * len(result["clients"])


def judge(args, results):
    mine = next((r for r in results if r["keeps"]), None)
    if not mine:
        return []
    reloaded = bool(mine["reloads"])
    texts = {
        "closed": "connections of frontd closed = 0",
        "failed": "calls failed = 0",
        "lost": "messages lost = 0",
        "doubled": "messages doubled = 0",
    }
    goals = []
    for key, text in texts.items():
        goals.append(common.goal(text, total(mine, key) if reloaded else None, 0, at_most=True))
    longest = max(row["call_longest"] for row in mine["clients"].values())
    gone = max((r["ms"] / 1000 for r in mine["reloads"]), default=None)
    cpu = cpu_each(mine, all_connections(mine))
    values = {
        "pause": ("longest pause of a call <= {} ms", longest if reloaded else None),
        "gone": ("old generation gone after the signal <= {} s", gone),
        "cpu": ("CPU time per connection handed over <= {} µs", cpu and cpu["net"]),
    }
    limits = GOALS | (TLS_GOALS if args.tls else {})
    for key, (text, value) in values.items():
        goals.append(common.goal(text.format(limits[key]), value, limits[key], at_most=True))
    return goals


# Showing

COUNTS_HEAD = ["server", "connections", "closed", "refused", "calls", "failed", "pushes", "lost"]
COUNTS_HEAD += ["doubled", "late"]
TIMES_HEAD = ["server", "pause", "without", "mean", "without", "push", "without"]
GONE_HEAD = ["server", "reloads", "median", "longest", "CPU without reloads"]


def print_results(args, results):
    each = args.connections // share(args)
    deliveries = args.publishes * each / args.topics
    print(f"{number(each)} connections of each kind, ", end="")
    print(f"{number(args.calls / share(args))} calls/s on each kind;")
    topics = "one topic" if args.topics == 1 else f"{number(args.topics)} topics in turns"
    print(f"{number(args.publishes)} messages/s to {topics}: {number(deliveries)} deliveries/s")
    print(f"\n{args.reloads} reloads, and the same time without")
    common.print_table(COUNTS_HEAD, [counts(r, k) for r in results for k in r["clients"]])
    print("\nLongest pause of a call, mean of all calls, longest way of a message;")
    print("ms with reloads, and for as long without")
    common.print_table(TIMES_HEAD, [times(r, k) for r in results for k in r["clients"]])
    if args.reloads:
        print("\nms from the signal until the old generation is gone; CPUs used without reloads")
        common.print_table(GONE_HEAD, [gone_times(r) for r in results])
    for result in results:
        print_cpu(result)
        if result["keeps"] and failures(result):
            print("\nNot as it should be:", failures(result))


def name_of(result, kind):
    return f"{result['server']}, {KINDS[kind]}"


def counts(result, kind):
    row = result["clients"][kind]
    keys = ("closed", "refused", "calls", "failed")
    cells = [name_of(result, kind), number(result["connections"])] + [number(row[k]) for k in keys]
    pushed = kind == "websocket"
    return cells + [number(row[k] if pushed else None) for k in ("pushes", "lost", "doubled", "late")]


def times(result, kind):
    row = result["clients"][kind]
    reloaded = bool(result["reloads"])
    pushed = kind == "websocket"
    return [
        name_of(result, kind),
        number(row["call_longest"] if reloaded else None, 1),
        number(row["call_reference"], 1),
        number(row["call_mean"] if reloaded else None, 2),
        number(row["call_mean_reference"], 2),
        number(row["push_longest"] if reloaded and pushed else None, 1),
        number(row["push_reference"] if pushed else None, 1),
    ]


def gone_times(result):
    ms = [r["ms"] for r in result["reloads"]]
    cells = [number(len(ms)), number(median(ms)), number(max(ms, default=None))]
    return [result["server"]] + cells + [number(result["reference_cpu"], 2)]


def print_cpu(result):
    cpu = cpu_each(result, all_connections(result))
    if not cpu:
        return
    print(f"\nCPU time of {result['server']} for each of its connections that was handed over")
    rows = [
        ["idle, less a reload without connections", number(cpu["net"], 2)],
        ["idle, with all that a reload costs", number(cpu["raw"], 2)],
        ["under load, less the load's", number(cpu["loaded"], 2)],
    ]
    common.print_table(["connections", "µs"], [row for row in rows if row[1] != "-"])
    if cpu["start_ms"] is not None:
        print(f"a reload without connections: {number(cpu['start_ms'], 1)} ms of CPU time")
