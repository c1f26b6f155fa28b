"""Protocol sections 4 and 10, seen from a worker: the front's PINGs, and when it gives a channel up."""
import time

import pytest

from fakeclock import SPEED
from fakeworker import PING, frame, hold
from harness import Site, rpc_route, sanitized, wait_for
from httpclient import rpc_request

pytestmark = pytest.mark.skipif(sanitized(), reason="ASan must be the first library that is loaded")

# A second of ours is half a minute to the front: on a busy machine either side may be late, and then a
# channel ends that should not. Nothing comes early, but what has to be in time is so in one of these.
ATTEMPTS = 10


@pytest.fixture
def fast(clock):
    """fast(worker's keys): a started site with one worker, in a hurry; and the worker."""
    made = []

    def make(**keys):
        web = Site(routes=[rpc_route(timeout="200s")])
        made.append(web)
        worker = web.fake(**keys)
        with clock:
            web.start(ready=False)
        web.wait_served()
        return web, worker

    yield make
    for web in made:
        web.stop()


def mute(channel):
    """Leaves the front's PINGs unanswered, and notes them."""
    real, sent = channel.send, []

    def send(data):
        if data[4] == 6:
            sent.append(time.monotonic())
        else:
            real(data)
    channel.send = send
    return sent


def greeted(worker):
    """A channel that has just been heard by the front, its HELLO before that."""
    for _ in range(ATTEMPTS):
        channel = wait_for(lambda: next((c for c in worker.live() if c.ready), None), "a channel")
        if channel.sync():
            return channel
    raise AssertionError("no channel stays open")


def pings(worker):
    return sum(f[0] == PING for f in worker.frames)


def test_ping_after_silence_and_the_end_of_who_does_not_answer(fast):
    """PING after 15 s; closed 45 s later, not before; and dialled again."""
    web, worker = fast()
    seen = []
    for _ in range(ATTEMPTS):
        start = time.monotonic()
        channel = greeted(worker)
        sent = mute(channel)
        worker.wait(lambda: channel.closed, "the end of the channel")
        took = (time.monotonic() - start) * SPEED
        first = (sent[0] - start) * SPEED if sent else None     # none: it came before it was muted
        seen.append((first, took))
        assert took >= 57 and (first is None or first >= 13), seen
        worker.wait(lambda: worker.channels[-1] is not channel, "a new channel")
        # Looked at every 15 s.
        if first is not None and first <= 60 and took <= 150:
            return
    raise AssertionError(seen)


def test_who_answers_pings_stays(fast):
    web, worker = fast()
    for _ in range(ATTEMPTS):
        channel = greeted(worker)
        worker.forget()
        worker.wait(lambda: channel.closed or pings(worker) >= 6, "six PINGs")
        answer = web.rpc("demo.echo", [1])
        if not channel.closed:
            break
    assert not channel.closed
    assert answer.json()["result"] == [1]


def test_traffic_needs_no_ping(fast):
    web, worker = fast()
    for _ in range(ATTEMPTS):
        channel = greeted(worker)
        worker.forget()
        end = time.monotonic() + 90 / SPEED
        while time.monotonic() < end:
            channel.send(frame(PING))
            time.sleep(1 / SPEED)
        if not channel.closed and not pings(worker):
            break
    assert not channel.closed and not pings(worker)


def test_a_silent_worker_with_a_call_in_progress_is_not_dead(fast):
    """One that handles one call at a time, until 60 s past the call's deadline."""
    web, worker = fast(handler=hold, concurrency=1)
    channel = greeted(worker)
    start = time.monotonic()
    mute(channel)
    with web.client(timeout=30) as client:
        client.send(rpc_request("slow"))
        worker.wait_calls(1)
        r = client.read_response()
        took = (time.monotonic() - start) * SPEED
        assert r.status == 504 and took >= 195, took
    worker.wait(lambda: channel.closed, "the end of the channel")
    assert (time.monotonic() - start) * SPEED >= 255


@pytest.mark.parametrize("concurrency", [0, 64])
def test_a_silent_worker_is_taken_out_after_10_s_with_calls(fast, concurrency):
    """One that could answer PING ahead of them; not before."""
    web, worker = fast(handler=hold, concurrency=concurrency)
    seen = []
    for _ in range(ATTEMPTS):
        channel = greeted(worker)
        mute(channel)
        start = time.monotonic()
        with web.client(timeout=30) as client:
            r = client.rpc("slow")
            took = (time.monotonic() - start) * SPEED
        worker.wait(lambda: worker.channels[-1] is not channel, "a new channel")
        seen.append((r.status, took))
        assert r.status in (502, 503) and (took >= 9 or channel.closed), seen
        if r.status == 502 and 9 <= took <= 60:
            return
    raise AssertionError(seen)


def test_no_hello_within_5_s(fast):
    web, _ = fast()
    start = time.monotonic()
    worker = web.fake("app-2", on_hello=lambda channel: None)
    seen = []
    for n in range(ATTEMPTS):
        worker.wait(lambda: len(worker.channels) > n, "a channel")
        since = time.monotonic()
        worker.wait(lambda: worker.channels[n].closed, "the end of the channel")
        seen.append((time.monotonic() - since) * SPEED)
        if n == 0:
            assert (time.monotonic() - start) * SPEED >= 4
        if 3 <= seen[-1] <= 30:     # a second may have passed before `since`
            return
    raise AssertionError(seen)
