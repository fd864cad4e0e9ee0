"""The channels together: what one transition becomes, and what waits over a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog
import trio

from runner.alerts.channels import Channels
from runner.alerts.engine import Alert, Transition, What
from runner.alerts.mail import Mail
from runner.config import Settings
from runner.logs import ExceptionCount
from runner.metrics import Metrics
from support.alerts import file_told

if TYPE_CHECKING:
    from pathlib import Path

URLS = "http://127.0.0.1:9/one, http://127.0.0.1:9/two"
ALERT = Alert(
    "al_1", "memory_high", "performance", "warning", "", "85.0 % in use", 1000, 2000, remedy="restart"
)
FIRED = Transition(What.FIRING, ALERT, 2000)
ENDED = Transition(What.RESOLVED, replace(ALERT, resolved_at=9000), 9000)


class Sources:
    def counters(self) -> list[object]:
        return []

    def stats(self) -> None:
        return None

    def store_health(self) -> None:
        return None


def a_place(path: Path, meta: dict[str, str], mail: Mail | None = None, urls: str = URLS) -> Channels:
    settings = Settings(data_dir=str(path), alert_webhook_urls=urls, alert_webhook_secret="k")
    metrics = Metrics(Sources(), dict)  # type: ignore[arg-type]
    mails = () if mail is None else (mail,)
    return Channels(settings, metrics, meta.__setitem__, lambda: 5000, "1.2.3", mails)


async def test_one_transition_is_a_line_in_each_file_and_a_notice_to_each_target(tmp_path: Path) -> None:
    meta: dict[str, str] = {}
    letters: list[tuple[str, str, str]] = []
    mail = Mail(lambda *letter: bool(letters.append(letter)) or True, attempts=1)
    channels = a_place(tmp_path, meta, mail)
    channels.tell(FIRED, None)
    channels.tell(Transition(What.ACKNOWLEDGED, ALERT, 3000), None)
    channels.tell(ENDED, None)
    channels.close()
    wanted = [(f"alert.{what}", "memory_high", None) for what in ("firing", "acknowledged", "resolved")]
    assert file_told(tmp_path / "logs" / "alerts.log") == wanted
    assert file_told(tmp_path / "logs" / "performance.log") == wanted
    first = json.loads((tmp_path / "logs" / "alerts.log").read_text().splitlines()[0])
    assert (first["ts"], first["class"], first["remedy"]) == (
        "1970-01-01T00:00:02.000Z",
        "performance",
        "restart",
    )
    saved = json.loads(meta["alert_webhooks"])["notices"]
    assert [json.loads(it["body"])["event"] for it in saved] == [it[0] for it in wanted] * 2
    assert len({it["target"] for it in saved}) == 2
    assert all(json.loads(it["body"])["id"] == it["id"] for it in saved)
    with trio.move_on_after(0.2):
        await mail.run()
    assert letters == [
        ("runner: memory_high warning", "85.0 % in use\n\nrestart", "warning"),
        ("runner: memory_high resolved", "85.0 % in use", "success"),
    ]


def test_what_a_webhook_had_not_taken_waits_for_it_over_a_restart(tmp_path: Path) -> None:
    meta: dict[str, str] = {}
    before = a_place(tmp_path, meta)
    before.tell(FIRED, None)
    before.close()
    after = a_place(tmp_path, meta)
    after.restore(meta)
    after.tell(ENDED, None)
    after.close()
    saved = json.loads(meta["alert_webhooks"])["notices"]
    assert [it["event"] for it in saved] == ["alert.firing", "alert.resolved"] * 2


async def test_a_lost_notice_about_lost_notices_is_not_counted(tmp_path: Path) -> None:
    """Else the alert about a dead receiver feeds itself: each of its own two notices begins it anew."""
    meta: dict[str, str] = {}
    mail = Mail(lambda *_letter: False, attempts=1)
    channels = a_place(tmp_path, meta, mail, urls="http://127.0.0.1:9/one")
    about_it = replace(ALERT, alert="alerts_undelivered")
    for transition in (FIRED, replace(FIRED, alert=about_it), replace(ENDED, alert=about_it)):
        channels.tell(transition, None)
    with trio.move_on_after(0.2):
        await mail.run()
    channels.close()
    assert channels.undelivered_total == 1
    saved = json.loads(meta["alert_webhooks"])["notices"]
    assert [it["is_counted"] for it in saved] == [True, False, False]


def test_a_target_that_is_gone_is_dropped_and_told(tmp_path: Path) -> None:
    meta: dict[str, str] = {}
    before = a_place(tmp_path, meta)
    before.tell(FIRED, None)
    before.close()
    after = a_place(tmp_path, meta, urls="http://127.0.0.1:9/one")
    with structlog.testing.capture_logs() as lines:
        after.restore(meta)
    after.close()
    assert [(it["event"], it["notices"]) for it in lines] == [("alert webhooks dropped", 1)]


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        ({"level": "error", "exc_info": True}, 1),
        ({"level": "critical", "exc_info": True}, 1),
        ({"level": "warning", "exc_info": True}, 0),
        ({"level": "error"}, 0),
    ],
)
def test_exceptions_are_counted_by_their_tracebacks(event: dict[str, object], counted: int) -> None:
    count = ExceptionCount()
    assert count(None, "", event) == event
    assert count.total == counted
