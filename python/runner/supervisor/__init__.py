"""Sessions as rows, driven by one scheduler: the one place that decides and the one place that is read."""

from runner.supervisor.core import Supervisor
from runner.supervisor.feed import StatusEvent
from runner.supervisor.row import Options

__all__ = ["Options", "StatusEvent", "Supervisor"]
