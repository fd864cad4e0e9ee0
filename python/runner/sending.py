"""Sends texts, and tells whoever waits what became of each: one command down, one event up.

A text is sent when the server has said that it has it. Each has an id that stays: sent again under it, it is
one message to whoever gets it. So the id is either the caller's, or made of what the text answers
(`HandlerCall`), and a handler that is given its message again sends nothing twice. What was sent or is on its
way is remembered for a while: within one run, asking again costs nothing and has the first answer.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

import trio

from runner.engine import engine_full_error, outgoing_text
from runner.errors import SendError, UnknownSessionError
from runner.message import SendReceipt
from runner.session import RESTRICTED, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner import _core
    from runner.engine import EngineEvent

    Quoted = tuple[str, str, bytes]
    """What a text answers: id, sender, content."""

RESTRICTED_S: Final = 600.0
"""A chat for which a text was refused as `restricted` is not tried for so long: each try counts against the
account, and a handler whose message comes again tries again."""
REMEMBERED: Final = 10_000
"""Texts of all sessions whose outcome is known without asking again; the oldest go."""
MOST_CHARS: Final = 65_536
"""Of a text; what WhatsApp's own clients take."""
MESSAGE_ID: Final = r"[A-Za-z0-9._-]{1,64}"
"""What an id that somebody chooses may look like."""
PERSON: Final = r"\+?([0-9]{5,20})(?::[0-9]{1,5})?(?:@(s\.whatsapp\.net|c\.us|lid))?"
"""How somebody may be named: a number with its country code, or a JID."""
DEVICES: Final = 100
"""Of a person, whose messages are looked for: each number is of a device that was linked at some time."""
GROUP: Final = r"[0-9]{5,20}(?:-[0-9]{5,20})?@g\.us"
"""How a group is named."""
CHAT: Final = f"(?:{PERSON}|{GROUP})"
"""Where a text may be sent."""
_BUSY_REMEDY: Final = "send fewer at once; try again in a moment"

_SAID: Final = {
    "not_online": ("it is not online", "try again when it is; python -m runner show ID says when"),
    "busy": ("too many of its messages are on their way, or this one is", _BUSY_REMEDY),
    "not_a_user": (
        "the chat is no person and no group",
        "give a phone number with its country code, or the JID of a person or of a group (…@g.us)",
    ),
    "unknown_group": ("there is no such group", "check its JID; that of a message from it is message.chat"),
    "not_a_member": ("the account is not in that group", "have an admin add it, then try again"),
    "admins_only": (
        "only its admins write to that group, and the account is none",
        "have it made an admin, or write to its members one by one",
    ),
    "group_too_large": (
        "the group has more than 2,048 members, or 16,384 devices",
        "write to a smaller one; this is no limit of WhatsApp's, but of this program",
    ),
    "empty": ("the text is empty", "write something"),
    "too_long": (
        f"the text is longer than {MOST_CHARS:,} characters, or too long for so many devices",
        "send it in parts",
    ),
    "unknown_user": ("nobody has that number", "check the number, with its country code"),
    "no_answer": ("the server did not say whose devices to write to", "try again"),
    "store_failed": (
        "the store could not keep what it changes",
        "free some space or mend the disk, then try again; GET /health shows the store",
    ),
    "unconfirmed": (
        "the server did not confirm it, so it may have arrived",
        "send it again under the same id: whoever has it sees it once",
    ),
    "restricted": (
        "WhatsApp does not let this account write to people who have not written to it",
        "let them write first; the phone says how long it lasts. This chat is not tried for ten minutes",
    ),
    "refused": (
        "the server refuses it",
        "421: the group has changed, try again; 479: a fault of ours",
    ),
}
_MAY_HAVE_ARRIVED: Final = frozenset({"unconfirmed"})


