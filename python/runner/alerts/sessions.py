"""Which condition a session is in: at the most one, so that one trouble is one alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from runner.health import DEAF_PROBES
from runner.reasons import in_words
from runner.reconnect.breaker import BreakerState
from runner.reconnect.table import EXPORTED, Verdict, rule_for
from runner.session import RESTRICTED, State
from runner.supervisor.linking import AT_REST

if TYPE_CHECKING:
    from runner.supervisor.machine import Machine
    from runner.supervisor.row import Row

OFFLINE: Final = "session_offline"
SESSION_RULES: Final = (
    "session_deaf",
    OFFLINE,
    "certificate_trouble",
    "breaker_open",
    "reconnect_loop",
    "session_penalised",
    "session_parked",
    "session_logged_out",
    "session_restricted",
)
_OF_THE_BREAKER: Final = ("reconnect_loop", "breaker_open")
_PENALTIES: Final = (Verdict.BANNED_UNTIL, Verdict.RATE_LIMITED)
_CERTIFICATE: Final = frozenset({"certificate_expired", "certificate_invalid", "tls_certificate_invalid"})
_OUTDATED: Final = "failure_client_outdated"


class Condition(NamedTuple):
    """What is wrong with one session."""

    slug: str
    why: str
    """The reason and what it means, for the text."""
    explained_by: str | None = None


def condition_of(row: Row, machine: Machine) -> Condition | None:
    """The one condition of a session, or None while all is well or about to be."""
    found = _condition_of(row, machine, row.reason or "no reason known")
    if found is None:
        return None
    opened_by = row.history.breaker.why if found.slug in _OF_THE_BREAKER else None
    words = in_words(found.why)
    return found._replace(why=f"{opened_by}; the last: {words}" if opened_by else words)


def _condition_of(row: Row, machine: Machine, why: str) -> Condition | None:
    """`why` is the reason alone."""
    if row.is_removed or row.reason in ("logged_out_by_request", EXPORTED):
        return None
    if not row.is_linked and (row.state is not State.PARKED or row.reason in AT_REST):
        return None  # nobody is there with a phone, or somebody is looking at the codes
    match row.state:
        case State.STOPPED | State.PAIRING:
            return None
        case State.LOGGED_OUT:
            return Condition("session_logged_out", why)
        case State.PARKED:
            return Condition("session_parked", why, "client_outdated" if why == _OUTDATED else None)
        case State.DEGRADED:
            return Condition("session_deaf", why) if row.reason in DEAF_PROBES else _open(row, why, machine)
        case State.ONLINE:
            return _open(row, why, machine)
        case _:
            return _waiting(row, why, machine)


def _open(row: Row, why: str, machine: Machine) -> Condition | None:
    if (breaker := _breaker(row, why)) is not None:
        return breaker
    if row.session_id in machine.restricted:
        return Condition("session_restricted", f"texts are refused with {RESTRICTED}")
    return None


def _breaker(row: Row, why: str) -> Condition | None:
    """An open connection is no proof yet: the breaker closes once it is stable."""
    if row.history.exhausted:
        return Condition("reconnect_loop", why)
    if row.history.breaker.state is not BreakerState.CLOSED:
        return Condition("breaker_open", why)
    return None


def _waiting(row: Row, why: str, machine: Machine) -> Condition | None:
    """Not online, and trying, or waiting for its time."""
    if row.reason is not None and rule_for(row.reason).verdict in _PENALTIES and row.state is State.SUSPENDED:
        return Condition("session_penalised", why)
    if (open_breaker := _breaker(row, why)) is not None:
        return open_breaker
    path = machine.dials.path(row.session_id)
    if path is not None and path.is_open:
        return Condition(OFFLINE, why, "path_outage")
    if why == _OUTDATED:
        return Condition(OFFLINE, why, "client_outdated")
    if why in _CERTIFICATE:
        return Condition("certificate_trouble", why)
    return Condition(OFFLINE, why)
