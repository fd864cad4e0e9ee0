"""Supervisor, health and the real engine inside the test's own process, against a simulator in another.

For what the settings of a whole process cannot reach: a blocked Trio thread, and deaf rules whose clocks are
fixed at minutes.
"""

from __future__ import annotations

import ctypes
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from runner.counters import CounterTable
from runner.engine import open_engine, open_store
from runner.health import Health, Limits
from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor import Options, Supervisor
from runner.watched import WatchedEngine
from support.control import Control
from support.pair import store_path, users_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from runner import _core
    from runner.supervisor.feed import StatusEvent
    from support.processes import SimulatorProcess

FAST = Policy(connect_rate_per_s=500.0, connect_burst=500, connect_concurrency=200)


@dataclass(frozen=True, slots=True)
class Inside:
    """What runs in this process, and the simulator's control port."""

    supervisor: Supervisor
    health: Health
    engine: _core.Engine
    control: Control
    users: dict[str, str]

    def connections(self) -> dict[str, int]:
        """The number of each session's connection."""
        return {view.session_id: view.connection for view in self.supervisor.rows()}

    def are_online(self) -> bool:
        """Whether everybody is."""
        return all(view.state is State.ONLINE for view in self.supervisor.rows())


class Heard:
    """Every event of the supervisor from now on."""

    def __init__(self, it: Inside) -> None:
        self._channel = it.supervisor.subscribe(100_000)
        self.events: list[StatusEvent] = []

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Take events until the condition holds."""
        with trio.fail_after(timeout_s):
            while not condition():
                self.events.append(await self._channel.receive())

    def degraded(self) -> set[tuple[str, str | None]]:
        """(session, probe) of each that was shown degraded."""
        views = [e.view for e in self.events if e.name == "session.status" and e.view is not None]
        return {(v.session_id, v.reason) for v in views if v.state is State.DEGRADED}

    def incidents(self) -> list[object]:
        """Kinds of the incidents that were opened."""
        return [e.data["kind"] for e in self.events if e.name == "incident.opened"]


@asynccontextmanager
async def inside(
    directory: Path,
    simulator: SimulatorProcess,
    *,
    health_s: float,
    **engine: Any,  # noqa: ANN401 - EngineConfig
) -> AsyncIterator[Inside]:
    """All sessions of the data directory online; `engine` are keywords of `_core.EngineConfig`."""
    store = open_store(store_path(directory), 3600.0)
    ca = simulator.ca_file.read_bytes() if simulator.ca_file else None
    link = open_engine(
        store,
        endpoint=simulator.url,
        root_key=bytes.fromhex(simulator.root_key_hex),
        tls_ca_pem=ca,
        **engine,
    )
    options = Options(endpoint=simulator.url, resume=True, client_version=(2, 3000, 1_040_000_000))
    watched = WatchedEngine(link, CounterTable(link.columns), lambda _event: None)
    supervisor = Supervisor(watched, store, FAST, options, rng=Random(1))
    # Two of twenty are ten percent: small fleets are not spared here.
    health = Health(supervisor, health_s, Limits(deaf_fleet_min_sessions=3))
    it = Inside(supervisor, health, link, Control(simulator.control), users_of(simulator.credentials))
    try:
        async with trio.open_nursery() as nursery:
            heard = Heard(it)
            await nursery.start(supervisor.run)
            nursery.start_soon(health.run)
            await heard.until(it.are_online, 60.0)
            yield it
            assert await supervisor.shutdown(8.0)
            nursery.cancel_scope.cancel()
    finally:
        link.shutdown()
        store.close()


def block_the_interpreter(seconds: float) -> None:
    """Hold this thread and the GIL: no Python of this process runs meanwhile, on any thread."""
    ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))


def refuse_inbox_rows(directory: Path, session_id: str) -> None:
    """From now on no message of this session can be committed, while those of others can."""
    with closing(sqlite3.connect(store_path(directory))) as db, db:
        db.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN NEW.session_id = '{session_id}'"
            " BEGIN SELECT RAISE(ABORT, 'refused by a test'); END"
        )


async def blocked(it: Inside, seconds: float, rate: float, ping_max_s: float) -> dict[str, Any]:
    """Block Python under load: pings and answers go on, nothing is disconnected, and health blames itself."""
    n = len(it.users)
    control = it.control
    before = it.connections()
    heard = Heard(it)
    answered: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_load, control, rate, seconds)
        acks = (await trio.to_thread.run_sync(control.stats))["acks"]
        await trio.to_thread.run_sync(lambda: control.wait_stats(acks=acks + n))
        start = control.stats()
        block_the_interpreter(seconds)
        end = control.stats()
        nursery.cancel_scope.cancel()
    answered = {
        key: end[key] - start[key] for key in ("pings", "acks", "nodesPushed", "logins", "closedByServer")
    }
    assert answered["logins"] == 0
    assert end["open"] == n, f"{end['open']} of {n} connections left"
    worst_s = max(_worst_gap_s(control, user, start["now"], end["now"]) for user in it.users.values())
    assert worst_s <= ping_max_s + 1.0, f"a session was silent for {worst_s:.1f} s"
    # What came in the last moment may be under way; a tenth of a second of the load is a generous moment.
    assert answered["acks"] >= 0.9 * answered["nodesPushed"] > 0
    await heard.until(lambda: "event_loop_lag" in heard.incidents(), 3 * it.health.interval_s + 5.0)
    assert it.connections() == before
    assert it.health.rebuilt_total == 0
    assert (await trio.to_thread.run_sync(control.stats))["duplicates"] == 0
    return {
        "n": n,
        "blocked_s": seconds,
        "messages": answered["nodesPushed"],
        "answered": answered["acks"],
        "pings": answered["pings"],
        "worst_ping_gap_s": worst_s,
        "disconnects": 0,
    }


async def _load(control: Control, rate: float, seconds: float) -> None:
    def push() -> None:
        length_s = seconds + 5
        order = {"n": int(rate * length_s), "rate": rate * control.stats()["open"], "maxSeconds": length_s}
        control.post("/push", order, all=True, template="message")

    await trio.to_thread.run_sync(push, abandon_on_cancel=True)


def _worst_gap_s(control: Control, user: str, start_ms: float, end_ms: float) -> float:
    """The longest time without a ping of this user's connection during the block."""
    times = [t for row in control.get("/pings", user=user) for t in row["pings"] if start_ms <= t <= end_ms]
    marks = [start_ms, *times, end_ms]
    return max(b - a for a, b in pairwise(marks)) / 1000
