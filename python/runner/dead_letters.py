"""What handlers and webhooks did not take, and what could not be read: listed, put back, let go."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from runner.engine import told_as_store_failures
from runner.errors import AdminError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from runner._core import Undelivered
    from runner.consumer.loop import Consumer
    from runner.lane_loop import Aside
    from runner.webhooks.registry import Webhooks

log = structlog.get_logger()

APP: Final = "app"
"""The sink that stands for the handlers."""
MOST: Final = 500
"""In one page, and in one call that names them."""
STEP: Final = 500
"""Put back or let go of in one transaction, when all are meant."""


class Store(Protocol):
    """What this needs of `_core.Store`. All of it blocks."""

    def undelivered(self, after_seq: int, n: int, sink: str | None = None) -> Sequence[Undelivered]: ...
    def redrive(self, seqs: list[int]) -> tuple[int, int]: ...
    def discard(self, seqs: list[int]) -> int: ...


class DeadLetters:
    """Use it from the Trio thread."""

    def __init__(
        self, store: Store, consumer: Consumer, webhooks: Webhooks, aside: Aside = trio.to_thread.run_sync
    ) -> None:
        self._store, self._consumer, self._webhooks, self._aside = store, consumer, webhooks, aside

    async def listed(
        self, sink: str | None, after: int, limit: int, *, with_detail: bool
    ) -> dict[str, object]:
        """A page, oldest first, after the one with that id; `next` is where the following begins."""
        found = await self._page(sink, after, min(limit, MOST) + 1)
        page = found[: min(limit, MOST)]
        return {
            "deadLetters": [_shown(it, with_detail=with_detail) for it in page],
            "next": str(page[-1].seq) if len(found) > len(page) else None,
        }

    async def redrive(self, ids: Sequence[str] | None, sink: str | None) -> dict[str, int]:
        """Put back those, or all of a sink (None: of every sink): how many, and how many stay: of a webhook
        that is gone, or never read. Errors: AdminError 404 for an id that is none, 422."""
        messages = deliveries = kept = 0
        async with aclosing(self._meant(ids, sink)) as batches:
            async for batch in batches:
                good = [it for it in batch if it.sink == APP or self._webhooks.known(it.sink)]
                kept += len(batch) - len(good)
                with told_as_store_failures("they stay dead letters"):
                    put_back = await self._aside(partial(self._store.redrive, [it.seq for it in good]))
                messages, deliveries = messages + put_back[0], deliveries + put_back[1]
                self._consumer.loop.reopen({(it.session_id, it.chat) for it in good if it.sink == APP})
                self._webhooks.posted({it.sink for it in good if it.sink != APP})
        log.info("dead letters put back", messages=messages, deliveries=deliveries, kept=kept)
        return {"messages": messages, "deliveries": deliveries, "kept": kept}

    async def drop(self, ids: Sequence[str] | None, sink: str | None) -> dict[str, int]:
        """Let go of those, or of all of a sink (None: of every sink). Errors: as `redrive`."""
        dropped = 0
        async with aclosing(self._meant(ids, sink)) as batches:
            async for batch in batches:
                with told_as_store_failures("they are kept"):
                    dropped += await self._aside(partial(self._store.discard, [it.seq for it in batch]))
        log.info("dead letters dropped", dropped=dropped)
        return {"dropped": dropped}

    async def _meant(
        self, ids: Sequence[str] | None, sink: str | None
    ) -> AsyncGenerator[Sequence[Undelivered], None]:
        if ids is not None:
            yield await self._named(ids)
            return
        last = await self._newest(sink)
        after = 0
        while after < last:
            batch = [it for it in await self._page(sink, after, STEP) if it.seq <= last]
            if not batch:
                return
            after = batch[-1].seq
            yield batch

    async def _newest(self, sink: str | None) -> int:
        """Only those that are there now are meant: what is put back may fail again while we work."""
        after = 0
        while page := await self._page(sink, after, 10_000):
            after = page[-1].seq
        return after

    async def _named(self, ids: Sequence[str]) -> list[Undelivered]:
        if len(ids) > MOST:
            raise AdminError(422, "body_wrong", f"{len(ids)} ids are more than {MOST}", "send them in parts")
        found = []
        for text in dict.fromkeys(ids):
            is_number = text.isascii() and text.isdigit() and len(text) < 19
            page = await self._page(None, int(text) - 1, 1) if is_number else ()
            if not page or page[0].seq != int(text):
                said = f"there is no dead letter {text[:40]!r}"
                raise AdminError(
                    404, "unknown_dead_letter", said, "list them with: python -m runner dead-letters list"
                )
            found.append(page[0])
        return found

    async def _page(self, sink: str | None, after: int, n: int) -> Sequence[Undelivered]:
        with told_as_store_failures("the dead letters cannot be read"):
            page: Sequence[Undelivered] = await self._aside(
                partial(self._store.undelivered, max(after, 0), n, sink)
            )
        return page


def _shown(it: Undelivered, *, with_detail: bool) -> dict[str, object]:
    return {
        "id": str(it.seq),
        "sink": it.sink,
        "event": it.name,
        "eventId": it.id,
        "session": it.session_id or None,
        "chatId": (it.chat or None) if with_detail else None,
        "at": it.at_unix_ms,
        "diedAt": it.died_unix_ms,
        "attempts": it.attempts,
        "why": it.why,
    }
