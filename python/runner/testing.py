"""Tests of a user's bot: messages go to its handler, and what it sends is kept instead of sent.

    from my_app import app
    from runner.testing import Bot

    def test_it_answers() -> None:
        bot = Bot(app)
        assert [sent.text for sent in bot.say("ping")] == ["pong"]

No runner, no server and no store: a message is given to the handler once, in this thread, and what that
raises is raised. The pytest plugin has it as the fixture `runner_bot` (docs/app.md, "Testing a bot").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import trio

from runner.message import Message, SendReceipt, Session
from runner.sending import answer_id, chat_jid
from runner.session import State

if TYPE_CHECKING:
    from runner.application import App
    from runner.errors import SendError

SENDER: Final = "15550001111@s.whatsapp.net"
"""Who writes when a test does not care."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A text that a handler sent."""

    chat: str
    text: str
    id: str
    quotes: str | None = None
    """The id of the message that it answers, where it shows that."""


class Bot:
    """An app under test."""

    def __init__(self, app: App, *, session_id: str = "test", timeout_s: float = 10.0) -> None:
        """`timeout_s` is for one handler's call.

        Errors: ValueError for an app without a handler.
        """
        if app.handler is None:
            raise ValueError("the app has no handler: put @app.on_message before an async function")
        self._handler = app.handler
        self.session_id = session_id
        self._timeout_s = timeout_s
        self._heard = 0
        self.sent: list[Sent] = []
        """All that was sent, oldest first."""
        self.send_error: SendError | None = None
        """Raised by whatever is sent, while it is set: `runner.sending.send_error("not_online")`."""
        self.state: State = State.ONLINE
        """What `session.state` is."""

    def say(
        self, text: str, *, sender: str = SENDER, group: str | None = None, is_own: bool = False
    ) -> list[Sent]:
        """Somebody writes a text, to the session or in a group; what the handler sent.

        `sender` is a phone number or a JID, `group` the JID of a group, `is_own` that the session's
        own user wrote it, on another device. Errors: as `hear`.
        """
        self._heard += 1
        by = chat_jid(sender)
        raw = text.encode()
        return self.hear(
            Message(
                id=f"TEST{self._heard:08}",
                chat=group or by,
                sender=by,
                is_own=is_own,
                received_unix_ms=time.time_ns() // 1_000_000,
                kind="text",
                text=text,
                content=b"\x0a" + _varint(len(raw)) + raw,
            )
        )

    def hear(self, message: Message) -> list[Sent]:
        """The handler gets this message; what it sent. Blocking: within Trio use `deliver`.

        Errors: what the handler raises; trio.TooSlowError when it does not end.
        """
        return trio.run(self.deliver, message)

    async def deliver(self, message: Message) -> list[Sent]:
        """`hear`, for tests that run on Trio."""
        before = len(self.sent)
        call = _Call(self, message)
        session = Session(self.session_id, lambda _id: self.state, call)
        with trio.fail_after(self._timeout_s):
            await self._handler(session, replace(message, call=call))
        return self.sent[before:]


class _Call:
    """What a handler sends through, as `runner.sending.HandlerCall`; nothing leaves."""

    def __init__(self, bot: Bot, message: Message) -> None:
        self._bot, self._message = bot, message
        self._sent = 0

    async def send(self, chat: str, text: str, message_id: str | None, *, quote: bool) -> SendReceipt:
        await trio.lowlevel.checkpoint()
        if self._bot.send_error is not None:
            raise self._bot.send_error
        self._sent += 1
        message = self._message
        it = Sent(
            chat=chat_jid(chat),
            text=text,
            id=message_id or answer_id(self._bot.session_id, message, self._sent),
            quotes=message.id if quote else None,
        )
        self._bot.sent.append(it)
        return SendReceipt(it.id, it.chat, time.time_ns() // 1_000_000_000 * 1000)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
