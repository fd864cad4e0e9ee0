"""The truth of every surface, during a storm and after it.

The runner tells each change of a session with its number (`surfaces.Account`), so the state of every session
after each change is known. Whatever a surface shows says which change it is of: a count of sessions by state
must be the count after that change, a row must be what that change made of the session, and no session with
one connection and one `since` may ever be shown in two states. What is counted never goes back, is the same
on two surfaces that show the same reading, and lies between what the simulator had counted before and what
it has counted after.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from support import surfaces
from support.processes import wait_until
from support.surfaces import Account, Row, Sample, Sampler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from support.pair import Pair

LISTS = ("/api/sessions", "/reconnection-status", "/performance-metrics")


class History:
    """What the account says: each change, what each session was then, and the sessions by state."""

    def __init__(self, before: Sample, changes: Sequence[Row], wanted: Iterable[int | None]) -> None:
        """`before`: all sessions when the account began. `wanted`: the changes whose counts are asked for."""
        self.problems: list[str] = []
        states = {row.id: row.state for row in before.rows}
        counts, asked = Counter(states.values()), set(wanted)
        self._rows = {(row.id, row.revision): row for row in before.rows}
        self._numbers = {row.id: [row.revision or 0] for row in before.rows}
        self._first = self._last = before.revision or 0
        self._counts = {self._first: dict(counts)}
        for row in changes:
            self._last += 1
            if row.revision != self._last:
                self.problems.append(f"the account says {row.revision} after {self._last - 1}")
                return
            counts[states[row.id]] -= 1
            counts[row.state] += 1
            states[row.id] = row.state
            self._rows[row.id, self._last] = row
            self._numbers[row.id].append(self._last)
            if self._last in asked:
                self._counts[self._last] = dict(+counts)

    def counts(self, revision: int | None) -> dict[str, int] | None:
        """Sessions by state after that change, those of which there are some; None: not known."""
        return None if revision is None else self._counts.get(revision)

    def row(self, session_id: str, revision: int) -> Row | None:
        """What that change made of the session."""
        return self._rows.get((session_id, revision))

    def number(self, session_id: str, revision: int | None) -> int:
        """The session's last change up to that one; 0: not known."""
        if revision is None or not self._first <= revision <= self._last:
            return 0
        numbers = self._numbers[session_id]
        return numbers[bisect.bisect_right(numbers, revision) - 1]


@dataclass(slots=True)
class Judge:
    """Takes samples in their order and keeps what contradicts."""

    history: History
    problems: list[str] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """How many of each surface were compared."""
    _named: dict[tuple[str, int, int], tuple[str, str]] = field(default_factory=dict)
    _latest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    _readings: dict[tuple[int, str], tuple[float, str]] = field(default_factory=dict)
    _totals: dict[tuple[str, str], float] = field(default_factory=dict)

    def hear(self, sample: Sample) -> None:
        """One sample; those of one surface come in order."""
        wanted = self.history.counts(sample.revision)
        if sample.counts is not None and wanted is not None:
            self.counts[sample.surface] += 1
            if sample.counts != wanted:
                self._say(sample, f"after change {sample.revision} shows {sample.counts}, not {wanted}")
        for row in sample.rows:
            self.rows[sample.surface] += 1
            self._hear_row(sample, row)
        for name, value in {**sample.live, **sample.read}.items():
            before = self._totals.get((sample.surface, name), 0.0)
            if value < before and name != "active_connections":
                self._say(sample, f"{name} went back from {before} to {value}")
            self._totals[sample.surface, name] = value
        if sample.reading is not None:
            for name, value in sample.read.items():
                first, where = self._readings.setdefault((sample.reading, name), (value, sample.surface))
                if first != value:
                    self._say(sample, f"{name} of reading {sample.reading} is {value}, {where} said {first}")

    def _hear_row(self, sample: Sample, row: Row) -> None:
        named = (row.id, row.connection, row.since_ms)
        state, where = self._named.setdefault(named, (row.state, sample.surface))
        if state != row.state:
            self._say(sample, f"{named} is {row.state}, {where} said {state}")
        order = (row.since_ms, row.connection)
        latest = self._latest.get((sample.surface, row.id), order)
        self._latest[sample.surface, row.id] = order
        if order[0] < latest[0]:
            self._say(sample, f"{row.id} went back from {latest} to {order}")
        if row.revision is None:
            return
        told = self.history.row(row.id, row.revision)
        if told is not None and told != row:
            self._say(sample, f"{row}, and the account says {told}")
        newest = self.history.number(row.id, sample.revision)
        if row.revision < newest:
            self._say(sample, f"knows change {sample.revision} and shows {row}, not change {newest}")

    def sandwich(self, ours: Iterable[Sample], theirs: Sequence[Sample]) -> int:
        """Every figure of ours lies between what the simulator had counted before and has counted after."""
        ends, begins = [it.ended for it in theirs], [it.began for it in theirs]
        compared = 0
        for sample in ours:
            for is_read, figures, names in ((False, sample.live, LIVE), (True, sample.read, READ)):
                # A reading is older than the answer, by its age; 1 ms is its rounding.
                age_s = sample.reading_age_s + 0.001 if is_read else 0.0
                place = bisect.bisect_right(ends, sample.began - age_s) - 1
                later = bisect.bisect_left(begins, sample.ended)
                for name, (least, most) in names.items():
                    if name not in figures:
                        continue
                    if least and place >= 0:
                        compared += 1
                        if figures[name] < theirs[place].live[least]:
                            self._say(
                                sample, f"{name} {figures[name]}, before {theirs[place].live[least]} {least}"
                            )
                    if most and later < len(theirs):
                        compared += 1
                        if figures[name] > theirs[later].live[most]:
                            self._say(
                                sample, f"{name} {figures[name]}, after {theirs[later].live[most]} {most}"
                            )
        return compared

    def _say(self, sample: Sample, text: str) -> None:
        self.problems.append(f"{sample.surface}: {text}")


