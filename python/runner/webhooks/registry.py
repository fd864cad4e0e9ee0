"""All webhooks of one process: who wants what, what happens to sessions put into the outbox, the senders.

Those of the API are rows of the store; those of `WHATSAPP_WEBHOOK_URLS` are made anew at each start. Each has
a task and connections of its own, so a slow one delays nobody else.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

import structlog
import trio

from runner.config_kinds import split_list
from runner.delivery.attempt import addresses, client
from runner.delivery.target import Allowed, TargetRefusedError, allowed_of, check_literal, chosen
from runner.engine import told_as_store_failures
from runner.envelope import envelope, new_id
from runner.errors import AdminError, ConfigError, RefusedError, WebhookWrongError
from runner.tally import LOST
from runner.webhooks.hook import (
    FROM_SETTINGS,
    TEST,
    NewWebhook,
    Retries,
    Webhook,
    checked,
    decoded,
    encoded,
)
from runner.webhooks.sender import Deliveries, Rules, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from random import Random

    from runner.config import Settings
    from runner.envelope import Me
    from runner.lane_loop import Aside
    from runner.supervisor.feed import StatusEvent
    from runner.tally import Tally
    from runner.webhooks.hook import Policy

log = structlog.get_logger()

MESSAGE: Final = "message"
DURABLE: Final = (MESSAGE, "message.undecryptable")
"""Events that whoever finds them in the store posts."""
EVENT_QUEUE: Final = 65_536
"""Events of sessions that wait for the store: a fleet of 10,000 that drops and comes back."""
BATCH: Final = 256
STORE_AGAIN_S: Final = 1.0
MOST_WEBHOOKS: Final = 1000
REMOVED: Final = "the webhook was removed"
NOT_SET: Final = "the webhook is not set any more"

Event = tuple[str, str, str, str, bytes, int, list[str]]


class Store(Deliveries, Protocol):
    """What the webhooks need of `_core.Store`. All of it blocks."""

    def post(self, events: list[Event], done: list[int]) -> int: ...
    def webhooks(self) -> Sequence[tuple[str, str]]: ...
    def put_webhook(self, webhook_id: str, json: str) -> None: ...
    def remove_webhook(self, webhook_id: str, why: str) -> int: ...
    def give_up_unknown(self, known: list[str], why: str) -> int: ...
    def backlog(self) -> Sequence[tuple[str, int, int]]: ...


def webhooks_of(settings: Settings) -> list[Webhook]:
    """Those of `WHATSAPP_WEBHOOK_URLS`. Errors: ConfigError."""
    headers = dict(_header(line) for line in settings.webhook_headers.splitlines() if line.strip())
    found = []
    for url in dict.fromkeys(split_list(settings.webhook_urls)):
        wish = NewWebhook(
            url=url,
            events=split_list(settings.webhook_events),
            secret=settings.webhook_secret,
            headers=headers,
            retries=Retries(
                policy=cast("Policy", settings.webhook_retry_policy),
                delay_seconds=settings.webhook_retry_delay_s,
                attempts=settings.webhook_attempts,
            ),
        )
        name = f"cfg_{hashlib.sha256(url.encode()).hexdigest()[:16]}"  # addresses may hold secrets
        try:
            found.append(checked(name, wish, FROM_SETTINGS))
            check_literal(urlsplit(url).hostname or "", _allowed(settings))
        except (WebhookWrongError, TargetRefusedError) as error:
            raise ConfigError([f"WHATSAPP_WEBHOOK_*: {error}"]) from error
    return found


def _allowed(settings: Settings) -> Allowed:
    return allowed_of(split_list(settings.webhook_allow), "WHATSAPP_WEBHOOK_ALLOW")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ConfigError(["WHATSAPP_WEBHOOK_HEADERS has a line that is not Name: value"])
    return name.strip(), value.strip()


class Webhooks:
    """Use it from the Trio thread that runs `run`."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        subscribe: Callable[[int], trio.MemoryReceiveChannel[StatusEvent]],
        wanted: Callable[[], None],
        me: Callable[[str], Me | None],
        version: str,
        tally: Tally,
        unix_ms: Callable[[], int],
        rng: Random,
        aside: Aside = trio.to_thread.run_sync,
    ) -> None:
        """`subscribe` gives the events of sessions and of the fleet; `wanted` is called when messages that
        nobody wanted may be wanted now; `me` says whose a session is.

        Blocking: reads the store. Errors: ConfigError for settings that cannot be used.
        """
        self._tally = tally
        self._store, self._subscribe, self._wanted, self._me = store, subscribe, wanted, me
        self._version, self._unix_ms, self._rng, self._aside = version, unix_ms, rng, aside
        self._rules = Rules(
            allowed=_allowed(settings),
            concurrency=settings.webhook_concurrency,
            attempt_s=settings.webhook_timeout_s,
            oldest_s=settings.webhook_max_age_s,
        )
        self._senders: dict[str, Sender] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._waiting: list[Event] = []
        self._gathering = trio.CancelScope()
        self._gathered = trio.Event()
        for webhook in (*self._restored(), *webhooks_of(settings)):
            self._senders[webhook.id] = self._sender(webhook)
        self._given_up = store.give_up_unknown([*self._senders, *self._unread], NOT_SET)

    def _restored(self) -> list[Webhook]:
        found, self._unread = [], set[str]()
        for webhook_id, json in self._store.webhooks():
            webhook = decoded(webhook_id, json)
            if webhook is None:
                self._unread.add(webhook_id)
                log.error("webhook not understood", webhook=webhook_id, remedy="remove it and add it again")
            else:
                found.append(webhook)
        return found

    def _sender(self, webhook: Webhook) -> Sender:
        return Sender(
            webhook,
            self._store,
            lambda: self._rules,
            self._tally,
            unix_ms=self._unix_ms,
            rng=self._rng,
            aside=self._aside,
        )

    # -- what the consumer asks ------------------------------------------------------------------------------

    def wanting(self, event: str, session_id: str | None) -> list[str]:
        """Ids of the webhooks that this goes to."""
        return [name for name, it in self._senders.items() if it.webhook.wants(event, session_id)]

    def body(
        self, event: str, session_id: str | None, payload: Mapping[str, object], at_ms: int, event_id: str
    ) -> bytes:
        """The envelope."""
        me = self._me(session_id) if session_id else None
        return envelope(event, session_id or None, payload, self._version, at_ms, event_id, me)

    def posted(self, webhook_ids: Iterable[str]) -> None:
        """Something new for these is in the store."""
        for webhook_id in webhook_ids:
            if (sender := self._senders.get(webhook_id)) is not None:
                sender.loop.wake()

    # -- tasks -----------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve all webhooks until cancelled; started once no event is missed any more."""
        if self._given_up:
            log.warning("webhook events given up", events=self._given_up, problem=NOT_SET)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for sender in self._senders.values():
                nursery.start_soon(self._serve, sender)
            await self._gather(task_status)

    async def shutdown(self, budget_s: float) -> None:
        """Let attempts that are under way come to their end, and write down how they ended."""
        async with trio.open_nursery() as nursery:
            for sender in self._senders.values():
                nursery.start_soon(sender.loop.shutdown, budget_s)
        self._gathering.cancel()
        await self._gathered.wait()
        if self._waiting:
            await self._post()

    async def _serve(self, sender: Sender) -> None:
        # Half a second of imports, on a thread, so that it does not stop the dials.
        await trio.to_thread.run_sync(__import__, "httpx2")
        if self._senders.get(sender.webhook.id) is not sender:
            return  # removed or changed meanwhile
        with trio.CancelScope() as scope:
            self._scopes[sender.webhook.id] = scope
            async with client(self._rules.concurrency) as link:
                await sender.run(link)

    async def _gather(self, task_status: trio.TaskStatus[None]) -> None:
        """Bring the events of sessions into the outbox while any webhook wants some."""
        try:
            with self._gathering:
                while True:
                    if self._is_hearing():
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._bring, self._subscribe(EVENT_QUEUE))
                            task_status.started()
                            await self._until_changed(to=False)
                            nursery.cancel_scope.cancel()
                    else:
                        task_status.started()
                        await self._until_changed(to=True)
                    task_status = trio.TASK_STATUS_IGNORED
        finally:
            self._gathered.set()

    async def _until_changed(self, *, to: bool) -> None:
        while self._is_hearing() is not to:
            self._changed = trio.Event()
            await self._changed.wait()

    def _is_hearing(self) -> bool:
        return any(self._wants_more_than_messages(it.webhook) for it in self._senders.values())

    @staticmethod
    def _wants_more_than_messages(webhook: Webhook) -> bool:
        return not set(webhook.events) <= set(DURABLE)

    async def _bring(self, changes: trio.MemoryReceiveChannel[StatusEvent]) -> None:
        with changes:
            async for change in changes:
                self._note(change)
                while len(self._waiting) < BATCH:
                    try:
                        self._note(changes.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                await self._post_all()

    async def _post_all(self) -> None:
        while self._waiting and not await self._post():  # noqa: ASYNC110  nobody says when a disk has room
            await trio.sleep(STORE_AGAIN_S)

    def _note(self, change: StatusEvent) -> None:
        if change.lost:
            self._tally.deliveries[LOST] += change.lost
            log.error("webhook events lost", events=change.lost, problem="the store did not keep up")
        session = change.session_id or None
        if change.name in DURABLE or not (webhooks := self.wanting(change.name, session)):
            return  # messages come from the inbox, where they are durable
        payload = {**(change.view.to_json() if change.view else {}), **change.data}
        event_id = new_id("evt", change.at_unix_ms)
        body = self.body(change.name, session, payload, change.at_unix_ms, event_id)
        self._waiting.append((event_id, change.name, session or "", "", body, change.at_unix_ms, webhooks))

    async def _post(self) -> bool:
        now = list(self._waiting)
        try:
            await self._aside(partial(self._store.post, now, []))
        except Exception as error:  # a full or failing disk: it says which, and it may pass
            log.error("store failed", waiting="webhooks", problem=f"{type(error).__name__}: {error}")
            return False
        del self._waiting[: len(now)]
        self.posted({webhook for event in now for webhook in event[-1]})
        return True

    # -- what operators see and do ---------------------------------------------------------------------------

    def known(self, webhook_id: str) -> bool:
        """Whether there is such a webhook."""
        return webhook_id in self._senders

    async def listed(self, session: str | None, *, with_detail: bool) -> list[dict[str, object]]:
        """All of them, or those of one session and those of all."""
        with told_as_store_failures("the outbox cannot be read"):
            backlog = {
                sink: (waiting, dead) for sink, waiting, dead in await self._aside(self._store.backlog)
            }
        return [
            self._shown(it, backlog.get(name, (0, 0)), with_detail=with_detail)
            for name, it in self._senders.items()
            if session is None or it.webhook.session in (None, session)
        ]

    def _shown(self, it: Sender, backlog: tuple[int, int], *, with_detail: bool) -> dict[str, object]:
        last = it.last
        if last is not None and not with_detail:
            last = {**last, "problem": None}
        return {
            **it.webhook.to_json(with_detail=with_detail),
            "waiting": backlog[0],
            "undelivered": backlog[1],
            "lastAttempt": last,
        }

    async def one(self, webhook_id: str, *, with_detail: bool) -> dict[str, object]:
        """One of them. Errors: AdminError 404."""
        self._find(webhook_id)
        found = await self.listed(None, with_detail=with_detail)
        return next(it for it in found if it["id"] == webhook_id)

    async def add(self, wish: NewWebhook) -> dict[str, object]:
        """One more, from now on; it outlives the process.

        Errors: WebhookWrongError; RefusedError when there are too many.
        """
        if len(self._senders) >= MOST_WEBHOOKS:
            raise RefusedError("too_many", f"there are {MOST_WEBHOOKS} webhooks already", "remove some first")
        webhook = checked(new_id("wh", self._unix_ms()), wish)
        await self._keep(webhook)
        log.info("webhook added", webhook=webhook.id, host=webhook.host, session=webhook.session)
        return await self.one(webhook.id, with_detail=True)

    async def change(self, webhook_id: str, wish: NewWebhook) -> dict[str, object]:
        """Another configuration under the same id; what waits goes to the new address.

        Errors: AdminError 404; RefusedError for one of the settings; WebhookWrongError.
        """
        self._refuse_from_settings(self._find(webhook_id))
        await self._keep(checked(webhook_id, wish))
        log.info("webhook changed", webhook=webhook_id, host=self._senders[webhook_id].webhook.host)
        return await self.one(webhook_id, with_detail=True)

    async def _keep(self, webhook: Webhook) -> None:
        await self._check_target(webhook)
        with told_as_store_failures("the webhook is not kept"):
            await self._aside(partial(self._store.put_webhook, webhook.id, encoded(webhook)))
        await self._end(webhook.id)
        self._senders[webhook.id] = sender = self._sender(webhook)
        if self._nursery is not None:
            self._nursery.start_soon(self._serve, sender)
        self._changed.set()
        if webhook.wants(MESSAGE, webhook.session):
            self._wanted()

    async def _check_target(self, webhook: Webhook) -> None:
        """Errors: WebhookWrongError when it leads nowhere, or to where it may not."""
        try:
            chosen(webhook.host, await addresses(webhook.host), self._rules.allowed)
        except TargetRefusedError as error:
            raise WebhookWrongError(f"url: {error}", f"allow it with {self._rules.allowed.setting}") from None
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no name"
            raise WebhookWrongError(
                f"url: {webhook.host} does not resolve: {why}", "check the address, and the name service here"
            ) from None

    async def remove(self, webhook_id: str) -> int:
        """Forget one; what waits for it is given up. How much that was. Errors: AdminError; RefusedError."""
        if webhook_id not in self._unread:
            self._refuse_from_settings(self._find(webhook_id))
        with told_as_store_failures("the webhook stays"):
            given_up: int = await self._aside(partial(self._store.remove_webhook, webhook_id, REMOVED))
        self._unread.discard(webhook_id)
        await self._end(webhook_id)
        self._senders.pop(webhook_id, None)
        self._changed.set()
        log.info("webhook removed", webhook=webhook_id, given_up=given_up)
        return given_up

    async def test(self, webhook_id: str) -> dict[str, object]:
        """Send it one event now, past the outbox, and say what came of it. Errors: AdminError 404."""
        sender = self._find(webhook_id)
        now_ms = self._unix_ms()
        event_id = new_id("evt", now_ms)
        body = self.body(TEST, sender.webhook.session, {"webhook": webhook_id}, now_ms, event_id)
        await trio.to_thread.run_sync(__import__, "httpx2")
        async with client(1) as link:
            outcome = await sender.post(TEST, event_id, body, 1, link)
        return {
            "id": webhook_id,
            "eventId": event_id,
            "delivered": outcome.is_taken,
            "status": outcome.status,
            "problem": None if outcome.is_taken else outcome.said,
        }

    def _find(self, webhook_id: str) -> Sender:
        sender = self._senders.get(webhook_id)
        if sender is None:
            raise AdminError(
                404,
                "unknown_webhook",
                f"there is no webhook {webhook_id!r}",
                "list them with: python -m runner webhooks list",
            )
        return sender

    @staticmethod
    def _refuse_from_settings(sender: Sender) -> None:
        if sender.webhook.source == FROM_SETTINGS:
            raise RefusedError(
                "from_settings",
                f"the webhook {sender.webhook.id} comes from the settings",
                "change WHATSAPP_WEBHOOK_URLS and restart",
            )

    async def _end(self, webhook_id: str) -> None:
        sender, scope = self._senders.get(webhook_id), self._scopes.pop(webhook_id, None)
        if sender is not None:
            await sender.loop.shutdown(0.0)
        if scope is not None:
            scope.cancel()
