"""What is said of single requests: the slow log, workers and pools that are stuck, ids, the access log, traces."""
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from fakeworker import echo
from h2client import H2Client
from harness import FRONTD, children, command_line, http_route, rpc_route, wait_for, ws_route

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SLOW_MS = 200


def said(web, pattern, count=1):
    """The lines of the log with that pattern, once there are so many."""
    found = lambda: [line for line in web.front.text().splitlines() if re.search(pattern, line)]
    wait_for(lambda: len(found()) >= count, "%d times %r in the log" % (count, pattern))
    return found()


def handler(call):
    """Methods that begin with `slow` take longer than the slow log allows; `never` is not answered."""
    if call.method.startswith("slow"):
        time.sleep(SLOW_MS * 1.5 / 1000)
    if call.method == "http.request":
        call.http(200, [["x-request-id", "of-the-worker"], ["x-other", "kept"]], b"hello")
    elif call.method == "fails":
        call.error(-5)
    elif call.method != "never":
        echo(call)


def the_admin(web):
    """The process id of the only admin process."""
    found = lambda: [pid for pid in children(web.front.pid) if "--admin" in command_line(pid)]
    return wait_for(lambda: found() if len(found()) == 1 else None, "one admin process")[0]


def lines(path):
    try:
        with open(path) as f:
            return [json.loads(line) for line in f.read().splitlines()]
    except FileNotFoundError:
        return []


@pytest.fixture
def web(site):
    web = site(shards=1, routes=[
        rpc_route(slow_log="%dms" % SLOW_MS, timeout="1s"), ws_route(slow_log="off"),
        http_route("/http", meta=["peer"], slow_log="1h")],
        streams={"line": {}}, request_id="X-Request-ID",
        tracing={"endpoint": "http://127.0.0.1:9", "ratio": 0})
    web.config["listeners"][0]["h2c"] = True
    web.log = web.path("access.log")
    web.config["access_log"] = {"path": web.log}
    web.worker = web.fake(handler=handler)
    return web.start()


def test_a_slow_method_is_named(web):
    with web.client() as client:
        for _ in range(2):
            client.rpc("slow.one")      # the second is counted, for a line ten seconds later: test_slow_log.c
        client.rpc("demo.echo")
        client.rpc("never")
        client.rpc("slow.\n\"two\"", headers=[("traceparent", PARENT), ("x-request-id", "r-7")])
    line, = said(web, "slow: `slow.one`")
    m = re.search(r"warning shard 1/0\[\d+\]: pool app: slow: `slow\.one` took (\d+\.\d+) s \(queue 0\.\d+, worker "
                  r"(\d+\.\d+), client does not read for 0\.000\): ok; worker unix:(\S+), listener web, route /rpc, "
                  r"conn \d+, peer 127\.0\.0\.1:\d+, request [0-9a-f]{32}, trace [0-9a-f]{32}$", line)
    assert m, line
    assert float(m[1]) >= float(m[2]) >= SLOW_MS / 1000 and m[3] == web.worker.address
    assert " -32003; worker unix:" in said(web, "slow: `never` took [01]")[0]
    assert "request r-7, trace 0af7651916cd43dd8448eb211c80319c" in said(web, r"slow: `slow\.\\x0a\"two\"` took")[0]
    assert "demo.echo" not in web.front.text()


