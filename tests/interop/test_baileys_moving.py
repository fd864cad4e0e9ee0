"""A device that a phone linked here moves to real Baileys and back, by the commands that operators have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.sim import SimulatorControl
from support.listener import Listener
from support.processes import RunnerProcess, SimulatorProcess, wait_until
from support.signal_peers import missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(180),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]

PHONE = "15550007777"
US = f"{PHONE}@s.whatsapp.net"
ROUNDS = 5


class Talk:
    """A contact, which is Baileys, and whoever is our device now; in a group the contact alone writes."""

    def __init__(self, control: SimulatorControl, contact: Listener) -> None:
        self.control, self.contact = control, contact
        self.group = control.post("/group", members=[PHONE, contact.jid.partition("@")[0]])["jid"]
        self.count = 0
        self.encs: list[str] = []
        """How what came from our device was encrypted."""

    def say(self, to: str) -> str:
        """The contact writes; the words."""
        self.count += 1
        self.contact.do(f"say {to} words {self.count}")
        return f"words {self.count}"

    def hear(self, write: Callable[[str], Any]) -> None:
        """Our device writes, and the contact reads it."""
        self.count += 1
        write(f"words {self.count}")
        told = self.contact.told()
        assert told["text"] == f"words {self.count}"
        self.encs.append(told["enc"])

    def nobody_asked(self) -> bool:
        """Whether no device has asked for any message again."""
        return not any(it["attrs"].get("type") == "retry" for it in self.control.sent(tag="receipt"))


def talk_here(talk: Talk, runner: RunnerProcess) -> None:
    """In turns with the session of the runner."""
    for _ in range(ROUNDS):
        before = talk.control.stats()["relayedReceipts"]
        talk.say(US)
        talk.say(talk.group)
        wait_until(lambda: talk.control.stats()["relayedReceipts"] >= before + 2, 30.0, "receipts")  # noqa: B023

        def write(words: str) -> None:
            body = {"session": "shop-1", "chatId": talk.contact.jid, "text": words}
            status, told = runner.request("POST", "/api/sendText", body, timeout_s=60.0)
            assert status == 200, told

        talk.hear(write)


@pytest.mark.pain(3, 4, 11)
def test_a_device_that_was_linked_here_goes_on_in_baileys_and_back(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    with SimulatorProcess(tmp_path, sessions=1) as sim, RunnerProcess(tmp_path, sim) as runner:
        runner.wait_api()
        control = SimulatorControl(sim.control)
        assert runner.request("POST", "/api/sessions", {"id": "shop-1"})[0] == 201
        shown = runner.request("GET", "/api/shop-1/auth/qr?format=raw", timeout_s=40.0)[1]
        control.post("/pair", qr=shown["value"], phone=PHONE)
        runner.wait_state("shop-1", "online")
        with Listener(control) as contact:
            talk = Talk(control, contact)
            talk_here(talk, runner)

            done = runner.command("export", "shop-1", str(moved), "--format", "baileys", "--force")
            assert done.returncode == 0, done.stderr
            away = [talk.say(US), talk.say(talk.group)]
            with Listener(control, directory=moved) as baileys:
                assert [baileys.told()["text"] for _ in away] == away
                for _ in range(ROUNDS):
                    for to in (US, talk.group):
                        words = talk.say(to)
                        told = baileys.told()
                        assert (told["text"], told["enc"]) == (words, "msg" if to == US else "skmsg")
                    talk.hear(lambda words: baileys.do(f"say {contact.jid} {words}"))
                baileys.leave()

            assert runner.command("delete", "shop-1", "--yes").returncode == 0
            done = runner.command("import", str(moved), "--id", "shop-1")
            assert done.returncode == 0, done.stderr
            runner.wait_state("shop-1", "online")
            talk_here(talk, runner)
            assert set(talk.encs) == {"msg"}, "one session from the beginning to the end"
            assert talk.nobody_asked()
        assert runner.stop() == 0
        assert "cannot be read" not in runner.output()
