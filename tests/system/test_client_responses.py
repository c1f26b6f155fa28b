"""Workers that ask clients: a Response of a client's is never answered, and reaches the worker that has asked."""
import json
import signal
import time

import pytest

from fakeworker import echo, hold
from harness import rpc_route, wait_for, ws_route
from httpclient import rpc_request

KINDS = ["ws", "frame", "line"]
every_kind = pytest.mark.parametrize("kind", KINDS)
RESULT = '{"jsonrpc":"2.0","id":%s,"result":%s}'
NOT_VALID = [
    '{"jsonrpc":"2.0","id":7,"result":1,"error":{"code":1,"message":"m"}}',
    '{"jsonrpc":"2.0","result":1}',
    '{"jsonrpc":"2.0","id":7,"error":{"code":"1","message":"m"}}',
    '{"jsonrpc":"2.0","id":7,"error":null}',
    '{"jsonrpc":"2.0","id":[7],"result":1}',
    '{"jsonrpc":"1.0","id":7,"result":1}',
    '{"id":7,"result":1}',
    '{"jsonrpc":"2.0","id":7,"Result":1}',
    '{"jsonrpc":"2.0","id":7,"result":1,"result":2}',
    '{"jsonrpc":"2.0","id":7,"id":8,"result":1}',
    '{"jsonrpc":"2.0","id":7,"result":1,"Id":8}',
    '{"jsonrpc":"2.0","id":7,"method":null,"result":1,"error":null}',
]


def build(site, responses=True, workers=1, handler=echo, pool=None, hello=None, limits=None, shards=1, drain="1s",
          **keys):
    stream = {"responses": responses, **keys}
    web = site(shards=shards, routes=[ws_route(**stream), rpc_route()], streams={"frame": stream, "line": stream},
               pools={"app": pool or {}}, limits=limits, drain=drain)
    for n in range(workers):
        web.fake("app-%d" % (n + 1), handler=handler, hello=(hello or {}).get(n))
    web.start()
    return web, web.workers[0]


def alive(client, id=7):
    """Nothing has come so far, and a call of the client's with that id gets its own answer."""
    assert client.call("demo.echo", ["mine"], id=id) == ["mine"]


def dropped(web, why, count):
    wait_for(lambda: "a client's Response is dropped: %s; %d so far" % (why, count) in web.front.text(),
             "a line that says: %s" % why)


@every_kind
def test_a_response_is_not_answered(site, kind):
    """By default it is dropped: the client's own call with that id is not touched."""
    web, worker = build(site, responses=False)
    with web.stays(kind) as client:
        client.ask("demo.echo", ["mine"], id=7)
        client.send_text((RESULT % (7, "true")).encode())
        answer = client.read_json()
        assert (answer["id"], answer["result"]) == (7, ["mine"])
        for text in [RESULT % (7, "true"), '{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}', *NOT_VALID]:
            client.send_text(text.encode())
            alive(client)
    assert not worker.responses
    dropped(web, "the route does not say `responses: true`", 1)
    web.front.signal(signal.SIGTERM)
    web.front.wait()
    assert "%d Responses of clients were dropped" % (3 + len(NOT_VALID)) in web.front.text()


@every_kind
def test_a_worker_gets_it(site, kind):
    web, worker = build(site, meta=["peer"])
    with web.stays(kind) as client, web.stays(kind) as other:
        conn, _ = client.who()
        other.who()
        worker.channel().push(conn, b'{"jsonrpc":"2.0","id":7,"method":"confirm"}')
        assert client.read_json() == {"jsonrpc": "2.0", "id": 7, "method": "confirm"}
        texts = [RESULT % (id, result) for id, result in (
            ("7", "true"), ("7", "null"), ('"7"', '{"a":[1,  2]}'), ("null", "0"), ("12345678901234567890", '"\\u00e9"'),
            ("1.50", "[]"), ('"\\u0061\\/"', '{"id":1,"id":2,"Method":"x"}'))]
        texts += ['{ "error" : {"code":-32601,"message":"m","data":[1]} , "id":7,\t"jsonrpc":"2.0","more":1 }',
                  '{"jsonrpc":"2.0","id":7,"method":null,"params":null,"result":true}']
        for n, text in enumerate(texts, 1):
            client.send_text(text.encode())
            worker.wait(lambda: len(worker.responses) == n, "response %d" % n)
            got = worker.responses[-1]
            assert got.notify and got.conn == conn and got.method == "frontd.response"
            assert got.body == b'{"jsonrpc":"2.0","method":"frontd.response","params":{"conn":"%d","response":%s}}' % (
                conn, text.encode())
            assert got.meta["peer"].startswith("127.0.0.1:")
            alive(client)
        alive(other)
    assert "dropped" not in web.front.text()


