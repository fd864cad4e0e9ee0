"""What may not be read in a log line."""

from __future__ import annotations

import pytest

from runner import config
from runner.config import Settings
from runner.own_secrets import own_secrets
from runner.redact import Redactor, redact_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("15550001111@s.whatsapp.net", "…11@s.whatsapp.net"),
        ("15550001111:3@s.whatsapp.net", "…11:3@s.whatsapp.net"),
        ("15550001111_1:3@s.whatsapp.net", "…11_1:3@s.whatsapp.net"),
        ("123456789012345@lid", "…45@lid"),
        ("15550001111@c.us", "…11@c.us"),
        ("15550001111-1600000000@g.us", "…00@g.us"),
        ("120363025246125486@g.us", "…86@g.us"),
        ("+15550001111", "…11"),
        ("call +1 555 000-1111 now", "call …11 now"),
        ("number 15550001111 was refused", "number …11 was refused"),
        ("banned: 15550001111.", "banned: …11."),
        ("session-15550001111.0.json", "session-…11.0.json"),
        ("session-15550001111_1.2.json", "session-…11_1.2.json"),
        ("socks5://user:hunter2@10.0.0.1:1080", "socks5://***@10.0.0.1:1080"),
        ("socks5://user:p@ss/wo:rd@10.0.0.1:1080", "socks5://***@10.0.0.1:1080"),
        ("bad proxy 'http://user:hun@ter2@host:80'", "bad proxy 'http://***@host:80'"),
        ("ab" * 32, "[key]"),
        (f"key {bytes(range(120, 152))!r} is short", "key [bytes] is short"),
        (f"key {b'it' + bytes(range(30, 60))!r} has a quote", "key [bytes] has a quote"),
        (f"key {list(range(100, 132))} is short", "key [[bytes]] is short"),
        (f"key {tuple(range(100, 132))} is short", "key ([bytes]) is short"),
        ("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", "[key]"),
    ],
)
@pytest.mark.pain(25)
def test_numbers_and_keys_are_masked(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "stream_replaced",
        "port 4001",
        "code 401",
        "took 12345678 ns",
        "2026-11-22T21:56:56.104Z",
        "2.3000.1045649367",
        "127.0.0.1:59750",
        "/var/lib/wa-runner/runner.db.damaged-1795388067",
        "b'GET'",
        "took 1, 2, 3, 4 and 5 s",
        "https://github.com/x/y, see there",
        "/var/lib/wa-runner/some/rather/long/path/without/any/secret/in/it",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.pain(25)
def test_values_are_judged_by_their_key_and_type() -> None:
    event = {
        "session": "15550001111",
        "token": "x",
        "noise_secret": b"12",
        "frame": b"12345",
        "text": "good morning",
        "pushName": "Ada",
        "nested": {"15550001111@lid": ["+15550001111", 401, None]},
        "count": 15550001111,
    }
    assert Redactor()(None, "info", dict(event)) == {
        "session": "15550001111",
        "token": "***",
        "noise_secret": "***",
        "frame": "<5 bytes>",
        "text": "<12 characters>",
        "pushName": "<3 characters>",
        "nested": {"…11@lid": ["…11", 401, None]},
        "count": 15550001111,
    }


@pytest.mark.pain(25)
def test_what_an_operator_set_as_a_secret_is_known_by_its_value() -> None:
    settings = Settings(
        admin_token="a-token-of-the-operator:read,another-token-of-his",
        proxy="socks5://user:pass%2Fword-1@10.0.0.1:1080",
        alert_webhook_urls="https://hooks.example/services/T0/B1/x2, https://other.example/?key=abc-def-ghi",
        alert_webhook_secret="s3cret-of-the-hook",
        alert_apprise_urls="tgram://123456:ABCdef/chat",
        webhook_headers="Authorization: Basic aGk6aGk=\nX-Other: value-of-other",
    )
    told = Redactor(own_secrets(settings))
    said = (
        "Bearer a-token-of-the-operator, another-token-of-his; pass%2Fword-1 pass/word-1; "
        "POST /services/T0/B1/x2 and ?key=abc-def-ghi with s3cret-of-the-hook to tgram://123456:ABCdef/chat; "
        "Authorization: Basic aGk6aGk=, value-of-other"
    )
    assert told.text(said) == (
        "Bearer ***, ***; *** ***; POST /*** and ?*** with *** to ***; Authorization: ***, ***"
    )
    event = {"error": "a-token-of-the-operator", "nested": [{"x": "s3cret-of-the-hook"}]}
    assert told(None, "info", event) == {"error": "***", "nested": [{"x": "***"}]}


@pytest.mark.pain(25)
def test_every_secret_setting_is_known_by_its_value() -> None:
    names = {entry.name: row.kind for entry, row in config.rows().values() if row.secret}
    assert {"admin_token", "proxy", "webhook_headers"} <= names.keys()
    marks = {"URL": "http://x/{}", "URLs": "http://x/{}", "headers": "X-Key: {}"}
    for name, kind in names.items():
        secret = f"the-secret-of-{name}"
        settings = Settings(**{name: marks.get(kind, "{}").format(secret)})  # type: ignore[arg-type]
        assert secret not in Redactor(own_secrets(settings)).text(f"it is {secret}, they say"), name


def test_a_short_secret_does_not_mask_every_word() -> None:
    assert Redactor(["a", "online"]).text("session online again") == "session online again"
