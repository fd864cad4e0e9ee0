"""One heap for all deadlines of all sessions."""

from __future__ import annotations

import heapq
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a deadline is about; a session has at most one of each."""

    RETRY = "retry"
    STATE = "state"
    STABLE = "stable"
    CLOSE = "close"
    RESTRICTED = "restricted"


_SKIMMED: Final = 256
"""Entries that one look may take out: after a storm ten thousand of one moment have been superseded."""


class Deadlines:
    """Set, move, clear, pop.

    A deadline that is set again for later, or cleared, leaves its entry in the heap. When that surfaces it is
    put where it belongs by then, or forgotten: ten thousand sessions that set the same deadline at each dial
    have one entry each, and nothing ever has to be swept out.
    """

    def __init__(self) -> None:
        # Kinds as plain text: the collector forgets tuples of numbers and texts, and an enum's member is
        # neither.
        self._heap: list[tuple[float, int, str, str]] = []
        self._at: dict[str, dict[str, float]] = {kind.value: {} for kind in Kind}
        self._entered: dict[str, dict[str, float]] = {kind.value: {} for kind in Kind}
        """The earliest entry of each, which is never later than its deadline."""
        self._serial = 0

    def __len__(self) -> int:
        return sum(map(len, self._at.values()))

    def set(self, session_id: str, kind: Kind, at: float) -> None:
        """Set or move a deadline."""
        self._at[kind.value][session_id] = at
        entered = self._entered[kind.value].get(session_id)
        if entered is None or at < entered:
            self._enter(at, session_id, kind.value)

    def clear(self, session_id: str, *kinds: Kind) -> None:
        """Forget the named kinds, or all of them."""
        for kind in kinds or tuple(Kind):
            self._at[kind.value].pop(session_id, None)

    def has(self, session_id: str, kind: Kind) -> bool:
        """Whether one is set."""
        return session_id in self._at[kind.value]

    def pop_due(self, now: float) -> tuple[str, Kind] | None:
        """The earliest deadline that has come, once."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, _, session_id, kind = self._heap[0]
        if self._at[kind].get(session_id) != at:
            return None
        heapq.heappop(self._heap)
        del self._at[kind][session_id]
        del self._entered[kind][session_id]
        return session_id, Kind(kind)

    def next_at(self) -> float | None:
        """When the earliest one comes; or before, when there is more to put in order than one look may."""
        for _ in range(_SKIMMED):
            if not self._heap:
                return None
            at, _, session_id, kind = self._heap[0]
            wanted = self._at[kind].get(session_id)
            if self._entered[kind].get(session_id) != at:  # it was set for earlier since
                heapq.heappop(self._heap)
            elif wanted is None:
                heapq.heappop(self._heap)
                del self._entered[kind][session_id]
            elif wanted > at:
                heapq.heappop(self._heap)
                self._enter(wanted, session_id, kind)
            else:
                break
        return self._heap[0][0] if self._heap else None

    def _enter(self, at: float, session_id: str, kind: str) -> None:
        self._serial += 1
        self._entered[kind][session_id] = at
        heapq.heappush(self._heap, (at, self._serial, session_id, kind))
