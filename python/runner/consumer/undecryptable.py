"""Messages that could not be read: given up when nobody expects them any more, and said so.

Their senders were asked for them (`rust/client/src/receive/answer.rs`). One that is read in time is an
ordinary message; one that is not is a dead letter of its own sink and an event, and nothing in its chat waits
for it. When it is read after all it is delivered, and leaves the dead letters: the store sees to that.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from runner.consumer.inbound import Named
from runner.envelope import derived_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.consumer.loop import Event, Outbox
    from runner.lane_loop import Aside
    from runner.tally import Tally

log = structlog.get_logger()

UNDECRYPTABLE: Final = "message.undecryptable"
EVERY_S: Final = 10.0
"""Between two looks; each costs one search of an index."""
PAGE: Final = 256
"""Messages of one transaction."""


class Row(Named, Protocol):
    """The part of `_core.UnreadMessage` that is used here."""

    @property
    def failure(self) -> str: ...
    @property
    def attempts(self) -> int: ...


class Store(Protocol):
    """What this needs of `_core.Store`. All of it blocks."""

    def unread(self, before_unix_ms: int, n: int) -> Sequence[Row]: ...
    def give_up_unread(self, events: list[Event], seqs: list[int]) -> int: ...


class Undecryptable:
    """Use it from the Trio thread that runs `run`."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        timeout_s: float,
        *,
        tell: Callable[[str, dict[str, object], int, str], None],
        tally: Tally,
        unix_ms: Callable[[], int],
        aside: Aside = trio.to_thread.run_sync,
    ) -> None:
        """`timeout_s`: how long a message is expected. `tell` shows an event (session, payload, Unix
        milliseconds, event id) to whoever watches, and never waits."""
        self._store, self._outbox, self._timeout_s = store, outbox, timeout_s
        self._tell, self._tally, self._unix_ms, self._aside = tell, tally, unix_ms, aside

    async def run(self) -> None:
        """Look for such messages until cancelled."""
        while True:
            try:
                why = await self._sweep()
            except Exception as error:  # a full or failing disk: it says which, and it may pass
                log.error("store failed", waiting="unread", problem=f"{type(error).__name__}: {error}")
            else:
                if why:
                    log.warning("messages given up unread", messages=why.total(), reasons=dict(why))
            await trio.sleep(EVERY_S)

    async def _sweep(self) -> Counter[str]:
        """Give up all that are due; how many for each reason."""
        why = Counter[str]()
        before_ms = self._unix_ms() - round(1000 * self._timeout_s)
        while True:
            rows: Sequence[Row] = await self._aside(partial(self._store.unread, before_ms, PAGE))
            now_ms = self._unix_ms()
            events = [self._event(row, now_ms) for row in rows]
            if rows:
                seqs = [row.seq for row in rows]
                await self._aside(partial(self._store.give_up_unread, events, seqs))
            self._outbox.posted({webhook for event in events for webhook in event[-1]})
            for row, (event_id, *_) in zip(rows, events, strict=True):
                self._tell(row.session_id, payload_of(row), now_ms, event_id)
            why.update(row.failure for row in rows)
            self._tally.undecryptable += len(rows)
            if len(rows) < PAGE:
                return why

    def _event(self, row: Row, now_ms: int) -> Event:
        event_id = event_id_of(row)
        webhooks = self._outbox.wanting(UNDECRYPTABLE, row.session_id)
        body = self._outbox.body(UNDECRYPTABLE, row.session_id, payload_of(row), now_ms, event_id)
        return event_id, UNDECRYPTABLE, row.session_id, row.chat, body, now_ms, webhooks


def payload_of(row: Row) -> dict[str, object]:
    """What is told of it. Times are Unix milliseconds."""
    return {
        "id": row.message_id,
        "chatId": row.chat,
        "from": row.sender,
        "timestamp": row.received_unix_ms,
        "reason": row.failure,
        "attempts": row.attempts,
    }


def event_id_of(row: Row) -> str:
    """The same whenever it is given up: what is posted again after a crash is recognised by it."""
    names = (row.session_id, row.chat, row.sender, row.message_id, UNDECRYPTABLE)
    return derived_id("evt", row.received_unix_ms, *names)
