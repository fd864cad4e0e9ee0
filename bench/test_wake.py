"""The way through the boundary: a command down, the I/O thread's answer up.

From `open` to its first event in Python's hands: command queue, wake-up, outbox, eventfd, `drain`.
The first event is the phase `dialling`, so neither store nor network is in it.
"""

from __future__ import annotations

import select
import socket
from itertools import count
from typing import TYPE_CHECKING

import pytest

from runner import _core
from support.devices import import_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

VERSION = (2, 3000, 1_035_194_821)
PATIENCE_MS = 5_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[_core.Engine]:
    """An engine with one device, whose server accepts and never says a word."""
    store = _core.Store(str(tmp_path / "store.db"))
    import_device(store, "a")
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        endpoint = f"ws://127.0.0.1:{server.getsockname()[1]}/"
        running = _core.Engine(store, _core.EngineConfig(endpoint=endpoint))
        yield running
        running.shutdown()
        wait_for(running, "stopped")
    store.close()


def wait_for(engine: _core.Engine, kind: str) -> None:
    """Drain until an event of this kind came."""
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    while poll.poll(PATIENCE_MS):
        if any(event.kind == kind for event in engine.drain(256)):
            return
    raise AssertionError(f"no {kind} event")


def test_command_to_first_event(benchmark: BenchmarkFixture, engine: _core.Engine) -> None:
    benchmark.name = "engine/wake/command_to_event"
    numbers = count(1)
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    current = 0

    def next_number() -> None:
        nonlocal current
        current = next(numbers)

    def down_and_up() -> None:
        engine.open("a", current, version=VERSION)
        poll.poll(PATIENCE_MS)
        assert engine.drain(1)[0].kind == "phase"

    def close() -> None:
        engine.close("a", current, "stopped")
        wait_for(engine, "closed")

    benchmark.pedantic(down_and_up, setup=next_number, teardown=close, rounds=300, warmup_rounds=20)
