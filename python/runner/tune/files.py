"""Open files: every session is a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.tune.finding import Check, Need, OpenFiles, Status, Sysctl, Verdict, round_up, unknown

if TYPE_CHECKING:
    from runner.tune.facts import Facts

ROOM: Final = 1.25
"""Sessions are added; a limit that just fits is raised again next month."""


def advised_limit(need: Need) -> int:
    """A round number of descriptors with room to grow."""
    return max(round_up(need.descriptors * ROOM, 1024), 4096)


def _open_files(facts: Facts, need: Need) -> Verdict:
    wanted, limit = advised_limit(need), facts.open_files
    effect = f"{need.sessions:,} sessions need {need.descriptors:,}"
    if not facts.limits_seen:
        return unknown(
            f"{effect}; the limit of process {facts.pid} cannot be seen: run it as its user, or as root"
        )
    if limit is None or limit >= wanted:
        return Verdict(Status.FINE, _number(limit), effect)
    fits = limit >= need.descriptors
    elsewhere = (
        f"docker run --ulimit nofile={wanted}:{wanted}; compose: ulimits.nofile; Kubernetes: the node's "
        "containerd or CRI-O service"
        if facts.container
        else ""
    )
    return Verdict(
        Status.ADVISED if fits else Status.TOO_SMALL,
        _number(limit),
        effect if fits else f"{effect}: the rest waits for a free one",
        f"{wanted:,}",
        OpenFiles(wanted),
        elsewhere,
    )


def _file_max(facts: Facts, need: Need) -> Verdict:
    most = facts.number("fs.file-max")
    if most is None:
        return unknown("the kernel's table of open files")
    taken = facts.number("fs.file-nr") or 0
    wanted = taken + advised_limit(need)
    effect = f"{need.descriptors:,} beside what the rest of the machine has open"
    if most >= wanted:
        return Verdict(Status.FINE, _number(most), effect)
    status = Status.ADVISED if most >= taken + need.descriptors else Status.TOO_SMALL
    advised = round_up(2 * wanted, 1024)
    return Verdict(status, _number(most), effect, f"{advised:,}", Sysctl("fs.file-max", str(advised)))


def _nr_open(facts: Facts, need: Need) -> Verdict:
    most = facts.number("fs.nr_open")
    if most is None:
        return unknown("how far a limit of open files can be raised")
    wanted = advised_limit(need)
    effect = f"lets the limit be raised to {wanted:,}"
    if most >= wanted:
        return Verdict(Status.FINE, _number(most), effect)
    status = Status.ADVISED if most >= need.descriptors else Status.TOO_SMALL
    advised = round_up(wanted, 65_536)
    return Verdict(status, _number(most), effect, f"{advised:,}", Sysctl("fs.nr_open", str(advised)))


def _number(count: int | None) -> str:
    return "no limit" if count is None else f"{count:,}"


CHECKS: Final = (
    Check(
        "open-files",
        "RLIMIT_NOFILE (hard)",
        "A session holds one descriptor, measured at every size. The runner raises its own soft limit to the "
        "hard one at start; only the hard one is yours to set.",
        "measured: bench/results/idle_memory.json, fds_per_session 1.0; getrlimit(2), limits.conf(5)",
        _open_files,
    ),
    Check(
        "file-max",
        "fs.file-max",
        "The limit of the whole machine. The kernel sets it by the memory there is, so it is hardly ever in "
        "the way.",
        "proc_sys_fs(5), kernel: Documentation/admin-guide/sysctl/fs.rst",
        _file_max,
    ),
    Check(
        "nr-open",
        "fs.nr_open",
        "No process can be given more descriptors than this, whatever limits.conf or systemd say.",
        "proc_sys_fs(5), kernel: Documentation/admin-guide/sysctl/fs.rst",
        _nr_open,
    ),
)
