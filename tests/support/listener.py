"""Real Baileys that reads and writes through the simulator: tests/interop/baileys/sim_listener.mjs."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

from support.processes import BAILEYS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from runner.sim import SimulatorControl

PATIENCE_S = 60.0


class Listener:
    """Baileys as device `index` of the fleet, or as the device whose files are in `directory`; logged in."""

    def __init__(self, simulator: SimulatorControl, index: int = 0, *, directory: Path | None = None) -> None:
        who = ["--index", str(index)] if directory is None else ["--directory", str(directory)]
        command = ["node", "sim_listener.mjs", json.dumps(simulator.info()), *who]
        self._process = subprocess.Popen(
            command, cwd=BAILEYS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.jid: str = self.told()["jid"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def told(self) -> dict[str, Any]:
        """The next thing that it says."""
        return dict(json.loads(self._lines.get(timeout=PATIENCE_S)))

    def do(self, line: str) -> dict[str, Any]:
        """What it says when it is told to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.told()

    def leave(self) -> None:
        """It ends in order, its files written."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0
