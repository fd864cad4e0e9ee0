"""The routes of the alerts: what is wrong, what was, what can be; acknowledge, resolve, silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import FastAPI, Query, Request

from runner.admin import answers
from runner.admin.backend import Acknowledgement, NewSilence
from runner.admin.bodies import decoded
from runner.admin.lists import Json
from runner.admin.schemas import Responses, a_body, says
from runner.alerts.engine import ANY
from runner.alerts.rules import RULES

if TYPE_CHECKING:
    from runner.admin.backend import Backend

MOST_LIMIT: Final = 500
Limit = Annotated[int, Query(ge=1, le=MOST_LIMIT, description="how many")]
Before = Annotated[str | None, Query(description="the id where the page before ended (`next`)")]
_NO_ALERT: Final[Responses] = {404: says("no such alert is active")}
_NO_SILENCE: Final[Responses] = {404: says("no such silence")}
_NOT_SILENCED: Final[Responses] = {
    409: says("too many silences"),
    413: says("too large"),
    422: says("no such alert, or a wrong field"),
}
_ACK: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "by": {"type": "string", "default": "operator", "minLength": 1, "maxLength": 200},
        "note": {"type": ["string", "null"], "maxLength": 500},
    },
}
_SILENCE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["alert"],
    "additionalProperties": False,
    "properties": {
        "alert": {"type": "string", "enum": [*RULES, ANY], "description": "the name of an alert, or *"},
        "about": {
            "type": ["string", "null"],
            "maxLength": 500,
            "description": "a glob, or null for whatever",
        },
        "minutes": {"type": "number", "default": 60, "exclusiveMinimum": 0, "maximum": 525_600},
        "note": {"type": "string", "default": "", "maxLength": 500},
    },
}
T = TypeVar("T")


def add_alerts(app: FastAPI, backend: Backend) -> None:
    """Add the routes."""

    @app.get(
        "/api/alerts",
        responses=answers.ALERTS,
        summary="what is wrong now, the worst first, and the silences",
    )
    async def alerts() -> Json:
        return Json(backend.alerts.active())

    @app.get(
        "/api/alerts/history",
        responses={**answers.ALERT_HISTORY, 404: says("no alert with the id of `before`")},
        summary="what was wrong, the latest first",
    )
    async def history(limit: Limit = 100, before: Before = None) -> Json:
        return Json(backend.alerts.history(limit, before))

    @app.get(
        "/api/alerts/definitions",
        responses=answers.DEFINITIONS_OF_ALERTS,
        summary="everything that can alert, with the thresholds in force",
    )
    async def definitions() -> Json:
        return Json(backend.alerts.definitions())

    @app.get("/api/alerts/silences", responses=answers.SILENCES, summary="the silences in force")
    async def silences() -> Json:
        return Json({"silences": backend.alerts.silences()})

    @app.post(
        "/api/alerts/silences",
        status_code=201,
        responses={**answers.SILENCED, **_NOT_SILENCED},
        summary="do not tell alerts of a kind for a while",
        openapi_extra=a_body(_SILENCE),
    )
    async def silence(request: Request) -> Json:
        wish = decoded(await request.body() or b"{}", NewSilence, "POST /api/alerts/silences")
        return Json(backend.alerts.silence(wish.alert, wish.about, wish.minutes, wish.note), 201)

    @app.delete(
        "/api/alerts/silences/{silence_id}",
        responses={**answers.A_SILENCE, **_NO_SILENCE},
        summary="end a silence",
    )
    async def unsilence(silence_id: str) -> Json:
        return Json(backend.alerts.unsilence(silence_id))

    @app.post(
        "/api/alerts/{alert_id}/ack",
        responses={**answers.AN_ALERT, **_NO_ALERT, 413: says("too large")},
        summary="somebody looks after it; the first one stays",
        openapi_extra=a_body(_ACK, required=False),
    )
    async def acknowledge(alert_id: str, request: Request) -> Json:
        wish = decoded(await request.body() or b"{}", Acknowledgement, "POST /api/alerts/{alert_id}/ack")
        return Json(backend.alerts.acknowledge(alert_id, wish.by, wish.note))

    @app.post(
        "/api/alerts/{alert_id}/resolve",
        responses={**answers.AN_ALERT, **_NO_ALERT},
        summary="call it over until the condition becomes true anew",
    )
    async def resolve(alert_id: str) -> Json:
        return Json(backend.alerts.resolve(alert_id))
