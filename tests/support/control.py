"""One client for both control ports: the reference server made of Baileys, and our simulator."""

import threading
import time
from collections.abc import Callable
from typing import Any

from runner.sim import ControlError, Json, SimulatorControl

__all__ = ["Control", "ControlError"]


class Control(SimulatorControl):
    """The product's client, with waiting."""

    def wait_for(
        self, route: str, condition: Callable[[Any], bool], timeout_s: float = 10.0, **query: object
    ) -> Json:
        """Read `route` until `condition` holds of the answer; fails after `timeout_s`."""
        pause = threading.Event()
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.get(route, **query)
            if condition(answer):
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{route} did not come to what was waited for: {str(answer)[:2000]}")
            pause.wait(0.02)

    def wait_stats(self, timeout_s: float = 10.0, **least: int) -> dict[str, Any]:
        """Wait until each named counter has at least its value; all counters."""

        def enough(stats: dict[str, Any]) -> bool:
            return all(stats[name] >= value for name, value in least.items())

        return dict(self.wait_for("/stats", enough, timeout_s))
