"""Every answer that is not a success: how errors of the runner, of FastAPI and of Starlette are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from runner.admin.guard import error_body, write_down
from runner.admin.lists import Json
from runner.baileys_errors import ImportSourceError
from runner.errors import (
    AdminError,
    ImportRefusedError,
    MisuseError,
    RateLimitedError,
    RefusedError,
    RunnerError,
    SendError,
    StoreFailedError,
    UnknownSessionError,
    WebhookWrongError,
)
from runner.proxy import ProxyWrongError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

    from runner.admin.backend import Backend

_TAKEN: Final = frozenset({"exists", "same_device"})
_BY_REASON: Final = {
    "phone_wrong": 422,
    "busy": 429,
    "not_a_user": 422,
    "empty": 422,
    "too_long": 422,
    "group_too_large": 422,
    "refused": 502,
    "restricted": 502,
    "store_failed": 503,
    "no_answer": 504,
    "unconfirmed": 504,
}
_SLUGS: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def add_errors(app: FastAPI, backend: Backend) -> None:
    """Add the handlers."""

    @app.exception_handler(RunnerError)
    async def runner_error(_request: Request, error: RunnerError) -> Json:
        known = as_admin_error(error)
        return Json(error_body(known), known.status, known.headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Json:
        slug = _SLUGS.get(error.status_code, "http_error")
        said = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
        known = AdminError(error.status_code, slug, said, "see /openapi.json for what there is")
        headers = {"allow": _allowed(app, request)} if error.status_code == 405 else error.headers
        return Json(error_body(known), known.status, headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Json:
        if not isinstance(error, ClientDisconnect):  # he left in the middle of his body: no bug of ours
            backend.numbers.handler_failed()
            # Starlette raises it again after the answer; who has left by then would take it along.
            write_down(request.scope, error)
        return Json(
            error_body(AdminError(500, "internal_error", "the runner failed here; its log says why")), 500
        )

    @app.exception_handler(RequestValidationError)
    async def validation_error(_request: Request, error: RequestValidationError) -> Json:
        said = "; ".join(
            f"{wrong['loc'][-1]}: {str(wrong['msg']).lower()} (it is {str(wrong['input'])[:40]!r})"
            for wrong in error.errors()
        )
        return Json(error_body(AdminError(422, "parameter_wrong", said)), 422)


def _allowed(app: FastAPI, request: Request) -> str:
    """The methods of a path over all of its routes; Starlette names those of the first only.

    As in the description, `/api/sessions/batch` is a path of its own and no session.
    """
    routes = [it for it in app.routes if isinstance(it, Route) and it.matches(request.scope)[0] != Match.NONE]
    exact = [it for it in routes if it.path == request.scope["path"]]
    return ", ".join(sorted({method for route in exact or routes for method in route.methods or ()}))


def as_admin_error(error: RunnerError) -> AdminError:
    """How an error of the runner is told over HTTP."""
    if isinstance(error, AdminError):
        return error
    status, reason = 500, None
    if isinstance(error, UnknownSessionError):
        status = 404
    elif isinstance(error, RefusedError | SendError):
        status, reason = _BY_REASON.get(error.reason, 409), error.reason
    elif isinstance(error, RateLimitedError):
        headers = {"retry-after": str(error.retry_after_s)}
        return AdminError(429, error.slug, str(error), error.remedy, headers=headers)
    elif isinstance(error, ImportRefusedError):
        status, reason = (409 if error.kind in _TAKEN else 422), error.kind
    elif isinstance(error, ImportSourceError):
        return AdminError(422, ImportRefusedError.slug, str(error), error.remedy, error.slug)
    elif isinstance(error, ProxyWrongError | WebhookWrongError):
        status = 422
    elif isinstance(error, MisuseError):
        status = 409
    elif isinstance(error, StoreFailedError):
        status = 503
    return AdminError(status, error.slug, str(error), error.remedy, reason)
