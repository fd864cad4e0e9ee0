"""All settings, declared once.

Each field of `Settings` is one row of the table: name, type, default, unit, bounds, what it does, whether
SIGHUP reloads it, whether it is secret. Parsing, the error list, `config print`, docs/settings.md and the
README's table are all made from these rows.

Rules: the environment (`WHATSAPP_` and the name) wins over the TOML file (the lower-case name), which wins
over the default. Durations are written in milliseconds and held in seconds, so the field `query_timeout_s` is
the variable `WHATSAPP_QUERY_TIMEOUT` and the TOML key `query_timeout`. All that is wrong is reported at once.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runner.config_kinds import (
    ROW,
    Row,
    WrongValue,
    choice,
    count,
    did_you_mean,
    duration,
    flag,
    is_real_host,
    number,
    parse_allowed_targets,
    parse_client_version,
    parse_endpoint,
    parse_proxy,
    parse_root_key,
    parse_tokens,
    parse_webhook_urls,
    size,
    text,
    written_size,
)
from runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "WHATSAPP_"
REAL_HOST: Final = "web.whatsapp.com"

SECTIONS: Final = {
    "data_dir": "Endpoint",
    "reconnection_max_retries": "Reconnecting",
    "connect_timeout_s": "Timeouts and keep-alive",
    "admin_socket": "Admin API",
    "performance_monitoring": "Monitoring",
    "disk_threshold": "Alerts",
    "app": "Handlers and webhooks",
    "outbox_capacity": "Bounds",
    "log_level": "Logs",
}
"""Titles for the docs, by the first field of each section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force. Durations in seconds; `row()` of a field says all there is to know about it."""

    data_dir: str = text(
        "",
        "where the store, the admin socket and the generated token live; made with mode 0700",
        kind="path",
        written_default="~/.local/share/wa-runner ($XDG_DATA_HOME); /var/lib/wa-runner for root",
    )
    endpoint: str = text(
        f"wss://{REAL_HOST}/ws/chat",
        "the server to dial; plain ws:// only on loopback",
        check=parse_endpoint,
        kind="URL",
    )
    root_key: str = text(
        "",
        "certificate root to trust instead of WhatsApp's, in hex; for simulators, refused for the real host",
        check=parse_root_key,
        kind="hex",
    )
    tls_ca: str = text(
        "",
        "PEM file with an extra certificate authority; for simulators, refused for the real host",
        kind="path",
    )
    client_version: str = text(
        "auto",
        "WhatsApp Web version to announce: auto (from the endpoint's /sw.js, kept 24 h) or 2.3000.N",
        check=parse_client_version,
        kind="auto / version",
        reloadable=True,
    )
    ik: str = choice(
        "auto",
        ("auto", "on", "off"),
        "resume with Noise IK; auto means off for the real host and on everywhere else",
    )
    proxy: str = text(
        "",
        "http:// or socks5:// proxy for /sw.js, and for sessions that have none of their own",
        check=parse_proxy,
        kind="URL",
        secret=True,
    )

    reconnection_max_retries: int = count(
        10,
        "failed attempts in a row until the alert turns critical and retries slow down; 0: no limit",
        reloadable=True,
    )
    reconnection_base_delay_s: float = duration(
        2000, "ceiling of the delay before the second retry; doubles with each", reloadable=True
    )
    reconnection_max_delay_s: float = duration(
        300_000, "highest ceiling of the delay between retries", reloadable=True
    )
    reconnection_exhausted: str = choice(
        "probe",
        ("probe", "park"),
        "at the most retries: probe (keep trying, ever more slowly) or park (wait for an operator)",
        reloadable=True,
    )
    circuit_breaker_threshold: int = count(
        5, "failures in a row that open a session's circuit breaker", low=1, reloadable=True
    )
    circuit_breaker_timeout_s: float = duration(
        600_000, "how long an open breaker waits before it lets one attempt through", reloadable=True
    )
    connect_rate: float = number(
        10,
        "dials a second over all sessions: start, storm and force alike; the embedded simulator raises it",
        low=0.01,
        high=100_000,
        unit="per s",
        reloadable=True,
    )
    connect_burst: int = count(50, "dials that may go out at once after a quiet time", low=1, reloadable=True)
    connect_concurrency: int = count(
        50, "dials under way at the same time", low=1, high=100_000, reloadable=True
    )

    connect_timeout_s: float = duration(20_000, "resolve, TCP, proxy and TLS together")
    handshake_timeout_s: float = duration(20_000, "WebSocket upgrade and Noise handshake")
    login_timeout_s: float = duration(60_000, "from the end of the handshake to the server's success")
    query_timeout_s: float = duration(60_000, "answer to an iq")
    send_timeout_s: float = duration(75_000, "server ack of a sent stanza")
    keepalive_min_s: float = duration(
        15_000, "shortest time between pings; each is drawn at random up to the longest", low_ms=100
    )
    keepalive_max_s: float = duration(20_000, "longest time between pings", low_ms=100)
    keepalive_second_s: float = duration(
        6_000, "silence after a ping that makes a second one go out", low_ms=100
    )
    dead_socket_s: float = duration(
        12_000, "silence after the first unanswered send that counts as a dead socket", low_ms=100
    )

    admin_socket: str = text(
        "",
        "Unix socket of the admin API, mode 0600",
        kind="path",
        written_default="$WHATSAPP_DATA_DIR/admin.sock",
    )
    admin_host: str = text(
        "127.0.0.1",
        "address of the admin API; any but a loopback address demands the token from everybody",
    )
    admin_port: int = count(
        4001, "port of the admin API; 0 turns TCP off and leaves the Unix socket", high=65_535
    )
    admin_token: str = text(
        "",
        "token(s) for the admin API over TCP, TOKEN or TOKEN:read+operate, separated by commas or lines",
        check=parse_tokens,
        kind="token",
        secret=True,
        written_default="generated into $WHATSAPP_DATA_DIR/admin.token at first start",
        reloadable=True,
    )
    admin_wrong_tokens: int = count(
        10,
        "wrong tokens that one caller may present at once and then a minute, all together ten times as many; "
        "beyond it none is looked at (429)",
        low=1,
        high=1_000_000,
        unit="tokens",
        reloadable=True,
    )
    admin_hosts: str = text(
        "", "further names, separated by commas, that a request's Host header may carry", reloadable=True
    )
    admin_connections: int = count(256, "connections to the admin API at the same time", low=4, high=10_000)
    admin_import_limit: int = count(
        64 * 1024 * 1024, "largest upload of credentials", low=4096, high=1024 * 1024 * 1024, unit="bytes"
    )

    performance_monitoring: bool = flag(
        default=True,
        what="sample metrics and keep windows and history; the endpoints answer either way",
        reloadable=True,
    )
    metrics_sessions: str = choice(
        "off",
        ("off", "top", "all"),
        "series of single sessions in /metrics: none, the 20 worst, or all up to the limit",
        reloadable=True,
    )
    metrics_session_limit: int = count(
        1000,
        "most sessions with series of their own in /metrics; the worst when there are more",
        low=1,
        high=100_000,
        unit="sessions",
        reloadable=True,
    )
    health_check_interval_s: float = duration(
        30_000, "time between health checks of all sessions", low_ms=100, reloadable=True
    )
    memory_threshold: float = number(
        0.8,
        "share of the memory in use for an alert",
        low=0,
        high=1,
        unit="ratio",
        reloadable=True,
    )
    cpu_threshold: float = number(
        0.9,
        "share of the CPU in use for an alert",
        low=0,
        high=1,
        unit="ratio",
        reloadable=True,
    )
    error_rate_threshold: float = number(
        0.1,
        "share of failed operations for an alert",
        low=0,
        high=1,
        unit="ratio",
        reloadable=True,
    )
    response_time_threshold_s: float = duration(5000, "mean response time for an alert", reloadable=True)
    disk_threshold: float = number(
        0.9,
        "share of the data directory's file system in use for an alert",
        low=0,
        high=1,
        unit="ratio",
        reloadable=True,
    )
    fd_threshold: float = number(
        0.9,
        "share of the file-descriptor limit in use for an alert",
        low=0,
        high=1,
        unit="ratio",
        reloadable=True,
    )
    alert_patience: float = number(
        1,
        "all durations of docs/operating.md times this: below 1 alerts come sooner and more often",
        low=0.01,
        high=100,
        unit="times",
    )
    alert_webhook_urls: str = text(
        "",
        "http(s) addresses, separated by commas, that every alert is posted to",
        check=parse_webhook_urls,
        kind="URLs",
        secret=True,
    )
    alert_webhook_secret: str = text(
        "",
        "key of the signature in the webhooks' headers; without one they are not signed",
        kind="text",
        secret=True,
    )
    alert_webhook_allow: str = text(
        "",
        "hosts, addresses or networks, separated by commas, that webhooks may reach though they are private",
        check=parse_allowed_targets,
        kind="names",
    )
    alert_webhook_attempts: int = count(
        15, "attempts to deliver a notice to a webhook or by apprise, over six hours", low=1, high=100
    )
    alert_apprise_urls: str = text(
        "",
        "apprise addresses, separated by commas (mail, Telegram, Slack …); needs wa-runner[apprise]",
        kind="URLs",
        secret=True,
    )
    max_memory_restart: int = size(
        0,
        "resident memory of the process, such as 32G, above which it restarts itself in order; 0: never",
        low=64 * 1024 * 1024,
        reloadable=True,
    )
    monitor_log: str = text(
        "",
        "file that `python -m runner monitor` appends its line to; rotated at 1 MiB, five old ones are kept",
        kind="path",
        written_default="$WHATSAPP_DATA_DIR/logs/monitor.log",
    )

    app: str = text(
        "",
        "the app that gets the messages, MODULE:NAME, when `run` names none; docs/app.md",
        kind="name",
    )
    handler_concurrency: int = count(
        64, "handlers of an app that run at the same time, each for another chat", low=1, high=10_000
    )
    handler_timeout_s: float = duration(
        60_000, "how long a handler may take for one message before it is cut off and the message given again"
    )
    handler_attempts: int = count(
        5, "times that a message is given to a handler that fails, before it is kept as a dead letter", low=1
    )
    handler_retry_delay_s: float = duration(
        1000, "before a message is given again; doubles with each failure, up to five minutes"
    )
    handler_stop_timeout_s: float = duration(
        3000, "at a stop, how long handlers and webhooks that are at work may take to end"
    )
    webhook_urls: str = text(
        "",
        "http(s) addresses, separated by commas, that events of all sessions are posted to",
        check=parse_webhook_urls,
        kind="URLs",
        secret=True,
    )
    webhook_events: str = text(
        "message,session.status",
        "which events these get, separated by commas: names, session.* or *",
        kind="names",
    )
    webhook_secret: str = text(
        "", "key of the signature in their headers; without one they are not signed", secret=True
    )
    webhook_headers: str = text(
        "", "further headers for them, one `Name: value` a line", kind="headers", secret=True
    )
    webhook_retry_policy: str = choice(
        "exponential",
        ("constant", "linear", "exponential"),
        "how the wait before another attempt grows, up to an hour",
    )
    webhook_retry_delay_s: float = duration(2000, "before the second attempt", low_ms=100)
    webhook_attempts: int = count(
        24,
        "attempts to deliver an event, over about ten hours, before it is a dead letter",
        low=1,
        high=1000,
    )
    webhook_timeout_s: float = duration(10_000, "for one attempt of any webhook", low_ms=100)
    webhook_max_age_s: float = duration(
        86_400_000, "an event that is older, and fails, is a dead letter whatever attempts it has left"
    )
    webhook_concurrency: int = count(
        8, "attempts under way to one webhook, each for another chat", low=1, high=1000
    )
    webhook_allow: str = text(
        "",
        "hosts, addresses or networks, separated by commas, that webhooks may reach though they are private",
        check=parse_allowed_targets,
        kind="names",
    )
    undecrypted_timeout_s: float = duration(
        86_400_000,
        "how long a message that could not be read is expected to come again before it is a dead letter",
        low_ms=1000,
    )
    dead_letter_retention_s: float = duration(
        2_592_000_000, "how long messages and events that were given up are kept", low_ms=60_000
    )

    inbox_retention_s: float = duration(
        86_400_000,
        "how long a confirmed message is remembered, so that one sent again is not given twice",
        low_ms=60_000,
    )
    outbox_capacity: int = count(65_536, "events the engine holds for Python", low=64, unit="events")
    held_input_limit: int = count(
        256 * 1024 * 1024,
        "unfinished input of all connections together; above it the one that holds the most is closed",
        low=16 * 1024 * 1024,
        high=1024 * 1024 * 1024 * 1024,
        unit="bytes",
    )
    event_queue: int = count(
        1024, "events held for one slow WebSocket before it loses some", low=16, unit="events"
    )
    worker_threads: int = count(
        40,
        "threads for what blocks: imports, archiving, reading the version",
        low=2,
        high=256,
        unit="threads",
    )
    log_buffer: int = count(4096, "log lines kept in memory for `logs`", low=16, high=100_000, unit="lines")

    log_level: str = choice(
        "info",
        ("debug", "info", "warning", "error", "critical"),
        "least severe line that is written",
        reloadable=True,
    )
    log_format: str = choice(
        "auto", ("auto", "json", "console"), "auto writes colours to a terminal and JSON to everything else"
    )
    log_file: str = text("", "file that the log goes to instead of stderr; reopened on SIGHUP", kind="path")
    log_dir: str = text(
        "",
        "directory of performance.log and alerts.log",
        kind="path",
        written_default="$WHATSAPP_DATA_DIR/logs",
    )
    log_max_bytes: int = count(
        10 * 1024 * 1024,
        "size at which these two are rotated",
        low=4096,
        high=1024 * 1024 * 1024,
        unit="bytes",
    )
    log_keep: int = count(5, "old files of each that are kept", high=1000, unit="files")
    log_session_rate: int = count(
        10,
        "lines a second one session may write before the rest is counted instead",
        low=1,
        unit="lines per s",
        reloadable=True,
    )

    @property
    def data_path(self) -> Path:
        """The data directory, default filled in."""
        return Path(self.data_dir).expanduser() if self.data_dir else default_data_dir()

    @property
    def socket_path(self) -> Path:
        """The admin socket, default filled in."""
        return Path(self.admin_socket).expanduser() if self.admin_socket else self.data_path / "admin.sock"

    @property
    def log_path(self) -> Path:
        """The directory of the log files, default filled in."""
        return Path(self.log_dir).expanduser() if self.log_dir else self.data_path / "logs"

    @property
    def monitor_log_path(self) -> Path:
        """Where the monitor writes, default filled in."""
        return Path(self.monitor_log).expanduser() if self.monitor_log else self.log_path / "monitor.log"

    @property
    def endpoint_host(self) -> str:
        """The host that is dialled."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def resume(self) -> bool:
        """Whether Noise IK may be used."""
        return self.ik == "on" or (self.ik == "auto" and not is_real_host(self.endpoint_host))


