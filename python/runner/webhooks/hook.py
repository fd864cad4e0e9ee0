"""One webhook: where to, which events of which session, how signed, how often tried. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from runner.config_kinds import WrongValue, did_you_mean, parse_webhook_urls
from runner.delivery.retry import POLICIES, Retry
from runner.errors import WebhookWrongError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVENTS: Final = {
    "message": "a message came in, decrypted",
    "message.undecryptable": "a message could not be read, and is not expected to come again",
    "session.status": "a session's state changed",
    "session.reconnecting": "a session lost its connection and will try again",
    "session.reconnected": "it is online again",
    "session.reconnect_loop": "it comes and goes",
    "session.breaker": "its circuit breaker opened or closed",
    "session.restricted": "WhatsApp refuses its texts to people who have not written to it",
    "incident.opened": "something is wrong for many sessions at once",
    "incident.closed": "it is over",
    "alert.firing": "an alert began",
    "alert.acknowledged": "somebody looks after it",
    "alert.resolved": "it is over",
}
"""Every event that a webhook may ask for. `webhook.test` goes to one only, when an operator asks."""
TEST: Final = "webhook.test"
FAMILIES: Final = tuple(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENTS if "." in name))
"""What means several of them, beside `*`."""
DEFAULT_EVENTS: Final = ("message", "session.status")
FROM_SETTINGS: Final = "settings"
MOST_HEADERS: Final = 20
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4096}")
_OURS: Final = frozenset(
    {
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "user-agent",
        "x-hub-signature-256",
    }
)


Policy = Literal["constant", "linear", "exponential"]


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How often a delivery is tried, as the API has it."""

    policy: Policy = "exponential"
    delay_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 2.0
    attempts: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 24
    """Whole; JSON does not tell 24 from 24.0."""


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /api/webhooks`."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    events: Annotated[list[str], msgspec.Meta(min_length=1, max_length=50)] = msgspec.field(
        default_factory=lambda: list(DEFAULT_EVENTS)
    )
    session: str | None = None
    """Only of this session; None: of all."""
    secret: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    headers: dict[str, str] = {}
    retries: Retries = Retries()


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, as it is stored."""

    id: str
    url: str
    events: tuple[str, ...]
    session: str | None = None
    secret: str = ""
    headers: dict[str, str] = {}
    retries: Retries = Retries()
    source: str = "api"
    """`api`, or `settings`: then it is changed there."""

    @property
    def host(self) -> str:
        """For the log: the rest of an address may hold secrets."""
        return urlsplit(self.url).hostname or ""

    def wants(self, event: str, session_id: str | None) -> bool:
        """Whether this event goes here; a session's webhook gets nothing that is of none.

        What is not in `EVENTS` goes nowhere: `session.qr` has a code that links a phone.
        """
        if event not in EVENTS:
            return False
        if self.session is not None and self.session != session_id:
            return False
        return any(is_meant(pattern, event) for pattern in self.events)

    def retry(self, longest_s: float) -> Retry:
        """The rule, with the ceiling that all share."""
        it = self.retries
        return Retry(it.policy, it.delay_seconds, int(it.attempts), longest_s)

    def to_json(self, *, with_detail: bool) -> dict[str, object]:
        """As shown; secrets never, and the path of the address only to who may operate."""
        url = urlsplit(self.url)
        shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}" if with_detail else None
        return {
            "id": self.id,
            "url": shown or f"{url.scheme}://{url.hostname}/…",
            "events": list(self.events),
            "session": self.session,
            "signed": bool(self.secret),
            "headers": sorted(self.headers),
            "retries": {
                "policy": self.retries.policy,
                "delaySeconds": self.retries.delay_seconds,
                "attempts": int(self.retries.attempts),
            },
            "source": self.source,
        }


def is_meant(pattern: str, event: str) -> bool:
    """Whether `message`, `session.*` or `*` means this event."""
    if pattern.endswith(".*"):
        return event.startswith(pattern[:-1])
    return pattern in ("*", event)


def checked_events(patterns: Iterable[str]) -> tuple[str, ...]:
    """The filter, when every word of it means an event. Errors: WebhookWrongError."""
    found = tuple(dict.fromkeys(patterns))
    for pattern in found:
        if not any(is_meant(pattern, event) for event in EVENTS):
            known = ", ".join(EVENTS)
            raise WebhookWrongError(
                f"there is no event {pattern!r}{did_you_mean(pattern, EVENTS)}",
                f"use * or some of {known}; session.* means all that begin so",
            )
    return found


def checked(webhook_id: str, wish: NewWebhook, source: str = "api") -> Webhook:
    """The webhook that was asked for. Where its name leads is not looked at here.

    Errors: WebhookWrongError that names the field.
    """
    try:
        (url,) = [parse_webhook_urls(wish.url)]
        if len(wish.url.split()) != 1 or "," in wish.url:
            raise WrongValue
    except WrongValue:
        raise WebhookWrongError(
            "url must be one http(s) address", "write it like https://example.com/hook"
        ) from None
    if wish.retries.attempts != int(wish.retries.attempts):
        raise WebhookWrongError("retries.attempts must be a whole number")
    return Webhook(
        id=webhook_id,
        url=url,
        events=checked_events(wish.events),
        session=wish.session,
        secret=wish.secret,
        headers=checked_headers(wish.headers),
        retries=wish.retries,
        source=source,
    )


def checked_headers(wish: Mapping[str, str]) -> dict[str, str]:
    """Headers that may be added. Errors: WebhookWrongError."""
    if len(wish) > MOST_HEADERS:
        raise WebhookWrongError(f"{len(wish)} headers are more than {MOST_HEADERS}")
    for name, value in wish.items():
        if not _HEADER_NAME.fullmatch(name):
            raise WebhookWrongError(f"{name[:60]!r} cannot be the name of a header")
        if name.lower() in _OURS or name.lower().startswith("x-webhook-"):
            raise WebhookWrongError(f"the header {name} is set by the runner", "choose another name")
        if not _HEADER_VALUE.fullmatch(value):
            raise WebhookWrongError(f"the value of the header {name} has a character that none may have")
    return {name.lower(): value for name, value in wish.items()}


def decoded(webhook_id: str, json: str) -> Webhook | None:
    """A webhook as `put_webhook` got it; None when this version cannot read it."""
    try:
        found = msgspec.json.decode(json, type=Webhook)
    except msgspec.MsgspecError:
        return None
    return found if found.id == webhook_id and found.retries.policy in POLICIES else None


def encoded(webhook: Webhook) -> str:
    """For `put_webhook`."""
    return msgspec.json.encode(webhook).decode()
