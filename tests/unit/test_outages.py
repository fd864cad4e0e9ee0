"""One outage or several: whole fleets with a proxy, or an exit of a proxy, for each session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.reconnect.history import Durable, to_json
from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor import commands
from support.fake_engine import FakeServer, FakeStore
from support.world import FAST, World, names

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("quiet_logs")

POLICY = Policy()
SLOW = replace(FAST, connect_rate_per_s=10.0, connect_burst=50, connect_concurrency=50)


def fleet(n: int, proxy: Callable[[int], str], policy: Policy = FAST, dead: int = 0, each: int = 1) -> World:
    """Online but for `dead` sessions, every `each`th from the first."""
    store = FakeStore()
    for place, session_id in enumerate(names(n)):
        store.policies[session_id] = to_json(Durable(proxy=proxy(place)), 0.0, 1_700_000_000_000)
    world = World(store, policy, server=FakeServer(refused=set(names(n)[::each][:dead])))
    world.run(n / policy.connect_rate_per_s + 60)
    assert len(world.engine.online) == n - dead
    return world


def own_proxy(place: int) -> str:
    return f"http://proxy-{place}:8080"


def own_exit(place: int) -> str:
    return f"http://user{place}:hunter2@gate:8080"


def opened(world: World) -> int:
    incidents = world.machine.incidents
    return len(incidents.open()) + len(incidents.closed())


@pytest.mark.pain(6)
@pytest.mark.parametrize("policy", [FAST, SLOW], ids=["at once", "at the rate of the limiter"])
@pytest.mark.parametrize("proxy", [own_proxy, own_exit])
def test_an_outage_behind_every_path_is_one_incident(proxy: Callable[[int], str], policy: Policy) -> None:
    world = fleet(500, proxy, policy)
    world.server.refuses = True
    world.engine.drop_all()
    world.run(120)
    (incident,) = world.machine.incidents.open()
    assert (incident.kind, incident.key) == ("path_outage", world.machine.options.endpoint)
    assert "of 500 paths" in incident.text, "those that were dialled; the others still wait for their turn"
    world.server.refuses = False
    world.run_until(world.are_all_online, 300)
    world.run(POLICY.outage_window_s)
    assert not world.machine.incidents.open()
    assert opened(world) == 1, "one incident is raised, not N, and none on the way back"


def test_dead_proxies_in_a_fleet_that_is_well_are_each_told_on_their_own() -> None:
    world = fleet(100, own_proxy, dead=3)
    assert len(world.machine.incidents.open()) == 3
    assert {it.key.split()[-1] for it in world.machine.incidents.open()} == {own_proxy(n) for n in range(3)}


def test_many_dead_proxies_among_many_more_good_ones_are_no_outage_of_the_endpoint() -> None:
    world = fleet(200, own_proxy, dead=20, each=10)
    assert len(world.machine.incidents.open()) == 20


def test_what_was_told_on_its_own_stays_so_and_what_is_left_is_told_on_its_own() -> None:
    world = fleet(100, own_proxy, dead=1)
    old = world.machine.incidents.open()[0]
    world.server.refuses = True
    world.engine.drop_all()
    world.run(60)
    assert len(world.machine.incidents.open()) == 2
    world.server.refuses = False
    world.server.refused.add("s0050")  # its proxy did not survive
    world.run(20)
    assert len(world.machine.incidents.open()) == 2, "nothing that is down goes untold"
    world.run(POLICY.outage_window_s)
    keys = {it.key.split()[-1] for it in world.machine.incidents.open()}
    assert keys == {old.key.split()[-1], own_proxy(50)}
    world.server.refused.clear()
    world.run_until(world.are_all_online, 60)
    assert not world.machine.incidents.open()
    assert opened(world) == 3


def test_a_path_that_is_soon_good_again_among_many_is_no_incident() -> None:
    world = fleet(100, own_proxy)
    world.server.refused.add("s0000")
    world.engine.drop("s0000")
    world.run(5)
    world.server.refused.clear()
    world.run_until(world.are_all_online, 30)
    assert opened(world) == 0


def test_an_outage_ends_when_nobody_wants_its_paths_any_more() -> None:
    world = fleet(10, own_proxy)
    world.server.refuses = True
    world.engine.drop_all()
    world.run(10)
    assert len(world.machine.incidents.open()) == 1
    for session_id in names(10):
        world.stop(session_id)
    world.run(60)
    assert not world.machine.incidents.open()


def test_the_outage_of_a_proxy_that_was_replaced_is_over() -> None:
    world = fleet(2, own_proxy, dead=1)
    assert len(world.machine.incidents.open()) == 1
    world.server.refused.clear()
    commands.change_proxy(world.machine, world.machine.row("s0000"), "http://another:8080")
    world.run(5)
    assert world.are_all_online()
    assert not world.machine.incidents.open()


@pytest.mark.pain(24)
def test_exits_of_one_proxy_are_paths_of_their_own() -> None:
    """The user selects the exit: that one is dead says nothing about the next."""
    world = fleet(3, own_exit, dead=1)
    assert (world.state("s0000"), world.state("s0001")) == (State.BACKOFF, State.ONLINE)
    world.engine.drop("s0001")
    world.run(5)
    assert world.state("s0001") is State.ONLINE, "no canary of another exit holds it"
    (incident,) = world.machine.incidents.open()
    assert "gate:8080 #" in incident.key
    shown = f"{incident} {[view.to_json() for view in world.views()]} {world.machine.rows['s0000'].path}"
    assert "hunter2" not in shown
    assert "user0" not in shown
    assert world.view("s0000").proxy == "http://gate:8080"


def test_the_same_user_is_the_same_path_and_a_tag_differs_in_every_process() -> None:
    world, again = World(FakeStore()), World(FakeStore())
    path = world.machine.path_of(own_exit(1))
    assert path == world.machine.path_of(own_exit(1))
    assert path != world.machine.path_of(own_exit(2))
    assert path != world.machine.path_of("http://user1:other@gate:8080")
    assert path != again.machine.path_of(own_exit(1)), "a hash without a key could be guessed"
    assert world.machine.path_of("http://gate:8080").exit_tag is None


def test_a_path_of_ten_thousand_that_comes_back_looks_at_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 10_000
    world = fleet(n, own_proxy, replace(FAST, connect_rate_per_s=5000.0))
    world.server.refused.add("s0000")
    world.engine.drop("s0000")
    world.run(1)
    assert world.state("s0000") is State.BACKOFF

    class Rows(dict):  # type: ignore[type-arg]
        def values(self) -> object:
            raise AssertionError("all rows")

    monkeypatch.setattr(world.machine, "rows", Rows(world.machine.rows))
    world.server.refused.clear()
    world.run(20)
    assert world.state("s0000") is State.ONLINE
