"""One session at a time: commands, races, restarts, and the deadlines of each state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.counters import PHASE_CLOSED, CounterTable
from runner.errors import UnknownSessionError
from runner.reconnect.policy import Policy
from runner.session import Deadlines, State
from runner.supervisor import commands
from runner.supervisor.ledger import CLOCK_LOOK_S
from support.fake_engine import FakeEvent, FakeServer, FakeStore
from support.world import FAST, World

if TYPE_CHECKING:
    from support.columns import FakeColumns

pytestmark = pytest.mark.usefixtures("quiet_logs")
POLICY = Policy()


def online(**options: object) -> World:
    world = World(FakeStore("a"), POLICY, **options)  # type: ignore[arg-type]
    world.run(40)
    assert world.state() is State.ONLINE
    return world


# -- what names a state --------------------------------------------------------------------------------------


def test_states_that_follow_each_other_at_once_differ_in_since() -> None:
    world = bring_to(State.STOPPED)
    world.run(1)
    events = world.machine.feed.subscribe(100)
    world.force()
    world.run(0)  # its turn comes at the same moment of the clock
    views = [events.receive_nowait().view for _ in range(events.statistics().current_buffer_used)]
    shown = [(view.state, view.connection, view.since_unix_ms - world.unix_ms) for view in views if view]
    again = (State.CONNECTING, 2, 1)
    assert shown == [(State.BACKOFF, 2, 0), again, again]  # `session.status` twice, `session.reconnecting`


def test_a_clock_that_was_set_back_is_followed() -> None:
    world = online()
    world.unix_offset_s -= 3600
    world.stop()
    assert world.view().since_unix_ms == world.unix_ms


def test_every_change_has_the_next_number_whether_anybody_listens_or_not() -> None:
    world = online()
    before = world.machine.revision
    world.stop()
    assert world.view().revision == world.machine.revision == before + 1
    assert world.view().to_json()["revision"] == before + 1


def test_a_login_is_data_also_when_the_counters_were_read_before_it() -> None:
    world = online()
    world.engine.counter_overrides["a"] = {"last_data_age_s": 0.25}
    world.machine.engine.counters.refresh()
    world.engine.drop("a")
    world.run_until(lambda: world.view().connection == 2 and world.view().state is State.ONLINE, 1.5)
    assert world.view().last_data_received_at == world.view().since_unix_ms


def test_a_promised_number_is_news_also_to_a_session_that_waits_its_turn() -> None:
    world = online()
    world.force()
    world = world.restart()  # its reason is "forced" still, and it has no number yet
    events, before = world.machine.feed.subscribe(100), world.view()
    number = world.force()
    told = events.receive_nowait().view
    assert told is not None
    assert (told.connection, told.revision) == (number, before.revision + 1)


def test_a_refused_login_leaves_no_phase_behind() -> None:
    world = online()
    world.server.failures["a"] = ("failure_internal_error", 500, None)
    world.engine.drop("a")
    world.run_until(lambda: world.view().reason == "failure_internal_error", 60)
    assert (world.state(), world.view().phase) == (State.BACKOFF, None)


def test_uptime_is_that_of_the_connection_that_is_shown() -> None:
    world = online()
    row = world.machine.row("a")
    assert 39 < row.uptime_s(world.now) < 40
    world.force()  # the old connection is closing, the number is the next one's
    assert row.live
    assert row.uptime_s(world.now) == 0.0


# -- force-reconnect -----------------------------------------------------------------------------------------


def bring_to(state: State) -> World:
    """A world whose session is in that state, with nothing wrong at the server any more."""
    world = online()
    match state:
        case State.STOPPED:
            world.stop()
        case State.CONNECTING:
            world.server.hung.add("a")
            world.engine.drop("a")
            world.run(1)
            world.server.hung.clear()
        case State.DEGRADED:
            world.engine.probe("a", "iq_unanswered", healthy=False)
            world.run(0)
        case State.BACKOFF:
            world.server.failures["a"] = ("failure_generic", 400, None)
            world.engine.drop("a")
            world.run(1)
        case State.SUSPENDED:
            world.server.failures["a"] = ("failure_generic", 400, None)
            world.engine.drop("a")
            world.run(120)
        case State.PARKED:
            world.engine.drop("a", "stream_logged_out", 516)
            world.run(1)
        case _:
            pass
    world.server.failures.clear()
    assert world.state() is state
    return world


@pytest.mark.pain(17)
@pytest.mark.parametrize(
    "state",
    [
        State.STOPPED,
        State.CONNECTING,
        State.ONLINE,
        State.DEGRADED,
        State.BACKOFF,
        State.SUSPENDED,
        State.PARKED,
    ],
)
def test_force_works_in_every_state_and_cancels_waiting(state: State) -> None:
    world = bring_to(state)
    before = world.view().connection
    number = world.force()
    assert number == before + 1
    assert world.view().connection == number, "the new number is shown at once"
    world.run(2)
    assert world.state() is State.ONLINE
    assert world.engine.opens[-1].connection == number
    assert world.view().connection == number


@pytest.mark.pain(17)
def test_force_gets_through_an_open_path_breaker() -> None:
    world = World(FakeStore("a", "b"), POLICY, server=FakeServer(refuses=True))
    world.run(60)
    world.server.refuses = False
    began = world.now
    world.force("a")
    world.run(1)
    assert world.state("a") is State.ONLINE
    assert world.attempts("a", began) == 1
    assert world.state("b") is State.ONLINE, "the forced dial was the canary"


def test_forcing_again_before_the_dial_is_the_same_connection() -> None:
    world = online()
    assert {world.force() for _ in range(50)} == {2}
    world.run(5)
    assert [it.connection for it in world.engine.opens] == [1, 2]


@pytest.mark.pain(7)
def test_two_hundred_forces_racing_natural_drops_never_open_two_connections() -> None:
    """`FakeEngine.open` raises on a second connection, and the log would show two opens without a close."""
    world = World(FakeStore("a", "b", "c"), FAST)
    world.run(40)
    for n in range(200):
        session_id = "abc"[n % 3]
        if n % 7 == 0:
            world.engine.drop(session_id)
        number = world.force(session_id)
        assert number >= world.engine.opens[-1].connection - 200
        if n % 5 == 0:
            world.engine.drop(session_id)
        world.run(0.01 * (n % 4))
    world.run(30)
    assert world.are_all_online()
    assert not world.machine.incidents.closed()
    for session_id in "abc":
        numbers = [it.connection for it in world.engine.opens if it.session_id == session_id]
        assert numbers == sorted(set(numbers))


@pytest.mark.pain(24)
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("failure_logged_out", 401),
        ("failure_temporary_ban", 402),
        ("failure_locked", 403),
        ("failure_banned", 406),
        ("stream_replaced_code", 440),
    ],
)
def test_a_ban_that_arrives_while_we_force_wins(reason: str, code: int) -> None:
    world = online()
    world.engine.close_s = 1.0
    world.force()
    world.engine.drop("a", reason, code)
    world.run(2)
    assert world.attempts() == 1, "the forced dial did not happen"
    assert world.view().reason == reason
    assert world.view().code == code


# -- stop, start, remove -------------------------------------------------------------------------------------


def test_stop_closes_and_start_dials_and_both_can_be_repeated() -> None:
    world = online()
    world.stop()
    world.stop()
    assert world.state() is State.STOPPED
    world.run(3600)
    assert not world.engine.is_open("a")
    assert world.attempts() == 1
    world.start()
    world.start()
    world.run(1)
    assert world.state() is State.ONLINE
    assert world.attempts() == 2


def test_start_while_the_old_connection_still_closes_waits_for_its_end() -> None:
    world = online()
    world.engine.close_s = 2.0
    world.stop()
    world.start()
    world.run(1.9)
    assert world.attempts() == 1
    world.run(1)
    assert world.state() is State.ONLINE


@pytest.mark.pain(17)
def test_stop_during_backoff_takes_effect_at_once() -> None:
    world = bring_to(State.BACKOFF)
    began = world.now
    world.stop()
    world.run(7200)
    assert world.attempts(since=began) == 0


def test_stop_and_start_do_not_wash_off_a_ban() -> None:
    world = online()
    world.engine.drop("a", "failure_temporary_ban", 402, expire_s=7200)
    world.run(1)
    world.stop()
    world.run(10)
    world.start()
    assert world.state() is State.SUSPENDED
    world.run(7000)
    assert world.attempts() == 1
    world.run(600)
    assert world.state() is State.ONLINE


def test_a_ban_that_arrives_on_the_last_breath_of_a_stopped_session_is_kept() -> None:
    world = online()
    world.engine.close_s = 1.0
    world.stop()
    world.engine.drop("a", "failure_temporary_ban", 402, expire_s=7200)
    world.run(5)
    assert world.state() is State.STOPPED
    world.start()
    assert world.state() is State.SUSPENDED


def test_a_removed_session_is_gone_and_its_late_events_hit_nobody() -> None:
    world = online()
    row = world.machine.row("a")
    row.is_removed = True
    commands.stop(world.machine, row)
    world.run(1)
    commands.forget(world.machine, row)
    world.engine.emit(FakeEvent("online", "a", 1))
    world.engine.emit(FakeEvent("closed", "a", 1, reason="connection_closed", phase="online"))
    world.run(10)
    assert list(world.views()) == []
    assert world.machine.stale_events_total == 2
    with pytest.raises(UnknownSessionError):
        world.machine.row("a")


@pytest.mark.pain(7)
def test_events_of_an_old_connection_change_nothing() -> None:
    world = online()
    world.engine.drop("a")
    world.run(5)
    before = world.view()
    assert before.connection == 2
    for kind in ("closed", "online", "path", "phase", "probe"):
        world.engine.emit(
            FakeEvent(kind, "a", 1, reason="stream_replaced", phase="closing", probe="pong", healthy=False)
        )
    world.run(0)
    assert world.view() == before
    assert world.machine.stale_events_total == 5


# -- deadlines -----------------------------------------------------------------------------------------------


@pytest.mark.pain(17)
def test_an_engine_that_never_ends_a_dial_does_not_keep_a_session_connecting() -> None:
    world = World(FakeStore("a"), POLICY, server=FakeServer(hung={"a"}, login_timeout_s=1e9))
    world.run(1)
    assert world.state() is State.CONNECTING
    world.run(Deadlines().connecting_s)
    assert world.engine.closes
    world.server.hung.clear()
    world.run(60)
    assert world.state() is State.ONLINE


@pytest.mark.pain(17)
def test_a_close_that_never_comes_is_asked_again_reported_and_never_dialled_beside() -> None:
    world = online()
    world.engine.never_closes.add("a")
    world.force()
    world.run(Deadlines().abort_s + 0.1)
    assert world.state() is State.SUSPENDED
    assert world.view().reason == "close_stuck"
    assert world.view().next_retry_at_unix_ms is not None
    assert [it.kind for it in world.machine.incidents.open()] == ["stuck_close"]
    world.run(600)
    assert world.attempts() == 1, "never a second connection beside one that may be alive"
    assert len(world.engine.closes) > 10
    world.engine.never_closes.clear()
    world.run(10)
    assert world.state() is State.ONLINE
    assert world.view().connection == 2
    assert not world.machine.incidents.open()


def test_a_lost_closed_event_is_found_by_the_counters() -> None:
    world = online()
    world.engine.loses_closed.add("a")
    world.force()
    world.run(Deadlines().closing_s + 2)
    assert world.state() is State.ONLINE
    assert world.view().connection == 2


@pytest.mark.pain(14)
def test_news_is_heard_before_a_deadline_is_judged() -> None:
    """The Python thread was blocked: the deadline and the login both lie in the past."""
    world = World(FakeStore("a"), POLICY, server=FakeServer(login_s=100.0, login_timeout_s=1e9))
    world.run(1)
    world.now += 200.0
    world.engine.advance()
    world.machine.turn()
    assert world.state() is State.ONLINE
    assert not world.engine.closes


def test_an_impossible_proxy_parks_only_its_session_and_a_new_one_frees_it() -> None:
    world = World(FakeStore("a", "b"), POLICY)
    world.machine.row("a").proxy = "nonsense"
    world.run(5)
    assert (world.state("a"), world.view("a").reason) == (State.PARKED, "proxy_invalid")
    assert world.state("b") is State.ONLINE


def test_an_engine_without_room_is_asked_again_and_nobody_is_told_to_restart() -> None:
    world = World(FakeStore("a", "b"), POLICY)
    world.engine.is_full = True
    world.run(20)
    assert {world.state("a"), world.state("b")} <= {State.BACKOFF, State.CONNECTING}
    assert not world.machine.incidents.open()
    assert world.machine.row("a").history.failures == 0, "nothing was tried"
    world.engine.is_full = False
    world.run(5)
    assert (world.state("a"), world.state("b")) == (State.ONLINE, State.ONLINE)
    assert world.view("a").connection == 1, "no number was used up"


def test_an_engine_that_stays_without_room_is_an_incident_until_it_has_some() -> None:
    world = World(FakeStore("a"), POLICY)
    world.engine.is_full = True
    world.run(40)
    assert [it.kind for it in world.machine.incidents.open()] == ["engine_full"]
    world.engine.is_full = False
    world.run(5)
    assert world.state() is State.ONLINE
    assert not world.machine.incidents.open()


@pytest.mark.parametrize("facts", [{"phase": PHASE_CLOSED}, {"connection": 99}])
def test_counters_that_show_another_connection_or_a_closed_one_prove_the_loss(
    facts: dict[str, object],
) -> None:
    world = online()
    world.engine.never_closes.add("a")
    world.engine.counter_overrides["a"] = facts
    world.force()
    world.run(Deadlines().closing_s - 0.1)
    assert world.attempts() == 1
    row = world.machine.row("a")
    world.stop()
    world.run(0.2)
    assert not row.live


def test_an_old_copy_of_the_counters_proves_no_loss() -> None:
    """The engine's thread stands still: its last copy is of the connection before this one."""
    world = online()
    world.engine.never_closes.add("a")
    world.engine.counter_overrides["a"] = {"connection": 99, "copy_age_s": 3600.0}
    world.force()
    world.run(Deadlines().closing_s + 1)
    assert world.machine.row("a").live
    assert world.attempts() == 1


