"""What the scenarios share: reading /proc, medians, slopes, and writing a result down."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process (`VmRSS`)."""
    return _status_bytes(pid, "VmRSS")


def rss_anon_bytes(pid: int) -> int:
    """Resident memory that is not file-backed (`RssAnon`)."""
    return _status_bytes(pid, "RssAnon")


def _status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{key} is not in /proc/{pid}/status")


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


@dataclass(frozen=True, slots=True)
class ThreadUse:
    """What the threads of one name have used so far, or between two looks."""

    cpu_s: float
    sleeps: int
    """Voluntary context switches: how often they went to sleep, and so how often they were woken."""
    preemptions: int
    """Involuntary ones."""

    def __add__(self, other: "ThreadUse") -> "ThreadUse":
        return ThreadUse(
            self.cpu_s + other.cpu_s, self.sleeps + other.sleeps, self.preemptions + other.preemptions
        )

    def __sub__(self, other: "ThreadUse") -> "ThreadUse":
        return ThreadUse(
            self.cpu_s - other.cpu_s, self.sleeps - other.sleeps, self.preemptions - other.preemptions
        )


UNUSED = ThreadUse(0.0, 0, 0)


def threads(pid: int) -> dict[str, ThreadUse]:
    """What each thread of a process has used; threads of one name together, the first one as `main`."""
    found: dict[str, ThreadUse] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = "main" if task.name == str(pid) else (task / "comm").read_text()
            use = thread_use((task / "schedstat").read_text(), (task / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        name = thread_name(name)
        found[name] = found.get(name, UNUSED) + use
    return found


def thread_name(comm: str) -> str:
    """The name of a thread without its number, so that a pool's threads come together.

    A worker of Trio is called after whom it works for (`… from …`), and otherwise `Trio thread 3`.
    """
    if " from " in comm:
        return "Trio thread"
    return re.sub(r"[-_ #]*\d+$", "", comm.strip()) or comm.strip()


def thread_use(schedstat: str, status: str) -> ThreadUse:
    """`/proc/PID/task/TID/schedstat` (nanoseconds on a CPU come first) and `status`."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return ThreadUse(
        int(schedstat.split()[0]) / 1e9,
        int(fields["voluntary_ctxt_switches"]),
        int(fields["nonvoluntary_ctxt_switches"]),
    )


def threads_since(pid: int, before: dict[str, ThreadUse]) -> dict[str, ThreadUse]:
    """What each thread has used since `before`, those left out that did not run."""
    now = threads(pid)
    used = {name: use - before.get(name, UNUSED) for name, use in now.items()}
    return {name: use for name, use in used.items() if use.cpu_s > 0}


def open_fds(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def machine_busy_s() -> float:
    """Busy CPU seconds of the whole machine, all cores, steal included."""
    fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7]) / CLOCK_TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its least and greatest."""

    median: float
    least: float
    greatest: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between the two nearest ranks; `q` in [0, 1]."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * q
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def tail(values: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The median, the 99th percentile and the greatest of at least one value."""
    return {
        f"{prefix}p50": quantile(values, 0.5),
        f"{prefix}p99": quantile(values, 0.99),
        f"{prefix}max": max(values),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of y over x."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


def commit() -> str:
    """The commit under test, with `+` behind it when the tree is not clean."""
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Where the numbers were made."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def save(name: str, summary: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write `bench/results/NAME.json` and print the summary."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    spec = sys.modules["__main__"].__spec__
    result = {
        "command": f"python -m {spec.name if spec else name}",
        "arguments": sys.argv[1:],
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "summary": summary,
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(name, json.dumps(summary))
