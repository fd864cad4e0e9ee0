"""Keeps phone numbers, keys and message text out of log lines.

Works on the finished event, so that no caller has to remember it. Numbers keep their last two digits, enough
to tell two apart on the telephone. A session id is the operator's own label and stays as it is: name sessions
after desks, not after numbers.

What an operator set as a secret is known by its value; the rest by how it looks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

FEWEST_CHARACTERS: Final = 8
"""A shorter secret would be found in words that are none."""
LABELS: Final = frozenset({"session", "ts", "level"})
"""Keys whose values are ours or the operator's and are written as they are."""

_SECRET_WORDS: Final = (
    "secret",
    "token",
    "password",
    "authorization",
    "api_key",
    "apikey",
    "private",
    "credential",
)
_TEXT_KEYS: Final = frozenset({"text", "body", "message_text", "push_name", "pushname"})

_JID: Final = re.compile(
    r"(\d{3,20})((?:[._:]\d+)*@(?:s\.whatsapp\.net|c\.us|lid|g\.us|hosted(?:\.lid)?|msgr|newsletter))"
)
_GROUP: Final = re.compile(r"\d{5,20}-\d{5,20}(?=@g\.us)")
_NUMBER: Final = re.compile(r"(?<![^\W_])(?<!\d\.)(?<!\.damaged-)\+?\d[\d ()-]{7,18}\d(?![^\W_]|\.\d{4})")
"""Also at the end of a sentence and in a Signal address (`15550001111_1.0`); versions are left alone, and
so is the name of a store that was set aside, which the operator has to find."""
_USERINFO: Final = re.compile(r"(?<=://)[^\s\"'<>]+@")
"""To the last @: a password may hold another, or a slash, as someone typed it."""
_HEX_KEY: Final = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])")
_BASE64_KEY: Final = re.compile(r"(?<![\w+/])[A-Za-z0-9+/_-]{40,}={0,2}(?![\w+/])")
_BYTES: Final = re.compile(r"""\bb(?:'(?:[^'\\]|\\.){8,}'|"(?:[^"\\]|\\.){8,}")""")
_BYTE_LIST: Final = re.compile(r"(?<![\d.])(?:\d{1,3}, ?){7,}\d{1,3}(?![\d.])")
"""Keys as Python and Rust show them."""
_DIGITS_NEEDED: Final = 9
"""Fewer digits are counts, ports and codes; E.164 numbers in use have more."""


def redact_text(text: str) -> str:
    """`text` without numbers, JIDs, keys and passwords that it may carry."""
    text = _USERINFO.sub("***@", text)
    text = _GROUP.sub(lambda found: f"…{found[0][-2:]}", text)
    text = _JID.sub(lambda found: f"…{found[1][-2:]}{found[2]}", text)
    text = _HEX_KEY.sub("[key]", text)
    text = _BASE64_KEY.sub(_mask_key, text)
    text = _BYTES.sub("[bytes]", text)
    text = _BYTE_LIST.sub("[bytes]", text)
    return _NUMBER.sub(_mask_number, text)


class Redactor:
    """Redacts log events, as a structlog processor, and text; knows some secrets by their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one may be a part of another.
        self._secrets = sorted({it for it in secrets if len(it) >= FEWEST_CHARACTERS}, key=len, reverse=True)

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, object]
    ) -> MutableMapping[str, object]:
        """The event without what nobody may read; labels stay."""
        for key, value in event.items():
            if key not in LABELS:
                event[key] = self._value(key, value)
        return event

    def text(self, text: str) -> str:
        """`text` without secrets, and without what looks like one."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact_text(text)

    def _value(self, key: str, value: object) -> object:
        lowered = key.lower()
        if value is not None and any(word in lowered for word in _SECRET_WORDS):
            return "***"
        if lowered in _TEXT_KEYS and isinstance(value, str):
            return f"<{len(value)} characters>"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(key, item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))

    def _mapping(self, mapping: Mapping[object, object]) -> dict[str, object]:
        return {self.text(str(key)): self._value(str(key), value) for key, value in mapping.items()}


def _mask_number(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return found[0] if len(digits) < _DIGITS_NEEDED or _is_date(found[0]) else f"…{digits[-2:]}"


def _mask_key(found: re.Match[str]) -> str:
    # A long path or a slug is not a key: keys mix cases and digits.
    word = found[0]
    is_mixed = (
        any(c.isdigit() for c in word) and any(c.isupper() for c in word) and any(c.islower() for c in word)
    )
    return "[key]" if is_mixed else word


def _is_date(text: str) -> bool:
    return re.match(r"\d{4}-\d\d-\d\d", text) is not None
