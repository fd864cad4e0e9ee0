"""`python -m runner top`: the fleet at a terminal, live. Asks the admin socket each second."""

from __future__ import annotations

import select
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from runner.cli.options import as_json, connect, ends_well, show_json
from runner.errors import NotRunningError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.admin.client import Client
    from runner.cli.top_screen import Reading

MOST_SESSIONS: Final = 300
"""Troubled sessions that one look fetches; more than fit any screen."""


@click.command()
@click.option("--once", is_flag=True, help="One frame, then end.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 3600.0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@as_json
@ends_well
def top(*, once: bool, every_s: float, as_json: bool) -> None:
    """The fleet at a glance, live: states, numbers, what is wrong, sessions that are not online.

    q or Ctrl-C ends it. A runner that goes away is said so, with the age of what is shown.

    \b
    Examples:
      python -m runner top
      python -m runner top --once
      python -m runner top --json        # one look
    """
    from rich.console import Console
    from rich.live import Live

    from runner.cli.tables import screen
    from runner.cli.top_screen import Past, frame

    past = Past()
    with connect() as runner:
        reading = look(runner)
        past.add(reading)
        if as_json:
            show_json(asdict(reading))
            return
        if once:
            console = screen()
            console.print(frame(reading, past, reading.at, console.width, console.height))
            return
        console = Console()
        with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(frame(reading, past, time.time(), console.width, console.height), refresh=True)
                if _is_quit(every_s):
                    return
                try:
                    reading = look(runner)
                except NotRunningError:
                    continue  # the frame says how old it is
                past.add(reading)


def look(runner: Client) -> Reading:
    """One look at everything that a frame shows.

    Errors: NotRunningError when nobody answers.
    """
    from runner.cli.top_screen import WORST_FIRST, Reading

    query = {"state": ",".join(WORST_FIRST), "limit": MOST_SESSIONS}
    return Reading(
        at=time.time(),
        system=runner.system(),
        health=runner.health(),
        troubled=runner.get("/api/sessions", query)["sessions"],
        alerts=runner.get("/api/alerts")["active"],
    )


@contextmanager
def _keys() -> Iterator[None]:
    """Keys arrive one by one, unseen; as it was afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_quit(wait_s: float) -> bool:
    """Wait for the next look, or for a q."""
    if not sys.stdin.isatty():
        time.sleep(wait_s)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(ready) and sys.stdin.read(1) in {"q", "Q"}
