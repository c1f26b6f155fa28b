"""The log of what was sealed with which key, over all processes (frontd/shard/tls/seal_log.h)."""
import collections
import os
import struct

import harness

ENTRY = struct.Struct("=8s12sI")


def is_on():
    """Whether the build under test has the log."""
    with open(harness.FRONTD, "rb") as f:
        return b"FRONTD_SEAL_LOG" in f.read()


def entries(path):
    """[(key, nonce, pid)]; empty where the build does not have the log."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        return list(ENTRY.iter_unpack(f.read()))


def check(path):
    """No nonce of a key was used twice. Returns how many records were sealed, and by how many processes."""
    found = entries(path)
    users = collections.defaultdict(list)
    for key, nonce, pid in found:
        users[key, nonce].append(pid)
    twice = {key[0].hex(): pids for key, pids in users.items() if len(pids) > 1}
    assert not twice, "keys that were used twice with a nonce, and by whom: %r" % twice
    return len(found), len({pid for _, _, pid in found})
