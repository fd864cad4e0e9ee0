"""The supervisor without its tasks: rows, deadlines, dials, and what each event of the engine does to them.

Synchronous and driven from outside: `route` takes an event, `turn` does what is due and says when to come back.
The rules that hold whatever races:

- A row has at most one live connection. It is opened in `_dial` only, when no other is live; it stops being live
  in `_gone` only, on its own `closed` event (or when the engine's counters prove that the event was lost).
- An event of another connection than the live one changes nothing.
- Every dial goes through `Dials.take`. Every state that may not last has a deadline in the heap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from runner.engine import route_pending
from runner.errors import UnknownSessionError
from runner.reconnect.breaker import Breaker
from runner.reconnect.decide import Ending, decide
from runner.reconnect.decision import (
    AwaitVersion,
    Decision,
    LoggedOut,
    Park,
    RetryAfter,
    RetryNow,
    Stay,
    Suspend,
)
from runner.reconnect.dials import Dials
from runner.reconnect.fleet import LogoutGuard, MassDrop
from runner.reconnect.history import Hold, from_json, to_json
from runner.reconnect.incidents import Incidents
from runner.reconnect.limiter import Priority
from runner.reconnect.path import PathKey
from runner.reconnect.table import Fault, Verdict, is_path_failure, rule_for
from runner.reconnect.version import GateState, format_version
from runner.session import OPEN_STATES, SessionView, State, Trigger, step
from runner.supervisor.deadlines import Deadlines, Kind
from runner.supervisor.feed import Feed, StatusEvent
from runner.supervisor.row import Ages, Closing, Options, Row, redact_proxy, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from runner.engine import Engine, EngineEvent, Store
    from runner.reconnect.history import History
    from runner.reconnect.policy import Policy
    from runner.reconnect.version import Version

log = structlog.get_logger()

DEADLINES_PER_TURN: Final = 512
DIALS_PER_TURN: Final = 256
AGES_KEPT_S: Final = 1.0
"""Counters are copied out for all sessions at once; views within this time share one copy."""
CLOCK_STEP_S: Final = 2.0
FD_LIMIT: Final = "fd_limit"
CLOSE_STUCK: Final = "close_stuck"
STUCK_CLOSE: Final = "the engine does not let go of a connection; restart the runner"
SICK_FLEET: Final = ("engine_lag", "store_lag", "store_stalled", "disk_full", "deaf_fleet")
"""Incidents during which no session is rebuilt: what looks like one deaf session is ours."""
CLOCK_LOOK_S: Final = 10.0


class Machine:
    """All sessions of this process. Not thread-safe: one Trio thread owns it."""

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
        self._rng, self._clock, self._wall = rng, clock, wall
        now = clock()
        self.rows: dict[str, Row] = {}
        self.deadlines = Deadlines()
        self.dials = Dials(policy, now, rng, options.client_version)
        self.incidents = Incidents()
        self.feed = Feed()
        self._mass = MassDrop(policy)
        self._logouts = LogoutGuard(policy)
        self._dirty: set[str] = set()
        self._slots: set[str] = set()
        self._fd_waiting: dict[str, None] = {}
        self._outdated: set[str] = set()
        self._unarchived: deque[tuple[str, str]] = deque()
        self._resume_rests_until = float("-inf")
        self._offset_s = wall() - now
        self._looked_at_clock = now
        self._bucket_saved_at = float("-inf")
        self._ages: dict[str, Ages] = {}
        self._ages_at = float("-inf")
        self.is_stopping = False
        self.engine_stopped = False
        self.refresh_wanted = False
        self.stale_events_total = 0

    # -- reading ---------------------------------------------------------------------------------------------

    def view(self, session_id: str) -> SessionView | None:
        """One session as it is now, or None."""
        row = self.rows.get(session_id)
        return None if row is None or row.is_removed else self._show(row, self._clock(), self._unix_ms())

    def views(self) -> Iterator[SessionView]:
        """All sessions as they are now."""
        now, unix_ms = self._clock(), self._unix_ms()
        return (self._show(row, now, unix_ms) for row in list(self.rows.values()) if not row.is_removed)

    def _show(self, row: Row, now: float, unix_ms: int) -> SessionView:
        if now - self._ages_at >= AGES_KEPT_S:
            self._read_ages(now)
        return show(row, now, unix_ms, self._ages.get(row.session_id), self._next_retry_at(row))

    def _read_ages(self, now: float) -> None:
        self._ages_at = now
        self._ages = {
            entry.session_id: Ages(now, entry.last_data_age_s, entry.last_pong_age_s, entry.pong_rtt_s)
            for entry in self.engine.counters()
        }

    def _next_retry_at(self, row: Row) -> float | None:
        if row.state is State.BACKOFF and self.dials.is_held(row.session_id):
            path = self.dials.path(row.session_id)
            if path is not None and path.canary_at is not None:
                return path.canary_at
        return row.retry_at if row.state in (State.BACKOFF, State.SUSPENDED) else None

    def _unix_ms(self) -> int:
        return round(self._wall() * 1000)

    def row(self, session_id: str) -> Row:
        """The row, or UnknownSessionError."""
        row = self.rows.get(session_id)
        if row is None or row.is_removed:
            raise UnknownSessionError(session_id)
        return row

    # -- start ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the store knows: every row, its durable policy state, the limiter's level, the version.

        Blocking (reads the store). The most recently active sessions come first at everything that is scarce.
        """
        now, unix_ms = self._clock(), self._unix_ms()
        meta = self.store.meta()
        problem = self.dials.limiter.restore(meta.get("limiter"), now, unix_ms)
        if problem is not None:
            log.warning("limiter state damaged", problem=problem)
        is_fresh = self.dials.gate.restore(meta.get("client_version"), unix_ms)
        if not is_fresh and not self.dials.gate.pinned:
            self.dials.gate.begin_refresh()
            self.refresh_wanted = True
        self._restore_resume_rest(meta.get("resume_rests_until"), now, unix_ms)
        found = []
        for stored in self.store.sessions():
            durable, problem = from_json(stored.policy, now, unix_ms, self.policy)
            if problem is not None:
                log.error("policy state damaged", session=stored.session_id, problem=problem)
            if stored.quarantined is not None:
                durable = replace(durable, hold=Hold("parked", None), reason="device_quarantined")
            elif stored.archived and durable.hold is None:
                durable = replace(durable, hold=Hold("logged_out", None), reason="failure_logged_out")
            found.append((stored.session_id, durable))
        found.sort(key=lambda entry: -entry[1].last_active_unix_ms)
        for session_id, durable in found:
            row = self.new_row(session_id, durable.proxy)
            row.desired, row.hold, row.history = durable.desired, durable.hold, durable.history
            row.reason, row.code, row.detail = durable.reason, durable.code, durable.detail
            row.connection, row.last_active_unix_ms = durable.connection, durable.last_active_unix_ms
            if durable.desired:
                self.resume_row(row)
        log.info("sessions loaded", sessions=len(found), fd_waiting=len(self._fd_waiting))

    def _restore_resume_rest(self, text: str | None, now: float, unix_ms: int) -> None:
        if text is not None and text.isascii() and text.isdigit() and len(text) < 16:
            rest_s = (int(text) - unix_ms) / 1000
            if rest_s > 0:
                self._resume_rests_until = now + min(rest_s, self.policy.resume_rest_s)

    def new_row(self, session_id: str, proxy: str | None) -> Row:
        """A stopped row of that name, in place of any other."""
        row = Row(session_id, since_unix_ms=self._unix_ms(), proxy=proxy)
        row.path = self._path_of(proxy)
        self.rows[session_id] = row
        return row

    def _path_of(self, proxy: str | None) -> PathKey:
        return PathKey(self.options.endpoint, redact_proxy(proxy or self.options.proxy))

    def now(self) -> float:
        """The monotonic clock."""
        return self._clock()

    def mark_dirty(self, row: Row) -> None:
        """The durable state of the row changed."""
        self._dirty.add(row.session_id)

    def resume_row(self, row: Row) -> None:
        """Bring a stopped row to where its hold says, or into the queue."""
        hold, now = row.hold, self._clock()
        match hold:
            case Hold("logged_out"):
                self.move(row, Trigger.LOG_OUT, row.reason)
            case Hold("parked"):
                self.move(row, Trigger.PARK, row.reason)
            case Hold("suspended", until) if until is not None and until > now:
                self._suspend(row, until, row.reason, keep_facts=True)
            case Hold("backoff", until) if until is not None:
                self.wait(row, until, row.reason)
            case _:
                self.wait(row, now, row.reason)

    # -- the scheduler's turn ----------------------------------------------------------------------------------

    def turn(self) -> float | None:
        """Do what is due; never waits. Returns when to come back (monotonic), or None: only on news.

        Deadlines are judged after all news is in: if this thread was blocked, the answer that a deadline
        waits for is in the outbox, and nothing has failed but our own punctuality.
        """
        now = self._clock()
        due = self.deadlines.next_at()
        if due is not None and due <= now:
            route_pending(self.engine, self.route)
        for _ in range(DEADLINES_PER_TURN):
            popped = self.deadlines.pop_due(now)
            if popped is None:
                break
            row = self.rows.get(popped[0])
            if row is not None:
                self._on_deadline(row, popped[1], now)
        self._look_at_version(now)
        dialled = 0 if self.is_stopping else self._dial_allowed(now)
        self._look_at_clock(now)
        self._save_bucket(now, dialled)
        self.flush()
        if dialled >= DIALS_PER_TURN:
            return now
        times = [self.deadlines.next_at(), self.dials.gate.retry_at]
        if not self.is_stopping:
            times.append(self.dials.next_at(now))
        return min((at for at in times if at is not None), default=None)

    def flush(self) -> None:
        """Queue the durable state of every row that changed; the store coalesces and commits."""
        if not self._dirty:
            return
        now, unix_ms = self._clock(), self._unix_ms()
        for session_id in self._dirty:
            row = self.rows.get(session_id)
            if row is not None and not row.is_removed:
                self.store.put_policy(session_id, to_json(row.durable(), now, unix_ms))
        self._dirty.clear()

    def _save_bucket(self, now: float, dialled: int) -> None:
        if dialled and now - self._bucket_saved_at >= 1.0:
            self._bucket_saved_at = now
            self.store.put_meta("limiter", self.dials.limiter.to_json(now, self._unix_ms()))

    def _look_at_clock(self, now: float) -> None:
        """Durable times are written with the wall clock of their moment; when that steps, they are written again."""
        if now - self._looked_at_clock < CLOCK_LOOK_S:
            return
        self._looked_at_clock = now
        offset_s = self._wall() - now
        if abs(offset_s - self._offset_s) > CLOCK_STEP_S:
            log.warning("the wall clock was set", step_s=round(offset_s - self._offset_s, 3))
            self._dirty.update(self.rows)
        self._offset_s = offset_s

    def _look_at_version(self, now: float) -> None:
        gate = self.dials.gate
        if not gate.is_refresh_due(now):
            return
        if gate.pinned is not None:
            gate.retry_pinned()
        else:
            gate.begin_refresh()
            self.refresh_wanted = True

    def _on_deadline(self, row: Row, kind: Kind, now: float) -> None:
        match kind:
            case Kind.RETRY:
                self._retry_due(row, now)
            case Kind.STABLE:
                self._settle(row)
            case Kind.CLOSE:
                self._close_overdue(row, now)
            case Kind.STATE:
                self._state_overdue(row, now)

    # -- moving a row ------------------------------------------------------------------------------------------

    def move(self, row: Row, trigger: Trigger, reason: str | None) -> None:
        """The one place where a state changes."""
        before, row.state = row.state, step(row.state, trigger)
        changed = before is not row.state or row.reason != reason
        row.reason = reason
        self._dirty.add(row.session_id)
        if before is not row.state:
            now = self._clock()
            row.since_unix_ms = self._unix_ms()
            lasts_s = self.options.deadlines.of(row.state)
            if lasts_s is None:
                self.deadlines.clear(row.session_id, Kind.STATE)
            else:
                self.deadlines.set(row.session_id, Kind.STATE, now + lasts_s)
            self._account_for_fd(row)
        if changed:
            self.publish("session.status", row)

    def rest(self, row: Row) -> None:
        """Take a row out of everything that would dial it."""
        self.dials.withdraw(row.session_id, self._clock())
        self._logouts.withdraw(row.session_id)
        self._outdated.discard(row.session_id)
        self._fd_waiting.pop(row.session_id, None)
        self.deadlines.clear(row.session_id, Kind.RETRY)
        row.retry_at = None

    def wait(self, row: Row, until: float, reason: str | None) -> None:
        """State `backoff` until then; a time that is already here means: its turn at the limiter."""
        now = self._clock()
        self.rest(row)
        row.retry_at = until
        row.hold = Hold("backoff", until) if until > now else None
        self.move(row, Trigger.QUEUE, reason)
        if until > now:
            self.deadlines.set(row.session_id, Kind.RETRY, until)
        else:
            self.request_dial(row, Priority.ORDINARY)

    def _suspend(self, row: Row, until: float, reason: str | None, *, keep_facts: bool = False) -> None:
        self.rest(row)
        self.leave_path(row)
        row.retry_at, row.hold = until, Hold("suspended", until)
        if not keep_facts and row.reason != reason:
            row.code = row.detail = None
        self.move(row, Trigger.SUSPEND, reason)
        self.deadlines.set(row.session_id, Kind.RETRY, until)

    def _park(self, row: Row, reason: str) -> None:
        self.rest(row)
        row.hold = Hold("parked", None)
        self.move(row, Trigger.PARK, reason)
        self.leave_path(row)

    def _log_out(self, row: Row, reason: str) -> None:
        self.rest(row)
        row.hold = Hold("logged_out", None)
        self.move(row, Trigger.LOG_OUT, reason)
        self.leave_path(row)
        self._unarchived.append((row.session_id, reason))

    def leave_path(self, row: Row) -> None:
        """The row does not want its path for now; an outage that nobody sees any more is over."""
        path = self.dials.leave(row.session_id)
        if path is not None:
            self.end_incident("path_outage", str(path))

    def _account_for_fd(self, row: Row) -> None:
        """A state that neither has nor soon wants a connection gives its descriptor to the next in line."""
        capacity = self.options.fd_capacity
        if capacity is None or row.state in OPEN_STATES or row.state is State.BACKOFF or row.live:
            return
        self._slots.discard(row.session_id)
        if self._fd_waiting and len(self._slots) < capacity:
            best = max(self._fd_waiting, key=lambda waiting: self.rows[waiting].last_active_unix_ms)
            self.wait(self.rows[best], self._clock(), self.rows[best].reason)
        if not self._fd_waiting:
            self.end_incident("fd_limit", "")

    def publish(self, name: str, row: Row, **data: object) -> None:
        """Tell the subscribers, if there are any."""
        if self.feed.is_heard:
            now, unix_ms = self._clock(), self._unix_ms()
            view = show(row, now, unix_ms, self._ages.get(row.session_id), self._next_retry_at(row))
            self.feed.publish(StatusEvent(name, row.session_id, unix_ms, view, data))

    def raise_incident(self, kind: str, key: str, severity: str, text: str) -> None:
        """Raise an incident unless it is raised already."""
        incident = self.incidents.raise_once(kind, key, severity, text, self._unix_ms())
        if incident is not None:
            level = log.critical if severity == "critical" else log.warning
            level("incident opened", incident=kind, about=key, text=text)
            data = {"kind": kind, "key": key, "severity": severity, "text": text}
            self.feed.publish(StatusEvent("incident.opened", "", incident.opened_at, None, data))

    def end_incident(self, kind: str, key: str) -> None:
        """Close an incident if it is open."""
        incident = self.incidents.close(kind, key, self._unix_ms())
        if incident is not None and incident.closed_at is not None:
            log.info("incident closed", incident=kind, about=key)
            data = {"kind": kind, "key": key, "severity": incident.severity}
            self.feed.publish(StatusEvent("incident.closed", "", incident.closed_at, None, data))

    # -- dialling ----------------------------------------------------------------------------------------------

    def request_dial(self, row: Row, priority: Priority) -> None:
        """A row in `backoff` wants a connection now."""
        now = self._clock()
        session_id = row.session_id
        if row.history.confirming and priority is not Priority.FORCED:
            until = self._logouts.until
            if until is not None and not self._logouts.may_confirm(session_id, now):
                self._suspend(
                    row, max(until, now) + self._rng.uniform(1.0, 60.0), row.reason, keep_facts=True
                )
                return
        capacity = self.options.fd_capacity
        if capacity is not None and session_id not in self._slots:
            if len(self._slots) >= capacity:
                self._suspend(row, now + self.policy.fd_retry_s, FD_LIMIT)
                row.hold = None
                self._fd_waiting[session_id] = None
                self.raise_incident(
                    "fd_limit", "", "critical", "more sessions than the file-descriptor limit holds; raise it"
                )
                return
            self._slots.add(session_id)
        row.history = replace(row.history, breaker=row.history.breaker.attempted())
        if row.path is None:
            row.path = self._path_of(row.proxy)
        self.dials.join(session_id, row.path)
        if not row.live:  # else the `closed` event of the old connection asks again
            self.dials.want(session_id, priority, row.last_active_unix_ms, now)

    def _retry_due(self, row: Row, now: float) -> None:
        if not row.desired or row.state not in (State.BACKOFF, State.SUSPENDED):
            return
        if row.session_id in self._outdated and self.dials.gate.state is not GateState.OPEN:
            again_at = self.dials.gate.retry_at
            self._await_version(row, now + self.policy.version_retry_s if again_at is None else again_at)
            return
        if row.live:  # a close that never came; `_close_overdue` is on it
            return
        capacity = self.options.fd_capacity
        if row.session_id in self._fd_waiting and capacity is not None and len(self._slots) >= capacity:
            row.retry_at = now + self.policy.fd_retry_s
            self.deadlines.set(row.session_id, Kind.RETRY, row.retry_at)
            return
        self.wait(row, now, row.reason)

    def _dial_allowed(self, now: float) -> int:
        dialled = 0
        while dialled < DIALS_PER_TURN:
            session_id = self.dials.take(now)
            if session_id is None:
                break
            self._dial(self.rows[session_id], now)
            dialled += 1
        return dialled

    def _dial(self, row: Row, now: float) -> None:
        session_id, number = row.session_id, row.reserved or row.connection + 1
        row.connection, row.reserved = number, None
        row.live, row.phase, row.closing, row.online_at = True, "dialling", None, None
        row.version = self.dials.gate.version
        row.resumed = self.options.resume and now >= self._resume_rests_until
        row.retry_at = row.hold = None
        self.move(row, Trigger.DIAL, row.reason)
        proxy = row.proxy or self.options.proxy
        try:
            self.engine.open(session_id, number, version=row.version, proxy=proxy, resume=row.resumed)
        except ValueError as error:
            row.live, row.phase = False, None
            self.dials.ended(session_id, "stopped", None, now)
            row.detail = str(error)[:200]
            self._park(row, "proxy_invalid")
        except RuntimeError as error:  # the engine still has a connection: we lost count of it
            log.error(
                "reconnect impossible: the engine has a connection", session=session_id, error=str(error)
            )
            row.live, row.phase = False, None
            self.dials.ended(session_id, "stopped", None, now)
            self._suspend(row, now + self.policy.fd_retry_s, CLOSE_STUCK)
            row.hold = None
            self.raise_incident("stuck_close", session_id, "critical", STUCK_CLOSE)
        else:
            if number > 1 or row.is_dropped:
                log.info(
                    "session reconnecting", session=session_id, connection=number, attempt=row.shown_attempt
                )
                self.publish("session.reconnecting", row, attempt=row.shown_attempt)

    def close_live(self, row: Row, closing: Closing, *, unlink: bool = False) -> None:
        """Ask the engine to close the open connection; a second wish replaces the first."""
        if row.closing is None:
            self.deadlines.set(
                row.session_id, Kind.CLOSE, closing.asked_at + self.options.deadlines.closing_s
            )
            if unlink:
                self.engine.logout(row.session_id, row.connection)
            else:
                self.engine.close(row.session_id, row.connection, closing.reason)
        else:
            closing = replace(closing, asked_at=row.closing.asked_at)
        row.closing = closing
        self.deadlines.clear(row.session_id, Kind.STABLE)

    def _close_overdue(self, row: Row, now: float) -> None:
        """The engine has not confirmed a close. Ask again; look for a lost event; never open beside it."""
        closing = row.closing
        if closing is None or not row.live:
            return
        current = next((c for c in self.engine.counters() if c.session_id == row.session_id), None)
        if current is None or current.connection != row.connection or current.phase == "closed":
            log.error("a closed event was lost", session=row.session_id, connection=row.connection)
            self._gone(row, closing.reason, None, None, None, now)
            return
        self.engine.close(row.session_id, row.connection, closing.reason)
        waits = self.options.deadlines
        if now - closing.asked_at >= waits.abort_s - 1e-6:
            self.raise_incident("stuck_close", row.session_id, "critical", STUCK_CLOSE)
            if row.state not in (State.STOPPED, State.LOGGED_OUT, State.PARKED):
                self._suspend(row, now + waits.abort_s, CLOSE_STUCK)
                row.hold = None
        self.deadlines.set(row.session_id, Kind.CLOSE, now + waits.closing_s)

    def _state_overdue(self, row: Row, now: float) -> None:
        """A transient state lasted longer than it may."""
        if not row.live or row.closing is not None:
            return
        log.warning(
            "session stuck: reconnect", session=row.session_id, state=row.state.value, phase=row.phase
        )
        if row.state is State.DEGRADED:
            self.deadlines.set(row.session_id, Kind.STATE, now + self.options.deadlines.degraded_s)
            self.rebuild(row, row.reason or "degraded")
            return
        if row.state is State.PAIRING:
            self.close_live(row, Closing("stopped", now))
            self._park(row, "pairing_expired")
            return
        reason = "dial_timeout" if row.phase in (None, "dialling", "securing") else "login_timeout"
        self._give_up(row, Ending(reason, row.phase), now)

    def _give_up(self, row: Row, ending: Ending, now: float) -> None:
        """Close a connection of our own accord and let the policy judge it as `ending` once it is gone."""
        self.close_live(row, Closing("rebuilt", now, ending))
        self.rest(row)
        row.hold = None
        self.move(row, Trigger.QUEUE, ending.reason)

    def rebuild(self, row: Row, why: str) -> bool:
        """Give one deaf or stuck session a new connection. False when that must not be done now.

        At most one such action per session and period, the period doubling while it does not help; none at all
        while the engine, the store or a large part of the fleet is in trouble.
        """
        now = self._clock()
        if (
            row.state not in (State.ONLINE, State.DEGRADED)
            or row.closing is not None
            or row.online_at is None
        ):
            return False
        if any(incident.kind in SICK_FLEET for incident in self.incidents.open()):
            return False
        if not row.history.may_rebuild(now, self.policy):
            return False
        row.history = row.history.rebuilt(now)
        log.warning("session rebuilt: reconnect", session=row.session_id, probe=why)
        self._give_up(row, Ending("rebuilt", "online", None, now - row.online_at), now)
        return True

    # -- events ------------------------------------------------------------------------------------------------

    def route(self, event: EngineEvent) -> None:
        """Apply one event of the engine."""
        if event.kind == "stopped":
            self.engine_stopped = True
            return
        if event.kind == "store":
            self._on_store(event)
            return
        row = self.rows.get(event.session_id)
        if row is None or not row.live or event.connection != row.connection:
            self.stale_events_total += 1
            return
        now = self._clock()
        match event.kind:
            case "phase":
                row.phase = event.phase
            case "path":
                self._on_path(row, now)
            case "online":
                self._on_online(row, event, now)
            case "probe":
                self._on_probe(row, event, now)
            case "closed":
                self._gone(row, event.reason or "failure_unknown", event.code, event.phase, event, now)
            case _:
                pass

    def _on_store(self, event: EngineEvent) -> None:
        if event.healthy:
            self.end_incident("store_stalled", "")
        else:
            self.raise_incident("store_stalled", "", "critical", event.detail or "the store does not commit")

    def _on_path(self, row: Row, now: float) -> None:
        row.phase = "authenticating"
        path = self.dials.reached_login(row.session_id, now)
        if path is not None:
            log.info("reconnect: path is good again", path=str(path))
            self.end_incident("path_outage", str(path))
            for other in self.rows.values():  # those that still sit out a delay which the outage gave them
                if (
                    other.state is State.BACKOFF
                    and other.path == path
                    and not self.dials.is_waiting(other.session_id)
                ):
                    if rule_for(other.reason or "").fault is Fault.PATH:
                        self.wait(other, now, other.reason)

    def _on_online(self, row: Row, event: EngineEvent, now: float) -> None:
        self._on_path(row, now)
        session_id = row.session_id
        if self.dials.logged_in(session_id, now):
            self.end_incident("client_outdated", "")
            self._release_outdated(now)
        if row.closing is not None:  # it came too late: somebody wants this connection gone
            return
        row.phase, row.online_at, row.failing = "online", now, None
        row.last_active_unix_ms = self._unix_ms()
        row.code = row.detail = None
        row.retry_at = row.hold = None
        before = row.reason
        self.move(row, Trigger.LOGIN, None)
        self.deadlines.set(session_id, Kind.STABLE, now + self.policy.stable_s)
        if row.history.confirming and self._logouts.logged_in(session_id):
            self._release_confirms(now)
        if row.is_dropped:
            row.is_dropped = False
            log.info(
                "session reconnected",
                session=session_id,
                connection=row.connection,
                after=before,
                handshake=event.handshake,
            )
            self.publish("session.reconnected", row, after=before)

    def _on_probe(self, row: Row, event: EngineEvent, now: float) -> None:
        if event.probe is not None:
            self.mark(row, event.probe, healthy=bool(event.healthy), now=now)

    def mark(self, row: Row, probe: str, *, healthy: bool, now: float) -> None:
        """A probe of an open session passed or failed; the state follows."""
        if row.state not in (State.ONLINE, State.DEGRADED) or row.closing is not None:
            return
        failing = row.failing or {}
        if healthy:
            if failing.pop(probe, None) is not None and not failing:
                row.failing = None
                log.info("session recovered", session=row.session_id, probe=probe)
                self.move(row, Trigger.RECOVER, None)
            return
        if probe not in failing:
            failing[probe] = now
            row.failing = failing
            log.warning("session degraded", session=row.session_id, probe=probe)
            self.move(row, Trigger.DEGRADE, next(iter(failing)))

    def _settle(self, row: Row) -> None:
        """The connection has been up for the stable period."""
        if row.state not in (State.ONLINE, State.DEGRADED):
            return
        row.stable_since_unix_ms = self._unix_ms()
        before = row.history.breaker
        row.history = row.history.settled()
        self._breaker_changed(row, before)
        self._dirty.add(row.session_id)

    def _gone(
        self,
        row: Row,
        reason: str,
        code: int | None,
        phase: str | None,
        event: EngineEvent | None,
        now: float,
    ) -> None:
        """The live connection is no more."""
        session_id, closing, online_at = row.session_id, row.closing, row.online_at
        row.live, row.closing, row.phase, row.online_at, row.failing = False, None, None, None, None
        row.stable_since_unix_ms = None
        self.deadlines.clear(session_id, Kind.CLOSE, Kind.STABLE, Kind.STATE)
        self.end_incident("stuck_close", session_id)
        if row.closed is not None:
            row.closed.set()
            row.closed = None
        if online_at is not None:
            row.last_active_unix_ms = self._unix_ms()
            row.is_dropped = True
        ending = Ending(
            reason,
            phase,
            float(event.expire_s) if event is not None and event.expire_s is not None else None,
            None if online_at is None else now - online_at,
        )
        if closing is not None and not rule_for(reason).refuses_force:
            ending = closing.ending or Ending(closing.reason, phase, None, ending.online_s)
        if self.dials.passed_login(session_id, phase):
            self._on_path(row, now)
        outage = self.dials.ended(session_id, ending.reason, ending.phase, now)
        if outage is not None:
            log.warning("reconnect: path is down, one canary dials", path=str(outage), reason=ending.reason)
            self.raise_incident("path_outage", str(outage), "critical", f"dials fail: {ending.reason}")
        self._dirty.add(session_id)
        if row.is_removed:
            self._account_for_fd(row)
            return
        if closing is None or closing.ending is not None or rule_for(ending.reason).refuses_force:
            row.code, row.detail = code, event.detail if event is not None else None
            self._judge(row, ending, now, online=online_at is not None)
        elif closing.reason == "logged_out_by_request":
            self._log_out(row, closing.reason)
        elif row.state in (State.BACKOFF, State.SUSPENDED):  # forced, restarted, or freed after being stuck
            self._after_close(row, now)
        else:
            self._account_for_fd(row)

    def _after_close(self, row: Row, now: float) -> None:
        """The connection that was in the way is gone; go on with what was wanted."""
        if row.state is State.SUSPENDED and row.reason != CLOSE_STUCK:
            return
        if row.reserved is None and row.retry_at is not None and row.retry_at > now:
            return  # it sits out a delay
        self.wait(row, now, row.reason)
        if row.reserved is not None and row.state is State.BACKOFF:
            self.request_dial(row, Priority.FORCED)

    # -- policy ------------------------------------------------------------------------------------------------

    def _judge(self, row: Row, ending: Ending, now: float, *, online: bool) -> None:
        """An end that nobody asked for: ask the policy, tell the fleet, move the row."""
        before = row.history
        path = self.dials.path(row.session_id)
        if is_path_failure(ending.reason, ending.phase) and path is not None and path.is_open:
            decision: Decision = RetryNow()  # the path breaker holds it; its own history has no part in this
        else:
            decision, row.history = decide(ending, row.history, self.policy, now, self._rng)
        self._tell_fleet(row, ending, now, online=online)
        self._breaker_changed(row, before.breaker)
        if row.history.exhausted and not before.exhausted:
            log.critical("session reconnect loop", session=row.session_id, attempts=row.history.failures)
            self.publish("session.reconnect_loop", row, attempts=row.history.failures)
        if not row.desired or row.state is State.STOPPED:
            self._remember_hold(row, ending.reason, decision)
            return
        log.info(
            "session dropped: reconnect" if online else "reconnect attempt failed",
            session=row.session_id,
            connection=row.connection,
            reason=ending.reason,
            code=row.code,
            phase=ending.phase,
            attempt=row.history.failures,
            decision=type(decision).__name__,
            breaker=row.history.breaker.state.value,
        )
        self._apply(row, decision, ending.reason, now)

    def _apply(self, row: Row, decision: Decision, reason: str, now: float) -> None:
        match decision:
            case RetryNow():
                self.wait(row, now, reason)
            case RetryAfter(delay_s):
                self.wait(row, now + delay_s, reason)
            case Suspend(until):
                self._suspend(row, until, reason, keep_facts=True)
            case Park(why):
                self._park(row, why)
            case LoggedOut():
                self._log_out(row, reason)
            case AwaitVersion():
                self._reject_version(row, now)
            case Stay():  # a request's reason without our request: not expected, and no cause to hurry
                self.wait(row, now + self.policy.base_delay_s, reason)

    def _remember_hold(self, row: Row, reason: str, decision: Decision) -> None:
        """A stopped session learns of a ban or a parking from its last connection: kept for the next start."""
        match decision:
            case Suspend(until):
                row.hold, row.reason = Hold("suspended", until), reason
            case Park(why):
                row.hold, row.reason = Hold("parked", None), why
            case LoggedOut():
                row.hold, row.reason = Hold("logged_out", None), reason
                self._unarchived.append((row.session_id, reason))
            case _:
                pass
        self._account_for_fd(row)

    def _tell_fleet(self, row: Row, ending: Ending, now: float, *, online: bool) -> None:
        session_id, verdict = row.session_id, rule_for(ending.reason).verdict
        if online and verdict is not Verdict.OPERATOR:
            self.dials.gate.doubt(now)
            for other in self._mass.dropped(session_id, len(self.rows), now):
                self._forgive(self.rows.get(other), now)
        if verdict is Verdict.RATE_LIMITED:
            self.dials.limiter.slow_down(now)
        if verdict is Verdict.CONFIRM and self._logouts.logged_out(session_id, len(self.rows), now):
            self.raise_incident(
                "fleet_logout",
                "",
                "critical",
                "many sessions were unlinked together; no login confirms it until the hold ends",
            )
            self._hold_confirms(now)
        if ending.reason == "resume_failed":
            self._resume_rests_until = now + self.policy.resume_rest_s
            until_ms = self._unix_ms() + round(self.policy.resume_rest_s * 1000)
            self.store.put_meta("resume_rests_until", str(until_ms))
            log.warning("resumed handshakes rest for a day", reason=ending.reason)

    def _forgive(self, row: Row | None, now: float) -> None:
        """A drop was part of a mass drop: it does not count as this session's flapping."""
        if row is None:
            return
        row.history = row.history.flap_forgiven()
        breaker = row.history.breaker
        fresh = breaker.opened_at is not None and now - breaker.opened_at <= self.policy.mass_drop_window_s
        if row.state is State.SUSPENDED and breaker.is_open and breaker.why == "flapping" and fresh:
            row.history = replace(row.history, breaker=Breaker(failures=breaker.failures))
            self.wait(row, now, row.reason)

    def _breaker_changed(self, row: Row, before: Breaker) -> None:
        after = row.history.breaker
        if after.state is not before.state:
            log.info(
                "reconnect breaker",
                session=row.session_id,
                breaker=after.state.value,
                why=after.why,
                failures=after.failures,
            )
            self.publish("session.breaker", row, state=after.state.value, why=after.why)

    def _hold_confirms(self, now: float) -> None:
        until = self._logouts.until
        for other in self.rows.values():
            if (
                until is not None
                and other.history.confirming
                and other.state is State.BACKOFF
                and not other.live
            ):
                self._suspend(other, until + self._rng.uniform(1.0, 60.0), other.reason, keep_facts=True)

    def _release_confirms(self, now: float) -> None:
        self.end_incident("fleet_logout", "")
        for other in self.rows.values():
            if other.history.confirming and other.state is State.SUSPENDED:
                self.wait(other, now, other.reason)

    # -- client version ----------------------------------------------------------------------------------------

    def _reject_version(self, row: Row, now: float) -> None:
        gate = self.dials.gate
        version = row.version or gate.version
        if gate.outdated(row.session_id, version, now):
            log.warning("reconnect: client outdated, reading the version", version=format_version(version))
            self.refresh_wanted = True
        if version != gate.version:  # a newer one is known already
            self.wait(row, now, "failure_client_outdated")
            return
        self.raise_incident(
            "client_outdated", "", "critical", f"the server rejects client version {format_version(version)}"
        )
        if gate.pinned is not None:
            self._park(row, "failure_client_outdated")
        else:
            self._await_version(row, now + self.policy.version_retry_s)
        self._outdated.add(row.session_id)

    def _await_version(self, row: Row, until: float) -> None:
        self._suspend(row, until, "failure_client_outdated", keep_facts=True)
        row.hold = None
        self._outdated.add(row.session_id)

    def on_version(self, found: Version | None) -> None:
        """The answer of a refresh of the client version; None when the endpoint did not say."""
        gate, now = self.dials.gate, self._clock()
        before = gate.version
        if found is not None:
            self.store.put_meta("client_version", gate.to_json_of(found, self._unix_ms()))
        if not gate.refreshed(found, now):
            log.warning("reconnect: no newer client version is known", version=format_version(before))
            return
        if gate.version != before:
            log.info("reconnect: client version refreshed", version=format_version(gate.version))
        self._release_outdated(now)

    def _release_outdated(self, now: float) -> None:
        for session_id in sorted(self._outdated):
            row = self.rows.get(session_id)
            if row is not None and row.desired and row.state in (State.SUSPENDED, State.PARKED):
                self.wait(row, now, row.reason)
        self._outdated.clear()

    def take_unarchived(self) -> tuple[str, str] | None:
        """The next session whose credentials are to be archived, and why."""
        return self._unarchived.popleft() if self._unarchived else None

    @property
    def has_unarchived(self) -> bool:
        """Whether credentials wait to be archived."""
        return bool(self._unarchived)

    def lift(self, row: Row, history: History) -> None:
        """An operator changed what is remembered."""
        before, row.history = row.history.breaker, history
        self._breaker_changed(row, before)
        self._dirty.add(row.session_id)

    def join_path(self, row: Row) -> None:
        """The row's proxy changed."""
        row.path = self._path_of(row.proxy)
        self._dirty.add(row.session_id)

    def pin_version(self, version: Version | None) -> None:
        """The operator chose a client version, or `auto` (None)."""
        gate = self.dials.gate
        if version == gate.pinned:
            return
        gate.pin(version)
        if version is None:
            gate.begin_refresh()
            self.refresh_wanted = True
        else:
            self._release_outdated(self._clock())

    def configure(self, policy: Policy) -> None:
        """Other numbers from now on; what already waits keeps its time."""
        self.policy = policy
        self.dials.configure(policy, self._clock())
        self._mass, self._logouts = MassDrop(policy), self._logouts.with_policy(policy)
