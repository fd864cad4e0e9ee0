"""Trouble in one session, the user's and ours: what the others notice of it, of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.control import Control
from support.latencies import Latencies
from support.messages import wait_answered
from support.pair import running, users_of
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.faults import Figures
    from support.pair import Pair
    from support.processes import SimulatorProcess

BOT = """
import os
from runner import App, Message, Session

app = App()
victim = os.environ["VICTIM"]

@app.on_message
async def handle(session: Session, message: Message) -> None:
    if session.id == victim:
        raise ValueError("a bug of the user's")
"""

CODE = """
import os, pathlib, sys
sys.path.insert(0, {folder!r})
from runner.supervisor.machine import Machine

def on_online(self, row, event, now, right=Machine._on_online):
    if row.session_id == os.environ["VICTIM"] and pathlib.Path({folder!r}, "bug").exists():
        raise ZeroDivisionError("a bug of ours")
    right(self, row, event, now)

Machine._on_online = on_online
from runner.cli.main import cli
cli(["run", "victim_bot:app"])
"""


def isolation(
    directory: Path, simulator: SimulatorProcess, n: int, window_s: float, settings: dict[str, str]
) -> Figures:
    """A handler that always fails for one session, then an exception of ours at each of its logins: each for
    `window_s`.

    Nobody else is disconnected by either, every message of the others is confirmed, and the session itself
    comes back. What the latencies were is told.
    """
    control, users = Control(simulator.control), users_of(simulator.credentials)
    bot = directory / "bot"
    bot.mkdir()
    (bot / "victim_bot.py").write_text(BOT)
    victim = min(users)
    others = [user for session, user in users.items() if session != victim]
    settings = settings | {
        "VICTIM": victim,
        "WHATSAPP_HANDLER_ATTEMPTS": "2",
        "WHATSAPP_HANDLER_RETRY_DELAY": "50",
        "WHATSAPP_RECONNECTION_BASE_DELAY": "200",
        "WHATSAPP_RECONNECTION_MAX_DELAY": "1000",
    }
    with running(directory, simulator, n, settings, code=CODE.format(folder=str(bot))) as p:
        p.runner.wait_ready(n, 60.0)
        figures: Figures = {"n": n, "window_s": window_s}

        def watched(name: str, trouble: Callable[[], object]) -> None:
            seen = Latencies(p)
            seen.watch(
                window_s, lambda: (control.post("/say", users=others, text="for the others"), trouble())
            )
            figures.update({f"{name}_p99_ms": seen.p99_ms(), f"{name}_others_cores": seen.others_cores})
            rows = p.rows()
            assert {rows[session]["connection"] for session in users if session != victim} == {1}, name
            assert control.stats()["duplicates"] == 0

        watched("calm", lambda: None)
        watched("failing_handler", lambda: control.post("/say", user=users[victim], n=10))
        wait_answered(control)
        wait_until(lambda: _pending(p) == 0, 60.0, "everything is handled or given up")
        (bot / "bug").touch()
        watched("our_exception", lambda: _again(p, victim))
        (bot / "bug").unlink()
        faults = len(p.lines("session fault: reconnect"))
        assert faults >= 3, "it was to happen again and again"
        _again(p, victim)
        wait_until(lambda: p.rows()[victim]["state"] == "online", 30.0, "the session itself is back")
        wait_answered(control)
        wait_until(lambda: _pending(p) == 0, 60.0, "everything is handled or given up")
        letters = p.runner.request("GET", "/api/dead-letters?sink=app&limit=500")[1]["deadLetters"]
        assert {it["session"] for it in letters} == {victim}
        figures |= {"given_up": len(letters), "faults": faults, "disconnects_of_others": 0}
        assert p.runner.stop() == 0
    return figures


def _again(p: Pair, session: str) -> None:
    """Whatever its breaker says: it dials."""
    p.runner.request("POST", f"/reset-circuit-breaker/{session}")
    p.runner.request("POST", f"/force-reconnection/{session}")


def _pending(p: Pair) -> int:
    return int(p.runner.request("GET", "/performance-metrics?limit=0")[1]["store"]["inboxPending"])
