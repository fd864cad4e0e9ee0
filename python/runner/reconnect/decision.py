"""What the policy can answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryNow:
    """Dial again as soon as the limiter allows."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Dial again `delay_s` seconds from now; state `backoff`."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Suspend:
    """No attempt before `until` (the clock of `now`); then by itself. State `suspended`."""

    until: float
    why: str


@dataclass(frozen=True, slots=True)
class AwaitVersion:
    """The client version is too old: a matter of the whole fleet; the version gate says when to go on."""


@dataclass(frozen=True, slots=True)
class Park:
    """No attempt until an operator or a new fact says so. State `parked`."""

    why: str


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The device is unlinked. State `logged_out`; the credentials are archived."""

    why: str


@dataclass(frozen=True, slots=True)
class Stay:
    """An operator asked for this end: what follows is the operator's wish, not the policy's."""


Decision = RetryNow | RetryAfter | Suspend | AwaitVersion | Park | LoggedOut | Stay
