"""Scripts of tests/system/node, and the modules of npm that they need."""
import fcntl
import json
import os
import shutil
import subprocess

import pytest

from harness import ROOT

SCRIPTS = os.path.join(ROOT, "tests", "system", "node")
BUILD = os.path.join(ROOT, "build", "node")
INSTALL_LIMIT = 120.0


def command(script, *arguments):
    """What runs a script with the modules of package.json, which are installed when they are not there yet: the
    words, and the environment. Skips the test where that cannot be."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    with open(os.path.join(SCRIPTS, "package.json")) as f:
        wanted = json.load(f)["dependencies"]["ws"]
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)    # the tests of another build may run at the same time
        _install(wanted)
    return (["node", os.path.join(SCRIPTS, script), *arguments],
            dict(os.environ, NODE_PATH=os.path.join(BUILD, "node_modules")))


def _npm(*argv):
    return subprocess.run(["npm", *argv, "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=20000"],
                          cwd=BUILD, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_LIMIT)


def _install(wanted):
    there = os.path.join(BUILD, "node_modules", "ws", "package.json")
    if os.path.exists(there):
        with open(there) as f:
            if json.load(f)["version"] == wanted:
                return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(SCRIPTS, name), BUILD)
    done = _npm("ci", "--ignore-scripts")
    if done.returncode != 0:
        if _npm("view", "ws@" + wanted, "version").returncode != 0:
            pytest.skip("npm's registry cannot be reached, and build/node has no ws " + wanted)
        pytest.fail("npm ci: " + done.stderr)
