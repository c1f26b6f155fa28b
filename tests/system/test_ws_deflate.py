"""permessage-deflate by the cases of Autobahn's sections 12 and 13, and more, from RFC 7692 alone: messages of many kinds and sizes, what may be agreed on, and what is wrong. The
messages of a route are pushed back."""
import contextlib
import itertools
import json
import os
import random
import zlib

import pytest

from fakeworker import echo, hold
from harness import Site, rpc_route, wait_for, ws_route
from httpclient import rpc_body
from reloads import HUP
from wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WsClosed, ws_close, ws_frame
from wsdeflate import TAIL, DeflateClient, deflated, frames, offer, stored

BODY = 200_000          # limits.body: bytes of the largest message, before and after it is inflated
FREE = 1 << 20          # bytes to which a message may inflate, however small it came
RATIO = 100             # times its compressed size that a message may have beyond that
LOUD = 3 << 20          # limits.body of the front that lets messages be as large
HELLO = bytes.fromhex("f248cdc9c90700")         # section 7.2.3.1


@pytest.fixture(scope="module")
def web():
    with Site(routes=[ws_route("/raw", messages="raw", compression=True), ws_route("/plain", messages="raw"),
                      ws_route("/rpc-ws", compression=True), rpc_route()], limits={"body": BODY}) as site:
        site.fake(handler=echo)
        yield site.start()


def connect(web, offers=offer(client_max_window_bits=True), **keys):
    return DeflateClient(web.address, "/raw", offers, **keys)


@pytest.fixture
def client(web):
    with connect(web) as made:
        assert made.agreed is not None
        yield made


def fails(web, data, *codes):
    """These bytes are answered by a Close with one of the codes, and by nothing else."""
    with connect(web) as client:
        client.send(data)
        return client.expect_close(*codes)


def comes_back(client, opcode, data):
    assert client.read_message() == (opcode, data)


# Messages: kinds, sizes, fragments

def json_text(rng):
    rows = [{"id": n, "name": "user-%d" % rng.randrange(500), "ok": n % 3 == 0, "tags": rng.sample(range(20), 3),
             "score": rng.random()} for n in range(1800)]
    return json.dumps(rows).encode()


def prose(rng):
    """Words of several scripts: 1 to 4 bytes a character."""
    scripts = [(97, 122)] * 6 + [(0xe0, 0xff), (0x3b1, 0x3c9), (0x430, 0x44f), (0x4e00, 0x4e80), (0x1f600, 0x1f640)]
    words = ["".join(map(chr, rng.choices(range(*rng.choice(scripts)), k=rng.randrange(2, 9)))) for _ in range(2000)]
    return " ".join(rng.choices(words, k=24000)).encode()


def markup(rng):
    return "".join("<tr class='c%d'><td>%d</td><td><a href='/%x'>\u00fcber</a></td></tr>\n"
                   % (n % 4, n, rng.getrandbits(40)) for n in range(3000)).encode()


def picture(rng):
    """Gradients with some noise, 8 bits a pixel."""
    return bytes((x * y >> 7) + rng.randrange(4) & 255 for y in range(370) for x in range(512))


def noise(rng):
    """Does not become smaller."""
    return rng.randbytes(190_000)


KINDS = {"json": (TEXT, json_text), "prose": (TEXT, prose), "markup": (TEXT, markup),
         "picture": (BINARY, picture), "noise": (BINARY, noise)}


@pytest.fixture(scope="module", params=KINDS)
def source(request):
    """(opcode, function) of a kind of payload: each call of the function cuts another piece of so many bytes."""
    opcode, make = KINDS[request.param]
    data, rng = make(random.Random(7692)), random.Random(12)
    assert len(data) > 131_072 + 4

    def cut(size):
        at = rng.randrange(len(data) - size)
        piece = data[at:at + size]
        if opcode == TEXT:          # characters that were cut become so many of one byte
            piece = piece.decode(errors="ignore").encode()
            piece += b"." * (size - len(piece))
        return piece
    return opcode, cut


