"""An account that may not write to strangers: told once, counted, and forgotten after a quiet hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.alerts.sessions import condition_of
from runner.session import State
from runner.supervisor import commands
from runner.supervisor.restricted import LASTS_S
from support.fake_engine import FakeEvent, FakeStore
from support.world import World

if TYPE_CHECKING:
    from support.fake_engine import FakeEngine


def refuse(engine: FakeEngine, code: int = 463) -> None:
    """The server refuses a text of session `a`."""
    engine._emit(FakeEvent("sent", "a", 1, reason="refused", code=code, token=1))


def test_a_restricted_account_is_told_once_and_forgotten_after_a_quiet_hour(quiet_logs: None) -> None:
    world = World(FakeStore("a", "b"))
    world.run(60.0)
    heard = world.machine.feed.subscribe(100)
    machine = world.machine
    refuse(world.engine, 479)
    world.run(1.0)
    assert not machine.restricted, "that number says something else"
    for _ in range(20):
        refuse(world.engine)
        world.run(60.0)
    events = [heard.receive_nowait() for _ in range(heard.statistics().current_buffer_used)]
    (event,) = events
    assert (event.name, event.session_id, event.data) == ("session.restricted", "a", {"code": 463})
    assert event.view is not None
    assert (event.view.state, world.state()) == (State.ONLINE, State.ONLINE), "it stays online"
    found = condition_of(machine.row("a"), machine)
    assert found is not None
    assert (found.slug, condition_of(machine.row("b"), machine)) == ("session_restricted", None)
    machine.touched.clear()
    world.run(LASTS_S - 61.0)
    assert machine.restricted == {"a"}
    world.run(2.0)
    assert (machine.restricted, condition_of(machine.row("a"), machine)) == (set(), None)
    assert "a" in machine.touched, "the alerts look at it again"


def test_a_session_that_is_removed_is_not_counted(quiet_logs: None) -> None:
    world = World(FakeStore("a"))
    world.run(60.0)
    refuse(world.engine)
    world.run(1.0)
    world.stop("a")
    world.run(1.0)
    commands.forget(world.machine, world.machine.row("a"))
    world.run(LASTS_S + 1.0)
    assert not world.machine.restricted
