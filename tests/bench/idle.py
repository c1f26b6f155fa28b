"""scripts/bench idle: what a keep-alive connection costs while nothing happens on it."""

import argparse
import select
import socket
import struct
import time

import common
import servers
from common import BenchError, number

DESCRIPTION = """\
Opens 15,000 keep-alive connections, each of which makes one JSON-RPC echo call, to frontd, nginx
and HAProxy, one after the other, and prints by how much the memory of the front's processes grew
per connection. What the first 100 connections brought with them is left out.

user    private memory of the front's processes (anonymous and shared pages, proportionally)
kernel  growth of Slab in /proc/meminfo and of TCP memory in /proc/net/sockstat, halved, since both
        ends of each connection are on this machine; other programs that run meanwhile disturb it
whole   all private memory of the front divided by its connections: with what it set aside at its
        start for the connections that its config allows"""

GOAL_BYTES = 400
# A client address has fewer than 30,000 ports; this many are enough at any limit of descriptors.
SOURCES = [f"127.0.0.{i}" for i in range(2, 10)]
IP_BIND_ADDRESS_NO_PORT = 24  # the port is chosen at connect(), per destination
TIMEOUT = 15
SETTLE_SECONDS = 10


def parse(argv):
    p = argparse.ArgumentParser(
        prog="scripts/bench idle",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--connections", type=int, default=15000, help="(15000)")
    p.add_argument("--warm-up", type=int, default=100, help="connections not counted (100)")
    p.add_argument("--only", metavar="NAMES", help="of nginx,haproxy,frontd (all)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    if args.connections < 1 or args.warm_up < 0:
        p.error("numbers must be positive")
    if args.connections + args.warm_up > servers.CONNECTIONS:
        p.error(f"the servers are configured for {servers.CONNECTIONS} connections")
    return args


def main(argv):
    args = parse(argv)
    classes = servers.select(args.only, [c for c in servers.ALL if c is not servers.Limit])
    common.raise_descriptor_limit(args.connections + args.warm_up + 200)
    servers.prepare(classes, args.build_dir)
    table = [measure(args, c) for c in classes]
    goals = judge(table)
    print_results(args, table)
    common.print_goals(goals)
    options = {"connections": args.connections, "warm_up": args.warm_up}
    common.write_results("idle", {"options": options, "table": table, "goals": goals})
    return 1 if any(row["lost"] for row in table) else 0


# Measuring


def measure(args, server_class):
    with common.Processes() as processes:
        server = server_class(processes, args.build_dir).start()
        clients = []
        try:
            clients += [open_client(server, i) for i in range(args.warm_up)]
            user, kernel = settled(server)
            clients += [open_client(server, i) for i in range(args.connections)]
            user_full, kernel_full = settled(server)
            lost = count_lost(clients)
        finally:
            for client in clients:
                client.close()
    return {
        "server": server.name,
        "user": (user_full - user) / args.connections,
        "kernel": (kernel_full - kernel) / 2 / args.connections,
        "whole": user_full / len(clients),
        "lost": lost,
    }


def open_client(server, i):
    """A connection that has made its one request and had the answer."""
    client = socket.socket()
    try:
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        # Closed by a reset: 15,000 connections in TIME_WAIT would weigh on the next server.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.settimeout(TIMEOUT)
        client.bind((SOURCES[i % len(SOURCES)], 0))
        client.connect(("127.0.0.1", server.port))
        client.sendall(REQUEST)
        status = read_answer(client)
    except OSError as e:
        client.close()
        raise BenchError(f"{server.name}: connection {i}: {e}{server.logs()}") from e
    if status != b"200":
        client.close()
        raise BenchError(f"{server.name}: connection {i}: status {status!r}")
    return client


REQUEST = (
    f"POST {servers.PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(servers.REQUEST)}\r\n\r\n{servers.REQUEST}"
).encode()


def read_answer(client):
    """Reads a whole answer, so that no byte of it waits in the kernel; returns its status."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= content_length(head):
            return head[9:12]
        more = client.recv(65536)
        if not more:
            raise ConnectionError("closed before the answer was complete")
        data += more


def content_length(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("an answer without Content-Length")


def settled(server):
    """(user, kernel) bytes in use, once the user bytes have not changed for a second."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last, user = None, common.memory(server.front.pid)
    while user != last and time.monotonic() < deadline:
        time.sleep(1)
        last, user = user, common.memory(server.front.pid)
    return user, kernel_bytes()


def kernel_bytes():
    meminfo = dict(line.split(":") for line in common.read("/proc/meminfo").splitlines())
    tcp = next(x for x in common.read("/proc/net/sockstat").splitlines() if x.startswith("TCP:"))
    pages = int(tcp.split()[tcp.split().index("mem") + 1])
    return int(meminfo["Slab"].split()[0]) * 1024 + pages * 4096


def count_lost(clients):
    """Connections that the server has closed, or on which it sent what nobody asked for."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    return len(poll.poll(0))


# Judging and showing


def judge(table):
    value = next((row["user"] for row in table if row["server"] == "frontd"), None)
    text = f"user bytes per idle connection of frontd <= {GOAL_BYTES}"
    return [common.goal(text, value, GOAL_BYTES, at_most=True)]


def print_results(args, table):
    print(f"Bytes per connection, {args.connections:,} idle keep-alive connections")
    head = ["server", "user", "kernel", "whole", "lost"]
    keys = head[1:]
    rows = [[row["server"]] + [number(row[k]) for k in keys] for row in table]
    common.print_table(head, rows)
    print("kernel: growth of Slab and TCP memory, halved, as both ends are on this machine")
    print("whole: with what the front set aside at its start")
