"""The kinds of setting: how each is written, parsed and bounded.

`duration`, `count`, `number`, `flag`, `choice` and `text` make one field of `runner.config.Settings` each,
with the `Row` that describes it in the field's metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROW: Final = "setting"
"""Key of the `Row` in a field's metadata."""
MIN_TOKEN_LENGTH: Final = 16
SCOPES: Final = ("read", "operate", "send", "admin")


class WrongValue(Exception):
    """A value that does not parse; the text completes the sentence "`NAME` …"."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one setting is, beside its name and its type."""

    what: str
    parse: Callable[[str], Any]
    kind: str
    """The type in the words of the docs: `duration`, `count`, `ratio`, `text`, `path`, or the choices."""
    written_default: str
    """The default as an operator would write it."""
    unit: str = ""
    reloadable: bool = False
    secret: bool = False


def _bounded(number: float, low: float, high: float) -> None:
    if not low <= number <= high:
        raise WrongValue(f"must lie between {_plain(low)} and {_plain(high)}")


def _plain(number: float) -> str:
    """Without an exponent: as it may be typed."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _whole(text: str, unit: str = "") -> int:
    try:
        return int(text.replace("_", ""))
    except ValueError:
        raise WrongValue(f"must be a whole number{unit}") from None


def _setting(default: object, row: Row) -> Any:  # noqa: ANN401 - stands in for a value of the field's type
    return field(default=default, metadata={ROW: row})


def duration(default_ms: int, what: str, *, low_ms: int = 1, reloadable: bool = False) -> float:
    def parse(text: str) -> float:
        ms = _whole(text, " of milliseconds")
        _bounded(ms, low_ms, 30 * 24 * 3600 * 1000)
        return ms / 1000

    row = Row(what, parse, "duration", str(default_ms), "ms", reloadable)
    return cast("float", _setting(default_ms / 1000, row))


def count(
    default: int, what: str, *, low: int = 0, high: int = 1_000_000, unit: str = "", reloadable: bool = False
) -> int:
    def parse(text: str) -> int:
        number = _whole(text)
        _bounded(number, low, high)
        return number

    return cast("int", _setting(default, Row(what, parse, "count", str(default), unit, reloadable)))


def number(
    default: float, what: str, *, low: float, high: float, unit: str, reloadable: bool = False
) -> float:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise WrongValue("must be a number") from None
        _bounded(number, low, high)
        return number

    kind = "ratio" if unit == "ratio" else "number"
    return cast("float", _setting(default, Row(what, parse, kind, f"{default:g}", unit, reloadable)))


_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes: `1073741824`, `1G`, `1GiB`, `1.5g`; units are powers of 1024, as pm2 and systemd mean them."""
    found = _SIZE.fullmatch(text.strip().replace("_", ""))
    if found is None:
        raise WrongValue("must be bytes, or a size such as 512M, 32G or 1.5GiB")
    exponent = " kmgt".index((found[2] or " ").lower())
    return round(float(found[1]) * (1 << 10 * exponent))


def written_size(size: int) -> str:
    """The shortest way to write it exactly."""
    for unit, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def size(default: int, what: str, *, low: int, reloadable: bool = False) -> int:
    """A number of bytes; 0 is always allowed and means that there is no limit."""

    def parse(text: str) -> int:
        number = parse_size(text)
        if number and number < low:
            raise WrongValue(f"must be 0 (no limit) or at least {written_size(low)}")
        return number

    return cast("int", _setting(default, Row(what, parse, "size", written_size(default), "", reloadable)))


def flag(*, default: bool, what: str, reloadable: bool = False) -> bool:
    words = {
        "true": True,
        "on": True,
        "yes": True,
        "1": True,
        "false": False,
        "off": False,
        "no": False,
        "0": False,
    }

    def parse(text: str) -> bool:
        try:
            return words[text.strip().lower()]
        except KeyError:
            raise WrongValue("must be true or false") from None

    row = Row(what, parse, "true/false", "true" if default else "false", "", reloadable)
    return cast("bool", _setting(default, row))


