"""The envelope of every event that leaves the runner: over the WebSocket, in a webhook, in `alerts.log`."""

from __future__ import annotations

import secrets
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class Me(NamedTuple):
    """The account of a session. Its number stays out of logs and of what those see who only read."""

    id: str
    """`15550001111@c.us`."""
    push_name: str | None
    """The name that others see; None when nobody has told it."""

    @classmethod
    def of(cls, jid: str | None, push_name: str | None) -> Me | None:
        """From a JID, with or without a device; None without one."""
        if jid is None:
            return None
        return cls(f"{jid.partition('@')[0].partition(':')[0]}@c.us", push_name)

    def to_json(self) -> dict[str, str | None]:
        """As it stands in envelopes."""
        return {"id": self.id, "pushName": self.push_name}


def ulid(unix_ms: int, random: int) -> str:
    """A lower-case ULID: 48 bits of time, 80 of randomness, in Crockford's base 32."""
    number = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | random
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def new_id(prefix: str, unix_ms: int) -> str:
    """A name that nothing else has, such as `evt_01h…`; later ones sort after earlier ones."""
    return f"{prefix}_{ulid(unix_ms, secrets.randbits(80))}"


def derived_id(prefix: str, unix_ms: int, *names: str) -> str:
    """A name of the same form that is always the same for the same thing."""
    digest = blake2b("\0".join(names).encode(), digest_size=10).digest()
    return f"{prefix}_{ulid(unix_ms, int.from_bytes(digest))}"


def envelope(
    event: str,
    session: str | None,
    payload: Mapping[str, object],
    version: str,
    at_unix_ms: int | None = None,
    event_id: str | None = None,
    me: Me | None = None,
) -> bytes:
    """One message. `event_id` stays the same when it is sent again, so that receivers can de-duplicate.

    `me` is whose session it is, for those who may see numbers."""
    now = int(time.time() * 1000) if at_unix_ms is None else at_unix_ms
    return msgspec.json.encode(
        {
            "id": event_id or new_id("evt", now),
            "timestamp": now,
            "event": event,
            "session": session,
            "metadata": {},
            "me": me and me.to_json(),
            "payload": payload,
            "engine": "runner",
            "environment": {"version": version},
        }
    )
