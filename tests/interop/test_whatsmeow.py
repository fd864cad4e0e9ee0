"""Real whatsmeow links itself with our simulator, and writes to us through it.

With a thousand messages: `FOREIGN_MESSAGES=1000 .venv/bin/pytest tests/interop/test_whatsmeow.py`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    chat = f"9{US}@lid" if by_lid else f"{US}@s.whatsapp.net"
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
