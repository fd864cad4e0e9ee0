"""Searches what a runner puts out for what must not be in it, in every way it could be written.

Keys are looked for raw, as hex, as base64 of both alphabets (at each of the three ways they can lie in a
longer text), as Python and Rust print bytes; the first bytes are enough. Words are looked for as they are and
as URLs, JSON, hex and base64 have them.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ENCODED = re.compile(rb"[A-Za-z0-9+/_=-]{16,}")
_KEY_BYTES = 12
"""Of a key that give it away: a line may be cut, and twelve bytes are no chance."""


class Secrets:
    """Everything that is looked for, by a name for the report."""

    def __init__(self) -> None:
        self._plain: dict[bytes, str] = {}
        self._encoded: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._plain) + len(self._encoded)

    def word(self, name: str, text: str) -> None:
        """A password, a token, a message, a number."""
        raw = text.encode()
        escaped = json.dumps(text)[1:-1].encode()
        for spelling in (raw, escaped, quote(text, safe="").encode(), repr(text)[1:-1].encode()):
            self._plain[spelling] = name
        self._all_encoded(name, raw)

    def key(self, name: str, raw: bytes) -> None:
        """Bytes that a device is made of."""
        head = raw[:_KEY_BYTES]
        self._plain[head] = name
        self._plain[repr(head)[2:-1].encode()] = name
        self._plain[", ".join(map(str, head)).encode()] = name
        self._plain[",".join(map(str, head)).encode()] = name
        self._all_encoded(name, head)

    def _all_encoded(self, name: str, raw: bytes) -> None:
        self._encoded[raw.hex().encode()] = name
        self._encoded[raw.hex().upper().encode()] = name
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + raw)
            # Without the characters that also hold bits of what stands before or after.
            sure = text[(0, 2, 3)[shift] : 4 * ((shift + len(raw)) // 3)]
            if len(sure) >= 10:
                self._encoded[sure] = self._encoded[sure.replace(b"+", b"-").replace(b"/", b"_")] = name

    def credentials(self, directory: Path) -> None:
        """Every key, number and name in a directory of Baileys credentials."""
        for path in sorted(directory.glob("*.json")):
            for where, value in leaves(json.loads(path.read_text()), path.stem):
                name = f"{directory.name}: {where}"
                if isinstance(value, bytes):
                    self.key(name, value)
                elif isinstance(value, str) and where.endswith("advSecretKey"):
                    self.key(name, base64.b64decode(value))
                elif isinstance(value, str) and "@" in value:
                    self.word(name, value.partition("@")[0].partition(":")[0])

    def found_in(self, output: bytes) -> list[str]:
        """Names of what is there."""
        found = {name for spelling, name in self._plain.items() if spelling in output}
        encoded = b"\n".join(set(_ENCODED.findall(output)))
        found |= {name for spelling, name in self._encoded.items() if spelling in encoded}
        return sorted(found)


def leaves(value: Any, where: str) -> Iterator[tuple[str, object]]:  # noqa: ANN401 - JSON
    """Every value with its place; a Buffer of Baileys as bytes."""
    if isinstance(value, dict):
        if value.get("type") == "Buffer":
            yield where, base64.b64decode(value["data"])
            return
        for name, inner in value.items():
            yield from leaves(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{where}.{number}")
    else:
        yield where, value
