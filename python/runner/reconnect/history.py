"""What the policy remembers about one session, and how that survives a restart.

In the process all times are on the monotonic clock, so that a step of the wall clock changes nothing. What is
written down is converted to Unix milliseconds, and read back with bounds: a time in the future is never
longer away than its kind can be, a time in the past never older than what is remembered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from runner.reconnect.breaker import Breaker, BreakerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.reconnect.policy import Policy

FLAP_MEMORY_S: Final = 3600.0
FLAPS_KEPT: Final = 64
VERSION: Final = 1
LONGEST_BAN_S: Final = 400 * 24 * 3600.0
"""Longest wait that is believed when it is read back; above it the record is damaged."""


@dataclass(frozen=True, slots=True)
class History:
    """The policy's memory of one session. A frozen value; times are on the caller's monotonic clock."""

    failures: int = 0
    """Attempts in a row that did not end in a stable connection: the exponent of the back-off."""
    breaker: Breaker = field(default_factory=Breaker)
    flaps: tuple[float, ...] = ()
    """When logged-in connections ended unasked: the last hour, oldest first, at most FLAPS_KEPT."""
    penalty: int = 0
    """Doublings that a 429 put on top of `failures`."""
    penalty_until: float | None = None
    confirming: bool = False
    """One 401 was seen; the next login confirms or clears it."""
    at_once_used: bool = False
    """The immediate retry that some reasons give was used since the last stable connection."""
    exhausted: bool = False
    """The most retries are used up and nothing worked since: the alert is critical."""
    rebuilds: int = 0
    """Rebuilds by health that did not help for long."""
    rebuilt_at: float | None = None
    path_failures: int = 0
    """How many of `failures` never reached the account or were not its own.

    They lengthen the delay and exhaust nothing.
    """

    def settled(self) -> History:
        """The connection has been stable: back to the start.

        Penalties, flaps and rebuilds stay; they have times of their own.
        """
        if self.breaker == _CLOSED and not (
            self.failures or self.confirming or self.at_once_used or self.exhausted
        ):
            return self
        return replace(
            self,
            failures=0,
            path_failures=0,
            breaker=_CLOSED,
            confirming=False,
            at_once_used=False,
            exhausted=False,
        )

    def flapped(self, now: float) -> History:
        """A logged-in connection ended without our asking."""
        recent = tuple(at for at in self.flaps if now - at < FLAP_MEMORY_S)
        return replace(self, flaps=(*recent, now)[-FLAPS_KEPT:])

    def flap_forgiven(self) -> History:
        """The last end turned out to be one of many at once: an event of the world."""
        of_path = min(self.path_failures + 1, self.failures)
        breaker = self.breaker.forgiven()
        return replace(self, flaps=self.flaps[:-1], path_failures=of_path, breaker=breaker)

    def flap_count(self, now: float, window_s: float) -> int:
        """Ends within the last `window_s` seconds."""
        return sum(1 for at in self.flaps if now - at < window_s)

    def penalty_now(self, now: float) -> int:
        """Doublings in force."""
        return self.penalty if self.penalty_until is not None and now < self.penalty_until else 0

    def limited(self, now: float, policy: Policy) -> History:
        """The server said 429."""
        doublings = min(self.penalty_now(now) + policy.rate_limit_doublings, policy.rate_limit_doublings_max)
        return replace(self, penalty=doublings, penalty_until=now + policy.penalty_memory_s)

    def unpenalised(self) -> History:
        """An operator lifted the penalty."""
        return replace(self, penalty=0, penalty_until=None)

    def may_rebuild(self, now: float, policy: Policy) -> bool:
        """Whether health may rebuild this session: once a period, which doubles when that did not help."""
        if self.rebuilt_at is None:
            return True
        period_s = min(policy.watchdog_period_s * 2.0 ** min(self.rebuilds - 1, 16), FLAP_MEMORY_S)
        return now - self.rebuilt_at >= period_s

    def rebuilt(self, now: float) -> History:
        """Health rebuilds the session."""
        recent = self.rebuilt_at is not None and now - self.rebuilt_at < 2 * FLAP_MEMORY_S
        return replace(self, rebuilds=min(self.rebuilds + 1, 32) if recent else 1, rebuilt_at=now)


_CLOSED: Final = Breaker()


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a session does not dial now: `backoff`, `suspended`, `parked` or `logged_out`."""

    state: str
    until: float | None
    """Monotonic; set exactly for `backoff` and `suspended`."""


