"""What the runner sets for itself at start: nothing here needs a right, or touches the machine."""

from __future__ import annotations

import gc
from typing import Final

import trio

from runner.limits import raise_fd_limit


def raise_own_limits(worker_threads: int) -> int:
    """Raise the soft limit of open files as far as allowed, bound Trio's worker threads; the limit of files.

    Inside Trio, since the limit of threads belongs to the run.
    """
    trio.to_thread.current_default_thread_limiter().total_tokens = worker_threads
    return raise_fd_limit()


OLD_AFTER: Final = 10
"""Collections of the younger objects before the old ones are due: Python's own number."""
OLD_AT_LAST: Final = 200
"""The same, when there was no calm moment in between."""


def freeze() -> int:
    """Take what is here now out of the collector's sight, for good; how many objects. When all is imported.

    From here on the old objects wait for `collect_old`. The young ones keep Python's thresholds: measured,
    see docs/tuning.md, "gc-thresholds".
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, OLD_AT_LAST)
    return gc.get_freeze_count()


def collect_old(*, is_calm: bool) -> None:
    """Look through the old objects if they are due. In a storm of ten thousand sessions, which makes a few
    new objects of each, Python would stop everybody for 12 ms right then; in a calm moment it takes 3."""
    if is_calm and gc.get_count()[2] > OLD_AFTER:
        gc.collect()
