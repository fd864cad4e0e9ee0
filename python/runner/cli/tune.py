"""`tune`: what the machine is set to, what N sessions need, and the changes when they are asked for."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.exits import Exit
from runner.cli.options import as_json, ends_well, settings, show_json
from runner.errors import NotRunningError, RunnerError

if TYPE_CHECKING:
    from runner.config import Settings
    from runner.tune.report import Report

ROOT = Path("/")


@click.command()
@click.option(
    "--sessions",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Judge for N sessions; else for those in the store, or 1,000 when it is empty.",
)
@click.option("--check", is_flag=True, help="Exit with 1 when something is advised, 8 when N do not fit.")
@click.option("--apply", "is_apply", is_flag=True, help="Make the changes that can be made here (root).")
@click.option("--undo", "is_undo", is_flag=True, help="Take back every change of --apply.")
@click.option("--explain", is_flag=True, help="Say why for every setting, and not only for those to change.")
@as_json
@ends_well
def tune(
    *, sessions: int | None, check: bool, is_apply: bool, is_undo: bool, explain: bool, as_json: bool
) -> None:
    """Look at what the machine is set to, and say what N sessions need of it and why.

    Without --apply it changes nothing. --apply writes /etc/sysctl.d/60-runner.conf,
    /etc/security/limits.d/60-runner.conf and a drop-in of the service, sets the same values now, reads them
    back, and takes back what did not take. --undo restores what was there before. docs/tuning.md has every
    check with its source or measurement.

    \b
    Examples:
      python -m runner tune --sessions 10000
      python -m runner tune --check --json            # for a deployment script
      sudo python -m runner tune --sessions 10000 --apply
      sudo python -m runner tune --undo
    """
    if is_apply + is_undo + check > 1:
        raise click.UsageError("--check, --apply and --undo exclude each other")
    if is_undo:
        _undo(as_json=as_json)
        return
    report = _look(settings(), sessions)
    if is_apply:
        _apply(report, as_json=as_json)
        return
    if as_json:
        show_json(report.to_json())
    else:
        from runner.cli import tune_table

        tune_table.report(report, explain=explain)
    if check:
        raise SystemExit(_verdict(report))


def _verdict(report: Report) -> Exit:
    from runner.tune.finding import Status

    return {Status.ADVISED: Exit.FAILED, Status.TOO_SMALL: Exit.TOO_SMALL}.get(report.status, Exit.DONE)


def _look(here: Settings, sessions: int | None) -> Report:
    """At the live runner's process when there is one, since its limits are what counts; else at this one."""
    from runner.tune.subject import look

    pid = _runner_pid(here.socket_path)
    in_store = 0 if sessions is not None else _sessions(here)
    return look(here, sessions, in_store, pid, ROOT)


def _runner_pid(path: Path) -> int | None:
    """Who listens on the admin socket; None without a runner, or when it lives in another pid namespace."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(path))
        except OSError:
            return None
        answer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = int(struct.unpack("3i", answer)[0])
    return pid or None


def _sessions(here: Settings) -> int:
    from runner.admin.client import Client

    try:
        with Client(here.socket_path) as runner:
            return int(runner.get("/api/sessions", {"limit": 0})["total"])
    except NotRunningError:
        return _stored_sessions(here)


def _stored_sessions(here: Settings) -> int:
    from runner.data_dir import STORE_FILE
    from runner.engine import open_store

    path = here.data_path / STORE_FILE
    try:
        if not path.exists():  # opening would make one
            return 0
        store = open_store(path, here.inbox_retention_s)
    except (PermissionError, RunnerError):  # damaged, locked, another user's: no reason not to look
        return 0
    try:
        return len(store.sessions())
    finally:
        store.close()


def _apply(report: Report, *, as_json: bool) -> None:
    from runner.tune import changes

    wanted = list(report.changes())
    made = {finding.check.name for finding, _ in wanted}
    left = [it for it in report.findings if it.is_advised and it.check.name not in made]
    outcomes = changes.apply(ROOT, [change for _, change in wanted], report.facts.units) if wanted else []
    if as_json:
        show_json(
            {
                "outcomes": [outcome.to_json() for outcome in outcomes],
                "left": [finding.to_json() for finding in left],
            }
        )
    else:
        from runner.cli import tune_table

        tune_table.outcomes(outcomes)
        tune_table.left(left)
        if not outcomes and not left:
            click.echo("nothing to change")
    if not all(outcome.done for outcome in outcomes):
        raise SystemExit(Exit.FAILED)
    if left and not outcomes:
        raise SystemExit(Exit.NOT_ALLOWED)


def _undo(*, as_json: bool) -> None:
    from runner.tune import changes

    outcomes = changes.undo(ROOT)
    if as_json:
        show_json({"outcomes": [outcome.to_json() for outcome in outcomes]})
    elif outcomes:
        from runner.cli import tune_table

        tune_table.outcomes(outcomes)
    else:
        click.echo("nothing to undo")
    if not all(outcome.done for outcome in outcomes):
        raise SystemExit(Exit.FAILED)
