"""Whole fleets in virtual time: what a thousand sessions do together, and what they never do."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, pairwise

import pytest

from runner.engine import pending
from runner.reconnect.policy import Policy
from runner.reconnect.version import VersionGate
from runner.session import State
from runner.supervisor.machine import SLICE_S
from support.fake_engine import FakeServer, FakeStore
from support.world import FAST, World, most_in, names

pytestmark = pytest.mark.usefixtures("quiet_logs")

DEFAULTS = Policy()
STORM = replace(FAST, connect_rate_per_s=300.0, connect_burst=50, connect_concurrency=200)


def fleet(n: int, policy: Policy = STORM, **options: object) -> World:
    world = World(FakeStore(*names(n)), policy, **options)  # type: ignore[arg-type]
    world.run_until(world.are_all_online, n / policy.connect_rate_per_s + 30)
    return world


@pytest.mark.pain(6)
@pytest.mark.pain(16)
def test_a_thousand_dropped_sessions_return_at_the_rate_of_the_limiter() -> None:
    world = fleet(1000, DEFAULTS)
    world.run(60)
    began = len(world.engine.opens)
    assert world.engine.drop_all() == 1000
    took_s = world.run_until(world.are_all_online, 120)
    dials = world.dial_times()[began:]
    assert len(dials) == 1000, "one dial each: nobody is dialled twice"
    assert most_in(1.0, dials) <= DEFAULTS.connect_burst + DEFAULTS.connect_rate_per_s + 1
    assert took_s <= (1000 - DEFAULTS.connect_burst) / DEFAULTS.connect_rate_per_s + 3
    assert {view.breaker.state for view in world.views()} == {"closed"}
    assert not world.machine.incidents.open()


@pytest.mark.pain(6)
@pytest.mark.parametrize("outage_s", [10, 60, 300])
def test_an_endpoint_that_refuses_for_a_while_is_one_incident_and_a_few_canaries(outage_s: int) -> None:
    world = fleet(1000)
    world.run(60)
    world.server.refuses = True
    world.engine.drop_all()
    world.run(0.5)
    assert [it.kind for it in world.machine.incidents.open()] == ["path_outage"]
    storm_over = world.now
    world.run(outage_s - 0.5)
    canaries = [at for at in world.dial_times() if at > storm_over]
    assert len(canaries) <= outage_s / DEFAULTS.canary_min_s + 1, "canaries, not a storm"
    assert most_in(1.9, canaries) <= 2
    assert world.census() == {"backoff": 1000}
    assert all(view.next_retry_at_unix_ms is not None for view in world.views())
    world.server.refuses = False
    took_s = world.run_until(world.are_all_online, 60)
    assert took_s <= DEFAULTS.canary_max_s + 1000 / STORM.connect_rate_per_s + 2
    assert not world.machine.incidents.open()
    assert len(world.machine.incidents.closed()) == 1, "one incident, not a thousand"
    assert all(view.attempt <= 1 for view in world.views()), "the path's failures are not the sessions'"


@pytest.mark.pain(6)
def test_an_outage_of_the_path_opens_no_session_breaker() -> None:
    world = fleet(50)
    world.run(60)
    world.server.refuses = True
    world.engine.drop_all()
    world.run(1800)
    assert {view.breaker.state for view in world.views()} == {"closed"}


def test_drops_alone_never_open_the_path() -> None:
    world = fleet(200)
    for _ in range(5):
        world.run(31)
        world.engine.drop_all()
        world.run(0.01)
        assert not world.machine.incidents.open()


def test_a_fleet_of_one_uses_the_same_probe() -> None:
    world = fleet(1)
    world.run(60)
    world.server.refuses = True
    world.engine.drop_all()
    world.run(3000)
    gaps = world.dial_times()[-20:]
    assert max(b - a for a, b in pairwise(gaps)) <= DEFAULTS.canary_max_s + 0.1
    world.server.refuses = False
    assert world.run_until(world.are_all_online, 30) <= DEFAULTS.canary_max_s + 1


def test_a_black_hole_is_noticed_as_a_path_outage_too() -> None:
    world = fleet(100)
    world.run(60)
    world.server.swallows = True
    world.engine.drop_all()
    world.run(50)
    assert [it.kind for it in world.machine.incidents.open()] == ["path_outage"]
    world.server.swallows = False
    world.run_until(world.are_all_online, 20 + DEFAULTS.canary_max_s + 5)


@pytest.mark.pain(6)
def test_login_then_close_for_an_hour_makes_few_attempts_and_opens_the_breaker() -> None:
    world = World(FakeStore("a"), DEFAULTS, server=FakeServer(closes_after_s=1.0))
    world.run(3600)
    assert world.attempts() <= 20
    view = world.view()
    assert (view.state, view.breaker.state) == (State.SUSPENDED, "open")
    assert view.next_retry_at_unix_ms is not None
    assert view.next_retry_at_unix_ms > world.unix_ms, "it says when it tries again"
    world.server.closes_after_s = None
    world.run(3700)
    assert world.state() is State.ONLINE, "there is always a way back without anybody's help"
    world.run(31)
    assert world.view().breaker.state == "closed"


@pytest.mark.pain(6)
def test_connections_that_live_a_little_longer_than_stable_flap_all_the_same() -> None:
    world = World(FakeStore("a"), DEFAULTS, server=FakeServer(closes_after_s=35.0))
    world.run(3600)
    assert world.attempts() <= 20


def test_mass_drops_are_not_flapping() -> None:
    world = fleet(300)
    for _ in range(12):
        world.run(40)
        world.engine.drop_all()
    world.run(40)
    assert world.are_all_online(), world.census()
    assert {view.flap_60m for view in world.views()} == {0}


def test_the_drop_that_makes_a_mass_of_those_before_it_holds_nobody_up_for_them() -> None:
    world = fleet(1000)
    world.run(40)
    world.engine.drop_all()
    for event in pending(world.engine, lambda: world.now):
        world.machine.route(event)
    before = len(world.machine.forgiving)
    assert before >= 199, "a fifth of the fleet, but for the one that told"
    world.look_costs_s = SLICE_S / 10
    assert not world.machine.forgive(world.now + SLICE_S)
    assert before - 20 <= len(world.machine.forgiving) < before, "a slice of them"
    world.look_costs_s = 0.0
    world.run(40)
    assert not world.machine.forgiving
    assert {view.flap_60m for view in world.views()} == {0}


@pytest.mark.pain(6)
@pytest.mark.parametrize("reason", ["connection_reset", "stream_service_unavailable", "websocket_closed"])
def test_a_fleet_dropped_again_and_again_within_seconds_suspends_nobody(reason: str) -> None:
    """A path that flaps under everybody grows the delays; it opens no session's breaker."""
    world = fleet(100)
    for _ in range(7):
        world.run_until(world.are_all_online, 400)
        for session_id in sorted(world.machine.rows):
            world.engine.drop(session_id, reason)
        world.run(0.5)
        assert "suspended" not in world.census(), world.census()
    assert {view.breaker.state for view in world.views()} == {"closed"}
    assert max(view.attempt for view in world.views()) >= 3, "the delays grow all the same"
    world.run_until(world.are_all_online, 400)


