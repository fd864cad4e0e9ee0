"""Incidents: what went wrong for many sessions at once, raised once, closed once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

KEPT: Final = 256
"""Closed incidents that are remembered."""
DISK_FULL: Final = "disk_full"
DISK_FULL_TEXT: Final = "the disk is full: nothing inbound is answered; free some space"
"""Of the one kind that has two witnesses: a commit that failed, and health's look at the store."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One outage with one cause. Times are Unix milliseconds."""

    kind: str
    """Stable slug: `path_outage`, `fleet_logout`, `client_outdated`, `fd_limit`, `engine_lag` …"""
    key: str
    """What it is about (a path, a session id) or empty for the fleet."""
    severity: str
    """`warning` or `critical`."""
    text: str
    opened_at: int
    closed_at: int | None = None


class Incidents:
    """The open ones by kind and key, and the last closed ones."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Incident] = {}
        self._closed: deque[Incident] = deque(maxlen=KEPT)

    def raise_once(self, kind: str, key: str, severity: str, text: str, unix_ms: int) -> Incident | None:
        """Open it unless it is open; the new one, or None."""
        if (kind, key) in self._open:
            return None
        incident = Incident(kind, key, severity, text, unix_ms)
        self._open[kind, key] = incident
        return incident

    def retell(self, kind: str, key: str, text: str) -> None:
        """What an open one says has changed; nobody is told again."""
        known = self._open.get((kind, key))
        if known is not None:
            self._open[kind, key] = replace(known, text=text)

    def is_open(self, kind: str, key: str = "") -> bool:
        """Whether it is open."""
        return (kind, key) in self._open

    def close(self, kind: str, key: str, unix_ms: int) -> Incident | None:
        """Close it if it is open; the closed one, or None."""
        incident = self._open.pop((kind, key), None)
        if incident is None:
            return None
        closed = replace(incident, closed_at=unix_ms)
        self._closed.append(closed)
        return closed

    def open(self) -> tuple[Incident, ...]:
        """Those that are not over, oldest first."""
        return tuple(self._open.values())

    def closed(self) -> tuple[Incident, ...]:
        """The last ones that are over, oldest first."""
        return tuple(self._closed)
