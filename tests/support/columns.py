"""Columns of counters as the engine gives them, made from values that a test sets."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import nan

from runner.counters import TOTALS


@dataclass
class Counted:
    """One session's counters. Ages in seconds; None: never."""

    connection: int = 1
    phase: int = 5
    online_age_s: float | None = None
    last_data_age_s: float | None = None
    last_pong_age_s: float | None = None
    pong_rtt_s: float | None = None
    pings_unanswered: int = 0
    frames_received: int = 0
    frames_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    stanzas_malformed: int = 0
    messages_undecrypted: int = 0
    records_unreadable: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    messages_resent: int = 0
    messages_not_resent: int = 0
    sends_failed: int = 0
    pings_sent: int = 0
    pongs_received: int = 0
    requests_sent: int = 0
    requests_failed: int = 0
    response_count: int = 0
    response_sum_s: float = 0.0
    response_buckets: list[int] = field(default_factory=list)
    oldest_unanswered_age_s: float = 0.0
    copy_age_s: float = 0.0
    """How old the copy is that this is of; a test that sets it sets it for all."""


class FakeColumns:
    """`_core.CounterColumns` over a list of sessions; None is a row that is free."""

    def __init__(
        self,
        rows: list[tuple[str, int, Counted] | None],
        changes: int,
        retired: list[Counted],
        width: int = 0,
    ) -> None:
        self._ids = [None if row is None else row[0] for row in rows]
        nobody = Counted(phase=7, connection=0)
        counted = [nobody if row is None else row[2] for row in rows]
        everybody = [*(row[2] for row in rows if row is not None), *retired]
        self.rows = len(rows)
        self.copy_age_s = max((it.copy_age_s for it in counted), default=0.0)
        self.changes = changes
        self.online = sum(it.online_age_s is not None for it in counted)
        self.oldest_unanswered_age_s = max((it.oldest_unanswered_age_s for it in counted), default=0.0)
        self._totals = {name: sum(getattr(it, name) for it in everybody) for name in TOTALS}
        buckets = [self._padded(it, width) for it in everybody]
        self.response_totals = [sum(column) for column in zip(*buckets, strict=True)] or [0] * width
        self.births = array("Q", [0 if row is None else row[1] for row in rows]).tobytes()
        self.connections = array("Q", [it.connection for it in counted]).tobytes()
        self.phases = bytes(it.phase for it in counted)
        self.online_ages_s = self._ages([it.online_age_s for it in counted])
        self.last_data_ages_s = self._ages([it.last_data_age_s for it in counted])
        self.last_pong_ages_s = self._ages([it.last_pong_age_s for it in counted])
        self.pong_rtts_s = self._ages([it.pong_rtt_s for it in counted])
        self.pings_unanswered = array("I", [it.pings_unanswered for it in counted]).tobytes()
        self.messages_received = array("Q", [it.messages_received for it in counted]).tobytes()
        self.messages_undecrypted = array("I", [it.messages_undecrypted for it in counted]).tobytes()
        self.messages_sent = array("Q", [it.messages_sent for it in counted]).tobytes()
        self.sends_failed = array("I", [it.sends_failed for it in counted]).tobytes()
        self.requests_failed = array("I", [it.requests_failed for it in counted]).tobytes()
        self.stanzas_malformed = array("I", [it.stanzas_malformed for it in counted]).tobytes()
        self.responses = array("Q", [it.response_count for it in counted]).tobytes()
        self.response_sums_us = array("Q", [round(it.response_sum_s * 1e6) for it in counted]).tobytes()
        flat = [count & 0xFFFF for it in counted for count in self._padded(it, width)]
        self.response_buckets = array("H", flat).tobytes()

    @staticmethod
    def _padded(it: Counted, width: int) -> list[int]:
        return it.response_buckets or [0] * width

    @staticmethod
    def _ages(values: list[float | None]) -> bytes:
        return array("d", [nan if value is None else value for value in values]).tobytes()

    def session_id(self, row: int) -> str | None:
        return self._ids[row]

    def totals(self) -> dict[str, float]:
        return dict(self._totals)


class FakeCounting:
    """The engine's book of rows: `read` is `_core.Engine.columns`."""

    def __init__(self, width: int = 0) -> None:
        self.width = width
        self.rows: list[tuple[str, int, Counted] | None] = []
        self.places: dict[str, int] = {}
        self.free: list[int] = []
        self.changes = 0
        self.retired: list[Counted] = []
        self.reads = 0

    def of(self, session_id: str) -> Counted:
        """The counters of a session, which begins now if it is not there."""
        place = self.places.get(session_id)
        entry = None if place is None else self.rows[place]
        return self.put(session_id, Counted()) if entry is None else entry[2]

    def put(self, session_id: str, counted: Counted) -> Counted:
        """Other counters for a session that is there, or the first for one that is not."""
        place = self.places.get(session_id)
        if place is not None:
            entry = self.rows[place]
            assert entry is not None
            self.rows[place] = (session_id, entry[1], counted)
            return counted
        self.changes += 1
        place = self.free.pop() if self.free else len(self.rows)
        self.rows[place : place + 1] = [(session_id, self.changes, counted)]
        self.places[session_id] = place
        return counted

    def forget(self, session_id: str) -> None:
        """The row is free; its totals stay."""
        if (place := self.places.pop(session_id, None)) is None:
            return
        entry = self.rows[place]
        assert entry is not None
        self.changes += 1
        self.retired.append(entry[2])
        self.rows[place] = None
        self.free.append(place)

    def read(self) -> FakeColumns:
        self.reads += 1
        return FakeColumns(self.rows, self.changes, self.retired, self.width)
