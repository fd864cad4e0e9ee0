"""The numbers of the reconnect policy, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every number that a decision depends on. Seconds, unless the name says otherwise.

    The first block is what operators set (`WHATSAPP_RECONNECTION_*`, `WHATSAPP_CIRCUIT_BREAKER_*`,
    `WHATSAPP_CONNECT_*`); the rest are ours, each with its reason.
    """

    max_retries: int = 10
    """Failed attempts in a row until a session counts as exhausted; 0: never."""
    base_delay_s: float = 2.0
    max_delay_s: float = 300.0
    breaker_threshold: int = 5
    breaker_timeout_s: float = 600.0
    park_when_exhausted: bool = False
    connect_rate_per_s: float = 10.0
    connect_burst: int = 50
    connect_concurrency: int = 50

    stable_s: float = 30.0
    """A connection that lived this long was a success: WhatsApp Web resets its own back-off after 30 s."""
    probe_max_s: float = 3600.0
    """Longest wait between probes of an exhausted session: never abandoned, never more than an hour late."""

    flap_5m_limit: int = 6
    """Unrequested ends of a logged-in connection in 5 min that open the breaker."""
    flap_60m_limit: int = 16
    """The same in 60 min: a session that drops every three minutes is not healthy either."""

    confirm_delay_s: float = 60.0
    """From a first 401 to the one login that confirms it (requirements: exactly one delayed confirm)."""
    ban_default_s: float = 24 * 3600.0
    """A 402 that names no expiry: the restrictions that operators report last a day."""
    ban_jitter_s: float = 300.0
    """Spread after a ban's expiry, so that a fleet banned together does not return together."""
    rate_limit_doublings: int = 5
    """What a 429 adds to the exponent of the back-off; WhatsApp Web adds 5 as well."""
    rate_limit_doublings_max: int = 10
    penalty_memory_s: float = 3600.0
    """How long a 429 is remembered, across stable periods and restarts."""
    fd_retry_s: float = 60.0
    """Between looks for a free file descriptor."""

    path_window_s: float = 10.0
    path_min_sessions: int = 5
    path_min_ratio: float = 0.2
    canary_min_s: float = 2.0
    canary_max_s: float = 15.0

    outage_window_s: float = 30.0
    """How long a path that went down waits for company. A dead peer is noticed within 32 s, a dial that
    hangs within 20."""
    outage_min_paths: int = 5
    outage_min_ratio: float = 0.2
    """So many paths together, and this share of those tried, are one outage and one incident."""

    mass_drop_window_s: float = 10.0
    mass_drop_min_sessions: int = 5
    mass_drop_ratio: float = 0.2
    """Drops of this share of the sessions together are one event of the world, not flapping of each."""

    logout_window_s: float = 300.0
    logout_min_sessions: int = 5
    logout_ratio: float = 0.05
    """More than this share unlinked within the window: no confirms, one incident (requirements, pain 12)."""
    logout_hold_s: float = 1800.0

    version_patience_s: float = 2.0
    """While a client version is unproven, one more login may start after each such time without an answer."""
    version_unproven_max: int = 3
    """Most logins in flight with an unproven version, and so the most that one change sees rejected."""
    version_answer_s: float = 6.0
    """A rejection comes at once. A dial unanswered for this long hangs, and holds up no others."""
    version_cache_s: float = 24 * 3600.0
    version_retry_s: float = 300.0
    version_retry_max_s: float = 3600.0

    resume_rest_s: float = 24 * 3600.0
    """After a failed resumption (Noise IK) the endpoint gets full handshakes for this long."""
    watchdog_period_s: float = 300.0
    """Least time between two rebuilds of one session by health; doubles with each that did not help."""
