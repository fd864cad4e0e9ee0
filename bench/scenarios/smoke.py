"""Every scenario at a small size: that it runs to its end and writes what it found. A minute or two.

    python -m bench.scenarios.smoke

The results go to a folder that is thrown away. `soak` has a small size of its own (`--quick`), and its
proofs run in the tests.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.scenarios.measure import ROOT

SMALL = {
    "connect_storm": ["--sizes", "10", "--runs", "1", "--peer", ""],
    # The first ping comes after 15 s.
    "idle_memory": ["--sizes", "5,20", "--settle", "1", "--idle", "20", "--peer", ""],
    "reconnect_storm": ["--sizes", "10", "--runs", "1", "--stable", "1", "--rate", "100", "--peer", ""],
    "receive": ["--sessions", "1,5", "--total", "2000", "--messages", "200", "--peer", ""],
    "messages": [
        *("--sessions", "3", "--messages", "60", "--samples", "3", "--contacts", "20"),
        *("--settle", "1", "--peer", "0"),
    ],
    "backup": ["--sessions", "20", "--records", "20", "--quiet", "0.2"],
    "api_steps": ["--sessions", "20", "--rounds", "1", "--idle", "1"],
    "restart": ["--sizes", "5", "--runs", "1", "--memory", "0"],
    "truth": ["--sessions", "20", "--waves", "1", "--ragged", "1"],
    "tuning": ["--parts", "threads", "--n", "20", "--runs", "1"],
    "wake": ["--sessions", "10", "--loads", "0,100", "--samples", "5"],
}
PATIENCE_S = 120.0


def main() -> None:
    """All of them, one after the other; exit 1 when one failed."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="runner-smoke-") as folder:
        for name, arguments in SMALL.items():
            result = Path(folder) / name
            command = [sys.executable, "-m", f"bench.scenarios.{name}", *arguments, "--name", str(result)]
            began = time.monotonic()
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            written = result.with_suffix(".json")
            works = done.returncode == 0 and bool(json.loads(written.read_text())["rows"])
            print(f"{name:16} {'ok' if works else 'FAILED':6} {time.monotonic() - began:6.1f} s", flush=True)
            if not works:
                failed.append(name)
                print(done.stdout + done.stderr, file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
