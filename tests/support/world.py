"""A supervisor, its engine and its server in one hand, moved through virtual time step by step.

No Trio: the machine is synchronous, so an hour of a thousand sessions is a loop over two heaps.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import TYPE_CHECKING

from runner.engine import pending
from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor import commands
from runner.supervisor.machine import Machine
from runner.supervisor.row import Options
from support.fake_engine import FakeEngine, FakeServer, FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.reconnect.version import Version
    from runner.session import SessionView

ENDPOINT = "ws://127.0.0.1:1/ws/chat"
PINNED = (2, 3000, 1_000)
FAST = Policy(connect_rate_per_s=1000.0, connect_burst=1000, connect_concurrency=1000)
"""A policy whose limiter is in nobody's way."""


class World:
    def __init__(
        self,
        store: FakeStore,
        policy: Policy = FAST,
        *,
        server: FakeServer | None = None,
        seed: int = 0,
        start: float = 1_000.0,
        unix_s: float = 1_800_000_000.0,
        newest: Callable[[], Version | None] | None = None,
        **options: object,
    ) -> None:
        self.now = start
        self.look_costs_s = 0.0
        """How much time passes with every look at the clock: work that takes time."""
        self.unix_offset_s = unix_s - start
        self.store = store
        self.engine = FakeEngine(lambda: self.now, server)
        self.newest = newest
        self.refreshes = 0
        self._options = options
        chosen = {"client_version": None if newest else PINNED, "endpoint": ENDPOINT, **options}
        self.machine = Machine(
            self.engine,
            store,
            policy,
            Options(**chosen),  # type: ignore[arg-type]
            rng=Random(seed),
            clock=self._look_at_clock,
            wall=lambda: self.now + self.unix_offset_s,
        )
        self.machine.load()

    def _look_at_clock(self) -> float:
        self.now += self.look_costs_s
        return self.now

    @property
    def server(self) -> FakeServer:
        return self.engine.server

    @property
    def unix_ms(self) -> int:
        return round((self.now + self.unix_offset_s) * 1000)

    def run(self, seconds: float) -> None:
        """Let virtual time pass, doing everything at its moment."""
        until = self.now + seconds
        for _ in range(10_000_000):
            wake = self._settle()
            times = [at for at in (wake, self.engine.next_at()) if at is not None]
            next_at = min(times, default=inf)
            if next_at > until:
                self.now = until
                self._settle()
                return
            assert next_at >= self.now or next_at == wake, "time does not run backwards"
            self.now = max(self.now, next_at)
        raise AssertionError("the machine is spinning")

    def _settle(self) -> float | None:
        """Everything that can happen at this very moment."""
        for _ in range(100_000):
            self.engine.advance()
            routed = 0
            for routed, event in enumerate(pending(self.engine, lambda: self.now), 1):  # noqa: B007
                self.machine.route(event)
            wake = self.machine.turn()
            if self.machine.refresh_wanted:
                self.machine.refresh_wanted = False
                self.refreshes += 1
                self.machine.on_version(self.newest() if self.newest else None)
                continue
            while (session_id := self.machine.take_archive_due()) is not None:
                row = self.machine.rows[session_id]
                row.is_archived = row.unlinked_because is not None
                if row.unlinked_because is None:
                    self.store.unarchive(session_id)
                else:
                    self.store.archive(session_id, row.unlinked_because)
            next_at = self.engine.next_at()
            busy = (wake is not None and wake <= self.now) or (next_at is not None and next_at <= self.now)
            if not routed and not busy:
                return wake
        raise AssertionError("the machine is spinning")

    def run_until(self, condition: Callable[[], bool], limit_s: float, step_s: float = 0.25) -> float:
        """Run until the condition holds; returns how long that took."""
        began = self.now
        self.run(0.0)
        while not condition():
            assert self.now - began < limit_s, f"not within {limit_s} s: {self.census()}"
            self.run(step_s)
        return self.now - began

    def views(self) -> Iterator[SessionView]:
        return iter(self.machine.views())

    def view(self, session_id: str = "a") -> SessionView:
        view = self.machine.view(session_id)
        assert view is not None
        return view

    def state(self, session_id: str = "a") -> State:
        return self.view(session_id).state

    def census(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for view in self.views():
            counts[view.state.value] = counts.get(view.state.value, 0) + 1
        return counts

    def are_all_online(self) -> bool:
        return all(row.state is State.ONLINE for row in self.machine.rows.values())

    def force(self, session_id: str = "a") -> int:
        return commands.force(self.machine, self.machine.row(session_id))

    def stop(self, session_id: str = "a") -> None:
        commands.stop(self.machine, self.machine.row(session_id))

    def start(self, session_id: str = "a") -> None:
        row = self.machine.row(session_id)
        row.desired = True
        if row.state is State.STOPPED:
            self.machine.resume_row(row)

    def attempts(self, session_id: str | None = None, since: float = float("-inf")) -> int:
        return sum(1 for it in self.engine.opens if it.at >= since and session_id in (None, it.session_id))

    def dial_times(self) -> list[float]:
        return [it.at for it in self.engine.opens]

    def restart(self, off_s: float = 0.0, *, policy: Policy | None = None) -> World:
        """The process dies and comes back `off_s` later: another monotonic clock, the same wall clock."""
        self.machine.flush()
        return World(
            self.store,
            policy or self.machine.policy,
            server=self.server,
            start=5.0,
            unix_s=self.now + self.unix_offset_s + off_s,
            newest=self.newest,
            **self._options,  # type: ignore[arg-type]
        )


def most_in(window_s: float, times: list[float]) -> int:
    """The most of the sorted `times` within any window of that length."""
    most = low = 0
    for high, at in enumerate(times):
        while at - times[low] >= window_s:
            low += 1
        most = max(most, high - low + 1)
    return most


def names(n: int) -> list[str]:
    return [f"s{i:04d}" for i in range(n)]


def with_numbers(policy: Policy, **numbers: object) -> Policy:
    return replace(policy, **numbers)  # type: ignore[arg-type]
