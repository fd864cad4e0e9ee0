"""docs/metrics.md, the Grafana board and the Prometheus rules, written from `metric_definitions`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from runner.history import RESOLUTIONS, History
from runner.metric_definitions import DEFINITIONS, HISTORY, PER_SESSION, SECTIONS, Definition

if TYPE_CHECKING:
    from collections.abc import Iterable


class Alert(NamedTuple):
    """One alerting rule, as the alert engine has it in its own table."""

    name: str
    expr: str
    for_s: float
    severity: str
    summary: str


RECORDED: Final = {
    f"runner:response_seconds:p{percent}": (
        f"histogram_quantile({percent / 100:g}, sum by (le) (rate(runner_response_seconds_bucket[5m])))"
    )
    for percent in (50, 95, 99)
} | {
    "runner:memory_used:ratio": "runner_memory_used_bytes / runner_memory_total_bytes",
    "runner:messages:rate1m": "sum(rate(runner_messages_received_total[1m]))",
    "runner:reconnects:rate5m": "sum(rate(runner_reconnects_total[5m]))",
    "runner:closes:rate5m": "sum by (reason) (rate(runner_closes_total[5m]))",
}
"""What dashboards and alerts compute again and again."""

_HEAD: Final = """# Metrics

Generated from `runner.metric_definitions` by `tools/generate_docs.py`; do not edit.

Counted from facts of the engine, sampled every 10 s. `GET /performance-metrics` has all that has a JSON name
(`?session=ID` for single sessions, repeatable or with commas), `GET /metrics` all that has a Prometheus name,
`WS /ws?events=system.metrics` the system's at once and every 10 s, `GET /api/metrics/history` the last 24
hours. Null means that there is nothing to say, never 0.

With `WHATSAPP_PERFORMANCE_MONITORING=false` nothing is sampled and no history kept: what has a window is
null, what counts goes on counting, and a WebSocket that waits for `system.metrics` is told once
(`metrics.paused`). Turned on again, the windows begin anew.
"""

_PROMETHEUS: Final = """## Prometheus

Base units; labels are bounded: `state`, `outcome`, `reason` (close reasons). Series of single sessions are
off unless `WHATSAPP_METRICS_SESSIONS` says `top` (the 20 worst: by state, then by errors) or `all`; never
more than `WHATSAPP_METRICS_SESSION_LIMIT` sessions, the worst ones when there are more. The label is the
session's id; an id with seven digits in a row could be a phone number and is shown as a digest (`id-…`).

