"""RFC 6455 case by case, on a route whose messages are pushed back: framing, pings, reserved bits,
opcodes, fragmentation, close codes, limits. UTF-8 is in test_ws_utf8.py."""
import contextlib
import os
import random
import socket
import time

import pytest

from fakeworker import echo
from harness import Site, rpc_route, wait_for, ws_route
from httpclient import Closed
from wsclient import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WsClosed, upgrade, ws_close, ws_frame)


BODY = 100_000          # limits.body: bytes of the largest frame and message


def back(call):
    """Pushes messages back; `leave` disconnects the client that sends it."""
    if call.method == "frontd.message" and call.blob == b"leave":
        call.channel.disconnect(call.conn, 4321, "asked")
    else:
        echo(call)


@pytest.fixture(scope="module")
def web():
    with Site(routes=[ws_route("/raw", messages="raw"), ws_route(), rpc_route()],
              limits={"body": BODY}) as site:
        site.fake(handler=back)
        yield site.start()


@pytest.fixture
def client(web):
    with web.ws("/raw") as made:
        yield made


def fails(web, data, *codes):
    """These bytes, after an upgrade, are answered by a Close with one of the codes, and by nothing else."""
    with web.ws("/raw") as client:
        client.send(data)
        return client.expect_close(*codes)


