"""Figures of the benches, where the advice takes them from. A test compares them with bench/results."""

from __future__ import annotations

from typing import Final

BASE_BYTES: Final = 77_000_000
"""The process without sessions: where the line of idle_memory meets zero."""
SESSION_BYTES: Final = 11_589
"""idle_memory, rss_slope_bytes_per_session."""
KERNEL_SOCKET_BYTES: Final = 3_500
"""tuning, sockets: kernel memory of an idle TCP socket."""
IDLE_CORES_PER_SESSION: Final = 0.0245 / 3000
"""idle_memory, cpu_of_one_core_at_largest over its sessions: keep-alives at their default."""
CPU_PER_LOGIN_S: Final = 0.0012
"""connect_storm: between 100 and 1,000 sessions, CPU of the runner for one more login."""
RESERVED_BYTES: Final = 1 << 30
"""Address space that is asked for and not used: thread stacks of 8 MiB and arenas of 64 MiB."""

HUGE_PAGES: Final = "measured"
ARENAS: Final = "measured"
WORKER_THREADS: Final = "measured"
GC_THRESHOLDS: Final = "measured"
GC_FREEZE: Final = "measured"

TEXTS: Final = {
    "huge pages": HUGE_PAGES,
    "arenas, allocator": ARENAS,
    "worker threads": WORKER_THREADS,
    "gc thresholds": GC_THRESHOLDS,
    "gc freeze": GC_FREEZE,
}
"""What each measurement says, for docs/tuning.md."""
