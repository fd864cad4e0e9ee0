"""What the runner sets for itself, and the answer that the API keeps for a moment."""

from __future__ import annotations

import gc
import resource
from typing import TYPE_CHECKING

import pytest
import trio

from runner.admin.doctor import FRESH_S, Doctor
from runner.tune.process import GC_THRESHOLDS
from runner.tune.start import tune_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture
def gc_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("gc_as_before")
async def test_the_runner_sets_its_own_limits_at_start() -> None:
    own = tune_own(7)
    assert gc.get_threshold() == own.gc_thresholds == GC_THRESHOLDS
    assert trio.to_thread.current_default_thread_limiter().total_tokens == own.worker_threads == 7
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert own.open_files == soft


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
