"""What a person with a phone in his hand may ask: a QR code, a pairing code, another device.

`Phones` stands beside the `Supervisor` and waits, where that one does not: for the server to hand out a code,
for the store to make room.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from runner.engine import set_device_aside
from runner.errors import RateLimitedError, RefusedError, UnknownSessionError
from runner.session import State
from runner.supervisor import linking

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.supervisor.machine import Machine
    from runner.supervisor.row import Row

log = structlog.get_logger()

SHOWN_WITHIN_S: Final = 30.0
"""For the server to hand out a code: a dial, a handshake, an answer. Whoever asks waits no longer."""
CODE_EVERY_S: Final = 30.0
"""Between two pairing codes of a session: the server counts them against the phone number."""
_ASK: Final = "ask for codes with: python -m runner pair ID, or POST /api/sessions/ID/pair"
_NO_CODE: Final = {
    "too_many": "three codes were made on this connection; scan the QR code, or ask again in some minutes",
    "spent": "the code was typed wrongly too often; ask for another",
    "refused": "the server refuses a code for this number; scan the QR code, or try again in some minutes",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that is good for a while. Whoever has it can link the session with a phone."""

    text: str = field(repr=False)
    expires_at_unix_ms: int
    left: int = 0
    """How many follow."""


class Phones:
    """Links sessions with phones. Use it from the Trio thread that runs the supervisor."""

    def __init__(self, machine: Machine, wake: Callable[[], None]) -> None:
        self._machine = machine
        self._wake = wake

    async def pair(self, session_id: str) -> None:
        """Somebody is there: show codes for a while. Idempotent while they are shown.

        The device of a session that was unlinked goes to the archive first.

        Raises:
            UnknownSessionError: there is no such session.
            RefusedError: a phone is linked with it.
            StoreFailedError: the old device could not be moved.
        """
        row = self._machine.row(session_id)
        if row.is_linked:
            await self._make_room(row)
        linking.begin(self._machine, row)
        self._wake()

    async def _make_room(self, row: Row) -> None:
        why = row.unlinked_because
        if why is None or row.live:
            raise RefusedError(
                "linked",
                f"session {row.session_id!r} is linked with a phone and {row.state}",
                "log it out first (python -m runner logout ID), or give the new one another id",
            )
        await trio.to_thread.run_sync(set_device_aside, self._machine.store, row.session_id, why)
        log.info("unlinked device moved to the archive", session=row.session_id)
        row.is_linked = row.is_archived = False
        row.me = None

    async def qr(self, session_id: str, wait_s: float = SHOWN_WITHIN_S) -> Shown:
        """The QR code to scan now; waits for the first one.

        Raises:
            UnknownSessionError: there is no such session.
            RefusedError: nobody asked for one, it is linked already, or none came.
        """
        machine = self._machine
        with trio.move_on_after(wait_s):
            while True:
                row, asked = self._asked(session_id)
                if asked.qr is not None and asked.qr_until > machine.now() and row.state is State.PAIRING:
                    return Shown(asked.qr, self._unix_ms(asked.qr_until), asked.qr_left)
                await asked.changed.wait()
        raise RefusedError(
            "no_qr", f"no QR code for session {session_id!r} yet: it is {row.state}", "try again in a moment"
        )

    async def code(self, session_id: str, phone: int) -> Shown:
        """A code to type into the phone with this number; begins as `pair` does when nobody has.

        Raises:
            UnknownSessionError: there is no such session.
            RefusedError: it is linked already, or the server gave no code.
            RateLimitedError: a code was made a moment ago.
        """
        machine = self._machine
        row = machine.row(session_id)
        if row.linking is None:
            await self.pair(session_id)
        await self.qr(session_id)  # before that the server does not know the device
        row, asked = self._asked(session_id)
        since_s = machine.now() - asked.code_asked_at
        if since_s < CODE_EVERY_S:
            raise RateLimitedError(
                f"a code for session {session_id!r} was made {since_s:.0f} s ago", CODE_EVERY_S - since_s
            )
        asked.ask_code(machine.now())
        machine.engine.link_by_code(session_id, row.connection, phone)
        with trio.move_on_after(SHOWN_WITHIN_S):
            while asked.code is None and asked.no_code is None:
                await asked.changed.wait()
                row, asked = self._asked(session_id)
        if asked.code is not None:
            return Shown(asked.code, self._unix_ms(asked.code_until))
        why, number = asked.no_code or ("refused", None)
        said = f"no pairing code for session {session_id!r}: {why}" + (f" ({number})" if number else "")
        raise RefusedError(f"code_{why}", said, _NO_CODE.get(why, ""))

    def _asked(self, session_id: str) -> tuple[Row, linking.Linking]:
        row = self._machine.rows.get(session_id)
        if row is None or row.is_removed:
            raise UnknownSessionError(session_id)
        if row.is_linked:
            raise RefusedError("linked", f"session {session_id!r} is linked with a phone and {row.state}")
        if row.linking is not None:
            return row, row.linking
        raise RefusedError(row.reason or linking.NOT_LINKED, f"session {session_id!r} is {row.state}", _ASK)

    def _unix_ms(self, at: float) -> int:
        return self._machine.unix_ms() + round((at - self._machine.now()) * 1000)
