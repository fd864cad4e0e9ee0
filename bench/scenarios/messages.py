"""End-to-end messages to a handler in Python: CPU for each, milliseconds from the wire, memory.

    python -m bench.scenarios.messages [--sessions 50] [--messages 20000] [--samples 300] [--contacts 1000]

The runner is a whole process with an app, as a user runs it; the simulator is another, and encrypts.

- `cpu`: contacts write as fast as the simulator encrypts, until the handler has had all. CPU of the runner's
  process for each message, by thread; what it uses while nothing comes is taken off.
- `latency`: one message after the other to a session behind a proxy (`tap`) that notes when it wrote to the
  socket; the handler notes when it is called. Decryption, a commit with its fsync and the way to Python are
  in it.
- `memory`: a few sessions; `--contacts` of the simulator write to each, for the first time. What the process
  has grown by for each session, when all is handled and quiet.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.scenarios.measure import cpu_s, rss_bytes, save, tail, threads, threads_since
from bench.scenarios.wake import Seen, delays_ms, parse_writes, tap
from support.pair import Pair, running, simulated
from support.processes import wait_until

PATIENCE_S = 300.0
QUIET_S = 5.0
"""How long an idle runner is watched, and how long what was used once has to go."""
SAID_AT_ONCE = 10
SESSION = "sim-00001"

BOT = """
import os, time
from runner import App, Message, Session

app = App()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.on_message
async def note(session: Session, message: Message) -> None:
    if "-" in (message.text or ""):  # only where each call counts: a write for each would be measured
        os.write(notes, f"{time.monotonic_ns()} {message.text}\\n".encode())
"""

CODE = """
import sys
sys.path.insert(0, {folder!r})
from runner.cli.main import cli
cli(["run", "timed_bot:app"])
"""


@contextmanager
def with_app(n: int, settings: dict[str, str] | None = None) -> Iterator[tuple[Pair, Path]]:
    """N sessions online in a runner with the app, and where its notes are."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory = Path(name)
        (directory / "timed_bot.py").write_text(BOT)
        notes = directory / "notes"
        notes.touch()
        with simulated(directory, n, tls=settings is None) as simulator:
            code = CODE.format(folder=name)
            own = {"NOTES": str(notes)} | (settings or {})
            with running(directory, simulator, n, own, code=code) as pair:
                pair.runner.wait_ready(n, 60.0)
                yield pair, notes
                pair.runner.stop()


def handled(pair: Pair) -> int:
    """Messages that the handler is done with."""
    status, told = pair.runner.request("GET", "/performance-metrics?limit=0", timeout_s=30.0)
    assert status == 200, told
    return int(told["handlers"]["done"])


def wait_handled(pair: Pair, n: int) -> None:
    """Until that many are."""
    wait_until(lambda: handled(pair) >= n, PATIENCE_S, f"{n} handled", every_s=0.2)


def cpu(sessions: int, messages: int) -> dict[str, Any]:
    """CPU of the runner for each message that contacts write as fast as they can."""
    with with_app(sessions) as (pair, _notes):
        pid = pair.runner.pid
        pair.control.post("/say", all=True, n=10)  # first contact is another matter
        wait_handled(pair, 10 * sessions)
        time.sleep(QUIET_S)
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(QUIET_S)
        idle = (cpu_s(pid) - before) / (time.monotonic() - began)
        each = max(1, messages // sessions)
        n, had = each * sessions, handled(pair)
        by_thread, before, began = threads(pid), cpu_s(pid), time.monotonic()
        for done in range(0, each, SAID_AT_ONCE):
            pair.control.post("/say", all=True, n=min(SAID_AT_ONCE, each - done))
        wait_handled(pair, had + n)
        wall_s = time.monotonic() - began
        used_s = cpu_s(pid) - before - idle * wall_s
        use = threads_since(pid, by_thread)
    return {
        "kind": "cpu",
        "sessions": sessions,
        "messages": n,
        "wall_per_s": n / wall_s,
        "idle_cpu": idle,
        "cpu_us_per_message": used_s * 1e6 / n,
        "cpu_us_by_thread": {name: it.cpu_s * 1e6 / n for name, it in sorted(use.items())},
    }


def latency(samples: int) -> dict[str, Any]:
    """Milliseconds from the write to the socket to the call of the handler, one message at a time."""
    with tempfile.TemporaryDirectory(prefix="runner-tap-") as folder:
        log = Path(folder) / "tap"
        with tap(log) as through:
            proxy = {"WHATSAPP_PROXY": f"http://{SESSION}:x@127.0.0.1:{through.port}"}
            with with_app(1, proxy) as (pair, notes):
                (user,) = pair.users.values()
                seen = []
                for n in range(samples):
                    text = f"sample-{n}"
                    ordered_ns = time.monotonic_ns()
                    pair.control.post("/say", user=user, text=text)
                    wait_until(
                        lambda text=text: notes.read_text().endswith(f" {text}\n"),  # type: ignore[misc]
                        10.0,
                        text,
                        every_s=0.002,
                    )
                    called_ns = int(notes.read_text().splitlines()[-1].split()[0])
                    seen.append(Seen(SESSION, ordered_ns, called_ns))
                found = delays_ms(parse_writes(log.read_text().splitlines()), seen)
    return {"kind": "latency", "samples": len(found), **tail(found, "ms_")}


def memory(sessions: int, contacts: int) -> dict[str, Any]:
    """What each session costs more once so many contacts have written to it."""
    with with_app(sessions) as (pair, _notes):
        pid = pair.runner.pid
        pair.control.post("/say", all=True, n=10)
        wait_handled(pair, 10 * sessions)
        time.sleep(QUIET_S)
        before, had = rss_bytes(pid), handled(pair)
        for contact in range(contacts):
            pair.control.post("/say", all=True, contact=contact)
        wait_handled(pair, had + contacts * sessions)
        time.sleep(QUIET_S)
        grown = rss_bytes(pid) - before
        data = Path(pair.runner.env["WHATSAPP_DATA_DIR"])
        disk = sum(path.stat().st_size for path in data.glob("*.db*"))
    return {
        "kind": "memory",
        "sessions": sessions,
        "contacts": contacts,
        "rss_grown_bytes": grown,
        "rss_grown_bytes_per_session": grown / sessions,
        "store_bytes_per_session_and_contact": disk / sessions / contacts,
    }


def main() -> None:
    """The three, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--name", default="messages", help="of the file in bench/results")
    args = parser.parse_args()
    rows = [
        cpu(args.sessions, args.messages),
        latency(args.samples),
        memory(min(20, args.sessions), args.contacts),
    ]
    summary = {
        "cpu_us_per_message": round(rows[0]["cpu_us_per_message"], 1),
        "messages_per_s": round(rows[0]["wall_per_s"]),
        "wire_to_handler_ms": {key: round(rows[1][f"ms_{key}"], 2) for key in ("p50", "p99")},
        "rss_bytes_per_session_of_many_contacts": round(rows[2]["rss_grown_bytes_per_session"]),
    }
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
