"""The routes of the admin API: one ASGI application for both sockets.

The four endpoints of the owner's brief stand at the root under their own names; the rest is `/api/…`. FastAPI
writes the OpenAPI description; every answer is bytes made by msgspec, and lists go out in chunks (`lists`).
Handlers only translate: what they call is in `backend`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import msgspec
import trio
from fastapi import FastAPI, Query, Request, Response, WebSocket

from runner.admin import answers, events
from runner.admin.alerts import add_alerts
from runner.admin.backend import Backend, ChangedSession, Created, NewSession, NewSessions
from runner.admin.bodies import decoded
from runner.admin.guard import SCOPES, SIGNED_IN, Access, Guard, error_body, sees_detail
from runner.admin.linking import add_linking
from runner.admin.lists import MOST_UNIX_MS, Json, Page, Streamed, listing, page_of, whole, words
from runner.admin.moving import add_moving
from runner.admin.outgoing import add_outgoing
from runner.admin.refusals import add_errors, as_admin_error
from runner.admin.schemas import (
    ANY_CALL,
    CHANGED_SESSION,
    CONFLICT,
    ERROR_SCHEMA,
    HISTORY_QUERY,
    NEW_SESSION,
    NEW_SESSIONS,
    NOT_FOUND,
    OUTCOMES,
    PAGED,
    SECURITY_SCHEMES,
    a_body,
    says,
)
from runner.admin.sending import add_sending
from runner.errors import (
    AdminError,
    RunnerError,
    UnknownSessionError,
)
from runner.history import MOST_POINTS, RESOLUTIONS
from runner.metric_definitions import HISTORY
from runner.proxy import checked_proxy
from runner.tune.subject import MOST_SESSIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from fastapi.routing import APIRoute

    from runner.history import Resolution
    from runner.metric_definitions import Definition
    from runner.session import SessionView

T = TypeVar("T")

_LOG_POLL_S: Final = 0.25
Override = Annotated[
    bool, Query(description="dial although it may cost the number (logged out, banned, replaced …)")
]
Penalty = Annotated[bool, Query(description="also forget the penalty of a 402 or 429")]
SessionsWanted = Annotated[
    int | None, Query(ge=1, le=MOST_SESSIONS, description="judge for so many instead of those that there are")
]
Tail = Annotated[int, Query(ge=0, le=100_000, description="how many of the last lines")]


def _operation_id(route: APIRoute) -> str:
    words = re.sub(r"\W+", "_", f"{min(route.methods or set())}{route.path}").lower()
    return words.strip("_")


def application(backend: Backend, access: Access) -> Guard:
    """The application behind its door."""
    app = _routes(backend, str(backend.version().get("version", "")))
    _describe(app)  # here, at start, and kept: it takes longer than a request may
    return Guard(app, access)


def description(version: str) -> dict[str, Any]:
    """What `/openapi.json` says; needs no runner, since handlers look at their backend only when called."""
    return _describe(_routes(cast("Backend", None), version))


def _describe(app: FastAPI) -> dict[str, Any]:
    found = app.openapi()
    found["components"] = {
        "schemas": {"Error": ERROR_SCHEMA, **answers.COMPONENTS},
        "responses": {str(status): answer for status, answer in ANY_CALL.items()},
        "securitySchemes": SECURITY_SCHEMES,
    }
    found["security"] = [{name: []} for name in SECURITY_SCHEMES]
    for operation in (it for path in found["paths"].values() for it in path.values()):
        told = operation["responses"]
        for status, answer in ANY_CALL.items():
            if told[str(status)] == answer:
                told[str(status)] = {"$ref": f"#/components/responses/{status}"}
        asks = [it for it in operation.get("parameters", ()) if it["in"] == "query"]
        if not asks and "requestBody" not in operation:
            del told["422"]
    return found


def _routes(backend: Backend, version: str) -> FastAPI:
    app = FastAPI(
        title="runner admin API",
        version=version,
        description="Keeps WhatsApp Web sessions connected. Errors are `{error, message, remedy}`.",
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        default_response_class=Json,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses=ANY_CALL,
    )
    add_errors(app, backend)
    _add_brief(app, backend)
    _add_sessions(app, backend)
    _add_commands(app, backend)
    add_linking(app, backend)
    add_sending(app, backend)
    _add_metrics(app, backend)
    _add_system(app, backend)
    add_alerts(app, backend)
    add_outgoing(app, backend, version)
    add_moving(app, backend)
    _add_for_dashboard(app, backend)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await events.stream(socket, backend, version)

    return app


def _view(backend: Backend, session_id: str) -> SessionView:
    view = backend.sessions.view(session_id)
    if view is None:
        raise UnknownSessionError(session_id)
    return view


def _rows(backend: Backend, page: Page) -> Iterable[SessionView]:
    """All sessions, or those that are named and known."""
    if not page.sessions:
        return backend.sessions.rows()
    return (view for name in page.sessions if (view := backend.sessions.view(name)) is not None)


def _add_brief(app: FastAPI, backend: Backend) -> None:
    """The endpoints that operators' scripts already call, and the same under /api."""

    @app.get("/api/metrics", responses=answers.PERFORMANCE, summary="the same as /performance-metrics")
    @app.get(
        "/performance-metrics",
        responses=answers.PERFORMANCE,
        summary="system metrics, and the six metrics of each session",
    )
    async def performance_metrics(request: Request) -> Streamed:
        page = page_of(request)
        await backend.numbers.refresh()
        head = {"system": backend.numbers.system(), **backend.numbers.details()}
        return listing(head, _rows(backend, page), page, backend.metrics_of)

    @app.get(
        "/api/reconnections",
        responses=answers.RECONNECTION_STATUS,
        summary="the same as /reconnection-status",
    )
    @app.get(
        "/reconnection-status",
        responses=answers.RECONNECTION_STATUS,
        summary="what each session's reconnecting is doing, and when it tries next",
    )
    async def reconnection_status(request: Request) -> Streamed:
        await backend.numbers.refresh()
        page = page_of(request)
        return listing(backend.fleet(), _rows(backend, page), page, _row_for(request))

    for route in app.routes[-4:]:
        route.openapi_extra = PAGED  # type: ignore[attr-defined]

    reconnects = {**answers.RECONNECTS, **CONFLICT}

    @app.post(
        "/api/sessions/{session_id}/reconnect", status_code=202, responses=reconnects, summary="reconnect now"
    )
    @app.post(
        "/force-reconnection/{session_id}", status_code=202, responses=reconnects, summary="reconnect now"
    )
    async def force_reconnection(session_id: str, override: Override = False) -> Json:
        connection = backend.sessions.reconnect(session_id, override=override)
        return Json(
            {"id": session_id, "connection": connection, "state": _view(backend, session_id).state}, 202
        )

    resets = {**answers.A_SESSION, **NOT_FOUND}

    @app.post("/api/sessions/{session_id}/breaker/reset", responses=resets, summary="close the breaker")
    @app.post("/reset-circuit-breaker/{session_id}", responses=resets, summary="close the circuit breaker")
    async def reset_circuit_breaker(session_id: str, penalty: Penalty = False) -> Json:
        backend.sessions.reset_breaker(session_id, penalty=penalty)
        return Json(_status_row(_view(backend, session_id)))


