"""JSON-RPC over HTTP: what is forwarded, byte for byte, and what is refused."""
import json

import pytest

from fakeworker import NOTIFY, echo
from harness import Site, http_route, rpc_route, stat
from httpclient import rpc_body

POOLS = {"app": {"methods": ["demo.*", "get"]}, "b": {"methods": ["b.*", "health"]}}


@pytest.fixture(scope="module")
def web():
    routes = [rpc_route(pool=None, pools=["app", "b"]),
              rpc_route("/meta", "app", timeout="20s", meta=["peer", "deadline", "route"],
                        headers=["authorization", "x-tag"])]
    with Site(routes=routes, pools=POOLS) as site:
        site.fake("app-1", echo)
        site.fake("b-1", lambda call: call.notify or call.reply("b"))
        site.start()
        yield site


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


@pytest.fixture
def worker(web):
    for one in web.workers:
        one.forget()
    return web.workers[0]


def error_of(r, status, code, id=None):
    assert r.status == status, r
    message = r.json()
    assert message["jsonrpc"] == "2.0" and "result" not in message
    assert message["error"]["code"] == code
    assert isinstance(message["error"]["message"], str)
    assert message["id"] == id
    return message


def test_single(client):
    r = client.rpc("demo.add", [2, 3], id=7)
    assert r.status == 200
    assert r.header("content-type").startswith("application/json")
    assert r.json() == {"jsonrpc": "2.0", "id": 7, "result": 5}


def test_error_of_the_worker_is_relayed_with_200(client):
    r = client.rpc("demo.error", {"code": 42, "message": "mine"}, id="e")
    assert r.status == 200
    assert r.json() == {"jsonrpc": "2.0", "id": "e", "error": {"code": 42, "message": "mine"}}


@pytest.mark.parametrize("id", [
    "0", "-0", "1", "1.0", "1e2", "-1.5E-3", "123456789012345678901234567890", "0.1000000000000000000001",
    '""', '"a"', '"\\u0041"', '"\\ud83d\\ude00"', '"\u00e9\U0001f600"', '"\\"\\\\\\/\\n"', "null",
])
def test_ids_are_byte_identical(client, worker, id):
    body = ('{"jsonrpc":"2.0","method":"demo.echo","id":%s}' % id).encode()
    r = client.post(body)
    assert r.status == 200
    assert worker.calls[0].body == body
    assert r.body == b'{"jsonrpc":"2.0","id":' + id.encode() + b',"result":null}'


@pytest.mark.parametrize("params", [
    "[]", "{}", '[ 1 ,\t2\r\n, {"a" : 1.50} ]', '{"a":1,"a":2}', '["\\u0000","\\/","/"]',
    "[1E400,-0.0,1e-999]", '["\u65e5\u672c\U0001f600\u0301"]', '[true,false,null,""]', '["\u007f"]',
    '["' + "x" * 100000 + '"]',
], ids=range(10))
def test_params_are_byte_identical(client, worker, params):
    body = ('{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":%s}' % params).encode()
    r = client.post(body)
    assert worker.calls[0].body == body
    assert r.body == b'{"jsonrpc":"2.0","id":1,"result":' + params.encode() + b"}"


def test_members_in_any_order_with_spaces_and_extras(client, worker):
    body = (b'{ "extra" : [{"method":"no","id":9}] ,\r\n"params":[1],\t"id" : 5 ,'
            b' "method":"demo.echo" , "jsonrpc" : "2.0" }')
    assert client.post(b" \r\n\t" + body + b"\n ").json()["id"] == 5
    assert worker.calls[0].body.strip() == body


def test_escaped_keys_and_method(client, worker):
    r = client.post(rb'{"\u006asonrpc":"2.\u0030","m\u0065thod":"dem\u006f.echo","\u0069d":1,'
                    rb'"p\u0061rams":[4]}')
    assert r.json()["result"] == [4]


def test_notification(client, worker):
    r = client.rpc("demo.echo", {"n": 1}, id=None)
    assert r.status == 204 and r.body == b""
    call = worker.wait_calls(1)
    assert call.flags & NOTIFY and call.params == {"n": 1}
    assert client.rpc("demo.echo", [1]).status == 200


