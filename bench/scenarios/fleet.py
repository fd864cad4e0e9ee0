"""A simulator process and a runner process with N imported sessions, as an operator would have them.

Each session is a descriptor in either process, and a port of the loopback address: 10,000 fit when the hard
limit of open files is above 10,100 (`ulimit -Hn`) and `net.ipv4.ip_local_port_range` is as wide as it
comes.
"""

import contextlib
import resource
import sys
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


SPARE_FDS = 100
"""Descriptors that a process needs beside those of its sessions."""
OPEN_LIMITER = {"WHATSAPP_CONNECT_RATE": "100000", "WHATSAPP_CONNECT_CONCURRENCY": "256"}


def raise_fd_limit(n: int) -> None:
    """Let this process and its children open what N sessions need; ends the scenario when they may not."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < n + SPARE_FDS:
        sys.exit(
            f"{n} sessions need {n + SPARE_FDS} open files and the hard limit is {hard}; raise it: ulimit -Hn"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def fleet(
    n: int, *, tls: bool = True, settings: dict[str, str] | None = None, online_within_s: float = 120.0
) -> Iterator[Fleet]:
    """N sessions online against a simulator in a process of its own; both end with the block."""
    raise_fd_limit(n)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory = Path(name)
        with SimulatorProcess(directory, sessions=n, tls=tls) as simulator:
            env = runner_environment(directory, simulator, directory / "unused.sock")
            import_all(simulator.credentials, env)
            with RunnerProcess(directory, simulator, settings) as runner:
                runner.wait_ready(n, online_within_s)
                yield Fleet(runner, simulator, Control(simulator.control), n)
                runner.stop()
