"""A store and an engine in this process, and the simulator they talk to: for tests of what is received."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runner import _core
from runner.intake import Intake

if TYPE_CHECKING:
    from types import TracebackType

    from runner.sim import Simulator

VERSION = (2, 3000, 1_045_368_834)
PATIENCE_S = 60.0


class Receiver:
    """Some devices of the simulator's fleet, connected; ends with its store closed."""

    def __init__(
        self, path: Path, simulator: Simulator, names: list[str], credentials: Path | None = None
    ) -> None:
        """`credentials` is the folder with the devices' directories, when it is not the simulator's."""
        self.store = _core.Store(str(path))
        self.names = names
        known = {row.session_id for row in self.store.sessions()}
        folder = credentials or Path(simulator.credentials)
        wanted = [(name, folder / name) for name in names if name not in known]
        for _, _, outcome in Intake(self.store).take_over_all(wanted):
            assert isinstance(outcome, tuple), outcome
        root_key = bytes.fromhex(simulator.root_key_hex)
        self.engine = _core.Engine(self.store, _core.EngineConfig(endpoint=simulator.url, root_key=root_key))
        self.events: list[_core.Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.shutdown()
        self.wait("stopped")
        self.store.close()

    def open(self, connection: int = 1) -> None:
        """Dial all, and wait until they are online."""
        for name in self.names:
            self.engine.open(name, connection, version=VERSION)
        for name in self.names:
            self.wait("online", name, connection)

    def wait(self, kind: str, session_id: str = "", connection: int = 0) -> _core.Event:
        """The first event of that kind, seen before or yet to come."""
        deadline = time.monotonic() + PATIENCE_S
        seen = 0
        while time.monotonic() < deadline:
            for event in self.events[seen:]:
                if (event.kind, event.session_id, event.connection) == (kind, session_id, connection):
                    return event
            seen = len(self.events)
            select.select([self.engine.fileno()], [], [], 0.2)
            self.events += self.engine.drain(1000)
        raise AssertionError(f"no {kind} of {session_id!r}, instead {self.events}")

    def wait_sent(self, token: int) -> _core.Event:
        """What became of a text that was sent."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := [event for event in self.events if event.token == token]):
            assert time.monotonic() < deadline, f"no outcome of {token}"
            select.select([self.engine.fileno()], [], [], 0.2)
            self.events += self.engine.drain(1000)
        return found[0]

    def take(self, n: int) -> list[_core.InboxMessage]:
        """The first `n` messages of the inbox, once they are there."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.store.take(0, n)) < n:
            assert time.monotonic() < deadline, f"{len(found)} of {n} messages: {found}"
            select.select([self.engine.fileno()], [], [], 0.2)
            self.events += self.engine.drain(1000)
        return found

    def take_read(self, n: int) -> list[_core.InboxMessage]:
        """All messages of the inbox that have a content, once there are `n`."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := [row for row in self.store.take(0, 100_000) if row.content is not None]) < n:
            assert time.monotonic() < deadline, f"{len(found)} of {n} messages"
            select.select([self.engine.fileno()], [], [], 0.2)
            self.events += self.engine.drain(1000)
        return found

    def leave(self, connection: int) -> None:
        """Go offline: the connections of that number are closed."""
        for name in self.names:
            self.engine.close(name, connection, "stopped")
        for name in self.names:
            self.wait("closed", name, connection)


def texts(messages: list[_core.InboxMessage]) -> list[tuple[str, str | None]]:
    """Ids and words; a message without content has its failure in brackets."""
    return [
        (row.message_id, f"[{row.failure}]" if row.content is None else _core.MessageView(row.content).text)
        for row in messages
    ]
