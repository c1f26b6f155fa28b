"""What an operator finds in the log, at the default level, where something does not work as it should."""
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

import harness
from fakeworker import hold
from harness import LIMIT, ROOT, FRONTD, http_route, rpc_route, wait_for, ws_route
from httpclient import rpc_request

STATED = r"\d{4}-\d\d-\d\dT[\d:.]+Z (\w+) (supervisor|shard \d+/\d+)\[\d+\]: "


def said(web, pattern, count=1):
    """The lines of the log with that pattern, once there are so many."""
    found = lambda: [line for line in web.front.text().splitlines() if re.search(pattern, line)]
    wait_for(lambda: len(found()) >= count, "%r in the log" % pattern)
    return found()


def once(web, pattern):
    lines = said(web, pattern)
    assert len(lines) == 1, lines
    return lines[0]


# Workers that are not there

def test_a_pattern_that_matches_nothing(site):
    web = site(shards=2, pools={"app": {"wait_for_worker": "100ms"}})
    web.start()
    line = once(web, r"pool app: nobody is at unix:\S+app-\*\.sock yet: calls wait for a worker for 100 ms")
    assert " info shard 1/0[" in line
    for _ in range(5):
        assert web.rpc("demo.echo", [1]).status == 503
    lines = said(web, r"warning .*pool app: no worker within 100 ms for `demo\.echo` "
                      r"\(there is none where it looks\): such calls get -32004")
    assert len(lines) <= 2      # one of each shard


def test_a_folder_that_is_missing(site):
    web = site(shards=2)
    web.config["pools"][0]["workers"] = ["unix:" + web.path("sub/app-*.sock")]
    web.start()
    assert " warning shard 1/0[" in once(web, "pool app: there is no folder %s for its workers yet" % web.path("sub"))
    os.mkdir(web.path("sub"))
    once(web, "pool app: the folder %s is there now" % web.path("sub"))
    web.fake("sub/app-1")
    said(web, "worker unix:%s .* is there" % web.path("sub/app-1.sock"))


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_a_path_that_is_no_socket(site, kind):
    web = site()
    path = web.path("app-1.sock")
    if kind == "file":
        open(path, "w").close()
    elif kind == "folder":
        os.mkdir(path)
    else:
        os.symlink("/nowhere/at/all", path)
    web.start()
    what = "a symbolic link to nothing" if kind == "link to nothing" else "no socket"
    assert " warning " in once(web, "pool app: %s: %s; 1 that fit .* are not used" % (path, what))
    for n in range(3):      # others come and go: it is not said again
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(web.path("other-%d" % n))
    open(web.path("app-2.sock"), "w").close()
    said(web, "2 that fit .* are not used")
    once(web, "; 1 that fit")


