"""What a worker may send and be sent: exactly so much, and one more."""
import json

import pytest

from fakeworker import DATA, MAX_FRAME, MORE, PING, REQUEST, RESPONSE, WINDOW, frame
from harness import http_route, rpc_route, wait_for
from httpclient import request, rpc_body


@pytest.mark.parametrize("over, status", [(0, 200), (1, 413)])
@pytest.mark.parametrize("kind", ["jsonrpc", "http", "meta"])
def test_requests_at_the_workers_max_frame(site, kind, over, status):
    """What the worker does not take is too large; it does not see it, and its slot is free after."""
    limit = 5000
    web = site(routes=[rpc_route(), rpc_route("/meta", meta=["route"]), http_route()])
    worker = web.fake(hello={"max_frame": limit}, concurrency=1)
    web.start()
    with web.client() as client:
        if kind == "http":
            assert client.request("POST", "/", b"b" * 4000).status == 200
            head = next(f[5] for f in worker.frames if f[0] == REQUEST)
            r = client.request("POST", "/", b"b" * (limit - len(head) + over))
        else:
            empty = rpc_body("demo.echo", [""])
            meta = len('{"route":"/meta"}') if kind == "meta" else 0
            body = rpc_body("demo.echo", ["x" * (limit - len(empty) - meta + over)])
            assert len(body) + meta == limit + over
            r = client.post(body, "/meta" if meta else "/rpc")
            if over:
                assert r.json() == {"jsonrpc": "2.0", "id": 1,
                                    "error": {"code": -32005, "message": "too large"}}
        assert r.status == status
        sizes = [len(f[4]) + len(f[5]) + len(f[6]) for f in worker.frames]
        assert max(sizes) <= limit and (limit in sizes) == (not over)
        assert client.rpc("demo.echo", [1]).json()["result"] == [1]


@pytest.mark.parametrize("over, status", [(0, 200), (1, 502)])
def test_answers_at_max_frame(site, over, status):
    """One byte over what we announced costs that call."""
    def answer(call):
        head = b'{"jsonrpc":"2.0","id":1,"result":"'
        tail = b'"}'
        call.send(head + b"x" * (MAX_FRAME - len(head) - len(tail) + over) + tail)

    web = site()
    worker = web.fake(handler=answer)
    web.start()
    assert worker.channels[0].front["max_frame"] == MAX_FRAME
    with web.client() as client:
        r = client.rpc("big")
        assert r.status == status
        if over:
            assert r.json()["error"]["code"] == -32007
        else:
            assert len(r.body) == MAX_FRAME
    assert len(worker.live()) == 1


@pytest.mark.parametrize("size, answered", [(0, True), (64, True), (65, False)])
def test_ping_of_64_bytes_and_more(site, size, answered):
    """One that is too long is not answered, which costs nothing else."""
    web = site()
    worker = web.fake()
    web.start()
    channel = worker.channels[0]
    channel.send(frame(PING, body=b"p" * size))
    assert channel.sync()
    assert (b"p" * size in channel.pongs) == answered
    assert ("PING is dropped: it has over 64 bytes" in web.front.text()) == (not answered)
    assert web.rpc("demo.echo", [1]).json()["result"] == [1]
    assert len(worker.channels) == 1


# Answers in parts (protocol section 8).

def streamed(parts, kind="http"):
    """A handler that answers with RESPONSE and DATA frames of these blobs."""
    def answer(call):
        result = {"status": 200, "headers": []} if kind == "http" else [1]
        body = json.dumps({"jsonrpc": "2.0", "id": json.loads(call.id), "result": result}).encode()
        call.channel.finished(call)
        for n, part in enumerate(parts):
            call.channel.send(frame(DATA if n else RESPONSE, call.call, b"" if n else body, blob=part,
                                    flags=MORE if n < len(parts) - 1 else 0))
    return answer


@pytest.mark.parametrize("parts", [
    [b"one"], [b"one", b"two"], [b"", b"two"], [b"one", b""], [b"", b"", b""],
    [b"x" * 100000] * 7 + [b"end"],
], ids=["whole", "two", "late", "early", "empty", "many"])
def test_an_answer_in_parts(site, parts):
    web = site()
    worker = web.fake(handler=streamed(parts), concurrency=1, hello={"features": ["stream"]})
    web.start()
    with web.client() as client:
        for _ in range(2):
            r = client.request("GET", "/")
            assert r.status == 200 and r.body == b"".join(parts)
    assert not worker.channels[0].closed
    # Credit is given for DATA bytes that have left for the client, while more is to come.
    due = 2 * sum(len(p) for p in parts[1:-1])
    assert sum(json.loads(f[5])["bytes"] for f in worker.frames if f[0] == WINDOW) <= due


def test_an_answer_in_tiny_parts(site):
    """Credit is given for many of them at once."""
    web = site()
    worker = web.fake(handler=streamed([b"x"] * 5000), hello={"features": ["stream"]})
    web.start()
    with web.client() as client:
        assert client.request("GET", "/").body == b"x" * 5000
    assert worker.channels[0].sync()
    assert sum(f[0] == WINDOW for f in worker.frames) < 10


def test_a_jsonrpc_answer_in_parts(site):
    web = site()
    web.fake(handler=streamed([b"", b""], "jsonrpc"))
    web.start()
    assert web.rpc("m").json()["result"] == [1]


@pytest.mark.parametrize("over, status", [(0, 200), (1, 502)])
def test_an_answer_in_parts_at_max_frame(site, over, status):
    part = MAX_FRAME // 4
    web = site()
    held = []
    big = streamed([b"x" * part] * 3 + [b"x" * (part + over)] + [b"rest"] * 2 * over, "jsonrpc")
    worker = web.fake(handler=lambda call: held.append(call) if call.method == "held" else big(call))
    web.start()
    with web.client(timeout=30) as client, web.client(timeout=30) as other:
        other.send(request("POST", "/rpc", rpc_body("held")))
        wait_for(lambda: held, "the other call")
        r = client.rpc("m")           # whose blobs are not relayed, but gathered all the same
        assert r.status == status
        if over:
            assert "over max_frame, its parts together" in web.front.text()
        else:
            assert r.json()["result"] == [1]
        held[0].reply("well")           # the worker's other calls are not touched
        assert other.read_response().json()["result"] == "well"
        big = streamed([b"a", b"b"])
        assert client.request("GET", "/").body == b"ab"
    assert len(worker.channels) == 1
