"""scripts/bench idle: what a connection that stays costs while nothing happens on it."""

import argparse
import select
import socket
import struct
import time

import common
import servers
from common import BenchError, number

DESCRIPTION = """\
Opens 15,000 keep-alive connections, each of which makes one JSON-RPC echo call, to frontd, nginx,
HAProxy and h2o, one after the other, and prints by how much the memory of the front's processes grew
per connection. What the first 100 connections brought with them is left out. Then the same for
frontd with WebSockets, each of which is subscribed to a topic too, and with framed TCP; all of that
over TLS 1.3; and HTTP/2 over TLS, with two calls that have the header fields of a browser.

user    private memory of the front's processes (anonymous and shared pages, proportionally)
kernel  growth of Slab in /proc/meminfo and of TCP memory in /proc/net/sockstat, halved, since both
        ends of each connection are on this machine; other programs that run meanwhile disturb it
whole   all private memory of the front divided by its connections: with what it set aside at its
        start for the connections that its config allows"""

PROTOCOLS = {"http": "HTTP keep-alive", "websocket": "WebSocket, subscribed", "frame": "framed TCP"}
TLS = {name + "-tls": name for name in PROTOCOLS} | {"http2-tls": "http2"}
PROTOCOLS["http2"] = "HTTP/2"
PROTOCOLS |= {name: PROTOCOLS[inner] + ", TLS" for name, inner in TLS.items()}
del PROTOCOLS["http2"]
GOAL_BYTES = {"http": 400, "websocket": 450, "frame": 450}
GOAL_BYTES |= {"http-tls": 450, "websocket-tls": 560, "http2-tls": 800}
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
    p.add_argument("--only", metavar="NAMES", help="of nginx,haproxy,h2o,frontd (all)")
    p.add_argument("--protocols", metavar="NAMES", help=f"of {','.join(PROTOCOLS)} (all)")
    p.add_argument("--build-dir", default=common.BUILD, help="(build/release)")
    args = p.parse_args(argv)
    args.protocols = list(PROTOCOLS) if args.protocols is None else args.protocols.split(",")
    if set(args.protocols) - set(PROTOCOLS):
        p.error("--protocols takes " + ",".join(PROTOCOLS))
    if args.connections < 1 or args.warm_up < 0:
        p.error("numbers must be positive")
    if args.connections + args.warm_up > servers.CONNECTIONS:
        p.error(f"the servers are configured for {servers.CONNECTIONS} connections")
    return args


def main(argv):
    args = parse(argv)
    peers = [servers.Nginx, servers.Haproxy, servers.H2o]
    classes = servers.select(args.only, peers + [servers.Frontd])
    common.raise_descriptor_limit(args.connections + args.warm_up + 200)
    servers.prepare(classes, args.build_dir)
    table = [measure(args, c, p) for p in args.protocols for c in classes if speaks(c, p)]
    goals = judge(table)
    print_results(args, table)
    common.print_goals(goals)
    options = {"connections": args.connections, "warm_up": args.warm_up}
    common.write_results("idle", {"options": options, "table": table, "goals": goals})
    return 1 if any(row["lost"] for row in table) else 0


# Measuring


def speaks(server_class, protocol):
    """The others cannot make calls of what comes as messages."""
    return TLS.get(protocol, protocol) in ("http", "http2") or server_class is servers.Frontd


def measure(args, server_class, protocol):
    with common.Processes() as processes:
        h2 = protocol == "http2-tls"
        server = server_class(processes, args.build_dir, protocol in TLS, h2).start()
        context = server.certificate and server.certificate.client_context()
        if h2:
            context.set_alpn_protocols(["h2"])
        clients = []
        try:
            clients += [open_client(server, protocol, context, i) for i in range(args.warm_up)]
            user, kernel = settled(server)
            clients += [open_client(server, protocol, context, i) for i in range(args.connections)]
            user_full, kernel_full = settled(server)
            lost = count_lost(clients)
        finally:
            for client in clients:
                client.close()
    return {
        "server": server.name,
        "protocol": protocol,
        "user": (user_full - user) / args.connections,
        "kernel": (kernel_full - kernel) / 2 / args.connections,
        "whole": user_full / len(clients),
        "lost": lost,
    }


def open_client(server, protocol, context, i):
    """A connection that has made its calls and had the answers. context: of TLS, or None."""
    client = socket.socket()
    inner = TLS.get(protocol, protocol)
    try:
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        # Closed by a reset: 15,000 connections in TIME_WAIT would weigh on the next server.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.settimeout(TIMEOUT)
        client.bind((SOURCES[i % len(SOURCES)], 0))
        client.connect(("127.0.0.1", server.frame_port if inner == "frame" else server.port))
        if context:
            client = context.wrap_socket(client, server_hostname="127.0.0.1")
        CALLS[inner](client)
    except OSError as e:
        client.close()
        raise BenchError(f"{server.name}: {protocol} {i}: {e}{server.logs()}") from e
    return client


