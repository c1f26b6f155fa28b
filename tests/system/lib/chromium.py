"""Headless Chromium, driven through its DevTools protocol on a pair of pipes: no driver is needed.

    with Chromium(folder) as browser:
        page = browser.open("http://127.0.0.1:8080/")
        page.until("document.title === 'frontd: a chat'")
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

PROGRAM = shutil.which("chromium")
LAUNCH = """
import fcntl, os, sys
commands, events = (fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 10) for fd in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(events, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
WAIT = 60  # seconds; a sanitized frontd on a busy machine is slow


class Chromium:
    """A browser of its own, with its profile in `folder`. options: more of its command line."""

    def __init__(self, folder, *options):
        commands, self.write = os.pipe()
        self.read, events = os.pipe()
        self.log = open(os.path.join(folder, "chromium.log"), "wb")
        # It reads descriptor 3 and writes 4, whatever numbers the pipes have here.
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(commands), str(events), PROGRAM, "--headless",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-proxy-server", "--disable-background-networking", "--remote-debugging-pipe",
             f"--user-data-dir={folder}/chromium", *options, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=(commands, events),
            env={**os.environ, "HOME": str(folder)}, start_new_session=True)
        os.close(commands)
        os.close(events)
        self.input, self.last, self.events = b"", 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)  # its helpers too
        self.process.wait(WAIT)
        os.close(self.write)
        os.close(self.read)
        self.log.close()

    def _receive(self, end):
        while b"\0" not in self.input:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.read], [], [], left)[0], "Chromium says nothing"
            data = os.read(self.read, 1 << 16)
            assert data, "Chromium has ended"
            self.input += data
        text, _, self.input = self.input.partition(b"\0")
        return json.loads(text)

    def command(self, method, session=None, **params):
        """One command of the protocol, and its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + WAIT
        while True:
            answer = self._receive(end)
            if answer.get("id") == self.last:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        """A page in a window of its own."""
        target = self.command("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Runtime", "Log", "Page"):
            page.command(domain + ".enable")
        page.command("Page.navigate", url=url)
        page.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return page


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def command(self, method, **params):
        return self.browser.command(method, self.session, **params)

    def evaluate(self, script):
        """The value of a JavaScript expression."""
        result = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def until(self, script):
        """Wait until the expression is true; returns its value."""
        end = time.monotonic() + WAIT
        while True:
            value = self.evaluate(script)
            if value:
                return value
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def fill(self, id, text):
        """Put a text into an input, as if it was typed."""
        self.evaluate("document.getElementById(%s).value = ''; document.getElementById(%s).focus()"
                      % (json.dumps(id), json.dumps(id)))
        self.command("Input.insertText", text=text)

    def click(self, id):
        self.evaluate("document.getElementById(%s).click()" % json.dumps(id))

    def problems(self):
        """What the page's console has to say: errors, warnings, exceptions."""
        self.evaluate("0")  # so that what was reported before is here
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
        return found
