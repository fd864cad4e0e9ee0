"""Another proxy while running: one reconnect where there is a connection, and nothing where there is none."""

from __future__ import annotations

from runner.reconnect.history import from_json
from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor import commands
from support.fake_engine import FakeServer, FakeStore
from support.world import World

A, B = "socks5://user:hunter2@10.0.0.1:1080", "http://user:hunter2@10.0.0.2:3128"


def change(world: World, proxy: str | None, session_id: str = "a") -> bool:
    return commands.change_proxy(world.machine, world.machine.row(session_id), proxy)


def dialled(world: World, session_id: str = "a") -> list[str | None]:
    return [opened.proxy for opened in world.engine.opens if opened.session_id == session_id]


def test_an_online_session_reconnects_once_and_the_others_stay() -> None:
    world = World(FakeStore("a", "b"))
    world.run(60)
    assert change(world, A)
    world.run(60)
    assert (dialled(world), dialled(world, "b")) == ([None, A], [None])
    assert (world.state(), world.view().connection) == (State.ONLINE, 2)


def test_the_same_proxy_again_changes_nothing() -> None:
    world = World(FakeStore("a"))
    change(world, A)
    world.run(60)
    before = len(world.engine.opens)
    assert not change(world, A)
    world.run(60)
    assert len(world.engine.opens) == before


def test_the_last_of_several_changes_is_dialled() -> None:
    world = World(FakeStore("a"))
    world.run(60)
    for proxy in (A, B, A, None, B):
        change(world, proxy)
    world.run(60)
    assert dialled(world) == [None, B]


def test_a_stopped_session_stays_stopped_and_dials_by_it_when_started() -> None:
    world = World(FakeStore("a"))
    world.run(60)
    world.stop()
    world.run(5)
    assert change(world, A)
    world.run(600)
    assert (world.state(), dialled(world)) == (State.STOPPED, [None])
    row = world.machine.row("a")
    row.desired = True
    world.machine.resume_row(row)
    world.run(60)
    assert dialled(world) == [None, A]


def test_a_ban_is_not_dialled_early_because_of_another_proxy() -> None:
    world = World(FakeStore("a"), server=FakeServer(failures={"a": ("failure_temporary_ban", 402, 3600)}))
    world.run(10)
    assert world.state() is State.SUSPENDED
    change(world, A)
    world.run(600)
    assert (world.state(), dialled(world)) == (State.SUSPENDED, [None])


def test_a_session_that_waits_for_a_dead_path_leaves_it_at_once() -> None:
    world = World(FakeStore("a", "b"), server=FakeServer(refused={"a"}))
    world.run(120)
    assert world.state() is State.BACKOFF
    before = len(dialled(world))
    world.server.refused.clear()
    change(world, A)
    world.run(2)
    assert (world.state(), dialled(world)[before:]) == (State.ONLINE, [A])
    assert world.view().breaker.state == "closed", "a path's failures are not the session's"


def test_a_forced_reconnect_that_waits_for_its_turn_takes_the_new_path() -> None:
    """One dial at a time, and another session's is under way: the promise of a connection is still open."""
    one_by_one = Policy(connect_rate_per_s=1000.0, connect_burst=1000, connect_concurrency=1)
    world = World(FakeStore("a"), one_by_one, server=FakeServer(refused={"a"}))
    world.run(120)
    number = world.force()
    change(world, A)
    assert world.machine.dials.path("a") is None, "it waits on the new path, of which nothing is known"
    world.server.refused.clear()
    world.run(2)
    assert (world.state(), dialled(world)[-1]) == (State.ONLINE, A)
    assert world.view().connection == number


def test_it_survives_a_restart_whole_and_is_shown_without_its_password() -> None:
    store = FakeStore("a")
    world = World(store)
    world.run(60)
    change(world, A)
    world.run(0)
    durable, problem = from_json(store.policies["a"], world.now, world.unix_ms, Policy())
    assert (durable.proxy, problem) == (A, None)
    again = World(store)
    again.run(60)
    assert dialled(again) == [A]
    assert "hunter2" not in str(again.view().to_json())
