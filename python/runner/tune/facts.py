"""What the machine and one process are set to. Only reads; the judging is elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.tune import cgroup
from runner.tune.cgroup import Cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SYSCTLS: Final = (
    "fs.file-max",
    "fs.file-nr",
    "fs.nr_open",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "vm.overcommit_memory",
    "vm.swappiness",
)
HUGE_PAGES: Final = "sys/kernel/mm/transparent_hugepage/enabled"
_CAPABILITIES: Final = {"net_admin": 12, "sys_admin": 21, "sys_resource": 24}
"""Bits of CapEff: include/uapi/linux/capability.h."""
_STA_UNSYNC: Final = 0x0040
"""adjtimex(2): the kernel's word that nobody disciplines the clock."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is judged. A value that cannot be read is None, or missing from its table."""

    pid: int
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Words separated by one blank, by dotted name."""
    writable: frozenset[str] = frozenset()
    """Of `SYSCTLS`, those that this user may write here and now."""
    etc_writable: bool = False
    is_root: bool = False
    capabilities: frozenset[str] = frozenset()
    """Of net_admin, sys_admin, sys_resource, those in force."""
    container: str | None = None
    """`docker`, `podman`, `kubernetes`, `lxc`, `systemd-nspawn` …, or None on a bare host."""
    systemd: bool = False
    """systemd is the init here."""
    units: tuple[str, ...] = ()
    """Systemd services of this machine that start the runner."""
    limits_seen: bool = True
    """The process's own limits could be read: not so when it is another user's and /proc hides it."""
    open_files: int | None = None
    """Hard limit of the process; None is no limit."""
    processes: int | None = None
    """Hard RLIMIT_NPROC of the process's user; None is no limit."""
    cgroup: Cgroup = field(default_factory=Cgroup)
    memory_bytes: int | None = None
    swap_bytes: int | None = None
    commit_left_bytes: int | None = None
    """CommitLimit less Committed_AS."""
    huge_pages: str | None = None
    cpus: int = 1
    page_bytes: int = 4096
    environ: Mapping[str, str] = field(default_factory=dict)
    """Of the process's environment the variables of the allocator, and nothing else."""
    libc: str = "glibc"
    clock_synchronized: bool | None = None
    clock_keeper: str | None = None
    """`systemd-timesyncd`, `chrony` or `ntpd`, when one has left its mark."""

    def words(self, name: str) -> tuple[int, ...] | None:
        """The numbers of a sysctl, or None when there is none of that name."""
        text = self.sysctls.get(name)
        return None if text is None else tuple(int(word) for word in text.split() if word.isdigit())

    def number(self, name: str) -> int | None:
        """The first number of a sysctl."""
        words = self.words(name)
        return words[0] if words else None


def read(
    root: Path = Path("/"),
    pid: int | None = None,
    is_synchronized: Callable[[], bool | None] | None = None,
) -> Facts:
    """Look at all under `root`, and at process `pid` (this one if not given). Blocking, milliseconds."""
    who: int | str = "self" if pid is None else pid
    limits = dict(_limits(root, who))
    memory = dict(_numbers_in(root / "proc/meminfo"))
    sysctls = {name: text for name in SYSCTLS if (text := _text(sysctl_path(root, name))) is not None}
    read_only = [target for target, options in _mounts(root) if "ro" in options]
    return Facts(
        pid=os.getpid() if pid is None else pid,
        sysctls=sysctls,
        writable=frozenset(name for name in sysctls if _may_write(root, sysctl_path(root, name), read_only)),
        etc_writable=_may_write(root, root / "etc", read_only),
        is_root=os.geteuid() == 0,
        capabilities=_capabilities(root),
        container=_container(root),
        systemd=(root / "run/systemd/system").is_dir(),
        units=tuple(_units(root)),
        limits_seen=bool(limits),
        open_files=limits.get("Max open files"),
        processes=limits.get("Max processes"),
        cgroup=cgroup.read(root, who),
        memory_bytes=_kib(memory, "MemTotal"),
        swap_bytes=_kib(memory, "SwapTotal"),
        commit_left_bytes=_kib(memory, "CommitLimit", less="Committed_AS"),
        huge_pages=_chosen(_text(root / HUGE_PAGES)),
        cpus=len(os.sched_getaffinity(0)),
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        environ=_allocator_environ(root, who),
        libc=platform.libc_ver()[0] or "musl",
        clock_synchronized=(is_synchronized or ask_kernel_clock)(),
        clock_keeper=_clock_keeper(root),
    )


