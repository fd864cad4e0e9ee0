"""Mail, chat and the rest by `apprise`, an optional extra, on a worker thread with a time limit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from runner.errors import StartError
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEND_S: Final = 30.0
MOST_WAITING: Final = 100


def load_apprise(urls: Sequence[str]) -> Any:  # noqa: ANN401 - a foreign object without types
    """The addresses, ready to be told. Blocking.

    Errors: StartError when the extra is not installed or an address is none.
    """
    try:
        import apprise  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise StartError(
            "WHATSAPP_ALERT_APPRISE_URLS is set, and apprise is not installed",
            'pip install "wa-runner[apprise]", or leave the setting out',
        ) from None
    service = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not service.add(url):
            raise StartError(
                f"address {number} of WHATSAPP_ALERT_APPRISE_URLS is not one that apprise knows",
                "see https://github.com/caronc/apprise/wiki for how each is written",
            )
    return service


class Mail:
    """Tells all addresses, one notice after the other."""

    def __init__(self, notify: Callable[[str, str, str], bool]) -> None:
        """`notify(title, body, type)` blocks and says whether everybody was told."""
        self._notify = notify
        self._send, self._receive = trio.open_memory_channel[tuple[str, str, str, bool]](MOST_WAITING)
        self.undelivered_total = 0

    def put(self, title: str, body: str, kind: str, *, is_counted: bool = True) -> None:
        """Tell this; never waits. `is_counted`: whether it counts as undelivered when it is."""
        try:
            self._send.send_nowait((title, body, kind, is_counted))
        except trio.WouldBlock:
            self._give_up("too many wait", is_counted=is_counted)

    async def run(self) -> None:
        """Tell until cancelled."""
        async for title, body, kind, is_counted in self._receive:
            problem: str | None = f"not done within {SEND_S:g} s"
            with trio.move_on_after(SEND_S):
                try:
                    is_told = await trio.to_thread.run_sync(
                        partial(self._notify, title, body, kind), abandon_on_cancel=True
                    )
                    problem = None if is_told else "one address or more refused it"
                except Exception as error:  # foreign code of a hundred services
                    problem = type(error).__name__
            if problem is not None:
                self._give_up(problem, is_counted=is_counted)

    def _give_up(self, why: str, *, is_counted: bool) -> None:
        self.undelivered_total += is_counted
        logger().error("alert not delivered", channel="apprise", problem=why)


def notifier(urls: Sequence[str]) -> Callable[[str, str, str], bool] | None:
    """What tells these addresses, or None without any. Blocking. Errors: StartError."""
    if not urls:
        return None
    service = load_apprise(urls)

    def notify(title: str, body: str, kind: str) -> bool:
        return bool(service.notify(title=title, body=body, notify_type=kind))

    return notify
