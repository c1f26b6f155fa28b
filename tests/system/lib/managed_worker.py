"""A worker that frontd runs, for tests: managed_worker.py LIBRARY_DIR [WORDS…]. Its file is copied and
changed by the tests; VERSION is what they change. A word `silent` makes one that never serves, `blocking` one
that handles one call at a time, `helpers` one that starts other processes: a child, one in a process group of its
own, one that ignores SIGTERM, and a daemon; it writes `helper PID` for each."""
import asyncio
import os
import signal
import subprocess
import sys
import threading

VERSION = 1
sys.path.insert(0, sys.argv[1])

from frontd_worker import Worker  # noqa: E402

worker = Worker(name="managed", concurrency=1 if "blocking" in sys.argv else 64)


@worker.method("version")
async def version():
    return [VERSION, sys.argv[2:], os.getpid()]


@worker.method("demo.echo")
async def echo(**params):
    await asyncio.sleep(0.005)
    return params


@worker.method("process")
async def process():
    """What it was given: descriptors, environment, user, signals, working directory."""
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            pass            # that of the list itself
    with open("/proc/self/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return {"fds": fds, "env": ENV, "status": status, "cwd": os.getcwd()}


@worker.method("write")
async def write(hex, fd=1):
    """Writes bytes to a descriptor."""
    data = bytes.fromhex(hex)
    while data:
        data = data[os.write(fd, data):]


@worker.method("flood")
async def flood(lines):
    for n in range(lines):
        os.write(1, b"%0100d\n" % n)


@worker.method("stuck")
def stuck():
    """Never ends, in a thread of its own: all else goes on."""
    threading.Event().wait()


@worker.method("die")
async def die(status=1):
    os._exit(status)


ENV = dict(os.environ)      # the library takes LISTEN_* out
DAEMON = """
import os, time
os.setsid()
if os.fork():
    os._exit(0)
os.write(1, b"helper %d\\n" % os.getpid())
time.sleep(3600)
"""
if "helpers" in sys.argv:
    for text, keys in (("import time; time.sleep(3600)", {}),
                       ("import time; time.sleep(3600)", {"process_group": 0}),
                       # Before it is executed, so that no signal comes too early.
                       ("import time; time.sleep(3600)", {"preexec_fn": lambda: signal.signal(15, signal.SIG_IGN)})):
        helper = subprocess.Popen([sys.executable, "-c", text], **keys)
        os.write(1, b"helper %d\n" % helper.pid)
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", DAEMON])
if "exit" in sys.argv:
    sys.exit(3)
if "silent" in sys.argv:
    print("I shall not serve", flush=True)
    import time
    time.sleep(3600)
worker.run("unix:/nowhere")
