"""`WS /ws` and `GET /api/events`: what changes, as it changes.

`?session=ID` (repeatable, `*` for all, the default) and `?events=NAME` (repeatable, `session.*` for all that
begin so, `*` for all; the default is `session.status`): the supervisor's events (`session.*`, `incident.*`),
`alert.*`, `message`, `system.metrics` (at once and then with each sample), and of sessions that are named
`session.metrics`. While `WHATSAPP_PERFORMANCE_MONITORING` is off there are no samples, and whoever waits for
some is told so once (`metrics.paused`). Each message is one envelope; its id is a ULID, so a receiver can
sort and de-duplicate.
A receiver that is too slow loses events and is told how many (`stream.lost`); it never slows anybody else.
Messages are shown as they come in, and only to those who may operate: `*` has none for a token that only
reads. What must not be lost is the business of handlers and webhooks. `GET /api/events` has the same filters,
all events by default, no samples, and one envelope a line.
"""

from __future__ import annotations

import contextlib
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from starlette.websockets import WebSocketDisconnect

from runner.admin.guard import sees_detail
from runner.admin.lists import words
from runner.admin.tokens import OPERATE
from runner.config_kinds import did_you_mean
from runner.envelope import envelope
from runner.errors import AdminError
from runner.webhooks.hook import EVENTS, is_meant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import HTTPConnection
    from starlette.websockets import WebSocket

    from runner.admin.backend import Backend
    from runner.supervisor.feed import StatusEvent

STATUS: Final = "session.status"
MESSAGES: Final = frozenset({"message", "message.undecryptable"})
"""What says who writes to whom."""
KNOWN: Final = (*EVENTS, "session.qr", "session.metrics", "system.metrics", "metrics.paused", "stream.lost")
"""What may be asked for, beside `*`."""
_STOP_POLL_S: Final = 0.5
EVENTS_A_STEP: Final = 16
"""Events that one receiver gets before others have their turn: about a millisecond of work."""
GOING_AWAY: Final = 1001
_FOR_OPERATORS: Final = frozenset({"qr"})
_PAUSED: Final = {
    "reason": "WHATSAPP_PERFORMANCE_MONITORING is false",
    "remedy": "set it to true and send SIGHUP",
}


class Wanted(msgspec.Struct, frozen=True):
    """What one receiver asked for."""

    sessions: frozenset[str]
    events: frozenset[str]

    def has(self, event: str, session: str | None) -> bool:
        """Whether this event of this session (None: of the system) goes out."""
        return (event in self.events or "*" in self.events) and (
            session is None or "*" in self.sessions or session in self.sessions
        )


def wanted_of(caller: HTTPConnection, default: str) -> Wanted:
    """Read the query.

    Errors: AdminError 422 for an event that there is not, 403 when it names messages and the caller may not
    see them.
    """
    query = caller.query_params
    sessions, events = frozenset(words(query, "session")), _meant(words(query, "events"))
    if events & MESSAGES and not sees_detail(caller.scope):
        raise AdminError(
            403, "scope_missing", f"this token may not see messages: that needs the scope {OPERATE}"
        )
    return Wanted(sessions or frozenset({"*"}), events or frozenset({default}))


def _meant(patterns: list[str]) -> frozenset[str]:
    meant: set[str] = set()
    for pattern in patterns:
        names = {pattern} if pattern == "*" else {name for name in KNOWN if is_meant(pattern, name)}
        if not names:
            known = ", ".join(KNOWN)
            hint = did_you_mean(pattern, KNOWN)
            raise AdminError(
                422,
                "parameter_wrong",
                f"events: there is no event {pattern!r}{hint}",
                f"use * or some of {known}; session.* means all that begin so",
            )
        meant |= names
    return frozenset(meant)


async def stream(socket: WebSocket, backend: Backend, version: str) -> None:
    """Serve one receiver until it leaves or the runner stops."""
    wanted = wanted_of(socket, STATUS)
    await socket.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_close_on_stop, socket, backend.stopping, nursery.cancel_scope)
        nursery.start_soon(_end_with_receiver, socket, nursery.cancel_scope)
        if any(wanted.has(name, None) for name in ("system.metrics", "session.metrics")):
            nursery.start_soon(_send_metrics, socket, backend, wanted, version)
        nursery.start_soon(_send_changes, socket, backend, wanted, version)


