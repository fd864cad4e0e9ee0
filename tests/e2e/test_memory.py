"""What an idle session costs in memory, all of it: Rust, Python, TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.crashes import rss_bytes
from support.pair import pair

if TYPE_CHECKING:
    from pathlib import Path

BAR_BYTES = 32 * 1024
SIZES = (50, 450)
EAGER = {"WHATSAPP_CONNECT_RATE": "1000", "WHATSAPP_CONNECT_CONCURRENCY": "256"}


@pytest.mark.pain(10)
@pytest.mark.timeout(120)
def test_an_idle_session_costs_kilobytes(tmp_path: Path) -> None:
    """The slope between two sizes, so that the interpreter's own megabytes do not count."""
    rss = []
    for n in SIZES:
        with pair(tmp_path / str(n), n, EAGER, tls=True) as p:
            p.control.wait_stats(pings=n, timeout_s=60.0)  # each has been through a whole keep-alive
            rss.append(rss_bytes(p.runner.pid))
    slope = (rss[1] - rss[0]) / (SIZES[1] - SIZES[0])
    assert slope < BAR_BYTES, f"{slope:.0f} bytes a session"
