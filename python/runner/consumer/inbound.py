"""From a row of the inbox to a `Message`: the one place that knows both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.message import Media, Message, Reaction

if TYPE_CHECKING:
    from runner.lanes import Key


class InboxRow(Protocol):
    """The part of `_core.InboxMessage` that is always there."""

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
    """The message in a row; None while it is not decrypted: then it stays where it is."""
    content: bytes | None = getattr(row, "content", None)
    if content is None:
        return None
    media, reaction = getattr(row, "media", None), getattr(row, "reaction", None)
    message = Message(
        id=row.message_id,
        chat=row.chat,
        sender=row.sender,
        received_unix_ms=row.received_unix_ms,
        kind=getattr(row, "kind", "unknown"),
        text=getattr(row, "text", None),
        media=media and Media(*media),
        reaction=reaction and Reaction(*reaction),
        target_id=getattr(row, "target_id", None),
        content=content,
    )
    return Inbound(row.seq, row.session_id, message)