def http_calls(client):
    client.sendall(HTTP_REQUEST)
    expect(read_http(client), b"200")


def websocket_calls(client):
    client.sendall(WS_UPGRADE)
    expect(read_http(client), b"101")
    for request in (servers.REQUEST, SUBSCRIBE):
        payload = request.encode()
        head = [0x81, 0x80 | len(payload)]
        # A mask of zeros leaves it as it is; the server has to apply it nevertheless.
        client.sendall(bytes(head + [0, 0, 0, 0]) + payload)
        expect_result(read_websocket(client))


def frame_calls(client):
    payload = servers.REQUEST.encode()
    client.sendall(struct.pack(">I", len(payload)) + payload)
    (length,) = struct.unpack(">I", read_exactly(client, 4))
    expect_result(read_exactly(client, length))


def http2_calls(client):
    client.sendall(H2_PREFACE + h2_frame(H2_SETTINGS, 0, 0, b""))
    for stream in (1, 3):
        body = servers.REQUEST.encode()
        client.sendall(h2_frame(H2_HEADERS, H2_END_HEADERS, stream, H2_BLOCK))
        client.sendall(h2_frame(H2_DATA, H2_END_STREAM, stream, body))
        read_http2(client, stream)
    # What the server owes for this, and the client for what has come before, is exchanged by its answer.
    client.sendall(h2_frame(H2_PING, 0, 0, bytes(8)))
    while h2_read(client)[:2] != (H2_PING, H2_ACK):
        pass


def read_http2(client, stream):
    body, ended = b"", False
    while not ended:
        kind, flags, on, payload = h2_read(client)
        if kind == H2_SETTINGS and not flags & H2_ACK:
            client.sendall(h2_frame(H2_SETTINGS, H2_ACK, 0, b""))
        ended = on == stream and kind in (H2_DATA, H2_HEADERS) and flags & H2_END_STREAM
        body += payload if kind == H2_DATA else b""
    expect_result(body)


def h2_frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def h2_read(client):
    head = read_exactly(client, 9)
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream, read_exactly(client, int.from_bytes(head[:3], "big"))


def h2_literal(name, value):
    """A field that goes into the table, neither part compressed."""
    return b"\x40" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
H2_DATA, H2_HEADERS, H2_SETTINGS, H2_PING = 0, 1, 4, 6
H2_ACK = H2_END_STREAM = 1
H2_END_HEADERS = 4
# As a browser sends them: what it says of itself is in each request.
H2_BLOCK = b"".join(
    h2_literal(name, value)
    for name, value in [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", servers.PATH),
        ("content-type", "application/json"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0"),
        ("accept", "*/*"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("accept-encoding", "gzip, deflate, br"),
    ]
)
CALLS = {"http": http_calls, "websocket": websocket_calls, "frame": frame_calls, "http2": http2_calls}
# Both have at most 125 bytes, whose length is in one byte of a WebSocket frame.
SUBSCRIBE = '{"jsonrpc":"2.0","id":2,"method":"bench.subscribe"}'
HTTP_REQUEST = (
    f"POST {servers.PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(servers.REQUEST)}\r\n\r\n{servers.REQUEST}"
).encode()
WS_UPGRADE = (
    f"GET {servers.WS_PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
).encode()


def expect(status, wanted):
    if status != wanted:
        raise ConnectionError(f"status {status!r}")


def expect_result(answer):
    if b'"result"' not in answer:
        raise ConnectionError(f"answer {answer[:200]!r}")


def read_exactly(client, n):
    data = b""
    while len(data) < n:
        more = client.recv(n - len(data))
        if not more:
            raise ConnectionError("closed before the answer was complete")
        data += more
    return data


def read_websocket(client):
    opcode, length = read_exactly(client, 2)
    if opcode != 0x81 or length > 126:
        raise ConnectionError(f"no text message but {opcode:#x}, {length}")
    if length == 126:
        (length,) = struct.unpack(">H", read_exactly(client, 2))
    return read_exactly(client, length)


def read_http(client):
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
    if head[9:12] == b"101":
        return 0
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
    values = {row["protocol"]: row["user"] for row in table if row["server"] == "frontd"}
    goals = []
    for protocol, limit in GOAL_BYTES.items():
        text = f"user bytes per idle connection of frontd, {PROTOCOLS[protocol]} <= {limit}"
        goals.append(common.goal(text, values.get(protocol), limit, at_most=True))
    return goals


def print_results(args, table):
    print(f"Bytes per connection, {args.connections:,} idle connections")
    keys = ["user", "kernel", "whole", "lost"]
    rows = []
    for row in table:
        cells = [number(row[k]) for k in keys]
        rows.append([f"{row['server']}, {PROTOCOLS[row['protocol']]}"] + cells)
    common.print_table(["server"] + keys, rows)
    print("kernel: growth of Slab and TCP memory, halved, as both ends are on this machine")
    print("whole: with what the front set aside at its start")
