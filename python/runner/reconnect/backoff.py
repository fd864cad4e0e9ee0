"""The delay before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

MAX_DOUBLINGS: Final = 32
"""2.0**1024 overflows a float and a session may fail for weeks; 2**32 bases are above any ceiling."""


def ceiling_s(failures: int, base_s: float, max_s: float) -> float:
    """The longest delay after `failures` failed attempts in a row (1 or more), in seconds."""
    return min(max_s, base_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS))


def delay_s(failures: int, base_s: float, max_s: float, rng: Random) -> float:
    """Delay before the next attempt, in seconds.

    No failure since the last stable connection: 0, the limiter spreads storms. Otherwise uniform between half
    the ceiling and the ceiling: growth stays visible, a least gap exists, and sessions that failed together
    part.
    """
    if failures <= 0:
        return 0.0
    ceiling = ceiling_s(failures, base_s, max_s)
    return rng.uniform(ceiling / 2, ceiling)


def probe_delay_s(over: int, max_s: float, probe_max_s: float, rng: Random) -> float:
    """Delay of a session whose retries are used up, `over` (0 or more) failures ago, in seconds.

    The ceiling starts at twice the longest ordinary delay and doubles up to `probe_max_s`.
    """
    ceiling = min(max(probe_max_s, max_s), max_s * 2.0 ** min(over + 1, MAX_DOUBLINGS))
    return rng.uniform(ceiling / 2, ceiling)
