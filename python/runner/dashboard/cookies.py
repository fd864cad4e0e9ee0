"""Browsers that signed in: a random id in a cookie, the digest of a token here.

The cookie holds neither the token nor anything made from it. What it may do is looked up in the tokens in
force at each call, so a token that is taken away takes its browsers with it. Nothing survives a restart.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from runner.admin.tokens import Tokens

NAME: Final = "runner_session"
LIFETIME_S: Final = 12 * 3600.0
"""A working day; then the token is asked for again."""
MOST_BROWSERS: Final = 1000
"""Beyond it the oldest has to sign in again."""


@dataclass(slots=True)
class Browser:
    """One that signed in."""

    token_digest: bytes
    until: float
    """Monotonic."""
    ended: trio.Event = field(default_factory=trio.Event)


class Cookies:
    """All browsers that are signed in. `now` is monotonic."""

    def __init__(self) -> None:
        self._browsers: dict[bytes, Browser] = {}

    def sign_in(self, token: str, tokens: Tokens, now: float) -> str | None:
        """A new id for a browser that has this token; None when the token is not one of ours."""
        digest = tokens.digest(token)
        if tokens.scopes_of(digest) is None:
            return None
        self._forget_expired(now)
        while len(self._browsers) >= MOST_BROWSERS:
            self._end(next(iter(self._browsers)))
        session_id = secrets.token_urlsafe(32)
        self._browsers[_key(session_id)] = Browser(digest, now + LIFETIME_S)
        return session_id

    def browser(self, session_id: str, now: float) -> Browser | None:
        """The browser with this id, unless its time is over."""
        browser = self._browsers.get(_key(session_id))
        return browser if browser is not None and now < browser.until else None

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


def presented(cookie_header: str) -> str | None:
    """Our cookie out of a Cookie header."""
    for pair in cookie_header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == NAME and value:
            return value
    return None


def setting(session_id: str, *, secure: bool) -> str:
    """The Set-Cookie header that signs in; an empty id signs out."""
    age = int(LIFETIME_S) if session_id else 0
    cookie = f"{NAME}={session_id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return cookie + "; Secure" if secure else cookie
