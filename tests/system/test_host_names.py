"""Names and addresses: a listener on all of a name's, a worker found by its name, off the loop."""
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

import harness
from harness import FRONTD, LIMIT, Load, children, free_port, rpc_route, stat, wait_for
from test_log_reasons import once, said


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def answers(port, host):
    with socket.create_connection((host, port), timeout=LIMIT) as sock:
        sock.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := sock.recv(4096):
            data += piece
    return data.startswith(b"HTTP/1.1 404")


def refused(port, host):
    try:
        socket.create_connection((host, port), timeout=LIMIT).close()
        return False
    except ConnectionRefusedError:
        return True


def listening(site, address, **keys):
    web = site(routes=[rpc_route()], **keys)
    web.config["listeners"][0]["address"] = address % web.port
    return web


@needs_ipv6
@pytest.mark.parametrize("address", [":%d", "*:%d", "0.0.0.0:%d", "[::]:%d", "localhost:%d"])
def test_all_addresses(site, address):
    web = listening(site, address, shards=2)
    web.fake()
    web.start()
    for _ in range(10):
        assert answers(web.port, "127.0.0.1") and answers(web.port, "::1")
    for number in (signal.SIGHUP, signal.SIGUSR2):
        done = web.front.text().count("the old shards are gone")
        web.front.signal(number)
        wait_for(lambda: web.front.text().count("the old shards are gone") > done, "the reload", 3 * LIMIT)
        assert answers(web.port, "127.0.0.1") and answers(web.port, "::1")


@needs_ipv6
@pytest.mark.parametrize("address,host,other", [("127.0.0.1:%d", "127.0.0.1", "::1"), ("[::1]:%d", "::1", "127.0.0.1")])
def test_one_address(site, address, host, other):
    web = listening(site, address)
    web.start(ready=False)
    said(web, "ready: ")
    assert answers(web.port, host) and refused(web.port, other)


@needs_ipv6
def test_one_family_each(site):
    """As it had to be written once: two listeners, and each has what it names."""
    web = listening(site, "0.0.0.0:%d")
    web.config["listeners"].append({**web.config["listeners"][0], "name": "six", "address": "[::]:%d" % web.port})
    web.fake()
    web.start()
    assert answers(web.port, "127.0.0.1") and answers(web.port, "::1")
    web.config["listeners"].pop()
    web.config["listeners"][0]["address"] = "127.0.0.1:%d" % web.port
    web.write()
    web.front.signal(signal.SIGHUP)
    said(web, "the old shards are gone")
    assert answers(web.port, "127.0.0.1") and refused(web.port, "::1")


@needs_ipv6
def test_the_same_address_in_other_words(site):
    web = listening(site, ":%d")
    web.config["listeners"].append({**web.config["listeners"][0], "name": "two", "address": "*:%d" % web.port})
    done = subprocess.run([FRONTD, "--check", "-c", web.write()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "listeners[1].address: '*:%d' and ':%d' have an address in common" % (web.port, web.port) in done.stderr


@needs_ipv6
def test_an_address_that_is_taken(site):
    """One of the two is somebody else's: that is an error, not half a listener."""
    web = listening(site, "localhost:%d")
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", web.port))
        other.listen()
        done = subprocess.run([FRONTD, "-c", web.write()], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "cannot listen on localhost:%d: somebody listens there already" % web.port in done.stderr


@needs_ipv6
def test_a_family_that_is_missing(site):
    """In a network of its own without IPv6 on lo."""
    web = listening(site, "localhost:%d")
    script = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6 && exec %s -c %s" % (
        FRONTD, web.write())
    web.front = harness.Program(["unshare", "-n", "sh", "-c", script], web.path("frontd.log"))
    wait_for(lambda: "ready: " in web.front.text() or not web.front.running(), "the start")
    if not web.front.running():
        web.front = None
        pytest.skip("no network of its own")
    once(web, "listener web: not on all addresses of localhost:%d: Cannot assign requested address" % web.port)


# Workers

def with_worker(site, address, worker=None, **keys):
    web = site(routes=[rpc_route()], **keys)
    port = free_port()
    web.config["pools"][0]["workers"] = ["tcp://%s:%d" % (address, port)]
    if worker:
        web.fake((worker, port))
    return web, port


def test_a_name_whose_first_address_refuses(site):
    """localhost is ::1 first: the worker is on 127.0.0.1 only."""
    web, _ = with_worker(site, "localhost", "127.0.0.1", shards=2)
    web.start()
    assert web.rpc("demo.echo", [1]).json()["result"] == [1]
    assert " trying again" not in web.front.text()


def resolvers(web):
    """The processes that look names up: children of the shards, each with one that serves."""
    return [pid for shard in web.shards() for pid in children(shard)]


@pytest.fixture
def hosts(site):
    """A front that sees a file of ours as /etc/hosts: hosts(text) writes it."""
    web, port = with_worker(site, "worker.frontd-test")
    path = web.path("hosts")

    def write(text):
        with open(path, "w") as f:
            f.write("127.0.0.1 localhost\n" + text)
    write("")
    script = "mount --bind %s /etc/hosts && exec %s -c %s" % (path, FRONTD, web.write())
    web.front = harness.Program(["unshare", "-m", "sh", "-c", script], web.path("frontd.log"))
    wait_for(lambda: "ready: " in web.front.text() or not web.front.running(), "the start", 3 * LIMIT)
    if not web.front.running():
        web.front = None
        pytest.skip("no mounts of its own")
    return web, port, write


def test_a_name_that_is_not_known_yet(hosts):
    web, port, write = hosts
    said(web, r"warning .*pool app: worker tcp://worker\.frontd-test:%d: its name cannot be resolved: " % port)
    web.fake(("127.0.0.1", port))
    write("127.0.0.1 worker.frontd-test\n")
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "the worker", 3 * LIMIT)
    # It moves: its name is looked up again when the channel has ended.
    web.workers.pop().close()
    web.fake(("127.0.0.2", port))
    write("127.0.0.2 worker.frontd-test\n")
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "the worker at its new place", 3 * LIMIT)


