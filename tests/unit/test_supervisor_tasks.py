"""The supervisor under Trio: its tasks, its commands that wait, its subscribers. Time jumps."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from runner.errors import EngineFailedError, RefusedError, UnknownSessionError
from runner.session import State
from runner.supervisor import Options, StatusEvent, Supervisor
from runner.supervisor.deadlines import Kind
from runner.supervisor.ledger import CLOCK_LOOK_S
from support.fake_engine import FakeEngine, FakeEvent, FakeServer, FakeStore
from support.world import ENDPOINT, FAST, PINNED, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runner.reconnect.policy import Policy

pytestmark = pytest.mark.usefixtures("quiet_logs")


class Running:
    def __init__(self, supervisor: Supervisor, engine: FakeEngine, store: FakeStore) -> None:
        self.supervisor, self.engine, self.store = supervisor, engine, store

    def state(self, session_id: str = "a") -> State:
        view = self.supervisor.view(session_id)
        assert view is not None
        return view.state


@asynccontextmanager
async def running(
    *session_ids: str, policy: Policy = FAST, server: FakeServer | None = None, **keywords: object
) -> AsyncIterator[Running]:
    store = FakeStore(*session_ids)
    engine = FakeEngine(trio.current_time, server)
    options = Options(endpoint=ENDPOINT, client_version=None if "refresh_version" in keywords else PINNED)
    supervisor = Supervisor(engine, store, policy, options, rng=Random(0), **keywords)  # type: ignore[arg-type]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await nursery.start(supervisor.run)
            yield Running(supervisor, engine, store)
            nursery.cancel_scope.cancel()
    finally:
        engine.release()


async def test_sessions_come_online_drop_and_return(autojump_clock: trio.testing.MockClock) -> None:
    async with running(*names(100)) as it:
        await trio.sleep(5)
        assert len(it.engine.online) == 100
        await trio.sleep(60)
        it.engine.drop_all()
        await trio.sleep(5)
        assert len(it.engine.online) == 100
        assert {view.connection for view in it.supervisor.rows()} == {2}


@pytest.mark.pain(6)
async def test_a_thousand_sessions_storm_under_trio(autojump_clock: trio.testing.MockClock) -> None:
    policy = replace(FAST, connect_rate_per_s=200.0, connect_burst=50, connect_concurrency=100)
    async with running(*names(1000), policy=policy) as it:
        await trio.sleep(8)
        assert len(it.engine.online) == 1000
        await trio.sleep(60)
        it.engine.drop_all()
        await trio.sleep(1000 / 200 + 3)
        assert len(it.engine.online) == 1000


@pytest.mark.pain(17)
async def test_force_answers_at_once_and_refuses_what_could_cost_the_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a", "b") as it:
        await trio.sleep(40)
        began = trio.current_time()
        assert it.supervisor.reconnect("a") == 2
        assert trio.current_time() == began
        it.engine.drop("b", "stream_replaced")
        await trio.sleep(1)
        assert it.state("b") is State.PARKED
        with pytest.raises(RefusedError) as refused:
            it.supervisor.reconnect("b")
        assert refused.value.reason == "stream_replaced"
        assert refused.value.remedy
        assert it.supervisor.reconnect("b", override=True) == 2
        await trio.sleep(1)
        assert (it.state("a"), it.state("b")) == (State.ONLINE, State.ONLINE)
        with pytest.raises(UnknownSessionError):
            it.supervisor.reconnect("nobody")


@pytest.mark.pain(7)
async def test_two_hundred_tasks_force_while_the_server_drops(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """`FakeEngine.open` refuses a second connection; here no call of it ever was."""
    rng = Random(7)
    async with running("a", "b", "c", "d") as it:
        await trio.sleep(40)

        async def force(delay_s: float) -> None:
            await trio.sleep(delay_s)
            session_id = rng.choice("abcd")
            if rng.random() < 0.3:
                it.engine.drop(session_id)
            it.supervisor.reconnect(session_id)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(force, rng.uniform(0, 5))
        await trio.sleep(30)
        assert len(it.engine.online) == 4
        assert not it.supervisor.past_incidents()


async def test_add_remove_and_logout(autojump_clock: trio.testing.MockClock) -> None:
    async with running("a") as it:
        await trio.sleep(1)
        it.store.policies["b"] = None
        it.supervisor.add("b")
        await trio.sleep(1)
        assert it.state("b") is State.ONLINE
        with pytest.raises(RefusedError):
            it.supervisor.add("b")
        await it.supervisor.remove("a")
        assert it.supervisor.view("a") is None
        assert "a" not in it.store.policies
        assert not it.engine.is_open("a")
        assert it.engine.forgotten == ["a"], "its totals would stay in the engine for ever"
        await it.supervisor.logout("b")
        await trio.sleep(1)
        assert it.state("b") is State.LOGGED_OUT
        assert await trio.to_thread.run_sync(it.store.has_archived.wait, 10)
        assert it.store.archived == {"b": "logged_out_by_request"}
        await it.supervisor.logout("b")
        it.supervisor.add("b")
        await trio.sleep(1)
        assert it.state("b") is State.ONLINE, "new credentials, new life"


@pytest.mark.pain(12)
async def test_a_logout_that_the_server_does_not_confirm_keeps_the_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a") as it:
        await trio.sleep(40)
        it.engine.server.logout_answer = 0
        with pytest.raises(RefusedError, match="did not confirm") as refused:
            await it.supervisor.logout("a")
        assert refused.value.reason == "logout_unconfirmed"
        await trio.sleep(10)
        assert it.state() is State.ONLINE, "it is linked still, and wanted"
        assert not it.store.archived
        it.engine.server.logout_answer = 401
        await it.supervisor.logout("a")
        assert it.state() is State.LOGGED_OUT


async def test_a_logout_that_is_overtaken_by_a_stop_is_not_told_as_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a") as it:
        await trio.sleep(40)
        it.engine.close_s = 5.0

        async def stop_soon() -> None:
            await trio.sleep(1)
            it.supervisor.stop("a")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_soon)
            with pytest.raises(RefusedError):
                await it.supervisor.logout("a")
        assert it.state() is State.STOPPED


async def test_a_caller_does_not_hang_on_a_connection_that_does_not_close(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a") as it:
        await trio.sleep(40)
        it.engine.never_closes.add("a")
        began = trio.current_time()
        with pytest.raises(RefusedError) as refused:
            await it.supervisor.remove("a")
        assert refused.value.reason == "close_stuck"
        assert trio.current_time() - began < 60
        assert it.supervisor.view("a") is not None, "it is still there, so it is shown"


async def test_logging_out_needs_an_open_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with running("a", server=FakeServer(refuses=True)) as it:
        await trio.sleep(1)
        with pytest.raises(RefusedError):
            await it.supervisor.logout("a")


@pytest.mark.pain(24)
async def test_another_proxy_costs_one_reconnect(autojump_clock: trio.testing.MockClock) -> None:
    async with running("a") as it:
        await trio.sleep(40)
        it.supervisor.set_proxy("a", "socks5://u:p@10.0.0.9:1080")
        it.supervisor.set_proxy("a", "socks5://u:p@10.0.0.9:1080")
        await trio.sleep(5)
        assert [opened.proxy for opened in it.engine.opens] == [None, "socks5://u:p@10.0.0.9:1080"]
        assert it.state() is State.ONLINE


async def test_the_version_is_read_before_the_first_dial_and_a_slow_answer_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def newest() -> tuple[int, int, int]:
        await trio.sleep(3)
        return (2, 3000, 2_000_000_123)

    async with running("a", refresh_version=newest) as it:
        await trio.sleep(2.9)
        assert it.engine.opens == []
        await trio.sleep(1)
        assert it.engine.opens[0].version == (2, 3000, 2_000_000_123)

    async with running("a", refresh_version=trio.sleep_forever) as it:
        await trio.sleep(21)
        assert it.state() is State.ONLINE


@pytest.mark.pain(18)
async def test_subscribers_see_the_life_of_a_session(autojump_clock: trio.testing.MockClock) -> None:
    async with running("a") as it:
        await trio.sleep(40)
        events = it.supervisor.subscribe()
        it.engine.drop("a")
        await trio.sleep(1)
        seen = _drain(events)
        states = [event.view.state.value for event in seen if event.name == "session.status" and event.view]
        assert states == ["backoff", "connecting", "online"]
        assert [e.name for e in seen if e.name.startswith("session.reconn")] == [
            "session.reconnecting",
            "session.reconnected",
        ]


@pytest.mark.pain(6)
async def test_a_reconnect_loop_is_announced_once_and_the_breaker_as_it_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a", server=FakeServer(closes_after_s=1.0)) as it:
        events = it.supervisor.subscribe()
        await trio.sleep(4 * 3600)
        seen = _drain(events)
        assert [event.name for event in seen].count("session.reconnect_loop") == 1
        moves = [event.data["state"] for event in seen if event.name == "session.breaker"]
        assert moves[:4] == ["open", "half_open", "open", "half_open"]


async def test_a_slow_subscriber_is_told_how_much_it_missed_and_holds_up_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(*names(50)) as it:
        slow = it.supervisor.subscribe(capacity=3)
        await trio.sleep(5)
        assert len(it.engine.online) == 50
        first = _drain(slow)
        assert [event.lost for event in first] == [0, 0, 0]
        it.supervisor.stop("s0000")
        assert _drain(slow)[0].lost > 50
        slow.close()
        it.supervisor.stop("s0001")


async def test_shutdown_keeps_the_wish_of_every_session(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore("a", "b")
    engine = FakeEngine(trio.current_time)
    options = Options(endpoint=ENDPOINT, client_version=PINNED)
    supervisor = Supervisor(engine, store, FAST, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await nursery.start(supervisor.run)
        await trio.sleep(40)
        supervisor.stop("b")
        await trio.sleep(1)
        assert await supervisor.shutdown()
        nursery.cancel_scope.cancel()
    engine.release()
    assert engine.is_down
    again = Supervisor(FakeEngine(trio.current_time), store, FAST, options)
    again.machine.load()
    assert {view.session_id: view.state.value for view in again.rows()} == {"a": "backoff", "b": "stopped"}


async def test_an_engine_that_dies_ends_the_supervisor(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.RaisesGroup(EngineFailedError, flatten_subgroups=True):
        async with running("a") as it:
            await trio.sleep(1)
            it.engine.emit(FakeEvent("stopped"))
            await trio.sleep(1)


async def test_an_engine_whose_end_the_scheduler_hears_first_ends_the_supervisor_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A due deadline makes the scheduler drain the outbox: the pump would wait for that event for ever."""
    with pytest.RaisesGroup(EngineFailedError, flatten_subgroups=True):
        async with running("a") as it:
            await trio.sleep(1)
            machine = it.supervisor.machine
            machine.deadlines.set("a", Kind.STABLE, machine.now())
            it.engine.emit(FakeEvent("stopped"))
            machine.turn()
            it.supervisor.wake()
            await trio.sleep(60)
            raise AssertionError("nobody noticed")


