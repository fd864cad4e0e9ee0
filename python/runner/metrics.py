"""The numbers an operator sees, each with one definition (docs/metrics.md), made from facts of the engine.

Per session, since the process started: `connectionUptime` seconds since the login of the current
connection, 0 when there is none · `messagesProcessed` inbound messages committed and answered ·
`messagesPerMinute` the same over the last 60 s · `averageResponseTime` milliseconds, mean of the answered
round trips (ping, iq, send to ack) of the last 5 min, null without any · `errorCount` connections lost or not
made, requests without a good answer, stanzas that do not parse · `reconnectCount` logins after the first.

System: `totalMemory`, `usedMemory` bytes and `cpuUsage` share, of the cgroup if it has a limit, else of the
host · `activeConnections` connections that are logged in · `errorRate` failed ÷ all dials and requests of the
last 5 min, null below 20.

Memory is columns, not objects: a sample is one flat array over all sessions. No piece of work is longer than
`ROWS_A_STEP` sessions.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from runner.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner._core import EngineStats, StoreHealth
    from runner.engine import EngineEvent

SAMPLE_S: Final = 10.0
MESSAGES_WINDOW_S: Final = 60.0
RATE_WINDOW_S: Final = 300.0
FEWEST_OPERATIONS: Final = 20
ROWS_A_STEP: Final = 200
_FRESH_S: Final = 1.0
"""On demand, the numbers are brought up to date at most this often."""


class Counters(Protocol):
    """What is read of `_core.SessionCounters`."""

    @property
    def session_id(self) -> str: ...
    @property
    def frames_received(self) -> int: ...
    @property
    def frames_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def stanzas_malformed(self) -> int: ...
    @property
    def messages_received(self) -> int: ...
    @property
    def requests_sent(self) -> int: ...
    @property
    def requests_failed(self) -> int: ...
    @property
    def oldest_unanswered_age_s(self) -> float | None: ...
    @property
    def online_age_s(self) -> float | None: ...
    @property
    def response_count(self) -> int: ...
    @property
    def response_sum_s(self) -> float: ...
    @property
    def response_buckets(self) -> Sequence[int]: ...


TOTALS: Final = (
    "frames_received",
    "frames_sent",
    "bytes_received",
    "bytes_sent",
    "stanzas_malformed",
    "messages_received",
    "requests_sent",
    "requests_failed",
    "response_count",
    "response_sum_s",
)
"""Counters of a session that are added up over the fleet. `_FRAMES`, `_MESSAGES` … are their places."""
_FRAMES, _MALFORMED, _MESSAGES = TOTALS.index("frames_received"), 4, 5
_REQUESTS, _FAILED, _RESPONSES, _RESPONSE_S = 6, 7, 8, 9


class Sources(Protocol):
    """Where the facts come from: the engine and the store, by read calls that never block."""

    def counters(self) -> Sequence[Counters]: ...
    def stats(self) -> EngineStats: ...
    def store_health(self) -> StoreHealth: ...


class _Row:
    """What is kept of one session: its place in the columns, its totals at the last sample, its events."""

    __slots__ = ("errors", "last", "logins", "online_at", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.last: tuple[float, ...] = (0,) * len(TOTALS)
        self.online_at: float | None = None
        self.logins = 0
        self.errors = 0


class _History:
    """Past values of one counter of all sessions: `samples` flat arrays, 8 bytes a session each."""

    def __init__(self, samples: int) -> None:
        self._columns: deque[array[float]] = deque(maxlen=samples)
        self._at: deque[float] = deque(maxlen=samples)

    def push(self, at: float, column: array[float]) -> None:
        self._columns.append(column)
        self._at.append(at)

    def span_s(self, now: float) -> float:
        """How far back the window reaches."""
        return now - self._at[0] if self._at else 0.0

    def gain(self, slot: int, value: float) -> float:
        """How much `value` is above what it was at the start of the window."""
        oldest = self._columns[0] if self._columns else None
        return value - (oldest[slot] if oldest is not None and slot < len(oldest) else 0.0)

    def begin(self, slot: int, value: float) -> None:
        """Another session takes over `slot`, and counts on from `value`."""
        for column in self._columns:
            column.extend([0.0] * (slot + 1 - len(column)))
            column[slot] = value


class Metrics:
    """Keeps the numbers. Fed by `observe` (events) and `run` (samples); read from the Trio thread only."""

    def __init__(
        self,
        sources: Sources,
        states: Callable[[], Mapping[str, int]],
        *,
        machine: Machine | None = None,
        session_faults: Callable[[], int] = int,
        bucket_bounds_s: Sequence[float] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monitoring = True
        self.sources = sources
        self.states = states
        self.session_faults = session_faults
        self.machine = machine or Machine()
        self.bucket_bounds_s = tuple(bucket_bounds_s)
        self.started_at = clock()
        self.totals: list[float] = [0] * len(TOTALS)
        self.buckets: list[int] = [0] * (len(self.bucket_bounds_s) + 1)
        self.dials: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        """Open connections that were lost, by reason."""
        self.reconnects_total = 0
        self.active_connections = 0
        self.oldest_unanswered_s = 0.0
        self.loop_lag_s = 0.0
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._free_slots: list[int] = []
        self._gone: set[str] = set()  # removed, and perhaps still in a copy of the counters
        self._last_buckets = array("Q")
        self._messages = _History(round(MESSAGES_WINDOW_S / SAMPLE_S) + 1)
        self._responses = _History(round(RATE_WINDOW_S / SAMPLE_S))
        self._response_s = _History(round(RATE_WINDOW_S / SAMPLE_S))
        self._operations: deque[tuple[float, float]] = deque(maxlen=round(RATE_WINDOW_S / SAMPLE_S))
        self._sampled_at = float("-inf")
        self._sampling = trio.Lock()
        self._next = trio.Event()
        self._cpu = self.machine.cpu_ratio()

    def observe(self, event: EngineEvent) -> None:
        """Count what one engine event says."""
        if event.kind == "online":
            row = self._row(event.session_id)
            row.logins += 1
            self.dials["online"] += 1
            if row.logins > 1:
                self.reconnects_total += 1
        elif event.kind == "closed":
            self._count_close(event)

    def _count_close(self, event: EngineEvent) -> None:
        reason = event.reason or "unknown"
        self.closes[reason] += 1
        if reason in WANTED_CLOSES or event.session_id in self._gone:
            return
        self._row(event.session_id).errors += 1
        if event.phase not in {"online", "closing"}:
            self.dials["failed"] += 1
        elif event.phase == "online":
            self.drops[reason] += 1

    def forget(self, session_id: str) -> None:
        """A session was removed: give its place to the next one. What it counted stays in the totals.

        The engine has forgotten it too: should one of that name come back, both begin at zero.
        """
        if (row := self._rows.pop(session_id, None)) is not None:
            self._free_slots.append(row.slot)
            self._gone.add(session_id)

    async def run(self) -> None:
        """Sample for ever, every `SAMPLE_S`, while monitoring is on."""
        due = trio.current_time() + SAMPLE_S
        while True:
            await trio.sleep_until(due)
            self.loop_lag_s = trio.current_time() - due
            due = max(due + SAMPLE_S, trio.current_time())
            if self.monitoring:
                await self.sample()

    async def refresh(self) -> None:
        """Bring the numbers up to date when they are older than a second."""
        if self._clock() - self._sampled_at > _FRESH_S:
            await self.sample(keep=False)

    async def sample(self, *, keep: bool = True) -> None:
        """Read all counters; with `keep`, remember them as one point of the windows."""
        async with self._sampling:
            gone = frozenset(self._gone)
            counters = self.sources.counters()
            self._gone -= gone.difference(entry.session_id for entry in counters) if gone else gone
            now = self._clock()
            active, oldest = 0, 0.0
            for step, entry in enumerate(counters):
                if step % ROWS_A_STEP == ROWS_A_STEP - 1:
                    await trio.lowlevel.checkpoint()
                self._add_up(entry, now)
                active += entry.online_age_s is not None
                oldest = max(oldest, entry.oldest_unanswered_age_s or 0.0)
            self.active_connections, self.oldest_unanswered_s = active, oldest
            self._sampled_at = now
            if keep:
                self._keep()

    def _add_up(self, entry: Counters, now: float) -> None:
        if entry.session_id in self._gone:
            return
        row = self._row(entry.session_id)
        age = entry.online_age_s
        row.online_at = None if age is None else now - age
        if entry.frames_received == row.last[_FRAMES] and entry.requests_failed == row.last[_FAILED]:
            return
        values = tuple(getattr(entry, name) for name in TOTALS)
        totals = self.totals
        for place, value in enumerate(values):
            totals[place] += value - row.last[place]
        row.last = values
        self._add_up_buckets(row.slot, entry.response_buckets)

    def _add_up_buckets(self, slot: int, counts: Sequence[int]) -> None:
        width = len(self.buckets)
        start = slot * width
        for place, count in enumerate(counts[:width]):
            self.buckets[place] += count - self._last_buckets[start + place]
            self._last_buckets[start + place] = count

    def _keep(self) -> None:
        size = len(self._rows) + len(self._free_slots)
        columns = [array("d", bytes(8 * size)) for _ in range(3)]
        for row in self._rows.values():
            last, slot = row.last, row.slot
            columns[0][slot], columns[1][slot], columns[2][slot] = (
                last[_MESSAGES],
                last[_RESPONSES],
                last[_RESPONSE_S],
            )
        for history, column in zip((self._messages, self._responses, self._response_s), columns, strict=True):
            history.push(self._sampled_at, column)
        self._operations.append(self._operations_so_far())
        self._cpu = self.machine.cpu_ratio()
        self._next.set()
        self._next = trio.Event()

    async def next_sample(self) -> None:
        """Wait for the next sample that is kept."""
        await self._next.wait()

    def _row(self, session_id: str) -> _Row:
        row = self._rows.get(session_id)
        if row is None:
            width = len(self.buckets)
            if self._free_slots:
                slot = self._free_slots.pop()
                self._last_buckets[slot * width : (slot + 1) * width] = array("Q", bytes(8 * width))
            else:
                slot = len(self._rows)
                self._last_buckets.extend([0] * width)
            row = self._rows[session_id] = _Row(slot)
            self._gone.discard(session_id)
            for history in (self._messages, self._responses, self._response_s):
                history.begin(slot, 0.0)
        return row

    def _operations_so_far(self) -> tuple[float, float]:
        dials = sum(self.dials.values())
        return (
            dials + self.totals[_REQUESTS],
            self.dials["failed"] + self.totals[_FAILED],
        )

    def error_rate(self) -> float | None:
        """Failed ÷ all dials and requests of the last 5 min; None below `FEWEST_OPERATIONS`."""
        all_now, failed_now = self._operations_so_far()
        all_then, failed_then = self._operations[0] if self._operations else (0.0, 0.0)
        done = all_now - all_then
        return None if done < FEWEST_OPERATIONS else (failed_now - failed_then) / done

    def cpu(self) -> tuple[float | None, str]:
        """Share of the CPU in use at the last sample, None before the first, and its scope."""
        ratio, scope = self._cpu
        return (ratio if self._operations else None), scope

    def responses(self) -> tuple[float, float]:
        """Answered round trips of the whole fleet since the start: how many, and their seconds together."""
        return self.totals[_RESPONSES], self.totals[_RESPONSE_S]

    def session(self, session_id: str) -> dict[str, object]:
        """The six metrics of one session."""
        row = self._rows.get(session_id)
        if row is None:
            return dict.fromkeys(SESSION_METRICS, 0) | {"averageResponseTime": None}
        last = row.last
        answered = self._responses.gain(row.slot, last[_RESPONSES])
        answered_s = self._response_s.gain(row.slot, last[_RESPONSE_S])
        # The window is as long as the samples make it; above 60 s it is scaled down, below it stays a count.
        per_minute = MESSAGES_WINDOW_S / max(self._messages.span_s(self._sampled_at), MESSAGES_WINDOW_S)
        messages = self._messages.gain(row.slot, last[_MESSAGES]) * per_minute
        return {
            "connectionUptime": 0.0 if row.online_at is None else round(self._clock() - row.online_at, 3),
            "messagesProcessed": int(last[_MESSAGES]),
            "messagesPerMinute": round(messages, 1),
            "averageResponseTime": round(1000 * answered_s / answered, 3) if answered > 0 else None,
            "errorCount": int(row.errors + last[_FAILED] + last[_MALFORMED]),
            "reconnectCount": max(row.logins - 1, 0),
        }

    def average_response_time_ms(self) -> float | None:
        """The mean over the fleet and the last 5 min."""
        answered = answered_s = 0.0
        for row in self._rows.values():
            answered += self._responses.gain(row.slot, row.last[_RESPONSES])
            answered_s += self._response_s.gain(row.slot, row.last[_RESPONSE_S])
        return round(1000 * answered_s / answered, 3) if answered > 0 else None

    def system(self) -> dict[str, object]:
        """The five system metrics, and what they were measured on."""
        memory = self.machine.memory()
        ratio, cpu_scope = self._cpu
        rate = self.error_rate()
        return {
            "totalMemory": memory.total,
            "usedMemory": memory.used,
            "cpuUsage": round(ratio, 4),
            "activeConnections": self.active_connections,
            "errorRate": None if rate is None else round(rate, 4),
            "memoryScope": memory.scope,
            "cpuScope": cpu_scope,
        }

    def details(self) -> dict[str, object]:
        """What explains the five: this process, the engine, the store, the sessions by state."""
        use = self.machine.process()
        stats, store = self.sources.stats(), self.sources.store_health()
        return {
            "averageResponseTime": self.average_response_time_ms(),
            "states": dict(self.states()),
            "process": {
                "uptime": round(self._clock() - self.started_at, 3),
                "rss": use.rss_bytes,
                "rssAnon": use.rss_anon_bytes,
                "openFds": use.open_fds,
                "threads": use.threads,
                "cpuSeconds": round(use.cpu_s, 3),
                "loopLag": round(self.loop_lag_s, 6),
                "sessionFaults": self.session_faults(),
            },
            "engine": {
                "connections": stats.sessions,
                "dialling": stats.dialling,
                "online": stats.online,
                "loopLag": stats.loop_lag_s,
                "heartbeatAge": stats.heartbeat_age_s,
                "outboxDepth": stats.outbox_depth,
                "outboxDropped": stats.outbox_dropped_total,
                "dials": stats.dials_total,
                "tlsResumed": stats.tls_resumed_total,
                "panics": stats.panics_total,
                "oldestUnansweredStanza": self.oldest_unanswered_s,
            },
            "store": {
                "queued": store.queued,
                "oldestAge": store.oldest_age_s,
                "commits": store.commits_total,
                "failedCommits": store.failed_total,
                "walBytes": store.wal_bytes,
                "inboxPending": store.inbox_pending,
                "diskFull": store.disk_full,
            },
        }

    def sessions(self) -> Iterator[str]:
        """Sessions that have numbers."""
        return iter(self._rows)


SESSION_METRICS: Final = (
    "connectionUptime",
    "messagesProcessed",
    "messagesPerMinute",
    "averageResponseTime",
    "errorCount",
    "reconnectCount",
)
WANTED_CLOSES: Final = frozenset({"stopped", "forced", "rebuilt", "shutdown", "logged_out_by_request"})
"""Reasons that somebody here asked for."""
