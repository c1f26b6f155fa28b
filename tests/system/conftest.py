"""What all system tests share: a failing test shows the logs of the programs it ran."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))

import fakeclock
import harness
from reloads import Front


# What says nothing about our C code that the other build has not said already: scripts, installed files, the
# Python library against scripted peers, our documents' examples in Python, and the load programs.
if harness.sanitized():
    collect_ignore = ["test_bench.py", "test_install.py", "test_monitoring.py", "test_python_library.py", "test_python_protocol.py",
                      "test_explain_config.py", "test_scripts.py", "test_systemd.py"]
# What the sanitizers are for, and what takes as long in either build: times that have to pass.
else:
    collect_ignore = ["test_content_coding.py", "test_worker_health.py"]


# Ignored where a script runs us in the background, and what is ignored stays so in all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Late in the alphabet, and long: they begin first, so that none of them is left over when all others have ended.
FIRST = {"test_socket_files.py", "test_workerd_reload.py", "test_ws_liveness.py"}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: os.path.basename(item.path) not in FIRST)


def pytest_sessionstart(session):
    if not os.path.exists(harness.FRONTD):
        session.config.issue_config_time_warning(
            UserWarning("%s does not exist: build first" % harness.FRONTD), stacklevel=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    for path, program in list(harness.logs.items()):
        if not os.path.exists(path):
            del harness.logs[path]      # the site was stopped in good order
        elif report.failed:
            with open(path, errors="replace") as f:
                text = f.read()
            report.sections.append(("log of %s (%s)" % (program, path), text[-6000:]))


@pytest.fixture
def site():
    """Makes sites that end with the test: `site(shards=2, …)`, see harness.Site."""
    made = []

    def make(**keys):
        made.append(harness.Site(**keys))
        return made[-1]

    yield make
    problems = []
    for one in made:
        try:
            one.stop()
        except Exception as e:
            problems.append(e)
    if problems:
        raise problems[0]


@pytest.fixture(scope="session")
def clock(tmp_path_factory):
    return fakeclock.Clock(str(tmp_path_factory.mktemp("clock")))


@pytest.fixture
def front(request):
    """Makes sites that reload and that end with the test, see reloads.Front. Where a test is known to
    fail, they need not end in good order."""
    made = []

    def make(**keys):
        keys.setdefault("drain", "2s")
        made.append(Front(**keys))
        return made[-1]

    yield make
    for one in made:
        one.end(broken=request.node.get_closest_marker("xfail"))
