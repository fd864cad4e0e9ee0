"""Puts the admin API together from the running parts. Imports the web framework, so it is imported late."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from runner import config, prometheus
from runner.admin.api import application
from runner.admin.backend import Backend, Created, HealthReport, NewSession
from runner.admin.doctor import Doctor
from runner.admin.guard import Access, host_names
from runner.admin.server import AdminServer
from runner.config_kinds import is_loopback
from runner.engine import back_up, create_session, told_as_store_failures
from runner.errors import RunnerError
from runner.intake import Intake, checked_id, uploaded
from runner.logs import logger
from runner.proxy import checked_proxy
from runner.sending import quoted_of
from runner.tune.subject import look
from runner.version import build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner import _core
    from runner._core import BackupMade
    from runner.admin.guard import App
    from runner.admin.guesses import Guesses
    from runner.admin.tokens import Tokens
    from runner.alerts.loop import Alerts
    from runner.baileys import BaileysDevice
    from runner.config import Settings
    from runner.handing_on import HandingOn
    from runner.logs import LogBuffer
    from runner.metrics import Metrics
    from runner.reconnect.incidents import Incident
    from runner.supervisor import Supervisor


class Admin:
    """The admin API of one process."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        tokens: Tokens,
        guesses: Guesses,
        supervisor: Supervisor,
        metrics: Metrics,
        store: _core.Store,
        logs: LogBuffer,
        health: Callable[[], HealthReport],
        stopping: trio.Event,
        restart: Callable[[], Awaitable[None]],
        alerts: Alerts,
        handing_on: HandingOn,
        front: Callable[[App, Access], App],
    ) -> None:
        """`front` stands before the API on both sockets: the dashboard."""
        now = settings()
        self._settings = settings
        self._supervisor = supervisor
        self._metrics = metrics
        self._store = store
        self.access = Access(
            tokens,
            is_loopback=is_loopback(now.admin_host),
            hosts=_hosts(now),
            import_limit=now.admin_import_limit,
            guesses=guesses,
        )
        version = build()
        backend = Backend(
            sessions=_Sessions(supervisor, metrics, now.event_queue),
            phones=supervisor.phones,
            numbers=metrics,
            health=health,
            create=self._create,
            prometheus=self._prometheus,
            logs=logs,
            version=lambda: version,
            fleet=self._fleet,
            doctor=Doctor(self._diagnose).answer,
            backup=self._backup,
            stopping=stopping,
            restart=restart,
            alerts=alerts,
            webhooks=handing_on.webhooks,
            dead_letters=handing_on.dead_letters,
            send_text=handing_on.sending.text,
            quoted=self._quoted,
            settings=lambda: config.written(self._settings()),
        )
        self.server = AdminServer(
            front(application(backend, self.access), self.access), connections=now.admin_connections
        )

    def reload(self, settings: Settings, tokens: Tokens) -> None:
        """Settings changed."""
        self.access.tokens, self.access.hosts = tokens, _hosts(settings)

    def _prometheus(self) -> Iterator[bytes]:
        now = self._settings()
        choice = prometheus.Choice(now.metrics_sessions, now.metrics_session_limit)
        return prometheus.pieces(self._metrics, choice, self._supervisor.standings)

    def _fleet(self) -> Mapping[str, object]:
        return {
            "states": dict(self._metrics.states()),
            "revision": self._supervisor.revision,
            "waitingForDial": self._supervisor.waiting,
            "incidents": [_incident(incident) for incident in self._supervisor.incidents()],
        }

    def _diagnose(self, sessions: int | None) -> Mapping[str, object]:
        in_store = sum(self._metrics.states().values())
        return look(self._settings(), sessions, in_store, os.getpid()).to_json()

    async def _backup(self, file: Path) -> BackupMade:
        made = await trio.to_thread.run_sync(back_up, self._store, file)
        logger().info("backup made", bytes=made.bytes, sessions=made.sessions, seconds=round(made.took_s, 3))
        return made

    async def _quoted(
        self, session_id: str, chat: str, author: str, message_id: str
    ) -> tuple[str, str, bytes]:
        with told_as_store_failures("the message that it answers cannot be read"):
            return await trio.to_thread.run_sync(quoted_of, self._store, session_id, chat, author, message_id)

    async def _create(self, wishes: Sequence[NewSession]) -> list[Created | RunnerError]:
        told = await trio.to_thread.run_sync(self._take_in, wishes)
        outcomes = []
        with trio.CancelScope(shield=True):  # what is in the store is to run, even if the caller left
            for wish, outcome in zip(wishes, told, strict=True):
                outcomes.append(self._admit(wish, outcome))
                await trio.lowlevel.checkpoint()
        return outcomes

    def _take_in(self, wishes: Sequence[NewSession]) -> list[tuple[str, ...] | RunnerError]:
        """Into the store: devices in one transaction, sessions without one each by itself."""
        devices = [(wish.id, partial(_device, wish)) for wish in wishes if wish.imports]
        taken = iter(Intake(self._store).take_over_each(devices))
        return [next(taken) if wish.imports else self._make(wish) for wish in wishes]

    def _make(self, wish: NewSession) -> tuple[str, ...] | RunnerError:
        try:
            if wish.proxy is not None:
                checked_proxy(wish.proxy)
            create_session(self._store, checked_id(wish.id))
        except RunnerError as error:
            return error
        return ()

    def _admit(self, wish: NewSession, taken: tuple[str, ...] | RunnerError) -> Created | RunnerError:
        if isinstance(taken, RunnerError):
            return taken
        try:
            proxy = None if wish.proxy is None else checked_proxy(wish.proxy)
            self._supervisor.add(wish.id, proxy, linked=wish.imports)
        except RunnerError as error:
            return error
        if not wish.start:
            self._supervisor.stop(wish.id)
        elif not wish.imports:
            self._supervisor.start(wish.id)
        done = "session imported" if wish.imports else "session created"
        logger().info(done, session=wish.id, warnings=len(taken))
        return Created(wish.id, taken)


def _device(wish: NewSession) -> BaileysDevice:
    if wish.proxy is not None:
        checked_proxy(wish.proxy)  # before anything is in the store
    files = {name: text.encode() for name, text in (wish.files or {}).items()}
    return uploaded(wish.id, files | wish.binary)


class _Sessions:
    """The supervisor, with what has to follow a command in other rooms."""

    def __init__(self, supervisor: Supervisor, metrics: Metrics, event_queue: int) -> None:
        self._supervisor = supervisor
        self._metrics = metrics
        self.rows = supervisor.rows
        self.view = supervisor.view
        self.me = supervisor.me
        self.timeline = supervisor.timeline
        self.start = supervisor.start
        self.stop = supervisor.stop
        self.restart = supervisor.restart
        self.reconnect = supervisor.reconnect
        self.reset_breaker = supervisor.reset_breaker
        self.set_proxy = supervisor.set_proxy
        self.logout = supervisor.logout
        self.export = supervisor.export
        self.subscribe = partial(supervisor.subscribe, event_queue)

    @property
    def revision(self) -> int:
        return self._supervisor.revision

    async def remove(self, session_id: str) -> None:
        await self._supervisor.remove(session_id)
        self._metrics.forget(session_id)


def _incident(incident: Incident) -> dict[str, object]:
    return {
        "kind": incident.kind,
        "about": incident.key or None,
        "severity": incident.severity,
        "text": incident.text,
        "openedAt": incident.opened_at,
    }


def _hosts(settings: Settings) -> frozenset[str]:
    return host_names([settings.admin_host, *settings.admin_hosts.split(",")])
