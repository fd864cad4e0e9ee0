"""The command line: `python -m runner` runs the runner, everything else talks to it."""

from __future__ import annotations

import json
import os
import sys

import click

from runner import config
from runner.cli import fleet, moving, outgoing
from runner.cli.alerting import alerts
from runner.cli.exits import MEANING, tell
from runner.cli.importing import import_
from runner.cli.monitoring import monitor
from runner.cli.options import as_json, ends_well, settings, show_json
from runner.cli.pairing import pair
from runner.cli.restarting import restart
from runner.cli.sending import send
from runner.cli.service import service
from runner.cli.simulating import Rate, sim
from runner.cli.top import top
from runner.cli.tune import tune
from runner.errors import ConfigError

_EXITS = "\n".join(f"  {code.value:>2}  {what}" for code, what in MEANING.items())
_EPILOG = f"""\b
Exit codes:
{_EXITS}

\b
Settings are WHATSAPP_* variables or a TOML file: see `config print` and docs/settings.md.
"""


@click.group(
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Keeps WhatsApp Web sessions connected. Without a command: run.

    \b
    Examples:
      python -m runner                          # run, with the settings of the environment
      python -m runner run --simulator 25       # try it, without WhatsApp
      python -m runner status
      python -m runner reconnect support-1
    """
    if context.invoked_subcommand is None:
        context.invoke(run)


@cli.command()
@click.argument("app", metavar="[MODULE:NAME]", required=False)
@click.option(
    "--simulator",
    "simulated",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Run against an embedded simulator with N sessions instead of WhatsApp.",
)
@click.option(
    "--chatter",
    type=Rate(),
    metavar="RATE",
    help="With --simulator: how often its contacts write, over all sessions (2/s, 30/min, off; 6/min).",
)
@ends_well
def run(app: str | None = None, simulated: int | None = None, chatter: float | None = None) -> None:
    """Keep the sessions connected until SIGTERM.

    MODULE:NAME is an app of yours that gets the messages: docs/app.md says how to write one.

    SIGTERM or Ctrl-C: stop dialling, let handlers end, flush, close, exit 0 within 13 s; a second one ends at
    once. SIGHUP: reload the settings that can be reloaded, and reopen the log file.

    \b
    Examples:
      python -m runner
      python -m runner run --simulator 25
      python -m runner run my_app:app
      python -m runner run --simulator 25 --chatter 2/s my_app:app
    """
    from runner.app import main
    from runner.embedded import Rehearsal

    if simulated is None and chatter is not None:
        raise click.UsageError("--chatter is of the simulator's contacts: use it with --simulator N")
    rehearsal = None if simulated is None else Rehearsal(simulated, chatter)
    raise SystemExit(main(os.environ, rehearsal, app))


@cli.command()
@as_json
@ends_well
def version(*, as_json: bool) -> None:
    """Version and build.

    \b
    Example:
      python -m runner version --json
    """
    from runner.version import build

    if as_json:
        show_json(build())
    else:
        from runner.cli.values import flat

        for name, value in flat(build()):
            click.echo(f"{name:<19} {value}")


@cli.group("config")
def config_() -> None:
    """Look at the settings.

    \b
    Examples:
      python -m runner config print --effective
      python -m runner config check --json
    """


@config_.command("print")
@click.option("--effective", is_flag=True, help="Every setting, defaults included.")
@as_json
@ends_well
def print_(*, effective: bool, as_json: bool) -> None:
    """The settings in force, secrets masked; without --effective only those that are not the default.

    \b
    Example:
      python -m runner config print --effective
    """
    shown = config.written(settings())
    if not effective:
        default = config.written(config.Settings())
        shown = {name: value for name, value in shown.items() if value != default[name]}
    if as_json:
        show_json({config.PREFIX + name: value for name, value in shown.items()})
    else:
        for name, value in shown.items():
            click.echo(f"{config.PREFIX}{name}={value}")


@config_.command("check")
@click.option("--start", "to_start", is_flag=True, help="Also load all that a start loads; opens nothing.")
@click.option("--app", "app", metavar="MODULE:NAME", help="With --start, also the app of `run MODULE:NAME`.")
@as_json
@ends_well
def check(*, as_json: bool, to_start: bool, app: str | None) -> None:
    """Say what is wrong with the settings; exit code 2 when anything is.

    \b
    Examples:
      python -m runner config check
      python -m runner config check --start     # after an update: could the new version start?
    """
    try:
        found = settings()
        opens = _rehearse(found, app) if to_start else {}
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"problems": error.problems}))
        else:
            tell(error)
        raise SystemExit(2) from None
    click.echo(json.dumps({"problems": [], **opens}) if as_json else "the settings are good")


def _rehearse(found: config.Settings, app: str | None) -> dict[str, list[str]]:
    from runner.cli.rehearsal import rehearse

    return rehearse(found, app)


@config_.command("docs", hidden=True)
@click.option("--readme", is_flag=True)
def docs(*, readme: bool) -> None:
    """Write docs/settings.md, or the README's table, to stdout."""
    from runner.cli import settings_docs

    sys.stdout.write(settings_docs.readme_table() + "\n" if readme else settings_docs.document())


for _command in (
    *fleet.COMMANDS,
    *outgoing.COMMANDS,
    *moving.COMMANDS,
    top,
    alerts,
    pair,
    send,
    restart,
    monitor,
    service,
    import_,
    tune,
    sim,
):
    cli.add_command(_command)
