"""The files that a browser gets, read once at start.

Their addresses carry a digest of all of them (`/static/DIGEST/…`), so a browser keeps them for ever and an
update is seen at once; modules import each other by relative paths and so stay within one digest. Only the
page itself is asked for anew each time.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "static"
PREFIX: Final = "/static/"
PAGE: Final = "index.html"
_DIGEST_MARK: Final = b"{{digest}}"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK: Final = "no-cache"
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""No script or style but ours, and none in the page's text."""
_GUARDS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    media_type: str
    plain: bytes
    packed: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer: status, headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Files:
    """All files of a folder. Reading them blocks."""

    def __init__(self, folder: Path = FOLDER) -> None:
        raw = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in _TYPES
        }
        everything = sha256()
        for name, content in raw.items():
            everything.update(f"{name}\0{len(content)}\0".encode() + content)
        self.digest = everything.hexdigest()[:16]
        raw[PAGE] = raw[PAGE].replace(_DIGEST_MARK, self.digest.encode())
        self._files = {name: _file(name, content) for name, content in raw.items()}

    def answer(self, path: str, headers: dict[str, str]) -> Sent | None:
        """What to send for `/` or a path below `/static/`; None when there is no such file."""
        digest, _, name = path.removeprefix(PREFIX).partition("/")
        is_page = path == "/"
        file = self._files.get(PAGE if is_page else name)
        if file is None:
            return None
        keep = _FOR_EVER if digest == self.digest and not is_page else _ASK
        shown = {"cache-control": keep, "etag": file.etag, "vary": "accept-encoding", **_GUARDS}
        if file.etag in (
            tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")
        ):
            return Sent(304, shown, b"")
        shown["content-type"] = file.media_type
        body = file.plain
        if "gzip" in headers.get("accept-encoding", ""):
            shown["content-encoding"], body = "gzip", file.packed
        shown["content-length"] = str(len(body))
        return Sent(200, shown, body)


def _file(name: str, content: bytes) -> File:
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    return File(_TYPES[Path(name).suffix], content, gzip.compress(content, 6, mtime=0), etag)
