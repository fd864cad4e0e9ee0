"""Reads what the rules look at: counters and a few small files, well under a millisecond in all."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Final

import trio

from runner.alerts.facts import MINUTE_S, Facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.metrics import Metrics
    from runner.supervisor.machine import Machine

DISK_EVERY_S: Final = 10.0
"""At the most: with less patience more often, or a reading outlives the trouble that `disk_full` explains."""


class Readings:
    """The facts of one process. `disk` may block on a dead network file system, so it has a thread."""

    def __init__(
        self,
        metrics: Metrics,
        machine: Machine,
        data_path: Path,
        exceptions: Callable[[], int],
        undelivered: Callable[[], int],
        patience: float,
    ) -> None:
        self._metrics = metrics
        self._machine = machine
        self._data_path = data_path
        self._exceptions = exceptions
        self._undelivered = undelivered
        self._patience = patience
        self._disk_ratio: float | None = None

    async def watch_disk(self) -> None:
        """Look at the file system of the data directory now and then, until cancelled."""
        while True:
            self._disk_ratio = await trio.to_thread.run_sync(
                disk_ratio, self._data_path, abandon_on_cancel=True
            )
            await trio.sleep(DISK_EVERY_S * min(self._patience, 1.0))

    def read(self) -> Facts:
        """The facts of this moment."""
        metrics, machine = self._metrics, self._machine
        memory = metrics.machine.memory()
        cpu, cpu_scope = metrics.cpu()
        responses, responses_s = metrics.responses()
        error_rate = metrics.error_rate()
        dropped, found_dead = metrics.dropped_within(MINUTE_S * self._patience)
        stats = machine.engine.stats()
        return Facts(
            memory_ratio=memory.used / memory.total if memory.total else None,
            memory_scope=memory.scope,
            cpu_ratio=cpu,
            cpu_scope=cpu_scope,
            error_rate=error_rate,
            failing=metrics.failing() if error_rate else 0,
            disk_ratio=self._disk_ratio,
            disk_path=str(self._data_path),
            fds=metrics.machine.open_fds(),
            fd_limit=fd_limit(),
            oldest_unanswered_s=metrics.oldest_unanswered_s,
            sessions=len(machine.rows),
            responses_total=responses,
            responses_s_total=responses_s,
            dropped=dropped,
            found_dead=found_dead,
            clock_steps_total=machine.clock_steps_total,
            exceptions_total=self._exceptions(),
            panics_total=stats.panics_total,
            events_dropped_total=stats.outbox_dropped_total,
            undelivered_total=self._undelivered(),
            given_up_total=metrics.tally.given_up,
            wrong_tokens_total=sum(metrics.wrong_tokens()),
            is_monitoring=metrics.monitoring,
        )


def fd_limit() -> int | None:
    """How many descriptors this process may have; None: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def disk_ratio(path: Path) -> float | None:
    """The share in use, as `df` has it: what is reserved for root counts as used. Blocking."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    used = found.f_blocks - found.f_bfree
    whole = used + found.f_bavail
    return used / whole if whole else None
