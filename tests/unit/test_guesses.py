"""Guessing at tokens: what a wrong one costs, whom it costs, and that a right one never does."""

from __future__ import annotations

import pytest

from runner.admin.guesses import ALL_OVER_EACH, KNOWN_S, MOST_CALLERS, Allowance, Guesses
from runner.admin.peer import Peer

NOW = 1000.0
EACH, ALL = Allowance(10), Allowance(10 * ALL_OVER_EACH)


def spend(guesses: Guesses, caller: str, times: int, now: float = NOW) -> None:
    for _ in range(times):
        guesses.wrong(caller, now)


def test_a_caller_may_be_wrong_a_few_times_at_once_and_then_once_in_a_while() -> None:
    guesses = Guesses()
    spend(guesses, "a", EACH.number - 1)
    assert guesses.wait_s("a", NOW) == 0.0
    spend(guesses, "a", 1)
    assert guesses.wait_s("a", NOW) == pytest.approx(EACH.every_s)
    assert guesses.wait_s("a", NOW + EACH.every_s - 0.1) == pytest.approx(0.1)
    assert guesses.wait_s("a", NOW + EACH.every_s) == 0.0
    spend(guesses, "a", 1, NOW + EACH.every_s)
    assert guesses.wait_s("a", NOW + EACH.every_s) == pytest.approx(EACH.every_s)


def test_after_a_quiet_time_all_is_forgiven_and_not_more() -> None:
    guesses = Guesses()
    spend(guesses, "a", EACH.number)
    later = NOW + 1e6
    spend(guesses, "a", EACH.number - 1, later)
    assert guesses.wait_s("a", later) == 0.0
    spend(guesses, "a", 1, later)
    assert guesses.wait_s("a", later) > 0.0


def test_one_caller_does_not_pay_for_another() -> None:
    guesses = Guesses()
    spend(guesses, "a", EACH.number)
    assert guesses.wait_s("a", NOW) > 0.0
    assert guesses.wait_s("b", NOW) == 0.0


def test_right_tokens_never_cost_and_do_not_pay_for_wrong_ones() -> None:
    """Whoever has a token that may read could else guess at one that may do more, without an end."""
    guesses = Guesses()
    for _ in range(10_000):
        guesses.right("a", NOW)
    assert guesses.wait_s("a", NOW) == 0.0
    spend(guesses, "a", EACH.number)
    guesses.right("a", NOW)
    assert guesses.wait_s("a", NOW) > 0.0


def test_all_together_are_limited_too_but_nobody_who_was_right_lately() -> None:
    guesses = Guesses()
    guesses.right("the operator", NOW)
    for number in range(ALL.number):
        guesses.wrong(f"guesser {number}", NOW)
    assert guesses.wait_s("somebody new", NOW) == pytest.approx(ALL.every_s)
    assert guesses.wait_s("the operator", NOW) == 0.0
    later = NOW + KNOWN_S
    for number in range(ALL.number):
        guesses.wrong(f"guesser {number}", later)
    assert guesses.wait_s("the operator", later) > 0.0


def test_the_memory_is_bounded_and_those_who_owe_most_are_remembered() -> None:
    guesses = Guesses()
    spend(guesses, "worst", EACH.number)
    for number in range(3 * MOST_CALLERS):
        guesses.wrong(f"guesser {number}", NOW)
        guesses.right(f"known {number}", NOW)
    assert guesses.size <= 2 * MOST_CALLERS
    assert guesses.wait_s("worst", NOW) > 0.0
    assert guesses.wait_s(f"guesser {3 * MOST_CALLERS - 1}", NOW) > 0.0  # by what all owe together


def test_wrong_and_refused_ones_are_counted() -> None:
    guesses = Guesses()
    spend(guesses, "a", 3)
    guesses.refused()
    assert (guesses.wrong_total, guesses.refused_total) == (3, 1)


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        (Peer("tcp", 1001, address="127.0.0.1"), "uid 1001"),
        (Peer("unix", 1001), "uid 1001"),
        (Peer("tcp", None, address="127.0.0.1"), "127.0.0.1"),
        (Peer("tcp", None, address="10.1.2.3"), "10.1.2.3"),
        (Peer("tcp", None, address="::ffff:10.1.2.3"), "10.1.2.3"),
        (Peer("tcp", None, address="2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
        (Peer("tcp", None, address="fe80::1%eth0"), "fe80::/64"),
        (Peer("tcp"), "unknown"),
    ],
)
def test_a_caller_is_a_user_of_this_machine_or_an_address(peer: Peer, caller: str) -> None:
    """Of IPv6 the /64: one host may take every address of it."""
    assert peer.caller == caller


def test_an_operator_sets_how_many_and_what_was_spent_counts_under_the_new_number() -> None:
    guesses = Guesses(2)
    spend(guesses, "a", 2)
    assert guesses.wait_s("a", NOW) == pytest.approx(30.0)
    guesses.allow(1000)
    assert guesses.wait_s("a", NOW) == pytest.approx(0.06)
    guesses.allow(1)
    assert guesses.wait_s("a", NOW) == pytest.approx(60.0)
