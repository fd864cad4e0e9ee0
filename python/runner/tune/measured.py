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

HUGE_PAGES: Final = (
    "measured: no effect worth a change: with `always` 1,000 sessions take 1.6 MB more of 92, one huge page; "
    "`never` and `madvise` are alike"
)
ARENAS: Final = (
    "measured: no effect worth a change: 1,000 sessions take 91.5 MB as it is, 92.3 with two arenas, 88.8 to "
    "92.3 with one; jemalloc takes 19 MB more"
)
WORKER_THREADS: Final = (
    "measured: 1,000 sessions archived at once go at 4,800 a second with 40 threads, 3,500 with 16, "
    "1,100 with "
    "4; 36 threads more cost 1.2 MB"
)
GC_THRESHOLDS: Final = (
    "measured: 10000,20,50 saves 9 ms of collecting in a storm of 1,000 reconnects that takes 1.6 s "
    "of CPU, and "
    "makes the longest pause 4.1 ms instead of 1.6"
)
GC_FREEZE: Final = (
    "measured: the longest pause in a storm of 1,000 reconnects is 1.6 ms instead of 5.0, collecting "
    "takes 13 ms "
    "instead of 16"
)

TEXTS: Final = {
    "huge pages": HUGE_PAGES,
    "arenas, allocator": ARENAS,
    "worker threads": WORKER_THREADS,
    "gc thresholds": GC_THRESHOLDS,
    "gc freeze": GC_FREEZE,
}
"""What each measurement says, for docs/tuning.md."""
