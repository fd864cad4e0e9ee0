"""One value as a person reads it: durations, sizes, times. `--json` is for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime


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


def ago(unix_ms: int | None, now: float) -> str:
    """How long it is over, `now` in Unix seconds."""
    return "-" if unix_ms is None else duration(now - unix_ms / 1000)


def until(unix_ms: int | None, now: float) -> str:
    """How long it is until then, `now` in Unix seconds."""
    return "-" if unix_ms is None else duration(unix_ms / 1000 - now)


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Names and values, those of nested objects as `object.name`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def shown(name: str, value: object, now: float) -> str:
    """The value of this name in the JSON of the API (`engine.loopLag`), in its unit. `now`: Unix seconds."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, int | float):
        return str(value)
    if (last := name.rpartition(".")[2]) == "since" or last.endswith(("At", "Since")):
        return _time(value, now)
    return _with_unit(value, "ms" if last.endswith("Ms") else _unit_of(name))


def _time(unix_ms: float, now: float) -> str:
    at = datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    away_s = unix_ms / 1000 - now
    return f"{at}, {f'in {duration(away_s)}' if away_s > 0 else f'{duration(-away_s)} ago'}"


def _unit_of(name: str) -> str:
    """As `runner.metric_definitions` has it, by the whole name or without the object it stands in."""
    from runner.metric_definitions import DEFINITIONS

    units = {it.json: it.unit for it in DEFINITIONS if it.json}
    return units.get(name) or units.get(name.partition(".")[2], "")


def _with_unit(value: float, unit: str) -> str:
    match unit:
        case "bytes":
            return size(value)
        case "ms":
            return milliseconds(value)
        case "s":
            return duration(value) if value >= 60 else f"{value:.3g} s"
        case "0 to 1":
            return f"{100 * value:.1f} %"
        case _:
            return str(value) if isinstance(value, int) else f"{value:.4g}"
