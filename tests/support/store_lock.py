"""A lock on the store, held by another process, while messages come: who notices what."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.control import Control
from support.crashes import open_kinds
from support.faults import open_incidents
from support.latencies import Latencies
from support.messages import SENT_CAPACITY, Load, kept_once, wait_answered
from support.pair import running, store_path
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.faults import Figures
    from support.pair import Pair
    from support.processes import SimulatorProcess

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30.0, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
db.execute("COMMIT")
"""
"""In a process of its own: two SQLite libraries in one would undo each other's file locks."""


@contextmanager
def held_lock(store: Path) -> Iterator[None]:
    """Another process is in the middle of a change, for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            assert holder.wait(30.0) == 0


def locked(
    directory: Path,
    simulator: SimulatorProcess,
    n: int,
    window_s: float,
    per_s: float,
    settings: dict[str, str],
) -> Figures:
    """Messages for everybody without a pause; after `window_s`, the store is locked for as long again.

    Nobody is disconnected and nobody is judged deaf, what reads is answered, who logs in meanwhile gets
    online, and in the end every message is in the inbox once and answered. What the latencies were is told.
    """
    control = Control(simulator.control)
    control.post("/config", sentCapacity=SENT_CAPACITY)
    with running(directory, simulator, n, settings) as p:
        p.runner.wait_ready(n, 60.0)
        some = p.ids()[0]
        with Load(control, list(p.users.values()), per_s) as load:
            calm, under = Latencies(p), Latencies(p)
            calm.watch(window_s)
            calm_dial_s = _reconnected(p, some)
            with held_lock(store_path(directory)):
                under.watch(window_s / 2)
                lock_dial_s = _reconnected(p, some)
                under.watch(window_s / 2)
                waited_s = p.runner.request("GET", "/performance-metrics?limit=0")[1]["store"]["lockWait"]
                incidents = {it["kind"]: it["text"] for it in open_incidents(p)}
                refused = p.runner.request("POST", "/api/sessions", {"id": "late"}, timeout_s=30.0)
                assert refused[0] == 503, refused
                owed = sum(row["owed"] for row in control.sessions())
                let_go = time.monotonic()
            wait_until(lambda: "store_stalled" not in open_kinds(p), 60.0, "the end of it is told")
            digested_s = time.monotonic() - let_go
            wait_until(lambda: not open_kinds(p), 60.0, "no incident is left")
        wait_answered(control)
        assert "another process has the database locked" in incidents["store_stalled"], incidents
        assert waited_s >= 0.9 * window_s, waited_s
        rows = p.rows()
        assert {row["state"] for row in rows.values()} == {"online"}
        assert {row["connection"] for name, row in rows.items() if name != some} == {1}, "a disconnect"
        assert rows[some]["connection"] == 3
        assert "late" not in rows
        assert control.stats()["duplicates"] == 0
        assert p.lines("store failed") == []
        assert p.runner.stop() == 0
        assert "Traceback" not in p.runner.output()
    answered, kept = kept_once(directory, simulator)
    assert len(kept) == load.pushed, f"{load.pushed} pushed, {len(kept)} kept"
    assert answered == kept
    return {
        "n": n,
        "window_s": window_s,
        "messages": load.pushed,
        "owed_at_the_end_of_the_lock": owed,
        "worked_off_s": round(digested_s, 2),
        "pings": [len(calm.pings), len(under.pings)],
        "calls": [len(calm.calls), len(under.calls)],
        "calm_p99_ms": calm.p99_ms(),
        "lock_p99_ms": under.p99_ms(),
        "others_cores": [calm.others_cores, under.others_cores],
        "reconnect_s": [round(calm_dial_s, 3), round(lock_dial_s, 3)],
        "disconnects": 0,
        "lost": 0,
        "doubled": 0,
    }


def stopped_under_a_lock(
    directory: Path, simulator: SimulatorProcess, n: int, settings: dict[str, str]
) -> Figures:
    """A runner that is stopped under a lock ends in its time; the next one fetches what was not answered."""
    control = Control(simulator.control)
    control.post("/config", sentCapacity=SENT_CAPACITY)
    pushed = 0
    with running(directory, simulator, n, settings) as p:
        p.runner.wait_ready(n, 60.0)
        with held_lock(store_path(directory)):
            pushed += control.post("/push", all=True, template="message", n=2)["sent"]
            wait_until(lambda: sum(row["owed"] for row in control.sessions()) == pushed, 20.0, "all wait")
            began = time.monotonic()
            assert p.runner.stop(30.0) == 0
            took_s = time.monotonic() - began
    with running(directory, simulator, n, settings) as p:
        p.runner.wait_ready(n, 60.0)
        wait_answered(control)
        assert p.runner.stop() == 0
    answered, kept = kept_once(directory, simulator)
    assert (len(kept), answered) == (pushed, kept)
    return {"stopped_under_a_lock_s": round(took_s, 2), "messages_of_the_next": pushed}


def _reconnected(p: Pair, session: str) -> float:
    """Seconds until a session that is told to reconnect is online again."""
    before, began = p.rows()[session]["connection"], time.monotonic()
    status, told = p.runner.request("POST", f"/force-reconnection/{session}", timeout_s=30.0)
    assert status == 202, told
    wait_until(
        lambda: (row := p.rows()[session])["connection"] > before and row["state"] == "online",
        20.0,
        "the session comes back",
    )
    return time.monotonic() - began
