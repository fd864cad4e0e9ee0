"""Every number that an operator sees: its names, its unit, its window, and what exactly it counts. One table.

The API, `GET /metrics` (HELP and TYPE), the history, docs/metrics.md and the Grafana board take their names
and words from here; `tools/generate_docs.py --check` fails when one of them says anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.history import highest, mean
from runner.session import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PREFIX: Final = "runner_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One metric."""

    json: str = ""
    """Its name in the JSON of the API, with the object it stands in; empty: Prometheus only."""
    prometheus: str = ""
    """Its name there without the prefix; empty: JSON only."""
    kind: str = "gauge"
    """Prometheus' type."""
    labels: tuple[str, ...] = ()
    unit: str = ""
    window: str = "now"
    what: str
    section: str
    panel: str = ""
    """Title of the Grafana panel that it is drawn in."""
    fold: Callable[[Sequence[float]], float] | None = None
    """It has a history; this makes one point of many."""
    scale: float = 1.0
    """The JSON value is Prometheus' value times this."""

    @property
    def series(self) -> str:
        """The whole Prometheus name."""
        return PREFIX + self.prometheus


SESSION: Final = "session"
SYSTEM: Final = "system"
FLEET: Final = "fleet"
HANDING: Final = "handing"
PROCESS: Final = "process"
ENGINE: Final = "engine"
STORE: Final = "store"
PER_SESSION: Final = "per session"

SECTIONS: Final = {
    SESSION: "Per session",
    SYSTEM: "System",
    FLEET: "Fleet",
    HANDING: "Handlers and webhooks",
    PROCESS: "Process",
    ENGINE: "Engine",
    STORE: "Store",
    PER_SESSION: "Prometheus series of a session",
}

_EVER: Final = "since the process started"
_5_MIN: Final = "5 min"


def _per_session() -> list[Definition]:
    def row(json: str, unit: str, window: str, what: str) -> Definition:
        return Definition(json=json, unit=unit, window=window, what=what, section=SESSION)

    return [
        row(
            "connectionUptime", "s", "now", "since the login of the current connection; 0 when there is none"
        ),
        row(
            "messagesProcessed",
            "messages",
            _EVER,
            "inbound messages decrypted (or never encrypted: newsletters), committed to the store and "
            "answered, and outbound ones that the server has acknowledged",
        ),
        row("messagesPerMinute", "messages/min", "60 s", "the gain of messagesProcessed"),
        row(
            "averageResponseTime",
            "ms",
            "5 min, to the minute",
            "mean of the answered round trips to the server (ping, iq, send to ack); null without any",
        ),
        row("responseTimeP50", "ms", "5 min, to the minute", "median of the same, from buckets"),
        row("responseTimeP95", "ms", "5 min, to the minute", "95th percentile of the same"),
        row("responseTimeP99", "ms", "5 min, to the minute", "99th percentile of the same"),
        row(
            "errorCount",
            "errors",
            _EVER,
            "connections lost or not made, requests without a good answer, stanzas that do not parse, "
            "messages that could not be read or are not known to be sent; what an operator asked for is no "
            "error",
        ),
        row("reconnectCount", "logins", _EVER, "logins after the first"),
    ]


def _system() -> list[Definition]:
    return [
        Definition(
            json="totalMemory",
            prometheus="memory_total_bytes",
            unit="bytes",
            what="memory that may be used: the limit of the cgroup if it has one, else the host's; "
            "memoryScope says which",
            section=SYSTEM,
            panel="Memory",
            fold=mean,
        ),
        Definition(
            json="usedMemory",
            prometheus="memory_used_bytes",
            unit="bytes",
            what="memory in use there, without the page cache that the kernel would give back",
            section=SYSTEM,
            panel="Memory",
            fold=mean,
        ),
        Definition(
            json="cpuUsage",
            prometheus="cpu_ratio",
            unit="0 to 1",
            window="since the last sample",
            what="share of the CPU in use: of the cgroup's quota if it has one, else of all cores of the "
            "host; cpuScope says which",
            section=SYSTEM,
            panel="CPU",
            fold=mean,
        ),
        Definition(
            json="activeConnections",
            prometheus="active_connections",
            unit="connections",
            what="connections that are logged in",
            section=SYSTEM,
            panel="Sessions",
            fold=mean,
        ),
        Definition(
            json="errorRate",
            prometheus="error_ratio",
            unit="0 to 1",
            window=_5_MIN,
            what="failed ÷ all of dials, requests, sends and messages to be read; null below 20 of them",
            section=SYSTEM,
            panel="Error rate",
            fold=mean,
        ),
    ]


