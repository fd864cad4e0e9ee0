"""The Python side of the boundary: what the engine and the store look like from here, and the pump.

Everything above works with the protocols `Engine` and `Store`, so that a fake can stand in; only
`open_store`, `open_engine` and their like touch the Rust extension, and import it when they are called.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from runner.errors import (
    EngineFailedError,
    ImportRefusedError,
    LeaseHeldError,
    RefusedError,
    StartError,
    StoreFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from runner import _core
    from runner._core import BackupMade, ExportedDevice, StoreRestored
    from runner.baileys import BaileysDevice
    from runner.counters import CounterTable

EVENTS_A_LOOK: Final = 16
"""Events taken from the engine at once: between two looks at the clock."""
STEP_S: Final = 0.002
"""How long events are routed before other tasks get a turn. An end may cost a hundred times what a phase
does, so that a number of events says nothing."""

FLUSH_S: Final = 30.0
"""For what a session has left in the store's queue."""


class EngineEvent(Protocol):
    """One event of the engine; `_core.Event` documents the kinds and fields."""

    @property
    def kind(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def connection(self) -> int: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def phase(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def code(self) -> int | None: ...
    @property
    def detail(self) -> str | None: ...
    @property
    def expire_s(self) -> int | None: ...
    @property
    def probe(self) -> str | None: ...
    @property
    def healthy(self) -> bool | None: ...
    @property
    def handshake(self) -> str | None: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def jid(self) -> str | None: ...
    @property
    def push_name(self) -> str | None: ...
    @property
    def qr(self) -> str | None: ...
    @property
    def qr_left(self) -> int | None: ...
    @property
    def pairing_code(self) -> str | None: ...
    @property
    def ttl_s(self) -> float | None: ...
    @property
    def token(self) -> int | None: ...
    @property
    def server_unix_s(self) -> int | None: ...


class EngineStats(Protocol):
    """The part of `_core.EngineStats` that health judges."""

    @property
    def loop_lag_s(self) -> float: ...
    @property
    def heartbeat_age_s(self) -> float: ...
    @property
    def outbox_dropped_total(self) -> int: ...
    @property
    def panics_total(self) -> int: ...
    @property
    def store_stalled(self) -> bool: ...


class Engine(Protocol):
    """What the supervisor needs of `_core.Engine`, and the table of its counters."""

    def fileno(self) -> int: ...
    def drain(self, max_events: int) -> Sequence[EngineEvent]: ...
    def open(
        self,
        session_id: str,
        connection: int,
        *,
        version: tuple[int, int, int],
        proxy: str | None = None,
        resume: bool = False,
        pair: bool = False,
    ) -> None: ...
    def link_by_code(self, session_id: str, connection: int, phone: int) -> None: ...
    def close(self, session_id: str, connection: int, reason: str) -> None: ...
    def logout(self, session_id: str, connection: int) -> None: ...
    def forget(self, session_id: str) -> None: ...
    @property
    def counters(self) -> CounterTable: ...
    def stats(self) -> EngineStats: ...
    def shutdown(self) -> None: ...


class StoredSession(Protocol):
    """One session as the store knows it."""

    @property
    def session_id(self) -> str: ...
    @property
    def jid(self) -> str | None: ...
    @property
    def policy(self) -> str | None: ...
    @property
    def archived(self) -> bool: ...
    @property
    def quarantined(self) -> str | None: ...


class StoreHealth(Protocol):
    """The part of `_core.StoreHealth` that health judges."""

    @property
    def oldest_age_s(self) -> float: ...
    @property
    def lock_wait_s(self) -> float: ...
    @property
    def disk_full(self) -> bool: ...


class Store(Protocol):
    """What the supervisor needs of `_core.Store`."""

    def sessions(self) -> Sequence[StoredSession]: ...
    def put_policy(self, session_id: str, policy: str) -> None: ...
    def put_meta(self, key: str, value: str) -> None: ...
    def meta(self) -> dict[str, str]: ...
    def create(self, session_id: str) -> None: ...
    def set_aside(self, session_id: str) -> None: ...
    def archive(self, session_id: str, reason: str) -> None: ...
    def unarchive(self, session_id: str) -> None: ...
    def delete(self, session_id: str) -> None: ...
    def health(self) -> StoreHealth: ...
    def flush(self, timeout_s: float) -> bool: ...
    def export(self, session_id: str) -> _core.ExportedDevice: ...


def view_of(content: bytes) -> _core.MessageView | None:
    """What is in the content of a message; None when it cannot be read: the sender's fault."""
    from runner import _core

    try:
        return _core.MessageView(content)
    except ValueError:
        return None


def open_store(path: Path, keep_done_s: float, keep_undelivered_s: float = 30 * 86_400.0) -> _core.Store:
    """Open or create the store; confirmed messages are kept for `keep_done_s`, and what was given up for
    `keep_undelivered_s`. Blocking.

    Raises:
        LeaseHeldError: another process has it.
        StartError: everything else, in the store's words; nothing was changed.
    """
    from runner import _core

    try:
        return _core.Store(str(path), keep_done_s=keep_done_s, keep_undelivered_s=keep_undelivered_s)
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug == "locked":
            raise LeaseHeldError(str(path)) from error
        raise StartError(f"the store cannot be opened: {message}") from error


def import_devices(
    store: _core.Store, devices: Sequence[tuple[str, BaileysDevice]]
) -> list[ImportRefusedError | None]:
    """Take over many devices in one transaction; for each None, or why it alone was refused. Blocking.

    Raises:
        ImportRefusedError: the transaction failed (the disk is full); none was taken.
    """
    from runner import _core

    outcomes: list[ImportRefusedError | None] = [None] * len(devices)
    whole, places = [], []
    for place, (session_id, device) in enumerate(devices):
        try:
            whole.append((session_id, _core.DeviceRecord(**device.fields), device.keys))
            places.append(place)
        except ValueError as error:
            outcomes[place] = ImportRefusedError("credentials_damaged", f"{device.directory}: {error}")
    try:
        refusals = store.import_devices(whole)
    except _core.StoreError as error:
        raise _refused(error.args[0], str(error.args[-1])) from error
    for place, refusal in zip(places, refusals, strict=True):
        outcomes[place] = None if refusal is None else _refused(*refusal)
    return outcomes


def delete_device(store: Store, session_id: str) -> None:
    """Move a session's credentials to the archive. Blocking.

    Raises:
        StoreFailedError: the store could not; nothing was changed.
    """
    from runner import _core

    try:
        store.delete(session_id)
    except _core.StoreError as error:
        raise StoreFailedError(f"session {session_id!r} stays: {error.args[-1]}") from error


def create_session(store: Store, session_id: str) -> None:
    """A new session without a device, for a phone to link. Blocking.

    Raises:
        ImportRefusedError: the id is taken.
        StoreFailedError: the store could not; nothing was changed.
    """
    from runner import _core

    try:
        store.create(session_id)
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug == "exists":
            raise _refused(slug, message) from error
        raise StoreFailedError(f"session {session_id!r} was not made: {message}") from error


def set_device_aside(store: Store, session_id: str, why: str) -> None:
    """Move the unlinked device of a session to the archive, so that a phone can link another. Blocking.

    Raises:
        StoreFailedError: the store could not; nothing was changed.
    """
    from runner import _core

    try:
        store.archive(session_id, why)  # it may not have been written yet
        store.set_aside(session_id)
    except _core.StoreError as error:
        raise StoreFailedError(f"the old device of {session_id!r} stays: {error.args[-1]}") from error


def export_flushed(store: Store, session_id: str) -> ExportedDevice:
    """The same behind all that was queued before. Raises as `export_device`."""
    flush_for_export(store, session_id)
    return export_device(store, session_id)


def flush_for_export(store: Store, session_id: str) -> None:
    """Wait until all that was queued is on the disk. Blocking. Raises StoreFailedError."""
    if not store.flush(FLUSH_S):
        raise StoreFailedError(f"session {session_id!r} was not exported: the store does not commit")


def export_device(store: Store, session_id: str) -> ExportedDevice:
    """All that a session's device is, in the form of Baileys. Blocking.

    Raises:
        RefusedError: no phone has linked it, or its credentials cannot be read.
        StoreFailedError: the store could not.
    """
    from runner import _core

    try:
        return store.export(session_id)
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug in {"not_linked", "quarantined"}:
            raise RefusedError(slug, message) from error
        raise StoreFailedError(f"session {session_id!r} was not exported: {message}") from error


def back_up(store: _core.Store, file: Path) -> BackupMade:
    """Copy the store as it is now into a new file. Blocking, for as long as that takes.

    Raises:
        RefusedError: the file exists, or its directory is none that we may write.
        StoreFailedError: the disk or the store could not; there is no file.
    """
    from runner import _core
    from runner.version import build

    if not os.access(file.parent, os.W_OK | os.X_OK) or not file.parent.is_dir():
        raise RefusedError(
            "no_directory",
            f"{file.parent} is no directory that the runner may write",
            "make it, or name another: the file is written by the runner's user, on its machine",
        )
    try:
        return store.backup(file, str(build()["version"]))
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug == "exists":
            raise RefusedError(slug, message) from error
        raise StoreFailedError(f"no backup was made: {message}") from error


def told_of_backup(file: Path, made: BackupMade) -> dict[str, Any]:
    """A backup as the API and the command line tell it."""
    return {
        "file": str(file),
        "bytes": made.bytes,
        "sessions": made.sessions,
        "at": made.at_unix_ms,
        "seconds": made.took_s,
    }


def restore_store(path: Path, file: Path, *, replace: bool) -> StoreRestored:
    """Make the store at `path` of a backup. Blocking.

    Raises:
        LeaseHeldError: a runner uses the store.
        RefusedError: the store has sessions, and `replace` is not set.
        StartError: the file is no whole backup, or is of a newer version, or the disk could not.
    """
    from runner import _core

    try:
        return _core.restore_store(path, file, replace=replace)
    except _core.StoreError as error:
        slug, message = error.args[0], str(error.args[-1])
        if slug == "locked":
            raise LeaseHeldError(str(path), message) from error
        if slug == "exists":
            raise RefusedError(slug, message) from error
        raise StartError(message, "nothing was changed") from error


@contextmanager
def told_as_store_failures(doing: str) -> Iterator[None]:
    """Raises StoreFailedError for a store that could not do what was asked."""
    from runner import _core

    try:
        yield
    except _core.StoreError as error:
        raise StoreFailedError(f"{doing}: {error.args[-1]}") from error


def _refused(slug: str, message: str) -> ImportRefusedError:
    remedy = "choose another id, or delete that session first" if slug == "exists" else ""
    return ImportRefusedError(slug, message, remedy)


def build_info() -> dict[str, str]:
    """What of the extension was compiled, when and how."""
    from runner import _core

    return dict(_core.BUILD_INFO)


def response_buckets_s() -> tuple[float, ...]:
    """Upper bounds of the response time buckets in the counters, in seconds."""
    from runner import _core

    return _core.RESPONSE_BUCKETS_S


def open_engine(store: _core.Store, **config: Any) -> _core.Engine:  # noqa: ANN401  the stub of EngineConfig types them
    """Start the I/O thread; `config` are the keywords of `_core.EngineConfig`."""
    from runner import _core

    return _core.Engine(store, _core.EngineConfig(**config))


def outgoing_text(
    token: int, chat: str, message_id: str, text: str, quoted: tuple[str, str, bytes] | None
) -> _core.OutgoingText:
    """A text for `Engine.send_text`. Errors: ValueError for what is no JID."""
    from runner import _core

    return _core.OutgoingText(token=token, chat=chat, message_id=message_id, text=text, quoted=quoted)


def engine_full_error() -> type[Exception]:
    """What `Engine.open` and `send` raise when they had no room and did nothing."""
    from runner import _core

    return _core.EngineFullError


def pending(engine: Engine, clock: Callable[[], float], until: float = inf) -> Iterator[EngineEvent]:
    """What the engine has to say right now, in order; no more of it once it is `until`. Never waits."""
    while True:
        events = engine.drain(EVENTS_A_LOOK)
        yield from events
        if len(events) < EVENTS_A_LOOK or clock() >= until:
            return


async def pump(
    engine: Engine,
    route: Callable[[EngineEvent], None],
    after_batch: Callable[[], None],
    is_expected_to_stop: Callable[[], bool],
) -> None:
    """Carry events from the I/O thread into Trio, in order, until the engine has stopped or we are cancelled.

    Raises:
        EngineFailedError: the engine stopped and nobody had asked it to.
    """
    while True:
        await trio.lowlevel.wait_readable(engine.fileno())
        for event in pending(engine, trio.current_time, trio.current_time() + STEP_S):
            route(event)
            if event.kind == "stopped":
                after_batch()
                if not is_expected_to_stop():
                    raise EngineFailedError("the engine stopped by itself")
                return
        after_batch()
