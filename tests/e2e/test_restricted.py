"""An account that WhatsApp does not let write to strangers, seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.pair import pair
from support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
STRANGER, FRIEND = "15559000001@s.whatsapp.net", "15559000000@s.whatsapp.net"


def test_a_refusal_is_told_by_every_means_and_asked_for_once(tmp_path: Path) -> None:
    with pair(tmp_path, 1, {"WHATSAPP_ALERT_PATIENCE": "0.1"}) as p:
        (session,) = p.ids()

        def send(chat: str) -> tuple[int, str | None]:
            body = {"session": session, "chatId": chat, "text": "hello"}
            status, told = p.runner.request("POST", "/api/sendText", body, timeout_s=30.0)
            return status, told.get("reason")

        p.control.post("/shape", all=True, refuseSends=463)
        assert [send(STRANGER) for _ in range(5)] == [(502, "restricted")] * 5
        assert p.control.stats()["refusedMessages"] == 1, "four of them did not leave"
        p.control.post("/shape", all=True, refuseSends=0)
        assert send(STRANGER) == (502, "restricted")
        assert send(FRIEND) == (200, None)
        (line,) = p.lines("account restricted")
        assert (line["session"], line["code"]) == (session, 463)
        metrics = p.runner.command("metrics", "--prometheus").stdout
        assert "\nrunner_sessions_restricted 1\n" in metrics

        def firing() -> set[str]:
            return {it["alert"] for it in p.runner.request("GET", "/api/alerts")[1]["active"]}

        wait_until(lambda: "session_restricted" in firing(), 20.0, "an alert")
