"""One truth on every surface: dashboard, JSON API, Prometheus and simulator, through a reconnect storm."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from support import truth
from support.browser import Tabs
from support.pair import FAST_PINGS, pair
from support.storms import agree_at_rest, pings_agree, ragged, settings, storm

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]
N = 120


@pytest.mark.pain(18)
def test_every_surface_says_the_same_through_a_storm_and_after_it(browser: Browser, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = FAST_PINGS | settings(100.0, 10) | {"WHATSAPP_ADMIN_PORT": str(port)}
    with pair(tmp_path, N, more) as p, Tabs(browser, f"http://127.0.0.1:{port}/", N) as tabs:
        with truth.watched(p) as watch:
            storm(p, 3)
            agree_at_rest(p)
            ragged(p, 2, watch.look_by_command)
            tabs.wait_shown(p.runner.sessions())
        watch.more += tabs.samples()
        looks, figures = tabs.looks(), watch.verdict()
        for session_id in p.ids()[:2]:
            _status, six = p.runner.request("GET", f"/api/sessions/{session_id}/metrics")
            shown = tabs.six(session_id)
            assert shown["Messages processed"] == str(six["messagesProcessed"])
            assert shown["Errors"] == str(six["errorCount"])
            assert shown["Reconnects"] == str(six["reconnectCount"])
        pings_agree(p)
    assert looks > 30
    assert min(figures["samples"][name] for name in (*truth.LISTS, "/metrics")) > 20
    assert figures["counts_compared"]["the overview"] > 5
