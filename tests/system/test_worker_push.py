"""What both worker libraries send about connections that stay (section 9).

In C through the module tests/modules/push.c, in Python through a script that does the same.
"""

import json
import socket

import pytest

from fakefront import (BINARY, DISCONNECT, GOAWAY, NOTIFY, PUBLISH, PUSH, RESPONSE, STATE, SUBSCRIBE,
                       UNSUBSCRIBE, FakeFront)
from test_workerd import DEMO, FOREVER, MODULES, WORKERD
from workerproc import starting

EINVAL, EMSGSIZE, ENOTCONN, ENOBUFS = -22, -90, -107, -105
WAITING_MAX = 4 * 1024 * 1024  # bytes for a front that does not read (docs/workerd.md)


SCRIPT = '''
import asyncio, json, os
from frontd_worker import RpcError, Worker, channel, run

channel.LINGER = float(os.environ.get("LINGER", channel.LINGER))
worker = Worker(concurrency=0, threads=4)
kept = None

def once(ctx, op, conn, kind, topic, reason, code, after, data):
    message = (data if kind == "binary" else json.loads(data) if kind == "json" else data.decode())
    if op == "progress":
        return ctx.progress(message)
    if op == "publish":
        return worker.publish(topic, message, conn if after else None)
    if conn is None:
        raise ValueError("no connection")
    if op == "push":
        conn.push(message)
    elif op == "keep":
        conn.keep(data)
    elif op == "disconnect":
        conn.disconnect(code, reason)
    else:
        getattr(conn, op)(topic)

def perform(repeat, *arguments):
    sent = refused = error = 0
    for _ in range(repeat):
        try:
            once(*arguments)
            sent += 1
        except (ValueError, ConnectionError, BufferError) as failure:
            refused += 1
            error = {ConnectionError: -107, BufferError: -105}.get(type(failure), -22)
    return {"sent": sent, "refused": refused, "error": error}

@worker.method("push.send")
async def send(ctx, op, kind="text", topic=None, reason="", code=1000, repeat=1, size=None,
               kept=False, after=False, thread=False):
    conn = globals()["kept"] if kept else ctx.conn
    arguments = (ctx, op, conn, kind, topic, reason, code, after, b"x" * size if size else ctx.blob)
    if thread:
        return await asyncio.get_running_loop().run_in_executor(None, perform, repeat, *arguments)
    return perform(repeat, *arguments)

@worker.method("push.keep")
async def keep(ctx):
    global kept
    kept = ctx.conn
    return True

@worker.event("connect")
async def connect(ctx):
    if ctx.params["path"] == "/no":
        raise RpcError(403, "not you")
    ctx.conn.push(ctx.params)
    return True

@worker.event("disconnect")
def disconnect(ctx):
    kept.push(ctx.params)

@worker.event("message")
def message(ctx):
    ctx.conn.push(ctx.message())

@worker.method("demo.sleep")
async def sleep(ms):
    await asyncio.sleep(ms / 1000)

if __name__ == "__main__":
    run(worker, "{address}")
'''


@pytest.fixture(params=["python", "workerd"])
def start(request, tmp_path):
    yield from starting(tmp_path, request.param)


@pytest.fixture
def worker(start, request):
    env = getattr(request, "param", {})
    if start.kind != "workerd":
        return start.script(SCRIPT, env=env)
    address = f"unix:{start.folder}/w.sock"
    return start.start([WORKERD, "--listen", address, "--concurrency", "0", "--module", DEMO,
                        "--module", f"{MODULES}/push.so"], address, env=env)


# Waits a minute for the front to close, and not a second or two.
PATIENT = pytest.mark.parametrize("worker", [{"LINGER": "60", "WORKERD_TIMES": "5000,15000,45000,60000"}],
                                  indirect=True, ids=["patient"])


@pytest.fixture
def front(worker):
    return worker.front()


def ask(front, op, conn=77, blob=b"", **params):
    """push.send: the frames that it made, and what it returned."""
    call = front.request("push.send", {"op": op, **params}, conn=conn, blob=blob)
    result = json.loads(front.response(call).body)["result"]
    front.ping()
    frames, front.kept = front.kept, []
    return frames, result


def send(front, op, conn=77, **more):
    """The one frame that it made."""
    (frame,), result = ask(front, op, conn, **more)
    assert result == {"sent": 1, "refused": 0, "error": 0}
    assert (frame.call, frame.flags & ~BINARY) == (0, 0)
    return frame


