"""scripts/quickstart as a newcomer uses it: start it, paste the line it prints, press Ctrl-C."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

import harness
from harness import LIMIT, ROOT, wait_for
from httpclient import Client
from wsclient import WsClient

READY = "Ctrl-C stops everything."
# The build it does first may have something to do.
START_LIMIT = 120.0


class Quickstart:
    """The script in a session of its own, what it prints, and the processes it has started."""

    def __init__(self, tmp):
        env = dict(os.environ, TMPDIR=str(tmp))
        # The release build is what the script builds by itself; any other is only run.
        if harness.sanitized():
            env["FRONTD_BUILD"] = harness.BUILD
        else:
            env.pop("FRONTD_BUILD", None)
        env["FRONTD_PORT"] = str(harness.free_port())      # another one looks at 8080 at the same moment
        self.tmp = tmp
        self.lines = []
        self.process = subprocess.Popen(
            [os.path.join(ROOT, "scripts", "quickstart")], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=env)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def text(self):
        return "\n".join(self.lines)

    def family(self):
        """The processes of its session by program: {name: [pid]}."""
        found = {}
        for pid, stat in harness.processes():
            if stat[2] == self.process.pid:
                try:
                    name = os.path.basename(os.readlink("/proc/%d/exe" % pid))
                except OSError:
                    continue  # it has ended meanwhile
                found.setdefault(name, []).append(pid)
        return found

    def wait_ready(self):
        wait_for(lambda: READY in self.lines or self.process.poll() is not None, "quickstart", START_LIMIT)
        assert READY in self.lines, self.text()

    def curl_line(self):
        line, = [line for line in self.lines if line.startswith("  curl ")]
        return line.strip()

    def wait_gone(self):
        """Until it has ended and left neither a process nor a file; returns its exit code."""
        code = self.process.wait(3 * LIMIT)
        wait_for(lambda: not self.family(), "the end of what quickstart started")
        assert os.listdir(self.tmp) == []
        self.reader.join(LIMIT)
        return code

    def kill(self):
        for pids in self.family().values():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT)


@pytest.fixture
def quickstart():
    # A folder of its own, short enough for the path of a UNIX socket.
    tmp = tempfile.mkdtemp(prefix="qs-", dir="/tmp")
    started = Quickstart(tmp)
    yield started
    started.kill()
    shutil.rmtree(tmp, ignore_errors=True)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_printed_curl_line_works_and_ctrl_c_stops_everything(quickstart):
    quickstart.wait_ready()
    curl = subprocess.run(quickstart.curl_line(), shell=True, capture_output=True, timeout=LIMIT)
    assert curl.returncode == 0, quickstart.text()
    answer = json.loads(curl.stdout)
    assert (answer["id"], answer["result"]) == (1, {"hello": "world"})
    # Ctrl-C: the terminal sends SIGINT to every process of the foreground group.
    os.killpg(quickstart.process.pid, signal.SIGINT)
    assert quickstart.wait_gone() == 0, quickstart.text()


def test_the_page_is_served_and_two_windows_talk(quickstart):
    """What a browser that opens the printed address asks for: the page, and a WebSocket on /ws for each window."""
    quickstart.wait_ready()
    port, = re.findall(r"Or open http://127\.0\.0\.1:(\d+)/ in two windows", quickstart.text())
    address = ("127.0.0.1", int(port))
    with Client(address) as browser:
        answer = browser.request("GET", "/")
        assert answer.status == 200 and answer.header("content-type").startswith("text/html")
        with open(os.path.join(ROOT, "docs", "chat.html"), "rb") as f:
            assert answer.body == f.read()
    with WsClient(address) as one, WsClient(address) as two:
        for client, name in ((one, "a"), (two, "b")):
            client.ask("demo.join", {"room": "r", "name": name})
            while "result" not in client.read_json():
                pass
        two.ask("demo.say", {"room": "r", "name": "b", "text": "hello"})
        while True:
            heard = one.read_json()
            if heard.get("params", {}).get("text") == "hello":
                break
    os.killpg(quickstart.process.pid, signal.SIGINT)
    assert quickstart.wait_gone() == 0, quickstart.text()


def test_sigterm_to_the_script_alone_stops_everything(quickstart):
    quickstart.wait_ready()
    quickstart.process.terminate()
    assert quickstart.wait_gone() == 0, quickstart.text()


def test_a_program_that_dies_is_named_and_the_rest_is_stopped(quickstart):
    quickstart.wait_ready()
    os.kill(quickstart.family()["workerd"][0], signal.SIGKILL)
    assert quickstart.wait_gone() == 1
    assert re.search(r"quickstart: worker [12] has ended", quickstart.text()), quickstart.text()


@pytest.mark.parametrize("body,status", [
    ("echo 'Done 3 runs in 1 second(s)'", 0),
    ("echo 'Done 2 runs in 1 second(s)'", 1),   # fewer than there are inputs
    ("exit 0", 1),                              # ended before it began
    ("echo 'Done 3 runs in 1 second(s)'; exit 77", 1),
    ("echo 'Done 3 runs in 1 second(s)'; kill -ABRT $$", 1),
])
def test_a_fuzz_target_that_dies_is_seen(tmp_path, body, status):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for n in range(3):
        (corpus / str(n)).write_text("x")
    target = tmp_path / "target"
    # As libFuzzer does, it writes what it finds into the first folder that it is given.
    target.write_text('#!/bin/sh\nfor a; do [ -d "$a" ] && { echo y >"$a/new"; break; }; done\necho "$@"\n'
                      + body + "\n")
    target.chmod(0o755)
    done = subprocess.run([os.path.join(ROOT, "scripts", "fuzz-one"), target, corpus], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, FUZZ_SEED="41", FUZZ_SECONDS="3"), timeout=LIMIT)
    assert done.returncode == status, done.stdout
    assert "-seed=41 -max_total_time=3" in done.stdout and "seed 41, 3 inputs" in done.stdout
    assert sorted(os.listdir(corpus)) == ["0", "1", "2"]
