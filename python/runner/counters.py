"""The counters of all sessions at one moment, as columns: one flat view a counter, one element a session.

Ten thousand objects every ten seconds cost one percent of a core, and as many bytes as the counters
themselves; columns cost a copy. A session keeps its row for as long as the engine knows it, so a column of
five minutes ago can be compared with one of now, row by row; `begun_at` says from when on a row's numbers are
its present owner's.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PHASE_CLOSED: Final = 7
"""In the column of phases: the place of `closed` in `_core.phases()`."""


class Columns(Protocol):
    """What is read of `_core.CounterColumns`, which documents it."""

    @property
    def copy_age_s(self) -> float: ...
    @property
    def changes(self) -> int: ...
    @property
    def online(self) -> int: ...
    @property
    def oldest_unanswered_age_s(self) -> float: ...
    @property
    def response_totals(self) -> list[int]: ...
    @property
    def births(self) -> bytes: ...
    @property
    def connections(self) -> bytes: ...
    @property
    def phases(self) -> bytes: ...
    @property
    def online_ages_s(self) -> bytes: ...
    @property
    def last_data_ages_s(self) -> bytes: ...
    @property
    def last_pong_ages_s(self) -> bytes: ...
    @property
    def pong_rtts_s(self) -> bytes: ...
    @property
    def pings_unanswered(self) -> bytes: ...
    @property
    def messages_received(self) -> bytes: ...
    @property
    def messages_undecrypted(self) -> bytes: ...
    @property
    def messages_sent(self) -> bytes: ...
    @property
    def sends_failed(self) -> bytes: ...
    @property
    def requests_failed(self) -> bytes: ...
    @property
    def stanzas_malformed(self) -> bytes: ...
    @property
    def responses(self) -> bytes: ...
    @property
    def response_sums_us(self) -> bytes: ...
    @property
    def response_buckets(self) -> bytes: ...
    def session_id(self, row: int) -> str | None: ...
    def totals(self) -> dict[str, float]: ...


def _view(data: bytes, code: str) -> memoryview:
    return memoryview(data).cast(code)  # type: ignore[call-overload, no-any-return]


class Reading:
    """One copy of the columns. Nothing in it changes any more."""

    __slots__ = (
        "at",
        "births",
        "changes",
        "connections",
        "copied_at",
        "last_data_ages_s",
        "last_pong_ages_s",
        "messages_received",
        "messages_sent",
        "messages_undecrypted",
        "oldest_unanswered_s",
        "online",
        "online_ages_s",
        "phases",
        "pings_unanswered",
        "pong_rtts_s",
        "requests_failed",
        "response_buckets",
        "response_sums_us",
        "response_totals",
        "responses",
        "sends_failed",
        "stanzas_malformed",
        "totals",
    )

    def __init__(self, columns: Columns, at: float) -> None:
        self.at = at
        self.copied_at = at - columns.copy_age_s
        self.changes = columns.changes
        self.online = columns.online
        self.oldest_unanswered_s = columns.oldest_unanswered_age_s
        self.totals = columns.totals()
        self.response_totals = columns.response_totals
        self.births = _view(columns.births, "Q")
        self.connections = _view(columns.connections, "Q")
        self.phases = _view(columns.phases, "B")
        self.online_ages_s = _view(columns.online_ages_s, "d")
        self.last_data_ages_s = _view(columns.last_data_ages_s, "d")
        self.last_pong_ages_s = _view(columns.last_pong_ages_s, "d")
        self.pong_rtts_s = _view(columns.pong_rtts_s, "d")
        self.pings_unanswered = _view(columns.pings_unanswered, "I")
        self.messages_received = _view(columns.messages_received, "Q")
        self.messages_undecrypted = _view(columns.messages_undecrypted, "I")
        self.messages_sent = _view(columns.messages_sent, "Q")
        self.sends_failed = _view(columns.sends_failed, "I")
        self.requests_failed = _view(columns.requests_failed, "I")
        self.stanzas_malformed = _view(columns.stanzas_malformed, "I")
        self.responses = _view(columns.responses, "Q")
        self.response_sums_us = _view(columns.response_sums_us, "Q")
        self.response_buckets = _view(columns.response_buckets, "H")


Read = tuple[Columns, Reading]


class CounterTable:
    """The latest reading, and whose row is which. One for the process: the names are kept once."""

    def __init__(
        self,
        read: Callable[[], Columns],
        clock: Callable[[], float] = time.monotonic,
        aside: Callable[[Callable[[], Read]], Awaitable[Read]] | None = None,
    ) -> None:
        """`aside` runs a blocking call on another thread; without one it runs where it is called."""
        self._read = read
        self._clock = clock
        self._aside = aside
        self._reading = trio.Lock()
        self._owners: list[str | None] = []
        self.rows: dict[str, int] = {}
        self.readings = 0
        self.begun_at = array("d")
        self.now = nothing_counted(float("-inf"))

    def refresh(self) -> Reading:
        """Copy the columns anew. Waits for the I/O thread as `_core.Engine.columns` does."""
        return self._take(*self._look())

    def _look(self) -> Read:
        # The clock is read beside the counters, also when it takes a while until their reader has his turn.
        columns = self._read()
        return columns, Reading(columns, self._clock())

    def _take(self, columns: Columns, reading: Reading) -> Reading:
        self.readings += 1
        before, self.now = self.now, reading
        if self.now.changes != before.changes:
            self._follow(columns, before.births)
        return self.now

    async def refresh_aside(self, age_s: float = 0.0) -> Reading:
        """The same for whoever can wait: of ten thousand sessions the copy takes milliseconds, in which
        others have their turn. With `age_s` a reading that is no older will do."""
        async with self._reading:
            asked_at = self._clock()
            if asked_at - self.now.at < age_s:
                return self.now
            columns, reading = self._look() if self._aside is None else await self._aside(self._look)
            # Somebody who could not wait has read in the meantime: that one is newer.
            return self.now if self.now.at > reading.at else self._take(columns, reading)

    def refresh_within(self, age_s: float) -> Reading:
        """The latest reading, copied anew if it is older than that."""
        return self.refresh() if self.age_s() >= age_s else self.now

    def age_s(self) -> float:
        """How old the latest reading is: the same on every clock."""
        return self._clock() - self.now.at

    def _follow(self, columns: Columns, old: memoryview) -> None:
        births, known = self.now.births, len(old)
        changed = [row for row, birth in enumerate(births) if row >= known or birth != old[row]]
        more = len(births) - len(self._owners)
        self._owners.extend([None] * more)
        self.begun_at.extend([0.0] * more)
        for row in changed:
            if (owner := self._owners[row]) is not None:
                del self.rows[owner]
        for row in changed:
            self._owners[row] = owner = columns.session_id(row)
            self.begun_at[row] = self.now.at
            if owner is not None:
                self.rows[owner] = row


def known(value: float) -> float | None:
    """A value of a column in which not-a-number stands for none."""
    return value if value == value else None


def nothing_counted(at: float) -> Reading:
    """What there is before the first session."""
    return Reading(_Nothing(), at)


class _Nothing:
    """Columns of no sessions."""

    copy_age_s = 0.0
    changes = 0
    online = 0
    oldest_unanswered_age_s = 0.0
    births = connections = phases = online_ages_s = last_data_ages_s = last_pong_ages_s = b""
    pong_rtts_s = pings_unanswered = messages_received = requests_failed = stanzas_malformed = b""
    messages_undecrypted = messages_sent = sends_failed = responses = response_sums_us = response_buckets = (
        b""
    )

    def __init__(self) -> None:
        self.response_totals: list[int] = []

    def session_id(self, _row: int) -> str | None:
        return None

    def totals(self) -> dict[str, float]:
        return dict.fromkeys(TOTALS, 0)


TOTALS: Final = (
    "frames_received",
    "frames_sent",
    "bytes_received",
    "bytes_sent",
    "stanzas_malformed",
    "messages_received",
    "messages_undecrypted",
    "records_unreadable",
    "messages_sent",
    "messages_resent",
    "messages_not_resent",
    "sends_failed",
    "pings_sent",
    "pongs_received",
    "requests_sent",
    "requests_failed",
    "response_count",
    "response_sum_s",
)
"""The sums over all sessions that `Columns.totals` gives."""
