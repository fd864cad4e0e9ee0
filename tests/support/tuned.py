"""This machine's kernel settings, for tests that tune it: put back at the end, one test at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from runner.tune import changes, facts, kept
from runner.tune.facts import sysctl_path

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE: Final = Path("/")
PORTS: Final = "net.ipv4.ip_local_port_range"
_LOCK: Final = Path(tempfile.gettempdir()) / "runner-tests-tune.lock"


def values() -> dict[str, str]:
    """All that tuning may ever set, as the kernel has it."""
    return {name: sysctl_path(MACHINE, name).read_text() for name in facts.read().writable}


@contextmanager
def tunable() -> Iterator[None]:
    """Skips where the machine cannot be tuned, or is tuned already."""
    if os.geteuid() != 0 or PORTS not in facts.read().writable:
        pytest.skip("needs root and a /proc/sys that can be written")
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (MACHINE / kept.STATE_FILE).exists() or (MACHINE / kept.SYSCTL_FILE).exists():
            pytest.skip("this machine is tuned already")
        before = values()
        try:
            yield
        finally:
            changes.undo(MACHINE)
            for name, text in before.items():
                if sysctl_path(MACHINE, name).read_text() != text:
                    sysctl_path(MACHINE, name).write_text(text)
