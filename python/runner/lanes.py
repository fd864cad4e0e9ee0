"""Which of many things is next: in order within a lane, in parallel over lanes, within bounds. Pure.

A lane is what must keep its order: the messages of one session and chat on their way to a handler, the events
of one session and chat on their way to a webhook. All of them are rows of the store, numbered; here are only
the next few of each lane, and who uses this reads the rest when it is needed:

- A *scan* goes once over everything in the order of the numbers and offers it (`offer`). A lane takes no more
  than `per_lane`; of what it does not take it remembers that there is more.
- A lane that has run dry and has more asks for a *refill* (`wanting`, `refill`).
- One that failed keeps its place: the lane lets go of what it held, waits, and then reads it again.

So a lane that hangs or fails for hours costs its own few rows and a number, and holds up nobody.
Reads must be used in the order in which they were made: refills before the scan that follows them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PER_LANE: Final = 16
"""Most that one lane holds."""
FIRST_REFILLS: Final = 8
"""Lanes that are refilled at once while nothing says how large their things are."""
USUAL_OF: Final = 16
"""How many of the last make the usual size, about."""
MOST_LANES: Final = 20_000
"""Most lanes that are remembered; beyond them the scan stops until some are done with."""

Key = tuple[str, str]
"""Session and chat; the chat is empty for what belongs to none."""


class Numbered(Protocol):
    """A row of the store."""

    @property
    def seq(self) -> int: ...
    @property
    def lane(self) -> Key: ...
    @property
    def size(self) -> int:
        """Bytes that it holds."""


T = TypeVar("T", bound=Numbered)


@dataclass(slots=True)
class _Lane(Generic[T]):
    key: Key
    held: deque[T] = field(default_factory=deque)
    """In order; the first one may be running."""
    upto: int = 0
    """The last number that was held or done with here."""
    has_more: bool = False
    """The store may have more after `upto`."""
    is_running: bool = False
    waits_until: float | None = None
    failed_seq: int = 0
    attempts: int = 0
    """Failed attempts of the one numbered `failed_seq`."""

    @property
    def is_idle(self) -> bool:
        return not (self.held or self.has_more or self.is_running or self.waits_until is not None)


class Lanes(Generic[T]):
    """The lanes of one sink. `now` is any clock that does not go back."""

    def __init__(
        self, *, per_lane: int = PER_LANE, most_held: int = 1024, most_bytes: int = 16 * 1024 * 1024
    ) -> None:
        self._lanes: dict[Key, _Lane[T]] = {}
        self._ready: dict[Key, None] = {}
        self._wanting: dict[Key, None] = {}
        self._waiting: list[tuple[float, Key]] = []
        self._ahead: set[Key] = set()
        """Idle lanes that a refill brought further than the scan, which must not give them again."""
        self._unconfirmed: set[int] = set()
        self._held = self._held_bytes = 0
        self.per_lane = per_lane
        self._most_held, self._most_bytes = most_held, most_bytes
        self._usual_bytes = most_bytes / (FIRST_REFILLS * per_lane)
        """Of one, by those that came lately; of the first nothing is known."""
        self.cursor = 0
        """The last number that the scan has seen."""
        self.running = 0

    @property
    def has_room(self) -> bool:
        """Whether a scan may go on."""
        return (
            self._held < self._most_held
            and self._held_bytes < self._most_bytes
            and len(self._lanes) < MOST_LANES
        )

    @property
    def has_ready(self) -> bool:
        """Whether there is a next one to run."""
        return bool(self._ready)

    @property
    def held(self) -> int:
        """How many are in memory."""
        return self._held

    @property
    def waiting(self) -> int:
        """Lanes that wait after a failure."""
        return sum(lane.waits_until is not None for lane in self._lanes.values())

    # -- filling ---------------------------------------------------------------------------------------------

    def offer(self, items: Iterable[T]) -> None:
        """What a scan found after `cursor`, in order."""
        for item in items:
            self.cursor = max(self.cursor, item.seq)
            if item.seq in self._unconfirmed:
                continue
            lane = self._lanes.get(item.lane)
            if lane is None:
                lane = self._lanes[item.lane] = _Lane(item.lane)
            if item.seq <= lane.upto:
                if all(held.seq != item.seq for held in lane.held):
                    self._reopen(lane)  # it was not for us when the lane passed it
                continue
            if lane.has_more or len(lane.held) >= self.per_lane:
                lane.has_more = True
            else:
                self._hold(lane, item)
        self._forget_passed()

    def passed(self, seq: int) -> None:
        """The scan has seen everything up to here; not all of it was offered."""
        self.cursor = max(self.cursor, seq)
        self._forget_passed()

    def rescan(self) -> None:
        """Begin the scan anew: what was passed over may be for this sink now."""
        self.cursor = 0

    def wanting(self, most: int) -> list[tuple[Key, int]]:
        """Lanes to refill, with the number after which to read; at most `most`, and no more than there is
        room for, if what they hold is of the usual size."""
        if not self.has_room:
            return []
        places = (self._most_held - self._held) / self.per_lane
        by_size = (self._most_bytes - self._held_bytes) / (self._usual_bytes * self.per_lane)
        fit = range(max(1, min(most, int(places), int(by_size))))
        return [(key, self._lanes[key].upto) for key, _ in zip(self._wanting, fit, strict=False)]

    def refill(self, key: Key, items: Sequence[T], *, upto: int, is_all: bool) -> None:
        """What the store has for a lane that was `wanting`, in order.

        It was read up to the number `upto`, some of it may not be for us; `is_all`: there is no more.
        """
        lane = self._lanes[key]
        self._wanting.pop(key, None)
        if lane.held or lane.is_running or lane.waits_until is not None:
            return
        lane.has_more = not is_all
        for item in items:
            if item.seq > lane.upto and item.seq not in self._unconfirmed:
                self._hold(lane, item)
        lane.upto = max(lane.upto, upto)
        self._settle(lane)

    def reopen(self, key: Key) -> None:
        """Something with an old number waits in this lane again: read it from its beginning."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        self._reopen(lane)

    def _reopen(self, lane: _Lane[T]) -> None:
        self._let_go(lane, keep=1 if lane.is_running else 0)
        lane.upto, lane.has_more = 0, True
        self._settle(lane)

    def _hold(self, lane: _Lane[T], item: T) -> None:
        lane.held.append(item)
        lane.upto = item.seq
        size = item.size
        self._held += 1
        self._held_bytes += size
        self._usual_bytes += (size - self._usual_bytes) / USUAL_OF
        if len(lane.held) == 1 and not lane.is_running:
            self._ready[lane.key] = None

    def _let_go(self, lane: _Lane[T], *, keep: int) -> None:
        while len(lane.held) > keep:
            self._drop(lane.held.pop())
        if not lane.held:
            self._ready.pop(lane.key, None)

    def _drop(self, item: T) -> None:
        self._held -= 1
        self._held_bytes -= item.size

    # -- running ---------------------------------------------------------------------------------------------

    def next(self) -> T | None:
        """The next one to run, of the lane that has waited longest for its turn; None when there is none."""
        if not self._ready:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        lane = self._lanes[key]
        lane.is_running = True
        self.running += 1
        return lane.held[0]

    def attempts(self, item: T) -> int:
        """How often this one has failed since it was first read."""
        lane = self._lanes[item.lane]
        return lane.attempts if lane.failed_seq == item.seq else 0

    def done(self, item: T) -> None:
        """It is over with, one way or the other; `confirmed` says when the store knows."""
        self._unconfirmed.add(item.seq)
        lane = self._stopped(item)
        if lane.failed_seq == item.seq:
            lane.failed_seq = lane.attempts = 0
        self._settle(lane)

    def failed(self, item: T, attempts: int, until: float) -> None:
        """It is to be tried again, not before `until`; nothing of its lane runs until then."""
        lane = self._stopped(item)
        self._let_go(lane, keep=0)
        lane.upto, lane.has_more = min(lane.upto, item.seq - 1), True
        lane.failed_seq, lane.attempts, lane.waits_until = item.seq, attempts, until
        heappush(self._waiting, (until, item.lane))

    def confirmed(self, seqs: Iterable[int]) -> None:
        """The store does not give these again."""
        self._unconfirmed.difference_update(seqs)

    def _stopped(self, item: T) -> _Lane[T]:
        lane = self._lanes[item.lane]
        lane.is_running = False
        self.running -= 1
        self._drop(lane.held.popleft())
        return lane

    # -- waiting ---------------------------------------------------------------------------------------------

    def wake(self, now: float) -> None:
        """Let the lanes go on whose time has come."""
        while self._waiting and self._waiting[0][0] <= now:
            until, key = heappop(self._waiting)
            lane = self._lanes.get(key)
            if lane is not None and lane.waits_until == until:
                lane.waits_until = None
                self._settle(lane)

    def hurry(self) -> None:
        """Whatever they waited for is over: let all of them go on now."""
        for _, key in self._waiting:
            lane = self._lanes.get(key)
            if lane is not None and lane.waits_until is not None:
                lane.waits_until = None
                self._settle(lane)
        self._waiting.clear()

    @property
    def next_at(self) -> float | None:
        """When a lane goes on next; None when none waits."""
        return self._waiting[0][0] if self._waiting else None

    def _settle(self, lane: _Lane[T]) -> None:
        """Put a lane where it belongs after a change."""
        if lane.is_running or lane.waits_until is not None:
            return
        if lane.held:
            self._ready[lane.key] = None
        elif lane.has_more:
            self._wanting[lane.key] = None
        elif lane.upto > self.cursor:
            self._ahead.add(lane.key)
        else:
            self._ahead.discard(lane.key)
            del self._lanes[lane.key]

    def _forget_passed(self) -> None:
        for key in [key for key in self._ahead if self._lanes[key].upto <= self.cursor]:
            self._ahead.discard(key)
            if self._lanes[key].is_idle:
                del self._lanes[key]
