"""Leaks, `kill -9`, bans over a restart and damaged files against real processes, in a small size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import crashes
from support.message_kills import message_kills
from support.pair import pair, running, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.processes import SimulatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

UNLIMITED = {
    "WHATSAPP_CONNECT_RATE": "1000",
    "WHATSAPP_CONNECT_BURST": "1000",
    "WHATSAPP_CONNECT_CONCURRENCY": "200",
}

LOOKS_OFTEN = {"WHATSAPP_HEALTH_CHECK_INTERVAL": "1000"}


@pytest.mark.pain(8)
def test_start_stop_cycles_and_reconnects_give_every_descriptor_back(tmp_path: Path) -> None:
    with pair(tmp_path, 20, UNLIMITED) as p:
        crashes.nothing_leaks(p, 40, 120, None)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SimulatorProcess]]:
    """A simulator and a data directory with its twenty devices, for runners that come and go."""
    directory = tmp_path_factory.mktemp("crashes")
    with simulated(directory, 20) as simulator:
        yield directory, simulator


@pytest.mark.pain(3, 11)
def test_kill_9_under_load_loses_no_credentials_and_no_answered_message(
    twenty: tuple[Path, SimulatorProcess],
) -> None:
    crashes.kills_under_load(*twenty, 20, 4, 100.0, UNLIMITED)


@pytest.mark.pain(3)
def test_kill_9_in_a_stream_of_messages_loses_none_and_gives_each_its_own_text(tmp_path: Path) -> None:
    with simulated(tmp_path, 3) as simulator:
        message_kills(tmp_path, simulator, 3, 90, 5, UNLIMITED)


@pytest.mark.pain(3, 11)
def test_a_store_that_cannot_write_for_a_while_loses_nothing_and_leaves_nobody_deaf(tmp_path: Path) -> None:
    with simulated(tmp_path, 30) as simulator:
        fault = crashes.Refusing(tmp_path)
        crashes.store_fails_under_load(tmp_path, simulator, 30, fault, UNLIMITED | LOOKS_OFTEN)


@pytest.mark.pain(3, 11)
def test_a_full_disk_loses_nothing_and_leaves_nobody_deaf(tmp_path: Path) -> None:
    disk = crashes.FullDisk(tmp_path)
    if not disk.is_possible:
        pytest.skip("a tmpfs can be mounted by root only")
    try:
        with simulated(tmp_path, 30) as simulator:
            crashes.store_fails_under_load(tmp_path, simulator, 30, disk, UNLIMITED | LOOKS_OFTEN)
    finally:
        disk.unmount()


@pytest.mark.pain(24)
def test_a_ban_is_waited_out_over_a_kill_9(twenty: tuple[Path, SimulatorProcess]) -> None:
    crashes.ban_over_restart(*twenty, 20, UNLIMITED)


@pytest.mark.pain(7)
def test_a_second_runner_on_the_same_data_is_refused_and_the_first_goes_on(
    twenty: tuple[Path, SimulatorProcess],
) -> None:
    with running(*twenty, 20, UNLIMITED) as p:
        p.runner.wait_ready(20)
        crashes.second_runner(p)
        assert p.runner.stop() == 0


@pytest.mark.pain(16)
def test_hung_and_slow_logins_hold_up_nobody(tmp_path: Path) -> None:
    with simulated(tmp_path, 100) as simulator:
        crashes.slow_start(tmp_path, simulator, 100, 200.0, {"WHATSAPP_CONNECT_CONCURRENCY": "20"})


@pytest.mark.pain(11, 20)
def test_damage_is_reported_and_quarantined_and_the_others_run(twenty: tuple[Path, SimulatorProcess]) -> None:
    crashes.damaged_row(*twenty, 20, UNLIMITED)
    crashes.torn_page(*twenty, 20, UNLIMITED)
