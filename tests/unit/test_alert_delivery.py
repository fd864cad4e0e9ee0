"""What waits for the alerts' webhooks, and their files."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from runner.alerts import delivery
from runner.alerts.delivery import MOST_QUEUED, Notice, Queue, retry
from runner.alerts.files import RotatedWriter
from runner.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def test_an_alert_is_tried_for_about_six_hours() -> None:
    dice = Random(1)
    policy = retry(15)
    assert 4 * 3600 < sum(policy.wait_s(n, dice) for n in range(1, 15)) < 8 * 3600
    assert (policy.is_over(14), policy.is_over(15)) == (False, True)


def notices(n: int) -> list[Notice]:
    return [Notice("t", f"evt_{number}", "alert.firing", "{}") for number in range(n)]


def test_a_queue_keeps_its_order_and_is_bounded() -> None:
    queue = Queue()
    lost = [queue.put(it) for it in notices(MOST_QUEUED + 2)]
    assert [it.id for it in lost if it] == ["evt_0", "evt_1"]
    assert len(queue) == MOST_QUEUED
    first = queue.first
    assert first is not None
    queue.failed(first, 99)
    assert queue.first == Notice("t", "evt_2", "alert.firing", "{}", 1, 99)
    queue.done(first)
    assert queue.first is not None
    assert queue.first.id == "evt_3"


def test_what_was_lost_while_it_was_under_way_takes_no_other_with_it() -> None:
    queue = Queue(notices(MOST_QUEUED))
    under_way = queue.first
    assert under_way is not None
    queue.put(Notice("t", "new", "alert.firing", "{}"))
    queue.done(under_way)
    assert len(queue) == MOST_QUEUED


def test_a_queue_survives_a_restart_and_damage_does_not_end_the_runner() -> None:
    text = delivery.saved_json([Queue(notices(3))])
    problems: list[str] = []
    assert delivery.restored({delivery.QUEUE_KEY: text}, problems) == tuple(notices(3))
    assert problems == []
    for damaged in ("{", "[]", '{"version":7,"notices":[]}', text[:-9]):
        assert delivery.restored({delivery.QUEUE_KEY: damaged}, problems) == ()
    assert len(problems) == 4


def test_a_log_file_is_rotated_by_size_and_old_ones_go(tmp_path: Path) -> None:
    at = tmp_path / "logs" / "alerts.log"
    for number in range(6):
        writer = RotatedWriter(at, 4096, 2)
        writer.write(f"{number} " + "x" * 5000)
        writer.close()
    assert sorted(path.name for path in at.parent.iterdir()) == ["alerts.log", "alerts.log.1", "alerts.log.2"]
    assert [path.read_text()[0] for path in sorted(at.parent.iterdir())] == ["5", "4", "3"]


def test_a_log_directory_that_cannot_be_written_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StartError) as caught:
        RotatedWriter(tmp_path / "logs" / "alerts.log", 4096, 2)
    assert "WHATSAPP_LOG_DIR" in caught.value.remedy
