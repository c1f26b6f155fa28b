"""What the kernel has of TCP connections, as /proc/net/tcp tells it."""

SYN_SENT, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, LISTEN, CLOSING = "02", "04", "05", "06", "09", "0A", "0B"
ORPHANS = {FIN_WAIT1, LAST_ACK, CLOSING}    # closed, and with bytes or an end that was not acknowledged


def table():
    """(local port, remote port, state, bytes unsent, bytes unread) of each socket."""
    with open("/proc/net/tcp") as f:
        next(f)
        rows = [line.split() for line in f]
    return [(*(int(r[n].split(":")[1], 16) for n in (1, 2)), r[3], *(int(n, 16) for n in r[4].split(":"))) for r in rows]


def ports(client):
    """(the front's, the client's), to be asked while the client is connected."""
    return client.sock.getpeername()[1], client.sock.getsockname()[1]


def front_end(pair):
    """(state, unsent, unread) of the front's end of a connection; None when there is none any more."""
    return next((row[2:] for row in table() if row[:2] == pair and row[2] != LISTEN), None)


def orphans(pairs):
    """Of these connections, the front's ends that are closed, and have bytes that nobody counts."""
    pairs = set(pairs)
    return [row for row in table() if row[:2] in pairs and row[2] in ORPHANS and row[3] > 4096]
