"""From a readable socket to the Trio task that sees the event, while other sessions are busy; milliseconds.

    python -m bench.scenarios.wake [--sessions 1000] [--loads 0,10000] [--samples 300]

A few sessions go through a proxy (`tap`) that notes when it wrote to their sockets; the rest get receipts
at the rate of `--loads` (stanzas a second over all sessions), which they acknowledge. One after the other,
a tapped session gets something, at random times:

- `closed`: a `<stream:error>`, which becomes an event without the store. Path: socket, TLS, client, outbox,
  eventfd, pump. Seen when the pump hands the event over.
- `messages`: a `<message>`, which is committed first. Seen (`messages`) when the pump hands the event over
  that says so, and (`taken`) when the Trio task has it from the store.

Both clocks are the machine's monotonic one, shared by its processes. The tap, the simulator and the runner
share the cores, and waiting for a core is in the figures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import IO, Any

import trio

from bench.scenarios.bare import Bare, bare
from bench.scenarios.measure import ROOT, save, tail
from bench.scenarios.receive import figures, using
from runner.engine import EngineEvent

TAPPED = 20
PATIENCE_S = 20.0
PAUSE_S = (0.005, 0.03)
"""Between two samples; at random, so that they do not march in step with a timer or a batch."""
STREAM_ERROR = 503


@dataclass(frozen=True, slots=True)
class Seen:
    """One sample: when it was ordered (nothing before counts) and when Python saw it."""

    session_id: str
    ordered_ns: int
    seen_ns: int


def parse_writes(lines: Iterable[str]) -> dict[str, list[int]]:
    """The tap's log: for each session the times of the writes to it, and (as `>ID`) from it, ascending."""
    writes: dict[str, list[int]] = {}
    for line in lines:
        session_id, at_ns, _bytes = line.split()
        writes.setdefault(session_id, []).append(int(at_ns))
    return writes


def first_write_ns(writes: Mapping[str, Sequence[int]], sample: Seen) -> int:
    """The first write after the order.

    Errors: LookupError when it was not before what was seen; then it was not this write that was seen.
    """
    times = writes.get(sample.session_id, ())
    place = bisect_left(times, sample.ordered_ns)
    if place == len(times) or times[place] > sample.seen_ns:
        raise LookupError(f"{sample}: nothing was written in between")
    return times[place]


def delays_ms(writes: Mapping[str, Sequence[int]], samples: Iterable[Seen]) -> list[float]:
    """From the first write after the order to what Python saw of it. Errors: as `first_write_ns`."""
    return [(sample.seen_ns - first_write_ns(writes, sample)) / 1e6 for sample in samples]


@dataclass(frozen=True, slots=True)
class Tap:
    """The proxy as a process of its own; it also gives the orders."""

    port: int
    orders: IO[str]

    def order(self, control: str, route: str, body: Mapping[str, object]) -> int:
        """Have the simulator do something; when that was, in nanoseconds."""
        ordered_ns = time.monotonic_ns()
        self.orders.write(json.dumps([control, route, body]) + "\n")
        self.orders.flush()
        return ordered_ns


