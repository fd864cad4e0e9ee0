"""The proofs of tests/e2e/test_faults*.py at full size: a thousand sessions, default timings, fifty kills.

    python -m bench.scenarios.soak [--only NAME ...] [--quick]

Each part prints a line. A part that fails says so, the others go on, and the exit code is 1.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio

from bench.scenarios.measure import RESULTS, commit, save, tail
from support import crashes, fault_table, faults
from support.inside import blocked, inside
from support.isolation import isolation as troubled
from support.message_kills import message_kills as killed_in_a_stream
from support.pair import Pair, pair, simulated
from support.pairings import pairings
from support.signal_group import Group
from support.signal_peers import Programs, missing
from support.signal_replay import PAIRS, Conversation
from support.store_lock import locked, stopped_under_a_lock
from support.troubles import SETTINGS

Figures = dict[str, Any]
UNLIMITED = {
    "WHATSAPP_CONNECT_RATE": "100000",
    "WHATSAPP_CONNECT_BURST": "1000",
    "WHATSAPP_CONNECT_CONCURRENCY": "256",
}
EAGER = UNLIMITED | {
    "WHATSAPP_RECONNECTION_BASE_DELAY": "50",
    "WHATSAPP_RECONNECTION_MAX_DELAY": "200",
    "WHATSAPP_RECONNECTION_MAX_RETRIES": "0",
}
"""For ends within the stable period of each other, for which the default policy rightly waits minutes."""
BAR_DEAD_S = 32.0
"""design.md §10: a dead peer is noticed, p99, with the default keep-alive."""
BAR_DEAD_P50_S = 22.0
BAR_PAIRING_MS = 20.0
"""What a ping may take longer, p99, while fifty phones are linked and three programs share two cores."""
PING_S = 17.5
"""The mean interval of the default keep-alive: who logged in together pings together, so that silences spread
over any other time would meet some moments of the interval twice."""
BAR_NOTICED = 2.0
"""requirements.md, pain 20: p99 in the trouble, of that without."""
FLOOR_MS = 20.0
"""Below it a p99 says who had the two cores just then: a simulator, a runner and this process."""
PINGS = {"WHATSAPP_KEEPALIVE_MIN": "1000", "WHATSAPP_KEEPALIVE_MAX": "2000"}


def zombies(directory: Path, n: int, *, quick: bool) -> Figures:
    """Default keep-alive over TLS: a tenth of the sessions falls silent in each of the two ways."""
    silent = n // 20 if quick else n // 10
    with pair(directory, n, UNLIMITED, tls=True) as p:
        p.control.wait_stats(pings=n, timeout_s=60.0)
        figures = {level: faults.zombies(p, silent, level, BAR_DEAD_S, PING_S) for level in ("app", "socket")}
        faults.assert_never_doubled(p)
    assert all(it["noticed_p50_s"] <= BAR_DEAD_P50_S for it in figures.values()), figures
    return figures


def blocked_python(directory: Path, n: int, *, quick: bool) -> Figures:
    """The interpreter of the runner's process is held, GIL and all, while messages arrive."""

    async def run() -> Figures:
        with simulated(directory, n, tls=True) as simulator:
            async with inside(directory, simulator, health_s=5.0) as it:
                return await blocked(it, 20.0 if quick else 120.0, 0.2, 20.0)

    return trio.run(run)


