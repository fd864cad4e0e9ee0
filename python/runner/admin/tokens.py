"""Tokens of the admin API: who else than the runner's own user may come in, and how far.

Only digests are kept in memory and compared, in constant time. Without `WHATSAPP_ADMIN_TOKEN` a token is
made at the first start and stored `0600` in the data directory; there is no default secret.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from runner.config_kinds import SCOPES, WrongValue, parse_tokens, split_tokens
from runner.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

READ: Final = "read"
OPERATE: Final = "operate"
SEND: Final = "send"
ADMIN: Final = "admin"
EVERYTHING: Final = frozenset(SCOPES)
_IMPLIED: Final = {"read": {"read"}, "operate": {"operate", "read"}, "send": {"send"}, "admin": set(SCOPES)}


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens in force: digests with their scopes."""

    entries: tuple[tuple[bytes, frozenset[str]], ...]

    @staticmethod
    def digest(presented: str) -> bytes:
        """What is kept of a token."""
        return sha256(presented.encode("utf-8", "surrogateescape")).digest()

    def scopes(self, presented: str) -> frozenset[str] | None:
        """What a presented token may do; None when it is not one of ours."""
        return self.scopes_of(self.digest(presented))

    def scopes_of(self, digest: bytes) -> frozenset[str] | None:
        """What the token with this digest may do; None when it is not, or no longer, one of ours."""
        granted = None
        for known, scopes in self.entries:
            if hmac.compare_digest(known, digest):
                granted = scopes
        return granted


def parse(text: str) -> Tokens:
    """Read `TOKEN` or `TOKEN:read+operate`, separated by commas or lines; no scope means all of them."""
    entries = []
    for entry in split_tokens(text):
        token, _, words = entry.partition(":")
        scopes = set().union(*(_IMPLIED[word] for word in words.split("+") if word)) or set(SCOPES)
        entries.append((sha256(token.encode()).digest(), frozenset(scopes)))
    return Tokens(tuple(entries))


def _create(path: Path) -> None:
    """Whole or not there: an empty file, left by a full disk, would keep every later start from working."""
    if path.exists():
        return
    making = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o600)
            file.write(secrets.token_urlsafe(32) + "\n")
        making.rename(path)
    finally:
        making.unlink(missing_ok=True)


def load_or_create(path: Path) -> Tokens:
    """The generated token, made at the first start. Blocking.

    Errors: ConfigError when the file can be read by others, or holds no usable token.
    """
    try:
        _create(path)
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path} cannot be read or made: {why}"]) from error
    if mode & 0o077:
        raise ConfigError([f"{path} can be read by others (mode {mode & 0o777:o}); run: chmod 600 {path}"])
    try:
        if not parse_tokens(text):
            raise WrongValue("is empty")
    except WrongValue as wrong:
        raise ConfigError(
            [f"{path} holds no usable token, it {wrong}; remove it and a new one is made"]
        ) from wrong
    return parse(text)
