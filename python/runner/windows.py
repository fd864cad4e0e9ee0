"""What was counted within the last minutes: of each session by columns of the past, of the fleet by points.

Memory of a session: 8 bytes for each of the 7 readings of the messages' minute, 68 for each of the 5 readings
of the requests' five minutes (one a minute; 24 buckets of 16 bits, a count, a sum, failures): 396 bytes.
Bucket counts go modulo 65,536, which a difference over five minutes survives unless a single session has had
more than 65,535 answers of one bucket; the count says so, and its percentiles are null then.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from runner.response_times import NONE, ResponseTimes, response_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.counters import CounterTable, Reading

SAMPLE_S: Final = 10.0
MESSAGES_WINDOW_S: Final = 60.0
RATE_WINDOW_S: Final = 300.0
RESPONSES_STEP_S: Final = 60.0
_MODULUS: Final = 1 << 16


class _Responses(NamedTuple):
    at: float
    counts: memoryview
    sums_us: memoryview
    buckets: memoryview
    failed: memoryview
    unread: memoryview


class SessionWindows:
    """Past columns. Empty, it knows nothing."""

    def __init__(self, table: CounterTable, bounds_s: Sequence[float]) -> None:
        self._table = table
        self._bounds_s = bounds_s
        self._width = len(bounds_s) + 1
        self._messages: deque[tuple[float, memoryview, memoryview]] = deque(
            maxlen=round(MESSAGES_WINDOW_S / SAMPLE_S) + 1
        )
        self._responses: deque[_Responses] = deque(maxlen=round(RATE_WINDOW_S / RESPONSES_STEP_S))

    def clear(self) -> None:
        """Forget the past."""
        self._messages.clear()
        self._responses.clear()

    def keep(self, reading: Reading) -> None:
        """Remember a reading."""
        self._messages.append((reading.at, reading.messages_received, reading.messages_sent))
        if not self._responses or reading.at - self._responses[-1].at > RESPONSES_STEP_S - SAMPLE_S / 2:
            self._responses.append(
                _Responses(
                    reading.at,
                    reading.responses,
                    reading.response_sums_us,
                    reading.response_buckets,
                    reading.requests_failed,
                    reading.messages_undecrypted,
                )
            )

    def messages_per_minute(self, row: int) -> float | None:
        """The gain of the last minute; while the past is shorter, of that, and no guess beyond it."""
        if not self._messages:
            return None
        at, received, sent = self._messages[0]
        now = self._table.now
        gained = now.messages_received[row] + now.messages_sent[row]
        if self._is_owners(row, at, received):
            gained -= received[row] + sent[row]
        # Readings are late when the thread was held up: the window is as long as they make it.
        return float(gained * MESSAGES_WINDOW_S / max(now.at - at, MESSAGES_WINDOW_S))

    def response_times(self, row: int) -> ResponseTimes:
        """Mean and percentiles of the last five minutes."""
        if not self._responses:
            return NONE
        now, past = self._table.now, self._responses[0]
        answered, sum_us = now.responses[row], now.response_sums_us[row]
        start, end = row * self._width, (row + 1) * self._width
        if not self._is_owners(row, past.at, past.counts):
            if answered == 0:
                return NONE
            return response_times(
                answered, sum_us / 1e6, now.response_buckets[start:end].tolist(), self._bounds_s
            )
        answered -= past.counts[row]
        if answered == 0:
            return NONE
        counts = [
            (after - before) % _MODULUS
            for after, before in zip(
                now.response_buckets[start:end].tolist(), past.buckets[start:end].tolist(), strict=True
            )
        ]
        return response_times(answered, (sum_us - past.sums_us[row]) / 1e6, counts, self._bounds_s)

    def failing(self) -> set[int]:
        """Rows of the sessions of which a request failed, or a message was not read, within five minutes."""
        if not self._responses:
            return set()
        past, now = self._responses[0], self._table.now
        return {
            row
            for before, counted in (
                (past.failed, now.requests_failed),
                (past.unread, now.messages_undecrypted),
            )
            for row, failed in enumerate(counted)
            if failed and failed > (before[row] if self._is_owners(row, past.at, before) else 0)
        }

    def _is_owners(self, row: int, at: float, column: memoryview) -> bool:
        """Whether what the column says was counted by the session that has the row now."""
        return row < len(column) and at >= self._table.begun_at[row]


class RecentSessions:
    """Which sessions something happened to, each once: at the most an entry a session."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}  # the latest last

    def note(self, session_id: str, at: float) -> None:
        """It happened to this one, now."""
        self._at.pop(session_id, None)
        self._at[session_id] = at

    def forget(self, session_id: str) -> None:
        """The session was removed."""
        self._at.pop(session_id, None)

    def within(self, window_s: float, now: float, until: float = inf) -> list[str]:
        """Those that it happened to within the window, and not after `until`; looks at no more than these."""
        recent = takewhile(lambda it: now - it[1] < window_s, reversed(self._at.items()))
        return [session_id for session_id, at in recent if at <= until]


class Point(NamedTuple):
    """What the whole fleet had counted at one moment."""

    at: float
    dials: int = 0
    failed_dials: int = 0
    closes: int = 0
    reconnects: int = 0
    messages: float = 0
    reads: float = 0
    failed_reads: float = 0
    requests: float = 0
    failed_requests: float = 0
    sends: float = 0
    failed_sends: float = 0
    responses: float = 0
    response_s: float = 0.0
    buckets: tuple[int, ...] = ()
    handler_calls: int = 0
    handler_s: float = 0.0

    @property
    def operations(self) -> float:
        """What can fail: dials that ended, requests, texts that were to be sent, messages to be read."""
        return self.dials + self.requests + self.sends + self.reads

    @property
    def failures(self) -> float:
        """What did."""
        return self.failed_dials + self.failed_requests + self.failed_sends + self.failed_reads


class FleetWindow:
    """Points of the last five minutes."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._points: deque[Point] = deque(maxlen=round(RATE_WINDOW_S / SAMPLE_S))

    def clear(self) -> None:
        """Forget the past."""
        self._points.clear()

    def keep(self, point: Point) -> None:
        """Remember a point."""
        self._points.append(point)

    def oldest(self) -> Point | None:
        """The beginning of the five minutes."""
        return self._points[0] if self._points else None

    def a_minute_ago(self, now: float) -> Point | None:
        """The beginning of the last minute."""
        for point in reversed(self._points):
            if now - point.at >= MESSAGES_WINDOW_S - SAMPLE_S / 2:
                return point
        return self.oldest()

    def handler_time_ms(self, now: Point) -> float | None:
        """The mean that a handler took within the five minutes up to `now`; None when none ended."""
        past = self.oldest()
        calls = 0 if past is None else now.handler_calls - past.handler_calls
        if past is None or calls <= 0:
            return None
        return round(1000 * (now.handler_s - past.handler_s) / calls, 3)

    def response_times(self, now: Point) -> ResponseTimes:
        """Mean and percentiles of the five minutes up to `now`."""
        past = self.oldest()
        if past is None:
            return NONE
        before = past.buckets or (0,) * len(now.buckets)
        counts = [after - earlier for after, earlier in zip(now.buckets, before, strict=True)]
        answered = round(now.responses - past.responses)
        return response_times(answered, now.response_s - past.response_s, counts, self._bounds_s)
