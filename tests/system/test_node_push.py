"""What proto/node sends about connections that stay: the tests of test_worker_push.py with node/push_worker.mjs."""

import os
import shutil
import types

import pytest

import test_worker_push
from nodejs import SCRIPTS
from workerproc import NODE_LIBRARY, Starter

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

WHERE = pytest.mark.parametrize("where", [{}], ids=["loop"]).mark  # there is one thread


def in_one_thread(test):
    """The test, with those of its parameters that make sense here."""
    copy = types.FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    copy.pytestmark = [WHERE if mark == test_worker_push.FROM.mark else mark for mark in getattr(test, "pytestmark", [])]
    return copy


for name, function in list(vars(test_worker_push).items()):
    if name.startswith("test_") and callable(function):
        globals()[name] = in_one_thread(function)
del test_a_thread_that_sends_while_channels_come_and_go  # noqa: F821


class OneWorker(Starter):
    """A worker that serves many tests, since node takes long to start."""

    def push_worker(self, env):
        address = f"unix:{self.folder}/w.sock"
        argv = ["/usr/bin/env", "node", os.path.join(SCRIPTS, "push_worker.mjs"), NODE_LIBRARY, address]
        return self.start(argv, address, env=env)


@pytest.fixture
def start(shared):
    return shared[1]


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    starter = OneWorker(tmp_path_factory.mktemp("node"), "node")
    yield starter.push_worker({"LINGER": "0.3"}), starter    # seconds, of which some tests wait for the end
    starter.close()


@pytest.fixture
def worker(request, shared, tmp_path):
    env = getattr(request, "param", None)
    if env is not None:
        starter = OneWorker(tmp_path, "node")
        yield starter.push_worker(env)
        starter.close()
        return
    yield shared[0]
    for front in shared[0].fronts:
        front.close()
    shared[0].fronts.clear()


@pytest.fixture
def front(worker):
    return worker.front()
