"""What of this process' memory is the process, and what the sessions cost. Pure.

The model is a straight line: `anonymous memory = fixed + connections · marginal`. Two things are known about
it: the memory before the first dial, and how much the loading of the admin API added, during which sessions
may have been opened too. Whatever else grows (a cache that fills, a leak) is told as the sessions' share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

FEWEST: Final = 50
"""Connections below which the noise of the allocator is larger than what they cost."""


class Mark(NamedTuple):
    """Memory and connections at one moment."""

    anonymous_bytes: int
    connections: int


_UNKNOWN: Final = Mark(0, 0)


@dataclass(slots=True)
class Footprint:
    """The two marks, taken by the process as it starts."""

    start: Mark = _UNKNOWN
    """Before the first dial."""
    loading: Mark = _UNKNOWN
    """As the loading of the admin API began."""
    loaded: Mark = _UNKNOWN
    """As it ended."""

    def per_session(self, now: Mark) -> float | None:
        """Bytes for each connection; None below `FEWEST`."""
        opened = now.connections - self.start.connections
        while_loading = self.loaded.connections - self.loading.connections
        if not self.start.anonymous_bytes or opened - while_loading < FEWEST:
            return None
        grown = now.anonymous_bytes - self.start.anonymous_bytes
        by_loading = self.loaded.anonymous_bytes - self.loading.anonymous_bytes
        return max((grown - by_loading) / (opened - while_loading), 0.0)

    def to_json(self, now: Mark) -> dict[str, object]:
        """`fixed` and `perSession`, in bytes."""
        each = self.per_session(now)
        if each is None:
            return {"fixed": None, "perSession": None}
        return {
            "fixed": max(round(now.anonymous_bytes - each * now.connections), 0),
            "perSession": round(each),
        }
