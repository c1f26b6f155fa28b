"""Requests that are refused, what they get, and that nothing after them is ever answered."""
import gzip
import threading

import pytest

from fakeworker import echo, hold
from harness import Site, http_route, rpc_route, wait_for
from httpclient import Closed, request, rpc_body, rpc_request

HEADER = 4096       # limits of this file's site
HEADERS = 20
BODY = 20000

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def web():
    limits = {"header": "4KiB", "headers": HEADERS, "body": str(BODY)}
    with Site(routes=[rpc_route(), http_route("/site"), http_route("/s")], limits=limits) as site:
        site.fake(handler=echo)
        site.start()
        yield site


def start(line=b"POST /s HTTP/1.1", *fields, host=b"Host: x"):
    return b"\r\n".join([line, *([host] if host else []), *fields]) + b"\r\n\r\n"


def post(*fields, body=b""):
    return start(b"POST /s HTTP/1.1", *fields) + body


def get(*fields, host=b"Host: x"):
    return start(b"GET /s HTTP/1.1", *fields, host=host)


def chunked(body, *fields):
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


REFUSED = {
    # Two readings of where a body ends.
    "cl-and-te": post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
    "te-and-cl": post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"),
    "cl-twice": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "cl-twice-other": post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello"),
    "cl-list": post(b"Content-Length: 5, 5", body=b"hello"),
    "cl-plus": post(b"Content-Length: +5", body=b"hello"),
    "cl-minus": post(b"Content-Length: -5", body=b"hello"),
    "cl-hex": post(b"Content-Length: 0x5", body=b"hello"),
    "cl-float": post(b"Content-Length: 5.0", body=b"hello"),
    "cl-exponent": post(b"Content-Length: 1e0", body=b"h"),
    "cl-word": post(b"Content-Length: five", body=b"hello"),
    "cl-empty": post(b"Content-Length:"),
    "cl-inner-space": post(b"Content-Length: 1 0", body=b"h"),
    "cl-quoted": post(b'Content-Length: "5"', body=b"hello"),
    "cl-overflow-64": post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "cl-space-colon": post(b"Content-Length : 5", body=b"hello"),
    "te-space-colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "te-tab-colon": post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "te-identity": post(b"Transfer-Encoding: identity"),
    "te-gzip": post(b"Transfer-Encoding: gzip"),
    "te-chunked-gzip": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "te-chunked-then-gzip": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
                                 body=b"0\r\n\r\n"),
    "te-chunked-twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "te-two-lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked",
                         body=b"0\r\n\r\n"),
    "te-xchunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "te-chunkedx": post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"),
    "te-quoted": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "te-vt": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "te-empty": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "te-http10": start(b"POST /s HTTP/1.0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "te-obs-fold": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    # Chunks.
    "chunk-size-overflow": chunked(b"FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n"),
    "chunk-size-wraps": chunked(b"10000000000000001\r\nx\r\n0\r\n\r\n"),
    "chunk-size-minus": chunked(b"-1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-plus": chunked(b"+1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-0x": chunked(b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-empty": chunked(b"\r\nx\r\n0\r\n\r\n"),
    "chunk-size-only-ext": chunked(b";a=b\r\nx\r\n0\r\n\r\n"),
    "chunk-size-word": chunked(b"g\r\nx\r\n0\r\n\r\n"),
    "chunk-size-space": chunked(b" 1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-inner-space": chunked(b"1 0\r\nx\r\n0\r\n\r\n"),
    "chunk-long-data": chunked(b"1\r\nxyz\r\n0\r\n\r\n"),
    "chunk-bare-lf": chunked(b"1\nx\n0\n\n"),
    "chunk-data-bare-lf": chunked(b"1\r\nx\n0\r\n\r\n"),
    "chunk-data-no-crlf": chunked(b"1\r\nx0\r\n\r\n"),
    "chunk-ext-bare-lf": chunked(b"1;a\nx\r\n0\r\n\r\n"),
    "chunk-ext-bare-cr": chunked(b"1;a\rb\r\nx\r\n0\r\n\r\n"),
    "chunk-ext-nul": chunked(b"1;a=\0\r\nx\r\n0\r\n\r\n"),
    "chunk-last-bare-lf": chunked(b"1\r\nx\r\n0\n\n"),
    "trailer-obs-fold": chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
    "trailer-no-colon": chunked(b"0\r\nab\r\n\r\n"),
    "trailer-space-colon": chunked(b"0\r\nA : b\r\n\r\n"),
    "trailer-nul": chunked(b"0\r\nA: \0\r\n\r\n"),
    "trailer-bare-lf": chunked(b"0\r\nA: b\n\r\n"),
    # Fields.
    "space-colon": get(b"X : 1"),
    "obs-fold": get(b"X: 1\r\n 2"),
    "obs-fold-tab": get(b"X: 1\r\n\t2"),
    "fold-first": start(b"GET /s HTTP/1.1\r\n X: 1"),
    "nul-value": get(b"X: a\0b"),
    "nul-name": get(b"X\0: a"),
    "bare-cr": get(b"X: a\rb"),
    "bare-cr-end": b"GET /s HTTP/1.1\rHost: x\r\r",
    "bare-cr-before-crlf": get(b"X: a\r"),
    "bare-lf": get(b"X: a\nY: b"),
    "all-bare-lf": b"GET /s HTTP/1.1\nHost: x\n\n",
    "control-value": get(b"X: a\x01b"),
    "del-value": get(b"X: a\x7fb"),
    "no-colon": get(b"Xyz"),
    "no-name": get(b": a"),
    "space-name": get(b"X Y: a"),
    "paren-name": get(b"X(Y): a"),
    "latin-name": get(b"X\xe9: a"),
    "quote-name": get(b'"X": a'),
    # Host.
    "no-host": get(host=None),
    "two-hosts": get(b"Host: x"),
    "two-hosts-other": get(b"host: y"),
    "host-space": get(host=b"Host: x y"),
    "host-path": get(host=b"Host: x/y"),
    "host-user": get(host=b"Host: u@x"),
    "host-comma": get(host=b"Host: x,y"),
    "host-bad-port": get(host=b"Host: x:8o"),
    # Request line.
    "target-control": start(b"GET /s\x01 HTTP/1.1"),
    "target-nul": start(b"GET /s\0 HTTP/1.1"),
    "target-del": start(b"GET /s\x7f HTTP/1.1"),
    "target-tab": start(b"GET /s\tx HTTP/1.1"),
    "target-space": start(b"GET /s x HTTP/1.1"),
    "target-high": start(b"GET /s\xff HTTP/1.1"),
    "target-bare-cr": start(b"GET /s\rx HTTP/1.1"),
    "target-fragment": start(b"GET /s#f HTTP/1.1"),
    "target-relative": start(b"GET s HTTP/1.1"),
    "target-empty": start(b"GET  HTTP/1.1"),
    "target-asterisk-get": start(b"GET * HTTP/1.1"),
    "target-no-authority": start(b"GET http:///s HTTP/1.1"),
    "two-spaces": start(b"GET  /s HTTP/1.1"),
    "tab-separated": start(b"GET\t/s\tHTTP/1.1"),
    "space-end": start(b"GET /s HTTP/1.1 "),
    "space-start": start(b" GET /s HTTP/1.1"),
    "no-version": start(b"GET /s"),
    "lower-version": start(b"GET /s http/1.1"),
    "short-version": start(b"GET /s HTTP/1"),
    "long-version": start(b"GET /s HTTP/1.10"),
    "version-word": start(b"GET /s HTTP/1.x"),
    "other-protocol": start(b"GET /s ICY/1.1"),
    "method-at": start(b"G@T /s HTTP/1.1"),
    "method-empty": start(b" /s HTTP/1.1"),
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 64 + b"\r\n\r\n",
}


def refused(web, data, statuses):
    before = len(web.workers[0].calls)
    with web.client() as client:
        client.send(data + SMUGGLED)
        r = client.read_response()
        assert r.status in statuses, r
        assert r.header("connection") == "close"
        assert client.at_end(), "the connection goes on: %r" % client.rest()
    for call in web.workers[0].calls[before:]:
        assert call.method != "http.request" or call.params["path"] != "/smuggled"
    return r


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_one_400_then_close(web, data):
    refused(web, data, {400})


@pytest.mark.parametrize("data, statuses", [
    (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), {400, 501}),
    (post(b"Content-Length: 99999999999999999999", body=b"hello"), {400, 413}),
    (post(b"Content-Length: 9223372036854775807", body=b"hello"), {413}),
    (chunked(b"7FFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n"), {413}),
    (start(b"GET /s HTTP/2.0"), {505}),
    (start(b"GET /s HTTP/3.0"), {505}),
    (start(b"GET /s HTTP/0.9"), {505, 400}),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505, 400}),
], ids=["gzip-chunked", "cl-20-digits", "cl-max", "chunk-max", "http2", "http3", "http09", "h2-preface"])
def test_refused_otherwise(web, data, statuses):
    refused(web, data, statuses)


def test_a_refusal_is_not_split_from_what_came_before(web):
    with web.client() as client:
        client.send(request("GET", "/site/a") + get(b"X : 1") + SMUGGLED)
        assert client.read_response().status == 200
        assert client.read_response().status == 400
        assert client.at_end()


def test_not_found(web):
    with web.client() as client:
        assert client.request("GET", "/nothing").status == 404


def test_prefixes_end_at_segments(web):
    with web.client() as client:
        for path, status in [("/site", 200), ("/site/", 200), ("/site/x", 200), ("/site?x", 200),
                             ("/sitex", 404), ("/sit", 404), ("/", 404), ("/Site", 404)]:
            r = client.request("GET", path)
            assert r.status == status, path
            if r.header("connection") == "close":
                client.close()
                client = web.client()


def test_rpc_paths(web):
    body = rpc_body("demo.echo", [1])
    for path, status in [("/rpc", 200), ("/rpc?a=b", 200), ("/rpc/x", 200), ("/rpcx", 404)]:
        with web.client() as client:
            assert client.post(body, path).status == status, path


def coded(r):
    assert r.status == 415 and r.header("accept-encoding") == "gzip", r
    return r


@pytest.mark.parametrize("value", ["deflate", "br", "zstd", "gzip, gzip", "gzip, br", "gzip;q=1", "aws-chunked", "identity;q=1", "?"])
def test_content_codings_are_not_understood(web, value):
    """RFC 9110 section 15.5.16; the body is not looked at, JSON or not, and the connection goes on."""
    seen = len(web.workers[0].calls)
    body = rpc_body("demo.echo", [1])
    with web.client() as client:
        for data in (body, gzip.compress(body), b""):
            coded(client.post(data, headers=[("Content-Encoding", value)]))
        client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Encoding: identity\r\ncontent-encoding: %s\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % value.encode())
        coded(client.read_response())
        assert len(web.workers[0].calls) == seen
        assert client.post(body).status == 200


