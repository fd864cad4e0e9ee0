"""Each fault that can be injected is one alert and one recovery, or none, the same on every channel.

What a server does to sessions, and what goes wrong inside the runner. What runs out on a machine, and a
server that is slow, are in `test_thresholds`.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support import sabotage
from support.alerts import file_told
from support.fault_table import fleets_of, go_through, table
from support.pair import FAST_PINGS, running, simulated, store_path
from support.processes import wait_until
from support.troubles import SETTINGS
from support.watch import IMPATIENT, post, side_by_side, watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.watch import Watched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FLEETS = 3
"""Faults of one fleet hide one another, and most of the time is waiting."""
N = 60
"""Ten in trouble at once are less than a fifth."""
SWIFT = (
    SETTINGS
    | FAST_PINGS
    | IMPATIENT
    | {"WHATSAPP_HANDSHAKE_TIMEOUT": "1000", "WHATSAPP_QUERY_TIMEOUT": "1000"}
)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    """For all faults: starting two processes costs more than most of them."""
    with fleets_of(tmp_path_factory.mktemp("fleets"), FLEETS, N, SWIFT) as made:
        yield made


@pytest.fixture(scope="module")
def saboteur(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A runner that can be disturbed. What it counts within five minutes it counts within six seconds."""
    directory = tmp_path_factory.mktemp("saboteur")
    n = sabotage.FIT + 1
    with post() as letters, simulated(directory, n) as simulator:
        settings = SWIFT | sabotage.SETTINGS | letters.settings() | {"WHATSAPP_ALERT_PATIENCE": "0.02"}
        with running(directory, simulator, n, settings, code=sabotage.CODE) as p:
            p.runner.wait_ready(sabotage.FIT)
            with watched(p, letters, directory) as made:
                sabotage.stop_the_last(made)
                yield made


def inside(w: Watched) -> None:
    side_by_side(
        w,
        [sabotage.blocked_thread(w), sabotage.one_session_too_many(w)],
        [sabotage.clock_that_is_set(w)],
        [sabotage.bug_in_a_request(w), sabotage.bug_in_a_session(w)],
    )


@pytest.mark.pain(25)
def test_each_fault_is_told_once_and_hides_what_it_caused(fleets: list[Watched], saboteur: Watched) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(go_through, table(), fleets), pool.submit(inside, saboteur)]:
            done.result()


@pytest.mark.pain(25)
def test_an_alert_and_its_acknowledgement_outlive_a_kill_9(tmp_path: Path) -> None:
    """The threshold is lowered and raised by SIGHUP. The next process tells neither again, only the end."""
    toml = tmp_path / "data" / "runner.toml"
    settings = {name: value for name, value in SWIFT.items() if name != "WHATSAPP_MEMORY_THRESHOLD"}
    with post() as letters, simulated(tmp_path, 4) as simulator:
        settings |= letters.settings()
        toml.write_text("memory_threshold = 0.001\n")
        with running(tmp_path, simulator, 4, settings) as p:
            p.runner.wait_ready(4)
            with watched(p, letters, tmp_path) as w:
                memory = w.wait_firing("memory_high")
                assert memory["threshold"] == 0.001
                status, acked = p.runner.request("POST", f"/api/alerts/{memory['id']}/ack", {"by": "ana"})
                assert (status, acked["acknowledgedBy"]) == (200, "ana")
                wait_until(lambda: "ana" in saved_alerts(tmp_path), 5.0, "the acknowledgement in the store")
                p.runner.kill()
        with running(tmp_path, simulator, 4, settings) as p:
            p.runner.wait_ready(4)
            with watched(p, letters, tmp_path) as w:
                again = w.wait_firing("memory_high")
                assert (again["id"], again["acknowledgedBy"]) == (memory["id"], "ana")
                toml.write_text("memory_threshold = 1\n")
                p.runner.child.send_signal(signal.SIGHUP)
                w.wait_over()
                assert p.runner.stop() == 0
        told = file_told(w.alerts_log)
    assert told == [(f"alert.{what}", "memory_high", None) for what in ("firing", "acknowledged", "resolved")]
    assert w.listener.told() == told[2:]
    assert set(w.post.hook.told()) == set(told)


def saved_alerts(directory: Path) -> str:
    """What the store has of the alerts, read by SQLite itself."""
    with contextlib.closing(sqlite3.connect(store_path(directory))) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'alerts'").fetchone()
    return str(row[0]) if row else ""