def send_error(why: str, code: int | None = None) -> SendError:
    """What a reason of the engine means to whoever sends."""
    said, remedy = _SAID.get(why, (why, ""))
    if code is not None:
        said = f"{said} ({code})"
    return SendError(why, f"not sent: {said}", remedy, code=code, may_have_arrived=why in _MAY_HAVE_ARRIVED)


def chat_jid(chat: str) -> str:
    """The JID of a group, or of a person: from it, from the older `…@c.us`, or from a bare number.

    Errors: SendError; it does not repeat the number, which stays out of logs.
    """
    chat = chat.strip()
    if re.fullmatch(GROUP, chat):
        return chat
    match = re.fullmatch(PERSON, chat)
    if match is None:
        raise send_error("not_a_user")
    return f"{match[1]}@{'lid' if match[2] == 'lid' else 's.whatsapp.net'}"


class Finder(Protocol):
    """What of the store is needed."""

    def find(
        self, session_id: str, chat: str, senders: list[str], message_id: str
    ) -> _core.InboxMessage | None: ...


def quoted_of(store: Finder, session_id: str, chat: str, author: str, message_id: str) -> Quoted:
    """What a text answers: id, sender, and what it said as long as the store remembers that. Blocking, short.

    A message of an own device, or of one with a higher number than people have, is quoted without its words.
    """
    user, _, server = author.partition("@")
    senders = [author, *(f"{user}:{device}@{server}" for device in range(1, DEVICES))]
    found = store.find(session_id, chat, senders, message_id)
    return (message_id, author, b"") if found is None else (message_id, found.sender, found.content or b"")


def new_id() -> str:
    """A message id as WhatsApp Web makes them."""
    return f"3EB0{secrets.token_hex(9).upper()}"


def derived_message_id(*names: str) -> str:
    """One of the same form that is always the same for the same names."""
    digest = sha256("\0".join(names).encode()).hexdigest()
    return f"3EB0{digest[:18].upper()}"


class About(Protocol):
    """A message that texts answer; a `Message`, or a row that becomes one."""

    @property
    def id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def content(self) -> bytes: ...


def answer_id(session_id: str, about: About, place: int) -> str:
    """The id of the text at that place (from 1) among those that a handler sends about a message."""
    return derived_message_id(session_id, about.chat, about.sender, about.id, str(place))


class Sender(Protocol):
    """What of the engine is needed."""

    def send_text(self, session_id: str, connection: int, text: _core.OutgoingText) -> None: ...


@dataclass(slots=True, eq=False)
class _Pending:
    """A text that was handed to the engine."""

    said: bytes
    key: tuple[str, str, str]
    chat: str
    ended: trio.Event = field(default_factory=trio.Event)
    receipt: SendReceipt | None = None
    error: SendError | None = None

    async def outcome(self) -> SendReceipt:
        await self.ended.wait()
        if self.receipt is None:
            raise self.error or send_error("unconfirmed")
        return self.receipt