@contextmanager
def tap(log: Path) -> Iterator[Tap]:
    """Start it, and end it with the block."""
    command = [sys.executable, "-m", "bench.scenarios.tap", str(log)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield Tap(int(child.stdout.readline()), child.stdin)
        finally:
            child.kill()


class Prober:
    """Orders one thing at a time for a tapped session and notes when it is seen."""

    def __init__(self, it: Bare, tapped: Sequence[str], through: Tap) -> None:
        self._it = it
        self._tapped = tapped
        self._tap = through
        self._connections = dict.fromkeys(tapped, 1)
        self._closed = trio.Event()
        self._messages = trio.Event()
        self._closed_ns = self._messages_ns = 0
        self._waits_for = ""
        self._rng = Random(1)
        it.route = self.route

    def route(self, event: EngineEvent) -> None:
        """What the pump hands over; noted before anything else is done with it."""
        if event.kind == "messages":
            self._messages_ns = time.monotonic_ns()
            self._messages.set()
        elif event.kind == "closed" and event.session_id == self._waits_for:
            self._closed_ns = time.monotonic_ns()
            self._closed.set()

    async def _order(self, route: str, session_id: str, **body: object) -> int:
        await trio.sleep(self._rng.uniform(*PAUSE_S))
        body["user"] = self._it.users[session_id]
        return self._tap.order(self._it.control.url, route, body)

    async def messages(self, n: int) -> tuple[list[Seen], list[Seen]]:
        """The event of each message, and the message itself."""
        events, taken, last = [], [], 0
        for place in range(n):
            session_id = self._tapped[place % len(self._tapped)]
            self._messages = trio.Event()
            ordered_ns = await self._order("/push", session_id, n=1, template="message")
            with trio.fail_after(PATIENCE_S):
                await self._messages.wait()
            rows = await trio.to_thread.run_sync(self._it.store.take, last, 10)
            taken_ns = time.monotonic_ns()
            assert [row.session_id for row in rows] == [session_id], "one message at a time"
            last = rows[-1].seq
            events.append(Seen(session_id, ordered_ns, self._messages_ns))
            taken.append(Seen(session_id, ordered_ns, taken_ns))
            await trio.to_thread.run_sync(self._it.store.done, [last])
        return events, taken

    async def closings(self, n: int) -> list[Seen]:
        """The end of a connection; each is dialled again and is online before the next."""
        found = []
        for place in range(n):
            session_id = self._tapped[place % len(self._tapped)]
            self._closed, self._waits_for = trio.Event(), session_id
            ordered_ns = await self._order("/stream-error", session_id, code=STREAM_ERROR)
            with trio.fail_after(PATIENCE_S):
                await self._closed.wait()
            found.append(Seen(session_id, ordered_ns, self._closed_ns))
            self._connections[session_id] += 1
            self._it.dial(session_id, self._connections[session_id])
            await self._it.wait_online(len(self._it.users))
        return found


async def load(it: Bare, users: Sequence[str], rate: float) -> None:
    """Receipts for these users until cancelled."""
    while True:
        each = max(1, round(5 * rate / len(users)))
        order = partial(it.control.post, "/push", users=list(users), n=each, template="receipt", rate=rate)
        await trio.to_thread.run_sync(order, abandon_on_cancel=True)


async def one(sessions: int, rate: float, samples: int) -> dict[str, Any]:
    """One load: all samples of it."""
    with tempfile.TemporaryDirectory(prefix="runner-tap-") as name:
        log = Path(name) / "writes"
        with tap(log) as through:
            tapped = [f"sim-{place:05}" for place in range(1, min(TAPPED, sessions) + 1)]
            proxies = {session_id: f"http://{session_id}:x@127.0.0.1:{through.port}" for session_id in tapped}
            async with bare(sessions, proxies) as it, trio.open_nursery() as nursery:
                others = [user for session_id, user in it.users.items() if session_id not in proxies]
                if rate and others:
                    nursery.start_soon(load, it, others, rate)
                prober = Prober(it, tapped, through)
                acks = it.control.stats()["acks"]
                async with using(it) as used:
                    closed = await prober.closings(samples)
                    events, taken = await prober.messages(samples)
                acks = it.control.stats()["acks"] - acks
                nursery.cancel_scope.cancel()
        writes = parse_writes(log.read_text().splitlines())
    return {
        "sessions": sessions,
        "load_per_s": rate,
        "samples": samples,
        "closed_ms": tail(delays_ms(writes, closed)),
        "messages_ms": tail(delays_ms(writes, events)),
        "taken_ms": tail(delays_ms(writes, taken)),
        "answered_per_s": acks / used.wall_s,
        **{key: value for key, value in figures(max(acks, 1), used).items() if key.endswith("_busy")},
    }


def main() -> None:
    """All loads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--loads", default="0,10000", help="stanzas a second over all sessions")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--name", default="wake", help="of the file in bench/results")
    args = parser.parse_args()
    rates = [float(rate) for rate in args.loads.split(",")]
    rows = [trio.run(one, args.sessions, rate, args.samples) for rate in rates]
    summary = {
        f"load={row['load_per_s']:g}": {key: row[key] for key in ("closed_ms", "messages_ms", "taken_ms")}
        for row in rows
    }
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
