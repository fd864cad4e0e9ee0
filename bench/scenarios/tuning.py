"""What each tuning knob does to a runner with N sessions: what `python -m runner tune` advises rests on this.

    python -m bench.scenarios.tuning [--parts malloc pages gc sockets threads] [--n 1000] [--runs 3]
                                     [--jemalloc /path/to/libjemalloc.so.2]

Variants take turns, so that drift of the machine meets all of them. `pages` sets the system's transparent
huge pages and puts them back: it needs root and a machine of its own. Each part keeps the rows of the others.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bench.scenarios.fleet import Fleet, fleet
from bench.scenarios.measure import RESULTS, commit, cpu_s, rss_bytes, save, spread
from support.processes import ROOT

Row = dict[str, Any]
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SETTLE_S = 3.0
OPEN_LIMITER = {
    "WHATSAPP_CONNECT_RATE": "100000",
    "WHATSAPP_CONNECT_BURST": "1000",
    "WHATSAPP_CONNECT_CONCURRENCY": "256",
}
PROBE = '''
"""Set the collector as a variant says, whatever the runner wishes; note its pauses after the start."""
import atexit, gc, json, os, sys, time
if sys.argv == ["-m"]:  # python -m: the runner and no other child
    wish = json.loads(os.environ["BENCH_GC"])
    began, pauses = 0.0, []
    def watch(phase, _info):
        global began
        if phase == "start":
            began = time.thread_time()
        else:
            pauses.append(time.thread_time() - began)
    gc.callbacks.append(watch)
    if wish["threshold"]:
        gc.set_threshold(*wish["threshold"])
    gc.set_threshold = lambda *_: None
    really = gc.freeze
    def freeze():  # the runner has started: what went before is imports
        pauses.clear()
        if wish["freeze"]:
            really()
    gc.freeze = freeze
    atexit.register(lambda: open(os.environ["BENCH_GC_OUT"], "w").write(json.dumps(pauses)))
'''


def storm(f: Fleet) -> None:
    """Cut every connection and wait until all have logged in again."""
    before = f.control.get("/stats")["logins"]
    f.control.post("/drop-all")
    f.control.wait_stats(120.0, logins=before + f.n)
    f.runner.wait_ready(f.n, 60.0)


def measured(f: Fleet) -> Row:
    """Idle, one storm, idle again: memory of both, CPU of the storm."""
    pause = threading.Event()
    pause.wait(SETTLE_S)
    row: Row = {"rss_idle_bytes": rss_bytes(f.runner.pid), "huge_idle_bytes": huge_bytes(f.runner.pid)}
    cpu = cpu_s(f.runner.pid)
    storm(f)
    row["cpu_storm_s"] = cpu_s(f.runner.pid) - cpu
    pause.wait(SETTLE_S)
    row["rss_after_storm_bytes"] = rss_bytes(f.runner.pid)
    return row


def huge_bytes(pid: int) -> int:
    """Anonymous huge pages of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


def malloc(n: int, jemalloc: str | None) -> dict[str, Callable[[], Row]]:
    """glibc's arenas; another allocator under all of it."""
    variants = {"as it is": {}, "2 arenas": {"MALLOC_ARENA_MAX": "2"}, "1 arena": {"MALLOC_ARENA_MAX": "1"}}
    if jemalloc:
        variants["jemalloc"] = {"LD_PRELOAD": jemalloc}

    def one(env: dict[str, str]) -> Row:
        with fleet(n, settings={**OPEN_LIMITER, **env}) as f:
            return measured(f)

    return {name: partial(one, env) for name, env in variants.items()}


def pages(n: int, _jemalloc: str | None) -> dict[str, Callable[[], Row]]:
    """Transparent huge pages, by the system's setting."""

    def one(wish: str) -> Row:
        with huge_pages(wish), fleet(n, settings=OPEN_LIMITER) as f:
            return measured(f)

    return {wish: partial(one, wish) for wish in ("madvise", "always", "never")}


@contextmanager
def huge_pages(wish: str) -> Iterator[None]:
    """The system's setting for the time of the block."""
    before = PAGES.read_text().partition("[")[2].partition("]")[0]
    PAGES.write_text(wish)
    try:
        yield
    finally:
        PAGES.write_text(before)


