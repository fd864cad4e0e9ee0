"""What many sessions have in common: drops all at once, and being unlinked all at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runner.reconnect.policy import Policy

LONGEST_HOLD_S: Final = 6 * 3600.0


class MassDrop:
    """Tells one event of the world from the flapping of each session."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._recent: deque[tuple[float, str]] = deque()
        self._is_mass = False

    def dropped(self, session_id: str, sessions: int, now: float) -> list[str]:
        """A logged-in connection of one of `sessions` ended without our asking.

        Returns the sessions whose drop turns out to be part of a mass drop and must not count against them.
        """
        recent = self._recent
        recent.append((now, session_id))
        while now - recent[0][0] >= self._policy.mass_drop_window_s:
            recent.popleft()
        least = max(self._policy.mass_drop_min_sessions, self._policy.mass_drop_ratio * sessions)
        was_mass, self._is_mass = self._is_mass, len(recent) >= least and self._distinct(least)
        if not self._is_mass:
            return []
        return [session_id] if was_mass else [who for _, who in recent]

    def _distinct(self, least: float) -> bool:
        return self._is_mass or len({who for _, who in self._recent}) >= least


class LogoutGuard:
    """Stops all confirming logins when too much of the fleet is unlinked together.

    Then the cause is not a user with a phone, and each confirm could cost a number. One canary confirms after
    the hold: if it gets in, everybody may; if not, the hold doubles.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._recent: deque[tuple[float, str]] = deque()
        self._hold_s = policy.logout_hold_s
        self._canary: str | None = None
        self.until: float | None = None
        """While holding: when the canary may go."""

    def with_policy(self, policy: Policy) -> LogoutGuard:
        """The same guard with other numbers; a hold in force stays."""
        self._policy = policy
        return self

    @property
    def is_holding(self) -> bool:
        """Whether confirms wait."""
        return self.until is not None

    def logged_out(self, session_id: str, sessions: int, now: float) -> bool:
        """The server said 401 to one of `sessions`. True when this starts a hold."""
        self._recent.append((now, session_id))
        while now - self._recent[0][0] >= self._policy.logout_window_s:
            self._recent.popleft()
        if self.until is not None:
            if session_id == self._canary:
                self._canary = None
                self._hold_s = min(self._hold_s * 2, LONGEST_HOLD_S)
                self.until = now + self._hold_s
            return False
        distinct = len({who for _, who in self._recent})
        if distinct < self._policy.logout_min_sessions or distinct <= self._policy.logout_ratio * sessions:
            return False
        self.until = now + self._hold_s
        return True

    def may_confirm(self, session_id: str, now: float) -> bool:
        """Whether this session may confirm now; during a hold that makes it the canary."""
        if self.until is None:
            return True
        if now < self.until or self._canary not in (None, session_id):
            return False
        self._canary = session_id
        return True

    def withdraw(self, session_id: str) -> None:
        """The session stopped or its confirm ended without an answer: another may be the canary."""
        if self._canary == session_id:
            self._canary = None

    def release(self) -> None:
        """Nobody is left whose logout could be confirmed: the hold is over."""
        self.until = self._canary = None
        self._hold_s = self._policy.logout_hold_s
        self._recent.clear()

    def logged_in(self, session_id: str) -> bool:
        """A login was accepted. True when that was the canary's: all confirms may go."""
        if self.until is None or session_id != self._canary:
            return False
        self.release()
        return True
