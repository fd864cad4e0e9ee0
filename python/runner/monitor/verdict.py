"""What follows from a look, and from the one before it. Pure.

Levels and exit codes are those of Nagios plugins. CRITICAL: the runner is dead, hung, lying, not ready, has a
critical incident, or has lost most of its sessions. WARNING: a threshold is crossed, a warning incident is
open, or a noticeable share of the sessions is not online. A threshold alone is never critical: the sessions
may be well.

A runner lies when its words contradict the kernel or each other: it says that it is ready and its engine has
not turned, that sessions are online and no frame has come in since the last look, that it has run for longer
than its process has existed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.monitor.look import Look

WANTED_OFFLINE: Final = frozenset({"stopped", "pairing"})
"""States that somebody chose, or that wait for a person at a phone: not missing."""
HEARTBEAT_S: Final = 5.0
"""Without a turn of the engine for this long it is not ready, whatever it says."""
STILL_S: Final = 60.0
"""Between two looks this far apart every online session has pinged and been answered, whatever the preset."""
SLACK_S: Final = 5.0
"""Between the runner's clock and the kernel's."""
SETTLING_S: Final = 60.0
"""After a start, beside the time that the limiter needs for the fleet."""


class Level(IntEnum):
    """The exit code of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Bars:
    """From where on a share of sessions that are not online counts."""

    warning: float = 0.05
    critical: float = 0.5


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of the look before."""

    at: float
    pid: int
    started_at: int
    frames: int
    online: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line's worth."""

    level: Level
    texts: tuple[str, ...]
    """The worst first; empty when all is well."""
    summary: str
    perfdata: tuple[str, ...] = ()

    def line(self) -> str:
        """What a plugin prints: `LEVEL: text | perfdata`, on one line whatever the texts hold."""
        told = "; ".join(self.texts) if self.texts else self.summary
        clean = "".join(" " if not char.isprintable() else "/" if char == "|" else char for char in told)
        return f"{self.level.name}: {clean}" + (f" | {' '.join(self.perfdata)}" if self.perfdata else "")


Finding = tuple[Level, str]


def judge(look: Look, past: Past | None, bars: Bars) -> Verdict:
    """All that is wrong at this look."""
    found = [
        *_lies(look, past),
        *_health(look),
        *_sessions(look, bars),
        *_thresholds(look),
    ]
    found.sort(key=lambda finding: -finding[0])  # stable: within a level the order above
    level = max((finding[0] for finding in found), default=Level.OK)
    return Verdict(level, tuple(text for _, text in found), _summary(look), tuple(_perfdata(look, bars)))


def remember(look: Look) -> Past:
    """What the next look needs of this one."""
    process = _process(look)
    frames = int(_number(_part(look, "engine").get("framesReceived")) or 0)
    return Past(
        look.at, look.listener_pid, int(_number(process.get("startedAt")) or 0), frames, _online(look)
    )


def _part(look: Look, name: str) -> dict[str, Any]:
    part = look.system.get(name)
    return part if isinstance(part, dict) else {}


