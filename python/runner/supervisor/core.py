"""The supervisor: the machine, its tasks, and what operators may ask of it.

`rows`, `view` and `subscribe` are the one read path of every surface. Commands are synchronous where they
only change the plan, and asynchronous where they wait for the engine or the store.
"""

from __future__ import annotations

import time
from collections import Counter
from math import inf
from random import Random
from typing import TYPE_CHECKING, Final

import structlog
import trio

from runner.engine import delete_device, export_flushed, pump
from runner.errors import EngineFailedError, RefusedError
from runner.reconnect.table import refuses_force
from runner.session import SessionView, State
from runner.supervisor import commands, linking
from runner.supervisor.dialling import CLOSE_STUCK
from runner.supervisor.machine import Machine
from runner.supervisor.phones import Phones
from runner.supervisor.row import redact_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from runner._core import ExportedDevice
    from runner.engine import Engine, Store
    from runner.envelope import Me
    from runner.reconnect.incidents import Incident
    from runner.reconnect.policy import Policy
    from runner.reconnect.version import Version
    from runner.supervisor.feed import StatusEvent
    from runner.supervisor.row import Options, Row, Standing
    from runner.supervisor.timeline import Entry

log = structlog.get_logger()

REFRESH_TIMEOUT_S: Final = 20.0
"""For reading the client version; after it the fleet dials with the version it knows."""
CLOSED_WITHIN_S: Final = 30.0
"""Longer than the engine takes for any farewell; a caller must not hang on a connection that is stuck."""
ARCHIVE_AGAIN_S: Final = 60.0
"""Until a store that could not archive is asked again."""
REMEDY: Final = {
    "failure_logged_out": "pair the device again; override=true tries once more with the old keys",
    "failure_temporary_ban": "wait until nextRetryAt; override=true risks the number",
    "stream_replaced": "stop the other program that uses these credentials, then override=true",
    "exported": "if the other program never used the device, override=true takes it back",
    "stream_replaced_code": "stop the other program that uses these credentials, then override=true",
}