LIVE = {"dials": ("connections", ""), "logins": ("", "logins")}
READ = {
    "pings_sent": ("pings", ""),
    "pongs_received": ("", "pings"),
    "messages_received": ("answers", "deliveries"),
}
"""Ours: what the simulator counted before is not more, what it counts after is not less."""


@dataclass(slots=True)
class Watch:
    """All surfaces of a pair under observation; `verdict` when the block is over."""

    pair: Pair
    account: Account
    before: Sample
    samplers: list[Sampler]
    more: list[Sample] = field(default_factory=list)
    """Samples that nobody takes ten times a second here: pages of the dashboard, the command line."""

    def look_by_command(self) -> None:
        """What the command line says now."""
        self.more.append(surfaces.command(self.pair.runner.env))

    def wait_told(self) -> None:
        """Until the account has come to the last change."""
        wait_until(
            lambda: (
                self.account.revision
                >= (surfaces.listed(self.pair.runner.socket, "/api/sessions").revision or 0)
            ),
            30.0,
            "the account of the last change",
        )

    def verdict(self) -> dict[str, Any]:
        """What was compared; fails with what contradicts."""
        assert not self.account.lost, f"{self.account.lost} events lost: WHATSAPP_EVENT_QUEUE is too small"
        by_surface: dict[str, list[Sample]] = defaultdict(list)
        for sample in [*(it for sampler in self.samplers for it in sampler.samples), *self.more]:
            by_surface[sample.surface].append(sample)
        wanted = (sample.revision for samples in by_surface.values() for sample in samples)
        history = History(self.before, self.account.changes, wanted)
        judge = Judge(history)
        for change in self.account.changes:
            judge.hear(Sample("the account", rows=[change]))
        for samples in by_surface.values():
            for sample in samples:
                judge.hear(sample)
        theirs = by_surface.pop("simulator")
        between = judge.sandwich((it for samples in by_surface.values() for it in samples), theirs)
        problems = history.problems + judge.problems
        assert not problems, f"{len(problems)} contradictions: " + "\n".join(problems[:10])
        return {
            "changes": len(self.account.changes),
            "samples": {name: len(samples) for name, samples in by_surface.items()},
            "rows_compared": dict(judge.rows),
            "counts_compared": dict(judge.counts),
            "figures_between_the_simulators": between,
            "contradictions": 0,
        }


@contextmanager
def watched(p: Pair) -> Iterator[Watch]:
    """Reads every surface ten times a second while the block runs. The fleet is at rest when it begins."""
    socket_path = p.runner.socket
    looks = [
        *(partial(surfaces.listed, socket_path, path) for path in LISTS),
        partial(surfaces.prometheus, socket_path),
        partial(surfaces.simulated, p.control),
    ]
    with Account(socket_path) as account, ExitStack() as stack:
        before = surfaces.listed(socket_path, "/api/sessions")
        samplers = [stack.enter_context(Sampler(look)) for look in looks]
        watch = Watch(p, account, before, samplers)
        yield watch
        watch.wait_told()
