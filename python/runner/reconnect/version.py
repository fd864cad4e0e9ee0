"""Which client version the fleet announces, and what happens when the server calls it too old (405).

A version is proven by a login that the server accepts. While it is not proven (at start, after a 405, after a
drop that may have been the server's restart) only a few logins may be under way, so that a changed version
costs a few rejected logins and not one for each session. On a 405 the fleet stops dialling, the version is
read again once, one canary logs in, and its success releases everybody through the limiter.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runner.reconnect.policy import Policy

Version = tuple[int, int, int]

FALLBACK: Final[Version] = (2, 3000, 1045649367)
"""Announced when the endpoint does not say and nothing is remembered; docs/protocol.md, "Login payload"."""
_REVISION: Final = re.compile(r'client_revision\\*"\s*:\s*(\d{6,12})(?!\d)')
"""In /sw.js the value stands in JSON inside a JavaScript string, so its quotes may be escaped."""


def parse_client_revision(body: str) -> Version | None:
    """The version in the body of the endpoint's `/sw.js`, or None when there is none to be found."""
    found = _REVISION.search(body)
    return None if found is None else (2, 3000, int(found[1]))


def format_version(version: Version) -> str:
    """As operators write it: `2.3000.1045649367`."""
    return ".".join(map(str, version))


def parse_version(text: str) -> Version | None:
    """`auto` or anything that is not three numbers is None."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 12 for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


class GateState(StrEnum):
    """Where the fleet stands with its version."""

    OPEN = "open"
    REFRESHING = "refreshing"
    """Nobody dials; the version is being read."""
    OUTDATED = "outdated"
    """The server rejects the newest version that we know; asked again at `retry_at`."""


class VersionGate:
    """Holds the version and says how many logins may be under way. Times are monotonic."""

    def __init__(self, policy: Policy, pinned: Version | None = None) -> None:
        self._policy = policy
        self.pinned = pinned
        self.version: Version = pinned or FALLBACK
        self.state = GateState.OPEN
        self.retry_at: float | None = None
        self.rejected: Version | None = None
        self.is_proven = False
        """Whether a login was accepted after the last reason for doubt."""
        self._read_at: float | None = None
        """When the endpoint was last asked while the version is not pinned."""
        self._unproven_since = float("-inf")
        self._retry_s = policy.version_retry_s
        self._logins: dict[str, float] = {}  # session -> when its dial started

    def started(self, session_id: str, now: float) -> None:
        """A dial starts with the current version."""
        if not self._logins and not self.is_proven:
            self._unproven_since = now
        self._logins[session_id] = now

    def ended(self, session_id: str) -> None:
        """That dial came to an end that says nothing about the version."""
        self._logins.pop(session_id, None)

    def accepted(self, session_id: str, now: float) -> bool:
        """The server accepted a login. True when this ends an outage of the fleet."""
        self._logins.pop(session_id, None)
        self.is_proven = True
        ended = self.rejected is not None
        self.rejected = None
        self._retry_s = self._policy.version_retry_s
        self.state, self.retry_at = GateState.OPEN, None
        return ended

    def doubt(self, now: float) -> None:
        """A logged-in connection was dropped: the server may come back with another idea of versions."""
        if self.is_proven:
            self.is_proven, self._unproven_since = False, now

    def outdated(self, session_id: str, version: Version, now: float) -> bool:
        """The server rejected a login as too old. True when the version must be read again now.

        A rejection of a version that is no longer announced is old news.
        """
        self._logins.pop(session_id, None)
        self.is_proven = False
        if version != self.version or self.state is not GateState.OPEN:
            return False
        first = self.rejected is None or self.rejected != version
        self.rejected = version
        if self.pinned is not None or not first:
            self._wait(now)
            return False
        self.state, self.retry_at = GateState.REFRESHING, None
        return True

    def begin_refresh(self) -> None:
        """The version is being read before the first dial, or again."""
        self.state, self.retry_at = GateState.REFRESHING, None

    def refreshed(self, found: Version | None, now: float) -> bool:
        """The answer of a refresh; None when the endpoint did not say. True when dialling may go on."""
        self._read_at = now
        if found is not None and self.pinned is None and found != self.version:
            self.version = found
            self.doubt(now)  # proven by a few logins before everybody announces it
        if self.rejected is not None and self.version == self.rejected:
            self._wait(now)
            return False
        self.state, self.retry_at = GateState.OPEN, None
        return True

    def pin(self, version: Version | None) -> None:
        """The operator chose a version, or `auto` (None); whatever was rejected before is forgotten."""
        self.pinned = version
        if version is not None:
            self.version = version
            self.rejected = None
            self.state, self.retry_at = GateState.OPEN, None

    def is_refresh_due(self, now: float) -> bool:
        """Whether to ask again what the newest version is."""
        return self.state is GateState.OUTDATED and self.retry_at is not None and now >= self.retry_at

    @property
    def stale_at(self) -> float | None:
        """When the version was read so long ago that it is to be read again, dialling going on meanwhile."""
        if self.pinned is not None or self._read_at is None or self.state is not GateState.OPEN:
            return None
        return self._read_at + self._policy.version_cache_s

    def reread(self, now: float) -> None:
        """The version is being read again because it is old; should that fail, it is tried in an hour."""
        self._read_at = now - self._policy.version_cache_s + self._policy.version_retry_max_s

    def retry_pinned(self) -> None:
        """A pinned version cannot be refreshed: after the wait it is simply tried again by one canary."""
        self.state, self.retry_at = GateState.OPEN, None

    def may_start(self, now: float) -> bool:
        """Whether one more login may start, as far as the version is concerned."""
        if self.state is not GateState.OPEN:
            return False
        return self.is_proven or len(self._telling(now)) < self._allowed(now)

    def _telling(self, now: float) -> list[float]:
        """When those logins began whose answer can still tell something about the version."""
        return [at for at in self._logins.values() if now < at + self._policy.version_answer_s]

    def next_start_at(self, now: float) -> float | None:
        """When `may_start` turns true by the passing of time alone, or None."""
        if self.state is not GateState.OPEN:
            return self.retry_at
        if self.may_start(now):
            return now
        telling = self._telling(now)
        if len(telling) >= self._policy.version_unproven_max:
            return min(telling) + self._policy.version_answer_s
        return self._unproven_since + self._policy.version_patience_s * len(telling)

    def _allowed(self, now: float) -> int:
        waited_s = max(0.0, now - self._unproven_since) if self._logins else 0.0
        return min(
            self._policy.version_unproven_max, 1 + int(waited_s / self._policy.version_patience_s + 1e-9)
        )

    def _wait(self, now: float) -> None:
        self.state, self.retry_at = GateState.OUTDATED, now + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._policy.version_retry_max_s)

    @staticmethod
    def to_json_of(version: Version, unix_ms: int) -> str:
        """A version that the endpoint named, and when, for the next start."""
        return json.dumps({"v": 1, "version": format_version(version), "at": unix_ms})

    def restore(self, text: str | None, now: float, unix_ms: int) -> bool:
        """Take back a remembered version. True when it is fresh enough not to ask the endpoint."""
        if text is None or self.pinned is not None:
            return self.pinned is not None
        try:
            raw = json.loads(text)
            version, at = parse_version(raw["version"]), int(raw["at"])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return False
        if version is None or version[:2] != FALLBACK[:2]:
            return False
        self.version = max(version, FALLBACK)
        age_s = (unix_ms - at) / 1000
        self._read_at = now - age_s
        return 0 <= age_s < self._policy.version_cache_s
