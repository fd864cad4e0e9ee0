"""The ledger: every row, its durable copy, the fleet's state, and the one read path."""

from __future__ import annotations

import secrets
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

import structlog

from runner.counters import known
from runner.errors import UnknownSessionError
from runner.reconnect.dials import Dials
from runner.reconnect.fleet import LogoutGuard, MassDrop
from runner.reconnect.history import to_json
from runner.reconnect.incidents import Incidents
from runner.reconnect.outages import Outages, Told
from runner.reconnect.path import PathKey
from runner.session import SessionView, State
from runner.supervisor.deadlines import Deadlines
from runner.supervisor.feed import Feed, StatusEvent
from runner.supervisor.row import Ages, Options, Row, exit_tag, redact_proxy, show
from runner.supervisor.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

    from runner.engine import Engine, Store
    from runner.reconnect.policy import Policy

log = structlog.get_logger()

AGES_KEPT_S: Final = 2.0
"""Views share one reading of the counters for this long. Longer than the admin API keeps its own: its lists
have refreshed it aside, and never wait for one here."""
CLOCK_STEP_S: Final = 2.0
CLOCK_LOOK_S: Final = 10.0


class Ledger:
    """Rows and what is known about them. Decides nothing."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        policy: Policy,
        options: Options,
        *,
        rng: Random,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.engine, self.store, self.policy, self.options = engine, store, policy, options
        self.rng, self._clock, self._wall = rng, clock, wall
        now = clock()
        self.rows: dict[str, Row] = {}
        self.deadlines = Deadlines()
        self.dials = Dials(policy, now, rng, options.client_version)
        self.incidents = Incidents()
        self.outages = Outages(policy)
        self._exit_secret = secrets.token_bytes(16)
        self.feed = Feed()
        self.timeline = Timeline()
        self.mass = MassDrop(policy)
        self.logouts = LogoutGuard(policy)
        self.dirty: set[str] = set()
        self.touched: set[str] = set()
        """Sessions whose row changed since the alerts looked last; they empty it."""
        self.clock_steps_total = 0
        self.slots: set[str] = set()
        self.fd_waiting: dict[str, None] = {}
        self.outdated: set[str] = set()
        self.restricted: set[str] = set()
        """Sessions whose account may not write to strangers (`runner.supervisor.restricted`)."""
        self.forgiving: deque[str] = deque()
        """Sessions whose drop turned out to be part of a mass drop, not yet forgiven."""
        self.archive_due: deque[str] = deque()
        self.resume_rests_until = float("-inf")
        self._offset_s = wall() - now
        self._looked_at_clock = now
        self._bucket_saved_at = float("-inf")
        self.has_dialled = False
        self._full_since: float | None = None
        self.is_stopping = False
        self.engine_stopped = False
        self.refresh_wanted = False
        self.stale_events_total = 0
        self.revision = 0
        """Changes of sessions so far: each has an event, and a number."""
        self.faults_total = 0
        """Exceptions of ours that were confined to one session."""
        self.faulty: dict[str, None] = {}
        """Sessions that have not been well since one."""

    def now(self) -> float:
        """The monotonic clock."""
        return self._clock()

    def unix_ms(self) -> int:
        return round(self._wall() * 1000)

    def view(self, session_id: str) -> SessionView | None:
        """One session as it is now, or None."""
        row = self.rows.get(session_id)
        return None if row is None or row.is_removed else self._show(row, self._clock(), self.unix_ms())

    def views(self) -> Iterator[SessionView]:
        """All sessions as they are now."""
        now, unix_ms = self._clock(), self.unix_ms()
        return (self._show(row, now, unix_ms) for row in list(self.rows.values()) if not row.is_removed)

    def _show(self, row: Row, now: float, unix_ms: int) -> SessionView:
        self.engine.counters.refresh_within(AGES_KEPT_S)
        return show(row, now, unix_ms, self._ages(row), self.next_retry_at(row))

    def _ages(self, row: Row) -> Ages | None:
        """By the latest reading, however old."""
        table = self.engine.counters
        if (place := table.rows.get(row.session_id)) is None:
            return None
        reading, at = table.now, self._clock() - table.age_s()
        last_data_s = known(reading.last_data_ages_s[place])
        if row.online_at is not None:  # a login is data, and this reading may be older than it
            last_data_s = min(at - row.online_at, inf if last_data_s is None else last_data_s)
        return Ages(
            at,
            last_data_s,
            known(reading.last_pong_ages_s[place]),
            known(reading.pong_rtts_s[place]),
        )

    def next_retry_at(self, row: Row) -> float | None:
        if row.state is State.BACKOFF and self.dials.is_held(row.session_id):
            path = self.dials.path(row.session_id)
            if path is not None and path.canary_at is not None:
                return path.canary_at
        return row.retry_at if row.state in (State.BACKOFF, State.SUSPENDED) else None

    def row(self, session_id: str) -> Row:
        """The row, or UnknownSessionError."""
        row = self.rows.get(session_id)
        if row is None or row.is_removed:
            raise UnknownSessionError(session_id)
        return row

    def new_row(self, session_id: str, proxy: str | None) -> Row:
        """A stopped row of that name, in place of any other."""
        known = self.rows.get(session_id)
        row = Row(session_id, since_unix_ms=0 if known is None else known.since_unix_ms, proxy=proxy)
        row.enter(State.STOPPED, self.unix_ms())
        row.path = self.path_of(proxy)
        self.rows[session_id] = row
        return row

    def path_of(self, proxy: str | None) -> PathKey:
        chosen = proxy or self.options.proxy
        return PathKey(
            self.options.endpoint, redact_proxy(chosen), exit_tag=exit_tag(chosen, self._exit_secret)
        )

    def join_path(self, row: Row) -> None:
        """The row's proxy changed."""
        row.path = self.path_of(row.proxy)
        self.dirty.add(row.session_id)

    def mark_dirty(self, row: Row) -> None:
        """The durable state of the row changed."""
        self.dirty.add(row.session_id)

    def flush(self, until: float = inf) -> bool:
        """Queue the durable state of every row that changed; the store coalesces and commits. False when it
        was `until` before all were."""
        now, unix_ms = self._clock(), self.unix_ms()
        while self.dirty:
            session_id = self.dirty.pop()
            self.touched.add(session_id)
            row = self.rows.get(session_id)
            if row is not None and not row.is_removed:
                self.store.put_policy(session_id, to_json(row.durable(), now, unix_ms))
            if self._clock() >= until:
                return not self.dirty
        return True

    def save_bucket(self, now: float) -> None:
        if self.has_dialled and now - self._bucket_saved_at >= 1.0:
            self.has_dialled = False
            self._bucket_saved_at = now
            self.store.put_meta("limiter", self.dials.limiter.to_json(now, self.unix_ms()))

    @property
    def clock_look_at(self) -> float:
        """When `look_at_clock` is due, also while nothing happens to any session."""
        return self._looked_at_clock + CLOCK_LOOK_S

    def look_at_clock(self, now: float) -> None:
        """Durable times are written by the wall clock of their moment; when it steps, they are rewritten."""
        if now < self.clock_look_at:
            return
        self._looked_at_clock = now
        offset_s = self._wall() - now
        if abs(offset_s - self._offset_s) > CLOCK_STEP_S:
            log.warning("the wall clock was set", step_s=round(offset_s - self._offset_s, 3))
            self.clock_steps_total += 1
            self.dirty.update(self.rows)
        self._offset_s = offset_s
        self._look_at_logouts()

    def _look_at_logouts(self) -> None:
        """A hold of the fleet's logouts ends with the last session that could confirm one: all others were
        unlinked, stopped or removed, and no login would ever end it."""
        if self.logouts.is_holding and not any(
            row.history.confirming and row.desired and row.state is not State.LOGGED_OUT
            for row in self.rows.values()
        ):
            self.logouts.release()
            self.end_incident("fleet_logout", "")

    def publish(self, name: str, row: Row, **data: object) -> None:
        """Number a change of the row, and tell the subscribers, if there are any."""
        self.revision += 1
        row.revision = self.revision
        if self.feed.is_heard:
            now, unix_ms = self._clock(), self.unix_ms()
            view = show(row, now, unix_ms, self._ages(row), self.next_retry_at(row))
            self.feed.publish(StatusEvent(name, row.session_id, unix_ms, view, data))

    def raise_incident(self, kind: str, key: str, severity: str, text: str) -> None:
        """Raise an incident unless it is raised already."""
        incident = self.incidents.raise_once(kind, key, severity, text, self.unix_ms())
        if incident is not None:
            level = log.critical if severity == "critical" else log.warning
            level("incident opened", incident=kind, about=key, detail=text)  # `text` would be redacted
            data = {"kind": kind, "key": key, "severity": severity, "text": text}
            self.feed.publish(StatusEvent("incident.opened", "", incident.opened_at, None, data))

    def end_incident(self, kind: str, key: str) -> None:
        """Close an incident if it is open."""
        incident = self.incidents.close(kind, key, self.unix_ms())
        if incident is not None and incident.closed_at is not None:
            log.info("incident closed", incident=kind, about=key, detail=incident.text)
            data = {"kind": kind, "key": key, "severity": incident.severity}
            self.feed.publish(StatusEvent("incident.closed", "", incident.closed_at, None, data))

    def tell_outages(self, told: Iterable[Told]) -> None:
        """Bring the incidents about paths up to date."""
        for it in told:
            if it.text is None:
                self.end_incident("path_outage", it.key)
            elif self.incidents.is_open("path_outage", it.key):
                self.incidents.retell("path_outage", it.key, it.text)
            else:
                self.raise_incident("path_outage", it.key, "critical", it.text)

    def take_archive_due(self) -> str | None:
        """The next session whose credentials are to be archived, or taken back from the archive."""
        return self.archive_due.popleft() if self.archive_due else None
