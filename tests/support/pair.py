"""A runner and our simulator, each a process of its own, and the sessions that connect them.

The proofs in `support.faults` and `support.crashes` take such a pair of any size: CI gives them a small one,
`bench/scenarios/soak.py` a large one.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.data_dir import STORE_FILE
from support.control import Control
from support.processes import RunnerProcess, SimulatorProcess, import_all, runner_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAST_PINGS = {
    "WHATSAPP_KEEPALIVE_MIN": "400",
    "WHATSAPP_KEEPALIVE_MAX": "600",
    "WHATSAPP_KEEPALIVE_SECOND": "700",
    "WHATSAPP_DEAD_SOCKET": "1500",
    "WHATSAPP_HEALTH_CHECK_INTERVAL": "1000",
}
"""A dead peer is noticed within 2.1 s: the longest keep-alive and the dead-socket time."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both processes, the simulator's control port, and who is who."""

    runner: RunnerProcess
    simulator: SimulatorProcess
    control: Control
    n: int
    users: dict[str, str]
    """Session id -> user part of its phone number, as the simulator names it."""

    def ids(self) -> list[str]:
        """All session ids, in order."""
        return sorted(self.users)

    def events(self, *kinds: str, since_ms: float = 0.0) -> list[dict[str, Any]]:
        """What the simulator saw at or after `since_ms` of its clock; all pages of it."""
        return [e for e in pages(self.control, "/events") if e["type"] in kinds and e["t"] >= since_ms]

    def now_ms(self) -> float:
        """The simulator's clock."""
        return float(self.control.stats()["now"])

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The runner's log lines with that text."""
        return log_lines(self.runner, event)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Sessions by id, as the runner tells them."""
        return {row["id"]: row for row in self.runner.sessions()}

    def census(self) -> dict[str, int]:
        """How many sessions are in which state, asked cheaply."""
        status, told = self.runner.request("GET", "/reconnection-status?limit=0", timeout_s=30.0)
        assert status == 200, told
        return dict(told["states"])


def pages(control: Control, route: str, **query: object) -> list[dict[str, Any]]:
    """A log of the simulator from its beginning, however many pages it has."""
    found: list[dict[str, Any]] = []
    since = 0
    while page := control.get(route, since=since, **query):
        found += page
        since = page[-1]["seq"]
    return found


def log_lines(runner: RunnerProcess, event: str) -> list[dict[str, Any]]:
    """The runner's JSON log lines with that text."""
    wanted = (json.loads(line) for line in runner.output().splitlines() if event in line and line[0] == "{")
    return [line for line in wanted if line["event"] == event]


def store_path(directory: Path) -> Path:
    """The store of the runner whose folder this is."""
    return directory / "data" / STORE_FILE


def users_of(credentials: Path) -> dict[str, str]:
    """Session id -> user, from the directories that the simulator wrote."""
    found = {}
    for directory in credentials.iterdir():
        me = json.loads((directory / "creds.json").read_text())["me"]["id"]
        found[directory.name] = me.partition("@")[0].partition(":")[0]
    return found


@contextmanager
def simulated(directory: Path, n: int, *, tls: bool = False) -> Iterator[SimulatorProcess]:
    """A simulator, and a data directory (`directory`) in which its N devices are imported."""
    directory.mkdir(parents=True, exist_ok=True)
    with SimulatorProcess(directory, sessions=n, tls=tls) as simulator:
        env = runner_environment(directory, simulator, directory / "unused.sock")
        import_all(simulator.credentials, env)
        yield simulator


@contextmanager
def running(
    directory: Path,
    simulator: SimulatorProcess,
    n: int,
    settings: dict[str, str] | None = None,
    *,
    code: str | None = None,
) -> Iterator[Pair]:
    """A runner on that data directory, without waiting for anything; `code` runs in place of its module."""
    with RunnerProcess(directory, simulator, settings, code) as runner:
        yield Pair(runner, simulator, Control(simulator.control), n, users_of(simulator.credentials))


@contextmanager
def pair(
    directory: Path,
    n: int,
    settings: dict[str, str] | None = None,
    *,
    tls: bool = False,
    online_within_s: float = 120.0,
) -> Iterator[Pair]:
    """N sessions online; at the end the runner must stop in order and without a traceback."""
    with simulated(directory, n, tls=tls) as simulator, running(directory, simulator, n, settings) as made:
        made.runner.wait_ready(n, online_within_s)
        yield made
        assert made.runner.stop() == 0
        assert "Traceback" not in made.runner.output()
