"""Has allocations fail in a process of frontd, those of libraries too: the other side of
tests/preload/fail_alloc.c."""
import mmap
import os
import struct

import harness

LIBRARY = os.path.join(harness.BUILD, "tests", "preload", "fail_alloc.so")
ROLES = {"supervisor": 1, "shard": 2, "check": 3}
MEMBERS = ("role", "pid", "after", "count", "seen", "failed")   # of struct control
FORM = struct.Struct("q")


class Allocations:
    """The file that says which allocations fail. Programs that are to be under it are started with `env`."""

    def __init__(self, path):
        self.path = str(path)
        with open(self.path, "wb") as f:
            f.write(bytes(FORM.size * len(MEMBERS)))
        os.chmod(self.path, 0o666)
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.env = {"LD_PRELOAD": LIBRARY, "FAIL_ALLOC_CONTROL": self.path}

    def get(self, member):
        return FORM.unpack_from(self.map, FORM.size * MEMBERS.index(member))[0]

    def _set(self, **members):
        for member, value in members.items():
            FORM.pack_into(self.map, FORM.size * MEMBERS.index(member), value)

    def fail(self, after, count=1, pid=0, role=None):
        """Of the allocations of a process, or of the next one that is started in this role, `after` succeed
        from now on, then `count` fail."""
        self.disarm()
        self._set(after=after, count=count, seen=0, failed=0, role=ROLES[role] if role else 0)
        self._set(pid=pid)

    def disarm(self):
        """None fails any more. What was counted stays."""
        self._set(count=0, role=0, pid=0)

    @property
    def seen(self):
        return self.get("seen")

    @property
    def failed(self):
        return self.get("failed")