def default_data_dir() -> Path:
    """`/var/lib/wa-runner` for root, else the XDG data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/wa-runner")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "wa-runner"


def rows() -> dict[str, tuple[Field[Any], Row]]:
    """Every setting by its name without prefix (`QUERY_TIMEOUT`), in the order of declaration."""
    return {_name(entry): (entry, entry.metadata[ROW]) for entry in fields(Settings)}


def _name(entry: Field[Any]) -> str:
    return entry.name.removesuffix("_s").upper()


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment, the TOML file and the defaults.

    Errors: ConfigError with every wrong value and every unknown name. Blocking: reads a few small files.
    """
    problems: list[str] = []
    written: dict[str, tuple[str, str]] = {}  # name -> (where it was said, what was said)
    known = rows()
    _read_environment(environ, known, written, problems)
    _read_toml(environ, written, known, problems)
    values: dict[str, Any] = {}
    for name, (where, said) in written.items():
        entry, row = known[name]
        try:
            values[entry.name] = row.parse(said)
        except WrongValue as wrong:
            shown = "" if row.secret else f" (it is {said!r})"
            problems.append(f"{where} {wrong}{shown}")
    settings = Settings(**values)
    problems.extend(_contradictions(settings))
    if problems:
        raise ConfigError(problems)
    return settings