def _status_row(view: SessionView, *, with_detail: bool = True) -> dict[str, object]:
    return view.to_json(with_detail=with_detail)


def _row_for(request: Request) -> Callable[[SessionView], dict[str, object]]:
    """How a session is shown to this caller. Commands need the scope that sees everything."""
    return partial(_status_row, with_detail=sees_detail(request.scope))


def _add_sessions(app: FastAPI, backend: Backend) -> None:
    @app.get(
        "/api/sessions",
        responses=answers.SESSIONS,
        summary="all sessions, paged and filtered",
        openapi_extra=PAGED,
    )
    async def sessions(request: Request) -> Streamed:
        await backend.numbers.refresh()
        page = page_of(request)
        head = {"revision": backend.sessions.revision}
        return listing(head, _rows(backend, page), page, _row_for(request))

    @app.get(
        "/api/sessions/{session_id}", responses={**answers.A_SESSION, **NOT_FOUND}, summary="one session"
    )
    async def session(session_id: str, request: Request) -> Json:
        await backend.numbers.refresh()
        return Json(_row_for(request)(_view(backend, session_id)))

    @app.get(
        "/api/sessions/{session_id}/metrics",
        responses={**answers.METRICS_OF_A_SESSION, **NOT_FOUND},
        summary="the metrics of one session",
    )
    async def session_metrics(session_id: str) -> Json:
        await backend.numbers.refresh()
        return Json(backend.metrics_of(_view(backend, session_id)))

    @app.post(
        "/api/sessions",
        status_code=201,
        responses={
            **answers.CREATED,
            409: says("the id is taken, or the device is here as another session"),
            413: says("too large"),
            422: says("damaged credentials, or a body of another form"),
        },
        summary="a new session to link with a phone, or one from Baileys credentials",
        openapi_extra=a_body(NEW_SESSION),
    )
    async def create(request: Request) -> Json:
        wish = await _decoded(request, NewSession)
        (made,) = await backend.create([wish])
        if isinstance(made, RunnerError):
            raise made
        view = backend.sessions.view(made.session_id)
        shown = {"id": made.session_id} if view is None else _status_row(view)
        return Json({**shown, "warnings": list(made.warnings)}, 201)

    @app.post(
        "/api/sessions/batch",
        responses={200: OUTCOMES, 413: says("too large"), 422: says("a body of another form")},
        summary="take over many sessions in one transaction; one that is refused costs only itself",
        openapi_extra=a_body(NEW_SESSIONS),
    )
    async def create_many(request: Request) -> Json:
        wishes = (await _decoded(request, NewSessions)).sessions
        made = await backend.create(wishes)
        return Json({"outcomes": [_outcome(*pair) for pair in zip(wishes, made, strict=True)]})

    @app.put(
        "/api/sessions/{session_id}",
        responses={
            **answers.A_SESSION,
            **NOT_FOUND,
            413: says("too large"),
            422: says("a proxy that cannot be used, or an unknown field"),
        },
        summary="another proxy, from now on; an open connection is replaced once",
        openapi_extra=a_body(CHANGED_SESSION),
    )
    async def change(session_id: str, request: Request) -> Json:
        wish = decoded(await request.body(), ChangedSession, "PUT /api/sessions/{session_id}")
        proxy = None if wish.proxy is None else checked_proxy(wish.proxy)
        backend.sessions.set_proxy(session_id, proxy)
        return Json(_status_row(_view(backend, session_id)))

    @app.delete(
        "/api/sessions/{session_id}",
        responses={
            **answers.DELETED,
            **CONFLICT,
            503: says("the store could not do it; nothing was changed"),
        },
        summary="remove; the credentials are archived",
    )
    async def delete(session_id: str) -> Json:
        await backend.sessions.remove(session_id)
        return Json({"id": session_id, "deleted": True})


