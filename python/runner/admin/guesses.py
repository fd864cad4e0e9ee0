"""Limits guessing at tokens: a wrong one costs, a right one never does.

Each caller may be wrong `EACH.at_once` times and then once every `EACH.every_s`; all callers together have
`ALL`, which does not hold up those who were right lately, so that many guessers cannot lock an operator out.
Who has used up his allowance is refused without a look at his token: an answer would be worth the guess.

An allowance is one number, the time at which all that was spent is back. Pure but for the memory: `now` is
monotonic.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Allowance(NamedTuple):
    """So many at once, and one more every so often."""

    at_once: int
    every_s: float

    def wait_s(self, spent_until: float, now: float) -> float:
        """How long until the next is allowed; 0 now."""
        return max(0.0, spent_until - now - (self.at_once - 1) * self.every_s)

    def spend(self, spent_until: float, now: float) -> float:
        """The new `spent_until`."""
        return max(spent_until, now) + self.every_s


EACH: Final = Allowance(10, 6.0)
"""Enough for a script that was not told of a new token to be noticed, and to do no harm."""
ALL: Final = Allowance(100, 0.6)
KNOWN_S: Final = 3600.0
"""How long after a right token a caller is not held up by the guesses of others."""
MOST_CALLERS: Final = 1024
"""Remembered of each kind; beyond it, first those who have nearly all of their allowance back."""


class Guesses:
    """What callers have spent. A caller is `Peer.caller`."""

    def __init__(self) -> None:
        self.wrong_total = 0
        self.refused_total = 0
        """Tokens that were not looked at."""
        self._spent_until: dict[str, float] = {}
        self._all_spent_until = 0.0
        self._known_until: dict[str, float] = {}

    @property
    def size(self) -> int:
        """How many callers are remembered."""
        return len(self._spent_until) + len(self._known_until)

    def wait_s(self, caller: str, now: float) -> float:
        """How long this caller has to wait before a token of his is looked at; 0: not at all."""
        own_s = EACH.wait_s(self._spent_until.get(caller, 0.0), now)
        if own_s > 0.0 or now < self._known_until.get(caller, 0.0):
            return own_s
        return ALL.wait_s(self._all_spent_until, now)

    def wrong(self, caller: str, now: float) -> None:
        """A token of his was looked at and is not ours."""
        self.wrong_total += 1
        self._all_spent_until = ALL.spend(self._all_spent_until, now)
        _keep(self._spent_until, caller, EACH.spend(self._spent_until.get(caller, 0.0), now), now)

    def right(self, caller: str, now: float) -> None:
        """A token of his is ours. What he spent stays spent: he may be guessing at one that may do more."""
        _keep(self._known_until, caller, now + KNOWN_S, now)

    def refused(self) -> None:
        """A token was not looked at."""
        self.refused_total += 1


def _keep(until: dict[str, float], caller: str, value: float, now: float) -> None:
    if caller not in until and len(until) >= MOST_CALLERS:
        for gone in [known for known, at in until.items() if at <= now]:
            del until[gone]
        while len(until) >= MOST_CALLERS:
            del until[min(until, key=until.__getitem__)]
    until[caller] = value
