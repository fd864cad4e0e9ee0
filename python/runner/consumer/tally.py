"""What is counted of the handlers: how long they took, and how it ended."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets, in seconds."""
HANDLED: Final = "handled"
FAILED: Final = "failed"
DEAD: Final = "dead"


class Tally:
    """Totals since the start."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        """Not cumulative; the last is the rest."""
        self.sum_s = 0.0
        self.outcomes: Counter[str] = Counter({HANDLED: 0, FAILED: 0, DEAD: 0})
        """`failed` attempts are given again; `dead` messages are not."""

    @property
    def count(self) -> int:
        """Calls that ended."""
        return sum(self.buckets)

    def ended(self, seconds: float, outcome: str) -> None:
        """One call of the handler ended."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self.outcomes[outcome] += 1