def choice(default: str, choices: tuple[str, ...], what: str, *, reloadable: bool = False) -> str:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise WrongValue(f"must be one of {', '.join(choices)}{did_you_mean(word, choices)}")
        return word

    return cast("str", _setting(default, Row(what, parse, " / ".join(choices), default, "", reloadable)))


def text(
    default: str,
    what: str,
    *,
    check: Callable[[str], str] = str.strip,
    kind: str = "text",
    secret: bool = False,
    reloadable: bool = False,
    written_default: str | None = None,
) -> str:
    shown = default if written_default is None else written_default
    return cast("str", _setting(default, Row(what, check, kind, shown, "", reloadable, secret)))


def parse_endpoint(text: str) -> str:
    form = "must look like wss://host[:port]/path"
    url = _url(text, form)
    if url.scheme not in {"ws", "wss"} or not url.hostname:
        raise WrongValue(form)
    if url.scheme == "ws" and not is_loopback(url.hostname):
        raise WrongValue("may be plain ws:// only for loopback; use wss://")
    return text.strip()


def parse_proxy(text: str) -> str:
    form = "must look like http://[user:password@]host:port or socks5://[user:password@]host:port"
    url = _url(text, form)
    if url.scheme not in {"http", "socks5", "socks5h"} or not url.hostname:
        raise WrongValue(form)
    return text.strip()


def _url(text: str, form: str) -> SplitResult:
    """The parts of a URL, its port within range."""
    try:
        url = urlsplit(text.strip())
        if url.port == 0:
            raise WrongValue(f"{form}, with a port of 1 to 65535")
    except ValueError:  # a bracket that does not close, a port that is no port
        raise WrongValue(f"{form}, with a port of 1 to 65535") from None
    return url


def parse_root_key(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
        raise WrongValue("must be 32 bytes as 64 hex digits")
    return text.strip().lower()


def parse_client_version(text: str) -> str:
    if text.strip() != "auto" and not re.fullmatch(r"\d{1,9}\.\d{1,9}\.\d{1,12}", text.strip()):
        raise WrongValue("must be auto or three numbers such as 2.3000.1023223821")
    return text.strip()


def parse_tokens(text: str) -> str:
    """One token per line or comma, each with its scopes: `TOKEN` (everything) or `TOKEN:read+operate`."""
    for number, entry in enumerate(split_tokens(text), 1):
        token, _, scopes = entry.partition(":")
        if len(token) < MIN_TOKEN_LENGTH:
            raise WrongValue(
                f"has a token of less than {MIN_TOKEN_LENGTH} characters; try: openssl rand -hex 24"
            )
        if set(scopes.split("+")) - {"", *SCOPES}:
            # What stands there is not told: it may be the rest of a token that holds a colon.
            raise WrongValue(
                f"has, behind the colon of token {number}, something that is no scope (there are "
                f"{', '.join(SCOPES)}, joined by +)"
            )
    return text.strip()


def parse_webhook_urls(text: str) -> str:
    form = "must be http(s) addresses such as https://example.com/hook, separated by commas"
    for address in split_list(text):
        url = _url(address, form)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise WrongValue(form)
    return text.strip()


def parse_allowed_targets(text: str) -> str:
    for entry in split_list(text):
        if "/" in entry:
            try:
                ip_network(entry, strict=False)
            except ValueError:
                raise WrongValue("has a network that is none; write it like 10.0.0.0/8") from None
    return text.strip()


def split_list(text: str) -> list[str]:
    """The entries of a list with commas."""
    return [entry.strip() for entry in text.replace("\n", ",").split(",") if entry.strip()]


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_real_host(host: str) -> bool:
    """Whether `host` is WhatsApp itself, where no other certificate root may be trusted."""
    name = host.rstrip(".").lower()
    return any(name == real or name.endswith(f".{real}") for real in ("whatsapp.com", "whatsapp.net"))


def split_tokens(text: str) -> list[str]:
    """The entries of an admin token setting."""
    return split_list(text)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The nearest right word, as the end of a sentence, or nothing."""
    from difflib import get_close_matches  # here: 6 ms that only a mistake pays for

    near = get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