@pytest.mark.pain(23)
@pytest.mark.parametrize("moment", ["at_start", "after_drop"])
def test_a_raised_client_version_costs_at_most_three_rejected_logins(moment: str) -> None:
    old, new = (2, 3000, 2_000_000_000), (2, 3000, 2_000_000_001)
    newest = old
    if moment == "at_start":
        store = FakeStore(*names(1000))
        store.metas["client_version"] = VersionGate.to_json_of(old, 1_799_999_999_000)
        world = World(store, STORM, newest=lambda: newest)
        world.server.least_revision = new[2]
        newest = new
        assert world.refreshes == 0
    else:
        world = World(FakeStore(*names(1000)), STORM, newest=lambda: newest)
        world.run_until(world.are_all_online, 60)
        world.run(60)
        world.server.least_revision = new[2]
        newest = new
        world.engine.drop_all()
    world.run_until(world.are_all_online, 60)
    assert 1 <= world.engine.rejected_logins <= 3
    assert world.engine.opens[-1].version == new
    assert not world.machine.incidents.open()
    assert [it.kind for it in world.machine.incidents.closed()] == ["client_outdated"]


@pytest.mark.pain(23)
def test_while_no_newer_version_is_known_the_fleet_waits_and_asks_again() -> None:
    old, new = (2, 3000, 2_000_000_000), (2, 3000, 2_000_000_001)
    newest: tuple[int, int, int] | None = old
    world = World(FakeStore(*names(100)), STORM, newest=lambda: newest)
    world.server.least_revision = new[2]
    world.run(3600)
    assert world.engine.rejected_logins <= 3
    assert [it.kind for it in world.machine.incidents.open()] == ["client_outdated"]
    assert 2 <= world.refreshes <= 12
    newest = new
    world.run_until(world.are_all_online, 3700)
    assert world.engine.rejected_logins <= 3


