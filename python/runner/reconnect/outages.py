"""Which paths are down, and whether that is one outage or several. Pure.

Every egress path has its breaker (`path`). With a proxy for each session there are as many paths as sessions,
and an outage of what lies behind all of them opens them all. The rule:

- With fewer than `outage_min_paths` paths in use, each that goes down is told at once, on its own.
- Else it waits `outage_window_s`. When `outage_min_paths` wait together and are at least `outage_min_ratio`
  of the paths tried within the window, they are one outage of their endpoint, told at once. Of the paths
  *tried*, not of all: the limiter may need minutes to dial a fifth of ten thousand.
- What goes down while that outage is open joins it. What was told on its own before stays on its own.
- It is over when none of its paths is down, or when fewer than `outage_min_paths` have been for a whole
  window; then each of these is told on its own.

So whatever has been down for longer than the window belongs to exactly one open incident, and a path that is
good again sooner is told by the log only. Each step costs the same with ten paths and with ten thousand.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.reconnect.path import PathKey
    from runner.reconnect.policy import Policy


@dataclass(frozen=True, slots=True)
class Told:
    """What the incident called `key` says from now on; None: it is over."""

    key: str
    text: str | None


class Outages:
    """The paths of one endpoint that are down. Times are on the caller's monotonic clock."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._good: OrderedDict[PathKey, float] = OrderedDict()  # last good dial, oldest first
        self._waiting: OrderedDict[PathKey, tuple[float, str]] = OrderedDict()  # down since, why
        self._alone: set[PathKey] = set()
        self._together: dict[PathKey, str] = {}
        self._most = 0
        self._ends_at: float | None = None

    def configure(self, policy: Policy) -> None:
        """Other numbers from now on."""
        self._policy = policy

    def went_down(self, path: PathKey, reason: str, in_use: int, now: float) -> list[Told]:
        """The breaker of a path opened. `in_use` is how many paths sessions want."""
        if self._together:
            self._together[path] = reason
            if len(self._together) >= self._policy.outage_min_paths:
                self._ends_at = None
            return [self._told_together(path.endpoint, reason, in_use)]
        if in_use < self._policy.outage_min_paths:
            return [self._told_alone(path, reason)]
        self._waiting[path] = (now, reason)
        if not self._is_common(now):
            return []
        self._together = {waiting: why for waiting, (_, why) in self._waiting.items()}
        self._waiting.clear()
        self._most, self._ends_at = 0, None
        return [self._told_together(path.endpoint, reason, in_use)]

    def came_back(self, path: PathKey, in_use: int, now: float) -> list[Told]:
        """A path is good again, or nobody is left to want it."""
        self._waiting.pop(path, None)
        if path in self._alone:
            self._alone.discard(path)
            return [Told(str(path), None)]
        reason = self._together.pop(path, None)
        if reason is None:
            return []
        if not self._together:
            return [Told(path.endpoint, None)]
        if len(self._together) < self._policy.outage_min_paths and self._ends_at is None:
            self._ends_at = now + self._policy.outage_window_s
        return [self._told_together(path.endpoint, reason, in_use)]

    def dialled(self, path: PathKey, now: float) -> None:
        """A dial of a path reached the login."""
        self._good[path] = now
        self._good.move_to_end(path)
        self._forget_old(now)

    def due(self, now: float) -> Iterator[Told]:
        """What has waited long enough to be told on its own."""
        while self._waiting and now >= self._first_due():
            path, (_, reason) = self._waiting.popitem(last=False)
            yield self._told_alone(path, reason)
        if self._ends_at is not None and now >= self._ends_at and self._together:
            left, self._together, self._ends_at = self._together, {}, None
            for path, reason in left.items():
                yield self._told_alone(path, reason)
            yield Told(next(iter(left)).endpoint, None)

    def next_at(self) -> float | None:
        """When `due` has something."""
        times = [self._first_due()] if self._waiting else []
        if self._ends_at is not None and self._together:
            times.append(self._ends_at)
        return min(times, default=None)

    def _first_due(self) -> float:
        return next(iter(self._waiting.values()))[0] + self._policy.outage_window_s

    def _is_common(self, now: float) -> bool:
        self._forget_old(now)
        down = len(self._waiting)
        enough = down >= self._policy.outage_min_paths
        return enough and down >= self._policy.outage_min_ratio * (down + len(self._good))

    def _forget_old(self, now: float) -> None:
        good = self._good
        while good and now - next(iter(good.values())) >= self._policy.outage_window_s:
            good.popitem(last=False)

    def _told_alone(self, path: PathKey, reason: str) -> Told:
        self._alone.add(path)
        return Told(str(path), f"dials fail: {reason}")

    def _told_together(self, endpoint: str, reason: str, in_use: int) -> Told:
        down = len(self._together)
        self._most = max(self._most, down)
        return Told(endpoint, f"dials fail on {down} of {in_use} paths, {self._most} at the worst: {reason}")
