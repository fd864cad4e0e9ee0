"""`service`: the files for systemd, pm2 and containers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runner.cli.options import ends_well, settings
from runner.errors import StartError

if TYPE_CHECKING:
    from runner.service.files import Place


@click.group()
def service() -> None:
    """Run under systemd, pm2 or in a container.

    \b
    Examples:
      python -m runner service print systemd
      python -m runner service install
    """


_user = click.option("--user", "is_user_unit", is_flag=True, help="For `systemctl --user`, without root.")
_run_as = click.option("--run-as", default="wa-runner", show_default=True, help="Whom the service runs as.")


@service.command("print")
@click.argument("kind", type=click.Choice(["systemd", "pm2", "docker", "compose"]), default="systemd")
@_user
@_run_as
@ends_well
def print_(kind: str, *, is_user_unit: bool, run_as: str) -> None:
    """Write one of the files to stdout, filled in for this Python and WHATSAPP_DATA_DIR.

    \b
    Examples:
      python -m runner service print systemd
      python -m runner service print pm2 > ecosystem.config.cjs && pm2 start ecosystem.config.cjs
      python -m runner service print docker
    """
    from runner.service import written

    try:
        sys.stdout.write(written(kind, _place(run_as, is_user_unit=is_user_unit)))
    except ValueError as error:
        raise StartError(str(error), "use a path without quotes and backslashes") from error


@service.command("install")
@_user
@_run_as
@ends_well
def install(*, is_user_unit: bool, run_as: str) -> None:
    """Write the systemd unit and enable it. It is not started.

    \b
    Example:
      sudo WHATSAPP_DATA_DIR=/var/lib/wa-runner python -m runner service install
    """
    from runner import service as files

    path = files.install(_place(run_as, is_user_unit=is_user_unit))
    flag = " --user" if is_user_unit else ""
    click.echo(f"{path} is written and enabled; start it with: systemctl{flag} start wa-runner")


@service.command("uninstall")
@_user
@ends_well
def uninstall(*, is_user_unit: bool) -> None:
    """Stop and disable the service and remove its unit; the data directory stays.

    \b
    Example:
      sudo python -m runner service uninstall
    """
    from runner import service as files

    click.echo(f"{files.uninstall(is_user_unit=is_user_unit)} is removed")


def _place(run_as: str, *, is_user_unit: bool) -> Place:
    from runner.service.files import Place

    return Place(
        python=sys.executable,
        data_dir=str(settings().data_path.absolute()),
        user=run_as,
        is_user_unit=is_user_unit,
    )
