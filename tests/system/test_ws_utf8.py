"""Text that is not UTF-8 is refused with 1007 as soon as that is certain, however it is cut; text that is
comes through. The sequences are those of Markus Kuhn's stress test and of Unicode's table 3-7."""
import codecs
import contextlib

import pytest

from harness import Site, rpc_route, ws_route
from wsclient import CONTINUATION, PING, TEXT, ws_frame


VALID = [
    b"", b"\x00", b"\x7f", b"abc", b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xe0\xbf\xbf", b"\xe1\x80\x80",
    b"\xec\xbf\xbf", b"\xed\x80\x80", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xef\xbf\xbe",
    b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf0\xbf\xbf\xbf", b"\xf1\x80\x80\x80", b"\xf3\xbf\xbf\xbf",
    b"\xf4\x80\x80\x80", b"\xf4\x8f\xbf\xbf", "κόσμε".encode(), "\U0001f600 a\u0301\u200d".encode(),
    b"\xef\xbb\xbf", b"\xef\xb7\x90",
]

# Each is wrong at its last byte, and not before.
INVALID = [
    b"\x80", b"\xbf", b"a\x80", b"\xc2\x80\x80", b"\xe1\x80\x80\x80", b"\xf1\x80\x80\x80\x80",    # no beginning
    b"\xc0", b"\xc1", b"\xe0\x80", b"\xe0\x9f", b"\xf0\x80", b"\xf0\x8f",                         # overlong
    b"\xed\xa0", b"\xed\xaf", b"\xed\xb0", b"\xed\xbf",                                           # surrogates
    b"\xf4\x90", b"\xf4\xbf", b"\xf5", b"\xf6", b"\xf7", b"\xf8", b"\xfb", b"\xfc", b"\xfd",      # beyond
    b"\xfe", b"\xff",                                                                             # never
    b"\xc2a", b"\xc2\xc2", b"\xdf\x7f", b"\xdf\xc0", b"\xe1a", b"\xe1\x80a", b"\xe1\xc0",         # cut off
    b"\xe1\x80\xe1", b"\xef\xbf\x7f", b"\xf1a", b"\xf1\x80a", b"\xf1\x80\x80a", b"\xf1\x80\x80\xf1",
    b"\xe0\xa0\x7f", b"\xed\x9f\xc0", b"\xf0\x90\xc0", b"\xf4\x8f\x80\x00", b"\xc2\x00",
]

# The beginnings of characters: fine so far, wrong at the end of the message.
UNFINISHED = [b"\xc2", b"\xdf", b"\xe0", b"\xe0\xa0", b"\xe1\x80", b"\xed", b"\xed\x9f", b"\xef\xbf", b"\xf0",
              b"\xf0\x90", b"\xf0\x90\x80", b"\xf1\x80\x80", b"\xf4\x8f\xbf"]

# Before and after: nothing, text, and what fills a word or a vector.
AROUND = [b"", "κόσμ".encode(), b"x" * 31 + "\u20ac".encode()]


@pytest.fixture(scope="module")
def web():
    with Site(routes=[ws_route("/raw", messages="raw"), rpc_route()]) as site:
        site.fake()
        yield site.start()


def refused(web, pieces):
    """Clients that each send a list of pieces, the shard having read each piece before the next one is
    sent; each gets 1007 and nothing else. The last piece may come too late."""
    with contextlib.ExitStack() as stack:
        made = [(stack.enter_context(web.ws("/raw")), one) for one in pieces]
        for n in range(max(len(one) for one in pieces)):
            for client, one in made:
                if n < len(one):
                    client.try_send(one[n])
            assert web.rpc("demo.echo", [1]).status == 200
        for client, one in made:
            try:
                client.expect_close(1007)
            except AssertionError as e:
                raise AssertionError("%r: %s" % (one, e)) from e


def test_the_tables_are_right():
    for text in VALID:
        text.decode()
    for bad in INVALID:
        codecs.getincrementaldecoder("utf-8")().decode(bad[:-1])
        with pytest.raises(UnicodeDecodeError):
            bad.decode()
    for part in UNFINISHED:
        with pytest.raises(UnicodeDecodeError) as e:
            part.decode()
        assert e.value.reason == "unexpected end of data"


