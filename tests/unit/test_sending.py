"""Texts are sent once under an id, and every waiting caller learns what became of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from runner.errors import SendError, UnknownSessionError
from runner.message import Message, SendReceipt, Session
from runner.sending import RESTRICTED_S, HandlerCall, Sending, chat_jid, derived_message_id, new_id
from runner.session import State
from support.fake_engine import FakeEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner import _core

ANA = "15550001111@s.whatsapp.net"
MESSAGE = Message(
    id="Q1", chat=ANA, sender=ANA, received_unix_ms=1, kind="text", text="hi", content=b"\n\x02hi"
)


class World:
    """An engine that notes what it is asked to send."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[State, int]] = {"desk": (State.ONLINE, 3)}
        self.asked: list[tuple[str, int]] = []
        self.full = False
        self.now = 0.0
        self.sending = Sending(self, self.states.get, lambda: self.now)

    def send_text(self, session_id: str, connection: int, text: _core.OutgoingText) -> None:
        from runner import _core

        assert isinstance(text, _core.OutgoingText)
        if self.full:
            raise _core.EngineFullError("the queue is full")
        self.asked.append((session_id, connection))

    def sent(self, token: int, *, reason: str | None = None, code: int | None = None) -> None:
        at = None if reason else 1_700_000_000
        event = FakeEvent("sent", "desk", 3, reason=reason, code=code, token=token, server_unix_s=at)
        self.sending.observe(event)

    def closed(self, connection: int) -> None:
        self.sending.observe(FakeEvent("closed", "desk", connection, reason="transport_reset"))


async def ask(
    nursery: trio.Nursery, call: Callable[[], Awaitable[SendReceipt]]
) -> list[SendReceipt | SendError]:
    """Ends with what the call ended with."""
    ended: list[SendReceipt | SendError] = []

    async def run() -> None:
        try:
            ended.append(await call())
        except SendError as error:
            ended.append(error)

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return ended


async def test_a_text_is_sent_when_the_server_has_it() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        ended = await ask(nursery, lambda: world.sending.text("desk", "15550001111@c.us", "hi"))
        assert world.asked == [("desk", 3)]
        assert ended == []
        world.sent(1)
        await trio.testing.wait_all_tasks_blocked()
        (receipt,) = ended
    assert isinstance(receipt, SendReceipt)
    assert (receipt.chat, receipt.server_unix_ms) == (ANA, 1_700_000_000_000)
    assert receipt.id.startswith("3EB0")


async def test_the_same_id_is_sent_once_and_everybody_has_the_outcome() -> None:
    world = World()
    async with trio.open_nursery() as nursery:

        async def once() -> SendReceipt:
            return await world.sending.text("desk", ANA, "hi", message_id="A")

        first, second = await ask(nursery, once), await ask(nursery, once)
        world.sent(1)
        await trio.testing.wait_all_tasks_blocked()
        third = await ask(nursery, once)
    assert first == second == third == [SendReceipt("A", ANA, 1_700_000_000_000)]
    assert len(world.asked) == 1


async def test_another_text_under_an_id_is_refused_where_ids_are_the_callers() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await ask(nursery, lambda: world.sending.text("desk", ANA, "hi", message_id="A"))
        world.sent(1)
        with pytest.raises(SendError) as caught:
            await world.sending.text("desk", ANA, "other", message_id="A", is_strict=True)
    assert caught.value.reason == "id_taken"
    # Of a handler's own ids the first text stays.
    assert (await world.sending.text("desk", ANA, "other", message_id="A")).id == "A"


async def test_a_stranger_whom_a_restricted_account_may_not_write_to_is_left_alone_for_a_while() -> None:
    """A handler that fails is given its message again, and would try again each time."""
    world = World()
    async with trio.open_nursery() as nursery:

        async def write(chat: str) -> list[SendReceipt | SendError]:
            async def once() -> SendReceipt:
                return await world.sending.text("desk", chat, "hi", message_id="A")

            return await ask(nursery, once)

        ended = await write(ANA)
        world.sent(1, reason="refused", code=463)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            ended += await write(ANA)
        assert len(world.asked) == 1, "WhatsApp is asked once"
        for error in ended:
            assert isinstance(error, SendError)
            assert (error.reason, error.code, error.may_have_arrived) == ("restricted", 463, False)
            assert "let them write first" in error.remedy
        answered = await write("15550002222@s.whatsapp.net")
        world.sent(2)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(answered[0], SendReceipt), "others are written to"
        world.now += RESTRICTED_S
        await write(ANA)
        assert len(world.asked) == 3
        world.sent(3)


