"""How long pings and calls of the API take while something happens."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.pair import Pair

EVERY_S: Final = 0.5
"""Between two looks."""


class Latencies:
    """Round trips of pings as the sessions tell them, and of calls of the API, in milliseconds."""

    def __init__(self, p: Pair) -> None:
        self.pings: list[float] = []
        self.calls: list[float] = []
        self._p = p
        self._last: dict[str, float | None] = {}

    def watch(self, seconds: float, trouble: Callable[[], object] = lambda: None) -> None:
        """Look for so long, with `trouble` before each look.

        A session whose round trip has not changed was not pinged since.
        """
        pause, until = threading.Event(), time.monotonic() + seconds
        while time.monotonic() < until:
            trouble()
            for path in ("/health", "/reconnection-status?limit=0"):
                began = time.monotonic()
                self._p.runner.request("GET", path, timeout_s=60.0)
                self.calls.append(1000 * (time.monotonic() - began))
            for session, row in self._p.rows().items():
                rtt = row["pongRttMs"]
                if rtt is not None and rtt != self._last.get(session):
                    self.pings.append(rtt)
                self._last[session] = rtt
            pause.wait(EVERY_S)

    def p99_ms(self) -> dict[str, float]:
        """Of the pings, and of the calls."""
        return {"pings": _p99(self.pings), "calls": _p99(self.calls)}


def _p99(values: list[float]) -> float:
    assert values, "nothing was measured"
    return round(sorted(values)[min(len(values) - 1, int(0.99 * len(values)))], 2)
