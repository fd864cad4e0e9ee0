"""A stream of end-to-end messages against a runner that dies, in a small size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import streams
from support.pair import simulated

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.mark.pain(3, 4)
def test_kill_9_in_a_stream_loses_doubles_and_damages_no_message(tmp_path: Path) -> None:
    with simulated(tmp_path, 1) as simulator:
        streams.kills_in_a_stream(tmp_path, simulator, 300, 6, {})
