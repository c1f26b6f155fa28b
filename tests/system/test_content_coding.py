"""Content codings of HTTP, over real processes: bodies of requests that came with gzip."""
import gzip
import json
import subprocess

import pytest

from fakeworker import echo
from h2client import H2Client
from harness import Site, http_route, rpc_route
from httpclient import rpc_body

BODY = 4 << 20
GZIPPED = [("content-encoding", "gzip")]


@pytest.fixture(scope="module")
def web():
    routes = [rpc_route(), http_route("/site"), http_route("/plain", request_encodings=["gzip"])]
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


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_curl_sends_gzip(web, tmp_path, version):
    (tmp_path / "body").write_bytes(gzip.compress(rpc_body("demo.echo", ["curl"])))
    out = subprocess.run(["curl", "-sS", version, "-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json",
                          "--data-binary", "@%s" % (tmp_path / "body"), "http://%s:%d/rpc" % web.address],
                         check=True, capture_output=True, timeout=60).stdout
    assert json.loads(out)["result"] == ["curl"]
