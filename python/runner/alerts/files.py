"""Log files of their own, `performance.log` and `alerts.log`: rotated by size, each with its own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.errors import StartError
from runner.logs import LineWriter
from runner.rotation import rotate

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

PERFORMANCE: Final = "performance.log"
ALERTS: Final = "alerts.log"


class RotatedWriter(LineWriter):
    """Appends lines; a file of `max_bytes` becomes `.1`, that one `.2`, and what is above `keep` goes.

    A disk that is full stops nobody; its lines come when there is room.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        """Errors: StartError when the file cannot be written."""
        self._max_bytes = max_bytes
        self._keep = keep
        try:
            super().__init__(path=path)
        except StartError as error:
            raise StartError(str(error), "set WHATSAPP_LOG_DIR to a directory you may write") from error

    def _target(self, path: Path) -> FileIO:
        target = super()._target(path)
        if target.tell() < self._max_bytes:
            return target
        rotate(path, self._keep)
        self.reopen()
        return super()._target(path)
