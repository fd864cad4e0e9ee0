"""Real whatsmeow links itself with our simulator, writes to us through it, and reads what we write.

With a thousand messages: `FOREIGN_MESSAGES=1000 .venv/bin/pytest tests/interop/test_whatsmeow.py`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import _core
from runner.sim import Simulator
from support.control import Control
from support.receiver import Receiver, texts
from support.signal_peers import missing
from support.whatsmeow import Whatsmeow, build, start

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing("whatsmeow") is not None, reason=str(missing("whatsmeow"))),
]


MESSAGES = int(os.environ.get("FOREIGN_MESSAGES", "64"))
"""Of one client, in four rounds. At most a thousand: whatsmeow remembers 256 to send again."""
US, THEM = "15550000000", "15550007001"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whatsmeow"))


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sessions=1, directory=str(tmp_path / "sim")) as simulator:
        yield simulator


@pytest.fixture
def whatsmeow(binary: Path, simulator: Simulator) -> Iterator[Whatsmeow]:
    with start(binary, simulator) as program:
        yield Whatsmeow(program)


@pytest.mark.pain(18)
@pytest.mark.parametrize("by_code", [False, True])
def test_whatsmeow_links_itself(simulator: Simulator, whatsmeow: Whatsmeow, by_code: bool) -> None:
    told = whatsmeow.link(simulator, "a", THEM, by_code=by_code)
    assert told["jid"].startswith(f"{THEM}:")
    assert told["lid"].endswith("@lid")


@pytest.mark.pain(3, 4)
@pytest.mark.parametrize("by_lid", [False, True])
def test_whatsmeow_writes_in_a_chat_and_in_a_group_and_every_message_is_read_once(
    tmp_path: Path, simulator: Simulator, whatsmeow: Whatsmeow, by_lid: bool
) -> None:
    """Four rounds: both are there; we are away; messages break on their way; that and both are away."""
    whatsmeow.link(simulator, "a", THEM)
    group = simulator.client.post("/group", members=[US, THEM], lid=by_lid)["jid"]
    chat = chat_of(by_lid)
    sent: list[tuple[str, str]] = []

    def write(number: int) -> int:
        """One round of messages, to both in turn; how many there are so far."""
        for n in range(number * MESSAGES // 8, (number + 1) * MESSAGES // 8):
            for to, words in ((chat, f"chat {n}"), (group, f"group {n}")):
                (told,) = whatsmeow.call("send", "a", to=to, texts=[words])["ids"]
                sent.append((told, words))
        return len(sent)

    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        receiver.take_read(write(0))
        receiver.leave(1)
        write(1)
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open(2)
        receiver.take_read(len(sent))
        simulator.client.post("/config", spoilEvery=8)
        receiver.take_read(write(2))
        receiver.leave(2)
        write(3)
        whatsmeow.call("disconnect", "a")
        waiting = simulator.client.stats()["queuedOffline"]
        receiver.open(3)
        # Each of this round is receipted or asked for again.
        Control(simulator.control).wait_stats(queuedOffline=waiting + len(sent) // 4)
        whatsmeow.call("connect", "a")
        rows = receiver.take_read(len(sent))
        assert sorted(texts(rows)) == sorted(sent)
        assert {row.kind for row in rows} == {"text"}
        assert sum(row.chat == group for row in rows) == len(sent) // 2
        told = whatsmeow.call("receipts", "a", count=len(sent))
        assert set(told["ids"]) == {message_id for message_id, _ in sent}
        spoiled = simulator.client.stats()["messagesSpoiled"]
        # What whatsmeow sends again may have the key of what it writes meanwhile: asked for once more.
        assert told["retries"] >= spoiled == len(sent) // 16


@pytest.mark.pain(3, 4)
@pytest.mark.parametrize("by_lid", [False, True])
def test_whatsmeow_reads_what_we_write_first_and_answers(
    tmp_path: Path, simulator: Simulator, whatsmeow: Whatsmeow, by_lid: bool
) -> None:
    """Every eighth breaks on its way, in both directions; a third of ours waits until they are back."""
    them = whatsmeow.link(simulator, "a", THEM)
    chat = f"{them['lid'].partition(':')[0]}@lid" if by_lid else f"{THEM}@s.whatsapp.net"
    ours: list[tuple[str, str]] = []
    theirs: list[tuple[str, str]] = []
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        simulator.client.post("/config", spoilEvery=8)

        def write(count: int) -> None:
            for n in range(len(ours), len(ours) + count):
                ours.append((f"OURS{n:08}", f"ours {n} ✓"))
                text = _core.OutgoingText(token=n, chat=chat, message_id=ours[n][0], text=ours[n][1])
                receiver.engine.send_text("sim-00001", 1, text)
                assert receiver.wait_sent(n).reason is None

        write(MESSAGES // 6)
        whatsmeow.call("received", "a", count=len(ours))
        for n in range(MESSAGES // 6):
            words = f"theirs {n}"
            (told,) = whatsmeow.call("send", "a", to=chat_of(by_lid), texts=[words])["ids"]
            theirs.append((told, words))
            receiver.take_read(len(theirs))
        write(MESSAGES // 6)
        whatsmeow.call("received", "a", count=len(ours))
        # Not longer away than ten: of what we keep to send again, one of twenty is gone fifty messages later.
        for _ in range(MESSAGES // 60):
            whatsmeow.call("disconnect", "a")
            write(10)
            whatsmeow.call("connect", "a")
            whatsmeow.call("received", "a", count=len(ours))
        read = whatsmeow.call("received", "a", count=len(ours))
        assert sorted((text["id"], text["text"]) for text in read["texts"]) == sorted(ours)
        assert read["unreadable"] > 0, "some had to be asked for again"
        assert simulator.client.stats()["backlogsWaited"] == 0, "what waited came at once"
        assert sorted(texts(receiver.take_read(len(theirs)))) == sorted(theirs)
        assert simulator.client.stats()["messagesSpoiled"] >= (len(ours) + len(theirs)) // 8
        # Nothing is left without an answer.
        Control(simulator.control).wait_for("/owed", lambda rows: not any(row["count"] for row in rows))


@pytest.mark.pain(3, 4)
@pytest.mark.parametrize("by_lid", [False, True])
def test_whatsmeow_reads_what_we_write_to_a_group_first_and_answers(
    tmp_path: Path, simulator: Simulator, whatsmeow: Whatsmeow, by_lid: bool
) -> None:
    """Every eighth breaks on its way, in both directions; somebody comes and leaves meanwhile."""
    whatsmeow.link(simulator, "a", THEM)
    group = simulator.client.post("/group", members=[US, THEM], lid=by_lid)["jid"]
    ours: list[tuple[str, str]] = []
    theirs: list[tuple[str, str]] = []
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()

        def write(count: int) -> None:
            for n in range(len(ours), len(ours) + count):
                ours.append((f"OURS{n:08}", f"ours {n} ✓"))
                text = _core.OutgoingText(token=n, chat=group, message_id=ours[n][0], text=ours[n][1])
                receiver.engine.send_text("sim-00001", 1, text)
                assert receiver.wait_sent(n).reason is None
            whatsmeow.call("received", "a", count=len(ours))

        def read(count: int) -> None:
            for n in range(len(theirs), len(theirs) + count):
                (told,) = whatsmeow.call("send", "a", to=group, texts=[f"theirs {n}"])["ids"]
                theirs.append((told, f"theirs {n}"))
                receiver.take_read(len(theirs))

        write(MESSAGES // 8)
        read(MESSAGES // 8)
        assert simulator.client.stats()["stalePhashes"] == 0, "both name the same devices, by the same hash"
        simulator.client.post("/config", spoilEvery=8)
        write(MESSAGES // 8)
        simulator.client.post("/group", jid=group, add=["15559000000"])
        write(MESSAGES // 8)
        read(MESSAGES // 8)
        simulator.client.post("/group", jid=group, remove=["15559000000"])
        write(MESSAGES // 8)
        told = whatsmeow.call("received", "a", count=len(ours))
        assert sorted((text["id"], text["text"]) for text in told["texts"]) == sorted(ours)
        assert {text["chat"] for text in told["texts"]} == {group}
        assert told["unreadable"] > 0, "some had to be asked for again"
        rows = receiver.take_read(len(theirs))
        assert sorted(texts(rows)) == sorted(theirs)
        assert {row.chat for row in rows} == {group}
        # Nothing is left without an answer.
        Control(simulator.control).wait_for("/owed", lambda rows: not any(row["count"] for row in rows))


@pytest.mark.pain(3, 4)
def test_whatsmeow_as_our_own_other_device_reads_what_we_write_in_groups(
    tmp_path: Path, simulator: Simulator, whatsmeow: Whatsmeow
) -> None:
    """It comes when the group has heard of us already, and is told the key that there is."""
    group = simulator.client.post("/group", members=[US, "15559000000"])["jid"]
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()

        def write(n: int) -> None:
            text = _core.OutgoingText(token=n, chat=group, message_id=f"OURS{n}", text=f"ours {n}")
            receiver.engine.send_text("sim-00001", 1, text)
            assert receiver.wait_sent(n).reason is None

        write(0)
        linked = whatsmeow.link(simulator, "a", US)
        assert linked["jid"].startswith(f"{US}:")
        # Of the first the server says that it was for too few devices, and that device asks for it.
        for n in range(1, 4):
            write(n)
        told = whatsmeow.call("received", "a", count=3)
        assert sorted(text["text"] for text in told["texts"]) == ["ours 1", "ours 2", "ours 3"]
        assert simulator.client.stats()["stalePhashes"] == 1
        (said,) = whatsmeow.call("send", "a", to=group, texts=["mine"])["ids"]
        (row,) = receiver.take_read(1)
        assert (row.chat, texts([row])) == (group, [(said, "mine")])
        heard = {it["text"] for it in simulator.client.heard()}
        assert heard == {"ours 0", "ours 1", "ours 2", "ours 3", "mine"}


def chat_of(by_lid: bool) -> str:
    """Our user, as they call it."""
    return f"9{US}@lid" if by_lid else f"{US}@s.whatsapp.net"
