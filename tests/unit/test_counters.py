"""The table of counters: one reading for many readers, taken aside where somebody can wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from runner.counters import CounterTable
from support.columns import Counted, FakeCounting

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.counters import Read


class Aside:
    """Runs a call when it is let go, as a thread that takes its time."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def __call__(self, look: Callable[[], Read]) -> Read:
        read = look()
        await self.go.wait()
        return read


async def test_readers_that_come_together_share_one_reading() -> None:
    counting, aside = FakeCounting(), Aside()
    table = CounterTable(counting.read, lambda: 10.0, aside)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(table.refresh_aside, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        aside.go.set()
    assert counting.reads == 1


async def test_a_reading_that_took_long_does_not_replace_a_newer_one() -> None:
    now = 10.0
    counting, aside = FakeCounting(), Aside()
    table = CounterTable(counting.read, lambda: now, aside)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.refresh_aside)
        await trio.testing.wait_all_tasks_blocked()
        counting.put("late", Counted(messages_received=1))
        now = 11.0
        table.refresh()
        aside.go.set()
    assert table.rows == {"late": 0}
    assert table.now.totals["messages_received"] == 1


async def test_a_reading_is_as_old_as_its_copy_however_late_its_reader_comes() -> None:
    now = 10.0
    counting, aside = FakeCounting(), Aside()
    table = CounterTable(counting.read, lambda: now, aside)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.refresh_aside)
        await trio.testing.wait_all_tasks_blocked()
        now = 10.5
        aside.go.set()
    assert table.age_s() == 0.5


def test_a_reading_is_kept_for_as_long_as_it_will_do() -> None:
    now = 10.0
    counting = FakeCounting()
    table = CounterTable(counting.read, lambda: now)
    table.refresh_within(2.0)
    now = 11.9
    table.refresh_within(2.0)
    assert counting.reads == 1
    now = 12.0
    table.refresh_within(2.0)
    assert counting.reads == 2