def gc(n: int, _jemalloc: str | None) -> dict[str, Callable[[], Row]]:
    """Python's collector: how often it looks, and at what."""

    def one(threshold: list[int] | None, freeze: bool) -> Row:
        with tempfile.TemporaryDirectory(prefix="runner-gc-") as name:
            Path(name, "sitecustomize.py").write_text(PROBE)
            out = Path(name, "pauses.json")
            env = {
                **OPEN_LIMITER,
                "PYTHONPATH": os.pathsep.join([name, *filter(None, [os.environ.get("PYTHONPATH")])]),
                "BENCH_GC": json.dumps({"threshold": threshold, "freeze": freeze}),
                "BENCH_GC_OUT": str(out),
            }
            with fleet(n, settings=env) as f:
                row = measured(f)
            pauses = json.loads(out.read_text())
        return row | {
            "collections": len(pauses),
            "gc_total_ms": sum(pauses) * 1000,
            "gc_longest_ms": max(pauses, default=0.0) * 1000,
        }

    return {
        "700,10,10": partial(one, None, True),
        "700,10,200": partial(one, [700, 10, 200], True),
        "10000,20,50": partial(one, [10_000, 20, 50], True),
        "700,10,10 without freeze": partial(one, None, False),
    }


def sockets(n: int, _jemalloc: str | None) -> dict[str, Callable[[], Row]]:
    """Kernel memory of an idle TCP connection, both ends on loopback: halve it for one end."""

    def one() -> Row:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            held: list[socket.socket] = []
            before = slab_bytes()
            try:
                for _ in range(n):
                    client = socket.create_connection(listener.getsockname())
                    held += [client, listener.accept()[0]]
                return {
                    "kernel_bytes_per_socket": (slab_bytes() - before) / (2 * n),
                    "buffer_pages": int(Path("/proc/net/sockstat").read_text().split("mem ")[1].split()[0]),
                }
            finally:
                for each in held:
                    each.close()

    return {"idle": one}


def slab_bytes() -> int:
    """Memory that the kernel holds in slabs: where sockets, files and inodes live."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))


THREADS = """
import json, sys, tempfile, time
from functools import partial
from pathlib import Path
import trio
from runner.engine import open_store
from support.devices import import_device
limit, n = int(sys.argv[1]), int(sys.argv[2])
def rss():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
async def main():
    trio.to_thread.current_default_thread_limiter().total_tokens = limit
    with tempfile.TemporaryDirectory() as name:
        store = open_store(Path(name) / "runner.db", 3600.0)
        ids = [f"s-{number}" for number in range(n)]
        for number, session_id in enumerate(ids):
            import_device(store, session_id, f"{15550000000 + number}:3@s.whatsapp.net")
        before, began = rss(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for session_id in ids:
                nursery.start_soon(trio.to_thread.run_sync, store.archive, session_id, "logged_out")
        took = time.perf_counter() - began
        print(json.dumps({"archives_per_s": n / took, "rss_gain_bytes": rss() - before}))
        store.close()
trio.run(main)
"""


def threads(n: int, _jemalloc: str | None) -> dict[str, Callable[[], Row]]:
    """Trio's worker threads: N logged-out sessions archived at once, the most that ever wait for one."""

    def one(limit: int) -> Row:
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}:{ROOT / 'tests'}"}
        done = subprocess.run(
            [sys.executable, "-c", THREADS, str(limit), str(n)],
            env=env, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    return {f"{limit} threads": partial(one, limit) for limit in (4, 16, 40)}


PARTS = {"malloc": malloc, "pages": pages, "gc": gc, "sockets": sockets, "threads": threads}


def earlier() -> list[Row]:
    """The rows that the result file holds already."""
    path = RESULTS / "tuning.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def main() -> None:
    """The named parts, variants in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jemalloc", help="shared object to preload in one more variant")
    parser.add_argument("--name", default="tuning", help="of the result file")
    args = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = [row for row in earlier() if row["part"] not in args.parts]
    for part in args.parts:
        variants = PARTS[part](args.n, args.jemalloc)
        for _ in range(args.runs):
            for name, one in variants.items():
                rows.append({"part": part, "variant": name, "n": args.n, "commit": commit(), **one()})
                print(json.dumps(rows[-1]), flush=True)
    save(args.name, summary(rows), rows)


def summary(rows: list[Row]) -> dict[str, Any]:
    """Medians with least and greatest, by part, variant and figure."""
    found: dict[str, Any] = {}
    for row in rows:
        cell = found.setdefault(row["part"], {}).setdefault(row["variant"], {})
        for key, value in row.items():
            if isinstance(value, int | float) and key != "n":
                cell.setdefault(key, []).append(value)
    return {
        part: {
            name: {key: asdict(spread(values)) for key, values in cell.items()}
            for name, cell in cells.items()
        }
        for part, cells in found.items()
    }


if __name__ == "__main__":
    main()
