"""From a row of the inbox to a `Message`: the one place that knows both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.engine import view_of
from runner.message import Media, Message, Reaction

if TYPE_CHECKING:
    from runner import _core
    from runner.lanes import Key


class Named(Protocol):
    """Whose message a row is, and where it was written."""

    @property
    def seq(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def received_unix_ms(self) -> int: ...


class InboxRow(Named, Protocol):
    """The part of `_core.InboxMessage` that is used here."""

    @property
    def content(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message on its way to a handler."""

    seq: int
    session_id: str
    message: Message

    @property
    def lane(self) -> Key:
        """What keeps its order."""
        return self.session_id, self.message.chat

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return 500 + len(self.message.content)


def inbound(row: InboxRow) -> Inbound | None:
    """The message in a row; None when it has no content: it is passed over. What is read later is a new row.

    Content that cannot be read is handed on as it is, of kind `unknown`.
    """
    if row.content is None:
        return None
    view = view_of(row.content)
    message = Message(
        id=row.message_id,
        chat=row.chat,
        sender=row.sender,
        received_unix_ms=row.received_unix_ms,
        kind=view.kind if view else "unknown",
        text=view.text if view else None,
        media=_media(view.media) if view else None,
        reaction=_reaction(view) if view else None,
        target_id=view.target.id if view and view.target else None,
        content=row.content,
    )
    return Inbound(row.seq, row.session_id, message)


def _media(media: _core.MessageMedia | None) -> Media | None:
    if media is None:
        return None
    return Media(media.mime_type or "application/octet-stream", media.file_bytes, media.file_name)


def _reaction(view: _core.MessageView) -> Reaction | None:
    if view.kind != "reaction" or view.target is None:
        return None
    return Reaction(view.text or "", view.target.id or "")
