"""Requests that are well-formed, in all the forms HTTP/1.x has, and what their answers look like."""
import email.utils
import json
import re
import threading
import time

import pytest

from fakeworker import echo
from harness import Site, http_route, rpc_route, wait_for
from httpclient import Closed, request, rpc_body, rpc_request
from reloads import unread


def describe(call):
    """http.request: tells what it was asked; other methods: demo."""
    if call.method == "http.request":
        call.http(200, [("content-type", "application/json")],
                  json.dumps({**call.params, "body": call.blob.decode("latin-1")}).encode())
    else:
        echo(call)


@pytest.fixture(scope="module")
def web():
    with Site(routes=[rpc_route(), http_route()]) as site:
        site.fake(handler=describe)
        site.start()
        yield site


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


def ask(client, data):
    client.send(data)
    return client.read_response()


def test_origin_form(client):
    r = client.request("GET", "/a/b?x=1&y=%20")
    asked = r.json()
    assert r.status == 200
    assert (asked["method"], asked["path"], asked["query"]) == ("GET", "/a/b", "x=1&y=%20")
    assert (asked["scheme"], asked["authority"]) == ("http", "front.test")


def test_absolute_form_overrides_host(client):
    asked = client.request("GET", "http://other.test:81/p?q=1").json()
    assert (asked["authority"], asked["path"], asked["query"]) == ("other.test:81", "/p", "q=1")


def test_absolute_form_without_path_is_the_root(client):
    assert client.request("GET", "http://other.test").json()["path"] == "/"


def test_absolute_form_scheme_ignores_case(client):
    assert client.request("GET", "HTTP://other.test/p").json()["path"] == "/p"


def test_asterisk_form(client):
    assert client.request("OPTIONS", "*").status in (200, 204)
    assert client.request("GET", "/after").status == 200


def test_authority_form_is_refused_and_not_forwarded(web, client):
    r = client.request("CONNECT", "other.test:443", host="other.test:443")
    assert 400 <= r.status < 600
    assert not any(c.params.get("method") == "CONNECT" for c in web.workers[0].calls
                   if c.method == "http.request")


def test_many_requests_on_one_connection(client):
    for n in range(200):
        r = client.rpc("demo.echo", {"n": n}, id=n)
        assert r.status == 200
        assert r.json() == {"jsonrpc": "2.0", "id": n, "result": {"n": n}}
        assert r.header("connection") != "close"


def test_close_is_honoured(client):
    r = client.request("POST", "/rpc", rpc_body("demo.echo", []), [("Connection", "close")])
    assert r.status == 200
    assert r.header("connection") == "close"
    assert client.at_end()


@pytest.mark.parametrize("value", ["CLOSE", "foo, close", "close,foo", " ,close, "])
def test_close_in_any_list(client, value):
    assert client.request("GET", "/", headers=[("Connection", value)]).status == 200
    assert client.at_end()


def test_what_follows_close_is_not_answered(client):
    client.send(request("GET", "/1", headers=[("Connection", "close")]) + request("GET", "/2"))
    assert client.read_response().json()["path"] == "/1"
    assert client.at_end()


def test_http10_closes(client):
    r = ask(client, b"GET /old HTTP/1.0\r\n\r\n")
    assert r.status == 200 and r.json()["path"] == "/old"
    assert r.header("transfer-encoding") is None
    assert client.at_end()


