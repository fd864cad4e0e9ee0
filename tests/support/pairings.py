"""Many phones are linked at once, half by QR code and half by a typed code: what the others notice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.pair import Pair

BAR_MEMORY_BYTES = 256 * 1024**2
FIRST_PHONE = 4_915_550_000_000
"""Of those into which a code is typed."""
_EVERY_S = 0.25


@dataclass(slots=True)
class Pongs:
    """Round trips of pings as the runner tells them of each session, in milliseconds; each one once."""

    p: Pair
    seen: set[tuple[str, float]] = field(default_factory=set)
    """Told to the microsecond: the same twice in a row is the same ping."""

    def look(self) -> None:
        """Take what each session of the fleet says of its last ping."""
        rows = self.p.rows()
        for session_id in self.p.users:
            rtt = rows[session_id]["pongRttMs"]
            if rtt is not None:
                self.seen.add((session_id, rtt))

    def during(self, is_over: Callable[[], bool]) -> list[float]:
        """The round trips that ended from now on until `is_over`."""
        pause = threading.Event()
        self.look()
        before = frozenset(self.seen)
        while not is_over():
            pause.wait(_EVERY_S)
            self.look()
        return [rtt for _, rtt in self.seen - before]


@dataclass(frozen=True, slots=True)
class Noticed:
    """What many pairings cost."""

    peak_bytes: int
    """How far the resident memory rose at most above what it was before."""
    calm_ms: list[float]
    """Pings of the sessions that were there, before the pairings."""
    meanwhile_ms: list[float]


def pairings(p: Pair, count: int, calm_s: float) -> Noticed:
    """`count` new sessions link a phone at once; before that, `calm_s` of nothing to compare with.

    Peak memory is asserted, and that nobody is disconnected. How long pings took is told: on a busy machine
    that says nothing of the runner.
    """
    pongs = Pongs(p)
    pause = threading.Event()
    ends = iter([False] * round(calm_s / _EVERY_S))
    calm = pongs.during(lambda: next(ends, True))
    before = resident_bytes(p.runner.pid, "VmRSS")
    with ThreadPoolExecutor(count) as people:
        links = [people.submit(link, p, i, pause) for i in range(count)]
        meanwhile = pongs.during(lambda: all(it.done() for it in links))
        for it in links:
            it.result()
    p.runner.wait_ready(p.n + count, 60.0)
    grown = resident_bytes(p.runner.pid, "VmHWM") - before
    assert grown < BAR_MEMORY_BYTES, f"{count} pairings took {grown / 1024**2:.0f} MiB"
    rows = p.rows()
    assert {rows[session_id]["connection"] for session_id in p.users} == {1}, "nobody was disconnected"
    stats = p.control.stats()
    assert (stats["paired"], stats["duplicates"], stats["protocolErrors"]) == (count, 0, 0)
    return Noticed(grown, calm, meanwhile)


def resident_bytes(pid: int, field: str) -> int:
    """`VmRSS` or its peak, `VmHWM`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def link(p: Pair, i: int, pause: threading.Event) -> None:
    """A new session, its code, and a phone that scans it or into which it is typed; until it is online."""
    name, phone = f"new-{i}", FIRST_PHONE + i
    assert p.runner.request("POST", "/api/sessions", {"id": name}, timeout_s=60.0)[0] == 201
    if i % 2:
        body = {"phoneNumber": str(phone)}
        path = f"/api/{name}/auth/request-code"
        status, shown = p.runner.request("POST", path, body, timeout_s=60.0)
        assert status == 200, shown
        p.control.post("/enter-code", code=shown["code"], phone=phone)
    else:
        status, shown = p.runner.request("GET", f"/api/{name}/auth/qr?format=raw", timeout_s=60.0)
        assert status == 200, shown
        p.control.post("/pair", qr=shown["value"])

    def is_online() -> bool:
        return bool(p.runner.request("GET", f"/api/sessions/{name}", timeout_s=60.0)[1]["state"] == "online")

    wait_until(is_online, 60.0, f"{name} online", every_s=0.2)