def test_a_pinned_version_that_is_rejected_is_tried_again_by_one_canary_at_a_time() -> None:
    world = World(FakeStore(*names(20)), STORM)
    world.server.least_revision = 5_000
    world.run(10)
    assert 1 <= world.census()["suspended"] <= 3
    assert world.engine.rejected_logins <= 3
    rejected = world.engine.rejected_logins
    world.run(2 * STORM.version_retry_s)
    assert rejected < world.engine.rejected_logins <= rejected + 6
    world.server.least_revision = 0  # the server takes it back
    world.run_until(world.are_all_online, STORM.version_retry_max_s + 30)


@pytest.mark.pain(23)
def test_a_new_pin_releases_what_the_rejected_one_held() -> None:
    world = World(FakeStore(*names(20)), STORM)
    world.server.least_revision = 5_000
    world.run(10)
    world.machine.pin_version((2, 3000, 6_000))
    world.run_until(world.are_all_online, 30)


@pytest.mark.pain(23)
def test_a_version_that_is_a_day_old_is_read_again_while_dialling_goes_on() -> None:
    newest = (2, 3000, 1_050_000_000)
    world = World(FakeStore(*names(20)), STORM, newest=lambda: newest)
    world.run_until(world.are_all_online, 60)
    assert world.refreshes == 1
    world.newest = lambda: (2, 3000, 1_060_000_000)
    world.run(STORM.version_cache_s + 1)
    assert world.refreshes == 2
    assert world.machine.dials.gate.version == (2, 3000, 1_060_000_000)
    assert world.are_all_online()
    world.newest = None  # the endpoint says nothing: asked again within the hour, not every second
    world.run(STORM.version_cache_s + 2 * STORM.version_retry_max_s)
    assert 3 <= world.refreshes <= 6
    assert world.machine.dials.gate.version == (2, 3000, 1_060_000_000)


@pytest.mark.pain(12)
def test_a_mass_logout_that_is_confirmed_by_all_is_over_when_nobody_is_left_to_ask() -> None:
    world = fleet(60)
    world.run(60)
    for session_id in names(60):
        world.server.failures[session_id] = ("failure_logged_out", 401, None)
    world.engine.drop_all("stream_unauthorized")
    world.run(30)
    assert [it.kind for it in world.machine.incidents.open()] == ["fleet_logout"]
    for session_id in names(60):
        world.stop(session_id)
    world.run(30)
    assert not world.machine.incidents.open()


@pytest.mark.pain(16)
def test_hung_and_slow_sessions_do_not_hold_up_the_others() -> None:
    n = 1000
    world = World(FakeStore(*names(n)), DEFAULTS)
    world.server.hung = set(names(n)[::100])
    world.server.slow = set(names(n)[1::100])
    others = set(names(n)) - world.server.hung
    world.run_until(lambda: others <= world.engine.online, n / DEFAULTS.connect_rate_per_s + 30)
    assert most_in(1.0, world.dial_times()) <= DEFAULTS.connect_burst + DEFAULTS.connect_rate_per_s + 1


@pytest.mark.pain(16)
def test_the_recently_active_come_back_first() -> None:
    world = fleet(100)
    world.run(60)
    for session_id in names(100)[:90]:
        world.stop(session_id)
    world.run(86_400)
    world.engine.drop_all()
    world.run(1)
    for session_id in names(100)[:90]:
        world.start(session_id)
    again = world.restart(policy=replace(DEFAULTS, connect_burst=1, connect_rate_per_s=1.0))
    again.run(12)
    first = [it.session_id for it in again.engine.opens][:10]
    assert set(first) == set(names(100)[90:])


@pytest.mark.pain(12)
def test_a_mass_logout_stops_the_confirms_and_is_one_incident() -> None:
    world = fleet(200)
    world.run(60)
    victims = names(200)[:40]
    for session_id in victims:
        world.server.failures[session_id] = ("failure_logged_out", 401, None)
        world.engine.drop(session_id, "stream_device_removed", 401)
    before = len(world.engine.opens)
    world.run(DEFAULTS.logout_hold_s - 5)
    assert len(world.engine.opens) == before, "no confirm at all while it holds"
    assert [it.kind for it in world.machine.incidents.open()] == ["fleet_logout"]
    assert all(world.state(it) is State.SUSPENDED for it in victims)
    world.server.failures.clear()
    world.run_until(world.are_all_online, 300)
    assert not world.machine.incidents.open()


