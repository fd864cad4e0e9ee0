"""What states a session went through, and why: the last `MOST_ENTRIES` of each, for who asks.

Ten thousand idle sessions must not pay for it: a session keeps its past as one `bytes` of 19 bytes an entry,
about 90 bytes after a login; objects are made when somebody asks. It lives as long as the process.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.session import State

if TYPE_CHECKING:
    from runner.supervisor.row import Row

MOST_ENTRIES: Final = 50
MOST_SLUGS: Final = 4096
"""Reasons come from a table of a few dozen; beyond this one is written as `other`."""
_ENTRY: Final = struct.Struct("<QBHiI")
"""Unix ms, state, reason, code, connection."""
_STATES: Final = tuple(State)
_NUMBER_OF: Final = {state: number for number, state in enumerate(_STATES)}
_NO_CODE: Final = -(2**31)


@dataclass(frozen=True, slots=True)
class Entry:
    """A session came into a state, or its reason changed."""

    at_unix_ms: int
    state: State
    reason: str | None
    code: int | None
    connection: int

    def to_json(self) -> dict[str, object]:
        """As `GET /api/sessions/{id}/timeline` shows it."""
        return {
            "at": self.at_unix_ms,
            "state": self.state.value,
            "reason": self.reason,
            "code": self.code,
            "connection": self.connection,
        }


class Timeline:
    """Writes and reads the past of rows; knows the reasons by number."""

    def __init__(self) -> None:
        self._slugs: list[str | None] = [None, "other"]
        self._number_of: dict[str | None, int] = {None: 0, "other": 1}

    def note(self, row: Row, unix_ms: int) -> None:
        """Add what the row shows now; the oldest entry beyond the most goes."""
        code = _NO_CODE if row.code is None or abs(row.code) >= 2**31 else row.code
        entry = _ENTRY.pack(
            unix_ms, _NUMBER_OF[row.state], self._number(row.reason), code, row.shown_connection & 0xFFFF_FFFF
        )
        row.past = (row.past + entry)[-MOST_ENTRIES * _ENTRY.size :]

    def entries(self, row: Row) -> list[Entry]:
        """The past of a row, the oldest first."""
        return [
            Entry(at, _STATES[state], self._slugs[reason], None if code == _NO_CODE else code, connection)
            for at, state, reason, code, connection in _ENTRY.iter_unpack(row.past)
        ]

    def _number(self, slug: str | None) -> int:
        number = self._number_of.get(slug)
        if number is None:
            if len(self._slugs) >= MOST_SLUGS:
                return self._number_of["other"]
            number = self._number_of[slug] = len(self._slugs)
            self._slugs.append(slug)
        return number