class Supervisor:
    """All sessions of this process. Use it from the Trio thread that runs `run`."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        policy: Policy,
        options: Options,
        *,
        refresh_version: Callable[[], Awaitable[Version | None]] | None = None,
        rng: Random | None = None,
        clock: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`refresh_version` reads the client version from the endpoint; None when it does not say.

        `clock` must be callable already, so construct it inside `trio.run`.
        """
        self._refresh_version = refresh_version
        self._wake = trio.Event()
        self._stopped = trio.Event()
        self.machine = Machine(
            engine, store, policy, options, rng=rng or Random(), clock=clock, wall=wall
        )  # jitter is no secret
        self.phones = Phones(self.machine, self.wake)

    # -- reading ---------------------------------------------------------------------------------------------

    def rows(self) -> Iterable[SessionView]:
        """Every session as it is now."""
        return self.machine.views()

    @property
    def revision(self) -> int:
        """How many changes of sessions there have been."""
        return self.machine.revision

    def standings(self) -> Iterator[Standing]:
        """Where every session is at the moment that it is taken from here."""
        machine = self.machine
        rows = list(machine.rows.values())
        return (row.standing(machine.now()) for row in rows if not row.is_removed)

    def standing(self, session_id: str) -> Standing | None:
        """Where one session is now, or None: what `view` says of it without asking the engine."""
        row = self.machine.rows.get(session_id)
        return None if row is None or row.is_removed else row.standing(self.machine.now())

    def uptime_s(self, session_id: str) -> float:
        """Since the login of a session's connection; 0 when there is none."""
        row = self.machine.rows.get(session_id)
        return 0.0 if row is None or row.is_removed else row.uptime_s(self.machine.now())

    def state_counts(self) -> Mapping[str, int]:
        """How many sessions are in each state."""
        return Counter(row.state for row in self.machine.rows.values() if not row.is_removed)

    def view(self, session_id: str) -> SessionView | None:
        """One session as it is now, or None."""
        return self.machine.view(session_id)

    def me(self, session_id: str) -> Me | None:
        """Whose session it is, when that is known."""
        row = self.machine.rows.get(session_id)
        return None if row is None else row.me

    def timeline(self, session_id: str) -> list[Entry]:
        """The states that a session went through since the process started, the oldest first."""
        return self.machine.timeline.entries(self.machine.row(session_id))

    def incidents(self) -> tuple[Incident, ...]:
        """What is wrong for many sessions at once: one entry for each cause, open ones only."""
        return self.machine.incidents.open()

    def past_incidents(self) -> tuple[Incident, ...]:
        """The last incidents that are over."""
        return self.machine.incidents.closed()

    def subscribe(self, capacity: int = 1024) -> trio.MemoryReceiveChannel[StatusEvent]:
        """All events from now on. A slow subscriber loses events and the next one tells how many."""
        return self.machine.feed.subscribe(capacity)

    @property
    def waiting(self) -> int:
        """Sessions in the limiter's queue."""
        return self.machine.dials.limiter.waiting

    # -- commands --------------------------------------------------------------------------------------------

    def add(self, session_id: str, proxy: str | None = None, *, linked: bool = True) -> None:
        """A session came into the store: run it. For one that is known, its credentials are new.

        One that is not `linked` waits, parked, until somebody is there with a phone.

        Raises:
            RefusedError: a session of that name is running, or still being removed.
        """
        machine = self.machine
        known = machine.rows.get(session_id)
        if known is not None and known.state not in (State.PARKED, State.LOGGED_OUT, State.STOPPED):
            raise RefusedError(
                "exists", f"session {session_id!r} exists and is {known.state}", "remove or stop it first"
            )
        if known is not None and (known.live or known.is_removed):
            raise RefusedError(
                "exists", f"session {session_id!r} is still closing", "try again in a few seconds"
            )
        commands.admit(machine, session_id, proxy, linked=linked)
        self.wake()

    async def remove(self, session_id: str) -> None:
        """Close, forget, and move the credentials to the archive. Waits for the connection to close."""
        row = self.machine.row(session_id)
        self.stop(session_id)
        row.is_removed = True
        try:
            await self._wait_closed(row)
            await trio.to_thread.run_sync(delete_device, self.machine.store, session_id)
        except BaseException:  # the caller left, or the store failed: it is still there, so it is shown
            row.is_removed = False
            self.machine.mark_dirty(row)
            self.wake()
            raise
        commands.forget(self.machine, row)

    def start(self, session_id: str) -> None:
        """Run a stopped session; what held it before (a ban, a parking) holds it still. Idempotent.

        One that no phone has linked shows codes for a while.
        """
        row = self.machine.row(session_id)
        if not row.is_linked:
            linking.begin(self.machine, row)
            self.wake()
            return
        if row.state is not State.STOPPED:
            return
        row.desired = True
        log.info("session started", session=session_id)
        self.machine.resume_row(row)
        self.wake()

    def stop(self, session_id: str) -> None:
        """Close the connection and do not dial again until `start`. Idempotent."""
        commands.stop(self.machine, self.machine.row(session_id))
        log.info("session stopped", session=session_id)
        self.wake()

    def restart(self, session_id: str) -> None:
        """Stop and start."""
        self.stop(session_id)
        self.start(session_id)

    def reconnect(self, session_id: str, *, override: bool = False) -> int:
        """Force a new connection from whatever state; returns its number at once. Cancels any waiting.

        Several calls before the new connection is dialled are one: they get the same number.

        Raises:
            UnknownSessionError: there is no such session.
            RefusedError: the account is banned, locked, unlinked or used elsewhere, and `override` is not
            set.
        """
        row = self.machine.row(session_id)
        blocker = row.reason if row.state not in (State.ONLINE, State.DEGRADED) else None
        if refuses_force(blocker) and blocker is not None and not override:
            log.warning("reconnect refused", session=session_id, reason=blocker)
            remedy = REMEDY.get(blocker, "find out why first; override=true does it anyway")
            raise RefusedError(blocker, f"session {session_id!r} is {row.state}: {blocker}", remedy)
        number = commands.force(self.machine, row)
        log.info("reconnect forced", session=session_id, connection=number, override=override)
        self.wake()
        return number

    def reset_breaker(self, session_id: str, *, penalty: bool = False) -> None:
        """Let one attempt through now; with `penalty` also forget bans' and rate limits' waiting times.

        Without `penalty` a session that waits for anything but its breaker goes on waiting.
        """
        row = self.machine.row(session_id)
        commands.reset(self.machine, row, penalty=penalty)
        log.info("reconnect breaker reset", session=session_id, penalty=penalty)
        self.wake()

    def set_proxy(self, session_id: str, proxy: str | None) -> None:
        """Use another proxy from now on; an open connection is replaced once.

        What waits for a path tries the new one at once; what waits for a ban or was stopped goes on waiting.
        """
        if commands.change_proxy(self.machine, self.machine.row(session_id), proxy):
            log.info("proxy changed", session=session_id, proxy=redact_proxy(proxy))
            self.wake()

    async def logout(self, session_id: str) -> None:
        """Unlink the device at the server and archive its credentials. Waits until that is done.

        Raises:
            RefusedError: the session is not online, so the server cannot be told.
        """
        row = self.machine.row(session_id)
        if row.state is State.LOGGED_OUT:
            return
        if row.state not in (State.ONLINE, State.DEGRADED):
            raise RefusedError(
                row.state.value,
                f"session {session_id!r} is {row.state}; the server can only be told over an open connection",
                "reconnect it first, unlink it on the phone, or delete the session",
            )
        commands.log_out(self.machine, row)
        self.wake()
        await self._wait_closed(row)
        self.wake()
        if row.unlinked_because is None:
            why = row.reason or row.state.value
            raise RefusedError(
                why,
                f"session {session_id!r} is not unlinked ({why}): the server did not confirm it",
                "try again when it is online, or unlink it on the phone",
            )

    async def export(self, session_id: str, *, force: bool = False) -> ExportedDevice:
        """All that the session's device is, for another program; from then on it is not dialled here.

        Raises:
            UnknownSessionError: there is no such session.
            RefusedError: it runs and `force` is not set; no phone has linked it; its credentials are damaged.
            StoreFailedError: the store could not; the session is stopped, and nothing else has changed.
        """
        row = self.machine.row(session_id)
        at_rest = (State.STOPPED, State.PARKED, State.LOGGED_OUT)
        if (row.live or row.state not in at_rest) and not force:
            raise RefusedError(
                "running",
                f"session {session_id!r} is {row.state}: two programs on one device push each other off, and "
                "their keys drift apart",
                f"stop it first: python -m runner stop {session_id}; or export with --force",
            )
        if row.state not in at_rest or row.live:
            self.stop(session_id)
            await self._wait_closed(row)
        # Behind what the connection left: the writer commits in order.
        device = await trio.to_thread.run_sync(export_flushed, self.machine.store, session_id)
        commands.exported(self.machine, row)
        log.warning("session exported", session=session_id, leftOut=len(device.left_out))
        self.wake()
        return device

    def set_version(self, version: Version | None) -> None:
        """The operator pinned a client version, or `auto` (None)."""
        self.machine.pin_version(version)
        self.wake()

    def set_policy(self, policy: Policy) -> None:
        """Use other numbers from now on; what already waits keeps its time."""
        self.machine.configure(policy)
        self.wake()

    async def _wait_closed(self, row: Row) -> None:
        if not row.live:
            return
        if row.closed is None:
            row.closed = trio.Event()
        with trio.move_on_after(CLOSED_WITHIN_S):
            await row.closed.wait()
            return
        raise RefusedError(
            CLOSE_STUCK, f"session {row.session_id!r} does not close", "try again; if it stays so, restart"
        )

    # -- tasks -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the scheduler take a turn."""
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the store and keep its sessions as they should be, until cancelled or shut down.

        Raises:
            EngineFailedError: the engine died.
        """
        machine = self.machine
        machine.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._schedule, nursery)
            task_status.started()
            await pump(machine.engine, machine.route, self.wake, lambda: machine.is_stopping)
            nursery.cancel_scope.cancel()
        if not machine.is_stopping:
            raise EngineFailedError("the engine stopped by itself")
        self._stopped.set()
        machine.flush()
        machine.feed.close()

    async def shutdown(self, timeout_s: float = 8.0) -> bool:
        """Stop dialling, close every connection, write everything down. False when time ran out.

        The durable wish of each session stays: the next start brings back what ran.
        """
        machine = self.machine
        machine.is_stopping = True
        machine.flush()
        machine.engine.shutdown()
        with trio.move_on_after(timeout_s):
            await self._stopped.wait()
        machine.flush()
        flushed = await trio.to_thread.run_sync(machine.store.flush, timeout_s)
        return machine.engine_stopped and flushed

    async def _schedule(self, nursery: trio.Nursery) -> None:
        """The one task that drives every session; what takes time gets a task of its own."""
        while True:
            next_at = self.machine.turn()
            if self.machine.engine_stopped:  # the turn may have routed the last event that the pump waits for
                nursery.cancel_scope.cancel()
                return
            if self.machine.refresh_wanted:
                self.machine.refresh_wanted = False
                nursery.start_soon(self._read_version)
            while (session_id := self.machine.take_archive_due()) is not None:
                nursery.start_soon(self._mirror_archive, session_id)
            self._wake = trio.Event()
            with trio.move_on_at(inf if next_at is None else next_at):
                await self._wake.wait()

    async def _mirror_archive(self, session_id: str) -> None:
        """Archive the credentials of a session that was unlinked, or take them back when it logged in after
        all; a store that fails is asked again."""
        while (row := self.machine.rows.get(session_id)) is not None:
            why = row.unlinked_because
            try:
                if why is None:
                    await trio.to_thread.run_sync(self.machine.store.unarchive, session_id)
                else:
                    await trio.to_thread.run_sync(self.machine.store.archive, session_id, why)
            except Exception:  # a full disk must not end the runner; the row says what is true already
                log.exception("credentials not archived yet", session=session_id, reason=why)
                await trio.sleep(ARCHIVE_AGAIN_S)
            else:
                if row.unlinked_because == why:
                    row.is_archived = why is not None
                    return

    async def _read_version(self) -> None:
        """Read the client version because the gate asked for it; dialling waits for that."""
        found: Version | None = None
        if self._refresh_version is not None:
            with trio.move_on_after(REFRESH_TIMEOUT_S):
                found = await self._refresh_version()
        self.machine.on_version(found)
        self.wake()
