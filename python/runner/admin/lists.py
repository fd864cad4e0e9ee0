"""The lists that grow with the fleet: encoded in chunks, with a checkpoint between two, past every model.

10,000 rows through FastAPI's models stop the Trio thread for 42 ms; here no piece of work is longer than
`ROWS_A_CHUNK` rows, however long the page.
"""

from __future__ import annotations

from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

import msgspec
import trio
from starlette.responses import JSONResponse, StreamingResponse

from runner.errors import AdminError
from runner.session import State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Send

    from runner.session import SessionView

ROWS_A_CHUNK: Final = 50
DEFAULT_LIMIT: Final = 1000
MOST_LIMIT: Final = 100_000
MOST_WHOLE: Final = 999_999_999
"""Of a number in a query, unless it is a time."""
MOST_UNIX_MS: Final = 999_999_999_999_999


class Page(msgspec.Struct, frozen=True):
    """What part of the fleet a caller asked for."""

    offset: int = 0
    limit: int = DEFAULT_LIMIT
    states: frozenset[str] = frozenset()
    reason: str | None = None
    search: str | None = None
    sessions: tuple[str, ...] = ()
    """Named ones only, in this order; empty: all."""

    def has(self, view: SessionView) -> bool:
        """Whether the filter lets this session through."""
        return (
            (not self.states or view.state in self.states)
            and (self.reason is None or view.reason == self.reason)
            and (self.search is None or self.search in view.session_id)
        )


def page_of(request: Request) -> Page:
    """Read `offset`, `limit`, `state` and `session` (repeatable, or with commas), `reason` and `q`.

    Errors: AdminError 422 that names the parameter.
    """
    query = request.query_params
    states = frozenset(words(query, "state"))
    if unknown := states - set(State):
        known = ", ".join(State)
        raise AdminError(
            422, "parameter_wrong", f"state {', '.join(sorted(unknown))!r} is not one of {known}"
        )
    return Page(
        offset=whole(query.get("offset"), "offset", 0),
        limit=min(whole(query.get("limit"), "limit", DEFAULT_LIMIT), MOST_LIMIT),
        states=states,
        reason=query.get("reason"),
        search=query.get("q"),
        sessions=tuple(dict.fromkeys(words(query, "session"))),
    )


def words(query: QueryParams, name: str) -> list[str]:
    """The values of a parameter that may be repeated and may have commas in it; an empty one is one."""
    return [word for value in query.getlist(name) for word in value.split(",")]


def single(query: QueryParams, name: str) -> str | None:
    """The value of a parameter that may be given once. Errors: AdminError 422 that names it."""
    given = query.getlist(name)
    if len(given) > 1:
        raise AdminError(422, "parameter_wrong", f"{name} may be given once")
    return given[0] if given else None


def whole(text: str | None, name: str, default: int, most: int = MOST_WHOLE) -> int:
    """A number out of a query.

    Errors: AdminError 422 that names the parameter.
    """
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise AdminError(
            422,
            "parameter_wrong",
            f"{name} must be a whole number, not negative and at most {most} (it is {text[:40]!r})",
        )
    return int(text)


class Json(JSONResponse):
    """An answer encoded by msgspec."""

    def render(self, content: object) -> bytes:
        return msgspec.json.encode(content)


class Streamed(StreamingResponse):
    """A streamed answer whose source is closed when the caller leaves, not when it is collected."""

    async def stream_response(self, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)):
            await super().stream_response(send)


def listing(
    head: Mapping[str, object],
    views: Iterable[SessionView],
    page: Page,
    render: Callable[[SessionView], Mapping[str, object]],
) -> Streamed:
    """`head`, then `sessions`: the rows of one page; then how many there are and where the next begins."""
    return Streamed(_encode(head, views, page, render), media_type="application/json")


async def _encode(
    head: Mapping[str, object],
    views: Iterable[SessionView],
    page: Page,
    render: Callable[[SessionView], Mapping[str, object]],
) -> AsyncIterator[bytes]:
    opening = msgspec.json.encode(head)[:-1]
    yield opening + (b"," if len(opening) > 1 else b"") + b'"sessions":['
    await trio.lowlevel.checkpoint()
    total = matched = written = 0
    remaining = iter(views)
    while chunk := list(islice(remaining, ROWS_A_CHUNK)):
        total += len(chunk)
        rows = []
        for view in chunk:
            if not page.has(view):
                continue
            if matched >= page.offset and written < page.limit:
                rows.append(render(view))
                written += 1
            matched += 1
        if rows:
            yield (b"," if written > len(rows) else b"") + msgspec.json.encode(rows)[1:-1]
        await trio.lowlevel.checkpoint()
    following = page.offset + written
    tail = {
        "total": total,
        "matched": matched,
        "next": following if written and following < matched else None,
    }
    yield b"]," + msgspec.json.encode(tail)[1:]
