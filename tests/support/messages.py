"""A load of messages, and the proof by their ids that none is lost and none is kept twice."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

from runner import _core
from support.control import Control
from support.pair import pages, store_path, users_of
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from support.processes import SimulatorProcess

MessageId = tuple[str, str]
"""The user that a message is for, and its id: the simulator gives each another one."""
SENT_CAPACITY = 2_000_000
"""Answers that the simulator remembers: all of them."""


class Load:
    """Messages for everybody in turn, connected or not, on a thread until the block ends."""

    def __init__(self, control: Control, users: Sequence[str], per_s: float) -> None:
        self.pushed = 0
        self._control = control
        self._users = list(users)
        self._batch = max(1, len(self._users) // 10)
        self._pause_s = self._batch / per_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._control.post("/config", sentCapacity=SENT_CAPACITY)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        waiting = self._users
        try:
            while not self._over.wait(self._pause_s):
                some, waiting = waiting[: self._batch], waiting[self._batch :] + waiting[: self._batch]
                told = self._control.post("/push", users=some, n=1, template="message", offline=True)
                self.pushed += told["sent"] + told["queued"]
        except Exception as error:  # told where the block ends
            self._error = error


def wait_answered(control: Control, timeout_s: float = 60.0) -> None:
    """Until the simulator has an answer to everything, and nothing left for anybody."""

    def is_answered() -> bool:
        owed = sum(row["owed"] for row in control.sessions())
        return owed == 0 and sum(row["offline"] for row in control.get("/devices")) == 0

    wait_until(is_answered, timeout_s, "an answer to every message")


def answered(control: Control) -> list[MessageId]:
    """Every answer to a message that the simulator has seen."""
    acks = pages(control, "/sent", tag="ack")
    return [(e["user"], e["attrs"]["id"]) for e in acks if e["attrs"].get("class") == "message"]


@contextlib.contextmanager
def opened_store(directory: Path) -> Iterator[_core.Store]:
    """The store of a runner that is not running."""
    store = _core.Store(str(store_path(directory)))
    try:
        yield store
    finally:
        store.close()


def inbox_of(store: _core.Store) -> list[_core.InboxMessage]:
    """All of it."""
    found: list[_core.InboxMessage] = []
    while batch := store.take(found[-1].seq if found else 0, 5000):
        found += batch
    return found


def kept_once(directory: Path, simulator: SimulatorProcess) -> tuple[set[MessageId], set[MessageId]]:
    """What was answered and what is in the inbox of a runner that has stopped: all of the first is in the
    second, and nothing twice."""
    users, acked = users_of(simulator.credentials), set(answered(Control(simulator.control)))
    with opened_store(directory) as store:
        kept = Counter((users[it.session_id], it.message_id) for it in inbox_of(store))
    missing = acked - kept.keys()
    assert not missing, f"{len(missing)} answered messages are lost, such as {sorted(missing)[:3]}"
    twice = sorted(it for it, times in kept.items() if times > 1)
    assert not twice, f"{len(twice)} messages are in the inbox twice, such as {twice[:3]}"
    return acked, set(kept)
