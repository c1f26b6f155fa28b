"""Certificates and keys for a test, made by openssl(1)."""
import os
import subprocess


def openssl(*argv):
    subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=60)


def make(folder, name="a.test", days=90, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), san=True):
    """A certificate that is its own authority, NAME.pem, and its key, NAME.key, in a folder. Returns their paths."""
    cert, key_file = (os.path.join(folder, name + end) for end in (".pem", ".key"))
    names = ["-addext", "subjectAltName=DNS:%s" % name] if san else []
    openssl("req", "-x509", "-newkey", *key, "-nodes", "-days", str(days), "-subj", "/CN=" + name, *names,
            "-keyout", key_file, "-out", cert)
    os.chmod(key_file, 0o600)
    return cert, key_file


def issue(folder, issuer, name, sans, days=90, ca=False):
    """A certificate of that issuer (what make() has returned), and its key. sans: "DNS:a.test,IP:192.0.2.1". days: until
    it expires; negative: since it did. ca: it can issue others."""
    cert, key_file, request = (os.path.join(folder, name + end) for end in (".pem", ".key", ".csr"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
            "-addext", "subjectAltName=" + sans,
            "-addext", "basicConstraints=critical,CA:" + ("TRUE" if ca else "FALSE"),
            "-keyout", key_file, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", issuer[0], "-CAkey", issuer[1], "-days", str(days),
            "-copy_extensions", "copyall", "-out", cert)
    os.chmod(key_file, 0o600)
    return cert, key_file


def pair(files):
    """A member of `certificates` in the config."""
    return dict(zip(("cert", "key"), files))
