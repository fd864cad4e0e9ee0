"""From the end of a connection to what the row does next: the policy's answer, and what the fleet learns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

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
from runner.reconnect.history import Hold
from runner.reconnect.limiter import Priority
from runner.reconnect.table import Fault, Verdict, is_path_failure, rule_for
from runner.reconnect.version import format_version
from runner.session import State
from runner.supervisor import linking
from runner.supervisor.deadlines import Kind
from runner.supervisor.dialling import CLOSE_STUCK, Dialling

if TYPE_CHECKING:
    from runner.engine import EngineEvent
    from runner.reconnect.path import PathKey
    from runner.reconnect.version import Version
    from runner.supervisor.row import Closing, Row

log = structlog.get_logger()


def _delay_of(decision: Decision, now: float) -> dict[str, int]:
    """For the log line: how long nothing will be tried, where that is known."""
    match decision:
        case RetryAfter(delay_s):
            return {"delayMs": round(delay_s * 1000)}
        case Suspend(until):
            return {"delayMs": round((until - now) * 1000)}
        case _:
            return {}


LOGOUT: Final = "logged_out_by_request"
LOGOUT_UNCONFIRMED: Final = "logout_unconfirmed"
UNLINKED: Final = 401
RESTART: Final = "stream_restart_required"


class Endings(Dialling):
    """Judges ends. `gone` is the one place where a row stops having a live connection."""

    def gone(
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
            row.last_active_unix_ms = self.unix_ms()
            row.is_dropped = True
        ending = Ending(
            reason,
            phase,
            float(event.expire_s) if event is not None and event.expire_s is not None else None,
            None if online_at is None else now - online_at,
        )
        if reason == "session_panicked":
            log.error(
                "session panicked: it is connected anew",
                session=session_id,
                connection=row.connection,
                detail=event.detail if event is not None else None,
            )
        if reason == LOGOUT_UNCONFIRMED:
            closing = self._unconfirmed(row, closing, code)
        if closing is not None and not rule_for(reason).refuses_force:
            ending = closing.ending or Ending(closing.reason, phase, None, ending.online_s)
        if self.dials.passed_login(session_id, phase):
            self.path_is_good(row, now)
        outage = self.dials.ended(session_id, ending.reason, ending.phase, now)
        if outage is not None:
            log.warning("reconnect: path is down, one canary dials", path=str(outage), reason=ending.reason)
            in_use = self.dials.paths_in_use
            self.tell_outages(self.outages.went_down(outage, ending.reason, in_use, now))
        self.dirty.add(session_id)
        if row.is_removed or (self.is_stopping and reason == "shutdown"):
            self.account_for_fd(row)
            return
        self._follow(row, closing, ending, code, event, now, was_online=online_at is not None)

    def _follow(
        self,
        row: Row,
        closing: Closing | None,
        ending: Ending,
        code: int | None,
        event: EngineEvent | None,
        now: float,
        *,
        was_online: bool,
    ) -> None:
        """What the row does next: as the policy judges, or as was wished when the close was asked for."""
        if row.has_just_linked:
            row.has_just_linked = False
            if closing is None and ending.reason == RESTART:
                self.wait(row, now, None)  # as agreed: the device logs in on a connection of its own
                return
        if closing is None or closing.ending is not None or rule_for(ending.reason).refuses_force:
            row.code, row.detail = code, event.detail if event is not None else None
            self._judge(row, ending, now, online=was_online)
        elif closing.reason == LOGOUT:
            self.log_out(row, closing.reason)
        elif row.state in (State.BACKOFF, State.SUSPENDED):  # forced, restarted, or freed after being stuck
            self._after_close(row, now)
        else:
            self.account_for_fd(row)

    def _unconfirmed(self, row: Row, closing: Closing | None, code: int | None) -> Closing | None:
        """What is left of a wish to unlink. A 401 in answer is a confirmation of another kind; anything else
        leaves the device as it was, and wanted."""
        if closing is None or closing.reason != LOGOUT or code == UNLINKED:
            return closing
        row.desired = True
        return None

    def _after_close(self, row: Row, now: float) -> None:
        """The connection that was in the way is gone; go on with what was wanted."""
        if row.state is State.SUSPENDED and row.reason != CLOSE_STUCK:
            return
        if row.reserved is None and row.retry_at is not None and row.retry_at > now:
            return  # it sits out a delay
        self.wait(row, now, row.reason)
        if row.reserved is not None and row.state is State.BACKOFF:
            self.request_dial(row, Priority.FORCED)

    def _release_delayed(self, path: PathKey, now: float) -> None:
        """Dial those that still sit out a delay which the outage gave them before it was known as one."""
        for session_id in self.dials.users(path):  # never all rows: with a path each, all of them come back
            row = self.rows[session_id]
            is_delayed = row.state is State.BACKOFF and not self.dials.is_waiting(session_id)
            if is_delayed and row.path == path and rule_for(row.reason or "").fault is Fault.PATH:
                self.wait(row, now, row.reason)

    def path_is_good(self, row: Row, now: float) -> None:
        """The dial got through to the server; when that ends an outage, everybody on the path may go."""
        dialled = self.dials.dialled_path(row.session_id)
        if dialled is not None:
            self.outages.dialled(dialled, now)
        path = self.dials.reached_login(row.session_id, now)
        if path is not None:
            log.info("reconnect: path is good again", path=str(path))
            self.tell_outages(self.outages.came_back(path, self.dials.paths_in_use, now))
            self._release_delayed(path, now)

    def _judge(self, row: Row, ending: Ending, now: float, *, online: bool) -> None:
        """An end that nobody asked for: ask the policy, tell the fleet, move the row."""
        before = row.history
        if online and self._is_mass_drop(row, ending, now):
            ending = replace(ending, is_mass=True)
        path = self.dials.path(row.session_id)
        if is_path_failure(ending.reason, ending.phase) and path is not None and path.is_open:
            decision: Decision = RetryNow()  # the path breaker holds it; its own history has no part in this
        else:
            decision, row.history = decide(ending, row.history, self.policy, now, self.rng)
        self._tell_fleet(row, ending, now)
        self.breaker_changed(row, before.breaker)
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
            **_delay_of(decision, now),
            breaker=row.history.breaker.state.value,
        )
        self._apply(row, decision, ending.reason, now)

    def _apply(self, row: Row, decision: Decision, reason: str, now: float) -> None:
        match linking.bounded(row, decision, reason, now):
            case RetryNow():
                self.wait(row, now, reason)
            case RetryAfter(delay_s):
                self.wait(row, now + delay_s, reason)
            case Suspend(until):
                self.suspend(row, until, reason, keep_facts=True)
            case Park(why):
                self.park(row, why)
            case LoggedOut():
                self.log_out(row, reason)
            case AwaitVersion():
                self._reject_version(row, now)
            case Stay():  # a request's reason without our request: not expected, and no cause to hurry
                self.wait(row, now + self.policy.base_delay_s, reason)

    def _remember_hold(self, row: Row, reason: str, decision: Decision) -> None:
        """A stopped session learns of a ban or a parking from its last connection: for the next start."""
        match linking.bounded(row, decision, reason, self._clock()):
            case Suspend(until):
                row.hold, row.reason = Hold("suspended", until), reason
            case Park(why):
                row.hold, row.reason = Hold("parked", None), why
            case LoggedOut():
                row.hold, row.reason = Hold("logged_out", None), reason
                self.archive_due.append(row.session_id)
            case _:
                pass
        self.account_for_fd(row)

    def _is_mass_drop(self, row: Row, ending: Ending, now: float) -> bool:
        """Whether this drop is one of many; those before it, which nobody could know, wait in `forgiving`."""
        if rule_for(ending.reason).verdict is Verdict.OPERATOR:
            return False
        self.dials.gate.doubt(now)
        together = self.mass.dropped(row.session_id, len(self.rows), now)
        self.forgiving.extend(other for other in together if other != row.session_id)
        return row.session_id in together

    def forgive(self, until: float) -> bool:
        """What mass drops took with them counts against nobody. False when `until` came before the end.

        The drop that makes a mass of the two thousand before it must not hold everybody up for them.
        """
        while self.forgiving:
            self._forgive(self.rows.get(self.forgiving.popleft()), self._clock())
            if self._clock() >= until:
                return not self.forgiving
        return True

    def _tell_fleet(self, row: Row, ending: Ending, now: float) -> None:
        session_id, verdict = row.session_id, rule_for(ending.reason).verdict
        if verdict is Verdict.RATE_LIMITED:
            self.dials.limiter.slow_down(now)
        if verdict is Verdict.CONFIRM and self.logouts.logged_out(session_id, len(self.rows), now):
            self.raise_incident(
                "fleet_logout",
                "",
                "critical",
                "many sessions were unlinked together; no login confirms it until the hold ends",
            )
            self._hold_confirms(now)
        if ending.reason == "resume_failed":
            self.resume_rests_until = now + self.policy.resume_rest_s
            until_ms = self.unix_ms() + round(self.policy.resume_rest_s * 1000)
            self.store.put_meta("resume_rests_until", str(until_ms))
            log.warning("resumed handshakes rest for a day", reason=ending.reason)

    def _forgive(self, row: Row | None, now: float) -> None:
        """A drop was part of a mass drop: it does not count as this session's flapping."""
        if row is None:
            return
        row.history = row.history.flap_forgiven()
        breaker = row.history.breaker
        fresh = breaker.opened_at is not None and now - breaker.opened_at <= self.policy.mass_drop_window_s
        if row.state is State.SUSPENDED and breaker.is_open and fresh:
            closed = Breaker(failures=breaker.failures).forgiven()
            row.history = replace(row.history, breaker=closed)
            self.wait(row, now, row.reason)

    def _hold_confirms(self, now: float) -> None:
        until = self.logouts.until
        for other in self.rows.values():
            if (
                until is not None
                and other.history.confirming
                and other.state is State.BACKOFF
                and not other.live
            ):
                self.suspend(other, until + self.rng.uniform(1.0, 60.0), other.reason, keep_facts=True)

    def release_confirms(self, now: float) -> None:
        self.end_incident("fleet_logout", "")
        for other in self.rows.values():
            if other.history.confirming and other.state is State.SUSPENDED:
                self.wait(other, now, other.reason)

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
        again_at = gate.retry_at if gate.retry_at is not None else now + self.policy.version_retry_s
        self.await_version(row, again_at)

    def await_version(self, row: Row, until: float) -> None:
        self.suspend(row, until, "failure_client_outdated", keep_facts=True)
        row.hold = None
        self.outdated.add(row.session_id)

    def on_version(self, found: Version | None) -> None:
        """The answer of a refresh of the client version; None when the endpoint did not say."""
        gate, now = self.dials.gate, self._clock()
        before = gate.version
        if found is not None:
            self.store.put_meta("client_version", gate.to_json_of(found, self.unix_ms()))
        if not gate.refreshed(found, now):
            log.warning("reconnect: no newer client version is known", version=format_version(before))
            return
        if gate.version != before:
            log.info("reconnect: client version refreshed", version=format_version(gate.version))
        self.release_outdated(now)

    def release_outdated(self, now: float) -> None:
        for session_id in sorted(self.outdated):
            row = self.rows.get(session_id)
            if row is not None and row.desired and row.state in (State.SUSPENDED, State.PARKED):
                self.wait(row, now, row.reason)
        self.outdated.clear()

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
            self.release_outdated(self._clock())
