"""What uses up a machine, for real and bounded: memory, processors.

Where a cgroup can be made, runner and hogs share one with small limits, and what else the machine does counts
for neither. Where not, it is the whole machine that must be filled a little further.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 1024 * 1024
LONGEST_S: Final = 90
"""After which a hog ends by itself, whatever became of its test."""
_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMORY: Final = f"""
import os, sys, threading
threading.Timer({LONGEST_S}, os._exit, [1]).start()
held = b"x" * int(sys.argv[1])
print("holds it", flush=True)
sys.stdin.read()
os._exit(0)
"""
_CPU: Final = f"""
import os, time
os.nice(19)
end = time.monotonic() + {LONGEST_S}
print("burns", flush=True)
while time.monotonic() < end:
    pass
"""


class Cgroup:
    """A group of its own for a runner and its hogs, by either interface."""

    memory_bytes = 512 * MIB
    hog_bytes = 320 * MIB

    def __init__(self, name: str) -> None:
        self._is_v2 = (_CGROUPS / "cgroup.controllers").exists()
        controllers = ("",) if self._is_v2 else ("memory", "cpu", "cpuacct")
        self._folders = [_CGROUPS / controller / name for controller in controllers]
        try:
            for folder in self._folders:
                folder.mkdir(exist_ok=True)
            self._write("memory.max" if self._is_v2 else "memory.limit_in_bytes", self.memory_bytes)
            self.limit_cpus(2.0)
        except (OSError, LookupError):  # not root, or the file systems of a container
            self.is_possible = False
            self.remove()
        else:
            self.is_possible = True

    def limit_cpus(self, cpus: float) -> None:
        """A little for the hogs is all, then; the runner starts with more. The period is short: who has used
        up his share waits for milliseconds."""
        # And it comes before everybody else: on a busy machine it would not be used up.
        if self._is_v2:
            self._write("cpu.weight", 10_000)
            self._write("cpu.max", f"{round(cpus * 20_000)} 20000")
        else:
            self._write("cpu.shares", 100 * 1024)
            self._write("cpu.cfs_period_us", 20_000)
            self._write("cpu.cfs_quota_us", round(cpus * 20_000))

    def _write(self, name: str, value: object) -> None:
        found = [folder / name for folder in self._folders if (folder / name).exists()]
        if not found:
            raise LookupError(name)
        found[0].write_text(f"{value}\n")

    @property
    def entering(self) -> str:
        """Python that moves its process into the group."""
        files = [str(folder / "cgroup.procs") for folder in self._folders]
        return f"import os\nfor it in {files!r}: open(it, 'w').write(str(os.getpid()))\n"

    def settings(self) -> dict[str, str]:
        """A threshold that the hog crosses and the runner alone does not."""
        return {"WHATSAPP_MEMORY_THRESHOLD": "0.5"}

    def remove(self) -> None:
        """When its processes have ended."""
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()


class Host:
    """The machine as it is. Its memory is filled by a few hundred MiB, its processors for seconds."""

    entering = ""

    def __init__(self) -> None:
        memory = psutil.virtual_memory()
        used = memory.total - memory.available
        # The alert is over at 95 % of its threshold, which must lie above what is in use without the hog.
        self._threshold_bytes = round((used + 256 * MIB) / 0.95)
        self.hog_bytes = self._threshold_bytes - used + 128 * MIB
        self._total = memory.total
        self.is_possible = self.hog_bytes < 1024 * MIB and psutil.cpu_percent(0.5) < 50.0

    def limit_cpus(self, _cpus: float) -> None:
        return

    def settings(self) -> dict[str, str]:
        return {"WHATSAPP_MEMORY_THRESHOLD": f"{self._threshold_bytes / self._total:.5f}"}

    def remove(self) -> None:
        return


Place = Cgroup | Host


def a_place(name: str) -> Place | None:
    """Where hogs may be let loose; None: this machine is too busy or too full already."""
    group = Cgroup(name)
    if group.is_possible:
        return group
    host = Host()
    return host if host.is_possible else None


class Hog:
    """Processes that use something up from `begin` to `end`."""

    def __init__(self, place: Place, code: str, *args: str, number: int = 1) -> None:
        self._command = [sys.executable, "-c", place.entering + code, *args]
        self._number = number
        self._children: list[subprocess.Popen[str]] = []

    def begin(self) -> None:
        """Returns when they are at it."""
        for _ in range(self._number):
            child = subprocess.Popen(self._command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._children.append(child)
        for child in self._children:
            assert child.stdout is not None
            assert child.stdout.readline(), "the hog ended before it had begun"

    def end(self) -> None:
        """Returns when all is given back."""
        for child in self._children:
            child.kill()
            child.communicate()
        self._children.clear()


def memory_hog(place: Place) -> Hog:
    """Takes enough for the threshold."""
    return Hog(place, _MEMORY, str(place.hog_bytes))


def cpu_hog(place: Place) -> Hog:
    """Burns all that the place has, behind everybody who wants it too."""
    return Hog(place, _CPU, number=1 if isinstance(place, Cgroup) else os.cpu_count() or 1)
