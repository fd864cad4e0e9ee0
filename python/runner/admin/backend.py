"""What the admin API needs of the rest of the runner, as types; tests give it a fake of the same shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import trio

    from runner._core import BackupMade, ExportedDevice
    from runner.envelope import Me
    from runner.errors import RunnerError
    from runner.logs import LogBuffer
    from runner.message import SendReceipt
    from runner.session import SessionView
    from runner.supervisor.feed import StatusEvent
    from runner.supervisor.phones import Shown
    from runner.supervisor.timeline import Entry
    from runner.webhooks.hook import NewWebhook


BATCH_SESSIONS: Final = 200
"""Most sessions of one `POST /api/sessions/batch`: what one transaction takes."""
PHONE_CHARS: Final = 40
"""How long a phone number may be, with all that people write between its digits."""


class Sessions(Protocol):
    """The part of the supervisor that an operator reaches. Errors: those of `runner.errors`."""

    @property
    def revision(self) -> int: ...
    def rows(self) -> Iterable[SessionView]: ...
    def view(self, session_id: str) -> SessionView | None: ...
    def me(self, session_id: str) -> Me | None: ...
    def timeline(self, session_id: str) -> Sequence[Entry]: ...
    def start(self, session_id: str) -> None: ...
    def stop(self, session_id: str) -> None: ...
    def restart(self, session_id: str) -> None: ...
    def reconnect(self, session_id: str, *, override: bool = False) -> int: ...
    def reset_breaker(self, session_id: str, *, penalty: bool = False) -> None: ...
    def set_proxy(self, session_id: str, proxy: str | None) -> None: ...
    async def remove(self, session_id: str) -> None: ...
    async def logout(self, session_id: str) -> None: ...
    async def export(self, session_id: str, *, force: bool = False) -> ExportedDevice: ...
    def subscribe(self) -> trio.MemoryReceiveChannel[StatusEvent]: ...


class Phones(Protocol):
    """What a person with a phone may ask. Errors: those of `runner.errors`."""

    async def pair(self, session_id: str) -> None: ...
    async def qr(self, session_id: str) -> Shown: ...
    async def code(self, session_id: str, phone: int) -> Shown: ...


class Numbers(Protocol):
    """The metrics as `runner.metrics` keeps them."""

    async def refresh(self) -> None:
        """Bring the numbers up to date when nothing samples them by itself."""

    @property
    def monitoring(self) -> bool: ...
    def system(self) -> dict[str, object]: ...
    def session(self, session_id: str) -> dict[str, object]: ...
    def details(self) -> dict[str, object]: ...
    def live(self) -> dict[str, object]:
        """The payload of the event `system.metrics`."""

    def past(
        self, names: Iterable[str], since_ms: int | None, until_ms: int | None, points: int
    ) -> dict[str, object]:
        """Series of the history, by name; the names are known."""

    def handler_failed(self) -> None:
        """Count a request that ended in a bug of ours."""

    async def next_sample(self) -> None:
        """Wait for the next sample, or for monitoring to be turned off."""


class AlertDesk(Protocol):
    """The alerts as `runner.alerts.loop` keeps them; answers are JSON. Errors: AdminError."""

    def active(self) -> dict[str, object]: ...
    def history(self, limit: int, before: str | None) -> dict[str, object]: ...
    def definitions(self) -> dict[str, object]: ...
    def acknowledge(self, alert_id: str, by: str, note: str | None) -> dict[str, object]: ...
    def resolve(self, alert_id: str) -> dict[str, object]: ...
    def silences(self) -> list[dict[str, object]]: ...
    def silence(self, alert: str, about: str | None, minutes: float, note: str) -> dict[str, object]: ...
    def unsilence(self, silence_id: str) -> dict[str, object]: ...


class WebhookDesk(Protocol):
    """The webhooks as `runner.webhooks.registry` keeps them; answers are JSON.

    Errors: AdminError, RefusedError, WebhookWrongError.
    """

    async def listed(self, session: str | None, *, with_detail: bool) -> list[dict[str, object]]: ...
    async def one(self, webhook_id: str, *, with_detail: bool) -> dict[str, object]: ...
    async def add(self, wish: NewWebhook) -> dict[str, object]: ...
    async def change(self, webhook_id: str, wish: NewWebhook) -> dict[str, object]: ...
    async def remove(self, webhook_id: str) -> int: ...
    async def test(self, webhook_id: str) -> dict[str, object]: ...


class DeadLetterDesk(Protocol):
    """The dead letters as `runner.dead_letters` keeps them. Errors: AdminError."""

    async def listed(
        self, sink: str | None, after: int, limit: int, *, with_detail: bool
    ) -> dict[str, object]: ...
    async def redrive(self, ids: Sequence[str] | None, sink: str | None) -> dict[str, int]: ...
    async def drop(self, ids: Sequence[str] | None, sink: str | None) -> dict[str, int]: ...


class WhichDeadLetters(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/dead-letters/redrive` and `drop`."""

    ids: list[str] | None = None
    all: bool = False
    sink: str | None = None


class Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/alerts/{id}/ack`."""

    by: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "operator"
    note: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class NewSilence(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/alerts/silences`."""

    alert: str
    minutes: Annotated[float, msgspec.Meta(gt=0, le=60 * 24 * 365)] = 60
    about: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    """A glob over what alerts are about; None: whatever."""
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


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
    """The body of `POST /api/sessions`: a Baileys directory, file name to content; or no files at all."""

    id: str
    files: dict[str, str] | None = None
    """None: a new session, for a phone to link."""
    binary: dict[str, bytes] = {}
    """Files that are not UTF-8 (damaged ones are kept, too); base64 in the JSON."""
    start: bool = True
    proxy: str | None = None

    @property
    def imports(self) -> bool:
        """Whether it brings a device."""
        return self.files is not None or bool(self.binary)


class NewSessions(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/sessions/batch`."""

    sessions: Annotated[list[NewSession], msgspec.Meta(max_length=BATCH_SESSIONS)]


class ChangedSession(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /api/sessions/{id}`: what of a session can be changed while it runs."""

    proxy: str | None
    """None: the one of `WHATSAPP_PROXY`, if any."""


class PairingPhone(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /api/{session}/auth/request-code`."""

    phone_number: Annotated[str, msgspec.Meta(max_length=PHONE_CHARS)]


class NewText(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/sendText`."""

    session: str
    chat_id: Annotated[str, msgspec.Meta(max_length=64)] = msgspec.field(name="chatId")
    text: Annotated[str, msgspec.Meta(min_length=1)]
    reply_to: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    """The id of the message that it answers."""
    reply_to_sender: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    """Who wrote that, in a group."""
    id: str | None = None


class SendText(Protocol):
    """`runner.sending.Sending.text`."""

    async def __call__(
        self,
        session_id: str,
        chat: str,
        text: str,
        *,
        message_id: str | None = None,
        quoted: tuple[str, str, bytes] | None = None,
        is_strict: bool = False,
    ) -> SendReceipt: ...


@dataclass(frozen=True, slots=True)
class Created:
    """What an import, or the making of an empty session, made."""

    session_id: str
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Backend:
    """Everything that the handlers may call."""

    sessions: Sessions
    phones: Phones
    numbers: Numbers
    health: Callable[[], HealthReport]
    create: Callable[[Sequence[NewSession]], Awaitable[list[Created | RunnerError]]]
    """What became of each, in their order; one that is refused costs only itself."""
    prometheus: Callable[[], Iterator[bytes]]
    """The text of `/metrics`, in pieces between which others may have a turn; some are empty."""
    logs: LogBuffer
    version: Callable[[], Mapping[str, object]]
    fleet: Callable[[], Mapping[str, object]]
    """What concerns many sessions at once: incidents, the limiter's queue, sessions by state."""
    doctor: Callable[[int | None], Awaitable[Mapping[str, object]]]
    """The findings of `tune` for so many sessions, or for those that there are."""
    backup: Callable[[Path], Awaitable[BackupMade]]
    """A copy of the store in a new file. Errors: RefusedError when it exists; StoreFailedError."""
    stopping: trio.Event
    restart: Callable[[], Awaitable[None]]
    """Begin a restart of the whole runner. Errors: RefusedError when the new process could not start."""
    alerts: AlertDesk
    webhooks: WebhookDesk
    dead_letters: DeadLetterDesk
    send_text: SendText
    """Errors: UnknownSessionError, SendError."""
    quoted: Callable[[str, str, str, str], Awaitable[tuple[str, str, bytes]]]
    """By session, chat, author and id: what a text answers, as `runner.sending.quoted_of` finds it."""
    settings: Callable[[], Mapping[str, str]] = field(default=dict)
    """The settings in force, secrets masked."""

    def metrics_of(self, view: SessionView) -> dict[str, object]:
        """The metrics of one session, and which of its states they go with."""
        return {
            "id": view.session_id,
            "state": view.state,
            "connection": view.connection,
            "since": view.since_unix_ms,
            "revision": view.revision,
            **self.numbers.session(view.session_id),
        }
