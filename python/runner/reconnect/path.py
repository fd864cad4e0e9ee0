"""The circuit breaker of one egress path: endpoint, proxy and source address.

It opens on failed dials, never on drops of open connections. While it is open all sessions of the path wait,
and one canary at a time dials; the first dial that gets as far as the login closes it and releases all of
them through the limiter. One outage is one incident, however many sessions it holds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from runner.reconnect.policy import Policy

GROWTH: Final = 1.5
"""Canaries come 2, 3, 4.5 … 15 s apart: seconds after a short outage, cheap in a long one."""
WINDOW_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class PathKey:
    """What a dial goes through. Nothing here names a user or a password."""

    endpoint: str
    proxy: str | None = None
    source: str | None = None
    exit_tag: str | None = None
    """Tells exits of one proxy apart that are chosen by user or password: a hash of both under a key of this
    process, which says nothing about them."""

    def __str__(self) -> str:
        shown = " via ".join(part for part in (self.endpoint, self.proxy, self.source) if part)
        return f"{shown} #{self.exit_tag}" if self.exit_tag else shown


class PathBreaker:
    """The state of one path. Times are on the caller's monotonic clock."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._results: deque[tuple[float, str, bool]] = deque(maxlen=WINDOW_LIMIT)
        self._failed_since_success: set[str] = set()
        self._interval_s = policy.canary_min_s
        self._closed_at = float("-inf")
        self.opened_at: float | None = None
        self.canary: str | None = None
        self.canary_at: float | None = None
        """When the next canary may dial; None while one is under way or the path is closed."""
        self.reason: str | None = None
        """Close reason of the last failed dial."""

    @property
    def is_open(self) -> bool:
        """Whether sessions of this path wait for a canary."""
        return self.opened_at is not None

    def failed(
        self, session_id: str, dialled_at: float, reason: str, sessions: int, now: float, rng: Random
    ) -> bool:
        """A dial failed before the login. `sessions` is how many want this path. True when this opens it.

        A dial that began before the path last closed tells about the past and is left out.
        """
        if dialled_at < self._closed_at:
            return False
        self.reason = reason
        if self.is_open:
            if session_id == self.canary:
                self.canary = None
                self._interval_s = min(self._interval_s * GROWTH, self._policy.canary_max_s)
                self.canary_at = now + rng.uniform(self._policy.canary_min_s, self._interval_s)
            return False
        self._results.append((now, session_id, False))
        if len(self._failed_since_success) < self._policy.path_min_sessions:
            self._failed_since_success.add(session_id)
        if not self._should_open(sessions, now):
            return False
        self.opened_at = now
        self._interval_s = self._policy.canary_min_s
        self.canary_at = now + rng.uniform(self._policy.canary_min_s / 2, self._policy.canary_min_s)
        return True

    def succeeded(self, session_id: str, now: float) -> bool:
        """A dial reached the login. True when this closes the path: all that it held may go."""
        self._results.append((now, session_id, True))
        self._failed_since_success.clear()
        if not self.is_open:
            return False
        self._close(now)
        return True

    def send_canary(self, session_id: str) -> None:
        """This session is the canary now."""
        self.canary, self.canary_at = session_id, None

    def withdraw(self, session_id: str, next_at: float) -> None:
        """The session stopped, or its dial ended without a word about the path: another may be the canary
        from `next_at` on."""
        self._failed_since_success.discard(session_id)
        if self.canary == session_id:
            self.canary = None
            self.canary_at = next_at

    def is_canary_due(self, now: float) -> bool:
        """Whether somebody should be sent."""
        return self.canary_at is not None and now >= self.canary_at

    def _should_open(self, sessions: int, now: float) -> bool:
        least = self._policy.path_min_sessions
        # Nobody gets through: a small fleet cannot fill the window, and neither can dials that each take 20 s
        # to fail while few may be under way.
        if len(self._failed_since_success) >= min(least, max(1, sessions)):
            return True
        window = [(who, well) for at, who, well in self._results if now - at < self._policy.path_window_s]
        failures = [who for who, well in window if not well]
        return len(set(failures)) >= least and len(failures) >= self._policy.path_min_ratio * len(window)

    def _close(self, now: float) -> None:
        self.opened_at = self.canary = self.canary_at = None
        self._closed_at = now
        self._results.clear()
