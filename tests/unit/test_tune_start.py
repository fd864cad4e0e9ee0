"""What the runner sets for itself, and the answer that the API keeps for a moment."""

from __future__ import annotations

import gc
import resource
from typing import TYPE_CHECKING

import pytest
import trio

from runner.admin.doctor import FRESH_S, Doctor
from runner.tune.start import OLD_AFTER, OLD_AT_LAST, collect_old, freeze, raise_own_limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


async def test_the_runner_raises_its_own_limits_at_start() -> None:
    open_files = raise_own_limits(7)
    assert trio.to_thread.current_default_thread_limiter().total_tokens == 7
    assert (open_files, open_files) == resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector as it was, afterwards."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_what_is_frozen_is_out_of_the_collectors_sight() -> None:
    assert freeze() > 1000
    assert len(gc.get_objects()) < 1000


@pytest.mark.usefixtures("collector")
def test_old_objects_are_looked_through_in_a_calm_moment_and_not_in_a_storm() -> None:
    freeze()
    assert gc.get_threshold()[:2] == (700, 10)
    for _ in range(3 * OLD_AFTER):
        gc.collect(1)  # as happens all the time while objects are made
    due = gc.get_count()[2]
    assert OLD_AFTER < due < OLD_AT_LAST
    collect_old(is_calm=False)
    assert gc.get_count()[2] == due
    collect_old(is_calm=True)
    assert gc.get_count()[2] == 0


async def test_the_doctor_looks_once_for_many_who_ask(autojump_clock: trio.testing.MockClock) -> None:
    looks: list[int | None] = []

    def look(sessions: int | None) -> Mapping[str, object]:
        looks.append(sessions)
        return {"sessions": sessions}

    doctor = Doctor(look)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(doctor.answer, None)
    assert looks == [None]
    await trio.sleep(FRESH_S - 0.1)
    await doctor.answer(None)
    assert looks == [None]
    await trio.sleep(0.2)
    await doctor.answer(None)
    assert looks == [None, None]
    assert await doctor.answer(5) == {"sessions": 5}
