"""Percentiles out of counted buckets. Pure."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResponseTimes(NamedTuple):
    """What one window says, in milliseconds; None without an answer in it."""

    average_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """The JSON names."""
        return {
            "averageMs": self.average_ms,
            "p50Ms": self.p50_ms,
            "p95Ms": self.p95_ms,
            "p99Ms": self.p99_ms,
        }


NONE = ResponseTimes()


def quantiles(counts: Sequence[int], bounds: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """The quantiles of what was counted, linear within a bucket, as PromQL's `histogram_quantile` does it.

    Shape: `counts` are not cumulative and one longer than `bounds`; what lies above the last bound is told as
    the last bound. `wanted` ascends, each in (0, 1]. At least one count is not 0.
    """
    reached = list(accumulate(counts))
    found: list[float] = []
    for share in wanted:
        rank = share * reached[-1]
        place = next(place for place, total in enumerate(reached) if total >= rank and total)
        if place >= len(bounds):
            found.append(bounds[-1])
            continue
        low = bounds[place - 1] if place else 0.0
        before = reached[place - 1] if place else 0
        found.append(low + (bounds[place] - low) * (rank - before) / counts[place])
    return found


def response_times(
    answered: int, answered_s: float, counts: Sequence[int], bounds: Sequence[float]
) -> ResponseTimes:
    """Mean and percentiles of a window; the percentiles are None when its buckets do not add up.

    They do not when a bucket was counted modulo 65,536 and went round within the window.
    """
    if answered <= 0:
        return NONE
    average_ms = round(1000 * answered_s / answered, 3)
    if sum(counts) != answered or not bounds:
        return ResponseTimes(average_ms)
    return ResponseTimes(
        average_ms, *(round(1000 * it, 3) for it in quantiles(counts, bounds, (0.5, 0.95, 0.99)))
    )
