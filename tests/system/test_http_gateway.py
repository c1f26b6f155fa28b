"""Routes of kind http: any request to the worker and any answer of it back, and nothing else."""
import json

import pytest

from fakeworker import hold
from harness import Site, http_route
from httpclient import request

BODY = 1024 * 1024

# What the worker answers to each path: (result or None for an error, blob).
answers = {}


def answer(call):
    params = call.params
    path = params["path"]
    if path in answers:
        result, blob = answers[path]
        if result is None:
            call.error(-1, "no")
        else:
            call.reply(result, blob)
    elif path == "/echo":
        call.http(200, [("content-type", "application/octet-stream")], call.blob)
    else:
        call.http(200, [("content-type", "application/json")], json.dumps(params).encode())


@pytest.fixture(scope="module")
def web():
    with Site(routes=[http_route(), http_route("/away", "away")],
              pools={"app": {}, "away": {"wait_for_worker": "100ms"}}) as site:
        site.fake(handler=answer)
        site.start()
        yield site


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def result(status=200, *headers):
    return {"status": status, "headers": [list(h) for h in headers]}


def get(client, value, blob=b"", method="GET"):
    answers["/set"] = (value, blob)
    return client.request(method, "/set")


def test_headers_of_the_request(client):
    asked = client.request("GET", "/x", headers=[
        ("Accept", "a"), ("X-Two", "1"), ("x-two", "2"), ("X-Quoted", 'a "b" \\c\t d'),
        ("X-Empty", ""), ("Cookie", "a=b; c=d")]).json()
    headers = [tuple(pair) for pair in asked["headers"]]
    assert all(name == name.lower() for name, _ in headers)
    assert [v for n, v in headers if n == "x-two"] == ["1", "2"]
    for pair in [("accept", "a"), ("x-quoted", 'a "b" \\c\t d'), ("x-empty", ""), ("cookie", "a=b; c=d")]:
        assert pair in headers


def test_hop_by_hop_headers_of_the_request_are_dropped(client):
    hop = [("Connection", "keep-alive, X-Mine"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"),
           ("Proxy-Connection", "keep-alive"), ("Trailer", "x"), ("Upgrade", "foo"), ("X-Mine", "1")]
    asked = client.request("GET", "/x", headers=[*hop, ("X-Kept", "1")]).json()
    names = {name for name, _ in asked["headers"]}
    assert "x-kept" in names
    assert not names & {name.lower() for name, _ in hop}
    client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert "transfer-encoding" not in {name for name, _ in client.read_response().json()["headers"]}


def test_end_to_end_fields_cannot_be_dropped_by_connection(client):
    """Naming Host or a length in Connection must not change what the message is."""
    r = client.request("GET", "/x", headers=[("Connection", "host, content-length")])
    assert r.status == 400 or r.json()["authority"] == "front.test"


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80"])
def test_header_bytes_above_ascii_reach_the_worker_as_json_or_not_at_all(client, value):
    client.send(b"GET /x HTTP/1.1\r\nHost: x\r\nX-Odd: " + value + b"\r\n\r\n")
    r = client.read_response()
    assert r.status in (200, 400)
    if r.status == 200 and value == b"caf\xc3\xa9":
        assert ["x-odd", "caf\u00e9"] in r.json()["headers"] or \
            ["x-odd", "caf\u00c3\u00a9"] in r.json()["headers"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "X-Y.z!"])
def test_any_method(client, method):
    assert client.request(method, "/x").json()["method"] == method


def test_quotes_in_the_target(client):
    asked = client.request("GET", '/a"b\\c?d="e\\').json()
    assert asked["path"] == '/a"b\\c' and asked["query"] == 'd="e\\'


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)), b"\r\n0\r\n\r\n", b"{}" * 30000])
def test_bodies_both_ways(client, body):
    r = client.request("POST", "/echo", body)
    assert r.status == 200 and r.body == body