def test_id_null_is_a_request(client, worker):
    r = client.post(b'{"jsonrpc":"2.0","method":"demo.echo","id":null}')
    assert r.status == 200 and r.json()["id"] is None
    assert not worker.calls[0].flags & NOTIFY


def test_unknown_method(client, worker):
    error_of(client.rpc("other.echo", id="q"), 404, -32601, "q")
    error_of(client.rpc("demoecho", id=1), 404, -32601, 1)
    error_of(client.rpc("getx", id=1), 404, -32601, 1)
    assert client.rpc("get", id=1).status == 200


def test_unknown_notification_gets_204(client):
    assert client.rpc("other.echo", id=None).status == 204


def test_methods_choose_the_pool(client):
    assert client.rpc("demo.echo", ["a"]).json()["result"] == ["a"]
    assert client.rpc("b.echo", ["a"]).json()["result"] == "b"
    assert client.rpc("health").json()["result"] == "b"


BATCH = [
    b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["one"]}',
    b'{"jsonrpc":"2.0","method":"demo.echo","params":["note"]}',
    b'{"jsonrpc":"2.0","id":"2","method":"b.x"}',
    b"1",
    b'{"jsonrpc":"2.0","id":3,"method":"unknown"}',
    b'{"jsonrpc":"2.0","id":4}',
    b'{"jsonrpc":"2.0","id":5,"method":"demo.error","params":{"code":9,"message":"m"}}',
    b'{"jsonrpc":"2.0","method":"unknown"}',
    b"[]",
]


def test_mixed_batch(client, worker):
    r = client.post(b"[" + b" ,\n".join(BATCH) + b"]")
    assert r.status == 200
    answers = r.json()
    assert len(answers) == 7
    by_id = {a["id"]: a for a in answers if a["id"] is not None}
    assert by_id[1]["result"] == ["one"]
    assert by_id["2"]["result"] == "b"
    assert by_id[3]["error"]["code"] == -32601
    assert by_id[4]["error"]["code"] == -32600
    assert by_id[5]["error"] == {"code": 9, "message": "m"}
    assert [a["error"]["code"] for a in answers if a["id"] is None] == [-32600, -32600]
    worker.wait_calls(3)
    assert [c.body for c in worker.calls] == [BATCH[0], BATCH[1], BATCH[6]]


def test_batch_of_one(client):
    assert client.post(b"[" + BATCH[0] + b"]").json() == [{"jsonrpc": "2.0", "id": 1, "result": ["one"]}]


def test_batch_answered_backwards(site):
    web = site()
    held = []

    def backwards(call):
        held.append(call)
        if len(held) == 30:
            for one in reversed(held):
                one.reply(one.params)

    web.fake(handler=backwards)
    web.start()
    with web.client() as client:
        batch = [json.loads(rpc_body("demo.echo", [n], n)) for n in range(30)]
        answers = client.post(json.dumps(batch).encode()).json()
        assert sorted((a["id"], a["result"][0]) for a in answers) == [(n, n) for n in range(30)]


def test_batch_of_notifications_gets_204(client, worker):
    assert client.post(b"[" + BATCH[1] + b"," + BATCH[1] + b"]").status == 204
    worker.wait_calls(2)
    assert client.post(b"[" + BATCH[1] + b"," + BATCH[7] + b"]").status == 204
    worker.wait_calls(3)


def test_batch_with_equal_ids(client):
    r = client.post(b"[" + b",".join([BATCH[0]] * 10) + b"]")
    assert r.json() == [{"jsonrpc": "2.0", "id": 1, "result": ["one"]}] * 10


def test_batch_of_invalid_members(client):
    r = client.post(b"[1,2,3]")
    assert r.status == 200
    assert [(a["error"]["code"], a["id"]) for a in r.json()] == [(-32600, None)] * 3


def test_empty_batch(client):
    error_of(client.post(b"[]"), 400, -32600)


