"""`export`: a session for another program. `backup`, `restore`: the store as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.options import as_json, connect, ends_well, session_id, settings, show_json
from runner.errors import NotRunningError

if TYPE_CHECKING:
    from runner import _core
    from runner.admin.client import Exported

_PATIENCE_S: Final = 3600.0
"""For a copy of a large store on a slow disk."""


@click.command()
@session_id
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["baileys"]), default="baileys", show_default=True)
@click.option("--force", is_flag=True, help="Stop the session first, if it runs.")
@as_json
@ends_well
def export(session_id: str, directory: Path, *, form: str, force: bool, as_json: bool) -> None:
    """Write a session as Baileys keeps it (useMultiFileAuthState), into DIRECTORY, which must be new or
    empty.

    Refused while the session runs, unless --force stops it: two programs on one device push each other off,
    and their keys drift apart until messages cannot be read. Afterwards the session is parked here as
    exported: neither a restart nor `start` dials it; `reconnect ID --override` does, when the other program
    never ran.

    \b
    Examples:
      python -m runner export support-1 ./auth_info --force
      python -m runner export support-1 --format baileys /srv/bot/auth_info
    """
    from runner.baileys_export import check_empty, write_directory

    check_empty(directory)
    with connect(120.0) as runner:
        is_running = runner.is_running()
        told = runner.export(session_id, form, force=force) if is_running else _export_offline(session_id)
    write_directory(directory, told["files"])
    if as_json:
        shown = {"id": session_id, "directory": str(directory), "files": len(told["files"])}
        show_json({**shown, "leftOut": told["leftOut"], "warnings": told["warnings"]})
        return
    click.echo(f"{session_id}: {len(told['files'])} files in {directory}")
    for name in told["leftOut"]:
        click.echo(f"warning: {name} cannot be read and was left out; its contact begins anew", err=True)
    for warning in told["warnings"]:
        click.echo(f"warning: {warning}", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@as_json
@ends_well
def backup(file: Path, *, as_json: bool) -> None:
    """Copy the whole store as it is now into FILE, which must be new, while the runner runs or when it does
    not.

    FILE holds the keys of every device: mode 0600. It is whole or it is not there. What is answered after
    its moment is not in it: see `restore` for what that means.

    \b
    Example:
      python -m runner backup /var/backups/wa-$(date +%F).db
    """
    with connect(_PATIENCE_S) as runner:
        made = runner.backup(file.absolute()) if runner.is_running() else _offline(file.absolute())
    if as_json:
        show_json(made)
        return
    mib = made["bytes"] / 2**20
    click.echo(f"{made['file']}: {made['sessions']} sessions, {mib:.1f} MiB, {made['seconds']:.1f} s")


def _export_offline(session_id: str) -> Exported:
    """The same of a store that no runner uses; the session is parked in it."""
    from dataclasses import replace

    from runner.baileys_export import GO_ON_THERE, files_of
    from runner.engine import export_device, flush_for_export
    from runner.errors import UnknownSessionError
    from runner.reconnect.history import Hold, from_json, to_json
    from runner.reconnect.policy import Policy
    from runner.reconnect.table import EXPORTED

    store = _open_store()
    try:
        stored = {row.session_id: row for row in store.sessions()}.get(session_id)
        if stored is None:
            raise UnknownSessionError(session_id)
        device = export_device(store, session_id)
        if not stored.archived:  # else nothing dials it anyway
            durable, _ = from_json(stored.policy, 0.0, 0, Policy())
            parked = replace(durable, desired=False, hold=Hold("parked", None), reason=EXPORTED)
            store.put_policy(session_id, to_json(parked, 0.0, 0))
        flush_for_export(store, session_id)
        return {"files": files_of(device), "leftOut": device.left_out, "warnings": [GO_ON_THERE]}
    finally:
        store.close()


def _open_store() -> _core.Store:
    from runner.data_dir import STORE_FILE, prepare
    from runner.engine import open_store

    here = settings()
    if not (here.data_path / STORE_FILE).exists():
        raise NotRunningError(here.socket_path, f"and there is no store in {here.data_path}")
    prepare(here.data_path)
    return open_store(here.data_path / STORE_FILE, here.inbox_retention_s)


def _offline(file: Path) -> dict[str, Any]:
    from runner.engine import back_up, told_of_backup

    store = _open_store()
    try:
        return told_of_backup(file, back_up(store, file))
    finally:
        store.close()


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Move the store that is there aside first.")
@as_json
@ends_well
def restore(file: Path, *, replace: bool, as_json: bool) -> None:
    """Make the store of a backup. Stop the runner first; nothing is touched before FILE was checked as a
    whole.

    The devices have gone on since the backup was made, so nothing that may have been used is used again:
    every session with a contact still reads and never sends (the next message begins a new one), own sender
    keys are dropped, ids of pre-keys leap, and at the next login the server is given what it has that is not
    here. Messages that came after the backup and were answered are not in it; some of those before may come
    twice.

    \b
    Examples:
      python -m runner restore /var/backups/wa-2026-11-26.db
      python -m runner restore /var/backups/wa-2026-11-26.db --replace
    """
    from runner.data_dir import STORE_FILE, prepare
    from runner.engine import restore_store

    here = settings()
    prepare(here.data_path)
    restored = restore_store(here.data_path / STORE_FILE, file, replace=replace)
    moved_to = restored.moved_to
    if as_json:
        show_json(
            {
                "sessions": restored.sessions,
                "at": restored.at_unix_ms,
                "changed": restored.changed,
                "unreadable": restored.unreadable,
                "movedTo": None if moved_to is None else str(moved_to),
            }
        )
        return
    click.echo(f"restored: {restored.sessions} sessions; start the runner")
    if moved_to is not None:
        click.echo(f"the store that was there is now {moved_to}")
    for name in restored.unreadable:
        click.echo(f"warning: {name}: its credentials cannot be read; it will be quarantined", err=True)


COMMANDS: tuple[click.Command, ...] = (export, backup, restore)