def test_ages_are_of_the_moment_at_which_the_engine_gave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = online()
    world.run(60)
    look = world.engine.columns

    def late() -> FakeColumns:
        world.now += 0.25  # what the call waits for a thread that stands still
        return look()

    monkeypatch.setattr(world.engine, "counters", CounterTable(late, lambda: world.now))
    world.engine.counters.refresh()
    shown = world.machine.view("a")
    assert shown is not None
    assert shown.last_pong_at == world.unix_ms - 5000


def test_ages_are_right_when_the_counters_go_by_another_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's clock and the monotonic one begin days apart."""
    world = online()
    world.run(60)
    table = CounterTable(world.engine.columns, lambda: world.now + 160_000.0)
    monkeypatch.setattr(world.engine, "counters", table)
    table.refresh()
    shown = world.machine.view("a")
    assert shown is not None
    assert shown.last_pong_at == world.unix_ms - 5000


# -- breaker reset -------------------------------------------------------------------------------------------


@pytest.mark.pain(17)
def test_reset_lets_one_attempt_through_and_the_next_failure_opens_again() -> None:
    world = bring_to(State.SUSPENDED)
    assert world.view().breaker.state == "open"
    world.server.failures["a"] = ("failure_generic", 400, None)
    began = world.now
    commands.reset(world.machine, world.machine.row("a"), penalty=False)
    world.run(1)
    assert world.attempts(since=began) == 1
    assert world.view().breaker.state == "open"


