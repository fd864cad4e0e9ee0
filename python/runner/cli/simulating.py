"""`sim`: a simulator in the foreground; `sim scan`, `sim enter`: its phone."""

from __future__ import annotations

import click

from runner.cli.options import connect, ends_well, session_id, settings
from runner.errors import StartError

_control = click.option(
    "--control", metavar="URL", help="The simulator's control port; default: that of `run --simulator`."
)


@click.group(invoke_without_command=True)
@click.option(
    "--port", default=0, show_default=True, help="Port of the WhatsApp Web endpoint; 0 takes a free one."
)
@click.option("--control-port", default=0, show_default=True, help="Port of the control API.")
@click.option(
    "--sessions", "sessions", default=0, show_default=True, help="How many devices with credentials to make."
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
    told = _order(control, "/pair", {"qr": qr, "phone": phone})
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


def _order(control: str | None, route: str, body: dict[str, str | None]) -> dict[str, str]:
    from runner.embedded import control_url
    from runner.sim import ControlError, SimulatorControl

    url = control or control_url(settings().data_path)
    try:
        return dict(SimulatorControl(url).post(route, {k: v for k, v in body.items() if v is not None}))
    except ControlError as error:
        raise StartError(f"the phone says: {error.args[1]}") from error
    except OSError as error:
        raise StartError(
            f"no simulator answers on {url}: {error.strerror}", "name it with --control"
        ) from error
