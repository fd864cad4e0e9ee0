"""Each fault that the simulator can inject is one alert and one recovery, or none, the same on every channel.

What runs out on a machine, and a server that is slow, are in `test_thresholds`.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support.alerts import file_told
from support.pair import FAST_PINGS, running, simulated, store_path
from support.processes import wait_until
from support.troubles import NOTHING_TO_TELL, OF_THE_FLEET, befall, do_nothing_to_tell, of_one_session
from support.watch import IMPATIENT, INDIFFERENT, all_at_once, exactly, post, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.troubles import Trouble
    from support.watch import Watched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FLEETS = 3
"""Faults of a fleet hide one another, and most of their time is waiting: so there are several fleets."""
N = 60
"""Ten in trouble at once are less than a fifth."""
SETTINGS = (
    FAST_PINGS
    | IMPATIENT
    | INDIFFERENT
    | {
        "WHATSAPP_CLIENT_VERSION": "auto",
        "WHATSAPP_IK": "off",  # as with the real host: a resumed handshake shows no certificates
        "WHATSAPP_CIRCUIT_BREAKER_THRESHOLD": "2",
        "WHATSAPP_RECONNECTION_MAX_RETRIES": "3",
        "WHATSAPP_HANDSHAKE_TIMEOUT": "1000",
        "WHATSAPP_QUERY_TIMEOUT": "1000",
    }
)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    """For all faults: starting two processes costs more than most of them."""
    with contextlib.ExitStack() as stack:
        made: list[Watched] = []
        for number in range(FLEETS):
            directory = tmp_path_factory.mktemp(f"fleet{number}")
            letters = stack.enter_context(post())
            simulator = stack.enter_context(simulated(directory, N))
            p = stack.enter_context(running(directory, simulator, N, SETTINGS | letters.settings()))
            p.runner.wait_ready(N)
            made.append(stack.enter_context(watched(p, letters, directory)))
        yield made
        for w in made:
            assert "Traceback" not in w.p.runner.output()


def of_the_fleet(trouble: Trouble) -> Callable[[Watched], None]:
    return lambda w: befall(w, trouble)


def of_sessions(w: Watched) -> None:
    all_at_once(w, of_one_session(w))


def nothing_to_tell(w: Watched) -> None:
    with exactly(w):
        for session_id, it in zip(w.p.ids(), NOTHING_TO_TELL, strict=False):
            do_nothing_to_tell(w, it, session_id)


TABLE: dict[str, Callable[[Watched], None]] = {
    OF_THE_FLEET[0].name: of_the_fleet(OF_THE_FLEET[0]),  # the longest first
    "faults of single sessions": of_sessions,
    "what mends itself within seconds": nothing_to_tell,
    **{trouble.name: of_the_fleet(trouble) for trouble in OF_THE_FLEET[1:]},
}


@pytest.mark.pain(25)
def test_each_fault_is_told_once_and_hides_what_it_caused(fleets: list[Watched]) -> None:
    """The tables are in `support.troubles`; each fleet takes the next row when it is well again."""
    rows = list(reversed(TABLE.items()))

    def work(w: Watched) -> None:
        while rows:
            name, row = rows.pop()
            try:
                row(w)
            except BaseException as error:
                error.add_note(f"while this was wrong: {name}")
                raise

    with ThreadPoolExecutor(FLEETS) as pool:
        for done in [pool.submit(work, w) for w in fleets]:
            done.result()


@pytest.mark.pain(25)
def test_an_alert_and_its_acknowledgement_outlive_a_kill_9(tmp_path: Path) -> None:
    """The threshold is lowered and raised by SIGHUP. The next process tells neither again, only the end."""
    toml = tmp_path / "data" / "runner.toml"
    settings = {name: value for name, value in SETTINGS.items() if name != "WHATSAPP_MEMORY_THRESHOLD"}
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