@every_kind
def test_those_that_are_not_valid(site, kind):
    web, worker = build(site)
    with web.stays(kind) as client:
        for text in NOT_VALID:
            client.send_text(text.encode())
            alive(client)
            client.send_text(('[%s,{"jsonrpc":"2.0","id":7,"method":"demo.echo","params":[2]}]' % text).encode())
            assert [(a["id"], a["result"]) for a in client.read_json()] == [(7, [2])]
        # with a method, however it is written, it is a request
        for text in ('{"jsonrpc":"2.0","id":7,"method":1,"result":1}', '{"jsonrpc":"2.0","id":7,"Method":"m","result":1}',
                     '{"jsonrpc":"2.0","id":7}'):
            client.send_text(text.encode())
            answer = client.read_json()
            assert (answer["id"], answer["error"]["code"]) == (7, -32600)
    assert not worker.responses
    dropped(web, "it is not valid", 1)


@every_kind
def test_in_batches(site, kind):
    """Each by itself, and none has a part in the answer; a batch of nothing else has no answer."""
    web, worker = build(site)
    with web.stays(kind) as client:
        conn, _ = client.who()
        members = [RESULT % (1, 1), '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["a"]}', NOT_VALID[0],
                   '{"jsonrpc":"2.0","method":"demo.echo"}', RESULT % (2, 2), "1",
                   '{"jsonrpc":"2.0","id":2,"method":"demo.echo","params":["b"]}']
        client.send_text(("[%s]" % ",".join(members)).encode())
        answers = client.read_json()
        assert sorted((a["id"], a["result"]) for a in answers if "result" in a) == [(1, ["a"]), (2, ["b"])]
        assert [(a["id"], a["error"]["code"]) for a in answers if "error" in a] == [(None, -32600)]
        client.send_text(("[%s,%s]" % (RESULT % (3, 3), NOT_VALID[1])).encode())
        client.send_text(("[%s]" % (RESULT % (4, 4))).encode())
        alive(client)
        worker.wait(lambda: len(worker.responses) == 4, "4 responses")
        assert [r.params["response"]["id"] for r in worker.responses] == [1, 2, 3, 4]
        assert {r.conn for r in worker.responses} == {conn}


def test_in_a_post(site):
    """There is no connection to push to: 204 as for a notification, and never an error."""
    web, worker = build(site)
    with web.client() as client:
        for text in (RESULT % (7, 1), "[%s]" % (RESULT % (7, 1)), '[%s,{"jsonrpc":"2.0","method":"demo.echo"}]' % NOT_VALID[0],
                     *NOT_VALID):
            r = client.post(text.encode())
            assert (r.status, r.body) == (204, b""), text
        r = client.post(('[%s,{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":[1]}]' % (RESULT % (1, 2))).encode())
        assert r.status == 200 and r.json() == [{"jsonrpc": "2.0", "id": 1, "result": [1]}]
    assert not worker.responses
    dropped(web, "it came in an HTTP request, to which no worker can push", 1)


def test_no_worker_takes_it(site):
    web, worker = build(site, pool={"methods": ["demo.*"]})
    with web.ws() as client:
        client.send_text((RESULT % (7, 1)).encode())
        alive(client)
    dropped(web, "no pool of the route takes frontd.response", 1)


def test_no_worker_takes_it_in_time(site):
    web, worker = build(site, hello={0: {"methods": ["demo.*"]}}, timeout="200ms")
    with web.ws() as client:
        client.send_text((RESULT % (7, 1)).encode())
        dropped(web, "method not found", 1)
        alive(client)
    web, worker = build(site, pool={"wait_for_worker": "100ms"}, workers=1)
    with web.ws() as client:
        client.who()
        worker.close()
        web.workers.remove(worker)
        client.send_text((RESULT % (7, 1)).encode())
        dropped(web, "unavailable", 1)


