"""Memory and CPU of idle online sessions: RSS over the number of sessions, TLS on, and the slope.

python -m bench.scenarios.idle_memory [--sizes 100,1000,2500] [--idle 60] [--runs 1] [--peer 100,300]
"""

import argparse
import threading
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.fleet import fleet
from bench.scenarios.measure import cpu_s, open_fds, rss_anon_bytes, rss_bytes, save, slope


def one(n: int, idle_s: float) -> dict[str, Any]:
    """One cell: N sessions, default keep-alive, `idle_s` of quiet."""
    with fleet(n) as f:
        pause = threading.Event()
        pause.wait(5.0)
        before = cpu_s(f.runner.pid)
        pings = f.control.get("/stats")["pings"]
        pause.wait(idle_s)
        cpu = cpu_s(f.runner.pid) - before
        return {
            "n": n,
            "rss_bytes": rss_bytes(f.runner.pid),
            "rss_anon_bytes": rss_anon_bytes(f.runner.pid),
            "simulator_rss_bytes": rss_bytes(f.simulator.pid),
            "cpu_of_one_core": cpu / idle_s,
            "pings": f.control.get("/stats")["pings"] - pings,
            "fds": open_fds(f.runner.pid),
        }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100,1000,2500")
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--peer", default="100,300")
    args = parser.parse_args()
    sizes = [int(n) for n in args.sizes.split(",")]
    rows = [one(n, args.idle) for n in sizes for _ in range(args.runs)]
    summary: dict[str, Any] = {
        "rss_slope_bytes_per_session": round(slope([(r["n"], r["rss_bytes"]) for r in rows])),
        "rss_anon_slope_bytes_per_session": round(slope([(r["n"], r["rss_anon_bytes"]) for r in rows])),
        "cpu_of_one_core_at_largest": max(r["cpu_of_one_core"] for r in rows if r["n"] == max(sizes)),
        "fds_per_session": slope([(r["n"], r["fds"]) for r in rows]),
    }
    if args.peer:
        peer = baileys.run("bench_memory.mjs", "--runs", "1", "--sizes", args.peer, "--settle", "30")
        summary["baileys_rss_slope_bytes_per_session"] = peer["summary"]["plain"]["slopeKiBPerSession"] * 1024
        summary["baileys_rss_after_gc_slope_bytes_per_session"] = (
            peer["summary"]["plain"]["slopeAfterGcKiBPerSession"] * 1024
        )
    save("idle_memory", summary, rows)


if __name__ == "__main__":
    main()
