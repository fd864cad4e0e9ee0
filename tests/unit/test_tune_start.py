"""What the runner sets for itself, and the answer that the API keeps for a moment."""

from __future__ import annotations

import gc
import resource
from typing import TYPE_CHECKING

import trio

from runner.admin.doctor import FRESH_S, Doctor
from runner.tune.start import freeze, raise_own_limits

if TYPE_CHECKING:
    from collections.abc import Mapping


async def test_the_runner_raises_its_own_limits_at_start() -> None:
    open_files = raise_own_limits(7)
    assert trio.to_thread.current_default_thread_limiter().total_tokens == 7
    assert (open_files, open_files) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_what_is_frozen_is_out_of_the_collectors_sight() -> None:
    try:
        assert freeze() > 1000
        assert len(gc.get_objects()) < 1000
    finally:
        gc.unfreeze()


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