@dataclass(frozen=True, slots=True)
class Durable:
    """All of one session that must survive a restart."""

    desired: bool = True
    """Whether the operator wants it to run."""
    hold: Hold | None = None
    reason: str | None = None
    code: int | None = None
    detail: str | None = None
    connection: int = 0
    last_active_unix_ms: int = 0
    proxy: str | None = None
    history: History = field(default_factory=History)


HOLDS: Final = ("backoff", "suspended", "parked", "logged_out")
DETAIL_LIMIT: Final = 1024


def to_json(durable: Durable, now: float, unix_ms: int) -> str:
    """One compact JSON object; `now` and `unix_ms` are the same moment on the two clocks."""

    def wall(at: float | None) -> int | None:
        return None if at is None else unix_ms + round((at - now) * 1000)

    history, breaker, hold = durable.history, durable.history.breaker, durable.hold
    return json.dumps(
        {
            "v": VERSION,
            "desired": "running" if durable.desired else "stopped",
            "hold": None if hold is None else {"state": hold.state, "not_before": wall(hold.until)},
            "reason": durable.reason,
            "code": durable.code,
            "detail": durable.detail[:DETAIL_LIMIT] if durable.detail else None,
            "connection": durable.connection,
            "last_active": durable.last_active_unix_ms,
            "proxy": durable.proxy,
            "failures": history.failures,
            "path_failures": history.path_failures,
            "breaker": {
                "state": breaker.state.value,
                "failures": breaker.failures,
                "why": breaker.why,
                "opened_at": wall(breaker.opened_at),
                "retry_at": wall(breaker.retry_at),
            },
            "flaps": [wall(at) for at in history.flaps],
            "penalty": history.penalty,
            "penalty_until": wall(history.penalty_until),
            "confirming": history.confirming,
            "at_once_used": history.at_once_used,
            "exhausted": history.exhausted,
            "rebuilds": history.rebuilds,
            "rebuilt_at": wall(history.rebuilt_at),
        },
        separators=(",", ":"),
    )


def from_json(text: str | None, now: float, unix_ms: int, policy: Policy) -> tuple[Durable, str | None]:
    """Read back what `to_json` wrote, whatever has become of it.

    Returns the state and, when something was damaged, one sentence about it. A record that cannot say whether
    the session was stopped or banned must not dial at once: it waits, `suspended`, for one breaker timeout.
    """
    if text is None:
        return Durable(), None
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return _cautious(now, policy), "policy state is not JSON"
    if not isinstance(raw, dict):
        return _cautious(now, policy), "policy state is not an object"
    if raw.get("v") != VERSION:
        return _cautious(now, policy), f"policy state has version {raw.get('v')!r}"[:80]
    return _Reader(raw, now, unix_ms, policy).durable()


def _cautious(now: float, policy: Policy) -> Durable:
    return Durable(hold=Hold("suspended", now + policy.breaker_timeout_s), reason=POLICY_DAMAGED)


POLICY_DAMAGED: Final = "policy_damaged"


class _Damaged(Exception):
    """A field without which nobody can say whether dialling is safe."""


