"""A thousand sessions in one storm after the other: every surface says the same, change by change.

    python -m bench.scenarios.truth [--sessions 1000] [--waves 8] [--rate 200] [--ragged 4]

What tests/e2e/test_truth.py proves in a small size: dashboard (in Chromium), JSON API, Prometheus and command
line are read as often as they answer, at the most ten times a second, and held against the runner's own
account of each change and against what the simulator had counted before and has counted after. Any
contradiction ends the scenario. Needs Chromium and a hard limit of open files above the sessions.
"""

import argparse
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.scenarios.fleet import raise_fd_limit
from bench.scenarios.measure import save
from support import truth
from support.browser import Tabs, chromium
from support.pair import pair
from support.storms import agree_at_rest, pings_agree, ragged, settings, storm


def main() -> None:
    """One fleet through all storms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--waves", type=int, default=8, help="drops of everybody, each until all are back")
    parser.add_argument("--ragged", type=int, default=4, help="drops of who is back while others are not")
    parser.add_argument("--rate", type=float, default=200.0, help="WHATSAPP_CONNECT_RATE")
    parser.add_argument("--name", default="truth", help="of the file in bench/results")
    args = parser.parse_args()
    raise_fd_limit(args.sessions)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = settings(args.rate, 50) | {"WHATSAPP_ADMIN_PORT": str(port)}
    with (
        tempfile.TemporaryDirectory(prefix="runner-truth-") as name,
        chromium() as browser,
        pair(Path(name), args.sessions, more, tls=True) as p,
        Tabs(browser, f"http://127.0.0.1:{port}/", args.sessions) as tabs,
    ):
        began = time.monotonic()
        with truth.watched(p) as watch:
            storm(p, args.waves)
            exact = agree_at_rest(p)
            ragged(p, args.ragged, watch.look_by_command)
            tabs.wait_shown(p.runner.sessions(), 60.0)
        took_s = time.monotonic() - began
        watch.more += tabs.samples()
        row: dict[str, Any] = watch.verdict() | {
            "looks_of_the_browser": tabs.looks(),
            "pings": pings_agree(p),
        }
    save(args.name, {"took_s": round(took_s, 1), "exact_at_rest": exact, **row}, [row])


if __name__ == "__main__":
    main()