async def _close_on_stop(socket: WebSocket, stopping: trio.Event, scope: trio.CancelScope) -> None:
    # The server would drop us without a word (close code 1006) after its own grace.
    await stopping.wait()
    with trio.CancelScope(shield=True):
        await socket.close(GOING_AWAY, "the runner stops")
    scope.cancel()


async def _end_with_receiver(socket: WebSocket, scope: trio.CancelScope) -> None:
    try:
        while True:
            await socket.receive_text()  # nothing that a receiver says means anything yet
    except (WebSocketDisconnect, KeyError):  # KeyError: a binary message
        scope.cancel()


def payload_of(change: StatusEvent, *, with_detail: bool) -> dict[str, object]:
    """What one receiver is told of a change. A QR code links a phone: it is not for those who only read."""
    hidden = frozenset() if with_detail else _FOR_OPERATORS
    view = change.view.to_json(with_detail=with_detail) if change.view else {}
    return {**view, **{name: value for name, value in change.data.items() if name not in hidden}}


async def _send_changes(socket: WebSocket, backend: Backend, wanted: Wanted, version: str) -> None:
    with_detail = sees_detail(socket.scope)
    with backend.sessions.subscribe() as changes:
        async for first in changes:
            for change in (first, *_at_hand(changes, EVENTS_A_STEP - 1)):
                for message in _told(change, wanted, backend, version, with_detail=with_detail):
                    await socket.send_text(message.decode())


def _at_hand(changes: trio.MemoryReceiveChannel[StatusEvent], most: int) -> Iterator[StatusEvent]:
    """Those that wait already: a round of the loop for each would be slower than they come in a storm."""
    with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
        for _ in range(most):
            yield changes.receive_nowait()


def _told(
    change: StatusEvent, wanted: Wanted, backend: Backend, version: str, *, with_detail: bool
) -> Iterator[bytes]:
    """The envelopes that a change is for one receiver."""
    if change.lost:
        yield envelope("stream.lost", None, {"events": change.lost}, version)
    session = change.session_id or None
    if not wanted.has(change.name, session) or (change.name in MESSAGES and not with_detail):
        return
    payload = payload_of(change, with_detail=with_detail)
    me = backend.sessions.me(session) if session is not None and with_detail else None
    yield envelope(change.name, session, payload, version, change.at_unix_ms, change.event_id, me)


async def lines(
    backend: Backend, wanted: Wanted, version: str, seconds: float | None, *, with_detail: bool
) -> AsyncIterator[bytes]:
    """The same for `GET /api/events`: one envelope a line, until the runner stops or the time is over."""
    end = inf if seconds is None else trio.current_time() + seconds
    with backend.sessions.subscribe() as changes:
        while not backend.stopping.is_set() and trio.current_time() < end:
            change = None
            # No scope may be open around a yield.
            with trio.move_on_at(min(end, trio.current_time() + _STOP_POLL_S)):
                try:
                    change = await changes.receive()
                except trio.EndOfChannel:
                    return
            if change is not None:
                for message in _told(change, wanted, backend, version, with_detail=with_detail):
                    yield message + b"\n"


async def _send_metrics(socket: WebSocket, backend: Backend, wanted: Wanted, version: str) -> None:
    named = sorted(
        wanted.sessions - {"*"}
    )  # of all sessions at once the metrics are a list: ask the API for it
    await backend.numbers.refresh()
    while True:
        if not backend.numbers.monitoring:
            await socket.send_text(envelope("metrics.paused", None, _PAUSED, version).decode())
            await backend.numbers.next_sample()
            continue
        if wanted.has("system.metrics", None):
            await socket.send_text(envelope("system.metrics", None, backend.numbers.live(), version).decode())
        if wanted.has("session.metrics", None):
            for session in named:
                if (view := backend.sessions.view(session)) is not None:
                    payload = backend.metrics_of(view)
                    await socket.send_text(envelope("session.metrics", session, payload, version).decode())
        await backend.numbers.next_sample()
