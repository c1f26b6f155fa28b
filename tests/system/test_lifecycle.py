"""Starting, checking, logging and stopping."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from fakeworker import hold
from harness import FRONTD, Program, SANITIZERS, free_port, http_route, rpc_route, wait_for
from httpclient import Client, rpc_request

GOOD = """\
run_dir: {dir}/run
shards: 2
log: {{level: info, format: text}}
limits:
  connections: 1000
  connections_per_peer: 0
  header: 16KiB
  headers: 100
  body: 1MiB
  header_timeout: 10s
  body_timeout: 30s
  idle_timeout: 1h
  write_buffer: 1MiB
  calls_per_connection: 64
  subscriptions: 64
drain: 30s
listeners:
  - name: web
    address: 127.0.0.1:{port}
    protocol: http
    routes:
      - path: /rpc
        kind: jsonrpc
        pool: app
        timeout: 30s
        meta: [peer]
        headers: [authorization]
      - path: /ws
        kind: websocket
        pool: app
        messages: jsonrpc
        events: true
        connect: ask
        ping: 30s
        slow: drop
        origins: ["https://www.example"]
        protocols: [chat]
      - path: /
        kind: http
        pool: site
  - name: devices
    address: unix:{dir}/devices.sock
    protocol: frame
    pool: app
    timeout: 5s
pools:
  - name: app
    workers: ["unix:{dir}/app-*.sock"]
    queue: 10000
    wait_for_worker: 5s
    balance: least
    idempotent: ["get_*"]
    methods: ["*"]
  - name: site
    workers: ["tcp://127.0.0.1:9"]
