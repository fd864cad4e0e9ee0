"""What many sessions, many paths or a slow engine must not cost."""

from __future__ import annotations

import pytest

from runner.engine import STEP_S
from runner.reconnect.history import Durable, to_json
from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor import commands
from runner.supervisor.machine import SLICE_S
from support.fake_engine import FakeEvent, FakeServer, FakeStore
from support.world import World, names

pytestmark = pytest.mark.usefixtures("quiet_logs")


@pytest.mark.pain(16, 20)
@pytest.mark.parametrize("newest", [None, lambda: (2, 3000, 5)], ids=["pinned", "unproven version"])
def test_dead_proxies_do_not_keep_the_others_out(newest: object) -> None:
    """Each session has a proxy of its own; a tenth of them swallow every dial, the first ten included."""
    store = FakeStore()
    everybody = names(1000)
    for place, session_id in enumerate(everybody):
        durable = Durable(proxy=f"http://proxy-{place}:1", last_active_unix_ms=1_000_000 - place)
        store.policies[session_id] = to_json(durable, 0.0, 1_700_000_000_000)
    dead = {*everybody[:10], *everybody[::10]}
    policy = Policy(connect_rate_per_s=50.0, connect_burst=50, connect_concurrency=50)
    world = World(store, policy, server=FakeServer(swallowed=set(dead)), newest=newest)  # type: ignore[arg-type]
    world.run(300)
    assert world.engine.online == set(everybody) - dead
    world.server.swallowed.clear()
    world.run(300)
    assert world.engine.online == set(everybody), "a path that is mended is noticed"


@pytest.mark.pain(16)
def test_logins_that_hang_do_not_hold_up_a_version_that_nobody_has_proven() -> None:
    everybody = names(300)
    hung = set(everybody[:6])  # the first in line
    policy = Policy(connect_rate_per_s=50.0, connect_burst=50, connect_concurrency=50)
    world = World(FakeStore(*everybody), policy, server=FakeServer(hung=hung), newest=lambda: (2, 3000, 5))
    world.run(40)
    assert world.engine.online == set(everybody) - hung


def test_closes_that_the_engine_does_not_confirm_cost_one_look_at_it_in_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(FakeStore(*names(100)))
    world.run(10)
    monkeypatch.setattr(world.engine, "close", lambda *_args: None)
    for row in list(world.machine.rows.values()):
        commands.stop(world.machine, row)
    before = world.engine.counting.reads
    world.now += world.machine.options.deadlines.closing_s
    world.machine.turn()
    assert world.engine.counting.reads - before == 1


def test_a_fleet_that_may_dial_at_once_holds_the_thread_in_slices() -> None:
    """A look at the clock costs a tenth of a millisecond here, so that a slice is ten pieces of work."""
    world = World(FakeStore(*names(1000)))
    world.run(0.1)  # one dials, to show that the server takes our version
    (first,) = [view.session_id for view in world.views() if view.state is State.CONNECTING]
    world.machine.route(FakeEvent("online", first, 1))
    world.look_costs_s = 1e-4
    dials, turns = 0, 0
    while dials < 999 or world.machine.dirty:
        before, began = world.attempts(), world.now
        wake = world.machine.turn()
        assert world.now - began < STEP_S + 4 * SLICE_S
        assert world.attempts() - before <= 10
        dials, turns = dials + world.attempts() - before, turns + 1
        if dials < 999 or world.machine.dirty:
            assert wake is not None
            assert wake <= world.now, "it comes back at once"
    assert turns > 50


def test_deadlines_wait_until_all_news_is_in_however_many_turns_that_takes() -> None:
    """The thread was blocked while a thousand logins succeeded: all of their deadlines lie in the past."""
    everybody = names(1000)
    world = World(FakeStore(*everybody))
    world.server.hung.update(everybody[1:])
    world.run(1)
    assert world.attempts() == 1000
    world.now += 1000
    for session_id in everybody[1:]:
        world.engine.emit(FakeEvent("online", session_id, 1))
    world.look_costs_s = 1e-4
    turns = 0
    while not world.are_all_online() and turns < 100:
        world.machine.turn()
        turns += 1
    assert 2 < turns < 100
    assert {row.closing for row in world.machine.rows.values()} == {None}, "nobody was given up"
