"""The parts of the policy one by one: backoff, limiter, path, version, fleet, durable state, deadlines."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from runner.reconnect.backoff import delay_s
from runner.reconnect.breaker import Breaker, BreakerState
from runner.reconnect.dials import Dials
from runner.reconnect.fleet import LogoutGuard, MassDrop
from runner.reconnect.history import FLAPS_KEPT, Durable, History, Hold, from_json, to_json
from runner.reconnect.incidents import Incidents
from runner.reconnect.limiter import SLOW_FOR_S, Limiter, Priority
from runner.reconnect.path import PathBreaker, PathKey
from runner.reconnect.policy import Policy
from runner.reconnect.version import (
    FALLBACK,
    GateState,
    VersionGate,
    format_version,
    parse_client_revision,
    parse_version,
)
from runner.supervisor.deadlines import Deadlines, Kind

POLICY = Policy()
NOW = 10_000.0
UNIX_MS = 1_800_000_000_000


def rng() -> Random:
    return Random(3)


# -- backoff -------------------------------------------------------------------------------------------------


def test_the_ceiling_doubles_from_base_to_max() -> None:
    waits = [delay_s(n, 2.0, 300.0, rng()) for n in range(1, 12)]
    for n, wait in enumerate(waits):
        ceiling = min(300.0, 2.0 * 2**n)
        assert ceiling / 2 <= wait <= ceiling
    assert delay_s(0, 2.0, 300.0, rng()) == 0.0
    assert delay_s(100_000, 2.0, 300.0, rng()) <= 300.0


# -- limiter -------------------------------------------------------------------------------------------------


def limiter(rate: float = 10.0, burst: int = 3, concurrency: int = 100) -> Limiter:
    return Limiter(rate, burst, concurrency, NOW)


def test_the_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    it = limiter()
    for n in range(10):
        it.enqueue(f"s{n}", Priority.ORDINARY, 0)
    now, starts = NOW, []
    while (at := it.next_start_at(now)) is not None:
        now = max(now, at)
        assert it.may_start(now), "the time that it names is enough"
        session_id = it.next_session()
        assert session_id is not None
        it.start(session_id, now)
        starts.append(round(now - NOW, 6))
    assert starts[:3] == [0.0, 0.0, 0.0]
    assert starts[3:] == pytest.approx([0.1 * n for n in range(1, 8)], abs=1e-3)


def test_forced_go_first_then_the_recently_active_then_the_rest() -> None:
    it = limiter()
    for name, priority, active in [
        ("old", Priority.ORDINARY, 1),
        ("new", Priority.ORDINARY, 9),
        ("never", Priority.ORDINARY, 0),
        ("forced", Priority.FORCED, 0),
    ]:
        it.enqueue(name, priority, active)
    order = []
    while (session_id := it.next_session()) is not None:
        order.append(session_id)
        it.withdraw(session_id)
    assert order == ["forced", "new", "old", "never"]


def test_no_more_than_the_concurrency_is_under_way() -> None:
    it = limiter(burst=10, concurrency=2)
    for name in "abc":
        it.enqueue(name, Priority.ORDINARY, 0)
    it.start("a", NOW)
    it.start("b", NOW)
    assert not it.may_start(NOW)
    assert it.next_start_at(NOW) is None
    it.finish("a")
    it.finish("a")
    assert it.may_start(NOW)


def test_asking_again_moves_and_does_not_double() -> None:
    it = limiter()
    for _ in range(1000):
        it.enqueue("a", Priority.ORDINARY, 0)
    assert it.waiting == 1
    it.withdraw("a")
    assert it.next_session() is None


def test_a_429_halves_the_rate_and_time_heals_it() -> None:
    it = limiter()
    it.slow_down(NOW)
    assert it.rate_per_s == 5.0
    for _ in range(10):
        it.slow_down(NOW)
    assert it.rate_per_s == 10.0 / 8
    it.may_start(NOW + SLOW_FOR_S)
    assert it.rate_per_s == 10.0 / 4
    it.may_start(NOW + 3 * SLOW_FOR_S)
    assert it.rate_per_s == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"v":1,"tokens":"x","at":1}',
        '{"v":2,"tokens":1,"at":1}',
        '{"v":1,"tokens":NaN,"at":1}',
    ],
)
def test_a_damaged_level_costs_the_burst_and_nothing_else(text: str) -> None:
    it = limiter()
    assert it.restore(text, NOW, UNIX_MS) is not None
    assert not it.may_start(NOW)
    assert it.may_start(NOW + 0.11)


def test_the_level_of_a_former_life_is_taken_back() -> None:
    before = limiter()
    for name in "abc":
        before.start(name, NOW)
    after = Limiter(10.0, 3, 100, 5.0)
    assert after.restore(before.to_json(NOW, UNIX_MS), 5.0, UNIX_MS + 50) is None
    assert not after.may_start(5.0)
    assert after.may_start(5.06)


# -- path ----------------------------------------------------------------------------------------------------


def failing(path: PathBreaker, session_id: str, now: float, sessions: int = 100) -> bool:
    return path.failed(session_id, now, "tcp_refused", sessions, now, rng())


def test_the_path_opens_at_five_sessions_that_cannot_get_through() -> None:
    path = PathBreaker(POLICY)
    assert [failing(path, f"s{n}", NOW + n) for n in range(5)] == [False, False, False, False, True]


def test_one_session_that_fails_again_and_again_is_not_a_path() -> None:
    path = PathBreaker(POLICY)
    assert not any(failing(path, "s", NOW + n) for n in range(100))


@pytest.mark.parametrize(("successes", "opens"), [(20, True), (21, False)])
def test_the_path_opens_at_a_fifth_of_the_dials_in_the_window(successes: int, opens: bool) -> None:
    path = PathBreaker(POLICY)
    for n in range(4):
        failing(path, f"s{n}", NOW)
    for n in range(successes):
        path.succeeded(f"w{n}", NOW)
    assert failing(path, "s4", NOW) == opens


def test_what_is_older_than_the_window_does_not_count() -> None:
    path = PathBreaker(POLICY)
    for n in range(4):
        failing(path, f"s{n}", NOW)
    path.succeeded("w", NOW)
    assert not failing(path, "s4", NOW + POLICY.path_window_s)


def test_canaries_go_one_at_a_time_and_ever_more_slowly() -> None:
    path = PathBreaker(POLICY)
    assert failing(path, "a", NOW, sessions=1)
    now, gaps = NOW, []
    for _ in range(20):
        assert path.canary_at is not None
        gaps.append(path.canary_at - now)
        now = path.canary_at
        assert path.is_canary_due(now)
        path.send_canary("a")
        assert not path.is_canary_due(now + 1e6), "while one is under way there is no second"
        failing(path, "a", now, sessions=1)
    assert all(POLICY.canary_min_s / 2 <= gap <= POLICY.canary_max_s for gap in gaps)
    assert max(gaps) > 2 * POLICY.canary_min_s


def test_a_dial_from_before_the_path_closed_is_old_news() -> None:
    path = PathBreaker(POLICY)
    failing(path, "a", NOW, sessions=1)
    path.send_canary("a")
    assert path.succeeded("a", NOW + 5)
    assert not path.failed("b", NOW + 4, "tcp_timeout", 1, NOW + 20, rng())
    assert path.failed("b", NOW + 5, "tcp_timeout", 1, NOW + 20, rng())


def test_a_canary_that_stops_makes_room_for_another() -> None:
    dials = Dials(POLICY, NOW, rng(), (2, 3000, 1))
    key = PathKey("wss://x")
    for name in "ab":
        dials.join(name, key)
        dials.want(name, Priority.ORDINARY, 0, NOW)
    now = NOW
    for _ in range(2):
        taken = dials.take(now)
        assert taken is not None
        dials.ended(taken, "tcp_refused", "dialling", now)
        dials.want(taken, Priority.ORDINARY, 0, now)
    assert dials.take(now) is None
    assert [it[2] for it in dials.open_paths()] == [2]
    now += POLICY.canary_min_s
    path = dials.path("a")
    assert path is not None
    first = dials.take(now)
    assert first is not None
    assert dials.take(now + 100) is None
    dials.ended(first, "stopped", "dialling", now + 100)
    second = dials.take(now + 100)
    assert second is not None
    assert second != first
    assert dials.reached_login(second, now + 101) == key


def test_a_canary_that_learned_nothing_is_not_followed_by_the_next_at_once() -> None:
    """Our own store stalls: the path is as unknown as before, and every canary would end the same way."""
    dials = Dials(POLICY, NOW, rng(), (2, 3000, 1))
    key = PathKey("wss://x")
    for name in "ab":
        dials.join(name, key)
        dials.want(name, Priority.ORDINARY, 0, NOW)
    for _ in range(2):
        taken = dials.take(NOW)
        assert taken is not None
        dials.ended(taken, "tcp_refused", "dialling", NOW)
        dials.want(taken, Priority.ORDINARY, 0, NOW)
    now = NOW + POLICY.canary_min_s
    first = dials.take(now)
    assert first is not None
    dials.ended(first, "store_stalled", "dialling", now)
    dials.want(first, Priority.ORDINARY, 0, now)
    assert dials.take(now + POLICY.canary_min_s - 0.01) is None
    assert dials.take(now + POLICY.canary_min_s) is not None


def test_a_path_that_nobody_uses_any_more_is_forgotten() -> None:
    dials = Dials(POLICY, NOW, rng(), (2, 3000, 1))
    dials.join("a", PathKey("wss://x"))
    dials.want("a", Priority.ORDINARY, 0, NOW)
    assert dials.take(NOW) == "a"
    assert dials.ended("a", "tcp_refused", "dialling", NOW) == PathKey("wss://x")
    assert dials.leave("a") == PathKey("wss://x")
    assert list(dials.open_paths()) == []


# -- version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "version"),
    [
        ('{"client_revision":1045649367,"x":1}', (2, 3000, 1045649367)),
        (r'self.x="{\"server_revision\":1,\"client_revision\":1045649367}"', (2, 3000, 1045649367)),
        ('"client_revision" : 1045649367', (2, 3000, 1045649367)),
        ("client_revision=1045649367", None),
        ('"client_revision":99', None),
        ('"client_revision":12345678901234567890', None),
        ("", None),
    ],
)
def test_the_revision_is_found_in_the_service_worker(body: str, version: tuple[int, int, int] | None) -> None:
    assert parse_client_revision(body) == version


@pytest.mark.parametrize("text", ["auto", "", "2.3000", "2.3000.x", "2.3000.-1", "2.3000.1.2", "٢.3000.1"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_a_version_reads_back() -> None:
    assert parse_version(format_version(FALLBACK)) == FALLBACK


def test_an_unproven_version_gets_one_login_and_one_more_every_two_seconds() -> None:
    gate = VersionGate(POLICY)
    assert gate.may_start(NOW)
    gate.started("a", NOW)
    assert not gate.may_start(NOW)
    assert gate.next_start_at(NOW) == NOW + POLICY.version_patience_s
    assert gate.may_start(NOW + POLICY.version_patience_s)
    gate.started("b", NOW + 2)
    gate.started("c", NOW + 4)
    assert not gate.may_start(NOW + 5.9), "never more than that"
    assert gate.next_start_at(NOW + 5.9) == NOW + POLICY.version_answer_s
    assert gate.may_start(NOW + POLICY.version_answer_s), "what hangs for so long tells nothing any more"
    gate.accepted("b", NOW + 5)
    assert gate.may_start(NOW + 5)
    gate.doubt(NOW + 6)
    assert not gate.may_start(NOW + 6), "two are still out, and one only may be"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version":1}', '{"v":1,"version":"9.9.9","at":1}', '{"v":1,"version":"2.3000.1"}']
)
def test_a_damaged_version_is_read_again(text: str) -> None:
    gate = VersionGate(POLICY)
    assert not gate.restore(text, NOW, UNIX_MS)
    assert gate.version == FALLBACK


@pytest.mark.parametrize(("age_s", "fresh"), [(0, True), (86_399, True), (86_400, False), (-5, False)])
def test_a_remembered_version_lasts_a_day(age_s: int, fresh: bool) -> None:
    gate = VersionGate(POLICY)
    text = VersionGate.to_json_of((2, 3000, 2_000_000_000), UNIX_MS - age_s * 1000)
    assert gate.restore(text, NOW, UNIX_MS) == fresh
    assert gate.version == (2, 3000, 2_000_000_000)


def test_a_rejection_of_a_version_that_is_no_longer_announced_is_old_news() -> None:
    gate = VersionGate(POLICY)
    assert gate.outdated("a", FALLBACK, NOW)
    assert gate.state is GateState.REFRESHING
    assert gate.refreshed((2, 3000, 2_000_000_000), NOW)
    assert not gate.outdated("b", FALLBACK, NOW)
    assert gate.may_start(NOW)


# -- fleet ---------------------------------------------------------------------------------------------------


def test_a_mass_drop_is_a_fifth_of_the_fleet_and_forgives_all_of_them() -> None:
    mass = MassDrop(POLICY)
    forgiven = [mass.dropped(f"s{n}", 50, NOW) for n in range(12)]
    assert [len(it) for it in forgiven] == [0] * 9 + [10, 1, 1]
    assert mass.dropped("late", 50, NOW + POLICY.mass_drop_window_s) == []


def test_one_session_cannot_be_a_mass() -> None:
    mass = MassDrop(POLICY)
    assert not any(mass.dropped("s", 5, NOW + n / 10) for n in range(50))


@pytest.mark.parametrize(
    ("unlinked", "fleet", "holds"), [(4, 10, False), (5, 100, False), (6, 100, True), (5, 10, True)]
)
def test_the_guard_holds_above_five_percent_and_five_sessions(unlinked: int, fleet: int, holds: bool) -> None:
    guard = LogoutGuard(POLICY)
    started = [guard.logged_out(f"s{n}", fleet, NOW) for n in range(unlinked)]
    assert started.count(True) == int(holds)
    assert guard.is_holding == holds
    assert guard.may_confirm("s0", NOW) != holds


def test_the_guard_counts_sessions_in_five_minutes() -> None:
    guard = LogoutGuard(POLICY)
    assert not any(guard.logged_out(f"s{n}", 10, NOW + n * 76) for n in range(50))
    assert not any(guard.logged_out("same", 10, NOW + 9000 + n) for n in range(50))


def test_after_the_hold_one_canary_confirms_and_the_hold_doubles_if_it_fails() -> None:
    guard = LogoutGuard(POLICY)
    for n in range(5):
        guard.logged_out(f"s{n}", 10, NOW)
    then = NOW + POLICY.logout_hold_s
    assert guard.may_confirm("s0", then)
    assert not guard.may_confirm("s1", then)
    assert not guard.logged_out("s0", 10, then + 1)
    assert guard.until == then + 1 + 2 * POLICY.logout_hold_s
    guard.may_confirm("s1", guard.until)
    assert guard.logged_in("s1")
    assert guard.may_confirm("s2", then)


def test_incidents_are_raised_once_and_closed_once() -> None:
    incidents = Incidents()
    assert incidents.raise_once("path_outage", "x", "critical", "down", 1) is not None
    assert incidents.raise_once("path_outage", "x", "critical", "down", 2) is None
    assert incidents.raise_once("path_outage", "y", "critical", "down", 2) is not None
    closed = incidents.close("path_outage", "x", 9)
    assert closed is not None
    assert (closed.opened_at, closed.closed_at) == (1, 9)
    assert incidents.close("path_outage", "x", 9) is None
    for n in range(1000):
        incidents.raise_once("k", str(n), "warning", "", n)
        incidents.close("k", str(n), n)
    assert len(incidents.closed()) == 256


# -- durable state -------------------------------------------------------------------------------------------


def a_durable() -> Durable:
    breaker = Breaker(BreakerState.OPEN, 7, "flapping", NOW - 50, NOW + 550)
    history = History(9, breaker, (NOW - 3000, NOW - 10), 5, NOW + 1000, True, True, True, 3, NOW - 400)
    return Durable(
        False,
        Hold("suspended", NOW + 7200),
        "failure_temporary_ban",
        402,
        "<failure/>",
        41,
        UNIX_MS - 5,
        "http://p",
        history,
    )


def test_everything_survives_a_restart_on_another_monotonic_clock() -> None:
    text = to_json(a_durable(), NOW, UNIX_MS)
    back, problem = from_json(text, 0.0, UNIX_MS, POLICY)
    assert problem is None
    assert to_json(back, 0.0, UNIX_MS) == text


@pytest.mark.parametrize("step_s", [3600, -3600, 10 * 365 * 86_400, -10 * 365 * 86_400])
def test_a_wrong_clock_makes_no_time_impossible(step_s: int) -> None:
    back, problem = from_json(to_json(a_durable(), NOW, UNIX_MS), 0.0, UNIX_MS + step_s * 1000, POLICY)
    assert problem is None
    assert back.hold is not None
    assert back.hold.until is not None
    assert back.hold.until >= 0.0
    breaker = back.history.breaker
    assert breaker.retry_at is not None
    assert 0.0 <= breaker.retry_at <= max(POLICY.probe_max_s, POLICY.breaker_timeout_s * 1.1)
    assert breaker.opened_at is not None
    assert breaker.opened_at <= 0.0
    assert all(-3600 < at <= 0.0 for at in back.history.flaps)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "3", "[]", "{}", "{", "\x00", '{"v":2,"desired":"running"}', '{"v":1}',
        '{"v":1,"desired":"maybe"}',
        '{"v":1,"desired":"running","hold":"x"}', '{"v":1,"desired":"running","hold":{"state":"suspended"}}',
        '{"v":1,"desired":"running","hold":{"state":"suspended","not_before":"soon"}}',
        '{"v":1,"desired":"running","hold":{"state":"suspended","not_before":true}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_record_without_a_sound_core_waits_one_breaker_timeout(text: str) -> None:
    back, problem = from_json(text, NOW, UNIX_MS, POLICY)
    assert problem
    assert back.desired
    assert back.hold == Hold("suspended", NOW + POLICY.breaker_timeout_s)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("failures", "many"), ("failures", -1), ("failures", 1e9), ("breaker", None),
        ("breaker", {"state": "ajar"}),
        ("flaps", [1, "x"]), ("flaps", 7), ("penalty", []), ("confirming", "yes"), ("connection", True),
        ("reason", 5),
        ("detail", {}), ("last_active", 10**30), ("proxy", 1), ("rebuilt_at", "x"),
    ],
)  # fmt: skip
def test_a_damaged_field_costs_that_field_and_is_reported(key: str, value: object) -> None:
    raw = json.loads(to_json(a_durable(), NOW, UNIX_MS))
    raw[key] = value
    back, problem = from_json(json.dumps(raw), NOW, UNIX_MS, POLICY)
    assert problem is not None
    assert key in problem
    assert (back.desired, back.hold) == (False, Hold("suspended", NOW + 7200))


def test_what_is_remembered_is_bounded() -> None:
    history = History()
    for n in range(10_000):
        history = history.flapped(NOW + n / 1000)
    assert len(history.flaps) == FLAPS_KEPT
    huge = replace(a_durable(), detail="x" * 100_000, history=history)
    assert len(to_json(huge, NOW, UNIX_MS)) < 4096


def test_no_record_is_a_new_session() -> None:
    assert from_json(None, NOW, UNIX_MS, POLICY) == (Durable(), None)


# -- deadlines -----------------------------------------------------------------------------------------------


def test_deadlines_come_in_order_and_only_the_latest_of_each_kind() -> None:
    it = Deadlines()
    it.set("a", Kind.RETRY, 5.0)
    it.set("b", Kind.RETRY, 3.0)
    it.set("a", Kind.RETRY, 4.0)
    it.set("a", Kind.CLOSE, 9.0)
    it.clear("a", Kind.CLOSE)
    assert it.pop_due(2.9) is None
    assert [it.pop_due(100.0), it.pop_due(100.0), it.pop_due(100.0)] == [
        ("b", Kind.RETRY),
        ("a", Kind.RETRY),
        None,
    ]


def test_moving_one_deadline_a_million_times_does_not_grow_the_heap() -> None:
    it = Deadlines()
    for n in range(100_000):
        it.set("a", Kind.STATE, float(n))
    assert len(it) == 1
    assert len(it._heap) < 1000


def test_ten_thousand_superseded_deadlines_of_one_moment_are_not_one_step() -> None:
    it = Deadlines()
    for n in range(10_000):
        it.set(f"s{n}", Kind.STABLE, 20.0)
        it.set(f"s{n}", Kind.STATE, 5.0)
        it.clear(f"s{n}", Kind.STATE)
    before = len(it._heap)
    assert it.pop_due(6.0) is None
    assert before - len(it._heap) < 1000
    looks = 0
    while it.next_at() == 5.0:
        looks += 1
    assert it.next_at() == 20.0
    assert looks > 10


# -- breaker ----------------------------------------------------------------------------------------------


def test_a_breaker_opened_by_flapping_opens_again_when_its_one_attempt_fails() -> None:
    opened = Breaker(failures=1).opened("flapping", NOW, POLICY, rng())
    half_open = opened.attempted()
    assert half_open.state is BreakerState.HALF_OPEN
    again = half_open.failed(NOW + 700, POLICY, rng())
    assert (again.state, again.why, again.failures) == (BreakerState.OPEN, "flapping", 2)


@pytest.mark.parametrize(("failures", "opens"), [(3, False), (4, True)])
def test_a_closed_breaker_opens_at_the_threshold_and_not_before(failures: int, opens: bool) -> None:
    assert Breaker(failures=failures).failed(NOW, POLICY, rng()).is_open == opens
