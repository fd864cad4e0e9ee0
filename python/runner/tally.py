"""What is counted of handing things on: how long handlers took, how they and the deliveries ended."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

HANDLER_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets, in seconds."""
DONE: Final = "done"
FAILED: Final = "failed"
"""An attempt that is repeated."""
DEAD: Final = "dead"
"""The last attempt: it is a dead letter now."""
LOST: Final = "lost"
"""Never attempted: an event that did not fit the way to the store."""


class Tally:
    """Totals since the start."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(HANDLER_BOUNDS_S) + 1)
        """Handlers by the time that they took; not cumulative, the last is the rest."""
        self.handler_s = 0.0
        self.handlers: Counter[str] = Counter({DONE: 0, FAILED: 0, DEAD: 0})
        self.deliveries: Counter[str] = Counter({DONE: 0, FAILED: 0, DEAD: 0, LOST: 0})
        """Attempts of webhooks."""
        self.undecryptable = 0
        """Messages that could not be read and are not expected any more."""

    @property
    def handler_calls(self) -> int:
        """Calls of a handler that ended."""
        return sum(self.buckets)

    @property
    def given_up(self) -> int:
        """Messages and events that are not tried any more."""
        return self.handlers[DEAD] + self.deliveries[DEAD] + self.deliveries[LOST]

    def handled(self, seconds: float, outcome: str) -> None:
        """A call of a handler ended."""
        self.buckets[bisect_left(HANDLER_BOUNDS_S, seconds)] += 1
        self.handler_s += seconds
        self.handlers[outcome] += 1
