"""The part of scripts/bench compress about WebSockets: permessage-deflate beside npm's `ws`."""

import fcntl
import os
import shutil
import signal
import socket
import statistics
import struct
import time
import zlib

import common
import servers
from common import BenchError, number

SIZES = [1, 16]  # KiB of JSON
DOCUMENTS = 64  # different ones, so that no window of 32 KiB has the last one like it
BURST = 64  # KiB that are under way at a time
SETTLE_SECONDS = 15
TAIL = b"\0\0\xff\xff"  # RFC 7692 section 7.2.1

CONFIG = """
run_dir: {path}run
shards: 1
log: {{level: error}}
limits: {{body: 1MiB}}
listeners:
  - name: web
    address: 127.0.0.1:{port}
    routes:
      - {{path: /rpc, kind: jsonrpc, pool: app}}
      - {{path: /plain, kind: websocket, pool: app}}
      - {{path: /none, kind: websocket, pool: app, compression: true}}
pools:
  - {{name: app, workers: ["unix:{path}app-1.sock"]}}
"""


class Frontd(servers.Frontd):
    title = "frontd"
    ways = {"/none": "frontd"}

    def write_config(self):
        return self.config(CONFIG.format(path=self.path(""), port=self.port))

    def settle(self):
        pass

    @staticmethod
    def message(document):
        return b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":%s}' % document


class Ws(servers.Server):
    """In one process, which has no worker behind it."""

    name = "ws"
    title = "ws"
    ways = {"/takeover": "ws, as it comes: context takeover", "/none": "ws, no takeover",
            "/none-fast": "ws, no takeover, level 1 as frontd"}

    def start_front(self):
        script = os.path.join(common.ROOT, "tests", "bench", "ws_server.js")
        os.environ["NODE_PATH"] = os.path.join(node_modules(), "node_modules")
        self.front = self.spawn("front", [common.tool("node"), "--expose-gc", script, str(self.port)])

    def try_request(self):
        try:
            Client(self.port, "/plain").close()
        except OSError as e:
            return repr(e)
        return None

    def settle(self):
        self.front.send_signal(signal.SIGUSR2)

    @staticmethod
    def message(document):
        return document


def node_modules():
    """The folder with `ws`, in the version that the system tests use too: it is installed where it is not there."""
    folder = os.path.join(common.ROOT, "build", "node")
    source = os.path.join(common.ROOT, "tests", "system", "node")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system tests may do the same
        if not os.path.exists(os.path.join(folder, "node_modules", "ws")):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(source, name), folder)
            common.run_quiet([common.tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder])
    return folder


def packed(data):
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 8)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame(first, payload):
    """With a mask of zeros."""
    n = len(payload)
    length = bytes([0x80 | n]) if n < 126 else struct.pack(">BH", 0xFE, n) if n < 65536 else struct.pack(">BQ", 0xFF, n)
    return bytes([first]) + length + bytes(4) + payload


class Client:
    """One connection; compressed where the path has it."""

    def __init__(self, port, path, source=None):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=source)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.buffer = b""
        self.packs = path != "/plain"
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.packs else ""
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head or (b"permessage-deflate" in head) != self.packs:
            raise BenchError(f"{path}: {head!r}")
        takes_over = b"server_no_context_takeover" not in head
        self.inflater = zlib.decompressobj(-15) if takes_over else None

    def close(self):
        self.sock.close()

    def more(self):
        data = self.sock.recv(1 << 20)
        if not data:
            raise BenchError("the connection was closed")
        self.buffer += data

    def frames(self, messages):
        return [frame(0xC1, packed(m)) if self.packs else frame(0x81, m) for m in messages]

    def read(self):
        """(the first byte, the payload) of the next frame."""
        while len(self.buffer) < 2 or len(self.buffer) < self.head() + self.length():
            self.more()
        first, at, end = self.buffer[0], self.head(), self.head() + self.length()
        payload, self.buffer = self.buffer[at:end], self.buffer[end:]
        return first, payload

    def head(self):
        return {126: 4, 127: 10}.get(self.buffer[1], 2)

    def length(self):
        head = self.head()
        return self.buffer[1] if head == 2 else int.from_bytes(self.buffer[2:head].ljust(head - 2, b"\xff"), "big")

    def text(self):
        first, payload = self.read()
        if first == 0xC1:
            payload = (self.inflater or zlib.decompressobj(-15)).decompress(payload + TAIL)
        elif first != 0x81:
            raise BenchError(f"a frame of {first:#x}: {payload[:100]!r}")
        return first, payload


