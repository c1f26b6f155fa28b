"""Descriptors, memory and permissions over reloads: at the descriptor limit of who takes connections, after a
hundred reloads, and who can get at the sockets by which shards are handed over."""
import contextlib
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

import harness
from harness import LIMIT, descriptors, memory, rpc_route, wait_for, wait_idle, ws_route
from httpclient import rpc_request
from wsclient import WsClosed
from reloads import HUP, SLOW, USR2, Connector, Paused, call

CLOEXEC = 0o2000000


def start(front, shards=1, **keys):
    keys.setdefault("drain", "5s")
    site = front(shards=shards, routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, **keys)
    site.fake()
    return site.start()


# Limits

def test_more_connections_than_one_shard_may_have(front):
    """Those for which the only new shard has no room stay with the old ones and are served there, and follow
    when there is room; nobody is closed."""
    site = start(front, 3, nofile=256, drain="30s")
    clients = [site.client() for _ in range(250)]     # 192 fit
    for client in clients:
        call(client)
    site.reload(gone=False, shards=1)
    new = [pid for pid in site.shards() if site.count("shard 2/0[%d]" % pid)]
    assert len(new) == 1
    wait_for(lambda: "has no room for connections" in site.log_text(), "a refusal")
    for client in clients:
        call(client)
    taken = [client for client, pid in site.holders(clients).items() if pid == new[0]]
    assert 0 < len(taken) < len(clients)
    for client in taken:
        clients.remove(client)
        client.close()
    site.wait_log("the old shards are gone", timeout=3 * LIMIT * SLOW)
    assert site.where(clients) == {new[0]: len(clients)}
    for client in clients:
        call(client)
        client.close()


def leave_room(new, old, room):
    """Lets a new shard have so many descriptors more than it has for now, once it has a socket to each old one.
    Returns what limits it had."""
    def connected():
        with open("/proc/net/unix") as f:
            next(f)
            packets = {int(fields[6]) for fields in map(str.split, f) if fields[4] == "0005"}
        return len(packets & harness.sockets(new)) == len(old) + 1      # and one to the supervisor
    wait_for(connected, "the sockets of the hand-over")
    before = resource.prlimit(new, resource.RLIMIT_NOFILE)
    limit = max(int(fd) for fd in os.listdir("/proc/%d/fd" % new)) + 1 + room
    resource.prlimit(new, resource.RLIMIT_NOFILE, (limit, before[1]))
    return before


@pytest.mark.parametrize("room", [0, 1, 50])
def test_descriptors_are_dropped_on_their_way(front, room):
    """The receiver is at its limit without knowing: the kernel drops what does not fit (MSG_CTRUNC). The
    batch stays with its sender, and goes when there is room."""
    site = start(front, 2, drain="30s")
    clients = [site.client() for _ in range(60)] + [site.ws() for _ in range(60)]
    for client in clients:
        call(client)
    old = site.shards()
    with Paused(old):
        site.say(shards=1)
        site.wait_log(" serves: ", timeout=2 * LIMIT)
        new, = [pid for pid in site.shards() if pid not in old]
        before = leave_room(new, old, room)
    site.wait_log("no descriptors for ")
    for client in clients:
        call(client)
    assert sum(count for pid, count in site.where(clients).items() if pid != new) > 0
    resource.prlimit(new, resource.RLIMIT_NOFILE, before)
    site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
    assert site.where(clients) == {new: len(clients)}
    for client in clients:
        call(client)
        client.close()


