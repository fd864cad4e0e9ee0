"""The supervisor without its tasks: what each deadline and each event of the engine does to the rows.

Synchronous and driven from outside: `route` takes an event, `turn` does what is due and says when to come
back. The rules that hold whatever races:

- A row has at most one live connection. It is opened in `Dialling.dial` only, when no other is live; it
  stops being live in `Endings.gone` only, on its own `closed` event (or when the counters prove that event
  lost).
- An event of another connection than the live one changes nothing.
- Every dial goes through `Dials.take`. Every state that may not last has a deadline in the heap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from runner.counters import PHASE_CLOSED
from runner.engine import STEP_S, pending
from runner.envelope import Me
from runner.errors import EngineFailedError
from runner.reconnect.decide import Ending
from runner.reconnect.fleet import MassDrop
from runner.reconnect.history import Hold, from_json
from runner.reconnect.incidents import DISK_FULL, DISK_FULL_TEXT
from runner.reconnect.version import GateState
from runner.session import RESTRICTED, State, Trigger
from runner.supervisor import linking, restricted
from runner.supervisor.deadlines import Kind
from runner.supervisor.dialling import CLOSE_STUCK, STUCK_CLOSE
from runner.supervisor.faults import Faults
from runner.supervisor.row import Closing

if TYPE_CHECKING:
    from runner.counters import Reading
    from runner.engine import EngineEvent, StoredSession
    from runner.reconnect.history import Durable
    from runner.reconnect.policy import Policy
    from runner.supervisor.row import Row

log = structlog.get_logger()

SLICE_S: Final = 0.001
"""How long a turn goes on with one kind of work: the others, and other tasks, wait for it."""
DEADLINES_PER_TURN: Final = 512
"""One that is set anew for a time that has come must not keep the rest of the turn from happening."""
NEWS_TURNS: Final = 100
"""Turns for which deadlines wait until all news is in."""


def _true_now(durable: Durable, stored: StoredSession) -> Durable:
    """What was remembered of a session, corrected by what the store knows of its device."""
    if stored.quarantined is not None:
        return replace(durable, hold=Hold("parked", None), reason="device_quarantined")
    if stored.archived and durable.hold is None:
        return replace(durable, hold=Hold("logged_out", None), reason="failure_logged_out")
    if stored.jid is not None and durable.reason in linking.AT_REST:
        return replace(durable, hold=None, reason=None)  # linked by a process that could not say so any more
    return durable


def _write_down(row: Row, event: EngineEvent) -> None:
    """What changes nothing here, and is worth a line."""
    if event.kind == "keys_differ":
        log.warning(
            "the server had other keys: uploaded anew", session=row.session_id, had=event.detail or ""
        )
    elif event.kind == "record_unreadable":
        log.warning(
            "an imported record cannot be read: its contact is asked to begin anew",
            session=row.session_id,
            kind=event.detail or "",
        )


class Machine(Faults):
    """All sessions of this process. Not thread-safe: one Trio thread owns it."""

    _in_engine: Reading | None = None
    _news_turns = 0
    """What the engine said in this turn, if it was asked."""

    def load(self) -> None:
        """Take over what the store knows: rows with their durable state, the limiter's level, the version.

        Blocking (reads the store). The most recently active sessions come first at everything that is scarce.
        """
        now, unix_ms = self._clock(), self.unix_ms()
        meta = self.store.meta()
        problem = self.dials.limiter.restore(meta.get("limiter"), now, unix_ms)
        if problem is not None:
            log.warning("limiter state damaged", problem=problem)
        is_fresh = self.dials.gate.restore(meta.get("client_version"), now, unix_ms)
        if not is_fresh and not self.dials.gate.pinned:
            self.dials.gate.begin_refresh()
            self.refresh_wanted = True
        self._restore_resume_rest(meta.get("resume_rests_until"), now, unix_ms)
        found = []
        for stored in self.store.sessions():
            durable, problem = from_json(stored.policy, now, unix_ms, self.policy)
            if problem is not None:
                log.error("policy state damaged", session=stored.session_id, problem=problem)
            found.append((stored, _true_now(durable, stored)))
        found.sort(key=lambda entry: -entry[1].last_active_unix_ms)
        for stored, durable in found:
            row = self.new_row(stored.session_id, durable.proxy)
            row.desired, row.hold, row.history = durable.desired, durable.hold, durable.history
            row.reason, row.code, row.detail = durable.reason, durable.code, durable.detail
            row.connection, row.last_active_unix_ms = durable.connection, durable.last_active_unix_ms
            row.is_archived, row.is_linked = stored.archived, stored.jid is not None
            row.me = Me.of(stored.jid, None)  # the name is said with the login
            if durable.desired or (durable.hold is not None and durable.hold.state == "logged_out"):
                self.resume_row(row)  # unlinked is a fact, whatever the operator wishes
        log.info("sessions loaded", sessions=len(found), fd_waiting=len(self.fd_waiting))

    def _restore_resume_rest(self, text: str | None, now: float, unix_ms: int) -> None:
        if text is not None and text.isascii() and text.isdigit() and len(text) < 16:
            rest_s = (int(text) - unix_ms) / 1000
            if rest_s > 0:
                self.resume_rests_until = now + min(rest_s, self.policy.resume_rest_s)

    def resume_row(self, row: Row) -> None:
        """Bring a stopped row to where its hold says, or into the queue."""
        hold, now = row.hold, self._clock()
        if not row.is_linked:
            linking.rest(self, row)
            return
        match hold:
            case Hold("logged_out"):
                self.move(row, Trigger.LOG_OUT, row.reason)
            case Hold("parked"):
                self.move(row, Trigger.PARK, row.reason)
            case Hold("suspended", until) if until is not None and until > now:
                self.suspend(row, until, row.reason, keep_facts=True)
            case Hold("backoff", until) if until is not None:
                self.wait(row, until, row.reason)
            case _:
                self.wait(row, now, row.reason)

    def turn(self) -> float | None:
        """Do what is due; never waits. Returns when to come back (monotonic), or None: only on news.

        Deadlines are judged after all news is in: if this thread was blocked, the answer that a deadline
        waits for is in the outbox, and nothing has failed but our own punctuality.
        """
        now = self._clock()
        self._in_engine = None
        is_done = self._judge_deadlines(now)
        is_done &= self.forgive(self._clock() + SLICE_S)
        self.tell_outages(self.outages.due(now))
        self._look_at_version(now)
        is_done &= self.is_stopping or self.dial_allowed(now, self._clock() + SLICE_S)
        self.look_at_clock(now)
        self.save_bucket(now)
        is_done &= self.flush(self._clock() + SLICE_S)
        if not is_done:
            return now
        times = [self.deadlines.next_at(), self.dials.gate.retry_at, self.outages.next_at()]
        if not self.is_stopping:
            times += [self.dials.next_at(now), self.dials.gate.stale_at, self.clock_look_at]
        return min((at for at in times if at is not None), default=None)

    def _judge_deadlines(self, now: float) -> bool:
        """What is due, once there are no news that could have answered it. False when some is left."""
        due = self.deadlines.next_at()
        if due is None or due > now:
            return True
        if not self._has_all_news() and self._news_turns < NEWS_TURNS:
            self._news_turns += 1
            return False
        self._news_turns = 0
        until = self._clock() + SLICE_S
        for _ in range(DEADLINES_PER_TURN):
            popped = self.deadlines.pop_due(now)
            if popped is None:
                break
            row = self.rows.get(popped[0])
            if row is not None:
                try:
                    self._on_deadline(row, popped[1], now)
                except EngineFailedError:
                    raise
                except Exception as error:  # a bug in one row ends no other (docs/decisions/0005)
                    self.fault(row, f"deadline {popped[1]}", error)
            if self._clock() >= until:
                return False
        return True

    def _has_all_news(self) -> bool:
        until = self._clock() + STEP_S
        for event in pending(self.engine, self._clock, until):
            self.route(event)
        return self._clock() < until

    def dial(self, row: Row, now: float) -> None:
        """Open the row's next connection. An exception of ours costs that one dial."""
        try:
            super().dial(row, now)
        except EngineFailedError:
            raise
        except Exception as error:  # a bug in one row ends no other (docs/decisions/0005)
            self.fault(row, "dial", error)

    def _look_at_version(self, now: float) -> None:
        gate = self.dials.gate
        if gate.stale_at is not None and now >= gate.stale_at and not self.is_stopping:
            gate.reread(now)
            self.refresh_wanted = True
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
            case Kind.RESTRICTED:
                restricted.free(self, row.session_id)

    def _retry_due(self, row: Row, now: float) -> None:
        if not row.desired or row.state not in (State.BACKOFF, State.SUSPENDED):
            return
        if row.session_id in self.outdated and self.dials.gate.state is not GateState.OPEN:
            again_at = self.dials.gate.retry_at
            self.await_version(row, now + self.policy.version_retry_s if again_at is None else again_at)
            return
        if row.live:  # a close that never came; `_close_overdue` is on it
            return
        capacity = self.options.fd_capacity
        if row.session_id in self.fd_waiting and capacity is not None and len(self.slots) >= capacity:
            row.retry_at = now + self.policy.fd_retry_s
            self.deadlines.set(row.session_id, Kind.RETRY, row.retry_at)
            return
        self.wait(row, now, row.reason)

    def _close_overdue(self, row: Row, now: float) -> None:
        """The engine has not confirmed a close. Ask again; look for a lost event; never open beside it."""
        closing = row.closing
        if closing is None or not row.live:
            return
        if self._in_engine is None:  # once a turn: with each overdue row it would be all rows times all rows
            self._in_engine = self.engine.counters.refresh()
        current, place = self._in_engine, self.engine.counters.rows.get(row.session_id)
        # A copy from before we asked says nothing of what became of it.
        is_current = current.copied_at > closing.asked_at or not current.connections
        is_gone = (
            place is None
            or current.connections[place] != row.connection
            or current.phases[place] == PHASE_CLOSED
        )
        if is_gone and is_current:
            log.error("a closed event was lost", session=row.session_id, connection=row.connection)
            self.gone(row, closing.reason, None, None, None, now)
            return
        self.engine.close(row.session_id, row.connection, closing.reason)
        waits = self.options.deadlines
        if now - closing.asked_at >= waits.abort_s - 1e-6:
            self.raise_incident("stuck_close", row.session_id, "critical", STUCK_CLOSE)
            if row.state not in (State.STOPPED, State.LOGGED_OUT, State.PARKED):
                self.suspend(row, now + waits.abort_s, CLOSE_STUCK)
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
            self.park(row, linking.EXPIRED)
            return
        reason = "dial_timeout" if row.phase in (None, "dialling", "securing") else "login_timeout"
        self.give_up(row, Ending(reason, row.phase), now)

    def route(self, event: EngineEvent) -> None:
        """Apply one event of the engine. An exception of ours ends the connection it was about."""
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
        try:
            self._route_to(row, event)
        except EngineFailedError:
            raise
        except Exception as error:  # a bug in one row ends no other (docs/decisions/0005)
            self.fault(row, f"event {event.kind}", error, event)

    def _route_to(self, row: Row, event: EngineEvent) -> None:
        now = self._clock()
        match event.kind:
            case "phase":
                row.phase = event.phase
            case "path":
                row.phase = "authenticating"
                self.path_is_good(row, now)
            case "online":
                self._on_online(row, event, now)
            case "probe":
                self._on_probe(row, event, now)
            case "qr" | "pairing_code" | "no_pairing_code":
                self._on_pairing(row, event, now)
            case "linked":
                linking.linked(self, row)
            case "sent" if event.reason == "refused" and event.code == RESTRICTED:
                restricted.refused(self, row)
            case "closed":
                self.gone(row, event.reason or "failure_unknown", event.code, event.phase, event, now)
            case _:
                _write_down(row, event)

    def _on_store(self, event: EngineEvent) -> None:
        if event.healthy:
            self.end_incident("store_stalled", "")
            self.end_incident(DISK_FULL, "")
            return
        if self.store.health().disk_full:  # the cause before its effect, which would be told for itself
            self.raise_incident(DISK_FULL, "", "critical", DISK_FULL_TEXT)
        self.raise_incident("store_stalled", "", "critical", event.detail or "the store does not commit")

    def _on_online(self, row: Row, event: EngineEvent, now: float) -> None:
        self.path_is_good(row, now)
        session_id = row.session_id
        if self.dials.logged_in(session_id, now):
            self.end_incident("client_outdated", "")
            self.release_outdated(now)
        if row.closing is not None:  # it came too late: somebody wants this connection gone
            return
        row.phase, row.online_at, row.failing = "online", now, None
        row.me = Me.of(event.jid, event.push_name) or row.me
        row.last_active_unix_ms = self.unix_ms()
        row.code = row.detail = None
        row.retry_at = row.hold = None
        row.has_just_linked = False
        if row.is_archived:  # an operator's override was right: the device is linked
            self.archive_due.append(session_id)
        self.end_incident("stuck_close", session_id)
        before = row.reason
        self.move(row, Trigger.LOGIN, None)
        self.deadlines.set(session_id, Kind.STABLE, now + self.policy.stable_s)
        if row.history.confirming and self.logouts.logged_in(session_id):
            self.release_confirms(now)
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

    def _on_pairing(self, row: Row, event: EngineEvent, now: float) -> None:
        if event.kind == "qr" and self.dials.logged_in(row.session_id, now):  # the server took the version
            self.end_incident("client_outdated", "")
            self.release_outdated(now)
        linking.show(self, row, event)

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
        row.stable_since_unix_ms = self.unix_ms()
        self.faultless(row.session_id)
        before = row.history.breaker
        row.history = row.history.settled()
        self.breaker_changed(row, before)
        self.dirty.add(row.session_id)

    def overdue_s(self, row: Row, now: float) -> float:
        """How long ago something should have happened to the row and nothing did; 0 when all is in order."""
        if row.state is State.PAIRING:
            return 0.0  # a person is slow; there is a deadline for it
        if row.live and row.closing is None and row.online_at is None and row.dialled_at is not None:
            return max(0.0, now - row.dialled_at - self.options.deadlines.connecting_s)
        if row.state not in (State.BACKOFF, State.SUSPENDED) or row.live or row.retry_at is None:
            return 0.0
        if self.dials.is_waiting(row.session_id) or self.is_stopping:
            return 0.0  # the limiter, the path or the version holds it, and they have clocks of their own
        return max(0.0, now - row.retry_at)

    def kick(self, row: Row) -> None:
        """Health found a row that the scheduler forgot: a bug of ours, mended and reported."""
        log.error(
            "session forgotten by the scheduler: reconnect", session=row.session_id, state=row.state.value
        )
        if row.live:
            self._state_overdue(row, self._clock())
        else:
            self._retry_due(row, self._clock())

    def configure(self, policy: Policy) -> None:
        """Other numbers from now on; what already waits keeps its time."""
        self.policy = policy
        self.dials.configure(policy, self._clock())
        self.outages.configure(policy)
        self.mass, self.logouts = MassDrop(policy), self.logouts.with_policy(policy)
