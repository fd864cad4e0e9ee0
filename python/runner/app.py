"""The process: puts the parts together, in order, and takes them apart again.

Start: settings, lock, listening sockets, store, engine; then Trio: the supervisor dials, and only then is the
web framework imported, on a thread, while callers of the admin API wait in the listeners' queues.

Stop (SIGTERM, Ctrl-C): no more dials, WebSockets closed, handlers and deliveries at work end, connections
closed, everything committed, exit 0. A second signal ends the process at once, and so does `HARD_STOP_S`. A
restart ends in the same order, and the process becomes the next one instead of exiting (`runner.handover`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from runner import config, embedded
from runner.admin import tokens
from runner.admin.guesses import Guesses
from runner.alerts.channels import Channels
from runner.alerts.loop import Alerts
from runner.alerts.mail import Mail, notifiers
from runner.alerts.readings import Readings
from runner.application import load_app
from runner.client_version import read_version
from runner.config_kinds import split_list
from runner.counters import CounterTable
from runner.data_dir import STORE_FILE, open_to_others, prepare
from runner.engine import open_engine, open_store, response_buckets_s
from runner.errors import ConfigError, EngineFailedError, LeaseError, RunnerError, StartError
from runner.handing_on import HandingOn
from runner.handover import BY_REQUEST, Door, inherited, replace_process
from runner.health import INCIDENTS, FleetFacts, Health, Limits, judge
from runner.lifetime import Lifetime
from runner.limits import sessions_that_fit
from runner.logs import Logs, logger
from runner.metrics import Metrics
from runner.reconnect.policy import Policy
from runner.reconnect.version import parse_version
from runner.session import Deadlines
from runner.supervisor import Options, Supervisor
from runner.tally import Tally
from runner.tracebacks import redact_tracebacks
from runner.tune.heap import Heap, anonymous_bytes, give_back
from runner.tune.start import collect_old, freeze, raise_own_limits
from runner.version import build
from runner.watched import WatchedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from runner import _core
    from runner.admin.assembly import Admin
    from runner.admin.backend import HealthReport
    from runner.alerts.mail import Notify
    from runner.application import App
    from runner.config import Settings
    from runner.embedded import Rehearsal
    from runner.engine import EngineEvent
    from runner.handover import Restart

EXIT_ENGINE_FAILED: Final = 70
CLOSE_TIMEOUT_S: Final = 4.0
"""For closing all connections and, again, for the last commit."""
HARD_STOP_S: Final = 9.5
"""From the first signal until the process ends, whatever still hangs; what handlers may take comes on top."""
_HOW_TO_FILL: Final = (
    "python -m runner pair NAME, or import DIR --id NAME; to try it: python -m runner run --simulator 25"
)
ADMIN_END_S: Final = 2.0
"""For the last answers of the admin API to reach their callers."""
HOUSEKEEPING_S: Final = 10.0
HEARTBEAT_DEAD_S: Final = 30.0
"""Without a turn of the engine for this long the process is not worth keeping."""
NOT_READY: Final = frozenset({"engine_lag", "store_lag", "disk_full"})
"""Incidents during which the runner cannot do its work; the others are shown and change nothing here."""


def main(
    environ: MutableMapping[str, str], simulated: Rehearsal | None = None, reference: str | None = None
) -> int:
    """Run until told to stop; the exit code. `reference` (`MODULE:NAME`) is the app that gets the messages.

    Errors: RunnerError for what an operator can change; nothing is left running then.
    """
    # Until we listen, and during a restart: a reload that comes then has nothing to do, and must not kill.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = inherited(environ)
    settings = config.load(environ)
    named = reference or settings.app
    app = load_app(named) if named else None
    if app is not None:
        app.reference = reference
    prepare(settings.data_path)
    door = Door(settings, before, holds_store=simulated is None)
    restart = None
    try:
        with ExitStack() as stack:
            logs = Logs(settings)
            stack.callback(logs.close)
            redact_tracebacks(lambda text: logs.redactor.text(text))  # that of the settings in force
            try:
                restart = _run(settings, environ, simulated, logs, stack, door, before.restart, app)
            except EngineFailedError as error:
                logger().critical("engine failed", error=str(error))
                return EXIT_ENGINE_FAILED
    finally:
        if restart is None:
            door.close()
    return 0 if restart is None else replace_process(door, restart)


def _run(
    settings: Settings,
    environ: Mapping[str, str],
    simulated: Rehearsal | None,
    logs: Logs,
    stack: ExitStack,
    door: Door,
    before: Restart | None,
    app: App | None,
) -> Restart | None:
    known_tokens = load_tokens(settings)
    mail_to = notifiers(split_list(settings.alert_apprise_urls))
    store_dir, adjust = settings.data_path, _as_it_is
    if simulated is not None:
        store_dir = settings.data_path / embedded.DIRECTORY
        server = stack.enter_context(embedded.simulator(simulated, store_dir))
        adjust = partial(embedded.settings_for, server)
        settings = adjust(settings)
    store = open_store(store_dir / STORE_FILE, settings.inbox_retention_s, settings.dead_letter_retention_s)
    stack.callback(store.close)
    for line in store.report:
        logger().warning("store opened", found=line)
    if (mode := open_to_others(settings.data_path)) is not None:
        logger().warning(
            "the data directory can be written by every user",
            directory=str(settings.data_path),
            mode=mode,
            remedy="chmod o-w, unless this is a container of its own",
        )
    if simulated is not None:
        _import_all(store, server.credentials)
        sys.stdout.write(embedded.where_to_look(simulated.sessions, settings, server.control))
        sys.stdout.flush()
    elif not store.sessions():
        logger().warning("no sessions yet", remedy=_HOW_TO_FILL)
    engine = open_engine(store, **engine_config(settings))
    process = Process(
        settings, environ, store, engine, logs, door, known_tokens, adjust, before, mail_to, app
    )
    try:
        trio.run(process.run)
    except BaseExceptionGroup as group:
        # What an operator can change is told without a traceback; a bug of ours keeps it.
        raise_one_of(group, EngineFailedError, ConfigError, StartError, LeaseError)
        logger().critical("runner failed", exc_info=True)
        raise
    finally:
        process.end_engine()
    return process.lifetime.restart_wanted


def _as_it_is(settings: Settings) -> Settings:
    return settings


def load_tokens(settings: Settings) -> tokens.Tokens:
    """The tokens of the admin API, made at the first start. Blocking.

    Errors: ConfigError when they cannot be used; told before anything is dialled.
    """
    if settings.admin_token:
        return tokens.parse(settings.admin_token)
    return tokens.load_or_create(settings.data_path / "admin.token")


def raise_one_of(group: BaseExceptionGroup[BaseException], *kinds: type[BaseException]) -> None:
    """Out of a nursery, the error that says what happened; the others follow from it."""
    for kind in kinds:
        found: BaseException | None = group.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            raise found from None


def _import_all(store: _core.Store, credentials: Path) -> None:
    from runner.intake import Intake

    wanted = ((directory.name, directory) for directory in sorted(credentials.iterdir()))
    for _, _, outcome in Intake(store).take_over_all(wanted):
        if isinstance(outcome, RunnerError):
            raise outcome


def engine_config(settings: Settings) -> dict[str, object]:
    """The settings that the engine takes, by the names of `_core.EngineConfig`.

    Errors: StartError when the extra CA cannot be read.
    """
    try:
        ca = Path(settings.tls_ca).expanduser().read_bytes() if settings.tls_ca else None
    except OSError as error:
        raise StartError(f"WHATSAPP_TLS_CA {settings.tls_ca} cannot be read: {error.strerror}") from error
    return {
        "endpoint": settings.endpoint,
        "root_key": bytes.fromhex(settings.root_key) if settings.root_key else None,
        "tls_ca_pem": ca,
        "connect_timeout_s": settings.connect_timeout_s,
        "handshake_timeout_s": settings.handshake_timeout_s,
        "login_timeout_s": settings.login_timeout_s,
        "query_timeout_s": settings.query_timeout_s,
        "send_timeout_s": settings.send_timeout_s,
        "keepalive_min_s": settings.keepalive_min_s,
        "keepalive_max_s": settings.keepalive_max_s,
        "keepalive_second_s": settings.keepalive_second_s,
        "dead_socket_s": settings.dead_socket_s,
        "outbox_capacity": settings.outbox_capacity,
        "held_input_limit_bytes": settings.held_input_limit,
    }


def longest_dial_s(settings: Settings) -> float:
    """How long a dial may take by the engine's own deadlines, with room for their reporting."""
    return settings.connect_timeout_s + settings.handshake_timeout_s + settings.login_timeout_s + 10.0


