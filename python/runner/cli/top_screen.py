"""One frame of `python -m runner top`. Pure: what was read goes in, something that rich prints comes out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from runner.cli.tables import COLOURS, Column, fitted
from runner.cli.values import ago, duration, milliseconds, size, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

WORST_FIRST: Final = ("logged_out", "parked", "suspended", "degraded", "backoff", "connecting", "pairing")
"""The states that ask for a look, in the order of the table."""
_RANK: Final = {state: rank for rank, state in enumerate(WORST_FIRST)}
_BEST_FIRST: Final = ("online", *reversed(WORST_FIRST), "stopped")
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_KEPT: Final = 60
_FIXED_LINES: Final = 9
"""All but the numbers, the alerts and the sessions."""
_TWO_A_LINE: Final = 100
"""Columns of a terminal from which on two numbers stand in a line."""
_CURVE: Final = 24
_WORDS: Final = 42
"""What the name and the value of a number take, with the gaps."""
_TROUBLES: Final = (
    Column("SEVERITY", 2),
    Column("FOR", 1),
    Column("ALERT"),
    Column("ABOUT"),
    Column("WHAT", 3, is_prose=True),
)
_SESSIONS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("REASON", 1),
    Column("FOR", 2),
    Column("ATTEMPT", 3, right=True),
    Column("RETRY IN"),
    Column("BREAKER", 4),
)
_MOST_ALERTS: Final = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the runner found."""

    at: float
    """Unix seconds."""
    system: Mapping[str, Any]
    health: Mapping[str, Any]
    troubled: Sequence[Mapping[str, Any]]
    """Sessions that are neither online nor stopped."""
    alerts: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class Past:
    """The last minute of what moves, for the small curves."""

    series: dict[str, deque[float]] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        """Keep one more point of each."""
        for name, value in _moving(reading):
            if value is not None:
                self.series.setdefault(name, deque(maxlen=_KEPT)).append(value)

    def curve(self, name: str, most: float | None = None, width: int = 24) -> str:
        """Blocks from 0 to `most`, or to the highest there is."""
        values = list(self.series.get(name, ()))[-width:]
        top = most or max(values, default=0.0) or 1.0
        steps = len(_BLOCKS) - 1
        return "".join(_BLOCKS[min(steps, max(0, round(value / top * steps)))] for value in values)


def _moving(reading: Reading) -> Iterable[tuple[str, float | None]]:
    system = reading.system["system"]
    total = system.get("totalMemory") or 0
    yield "cpu", system.get("cpuUsage")
    yield "memory", system["usedMemory"] / total if total and system.get("usedMemory") is not None else None
    yield "response", reading.system.get("averageResponseTime")
    yield "reconnects", reading.system.get("reconnectsPerMinute")
    yield "errors", system.get("errorRate")


def frame(reading: Reading, past: Past, now: float, width: int, height: int) -> RenderableType:
    """The screen, `height` lines of it, each `width` columns long."""
    age = now - reading.at
    numbers = _numbers(reading, past, width)
    parts: list[RenderableType] = [_head(reading, age), _states(reading.system.get("states", {})), numbers]
    troubles = [it for it in reading.alerts if not (it.get("silencedUntil") or it.get("suppressedBy"))]
    parts.append(_troubles(troubles, now, width))
    taken = _FIXED_LINES + numbers.row_count + min(len(troubles), _MOST_ALERTS)
    parts.append(_sessions(reading.troubled, max(3, height - taken), now, width))
    return Group(*parts)


def _head(reading: Reading, age_s: float) -> Text:
    health = reading.health
    is_ready = bool(health.get("live") and health.get("ready"))
    line = Text.assemble(
        ("runner ", "bold"),
        str(reading.system.get("version", {}).get("version", "")),
        "  ",
        ("ready", "green") if is_ready else ("not ready", "bold red"),
    )
    uptime = health.get("process", {}).get("uptime")
    if isinstance(uptime, int | float):
        line.append(f"  up {duration(uptime)}", "dim")
    if age_s > STALE_S:
        line.append(f"  no answer: what you see is {duration(age_s)} old", "bold white on red")
    return line


