"""`GET /api/system/doctor`: the findings of `tune`, looked up on a thread and kept for a moment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FRESH_S: Final = 5.0
"""A dashboard that is open on ten screens costs one look."""


class Doctor:
    """Asks `look` at most once in `FRESH_S`, and never twice at a time."""

    def __init__(self, look: Callable[[int | None], Mapping[str, object]]) -> None:
        """`look` blocks for milliseconds; it is told for how many sessions, or None for those there are."""
        self._look = look
        self._turn = trio.Lock()
        self._kept: tuple[int | None, float, Mapping[str, object]] | None = None

    async def answer(self, sessions: int | None) -> Mapping[str, object]:
        """The report as JSON."""
        async with self._turn:
            now = trio.current_time()
            if self._kept is not None:
                asked, at, answer = self._kept
                if asked == sessions and now - at < FRESH_S:
                    return answer
            fresh = await trio.to_thread.run_sync(partial(self._look, sessions))
            self._kept = (sessions, now, fresh)
            return fresh
