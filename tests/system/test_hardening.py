"""What the programs are allowed to do, and how they are built."""
import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import DEMO, FRONTD, WORKERD, Program, children, rpc_route, sanitized, sockets, stat, wait_for
from httpclient import Client, Closed


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


CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_RESOURCE.
OF_THE_SUPERVISOR = 0b1_0000_0000_0000_0101_1110_1011


def capabilities(pid, *names):
    return {name: int(status(pid, name)[0], 16) for name in names or CAPABILITIES}


def has_nothing(pid):
    """It can do nothing that its user cannot, for good. The bounding set is root's to limit."""
    if os.geteuid() == 0:
        assert set(capabilities(pid).values()) == {0}
    assert set(capabilities(pid, "CapInh", "CapPrm", "CapEff", "CapAmb").values()) == {0}
    assert status(pid, "NoNewPrivs") == ["1"]


# From libuv 1.45 on each shard has a filter that hides io_uring from it, whatever the config says.
OF_EACH = int(ctypes.CDLL("libuv.so.1").uv_version() >= 1 << 16 | 45 << 8)


def is_filtered(pid):
    return int(status(pid, "Seccomp_filters")[0]) - OF_EACH == 1


def is_shut_in(pid, filtered=True):
    has_nothing(pid)
    assert is_filtered(pid) == filtered
    assert status(pid, "Seccomp") == ["2" if filtered or OF_EACH else "0"]
    limits = open("/proc/%d/limits" % pid).read()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)


def test_shards_are_shut_in(front):
    """Those of each generation, and one that was started again."""
    site = front(shards=2)
    site.fake()
    site.start()
    for number in (signal.SIGHUP, signal.SIGUSR2):
        before = site.shards()
        for pid in before:
            is_shut_in(pid)
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: before[0] not in site.shards() and len(site.shards()) == 2, "a new shard")
        wait_for(lambda: all(map(is_filtered, site.shards())), "its filter")
        for pid in site.shards():
            is_shut_in(pid)
        site.reload(number)
    for pid in site.shards():
        is_shut_in(pid)
    assert status(site.front.pid, "Seccomp") == ["0"]


def test_without_the_filter(front):
    """`seccomp: false` takes effect at a reload, and so does `true`."""
    site = front(shards=2, seccomp="false")
    site.fake()
    site.start()
    for value, wanted in (("false", False), ("true", True), ("false", False)):
        site.reload(seccomp=value)
        for pid in site.shards():
            is_shut_in(pid, wanted)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_of_the_same_user_looks_into_a_shard(site):
    """Not even where the supervisor is of that user: it is not dumpable, so its files in /proc are root's."""
    web = site(shards=1)
    os.chmod(web.dir, 0o1777)
    os.chmod(web.write(), 0o644)
    web.front = Program(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", shutil.copy(FRONTD, web.dir),
                         "-c", web.path("frontd.yaml")], web.path("frontd.log"))
    web.wait_served()
    assert os.stat("/proc/%d/mem" % web.front.pid).st_uid == 65534
    assert os.stat("/proc/%d/mem" % web.shard).st_uid == 0
    look = "open('/proc/%d/mem' % int(__import__('sys').argv[1]), 'rb')"
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c",
                           look, str(web.shard)], capture_output=True, text=True)
    assert "PermissionError" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_is_warned(front):
    """At each start and each reload, unless shards are somebody else."""
    plain, meant = "Write `user: NAME` into the config", "as `user: root` says"
    site = front(shards=1)
    site.fake()
    site.start()
    assert (site.count(plain), site.count(meant)) == (1, 0)
    assert status(site.shard, "Uid") == ["0"] * 4
    site.reload()
    site.reload(signal.SIGUSR2)
    assert (site.count(plain), site.count(meant)) == (3, 0)
    site.reload(user="root")
    assert (site.count(plain), site.count(meant)) == (3, 1)
    is_shut_in(site.shard)
    os.chmod(site.dir, 0o755)
    os.chmod(site.workers[0].address, 0o666)
    site.reload(user="nobody")
    assert (site.count(plain), site.count(meant)) == (3, 1)
    assert site.count("run as root") == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_supervisor_can_do_its_work_with_what_it_keeps(front):
    """A low port, shards and workers of another user, at the start, after SIGUSR2, and after it was killed."""
    site = front(shards=2, user="nobody")
    site.config["pools"].append({"name": "own", "command": [
        WORKERD, "--module", DEMO], "instances": 1})
    site.fake()
    os.chmod(site.workers[0].address, 0o666)
    os.chmod(site.dir, 0o755)

    def low(port):
        listeners = site.config["listeners"][:1]
        return listeners + [{"name": "low", "address": "127.0.0.1:%d" % port, "routes": [rpc_route(pool="own")]},
                            {"name": "local", "address": "unix:" + site.path("%d.sock" % port),
                             "routes": [rpc_route()]}]

    def serves(port):
        with Client(("127.0.0.1", port)) as client:
            return client.rpc("demo.echo", [port]).status == 200

    ports = [free_low_port() for _ in range(3)]
    site.config["listeners"] = low(ports[0])
    site.start()
    wait_for(lambda: serves(ports[0]), "the worker that it runs")
    kept = capabilities(site.front.pid)
    mine = capabilities(os.getpid(), "CapPrm")["CapPrm"]
    assert kept["CapPrm"] == kept["CapEff"] == mine & OF_THE_SUPERVISOR
    assert kept["CapBnd"] & ~OF_THE_SUPERVISOR == 0 and kept["CapAmb"] == 0
    site.reload(signal.SIGUSR2, listeners=low(ports[1]))
    wait_for(lambda: serves(ports[1]), "the new listener")
    assert capabilities(site.front.pid) == kept
    old = set(site.shards())
    worker, = set(children(site.front.pid)) - old
    has_nothing(worker)
    os.kill(site.front.pid, signal.SIGKILL)
    site.front.wait()
    site.config["listeners"] = low(ports[2])
    site.write()
    served = site.count(" serves: ")
    site.launch(ready=False)
    site.wait_log(" serves: ", served + 1)
    wait_for(lambda: serves(ports[2]), "the supervisor that came after it")
    wait_for(lambda: len(site.shards()) == 2 and not old & set(site.shards()), "new shards alone")
    assert capabilities(site.front.pid) == kept
    for pid in site.shards():
        is_shut_in(pid)
        assert status(pid, "Uid") == [str(pwd.getpwnam("nobody").pw_uid)] * 4
    wait_for(lambda: not alive(worker), "the end of the worker of the one that was killed")
    workers = set(children(site.front.pid)) - set(site.shards())
    site.front.signal(signal.SIGINT)        # kills shards and workers of the other user
    site.front.wait()
    assert workers and not [pid for pid in workers if alive(pid)]


