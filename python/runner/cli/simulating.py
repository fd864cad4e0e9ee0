"""`sim`: a simulator in the foreground; `scan`, `enter` play its phone, `say`, `chatter` its contacts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.options import connect, ends_well, session_id, settings
from runner.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.sim import SimulatorControl

_PER_MINUTE: Final = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_NUMBER: Final = r"\+?[0-9][0-9 ()./-]*"
_NAMES: Final = "name a session sim-NNNNN, one that `sim scan` linked, the number of a phone, or all"
_PORT: Final = click.IntRange(0, 65_535)
KINDS: Final = ("text", "reply", "reaction", "edit", "revoke")


class Rate(click.ParamType[float]):
    """`2/s`, `30/min`, `5/h`, or `off`; as messages a minute."""

    name = "rate"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return value
        if value == "off":
            return 0.0
        number, _, unit = value.partition("/")
        try:
            rate = float(number) * _PER_MINUTE[unit]
        except (ValueError, KeyError):
            rate = -1.0
        if not 0 <= rate <= 60_000:  # a message a millisecond
            self.fail(f"{value!r} is no rate: write 2/s, 30/min, 5/h or off", param, ctx)
        return rate


_control = click.option(
    "--control", metavar="URL", help="The simulator's control port; default: that of `run --simulator`."
)


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=_PORT,
    default=0,
    show_default=True,
    help="Port of the WhatsApp Web endpoint; 0 takes a free one.",
)
@click.option("--control-port", type=_PORT, default=0, show_default=True, help="Port of the control API.")
@click.option(
    "--sessions",
    "sessions",
    type=click.IntRange(0, 100_000),
    default=0,
    show_default=True,
    help="How many devices with credentials to make.",
)
@click.option("--tls", is_flag=True, help="Serve wss:// with a test CA of its own.")
@click.option(
    "--directory", type=click.Path(file_okay=False), help="Where credentials and CA go; default: a new one."
)
@click.option("--parent", type=int, hidden=True, help="End when the process with this id does.")
@click.pass_context
@ends_well
def sim(
    context: click.Context,
    *,
    port: int,
    control_port: int,
    sessions: int,
    tls: bool,
    directory: str | None,
    parent: int | None,
) -> None:
    """A WhatsApp Web server on loopback, for tests, demos and load. Prints one JSON line when it listens.

    \b
    Examples:
      python -m runner sim --port 7001 --control-port 7002 --sessions 100 --tls
      python -m runner sim scan shop-1          # its phone scans what `pair shop-1` shows
      python -m runner sim enter ABCD-EFGH --phone 15550001111
      python -m runner sim say sim-00001 "is anybody there?"
      python -m runner sim chatter 2/s
      python -m runner sim new-identity 1       # a contact with a new phone
    """
    if context.invoked_subcommand is not None:
        return
    from runner import sim as simulator

    simulator.serve(
        port=port, control_port=control_port, sessions=sessions, tls=tls, directory=directory, parent=parent
    )


@sim.command()
@session_id
@click.option("--phone", metavar="N", help="The phone's number; default: one that has no device yet.")
@_control
@ends_well
def scan(session_id: str, *, phone: str | None, control: str | None) -> None:
    """Play the phone: scan the QR code that a session shows now.

    \b
    Example:
      python -m runner sim scan shop-1
    """
    with connect(60.0) as runner:
        qr = runner.qr(session_id)["value"]
    told = _order(control, "/pair", {"qr": qr, "phone": phone, "name": session_id})
    click.echo(f"{session_id}: scanned, device {told['jid']}")


@sim.command()
@click.argument("code")
@click.option("--phone", metavar="N", required=True, help="The number that the code was asked for.")
@_control
@ends_well
def enter(code: str, *, phone: str, control: str | None) -> None:
    """Play the phone: type in a pairing code. Whether it was the right one shows `pair`.

    \b
    Example:
      python -m runner sim enter ABCD-EFGH --phone 15550001111
    """
    digits = "".join(filter(str.isdigit, phone))
    _order(control, "/enter-code", {"code": code, "phone": digits})
    click.echo("typed in")


@sim.command()
@click.argument("who")
@click.argument("text")
@click.option("--contact", type=click.IntRange(1, 10), default=1, show_default=True, help="Who writes.")
@click.option("--kind", type=click.Choice(KINDS), default="text", show_default=True, help="What it writes.")
@click.option("--group", is_flag=True, help="In the group that the session has with the contacts.")
@click.option("--count", type=click.IntRange(1), default=1, help="How often; {n} in TEXT is the number.")
@_control
@ends_well
def say(
    who: str, text: str, *, contact: int, kind: str, group: bool, count: int, control: str | None
) -> None:
    """Let a contact write to WHO: a session of the simulator (sim-00007), one that `sim scan` linked, the
    number of a phone, or all.

    A reaction, an edit and a revoke are about the contact's last text in that chat.

    \b
    Examples:
      python -m runner sim say sim-00001 hello
      python -m runner sim say shop-1 hello     # after: sim scan shop-1
      python -m runner sim say all "message {n}" --count 100 --group
      python -m runner sim say sim-00001 hullo --kind edit
    """
    body = {
        **_target(who, control),
        "text": text,
        "contact": contact - 1,
        "kind": kind,
        "group": group,
        "n": count,
    }
    told = _order(control, "/say", body)
    if not told["targets"]:
        raise StartError(f"the simulator has no {who}", _NAMES)
    click.echo(f"said to {told['targets']}: {count} each")


@sim.command()
@click.argument("contact", type=click.IntRange(1, 10))
@click.argument("who", default="all")
@_control
@ends_well
def new_identity(contact: int, who: str, *, control: str | None) -> None:
    """Link CONTACT anew, as with a new phone: other keys, no sessions. WHO (default: all) is told.

    \b
    Examples:
      python -m runner sim new-identity 1
      python -m runner sim new-identity 3 sim-00001
    """
    told = _order(control, "/new-identity", {**_target(who, control), "contact": contact - 1})
    click.echo(f"contact {contact} has other keys; told {told['targets']}")


@sim.command()
@click.argument("rate", type=Rate())
@click.option("--kinds", metavar="KIND,…", help=f"What they write, instead of all of {', '.join(KINDS)}.")
@click.option(
    "--groups", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Share written in groups."
)
@_control
@ends_well
def chatter(rate: float, *, kinds: str | None, groups: float, control: str | None) -> None:
    """Let the contacts write by themselves, RATE messages over all sessions that are connected.

    \b
    Examples:
      python -m runner sim chatter 2/s
      python -m runner sim chatter 30/min --kinds text,reaction --groups 0
      python -m runner sim chatter off
    """
    body: dict[str, Any] = {"perMinute": rate, "groups": groups}
    if kinds is not None:
        wanted = kinds.split(",")
        if unknown := [kind for kind in wanted if kind not in KINDS]:
            raise click.UsageError(f"--kinds: no {unknown[0]!r}; there are {', '.join(KINDS)}")
        body["kinds"] = dict.fromkeys(wanted, 1)
    every_s = _order(control, "/chatter", body)["everySeconds"]
    click.echo("they are quiet" if every_s is None else f"a message every {every_s:g} s")


def _target(who: str, control: str | None) -> dict[str, Any]:
    """The simulator's name for it: sim-00001 is the first number of its fleet; what was scanned has a name.

    Errors: StartError for a name that the simulator does not know.
    """
    from runner.sim import FIRST_USERNAME

    if who == "all":
        return {"all": True}
    place = who.removeprefix("sim-")
    if place != who and place.isdecimal():
        return {"user": FIRST_USERNAME + int(place) - 1}
    if re.fullmatch(_NUMBER, who):
        return {"user": int("".join(filter(str.isdecimal, who)))}
    named = [
        it["user"] for it in _asked(control, lambda simulator: simulator.get("/devices")) if it["name"] == who
    ]
    if not named:
        raise StartError(f"the simulator has no {who}", _NAMES)
    return {"user": named[-1]}


def _order(control: str | None, route: str, body: dict[str, Any]) -> dict[str, Any]:
    given = {k: v for k, v in body.items() if v is not None}
    return dict(_asked(control, lambda simulator: simulator.post(route, given)))


def _asked(control: str | None, ask: Callable[[SimulatorControl], Any]) -> Any:  # noqa: ANN401 - JSON
    from runner.embedded import control_url
    from runner.sim import ControlError, SimulatorControl

    url = control or control_url(settings().data_path)
    try:
        return ask(SimulatorControl(url))
    except ControlError as error:
        raise StartError(f"the simulator says: {error.args[1]}") from error
    except OSError as error:
        raise StartError(
            f"no simulator answers on {url}: {error.strerror}", "name it with --control"
        ) from error
