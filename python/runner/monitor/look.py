"""What one look finds: the runner's own words, and beside them the kernel's."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_LONGEST_ANSWER: Final = 16 * 1024 * 1024
_CLOCK_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class NoAnswerError(Exception):
    """The runner cannot be asked: `slug` is `dead`, `hung`, `forbidden` or `garbled`."""

    def __init__(self, slug: str, text: str) -> None:
        super().__init__(text)
        self.slug = slug


@dataclass(frozen=True, slots=True)
class Look:
    """One look. Times are Unix seconds, ages seconds."""

    at: float
    health: dict[str, Any]
    """`GET /health`."""
    system: dict[str, Any]
    """`GET /api/system`."""
    took_s: float
    """For both answers."""
    listener_pid: int
    """Who listens on the socket, by the kernel's word."""
    lock_pid: int | None
    """Who wrote its pid into the lock file; None when that cannot be read."""
    process_age_s: float | None
    """Age of the listening process, by the kernel's word; None when /proc does not show it."""


@dataclass(slots=True)
class Link:
    """One connection to the admin socket, with one deadline for all that is asked over it."""

    path: Path
    timeout_s: float
    _began: float = field(default_factory=time.monotonic)
    _socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    def connect(self) -> int:
        """Connect; the pid of the listener."""
        self._socket.settimeout(self.timeout_s)
        try:
            self._socket.connect(os.fspath(self.path))
        except PermissionError as error:
            raise NoAnswerError("forbidden", f"{self.path} belongs to another user") from error
        except FileNotFoundError as error:
            raise NoAnswerError("dead", f"there is no socket {self.path}") from error
        except (TimeoutError, BlockingIOError) as error:
            raise NoAnswerError("hung", f"{self.path} takes no connection") from error
        except OSError as error:
            raise NoAnswerError("dead", f"nobody listens on {self.path}: {error.strerror}") from error
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", peer)[0])

    def get(self, path: str) -> dict[str, Any]:
        """One answer; 200 and 503 are both answers."""
        left_s = self._began + self.timeout_s - time.monotonic()
        if left_s <= 0:
            raise NoAnswerError("hung", f"no answer within {self.timeout_s:g} s")
        self._socket.settimeout(left_s)
        try:
            self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = http.client.HTTPResponse(self._socket)
            answer.begin()
            raw = answer.read(_LONGEST_ANSWER)
            said = json.loads(raw)
        except TimeoutError as error:
            raise NoAnswerError("hung", f"no answer within {self.timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError("dead", f"the runner hung up: {error}") from error
        except ValueError as error:
            raise NoAnswerError("garbled", f"{path} did not answer in JSON") from error
        if answer.status not in {200, 503} or not isinstance(said, dict):
            raise NoAnswerError("garbled", f"{path} answered with status {answer.status}")
        return said

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def look(socket_path: Path, timeout_s: float) -> Look:
    """Ask the runner once. Blocking, for `timeout_s` at most.

    Errors: NoAnswerError.
    """
    at, began = time.time(), time.monotonic()
    link = Link(socket_path, timeout_s)
    try:
        pid = link.connect()
        health, system = link.get("/health"), link.get("/api/system")
    finally:
        link.close()
    return Look(
        at,
        health,
        system,
        time.monotonic() - began,
        pid,
        _lock_pid(socket_path.with_name(f"{socket_path.name}.lock")),
        process_age_s(pid),
    )


def _lock_pid(path: Path) -> int | None:
    try:
        written = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(written) if written.isdigit() else None


def process_age_s(pid: int, proc: Path = Path("/proc")) -> float | None:
    """Seconds since a process began."""
    try:
        started_ticks = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        uptime_s = float((proc / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return uptime_s - started_ticks / _CLOCK_TICKS_PER_S
