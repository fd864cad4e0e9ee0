"""What becomes of a log file that is full. Imports nothing: the monitor starts every two minutes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def rotate(path: Path, keep: int) -> None:
    """The file becomes `.1`, that one `.2`, and what is above `keep` goes. Errors: OSError."""
    for number in range(keep - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            _old(path, number).replace(_old(path, number + 1))
    if keep:
        path.replace(_old(path, 1))
    else:
        path.unlink()


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