STALE_S: Final = 3.0


def _states(states: Mapping[str, int]) -> Text:
    total = sum(states.values())
    line = Text.assemble((f"{states.get('online', 0):,}", "bold"), f" of {total:,} online  ")
    for state in _BEST_FIRST:
        if (count := states.get(state, 0)) and state != "online":
            line.append(f" {state} ", COLOURS.get(state, "white")).append(f"{count:,} ", "bold")
    return line


def _numbers(reading: Reading, past: Past, width: int) -> Table:
    """Two numbers a line, or one where the terminal is narrow; the curves have what is left."""
    system, more = reading.system["system"], reading.system
    rate, cpu = system.get("errorRate"), system.get("cpuUsage")
    response = milliseconds(more.get("averageResponseTime"))
    if (p95 := more.get("responseTime", {}).get("p95Ms")) is not None:
        response += f", p95 {milliseconds(p95)}"
    memory = f"{size(system.get('usedMemory'))} of {size(system.get('totalMemory'))}"
    left = [
        ("cpu", "-" if cpu is None else f"{100 * cpu:.1f} %", past.curve("cpu", 1.0)),
        ("memory", memory, past.curve("memory", 1.0)),
        ("process", size(more.get("process", {}).get("rss")), ""),
    ]
    right = [
        ("response", response, past.curve("response")),
        ("reconnects/min", _count(more.get("reconnectsPerMinute")), past.curve("reconnects")),
        ("error rate", "-" if rate is None else f"{100 * rate:.1f} %", past.curve("errors")),
    ]
    is_wide = width >= _TWO_A_LINE
    lines = [(*one, *other) for one, other in zip(left, right, strict=True)] if is_wide else [*left, *right]
    table = Table(box=None, pad_edge=False, show_header=False)
    for place in range(6 if is_wide else 3):
        is_curve = place % 3 == 2
        table.add_column(
            style=("bold", None, "green")[place % 3],
            no_wrap=True,
            width=max(1, min(_CURVE, width // (2 if is_wide else 1) - _WORDS)) if is_curve else None,
            overflow="crop",
        )
    for line in lines:
        table.add_row(*line)
    return table


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _troubles(troubles: Sequence[Mapping[str, Any]], now: float, width: int) -> RenderableType:
    if not troubles:
        return Text("\nnothing is wrong\n", "dim")
    rows = []
    for it in troubles[:_MOST_ALERTS]:
        since = it.get("since")
        colour = "bold red" if it.get("severity") == "critical" else "yellow"
        rows.append(
            (
                f"[{colour}]{it.get('severity')}[/]",
                duration(None if since is None else now - since / 1000),
                escape(str(it.get("alert"))),
                escape(str(it.get("about") or "-")),
                escape(str(it.get("text", ""))),
            )
        )
    table, _ = fitted(_TROUBLES, rows, width)
    table.title, table.title_justify = "\n", "left"
    if len(troubles) > _MOST_ALERTS:
        table.caption = f"… {len(troubles) - _MOST_ALERTS} more"
    return table


def _sessions(rows: Sequence[Mapping[str, Any]], room: int, now: float, width: int) -> RenderableType:
    if not rows:
        return Text("")
    ordered = sorted(rows, key=lambda row: (_RANK.get(row["state"], 99), row["id"]))
    cells = [
        (
            escape(row["id"]),
            f"[{COLOURS.get(row['state'], 'white')}]{row['state']}[/]",
            row["reason"] or "-",
            ago(row["since"], now),
            str(row["attempt"]),
            until(row["nextRetryAt"], now),
            row["breaker"]["state"],
        )
        for row in ordered[:room]
    ]
    table, _ = fitted(_SESSIONS, cells, width)
    table.caption_justify = "left"
    if len(rows) > room:
        table.caption = f"… {len(rows) - room} more"
    return table
