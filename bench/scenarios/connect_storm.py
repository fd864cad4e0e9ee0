"""Boot: N sessions dial at once, limiter open. Logins per second, CPU per login; Baileys in the same run.

python -m bench.scenarios.connect_storm [--sizes 100,1000,10000] [--runs 3] [--plain] [--peer 100]
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.fleet import OPEN_LIMITER, raise_fd_limit
from bench.scenarios.measure import cpu_s, save, spread
from support.control import Control
from support.pair import pages
from support.processes import RunnerProcess, SimulatorProcess, import_all, runner_environment


def one(n: int, tls: bool) -> dict[str, Any]:
    """One boot: from the first connection that the simulator sees to the last login."""
    raise_fd_limit(n)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory = Path(name)
        with SimulatorProcess(directory, sessions=n, tls=tls) as simulator:
            env = runner_environment(directory, simulator, directory / "unused.sock")
            import_all(simulator.credentials, env)
            control = Control(simulator.control)
            sim_cpu = cpu_s(simulator.pid)
            started = time.monotonic()
            with RunnerProcess(directory, simulator, OPEN_LIMITER) as runner:
                runner.wait_ready(n, 120.0)
                ready_s = time.monotonic() - started
                cpu = cpu_s(runner.pid)
                sim_cpu = cpu_s(simulator.pid) - sim_cpu
                events = pages(control, "/events")
                runner.stop()
    connects = [e["t"] for e in events if e["type"] == "connect"]
    logins = [e["t"] for e in events if e["type"] == "login"]
    storm_s = (max(logins) - min(connects)) / 1000
    return {
        "n": n,
        "tls": tls,
        "logins_per_s": n / storm_s,
        "storm_s": storm_s,
        "process_start_to_all_online_s": ready_s,
        "runner_cpu_ms_per_login": cpu * 1000 / n,
        "simulator_cpu_ms_per_login": sim_cpu * 1000 / n,
        "connections": len(connects),
    }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--peer", default="100")
    parser.add_argument("--name", default="connect_storm", help="of the file in bench/results")
    args = parser.parse_args()
    sizes = [int(n) for n in args.sizes.split(",")]
    rows = [one(n, not args.plain) for n in sizes for _ in range(args.runs)]
    summary: dict[str, Any] = {
        f"logins_per_s_{n}": asdict(spread([r["logins_per_s"] for r in rows if r["n"] == n])) for n in sizes
    }
    if args.peer:
        peer = baileys.run("bench_login.mjs", "--runs", "1", "--sizes", args.peer)
        summary["baileys_logins_per_s"] = {
            size: together["perSecond"]["median"] for size, together in peer["summary"]["together"].items()
        }
        summary["baileys_one_login_ms"] = peer["summary"]["oneLoginWarmMs"]["median"]
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
