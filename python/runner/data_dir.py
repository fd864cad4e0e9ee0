"""The data directory: private to the runner's user; the store in it has one owner at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.errors import LeaseHeldError, StartError

if TYPE_CHECKING:
    from pathlib import Path

    from runner import _core

STORE_FILE: Final = "runner.db"


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


def open_store(data_dir: Path) -> _core.Store:
    """Open or create the store. Blocking.

    Errors: LeaseHeldError when another process has it; StartError for everything else, in the store's words.
    """
    from runner import _core

    path = data_dir / STORE_FILE
    try:
        return _core.Store(str(path))
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug == "locked":
            raise LeaseHeldError(str(path)) from error
        raise StartError(f"the store cannot be opened: {message}") from error
