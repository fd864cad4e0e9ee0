"""Real Baileys writes to us through our simulator: nobody here wrote both ends of the encryption.

With a thousand messages: `FOREIGN_MESSAGES=1000 .venv/bin/pytest tests/interop/test_baileys_messages.py`.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner import _core
from runner.baileys_export import files_of, write_directory
from runner.sim import Simulator
from runner.wire import Node, decode_node
from support.control import Control
from support.processes import BAILEYS
from support.receiver import Receiver, texts
from support.signal_peers import missing

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(180),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]

COUNT = 100
FOREIGN_MESSAGES = int(os.environ.get("FOREIGN_MESSAGES", "60"))
"""In a chat and a group together."""


def write(
    simulator: Simulator, index: int, count: int, *more: str, to: str = "15550000000@s.whatsapp.net"
) -> dict[str, Any]:
    """What device `index`, which is Baileys, says that it sent: to device 0, or to each of `to` in turn."""
    info = json.dumps(simulator.client.info())
    options = ["--index", str(index), "--to", to, "--count", str(count), *more]
    run = subprocess.run(
        ["node", "sim_messages.mjs", info, *options],
        cwd=BAILEYS,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return dict(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.pain(3, 4)
def test_baileys_writes_a_hundred_messages_and_each_is_read_and_receipted(tmp_path: Path) -> None:
    with (
        Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        receiver.open()
        told = write(simulator, 1, COUNT)
        rows = receiver.take(COUNT)
        assert texts(rows) == [tuple(pair) for pair in told["sent"]]
        assert {row.kind for row in rows} == {"text"}
        assert told["retries"] == 0
        assert set(told["receipts"]) == {message_id for message_id, _ in told["sent"]}


@pytest.mark.pain(3)
def test_what_baileys_wrote_while_we_were_away_is_read_later(tmp_path: Path) -> None:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
            receiver.open()
            before = write(simulator, 1, 5)
            receiver.take(5)
        # It was set up anew meanwhile: the same keys, and no session with us.
        away = write(simulator, 1, 20, "--patience", "0")
        with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
            receiver.open(2)
            rows = receiver.take(25)
            assert texts(rows) == [tuple(pair) for pair in before["sent"] + away["sent"]]
            Control(simulator.control).wait_stats(relayedReceipts=25)


@pytest.mark.pain(3, 4)
@pytest.mark.parametrize("by_lid", [False, True])
def test_baileys_writes_in_a_chat_and_in_a_group_over_a_bad_line(tmp_path: Path, by_lid: bool) -> None:
    """One by one: Baileys may send again with the key of what it writes meanwhile, and gives up after two."""
    with (
        Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator,
        Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver,
    ):
        members = ["15550000000", "15550000001"]
        group = simulator.client.post("/group", members=members, lid=by_lid)["jid"]
        chat = "915550000000@lid" if by_lid else "15550000000@s.whatsapp.net"
        simulator.client.post("/config", spoilEvery=20)
        receiver.open()
        told = write(simulator, 1, FOREIGN_MESSAGES, "--one-by-one", to=f"{chat},{group}")
        rows = receiver.take_read(FOREIGN_MESSAGES)
        assert sorted(texts(rows)) == sorted(tuple(pair) for pair in told["sent"])
        assert sum(row.chat == group for row in rows) == FOREIGN_MESSAGES // 2
        assert set(told["receipts"]) == {message_id for message_id, _ in told["sent"]}
        assert told["retries"] == simulator.client.stats()["messagesSpoiled"] >= FOREIGN_MESSAGES // 20


@pytest.mark.pain(3, 4, 11)
def test_a_device_taken_over_from_baileys_goes_on_reading_where_it_stopped(tmp_path: Path) -> None:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        info = json.dumps(simulator.client.info())
        command = ["node", "sim_conversation.mjs", info, "--rounds", "5", "--count", "50"]
        with subprocess.Popen(
            command, cwd=BAILEYS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as conversation:
            try:
                assert conversation.stdin is not None
                assert conversation.stdout is not None
                taken = json.loads(conversation.stdout.readline())
                assert taken["read"] == [f"to {n}" for n in range(5)]
                directory = Path(taken["directory"])
                with Receiver(
                    tmp_path / "store.db", simulator, [directory.name], credentials=directory.parent
                ) as receiver:
                    receiver.open()
                    conversation.stdin.write("\n")
                    conversation.stdin.flush()
                    told = json.loads(conversation.stdout.readline())
                    rows = receiver.take(50)
                assert conversation.wait(30) == 0
            finally:
                conversation.kill()
    assert texts(rows) == [tuple(pair) for pair in told["sent"]]
    kinds = {child.attrs["type"] for row in rows for child in encs(row.stanza)}
    assert kinds == {"msg"}, "the session that Baileys had goes on"
    assert told["retries"] == 0


@pytest.mark.pain(3, 4, 11)
def test_an_exported_device_goes_on_in_baileys_and_its_contact_notices_nothing(tmp_path: Path) -> None:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        info = json.dumps(simulator.client.info())
        command = ["node", "sim_conversation.mjs", info, "--rounds", "3", "--count", "20", "--back"]
        with subprocess.Popen(
            command, cwd=BAILEYS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as conversation:
            assert conversation.stdin is not None
            assert conversation.stdout is not None
            try:
                directory = Path(json.loads(conversation.stdout.readline())["directory"])
                session_id = directory.name
                with Receiver(
                    tmp_path / "store.db", simulator, [session_id], credentials=directory.parent
                ) as receiver:
                    receiver.open()
                    conversation.stdin.write("\n")
                    conversation.stdin.flush()
                    told = json.loads(conversation.stdout.readline())
                    assert texts(receiver.take(20)) == [tuple(pair) for pair in told["sent"]]
                store = _core.Store(tmp_path / "store.db")
                device = store.export(session_id)
                store.close()
                assert device.left_out == []
                write_directory(tmp_path / "exported", files_of(device))
                conversation.stdin.write(f"{tmp_path / 'exported'}\n")
                conversation.stdin.flush()
                after = json.loads(conversation.stdout.readline())
                assert conversation.wait(30) == 0
            finally:
                conversation.kill()
    assert after["read"] == [f"back {n}" for n in range(20)]
    assert after["heard"] == [f"home {n}" for n in range(20)]
    assert (told["retries"], after["retries"]) == (0, 0)


def encs(stanza: bytes) -> list[Node]:
    """The `<enc>` of a kept stanza."""
    content = decode_node(stanza).content
    assert isinstance(content, list)
    return [child for child in content if child.tag == "enc"]
