"""The loop around `runner.lanes`: one task reads and writes, a step at a time; others attempt.

A step runs on a thread: first it writes down what ended, then it reads what is next, so nothing that was read
is older than what was written. Who has the rows is a `Desk`; it says how they are read and written, and what
an attempt is.

An attempt that waits for something has a task to itself. Those that do not wait share one, for a turn: making
a task costs more than most of them.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import structlog
import trio

from runner.lanes import Lanes, Numbered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from runner.lanes import Key

    Aside = Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs what blocks elsewhere, and gives what it gave."""

log = structlog.get_logger()

PAGE: Final = 256
"""Rows of one read."""
REFILLS: Final = 32
"""Lanes that are read again in one step, if there is room for what they may hold."""
TURN_S: Final = 0.002
"""How long a task goes on with further attempts, before whoever else is ready gets a turn."""
STORE_AGAIN_S: Final = 1.0
"""Until a store that failed is asked again."""

T = TypeVar("T", bound=Numbered)
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Refill(Generic[T]):
    """What one lane was given."""

    key: Key
    items: Sequence[T]
    upto: int
    """The number of the last row that was read, also when it was not for us."""
    is_all: bool


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What one step read."""

    refills: Sequence[Refill[T]]
    page: Sequence[T] = ()
    last: int | None = None
    """The number of the last row that was read, also when it was not for us; None: there was none."""


class Desk(Protocol[T, W]):
    """The rows of one sink."""

    def take_writes(self) -> W | None:
        """What is to be written down; it is the loop's now. None: nothing."""

    def put_back(self, writes: W) -> None:
        """The store could not: they come before what there is by now."""

    def exchange(self, writes: W | None, wanting: Sequence[tuple[Key, int]], after: int | None) -> Found[T]:
        """Write, then read the lanes `wanting`, then a page after `after`. On a thread; blocks."""

    def written(self, writes: W) -> Iterable[int]:
        """It is in the store; the numbers that it will not give again."""

    def scanned(self, found: Found[T]) -> Sequence[T]:
        """A page was read; what of it is to be attempted."""

    async def attempts(self, item: T, following: Callable[[], T | None]) -> None:
        """Try it, and tell the lanes how it ended; then the next one, as long as there is a `following`.

        Raises nothing but Cancelled.
        """


class LaneLoop(Generic[T, W]):
    """Use it from the Trio thread that runs `run`."""

    def __init__(
        self,
        desk: Desk[T, W],
        lanes: Lanes[T],
        concurrency: Callable[[], int],
        what: str,
        *,
        aside: Aside = trio.to_thread.run_sync,
    ) -> None:
        """`concurrency` bounds the attempts under way; `what` says in the log what has to wait."""
        self.lanes = lanes
        self._desk, self._concurrency, self._what, self._aside = desk, concurrency, what, aside
        self._has_news = True
        self._news = trio.Event()
        self._ended = trio.Event()
        self._is_starting = False
        """A task was started, and has not begun."""
        self._is_stopping = False
        self._has_failed = False
        self._scope: trio.CancelScope | None = None
        self._over = trio.Event()

    def wake(self) -> None:
        """There are new rows."""
        self._has_news = True
        self._news.set()

    def look(self) -> None:
        """There is something to write."""
        self._news.set()

    def rescan(self) -> None:
        """What was passed over may be for us now."""
        self.lanes.rescan()
        self.wake()

    def reopen(self, keys: Iterable[Key]) -> None:
        """Old rows of these lanes wait again."""
        for key in keys:
            self.lanes.reopen(key)
        self._news.set()

    async def run(self) -> None:
        """Hand on rows until cancelled or shut down."""
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                while True:
                    self._look_at_clock()
                    self._start_next(nursery)
                    if await self._step():
                        continue
                    await self._wait()
        finally:
            self._over.set()

    async def shutdown(self, budget_s: float) -> bool:
        """Begin nothing more, let what runs come to its end, write that down. Whether all of it came to one.

        What did not is tried again by the next run.
        """
        self._is_stopping = True
        with trio.move_on_after(budget_s):
            while self.lanes.running:
                self._ended = trio.Event()
                await self._ended.wait()
        is_clean = not self.lanes.running
        if self._scope is not None:
            self._scope.cancel()
            await self._over.wait()
        await self._step()
        return is_clean

    def _look_at_clock(self) -> None:
        self.lanes.wake(trio.current_time())

    async def _wait(self) -> None:
        next_at = self.lanes.next_at
        with trio.move_on_at(inf if next_at is None else next_at):
            await self._news.wait()
        self._news = trio.Event()

    async def _step(self) -> bool:
        """Write what there is to write, read what is next. False when there was nothing to do."""
        writes = self._desk.take_writes()
        reads = not self._is_stopping
        wanting = self.lanes.wanting(REFILLS) if reads else []
        scan = reads and self._has_news and self.lanes.has_room
        if writes is None and not wanting and not scan:
            return False
        if scan:
            self._has_news = False
        after = self.lanes.cursor if scan else None
        try:
            found: Found[T] = await self._aside(partial(self._desk.exchange, writes, wanting, after))
        except BaseException as error:
            if writes is not None:
                self._desk.put_back(writes)
            self._has_news = self._has_news or scan
            if not isinstance(error, Exception):
                raise
            self._tell(error)
            await trio.sleep(STORE_AGAIN_S)
            return not self._is_stopping
        self._tell(None)
        for it in found.refills:
            self.lanes.refill(it.key, it.items, upto=it.upto, is_all=it.is_all)
        if found.last is not None:
            self.lanes.offer(self._desk.scanned(found))
            self.lanes.passed(found.last)
            self._has_news = True  # there may be more
        if writes is not None:
            self.lanes.confirmed(self._desk.written(writes))
        return True

    def _tell(self, error: Exception | None) -> None:
        """What begins and what ends: a full or failing disk, or a lock. It says which, and it may pass."""
        if error is not None and not self._has_failed:
            log.error("store failed", waiting=self._what, problem=f"{type(error).__name__}: {error}")
        elif error is None and self._has_failed:
            log.info("store works again", waited=self._what)
        self._has_failed = error is not None

    def _start_next(self, nursery: trio.Nursery) -> None:
        """One more task, if there is something for it. It will start the one after it, as it may wait."""
        if self._may_begin and self.lanes.has_ready and not self._is_starting:
            self._is_starting = True
            nursery.start_soon(self._attempts, nursery)

    @property
    def _may_begin(self) -> bool:
        return not self._is_stopping and self.lanes.running < self._concurrency()

    def _next(self, nursery: trio.Nursery) -> T | None:
        item = self.lanes.next() if self._may_begin else None
        self._start_next(nursery)
        return item

    async def _attempts(self, nursery: trio.Nursery) -> None:
        self._is_starting = False
        turn_ends, context = trio.current_time() + TURN_S, copy_context()

        def following() -> T | None:
            self._tell_of_end()
            # What an attempt has left in the context is not for the next one.
            if trio.current_time() >= turn_ends or not _is_same(copy_context(), context):
                return None
            return self._next(nursery)

        if (item := self._next(nursery)) is not None:
            await self._desk.attempts(item, following)
            self._tell_of_end()
            self._start_next(nursery)

    def _tell_of_end(self) -> None:
        self._news.set()
        self._ended.set()


def _is_same(context: Context, before: Context) -> bool:
    """Whether the same values are set. `==` would ask the values, which are the user's, and may raise."""
    return len(context) == len(before) and all(
        before.get(variable, context) is value for variable, value in context.items()
    )
