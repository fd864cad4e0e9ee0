"""What the sessions cost of this process' memory, told from what it needs without any."""

from __future__ import annotations

from runner.footprint import FEWEST, Footprint, Mark

MIB = 1 << 20
START, LOADING = Mark(40 * MIB, 0), Mark(40 * MIB, 0)


def at(connections: int, each: int, *, loading: int = 30 * MIB, start: int = 40 * MIB) -> Mark:
    return Mark(start + loading + connections * each, connections)


def test_sessions_opened_before_within_and_after_the_loading_count_alike() -> None:
    footprint = Footprint(START, Mark(40 * MIB + 20 * 10_000, 20), at(80, 10_000))
    assert footprint.per_session(at(1000, 10_000)) == 10_000
    shown = footprint.to_json(at(1000, 10_000))
    assert shown == {"fixed": 70 * MIB, "perSession": 10_000}


def test_with_few_sessions_nothing_is_claimed() -> None:
    footprint = Footprint(START, LOADING, at(0, 0))
    assert footprint.per_session(at(FEWEST - 1, 10_000)) is None
    assert footprint.per_session(at(FEWEST, 10_000)) == 10_000
    assert footprint.to_json(at(3, 10_000)) == {"fixed": None, "perSession": None}


def test_sessions_that_all_came_while_loading_say_nothing() -> None:
    footprint = Footprint(START, LOADING, at(1000, 10_000))
    assert footprint.per_session(at(1000, 10_000)) is None


def test_memory_that_was_given_back_is_no_negative_cost() -> None:
    footprint = Footprint(START, LOADING, at(0, 0))
    assert footprint.per_session(Mark(60 * MIB, 100)) == 0
