"""What waits for the alerts' webhooks, when it is tried again, and what of it survives a restart. Pure."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from runner.delivery.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION: Final = 1
QUEUE_KEY: Final = "alert_webhooks"
UNDELIVERED: Final = "alerts_undelivered"
"""The alert about notices that were given up. Its own are not counted when they are: it would feed itself."""
MOST_QUEUED: Final = 500
"""Notices that wait for one webhook; the oldest goes when another comes."""
BASE_S: Final = 2.0
LONGEST_S: Final = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Notice:
    """One event for one target."""

    target: str
    id: str
    event: str
    body: str
    attempts: int = 0
    not_before_ms: int = 0
    is_counted: bool = True
    """Whether it counts as undelivered when it is given up."""


@dataclass(frozen=True, slots=True)
class _Saved:
    version: int
    notices: tuple[Notice, ...]


def retry(attempts: int) -> Retry:
    """Doubling, up to three hours."""
    return Retry("exponential", BASE_S, attempts, LONGEST_S)


def target_key(url: str) -> str:
    """What a target is called in the store: addresses may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


class Queue:
    """What waits for one target, in order."""

    def __init__(self, notices: Iterable[Notice] = ()) -> None:
        self._notices: deque[Notice] = deque(notices, maxlen=MOST_QUEUED)

    def __len__(self) -> int:
        return len(self._notices)

    @property
    def first(self) -> Notice | None:
        """The next to deliver."""
        return self._notices[0] if self._notices else None

    def put(self, notice: Notice) -> Notice | None:
        """Add one; the oldest if it had to go for it."""
        lost = self._notices[0] if len(self._notices) == MOST_QUEUED else None
        self._notices.append(notice)
        return lost

    def done(self, notice: Notice) -> None:
        """It was delivered, or given up."""
        if self._notices and self._notices[0].id == notice.id:
            self._notices.popleft()

    def failed(self, notice: Notice, not_before_ms: int) -> None:
        """One more attempt without success."""
        if self._notices and self._notices[0].id == notice.id:
            self._notices[0] = replace(notice, attempts=notice.attempts + 1, not_before_ms=not_before_ms)

    def all(self) -> tuple[Notice, ...]:
        """Oldest first."""
        return tuple(self._notices)


def saved_json(queues: Iterable[Queue]) -> str:
    """What waits, for the store."""
    notices = tuple(notice for queue in queues for notice in queue.all())
    return msgspec.json.encode(_Saved(VERSION, notices)).decode()


def restored(meta: Mapping[str, str], problems: list[str]) -> tuple[Notice, ...]:
    """What waited when the last run ended. Damage is dropped and told."""
    text = meta.get(QUEUE_KEY)
    if text is None:
        return ()
    try:
        found = msgspec.json.decode(text, type=_Saved)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problems.append(f"{error} in {text[:60]!r}")
        return ()
    if found.version != VERSION:
        problems.append(f"version {found.version} is not {VERSION}")
        return ()
    return found.notices
