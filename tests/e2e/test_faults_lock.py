"""Another process locks the store of a real runner, in a small size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.pair import simulated
from support.store_lock import locked, stopped_under_a_lock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SETTINGS = {
    "WHATSAPP_CONNECT_RATE": "1000",
    "WHATSAPP_CONNECT_BURST": "1000",
    "WHATSAPP_KEEPALIVE_MIN": "400",
    "WHATSAPP_KEEPALIVE_MAX": "600",
}


@pytest.mark.pain(3, 20)
def test_a_locked_store_disconnects_nobody_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with simulated(tmp_path, 20) as simulator:
        figures = locked(tmp_path, simulator, 20, 6.0, 50.0, SETTINGS)
        assert figures["owed_at_the_end_of_the_lock"] > 100


@pytest.mark.pain(3)
def test_a_runner_stops_under_a_lock_and_the_next_one_fetches_what_was_not_answered(tmp_path: Path) -> None:
    with simulated(tmp_path, 10) as simulator:
        stopped_under_a_lock(tmp_path, simulator, 10, SETTINGS)
