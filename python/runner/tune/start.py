"""What the runner sets for itself at start: nothing here needs a right, or touches the machine."""

from __future__ import annotations

import gc

import trio

from runner.limits import raise_fd_limit


def raise_own_limits(worker_threads: int) -> int:
    """Raise the soft limit of open files as far as allowed, bound Trio's worker threads; the limit of files.

    Inside Trio, since the limit of threads belongs to the run.
    """
    trio.to_thread.current_default_thread_limiter().total_tokens = worker_threads
    return raise_fd_limit()


def freeze() -> int:
    """Take what is here now out of the collector's sight, for good; how many objects. When all is imported.

    The thresholds stay Python's: measured, see docs/tuning.md, "gc-thresholds".
    """
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()
