"""What a webhook gets, when it is tried again, and where it may not go."""

from __future__ import annotations

import hashlib
import hmac
from random import Random
from typing import TYPE_CHECKING

import pytest

from runner.alerts import delivery
from runner.alerts.delivery import MOST_QUEUED, Notice, Queue, delay_s, headers, is_tried_again
from runner.alerts.files import RotatedWriter
from runner.alerts.target import TargetRefusedError, allowed_of, chosen
from runner.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "ff02::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_only_this_machine_reaches_is_refused(address: str) -> None:
    with pytest.raises(TargetRefusedError, match="WHATSAPP_ALERT_WEBHOOK_ALLOW"):
        chosen("hook.example", [address], allowed_of([]))


def test_a_public_address_is_used_and_a_private_one_beside_it_is_not() -> None:
    assert chosen("hook.example", ["10.0.0.1", "93.184.216.34"], allowed_of([])) == "93.184.216.34"
    assert chosen("hook.example", ["2606:2800:220:1::1"], allowed_of([])) == "2606:2800:220:1::1"


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "10.1.2.3", "hook.internal", "HOOK.internal"])
def test_an_operator_may_allow_a_host_an_address_or_a_network(entry: str) -> None:
    assert chosen("hook.internal", ["10.1.2.3"], allowed_of([entry])) == "10.1.2.3"


def test_an_allowed_name_allows_no_other_name() -> None:
    with pytest.raises(TargetRefusedError):
        chosen("evil.example", ["10.1.2.3"], allowed_of(["hook.internal"]))


def test_the_signatures_are_those_of_the_raw_body() -> None:
    notice = Notice("t", "evt_1", "alert.firing", '{"a":1}', attempts=2)
    made = headers(b'{"a":1}', notice, "key", "req_1", 1700)
    assert made["x-webhook-hmac"] == hmac.new(b"key", b'{"a":1}', hashlib.sha512).hexdigest()
    assert made["x-webhook-hmac-algorithm"] == "sha512"
    assert made["x-webhook-hmac-v2"] == hmac.new(b"key", b'1700.{"a":1}', hashlib.sha512).hexdigest()
    assert made["x-hub-signature-256"] == "sha256=" + hmac.new(b"key", b'{"a":1}', hashlib.sha256).hexdigest()
    assert (made["idempotency-key"], made["x-webhook-attempt"]) == ("evt_1", "3")
    assert not [name for name in headers(b"", notice, "", "r", 0) if "hmac" in name or "signature" in name]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 422])
def test_what_will_not_change_is_not_tried_again(status: int) -> None:
    assert not is_tried_again(status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_change_is_tried_again(status: int) -> None:
    assert is_tried_again(status)


def test_the_delay_doubles_with_jitter_up_to_three_hours() -> None:
    dice = Random(1)
    for attempts, ceiling in ((1, 2.0), (2, 4.0), (5, 32.0), (20, 10_800.0), (10_000, 10_800.0)):
        found = [delay_s(attempts, None, 0, dice) for _ in range(200)]
        assert min(found) >= ceiling / 2
        assert max(found) <= ceiling
        assert len(set(found)) > 100
    assert 4 * 3600 < sum(delay_s(n, None, 0, dice) for n in range(1, 15)) < 8 * 3600


@pytest.mark.parametrize(
    ("said", "least"),
    [
        ("120", 120.0),
        ("99999999", 86_400.0),
        ("Thu, 01 Jan 1970 00:10:00 GMT", 600.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
        ("9" * 400, 0.0),
        ("Thu, 01 Jan 1970 00:10:00", 600.0),
    ],
)
def test_retry_after_is_honoured_within_reason(said: str, least: float) -> None:
    assert least <= delay_s(1, said, 0, Random(1)) <= max(least, 2.0)


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
