"""A simulator process and a runner process with N imported sessions, as an operator would have them."""

import contextlib
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.control import Control
from support.processes import RunnerProcess, SimulatorProcess, import_all, runner_environment


@dataclass(frozen=True, slots=True)
class Fleet:
    """The two processes and the simulator's control port."""

    runner: RunnerProcess
    simulator: SimulatorProcess
    control: Control
    n: int


@contextlib.contextmanager
def fleet(
    n: int, *, tls: bool = True, settings: dict[str, str] | None = None, online_within_s: float = 120.0
) -> Iterator[Fleet]:
    """N sessions online against a simulator in a process of its own; both end with the block."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory = Path(name)
        with SimulatorProcess(directory, sessions=n, tls=tls) as simulator:
            env = runner_environment(directory, simulator, directory / "unused.sock")
            import_all(simulator.credentials, env)
            with RunnerProcess(directory, simulator, settings) as runner:
                runner.wait_ready(n, online_within_s)
                yield Fleet(runner, simulator, Control(simulator.control), n)
                runner.stop()
