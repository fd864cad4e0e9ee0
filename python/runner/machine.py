"""What this process may use of the machine, and what it uses: its cgroup's limit, or else the host's.

A container that may use 2 GiB of a 256 GiB host is full at 2 GiB; the host's numbers would never say so.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

_V1_NO_LIMIT: Final = 1 << 60
"""cgroup v1 writes a number near 2^63 for "no limit"."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `used` leaves out what the kernel would give back at once (page cache)."""

    total: int
    used: int
    scope: str  # "cgroup" or "host"


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """This process alone."""

    rss_bytes: int
    rss_anon_bytes: int
    open_fds: int
    threads: int
    cpu_s: float


class Machine:
    """Reads the numbers; a few small files of /proc and /sys at each call, well under a millisecond."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._process = psutil.Process()
        self._memory_at = self._limited("memory.max")
        self._cpu_at = self._limited("cpu.max")
        self._v1_memory = root / "sys/fs/cgroup/memory"
        self._last_cpu: tuple[float, float] | None = None

    def memory(self) -> Memory:
        """Total and used, of the cgroup or the host."""
        host = psutil.virtual_memory()
        if self._memory_at is not None:
            total = _number(self._memory_at / "memory.max")
            current = _number(self._memory_at / "memory.current")
            if total is not None and current is not None and total < host.total:
                cache = _field(self._memory_at / "memory.stat", "inactive_file")
                return Memory(total, max(current - cache, 0), "cgroup")
        total = _number(self._v1_memory / "memory.limit_in_bytes")
        current = _number(self._v1_memory / "memory.usage_in_bytes")
        if total is not None and current is not None and total < min(_V1_NO_LIMIT, host.total):
            cache = _field(self._v1_memory / "memory.stat", "total_inactive_file")
            return Memory(total, max(current - cache, 0), "cgroup")
        return Memory(host.total, host.total - host.available, "host")

    def cpu_ratio(self, now: float | None = None) -> tuple[float, str]:
        """Share of the CPU in use since the last call, and its scope: the cgroup's quota, or the host."""
        quota = self._cpu_quota()
        if quota is None or self._cpu_at is None:
            return psutil.cpu_percent(None) / 100.0, "host"
        at = time.monotonic() if now is None else now
        used = _field(self._cpu_at / "cpu.stat", "usage_usec") / 1e6
        before, self._last_cpu = self._last_cpu, (at, used)
        if before is None or at <= before[0]:
            return 0.0, "cgroup"
        return max(used - before[1], 0.0) / ((at - before[0]) * quota), "cgroup"

    def process(self) -> ProcessUse:
        """This process."""
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            rss = int(self._process.memory_info().rss)
        anon = _field(self._root / "proc/self/status", "RssAnon:") * 1024
        return ProcessUse(rss, anon, _open_fds(self._root), threading.active_count(), cpu.user + cpu.system)

    def open_fds(self) -> int:
        """File descriptors of this process."""
        return _open_fds(self._root)

    def _limited(self, file: str) -> Path | None:
        """The innermost cgroup (v2) at or above ours that sets a limit in `file`."""
        top = self._root / "sys/fs/cgroup"
        try:
            lines = (self._root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
        if own is None:
            return None
        path = top / own.lstrip("/")
        while True:
            if _first_word(path / file) not in {None, "max"}:
                return path
            if path == top or top not in path.parents:
                return None
            path = path.parent

    def _cpu_quota(self) -> float | None:
        """CPUs that the cgroup may use, or None without a limit."""
        if self._cpu_at is None:
            return None
        try:
            quota, period = (self._cpu_at / "cpu.max").read_text(encoding="ascii").split()
            return None if quota == "max" else int(quota) / int(period)
        except (OSError, ValueError):
            return None


def _first_word(path: Path) -> str | None:
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return None
    return words[0] if words else None


def _number(path: Path) -> int | None:
    word = _first_word(path)
    return int(word) if word is not None and word.isdigit() else None


def _field(path: Path, name: str) -> int:
    """The number after `name` in a file of `name number` lines; 0 when there is none."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == name:
                return int(words[1])
    except (OSError, ValueError):
        pass
    return 0


def _open_fds(root: Path) -> int:
    folder = root / "proc/self/fd"
    try:
        # Linux 6.2 and later count for us; listing 10,000 entries would take milliseconds.
        return folder.stat().st_size or len(os.listdir(folder))
    except OSError:
        return 0
