"""proto/node: what any worker must do (the tests of three other files), and what shows of this library alone."""

import shutil

import pytest

import test_worker_asks
import test_worker_protocol
import test_worker_sockets
from workerproc import Starter, starting

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

NOT_OURS = {"test_in_python_from_a_thread", "test_through_frontd"}
for module in (test_worker_asks, test_worker_protocol, test_worker_sockets):
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and name not in NOT_OURS:
            assert name not in globals()
            globals()[name] = test
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