def test_valid(web):
    with web.ws("/raw") as client:
        for around in AROUND:
            for text in VALID:
                client.send_text(around + text + around)
                assert client.read_text() == around + text + around


def test_valid_in_two_fragments_cut_everywhere(web):
    text = b"".join(VALID)
    with web.ws("/raw") as client:
        for cut in range(len(text) + 1):
            client.send(ws_frame(TEXT, text[:cut], fin=False) + ws_frame(PING, b"p")
                        + ws_frame(CONTINUATION, text[cut:]))
            assert client.read_text() == text


def test_valid_in_fragments_of_a_byte(web):
    text = b"".join(VALID)
    with web.ws("/raw") as client:
        client.send(b"".join(ws_frame(CONTINUATION if n else TEXT, text[n:n + 1], fin=n == len(text) - 1)
                             for n in range(len(text))))
        assert client.read_text() == text


def test_valid_cut_on_the_wire(web):
    text = b"".join(VALID)
    data = ws_frame(TEXT, text)
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(web.ws("/raw")) for _ in range(len(data) - 1)]
        for cut, client in enumerate(made, 1):
            client.send(data[:cut])
        assert web.rpc("demo.echo", [1]).status == 200
        for cut, client in enumerate(made, 1):
            client.send(data[cut:])
        for client in made:
            assert client.read_text() == text


@pytest.mark.parametrize("around", AROUND, ids=["alone", "text", "words"])
def test_invalid(web, around):
    refused(web, [[ws_frame(TEXT, around + bad + around)] for bad in INVALID])


@pytest.mark.parametrize("around", AROUND, ids=["alone", "text", "words"])
def test_unfinished_at_the_end(web, around):
    refused(web, [[ws_frame(TEXT, around + part)] for part in UNFINISHED])
    refused(web, [[ws_frame(TEXT, around + part, fin=False), ws_frame(CONTINUATION)] for part in UNFINISHED])
    refused(web, [[ws_frame(TEXT, around + part, fin=False) + ws_frame(CONTINUATION, b"a")]
                  for part in UNFINISHED])


def test_invalid_in_two_fragments_cut_everywhere(web):
    refused(web, [[ws_frame(TEXT, bad[:cut], fin=False) + ws_frame(CONTINUATION, bad[cut:])]
                  for bad in INVALID for cut in range(len(bad) + 1)])


def test_invalid_cut_on_the_wire(web):
    """The payload's bytes come one after the other."""
    refused(web, [[ws_frame(TEXT, bad)[:-len(bad) + cut], ws_frame(TEXT, bad)[-len(bad) + cut:]]
                  for bad in INVALID for cut in range(len(bad))])


def test_invalid_is_refused_before_the_rest_comes(web):
    """The frame has more to come, or its message has: the wrong byte is enough."""
    refused(web, [[ws_frame(TEXT, around + bad, length=len(around + bad) + 40)]
                  for bad in INVALID for around in AROUND])
    refused(web, [[ws_frame(TEXT, around + bad, fin=False)] for bad in INVALID for around in AROUND])
    refused(web, [[ws_frame(TEXT, b"a", fin=False) + ws_frame(CONTINUATION, bad, fin=False)]
                  for bad in INVALID])


def test_a_ping_within_a_character(web):
    """Control frames between fragments do not disturb the check."""
    refused(web, [[ws_frame(TEXT, bad[:cut], fin=False) + ws_frame(PING, b"")
                   + ws_frame(CONTINUATION, bad[cut:], fin=False)]
                  for bad in (b"\xed\xa0", b"\xf0\x8f", b"\xe1\x80a") for cut in range(1, len(bad))])


def test_each_message_starts_anew(web):
    with web.ws("/raw") as client:
        for text in VALID:
            client.send(ws_frame(TEXT, text))
        assert [client.read_text() for _ in VALID] == VALID
        client.send(ws_frame(TEXT, b"\x80"))        # not the rest of anything
        client.expect_close(1007)


def test_binary_messages_are_not_checked(web):
    with web.ws("/raw") as client:
        for bad in INVALID + UNFINISHED:
            client.send_binary(bad)
            assert client.read_message() == (2, bad)


def test_pings_are_not_checked(web):
    with web.ws("/raw") as client:
        client.send_frame(PING, b"\xff\xfe\x80")
        assert client.read_pong() == b"\xff\xfe\x80"
