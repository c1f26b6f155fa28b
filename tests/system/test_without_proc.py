"""A system where /proc is not mounted."""
import os
import subprocess

import pytest

from harness import DEMO, FRONTD, LIMIT, WORKERD, sanitized
from workerproc import WorkerProcess

WITHOUT_PROC = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]


def can_hide_proc():
    return subprocess.run([*WITHOUT_PROC, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(sanitized(), reason="ASan itself needs /proc")
@pytest.mark.parametrize("words", [[], ["--check", "--bind"]], ids=["start", "check"])
def test_without_proc(site, words):
    if not can_hide_proc():
        pytest.skip("no mount namespace can be made here")
    web = site()
    done = subprocess.run([*WITHOUT_PROC, FRONTD, *words, "-c", web.write()], capture_output=True, text=True,
                          timeout=LIMIT, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if " warning " not in line]
    assert len(lines) == 1 and "/proc/self/exe: No such file or directory" in lines[0], done.stderr
    assert "/proc has to be mounted" in lines[0]
    assert not os.path.exists(web.path("run"))


@pytest.mark.skipif(sanitized(), reason="ASan itself needs /proc")
def test_workerd_needs_no_proc(tmp_path):
    if not can_hide_proc():
        pytest.skip("no mount namespace can be made here")
    worker = WorkerProcess([*WITHOUT_PROC, WORKERD, "--listen", f"unix:{tmp_path}/w.sock", "--module", DEMO],
                           f"unix:{tmp_path}/w.sock", tmp_path / "log").wait_until_up()
    assert worker.front().call("demo.add", [1, 2])["result"] == 3
    worker.signal()
    assert worker.wait() == 0
