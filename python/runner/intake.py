"""Takes a Baileys directory into the store: the same steps for the API and for an import without a runner."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.baileys import STOP_OLD_PROGRAM, read_device
from runner.engine import import_device
from runner.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner import _core

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
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

    def __init__(self, store: _core.Store) -> None:
        self._store = store
        self._owners = {known.jid: known.session_id for known in store.sessions() if not known.archived}

    def take_over(self, session_id: str, directory: Path) -> tuple[str, ...]:
        """Read a directory, check it in full and import it in one transaction; the warnings.

        Errors: ImportSourceError (what is damaged), ImportRefusedError (the id or the device is there).
        Nothing is changed then.
        """
        checked_id(session_id)
        device = read_device(directory)
        owner = self._owners.get(device.fields["jid"], session_id)
        if owner != session_id:
            raise ImportRefusedError(
                "same_device",
                f"this device is here already, as session {owner!r}",
                "delete that session first",
            )
        import_device(self._store, session_id, device)
        self._owners[device.fields["jid"]] = session_id
        return (*device.warnings, STOP_OLD_PROGRAM)
