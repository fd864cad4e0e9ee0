"""`GET /metrics`: the numbers as Prometheus text. Names, types and help come from `metric_definitions`.

Labels are bounded: states, close reasons, outcomes. Series of single sessions are opt-in
(`WHATSAPP_METRICS_SESSIONS`) and capped (`WHATSAPP_METRICS_SESSION_LIMIT`); their label is the session's id,
and of an id that could be a phone number a digest. The text is made in pieces, so that ten thousand sessions
stop nobody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2s
from heapq import nsmallest
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final

from runner.metric_definitions import PROMETHEUS
from runner.session import State
from runner.tally import HANDLER_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runner.metrics import Metrics
    from runner.supervisor.row import Standing
    from runner.tally import Tally

Sample = tuple[str, float]

TOP: Final = 20
"""How many of the worst `WHATSAPP_METRICS_SESSIONS=top` shows."""
ROWS_A_PIECE: Final = 50
ROWS_A_LOOK: Final = 250
_NUMBER: Final = re.compile(r"\d{7,}")
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_WORST: Final = {
    State.LOGGED_OUT: 0,
    State.PARKED: 1,
    State.SUSPENDED: 2,
    State.BACKOFF: 3,
    State.DEGRADED: 4,
    State.PAIRING: 5,
    State.CONNECTING: 6,
    State.ONLINE: 7,
    State.STOPPED: 8,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sessions get series of their own."""

    which: str = "off"
    limit: int = 1000


def pieces(metrics: Metrics, choice: Choice, standings: Callable[[], Iterable[Standing]]) -> Iterator[bytes]:
    """All of it, a piece at a time; `standings` is where the sessions are, asked for once if at all."""
    yield _joined(_fleet(metrics))
    for section in (_machine, _engine, _store):
        yield _joined(section(metrics))
    if choice.which == "off":
        return
    chosen: list[Standing] = []
    for better in choosing(metrics, choice, standings()):
        chosen = better
        yield b""
    for family in _FAMILIES:
        yield _joined(_head(family))
        for first in range(0, len(chosen), ROWS_A_PIECE):
            rows = chosen[first : first + ROWS_A_PIECE]
            yield _joined(line for it in rows for line in _FAMILIES[family](metrics, it))


def choosing(metrics: Metrics, choice: Choice, standings: Iterable[Standing]) -> Iterator[list[Standing]]:
    """Who is shown, the better known the further this is taken: those of the worst states first, then those
    with the most errors."""
    most = min(TOP, choice.limit) if choice.which == "top" else choice.limit
    worst: list[tuple[int, int, Standing]] = []
    remaining = iter(standings)
    while part := list(islice(remaining, ROWS_A_LOOK)):
        ranked = [(_WORST[it.state], -metrics.error_count(it.session_id), it) for it in part]
        worst = nsmallest(most, worst + ranked)
        yield [it for _, _, it in worst]


def session_label(session_id: str) -> str:
    """The label value: the id, or a digest where it could be a phone number."""
    if _NUMBER.search(session_id):
        return f"id-{blake2s(session_id.encode(), digest_size=8).hexdigest()}"
    return session_id.translate(_ESCAPED)


def _joined(lines: Iterable[str]) -> bytes:
    text = "\n".join(lines)
    return f"{text}\n".encode() if text else b""


def _head(name: str) -> list[str]:
    it = PROMETHEUS[name]
    told = it.what + (f" ({it.window})" if it.window != "now" else "")
    return [f"# HELP {it.series} {told}.", f"# TYPE {it.series} {it.kind}"]


