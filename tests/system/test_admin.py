"""The admin address: what is served there, to whom, and what becomes of it when processes come and go."""
import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest

from fakeworker import hold
from harness import FRONTD, LIMIT, children, command_line, free_port, open_files, stat, wait_for
from httpclient import Client, Closed, rpc_request

GONE = (Closed, ConnectionError)


@pytest.fixture
def admin(site):
    """A site whose front serves at an admin address; `.admin` is that, `.ask()` a request to it."""
    def make(address=None, ready=True, **keys):
        port = free_port()
        web = site(admin={"address": address or str(port), **keys.pop("admin", {})}, **keys)
        web.admin = address[5:] if address else ("127.0.0.1", port)
        web.ask = lambda path, **fields: ask(web.admin, path, **fields)
        web.fake()
        return web.start(ready)
    return make


def ask(address, path, method="GET", **fields):
    """The answer to one request, on a connection of its own, as (status, fields, body)."""
    with contextlib.closing(dial(address)) as sock:
        head = "".join("%s: %s\r\n" % (name.replace("_", "-"), value) for name, value in fields.items())
        sock.sendall(("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n"
                      % (method, path, head)).encode())
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return (int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])},
            body.decode())


def dial(address):
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT)
        sock.connect(address)
        return sock
    return socket.create_connection(address, timeout=LIMIT)


def admins(web):
    return [pid for pid in children(web.front.pid) if "--admin" in command_line(pid)]


def the_admin(web):
    """The process id of the only one."""
    return wait_for(lambda: admins(web) if len(admins(web)) == 1 else None, "one admin process")[0]


def refused(web, path):
    status, body = web.ask(path)[::2]
    return body if status == 503 else None


def test_what_is_served(admin):
    """Metrics in both forms, health, readiness, status; what is refused; all of it with a token, and without."""
    web = admin(shards=2)
    web.rpc("a")
    assert web.ask("/healthz")[::2] == (200, "ok\n")
    wait_for(lambda: web.ask("/readyz")[0] == 200, "readiness")
    assert json.loads(web.ask("/readyz")[2]) == {"missing": [], "ready": True}
    status, fields, body = web.ask("/status")
    assert status == 200 and fields["content-type"] == "application/json"
    assert json.loads(body)["pid"] == web.front.pid
    assert len({shard["seat"] for shard in json.loads(body)["shards"]}) == 2
    overview = json.loads(web.ask("/api/overview")[2])
    assert overview["status"]["pid"] == web.front.pid and "frontd_" in overview["metrics"]
    assert [pool["pool"] for pool in overview["pools"]["pools"]] == ["app"]
    assert [worker["pool"] for worker in overview["workers"]["workers"]] == ["app"]
    status, fields, body = web.ask("/metrics")
    assert status == 200 and fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert body.count("# TYPE") > 5 and "# EOF" not in body
    status, fields, body = web.ask("/metrics?name=frontd_", Accept="application/openmetrics-text")
    assert status == 200 and fields["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")
    assert web.ask("/metrics?name=no")[2] == ""
    assert web.ask("/metrics", method="HEAD")[2] == ""
    for path, method, accept, code in (("/metrics", "POST", "*/*", 405), ("/nothing", "GET", "*/*", 404),
                                       ("/metrics", "GET", "image/png", 406), ("/metrics?name=%", "GET", "*/*", 400)):
        got, fields, _ = web.ask(path, method=method, Accept=accept)
        assert got == code, (path, method)
        assert fields["x-content-type-options"] == "nosniff" and fields["cache-control"] == "no-store"
        assert not [name for name in fields if name.startswith("access-control")]
    with Client(web.admin) as client:
        for _ in range(3):
            assert client.request("GET", "/healthz", host="localhost").status == 200


