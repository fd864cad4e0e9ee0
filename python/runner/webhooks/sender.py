"""Delivers what is in the outbox to one webhook: chats side by side, each in its order.

A success after an outage means that the receiver is back: whatever waited for it goes on at once. A
`Retry-After` is for all of them: the receiver is left alone until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from runner.delivery.attempt import post
from runner.delivery.headers import headers
from runner.delivery.retry import asked_s
from runner.envelope import new_id
from runner.lane_loop import PAGE, Found, LaneLoop, Refill
from runner.lanes import Lanes
from runner.tally import DEAD, DONE, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    import httpx2

    from runner.delivery.attempt import Outcome
    from runner.delivery.target import Allowed
    from runner.lane_loop import Aside
    from runner.lanes import Key
    from runner.tally import Tally
    from runner.webhooks.hook import Webhook

log = structlog.get_logger()

LONGEST_WAIT_S: Final = 3600.0
"""Between two attempts: after an outage of hours it is noticed within one that the receiver is back."""


class Row(Protocol):
    """`_core.Delivery`."""

    @property
    def seq(self) -> int: ...
    @property
    def event_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def not_before_unix_ms(self) -> int: ...


class Deliveries(Protocol):
    """What a sender needs of `_core.Store`. All of it blocks."""

    def deliveries(self, webhook_id: str, after_seq: int, n: int) -> Sequence[Row]: ...
    def deliveries_of(
        self, webhook_id: str, session_id: str, chat: str, after_seq: int, n: int
    ) -> Sequence[Row]: ...
    def settle(
        self, delivered: list[int], failed: list[tuple[int, int, int]], dead: list[tuple[int, int, str]]
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery."""

    row: Row

    @property
    def seq(self) -> int:
        """Its number."""
        return self.row.seq

    @property
    def lane(self) -> Key:
        """What keeps its order."""
        return self.row.session_id, self.row.chat

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return 500 + len(self.row.body)


