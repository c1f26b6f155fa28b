"""The Python library's frontd_worker.protocol without I/O: bytes in, events and bytes out."""

import json
import os
import sys

import pytest

import fakefront
from fakefront import (CANCEL, DISCONNECT, GOAWAY, HELLO, MORE, NOTIFY, PING, PONG, PUSH, REQUEST, RESPONSE, VECTORS,
                       decode, encode, read_records)
from workerproc import LIBRARY

sys.path.insert(0, LIBRARY)
from frontd_worker import Frame, ProtocolError, RpcError  # noqa: E402
from frontd_worker.protocol import (MOVES, PUSH_BUFFER, Cancel, Dropped, FrontState, GoAway, Hello,  # noqa: E402
                                    Protocol, Request, State)

FRONT = {"protocol": [1], "front": "f", "instance": "i", "max_frame": 1000}
RECORDS = [dict(record) for record in read_records(os.path.join(VECTORS, "frames.txt"))]


def hello(**keys):
    return encode(HELLO, body=json.dumps({**FRONT, **keys}).encode())


def request(call, method="m", params=None, **frame):
    body = {"jsonrpc": "2.0", "id": call, "method": method, **({} if params is None else {"params": params})}
    return encode(REQUEST, call=call, body=json.dumps(body).encode(), **frame)


def events(protocol, data, now=0.0, answer=lambda event: None):
    """All events of these bytes; a HELLO is answered, and answer(event) may answer others."""
    protocol.receive(data, now)
    found = []
    while (event := protocol.next_event()) is not None:
        found.append(event)
        if isinstance(event, Hello):
            protocol.say_hello({"protocol": 1})
        answer(event)
    return found


def sent(protocol):
    """The frames that it wants to be written."""
    data, frames = bytes(protocol.data_to_send()), []
    while data:
        frame, size = decode(data)
        frames.append(frame)
        data = data[size:]
    return frames


def opened(**keys):
    """A channel on which both have said HELLO."""
    protocol = Protocol(0.0, **keys)
    events(protocol, hello())
    assert [frame.type for frame in sent(protocol)] == [HELLO]
    return protocol


def test_a_call():
    protocol = opened()
    assert events(protocol, request(5, "add", [1, 2], conn=9, meta=b'{"peer":"p"}', blob=b"x")) == [
        Request(5, 9, 0, "add", [1, 2], {"peer": "p"}, b"x")]
    protocol.respond(5, 3, b"blob")
    [frame] = sent(protocol)
    assert (frame.type, frame.call, frame.blob) == (RESPONSE, 5, b"blob")
    assert json.loads(frame.body) == {"jsonrpc": "2.0", "id": 5, "result": 3}


@pytest.mark.parametrize("body, code, id", [
    (b"{", -32700, None), (b'"\xff"', -32700, None), (b"[]", -32600, None), (b'{"id":1}', -32600, None),
    (b'{"id":1,"method":"m","params":1}', -32600, None)])
def test_requests_that_are_none_are_answered_here(body, code, id):
    protocol = opened()
    assert events(protocol, encode(REQUEST, call=1, body=body)) == []
    response = json.loads(sent(protocol)[0].body)
    assert (response["error"]["code"], response["id"]) == (code, id)
    assert events(protocol, encode(REQUEST, flags=NOTIFY, body=body)) == []
    assert sent(protocol) == []


@pytest.mark.parametrize("id", ['"a\\u00e9"', "7", "1.50", "1e400", "null", '"\\""'])
def test_the_id_comes_back_as_it_was(id):
    protocol = opened()
    events(protocol, encode(REQUEST, call=1, body=b'{"id":%b,"method":"m"}' % id.encode()))
    protocol.respond(1, None)
    response = sent(protocol)[0].body
    assert json.loads(response, parse_float=str)["id"] == json.loads(id, parse_float=str)


# What comes on an open channel after the request 3: (frames, events, frames sent).
INPUTS = {
    "cancel": ([encode(CANCEL, call=3)], [Cancel(3)], []),
    "cancel of another": ([encode(CANCEL, call=2)], [], []),
    "ping": ([encode(PING, body=b"x" * 64)], [], [Frame(PONG, body=b"x" * 64)]),
    "long ping": ([encode(PING, body=b"x" * 65)], [Dropped(PING)], []),
    "pong": ([encode(PONG)], [], []),
    "window": ([encode(14)], [], []),
    "extension": ([encode(128), encode(255)], [], []),
    "hello": ([hello()], [Dropped(HELLO)], []),
    "of a worker": ([encode(RESPONSE), encode(PUSH), encode(DISCONNECT)],
                    [Dropped(RESPONSE), Dropped(PUSH), Dropped(DISCONNECT)], []),
    "goaway": ([encode(GOAWAY, body=b"why")], [GoAway(b"why")], []),
    "goaway twice": ([encode(GOAWAY), encode(GOAWAY)], [GoAway(b""), GoAway(b"")], []),
    "notify": ([request(0, flags=NOTIFY)], [Request(0, 0, NOTIFY, "m", None, {}, b"")], []),
}


