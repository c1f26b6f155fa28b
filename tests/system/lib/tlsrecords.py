"""TLS clients of any kind whose records a test can send in parts: Client(address, tls=Records(context))."""
import ssl


class Records:
    """In place of the context that Client is given as `tls`."""

    def __init__(self, context):
        self.context = context

    def wrap_socket(self, sock, server_hostname=None):
        return TlsSocket(sock, self.context, server_hostname)


class TlsSocket:
    """As a socket, over one that is connected. All else of that is its own."""

    def __init__(self, sock, context, name=None):
        self.raw = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self._until_done(self.tls.do_handshake)
        self.flush()

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def _until_done(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.raw.recv(262144)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def flush(self):
        self.raw.sendall(self.outgoing.read())

    def seal(self, data):
        """The records with these bytes, which the test has to send."""
        self.tls.write(data)
        return self.outgoing.read()

    def seal_end(self):
        """The same for close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def sendall(self, data):
        self.raw.sendall(self.seal(data))

    def recv(self, n):
        """Empty where close_notify has come; where the connection ends without, it raises ssl.SSLEOFError."""
        try:
            return self._until_done(lambda: self.tls.read(n))
        except ssl.SSLZeroReturnError:
            return b""