def refused(front, error, op, conn=77, **more):
    frames, result = ask(front, op, conn, **more)
    assert (frames, result) == ([], {"sent": 0, "refused": 1, "error": error})


FROM = pytest.mark.parametrize("where", [{}, {"thread": True}], ids=["loop", "thread"])


def test_hello_says_push(front):
    assert "push" in front.worker["features"]


@FROM
def test_push(front, where):
    for kind, flags in (("text", 0), ("binary", BINARY)):
        blob = b"\x00\xff" if flags else "\0\u00fc".encode()
        frame = send(front, "push", kind=kind, blob=blob, **where)
        assert frame[:4] == (PUSH, flags, 0, 77)
        assert (frame.meta, frame.body, frame.blob) == (b"", b"", blob)
    frame = send(front, "push", conn=2**64 - 1, kind="json", blob=b'{"a":[1]}', **where)
    assert frame[:4] == (PUSH, 0, 0, 2**64 - 1)
    assert (frame.meta, frame.body, frame.blob) == (b"", b'{"a":[1]}', b"")
    assert send(front, "push", kind="text", **where)[4:] == (b"", b"", b"")


@FROM
def test_publish_subscribe_unsubscribe(front, where):
    topic = "room:\u00fc \"\\\u0001"
    frame = send(front, "publish", topic=topic, kind="json", blob=b"[1]", **where)
    assert (frame.type, frame.conn, frame.body, frame.blob) == (PUBLISH, 0, b"[1]", b"")
    assert json.loads(frame.meta) == {"topic": topic}
    frame = send(front, "publish", topic="t", kind="binary", blob=b"\xff", **where)
    assert (frame.type, frame.flags, frame.body, frame.blob) == (PUBLISH, BINARY, b"", b"\xff")
    for op, type in (("subscribe", SUBSCRIBE), ("unsubscribe", UNSUBSCRIBE)):
        frame = send(front, op, topic=topic, **where)
        assert (frame.type, frame.conn, frame.body, frame.blob) == (type, 77, b"", b"")
        assert json.loads(frame.meta) == {"topic": topic}
    frame = send(front, "unsubscribe", **where)
    assert (frame.type, frame.conn, frame.meta) == (UNSUBSCRIBE, 77, b"")


@FROM
def test_disconnect(front, where):
    frame = send(front, "disconnect", code=4000, reason="so \"it\" is", **where)
    assert (frame.type, frame.conn) == (DISCONNECT, 77)
    assert json.loads(frame.meta) == {"code": 4000, "reason": "so \"it\" is"}
    assert json.loads(send(front, "disconnect", **where).meta) == {"code": 1000, "reason": ""}


@pytest.mark.parametrize("kind, sent", [("json", {"body": b"[1]"}), ("text", {"blob": b"[1]"})])
def test_progress(front, kind, sent):
    params = {"op": "progress", "kind": kind}
    for meta, count in ((b'{"progress":true}', 1), (b"{}", 0), (b"", 0)):
        call = front.request("push.send", params, blob=b"[1]", meta=meta)
        assert json.loads(front.response(call).body)["result"]["error"] == 0
        frames, front.kept = front.kept, []
        assert len(frames) == count
        for frame in frames:
            want = {"body": b"", "blob": b"", **sent}
            assert (frame.type, frame.call, frame.conn, frame.body, frame.blob) == (PUSH, call, 0, want["body"], want["blob"])


@FROM
def test_keep(worker, where):
    front = worker.front(state=5, features=["state"])
    for state in (b"12345", b"", b"\x00\xff"):
        frame = send(front, "keep", kind="binary", blob=state, **where)
        assert (frame.type, frame.conn, frame.meta, frame.body, frame.blob) == (STATE, 77, b"", b"", state)


def test_more_than_the_front_keeps(worker, front):
    few = worker.front(state=5)
    frames, result = ask(few, "keep", blob=b"123456")
    assert frames == [] and result["refused"] == 1 and result["error"] in (EINVAL, EMSGSIZE)
    frames, result = ask(front, "keep", blob=b"1")      # which says nothing of states
    assert frames == [] and result["refused"] == 1


def test_topics_of_any_length_up_to_255_bytes(front):
    for topic in ("a", "a" * 255, "\u00fc" * 127, "\u0001" * 255):
        assert json.loads(send(front, "subscribe", topic=topic).meta) == {"topic": topic}
    for topic in ("", "a" * 256, "\u00fc" * 128):
        for op in ("subscribe", "publish", "unsubscribe"):
            refused(front, EINVAL, op, topic=topic, kind="text")


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 2**31])
def test_close_codes_that_are_none(front, code):
    refused(front, EINVAL, "disconnect", code=code)