@dataclass(slots=True)
class Writes:
    """What became of attempts."""

    delivered: list[int] = field(default_factory=list)
    failed: list[tuple[int, int, int]] = field(default_factory=list)
    dead: list[tuple[int, int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.delivered or self.failed or self.dead)

    def __add__(self, later: Writes) -> Writes:
        return Writes(self.delivered + later.delivered, self.failed + later.failed, self.dead + later.dead)


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that all webhooks share."""

    allowed: Allowed
    concurrency: int
    attempt_s: float
    oldest_s: float
    """An event that is older than this, and fails, is given up whatever attempts it has left."""


class Sender:
    """One webhook. Use it from the Trio thread that runs `run`."""

    def __init__(
        self,
        webhook: Webhook,
        store: Deliveries,
        rules: Callable[[], Rules],
        tally: Tally,
        *,
        unix_ms: Callable[[], int],
        rng: Random,
        lanes: Lanes[Outgoing] | None = None,
        aside: Aside = trio.to_thread.run_sync,
    ) -> None:
        self.webhook = webhook
        self.last: dict[str, object] | None = None
        """When the last attempt was and how it ended; nothing of what was sent."""
        self._store, self._rules, self._tally = store, rules, tally
        self._unix_ms, self._rng = unix_ms, rng
        self._lanes = lanes if lanes is not None else Lanes[Outgoing](most_held=256)
        self._writes = Writes()
        self._is_down = False
        """The last attempts found nobody there."""
        self._quiet_until = 0.0
        self._link: httpx2.AsyncClient | None = None
        self.loop: LaneLoop[Outgoing, Writes] = LaneLoop(
            self, self._lanes, lambda: self._rules().concurrency, "webhooks", aside=aside
        )

    async def run(self, link: httpx2.AsyncClient) -> None:
        """Deliver until cancelled or shut down."""
        self._link = link
        await self.loop.run()

    # -- what the loop asks ----------------------------------------------------------------------------------

    def take_writes(self) -> Writes | None:
        writes, self._writes = self._writes, Writes()
        return writes or None

    def put_back(self, writes: Writes) -> None:
        self._writes = writes + self._writes

    def exchange(
        self, writes: Writes | None, wanting: Sequence[tuple[Key, int]], after: int | None
    ) -> Found[Outgoing]:
        """On a thread."""
        if writes is not None:
            self._store.settle(writes.delivered, writes.failed, writes.dead)
        most, name = self._lanes.per_lane, self.webhook.id
        refills = []
        for key, seq in wanting:
            rows = [Outgoing(row) for row in self._store.deliveries_of(name, *key, seq, most)]
            refills.append(Refill(key, rows, rows[-1].seq if rows else seq, len(rows) < most))
        if after is None:
            return Found(refills)
        page = [Outgoing(row) for row in self._store.deliveries(name, after, PAGE)]
        return Found(refills, page, page[-1].seq if page else None)

    def written(self, writes: Writes) -> Iterable[int]:
        return [*writes.delivered, *(seq for seq, _, _ in writes.dead)]

    def scanned(self, found: Found[Outgoing]) -> Sequence[Outgoing]:
        return found.page

    async def attempts(self, item: Outgoing | None, following: Callable[[], Outgoing | None]) -> None:
        while item is not None:
            await self._attempt(item)
            item = following()

    async def _attempt(self, item: Outgoing) -> None:
        now_ms = self._unix_ms()
        early_s = (item.row.not_before_unix_ms - now_ms) / 1000
        here = self._lanes.attempts(item)
        before = here or item.row.attempts
        now = trio.current_time()
        if now < self._quiet_until:
            self._lanes.failed(item, before, self._quiet_until)
            return
        if early_s > 0 and here == 0:  # what a run before this one decided
            self._lanes.failed(item, before, now + early_s)
            return
        assert self._link is not None, "the loop runs within run"
        outcome = await self.post(item.row.name, item.row.event_id, item.row.body, before + 1, self._link)
        self._judge(item, before + 1, outcome)

    async def post(
        self, event: str, event_id: str, body: bytes, attempt: int, link: httpx2.AsyncClient
    ) -> Outcome:
        """One attempt, whatever comes of it."""
        webhook, rules, now_ms = self.webhook, self._rules(), self._unix_ms()
        made = headers(body, event_id, attempt, webhook.secret, new_id("req", now_ms), now_ms)
        outcome = await post(
            link, webhook.url, body, {**webhook.headers, **made}, rules.allowed, rules.attempt_s
        )
        self.last = {
            "at": now_ms,
            "event": event,
            "delivered": outcome.is_taken,
            "status": outcome.status,
            "problem": outcome.problem,
        }
        return outcome

    def _judge(self, item: Outgoing, attempts: int, outcome: Outcome) -> None:
        if outcome.is_taken:
            self._tally.deliveries[DONE] += 1
            self._writes.delivered.append(item.seq)
            self._lanes.done(item)
            if self._is_down:
                log.info("webhook answers again", webhook=self.webhook.id, host=self.webhook.host)
                self._is_down = False
                self._lanes.hurry()
            return
        now_ms = self._unix_ms()
        retry = self.webhook.retry(LONGEST_WAIT_S)
        is_old = now_ms - item.row.at_unix_ms > 1000 * self._rules().oldest_s
        if outcome.is_final or is_old or retry.is_over(attempts):
            self._tally.deliveries[DEAD] += 1
            self._writes.dead.append((item.seq, attempts, outcome.said))
            self._lanes.done(item)
            self._say(log.error, "webhook event given up", item, attempts, outcome)
            return
        self._tally.deliveries[FAILED] += 1
        now, asked = trio.current_time(), asked_s(outcome.retry_after, now_ms)
        wait_s = max(retry.wait_s(attempts, self._rng), asked)
        self._quiet_until = max(self._quiet_until, now + asked)
        self._writes.failed.append((item.seq, attempts, now_ms + round(1000 * wait_s)))
        self._lanes.failed(item, attempts, now + wait_s)
        if not self._is_down:  # the rest of an outage is in the numbers
            self._say(log.warning, "webhook failed", item, attempts, outcome, delayMs=round(1000 * wait_s))
        self._is_down = self._is_down or (not asked and (outcome.status is None or outcome.status >= 500))

    def _say(
        self,
        level: Callable[..., object],
        said: str,
        item: Outgoing,
        attempts: int,
        outcome: Outcome,
        **more: object,
    ) -> None:
        level(
            said,
            session=item.row.session_id or None,
            attempt=attempts,
            webhook=self.webhook.id,
            host=self.webhook.host,
            problem=outcome.said,
            id=item.row.event_id,
            **more,
        )
