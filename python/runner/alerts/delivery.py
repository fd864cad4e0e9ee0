"""What is sent to a webhook, when it is tried again, and what of it survives a restart. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

VERSION: Final = 1
QUEUE_KEY: Final = "alert_webhooks"
UNDELIVERED: Final = "alerts_undelivered"
"""The alert about notices that were given up. Its own are not counted when they are: it would feed itself."""
MOST_QUEUED: Final = 500
"""Notices that wait for one webhook; the oldest goes when another comes."""
BASE_S: Final = 2.0
LONGEST_S: Final = 3 * 3600.0
LONGEST_ASKED_S: Final = 24 * 3600.0
_AGAIN: Final = frozenset({408, 425, 429})


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


def target_key(url: str) -> str:
    """What a target is called in the store: addresses may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def headers(body: bytes, notice: Notice, secret: str, request_id: str, now_ms: int) -> dict[str, str]:
    """The headers of one attempt. Signed over the raw body, and once more with the time of sending."""
    made = {
        "content-type": "application/json",
        "user-agent": "wa-runner",
        "idempotency-key": notice.id,
        "x-webhook-request-id": request_id,
        "x-webhook-timestamp": str(now_ms),
        "x-webhook-attempt": str(notice.attempts + 1),
    }
    if secret:
        key = secret.encode()
        made |= {
            "x-webhook-hmac": hmac.new(key, body, hashlib.sha512).hexdigest(),
            "x-webhook-hmac-algorithm": "sha512",
            "x-webhook-hmac-v2": hmac.new(key, f"{now_ms}.".encode() + body, hashlib.sha512).hexdigest(),
            "x-hub-signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        }
    return made


def is_tried_again(status: int) -> bool:
    """Whether an answer leaves hope. 400, 401, 403, 404, 422 and redirects do not."""
    return status in _AGAIN or status >= 500


def delay_s(attempts: int, retry_after: str | None, now_ms: int, rng: Random) -> float:
    """Until the next attempt, after so many failed ones: doubling, jittered, never before `Retry-After`."""
    ceiling = min(LONGEST_S, BASE_S * 2.0 ** min(attempts - 1, 32))
    return max(rng.uniform(ceiling / 2, ceiling), _asked_s(retry_after, now_ms))


def _asked_s(retry_after: str | None, now_ms: int) -> float:
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_ASKED_S)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    wait_s = (at - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return min(max(wait_s, 0.0), LONGEST_ASKED_S)


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