@pytest.mark.parametrize("limit", [1, 2])
def test_calls_per_connection(site, limit):
    """They count as the notifications that they become: one after the other, and all of them."""
    web, worker = build(site, limits={"calls_per_connection": limit, "batch": 300})
    with web.ws() as client:
        client.send_text(("[%s]" % ",".join(RESULT % (n, n) for n in range(300))).encode())
        for n in range(300, 400):
            client.send_text((RESULT % (n, n)).encode())
        alive(client)
        worker.wait(lambda: len(worker.responses) == 400, "400 responses")
        assert [r.params["response"]["id"] for r in worker.responses] == list(range(400))


def test_one_that_is_too_large_for_a_frame(site):
    web, worker = build(site, limits={"body": "1MiB"}, hello={0: {"max_frame": 4096}})
    with web.ws() as client:
        client.send_text((RESULT % (7, '"%s"' % ("x" * 5000))).encode())
        dropped(web, "too large", 1)
        alive(client)
        client.send_text((RESULT % (7, '"%s"' % ("x" * 3000))).encode())
        worker.wait(lambda: worker.responses, "a response")


def nested(depth):
    """A Response with so many objects and arrays around each other."""
    return RESULT % ('"w0-1"', "[" * (depth - 1) + "]" * (depth - 1))


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
def test_nesting(site, batch):
    """frontd.response adds two levels: what a worker gets is nested as deep as any call may be, and not deeper."""
    web, worker = build(site, hello=names(1))
    with web.ws() as client:
        client.who()
        for depth in range(127, 129 - batch):
            client.send_text((("[%s]" if batch else "%s") % nested(depth)).encode())
            alive(client)
        dropped(web, "it is nested too deep to be a member of params", 1)
        for depth in (126, 125):
            client.send_text(nested(depth).encode())
        worker.wait(lambda: len(worker.responses) == 2, "those that fit")
        assert worker.responses[0].body.count(b"[") == 125


def test_hash_by_connection(site):
    """Without more, what goes to which worker is the pool's business; with hash: conn all of a connection's."""
    web, _ = build(site, workers=4, pool={"balance": "hash", "hash": "conn"})
    for worker in web.workers:
        worker.wait_ready()
    for n in range(10):
        with web.ws() as client:
            conn, _ = client.who()
            of, = (w for w in web.workers if any(c.conn == conn for c in w.calls))
            client.send_text((RESULT % (n, 1)).encode())
            of.wait(lambda: [r for r in of.responses if r.conn == conn], "the response")


def names(count):
    return {n: {"responses": "w%d-" % n, "concurrency": 1} for n in range(count)}


@every_kind
def test_the_one_that_has_asked(site, kind):
    """By the beginning of the id, with every slot of that worker taken, on any shard."""
    held = []

    def handler(call):
        if call.method == "hold":
            held.append(call)
        else:
            echo(call)
    web, _ = build(site, workers=3, hello=names(3), handler=handler, shards=2)
    for worker in web.workers:
        worker.wait_ready(2)
    with web.client() as busy, web.stays(kind) as client:
        client.who()
        busy.send(b"".join(rpc_request("hold", id=n) for n in range(3)))
        wait_for(lambda: len(held) == 3, "every worker to be busy")
        for n in (2, 0, 1, 2):
            for id in ('"w%d-17"' % n, '"w%d-"' % n, '"\\u0077%d-\\u00e9"' % n):
                before = len(web.workers[n].responses)
                client.send_text((RESULT % (id, n)).encode())
                web.workers[n].wait(lambda: len(web.workers[n].responses) == before + 1, "the response")
        for call in held:
            call.reply()
        # of nobody, and so of anybody
        before = sum(len(w.responses) for w in web.workers)
        ids = ['"w3-1"', '"w1"', "1", "null", '"W1-1"', '"x"', '""']
        for id in ids:
            client.send_text((RESULT % (id, 1)).encode())
        wait_for(lambda: sum(len(w.responses) for w in web.workers) == before + len(ids), "all the others")
        alive(client)


