"""What an operator set as a secret, in the pieces in which something could tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from runner.config import rows
from runner.config_kinds import split_list, split_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.config import Settings

_SECRET_PATH: Final = 16
"""Shorter paths of webhooks are words such as `services`."""


def own_secrets(settings: Settings) -> list[str]:
    """The pieces of every setting that is secret."""
    found: list[str] = []
    for entry, row in rows().values():
        if row.secret and (value := str(getattr(settings, entry.name))):
            found += _PIECES.get(row.kind, _whole)(value)
    return [piece for piece in found if piece]


def _whole(value: str) -> Iterator[str]:
    yield value


def _tokens(value: str) -> Iterator[str]:
    for entry in split_tokens(value):
        yield entry.partition(":")[0]


def _headers(value: str) -> Iterator[str]:
    for line in value.splitlines():
        yield line.partition(":")[2].strip()


def _urls(value: str) -> Iterator[str]:
    for url in split_list(value):
        yield url
        try:
            parts = urlsplit(url)
        except ValueError:  # apprise takes what is no URL
            continue
        password = parts.password or ""
        yield from (password, unquote(password), parts.query)
        if len(path := parts.path.strip("/")) >= _SECRET_PATH:
            yield path


_PIECES: Final[dict[str, Callable[[str], Iterator[str]]]] = {
    "token": _tokens,
    "URL": _urls,
    "URLs": _urls,
    "headers": _headers,
}
"""By the kind of the setting; of any other kind the whole."""
