"""`python -m runner`, with every step of the Trio thread timed: what `api_steps` starts.

A step is what one task does between two checkpoints: for so long nobody else has a turn. When the process
ends, `STEPS_FILE` gets them all, three doubles each (start on the monotonic clock, seconds of wall time,
seconds of CPU), and `STEPS_FILE.json` the task of each that was long, by its start.
"""

import json
import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from trio.lowlevel import Task

from runner.__main__ import main

LONG_S = 0.001


class Steps(trio.abc.Instrument):
    """Keeps them all: 24 bytes each."""

    def __init__(self) -> None:
        self.all = array("d")
        self.long: list[tuple[float, str]] = []
        self._began = (0.0, 0.0)

    def before_task_step(self, task: Task) -> None:
        """A task has its turn."""
        self._began = time.monotonic(), time.thread_time()

    def after_task_step(self, task: Task) -> None:
        """And gives it back."""
        wall, cpu = time.monotonic() - self._began[0], time.thread_time() - self._began[1]
        self.all.extend((self._began[0], wall, cpu))
        if wall >= LONG_S:
            self.long.append((self._began[0], task.name))


def instrumented(run: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """`trio.run` with the instrument."""

    def with_steps(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - trio.run's own
        try:
            return run(*args, **kwargs, instruments=[steps])
        finally:
            path = Path(os.environ["STEPS_FILE"])
            path.write_bytes(steps.all.tobytes())
            path.with_suffix(".json").write_text(json.dumps(steps.long))

    return with_steps


if __name__ == "__main__":
    trio.run = instrumented(trio.run, Steps())
    main()