def test_of_another_pool(site):
    """Whoever may push to a connection gets the answer: a worker of its realm, whatever the pool; and nobody else."""
    route = {"responses": True}
    web = site(routes=[ws_route(**route), rpc_route()], pools={
        "app": {"methods": ["demo.*", "who"]}, "jobs": {}, "deaf": {"methods": ["demo.*"]}, "foreign": {"realm": "foreign"}})
    app, jobs, deaf, foreign = (web.fake(name + "-1", hello={"responses": name}) for name in ("app", "jobs", "deaf", "foreign"))
    web.start()
    with web.ws() as client:
        conn, _ = client.who()
        jobs.channel().push(conn, b'{"jsonrpc":"2.0","id":"jobs1","method":"m"}')
        assert client.read_json()["id"] == "jobs1"
        client.send_text((RESULT % ('"jobs1"', 1)).encode())
        jobs.wait(lambda: jobs.responses, "the response")
        assert "no pool of the route takes" not in web.front.text()
        for n, name in enumerate(("app", "deaf", "foreign"), 1):
            client.send_text((RESULT % ('"%s1"' % name, 1)).encode())
            alive(client)
        dropped(web, "no pool of the route takes frontd.response", 1)
    assert not app.responses + deaf.responses + foreign.responses


def test_one_that_begins_like_another(site):
    """The longest that fits, whichever worker came first, and whatever its pool."""
    tokens = ["app-1", "app-10", "app-100", "app"]
    web = site(routes=[ws_route(responses=True), rpc_route()], pools={"app": {}, "jobs": {}})
    workers = [web.fake("%s-%d" % (("app", "jobs")[n % 2], n), hello={"responses": token}) for n, token in enumerate(tokens)]
    web.start()
    for worker in workers:
        worker.wait_ready()
    with web.ws() as client:
        client.who()
        for worker, token in zip(workers, tokens):
            client.send_text((RESULT % ('"%s.0"' % token, 1)).encode())
            worker.wait(lambda: worker.responses, "the response to " + token)
            assert [r.params["response"]["id"] for r in worker.responses] == [token + ".0"]
        alive(client)
    assert [len(worker.responses) for worker in workers] == [1] * 4


def test_it_takes_no_other_method(site):
    """`responses` in HELLO says that these are taken, whatever `methods` say; other ids are not its own."""
    web, worker = build(site, hello={0: {"responses": "a", "methods": ["demo.*", "who"]}}, timeout="200ms")
    with web.ws() as client:
        client.send_text((RESULT % ('"a1"', 1)).encode())
        worker.wait(lambda: worker.responses, "the response")
        client.send_text((RESULT % ('"b1"', 1)).encode())
        dropped(web, "method not found", 1)
        assert len(worker.responses) == 1


def test_the_one_that_has_asked_goes(site):
    web, _ = build(site, workers=2, hello=names(2))
    for worker in web.workers:
        worker.wait_ready()
    first, second = web.workers
    with web.ws() as client:
        client.who()
        first.hide()    # else there is a new channel to it soon, to which the Response may go
        for channel in first.live():
            channel.goaway_now(channel.last_call)
        wait_for(lambda: "goes away" in web.front.text() or "GOAWAY" in web.front.text(), "the GOAWAY to be read")
        client.send_text((RESULT % ('"w0-1"', 1)).encode())
        second.wait(lambda: second.responses, "the response")
        assert not first.responses


def test_the_one_that_has_asked_does_not_read(site):
    """Its Responses are of no use to another worker: they are dropped, and the log says so."""
    web, _ = build(site, workers=2, hello=names(2))
    for worker in web.workers:
        worker.wait_ready()
    first, second = web.workers
    size, count = 900_000, 10       # together more than a channel and its socket hold
    with web.ws(timeout=60) as client:
        client.who()
        first.channel().paused.set()
        for n in range(count):
            client.send_text((RESULT % ('"w0-%d"' % n, '"%s"' % ("x" * size))).encode())
        dropped(web, "the worker that has asked does not read", 1)
        client.send_text((RESULT % ('"w1-1"', 1)).encode())
        second.wait(lambda: second.responses, "the response of one that reads")
        assert [r.params["response"]["id"] for r in second.responses] == ["w1-1"]
        first.channel().paused.clear()
        got = []

        def reads():
            client.send_text((RESULT % ('"w0-end"', 1)).encode())
            got[:] = [r.params["response"]["id"] for r in list(first.responses)]
            return "w0-end" in got
        wait_for(reads, "it to get them again", 60, 0.05)
        alive(client)
    sent = got.index("w0-end")
    assert 4 <= sent < count and got[:sent] == ["w0-%d" % n for n in range(sent)]
    assert len(second.responses) == 1


