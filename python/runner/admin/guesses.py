"""Limits guessing at tokens: a wrong one costs, a right one never does.

Each caller may be wrong a few times at once and then so many times a minute; all callers together have ten
times that, which does not hold up those who were right lately, so that many guessers cannot lock an operator
out. Who has used up his allowance is refused without a look at his token: an answer would be worth the guess.

An allowance is one number, the time at which all that was spent is back. Pure but for the memory: `now` is
monotonic.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Allowance(NamedTuple):
    """So many at once, and as many a minute."""

    number: int

    @property
    def every_s(self) -> float:
        """How long until one more is back."""
        return 60.0 / self.number

    def wait_s(self, spent_until: float, now: float) -> float:
        """How long until the next is allowed; 0 now."""
        return max(0.0, spent_until - now - (self.number - 1) * self.every_s)

    def spend(self, spent_until: float, now: float) -> float:
        """The new `spent_until`."""
        return max(spent_until, now) + self.every_s


ALL_OVER_EACH: Final = 10
KNOWN_S: Final = 3600.0
"""How long after a right token a caller is not held up by the guesses of others."""
MOST_CALLERS: Final = 1024
"""Remembered of each kind; beyond it, first those who have nearly all of their allowance back."""


class Guesses:
    """What callers have spent. A caller is `Peer.caller`."""

    def __init__(self, number: int = 10) -> None:
        self.allow(number)
        self.wrong_total = 0
        self.refused_total = 0
        """Tokens that were not looked at."""
        self._spent_until: dict[str, float] = {}
        self._all_spent_until = 0.0
        self._known_until: dict[str, float] = {}

    def allow(self, number: int) -> None:
        """From now on this many at once and a minute for each caller: `WHATSAPP_ADMIN_WRONG_TOKENS`."""
        self.each, self.all = Allowance(number), Allowance(ALL_OVER_EACH * number)

    @property
    def size(self) -> int:
        """How many callers are remembered."""
        return len(self._spent_until) + len(self._known_until)

    def wait_s(self, caller: str, now: float) -> float:
        """How long this caller has to wait before a token of his is looked at; 0: not at all."""
        own_s = self.each.wait_s(self._spent_until.get(caller, 0.0), now)
        if own_s > 0.0 or now < self._known_until.get(caller, 0.0):
            return own_s
        return self.all.wait_s(self._all_spent_until, now)

    def wrong(self, caller: str, now: float) -> None:
        """A token of his was looked at and is not ours."""
        self.wrong_total += 1
        self._all_spent_until = self.all.spend(self._all_spent_until, now)
        _keep(self._spent_until, caller, self.each.spend(self._spent_until.get(caller, 0.0), now), now)

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
