"""What every benchmark uses: the build, processes and what they cost, tables, results."""

import json
import os
import platform
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build", "release")
RESULTS = os.path.join(ROOT, "build", "bench")
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "h2o": "h2o"}

STOP_SECONDS = 3  # between SIGTERM and SIGKILL


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""


# Tools and the build


def tool(name):
    """Path of a program, also where PATH lacks the system folders; None when not installed."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


def install_missing(names):
    """Installs the Debian packages of those programs that are not there."""
    missing = [PACKAGES[name] for name in names if not tool(name)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    command = sudo + ["apt-get", "install", "-y"] + missing
    print("bench:", " ".join(command), file=sys.stderr)
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise BenchError("cannot install " + " ".join(missing))


def build(targets, build_dir=BUILD):
    """Builds `targets` (paths inside the build folder; none: everything) as a release."""
    if not os.path.exists(os.path.join(build_dir, "build.ninja")):
        run_quiet(["meson", "setup", build_dir, ROOT, "--buildtype=release"])
    run_quiet(["ninja", "-C", build_dir] + targets)


def run_quiet(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{tail(done.stdout)}")


def tail(text, lines=20):
    return "\n".join(text.strip().splitlines()[-lines:])


# Processes


def raise_descriptor_limit(needed):
    """Lets this process, and the servers that inherit it, have as many descriptors as allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} descriptors are needed, the limit is {hard} (ulimit -Hn)")


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_signal(number, _frame):
    sys.exit(128 + number)


class Processes:
    """Starts processes and, when left in whatever way, stops them and removes their folder."""

    def __enter__(self):
        # By default SIGTERM would leave the servers behind.
        self.handlers = [(n, signal.signal(n, on_signal)) for n in STOP_SIGNALS]
        self.dir = tempfile.mkdtemp(prefix="frontd-bench-")
        self.started = []
        self.the_certificate = None
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them running; this takes seconds at most.
        for n in STOP_SIGNALS:
            signal.signal(n, signal.SIG_IGN)
        for process in reversed(self.started):
            stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)
        for n, handler in self.handlers:
            signal.signal(n, handler)

    def start(self, name, command, stdin=subprocess.DEVNULL):
        """Starts a server that stays in the foreground; its output goes to a log of that name."""
        log = os.path.join(self.dir, name + ".log")
        with open(log, "wb") as out:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    # A session of its own: Ctrl-C reaches only this program, which stops the rest.
                    start_new_session=True,
                )
            except OSError as e:
                raise BenchError(f"{name}: cannot start {command[0]}: {e.strerror}") from e
        process.log = log
        self.started.append(process)
        return process

    def certificate(self):
        """One for 127.0.0.1 that all servers of this run have."""
        if self.the_certificate is None:
            self.the_certificate = Certificate(self.dir)
        return self.the_certificate

    def talk(self, name, command):
        """Starts a program that is told on its standard input what to do; see Talk."""
        return Talk(self.start(name, command, stdin=subprocess.PIPE))

    def run(self, command, timeout):
        """Runs a program to its end and returns (exit status, what it printed)."""
        process = self.start(os.path.basename(command[0]), command)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as e:
            raise BenchError(f"{command[0]} did not end in {timeout} s") from e
        self.started.remove(process)
        return process.returncode, read(process.log)


class Certificate:
    """A self-signed one with an ECDSA key, in files."""

    def __init__(self, folder):
        self.cert, self.key, self.both = (os.path.join(folder, f"tls-{n}.pem") for n in ("cert", "key", "both"))
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "30", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"]
        run_quiet(command + ["-keyout", self.key, "-out", self.cert])
        write(self.both, read(self.cert) + read(self.key))

    def client_context(self):
        """For clients that believe this one alone."""
        return ssl.create_default_context(cafile=self.cert)


