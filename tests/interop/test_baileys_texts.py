"""Real Baileys reads what we write: a text, a quoted reply, and what it had to ask for again."""

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
