"""The search for leaks finds what is planted, however it is written; else its silence would mean nothing."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from support.leaks import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(200, 232))
NOISE = b'{"ts":"2026-11-26T15:51:50.301Z","event":"session dropped: reconnect","session":"sim-00001"}\n' * 50
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda key: key,
    "hex": lambda key: key.hex().encode(),
    "HEX": lambda key: key.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 after one byte": lambda key: base64.b64encode(b"x" + key),
    "base64 after two bytes": lambda key: base64.b64encode(b"xy" + key + b"z"),
    "base64url in a longer text": lambda key: base64.urlsafe_b64encode(b"xy" * 50 + key + b"z" * 9),
    "repr": lambda key: repr(key).encode(),
    "repr in JSON": lambda key: json.dumps({"error": repr(key)}).replace("\\\\", "\\").encode(),
    "a list": lambda key: str(list(key)).encode(),
    "a list of JSON": lambda key: json.dumps(list(key), separators=(",", ":")).encode(),
    "cut off": lambda key: b"... " + key.hex()[:40].encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_is_found_however_it_is_written(spelling: str) -> None:
    secrets = Secrets()
    secrets.key("noise key", KEY)
    assert secrets.found_in(NOISE) == []
    assert secrets.found_in(NOISE + b"error: " + SPELLINGS[spelling](KEY) + b" in the log\n" + NOISE) == [
        "noise key"
    ]


@pytest.mark.parametrize(
    "line",
    [
        'said: hällo, "Bob" & co',
        json.dumps({"text": 'hällo, "Bob" & co'}),
        "https://x/?q=h%C3%A4llo%2C%20%22Bob%22%20%26%20co",
        repr('hällo, "Bob" & co'),
        base64.b64encode('<body>hällo, "Bob" & co</body>'.encode()).decode(),
        'hällo, "Bob" & co'.encode().hex(),
    ],
)
def test_words_are_found_however_they_are_written(line: str) -> None:
    secrets = Secrets()
    secrets.word("message", 'hällo, "Bob" & co')
    assert secrets.found_in(NOISE) == []
    assert secrets.found_in(NOISE + line.encode()) == ["message"]


def test_credentials_are_known_by_every_key_and_number(tmp_path: Path) -> None:
    device = tmp_path / "desk"
    device.mkdir()
    buffer = {"type": "Buffer", "data": base64.b64encode(KEY).decode()}
    adv = base64.b64encode(bytes(range(64, 96))).decode()
    creds = {
        "noiseKey": {"private": buffer},
        "advSecretKey": adv,
        "me": {"id": "15550000001:1@s.whatsapp.net"},
    }
    (device / "creds.json").write_text(json.dumps(creds))
    (device / "pre-key-1.json").write_text(json.dumps({"private": {"type": "Buffer", "data": adv}}))
    secrets = Secrets()
    secrets.credentials(device)
    assert secrets.found_in(KEY.hex().encode()) == ["desk: creds.noiseKey.private"]
    assert secrets.found_in(b"to 15550000001 at 12:00") == ["desk: creds.me.id"]
    assert len(secrets.found_in(adv.encode())) == 1
