"""Mail, chat and the rest by `apprise`, an optional extra, on a worker thread with a time limit."""

from __future__ import annotations

from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from runner.alerts.delivery import retry
from runner.errors import StartError
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Notify = Callable[[str, str, str], bool]
    """Tells one address a title, a body and a type; blocks, and says whether it was told."""

SEND_S: Final = 30.0
MOST_WAITING: Final = 100


class _Letter(NamedTuple):
    title: str
    body: str
    kind: str
    is_counted: bool


class Mail:
    """Tells one address, one notice after the other, each until it is taken or given up."""

    def __init__(self, notify: Notify, attempts: int) -> None:
        self._notify = notify
        self._retry = retry(attempts)
        self._rng = Random()  # jitter is no secret
        self._send, self._receive = trio.open_memory_channel[_Letter](MOST_WAITING)
        self.undelivered_total = 0

    def put(self, title: str, body: str, kind: str, *, is_counted: bool = True) -> None:
        """Tell this; never waits. `is_counted`: whether it counts as undelivered when it is."""
        letter = _Letter(title, body, kind, is_counted)
        try:
            self._send.send_nowait(letter)
        except trio.WouldBlock:
            self._give_up(letter, "too many wait")

    async def run(self) -> None:
        """Tell until cancelled."""
        async for letter in self._receive:
            for attempt in count(1):
                problem = await self._tell(letter)
                if problem is None:
                    break
                if self._retry.is_over(attempt):
                    self._give_up(letter, problem)
                    break
                wait_s = self._retry.wait_s(attempt, self._rng)
                logger().warning(
                    "alert mail failed", problem=problem, attempt=attempt, delayMs=round(1000 * wait_s)
                )
                await trio.sleep(wait_s)

    async def _tell(self, letter: _Letter) -> str | None:
        """One attempt; what kept it from succeeding."""
        with trio.move_on_after(SEND_S):
            notify = partial(self._notify, letter.title, letter.body, letter.kind)
            try:
                is_told = await trio.to_thread.run_sync(notify, abandon_on_cancel=True)
            except Exception as error:  # foreign code of a hundred services
                return type(error).__name__
            return None if is_told else "the address refused it"
        return f"not done within {SEND_S:g} s"

    def _give_up(self, letter: _Letter, why: str) -> None:
        self.undelivered_total += letter.is_counted
        logger().error("alert not delivered", channel="apprise", problem=why)


def notifiers(urls: Sequence[str]) -> list[Notify]:
    """What tells each of these addresses. Blocking.

    Errors: StartError when the extra is not installed or an address is none.
    """
    if not urls:
        return []
    try:
        import apprise  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise StartError(
            "WHATSAPP_ALERT_APPRISE_URLS is set, and apprise is not installed",
            'pip install "wa-runner[apprise]", or leave the setting out',
        ) from None
    return [_notifier(apprise.Apprise(), url, number) for number, url in enumerate(urls, 1)]


def _notifier(service: Any, url: str, number: int) -> Notify:  # noqa: ANN401 - a foreign object without types
    if not service.add(url):
        raise StartError(
            f"address {number} of WHATSAPP_ALERT_APPRISE_URLS is not one that apprise knows",
            "see https://github.com/caronc/apprise/wiki for how each is written",
        )

    def notify(title: str, body: str, kind: str) -> bool:
        return bool(service.notify(title=title, body=body, notify_type=kind))

    return notify
