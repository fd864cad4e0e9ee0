"""The dashboard over a fleet without an engine, on a real socket, in a thread of its own.

What a browser talks to is the real thing (front, guard, routes, server); only the fleet behind it is made.
The alerts and the history are made here in the form that docs/admin.md gives them.
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
from urllib.parse import parse_qs

import msgspec
import trio

from runner.admin.api import application
from runner.admin.guard import Access, Guard
from runner.admin.server import AdminServer
from runner.admin.tokens import parse
from runner.dashboard.front import Front
from runner.session import BreakerView, State
from runner.supervisor.feed import StatusEvent
from runner.supervisor.timeline import Entry
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runner.admin.guard import App, Receive, Scope, Send
    from runner.session import SessionView

TOKEN = "a-token-of-the-operator"
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
    """Alerts as the contract gives them, kept in lists."""

    def __init__(self) -> None:
        self.active: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        self.silences: list[dict[str, Any]] = []
        self.called: list[tuple[object, ...]] = []

    def fire(self, name: str, severity: str, text: str, **more: object) -> dict[str, Any]:
        """One more active alert."""
        now = int(time.time() * 1000)
        alert: dict[str, Any] = {
            "id": f"al_{len(self.active) + len(self.past)}",
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
        self.active.append(alert)
        return alert

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object] | None:
        """What the API would say; None for what is no route of the alerts."""
        now = int(time.time() * 1000)
        wish = msgspec.json.decode(body) if body else {}
        if (method, path) == ("GET", "/api/alerts"):
            return 200, {"active": self.active, "counts": {}, "silences": self.silences}
        if (method, path) == ("GET", "/api/alerts/history"):
            return 200, {"alerts": self.past, "next": None}
        if (method, path) == ("POST", "/api/alerts/silences"):
            silence = {"id": f"sil_{len(self.silences)}", "until": now + wish["minutes"] * 60_000, **wish}
            self.silences.append(silence)
            for alert in self.active:
                if alert["alert"] == wish["alert"]:
                    alert["silencedUntil"] = silence["until"]
            self.called.append(("silence", wish["alert"], wish["minutes"]))
            return 201, silence
        if method == "DELETE" and path.startswith("/api/alerts/silences/"):
            self.silences.clear()
            self.called.append(("unsilence", path.rsplit("/", 1)[1]))
            return 200, {}
        if method == "POST" and path.startswith("/api/alerts/"):
            _, _, _, alert_id, verb = path.split("/")
            alert = next(it for it in self.active if it["id"] == alert_id)
            self.called.append((verb, alert_id))
            if verb == "ack":
                alert.update(acknowledgedAt=now, acknowledgedBy="operator")
            else:
                self.active.remove(alert)
                alert["resolvedAt"] = now
                self.past.insert(0, alert)
            return 200, alert
        return None


def history(query: dict[str, list[str]]) -> dict[str, object]:
    """Waves for every metric that is asked for."""
    step = 10
    until = int(time.time()) // step * step
    since = int(query["since"][0]) // 1000
    at = list(range(until - (until - since) // step * step, until + 1, step))
    series = {}
    for name in query["metric"][0].split(","):
        values = [wave(name, s) for s in at]
        series[name] = {"stepS": step, "at": [s * 1000 for s in at], "values": values}
    return {"resolutions": [], "series": series}


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
        self, names: list[str], since_ms: int | None, _until_ms: int | None, _points: int
    ) -> dict[str, object]:
        asked = {"metric": [",".join(names)], "since": [str(since_ms or 0)]}
        return history(asked)["series"]  # type: ignore[return-value]

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
        door = application(backend, self.access)
        app = Guard(_with_contract(door._app, self.desk), self.access)
        server = AdminServer(Front(app, self.access))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener], self._stopping)
            ready(None)


def _with_contract(app: App, desk: Desk) -> App:
    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path == "/api/metrics/history":
            status, answer = 200, history(parse_qs(scope["query_string"].decode()))
        elif path.startswith("/api/alerts"):
            said = desk.answer(method, path, (await receive()).get("body", b""))
            status, answer = said if said is not None else (404, {"error": "not_found", "message": path})
        else:
            await app(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": msgspec.json.encode(answer)})

    return answered


def a_past(now: int) -> list[Entry]:
    """A session that fell and came back."""
    return [
        Entry(now - 900_000, State.CONNECTING, None, None, 1),
        Entry(now - 899_000, State.ONLINE, None, None, 1),
        Entry(now - 120_000, State.BACKOFF, "pong_deadline", None, 1),
        Entry(now - 119_000, State.CONNECTING, "pong_deadline", None, 2),
        Entry(now - 118_500, State.BACKOFF, "tcp_refused", 111, 2),
    ]
