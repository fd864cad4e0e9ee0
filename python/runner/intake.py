"""Takes Baileys devices into a store: the same steps for the API and for an import without a runner."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from runner.baileys import STOP_OLD_PROGRAM, device_of, read_device
from runner.engine import import_devices
from runner.errors import ImportRefusedError, RunnerError
from runner.reconnect.history import Durable, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runner import _core
    from runner.baileys import BaileysDevice

    Outcome = tuple[str, ...] | RunnerError
    """The warnings of a device that was taken, or why it was not."""

K = TypeVar("K")

SESSION_ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""A regular expression, for Python and for ECMAScript."""
BATCH_DEVICES: Final = 200
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of one transaction: it holds up what else is committed, and lies in memory."""
_FILE_NAME: Final = re.compile(r"(?!\.{1,2}$)[^/\0]{1,255}", re.DOTALL)


def checked_id(session_id: str) -> str:
    """`session_id`, when it can stand in a URL, a label and a log line as it is.

    Errors: ImportRefusedError.
    """
    if not re.fullmatch(SESSION_ID, session_id):
        raise ImportRefusedError(
            "id_wrong",
            f"{session_id!r} cannot be a session id: 1 to 64 letters, digits, dots, dashes and underscores",
            "choose another; `import` takes it as --id",
        )
    return session_id


class Intake:
    """Takes devices into one store. Blocking; one at a time."""

    def __init__(self, store: _core.Store, proxy: str | None = None, *, start: bool = True) -> None:
        """`proxy` is that of every session taken over; None: that of the settings. Without `start` the next
        run leaves them stopped."""
        self._store = store
        self._start = start
        self._proxy = proxy
        self._owners = {known.jid: known.session_id for known in store.sessions() if not known.archived}

    def take_over_all(self, wanted: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path, Outcome]]:
        """Take over directories: id, directory and outcome of each.

        They come in no order: what cannot be read is told before its batch is in the store.
        """
        sources = (((name, directory), name, partial(read_device, directory)) for name, directory in wanted)
        for (session_id, directory), outcome in self._take_over(sources):
            yield session_id, directory, outcome

    def take_over_each(self, wanted: Sequence[tuple[str, Callable[[], BaileysDevice]]]) -> list[Outcome]:
        """Take over what a call for each reads, such as `uploaded`; the outcomes in their order."""
        told = dict(
            self._take_over((place, session_id, read) for place, (session_id, read) in enumerate(wanted))
        )
        return [told[place] for place in range(len(wanted))]

    def _take_over(
        self, wanted: Iterable[tuple[K, str, Callable[[], BaileysDevice]]]
    ) -> Iterator[tuple[K, Outcome]]:
        """Take over many, a transaction for each batch. One that is damaged or refused costs only itself."""
        batch: list[tuple[K, str, BaileysDevice]] = []
        jids: set[str] = set()
        size = 0
        for key, session_id, read in wanted:
            try:
                checked_id(session_id)
                device = read()
                self._check_owner(session_id, device)
                if device.fields["jid"] in jids:  # whether its twin is taken must be known first
                    yield from self._import(batch)
                    batch, jids, size = [], set(), 0
                    self._check_owner(session_id, device)
            except RunnerError as error:
                yield key, error
                continue
            batch.append((key, session_id, device))
            jids.add(device.fields["jid"])
            size += device.size
            if len(batch) >= BATCH_DEVICES or size >= BATCH_BYTES:
                yield from self._import(batch)
                batch, jids, size = [], set(), 0
        yield from self._import(batch)

    def _import(self, batch: list[tuple[K, str, BaileysDevice]]) -> Iterator[tuple[K, Outcome]]:
        if not batch:
            return
        outcomes: list[ImportRefusedError | None]
        try:
            outcomes = import_devices(self._store, [(session_id, device) for _, session_id, device in batch])
        except ImportRefusedError as error:
            outcomes = [error] * len(batch)
        told: list[tuple[K, Outcome]] = []
        for (key, session_id, device), refusal in zip(batch, outcomes, strict=True):
            if refusal is None:
                self._owners[device.fields["jid"]] = session_id
                if self._proxy is not None or not self._start:
                    wish = Durable(desired=self._start, proxy=self._proxy)
                    self._store.put_policy(session_id, to_json(wish, 0.0, 0))
            told.append((key, refusal or (*device.warnings, STOP_OLD_PROGRAM)))
        yield from told

    def _check_owner(self, session_id: str, device: BaileysDevice) -> None:
        owner = self._owners.get(device.fields["jid"], session_id)
        if owner != session_id:
            raise ImportRefusedError(
                "same_device",
                f"this device is here already, as session {owner!r}",
                "delete that session first",
            )


def uploaded(session_id: str, files: Mapping[str, bytes]) -> BaileysDevice:
    """The device in files that came with a request. Pure; errors name a file as `support-1/creds.json`.

    Errors: ImportSourceError, ImportRefusedError.
    """
    for name in files:
        if not _FILE_NAME.fullmatch(name):
            raise ImportRefusedError(
                "file_name_wrong", f"{session_id}: {name!r} cannot be the name of a file"
            )
    records = {name: content for name, content in sorted(files.items()) if name.endswith(".json")}
    return device_of(Path(session_id), records)
