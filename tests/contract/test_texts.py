"""Texts through the engine and the simulator: contacts and other sessions read them, or ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.sending import quoted_of
from runner.sim import Simulator
from support.receiver import Receiver, texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTACT = "15559000000@s.whatsapp.net"
ONE, TWO = "15550000000@s.whatsapp.net", "15550000001@s.whatsapp.net"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        yield simulator


def send(
    receiver: Receiver,
    token: int,
    chat: str,
    text: str,
    *,
    by: str = "sim-00001",
    connection: int = 1,
    quoted: tuple[str, str, bytes] | None = None,
) -> _core.Event:
    """The outcome."""
    outgoing = _core.OutgoingText(token=token, chat=chat, message_id=f"M{token}", text=text, quoted=quoted)
    receiver.engine.send_text(by, connection, outgoing)
    event = receiver.wait("sent", by, connection)
    receiver.events.remove(event)
    assert event.token == token
    return event


def test_a_contact_reads_a_text_and_a_reply(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        event = send(receiver, 1, CONTACT, "hello")
        assert (event.reason, event.code) == (None, None)
        assert event.server_unix_s is not None
        # It says what it hears.
        (row,) = receiver.take(1)
        assert texts([row])[0][1] == "hello"
        send(receiver, 2, row.chat, "indeed", quoted=(row.message_id, row.sender, row.content or b""))
        heard = simulator.client.heard()
        assert [(it["id"], it["text"], it.get("quoted")) for it in heard] == [
            ("M1", "hello", None),
            ("M2", "indeed", row.message_id),
        ]
        (counters,) = receiver.engine.counters()
        assert (counters.messages_sent, counters.sends_failed) == (2, 0)


def test_two_sessions_write_to_each_other(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001", "sim-00002"]) as receiver:
        receiver.open()
        for n in range(5):
            send(receiver, 10 + n, TWO, f"to {n}")
            send(receiver, 20 + n, ONE, f"fro {n}", by="sim-00002")
        rows = receiver.take(10)
        assert sorted(words or "" for _, words in texts(rows)) == sorted(
            [*(f"to {n}" for n in range(5)), *(f"fro {n}" for n in range(5))]
        )


def test_who_could_not_read_is_sent_it_again_also_after_a_restart(
    simulator: Simulator, tmp_path: Path
) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        simulator.client.post("/mishear", contact=0, n=1)
        send(receiver, 1, CONTACT, "twice")
        receiver.take(1)
        assert [it["text"] for it in simulator.client.heard()] == ["twice"]
        (counters,) = receiver.engine.counters()
        assert counters.messages_resent == 1
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open(2)
        # The session goes on where it stopped, or the contact could not read.
        send(receiver, 2, CONTACT, "after", connection=2)
        receiver.take(2)
        assert [it["id"] for it in simulator.client.heard()] == ["M1", "M2"]


def test_a_contact_that_was_linked_anew_is_reached(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        send(receiver, 1, CONTACT, "before")
        receiver.take(1)
        simulator.client.post("/new-identity", contact=0)
        receiver.wait("identity_changed", "sim-00001", 1)
        send(receiver, 2, CONTACT, "after")
        receiver.take(2)
        assert [it["text"] for it in simulator.client.heard()] == ["before", "after"]


@pytest.mark.parametrize("by_lid", [False, True])
def test_a_group_is_written_to_and_each_who_is_in_it_reads(
    simulator: Simulator, tmp_path: Path, by_lid: bool
) -> None:
    members = ["15550000000", "15550000001", "15559000000", "15559000001"]
    group = simulator.client.post("/group", members=members, lid=by_lid)["jid"]
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001", "sim-00002"]) as receiver:
        receiver.open()
        assert send(receiver, 1, group, "hello all").reason is None
        simulator.client.post("/mishear", contact=1, n=1)
        assert send(receiver, 2, group, "once more").reason is None
        simulator.client.post("/group", jid=group, remove=["15559000000"])
        assert send(receiver, 3, group, "without one").reason is None
        rows = receiver.take(3)
        assert [(row.chat, words) for row, (_, words) in zip(rows, texts(rows), strict=True)] == [
            (group, "hello all"),
            (group, "once more"),
            (group, "without one"),
        ]
        heard = {(it["text"], it["contact"], it["group"]) for it in simulator.client.heard()}
        assert heard == {
            ("hello all", 0, group),
            ("hello all", 1, group),
            ("once more", 0, group),
            ("once more", 1, group),
            ("without one", 1, group),
        }
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open(2)
        assert send(receiver, 4, group, "after a restart", connection=2).reason is None
        assert [it["contact"] for it in simulator.client.heard() if it["id"] == "M4"] == [1]
        assert simulator.client.stats()["contactRetries"] == 0, "it goes on with the key that it has"


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("19998887777@s.whatsapp.net", "unknown_user"),
        ("120363000@g.us", "unknown_group"),
        ("120363000@newsletter", "not_a_user"),
    ],
)
def test_who_cannot_be_written_to_is_told(
    simulator: Simulator, tmp_path: Path, chat: str, reason: str
) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        assert send(receiver, 1, chat, "hello").reason == reason


def test_without_a_connection_the_outcome_comes_all_the_same(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        assert send(receiver, 1, CONTACT, "hello", connection=7).reason == "not_online"


@pytest.mark.parametrize(("field", "value"), [("chat", "1@"), ("message_id", ""), ("message_id", "x" * 129)])
def test_a_text_that_cannot_be_one_names_the_field(field: str, value: str) -> None:
    fields = {"token": 1, "chat": CONTACT, "message_id": "M", "text": "x"} | {field: value}
    with pytest.raises(ValueError, match=f"^{field}: "):
        _core.OutgoingText(**fields)  # type: ignore[arg-type]


def test_a_restricted_account_is_told_so(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        simulator.client.post("/shape", all=True, refuseSends=463)
        text = _core.OutgoingText(token=1, chat=CONTACT, message_id="M1", text="hello")
        receiver.engine.send_text("sim-00001", 1, text)
        refused = receiver.wait_sent(1)
        assert (refused.reason, refused.code) == ("refused", 463)
        receiver.events.remove(refused)
        assert simulator.client.heard() == []
        simulator.client.post("/shape", all=True, refuseSends=0)
        send(receiver, 2, CONTACT, "hello again")
        assert simulator.client.stats()["refusedMessages"] == 1


def test_what_a_text_answers_is_found_with_its_words(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001", "sim-00002"]) as receiver:
        receiver.open()
        simulator.client.post("/say", user="15550000000", text="when?")
        (row,) = receiver.take(1)
        receiver.store.done([row.seq])
        found = quoted_of(receiver.store, "sim-00001", row.chat, row.chat, row.message_id)
        assert found == (row.message_id, row.sender, row.content)
        assert quoted_of(receiver.store, "sim-00001", row.chat, row.chat, "M9") == ("M9", row.chat, b"")
        # Of another device of a person than the phone.
        send(receiver, 2, ONE, "by a device", by="sim-00002")
        (row,) = receiver.take(1)
        assert ":" in row.sender
        found = quoted_of(receiver.store, "sim-00001", row.chat, row.chat, row.message_id)
        assert found == (row.message_id, row.sender, row.content)