def alive(pid):
    return (stat(pid) or "X")[0] not in "ZX"


def free_low_port():
    """One that is free, and that no other process of these tests takes as long as this one runs."""
    for port in range(601, 1024):
        mine = socket.socket(socket.AF_UNIX)
        with socket.socket() as sock, contextlib.suppress(OSError):
            mine.bind("\0frontd-tests-%d" % port)
            sock.bind(("127.0.0.1", port))
            free_low_port.taken.append(mine)
            return port
        mine.close()
    raise AssertionError("no port below 1024 is free")


free_low_port.taken = []


@pytest.mark.parametrize("user", [None, "nobody"])
def test_workers_have_no_privileges(site, user):
    """Those that frontd runs, root or not."""
    if user and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    web = site(**({"user": user} if user else {}))
    web.config["pools"][0] = {"name": "app", "command": [WORKERD, "--module", DEMO], "instances": 2}
    os.chmod(web.dir, 0o755)
    web.start()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "a worker")
    workers = set(children(web.front.pid)) - set(web.shards())
    assert len(workers) == 2
    for pid in workers:
        has_nothing(pid)
        assert status(pid, "Uid") == [str(pwd.getpwnam(user).pw_uid if user else os.geteuid())] * 4
        assert status(pid, "Seccomp") == ["0"]


TRIES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "accept4");
    if (access("@/bind", F_OK) == 0)
        bind(fd, NULL, 0);
    if (access("@/execve", F_OK) == 0)
        syscall(SYS_execve, "/bin/true", NULL, NULL);
    return real(fd, address, len, flags);
}
"""


@pytest.mark.skipif(sanitized(), reason="ASan must be the first library that is loaded")
def test_a_shard_that_tries_what_no_shard_does(site, monkeypatch):
    """What is refused is logged once and the shard goes on; what only an attacker tries is its end."""
    web = site(shards=1)
    web.fake()
    with open(web.path("tries.c"), "w") as f:
        f.write(TRIES.replace("@", web.dir))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", web.path("tries.so"), web.path("tries.c"), "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", web.path("tries.so"))
    web.start()
    monkeypatch.delenv("LD_PRELOAD")
    web.front.tolerated = ("the seccomp filter has refused", "was ended by signal 31")
    refused = "the seccomp filter has refused the system call bind"
    assert refused not in web.front.text()
    open(web.path("bind"), "w").close()
    for n in range(3):
        assert web.rpc("demo.echo", [n]).status == 200
    wait_for(lambda: refused in web.front.text(), "the line")
    shard = web.shard
    open(web.path("execve"), "w").close()
    with contextlib.suppress(OSError, Closed):
        web.rpc("demo.echo", [1])
    ended = "(pid %d) was ended by signal 31 (it tried a system call that no shard makes), its connections " \
            "are lost; starting it again" % shard
    wait_for(lambda: ended in web.front.text(), "its end")
    os.unlink(web.path("execve"))
    wait_for(lambda: web.shards() and web.shard != shard, "another one")
    assert web.rpc("demo.echo", [2]).status == 200
    assert len(re.findall(refused, web.front.text())) == 2      # once for each process


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
        is_shut_in(pid)
    for pid in web.shards():
        is_nobody(pid)
    assert web.rpc("demo.echo", [1]).status == 200
    before = web.shards()
    os.kill(before[0], 9)       # its successor too
    wait_for(lambda: before[0] not in web.shards() and len(web.shards()) == 2, "a new shard")
    new, = set(web.shards()) - set(before)
    wait_for(lambda: is_filtered(new), "a shard without privileges")   # which is the last of them
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
        ours = [i for i in inodes if i in sockets(pid)]
        assert len(ours) == 1
        inodes[ours[0]] += 1
    assert set(inodes.values()) == {1}
    assert not children(web.shards()[0])


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
