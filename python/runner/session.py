"""What a session is to its operator: nine states, one table of transitions, one view.

A session is the long-lived intent to keep one device online; a connection is one life of a socket inside it.
The supervisor drives the table; every surface (API, CLI, dashboard, logs) shows a `SessionView` and nothing
else, so that no two of them can disagree. docs/states.md is generated from this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runner.errors import IllegalTransitionError

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a session is. The words are those of the API, the CLI and the docs."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    PAIRING = "pairing"
    ONLINE = "online"
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    SUSPENDED = "suspended"
    PARKED = "parked"
    LOGGED_OUT = "logged_out"


MEANING: Final[Mapping[State, str]] = MappingProxyType(
    {
        State.STOPPED: "not running, by choice of the operator",
        State.CONNECTING: "a dial is in progress, first or again",
        State.PAIRING: "needs a human to link the phone",
        State.ONLINE: "logged in and alive by an answer",
        State.DEGRADED: "the socket is open and a probe fails",
        State.BACKOFF: "waits for the time of its next attempt, or for its turn to dial",
        State.SUSPENDED: "its breaker is open or a penalty runs; tries again by itself and says when",
        State.PARKED: "will not recover by itself; an operator or a new fact is needed",
        State.LOGGED_OUT: "unlinked from the account; the credentials are archived, never deleted",
    }
)


class Trigger(StrEnum):
    """What moves a session from one state to the next."""

    QUEUE = "queue"
    DIAL = "dial"
    PAIR = "pair"
    LOGIN = "login"
    DEGRADE = "degrade"
    RECOVER = "recover"
    SUSPEND = "suspend"
    PARK = "park"
    LOG_OUT = "log_out"
    STOP = "stop"


TRIGGER_MEANING: Final[Mapping[Trigger, str]] = MappingProxyType(
    {
        Trigger.QUEUE: "another attempt is wanted, now or at a set time",
        Trigger.DIAL: "the limiter gave the session its turn and the engine dials",
        Trigger.PAIR: "the server wants the phone to link this device",
        Trigger.LOGIN: "the server accepted the login",
        Trigger.DEGRADE: "a probe fails while the socket is open",
        Trigger.RECOVER: "every probe passes again",
        Trigger.SUSPEND: "no attempt before a known time",
        Trigger.PARK: "no attempt until somebody says so",
        Trigger.LOG_OUT: "the device is unlinked",
        Trigger.STOP: "the operator does not want it to run",
    }
)

_WAITING: Final = {
    Trigger.QUEUE: State.BACKOFF,
    Trigger.SUSPEND: State.SUSPENDED,
    Trigger.PARK: State.PARKED,
    Trigger.LOG_OUT: State.LOGGED_OUT,
}
"""How every attempt and every connection can end; the operator's stop comes on top."""


def _rows() -> dict[tuple[State, Trigger], State]:
    running = [state for state in State if state is not State.STOPPED]
    # A stopped session keeps what it was told (a ban or a parking survives stop and start), so these rows
    # hold for every state.
    table: dict[tuple[State, Trigger], State] = {
        (state, trigger): target for state in State for trigger, target in _WAITING.items()
    }
    table.update({(state, Trigger.STOP): State.STOPPED for state in running})
    table[State.BACKOFF, Trigger.DIAL] = State.CONNECTING
    table[State.CONNECTING, Trigger.PAIR] = State.PAIRING
    table[State.CONNECTING, Trigger.LOGIN] = State.ONLINE
    table[State.PAIRING, Trigger.LOGIN] = State.ONLINE
    table[State.ONLINE, Trigger.DEGRADE] = State.DEGRADED
    table[State.DEGRADED, Trigger.DEGRADE] = State.DEGRADED
    table[State.DEGRADED, Trigger.RECOVER] = State.ONLINE
    # Unlinked is unlinked: only an operator's override (QUEUE) leads out of it.
    del table[State.LOGGED_OUT, Trigger.STOP]
    del table[State.LOGGED_OUT, Trigger.LOG_OUT]
    return table


TRANSITIONS: Final[Mapping[tuple[State, Trigger], State]] = MappingProxyType(_rows())