class Talk:
    """A program that takes lines on its standard input, and says a line for each in its log."""

    def __init__(self, process):
        self.process = process
        self.seen = 0

    def say(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as e:
            status = self.process.wait()
            raise BenchError(f"{self.process.args[0]} ended with {status}:\n{tail(read(self.process.log))}") from e

    def wait_for(self, word, timeout):
        """The rest of the next line that begins with `word`."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None
            lines = read(self.process.log).split("\n")[:-1]
            for i, line in enumerate(lines[self.seen :], self.seen + 1):
                if line.startswith(word):
                    self.seen = i
                    return line.removeprefix(word)
            program = os.path.basename(self.process.args[0])
            if ended:
                raise BenchError(f"{program} ended:\n{tail(read(self.process.log))}")
            if time.monotonic() > deadline:
                raise BenchError(f"{program} did not answer in {timeout} s")
            time.sleep(0.02)


def stop(process):
    """Ends a process and all that it started: first kindly, then not."""
    pids = process_tree(process.pid)
    send(pids[:1], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    # poll() collects our own child; its children are not ours to wait for, only to look for.
    while (process.poll() is None or alive(pids[1:])) and time.monotonic() < deadline:
        time.sleep(0.02)
    send(alive(pids), signal.SIGKILL)
    process.wait()


def send(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def alive(pids):
    return [pid for pid in pids if stat_fields(pid)[:1] not in ([], ["Z"])]


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on; none when the process is gone."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return []


def process_tree(pid):
    """A process and its descendants, itself first."""
    children = {}
    for entry in os.listdir("/proc"):
        fields = stat_fields(entry) if entry.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
    tree = [pid]
    for parent in tree:
        tree += children.get(parent, [])
    return tree


# Costs


def cpu_ns(pid):
    """CPU time that a process and its descendants have used, in ns."""
    return sum(process_cpu_ns(p) for p in process_tree(pid))


def process_cpu_ns(pid):
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        times = [read(f"/proc/{pid}/task/{t}/schedstat").split()[0] for t in tasks]
        return sum(int(t) for t in times)
    except (OSError, IndexError):
        pass
    # No schedstat in this kernel: clock ticks, coarse but the same for all that are compared.
    fields = stat_fields(pid)
    if not fields:
        return 0
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Memory that only a process and its descendants use, in bytes.

    Proportional shares, so that what a child still shares with its parent counts once. Pages of
    files (the program text) are left out: they come in as code is first run, not as clients come.
    """
    total = 0
    for p in process_tree(pid):
        try:
            lines = read(f"/proc/{p}/smaps_rollup").splitlines()
        except OSError:
            continue
        kib = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        total += kib.get("Pss_Anon:", kib["Anonymous:"]) + kib.get("Pss_Shmem:", 0)
    return total * 1024


# Small things


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


PORTS = range(10000, 12000)  # below those that the system tests use, and the kernel for clients
given_ports = set()


def free_port():
    """A port nobody listens on, not given before."""
    for _ in range(200):
        port = random.choice(PORTS)
        if port in given_ports:
            continue
        given_ports.add(port)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise BenchError("no free port on 127.0.0.1")


def print_table(head, rows):
    """The first column is left-aligned, numbers to the right."""
    widths = [max(len(str(row[i])) for row in [head] + rows) for i in range(len(head))]
    for row in [head] + rows:
        cells = [str(c).rjust(w) for c, w in zip(row, widths)]
        cells[0] = str(row[0]).ljust(widths[0])
        print("  ".join(cells).rstrip())


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def print_goals(goals):
    print("\nGoals")
    for goal in goals:
        verdict = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
        value = f": {goal['value']:,.2f}" if goal["value"] is not None else ""
        print(f"  {verdict:<13} {goal['goal']}{value}")


def goal(text, value, limit, at_most):
    """What a goal asks for, and whether it was reached; value None: there is nothing to judge."""
    met = None
    if value is not None:
        met = value <= limit if at_most else value >= limit
    return {"goal": text, "value": value, "met": met}


def write_results(name, results):
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name + ".json")
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "machine": platform.machine()}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write(path, json.dumps({"when": when, "machine": machine, **results}, indent=2) + "\n")
    print("\nWritten to", os.path.relpath(path))
