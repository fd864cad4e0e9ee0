"""The numbers an operator sees, made from facts of the engine. `metric_definitions` says what each is.

Every 10 s one reading of all counters (`counters`) becomes a point of the windows (`windows`) and of the
history (`history`); whoever asks in between gets a reading of its own, at most one a second. Totals of the
fleet are the engine's; what comes as an event (logins, lost connections) is counted here.

With monitoring off nothing is sampled and nothing kept: what looks back says null, and counters still count.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import trio

from runner.counters import nothing_counted
from runner.footprint import Footprint, Mark
from runner.history import History
from runner.machine import Machine
from runner.metric_definitions import HISTORY, SESSION_METRICS
from runner.response_times import ResponseTimes
from runner.session import State
from runner.tally import Tally
from runner.windows import RATE_WINDOW_S, SAMPLE_S, FleetWindow, Point, RecentSessions, SessionWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runner._core import EngineStats, StoreHealth
    from runner.counters import CounterTable, Reading
    from runner.engine import EngineEvent
    from runner.machine import ProcessUse

FEWEST_OPERATIONS: Final = 20
FRESH_S: Final = 1.0
"""On demand, the numbers are brought up to date at most this often."""
DEAD: Final = "pong_deadline"
UNRETURNED_RATIO: Final = 2 / 3
"""Of the window of drops, 40 s of a minute: an outage whose dials hang for 20 s is known as one by then."""
WANTED_CLOSES: Final = frozenset(
    {"stopped", "forced", "rebuilt", "shutdown", "logged_out_by_request", "pairing_expired"}
)
"""Reasons that somebody here asked for, or where somebody here did not come."""
_AGREED: Final = ("stream_restart_required", "closing")
"""How the connection ends on which a phone linked a device: reason and phase."""


class Sources(Protocol):
    """Where the facts come from: the engine and the store, by read calls that never block."""

    @property
    def counters(self) -> CounterTable: ...
    def stats(self) -> EngineStats: ...
    def store_health(self) -> StoreHealth: ...


class Metrics:
    """Keeps the numbers. Fed by `observe` (events) and `run` (samples); read from the Trio thread only."""

    def __init__(
        self,
        sources: Sources,
        states: Callable[[], Mapping[str, int]],
        *,
        revision: Callable[[], int] = int,
        uptime_s: Callable[[str], float] = lambda _session_id: 0.0,
        machine: Machine | None = None,
        session_faults: Callable[[], int] = int,
        restricted: Callable[[], int] = int,
        wrong_tokens: Callable[[], tuple[int, int]] = lambda: (0, 0),
        bucket_bounds_s: Sequence[float] = (),
        tally: Tally | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`states`, `revision` and `uptime_s` are the supervisor's: sessions by state, the number of the last
        change of any of them, and since when one of them is logged in. `wrong_tokens`: how many the admin API
        found wrong, and how many it did not look at."""
        self.sources = sources
        self.states = states
        self.revision = revision
        self._uptime_s = uptime_s
        self.session_faults = session_faults
        self.restricted = restricted
        self.wrong_tokens = wrong_tokens
        self.machine = machine or Machine()
        self.tally = tally if tally is not None else Tally()
        self.bucket_bounds_s = tuple(bucket_bounds_s)
        self.started_at = clock()
        self.footprint = Footprint()
        self.history = History({name: it.fold for name, it in HISTORY.items() if it.fold is not None})
        self.dials: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.dropped = RecentSessions()
        """Sessions that lost an open connection."""
        self.found_dead = RecentSessions()
        """Those of them whose connection an unanswered ping ended."""
        self.undialled = RecentSessions()
        """Sessions whose dial failed."""
        self.reconnects_total = 0
        self.handler_exceptions_total = 0
        self.loop_lag_s = 0.0
        self.process_cpu = 0.0
        self._monitoring = True
        self._table = sources.counters
        self._clock, self._wall = clock, wall
        self._login_at = self.started_at
        # By session. Two dicts of numbers: the collector need not look at ten thousand objects.
        self._logins: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._sessions = SessionWindows(self._table, self.bucket_bounds_s)
        self._fleet = FleetWindow(self.bucket_bounds_s)
        self._next = trio.Event()
        self._cpu = self.machine.cpu_ratio()
        self._cpu_s: tuple[float, float] | None = None
        self._live: tuple[tuple[int, int], dict[str, object]] | None = None
        # At the start every counter is 0, so the windows can begin before the first sample.
        self._sessions.keep(nothing_counted(self.started_at))
        self._fleet.keep(Point(self.started_at))

    # -- what is counted

    def observe(self, event: EngineEvent) -> None:
        """Count what one engine event says."""
        if event.kind == "online":
            logins = self._logins[event.session_id] = self._logins.get(event.session_id, 0) + 1
            self._login_at = self._clock()
            self.dials["online"] += 1
            if logins > 1:
                self.reconnects_total += 1
        elif event.kind == "closed":
            self._count_close(event)

    def _count_close(self, event: EngineEvent) -> None:
        reason = event.reason or "unknown"
        self.closes[reason] += 1
        if reason in WANTED_CLOSES or (reason, event.phase) == _AGREED:
            return
        self._lost[event.session_id] = self._lost.get(event.session_id, 0) + 1
        if event.phase not in {"online", "closing"}:
            self.dials["failed"] += 1
            self.undialled.note(event.session_id, self._clock())
        elif event.phase == "online":
            self.dropped.note(event.session_id, self._clock())
            if reason == DEAD:
                self.found_dead.note(event.session_id, self._clock())

    def forget(self, session_id: str) -> None:
        """A session was removed. What it counted stays in the totals; one of that name begins at zero."""
        self._logins.pop(session_id, None)
        self._lost.pop(session_id, None)
        for sessions in (self.dropped, self.found_dead, self.undialled):
            sessions.forget(session_id)

    def handler_failed(self) -> None:
        """A request ended in a bug of ours."""
        self.handler_exceptions_total += 1

    # -- sampling

    @property
    def monitoring(self) -> bool:
        """Whether anything is sampled and kept."""
        return self._monitoring

    def monitor(self, on: bool) -> None:
        """Follow `WHATSAPP_PERFORMANCE_MONITORING`. Off forgets the past; on begins anew from here."""
        if on == self._monitoring:
            return
        self._monitoring = on
        self._sessions.clear()
        self._fleet.clear()
        self.history.clear()
        self._cpu_s = None
        if on:
            self.sample()
        else:
            self._tell()

    async def run(self) -> None:
        """Sample for ever, every `SAMPLE_S`, while monitoring is on."""
        due = trio.current_time() + SAMPLE_S
        while True:
            await trio.sleep_until(due)
            self.loop_lag_s = trio.current_time() - due
            due = max(due + SAMPLE_S, trio.current_time())
            if self._monitoring:
                await self._table.refresh_aside()
            if self._monitoring:
                self._keep(self._table.now)

    async def refresh(self) -> None:
        """Bring the numbers up to date when they are older than a second."""
        await self._table.refresh_aside(FRESH_S)

    def sample(self) -> None:
        """One reading, kept as one point of the windows and of the history."""
        self._keep(self._table.refresh())

    def _keep(self, reading: Reading) -> None:
        self._cpu = self.machine.cpu_ratio()
        self._sessions.keep(reading)
        point = self._point(reading.at)
        use = self.machine.process()
        self._note_cpu(reading.at, use.cpu_s)
        self.history.push(int(self._wall() * 1000), self._values(point, use))
        self._fleet.keep(point)
        self._tell()

    def _tell(self) -> None:
        self._next.set()
        self._next = trio.Event()

    async def next_sample(self) -> None:
        """Wait for the next sample, or for monitoring to be turned off."""
        await self._next.wait()

    def _note_cpu(self, at: float, cpu_s: float) -> None:
        before, self._cpu_s = self._cpu_s, (at, cpu_s)
        if before is not None and at > before[0]:
            self.process_cpu = (cpu_s - before[1]) / (at - before[0])

    def _point(self, at: float) -> Point:
        now = self._table.now
        totals = now.totals
        return Point(
            at=at,
            dials=sum(self.dials.values()),
            failed_dials=self.dials["failed"],
            closes=sum(self.closes.values()),
            reconnects=self.reconnects_total,
            messages=totals["messages_received"] + totals["messages_sent"],
            reads=totals["messages_received"] + totals["messages_undecrypted"],
            failed_reads=totals["messages_undecrypted"],
            requests=totals["requests_sent"],
            failed_requests=totals["requests_failed"],
            sends=totals["messages_sent"] + totals["sends_failed"],
            failed_sends=totals["sends_failed"],
            responses=totals["response_count"],
            response_s=totals["response_sum_s"],
            buckets=tuple(now.response_totals),
            handler_calls=self.tally.handler_calls,
            handler_s=self.tally.handler_s,
        )

    def _values(self, point: Point, use: ProcessUse) -> dict[str, float | None]:
        """One point of the history. Names: `metric_definitions.HISTORY`."""
        memory, states, times = self.machine.memory(), self.states(), self._fleet.response_times(point)
        return {
            "totalMemory": memory.total,
            "usedMemory": memory.used,
            "cpuUsage": self._cpu[0],
            "activeConnections": self.active_connections,
            "errorRate": self._error_rate(point),
            "averageResponseTime": times.average_ms,
            "responseTimeP50": times.p50_ms,
            "responseTimeP95": times.p95_ms,
            "responseTimeP99": times.p99_ms,
            "averageHandlerTime": self._fleet.handler_time_ms(point),
            **self._rates(point),
            **{f"sessions.{state.value}": states.get(state.value, 0) for state in State},
            "processRss": use.rss_bytes,
            "openFds": use.open_fds,
            "loopLagMs": self.loop_lag_s * 1000,
            "storeOldestAgeMs": self.sources.store_health().oldest_age_s * 1000,
        }

    # -- the fleet

    @property
    def readings(self) -> int:
        """How many readings of the counters there were: what is counted is the same while this is."""
        return self._table.readings

    @property
    def reading_age_s(self) -> float:
        """How old the copy is that the latest is of."""
        return self._clock() - self._table.now.copied_at

    @property
    def totals(self) -> Mapping[str, float]:
        """Sums over all sessions, by `counters.TOTALS`."""
        return self._table.now.totals

    @property
    def buckets(self) -> Sequence[int]:
        """Answered round trips of all sessions by `bucket_bounds_s`; not cumulative, the last is the rest."""
        return self._table.now.response_totals or (0,) * (len(self.bucket_bounds_s) + 1)

    @property
    def active_connections(self) -> int:
        """Connections that are logged in."""
        return self._table.now.online

    @property
    def oldest_unanswered_s(self) -> float:
        """Age of the oldest stanza that we owe an answer."""
        return self._table.now.oldest_unanswered_s

    def error_rate(self) -> float | None:
        """Failed ÷ all dials, requests, sends and messages to be read of the last 5 min.

        None below `FEWEST_OPERATIONS`.
        """
        return self._error_rate(self._point(self._table.now.at))

    def _error_rate(self, now: Point) -> float | None:
        past = self._fleet.oldest()
        done = 0.0 if past is None else now.operations - past.operations
        return None if past is None or done < FEWEST_OPERATIONS else (now.failures - past.failures) / done

    def failing(self) -> int:
        """Sessions whose dials or requests failed, or who could not read a message, within the same 5 min."""
        undialled = self.undialled.within(RATE_WINDOW_S, self._clock())
        rows = self._table.rows
        return len({rows.get(session_id, session_id) for session_id in undialled} | self._sessions.failing())

    def dropped_within(self, window_s: float) -> tuple[int, int]:
        """Sessions that lost an open connection, and those of them that were found dead.

        Left out while nobody has logged in since: a drop that is the beginning of an outage looks the same
        until the dials have failed, and those that hang take longest.
        """
        now = self._clock()
        until = max(self._login_at, now - UNRETURNED_RATIO * window_s)
        return (
            len(self.dropped.within(window_s, now, until)),
            len(self.found_dead.within(window_s, now, until)),
        )

    def _rates(self, now: Point) -> dict[str, float | None]:
        """Gains of the last minute. The first minute is a count and no guess."""
        past = self._fleet.a_minute_ago(now.at)
        if past is None:
            return dict.fromkeys(_RATES)
        scale = 60.0 / max(now.at - past.at, 60.0)
        gains = (
            now.messages - past.messages,
            now.reconnects - past.reconnects,
            now.dials - past.dials,
            now.closes - past.closes,
            now.failures - past.failures,
        )
        return {name: round(gain * scale, 1) for name, gain in zip(_RATES, gains, strict=True)}

    def response_times(self) -> ResponseTimes:
        """Of all sessions, over the last 5 min."""
        return self._fleet.response_times(self._point(self._table.now.at))

    def cpu(self) -> tuple[float | None, str]:
        """Share of the CPU in use at the last sample, None before the first, and its scope."""
        ratio, scope = self._cpu
        return (None if self._fleet.oldest() is None else ratio), scope

    def responses(self) -> tuple[float, float]:
        """Answered round trips of the whole fleet since the start: how many, and their seconds together."""
        return self.totals["response_count"], self.totals["response_sum_s"]

    def average_response_time_ms(self) -> float | None:
        """The mean of the same."""
        return self.response_times().average_ms

    # -- as JSON

    def session(self, session_id: str) -> dict[str, object]:
        """The metrics of one session."""
        row = self._table.rows.get(session_id)
        lost = self._lost.get(session_id, 0)
        if row is None:
            nothing = dict.fromkeys(SESSION_METRICS, 0) | dict.fromkeys(_RESPONSE_METRICS)
            return {
                **nothing,
                "connectionUptime": round(self._uptime_s(session_id), 3),
                "errorCount": lost,
                "reconnectCount": self.reconnects_of(session_id),
            }
        now = self._table.now
        times, per_minute = self._sessions.response_times(row), self._sessions.messages_per_minute(row)
        return {
            "connectionUptime": round(self._uptime_s(session_id), 3),
            "messagesProcessed": now.messages_received[row] + now.messages_sent[row],
            "messagesPerMinute": None if per_minute is None else round(per_minute, 1),
            "averageResponseTime": times.average_ms,
            "responseTimeP50": times.p50_ms,
            "responseTimeP95": times.p95_ms,
            "responseTimeP99": times.p99_ms,
            "errorCount": self.error_count(session_id),
            "reconnectCount": self.reconnects_of(session_id),
        }

    def messages_of(self, session_id: str) -> int:
        """`messagesProcessed`."""
        return sum(self.messages_by_direction(session_id).values())

    def messages_by_direction(self, session_id: str) -> dict[str, int]:
        """`messagesProcessed`, those that came and those that went."""
        row, now = self._table.rows.get(session_id), self._table.now
        if row is None:
            return {"in": 0, "out": 0}
        return {"in": now.messages_received[row], "out": now.messages_sent[row]}

    def reconnects_of(self, session_id: str) -> int:
        """`reconnectCount`."""
        return max(self._logins.get(session_id, 0) - 1, 0)

    def error_count(self, session_id: str) -> int:
        """`errorCount`."""
        return sum(self.errors_of(session_id).values())

    def errors_of(self, session_id: str) -> dict[str, int]:
        """`errorCount` by kind."""
        row, now = self._table.rows.get(session_id), self._table.now
        return {
            "connection": self._lost.get(session_id, 0),
            "request": 0 if row is None else now.requests_failed[row],
            "stanza": 0 if row is None else now.stanzas_malformed[row],
            "send": 0 if row is None else now.sends_failed[row],
            "decrypt": 0 if row is None else now.messages_undecrypted[row],
        }

    def responses_of(self, session_id: str) -> tuple[int, float, ResponseTimes]:
        """Answers, their seconds in all, and the last 5 min."""
        row, now = self._table.rows.get(session_id), self._table.now
        if row is None:
            return 0, 0.0, ResponseTimes()
        return now.responses[row], now.response_sums_us[row] / 1e6, self._sessions.response_times(row)

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

    def live(self) -> dict[str, object]:
        """What `WS /ws?events=system.metrics` sends; made once for all receivers of one moment."""
        moment = self.readings, self.revision()
        if self._live is None or self._live[0] != moment:
            self._live = moment, self._make_live()
        return self._live[1]

    def _make_live(self) -> dict[str, object]:
        use = self.machine.process()
        return {
            **self.system(),
            **self._summary(),
            "process": {
                "rss": use.rss_bytes,
                "openFds": use.open_fds,
                "cpu": round(self.process_cpu, 4),
            },
        }

    def _summary(self) -> dict[str, object]:
        point = self._point(self._table.now.at)
        times = self._fleet.response_times(point)
        return {
            "averageResponseTime": times.average_ms,
            "responseTime": times.to_json(),
            "averageHandlerTime": self._fleet.handler_time_ms(point),
            "states": {str(state): count for state, count in self.states().items()},
            "revision": self.revision(),
            **self._rates(point),
        }

    def details(self) -> dict[str, object]:
        """What explains the five: the fleet, this process, the engine, the store."""
        stats, store = self.sources.stats(), self.sources.store_health()
        return {
            "monitoring": self._monitoring,
            **self._summary(),
            "handlers": dict(self.tally.handlers),
            "webhooks": dict(self.tally.deliveries),
            "undecryptable": self.tally.undecryptable,
            "process": self.process(),
            "engine": {
                "readings": self.readings,
                "readingAge": round(self.reading_age_s, 3),
                "connections": stats.sessions,
                "dialling": stats.dialling,
                "online": stats.online,
                "loopLag": stats.loop_lag_s,
                "heartbeatAge": stats.heartbeat_age_s,
                "outboxDepth": stats.outbox_depth,
                "outboxDropped": stats.outbox_dropped_total,
                "heldInput": stats.held_input_bytes,
                "dials": stats.dials_total,
                "framesReceived": int(self.totals["frames_received"]),
                "pingsSent": int(self.totals["pings_sent"]),
                "pongsReceived": int(self.totals["pongs_received"]),
                "turns": stats.turns_total,
                "tlsResumed": stats.tls_resumed_total,
                "panics": stats.panics_total,
                "oldestUnansweredStanza": self.oldest_unanswered_s,
            },
            "store": {
                "queued": store.queued,
                "oldestAge": store.oldest_age_s,
                "lockWait": store.lock_wait_s,
                "commits": store.commits_total,
                "batches": store.batches_total,
                "failedCommits": store.failed_total,
                "walBytes": store.wal_bytes,
                "inboxPending": store.inbox_pending,
                "deadLetters": store.dead_letters,
                "deadLettersDropped": store.dead_letters_dropped_total,
                "diskFull": store.disk_full,
            },
        }

    def mark(self) -> Mark:
        """Memory and connections now."""
        return Mark(self.machine.process().rss_anon_bytes, self.sources.stats().sessions)

    def process(self) -> dict[str, object]:
        """This process alone, with what of its memory the sessions cost."""
        use = self.machine.process()
        connections = self.sources.stats().sessions
        wrong, not_tried = self.wrong_tokens()
        return {
            "uptime": round(self._clock() - self.started_at, 3),
            "rss": use.rss_bytes,
            "rssAnon": use.rss_anon_bytes,
            **self.footprint.to_json(Mark(use.rss_anon_bytes, connections)),
            "openFds": use.open_fds,
            "threads": use.threads,
            "cpuSeconds": round(use.cpu_s, 3),
            "cpu": round(self.process_cpu, 4),
            "loopLag": round(self.loop_lag_s, 6),
            "handlerExceptions": self.handler_exceptions_total,
            "sessionFaults": self.session_faults(),
            "wrongTokens": wrong,
            "tokensNotTried": not_tried,
            "historyBytes": self.history.size_bytes(),
        }

    def past(
        self, names: Iterable[str], since_ms: int | None, until_ms: int | None, points: int
    ) -> dict[str, object]:
        """`series` of `GET /api/metrics/history`. The names are known to `history`."""
        until = int(self._wall() * 1000) if until_ms is None else until_ms
        since = until - 3_600_000 if since_ms is None else since_ms
        shown: dict[str, object] = {}
        for name in names:
            step_s, at, values = self.history.series(name, since, until, points)
            shown[name] = {"stepS": step_s, "at": at, "values": values}
        return shown


_RATES: Final = (
    "messagesPerMinute",
    "reconnectsPerMinute",
    "dialsPerMinute",
    "closesPerMinute",
    "errorsPerMinute",
)
_RESPONSE_METRICS: Final = ("averageResponseTime", "responseTimeP50", "responseTimeP95", "responseTimeP99")
