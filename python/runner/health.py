"""Health: what the probes say, what follows from it, and what never does.

`judge` is pure: facts in, findings out. Its rules, each bought with somebody's outage:

- Silence alone is never proof of death; an unanswered probe is. A quiet account is a healthy account.
- A deaf session (pings answered, but something that must come does not) is rebuilt, and only that one.
- When much of the fleet looks deaf, or the store or the engine or this very loop lags, the fault is ours:
  an incident is raised and nothing is rebuilt.
- At most one action per session and period (`History.may_rebuild`): a watchdog must not be the outage.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog
import trio

from runner.counters import known
from runner.errors import EngineFailedError
from runner.reconnect.incidents import DISK_FULL, DISK_FULL_TEXT
from runner.session import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runner.counters import Reading
    from runner.supervisor import Supervisor
    from runner.supervisor.row import Row

log = structlog.get_logger()

DEAF_PROBES: Final = frozenset(
    {"iq_unanswered", "offline_missing", "send_unacked", "stanza_unanswered", "pong_overdue"}
)
"""Failing probes that a new connection can mend."""
TICK_S: Final = 1.0
ROWS_A_STEP: Final = 200
FRESH_S: Final = 1.0
"""A look takes a reading of the counters that is no older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From where on something counts as wrong. Seconds, unless the name says otherwise."""

    pong_overdue_s: float = 90.0
    """The engine ends a connection 32 s after a lost ping; three times that means that the engine did not."""
    deaf_fleet_ratio: float = 0.05
    deaf_fleet_min_sessions: int = 3
    """Below this many, a share of the fleet says nothing: two of ten are two sessions."""
    loop_lag_s: float = 2.0
    engine_lag_s: float = 1.0
    heartbeat_s: float = 5.0
    store_age_s: float = 5.0
    stuck_grace_s: float = 60.0
    """How far past its deadline a state must be before health says that the scheduler forgot it."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What health looks at in one session."""

    session_id: str
    is_open: bool
    """Online or degraded."""
    failing: frozenset[str] = frozenset()
    unanswered_pings: int = 0
    last_pong_age_s: float | None = None
    """Since the last answered ping or, before the first, since the login; None: not known."""
    overdue_s: float = 0.0
    """How far its state is past the deadline; 0 when it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """What health looks at beside the sessions."""

    loop_lag_s: float = 0.0
    engine_lag_s: float = 0.0
    heartbeat_age_s: float = 0.0
    store_age_s: float = 0.0
    lock_wait_s: float = 0.0
    disk_full: bool = False


class Action(StrEnum):
    """What a finding asks for."""

    FAIL = "fail"
    """This probe fails: the session is degraded."""
    PASS = "pass"
    REBUILD = "rebuild"
    KICK = "kick"
    """The scheduler forgot this session."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to do about one session."""

    session_id: str
    action: Action
    probe: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that follows from one look."""

    findings: tuple[Finding, ...]
    incidents: Mapping[str, tuple[str, str]]
    """Kind -> (severity, text) of all that is wrong now; a kind of `INCIDENTS` that is absent is over."""
    deaf: int
    open: int


INCIDENTS: Final = ("event_loop_lag", "engine_lag", "store_lag", DISK_FULL, "deaf_fleet")


def judge(fleet: FleetFacts, sessions: Iterable[SessionFacts], limits: Limits, *, well: int = 0) -> Judgement:
    """What is wrong and what follows. Pure. `well` more sessions are open and need no closer look."""
    judging = Judging(fleet, limits)
    for facts in sessions:
        judging.hear(facts)
    return judging.end(well)


class Judging:
    """`judge` in steps: sessions are heard one by one. `findings` are those so far; deafness comes last."""

    def __init__(self, fleet: FleetFacts, limits: Limits) -> None:
        self.findings: list[Finding] = []
        self._fleet, self._limits = fleet, limits
        self._incidents = dict(_fleet_incidents(fleet, limits))
        self._deaf: list[Finding] = []
        self._open = 0

    def hear(self, facts: SessionFacts) -> None:
        """What of one session follows by itself."""
        limits, incidents = self._limits, self._incidents
        if facts.overdue_s > limits.stuck_grace_s:
            self.findings.append(Finding(facts.session_id, Action.KICK, "overdue"))
        if not facts.is_open:
            return
        self._open += 1
        failing = set(facts.failing)
        self.findings.extend(
            _probe(facts, failing, "pong_overdue", fails=_is_pong_overdue(facts, incidents, limits))
        )
        self.findings.extend(_probe(facts, failing, DISK_FULL, fails=self._fleet.disk_full))
        heard = sorted(failing & DEAF_PROBES)
        if heard:
            self._deaf.append(Finding(facts.session_id, Action.REBUILD, heard[0]))

    def end(self, well: int) -> Judgement:
        """What follows from all of them, and from `well` more."""
        deaf, open_sessions = len(self._deaf), self._open + well
        limits, incidents = self._limits, dict(self._incidents)
        if deaf >= limits.deaf_fleet_min_sessions and deaf > limits.deaf_fleet_ratio * open_sessions:
            text = (
                f"{deaf} of {open_sessions} sessions look deaf; the fault is not theirs, nothing is rebuilt"
            )
            incidents["deaf_fleet"] = ("critical", text)
        found = self.findings if incidents else self.findings + self._deaf
        return Judgement(tuple(found), incidents, deaf, open_sessions)


def _probe(facts: SessionFacts, failing: set[str], probe: str, *, fails: bool) -> Iterable[Finding]:
    if fails == (probe in failing):
        return
    if fails:
        failing.add(probe)
        yield Finding(facts.session_id, Action.FAIL, probe)
    else:
        failing.discard(probe)
        yield Finding(facts.session_id, Action.PASS, probe)


def _is_pong_overdue(facts: SessionFacts, incidents: Mapping[str, object], limits: Limits) -> bool:
    """Pings stay unanswered for long. While our own clockwork lags, that says nothing about the peer."""
    if incidents or facts.last_pong_age_s is None or facts.unanswered_pings <= 0:
        return False
    return facts.last_pong_age_s > limits.pong_overdue_s


def _fleet_incidents(fleet: FleetFacts, limits: Limits) -> Iterable[tuple[str, tuple[str, str]]]:
    if fleet.loop_lag_s > limits.loop_lag_s:
        yield "event_loop_lag", ("warning", f"the python thread was blocked for {fleet.loop_lag_s:.1f} s")
    if fleet.heartbeat_age_s > limits.heartbeat_s:
        yield "engine_lag", ("critical", f"no turn of the engine for {fleet.heartbeat_age_s:.1f} s")
    elif fleet.engine_lag_s > limits.engine_lag_s:
        yield "engine_lag", ("critical", f"the engine was {fleet.engine_lag_s:.1f} s late in the last minute")
    if fleet.disk_full:
        yield DISK_FULL, ("critical", DISK_FULL_TEXT)
    elif fleet.store_age_s > limits.store_age_s:
        text = f"the store has not committed for {fleet.store_age_s:.1f} s"
        if fleet.lock_wait_s > 0:
            text += f": another process has had the database locked for {fleet.lock_wait_s:.1f} s"
        yield "store_lag", ("critical", text)


@dataclass(frozen=True, slots=True)
class Report:
    """The last look, for the admin API and the metrics."""

    fleet: FleetFacts
    deaf: int = 0
    open: int = 0
    rebuilt: int = 0
    looks_total: int = 0


def _not_well(
    rows: Iterable[Row], reading: Reading, place_of: Callable[[str], int | None], limits: Limits
) -> list[Row]:
    """The rows in which a closer look could find anything: of ten thousand a handful, and it costs ten times
    as much. The others are online, answer their pings, and nothing is being done about them."""
    online, connections = State.ONLINE, reading.connections
    pong_ages_s, overdue_s = reading.last_pong_ages_s, limits.pong_overdue_s
    return [
        row
        for row in rows
        if row.state is not online
        or row.closing is not None
        or row.failing
        or row.online_at is None
        or (place := place_of(row.session_id)) is None
        or connections[place] != row.connection
        # Without a pong the age is not a number, which is not below anything.
        or not pong_ages_s[place] <= overdue_s
    ]


class Health:
    """The loop around `judge`."""

    def __init__(
        self, supervisor: Supervisor, interval_s: float = 30.0, limits: Limits | None = None
    ) -> None:
        self._supervisor = supervisor
        self.interval_s = interval_s
        self._limits = limits or Limits()
        self._lag_s = 0.0
        self.rebuilt_total = 0
        self.report = Report(FleetFacts())

    async def run(self) -> None:
        """Look every interval, until cancelled. The lag of this loop is taken every second in between."""
        look_at = trio.current_time() + self.interval_s
        while True:
            wanted = trio.current_time() + TICK_S
            await trio.sleep_until(min(wanted, look_at))
            now = trio.current_time()
            self._lag_s = max(self._lag_s, now - min(wanted, look_at))
            if now >= look_at:
                await self._supervisor.machine.engine.counters.refresh_aside()
                await self._look_in_turns()
                self._lag_s = 0.0
                look_at = now + self.interval_s

    def look(self) -> Report:
        """One look at everything, and what follows from it."""
        for _ in self._looking():
            pass
        return self.report

    async def _look_in_turns(self) -> None:
        """The same with turns for others: ten thousand sessions in a storm are a twentieth of a second."""
        for _ in self._looking():
            await trio.lowlevel.checkpoint()

    def _looking(self) -> Iterator[None]:
        machine = self._supervisor.machine
        stats, store = machine.engine.stats(), machine.store.health()
        fleet = FleetFacts(
            loop_lag_s=self._lag_s,
            engine_lag_s=stats.loop_lag_s,
            heartbeat_age_s=stats.heartbeat_age_s,
            store_age_s=store.oldest_age_s,
            lock_wait_s=store.lock_wait_s,
            disk_full=store.disk_full,
        )
        table, judging = machine.engine.counters, Judging(fleet, self._limits)
        reading, place_of = table.refresh_within(FRESH_S), table.rows.get
        remaining, well, done = iter(list(machine.rows.values())), 0, 0
        while rows := list(islice(remaining, ROWS_A_STEP)):
            now = machine.now()
            closer = rows if fleet.disk_full else _not_well(rows, reading, place_of, self._limits)
            well += len(rows) - len(closer)
            for row in closer:
                judging.hear(self._facts(row, reading, place_of(row.session_id), now))
            # At once: in the next step it may be another connection that is open.
            for finding in judging.findings[done:]:
                self._act(finding)
            done = len(judging.findings)
            yield
        judgement = judging.end(well)
        for kind in INCIDENTS:
            if kind in judgement.incidents:
                machine.raise_incident(kind, "", *judgement.incidents[kind])
            else:
                machine.end_incident(kind, "")
        rebuilt = sum(self._act(finding) for finding in judgement.findings[done:])
        self.rebuilt_total += rebuilt
        if judgement.findings:
            self._supervisor.wake()
        looks = self.report.looks_total + 1
        self.report = Report(fleet, judgement.deaf, judgement.open, rebuilt, looks)

    def _facts(self, row: Row, reading: Reading, place: int | None, now: float) -> SessionFacts:
        is_open = row.state in (State.ONLINE, State.DEGRADED) and row.closing is None
        unanswered, pong_age_s = 0, None
        if is_open and place is not None and reading.connections[place] == row.connection:
            unanswered = reading.pings_unanswered[place]
            pong_age_s = known(reading.last_pong_ages_s[place])
            if pong_age_s is None:
                pong_age_s = known(reading.online_ages_s[place])
        failing = frozenset(row.failing or ())
        overdue_s = self._supervisor.machine.overdue_s(row, now)
        return SessionFacts(row.session_id, is_open, failing, unanswered, pong_age_s, overdue_s)

    def _act(self, finding: Finding) -> int:
        machine = self._supervisor.machine
        row = machine.rows.get(finding.session_id)
        if row is None:
            return 0
        try:
            return self._act_on(row, finding)
        except EngineFailedError:
            raise
        except Exception as error:  # a bug in one row ends no other (docs/decisions/0005)
            machine.fault(row, f"health {finding.action}", error)
            return 0

    def _act_on(self, row: Row, finding: Finding) -> int:
        machine = self._supervisor.machine
        match finding.action:
            case Action.FAIL | Action.PASS:
                machine.mark(row, finding.probe, healthy=finding.action is Action.PASS, now=machine.now())
            case Action.KICK:
                machine.kick(row)
            case Action.REBUILD if finding.probe in (row.failing or ()):
                return int(machine.rebuild(row, finding.probe))
            case _:
                pass
        return 0
