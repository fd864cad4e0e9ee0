"""The table of everything that alerts. docs/operating.md is generated from it.

An alert must ask for something to be done; what mends itself within seconds is a metric. Where one fault
shows in several conditions, `depends_on` names the one that explains the others: one fault is one alert.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runner.alerts.warnable import Kind, Severity, Warnable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.config import Settings

_OURS: Final = ("engine_lag", "event_loop_lag", "store_lag", "store_stalled", "disk_full")
_LONG_WINDOW_S: Final = 330.0
"""Means and counts of five minutes still hold a fault that ended five minutes ago."""
_P, _C, _S, _A = Kind.PERFORMANCE, Kind.CONNECTIVITY, Kind.SYSTEM, Kind.APPLICATION
_WARNING, _CRITICAL = Severity.WARNING, Severity.CRITICAL

_TABLE: Final = (
    # performance
    Warnable(
        slug="memory_high",
        kind=_P,
        severity=_WARNING,
        setting="memory_threshold",
        unit="ratio",
        clear_ratio=0.95,
        for_s=30,
        clear_s=30,
        depends_on=("memory_limit",),
        prometheus="runner_memory_used_bytes / runner_memory_total_bytes > {threshold}",
        meaning="the memory of the cgroup, or else of the host, is nearly used up",
        first_look="`python -m runner metrics`: `process.rss` against `usedMemory`: is it the runner?",
        action="restart the runner if it is; else give it more memory, or move sessions to another machine",
    ),
    Warnable(
        slug="memory_limit",
        kind=_P,
        severity=_CRITICAL,
        is_incident=True,
        meaning="the process is over its own memory limit and has restarted too recently to do it again",
        first_look="`python -m runner metrics`: `process.rss`, and how many sessions there are",
        action="raise the limit, or run fewer sessions in this process",
    ),
    Warnable(
        slug="cpu_high",
        kind=_P,
        severity=_WARNING,
        setting="cpu_threshold",
        unit="ratio",
        clear_ratio=0.95,
        for_s=60,
        clear_s=60,
        prometheus="runner_cpu_ratio > {threshold}",
        meaning="the CPU of the cgroup, or else of the host, has been busy for a minute",
        first_look="`top`: is it the runner? `python -m runner metrics`: reconnects and messages per minute",
        action="give the machine more cores, lower `WHATSAPP_CONNECT_RATE`, or move sessions elsewhere",
    ),
    Warnable(
        slug="response_time_high",
        kind=_P,
        severity=_WARNING,
        setting="response_time_threshold_s",
        unit="s",
        clear_ratio=0.9,
        for_s=30,
        clear_s=60,
        depends_on=(*_OURS, "path_outage"),
        aftermath_s=_LONG_WINDOW_S,
        prometheus=(
            "rate(runner_response_seconds_sum[5m]) / rate(runner_response_seconds_count[5m]) > {threshold}"
        ),
        meaning="the server takes long to answer pings, queries and sends (mean of five minutes)",
        first_look="`python -m runner metrics`: is it all sessions, or those behind one proxy?",
        action="check the network and the proxies; if everything else is fast, the server is slow: wait",
    ),
    Warnable(
        slug="event_loop_lag",
        kind=_P,
        severity=_WARNING,
        is_incident=True,
        depends_on=("engine_lag",),
        meaning="the Python thread was blocked for longer than 2 s; connections stay up, decisions come late",
        first_look=(
            "`python -m runner metrics`: `process.loopLag`; is the machine swapping or starved of CPU?"
        ),
        action="give the process CPU; if it comes again on a quiet machine, it is our bug: report it",
    ),
    Warnable(
        slug="engine_lag",
        kind=_P,
        severity=_CRITICAL,
        is_incident=True,
        prometheus="runner_engine_heartbeat_age_seconds > 5 or runner_engine_loop_lag_seconds > 1",
        meaning="the I/O thread is late: pings and answers of every session are delayed",
        first_look="`top -H -p PID`: is the thread starved, or does the machine swap?",
        action=(
            "give the process CPU and memory; a thread that stands still ends with a restart of the runner"
        ),
    ),
    Warnable(
        slug="store_lag",
        kind=_P,
        severity=_CRITICAL,
        is_incident=True,
        depends_on=("disk_full", "store_stalled"),
        prometheus="runner_store_oldest_age_seconds > 5",
        meaning="the store has not committed for more than 5 s: messages are not answered meanwhile",
        first_look="does the text name a lock? else `iostat -x 1`: is the disk busy or dying?",
        action="end what locks the database, or move the data directory to a faster disk",
    ),
    # connectivity
    Warnable(
        slug="path_outage",
        kind=_C,
        severity=_CRITICAL,
        is_incident=True,
        meaning=(
            "dials through one egress path (endpoint, proxy, address) fail; its sessions wait for one canary"
        ),
        first_look="the text names path and reason; `curl -v` to the endpoint through the same proxy",
        action="mend the network or the proxy; all sessions come back by themselves, through the limiter",
    ),
    Warnable(
        slug="connection_drops",
        kind=_C,
        severity=_WARNING,
        threshold=0.2,
        unit="ratio",
        clear_ratio=0.5,
        for_s=5,
        depends_on=("path_outage", "client_outdated", "fleet_logout", "error_rate_high", *_OURS),
        meaning=(
            "a fifth of the sessions or more lost their connection within a minute, and it may come again"
        ),
        first_look="`python -m runner logs | grep 'session dropped'`: one reason, or one proxy?",
        action=(
            "nothing if it was once: they come back by themselves; else check network, proxies and NAT tables"
        ),
    ),
    Warnable(
        slug="dead_sockets",
        kind=_C,
        severity=_WARNING,
        threshold=0.02,
        unit="ratio",
        clear_ratio=0.5,
        for_s=5,
        depends_on=("connection_drops", "path_outage", "engine_lag", "event_loop_lag"),
        prometheus=(
            'sum(increase(runner_closes_total{reason="pong_deadline"}[1m])) / sum(runner_sessions) > '
            "{threshold}"
        ),
        meaning=(
            "connections fell silent and were found dead by unanswered pings: one in fifty within a minute"
        ),
        first_look="`python -m runner sessions --reason pong_deadline`: one proxy, one network?",
        action="a NAT or firewall forgets connections: lower `WHATSAPP_KEEPALIVE_MAX`, or change the proxy",
    ),
    Warnable(
        slug="error_rate_high",
        kind=_C,
        severity=_WARNING,
        setting="error_rate_threshold",
        unit="ratio",
        clear_ratio=0.8,
        for_s=30,
        clear_s=30,
        depends_on=(
            "path_outage",
            "client_outdated",
            "fleet_logout",
            "fd_limit",
            "file_descriptors_high",
            *_OURS,
        ),
        aftermath_s=_LONG_WINDOW_S,
        prometheus="runner_error_ratio > {threshold}",
        meaning="too many dials and requests fail, or messages cannot be read (of all in five minutes), "
        "and not of one or two sessions",
        first_look="`runner metrics --prometheus | grep -e closes_total -e undecrypted`: which one grows?",
        action="follow that reason in docs/states.md; often it is one proxy or a few accounts",
    ),
    Warnable(
        slug="certificate_trouble",
        kind=_C,
        severity=_CRITICAL,
        depends_on=("path_outage",),
        prometheus=(
            'sum(increase(runner_closes_total{reason=~"certificate_.*|tls_certificate_invalid"}[10m])) > 0'
        ),
        meaning="a session cannot log in because the server's certificate is refused",
        first_look=(
            "`date -u`: is this machine's clock right? `openssl s_client -connect web.whatsapp.com:443`"
        ),
        action=(
            "set the clock; if it is right, something in between opens TLS: do not go around it, use "
            "another path"
        ),
    ),
    Warnable(
        slug="client_outdated",
        kind=_C,
        severity=_CRITICAL,
        is_incident=True,
        meaning="the server rejects the client version; nobody dials until a newer one is known",
        first_look="`python -m runner config print --effective | grep CLIENT_VERSION`: is it pinned?",
        action="set it to `auto`, or to the version that web.whatsapp.com serves now; update the runner",
    ),
    Warnable(
        slug="fleet_logout",
        kind=_C,
        severity=_CRITICAL,
        is_incident=True,
        meaning="many sessions were unlinked together; no further login confirms it until the hold ends",
        first_look=(
            "`python -m runner sessions --state logged_out,suspended`: the same proxy or the same owner?"
        ),
        action="do not pair again yet: find the cause (enforcement, one address for many numbers) first",
    ),
    Warnable(
        slug="deaf_fleet",
        kind=_C,
        severity=_CRITICAL,
        is_incident=True,
        depends_on=_OURS,
        meaning="more than 5 % of the sessions answer pings and get nothing else; nothing is rebuilt",
        first_look="`python -m runner sessions --state degraded`: which probe fails?",
        action="the fault is the server's or ours, not theirs: wait, and restart the runner if it stays",
    ),
    Warnable(
        slug="session_deaf",
        kind=_C,
        severity=_WARNING,
        for_s=15,
        depends_on=("deaf_fleet", *_OURS),
        meaning="pings are answered, but something that must come does not; the session is rebuilt",
        first_look="`python -m runner show ID`: `reason` is the probe that fails",
        action="nothing at once; if it comes again for the same session, pair it anew",
    ),
    Warnable(
        slug="session_offline",
        kind=_C,
        severity=_WARNING,
        for_s=120,
        depends_on=(
            "path_outage",
            "client_outdated",
            "fleet_logout",
            "error_rate_high",
            "fd_limit",
            "file_descriptors_high",
            "engine_full",
            "session_fault",
            *_OURS,
        ),
        meaning="a session that should run has not been online for two minutes, and nothing else explains it",
        first_look=(
            "`python -m runner show ID`: state, reason, `nextRetryAt`; `python -m runner logs --session ID`"
        ),
        action="`python -m runner reconnect ID`; if its proxy is dead, `python -m runner set-proxy ID URL`",
    ),
    Warnable(
        slug="breaker_open",
        kind=_C,
        severity=_WARNING,
        for_s=60,
        depends_on=("error_rate_high", "session_fault"),
        meaning="a session failed so often by itself that its circuit breaker opened; it tries again later",
        first_look="`curl localhost:4001/reconnection-status`: reason, attempt and when it tries next",
        action="mend what the reason says, then `python -m runner reset-breaker ID`",
    ),
    Warnable(
        slug="reconnect_loop",
        kind=_C,
        severity=_CRITICAL,
        depends_on=("session_fault",),
        meaning="a session used up its retries; it goes on ever more slowly, or is parked, as it was set",
        first_look="`python -m runner show ID` and `python -m runner logs --session ID`",
        action="mend what the reason says, then `python -m runner reset-breaker ID`; else stop the session",
    ),
    Warnable(
        slug="session_penalised",
        kind=_C,
        severity=_CRITICAL,
        meaning=(
            "the server banned a number for a time (402) or slowed it down (429); nothing is tried "
            "before the end"
        ),
        first_look="`python -m runner show ID`: `reason` and `nextRetryAt`",
        action="wait; send less and more slowly from this number; forcing it can cost the number",
    ),
    Warnable(
        slug="session_restricted",
        kind=_C,
        severity=_WARNING,
        prometheus="runner_sessions_restricted > 0",
        meaning=(
            "WhatsApp refuses texts of a session to people who have not written to it (463); answers still "
            "go out, and whoever was refused is not tried again for ten minutes"
        ),
        first_look="the phone: it says that the account is restricted, and until when",
        action="write to nobody first from this number until then; afterwards less, to people who know it",
    ),
    Warnable(
        slug="session_parked",
        kind=_C,
        severity=_CRITICAL,
        depends_on=("client_outdated",),
        prometheus='runner_sessions{state="parked"} > 0',
        meaning=(
            "a session will not come back by itself: replaced by another client, locked, banned, damaged keys"
        ),
        first_look="`python -m runner show ID`: `reason`; docs/states.md says what it means",
        action=(
            "stop the other program that uses its keys, or unlock the account; then `reconnect ID --override`"
        ),
    ),
    Warnable(
        slug="session_logged_out",
        kind=_C,
        severity=_CRITICAL,
        depends_on=("fleet_logout",),
        prometheus='runner_sessions{state="logged_out"} > 0',
        meaning="a device was unlinked, by its phone or by the server; its credentials are archived",
        first_look="the phone's list of linked devices",
        action="pair it again, or `python -m runner delete ID`",
    ),
    # system
    Warnable(
        slug="disk_space_low",
        kind=_S,
        severity=_WARNING,
        setting="disk_threshold",
        unit="ratio",
        clear_ratio=0.98,
        for_s=10,
        clear_s=10,
        depends_on=("disk_full",),
        meaning="the file system of the data directory is nearly full",
        first_look="`df -h` and `du -sh` of the data directory: the store, its WAL, or the logs?",
        action="free space or enlarge the file system before it is full: then nothing inbound is answered",
    ),
    Warnable(
        slug="disk_full",
        kind=_S,
        severity=_CRITICAL,
        is_incident=True,
        prometheus="runner_store_disk_full > 0",
        meaning="nothing can be committed, so nothing inbound is answered; nothing answered is lost",
        first_look="`df -h` of the data directory",
        action="free some space; everything goes on by itself",
    ),
    Warnable(
        slug="store_stalled",
        kind=_S,
        severity=_CRITICAL,
        is_incident=True,
        depends_on=("disk_full",),
        meaning=(
            "the store does not commit: messages wait unanswered. Under a lock of another process the "
            "sessions stay; on a disk that hangs their connections close after 20 s"
        ),
        first_look="the text says which; for a lock `fuser -v` on the database file, else `dmesg`",
        action="end what locks the database, or mend the disk; then everything goes on by itself",
    ),
    Warnable(
        slug="fd_limit",
        kind=_S,
        severity=_CRITICAL,
        is_incident=True,
        meaning="there are more sessions than the file-descriptor limit holds; the least active wait",
        first_look="`grep 'open files' /proc/PID/limits`",
        action="raise `LimitNOFILE=` of the unit (or `ulimit -n`) and restart",
    ),
    Warnable(
        slug="file_descriptors_high",
        kind=_S,
        severity=_WARNING,
        setting="fd_threshold",
        unit="ratio",
        clear_ratio=0.95,
        for_s=10,
        clear_s=10,
        depends_on=("fd_limit",),
        meaning="the process has nearly as many files and sockets open as it may",
        first_look="`ls /proc/PID/fd | wc -l` against the number of sessions",
        action="raise `LimitNOFILE=` of the unit (or `ulimit -n`) and restart",
    ),
    Warnable(
        slug="clock_stepped",
        kind=_S,
        severity=_WARNING,
        threshold=0,
        unit="steps",
        meaning=(
            "the wall clock was set by more than 2 s within the last five minutes; waiting times were kept"
        ),
        first_look="`timedatectl`, `chronyc tracking`: is the clock synchronised?",
        action="run a time service that slews; a clock that is far off makes certificates look expired",
    ),
    Warnable(
        slug="alerts_undelivered",
        kind=_S,
        severity=_WARNING,
        threshold=0,
        unit="notices",
        meaning="a webhook or another channel did not take a notice after all attempts, within the last hour",
        first_look="`python -m runner logs | grep 'alert not delivered'`",
        action="mend the receiver or the setting; what was lost is in `alerts.log` and `alerts --history`",
    ),
    # application
    Warnable(
        slug="messages_given_up",
        kind=_A,
        severity=_WARNING,
        threshold=0,
        unit="messages",
        prometheus='increase(runner_handler_attempts_total{outcome="dead"}[1h]) > 0 or '
        'sum by (instance) (increase(runner_webhook_attempts_total{outcome=~"dead|lost"}[1h])) > 0',
        meaning="the app's handler, or a webhook, did not take messages or events after all attempts, within "
        "the last hour",
        first_look="`python -m runner dead-letters list`: which, and why",
        action="mend the handler or the receiver, then `python -m runner dead-letters redrive --all`",
    ),
    Warnable(
        slug="token_guessing",
        kind=_A,
        severity=_WARNING,
        threshold=20,
        unit="tokens",
        prometheus="increase(runner_admin_wrong_tokens_total[5m])"
        " + increase(runner_admin_tokens_not_tried_total[5m]) > {threshold}",
        meaning="wrong tokens keep coming to the admin API; a caller has ten tries, then ten a minute",
        first_look="`python -m runner logs | grep 'token refused'`: `caller` is a local user or an address",
        action="stop the script that has an old token; else close the port to that address",
    ),
    Warnable(
        slug="session_fault",
        kind=_A,
        severity=_CRITICAL,
        is_incident=True,
        prometheus="increase(runner_session_faults_total[5m]) > 0",
        meaning="exceptions of ours ended the connections of sessions; each slows down as by any failure",
        first_look="`python -m runner logs | grep 'session fault'`: the traceback",
        action="report it with the traceback; a restart may help, an update will",
    ),
    Warnable(
        slug="handler_exceptions",
        kind=_A,
        severity=_WARNING,
        threshold=0,
        unit="exceptions",
        depends_on=("session_fault",),
        aftermath_s=_LONG_WINDOW_S,
        meaning="code of ours raised something that it should not have, within the last five minutes",
        first_look="`python -m runner logs | grep -i exception`: the traceback",
        action="report it with the traceback",
    ),
    Warnable(
        slug="engine_panic",
        kind=_A,
        severity=_CRITICAL,
        threshold=0,
        unit="panics",
        prometheus="increase(runner_engine_panics_total[5m]) > 0",
        meaning="a bug in the engine ended one session's connection, within the last five minutes",
        first_look="`python -m runner logs | grep panic`",
        action="report it; the session comes back by itself",
    ),
    Warnable(
        slug="events_dropped",
        kind=_A,
        severity=_CRITICAL,
        threshold=0,
        unit="events",
        depends_on=("event_loop_lag",),
        aftermath_s=_LONG_WINDOW_S,
        prometheus="increase(runner_engine_outbox_dropped_total[5m]) > 0",
        meaning="the outbox between engine and policy overflowed within the last five minutes",
        first_look="`python -m runner metrics`: `engine.outboxDepth` and `process.loopLag`",
        action="find what blocks the Python thread, or raise `WHATSAPP_OUTBOX_CAPACITY`",
    ),
    Warnable(
        slug="engine_full",
        kind=_A,
        severity=_CRITICAL,
        is_incident=True,
        depends_on=("event_loop_lag", "engine_lag"),
        meaning="the engine has had no room for a dial for half a minute: its events are not taken",
        first_look="`python -m runner metrics`: `engine.outboxDepth` and `process.loopLag`",
        action="find what blocks the Python thread; restart the runner, and report it",
    ),
    Warnable(
        slug="stanzas_unanswered",
        kind=_A,
        severity=_WARNING,
        threshold=30.0,
        unit="s",
        clear_ratio=0.9,
        for_s=10,
        depends_on=("session_deaf", "deaf_fleet", *_OURS),
        prometheus="runner_oldest_unanswered_stanza_seconds > {threshold}",
        meaning=(
            "a stanza of the server has waited for our answer for half a minute; it will cost the connection"
        ),
        first_look="`python -m runner metrics`: `engine.oldestUnansweredStanza`, and the store's age",
        action="if the store is well, it is our bug: report it; the session is rebuilt by itself",
    ),
    Warnable(
        slug="stuck_close",
        kind=_A,
        severity=_CRITICAL,
        is_incident=True,
        depends_on=("engine_lag",),
        meaning="the engine does not let go of a connection; its session cannot dial",
        first_look="`python -m runner show ID`: state and phase",
        action="restart the runner, and report it",
    ),
)


def _in_order(rows: tuple[Warnable, ...]) -> Iterator[Warnable]:
    """What explains others before what it explains: one look then needs one pass."""
    waiting = {row.slug: row for row in rows}

    def take(row: Warnable) -> Iterator[Warnable]:
        if waiting.pop(row.slug, None) is None:
            return
        for parent in row.depends_on:
            if parent in waiting:
                yield from take(waiting[parent])
        yield row

    for row in rows:
        yield from take(row)


RULES: Final[Mapping[str, Warnable]] = MappingProxyType({row.slug: row for row in _in_order(_TABLE)})
"""Every alert by its slug, explanations first."""
INCIDENT_RULES: Final = frozenset(slug for slug, row in RULES.items() if row.is_incident)


def threshold_of(rule: Warnable, settings: Settings) -> float | None:
    """The number in force, or None for a condition without one."""
    if rule.setting is None:
        return rule.threshold
    value: float = getattr(settings, rule.setting)
    return value


def prometheus_rules(settings: Settings) -> Iterator[tuple[str, str, str, str, str]]:
    """(name, expr, for, severity, summary) of each alert that Prometheus can see as well."""
    for rule in RULES.values():
        if rule.prometheus is not None:
            threshold = threshold_of(rule, settings)
            shown = "0" if threshold is None else f"{threshold:g}"
            name = "Runner" + "".join(word.capitalize() for word in rule.slug.split("_"))
            yield (
                name,
                rule.prometheus.replace("{threshold}", shown),
                f"{rule.for_s:g}s",
                rule.severity.value,
                rule.meaning,
            )
