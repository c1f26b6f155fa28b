"""Any one allocation fails in a shard that has bodies and answers in parts, what is compressed, tokens and policies: see
test_allocations.py, and FRONTD_ALLOCATIONS=all there."""
import contextlib
import gzip
import os
import subprocess
import zlib

import pytest

from allocations import LIBRARY
from faulty_worker import FAULTS
from h2client import Ended, H2Client
from harness import http_route, rpc_route, wait_for, ws_route
from httpclient import request, rpc_body
from test_allocations import GONE, each, tried     # noqa: F401: a fixture
from test_faults_under_load import PYTHON, SCRIPT
from wsclient import TEXT, upgrade, ws_frame

pytestmark = pytest.mark.skipif(not os.path.exists(LIBRARY), reason="ASan has an allocator of its own")
jwt = pytest.importorskip("jwt", reason="Debian's python3-jwt is not installed")
from test_auth_jwt import AUDIENCE, ISSUER, KEYS, OTHER, bearer, token, write_keys  # noqa: E402

WRONG = bearer(token(key=OTHER))
TIMES = 20000           # of a tag in a body, of 4 bytes
CALL = rpc_body("load.once", ["x" * 30000], id="c")


@pytest.fixture
def web(tried):         # noqa: F811
    """A site with all of that, and one worker."""
    auth = {"jwt": {"jwks": "", "issuer": ISSUER, "audience": [AUDIENCE], "claims": ["sub"]}}
    site = tried(routes=[
        rpc_route(rate=[{"rate": "1000000/s", "burst": 100000}], methods=[{"match": "load.*", "calls": 100, "idempotent": True}]),
        rpc_route("/token", auth=auth), ws_route(compression=True), http_route("/up", stream_body="8MiB"),
        http_route("/down", compress={"encodings": ["gzip"]}), http_route("/whole", compress={})],
        limits={"body": "64KiB"})
    auth["jwt"]["jwks"] = site.path("keys.json")
    write_keys(site, KEYS)
    site.config["listeners"][0]["h2c"] = True
    with open(site.path("mode"), "wb") as f:
        f.write(FAULTS["good"])
    worker = subprocess.Popen([PYTHON, SCRIPT, site.path("app-1.sock"), site.path("ledger"), site.path("mode"), "1"])
    wait_for(lambda: os.path.exists(site.path("app-1.sock")), "the worker")
    site.start()
    wait_for(lambda: site.rpc("load.once", ["t"]).status == 200, "a call")
    yield site
    worker.kill()
    worker.wait()


def down(web):
    for headers in ([], [("Accept-Encoding", "gzip")]):
        with web.client(timeout=5) as client:
            r = client.request("GET", "/down/abc./%d" % TIMES, headers=headers)
        if r.status == 200:
            body = gzip.decompress(r.body) if r.header("content-encoding") else r.body
            assert body == b"abc." * TIMES, "a body that is not right, and complete"


def up(web):
    body = b"abc." * TIMES
    with web.client(timeout=5) as client:
        client.send(request("POST", "/up/abc./0", None, [("Transfer-Encoding", "chunked")]))
        for at in range(0, len(body), 16000):
            client.send(b"%x\r\n%s\r\n" % (len(body[at:at + 16000]), body[at:at + 16000]))
        client.send(b"0\r\n\r\n")
        r = client.read_response()
    assert r.status != 200 or r.body == b"abc. %d" % TIMES


def inflated(web):
    with web.client(timeout=5) as client:
        r = client.post(gzip.compress(CALL), headers=[("Content-Encoding", "gzip")])
    assert "result" not in r.json() or r.json()["result"] == "x" * 30000


def packed(web):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    message = (packer.compress(CALL) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with web.client(timeout=5) as client:
        client.send(upgrade("/ws", [("Sec-WebSocket-Extensions", "permessage-deflate")]))
        if client.read_response().status == 101:
            client.send(ws_frame(TEXT, message, rsv=4))
            assert client._bytes(1)[0] & 15 in (1, 8)


def with_token(web):
    """Behind wrong ones: a turn has room for four, so that it waits with its body."""
    right = bearer(token("ES256", sub="s%d" % web.allocations.get("after")))
    with web.client(timeout=5) as client:
        client.send(request("POST", "/token", b"{}", WRONG) * 4 + request("POST", "/token", CALL, right))
        for _ in range(4):
            assert client.read_response().status in (401, 503)
        assert client.read_response().status in (200, 401, 502, 503)


def of_http2(web):
    with H2Client(web.address) as client:
        numbers = [client.open("GET", "/down/abc./%d" % TIMES), client.open("POST", "/up/abc./0", b"abc." * TIMES)]
        for number in numbers:
            client.wait(number, 5)
        stream = client.streams[numbers[0]]
        assert stream.status != 200 or stream.reset is not None or stream.body == b"abc." * TIMES


@pytest.mark.parametrize("kind", [down, up, inflated, packed, with_token, of_http2])
def test_what_has_parts_or_is_coded(web, kind):
    wrong = []

    def act():
        try:
            kind(web)
        except AssertionError as e:
            if "BadResponse" not in type(e).__name__:
                wrong.append(e)
        except (*GONE, Ended, zlib.error, EOFError) as e:
            assert not isinstance(e, gzip.BadGzipFile), e

    act()
    assert not wrong
    shard = web.shard
    each(web, act, shard, sparse=1)
    assert web.shard == shard and not wrong, wrong
