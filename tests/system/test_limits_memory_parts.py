"""`limits.memory` filled by what streams and what is compressed: bodies in parts, answers in parts, streams of HTTP/2, contexts
of zlib. It stays within the budget, others are served meanwhile, and afterwards all is as before (see test_limits_memory.py)."""
import contextlib
import gzip
import json
import os
import zlib

import pytest

from fakeworker import MORE, RESPONSE, DATA, echo, frame
from h2client import Ended, H2Client
from harness import http_route, rpc_route, sanitized, wait_for, ws_route
from httpclient import Closed, request, rpc_body, rpc_request
from test_limits_memory import LIMIT, MB, attacked, send_some, some_at_once
from wsclient import TEXT, upgrade, ws_frame

GONE = (OSError, Closed, Ended, AssertionError)
NOISE = os.urandom(MB)          # what does not compress
LARGE = 250000                  # of an answer: four of them fit into write_buffer


def parts(call, count=2, size=120000, **fields):
    """An answer in parts that never ends, as much as may come without WINDOW."""
    head = json.dumps({"status": 200, "headers": list(fields.items())}).encode()
    call.channel.send(frame(RESPONSE, call.call, b'{"jsonrpc":"2.0","id":' + call.id + b',"result":' + head + b"}", flags=MORE))
    for n in range(count):
        call.channel.send(frame(DATA, call.call, blob=NOISE[n * 1000:][:size], flags=MORE))


def answer(call):
    """By what the method or the path begins with."""
    name = call.params["path"][1:] if call.method == "http.request" else call.method
    if name.startswith(("hold", "up")):
        return
    if name.startswith("parts"):
        parts(call)
    elif name.startswith("text"):
        parts(call, **{"content-type": "text/plain"})
    elif name.startswith("large"):
        call.reply(b'"' + b"x" * LARGE + b'"') if call.method == "large" else call.http(200, [], NOISE[:LARGE])
    else:
        echo(call)


def build(site, concurrency=0, **keys):
    """With a worker that gives no WINDOW and answers as above, one that takes nothing, and one for the normal client."""
    keys = {"timeout": "30s", "stream_timeout": "30s", **keys}
    rpc = {"timeout": "30s"}
    web = site(routes=[rpc_route(pool=None, pools=["app", "own"], **rpc), ws_route("/ws", compression=True, **rpc),
                       http_route("/", stream_body="64MiB", compress={"encodings": ["gzip"]}, **keys)],
               pools={"app": {"kill_after": "1s"}, "held": {}, "own": {"methods": ["demo.*"]}},
               limits={"memory": "64MiB", "body_timeout": "30s", "streams": 100})
    web.config["listeners"][0]["h2c"] = True
    web.config["listeners"][0]["routes"].append(http_route("/up/queued", pool="held", stream_body="64MiB", **keys))
    web.config["listeners"][0]["routes"] += [rpc_route("/rpc/queued", pool="held", **rpc),
                                             ws_route("/ws/queued", pool="held", compression=True, **rpc)]
    worker = web.fake(handler=answer, hello={"features": ["push", "stream"]})
    worker.keep_frames = False
    worker.tolerant = True      # the end of its channel may come within a frame
    web.fake("own-1")
    web.fake("held-1", handler=lambda call: None, concurrency=1, hello={"features": ["push", "stream"]})
    web.start()
    with web.client() as one:
        for _ in range(50):
            assert one.rpc("demo.echo", ["w" * 10000]).status == 200
    return web, worker


def body_that_streams(path, n):
    return (request("POST", path, None, [("Transfer-Encoding", "chunked")]) + b"%x\r\n" % n + NOISE[:n] + b"\r\n")


def packed(data):
    """A message's payload as permessage-deflate has it, without its end."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


BLANK = rpc_body("hold", [" " * (900 << 10)])
OFFER = upgrade("/ws/queued", [("Sec-WebSocket-Extensions", "permessage-deflate")])

# What each of many HTTP/1.1 clients sends, and how many there are; none of them reads anything.
SENT = {
    "uploads that the worker does not use": (body_that_streams("/up", 400000), 600),
    "uploads that wait for a worker": (body_that_streams("/up/queued", 100000), 1200),
    "answers in parts": (request("GET", "/parts") * 6, 200),
    "answers in parts that are compressed": (request("GET", "/text", None, [("Accept-Encoding", "gzip")]) * 6, 200),
    "answers behind a slow one": (rpc_request("hold") + b"".join(rpc_request("large", id=n) for n in range(3)), 200),
    "answers of http behind a slow one": (request("GET", "/hold") + request("GET", "/large") * 3, 200),
    "answers in parts behind a slow one": (request("GET", "/hold") + request("GET", "/parts") * 3, 200),
    "calls that were inflated": (request("POST", "/rpc/queued", gzip.compress(BLANK), [("Content-Encoding", "gzip")]), 200),
    "messages that were inflated": (OFFER + ws_frame(TEXT, packed(BLANK)[:-4], rsv=4), 200),
}


def fills(stack):
    """Until most of the budget has been in use: else nothing is shown."""
    wait_for(lambda: stack.watched.most > LIMIT // 2 or sanitized(), "memory to be used")


@pytest.mark.parametrize("data, count", SENT.values(), ids=[name.replace(" ", "-") for name in SENT])
def test_what_streams_or_is_compressed(site, data, count):
    web, _ = build(site)
    with attacked(web) as stack:
        made = []

        def attack(_):
            with contextlib.suppress(*GONE):        # new ones wait, or get 503
                client = stack.enter_context(web.client(timeout=0.5, rcvbuf=4096))
                made.append(client)
                send_some(client, data)
        some_at_once(count, attack)
        assert len(made) > count // 10
        fills(stack)


def send_part(client, number):
    """20,000 bytes of a body, when there is a window for them."""
    while client.conn.local_flow_control_window(number) < 20000:
        client.read(0.5)
    for at in (0, 10000):
        client.conn.send_data(number, NOISE[at:at + 10000])
        client.flush()


@pytest.mark.parametrize("kind", ["bodies", "uploads", "large", "parts"])
def test_streams_of_http2(site, kind):
    """Many on each connection, none of which ends or is read."""
    web, _ = build(site)
    with attacked(web) as stack:
        made = []

        def attack(_):
            with contextlib.suppress(*GONE):
                client = stack.enter_context(H2Client(web.address, window=False))
                client.sock.settimeout(0.5)
                made.append(client)
                for _ in range(60):
                    if kind == "uploads":
                        send_part(client, client.open("POST", "/up", end=False))
                    elif kind == "bodies":
                        send_part(client, client.open("POST", "/rpc", headers=[("content-length", "60000")], end=False))
                    else:
                        client.open("GET", "/" + kind)
        some_at_once(120, attack)
        assert len(made) > 12
        fills(stack)
