"""When something that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

POLICIES: Final = ("constant", "linear", "exponential")
LONGEST_ASKED_S: Final = 24 * 3600.0
"""A receiver that asks for more with `Retry-After` is asked again after this."""
_AGAIN: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after how long."""

    policy: str = "exponential"
    delay_s: float = 2.0
    """Before the second attempt."""
    attempts: int = 15
    longest_s: float = 3600.0

    def wait_s(self, attempts: int, rng: Random) -> float:
        """Until the next attempt, after so many failed ones: between half the ceiling and the ceiling.

        The ceiling stays (constant), grows by `delay_s` each time (linear), or doubles (exponential).
        """
        times = {"constant": 1.0, "linear": float(attempts)}.get(self.policy, 2.0 ** min(attempts - 1, 32))
        ceiling = min(self.longest_s, self.delay_s * times)
        return rng.uniform(ceiling / 2, ceiling)

    def is_over(self, attempts: int) -> bool:
        """Whether so many failed attempts were all there are."""
        return attempts >= self.attempts


def is_tried_again(status: int) -> bool:
    """Whether an answer leaves hope. 400, 401, 403, 404, 422, other 4xx and redirects do not."""
    return status in _AGAIN or status >= 500


def asked_s(retry_after: str | None, now_ms: int) -> float:
    """How long a receiver asked to be left alone with `Retry-After`; 0 when it did not, or not in words."""
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_ASKED_S)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    wait_s = (at - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return min(max(wait_s, 0.0), LONGEST_ASKED_S)
