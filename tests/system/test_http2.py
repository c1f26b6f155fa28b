"""HTTP/2 with prior knowledge, over real processes: requests, bodies, limits, reloads, other programs."""
import json
import subprocess

import pytest

import certs
from fakeworker import hold
from h2client import Ended, H2Client, frame
from harness import Site, free_port, http_route, rpc_route, wait_for

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NO_ERROR, PROTOCOL_ERROR, CANCEL, CALM = 0, 1, 8, 11
BODY = 100 * 1024       # limits.body


def answer(call):
    params = call.params
    path = params.get("path") if isinstance(params, dict) else None
    if path == "/hold":
        return
    if path == "/echo":
        call.http(200, [("content-type", "application/octet-stream")], call.blob)
    elif path and path.startswith("/big/"):
        call.http(200, [], b"x" * int(path[5:]))
    elif path:
        call.http(200, [("X-Odd", "a b")], json.dumps(params).encode())
    elif call.id is not None:
        call.reply(params)


def make(**keys):
    site = Site(**{"shards": 1, **keys})
    site.config["listeners"][0]["h2c"] = True
    return site


def with_tls(site):
    """Adds a listener `tls` with the routes of the first one."""
    site.ports["tls"] = free_port()
    site.config["listeners"].append({
        "name": "tls", "address": "127.0.0.1:%d" % site.ports["tls"], "routes": site.config["listeners"][0]["routes"],
        "tls": {"certificates": [certs.pair(certs.make(site.dir))]}})
    return site


@pytest.fixture(scope="module")
def web():
    with with_tls(make(limits={"body": BODY, "streams": 50})) as site:
        site.fake(handler=answer)
        site.start()
        yield site


@pytest.fixture
def client(web):
    with H2Client(web.address) as client:
        yield client


def test_a_request(client):
    got = client.get("/some/path?q=1", headers=[("x-mine", "1"), ("cookie", "a=1"), ("cookie", "b=2")])
    assert got.status == 200 and got.headers["server"] == "frontd" and got.headers["x-odd"] == "a b"
    asked = json.loads(got.body)
    assert (asked["method"], asked["path"], asked["query"]) == ("GET", "/some/path", "q=1")
    assert asked["authority"] == client.authority
    assert asked["headers"] == [["host", client.authority], ["x-mine", "1"], ["cookie", "a=1; b=2"]]


def test_calls_on_one_connection_end_in_any_order(client, web):
    worker = web.workers[0]
    held = client.open("GET", "/hold")
    for n in range(20):
        got = client.wait(client.rpc("m", [n], id=n))
        assert got.status == 200 and json.loads(got.body) == {"jsonrpc": "2.0", "id": n, "result": [n]}
    assert not client.streams[held].ended
    worker.wait(lambda: any(c.params.get("path") == "/hold" for c in list(worker.calls) if isinstance(c.params, dict)))


def test_http1_goes_on_beside_it(web):
    with web.client() as client:
        assert client.request("GET", "/x").status == 200
        assert client.request("PRI", "*").status == 400     # no preface behind a request


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, BODY])
def test_bodies_come_and_go(client, size):
    body = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
    number = client.open("POST", "/echo", body)
    got = client.wait(number)
    assert got.status == 200 and got.body == body and got.headers["content-length"] == str(size)


def test_many_bodies_at_once(client):
    numbers = [client.open("POST", "/echo", end=False) for _ in range(40)]
    for part in range(3):
        for number in numbers:
            client.data(number, b"%d-%d " % (number, part), end=part == 2)
    for number in numbers:
        assert client.wait(number).body == b"%d-0 %d-1 %d-2 " % (number, number, number)


def test_a_body_over_the_limit(client):
    """By its length at once, or when it is too long; the stream ends, and the connection goes on."""
    number = client.open("POST", "/echo", headers=[("content-length", str(BODY + 1))], end=False)
    got = client.wait(number)
    assert got.status == 413
    number = client.open("POST", "/echo", end=False)
    client.data(number, b"x" * BODY, end=False)
    client.data(number, b"y", end=False)
    assert client.wait(number).status == 413
    client.until(lambda: client.streams[number].reset is not None)
    assert client.streams[number].reset == NO_ERROR
    assert client.get("/x").status == 200


