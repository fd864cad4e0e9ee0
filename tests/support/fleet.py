"""A fleet for the admin API to show: rows without an engine, that do what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from runner.admin.backend import Backend, Check, Created, HealthReport, NewSession
from runner.baileys_errors import CredentialsMissingError
from runner.config import Settings
from runner.consumer.loop import Consumer, Limits
from runner.dead_letters import DeadLetters
from runner.delivery.retry import Retry
from runner.envelope import Me
from runner.errors import (
    AdminError,
    ImportRefusedError,
    RateLimitedError,
    RefusedError,
    RunnerError,
    SendError,
    UnknownSessionError,
)
from runner.logs import LogBuffer
from runner.message import SendReceipt
from runner.session import BreakerView, SessionView, State
from runner.supervisor.feed import Feed, StatusEvent
from runner.supervisor.phones import Shown
from runner.supervisor.row import redact_proxy
from runner.tally import Tally
from runner.tune.subject import look
from runner.webhooks.registry import Webhooks
from support.inbox import FakeStore, inline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.supervisor.timeline import Entry

RISKY = {
    "failure_logged_out",
    "failure_temporary_ban",
    "failure_locked",
    "failure_banned",
    "stream_replaced_code",
}


def a_view(session_id: str, state: State = State.ONLINE, reason: str | None = None) -> SessionView:
    return SessionView(
        session_id=session_id,
        state=state,
        reason=reason,
        code=None,
        detail=None,
        connection=1,
        since_unix_ms=1_700_000_000_000,
        attempt=0,
        next_retry_at_unix_ms=None,
        last_data_received_at=1_700_000_001_000,
        last_pong_at=1_700_000_002_000,
        pong_rtt_ms=12.5,
        breaker=BreakerView("closed"),
        stable_since=1_700_000_000_000,
        flap_5m=0,
        flap_60m=0,
        phase="online",
        proxy=None,
    )


class FakeFleet:
    """The supervisor's surface over a dict of views."""

    def __init__(self, *views: SessionView) -> None:
        self.views = {view.session_id: view for view in views}
        self.called: list[tuple[object, ...]] = []
        self.feed = Feed()
        self.subscribed = trio.Event()
        self.broken = False
        self.capacity = 4
        self.pasts: dict[str, list[Entry]] = {}
        self.store = FakeStore()
        self.unsent: dict[str, SendError] = {}

    @property
    def revision(self) -> int:
        return max((view.revision for view in self.views.values()), default=0)

    def rows(self) -> Iterable[SessionView]:
        if self.broken:
            raise ZeroDivisionError("a bug of ours")
        return list(self.views.values())

    def view(self, session_id: str) -> SessionView | None:
        return self.views.get(session_id)

    def me(self, session_id: str) -> Me | None:
        return Me("15550001111@c.us", "Ana") if session_id in self.views else None

    def timeline(self, session_id: str) -> list[Entry]:
        return self.pasts.get(session_id, [])

    async def send_text(
        self,
        session_id: str,
        chat: str,
        text: str,
        *,
        message_id: str | None = None,
        quoted: tuple[str, str, bytes] | None = None,
        is_strict: bool = False,
    ) -> SendReceipt:
        self._known(session_id)
        if text in self.unsent:
            raise self.unsent[text]
        self.called.append(("send_text", session_id, chat, text, message_id, quoted, is_strict))
        return SendReceipt(message_id or "3EB0", chat, 1_700_000_000_000)

    def _known(self, session_id: str) -> SessionView:
        if session_id not in self.views:
            raise UnknownSessionError(session_id)
        return self.views[session_id]

    def change(self, session_id: str, **fields: object) -> None:
        before = self._known(session_id)
        fields = {"revision": self.revision + 1, **fields}
        self.views[session_id] = after = replace(before, **fields)  # type: ignore[arg-type]
        self.feed.publish(
            StatusEvent("session.status", session_id, 1_700_000_003_000, after, {"previous": before.state})
        )

    def start(self, session_id: str) -> None:
        self.called.append(("start", session_id))
        self.change(session_id, state=State.CONNECTING)

    def stop(self, session_id: str) -> None:
        self.called.append(("stop", session_id))
        self.change(session_id, state=State.STOPPED)

    def restart(self, session_id: str) -> None:
        self.called.append(("restart", session_id))
        self.change(session_id, state=State.CONNECTING, connection=self._known(session_id).connection + 1)

    def reconnect(self, session_id: str, *, override: bool = False) -> int:
        view = self._known(session_id)
        if view.reason in RISKY and not override:
            raise RefusedError(view.reason, f"{session_id} ended with {view.reason}", "add ?override=true")
        self.called.append(("reconnect", session_id, override))
        self.change(session_id, state=State.CONNECTING, connection=view.connection + 1)
        return view.connection + 1

    def reset_breaker(self, session_id: str, *, penalty: bool = False) -> None:
        self.called.append(("reset_breaker", session_id, penalty))
        self.change(session_id, breaker=BreakerView("closed"))

    def set_proxy(self, session_id: str, proxy: str | None) -> None:
        self.called.append(("set_proxy", session_id, proxy))
        self.change(session_id, proxy=redact_proxy(proxy))

    async def remove(self, session_id: str) -> None:
        self._known(session_id)
        self.called.append(("remove", session_id))
        del self.views[session_id]

    async def logout(self, session_id: str) -> None:
        self.called.append(("logout", session_id))
        self.change(session_id, state=State.LOGGED_OUT)

    async def export(self, session_id: str, *, force: bool = False) -> Any:  # noqa: ANN401 - of the extension
        if session_id not in self.views:
            raise UnknownSessionError(session_id)
        self.called.append(("export", session_id, force))
        raise RefusedError("running", "it runs", "stop it first")

    def subscribe(self) -> trio.MemoryReceiveChannel[StatusEvent]:
        self.subscribed.set()
        return self.feed.subscribe(self.capacity)


