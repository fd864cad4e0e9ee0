"""One row for every reason a connection can end: whose fault it is and what follows.

The reasons are facts of the Rust side (rust/proto, `CloseReason`); a test asserts that none lacks a row here.
docs/states.md is generated from this table. Sources: requirements of operators (pain 13), docs/protocol.md
("Failure", "Stream error", "Other ends").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fault(StrEnum):
    """Whose fault an end is."""

    PATH = "path"
    """The egress path: endpoint, proxy, source address. Never the session's."""
    SESSION = "session"
    WORLD = "world"
    """The server as a whole, or the network under an open connection."""
    US = "us"
    OPERATOR = "operator"


class Verdict(StrEnum):
    """What follows, before breaker, penalties and jitter have their say."""

    BACKOFF = "backoff"
    AT_ONCE = "at_once"
    """Once immediately, then like `backoff` until the next stable period."""
    SAME_ATTEMPT = "same_attempt"
    """Immediately, each time: what failed was a short cut, and it rests from now on."""
    RATE_LIMITED = "rate_limited"
    BANNED_UNTIL = "banned_until"
    CONFIRM = "confirm"
    """One delayed attempt; if that is refused too, logged out."""
    PARK = "park"
    OUTDATED = "outdated"
    WAIT_FOR_FD = "wait_for_fd"
    LOGGED_OUT = "logged_out"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row."""

    fault: Fault
    verdict: Verdict
    feeds_breaker: bool
    """Counts as a failure of this session for its breaker and towards the most retries."""
    counts_attempt: bool
    """Makes the next delay longer."""
    why: str
    refuses_force: bool = False
    """A force-reconnect is refused unless overridden, because it could cost the number."""


def _session(verdict: Verdict, why: str, *, refuses_force: bool = False) -> Rule:
    return Rule(
        Fault.SESSION, verdict, feeds_breaker=True, counts_attempt=True, why=why, refuses_force=refuses_force
    )


def _world(why: str, verdict: Verdict = Verdict.BACKOFF) -> Rule:
    return Rule(Fault.WORLD, verdict, feeds_breaker=False, counts_attempt=True, why=why)


def _path(why: str) -> Rule:
    return Rule(Fault.PATH, Verdict.BACKOFF, feeds_breaker=False, counts_attempt=True, why=why)


def _us(verdict: Verdict, why: str, *, feeds: bool = False, counts: bool = True) -> Rule:
    return Rule(Fault.US, verdict, feeds_breaker=feeds, counts_attempt=counts, why=why)


def _operator(verdict: Verdict, why: str, *, refuses_force: bool = False) -> Rule:
    return Rule(
        Fault.OPERATOR,
        verdict,
        feeds_breaker=False,
        counts_attempt=False,
        why=why,
        refuses_force=refuses_force,
    )


_V = Verdict

TABLE: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # <failure> in place of <success>
        "failure_generic": _session(_V.BACKOFF, "a refusal without a cause: slow down, never pair again"),
        "failure_logged_out": _session(
            _V.CONFIRM,
            "the phone or the service removed the device; one more login confirms it",
            refuses_force=True,
        ),
        "failure_temporary_ban": _session(
            _V.BANNED_UNTIL,
            "banned for a time: wait until the expiry, no probe before it",
            refuses_force=True,
        ),
        "failure_locked": _session(
            _V.PARK, "locked account; the stanza may hold an appeal", refuses_force=True
        ),
        "failure_client_outdated": _us(
            _V.OUTDATED, "a matter of the fleet: stop, refresh, one canary", counts=False
        ),
        "failure_banned": _session(_V.PARK, "banned for good", refuses_force=True),
        "failure_bad_user_agent": _us(_V.PARK, "our bug: the server will not change its mind"),
        "failure_cat_expired": _session(_V.BACKOFF, "belongs to Messenger; not expected here"),
        "failure_cat_invalid": _session(_V.BACKOFF, "belongs to Messenger; not expected here"),
        "failure_not_found": _session(_V.BACKOFF, "not known to be final"),
        "failure_client_unknown": _session(_V.BACKOFF, "not known to be final"),
        "failure_rate_limited": _session(
            _V.RATE_LIMITED, "slowed down by the server; the penalty survives a stable connection"
        ),
        "failure_internal_error": _session(
            _V.BACKOFF, "real, or caused by our payload: the breaker tells them apart"
        ),
        "failure_experimental": _session(_V.BACKOFF, "not known to be final"),
        "failure_service_unavailable": _world("the server is busy or restarts"),
        "failure_unknown": _session(_V.BACKOFF, "unknown numbers back off and never pair again"),
        # <stream:error>
        "stream_unauthorized": _session(
            _V.CONFIRM, "the next login says whether it is true", refuses_force=True
        ),
        "stream_device_removed": _session(
            _V.CONFIRM, "unlinked by the phone; the next login says whether it is true", refuses_force=True
        ),
        "stream_forbidden": _session(_V.PARK, "the account is locked", refuses_force=True),
        "stream_conflict": _session(_V.PARK, "somebody else uses these keys", refuses_force=True),
        "stream_conflict_other": _session(_V.PARK, "somebody else uses these keys", refuses_force=True),
        "stream_cat_expired": _session(_V.BACKOFF, "belongs to Messenger; not expected here"),
        "stream_cat_invalid": _session(_V.BACKOFF, "belongs to Messenger; not expected here"),
        "stream_rate_limited": _session(
            _V.RATE_LIMITED, "slowed down by the server; the penalty survives a stable connection"
        ),
        "stream_replaced": _session(
            _V.PARK,
            "another client took over; dialling again would start a fight of two sockets",
            refuses_force=True,
        ),
        "stream_replaced_code": _session(
            _V.PARK,
            "another client took over; dialling again would start a fight of two sockets",
            refuses_force=True,
        ),
        "stream_internal_error": _session(_V.BACKOFF, "never a reason to pair again"),
        "stream_service_unavailable": _world("the server restarts"),
        "stream_restart_required": _session(_V.AT_ONCE, "normal after pairing, a loop when it comes again"),
        "stream_logged_out": _session(_V.PARK, "terminal for this device, but no proof of being unlinked"),
        "stream_unanswered_stanza": _us(
            _V.AT_ONCE, "come back and answer it; in a loop it is our bug", feeds=True
        ),
        "stream_bad_xml": _us(_V.BACKOFF, "our bug, and the same stanza may be sent again", feeds=True),
        "stream_unknown": _session(_V.BACKOFF, "unknown errors back off and never pair again"),
        "stream_ended": _world("an orderly end by the server"),
        "multidevice_mismatch": _session(_V.PARK, "this account cannot have linked devices"),
        # the WebSocket
        "upgrade_refused": _path("an HTTP answer in place of a WebSocket"),
        "upgrade_invalid": _path("not a WebSocket server, or something in between"),
        "websocket_closed": _world("closed by the server"),
        "websocket_invalid": _world("broken by the server or by something in between"),
        # before the transport is up
        "resolve_failed": _path("no name service"),
        "tcp_refused": _path("nobody listens"),
        "tcp_unreachable": _path("no route"),
        "tcp_timeout": _path("no answer"),
        "proxy_failed": _path("the proxy is down"),
        "proxy_refused": _path("the proxy cannot reach the endpoint"),
        "proxy_auth_failed": _path("wrong proxy credentials; the canary notices when they are mended"),
        "tls_failed": _path("TLS does not come up"),
        "tls_certificate_invalid": _path("somebody in between, or a wrong clock"),
        "tls_timeout": _path("TLS does not come up in time"),
        "dial_timeout": _path("the dial as a whole took too long"),
        "fd_exhausted": _us(
            _V.WAIT_FOR_FD, "the process is at its limit; others are still served", counts=False
        ),
        "device_missing": _us(
            _V.PARK, "nothing to log in with: import it, or delete it and pair", counts=False
        ),
        "device_quarantined": _us(
            _V.PARK, "credentials that cannot be read are set aside, never replaced", counts=False
        ),
        # below the WebSocket
        "connection_closed": _world("the other end closed"),
        "connection_reset": _world("the other end or the network reset it"),
        "connection_timed_out": _world("the network lost it"),
        # our own deadlines and checks
        "upgrade_timeout": _path("no answer to the upgrade"),
        "handshake_timeout": _path("no answer to the handshake"),
        "login_timeout": _session(_V.BACKOFF, "the server neither accepts nor refuses this login"),
        "pairing_expired": _operator(
            _V.PARK, "nobody linked a phone in time; ask again when somebody is there"
        ),
        "pairing_invalid": _session(
            _V.PARK, "not the phone that scanned: a wrong or hostile server, and no reason to try by itself"
        ),
        "handshake_failed": _path("the peer is not who it should be"),
        "certificate_invalid": _path("the peer is not who it should be"),
        "certificate_expired": _path("an old certificate, or our clock is wrong"),
        "resume_failed": _us(
            _V.SAME_ATTEMPT, "the full handshake follows at once and is the same attempt", counts=False
        ),
        "pong_deadline": _world("the socket was dead"),
        "frame_invalid": _session(_V.BACKOFF, "the two sides disagree about the stream", refuses_force=False),
        "input_unfinished": _world("the server began more than it finished"),
        "decrypt_failed": _session(_V.BACKOFF, "the two sides disagree about the cipher"),
        "nonce_exhausted": _us(_V.AT_ONCE, "a new connection has a new counter", counts=False),
        "output_stalled": _world("the server stopped reading"),
        "store_stalled": _us(
            _V.AT_ONCE,
            "our disk: nothing counts it against the session; what was not kept is fetched again",
            counts=False,
        ),
        "session_panicked": _us(
            _V.BACKOFF, "our bug; a session that does it again must not burn the machine", feeds=True
        ),
        # asked for by our side
        "stopped": _operator(_V.OPERATOR, "stays stopped"),
        "forced": _operator(_V.OPERATOR, "the new connection is already queued"),
        "rebuilt": _us(_V.BACKOFF, "a deaf or stuck session gets a new connection", counts=True),
        "shutdown": _operator(_V.OPERATOR, "the next start brings it back"),
        "logout_unconfirmed": _us(
            _V.BACKOFF, "the device may be linked still; the next login says whether it is", counts=False
        ),
        "logged_out_by_request": _operator(_V.LOGGED_OUT, "unlinked on request"),
    }
)

SESSION_FAULT: Final = "session_fault"
EXPORTED: Final = "exported"
OWN: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        SESSION_FAULT: _us(
            _V.BACKOFF, "an exception of ours; a session that does it again must not loop", feeds=True
        ),
        EXPORTED: _operator(
            _V.PARK, "another program has the device: two would push each other off", refuses_force=True
        ),
    }
)
"""Rows for ends that the supervisor gives a reason; the engine knows nothing of them."""

UNKNOWN_REASON: Final = _session(_V.BACKOFF, "a reason newer than this table backs off and never pairs again")


def rule_for(reason: str) -> Rule:
    """The row of a close reason; a reason that the table does not know backs off."""
    return TABLE.get(reason) or OWN.get(reason, UNKNOWN_REASON)


BEFORE_LOGIN: Final = frozenset({"dialling", "securing", "upgrading", "handshaking"})
"""What ends in these phases never reached the account: it belongs to the path."""


def is_path_failure(reason: str, phase: str | None) -> bool:
    """Whether an end belongs to the egress path: it came before `authenticating` and nobody asked for it.

    A drop of an open connection never counts, and neither does what this process did to itself.
    """
    return phase in BEFORE_LOGIN and rule_for(reason).fault not in (Fault.US, Fault.OPERATOR)


def refuses_force(reason: str | None) -> bool:
    """Whether a session in trouble for `reason` may only be forced by an override."""
    return reason is not None and rule_for(reason).refuses_force
