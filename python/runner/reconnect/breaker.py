"""The circuit breaker of one session: closed, open, half-open.

Opens on session-specific failures in a row, or on a rate of flapping. Open, it says when it will try again;
half-open, it lets one attempt through, which counts. There is always a way back without anybody's help,
unless the operator chose `WHATSAPP_RECONNECTION_EXHAUSTED=park`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from runner.reconnect.policy import Policy

MAX_COUNT: Final = 1_000_000
"""Failures are counted up to here; the number is shown and stored, and must not grow for ever."""


class BreakerState(StrEnum):
    """The three states; the words are those of the API."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """A frozen value: every method returns the next one. Times are on the caller's monotonic clock."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Session-specific failures since the last stable connection."""
    why: str | None = None
    opened_at: float | None = None
    retry_at: float | None = None
    """When one attempt will be let through; set exactly while open."""

    def failed(self, now: float, policy: Policy, rng: Random) -> Breaker:
        """One more session-specific failure. Opens at the threshold, and again when it was not closed."""
        counted = replace(self, failures=min(self.failures + 1, MAX_COUNT))
        if self.state is not BreakerState.CLOSED:
            return counted.opened(self.why or "failures", now, policy, rng)
        if counted.failures >= policy.breaker_threshold:
            return counted.opened("failures", now, policy, rng)
        return counted

    def forgiven(self) -> Breaker:
        """The last failure turned out not to be the session's own. An open breaker stays as it is."""
        return self if self.is_open else replace(self, failures=max(0, self.failures - 1))

    def opened(self, why: str, now: float, policy: Policy, rng: Random) -> Breaker:
        """Open until the timeout has passed; the wait doubles once the most retries are used up."""
        wait_s = open_s(self.failures, policy)
        if wait_s < policy.probe_max_s:
            wait_s += rng.uniform(0.0, wait_s / 10)  # sessions that fell together do not probe together
        return Breaker(
            state=BreakerState.OPEN, failures=self.failures, why=why, opened_at=now, retry_at=now + wait_s
        )

    def attempted(self) -> Breaker:
        """An attempt starts, because the time has come or an operator says so: open turns half-open."""
        if self.state is BreakerState.OPEN:
            return replace(self, state=BreakerState.HALF_OPEN, retry_at=None)
        return self

    def is_exhausted(self, policy: Policy) -> bool:
        """Whether the most retries are used up. 0 means that there is no limit."""
        return policy.max_retries > 0 and self.failures >= policy.max_retries

    @property
    def is_open(self) -> bool:
        """Whether attempts are held back."""
        return self.state is BreakerState.OPEN


def open_s(failures: int, policy: Policy) -> float:
    """How long the breaker stays open after `failures` in a row, before jitter."""
    if policy.max_retries <= 0 or failures < policy.max_retries:
        return policy.breaker_timeout_s
    doublings = min(failures - policy.max_retries + 1, 32)
    longest = max(policy.probe_max_s, policy.breaker_timeout_s)
    return min(longest, policy.breaker_timeout_s * 2.0**doublings)
