"""The limits of the cgroups that a process is in, old interface and new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_V1_NO_LIMIT: Final = 1 << 60
"""cgroup v1 writes a number near 2^63 for "no limit"."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The tightest limit at or above the process's own group; None is no limit."""

    memory_bytes: int | None = None
    memory_high_bytes: int | None = None
    pids: int | None = None
    cpus: float | None = None


def read(root: Path, pid: int | str) -> Cgroup:
    """The limits of process `pid`, as far as they are visible from here. Blocking, a dozen small files."""
    own = _own_groups(root, pid)
    return Cgroup(
        memory_bytes=_least(
            (_numbers(root, own, "", "memory.max"), _numbers(root, own, "memory", "memory.limit_in_bytes"))
        ),
        memory_high_bytes=_least((_numbers(root, own, "", "memory.high"),)),
        pids=_least((_numbers(root, own, "", "pids.max"), _numbers(root, own, "pids", "pids.max"))),
        cpus=min((*_quotas(root, own), *_old_quotas(root, own)), default=None),
    )


def _own_groups(root: Path, pid: int | str) -> dict[str, str]:
    """Controller to path; the unified hierarchy is the controller without a name."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.strip("/")
    return found


def _upwards(root: Path, own: dict[str, str], controller: str) -> Iterator[Path]:
    """The group and all above it, up to the mount: in a container the upper ones may be out of sight."""
    if controller not in own:
        return
    top = root / "sys/fs/cgroup" / controller
    path = top / own[controller]
    while True:
        yield path
        if path == top or top not in path.parents:
            return
        path = path.parent


def _words(root: Path, own: dict[str, str], controller: str, file: str) -> Iterator[list[str]]:
    for path in _upwards(root, own, controller):
        try:
            yield (path / file).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue


def _numbers(root: Path, own: dict[str, str], controller: str, file: str) -> Iterator[int]:
    for words in _words(root, own, controller, file):
        if words and words[0].isdigit() and int(words[0]) < _V1_NO_LIMIT:
            yield int(words[0])


def _quotas(root: Path, own: dict[str, str]) -> Iterator[float]:
    for words in _words(root, own, "", "cpu.max"):
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            yield int(words[0]) / int(words[1])


def _old_quotas(root: Path, own: dict[str, str]) -> Iterator[float]:
    for path in _upwards(root, own, "cpu"):
        try:
            quota = int((path / "cpu.cfs_quota_us").read_text(encoding="ascii"))
            period = int((path / "cpu.cfs_period_us").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            yield quota / period


def _least(sources: tuple[Iterator[int], ...]) -> int | None:
    return min((number for source in sources for number in source), default=None)
