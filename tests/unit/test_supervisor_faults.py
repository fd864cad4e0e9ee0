"""An exception of ours: what it ends, and that it ends nothing else."""

from __future__ import annotations

import pytest
import structlog

from runner.errors import EngineFailedError
from runner.reconnect.table import OWN, TABLE, rule_for
from runner.session import State
from runner.supervisor import restricted
from runner.supervisor.deadlines import Kind
from support.fake_engine import FakeStore
from support.world import World, most_in, names

BUG = "cannot use http://user:hunter2@gate:8080"


def broken(world: World, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, victim: str) -> None:
    """The method raises whenever it is about `victim`."""
    sound = getattr(world.machine, method)

    def raising(row: object, *args: object, **keywords: object) -> object:
        if getattr(row, "session_id", None) == victim:
            raise error
        return sound(row, *args, **keywords)

    monkeypatch.setattr(world.machine, method, raising)


@pytest.fixture
def world(quiet_logs: None) -> World:
    world = World(FakeStore(*names(20)))
    world.run(60)
    assert world.are_all_online()
    return world


def others_are_well(world: World) -> bool:
    return all(view.state is State.ONLINE for view in world.views() if view.session_id != "s0000")


@pytest.mark.pain(16)
@pytest.mark.parametrize(
    "method", ["_on_online", "_on_probe", "path_is_good", "gone", "_judge", "_settle", "wait"]
)
def test_a_bug_in_one_session_ends_its_connection_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    with monkeypatch.context() as patched:
        broken(world, patched, method, ValueError(BUG), "s0000")
        world.engine.probe("s0000", "iq_unanswered", healthy=False)
        world.run(1)
        world.engine.drop("s0000")
        began = world.now
        world.run(3600)
        assert world.machine.faults_total >= 1
        assert others_are_well(world)
        attempts = [it.at for it in world.engine.opens if it.session_id == "s0000" and it.at > began]
        assert len(attempts) <= 20, "the breaker of the session slows it down"
        assert most_in(1.0, attempts) <= 2, "and it never loops hot"
        assert len(world.machine.incidents.open()) + len(world.machine.incidents.closed()) <= 2
    world.run(2 * 3600)
    assert world.are_all_online(), world.view("s0000")
    assert not world.machine.incidents.open(), "once the bug is gone there is nothing left of it"


@pytest.mark.parametrize("kind", list(Kind))
def test_a_bug_in_a_deadline_is_confined_too(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    method = {
        Kind.RETRY: "_retry_due",
        Kind.STATE: "_state_overdue",
        Kind.STABLE: "_settle",
        Kind.CLOSE: "_close_overdue",
    }.get(kind)

    def raising(*_: object) -> None:
        raise ValueError(BUG)

    with monkeypatch.context() as patched:
        if method is None:
            patched.setattr(restricted, "free", raising)
        else:
            broken(world, patched, method, ValueError(BUG), "s0000")
        world.machine.deadlines.set("s0000", kind, world.now + 1)
        world.run(60)
        assert world.machine.faults_total >= 1
        assert others_are_well(world)
    world.run(2 * 3600)
    assert world.are_all_online(), world.view("s0000")


def test_a_bug_in_a_dial_costs_that_dial(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = world.engine.open

    def open_(session_id: str, *args: object, **keywords: object) -> None:
        if session_id == "s0000":
            raise TypeError("a bug")
        sound(session_id, *args, **keywords)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(world.engine, "open", open_)
        world.engine.drop_all()
        world.run(300)
        assert others_are_well(world)
        assert 1 <= world.machine.faults_total <= 12
    world.run(2 * 3600)
    assert world.are_all_online()


def test_a_ban_that_was_not_understood_is_not_dialled_into(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.attempts("s0000")
    with monkeypatch.context() as patched:
        broken(world, patched, "_tell_fleet", ValueError(BUG), "s0000")
        world.engine.drop("s0000", "failure_temporary_ban", 402, expire_s=7200)
        world.run(1)
    world.run(3600)
    assert world.attempts("s0000") == before
    assert (world.state("s0000"), world.view("s0000").reason) == (State.PARKED, "failure_temporary_ban")


def test_an_engine_that_died_is_no_bug_of_a_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(world, monkeypatch, "gone", EngineFailedError("dead"), "s0000")
    world.engine.drop("s0000")
    with pytest.raises(EngineFailedError):
        world.run(1)


def test_a_bug_that_hits_everybody_is_one_incident_and_one_traceback() -> None:
    world = World(FakeStore(*names(20)))
    world.run(60)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.machine, "_on_probe", lambda *_args: 1 / 0)
        with structlog.testing.capture_logs() as lines:
            for session_id in names(20):
                world.engine.probe(session_id, "iq_unanswered", healthy=False)
            world.run(0.5)
    told = [line for line in lines if line["event"] == "session fault: reconnect"]
    assert len(told) == world.machine.faults_total == 20
    assert [type(line["exc_info"]) for line in told if line["exc_info"]] == [ZeroDivisionError]
    assert {line["error"] for line in told} == {"ZeroDivisionError"}
    (incident,) = world.machine.incidents.open()
    assert (incident.kind, incident.key, incident.severity) == ("session_fault", "", "critical")
    assert "20 sessions" in incident.text
    world.run(120)
    assert world.are_all_online()
    assert not world.machine.incidents.open()


def test_its_reason_has_a_row_of_its_own() -> None:
    assert not OWN.keys() & TABLE.keys()
    assert rule_for("session_fault").feeds_breaker