def _fleet() -> list[Definition]:
    def rate(json: str, what: str, panel: str = "") -> Definition:
        return Definition(
            json=json,
            unit="1/min",
            window="60 s",
            what=f"{what}; in PromQL `rate()`",
            section=FLEET,
            panel=panel,
            fold=mean,
        )

    def total(prometheus: str, what: str, *labels: str, panel: str = "", unit: str = "") -> Definition:
        return Definition(
            prometheus=prometheus,
            kind="counter",
            labels=labels,
            unit=unit,
            window=_EVER,
            what=what,
            section=FLEET,
            panel=panel,
        )

    return [
        Definition(
            json="averageResponseTime",
            unit="ms",
            window=_5_MIN,
            what="mean of the answered round trips of all sessions (ping, iq, send to ack); null without any",
            section=FLEET,
            fold=mean,
        ),
        Definition(
            json="responseTimeP50",
            unit="ms",
            window=_5_MIN,
            what="median of the same; responseTime.p50Ms in /performance-metrics",
            section=FLEET,
            fold=mean,
        ),
        Definition(
            json="responseTimeP95",
            unit="ms",
            window=_5_MIN,
            what="95th percentile of the same; responseTime.p95Ms",
            section=FLEET,
            fold=mean,
        ),
        Definition(
            json="responseTimeP99",
            unit="ms",
            window=_5_MIN,
            what="99th percentile of the same; responseTime.p99Ms",
            section=FLEET,
            fold=mean,
        ),
        rate(
            "messagesPerMinute",
            "inbound messages decrypted, committed and answered, and outbound ones acknowledged",
        ),
        rate("reconnectsPerMinute", "logins after a session's first"),
        rate("dialsPerMinute", "dials that came to their end, either way"),
        rate("closesPerMinute", "connections that ended"),
        rate("errorsPerMinute", "failed dials and requests, messages that could not be read"),
        *(
            Definition(
                json=f"sessions.{state.value}",
                unit="sessions",
                what=f"sessions that are {state.value}; states.{state.value} in /performance-metrics",
                section=FLEET,
                fold=mean,
            )
            for state in State
        ),
        Definition(
            prometheus="sessions",
            labels=("state",),
            unit="sessions",
            what="sessions by state",
            section=FLEET,
            panel="Sessions",
        ),
        Definition(
            prometheus="sessions_restricted",
            unit="sessions",
            window="1 h",
            what="sessions of which WhatsApp refused a text with 463: the account may not write to strangers",
            section=FLEET,
        ),
        Definition(
            json="revision",
            prometheus="session_changes_total",
            kind="counter",
            unit="changes",
            window=_EVER,
            what="changes of sessions (state, reason, connection, breaker): sessions by state are the same "
            "while this is",
            section=FLEET,
        ),
        total(
            "dials_total", "finished dials by outcome (online, failed)", "outcome", panel="Dials and closes"
        ),
        total("closes_total", "ended connections by reason", "reason", panel="Dials and closes"),
        total("reconnects_total", "logins after a session's first", panel="Reconnects"),
        total(
            "messages_received_total", "inbound messages decrypted, committed and answered", panel="Messages"
        ),
        total("messages_sent_total", "messages sent that the server has acknowledged", panel="Messages"),
        total("messages_resent_total", "the same sent again, to a device that could not read it"),
        total(
            "messages_not_resent_total",
            "times that a device asked for one again and did not get it: it is not kept any more, or not for "
            "that device, was sent five times, too many waited, or the connection ended",
            panel="Errors",
        ),
        total("sends_failed_total", "messages that are not known to be sent", panel="Errors"),
        total("messages_undecrypted_total", "inbound messages kept without content", panel="Errors"),
        total("records_unreadable_total", "imported Signal records that cannot be read, and count as none"),
        total("pings_sent_total", "keep-alive pings sent, second ones included"),
        total("pongs_received_total", "pings that were answered"),
        total("frames_received_total", "frames received"),
        total("frames_sent_total", "frames sent"),
        total("bytes_received_total", "bytes received in frames", panel="Traffic", unit="bytes"),
        total("bytes_sent_total", "bytes sent in frames", panel="Traffic", unit="bytes"),
        total("stanzas_malformed_total", "stanzas that did not parse", panel="Errors"),
        total("requests_sent_total", "requests sent"),
        total("requests_failed_total", "requests without a good answer", panel="Errors"),
        Definition(
            prometheus="response_seconds",
            kind="histogram",
            unit="s",
            window=_EVER,
            what="answered round trips: ping, iq, send to ack",
            section=FLEET,
            panel="Response time",
        ),
    ]