async def test_what_failed_is_sent_again_when_it_is_asked_for_again() -> None:
    world = World()
    async with trio.open_nursery() as nursery:

        async def once() -> SendReceipt:
            return await world.sending.text("desk", ANA, "hi", message_id="A")

        ended = await ask(nursery, once)
        world.sent(1, reason="refused", code=479)
        await trio.testing.wait_all_tasks_blocked()
        (error,) = ended
        assert isinstance(error, SendError)
        assert (error.reason, error.code, error.may_have_arrived) == ("refused", 479, False)
        assert "479" in str(error)
        await ask(nursery, once)
        assert len(world.asked) == 2
        world.sent(2)


async def test_the_end_of_its_connection_leaves_a_text_unconfirmed() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        ended = await ask(nursery, lambda: world.sending.text("desk", ANA, "hi"))
        world.closed(2)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == []
        world.closed(3)
        await trio.testing.wait_all_tasks_blocked()
        (error,) = ended
        world.sent(1)
    assert isinstance(error, SendError)
    assert (error.reason, error.may_have_arrived) == ("unconfirmed", True)


@pytest.mark.parametrize("state", [it for it in State if it not in {State.ONLINE, State.DEGRADED}])
async def test_nothing_is_asked_of_a_session_that_is_not_online(state: State) -> None:
    world = World()
    world.states["desk"] = state, 3
    with pytest.raises(SendError) as caught:
        await world.sending.text("desk", ANA, "hi")
    assert (caught.value.reason, world.asked) == ("not_online", [])
    with pytest.raises(UnknownSessionError):
        await world.sending.text("nobody", ANA, "hi")


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), ("x" * 65_537, "too_long")])
async def test_a_text_that_nobody_takes_is_refused_at_once(text: str, reason: str) -> None:
    world = World()
    with pytest.raises(SendError) as caught:
        await world.sending.text("desk", ANA, text)
    assert (caught.value.reason, world.asked) == (reason, [])


async def test_a_full_engine_is_told_at_once() -> None:
    world = World()
    world.full = True
    with pytest.raises(SendError) as caught:
        await world.sending.text("desk", ANA, "hi")
    assert caught.value.reason == "busy"


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.sending.REMEMBERED", 20)
    world = World()
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(world.sending.text, "desk", ANA, "hi")
        await trio.testing.wait_all_tasks_blocked()
        for token in range(1, 31):
            world.sent(token)
    assert len(world.sending._known) == 20
    assert world.sending._on_way == {}


async def test_the_nth_text_of_a_handler_has_the_same_id_whenever_it_runs() -> None:
    world = World()
    ids: list[list[str]] = []
    async with trio.open_nursery() as nursery:
        for attempt in (1, 2):
            calling = HandlerCall(world.sending, "desk", MESSAGE)
            message = replace(MESSAGE, attempt=attempt, call=calling)
            session = Session("desk", lambda _: None, calling)
            told = await ask(nursery, lambda message=message: message.reply("one"))  # type: ignore[misc]
            if attempt == 1:
                world.sent(1)
            more = await ask(nursery, lambda session=session: session.send_text("15550002222", "two"))  # type: ignore[misc]
            if attempt == 1:
                world.sent(2)
            await trio.testing.wait_all_tasks_blocked()
            receipts = [*told, *more]
            assert all(isinstance(it, SendReceipt) for it in receipts)
            ids.append([it.id for it in receipts if isinstance(it, SendReceipt)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    assert len(world.asked) == 2, "the second run sends nothing"


async def test_a_message_that_nobody_handles_cannot_be_answered() -> None:
    with pytest.raises(SendError) as caught:
        await MESSAGE.reply("hi")
    assert caught.value.reason == "not_online"


@pytest.mark.parametrize(
    ("written", "jid"),
    [
        ("15550001111", ANA),
        ("+15550001111", ANA),
        ("15550001111@c.us", ANA),
        ("15550001111:3@s.whatsapp.net", ANA),
        ("700000000002@lid", "700000000002@lid"),
        ("120363000000000001@g.us", "120363000000000001@g.us"),
        (" 15550001111-1600000000@g.us ", "15550001111-1600000000@g.us"),
    ],
)
def test_a_person_or_a_group_may_be_written_in_several_ways(written: str, jid: str) -> None:
    assert chat_jid(written) == jid


@pytest.mark.parametrize(
    "written", ["", "ana", "1-2@g.us", "12345:1@g.us", "1@newsletter", "15550001111@x", "1555 000 1111"]
)
def test_what_is_no_chat_is_refused_and_not_repeated(written: str) -> None:
    with pytest.raises(SendError) as caught:
        chat_jid(written)
    assert caught.value.reason == "not_a_user"
    assert not written or written not in str(caught.value)


def test_ids_look_like_the_web_clients() -> None:
    assert len(new_id()) == len(derived_message_id("a", "b")) == 22
    assert new_id() != new_id()
    assert derived_message_id("a", "b") != derived_message_id("ab")


def test_a_chat_that_is_no_persons_is_a_group() -> None:
    assert [replace(MESSAGE, chat=chat).is_group for chat in (ANA, "1@lid", "1-2@g.us")] == [
        False,
        False,
        True,
    ]
