"""Linking a session with a phone: the QR code as a picture or as text, and the pairing code.

A QR code and a pairing code are as good as a password while they last, so they are for callers that may also
operate (`sees_detail`), and nothing of them is kept by anybody in between.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import trio
from fastapi import Query, Request, Response

from runner.admin import answers
from runner.admin.backend import PairingPhone
from runner.admin.bodies import decoded
from runner.admin.guard import sees_detail
from runner.admin.lists import Json
from runner.admin.schemas import ANY_CALL, CONFLICT, PAIRING_PHONE, a_body, says
from runner.errors import AdminError, UnknownSessionError
from runner.phone_number import checked_phone

if TYPE_CHECKING:
    from fastapi import FastAPI

    from runner.admin.backend import Backend
    from runner.supervisor.phones import Shown

Format = Annotated[Literal["image", "raw"], Query(description="a picture (PNG), or what the code says")]
_PNG: Final = "image/png"
_MODULE_PX: Final = 6
"""Of one square: the picture has some 400 pixels, which a phone reads off any screen."""


def add_linking(app: FastAPI, backend: Backend) -> None:
    """The routes that link a session with a phone."""

    @app.post(
        "/api/sessions/{session_id}/pair",
        responses={**answers.A_SESSION, **CONFLICT},
        summary="somebody is there with a phone: show QR codes for a while; asking again changes nothing",
    )
    async def pair(session_id: str, request: Request) -> Json:
        await backend.phones.pair(session_id)
        view = backend.sessions.view(session_id)
        if view is None:
            raise UnknownSessionError(session_id)
        return Json(view.to_json(with_detail=sees_detail(request.scope)))

    @app.get(
        "/api/{session_id}/auth/qr",
        response_class=Response,
        responses={**answers.QR_CODE, **CONFLICT},
        summary="the QR code to scan now; waits for the first one",
    )
    async def qr(session_id: str, request: Request, format: Format = "image") -> Response:  # noqa: A002
        _refuse_readers(request)
        shown = await backend.phones.qr(session_id)
        if format == "raw":
            return Json({"value": shown.text, **_times(shown)})
        picture = await trio.to_thread.run_sync(png, shown.text)  # pure Python, and not instant
        if "application/json" in request.headers.get("accept", ""):
            data = base64.b64encode(picture).decode("ascii")
            return Json({"mimetype": _PNG, "data": data, **_times(shown)})
        return Response(picture, media_type=_PNG, headers={"X-Expires-At": str(shown.expires_at_unix_ms)})

    @app.post(
        "/api/{session_id}/auth/request-code",
        responses={
            **answers.PAIRING_CODE,
            **CONFLICT,
            422: says("no phone number, or a body of another form"),
            429: ANY_CALL[429] | {"description": "a code was made a moment ago, or too many wrong tokens"},
        },
        summary="a code to type into the phone with this number",
        openapi_extra=a_body(PAIRING_PHONE),
    )
    async def request_code(session_id: str, request: Request) -> Json:
        _refuse_readers(request)
        wish = decoded(await request.body(), PairingPhone, "POST /api/{session_id}/auth/request-code")
        shown = await backend.phones.code(session_id, checked_phone(wish.phone_number))
        return Json({"code": shown.text, "expiresAt": shown.expires_at_unix_ms})


def png(text: str) -> bytes:
    """A QR code as a picture. Blocking, short."""
    import segno

    picture = io.BytesIO()
    segno.make_qr(text, error="l").save(picture, kind="png", scale=_MODULE_PX)
    return picture.getvalue()


def _times(shown: Shown) -> dict[str, Any]:
    return {"expiresAt": shown.expires_at_unix_ms, "left": shown.left}


def _refuse_readers(request: Request) -> None:
    if not sees_detail(request.scope):
        raise AdminError(
            403, "scope_missing", "this token may not see codes that link a phone: it needs the scope operate"
        )
