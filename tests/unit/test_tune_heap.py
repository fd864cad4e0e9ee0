"""What a burst has left free goes back to the system: not while it lasts, and not for little."""

from __future__ import annotations

import pytest

from runner.tune.heap import GROWN_BYTES, STILL_BYTES, Heap, anonymous_bytes, give_back

MIB = 1024 * 1024


def looks(heap: Heap, *mib: float) -> list[bool]:
    return [heap.is_due(round(it * MIB)) for it in mib]


def test_it_is_due_when_the_burst_is_over() -> None:
    heap = Heap()
    assert looks(heap, 60, 90, 90) == [False, False, True], "the start is a burst as well"
    heap.given_back(80 * MIB)
    assert looks(heap, 100, 120, 140) == [False] * 3, "it lasts"
    assert looks(heap, 140.5) == [True]
    heap.given_back(100 * MIB)
    assert looks(heap, 100, 101, 102) == [False] * 3


def test_little_is_not_worth_it_and_much_that_came_slowly_is() -> None:
    heap = Heap()
    heap.given_back(90 * MIB)
    steps = range(1, GROWN_BYTES // STILL_BYTES + 1)
    assert [heap.is_due(90 * MIB + step * STILL_BYTES) for step in steps] == [False] * (len(steps) - 1) + [
        True
    ]


def test_what_fell_by_itself_counts_from_where_it_fell_to() -> None:
    heap = Heap()
    heap.given_back(90 * MIB)
    assert looks(heap, 90, 70, 79, 79) == [False, False, False, True]


def test_what_is_free_between_what_is_used_goes_back() -> None:
    # Larger than what Python keeps in pools of its own; what stays keeps the rest from falling off the end.
    pieces = [bytes(1_000) for _ in range(60_000)]
    held = pieces[::50]
    del pieces
    before = anonymous_bytes()
    if not give_back():
        pytest.skip("this C library has no malloc_trim")
    assert before - anonymous_bytes() > 30_000_000
    assert len(held) == 1_200
