"""proto/python/frontd_worker from the inside: what does not show at the other end of a socket."""

import asyncio
import os
import sys

import pytest

from fakefront import HELLO, PING, PONG, REQUEST, decode, encode
from workerproc import LIBRARY

sys.path.insert(0, LIBRARY)
import frontd_worker  # noqa: E402
import frontd_worker.worker  # noqa: E402
from frontd_worker.channel import Channel  # noqa: E402
from frontd_worker import HttpResponse, Worker  # noqa: E402


async def dial(path):
    """A channel after both HELLOs: (reader, writer)."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(encode(HELLO, body=b'{"protocol":[1]}'))
    head = await reader.readexactly(32)
    await reader.readexactly(int.from_bytes(head[:4], "big"))
    return reader, writer


async def listening(path):
    """Wait until a worker listens on `path`."""
    for _ in range(10_000):
        try:
            _, writer = await asyncio.open_unix_connection(path)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0)
    raise AssertionError(f"no worker listens on {path}")


def run(worker, path, scenario):
    """Serve in this process while scenario(worker, path) runs; then stop, and wait for the end."""
    async def main():
        serving = asyncio.ensure_future(worker.serve(f"unix:{path}"))
        await listening(path)
        try:
            await scenario(worker, path)
        finally:
            worker.stop()
            await asyncio.wait_for(serving, 20)
        assert not os.path.exists(path)
    asyncio.run(asyncio.wait_for(main(), 30))


def test_answers_of_one_turn_go_in_one_write(tmp_path, monkeypatch):
    worker, writes = Worker(), []

    @worker.method("echo")
    async def echo(n):
        return n

    class Counted(Channel):
        def connection_made(self, transport):
            super().connection_made(transport)
            write = transport.write
            transport.write = lambda data: (writes.append(len(data)), write(data))

    monkeypatch.setattr(frontd_worker.worker, "Channel", Counted)

    async def scenario(_, path):
        reader, writer = await dial(path)
        writes.clear()
        writer.write(b"".join(
            encode(REQUEST, call=n, body=b'{"id":1,"method":"echo","params":[%d]}' % n)
            for n in range(1, 101)))
        data = b""
        for _ in range(100):
            while decode(data) is None:
                data += await reader.read(65536)
            data = data[decode(data)[1]:]
        assert 1 <= len(writes) <= 5  # 1, or a few where the requests came in pieces
        writer.close()

    run(worker, str(tmp_path / "w.sock"), scenario)


def test_serving_inside_another_program(tmp_path):
    async def scenario(_, path):
        reader, writer = await dial(path)
        writer.write(encode(PING, body=b"x"))
        assert decode(await reader.readexactly(33))[0].type == PONG
        writer.close()
    run(Worker(), str(tmp_path / "w.sock"), scenario)


def test_serving_may_be_cancelled(tmp_path):
    path = str(tmp_path / "w.sock")

    async def main():
        serving = asyncio.ensure_future(Worker().serve(f"unix:{path}"))
        await listening(path)
        reader, writer = await dial(path)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    asyncio.run(main())
    assert not os.path.exists(path)


def test_stopping_before_the_first_turn(tmp_path):
    path, worker = str(tmp_path / "w.sock"), Worker()

    async def main():
        serving = asyncio.ensure_future(worker.serve(f"unix:{path}"))
        for _ in range(100):
            if os.path.exists(path):
                break
            await asyncio.sleep(0)
        worker.stop()
        await asyncio.wait_for(serving, 20)
    asyncio.run(main())
    assert not os.path.exists(path)


def test_a_method_is_registered_once():
    worker = Worker()
    worker.method("a")(lambda: 1)
    with pytest.raises(ValueError):
        worker.method("a")(lambda: 2)
    worker.http(lambda request: b"")
    with pytest.raises(ValueError):
        worker.http(lambda request: b"")


def test_decorated_functions_stay_what_they_are():
    @Worker().method()
    def add(a, b):
        return a + b
    assert add(1, 2) == 3


@pytest.mark.parametrize("keys", [{"concurrency": -1}, {"concurrency": 1.5}, {"max_frame": "1"}])
def test_workers_that_are_none(keys):
    with pytest.raises(ValueError):
        Worker(**keys)


def test_http_responses():
    response = HttpResponse("ü", 404, {"X-A": 1})
    assert (response.status, response.headers, response.body) == (404, [("x-a", "1")], "ü".encode())
    assert HttpResponse(bytearray(b"a")).body == b"a"
    assert HttpResponse(headers=[("set-cookie", "a"), ("set-cookie", "b")]).headers == [
        ("set-cookie", "a"), ("set-cookie", "b")]


@pytest.mark.parametrize("arguments", [
    {"status": 100}, {"status": 600}, {"status": "200"}, {"status": True}, {"body": 5},
    {"body": None}, {"headers": {"a\r\nb": "c"}}, {"headers": {"a": "b\nc"}},
    {"headers": {"a": "b\0"}}])
def test_http_responses_that_are_none(arguments):
    with pytest.raises((TypeError, ValueError)):
        HttpResponse(**arguments)


def test_everything_public_is_documented():
    for name in frontd_worker.__all__:
        thing = getattr(frontd_worker, name)
        assert thing.__doc__, name
        for member, value in vars(thing).items() if isinstance(thing, type) else ():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"