def _read_environment(
    environ: Mapping[str, str],
    known: Mapping[str, tuple[Field[Any], Row]],
    written: dict[str, tuple[str, str]],
    problems: list[str],
) -> None:
    variables = {variable: said for variable, said in environ.items() if variable.startswith(PREFIX)}
    for variable, said in sorted(variables.items()):
        name = variable.removeprefix(PREFIX)
        if name == "CONFIG" or not said.strip():
            continue  # an empty variable counts as not set: that is how compose files spell "default"
        if name in known:
            written[name] = (variable, said)
        elif name.endswith("_FILE") and name.removesuffix("_FILE") in _secrets(known):
            secret = name.removesuffix("_FILE")
            if variables.get(PREFIX + secret, "").strip():
                problems.append(f"{variable} and {PREFIX + secret} are both set; use one")
                continue
            try:
                written[secret] = (variable, Path(said).expanduser().read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{variable} cannot be read: {said}: {_why(error)}")
        else:
            near = did_you_mean(name, [it.removeprefix(PREFIX) for it in _variables(known)])
            problems.append(f"{variable} is not a setting{near.replace('mean ', f'mean {PREFIX}')}")


def _read_toml(
    environ: Mapping[str, str],
    written: dict[str, tuple[str, str]],
    known: Mapping[str, tuple[Field[Any], Row]],
    problems: list[str],
) -> None:
    named = environ.get(f"{PREFIX}CONFIG", "").strip()
    data_dir = written.get("DATA_DIR", ("", ""))[1]
    base = Path(data_dir).expanduser() if data_dir else default_data_dir()
    path = Path(named).expanduser() if named else base / "runner.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            problems.append(f"{PREFIX}CONFIG names {path}, which does not exist")
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path} cannot be read: {_why(error)}")
        return
    keys = [name.lower() for name in known]
    for key, value in table.items():
        name = key.upper()
        if key not in keys:
            near = did_you_mean(key.lower().removeprefix(PREFIX.lower()), keys)
            what = "is a table, and settings stand in none" if isinstance(value, dict) else "is not a setting"
            problems.append(f"{path}: {key} {what}{near}")
        elif isinstance(value, list):
            problems.append(
                f"{path}: {key} must be one value and not a list; several go into one string, with commas"
            )
        elif not isinstance(value, str | int | float | bool):
            problems.append(f"{path}: {key} must be a string, a number, true or false")
        elif name not in written:
            written[name] = (f"{path}: {key}", str(value).lower() if isinstance(value, bool) else str(value))


