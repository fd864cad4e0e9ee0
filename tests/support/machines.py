"""Machines that are directories: /proc, /sys and /etc as far as tuning looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             96365                {processes:<20} processes
Max open files            1024                 {files:<20} files
"""
SYSCTLS = {
    "fs/file-max": "2466170",
    "fs/file-nr": "1280\t0\t2466170",
    "fs/nr_open": "1048576",
    "net/core/somaxconn": "4096",
    "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/ipv4/ip_local_reserved_ports": "",
    "net/ipv4/tcp_keepalive_time": "7200",
    "net/ipv4/tcp_mem": "287898\t383867\t575796",
    "net/ipv4/tcp_rmem": "4096\t131072\t33554432",
    "net/ipv4/tcp_wmem": "4096\t16384\t4194304",
    "net/ipv4/tcp_slow_start_after_idle": "1",
    "net/ipv4/tcp_tw_reuse": "2",
    "vm/overcommit_memory": "0",
    "vm/swappiness": "60",
}
CONNTRACK = {
    "net/netfilter/nf_conntrack_count": "100",
    "net/netfilter/nf_conntrack_max": "262144",
    "net/netfilter/nf_conntrack_tcp_timeout_established": "432000",
}
MEMINFO = """MemTotal:       {kib} kB
SwapTotal:      0 kB
CommitLimit:    {kib} kB
Committed_AS:   100000 kB
"""


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def bare_host(
    root: Path,
    sysctls: Mapping[str, str] | None = None,
    *,
    files: str = "524288",
    processes: str = "96365",
    memory_kib: int = 8 * 1024 * 1024,
) -> Path:
    """A host with systemd and cgroup v2, root inside, with defaults of a Debian; `sysctls` overrides."""
    (root / "run/systemd/system").mkdir(parents=True)
    return tree(
        root,
        {f"proc/sys/{name}": f"{value}\n" for name, value in {**SYSCTLS, **(sysctls or {})}.items()}
        | {
            "proc/self/limits": LIMITS.format(files=files, processes=processes),
            "proc/self/status": "Name:\tpython\nCapEff:\t000001ffffffffff\n",
            "proc/self/cgroup": "0::/system.slice/runner.service\n",
            "proc/self/mounts": "/dev/sda / ext4 rw 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\n",
            "proc/self/environ": "HOME=/root\0SECRET=do-not-show\0MALLOC_ARENA_MAX=2\0",
            "proc/meminfo": MEMINFO.format(kib=memory_kib),
            "proc/1/cgroup": "0::/init.scope\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            "sys/fs/cgroup/system.slice/runner.service/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/runner.service/pids.max": "9000\n",
            "etc/hostname": "host\n",
        },
    )


def container(root: Path, sysctls: Mapping[str, str] | None = None, *, files: str = "1048576") -> Path:
    """Docker without privileges: /proc/sys is read-only, no CAP_SYS_ADMIN, no init that reads /etc."""
    bare_host(root, sysctls, files=files)
    (root / "run/systemd/system").rmdir()
    return tree(
        root,
        {
            ".dockerenv": "",
            "proc/self/status": "CapEff:\t00000000a80425fb\n",
            "proc/self/cgroup": "0::/\n",
            "proc/self/mounts": "overlay / overlay rw 0 0\nproc /proc proc rw,nosuid 0 0\n"
            "proc /proc/sys proc ro,nosuid 0 0\nsysfs /sys sysfs ro 0 0\n",
            "sys/fs/cgroup/memory.max": "2147483648\n",
            "sys/fs/cgroup/pids.max": "max\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
    )
