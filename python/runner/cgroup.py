"""Where a process stands in the cgroups of Linux, old interface and new, and what limits stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_V1_NO_LIMIT: Final = 1 << 60
"""cgroup v1 writes a number near 2^63 for "no limit"."""


def groups(root: Path, pid: int | str, controller: str) -> Iterator[Path]:
    """The group of `pid` and those above it, as far as they can be seen from here: in a container only the
    top can. The controller "" is cgroup v2."""
    top = root / "sys/fs/cgroup" / controller
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    path = top
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controller in controllers.split(","):
            path = top / own.strip("/")
    while path != top and top in path.parents:
        yield path
        path = path.parent
    yield top


def number(path: Path) -> int | None:
    """The number that the file begins with; None for anything else, and without the file."""
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def limit(path: Path) -> int | None:
    """The same where the number is a limit; None when it means that there is none."""
    found = number(path)
    return None if found is None or found >= _V1_NO_LIMIT else found


def v2_cpus(folder: Path) -> float | None:
    """How many CPUs the group may use, by cgroup v2; None without a limit."""
    match _words(folder / "cpu.max"):
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
        case _:
            return None


def v1_cpus(folder: Path) -> float | None:
    """The same by cgroup v1. Without a limit its quota is -1, which is no number here."""
    quota, period = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
