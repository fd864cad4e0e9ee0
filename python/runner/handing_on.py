"""Puts together what hands messages and events on: the consumer, the webhooks, the dead letters."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

import trio

from runner.consumer.inbound import message_of
from runner.consumer.loop import Consumer, Limits, event_id_of
from runner.consumer.undecryptable import UNDECRYPTABLE, Undecryptable
from runner.dead_letters import DeadLetters
from runner.delivery.retry import Retry
from runner.sending import Sending
from runner.supervisor.feed import StatusEvent
from runner.webhooks.registry import Webhooks

if TYPE_CHECKING:
    from runner import _core
    from runner.application import App
    from runner.config import Settings
    from runner.consumer.inbound import Inbound
    from runner.engine import EngineEvent
    from runner.sending import Sender
    from runner.session import State
    from runner.supervisor import Supervisor
    from runner.tally import Tally

LONGEST_RETRY_S: Final = 300.0
"""Between two calls of a handler for the same message."""


class HandingOn:
    """All of one process. Use it from the Trio thread."""

    def __init__(
        self,
        store: _core.Store,
        supervisor: Supervisor,
        settings: Settings,
        app: App | None,
        tally: Tally,
        version: str,
        engine: Sender,
    ) -> None:
        """Blocking: reads the store. Errors: ConfigError for webhooks that cannot be used."""
        self._supervisor = supervisor
        self._stop_s = settings.handler_stop_timeout_s
        rng = Random()  # jitter is no secret
        self.webhooks = Webhooks(
            store,
            settings,
            subscribe=supervisor.subscribe,
            wanted=self._rescan,
            me=supervisor.me,
            version=version,
            tally=tally,
            unix_ms=supervisor.machine.unix_ms,
            rng=rng,
        )
        self.sending = Sending(engine, self._where)
        retry = Retry(
            "exponential", settings.handler_retry_delay_s, settings.handler_attempts, LONGEST_RETRY_S
        )
        self.consumer = Consumer(
            store,
            self.webhooks,
            app,
            Limits(settings.handler_concurrency, settings.handler_timeout_s, retry),
            state=self._state,
            tell=self._tell,
            tally=tally,
            rng=rng,
            sending=self.sending,
        )
        self.undecryptable = Undecryptable(
            store,
            self.webhooks,
            settings.undecrypted_timeout_s,
            tell=self._tell_undecryptable,
            tally=tally,
            unix_ms=supervisor.machine.unix_ms,
        )
        self.dead_letters = DeadLetters(store, self.consumer, self.webhooks)

    def observe(self, event: EngineEvent) -> None:
        """An event of the engine: the inbox may have something new, or a text has its outcome."""
        if event.kind == "messages":
            self.consumer.loop.wake()
        else:
            self.sending.observe(event)

    async def shutdown(self) -> bool:
        """Let handlers and deliveries at work end, within their budget. Whether the handlers did."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.webhooks.shutdown, self._stop_s)
            return await self.consumer.loop.shutdown(self._stop_s)

    def _rescan(self) -> None:
        self.consumer.loop.rescan()

    def _state(self, session_id: str) -> State | None:
        standing = self._supervisor.standing(session_id)
        return None if standing is None else standing.state

    def _where(self, session_id: str) -> tuple[State, int] | None:
        standing = self._supervisor.standing(session_id)
        return None if standing is None else (standing.state, standing.connection)

    def _tell_undecryptable(
        self, session_id: str, payload: dict[str, object], at_ms: int, event_id: str
    ) -> None:
        event = StatusEvent(UNDECRYPTABLE, session_id, at_ms, None, payload, event_id=event_id)
        self._supervisor.machine.feed.publish(event)

    def _tell(self, item: Inbound) -> None:
        feed = self._supervisor.machine.feed
        if feed.is_heard:
            message, event_id = message_of(item), event_id_of(item)
            at_ms = message.received_unix_ms
            feed.publish(
                StatusEvent("message", item.session_id, at_ms, None, message.to_json(), event_id=event_id)
            )
