"""The dial limiter: every dial of every session goes through it, at start, in a storm and when forced.

A token bucket (rate and burst), a bound on dials under way, and a queue in order of importance: forced first,
then the most recently active, then the rest.
"""

from __future__ import annotations

import heapq
import json
from enum import IntEnum
from typing import Final

SLOWEST: Final = 1 / 8
SLOW_FOR_S: Final = 60.0


class Priority(IntEnum):
    """Who goes first."""

    FORCED = 0
    ORDINARY = 1


class Limiter:
    """Decides when the next dial may start and whose it is. Times are on the caller's monotonic clock."""

    def __init__(self, rate_per_s: float, burst: int, concurrency: int, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._concurrency = concurrency
        self._tokens = self._burst
        self._filled_at = now
        self._slow_until = now
        self._factor = 1.0
        self._under_way: set[str] = set()
        self._heap: list[tuple[int, int, int, str]] = []
        self._wanted: dict[str, int] = {}  # session -> serial of its live heap entry
        self._serial = 0

    def configure(self, rate_per_s: float, burst: int, concurrency: int, now: float) -> None:
        """Take new numbers while running; what is queued and under way stays."""
        self._fill(now)
        self._rate_per_s, self._burst, self._concurrency = rate_per_s, float(burst), concurrency
        self._tokens = min(self._tokens, self._burst)

    def enqueue(self, session_id: str, priority: Priority, last_active_unix_ms: int) -> None:
        """Wait for a turn. A session waits once; asking again moves it."""
        self._serial += 1
        self._wanted[session_id] = self._serial
        heapq.heappush(self._heap, (int(priority), -last_active_unix_ms, self._serial, session_id))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._wanted):
            self._heap = [entry for entry in self._heap if self._wanted.get(entry[3]) == entry[2]]
            heapq.heapify(self._heap)

    def withdraw(self, session_id: str) -> None:
        """Wait no longer."""
        self._wanted.pop(session_id, None)

    def next_session(self) -> str | None:
        """Whose turn it is, without taking it."""
        while self._heap:
            _, _, serial, session_id = self._heap[0]
            if self._wanted.get(session_id) == serial:
                return session_id
            heapq.heappop(self._heap)
        return None

    def may_start(self, now: float) -> bool:
        """Whether a dial may start now."""
        self._fill(now)
        return len(self._under_way) < self._concurrency and self._tokens >= 1.0 - TOLERANCE

    def start(self, session_id: str, now: float) -> None:
        """A dial starts: one token, one place, and no longer queued."""
        self._fill(now)
        self._tokens -= 1.0
        self._under_way.add(session_id)
        self.withdraw(session_id)

    def finish(self, session_id: str) -> None:
        """A dial ended, well or badly. Repeating it is harmless."""
        self._under_way.discard(session_id)

    def slow_down(self, now: float) -> None:
        """The server said 429: half the rate, for a while; never below an eighth."""
        self._fill(now)
        self._factor = max(self._factor / 2, SLOWEST)
        self._slow_until = now + SLOW_FOR_S

    def next_start_at(self, now: float) -> float | None:
        """When to look again: None while nobody waits, or while only the end of a dial can help."""
        if self.next_session() is None or len(self._under_way) >= self._concurrency:
            return None
        self._fill(now)
        missing = 1.0 - self._tokens
        return now if missing <= TOLERANCE else now + missing / self.rate_per_s

    @property
    def rate_per_s(self) -> float:
        """Dials a second at the moment."""
        return self._rate_per_s * self._factor

    @property
    def waiting(self) -> int:
        """Sessions in the queue."""
        return len(self._wanted)

    @property
    def under_way(self) -> int:
        """Dials in progress."""
        return len(self._under_way)

    def is_queued(self, session_id: str) -> bool:
        """Whether the session waits for its turn."""
        return session_id in self._wanted

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self.rate_per_s)
        self._filled_at = max(now, self._filled_at)
        while self._factor < 1.0 and now >= self._slow_until:
            self._factor = min(1.0, self._factor * 2)
            self._slow_until += SLOW_FOR_S

    def to_json(self, now: float, unix_ms: int) -> str:
        """The level of the bucket: a process that keeps crashing must not get a full one each time."""
        self._fill(now)
        return json.dumps({"v": 1, "tokens": round(self._tokens, 3), "at": unix_ms})

    def restore(self, text: str | None, now: float, unix_ms: int) -> str | None:
        """Take back the level of a former life, and say what was wrong with it. Damage costs the burst."""
        if text is None:
            return None
        try:
            raw = json.loads(text)
            tokens, at = float(raw["tokens"]), int(raw["at"])
            sound = raw["v"] == 1 and 0.0 <= tokens < float("inf") and 0 <= at < 2**53
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            sound, tokens, at = False, 0.0, unix_ms
        self._tokens = 0.0
        if sound:
            elapsed_s = max(0.0, (unix_ms - at) / 1000)
            self._tokens = min(self._burst, tokens + elapsed_s * self._rate_per_s)
        self._filled_at = now
        return None if sound else "the limiter's level was damaged; it starts empty"


TOLERANCE: Final = 1e-4
"""Of a token. Waiting exactly the missing time must be enough, whatever floating point makes of a long
uptime; the bucket goes that much below zero instead, so the rate stays what it is."""
