"""Memory: what N sessions cost, and the settings that are said to change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.tune import measured
from runner.tune.finding import Check, Need, Status, Verdict, mib, unknown

if TYPE_CHECKING:
    from runner.tune.facts import Facts

BURST: Final = 2.0
"""Room beside the idle figure: bursts of messages, imports, answers of the API. A judgement, not measured."""


def _limit(facts: Facts, need: Need) -> Verdict:
    limits = [facts.cgroup.memory_bytes, facts.cgroup.memory_high_bytes, facts.memory_bytes]
    least = min((limit for limit in limits if limit is not None), default=None)
    if least is None:
        return unknown("memory of this machine")
    has_group = least != facts.memory_bytes
    now = f"{mib(least)} ({'cgroup' if has_group else 'host'})"
    idle = need.memory_bytes + need.kernel_bytes
    effect = (
        f"{mib(idle)} idle: {mib(measured.BASE_BYTES)} for the process, "
        f"{measured.SESSION_BYTES / 1000:.1f} kB a session and "
        f"{measured.KERNEL_SOCKET_BYTES / 1000:.1f} kB in the kernel"
    )
    wanted = int(BURST * idle)
    if least >= wanted:
        return Verdict(Status.FINE, now, effect)
    where = "docker run --memory; systemd: MemoryMax= and MemoryHigh=" if has_group else "more memory"
    if facts.container and has_group:
        where = "docker run --memory; Kubernetes: resources.limits.memory"
    status = Status.ADVISED if least >= idle else Status.TOO_SMALL
    return Verdict(status, now, effect, f"{mib(wanted)}, twice the idle figure", elsewhere=where)


def _swappiness(facts: Facts, _need: Need) -> Verdict:
    now = facts.sysctls.get("vm.swappiness", "-")
    if not facts.swap_bytes:
        return Verdict(Status.NOT_ADVISED, now, "none: there is no swap")
    effect = (
        "none while memory suffices; when it does not, every ping touches its session, so swapped "
        "sessions are "
        "slow sessions: see memory-limit"
    )
    return Verdict(Status.NOT_ADVISED, now, effect)


def _overcommit(facts: Facts, need: Need) -> Verdict:
    mode = facts.number("vm.overcommit_memory")
    if mode is None:
        return unknown("how the kernel promises memory")
    if mode != 2:
        return Verdict(
            Status.NOT_ADVISED, str(mode), "none: the runner forks nothing that would need a promise"
        )
    left = facts.commit_left_bytes
    wanted = need.memory_bytes + measured.RESERVED_BYTES
    effect = (
        f"strict: the runner asks for {mib(wanted)} of address space, {mib(left or 0)} may still be promised"
    )
    if left is not None and left >= wanted:
        return Verdict(Status.FINE, "2", effect)
    where = "raise vm.overcommit_ratio, or set vm.overcommit_memory=0; it concerns every program here"
    return Verdict(Status.TOO_SMALL, "2", effect, "0", elsewhere=where)


def _huge_pages(facts: Facts, _need: Need) -> Verdict:
    now = facts.huge_pages
    if now is None:
        return unknown("whether the kernel hands out huge pages")
    return Verdict(Status.NOT_ADVISED, now, measured.HUGE_PAGES)


def _arenas(facts: Facts, _need: Need) -> Verdict:
    if facts.libc != "glibc":
        return Verdict(Status.NOT_ADVISED, facts.libc, "none: its allocator has no arenas")
    preload = facts.environ.get("LD_PRELOAD")
    now = preload or f"arenas: {facts.environ.get('MALLOC_ARENA_MAX', 'not set')}"
    return Verdict(Status.NOT_ADVISED, now, measured.ARENAS)


CHECKS: Final = (
    Check(
        "memory-limit",
        "memory.max / memory.high, or the host",
        "Above the limit the kernel kills the process; sockets count, too. A container that may use 2 "
        "GiB of a "
        "256 GiB host is full at 2 GiB.",
        "measured: bench/results/idle_memory.json, tuning.json; kernel: "
        "Documentation/admin-guide/cgroup-v2.rst",
        _limit,
    ),
    Check(
        "swappiness",
        "vm.swappiness",
        "Recommended as 1 or 10 for servers. It only weighs what is evicted first once memory is short.",
        "kernel: Documentation/admin-guide/sysctl/vm.rst, swappiness",
        _swappiness,
    ),
    Check(
        "overcommit",
        "vm.overcommit_memory",
        "Recommended as 1 for programs that fork while they are large. Only mode 2 can refuse memory "
        "that is there.",
        "kernel: Documentation/mm/overcommit-accounting.rst",
        _overcommit,
    ),
    Check(
        "huge-pages",
        "transparent_hugepage/enabled",
        "Databases ask for `never`: a huge page that is touched in one place is resident as a whole.",
        "measured: bench/results/tuning.json, pages",
        _huge_pages,
    ),
    Check(
        "malloc-arenas",
        "MALLOC_ARENA_MAX, LD_PRELOAD",
        "glibc gives threads arenas of their own, up to eight a core, and memory freed in one stays "
        "there. The "
        "runner has a handful of threads, and lets glibc give back what a burst has left free (malloc_trim).",
        "measured: bench/results/tuning.json, malloc; mallopt(3)",
        _arenas,
    ),
)