def test_http10_keep_alive(client):
    for n in range(3):
        r = ask(client, b"GET /%d HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" % n)
        assert r.json()["path"] == "/%d" % n
        assert r.header("connection").lower() == "keep-alive"
        assert r.header("transfer-encoding") is None
    ask(client, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert client.at_end()


def test_http10_post(client):
    body = rpc_body("demo.echo", [1])
    r = ask(client, b"POST /rpc HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert r.json()["result"] == [1]
    assert client.at_end()


def test_pipelined_answers_keep_their_order(site):
    """The worker answers last to first; the client still gets them first to last."""
    web = site(routes=[rpc_route(), http_route()])
    held = []

    def backwards(call):
        held.append(call)
        if len(held) == 20:
            for one in reversed(held):
                one.reply(one.params)
            held.clear()

    web.fake(handler=backwards)
    web.start()
    with web.client() as client:
        client.send(b"".join(rpc_request("demo.echo", [n], id=n) for n in range(20)))
        assert [client.read_response().json()["id"] for _ in range(20)] == list(range(20))


def test_errors_keep_their_place_among_pipelined_answers(client):
    client.send(rpc_request("demo.echo", [1], id=1)
                + request("GET", "/rpc")
                + rpc_request("demo.echo", [2], id=2)
                + request("POST", "/rpc", b"{")
                + rpc_request("demo.echo", [3], id=3))
    assert client.read_response().json()["id"] == 1
    assert client.read_response().status == 405
    assert client.read_response().json()["id"] == 2
    assert client.read_response().json()["error"]["code"] == -32700
    assert client.read_response().json()["id"] == 3


def test_ten_thousand_pipelined(web):
    count = 10000
    with web.client(timeout=30) as client:
        data = b"".join(rpc_request("demo.echo", [n], id=n) for n in range(count))
        sender = threading.Thread(target=client.try_send, args=(data,), daemon=True)
        sender.start()
        for n in range(count):
            r = client.read_response()
            assert r.status == 200
            assert r.json() == {"jsonrpc": "2.0", "id": n, "result": [n]}
        sender.join(10)
        assert not client.buffer
        assert client.rpc("demo.echo", [1]).status == 200


def test_head_has_no_body(client):
    for _ in range(2):
        r = client.request("HEAD", "/page")
        assert r.status == 200
        assert r.body == b""
        assert r.header("content-type") == "application/json"
        assert r.header("transfer-encoding") is None
    assert client.request("GET", "/page").json()["method"] == "GET"


def test_options_on_an_http_route_is_the_workers(client):
    assert client.request("OPTIONS", "/x").json()["method"] == "OPTIONS"


def test_options_on_a_jsonrpc_route_tells_post(client):
    r = client.request("OPTIONS", "/rpc")
    assert r.status in (200, 204, 405)
    assert "POST" in re.split(", *", r.header("allow"))


def test_expect_continue(client):
    body = rpc_body("demo.echo", ["late"])
    client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body))
    assert client.read_response().status == 100
    client.send(body)
    assert client.read_response().json()["result"] == ["late"]


def test_expect_continue_ignores_case_and_works_chunked(client):
    body = rpc_body("demo.echo", ["late"])
    client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nexpect: 100-Continue\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
    assert client.read_response().status == 100
    client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert client.read_response().json()["result"] == ["late"]


def test_expect_continue_waits_for_its_turn(client):
    """100 Continue comes after the answers to earlier requests, never among them."""
    body = rpc_body("demo.echo", [2], id=2)
    client.send(rpc_request("demo.echo", [1], id=1)
                + b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body))
    assert client.read_response().json()["id"] == 1
    assert client.read_response().status == 100
    client.send(body)
    assert client.read_response().json()["id"] == 2


def test_expect_with_the_body_already_there(client):
    body = rpc_body("demo.echo", [1])
    client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body)
    r = client.read_response()
    if r.status == 100:
        r = client.read_response()
    assert r.json()["result"] == [1]


@pytest.mark.parametrize("path, status", [("/rpc", 405), ("/%", 400)])
def test_expect_that_is_refused_ends_the_connection_wherever_it_is_cut(web, path, status):
    data = request("PUT", path, b"body", [("Expect", "100-continue")]) + request("GET", "/after")
    for cut in range(1, len(data)):
        with web.client() as client:
            client.send(data[:cut])
            wait_for(lambda: not unread(client), "the front to read")
            client.try_send(data[cut:])
            assert client.read_response().status == status
            assert client.at_end(), cut


def test_expect_is_ignored_in_http10(client):
    body = rpc_body("demo.echo", [1])
    client.send(b"POST /rpc HTTP/1.0\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert client.read_response().status == 200


def test_expect_too_large_gets_no_continue(client):
    client.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                b"Content-Length: 99999999\r\n\r\n")
    assert client.read_response().status == 413
    assert client.at_end()


def test_unknown_expectation(client):
    r = ask(client, b"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n")
    assert r.status == 417


CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %s\r\n\r\n"


