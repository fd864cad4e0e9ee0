"""The server cuts every connection at once; time from the cut to online again, for each session.

    python -m bench.scenarios.reconnect_storm [--sizes 1,100,1000] [--runs 3] [--rate 100000] [--peer 100]

Sessions have been stable for longer than 30 s first, as the policy's immediate first retry asks.
"""

import argparse
import threading
from dataclasses import asdict
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.fleet import Fleet, fleet
from bench.scenarios.measure import cpu_s, quantile, save, spread
from support.processes import wait_until

STABLE_S = 36.0


def drop_and_measure(f: Fleet) -> dict[str, Any]:
    """One cut; the delay of each session in milliseconds, by its own `since`."""
    threading.Event().wait(STABLE_S)
    cpu = cpu_s(f.runner.pid)
    cut = f.control.post("/drop-all")["t"]

    def back() -> list[float]:
        rows = f.runner.sessions()
        delays = [r["since"] - cut for r in rows if r["state"] == "online" and r["since"] >= cut]
        return delays if len(delays) == f.n else []

    delays = wait_until(back, 180.0, "all sessions back")
    return {
        "n": f.n,
        "p50_ms": quantile(delays, 0.5),
        "p99_ms": quantile(delays, 0.99),
        "max_ms": max(delays),
        "runner_cpu_ms_per_reconnect": (cpu_s(f.runner.pid) - cpu) * 1000 / f.n,
    }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1,100,1000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", default="100000", help="WHATSAPP_CONNECT_RATE")
    parser.add_argument("--peer", default="100")
    args = parser.parse_args()
    settings = {"WHATSAPP_CONNECT_RATE": args.rate, "WHATSAPP_CONNECT_CONCURRENCY": "256"}
    rows = []
    for n in [int(size) for size in args.sizes.split(",")]:
        with fleet(n, settings=settings) as f:
            rows += [drop_and_measure(f) for _ in range(args.runs)]
    summary: dict[str, Any] = {
        f"{key}_{n}": asdict(spread([r[key] for r in rows if r["n"] == n]))
        for n in sorted({r["n"] for r in rows})
        for key in ("p50_ms", "p99_ms")
    }
    if args.peer:
        peer = baileys.run("bench_reconnect.mjs", "--runs", "2", "--sizes", args.peer)
        summary["baileys"] = {
            size: {"p50_ms": cell["p50Ms"]["median"], "p99_ms": cell["p99Ms"]["median"]}
            for size, cell in peer["summary"].items()
        }
    save("reconnect_storm", summary, rows)


if __name__ == "__main__":
    main()