@pytest.mark.parametrize("wrong", ["", "a" * 65, "a b", "a.b", "\u00e9", 7, None, ["a"], "a\n"])
def test_bad_responses_in_hello(site, wrong):
    web = site(routes=[rpc_route()])
    worker = web.fake(on_hello=lambda channel: channel.hello(**({} if wrong is None else {"responses": wrong})))
    worker.tolerant = True
    web.start(ready=wrong is None)
    if wrong is None:
        assert web.rpc("demo.echo", [1]).json()["result"] == [1]
    else:
        wait_for(lambda: "bad HELLO" in web.front.text(), "the HELLO to be refused")


@pytest.mark.parametrize("length", [1, 64])
def test_length_of_responses_in_hello(site, length):
    name = "a" * length
    web, worker = build(site, hello={0: {"responses": name, "methods": ["who", "demo.*"]}})
    with web.ws() as client:
        client.send_text((RESULT % ('"%s"' % name, 1)).encode())
        worker.wait(lambda: worker.responses, "the response")


@every_kind
@pytest.mark.parametrize("late", [0, 0.3])
def test_over_a_reload(site, kind, late):
    """Nothing is kept: asked by one generation, answered to the next one, though that worker greets it late."""
    web, _ = build(site, workers=2, hello=names(2))
    for worker in web.workers:
        worker.wait_ready()
    web.workers[1].on_hello = lambda channel: (time.sleep(late), channel.hello())
    with web.stays(kind) as client:
        conn, _ = client.who()
        web.workers[1].channel().push(conn, b'{"jsonrpc":"2.0","id":"w1-1","method":"confirm"}')
        assert client.read_json()["method"] == "confirm"
        old = web.shards()
        web.front.signal(signal.SIGHUP)
        wait_for(lambda: set(web.shards()).isdisjoint(old), "the old shards to end", timeout=30)
        client.send_text((RESULT % ('"w1-1"', "true")).encode())
        web.workers[1].wait(lambda: web.workers[1].responses, "the response")
        assert web.workers[1].responses[0].conn == conn
        alive(client)


@every_kind
def test_for_a_call_that_is_in_progress_over_a_reload(site, kind):
    """Its connection stays with the old shards until it is answered, and is read there meanwhile."""
    def handler(call):
        (hold if call.method == "hold" else echo)(call)
    web, worker = build(site, hello=names(1), handler=handler, drain="60s")
    with web.stays(kind) as client:
        conn, _ = client.who()
        client.ask("hold", id=1)
        worker.wait(lambda: worker.calls[-1].method == "hold", "the call")
        old = web.shards()
        web.front.signal(signal.SIGHUP)
        wait_for(lambda: "generation 2 serves" in web.front.text(), "the new shards")
        for n in range(3):
            client.send_text((RESULT % ('"w0-%d"' % n, n)).encode())
            worker.wait(lambda: len(worker.responses) == n + 1, "response %d" % n)
        assert set(old) <= set(web.shards())
        worker.calls[-1].reply("done")
        assert client.read_json()["result"] == "done"
        wait_for(lambda: set(web.shards()).isdisjoint(old), "the old shards to end", timeout=30)
        client.send_text((RESULT % ('"w0-9"', 9)).encode())
        worker.wait(lambda: len(worker.responses) == 4, "the last response")


def test_a_client_that_asks_and_answers_at_once(site):
    """Both directions use the same ids, and neither takes the other's answer."""
    def handler(call):
        if call.method == "ask":
            call.push(b'{"jsonrpc":"2.0","id":%s,"method":"confirm"}' % call.id)
        hold(call)
    web, worker = build(site, handler=handler)
    with web.ws() as client:
        for n in range(50):
            client.ask("ask", id=n)
            assert client.read_json() == {"jsonrpc": "2.0", "id": n, "method": "confirm"}
            client.send_text((RESULT % (n, '"yes %d"' % n)).encode())
            worker.wait(lambda: len(worker.responses) == n + 1, "the response")
            worker.calls[-1].reply(worker.responses[-1].params["response"]["result"])
            assert client.read_json() == {"jsonrpc": "2.0", "id": n, "result": "yes %d" % n}
