"""The id that a client gets is its request's, byte for byte, whatever a worker makes of it (PROTOCOL.md section 5)."""
import json
import re

import pytest

from fakeworker import DATA, MORE, RESPONSE, frame
from harness import rpc_route, wait_for, ws_route
from httpclient import request

KINDS = ["post", "batch", "pipelined", "ws", "ws-batch", "frame", "line"]

IDS = [     # the client's, and what a worker may write for it
    (b"9007199254740993", b"9007199254740992"), (b"1.0", b"1"), (b"1", b"1.0"), (b"1e2", b"100"), (b"0", b"-0"),
    (b"123456789012345678901234567890", b"1.2345678901234568e+29"), (b'"\\u00e9"', b'"\xc3\xa9"'),
    (b'"\xc3\xa9"', b'"\\u00e9"'), (b'"a\\/b"', b'"a/b"'), (b'"a"', b"1"), (b'"a"', b"null"), (b"null", b"7"), (b"7", b'"7"'),
    (b'""', b'"other"'), (b'"' + b"x" * 70000 + b'"', b"1"), (b"1", b'"' + b"y" * 70000 + b'"'), (b"5", b"5"),
    (b'"\\ud800"', b'"\xef\xbf\xbd"'), (b'"},\\"id\\":1,{"', b"1"),
]
ANSWERS = [     # %s: the worker's id, as bytes. The rest of what the client gets is as it stands here.
    b'{"jsonrpc":"2.0","id":%s,"result":1}', b'{"id":%s,"jsonrpc":"2.0","result":{"id":2,"x":[{"id":"3"}]}}',
    b'{"result":"\\"id\\":1","jsonrpc":"2.0","id":%s}', b' { "result" : null ,\t"id" : %s , "jsonrpc" : "2.0" } ',
    b'{"jsonrpc":"2.0","error":{"code":1,"message":"m","data":{"id":4}},"id":%s}',
    b'{"jsonrpc":"2.0","extra":{"id":5},"id":%s,"idx":6,"result":{}}', b'{"\\u0069d":%s,"jsonrpc":"2.0","result":[]}',
]


def build(site, handler, **keys):
    web = site(routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}, **keys)
    worker = web.fake(handler=handler)
    worker.keep_frames = False
    web.start()
    return web, worker


def call(id, method=b"m"):
    return b'{"jsonrpc":"2.0","method":"%s","id":%s}' % (method, id)


class Line:
    """A client of one kind that stays for many calls. answer() has the bytes of the answer to one with that id."""

    def __init__(self, web, kind):
        self.kind = kind
        self.client = web.stays(kind.split("-")[0]) if kind in ("ws", "ws-batch", "frame", "line") else web.client()

    def answer(self, id):
        client, text = self.client, call(id)
        if self.kind in ("batch", "ws-batch"):
            text = b"[%s]" % text
        if self.kind in ("ws", "ws-batch", "frame", "line"):
            client.send_text(text)
            found = client.read_text()
        else:
            if self.kind == "pipelined":        # behind one that is answered last
                client.send(request("POST", "/rpc", call(b"0", b"slow")))
            client.send(request("POST", "/rpc", text))
            if self.kind == "pipelined":
                assert client.read_response().json() == {"jsonrpc": "2.0", "id": 0, "result": "slow"}
            found = client.read_response().body
        return found[1:-1] if "batch" in self.kind else found


