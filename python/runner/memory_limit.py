"""`WHATSAPP_MAX_MEMORY_RESTART`: restart in order before the kernel kills.

`judge` is pure. A restart must not loop, so a process has to have lived for a while before it may go, and for
longer each time a restart did not help: 1 minute, then 4, 16, 64 … up to 6 hours. Who is over the limit
before that says so and goes on: the limit is too low for these sessions, or something grows too fast for a
restart to help.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

LOOK_S: Final = 5.0
LOOKS: Final = 2
"""Looks in a row above the limit: one may have met a moment's garbage."""
LEAST_UPTIME_S = 60.0
LONGEST_WAIT_S: Final = 6 * 3600.0
"""The longest wait between two restarts."""
STEADY_S: Final = 2 * LONGEST_WAIT_S
"""Who has lived for so long needed no restart: the next begins anew with the shortest wait."""
OVER_AGAIN: Final = 0.95
"""Share of the limit below which the trouble is over."""
_MAX_STREAK: Final = 5
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Verdict(StrEnum):
    """What follows from one look."""

    FINE = "fine"
    NEAR = "near"
    """Between `OVER_AGAIN` and the limit, or not over for long enough: nothing changes."""
    TOO_YOUNG = "too_young"
    """Over the limit, and a restart would loop."""
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known at one look."""

    rss_bytes: int
    limit_bytes: int
    """0: no limit."""
    uptime_s: float
    streak: int = 0
    """See `Restart.streak` of the process before."""
    looks_over: int = 1
    """This one and those before it, without a break, above the limit."""


def least_uptime_s(streak: int) -> float:
    """How long a process must have lived before it may be restarted for memory."""
    return min(LEAST_UPTIME_S * 4.0 ** min(streak, _MAX_STREAK), LONGEST_WAIT_S)


def judge(look: Look) -> Verdict:
    """What follows from one look. Pure."""
    if not look.limit_bytes or look.rss_bytes < OVER_AGAIN * look.limit_bytes:
        return Verdict.FINE
    if look.rss_bytes <= look.limit_bytes or look.looks_over < LOOKS:
        return Verdict.NEAR
    if look.uptime_s < least_uptime_s(look.streak):
        return Verdict.TOO_YOUNG
    return Verdict.RESTART


def next_streak(streak: int, uptime_s: float) -> int:
    """The streak that a process leaves behind when it is restarted for memory."""
    return 1 if uptime_s >= STEADY_S else streak + 1


def rss_bytes() -> int:
    """Resident memory of this process. One small file of /proc, 30 µs."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
