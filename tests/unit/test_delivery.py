"""How an event is signed, when it is tried again, and where it may not go."""

from __future__ import annotations

import hashlib
import hmac
from random import Random

import pytest

from runner.delivery.headers import headers
from runner.delivery.retry import Retry, asked_s, is_tried_again
from runner.delivery.target import TargetRefusedError, allowed_of, chosen

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


def test_the_refusal_names_the_setting_that_allows_it() -> None:
    with pytest.raises(TargetRefusedError, match="WHATSAPP_WEBHOOK_ALLOW"):
        chosen("hook.example", ["10.0.0.1"], allowed_of([], "WHATSAPP_WEBHOOK_ALLOW"))


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
    made = headers(b'{"a":1}', "evt_1", 3, "key", "req_1", 1700)
    assert made["x-webhook-hmac"] == hmac.new(b"key", b'{"a":1}', hashlib.sha512).hexdigest()
    assert made["x-webhook-hmac-algorithm"] == "sha512"
    assert made["x-webhook-hmac-v2"] == hmac.new(b"key", b'1700.{"a":1}', hashlib.sha512).hexdigest()
    hub = hmac.new(b"key", b'{"a":1}', hashlib.sha256).hexdigest()
    assert made["x-hub-signature-256"] == f"sha256={hub}"
    assert (made["idempotency-key"], made["x-webhook-attempt"]) == ("evt_1", "3")
    assert not [
        name for name in headers(b"", "evt_1", 1, "", "r", 0) if "hmac" in name or "signature" in name
    ]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 422])
def test_what_will_not_change_is_not_tried_again(status: int) -> None:
    assert not is_tried_again(status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_change_is_tried_again(status: int) -> None:
    assert is_tried_again(status)


@pytest.mark.parametrize(
    ("policy", "ceilings"),
    [
        ("constant", {1: 2.0, 7: 2.0, 10_000: 2.0}),
        ("linear", {1: 2.0, 2: 4.0, 7: 14.0, 10_000: 600.0}),
        ("exponential", {1: 2.0, 2: 4.0, 5: 32.0, 20: 600.0, 10_000: 600.0}),
    ],
)
def test_the_wait_grows_as_its_policy_says_with_jitter(policy: str, ceilings: dict[int, float]) -> None:
    dice = Random(1)
    retry = Retry(policy, 2.0, 15, 600.0)
    for attempts, ceiling in ceilings.items():
        found = [retry.wait_s(attempts, dice) for _ in range(200)]
        assert min(found) >= ceiling / 2
        assert max(found) <= ceiling
        assert len(set(found)) > 100


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
    assert asked_s(said, 0) == least