@pytest.mark.pain(24)
def test_reset_lifts_a_ban_only_when_told() -> None:
    world = online()
    world.engine.drop("a", "failure_temporary_ban", 402, expire_s=7200)
    world.run(1)
    commands.reset(world.machine, world.machine.row("a"), penalty=False)
    world.run(60)
    assert world.state() is State.SUSPENDED
    commands.reset(world.machine, world.machine.row("a"), penalty=True)
    world.run(1)
    assert world.state() is State.ONLINE


@pytest.mark.parametrize("penalty", [False, True])
def test_reset_forgets_a_rate_limit_only_when_told(penalty: bool) -> None:
    world = online()
    world.engine.drop("a", "stream_rate_limited", 429)
    world.run(400)
    assert world.state() is State.ONLINE
    commands.reset(world.machine, world.machine.row("a"), penalty=penalty)
    world.engine.drop("a")
    world.run(2)
    assert (world.state() is State.ONLINE) == penalty, "else the next retry is not immediate"


# -- what survives a restart ---------------------------------------------------------------------------------


@pytest.mark.pain(24)
def test_a_ban_is_not_redialled_early_after_a_restart() -> None:
    world = online()
    world.engine.drop("a", "failure_temporary_ban", 402, expire_s=7200)
    world.run(600)
    for _ in range(3):
        world = world.restart(off_s=60)
        assert world.state() is State.SUSPENDED
        world.run(600)
        assert world.attempts() == 0
    world.run(7200 - 600 - 3 * 660 + POLICY.ban_jitter_s + 5)
    assert world.state() is State.ONLINE
    assert world.view().connection == 2, "numbers go on"


