"""A raw HTTP/1.1 client for tests: sends the bytes it is told to and reads responses strictly.

It knows no more of HTTP than a response needs, and it refuses what RFC 9112 does not allow in one,
so that a front which answers loosely fails the tests rather than being understood anyway.
"""
import errno
import json
import re
import select
import socket
import struct
import time

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2}) [\t\x20-\x7e]*")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")


class BadResponse(AssertionError):
    """What came is not an HTTP response."""


class Closed(Exception):
    """The connection ended where a response was expected."""


class Response:
    def __init__(self, status, version, headers, body=b""):
        self.status = status
        self.version = version
        self.headers = headers
        self.body = body
        self.trailers = []

    def all(self, name):
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name):
        """The value of a field that may appear at most once; None when it is absent."""
        values = self.all(name)
        assert len(values) <= 1, "%s repeated: %r" % (name, values)
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<%d %r %r>" % (self.status, self.headers, self.body[:200])


class Client:
    """One connection. `address` is (host, port), or the path of a UNIX socket. tls: an ssl.SSLContext; name: the
    server that is asked for there."""

    def __init__(self, address, timeout=10.0, rcvbuf=None, tls=None, name=None):
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name)
        self.buffer = bytearray()
        self.eof = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def try_send(self, data):
        """Sends, and tells whether the other side still took it."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            return False

    def readable(self, timeout=0):
        poll = select.poll()    # select() takes no descriptor from 1,024 up
        poll.register(self.sock, select.POLLIN)
        return bool(self.buffer) or bool(getattr(self.sock, "pending", int)()) or bool(poll.poll(timeout * 1000))

    def _fill(self):
        """Reads once; False at the end of the stream."""
        if self.eof:
            return False
        try:
            data = self.sock.recv(262144)
        except OSError as e:
            if e.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            data = b""
        if not data:
            self.eof = True
            return False
        self.buffer += data
        return True

    def _line(self):
        while True:
            end = self.buffer.find(b"\n")
            if end >= 0:
                line = bytes(self.buffer[:end + 1])
                del self.buffer[:end + 1]
                if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                    raise BadResponse("line not ended by CRLF: %r" % line)
                return line[:-2]
            if not self._fill():
                if self.buffer:
                    raise BadResponse("ended within a line: %r" % bytes(self.buffer))
                raise Closed()

    def _bytes(self, count):
        while len(self.buffer) < count:
            if not self._fill():
                raise BadResponse("ended %d bytes early" % (count - len(self.buffer)))
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def _fields(self):
        fields = []
        while True:
            line = self._line()
            if not line:
                return fields
            match = FIELD_LINE.fullmatch(line)
            if not match:
                raise BadResponse("bad field line: %r" % line)
            fields.append((match[1].decode().lower(), match[2].decode("latin-1")))

    def _chunked(self, response):
        body = b""
        while True:
            line = self._line()
            if not re.fullmatch(rb"[0-9A-Fa-f]+", line):
                raise BadResponse("bad chunk size: %r" % line)
            size = int(line, 16)
            if size == 0:
                break
            body += self._bytes(size)
            if self._bytes(2) != b"\r\n":
                raise BadResponse("chunk not ended by CRLF")
        response.trailers = self._fields()
        return body

    def read_response(self, head=False):
        """Reads one response (an interim one counts); `head`: it answers HEAD."""
        line = self._line()
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise BadResponse("bad status line: %r" % line)
        r = Response(int(match[1]), line[5:8].decode(), self._fields())
        length, coding = r.header("content-length"), r.header("transfer-encoding")
        if length is not None and not re.fullmatch("[0-9]+", length):
            raise BadResponse("bad Content-Length: %r" % length)
        if length is not None and coding is not None:
            raise BadResponse("Content-Length and Transfer-Encoding")
        if r.status < 200 or r.status == 204:
            if length is not None or coding is not None:
                raise BadResponse("%d with a body's length" % r.status)
        elif head or r.status == 304:
            pass
        elif coding is not None:
            if coding.lower() != "chunked":
                raise BadResponse("transfer coding %r" % coding)
            r.body = self._chunked(r)
        elif length is not None:
            r.body = self._bytes(int(length))
        else:
            if "close" not in (r.header("connection") or "").lower() and r.version == "1.1":
                raise BadResponse("no length, and the connection does not close")
            while self._fill():
                pass
            r.body = bytes(self.buffer)
            self.buffer.clear()
        return r

    def request(self, method, target, body=None, headers=(), host="front.test"):
        """Sends one request and reads its answer."""
        self.send(request(method, target, body, headers, host))
        return self.read_response(head=method == "HEAD")

    def rpc(self, method, params=None, id=1, path="/rpc", headers=()):
        """One JSON-RPC call; `id=None` makes it a notification."""
        return self.request("POST", path, rpc_body(method, params, id),
                            [("Content-Type", "application/json"), *headers])

    def post(self, body, path="/rpc", headers=()):
        return self.request("POST", path, body, headers)

    def at_end(self, timeout=10.0):
        """True when nothing more came and the connection ended within `timeout`."""
        self.sock.settimeout(timeout)
        try:
            return not self.buffer and not self._fill()
        except socket.timeout:
            return False

    def rest(self):
        """All that comes until the connection ends."""
        while self._fill():
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data


def request(method, target, body=None, headers=(), host="front.test"):
    lines = ["%s %s HTTP/1.1" % (method, target)]
    if host is not None:
        lines.append("Host: %s" % host)
    lines += ["%s: %s" % pair for pair in headers]
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def rpc_body(method, params=None, id=1):
    call = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        call["params"] = params
    if id is not None:
        call["id"] = id
    return json.dumps(call).encode()


def rpc_request(method, params=None, id=1, path="/rpc", headers=()):
    return request("POST", path, rpc_body(method, params, id), headers)


def wait_readable(clients, timeout=10.0):
    """The first clients that have something to read, or [] after `timeout`."""
    deadline = time.monotonic() + timeout
    ready = [c for c in clients if c.buffer]
    if ready:
        return ready
    poller = select.poll()
    by_fd = {c.sock.fileno(): c for c in clients}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    events = poller.poll(max(0, deadline - time.monotonic()) * 1000)
    return [by_fd[fd] for fd, _ in events]
