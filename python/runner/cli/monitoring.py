"""`monitor`: the check for cron. Its exit codes are those of Nagios plugins, not of the other commands."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from runner import config
from runner.cli.options import show_json
from runner.errors import ConfigError
from runner.monitor import ping as pinging
from runner.monitor import record
from runner.monitor.look import NoAnswerError, look
from runner.monitor.verdict import Bars, Level, Verdict, judge, remember

if TYPE_CHECKING:
    from pathlib import Path

    from runner.config import Settings

_UNREACHABLE = {
    "dead": (Level.CRITICAL, "dead"),
    "hung": (Level.CRITICAL, "hung"),
    "garbled": (Level.CRITICAL, "not a runner that this version knows"),
    "forbidden": (Level.UNKNOWN, "cannot look"),
}
PING_S = 10.0


class _WrongUsage(click.UsageError):
    """Click's exit code of 2 would mean CRITICAL."""

    exit_code = Level.UNKNOWN


class _Plugin(click.Command):
    """A command whose wrong options are UNKNOWN."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            raise _WrongUsage(error.format_message(), error.ctx) from None


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else pinging.checked_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=_Plugin)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 600, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="A runner that is silent for longer is hung.",
)
@click.option(
    "--ping-url",
    callback=_url,
    metavar="URL",
    help="Tell a watcher: URL, or URL/fail for CRITICAL and UNKNOWN.",
)
@click.option(
    "--missing-warning",
    default=0.05,
    show_default=True,
    metavar="RATIO",
    help="Share of sessions that are not online, for WARNING.",
)
@click.option(
    "--missing-critical", default=0.5, show_default=True, metavar="RATIO", help="The same, for CRITICAL."
)
@click.option("--no-log", is_flag=True, help="Print only; write no log and remember nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the line.")
def monitor(
    *,
    timeout_s: float,
    ping_url: str | None,
    missing_warning: float,
    missing_critical: float,
    no_log: bool,
    as_json: bool,
) -> None:
    """Look at the runner once, judge, log one line, exit as a Nagios plugin does.

    Notices a runner that is dead, hung, not ready, lying, over a threshold of the settings in force, or
    without its sessions. The line goes to stdout and to WHATSAPP_MONITOR_LOG.

    \b
    Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

    \b
    Examples:
      python -m runner monitor
      */2 * * * *  WHATSAPP_DATA_DIR=/var/lib/wa-runner /opt/runner/bin/runner monitor >/dev/null
      python -m runner monitor --ping-url https://hc-ping.com/UUID
    """
    at = time.time()
    log: Path | None = None
    try:
        settings = config.load(os.environ)
        log = None if no_log else settings.monitor_log_path
        verdict = _verdict(settings, timeout_s, Bars(missing_warning, missing_critical), log)
    except ConfigError as error:
        verdict = Verdict(Level.UNKNOWN, error.problems, "")
    except Exception as error:  # an exit code of 1 would say WARNING about a bug of the monitor
        verdict = Verdict(Level.UNKNOWN, (f"the monitor failed: {type(error).__name__}: {error}",), "")
    line = verdict.line()
    if as_json:
        show_json(
            {"level": verdict.level.name, "code": int(verdict.level), "texts": verdict.texts, "line": line}
        )
    else:
        click.echo(line)
    _log(log, line, at)
    if ping_url is not None:
        _ping(ping_url, verdict.level, line, log, at)
    sys.stdout.flush()
    raise SystemExit(int(verdict.level))


def _verdict(settings: Settings, timeout_s: float, bars: Bars, log: Path | None) -> Verdict:
    try:
        found = look(settings.socket_path, timeout_s)
    except NoAnswerError as error:
        level, word = _UNREACHABLE[error.slug]
        return Verdict(level, (f"{word}: {error}",), "")
    past = None if log is None else record.load_past(record.state_file(log))
    verdict = judge(found, past, bars)
    if log is not None:
        try:
            record.save_past(record.state_file(log), remember(found))
        except OSError as error:
            click.echo(f"error: the last look is not kept: {error}", err=True)
    return verdict


def _log(log: Path | None, line: str, at: float) -> None:
    """A disk that is full must not hide the verdict."""
    if log is None:
        return
    try:
        record.append(log, line, at)
    except OSError as error:
        click.echo(f"error: {log} cannot be written: {error.strerror}", err=True)


def _ping(url: str, level: Level, line: str, log: Path | None, at: float) -> None:
    """WARNING counts as well: a watcher that is always down would hide the day when the runner is."""
    try:
        pinging.ping(url, line, is_bad=level >= Level.CRITICAL, timeout_s=PING_S)
    except pinging.PingError as error:
        click.echo(f"error: {error}", err=True)
        _log(log, f"ping failed: {error}", at)
