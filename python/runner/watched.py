"""The engine, with an observer beside the supervisor: metrics count what happens, policy decides about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner import _core
    from runner.counters import CounterTable
    from runner.engine import EngineEvent, EngineStats


class WatchedEngine:
    """Passes everything on; each event is shown to `observe` before the supervisor gets it."""

    def __init__(
        self, engine: _core.Engine, counters: CounterTable, observe: Callable[[EngineEvent], None]
    ) -> None:
        self._engine = engine
        self.counters = counters
        self._observe = observe
        self.fileno = engine.fileno
        self.open = engine.open
        self.close = engine.close
        self.logout = engine.logout
        self.link_by_code = engine.link_by_code
        self.forget = engine.forget
        self.shutdown = engine.shutdown

    def drain(self, max_events: int) -> Sequence[EngineEvent]:
        """The oldest events."""
        events = self._engine.drain(max_events)
        for event in events:
            self._observe(event)
        return events

    def stats(self) -> EngineStats:
        """A snapshot of the I/O thread."""
        return self._engine.stats()
