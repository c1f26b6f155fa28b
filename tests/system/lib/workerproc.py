"""Worker processes under test: how to start each kind, and how they end."""

import os
import signal
import subprocess

from fakefront import WAIT, FakeFront, answers, until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("FRONTD_BUILD") or "build/release")
PYTHON = "/usr/bin/python3"
LIBRARY = os.path.join(ROOT, "proto", "python")
NODE_LIBRARY = os.path.join(ROOT, "proto", "node")

# Command lines of workers with the methods of proto/python/demo_worker.py. {address} and
# {concurrency} are filled in. Another one for a single run: FRONTD_TEST_WORKER="program {address} …".
DEMO_WORKERS = {
    "python": [PYTHON, os.path.join(LIBRARY, "demo_worker.py"), "--listen", "{address}",
               "--concurrency", "{concurrency}"],
    "workerd": [os.path.join(BUILD, "workerd", "workerd"), "--listen", "{address}",
                "--concurrency", "{concurrency}",
                "--module", os.path.join(BUILD, "workerd", "modules", "demo.so")],
}
if os.environ.get("FRONTD_TEST_WORKER"):
    DEMO_WORKERS["other"] = os.environ["FRONTD_TEST_WORKER"].split()
KINDS = sorted(DEMO_WORKERS)
# Those that test_node_worker.py asks for alone: they share no code with what a build makes.
DEMO_WORKERS["node"] = ["/usr/bin/env", "node", os.path.join(NODE_LIBRARY, "demo-worker.js"), "--listen", "{address}",
                        "--concurrency", "{concurrency}"]


class WorkerProcess:
    """A worker that listens on `address`; its output goes to `log`."""

    def __init__(self, argv, address, log, env=None, pass_fds=()):
        self.address, self.log, self.fronts = address, log, []
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds,
                env={**os.environ, "PYTHONPATH": LIBRARY, "PYTHONDONTWRITEBYTECODE": "1",
                     **(env or {})})

    def output(self):
        """What it has written so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_until_up(self):
        """Wait until it listens; returns self."""
        until(lambda: self.process.poll() is not None or answers(self.address), "worker to listen")
        assert self.process.poll() is None, f"the worker has ended:\n{self.output()}"
        return self

    def dial(self, max_frame=16 * 1024 * 1024):
        """A channel on which nothing was said yet; closed with the worker."""
        self.fronts.append(FakeFront(self.address, max_frame))
        return self.fronts[-1]

    def front(self, **hello):
        """A channel after both HELLOs. hello: members for ours."""
        front = self.dial(hello.get("max_frame", 16 * 1024 * 1024))
        front.hello(**hello)
        return front

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        """Its exit status, once it has ended by itself."""
        return self.process.wait(WAIT)

    def kill(self):
        """Clean up, whatever state it is in."""
        for front in self.fronts:
            front.close()
        self.process.kill()
        self.process.wait(WAIT)


class Starter:
    """Starts workers for one test in `folder`, and ends them with it. `kind`: see DEMO_WORKERS."""

    def __init__(self, folder, kind="python"):
        self.folder, self.kind, self.started = folder, kind, []

    def demo(self, address=None, concurrency=64, up=True, **more):
        """A demo worker. up: wait until it listens."""
        address = address or f"unix:{self.folder}/demo-{len(self.started)}.sock"
        argv = [part.format(address=address, concurrency=concurrency)
                for part in DEMO_WORKERS[self.kind]]
        return self.start(argv, address, up, **more)

    def script(self, text, *arguments, up=True, **more):
        """A Python worker from its source text. {address} in it and in the arguments is filled in."""
        address = f"unix:{self.folder}/script-{len(self.started)}.sock"
        path = self.folder / f"worker_{len(self.started)}.py"
        path.write_text(text.replace("{address}", address))
        argv = [PYTHON, str(path), *(part.format(address=address) for part in arguments)]
        return self.start(argv, address, up, **more)

    def start(self, argv, address, up=True, **more):
        """Any command line."""
        log = self.folder / f"worker-{len(self.started)}.log"
        self.started.append(WorkerProcess(argv, address, log, **more))
        return self.started[-1].wait_until_up() if up else self.started[-1]

    def close(self):
        for worker in self.started:
            worker.kill()


def starting(folder, kind):
    """The body of a fixture: a Starter, none of whose workers may have complained in the end."""
    starter = Starter(folder, kind)
    yield starter
    starter.close()
    for one in starter.started:
        for bad in ("Sanitizer", "check failed", "Traceback"):
            assert bad not in one.output()
