"""`run --simulator N`: a WhatsApp Web server of our own beside the runner, nothing real."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.admin.sockets import SocketLock
from runner.config import Settings
from runner.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_PROCESS_ABOVE: Final = 5000
"""More sessions than this get a process of their own, so that its work is not measured as the runner's."""
CHATTER_PER_MINUTE: Final = 6
"""Messages that contacts write to the sessions by themselves, so that there is something to see."""
DIRECTORY: Final = "simulator"
"""Below the data directory: the store and the credentials of a run with its own simulator."""
_CONTROL_FILE: Final = "control.url"
_RATE_PER_S: Final = 1000.0
_CONCURRENCY: Final = 200


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What `run --simulator` asks for."""

    sessions: int
    chatter_per_minute: float | None = None
    """Messages that contacts write by themselves, over all sessions; None: `CHATTER_PER_MINUTE`."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the simulator listens."""

    url: str
    control: str
    root_key_hex: str
    ca_file: str | None
    credentials: Path


@contextmanager
def simulator(rehearsal: Rehearsal, directory: Path) -> Iterator[Server]:
    """A simulator with credentials for the devices of a rehearsal below `directory`, which is emptied first.

    Errors: LeaseHeldError when another runner uses it: emptying it would pull the store from under that one.
    """
    from runner.sim import SimulatorControl

    sessions, wanted = rehearsal.sessions, rehearsal.chatter_per_minute
    per_minute = CHATTER_PER_MINUTE if wanted is None else wanted
    lock = SocketLock(directory)
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        with (_own_process if sessions > OWN_PROCESS_ABOVE else _in_process)(sessions, directory) as server:
            SimulatorControl(server.control).post("/chatter", perMinute=per_minute)
            (directory / _CONTROL_FILE).write_text(server.control, encoding="ascii")
            yield server
    finally:
        lock.close()


def control_url(data_dir: Path) -> str:
    """The control port of the simulator that `run --simulator` started with this data directory.

    Errors: StartError when there is none.
    """
    try:
        return (data_dir / DIRECTORY / _CONTROL_FILE).read_text(encoding="ascii")
    except OSError as error:
        raise StartError(
            f"no simulator was started with {data_dir}",
            "start one (python -m runner run --simulator 25), or name its control port with --control",
        ) from error


@contextmanager
def _in_process(sessions: int, directory: Path) -> Iterator[Server]:
    from runner.sim import Simulator

    running = Simulator(sessions=sessions, directory=str(directory / "server"))
    try:
        yield Server(
            running.url, running.control, running.root_key_hex, running.ca_file, Path(running.credentials)
        )
    finally:
        running.stop()


@contextmanager
def _own_process(sessions: int, directory: Path) -> Iterator[Server]:
    args = [
        sys.executable,
        "-m",
        "runner",
        "sim",
        "--sessions",
        str(sessions),
        "--directory",
        str(directory / "server"),
        "--parent",
        str(os.getpid()),
    ]
    # A group of its own: Ctrl-C must reach the runner first, or every session would see the server die.
    with subprocess.Popen(args, stdout=subprocess.PIPE, process_group=0) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line:
                raise StartError("the simulator's process ended before it listened")
            said = json.loads(line)
            yield Server(
                said["url"],
                said["control"],
                said["rootKeyHex"],
                said.get("caFile"),
                Path(said["credentials"]),
            )
        finally:
            child.terminate()


def settings_for(server: Server, settings: Settings) -> Settings:
    """The settings of the operator, pointed at the simulator, with a dial rate that suits a loopback demo."""
    default = Settings()
    return replace(
        settings,
        endpoint=server.url,
        root_key=server.root_key_hex,
        tls_ca=server.ca_file or "",
        proxy="",
        connect_rate=_RATE_PER_S if settings.connect_rate == default.connect_rate else settings.connect_rate,
        connect_concurrency=(
            _CONCURRENCY
            if settings.connect_concurrency == default.connect_concurrency
            else settings.connect_concurrency
        ),
    )


def where_to_look(sessions: int, settings: Settings, control: str) -> str:
    """What is printed for the person who started it. `control`: base URL of the simulator's control port."""
    runner = _as_called()
    lines = [f"runner with its own simulator, {sessions} sessions."]
    if settings.admin_port:
        lines.append(f"The dashboard is at http://localhost:{settings.admin_port}/")
    lines += ["", "From another terminal:", ""]
    if settings.data_dir:
        lines.append(f"  export WHATSAPP_DATA_DIR={shlex.quote(str(settings.data_path.absolute()))}")
    lines += [
        f"  {runner} status",
        f"  {runner} sessions",
        f"  {runner} top                         # the same, live; q ends it",
        f"  {runner} alerts",
        f"  {runner} sim say sim-00001 hello     # a contact writes; all the time: sim chatter 2/s",
        f"  {runner} pair shop-1                 # from a third terminal, sim scan shop-1 plays the phone",
    ]
    if settings.admin_port:
        at = f"http://localhost:{settings.admin_port}"
        lines += [
            f"  curl {at}/performance-metrics",
            f"  curl {at}/reconnection-status",
            f"  curl -X POST {at}/force-reconnection/sim-00001",
            f"  curl -X POST {at}/reset-circuit-breaker/sim-00001",
        ]
    lines += [
        f"  curl --unix-socket {shlex.quote(str(settings.socket_path))} http://localhost/health",
        f"  curl -X POST {control}/drop-all      # drop everybody; more faults: docs/simulator.md",
        "",
        "Ctrl-C ends it.",
        "",
    ]
    return "\n".join(lines)


def _as_called() -> str:
    """The command that this process was started by, as the same person can type it here."""
    if Path(sys.argv[0]).name == "runner":
        return sys.argv[0]
    python, here = Path(sys.executable), Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m runner"
