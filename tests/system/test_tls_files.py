"""The files of `tls`: read by the supervisor, looked at before any shard has them, and refused with the line of
the config."""
import contextlib
import os
import pty
import re
import ssl
import subprocess

import pytest

from certs import make, openssl, pair
from fakeworker import echo
from harness import FRONTD, ROOT, rpc_route
from httpclient import Client
from reloads import HUP, USR2, call
from tlsclient import context


def listener(site, *files, **tls):
    return [{"name": "web", "address": "127.0.0.1:%d" % site.port, "protocol": "http", "routes": [rpc_route()],
             "tls": {"certificates": [pair(each) for each in files], **tls}}]


def run(site, *argv, before=(), **keys):
    """What frontd says of the config, without times and paths of the folder; and how it ended."""
    config = site.write()
    done = subprocess.run([*before, FRONTD, *argv, "-c", config], capture_output=True, text=True, timeout=60, **keys)
    assert done.stdout == ""
    return done.returncode, done.stderr.replace(site.dir + "/", "")


def place(site, index, key, path):
    """How a message about a file begins: the line of the config, the key, the file, the listener."""
    with open(site.path("frontd.yaml")) as f:
        line = [n for n, line in enumerate(f, 1) if '"%s": "%s"' % (key, path) in line][-1]
    return "frontd.yaml:%d: listeners[0].tls.certificates[%d].%s: %s of listener web: " % (
        line, index, key, os.path.basename(path))


def test_a_check_reads_them(site):
    web = site()
    one, other = make(web.dir, "a.test"), make(web.dir, "b.test", days=3, san=False)
    web.config["listeners"] = listener(web, one)
    assert run(web, "--check") == (0, "")
    web.config["listeners"] = listener(web, one, other)
    os.chmod(other[1], 0o644)
    status, said = run(web, "--check")
    cert, key = (place(web, 1, *each) for each in pair(other).items())
    assert status == 0 and [re.sub(r"in [23] days", "soon", line) for line in said.splitlines()] == [
        "warning: " + key + "a key with mode 0644: others than its owner and its group may read it; 0640 is as much "
        "as it needs",
        "warning: " + cert + "the certificate has no subjectAltName: no client accepts it for a name",
        "warning: " + cert + "the certificate expires soon"]
    web.config["listeners"] = listener(web, one, (one[0], other[1]))
    os.chmod(other[1], 0o640)
    assert run(web, "--check") == (1, place(web, 1, "key", other[1]) + "the key does not belong to the certificate\n")


def test_nobody_is_asked_for_a_passphrase(site):
    """Not even where there is a terminal."""
    web = site()
    cert, key = make(web.dir)
    openssl("ec", "-in", key, "-aes128", "-passout", "pass:word", "-out", web.path("enc.key"))
    web.config["listeners"] = listener(web, (cert, web.path("enc.key")))
    ours, theirs = pty.openpty()
    for argv in (["--check"], []):
        status, said = run(web, *argv, stdin=theirs, start_new_session=True)
        assert status == 1
        assert place(web, 0, "key", web.path("enc.key")) + "the key is encrypted: write it without a passphrase, since " \
            "none can be asked for" in said
        assert "word" not in said and "BEGIN" not in said
    os.close(theirs)
    os.close(ours)


def test_a_user_who_may_not_read_them(site):
    web = site()
    web.config["listeners"] = listener(web, make(web.dir))
    os.chmod(web.dir, 0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    status, said = run(web, "--check", before=nobody)
    key = place(web, 0, "key", web.path("a.test.key"))
    assert (status, said) == (0, "warning: " + key + "it cannot be looked at: Permission denied\n")
    status, said = run(web, "--check", "--bind", before=nobody)
    assert status == 1 and key + "cannot read it: Permission denied\n" in said


def renew(folder, number):
    """What certbot does at a renewal: new files in `archive`, to which the links in `live` lead. Returns these."""
    links = []
    for name, made in zip(("fullchain", "privkey"), make(folder, "%d.test" % number)):
        os.rename(made, "%s/archive/n/%s%d.pem" % (folder, name, number))
        links.append("%s/live/n/%s.pem" % (folder, name))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(links[-1])
        os.symlink("../../archive/n/%s%d.pem" % (name, number), links[-1])
    return links


def test_a_renewal_of_certbot(front):
    """Its folders, and the hook of docs/operating.md: new connections get the new certificate, others stay."""
    site = front(routes=[rpc_route()])
    for name in ("live", "archive"):
        os.makedirs(site.path(name + "/n"), mode=0o700)
    site.config["listeners"] = listener(site, renew(site.dir, 1))
    site.fake(handler=echo)
    site.start(ready=False)
    site.workers[0].wait_ready(1)
    with open(os.path.join(ROOT, "docs", "operating.md")) as f:
        hook = re.search("--deploy-hook '(kill .*)'", f.read())[1].replace("/run/frontd/", site.path("run/"))
    first = context(trusts=site.path("archive/n/fullchain1.pem"))
    with Client(site.address, tls=first, name="1.test") as stays:
        call(stays)
        renew(site.dir, 2)
        subprocess.run(["sh", "-ec", hook], check=True, timeout=60)
        site.wait_log("the old shards are gone")
        call(stays)
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(site.address, tls=first, name="1.test")
    with Client(site.address, tls=context(trusts=site.path("archive/n/fullchain2.pem")), name="2.test") as new:
        call(new)


def test_a_reload_that_is_refused(front):
    site = front(routes=[rpc_route()])
    site.fake(handler=echo)
    site.start()
    client = site.client()
    call(client)
    one, other = make(site.dir, "a.test"), make(site.dir, "b.test")
    for number in (HUP, USR2):
        site.refused("listeners[0].tls.certificates[0].key: %s of listener web: the key does not belong to the "
                     "certificate" % other[1], number, listeners=listener(site, (one[0], other[1])))
        call(client)
