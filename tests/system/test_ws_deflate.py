"""permessage-deflate, by the cases of Autobahn's sections 12 and 13, written from RFC 7692 alone."""
import json
import random
import zlib

import pytest

from harness import Site, ws_route
from reloads import HUP
from wsclient import BINARY, CLOSE, CONTINUATION, PING, TEXT, WsClient, upgrade, ws_frame

TAIL = b"\0\0\xff\xff"
LIMIT = 131072
BODY = LIMIT + 100      # of limits.body: what is compressed counts, too, and noise becomes larger
SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, LIMIT]
RSV1, RSV2 = 4, 2
DEFLATE = "permessage-deflate"


def pack(data, bits=15, level=6, tail=False, **keys):
    """A message as its payload has it (section 7.2.1)."""
    coder = zlib.compressobj(level, zlib.DEFLATED, -bits, **keys)
    packed = coder.compress(data) + coder.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(TAIL)
    return packed if tail else packed[:-4]


class Client(WsClient):
    """One that offers extensions and has this agreed on. bits: of the server's window, by which its messages have to do;
    packed: of how many messages that came RSV1 was set."""

    def __init__(self, address, path, offer=DEFLATE, **keys):
        self.packed, self.rsv = 0, False
        super().__init__(address, path, headers=[("Sec-WebSocket-Extensions", offer)] if offer else [], **keys)

    def upgraded(self, key=None):
        self.response = self.read_response()
        assert self.response.status == 101, self.response
        answer = self.response.header("sec-websocket-extensions") or ""
        name, *rest = [one.strip() for one in answer.split(";")]
        assert name in ("", DEFLATE) and len(set(rest)) == len(rest), answer
        self.agreed = {one.partition("=")[0]: one.partition("=")[2] for one in rest} if name else None
        self.bits = int((self.agreed or {}).get("server_max_window_bits") or 15)
        return self.response

    def read_frame(self):
        if not self.buffer:
            self._fill()
        if self.buffer and self.buffer[0] & 15 in (TEXT, BINARY):
            self.rsv = self.agreed is not None and bool(self.buffer[0] & 0x40)
            if self.rsv:
                self.buffer[0] &= 0xbf
        return super().read_frame()     # which takes no other reserved bit

    def _whole(self, kind, data):
        if self.rsv:
            self.packed += 1
            data = zlib.decompressobj(-self.bits).decompress(data + TAIL)   # no context is taken over
        return super()._whole(kind, data)

    def send_packed(self, data, opcode=BINARY, fragment=None, **keys):
        """In frames of so many bytes, of which the first has RSV1 (section 6.1)."""
        payload = pack(data, **keys)
        self.send_payload(payload, opcode, fragment or max(len(payload), 1))

    def send_payload(self, payload, opcode=BINARY, fragment=1 << 30):
        parts = [payload[at:at + fragment] for at in range(0, len(payload), fragment)] or [b""]
        self.send(b"".join(ws_frame(opcode if n == 0 else CONTINUATION, part, fin=n == len(parts) - 1,
                                    rsv=RSV1 if n == 0 else 0) for n, part in enumerate(parts)))


def echo(call):
    if call.method == "frontd.message":
        call.push(call.blob, binary=call.binary)
    elif not call.notify:
        call.reply(call.params)


def routes():
    """Routes that echo: raw messages, and the params of calls."""
    return [ws_route("/raw", messages="raw", compression=True), ws_route("/rpc", compression=True),
            ws_route("/plain", messages="raw")]


@pytest.fixture(scope="module")
def web():
    with Site(shards=1, routes=routes(), limits={"body": str(BODY)}) as site:
        site.fake(handler=echo)
        yield site.start() or site