@pytest.mark.parametrize("size,count", [(0, 2), (1, 2), (16, 20), (64, 20), (127, 5), (128, 5), (256, 20), (1024, 20),
                                        (4096, 10), (8192, 8), (16384, 6), (32768, 4), (65535, 2), (65536, 2), (131072, 2)])
def test_sizes(client, source, size, count):
    """Half of the messages are sent at once, each of the others when the one before has come back."""
    opcode, cut = source
    pieces = [cut(size) for _ in range(count)]
    for piece in pieces[::2]:
        client.send_packed(opcode, piece)
    for piece in pieces[::2]:
        comes_back(client, opcode, piece)
    for piece in pieces[1::2]:
        client.send_packed(opcode, piece)
        comes_back(client, opcode, piece)
    if opcode == BINARY:
        assert client.packed <= count
    else:
        assert size in (127, 128, 256) or client.packed == (0 if size < 128 else count)


@pytest.mark.parametrize("size,fragment", [(256, 1), (8192, 256), (16384, 256), (32768, 256), (131072, 256), (131072, 1024),
                                           (131072, 4096), (131072, 32768), (131072, 65536)])
def test_fragments(client, source, size, fragment):
    opcode, cut = source
    for between in (b"", ws_frame(PING, b"p") + ws_frame(PONG, b"q")):
        data = cut(size)
        client.send(frames(opcode, deflated(data), fragment, between))
        comes_back(client, opcode, data)
    assert set(client.pongs) <= {b"p"}


def test_from_128_bytes(client):
    """What is shorter is sent as it is."""
    for size in (127, 128):
        client.send_packed(TEXT, b"x" * size)
        comes_back(client, TEXT, b"x" * size)
        assert client.packed == size - 127


def test_compressed_and_plain_messages_in_turns(client, source):
    opcode, cut = source
    pieces = [cut(500) for _ in range(20)]
    for n, piece in enumerate(pieces):
        client.send(frames(opcode, deflated(piece)) if n % 2 else ws_frame(opcode, piece))
    for piece in pieces:
        comes_back(client, opcode, piece)


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED],
                         ids=["default", "filtered", "huffman", "rle", "fixed"])
def test_encoders(client, level, strategy):
    data = json_text(random.Random(level))[:60_000]
    client.send(frames(TEXT, deflated(data, 15 - level % 7, level, strategy)))
    comes_back(client, TEXT, data)


# Forms of deflate