def test_no_descriptors_until_the_drain_limit(front):
    """They are served on the old shard until then, and not before then a WebSocket is told 1012."""
    site = start(front, drain="2s")
    clients = [site.ws() for _ in range(20)]
    for client in clients:
        call(client)
    old = site.shards()
    start_of_drain = time.monotonic()   # at the earliest
    with Paused(old):
        site.say()
        site.wait_log(" serves: ", timeout=2 * LIMIT)
        new, = [pid for pid in site.shards() if pid not in old]
        leave_room(new, old, 0)
    site.wait_log("no descriptors for ")
    for client in clients:
        try:
            call(client)
        except WsClosed:        # it was not called in time
            assert time.monotonic() - start_of_drain >= 2
    for client in clients:
        if client.closed is None:
            client.expect_close(1012)
        assert client.closed[0] == 1012
        client.close()
    assert time.monotonic() - start_of_drain >= 2
    site.wait_log("the old shards are gone")


def test_as_many_connections_as_there_may_be(front):
    """Each shard keeps enough descriptors for those that come to take over from it."""
    site = start(front, 8, nofile=128, drain="30s")
    clients = []
    while not site.count("accepting pauses: the descriptor limit"):
        new = [site.client() for _ in range(8)]
        clients += new
        for client in new:      # unused ones would make room for each other
            client.send(rpc_request("demo.echo", [1]))
        wait_for(lambda: all(c.readable() for c in new) or site.count("accepting pauses"), "them to be accepted")
    site.reload()
    for client in clients:
        assert client.read_response().status == 200
        call(client)
        client.close()
    for words in ("the supervisor is gone", "the drain limit has passed", "in vain"):
        assert site.count(words) == 0


def test_no_descriptors_for_what_the_supervisor_passes(front):
    """An old shard that cannot be given a socket to the new ones has nobody to give its connections to. It
    serves them until the drain limit, and does what it is told."""
    site = start(front, drain="5s")
    clients = [site.ws() for _ in range(5)]
    for client in clients:
        call(client)
    old = site.shard
    hard = resource.prlimit(old, resource.RLIMIT_NOFILE)[1]
    limit = max(int(fd) for fd in os.listdir("/proc/%d/fd" % old)) + 1
    resource.prlimit(old, resource.RLIMIT_NOFILE, (limit, hard))
    site.reload(gone=False)
    site.wait_log("there are no descriptors left for what it passes")
    for client in clients:
        call(client)
    for client in clients:
        client.expect_close(1012)
        client.close()
    site.wait_log("the old shards are gone")
    assert site.count("the supervisor is gone") == 0 and site.count("was ended by signal") == 0


# A hundred reloads

