"""A worker whose answers come in parts, and a site with it."""
import os
import sys

from harness import ROOT, wait_for

WORKER = """\
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
from frontd_worker import HttpResponse, Worker, server_event
worker, ended = Worker(name="streams", concurrency=32), []
@worker.http
def answer(request):
    what, _, n = request.path[1:].partition("/")
    n = int(n or 0)
    if what == "parts":
        return HttpResponse((b"%d," % i for i in range(n)), headers={"x-kind": "parts"})
    if what == "bytes":
        return HttpResponse((bytes([i % 251]) * 65536 for i in range(n)), headers={"content-length": 65536 * n})
    if what == "short":
        return HttpResponse(iter([b"x" * 10]), headers={"content-length": n})
    if what == "fails":
        return HttpResponse(fails())
    if what == "events":
        return HttpResponse(events(), headers={"content-type": "text/event-stream"})
    if what == "ended":
        return ",".join(ended)
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


def build(site):
    """Starts the site, whose one pool has that worker."""
    with open(site.path("worker.py"), "w", encoding="utf-8") as file:
        file.write(WORKER)
    entry, = site.config["pools"]
    del entry["workers"]
    entry.update(command=[sys.executable, site.path("worker.py"), os.path.join(ROOT, "proto", "python")], instances=1,
                 restart_delay="50ms")
    site.start()
    with site.client() as client:
        wait_for(lambda: client.request("GET", "/whole").status == 200, "a worker")
    return site
