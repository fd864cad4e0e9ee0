"""What this process may use of the machine, and what it uses: its cgroup's limit, or else the host's.

A container that may use 2 GiB of a 256 GiB host is full at 2 GiB; the host's numbers would never say so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from runner import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """Reads the numbers; a few small files of /proc and /sys at each call, well under a millisecond.

    Of the cgroups that this process is in, the one with the tightest limit counts: a service without a limit
    may stand in a slice that has one. cgroup v2 is tried first, then v1, then the host.

    Reading needs a file descriptor. While none is free, what could be read last stands: the numbers are a
    moment old, and the process goes on.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._process = psutil.Process()
        self._memory_v2 = self._tightest("", lambda folder: cgroup.limit(folder / "memory.max"))
        self._memory_v1 = self._tightest(
            "memory", lambda folder: cgroup.limit(folder / "memory.limit_in_bytes")
        )
        self._cpu_v2 = self._tightest("", cgroup.v2_cpus)
        self._cpu_v1 = self._tightest("cpu", cgroup.v1_cpus)
        self._last_cpu: tuple[float, float] | None = None
        self._memory = self._read_memory()
        self._cpu_ratio = 0.0, "host" if self._cpu_quota()[0] is None else "cgroup"
        self._use = self._read_process()

    def memory(self) -> Memory:
        """Total and used, of the cgroup or the host."""
        with contextlib.suppress(OSError):
            self._memory = self._read_memory()
        return self._memory

    def _read_memory(self) -> Memory:
        host = psutil.virtual_memory()
        for folder, limit, current, cache in (
            (self._memory_v2, "memory.max", "memory.current", "inactive_file"),
            (self._memory_v1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if folder is None:
                continue
            total, used = cgroup.limit(folder / limit), cgroup.number(folder / current)
            if total is not None and used is not None and total < host.total:
                return Memory(total, max(used - _field(folder / "memory.stat", cache), 0), "cgroup")
        return Memory(host.total, host.total - host.available, "host")

    def cpu_ratio(self, now: float | None = None) -> tuple[float, str]:
        """Share of the CPU in use since the last call, and its scope: the cgroup's quota, or the host."""
        with contextlib.suppress(OSError):
            self._cpu_ratio = self._read_cpu_ratio(time.monotonic() if now is None else now)
        return self._cpu_ratio

    def _read_cpu_ratio(self, at: float) -> tuple[float, str]:
        quota, used_s = self._cpu_quota()
        if quota is None:
            return psutil.cpu_percent(None) / 100.0, "host"
        before, self._last_cpu = self._last_cpu, (at, used_s)
        if before is None or at <= before[0]:
            return 0.0, "cgroup"
        return max(used_s - before[1], 0.0) / ((at - before[0]) * quota), "cgroup"

    def process(self) -> ProcessUse:
        """This process."""
        try:
            self._use = self._read_process()
        except OSError:
            self._use = replace(self._use, open_fds=self.open_fds())
        return self._use

    def _read_process(self) -> ProcessUse:
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            rss = int(self._process.memory_info().rss)
        anon = _field(self._root / "proc/self/status", "RssAnon:") * 1024
        return ProcessUse(rss, anon, _open_fds(self._root), threading.active_count(), cpu.user + cpu.system)

    def open_fds(self) -> int:
        """File descriptors of this process."""
        return _open_fds(self._root)

    def _tightest(self, controller: str, limit: Callable[[Path], float | None]) -> Path | None:
        """Of the cgroups at or above ours, the one with the lowest limit. "" is cgroup v2."""
        found: tuple[float, Path] | None = None
        for folder in cgroup.groups(self._root, "self", controller):
            value = limit(folder)
            if value is not None and (found is None or value < found[0]):
                found = value, folder
        return None if found is None else found[1]

    def _cpu_quota(self) -> tuple[float | None, float]:
        """CPUs that the cgroup may use, None without a limit, and the CPU seconds that it has used."""
        if self._cpu_v2 is not None and (cpus := cgroup.v2_cpus(self._cpu_v2)) is not None:
            return cpus, _field(self._cpu_v2 / "cpu.stat", "usage_usec") / 1e6
        if self._cpu_v1 is not None and (cpus := cgroup.v1_cpus(self._cpu_v1)) is not None:
            # Usually one hierarchy under two names; where they are two, the groups have the same path.
            inside = self._cpu_v1.relative_to(self._root / "sys/fs/cgroup/cpu")
            for folder in (self._cpu_v1, self._root / "sys/fs/cgroup/cpuacct" / inside):
                if (used_ns := cgroup.number(folder / "cpuacct.usage")) is not None:
                    return cpus, used_ns / 1e9
        return None, 0.0


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
    except OSError as error:
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return soft if error.errno in (errno.EMFILE, errno.ENFILE) else 0
