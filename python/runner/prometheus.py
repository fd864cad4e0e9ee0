"""`GET /metrics`: the numbers as Prometheus text. Labels are bounded: states, close reasons, outcomes."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from runner.metrics import TOTALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.metrics import Metrics

Sample = tuple[str, float]


def text(metrics: Metrics) -> bytes:
    """All of it."""
    return "\n".join([*_fleet(metrics), *_machine(metrics), *_engine(metrics), *_store(metrics), ""]).encode()


def _one(name: str, kind: str, what: str, samples: Iterable[Sample]) -> list[str]:
    full = f"runner_{name}"
    return [
        f"# HELP {full} {what}",
        f"# TYPE {full} {kind}",
        *(f"{full}{labels} {_number(value)}" for labels, value in samples),
    ]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _labelled(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [(f'{{{label}="{key}"}}', value) for key, value in sorted(values.items())]


def _fleet(metrics: Metrics) -> list[str]:
    totals = dict(zip(TOTALS, metrics.totals, strict=True))
    rate = metrics.error_rate()
    lines = [
        *_one("sessions", "gauge", "Sessions by state.", _labelled("state", metrics.states())),
        *_one(
            "active_connections",
            "gauge",
            "Connections that are logged in.",
            [("", metrics.active_connections)],
        ),
        *_one("dials_total", "counter", "Finished dials by outcome.", _labelled("outcome", metrics.dials)),
        *_one("closes_total", "counter", "Ended connections by reason.", _labelled("reason", metrics.closes)),
        *_one(
            "reconnects_total", "counter", "Logins after a session's first.", [("", metrics.reconnects_total)]
        ),
        *_histogram(metrics, totals["response_count"], totals["response_sum_s"]),
    ]
    for name, what in (
        ("messages_received", "Inbound messages committed and answered."),
        ("frames_received", "Frames received."),
        ("frames_sent", "Frames sent."),
        ("bytes_received", "Bytes received in frames."),
        ("bytes_sent", "Bytes sent in frames."),
        ("stanzas_malformed", "Stanzas that did not parse."),
        ("requests_sent", "Requests sent."),
        ("requests_failed", "Requests without a good answer."),
    ):
        lines += _one(f"{name}_total", "counter", what, [("", totals[name])])
    if rate is not None:
        lines += _one("error_ratio", "gauge", "Failed share of dials and requests over 5 min.", [("", rate)])
    return lines


def _histogram(metrics: Metrics, count: float, total_s: float) -> list[str]:
    bounds = [*(f"{bound:g}" for bound in metrics.bucket_bounds_s), "+Inf"]
    buckets = [
        (f'_bucket{{le="{bound}"}}', reached)
        for bound, reached in zip(bounds, accumulate(metrics.buckets), strict=True)
    ]
    samples = [*buckets, ("_sum", total_s), ("_count", count)]
    return _one("response_seconds", "histogram", "Answered round trips: ping, iq, send to ack.", samples)


def _machine(metrics: Metrics) -> list[str]:
    system, use = metrics.system(), metrics.machine.process()
    values: list[tuple[str, str, str, object]] = [
        ("memory_total_bytes", "gauge", "Memory of the cgroup or host.", system["totalMemory"]),
        ("memory_used_bytes", "gauge", "Memory in use there.", system["usedMemory"]),
        ("cpu_ratio", "gauge", "CPU in use there, 0 to 1.", system["cpuUsage"]),
        ("process_resident_memory_bytes", "gauge", "Resident memory of this process.", use.rss_bytes),
        ("process_anonymous_memory_bytes", "gauge", "Anonymous part of it.", use.rss_anon_bytes),
        ("process_open_fds", "gauge", "Open file descriptors.", use.open_fds),
        ("process_cpu_seconds_total", "counter", "CPU time used by this process.", use.cpu_s),
        ("loop_lag_seconds", "gauge", "How late the Trio thread's last sample was.", metrics.loop_lag_s),
        (
            "session_faults_total",
            "counter",
            "Exceptions of ours that ended one session's connection.",
            metrics.session_faults(),
        ),
    ]
    return _plain(values)


def _engine(metrics: Metrics) -> list[str]:
    stats = metrics.sources.stats()
    return _plain(
        [
            (
                "engine_loop_lag_seconds",
                "gauge",
                "The longest that a timer or a turn of the I/O thread was late, in the last 30 to 60 s.",
                stats.loop_lag_s,
            ),
            (
                "engine_heartbeat_age_seconds",
                "gauge",
                "Since the last turn of the I/O thread.",
                stats.heartbeat_age_s,
            ),
            ("engine_outbox_depth", "gauge", "Events that wait for Python.", stats.outbox_depth),
            (
                "engine_outbox_dropped_total",
                "counter",
                "Events that did not fit.",
                stats.outbox_dropped_total,
            ),
            (
                "engine_held_input_bytes",
                "gauge",
                "Input that waits for the rest of its frame, over all connections.",
                stats.held_input_bytes,
            ),
            ("engine_dialling", "gauge", "Dials under way.", stats.dialling),
            ("engine_dials_total", "counter", "Dials started.", stats.dials_total),
            ("engine_turns_total", "counter", "Turns of the I/O thread.", stats.turns_total),
            ("engine_tls_resumed_total", "counter", "TLS sessions resumed.", stats.tls_resumed_total),
            ("engine_panics_total", "counter", "Sessions ended by a panic.", stats.panics_total),
            (
                "oldest_unanswered_stanza_seconds",
                "gauge",
                "Oldest stanza we owe an answer.",
                metrics.oldest_unanswered_s,
            ),
        ]
    )


def _store(metrics: Metrics) -> list[str]:
    store = metrics.sources.store_health()
    return _plain(
        [
            ("store_queued", "gauge", "Batches that wait for a commit.", store.queued),
            ("store_oldest_age_seconds", "gauge", "Age of the oldest of them.", store.oldest_age_s),
            ("store_commits_total", "counter", "Commits.", store.commits_total),
            ("store_batches_total", "counter", "Batches committed.", store.batches_total),
            ("store_failed_total", "counter", "Failed commits.", store.failed_total),
            ("store_wal_bytes", "gauge", "Size of the write-ahead log.", store.wal_bytes),
            ("store_inbox_pending", "gauge", "Messages that no consumer has confirmed.", store.inbox_pending),
            (
                "store_dead_letters",
                "gauge",
                "Messages that could not be decoded and were refused; kept as they came.",
                store.dead_letters,
            ),
            (
                "store_dead_letters_dropped_total",
                "counter",
                "Such messages for which there was no room.",
                store.dead_letters_dropped_total,
            ),
            ("store_disk_full", "gauge", "1 while the disk is full.", int(store.disk_full)),
        ]
    )


def _plain(values: Iterable[tuple[str, str, str, object]]) -> list[str]:
    lines: list[str] = []
    for name, kind, what, value in values:
        if isinstance(value, int | float):
            lines += _one(name, kind, what, [("", value)])
    return lines
