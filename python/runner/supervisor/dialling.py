"""From a wish to a connection: the states of a row, its turn at the limiter, its descriptor, its dial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from runner.engine import engine_full_error
from runner.reconnect.decide import Ending
from runner.reconnect.history import Hold
from runner.reconnect.limiter import Priority
from runner.session import OPEN_STATES, State, Trigger, step
from runner.supervisor import linking
from runner.supervisor.deadlines import Kind
from runner.supervisor.ledger import Ledger
from runner.supervisor.row import Closing, Row

if TYPE_CHECKING:
    from runner.reconnect.breaker import Breaker
    from runner.reconnect.history import History
    from runner.reconnect.path import PathKey

log = structlog.get_logger()

FD_LIMIT: Final = "fd_limit"
CLOSE_STUCK: Final = "close_stuck"
STUCK_CLOSE: Final = "the engine does not let go of a connection; restart the runner"
ENGINE_FULL: Final = "engine_full"
FULL_RETRY_S: Final = 1.0
"""A million events wait to be drained; the pump takes a small part of that time for them."""
FULL_LASTS_S: Final = 30.0
"""From here on the pump does not keep up, and nobody gets a connection."""
SICK_FLEET: Final = ("event_loop_lag", "engine_lag", "store_lag", "store_stalled", "disk_full", "deaf_fleet")
"""Incidents during which no session is rebuilt: what looks like one deaf session is ours."""


class Dialling(Ledger):
    """Moves rows and opens connections. Knows nothing of why the last one ended."""

    def move(self, row: Row, trigger: Trigger, reason: str | None, *, is_news: bool = False) -> None:
        """The one place where a state changes. `is_news`: something else has that is shown and told."""
        state, at_unix_ms = step(row.state, trigger), self.unix_ms()
        is_news = is_news or state is not row.state or reason != row.reason
        row.reason = reason
        self.dirty.add(row.session_id)
        if state is not row.state:
            now = self._clock()
            row.enter(state, at_unix_ms)
            at_unix_ms = row.since_unix_ms
            lasts_s = self.options.deadlines.of(row.state)
            if lasts_s is None:
                self.deadlines.clear(row.session_id, Kind.STATE)
            else:
                self.deadlines.set(row.session_id, Kind.STATE, now + lasts_s)
            self.account_for_fd(row)
            if row.linking is not None:
                row.linking.notify()
                if row.state not in linking.UNDER_WAY:
                    row.linking = None  # nobody is there any more, or it is done
        if is_news:
            self.timeline.note(row, at_unix_ms)
            self.publish("session.status", row)

    def rest(self, row: Row) -> None:
        """Take a row out of everything that would dial it."""
        self.dials.withdraw(row.session_id, self._clock())
        self.logouts.withdraw(row.session_id)
        self.outdated.discard(row.session_id)
        self.fd_waiting.pop(row.session_id, None)
        self.deadlines.clear(row.session_id, Kind.RETRY)
        row.retry_at = None

    def wait(self, row: Row, until: float, reason: str | None) -> None:
        """State `backoff` until then; a time that is already here means: its turn at the limiter."""
        now = self._clock()
        self.rest(row)
        row.retry_at = until
        row.hold = Hold("backoff", until) if until > now else None
        self.move(row, Trigger.QUEUE, reason)
        self.join_dials(row)
        if until > now:
            self.deadlines.set(row.session_id, Kind.RETRY, until)
        else:
            self.request_dial(row, Priority.ORDINARY)

    def suspend(self, row: Row, until: float, reason: str | None, *, keep_facts: bool = False) -> None:
        self.rest(row)
        self.leave_path(row)
        row.retry_at, row.hold = until, Hold("suspended", until)
        if not keep_facts and row.reason != reason:
            row.code = row.detail = None
        self.move(row, Trigger.SUSPEND, reason)
        self.deadlines.set(row.session_id, Kind.RETRY, until)

    def park(self, row: Row, reason: str) -> None:
        self.rest(row)
        row.hold = Hold("parked", None)
        self.move(row, Trigger.PARK, reason)
        self.leave_path(row)

    def log_out(self, row: Row, reason: str) -> None:
        self.rest(row)
        row.hold = Hold("logged_out", None)
        self.move(row, Trigger.LOG_OUT, reason)
        self.leave_path(row)
        self.archive_due.append(row.session_id)

    def join_dials(self, row: Row) -> None:
        """The row wants its path, now or after a delay."""
        if row.path is None:
            row.path = self.path_of(row.proxy)
        self._nobody_left(self.dials.join(row.session_id, row.path))

    def leave_path(self, row: Row) -> None:
        """The row does not want its path for now; an outage that nobody sees any more is over."""
        self._nobody_left(self.dials.leave(row.session_id))

    def _nobody_left(self, path: PathKey | None) -> None:
        if path is not None:
            self.tell_outages(self.outages.came_back(path, self.dials.paths_in_use, self._clock()))

    def account_for_fd(self, row: Row) -> None:
        """A state that neither has nor soon wants a connection gives its descriptor to the next in line."""
        capacity = self.options.fd_capacity
        if capacity is None or row.state in OPEN_STATES or row.state is State.BACKOFF or row.live:
            return
        self.slots.discard(row.session_id)
        if self.fd_waiting and len(self.slots) < capacity:
            best = max(self.fd_waiting, key=lambda waiting: self.rows[waiting].last_active_unix_ms)
            self.wait(self.rows[best], self._clock(), self.rows[best].reason)
        if not self.fd_waiting:
            self.end_incident("fd_limit", "")

    def request_dial(self, row: Row, priority: Priority) -> None:
        """A row in `backoff` wants a connection now."""
        now = self._clock()
        session_id = row.session_id
        if not linking.may_dial(row, now):
            self.park(row, linking.EXPIRED)
            return
        if row.history.confirming and priority is not Priority.FORCED:
            until = self.logouts.until
            if until is not None and not self.logouts.may_confirm(session_id, now):
                self.suspend(row, max(until, now) + self.rng.uniform(1.0, 60.0), row.reason, keep_facts=True)
                return
        capacity = self.options.fd_capacity
        if capacity is not None and session_id not in self.slots:
            if len(self.slots) >= capacity:
                self.suspend(row, now + self.policy.fd_retry_s, FD_LIMIT)
                row.hold = None
                self.fd_waiting[session_id] = None
                self.raise_incident(
                    "fd_limit", "", "critical", "more sessions than the file-descriptor limit holds; raise it"
                )
                return
            self.slots.add(session_id)
        self.lift(row, replace(row.history, breaker=row.history.breaker.attempted()))
        self.join_dials(row)
        if not row.live:  # else the `closed` event of the old connection asks again
            self.dials.want(session_id, priority, row.last_active_unix_ms, now)

    def dial_allowed(self, now: float, until: float) -> bool:
        """Open what the limiter lets through. False when it was `until` before all were."""
        while (session_id := self.dials.take(now)) is not None:
            self.has_dialled = True
            self.dial(self.rows[session_id], now)
            if self._clock() >= until:
                return False
        return True

    def dial(self, row: Row, now: float) -> None:
        """Open the row's next connection."""
        session_id, number = row.session_id, row.reserved or row.connection + 1
        before, row.connection, row.reserved = row.connection, number, None
        row.live, row.phase, row.closing, row.online_at = True, "dialling", None, None
        row.version, row.dialled_at = self.dials.gate.version, now
        row.resumed = self.options.resume and now >= self.resume_rests_until
        row.retry_at = row.hold = None
        self.move(row, Trigger.DIAL, row.reason)
        proxy = row.proxy or self.options.proxy
        try:
            self.engine.open(
                session_id,
                number,
                version=row.version,
                proxy=proxy,
                resume=row.resumed,
                pair=not row.is_linked,
            )
        except ValueError as error:
            row.live, row.phase = False, None
            self.dials.ended(session_id, "stopped", None, now)
            row.detail = str(error)[:200]
            self.park(row, "proxy_invalid")
        except engine_full_error():
            row.live, row.phase = False, None
            row.connection, row.reserved = before, number  # it did not come to be
            self.dials.ended(session_id, "stopped", None, now)
            self.wait(row, now + FULL_RETRY_S, row.reason)
            self._note_full(now)
        except RuntimeError as error:  # the engine still has a connection: we lost count of it
            log.error(
                "reconnect impossible: the engine has a connection", session=session_id, error=str(error)
            )
            row.live, row.phase = False, None
            self.dials.ended(session_id, "stopped", None, now)
            self.suspend(row, now + self.policy.fd_retry_s, CLOSE_STUCK)
            row.hold = None
            self.raise_incident("stuck_close", session_id, "critical", STUCK_CLOSE)
        else:
            if self._full_since is not None:
                self._full_since = None
                self.end_incident(ENGINE_FULL, "")
            if number > 1 or row.is_dropped:
                log.info(
                    "session reconnecting", session=session_id, connection=number, attempt=row.shown_attempt
                )
                self.publish("session.reconnecting", row, attempt=row.shown_attempt)

    def _note_full(self, now: float) -> None:
        """The engine refuses dials because its events wait to be drained."""
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since >= FULL_LASTS_S:
            lasts_s = now - self._full_since
            text = f"the engine has had no room for a dial for {lasts_s:.0f} s: too many events wait"
            self.raise_incident(ENGINE_FULL, "", "critical", text)

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

    def give_up(self, row: Row, ending: Ending, now: float) -> None:
        """Close a connection of our own accord and let the policy judge it as `ending` once it is gone."""
        self.close_live(row, Closing("rebuilt", now, ending))
        self.rest(row)
        row.retry_at, row.hold = now, None
        self.move(row, Trigger.QUEUE, ending.reason)

    def rebuild(self, row: Row, why: str) -> bool:
        """Give one deaf or stuck session a new connection. False when that must not be done now.

        At most one such action per session and period, the period doubling while it does not help; none at
        all while the engine, the store or a large part of the fleet is in trouble.
        """
        now = self._clock()
        if (
            row.state not in (State.ONLINE, State.DEGRADED)
            or row.closing is not None
            or row.online_at is None
        ):
            return False
        if any(self.incidents.is_open(kind) for kind in SICK_FLEET):
            return False
        if not row.history.may_rebuild(now, self.policy):
            return False
        row.history = row.history.rebuilt(now)
        log.warning("session rebuilt: reconnect", session=row.session_id, probe=why)
        self.give_up(row, Ending("rebuilt", "online", None, now - row.online_at), now)
        return True

    def breaker_changed(self, row: Row, before: Breaker) -> None:
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

    def lift(self, row: Row, history: History) -> None:
        """What is remembered changes by a wish of ours, not by the end of a connection."""
        before, row.history = row.history.breaker, history
        self.breaker_changed(row, before)
        self.dirty.add(row.session_id)
