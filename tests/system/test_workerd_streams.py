"""Bodies in parts in workers written in C: through frontd, in both directions."""
import os
import signal
import socket

import pytest

from harness import STARTED, Site, http_route, memory, sanitized, wait_for
from httpclient import BadResponse, Closed
from workerproc import BUILD

MODULE = os.path.join(BUILD, "tests", "modules", "streams.so")
BODY = bytes(i % 251 for i in range(8 << 20))


def site(*env):
    """A front with one such worker. env: NAME=VALUE of its environment."""
    made = Site(shards=1, routes=[{**http_route("/"), "stream_body": "8MiB"}], limits={"body": "64KiB"})
    entry, = made.config["pools"]
    del entry["workers"]
    workerd = os.path.join(BUILD, "workerd", "workerd")
    entry.update(command=["/usr/bin/env", *env, workerd, "--concurrency", "64", "--module", MODULE], instances=1, restart_delay="50ms")
    made.start()
    with made.client() as client:
        wait_for(lambda: client.request("GET", "/bytes/0").status == 200, "the worker")
    return made


@pytest.fixture(scope="module")
def web():
    with site() as made:
        yield made


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def post(client, path, body, length=True):
    lines = [f"POST {path} HTTP/1.1", "Host: h"]
    lines.append(f"Content-Length: {len(body)}" if length else "Transfer-Encoding: chunked")
    client.send("\r\n".join(lines + ["", ""]).encode())
    for at in range(0, len(body), 100000):
        part = body[at:at + 100000]
        client.send(part if length else b"%x\r\n%b\r\n" % (len(part), part))
    if not length:
        client.send(b"0\r\n\r\n")


def came(body):
    total = 0
    for byte in body:
        total = (total * 31 + byte) % (1 << 64)
    return f"{len(body)} {total} ".encode()


def get(client, path):
    client.send(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())


def read_until(client, text):
    while text not in client.buffer:
        assert client._fill(), bytes(client.buffer[-200:])


def ended(client):
    """How many calls were cancelled in the worker."""
    return int(client.request("GET", "/ended").body)


def test_a_download(web, client):
    """Several windows; and one for a client that does not read, which keeps nobody from reading."""
    before = ended(client)
    with web.client(rcvbuf=4096) as slow:
        get(slow, f"/bytes/{1 << 32}")
        read_until(slow, b"\r\n\r\n")
        for n in (0, 1, 262144, len(BODY)):
            answer = client.request("GET", f"/bytes/{n}")
            assert answer.body == BODY[:n] and answer.header("transfer-encoding") == "chunked"
        slow.reset()
    wait_for(lambda: ended(client) == before + 1, "the end in the worker")


@pytest.mark.parametrize("n", [0, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_an_upload(client, n, length):
    """As one part or several; and the connection goes on."""
    for _ in range(2):
        post(client, "/upload", BODY[:n], length)
        answer = client.read_response()
        assert answer.body.startswith(came(BODY[:n]))
        assert (int(answer.body.split()[-1]) > 1) or n < len(BODY) >> 3


def test_both_at_once(client):
    client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(5):
        client.send(b"5\r\npart%d\r\n" % i)
        read_until(client, b"part%d" % i)
    client.send(b"0\r\n\r\n")
    assert client.read_response().body == b"part0part1part2part3part4"


def test_an_early_answer(client):
    post(client, "/early", BODY[:300000])
    answer = client.read_response()
    assert answer.status == 403 and answer.body == b"enough"


def test_a_worker_that_takes_nothing(web, client):
    """It is given no more than its window, and the front holds no more than its part."""
    before = memory(web.shard)
    with web.client() as slow:
        slow.send(b"POST /hold HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        slow.sock.settimeout(0.3)
        with pytest.raises(socket.timeout):
            slow.sock.sendall(BODY)
        assert client.request("GET", "/bytes/3").body == BODY[:3]
        assert memory(web.shard) - before < (4 if not sanitized() else 64) << 20
        gone = ended(client)
        slow.reset()
        wait_for(lambda: ended(client) == gone + 1, "the end in the worker")


@pytest.mark.parametrize("path", ["/fails", "/short/4", "/short/6"])
def test_it_breaks_off(web, path):
    with web.client() as client:
        get(client, path)
        with pytest.raises((BadResponse, Closed, ConnectionError)):
            client.read_response()


@pytest.mark.parametrize("how", ["events", "bytes", "upload"])
def test_a_client_that_goes(web, client, how):
    """The worker is told at once."""
    before = ended(client)
    with web.client() as gone:
        if how == "upload":
            gone.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + BODY[:300000])
        else:
            get(gone, "/events" if how == "events" else f"/bytes/{1 << 32}")
            read_until(gone, b"data: 3\n\n" if how == "events" else b"\r\n\r\n")
    wait_for(lambda: ended(client) == before + 1, "the end in the worker")


def test_events_end_with_the_worker():
    """It stops without waiting for them, and their client gets their end, between two."""
    with site() as web, web.client() as client:
        pid, = [int(pid) for pid in STARTED.findall(web.front.text())]
        get(client, "/events")
        read_until(client, b"data: 3\n\n")
        os.kill(pid, signal.SIGTERM)
        answer = client.read_response()
        assert answer.body.startswith(b"data: 0\n\n") and answer.body.endswith(b"\n\n")


def test_handlers_of_whole_bodies(tmp_path):
    """A body in parts is put together for them."""
    with site("STREAMS_WHOLE=1") as web, web.client() as client:
        post(client, "/", BODY[:1 << 20])
        assert client.read_response().body == b"%d whole" % (1 << 20)