def test_continue_is_sent(client):
    number = client.open("POST", "/echo", headers=[("expect", "100-continue")], end=False)
    client.until(lambda: client.streams[number].informed == [100])
    client.data(number, b"body")
    assert client.wait(number).body == b"body"


@pytest.mark.parametrize("path,headers,status", [
    ("/x", [("x-a", "v" * 9000), ("x-b", "v" * 9000)], 431), ("/x", [("n%d" % n, "v") for n in range(101)], 431),
    ("/x", [("expect", "more")], 417)])
def test_refused_heads(client, path, headers, status):
    assert client.get(path, headers=headers).status == status
    assert client.get("/x").status == 200


def test_malformed_requests_end_their_stream_alone(client):
    for headers in [("Upper", "x")], [("connection", "close")], [(":late", "x")], [("te", "gzip")]:
        got = client.get("/x", headers=headers)
        assert got.status is None and got.reset == PROTOCOL_ERROR
    assert client.get("/x").status == 200


def test_large_answers_share_the_connection(web):
    """Each stream sends by turns, within the client's windows."""
    with H2Client(web.address) as client:
        numbers = [client.open("GET", "/big/300000") for _ in range(4)]
        client.until(lambda: min(len(client.streams[n].body) for n in numbers) > 50000)
        assert not any(client.streams[n].ended for n in numbers[1:])
        for n in numbers:
            assert client.wait(n).body == b"x" * 300000


def test_a_window_that_is_not_opened_stops_one_stream(web):
    with H2Client(web.address, window=False) as client:
        number = client.open("GET", "/big/100000")
        client.until(lambda: len(client.streams[number].body) == 65535)
        client.conn.increment_flow_control_window(1)                      # the connection's
        client.conn.increment_flow_control_window(40000, number)
        client.flush()
        client.until(lambda: len(client.streams[number].body) == 65536)
        client.conn.increment_flow_control_window(100000)
        client.flush()
        assert client.wait(number).body == b"x" * 100000


def test_a_reset_call_keeps_its_worker_busy():
    with make(routes=[rpc_route(timeout="500ms")]) as site:
        worker = site.fake(handler=hold, concurrency=1)
        site.start()
        with H2Client(site.address) as client:
            number = client.rpc("m")
            worker.wait_calls(1)
            client.conn.reset_stream(number, CANCEL)
            client.flush()
            second = client.rpc("m", id=2)
            got = client.wait(second)
            assert got.status == 504    # no slot became free
            assert len(worker.calls) == 1


def test_rapid_resets_end_the_connection(web):
    with H2Client(web.address) as client:
        with pytest.raises((Ended, OSError)):
            for _ in range(400):
                number = client.open("GET", "/hold")
                client.conn.reset_stream(number, CANCEL)
            client.flush()
            while True:
                client.read()
        assert client.goaways and client.goaways[-1][1] == CALM
    assert "too many streams are reset" in web.front.text()


def test_resets_that_the_client_provokes_count_too(web):
    with H2Client(web.address, raw=True) as client:
        with pytest.raises((Ended, OSError)):
            for number in range(1, 601, 2):
                client.send(frame(HEADERS, 5, number, b"\x82\x86\x84\x01\x01h") +
                            frame(WINDOW, 0, number, b"\0\0\0\0"))
            while True:
                client.read()
        assert client.goaways and client.goaways[-1][1] == CALM


@pytest.mark.parametrize("what", ["continuation", "ping", "settings", "empty"])
def test_floods_end_the_connection(web, what):
    with H2Client(web.address) as client:
        client.read()
        if what == "continuation":
            data = frame(HEADERS, 1, 1, b"\x82") + frame(CONTINUATION, 0, 1) * 9
        elif what == "ping":
            data = frame(PING, 0, 0, b"12345678") * 1100
        elif what == "settings":
            data = frame(SETTINGS, 0, 0) * 1100
        else:
            number = client.open("POST", "/echo", end=False)
            data = frame(DATA, 0, number) * 11
        try:
            client.send(data)
        except OSError:
            pass
        assert client.ended() == CALM


