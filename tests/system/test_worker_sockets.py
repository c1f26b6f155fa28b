"""Where any worker listens, and what it does to files that it finds there (section 1 of the protocol)."""

import os
import signal
import socket
import stat

import pytest

from fakefront import until
from harness import free_port
from workerproc import DEMO_WORKERS, KINDS, PYTHON, Starter


@pytest.fixture(params=KINDS)
def start(request, tmp_path):
    starter = Starter(tmp_path, request.param)
    yield starter
    starter.close()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "w.sock")


def is_alive(worker):
    return worker.front().call("demo.add", [20, 22])["result"] == 42


def refuses(worker):
    """It does not start, and says something about it."""
    assert worker.wait() not in (0, None) and worker.output()
    return True


def make_stale(path):
    """What a worker leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()


def stop(worker):
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_the_socket_has_mode_0660_and_goes_with_the_worker(start, path):
    worker = start.demo(f"unix:{path}")
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o660
    stop(worker)
    assert not os.path.lexists(path)


def test_a_stale_socket_is_replaced(start, path):
    make_stale(path)
    assert is_alive(start.demo(f"unix:{path}"))


def test_after_sigkill_the_next_one_starts(start, path):
    worker = start.demo(f"unix:{path}")
    worker.process.kill()
    worker.wait()
    assert os.path.exists(path)
    assert is_alive(start.demo(f"unix:{path}"))


def test_a_socket_that_is_in_use_is_left_alone(start, path):
    first = start.demo(f"unix:{path}")
    before = os.lstat(path)
    assert refuses(start.demo(f"unix:{path}", up=False))
    assert os.lstat(path).st_ino == before.st_ino
    assert is_alive(first)


def test_a_busy_one_with_a_full_backlog_too(start, path):
    with socket.socket(socket.AF_UNIX) as owner, socket.socket(socket.AF_UNIX) as client:
        owner.bind(path)
        owner.listen(0)
        client.connect(path)
        assert refuses(start.demo(f"unix:{path}", up=False))
        assert os.path.exists(path)


def test_of_several_starts_one_wins(start, path):
    make_stale(path)
    workers = [start.demo(f"unix:{path}", up=False) for _ in range(4)]
    until(lambda: sum(w.process.poll() is not None for w in workers) == 3, "three to give up")
    winner, = (w for w in workers if w.process.poll() is None)
    assert is_alive(winner.wait_until_up())


@pytest.mark.parametrize("kind", ["file", "folder", "link to a socket", "dangling link", "fifo"])
def test_what_is_no_socket_is_left_alone(start, tmp_path, path, kind):
    if kind == "file":
        with open(path, "w") as file:
            file.write("precious")
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        target = str(tmp_path / "target")
        os.symlink(target, path)
        if kind == "link to a socket":
            make_stale(target)
    before = os.lstat(path)
    assert refuses(start.demo(f"unix:{path}", up=False))
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_size) == (
        before.st_ino, before.st_mode, before.st_size)


def test_somebody_elses_socket_is_not_unlinked(start, path):
    worker = start.demo(f"unix:{path}")
    os.rename(path, path + ".old")
    make_stale(path)
    stop(worker)
    assert os.path.exists(path)


def test_a_socket_that_is_gone_is_no_trouble(start, path):
    worker = start.demo(f"unix:{path}")
    os.unlink(path)
    stop(worker)


def test_the_folder_is_left_as_it_was(start, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    worker = start.demo(f"unix:{folder}/w.sock")
    assert os.listdir(folder) == ["w.sock"]
    stop(worker)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("address", [
    "unix:", "unix:/nonexistent/w.sock", "unix:/tmp/" + "x" * 200, "nonsense", ""])
def test_addresses_that_are_none(start, address):
    worker = start.demo(f"unix:{start.folder}/never.sock", up=False)
    worker.kill()
    assert refuses(start.start([part.format(address=address, concurrency=1)
                                for part in DEMO_WORKERS[start.kind]], address, up=False))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_tcp(start, host):
    with socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET) as sock:
        try:
            sock.bind((host.strip("[]"), 0))
        except OSError:
            pytest.skip(f"no {host} here")
    worker = start.demo(f"tcp://{host}:{free_port()}")
    assert is_alive(worker)
    front = worker.front()
    slow = front.request("demo.sleep", {"ms": 100})
    front.ping()
    worker.signal(signal.SIGTERM)
    assert front.response(slow)
    front.expect_closed()
    assert worker.wait() == 0


# A listening socket as descriptor 3

LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
if sys.argv[2]:
    os.environ["LISTEN_PID"] = sys.argv[2].replace("self", str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def start_inherited(start, path, pid):
    """A demo worker, told to listen elsewhere, with a listening socket as descriptor 3."""
    argv = [part.format(address=f"unix:{start.folder}/other.sock", concurrency=4)
            for part in DEMO_WORKERS[start.kind]]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        fd = sock.fileno()
        return start.start([PYTHON, "-c", LAUNCHER, str(fd), pid, *argv], f"unix:{path}", up=False,
                           env={"LISTEN_FDS": "1"}, pass_fds=[fd])


@pytest.mark.parametrize("pid", ["", "self"])
def test_inherited_socket(start, path, pid):
    worker = start_inherited(start, path, pid)
    assert is_alive(worker)
    assert not os.path.exists(f"{start.folder}/other.sock")
    stop(worker)
    assert os.path.exists(path)  # who made it unlinks it


def test_inherited_socket_is_somebody_elses(start, path):
    worker = start_inherited(start, path, "1")
    worker.address = f"unix:{start.folder}/other.sock"
    assert is_alive(worker.wait_until_up())
