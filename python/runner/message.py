"""What a user's code is given: a message, and the session that received it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.session import State


@dataclass(frozen=True, slots=True)
class Media:
    """What the header of a picture, film, voice note or file says; its bytes stay at WhatsApp."""

    mimetype: str
    size_bytes: int | None = None
    file_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji on another message; an empty one takes it back."""

    emoji: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One decrypted message.

    Addresses are JIDs as the server writes them: `15550001111@s.whatsapp.net`, `…@lid`, `…@g.us`.
    """

    id: str
    """The sender's; unique together with `chat` and `sender`."""
    chat: str
    """Where it was written: a person or a group. Messages of one chat come in order."""
    sender: str
    """Who wrote it; the same as `chat` outside groups."""
    received_unix_ms: int
    """When it was stored here."""
    kind: str
    """`text`, `image`, `video`, `audio`, `document`, `reaction`, `edit`, `revoke` …; `unknown` for what this
    version has no name for: `content` has all of it."""
    text: str | None = None
    """The text, or the caption of a medium; of an edit the new one."""
    media: Media | None = None
    reaction: Reaction | None = None
    target_id: str | None = None
    """The message that an edit changes or a revoke takes back."""
    content: bytes = b""
    """The whole message: WhatsApp's protobuf `Message`, unpadded."""
    attempt: int = 1
    """2 and more: a handler was given it before, and failed."""

    def to_json(self) -> dict[str, object]:
        """The payload of the event `message`. Times are Unix milliseconds."""
        media, reaction = self.media, self.reaction
        return {
            "id": self.id,
            "chatId": self.chat,
            "from": self.sender,
            "timestamp": self.received_unix_ms,
            "kind": self.kind,
            "body": self.text,
            "hasMedia": media is not None,
            "media": media
            and {"mimetype": media.mimetype, "size": media.size_bytes, "filename": media.file_name},
            "reaction": reaction and {"text": reaction.emoji, "messageId": reaction.message_id},
            "targetId": self.target_id,
        }


class Session:
    """The session that received a message."""

    __slots__ = ("_state", "id")

    def __init__(self, session_id: str, state: Callable[[str], State | None]) -> None:
        self.id = session_id
        """What the operator called it."""
        self._state = state

    def __repr__(self) -> str:
        return f"Session({self.id!r})"

    @property
    def state(self) -> State | None:
        """Where it is at this moment (`online`, `backoff` …); None once it was removed."""
        return self._state(self.id)
