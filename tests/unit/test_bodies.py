"""What somebody is told whose body is not what it should be: the field first, and no value of his."""

from __future__ import annotations

import pytest

from runner.admin.backend import ChangedSession, NewSession, NewSessions, NewSilence, NewText, PairingPhone
from runner.admin.bodies import decoded
from runner.errors import AdminError
from runner.webhooks.hook import NewWebhook


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", NewSession, "the body is no JSON: it ends too early"),
        (b"hello", NewSession, "the body is no JSON: invalid character (byte 0)"),
        (b'{"id": "\xff"}', NewSession, "the body is not UTF-8"),
        (b"[]", NewSession, "the body must be an object, and is a list"),
        (b"{}", NewSession, "id is missing"),
        (b'{"id": 5}', NewSession, "id must be a string, and is a whole number"),
        (b'{"id": "a", "idd": 1}', NewSession, "idd is no field of this body"),
        (b'{"sessions": [{"id": "a"}, {"id": 2}]}', NewSessions, "sessions[1].id must be a string, and is"),
        (b'{"sessions": [{"id": "a"}, {}]}', NewSessions, "sessions[1].id is missing"),
        (b'{"proxy": false}', ChangedSession, "proxy must be a string or null, and is true or false"),
        (b'{"alert": "*", "minutes": 0}', NewSilence, "minutes must be more than 0"),
        (b'{"alert": "*", "minutes": 1e9}', NewSilence, "minutes must be at most 525600"),
        (b'{"session": "a", "chatId": "1", "text": ""}', NewText, "text must not be empty"),
        (b'{"session": "a", "chatId": "1", "text": 4711}', NewText, "text must be a string, and is a whole"),
        (
            b'{"phoneNumber": "%s"}' % (b"4711" * 20),
            PairingPhone,
            "phoneNumber must have at most 40 characters",
        ),
        (b'{"url": "x", "retries": {"policy": "never"}}', NewWebhook, "retries.policy may not be 'never'"),
    ],
)
def test_a_wrong_body_names_the_field(body: bytes, kind: type, said: str) -> None:
    with pytest.raises(AdminError) as told:
        decoded(body, kind, "POST /api/x")
    assert (told.value.status, told.value.error) == (422, "body_wrong")
    assert str(told.value).startswith(said)
    assert told.value.remedy == "see POST /api/x in /openapi.json"
    if kind in {NewText, PairingPhone}:
        assert "4711" not in str(told.value)
