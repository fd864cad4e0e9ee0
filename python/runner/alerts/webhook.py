"""Posts notices to one address, in order, until each is taken or given up. One task a target."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from runner.alerts.delivery import Notice, Queue, retry, target_key
from runner.delivery.attempt import client, post
from runner.delivery.headers import headers
from runner.delivery.retry import asked_s
from runner.envelope import new_id
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from runner.delivery.target import Allowed


class Webhook:
    """One target. `put` never waits; `run` delivers."""

    def __init__(
        self,
        url: str,
        secret: str,
        allowed: Allowed,
        attempts: int,
        *,
        unix_ms: Callable[[], int],
        rng: Random | None = None,
    ) -> None:
        self.key = target_key(url)
        self.queue = Queue()
        self.undelivered_total = 0
        self.is_dirty = False
        """The queue changed since it was last saved."""
        self._url, self._secret, self._allowed, self._retry = url, secret, allowed, retry(attempts)
        self._host = urlsplit(url).hostname or ""
        self._unix_ms = unix_ms
        self._rng = rng or Random()  # jitter is no secret
        self._news = trio.Event()

    def put(self, event: str, event_id: str, body: bytes, *, is_counted: bool = True) -> None:
        """Deliver this, after what waits already."""
        lost = self.queue.put(Notice(self.key, event_id, event, body.decode(), is_counted=is_counted))
        self.is_dirty = True
        if lost is not None:
            self._give_up(lost, "too many wait")
        self._news.set()

    def restore(self, notices: tuple[Notice, ...]) -> None:
        """What waited when the last run ended."""
        self.queue = Queue(notices)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with client(1) as link:
            while True:
                notice = self.queue.first
                if notice is None:
                    self._news = trio.Event()
                    await self._news.wait()
                    continue
                wait_s = (notice.not_before_ms - self._unix_ms()) / 1000
                if wait_s > 0:
                    await trio.sleep(min(wait_s, 3600.0))  # the wall clock may be set meanwhile
                    continue
                await self._attempt(link, notice)

    async def _attempt(self, link: httpx2.AsyncClient, notice: Notice) -> None:
        body, now_ms = notice.body.encode(), self._unix_ms()
        tried = notice.attempts + 1
        made = headers(body, notice.id, tried, self._secret, new_id("req", now_ms), now_ms)
        outcome = await post(link, self._url, body, made, self._allowed)
        self.is_dirty = True
        if outcome.is_taken:
            self.queue.done(notice)
            return
        if outcome.is_final or self._retry.is_over(tried):
            self.queue.done(notice)
            self._give_up(replace(notice, attempts=tried), outcome.said)
            return
        asked = asked_s(outcome.retry_after, self._unix_ms())
        wait_s = max(self._retry.wait_s(tried, self._rng), asked)
        self.queue.failed(notice, self._unix_ms() + round(1000 * wait_s))
        logger().warning(
            "alert webhook failed",
            host=self._host,
            problem=outcome.said,
            attempt=tried,
            delayMs=round(1000 * wait_s),
        )

    def _give_up(self, notice: Notice, why: str) -> None:
        self.undelivered_total += notice.is_counted
        logger().error(
            "alert not delivered",
            channel="webhook",
            host=self._host,
            problem=why,
            notice=notice.event,
            attempts=notice.attempts,
        )