def test_reasons_that_are_too_long(front):
    assert json.loads(send(front, "disconnect", reason="r" * 123).meta)["reason"] == "r" * 123
    refused(front, EINVAL, "disconnect", reason="r" * 124)


@FROM
def test_no_connection(front, where):
    for op in ("push", "subscribe", "unsubscribe", "disconnect"):
        refused(front, EINVAL, op, conn=0, topic="t", kind="text", **where)
    assert send(front, "publish", conn=0, topic="t", kind="text", **where).type == PUBLISH


def test_an_empty_json_text_is_none(front):
    refused(front, EINVAL, "push", kind="json")


@FROM
def test_order_on_one_channel(front, where):
    """Whatever else is under way, the answer comes after what was sent before it."""
    for n in range(50):
        call = front.request("push.send", {"op": "subscribe", "topic": str(n), **where}, conn=n + 1)
        order = [front.recv().type, front.recv()]
        assert order[0] == SUBSCRIBE
        assert (order[1].type, order[1].call) == (RESPONSE, call)


def test_what_is_sent_about_a_connection_goes_where_its_call_came_in(worker):
    fronts = [worker.front(shard=shard, shards=3) for shard in range(3)]
    for shard in (2, 0, 1):
        for op in ("push", "subscribe", "unsubscribe", "disconnect"):
            send(fronts[shard], op, topic="t", kind="text")
        assert ask(fronts[shard], "publish", topic="t", kind="text", after=True)[0]
    for front in fronts:
        front.ping()
        assert front.kept == []


@FROM
def test_a_kept_connection_is_reached_when_its_channel_has_gone(worker, where):
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    assert first.call("push.keep", conn=5)["result"] is True
    call = second.request("push.send", {"op": "push", "kind": "text", "kept": True, **where})
    assert first.expect(PUSH).conn == 5
    second.response(call)
    first.close()
    second.ping()
    frame = send(second, "push", kind="text", kept=True, **where)
    assert (frame.type, frame.conn) == (PUSH, 5)


def test_a_connection_of_another_front_is_not_reached(worker):
    """Ids of two fronts may be the same: what is meant for one must not reach the other's client."""
    first, other = worker.front(instance="a"), worker.front(instance="b")
    assert first.call("push.keep", conn=5)["result"] is True
    first.close()
    other.ping()
    refused(other, ENOTCONN, "push", kind="text", kept=True)
    again = worker.front(instance="a")
    call = other.request("push.send", {"op": "push", "kind": "text", "kept": True})
    assert again.expect(PUSH).conn == 5
    other.response(call)


@FROM
def test_publish_is_sent_once_to_each_front(worker, where):
    fronts = [worker.front(instance=instance, shard=shard, shards=3)
              for shard in range(3) for instance in ("a", "b")]
    frames = []
    call = fronts[4].request("push.send", {"op": "publish", "topic": "t", "kind": "text",
                                           "after": True, **where}, conn=1)
    fronts[4].response(call)
    for front in fronts:
        front.ping()
        frames.append([frame.type for frame in front.kept])
        front.kept = []
    assert sum(frames[0::2], []) == [PUBLISH] and sum(frames[1::2], []) == [PUBLISH]
    assert frames[4] == [PUBLISH]  # of its own front, the channel that `after` names


def test_publish_stays_on_a_channel_until_it_has_closed(worker):
    """Between two channels there is no order, so one that goes away is used while it is open."""
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    assert send(first, "publish", topic="t", kind="text").type == PUBLISH  # the oldest
    call = first.request("demo.sleep", [1])
    first.send(GOAWAY, body={"reason": "reload"})
    first.response(call)
    first.expect_closed()
    second.ping()
    assert send(second, "publish", topic="t", kind="text").type == PUBLISH


def test_publish_begins_on_a_channel_that_stays(worker):
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    first.request("demo.sleep", FOREVER)
    first.send(GOAWAY, body={"reason": "reload"})
    first.ping()
    assert send(second, "publish", topic="t", kind="text").type == PUBLISH


