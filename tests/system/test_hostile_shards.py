"""A shard is taken for taken over by somebody (docs/security.md): what its user can do to the supervisor, which is
root. Each test is a row, or a part of one, of the table there."""
import contextlib
import errno
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import time

import pytest

from control import Control, asked
from fakeworker import echo, hold
from harness import LIMIT, children, command_line, free_port, open_files, rpc_request, rpc_route, wait_for, ws_route
from hostile import (ASK, LISTEN, OPEN, READY, REPORT, TELL, TICKETS, TICKETS_SIZE, USER, Process, control_of, get_fd, message,
                     record, replace_in_record, scribble, tell, text, ticks, wait_dead)
from httpclient import Client, Closed
from reloads import HUP, SLOW, USR2, Paused, call

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")

UID, GID = pwd.getpwnam(USER)[2:4] if os.geteuid() == 0 else (0, 0)


@pytest.fixture
def rooted(front):
    """A front that is root, with shards that are not."""
    def make(start=True, **keys):
        keys.setdefault("shards", 2)
        keys.setdefault("drain", "3s")
        site = front(user=USER, routes=[rpc_route(), ws_route()], streams={"line": {}, "frame": {}}, **keys)
        worker = site.fake()
        os.chmod(worker.address, 0o666)
        os.chmod(site.dir, 0o755)
        return site.start() if start else site
    return make


@pytest.fixture
def hostile():
    """Starts processes of the shards' user that end with the test."""
    made = []

    def make(run, *args):
        made.append(Process(run, *args))
        return made[-1]

    yield make
    for one in made:
        one.end()


def kill_supervisor(site):
    site.front.signal(signal.SIGKILL)
    site.front.wait()


def serves(site):
    with contextlib.suppress(OSError, Closed):
        return site.rpc("demo.echo", [1]).status == 200


def has_ended(pid):
    """Also what it had open is closed then, as it is not yet when the kernel shows no command line any more."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def fails_to_start(site, *words):
    """It ends at once and says why."""
    before = site.log_text() if os.path.exists(site.path("frontd.log")) else ""
    site.write()
    site.launch(ready=False)
    assert site.front.wait() == 1
    said = site.log_text()[len(before):]
    for word in words:
        assert word in said, said
    assert "Sanitizer" not in said and "check failed" not in said


# run_dir and its folders: whose they are

def prepare(path, owner=0, mode=0o700):
    os.makedirs(path, exist_ok=True)
    os.chown(path, owner, 0)
    os.chmod(path, mode)


@pytest.mark.parametrize("owner,mode", [(1, 0o700), (UID, 0o777), (UID, 0o750), (0, 0o777), (0, 0o770), (1, 0o777)])
def test_a_folder_for_shards_of_others_is_refused(rooted, owner, mode):
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    prepare(site.path("run/shards"), owner, mode)
    fails_to_start(site, "run_dir %s: shards in it" % site.path("run"), "remove it")
    os.rmdir(site.path("run/shards"))
    site.start()
    assert serves(site)


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_what_is_no_folder_is_refused(rooted, kind):
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    os.mkdir(site.path("elsewhere"))
    path = site.path("run/shards")
    {"file": lambda: open(path, "w").close(), "link": lambda: os.symlink(site.path("elsewhere"), path),
     "fifo": lambda: os.mkfifo(path)}[kind]()
    fails_to_start(site, "is not a folder: remove it")
    assert os.listdir(site.path("elsewhere")) == []
    os.unlink(path)
    site.start()


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o550])
def test_our_own_folder_is_mended(rooted, mode):
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    prepare(site.path("run/shards"), 0, mode)
    site.start()
    found = os.stat(site.path("run/shards"))
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, GID, 0o750)


def test_the_folder_of_a_program_before_is_replaced(rooted):
    """It was the user's, mode 0700, and they may have put anything there."""
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    prepare(site.path("run/shards"))
    for name in ("alive.lock", "precious"):
        with open(site.path("run/shards/" + name), "w") as f:
            f.write(name)
    os.mkdir(site.path("run/shards/report.sock"))
    os.chown(site.path("run/shards"), UID, GID)
    inode = os.stat(site.path("run/shards")).st_ino
    site.start()
    found = os.stat(site.path("run/shards"))
    assert found.st_ino != inode and (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o750)
    assert os.listdir(site.path("run/shards")) == []
    aside = os.stat(site.path("run/shards.before-0"))
    assert aside.st_ino == inode, "it is kept where something unknown is in it"
    kill_supervisor(site)
    site.launch(ready=False)
    site.wait_log("found the shards")
    site.wait_log("the old shards are gone")