def test_ids_and_traces_go_with_a_request(web):
    with web.client() as client:
        made = client.rpc("demo.echo")
        given = client.rpc("demo.echo", headers=[("X-REQUEST-ID", "abc-1"), ("traceparent", PARENT),
                                                 ("tracestate", "a=1")])
        odd = client.rpc("demo.echo", headers=[("x-request-id", "a b"), ("traceparent", "01-" + PARENT)])
        refused = client.request("GET", "/nothing", headers=[("x-request-id", "none")])
        proxied = client.request("GET", "/http/a?b=c", headers=[("x-request-id", "n" * 128), ("user-agent", "\"t\"")])
    calls = web.worker.calls
    assert re.fullmatch("[0-9a-f]{32}", made.header("x-request-id"))
    assert calls[0].meta["request_id"] == made.header("x-request-id")
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", calls[0].meta["traceparent"])
    assert given.header("x-request-id") == calls[1].meta["request_id"] == "abc-1"
    assert calls[1].meta["tracestate"] == "a=1"
    trace, span = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-01", calls[1].meta["traceparent"]).groups()
    assert trace == PARENT[3:35] and span != PARENT[36:52]
    assert odd.header("x-request-id") == calls[2].meta["request_id"] != "a b"
    assert calls[2].meta["traceparent"][3:35] not in PARENT
    assert refused.status == 404 and refused.header("x-request-id") == "none"
    assert proxied.all("x-request-id") == ["n" * 128] and proxied.header("x-other") == "kept"
    assert calls[3].meta["request_id"] == "n" * 128 and calls[3].meta["peer"].startswith("127.0.0.1:")
    with H2Client(web.address) as client:
        assert dict(client.get("/nothing", headers=[("x-request-id", "h2")]).headers)["x-request-id"] == "h2"
    with web.ws(headers=[("x-request-id", "of-the-handshake")]) as ws:
        assert ws.response.header("x-request-id") == "of-the-handshake"
        for _ in range(2):
            ws.call("demo.echo")
    ids = {call.meta["request_id"] for call in calls[4:]}
    assert len(ids) == 2 and "of-the-handshake" not in ids
    assert len({call.meta["traceparent"] for call in calls}) == len(calls)
    wanted = ids | {made.header("x-request-id"), "abc-1", "none", "n" * 128, "h2", "of-the-handshake"}
    logged = lambda: {line["request_id"]: line for line in lines(web.log)}
    wait_for(lambda: wanted <= set(logged()), "a line of each")
    by_id = logged()
    line = by_id["abc-1"]
    assert line["trace_id"] == trace and line["rpc_method"] == "demo.echo" and line["status"] == 200
    assert line["outcome"] == "ok" and line["route"] == "/rpc" and line["calls"] == 1 and line["method"] == "POST"
    assert line["duration_ms"] >= line["worker_ms"] >= 0 and line["peer"].startswith("127.0.0.1:")
    assert line["worker"] == "unix:" + web.worker.address and line["protocol"] == "http/1.1"
    assert by_id["none"]["status"] == 404 and "route" not in by_id["none"] and by_id["none"]["calls"] == 0
    assert by_id["n" * 128]["path"] == "/http/a?b=c" and by_id["n" * 128]["user_agent"] == "\"t\""
    assert by_id["h2"]["protocol"] == "http/2"
    assert by_id["of-the-handshake"]["status"] == 101 and by_id["of-the-handshake"]["method"] == "GET"
    assert {by_id[id]["protocol"] for id in ids} == {"websocket"}


def test_the_access_log_follows_its_file(web):
    def call(path, method="demo.echo"):
        of_method = lambda: [line for line in lines(path) if line.get("rpc_method") == method]
        n = len(of_method())
        web.rpc(method)
        return wait_for(lambda: of_method()[n:], "a line of " + method)[0]
    assert call(web.log, "fails")["outcome"] == "app"
    assert os.stat(web.log).st_mode & 0o777 == 0o640
    killed = web.shard
    os.kill(killed, signal.SIGKILL)         # the next one is given the file, too
    wait_for(lambda: web.shards() not in ([], [killed]), "another shard")
    web.wait_served()
    assert call(web.log, "demo.echo")["outcome"] == "ok"
    os.rename(web.log, web.log + ".1")
    call(web.log + ".1")                    # until it is told to, it writes to the file that it has
    web.front.signal(signal.SIGUSR1)
    said(web, "access log: %s is opened anew" % web.log)
    wait_for(lambda: os.path.exists(web.log), "the new file")
    wait_for(lambda: web.rpc("demo.echo").status == 200 and lines(web.log), "lines in the new file")
    before = len(lines(web.log + ".1"))
    os.unlink(web.log)
    os.symlink("/nowhere", web.log)
    web.front.signal(signal.SIGUSR1)
    said(web, "access_log.path: .*a symbolic link is not followed; the file before stays in use")
    os.unlink(web.log)
    web.config["access_log"] = {"path": web.log, "format": "${rpc_method} ${outcome} ${nothing}"}
    web.write()
    web.front.signal(signal.SIGHUP)
    said(web, "access_log.format: .*there is no such field")
    os.mkfifo(web.log, 0o600)
    web.config["access_log"] = {"path": web.log, "format": "${rpc_method} ${outcome} " + "x" * 900}
    web.write()
    web.front.signal(signal.SIGHUP)
    said(web, "the old shards are gone")
    with web.client() as client:            # a pipe takes 64 KiB, and the shard keeps as much
        for _ in range(200):
            assert client.rpc("demo.echo").status == 200
    said(web, "lines of the access log are lost")
    fd = os.open(web.log, os.O_RDONLY | os.O_NONBLOCK)
    text = b""
    while b"fails" not in text:             # lines are whole, and come again
        web.rpc("fails")
        try:
            text += os.read(fd, 1 << 20)
        except BlockingIOError:
            pass
    os.close(fd)
    assert {line[:13] for line in text.splitlines()} <= {b"demo.echo ok ", b"fails app xxx"}
    assert len(lines(web.log + ".1")) == before


