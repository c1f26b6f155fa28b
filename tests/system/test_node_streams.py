"""Bodies in parts with proto/node, through frontd: tests of test_streams.py and test_uploads.py with a worker in node."""

import os
import shutil
import types

import pytest

import test_streams
import test_uploads
from harness import Site, http_route
from nodejs import SCRIPTS
from streamworker import build
from workerproc import NODE_LIBRARY

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def build_node(site):
    return build(site, ["/usr/bin/env", "node", os.path.join(SCRIPTS, "stream_worker.mjs"), NODE_LIBRARY])


@pytest.fixture(scope="module")
def web():
    routes = [{**http_route("/"), "stream_body": "8MiB", "stream_timeout": "1s"}, http_route("/whole")]
    with Site(shards=1, routes=routes, limits={"body": "64KiB", "body_timeout": "500ms"}) as site:
        yield build_node(site)


@pytest.fixture
def client(web):
    with web.client() as client:
        yield client


TESTS = {
    test_streams: ["test_how_it_is_framed", "test_in_order", "test_it_breaks_off", "test_a_client_that_goes", "test_a_reload",
                   "test_a_slow_client_holds_up_its_own_alone"],
    test_uploads: ["test_a_body_of_any_length", "test_both_at_once", "test_an_early_answer", "test_a_client_that_goes",
                   "test_a_worker_that_is_lost"],
}


def in_node(function):
    copy = types.FunctionType(function.__code__, {**function.__globals__, "build": build_node}, function.__name__)
    copy.pytestmark = getattr(function, "pytestmark", [])
    return copy


for module, names in TESTS.items():
    for name in names:
        globals()[f"{name}_of_{module.__name__[5:]}"] = in_node(getattr(module, name))