@pytest.mark.parametrize("chunks, body", [
    (b"5\r\nhello\r\n0\r\n\r\n", "hello"),
    (b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
    (b"5;name=value\r\nhello\r\n0\r\n\r\n", "hello"),
    (b'5;a;b="c;d\\"e";f\r\nhello\r\n0;last\r\n\r\n', "hello"),
    (b"5 ; a = b\r\nhello\r\n0\r\n\r\n", "hello"),
    (b"0000000005\r\nhello\r\n000\r\n\r\n", "hello"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
    (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", "hello"),
    (b"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    (b"0\r\n\r\n", ""),
], ids=["one", "two", "ext", "quoted-ext", "spaced-ext", "zeros", "hex", "trailers", "crlf", "empty"])
def test_chunked(client, chunks, body):
    client.send(CHUNKED % b"chunked" + chunks + request("GET", "/next"))
    assert client.read_response().json()["body"] == body
    assert client.read_response().json()["path"] == "/next"


def test_chunked_ignores_case(client):
    assert ask(client, CHUNKED % b"CHUNKED" + b"1\r\nx\r\n0\r\n\r\n").json()["body"] == "x"


def test_trailers_are_not_headers(client):
    r = ask(client, CHUNKED % b"chunked" + b"1\r\nx\r\n0\r\nX-Admin: yes\r\nHost: evil\r\n\r\n")
    asked = r.json()
    assert asked["authority"] == "x"
    assert "x-admin" not in [name for name, _ in asked["headers"]]


def test_byte_by_byte(client):
    """Every split of a request, and of its chunks, is the same request."""
    data = CHUNKED % b"chunked" + b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
    for byte in data:
        client.send(bytes([byte]))
    assert client.read_response().json()["body"] == "hello0123456789"
    body = rpc_body("demo.echo", {"k": "v"})
    for byte in request("POST", "/rpc", body):
        client.send(bytes([byte]))
    assert client.read_response().json()["result"] == {"k": "v"}


def test_date_and_server(client):
    r = client.request("GET", "/")
    date = r.header("date")
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
                        date)
    assert abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 300
    assert r.header("server").startswith("frontd")


def test_date_moves_on(client):
    first = client.request("GET", "/").header("date")
    deadline = time.monotonic() + 10
    while client.request("GET", "/").header("date") == first:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_errors_have_date_and_server(web):
    with web.client() as client:
        r = ask(client, b"BAD\r\n\r\n")
        assert r.header("date") and r.header("server")
        assert r.header("connection") == "close"


def test_field_names_ignore_case_and_values_are_trimmed(client):
    r = ask(client, b"POST /x HTTP/1.1\r\nhOST:x\r\ncONTENT-lENGTH:\t 3 \t\r\n"
                    b"X-Empty:\r\nX-Inner:  a \t b  \r\n\r\nabc")
    asked = r.json()
    assert asked["body"] == "abc" and asked["authority"] == "x"
    assert ["x-inner", "a \t b"] in asked["headers"]
    assert ["x-empty", ""] in asked["headers"]


def test_an_empty_line_before_a_request_is_skipped(client):
    assert ask(client, b"\r\n" + request("GET", "/a")).json()["path"] == "/a"
    assert ask(client, b"\r\n" + request("GET", "/b")).json()["path"] == "/b"


def test_content_length_zero_and_absent(client):
    assert ask(client, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").json()["body"] == ""
    assert ask(client, b"POST /x HTTP/1.1\r\nHost: x\r\n\r\n").json()["body"] == ""


def test_content_length_with_leading_zeros_means_the_same_or_nothing(client):
    client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 003\r\n\r\nabc" + request("GET", "/n"))
    r = client.read_response()
    if r.status == 200:
        assert r.json()["body"] == "abc"
        assert client.read_response().json()["path"] == "/n"
    else:
        assert r.status == 400 and client.at_end()


@pytest.mark.parametrize("host", ["a.test", "a.test:80", "127.0.0.1:8080", "[::1]:80", ""])
def test_host_forms(client, host):
    assert ask(client, b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode()).json()["authority"] == host


def test_half_closed_client_still_gets_its_answer(web):
    with web.client() as client:
        client.send(rpc_request("demo.echo", ["bye"]))
        client.sock.shutdown(1)
        assert client.read_response().json()["result"] == ["bye"]
        assert client.at_end()


def test_a_connection_that_sends_nothing_gets_nothing(web):
    with web.client() as client:
        client.sock.shutdown(1)
        with pytest.raises(Closed):
            client.read_response()


@pytest.mark.parametrize("length", [20, 2 << 20])
def test_expect_continue_behind_a_slow_request(site, length):
    """The time for the body begins when the client is told to send it, be it short or taken in parts."""
    site = site(routes=[rpc_route(), {**http_route(), "stream_body": "4MiB"}], limits={"body_timeout": "400ms"})
    held = []
    worker = site.fake(handler=held.append, hello={"features": ["stream"]})
    site.start()
    with site.client() as client:
        client.send(rpc_request("hold") + b"PUT /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length)
        worker.wait(lambda: held, "the first request")
        time.sleep(1)
        held[0].reply(1)
        assert client.read_response().json()["result"] == 1
        assert client.read_response().status == 100
        client.send(b"b" * min(length, 1000))
        worker.wait(lambda: len(held) == 2, "the second request")
        held[1].http(200, [], b"taken")
        assert client.read_response().body == b"taken"