async def _decoded(request: Request, kind: type[T]) -> T:
    body, where = await request.body(), f"{request.method} {request.url.path}"
    # On a thread: an import may be 64 MiB, and decoding it here would stop every session's policy.
    return await trio.to_thread.run_sync(partial(decoded, body, kind, where))


def _outcome(wish: NewSession, made: Created | RunnerError) -> dict[str, object]:
    if isinstance(made, RunnerError):
        return {"id": wish.id, **error_body(as_admin_error(made))}
    return {"id": wish.id, "imported": True, "warnings": list(made.warnings)}


def _add_commands(app: FastAPI, backend: Backend) -> None:
    async def answer(session_id: str) -> Json:
        return Json(_status_row(_view(backend, session_id)))

    known = {**answers.A_SESSION, **NOT_FOUND}
    may_be_refused = {**answers.A_SESSION, **CONFLICT}

    @app.post("/api/sessions/{session_id}/start", responses=may_be_refused, summary="want it online")
    async def start(session_id: str) -> Json:
        backend.sessions.start(session_id)
        return await answer(session_id)

    @app.post("/api/sessions/{session_id}/stop", responses=known, summary="close it and keep it closed")
    async def stop(session_id: str) -> Json:
        backend.sessions.stop(session_id)
        return await answer(session_id)

    @app.post("/api/sessions/{session_id}/restart", responses=may_be_refused, summary="stop, then start")
    async def restart(session_id: str) -> Json:
        backend.sessions.restart(session_id)
        return await answer(session_id)

    @app.post(
        "/api/sessions/{session_id}/logout",
        responses=may_be_refused,
        summary="unlink the device from the account",
    )
    async def logout(session_id: str) -> Json:
        await backend.sessions.logout(session_id)
        return await answer(session_id)


