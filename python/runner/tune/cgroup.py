"""The limits of the cgroups that a process is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.cgroup import groups, limit, v1_cpus, v2_cpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The tightest limit at or above the process's own group; None is no limit."""

    memory_bytes: int | None = None
    memory_high_bytes: int | None = None
    pids: int | None = None
    cpus: float | None = None


def read(root: Path, pid: int | str) -> Cgroup:
    """The limits of process `pid`, as far as they are visible from here. Blocking, a dozen small files."""

    def least(*sources: tuple[str, Callable[[Path], float | None]]) -> float | None:
        found = (of(folder) for controller, of in sources for folder in groups(root, pid, controller))
        return min((value for value in found if value is not None), default=None)

    def whole(*files: tuple[str, str]) -> int | None:
        sources = [(controller, lambda folder, file=file: limit(folder / file)) for controller, file in files]
        value = least(*sources)
        return None if value is None else int(value)

    return Cgroup(
        memory_bytes=whole(("", "memory.max"), ("memory", "memory.limit_in_bytes")),
        memory_high_bytes=whole(("", "memory.high")),
        pids=whole(("", "pids.max"), ("pids", "pids.max")),
        cpus=least(("", v2_cpus), ("cpu", v1_cpus)),
    )
