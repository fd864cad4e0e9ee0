"""What a user's code is given: a message, and the session that received it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runner.errors import SendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.session import State


@dataclass(frozen=True, slots=True)
class SendReceipt:
    """The server has a message."""

    id: str
    chat: str
    server_unix_ms: int | None = None
    """When it took it, to the second; None when it did not say."""


class Call(Protocol):
    """What a handler's call sends through; `runner.sending.HandlerCall`."""

    async def send(self, chat: str, text: str, message_id: str | None, *, quote: bool) -> SendReceipt: ...


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
    is_own: bool = False
    """Whether the user wrote it himself, on the phone or on another of his devices."""
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
    call: Call | None = field(default=None, repr=False, compare=False)
    """Not for handlers: what `reply` goes through."""

    @property
    def is_group(self) -> bool:
        """Whether it was written in a group, where all read an answer; also in a list or channel, where none
        can be given."""
        return is_group(self.chat)

    async def reply(self, text: str, *, quote: bool = True, id: str | None = None) -> SendReceipt:  # noqa: A002
        """Answer in the chat that it came from; returns when the server has the answer.

        With `quote` the answer shows what it answers. `id` is for whoever keeps ids of his own; without one
        it is made of this message and of how many texts this call has sent before, so that a handler that is
        given its message again sends nothing twice.

        Errors: SendError, which says why and what to do; raised out of the handler, the message comes again.
        """
        return await _through(self.call).send(self.chat, text, id, quote=quote)

    def to_json(self) -> dict[str, object]:
        """The payload of the event `message`. Times are Unix milliseconds."""
        media, reaction = self.media, self.reaction
        return {
            "id": self.id,
            "chatId": self.chat,
            "from": self.sender,
            "fromMe": self.is_own,
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

    __slots__ = ("_call", "_state", "id")

    def __init__(
        self, session_id: str, state: Callable[[str], State | None], call: Call | None = None
    ) -> None:
        self.id = session_id
        """What the operator called it."""
        self._state = state
        self._call = call

    def __repr__(self) -> str:
        return f"Session({self.id!r})"

    @property
    def state(self) -> State | None:
        """Where it is at this moment (`online`, `backoff` …); None once it was removed."""
        return self._state(self.id)

    async def send_text(self, chat: str, text: str, *, id: str | None = None) -> SendReceipt:  # noqa: A002
        """Send a text to a person or a group; returns when the server has it. `chat` is a JID or a phone
        number with its country code; `id` and errors are those of `Message.reply`."""
        return await _through(self._call).send(chat, text, id, quote=False)


def _through(call: Call | None) -> Call:
    if call is None:
        raise SendError("not_online", "not sent: nothing is connected here", "send from within a handler")
    return call


def is_group(chat: str) -> bool:
    """Whether a chat is none of one person."""
    return not chat.endswith(("@s.whatsapp.net", "@lid"))


def user_of(jid: str) -> str:
    """The account of a JID, whichever its device."""
    return jid.partition("@")[0].partition(":")[0]
