"""Decrypted messages as Python takes them: content, kind, view, and why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.sim import Simulator
from runner.wire import decode_node
from support.control import Control
from support.receiver import Receiver, texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "15550000000"
NAME = "sim-00001"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        yield simulator


def test_a_login_says_whose_session_it_is(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open()
        online = receiver.wait("online", NAME, 1)
        assert (online.jid, online.push_name) == (f"{USER}@s.whatsapp.net", NAME)
        assert USER not in repr(online)


def test_a_contacts_texts_arrive_decrypted_and_in_order(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open()
        said = simulator.client.post("/say", user=USER, text="hello {n}", n=100)
        rows = receiver.take(100)
        assert texts(rows) == [(said["ids"][n], f"hello {n}") for n in range(100)]
        first = rows[0]
        assert (first.kind, first.failure, first.chat) == ("text", None, "15559000000@s.whatsapp.net")
        stanza = decode_node(first.stanza)
        assert stanza.attrs["notify"] == "Contact 1"
        assert isinstance(stanza.content, list)
        assert [child.content for child in stanza.content] == [None], "the ciphertext is not kept beside it"
        counters = Control(simulator.control).wait_stats(contactReceipts=100)
        assert counters["contactRetries"] == 0, "an imported pre-key is used as it is"
    # The store knows them as delivered, over restarts.
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open(2)
        simulator.client.post("/say", user=USER, text="again")
        assert texts(receiver.take(101))[100][1] == "again"


def test_what_waits_at_the_server_is_decrypted_like_what_comes_live(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.client.post("/say", user=USER, text="early {n}", n=200)
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open()
        assert [words for _, words in texts(receiver.take(200))] == [f"early {n}" for n in range(200)]


def test_a_message_that_nobody_can_read_says_why(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open()
        simulator.client.post("/push", user=USER, template="ciphertext", n=1)
        (row,) = receiver.take(1)
        assert (row.content, row.kind, row.failure) == (None, None, "malformed")
        stanza = decode_node(row.stanza)
        assert isinstance(stanza.content, list)
        assert isinstance(stanza.content[0].content, bytes), "it is kept whole"
        Control(simulator.control).wait_stats(answered=1)
        counters = receiver.engine.counters()[0]
        assert (counters.messages_received, counters.messages_undecrypted) == (0, 1)


def test_a_message_that_does_not_come_again_is_given_up_once(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
        receiver.open()
        simulator.client.post("/push", user=USER, template="ciphertext", n=1)
        (row,) = receiver.take(1)
        store = receiver.store
        assert store.unread(row.received_unix_ms, 9) == [], "its sender is asked"
        (unread,) = store.unread(row.received_unix_ms + 1, 9)
        assert (unread.seq, unread.session_id, unread.chat, unread.sender, unread.message_id) == (
            row.seq, row.session_id, row.chat, row.sender, row.message_id,
        )  # fmt: skip
        assert (unread.failure, unread.attempts) == ("malformed", 1)
        event = ("evt_1", "message.undecryptable", NAME, row.chat, b"{}", 1, ["w1"])
        assert (store.give_up_unread([event], [unread.seq]), store.give_up_unread([], [unread.seq])) == (1, 0)
        assert store.take(0, 9) == []
        assert store.unread(2**62, 9) == []
        (letter,) = store.undelivered(0, 9)
        assert (letter.sink, letter.name, letter.id, letter.why) == (
            "undecryptable", "message.undecryptable", row.message_id, "malformed",
        )  # fmt: skip
        assert [it.event_id for it in store.deliveries("w1", 0, 9)] == ["evt_1"]
        assert store.redrive([letter.seq]) == (0, 0)
        assert (store.discard([letter.seq]), store.undelivered(0, 9)) == (1, [])


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_view_reads_words_files_and_what_they_are_about() -> None:
    view = _core.MessageView(field(1, "olá".encode()))
    assert (view.kind, view.text, view.media, view.target, view.mentions) == ("text", "olá", None, None, [])
    image = _core.MessageView(field(3, field(2, b"image/png") + field(3, b"look") + field(8, bytes(32))))
    assert (image.kind, image.text) == ("image", "look")
    assert image.media is not None
    assert (image.media.mime_type, image.media.key, image.media.file_bytes) == ("image/png", bytes(32), None)
    key = field(1, b"15550001111@s.whatsapp.net") + b"\x10\x01" + field(3, b"ID")
    reaction = _core.MessageView(b"\xf2\x02" + field(0, field(1, key) + field(2, b"!"))[1:])
    assert (reaction.kind, reaction.text) == ("reaction", "!")
    assert reaction.target is not None
    assert (reaction.target.id, reaction.target.is_from_me) == ("ID", True)
    assert "olá" not in repr(view), "words stay out of logs"


def test_a_view_of_what_is_no_message_is_the_callers_to_catch() -> None:
    with pytest.raises(ValueError, match="malformed protobuf"):
        _core.MessageView(b"\x0a\x05h")
    assert _core.MessageView(b"").kind == "unknown"
