"""Small stanzas a second: through the engine's thread to its counters, and as messages to a Python consumer.

    python -m bench.scenarios.receive [--sessions 1,50,500] [--total 200000] [--messages 40000] [--rate 0]

`counters`: `ib` is the simplest stanza and asks for no answer; `receipt` is answered with an ack, as the
protocol demands, and counts when the simulator has the last ack. `consumer`: a `<message>` is committed,
answered, taken from the store by Python and confirmed with `done`; it counts when `done` has returned.
`message` is a newsletter's, which nobody encrypts; `encrypted` is a contact's text, decrypted with its
session's records.

The simulator pushes as fast as the sockets take it (`--rate`: so many a second) and shares the cores with
what is measured. So each row has the wall rate, the rate for each CPU second of the I/O thread and of the
whole process, how busy both sides were, and who was the bottleneck. The CPU rate is what a core of its own
would give.
"""

import argparse
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from bench.scenarios import baileys
from bench.scenarios.bare import Bare, bare
from bench.scenarios.measure import ThreadUse, save, threads, threads_since
from runner.engine import EngineEvent

IO_THREAD, SIMULATOR_THREAD = "runner-io", "runner-sim"
TAKE = 2_000
"""Messages that the consumer takes and confirms at once."""
WARM_UP = 5_000
PATIENCE_S = 120.0
BUSY = 0.85
"""A thread that runs for this share of the time is at its limit, on cores that others use too."""
SAID_AT_ONCE = 10
"""Texts to each session in one order; the simulator encrypts all of them before it goes on."""
FRAMES_PER_MESSAGE = {"ib": (1, 16), "receipt": (1,)}


@dataclass(slots=True)
class Used:
    """What both sides used from the first stanza to the last."""

    wall_s: float = 0.0
    process_cpu_s: float = 0.0
    ours: dict[str, ThreadUse] = field(default_factory=dict)
    simulator: dict[str, ThreadUse] = field(default_factory=dict)


@asynccontextmanager
async def using(it: Bare) -> AsyncIterator[Used]:
    """Fills in what the block used."""
    used = Used()
    ours, simulator = threads(os.getpid()), threads(it.simulator_pid)
    cpu_s, began = time.process_time(), time.monotonic()
    yield used
    used.wall_s = time.monotonic() - began
    used.process_cpu_s = time.process_time() - cpu_s
    used.ours, used.simulator = threads_since(os.getpid(), ours), threads_since(it.simulator_pid, simulator)


def figures(n: int, used: Used) -> dict[str, Any]:
    """The rates of `n` stanzas, and who held them up."""
    nobody = ThreadUse(0.0, 0, 0)
    io, simulator = used.ours.get(IO_THREAD, nobody), used.simulator.get(SIMULATOR_THREAD, nobody)
    io_busy, simulator_busy = io.cpu_s / used.wall_s, simulator.cpu_s / used.wall_s
    return {
        "stanzas": n,
        "wall_per_s": n / used.wall_s,
        "per_io_cpu_s": n / io.cpu_s if io.cpu_s else 0.0,
        "per_process_cpu_s": n / used.process_cpu_s if used.process_cpu_s else 0.0,
        "cpu_us_by_thread": {name: use.cpu_s * 1e6 / n for name, use in sorted(used.ours.items())},
        "simulator_cpu_us": simulator.cpu_s * 1e6 / n,
        "io_busy": io_busy,
        "simulator_busy": simulator_busy,
        "bottleneck": bottleneck(io_busy, simulator_busy),
    }


def bottleneck(io_busy: float, simulator_busy: float) -> str:
    """Whose thread was at its limit; `neither`: they waited for each other, the store or Python."""
    if max(io_busy, simulator_busy) < BUSY:
        return "neither"
    return "io_thread" if io_busy >= simulator_busy else "simulator"


async def push(it: Bare, each: int, template: str, coalesce: int, rate: float) -> None:
    """Let the simulator send `each` stanzas to every session."""
    order = partial(
        it.control.post,
        "/push",
        {"all": True},
        n=each,
        template=template,
        coalesce=coalesce,
        rate=rate,
        maxSeconds=PATIENCE_S,
    )
    await trio.to_thread.run_sync(order)


def received(it: Bare) -> int:
    """Stanzas of all sessions so far."""
    return sum(row.stanzas_received for row in it.engine.counters())