@pytest.mark.parametrize("state", [State.STOPPED, State.PARKED, State.SUSPENDED])
def test_a_restart_changes_no_mind(state: State) -> None:
    world = bring_to(state)
    before = world.view()
    again = world.restart()
    again.run(0)
    after = again.view()
    assert (after.state, after.reason, after.connection) == (before.state, before.reason, before.connection)
    assert after.breaker.state == before.breaker.state
    if before.next_retry_at_unix_ms is not None and after.next_retry_at_unix_ms is not None:
        assert abs(after.next_retry_at_unix_ms - before.next_retry_at_unix_ms) <= 2


def test_an_unlinked_session_that_was_stopped_is_still_unlinked_after_a_restart() -> None:
    """Found by the property test: the stop hid what only pairing can mend."""
    world = online()
    world.engine.drop("a", "logged_out_by_request")
    world.run(1)
    world.stop()
    again = world.restart()
    again.run(1)
    assert again.state() is State.LOGGED_OUT


def test_flapping_is_remembered_over_restarts() -> None:
    world = World(FakeStore("a"), POLICY, server=FakeServer(closes_after_s=1.0))
    attempts = 0
    for _ in range(60):  # a process that lives a minute each
        world.run(60)
        attempts += world.attempts()
        world = world.restart()
    assert attempts <= 20


