"""The commands that ask a running runner: they import neither Trio nor the web framework."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runner.cli.exits import Exit
from runner.cli.options import as_json, connect, ends_well, session_id, show_json

if TYPE_CHECKING:
    from runner.admin.client import Client


@click.command()
@as_json
@click.option("--check", is_flag=True, help="Exit with 7 when the runner is not ready.")
@ends_well
def status(*, as_json: bool, check: bool) -> None:
    """The whole system at a glance.

    \b
    Examples:
      python -m runner status
      python -m runner status --check --json     # for cron
    """
    with connect() as runner:
        health, system = runner.health(), runner.system()
    if as_json:
        show_json({"health": health, **system})
    else:
        from runner.cli import tables

        tables.status(system["version"], health, system["system"], system["states"])
    if check and not (health["live"] and health["ready"]):
        raise SystemExit(Exit.NOT_READY)


@click.command()
@click.option("--state", help="Only these, for example backoff or parked,suspended.")
@click.option("--reason", help="Only those with this reason, for example pong_deadline.")
@as_json
@ends_well
def sessions(*, state: str | None, reason: str | None, as_json: bool) -> None:
    """All sessions, one line each.

    \b
    Examples:
      python -m runner sessions
      python -m runner sessions --state suspended,parked
      python -m runner sessions --json | jq -r '.[] | select(.attempt > 3) | .id'
    """
    with connect() as runner:
        rows = list(runner.sessions(state=state, reason=reason))
    if as_json:
        show_json(rows)
    else:
        from runner.cli import tables

        tables.sessions(rows)


@click.command()
@session_id
@as_json
@ends_well
def show(session_id: str, *, as_json: bool) -> None:
    """Everything about one session, its metrics included.

    \b
    Example:
      python -m runner show support-1
    """
    with connect() as runner:
        row, metrics = runner.session(session_id), runner.session_metrics(session_id)
    if as_json:
        show_json({**row, "metrics": metrics})
    else:
        from runner.cli import tables
        from runner.reconnect.table import UNKNOWN_REASON, rule_for

        rule = rule_for(row["reason"] or "")
        said = dict(row)
        if (
            rule is not UNKNOWN_REASON
        ):  # why the policy does what it does about it; docs/states.md has the rest
            said["reason"] = f"{row['reason']} ({rule.why})"
        tables.pairs({**said, "metrics": {name: it for name, it in metrics.items() if name not in row}})


@click.command()
@session_id
@click.option(
    "--override", is_flag=True, help="Dial although it may cost the number (banned, logged out, replaced …)."
)
@as_json
@ends_well
def reconnect(session_id: str, *, override: bool, as_json: bool) -> None:
    """Reconnect a session now, in whatever state it is.

    Exit code 5 when it is refused, with the reason: a number that was logged out, banned or replaced is not
    dialled again without --override.

    \b
    Example:
      python -m runner reconnect support-1
    """
    with connect() as runner:
        answer = runner.reconnect(session_id, override=override)
    if as_json:
        show_json(answer)
    else:
        click.echo(
            f"{answer['id']}: connection {answer['connection']} is on its way, state {answer['state']}"
        )


@click.command("reset-breaker")
@session_id
@click.option("--penalty", is_flag=True, help="Also forget the waiting time of a 402 or 429.")
@as_json
@ends_well
def reset_breaker(session_id: str, *, penalty: bool, as_json: bool) -> None:
    """Close a session's circuit breaker; it tries again at once.

    \b
    Example:
      python -m runner reset-breaker support-1
    """
    with connect() as runner:
        row = runner.reset_breaker(session_id, penalty=penalty)
    if as_json:
        show_json(row)
    else:
        click.echo(f"{row['id']}: breaker {row['breaker']['state']}, state {row['state']}")


def _verb(name: str, what: str) -> click.Command:
    @click.command(name, help=f"{what}\n\n\b\nExample:\n  python -m runner {name} support-1")
    @session_id
    @as_json
    @ends_well
    def command(session_id: str, *, as_json: bool) -> None:
        with connect() as runner:
            row = runner.command(session_id, name)
        if as_json:
            show_json(row)
        else:
            click.echo(f"{row['id']}: {row['state']}")

    return command


start = _verb("start", "Want a session online, now and after every restart.")
stop = _verb("stop", "Close a session and keep it closed; its credentials stay.")
logout = _verb("logout", "Unlink the device from the account. It must be linked again afterwards.")


@click.command("set-proxy")
@session_id
@click.argument("url", metavar="URL|none|-")
@as_json
@ends_well
def set_proxy(session_id: str, url: str, *, as_json: bool) -> None:
    """Send a session through another proxy, now and after every restart; it reconnects once.

    none takes it back to WHATSAPP_PROXY. With - the URL is read from standard input: other users of this
    machine can see the arguments of a command.

    \b
    Examples:
      python -m runner set-proxy support-1 socks5://user:password@10.0.0.7:1080
      python -m runner set-proxy support-1 - < proxy.txt
      python -m runner set-proxy support-1 none
    """
    if url == "-":
        url = sys.stdin.readline().strip()
    with connect() as runner:
        row = runner.set_proxy(session_id, None if url == "none" else url)
    if as_json:
        show_json(row)
    else:
        click.echo(f"{row['id']}: {row['state']}, proxy {row['proxy'] or 'of the settings'}")


@click.command()
@session_id
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@ends_well
def delete(session_id: str, *, yes: bool, as_json: bool) -> None:
    """Remove a session; its credentials move to the archive.

    \b
    Example:
      python -m runner delete support-1 --yes
    """
    if not yes:
        click.confirm(f"remove {session_id}?", abort=True, err=True)
    with connect() as runner:
        runner.delete(session_id)
    if as_json:
        show_json({"id": session_id, "deleted": True})
    else:
        click.echo(f"{session_id}: removed")


@click.command()
@click.option("--prometheus", is_flag=True, help="Print the text that GET /metrics gives.")
@as_json
@ends_well
def metrics(*, prometheus: bool, as_json: bool) -> None:
    """System metrics and those of every session.

    \b
    Examples:
      python -m runner metrics
      python -m runner metrics --json | jq '.system.usedMemory'
    """
    with connect() as runner:
        if prometheus:
            click.echo(runner.prometheus(), nl=False)
            return
        answer = runner.get("/performance-metrics", {"limit": 100_000 if as_json else 20})
    if as_json:
        show_json(answer)
    else:
        from runner.cli import tables

        tables.metrics(answer)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as further lines are written.")
@click.option("-n", "--tail", default=100, show_default=True, help="How many of the last lines.")
@click.option("--session", help="Only the lines of this session.")
@as_json
@ends_well
def logs(*, follow: bool, tail: int, session: str | None, as_json: bool) -> None:
    """The last log lines, from the runner's memory.

    \b
    Examples:
      python -m runner logs -f
      python -m runner logs -n 5000 | grep reconnect
      python -m runner logs --session support-1 --json
    """
    with connect() as runner:
        _print_logs(runner, tail, session, follow=follow, as_json=as_json)


def _print_logs(runner: Client, tail: int, session: str | None, *, follow: bool, as_json: bool) -> None:
    for line in runner.logs(tail, follow=follow, session_id=session):
        if as_json:
            show_json(line)
        else:
            rest = " ".join(
                f"{key}={value}" for key, value in line.items() if key not in {"ts", "level", "event"}
            )
            click.echo(
                f"{line.get('ts', '')} {line.get('level', ''):<8} {line.get('event', '')} {rest}".rstrip()
            )


COMMANDS = (
    status,
    sessions,
    show,
    reconnect,
    reset_breaker,
    set_proxy,
    start,
    stop,
    logout,
    delete,
    metrics,
    logs,
)
