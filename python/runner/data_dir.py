"""The data directory: private to the runner's user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

STORE_FILE: Final = "runner.db"


def open_to_others(data_dir: Path) -> str | None:
    """Its mode, when another user could put files there: `runner.toml` names code that the runner loads."""
    mode = data_dir.stat().st_mode & 0o777
    return f"{mode:o}" if mode & 0o002 else None


def prepare(data_dir: Path) -> None:
    """Make the directory, mode 0700. Errors: StartError with what to do."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot make the data directory {data_dir}: {error.strerror}",
            "set WHATSAPP_DATA_DIR to one you may write",
        ) from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise StartError(
            f"the data directory {data_dir} cannot be written", "set WHATSAPP_DATA_DIR, or change its owner"
        )
