"""A device out of a backup reads what comes, asks for what it cannot, and writes in new sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.sim import Simulator
from support.control import Control
from support.receiver import Receiver

if TYPE_CHECKING:
    from pathlib import Path

CONTACT = "15559000000@s.whatsapp.net"
NAME = "sim-00001"

pytestmark = pytest.mark.timeout(120)


def write(receiver: Receiver, connection: int, token: int) -> None:
    """We write to the contact, which says back what it hears."""
    text = _core.OutgoingText(token=token, chat=CONTACT, message_id=f"OURS{token}", text=f"text {token}")
    receiver.engine.send_text(NAME, connection, text)


@pytest.mark.pain(5, 11)
def test_contacts_of_a_restored_device_read_it_and_are_read(tmp_path: Path) -> None:
    with Simulator(sessions=1, directory=str(tmp_path / "sim")) as simulator:
        control = Control(simulator.control)
        with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
            receiver.open(1)
            for token in (1, 2):
                write(receiver, 1, token)
                receiver.take_read(token)
            assert receiver.store.backup(tmp_path / "copy.db", "test").sessions == 1
            for token in (3, 4, 5):  # what the backup knows nothing of
                write(receiver, 1, token)
                receiver.take_read(token)
        control.wait_stats(contactHeard=5)

        restored = _core.restore_store(tmp_path / "again.db", tmp_path / "copy.db", replace=False)
        assert (restored.sessions, restored.unreadable) == (1, [])
        with Receiver(tmp_path / "again.db", simulator, [NAME]) as receiver:
            receiver.open(2)
            control.post("/say", user=15550000000, text="are you there?")
            receiver.take_read(3)
            for token in (6, 7, 8):
                write(receiver, 2, token)
                receiver.take_read(token - 2)
        control.wait_stats(contactHeard=8)
        # Both have turned the ratchet since the backup: the contact's next message had to be sent once more,
        # and with it began the session in which all else was read.
        assert simulator.client.stats()["contactRetries"] == 1


@pytest.mark.pain(5, 11)
def test_a_group_is_told_a_new_key_after_a_restore_and_reads_all(tmp_path: Path) -> None:
    with Simulator(sessions=1, directory=str(tmp_path / "sim")) as simulator:
        control = Control(simulator.control)
        members = ["15550000000", "15559000000", "15559000001"]
        group = simulator.client.post("/group", members=members)["jid"]

        def write_there(receiver: Receiver, connection: int, token: int) -> None:
            text = _core.OutgoingText(token=token, chat=group, message_id=f"G{token}", text=f"text {token}")
            receiver.engine.send_text(NAME, connection, text)
            assert receiver.wait_sent(token).reason is None

        with Receiver(tmp_path / "store.db", simulator, [NAME]) as receiver:
            receiver.open(1)
            for token in (1, 2):
                write_there(receiver, 1, token)
            assert receiver.store.backup(tmp_path / "copy.db", "test").sessions == 1
            for token in (3, 4, 5):  # whose numbers in the chain the backup would use again
                write_there(receiver, 1, token)
        _core.restore_store(tmp_path / "again.db", tmp_path / "copy.db", replace=False)
        with Receiver(tmp_path / "again.db", simulator, [NAME]) as receiver:
            receiver.open(2)
            for token in (6, 7, 8):
                write_there(receiver, 2, token)
            control.wait_stats(contactHeard=8 * 2)
            (counters,) = receiver.engine.counters()
            assert counters.messages_resent == 0, "each is read the first time"
