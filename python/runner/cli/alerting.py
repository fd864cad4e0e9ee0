"""`python -m runner alerts`: what is wrong, what was, and what operators do about it."""

from __future__ import annotations

import getpass
from urllib.parse import quote

import click

from runner.cli.options import as_json, connect, ends_well, show_json


@click.group("alerts", invoke_without_command=True)
@click.option("--history", is_flag=True, help="What is over, the latest first.")
@click.option(
    "-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="With --history."
)
@as_json
@click.pass_context
@ends_well
def alerts(context: click.Context, *, history: bool, limit: int, as_json: bool) -> None:
    """What is wrong now; with a command, do something about it.

    \b
    Examples:
      python -m runner alerts
      python -m runner alerts --history --json
      python -m runner alerts ack al_01k…
      python -m runner alerts silence session_offline --about 'shop-*' --minutes 120
    """
    if context.invoked_subcommand is not None:
        return
    with connect() as runner:
        answer = runner.get("/api/alerts/history", {"limit": limit}) if history else runner.get("/api/alerts")
    if as_json:
        show_json(answer)
        return
    from runner.cli import tables

    if history:
        tables.alerts(answer["alerts"])
    else:
        tables.alerts(answer["active"], answer["silences"])


@alerts.command()
@click.argument("alert_id", metavar="ID")
@click.option("--by", help="Who; default: the user of this shell.")
@click.option("--note", help="What for.")
@as_json
@ends_well
def ack(alert_id: str, *, by: str | None, note: str | None, as_json: bool) -> None:
    """Say that somebody looks after an alert; it stays until it is over.

    \b
    Example:
      python -m runner alerts ack al_01k… --note 'the proxy is being replaced'
    """
    body = {"by": by or getpass.getuser(), "note": note}
    with connect() as runner:
        answer = runner.request("POST", f"/api/alerts/{quote(alert_id, safe='')}/ack", body=body)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: {answer['alert']} acknowledged by {answer['acknowledgedBy']}")


@alerts.command()
@click.argument("alert_id", metavar="ID")
@as_json
@ends_well
def resolve(alert_id: str, *, as_json: bool) -> None:
    """Call an alert over; it comes again only when its condition becomes true anew.

    \b
    Example:
      python -m runner alerts resolve al_01k…
    """
    with connect() as runner:
        answer = runner.post(f"/api/alerts/{quote(alert_id, safe='')}/resolve")
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: {answer['alert']} resolved")


@alerts.command()
@click.argument("alert", metavar="ALERT|*")
@click.option("--about", help="A glob over what it is about, such as 'shop-*'; default: whatever.")
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0, 525_600, min_open=True))
@click.option("--note", default="", help="What for.")
@as_json
@ends_well
def silence(alert: str, *, about: str | None, minutes: float, note: str, as_json: bool) -> None:
    """Do not tell alerts of a kind for a while; they stay visible.

    \b
    Example:
      python -m runner alerts silence path_outage --minutes 30 --note 'planned work on the proxies'
    """
    body = {"alert": alert, "about": about, "minutes": minutes, "note": note}
    with connect() as runner:
        answer = runner.request("POST", "/api/alerts/silences", body=body)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: {answer['alert']} is silent for {minutes:g} minutes")


@alerts.command()
@click.argument("silence_id", metavar="ID")
@as_json
@ends_well
def unsilence(silence_id: str, *, as_json: bool) -> None:
    """End a silence.

    \b
    Example:
      python -m runner alerts unsilence sil_01k…
    """
    with connect() as runner:
        answer = runner.request("DELETE", f"/api/alerts/silences/{quote(silence_id, safe='')}")
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: ended")
