"""What systemd does for a service: it is told how the service is."""
import socket
import struct
import time

from harness import LIMIT


class Message(dict):
    """NAME=VALUE lines, and `pid`, the process that sent them."""

    def __init__(self, data, pid):
        super().__init__(line.split("=", 1) for line in data.decode().splitlines())
        self.pid = pid


class Manager:
    """Reads what programs send to `address`, an abstract one, for their NOTIFY_SOCKET."""

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