def test_an_empty_folder_of_a_program_before_goes(rooted):
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    prepare(site.path("run/shards"), UID, 0o700)
    site.start()
    assert sorted(os.listdir(site.path("run"))) == ["control.sock", "frontd.pid", "shards", "supervisor.json"]


@pytest.mark.parametrize("what,owner,mode,words", [
    ("run", UID, 0o750, "it belongs to user"), ("run", 0, 0o770, "others can write to it"),
    ("run", 0, 0o757, "others can write to it"), ("above", UID, 0o755, "on the way belongs to user"),
    ("above", 0, 0o777, "on the way can be written to by others"),
])
def test_a_run_dir_of_others_is_refused(rooted, what, owner, mode, words):
    site = rooted(start=False)
    os.mkdir(site.path("above"))
    site.config["run_dir"] = site.path("above/run")
    os.mkdir(site.path("above/run"), 0o750)
    path = site.path("above" if what == "above" else "above/run")
    os.chown(path, owner, 0)
    os.chmod(path, mode)
    fails_to_start(site, "run_dir %s: " % site.config["run_dir"], words)
    os.chown(path, 0, 0)
    os.chmod(path, 0o755)
    site.start()


@pytest.mark.parametrize("kind", ["owner", "mode", "hardlink", "symlink", "fifo"])
@pytest.mark.parametrize("name", ["frontd.pid", "supervisor.json"])
def test_files_of_others_in_run_dir_are_refused(rooted, name, kind):
    """Not written to, not read."""
    site = rooted(start=False)
    prepare(site.path("run"), mode=0o750)
    path, other = site.path("run/" + name), site.path("other")
    with open(other, "w") as f:
        f.write("{}")
    if kind == "symlink":
        os.symlink(other, path)
    elif kind == "hardlink":
        os.link(other, path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        shutil.copy(other, path)
        os.chown(path, UID if kind == "owner" else 0, 0)
        os.chmod(path, 0o666 if kind == "mode" else 0o600)
    fails_to_start(site, name, "remove it")
    with open(other) as f:
        assert f.read() == "{}"
    os.unlink(path)
    site.start()


def test_nothing_there_can_be_changed_by_the_user(rooted, hostile):
    """Not a file replaced, added, removed, locked or read that says how things are."""
    site = rooted()
    site.wait_log("ready")

    def attack(say):
        names = [site.path("run/" + name) for name in ("shards/report.sock", "shards/alive.lock", "frontd.pid",
                                                      "supervisor.json", "supervisor.json.new", "x")]
        for name in names + [site.path("run/shards"), site.path("run/shards/x")]:
            for what, attempt in (
                    ("create", lambda n: os.close(os.open(n, os.O_CREAT | os.O_EXCL | os.O_WRONLY))),
                    ("write", lambda n: os.close(os.open(n, os.O_WRONLY))),
                    ("lock", lambda n: fcntl.flock(os.open(n, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)),
                    ("unlink", os.unlink), ("rename", lambda n: os.rename(n, n + ".old")),
                    ("mkdir", os.mkdir), ("chmod", lambda n: os.chmod(n, 0o777)),
                    ("link", lambda n: os.symlink("/etc/passwd", n))):
                try:
                    attempt(name)
                except OSError as e:
                    if e.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EEXIST, errno.EISDIR):
                        continue
                    if what == "lock" and name.endswith("shards"):
                        continue
                if what == "lock" and name.endswith("/shards"):
                    continue    # a lock on the folder, which it may read, says nothing to anybody
                say("%s %s" % (what, name))

    assert hostile(attack).heard() == []
    for name, mode in (("run", 0o750), ("run/shards", 0o750), ("run/supervisor.json", 0o600)):
        found = os.stat(site.path(name))
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, mode), name


# After the supervisor is killed: reports

