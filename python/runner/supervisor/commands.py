"""What an operator's wish does to a row. Synchronous; `core.Supervisor` checks, logs and wakes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.reconnect.breaker import Breaker
from runner.reconnect.decide import RETRIES_EXHAUSTED
from runner.reconnect.history import History, Hold
from runner.reconnect.limiter import Priority
from runner.reconnect.table import EXPORTED, Verdict, rule_for
from runner.session import OPEN_STATES, State, Trigger
from runner.supervisor import linking, restricted
from runner.supervisor.row import Closing

if TYPE_CHECKING:
    from runner.supervisor.machine import Machine
    from runner.supervisor.row import Row


def admit(machine: Machine, session_id: str, proxy: str | None, *, linked: bool = True) -> None:
    """A new row, or a known one with new credentials: what was held against the old ones is forgotten."""
    known = machine.rows.get(session_id)
    row = machine.new_row(session_id, proxy)
    if known is not None:
        row.connection = known.shown_connection
        row.proxy = proxy or known.proxy
        machine.join_path(row)
    row.is_linked = linked
    machine.resume_row(row)


def stop(machine: Machine, row: Row) -> None:
    """No connection and no attempt until `start`. What holds the row (a ban, a parking) is kept for then."""
    row.desired = False
    machine.mark_dirty(row)
    if row.state in (State.STOPPED, State.LOGGED_OUT):
        return
    if row.live:
        machine.close_live(row, Closing("stopped", machine.now()))
    machine.rest(row)
    row.reserved = None
    machine.leave_path(row)
    machine.move(row, Trigger.STOP, row.reason if row.hold is not None else None)
    machine.faultless(row.session_id)


def force(machine: Machine, row: Row) -> int:
    """A new connection from whatever state; returns its number. Asking again before it is dialled is free."""
    if not row.is_linked:
        linking.begin(machine, row)
    row.desired, row.hold = True, None
    if row.reserved is not None and row.state is State.BACKOFF:
        return row.reserved
    row.reserved = row.connection + 1
    if row.live:
        machine.close_live(row, Closing("forced", machine.now()))
    machine.rest(row)
    row.retry_at = machine.now()
    machine.move(row, Trigger.QUEUE, "forced", is_news=True)  # the number is
    machine.request_dial(row, Priority.FORCED)
    return row.reserved


def change_proxy(machine: Machine, row: Row, proxy: str | None) -> bool:
    """Another egress path. False when it is the one it has."""
    if proxy == row.proxy:
        return False
    row.proxy = proxy
    machine.join_path(row)
    if row.reserved is not None and row.state is State.BACKOFF and not row.live:
        machine.rest(row)  # a promised connection waits on the old path
        row.retry_at = machine.now()
        machine.request_dial(row, Priority.FORCED)
    elif (
        row.state in OPEN_STATES
        or row.state is State.BACKOFF
        or (row.state is State.PARKED and row.reason == "proxy_invalid")
    ):
        force(machine, row)
    return True


def reset(machine: Machine, row: Row, *, penalty: bool) -> None:
    """Close the breaker as far as one attempt; with `penalty` lift bans' and rate limits' waiting as well."""
    history = row.history
    waits_for_breaker = history.breaker.is_open
    breaker = history.breaker.attempted() if waits_for_breaker else Breaker()
    history = replace(history, breaker=breaker, failures=0, path_failures=0, exhausted=False)
    machine.lift(row, history.unpenalised() if penalty else history)
    penalised = rule_for(row.reason or "").verdict in (Verdict.BANNED_UNTIL, Verdict.RATE_LIMITED)
    match row.state:
        case State.SUSPENDED if waits_for_breaker or (penalised and penalty):
            machine.wait(row, machine.now(), row.reason)
        case State.BACKOFF if not history.confirming:
            machine.wait(row, machine.now(), row.reason)
        case State.PARKED if row.reason == RETRIES_EXHAUSTED:
            machine.wait(row, machine.now(), row.reason)
        case _:
            pass


def log_out(machine: Machine, row: Row) -> None:
    """Tell the server to unlink the device; the row follows when the connection is closed."""
    machine.close_live(row, Closing("logged_out_by_request", machine.now()), unlink=True)
    row.desired = False


def exported(machine: Machine, row: Row) -> None:
    """Another program has the device: what would dial it again by itself, or by accident, does not."""
    row.desired = False
    if row.state is State.LOGGED_OUT:  # as it was: nothing dials it
        return
    row.hold = Hold("parked", None)
    if row.state is State.STOPPED:
        row.reason = EXPORTED
        machine.mark_dirty(row)
        machine.publish("session.status", row)
    else:
        machine.park(row, EXPORTED)


def forget(machine: Machine, row: Row) -> None:
    """The row is removed and its connection is gone."""
    machine.rest(row)
    machine.leave_path(row)
    machine.faultless(row.session_id)
    restricted.free(machine, row.session_id)
    machine.deadlines.clear(row.session_id)
    machine.engine.forget(row.session_id)
    if machine.rows.get(row.session_id) is row:
        del machine.rows[row.session_id]
    machine.touched.add(row.session_id)
    row.history = History()