def test_addresses_in_turn(hosts):
    """Of three only the last serves; and a reload finds it as well."""
    web, port, write = hosts
    web.fake(("127.0.0.4", port))
    write("".join("127.0.0.%d worker.frontd-test\n" % n for n in (2, 3, 4)))
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "the worker", 3 * LIMIT)
    web.front.signal(signal.SIGHUP)
    said(web, "the old shards are gone")
    assert web.rpc("demo.echo", [2]).status == 200


def test_concurrency_holds_for_a_name(site):
    web, port = with_worker(site, "localhost", shards=3)
    lock, timers = threading.Lock(), []

    def later(call):
        with lock:
            timers.append(threading.Timer(0.005, call.reply, [call.params]))
            timers[-1].daemon = True
            timers[-1].start()
    worker = web.fake(("127.0.0.1", port), later, 2)
    web.start()
    load = Load(web, 12)
    load.wait(200)
    assert set(load.stop()) == {200}
    assert worker.max_busy == 2


def test_the_process_that_looks_up(site):
    """One for each shard and one that serves, as its user and without its descriptors; they end with it. Where there
    are no names there is none."""
    web, _ = with_worker(site, "localhost", "127.0.0.1", shards=2)
    web.start()
    pids = resolvers(web)
    assert len(pids) == 2
    wait_for(lambda: all(children(pid) for pid in pids), "those that serve")
    pids += [child for pid in pids for child in children(pid)]
    assert len(pids) == 4
    for pid in pids:
        assert not {fd: what for fd, what in harness.open_files(pid).items() if fd > 3}
        with open("/proc/%d/status" % pid) as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
    os.kill(web.shards()[0], signal.SIGKILL)
    wait_for(lambda: len([pid for pid in pids if stat(pid) and stat(pid)[0] != "Z"]) == 2, "their end")
    wait_for(lambda: len(web.shards()) == 2 and len(resolvers(web)) == 2, "another one")
    # One that is killed is started again, but for both at once, which costs the shard nothing but names.
    web.wait_served()
    pid = resolvers(web)[0]
    wait_for(lambda: children(pid), "the one that serves")
    server, = children(pid)
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: children(pid) not in ([], [server]), "another one that serves")
    server, = children(pid)
    os.kill(pid, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    said(web, "the processes that look up names of workers have ended")
    for _ in range(10):
        assert web.rpc("demo.echo", [1]).status == 200
    other = site()
    other.fake()
    other.start()
    assert resolvers(other) == []


def test_check_of_names(site):
    web, _ = with_worker(site, "no-such-host.invalid")
    done = subprocess.run([FRONTD, "--check", "-c", web.write()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert re.search(r"warning: .*pools\[0\]\.workers\[0\]: 'tcp://no-such-host\.invalid:\d+': "
                     "the host cannot be resolved", done.stderr)
    bind = subprocess.run([FRONTD, "--check", "--bind", "-c", web.write()], capture_output=True, text=True, timeout=60)
    assert bind.returncode == 1 and "the host cannot be resolved" in bind.stderr