@pytest.mark.parametrize("value", ["", "identity", "Identity", "identity, identity", " , IDENTITY,"])
def test_no_content_coding(web, value):
    with web.client() as client:
        r = client.post(rpc_body("demo.echo", [1]), headers=[("Content-Encoding", value), ("Accept-Encoding", "gzip")])
        assert r.status == 200 and r.json()["result"] == [1]


def test_content_codings_before_a_body(web):
    """A client that waits for 100 Continue, or sends too much, is told the same."""
    gzipped = [("Content-Encoding", "br")]
    with web.client() as client:
        client.send(request("POST", "/rpc", None, gzipped + [("Content-Length", 4), ("Expect", "100-continue")]))
        coded(client.read_response())
        assert client.at_end()
    with web.client() as client:
        client.send(request("POST", "/rpc", None, gzipped + [("Content-Length", 1 << 30)]))
        coded(client.read_response())


def test_content_codings_elsewhere(web):
    """Another method is refused for that; OPTIONS has its answer; on http routes it is the worker's business."""
    gzipped = [("Content-Encoding", "gzip")]
    with web.client() as client:
        assert client.request("PUT", "/rpc", b"x", gzipped).status == 405
        assert client.request("OPTIONS", "/rpc", b"", gzipped).status == 204
        assert client.request("POST", "/site", gzip.compress(b"x"), gzipped).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "BREW", "post"])