def report_with_config(site, mark):
    """A config whose `command` leaves a mark; sent in every way that a program has understood so far."""
    config = dict(site.config, user="root", pools=[{"name": "app", "command": ["/bin/touch", mark]}])

    def run(say):
        path = site.path("run/shards/report.sock")
        signal.sigwait([signal.SIGUSR1])
        fd = os.memfd_create("frontd-config")
        os.write(fd, json.dumps(config).encode())
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for version, body, nfds in ((3, b"", 1), (2, b"\0" * 328, 4), (3, b"\0" * 328, 4), (3, b"", 4)):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, contextlib.suppress(OSError):
                    sock.connect(path)
                    socket.send_fds(sock, [message(REPORT, body, version)], [fd] * nfds)
                    sock.send(message(READY))
                    sock.settimeout(1)
                    sock.recv(1)
            time.sleep(0.05)
    return run


def takes_over(site, hostile, run):
    """The supervisor is killed, and the first shard is a hostile process when it is started again. Returns that,
    and a live client of the other shard."""
    process = hostile(run)
    victim, kept = site.shards()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(20)]
        for client in clients:
            call(client)
        stays = next(client for client in clients if site.shard_of(client) == kept)
        clients.remove(stays)
        stack.pop_all()
        for client in clients:
            client.close()
    kill_supervisor(site)
    os.kill(victim, signal.SIGKILL)
    replace_in_record(site, victim, process.pid)
    begun = time.monotonic()
    site.launch(ready=False)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGUSR1)
    assert wait_dead(process) == signal.SIGKILL
    took = time.monotonic() - begun
    site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
    assert took < 6 * SLOW, "held up for %.1f s" % took
    assert site.count("has not reported as it should, killing it") == 1
    call(stays)
    stays.close()
    assert serves(site)
    assert len(site.shards()) == 2


def test_a_config_that_a_shard_brings_is_never_used(rooted, hostile):
    """The way to become root that there once was."""
    site = rooted()
    mark = site.path("mark")
    takes_over(site, hostile, report_with_config(site, mark))
    assert not os.path.exists(mark)


def test_a_config_from_somebody_else_is_never_used(rooted, hostile):
    """Who is no shard, but of the shards' user; with and without live shards."""
    site = rooted()
    mark = site.path("mark")
    process = hostile(report_with_config(site, mark))
    with Paused(site.shards()):
        kill_supervisor(site)
        os.kill(process.pid, signal.SIGUSR1)
        site.launch(ready=False)
        site.wait_log("somebody else reports as a shard: refused")
    site.wait_log("the old shards are gone", timeout=2 * LIMIT * SLOW)
    assert serves(site) and not os.path.exists(mark)
    kill_supervisor(site)
    for pid in site.family():
        os.kill(pid, signal.SIGKILL)
    site.launch()
    assert serves(site) and not os.path.exists(mark)


def connect(site):
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            sock.connect(site.path("run/shards/report.sock"))
            return sock
        sock.close()
        time.sleep(0.01)


HOSTILE_REPORTS = {
    "nothing": lambda site: None,
    "connects": lambda site: connect(site).recv(1),
    "half": lambda site: socket.send_fds(sock := connect(site), [message(REPORT)], [0]) and sock.recv(1),
    "garbage": lambda site: connect(site).send(os.urandom(500)),
    "long": lambda site: connect(site).send(os.urandom(60000)),
    "flood": lambda site: flood(connect(site), 10000),
    "descriptors": lambda site: socket.send_fds(connect(site), [message(LISTEN, b"\0" * 516)], [0] * 250),
}


@pytest.mark.parametrize("kind", HOSTILE_REPORTS)
def test_a_shard_that_reports_wrongly_is_killed(rooted, hostile, kind):
    """It holds up the start for no longer than a shard that is slow does, and nobody else."""
    site = rooted()

    def run(say):
        HOSTILE_REPORTS[kind](site)
    takes_over(site, hostile, run)


def test_shards_report_to_their_supervisors_user_only(rooted, hostile):
    """Somebody else who listens in its place gets no descriptor."""
    site = rooted(shards=1)
    kill_supervisor(site)
    wait_for(lambda: site.count("the supervisor is gone"), "the shard that misses it", LIMIT * SLOW)
    os.chown(site.path("run/shards"), UID, GID)
    os.chmod(site.path("run/shards"), 0o770)

    def listen(say):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.bind(site.path("run/shards/report.sock"))
            sock.listen()
            for _ in range(3):
                with sock.accept()[0] as one:
                    got, fds, _, _ = socket.recv_fds(one, 1000, 10)
                    say("%d bytes, %d descriptors" % (len(got), len(fds)))
    assert hostile(listen).heard() == ["0 bytes, 0 descriptors"] * 3
    shutil.rmtree(site.path("run/shards"))
    site.launch(ready=False)
    site.wait_log("the old shards are gone")


