"""An engine and a store that live in memory and in virtual time.

`FakeEngine` keeps what the supervisor relies on in `_core.Engine`: `open` refuses a second connection, each
`open` gets exactly one `closed`, commands return at once, events wait behind a readable fd.
`FakeServer` is the WhatsApp that it talks to: a bag of switches that tests turn.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

from runner.counters import PHASE_CLOSED, CounterTable
from runner.engine import engine_full_error
from support.columns import Counted, FakeColumns, FakeCounting

if TYPE_CHECKING:
    from collections.abc import Callable

PHASES = ["dialling", "securing", "upgrading", "handshaking", "authenticating", "online", "closing", "closed"]


@dataclass(frozen=True, slots=True)
class FakeEvent:
    kind: str
    session_id: str = ""
    connection: int = 0
    at_unix_ms: int = 0
    phase: str | None = None
    reason: str | None = None
    code: int | None = None
    detail: str | None = None
    expire_s: int | None = None
    probe: str | None = None
    healthy: bool | None = None
    handshake: str | None = None
    duration_s: float | None = None
    jid: str | None = None
    push_name: str | None = None
    qr: str | None = None
    qr_left: int | None = None
    pairing_code: str | None = None
    ttl_s: float | None = None
    token: int | None = None
    server_unix_s: int | None = None


@dataclass(slots=True)
class FakeStats:
    loop_lag_s: float = 0.0
    heartbeat_age_s: float = 0.0
    outbox_dropped_total: int = 0
    panics_total: int = 0
    store_stalled: bool = False


@dataclass(slots=True)
class FakeServer:
    """What the other end does. Delays in seconds."""

    refuses: bool = False
    refused: set[str] = field(default_factory=set)
    """Sessions whose dials are refused while the others get through."""
    refusal: str = "tcp_refused"
    swallows: bool = False
    """Dials get no answer at all: they end in `tcp_timeout` after `connect_timeout_s`."""
    swallowed: set[str] = field(default_factory=set)
    """The same for the dials of these sessions."""
    dial_s: float = 0.05
    login_s: float = 0.25
    connect_timeout_s: float = 20.0
    login_timeout_s: float = 60.0
    hung: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    slow_login_s: float = 12.0
    least_revision: int = 0
    failures: dict[str, tuple[str, int | None, int | None]] = field(default_factory=dict)
    """Session -> (reason, code, expire_s) in place of a login."""
    closes_after_s: float | None = None
    """Closes every connection that long after its login."""
    resume_fails: bool = False
    refs: int = 6
    """QR codes that an unlinked session shows: a minute for the first, 20 s for each of the others."""
    code_answer: tuple[str, int | None] | None = None
    """Why there is no pairing code; None: there is one."""
    logout_answer: int | None = None
    """Anything but None: logouts are not confirmed, and this is the code that came instead."""


@dataclass(slots=True)
class _Connection:
    number: int
    phase: str
    opened_at: float
    online_at: float | None = None
    closing: bool = False
    version: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Opened:
    """One dial, as the engine was asked for it."""

    at: float
    session_id: str
    connection: int
    version: tuple[int, int, int]
    proxy: str | None
    resume: bool
    pair: bool = False


class FakeEngine:
    def __init__(self, clock: Callable[[], float], server: FakeServer | None = None) -> None:
        self.clock = clock
        self.server = server or FakeServer()
        self.opens: list[Opened] = []
        self.closes: list[tuple[float, str, int, str]] = []
        self.forgotten: list[str] = []
        self.rejected_logins = 0
        self.logins = 0
        self.never_closes: set[str] = set()
        self.loses_closed: set[str] = set()
        self.close_s = 0.02
        self.fake_stats = FakeStats()
        self.counter_overrides: dict[str, dict[str, object]] = {}
        self.counting = FakeCounting()
        self.counters = CounterTable(self.columns, clock)
        self.is_down = False
        self.unlinked: set[str] = set()
        """Sessions whose open connection links a device."""
        self.codes_asked: list[tuple[str, int, int]] = []
        self.is_full = False
        """Events wait undrained: every dial is refused."""
        self._connections: dict[str, _Connection] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._outbox: deque[FakeEvent] = deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake = trio.Event()

    # -- the contract of _core.Engine ---------------------------------------------------------------------

    def fileno(self) -> int:
        return self._fd

    def drain(self, max_events: int) -> list[FakeEvent]:
        events = [self._outbox.popleft() for _ in range(min(max_events, len(self._outbox)))]
        if not self._outbox:
            with suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return events

    def open(
        self,
        session_id: str,
        connection: int,
        *,
        version: tuple[int, int, int],
        proxy: str | None = None,
        resume: bool = False,
        pair: bool = False,
    ) -> None:
        if proxy is not None and "://" not in proxy:
            raise ValueError("proxy is not a URL")
        if session_id in self._connections:
            raise RuntimeError(f"{session_id} has an open connection")
        if self.is_full:
            raise engine_full_error()("the queue is full")
        now = self.clock()
        self.opens.append(Opened(now, session_id, connection, version, proxy, resume, pair))
        self.unlinked.discard(session_id)
        if pair:
            self.unlinked.add(session_id)
        self._connections[session_id] = _Connection(connection, "dialling", now, version=version)
        server = self.server
        if server.swallows or session_id in server.swallowed:
            self._end_later(session_id, connection, server.connect_timeout_s, "tcp_timeout", "dialling")
        else:
            self._later(server.dial_s, lambda: self._dialled(session_id, connection, resume))

    def close(self, session_id: str, connection: int, reason: str) -> None:
        self.closes.append((self.clock(), session_id, connection, reason))
        current = self._connections.get(session_id)
        if current is None or current.number != connection or session_id in self.never_closes:
            return
        current.closing = True
        self._end_later(session_id, connection, self.close_s, reason, current.phase)

    def logout(self, session_id: str, connection: int) -> None:
        if self.server.logout_answer is None:
            return self.close(session_id, connection, "logged_out_by_request")
        self.closes.append((self.clock(), session_id, connection, "logged_out_by_request"))
        return self._later(self.close_s, lambda: self._unconfirmed(session_id, connection))

    def link_by_code(self, session_id: str, connection: int, phone: int) -> None:
        self.codes_asked.append((session_id, connection, phone))
        answer = self.server.code_answer
        if answer is not None:
            event = FakeEvent("no_pairing_code", session_id, connection, reason=answer[0], code=answer[1])
        else:
            event = FakeEvent("pairing_code", session_id, connection, pairing_code="ABCD-EFGH", ttl_s=180.0)
        self._later(0.1, lambda: self._emit(event))

    def _show_qr(self, session_id: str, number: int, shown: int) -> None:
        if self._live(session_id, number) is None:
            return
        if shown == self.server.refs:
            self._end(session_id, number, "pairing_expired", "authenticating")
            return
        ttl_s, left = (20.0 if shown else 60.0), self.server.refs - shown - 1
        qr = f"https://wa.me/#{session_id}-{number}-{shown}"
        self._emit(FakeEvent("qr", session_id, number, qr=qr, ttl_s=ttl_s, qr_left=left))
        self._later(ttl_s, lambda: self._show_qr(session_id, number, shown + 1))

    def scan(self, session_id: str, reason: str = "stream_restart_required", *, linked: bool = True) -> None:
        """A phone links the session; or, without `linked`, its connection just ends."""
        number = self._connections[session_id].number
        if linked:
            self._emit(FakeEvent("linked", session_id, number))
        self._end(session_id, number, reason, "closing")

    def _unconfirmed(self, session_id: str, connection: int) -> None:
        current = self._live(session_id, connection)
        if current is not None:
            self._end(session_id, connection, "logout_unconfirmed", "closing", self.server.logout_answer)

    def forget(self, session_id: str) -> None:
        assert session_id not in self._connections, "forgotten while it is open"
        self.forgotten.append(session_id)
        self.counting.forget(session_id)

    def columns(self) -> FakeColumns:
        for session_id in self.counting.places:
            if session_id not in self._connections:
                self.counting.of(session_id).phase = PHASE_CLOSED
        for session_id, it in self._connections.items():
            self.counting.put(session_id, self._counted(session_id, it))
        return self.counting.read()

    def _counted(self, session_id: str, connection: _Connection) -> Counted:
        phase = PHASES.index(connection.phase)
        counted = Counted(connection=connection.number, phase=phase)
        if connection.online_at is not None:
            age_s = self.clock() - connection.online_at
            counted.online_age_s = age_s
            counted.last_pong_age_s = counted.last_data_age_s = min(age_s, 5.0)
            counted.pong_rtt_s = 0.04
        return replace(counted, **self.counter_overrides.get(session_id, {}))  # type: ignore[arg-type]

    def stats(self) -> FakeStats:
        return self.fake_stats

    def shutdown(self) -> None:
        for session_id, connection in list(self._connections.items()):
            self._end(session_id, connection.number, "shutdown", connection.phase)
        self._emit(FakeEvent("stopped"))
        self.is_down = True

    # -- what tests do ------------------------------------------------------------------------------------

    def is_open(self, session_id: str) -> bool:
        return session_id in self._connections

    def phase(self, session_id: str) -> str | None:
        connection = self._connections.get(session_id)
        return None if connection is None else connection.phase

    @property
    def online(self) -> set[str]:
        return {who for who, it in self._connections.items() if it.phase == "online"}

    def drop(
        self, session_id: str, reason: str = "connection_closed", code: int | None = None, **facts: object
    ) -> bool:
        """End an open connection now, as the server or the network would. False when there is none."""
        connection = self._connections.get(session_id)
        if connection is None:
            return False
        self._end(session_id, connection.number, reason, connection.phase, code, **facts)
        return True

    def drop_all(self, reason: str = "connection_closed") -> int:
        return sum(self.drop(session_id, reason) for session_id in sorted(self._connections))

    def probe(self, session_id: str, probe: str, *, healthy: bool) -> None:
        number = self._connections[session_id].number
        self._emit(FakeEvent("probe", session_id, number, probe=probe, healthy=healthy))

    def emit(self, event: FakeEvent) -> None:
        """An event of our own making, late ones included."""
        self._emit(event)

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def advance(self) -> None:
        """Do what is due by now."""
        while self._heap and self._heap[0][0] <= self.clock():
            heapq.heappop(self._heap)[2]()

    async def run(self) -> None:
        """Keep pace with Trio's clock."""
        while True:
            self.advance()
            self._wake = trio.Event()
            next_at = self.next_at()
            with trio.move_on_at(float("inf") if next_at is None else next_at):
                await self._wake.wait()

    def release(self) -> None:
        """Give the file descriptor back."""
        os.close(self._fd)

    # -- inside -------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (self.clock() + delay_s, self._serial, action))
        self._wake.set()

    def _emit(self, event: FakeEvent) -> None:
        self._outbox.append(event)
        os.eventfd_write(self._fd, 1)

    def _live(self, session_id: str, number: int) -> _Connection | None:
        connection = self._connections.get(session_id)
        return connection if connection is not None and connection.number == number else None

    def _dialled(self, session_id: str, number: int, resume: bool) -> None:
        connection, server = self._live(session_id, number), self.server
        if connection is None:
            return
        if server.refuses or session_id in server.refused:
            self._end(session_id, number, self.server.refusal, "dialling")
            return
        if resume and server.resume_fails:
            self._end(session_id, number, "resume_failed", "handshaking")
            return
        connection.phase = "authenticating"
        self._emit(FakeEvent("phase", session_id, number, phase="authenticating"))
        self._emit(FakeEvent("path", session_id, number))
        if session_id in server.hung:
            self._end_later(session_id, number, server.login_timeout_s, "login_timeout", "authenticating")
            return
        login_s = server.slow_login_s if session_id in server.slow else server.login_s
        self._later(login_s, lambda: self._answer(session_id, number))

    def _answer(self, session_id: str, number: int) -> None:
        connection, server = self._live(session_id, number), self.server
        if connection is None or connection.closing:
            return
        if connection.version[2] < server.least_revision:
            self.rejected_logins += 1
            self._end(session_id, number, "failure_client_outdated", "authenticating", 405)
            return
        failure = server.failures.get(session_id)
        if failure is not None:
            reason, code, expire_s = failure
            self._end(session_id, number, reason, "authenticating", code, expire_s=expire_s)
            return
        if session_id in self.unlinked:
            self._show_qr(session_id, number, 0)
            return
        self.logins += 1
        connection.phase, connection.online_at = "online", self.clock()
        self._emit(FakeEvent("phase", session_id, number, phase="online"))
        jid = "15550001111@s.whatsapp.net"
        self._emit(FakeEvent("online", session_id, number, handshake="xx", duration_s=0.3, jid=jid))
        if server.closes_after_s is not None:
            self._end_later(session_id, number, server.closes_after_s, "websocket_closed", "online")

    def _end_later(self, session_id: str, number: int, delay_s: float, reason: str, phase: str) -> None:
        self._later(delay_s, lambda: self._end(session_id, number, reason, phase))

    def _end(
        self, session_id: str, number: int, reason: str, phase: str, code: int | None = None, **facts: object
    ) -> None:
        connection = self._live(session_id, number)
        if connection is None:
            return
        del self._connections[session_id]
        if session_id not in self.loses_closed:
            self._emit(
                FakeEvent("closed", session_id, number, phase=phase, reason=reason, code=code, **facts)  # type: ignore[arg-type]
            )