@pytest.mark.parametrize("case", INPUTS.values(), ids=INPUTS)
def test_inputs(case):
    frames, expected, answers = case
    protocol = opened()
    assert len(events(protocol, request(3))) == 1
    assert events(protocol, b"".join(frames)) == expected
    assert [tuple(frame) for frame in sent(protocol)] == [tuple(frame) for frame in answers]


@pytest.mark.parametrize("frame, reason", [
    (request(3), "call id 3 after 3"), (request(1), "call id 1 after 3"), (request(0), "call id 0 after 3"),
    (request(4, flags=MORE | NOTIFY), "streamed"), (request(4, meta=b"[]"), "meta"), (request(4, meta=b"{"), "meta"),
    (encode(15), "unknown frame type 15"), (encode(PING, body=b"x" * 101), "over the limit")])
def test_a_violation_ends_the_channel(frame, reason):
    protocol = opened(max_frame=100)
    assert len(events(protocol, request(3))) == 1
    with pytest.raises(ProtocolError, match=reason) as error:
        events(protocol, frame)
    protocol.fail(error.value)
    [goaway] = sent(protocol)
    assert (goaway.type, json.loads(goaway.body)) == (GOAWAY, {"reason": str(error.value), "last_call": 3})
    assert protocol.state is State.CLOSING
    assert events(protocol, request(9)) == []
    protocol.go_away("again")
    protocol.fail(error.value)
    assert sent(protocol) == []


@pytest.mark.parametrize("data", [request(1), encode(PING), encode(HELLO, body=b"[]"),
                                  hello(protocol=[2]), hello(max_frame=-1)])
def test_the_first_frame_is_hello(data):
    with pytest.raises(ProtocolError):
        events(Protocol(0.0), data)


# A conversation of the front with each kind of frame, and what a worker makes of it.
SCRIPT = [hello(), request(1, "a"), encode(200, body=b"ext"), request(2, "b", {"k": [1]}, blob=b"blob" * 9),
          encode(PING, body=b"p"), encode(CANCEL, call=1), encode(REQUEST, call=3, body=b"["), encode(PUSH),
          request(0, "n", flags=NOTIFY, conn=3), encode(GOAWAY, body=b"{}"), request(4, "late")]


def converse(pieces):
    """The events and bytes of a channel that is given these pieces; each request is answered at once but the first."""
    protocol, found, out = Protocol(0.0), [], b""

    def answer(event):
        if isinstance(event, Request) and event.call > 1:
            protocol.respond(event.call, event.method)
    for piece in pieces:
        found += events(protocol, piece, answer=answer)
        out += protocol.data_to_send()
    return found, out, protocol.state, protocol.front_state


def test_bytes_may_be_cut_anywhere():
    data, whole = b"".join(SCRIPT), converse(SCRIPT)
    assert [type(event).__name__ for event in whole[0]] == [
        "Hello", "Request", "Request", "Cancel", "Dropped", "Request", "GoAway", "Request"]
    assert converse([data[n:n + 1] for n in range(len(data))]) == whole
    for n in range(len(data) + 1):
        assert converse([data[:n], data[n:]]) == whole, n


@pytest.mark.parametrize("record", [r for r in RECORDS if int(r["max_frame"]) >= 100], ids=lambda r: r["name"])
def test_the_vectors(record):
    """Each example of a frame after HELLO, whole and byte by byte: an event, nothing yet, or its error."""
    data, results = bytes.fromhex(record["hex"]), []
    for pieces in ([data], [data[n:n + 1] for n in range(len(data))]):
        protocol, found = opened(max_frame=int(record["max_frame"])), []
        try:
            for piece in pieces:
                found += events(protocol, piece)
        except ProtocolError as error:
            found.append(error.kind)
        results.append((found, sent(protocol)))
    assert results[0] == results[1]
    if record["result"] in ("parts", "type", "limit"):
        assert results[0][0] == [record["result"]]
    elif record["result"] == "more":
        assert results[0] == ([], [])


def test_what_cannot_be_sent_is_still_owed():
    protocol = opened()
    events(protocol, request(1))
    for result, error in ((object(), TypeError), (float("nan"), ValueError), ("x" * 1000, ValueError)):
        with pytest.raises(error):
            protocol.respond(1, result)
    with pytest.raises(ValueError):
        protocol.respond_error(1, RpcError(1, "e", "x" * 1000))
    assert sent(protocol) == []
    protocol.refuse(1, RpcError(-32603, "internal error"))
    assert len(sent(protocol)) == 1
    with pytest.raises(KeyError):
        protocol.respond(1, 1)


