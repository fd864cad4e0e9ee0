"""One session inside the supervisor, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from runner.reconnect.history import Durable, History, Hold
from runner.session import BreakerView, Deadlines, SessionView, State

if TYPE_CHECKING:
    import trio

    from runner.envelope import Me
    from runner.reconnect.decide import Ending
    from runner.reconnect.path import PathKey
    from runner.reconnect.version import Version
    from runner.supervisor.linking import Linking


CLOCK_STEP_MS: Final = 2000
"""A wall clock that goes back further was set, and is followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the supervisor is told beside the policy."""

    endpoint: str
    proxy: str | None = None
    """For sessions that have none of their own."""
    resume: bool = False
    """Whether Noise IK may be used."""
    client_version: Version | None = None
    """Pinned, or None for `auto`."""
    fd_capacity: int | None = None
    """How many connections the file-descriptor limit holds; None: more than there are sessions."""
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True)
class Closing:
    """We asked for the end of the open connection."""

    reason: str
    asked_at: float
    ending: Ending | None = None
    """What the policy is to make of it once closed; None when the wish is already in the row's state."""


@dataclass(slots=True, eq=False)
class Row:
    """One session. Times are monotonic unless the name says otherwise."""

    session_id: str
    state: State = State.STOPPED
    desired: bool = True
    reason: str | None = None
    code: int | None = None
    detail: str | None = None
    since_unix_ms: int = 0
    revision: int = 0
    """See `SessionView.revision`."""
    connection: int = 0
    """Number of the last connection that was opened."""
    reserved: int | None = None
    """Number promised to a force-reconnect, not opened yet."""
    live: bool = False
    """The engine has this connection; its `closed` event is still to come."""
    closing: Closing | None = None
    phase: str | None = None
    version: Version | None = None
    """Client version that the open connection announced."""
    resumed: bool = False
    dialled_at: float | None = None
    online_at: float | None = None
    stable_since_unix_ms: int | None = None
    retry_at: float | None = None
    hold: Hold | None = None
    history: History = field(default_factory=History)
    last_active_unix_ms: int = 0
    proxy: str | None = None
    path: PathKey | None = None
    failing: dict[str, float] | None = None
    """Probes that fail, and since when. None most of the time: ten thousand empty dicts are not free."""
    is_dropped: bool = False
    """It was online before and is on its way back: the next login is a reconnect."""
    is_linked: bool = True
    """The store has a device for it. Until then it dials only while somebody is there with a phone."""
    has_just_linked: bool = False
    """A phone linked the device on the open connection: the next one logs in."""
    linking: Linking | None = None
    """What there is to scan or to type in, while somebody is there."""
    me: Me | None = None
    """Whose it is; None until that is known."""
    is_archived: bool = False
    """The store has its credentials marked as those of an unlinked device."""
    is_removed: bool = False
    past: bytes = b""
    """The states it went through, as `runner.supervisor.timeline` writes them."""
    closed: trio.Event | None = None
    """Set when the open connection is gone, for those who wait for it."""

    def enter(self, state: State, unix_ms: int) -> None:
        """Come into a state now. No two states have the same `since`, so that a session, its connection and
        `since` name one state, however fast the next one follows."""
        is_taken = 0 <= self.since_unix_ms - unix_ms < CLOCK_STEP_MS
        self.state, self.since_unix_ms = state, self.since_unix_ms + 1 if is_taken else unix_ms

    def uptime_s(self, now: float) -> float:
        """Since the login of the connection that is shown; 0 when there is none."""
        if self.online_at is None or self.state not in (State.ONLINE, State.DEGRADED):
            return 0.0
        return now - self.online_at

    def standing(self, now: float) -> Standing:
        """Where it is now."""
        since, uptime_s = self.since_unix_ms, self.uptime_s(now)
        return Standing(self.session_id, self.state, self.shown_connection, since, uptime_s)

    @property
    def unlinked_because(self) -> str | None:
        """Why the device counts as unlinked, or None when it does not."""
        is_unlinked = self.hold is not None and self.hold.state == "logged_out"
        return (self.reason or "logged_out") if is_unlinked else None

    @property
    def shown_connection(self) -> int:
        """The latest number, reserved or opened."""
        return self.reserved or self.connection

    @property
    def shown_attempt(self) -> int:
        """Attempts since the last stable period, the one under way or next included."""
        running = self.state in (State.CONNECTING, State.BACKOFF, State.SUSPENDED, State.PAIRING)
        return self.history.failures + (1 if running else 0)

    def durable(self) -> Durable:
        """What of this row must survive a restart."""
        return Durable(
            desired=self.desired,
            hold=self.hold,
            reason=self.reason,
            code=self.code,
            detail=self.detail,
            connection=self.shown_connection,
            last_active_unix_ms=self.last_active_unix_ms,
            proxy=self.proxy,
            history=self.history,
        )


class Standing(NamedTuple):
    """Where a session is, all of it of one moment: for those who need no more of it."""

    session_id: str
    state: State
    connection: int = 0
    since_unix_ms: int = 0
    uptime_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ages:
    """What the engine's counters say about one session, in seconds before `at`."""

    at: float
    last_data_s: float | None = None
    last_pong_s: float | None = None
    pong_rtt_s: float | None = None


def show(row: Row, now: float, unix_ms: int, ages: Ages | None, next_retry_at: float | None) -> SessionView:
    """The one view of a row. `now` and `unix_ms` are the same moment on the two clocks."""

    def wall(at: float | None) -> int | None:
        return None if at is None else unix_ms + round((at - now) * 1000)

    def before(age_s: float | None) -> int | None:
        return None if age_s is None or ages is None else wall(ages.at - age_s)

    breaker = row.history.breaker
    return SessionView(
        session_id=row.session_id,
        state=row.state,
        reason=row.reason,
        code=row.code,
        detail=row.detail,
        connection=row.shown_connection,
        since_unix_ms=row.since_unix_ms,
        attempt=row.shown_attempt,
        next_retry_at_unix_ms=wall(next_retry_at),
        last_data_received_at=before(ages.last_data_s) if ages else None,
        last_pong_at=before(ages.last_pong_s) if ages else None,
        pong_rtt_ms=round(ages.pong_rtt_s * 1000, 3) if ages and ages.pong_rtt_s is not None else None,
        breaker=BreakerView(
            state=breaker.state.value,
            why=breaker.why,
            opened_at=wall(breaker.opened_at),
            retry_at=wall(breaker.retry_at),
        ),
        stable_since=row.stable_since_unix_ms,
        flap_5m=row.history.flap_count(now, 300.0),
        flap_60m=row.history.flap_count(now, 3600.0),
        phase=row.phase,
        proxy=redact_proxy(row.proxy),
        linked=row.is_linked,
        revision=row.revision,
    )


def redact_proxy(proxy: str | None) -> str | None:
    """Scheme, host and port of a proxy URL; whatever else it holds is left out."""
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "invalid"
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def exit_tag(proxy: str | None, secret: bytes) -> str | None:
    """A name for the user and password of a proxy URL, or None without any; see `PathKey.exit_tag`.

    Residential proxies choose the exit by the user, some by the password.
    """
    userinfo, at, _ = (proxy or "").rpartition("@")
    if not at:
        return None
    return blake2b(userinfo.encode("utf-8", "surrogateescape"), key=secret, digest_size=6).hexdigest()
