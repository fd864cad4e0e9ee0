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
_SKIMMED: Final = 256


class Deadlines:
    """Set, move, clear, pop. Superseded entries stay in the heap until they surface or outnumber the live."""

    def __init__(self) -> None:
        # A kind as plain text, and no tuples as keys: the collector forgets tuples of numbers and texts, and
        # an enum's member is neither.
        self._heap: list[tuple[float, int, str, str]] = []
        self._live: dict[str, dict[str, int]] = {kind.value: {} for kind in Kind}
        self._serial = 0

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    def set(self, session_id: str, kind: Kind, at: float) -> None:
        """Set or move a deadline."""
        self._serial += 1
        self._live[kind.value][session_id] = self._serial
        heapq.heappush(self._heap, (at, self._serial, session_id, kind.value))
        if len(self._heap) > _SLACK + 2 * len(self):
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)

    def clear(self, session_id: str, *kinds: Kind) -> None:
        """Forget the named kinds, or all of them."""
        for kind in kinds or tuple(Kind):
            self._live[kind.value].pop(session_id, None)

    def has(self, session_id: str, kind: Kind) -> bool:
        """Whether one is set."""
        return session_id in self._live[kind.value]

    def pop_due(self, now: float) -> tuple[str, Kind] | None:
        """The earliest deadline that has come, once."""
        at = self.next_at()
        if at is None or at > now or not self._is_live(self._heap[0]):
            return None
        _, _, session_id, kind = heapq.heappop(self._heap)
        del self._live[kind][session_id]
        return session_id, Kind(kind)

    def next_at(self) -> float | None:
        """When the earliest one comes, or before: what is superseded goes `_SKIMMED` at a time. After a storm
        there are ten thousand of them, for one moment."""
        for _ in range(_SKIMMED):
            if not self._heap or self._is_live(self._heap[0]):
                break
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_live(self, entry: tuple[float, int, str, str]) -> bool:
        _, serial, session_id, kind = entry
        return self._live[kind].get(session_id) == serial