@pytest.mark.parametrize("bad", [b"[%s,]", b"[%s", b"[%s}", b"[%s %s]", b"[,%s]", b"[%s,{]", b"%s,%s"])
def test_broken_batch_runs_nothing(client, worker, bad):
    body = bad.replace(b"%s", BATCH[0])
    error_of(client.post(body), 400, -32700)
    assert not worker.calls


@pytest.mark.parametrize("count", [999, 1000, 1001])
def test_batch_limit(client, count):
    batch = b"[" + b",".join(b'{"jsonrpc":"2.0","id":%d,"method":"demo.echo"}' % n
                             for n in range(count)) + b"]"
    r = client.post(batch)
    if count <= 1000:
        assert r.status == 200
        assert sorted(a["id"] for a in r.json()) == list(range(count))
    else:
        error_of(r, 413, -32005)


INVALID = {
    "no-version": (b'{"method":"demo.echo","id":7}', 7),
    "version-1": (b'{"jsonrpc":"1.0","method":"demo.echo","id":7}', 7),
    "version-number": (b'{"jsonrpc":2.0,"method":"demo.echo","id":7}', 7),
    "no-method": (b'{"jsonrpc":"2.0","id":7}', 7),
    "method-number": (b'{"jsonrpc":"2.0","method":1,"id":7}', 7),
    "method-null": (b'{"jsonrpc":"2.0","method":null,"id":7}', 7),
    "params-number": (b'{"jsonrpc":"2.0","method":"demo.echo","params":1,"id":7}', 7),
    "params-string": (b'{"jsonrpc":"2.0","method":"demo.echo","params":"x","id":7}', 7),
    "id-object": (b'{"jsonrpc":"2.0","method":"demo.echo","id":{}}', None),
    "id-array": (b'{"jsonrpc":"2.0","method":"demo.echo","id":[1]}', None),
    "id-true": (b'{"jsonrpc":"2.0","method":"demo.echo","id":true}', None),
    "no-id-no-method": (b'{"jsonrpc":"2.0"}', None),
    "empty": (b"{}", None),
    "number": (b"1", None),
    "string": (b'"demo.echo"', None),
    "null": (b"null", None),
    "true": (b"true", None),
}


@pytest.mark.parametrize("body, id", INVALID.values(), ids=INVALID.keys())
def test_invalid_requests(client, worker, body, id):
    error_of(client.post(body), 400, -32600, id)
    assert not worker.calls


def call(params):
    return b'{"jsonrpc":"2.0","method":"demo.echo","id":1,"params":[' + params + b"]}"


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"}", b"]", b"[", b"nul", b"demo", b"{}{}", b"{} x", b'{"a"}', b'{"a":}', b"{a:1}",
    b"{'a':1}", b'{"a":1,}', b'{"a":1 "b":2}', b'{"a":1,,"b":2}', b'{1:2}',
    call(b"1,"), call(b"01"), call(b"+1"), call(b"-"), call(b"1."), call(b".5"), call(b"1e"),
    call(b"0x10"), call(b"NaN"), call(b"Infinity"), call(b"-Infinity"), call(b"True"), call(b"'a'"),
    call(b'"a'), call(b'"\t"'), call(b'"\n"'), call(b'"\0"'), call(b'"\x1f"'), call(b'"\\x41"'),
    call(b'"\\u12"'), call(b'"\\u12G4"'), call(b'"\\"'), call(b"//c\n1"), call(b"/*c*/1"), call(b"\x0b1"),
    call(b"\xa01"), call(b'"\xff"'), call(b'"\xc0\xaf"'), call(b'"\xe0\x80\xaf"'),
    call(b'"\xed\xa0\x80"'), call(b'"\xf4\x90\x80\x80"'), call(b'"\xf8\x88\x80\x80\x80"'),
    call(b'"\xe2\x82"'), call(b'"\x80"'), call(b"") + b"\0",
], ids=repr)
def test_parse_errors(client, worker, body):
    error_of(client.post(body), 400, -32700)
    assert not worker.calls


def nested(depth):
    """A call nested so deep that the innermost value is in `depth` arrays and objects."""
    return call(b"[" * (depth - 2) + b"]" * (depth - 2))