# The record

def test_the_record_says_who_there_is(rooted):
    site = rooted()
    for number in (None, HUP, USR2):
        if number:
            site.reload(number)
        state = record(site)
        generation, = state["generations"]
        assert generation["role"] == "serving"
        assert sorted((c["pid"], c["birth"]) for c in generation["children"]) == \
            [(pid, ticks(pid)) for pid in site.shards()]
        assert json.loads(generation["conf"]) == site.config
        assert [len(e["cookies"]) for e in state["endpoints"]] == [2, 2, 2]
    victim = site.shards()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in site.shards() and len(site.shards()) == 2, "another shard")
    wait_for(lambda: sorted(c["pid"] for c in record(site)["generations"][0]["children"]) == site.shards(),
             "the record")
    site.front.signal(signal.SIGTERM)
    assert site.front.wait() == 0
    assert not os.path.exists(site.path("run/supervisor.json"))
    site.launch()


@pytest.mark.parametrize("how", ["lost", "garbage", "cut", "later"])
def test_without_a_record_nobody_is_taken_over(rooted, how):
    """Live shards hold the addresses: the start fails, and says what to do. Once they are gone it succeeds."""
    site = rooted()
    shards = site.shards()
    kill_supervisor(site)
    path = site.path("run/supervisor.json")
    with open(path) as f:
        text = f.read()
    if how == "lost":
        os.unlink(path)
    else:
        with open(path, "w") as f:
            f.write({"garbage": "\0\xff", "cut": text[:len(text) // 2],
                     "later": text.replace('"version":1', '"version":99')}[how])
    fails_to_start(site, "somebody listens there already. There is no supervisor.json in run_dir")
    for pid in shards:
        os.kill(pid, 0)     # they serve on
    assert serves(site)
    for pid in shards:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(has_ended(pid) for pid in shards), "their end")
    site.launch()
    assert serves(site)


# Control messages

def flood(sock, count):
    sock.settimeout(5)
    with contextlib.suppress(OSError):
        for _ in range(count):
            sock.send(message(READY))