def test_a_hundred_reloads(front):
    """With clients that stay and clients that come and go all the time: none is refused or closed, no call
    fails, and nothing grows."""
    site = start(front, drain="10s")
    stays = [site.client() for _ in range(5)]
    for kind in ("ws", "frame", "line"):
        stays += [site.stays(kind) for _ in range(5)]
    sizes = {}
    turns = 100 if not harness.sanitized() else 16
    with Connector(site) as connector:
        for n in range(1, turns + 1):
            site.reload((HUP, USR2)[n // 4 % 2], shards=(1, 2, 3, 2)[n % 4])
            for client in stays:
                call(client, n)
            if n in (8, turns):     # the same number of shards, by the same signal
                sizes[n] = measure(site)
        done = connector.stop()
    for client in stays:
        call(client)
        client.close()
    assert done > turns
    assert site.generation() == turns + 1
    (supervisor, fds, most), (supervisor_then, fds_then, most_then) = sizes[8], sizes[turns]
    assert fds_then == fds
    if not harness.sanitized():
        assert supervisor_then <= supervisor + (1 << 20)
        assert most_then <= most + (2 << 20)


def measure(site):
    """(resident bytes of the supervisor, its descriptors, resident bytes of the largest shard)."""
    wait_idle(site.front.pid)
    return memory(site.front.pid), descriptors(site.front.pid), max(memory(pid) for pid in site.shards())


def test_shards_have_as_many_descriptors_as_those_before(front):
    site = start(front, 2)
    clients = [site.client() for _ in range(20)]
    for n in range(8):
        for client in clients:
            call(client)
        site.reload((HUP, USR2)[n % 2])
        wait_for(lambda: sum(site.where(clients).values()) == len(clients), "all clients")
        settled = lambda: sum(descriptors(pid) for pid in site.shards())
        wait_for(lambda: n == 0 or settled() == first, "as many descriptors as at first")
        if n == 0:
            for pid in site.shards():
                wait_idle(pid)
            first = settled()


# Who has what

def flags(pid):
    """{descriptor: its flags} of a process, without the standard ones."""
    found = {}
    for fd in os.listdir("/proc/%d/fdinfo" % pid):
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            with open("/proc/%d/fdinfo/%s" % (pid, fd)) as f:
                found[int(fd)] = next(int(line.split()[1], 8) for line in f if line.startswith("flags:"))
    return {fd: flag for fd, flag in found.items() if fd > 2}


def test_every_descriptor_is_close_on_exec(front):
    """Of the supervisor, also of one that was executed in place, and of shards with what they were handed."""
    site = start(front, 2)
    clients = [site.client() for _ in range(10)]
    for number in (HUP, USR2, HUP):
        for client in clients:
            call(client)
        site.reload(number)
        for pid in [site.front.pid] + site.shards():
            names = harness.open_files(pid)
            open_still = [(fd, names.get(fd)) for fd, flag in flags(pid).items()
                          if not flag & CLOEXEC and not (fd == 3 and pid != site.front.pid)]
            assert not open_still, (number, pid, open_still)


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_the_check_inherits_nothing(front, number):
    site = start(front)
    site.reload(USR2)
    with site.slow_checks() as begun:
        site.front.signal(number)
        pid = begun()
        wait_idle(pid)      # what it opens for a moment when it starts is closed; it waits for the config
        assert set(harness.open_files(pid)) == {0, 1, 2}


def test_the_folder_of_shards_is_theirs_alone(front):
    site = start(front)
    folder = site.path("run/shards")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for name in os.listdir(folder):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name
    assert not stat.S_IMODE(os.stat(site.path("run")).st_mode) & 0o007


@contextlib.contextmanager
def looking_for_shards(site):
    """A supervisor in the place of one that was killed, while the shards are stopped: the path of the socket for
    their reports. It finds them afterwards, and a client notices nothing."""
    path = site.path("run/shards/report.sock")
    with site.client() as client:
        call(client)
        with Paused(site.shards()):
            site.front.signal(signal.SIGKILL)
            site.front.wait()
            site.launch(ready=False)
            wait_for(lambda: os.path.exists(path), "the socket for reports")
            yield path
        site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
        call(client)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_report_of_another_user_is_refused(front):
    """The socket is 0600 in a folder of mode 0700; who gets to it all the same is asked for their user id."""
    site = start(front)
    with looking_for_shards(site) as path:
        wait_for(lambda: stat.S_IMODE(os.stat(path).st_mode) == 0o600, "its mode")
        for name, mode in ((site.dir, 0o755), (site.path("run"), 0o755), (site.path("run/shards"), 0o755),
                           (path, 0o666)):
            os.chmod(name, mode)
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(path)
                os._exit(0 if sock.recv(1) == b"" else 1)
        site.wait_log("somebody else reports as a shard: refused")
    assert os.waitpid(child, 0)[1] == 0


def test_a_report_in_the_name_of_another_process_is_refused(front):
    """A process that the supervisor did not start is no shard, whatever it says, and has nobody ended."""
    site = start(front)
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        with looking_for_shards(site) as path:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, open("/dev/null") as null:
                wait_for(lambda: sock.connect_ex(path) == 0, "somebody there")
                with contextlib.suppress(BrokenPipeError):      # it may have been refused already
                    socket.send_fds(sock, [struct.pack("=IHHI4x", 0x46726e74, 3, 10, 16)], [null.fileno()])
                    sock.send(struct.pack("=IHHI4x", 0x46726e74, 3, 4, 16))
                site.wait_log("somebody else reports as a shard: refused")
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