class Sending:
    """All sends of one process. Use it from the Trio thread."""

    def __init__(
        self,
        engine: Sender,
        where: Callable[[str], tuple[State, int] | None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """`where` says in which state a session is, and on which connection; `clock` is monotonic."""
        self._engine = engine
        self._clock = clock
        self._where = where
        self._tokens = 0
        self._on_way: dict[tuple[str, int], dict[int, _Pending]] = {}
        """By connection, then by token."""
        self._known: OrderedDict[tuple[str, str, str], _Pending] = OrderedDict()
        self._restricted: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Session and chat, and until when nothing is tried there."""

    async def text(
        self,
        session_id: str,
        chat: str,
        text: str,
        *,
        message_id: str | None = None,
        quoted: Quoted | None = None,
        is_strict: bool = False,
    ) -> SendReceipt:
        """Send a text; returns when the server has it.

        `quoted` is what it answers: id, sender, content. With `is_strict` an id that was used for something
        else is an error; otherwise what was sent under it first stays.

        Errors: UnknownSessionError; SendError, which says whether it can have arrived all the same.
        """
        chat = chat_jid(chat)
        if not text:
            raise send_error("empty")
        if len(text) > MOST_CHARS:
            raise send_error("too_long")
        message_id = new_id() if message_id is None else message_id
        said = sha256(repr((text, quoted and quoted[0])).encode()).digest()
        key = session_id, chat, message_id
        known = self._known.get(key)
        if known is None:
            known = self._begin(session_id, chat, text, message_id, said, quoted)
        elif is_strict and known.said != said:
            raise SendError(
                "id_taken",
                f"not sent: another text was sent to this chat as {message_id!r}",
                "give each text an id (or Idempotency-Key) of its own",
            )
        return await known.outcome()

    def _begin(
        self,
        session_id: str,
        chat: str,
        text: str,
        message_id: str,
        said: bytes,
        quoted: Quoted | None,
    ) -> _Pending:
        where = self._where(session_id)
        if where is None:
            raise UnknownSessionError(session_id)
        state, connection = where
        if state not in {State.ONLINE, State.DEGRADED}:
            raise send_error("not_online")
        if self._clock() < self._restricted.get((session_id, chat), 0.0):
            raise send_error("restricted", RESTRICTED)
        self._tokens += 1
        token, key = self._tokens, (session_id, chat, message_id)
        outgoing = outgoing_text(token, chat, message_id, text, quoted)
        try:
            self._engine.send_text(session_id, connection, outgoing)
        except engine_full_error() as error:
            raise send_error("busy") from error
        pending = _Pending(said, key, chat)
        self._on_way.setdefault((session_id, connection), {})[token] = self._known[key] = pending
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return pending

    def observe(self, event: EngineEvent) -> None:
        """An event of the engine: an outcome, or the end of a connection, after which none comes."""
        connection = event.session_id, event.connection
        if event.kind == "sent" and event.token is not None:
            on_way = self._on_way.get(connection, {})
            pending = on_way.pop(event.token, None)
            if pending is not None:
                self._end(pending, event)
                if not on_way:
                    del self._on_way[connection]
        elif event.kind == "closed":
            for pending in self._on_way.pop(connection, {}).values():
                self._end(pending, None)

    def _end(self, pending: _Pending, event: EngineEvent | None) -> None:
        if event is not None and event.reason is None:
            server_ms = None if event.server_unix_s is None else 1000 * event.server_unix_s
            pending.receipt = SendReceipt(pending.key[2], pending.chat, server_ms)
        else:
            why = "unconfirmed" if event is None or event.reason is None else event.reason
            code = None if event is None else event.code
            if (why, code) == ("refused", RESTRICTED):
                why = "restricted"
                self._rest(*pending.key[:2])
            pending.error = send_error(why, code)
            # Whoever asks again is to be sent for again.
            if self._known.get(pending.key) is pending:
                del self._known[pending.key]
        pending.ended.set()

    def _rest(self, session_id: str, chat: str) -> None:
        self._restricted[session_id, chat] = self._clock() + RESTRICTED_S
        while len(self._restricted) > REMEMBERED:
            self._restricted.popitem(last=False)


class HandlerCall:
    """The texts that one call of a handler sends: the n-th has always the same id for the same message."""

    __slots__ = ("_about", "_count", "_sending", "_session_id")

    def __init__(self, sending: Sending, session_id: str, about: About) -> None:
        self._sending, self._session_id, self._about = sending, session_id, about
        self._count = 0

    async def send(self, chat: str, text: str, message_id: str | None, *, quote: bool) -> SendReceipt:
        """Errors: as `Sending.text`."""
        about = self._about
        self._count += 1
        derived = answer_id(self._session_id, about, self._count)
        quoted = (about.id, about.sender, about.content) if quote else None
        return await self._sending.text(
            self._session_id, chat, text, message_id=message_id or derived, quoted=quoted
        )
