"""What a person sees: tables and colours. Imported only when something is shown to one (rich costs 60 ms)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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


def duration(seconds: float | None) -> str:
    """`5s`, `3m10s`, `2h05m`, `4d02h`."""
    if seconds is None:
        return "-"
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def size(count: float | None) -> str:
    """Bytes as `1.5 GiB`."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def milliseconds(ms: float | None) -> str:
    """`0.2 ms`, `34 ms`."""
    return "-" if ms is None else f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def _ago(unix_ms: int | None, now: float) -> str:
    return "-" if unix_ms is None else duration(now - unix_ms / 1000)


def _until(unix_ms: int | None, now: float) -> str:
    return "-" if unix_ms is None else duration(unix_ms / 1000 - now)


def _state(word: str) -> str:
    return f"[{COLOURS.get(word, 'white')}]{word}[/]"


def sessions(rows: Iterable[Session]) -> None:
    """One line a session."""
    now = time.time()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "ID",
        "STATE",
        "REASON",
        "CONN",
        "FOR",
        "ATTEMPT",
        "RETRY IN",
        "DATA",
        "PONG",
        "RTT",
        "BREAKER",
    ):
        table.add_column(
            name, justify="right" if name in {"CONN", "ATTEMPT", "RTT"} else "left", no_wrap=True
        )
    for row in rows:
        rtt = row["pongRttMs"]
        table.add_row(
            escape(row["id"]),
            _state(row["state"]),
            row["reason"] or "-",
            str(row["connection"]),
            _ago(row["since"], now),
            str(row["attempt"]),
            _until(row["nextRetryAt"], now),
            _ago(row["lastDataReceivedAt"], now),
            _ago(row["lastPongAt"], now),
            milliseconds(rtt),
            row["breaker"]["state"],
        )
    screen().print(table)


def alerts(rows: Iterable[Mapping[str, Any]], silences: Sequence[Mapping[str, Any]] = ()) -> None:
    """One line an alert, then the silences."""
    now = time.time()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "SEVERITY", "ALERT", "ABOUT", "SINCE", "STATE", "TEXT"):
        table.add_column(name, no_wrap=name != "TEXT")
    for row in rows:
        colour = "red" if row["severity"] == "critical" else "yellow"
        table.add_row(
            row["id"],
            f"[{colour}]{row['severity']}[/]",
            row["alert"],
            escape(row["about"] or "-"),
            _ago(row["since"], now),
            _alert_state(row),
            escape(row["text"]),
        )
    console = screen()
    if table.row_count:
        console.print(table)
    else:
        console.print("no alerts")
    for silence in silences:
        console.print(
            f"silent: {silence['alert']} {escape(silence['about'] or '')} for {_until(silence['until'], now)}"
            f"  {silence['id']} {escape(silence['note'])}",
            style="dim",
        )


def _alert_state(row: Mapping[str, Any]) -> str:
    if row["resolvedAt"] is not None:
        return "resolved"
    if row["suppressedBy"] is not None:
        return f"explained by {row['suppressedBy']}"
    if row["silencedUntil"] is not None:
        return "silenced"
    if row["acknowledgedAt"] is not None:
        return escape(f"acknowledged by {row['acknowledgedBy']}")
    return "firing"


def webhooks(rows: Iterable[Mapping[str, Any]]) -> None:
    """Webhooks, with what waits."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "URL", "EVENTS", "SESSION", "WAITING", "DEAD", "LAST ATTEMPT"):
        table.add_column(name, justify="right" if name in {"WAITING", "DEAD"} else "left", overflow="fold")
    for row in rows:
        last = row["lastAttempt"]
        said = "-" if last is None else "delivered" if last["delivered"] else _problem(last)
        table.add_row(
            row["id"],
            escape(row["url"]),
            escape(" ".join(row["events"])),
            escape(row["session"] or "all"),
            str(row["waiting"]),
            str(row["undelivered"]),
            escape(said),
        )
    screen().print(table if table.row_count else "no webhooks")


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
            _ago(row["diedAt"], time.time()),
            str(row["attempts"]),
            escape(row["why"]),
        )
    screen().print(table if table.row_count else "no dead letters")


def pairs(values: Mapping[str, object], title: str | None = None) -> None:
    """Names and values, nested ones flattened."""
    table = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(values):
        table.add_row(name, escape(value))
    screen().print(table)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.4g}"
        else:
            yield f"{prefix}{name}", "-" if value is None else str(value)


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
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "STATE", "UPTIME", "MESSAGES", "PER MIN", "RESPONSE", "ERRORS", "RECONNECTS"):
        table.add_column(name, justify="left" if name in {"ID", "STATE"} else "right", no_wrap=True)
    for row in answer["sessions"]:
        response, per_minute = row["averageResponseTime"], row["messagesPerMinute"]
        table.add_row(
            escape(row["id"]),
            _state(row["state"]),
            duration(row["connectionUptime"]),
            str(row["messagesProcessed"]),
            "-" if per_minute is None else f"{per_minute:g}",
            milliseconds(response),
            str(row["errorCount"]),
            str(row["reconnectCount"]),
        )
    screen().print(table)
    if answer["next"] is not None:
        screen().print(f"… {answer['matched'] - len(answer['sessions'])} more; --json shows all", style="dim")
