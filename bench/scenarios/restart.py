"""The whole runner restarted in place: how long each session is offline, and whether anybody else noticed.

    python -m bench.scenarios.restart [--sizes 100,1000] [--runs 3] [--rate 100000] [--memory 1000]

Each run asks for a restart, by the API, while a caller polls the admin socket with a new connection for each
call and somebody else tries for the runner's locks; a refused call or a lock that was free for a moment ends
the scenario. A session's time offline is the simulator's: from the end of its connection to its next login.
`--memory N` lets a runner of N sessions pass WHATSAPP_MAX_MEMORY_RESTART while messages arrive, also while
nobody is connected: time until 99 % are back, and every message that was answered is in the inbox exactly
once, by its id.
"""

import argparse
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scenarios.measure import quantile, rss_bytes, save, spread
from support.control import Control
from support.messages import Load, kept_once, wait_answered
from support.pair import Pair, pair, simulated, users_of
from support.processes import RunnerProcess, wait_until
from support.restarts import gaps, process_of, request_restart, wait_restarted, watched

OPEN = {"WHATSAPP_CONNECT_BURST": "1000", "WHATSAPP_CONNECT_CONCURRENCY": "256"}
LEAST_UPTIME_S = 5.0
HOG = f"""
import signal, sys
from runner import memory_limit
memory_limit.LEAST_UPTIME_S = {LEAST_UPTIME_S}
kept = []
signal.signal(signal.SIGUSR1, lambda *_: kept.append(bytearray(b"x") * (512 * 1024 * 1024)))
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""
HOG_LIMIT = "400M"


def by_request(p: Pair) -> dict[str, Any]:
    """One restart; the gaps of all sessions, in milliseconds."""
    with watched(p.runner) as onlookers:
        found = gaps(p, lambda: request_restart(p.runner))
    offline = found.pop("offline_ms")
    return {
        "n": p.n,
        "offline_p50_ms": quantile(offline, 0.5),
        "offline_p99_ms": quantile(offline, 0.99),
        "offline_max_ms": offline[-1],
        **found,
        "calls_answered": onlookers.answers,
        "longest_call_ms": 1000 * onlookers.longest_s,
    }


def by_memory(n: int, rate: str, per_s: float) -> dict[str, Any]:
    """A hog of 512 MiB under a limit of 400 MiB while messages arrive; then the inbox, by id."""
    with (
        tempfile.TemporaryDirectory(prefix="runner-restart-") as name,
        simulated(Path(name), n, tls=True) as simulator,
    ):
        directory, control = Path(name), Control(simulator.control)
        settings = OPEN | {"WHATSAPP_CONNECT_RATE": rate, "WHATSAPP_MAX_MEMORY_RESTART": HOG_LIMIT}
        with RunnerProcess(directory, simulator, settings, HOG) as runner:
            p = Pair(runner, simulator, control, n, users_of(simulator.credentials))
            runner.wait_ready(n, 120.0)
            wait_until(lambda: process_of(runner)["uptime"] > LEAST_UPTIME_S, 60.0, "a restart may come")
            since, before = p.now_ms(), rss_bytes(runner.pid)

            def hog() -> None:
                runner.child.send_signal(signal.SIGUSR1)
                wait_restarted(runner, 0)

            with watched(runner) as onlookers, Load(control, list(p.users.values()), per_s) as load:
                control.wait_stats(acks=n)
                found = gaps(p, hog)
                control.wait_stats(acks=control.stats()["acks"] + n)
            wait_answered(control)
            assert process_of(runner)["lastRestart"]["reason"] == "memory"
            first_close = min(event["t"] for event in p.events("close", since_ms=since))
            back = sorted(event["t"] - first_close for event in p.events("login", since_ms=since))
            after = rss_bytes(runner.pid)
            assert runner.stop() == 0
        answered, kept = kept_once(directory, simulator)
    assert answered == kept
    assert len(kept) == load.pushed, f"{load.pushed} pushed, {len(kept)} kept"
    offline = found["offline_ms"]
    return {
        "n": n,
        "offline_p50_ms": quantile(offline, 0.5),
        "offline_p99_ms": quantile(offline, 0.99),
        "share_99_back_ms": quantile(back, 0.99),
        "messages_per_s": per_s,
        "messages_pushed": load.pushed,
        "messages_answered": len(answered),
        "messages_kept_once": len(kept),
        "rss_before": before,
        "rss_after": after,
        "calls_answered": onlookers.answers,
    }


def main() -> None:
    """All sizes by request, then one by memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", default="100000", help="WHATSAPP_CONNECT_RATE")
    parser.add_argument("--memory", type=int, default=1000, help="sessions of the run by memory; 0: none")
    parser.add_argument("--messages", type=float, default=1000.0, help="a second, in the run by memory")
    parser.add_argument("--name", default="restart", help="of the result file")
    args = parser.parse_args()
    rows = []
    for n in [int(size) for size in args.sizes.split(",")]:
        with (
            tempfile.TemporaryDirectory(prefix="runner-restart-") as name,
            pair(Path(name), n, OPEN | {"WHATSAPP_CONNECT_RATE": args.rate}, tls=True) as p,
        ):
            rows += [by_request(p) for _ in range(args.runs)]
    summary: dict[str, Any] = {
        f"{key}_{n}": asdict(spread([row[key] for row in rows if row["n"] == n]))
        for n in sorted({row["n"] for row in rows})
        for key in ("offline_p50_ms", "offline_p99_ms", "first_close_to_first_login_ms", "longest_call_ms")
    }
    if args.memory:
        summary["memory"] = by_memory(args.memory, args.rate, args.messages)
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
