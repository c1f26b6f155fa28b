"""What tests of connections that stay have in common: clients on every shard, and order without sleeping."""
import contextlib
import itertools

from wsclient import Closed, WsClosed

numbers = itertools.count(1)


class Crowd:
    """Clients that are known by connection id and shard. Used as a context, which closes them all."""

    def __init__(self, web, worker):
        self.web, self.worker = web, worker
        self.stack = contextlib.ExitStack()
        self.members = []                   # (client, conn, shard)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def add(self, kind="ws", shard=None, **keys):
        """(client, conn, shard) of a new client; on that shard if one is said."""
        for _ in range(100):
            client = self.web.stays(kind, **keys)
            conn, where = client.who()
            if shard in (None, where):
                self.stack.enter_context(client)
                self.members.append((client, conn, where))
                return self.members[-1]
            client.close()
        raise AssertionError("100 connections, none on shard %d" % shard)

    def spread(self, each, kind="ws", **keys):
        """`each` clients on every shard."""
        return [self.add(kind, shard, **keys) for _ in range(each)
                for shard in range(self.web.config["shards"])]

    def join(self, topic, members=None, channel=None):
        """Subscribes members, and returns when that has taken effect on every shard."""
        channel = channel or self.worker.channel()
        members = self.members if members is None else members
        for _, conn, _ in members:
            channel.subscribe(conn, topic)
        self.settle(channel, members)

    def settle(self, channel=None, members=None):
        """Until what was sent on the channel before has reached these clients: a push that each gets
        next, since the order of what is said on one channel about one connection is kept."""
        channel = channel or self.worker.channel()
        members = self.members if members is None else members
        mark = b'"settle %d"' % next(numbers)
        for _, conn, _ in members:
            channel.push(conn, mark)
        for client, _, _ in members:
            got = client.read_text()
            assert got == mark, "%r instead of %r" % (got, mark)


def everything(client, stop=None):
    """All texts until `stop` comes or the connection ends; a WebSocket's Close is kept in it."""
    found = []
    try:
        while not found or found[-1] != stop:
            found.append(client.read_text())
    except (Closed, WsClosed, ConnectionError):
        pass
    return found


def runs_of(messages):
    """{sender: [numbers]} of messages that are b"sender number", in the order in which they came."""
    found = {}
    for message in messages:
        sender, number = message.split()[:2]
        found.setdefault(sender.decode(), []).append(int(number))
    return found
