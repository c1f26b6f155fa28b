"""Answers in parts, of http routes: as they come, of any length, for clients that read slowly, leave, or come back."""
import socket
import struct

import pytest

from harness import Site, http_route, memory, sanitized, wait_for
from httpclient import BadResponse, Closed
from reloads import HUP, USR2
from scrapes import memory_uses
from streamworker import build

@pytest.fixture(scope="module")
def web():
    with Site(shards=1, routes=[{**http_route("/"), "stream_timeout": "1s"}], limits={"body_timeout": "2s"}) as site:
        yield build(site)


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def ended(web):
    """How many endless answers have come to their end in the worker."""
    with web.client() as client:
        return client.request("GET", "/ended").body.count(b"events")


def get(client, path, version="1.1"):
    client.send(b"GET %s HTTP/%s\r\nHost: h\r\n\r\n" % (path.encode(), version.encode()))


def read_until(client, text):
    while text not in client.buffer:
        assert client._fill(), bytes(client.buffer[-200:])


def test_how_it_is_framed(web, client):
    """Chunks, a length, the end of the connection; the connection goes on after the first two."""
    for _ in range(3):
        answer = client.request("GET", "/parts/1000")
        assert answer.body == b"".join(b"%d," % i for i in range(1000))
        assert answer.header("transfer-encoding") == "chunked" and answer.header("x-kind") == "parts"
        answer = client.request("GET", "/bytes/20")
        assert answer.body == b"".join(bytes([i]) * 65536 for i in range(20))
        assert answer.header("content-length") == str(20 * 65536) and answer.header("transfer-encoding") is None
        assert client.request("GET", "/parts/0").body == b""
    assert client.request("HEAD", "/parts/3").status == 200
    assert client.request("GET", "/whole").body == b"whole"
    with web.client() as old:
        get(old, "/parts/3", "1.0")
        head, _, body = old.rest().partition(b"\r\n\r\n")
        assert body == b"0,1,2," and b"connection: close" in head.lower() and b"chunked" not in head.lower()


def test_in_order(client):
    """Behind others, and with others behind it."""
    for path in ("/whole", "/parts/3", "/bytes/30", "/whole", "/parts/2"):
        get(client, path)
    assert [client.read_response().body[:6] for _ in range(5)] == [b"whole", b"0,1,2,", b"\0" * 6, b"whole", b"0,1,"]


@pytest.mark.parametrize("path", ["/fails", "/short/11", "/short/9", "/die", "/hang"])
def test_it_breaks_off(web, path):
    """The client can tell, and others are served on."""
    with web.client() as client:
        get(client, path)
        with pytest.raises((BadResponse, Closed, ConnectionError)):
            client.read_response()
    with web.client() as old:
        get(old, path, "1.0")
        if "short" in path:
            assert b"\r\n\r\n" in old.rest()
        else:
            with pytest.raises(ConnectionResetError):
                while old.sock.recv(1000):
                    pass
    with web.client() as client:
        wait_for(lambda: client.request("GET", "/whole").status == 200, "a worker")


def test_a_slow_client_holds_up_its_own_alone(web, client):
    """A gigabyte for one that reads nothing: no process grows by more than a window, and others are served."""
    with web.client(rcvbuf=4096) as slow:
        before = memory(web.shard)
        get(slow, "/bytes/16384")
        read_until(slow, b"\r\n\r\n")
        for _ in range(50):
            assert client.request("GET", "/parts/10").status == 200
        assert memory(web.shard) - before < (4 if not sanitized() else 64) << 20
        wait_for(lambda: 0 < memory_uses(web)["streams"] <= 512 << 10, "the gauge")
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: memory_uses(web)["streams"] == 0, "its end")
    assert client.request("GET", "/bytes/1000").body == b"".join(bytes([i % 251]) * 65536 for i in range(1000))


@pytest.mark.parametrize("how", ["close", "reset", "shut"])
def test_a_client_that_goes(web, how):
    """The worker's generator ends."""
    before = ended(web)
    with web.client() as client:
        get(client, "/events")
        read_until(client, b"data: 3\n\n")
        if how == "shut":
            client.sock.shutdown(socket.SHUT_WR)
        elif how == "reset":
            client.reset()
        else:
            client.close()
        wait_for(lambda: ended(web) > before, "the end in the worker")


def comes_back(events):
    """On the same connection. An old shard that still has it ends the answer at once, as it did the first."""
    def goes_on():
        get(events, "/events")
        read_until(events, b"\r\n\r\n")
        while b"data: 2\n\n" not in events.buffer and not events.buffer.endswith(b"\r\n0\r\n\r\n"):
            assert events._fill()
        found = b"data: 2\n\n" in events.buffer
        if not found:
            events.buffer.clear()
        return found
    wait_for(goes_on, "events that go on")


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_a_reload(front, number):
    """Events end between two, and the connection goes to the new shards; a download is carried to its end."""
    web = front(shards=1, routes=[http_route("/")], drain="20s")
    build(web)
    with web.client() as events, web.client() as download:
        get(events, "/events")
        read_until(events, b"data: 3\n\n")
        get(download, "/bytes/300")
        read_until(download, b"\r\n\r\n")
        web.say(number)
        answer = events.read_response()
        assert answer.body.startswith(b"data: 0\n\ndata: 1\n\n") and answer.body.endswith(b"\n\n")
        wait_for(lambda: " serves: " in web.log_text(), "the new shards")
        comes_back(events)
        assert download.read_response().body == b"".join(bytes([i % 251]) * 65536 for i in range(300))
        web.wait_log("the old shards are gone")
        assert download.request("GET", "/whole").status == 200


@pytest.mark.parametrize("how", ["half", "drain"])
def test_given_up_where_the_end_is_that_of_the_body(front, how):
    """An answer that the front gives up ends by a reset where the client takes an end for that of the body."""
    web = front(shards=1, routes=[http_route("/")], drain="1s")
    build(web)
    with web.client() as old:
        get(old, "/hang", "1.0")
        if how == "half":
            old.sock.shutdown(socket.SHUT_WR)
        else:
            read_until(old, b"begun")
            web.say(HUP)
        with pytest.raises(ConnectionResetError):
            while old.sock.recv(1000):
                pass
    web.wait_served()
