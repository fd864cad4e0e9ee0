"""Each close reason: its row, and what the policy makes of it the first time and again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from random import Random
from typing import Final

import pytest

from runner.reasons import meanings
from runner.reconnect.decide import RETRIES_EXHAUSTED, Ending, decide
from runner.reconnect.decision import (
    AwaitVersion,
    Decision,
    LoggedOut,
    Park,
    RetryAfter,
    RetryNow,
    Stay,
    Suspend,
)
from runner.reconnect.history import LONGEST_BAN_S, History
from runner.reconnect.policy import Policy
from runner.reconnect.table import OWN, TABLE, UNKNOWN_REASON, Fault, is_path_failure, refuses_force, rule_for
from support.fake_engine import FakeServer, FakeStore
from support.world import World

POLICY: Final = Policy()
NOW: Final = 50_000.0

BACKOFF: Final = {
    "failure_generic", "failure_cat_expired", "failure_cat_invalid", "failure_not_found",
    "failure_client_unknown",
    "failure_internal_error", "failure_experimental", "failure_service_unavailable", "failure_unknown",
    "stream_cat_expired", "stream_cat_invalid", "stream_internal_error", "stream_service_unavailable",
    "stream_bad_xml", "stream_unknown", "stream_ended", "websocket_closed", "websocket_invalid",
    "connection_closed", "connection_reset", "connection_timed_out", "login_timeout", "pong_deadline",
    "frame_invalid", "input_unfinished", "decrypt_failed", "output_stalled", "session_panicked", "rebuilt",
}  # fmt: skip
PATH: Final = {
    "upgrade_refused", "upgrade_invalid", "resolve_failed", "tcp_refused", "tcp_unreachable", "tcp_timeout",
    "proxy_failed", "proxy_refused", "proxy_auth_failed", "tls_failed", "tls_certificate_invalid",
    "tls_timeout",
    "dial_timeout", "upgrade_timeout", "handshake_timeout", "handshake_failed", "certificate_invalid",
    "certificate_expired",
}  # fmt: skip
AT_ONCE: Final = {
    "stream_restart_required", "stream_unanswered_stanza", "nonce_exhausted", "store_stalled",
}  # fmt: skip
PARK: Final = {
    "failure_locked", "failure_banned", "failure_bad_user_agent", "stream_forbidden", "stream_conflict",
    "stream_conflict_other", "stream_replaced", "stream_replaced_code", "stream_logged_out",
    "multidevice_mismatch", "device_missing", "device_quarantined", "pairing_expired", "pairing_invalid",
}  # fmt: skip
CONFIRM: Final = {"failure_logged_out", "stream_unauthorized", "stream_device_removed"}
LIMITED: Final = {"failure_rate_limited", "stream_rate_limited"}
STAY: Final = {"stopped", "forced", "shutdown"}
SINGLE: Final = {
    "failure_temporary_ban", "failure_client_outdated", "fd_exhausted", "logged_out_by_request",
    "resume_failed", "logout_unconfirmed",
}  # fmt: skip
NEVER_FORCED: Final = {
    "failure_logged_out", "failure_temporary_ban", "failure_locked", "failure_banned", "stream_unauthorized",
    "stream_device_removed", "stream_forbidden", "stream_conflict", "stream_conflict_other",
    "stream_replaced", "stream_replaced_code",
}  # fmt: skip


def after(
    reason: str,
    history: History | None = None,
    *,
    policy: Policy = POLICY,
    phase: str = "authenticating",
    online_s: float | None = None,
    expire_s: float | None = None,
    now: float = NOW,
) -> tuple[Decision, History]:
    return decide(Ending(reason, phase, expire_s, online_s), history or History(), policy, now, Random(1))


def test_every_reason_of_the_rust_side_has_a_row_and_every_row_a_reason() -> None:
    assert set(meanings()) - set(OWN) == set(TABLE)


def test_every_row_is_named_in_exactly_one_group_of_this_file() -> None:
    groups = (BACKOFF, PATH, AT_ONCE, PARK, CONFIRM, LIMITED, STAY, SINGLE)
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(TABLE)
    assert set.union(*groups) == set(TABLE)


def test_an_unconfirmed_logout_dials_again_and_is_held_against_nobody() -> None:
    decision, history = after("logout_unconfirmed", phase="closing", online_s=100.0)
    assert decision == RetryNow()
    assert (history.failures, history.breaker.failures, history.flap_count(NOW, 3600.0)) == (0, 0, 0)


def test_a_reason_from_the_future_backs_off_and_feeds_the_breaker() -> None:
    assert rule_for("failure_invented_tomorrow") is UNKNOWN_REASON
    decision, history = after("failure_invented_tomorrow")
    assert isinstance(decision, RetryAfter)
    assert history.breaker.failures == 1


@pytest.mark.pain(13)
@pytest.mark.parametrize("reason", sorted(BACKOFF))
def test_backs_off_at_login_and_returns_at_once_after_a_stable_connection(reason: str) -> None:
    first, history = after(reason)
    assert isinstance(first, RetryAfter)
    assert POLICY.base_delay_s / 2 <= first.delay_s <= POLICY.base_delay_s
    second, history = after(reason, history)
    assert isinstance(second, RetryAfter)
    assert POLICY.base_delay_s <= second.delay_s <= 2 * POLICY.base_delay_s
    stable, history = after(reason, history, phase="online", online_s=POLICY.stable_s)
    assert stable == RetryNow()
    assert history.failures == 0


def test_path_failures_never_use_up_the_retries_of_a_session() -> None:
    policy = replace(POLICY, park_when_exhausted=True)
    history = History()
    for _ in range(3 * POLICY.max_retries):
        _, history = after("tcp_refused", history, policy=policy, phase="dialling")
    decision, history = after("failure_service_unavailable", history, policy=policy)
    assert isinstance(decision, RetryAfter), "the first answer of the server after an outage parks nobody"
    assert not history.exhausted
    for _ in range(POLICY.max_retries - 2):
        decision, history = after("failure_service_unavailable", history, policy=policy)
        assert isinstance(decision, RetryAfter)
    decision, history = after("failure_service_unavailable", history, policy=policy)
    assert isinstance(decision, Park)
    assert history.settled().path_failures == 0


@pytest.mark.parametrize("reason", sorted(PATH))
def test_path_failures_back_off_without_feeding_the_breaker(reason: str) -> None:
    assert TABLE[reason].fault is Fault.PATH
    history = History()
    for _ in range(50):
        decision, history = after(reason, history, phase="dialling")
        assert isinstance(decision, RetryAfter)
    assert history.breaker.failures == 0
    assert not history.breaker.is_open


@pytest.mark.pain(13)
@pytest.mark.parametrize("reason", sorted(AT_ONCE))
def test_once_at_once_then_backoff_until_stable(reason: str) -> None:
    first, history = after(reason)
    assert first == RetryNow()
    second, history = after(reason, history)
    assert isinstance(second, RetryAfter)
    stable, _ = after(reason, history, phase="online", online_s=60.0)
    assert stable == RetryNow()


@pytest.mark.parametrize("phase", ["handshaking", "authenticating"])
def test_a_failed_resume_is_no_attempt_whatever_happened_before(phase: str) -> None:
    """The full handshake is the rest of the same attempt: a 515 just before it makes it no slower."""
    _, used = after("stream_restart_required")
    _, failing = after("failure_generic", used)
    half_open = replace(
        failing, breaker=failing.breaker.opened("failures", NOW, POLICY, Random(1)).attempted()
    )
    for history in (History(), used, failing, half_open, used.limited(NOW, POLICY)):
        assert after("resume_failed", history, phase=phase) == (RetryNow(), history)


def test_515_for_ever_does_not_become_a_storm() -> None:
    history, now, attempts = History(), NOW, 0
    while now < NOW + 3600:
        decision, history = after("stream_restart_required", history, phase="online", online_s=0.2, now=now)
        attempts += 1
        now += 0.2
        now = decision.until if isinstance(decision, Suspend) else now + getattr(decision, "delay_s", 0.0)
    assert attempts <= 20


@pytest.mark.pain(13)
@pytest.mark.parametrize("reason", sorted(PARK))
@pytest.mark.parametrize("online_s", [None, 1.0, 1e6])
def test_parks_whenever_it_comes(reason: str, online_s: float | None) -> None:
    decision, history = after(reason, online_s=online_s)
    assert decision == Park(reason)
    assert not history.breaker.is_open


@pytest.mark.pain(12)
@pytest.mark.parametrize("reason", sorted(CONFIRM))
def test_a_401_is_confirmed_once_and_then_believed(reason: str) -> None:
    first, history = after(reason, phase="online", online_s=5000.0)
    assert isinstance(first, RetryAfter)
    assert POLICY.confirm_delay_s <= first.delay_s <= 1.5 * POLICY.confirm_delay_s
    waiting, history = after("tcp_refused", history, phase="dialling")
    assert isinstance(waiting, RetryAfter), "a dial that fails confirms nothing"
    assert history.confirming
    second, _ = after("failure_logged_out", history)
    assert second == LoggedOut("failure_logged_out")


@pytest.mark.pain(12)
def test_a_login_that_lasts_clears_the_401() -> None:
    _, history = after("stream_device_removed", phase="online", online_s=50.0)
    decision, _ = after("stream_device_removed", history, phase="online", online_s=50.0)
    assert isinstance(decision, RetryAfter), "a new 401 after a stable connection is a first one"


@pytest.mark.pain(24)
@pytest.mark.parametrize("reason", sorted(LIMITED))
def test_a_429_penalty_survives_a_stable_connection_and_fades(reason: str) -> None:
    first, history = after(reason)
    assert isinstance(first, Suspend)
    assert first.until - NOW >= POLICY.base_delay_s * 2**POLICY.rate_limit_doublings / 2
    later = NOW + 600
    stable, history = after("connection_closed", history, phase="online", online_s=500.0, now=later)
    assert isinstance(stable, RetryAfter), "not at once: the penalty is still in force"
    assert stable.delay_s >= POLICY.base_delay_s * 2 ** (POLICY.rate_limit_doublings - 1) / 2
    faded, _ = after(
        "connection_closed", history, phase="online", online_s=500.0, now=NOW + POLICY.penalty_memory_s
    )
    assert faded == RetryNow()


@pytest.mark.pain(24)
@pytest.mark.parametrize(
    ("expire_s", "wait_s"),
    [(3600.0, 3600.0), (None, POLICY.ban_default_s), (-5.0, 0.0), (1e12, LONGEST_BAN_S)],
)
def test_a_ban_waits_for_its_expiry_and_a_little_more(expire_s: float | None, wait_s: float) -> None:
    decision, _ = after("failure_temporary_ban", expire_s=expire_s)
    assert isinstance(decision, Suspend)
    assert wait_s < decision.until - NOW <= wait_s + POLICY.ban_jitter_s


@pytest.mark.pain(23)
def test_405_is_a_matter_of_the_fleet_and_counts_for_no_session() -> None:
    assert after("failure_client_outdated") == (AwaitVersion(), History())


def test_no_descriptor_waits_and_counts_for_nothing() -> None:
    decision, history = after("fd_exhausted", phase="dialling")
    assert isinstance(decision, Suspend)
    assert 0 < decision.until - NOW <= POLICY.fd_retry_s
    assert history == History()


@pytest.mark.parametrize("reason", sorted(STAY))
def test_requested_ends_decide_nothing(reason: str) -> None:
    assert after(reason, phase="online", online_s=3.0) == (Stay(), History())


def test_unlinking_on_request_is_believed_at_once() -> None:
    assert after("logged_out_by_request", online_s=3.0)[0] == LoggedOut("logged_out_by_request")


@pytest.mark.pain(17)
@pytest.mark.parametrize("reason", sorted(TABLE))
def test_only_what_could_cost_the_number_refuses_force(reason: str) -> None:
    assert refuses_force(reason) == (reason in NEVER_FORCED)


@pytest.mark.parametrize("reason", sorted(TABLE))
def test_store_and_operator_never_feed_the_breaker_and_path_phases_belong_to_the_path(reason: str) -> None:
    rule = TABLE[reason]
    if rule.fault in (Fault.OPERATOR, Fault.PATH, Fault.WORLD) or reason == "store_stalled":
        assert not rule.feeds_breaker
    for phase in ("dialling", "securing", "upgrading", "handshaking"):
        assert is_path_failure(reason, phase) == (rule.fault not in (Fault.US, Fault.OPERATOR))
    assert not is_path_failure(reason, "authenticating")
    assert not is_path_failure(reason, "online")


def test_a_store_that_fails_again_and_again_slows_the_session_down_and_counts_for_nothing_else() -> None:
    policy = replace(POLICY, park_when_exhausted=True)
    first, history = after("store_stalled", phase="online", online_s=600.0, policy=policy)
    assert (first, history.failures, history.flaps) == (RetryNow(), 0, ())
    delays = []
    for _ in range(2 * POLICY.max_retries):
        decision, history = after("store_stalled", history, phase="online", online_s=1.0, policy=policy)
        assert isinstance(decision, RetryAfter)
        delays.append(decision.delay_s)
    assert delays[-1] > 30 * delays[0], "each reconnect fetches what the disk may not hold"
    assert delays[-1] <= POLICY.max_delay_s
    assert (history.breaker, history.flaps, history.exhausted) == (History().breaker, (), False)


def test_five_failures_in_a_row_open_the_breaker_and_say_until_when() -> None:
    history = History()
    for n in range(1, POLICY.breaker_threshold + 1):
        decision, history = after("login_timeout", history)
        assert isinstance(decision, Suspend if n == POLICY.breaker_threshold else RetryAfter)
    assert isinstance(decision, Suspend)
    assert POLICY.breaker_timeout_s <= decision.until - NOW <= 1.1 * POLICY.breaker_timeout_s


def test_at_the_most_retries_the_session_is_exhausted_and_never_given_up() -> None:
    history, waits = History(), []
    for _ in range(POLICY.max_retries + 5):
        decision, history = after("login_timeout", replace(history, breaker=history.breaker.attempted()))
        if isinstance(decision, Suspend):
            waits.append(decision.until - NOW)
    assert history.exhausted
    timeout_s = POLICY.breaker_timeout_s
    assert all(timeout_s <= wait <= 1.1 * timeout_s for wait in waits[:5])
    assert timeout_s * 2 <= waits[5] <= timeout_s * 2.2
    assert waits[-1] == POLICY.probe_max_s
    assert all(wait <= POLICY.probe_max_s for wait in waits)


def test_at_the_most_retries_it_parks_when_the_operator_chose_that() -> None:
    history, policy = History(), replace(POLICY, park_when_exhausted=True)
    for _ in range(POLICY.max_retries):
        decision, history = after(
            "login_timeout", replace(history, breaker=history.breaker.attempted()), policy=policy
        )
    assert decision == Park(RETRIES_EXHAUSTED)


def test_zero_retries_means_no_limit() -> None:
    history, policy = History(), replace(POLICY, max_retries=0, park_when_exhausted=True)
    for _ in range(100):
        decision, history = after(
            "login_timeout", replace(history, breaker=history.breaker.attempted()), policy=policy
        )
    assert not history.exhausted
    assert isinstance(decision, Suspend)


@pytest.mark.pain(6)
@pytest.mark.parametrize(
    "reason", ["failure_service_unavailable", "connection_reset", "rebuilt", "tcp_timeout"]
)
def test_at_the_most_retries_the_delay_doubles_up_to_an_hour_with_the_breaker_closed(reason: str) -> None:
    """None of these opens the session's breaker, so only the delay can slow the session down."""
    history, waits = History(), []
    phase = "dialling" if reason in PATH else "authenticating"
    for _ in range(POLICY.max_retries):
        _, history = after("failure_service_unavailable", history)
    assert history.exhausted
    for _ in range(6):
        decision, history = after(reason, history, phase=phase)
        assert isinstance(decision, RetryAfter)
        waits.append(decision.delay_s)
        _, history = after("failure_service_unavailable", history)
    assert history.breaker.state.value == "closed"
    assert waits[0] >= POLICY.max_delay_s
    assert waits[-1] >= POLICY.probe_max_s / 2
    assert all(wait <= POLICY.probe_max_s for wait in waits)


def test_the_delay_of_an_exhausted_session_survives_a_restart() -> None:
    world = World(
        FakeStore("a"), server=FakeServer(failures={"a": ("failure_service_unavailable", 503, None)})
    )
    world.run(4 * 3600)
    row = world.machine.row("a")
    assert row.history.exhausted
    assert row.retry_at is not None
    world.run(row.retry_at - world.now + 2)  # just failed again: all of the delay is ahead
    left_s = (row.retry_at or 0.0) - world.now
    assert left_s > 2 * POLICY.max_delay_s
    again = world.restart()
    again_at = again.machine.row("a").retry_at
    assert again_at is not None
    assert again_at - again.now == pytest.approx(left_s, abs=0.01)


def test_the_policy_needs_neither_trio_nor_the_extension() -> None:
    code = (
        "import sys, importlib, pkgutil, runner.reconnect as r\n"
        "for m in pkgutil.iter_modules(r.__path__): importlib.import_module('runner.reconnect.' + m.name)\n"
        "assert not {'trio', 'runner._core'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
