"""What the admin API needs of the rest of the runner, as types; tests give it a fake of the same shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import trio

    from runner.errors import RunnerError
    from runner.logs import LogBuffer
    from runner.session import SessionView
    from runner.supervisor.feed import StatusEvent
    from runner.supervisor.timeline import Entry


BATCH_SESSIONS: Final = 200
"""Most sessions of one `POST /api/sessions/batch`: what one transaction takes."""


class Sessions(Protocol):
    """The part of the supervisor that an operator reaches. Errors: those of `runner.errors`."""

    def rows(self) -> Iterable[SessionView]: ...
    def view(self, session_id: str) -> SessionView | None: ...
    def timeline(self, session_id: str) -> Sequence[Entry]: ...
    def start(self, session_id: str) -> None: ...
    def stop(self, session_id: str) -> None: ...
    def restart(self, session_id: str) -> None: ...
    def reconnect(self, session_id: str, *, override: bool = False) -> int: ...
    def reset_breaker(self, session_id: str, *, penalty: bool = False) -> None: ...
    def set_proxy(self, session_id: str, proxy: str | None) -> None: ...
    async def remove(self, session_id: str) -> None: ...
    async def logout(self, session_id: str) -> None: ...
    def subscribe(self) -> trio.MemoryReceiveChannel[StatusEvent]: ...


class Numbers(Protocol):
    """The metrics as `runner.metrics` keeps them."""

    async def refresh(self) -> None:
        """Bring the numbers up to date when nothing samples them by itself."""

    def system(self) -> dict[str, object]: ...
    def session(self, session_id: str) -> dict[str, object]: ...
    def details(self) -> dict[str, object]: ...
    async def next_sample(self) -> None:
        """Wait for the next sample."""


class Check(msgspec.Struct, frozen=True):
    """One line of the health report."""

    name: str
    healthy: bool
    detail: str = ""


class HealthReport(msgspec.Struct, frozen=True):
    """live: the process is worth keeping. ready: it can do its work now."""

    live: bool
    ready: bool
    checks: tuple[Check, ...] = ()
    process: dict[str, object] = {}
    """Pid, start, uptime, and why the process before it ended (`Lifetime.report`)."""


class NewSession(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/sessions`: a Baileys directory, file name to content."""

    id: str
    files: dict[str, str]
    binary: dict[str, bytes] = {}
    """Files that are not UTF-8 (damaged ones are kept, too); base64 in the JSON."""
    start: bool = True
    proxy: str | None = None


class NewSessions(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/sessions/batch`."""

    sessions: Annotated[list[NewSession], msgspec.Meta(max_length=BATCH_SESSIONS)]


class ChangedSession(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /api/sessions/{id}`: what of a session can be changed while it runs."""

    proxy: str | None
    """None: the one of `WHATSAPP_PROXY`, if any."""


@dataclass(frozen=True, slots=True)
class Created:
    """What an import made."""

    session_id: str
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Backend:
    """Everything that the handlers may call."""

    sessions: Sessions
    numbers: Numbers
    health: Callable[[], HealthReport]
    create: Callable[[Sequence[NewSession]], Awaitable[list[Created | RunnerError]]]
    """What became of each, in their order; one that is refused costs only itself."""
    prometheus: Callable[[], bytes]
    logs: LogBuffer
    version: Callable[[], Mapping[str, object]]
    fleet: Callable[[], Mapping[str, object]]
    """What concerns many sessions at once: incidents, the limiter's queue, sessions by state."""
    doctor: Callable[[int | None], Awaitable[Mapping[str, object]]]
    """The findings of `tune` for so many sessions, or for those that there are."""
    stopping: trio.Event
    restart: Callable[[], Awaitable[None]]
    """Begin a restart of the whole runner. Errors: RefusedError when the new process could not start."""
    settings: Callable[[], Mapping[str, str]] = field(default=dict)
    """The settings in force, secrets masked."""
