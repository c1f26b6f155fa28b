"""A worker whose answers come in parts, and a site with it."""
import os
import sys

from harness import ROOT, wait_for

WORKER = """\
import asyncio, hashlib, os, sys
sys.path.insert(0, sys.argv[1])
from frontd_worker import HttpResponse, Worker, server_event
worker, begun, ended = Worker(name="streams", concurrency=32), [], []
@worker.http(parts=True)
async def answer(request):
    if request.path.startswith("/upload"):
        return await upload(request)
    if request.path == "/echo":
        return HttpResponse(request.parts)
    if request.path == "/early":
        return HttpResponse(b"enough", status=403)
    return answers(request)
async def upload(request):
    digest, n, count = hashlib.sha256(), 0, 0
    begun.append("upload")
    try:
        async for part in request.parts:
            digest.update(part)
            n, count = n + len(part), count + 1
            if request.path == "/upload/slow":
                await asyncio.sleep(0.05)
            if request.path == "/upload/die" and n > 100000:
                os._exit(1)
            while request.path == "/upload/stop":
                await asyncio.sleep(1)
    except BaseException:
        ended.append("upload")
        raise
    return "%d %s %d" % (n, digest.hexdigest(), count)
def answers(request):
    what, _, n = request.path[1:].partition("/")
    n = int(n or 0)
    if what == "parts":
        return HttpResponse((b"%d," % i for i in range(n)), headers={"x-kind": "parts"})
    if what == "bytes":
        return HttpResponse((bytes([i % 251]) * 65536 for i in range(n)), headers={"content-length": 65536 * n})
    if what == "text":
        return HttpResponse((b"%d lines of a text, " % i * 1000 for i in range(n)), headers={"content-type": "text/plain"})
    if what == "cut":
        return HttpResponse(fails(), headers={"content-type": "text/plain"})
    if what == "short":
        return HttpResponse(iter([b"x" * 10]), headers={"content-length": n})
    if what == "fails":
        return HttpResponse(fails())
    if what == "events":
        return HttpResponse(events(), headers={"content-type": "text/event-stream"})
    if what == "ended":
        return ",".join(ended)
    if what == "begun":
        return ",".join(begun)
    if what == "die":
        return HttpResponse(dies())
    if what == "hang":
        return HttpResponse(hangs())
    return HttpResponse(b"whole")
def fails():
    yield b"begun"
    raise RuntimeError("as asked")
def dies():
    yield b"begun"
    os._exit(1)
async def hangs():
    yield b"begun"
    await asyncio.sleep(60)
async def events():
    try:
        n = 0
        while True:
            yield server_event(str(n))
            n += 1
            await asyncio.sleep(0.02)
    finally:
        ended.append("events")
worker.run("unix:/nowhere")
"""


def build(site, command=None):
    """Starts the site, whose one pool has that worker, or one that does the same: command."""
    with open(site.path("worker.py"), "w", encoding="utf-8") as file:
        file.write(WORKER)
    entry, = site.config["pools"]
    del entry["workers"]
    entry.update(command=command or [sys.executable, site.path("worker.py"), os.path.join(ROOT, "proto", "python")],
                 instances=1, restart_delay="50ms")
    site.start()
    with site.client() as client:
        wait_for(lambda: client.request("GET", "/whole").status == 200, "a worker")
    return site