@pytest.mark.parametrize("kind", KINDS)
def test_the_id_is_the_clients(site, kind):
    pending = []

    def answer(c):
        if c.method == "slow":
            pending.append(c)
            return
        c.send(made[0])
        while pending:
            pending.pop().reply("slow")
    web, worker = build(site, answer)
    line = Line(web, kind)
    with line.client:
        for n, (ours, theirs) in enumerate(IDS):
            for template in ANSWERS if n == 0 or n == 14 else [ANSWERS[n % len(ANSWERS)]]:
                made = [template % theirs]
                got = line.answer(ours)
                expected = template % ours
                if kind == "line":          # where a line is a message
                    expected = expected.replace(b"\n", b" ")
                assert got == expected, (ours[:50], theirs[:50])
        assert "is dropped" not in web.front.text()
    assert len(worker.channels) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_one_id(site, kind):
    """What has none, or a strange one, or several, is no response: an error with the client's id, and a log line."""
    answers = [b'{"jsonrpc":"2.0","result":1}', b'{"jsonrpc":"2.0","id":[1],"result":1}',
               b'{"jsonrpc":"2.0","id":{},"result":1}', b'{"jsonrpc":"2.0","id":false,"result":1}',
               b'{"jsonrpc":"2.0","id":1,"result":1,"id":1}', b'{"jsonrpc":"2.0","id":1,"result":1,"id":2}',
               b'{"jsonrpc":"2.0","id":1,"ID":1,"result":1}', b'{"jsonrpc":"2.0","Id":1,"result":1,"id":1}',
               b'{"jsonrpc":"2.0","id":1,"\\u0069d":2,"result":1}', b'{"jsonrpc":"2.0","id":1,"result":1,"result":2}',
               b'{"jsonrpc":"2.0","id":1,"result":1,"Result":2}', b'{"jsonrpc":"2.0","id":1,"result":1,"ERROR":{}}',
               b'{"jsonrpc":"2.0","id":1,"\xc4\xb0d":2,"result":1}', b'{"jsonrpc":"2.0","id":1,"re\xc5\xbfult":2,"result":1}',
               b'{"jsonrpc":"2.0","JSONRPC":"1.0","id":1,"result":1}']
    web, worker = build(site, lambda c: c.reply("slow") if c.method == "slow" else c.send(made[0]))
    line = Line(web, kind)
    with line.client:
        for n, text in enumerate(answers):
            made = [text]
            got = json.loads(line.answer(b"%d" % n))
            assert got == {"jsonrpc": "2.0", "id": n,
                           "error": {"code": -32007, "message": "bad worker response"}}, text
    wait_for(lambda: "its answer to `m` is no JSON-RPC response: the client gets -32007" in
             web.front.text(), "a line in the log")
    assert len(worker.channels) == 1


def test_many_clients_with_the_same_ids(site):
    """All use the same ids, the worker mixes up the order and writes none of them: nobody gets what is another's."""
    held = []

    def answer(c):
        held.append(c)
        if len(held) == 40:
            for other in sorted(held, key=lambda c: hash((c.params[0], c.params[1] * 7919 % 97))):
                other.send(b'{"jsonrpc":"2.0","id":null,"result":%s}' % json.dumps(other.params).encode())
            held.clear()
    web, _ = build(site, answer)
    clients = [web.ws() for _ in range(8)]
    try:
        for turn in range(20):
            for who, client in enumerate(clients):
                for id in range(5):
                    client.send_json({"jsonrpc": "2.0", "id": id, "method": "m", "params": [who, id, turn]})
            for who, client in enumerate(clients):
                found = sorted((client.read_json() for _ in range(5)), key=lambda a: a["id"])
                assert [(a["id"], a["result"]) for a in found] == [(id, [who, id, turn]) for id in range(5)]
    finally:
        for client in clients:
            client.close()


def test_a_streamed_answer(site):
    def answer(c):
        c.channel.finished(c)
        c.channel.send(frame(RESPONSE, c.call, b'{"jsonrpc":"2.0","id":1,"result":"r"}', flags=MORE)
                       + frame(DATA, c.call))
    web, _ = build(site, answer)
    with web.client() as client:
        assert client.post(call(b'"s\\u0031"')).body == b'{"jsonrpc":"2.0","id":"s\\u0031","result":"r"}'


def test_the_limits_count_what_the_client_gets(site):
    """An id that is longer than the worker's makes the answer longer: a batch has room for 16 MiB with it."""
    size = 1 << 20
    answer = b'{"jsonrpc":"2.0","id":%s,"result":""}'
    rest = len(answer % b'""')
    room = (16 << 20) - size * 15
    for more, fits in ((0, True), (1, False)):
        web, _ = build(site, lambda c: c.send(answer % b"1"), limits={"body": "32MiB", "write_buffer": "64MiB"})
        ids = [b'"%s"' % (b"%x" % n * (size - rest)) for n in range(15)]
        last = b'"%s"' % (b"z" * (room - rest - 15 + more))     # a bracket and 14 commas are before it
        with web.client(timeout=30) as client:
            body = client.post(b"[%s]" % b",".join(call(id) for id in ids + [last])).body
            found = json.loads(body)
            assert ("error" in found[-1]) == (not fits)
            if fits:
                assert len(body) == (16 << 20) + 2      # with the last comma and bracket
            else:
                assert found[-1]["error"]["code"] == -32005
            assert [a["id"] for a in found] == [json.loads(id) for id in ids + [last]]
            assert re.fullmatch(rb"\[.*\]", body, re.DOTALL)
        web.stop()
