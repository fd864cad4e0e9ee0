"""Puts the admin API together from the running parts. Imports the web framework, so it is imported late."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from runner import config, prometheus
from runner.admin.api import application
from runner.admin.backend import Backend, Created, HealthReport, NewSession
from runner.admin.guard import Access, host_names
from runner.admin.server import AdminServer
from runner.config_kinds import is_loopback
from runner.intake import Intake, checked_id, unpacked
from runner.logs import logger
from runner.proxy import checked_proxy
from runner.version import build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner import _core
    from runner.admin.tokens import Tokens
    from runner.alerts.loop import Alerts
    from runner.config import Settings
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
        supervisor: Supervisor,
        metrics: Metrics,
        store: _core.Store,
        logs: LogBuffer,
        health: Callable[[], HealthReport],
        stopping: trio.Event,
        alerts: Alerts,
    ) -> None:
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
        )
        version = build()
        backend = Backend(
            sessions=_Sessions(supervisor, metrics, now.event_queue),
            numbers=metrics,
            health=health,
            create=self._create,
            prometheus=partial(prometheus.text, metrics),
            logs=logs,
            version=lambda: version,
            fleet=self._fleet,
            stopping=stopping,
            alerts=alerts,
            settings=lambda: config.written(self._settings()),
        )
        self.server = AdminServer(application(backend, self.access), connections=now.admin_connections)

    def reload(self, settings: Settings, tokens: Tokens) -> None:
        """Settings changed."""
        self.access.tokens, self.access.hosts = tokens, _hosts(settings)

    def _fleet(self) -> Mapping[str, object]:
        return {
            "states": dict(self._metrics.states()),
            "waitingForDial": self._supervisor.waiting,
            "incidents": [_incident(incident) for incident in self._supervisor.incidents()],
        }

    async def _create(self, wish: NewSession) -> Created:
        checked_id(wish.id)
        proxy = None if wish.proxy is None else checked_proxy(wish.proxy)
        warnings = await trio.to_thread.run_sync(self._take_over, wish)
        self._supervisor.add(wish.id, proxy)
        if not wish.start:
            self._supervisor.stop(wish.id)
        logger().info("session imported", session=wish.id, warnings=len(warnings))
        return Created(wish.id, warnings)

    def _take_over(self, wish: NewSession) -> tuple[str, ...]:
        files = {name: text.encode() for name, text in wish.files.items()} | wish.binary
        with unpacked(files, self._settings().data_path) as directory:
            return Intake(self._store).take_over(wish.id, directory)


class _Sessions:
    """The supervisor, with what has to follow a command in other rooms."""

    def __init__(self, supervisor: Supervisor, metrics: Metrics, event_queue: int) -> None:
        self._supervisor = supervisor
        self._metrics = metrics
        self.rows = supervisor.rows
        self.view = supervisor.view
        self.start = supervisor.start
        self.stop = supervisor.stop
        self.restart = supervisor.restart
        self.reconnect = supervisor.reconnect
        self.reset_breaker = supervisor.reset_breaker
        self.set_proxy = supervisor.set_proxy
        self.logout = supervisor.logout
        self.subscribe = partial(supervisor.subscribe, event_queue)

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