def test_the_process_has_nothing_to_spare(admin):
    """No privileges, no core dump, a filter of system calls; the shared memory it can only read."""
    web = admin()
    pid = the_admin(web)
    web.ask("/healthz")
    with open("/proc/%d/status" % pid) as f:
        found = dict(line.split(":", 1) for line in f)
    assert found["NoNewPrivs"].strip() == "1" and found["Seccomp"].strip() == "2"
    assert all(int(found[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapBnd"))
    with open("/proc/%d/limits" % pid) as f:
        limits = f.read()
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits.splitlines()), limits
    assert any(line.split()[:3] == ["Max", "open", "files"] and line.split()[3:5] == ["256", "256"]
               for line in limits.splitlines()), limits
    with open("/proc/%d/maps" % pid) as f:
        shared = [line.split()[1] for line in f if "frontd-share" in line]
    assert shared and all(mode == "r--s" for mode in shared), shared
    fd, = [fd for fd, what in open_files(pid).items() if "frontd-share" in what]
    with open("/proc/%d/fdinfo/%d" % (pid, fd)) as f:
        flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags"))
    assert flags & os.O_ACCMODE == os.O_RDONLY


def test_a_token_and_a_socket_file(admin, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    web = admin("unix:%s/admin.sock" % tmp_path, admin={"token_file": str(token)})
    assert web.ask("/metrics")[:1] == (401,) and web.ask("/metrics")[1]["www-authenticate"].startswith("Bearer")
    assert web.ask("/healthz")[0] == 200
    fits = {"Authorization": "Bearer 0123456789abcdef"}
    assert web.ask("/metrics", **fits)[0] == 200
    pid = the_admin(web)
    token.write_text("another.token-of-the-same\n")
    os.kill(pid, signal.SIGKILL)        # the one that follows has the token of the config in force
    wait_for(lambda: the_admin(web) != pid, "another admin process")
    assert web.ask("/status", **fits)[0] == 200
    web.front.signal(signal.SIGHUP)
    wait_for(lambda: web.ask("/status", **fits)[0] == 401, "the other token")
    assert web.ask("/status", Authorization="Bearer another.token-of-the-same")[0] == 200
    token.write_text("\n")
    web.front.signal(signal.SIGHUP)
    wait_for(lambda: "admin.token_file: %s: there has to be one line" % token in web.front.text(), "the refusal")
    assert web.ask("/status", Authorization="Bearer another.token-of-the-same")[0] == 200
    assert "another.token" not in web.front.text()


def test_when_clients_may_come(admin):
    """Not ready: while a pool has no worker, while a shard is away, while the front stops."""
    web = admin(drain="5s")
    wait_for(lambda: web.ask("/readyz")[0] == 200, "readiness")
    web.workers.pop().close()
    body = wait_for(lambda: refused(web, "/readyz"), "a pool without a worker")
    assert json.loads(body) == {"missing": ["pool app has no worker"], "ready": False}
    assert web.ask("/healthz")[0] == 200
    worker = web.fake(handler=hold)
    wait_for(lambda: web.ask("/readyz")[0] == 200, "readiness")
    with web.client() as client:
        client.send(rpc_request("slow"))
        worker.wait_calls(1)
        web.front.signal(signal.SIGTERM)
        body = wait_for(lambda: refused(web, "/readyz"), "the drain")
        assert "it stops, and only finishes what is in progress" in json.loads(body)["missing"]
        worker.calls[0].reply("now")
        assert client.read_response().status == 200


def test_who_kills_whom(admin):
    """A killed or hung one is started again; with the supervisor it ends; none is left."""
    web = admin(shard_timeout="2s")
    pid = the_admin(web)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: the_admin(web) != pid, "another one after SIGTERM")
    pid = the_admin(web)
    assert web.ask("/healthz")[0] == 200
    os.kill(pid, signal.SIGSTOP)
    with contextlib.closing(dial(web.admin)) as waiting:    # in the queue, for the one that follows
        waiting.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    assert "the admin process (pid %d) has hung" % pid in web.front.text()
    pid = the_admin(web)
    shards = web.shards()
    web.front.signal(signal.SIGKILL)
    web.front.wait()
    wait_for(lambda: (stat(pid) or "X")[0] in "XZ", "its end with the supervisor")
    assert all(stat(shard) for shard in shards)
    web.start(ready=False)
    wait_for(lambda: "the old shards are gone" in web.front.text().rsplit("serve on", 1)[-1], "the reload")
    assert web.ask("/healthz")[0] == 200


def test_reloads_refuse_no_client(admin):
    """Clients connect, and ask on a connection that they keep, while configs and programs are replaced."""
    web = admin()
    kept = Client(web.admin)
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
        pid = the_admin(web)
        mark = web.front.text().count("the old shards are gone")
        web.front.signal(number)

        def over():
            assert web.ask("/metrics")[0] == 200        # each time on a new connection
            return web.front.text().count("the old shards are gone") > mark
        wait_for(over, "the end of the reload", interval=0)
        assert the_admin(web) != pid
        try:
            assert kept.request("GET", "/healthz", host="localhost").status == 200
        except GONE:                                    # idle when the one before ended
            kept = Client(web.admin)
    moved = free_port()
    web.config["admin"]["address"] = "127.0.0.1:%d" % moved
    web.write()
    web.front.signal(signal.SIGHUP)

    def has_moved():
        try:
            return ask(("127.0.0.1", moved), "/healthz")[0] == 200
        except OSError:
            return False
    wait_for(has_moved, "the other address")
    with pytest.raises(OSError):
        wait_for(lambda: dial(web.admin).close(), "the end of the address before")
    del web.config["admin"]
    web.write()
    web.front.signal(signal.SIGHUP)
    wait_for(lambda: not admins(web), "no admin process")


def test_the_check_warns_and_refuses(site, tmp_path):
    web = site()
    web.config["admin"] = {"address": "*:9464"}

    def check(*words):
        done = subprocess.run([FRONTD, "--check", *words, "-c", web.write()], capture_output=True, text=True,
                              timeout=LIMIT)
        return done.returncode, done.stderr
    code, said = check()
    assert code == 0 and "warning:" in said and "admin.address: '*:9464': whoever reaches it" in said
    web.config["admin"]["token_file"] = str(tmp_path / "none")
    code, said = check()
    assert code == 1 and "admin.token_file: %s/none: cannot read it" % tmp_path in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        web.config["admin"] = {"address": "127.0.0.1:%d" % taken.getsockname()[1]}
        code, said = check("--bind")
        assert code == 1 and "admin.address: cannot listen on" in said and "somebody listens there" in said