def _process(look: Look) -> dict[str, Any]:
    process = look.health.get("process")
    return process if isinstance(process, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _setting(look: Look, name: str) -> float | None:
    try:
        return float(str(_part(look, "settings").get(name)))
    except ValueError:
        return None


def _states(look: Look) -> dict[str, int]:
    return {state: int(count) for state, count in _part(look, "states").items()}


def _online(look: Look) -> int:
    return _states(look).get("online", 0)


def _lies(look: Look, past: Past | None) -> Iterator[Finding]:
    engine, process = _part(look, "engine"), _process(look)
    heartbeat_s = _number(engine.get("heartbeatAge"))
    if look.health.get("ready") and heartbeat_s is not None and heartbeat_s > HEARTBEAT_S:
        yield Level.CRITICAL, f"it says ready, and its engine has not turned for {heartbeat_s:.0f} s"
    pids = {look.listener_pid, look.lock_pid, process.get("pid")} - {None}
    if len(pids) > 1:
        text = (
            f"three answers to who is the runner: pid {look.listener_pid} listens, {look.lock_pid} has the"
            f" lock, {process.get('pid')} is what it says"
        )
        yield Level.CRITICAL, text
    uptime_s = _number(process.get("uptime"))
    if uptime_s is not None and look.process_age_s is not None and uptime_s > look.process_age_s + SLACK_S:
        yield (
            Level.CRITICAL,
            f"it says that it has run for {uptime_s:.0f} s, and its process for {look.process_age_s:.0f} s",
        )
    if past is None:
        return
    now = remember(look)
    is_same = (now.pid, now.started_at) == (past.pid, past.started_at)
    if is_same and now.online and past.online and look.at - past.at >= STILL_S and now.frames <= past.frames:
        still_s = look.at - past.at
        text = f"it says that {now.online} sessions are online, and no frame came in for {still_s:.0f} s"
        yield Level.CRITICAL, text


def _health(look: Look) -> Iterator[Finding]:
    checks = [check for check in look.health.get("checks", ()) if not check.get("healthy")]
    why = "; ".join(str(check.get("detail") or check.get("name")) for check in checks)
    if not look.health.get("live"):
        yield Level.CRITICAL, f"not live: restart it ({why or 'no reason given'})"
    elif not look.health.get("ready"):
        yield Level.CRITICAL, f"not ready: {why or 'no reason given'}"
    told = why if not look.health.get("ready") else ""
    for incident in _part(look, "fleet").get("incidents", ()):
        text = str(incident.get("text") or incident.get("kind"))
        if text not in told:
            critical = incident.get("severity") == "critical"
            yield Level.CRITICAL if critical else Level.WARNING, f"{incident.get('kind')}: {text}"


def _sessions(look: Look, bars: Bars) -> Iterator[Finding]:
    states = _states(look)
    wanted = sum(count for state, count in states.items() if state not in WANTED_OFFLINE)
    missing = wanted - states.get("online", 0)
    if not wanted or missing / wanted < bars.warning:
        return
    if _is_settling(look, wanted) and not states.get("parked", 0) + states.get("logged_out", 0) >= missing:
        return
    by_state = ", ".join(
        f"{count} {state}"
        for state, count in sorted(states.items())
        if count and state not in WANTED_OFFLINE | {"online"}
    )
    level = Level.CRITICAL if missing / wanted >= bars.critical else Level.WARNING
    yield level, f"{missing} of {wanted} sessions are not online ({by_state})"


def _is_settling(look: Look, wanted: int) -> bool:
    """Whether the fleet is still being dialled after a start: nothing is missing yet."""
    uptime_s = _number(_process(look).get("uptime"))
    rate = _setting(look, "CONNECT_RATE") or 10.0
    return uptime_s is not None and uptime_s < SETTLING_S + wanted / rate


def _thresholds(look: Look) -> Iterator[Finding]:
    for name, value, bar, shown in _measured(look):
        if value is not None and bar is not None and value > bar:
            yield Level.WARNING, f"{name} {shown(value)} is above {shown(bar)}"


def _measured(look: Look) -> Iterator[tuple[str, float | None, float | None, Any]]:
    system = _part(look, "system")
    used, total = _number(system.get("usedMemory")), _number(system.get("totalMemory"))
    memory = used / total if used is not None and total else None
    yield "memory", memory, _setting(look, "MEMORY_THRESHOLD"), _percent
    yield "cpu", _number(system.get("cpuUsage")), _setting(look, "CPU_THRESHOLD"), _percent
    yield "error rate", _number(system.get("errorRate")), _setting(look, "ERROR_RATE_THRESHOLD"), _percent
    response = _number(look.system.get("averageResponseTime"))
    yield "response time", response, _setting(look, "RESPONSE_TIME_THRESHOLD"), _ms


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms"


def _summary(look: Look) -> str:
    states = _states(look)
    return f"{states.get('online', 0)} of {sum(states.values())} sessions online"


def _perfdata(look: Look, bars: Bars) -> Iterator[str]:
    states = _states(look)
    wanted = sum(count for state, count in states.items() if state not in WANTED_OFFLINE)
    online = states.get("online", 0)
    yield f"online={online};;;0;{wanted}"
    yield f"missing={wanted - online};{bars.warning * wanted:g};{bars.critical * wanted:g};0;{wanted}"
    for name, value, bar, shown in _measured(look):
        if value is not None:
            unit, top = ("ms", "") if shown is _ms else ("", "1")
            yield f"{name.replace(' ', '_')}={value:.6g}{unit};{'' if bar is None else f'{bar:g}'};;0;{top}"
    process = _part(look, "process")
    if (rss := _number(process.get("rss"))) is not None:
        yield f"rss={rss:.0f}B;;;0;"
    if (uptime := _number(_process(look).get("uptime"))) is not None:
        yield f"uptime={uptime:.0f}s;;;0;"
    yield f"took={look.took_s:.3f}s;;;0;"