def send_what_lingers(sock):
    """A connection whose last close() waits for an hour, since nobody reads what was sent on it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(1 << 20))
        other, _ = server.accept()
        supervisor, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with Paused(supervisor):    # until we have closed ours: the last close() is its to wait for, not ours
            for _ in range(3):
                socket.send_fds(sock, [message(READY)], [one.fileno()])
            os.close(one.detach())
        return other                # open for as long as the caller looks


@pytest.mark.parametrize("attack", [
    send_what_lingers,
    lambda sock: sock.send(message(READY)),
    lambda sock: sock.send(message(OPEN)),
    lambda sock: sock.send(message(TICKETS, bytes(TICKETS_SIZE))),
    lambda sock: sock.send(os.urandom(100)),
    lambda sock: sock.send(b""),
    lambda sock: sock.send(b"x" * 100000),
    lambda sock: sock.send(message(READY, version=99)),
    lambda sock: socket.send_fds(sock, [message(READY)], [0] * 100),
    lambda sock: flood(sock, 10000),
    lambda sock: sock.shutdown(socket.SHUT_WR),
], ids=["lingers", "ready", "open", "tickets", "garbage", "empty", "long", "foreign", "descriptors", "flood", "closed"])
def test_a_shard_that_says_what_it_may_not_is_killed(rooted, attack):
    site = rooted()
    victim, other = site.shards()
    supervisor = site.front.pid
    before = len(os.listdir("/proc/%d/fd" % supervisor))
    with control_of(victim) as sock:
        kept = attack(sock)
        wait_for(lambda: victim not in site.shards() and len(site.shards()) == 2, "another shard")
    assert other in site.shards() and site.front.pid == supervisor and site.front.running()
    wait_for(lambda: serves(site), "an answer")
    site.reload()
    if isinstance(kept, socket.socket):
        kept.close()
    wait_for(lambda: len(os.listdir("/proc/%d/fd" % supervisor)) <= before + 2, "descriptors given back")


def flood_with_answers(sock):
    sock.settimeout(5)
    with contextlib.suppress(OSError):
        for _ in range(3000):
            tell(sock, text(b"{}"), more=1)


TOLD_WRONGLY = [
    lambda sock: tell(sock, text(b"{}", seals=0)),
    lambda sock: tell(sock, text(b"{}", seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)),
    lambda sock: tell(sock, text(b"{}", size=(1 << 20) + 1)),
    lambda sock: tell(sock, text(b"{}", size=3)),                       # a NUL behind it
    lambda sock: tell(sock, text(b"")),
    lambda sock: tell(sock, text(b"[1]")),
    lambda sock: tell(sock, text(b'{"a":' * 100 + b"1" + b"}" * 100)),   # too deep for an answer to be made of it
    lambda sock: tell(sock, text(b'{"a":"\xff"}')),
    lambda sock: tell(sock, os.open("/dev/zero", os.O_RDONLY)),
    lambda sock: tell(sock, os.pipe()[0]),
    lambda sock: sock.send(message(TELL, bytes(16))),
    lambda sock: socket.send_fds(sock, [message(ASK, bytes(16))], [0]),
    flood_with_answers,
]


def test_a_shard_that_tells_wrongly_is_killed(rooted):
    """What shards are asked for is a text in memory that nobody can change, a JSON object that fits into another."""
    site = rooted(shards=len(TOLD_WRONGLY) + 1)
    before = len(os.listdir("/proc/%d/fd" % site.front.pid))
    honest, *victims = site.shards()
    for i, (attack, victim) in enumerate(zip(TOLD_WRONGLY, victims)):
        with control_of(victim) as sock:
            attack(sock)
            wait_for(lambda: victim not in site.shards(), "the end of the shard that does %d" % i, LIMIT * SLOW)
    # A right answer to what nobody has asked, as to a supervisor before, is left alone.
    with control_of(honest) as sock:
        tell(sock, text(b"{}"), id=12345)
        tell(sock, text(b"{}"), id=12345, more=1)
        wait_for(lambda: asked(site, "conns")["shards"] == len(victims) + 1, "shards that can be asked", LIMIT * SLOW)
    assert honest in site.shards()
    wait_for(lambda: len(os.listdir("/proc/%d/fd" % site.front.pid)) <= before + 2, "descriptors given back")


def test_a_shard_that_lies_to_a_question(rooted):
    """It can say what it likes of its own connections, and no more: its answer stands beside those of others."""
    site = rooted()
    liar, other = site.shards()
    wait_for(lambda: asked(site, "conns")["shards"] == 2, "shards that have read all that they were told")
    with control_of(liar) as sock, Paused(liar):
        with Control(site) as control:
            control.request("conns")
            sock.settimeout(LIMIT)
            asks, fds, _, _ = socket.recv_fds(sock, 2000, 5)
            kind, id = struct.unpack("=6xH8xQ", asks[:24])
            assert kind == ASK
            os.close(fds[0])
            tell(sock, text(b'{"rows":[{"id":"1"}],"complete":true}'), id=id)
            _, _, answer = control.read()
    shards = {one["pid"]: one["answer"] for one in answer["result"]["shards"]}
    assert shards[liar] == {"rows": [{"id": "1"}], "complete": True}
    assert shards[other]["rows"] == [] and answer["result"]["silent"] == []
    assert serves(site)


def answers(port):
    """Whether the admin process has all that it is given."""
    with contextlib.suppress(OSError, Closed), Client(("127.0.0.1", port)) as client:
        return client.request("GET", "/healthz", host="localhost").status == 200
    return False


def test_an_admin_process_learns_little(rooted):
    """One that is taken over knows what it shows; it changes nothing, knows no client, and has no shard work for it."""
    port = free_port()
    site = rooted(admin={"address": str(port)})
    wait_for(lambda: answers(port), "an answer of the admin process")
    shards = site.shards()
    admin, = [pid for pid in children(site.front.pid) if "--admin" in command_line(pid)]
    with Paused(admin):
        sockets = [socket.socket(fileno=get_fd(admin, fd)) for fd, what in open_files(admin).items() if "socket:" in what]
        ask, = [sock for sock in sockets if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)]
        with Control(site) as control, ask:
            control.sock.close()
            control.sock = ask
            ask.settimeout(LIMIT)
            control.calls = 1 << 32         # no number that the process itself has used
            for method in ("status", "pools", "methods", "workers"):
                assert "result" in control.call(method)[0]
            for method in ("pause", "drain", "log", "reload", "upgrade", "kick", "tap", "conns", "topics", "errors", "explain",
                           "profile", "reload_wait"):
                assert control.call(method, {"pool": "app", "worker": "app-1.sock"})[0]["error"]["code"] == -32011, method
            ask.sendall(b"no frame" * 8)
        for sock in sockets:
            sock.close()
    wait_for(lambda: has_ended(admin) and any("--admin" in command_line(pid) for pid in children(site.front.pid)), "another")
    assert site.shards() == shards and serves(site)


def test_a_shard_that_reads_nothing_is_killed(rooted):
    """The supervisor does not wait for it."""
    site = rooted()
    deaf, other = site.shards()
    with Paused(deaf):
        for number, target in open_files(site.front.pid).items():
            if "socket:" not in target:
                continue
            with socket.socket(fileno=get_fd(site.front.pid, number)) as sock:
                if sock.type != socket.SOCK_SEQPACKET:
                    continue
                with contextlib.suppress(BlockingIOError):
                    for _ in range(1000):
                        sock.send(message(OPEN), socket.MSG_DONTWAIT)
        os.kill(other, signal.SIGKILL)
        site.wait_log("does not read what it is told, killing it")
        wait_for(lambda: not set(site.shards()) & {deaf, other} and len(site.shards()) == 2, "two others")
    wait_for(lambda: serves(site), "an answer")
    site.reload()


# The shared memory

@pytest.mark.parametrize("seed", range(2))
def test_shared_memory_that_is_written_over(rooted, seed):
    """All of it, again and again: the supervisor lives, and so do shards; what is served is served again when
    those that were there have been replaced."""
    site = rooted(limits={"connections_per_peer": 100})
    supervisor = site.front.pid

    def check():
        assert site.front.running() and site.front.pid == supervisor
        assert "check failed" not in site.log_text() and "signal 6" not in site.log_text()
        assert "signal 11" not in site.log_text() and "signal 7" not in site.log_text()
    scribble(site.shards()[0], seed)
    victim = site.shards()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in site.shards() and len(site.shards()) == 2, "another shard")
    check()
    scribble(site.shards()[0], seed + 100)
    site.reload()
    check()
    scribble(site.shards()[0], seed + 200)
    site.reload(USR2)
    check()
    site.reload()
    site.reload()
    wait_for(lambda: serves(site), "an answer", LIMIT * SLOW)
    check()
    scribble(site.shards()[0], seed + 300)
    kill_supervisor(site)
    gone = site.count("the old shards are gone")
    site.launch(ready=False)
    supervisor = site.front.pid
    site.wait_log("the old shards are gone", gone + 1, 2 * LIMIT * SLOW)
    check()
    site.reload()
    wait_for(lambda: serves(site), "an answer", LIMIT * SLOW)


# And nobody who is honest loses anything

@pytest.mark.parametrize("again", range(2))
def test_connections_of_all_kinds_outlive_the_supervisor(rooted, again):
    site = rooted()
    kinds = [site.client, site.ws, lambda: site.stream("line"), lambda: site.stream("frame")]
    with site.client() as busy:
        site.workers[0].handler = hold
        busy.send(rpc_request("slow", [1]))
        slow = site.workers[0].wait_calls(1)
        site.workers[0].handler = echo
        stays = [make() for make in kinds for _ in range(4)]
        for client in stays:
            call(client)
        for _ in range(1 + again):
            gone = site.count("the old shards are gone")
            kill_supervisor(site)
            for client in stays:
                call(client)
            site.launch(ready=False)
            site.wait_log("found the shards")
            if again == 0:
                slow.reply([1])
                assert busy.read_response().json()["result"] == [1]
                site.wait_log("the old shards are gone", gone + 1, 2 * LIMIT * SLOW)
            for client in stays:
                call(client)
        if again:
            slow.reply([1])
            assert busy.read_response().json()["result"] == [1]
    wait_for(lambda: sorted(site.family()) == sorted(site.shards() + [site.front.pid]) and len(site.shards()) == 2,
             "one generation", 2 * LIMIT * SLOW)
    site.reload()
    for client in stays:
        call(client)
        client.close()
