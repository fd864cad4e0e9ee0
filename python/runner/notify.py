"""The word to systemd (`Type=notify`): one datagram to `$NOTIFY_SOCKET`, without a library.

The watchdog is fed only while the engine's heartbeat is fresh, and by a task of the Trio loop: if either
stands still, nothing is sent, and systemd starts the runner anew.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE_S: Final = 1.0
"""For a word that must not be lost: a supervisor that is busy has a queue of ten messages."""
STATUS_S: Final = 10.0
"""How often the status line is said, at most."""


class Notifier:
    """Says nothing when nobody asked for it."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ stands for a socket without a file: the kernel spells it with a zero.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environ, pid) if address else None
        """Silence after which systemd kills; None without a watchdog."""

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def send(self, *lines: str, patience_s: float = 0.0) -> None:
        """Send the lines as one message. A supervisor that is gone, or busy for so long, is no error."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.settimeout(patience_s)
            out.sendto("\n".join(lines).encode(), self._address)

    def ready(self) -> None:
        """The start, or a reload, is done."""
        self.send("READY=1", patience_s=PATIENCE_S)

    def stopping(self) -> None:
        """The orderly end has begun."""
        self.send("STOPPING=1", patience_s=PATIENCE_S)

    def reloading(self) -> None:
        """A reload, or a restart in place, has begun; `ready` ends it."""
        since = f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
        self.send("RELOADING=1", since, patience_s=PATIENCE_S)

    async def run(self, is_healthy: Callable[[], bool], status: Callable[[], str]) -> None:
        """Feed the watchdog and say the status, until cancelled; returns at once when nobody listens."""
        if not self.is_heard:
            return
        every_s = min(STATUS_S, self.watchdog_s / 3 if self.watchdog_s else STATUS_S)
        while True:
            healthy = is_healthy()
            fed = ["WATCHDOG=1"] if healthy and self.watchdog_s else []
            self.send(*fed, f"STATUS={status() if healthy else 'the engine stands still; ' + status()}")
            await trio.sleep(every_s)


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    us = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(pid))
    return int(us) / 1e6 if us.isdigit() and int(us) and meant == str(pid) else None
