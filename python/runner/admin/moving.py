"""A session for another program, and a copy of the store: what only an administrator may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import trio
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations

from runner.admin import answers
from runner.admin.lists import Json
from runner.admin.schemas import CONFLICT, NEW_BACKUP, NEW_EXPORT, a_body, says
from runner.baileys_export import GO_ON_THERE, files_of
from runner.errors import AdminError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from runner.admin.backend import Backend


class NewExport(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/sessions/{id}/export`."""

    format: Literal["baileys"] = "baileys"
    force: bool = False
    """Stop the session first, if it runs."""


class NewBackup(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/backup`."""

    file: str
    """An absolute path on the runner's machine; the runner's user must be able to make it."""


def add_moving(app: FastAPI, backend: Backend) -> None:
    """The routes that hand out keys."""

    @app.post(
        "/api/sessions/{session_id}/export",
        responses={
            **answers.EXPORTED,
            **CONFLICT,
            503: says("the store could not do it; nothing was changed"),
        },
        summary="its files for another program, and no dial here any more: all keys of the device",
        openapi_extra=a_body(NEW_EXPORT),
    )
    async def export(session_id: str, request: Request) -> Json:
        wish = await _decoded(request, NewExport)
        device = await backend.sessions.export(session_id, force=wish.force)
        files = await trio.to_thread.run_sync(files_of, device)
        texts, binary = {}, {}
        for name, content in files.items():
            try:
                texts[name] = content.decode()
            except UnicodeDecodeError:
                binary[name] = content
        answer = {
            "id": session_id,
            "format": wish.format,
            "files": texts,
            "binary": binary,
            "leftOut": device.left_out,
            "warnings": [GO_ON_THERE],
        }
        return Json(answer)

    @app.post(
        "/api/backup",
        responses={
            **answers.BACKUP,
            **CONFLICT,
            503: says("the disk or the store could not do it; there is no file"),
        },
        summary="a copy of the store as it is now, keys and all, into a new file on the runner's machine",
        openapi_extra=a_body(NEW_BACKUP),
    )
    async def backup(request: Request) -> Json:
        wish = await _decoded(request, NewBackup)
        file = Path(wish.file)
        if not file.is_absolute() or "\0" in wish.file:
            raise AdminError(422, "body_wrong", f"file: {wish.file!r} is no absolute path", "begin it with /")
        made = await backend.backup(file)
        answer = {
            "file": str(file),
            "bytes": made.bytes,
            "sessions": made.sessions,
            "at": made.at_unix_ms,
            "seconds": made.took_s,
        }
        return Json(answer)


async def _decoded(request: Request, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the two above
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except msgspec.DecodeError as error:
        where = f"{request.method} {request.url.path}"
        raise AdminError(422, "body_wrong", str(error), f"see {where} in /openapi.json") from error