async def test_a_stop_whose_end_the_scheduler_hears_first_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a") as it:
        await trio.sleep(1)
        machine = it.supervisor.machine
        machine.is_stopping = True
        machine.deadlines.set("a", Kind.STABLE, machine.now())
        it.engine.shutdown()
        machine.turn()
        it.supervisor.wake()
        began = trio.current_time()
        assert await it.supervisor.shutdown(30.0)
        assert trio.current_time() - began < 1.0


@pytest.mark.pain(12)
async def test_a_device_that_logs_in_after_all_is_taken_back_from_the_archive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running("a") as it:
        it.engine.server.failures["a"] = ("failure_logged_out", 401, None)
        await trio.sleep(300)
        assert it.state() is State.LOGGED_OUT
        await trio.to_thread.run_sync(it.store.has_archived.wait, 5.0)
        assert it.store.archived == {"a": "failure_logged_out"}
        it.engine.server.failures.clear()
        it.supervisor.reconnect("a", override=True)
        await trio.sleep(5)
        assert it.state() is State.ONLINE
        await trio.to_thread.run_sync(it.store.has_unarchived.wait, 5.0)
        assert it.store.archived == {}
        it.supervisor.machine.flush()
        again = Supervisor(
            FakeEngine(trio.current_time), it.store, FAST, Options(endpoint=ENDPOINT, client_version=PINNED)
        )
        again.machine.load()
        assert [view.state for view in again.rows()] == [State.BACKOFF]