def _handing() -> list[Definition]:
    def outcomes(json: str, prometheus: str, what: str) -> Definition:
        return Definition(
            json=json,
            prometheus=prometheus,
            kind="counter",
            labels=("outcome",),
            unit="attempts",
            window=_EVER,
            what=what,
            section=HANDING,
            panel="Handlers and webhooks",
        )

    return [
        Definition(
            json="averageHandlerTime",
            unit="ms",
            window=_5_MIN,
            what="mean time that the app's handler took for a message, failures included; null without any. "
            "No part of averageResponseTime, which is the server's",
            section=HANDING,
            fold=mean,
        ),
        Definition(
            prometheus="handler_seconds",
            kind="histogram",
            unit="s",
            window=_EVER,
            what="time that the app's handler took for a message",
            section=HANDING,
            panel="Handler time",
        ),
        outcomes(
            "handlers",
            "handler_attempts_total",
            "calls of the app's handler by outcome: done, failed (the message is given again), dead (it is a "
            "dead letter)",
        ),
        Definition(
            json="undecryptable",
            prometheus="undecryptable_messages_total",
            kind="counter",
            unit="messages",
            window=_EVER,
            what="messages that could not be read and are not expected any more; they are dead letters of "
            "the sink `undecryptable`",
            section=HANDING,
            panel="Errors",
        ),
        outcomes(
            "webhooks",
            "webhook_attempts_total",
            "attempts to deliver an event by outcome: done, failed (it is tried again), dead (it is a dead "
            "letter); lost: events that found no room on their way to the store",
        ),
    ]