@FROM
@PATIENT
def test_what_would_go_on_a_channel_that_ends_waits_for_its_end(worker, where):
    """When the front has closed too, what came before has taken effect: only then comes the rest, in order."""
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    other = worker.front(instance="other")
    assert first.call("push.keep", conn=5)["result"] is True
    assert send(first, "publish", topic="t", kind="text", blob=b"0").blob == b"0"
    first.send(GOAWAY, body={"reason": "reload"})
    assert first.recv() is None
    for n in (b"1", b"2"):
        # Answered, so sent: a front that has not the message yet is the one that it is held for.
        for op in ("push", "publish"):
            call = other.request("push.send", {"op": op, "topic": "t", "kind": "text", "kept": True, **where}, blob=n)
            assert json.loads(other.response(call).body)["result"]["sent"] == 1
    second.ping()
    assert second.kept == []
    first.close()
    got = [second.recv() for _ in range(4)]
    assert [(f.type, f.conn, f.blob) for f in got] == [
        (PUSH, 5, b"1"), (PUBLISH, 0, b"1"), (PUSH, 5, b"2"), (PUBLISH, 0, b"2")]


def test_what_waits_for_the_end_of_a_channel_is_sent_when_none_comes(worker):
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    assert first.call("push.keep", conn=5)["result"] is True
    first.send(GOAWAY, body={"reason": "reload"})
    assert first.recv() is None
    call = second.request("push.send", {"op": "push", "kind": "text", "kept": True}, blob=b"late")
    second.response(call)
    assert second.expect(PUSH).blob == b"late"  # after a second or two, since the front does not close


@FROM
@PATIENT
@pytest.mark.parametrize("shut", [False, True], ids=["", "shut"])
def test_a_front_whose_next_channel_comes_late(worker, where, shut):
    """As when the worker was held up while the front was replaced: what it sends goes on the old channel, which
    the front reads to its end, even where it has closed its own side; that ends when there is another."""
    old, other = worker.front(generation=1), worker.front(instance="other")

    def push(blob):
        call = other.request("push.send", {"op": "push", "kind": "text", "kept": True, **where}, blob=blob)
        assert json.loads(other.response(call).body)["result"]["sent"] == 1

    assert old.call("push.keep", conn=5)["result"] is True
    assert send(old, "push", kind="text", blob=b"0").blob == b"0"
    old.send(GOAWAY, body={"reason": "reload"})
    if shut:
        old.socket.shutdown(socket.SHUT_WR)
    for blob in (b"1", b"2"):
        push(blob)
        assert old.expect(PUSH).blob == blob
    new = worker.front(generation=2)
    assert old.recv() is None
    push(b"3")
    if not shut:    # else its end has been seen
        new.ping()
        assert new.kept == []
    old.close()
    assert new.expect(PUSH).blob == b"3"


def test_a_front_whose_next_channel_never_comes(worker):
    """Its channel is kept for a second or two."""
    only, other = worker.front(instance="a"), worker.front(instance="b")
    assert only.call("push.keep", conn=5)["result"] is True
    assert send(only, "push", kind="text").type == PUSH
    call = only.request("demo.sleep", [1])
    only.send(GOAWAY, body={"reason": "shutdown"})
    only.response(call)
    assert only.recv() is None
    refused(other, ENOTCONN, "push", kind="text", kept=True)


def test_a_notification_in_progress_does_not_keep_a_channel(worker):
    """Nobody waits for its end, and it comes to its end all the same, on whatever channel is there."""
    first, second = worker.front(shard=0, shards=2), worker.front(shard=1, shards=2)
    for ms in (1, 1, 300):
        first.request("demo.sleep", [ms], flags=NOTIFY)
    first.send(GOAWAY, body={"reason": "reload"})
    assert first.recv() is None
    first.close()
    assert second.call("demo.sleep", [400])["result"] is not False  # by then the others have ended
    second.ping()


def test_a_front_without_another_channel_is_not_waited_for(worker):
    only, other = worker.front(instance="a"), worker.front(instance="b")
    assert only.call("push.keep", conn=5)["result"] is True
    only.send(GOAWAY, body={"reason": "reload"})
    assert only.recv() is None
    refused(other, ENOTCONN, "push", kind="text", kept=True)