def _add_metrics(app: FastAPI, backend: Backend) -> None:
    @app.get("/metrics", response_class=Streamed, responses=answers.PROMETHEUS, summary="Prometheus text")
    async def metrics() -> Response:
        await backend.numbers.refresh()
        return Streamed(_pieces(backend), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get(
        "/api/metrics/history",
        responses=answers.HISTORY_OR_NAMES,
        summary="the last 24 h of a metric; without ?metric= the names",
        openapi_extra=HISTORY_QUERY,
    )
    async def history(request: Request) -> Json:
        query = request.query_params
        names = list(dict.fromkeys(words(query, "metric")))
        if unknown := set(names) - HISTORY.keys():
            known = ", ".join(HISTORY)
            raise AdminError(
                422, "parameter_wrong", f"metric {', '.join(sorted(unknown))!r} is not one of {known}"
            )
        since, until = (
            None if query.get(name) is None else whole(query.get(name), name, 0, MOST_UNIX_MS)
            for name in ("since", "until")
        )
        points = whole(query.get("points"), "points", MOST_POINTS)
        if not names:
            return Json({"metrics": [_described(it) for it in HISTORY.values()]})
        series: dict[str, object] = {}
        for name in names:  # one at a time: all of them together would be a long step
            series |= backend.numbers.past([name], since, until, points)
            await trio.lowlevel.checkpoint()
        return Json({"resolutions": [_resolution(it) for it in RESOLUTIONS], "series": series})


def _add_system(app: FastAPI, backend: Backend) -> None:
    @app.get("/health", responses=answers.HEALTH, summary="live and ready, with every check")
    async def health() -> Json:
        report = backend.health()
        return Json(report, 200 if report.live and report.ready else 503)

    @app.get("/health/live", responses=answers.LIVE, summary="worth keeping")
    async def live() -> Json:
        report = backend.health()
        return Json({"live": report.live}, 200 if report.live else 503)

    @app.get("/health/ready", responses=answers.READY, summary="able to work")
    async def ready() -> Json:
        report = backend.health()
        return Json({"ready": report.ready}, 200 if report.ready else 503)

    @app.get(
        "/api/system",
        responses=answers.THE_SYSTEM,
        summary="the system metrics, the build and the settings in force",
    )
    async def system() -> Json:
        await backend.numbers.refresh()
        numbers = {"system": backend.numbers.system(), **backend.numbers.details()}
        await trio.lowlevel.checkpoint()
        return Json(
            {
                "version": backend.version(),
                **numbers,
                "fleet": backend.fleet(),
                "settings": backend.settings(),
            }
        )

    @app.get(
        "/api/system/doctor",
        responses=answers.DOCTOR,
        summary="what of the machine to tune, and why; as `tune --json`",
    )
    async def doctor(sessions: SessionsWanted = None) -> Json:
        return Json(await backend.doctor(sessions))

    @app.post(
        "/api/restart",
        status_code=202,
        responses={**answers.RESTARTS, 409: says("the new process could not start; this one goes on")},
        summary="restart the whole runner in place; sockets stay open, sessions are dialled anew",
    )
    async def restart() -> Json:
        process = backend.health().process  # the one that ends; the next has another startedAt
        await backend.restart()
        return Json({"restarting": True, "process": process}, 202)

    @app.get("/api/server/version", responses=answers.VERSION, summary="version and build")
    async def server_version() -> Json:
        return Json(backend.version())

    @app.get(
        "/api/logs",
        response_class=Streamed,
        responses=answers.LOG_LINES,
        summary="the last log lines, one JSON object a line; ?follow=true goes on",
    )
    async def logs(tail: Tail = 100, follow: bool = False, session: str | None = None) -> Response:
        lines = _log_lines(backend, tail, session, follow=follow)
        return Streamed(lines, media_type="application/x-ndjson")


def _add_for_dashboard(app: FastAPI, backend: Backend) -> None:
    @app.get(
        "/api/sessions/{session_id}/timeline",
        responses={**answers.TIMELINE, **NOT_FOUND},
        summary="the last states of one session, with reasons, the oldest first",
    )
    async def session_timeline(session_id: str) -> Json:
        states = backend.sessions.timeline(_view(backend, session_id).session_id)
        return Json({"id": session_id, "states": [entry.to_json() for entry in states]})

    @app.get(
        "/api/caller",
        responses=answers.CALLER,
        summary="what the caller of this may do, and how it was let in",
    )
    async def caller(request: Request) -> Json:
        scopes = sorted(request.scope.get(SCOPES, ()))
        return Json({"scopes": scopes, "signedIn": SIGNED_IN in request.scope})


async def _pieces(backend: Backend) -> AsyncIterator[bytes]:
    for piece in backend.prometheus():
        if piece:
            yield piece
        await trio.lowlevel.checkpoint()


def _described(it: Definition) -> dict[str, str]:
    return {"name": it.json, "unit": it.unit, "description": it.what}


def _resolution(it: Resolution) -> dict[str, int]:
    return {"stepS": it.step_s, "spanS": it.span_s}


async def _log_lines(
    backend: Backend, tail: int, session: str | None, *, follow: bool
) -> AsyncIterator[bytes]:
    mark = b'"session":' + msgspec.json.encode(session) if session is not None else b""
    lines = backend.logs.tail(tail)
    seen = lines[-1][0] if lines else backend.logs.newest
    yield b"".join(line + b"\n" for _, line in lines if mark in line)
    while follow and not backend.stopping.is_set():
        with trio.move_on_after(_LOG_POLL_S):  # log lines come from any thread; polling needs no bridge
            await backend.stopping.wait()
        if lines := backend.logs.after(seen):
            seen = lines[-1][0]
            yield b"".join(line + b"\n" for _, line in lines if mark in line)
