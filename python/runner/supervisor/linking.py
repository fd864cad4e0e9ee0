"""Sessions whose device no phone has linked yet: how long somebody is there to do it, and what he sees.

An unlinked session never dials by itself. Each request (`begin`) is good for `BUDGET_S` of dialling; what the
server then shows lasts as long as the server says, and afterwards the session is parked and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from runner.reconnect.decision import AwaitVersion, Decision, Park, RetryAfter, RetryNow, Stay
from runner.reconnect.history import History, Hold
from runner.reconnect.table import Verdict, rule_for
from runner.session import State, Trigger
from runner.supervisor.deadlines import Kind

if TYPE_CHECKING:
    from runner.engine import EngineEvent
    from runner.supervisor.machine import Machine
    from runner.supervisor.row import Row

log = structlog.get_logger()

BUDGET_S: Final = 240.0
"""No dial so long after the request: whoever looked at the screen has left."""
NOT_LINKED: Final = "not_linked"
EXPIRED: Final = "pairing_expired"
AT_REST: Final = frozenset({NOT_LINKED, EXPIRED})
"""Why an unlinked session is parked when nothing is wrong."""
UNDER_WAY: Final = frozenset({State.BACKOFF, State.SUSPENDED, State.CONNECTING, State.PAIRING})
"""While somebody is there."""


@dataclass(slots=True, eq=False)
class Linking:
    """One request to link a phone. Times are monotonic."""

    until: float
    """No dial after it."""
    qr: str | None = field(default=None, repr=False)
    qr_until: float = 0.0
    qr_left: int = 0
    code: str | None = field(default=None, repr=False)
    code_until: float = 0.0
    code_asked_at: float = float("-inf")
    no_code: tuple[str, int | None] | None = None
    """Why there is no code: the engine's word, and the server's number."""
    changed: trio.Event = field(default_factory=trio.Event)
    """Set, and replaced, whenever something above or the session's state has changed."""

    def ask_code(self, now: float) -> None:
        """A code is asked for: what was known of the one before is forgotten."""
        self.code_asked_at, self.code, self.no_code = now, None, None

    def notify(self) -> None:
        """Let those look again who wait for a change."""
        self.changed.set()
        self.changed = trio.Event()


def begin(machine: Machine, row: Row) -> None:
    """Somebody is there with a phone. Asking again while codes are shown changes nothing."""
    if row.linking is not None and row.state in (State.BACKOFF, State.CONNECTING, State.PAIRING):
        return
    row.desired, row.hold, row.history = True, None, History()
    row.linking = Linking(machine.now() + BUDGET_S)
    row.code = row.detail = None
    log.info("pairing asked for", session=row.session_id)
    if row.live:  # the connection before is on its way out; the next one begins when it is gone
        machine.move(row, Trigger.QUEUE, None)
        row.retry_at = machine.now()
    else:
        machine.wait(row, machine.now(), None)


def rest(machine: Machine, row: Row) -> None:
    """An unlinked session as it comes out of the store: nobody is there."""
    row.hold = Hold("parked", None)
    machine.move(row, Trigger.PARK, row.reason if row.reason in AT_REST else NOT_LINKED)


def may_dial(row: Row, now: float) -> bool:
    """Whether a connection of this session makes sense now."""
    return row.is_linked or (row.linking is not None and now < row.linking.until)


def bounded(row: Row, decision: Decision, reason: str, now: float) -> Decision:
    """What the policy decided, as far as somebody is there to see it."""
    if row.is_linked:
        return decision
    until = row.linking.until if row.linking is not None else now
    if rule_for(reason).verdict is Verdict.CONFIRM:
        return Park(reason)  # a login is confirmed by another; here there was none
    match decision:
        case RetryNow() if now < until:
            return decision
        case RetryAfter(delay_s) if now + delay_s < until:
            return decision
        case RetryNow() | RetryAfter():
            return Park(EXPIRED)
        case Park() | Stay() | AwaitVersion():
            return decision
        case _:  # a ban, a rate limit, a login that was refused: it is told, and waits for nobody
            return Park(reason)


def show(machine: Machine, row: Row, event: EngineEvent) -> None:
    """The engine has something to show, or nothing any more."""
    linking, now = row.linking, machine.now()
    if linking is None or row.closing is not None:
        return
    match event.kind:
        case "qr":
            linking.qr, linking.qr_until = event.qr, now + (event.ttl_s or 0.0)
            linking.qr_left = event.qr_left or 0
            if row.state is State.CONNECTING:
                machine.move(row, Trigger.PAIR, None)
        case "pairing_code":
            linking.code, linking.code_until = event.pairing_code, now + (event.ttl_s or 0.0)
        case _:
            linking.no_code, linking.code = (event.reason or "refused", event.code), None
            log.warning("no pairing code", session=row.session_id, reason=event.reason, code=event.code)
    if row.state is State.PAIRING:
        machine.deadlines.set(row.session_id, Kind.STATE, now + machine.options.deadlines.pairing_s)
    if event.kind == "qr":
        expires_at = machine.unix_ms() + round((event.ttl_s or 0.0) * 1000)
        machine.publish("session.qr", row, qr=event.qr, expiresAt=expires_at, left=linking.qr_left)
    linking.notify()


def linked(machine: Machine, row: Row) -> None:
    """A phone has linked the device, and the store has it."""
    if row.is_linked:
        return
    row.is_linked, row.has_just_linked = True, True
    row.is_archived, row.history, row.hold = False, History(), None
    log.info("session linked", session=row.session_id, connection=row.connection)
    machine.publish("session.status", row)
    machine.mark_dirty(row)
    if row.linking is not None:
        row.linking.notify()
