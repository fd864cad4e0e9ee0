"""What a process passes to the one that replaces it, so that callers and other runners notice nothing.

A restart is an exec in place (docs/decisions/0012-restart-by-exec.md): the process id, the listening sockets
and the locks stay, everything else is new. The descriptors go through the exec open; a variable of the
environment says which is which, and why the process before ended. A lock belongs to its open descriptor, so
it is never let go: no other runner can slip in between, and callers wait in the listeners' queues instead of
being refused.

The store's own lock is let go with the store, and taken again when it is opened: the lock of the data
directory held here covers the time between.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.admin.sockets import SocketLock, bind_tcp, bind_unix

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from runner.config import Settings

VARIABLE: Final = "RUNNER_HANDOVER"
"""Not `WHATSAPP_…`: it is no setting, and nobody but the process before writes it."""
EXIT_NOT_REPLACED: Final = 75
"""The new process could not be executed: everything is closed, a supervisor may start the runner again."""
BY_REQUEST: Final = "requested"
BY_MEMORY: Final = "memory"


@dataclass(frozen=True, slots=True)
class Restart:
    """Why the process was replaced; it survives into the next one's log line and `/health`."""

    reason: str
    """`requested` or `memory`."""
    detail: str
    at_unix_ms: int
    count: int = 1
    """Restarts in place since a supervisor or a person started the process."""
    streak: int = 0
    """Restarts in a row that were made for memory by a process that had not run for long."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the process before left behind."""

    restart: Restart | None = None
    locks: dict[str, int] = field(default_factory=dict)
    """What is locked -> descriptor."""
    listeners: dict[str, int] = field(default_factory=dict)
    """Address (`unix:PATH` or `tcp:HOST:PORT`) -> descriptor."""


def inherited(environ: MutableMapping[str, str]) -> Inherited:
    """Take what was passed out of the environment; nothing when this is a first start."""
    written = environ.pop(VARIABLE, "")
    if not written:
        return Inherited()
    said = json.loads(written)
    return Inherited(Restart(**said["restart"]), said["locks"], said["listeners"])


def opened_by(settings: Settings, *, holds_store: bool = True) -> tuple[list[Path], list[str]]:
    """What a runner with these settings locks, and where it listens."""
    locks = [settings.socket_path, *([settings.data_path / "runner"] if holds_store else [])]
    listeners = [f"unix:{settings.socket_path}"]
    if settings.admin_port:
        listeners.append(f"tcp:{settings.admin_host}:{settings.admin_port}")
    return locks, listeners


class Door:
    """The locks and the listening sockets of one process: what makes it the runner of its data directory.

    Everything that was inherited and is still wanted by the settings is taken over, the rest is closed.
    """

    def __init__(self, settings: Settings, before: Inherited, *, holds_store: bool = True) -> None:
        """`holds_store` is false for a run that keeps its store elsewhere.

        Errors: LeaseHeldError, StartError; nothing stays open then.
        """
        self._locks: dict[str, SocketLock] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._spare = Inherited(None, dict(before.locks), dict(before.listeners))
        locks, listeners = opened_by(settings, holds_store=holds_store)
        try:
            for path in locks:
                self._locks[str(path)] = SocketLock(path, self._spare.locks.pop(str(path), None))
            for address in listeners:
                self._take_over(address)
            self._close_spare()  # before binding: another address may want the same port
            for address in set(listeners) - self._listeners.keys():
                self._listeners[address] = _bind(address)
        except BaseException:
            self._close_spare()
            self.close()
            raise

    def _take_over(self, address: str) -> None:
        path = _unix_path(address)
        if address not in self._spare.listeners or (path is not None and not _is_socket(path)):
            return  # a socket whose name somebody removed is not kept: nobody could reach it
        listener = socket.socket(fileno=self._spare.listeners.pop(address))
        os.set_inheritable(listener.fileno(), False)
        listener.setblocking(False)
        self._listeners[address] = listener

    def _close_spare(self) -> None:
        for descriptor in (*self._spare.locks.values(), *self._spare.listeners.values()):
            os.close(descriptor)
        for address in self._spare.listeners:
            _unlink(address)
        self._spare = Inherited()

    def accepting(self) -> list[socket.socket]:
        """Copies of the listeners, for a server that closes what it serves; the queue of callers is one."""
        return [listener.dup() for listener in self._listeners.values()]

    def stop_listening(self) -> None:
        """From now on callers are refused. Safe to call twice."""
        for address in list(self._listeners):
            _unlink(address)
            self._listeners.pop(address).close()

    def close(self) -> None:
        """Let go of everything."""
        self.stop_listening()
        for path in list(self._locks):
            self._locks.pop(path).close()

    def try_to_open(self, locks: list[str], listeners: list[str]) -> None:
        """Whether the next process could have what this one does not hold.

        Errors: LeaseHeldError, StartError, in the words that the next process would use.
        """
        holds_store = len(self._locks) > 1
        for path in set(locks) - self._locks.keys() if holds_store else ():
            SocketLock(Path(path)).close()
        own_ports = {_port(address) for address in self._listeners}
        for address in set(listeners) - self._listeners.keys():
            if _unix_path(address) is None and _port(address) not in own_ports:
                _bind(address).close()

    def pass_on(self, restart: Restart) -> dict[str, str]:
        """Make the descriptors survive an exec; the environment of the next process."""
        locks = {path: lock.descriptor for path, lock in self._locks.items()}
        listeners = {address: listener.fileno() for address, listener in self._listeners.items()}
        for descriptor in (*locks.values(), *listeners.values()):
            os.set_inheritable(descriptor, True)
        said: dict[str, Any] = {"restart": asdict(restart), "locks": locks, "listeners": listeners}
        return {**os.environ, VARIABLE: json.dumps(said)}


def _bind(address: str) -> socket.socket:
    if (path := _unix_path(address)) is not None:
        return bind_unix(path)
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    return bind_tcp(host, int(port))


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _unix_path(address: str) -> Path | None:
    return Path(address.removeprefix("unix:")) if address.startswith("unix:") else None


def _unlink(address: str) -> None:
    if (path := _unix_path(address)) is not None:
        path.unlink(missing_ok=True)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def replace_process(door: Door, restart: Restart) -> int:
    """Become the new process, by the same command line. Returns, with an exit code, only when that failed."""
    environ = door.pass_on(restart)
    sys.stdout.flush()
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
    except OSError as error:
        sys.stderr.write(f"error: cannot execute {sys.executable}: {error.strerror}\n")
        door.close()
    return EXIT_NOT_REPLACED