def in_pieces(web, count, data, cuts):
    """`count` clients that have sent data[:cut], which the shard has read, and then the rest."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(web.ws("/raw")) for _ in range(count)]
        for client, cut in zip(made, cuts):
            client.send(data[:cut])
        assert web.rpc("demo.echo", [1]).status == 200      # behind what has been sent before
        for client, cut in zip(made, cuts):
            client.send(data[cut:])
        yield from made


# Framing

@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 124, 125, 126, 127, 128, 255, 256, 1000,
                                  4095, 4096, 4097, 65534, 65535, 65536, 65537, 99_999, 100_000])
def test_sizes(client, size):
    data = os.urandom(size)
    client.send_binary(data)
    assert client.read_message() == (BINARY, data)
    text = bytes(random.Random(size).choices(range(32, 127), k=size))
    client.send_text(text)
    assert client.read_message() == (TEXT, text)


def test_masks(client):
    data = bytes(range(256)) * 3
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"\1\2\4\x80"):
        for n in (*range(20), 300, 767):
            client.send_frame(BINARY, data[:n], mask=mask)
            assert client.read_message() == (BINARY, data[:n])


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE, CONTINUATION])
def test_frames_that_are_not_masked(web, opcode):
    fails(web, ws_frame(opcode, b"" if opcode == CLOSE else b"x", mask=None), 1002)


@pytest.mark.parametrize("length,form", [(0, 16), (5, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)])
def test_lengths_that_are_not_the_shortest(web, length, form):
    fails(web, ws_frame(BINARY, b"x" * length, form=form), 1002)


def test_the_top_bit_of_a_length(web):
    fails(web, ws_frame(BINARY, b"", length=1 << 63, form=64), 1002, 1009)
    fails(web, ws_frame(BINARY, b"", length=(1 << 64) - 1, form=64), 1002, 1009)


def test_every_cut(web):
    """Two messages, a ping and a fragmented message, cut at every byte."""
    data = (ws_frame(TEXT, b"one") + ws_frame(BINARY, b"\0" * 130) + ws_frame(PING, b"p")
            + ws_frame(TEXT, "zw\u00f6".encode()[:3], fin=False) + ws_frame(PING, b"q")
            + ws_frame(CONTINUATION, "zw\u00f6".encode()[3:]))
    for client in in_pieces(web, len(data) - 1, data, range(1, len(data))):
        assert client.read_message() == (TEXT, b"one")
        assert client.read_message() == (BINARY, b"\0" * 130)
        assert client.read_message() == (TEXT, "zw\u00f6".encode())
        assert client.pongs == [b"p", b"q"]
        client.send(ws_close(1000, b"bye"))
        client.expect_close(1000)


def test_byte_by_byte(client):
    for byte in ws_frame(TEXT, b"x" * 126) + ws_frame(PING, b"abc") + ws_frame(TEXT, b"y"):
        client.send(bytes([byte]))
    assert client.read_message() == (TEXT, b"x" * 126)
    assert client.read_message() == (TEXT, b"y")
    assert client.pongs == [b"abc"]


def test_many_in_one_write(client):
    client.send(b"".join(ws_frame(TEXT, b"%d" % n) for n in range(2000)))
    assert [client.read_text() for _ in range(2000)] == [b"%d" % n for n in range(2000)]


# Pings

@pytest.mark.parametrize("size", [0, 1, 64, 124, 125])
def test_pings(client, size):
    data = os.urandom(size)
    client.send_frame(PING, data)
    assert client.read_pong() == data


def test_pings_that_are_wrong(web):
    fails(web, ws_frame(PING, b"x" * 126), 1002)
    fails(web, ws_frame(PONG, b"x" * 126), 1002)
    fails(web, ws_frame(PING, b"x", fin=False), 1002)
    fails(web, ws_frame(PONG, b"x", fin=False), 1002)
    fails(web, ws_frame(PING, b"x", fin=False) + ws_frame(CONTINUATION, b"y"), 1002)


def test_pings_in_a_row(client):
    """Each answered, or (RFC 6455 section 5.5.3) the last of some; always in order."""
    client.send(b"".join(ws_frame(PING, b"%d" % n) for n in range(1000)) + ws_frame(TEXT, b"x"))
    assert client.read_text() == b"x"
    numbers = [int(p) for p in client.pongs]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 999


def test_pongs_that_nobody_asked_for(client):
    client.send(ws_frame(PONG) + ws_frame(PONG, b"x" * 125) + ws_frame(PING, b"p"))
    assert client.read_pong() == b"p"
    assert client.pongs == [b"p"]


def test_a_ping_within_a_message_is_answered_before_its_end(client):
    client.send(ws_frame(TEXT, b"begin", fin=False) + ws_frame(PING, b"within"))
    assert client.read_pong() == b"within"
    client.send(ws_frame(CONTINUATION, b" end"))
    assert client.read_text() == b"begin end"


def test_a_ping_between_messages_cut_in_its_payload(web):
    data = ws_frame(PING, b"payload")
    for client in in_pieces(web, len(data) - 1, data, range(1, len(data))):
        assert client.read_pong() == b"payload"


# Reserved bits and opcodes

@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_reserved_bits(web, rsv, opcode):
    fails(web, ws_frame(opcode, b"" if opcode == CLOSE else b"x", rsv=rsv), 1002)


def test_reserved_bits_on_a_continuation(web):
    for rsv in range(1, 8):
        fails(web, ws_frame(TEXT, b"x", fin=False) + ws_frame(CONTINUATION, b"y", rsv=rsv), 1002)


def test_messages_before_an_error_are_taken(client):
    client.send_text(b"good")
    assert client.read_text() == b"good"
    client.send(ws_frame(TEXT, b"bad", rsv=1))
    client.expect_close(1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_reserved_opcodes(web, opcode, payload):
    fails(web, ws_frame(opcode, payload), 1002)
    fails(web, ws_frame(TEXT, b"x", fin=False) + ws_frame(opcode, payload), 1002)


# Fragmentation

@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("parts", [
    [b"", b""], [b"a", b""], [b"", b"a"], [b"a", b"b"], [b"", b"", b"a", b"", b""],
    [b"x" * 125, b"y" * 126], [b"x" * 65535, b"y" * 2], [b"a"] * 300,
], ids=lambda parts: "-".join(str(len(p)) for p in parts[:5]))
def test_fragments(client, opcode, parts):
    def send(*between):
        for n, part in enumerate(parts):
            client.send(ws_frame(CONTINUATION if n else opcode, part, fin=n == len(parts) - 1, mask=os.urandom(4)))
            if n < len(parts) - 1:
                client.send(b"".join(between))
        assert client.read_message() == (opcode, b"".join(parts))

    send()
    send(ws_frame(PING, b"p"), ws_frame(PONG, b"q"))
    assert 1 <= len(client.pongs) <= len(parts) - 1 and set(client.pongs) == {b"p"}


def test_a_continuation_of_nothing(web):
    for fin in (True, False):
        for payload in (b"", b"x"):
            fails(web, ws_frame(CONTINUATION, payload, fin=fin), 1002)


def test_a_continuation_after_the_end(client):
    client.send(ws_frame(TEXT, b"a", fin=False) + ws_frame(CONTINUATION, b"b"))
    assert client.read_text() == b"ab"
    client.send(ws_frame(CONTINUATION, b"c"))
    client.expect_close(1002)


def test_a_message_within_a_message(web):
    for opcode in (TEXT, BINARY):
        for fin in (True, False):
            fails(web, ws_frame(TEXT, b"a", fin=False) + ws_frame(opcode, b"b", fin=fin), 1002)


def test_a_close_within_a_message(web):
    fails(web, ws_frame(TEXT, b"a", fin=False) + ws_close(1000), 1000)


# Closing

@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
                                  3000, 3999, 4000, 4999])
def test_codes(web, code):
    """Such a code comes back."""
    fails(web, ws_close(code), code)
    fails(web, ws_close(code, b"why"), code)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_codes_that_must_not_be_sent(web, code):
    fails(web, ws_close(code), 1002)
    fails(web, ws_close(code, b"why"), 1002)


def test_a_close_without_code(web):
    fails(web, ws_close(), 1005, 1000)


def test_closes_that_are_wrong(web):
    fails(web, ws_frame(CLOSE, b"\x03"), 1002)
    fails(web, ws_close(1000, b"x" * 124), 1002)
    fails(web, ws_frame(CLOSE, b"\x03\xe8", fin=False), 1002)
    for reason in (b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        fails(web, ws_close(1000, reason), 1002, 1007)


def test_reasons(web):
    for reason in (b"x" * 123, "\u20ac".encode() * 41, b"\0"):
        fails(web, ws_close(1000, reason), 1000)


def test_nothing_is_taken_after_a_close(web):
    for late in (ws_frame(TEXT, b"late"), ws_frame(PING, b"late"), ws_close(1001), b"\xff" * 200):
        with web.ws("/raw") as client:
            client.send(ws_close(1000) + late)
            client.expect_close(1000)


def test_a_close_cut_everywhere(web):
    data = ws_close(4000, b"reason")
    for client in in_pieces(web, len(data) - 1, data, range(1, len(data))):
        client.expect_close(4000)


def test_messages_of_the_client_that_come_after_our_close(web):
    """The client may have sent them before it saw the Close: they do no harm."""
    with web.ws("/raw") as client:
        client.send_text(b"leave")
        assert client.read_close() == (4321, "asked")
        client.try_send(ws_frame(TEXT, b"late") + ws_close(4321))
        assert client.at_end()


def test_a_close_that_is_not_answered(web):
    """The server waits for it, but for some seconds only, whatever else the client sends."""
    with web.ws("/raw") as silent, web.ws("/raw") as talking:
        for client in (silent, talking):
            client.send_text(b"leave")
            assert client.read_close() == (4321, "asked")
        open_ = web.connections
        assert open_() >= 2         # it waits

        def gone():
            if not talking.eof:
                talking.try_send(ws_frame(TEXT, b"still here") + ws_frame(PING))
            time.sleep(0.05)
            return open_() == 0
        wait_for(gone, "the end of both", 20)


def test_the_end_without_a_close(web):
    before = web.connections()
    for end in ("close", "reset"):
        for data in (b"", ws_frame(TEXT, b"half", length=9), ws_frame(TEXT, b"a", fin=False), b"\x81"):
            client = web.ws("/raw")
            client.send(data)
            getattr(client, end)()
    wait_for(lambda: web.connections() <= before, "the end of all")


# Limits

def test_the_largest_frame(client):
    data = b"x" * BODY
    client.send_text(data)
    assert client.read_text() == data
    client.send_frame(TEXT, data + b"x")
    client.expect_close(1009)


def test_a_frame_over_the_limit_is_refused_by_its_head(web):
    for length in (BODY + 1, 1 << 20, 1 << 32, (1 << 63) - 1):
        for opcode in (TEXT, BINARY):
            fails(web, ws_frame(opcode, b"", length=length), 1009)


@pytest.mark.parametrize("parts", [2, 3, 10, 1000])
def test_the_largest_message_in_fragments(client, parts):
    each = BODY // parts
    sizes = [each] * (parts - 1) + [BODY - each * (parts - 1)]
    frames = b"".join(ws_frame(CONTINUATION if n else TEXT, b"x" * size, fin=False)
                      for n, size in enumerate(sizes))
    client.send(frames + ws_frame(CONTINUATION))
    assert client.read_text() == b"x" * BODY
    client.send(frames + ws_frame(CONTINUATION, b"", length=1))     # by its head, again
    client.expect_close(1009)


def test_fragments_without_an_end(client):
    """A message that never ends is one that is too large some time; a few empty fragments are none too many."""
    client.send(ws_frame(TEXT, b"", fin=False) + ws_frame(CONTINUATION, b"", fin=False) * 5000)
    client.send(ws_frame(PING, b"p"))
    assert client.read_pong() == b"p"
    piece = ws_frame(CONTINUATION, b"x" * 1000, fin=False)
    for _ in range(BODY // 1000):
        client.send(piece)
    client.send(ws_frame(PING, b"q"))
    assert client.read_pong() == b"q"
    client.send(ws_frame(CONTINUATION, b"x", fin=False))
    client.expect_close(1009)


def test_limits_hold_on_routes_of_calls_too(web):
    frame = lambda n: b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":["%s"]}' % (b"x" * n)
    room = BODY - len(frame(0))
    with web.ws() as client:
        client.send_text(frame(room))
        assert len(client.read_json()["result"][0]) == room
        client.send_text(frame(room + 1))
        client.expect_close(1009)


# And anything at all

def judge(client):
    """Whatever the client has sent: only whole, valid frames come back, and the last is a Close if
    there is one. It has ended its half."""
    while client._fill():
        pass
    try:
        while client.buffer:
            client.read_message()
    except Closed:
        pass                        # a fragment may be the last
    except WsClosed:
        assert not client.buffer, "bytes after the Close"


def shut(client):
    """Ends the client's half, if the server has not ended all by now: it waits 2 s after an error."""
    with contextlib.suppress(OSError):
        client.sock.shutdown(socket.SHUT_WR)


def test_garbage(web):
    """Random bytes end in a valid Close, or wait for more; the server serves on."""
    rng = random.Random(6455)
    for _ in range(60):
        with web.ws("/raw") as client:
            client.send(rng.randbytes(rng.randrange(1, 400)))
            client.try_send(ws_frame(PING, b"x" * 125) * 8)
            shut(client)
            judge(client)
    assert web.rpc("demo.echo", [1]).status == 200


def test_frames_changed_at_random(web):
    """A valid frame with one byte changed: never anything but messages, pongs, a Close."""
    rng = random.Random(1)
    for _ in range(150):
        data = bytearray(ws_frame(TEXT, b"hello") + ws_frame(PING, b"ping") + ws_close(1000))
        data[rng.randrange(len(data))] = rng.randrange(256)
        with web.ws("/raw") as client:
            client.send(bytes(data))
            shut(client)
            judge(client)


def test_nothing_is_left(web):
    with web.ws("/raw") as client:
        client.send(upgrade("/raw"))            # no request any more
        client.expect_close(1002)
    wait_for(lambda: web.connections() == 0, "the end of all")