def _drain(events: trio.MemoryReceiveChannel[StatusEvent]) -> list[StatusEvent]:
    seen = []
    while True:
        try:
            seen.append(events.receive_nowait())
        except trio.WouldBlock:
            return seen


async def test_a_clock_that_is_set_is_noticed_by_a_fleet_to_which_nothing_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ahead_s = 0.0

    def wall() -> float:
        return 1_800_000_000.0 + trio.current_time() + ahead_s

    async with running(*names(3), clock=trio.current_time, wall=wall) as it:
        await trio.sleep(600)
        ahead_s = 3600.0
        await trio.sleep(CLOCK_LOOK_S + 1)
        assert it.supervisor.machine.clock_steps_total == 1


async def test_a_hold_of_logouts_ends_though_nothing_else_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = FakeServer()
    async with running(*names(12), server=server) as it:
        await trio.sleep(60)
        unlinked = names(12)[:6]
        for session_id in unlinked:
            server.failures[session_id] = ("failure_logged_out", 401, None)
            it.engine.drop(session_id, "stream_device_removed", 401)
        await trio.sleep(5)
        assert [incident.kind for incident in it.supervisor.incidents()] == ["fleet_logout"]
        server.failures.clear()
        for session_id in unlinked:
            it.supervisor.reconnect(session_id, override=True)
        await trio.sleep(FAST.stable_s + CLOCK_LOOK_S + 5)
        assert it.supervisor.incidents() == ()
