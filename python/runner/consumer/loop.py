"""Hands messages on, in order, and confirms them once everybody who wants them has them.

Who wants a message is the app's handler, if there is an app, and every webhook for `message`. A webhook has
it when its event is in the outbox, which is in the store as well; the handler when it returned. What nobody
wants stays in the store. Which message is next is `runner.lanes`, the reading `runner.lane_loop`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from runner.consumer.call import call
from runner.consumer.inbound import Inbound, inbound, message_of
from runner.envelope import derived_id
from runner.lane_loop import PAGE, Found, LaneLoop, Refill
from runner.lanes import Lanes
from runner.message import Session
from runner.sending import HandlerCall
from runner.tally import DEAD, DONE, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from runner.application import App, Handler
    from runner.consumer.inbound import InboxRow
    from runner.delivery.retry import Retry
    from runner.lane_loop import Aside
    from runner.lanes import Key
    from runner.sending import Sending
    from runner.session import State
    from runner.tally import Tally

log = structlog.get_logger()

MESSAGE: Final = "message"

Event = tuple[str, str, str, str, bytes, int, list[str]]
"""One for the outbox, as `_core.Store.post` takes it."""


class Inbox(Protocol):
    """What the consumer needs of `_core.Store`. All of it blocks."""

    def take(self, after_seq: int, n: int) -> Sequence[InboxRow]: ...
    def take_of_chat(self, session_id: str, chat: str, after_seq: int, n: int) -> Sequence[InboxRow]: ...
    def post(self, events: list[Event], done: list[int]) -> int: ...
    def bury(self, messages: list[tuple[int, int, str]]) -> int: ...


class Outbox(Protocol):
    """The webhooks, as the consumer sees them."""

    def wanting(self, event: str, session_id: str) -> list[str]:
        """Ids of the webhooks that this goes to."""

    def body(
        self, event: str, session_id: str, payload: dict[str, object], at_ms: int, event_id: str
    ) -> bytes:
        """The envelope."""

    def posted(self, webhook_ids: Iterable[str]) -> None:
        """Something new for these is in the store."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings of the handlers."""

    concurrency: int
    timeout_s: float
    retry: Retry


