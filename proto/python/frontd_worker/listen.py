"""Where a worker listens (section 1 of proto/PROTOCOL.md): the socket that it inherits, a UNIX socket or TCP."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from typing import Optional

BACKLOG = 128  # channels waiting to be accepted


class Listener:
    """A listening socket; `path` where we made a socket file, which is ours to unlink."""
    def __init__(self, socket: socket.socket, name: str, path: Optional[str] = None) -> None:
        self.socket, self.name, self.path = socket, name, path
        self.status = os.lstat(path) if path else None

    def close(self) -> None:
        """Close it, and unlink its file unless another one is there by now."""
        self.socket.close()
        path, self.path = self.path, None
        try:
            if path and self.status and os.path.samestat(os.lstat(path), self.status):
                os.unlink(path)
        except FileNotFoundError:
            pass


def open_listener(address: str) -> Listener:
    """Listen on `address`, see Worker.run(). Raises OSError or ValueError when that cannot be done."""
    if (inherited := _inherited_socket()) is not None:
        return Listener(inherited, "descriptor 3")
    if address.startswith("unix:"):
        return _open_unix(address[len("unix:"):])
    if address.startswith("tcp://"):
        return _open_tcp(address)
    raise ValueError(f"{address}: neither unix:PATH nor tcp://HOST:PORT")


def _inherited_socket() -> Optional[socket.socket]:
    """Descriptor 3, where systemd or frontd passed it, else None; the variables are not meant for child processes."""
    count, pid = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    if count is None or (pid is not None and pid != str(os.getpid())):
        return None
    if count != "1":
        raise ValueError(f"LISTEN_FDS is {count}, one socket is wanted")
    os.set_inheritable(3, False)
    inherited = socket.socket(fileno=3)
    if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError("descriptor 3 is not a listening socket")
    return inherited


def _open_tcp(address: str) -> Listener:
    host, _, port = address[len("tcp://"):].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address}: not tcp://HOST:PORT")
    family, *_, name = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    listening = socket.create_server(name, family=family, backlog=BACKLOG,
                                     dualstack_ipv6=family == socket.AF_INET6)
    return Listener(listening, f"tcp://{host}:{listening.getsockname()[1]}")


def _open_unix(path: str) -> Listener:
    if not path or path[0] in "@\0":
        raise ValueError(f"unix:{path}: a path is wanted; abstract sockets have no permissions")
    path = os.path.abspath(path)
    # Of two workers that find the same stale file, the second must not unlink what the first has
    # made meanwhile, so one at a time looks and binds. A lock on the folder leaves nothing behind.
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o117)  # mode 0660 from birth
        try:
            listening.bind(path)
        finally:
            os.umask(mask)
        listening.listen(BACKLOG)
        return Listener(listening, f"unix:{path}", path)
    finally:
        os.close(folder)


def _remove_stale(path: str) -> None:
    """Unlink a socket file that no process listens on; anything else that is there raises OSError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is an answer too
        result = probe.connect_ex(path)
    if result != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, "somebody listens there already", path)
    os.unlink(path)
