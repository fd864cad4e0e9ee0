"""What an exception of ours ends: the connection of the session that it was about, and nothing else.

A bug in one row must not take thousands of others down. The row is brought to a state that is defined, by the
ordinary path: its connection is closed and the policy judges `session_fault`, which feeds the session's
breaker, so a bug that comes again slows down as any failure does. What cannot be brought to a defined state
raises again and ends the process: docs/decisions/0005-what-a-panic-ends.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from runner.reconnect.decide import Ending
from runner.reconnect.table import SESSION_FAULT, refuses_force
from runner.session import State
from runner.supervisor.deadlines import Kind
from runner.supervisor.endings import Endings
from runner.supervisor.row import Closing

if TYPE_CHECKING:
    from runner.engine import EngineEvent
    from runner.supervisor.row import Row

log = structlog.get_logger()

TRACEBACK_EVERY_S: Final = 1.0
"""A bug that hits the whole fleet at once is told in full once, and by a line for each of the others."""
AT_REST: Final = (State.STOPPED, State.PARKED, State.LOGGED_OUT)


class Faults(Endings):
    """Confines exceptions to the row that they were about."""

    _told_in_full_at = float("-inf")

    def fault(self, row: Row, during: str, error: Exception, event: EngineEvent | None = None) -> None:
        """An exception of ours left `row` in the middle of something; called from its handler."""
        now = self._clock()
        self.faults_total += 1
        in_full = now - self._told_in_full_at >= TRACEBACK_EVERY_S
        if in_full:
            self._told_in_full_at = now
        log.error(
            "session fault: reconnect",
            session=row.session_id,
            during=during,
            state=row.state.value,
            phase=row.phase,
            error=type(error).__name__,
            exc_info=error if in_full else None,
        )
        self.faulty[row.session_id] = None
        text = f"exceptions of ours ended connections of {len(self.faulty)} sessions; see `session fault`"
        self.raise_incident(SESSION_FAULT, "", "critical", text)
        self.incidents.retell(SESSION_FAULT, "", text)
        self.dirty.add(row.session_id)
        if row.live:
            self._close_faulty(row, now)
        else:
            self._settle_faulty(row, event, now)

    def faultless(self, session_id: str) -> None:
        """The session is well again, or at rest; the last one ends the incident."""
        if session_id in self.faulty:
            del self.faulty[session_id]
            if not self.faulty:
                self.end_incident(SESSION_FAULT, "")

    def _close_faulty(self, row: Row, now: float) -> None:
        """The connection may still be open: close it. If its end is lost, `_close_overdue` finds out."""
        if row.closing is None and row.desired:
            online_s = None if row.online_at is None else now - row.online_at
            self.give_up(row, Ending(SESSION_FAULT, row.phase, None, online_s), now)
        elif row.closing is None:
            self.close_live(row, Closing("stopped", now))
        self.deadlines.set(row.session_id, Kind.CLOSE, now + self.options.deadlines.closing_s)

    def _settle_faulty(self, row: Row, event: EngineEvent | None, now: float) -> None:
        """No connection: give back what it held, and see that the row waits for something."""
        session_id = row.session_id
        self.dials.ended(session_id, SESSION_FAULT, None, now)
        if row.closed is not None:
            row.closed.set()
            row.closed = None
        reason = event.reason if event is not None else None
        if row.state in AT_REST or not row.desired or row.is_removed:
            self.account_for_fd(row)
        elif reason is not None and refuses_force(reason) and row.reason != reason:
            self.park(
                row, reason
            )  # what the policy would have said is lost, and a guess could cost the number
        elif not self._waits(row):
            try:
                self._judge(row, Ending(SESSION_FAULT), now, online=False)
            except Exception:  # the judging itself is what fails: one try each breaker time-out
                log.exception("session fault again: suspended", session=session_id)
                self.suspend(row, now + self.policy.breaker_timeout_s, SESSION_FAULT)

    def _waits(self, row: Row) -> bool:
        """Whether something will move the row on."""
        if row.state not in (State.BACKOFF, State.SUSPENDED):
            return False
        return self.dials.is_waiting(row.session_id) or self.deadlines.has(row.session_id, Kind.RETRY)
