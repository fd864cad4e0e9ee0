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


_SLACK: Final = 256


class Deadlines:
    """Set, move, clear, pop. Superseded entries stay in the heap until they surface or outnumber the live."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Kind]] = []
        self._live: dict[tuple[str, Kind], int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, session_id: str, kind: Kind, at: float) -> None:
        """Set or move a deadline."""
        self._serial += 1
        self._live[session_id, kind] = self._serial
        heapq.heappush(self._heap, (at, self._serial, session_id, kind))
        if len(self._heap) > _SLACK + 2 * len(self._live):
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)

    def clear(self, session_id: str, *kinds: Kind) -> None:
        """Forget the named kinds, or all of them."""
        for kind in kinds or tuple(Kind):
            self._live.pop((session_id, kind), None)

    def has(self, session_id: str, kind: Kind) -> bool:
        """Whether one is set."""
        return (session_id, kind) in self._live

    def pop_due(self, now: float) -> tuple[str, Kind] | None:
        """The earliest deadline that has come, once."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, _, session_id, kind = heapq.heappop(self._heap)
        del self._live[session_id, kind]
        return session_id, kind

    def next_at(self) -> float | None:
        """When the earliest one comes."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_live(self, entry: tuple[float, int, str, Kind]) -> bool:
        return self._live.get((entry[2], entry[3])) == entry[1]