def storms(directory: Path, n: int, *, quick: bool) -> Figures:
    """Mass drops at a limited rate, outages, a racing operator, a flapping account, a raised version."""
    rate, burst = 100.0, 20
    settings = {
        "WHATSAPP_CONNECT_RATE": f"{rate:g}",
        "WHATSAPP_CONNECT_BURST": str(burst),
        "WHATSAPP_CLIENT_VERSION": "auto",
    }
    with pair(directory, n, settings) as p:
        # First: within ten seconds of a mass drop no end is held against a single session.
        found: Figures = {"flapping": faults.flapping(p, p.ids()[n // 2], 8)}
        for hard in (True, False):
            found[f"drop_{'hard' if hard else 'clean'}"] = faults.mass_drop(p, rate, burst, hard=hard)
            reset(p)
        outages = [(10.0, "unlisten"), (60.0, "reset"), (10.0, "503"), (300.0, "unlisten")]
        for seconds, mode in outages[: 1 if quick else 4]:
            # The canary comes 15 s after the end at the latest; then all go through the limiter.
            found[f"outage_{seconds:.0f}_s_{mode}"] = faults.outage(p, seconds, mode, 17.0 + n / rate)
            reset(p)
        found["forces"] = faults.forces_racing_drops(p, 200)
        reset(p)
        found["version"] = faults.raised_version(p, rate)
    return found


def reset(p: Pair) -> None:
    """One proof must not leave its penalties to the next."""
    for session_id in p.ids():
        p.runner.request("POST", f"/reset-circuit-breaker/{session_id}?penalty=true")
    p.runner.wait_ready(p.n, 60.0)


def leaks(directory: Path, n: int, *, quick: bool) -> Figures:
    """1,000 start/stop cycles and 10,000 reconnects: memory within 2 %, the same descriptors."""
    count = n // 5
    with pair(directory, count, EAGER, tls=True) as p:
        return crashes.nothing_leaks(p, 5 * count, (5 if quick else 50) * count, None if quick else 0.02)


def slow_start(directory: Path, n: int, *, quick: bool) -> Figures:
    """1 % hung and 1 % slow logins at start."""
    del quick
    with simulated(directory, n) as simulator:
        return crashes.slow_start(directory, simulator, n, 100.0, {})


def kills(directory: Path, n: int, *, quick: bool) -> Figures:
    """`kill -9` under message load."""
    with simulated(directory, n // 10) as simulator:
        return crashes.kills_under_load(directory, simulator, n // 10, 5 if quick else 50, 500.0, UNLIMITED)


def message_kills(directory: Path, n: int, *, quick: bool) -> Figures:
    """`kill -9` at 100 places of a stream of 1,000 end-to-end messages to a handler."""
    with simulated(directory, 5) as simulator:
        return killed_in_a_stream(directory, simulator, 5, n, 20 if quick else 100, UNLIMITED)


def unnoticed(found: Figures, *troubles: str) -> Figures:
    """The figures, if pings and calls of the API were as fast in each trouble as without."""
    for trouble in troubles:
        for what, calm in found["calm_p99_ms"].items():
            assert found[f"{trouble}_p99_ms"][what] <= max(BAR_NOTICED * calm, FLOOR_MS), (trouble, found)
    return found


def isolation(directory: Path, n: int, *, quick: bool) -> Figures:
    """A handler that fails for one session, an exception of ours at its logins: nobody else notices."""
    few = n // 5
    with simulated(directory, few) as simulator:
        found = troubled(directory, simulator, few, 8.0 if quick else 60.0, UNLIMITED | PINGS)
    return unnoticed(found, "failing_handler", "our_exception")


def lock(directory: Path, n: int, *, quick: bool) -> Figures:
    """Another process locks the store for a minute under messages for everybody; and a stop under a lock."""
    few = n // 5
    with simulated(directory / "long", few) as simulator:
        window_s = 12.0 if quick else 60.0
        found = locked(directory / "long", simulator, few, window_s, few / 2, UNLIMITED | PINGS)
    with simulated(directory / "stop", few) as simulator:
        found |= stopped_under_a_lock(directory / "stop", simulator, few, UNLIMITED)
    return unnoticed(found, "lock")


def pairing(directory: Path, n: int, *, quick: bool) -> Figures:
    """Fifty phones at once, by QR code and by typed code: memory, and the pings of those who were there."""
    few = n // 5
    pings = {"WHATSAPP_KEEPALIVE_MIN": "900", "WHATSAPP_KEEPALIVE_MAX": "1100"}
    with pair(directory, few, UNLIMITED | pings) as p:
        noticed = pairings(p, 10 if quick else 50, 5.0 if quick else 30.0)
    calm, meanwhile = tail(noticed.calm_ms), tail(noticed.meanwhile_ms)
    assert meanwhile["p99"] - calm["p99"] <= BAR_PAIRING_MS, (calm, meanwhile)
    return {
        "n": few,
        "pairings": 10 if quick else 50,
        "peak_mib": round(noticed.peak_bytes / 2**20, 1),
        "pings": {"calm": len(noticed.calm_ms), "meanwhile": len(noticed.meanwhile_ms)},
        "calm_ms": calm,
        "meanwhile_ms": meanwhile,
    }


def damage(directory: Path, n: int, *, quick: bool) -> Figures:
    """A ban over a restart, a damaged row, a torn page."""
    del quick
    few = n // 10
    with simulated(directory, few) as simulator:
        return {
            "ban": crashes.ban_over_restart(directory, simulator, few, UNLIMITED),
            "row": crashes.damaged_row(directory, simulator, few, UNLIMITED),
            "page": crashes.torn_page(directory, simulator, few, UNLIMITED),
        }


def end_to_end(directory: Path, n: int, *, quick: bool) -> Figures:
    """Thousands of messages over a bad network, between our end-to-end core and foreign ones."""
    lacking = [why for kind in ("baileys", "whatsmeow") if (why := missing(kind))]
    assert not lacking, lacking
    seeds, found = range(2 if quick else 5), {}
    with Programs(directory) as programs:
        for other, overlap in PAIRS:
            for seed in seeds:
                ours, theirs = programs.device("runner", lease=2**seed), programs.device(other)
                tally = Conversation(Random(seed), ours, theirs, overlap).run(2 * n)
                found[f"{other}_{overlap.name.lower()}_{seed}"] = asdict(tally)
        for seed in seeds:
            ours = [programs.device("runner", lease=2**seed) for _ in range(2)]
            members = [*ours, *(programs.device(kind) for kind in ("baileys", "whatsmeow"))]
            found[f"group_{seed}"] = asdict(Group(Random(seed), members, ours).run(n))
    return found


def alerts(directory: Path, n: int, *, quick: bool) -> Figures:
    """Each fault is told once on every channel, with the default timings: minutes instead of seconds."""
    rows = fault_table.table(slowly=True)[: 6 if quick else None]
    del n  # a share of the fleet is what counts
    # A login that is waited for for two minutes must not have failed twice by then.
    settings = SETTINGS | {"WHATSAPP_LOGIN_TIMEOUT": "300000"}
    with fault_table.fleets_of(directory, 4, 60, settings, 20.0) as fleets:
        fault_table.go_through(rows, fleets)
    return {"n": 60, "told_once": [name for name, _ in rows]}


PARTS: dict[str, Callable[..., Figures]] = {
    "zombies": zombies,
    "blocked_python": blocked_python,
    "storms": storms,
    "leaks": leaks,
    "slow_start": slow_start,
    "kills": kills,
    "message_kills": message_kills,
    "isolation": isolation,
    "lock": lock,
    "pairing": pairing,
    "damage": damage,
    "end_to_end": end_to_end,
    "alerts": alerts,
}


def attempt(name: str, part: Callable[[Path], Figures]) -> Figures:
    """Run one part in a folder of its own and print its line."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="runner-soak-") as folder:
        try:
            row: Figures = {"passed": True, "figures": part(Path(folder))}
        except Exception as error:
            traceback.print_exc()
            row = {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
    row = {"part": name, **row, "took_s": round(time.monotonic() - began, 1)}
    print(f"{name:15} {'ok' if row['passed'] else 'FAILED':6} {row['took_s']:6.1f} s", flush=True)
    return row


def earlier() -> list[Figures]:
    """The parts that the result file holds already."""
    path = RESULTS / "soak.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def main() -> None:
    """All parts, or those that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a fifth of the sessions and of the repetitions")
    args = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = 200 if args.quick else 1000
    passed = True
    for name in args.only:
        row = attempt(name, partial(PARTS[name], n=n, quick=args.quick)) | {"n": n, "commit": commit()}
        passed &= row["passed"]
        # After each part, and beside the parts of other runs: what is done is kept.
        rows = [row, *(other for other in earlier() if other["part"] != name)]
        save("soak", {it["part"]: it["passed"] for it in rows}, rows)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
