"""Takes a Baileys directory into the store: the same steps for the API and for an import without a runner."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.baileys import STOP_OLD_PROGRAM, read_device
from runner.engine import import_device, import_devices
from runner.errors import ImportRefusedError, RunnerError
from runner.reconnect.history import Durable, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runner import _core
    from runner.baileys import BaileysDevice

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BATCH_DEVICES: Final = 200
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of one transaction: it holds up what else is committed, and lies in memory."""
_FILE_NAME: Final = re.compile(r"[^/\0]{1,255}")


def checked_id(session_id: str) -> str:
    """`session_id`, when it can stand in a URL, a label and a log line as it is.

    Errors: ImportRefusedError.
    """
    if not _SESSION_ID.fullmatch(session_id):
        raise ImportRefusedError(
            "id_wrong",
            f"{session_id!r} cannot be a session id: 1 to 64 letters, digits, dots, dashes and underscores",
            "give another with --id",
        )
    return session_id


@contextmanager
def unpacked(files: Mapping[str, bytes], data_dir: Path) -> Iterator[Path]:
    """The uploaded files as a directory that only we can read; gone afterwards. Blocking.

    Errors: ImportRefusedError for a file name that would leave the directory.
    """
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=data_dir) as folder:
        for name, content in files.items():
            if not _FILE_NAME.fullmatch(name) or name in {".", ".."}:
                raise ImportRefusedError("file_name_wrong", f"{name!r} cannot be the name of a file")
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


class Intake:
    """Takes devices into one store. Blocking; one at a time."""

    def __init__(self, store: _core.Store, proxy: str | None = None) -> None:
        """`proxy` is that of every session taken over in batches; None: that of the settings."""
        self._store = store
        self._proxy = proxy
        self._owners = {known.jid: known.session_id for known in store.sessions() if not known.archived}

    def take_over(self, session_id: str, directory: Path) -> tuple[str, ...]:
        """Read a directory, check it in full and import it in one transaction; the warnings.

        Errors: ImportSourceError (what is damaged), ImportRefusedError (the id or the device is there).
        Nothing is changed then.
        """
        device = self._checked(session_id, directory)
        import_device(self._store, session_id, device)
        self._owners[device.fields["jid"]] = session_id
        return (*device.warnings, STOP_OLD_PROGRAM)

    def take_over_all(
        self, wanted: Iterable[tuple[str, Path]]
    ) -> Iterator[tuple[str, Path, tuple[str, ...] | RunnerError]]:
        """Take over many, a transaction for each batch: id, directory, and the warnings or the refusal.

        One that is damaged or refused costs only itself. They come in no order: what cannot be read is told
        before its batch is in the store.
        """
        batch: list[tuple[str, BaileysDevice]] = []
        jids: set[str] = set()
        size = 0
        for session_id, directory in wanted:
            try:
                device = self._checked(session_id, directory)
                if device.fields["jid"] in jids:  # whether its twin is taken must be known first
                    yield from self._import(batch)
                    batch, jids, size = [], set(), 0
                    self._check_owner(session_id, device)
            except RunnerError as error:
                yield session_id, directory, error
                continue
            batch.append((session_id, device))
            jids.add(device.fields["jid"])
            size += device.size
            if len(batch) >= BATCH_DEVICES or size >= BATCH_BYTES:
                yield from self._import(batch)
                batch, jids, size = [], set(), 0
        yield from self._import(batch)

    def _import(
        self, batch: list[tuple[str, BaileysDevice]]
    ) -> Iterator[tuple[str, Path, tuple[str, ...] | RunnerError]]:
        if not batch:
            return
        outcomes: list[ImportRefusedError | None]
        try:
            outcomes = import_devices(self._store, batch)
        except ImportRefusedError as error:
            outcomes = [error] * len(batch)
        told: list[tuple[str, Path, tuple[str, ...] | RunnerError]] = []
        for (session_id, device), refusal in zip(batch, outcomes, strict=True):
            if refusal is None:
                self._owners[device.fields["jid"]] = session_id
                if self._proxy is not None:
                    self._store.put_policy(session_id, to_json(Durable(proxy=self._proxy), 0.0, 0))
            told.append((session_id, device.directory, refusal or (*device.warnings, STOP_OLD_PROGRAM)))
        yield from told

    def _checked(self, session_id: str, directory: Path) -> BaileysDevice:
        checked_id(session_id)
        device = read_device(directory)
        self._check_owner(session_id, device)
        return device

    def _check_owner(self, session_id: str, device: BaileysDevice) -> None:
        owner = self._owners.get(device.fields["jid"], session_id)
        if owner != session_id:
            raise ImportRefusedError(
                "same_device",
                f"this device is here already, as session {owner!r}",
                "delete that session first",
            )
