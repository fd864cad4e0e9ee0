"""End-to-end messages to a handler in Python: CPU for each, milliseconds from the wire, memory.

    python -m bench.scenarios.messages [--sessions 50] [--messages 20000] [--samples 300] [--contacts 1000]

The runner is a whole process with an app, as a user runs it; the simulator is another, and encrypts.

- `cpu`: contacts write as fast as the simulator encrypts, until the handler has had all. CPU of the runner's
  process for each message, by thread; what it uses while nothing comes is taken off.
- `peer`: the same to real Baileys in one process, which keeps what changes in memory.
- `latency`: one message after the other to a session behind a proxy (`tap`) that notes what passes when; the
  handler notes when it is called, and answers with `message.reply`. To the handler: decryption, a commit with
  its fsync and the way to Python. The answer: from the handler's call until it is on the wire (encryption, a
  commit with its fsync), and until `reply` has returned (the server's ack, and the way to Python).
- `memory`: `--contacts` of the simulator write to each of a few sessions, and to each of three times as many,
  for the first time. By how much the process has grown when all is handled and quiet: the slope is what a
  session costs, the rest (the page cache of the store above all) is there once.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bench.scenarios import baileys
from bench.scenarios.measure import cpu_s, rss_bytes, save, tail, threads, threads_since
from bench.scenarios.wake import PAUSE_S, Seen, delays_ms, first_write_ns, parse_writes, tap
from support.control import Control
from support.pair import Pair, running, simulated
from support.processes import wait_until

PATIENCE_S = 300.0
FEW = 20
"""Sessions whose contacts are many."""
WARM_UP = 10
"""Samples that do not count: the first answer asks for the devices of whom it goes to."""
QUIET_S = 5.0
"""How long an idle runner is watched, and how long what was used once has to go."""
SAID_AT_ONCE = 10
SESSION = "sim-00001"

BOT = """
import mmap, os, time
from runner import App, Message, Session

app = App()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
called = memoryview(mmap.mmap(os.open(os.environ["CALLED"], os.O_RDWR), 8)).cast("Q")

@app.on_message
async def note(session: Session, message: Message) -> None:
    called[0] += 1  # whoever measures reads it there, and asks the runner nothing
    if "-" in (message.text or ""):  # only where each call counts: a write for each would be measured
        began_ns = time.monotonic_ns()
        await message.reply("heard")
        os.write(notes, f"{began_ns} {time.monotonic_ns()} {message.text}\\n".encode())
"""

CODE = """
import sys
sys.path.insert(0, {folder!r})
from runner.cli.main import cli
cli(["run", "timed_bot:app"])
"""


@dataclass(frozen=True, slots=True)
class Bot:
    """What the app tells of itself."""

    notes: Path
    """A line for each sample: when its handler was called, when `reply` had returned, its text."""
    called: Path
    """How often its handler was called, in eight bytes."""

    def calls(self) -> int:
        """How often its handler was called."""
        return int.from_bytes(self.called.read_bytes(), sys.byteorder)


@contextmanager
def with_app(n: int, settings: dict[str, str] | None = None) -> Iterator[tuple[Pair, Bot]]:
    """N sessions online in a runner with the app."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        directory = Path(name)
        (directory / "timed_bot.py").write_text(BOT)
        bot = Bot(directory / "notes", directory / "called")
        bot.notes.touch()
        bot.called.write_bytes(bytes(8))
        with simulated(directory, n, tls=settings is None) as simulator:
            code = CODE.format(folder=name)
            own = {"NOTES": str(bot.notes), "CALLED": str(bot.called)} | (settings or {})
            with running(directory, simulator, n, own, code=code) as pair:
                pair.runner.wait_ready(n, 60.0)
                yield pair, bot
                pair.runner.stop()


def handled(pair: Pair) -> int:
    """Messages that the handler is done with."""
    status, told = pair.runner.request("GET", "/performance-metrics?limit=0", timeout_s=30.0)
    assert status == 200, told
    return int(told["handlers"]["done"])


def wait_handled(pair: Pair, bot: Bot, n: int) -> None:
    """Until that many are. The runner is asked only when the handler was called so often."""
    wait_until(lambda: bot.calls() >= n, PATIENCE_S, f"{n} calls", every_s=0.01)
    wait_until(lambda: handled(pair) >= n, PATIENCE_S, f"{n} handled", every_s=0.2)


def say(control: Control, each: int) -> None:
    """Contacts write `each` texts to every session, as fast as the simulator encrypts."""
    for done in range(0, each, SAID_AT_ONCE):
        control.post("/say", all=True, n=min(SAID_AT_ONCE, each - done))


