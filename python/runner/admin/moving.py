"""A session for another program, and a copy of the store: what only an administrator may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import trio
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations

from runner.admin import answers
from runner.admin.bodies import decoded
from runner.admin.lists import Json
from runner.admin.schemas import CONFLICT, NEW_BACKUP, NEW_EXPORT, a_body, says
from runner.baileys_export import GO_ON_THERE, files_of
from runner.engine import told_of_backup
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
        wish = decoded(await request.body() or b"{}", NewExport, f"POST {request.url.path}")
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
        wish = decoded(await request.body() or b"{}", NewBackup, f"POST {request.url.path}")
        file = Path(wish.file)
        if not file.is_absolute() or "\0" in wish.file:
            raise AdminError(422, "body_wrong", f"file: {wish.file!r} is no absolute path", "begin it with /")
        return Json(told_of_backup(file, await backend.backup(file)))
