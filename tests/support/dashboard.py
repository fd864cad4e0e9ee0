"""The dashboard over a fleet without an engine, on a real socket, in a thread of its own.

What a browser talks to is the real thing (front, guard, routes, server); only what is behind it is made:
sessions, numbers, alerts.
"""

from __future__ import annotations

import math
import os
import queue
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from runner.admin.api import application
from runner.admin.guard import Access
from runner.admin.server import AdminServer
from runner.admin.tokens import parse
from runner.dashboard.front import Front
from runner.session import BreakerView, State
from runner.supervisor.feed import StatusEvent
from runner.supervisor.timeline import Entry
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from runner.session import SessionView

TOKEN = "a-token-of-the-operator"
STEP_S = 10
READ_TOKEN = "a-token-that-only-reads"
STARTUP_S = 20.0
T = TypeVar("T")

_MIX = [
    (State.BACKOFF, "pong_deadline"),
    (State.SUSPENDED, "failure_temporary_ban"),
    (State.PARKED, "stream_replaced_code"),
    (State.DEGRADED, "iq_unanswered"),
    (State.CONNECTING, None),
    (State.LOGGED_OUT, "failure_logged_out"),
    (State.STOPPED, None),
    (State.PAIRING, None),
]


def many(number: int) -> list[SessionView]:
    """A fleet of which one in forty is not online, in every state."""
    now = int(time.time() * 1000)
    views = []
    for i in range(number):
        state, reason = _MIX[i // 40 % len(_MIX)] if i % 40 == 7 else (State.ONLINE, None)
        waits = state in (State.BACKOFF, State.SUSPENDED)
        views.append(_view(f"desk-{i:05}", state, reason, now, waits=waits, seed=i))
    return views


def _view(
    session_id: str, state: State, reason: str | None, now: int, *, waits: bool, seed: int
) -> SessionView:
    is_open = state in (State.ONLINE, State.DEGRADED)
    return replace(
        a_view(session_id, state, reason),
        code={"failure_temporary_ban": 402, "failure_logged_out": 401, "stream_replaced_code": 440}.get(
            reason or ""
        ),
        since_unix_ms=now - 1000 * (60 + seed * 37 % 86_000),
        connection=1 + seed % 7,
        attempt=1 + seed % 5 if waits else 0,
        next_retry_at_unix_ms=now + 90_000 + seed % 60 * 1000 if waits else None,
        last_data_received_at=now - seed * 13 % 20_000 if is_open else None,
        last_pong_at=now - seed * 29 % 20_000 if is_open else None,
        pong_rtt_ms=20 + seed * 7 % 90 if is_open else None,
        breaker=BreakerView("open", "authentication", now - 60_000, now + 500_000)
        if state is State.SUSPENDED
        else BreakerView("closed"),
        phase="online" if is_open else None,
    )


class Desk:
    """Alerts without an engine behind them, kept in lists."""

    def __init__(self) -> None:
        self.active_alerts: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        self.in_force: list[dict[str, object]] = []
        self.called: list[tuple[object, ...]] = []

    def fire(self, name: str, severity: str, text: str, **more: object) -> dict[str, Any]:
        """One more active alert."""
        now = int(time.time() * 1000)
        alert: dict[str, Any] = {
            "id": f"al_{len(self.active_alerts) + len(self.past)}",
            "alert": name,
            "class": "connectivity",
            "severity": severity,
            "about": None,
            "text": text,
            "since": now - 200_000,
            "firedAt": now - 140_000,
            "resolvedAt": None,
            "value": None,
            "threshold": None,
            "acknowledgedAt": None,
            "acknowledgedBy": None,
            "note": None,
            "silencedUntil": None,
            "suppressedBy": None,
            "remedy": "look at the path: can the host reach the endpoint?",
            **more,
        }
        self.active_alerts.append(alert)
        return alert

    def _known(self, alert_id: str) -> dict[str, Any]:
        return next(it for it in self.active_alerts if it["id"] == alert_id)

    def active(self) -> dict[str, object]:
        return {"active": self.active_alerts, "counts": {}, "silences": self.in_force}

    def history(self, _limit: int, _before: str | None) -> dict[str, object]:
        return {"alerts": self.past, "next": None}

    def definitions(self) -> dict[str, object]:
        return {"definitions": []}

    def acknowledge(self, alert_id: str, by: str, _note: str | None) -> dict[str, object]:
        alert = self._known(alert_id)
        self.called.append(("ack", alert_id))
        alert.update(acknowledgedAt=unix_ms(), acknowledgedBy=by)
        return alert

    def resolve(self, alert_id: str) -> dict[str, object]:
        alert = self._known(alert_id)
        self.called.append(("resolve", alert_id))
        self.active_alerts.remove(alert)
        alert["resolvedAt"] = unix_ms()
        self.past.insert(0, alert)
        return alert

    def silences(self) -> list[dict[str, object]]:
        return self.in_force

    def silence(self, alert: str, about: str | None, minutes: float, note: str) -> dict[str, object]:
        until = unix_ms() + round(minutes * 60_000)
        self.in_force.append({"id": "sil_0", "alert": alert, "about": about, "until": until, "note": note})
        self.called.append(("silence", alert, minutes))
        return self.in_force[-1]

    def unsilence(self, silence_id: str) -> dict[str, object]:
        self.in_force.clear()
        self.called.append(("unsilence", silence_id))
        return {"id": silence_id}


def unix_ms() -> int:
    return int(time.time() * 1000)


def points(name: str, since_ms: int) -> dict[str, object]:
    """The history of a metric until now."""
    until = int(time.time()) // STEP_S * STEP_S
    at = range(until - (until - since_ms // 1000) // STEP_S * STEP_S, until + 1, STEP_S)
    return {"stepS": STEP_S, "at": [s * 1000 for s in at], "values": [wave(name, s) for s in at]}


def wave(name: str, at_s: float) -> float:
    """A metric that goes up and down."""
    top, swing = _SHAPES.get(name, (10.0, 4.0))
    return max(0.0, top + swing * math.sin(at_s / 170 + len(name)) + swing / 3 * math.sin(at_s / 23))


_SHAPES = {
    "cpuUsage": (0.22, 0.08),
    "usedMemory": (6.1e9, 4e8),
    "processRss": (8e8, 4e7),
    "averageResponseTime": (38.0, 9.0),
    "responseTimeP95": (110.0, 40.0),
    **{f"sessions.{state}": (31.0, 0.0) for state in State},
    "sessions.backoff": (28.0, 20.0),
    "messagesPerMinute": (410.0, 60.0),
    "errorsPerMinute": (3.0, 3.0),
    "reconnectsPerMinute": (12.0, 9.0),
    "closesPerMinute": (13.0, 9.0),
}


_RATES = ("messagesPerMinute", "reconnectsPerMinute", "closesPerMinute", "errorsPerMinute")


class Numbers:
    """A system that is well; samples when told."""

    monitoring = True

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet
        self.cpu: float | None = None
        self.sampled = trio.Event()

    async def refresh(self) -> None:
        return

    def _states(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for view in self._fleet.rows():
            counts[view.state.value] = counts.get(view.state.value, 0) + 1
        return counts

    def system(self) -> dict[str, object]:
        online = self._states().get("online", 0)
        return {
            "totalMemory": 16 * 2**30,
            "usedMemory": wave("usedMemory", time.time()),
            "cpuUsage": wave("cpuUsage", time.time()) if self.cpu is None else self.cpu,
            "activeConnections": online,
            "errorRate": 0.004,
            "memoryScope": "host",
            "cpuScope": "host",
        }

    def session(self, _session_id: str) -> dict[str, object]:
        return {
            "connectionUptime": 5321.0,
            "messagesProcessed": 12_345,
            "messagesPerMinute": 7,
            "averageResponseTime": 41.5,
            "errorCount": 3,
            "reconnectCount": 2,
            "responseTimeP95": 96.0,
        }

    def details(self) -> dict[str, object]:
        now = time.time()
        return {
            "process": {"rss": wave("processRss", now), "openFds": 10_054, "cpu": 0.11},
            "states": self._states(),
            "averageResponseTime": wave("averageResponseTime", now),
            "responseTime": {"p95Ms": wave("responseTimeP95", now)},
            **{name: wave(name, now) for name in _RATES},
        }

    def live(self) -> dict[str, object]:
        return {**self.system(), **self.details()}

    def past(
        self, names: Iterable[str], since_ms: int | None, _until_ms: int | None, _points: int
    ) -> dict[str, object]:
        return {name: points(name, since_ms or unix_ms() - 3_600_000) for name in names}

    def handler_failed(self) -> None:
        return

    async def next_sample(self) -> None:
        await self.sampled.wait()
        self.sampled = trio.Event()


class Dashboard:
    """Serves until its block ends; can be stopped and started again on its port under an open page."""

    def __init__(self, *views: SessionView, needs_token: bool = False) -> None:
        self.fleet = FakeFleet(*views)
        self.desk = Desk()
        self.numbers = Numbers(self.fleet)
        tokens = parse(f"{TOKEN},{READ_TOKEN}:read")
        self.access = Access(tokens, is_loopback=not needs_token, own_uid=os.geteuid())
        self.port = 0
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a browser goes."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=trio.run, args=(self._serve, listener, ready.put))
        self._thread.start()
        ready.get(timeout=STARTUP_S)

    def stop(self) -> None:
        """End as the runner does: WebSockets are told."""
        if self._thread is not None:
            self._token.run_sync_soon(self._stopping.set)
            self._thread.join(STARTUP_S)
            self._thread = None

    def do(self, run: Callable[[], T]) -> T:
        """Call something where the server runs, and wait for it."""
        return trio.from_thread.run_sync(run, trio_token=self._token)

    def tell(self, name: str, payload: dict[str, object]) -> None:
        """Publish an event of the system."""
        event = StatusEvent(name, "", int(time.time() * 1000), None, payload)
        self.do(lambda: self.fleet.feed.publish(event))

    async def _serve(self, listener: socket.socket, ready: Callable[[None], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stopping = trio.Event()
        self.numbers.sampled = trio.Event()
        self.fleet.capacity = 1024
        backend = a_backend(self.fleet)
        backend.stopping = self._stopping
        backend.numbers = self.numbers
        backend.alerts = self.desk
        server = AdminServer(Front(application(backend, self.access), self.access))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener], self._stopping)
            ready(None)


def a_past(now: int) -> list[Entry]:
    """A session that fell and came back."""
    return [
        Entry(now - 900_000, State.CONNECTING, None, None, 1),
        Entry(now - 899_000, State.ONLINE, None, None, 1),
        Entry(now - 120_000, State.BACKOFF, "pong_deadline", None, 1),
        Entry(now - 119_000, State.CONNECTING, "pong_deadline", None, 2),
        Entry(now - 118_500, State.BACKOFF, "tcp_refused", 111, 2),
    ]