FORMS = {
    "one block": (HELLO, b"Hello"),
    "stored": (stored(b"Hello") + b"\0", b"Hello"),
    "stored, in several": (stored(b"Hel") + stored(b"") + stored(b"lo") + b"\0", b"Hello"),
    "final": (bytes.fromhex("f348cdc9c9070000"), b"Hello"),
    "final and stored": (stored(b"Hello", final=True) + b"\0", b"Hello"),
    "final, then more": (bytes.fromhex("f348cdc9c90700") + HELLO, b"HelloHello"),
    "two blocks": (bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")), b"Hello"),
    "flushed in between": (deflated(b"a" * 50) + TAIL + deflated(b"b" * 50), b"a" * 50 + b"b" * 50),
    "empty blocks": (stored(b"") * 100 + HELLO, b"Hello"),
    "empty": (b"\0", b""),
    "empty and fixed": (bytes.fromhex("0200"), b""),
    "empty and final": (bytes.fromhex("030000"), b""),
    "16 final blocks": (bytes.fromhex("0300") * 16 + b"\0", b""),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fragment", [None, 1])
def test_forms(client, form, fragment):
    payload, data = FORMS[form]
    for opcode in (TEXT, BINARY):
        client.send(frames(opcode, payload, fragment))
        comes_back(client, opcode, data)


def test_empty_fragments(client):
    """Section 6.1 lets each be empty but not all of them."""
    client.send(ws_frame(TEXT, b"", fin=False, rsv=4) + ws_frame(CONTINUATION, HELLO, fin=False) + ws_frame(CONTINUATION))
    comes_back(client, TEXT, b"Hello")


WRONG = {
    "nothing": b"",
    "the third type of block": b"\x06",
    "a length that is not its complement's": b"\0\5\0\xfb\xffHello\0",
    "cut in a block": HELLO[:4],
    "cut in a stored block": stored(b"Hello")[:7],
    "cut in the head of a stored block": stored(b"Hello")[:3],
    "a final block and no more": bytes.fromhex("f348cdc9c90700"),
    "a context of the last message's": bytes.fromhex("f200110000"),         # section 7.2.3.2
    "zlib's head": zlib.compress(b"Hello"),
    "gzip's head": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + HELLO,
    "17 final blocks": bytes.fromhex("0300") * 17 + b"\0",
    "more than a message": HELLO + b"\xff",
    "text that was not compressed": b"Hello",
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_forms(web, case):
    fails(web, frames(BINARY, WRONG[case]), 1007)
    fails(web, frames(TEXT, WRONG[case], 1), 1007)


def test_every_cut_of_a_payload(web):
    """The bytes of a message without its end, as a message; its blocks are of all three types."""
    data = prose(random.Random(3))[:200]
    payload = stored(b"Hello") + deflated(data, strategy=zlib.Z_FIXED) + TAIL + deflated(data)
    borders = {0, len(stored(b"Hello"))}
    for n in range(len(payload)):
        try:
            whole = zlib.decompressobj(-15)
            whole.decompress(payload[:n] + TAIL)
            again = whole.copy()
            good = n > 0 and not again.eof and again.decompress(HELLO) == b"Hello"     # it is between blocks
        except zlib.error:
            good = False
        with connect(web) as client:
            client.send(frames(BINARY, payload[:n]))
            if not good:
                client.expect_close(1007)
            else:
                assert client.read_message()[0] == BINARY
                borders.discard(n)
    assert len(borders) <= 2


def test_utf8_that_is_wrong_when_it_is_inflated(web):
    for bad in (b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"):
        for text in (bad, b"x" * 300 + bad, bad + b"x" * 300):
            fails(web, frames(TEXT, deflated(text)), 1007)
            with connect(web) as client:
                client.send(frames(BINARY, deflated(text)))
                comes_back(client, BINARY, text)


def test_utf8_that_is_wrong_only_while_it_is_compressed(client):
    payload = deflated("\u20ac".encode() * 3)
    with pytest.raises(UnicodeDecodeError):
        payload.decode()
    client.send(frames(TEXT, payload, 1))
    comes_back(client, TEXT, "\u20ac".encode() * 3)


# Frames

def test_reserved_bits(web):
    """RSV1 is for the first frame of a message alone; the others are nobody's."""
    for opcode in (CLOSE, PING, PONG):
        fails(web, ws_frame(opcode, rsv=4), 1002)
    for first in (0, 4):
        fails(web, ws_frame(TEXT, HELLO if first else b"x", fin=False, rsv=first) + ws_frame(CONTINUATION, b"", rsv=4), 1002)
    for rsv in (1, 2, 3, 5, 6, 7):
        fails(web, ws_frame(TEXT, HELLO, rsv=rsv), 1002)
    fails(web, ws_frame(CONTINUATION, HELLO, rsv=4), 1002)
    fails(web, ws_frame(3, HELLO, rsv=4), 1002)
    for first in (0, 4):            # a message within another one
        fails(web, ws_frame(TEXT, HELLO if first else b"x", fin=False, rsv=first) + ws_frame(TEXT, HELLO, rsv=4), 1002)


@pytest.mark.parametrize("path,offers", [("/plain", "permessage-deflate"), ("/raw", "x-other"),
                                         ("/raw", "permessage-deflate; unknown")])
def test_compressed_messages_that_were_not_agreed_on(web, path, offers):
    with DeflateClient(web.address, path, offers) as client:
        assert client.agreed is None
        client.send(ws_frame(TEXT, b"x" * 500))
        comes_back(client, TEXT, b"x" * 500)
        client.send(frames(TEXT, HELLO))
        client.expect_close(1002)


def test_every_cut(web):
    """A compressed message in two fragments around a ping, cut at every byte of them."""
    data = "zw\u00f6lf ".encode() * 20
    bytes_ = frames(TEXT, deflated(data), 9, ws_frame(PING, b"p"))
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(connect(web)) for _ in range(len(bytes_) - 1)]
        for cut, client in enumerate(made, 1):
            client.send(bytes_[:cut])
        assert web.rpc("demo.echo", [1]).status == 200      # all that has been read
        for cut, client in enumerate(made, 1):
            client.send(bytes_[cut:])
        for client in made:
            comes_back(client, TEXT, data)
            assert set(client.pongs) == {b"p"}


def test_byte_by_byte(client):
    data = b"0123456789" * 30
    for byte in frames(BINARY, deflated(data), 5, ws_frame(PING, b"p")):
        client.send(bytes([byte]))
    comes_back(client, BINARY, data)


def test_a_close_within_a_compressed_message(client):
    client.send(ws_frame(TEXT, HELLO[:3], fin=False, rsv=4) + ws_close(1000))
    client.expect_close(1000)


# Limits

def test_the_largest_message(web):
    for data in (b"x" * BODY, (markup(random.Random(5)) * 2)[:BODY]):
        with connect(web) as client:
            client.send_packed(BINARY, data)
            comes_back(client, BINARY, data)
            client.send_packed(BINARY, data + b"x")
            client.expect_close(1009)


def test_the_largest_payload(web):
    """What is sent is held to the limit, whatever it inflates to."""
    blocks, rest = divmod(BODY - len(HELLO), 5)
    payload = stored(b"") * (blocks - 1) + stored(b"x" * rest) + HELLO
    assert len(payload) == BODY
    for fragment in (None, 10_000):
        with connect(web) as client:
            client.send(frames(TEXT, payload, fragment))
            comes_back(client, TEXT, b"x" * rest + b"Hello")
        fails(web, frames(TEXT, stored(b"") * (blocks - 1) + stored(b"x" * (rest + 1)) + HELLO, fragment), 1009)
    heads = ws_frame(CONTINUATION, fin=False)       # nor may it have more than that in heads of fragments
    fails(web, ws_frame(TEXT, HELLO, fin=False, rsv=4) + heads * (BODY // len(heads) + 1), 1009)


def test_bombs(site):
    """Up to FREE bytes, or RATIO times what came; a byte more is refused, and so is what would be very much more."""
    web = site(routes=[ws_route("/raw", messages="raw", compression=True), rpc_route()], limits={"body": LOUD})
    web.fake(handler=echo)
    web.start()
    with connect(web) as client:
        client.send_packed(BINARY, bytes(FREE))
        comes_back(client, BINARY, bytes(FREE))
        client.send_packed(BINARY, bytes(FREE + 1))
        client.expect_close(1009)

    def padded(zeros):                              # what came becomes larger by empty blocks
        return deflated(bytes(zeros)) + TAIL + stored(b"") * 5000 + b"\0"

    size, most = 0, RATIO * len(padded(0))
    while size != most:                             # the more zeros, the more may come of them
        size, most = most, RATIO * len(padded(most))
    assert FREE < size < LOUD and len(padded(size + 1)) == len(padded(size))
    with connect(web) as client:
        client.send(frames(BINARY, padded(size)))
        comes_back(client, BINARY, bytes(size))
        client.send(frames(BINARY, padded(size + 1)))
        client.expect_close(1009)
    fails(web, frames(BINARY, deflated(bytes(10 * LOUD))), 1009)
    assert web.rpc("demo.echo", [1]).status == 200
    wait_for(lambda: web.connections() == 0, "the end of all")


# What is agreed on

BITS = [None, *range(8, 16)]


@pytest.mark.parametrize("server_bits", BITS)
def test_parameters(web, server_bits):
    """All valid offers with this window for the server. 8 may be declined (section 7.1.2.1), which is what zlib needs."""
    data = b"".join(b"%d " % (n * n) for n in range(400)) * 2
    for client_bits, *takeovers in itertools.product([None, True, *BITS[1:]], (None, True), (None, True)):
        values = zip(("server_max_window_bits", "client_max_window_bits", "server_no_context_takeover",
                      "client_no_context_takeover"), (server_bits, client_bits, *takeovers))
        with connect(web, offer(**{name: value for name, value in values if value is not None})) as client:
            agreed = client.agreed
            if server_bits == 8:
                assert agreed is None
                continue
            assert "server_no_context_takeover" in agreed and "client_no_context_takeover" in agreed
            assert agreed.get("server_max_window_bits") == server_bits
            if client_bits is None:
                assert "client_max_window_bits" not in agreed       # section 7.1.2.2
            for _ in range(2):
                client.send_packed(TEXT, data)
                comes_back(client, TEXT, data)
            assert client.packed == 2


@pytest.mark.parametrize("bits", BITS[2:])
def test_windows(web, bits):
    """Messages of all sizes that repeat themselves, at distances that the window has and at those that it has not."""
    rng = random.Random(bits)
    with connect(web, offer(server_max_window_bits=bits, client_max_window_bits=True)) as client:
        for size, fragment in [(200, 1), (1024, 100), (8192, 256), (32768, 1024), (65536, None), (131072, 4096)]:
            for distance in ((1 << bits) // 2, (1 << bits) + 100, 30_000):
                data = (bytes(rng.choices(b"0123456789abcdef", k=distance)) * (size // distance + 1))[:size]
                client.send_packed(TEXT, data, fragment)
                comes_back(client, TEXT, data)
        assert client.packed == 18


BAD = [
    "unknown", "server_no_context_takeover; unknown", "unknown=1", "server_no_context_takeover=1",
    "server_no_context_takeover=", "client_no_context_takeover=true", "server_max_window_bits", "server_max_window_bits=",
    "client_max_window_bits=", *("%s_max_window_bits=%s" % pair for pair in itertools.product(
        ("server", "client"), ("0", "7", "16", "08", "+9", "-9", "9.", "1e1", "100", "x", "\"7\"", "\"9", "9\"", "\"\"", "''"))),
    *("%s; %s" % (name, name) for name in ("server_no_context_takeover", "client_no_context_takeover",
                                           "server_max_window_bits=9", "client_max_window_bits=9", "client_max_window_bits")),
    "client_max_window_bits; client_max_window_bits=9", ";", "; server_no_context_takeover;", "=", "=9",
]


@pytest.mark.parametrize("first", [0, 1, 2], ids=["alone", "before another", "in a field of its own"])
def test_bad_offers(web, first):
    """Each is declined and the next one looked at; the connection is none the worse for it."""
    good = offer(server_max_window_bits=10)
    for parameters in BAD:
        if first == 1 and parameters.count('"') % 2:
            continue                # a string without an end has the next offer in it
        bad = "permessage-deflate; " + parameters
        offers = [bad, bad + ", " + good, bad + "\r\nSec-WebSocket-Extensions: " + good][first]
        with connect(web, offers) as client:
            assert (client.agreed is None) == (first == 0), offers
            if first:
                assert client.agreed["server_max_window_bits"] == 10, offers
            client.send_text(b"x" * 300)
            comes_back(client, TEXT, b"x" * 300)


@pytest.mark.parametrize("offers,bits", [
    ("permessage-deflate; server_max_window_bits=\"12\"", 12),
    ("Permessage-Deflate; SERVER_MAX_WINDOW_BITS=12", 12),
    ("permessage-deflate ;server_max_window_bits=12\t;  client_max_window_bits", 12),
    ("permessage-deflate; server_max_window_bits=12, permessage-deflate; server_max_window_bits=9", 12),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9", 9),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", None),
    ("x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate", None),
    (", ,permessage-deflate,,", None),
    ("x-other; text=\"a, b; c\\\" d\", permessage-deflate; server_max_window_bits=11", 11),
])
def test_offers_of_several(web, offers, bits):
    with connect(web, offers) as client:
        assert client.agreed is not None and client.agreed.get("server_max_window_bits") == bits
        client.send_packed(TEXT, b"x" * 300)
        comes_back(client, TEXT, b"x" * 300)


@pytest.mark.parametrize("offers", [
    "", ",", ";", "permessage-deflat", "permessage-deflate-2", "x-permessage-deflate", "permessage deflate", "\"permessage-deflate\"",
    "x-other; text=\"a, permessage-deflate, b\"", "x-other; text=\"a\\\", permessage-deflate, b\"", "permessage-deflate=1",
])
def test_what_is_no_offer(web, offers):
    with connect(web, offers) as client:
        assert client.agreed is None


# What else there is

def test_calls(web):
    with DeflateClient(web.address, "/rpc-ws") as client:
        params = [{"n": n, "text": "x" * 50} for n in range(100)]
        client.send(frames(TEXT, deflated(rpc_body("demo.echo", params)), 100))
        assert client.read_json()["result"] == params and client.packed == 1


def test_over_reloads(front):
    """In the middle of a message and between its fragments, some with a ping; and then to a route that has it no more."""
    route = ws_route("/raw", messages="raw", compression=True)
    web = front(routes=[route], limits={"body": BODY})
    web.fake(handler=echo)
    web.start()
    data = "".join("%d\u00fc" % n for n in range(400)).encode() * 2     # repeats itself beyond the smaller window
    parts = [frames(TEXT, deflated(data), 30), frames(TEXT, deflated(data), 30, ws_frame(PING, b"p"))]
    cuts = [*range(1, 30, 7), *range(34, 110), -36, -2, -1]
    offers = itertools.cycle([offer(server_max_window_bits=10), offer(client_max_window_bits=True)])
    with contextlib.ExitStack() as stack:
        made = [(stack.enter_context(connect(web, next(offers))), bytes_, cut) for bytes_ in parts for cut in cuts]
        for compression in (True, False):
            for client, bytes_, cut in made:
                client.send(bytes_[:cut])
            route["compression"] = compression
            web.reload(HUP)
            for client, bytes_, cut in made:
                client.send(bytes_[cut:])
            for client, _, _ in made:
                packed = client.packed
                comes_back(client, TEXT, data)
                assert client.packed == packed + 1
        with connect(web) as client:
            assert client.agreed is None


def test_control_frames_behind_compressed_messages_that_wait(site):
    """They are answered before the messages are looked at, as behind those that are not compressed."""
    web = site(routes=[ws_route("/rpc-ws", compression=True)], limits={"calls_per_connection": 1})
    worker = web.fake(handler=hold)
    web.start()
    with DeflateClient(web.address, "/rpc-ws") as client:
        bodies = [rpc_body("m", [n, "x" * 200], n) for n in range(6)]
        client.send(frames(TEXT, deflated(bodies[0])))
        worker.wait_calls(1)
        for n, body in enumerate(bodies[1:], 1):
            client.send(frames(TEXT, deflated(body), 20, ws_frame(PING, b"in")) + ws_frame(PING, b"%d" % n))
            while client.read_pong() != b"%d" % n:
                pass
        assert len(worker.calls) == 1
        for n in range(6):
            worker.wait_calls(n + 1).reply([n] * 200)
            assert client.read_json() == {"jsonrpc": "2.0", "id": n, "result": [n] * 200}
        assert [c.params for c in worker.calls] == [[n, "x" * 200] for n in range(6)] and client.packed == 6


# And anything at all

def test_garbage(web):
    """Messages with some bytes changed: they come back as they inflate for zlib, or the connection is closed."""
    rng = random.Random(7692)
    payload = deflated(json_text(rng)[:3000])
    for _ in range(100):
        changed = bytearray(payload)
        for _ in range(rng.choice((1, 1, 3))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        with connect(web) as client:
            client.send(frames(BINARY, bytes(changed)) + ws_close(1000))
            try:
                data = client.read_message()
                assert data == (BINARY, zlib.decompressobj(-15).decompress(bytes(changed) + TAIL))
                client.expect_close(1000)
            except WsClosed as e:
                assert e.code in (1000, 1007), e
    assert web.rpc("demo.echo", [os.getpid()]).status == 200
