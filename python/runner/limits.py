"""File descriptors: raised as far as allowed, and how many sessions then fit."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

OWN_FDS: Final = 64
"""Store, logs, event fds, listeners, resolver, and room to breathe."""


def raise_fd_limit() -> int:
    """Raise the soft limit to the hard one; the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        wanted = _most_a_process_may_have() if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))
        soft = max(wanted, soft)
    return soft


def sessions_that_fit(fd_limit: int, admin_connections: int) -> int:
    """How many connections the descriptors hold, beside our own and those of the admin API. At least one."""
    return max(fd_limit - OWN_FDS - admin_connections, 1)


def _most_a_process_may_have() -> int:
    try:
        return int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024 * 1024
