"""How long answers about a large fleet take, and how long each keeps everybody else waiting.

    python -m bench.scenarios.api_steps [--sessions 10000] [--rounds 40]

Every endpoint whose answer grows with the fleet is asked in turn on the Unix socket, `calm` while nothing
else happens, and in a `storm`: every session was dropped at once and the limiter is open. A receiver of all
events listens all the time. `answer_ms` is from the request to the last byte; a step is what one task does
before others have their turn, in CPU time of the Trio thread (wall time beside it: the machine is shared by
runner, simulator and client). `longest_step` is that of each call, `step_p999` over all steps meanwhile.
`tasks` says whose the longest steps were, in each phase: `idle` are the ones that nobody asked for, `settle`
the half minute after a storm, in which ten thousand connections become stable.
"""

import argparse
import json
import tempfile
import threading
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scenarios.fleet import OPEN_LIMITER, raise_fd_limit
from bench.scenarios.measure import quantile, save
from support.control import Control
from support.processes import RunnerProcess, SimulatorProcess, import_all, runner_environment
from support.surfaces import Account, asked

PATHS = (
    "/performance-metrics",
    "/performance-metrics?limit=100000",
    "/performance-metrics?session=sim-00001",
    "/reconnection-status?limit=100000",
    "/api/sessions?limit=100000",
    "/api/sessions?q=sim-0999&limit=100",
    "/metrics",
    "/api/system",
    "/api/metrics/history?metric=cpuUsage,usedMemory,sessions.online,responseTimeP95,errorRate",
    "/health",
)
SETTINGS = {"WHATSAPP_METRICS_SESSIONS": "all", "WHATSAPP_METRICS_SESSION_LIMIT": "1000"}
STABLE_S = 40.0
"""Until ten thousand connections are called stable and that is written down."""
PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Times are on the monotonic clock."""

    path: str
    began: float
    ended: float
    size: int


class Steps:
    """The steps of the Trio thread."""

    def __init__(self, file: Path) -> None:
        found = array("d")
        found.frombytes(file.read_bytes())
        self.began, self.wall_ms, self.cpu_ms = found[0::3], found[1::3], found[2::3]
        for column in (self.wall_ms, self.cpu_ms):
            column[:] = array("d", [1000 * it for it in column])
        self.names: dict[float, str] = dict(json.loads(file.with_suffix(".json").read_text()))

    def within(self, began: float, ended: float) -> range:
        """Places of those that overlap with a time."""
        first = bisect_left(self.began, began)
        if first and self.began[first - 1] + self.wall_ms[first - 1] / 1000 > began:
            first -= 1
        return range(first, bisect_left(self.began, ended))

    def longest(self, began: float, ended: float) -> tuple[float, float]:
        """CPU and wall milliseconds of the longest of them."""
        places = self.within(began, ended)
        return max((self.cpu_ms[it] for it in places), default=0.0), max(
            (self.wall_ms[it] for it in places), default=0.0
        )

    def tasks(self, began: float, ended: float) -> dict[str, dict[str, float]]:
        """Whose the steps of 2 ms and more were: how many, and the longest."""
        found: dict[str, list[float]] = defaultdict(list)
        for it in self.within(began, ended):
            if self.cpu_ms[it] >= 2.0:
                name = self.names.get(self.began[it], "?").removeprefix("runner.")
                found[name].append(self.cpu_ms[it])
        ordered = sorted(found.items(), key=lambda item: -max(item[1]))
        return {name: {"steps": len(cpu), "longest_cpu_ms": round(max(cpu), 2)} for name, cpu in ordered}


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and greatest."""
    return {
        "median": round(quantile(values, 0.5), 2),
        "p99": round(quantile(values, 0.99), 2),
        "greatest": round(max(values), 2),
    }


def row(when: str, path: str, calls: Sequence[Call], steps: Steps) -> dict[str, Any]:
    """What one endpoint needed."""
    longest = [steps.longest(call.began, call.ended) for call in calls]
    all_cpu = [steps.cpu_ms[it] for call in calls for it in steps.within(call.began, call.ended)]
    return {
        "when": when,
        "path": path,
        "calls": len(calls),
        "bytes": calls[-1].size,
        "answer_ms": spread_of([1000 * (call.ended - call.began) for call in calls]),
        "longest_step_cpu_ms": spread_of([cpu for cpu, _ in longest]),
        "longest_step_wall_ms": spread_of([wall for _, wall in longest]),
        "steps": len(all_cpu),
        "step_p999_cpu_ms": round(quantile(all_cpu, 0.999), 2),
    }


