"""The two listening sockets of the admin API, bound by us and never by the web server.

The Unix socket's path is held by a lock file, so that a second runner refuses instead of stealing it, and a
socket left behind by a crash is removed without asking.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from runner.errors import LeaseHeldError, StartError

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG: Final = 1024
"""Callers who may wait to be accepted; on a Unix socket the next one gets EAGAIN at once."""
_LONGEST_PATH: Final = 107
"""Bytes that fit `sun_path` with its final zero."""

_ELSEWHERE: Final = "make its directory, or set WHATSAPP_ADMIN_SOCKET or WHATSAPP_DATA_DIR to another place"


class SocketLock:
    """Holds `PATH.lock` until closed; when the process dies, the kernel lets go of it."""

    def __init__(self, path: Path, inherited: int | None = None) -> None:
        """`inherited` is a descriptor that was passed through an exec: the lock belongs to it and was never
        let go.

        Errors: LeaseHeldError when another process holds it; StartError when the file cannot be made or
        written.
        """
        self.path = lock_file(path)
        try:
            if inherited is None:
                inherited = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.descriptor = inherited
            os.set_inheritable(self.descriptor, False)
        except OSError as error:
            raise StartError(f"cannot make {self.path}: {error.strerror}", _ELSEWHERE) from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self.descriptor)
            raise LeaseHeldError(str(path), f"the runner with pid {holder or 'unknown'}") from None
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self.descriptor)
            raise StartError(
                f"cannot write {self.path}: {error.strerror}", "free some space there"
            ) from error

    def close(self) -> None:
        """Let go. The file stays: removing it would let two holders lock two files of one name."""
        os.close(self.descriptor)


def lock_file(path: Path) -> Path:
    """The file whose lock guards `path`; its first line is the pid of the holder."""
    return path.with_name(f"{path.name}.lock")


def bind_unix(path: Path) -> socket.socket:
    """Listen on `path`, mode 0600 from the first moment. The caller holds the lock.

    Errors: StartError when the path is too long, taken by something else, or cannot be made.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StartError(
            f"the path of the admin socket is longer than {_LONGEST_PATH} bytes: {path}",
            "set WHATSAPP_ADMIN_SOCKET to a shorter one",
        )
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(
            listener.fileno(), 0o600
        )  # the file gets the mode of its socket: no moment with a wider one
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {path}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove what a dead runner left. We hold the lock, so a socket here has no owner."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is not a socket", "move it away, or set WHATSAPP_ADMIN_SOCKET")
    path.unlink()


_NOT_BOUND: Final = {
    errno.EADDRINUSE: "stop what uses it, or set WHATSAPP_ADMIN_PORT (0: no TCP)",
    errno.EADDRNOTAVAIL: "set WHATSAPP_ADMIN_HOST to an address of this machine",
    errno.EACCES: "set WHATSAPP_ADMIN_PORT to one above 1023",
}


def bind_tcp(host: str, port: int) -> socket.socket:
    """Listen on `host:port`.

    Errors: StartError that names the port and what to do.
    """
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise StartError(
            f"WHATSAPP_ADMIN_HOST {host!r} cannot be used: {error.strerror}",
            "give an address of this machine",
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = _NOT_BOUND.get(error.errno or 0, "")
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}", remedy) from error
    listener.setblocking(False)
    return listener
