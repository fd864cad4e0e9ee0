"""`tail`, `webhooks` and `dead-letters`: what comes in and goes out, and what did not arrive."""

from __future__ import annotations

from datetime import datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import click

from runner.cli.options import as_json, connect, ends_well, show_json
from runner.errors import ConfigError

if TYPE_CHECKING:
    from runner.admin.client import Client


@click.command()
@click.option("--session", "sessions", multiple=True, help="Only of this session; repeatable.")
@click.option("--events", "names", multiple=True, help="Only these, such as message; repeatable.")
@as_json
@ends_well
def tail(*, sessions: tuple[str, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Messages and events as they come, until Ctrl-C.

    Shows what comes from now on and takes nothing from anybody: messages go to handlers and webhooks all the
    same.

    \b
    Examples:
      python -m runner tail
      python -m runner tail --session support-1 --events message
      python -m runner tail --json | jq .payload
    """
    with connect() as runner:
        for event in runner.events(sessions, names):
            if as_json:
                show_json(event)
            else:
                click.echo(_line(event))


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["timestamp"] / 1000).astimezone()
    session = event["session"] or "-"
    return (
        f"{at:%H:%M:%S} {session:<16} {event['event']:<22} {_said(event['event'], event['payload'])}".rstrip()
    )


def _said(name: str, payload: dict[str, Any]) -> str:
    """What of an event fits a line."""
    if name == "message":
        text = " ".join(str(payload["body"] or "").split())
        where = "" if payload["from"] == payload["chatId"] else f" in {payload['chatId']}"
        return f"{payload['from']}{where} {payload['kind']}: {text[:200]}"
    if name == "stream.lost":
        return f"{payload['events']} events: this terminal is too slow"
    if name == "message.undecryptable":
        return f"{payload['from']} {payload['reason']}, after {payload['attempts']} times"
    words = [payload.get(key) for key in ("state", "reason", "alert", "kind", "severity", "text", "detail")]
    return " ".join(str(word) for word in words if word)


@click.group("webhooks")
def webhooks() -> None:
    """Addresses that events are posted to.

    \b
    Examples:
      python -m runner webhooks list
      python -m runner webhooks add https://example.com/hook --events message --secret-file key
      python -m runner webhooks test wh_01k…
      python -m runner webhooks remove wh_01k…
    """


@webhooks.command("list")
@click.option("--session", help="Only those that get events of this session.")
@as_json
@ends_well
def list_webhooks(*, session: str | None, as_json: bool) -> None:
    """All webhooks, with what waits for each.

    \b
    Example:
      python -m runner webhooks list --session support-1
    """
    with connect() as runner:
        answer = runner.get("/api/webhooks", {"session": session})
    if as_json:
        show_json(answer)
        return
    from runner.cli import tables

    tables.webhooks(answer["webhooks"])


@webhooks.command()
@click.argument("url", metavar="URL")
@click.option("--events", multiple=True, help="Names, session.* or *; repeatable, or with commas.")
@click.option("--session", help="Only of this session; default: of all.")
@click.option("--secret-file", type=click.File(), help="File with the key of the signature; - reads it.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent along; repeatable.")
@click.option("--policy", type=click.Choice(["constant", "linear", "exponential"]), help="Of the retries.")
@click.option("--delay", type=float, metavar="SECONDS", help="Before the second attempt.")
@click.option("--attempts", type=int, help="Until an event is a dead letter.")
@as_json
@ends_well
def add(
    url: str,
    *,
    events: tuple[str, ...],
    session: str | None,
    secret_file: IO[str] | None,
    headers: tuple[str, ...],
    policy: str | None,
    delay: float | None,
    attempts: int | None,
    as_json: bool,
) -> None:
    """Post events to an address from now on.

    \b
    Examples:
      python -m runner webhooks add https://example.com/hook --events message --events session.status
      python -m runner webhooks add https://example.com/hook --session support-1 --secret-file key
    """
    retries = {"policy": policy, "delaySeconds": delay, "attempts": attempts}
    body: dict[str, Any] = {
        "url": url,
        "events": [word.strip() for text in events for word in text.split(",") if word.strip()],
        "session": session,
        "secret": "" if secret_file is None else secret_file.read().strip(),
        "headers": dict(_header(text) for text in headers),
        "retries": {name: value for name, value in retries.items() if value is not None},
    }
    if not body["events"]:
        del body["events"]
    with connect() as runner:
        answer = runner.request("POST", "/api/webhooks", body=body)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: {', '.join(answer['events'])} go to {answer['url']}")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError([f"--header {text!r} is not NAME:VALUE"])
    return name.strip(), value.strip()


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@as_json
@ends_well
def remove(webhook_id: str, *, as_json: bool) -> None:
    """Forget a webhook; what waits for it becomes dead letters.

    \b
    Example:
      python -m runner webhooks remove wh_01k…
    """
    with connect() as runner:
        answer = runner.request("DELETE", f"/api/webhooks/{quote(webhook_id, safe='')}")
    if as_json:
        show_json(answer)
    else:
        click.echo(f"{answer['id']}: removed; {answer['givenUp']} events that waited are dead letters")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@as_json
@ends_well
def test(webhook_id: str, *, as_json: bool) -> None:
    """Post one event `webhook.test` now and say what came of it; exit code 1 when it was not taken.

    \b
    Example:
      python -m runner webhooks test wh_01k…
    """
    with connect() as runner:
        answer = runner.post(f"/api/webhooks/{quote(webhook_id, safe='')}/test")
    if as_json:
        show_json(answer)
    elif answer["delivered"]:
        click.echo(f"{answer['id']}: delivered, status {answer['status']}")
    else:
        click.echo(f"{answer['id']}: not delivered: {answer['problem']}", err=True)
    if not answer["delivered"]:
        raise SystemExit(1)


_SINKS = "the id of a webhook, app for the handlers, or undecryptable"


@click.group("dead-letters")
def dead_letters() -> None:
    """What handlers and webhooks did not take, and what could not be read.

    \b
    Examples:
      python -m runner dead-letters list
      python -m runner dead-letters redrive --all --sink app
      python -m runner dead-letters drop 17 18
    """


@dead_letters.command("list")
@click.option("--sink", help=f"{_SINKS}.")
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1, 500))
@click.option("--after", help="Where the page before ended.")
@as_json
@ends_well
def list_dead_letters(*, sink: str | None, limit: int, after: str | None, as_json: bool) -> None:
    """Messages and events that were given up, the oldest first.

    \b
    Example:
      python -m runner dead-letters list --sink app
    """
    with connect() as runner:
        answer = runner.get("/api/dead-letters", {"sink": sink, "limit": limit, "after": after})
    if as_json:
        show_json(answer)
        return
    from runner.cli import tables

    tables.dead_letters(answer["deadLetters"])
    if answer["next"]:
        click.echo(f"more: --after {answer['next']}")


_ids = click.argument("ids", metavar="[ID]...", nargs=-1)
_all = click.option("--all", "every", is_flag=True, help="All of them, or all of --sink.")
_sink = click.option("--sink", help=f"With --all: {_SINKS}.")


@dead_letters.command()
@_ids
@_all
@_sink
@as_json
@ends_well
def redrive(ids: tuple[str, ...], *, every: bool, sink: str | None, as_json: bool) -> None:
    """Put them back, behind what waits, with their attempts forgotten.

    \b
    Examples:
      python -m runner dead-letters redrive 17 18
      python -m runner dead-letters redrive --all --sink wh_01k…
    """
    with connect() as runner:
        answer = _post(runner, "redrive", ids, sink, every=every)
    if as_json:
        show_json(answer)
        return
    click.echo(f"put back: {answer['messages']} messages, {answer['deliveries']} events")
    if answer["kept"]:
        click.echo(f"kept: {answer['kept']} that could not be read, or are of webhooks that are gone")


@dead_letters.command()
@_ids
@_all
@_sink
@as_json
@ends_well
def drop(ids: tuple[str, ...], *, every: bool, sink: str | None, as_json: bool) -> None:
    """Let go of them for good.

    \b
    Example:
      python -m runner dead-letters drop 17 18
    """
    with connect() as runner:
        answer = _post(runner, "drop", ids, sink, every=every)
    if as_json:
        show_json(answer)
    else:
        click.echo(f"dropped: {answer['dropped']}")


def _post(
    runner: Client, verb: str, ids: tuple[str, ...], sink: str | None, *, every: bool
) -> dict[str, Any]:
    if bool(ids) == every or (ids and sink):
        raise ConfigError(["say which: ids, or --all with or without --sink"])
    body: dict[str, Any] = {"all": True, "sink": sink} if every else {"ids": list(ids)}
    answer: dict[str, Any] = runner.request("POST", f"/api/dead-letters/{verb}", body=body)
    return answer


COMMANDS = (tail, webhooks, dead_letters)