def test_an_error_goes_without_an_id_that_is_too_long():
    protocol = Protocol(0.0)
    events(protocol, hello(max_frame=90))
    sent(protocol)
    events(protocol, encode(REQUEST, call=1, body=json.dumps({"id": "x" * 90, "method": "m"}).encode()))
    protocol.refuse(1, RpcError(-32603, "internal error"))
    assert json.loads(sent(protocol)[0].body)["id"] is None
    protocol = Protocol(0.0)
    events(protocol, hello(max_frame=10))
    with pytest.raises(ProtocolError, match="no room"):
        events(protocol, encode(REQUEST, call=1, body=b"{"))


def test_pushes_have_a_limit():
    protocol = opened()
    frame = Frame(PUSH, conn=1, blob=b"x" * 1000)
    with pytest.raises(ValueError):
        protocol.push(Frame(PUSH, conn=1, blob=b"x" * 1001))
    assert not protocol.pushed
    with pytest.raises(BufferError):
        protocol.push(frame, PUSH_BUFFER + 1)
    protocol.push(frame, PUSH_BUFFER)
    with pytest.raises(BufferError):
        protocol.push(frame, PUSH_BUFFER - frame.size + 1)
    assert protocol.pushed and sent(protocol) == [fakefront.Frame(*frame)]


@pytest.mark.parametrize("first, ours, theirs, finished", [
    ([], [], [], False), ([], ["go"], [], True), ([], [], ["goaway"], True), ([], [], ["eof"], True),
    ([1], ["go"], [], False), ([1], [], ["goaway"], False), ([1], [], ["goaway", "eof"], True),
    ([1], ["go"], ["goaway"], False), ([1], ["go", "respond"], [], True), ([1], ["respond"], ["goaway"], True),
    ([1], ["respond"], [], False)])
def test_when_it_is_finished(first, ours, theirs, finished):
    protocol = opened()
    events(protocol, b"".join(request(call) for call in first))
    for step in ours + theirs:
        {"go": lambda: protocol.go_away("shutdown"), "respond": lambda: protocol.respond(1, 1),
         "goaway": lambda: events(protocol, encode(GOAWAY)), "eof": protocol.receive_eof}[step]()
    assert protocol.finished is finished
    protocol.close()
    assert not protocol.finished


def test_after_our_goaway_new_calls_are_dropped():
    protocol = opened()
    events(protocol, request(1))
    protocol.go_away("shutdown")
    protocol.go_away("twice")
    assert events(protocol, request(2) + request(0, flags=NOTIFY)) == []
    [goaway] = sent(protocol)
    assert json.loads(goaway.body) == {"reason": "shutdown", "last_call": 1}
    protocol.respond(1, 1)
    assert [frame.type for frame in sent(protocol)] == [RESPONSE]


def test_what_is_held_goes_to_another_channel():
    old, new, frame = opened(), opened(), Frame(PUSH, conn=1, blob=b"x")
    events(old, encode(GOAWAY))
    old.close(hold=True)
    old.push(frame)
    old.go_away("shutdown")
    assert sent(old) == [] and old.unsent == frame.size
    new.take_over(old.lost())
    assert sent(new) == [fakefront.Frame(*frame)]
    assert old.lost() == b""


def test_nothing_is_held_by_a_channel_that_only_closes():
    protocol = opened()
    protocol.close()
    protocol.push(Frame(PUSH, conn=1))
    assert sent(protocol) == [] and protocol.lost() == b""


def test_the_time():
    protocol = Protocol(100.0, ping_after=15.0, dead_after=45.0)
    assert protocol.tick(100.0, False) == 5.0
    protocol.receive(b"\0", 104.0)  # a part of HELLO does not help
    assert protocol.tick(104.0, False) == 1.0
    with pytest.raises(ProtocolError, match="no HELLO in time"):
        protocol.tick(105.0, True)

    protocol = opened(ping_after=15.0, dead_after=45.0)
    events(protocol, encode(PONG), now=10.0)
    assert protocol.tick(15.0, False) == 10.0 and sent(protocol) == []
    assert protocol.tick(25.0, False) == 15.0
    assert [frame.type for frame in sent(protocol)] == [PING]
    assert protocol.tick(69.0, False) == 1.0
    assert protocol.tick(70.0, True) == 15.0  # a call may keep the process from reading
    with pytest.raises(ProtocolError, match="timeout"):
        protocol.tick(85.0, False)
    events(protocol, encode(PONG), now=86.0)
    assert protocol.tick(86.0, False) == 15.0 and sent(protocol) == []


def test_the_table_of_moves():
    assert set(MOVES) == set(State) | set(FrontState)
    for kind in (State, FrontState):
        for state in kind:
            assert state not in MOVES[state] and MOVES[state] <= set(kind)
    protocol = opened()
    protocol.lost()
    with pytest.raises(AssertionError):
        protocol._move(State.OPEN)