class FakePhones:
    """Codes for the session `new`; everything else is linked."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet = fleet

    def _unlinked(self, session_id: str) -> None:
        view = self._fleet.view(session_id)
        if view is None:
            raise UnknownSessionError(session_id)
        if view.linked:
            raise RefusedError("linked", f"session {session_id!r} is linked", "log it out first")

    async def pair(self, session_id: str) -> None:
        self._unlinked(session_id)
        self._fleet.change(session_id, state=State.PAIRING)

    async def qr(self, session_id: str) -> Shown:
        self._unlinked(session_id)
        return Shown("https://wa.me/settings/linked_devices#2@ref,a,b,c,1", 1_700_000_060_000, 5)

    async def code(self, session_id: str, phone: int) -> Shown:
        self._unlinked(session_id)
        self._fleet.called.append(("code", session_id, phone))
        if self._fleet.called.count(("code", session_id, phone)) > 1:
            raise RateLimitedError("a code was made 3 s ago", 27.0)
        return Shown("ABCD-EFGH", 1_700_000_180_000)


class FakeNumbers:
    """Metrics that never move."""

    def __init__(self) -> None:
        self.sampled = trio.Event()

        self.monitoring = True
        self.failed = 0

    async def refresh(self) -> None:
        return

    def live(self) -> dict[str, object]:
        return {**self.system(), "states": {"online": 3, "parked": 1}}

    def past(
        self, names: Iterable[str], since_ms: int | None, until_ms: int | None, points: int
    ) -> dict[str, object]:
        return {name: {"stepS": 10, "at": [since_ms, until_ms], "values": [points, None]} for name in names}

    def handler_failed(self) -> None:
        self.failed += 1

    def system(self) -> dict[str, object]:
        return {"totalMemory": 1, "usedMemory": 1, "cpuUsage": 0.1, "activeConnections": 1, "errorRate": None}

    def session(self, _session_id: str) -> dict[str, object]:
        return {
            "connectionUptime": 3.5,
            "messagesProcessed": 0,
            "messagesPerMinute": 0,
            "averageResponseTime": 12.5,
            "responseTimeP50": 10.0,
            "responseTimeP95": 20.0,
            "responseTimeP99": 20.0,
            "errorCount": 0,
            "reconnectCount": 0,
        }

    def details(self) -> dict[str, object]:
        return {"process": {"rss": 1}, "states": {"online": 3, "parked": 1}}

    async def next_sample(self) -> None:
        await self.sampled.wait()
        self.sampled = trio.Event()


AN_ALERT = {
    "id": "al_1",
    "alert": "disk_full",
    "severity": "critical",
    "about": None,
    "since": 1_700_000_000_000,
    "text": "as injected",
    "resolvedAt": None,
    "suppressedBy": None,
    "silencedUntil": None,
    "acknowledgedAt": None,
    "acknowledgedBy": None,
}


class FakeAlerts:
    """A desk with one alert and no engine behind it."""

    def __init__(self) -> None:
        self.called: list[tuple[object, ...]] = []

    def _known(self, wanted: str, known: str) -> None:
        if wanted != known:
            raise AdminError(404, "unknown_alert", f"no alert {wanted!r} is active")

    def active(self) -> dict[str, object]:
        return {"active": [AN_ALERT], "counts": {}, "silences": self.silences()}

    def history(self, limit: int, before: str | None) -> dict[str, object]:
        self.called.append(("history", limit, before))
        return {"alerts": [], "next": None}

    def definitions(self) -> dict[str, object]:
        return {"definitions": []}

    def acknowledge(self, alert_id: str, by: str, note: str | None) -> dict[str, object]:
        self._known(alert_id, "al_1")
        self.called.append(("ack", alert_id, by, note))
        return {"id": alert_id, "alert": "disk_full", "acknowledgedBy": by}

    def resolve(self, alert_id: str) -> dict[str, object]:
        self._known(alert_id, "al_1")
        self.called.append(("resolve", alert_id))
        return {"id": alert_id, "alert": "disk_full"}

    def silences(self) -> list[dict[str, object]]:
        return []

    def silence(self, alert: str, about: str | None, minutes: float, note: str) -> dict[str, object]:
        self.called.append(("silence", alert, about, minutes, note))
        return {"id": "sil_1", "alert": alert}

    def unsilence(self, silence_id: str) -> dict[str, object]:
        self._known(silence_id, "sil_1")
        self.called.append(("unsilence", silence_id))
        return {"id": silence_id}


def _create_one(fleet: FakeFleet, wish: NewSession) -> Created | RunnerError:
    if wish.id in fleet.views:
        return ImportRefusedError("exists", f"{wish.id} is taken", "choose another --id")
    if not wish.imports:
        fleet.views[wish.id] = replace(a_view(wish.id, State.CONNECTING), linked=False)
        return Created(wish.id)
    if (wish.files or {}).get("creds.json") == "of desk-1":
        return ImportRefusedError("same_device", "this device is here already", "delete that session first")
    if "creds.json" not in (wish.files or {}):
        return CredentialsMissingError(Path(wish.id) / "creds.json", "is missing")
    fleet.views[wish.id] = a_view(wish.id, State.CONNECTING)
    fleet.change(wish.id, proxy=redact_proxy(wish.proxy))
    return Created(wish.id, ("stop the old program first",))


def a_backend(fleet: FakeFleet, *, healthy: bool = True) -> Backend:
    async def create(wishes: Sequence[NewSession]) -> list[Created | RunnerError]:
        return [_create_one(fleet, wish) for wish in wishes]

    store = fleet.store
    webhooks = Webhooks(
        store,
        Settings(webhook_allow="127.0.0.1,localhost"),
        subscribe=fleet.feed.subscribe,
        wanted=lambda: fleet.called.append(("messages_wanted",)),
        me=fleet.me,
        version="0.1.0",
        tally=Tally(),
        unix_ms=lambda: 1_700_000_000_000,
        rng=Random(1),
        aside=inline,
    )
    consumer = Consumer(
        store,
        webhooks,
        None,
        Limits(1, 1.0, Retry()),
        state=lambda _: None,
        tell=lambda *_: None,
        tally=Tally(),
        rng=Random(1),
        aside=inline,
    )

    async def diagnose(sessions: int | None) -> dict[str, object]:
        return look(Settings(), sessions, len(fleet.views)).to_json()

    async def backup(file: Path) -> Any:  # noqa: ANN401 - of the extension
        fleet.called.append(("backup", str(file)))
        raise RefusedError("exists", f"{file} exists; name a new file")

    async def quoted(_session: str, _chat: str, author: str, message_id: str) -> tuple[str, str, bytes]:
        return message_id, author, b"\x0a\x02hi" if message_id == "Q1" else b""

    def process() -> dict[str, object]:
        restarts = fleet.called.count(("restart_runner",))
        return {"pid": 7, "startedAt": 1_700_000_000_000 + restarts, "restarts": restarts}

    async def restart() -> None:
        if not healthy:
            raise RefusedError("cannot_start", "the new process could not start", "fix WHATSAPP_IK")
        fleet.called.append(("restart_runner",))

    return Backend(
        sessions=fleet,
        phones=FakePhones(fleet),
        numbers=FakeNumbers(),
        health=lambda: HealthReport(
            live=True, ready=healthy, checks=(Check("store", healthy),), process=process()
        ),
        create=create,
        prometheus=lambda: iter([b'runner_sessions{state="online"} 1\n', b"", b"runner_up 1\n"]),
        logs=LogBuffer(100),
        version=lambda: {"version": "0.1.0"},
        fleet=lambda: {"states": {"online": len(fleet.views)}},
        doctor=diagnose,
        backup=backup,
        stopping=trio.Event(),
        restart=restart,
        alerts=FakeAlerts(),
        webhooks=webhooks,
        dead_letters=DeadLetters(store, consumer, webhooks, inline),
        send_text=fleet.send_text,
        quoted=quoted,
    )