@pytest.mark.parametrize("depth, status", [(127, 200), (128, 200), (129, 400), (200, 400)])
def test_depth_limit(client, depth, status):
    r = client.post(nested(depth))
    assert r.status == status
    if status == 400:
        assert r.json()["error"]["code"] in (-32700, -32600)


@pytest.mark.parametrize("body", [
    nested(100000), b"[" * 100000, b"[" * 100000 + b"]" * 100000, b'{"a":' * 100000,
    b'{"jsonrpc":"2.0","method":"demo.echo","id":' + b"[" * 100000,
], ids=["call", "open", "arrays", "objects", "id"])
def test_nesting_of_100000(web, client, body):
    shard = web.shard
    start = stat(shard)[3]
    r = client.post(body)
    assert r.status == 400 and r.json()["error"]["code"] in (-32700, -32600)
    assert stat(shard)[3] - start < 1       # s of CPU time
    assert web.shard == shard


def test_a_long_method_and_a_long_id(client):
    r = client.post(b'{"jsonrpc":"2.0","method":"demo.%s","id":"%s"}' % (b"m" * 50000, b"i" * 50000))
    assert r.status == 200 and r.json()["id"] == "i" * 50000
    r = client.post(b'{"jsonrpc":"2.0","method":"x.%s","id":"%s"}' % (b"m" * 50000, b"i" * 50000))
    error_of(r, 404, -32601, "i" * 50000)


def test_meta(web, client, worker):
    r = client.rpc("demo.echo", [1], path="/meta", headers=[
        ("Authorization", 'Bearer "x\\y"'), ("X-Tag", "1"), ("X-Other", "2")])
    assert r.status == 200
    meta = worker.calls[0].meta
    assert meta["peer"] == "127.0.0.1:%d" % client.sock.getsockname()[1]
    assert 0 < meta["deadline_ms"] <= 20000
    assert isinstance(meta["route"], str)
    assert meta["headers"] == {"authorization": 'Bearer "x\\y"', "x-tag": "1"}


def test_no_meta_where_not_asked_for(client, worker):
    client.rpc("demo.echo", [1], headers=[("Authorization", "x")])
    assert not set(worker.calls[0].meta) & {"peer", "headers", "deadline_ms", "route", "tls"}


def test_any_content_type(client):
    """JSON-RPC over HTTP names one, its clients send many."""
    for kind in ("application/json-rpc", "text/plain", "application/json; charset=utf-8"):
        r = client.request("POST", "/rpc", rpc_body("demo.echo", [1]), [("Content-Type", kind)])
        assert r.status == 200


@pytest.fixture(params=["workerd", "python_worker"])
def real(request, site):
    web = site(routes=[rpc_route(), http_route()])
    getattr(web, request.param)()
    return web.start()


def test_real_workers(real):
    """The whole way, with the workers that come with frontd."""
    with real.client() as client:
        assert client.rpc("demo.echo", {"\u00e9": [1, None]}, id="x").json() == \
            {"jsonrpc": "2.0", "id": "x", "result": {"\u00e9": [1, None]}}
        assert client.rpc("demo.add", [2, 3]).json()["result"] == 5
        assert client.rpc("demo.sleep", {"ms": 10}).json()["result"] is True
        error = client.rpc("demo.error", {"code": 5, "message": "m"}).json()["error"]
        assert (error["code"], error["message"]) == (5, "m")
        assert client.rpc("demo.unknown").json()["error"]["code"] == -32601
        assert client.rpc("demo.echo", [1], id=None).status == 204
        batch = [json.loads(rpc_body("demo.echo", [n], n)) for n in range(500)]
        answers = client.post(json.dumps(batch).encode()).json()
        assert sorted((a["id"], a["result"][0]) for a in answers) == [(n, n) for n in range(500)]
        page = client.request("GET", "/")
        assert page.status == 200 and page.body
        for method in ("POST", "PUT", "PATCH"):
            body = bytes(range(256)) * 100
            assert client.request(method, "/echo/below", body).body == body
        assert client.request("HEAD", "/").status == 200