def _process() -> list[Definition]:
    def row(json: str, prometheus: str, unit: str, what: str, **more: object) -> Definition:
        return Definition(
            json=f"process.{json}" if json else "",
            prometheus=prometheus,
            unit=unit,
            what=what,
            section=PROCESS,
            **more,  # type: ignore[arg-type]
        )

    return [
        row("uptime", "process_uptime_seconds", "s", "since the start"),
        row("rss", "process_resident_memory_bytes", "bytes", "resident memory", panel="Memory"),
        Definition(
            json="processRss", unit="bytes", what="the same, in the history", section=PROCESS, fold=mean
        ),
        row("rssAnon", "process_anonymous_memory_bytes", "bytes", "the part of it that no file backs"),
        row(
            "fixed",
            "process_fixed_memory_bytes",
            "bytes",
            "rssAnon without what the open connections cost: what this process would need without any",
        ),
        row(
            "perSession",
            "process_memory_per_session_bytes",
            "bytes",
            "growth of rssAnon from before the first dial until now, the loading of the admin API taken out, "
            "÷ connections that were opened meanwhile; null below 50",
        ),
        row("openFds", "process_open_fds", "descriptors", "open file descriptors", panel="File descriptors"),
        Definition(
            json="openFds", unit="descriptors", what="the same, in the history", section=PROCESS, fold=mean
        ),
        row("threads", "process_threads", "threads", "threads that Python knows of"),
        row(
            "cpuSeconds",
            "process_cpu_seconds_total",
            "s",
            "CPU time used by this process",
            kind="counter",
            window=_EVER,
            panel="CPU",
        ),
        row("cpu", "", "cores", "CPU time ÷ time", window="since the last sample"),
        row(
            "loopLag",
            "loop_lag_seconds",
            "s",
            "how late the last sample was: how long the Trio thread was held up",
            panel="Lag",
        ),
        Definition(
            json="loopLagMs",
            unit="ms",
            what="the same, in the history",
            section=PROCESS,
            fold=highest,
            scale=1000,
        ),
        row(
            "handlerExceptions",
            "handler_exceptions_total",
            "exceptions",
            "requests of the admin API that ended in a bug of ours",
            kind="counter",
            window=_EVER,
            panel="Errors",
        ),
        row(
            "sessionFaults",
            "session_faults_total",
            "exceptions",
            "exceptions of ours that ended one session's connection",
            kind="counter",
            window=_EVER,
            panel="Errors",
        ),
        row(
            "wrongTokens",
            "admin_wrong_tokens_total",
            "tokens",
            "tokens presented to the admin API or at the sign-in that are none of ours",
            kind="counter",
            window=_EVER,
        ),
        row(
            "tokensNotTried",
            "admin_tokens_not_tried_total",
            "tokens",
            "tokens that were not looked at, since too many wrong ones had come from there",
            kind="counter",
            window=_EVER,
        ),
        row(
            "historyBytes",
            "history_bytes",
            "bytes",
            "memory of the 24 hours of history; taken at the start",
        ),
    ]


def _engine() -> list[Definition]:
    def row(json: str, prometheus: str, unit: str, what: str, **more: object) -> Definition:
        return Definition(
            json=f"engine.{json}" if json else "",
            prometheus=prometheus,
            unit=unit,
            what=what,
            section=ENGINE,
            **more,  # type: ignore[arg-type]
        )

    ever = {"kind": "counter", "window": _EVER}
    return [
        row(
            "readings",
            "engine_readings_total",
            "readings",
            "readings of the counters of all sessions: what is counted is the same while this is",
            **ever,
        ),
        row("readingAge", "engine_reading_age_seconds", "s", "how old the latest reading is; shared for 1 s"),
        row("connections", "engine_connections", "connections", "connections that are not closed"),
        row("dialling", "engine_dialling", "dials", "dials under way"),
        row("online", "", "connections", "after the login"),
        row(
            "loopLag",
            "engine_loop_lag_seconds",
            "s",
            "the worst lag of the I/O thread over 30 to 60 s",
            panel="Lag",
        ),
        row("heartbeatAge", "engine_heartbeat_age_seconds", "s", "since the last turn of the I/O thread"),
        row("outboxDepth", "engine_outbox_depth", "events", "events that wait for Python"),
        row("outboxDropped", "engine_outbox_dropped_total", "events", "events that did not fit", **ever),
        row(
            "heldInput",
            "engine_held_input_bytes",
            "bytes",
            "input that waits for the rest of its frame, over all connections",
        ),
        row("framesReceived", "", "frames", "frames received by all sessions", window=_EVER),
        row("pingsSent", "", "pings", "keep-alive pings sent by all sessions", window=_EVER),
        row("pongsReceived", "", "pings", "those that were answered", window=_EVER),
        row("dials", "engine_dials_total", "dials", "dials started", **ever),
        row("turns", "engine_turns_total", "turns", "turns of the I/O thread", **ever),
        row("tlsResumed", "engine_tls_resumed_total", "handshakes", "TLS sessions resumed", **ever),
        row("panics", "engine_panics_total", "panics", "sessions ended by a panic", panel="Errors", **ever),
        row(
            "oldestUnansweredStanza",
            "oldest_unanswered_stanza_seconds",
            "s",
            "age of the oldest stanza that we owe an answer",
        ),
    ]


