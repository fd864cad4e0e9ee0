"""The cases of `runner.lanes` that chance meets too rarely (test_lanes_machine.py does the rest)."""

from __future__ import annotations

from dataclasses import dataclass

from runner.lanes import Key, Lanes

A, B = ("s", "a"), ("s", "b")


@dataclass(frozen=True)
class Row:
    seq: int
    lane: Key
    size: int = 1


def rows(lane: Key, *seqs: int) -> list[Row]:
    return [Row(seq, lane) for seq in seqs]


def run(lanes: Lanes[Row]) -> Row:
    row = lanes.next()
    assert row is not None
    return row


def test_a_lane_that_hangs_keeps_a_few_and_holds_up_nobody() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=3, most_held=10)
    lanes.offer(rows(A, *range(1, 500)))
    hanging = run(lanes)
    lanes.offer(rows(B, 500, 501))
    assert lanes.held == 5
    for expected in (500, 501):
        row = run(lanes)
        assert row.seq == expected
        lanes.done(row)
    assert lanes.next() is None
    lanes.done(hanging)
    assert run(lanes).seq == 2


def test_what_a_lane_passed_over_comes_before_what_is_offered_later() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=2)
    lanes.offer(rows(A, 1, 2, 3))
    lanes.done(run(lanes))
    lanes.offer(rows(A, 4))
    lanes.done(run(lanes))
    assert lanes.next() is None
    assert lanes.wanting(9) == [(A, 2)]
    lanes.refill(A, rows(A, 3, 4), upto=4, is_all=True)
    assert run(lanes).seq == 3


def test_what_is_done_and_not_confirmed_is_not_run_again_by_a_new_scan() -> None:
    lanes: Lanes[Row] = Lanes()
    lanes.offer(rows(A, 1))
    lanes.done(run(lanes))
    lanes.rescan()
    lanes.offer(rows(A, 1))
    assert lanes.next() is None
    lanes.confirmed([1])
    assert lanes.held == 0


def test_what_a_refill_brought_ahead_of_the_scan_is_not_run_again_by_it() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=1)
    lanes.offer(rows(A, 1, 2))
    lanes.done(run(lanes))
    lanes.refill(A, rows(A, 2, 3), upto=3, is_all=True)  # 3 came meanwhile; the scan is at 2
    for expected in (2, 3):
        row = run(lanes)
        assert row.seq == expected
        lanes.done(row)
    lanes.offer(rows(A, 3, 4))  # done with, and the store does not know yet
    assert run(lanes).seq == 4


def test_what_is_for_us_only_later_is_read_in_its_place() -> None:
    lanes: Lanes[Row] = Lanes()
    lanes.offer(rows(A, 2, 3, 4))
    running = run(lanes)
    lanes.rescan()
    lanes.offer(rows(A, 1, 2, 3))
    lanes.done(running)
    assert lanes.next() is None
    assert lanes.wanting(9) == [(A, 0)]
    lanes.refill(A, rows(A, 1, 2, 3, 4), upto=4, is_all=True)
    assert [run_and_end(lanes) for _ in range(3)] == [1, 3, 4]


def run_and_end(lanes: Lanes[Row]) -> int:
    row = run(lanes)
    lanes.done(row)
    return row.seq


def test_a_lane_that_read_nothing_for_us_goes_on_behind_it() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=2)
    lanes.offer(rows(A, 1, 2, 3))
    for _ in range(2):
        run_and_end(lanes)
    lanes.refill(A, [], upto=9, is_all=False)
    assert lanes.wanting(9) == [(A, 9)]


def test_the_one_that_failed_comes_first_and_its_attempts_are_counted() -> None:
    lanes: Lanes[Row] = Lanes()
    lanes.offer(rows(A, 1, 2))
    first = run(lanes)
    assert lanes.attempts(first) == 0
    lanes.failed(first, 1, until=10.0)
    assert (lanes.held, lanes.next_at, lanes.waiting) == (0, 10.0, 1)
    lanes.wake(9.9)
    assert lanes.wanting(9) == []
    lanes.wake(10.0)
    assert lanes.wanting(9) == [(A, 0)]
    lanes.refill(A, rows(A, 1, 2), upto=2, is_all=True)
    again = run(lanes)
    assert (again.seq, lanes.attempts(again)) == (1, 1)
    lanes.done(again)
    second = run(lanes)
    assert (second.seq, lanes.attempts(second)) == (2, 0)


def test_attempts_are_forgotten_with_what_was_given_up() -> None:
    lanes: Lanes[Row] = Lanes()
    lanes.offer(rows(A, 1, 2))
    row = run(lanes)
    lanes.failed(row, 4, until=1.0)
    lanes.hurry()
    lanes.refill(A, rows(A, 1, 2), upto=2, is_all=True)
    lanes.done(run(lanes))
    lanes.confirmed([1])
    lanes.reopen(A)
    lanes.refill(A, rows(A, 1, 2), upto=2, is_all=True)
    assert lanes.attempts(run(lanes)) == 0


def ran_dry(lanes: Lanes[Row], size: int) -> None:
    """Forty lanes have had one thing each, and have more."""
    keys = [("s", str(n)) for n in range(40)]
    for seq, key in enumerate(keys):
        lanes.offer([Row(1 + 2 * seq, key, size), Row(2 + 2 * seq, key, size)])
    for _ in keys:
        lanes.done(run(lanes))


def test_as_many_lanes_are_refilled_at_once_as_there_is_room_for() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=1, most_held=80)
    ran_dry(lanes, 500)
    assert len(lanes.wanting(32)) == 32
    lanes = Lanes(per_lane=1, most_held=10)
    ran_dry(lanes, 500)
    assert len(lanes.wanting(32)) == 10
    lanes.refill(("s", "0"), [Row(2, ("s", "0"))], upto=2, is_all=True)
    assert len(lanes.wanting(32)) == 9


def test_fewer_lanes_are_refilled_at_once_when_their_things_are_large() -> None:
    lanes: Lanes[Row] = Lanes(per_lane=1, most_held=80, most_bytes=100_000)
    ran_dry(lanes, 20_000)
    assert 3 <= len(lanes.wanting(32)) <= 5
    lanes = Lanes(per_lane=1, most_held=80, most_bytes=100_000)
    ran_dry(lanes, 200_000)
    assert len(lanes.wanting(32)) == 1, "one always fits"


def test_large_things_fill_the_room_before_many_do() -> None:
    lanes: Lanes[Row] = Lanes(most_bytes=100)
    lanes.offer([Row(1, A, 60)])
    assert lanes.has_room
    lanes.offer([Row(2, B, 60)])
    assert not lanes.has_room
    lanes.done(run(lanes))
    assert lanes.has_room
