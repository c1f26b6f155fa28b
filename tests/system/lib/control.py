"""frontctl against a site, and the protocol of control.sock by hand (docs/control.md)."""
import json
import os
import socket
import struct
import subprocess

import harness

FRONTCTL = os.path.join(harness.BUILD, "frontd", "frontctl", "frontctl")
HELLO, REQUEST, RESPONSE, CANCEL, PING, PONG, GOAWAY, PUSH = 1, 2, 3, 4, 5, 6, 7, 8


def frontctl(site, *words, code=0, timeout=harness.LIMIT * 3, options=None):
    """Runs it, checks its exit code, and returns what it wrote to standard output (standard error after a failure)."""
    argv = [FRONTCTL, *(["-c", site.path("frontd.yaml")] if options is None else options), *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    for word in harness.SANITIZERS:
        assert word not in done.stderr, done.stderr
    assert done.returncode == code, "%s: exit code %d: %s%s" % (words, done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def asked(site, *words, **keys):
    """The answer of a command as a value."""
    return json.loads(frontctl(site, *words, "--json", **keys))


def frame(kind, body=b"", call=0):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return struct.pack(">IBBHQQII", len(body), kind, 0, 0, call, 0, 0, 0) + body


class Control:
    """A connection to control.sock."""

    def __init__(self, site, hello=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(harness.LIMIT)
        self.sock.connect(site.path("run/control.sock"))
        self.calls = 0
        if hello:
            self.sock.sendall(frame(HELLO, {"program": "test", "version": "0", "control": 1}))
            kind, _, body = self.read()
            assert kind == HELLO and body["program"] == "frontd", body

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def read(self):
        """(type, call, body) of the next frame; the body as a value."""
        length, kind, _, _, call, _, _, _ = struct.unpack(">IBBHQQII", self.exactly(32))
        body = self.exactly(length)
        return kind, call, json.loads(body) if body and kind not in (PING, PONG) else body

    def request(self, method, params=None):
        self.calls += 1
        self.sock.sendall(frame(REQUEST, {"jsonrpc": "2.0", "id": self.calls, "method": method,
                                          "params": params or {}}, self.calls))
        return self.calls

    def call(self, method, params=None):
        """The response, and what was pushed before it."""
        number = self.request(method, params)
        pushed = []
        while True:
            kind, call, body = self.read()
            assert call == number, (kind, call, body)
            if kind == RESPONSE:
                assert body["id"] == number
                return body, pushed
            pushed.append(body)
