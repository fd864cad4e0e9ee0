"""What a backup costs those who write meanwhile, and how long it and a restore take.

    python -m bench.scenarios.backup [--sessions 2000] [--records 300]

A store with that many sessions and records of each. A writer commits one small value after the other, `quiet`
for some seconds and then while the copy is made; the copy is restored. One process, no network; times are of
the wall clock.
"""

import argparse
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bench.scenarios.measure import save, tail
from runner import _core
from support.devices import device

T = TypeVar("T")

BATCH = 200
RECORD_BYTES = 140


def keys(records: int) -> Iterator[tuple[str, str, bytes]]:
    """Records of the size of a pre-key."""
    return (("pre-key", str(number), secrets.token_bytes(RECORD_BYTES)) for number in range(records))


def while_writing(store: _core.Store, work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """What the work gives, and how long each of the commits took that went on beside it."""
    took_ms: list[float] = []
    end = threading.Event()

    def write() -> None:
        while not end.is_set():
            began = time.perf_counter()
            store.put_meta("bench", str(len(took_ms)))
            store.flush(30.0)
            took_ms.append((time.perf_counter() - began) * 1000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = work()
    finally:
        end.set()
        writer.join()
    return result, {"commits": float(len(took_ms)), **tail(took_ms, "commit_ms_")}


def main() -> None:
    """One store, one backup, one restore."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--quiet", type=float, default=4.0, help="seconds of writing before the backup")
    parser.add_argument("--name", default="backup")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-backup-") as name:
        folder = Path(name)
        store = _core.Store(folder / "store.db")
        for first in range(0, options.sessions, BATCH):
            numbers = range(first, min(first + BATCH, options.sessions))
            store.import_devices(
                [
                    (f"s{n}", device(f"1555{n:07}:3@s.whatsapp.net", bytes(32)), list(keys(options.records)))
                    for n in numbers
                ]
            )
        _, quiet = while_writing(store, lambda: time.sleep(options.quiet))
        made, busy = while_writing(store, lambda: store.backup(folder / "copy.db", "bench"))
        store.close()
        began = time.perf_counter()
        restored = _core.restore_store(folder / "again.db", folder / "copy.db", replace=False)
        restore_s = time.perf_counter() - began
    rows = [
        {"phase": "quiet", **quiet},
        {"phase": "backup", "mib": made.bytes / 2**20, "seconds": made.took_s, **busy},
        {"phase": "restore", "sessions": restored.sessions, "seconds": restore_s},
    ]
    for row in rows:
        print(row)
    save(options.name, {"sessions": options.sessions, "records": options.records}, rows)


if __name__ == "__main__":
    main()