def cpu(sessions: int, messages: int) -> dict[str, Any]:
    """CPU of the runner for each message that contacts write as fast as they can."""
    with with_app(sessions) as (pair, bot):
        pid = pair.runner.pid
        say(pair.control, SAID_AT_ONCE)  # first contact is another matter
        wait_handled(pair, bot, SAID_AT_ONCE * sessions)
        time.sleep(QUIET_S)
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(QUIET_S)
        idle = (cpu_s(pid) - before) / (time.monotonic() - began)
        each = max(1, messages // sessions)
        n, had = each * sessions, handled(pair)
        by_thread, before, began = threads(pid), cpu_s(pid), time.monotonic()
        say(pair.control, each)
        wait_handled(pair, bot, had + n)
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


def peer(sessions: int, messages: int) -> dict[str, Any]:
    """The same messages of the same simulator to real Baileys, which keeps what changes in memory only."""
    with (
        tempfile.TemporaryDirectory(prefix="runner-bench-") as name,
        simulated(Path(name), sessions, tls=True) as simulator,
        baileys.receiver(simulator) as receiver,
    ):
        control = Control(simulator.control)
        say(control, SAID_AT_ONCE)
        wait_until(lambda: receiver.texts() >= SAID_AT_ONCE * sessions, PATIENCE_S, "warm", every_s=0.2)
        time.sleep(QUIET_S)
        each = max(1, messages // sessions)
        n, had = each * sessions, receiver.texts()
        before, began = cpu_s(receiver.pid), time.monotonic()
        say(control, each)
        wait_until(lambda: receiver.texts() >= had + n, PATIENCE_S, f"{n} read", every_s=0.05)
        wall_s = time.monotonic() - began
        return {
            "kind": "peer",
            "peer": f"baileys {receiver.version}",
            "sessions": sessions,
            "messages": n,
            "wall_per_s": n / wall_s,
            "cpu_us_per_message": (cpu_s(receiver.pid) - before) * 1e6 / n,
        }


def latency(samples: int) -> dict[str, Any]:
    """Milliseconds from the wire to the handler, and from there to its answer; one message at a time."""
    with tempfile.TemporaryDirectory(prefix="runner-tap-") as folder:
        log = Path(folder) / "tap"
        with tap(log) as through:
            proxy = {"WHATSAPP_PROXY": f"http://{SESSION}:x@127.0.0.1:{through.port}"}
            with with_app(1, proxy) as (pair, bot):
                (user,) = pair.users.values()
                seen, answered, rng = [], [], Random(1)
                for n in range(-WARM_UP, samples):
                    text = f"sample-{n}"
                    time.sleep(rng.uniform(*PAUSE_S))
                    ordered_ns = time.monotonic_ns()
                    pair.control.post("/say", user=user, text=text)
                    wait_until(
                        lambda text=text: bot.notes.read_text().endswith(f" {text}\n"),  # type: ignore[misc]
                        10.0,
                        text,
                        every_s=0.002,
                    )
                    called_ns, ended_ns = map(int, bot.notes.read_text().splitlines()[-1].split()[:2])
                    if n >= 0:
                        seen.append(Seen(SESSION, ordered_ns, called_ns))
                        answered.append(Seen(f">{SESSION}", called_ns, ended_ns))
                writes = parse_writes(log.read_text().splitlines())
    to_handler = delays_ms(writes, seen)
    to_wire = [(first_write_ns(writes, it) - it.ordered_ns) / 1e6 for it in answered]
    to_ack = [(it.seen_ns - it.ordered_ns) / 1e6 for it in answered]
    return {
        "kind": "latency",
        "samples": len(seen),
        **tail(to_handler, "ms_"),
        **tail(to_wire, "reply_to_wire_ms_"),
        **tail(to_ack, "reply_to_ack_ms_"),
    }


def memory(sessions: int, contacts: int, settle_s: float) -> dict[str, Any]:
    """What the process costs more once so many contacts have written to each session."""
    with with_app(sessions) as (pair, bot):
        pid = pair.runner.pid
        say(pair.control, SAID_AT_ONCE)
        wait_handled(pair, bot, SAID_AT_ONCE * sessions)
        time.sleep(QUIET_S)
        before, had = rss_bytes(pid), handled(pair)
        for contact in range(contacts):
            pair.control.post("/say", all=True, contact=contact)
        wait_handled(pair, bot, had + contacts * sessions)
        time.sleep(settle_s)
        grown = rss_bytes(pid) - before
        data = Path(pair.runner.env["WHATSAPP_DATA_DIR"])
        disk = sum(path.stat().st_size for path in data.glob("*.db*"))
    return {
        "kind": "memory",
        "sessions": sessions,
        "contacts": contacts,
        "rss_grown_bytes": grown,
        "store_bytes_per_session_and_contact": disk / sessions / contacts,
    }


def main() -> None:
    """All of them, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--peer", type=int, default=10_000, help="messages to Baileys; 0: without")
    parser.add_argument("--name", default="messages", help="of the file in bench/results")
    parser.add_argument(
        "--settle", type=float, default=40.0, help="seconds in which a burst's memory is given back"
    )
    args = parser.parse_args()
    few = min(FEW, args.sessions)
    rows = [
        cpu(args.sessions, args.messages),
        latency(args.samples),
        *(memory(n, args.contacts, args.settle) for n in (few, 3 * few)),
    ]
    of_few, of_many = (row["rss_grown_bytes"] for row in rows[2:])
    slope = (of_many - of_few) / (2 * few)
    if args.peer:
        rows.append(peer(args.sessions, args.peer))
    summary = {
        "cpu_us_per_message": round(rows[0]["cpu_us_per_message"], 1),
        "messages_per_s": round(rows[0]["wall_per_s"]),
        **{
            name: {key: round(rows[1][f"{prefix}{key}"], 2) for key in ("p50", "p99")}
            for name, prefix in (
                ("wire_to_handler_ms", "ms_"),
                ("reply_to_wire_ms", "reply_to_wire_ms_"),
                ("reply_to_ack_ms", "reply_to_ack_ms_"),
            )
        },
        "rss_bytes_per_session_of_many_contacts": round(slope),
        "rss_bytes_once": round(of_few - few * slope),
    }
    if args.peer:
        summary["baileys"] = {key: round(rows[-1][key]) for key in ("cpu_us_per_message", "wall_per_s")}
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