class _Reader:
    """Takes a decoded object apart, field by field; a bad field costs that field, a bad core the record."""

    def __init__(self, raw: Mapping[str, object], now: float, unix_ms: int, policy: Policy) -> None:
        self._raw, self._now, self._unix_ms, self._policy = raw, now, unix_ms, policy
        self._bad: list[str] = []

    def durable(self) -> tuple[Durable, str | None]:
        try:
            desired, hold = self._desired(), self._hold()
        except _Damaged as damaged:
            return _cautious(self._now, self._policy), f"policy state has a damaged {damaged}"
        durable = Durable(
            desired=desired,
            hold=hold,
            reason=self._text(self._raw, "reason"),
            code=self._whole(self._raw, "code"),
            detail=self._text(self._raw, "detail"),
            connection=self._whole(self._raw, "connection") or 0,
            last_active_unix_ms=min(self._whole(self._raw, "last_active") or 0, self._unix_ms),
            proxy=self._text(self._raw, "proxy"),
            history=self._history(),
        )
        return durable, f"policy state has a damaged {', '.join(self._bad)}" if self._bad else None

    def _desired(self) -> bool:
        desired = self._raw.get("desired")
        if desired not in ("running", "stopped"):
            raise _Damaged("desired")
        return desired == "running"

    def _hold(self) -> Hold | None:
        hold = self._raw.get("hold")
        if hold is None:
            return None
        if not isinstance(hold, dict) or hold.get("state") not in HOLDS:
            raise _Damaged("hold")
        state = str(hold["state"])
        if state in ("parked", "logged_out"):
            return Hold(state, None)
        not_before = self._whole(hold, "not_before")
        if not_before is None:
            raise _Damaged("hold")
        longest_s = max(2 * self._policy.max_delay_s, self._policy.probe_max_s)
        if state == "suspended":
            longest_s = LONGEST_BAN_S
        return Hold(state, self._future(not_before, longest_s))

    def _history(self) -> History:
        raw, policy = self._raw, self._policy
        penalty_until = self._time(raw, "penalty_until", ahead_s=policy.penalty_memory_s)
        return History(
            failures=min(self._whole(raw, "failures") or 0, 1_000_000),
            breaker=self._breaker(),
            flaps=self._flaps(),
            penalty=min(self._whole(raw, "penalty") or 0, policy.rate_limit_doublings_max),
            penalty_until=penalty_until,
            confirming=self._flag("confirming"),
            at_once_used=self._flag("at_once_used"),
            exhausted=self._flag("exhausted"),
            rebuilds=min(self._whole(raw, "rebuilds") or 0, 32),
            rebuilt_at=self._time(raw, "rebuilt_at", behind_s=2 * FLAP_MEMORY_S),
            path_failures=min(self._whole(raw, "path_failures") or 0, 1_000_000),
        )

    def _breaker(self) -> Breaker:
        raw = self._raw.get("breaker")
        if not isinstance(raw, dict) or raw.get("state") not in list(BreakerState):
            self._bad.append("breaker")
            return Breaker()
        state = BreakerState(raw["state"])
        longest_s = max(self._policy.probe_max_s, self._policy.breaker_timeout_s * 1.1)
        retry_at = self._time(raw, "retry_at", ahead_s=longest_s)
        if state is BreakerState.OPEN and retry_at is None:
            retry_at = self._now + self._policy.breaker_timeout_s
        return Breaker(
            state=state,
            failures=min(self._whole(raw, "failures") or 0, 1_000_000),
            why=self._text(raw, "why"),
            opened_at=self._time(raw, "opened_at", behind_s=LONGEST_BAN_S),
            retry_at=retry_at if state is BreakerState.OPEN else None,
        )

    def _flaps(self) -> tuple[float, ...]:
        raw = self._raw.get("flaps")
        if not isinstance(raw, list) or not all(_is_whole(at) for at in raw):
            self._bad.append("flaps")
            return ()
        times = sorted(self._past(at, FLAP_MEMORY_S) for at in raw)
        return tuple(at for at in times if self._now - at < FLAP_MEMORY_S)[-FLAPS_KEPT:]

    def _time(
        self, raw: Mapping[str, object], key: str, *, ahead_s: float = 0.0, behind_s: float = 0.0
    ) -> float | None:
        unix_ms = self._whole(raw, key)
        if unix_ms is None:
            return None
        return self._future(unix_ms, ahead_s) if ahead_s else self._past(unix_ms, behind_s)

    def _future(self, unix_ms: int, at_most_s: float) -> float:
        return self._now + min(max((unix_ms - self._unix_ms) / 1000, 0.0), at_most_s)

    def _past(self, unix_ms: int, at_most_s: float) -> float:
        return self._now - min(max((self._unix_ms - unix_ms) / 1000, 0.0), at_most_s)

    def _whole(self, raw: Mapping[str, object], key: str) -> int | None:
        value = raw.get(key)
        if value is None:
            return None
        if not _is_whole(value):
            self._bad.append(key)
            return None
        return int(str(value))

    def _text(self, raw: Mapping[str, object], key: str) -> str | None:
        value = raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self._bad.append(key)
            return None
        return value[:DETAIL_LIMIT]

    def _flag(self, key: str) -> bool:
        value = self._raw.get(key)
        if not isinstance(value, bool):
            self._bad.append(key)
            return False
        return value


def _is_whole(value: object) -> bool:
    """A plausible non-negative integer; JSON's true is an int to Python, and 10**400 is one to everybody."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
