"""Health: which facts lead to which findings, and that nothing else does."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.testing

from runner.health import (
    DEAF_PROBES,
    ROWS_A_STEP,
    Action,
    Finding,
    FleetFacts,
    Health,
    Judgement,
    Limits,
    SessionFacts,
    judge,
)
from runner.reconnect.policy import Policy
from runner.session import State
from support.fake_engine import FakeEvent, FakeStore
from support.world import FAST, World, names

pytestmark = pytest.mark.usefixtures("quiet_logs")
LIMITS = Limits()
WELL = FleetFacts()


class _Supervised:
    """What `Health` needs of a supervisor, around a world without tasks."""

    def __init__(self, world: World) -> None:
        self.machine = world.machine

    def wake(self) -> None:
        pass


def health_of(world: World) -> Health:
    return Health(_Supervised(world))  # type: ignore[arg-type]


def watch(world: World, health: Health, seconds: float, every_s: float = 30.0) -> None:
    until = world.now + seconds
    while world.now < until:
        world.run(every_s)
        health.look()


def healthy(n: int) -> list[SessionFacts]:
    return [SessionFacts(name, is_open=True, last_pong_age_s=5.0) for name in names(n)]


def deaf(n: int, probe: str = "iq_unanswered") -> list[SessionFacts]:
    return [SessionFacts(f"deaf{i}", is_open=True, failing=frozenset({probe})) for i in range(n)]


def rebuilds(judgement: Judgement) -> list[str]:
    return [it.session_id for it in judgement.findings if it.action is Action.REBUILD]


# -- judging -------------------------------------------------------------------------------------------------


@pytest.mark.pain(15)
def test_healthy_and_silent_sessions_lead_to_nothing() -> None:
    silent = [SessionFacts("silent", is_open=True, unanswered_pings=0, last_pong_age_s=1e6)]
    unknown = [SessionFacts("fresh", is_open=True)]
    judgement = judge(WELL, healthy(10) + silent + unknown, LIMITS)
    assert judgement.findings == ()
    assert judgement.incidents == {}


@pytest.mark.pain(1)
@pytest.mark.parametrize("probe", sorted(DEAF_PROBES - {"pong_overdue"}))
def test_each_deaf_probe_rebuilds_its_own_session_only(probe: str) -> None:
    judgement = judge(WELL, healthy(50) + deaf(1, probe), LIMITS)
    assert judgement.findings == (Finding("deaf0", Action.REBUILD, probe),)


def test_a_probe_that_no_new_connection_mends_rebuilds_nothing() -> None:
    assert judge(WELL, deaf(1, "pong") + deaf(1, "anything_new"), LIMITS).findings == ()


@pytest.mark.pain(1)
@pytest.mark.parametrize(
    ("sick", "well", "is_fleet"), [(1, 0, False), (2, 0, False), (3, 0, True), (5, 95, False), (6, 94, True)]
)
def test_a_deaf_part_of_the_fleet_is_our_own_fault(sick: int, well: int, is_fleet: bool) -> None:
    judgement = judge(WELL, healthy(well) + deaf(sick), LIMITS)
    assert ("deaf_fleet" in judgement.incidents) == is_fleet
    assert len(rebuilds(judgement)) == (0 if is_fleet else sick)


@pytest.mark.pain(14)
@pytest.mark.parametrize(
    ("fleet", "kind"),
    [
        (FleetFacts(loop_lag_s=LIMITS.loop_lag_s + 0.1), "event_loop_lag"),
        (FleetFacts(engine_lag_s=LIMITS.engine_lag_s + 0.1), "engine_lag"),
        (FleetFacts(heartbeat_age_s=LIMITS.heartbeat_s + 0.1), "engine_lag"),
        (FleetFacts(store_age_s=LIMITS.store_age_s + 0.1), "store_lag"),
        (FleetFacts(disk_full=True), "disk_full"),
    ],
)
def test_while_we_lag_nothing_is_rebuilt(fleet: FleetFacts, kind: str) -> None:
    judgement = judge(fleet, healthy(50) + deaf(1), LIMITS)
    assert set(judgement.incidents) == {kind}
    assert rebuilds(judgement) == []


def test_a_store_that_waits_for_a_lock_says_so() -> None:
    judgement = judge(FleetFacts(store_age_s=9.0, lock_wait_s=8.04), [], LIMITS)
    assert judgement.incidents["store_lag"][1] == (
        "the store has not committed for 9.0 s: another process has had the database locked for 8.0 s"
    )


@pytest.mark.parametrize(
    "fleet",
    [
        FleetFacts(loop_lag_s=LIMITS.loop_lag_s),
        FleetFacts(engine_lag_s=LIMITS.engine_lag_s),
        FleetFacts(heartbeat_age_s=LIMITS.heartbeat_s),
        FleetFacts(store_age_s=LIMITS.store_age_s),
    ],
)
def test_at_the_limit_all_is_well(fleet: FleetFacts) -> None:
    assert judge(fleet, [], LIMITS).incidents == {}


@pytest.mark.pain(15)
@pytest.mark.parametrize(
    ("age_s", "unanswered", "fails"), [(89.0, 3, False), (91.0, 3, True), (91.0, 0, False)]
)
def test_only_an_unanswered_ping_makes_an_old_pong_overdue(
    age_s: float, unanswered: int, fails: bool
) -> None:
    facts = SessionFacts("a", is_open=True, unanswered_pings=unanswered, last_pong_age_s=age_s)
    judgement = judge(WELL, [facts, *healthy(50)], LIMITS)
    assert (Finding("a", Action.FAIL, "pong_overdue") in judgement.findings) == fails
    assert (rebuilds(judgement) == ["a"]) == fails


def test_a_full_disk_degrades_everybody_and_a_freed_one_recovers_them() -> None:
    full = judge(FleetFacts(disk_full=True), healthy(3), LIMITS)
    assert [it.action for it in full.findings] == [Action.FAIL] * 3
    sick = [SessionFacts("a", is_open=True, failing=frozenset({"disk_full"}))]
    assert judge(FleetFacts(disk_full=True), sick, LIMITS).findings == ()
    assert judge(WELL, sick, LIMITS).findings == (Finding("a", Action.PASS, "disk_full"),)


@pytest.mark.parametrize(("overdue_s", "kicked"), [(0.0, False), (60.0, False), (60.1, True)])
def test_a_state_far_past_its_deadline_is_kicked(overdue_s: float, kicked: bool) -> None:
    judgement = judge(WELL, [SessionFacts("a", is_open=False, overdue_s=overdue_s)], LIMITS)
    assert bool(judgement.findings) == kicked


# -- acting --------------------------------------------------------------------------------------------------


def fleet(n: int) -> tuple[World, Health]:
    world = World(FakeStore(*names(n)), FAST)
    world.run_until(world.are_all_online, 30)
    world.run(60)
    return world, health_of(world)


@pytest.mark.pain(1)
@pytest.mark.parametrize("probe", ["iq_unanswered", "offline_missing", "send_unacked", "stanza_unanswered"])
def test_a_deaf_session_is_degraded_at_once_and_rebuilt_alone_within_two_minutes(probe: str) -> None:
    world, health = fleet(50)
    before = len(world.engine.opens)
    world.engine.probe("s0007", probe, healthy=False)
    world.run(0)
    assert (world.state("s0007"), world.view("s0007").reason) == (State.DEGRADED, probe)
    watch(world, health, 120)
    assert [it.session_id for it in world.engine.opens[before:]] == ["s0007"]
    assert world.are_all_online()
    assert health.rebuilt_total == 1


@pytest.mark.pain(1)
def test_without_the_health_loop_the_deadline_of_degraded_heals_as_well() -> None:
    world, _ = fleet(50)
    world.engine.probe("s0007", "iq_unanswered", healthy=False)
    world.run(125)
    assert world.are_all_online()
    assert world.attempts("s0007") == 2


def test_a_probe_that_passes_again_heals_without_a_new_connection() -> None:
    world, health = fleet(5)
    world.engine.probe("s0001", "iq_unanswered", healthy=False)
    world.run(1)
    world.engine.probe("s0001", "iq_unanswered", healthy=True)
    watch(world, health, 300)
    assert world.state("s0001") is State.ONLINE
    assert world.attempts("s0001") == 1


@pytest.mark.pain(15)
def test_a_session_that_stays_deaf_is_rebuilt_ever_more_rarely() -> None:
    world, health = fleet(50)
    until = world.now + 3600
    while world.now < until:
        if world.state("s0003") is State.ONLINE:
            world.engine.probe("s0003", "iq_unanswered", healthy=False)
        watch(world, health, 30)
    times = [it.at for it in world.engine.opens if it.session_id == "s0003"][1:]
    gaps = [b - a for a, b in pairwise(times)]
    assert 2 <= len(times) <= 5
    assert min(gaps) >= Policy().watchdog_period_s
    assert gaps == sorted(gaps)


@pytest.mark.pain(1)
@pytest.mark.pain(15)
def test_a_deaf_fleet_is_one_incident_and_nothing_is_rebuilt() -> None:
    world, health = fleet(50)
    before = len(world.engine.opens)
    for session_id in names(50)[:10]:
        world.engine.probe(session_id, "iq_unanswered", healthy=False)
    watch(world, health, 600)
    assert len(world.engine.opens) == before, "not even by the deadline of degraded"
    assert [it.kind for it in world.machine.incidents.open()] == ["deaf_fleet"]
    for session_id in names(50)[:10]:
        world.engine.probe(session_id, "iq_unanswered", healthy=True)
    watch(world, health, 60)
    assert not world.machine.incidents.open()
    assert world.are_all_online()


def test_a_full_disk_degrades_and_recovers_without_a_new_connection() -> None:
    world, health = fleet(5)
    world.store.fake_health.disk_full = True
    watch(world, health, 600)
    assert world.census() == {"degraded": 5}
    world.store.fake_health.disk_full = False
    watch(world, health, 30)
    assert world.census() == {"online": 5}
    assert len(world.engine.opens) == 5


@pytest.mark.pain(15)
def test_a_quiet_day_under_health_brings_no_action() -> None:
    world, health = fleet(20)
    for session_id in names(20):
        world.engine.counter_overrides[session_id] = {"last_data_age_s": 80_000.0}
    watch(world, health, 86_400, every_s=300)
    assert len(world.engine.opens) == 20
    assert not world.engine.closes
    assert not world.machine.incidents.closed()


def test_a_session_that_the_scheduler_forgot_is_found() -> None:
    world, health = fleet(3)
    world.server.failures["s0001"] = ("failure_generic", 400, None)
    world.engine.drop("s0001")
    world.run(1)
    world.server.failures.clear()
    world.machine.deadlines.clear("s0001")
    world.machine.dials.withdraw("s0001", world.now)
    watch(world, health, 120)
    assert world.are_all_online()


def test_a_stalled_store_is_an_incident_from_the_engine_and_ends_with_it() -> None:
    world, health = fleet(3)
    world.engine.emit(FakeEvent("store", healthy=False, detail="no commit for 20 s"))
    world.run(0)
    world.engine.probe("s0001", "stanza_unanswered", healthy=False)
    watch(world, health, 300)
    assert [it.kind for it in world.machine.incidents.open()] == ["store_stalled"]
    assert world.attempts("s0001") == 1
    world.engine.emit(FakeEvent("store", healthy=True))
    watch(world, health, 60)
    assert world.attempts("s0001") == 2


async def test_the_loop_looks_at_its_interval_and_measures_its_own_lag(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, _ = fleet(2)
    health = Health(_Supervised(world), interval_s=30.0)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.run)
        await trio.sleep(95)
        assert health.report.looks_total == 3
        assert health.report.fleet.loop_lag_s == 0.0
        autojump_clock.jump(12.0)  # the thread was blocked for twelve seconds
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert [it.kind for it in (*world.machine.incidents.open(), *world.machine.incidents.closed())] == [
        "event_loop_lag"
    ]


async def test_a_look_at_many_sessions_gives_others_their_turn_and_finds_the_same() -> None:
    world = World(FakeStore(*names(5 * ROWS_A_STEP)))
    world.run(60)
    for session_id in names(5 * ROWS_A_STEP)[:: ROWS_A_STEP + 1]:
        world.engine.probe(session_id, "iq_unanswered", healthy=False)
    world.run(0)
    health, turns = health_of(world), 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await health._look_in_turns()
        nursery.cancel_scope.cancel()
    assert turns >= 3  # of the four between five steps: who begins is chance
    assert (health.report.deaf, health.report.open, health.rebuilt_total) == (5, 5 * ROWS_A_STEP, 5)


def test_a_session_that_is_well_again_before_the_look_ends_is_not_rebuilt() -> None:
    world = World(FakeStore(*names(2 * ROWS_A_STEP)))
    world.run(60)
    world.engine.probe("s0000", "iq_unanswered", healthy=False)
    world.run(0)
    health = health_of(world)
    looking = health._looking()
    next(looking)  # heard
    world.engine.probe("s0000", "iq_unanswered", healthy=True)
    world.run(0)
    for _ in looking:
        pass
    assert health.report.deaf == 1
    assert (health.rebuilt_total, world.view("s0000").connection) == (0, 1)
