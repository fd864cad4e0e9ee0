"""The monitor's log, one line a look, and its memory of the last one. Safe for runs that overlap."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from runner.monitor.verdict import Past
from runner.rotation import rotate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROTATE_BYTES: Final = 1024 * 1024
"""About a week of looks every two minutes."""
KEPT: Final = 5
"""Old files, `monitor.log.1` being the newest."""
LOCK_S: Final = 2.0
"""Another run may be rotating; after this the line is written all the same."""


def append(path: Path, line: str, at: float, rotate_bytes: int = ROTATE_BYTES) -> None:
    """Append one line with the time in front; rotates first when the file is full. Errors: OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)  # the data directory itself is the runner's to make
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with _locked(path):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size >= rotate_bytes:
                rotate(path, KEPT)
        # One write of a file opened for appending: whole lines, even without the lock.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.write(descriptor, f"{when} {line}\n".encode())
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `PATH.lock`, or give up after `LOCK_S`: a line is worth more than order."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def state_file(log: Path) -> Path:
    """Where the last look is kept, beside the log."""
    return log.with_name(f"{log.name}.last.json")


def load_past(path: Path) -> Past | None:
    """The look before, or None when there is none that can be read."""
    try:
        return Past(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def save_past(path: Path, past: Past) -> None:
    """Keep this look for the next run. Errors: OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)  # the data directory itself is the runner's to make
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(past)), encoding="utf-8")
    fresh.replace(path)