@pytest.mark.parametrize("size, status", [(BODY - 1, 200), (BODY, 200), (BODY + 1, 413)])
def test_big_bodies(client, size, status):
    body = bytes(range(251)) * (size // 251 + 1)
    r = client.request("POST", "/echo", body[:size])
    assert r.status == status
    assert status != 200 or r.body == body[:size]


def test_headers_of_the_response(client):
    r = get(client, result(201, ("X-One", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2"),
                           ("location", "/new"), ("x-empty", "")), b"body")
    assert r.status == 201 and r.body == b"body"
    assert r.all("set-cookie") == ["a=1", "b=2"]
    assert r.header("x-one") == "1" and r.header("location") == "/new" and r.header("x-empty") == ""


def test_hop_by_hop_headers_of_the_response_are_dropped(client):
    r = get(client, result(200, ("connection", "close"), ("transfer-encoding", "chunked"),
                           ("keep-alive", "timeout=1"), ("upgrade", "x"), ("proxy-connection", "close"),
                           ("trailer", "x"), ("x-kept", "1")), b"body")
    if r.status == 200:
        assert r.body == b"body"
        assert r.header("x-kept") == "1"
        for name in ("keep-alive", "upgrade", "proxy-connection", "trailer", "transfer-encoding"):
            assert not r.all(name), name
        assert r.header("connection") in (None, "keep-alive")
    else:
        assert r.status == 502
    assert client.request("GET", "/x").status == 200


@pytest.mark.parametrize("length", ["0", "3", "4", "9", "-1", "x", "4, 4"])
def test_the_workers_content_length_does_not_frame(client, length):
    """Whatever the worker says, the message ends where its blob does."""
    r = get(client, result(200, ("content-length", length)), b"body")
    assert r.status in (200, 502)
    assert r.status == 502 or r.body == b"body"
    if r.header("connection") != "close":
        assert client.request("GET", "/x").json()["path"] == "/x"


def test_own_date_and_server_appear_once(client):
    r = get(client, result(200, ("date", "Mon, 01 Jan 2024 00:00:00 GMT"), ("server", "mine")))
    assert r.status == 200
    assert len(r.all("date")) == 1 and len(r.all("server")) == 1


INJECTED = {
    "value-crlf": ("x-a", "1\r\nx-injected: 1"),
    "value-lf": ("x-a", "1\nx-injected: 1"),
    "value-cr": ("x-a", "1\rx-injected: 1"),
    "value-body": ("x-a", "1\r\n\r\nHTTP/1.1 200 OK\r\nx-injected: 1\r\n\r\n"),
    "value-nul": ("x-a", "1\0"),
    "value-control": ("x-a", "1\x01"),
    "value-del": ("x-a", "1\x7f"),
    "name-crlf": ("x-a\r\nx-injected", "1"),
    "name-colon": ("x-injected: 1", "1"),
    "name-space": ("x injected", "1"),
    "name-empty": ("", "x-injected"),
    "name-nul": ("x\0a", "1"),
    "name-high": ("x\u00e9", "1"),
}


@pytest.mark.parametrize("header", INJECTED.values(), ids=INJECTED.keys())
def test_header_injection_is_refused(client, header):
    r = get(client, result(200, ("x-before", "1"), header), b"secret")
    assert r.status == 502
    assert not r.all("x-injected") and b"secret" not in r.body and not r.all("x-before")
    if r.header("connection") != "close":
        assert client.request("GET", "/x").json()["path"] == "/x"


BAD_RESULTS = {
    "status-0": b'{"status":0,"headers":[]}',
    "status-99": b'{"status":99,"headers":[]}',
    "status-100": b'{"status":100,"headers":[]}',
    "status-101": b'{"status":101,"headers":[]}',
    "status-199": b'{"status":199,"headers":[]}',
    "status-1000": b'{"status":1000,"headers":[]}',
    "status-minus": b'{"status":-200,"headers":[]}',
    "status-wraps": b'{"status":4294967496,"headers":[]}',
    "status-huge": b'{"status":99999999999999999999999,"headers":[]}',
    "status-float": b'{"status":200.5,"headers":[]}',
    "status-string": b'{"status":"200","headers":[]}',
    "status-null": b'{"status":null,"headers":[]}',
    "status-none": b'{"headers":[]}',
    "headers-object": b'{"status":200,"headers":{"a":"b"}}',
    "headers-string": b'{"status":200,"headers":"a"}',
    "headers-flat": b'{"status":200,"headers":["a","b"]}',
    "headers-one": b'{"status":200,"headers":[["a"]]}',
    "headers-three": b'{"status":200,"headers":[["a","b","c"]]}',
    "headers-number": b'{"status":200,"headers":[["a",1]]}',
    "headers-null": b'{"status":200,"headers":[["a",null]]}',
    "array": b"[200,[]]",
    "string": b'"200"',
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("value", BAD_RESULTS.values(), ids=BAD_RESULTS.keys())
def test_results_that_are_no_response(client, value):
    r = get(client, value, b"secret")
    assert r.status == 502
    assert b"secret" not in r.body
    if r.header("connection") != "close":
        assert client.request("GET", "/x").status == 200


@pytest.mark.parametrize("status", [200, 206, 299, 301, 404, 418, 500, 503, 599])
def test_statuses_are_relayed(client, status):
    r = get(client, result(status), b"body")
    assert r.status == status and r.body == b"body"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("blob", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_no_body_with_204_and_304(client, status, blob):
    r = get(client, result(status, ("etag", '"x"')), blob)
    assert r.status == status and r.header("etag") == '"x"'
    assert client.request("GET", "/x").json()["path"] == "/x"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("length", [None, "9"])
@pytest.mark.parametrize("blob", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_no_body_with_205(client, method, length, blob):
    """RFC 9110 section 15.3.6: there is no content, and unlike with 204 its length says so."""
    fields = [("etag", '"x"')] + ([("content-length", length)] if length else [])
    r = get(client, result(205, *fields), blob, method=method)
    assert r.status == 205 and r.header("etag") == '"x"' and r.header("content-length") == "0"
    assert client.request("GET", "/x").json()["path"] == "/x"


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_interim_statuses_are_no_answer(client, status):
    """One would be followed by another answer, and 101 by no HTTP at all."""
    assert get(client, result(status), b"body").status == 502
    assert client.request("GET", "/x").json()["path"] == "/x"


def test_no_body_for_head(client):
    for value, status in [(result(200), 200), (result(404), 404), (None, 500), (b"null", 502)]:
        r = get(client, value, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", method="HEAD")
        assert r.status == status
        assert not client.readable(0.05)
        assert client.request("GET", "/x").json()["path"] == "/x"


def short_text(r, status):
    assert r.status == status
    assert r.header("content-type").startswith("text/plain")
    assert 0 < len(r.body) < 200 and not r.body.startswith(b"{")


def test_error_of_the_worker_is_500(client):
    short_text(get(client, None), 500)


def test_no_worker_is_503(client):
    short_text(client.request("GET", "/away"), 503)


def test_lost_worker_is_502(site):
    web = site()
    worker = web.fake(handler=hold)
    web.start()
    with web.client() as client:
        client.send(request("GET", "/x"))
        worker.wait_calls(1)
        worker.die()
        short_text(client.read_response(), 502)


def test_deadline_is_504(site):
    web = site(routes=[http_route(timeout="200ms")])
    web.fake(handler=hold)
    web.start()
    with web.client() as client:
        short_text(client.request("GET", "/x"), 504)


def test_overloaded_is_503_with_retry_after(site):
    web = site(pools={"app": {"queue": 0}})
    worker = web.fake(handler=hold, concurrency=1)
    web.start()
    with web.client() as one, web.client() as two:
        one.send(request("GET", "/x"))
        call = worker.wait_calls(1)
        r = two.request("GET", "/y")
        short_text(r, 503)
        assert int(r.header("retry-after")) >= 1
        call.http(200, [], b"done")
        assert one.read_response().body == b"done"


def test_pipelined_mixed_bodies(client):
    bodies = [bytes([65 + n]) * (n * 3001) for n in range(30)]
    client.send(b"".join(request("POST", "/echo", body) for body in bodies))
    assert [client.read_response().body for _ in bodies] == bodies
