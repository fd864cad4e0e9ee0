"""The whole supervisor under any sequence of operators, servers and clocks.

`FakeEngine.open` raises when a session has a connection already: "never two" is checked at every step.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runner.reconnect.policy import Policy
from runner.reconnect.table import TABLE
from runner.session import State
from runner.supervisor import commands
from support.fake_engine import FakeEvent, FakeStore
from support.world import World, names

if TYPE_CHECKING:
    from runner.session import SessionView

N = 8
SESSIONS = st.sampled_from(names(N))
ENDS = st.sampled_from(sorted(set(TABLE) - {"shutdown"}))
LASTING = (State.STOPPED, State.PARKED, State.LOGGED_OUT)


def gist(view: SessionView) -> tuple[object, ...]:
    """What of a view never changes without an event."""
    return view.revision, view.state, view.reason, view.connection, view.since_unix_ms, view.breaker.state


class Supervision(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            FakeStore(*names(N)), Policy(connect_rate_per_s=20.0, connect_burst=5), fd_capacity=6
        )
        self.listen()

    def listen(self) -> None:
        """A new process, or a clock that was set: what was said before is not compared with what comes."""
        machine = self.world.machine
        self.events = machine.feed.subscribe(1_000_000)
        self.heard = machine.revision
        self.told = {view.session_id: gist(view) for view in self.world.views()}
        self.said: dict[tuple[str, int, int], State] = {}

    @rule(seconds=st.floats(0, 120))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(session_id=SESSIONS)
    def force(self, session_id: str) -> None:
        before = self.world.view(session_id).connection
        number = self.world.force(session_id)
        assert number >= before
        assert self.world.view(session_id).connection == number

    @rule(session_id=SESSIONS)
    def stop(self, session_id: str) -> None:
        self.world.stop(session_id)
        assert self.world.state(session_id) in (State.STOPPED, State.LOGGED_OUT)

    @rule(session_id=SESSIONS)
    def start(self, session_id: str) -> None:
        self.world.start(session_id)

    @rule(session_id=SESSIONS, penalty=st.booleans())
    def reset(self, session_id: str, penalty: bool) -> None:
        commands.reset(self.world.machine, self.world.machine.row(session_id), penalty=penalty)

    @rule(session_id=SESSIONS, reason=ENDS)
    def drop(self, session_id: str, reason: str) -> None:
        self.world.engine.drop(session_id, reason)

    @rule()
    def drop_all(self) -> None:
        self.world.engine.drop_all()

    @rule(session_id=SESSIONS, reason=st.none() | ENDS)
    def server_refuses(self, session_id: str, reason: str | None) -> None:
        self.world.server.failures.pop(session_id, None)
        if reason is not None:
            self.world.server.failures[session_id] = (reason, None, 3000)

    @rule(down=st.booleans())
    def endpoint(self, down: bool) -> None:
        self.world.server.refuses = down

    @rule(session_id=SESSIONS, healthy=st.booleans())
    def probe(self, session_id: str, healthy: bool) -> None:
        if self.world.engine.is_open(session_id):
            self.world.engine.probe(session_id, "iq_unanswered", healthy=healthy)

    @rule(
        session_id=SESSIONS,
        kind=st.sampled_from(["closed", "online", "path", "probe"]),
        back=st.integers(1, 3),
    )
    def late_event(self, session_id: str, kind: str, back: int) -> None:
        row = self.world.machine.row(session_id)
        self.world.engine.emit(FakeEvent(kind, session_id, row.connection - back, reason="stream_replaced"))

    @rule(session_id=SESSIONS)
    def engine_forgets_to_close(self, session_id: str) -> None:
        self.world.engine.never_closes ^= {session_id}

    @rule(step_s=st.sampled_from([-3600.0, 3600.0]))
    def clock_steps(self, step_s: float) -> None:
        self.world.unix_offset_s += step_s
        self.said.clear()

    @rule()
    def process_restarts(self) -> None:
        stopped = {view.session_id for view in self.world.views() if view.state is State.STOPPED}
        numbers = {view.session_id: view.connection for view in self.world.views()}
        self.world = self.world.restart()
        for view in self.world.views():
            assert (view.state is State.STOPPED) == (view.session_id in stopped)
            assert view.connection >= numbers[view.session_id]
        self.listen()

    def note(self, view: SessionView) -> None:
        """A session, its connection and `since` name one state."""
        named = (view.session_id, view.connection, view.since_unix_ms)
        assert self.said.setdefault(named, view.state) is view.state, named

    @invariant()
    def the_events_are_all_there_is_to_say(self) -> None:
        """Every change has an event and the next number, and after the last of them all is as they said."""
        with contextlib.suppress(trio.WouldBlock):
            while (event := self.events.receive_nowait()).lost == 0:
                if event.view is None:
                    continue
                assert event.view.revision == self.heard + 1
                self.heard = event.view.revision
                self.told[event.session_id] = gist(event.view)
                self.note(event.view)
        assert self.heard == self.world.machine.revision
        for view in self.world.views():
            self.note(view)
            assert self.told[view.session_id] == gist(view)
            assert view.revision <= self.heard

    @invariant()
    def what_waits_says_until_when(self) -> None:
        for row in self.world.machine.rows.values():
            if row.state is State.SUSPENDED:
                assert row.retry_at is not None
            if row.state is State.BACKOFF and row.retry_at is None:
                raise AssertionError("backoff without a time")

    @invariant()
    def descriptors_are_not_oversold(self) -> None:
        assert sum(self.world.engine.is_open(it) for it in names(N)) <= 6 + len(
            self.world.engine.never_closes
        )

    @invariant()
    def an_online_row_has_an_open_connection(self) -> None:
        for row in self.world.machine.rows.values():
            if row.state in (State.ONLINE, State.DEGRADED):
                assert row.live
            if not row.live:
                assert row.phase is None
            if row.state in LASTING:
                assert not self.world.machine.dials.is_waiting(row.session_id)

    def teardown(self) -> None:
        """When the world is well again, everybody that may come back does: nothing is stuck."""
        self.world.server.refuses = False
        self.world.server.failures.clear()
        self.world.engine.never_closes.clear()
        self.world.run(4 * 3600)
        for view in self.world.views():
            assert view.state in (State.ONLINE, State.SUSPENDED, *LASTING), view
            if view.state is State.SUSPENDED:
                assert view.next_retry_at_unix_ms is not None
                assert view.next_retry_at_unix_ms >= self.world.unix_ms
        self.world.engine.release()


TestSupervision = Supervision.TestCase
TestSupervision.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
