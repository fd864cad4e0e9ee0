"""Memory and CPU of idle online sessions: RSS over the number of sessions, TLS on, and the slope.

    python -m bench.scenarios.idle_memory [--sizes 100,1000,2500] [--idle 70] [--runs 1] [--peer 100,300]
    python -m bench.scenarios.idle_memory --sizes 10000 --monitoring 3 --idle 35 --peer "" --name monitoring

CPU is given by thread, and for each ping with its pong. The window is four mean ping intervals: sessions
that logged in together ping together, so a shorter one would meet more of them, or fewer, by chance. It
begins when all have been online for longer than the 30 s after which the policy calls a connection stable,
which is written down.

`--monitoring N` asks instead what monitoring costs: N pairs of windows in one fleet of the largest size, with
WHATSAPP_PERFORMANCE_MONITORING true and false in turn, by CPU seconds of the Trio thread and of the process
for each second of the wall.
"""

import argparse
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.fleet import OPEN_LIMITER, Fleet, fleet
from bench.scenarios.measure import (
    ThreadUse,
    cpu_s,
    open_fds,
    rss_anon_bytes,
    rss_bytes,
    save,
    slope,
    spread,
    threads,
    threads_since,
)
from support.processes import wait_until

SETTLE_S = 40.0
TRIO = "main"
"""The thread that runs Trio, as `measure.threads` names it."""


def one(n: int, settle_s: float, idle_s: float) -> dict[str, Any]:
    """One cell: N sessions, default keep-alive, `idle_s` of quiet."""
    with fleet(n, settings=OPEN_LIMITER) as f:
        pause = threading.Event()
        pause.wait(settle_s)
        before, by_thread = cpu_s(f.runner.pid), threads(f.runner.pid)
        pings = f.control.stats()["pings"]
        pause.wait(idle_s)
        cpu, used = cpu_s(f.runner.pid) - before, threads_since(f.runner.pid, by_thread)
        pings = f.control.stats()["pings"] - pings
        return {
            "n": n,
            "rss_bytes": rss_bytes(f.runner.pid),
            "rss_anon_bytes": rss_anon_bytes(f.runner.pid),
            "simulator_rss_bytes": rss_bytes(f.simulator.pid),
            "cpu_of_one_core": cpu / idle_s,
            "idle_s": idle_s,
            "pings": pings,
            "threads": per_thread(used, idle_s, pings),
            "fds": open_fds(f.runner.pid),
        }


def watching(n: int, settle_s: float, idle_s: float, pairs: int) -> list[dict[str, Any]]:
    """Windows of one fleet, with and without monitoring in turn."""
    rows = []
    with fleet(n, settings=OPEN_LIMITER) as f:
        pause = threading.Event()
        pause.wait(settle_s)
        for turn in range(2 * pairs):
            is_on = turn % 2 == 0
            monitor(f, is_on)
            # Turned on again, it keeps a first reading at once; the next come by themselves.
            pause.wait(2.0)
            before = threads(f.runner.pid)
            pause.wait(idle_s)
            used = threads_since(f.runner.pid, before)
            rows.append(
                {
                    "n": n,
                    "monitoring": is_on,
                    "window_s": idle_s,
                    "trio_thread_cpu_of_one_core": used[TRIO].cpu_s / idle_s,
                    "process_cpu_of_one_core": sum(use.cpu_s for use in used.values()) / idle_s,
                }
            )
    return rows


def monitor(f: Fleet, is_on: bool) -> None:
    """Change the setting as an operator would, and wait until it holds."""
    file = Path(f.runner.env["WHATSAPP_DATA_DIR"]) / "runner.toml"
    file.write_text(f"performance_monitoring = {str(is_on).lower()}\n")
    f.runner.child.send_signal(signal.SIGHUP)

    def holds() -> bool:
        return bool(f.runner.request("GET", "/performance-metrics?limit=0")[1]["monitoring"] == is_on)

    wait_until(holds, 10.0, f"monitoring {is_on}")


def overhead(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians with and without, and the difference."""
    found: dict[str, Any] = {}
    for key in ("trio_thread_cpu_of_one_core", "process_cpu_of_one_core"):
        on, off = ([row[key] for row in rows if row["monitoring"] is it] for it in (True, False))
        found[key] = {
            "on": asdict(spread(on)),
            "off": asdict(spread(off)),
            "difference": spread(on).median - spread(off).median,
        }
    return found


def per_thread(used: Mapping[str, ThreadUse], window_s: float, pings: int) -> dict[str, dict[str, float]]:
    """For each thread: its share of a core, its microseconds for each ping with its pong, its switches."""
    return {
        name: {
            "cpu_of_one_core": use.cpu_s / window_s,
            "cpu_us_per_ping": use.cpu_s * 1e6 / pings if pings else 0.0,
            "sleeps": use.sleeps,
            "sleeps_per_ping": use.sleeps / pings if pings else 0.0,
            "preemptions": use.preemptions,
        }
        for name, use in sorted(used.items())
    }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100,1000,2500")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds from the last login on")
    parser.add_argument("--idle", type=float, default=70.0, help="seconds of the window")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--monitoring", type=int, default=0, help="pairs of windows; 0: none")
    parser.add_argument("--peer", default="100,300")
    parser.add_argument("--name", default="idle_memory", help="of the file in bench/results")
    args = parser.parse_args()
    sizes = [int(n) for n in args.sizes.split(",")]
    if args.monitoring:
        windows = watching(max(sizes), args.settle, args.idle, args.monitoring)
        save(args.name, {"n": max(sizes), **overhead(windows)}, windows)
        return
    rows = [one(n, args.settle, args.idle) for n in sizes for _ in range(args.runs)]
    largest = [r for r in rows if r["n"] == max(sizes)]
    summary: dict[str, Any] = {
        "cpu_of_one_core_at_largest": max(r["cpu_of_one_core"] for r in largest),
        "cpu_us_per_ping_at_largest": {
            name: use["cpu_us_per_ping"] for name, use in largest[-1]["threads"].items()
        },
    }
    if len(sizes) > 1:
        summary |= {
            "rss_slope_bytes_per_session": round(slope([(r["n"], r["rss_bytes"]) for r in rows])),
            "rss_anon_slope_bytes_per_session": round(slope([(r["n"], r["rss_anon_bytes"]) for r in rows])),
            "fds_per_session": slope([(r["n"], r["fds"]) for r in rows]),
        }
    if args.peer:
        peer = baileys.run("bench_memory.mjs", "--runs", "1", "--sizes", args.peer, "--settle", "30")
        summary["baileys_rss_slope_bytes_per_session"] = peer["summary"]["plain"]["slopeKiBPerSession"] * 1024
        summary["baileys_rss_after_gc_slope_bytes_per_session"] = (
            peer["summary"]["plain"]["slopeAfterGcKiBPerSession"] * 1024
        )
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
