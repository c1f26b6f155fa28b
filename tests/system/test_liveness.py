"""Protocol sections 4 and 10, seen from a worker: the front's PINGs, and when it gives a channel up."""
import time

import pytest

from fakeclock import SPEED
from fakeworker import PING, frame, hold
from harness import Site, rpc_route, sanitized
from httpclient import rpc_request

pytestmark = pytest.mark.skipif(sanitized(), reason="ASan must be the first library that is loaded")


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


def test_ping_after_silence_and_the_end_of_who_does_not_answer(fast):
    """PING after 15 s; closed 45 s later, not before; and dialled again."""
    web, worker = fast()
    worker.wait_ready()
    start = time.monotonic()
    channel = worker.channels[0]
    pings = mute(channel)
    worker.wait(lambda: channel.closed, "the end of the channel")
    took = (time.monotonic() - start) * SPEED
    assert pings, "no PING"
    assert 13 <= (pings[0] - start) * SPEED <= 60
    # Looked at every 15 s; machines that are busy are late, never early.
    assert 57 <= took <= 150, took
    worker.wait(lambda: len(worker.channels) > 1, "a new channel")


def test_who_answers_pings_stays(fast):
    web, worker = fast()
    worker.wait_ready()
    worker.wait(lambda: sum(f[0] == PING for f in worker.frames) >= 6, "six PINGs")
    assert not worker.channels[0].closed
    assert web.rpc("demo.echo", [1]).json()["result"] == [1]


def test_traffic_needs_no_ping(fast):
    web, worker = fast()
    worker.wait_ready()
    end = time.monotonic() + 90 / SPEED
    while time.monotonic() < end:
        worker.channels[0].send(frame(PING))
        time.sleep(1 / SPEED)
    assert not any(f[0] == PING for f in worker.frames)


def test_a_silent_worker_with_a_call_in_progress_is_not_dead(fast):
    """Until nobody waits for the call any more: then the silence counts."""
    web, worker = fast(handler=hold)
    worker.wait_ready()
    start = time.monotonic()
    mute(worker.channels[0])
    with web.client() as client:
        client.send(rpc_request("slow"))
        worker.wait_calls(1)
        r = client.read_response()
        took = (time.monotonic() - start) * SPEED
        assert r.status == 504 and took >= 195, took
    worker.wait(lambda: worker.channels[0].closed, "the end of the channel")


def test_no_hello_within_5_s(fast):
    web, worker = fast(on_hello=lambda channel: None)
    worker.wait(lambda: worker.channels, "a channel")
    start = time.monotonic()
    worker.wait(lambda: worker.channels[0].closed, "the end of the channel")
    assert 3 <= (time.monotonic() - start) * SPEED <= 30    # a second may have passed before `start`
