"""Status events for whoever listens: alerts, WebSockets, webhooks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.session import SessionView


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """One thing that happened to a session or, with an empty id, to the fleet."""

    name: str
    """`session.status`, `session.qr`, `session.reconnecting`, `session.reconnected`,
    `session.reconnect_loop`, `session.breaker`, `session.restricted`, `incident.*`, `alert.*`, `message`,
    `message.undecryptable`."""
    session_id: str
    at_unix_ms: int
    view: SessionView | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    lost: int = 0
    """How many events this subscriber missed right before this one, because it was slow."""
    event_id: str | None = None
    """Its name, when it goes to others under the same; None: each who tells it gives it one."""


class Feed:
    """Fans events out to bounded subscribers; nobody ever waits for a subscriber."""

    def __init__(self) -> None:
        self._subscribers: dict[trio.MemorySendChannel[StatusEvent], int] = {}  # channel -> lost so far

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens; building an event for nobody is wasted work."""
        return bool(self._subscribers)

    def subscribe(self, capacity: int) -> trio.MemoryReceiveChannel[StatusEvent]:
        """A channel with all events from now on; closing it unsubscribes."""
        sender, receiver = trio.open_memory_channel[StatusEvent](capacity)
        self._subscribers[sender] = 0
        return receiver

    def publish(self, event: StatusEvent) -> None:
        """Hand the event to all who have room; the others are told later how many they lost."""
        for sender, lost in list(self._subscribers.items()):
            try:
                sender.send_nowait(replace(event, lost=lost) if lost else event)
            except trio.WouldBlock:
                self._subscribers[sender] = lost + 1
            except trio.BrokenResourceError:
                del self._subscribers[sender]
            else:
                self._subscribers[sender] = 0

    def close(self) -> None:
        """No more events: subscribers see the end of their channel."""
        for sender in self._subscribers:
            sender.close()
        self._subscribers.clear()
