"""Percentiles out of buckets, against the values themselves."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from runner.response_times import quantiles, response_times

BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0)


def counted(values: list[float]) -> list[int]:
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[bisect_left(BOUNDS, value)] += 1
    return counts


@given(st.lists(st.floats(0, 20), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_has_that_rank(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(ceil(share * len(values) - 1e-9), 1) - 1]
    (found,) = quantiles(counted(values), BOUNDS, (share,))
    place = bisect_left(BOUNDS, exact)
    low = BOUNDS[place - 1] if place else 0.0
    high = BOUNDS[min(place, len(BOUNDS) - 1)]
    assert low - 1e-9 <= found <= high + 1e-9


@given(st.lists(st.floats(0, 20), min_size=1))
def test_percentiles_ascend_and_the_mean_is_exact(values: list[float]) -> None:
    times = response_times(len(values), sum(values), counted(values), BOUNDS)
    assert times.average_ms is not None
    assert abs(times.average_ms - 1000 * sum(values) / len(values)) <= 0.001
    assert times.p50_ms is not None
    assert times.p95_ms is not None
    assert times.p99_ms is not None
    assert times.p50_ms <= times.p95_ms <= times.p99_ms


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.integers(1, 5))
def test_buckets_that_do_not_add_up_give_no_percentile(counts: list[int], missing: int) -> None:
    times = response_times(sum(counts) + missing, 1.0, counts, BOUNDS)
    assert times.average_ms is not None
    assert times.p50_ms is None