@dataclass(slots=True)
class Writes:
    """What is to be written down."""

    events: list[Event] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    dead: list[tuple[int, int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.done or self.dead)

    def __add__(self, later: Writes) -> Writes:
        return Writes(self.events + later.events, self.done + later.done, self.dead + later.dead)


class Consumer:
    """All messages of one process. Use it from the Trio thread that runs `loop`."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        app: App | None,
        limits: Limits,
        *,
        state: Callable[[str], State | None],
        tell: Callable[[Inbound], None],
        tally: Tally,
        rng: Random,
        sending: Sending | None = None,
        lanes: Lanes[Inbound] | None = None,
        aside: Aside = trio.to_thread.run_sync,
    ) -> None:
        """`state` is what a `Session` says of itself; `tell` shows a message to whoever watches, once, and
        never waits. Handlers send through `sending`."""
        self._tally = tally
        self._sending = sending
        self.limits = limits
        self._inbox, self._outbox = inbox, outbox
        self._handler = app.handler if app is not None else None
        self._state, self._tell, self._rng = state, tell, rng
        self._lanes = lanes if lanes is not None else Lanes[Inbound]()
        self._writes = Writes()
        self._told_upto = 0
        self.loop: LaneLoop[Inbound, Writes] = LaneLoop(
            self, self._lanes, lambda: self.limits.concurrency, "messages", aside=aside
        )

    # -- what the loop asks ----------------------------------------------------------------------------------

    def take_writes(self) -> Writes | None:
        writes, self._writes = self._writes, Writes()
        return writes or None

    def put_back(self, writes: Writes) -> None:
        self._writes = writes + self._writes

    def exchange(
        self, writes: Writes | None, wanting: Sequence[tuple[Key, int]], after: int | None
    ) -> Found[Inbound]:
        """On a thread."""
        if writes is not None and (writes.events or writes.done):
            self._inbox.post(writes.events, writes.done)
        if writes is not None and writes.dead:
            self._inbox.bury(writes.dead)
        most = self._lanes.per_lane
        refills = []
        for key, seq in wanting:
            rows = self._inbox.take_of_chat(*key, seq, most)
            upto = rows[-1].seq if rows else seq
            readable = _readable(rows) if self._handler is not None else ()
            refills.append(Refill(key, readable, upto, len(rows) < most))
        if after is None:
            return Found(refills)
        rows = self._inbox.take(after, PAGE)
        return Found(refills, _readable(rows), rows[-1].seq if rows else None)

    def written(self, writes: Writes) -> Iterable[int]:
        self._outbox.posted({webhook for event in writes.events for webhook in event[-1]})
        return [*writes.done, *(seq for seq, _, _ in writes.dead)]

    def scanned(self, found: Found[Inbound]) -> Sequence[Inbound]:
        for item in found.page:
            self._show(item)
        return found.page if self._handler is not None else ()

    def _show(self, item: Inbound) -> None:
        """To the webhooks, and to whoever watches."""
        session_id, chat = item.lane
        webhooks = self._outbox.wanting(MESSAGE, session_id)
        if webhooks:
            event_id, at_ms = event_id_of(item), item.row.received_unix_ms
            body = self._outbox.body(MESSAGE, session_id, message_of(item).to_json(), at_ms, event_id)
            self._writes.events.append((event_id, MESSAGE, session_id, chat, body, at_ms, webhooks))
            if self._handler is None:
                self._writes.done.append(item.seq)
        if item.seq > self._told_upto:
            self._told_upto = item.seq
            self._tell(item)

    async def attempts(self, item: Inbound | None, following: Callable[[], Inbound | None]) -> None:
        if self._handler is None:
            return
        timeout_s = self.limits.timeout_s
        ended = began = trio.current_time()
        # One scope for all of them, each with all of its time: it costs more than a call that does not wait.
        with trio.CancelScope() as scope:
            while item is not None:
                began = trio.current_time()
                scope.deadline = began + timeout_s
                problem = await self._call(self._handler, item)
                ended = trio.current_time()
                self._note(item, ended - began, problem)
                item = following() if ended < scope.deadline else None
        if scope.cancelled_caught and item is not None:
            self._note(item, trio.current_time() - began, f"no end within {timeout_s:g} s")

    async def _call(self, handler: Handler, item: Inbound) -> str | None:
        sending, session_id = self._sending, item.session_id
        calling = None if sending is None else HandlerCall(sending, session_id, item)
        session = Session(session_id, self._state, calling)
        message = message_of(item, self._lanes.attempts(item) + 1, calling)
        return await call(handler, session, message)

    def _note(self, item: Inbound, seconds: float, problem: str | None) -> None:
        """A call ended."""
        if problem is None:
            self._tally.handled(seconds, DONE)
            self._writes.done.append(item.seq)
            self._lanes.done(item)
            return
        attempts = self._lanes.attempts(item) + 1
        if self.limits.retry.is_over(attempts):
            self._tally.handled(seconds, DEAD)
            self._writes.dead.append((item.seq, attempts, problem))
            self._lanes.done(item)
            log.error("message given up", session=item.session_id, attempt=attempts, problem=problem)
        else:
            self._tally.handled(seconds, FAILED)
            wait_s = self.limits.retry.wait_s(attempts, self._rng)
            self._lanes.failed(item, attempts, trio.current_time() + wait_s)
            log.warning(
                "handler failed",
                session=item.session_id,
                attempt=attempts,
                problem=problem,
                delayMs=round(1000 * wait_s),
            )


def _readable(rows: Sequence[InboxRow]) -> list[Inbound]:
    return [item for row in rows if (item := inbound(row)) is not None]


def event_id_of(item: Inbound) -> str:
    """The same whenever the message is read: what is posted again after a crash is recognised by it."""
    return derived_id("evt", item.row.received_unix_ms, *item.lane, item.sender, item.id)