@FROM
@pytest.mark.parametrize("says_so", [True, False], ids=["goaway", "no goaway"])
def test_a_front_that_shuts_its_side_gets_what_waits(worker, where, says_so):
    """In the middle of a flood, of which most waits in the worker since the front does not read: all that
    was taken comes, in frames that are whole, and then the worker closes."""
    front, other = worker.front(), worker.front(instance="other")
    assert front.call("push.keep", conn=5)["result"] is True
    params = {"op": "push", "kind": "text", "size": 10_000, "repeat": 2_000, "kept": True, **where}
    result = json.loads(other.response(other.request("push.send", params)).body)["result"]
    assert result["sent"] >= 100 and result["error"] == ENOBUFS
    if says_so:
        front.send(GOAWAY, body={"reason": "reload"})
    front.socket.shutdown(socket.SHUT_WR)
    other.ping()
    frames = front.expect_closed()
    assert [(f.type, f.conn, len(f.blob)) for f in frames] == [(PUSH, 5, 10_000)] * result["sent"]


def test_a_channel_that_has_said_no_hello_counts_for_nothing(worker, front):
    silent = worker.dial()
    assert send(front, "publish", topic="t", kind="text").type == PUBLISH
    silent.close()


def test_connect_and_disconnect(front):
    assert front.call("push.keep", conn=9)["result"] is True
    params = {"conn": "10", "path": "/ws", "headers": {}, "peer": "192.0.2.7:1"}
    front.request("frontd.connect", params, flags=NOTIFY, conn=10)
    frame = front.expect(PUSH)
    assert (frame.conn, json.loads(frame.body)) == (10, params)
    assert front.call("frontd.connect", params, conn=10)["result"] is True
    assert front.call("frontd.connect", {**params, "path": "/no"}, conn=11)["error"]["code"] == 403
    front.expect(PUSH)
    front.request("frontd.disconnect", {"conn": "10", "code": 1001}, flags=NOTIFY, conn=10)
    frame = front.expect(PUSH)
    assert (frame.conn, json.loads(frame.body)) == (9, {"conn": "10", "code": 1001})


@FROM
def test_over_the_fronts_max_frame(start, worker, where):
    front = worker.front(max_frame=2000)
    assert send(front, "push", kind="text", size=2000, **where).blob == b"x" * 2000
    if start.kind != "workerd":
        refused(front, EINVAL, "push", kind="text", size=2001, **where)
    elif not where:
        refused(front, EMSGSIZE, "push", kind="text", size=2001)
        refused(front, EMSGSIZE, "publish", topic="t", kind="text", size=1995)
    else:  # the loop finds out, when the thread has been told that it is on its way
        assert ask(front, "push", kind="text", size=2001, **where)[0] == []
        assert "1 messages of other threads could not be sent" in worker.output()


@FROM
def test_a_front_that_does_not_read_costs_a_bounded_amount(start, worker, where):
    """What it has not read is refused to the sender, and not to other fronts; then it goes on."""
    slow, quick = worker.front(instance="slow"), worker.front(instance="quick")
    assert slow.call("push.keep", conn=5)["result"] is True
    params = {"op": "push", "kind": "text", "size": 10_000, "repeat": 2_000, "kept": True, **where}
    result = json.loads(quick.response(quick.request("push.send", params)).body)["result"]
    assert result["error"] == ENOBUFS
    assert 100 <= result["sent"] <= (WAITING_MAX + 2**20) // 10_000
    if not where or start.kind != "workerd":
        frame = send(quick, "publish", topic="t", kind="text", blob=b"x")
        assert frame.blob == b"x"
    assert slow.call("push.keep", conn=6)["result"] is True
    assert len([f for f in slow.kept if f.type == PUSH]) == result["sent"]
    slow.kept.clear()
    assert send(slow, "push", kind="text", blob=b"again").blob == b"again"


def test_a_thread_that_sends_while_channels_come_and_go(start, worker):
    front = worker.front()
    call = front.request("push.send", {"op": "publish", "kind": "text", "topic": "t", "thread": True,
                                       "size": 100, "repeat": 50_000 if start.kind == "workerd" else 1_000})
    for _ in range(100):
        with FakeFront(worker.address) as other:
            other.hello(instance="other")
    assert front.response(call)
    assert ask(front, "push", kind="text")[1]["sent"] == 1


def test_the_front_of_a_connection_has_gone(start, worker):
    """The call's own channel is always there, so a kept connection of a front that has gone shows it."""
    front = worker.front(instance="a")
    front.call("push.keep", conn=5)
    front.close()
    other = worker.front(instance="b")
    for where in ({}, {"thread": True}):
        frames, result = ask(other, "subscribe", topic="t", kept=True, **where)
        assert frames == []
        late = where and start.kind == "workerd"  # the loop finds out, and says so in the log
        assert result["error"] == (0 if late else ENOTCONN)
