"""Browsers that signed in: a random id in a cookie, the digest of a token here.

The cookie holds neither the token nor anything made from it. What it may do is looked up in the tokens in
force at each call, so a token that is taken away takes its browsers with it. Nothing survives a restart.

A browser keeps its cookies by host and not by port (RFC 6265, section 8.5). So each runner's cookie has a
name of its own, or two on one machine would sign each other out; and a server of another user on this
machine, to which the browser sends the cookie as well, cannot use it: it is good only for who signed in.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = "runner_session"
_PORT: Final = re.compile(r":([0-9]{1,5})$")
LIFETIME_S: Final = 12 * 3600.0
"""A working day; then the token is asked for again."""
MOST_BROWSERS: Final = 1000
"""Beyond it the oldest has to sign in again."""


@dataclass(slots=True)
class Browser:
    """One that signed in."""

    token_digest: bytes
    uid: int | None
    """The user of this machine who signed in; None: from elsewhere, or not known."""
    until: float
    """Monotonic."""
    ended: trio.Event = field(default_factory=trio.Event)


class Cookies:
    """All browsers that are signed in. `now` is monotonic."""

    def __init__(self) -> None:
        self._browsers: dict[bytes, Browser] = {}

    def sign_in(self, token_digest: bytes, uid: int | None, now: float) -> str:
        """A new id for the browser of this user, who has that token."""
        self._forget_expired(now)
        while len(self._browsers) >= MOST_BROWSERS:
            self._end(next(iter(self._browsers)))
        session_id = secrets.token_urlsafe(32)
        self._browsers[_key(session_id)] = Browser(token_digest, uid, now + LIFETIME_S)
        return session_id

    def browser(self, session_id: str, uid: int | None, now: float) -> Browser | None:
        """The browser with this id, unless its time is over or another user shows it."""
        browser = self._browsers.get(_key(session_id))
        return browser if browser is not None and now < browser.until and uid == browser.uid else None

    def sign_out(self, session_id: str) -> None:
        """Forget a browser, if it is known."""
        self._end(_key(session_id))

    def _forget_expired(self, now: float) -> None:
        for key in [key for key, browser in self._browsers.items() if browser.until <= now]:
            self._end(key)

    def _end(self, key: bytes) -> None:
        if (browser := self._browsers.pop(key, None)) is not None:
            browser.ended.set()


def _key(session_id: str) -> bytes:
    """Looking up a digest tells nothing about the ids by its timing."""
    return sha256(session_id.encode("utf-8", "surrogateescape")).digest()


def name_at(host: str) -> str:
    """What the cookie is called, by the port in the Host header: the one in the browser's address bar."""
    found = _PORT.search(host)
    return f"{_NAME}_{found[1]}" if found else _NAME


def presented(headers: Mapping[str, str]) -> str | None:
    """Our cookie out of the headers of a request."""
    ours = name_at(headers.get("host", ""))
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == ours and value:
            return value
    return None


def setting(host: str, session_id: str, *, secure: bool) -> str:
    """The Set-Cookie header that signs in; an empty id signs out."""
    age = int(LIFETIME_S) if session_id else 0
    cookie = f"{name_at(host)}={session_id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return cookie + "; Secure" if secure else cookie
