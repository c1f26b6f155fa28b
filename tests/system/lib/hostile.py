"""Processes of the shards' user that are up to no good, and what a test does as root on their behalf."""
import ctypes
import fcntl
import json
import mmap
import os
import pwd
import random
import signal
import socket
import struct

from harness import open_files, wait_for

USER = "nobody"
MAGIC, VERSION = 0x46726e74, 2
START, LISTEN, RUN, READY, DRAIN, OPEN, REPORT, TICKETS, ASK, TELL = 1, 2, 3, 4, 5, 11, 10, 14, 15, 16
TICKETS_SIZE = 8 + 8 * 96      # bytes: their number, and room for 8


def message(kind, body=b"", version=VERSION):
    return struct.pack("=IHHI4x", MAGIC, version, kind, 16 + len(body)) + body


def text(content, seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE, size=0):
    """A memfd, as answers come in."""
    fd = os.memfd_create("text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    os.ftruncate(fd, max(size, len(content)))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def tell(sock, fd, id=1, more=0):
    """An answer of a shard; the descriptor is closed."""
    try:
        socket.send_fds(sock, [message(TELL, struct.pack("=QB7x", id, more))], [fd])
    finally:
        os.close(fd)


def become(name=USER):
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


class Process:
    """Runs a function in a process of that user, then waits to be killed. `say()` tells the test something."""

    def __init__(self, run, *args):
        self.ours, theirs = socket.socketpair()
        # With SIGUSR1 it may be told to begin, if it waits for that.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        self.pid = os.fork()
        if self.pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        else:
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # not longer than the test
                signal.signal(signal.SIGPIPE, signal.SIG_IGN)
                self.ours.close()
                become()
                run(*args, lambda what: theirs.sendall(what.encode() + b"\n"))
            except BaseException as e:
                theirs.sendall(("%s: %s\n" % (type(e).__name__, e)).encode())
            finally:
                theirs.shutdown(socket.SHUT_WR)
                while True:
                    signal.pause()
        theirs.close()

    def heard(self):
        """All that it has said, once it has nothing more to say."""
        self.ours.settimeout(20)
        with self.ours.makefile("r") as f:
            return f.read().splitlines()

    def ended(self):
        """The signal that has ended it; None: it lives."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.pid = None
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def end(self):
        self.ours.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def ticks(pid):
    """When a process was born, as the record has it."""
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[19])


def record(site):
    with open(site.path("run/supervisor.json")) as f:
        return json.load(f)


def replace_in_record(site, old, new):
    """From now on the supervisor's record says that the shard `old` is the process `new`: as if that had taken
    the shard over."""
    state = record(site)
    child, = [c for g in state["generations"] for c in g["children"] if c["pid"] == old]
    child["pid"], child["birth"], child["pidfs"] = new, ticks(new), 0
    with open(site.path("run/supervisor.json"), "w") as f:
        json.dump(state, f)


def get_fd(pid, number):
    """A duplicate of a descriptor of another process."""
    pidfd = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(438, pidfd, number, 0)        # pidfd_getfd
        assert fd >= 0, os.strerror(ctypes.get_errno())
        return fd
    finally:
        os.close(pidfd)


def control_of(shard):
    """The shard's end of its control socket."""
    return socket.socket(fileno=get_fd(shard, 3))


def scribble(shard, seed):
    """Writes random bytes over all of the shared memory."""
    number, = [fd for fd, target in open_files(shard).items() if "memfd:frontd-share" in target]
    fd = get_fd(shard, number)
    source = random.Random(seed)
    with mmap.mmap(fd, 0) as memory:
        size = len(memory)
        for at in range(0, size, 1 << 20):
            n = min(1 << 20, size - at)
            memory[at:at + n] = source.randbytes(n)
    os.close(fd)


def wait_dead(process):
    found = []

    def ended():
        number = process.ended()
        if number is not None:
            found.append(number)
        return found
    return wait_for(ended, "the end of the hostile process")[0]