async def until(condition: Callable[[], Awaitable[bool]], pause_s: float) -> None:
    """Ask until it holds."""
    with trio.fail_after(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - the other side is a thread of Rust, or a process
            await trio.sleep(pause_s)


async def to_counters(it: Bare, n: int, template: str, coalesce: int, rate: float) -> dict[str, Any]:
    """`n` stanzas over all sessions, counted and answered."""
    each = max(1, n // len(it.users))
    n = each * len(it.users)
    await trio.to_thread.run_sync(it.control.reset)
    wanted = received(it) + n

    async def counted() -> bool:
        return received(it) >= wanted

    async def answered() -> bool:
        stats = await trio.to_thread.run_sync(it.control.stats)
        return bool(stats["acks"] >= n)

    async with using(it) as used, trio.open_nursery() as nursery:
        nursery.start_soon(push, it, each, template, coalesce, rate)
        await until(counted, 0.01)
        if template == "receipt":
            await until(answered, 0.01)
    return {"kind": "counters", "template": template, "coalesce": coalesce, **figures(n, used)}


class Consumer:
    """Takes, looks at and confirms messages, as a program of a user's would."""

    def __init__(self, it: Bare) -> None:
        self._store = it.store
        self._wake = trio.Event()
        self.confirmed = 0
        self.stanza_bytes = 0
        it.route = self.route

    def route(self, event: EngineEvent) -> None:
        """`messages` says only that there are some."""
        if event.kind == "messages":
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        last = 0
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while messages := await trio.to_thread.run_sync(self._store.take, last, TAKE):
                self.stanza_bytes += sum(len(message.stanza) for message in messages)
                await trio.to_thread.run_sync(self._store.done, [message.seq for message in messages])
                last = messages[-1].seq
                self.confirmed += len(messages)


async def say(it: Bare, each: int) -> None:
    """Contacts write `each` encrypted texts to every session."""
    for done in range(0, each, SAID_AT_ONCE):
        order = partial(it.control.post, "/say", {"all": True}, n=min(SAID_AT_ONCE, each - done))
        await trio.to_thread.run_sync(order)


async def to_consumer(it: Bare, n: int, template: str, rate: float) -> dict[str, Any]:
    """`n` messages over all sessions, committed, taken, confirmed; `encrypted` ones are decrypted first."""
    each = max(1, n // len(it.users))
    n = each * len(it.users)
    consumer = Consumer(it)

    async def confirmed() -> bool:
        return consumer.confirmed >= n

    before = it.store.health()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run)
        async with using(it) as used, trio.open_nursery() as pushing:
            if template == "encrypted":
                pushing.start_soon(say, it, each)
            else:
                pushing.start_soon(push, it, each, template, 1, rate)
            await until(confirmed, 0.005)
        nursery.cancel_scope.cancel()
    after = it.store.health()
    commits = after.commits_total - before.commits_total
    return {
        "kind": "consumer",
        "template": template,
        "coalesce": 1,
        **figures(n, used),
        "commits": commits,
        "messages_per_commit": n / commits if commits else 0.0,
        "stanza_bytes": consumer.stanza_bytes / n,
    }


async def cells(sessions: int, total: int, messages: int, rate: float) -> list[dict[str, Any]]:
    """All cells of one fleet, after a warm-up."""
    async with bare(sessions) as it:
        await to_counters(it, WARM_UP, "receipt", 1, 0.0)
        rows = [
            await to_counters(it, total, template, coalesce, rate)
            for template, widths in FRAMES_PER_MESSAGE.items()
            for coalesce in widths
        ]
        rows += [await to_consumer(it, messages, template, rate) for template in ("message", "encrypted")]
    return [{"sessions": sessions, **row} for row in rows]


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Wall rate, CPU rate and bottleneck of each cell; the last run counts."""
    return {
        f"{row['kind']} {row['template']} sessions={row['sessions']} coalesce={row['coalesce']}": {
            key: row[key] if isinstance(row[key], str) else round(row[key])
            for key in ("wall_per_s", "per_io_cpu_s", "per_process_cpu_s", "bottleneck")
        }
        for row in rows
    }


def main() -> None:
    """All cells, then Baileys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", default="1,50,500")
    parser.add_argument("--total", type=int, default=200_000, help="stanzas of a cell that ends in counters")
    parser.add_argument("--messages", type=int, default=40_000, help="messages of a cell with a consumer")
    parser.add_argument("--rate", type=float, default=0.0, help="stanzas a second; 0: as fast as they go")
    parser.add_argument("--peer", default="1,50", help="sessions of Baileys; empty: without")
    parser.add_argument("--name", default="receive", help="of the file in bench/results")
    args = parser.parse_args()
    rows = []
    for sessions in [int(n) for n in args.sessions.split(",")]:
        rows += trio.run(cells, sessions, args.total, args.messages, args.rate)
    summary = summarise(rows)
    if args.peer:
        options = ["--runs", "1", "--total", "20000", "--coalesce", "1", "--templates", "ib,receipt,message"]
        peer = baileys.run("bench_receive.mjs", *options, "--sessions", args.peer)
        summary["baileys"] = {
            cell: {
                "per_s": told.get("ackedPerSecond", told["eventsPerSecond"])["median"],
                "client_cpu_us": told["clientCpuUsPerNode"]["median"],
            }
            for cell, told in peer["summary"].items()
        }
    save(args.name, summary, rows)


if __name__ == "__main__":
    main()
