"""Commands as a page writes them, run as a reader would: in a shell, beside a runner with its simulator."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from support.processes import ROOT, Process, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSION: Final = "sim-00003"
"""What stands for `ID` and `{whatsappId}`."""
COMMAND: Final = re.compile(r"((sudo )?(\.venv/bin/)?python -m runner|curl|\*/2 \* \* \* \*|http:/)[ /][^…]+")
_TOOLS: Final = {"python": sys.executable, "runner": f"{sys.executable} -m runner"}


def rows(page: Path) -> Iterator[tuple[str, list[str]]]:
    """What each row of the page's tables asks, and the commands in its other cells."""
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or len(cells) < 2 or cells[0] in ("asked", "---"):
            continue
        spans = (span for cell in cells[1:] for span in re.findall(r"`([^`]+)`", cell))
        yield cells[0], [span for span in spans if COMMAND.fullmatch(span)]


def blocks(page: Path) -> Iterator[str]:
    """The commands in the page's fenced blocks, without prompts, comments and where a reader keeps Python."""
    is_code = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif is_code:
            for piece in re.split(r"\s{3,}", re.sub(r"\s{3,}#.*", "", line)):
                command = piece.strip().removeprefix("$ ").replace(".venv/bin/python", "python")
                if re.match(r"(?:sudo )?python -m runner|curl |make |export |\*/2 ", command):
                    yield command


class Written(Process):
    """`python -m runner run --simulator N …`, and a shell in which what a page says works as it stands.

    Only the port differs: `4001` is this runner's.
    """

    def __init__(
        self, folder: Path, *args: str, sessions: int = 25, settings: dict[str, str] | None = None
    ) -> None:
        self.port, self.sessions = free_port(), sessions
        tools = folder / "bin"
        tools.mkdir(parents=True)
        for name, command in {**_TOOLS, "sudo": 'exec "$@"'}.items():
            text = command if name == "sudo" else f'exec {command} "$@"'
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WHATSAPP_")}
        self.env = {
            **clean,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "WHATSAPP_DATA_DIR": str(folder / "d"),
            "WHATSAPP_ADMIN_PORT": str(self.port),
            "WHATSAPP_LOG_FORMAT": "json",
            **(settings or {}),
        }
        self.args = ["-m", "runner", "run", "--simulator", str(sessions), *args]
        super().__init__([sys.executable, *self.args], self.env, folder / "runner.log")

    def was_started_as(self, command: str) -> bool:
        """Whether this is the runner that the page says to start."""
        return shlex.split(command) == ["python", *self.args]

    def typed(self, command: str) -> str:
        """The command with this runner's port, and a session where the page says which."""
        text = re.sub(r"(localhost|127\.0\.0\.1):4001", rf"\1:{self.port}", command)
        text = text.replace("{whatsappId}", SESSION).replace(".venv/bin/python", "python")
        return re.sub(r"\bID\b", SESSION, text)

    def run(self, command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """What the command, typed into a shell at the project's root, answers."""
        typed = self.typed(command)
        if typed.startswith("curl "):
            typed = typed.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
        return subprocess.run(
            ["bash", "-c", typed],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def said(self, command: str) -> str:
        """The same, of one that must succeed."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def told(self, command: str) -> Any:  # noqa: ANN401 - JSON
        """The same, of one that answers with JSON."""
        return json.loads(self.said(command))

    def following(self, command: str) -> Process:
        """One that goes on until it is ended, such as `logs -f`."""
        return Process(shlex.split(self.typed(command)), self.env, self.log.with_name("following.log"))

    def at_a_terminal(self, command: str) -> Process:
        """The same, with a terminal around it."""
        args = ["script", "--quiet", "--flush", "--return", "--command", self.typed(command), "/dev/null"]
        return Process(args, {**self.env, "TERM": "xterm"}, self.log.with_name("screen.log"))

    def printed(self, pattern: str) -> str:
        """The one line that the runner printed, at its start, that fits."""
        (line,) = [it for it in self.output().splitlines() if re.search(pattern, it)]
        return line.split("    #")[0].strip()

    def states(self) -> dict[str, int]:
        """How many sessions are in which state; none while nobody answers."""
        done = self.run("curl http://localhost:4001/performance-metrics?limit=0")
        return dict(json.loads(done.stdout)["states"]) if done.returncode == 0 else {}

    def wait_online(self) -> None:
        """Until all are."""

        def all_online() -> bool:
            assert self.child.poll() is None, self.output()[-3000:]
            return self.states().get("online", 0) == self.sessions

        wait_until(all_online, 60.0, f"{self.sessions} online", every_s=0.1)