def test_drain_tells_twice():
    """A client that may have streams under way is told first that it is to leave, and then what was served."""
    with make(drain="10s") as site:
        worker = site.fake(handler=hold)
        site.start()
        with H2Client(site.address) as client:
            first = client.rpc("m")
            worker.wait_calls(1)
            site.front.signal(15)
            client.until(lambda: client.goaways == [(2 ** 31 - 1, NO_ERROR)])
            client.until(lambda: len(client.goaways) == 2)
            assert client.goaways[1] == (first, NO_ERROR)
            worker.calls[0].reply(7)
            assert json.loads(client.wait(first).body)["result"] == 7
            assert client.ended() == NO_ERROR


@pytest.mark.parametrize("tls", [False, True])
def test_a_reload_keeps_connections(tls):
    """Idle ones, one in the middle of a frame, one that learned of fields, one whose body is to come, one whose
    answer waits for its window; one with a call follows when that has ended."""
    with with_tls(make(shards=2)) as site:
        held = []

        def handler(call):
            if isinstance(call.params, dict) and call.params.get("path") == "/hold":
                held.append(call)
            else:
                answer(call)

        site.fake(handler=handler)
        site.start()
        address = ("127.0.0.1", site.ports["tls" if tls else "web"])
        clients = [H2Client(address, window=n != 3, tls=tls) for n in range(12)]
        before = site.shards()
        for client in clients:
            assert client.get("/x", headers=[("x-learned", "v" * 50)]).status == 200
        body = clients[1].open("POST", "/echo", end=False)
        clients[1].data(body, b"first ", end=False)
        block = clients[2].conn.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/y"),
                                                (":authority", "h"), ("x-learned", "v" * 50)])
        cut = frame(HEADERS, 5, 3, block)
        clients[2].send(cut[:11])
        waits = clients[3].open("GET", "/big/100000")
        clients[3].until(lambda: len(clients[3].streams[waits].body) >= 60000)
        busy = clients[4].open("GET", "/hold")
        wait_for(lambda: held, "the call")
        site.front.signal(1)
        wait_for(lambda: "generation 2 serves" in site.front.text(), "the reload")
        late = clients[4].open("GET", "/late")
        held[0].http(200, [], b"held")
        assert clients[4].wait(busy).body == b"held"
        assert clients[4].wait(late).status == 200
        wait_for(lambda: not set(before) & set(site.shards()), "the end of the old shards")
        clients[1].data(body, b"second")
        assert clients[1].wait(body).body == b"first second"
        clients[2].send(cut[11:])
        while not clients[2].sock.recv(9):
            pass
        clients[3].conn.increment_flow_control_window(100000)
        clients[3].conn.increment_flow_control_window(100000, waits)
        clients[3].flush()
        assert clients[3].wait(waits).body == b"x" * 100000
        for client in clients[5:]:
            got = client.get("/x", headers=[("x-learned", "v" * 50)])
            assert ["x-learned", "v" * 50] in json.loads(got.body)["headers"]
        assert not any(client.goaways for client in clients)
        for client in clients:
            client.close()


def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_curl(web):
    url = "http://127.0.0.1:%d" % web.port
    out = run("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-d", "@/bin/true",
              "-o", "/dev/null", url + "/echo")
    assert out == "2 200"


def test_nghttp(web):
    out = run("nghttp", "-nv", "http://127.0.0.1:%d/a" % web.port, "http://127.0.0.1:%d/big/200000" % web.port)
    assert out.count(":status: 200") == 2


def test_h2load(web):
    out = run("h2load", "-n", "2000", "-c", "10", "-m", "20", "http://127.0.0.1:%d/a" % web.port)
    assert "2000 succeeded, 0 failed, 0 errored" in out
