"""A worker to try things with, and to test: python3 demo_worker.py --listen unix:/tmp/demo.sock

Methods demo.echo, demo.add, demo.sleep and demo.error; on http routes a page at / and, at /echo and
below, the request's own body back.
"""

import asyncio

from frontd_worker import INVALID_PARAMS, HttpResponse, RpcError, Worker, run

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


@worker.http
async def http(request):
    """A page, and an echo of any method."""
    if request.path == "/":
        return HttpResponse("<!doctype html><title>demo</title><p>It works.\n",
                            headers={"content-type": "text/html; charset=utf-8"})
    if request.path == "/echo" or request.path.startswith("/echo/"):
        kind = request.header("content-type", "application/octet-stream")
        return HttpResponse(request.body, headers={"content-type": kind})
    return HttpResponse("not found\n", 404, {"content-type": "text/plain"})


if __name__ == "__main__":
    run(worker, "unix:/tmp/demo.sock")
