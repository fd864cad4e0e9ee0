"""What a person sees: tables and colours. Imported only when something is shown to one (rich costs 60 ms)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runner.cli.values import ago, duration, flat, milliseconds, shown, size, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.admin.client import Session

COLOURS: Final = {
    "online": "green",
    "connecting": "cyan",
    "pairing": "cyan",
    "degraded": "yellow",
    "backoff": "yellow",
    "suspended": "magenta",
    "parked": "red",
    "logged_out": "red",
    "stopped": "dim",
}


_UNCUT: Final = 1000
"""Columns for a pipe or a file: nothing that `grep` looks for is cut off."""


def screen() -> Console:
    """Where tables go; nothing is cut off but at a terminal."""
    return Console(width=None if sys.stdout.isatty() else _UNCUT)


def _state(word: str) -> str:
    return f"[{COLOURS.get(word, 'white')}]{word}[/]"


class Column(NamedTuple):
    """One column of a table that leaves out columns at a narrow terminal, and never cuts a name."""

    name: str
    spare: int = 0
    """How soon it is left out: the highest first, 0 never."""
    right: bool = False
    is_prose: bool = False
    """It has what the others leave, and ends with an ellipsis there."""


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> tuple[Table, list[str]]:
    """The table with the columns that fit `width`, and the names of those that do not."""
    widths = [
        min(
            max(cell_len(it.name), *(Text.from_markup(row[place]).cell_len for row in rows), 0),
            _PROSE if it.is_prose else width,
        )
        for place, it in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while sum(widths[it] + _GAP for it in kept) - _GAP > width and any(columns[it].spare for it in kept):
        kept.remove(max(kept, key=lambda it: columns[it].spare))
    table = Table(box=None, pad_edge=False, header_style="bold")
    rest = width - sum(widths[it] + _GAP for it in kept) + _GAP
    for it in kept:
        is_name = not columns[it].spare and not columns[it].is_prose
        table.add_column(
            columns[it].name,
            justify="right" if columns[it].right else "left",
            no_wrap=not is_name,
            overflow="fold" if is_name else "ellipsis",
            max_width=widths[it] + max(rest, 0) if columns[it].is_prose else None,
        )
    for row in rows:
        table.add_row(*(row[it] for it in kept))
    return table, [it.name for place, it in enumerate(columns) if place not in kept]


_GAP: Final = 2
"""Columns of the screen between two of a table."""
_PROSE: Final = 20
"""Columns that prose has at the least."""


def _print(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    console = screen()
    table, left_out = fitted(columns, rows, console.width)
    console.print(table)
    if left_out:
        console.print(f"no room here for {', '.join(left_out)}", style="dim")


_SESSION: Final = (
    Column("ID"),
    Column("STATE"),
    Column("REASON"),
    Column("CONN", 6, right=True),
    Column("FOR", 2),
    Column("ATTEMPT", 3, right=True),
    Column("RETRY IN", 1),
    Column("DATA", 7),
    Column("PONG", 4),
    Column("RTT", 8, right=True),
    Column("BREAKER", 5),
)


def sessions(rows: Iterable[Session]) -> None:
    """One line a session."""
    now = time.time()
    cells = [
        (
            escape(row["id"]),
            _state(row["state"]),
            row["reason"] or "-",
            str(row["connection"]),
            ago(row["since"], now),
            str(row["attempt"]),
            until(row["nextRetryAt"], now),
            ago(row["lastDataReceivedAt"], now),
            ago(row["lastPongAt"], now),
            milliseconds(row["pongRttMs"]),
            row["breaker"]["state"],
        )
        for row in rows
    ]
    if cells:
        _print(_SESSION, cells)
    else:
        screen().print("no sessions")


def alerts(rows: Iterable[Mapping[str, Any]], silences: Sequence[Mapping[str, Any]] = ()) -> None:
    """A line an alert that can be searched for, below it what it says and what to do; then the silences."""
    now = time.time()
    console = screen()
    is_empty = True
    for row in rows:
        is_empty = False
        colour = "red" if row["severity"] == "critical" else "yellow"
        head = [
            row["id"],
            f"[{colour}]{row['severity']}[/]",
            f"[bold]{row['alert']}[/]",
            escape(row["about"] or "-"),
            ago(row["since"], now),
        ]
        if (state := _alert_state(row)) is not None:
            head.append(state)
        console.print("  ".join(head), soft_wrap=True)
        for text in (row["text"], row.get("remedy")):
            if text:
                _below(console, text)
    if is_empty:
        console.print("no alerts")
    for silence in silences:
        about = f" {escape(silence['about'])}" if silence["about"] else ""
        note = f"  {escape(silence['note'])}" if silence["note"] else ""
        console.print(
            f"{silence['id']}  {silence['alert']}{about} is silent for {until(silence['until'], now)}{note}",
            style="dim",
            soft_wrap=True,
        )


def _alert_state(row: Mapping[str, Any]) -> str | None:
    """None while it fires, as most do."""
    if row["resolvedAt"] is not None:
        return "resolved"
    if row["suppressedBy"] is not None:
        return f"explained by {row['suppressedBy']}"
    if row["silencedUntil"] is not None:
        return "silenced"
    if row["acknowledgedAt"] is not None:
        return escape(f"acknowledged by {row['acknowledgedBy']}")
    return None


def webhooks(rows: Iterable[Mapping[str, Any]]) -> None:
    """A line a webhook, below it what it gets, what waits and what came of the last attempt."""
    console = screen()
    is_empty = True
    for row in rows:
        is_empty = False
        last = row["lastAttempt"]
        said = "none yet" if last is None else "delivered" if last["delivered"] else _problem(last)
        events, session = " ".join(row["events"]), row["session"] or "all sessions"
        console.print(f"{row['id']}  [bold]{escape(row['url'])}[/]", soft_wrap=True)
        _below(console, f"{events} of {session}")
        _below(console, f"waiting {row['waiting']}, dead {row['undelivered']}, last attempt: {said}")
    if is_empty:
        console.print("no webhooks")


def _below(console: Console, text: str) -> None:
    console.print(Padding(escape(text), (0, 0, 0, 4), expand=False))


def _problem(last: Mapping[str, Any]) -> str:
    return str(last["problem"] or f"status {last['status']}")


def dead_letters(rows: Iterable[Mapping[str, Any]]) -> None:
    """What was given up."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "SINK", "EVENT", "SESSION", "AGE", "ATTEMPTS", "WHY"):
        table.add_column(name, justify="right" if name == "ATTEMPTS" else "left", overflow="fold")
    for row in rows:
        table.add_row(
            row["id"],
            row["sink"],
            row["event"],
            escape(row["session"] or "-"),
            ago(row["diedAt"], time.time()),
            str(row["attempts"]),
            escape(row["why"]),
        )
    screen().print(table if table.row_count else "no dead letters")