@pytest.mark.parametrize("what, words", [("folder", "others can write to it"), ("file", "others can write to it")])
def test_a_file_that_others_could_write_is_refused(site, what, words):
    web = site()
    os.mkdir(web.path("logs"), 0o700)
    open(web.path("logs/a"), "w").close()
    os.chmod(web.path("logs" if what == "folder" else "logs/a"), 0o777)
    web.config["access_log"] = {"path": web.path("logs/a")}
    tried = subprocess.run([FRONTD, "--check", "--bind", "-c", web.write()], stderr=subprocess.PIPE, text=True)
    assert tried.returncode == 1 and re.search(r"access_log\.path: .*" + words, tried.stderr), tried.stderr
    web.start(ready=False)
    wait_for(lambda: not web.front.running(), "its end")
    assert re.search(r"frontd\.yaml:\d+: access_log\.path: .*" + words, web.front.text())
    web.front = None


def test_what_is_stuck_is_named_once_and_when_it_is_over(site):
    web = site(shards=2, routes=[rpc_route(timeout="500ms")], pools={"app": {"worker_timeout": "1m"}, "few": {}})
    web.config["listeners"][0]["routes"].append(rpc_route("/few", pool="few", timeout="1m"))
    worker = web.workerd(concurrency=64)
    few = web.fake("few-1", handler=lambda call: None, concurrency=1)
    web.start()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "an answer")
    clients = [web.client() for _ in range(12)]
    os.kill(worker.pid, signal.SIGSTOP)
    for client in clients[:8]:
        client.send(b"POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 47\r\n\r\n"
                    b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}  ')
    for client in clients[8:]:
        client.send(b"POST /few HTTP/1.1\r\nHost: h\r\nContent-Length: 47\r\n\r\n"
                    b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}  ')
    assert said(web, r"pool app: worker unix:\S+ does not read: \d+ bytes wait for it, with \d+ calls, and it has "
                     r"taken none for \d")
    assert said(web, r"pool app: worker unix:\S+ holds calls past their deadline: \d+ of \d+")
    assert said(web, r"pool few: calls wait for a worker: 3 of at most 10000, the oldest for [\d.]+ s; 1 workers are")
    os.kill(worker.pid, signal.SIGCONT)
    few.handler = echo
    for call in few.calls:
        echo(call)
    said(web, "pool few: calls do not wait any more: that they did is over after")
    said(web, r"worker unix:\S+ holds no calls past their deadline: that it did is over after \d")
    said(web, r"worker unix:\S+ reads again: that it did not is over after \d")
    for words in ("does not read: ", "holds calls past", "calls wait for a worker: ", "reads again", "holds no calls",
                  "do not wait any more"):
        assert len(said(web, words)) == 1, words
    for client in clients:
        client.close()


