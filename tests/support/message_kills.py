"""`kill -9` again and again in the middle of a stream of end-to-end messages to a handler, of any size."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

from support.control import Control
from support.messages import SENT_CAPACITY, opened_store, wait_answered
from support.pair import running, users_of
from support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.faults import Figures
    from support.processes import SimulatorProcess

CONTACTS = 3
IN_GROUPS = 0.3
"""So many are read with a sender key, whose chain goes on over the kills like that of a session."""

BOT = """
import os
from runner import App, Message, Session

app = App()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.on_message
async def note(session: Session, message: Message) -> None:
    os.write(notes, f"{session.id} {message.chat} {message.id} {message.text}\\n".encode())
"""

CODE = """
import sys
sys.path.insert(0, {folder!r})
from runner.cli.main import cli
cli(["run", "texts_bot:app"])
"""

Note = tuple[str, str, str, str]
"""Session, chat, id and text of one call of the handler."""


def notes_in(path: Path) -> list[Note]:
    """Every call of the handler, in order; a line that a kill cut off is none."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = []
    for line in lines:
        if line.endswith("\n"):
            session, chat, name, text = line.split(maxsplit=3)
            found.append((session, chat, name, text.strip()))
    return found


def message_kills(
    directory: Path,
    simulator: SimulatorProcess,
    n: int,
    messages: int,
    kills: int,
    settings: dict[str, str],
) -> Figures:
    """`messages` messages to N sessions, with a kill at `kills` random places of the stream.

    Each reaches the handler, with the text that was written under its id, and in the order of its chat; what
    comes twice has the same id, and only around a kill. No text comes under two ids: no key opened twice.
    Nothing has to be asked for again: no key is lost.
    """
    control = Control(simulator.control)
    control.post("/config", sentCapacity=SENT_CAPACITY)
    users, dice = users_of(simulator.credentials), random.Random(5)
    bot, notes = directory / "bot", directory / "notes"
    bot.mkdir()
    (bot / "texts_bot.py").write_text(BOT)
    code = CODE.format(folder=str(bot))
    said: dict[tuple[str, str], str] = {}
    order: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    """By session and contact; without one, in the group of all of them."""
    batch = -(-messages // (kills + 1))
    for kill in range(kills + 1):
        with running(directory, simulator, n, settings | {"NOTES": str(notes)}, code=code) as p:
            if dice.random() < 0.5:
                p.runner.wait_ready(n, 60.0)  # else it is killed while the backlog comes
            before, receipts = len(notes_in(notes)), control.stats()["contactReceipts"]
            left = min(batch, messages - len(said))
            for number in range(left):
                session, contact = dice.choice(sorted(users)), dice.randrange(CONTACTS)
                text = f"text {len(said)}"
                in_group = dice.random() < IN_GROUPS
                told = control.post("/say", user=users[session], contact=contact, text=text, group=in_group)
                (name,) = told["ids"]
                said[session, name] = text
                order[session, None if in_group else contact].append(name)
                if kill < kills and number == left // 2:
                    # At another point each time: of the server's answers, or of the handler's work.
                    enough = dice.randrange(max(1, left // 2))
                    if dice.random() < 0.5:
                        control.wait_stats(contactReceipts=receipts + enough, timeout_s=60.0)
                    else:
                        many = before + enough
                        wait_until(lambda: len(notes_in(notes)) >= many, 60.0, "some were handled")  # noqa: B023  it is over by the next turn
                    p.runner.kill()
            if kill == kills:
                p.runner.wait_ready(n, 60.0)
                wait_answered(control, 60.0)
                wait_until(lambda: len({it[:3] for it in notes_in(notes)}) >= len(said), 60.0, "all of them")
                assert p.runner.stop() == 0
            assert "Traceback" not in p.runner.output()
    calls = notes_in(notes)
    texts: dict[tuple[str, str], set[str]] = defaultdict(set)
    handled: dict[tuple[str, str], list[str]] = defaultdict(list)
    for session, chat, name, text in calls:
        if not texts[session, name]:
            handled[session, chat].append(name)
        texts[session, name].add(text)
    assert {key: {text} for key, text in said.items()} == texts, "each with its own text, and no other"
    assert sorted(handled.values()) == sorted(order.values()), "in the order of each chat"
    with opened_store(directory) as store:
        assert store.take(0, 1) == []
        assert store.undelivered(0, 1) == []
    stats = control.stats()
    assert (stats["duplicates"], stats["contactRetries"]) == (0, 0)
    return {
        "n": n,
        "messages": len(said),
        "kills": kills,
        "handled": len(texts),
        "lost": 0,
        "calls_beyond_the_first": len(calls) - len(texts),
        "retries": stats["contactRetries"],
    }