def payload(kind, size, rng):
    """As Autobahn's: JSON, text with characters of several bytes, binary ones that compress well, and not at all."""
    if kind == "json":
        words = json.dumps([{"name": "item %d" % rng.randrange(1000), "value": rng.random()} for _ in range(size // 40 + 1)])
        return TEXT, words.encode()[:size]
    if kind == "utf8":
        return TEXT, "".join(rng.choice("aäöü€𝄞 Ωµ") for _ in range(size)).encode()[:size].decode(errors="ignore").encode()
    if kind == "zeros":
        return BINARY, bytes(size)
    return BINARY, rng.randbytes(size)


@pytest.mark.parametrize("kind", ["json", "utf8", "zeros", "noise"])
def test_section_12(web, kind):
    """Messages of each size, whole and in frames of several sizes, one after another and several at once."""
    rng = random.Random(12)
    with Client(web.address, "/raw") as client:
        for size in SIZES:
            for fragment in (None, 1 + size // 7, 256 if size > 4096 else 1):
                sent = [payload(kind, size, rng) for _ in range(3)]
                for opcode, data in sent:
                    client.send_packed(data, opcode, fragment)
                for message in sent:
                    assert client.read_message() == message
        if kind != "noise":     # what does not become smaller goes as it is
            assert client.packed >= 3 * 3 * len([size for size in SIZES if size >= 256])
        assert client.finish()[0] == 1000


OFFERS = [  # what is offered, whether it is agreed on, and the server's window
    (DEFLATE, True, None),
    (DEFLATE + "; server_no_context_takeover", True, None),
    (DEFLATE + "; client_no_context_takeover", True, None),
    (DEFLATE + "; client_max_window_bits", True, None),
    (DEFLATE + "; client_max_window_bits=8", True, None),
    (DEFLATE + "; client_max_window_bits=15; server_no_context_takeover; client_no_context_takeover", True, None),
    *[(DEFLATE + "; server_max_window_bits=%d" % bits, bits > 8, bits if bits > 8 else None) for bits in range(8, 16)],
    (DEFLATE + '; server_max_window_bits="10"', True, 10),
    (DEFLATE + "; server_no_context_takeover; server_max_window_bits=9", True, 9),
    # Several: the first that can be.
    (DEFLATE + "; server_max_window_bits=8, " + DEFLATE + "; server_max_window_bits=12, " + DEFLATE, True, 12),
    ("x-webkit-deflate-frame, " + DEFLATE + "; client_max_window_bits", True, None),
    ("foo; bar=1, " + DEFLATE + "; baz, " + DEFLATE, True, None),
    # Wrong ones (section 7.1): declined.
    (DEFLATE + "; server_no_context_takeover=1", False, None),
    (DEFLATE + "; client_no_context_takeover=true", False, None),
    (DEFLATE + "; server_max_window_bits", False, None),
    *[(DEFLATE + "; server_max_window_bits=" + bits, False, None) for bits in ("7", "16", "08", "1e1", "-9", "99999999999", '""')],
    *[(DEFLATE + "; client_max_window_bits=" + bits, False, None) for bits in ("7", "16", "09", "x")],
    (DEFLATE + "; server_no_context_takeover; server_no_context_takeover", False, None),
    (DEFLATE + "; client_max_window_bits=9; client_max_window_bits=9", False, None),
    (DEFLATE + "; unknown", False, None),
    ("permessage-bzip2", False, None),
    (None, False, None),
]


@pytest.mark.parametrize("offer, agreed, bits", OFFERS)
def test_section_13(web, offer, agreed, bits):
    rng = random.Random(13)
    with Client(web.address, "/raw", offer) as client:
        assert (client.agreed is not None) is agreed
        if agreed:
            assert {"server_no_context_takeover", "client_no_context_takeover"} <= set(client.agreed)
            assert client.agreed.get("server_max_window_bits") == (str(bits) if bits else None)
            asked = "client_max_window_bits" in offer.split(",")[-1]
            assert asked or "client_max_window_bits" not in client.agreed       # section 7.1.2.2
        for size in (16, 1024, 65536):
            message = payload("json", size, rng)
            if agreed:
                client.send_packed(message[1], message[0])
            else:
                client.send_frame(message[0], message[1])
            assert client.read_message() == message
        assert client.packed == (2 if agreed else 0)


def test_a_route_without_it(web):
    with Client(web.address, "/plain") as client:
        assert client.agreed is None
        client.send_packed(b"x")
        assert client.expect_close(1002)


def test_calls(web):
    with Client(web.address, "/rpc") as client:
        params = [{"n": n, "text": "x" * 50} for n in range(100)]
        client.send_packed(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": params}).encode(), TEXT, 100)
        kind, data = client.read_message()
        assert kind == TEXT and json.loads(data)["result"] == params and client.packed == 1


def stored(data, last=False):
    """Blocks without compression (RFC 1951 section 3.2.4). last: with BFINAL."""
    return b"".join(bytes([1 if last and at + 65535 >= len(data) else 0]) + len(data[at:at + 65535]).to_bytes(2, "little") +
                    (65535 - len(data[at:at + 65535])).to_bytes(2, "little") + data[at:at + 65535]
                    for at in range(0, max(len(data), 1), 65535))


def several_blocks(data):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = b"".join(coder.compress(data[at:at + 100]) + coder.flush(zlib.Z_FULL_FLUSH) for at in range(0, len(data), 100))
    return (out + coder.flush(zlib.Z_SYNC_FLUSH))[:-4]


def final(data):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(data) + coder.flush(zlib.Z_FINISH)


@pytest.mark.parametrize("how, plain", [
    (lambda data: pack(data), b"Hello" * 10), (lambda data: pack(data, level=0), b"Hello"),
    (lambda data: pack(data, strategy=zlib.Z_FIXED), b"Hello"), (several_blocks, bytes(range(256)) * 8),
    (lambda data: stored(data) + b"\0", b"Hello" * 20000), (lambda data: pack(data, bits=9), b"ab" * 3000),
    (lambda data: final(data) + b"\0", b"Hello" * 30),      # section 7.2.3.4: BFINAL, and a byte for the tail
    (lambda data: pack(data, tail=True)[:-4], b""), (lambda data: b"\0", b"")])
def test_what_deflate_may_write(web, how, plain):
    """Section 7.2.3's examples and their kind: whatever blocks, the message is the same."""
    with Client(web.address, "/raw") as client:
        for fragment in (1 << 30, 1 if len(plain) < 1000 else 1000):
            client.send_payload(how(plain), BINARY, fragment)
            client.send_packed(b"behind it" * 20)
            got = client.read_message()
            assert got == (BINARY, plain), got[1][:50]
            assert client.read_message() == (BINARY, b"behind it" * 20)


def test_examples_of_the_rfc(web):
    """Section 7.2.3.1 and the following."""
    with Client(web.address, "/raw") as client:
        for text in ("f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000", "f24805000000ffffcac9c90700"):
            client.send_payload(bytes.fromhex(text), TEXT)
            assert client.read_message() == (TEXT, b"Hello"), text


@pytest.mark.parametrize("code, frames", [
    (1002, [ws_frame(PING, b"x", rsv=RSV1)]), (1002, [ws_frame(CLOSE, b"", rsv=RSV1)]),
    (1002, [ws_frame(BINARY, pack(b"x" * 200), rsv=RSV1 | RSV2)]), (1002, [ws_frame(BINARY, b"x", rsv=RSV2)]),
    (1002, [ws_frame(BINARY, pack(b"x" * 200)[:5], fin=False, rsv=RSV1), ws_frame(CONTINUATION, pack(b"x" * 200)[5:], rsv=RSV1)]),
    (1002, [ws_frame(BINARY, b"x", fin=False), ws_frame(CONTINUATION, b"x", rsv=RSV1)]),
    (1007, [ws_frame(BINARY, b"", rsv=RSV1)]),                                  # an empty one is a byte: section 7.2.3.6
    (1007, [ws_frame(BINARY, b"\x07", rsv=RSV1)]),                              # block type 3
    (1007, [ws_frame(BINARY, b"\xff" * 30, rsv=RSV1)]),
    (1007, [ws_frame(BINARY, pack(b"some text, and more" * 20)[:-7], rsv=RSV1)]),     # it ends in the middle
    (1007, [ws_frame(BINARY, b"\x00\x05\x00\xfa\xfeHello\x00", rsv=RSV1)]),     # lengths that do not fit
    (1007, [ws_frame(TEXT, pack(b"\xff\xfe" * 100), rsv=RSV1)]), (1007, [ws_frame(TEXT, pack(b"\xed\xa0\x80"), rsv=RSV1)]),
    (1007, [ws_frame(TEXT, pack("ä".encode()[:1]), rsv=RSV1)]),
    (1009, [ws_frame(BINARY, pack(bytes(BODY + 1)), rsv=RSV1)]),
    (1009, [ws_frame(BINARY, pack(bytes(50 << 20)), rsv=RSV1)]),
])
def test_what_is_wrong(web, code, frames):
    with Client(web.address, "/raw") as other, Client(web.address, "/raw") as client:
        for frame in frames:
            client.try_send(frame)
        client.expect_close(code)
        other.send_packed(b"others go on" * 20)
        assert other.read_message() == (BINARY, b"others go on" * 20)


def test_the_largest_message(web):
    for data in (bytes(BODY), random.Random(1).randbytes(LIMIT)):
        with Client(web.address, "/raw") as client:
            client.send_packed(data)
            assert client.read_message() == (BINARY, data)


def test_cut_anywhere(web):
    """Each byte of a message in frames by itself, with control frames between them."""
    data = b"".join(b"%d," % n for n in range(60))
    packed = pack(data)
    frames = (ws_frame(BINARY, packed[:7], fin=False, rsv=RSV1) + ws_frame(PING, b"between") +
              ws_frame(CONTINUATION, b"", fin=False) + ws_frame(CONTINUATION, packed[7:]))
    with Client(web.address, "/raw") as client:
        for cut in range(1, len(frames)):
            client.send(frames[:cut])
            client.send(frames[cut:])
            assert client.read_message() == (BINARY, data), cut
        assert client.pings == [] and set(client.pongs) == {b"between"} and len(client.pongs) == len(frames) - 1


@pytest.mark.parametrize("cut", [1, 3, 20, 40, 47])
def test_over_a_reload(front, cut):
    """In the middle of a message, and between its fragments."""
    site = front(routes=routes(), limits={"body": str(BODY)})
    site.fake(handler=echo)
    site.start()
    data = b"".join(b"%d," % n for n in range(200))
    packed = pack(data)
    frames = ws_frame(BINARY, packed[:30], fin=False, rsv=RSV1) + ws_frame(CONTINUATION, packed[30:])
    with Client(site.address, "/raw", DEFLATE + "; server_max_window_bits=10") as client:
        client.send(frames[:cut])
        site.reload(HUP)
        client.send(frames[cut:])
        assert client.read_message() == (BINARY, data) and client.packed == 1


def test_many_messages(web):
    """No message knows of the one before it, in either direction."""
    rng = random.Random(5)
    with Client(web.address, "/raw") as client:
        for _ in range(20):
            sent = [payload(rng.choice(["json", "utf8", "zeros", "noise"]), rng.randrange(1, 3000), rng) for _ in range(25)]
            for opcode, data in sent:
                if rng.random() < 0.3:      # not each has to be compressed (section 6.1)
                    client.send_frame(opcode, data)
                else:
                    client.send_packed(data, opcode, bits=rng.randrange(9, 16), level=rng.randrange(0, 10))
            for message in sent:
                assert client.read_message() == message


def test_an_offer_in_several_fields(web):
    with Client(web.address, None, None) as client:
        client.send(upgrade("/raw", headers=[("Sec-WebSocket-Extensions", "foo"), ("Sec-WebSocket-Extensions", DEFLATE)]))
        client.upgraded()
        assert client.agreed is not None