def measure(args, server, path, size, documents):
    """Returns (µs of the front's CPU time for a message there and back, bytes of it on the wire)."""
    client = Client(server.port, path)
    messages = client.frames([server.message(d) for d in documents])
    for message, document in zip(messages, documents):
        client.sock.sendall(message)
        first, text = client.text()
        if document not in text or (first == 0xC1) != client.packs:
            raise BenchError(f"{server.name}{path}: another answer")
    burst = max(BURST // size, 1)
    bursts = [b"".join(messages[i : i + burst]) for i in range(0, len(messages), burst)]
    count = max(args.kib // size // len(messages), 1)
    n = 0
    before = common.cpu_ns(server.front.pid)
    for _ in range(count):
        for data in bursts:
            client.sock.sendall(data)
            n += sum(len(client.read()[1]) for _ in range(min(burst, len(messages))))
    us = (common.cpu_ns(server.front.pid) - before) / 1000
    client.close()
    return us / count / len(messages), n / count / len(messages)


def measure_idle(args, server, path, document):
    """Bytes of the front's memory for a connection that has sent a message and got one."""

    def open_one():
        client = Client(server.port, path)
        client.sock.sendall(client.frames([server.message(document)])[0])
        client.text()
        return client

    clients = []
    try:
        clients += [open_one() for _ in range(50)]
        before = settled(server)
        clients += [open_one() for _ in range(args.connections)]
        return (settled(server) - before) / args.connections
    finally:
        for client in clients:
            client.close()


def settled(server):
    """Bytes in use, once they have not changed for a second."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last, now = None, 0
    while now != last and time.monotonic() < deadline:
        server.settle()
        time.sleep(1)
        last, now = now, common.memory(server.front.pid)
    return now


def run(args, processes, documents_of):
    classes = [Frontd] + [Ws] * all(common.tool(name) for name in ("node", "npm"))
    results = []
    for kind in classes:
        server = kind(processes, args.build_dir).start()
        for path in ["/plain", *server.ways]:
            row = {"server": kind.title, "path": path, "idle": measure_idle(args, server, path, documents_of(1)[0])}
            for size in SIZES:
                values = [measure(args, server, path, size, documents_of(size)) for _ in range(args.rounds)]
                row[f"us_{size}"] = statistics.median(us for us, _ in values)
                row[f"bytes_{size}"] = values[0][1]
            results.append(row)
        common.stop(server.front)
    return results


def main(args, document):
    """document: (size in bytes, seed) → JSON. Prints the table and returns the results."""
    servers.prepare([Frontd], args.build_dir)

    def documents_of(size):
        return [document(size * 1024 - 60, seed).encode() for seed in range(DOCUMENTS)]

    with common.Processes() as processes:
        results = run(args, processes, documents_of)
    plain = {r["server"]: r for r in results if r["path"] == "/plain"}
    names = {("frontd", "/plain"): "frontd, without", ("ws", "/plain"): "ws, without"}
    names |= {(kind.title, path): name for kind in (Frontd, Ws) for path, name in kind.ways.items()}
    rows = []
    for r in results:
        row = [names[r["server"], r["path"]]]
        for size in SIZES:
            base = plain[r["server"]]
            row += [number(r[f"us_{size}"], 1), number(r[f"us_{size}"] - base[f"us_{size}"], 1),
                    number(base[f"bytes_{size}"] / r[f"bytes_{size}"], 1)]
        rows.append(row + [number(r["idle"])])
    print("\nWebSockets with permessage-deflate: µs of the front's CPU time for a message there and back, how much of it is for"
          "\ncompression, how many times smaller the answer is; and bytes of memory for an idle connection\n")
    head = ["server"]
    for size in SIZES:
        head += [f"{size} KiB", "more", "ratio"]
    common.print_table(head + ["idle"], rows)
    print("\nnginx has no permessage-deflate: it passes on what client and worker agree on.")
    if len(plain) == 1:
        print("ws is left out: node or npm is not installed.")
    return results
