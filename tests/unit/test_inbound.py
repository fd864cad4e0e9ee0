"""From a row of the inbox to a `Message`."""

from __future__ import annotations

import pytest

from runner.consumer.inbound import inbound, message_of
from runner.message import Media, Message, Reaction
from support.inbox import FakeRow, conversation


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf, shorter than 128 bytes."""
    return (
        bytes([number % 16 << 3 | 2 | (0x80 if number > 15 else 0)])
        + (bytes([number >> 4]) if number > 15 else b"")
        + bytes([len(data)])
        + data
    )


def read(content: bytes | None) -> Message | None:
    row = FakeRow(1, "desk", "15550001111@s.whatsapp.net", "15550001111@s.whatsapp.net", "ID1", 7, content)
    found = inbound(row)
    return found and message_of(found)


def test_a_text_a_caption_and_a_reaction_are_read() -> None:
    text = read(conversation("good morning"))
    assert text is not None
    assert (text.kind, text.text, text.media, text.reaction) == ("text", "good morning", None, None)
    image = read(field(3, field(2, b"image/jpeg") + field(3, b"the receipt")))
    assert image is not None
    assert (image.kind, image.text, image.media) == ("image", "the receipt", Media("image/jpeg"))
    key = field(1, field(1, b"15550001111@s.whatsapp.net") + field(3, b"ABC"))
    reaction = read(field(46, key + field(2, "👍".encode())))
    assert reaction is not None
    assert (reaction.kind, reaction.reaction, reaction.target_id) == (
        "reaction",
        Reaction("👍", "ABC"),
        "ABC",
    )


@pytest.mark.parametrize(
    ("chat", "sender", "row_is_own", "is_own"),
    [
        ("15550001111@s.whatsapp.net", "15550001111:2@s.whatsapp.net", False, False),
        ("15550001111@s.whatsapp.net", "15559999999:2@s.whatsapp.net", True, True),
        # By a LID that the store has not heard of yet.
        ("15550001111@s.whatsapp.net", "900000000001:2@lid", False, True),
        ("1-2@g.us", "15559999999:2@s.whatsapp.net", True, True),
        ("1-2@g.us", "15550001111@s.whatsapp.net", False, False),
        ("15559999999@s.whatsapp.net", "15559999999:2@s.whatsapp.net", True, True),
    ],
)
def test_what_the_user_wrote_himself_is_his_in_groups_too(
    chat: str, sender: str, *, row_is_own: bool, is_own: bool
) -> None:
    found = inbound(FakeRow(1, "desk", chat, sender, "ID1", 7, conversation("hi"), is_own=row_is_own))
    assert found is not None
    message = message_of(found)
    assert (message.is_own, message.to_json()["fromMe"]) == (is_own, is_own)


def test_what_cannot_be_read_is_handed_on_whole_and_what_is_not_decrypted_is_not() -> None:
    broken = read(b"\x0a\xff")
    assert broken is not None
    assert (broken.kind, broken.text, broken.content) == ("unknown", None, b"\x0a\xff")
    assert read(None) is None
