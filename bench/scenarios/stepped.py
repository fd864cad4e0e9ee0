"""`python -m runner`, with every step of the Trio thread timed: what `api_steps` starts.

A step is what one task does between two checkpoints: for so long nobody else has a turn. Steps of half a
millisecond and more are written to the file that `STEPS_FILE` names, when the process ends: start on the
monotonic clock, seconds of wall time, seconds of CPU, task.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from trio.lowlevel import Task

from runner.__main__ import main

LEAST_S = 0.0005


class Steps(trio.abc.Instrument):
    """Keeps the long ones."""

    def __init__(self) -> None:
        self.long: list[tuple[float, float, float, str]] = []
        self._began = (0.0, 0.0)

    def before_task_step(self, task: Task) -> None:
        """A task has its turn."""
        self._began = time.monotonic(), time.thread_time()

    def after_task_step(self, task: Task) -> None:
        """And gives it back."""
        wall, cpu = time.monotonic() - self._began[0], time.thread_time() - self._began[1]
        if wall >= LEAST_S:
            self.long.append((self._began[0], wall, cpu, task.name))


def instrumented(run: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """`trio.run` with the instrument."""

    def with_steps(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - trio.run's own
        try:
            return run(*args, **kwargs, instruments=[steps])
        finally:
            Path(os.environ["STEPS_FILE"]).write_text(json.dumps(steps.long))

    return with_steps


if __name__ == "__main__":
    trio.run = instrumented(trio.run, Steps())
    main()