class Asking:
    """Asks for one path after the other and keeps how long that took."""

    def __init__(self, socket: Path) -> None:
        self.calls: list[Call] = []
        self._socket = socket

    def round(self) -> None:
        """Every path once."""
        for path in PATHS:
            body, began, ended = asked(self._socket, path)
            self.calls.append(Call(path, began, ended, len(body)))

    def take(self) -> dict[str, list[Call]]:
        """The calls so far, by path; from here on others."""
        by_path: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_path[call.path].append(call)
        self.calls = []
        return by_path


def stream_row(when: str, account: Account, began: int, lost: int, storm_s: float) -> dict[str, Any]:
    """What the receiver of events got since its change number `began`."""
    delays = account.delays_s[began:]
    return {
        "when": when,
        "path": "/ws?events=*",
        "events": len(delays),
        "events_lost": account.lost - lost,
        "seconds": round(storm_s, 1),
        "delay_ms": spread_of([1000 * it for it in delays]),
    }


def main() -> None:
    """One fleet, all endpoints, calm and in a storm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--idle", type=float, default=35.0, help="seconds without a request")
    parser.add_argument("--name", default="api_steps", help="of the file in bench/results")
    args = parser.parse_args()
    raise_fd_limit(args.sessions)
    pause = threading.Event()
    stable_s = min(args.idle + 5.0, STABLE_S)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory, file = Path(name), Path(name) / "steps"
        with SimulatorProcess(directory, sessions=args.sessions, tls=True) as simulator:
            env = runner_environment(directory, simulator, directory / "unused.sock")
            import_all(simulator.credentials, env)
            control = Control(simulator.control)
            settings = {**OPEN_LIMITER, **SETTINGS, "STEPS_FILE": str(file)}
            with RunnerProcess(directory, simulator, settings, module="bench.scenarios.stepped") as runner:
                runner.wait_ready(args.sessions, PATIENCE_S)
                asking, phases = Asking(runner.socket), {}
                pause.wait(stable_s)
                with Account(runner.socket) as account:
                    idle = time.monotonic()
                    pause.wait(args.idle)
                    calm = time.monotonic()
                    phases["idle"] = idle, calm
                    for _ in range(args.rounds):
                        asking.round()
                    storm = time.monotonic()
                    phases["calm"] = calm, storm
                    rows = asking.take()
                    logins, began, lost = control.stats()["logins"], len(account.delays_s), account.lost
                    control.post("/drop-all")
                    while control.stats()["logins"] < logins + args.sessions:
                        asking.round()
                    runner.wait_ready(args.sessions, PATIENCE_S)
                    settle = time.monotonic()
                    phases["storm"] = storm, settle
                    in_storm = asking.take()
                    pause.wait(stable_s)
                    phases["settle"] = settle, time.monotonic()
                    stream = stream_row("storm", account, began, lost, settle - storm)
                runner.stop()
        steps = Steps(file)
    found = [
        *(row("calm", path, calls, steps) for path, calls in rows.items()),
        *(row("storm", path, calls, steps) for path, calls in in_storm.items()),
        stream,
    ]
    tasks = {phase: steps.tasks(*times) for phase, times in phases.items()}
    save(args.name, summary(args.sessions, found, stream, tasks), [*found, *told(tasks)])


def summary(
    sessions: int, found: list[dict[str, Any]], stream: dict[str, Any], tasks: dict[str, Any]
) -> dict[str, Any]:
    """The worst of everything."""
    shown: dict[str, Any] = {"sessions": sessions}
    for when in ("calm", "storm"):
        rows = [it for it in found if it["when"] == when and "calls" in it]
        shown[when] = {
            "calls": sum(it["calls"] for it in rows),
            "longest_step_cpu_ms": max(it["longest_step_cpu_ms"]["greatest"] for it in rows),
            "step_p999_cpu_ms": max(it["step_p999_cpu_ms"] for it in rows),
            "scrape_ms": next(it["answer_ms"] for it in rows if it["path"] == "/metrics"),
        }
    shown["stream"] = stream
    shown["longest_step_cpu_ms"] = {
        phase: max((it["longest_cpu_ms"] for it in by_task.values()), default=0.0)
        for phase, by_task in tasks.items()
    }
    return shown


def told(tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each task with long steps."""
    return [
        {"when": phase, "task": name, **figures}
        for phase, by_task in tasks.items()
        for name, figures in by_task.items()
    ]


if __name__ == "__main__":
    main()
