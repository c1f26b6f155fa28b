"""A worker to try things with, and to test: python3 demo_worker.py --listen unix:/tmp/demo.sock

Methods demo.echo, demo.add, demo.sleep and demo.error; demo.ask, which asks its client; a chat in rooms
with demo.join, demo.say and demo.leave; raw messages come back as they are. On http routes docs/chat.html
at /, or where that is not there a line of text, and, at /echo and below, the request's own body back.
"""

import asyncio
import pathlib

from frontd_worker import INTERNAL_ERROR, INVALID_PARAMS, HttpResponse, RpcError, Worker, run

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "chat.html"

worker = Worker(name="demo", concurrency=64)


@worker.method("demo.echo")
async def echo(ctx, /, *args, **kwargs):
    """Return the params as they came."""
    return ctx.params


@worker.method("demo.add")
async def add(a, b):
    """Return the sum of two numbers."""
    if not all(type(number) in (int, float) for number in (a, b)):
        raise RpcError(INVALID_PARAMS, "a and b are numbers")
    return a + b


@worker.method("demo.sleep")
async def sleep(ms):
    """Return true after `ms` milliseconds."""
    if type(ms) not in (int, float) or ms < 0:
        raise RpcError(INVALID_PARAMS, "ms is a number from 0")
    await asyncio.sleep(ms / 1000)
    return True


@worker.method("demo.error")
async def error(code, message):
    """Fail with the error that was asked for."""
    if type(code) is not int or type(message) is not str:
        raise RpcError(INVALID_PARAMS, "code is an integer, message a string")
    raise RpcError(code, message)


def check(what, value, most):
    """A str of 1 to `most` bytes of UTF-8 without control characters, else -32602."""
    good = type(value) is str and 1 <= len(value.encode(errors="replace")) <= most
    if not good or any(character < " " for character in value):
        raise RpcError(INVALID_PARAMS, f"{what} is a string of 1 to {most} bytes")


def chat(room, name, text, conn):
    """Publish what was said, after what was sent about the connection before."""
    worker.publish(f"room:{room}", {"jsonrpc": "2.0", "method": "chat", "params": {
        "room": room, "name": name, "text": text}}, after=conn)


def check_member(room, name, ctx):
    if ctx.conn is None:
        raise RpcError(INVALID_PARAMS, "only a connection that stays (WebSocket) can be in a room")
    check("room", room, 200)
    check("name", name, 100)


@worker.method("demo.join")
async def join(room, name, ctx):
    """Have the connection get what is said in a room from now on, and tell the room."""
    check_member(room, name, ctx)
    ctx.conn.subscribe(f"room:{room}")
    chat(room, name, f"{name} joined", ctx.conn)
    return True


@worker.method("demo.say")
async def say(room, name, text, ctx):
    """Say something in a room; from anywhere, plain HTTP too."""
    check("room", room, 200)
    check("name", name, 100)
    check("text", text, 4000)
    chat(room, name, text, ctx.conn)
    return True


@worker.method("demo.leave")
async def leave(room, name, ctx):
    """The opposite of join."""
    check_member(room, name, ctx)
    ctx.conn.unsubscribe(f"room:{room}")
    chat(room, name, f"{name} left", ctx.conn)
    return True


@worker.method("demo.ask")
async def ask(ctx, method, params=None, ms=10_000):
    """Ask the client that calls, and give it its own answer."""
    if ctx.conn is None or type(method) is not str or type(ms) is not int or ms < 0:
        raise RpcError(INVALID_PARAMS, "method is a string, params an object or array, ms a number")
    try:
        return await ctx.conn.ask(method, params, ms / 1000)
    except (asyncio.TimeoutError, ConnectionError):
        raise RpcError(INTERNAL_ERROR, "no answer") from None


@worker.event("message")
async def message(ctx):
    """A raw message, back to where it came from."""
    ctx.conn.push(ctx.message())


@worker.http
async def http(request):
    """A page, and an echo of any method."""
    if request.path == "/":
        if request.method not in ("GET", "HEAD"):
            return HttpResponse("method not allowed\n", 405, {"content-type": "text/plain"})
        page = PAGE.read_bytes() if PAGE.exists() else "<!doctype html><title>demo</title><p>It works.\n"
        return HttpResponse(page, headers={"content-type": "text/html; charset=utf-8"})
    if request.path == "/echo" or request.path.startswith("/echo/"):
        kind = request.header("content-type", "application/octet-stream")
        return HttpResponse(request.body, headers={"content-type": kind})
    return HttpResponse("not found\n", 404, {"content-type": "text/plain"})


if __name__ == "__main__":
    run(worker, "unix:/tmp/demo.sock")
