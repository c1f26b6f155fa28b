"""TLS clients: contexts for Client and its kin, and one whose records can be cut anywhere."""
import ssl

from httpclient import Client

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def context(version=None, ciphers=None, alpn=None, files=None, trusts=None):
    """A client's context. files: its own certificate and key. trusts: the CA that it asks; None: it does not look."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = trusts is not None
    made.verify_mode = ssl.CERT_NONE if trusts is None else ssl.CERT_REQUIRED
    if version:
        made.minimum_version = made.maximum_version = version
    if ciphers:
        made.set_ciphers(ciphers)
    if alpn:
        made.set_alpn_protocols(alpn)
    if files:
        made.load_cert_chain(*files)
    if trusts:
        made.load_verify_locations(trusts)
    return made


class CutClient(Client):
    """What is to go out waits in `outgoing` until push() sends a part of it. Each part is read at once."""

    def __init__(self, address, tls, timeout=10.0):
        super().__init__(address, timeout)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing)

    def push(self, n=-1):
        self.sock.sendall(self.outgoing.read(n))

    def _feed(self):
        data = self.sock.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def _done(self, function, *args):
        """Its result; what it has to send is sent, and what it needs is read."""
        while True:
            try:
                result = function(*args)
                self.push()
                return result
            except ssl.SSLWantReadError:
                self.push()
                self._feed()

    def start(self):
        """The first bytes of the handshake are in `outgoing`."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass

    def shake(self):
        self._done(self.tls.do_handshake)

    def seal(self, data):
        self.tls.write(data)

    def send(self, data):
        self.seal(data)
        self.push()

    def _fill(self):
        try:
            data = self._done(self.tls.read, 262144)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            data = b""
        if not data:
            self.eof = True
            return False
        self.buffer += data
        return True
