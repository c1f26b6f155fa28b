"""Content codings of HTTP, over real processes: bodies of requests that came with gzip, and answers that are compressed."""
import gzip
import json
import subprocess
import zlib

import pytest

from fakeworker import echo
from h2client import H2Client
from harness import Site, http_route, rpc_route, wait_for
from httpclient import rpc_body
from reloads import HUP
from streamworker import build

BODY = 4 << 20
GZIPPED = [("content-encoding", "gzip")]


@pytest.fixture(scope="module")
def web():
    routes = [rpc_route(), http_route("/site"), http_route("/plain", request_encodings=["gzip"]),
              http_route("/both", request_encodings=["gzip"], stream_body="64MiB")]
    with Site(routes=routes, limits={"body": str(BODY)}) as site:
        site.config["listeners"][0]["h2c"] = True
        site.fake(handler=echo)
        site.start()
        yield site


def random_text(n):
    """JSON's white space that compresses, but less than a hundredfold; the same each time."""
    state, out = 1, bytearray()
    while len(out) < n:
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out += b" \t\r\n"[state >> 62:][:1] * (1 + (state >> 50) % 40)
    return bytes(out[:n])


def padded(n):
    body = rpc_body("demo.echo", [1])
    return body + random_text(n - len(body))


@pytest.mark.parametrize("size", [100, 70_000, BODY])
def test_bodies_of_calls(web, size):
    body = gzip.compress(padded(size))
    assert len(body) * 100 > size
    with web.client() as client:
        assert client.post(body, headers=GZIPPED).json()["result"] == [1]
        client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Encoding: x-gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 10_000):
            part = body[at:at + 10_000]
            client.send(b"%x\r\n%s\r\n" % (len(part), part))
        client.send(b"0\r\n\r\n")
        assert client.read_response().json()["result"] == [1]
    with H2Client(web.address) as client:
        stream = client.wait(client.open("POST", "/rpc", body, headers=GZIPPED))
        assert json.loads(stream.body)["result"] == [1]


def test_bodies_that_are_refused(web):
    """A connection goes on behind each, and so does the next body."""
    good = gzip.compress(padded(1000))
    rows = [(gzip.compress(padded(BODY + 1)), 413), (gzip.compress(rpc_body("demo.echo", [1]) + b" " * (2 << 20)), 413),
            (good[:-1], 400), (good + b"x", 400), (rpc_body("demo.echo", [1]), 400),
            (good[:-5] + bytes([good[-5] ^ 1]) + good[-4:], 400)]
    with web.client() as client, H2Client(web.address) as h2:
        for number, (body, status) in enumerate(rows):
            r = client.post(body, headers=GZIPPED)
            assert r.status == status, number
            if status == 413:
                assert r.json()["error"]["code"] == -32005
            assert h2.wait(h2.open("POST", "/rpc", body, headers=GZIPPED)).status == status, number
            assert client.post(good, headers=GZIPPED).json()["result"] == [1]
        assert h2.wait(h2.open("POST", "/rpc", good, headers=[("content-encoding", "br")])).headers["accept-encoding"] == "gzip"


