"""What the programs are allowed to do, and how they are built."""
import os
import pwd
import re
import subprocess

import pytest

from harness import DEMO, FRONTD, WORKERD, children, rpc_route, sanitized, wait_for


def elf(*argv):
    return subprocess.run(["readelf", "-W", *argv], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(sanitized(), reason="a build for tests")
@pytest.mark.parametrize("program", [FRONTD, WORKERD, DEMO], ids=["frontd", "workerd", "demo.so"])
def test_built_with_what_makes_attacks_harder(program):
    """Position independent, full RELRO, no executable stack; frontd: stack protector, FORTIFY."""
    assert re.search(r"Type: +DYN", elf("-h", program))
    segments, dynamic = elf("-l", program), elf("-d", program)
    assert "GNU_RELRO" in segments and re.search(r"GNU_STACK .* RW +0x", segments)
    assert re.search(r"BIND_NOW|Flags: .*NOW", dynamic)
    if program != DEMO:
        symbols = elf("--dyn-syms", program)
        assert "__stack_chk_fail" in symbols and re.search(r"__\w+_chk\b", symbols)


def status(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return next(line.split()[1:] for line in f if line.startswith(key + ":"))


def test_shards_cannot_get_privileges(site):
    web = site(shards=2)
    web.start()
    wait_for(lambda: [status(pid, "NoNewPrivs") for pid in web.shards()] == [["1"], ["1"]], "both")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_shards_run_as_the_user(site):
    """`user`: shards are that user, in its groups, without a capability; the supervisor is not."""
    web = site(user="nobody", shards=2)
    worker = web.fake()
    os.chmod(worker.address, 0o666)
    os.chmod(web.dir, 0o755)    # the pattern's folder is read by the shards
    web.start()
    entry = pwd.getpwnam("nobody")
    assert status(web.front.pid, "Uid") == ["0"] * 4

    def is_nobody(pid):
        assert status(pid, "Uid") == [str(entry.pw_uid)] * 4
        assert status(pid, "Gid") == [str(entry.pw_gid)] * 4
        assert "0" not in status(pid, "Groups")
        for name in ("CapPrm", "CapEff"):
            assert int(status(pid, name)[0], 16) == 0
    for pid in web.shards():
        is_nobody(pid)
    assert web.rpc("demo.echo", [1]).status == 200
    before = web.shards()
    os.kill(before[0], 9)       # its successor too
    wait_for(lambda: before[0] not in web.shards() and len(web.shards()) == 2, "a new shard")
    new, = set(web.shards()) - set(before)
    wait_for(lambda: status(new, "Uid")[0] != "0", "a shard without privileges")
    is_nobody(new)


def test_a_shard_has_only_its_own_descriptors(site):
    """Each has two sockets to listen on for two listeners, not those of its siblings."""
    web = site(shards=3)
    web.config["listeners"].append({"name": "local", "address": "unix:" + web.path("l.sock"),
                                    "routes": [rpc_route()]})
    web.fake()
    web.start()
    inodes = {}
    with open("/proc/net/tcp") as f:
        next(f)
        for line in f:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == web.port and fields[3] == "0A":
                inodes[int(fields[9])] = 0
    assert len(inodes) == 3
    for pid in web.shards():
        ours = [i for i in inodes if "socket:[%d]" % i in links(pid)]
        assert len(ours) == 1
        inodes[ours[0]] += 1
    assert set(inodes.values()) == {1}
    assert not children(web.shards()[0])


def links(pid):
    found = []
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            found.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        except OSError:
            pass
    return found


def test_a_full_disk_stops_no_request(site):
    """Standard error is a file that takes no more."""
    web = site(log={"level": "debug", "format": "text"})
    web.fake()
    config = web.write()
    with open("/dev/full", "w") as full:
        front = subprocess.Popen([FRONTD, "-c", config], stdin=subprocess.DEVNULL, stderr=full)
    try:
        def served():
            try:
                return web.rpc("demo.echo", [1]).status == 200
            except OSError:
                return False
        wait_for(served, "an answer")
        for n in range(100):
            assert web.rpc("demo.echo", [n]).json()["result"] == [n]
        front.terminate()
        assert front.wait(10) == 0
    finally:
        front.kill()
        front.wait()