def test_a_401_under_confirmation_is_still_under_confirmation_after_a_restart() -> None:
    world = online()
    world.server.failures["a"] = ("failure_logged_out", 401, None)
    world.engine.drop("a", "stream_device_removed", 401)
    world.run(1)
    again = world.restart()
    again.run(1)
    assert again.attempts() == 0
    again.run(120)
    assert again.attempts() == 1
    assert again.state() is State.LOGGED_OUT
    assert again.store.archived == {"a": "failure_logged_out"}
    last = again.restart()
    last.run(86_400)
    assert last.attempts() == 0
    assert last.state() is State.LOGGED_OUT


def test_damaged_policy_state_waits_and_says_so_and_comes_back() -> None:
    store = FakeStore("a")
    store.policies["a"] = "{damaged"
    world = World(store, POLICY)
    world.run(POLICY.breaker_timeout_s - 1)
    assert world.attempts() == 0
    assert (world.state(), world.view().reason) == (State.SUSPENDED, "policy_damaged")
    world.run(5)
    assert world.state() is State.ONLINE


def test_quarantined_credentials_are_parked_and_never_dialled() -> None:
    store = FakeStore("a", "b")
    store.quarantined.add("a")
    world = World(store, POLICY)
    world.run(86_400)
    assert world.state("a") is State.PARKED
    assert world.attempts("a") == 0
    assert world.state("b") is State.ONLINE


def test_resumption_rests_after_a_failure_and_the_retry_is_no_attempt() -> None:
    world = online(resume=True)
    world.server.resume_fails = True
    assert world.engine.opens[-1].resume
    world.engine.drop("a")
    world.run(2)
    assert [it.resume for it in world.engine.opens] == [True, True, False]
    assert world.state() is State.ONLINE
    assert world.view().attempt == 0
    again = world.restart()
    assert again.store.metas["resume_rests_until"].isdigit()


# -- what is shown -------------------------------------------------------------------------------------------


@pytest.mark.pain(18)
def test_a_view_says_why_since_when_and_what_next() -> None:
    world = online()
    world.engine.drop("a", "stream_internal_error", 500, detail="<stream:error code='500'/>")
    world.server.failures["a"] = ("failure_internal_error", 500, None)
    world.run(1)
    view = world.view()
    assert (view.state, view.reason, view.code, view.attempt) == (
        State.BACKOFF,
        "failure_internal_error",
        500,
        2,
    )
    assert view.next_retry_at_unix_ms is not None
    assert world.unix_ms <= view.next_retry_at_unix_ms <= world.unix_ms + 2000
    assert view.flap_5m == 1
    assert set(view.to_json()) >= {"id", "state", "reason", "connection", "since", "attempt", "nextRetryAt"}
    world.server.failures.clear()
    world.run(60)
    view = world.view()
    assert (view.reason, view.code, view.detail, view.attempt) == (None, None, None, 0)
    assert view.stable_since is not None
    assert view.last_pong_at is not None


def test_a_proxy_is_shown_without_its_password() -> None:
    world = online()
    world.machine.row("a").proxy = "socks5://user:secret@10.0.0.1:1080"
    assert world.view().proxy == "socks5://10.0.0.1:1080"


def test_ten_thousand_rows_are_cheap() -> None:
    policy = replace(FAST, connect_rate_per_s=10_000.0, connect_burst=10_000, connect_concurrency=10_000)
    world = World(FakeStore(*(f"s{n}" for n in range(10_000))), policy)
    world.run_until(world.are_all_online, 60)
    world.run(40)
    turns = 0
    original = world.machine.turn

    def counted() -> float | None:
        nonlocal turns
        turns += 1
        return original()

    world.machine.turn = counted  # type: ignore[method-assign]
    world.run(3600)
    assert turns < 10 + 3600 / CLOCK_LOOK_S, "an idle fleet takes no turns but to look at the clock"
    assert len(world.machine.deadlines) == 0
