"""`WS /ws`: what changes, as it changes.

`?session=ID` (repeatable, `*` for all, the default) and `?events=NAME` (repeatable, `*` for all; the default
is `session.status`): the supervisor's events (`session.*`, `incident.*`), `alert.*`, `system.metrics` (at
once and then with each sample), and of sessions that are named `session.metrics`. While
`WHATSAPP_PERFORMANCE_MONITORING` is off there are no samples, and whoever waits for some is told so once
(`metrics.paused`). Each message is one envelope; its id is a ULID, so a receiver can sort and de-duplicate.
A receiver that is too slow loses events and is told how many (`stream.lost`); it never slows anybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio
from starlette.websockets import WebSocketDisconnect

from runner.admin.guard import sees_detail
from runner.admin.lists import words
from runner.envelope import envelope

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from runner.admin.backend import Backend
    from runner.supervisor.feed import StatusEvent

STATUS: Final = "session.status"
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


def wanted_of(socket: WebSocket) -> Wanted:
    """Read the query of the upgrade request."""
    query = socket.query_params
    sessions, events = frozenset(words(query, "session")), frozenset(words(query, "events"))
    return Wanted(sessions or frozenset({"*"}), events or frozenset({STATUS}))


async def stream(socket: WebSocket, backend: Backend, version: str) -> None:
    """Serve one receiver until it leaves or the runner stops."""
    wanted = wanted_of(socket)
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
        async for change in changes:
            if change.lost:
                lost = {"events": change.lost}
                await socket.send_text(envelope("stream.lost", None, lost, version).decode())
            session = change.session_id or None
            if wanted.has(change.name, session):
                payload = payload_of(change, with_detail=with_detail)
                message = envelope(change.name, session, payload, version, change.at_unix_ms)
                await socket.send_text(message.decode())


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
                if backend.sessions.view(session) is not None:
                    payload = backend.numbers.session(session)
                    await socket.send_text(envelope("session.metrics", session, payload, version).decode())
        await backend.numbers.next_sample()
