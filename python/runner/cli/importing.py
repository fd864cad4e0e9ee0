"""`import`: takes over what Baileys stored, through a live runner or else straight into the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.exits import Exit, tell
from runner.cli.options import as_json, ends_well, settings, show_json
from runner.errors import AdminError, ImportRefusedError, NotRunningError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.admin.client import Client, Imported
    from runner.config import Settings

    Outcome = Sequence[str] | RunnerError
    """The warnings of what was imported, or why it was not."""


@click.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--id", "session_id", help="How the session is called; the directory's name if not given.")
@click.option("--all", "is_parent", is_flag=True, help="DIRECTORY holds many: import each directory in it.")
@click.option("--no-start", is_flag=True, help="Import, and leave it stopped until `start ID`.")
@click.option("--proxy", metavar="URL", help="The proxy of every session imported; see set-proxy.")
@as_json
@ends_well
def import_(
    directory: Path,
    *,
    session_id: str | None,
    is_parent: bool,
    no_start: bool,
    proxy: str | None,
    as_json: bool,
) -> None:
    """Take over sessions of Baileys (useMultiFileAuthState): credentials, routing info, all Signal keys.

    The source is only read. Stop the old program first, for good: two programs on one device replace each
    other for ever.

    \b
    Examples:
      python -m runner import ./auth_info --id support-1
      python -m runner import --all ./sessions
      python -m runner import ./auth_info --id support-2 --proxy socks5://user:password@10.0.0.7:1080
    """
    if is_parent and session_id is not None:
        raise click.UsageError("--id names one session; with --all each is called like its directory")
    if proxy is not None:
        from runner.proxy import checked_proxy

        proxy = checked_proxy(proxy)
    here = settings()
    wanted = _wanted(directory, session_id, is_parent=is_parent)
    results = _import_each(wanted, here, start=not no_start, proxy=proxy)
    if as_json:
        show_json(results)
    else:
        _tell(results)
    if any("error" in result for result in results):
        raise SystemExit(Exit.FAILED)


def _wanted(directory: Path, session_id: str | None, *, is_parent: bool) -> list[tuple[str, Path]]:
    from runner.baileys import discover

    if is_parent:
        return [(found.name, found) for found in discover(directory)]
    return [(session_id or directory.resolve().name, directory)]


def _import_each(
    wanted: list[tuple[str, Path]], here: Settings, *, start: bool, proxy: str | None
) -> list[dict[str, object]]:
    from runner.admin.client import Client

    with Client(here.socket_path, timeout_s=120.0) as runner:
        if runner.is_running():
            told = _import_live(runner, wanted, here.admin_import_limit, start=start, proxy=proxy)
        else:
            told = _import_offline(wanted, here, start=start, proxy=proxy)
    return [_result(session_id, directory, told[session_id]) for session_id, directory in wanted]


def _import_live(
    runner: Client, wanted: list[tuple[str, Path]], limit_bytes: int, *, start: bool, proxy: str | None
) -> dict[str, Outcome]:
    from runner.baileys import device_of, read_files

    told: dict[str, Outcome] = {}

    def whole() -> Iterator[tuple[str, dict[str, bytes]]]:
        for session_id, directory in wanted:
            try:
                files = read_files(directory)
                device_of(directory, files)  # says what is damaged by the names that the operator knows
            except RunnerError as error:
                told[session_id] = error
            else:
                yield session_id, files

    try:
        for one in runner.create_all(whole(), start=start, proxy=proxy, limit_bytes=limit_bytes):
            told[one["id"]] = one["warnings"] if "error" not in one else _refusal(one)
    except (AdminError, NotRunningError) as error:  # it stopped: what was not told is not known
        for session_id, _ in wanted:
            told.setdefault(session_id, error)
    return told


def _refusal(one: Imported) -> ImportRefusedError:
    return ImportRefusedError(one.get("reason", one["error"]), one["message"], one.get("remedy", ""))


def _import_offline(
    wanted: list[tuple[str, Path]], here: Settings, *, start: bool, proxy: str | None
) -> dict[str, Outcome]:
    from runner.data_dir import STORE_FILE, prepare
    from runner.engine import open_store
    from runner.intake import Intake

    prepare(here.data_path)
    store = open_store(here.data_path / STORE_FILE, here.inbox_retention_s)
    try:
        return {
            session_id: outcome
            for session_id, _, outcome in Intake(store, proxy, start=start).take_over_all(wanted)
        }
    finally:
        store.close()


def _result(session_id: str, directory: Path, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, RunnerError):
        error = outcome
        kind = error.kind if isinstance(error, ImportRefusedError) else getattr(error, "error", error.slug)
        return {
            "id": session_id,
            "source": str(directory),
            "error": kind,
            "message": str(error),
            "remedy": error.remedy,
        }
    return {"id": session_id, "source": str(directory), "imported": True, "warnings": list(outcome)}


def _tell(results: list[dict[str, object]]) -> None:
    told: set[object] = set()
    for result in results:
        if "error" in result:
            tell(ImportRefusedError(str(result["error"]), str(result["message"]), str(result["remedy"])))
            continue
        click.echo(f"{result['id']}: imported")
        warnings = result["warnings"]
        for warning in warnings if isinstance(warnings, list) else ():
            if warning not in told:
                told.add(warning)
                click.echo(f"warning: {warning}", err=True)