@pytest.mark.parametrize("says,called", [
    (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "it speaks HTTP,"),
    (b"HTTP/1.0 400\r\n\r\n", "it speaks HTTP,"),
    (b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80\0\4\0\1\0\0\0\5\0\xff\xff\xff\0\0\4\x08\0\0\0\0\0\x7f\xff\0\0", "it speaks HTTP/2,"),
    (b"\x15\3\3\0\2\2\x46", "it speaks TLS,"),
    (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}\n', "it sends JSON without the frames"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "it speaks SSH,"),
])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_worker_that_speaks_something_else(site, says, called, parts):
    def answer(channel):
        for n in range(parts):
            size = len(says) // parts + 1
            channel.send(says[n * size:(n + 1) * size])
        channel.close()
    web = site()
    web.fake("app-1", on_hello=answer).tolerant = True
    web.start()
    assert " warning " in said(web, "pool app: worker unix:%s: %s" % (web.path("app-1.sock"), called))[0]


def test_an_http_server_as_a_worker_of_ours(site):
    """The supervisor asks it, too."""
    web = site()
    script = "import os,socket\ns=socket.socket(fileno=3)\nwhile 1:\n c=s.accept()[0];c.recv(9999);" \
             "c.sendall(b'HTTP/1.1 400 Bad Request\\r\\nServer: x\\r\\n\\r\\n');c.close()"
    web.config["pools"] = [{"name": "app", "command": ["/usr/bin/python3", "-c", script], "start_timeout": "1s",
                            "restart_delay": "1h"}]
    web.start()
    said(web, "is not ready in time: it speaks HTTP, not the protocol of workers; killing it")


# Calls that no worker takes, answers that are none

def test_a_method_that_no_worker_takes(site):
    web = site(pools={"app": {"wait_for_worker": "200ms"}})
    web.fake(hello={"methods": ["a.*"]})
    web.start()
    with web.client() as client:
        for _ in range(3):
            assert client.rpc("b.x").json()["error"]["code"] == -32601
    assert " warning " in once(web, r"pool app: no worker takes `b\.x`: calls of it get -32601")


def test_a_method_that_no_pool_takes(site):
    web = site(pools={"app": {"methods": ["a.*"]}}, routes=[rpc_route(), http_route()],
               streams={"line": {"events": True}})
    web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("b.\x1bx").json()["error"]["code"] == -32601
    line = once(web, r"listener web: 127\.0\.0\.1:\d+: a call is refused, no pool of the route takes its method "
                     r"\(-32601\): `b")
    assert "\x1b" not in line


@pytest.mark.parametrize("body,why", [
    (b"nonsense", "no JSON"),
    (b'{"jsonrpc":"2.0","id":1}', "no JSON-RPC response"),
    (b"[]", "no JSON-RPC response"),
])
def test_bad_answers(site, body, why):
    web = site(routes=[rpc_route(), http_route(), ws_route()])
    web.fake(handler=lambda call: call.send(body))
    web.start()
    with web.client() as client:
        for _ in range(5):
            assert client.rpc("demo.echo", [1]).json()["error"]["code"] == -32007
    line = once(web, r"pool app: worker unix:%s: its answer to `demo\.echo` is (no JSON|no JSON-RPC response): "
                     r"the client gets -32007" % web.path("app-1.sock"))
    assert " warning " in line and why in line


def test_a_bad_answer_of_http(site):
    web = site()
    web.fake(handler=lambda call: call.http(99))
    web.start()
    with web.client() as client:
        assert client.request("GET", "/x").status == 502
    once(web, "its answer to `http.request` is none of HTTP: its status or a header field is wrong")


# Requests that are refused

def many(web, data, count=5):
    for _ in range(count):
        with web.client() as client:
            client.send(data)
            assert client.read_response().status >= 400


@pytest.mark.parametrize("data,words", [
    (b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{", r"that is no JSON \(-32700\)"),
    (b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", r"that is not JSON-RPC 2.0 \(-32600\)"),
    (b"GET /rpc HTTP/1.1\r\nHost: x\r\n\r\n", r"the route does not take its method \(405\)"),
    (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", r"there is no route for it \(404\)"),
    (b"\x01\r\n\r\n", r"its HTTP is wrong \(400,"),
    (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", r"that is no upgrade to WebSocket \(426\)"),
    (b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n", r"that is too large \(-32005, 413, 1009\)"),
])
def test_requests_that_are_refused(site, data, words):
    web = site(routes=[rpc_route(), ws_route()], limits={"body": "1KiB"})
    web.fake()
    web.start()
    many(web, data)
    lines = said(web, r"info .*listener web: 127\.0\.0\.1:\d+: a request is refused.*%s" % words)
    assert len(lines) == 1, lines


def test_how_many_there_were(site):
    """After ten seconds one line says so, though none comes any more."""
    web = site(routes=[rpc_route()])
    web.fake()
    web.start()
    many(web, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 8)
    once(web, r"there is no route for it")
    wait_for(lambda: "7 more since the last line: a request is refused, there is no route for it (404)"
             in web.front.text(), "how many", 3 * LIMIT)


def test_members_of_a_batch(site):
    web = site()
    web.fake()
    web.start()
    with web.client() as client:
        body = b"[1,2,3]"
        client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert len(client.read_response().json()) == 3
    once(web, r"that is not JSON-RPC 2.0 \(-32600\)")


def test_messages_of_connections_that_stay(site):
    web = site(routes=[rpc_route(), ws_route()], limits={"body": "1KiB"}, streams={"line": {}})
    web.fake()
    web.start()
    with web.ws() as client:
        client.send_text(b"{")
        once(web, "that is no JSON")
    with web.stream("line") as client:
        client.sock.sendall(b"x" * 3000)
        said(web, r"listener line: .* that is too large")


def test_a_call_without_an_answer_in_time(site):
    web = site(routes=[rpc_route(timeout="100ms")])
    web.fake(handler=hold).tolerant = True
    web.start()
    assert web.rpc("demo.echo", [1]).status == 504
    assert " warning " in once(web, r"a call has had no answer in time \(-32003, 504\)")


# Clients that are closed

def test_clients_that_are_too_slow(site):
    web = site(limits={"header_timeout": "300ms", "body_timeout": "300ms", "first_byte_timeout": "300ms",
                       "write_buffer": "4KiB"}, routes=[rpc_route(), ws_route(ping="200ms")])
    web.fake(handler=lambda call: call.reply("x" * 10000000))
    web.start()
    with web.client() as client:
        client.send(b"GET /")
        assert client.read_response().status == 408
    once(web, "a client is closed whose request or message does not come on")
    with web.client():
        once(web, "a client is closed from which nothing has come")
    with web.client(rcvbuf=2048) as client:
        for _ in range(5):
            client.send(rpc_request("large"))
        once(web, "a client is closed that does not read what waits for it")
    with web.ws(pong=False):
        once(web, "a client is closed that gives no sign of life")


def test_a_reader_of_pushes_that_is_too_slow(site):
    web = site(limits={"write_buffer": "4KiB"}, streams={"line": {"events": True}})
    worker = web.fake()
    web.start()
    with web.stream("line", rcvbuf=2048):
        worker.wait(lambda: worker.connects, "frontd.connect")
        channel = worker.channel()
        for _ in range(300):
            channel.push(worker.connects[0].conn, b'"' + b"x" * 30000 + b'"')
        channel.sync()
        said(web, "listener line: .*a client is closed that reads too slowly what is pushed to it")


def test_too_many_of_one_peer(site):
    web = site(limits={"connections_per_peer": 1})
    web.fake()
    web.start()
    wait_for(lambda: web.connections() == 0, "the end of the first")
    with web.client() as first:
        assert first.rpc("demo.echo", [1]).status == 200
        with web.client() as second:
            assert second.at_end()
        assert " warning " in said(web, "a connection is closed at once, its peer has limits.connections_per_peer")[0]


# --check

def check(web, **changes):
    return subprocess.run([FRONTD, "--check", "-c", web.write({**web.config, **changes})], capture_output=True,
                          text=True, timeout=60)


def test_check_warns(site):
    web = site(routes=[rpc_route("/rpc/*")])
    pools = [{"name": "app", "workers": ["unix:" + web.path("none/*.sock")], "hash": "peer"},
             {"name": "own", "command": ["/nowhere/program"]},
             {"name": "text", "command": [web.path("frontd.yaml")]}]
    done = check(web, pools=pools)
    assert done.returncode == 0 and done.stdout == ""
    found = {}
    for line in done.stderr.splitlines():
        key, what = re.fullmatch(r"warning: %s:\d+: ([\w.\[\]]+): (.*)" % re.escape(web.path("frontd.yaml")),
                                 line).groups()
        found[key] = what
    assert "stand for themselves" in found.pop("listeners[0].routes[0].path")
    assert "no effect without balance: hash" in found.pop("pools[0].hash")
    assert "No such file" in found.pop("pools[0].workers[0]")
    assert "No such file" in found.pop("pools[1].command[0]")
    assert "Permission denied" in found.pop("pools[2].command[0]")
    assert not found


def test_the_start_warns_and_a_reload_does(site):
    web = site(routes=[rpc_route("/rpc/*"), rpc_route()])
    web.fake()
    web.start()
    once(web, r"warning supervisor\[\d+\]: \S+frontd\.yaml:\d+: listeners\[0\]\.routes\[0\]\.path: '/rpc/\*'")
    web.front.signal(signal.SIGHUP)
    said(web, "generation 2 serves")
    assert len(said(web, r"routes\[0\]\.path: '/rpc/\*'", 2)) == 2


def test_the_example_warns_of_nothing(site, tmp_path):
    """Neither the check nor the start, with no worker there."""
    with open(os.path.join(ROOT, "docs", "example.yaml")) as f:
        text = f.read()
    web = site()
    text = text.replace("/run/frontd", web.path("run")).replace("127.0.0.1:8080", "127.0.0.1:%d" % web.port)
    config = web.write(text)
    done = subprocess.run([FRONTD, "--check", "-c", config], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    web.front = harness.Program([FRONTD, "-c", config], web.path("frontd.log"))
    said(web, "ready: ")
    once(web, "pool app: nobody is at unix:.*app-\\*.sock yet")
    lines = [line for line in web.front.text().splitlines() if re.match(STATED, line)[1] in ("warning", "error")]
    # Of this machine, and of its user: not of the config.
    assert not [line for line in lines if "descriptor limit" not in line and "run as root" not in line]


# journald

@pytest.mark.parametrize("form", ["text", "json"])
def test_priorities_for_the_journal(site, form):
    web = site(log={"level": "info", "format": form}, shards=1, pools={"app": {"wait_for_worker": "50ms"}})
    web.config["pools"].append({"name": "own", "command": ["/bin/sh", "-c", "echo '<0>hello'; exit 3"],
                                "restart_delay": "1h"})
    ours, theirs = socket.socketpair()
    st = os.fstat(theirs.fileno())
    env = {**os.environ, "JOURNAL_STREAM": "%d:%d" % (st.st_dev, st.st_ino)}
    process = subprocess.Popen([FRONTD, "-c", web.write()], stderr=theirs, stdin=subprocess.DEVNULL, env=env,
                               start_new_session=True)
    theirs.close()
    data = bytearray()

    def read():
        while piece := ours.recv(65536):
            data.extend(piece)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    text = lambda: data.decode()
    try:
        wait_for(lambda: "exited with status 3" in text() and "ready: " in text(), "its lines")
        assert web.rpc("demo.echo", [1]).status == 503
        wait_for(lambda: "no worker within" in text(), "a line of the shard")
        process.send_signal(signal.SIGUSR2)
        wait_for(lambda: "the old shards are gone" in text(), "the new program")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(3 * LIMIT) == 0
    thread.join(LIMIT)
    levels = {"error": "<3>", "warning": "<4>", "info": "<6>", "debug": "<7>"}
    seen = set()
    for line in text().splitlines():
        if form == "json":
            level = re.fullmatch(r'(<\d>)\{"time":"[^"]*","level":"(\w+)",.*\}', line)
        else:
            level = re.match(r"(<\d>)\d{4}-[^ ]* (\w+) ", line)
        assert level and levels[level[2]] == level[1], line
        seen.add(level[1])
    assert seen == {"<3>", "<4>", "<6>"}
    assert re.search(r"<6>.*worker own/0 \(pid \d+\): <0>hello", text())
    assert re.search(r"<4>.*shard 1/0.*no worker within", text())


def test_a_config_that_is_wrong_has_a_priority_too(site):
    web = site()
    ours, theirs = socket.socketpair()
    st = os.fstat(theirs.fileno())
    env = {**os.environ, "JOURNAL_STREAM": "%d:%d" % (st.st_dev, st.st_ino)}
    done = subprocess.run([FRONTD, "-c", web.write({**web.config, "shards": 0})], stderr=theirs, env=env, timeout=60)
    assert done.returncode == 1
    assert re.match(rb"<3>\S+frontd\.yaml:\d+: shards: ", ours.recv(65536))
    ours.close()
    theirs.close()


@pytest.mark.parametrize("value", ["", "1:2", "x", "1:", ":1", "99999999999999999999:1"])
def test_no_priorities_elsewhere(site, value):
    os.environ["JOURNAL_STREAM"] = value
    try:
        web = site()
        web.start()
    finally:
        del os.environ["JOURNAL_STREAM"]
    assert "\n<" not in "\n" + web.front.text()
