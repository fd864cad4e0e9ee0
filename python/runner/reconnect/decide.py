"""From the end of a connection and a session's history to what happens next. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from runner.reconnect.backoff import delay_s, probe_delay_s
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
from runner.reconnect.history import LONGEST_BAN_S
from runner.reconnect.table import Fault, Rule, Verdict, is_path_failure, rule_for

if TYPE_CHECKING:
    from random import Random

    from runner.reconnect.history import History
    from runner.reconnect.policy import Policy

RETRIES_EXHAUSTED: Final = "retries_exhausted"
"""Why a session is parked when the operator chose `WHATSAPP_RECONNECTION_EXHAUSTED=park`."""
RATE_LIMITED: Final = "rate_limited"
BANNED: Final = "temporary_ban"
NO_DESCRIPTOR: Final = "fd_limit"


@dataclass(frozen=True, slots=True)
class Ending:
    """How one connection ended: the facts of a `closed` event, and how long it had been logged in."""

    reason: str
    phase: str | None = None
    expire_s: float | None = None
    online_s: float | None = None
    """Seconds since login, or None when it never got there."""
    is_mass: bool = False
    """Much of the fleet was dropped with it: an event of the world, and nothing that this session did."""


def decide(
    ending: Ending, history: History, policy: Policy, now: float, rng: Random
) -> tuple[Decision, History]:
    """What happens after `ending`, and what is remembered about it."""
    rule = rule_for(ending.reason)
    if rule.verdict is Verdict.OPERATOR:
        return Stay(), history
    if rule.verdict is Verdict.LOGGED_OUT:
        return LoggedOut(ending.reason), history
    if ending.online_s is not None and ending.online_s >= policy.stable_s:
        history = history.settled()
    if is_path_failure(ending.reason, ending.phase):
        history = replace(history, failures=history.failures + 1, path_failures=history.path_failures + 1)
        return _retry(history, policy, now, rng), history
    return _account(ending, rule, history, policy, now, rng)


def _account(
    ending: Ending, rule: Rule, history: History, policy: Policy, now: float, rng: Random
) -> tuple[Decision, History]:
    """An end that reached the account: its verdict first, then breaker and delay."""
    match rule.verdict:
        case Verdict.PARK:
            return Park(ending.reason), history
        case Verdict.SAME_ATTEMPT:
            return RetryNow(), history
        case Verdict.BANNED_UNTIL:
            expire_s = policy.ban_default_s if ending.expire_s is None else ending.expire_s
            wait_s = min(max(expire_s, 0.0), LONGEST_BAN_S)
            spread_s = rng.uniform(policy.ban_jitter_s / 10, policy.ban_jitter_s)
            return Suspend(now + wait_s + spread_s, BANNED), history
        case Verdict.OUTDATED:
            return AwaitVersion(), history
        case Verdict.WAIT_FOR_FD:
            return Suspend(
                now + rng.uniform(policy.fd_retry_s / 2, policy.fd_retry_s), NO_DESCRIPTOR
            ), history
        case Verdict.CONFIRM:
            if history.confirming:
                return LoggedOut(ending.reason), replace(history, confirming=False)
            wait_s = policy.confirm_delay_s
            return RetryAfter(rng.uniform(wait_s, wait_s * 1.5)), replace(history, confirming=True)
        case _:
            return _again(ending, rule, history, policy, now, rng)


def _again(
    ending: Ending, rule: Rule, history: History, policy: Policy, now: float, rng: Random
) -> tuple[Decision, History]:
    """An end after which the session dials again: when?"""
    logged_in = ending.online_s is not None
    unstable = ending.online_s is None or ending.online_s < policy.stable_s
    session_specific = not ending.is_mass and (
        rule.feeds_breaker or rule.fault not in (Fault.US, Fault.OPERATOR)
    )
    at_once = rule.verdict is Verdict.AT_ONCE and not history.at_once_used
    if rule.verdict is Verdict.AT_ONCE:
        history = replace(history, at_once_used=True)
    if rule.verdict is Verdict.RATE_LIMITED:
        history = history.limited(now, policy)
    if logged_in and session_specific:
        history = history.flapped(now)
    if unstable and (rule.counts_attempt or not at_once):
        # What nobody may count against the session still makes it slower, and exhausts nothing.
        blameless = ending.is_mass or not rule.counts_attempt
        failures, of_path = history.failures + 1, history.path_failures + blameless
        history = replace(history, failures=failures, path_failures=of_path)
        # A login that does not last is the session's affair whatever the last word was; one that never
        # came to be only where the row says so.
        if session_specific and (rule.feeds_breaker or logged_in):
            history = replace(history, breaker=history.breaker.failed(now, policy, rng))
    history = _exhausted(_flapping(history, policy, now, rng), policy)
    if history.exhausted and policy.park_when_exhausted:
        return Park(RETRIES_EXHAUSTED), history
    breaker = history.breaker
    if breaker.is_open and breaker.retry_at is not None:
        return Suspend(breaker.retry_at, breaker.why or "failures"), history
    if rule.verdict is Verdict.RATE_LIMITED:
        return _limited(history, policy, now, rng), history
    return RetryNow() if at_once else _retry(history, policy, now, rng), history


def _flapping(history: History, policy: Policy, now: float, rng: Random) -> History:
    """Open the breaker on a rate of ends, however long each connection lived."""
    if history.breaker.is_open:
        return history
    short = history.flap_count(now, 300.0) >= policy.flap_5m_limit
    if short or history.flap_count(now, 3600.0) >= policy.flap_60m_limit:
        return replace(history, breaker=history.breaker.opened("flapping", now, policy, rng))
    return history


def _exhausted(history: History, policy: Policy) -> History:
    spent = policy.max_retries > 0 and _spent(history) >= policy.max_retries
    return replace(history, exhausted=True) if spent and not history.exhausted else history


def _spent(history: History) -> int:
    """The failures in a row that count towards the most retries: all but those of the path."""
    return max(history.failures - history.path_failures, history.breaker.failures)


def _limited(history: History, policy: Policy, now: float, rng: Random) -> Decision:
    failures = max(history.failures, 1) + history.penalty_now(now)
    return Suspend(now + _wait_s(history, failures, policy, rng), RATE_LIMITED)


def _retry(history: History, policy: Policy, now: float, rng: Random) -> Decision:
    failures = history.failures + history.penalty_now(now)
    if failures == 0:
        return RetryNow()
    return RetryAfter(_wait_s(history, failures, policy, rng))


def _wait_s(history: History, failures: int, policy: Policy, rng: Random) -> float:
    """An open breaker slows an exhausted session down by itself; this does it for ends that open none."""
    if not history.exhausted or policy.max_retries <= 0:
        return delay_s(failures, policy.base_delay_s, policy.max_delay_s, rng)
    over = max(0, _spent(history) - policy.max_retries)
    return probe_delay_s(over, policy.max_delay_s, policy.probe_max_s, rng)
