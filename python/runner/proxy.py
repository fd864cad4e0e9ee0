"""Proxy URLs of sessions: which may be used, and how a wrong one is shown without its password."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from runner.config_kinds import WrongValue, parse_proxy
from runner.errors import RunnerError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAX_LENGTH: Final = 1000
"""The durable state of a session keeps no longer text."""
_MAX_CREDENTIAL_BYTES: Final = 255
"""Of a user and of a password, in SOCKS5."""
_SHOWN: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]{0,9}://)?[^:/?#\s@]{0,80}(?::\d{1,6}(?![^/?#\s:]))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,9}://")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ProxyWrongError(RunnerError):
    """A proxy that no session can use; nothing was changed. The message holds no password."""

    slug = "parameter_wrong"
    remedy = (
        "give socks5://user:password@host:port or http://user:password@host:port, with special characters of "
        "user and password percent-encoded; null (none on the command line) for the runner's own setting"
    )


def checked_proxy(url: str) -> str:
    """`url`, when a session can use it.

    Errors: ProxyWrongError.
    """
    try:
        known = parse_proxy(url)
        _check_parts(urlsplit(known))
        if len(known) > MAX_LENGTH or not known.isprintable() or " " in known:
            raise WrongValue(f"must be at most {MAX_LENGTH} printable characters, without blanks")
    except WrongValue as wrong:
        raise ProxyWrongError(f"proxy {shown(url)!r} {wrong}") from None
    return known


def _check_parts(parts: SplitResult) -> None:
    """What the engine would refuse later, when the session is dialled."""
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise WrongValue("must end after its port")
    if "@" not in parts.netloc:
        return
    user, password = parts.username or "", parts.password or ""
    decoded = unquote_to_bytes(user), unquote_to_bytes(password)
    if _BROKEN_ESCAPE.search(user + "|" + password) or not decoded[0] or b":" in decoded[0]:
        raise WrongValue("must have a user, and user and password percent-encoded")
    if max(map(len, decoded)) > _MAX_CREDENTIAL_BYTES:
        raise WrongValue(f"may have a user and a password of at most {_MAX_CREDENTIAL_BYTES} bytes each")


def shown(url: str) -> str:
    """A proxy as someone wrote it, right or wrong, without anything that may be a password."""
    userinfo, at, rest = url.strip().rpartition("@")
    scheme = _SCHEME.match(userinfo)
    start = f"{scheme[0] if scheme else ''}***@" if at else ""
    found = _SHOWN.match(rest)
    visible = found[0] if found else ""
    return start + visible + ("…" if len(visible) < len(rest) else "")