def _why(error: Exception) -> str:
    match error:
        case PermissionError():
            return "Permission denied; are you the user that the runner runs as?"
        case OSError():
            return error.strerror or str(error)
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case _:
            return str(error)


def _contradictions(settings: Settings) -> list[str]:
    """What no single value shows."""
    found = []
    if is_real_host(settings.endpoint_host):
        found += [
            f"{PREFIX}{name} is refused for the real host {settings.endpoint_host}: it would trust a stranger"
            for name, value in (("ROOT_KEY", settings.root_key), ("TLS_CA", settings.tls_ca))
            if value
        ]
    for low, high in (
        ("reconnection_base_delay_s", "reconnection_max_delay_s"),
        ("keepalive_min_s", "keepalive_max_s"),
        ("keepalive_second_s", "dead_socket_s"),
    ):
        if getattr(settings, low) > getattr(settings, high):
            names = [PREFIX + name.removesuffix("_s").upper() for name in (low, high)]
            found.append(f"{names[0]} is greater than {names[1]}")
    if settings.tls_ca and not Path(settings.tls_ca).expanduser().is_file():
        found.append(f"{PREFIX}TLS_CA names {settings.tls_ca}, which is not a file")
    return found


def _secrets(known: Mapping[str, tuple[Field[Any], Row]]) -> set[str]:
    return {name for name, (_, row) in known.items() if row.secret}


