"""What many sessions, many paths or a slow engine must not cost."""

from __future__ import annotations

import pytest

from runner.reconnect.history import Durable, to_json
from runner.reconnect.policy import Policy
from runner.supervisor import commands
from support.fake_engine import FakeServer, FakeStore
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