def sysctl_path(root: Path, name: str) -> Path:
    """Where a sysctl lives: `net.core.somaxconn` is proc/sys/net/core/somaxconn."""
    return root / "proc/sys" / name.replace(".", "/")


def ask_kernel_clock() -> bool | None:
    """Whether something keeps the clock right, by adjtimex(2), which no module of Python offers. Any user may
    ask; only the status word is looked at."""
    buffer = ctypes.create_string_buffer(512)  # struct timex: 208 bytes on LP64; modes = 0 only reads
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.adjtimex(buffer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    long = ctypes.sizeof(ctypes.c_long)
    # modes (int, padded), offset, freq, maxerror, esterror (long each), status (int)
    status = ctypes.c_int.from_buffer(buffer, 5 * long).value
    return not status & _STA_UNSYNC


def _text(path: Path) -> str | None:
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return None


def _limits(root: Path, who: int | str) -> Iterator[tuple[str, int]]:
    """Hard limits by name; those without a limit are left out."""
    try:
        lines = (root / f"proc/{who}/limits").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        words = line[26:].split()
        if len(words) >= 2 and words[1].isdigit():
            yield line[:26].strip(), int(words[1])


def _numbers_in(path: Path) -> Iterator[tuple[str, int]]:
    """`Name:   12 kB` lines."""
    for line in _lines(path):
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            yield name, int(words[0])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _kib(table: Mapping[str, int], name: str, less: str | None = None) -> int | None:
    value, taken = table.get(name), 0 if less is None else table.get(less)
    return None if value is None or taken is None else (value - taken) * 1024


def _mounts(root: Path) -> Iterator[tuple[Path, set[str]]]:
    for line in _lines(root / "proc/self/mounts"):
        words = line.split()
        if len(words) >= 4:
            yield root / words[1].lstrip("/"), set(words[3].split(","))


def _may_write(root: Path, path: Path, read_only: list[Path]) -> bool:
    """Not below a read-only mount (a container's /proc/sys), and the kernel says yes."""
    hidden = any(target in (path, *path.parents) for target in read_only if target != root)
    return not hidden and os.access(path, os.W_OK)


def _capabilities(root: Path) -> frozenset[str]:
    for line in _lines(root / "proc/self/status"):
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(name for name, bit in _CAPABILITIES.items() if bits >> bit & 1)
    return frozenset()


def _container(root: Path) -> str | None:
    if (root / "var/run/secrets/kubernetes.io").is_dir():
        return "kubernetes"
    named = _text(root / "run/systemd/container")
    if named:
        return named
    for mark, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (root / mark).exists():
            return name
    for line in _lines(root / "proc/1/cgroup"):
        for word, name in (("kubepods", "kubernetes"), ("docker", "docker"), ("/lxc", "lxc")):
            if word in line:
                return name
    return None


def _units(root: Path) -> Iterator[str]:
    for path in sorted((root / "etc/systemd/system").glob("*.service")):
        starts = (line for line in _lines(path) if line.startswith("ExecStart="))
        if any("-m runner" in line or "/runner" in line for line in starts):
            yield path.name


def _chosen(text: str | None) -> str | None:
    """`madvise` of `always [madvise] never`."""
    return None if text is None else text.partition("[")[2].partition("]")[0] or None


def _allocator_environ(root: Path, who: int | str) -> dict[str, str]:
    try:
        pairs = (root / f"proc/{who}/environ").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    table = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {name: table[name] for name in ("LD_PRELOAD", "MALLOC_ARENA_MAX") if name in table}


def _clock_keeper(root: Path) -> str | None:
    for mark, name in (
        ("run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("run/chrony", "chrony"),
        ("run/ntpd.pid", "ntpd"),
    ):
        if (root / mark).exists():
            return name
    return None