@dataclass(frozen=True, slots=True)
class FakeStored:
    session_id: str
    policy: str | None = None
    jid: str | None = "15550001111:3@s.whatsapp.net"
    archived: bool = False
    quarantined: str | None = None


@dataclass(slots=True)
class FakeStoreHealth:
    oldest_age_s: float = 0.0
    lock_wait_s: float = 0.0
    disk_full: bool = False


class FakeStore:
    """Keeps what it was given, across supervisors: give it to a second one and that is a restart."""

    def __init__(self, *session_ids: str) -> None:
        self.policies: dict[str, str | None] = dict.fromkeys(session_ids)
        self.archived: dict[str, str] = {}
        self.has_archived = threading.Event()
        """Virtual time jumps while the thread that archives still runs: wait for this instead."""
        self.has_unarchived = threading.Event()
        self.quarantined: set[str] = set()
        self.unlinked: set[str] = set()
        self.metas: dict[str, str] = {}
        self.writes = 0
        self.fake_health = FakeStoreHealth()

    def sessions(self) -> list[FakeStored]:
        return [
            FakeStored(
                it,
                policy,
                None if it in self.unlinked else "15550001111:3@s.whatsapp.net",
                it in self.archived,
                "damaged" if it in self.quarantined else None,
            )
            for it, policy in self.policies.items()
        ]

    def create(self, session_id: str) -> None:
        self.policies[session_id] = None
        self.unlinked.add(session_id)

    def set_aside(self, session_id: str) -> None:
        assert session_id in self.archived
        del self.archived[session_id]
        self.unlinked.add(session_id)

    def put_policy(self, session_id: str, policy: str) -> None:
        self.writes += 1
        self.policies[session_id] = policy

    def put_meta(self, key: str, value: str) -> None:
        self.metas[key] = value

    def meta(self) -> dict[str, str]:
        return dict(self.metas)

    def archive(self, session_id: str, reason: str) -> None:
        if session_id not in self.unlinked:  # else there is no device to mark
            self.archived[session_id] = reason
        self.has_archived.set()

    def unarchive(self, session_id: str) -> None:
        self.archived.pop(session_id, None)
        self.has_unarchived.set()

    def delete(self, session_id: str) -> None:
        self.policies.pop(session_id, None)

    def health(self) -> FakeStoreHealth:
        return self.fake_health

    def flush(self, timeout_s: float) -> bool:
        return True

    def export(self, session_id: str) -> Any:  # noqa: ANN401 - of the extension
        return SimpleNamespace(session_id=session_id, left_out=[])
