"""Tests of a user's bot as it will run: a runner in a process of its own, against the simulator.

Slower than `runner.testing` by a second or two, and the whole of it: connections, encryption, the store. The
pytest plugin has it as the fixture `runner_live` (docs/app.md, "Testing a bot").
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runner.embedded import control_url
from runner.errors import StartError
from runner.sim import FIRST_USERNAME, SimulatorControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.02
_LOG: Final = "runner.log"


@dataclass(frozen=True, slots=True)
class Heard:
    """A text that a contact got from the bot."""

    contact: int
    """Which of the ten, from 1."""
    text: str
    id: str
    quotes: str | None
    """The id of the message that it answers, where it shows that."""
    group: str | None = None
    """The group that it was written in."""


class LiveBot:
    """A running bot. Its sessions are `sim-00001` and so on; ten contacts can write to them."""

    def __init__(self, child: subprocess.Popen[bytes], directory: Path) -> None:
        self._child, self._directory = child, directory
        self._control: SimulatorControl | None = None

    @property
    def control(self) -> SimulatorControl:
        """The simulator, for everything else that it can do (docs/simulator.md)."""
        if self._control is None:
            self._control = SimulatorControl(control_url(self._directory))
        return self._control

    def say(self, text: str, *, session: int = 1, contact: int = 1, group: bool = False) -> None:
        """A contact (1 to 10) writes to a session (from 1), or in the group that it has with the contacts."""
        to = FIRST_USERNAME + session - 1
        self.control.post("/say", user=to, text=text, contact=contact - 1, group=group)

    def wait_heard(self, count: int, timeout_s: float = PATIENCE_S) -> list[Heard]:
        """What contacts got from the bot so far, once it is at least `count` texts.

        Errors: AssertionError with what there is; StartError when the runner has ended.
        """

        def enough() -> list[dict[str, Any]] | None:
            rows = self.control.heard()
            return rows if len(rows) >= count else None

        rows = self._until(enough, timeout_s)
        if rows is None:
            raise AssertionError(f"not {count} texts in {timeout_s:g} s but {self.control.heard()}")
        return [
            Heard(row["contact"] + 1, row["text"], row["id"], row.get("quoted"), row.get("group"))
            for row in rows
        ]

    def log(self) -> str:
        """What the runner has printed and logged."""
        return (self._directory / _LOG).read_text(encoding="utf-8", errors="replace")

    def wait_online(self, sessions: int) -> None:
        """Errors: StartError, with the runner's last words."""

        def online() -> bool | None:
            try:
                rows = self.control.sessions()
            except (StartError, OSError):
                return None
            return sum(row["loggedInAt"] is not None for row in rows) >= sessions or None

        if self._until(online, PATIENCE_S) is None:
            raise StartError(f"the bot is not online after {PATIENCE_S:g} s: {self.log()[-2000:]}")

    def _until(self, look: Callable[[], T | None], timeout_s: float) -> T | None:
        pause, deadline = threading.Event(), time.monotonic() + timeout_s
        while (found := look()) is None and time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise StartError(f"the runner has ended: {self.log()[-2000:]}")
            pause.wait(_LOOK_S)
        return found


@contextmanager
def live_bot(reference: str, directory: Path, *, sessions: int = 1) -> Iterator[LiveBot]:
    """Run the app `MODULE:NAME` with a simulator of its own, until the block ends; `directory` is new.

    The module is looked for in the current directory, as `python -m runner run` does. Settings of this
    environment (`WHATSAPP_*`) hold, but for the data directory and the port of the API, which is not opened.
    Errors: StartError when it does not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "WHATSAPP_DATA_DIR": str(directory), "WHATSAPP_ADMIN_PORT": "0"}
    command = [
        sys.executable,
        "-m",
        "runner",
        "run",
        "--simulator",
        str(sessions),
        "--chatter",
        "off",
        reference,
    ]
    with (directory / _LOG).open("wb") as log:
        child = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:
        bot = LiveBot(child, directory)
        bot.wait_online(sessions)
        yield bot
    finally:
        child.terminate()
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
