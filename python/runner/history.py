"""The last 24 hours of a few dozen numbers, at falling resolution, in memory that is taken once.

A point of a coarser series is the mean (or, for what matters at its worst, the highest) of the finer points
that it stands for. Unknown is not a number, and stays out of means.
"""

from __future__ import annotations

from array import array
from math import isnan, nan
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Resolution(NamedTuple):
    """One series: a point every `step_s`, back to `span_s` ago."""

    step_s: int
    span_s: int

    @property
    def points(self) -> int:
        """How many fit."""
        return self.span_s // self.step_s


RESOLUTIONS: Final = (Resolution(10, 3600), Resolution(60, 6 * 3600), Resolution(300, 24 * 3600))
MOST_POINTS: Final = 1000
"""In one answer and for one name."""


def mean(values: Sequence[float]) -> float:
    """Of those that are known."""
    seen = [value for value in values if not isnan(value)]
    return sum(seen) / len(seen) if seen else nan


def highest(values: Sequence[float]) -> float:
    """Of those that are known."""
    return max((value for value in values if not isnan(value)), default=nan)


class _Ring:
    """The points of one resolution: as many as fit, in arrays that never grow."""

    def __init__(self, names: Sequence[str], resolution: Resolution) -> None:
        self.resolution = resolution
        size = resolution.points
        self.at_ms = array("q", [0]) * size
        self.columns = {name: array("d", [nan]) * size for name in names}
        self.pushed = 0

    def push(self, at_ms: int, values: Mapping[str, float]) -> None:
        place = self.pushed % self.resolution.points
        self.at_ms[place] = at_ms
        for name, column in self.columns.items():
            column[place] = values[name]
        self.pushed += 1

    def places(self) -> Iterator[int]:
        """Oldest first."""
        size = self.resolution.points
        return (index % size for index in range(max(0, self.pushed - size), self.pushed))

    def size_bytes(self) -> int:
        per_point = self.at_ms.itemsize + sum(it.itemsize for it in self.columns.values())
        return per_point * self.resolution.points


class History:
    """All series. `push` one point every 10 s."""

    def __init__(self, folds: Mapping[str, Callable[[Sequence[float]], float]]) -> None:
        self._folds = dict(folds)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rings = [_Ring(list(self._folds), it) for it in RESOLUTIONS]

    @property
    def names(self) -> tuple[str, ...]:
        """What there is."""
        return tuple(self._folds)

    def size_bytes(self) -> int:
        """Of the points; the same whether there are any or not."""
        return sum(ring.size_bytes() for ring in self._rings)

    def push(self, at_ms: int, values: Mapping[str, float | None]) -> None:
        """One point of the finest series; the coarser ones follow when theirs is complete."""
        floats = {name: nan if (value := values.get(name)) is None else value for name in self._folds}
        self._rings[0].push(at_ms, floats)
        for finer, ring in zip(self._rings, self._rings[1:], strict=False):
            group = ring.resolution.step_s // finer.resolution.step_s
            if finer.pushed % group:
                return
            places = list(finer.places())[-group:]
            ring.push(
                at_ms,
                {
                    name: fold([finer.columns[name][place] for place in places])
                    for name, fold in self._folds.items()
                },
            )

    def series(
        self, name: str, since_ms: int, until_ms: int, points: int = MOST_POINTS
    ) -> tuple[int, list[int], list[float | None]]:
        """The finest series that reaches back to `since_ms`, thinned out to `points`: step in seconds, times
        in Unix milliseconds, values. `name` is one of `names`."""
        ring = self._reaching(since_ms, until_ms)
        column, fold = ring.columns[name], self._folds[name]
        places = [place for place in ring.places() if since_ms <= ring.at_ms[place] <= until_ms]
        group = -(-len(places) // max(1, min(points, MOST_POINTS))) or 1
        at: list[int] = []
        values: list[float | None] = []
        for first in range(0, len(places), group):
            part = places[first : first + group]
            value = fold([column[place] for place in part])
            at.append(ring.at_ms[part[-1]])
            values.append(None if isnan(value) else round(value, 6))
        return ring.resolution.step_s * group, at, values

    def _reaching(self, since_ms: int, until_ms: int) -> _Ring:
        for ring in self._rings[:-1]:
            newest = ring.at_ms[(ring.pushed - 1) % ring.resolution.points] if ring.pushed else until_ms
            # A series that has lost no point yet reaches back as far as there is anything.
            if ring.pushed <= ring.resolution.points or since_ms >= newest - ring.resolution.span_s * 1000:
                return ring
        return self._rings[-1]
