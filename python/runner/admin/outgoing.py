"""The routes of what goes out: the events as they happen, webhooks, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import FastAPI, Query, Request, Response

from runner.admin import answers, events
from runner.admin.backend import WhichDeadLetters
from runner.admin.bodies import decoded
from runner.admin.guard import sees_detail
from runner.admin.lists import Json, Streamed, single
from runner.admin.schemas import EVENTS_QUERY, Responses, a_body, says
from runner.delivery.retry import POLICIES
from runner.errors import AdminError
from runner.webhooks.hook import DEFAULT_EVENTS, EVENTS, FAMILIES, NewWebhook, Retries

if TYPE_CHECKING:
    from runner.admin.backend import Backend

T = TypeVar("T")

MOST_LIMIT: Final = 500
MOST_SECONDS: Final = 86_400
MOST_ID: Final = 10**18
Limit = Annotated[int, Query(ge=1, le=MOST_LIMIT, description="how many")]
After = Annotated[int, Query(ge=0, le=MOST_ID, description="where the page before ended (`next`)")]
Seconds = Annotated[
    int | None, Query(ge=0, le=MOST_SECONDS, description="end after so long; without it with the runner")
]
_NO_WEBHOOK: Final[Responses] = {404: says("no such webhook")}
_WRONG: Final[Responses] = {
    413: says("too large"),
    422: says("an address, event, session, header or retry rule that cannot be used"),
    503: says("the store failed; nothing was changed"),
}
_FIXED: Final[Responses] = {409: says("it comes from the settings")}
_MANY: Final[Responses] = {409: says("there are too many")}
_STORE: Final[Responses] = {503: says("the store failed; nothing was changed")}
_NO_LETTER: Final[Responses] = {404: says("no such dead letter"), 413: says("too large"), **_STORE}
_RETRIES: Final = Retries()
_WEBHOOK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2000,
            "examples": ["https://example.com/hook"],
        },
        "events": {
            "type": "array",
            "default": list(DEFAULT_EVENTS),
            "minItems": 1,
            "maxItems": 50,
            "items": {"type": "string", "enum": [*EVENTS, *FAMILIES, "*"]},
            "description": "; ".join(f"`{name}`: {what}" for name, what in EVENTS.items())
            + "; `session.*` and `*` mean several",
        },
        "session": {"type": ["string", "null"], "description": "only of this session; null: of all"},
        "secret": {"type": "string", "maxLength": 1000, "description": "key of the signatures"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "retries": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "policy": {"type": "string", "enum": list(POLICIES), "default": _RETRIES.policy},
                "delaySeconds": {
                    "type": "number",
                    "minimum": 0.1,
                    "maximum": 3600,
                    "default": _RETRIES.delay_seconds,
                },
                "attempts": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1000,
                    "default": _RETRIES.attempts,
                },
            },
        },
    },
}
_WHICH: Final[dict[str, Any]] = {
    "oneOf": [
        {
            "type": "object",
            "required": ["ids"],
            "additionalProperties": False,
            "properties": {"ids": {"type": "array", "maxItems": MOST_LIMIT, "items": {"type": "string"}}},
        },
        {
            "type": "object",
            "required": ["all"],
            "additionalProperties": False,
            "properties": {
                "all": {"const": True, "description": "all of `sink`, or of every sink"},
                "sink": {"type": ["string", "null"]},
            },
        },
    ]
}


def _once(name: str, what: str) -> dict[str, Any]:
    parameter = {"name": name, "in": "query", "description": what, "schema": {"type": "string"}}
    return {"parameters": [parameter]}


def add_outgoing(app: FastAPI, backend: Backend, version: str) -> None:
    """Add the routes."""

    @app.get(
        "/api/events",
        response_class=Streamed,
        responses=answers.LOG_LINES,
        summary="what happens from now on, one JSON object a line; filters as of WS /ws, all by default",
        openapi_extra=EVENTS_QUERY,
    )
    async def stream(request: Request, seconds: Seconds = None) -> Response:
        wanted = events.wanted_of(request, "*")
        lines = events.lines(backend, wanted, version, seconds, with_detail=sees_detail(request.scope))
        return Streamed(lines, media_type="application/x-ndjson")

    _add_webhooks(app, backend)
    _add_dead_letters(app, backend)


def _add_webhooks(app: FastAPI, backend: Backend) -> None:
    @app.get(
        "/api/webhooks",
        responses={**answers.WEBHOOKS, **_STORE},
        summary="all webhooks, with what waits for each",
        openapi_extra=_once("session", "only those that get events of this session"),
    )
    async def webhooks(request: Request) -> Json:
        session = single(request.query_params, "session")
        found = await backend.webhooks.listed(session, with_detail=sees_detail(request.scope))
        return Json({"webhooks": found})

    @app.post(
        "/api/webhooks",
        status_code=201,
        responses={**answers.WEBHOOK_ADDED, **_MANY, **_WRONG},
        summary="post events to an address from now on; it outlives the process",
        openapi_extra=a_body(_WEBHOOK),
    )
    async def add(request: Request) -> Json:
        wish = decoded(await request.body(), NewWebhook, "POST /api/webhooks")
        _check_session(backend, wish)
        return Json(await backend.webhooks.add(wish), 201)

    @app.get(
        "/api/webhooks/{webhook_id}",
        responses={**answers.A_WEBHOOK, **_NO_WEBHOOK, **_STORE},
        summary="one webhook",
    )
    async def webhook(webhook_id: str, request: Request) -> Json:
        return Json(await backend.webhooks.one(webhook_id, with_detail=sees_detail(request.scope)))

    @app.put(
        "/api/webhooks/{webhook_id}",
        responses={**answers.A_WEBHOOK, **_NO_WEBHOOK, **_FIXED, **_WRONG},
        summary="another configuration under the same id; what waits goes to the new address",
        openapi_extra=a_body(_WEBHOOK),
    )
    async def change(webhook_id: str, request: Request) -> Json:
        wish = decoded(await request.body(), NewWebhook, "PUT /api/webhooks/{webhook_id}")
        _check_session(backend, wish)
        return Json(await backend.webhooks.change(webhook_id, wish))

    @app.delete(
        "/api/webhooks/{webhook_id}",
        responses={**answers.WEBHOOK_REMOVED, **_NO_WEBHOOK, **_FIXED, **_STORE},
        summary="forget a webhook; what waits for it becomes dead letters",
    )
    async def remove(webhook_id: str) -> Json:
        return Json({"id": webhook_id, "givenUp": await backend.webhooks.remove(webhook_id)})

    @app.post(
        "/api/webhooks/{webhook_id}/test",
        responses={**answers.WEBHOOK_TESTED, **_NO_WEBHOOK},
        summary="post one event `webhook.test` now, and say what came of it",
    )
    async def test(webhook_id: str) -> Json:
        return Json(await backend.webhooks.test(webhook_id))


def _check_session(backend: Backend, wish: NewWebhook) -> None:
    if wish.session is not None and backend.sessions.view(wish.session) is None:
        said = f"session: no session is called {wish.session!r}"
        raise AdminError(422, "unknown_session", said, "leave it out for the events of all sessions")


def _add_dead_letters(app: FastAPI, backend: Backend) -> None:
    @app.get(
        "/api/dead-letters",
        responses={**answers.DEAD_LETTERS, **_STORE},
        summary="messages that handlers, and events that webhooks did not take, the oldest first",
        openapi_extra=_once("sink", "the id of a webhook, or app for the handlers"),
    )
    async def dead_letters(request: Request, limit: Limit = 100, after: After = 0) -> Json:
        sink = single(request.query_params, "sink")
        detail = sees_detail(request.scope)
        return Json(await backend.dead_letters.listed(sink, after, limit, with_detail=detail))

    @app.post(
        "/api/dead-letters/redrive",
        responses={**answers.REDRIVEN, **_NO_LETTER},
        summary="put them back, behind what waits, with their attempts forgotten",
        openapi_extra=a_body(_WHICH),
    )
    async def redrive(request: Request) -> Json:
        which = _which(await request.body())
        return Json(await backend.dead_letters.redrive(which.ids, which.sink))

    @app.post(
        "/api/dead-letters/drop",
        responses={**answers.DROPPED, **_NO_LETTER},
        summary="let go of them for good",
        openapi_extra=a_body(_WHICH),
    )
    async def drop(request: Request) -> Json:
        which = _which(await request.body())
        return Json(await backend.dead_letters.drop(which.ids, which.sink))


def _which(body: bytes) -> WhichDeadLetters:
    which = decoded(body, WhichDeadLetters, "POST /api/dead-letters/redrive")
    if (which.ids is None) != which.all:
        raise AdminError(422, "body_wrong", "say which: ids, or all", 'send {"ids": […]} or {"all": true}')
    return which