def test_method_not_allowed(web, method):
    with web.client() as client:
        r = client.request(method, "/rpc", b"" if method == "PUT" else None)
        assert r.status == 405
        assert "POST" in r.header("allow")


def head_of(size, path="/site"):
    """A request whose head, from its first byte to the end of its empty line, has `size` bytes."""
    fixed = len(b"GET %s HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n" % path.encode())
    return b"GET %s HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (path.encode(), b"a" * (size - fixed))


@pytest.mark.parametrize("size, status", [(HEADER - 1, 200), (HEADER, 200), (HEADER + 1, 431)])
def test_header_limit(web, size, status):
    with web.client() as client:
        client.send(head_of(size))
        assert client.read_response().status == status
        assert status == 200 or client.at_end()


def test_header_limit_holds_for_each_pipelined_request(web):
    with web.client() as client:
        client.send(head_of(HEADER) * 5)
        assert [client.read_response().status for _ in range(5)] == [200] * 5


def test_endless_head(web):
    with web.client() as client:
        sender = threading.Thread(target=client.try_send, daemon=True,
                                  args=(b"GET /s HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2000000,))
        sender.start()
        assert client.read_response().status == 431
        assert client.at_end()
        sender.join(10)


def test_uri_too_long(web):
    with web.client() as client:
        client.send(b"GET /s%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * HEADER))
        assert client.read_response().status == 414
        assert client.at_end()


def test_uri_too_long_without_end(web):
    with web.client() as client:
        client.send(b"GET /s" + b"a" * 3 * HEADER)
        assert client.read_response().status == 414
        assert client.at_end()


@pytest.mark.parametrize("count, status", [(HEADERS - 1, 200), (HEADERS, 200), (HEADERS + 1, 431)])
def test_headers_limit(web, count, status):
    with web.client() as client:
        client.send(start(b"GET /site HTTP/1.1", *[b"X%d: 1" % n for n in range(count - 1)]))
        assert client.read_response().status == status
        assert status == 200 or client.at_end()


def rpc_of(size):
    empty = rpc_body("demo.echo", [""])
    return rpc_body("demo.echo", ["x" * (size - len(empty))])


def in_chunks(data, size):
    parts = [data[n:n + size] for n in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size, status", [(BODY - 1, 200), (BODY, 200), (BODY + 1, 413)])
@pytest.mark.parametrize("coding", ["length", "chunks", "small-chunks"])
def test_body_limit(web, size, status, coding):
    with web.client() as client:
        body = rpc_of(size)
        assert len(body) == size
        if coding == "length":
            client.send(request("POST", "/rpc", body))
        else:
            client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        + in_chunks(body, 9000 if coding == "chunks" else 7))
        r = client.read_response()
        assert r.status == status
        if status == 413:
            error = r.json()
            assert error["error"]["code"] == -32005 and error["id"] is None
            assert client.at_end()
        else:
            assert len(r.json()["result"][0]) == size - len(rpc_body("demo.echo", [""]))


@pytest.mark.parametrize("size, status", [(BODY, 200), (BODY + 1, 413)])
def test_body_limit_of_http_routes(web, size, status):
    with web.client() as client:
        r = client.request("PUT", "/site", b"x" * size)
        assert r.status == status
        if status == 413:
            assert len(r.body) < 200 and not r.body.startswith(b"{")


def test_too_large_is_read_by_a_client_that_goes_on_sending(web):
    """The answer reaches the client though megabytes of the body are still on their way."""
    for _ in range(5):
        with web.client() as client:
            sender = threading.Thread(target=client.try_send, daemon=True,
                                      args=(request("POST", "/rpc", b"x" * 3000000),))
            sender.start()
            assert client.read_response().status == 413
            assert client.at_end()
            sender.join(10)


def test_endless_chunk_extension(web):
    with web.client() as client:
        sender = threading.Thread(target=client.try_send, daemon=True,
                                  args=(chunked(b"1;" + b"a" * 2000000),))
        sender.start()
        assert client.read_response().status in (400, 413, 431)
        assert client.at_end()
        sender.join(10)


def test_endless_small_extensions(web):
    """Extensions cost their sender: one byte of body in a hundred does not go on for ever."""
    with web.client() as client:
        data = chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * (BODY - 1))
        sender = threading.Thread(target=client.try_send, daemon=True, args=(data,))
        sender.start()
        assert client.read_response().status in (400, 413, 431)
        assert client.at_end()
        sender.join(10)


def test_endless_trailers(web):
    with web.client() as client:
        sender = threading.Thread(target=client.try_send, daemon=True,
                                  args=(chunked(b"0\r\n" + b"X: y\r\n" * 300000),))
        sender.start()
        assert client.read_response().status in (400, 431)
        assert client.at_end()
        sender.join(10)


def test_truncated_requests_are_not_forwarded(web):
    worker = web.workers[0]
    before = len(worker.calls)
    for data in (b"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
                 b"POST /s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                 b"POST /s HTTP/1.1\r\nHost: x\r\n"):
        with web.client() as client:
            client.send(data)
            client.sock.shutdown(1)
            try:
                assert client.read_response().status == 400
            except Closed:
                pass
            assert client.at_end()
    assert len(worker.calls) == before


def test_no_connection_is_left(web):
    """After all these refusals the shard has its few descriptors and no more."""
    with web.client() as client:
        assert client.request("GET", "/site").status == 200
    wait_for(lambda: web.connections() == 0, "the end of all connections")


@pytest.mark.parametrize("field", [b"Bad Field", b"A: " + b"a" * HEADER], ids=["400", "431"])
def test_an_error_in_the_head_of_a_head_request_has_no_body(web, field):
    with web.client() as client:
        client.send(start(b"HEAD /s HTTP/1.1", field))
        assert client.read_response(head=True).status in (400, 431)
        assert client.at_end()


def test_no_continue_after_the_body_has_come(site):
    """Its turn comes when the body is there already, and another request has begun."""
    web = site()
    worker = web.fake(handler=hold)
    web.start()
    body = rpc_body("demo.echo", [2], 2)
    three = rpc_request("demo.echo", [3], 3)
    with web.client() as client:
        client.send(rpc_request("demo.echo", [1], 1))
        worker.wait_calls(1)
        client.send(start(b"POST /rpc HTTP/1.1", b"Expect: 100-continue",
                          b"Content-Length: %d" % len(body)))
        assert not client.readable(0.2)
        client.send(body + three[:20])
        worker.wait_calls(2)
        for call in worker.calls[:2]:
            call.reply("r")
        assert [client.read_response().json()["id"] for _ in range(2)] == [1, 2]
        client.send(three[20:])
        worker.wait_calls(3).reply("r")
        assert client.read_response().json()["id"] == 3


@pytest.mark.parametrize("body, status", [(b"x\r\n", 400), (b"0\r\nA: " + b"a" * HEADER, 431)], ids=["400", "431"])
def test_an_error_in_the_body_of_a_head_request_has_no_body(web, body, status):
    with web.client() as client:
        client.send(start(b"HEAD /s HTTP/1.1", b"Transfer-Encoding: chunked") + body)
        assert client.read_response(head=True).status == status
        assert client.at_end()