def pairs(values: Mapping[str, object], title: str | None = None) -> None:
    """Names and values in their units, nested ones flattened."""
    table = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    now = time.time()
    for name, value in flat(values):
        table.add_row(name, escape(shown(name, value, now)))
    screen().print(table)


def status(
    version: Mapping[str, Any],
    health: Mapping[str, Any],
    system: Mapping[str, Any],
    states: Mapping[str, int],
) -> None:
    """The whole system at a glance."""
    console = screen()
    verdict = "[green]ready[/]" if health["live"] and health["ready"] else "[red]not ready[/]"
    console.print(f"runner {version.get('version', '')}  {verdict}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("STATE")
    table.add_column("SESSIONS", justify="right")
    for state, number in sorted(states.items(), key=lambda entry: -entry[1]):
        if number:
            table.add_row(_state(state), str(number))
    table.add_row("[bold]all[/]", str(sum(states.values())))
    console.print(table)
    rate = system.get("errorRate")
    console.print(
        f"memory {size(system.get('usedMemory'))} of {size(system.get('totalMemory'))}"
        f"   cpu {100 * (system.get('cpuUsage') or 0):.1f} %"
        f"   active connections {system.get('activeConnections', '-')}"
        f"   error rate {'-' if rate is None else f'{100 * rate:.1f} %'}"
    )
    for check in health.get("checks", ()):
        if not check["healthy"]:
            console.print(f"[red]unhealthy[/] {check['name']}: {escape(str(check['detail']))}")


def metrics(answer: Mapping[str, Any]) -> None:
    """System metrics, then the sessions that fit the screen."""
    pairs(
        {key: value for key, value in answer.items() if key not in {"sessions", "total", "matched", "next"}}
    )
    _print(_METRICS, [_measured(row) for row in answer["sessions"]])
    if answer["next"] is not None:
        screen().print(f"… {answer['matched'] - len(answer['sessions'])} more; --json shows all", style="dim")


_METRICS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("UPTIME", 2, right=True),
    Column("MESSAGES", 1, right=True),
    Column("PER MIN", 4, right=True),
    Column("RESPONSE", 3, right=True),
    Column("ERRORS", 1, right=True),
    Column("RECONNECTS", 2, right=True),
)


def _measured(row: Mapping[str, Any]) -> tuple[str, ...]:
    per_minute = row["messagesPerMinute"]
    return (
        escape(row["id"]),
        _state(row["state"]),
        duration(row["connectionUptime"]),
        str(row["messagesProcessed"]),
        "-" if per_minute is None else f"{per_minute:g}",
        milliseconds(row["averageResponseTime"]),
        str(row["errorCount"]),
        str(row["reconnectCount"]),
    )
