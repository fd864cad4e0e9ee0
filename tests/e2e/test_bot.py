"""A bot that answers, with real processes, and is killed after its answer, before the note of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.control import Control
from support.processes import RunnerProcess, SimulatorProcess, import_all, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BOT = """
import os, pathlib, signal
from runner import App, Message, Session

app = App()
killed = pathlib.Path(os.environ["KILLED"])

@app.on_message
async def answer(session: Session, message: Message) -> None:
    await message.reply(f"one for {message.text}")
    await message.reply(f"two for {message.text}", quote=False)
    if not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""
RUN = """
import sys
sys.path.insert(0, {folder!r})
from runner.cli.main import cli
cli(["run", "answering_bot:app"])
"""


@pytest.mark.pain(3)
@pytest.mark.parametrize(("in_group", "readers"), [(False, 1), (True, 10)])
def test_a_bot_that_is_killed_after_its_answer_answers_again_under_the_same_ids(
    tmp_path: Path, in_group: bool, readers: int
) -> None:
    (tmp_path / "answering_bot.py").write_text(BOT)
    code, folder = RUN.format(folder=str(tmp_path)), tmp_path / "r"
    settings = {"KILLED": str(tmp_path / "killed")}
    with SimulatorProcess(tmp_path, sessions=1) as server:
        control = Control(server.control)

        def heard(n: int) -> list[dict[str, Any]]:
            """What the first contact heard, once all who are there heard so many texts."""
            found = list(control.get("/heard"))
            return [it for it in found if it["contact"] == 0] if len(found) >= n * readers else []

        with RunnerProcess(folder, server, settings, code) as runner:
            import_all(server.credentials, runner.env)
            runner.wait_online(1)
            control.post("/say", all=True, text="hello", group=in_group)
            wait_until(lambda: heard(2), 30, "both answers")
            wait_until(lambda: runner.child.poll() is not None, 20, "killed by its bot")
        with RunnerProcess(folder, server, settings, code) as runner:
            runner.wait_online(1)
            told = wait_until(lambda: heard(4), 30, "both answers again")
            wait_until(
                lambda: (
                    runner.request("GET", "/performance-metrics?limit=0")[1]["store"]["inboxPending"] == 0
                ),
                20,
                "confirmed",
            )
    first, again = told[:2], told[2:]
    assert [it["text"] for it in first] == ["one for hello", "two for hello"]
    assert [(it["id"], it["text"]) for it in again] == [(it["id"], it["text"]) for it in first]
    assert len({it["id"] for it in first}) == 2
    assert first[0]["quoted"] is not None
    assert "quoted" not in first[1]
    assert all(("group" in it) == in_group for it in told)
