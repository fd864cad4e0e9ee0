"""From a row of the inbox to a `Message`: the one place that knows both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from runner.engine import view_of
from runner.message import Media, Message, Reaction, is_group, user_of

if TYPE_CHECKING:
    from runner import _core
    from runner.lanes import Key
    from runner.message import Call


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
    def is_own(self) -> bool: ...
    @property
    def content(self) -> bytes | None: ...


class Inbound:
    """One message on its way: a row, which becomes a `Message` when somebody is to see it.

    Of a long burst most rows are read more than once before their turn comes (`runner.lanes`), so that little
    may be made of each.
    """

    __slots__ = ("content", "lane", "row", "seq", "size")

    def __init__(self, row: InboxRow, content: bytes) -> None:
        self.row = row
        self.content = content
        self.seq = row.seq
        self.lane: Key = row.session_id, row.chat
        """What keeps its order."""
        self.size = 500 + len(content)
        """Bytes, roughly."""

    @property
    def session_id(self) -> str:
        """The session that received it."""
        return self.lane[0]

    # What its sender called it, as `runner.sending.About` wants it.

    @property
    def id(self) -> str:
        """The sender's."""
        return self.row.message_id

    @property
    def chat(self) -> str:
        """Where it was written."""
        return self.lane[1]

    @property
    def sender(self) -> str:
        """Who wrote it."""
        return self.row.sender


def inbound(row: InboxRow) -> Inbound | None:
    """The message in a row; None without content: it is passed over. What is read later is a new row."""
    content = row.content
    return None if content is None else Inbound(row, content)


def message_of(item: Inbound, attempt: int = 1, call: Call | None = None) -> Message:
    """What the user's code is given. Content that cannot be read is handed on as it is, of kind `unknown`."""
    row, view = item.row, view_of(item.content)
    if view is None:
        kind, text, media, reaction, target_id = "unknown", None, None, None, None
    else:
        kind, text, target = view.kind, view.text, view.target
        media, target_id = _media(view.media), target and target.id
        reaction = Reaction(text or "", target.id or "") if kind == "reaction" and target else None
    return Message(
        id=row.message_id,
        chat=item.chat,
        sender=row.sender,
        # Between two people whoever is not the chat is the user, also by an address that is not known yet.
        is_own=row.is_own or (not is_group(item.chat) and user_of(row.sender) != user_of(item.chat)),
        received_unix_ms=row.received_unix_ms,
        kind=kind,
        text=text,
        media=media,
        reaction=reaction,
        target_id=target_id,
        content=item.content,
        attempt=attempt,
        call=call,
    )


def _media(media: _core.MessageMedia | None) -> Media | None:
    if media is None:
        return None
    return Media(media.mime_type or "application/octet-stream", media.file_bytes, media.file_name)