class Collector:
    """A collector of spans: what it was sent is in `spans`; `status` is what it answers, None: nothing."""

    def __init__(self):
        self.spans, self.requests, self.status = [], [], 200
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                collector.requests.append((self.path, self.headers["content-type"]))
                status = collector.status
                if status == 200:
                    for resource in body["resourceSpans"]:
                        collector.spans += resource["scopeSpans"][0]["spans"]
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count):
        wait_for(lambda: len(self.spans) >= count, "%d spans" % count)
        return self.spans

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def attributes(span):
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_calls_become_spans(site):
    collector = Collector()
    web = site(shards=2, routes=[rpc_route(timeout="300ms"), ws_route()], slow_log="off",
               tracing={"endpoint": collector.endpoint, "ratio": 1}, request_id="x-request-id",
               access_log={"path": "stderr"})
    worker = web.fake(handler=handler)
    web.start()
    with web.client() as client:
        client.rpc("one", headers=[("traceparent", PARENT), ("x-request-id", "r-1")], id="a")
        client.rpc("two", headers=[("traceparent", PARENT[:-1] + "0")])     # its caller does not record it
        client.rpc("fails")
        client.rpc("never")
        client.post(b'[{"jsonrpc":"2.0","id":1,"method":"b1"},{"jsonrpc":"2.0","id":2,"method":"b2"}]')
    with web.ws() as ws:
        ws.call("message")
        ws.call("message")
    spans = {}
    for span in collector.wait(7):
        spans.setdefault(span["name"], []).append(span)
    assert {name: len(all) for name, all in spans.items()} == {
        "one": 1, "fails": 1, "never": 1, "b1": 1, "b2": 1, "message": 2}
    one, = spans["one"]
    call = next(call for call in worker.calls if call.method == "one")
    assert one["traceId"] == PARENT[3:35] and one["parentSpanId"] == PARENT[36:52] and one["kind"] == 2
    assert call.meta["traceparent"] == "00-%s-%s-01" % (one["traceId"], one["spanId"])
    assert abs(int(one["startTimeUnixNano"]) / 1e9 - time.time()) < 60
    assert int(one["endTimeUnixNano"]) >= int(one["startTimeUnixNano"]) and one["status"] == {}
    has = attributes(one)
    assert has["rpc.system.name"] == "jsonrpc" and has["rpc.method"] == "one" and has["frontd.request_id"] == "r-1"
    assert has["jsonrpc.request.id"] == "a" and has["http.response.status_code"] == "200"
    assert has["frontd.worker"] == "unix:" + worker.address and has["http.route"] == "/rpc"
    assert attributes(spans["fails"][0])["rpc.response.status_code"] == "-5" == attributes(spans["fails"][0])["error.type"]
    assert attributes(spans["never"][0])["rpc.response.status_code"] == "-32003"
    assert spans["never"][0]["status"] == {"code": 2} and "parentSpanId" not in spans["never"][0]
    assert spans["b1"][0]["traceId"] == spans["b2"][0]["traceId"] and spans["b1"][0]["spanId"] != spans["b2"][0]["spanId"]
    line, = [json.loads(line) for line in web.front.text().splitlines() if '"request_id":"r-1"' in line]
    assert line["trace_id"] == one["traceId"] and line["rpc_method"] == "one"
    by_method = {call.method: call.meta["traceparent"] for call in worker.calls}
    for name in ("b1", "b2"):
        assert by_method[name] == "00-%s-%s-03" % (spans[name][0]["traceId"], spans[name][0]["spanId"])
    assert by_method["two"].endswith("-00") and by_method["two"].startswith(PARENT[:36])
    assert spans["message"][0]["traceId"] != spans["message"][1]["traceId"]
    assert set(collector.requests) == {("/v1/traces", "application/json")}
    # A collector that is gone costs nobody anything, and what was recorded meanwhile comes later.
    collector.status = 503
    assert web.rpc("meanwhile").status == 200
    n = len(collector.requests)
    wait_for(lambda: len(collector.requests) > n, "a request that is refused")
    os.kill(the_admin(web), signal.SIGKILL)     # spans that it had are lost; others wait for the next one
    said(web, "the admin process .* was ended by signal 9; starting it again")
    collector.status = 200
    wait_for(lambda: web.rpc("later").status == 200 and any(span["name"] == "later" for span in collector.spans),
             "spans from the next one")
    web.stop()
    collector.close()
