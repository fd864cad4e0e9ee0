"""How long pings and calls of the API take while something happens."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from bench.scenarios.measure import cpu_s, machine_busy_s

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
        self._watched_s = self._others_s = 0.0

    def watch(self, seconds: float, trouble: Callable[[], object] = lambda: None) -> None:
        """Look for so long, with `trouble` before each look.

        A session whose round trip has not changed was not pinged since.
        """
        pause, began, others_s = threading.Event(), time.monotonic(), self._used_by_others_s()
        while time.monotonic() < began + seconds:
            trouble()
            for path in ("/health", "/reconnection-status?limit=0"):
                asked = time.monotonic()
                self._p.runner.request("GET", path, timeout_s=60.0)
                self.calls.append(1000 * (time.monotonic() - asked))
            for session, row in self._p.rows().items():
                rtt = row["pongRttMs"]
                if rtt is not None and rtt != self._last.get(session):
                    self.pings.append(rtt)
                self._last[session] = rtt
            pause.wait(EVERY_S)
        self._watched_s += time.monotonic() - began
        self._others_s += self._used_by_others_s() - others_s

    def p99_ms(self) -> dict[str, float]:
        """Of the pings, and of the calls."""
        return {"pings": _p99(self.pings), "calls": _p99(self.calls)}

    @property
    def others_cores(self) -> float:
        """How many cores other programs used meanwhile, in the mean: it says what a p99 is worth."""
        return round(self._others_s / self._watched_s, 2)

    def _used_by_others_s(self) -> float:
        ours = (os.getpid(), self._p.runner.pid, self._p.simulator.child.pid)
        return machine_busy_s() - sum(cpu_s(pid) for pid in ours)


def _p99(values: list[float]) -> float:
    assert values, "nothing was measured"
    return round(sorted(values)[min(len(values) - 1, int(0.99 * len(values)))], 2)
