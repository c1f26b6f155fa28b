"""Answers in parts over HTTP/2: many at once on a connection, each held up by its own window alone."""
import pytest

from h2client import H2Client
from harness import Site, http_route, memory, sanitized, wait_for
from reloads import HUP, USR2
from streamworker import build

CANCEL, INTERNAL_ERROR = 8, 2


@pytest.fixture(scope="module")
def web():
    with Site(shards=1, routes=[{**http_route("/"), "stream_timeout": "1s"}], limits={"body_timeout": "2s"}) as site:
        site.config["listeners"][0]["h2c"] = True
        yield build(site)


@pytest.fixture
def client(web):
    with H2Client(web.address) as client:
        yield client


def ended(web):
    with web.client() as client:
        return client.request("GET", "/ended").body.count(b"events")


def numbers(n):
    return b"".join(b"%d," % i for i in range(n))


def test_how_it_is_framed(client):
    one, two, three = client.open(path="/parts/1000"), client.open(path="/bytes/20"), client.open(path="/parts/0")
    answer = client.wait(one)
    assert answer.body == numbers(1000) and "content-length" not in answer.headers and answer.headers["x-kind"] == "parts"
    answer = client.wait(two)
    assert answer.body == b"".join(bytes([i]) * 65536 for i in range(20))
    assert answer.headers["content-length"] == str(20 * 65536)
    assert client.wait(three).body == b"" and client.wait(three).status == 200
    answer = client.wait(client.open("HEAD", "/events"))
    assert answer.status == 200 and answer.body == b"" and answer.reset is None


def test_as_they_come(client):
    """Of an endless one, and others beside it."""
    events = client.open(path="/events")
    client.until(lambda: b"data: 3\n\n" in client.streams[events].body)
    assert client.get("/parts/100").body == numbers(100)
    seen = len(client.streams[events].body)
    client.until(lambda: len(client.streams[events].body) > seen)
    assert not client.streams[events].ended


@pytest.mark.parametrize("path", ["/fails", "/short/11", "/short/9", "/die", "/hang"])
def test_it_breaks_off(web, path):
    """The stream is reset, and the connection goes on."""
    with H2Client(web.address) as client:
        answer = client.get(path)
        assert answer.status == 200 and answer.reset == INTERNAL_ERROR
        wait_for(lambda: client.get("/whole").status == 200, "a worker")


def test_it_breaks_off_often(client):
    """That is not held against the client: it may be so any number of times."""
    for _ in range(300):
        assert client.get("/short/11").reset == INTERNAL_ERROR
    assert client.get("/whole").status == 200


def test_a_window_that_is_shut(web, client):
    """A stream that is not read holds up its own worker's answer, and is reset in the end; others are served."""
    with H2Client(web.address, window=False) as slow:
        before = memory(web.shard)
        number = slow.open(path="/bytes/16384")
        slow.until(lambda: len(slow.streams[number].body) == 65535)
        for _ in range(50):
            assert client.get("/parts/10").body == numbers(10)
        assert memory(web.shard) - before < (4 if not sanitized() else 64) << 20
        slow.wait(number)
        assert slow.streams[number].reset == CANCEL


def test_all_of_a_long_one(client):
    answer = client.get("/bytes/100")
    assert answer.body == b"".join(bytes([i % 251]) * 65536 for i in range(100))


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_goes(web, how):
    before = ended(web)
    with H2Client(web.address) as client:
        number = client.open(path="/events")
        client.until(lambda: b"data: 3\n\n" in client.streams[number].body)
        if how == "reset":
            client.conn.reset_stream(number, CANCEL)
            client.flush()
        else:
            client.close()
        wait_for(lambda: ended(web) > before, "the end in the worker")
        if how == "reset":
            assert client.get("/parts/3").body == numbers(3)


@pytest.mark.parametrize("number", [HUP, USR2], ids=["hup", "usr2"])
def test_a_reload(front, number):
    """Events end between two, and the connection goes to the new shards."""
    web = front(shards=1, routes=[http_route("/")], drain="20s")
    web.config["listeners"][0]["h2c"] = True
    build(web)
    with H2Client(web.address) as client:
        events = client.open(path="/events")
        client.until(lambda: b"data: 3\n\n" in client.streams[events].body)
        web.say(number)
        answer = client.wait(events)
        assert answer.reset is None and answer.body.startswith(b"data: 0\n\ndata: 1\n\n") and answer.body.endswith(b"\n\n")
        wait_for(lambda: " serves: " in web.log_text(), "the new shards")
        web.wait_log("the old shards are gone")
        again = client.open(path="/events")         # on the same connection
        client.until(lambda: b"data: 2\n\n" in client.streams[again].body)
        assert not client.goaways
