"""What the kernel has of TCP connections. Of one it is asked by sock_diag(7), which takes microseconds; /proc/net/tcp,
which tells of all, takes milliseconds of the CPU each time: much, for what is looked at again and again."""
import errno
import functools
import socket
import struct

SYN_SENT, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, LISTEN, CLOSING = "02", "04", "05", "06", "09", "0A", "0B"
CLOSE_WAIT = "08"
ORPHANS = {FIN_WAIT1, LAST_ACK, CLOSING}    # closed, and with bytes or an end that was not acknowledged

SOCK_DIAG = 4                               # linux/netlink.h
BY_FAMILY, REQUEST, ERROR = 20, 1, 2        # linux/sock_diag.h, linux/netlink.h
HEAD = struct.Struct("=IHHII")              # struct nlmsghdr: length, type, flags, sequence, port
QUESTION = struct.Struct("=BBBBI")          # struct inet_diag_req_v2: family, protocol, extensions, padding, states
IDENTITY = struct.Struct("!HH16s16s12s")    # struct inet_diag_sockid: ports, addresses, interface and cookie
ANSWER = struct.Struct("=BBBB48s5I")        # struct inet_diag_msg: family, state, …, queues, user, inode
LOCAL = socket.inet_aton("127.0.0.1")
ANY_COOKIE = b"\0" * 4 + b"\xff" * 8


def table():
    """(local port, remote port, state, bytes unsent, bytes unread, inode) of each socket."""
    with open("/proc/net/tcp") as f:
        next(f)
        rows = [line.split() for line in f]
    return [(*(int(r[n].split(":")[1], 16) for n in (1, 2)), r[3], *(int(n, 16) for n in r[4].split(":")), int(r[9]))
            for r in rows]


def _asked(pair):
    """The row of table() that is the local end of a connection within 127.0.0.1, or None."""
    question = QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff) + IDENTITY.pack(
        *pair, LOCAL, LOCAL, ANY_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as sock:
        sock.send(HEAD.pack(HEAD.size + len(question), BY_FAMILY, REQUEST, 1, 0) + question)
        data = sock.recv(4096)
    if HEAD.unpack_from(data)[1] == ERROR:
        number = -struct.unpack_from("=i", data, HEAD.size)[0]
        if number != errno.ENOENT:
            raise OSError(number, "sock_diag")
        return None
    _, state, _, _, _, _, unread, unsent, _, inode = ANSWER.unpack_from(data, HEAD.size)
    return (*pair, "%02X" % state, unsent, unread, inode)


@functools.cache
def _can_ask():
    """Whether this kernel has sock_diag for TCP: it does not say so where it has not."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        pair = server.getsockname()[1], client.getsockname()[1]
        try:
            return _asked(pair) in table()
        except OSError:
            return False


def look(pair):
    """The row of one end of a connection within 127.0.0.1, (its port, the other's port); None where there is none."""
    if _can_ask():
        row = _asked(pair)
    else:
        row = next((row for row in table() if row[:2] == pair), None)
    return None if row is None or row[2] == LISTEN else row


def ports(client):
    """(the front's, the client's), to be asked while the client is connected."""
    return client.sock.getpeername()[1], client.sock.getsockname()[1]


def front_end(pair):
    """(state, unsent, unread) of the front's end of a connection; None when there is none any more."""
    row = look(pair)
    return row and row[2:5]


def orphans(pairs):
    """Of these connections, the front's ends that are closed, and have bytes that nobody counts."""
    return [row for row in map(look, pairs) if row and row[2] in ORPHANS and row[3] > 4096]
