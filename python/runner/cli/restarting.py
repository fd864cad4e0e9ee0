"""`restart`: one session, or the whole runner."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from runner.admin.client import Client
from runner.cli.options import as_json, connect, ends_well, settings, show_json
from runner.errors import NotRunningError

REHEARSAL_S: Final = 75.0
"""The runner first loads the new process to see whether it can start."""
POLL_S: Final = 0.1


@click.command()
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask before the whole runner is restarted.")
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the new process.",
)
@as_json
@ends_well
def restart(session_id: str | None, *, yes: bool, timeout_s: float, as_json: bool) -> None:
    """Stop a session and start it again; without an ID, restart the whole runner.

    The runner becomes a new process in place, with the code and the settings file that are there now: same
    pid, no refused connection on the admin API, sessions dialled anew through the limiter. When the new
    process could not start, nothing happens and the exit code is 5.

    \b
    Examples:
      python -m runner restart support-1
      python -m runner restart --yes          # after an update
    """
    if session_id is not None:
        with connect() as runner:
            row = runner.command(session_id, "restart")
        if as_json:
            show_json(row)
        else:
            click.echo(f"{row['id']}: {row['state']}")
        return
    if not yes:
        click.confirm("restart the whole runner?", abort=True, err=True)
    told = _restart_runner(timeout_s)
    if as_json:
        show_json(told)
    else:
        states = told["states"]
        online, total = states.get("online", 0), sum(states.values())
        rest = "" if online == total else ", the others follow: python -m runner status"
        click.echo(
            f"restarted in {told['seconds']:.1f} s, pid {told['pid']};"
            f" {online} of {total} sessions online{rest}"
        )


def _restart_runner(timeout_s: float) -> dict[str, Any]:
    path = settings().socket_path
    with Client(path, timeout_s=REHEARSAL_S) as runner:
        before = runner.post("/api/restart")["process"]["startedAt"]
    began = time.monotonic()
    while True:
        left_s = began + timeout_s - time.monotonic()
        try:
            with Client(path, timeout_s=max(left_s, POLL_S)) as runner:
                process = runner.health()["process"]
                if process["startedAt"] != before:
                    states = runner.system()["states"]
                    took_s = time.monotonic() - began
                    return {
                        "restarted": True,
                        "seconds": round(took_s, 3),
                        "pid": process["pid"],
                        "restarts": process["restarts"],
                        "states": states,
                    }
        except NotRunningError:  # the old process had accepted this connection; the next waits for the new
            if left_s <= 0:
                raise
        if left_s <= 0:
            raise NotRunningError(path, f"the new process did not answer within {timeout_s:g} s")
        time.sleep(POLL_S)
