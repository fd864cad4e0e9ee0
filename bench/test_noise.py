"""The Noise channel from Python: its cipher for one frame, and a whole login by each handshake.

The Rust figures, handshake alone included, are in rust/proto/benches/channel.rs.
"""

from __future__ import annotations

import select
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.intake import Intake
from runner.sim import Simulator
from runner.wire import NoiseTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

VERSION = (2, 3000, 1_035_194_821)
PATIENCE_MS = 5_000
SIZES = {"64_B": 64, "1_KiB": 1024, "64_KiB": 65_536}


@pytest.mark.parametrize("size", SIZES)
def test_seal(benchmark: BenchmarkFixture, size: str) -> None:
    benchmark.name = f"noise/seal/{size}"
    channel = NoiseTransport(bytes(32), bytes(32))
    plain = bytes(SIZES[size])
    assert len(benchmark(channel.seal, plain)) == len(plain) + 16


@pytest.mark.parametrize("size", SIZES)
def test_open(benchmark: BenchmarkFixture, size: str) -> None:
    benchmark.name = f"noise/open/{size}"
    peer, channel = NoiseTransport(bytes(32), b"k" * 32), NoiseTransport(b"k" * 32, bytes(32))
    plain = bytes(SIZES[size])

    def next_frame() -> tuple[tuple[bytes], dict[str, object]]:
        return (peer.seal(plain),), {}

    assert benchmark.pedantic(channel.open, setup=next_frame, rounds=2000, warmup_rounds=20) == plain


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[_core.Engine]:
    """An engine with one device of a simulator in this process, over plain ws."""
    with Simulator(sessions=1, directory=tmp_path / "simulator") as simulator:
        store = _core.Store(str(tmp_path / "store.db"))
        (directory,) = Path(simulator.credentials).iterdir()
        list(Intake(store).take_over_all([("a", directory)]))
        info = simulator.client.info()
        config = _core.EngineConfig(endpoint=info["plainUrl"], root_key=bytes.fromhex(info["rootKeyHex"]))
        running = _core.Engine(store, config)
        yield running
        running.shutdown()
        wait_for(running, "stopped")
        store.close()


def wait_for(engine: _core.Engine, kind: str) -> _core.Event:
    """Drain until an event of this kind came."""
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    while poll.poll(PATIENCE_MS):
        for event in engine.drain(256):
            if event.kind == kind:
                return event
    raise AssertionError(f"no {kind} event")


@pytest.mark.parametrize("handshake", ["xx", "ik"])
def test_login(benchmark: BenchmarkFixture, engine: _core.Engine, handshake: str) -> None:
    """From `open` to `online`: TCP, upgrade, handshake, login, both ends in this process."""
    benchmark.name = f"noise/login/{handshake}"
    numbers = count(1)
    current = 0
    used: set[str | None] = set()

    def log_in(*, resume: bool = handshake == "ik") -> None:
        nonlocal current
        current = next(numbers)
        engine.open("a", current, version=VERSION, resume=resume)
        used.add(wait_for(engine, "online").handshake)

    def log_off() -> None:
        engine.close("a", current, "stopped")
        wait_for(engine, "closed")

    log_in(resume=False)  # learns the server's key
    log_off()
    used.clear()
    benchmark.pedantic(log_in, teardown=log_off, rounds=200, warmup_rounds=5)
    assert used == {handshake}
