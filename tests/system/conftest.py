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
# libraries in Python and JavaScript against scripted peers, our documents' examples in Python, and the load programs.
RELEASE_ONLY = ["test_bench.py", "test_install.py", "test_monitoring.py", "test_node_push.py", "test_node_reload.py",
                "test_node_streams.py", "test_node_worker.py", "test_python_library.py", "test_python_protocol.py",
                "test_explain_config.py", "test_scripts.py", "test_systemd.py"]
# Where FRONTD_ONCE is set, most of what takes long runs in one of the builds: where both would say the same. The
# sanitizers have what is about wrong input and what fails; the release has other people's clients, and what is measured.
RELEASE_ONCE = ["test_chat.py", "test_json_differential.py", "test_limits_memory.py", "test_limits_memory_parts.py", "test_push_slow.py",
                "test_python_worker.py", "test_reload_memory.py", "test_reload_resources.py", "test_tls_foreign.py",
                "test_troubleshooting.py", "test_worker_docs.py"]
ASAN_ONCE = ["test_bound_connections.py", "test_canary.py", "test_client_responses.py", "test_connect_events.py", "test_content_coding.py",
             "test_fairness.py",
             "test_faults.py", "test_faults_under_load.py", "test_first_byte_timeout.py", "test_hostile_shards.py", "test_hung_shards.py",
             "test_hung_workers.py", "test_linger.py", "test_log.py", "test_managed_workers.py", "test_mesh.py",
             "test_process_groups.py", "test_progress.py", "test_release_paths.py", "test_reload_config.py", "test_reload_failures.py",
             "test_reload_kills.py", "test_reload_workers.py", "test_resets.py", "test_socket_files.py", "test_tls_reload.py",
             "test_worker_asks.py", "test_worker_health.py", "test_worker_protocol.py", "test_worker_push.py",
             "test_worker_sockets.py", "test_worker_violations.py", "test_workerd_streams.py", "test_ws_deflate.py", "test_ws_faults.py"]
# What runs where all of it is asked for alone: scripts/test system.
ASKED_FOR = ["test_node_push.py", "test_node_reload.py", "test_node_streams.py", "test_node_worker.py"]
once = "FRONTD_ONCE" in os.environ
if harness.sanitized():
    collect_ignore = RELEASE_ONLY + RELEASE_ONCE * once
else:
    collect_ignore = (ASAN_ONCE + ASKED_FOR) * once


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