"""


def run(*argv, timeout=20):
    done = subprocess.run([FRONTD, *argv], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)
    for word in SANITIZERS:
        assert word not in done.stderr
    return done


def check(web, text, name="some.yaml"):
    return run("--check", "-c", web.write(text, name))


def good(web):
    return GOOD.format(dir=web.dir, port=web.port)


def test_check_of_a_good_config(site):
    done = check(site(), good(site()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_makes_and_binds_nothing(site):
    web = site()
    web.fake()
    web.start()
    check_path = web.path("run2")
    done = check(web, good(web).replace(web.path("run"), check_path))
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(check_path)
    assert web.rpc("demo.echo", [1]).status == 200


# A change to the good config, and the word that the message must have.
BAD = {
    "unknown-top": ("shards: 2\n", "shards: 2\nshard: 2\n", "shard"),
    "unknown-limit": ("  headers: 100\n", "  headres: 100\n", "headres"),
    "unknown-route": ("        kind: jsonrpc\n", "        kind: jsonrpc\n        kid: x\n", "kid"),
    "unknown-pool-key": ("    queue: 10000\n", "    queu: 10000\n", "queu"),
    "size": ("body: 1MiB", "body: 1MiBs", "body"),
    "size-minus": ("body: 1MiB", "body: -1", "body"),
    "size-overflow": ("body: 1MiB", "body: 99999999999999999999GiB", "body"),
    "duration": ("header_timeout: 10s", "header_timeout: 10 parsecs", "header_timeout"),
    "duration-no-unit": ("header_timeout: 10s", "header_timeout: ten", "header_timeout"),
    "headers-word": ("headers: 100", "headers: many", "headers"),
    "shards-word": ("shards: 2", "shards: lots", "shards"),
    "shards-zero": ("shards: 2", "shards: 0", "shards"),
    "log-level": ("level: info", "level: loud", "level"),
    "log-format": ("format: text", "format: xml", "format"),
    "address": ("    address: 127.0.0.1:{port}\n", "    address: nowhere\n", "address"),
    "address-port": ("    address: 127.0.0.1:{port}\n", "    address: 127.0.0.1:99999\n", "address"),
    "protocol": ("protocol: http", "protocol: gopher", "protocol"),
    "kind": ("kind: jsonrpc", "kind: soap", "kind"),
    "path": ("path: /rpc", "path: rpc", "path"),
    "meta": ("meta: [peer]", "meta: [pear]", "meta"),
    "route-pool": ("        pool: app\n", "        pool: ap\n", "pool"),
    "worker": ("tcp://127.0.0.1:9", "http://127.0.0.1:9", "workers"),
    "both": ("    methods: [\"*\"]\n", "    command: [\"/bin/true\"]\n", "command"),
    "instances": ("    methods: [\"*\"]\n", "    instances: 4\n", "instances"),
    "no-command": ("    workers: [\"tcp://127.0.0.1:9\"]\n", "    command: []\n", "command"),
    "balance": ("balance: least", "balance: most", "balance"),
    "pool-twice": ("  - name: site\n", "  - name: app\n", "app"),
    "path-twice": ("      - path: /\n", "      - path: /rpc\n", "/rpc"),
    "type": ("limits:\n", "limits: 3\nx:\n", "limits"),
    "subscriptions": ("subscriptions: 64", "subscriptions: 0", "subscriptions"),
    "messages": ("messages: jsonrpc", "messages: text", "messages"),
    "events": ("events: true", "events: maybe", "events"),
    "connect": ("connect: ask", "connect: maybe", "connect"),
    "ping": ("ping: 30s", "ping: 0s", "ping"),
    "slow": ("slow: drop", "slow: wait", "slow"),
    "origins": ("[\"https://www.example\"]", "[www.example]", "origins[0]"),
    "protocols": ("protocols: [chat]", "protocols: [a, a]", "protocols[1]"),
    "connect-alone": ("    timeout: 5s\n", "    connect: ask\n", "needs events: true"),
    "http-events": ("        timeout: 30s\n", "        events: true\n", "only for kind: websocket"),
    "http-slow": ("        timeout: 30s\n", "        slow: close\n", "only for kind: websocket"),
    "http-listener": ("    protocol: http\n", "    ping: 30s\n", "only for protocol: frame and line"),
    "stream-routes": ("    timeout: 5s\n", "    routes: []\n", "only for protocol: http"),
    "stream-headers": ("    timeout: 5s\n", "    headers: [cookie]\n", "headers"),
    "stream-pool": ("    pool: app\n    timeout", "    pool: ap\n    timeout", "pool"),
}


@pytest.mark.parametrize("old, new, word", BAD.values(), ids=BAD.keys())
def test_check_tells_file_line_and_key(site, old, new, word):
    web = site()
    old = old.replace("{port}", str(web.port))
    text = good(web)
    assert old in text
    changed = text.replace(old, new, 1)
    line = next(n for n, (was, now) in enumerate(zip(text.splitlines(), changed.splitlines()), 1)
                if was != now)
    done = check(web, changed)
    assert done.returncode == 1
    said = done.stderr + done.stdout
    assert "some.yaml" in said and word in said, said
    assert re.search(r"(:|line )%d\b" % line, said), "no line %d in: %s" % (line, said)


@pytest.mark.parametrize("text", ["", "[]", "x", "{", "shards: 2\n", "a: b: c", "\0", "- \t- x", "&a [*a]",
                                  "listeners: []\npools: []\n"])
def test_check_of_what_is_no_config(site, text):
    done = check(site(), text)
    assert done.returncode == 1
    assert "some.yaml" in done.stderr + done.stdout


def test_a_bad_config_does_not_start(site):
    web = site()
    done = run("-c", web.write(good(web).replace("kind: jsonrpc", "kind: soap")))
    assert done.returncode != 0 and "kind" in done.stderr
    assert not os.path.exists(web.path("run")) or os.listdir(web.path("run")) == []


def test_a_missing_config(site):
    for option in (["-c"], ["--check", "-c"]):
        done = run(*option, site().path("none.yaml"))
        assert done.returncode != 0 and "none.yaml" in done.stderr


def test_version_and_help():
    done = run("--version")
    assert done.returncode == 0 and re.match(r"frontd[ /]\d+\.\d+\.\d+", done.stdout)
    done = run("--help")
    assert done.returncode == 0
    for option in ("-c", "--check", "--version", "--help"):
        assert option in done.stdout


@pytest.mark.parametrize("argv", [[], ["--nonsense"], ["-c"], ["--check"], ["stray"]], ids=str)
def test_wrong_usage(argv):
    done = run(*argv)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert done.stderr


def test_a_checked_config_starts(site):
    web = site()
    assert check(web, good(web), "frontd.yaml").returncode == 0
    web.front = Program([FRONTD, "-c", web.path("frontd.yaml")], web.path("frontd.log"))
    web.config["shards"] = 2
    web.wait_served()


def test_run_dir_is_private(site):
    web = site()
    web.start()
    assert os.stat(web.path("run")).st_mode & 0o027 == 0


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"], ids=["stdin", "stderr", "all"])
def test_started_without_standard_descriptors(site, closed):
    """None of its own files gets their place, where a log would be written into it, and SIGUSR2 works."""
    web = site()
    web.fake()
    web.write()
    web.front = Program(["/bin/sh", "-c", 'exec "$@" ' + closed, "sh", FRONTD, "-c", web.path("frontd.yaml")],
                        web.path("frontd.log"))
    web.wait_served()
    for number in (0, signal.SIGUSR2):
        before = web.shards()
        if number:
            web.front.signal(number)
            wait_for(lambda: len(web.shards()) == 1 and web.shards() != before, "the next shard")
        web.rpc("demo.echo", [1])
        for pid in [web.front.pid] + web.shards():
            places = [os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in range(3)]
            assert set(places) <= {"/dev/null", web.path("frontd.log")}, places
    with open(web.path("run/frontd.pid")) as f:
        assert f.read() == "%d\n" % web.front.pid


def test_a_start_that_fails_leaves_no_pid(site):
    web = site()
    with socket.socket() as taken:
        taken.bind(web.address)
        taken.listen()
        assert run("-c", web.write()).returncode == 1
    assert os.stat(web.path("run/frontd.pid")).st_size == 0


def test_two_on_one_run_dir(site):
    """The second one does not start, and takes nothing from the first."""
    web = site()
    web.start()
    listener = dict(web.config["listeners"][0], address="127.0.0.1:%d" % free_port())
    other = dict(web.config, listeners=[listener])
    done = run("-c", web.write(other, "other.yaml"))
    assert done.returncode == 1 and "another frontd runs with it" in done.stderr
    with open(web.path("run/frontd.pid")) as f:
        assert f.read() == "%d\n" % web.front.pid


def test_sigusr1_is_no_order(site):
    """Others open their logs anew at it; here it ends nobody, whoever it is sent to."""
    web = site(shards=2)
    web.fake()
    web.start()
    shards = web.shards()
    with web.client() as client:
        assert client.rpc("demo.echo", [1]).status == 200
        for pid in [web.front.pid] + shards:
            os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: "signal 10 is ignored" in web.front.text(), "what the supervisor says of it")
        assert client.rpc("demo.echo", [1]).status == 200
    assert web.shards() == shards


# Stopping.

def test_term_when_idle(site):
    """Idle keep-alive clients are closed at once, without a byte; no connect succeeds after it."""
    web = site(shards=2, drain="20s")
    web.fake()
    web.start()
    with web.client() as used, web.client() as unused:
        used.rpc("demo.echo", [1])
        start = time.monotonic()
        web.front.signal(signal.SIGTERM)
        assert used.at_end()
        assert unused.at_end()
        assert web.front.wait() == 0
        assert time.monotonic() - start < 15
    with pytest.raises(ConnectionRefusedError):
        web.client()


def test_term_finishes_calls_in_flight(site):
    web = site(shards=2, drain="20s")
    worker = web.fake(handler=hold)
    web.start()
    clients = [web.client() for _ in range(6)]
    idle = web.client()
    for n, client in enumerate(clients):
        client.send(rpc_request("demo.echo", [n], id=n))
    worker.wait_calls(6)
    web.front.signal(signal.SIGTERM)
    assert idle.at_end()
    worker.wait(lambda: all(c.goaway is not None for c in worker.channels), "GOAWAY of the front")
    assert web.front.running()
    for call in worker.calls:
        call.reply("done")
    for n, client in enumerate(clients):
        r = client.read_response()
        assert r.json() == {"jsonrpc": "2.0", "id": n, "result": "done"}
        assert r.header("connection") == "close"
        assert client.at_end()
    assert web.front.wait() == 0


def test_term_answers_what_was_pipelined_or_nothing_of_it(site):
    """Whatever is answered after SIGTERM is answered in full and in order."""
    web = site(drain="20s")
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(b"".join(rpc_request("demo.echo", [n], id=n) for n in range(5)))
        worker.wait_calls(5)
        web.front.signal(signal.SIGTERM)
        for call in reversed(worker.calls):
            call.reply("done")
        assert [client.read_response().json()["id"] for _ in range(5)] == list(range(5))
        assert client.at_end()
    assert web.front.wait() == 0


def test_drain_limit(site):
    web = site(drain="600ms")
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1]))
        worker.wait_calls(1)
        start = time.monotonic()
        web.front.signal(signal.SIGTERM)
        assert web.front.wait() == 0
        assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT],
                                     [signal.SIGTERM, signal.SIGINT]], ids=["term-term", "int", "term-int"])
def test_stop_now(site, signals):
    web = site(shards=2, drain="60s")
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1]))
        worker.wait_calls(1)
        for number in signals[:-1]:
            web.front.signal(number)
            worker.wait(lambda: all(c.goaway is not None for c in worker.channels), "GOAWAY")
        web.front.signal(signals[-1])
        web.front.wait()
        wait_for(lambda: not web.front.family(), "the end of all processes")
    web.front.stop(code=None)
    assert web.front.process.returncode >= 0, "ended by a signal"
    web.front = None


def catches(pid, number):
    with open("/proc/%d/status" % pid) as f:
        return any(int(line.split()[1], 16) >> number - 1 & 1 for line in f if line.startswith("SigCgt:"))


def test_shards_without_a_supervisor_serve_on_until_sigterm(site):
    web = site(shards=2)
    web.fake()
    web.start()
    shards = web.shards()
    with web.client() as client:
        assert client.rpc("demo.echo", [1]).status == 200
        web.front.signal(signal.SIGKILL)
        web.front.process.wait()
        wait_for(lambda: web.front.text().count("the supervisor is gone") == 2, "both shards to see it")
        assert client.rpc("demo.echo", [2]).status == 200
    web.rpc("demo.echo", [3])
    assert sorted(web.front.family()) == sorted(shards)
    wait_for(lambda: all(catches(pid, signal.SIGTERM) for pid in shards), "who minds SIGTERM")    # after saying so
    for pid in shards:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not web.front.family(), "the end of the shards")
    web.front.check_log()
    web.front = None


def test_stop_and_start_on_the_same_address(site):
    web = site()
    web.fake()
    for _ in range(3):
        web.start()
        with web.client() as client:
            assert client.rpc("demo.echo", [1]).status == 200
            web.front.stop()


# Logs.

def test_json_log(site):
    """Each line is an object, whatever clients and workers put into it."""
    web = site(shards=2, log={"level": "debug", "format": "json"}, routes=[rpc_route(), http_route()])
    bad = web.fake("app-bad\"\\\u00e9", handler=lambda call: call.channel.send(b"\xff\n\"" * 20))
    bad.tolerant = True
    web.start()
    for data in (b"GET /\"\\\xff\x01 HTTP/1.1\r\n\r\n", b"\n{\"level\":\"forged\"}\n\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: x\r\nX: \"\n{}\n\r\n\r\n"):
        with web.client() as client:
            client.send(data)
            client.rest()
    web.rpc("demo.echo", [1])
    old = web.shards()
    os.kill(old[0], signal.SIGKILL)
    wait_for(lambda: old[0] not in web.shards() and len(web.shards()) == 2, "the new shard")
    web.front.stop()
    lines = web.front.text().splitlines()
    assert lines
    for line in lines:
        event = json.loads(line)
        assert isinstance(event, dict) and event.get("level") != "forged", line
        assert event["level"] and (event.get("msg") or event.get("message")), line


def test_text_log_keeps_one_line_an_event(site):
    web = site(log={"level": "debug", "format": "text"}, routes=[http_route()])
    web.start()
    with web.client() as client:
        client.send(b"GET /a\nforged: line HTTP/1.1\r\nHost: x\r\n\r\n")
        client.rest()
    web.front.stop()
    assert not any(line.startswith("forged") for line in web.front.text().splitlines())


def test_a_blocked_log_stops_no_request(site):
    """stderr is a pipe that nobody reads, and full."""
    web = site(log={"level": "debug", "format": "text"})
    web.fake()
    config = web.write()
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    process = subprocess.Popen([FRONTD, "-c", config], stdin=subprocess.DEVNULL, stderr=write,
                               start_new_session=True)
    os.close(write)
    try:
        def served():
            try:
                with Client(web.address) as client:
                    return client.rpc("demo.echo", [1]).status == 200
            except OSError:
                return False
        wait_for(served, "an answer")
        for _ in range(300):
            with Client(web.address) as client:
                client.send(b"BAD\r\n\r\n")
                assert client.read_response().status == 400
        assert served()
        process.terminate()
        assert process.wait(20) == 0
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        os.close(read)
