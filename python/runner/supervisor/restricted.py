"""Accounts that WhatsApp does not let write to whoever has not written to them: told, counted, ended by time.

The server says so with the number 463, for one text at a time, and never says when it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from runner.session import RESTRICTED
from runner.supervisor.deadlines import Kind

if TYPE_CHECKING:
    from runner.supervisor.machine import Machine
    from runner.supervisor.row import Row

log = structlog.get_logger()

LASTS_S: Final = 3600.0
"""From the last refusal until the session counts as free again."""


def refused(machine: Machine, row: Row) -> None:
    """A text of this session was refused with `RESTRICTED`. Told once, however often that happens."""
    machine.deadlines.set(row.session_id, Kind.RESTRICTED, machine.now() + LASTS_S)
    if row.session_id in machine.restricted:
        return
    machine.restricted.add(row.session_id)
    machine.touched.add(row.session_id)
    log.warning("account restricted", session=row.session_id, code=RESTRICTED)
    machine.publish("session.restricted", row, code=RESTRICTED)


def free(machine: Machine, session_id: str) -> None:
    """It was not refused for a while, or is gone. What is not restricted stays so."""
    machine.deadlines.clear(session_id, Kind.RESTRICTED)
    if session_id in machine.restricted:
        machine.restricted.discard(session_id)
        machine.touched.add(session_id)
