"""A client of HTTP/2 with prior knowledge, by python3-h2; what breaks the protocol is sent as bytes."""
import socket
import ssl
import time

import h2.config
import h2.connection
import h2.events

from harness import LIMIT


HEAD, GOAWAY = 9, 7     # bytes of a frame's head; its type


class Ended(Exception):
    """The connection has ended; `code` is that of GOAWAY, if there was one."""

    def __init__(self, code=None):
        super().__init__("GOAWAY %s" % code)
        self.code = code


class Stream:
    def __init__(self):
        self.status = None
        self.headers = {}
        self.body = b""
        self.informed = []  # statuses of 1xx
        self.reset = None   # the code of RST_STREAM
        self.ended = False


class H2Client:
    """`window`: False leaves windows as they are: what is read is not made good. `raw`: the library is told of
    nothing that is read, since it is told of nothing that is sent. `tls`: over TLS, HTTP/2 chosen by ALPN."""

    def __init__(self, address, window=True, raw=False, tls=False):
        self.sock = socket.create_connection(address, LIMIT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            self.sock = context.wrap_socket(self.sock)
            assert self.sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False,
                                           normalize_outbound_headers=False)
        self.conn = h2.connection.H2Connection(config)
        self.conn.initiate_connection()
        self.window = window
        self.raw = raw
        self.authority = "%s:%d" % address
        self.streams = {}
        self.goaways = []   # (last stream, code) of each
        self.unread = b""
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    close = __exit__

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def send(self, data):
        """Bytes that the library knows nothing of."""
        self.flush()
        self.sock.sendall(data)

    def open(self, method="GET", path="/", body=None, headers=(), end=True):
        """Begins a request; returns the number of its stream. end: False: more of the body follows."""
        number = self.conn.get_next_available_stream_id()
        self.streams[number] = Stream()
        fields = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]
        self.conn.send_headers(number, fields + list(headers), end_stream=body is None and end)
        self.flush()
        if body is not None:
            self.data(number, body, end)
        return number

    def data(self, number, body, end=True):
        """Sends of a body, within the windows."""
        while True:
            room = min(self.conn.local_flow_control_window(number), self.conn.max_outbound_frame_size, len(body))
            if room > 0 or not body:
                last = end and room == len(body)
                self.conn.send_data(number, body[:room], end_stream=last)
                self.flush()
                body = body[room:]
                if not body:
                    return
            else:
                self.read()

    def rpc(self, method, params=None, id=1, path="/rpc"):
        import json
        body = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            body["params"] = params
        return self.open("POST", path, json.dumps(body).encode())

    def read(self, timeout=LIMIT):
        """Reads once."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended(self.goaways[-1][1] if self.goaways else None)
        self.unread += data
        while len(self.unread) >= HEAD:
            size = HEAD + int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < size:
                break
            self.take_frame(self.unread[:size])
            self.unread = self.unread[size:]
        self.flush()

    def take_frame(self, data):
        if data[3] == GOAWAY:   # the library takes it for the end, though streams go on
            self.goaways.append((int.from_bytes(data[9:13], "big"), int.from_bytes(data[13:17], "big")))
            return
        for event in self.conn.receive_data(data) if not self.raw else ():
            self.take(event)

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = {k.decode(): v.decode() for k, v in event.headers}
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.informed.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if self.window and event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
            stream.ended = True

    def wait(self, number, timeout=LIMIT):
        """Until that stream has ended; returns it."""
        return self.until(lambda: self.streams[number].ended, timeout) or self.streams[number]

    def until(self, condition, timeout=LIMIT):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "waited %g s" % timeout
            self.read(timeout)

    def get(self, path, **keys):
        return self.wait(self.open("GET", path, **keys))

    def ended(self):
        """Until the connection has ended; returns the code of its last GOAWAY."""
        try:
            while True:
                self.read()
        except Ended as e:
            return e.code


def frame(type, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([type, flags]) + stream.to_bytes(4, "big") + payload