def _store() -> list[Definition]:
    def row(json: str, prometheus: str, unit: str, what: str, **more: object) -> Definition:
        return Definition(
            json=f"store.{json}",
            prometheus=prometheus,
            unit=unit,
            what=what,
            section=STORE,
            **more,  # type: ignore[arg-type]
        )

    ever = {"kind": "counter", "window": _EVER}
    return [
        row("queued", "store_queued", "batches", "batches that wait for a commit", panel="Store"),
        row("oldestAge", "store_oldest_age_seconds", "s", "age of the oldest of them", panel="Lag"),
        row(
            "lockWait",
            "store_lock_wait_seconds",
            "s",
            "how long a lock that another process holds on the database has been waited for",
            panel="Lag",
        ),
        Definition(
            json="storeOldestAgeMs",
            unit="ms",
            what="the same, in the history",
            section=STORE,
            fold=highest,
            scale=1000,
        ),
        row("commits", "store_commits_total", "commits", "commits", panel="Store", **ever),
        row("batches", "store_batches_total", "batches", "batches committed", **ever),
        row("failedCommits", "store_failed_total", "commits", "failed commits", panel="Errors", **ever),
        row("walBytes", "store_wal_bytes", "bytes", "size of the write-ahead log"),
        row("inboxPending", "store_inbox_pending", "messages", "messages that no consumer has confirmed"),
        row("deadLetters", "store_dead_letters", "messages", "messages that did not decode, as they came"),
        row(
            "deadLettersDropped",
            "store_dead_letters_dropped_total",
            "messages",
            "such messages for which there was no room",
            **ever,
        ),
        row("diskFull", "store_disk_full", "0 or 1", "1 while the disk is full"),
    ]


def _series_of_a_session() -> list[Definition]:
    def row(prometheus: str, kind: str, unit: str, window: str, what: str, *labels: str) -> Definition:
        return Definition(
            prometheus=prometheus,
            kind=kind,
            unit=unit,
            window=window,
            what=what,
            labels=("session", *labels),
            section=PER_SESSION,
        )

    return [
        row("session_state", "gauge", "", "now", "1 for the state that the session is in", "state"),
        row(
            "session_connection",
            "gauge",
            "",
            "now",
            "number of the session's latest connection; the first is 1",
        ),
        row(
            "session_state_since_seconds",
            "gauge",
            "Unix time",
            "now",
            "since when the session is in that state",
        ),
        row("session_uptime_seconds", "gauge", "s", "now", "connectionUptime"),
        row("session_messages_total", "counter", "messages", _EVER, "messagesProcessed", "direction"),
        row(
            "session_errors_total",
            "counter",
            "errors",
            _EVER,
            "errorCount by kind: connection, request, stanza, send, decrypt",
            "kind",
        ),
        row("session_reconnects_total", "counter", "logins", _EVER, "reconnectCount"),
        row(
            "session_response_seconds",
            "summary",
            "s",
            "5 min, to the minute",
            "responseTimeP50, P95 and P99; its sum and count since the process started",
            "quantile",
        ),
    ]


DEFINITIONS: Final[tuple[Definition, ...]] = (
    *_per_session(),
    *_system(),
    *_fleet(),
    *_handing(),
    *_process(),
    *_engine(),
    *_store(),
    *_series_of_a_session(),
)

SESSION_METRICS: Final = tuple(it.json for it in DEFINITIONS if it.section == SESSION)
SYSTEM_METRICS: Final = tuple(it.json for it in DEFINITIONS if it.section == SYSTEM)
HISTORY: Final = {it.json: it for it in DEFINITIONS if it.fold is not None}
PROMETHEUS: Final = {it.prometheus: it for it in DEFINITIONS if it.prometheus}
