"""Real Baileys reads what we write, in a chat and in a group: texts, replies, what it asked for again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.sim import Simulator
from support.listener import Listener
from support.receiver import Receiver, texts
from support.signal_peers import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(180),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]

US = "15550000000@s.whatsapp.net"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        yield simulator


def send(
    receiver: Receiver, token: int, chat: str, text: str, quoted: tuple[str, str, bytes] | None = None
) -> None:
    outgoing = _core.OutgoingText(
        token=token, chat=chat, message_id=f"3EB0{token:018X}", text=text, quoted=quoted
    )
    receiver.engine.send_text("sim-00001", 1, outgoing)
    event = receiver.wait("sent", "sim-00001", 1)
    receiver.events.remove(event)
    assert (event.token, event.reason) == (token, None)


def test_baileys_reads_a_first_text_of_ours_and_more(simulator: Simulator, tmp_path: Path) -> None:
    with (
        Listener(simulator.client, 1) as baileys,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        for token in range(1, 21):
            send(receiver, token, baileys.jid, f"text {token}")
        told = {(it["id"], it["text"]) for it in (baileys.told() for _ in range(20))}
        # Baileys tells them in an order of its own while it opens its first session.
        assert told == {(f"3EB0{token:018X}", f"text {token}") for token in range(1, 21)}
        (counters,) = receiver.engine.counters()
        assert counters.messages_resent == 0, "each is read the first time"


def test_baileys_writes_first_and_reads_our_quoted_reply(simulator: Simulator, tmp_path: Path) -> None:
    with (
        Listener(simulator.client, 1) as baileys,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        said = baileys.do(f"say {US} are you there?")["said"]
        (row,) = receiver.take(1)
        assert texts([row]) == [(said, "are you there?")]
        send(receiver, 1, row.chat, "yes", (row.message_id, row.sender, row.content or b""))
        told = baileys.told()
        assert (told["text"], told["quoted"], told["quotedText"]) == ("yes", said, "are you there?")
        send(receiver, 2, row.chat, "indeed")
        assert baileys.told()["text"] == "indeed"


def test_baileys_asks_for_what_it_could_not_read_and_gets_it(simulator: Simulator, tmp_path: Path) -> None:
    with (
        Listener(simulator.client, 1) as baileys,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        said = baileys.do(f"say {US} hello")["said"]
        (row,) = receiver.take(1)
        send(receiver, 1, row.chat, "before")
        assert baileys.told()["text"] == "before"
        assert baileys.do("lose")["lost"] >= 1
        send(receiver, 2, row.chat, "lost and found", (said, row.sender, row.content or b""))
        told = baileys.told()
        assert (told["id"], told["text"]) == (f"3EB0{2:018X}", "lost and found")
        (counters,) = receiver.engine.counters()
        assert counters.messages_resent >= 1
        send(receiver, 3, row.chat, "after")
        assert baileys.told()["text"] == "after"


@pytest.mark.pain(3, 4)
@pytest.mark.parametrize("by_lid", [False, True])
def test_baileys_reads_what_we_write_to_a_group_first_and_answers(
    simulator: Simulator, tmp_path: Path, by_lid: bool
) -> None:
    with (
        Listener(simulator.client, 1) as baileys,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        members = ["15550000000", "15550000001", "15559000000"]
        group = simulator.client.post("/group", members=members, lid=by_lid)["jid"]
        us = "915550000000@lid" if by_lid else "15550000000@s.whatsapp.net"
        send(receiver, 1, group, "text 1")
        told = [baileys.told()]  # Baileys opens messages side by side, and the others need its key
        for token in range(2, 11):
            send(receiver, token, group, f"text {token}")
        told += [baileys.told() for _ in range(9)]
        assert {(it["id"], it["text"]) for it in told} == {
            (f"3EB0{token:018X}", f"text {token}") for token in range(1, 11)
        }
        assert {(it["from"], it["by"]) for it in told} == {(group, us)}
        (counters,) = receiver.engine.counters()
        assert counters.messages_resent == 0, "each is read the first time"
        said = baileys.do(f"say {group} are you there?")["said"]
        (row,) = receiver.take(1)
        assert (row.chat, texts([row])) == (group, [(said, "are you there?")])
        send(receiver, 11, group, "yes", (row.message_id, row.sender, row.content or b""))
        told_of_reply = baileys.told()
        assert (told_of_reply["text"], told_of_reply["quoted"]) == ("yes", said)
        assert simulator.client.stats()["stalePhashes"] == 0


@pytest.mark.pain(3, 4)
def test_baileys_asks_for_what_it_could_not_read_in_a_group_and_gets_it(
    simulator: Simulator, tmp_path: Path
) -> None:
    with (
        Listener(simulator.client, 1) as baileys,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        group = simulator.client.post("/group", members=["15550000000", "15550000001"])["jid"]
        send(receiver, 1, group, "before")
        assert baileys.told()["text"] == "before"
        assert baileys.do("lose")["lost"] >= 2
        send(receiver, 2, group, "lost and found")
        told = baileys.told()
        assert (told["id"], told["text"]) == (f"3EB0{2:018X}", "lost and found")
        (counters,) = receiver.engine.counters()
        assert counters.messages_resent >= 1
        simulator.client.post("/group", jid=group, add=["15559000000"])
        send(receiver, 3, group, "after")
        assert baileys.told()["text"] == "after"
        simulator.client.post("/group", jid=group, remove=["15559000000"])
        send(receiver, 4, group, "with another key")
        assert baileys.told()["text"] == "with another key"