def _variables(known: Mapping[str, tuple[Field[Any], Row]]) -> list[str]:
    files = [f"{PREFIX}{name}_FILE" for name in sorted(_secrets(known))]
    return [*(PREFIX + name for name in known), f"{PREFIX}CONFIG", *files]


def written(settings: Settings, *, masked: bool = True) -> dict[str, str]:
    """The settings in force as an operator would write them; secrets as `***` unless asked."""
    shown = {}
    for name, (entry, row) in rows().items():
        value = getattr(settings, entry.name)
        if row.secret and value and masked:
            shown[name] = "***"
        elif name == "DATA_DIR":
            shown[name] = str(settings.data_path)
        elif name == "ADMIN_SOCKET":
            shown[name] = str(settings.socket_path)
        elif name == "MONITOR_LOG":
            shown[name] = str(settings.monitor_log_path)
        elif name == "LOG_DIR":
            shown[name] = str(settings.log_path)
        elif row.kind == "duration":
            shown[name] = str(round(value * 1000))
        elif row.kind == "size":
            shown[name] = written_size(value)
        elif isinstance(value, bool):
            shown[name] = "true" if value else "false"
        else:
            shown[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return shown


def reloaded(current: Settings, fresh: Settings) -> tuple[Settings, list[str], list[str]]:
    """What SIGHUP makes of `fresh`: settings in force, names that changed, names that need a restart."""
    values: dict[str, Any] = {}
    changed: list[str] = []
    waiting: list[str] = []
    for name, (entry, row) in rows().items():
        old, new = getattr(current, entry.name), getattr(fresh, entry.name)
        values[entry.name] = new if row.reloadable else old
        if old != new:
            (changed if row.reloadable else waiting).append(PREFIX + name)
    return Settings(**values), changed, waiting
