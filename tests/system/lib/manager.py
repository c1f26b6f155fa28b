"""What systemd does for a service: it binds sockets and passes them, and is told how the service is."""
import socket
import struct
import sys
import time

from harness import LIMIT, Program

# Descriptors go to 3 and on; the process ID in LISTEN_PID is that of the program, which is executed.
PASS = """
import os, sys
fds = [int(n) for n in sys.argv[1].split(",")]
high = [os.dup2(fd, 1000 + i, False) for i, fd in enumerate(fds)]
for fd in fds:
    os.close(fd)
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES="frontd.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""


def start(argv, log, sockets=()):
    """Starts a program with listening sockets as systemd passes them."""
    if not sockets:
        return Program(argv, log)
    fds = [s.fileno() for s in sockets]
    passing = [sys.executable, "-c", PASS, ",".join(map(str, fds))]
    return Program(passing + argv, log, pass_fds=fds)


def listening(address, reuse_port=False):
    """A listening socket as systemd binds it: blocking, without any of what frontd sets."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen(64)
    return sock


class Message(dict):
    """NAME=VALUE lines, and `pid`, the process that sent them."""

    def __init__(self, data, pid):
        super().__init__(line.split("=", 1) for line in data.decode().splitlines())
        self.pid = pid


class Manager:
    """Reads what programs send to `address`, an abstract one, for their NOTIFY_SOCKET. The kernel keeps ten
    messages for it (net.unix.max_dgram_qlen); what comes when it is full may be lost, so that pings of a
    watchdog are to be so rare that there are fewer in two seconds."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind("")  # the kernel chooses
        self.seen = []
        self.address = "@" + self.sock.getsockname()[1:].decode()

    def next(self, timeout=LIMIT):
        self.sock.settimeout(timeout)
        data, ancillary, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
        (_, kind, credentials), = ancillary
        assert kind == socket.SCM_CREDENTIALS
        self.seen.append(Message(data, struct.unpack("3i", credentials)[0]))
        return self.seen[-1]

    def wait(self, **wanted):
        """The next message that has these values, as in wait(READY="1"); "*": any value."""
        deadline = time.monotonic() + LIMIT
        while True:
            left = deadline - time.monotonic()
            assert left > 0, "no %s among %s" % (wanted, self.seen[-20:])
            try:
                message = self.next(left)
            except socket.timeout:
                continue
            if all(name in message and value in ("*", message[name]) for name, value in wanted.items()):
                return message

    def rest(self):
        """What has come meanwhile."""
        found = []
        while True:
            try:
                found.append(self.next(0))
            except BlockingIOError:
                return found

    def close(self):
        self.sock.close()
