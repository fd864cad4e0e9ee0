"""Gives memory that a burst has left free back to the system, once the burst is over.

The C library keeps what was freed for the next time: after a backlog of 40,000 messages it held 36 MB in the
arena of the I/O thread, of which 1 MB was in use. Whoever looks from outside (the operator, a cgroup's limit,
`WHATSAPP_MAX_MEMORY_RESTART`) takes that for what the sessions cost.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

GROWN_BYTES: Final = 8 * 1024 * 1024
"""Since the last time; less is not worth a walk through the arenas, each locked meanwhile: 2 ms for 60 MB."""
STILL_BYTES: Final = 1024 * 1024
"""A process that grows no more than this between two looks has had its burst."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Heap:
    """When it is time to give back. Pure; the caller looks every few seconds."""

    def __init__(self) -> None:
        self._least = self._last = 0  # the start is a burst as well

    def is_due(self, anonymous_bytes: int) -> bool:
        """One look. Due is what has grown since it was least, and grows no more."""
        is_still = anonymous_bytes - self._last <= STILL_BYTES
        self._last = anonymous_bytes
        self._least = min(self._least, anonymous_bytes)
        return is_still and anonymous_bytes - self._least >= GROWN_BYTES

    def given_back(self, anonymous_bytes: int) -> None:
        """What is left is in use: the next time is counted from here."""
        self._least = self._last = anonymous_bytes


def anonymous_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process that is no file's."""
    _size, resident, shared, *_ = map(int, statm.read_text(encoding="ascii").split())
    return (resident - shared) * _PAGE_BYTES


def give_back() -> bool:
    """Ask the C library; False when it has no such function (musl). Blocks for milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(ctypes.c_size_t(0))
    return True