def test_bodies_of_http_routes(web):
    """As they came, or inflated where the route says so; then the worker is not told of a coding."""
    body = gzip.compress(b"text" * 1000)
    with web.client() as client:
        assert client.request("PUT", "/site", body, GZIPPED).body == body
        r = client.request("PUT", "/plain", body, GZIPPED)
        assert r.body == b"text" * 1000
        headers = web.workers[0].calls[-1].params["headers"]
        assert ["content-length", "4000"] in headers and "content-encoding" not in dict(headers)
        assert client.request("PUT", "/plain", b"text").body == b"text"
        assert client.request("PUT", "/plain", body, [("content-encoding", "br")]).status == 415
        assert client.request("PUT", "/site", body, [("content-encoding", "br")]).body == body
        client.send(b"PUT /both HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert client.read_response().body == b"text" * 1000, "it is not taken in parts"


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_curl_sends_gzip(web, tmp_path, version):
    (tmp_path / "body").write_bytes(gzip.compress(rpc_body("demo.echo", ["curl"])))
    out = subprocess.run(["curl", "-sS", version, "-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json",
                          "--data-binary", "@%s" % (tmp_path / "body"), "http://%s:%d/rpc" % web.address],
                         check=True, capture_output=True, timeout=60).stdout
    assert json.loads(out)["result"] == ["curl"]


# Answers

PAGE = b"<p>" + bytes(range(32, 127)) * 40 + b"</p>"
VERSIONS = ["--http1.0", "--http1.1", "--http2-prior-knowledge"]


def page(call):
    if call.method == "http.request":
        call.http(200, [("content-type", "text/html; charset=utf-8"), ("etag", '"1"'), ("vary", "cookie")], PAGE)
    else:
        echo(call)


@pytest.fixture(scope="module")
def pages():
    routes = [http_route("/", compress={}), http_route("/own", compress={"credentials": "true"}), rpc_route(compress={}),
              http_route("/off")]
    with Site(routes=routes) as site:
        site.config["listeners"][0]["h2c"] = True
        site.fake(handler=page)
        site.start()
        yield site


def curl(address, path, *options):
    """What curl makes of an answer: its header fields, in lower case, and its body."""
    out = subprocess.run(["curl", "-sS", "-D", "-", *options, "http://%s:%d%s" % (*address, path)], check=True,
                         capture_output=True, timeout=60).stdout
    head, _, body = out.partition(b"\r\n\r\n")
    lines = [line.decode().lower().partition(": ") for line in head.split(b"\r\n")[1:]]
    return {name: value for name, _, value in lines}, body


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_takes_compressed(pages, version):
    """As curl asks by itself (deflate, gzip, br), with one coding alone, and without."""
    head, body = curl(pages.address, "/", version, "--compressed")
    assert head["content-encoding"] == "br" and body == PAGE and head["etag"] == 'w/"1"'
    assert head["vary"] == "cookie, accept-encoding" and int(head["content-length"]) < len(PAGE) / 10
    head, body = curl(pages.address, "/", version, "-H", "Accept-Encoding: gzip;q=0.5, br;q=0")
    assert head["content-encoding"] == "gzip" and gzip.decompress(body) == PAGE
    head, body = curl(pages.address, "/", version)
    assert "content-encoding" not in head and body == PAGE and head["etag"] == '"1"'
    assert head["vary"] == "cookie, accept-encoding"
    head, body = curl(pages.address, "/off", version, "--compressed")
    assert "content-encoding" not in head and body == PAGE and head["vary"] == "cookie"
    get, _ = curl(pages.address, "/", version, "--compressed")
    head, body = curl(pages.address, "/", version, "--compressed", "-I", "-o", "/dev/null")
    assert not body and {**head, "date": ""} == {**get, "date": ""}


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_with_credentials(pages, version):
    """BREACH: what comes with cookies is compressed where the route says so, and else not."""
    for field in ("Cookie: a=b", "Authorization: Basic eDp5"):
        head, body = curl(pages.address, "/", version, "--compressed", "-H", field)
        assert "content-encoding" not in head and body == PAGE and "accept-encoding" in head["vary"]
        head, body = curl(pages.address, "/own", version, "--compressed", "-H", field)
        assert head["content-encoding"] == "br" and body == PAGE


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_of_calls(pages, version):
    body = rpc_body("demo.echo", ["x" * 3000])
    head, answer = curl(pages.address, "/rpc", version, "--compressed", "--data-binary", body)
    assert head["content-encoding"] == "br" and json.loads(answer)["result"] == ["x" * 3000]
    batch = b"[" + b",".join([rpc_body("demo.echo", [n]) for n in range(100)]) + b"]"
    head, answer = curl(pages.address, "/rpc", version, "-H", "Accept-Encoding: gzip", "--data-binary", batch)
    assert head["content-encoding"] == "gzip" and len(json.loads(gzip.decompress(answer))) == 100
    head, _ = curl(pages.address, "/rpc", version, "--compressed", "--data-binary", rpc_body("demo.echo", ["x"]))
    assert "content-encoding" not in head and "vary" not in head


def test_answers_that_come_together(pages):
    """Pipelined, and on many streams: one state serves all of them."""
    request = b"GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n\r\n"
    codings = [b"gzip", b"br", b"identity", b"gzip", b"gzip"] * 10
    with pages.client() as client:
        client.send(b"".join(request % coding for coding in codings))
        for coding in codings:
            r = client.read_response()
            assert r.header("content-encoding") == (None if coding == b"identity" else coding.decode())
            assert coding != b"gzip" or gzip.decompress(r.body) == PAGE
    with H2Client(pages.address) as client:
        streams = [client.open("GET", "/", headers=[("accept-encoding", "gzip")]) for _ in range(50)]
        assert all(gzip.decompress(client.wait(number).body) == PAGE for number in streams)


def text(n):
    return b"".join(b"%d lines of a text, " % i * 1000 for i in range(n))


@pytest.fixture(scope="module")
def streams():
    with Site(shards=1, routes=[http_route("/", compress={})]) as site:
        site.config["listeners"][0]["h2c"] = True
        yield build(site)


@pytest.mark.parametrize("version", VERSIONS)
def test_parts(streams, version):
    """Of any length, far beyond the window of the call; with gzip, whatever else the client takes."""
    for n in (0, 1, 300):
        head, body = curl(streams.address, "/text/%d" % n, version, "--compressed")
        assert head["content-encoding"] == "gzip" and body == text(n) and "content-length" not in head
        assert head["vary"] == "accept-encoding"
    head, body = curl(streams.address, "/text/300", version, "-H", "Accept-Encoding: gzip")
    assert len(body) < len(text(300)) / 50 and gzip.decompress(body) == text(300)
    head, body = curl(streams.address, "/text/3", version)
    assert "content-encoding" not in head and body == text(3)
    head, body = curl(streams.address, "/bytes/10", version, "--compressed")
    assert "content-encoding" not in head and head["content-length"] == "655360", "no type"


@pytest.mark.parametrize("version", VERSIONS)
def test_parts_that_break_off(streams, version):
    """A client can tell by what frames them, and by gzip's own end."""
    done = subprocess.run(["curl", "-sS", version, "--compressed", "http://%s:%d/cut" % streams.address], check=False,
                          capture_output=True, timeout=60)
    assert done.returncode != 0, done


class Events:
    """Server-Sent Events that are read as they come."""

    def __init__(self, client):
        self.client = client
        client.send(b"GET /events HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
        self.inflate, self.text, self.head = zlib.decompressobj(31), b"", b""
        while b"\r\n\r\n" not in client.buffer:
            assert client._fill()
        self.head, _, rest = bytes(client.buffer).partition(b"\r\n\r\n")
        client.buffer[:] = rest

    def read(self):
        """One chunk, inflated; False: it was the last one."""
        client = self.client
        while b"\r\n" not in client.buffer:
            assert client._fill()
        n = int(bytes(client.buffer).partition(b"\r\n")[0], 16)
        size = len(b"%x" % n) + 4 + n
        while len(client.buffer) < size:
            assert client._fill()
        self.text += self.inflate.decompress(bytes(client.buffer[size - 2 - n:size - 2]))
        del client.buffer[:size]
        return n > 0


def test_events_over_a_reload(front):
    """Each can be read when it has come; at a reload the body ends between two, gzip's end included."""
    web = front(shards=1, routes=[http_route("/", compress={})], drain="20s")
    build(web)
    with web.client() as client:
        events = Events(client)
        assert b"content-encoding: gzip" in events.head.lower()
        for n in range(5):
            while b"data: %d\n\n" % n not in events.text:
                assert events.read()
        web.say(HUP)
        while events.read():
            pass
        assert events.text.endswith(b"\n\n") and events.inflate.eof
        wait_for(lambda: client.request("GET", "/whole").body == b"whole", "the new shards")