def policy_of(settings: Settings) -> Policy:
    """The numbers of the reconnect policy that operators set."""
    return Policy(
        max_retries=settings.reconnection_max_retries,
        base_delay_s=settings.reconnection_base_delay_s,
        max_delay_s=settings.reconnection_max_delay_s,
        breaker_threshold=settings.circuit_breaker_threshold,
        breaker_timeout_s=settings.circuit_breaker_timeout_s,
        park_when_exhausted=settings.reconnection_exhausted == "park",
        connect_rate_per_s=settings.connect_rate,
        connect_burst=settings.connect_burst,
        connect_concurrency=settings.connect_concurrency,
    )


class Process:
    """What runs inside Trio."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        store: _core.Store,
        engine: _core.Engine,
        logs: Logs,
        door: Door,
        known_tokens: tokens.Tokens,
        adjust: Callable[[Settings], Settings],
        before: Restart | None = None,
        mail_to: Sequence[Notify] = (),
        app: App | None = None,
    ) -> None:
        """`adjust` is what `--simulator` makes of the operator's settings, at start and at every reload."""
        self.settings = settings
        self._environ = environ
        self._store = store
        self._engine = engine
        self._logs = logs
        self._door = door
        self._tokens = known_tokens
        self._adjust = adjust
        self._mail_to = mail_to
        self._app = app
        self._has_stopped = False
        self._admin: Admin | None = None
        self._guesses = Guesses(settings.admin_wrong_tokens)
        self.lifetime = Lifetime(
            door,
            before,
            environ,
            os.getpid(),
            settings=lambda: self.settings,
            begin_end=self._begin_end,
            reference=None if app is None else app.reference,
        )

    async def run(self) -> None:
        """Keep everything running until a signal, then stop in order."""
        self._stopping = trio.Event()
        self._open_files = raise_own_limits(self.settings.worker_threads)
        self._admin_ended = trio.Event()
        self._tally = Tally()
        self._heap = Heap()
        self._counters = CounterTable(self._engine.columns, aside=trio.to_thread.run_sync)
        self._metrics = self._make_metrics()
        self._supervisor = self._make_supervisor()
        self._handing_on = self._make_handing_on()
        self._health = Health(self._supervisor, self.settings.health_check_interval_s)
        self._alerts = self._make_alerts()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey_signals)
            await nursery.start(self._handing_on.webhooks.run)
            await nursery.start(self._supervisor.run)
            nursery.start_soon(self._handing_on.consumer.loop.run)
            nursery.start_soon(self._handing_on.undecryptable.run)
            nursery.start_soon(self._metrics.run)
            nursery.start_soon(self._health.run)
            nursery.start_soon(self._alerts.run)
            nursery.start_soon(self._housekeep)
            nursery.start_soon(self.lifetime.notifier.run, self._is_turning, self._status)
            nursery.start_soon(self.lifetime.watch_memory, self._supervisor)
            nursery.start_soon(self._serve_admin)
            self._say_started()
            await self._stopping.wait()
            if self.lifetime.restart_wanted is not None:
                await self._end_admin()  # first: its callers wait in a queue, the sessions wait offline
            await self._handing_on.shutdown()
            clean = await self._supervisor.shutdown(CLOSE_TIMEOUT_S)
            self._has_stopped = clean
            await self._end_admin()
            logger().info("runner stopped", clean=clean)
            nursery.cancel_scope.cancel()
        self._channels.close()

    def _say_started(self) -> None:
        last = self.lifetime.before
        why = {"restarted": last.reason, "detail": last.detail, "restarts": last.count} if last else {}
        logger().info("runner started", endpoint=self.settings.endpoint_host, pid=os.getpid(), **why)
        limit, memory = self.settings.max_memory_restart, self._metrics.machine.memory()
        if limit > memory.total:
            logger().warning(
                "memory limit out of reach",
                limit=limit,
                available=memory.total,
                scope=memory.scope,
                remedy="set WHATSAPP_MAX_MEMORY_RESTART below what there is: the kernel would kill first",
            )

    async def _end_admin(self) -> None:
        with trio.move_on_after(ADMIN_END_S):
            await self._admin_ended.wait()

    def end_engine(self) -> None:
        """After Trio: ask the engine to end if it was not asked before."""
        if not self._has_stopped:
            self._engine.shutdown()

    def _make_metrics(self) -> Metrics:
        sources = _Sources(self._engine, self._store, self._counters)
        metrics = Metrics(
            sources,
            self._states,
            revision=lambda: self._supervisor.revision,
            uptime_s=lambda session_id: self._supervisor.uptime_s(session_id),
            session_faults=lambda: self._supervisor.machine.faults_total,
            restricted=lambda: len(self._supervisor.machine.restricted),
            wrong_tokens=lambda: (self._guesses.wrong_total, self._guesses.refused_total),
            bucket_bounds_s=response_buckets_s(),
            tally=self._tally,
        )
        metrics.monitor(self.settings.performance_monitoring)
        metrics.footprint.start = metrics.mark()
        return metrics

    def _make_alerts(self) -> Alerts:
        machine = self._supervisor.machine
        mails = [Mail(notify, self.settings.alert_webhook_attempts) for notify in self._mail_to]
        version = str(build().get("version", ""))
        self._channels = Channels(
            self.settings, self._metrics, machine.store.put_meta, machine.unix_ms, version, mails
        )
        readings = Readings(
            self._metrics,
            machine,
            self.settings.data_path,
            lambda: self._logs.exceptions.total,
            lambda: self._channels.undelivered_total,
            self.settings.alert_patience,
        )
        alerts = Alerts(machine, readings, self._channels, self.settings)
        meta = self._store.meta()
        alerts.restore(meta)
        self._channels.restore(meta)
        return alerts

    def _make_supervisor(self) -> Supervisor:
        settings = self.settings
        capacity = sessions_that_fit(self._open_files, settings.admin_connections)
        options = Options(
            endpoint=settings.endpoint,
            proxy=settings.proxy or None,
            resume=settings.resume,
            client_version=parse_version(settings.client_version),
            fd_capacity=capacity,
            deadlines=Deadlines(connecting_s=longest_dial_s(settings)),
        )
        return Supervisor(
            WatchedEngine(self._engine, self._counters, self._observe),
            self._store,
            policy_of(settings),
            options,
            refresh_version=self._read_version,
        )

    def _make_handing_on(self) -> HandingOn:
        version = str(build().get("version", ""))
        return HandingOn(
            self._store, self._supervisor, self.settings, self._app, self._tally, version, self._engine
        )

    def _observe(self, event: EngineEvent) -> None:
        self._metrics.observe(event)
        self._handing_on.observe(event)

    async def _read_version(self) -> tuple[int, int, int] | None:
        return await trio.to_thread.run_sync(read_version, self.settings, abandon_on_cancel=True)

    def _states(self) -> Mapping[str, int]:
        return self._supervisor.state_counts()

    async def _housekeep(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            self._logs.report_suppressed()
            collect_old(is_calm=self._supervisor.waiting == 0)
            with suppress(OSError):  # no file descriptor is free: next time
                if self._heap.is_due(anonymous_bytes()):
                    await trio.to_thread.run_sync(give_back)
                    self._heap.given_back(anonymous_bytes())

    # Signals

    async def _obey_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            async for number in received:
                if number == signal.SIGHUP:
                    self._reload()
                else:
                    self._begin_stop(number)

    def _begin_stop(self, number: int) -> None:
        logger().info("runner stopping", signal=signal.Signals(number).name)
        self.lifetime.stop()
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(
                again, signal.SIG_DFL
            )  # the second signal is the kernel's: it works whatever hangs here
        self._begin_end()

    def _begin_end(self) -> None:
        if not self._stopping.is_set():
            budget_s = HARD_STOP_S + self.settings.handler_stop_timeout_s
            hard_stop = threading.Timer(budget_s, self._end_hard)
            hard_stop.daemon = True
            hard_stop.start()
            self._stopping.set()

    def _end_hard(self) -> None:
        """On a thread: something hangs. What was committed is safe, as after a power cut."""
        restart = self.lifetime.restart_wanted
        os._exit(1 if restart is None else replace_process(self._door, restart))

    def _reload(self) -> None:
        self.lifetime.notifier.reloading()
        try:
            self._take_new_settings()
        finally:
            self.lifetime.notifier.ready()

    def _take_new_settings(self) -> None:
        log = logger()
        try:
            fresh = self._adjust(config.load(self._environ))
            settings, changed, waiting = config.reloaded(self.settings, fresh)
            self._tokens = load_tokens(settings)
        except ConfigError as error:
            for problem in error.problems:
                log.error("settings not reloaded", problem=problem)
            return
        self.settings = settings
        self._logs.apply(self.settings)
        self._supervisor.set_policy(policy_of(self.settings))
        if "WHATSAPP_CLIENT_VERSION" in changed:
            self._supervisor.set_version(parse_version(self.settings.client_version))
        self._guesses.allow(self.settings.admin_wrong_tokens)
        self._metrics.monitor(self.settings.performance_monitoring)
        self._health.interval_s = self.settings.health_check_interval_s
        self._alerts.reload(self.settings)
        self._channels.reload()
        if self._admin is not None:
            self._admin.reload(self.settings, self._tokens)
        log.info("settings reloaded", changed=changed, need_restart=waiting)

    # Admin API

    async def _serve_admin(self) -> None:
        try:
            # Importing the web framework takes most of a second; on a thread it does not stop the dials.
            footprint = self._metrics.footprint
            footprint.loading = self._metrics.mark()
            self._admin = admin = await trio.to_thread.run_sync(self._make_admin)
            admin.reload(self.settings, self._tokens)  # a SIGHUP may have come in the meantime
            frozen = freeze()
            footprint.loaded = self._metrics.mark()
            logger().info(
                "process tuned",
                open_files=self._open_files,
                worker_threads=self.settings.worker_threads,
                gc_frozen_objects=frozen,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(admin.server.serve, self._door.accepting(), self._stopping)
                self.lifetime.notifier.ready()
        finally:
            self._admin_ended.set()

    def _is_turning(self) -> bool:
        """Whether to feed systemd's watchdog; that this is asked at all shows that the Trio loop turns."""
        return self._stopping.is_set() or self._engine.stats().heartbeat_age_s < Limits().heartbeat_s

    def _status(self) -> str:
        states = self._states()
        return f"{states.get('online', 0)} of {sum(states.values())} sessions online"

    def _make_admin(self) -> Admin:
        from runner.admin.assembly import Admin
        from runner.dashboard.front import Front

        return Admin(
            lambda: self.settings,
            self._tokens,
            self._guesses,
            self._supervisor,
            self._metrics,
            self._store,
            self._logs.buffer,
            self._report,
            self._stopping,
            partial(self.lifetime.restart, BY_REQUEST, "by the admin API"),
            self._alerts,
            self._handing_on,
            Front,
        )

    def _report(self) -> HealthReport:
        from runner.admin.backend import Check, HealthReport

        stats, store = self._engine.stats(), self._store.health()
        now = FleetFacts(
            engine_lag_s=stats.loop_lag_s,
            heartbeat_age_s=stats.heartbeat_age_s,
            store_age_s=store.oldest_age_s,
            disk_full=store.disk_full,
        )
        wrong = {incident.kind: incident.text for incident in self._supervisor.incidents()}
        wrong |= {kind: text for kind, (_, text) in judge(now, (), Limits()).incidents.items()}
        names = dict.fromkeys((*INCIDENTS, *wrong))
        return HealthReport(
            live=stats.heartbeat_age_s < HEARTBEAT_DEAD_S,
            ready=not wrong.keys() & NOT_READY,
            checks=tuple(Check(name, name not in wrong, wrong.get(name, "")) for name in names),
            process=self.lifetime.report(),
        )


class _Sources:
    """Engine and store, as `Metrics` reads them."""

    def __init__(self, engine: _core.Engine, store: _core.Store, counters: CounterTable) -> None:
        self.counters = counters
        self.stats = engine.stats
        self.store_health = store.health