Ready to use, and made from the same table: [the Grafana board](grafana/runner.json),
[the rules](prometheus/runner.rules.yml).
"""

_TABLE: Final = ["| name | Prometheus | unit | window | definition |", "| --- | --- | --- | --- | --- |"]


def document() -> str:
    """docs/metrics.md."""
    lines = [_HEAD]
    for section, title in SECTIONS.items():
        lines += [f"## {title}", "", *_TABLE]
        lines += [_row(it) for it in DEFINITIONS if it.section == section]
        lines.append("")
    lines += [_PROMETHEUS, *_history(), *_memory()]
    return "\n".join(lines)


def _row(it: Definition) -> str:
    labels = f"{{{','.join(it.labels)}}}" if it.labels else ""
    series = f"`{it.series}{labels}` {it.kind}" if it.prometheus else ""
    name = f"`{it.json}`" if it.json else ""
    return f"| {name} | {series} | {it.unit} | {it.window} | {it.what} |"


def history_bytes() -> int:
    """What the 24 hours take, however many sessions there are."""
    return History({name: it.fold for name, it in HISTORY.items() if it.fold is not None}).size_bytes()


def _history() -> list[str]:
    kept = ", ".join(f"every {it.step_s} s for {_span(it.span_s)}" for it in RESOLUTIONS)
    return [
        "## History",
        "",
        f"In memory: {kept}; {history_bytes():,} bytes in all, taken at the start and never more.",
        "A coarser point is the mean of the finer ones, of `loopLagMs` and `storeOldestAgeMs` the highest.",
        "A restart begins anew.",
        "",
        "`GET /api/metrics/history` lists the names; `?metric=NAME[,NAME]&since=MS&until=MS&points=N` gives",
        "them: the last hour when `since` is missing; the finest series that reaches back so far, thinned",
        "out to `points` (at most 1000).",
        "",
        "Names: " + ", ".join(f"`{name}`" for name in HISTORY) + ".",
        "",
    ]


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h"


def _memory() -> list[str]:
    return [
        "## What it costs",
        "",
        "A session costs 133 bytes for the latest reading and 396 for the windows: columns, not objects",
        "(`runner.windows`). Percentiles of a session come from its 24 buckets, of which five minutes are",
        "kept to the minute in 16 bits each; when one bucket had more than 65,535 answers within the window",
        "they do not add up and the percentiles are null. They are linear within a bucket, as PromQL's",
        "`histogram_quantile` makes them.",
        "",
    ]


# -- Grafana

_UNITS: Final = {"bytes": "bytes", "s": "s", "0 to 1": "percentunit", "sessions": "short"}


def board() -> str:
    """docs/grafana/runner.json: one panel for each title in the table, in its order."""
    panels: dict[str, list[Definition]] = {}
    for it in DEFINITIONS:
        if it.panel and it.prometheus and it.section != PER_SESSION:
            panels.setdefault(it.panel, []).append(it)
    shown = [_panel(place, title, drawn) for place, (title, drawn) in enumerate(panels.items())]
    return (
        json.dumps(
            {
                "title": "runner",
                "uid": "wa-runner",
                "tags": ["runner"],
                "timezone": "browser",
                "schemaVersion": 39,
                "refresh": "10s",
                "time": {"from": "now-3h", "to": "now"},
                "templating": {
                    "list": [
                        {
                            "name": "datasource",
                            "label": "Prometheus",
                            "type": "datasource",
                            "query": "prometheus",
                        },
                        {
                            "name": "instance",
                            "type": "query",
                            "datasource": _SOURCE,
                            "query": "label_values(runner_active_connections, instance)",
                            "refresh": 2,
                            "includeAll": True,
                            "multi": True,
                            "current": {"text": "All", "value": "$__all"},
                        },
                    ]
                },
                "panels": shown,
            },
            indent=1,
        )
        + "\n"
    )


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _panel(place: int, title: str, drawn: list[Definition]) -> dict[str, object]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
        for number, (expr, legend) in enumerate(line for it in drawn for line in _lines(it))
    ]
    first = drawn[0]
    return {
        "id": place + 1,
        "title": title,
        "description": "; ".join(f"{it.series}: {it.what}" for it in drawn),
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (place % 2), "y": 8 * (place // 2)},
        "fieldConfig": {
            "defaults": {
                "unit": _unit(first),
                "min": 0,
                "custom": {"fillOpacity": 10, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _unit(it: Definition) -> str:
    if it.kind == "counter":
        return "Bps" if it.unit == "bytes" else "short"
    return _UNITS.get(it.unit, "short")


def _lines(it: Definition) -> list[tuple[str, str]]:
    selected = f'{it.series}{{instance=~"$instance"}}'
    if it.kind == "histogram":
        rate = f'rate({it.series}_bucket{{instance=~"$instance"}}[$__rate_interval])'
        return [
            (f"histogram_quantile({share}, sum by (le) ({rate}))", f"p{round(share * 100)}")
            for share in (0.5, 0.95, 0.99)
        ]
    by = f" by ({', '.join(it.labels)})" if it.labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in it.labels) or it.prometheus
    if it.kind == "counter":
        return [
            (
                f"sum{by} (rate({selected}[$__rate_interval]))",
                legend if not it.labels else f"{it.prometheus} {legend}",
            )
        ]
    return [(f"sum{by} ({selected})", legend)] if it.labels else [(selected, legend)]


# -- rules


def rules(alerts: Iterable[Alert] = ()) -> str:
    """docs/prometheus/runner.rules.yml. Every value is a quoted string, so that none of them can be YAML."""
    lines = [
        "# Generated from runner.metric_definitions by tools/generate_docs.py; do not edit.",
        "groups:",
        "  - name: runner",
        "    interval: 10s",
        "    rules:",
    ]
    for record, expr in RECORDED.items():
        lines += [f"      - record: {_quoted(record)}", f"        expr: {_quoted(expr)}"]
    told = list(alerts)
    if told:
        lines += ["  - name: runner-alerts", "    rules:"]
    for alert in told:
        lines += [
            f"      - alert: {_quoted(alert.name)}",
            f"        expr: {_quoted(alert.expr)}",
            f"        for: {max(round(alert.for_s), 0)}s",
            "        labels:",
            f"          severity: {_quoted(alert.severity)}",
            "        annotations:",
            f"          summary: {_quoted(alert.summary)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
