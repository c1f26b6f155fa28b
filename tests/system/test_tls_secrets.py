"""What a core dump of a process would have of keys: nothing of those of connections."""
import re

import certs
from harness import rpc_route
from httpclient import Client
from reloads import call
from tlsclient import V12, V13, context

REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ")
SPARSE = 100 << 20      # bytes: only sanitizers have regions as large, which tell what the others are


def memory(pid):
    """(bytes that a dump would have, bytes that are left out of it) of a process, as lists of regions."""
    dumped, left_out = [], []
    with open("/proc/%d/smaps" % pid) as f, open("/proc/%d/mem" % pid, "rb") as mem:
        for line in f:
            region = REGION.match(line)
            if region:
                begin, end, mode = int(region[1], 16), int(region[2], 16), region[3]
            elif line.startswith("Rss:"):
                resident = int(line.split()[1])
            elif line.startswith("VmFlags:") and mode[:2] == "rw" and resident and end - begin < SPARSE:
                try:
                    mem.seek(begin)
                    data = mem.read(end - begin)
                except (OSError, ValueError, OverflowError):    # of the kernel
                    continue
                (left_out if " dd " in line else dumped).append(data)
    return dumped, left_out


def secrets(keylog):
    """{what: bytes} of all that the clients' log has."""
    found = {}
    with open(keylog) as f:
        for n, line in enumerate(line for line in f if not line.startswith("#")):
            label, _, value = line.split()
            found[label, n] = bytes.fromhex(value)
    return found


def logs_keys(version, keylog):
    made = context(version)
    made.keylog_filename = keylog
    return made


def where(found, regions):
    return sorted(what for (what, _), value in found.items() if any(value in region for region in regions))


def test_what_a_dump_has(site, tmp_path):
    web = site(routes=[rpc_route()])
    cert, key = certs.make(str(tmp_path))
    web.config["listeners"][0]["tls"] = {"certificates": [certs.pair((cert, key))]}
    web.fake()
    web.start(ready=False)
    web.workers[0].wait_ready(1)
    keylog = str(tmp_path / "keys")
    clients = [Client(web.address, tls=logs_keys(version, keylog)) for version in (V13, V12) for _ in range(3)]
    for client in clients:
        call(client)
    shard, = web.shards()
    found = secrets(keylog)
    dumped, left_out = memory(shard)
    in_use = where(found, left_out)
    assert in_use.count("SERVER_TRAFFIC_SECRET_0") == in_use.count("CLIENT_TRAFFIC_SECRET_0") == 3, in_use
    assert where(found, dumped) == []
    with open("/proc/%d/coredump_filter" % shard) as f:
        assert int(f.read(), 16) == 0
    with open(key) as f:
        text = f.read().split("\n")[1].encode()
    dumped, _ = memory(web.front.pid)
    assert not any(text in region for region in dumped)
    for client in clients:
        client.close()
    with Client(web.address, tls=context()) as client:    # its turn ends after those in which the others were closed
        call(client)
    dumped, left_out = memory(shard)
    assert where(found, dumped + left_out) == []
