"""How long answers about a large fleet take, and how long each keeps everybody else waiting.

    python -m bench.scenarios.api_steps [--sessions 10000] [--rounds 10]

Every endpoint whose answer grows with the fleet is asked in turn, on the Unix socket. `answer_ms` is from
the request to the last byte, `step_cpu_ms` the CPU time of the longest step of the Trio thread meanwhile
(wall time beside it: a shared machine preempts). `sampling` has the steps that nobody asked for: the 10 s
sample and the 30 s health look.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.scenarios.fleet import OPEN_LIMITER, raise_fd_limit
from bench.scenarios.measure import save, spread
from support.processes import (
    RunnerProcess,
    SimulatorProcess,
    UnixHTTPConnection,
    import_all,
    runner_environment,
)

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
PAUSE_S = 1.2
"""Between two requests: longer than a reading is shared, so that each pays for its own."""
IDLE_S = 65.0


def fetch(socket: Path, path: str) -> tuple[float, float, int]:
    """Begin and end on the monotonic clock, and the size of the answer."""
    link = UnixHTTPConnection(socket, 30)
    began = time.monotonic()
    try:
        link.request("GET", path)
        answer = link.getresponse()
        size = len(answer.read())
    finally:
        link.close()
    assert answer.status == 200, (path, answer.status)
    return began, time.monotonic(), size


def longest(steps: list[Any], began: float, ended: float) -> tuple[float, float]:
    """CPU and wall milliseconds of the longest step that overlaps with a time."""
    within = [(cpu * 1e3, wall * 1e3) for at, wall, cpu, _ in steps if at < ended and at + wall > began]
    return max(within, default=(0.0, 0.0))


def main() -> None:
    """One fleet, all endpoints, some rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without a request, for sampling")
    parser.add_argument("--name", default="api_steps", help="of the file in bench/results")
    args = parser.parse_args()
    raise_fd_limit(args.sessions)
    pause = threading.Event()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory, file = Path(name), Path(name) / "steps.json"
        with SimulatorProcess(directory, sessions=args.sessions, tls=True) as simulator:
            import_all(
                simulator.credentials, runner_environment(directory, simulator, directory / "unused.sock")
            )
            settings = {**OPEN_LIMITER, **SETTINGS, "STEPS_FILE": str(file)}
            with RunnerProcess(directory, simulator, settings, module="bench.scenarios.stepped") as runner:
                runner.wait_ready(args.sessions, 120.0)
                pause.wait(min(args.idle, 40.0))  # until everything is called stable and written down
                quiet = time.monotonic()
                pause.wait(args.idle)
                asked: list[tuple[str, float, float, int]] = []
                idle_until = time.monotonic()
                for _ in range(args.rounds):
                    for path in PATHS:
                        asked.append((path, *fetch(runner.socket, path)))
                        pause.wait(PAUSE_S)
                runner.stop()
        steps = json.loads(file.read_text())
    rows: list[dict[str, Any]] = [
        row(path, [it[1:] for it in asked if it[0] == path], steps) for path in PATHS
    ]
    sampling = [cpu * 1e3 for at, _, cpu, _ in steps if quiet <= at < idle_until]
    summary = {
        "sessions": args.sessions,
        "longest_step_cpu_ms": max(it["step_cpu_ms"]["median"] for it in rows),
        "scrape_ms": next(it["answer_ms"] for it in rows if it["path"] == "/metrics"),
        "sampling_longest_step_cpu_ms": max(sampling, default=0.0),
    }
    save(args.name, summary, rows)


def row(path: str, requests: list[tuple[float, float, int]], steps: list[Any]) -> dict[str, Any]:
    """What one endpoint needed."""
    answers = spread([(ended - began) * 1e3 for began, ended, _ in requests])
    worst = [longest(steps, began, ended) for began, ended, _ in requests]
    cpu, wall = spread([it[0] for it in worst]), spread([it[1] for it in worst])
    return {
        "path": path,
        "bytes": requests[-1][2],
        **{
            name: {"median": round(it.median, 2), "greatest": round(it.greatest, 2)}
            for name, it in (("answer_ms", answers), ("step_cpu_ms", cpu), ("step_wall_ms", wall))
        },
    }


if __name__ == "__main__":
    main()
