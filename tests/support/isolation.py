"""Trouble in one session: what the others notice of it, of any size."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from support.control import Control
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
import sys
sys.path.insert(0, {folder!r})
from runner.cli.main import cli
cli(["run", "victim_bot:app"])
"""

_BUCKET = re.compile(r'^runner_response_seconds_bucket\{le="([^"]+)"\} (\d+)', re.MULTILINE)


def buckets(p: Pair) -> list[tuple[float, int]]:
    """Round trips of all sessions so far, by the upper bound in seconds; cumulative."""
    metrics = subprocess.run(
        [sys.executable, "-m", "runner", "metrics", "--prometheus"],
        env=p.runner.env,
        capture_output=True,
        text=True,
        timeout=30.0,
        check=True,
    ).stdout
    return [(float(bound.replace("+Inf", "inf")), int(count)) for bound, count in _BUCKET.findall(metrics)]


def p99_s(before: list[tuple[float, int]], after: list[tuple[float, int]]) -> float:
    """The upper bound of the bucket with the 99th percentile of what came between."""
    gained = [(bound, count - old) for (bound, count), (_, old) in zip(after, before, strict=True)]
    all_of_them = gained[-1][1]
    assert all_of_them > 0, "no round trip came between"
    return next(bound for bound, count in gained if count >= 0.99 * all_of_them)


def isolation(
    directory: Path, simulator: SimulatorProcess, n: int, window_s: float, settings: dict[str, str]
) -> Figures:
    """A handler that always fails for one session, for `window_s`.

    Nobody else is disconnected by it, and every message of the others is confirmed. What the round trips of all
    were meanwhile is told, in buckets: whose core was whose is not known, so it is no assertion.
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
    }
    pause = threading.Event()
    with running(directory, simulator, n, settings, code=CODE.format(folder=str(bot))) as p:
        p.runner.wait_ready(n, 60.0)
        figures: Figures = {"n": n, "window_s": window_s}

        def watched(name: str, trouble: Callable[[], object]) -> None:
            before = buckets(p)
            seconds = 0.0
            while seconds < window_s:
                trouble()
                pause.wait(1.0)
                seconds += 1.0
            figures[f"{name}_p99_s"] = p99_s(before, buckets(p))
            rows = p.rows()
            assert {rows[session]["connection"] for session in users if session != victim} == {1}, name
            assert control.stats()["duplicates"] == 0

        def messages(of_victim: int) -> None:
            control.post("/say", users=others, text="for the others")
            if of_victim:
                control.post("/say", user=users[victim], n=of_victim)

        watched("calm", lambda: messages(0))
        watched("failing_handler", lambda: messages(20))
        wait_answered(control)
        wait_until(lambda: _pending(p) == 0, 60.0, "everything is handled or given up")
        letters = p.runner.request("GET", "/api/dead-letters?sink=app&limit=500")[1]["deadLetters"]
        assert {it["session"] for it in letters} == {victim}
        figures["given_up"] = len(letters)
        assert p.runner.stop() == 0
        assert "Traceback" not in p.runner.output()
    return figures


def _pending(p: Pair) -> int:
    return int(p.runner.request("GET", "/performance-metrics?limit=0")[1]["store"]["inboxPending"])