def _one(name: str, samples: Iterable[Sample]) -> list[str]:
    full = PROMETHEUS[name].series
    return [*_head(name), *(f"{full}{labels} {_number(value)}" for labels, value in samples)]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _labelled(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [(f'{{{label}="{key}"}}', value) for key, value in sorted(values.items())]


def _plain(values: Mapping[str, object]) -> list[str]:
    """One sample each; what is not known is left out."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, int | float):
            lines += _one(name, [("", value)])
    return lines


def _fleet(metrics: Metrics) -> list[str]:
    totals = metrics.totals
    states = {state.value: 0 for state in State} | dict(metrics.states())
    reading = {
        "engine_readings_total": metrics.readings,
        "engine_reading_age_seconds": metrics.reading_age_s,
    }
    return [
        *_plain(reading),  # in one piece with what it counts: there may be another before the next piece
        *_one("sessions", _labelled("state", states)),
        *_plain({"session_changes_total": metrics.revision()}),
        *_plain({"active_connections": metrics.active_connections}),
        *_plain({"sessions_restricted": metrics.restricted()}),
        *_one("dials_total", _labelled("outcome", {"online": 0, "failed": 0} | dict(metrics.dials))),
        *_one("closes_total", _labelled("reason", metrics.closes)),
        *_plain({"reconnects_total": metrics.reconnects_total}),
        *_histogram(metrics, totals["response_count"], totals["response_sum_s"]),
        *_plain({f"{name}_total": totals[name] for name in _COUNTED}),
        *_handing(metrics.tally),
        *_plain({"error_ratio": metrics.error_rate()}),
    ]


_COUNTED: Final = (
    "messages_received",
    "messages_sent",
    "messages_resent",
    "messages_not_resent",
    "sends_failed",
    "messages_undecrypted",
    "records_unreadable",
    "pings_sent",
    "pongs_received",
    "frames_received",
    "frames_sent",
    "bytes_received",
    "bytes_sent",
    "stanzas_malformed",
    "requests_sent",
    "requests_failed",
)


def _handing(tally: Tally) -> list[str]:
    time = _buckets(HANDLER_BOUNDS_S, tally.buckets, tally.handler_calls, tally.handler_s)
    return [
        *_one("handler_seconds", time),
        *_one("handler_attempts_total", _labelled("outcome", tally.handlers)),
        *_one("webhook_attempts_total", _labelled("outcome", tally.deliveries)),
        *_plain({"undecryptable_messages_total": tally.undecryptable}),
    ]


def _histogram(metrics: Metrics, count: float, total_s: float) -> list[str]:
    return _one("response_seconds", _buckets(metrics.bucket_bounds_s, metrics.buckets, count, total_s))


def _buckets(bounds_s: Sequence[float], counts: Sequence[int], count: float, total_s: float) -> list[Sample]:
    bounds = [*(f"{bound:g}" for bound in bounds_s), "+Inf"]
    buckets = [
        (f'_bucket{{le="{bound}"}}', float(reached))
        for bound, reached in zip(bounds, accumulate(counts), strict=True)
    ]
    return [*buckets, ("_sum", total_s), ("_count", count)]


def _machine(metrics: Metrics) -> list[str]:
    system, process = metrics.system(), metrics.process()
    return _plain(
        {
            "memory_total_bytes": system["totalMemory"],
            "memory_used_bytes": system["usedMemory"],
            "cpu_ratio": system["cpuUsage"],
            "process_uptime_seconds": process["uptime"],
            "process_resident_memory_bytes": process["rss"],
            "process_anonymous_memory_bytes": process["rssAnon"],
            "process_fixed_memory_bytes": process["fixed"],
            "process_memory_per_session_bytes": process["perSession"],
            "process_open_fds": process["openFds"],
            "process_threads": process["threads"],
            "process_cpu_seconds_total": process["cpuSeconds"],
            "loop_lag_seconds": process["loopLag"],
            "handler_exceptions_total": process["handlerExceptions"],
            "session_faults_total": process["sessionFaults"],
            "admin_wrong_tokens_total": process["wrongTokens"],
            "admin_tokens_not_tried_total": process["tokensNotTried"],
            "history_bytes": process["historyBytes"],
        }
    )


def _engine(metrics: Metrics) -> list[str]:
    stats = metrics.sources.stats()
    return _plain(
        {
            "engine_connections": stats.sessions,
            "engine_dialling": stats.dialling,
            "engine_loop_lag_seconds": stats.loop_lag_s,
            "engine_heartbeat_age_seconds": stats.heartbeat_age_s,
            "engine_outbox_depth": stats.outbox_depth,
            "engine_outbox_dropped_total": stats.outbox_dropped_total,
            "engine_held_input_bytes": stats.held_input_bytes,
            "engine_dials_total": stats.dials_total,
            "engine_turns_total": stats.turns_total,
            "engine_tls_resumed_total": stats.tls_resumed_total,
            "engine_panics_total": stats.panics_total,
            "oldest_unanswered_stanza_seconds": metrics.oldest_unanswered_s,
        }
    )


def _store(metrics: Metrics) -> list[str]:
    store = metrics.sources.store_health()
    return _plain(
        {
            "store_queued": store.queued,
            "store_oldest_age_seconds": store.oldest_age_s,
            "store_lock_wait_seconds": store.lock_wait_s,
            "store_commits_total": store.commits_total,
            "store_batches_total": store.batches_total,
            "store_failed_total": store.failed_total,
            "store_wal_bytes": store.wal_bytes,
            "store_inbox_pending": store.inbox_pending,
            "store_dead_letters": store.dead_letters,
            "store_dead_letters_dropped_total": store.dead_letters_dropped_total,
            "store_disk_full": int(store.disk_full),
        }
    )


# -- one session


def _state(_metrics: Metrics, it: Standing) -> list[str]:
    return [f'runner_session_state{{session="{session_label(it.session_id)}",state="{it.state.value}"}} 1']


def _connection(_metrics: Metrics, it: Standing) -> list[str]:
    return [f'runner_session_connection{{session="{session_label(it.session_id)}"}} {it.connection}']


def _since(_metrics: Metrics, it: Standing) -> list[str]:
    value = it.since_unix_ms / 1000
    label = session_label(it.session_id)
    return [f'runner_session_state_since_seconds{{session="{label}"}} {_number(value)}']


def _uptime(_metrics: Metrics, it: Standing) -> list[str]:
    value = round(it.uptime_s, 3)
    return [f'runner_session_uptime_seconds{{session="{session_label(it.session_id)}"}} {_number(value)}']


def _messages(metrics: Metrics, it: Standing) -> list[str]:
    label = session_label(it.session_id)
    return [
        f'runner_session_messages_total{{session="{label}",direction="{direction}"}} {count}'
        for direction, count in metrics.messages_by_direction(it.session_id).items()
    ]


def _errors(metrics: Metrics, it: Standing) -> list[str]:
    label = session_label(it.session_id)
    return [
        f'runner_session_errors_total{{session="{label}",kind="{kind}"}} {count}'
        for kind, count in metrics.errors_of(it.session_id).items()
    ]


def _reconnects(metrics: Metrics, it: Standing) -> list[str]:
    label, value = session_label(it.session_id), metrics.reconnects_of(it.session_id)
    return [f'runner_session_reconnects_total{{session="{label}"}} {value}']


def _responses(metrics: Metrics, it: Standing) -> list[str]:
    label = session_label(it.session_id)
    count, total_s, times = metrics.responses_of(it.session_id)
    quantiles = {"0.5": times.p50_ms, "0.95": times.p95_ms, "0.99": times.p99_ms}
    name = "runner_session_response_seconds"
    return [
        *(
            f'{name}{{session="{label}",quantile="{quantile}"}} {_number(ms / 1000)}'
            for quantile, ms in quantiles.items()
            if ms is not None
        ),
        f'{name}_sum{{session="{label}"}} {_number(total_s)}',
        f'{name}_count{{session="{label}"}} {count}',
    ]


_FAMILIES: Final[Mapping[str, Callable[[Metrics, Standing], list[str]]]] = {
    "session_state": _state,
    "session_connection": _connection,
    "session_state_since_seconds": _since,
    "session_uptime_seconds": _uptime,
    "session_messages_total": _messages,
    "session_errors_total": _errors,
    "session_reconnects_total": _reconnects,
    "session_response_seconds": _responses,
}
