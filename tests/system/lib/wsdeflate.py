"""A WebSocket client with permessage-deflate (RFC 7692), which judges strictly what the server agrees to and sends."""
import re
import struct
import zlib

from wsclient import BINARY, CONTINUATION, TEXT, BadFrame, WsClient, ws_frame

TAIL = b"\0\0\xff\xff"      # what ends each message, and is not sent: section 7.2.1
PARAMETERS = ("server_no_context_takeover", "client_no_context_takeover",
              "server_max_window_bits", "client_max_window_bits")
PIECE = 32          # bytes


def offer(**parameters):
    """One offer. A parameter's value is True where it has none."""
    return "; ".join(["permessage-deflate"] + [name if value is True else "%s=%s" % (name, value)
                                               for name, value in parameters.items()])


def deflated(data, bits=15, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
    """The payload of a compressed message."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -max(bits, 9), 9, strategy)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(TAIL)
    return packed[:-4]


def stored(data, final=False):
    """Blocks without compression (RFC 1951 section 3.2.4), each of at most 65,535 bytes."""
    parts = [data[i:i + 65535] for i in range(0, len(data), 65535)] or [b""]
    return b"".join(struct.pack("<BHH", final and n == len(parts) - 1, len(part), len(part) ^ 0xffff) + part
                    for n, part in enumerate(parts))


def frames(opcode, payload, size=None, between=b""):
    """A compressed message in fragments of at most `size` bytes, with other frames between them."""
    size = size or max(len(payload), 1)
    parts = [payload[i:i + size] for i in range(0, len(payload), size)] or [b""]
    return between.join(ws_frame(CONTINUATION if n else opcode, part, fin=n == len(parts) - 1, rsv=0 if n else 4)
                        for n, part in enumerate(parts))


def parse(answer):
    """{name: value or None} of an answer that has one extension, in the form that section 7.1 lets a server use."""
    name, *rest = [part.strip() for part in answer.split(";")]
    assert name == "permessage-deflate", answer
    agreed = {}
    for part in rest:
        name, equals, value = part.partition("=")
        assert name in PARAMETERS and name not in agreed, answer
        assert bool(equals) == name.endswith("_bits"), answer
        assert not equals or re.fullmatch("[89]|1[0-5]", value), answer
        agreed[name] = int(value) if equals else None
    return agreed


def inflated(inflater, data):
    """What the data inflates to. zlib lets a distance reach whatever one call has put out, however small the window is: so
    the output is taken in pieces, and a distance is at most PIECE bytes too large without a zlib.error."""
    parts = []
    while True:
        parts.append(inflater.decompress(data, PIECE))
        data = inflater.unconsumed_tail
        if not parts[-1]:
            assert not data and not inflater.unused_data
            return b"".join(parts)


class DeflateClient(WsClient):
    """`offers`: the value of Sec-WebSocket-Extensions. `agreed`: what parse() has made of the answer, or None where
    the server has declined. `packed` counts the messages that came compressed."""

    def __init__(self, address, path, offers=offer(client_max_window_bits=True), **keys):
        self.agreed, self.packed, self._inflater, self._is_packed = None, 0, None, False
        super().__init__(address, path, headers=[("Sec-WebSocket-Extensions", offers)], **keys)

    def _extensions(self, answer):
        if answer is not None:
            self.agreed = parse(answer)

    @property
    def bits(self):
        """Of the window that the client may have."""
        return self.agreed.get("client_max_window_bits", 15)

    def _reserved(self, first):
        if first & 0x70 and not (first & 0x70 == 0x40 and first & 15 in (TEXT, BINARY) and self.agreed is not None):
            raise BadFrame("reserved bits: %02x" % first)
        if first & 15 in (TEXT, BINARY):
            self._is_packed = bool(first & 0x40)

    def _whole(self, kind, data):
        """A distance that is larger than the window fails."""
        return super()._whole(kind, self._inflated(data) if self._is_packed else data)

    def _inflated(self, data):
        bits = self.agreed.get("server_max_window_bits", 15)
        if self._inflater is None or "server_no_context_takeover" in self.agreed:
            self._inflater = zlib.decompressobj(-bits)
        self.packed += 1
        if bits < 15:
            return inflated(self._inflater, data + TAIL)
        whole = self._inflater.decompress(data + TAIL)
        assert not self._inflater.unused_data and not self._inflater.unconsumed_tail
        return whole

    def send_packed(self, opcode, data, size=None):
        """A message, compressed by itself."""
        self.send(frames(opcode, deflated(data, self.bits), size))
