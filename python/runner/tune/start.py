"""What the runner sets for itself at start: nothing here needs a right, or touches the machine."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import trio

from runner.limits import raise_fd_limit
from runner.tune.process import GC_THRESHOLDS


@dataclass(frozen=True, slots=True)
class Own:
    """What is in force now; one log line says so."""

    open_files: int
    worker_threads: int
    gc_thresholds: tuple[int, int, int]


def tune_own(worker_threads: int) -> Own:
    """Raise the soft limit of open files, make the collector look less often, bound Trio's worker threads.

    Inside Trio: the limit of threads belongs to the run. `gc.freeze` comes later, when all is imported.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    trio.to_thread.current_default_thread_limiter().total_tokens = worker_threads
    return Own(raise_fd_limit(), worker_threads, GC_THRESHOLDS)
