"""Streams of end-to-end messages that must arrive whole: proofs of any size."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from runner import _core
from support.control import Control
from support.crashes import opened_store
from support.pair import running, users_of
from support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.faults import Figures
    from support.processes import SimulatorProcess

AT_ONCE = 10


def kills_in_a_stream(
    directory: Path, simulator: SimulatorProcess, messages: int, kills: int, settings: dict[str, str]
) -> Figures:
    """`kill -9` at random points while a contact writes: each message is read once, in order, at first try.

    A message key that was used twice, or used up without its message, would show as one that cannot be read.
    """
    control = Control(simulator.control)
    before = control.stats()
    user = next(iter(users_of(simulator.credentials).values()))
    said: list[str] = []
    dice = random.Random(7)
    points = sorted(dice.sample(range(1, messages), kills))

    def speak() -> None:
        while len(said) < messages:
            said.extend(control.post("/say", user=user, text=f"{len(said)} {{n}}", n=AT_ONCE)["ids"])

    speaking = threading.Thread(target=speak, daemon=True)
    for point in [*points, messages]:
        with running(directory, simulator, 1, settings) as p:
            p.runner.wait_ready(1, 60.0)
            if not speaking.ident:
                speaking.start()
            control.wait_stats(contactReceipts=before["contactReceipts"] + point, timeout_s=60.0)
            if point < messages:
                p.runner.kill()
                continue
            speaking.join()
            wait_until(lambda: sum(s["owed"] for s in control.sessions()) == 0, 30.0, "all answered")
            assert p.runner.stop() == 0
    with opened_store(directory) as store:
        assert not store.quarantined()
        rows = all_rows(store)
    assert [row.failure for row in rows if row.failure] == []
    assert [row.message_id for row in rows] == said, "each once, in the order in which they were written"
    texts = [_core.MessageView(row.content or b"").text for row in rows]
    assert texts == [f"{n - n % AT_ONCE} {n % AT_ONCE}" for n in range(len(said))]
    stats = control.stats()
    assert stats["contactRetries"] == before["contactRetries"]
    return {"messages": messages, "kills": kills, "lost": 0, "twice": 0}


def all_rows(store: _core.Store) -> list[Any]:
    """The whole inbox, in order."""
    rows: list[Any] = []
    while page := store.take(rows[-1].seq if rows else 0, 1000):
        rows += page
    return rows
