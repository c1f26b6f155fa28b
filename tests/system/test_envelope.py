"""Members of a JSON-RPC message that two parsers could read in two ways: refused, whatever carries the message."""
import json

import pytest

from harness import Site, failed, rpc_route, ws_route

KINDS = ["http", "ws", "frame", "line"]
GOOD = {"jsonrpc": '"2.0"', "id": "1", "method": '"demo.echo"', "params": "[7]"}
OTHER = {"jsonrpc": '"2.0"', "id": "2", "method": '"demo.wipe"', "params": "[8]"}


def spellings(name):
    """Other ways to write a name that some parser takes for it."""
    yield name
    yield name[0].upper() + name[1:]
    yield name.upper()
    yield name[:-1] + name[-1].upper()
    yield "\\u%04x%s" % (ord(name[0]), name[1:])
    yield "\\u%04X%s" % (ord(name[0].upper()), name[1:])
    yield "".join("\\u%04x" % ord(c) for c in name.upper())
    yield name + "\\u0000"
    if "s" in name:
        yield name.replace("s", "\u017f")
        yield name.replace("s", "\\u017F")
    if "i" in name:
        yield name.replace("i", "\u0131")
        yield name.replace("i", "\\u0130")


def written(members):
    return "{%s}" % ",".join('"%s":%s' % pair for pair in members)


def doubtful():
    """(text, name of the member in doubt) of requests that are right but for one member more."""
    for name in GOOD:
        for spelling in spellings(name):
            more = (spelling, OTHER[name])
            yield written([*GOOD.items(), more]), name
            yield written([more, *GOOD.items()]), name
        for spelling in (name.upper(), "\\u%04X%s" % (ord(name[0].upper()), name[1:])):
            yield written([(spelling if k == name else k, v) for k, v in GOOD.items()]), name


@pytest.fixture(scope="module")
def web():
    with Site(routes=[rpc_route(), ws_route()], streams={"frame": {}, "line": {}}) as site:
        site.fake()
        yield site.start()


@pytest.fixture
def worker(web):
    web.workers[0].forget()
    return web.workers[0]


class Asker:
    """A client of any kind that has one text answered."""

    def __init__(self, web, kind):
        self.client = web.client() if kind == "http" else web.stays(kind)
        self.http = kind == "http"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def ask(self, text):
        if self.http:
            r = self.client.post(text.encode())
            answer = r.json()
            assert r.status == (400 if isinstance(answer, dict) and "error" in answer else 200)
            return answer
        self.client.send_text(text.encode())
        return self.client.read_json()


@pytest.fixture(params=KINDS)
def asker(web, request):
    with Asker(web, request.param) as made:
        yield made


def check(answer, name):
    assert answer["error"]["code"] == -32600, name
    assert answer["id"] == (None if name == "id" else 1), "the id that is sure, and no other"


def test_two_readings_are_refused(asker, worker):
    for text, name in doubtful():
        check(asker.ask(text), name)
    assert not worker.calls
    assert asker.ask(written(GOOD.items()))["result"] == [7]


def test_only_that_member_of_a_batch(asker, worker):
    fine = '{"jsonrpc":"2.0","id":9,"method":"demo.echo","params":["fine"]}'
    for text, name in doubtful():
        answers = asker.ask("[%s,%s,%s]" % (fine, text, fine))
        assert len(answers) == 3
        right = [a for a in answers if "result" in a]
        assert [(a["id"], a["result"]) for a in right] == [(9, ["fine"])] * 2
        wrong, = (a for a in answers if "error" in a)
        check(wrong, name)
    assert {c.method for c in worker.calls} == {"demo.echo"} and all(c.params == ["fine"] for c in worker.calls)


def test_notifications_too(asker, worker):
    """Without an id that is sure there is none to answer with, as for all that is no request."""
    for more in ('"Method":"demo.wipe"', '"method":"demo.wipe"', '"PARAMS":[]', '"\\u0049d":1'):
        answer = asker.ask('{"jsonrpc":"2.0","method":"demo.echo",%s}' % more)
        assert (answer["id"], answer["error"]["code"]) == (None, -32600), more
    assert not worker.calls


@pytest.mark.parametrize("more", [
    '"methods":1,"Methods":2,"methods":3', '"\\u0000method":1', '"m\\u00e9thod":1', '"":1,"":2', '"meta":1,"META":2',
    '"result":1,"result":2,"Error":3', '"id ":1,"_id":2,"idx":3', '"x":{"id":1,"ID":2,"id":3}'])
def test_all_else_is_passed_on(asker, worker, more):
    text = '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":{"a":1,"a":2,"A":3,"Method":4,"id":5},%s}' % more
    assert "result" in asker.ask(text)
    assert worker.calls[-1].body == text.encode()


def test_a_worker_that_answers_twice_over(web, worker):
    """The other direction: what clients could read in two ways is no JSON-RPC response."""
    good = b'"jsonrpc":"2.0","id":1,"result":1'
    for more in (b'"result":2', b'"Result":2', b'"id":2', b'"Id":2', b'"\\u0049d":2', b'"ERROR":null', b'"jsonrpc":"2.0"',
                 "\"re\u017fult\":2".encode()):
        worker.handler = lambda call: call.send(b"{%s,%s}" % (good, more))
        with web.client() as client:
            failed(client.rpc("demo.echo", []), 502, -32007)
        with web.ws() as client:
            client.ask("demo.echo")
            assert client.read_json()["error"]["code"] == -32007