@pytest.mark.pain(12)
def test_during_a_mass_logout_only_a_canary_risks_its_number() -> None:
    world = fleet(200)
    world.run(60)
    for session_id in names(200)[:40]:
        world.server.failures[session_id] = ("failure_logged_out", 401, None)
        world.engine.drop(session_id, "stream_device_removed", 401)
    world.run(DEFAULTS.logout_hold_s + 120)
    assert world.census()["logged_out"] == 1
    assert len(world.store.archived) == 1


@pytest.mark.pain(15)
def test_a_quiet_day_brings_no_action() -> None:
    world = fleet(50)
    world.run(60)
    dials, closes = len(world.engine.opens), len(world.engine.closes)
    world.run(86_400)
    assert (len(world.engine.opens), len(world.engine.closes)) == (dials, closes)


@pytest.mark.pain(15)
@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(step_s: float) -> None:
    def life(step_s: float) -> list[tuple[float, str]]:
        world = World(FakeStore(*names(20)), STORM)
        world.run(40)
        world.engine.drop_all()
        world.server.failures["s0001"] = ("failure_rate_limited", 429, None)
        world.server.failures["s0002"] = ("failure_temporary_ban", 402, 7200)
        world.run(10)
        world.unix_offset_s += step_s
        world.run(9000)
        return [(it.at, it.session_id) for it in world.engine.opens]

    assert life(step_s) == life(0.0)


@pytest.mark.pain(15)
def test_a_clock_that_steps_while_we_run_does_not_shorten_a_ban_over_a_restart() -> None:
    world = World(FakeStore("a"), DEFAULTS)
    world.server.failures["a"] = ("failure_temporary_ban", 402, 7200)
    world.run(60)
    world.unix_offset_s += 3600
    world.run(60)
    again = world.restart()
    again.run(7200 - 150)
    assert again.attempts() == 0
    again.server.failures.clear()
    again.run(600)
    assert again.state() is State.ONLINE


def test_more_sessions_than_descriptors_start_what_fits_and_say_so() -> None:
    world = World(FakeStore(*names(30)), STORM, fd_capacity=20)
    world.run(10)
    assert world.census() == {"online": 20, "suspended": 10}
    assert {view.reason for view in world.views() if view.state is State.SUSPENDED} == {"fd_limit"}
    assert [it.kind for it in world.machine.incidents.open()] == ["fd_limit"]
    online = [view.session_id for view in world.views() if view.state is State.ONLINE]
    for session_id in online[:10]:
        world.stop(session_id)
    world.run(5)
    assert world.census() == {"online": 20, "stopped": 10}
    assert not world.machine.incidents.open()
    assert len(world.engine.online) == 20


def test_the_end_of_an_outage_frees_those_too_that_sat_out_a_delay_when_it_began() -> None:
    world = fleet(20)
    world.run(60)
    world.server.refused.add("s0000")
    world.engine.drop("s0000")
    for helper in cycle(names(20)[1:]):
        if world.view("s0000").attempt >= 9:
            break
        world.engine.drop(helper)  # others get through, so the path is good
        world.run(40)
    world.server.refuses = True
    for session_id in names(20)[1:]:
        world.engine.drop(session_id)
    world.run(5)
    assert [it.kind for it in world.machine.incidents.open()] == ["path_outage"]
    next_at = world.view("s0000").next_retry_at_unix_ms
    assert next_at is not None
    assert next_at > world.unix_ms + 60_000, "it sits out minutes"
    world.server.refuses = False
    world.server.refused.clear()
    world.run_until(world.are_all_online, DEFAULTS.canary_max_s + 5)


@pytest.mark.pain(24)
def test_a_429_slows_the_dials_of_the_whole_fleet() -> None:
    policy = replace(DEFAULTS, connect_burst=1, connect_rate_per_s=8.0)

    def dials_in_ten_seconds(reason: str) -> int:
        world = fleet(100, policy)
        world.run(60)
        world.engine.drop("s0000", reason)
        world.engine.drop_all()
        began = world.now
        world.run(10)
        return sum(1 for at in world.dial_times() if at > began)

    assert dials_in_ten_seconds("stream_rate_limited") <= dials_in_ten_seconds("connection_closed") / 2 + 2


def test_the_limiter_is_not_refilled_by_crashing() -> None:
    policy = replace(DEFAULTS, connect_burst=20, connect_rate_per_s=1.0)
    world = World(FakeStore(*names(500)), policy)
    dialled = 0
    for _ in range(10):  # a process that dies every second
        world.run(1.0)
        dialled += len(world.engine.opens)
        world = world.restart()
    assert dialled <= policy.connect_burst + 10 * (policy.connect_rate_per_s + 1) + 1
