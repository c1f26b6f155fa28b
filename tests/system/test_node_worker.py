"""proto/node: what any worker must do (the tests of three other files), and what shows of this library alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import types

import pytest

import test_worker_asks
import test_worker_protocol
import test_worker_sockets
from fakefront import CANCEL, DATA, MORE, NOTIFY, PUBLISH, PUSH, RESPONSE, SUBSCRIBE, until
from workerproc import NODE_LIBRARY, ROOT, Starter, starting

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

# Of Python; test_no_hello_at_all waits for 5 s, test/protocol.test.js does not; of the last there is another one below.
NOT_OURS = {"test_in_python_from_a_thread", "test_through_frontd", "test_no_hello_at_all",
            "test_the_folder_is_left_as_it_was"}


def with_one(function, names, value):
    """The test with one set of parameters, where each takes long."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    return pytest.mark.parametrize(names, [value])(copy)


once = {"test_tcp": with_one(test_worker_sockets.test_tcp, "host", "[::1]"),
        "test_inherited_socket": with_one(test_worker_sockets.test_inherited_socket, "pid", "self"),
        "test_addresses_that_are_none": with_one(test_worker_sockets.test_addresses_that_are_none, "address", "nonsense")}
for module in (test_worker_asks, test_worker_protocol, test_worker_sockets):
    for name, function in vars(module).items():
        if name.startswith("test_") and callable(function) and name not in NOT_OURS:
            assert name not in globals()
            globals()[name] = once.get(name, function)
path = test_worker_sockets.path

STOPS = {"test_sigterm", "test_sigterm_lets_calls_finish", "test_sigterm_without_channels"}


@pytest.fixture
def start(tmp_path):
    yield from starting(tmp_path, "node")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A worker that serves all tests that neither stop it nor ask for one of their own: node takes long to start."""
    starter = Starter(tmp_path_factory.mktemp("node"), "node")
    yield starter.demo()
    starter.close()


@pytest.fixture
def worker(request):
    if request.node.originalname in STOPS:
        yield request.getfixturevalue("start").demo()
        return
    one = request.getfixturevalue("shared")
    yield one
    for front in one.fronts:
        front.close()
    one.fronts.clear()


@pytest.fixture
def front(worker):
    return worker.front()


def test_the_folder_is_left_as_it_was_in_the_end(start, tmp_path):
    """For a moment the socket has two names there, the other one hidden."""
    folder = tmp_path / "run"
    folder.mkdir()
    worker = start.demo(f"unix:{folder}/w.sock")
    until(lambda: os.listdir(folder) == ["w.sock"], "one name")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0 and os.listdir(folder) == []
    (folder / "w.sock").write_text("precious")
    assert start.demo(f"unix:{folder}/w.sock", up=False).wait() == 1
    assert os.listdir(folder) == ["w.sock"]


def test_the_librarys_own_tests():
    """The vectors, the protocol without I/O, and a worker within one process."""
    done = subprocess.run(["node", "--test"], cwd=NODE_LIBRARY, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout or "ℹ fail 0" in done.stdout


def test_the_example(start, tmp_path):
    example = os.path.join(NODE_LIBRARY, "example.js")
    with open(example, encoding="utf-8") as file:
        assert len(file.readlines()) < 30
    address = f"unix:{tmp_path}/w.sock"
    worker = start.start(["/usr/bin/env", "node", example, "--listen", address, "--concurrency", "9"], address)
    front = worker.front(features=["stream"])
    assert front.worker["concurrency"] == 9 and front.worker["methods"] == ["http.request", "orders.add", "orders.get"]
    assert front.call("orders.get", [7])["result"] == {"id": 7, "item": "tea"}
    assert front.call("orders.get", [8])["error"] == {"code": 404, "message": "no such order", "data": {"id": 8}}
    assert front.call("orders.get", {})["error"]["code"] == -32602
    call = front.request("orders.add", ["milk"], conn=5)
    frames = [front.recv() for _ in range(3)]
    assert [frame.type for frame in frames] == [SUBSCRIBE, PUBLISH, RESPONSE]
    assert json.loads(frames[1].body)["params"] == {"id": 8, "item": "milk"}
    front.request("orders.add", ["tea"], flags=NOTIFY)
    front.expect(PUBLISH)
    call = front.request("http.request", {"method": "GET", "path": "/"})
    first, data = front.recv(), front.recv()
    assert (first.type, first.flags, data.type, data.blob) == (RESPONSE, MORE, DATA, b"data: 3 orders\n\n")
    front.send(CANCEL, call=call)
    front.response(call)
    worker.signal(signal.SIGTERM)
    front.expect_closed()
    front.close()
    assert worker.wait() == 0


@pytest.mark.parametrize("arguments, text", [
    (["--concurrency", "-1"], "concurrency"), (["--concurrency", "x"], "concurrency"), (["--nothing"], "nothing"), (["x"], "x")])
def test_command_lines_that_are_none(start, arguments, text):
    argv = ["/usr/bin/env", "node", os.path.join(NODE_LIBRARY, "demo-worker.js"), *arguments]
    worker = start.start(argv, "unix:/nowhere", up=False)
    assert worker.wait() == 1 and text in worker.output()


def test_the_second_signal_ends_it_at_once(start):
    worker = start.demo()
    front = worker.front()
    front.request("demo.sleep", {"ms": 3_600_000})
    front.ping()
    worker.signal(signal.SIGTERM)
    front.goaway()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 128 + signal.SIGTERM


def test_the_page_of_the_manual(start, tmp_path):
    """With the package installed as npm does it from a folder: by a link."""
    with open(os.path.join(ROOT, "docs", "writing-workers.md"), encoding="utf-8") as file:
        block, = re.findall(r"^```js\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    (tmp_path / "greet.mjs").write_text(block)
    (tmp_path / "node_modules").mkdir()
    os.symlink(NODE_LIBRARY, tmp_path / "node_modules" / "frontd-worker")
    address = f"unix:{tmp_path}/w.sock"
    worker = start.start(["/usr/bin/env", "node", str(tmp_path / "greet.mjs"), "--listen", address], address)
    front = worker.front()
    assert front.call("greet", {"name": "Ada"})["result"] == "Hello, Ada"
    front.request("frontd.message", flags=NOTIFY, conn=5, blob=b"raw")
    assert front.expect(PUSH).blob == b"raw"
    assert front.http("PUT", "/a")[2] == b"PUT /a\n"
