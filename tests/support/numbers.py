"""Metrics over facts that a test sets, with a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from runner.counters import CounterTable
from runner.metrics import Metrics
from runner.windows import SAMPLE_S
from support.columns import FakeCounting

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = (0.01, 0.1, 1.0)


class Facts:
    """An engine and a store that say what they are told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counting = FakeCounting(len(BOUNDS) + 1)
        self.counters = CounterTable(self.counting.read, clock)
        self.connections = 0

    def stats(self) -> Any:  # noqa: ANN401 - a namespace
        zero = dict.fromkeys(("dialling", "online", "outbox_depth", "outbox_dropped_total"), 0)
        zero |= {"held_input_bytes": 4096}
        more = dict.fromkeys(("dials_total", "tls_resumed_total", "panics_total", "turns_total"), 0)
        return SimpleNamespace(sessions=self.connections, loop_lag_s=0.0, heartbeat_age_s=0.0, **zero, **more)

    def store_health(self) -> Any:  # noqa: ANN401 - a namespace
        names = ("queued", "commits_total", "batches_total", "failed_total", "wal_bytes", "inbox_pending")
        names += ("dead_letters", "dead_letters_dropped_total")
        return SimpleNamespace(oldest_age_s=0.0, lock_wait_s=0.0, disk_full=False, **dict.fromkeys(names, 0))

    def add(self, session_id: str, **more: float) -> None:
        """Count further."""
        row = self.counting.of(session_id)
        changed = {name: getattr(row, name) + value for name, value in more.items()}
        self.counting.put(session_id, replace(row, **changed))  # type: ignore[arg-type]

    def answer(self, session_id: str, *buckets: int, seconds: float = 0.0) -> None:
        """Answered round trips, by bucket."""
        row = self.counting.of(session_id)
        before = row.response_buckets or [0] * len(buckets)
        counts = [count + more for count, more in zip(before, buckets, strict=True)]
        self.counting.put(
            session_id,
            replace(
                row,
                response_buckets=counts,
                response_count=row.response_count + sum(buckets),
                response_sum_s=row.response_sum_s + seconds,
            ),
        )


class Bench:
    """Metrics over facts, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.facts = Facts(lambda: self.now)
        self.states = {"online": 0}
        self.revision = 0
        self.uptimes_s: dict[str, float] = {}
        self.metrics = Metrics(
            self.facts,
            lambda: self.states,
            revision=lambda: self.revision,
            uptime_s=lambda session_id: self.uptimes_s.get(session_id, 0.0),
            bucket_bounds_s=BOUNDS,
            clock=lambda: self.now,
            wall=lambda: self.now,
        )

    def samples(self, number: int = 1) -> None:
        for _ in range(number):
            self.now += SAMPLE_S
            self.metrics.sample()

    def event(
        self, kind: str, session_id: str = "a", reason: str | None = None, phase: str | None = None
    ) -> None:
        event: Any = SimpleNamespace(kind=kind, session_id=session_id, reason=reason, phase=phase)
        self.metrics.observe(event)