def step(state: State, trigger: Trigger) -> State:
    """The state after `trigger`. Pure: no clock, no Trio, no logging.

    Raises:
        IllegalTransitionError: the pair is not in TRANSITIONS; a bug here, never the peer's fault.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise IllegalTransitionError(state, trigger) from None


OPEN_STATES: Final = frozenset({State.CONNECTING, State.PAIRING, State.ONLINE, State.DEGRADED})
"""The states in which the session owns a connection that it wants to keep."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The longest a session may stay in each transient state, in seconds.

    `stopped`, `parked`, `logged_out` and `online` may last for ever; `suspended` ends at the time it says.
    """

    connecting_s: float = 110.0
    """For a bug: the engine's own deadlines of dial, handshake and login (20 + 20 + 60 s) come first."""
    pairing_s: float = 200.0
    """From the last thing shown; for a bug: QR and pairing codes have shorter lives of their own."""
    degraded_s: float = 120.0
    queued_s: float = 60.0
    """How long a due session may wait without a reason (rate, path, version) before health calls it stuck."""
    closing_s: float = 5.0
    """From asking the engine to close until it is asked again."""
    abort_s: float = 10.0
    """From asking until the connection counts as stuck."""

    def of(self, state: State) -> float | None:
        """Seconds that `state` may last, or None if it may last for ever or ends at a time of its own."""
        return {
            State.CONNECTING: self.connecting_s,
            State.PAIRING: self.pairing_s,
            State.DEGRADED: self.degraded_s,
        }.get(state)


RESTRICTED: Final = 463
"""With this number the server refuses a text when the account is restricted, or the contact has given it no
privacy token. docs/protocol.md, "Sending"."""


@dataclass(frozen=True, slots=True)
class BreakerView:
    """The session's circuit breaker as shown. Times are Unix milliseconds."""

    state: str
    why: str | None = None
    opened_at: int | None = None
    retry_at: int | None = None


@dataclass(frozen=True, slots=True)
class SessionView:
    """All that is known about one session at one moment. Times are Unix milliseconds; no secrets."""

    session_id: str
    state: State
    reason: str | None
    """Slug of why it is in this state, or None when it never failed or nothing is wrong."""
    code: int | None
    detail: str | None
    connection: int
    """Number of the latest connection, open, reserved by a force-reconnect, or gone; 0 before the first."""
    since_unix_ms: int
    attempt: int
    """Which attempt since the last stable period is under way or next; 0 when online and nothing failed."""
    next_retry_at_unix_ms: int | None
    last_data_received_at: int | None
    last_pong_at: int | None
    pong_rtt_ms: float | None
    breaker: BreakerView
    stable_since: int | None
    flap_5m: int
    flap_60m: int
    phase: str | None
    """Phase of the open connection, or None when there is none."""
    proxy: str | None
    """Scheme, host and port; user and password never."""
    linked: bool = True
    """False until a phone has linked a device."""
    revision: int = 0
    """Number of this session's last change; the changes of all sessions are counted together, from the start
    of the process on. Of two views of one session the one with the greater number is the newer."""

    def to_json(self, *, with_detail: bool = False) -> dict[str, object]:
        """The JSON names of this view, the same on every surface.

        Without `with_detail` the text of the peer is left out: a raw stanza may hold an appeal token or more.
        """
        return {
            "id": self.session_id,
            "state": self.state.value,
            "reason": self.reason,
            "code": self.code,
            "detail": self.detail if with_detail else None,
            "connection": self.connection,
            "since": self.since_unix_ms,
            "revision": self.revision,
            "attempt": self.attempt,
            "nextRetryAt": self.next_retry_at_unix_ms,
            "lastDataReceivedAt": self.last_data_received_at,
            "lastPongAt": self.last_pong_at,
            "pongRttMs": self.pong_rtt_ms,
            "breaker": {
                "state": self.breaker.state,
                "why": self.breaker.why,
                "openedAt": self.breaker.opened_at,
                "retryAt": self.breaker.retry_at,
            },
            "stableSince": self.stable_since,
            "flap5m": self.flap_5m,
            "flap60m": self.flap_60m,
            "phase": self.phase,
            "proxy": self.proxy,
            "linked": self.linked,
        }
