"""The server cuts every connection at once; time from the cut to online again, for each session.

    python -m bench.scenarios.reconnect_storm [--sizes 1,100,1000] [--runs 3] [--rate 100000] [--peer 100]

Sessions have been stable for longer than 30 s first, as the policy's immediate first retry asks. `--rate
300` is the storm behind a limiter: the dials of its busiest second are those that reached the simulator.
"""

import argparse
import threading
from dataclasses import asdict
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.fleet import OPEN_LIMITER, Fleet, fleet
from bench.scenarios.measure import cpu_s, quantile, save, spread
from support.faults import most_in_window
from support.pair import pages
from support.processes import wait_until

STABLE_S = 36.0
PATIENCE_S = 180.0


def drop_and_measure(f: Fleet, stable_s: float) -> dict[str, Any]:
    """One cut; the delay of each session in milliseconds, by its own `since`."""
    threading.Event().wait(stable_s)
    f.control.reset()
    cpu = cpu_s(f.runner.pid)
    cut = f.control.post("/drop-all")["t"]
    # The simulator is asked first: ten thousand rows, over and over, would slow down what is measured.
    f.control.wait_stats(PATIENCE_S, logins=f.n)
    cpu = cpu_s(f.runner.pid) - cpu

    def back() -> list[float]:
        rows = f.runner.sessions()
        delays = [r["since"] - cut for r in rows if r["state"] == "online" and r["since"] >= cut]
        return delays if len(delays) == f.n else []

    delays = wait_until(back, PATIENCE_S, "all sessions back")
    dials = [e["t"] for e in pages(f.control, "/events") if e["type"] == "connect"]
    return {
        "n": f.n,
        "p50_ms": quantile(delays, 0.5),
        "p99_ms": quantile(delays, 0.99),
        "max_ms": max(delays),
        "dials": len(dials),
        "peak_dials_1s": most_in_window(dials, 1000),
        "runner_cpu_ms_per_reconnect": cpu * 1000 / f.n,
    }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1,100,1000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", default=OPEN_LIMITER["WHATSAPP_CONNECT_RATE"], help="WHATSAPP_CONNECT_RATE")
    parser.add_argument("--stable", type=float, default=STABLE_S, help="seconds online before each cut")
    parser.add_argument("--peer", default="100")
    parser.add_argument("--name", default="reconnect_storm", help="of the file in bench/results")
    args = parser.parse_args()
    settings = {**OPEN_LIMITER, "WHATSAPP_CONNECT_RATE": args.rate}
    rows = []
    for n in [int(size) for size in args.sizes.split(",")]:
        with fleet(n, settings=settings) as f:
            rows += [drop_and_measure(f, args.stable) for _ in range(args.runs)]
    summary: dict[str, Any] = {
        f"{key}_{n}": asdict(spread([r[key] for r in rows if r["n"] == n]))
        for n in sorted({r["n"] for r in rows})
        for key in ("p50_ms", "p99_ms", "max_ms", "peak_dials_1s")
    }
    if args.peer:
        peer = baileys.run("bench_reconnect.mjs", "--runs", "2", "--sizes", args.peer)
        summary["baileys"] = {
            size: {"p50_ms": cell["p50Ms"]["median"], "p99_ms": cell["p99Ms"]["median"]}
            for size, cell in peer["summary"].items()
        }
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
