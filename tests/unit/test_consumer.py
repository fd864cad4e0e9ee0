"""Messages on their way to a handler: in order, bounded, given again, given up, never confirmed too early."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from runner import App
from runner.consumer.inbound import message_of
from runner.consumer.loop import Consumer, Limits
from runner.delivery.retry import Retry
from runner.lane_loop import PAGE, TURN_S
from runner.lanes import Lanes
from runner.tally import DEAD, DONE, FAILED, Tally
from support.inbox import FakeStore, inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio.testing import MockClock

    from runner import Message, Session
    from runner.consumer.inbound import Inbound

RETRY = Retry("exponential", 1.0, 3, 60.0)


class FakeOutbox:
    """Webhooks that want what they are told to want."""

    def __init__(self) -> None:
        self.wants: dict[str, list[str]] = {}
        self.woken: set[str] = set()

    def wanting(self, _event: str, session_id: str) -> list[str]:
        return self.wants.get(session_id, self.wants.get("*", []))

    def body(
        self, event: str, _session: str, payload: dict[str, object], _at_ms: int, _event_id: str
    ) -> bytes:
        return f"{event}:{payload['body']}".encode()

    def posted(self, webhook_ids: Iterable[str]) -> None:
        self.woken.update(webhook_ids)


class World:
    """A consumer whose handler notes what it is given."""

    def __init__(self, *, with_app: bool = True, concurrency: int = 4, timeout_s: float = 30.0) -> None:
        self.store = FakeStore()
        self.outbox = FakeOutbox()
        self.told: list[str | None] = []
        self.given: list[tuple[str, str | None, int]] = []
        self.raises: dict[str, BaseException] = {}
        self.hangs: set[str] = set()
        self.tally = Tally()
        self.app = App()
        self.app.on_message(self._handle)
        self.lanes: Lanes[Inbound] = Lanes(per_lane=4, most_held=32)
        self.consumer = Consumer(
            self.store,
            self.outbox,
            self.app if with_app else None,
            Limits(concurrency, timeout_s, RETRY),
            state=lambda _: None,
            tell=lambda item: self.told.append(message_of(item).text),
            tally=self.tally,
            rng=Random(1),
            lanes=self.lanes,
            aside=inline,
        )

    async def _handle(self, session: Session, message: Message) -> None:
        text = message.text or ""
        self.given.append((session.id, text, message.attempt))
        if text in self.hangs:
            await trio.sleep_forever()
        await trio.sleep(0.01)
        if text in self.raises:
            raise self.raises[text]

    def texts(self) -> list[str | None]:
        return [text for _, text, _ in self.given]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.consumer.loop.run)
            yield
            nursery.cancel_scope.cancel()

    async def settle(self, seconds: float = 1.0) -> None:
        self.consumer.loop.wake()
        await trio.sleep(seconds)


def of(chat: str, texts: Iterable[str | None]) -> list[str]:
    return [text for text in texts if text and text.startswith(chat)]


async def test_a_message_is_confirmed_when_its_handler_returned(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.store.receive("desk", "ana", "oi")
    async with world.running():
        await world.settle(0.005)
        assert world.texts() == ["oi"]
        assert world.store.confirmed == []
        await world.settle()
        assert world.store.confirmed == [1]
    assert world.tally.handlers[DONE] == 1
    assert world.told == ["oi"]


async def test_a_chat_keeps_its_order_and_chats_go_side_by_side(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.hangs = {"ana 0"}
    for n in range(40):
        world.store.receive("desk", "ana", f"ana {n}")
    for n in range(10):
        world.store.receive("desk", "rui", f"rui {n}")
        world.store.receive("shop", "ana", f"shop {n}")
    async with world.running():
        await world.settle(5)
        texts = world.texts()
        assert [text for text in texts if text and text.startswith("ana")] == ["ana 0"]
        assert [text for text in texts if text and text.startswith("rui")] == [f"rui {n}" for n in range(10)]
        assert [text for text in texts if text and text.startswith("shop")] == [
            f"shop {n}" for n in range(10)
        ]
        assert world.lanes.held <= 4
        world.hangs.clear()
        await trio.sleep(200)
    assert of("ana", world.texts()) == ["ana 0", *(f"ana {n}" for n in range(40))]
    assert not world.store.waiting


async def test_no_more_handlers_than_the_limit(autojump_clock: MockClock) -> None:
    world = World(concurrency=3, timeout_s=1000)
    world.hangs = {"hang"}
    for n in range(9):
        world.store.receive("desk", f"chat {n}", "hang")
    async with world.running():
        await world.settle()
        assert (len(world.given), world.lanes.running) == (3, 3)


async def test_what_fails_is_given_again_and_then_kept(autojump_clock: MockClock) -> None:
    world = World()
    world.raises = {"bad": ValueError("the text of a customer")}
    for text in ("bad", "good"):
        world.store.receive("desk", "ana", text)
    world.store.receive("desk", "rui", "other")
    async with world.running():
        await world.settle(0.5)
        assert sorted(world.given) == [("desk", "bad", 1), ("desk", "other", 1)]
        await trio.sleep(60)
        assert world.given[2:] == [("desk", "bad", 2), ("desk", "bad", 3), ("desk", "good", 1)]
        (dead,) = world.store.dead.values()
        assert (dead.sink, dead.id, dead.attempts) == ("app", "ID1", 3)
        assert dead.why.startswith("ValueError at test_consumer.py:")
        assert "customer" not in dead.why
        assert sorted(world.store.confirmed) == [2, 3]
        outcomes = world.tally.handlers
        assert (outcomes[FAILED], outcomes[DEAD], outcomes[DONE]) == (2, 1, 2)

        world.raises.clear()
        assert world.store.redrive([dead.seq]) == (1, 0)
        world.consumer.loop.reopen([("desk", "ana")])
        await trio.sleep(1)
        assert world.given[-1] == ("desk", "bad", 1)
        assert not world.store.waiting


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        BaseExceptionGroup("two", [ValueError("x"), SystemExit(2)]),
        RecursionError(),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
)
async def test_whatever_a_handler_raises_touches_its_message_only(
    error: BaseException, autojump_clock: MockClock
) -> None:
    world = World()
    world.raises = {"bad": error}
    world.store.receive("desk", "ana", "bad")
    world.store.receive("desk", "rui", "good")
    async with world.running():
        await world.settle(60)
    assert world.store.confirmed == [2]
    assert len(world.store.dead) == 1


async def test_a_handler_that_hangs_is_cut_off_and_told_so(autojump_clock: MockClock) -> None:
    world = World(timeout_s=5)
    world.hangs = {"hang"}
    world.store.receive("desk", "ana", "hang")
    async with world.running():
        await world.settle(60)
    (dead,) = world.store.dead.values()
    assert dead.why == "no end within 5 s"
    assert world.tally.handler_s == pytest.approx(15)


async def test_an_error_while_it_is_cut_off_touches_its_message_only(autojump_clock: MockClock) -> None:
    world = World(timeout_s=5)

    async def fails_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("could not clean up")

    async def handle(_session: Session, message: Message) -> None:
        world.given.append(("", message.text, message.attempt))
        if message.text == "bad":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails_late)
                nursery.start_soon(trio.sleep_forever)

    world.consumer._handler = handle
    world.store.receive("desk", "ana", "bad")
    async with world.running():
        await world.settle(60)
        world.store.receive("desk", "rui", "good")
        await world.settle()
    assert [dead.why for dead in world.store.dead.values()] == ["no end within 5 s"]
    assert world.store.confirmed == [2]


async def test_handlers_that_do_not_wait_share_a_task_and_nothing_else(autojump_clock: MockClock) -> None:
    """Each has its own time, and finds the context that the loop had."""
    world = World(timeout_s=5)
    mark: ContextVar[str] = ContextVar("mark")
    marks, tasks = [], []

    async def handle(_session: Session, message: Message) -> None:
        marks.append(mark.get("none"))
        tasks.append(trio.lowlevel.current_task())
        if message.text == "marks":
            mark.set("left behind")
        if message.text == "busy":
            autojump_clock.jump(TURN_S / 2)
        if message.text == "hangs":
            await trio.sleep(4)
            await trio.sleep_forever()

    world.consumer._handler = handle
    for chat, text in enumerate(("quick", "quick", "marks", "busy", "hangs")):
        world.store.receive("desk", f"chat {chat}", text)
    async with world.running():
        await world.settle(0.5)
        assert marks == ["none"] * 5
        assert [tasks[0] is task for task in tasks] == [True, True, True, False, False]
        assert tasks[3] is tasks[4]
        await trio.sleep(60)
    (dead,) = world.store.dead.values()
    assert dead.why == "no end within 5 s"
    assert world.tally.handler_s == pytest.approx(3 * 5 + TURN_S / 2, abs=TURN_S / 10)


async def test_what_a_handler_leaves_in_its_context_is_not_asked_whether_it_equals(
    autojump_clock: MockClock,
) -> None:
    class Strange:
        def __eq__(self, _other: object) -> bool:
            raise ValueError("the truth of it is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    world = World()
    first = Strange()
    mark: ContextVar[Strange] = ContextVar("mark")
    mark.set(first)
    found = []

    async def handle(_session: Session, _message: Message) -> None:
        found.append(mark.get())
        mark.set(Strange())

    world.consumer._handler = handle
    for chat in range(3):
        world.store.receive("desk", f"chat {chat}", "hi")
    async with world.running():
        await world.settle()
    assert [it is first for it in found] == [True] * 3


async def test_what_is_redriven_without_an_app_waits_for_one(autojump_clock: MockClock) -> None:
    world = World(with_app=False)
    world.store.receive("desk", "ana", "oi")
    async with world.running():
        await world.settle()
        world.consumer.loop.reopen([("desk", "ana")])
        await world.settle()
    assert (list(world.store.waiting), world.store.confirmed, world.lanes.running) == ([1], [], 0)


async def test_handlers_that_do_not_wait_leave_others_a_turn(autojump_clock: MockClock) -> None:
    world = World()
    turns = []

    async def handle(_session: Session, _message: Message) -> None:
        turns.append("handler")
        autojump_clock.jump(TURN_S / 3)  # what it computes takes its time

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.append("other")

    world.consumer._handler = handle
    for n in range(30):
        world.store.receive("desk", f"chat {n}", "hi")
    async with world.running(), trio.open_nursery() as nursery:
        nursery.start_soon(other)
        world.consumer.loop.wake()
        while len(world.store.confirmed) < 30:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    longest = max(len(run) for run in "".join(it[0] for it in turns).split("o"))
    assert 2 <= longest <= 8, "two turns of up to four, when Trio puts the other first and then last"


async def test_what_runs_may_end_before_the_stop_and_the_rest_is_given_next_time(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.hangs = {"hang"}
    for chat, text in (("ana", "quick"), ("ana", "later"), ("rui", "hang")):
        world.store.receive("desk", chat, text)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.consumer.loop.run)
        await world.settle(0.001)
        assert not await world.consumer.loop.shutdown(2.0)
    assert world.store.confirmed == [1], "what ended in time is written down"
    assert set(world.texts()) == {"quick", "hang"}
    again = World()
    again.store.waiting = world.store.waiting
    async with again.running():
        await again.settle()
    assert set(again.texts()) == {"later", "hang"}


async def test_a_stop_without_anything_running_is_clean(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.consumer.loop.run)
        await trio.testing.wait_all_tasks_blocked()
        assert await world.consumer.loop.shutdown(2.0)


async def test_the_outbox_has_the_event_before_the_message_is_confirmed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.outbox.wants = {"*": ["w1", "w2"]}
    world.store.receive("desk", "ana", "oi")
    world.hangs = {"oi"}
    async with world.running():
        await world.settle()
        assert world.store.confirmed == []
        assert {it.webhook_id for it in world.store.open.values()} == {"w1", "w2"}
        assert world.outbox.woken == {"w1", "w2"}
    (posted,) = world.store.events
    world = World()
    world.outbox.wants = {"*": ["w1", "w2"]}
    world.store.receive("desk", "ana", "oi")
    world.store.events = {posted: ("", "", "", "", b"", 0, [])}
    async with world.running():
        await world.settle()
    assert not world.store.open, "after a crash the same message is the same event"
    assert world.store.confirmed == [1]


async def test_without_an_app_the_webhooks_alone_confirm_and_what_nobody_wants_stays(
    autojump_clock: MockClock,
) -> None:
    world = World(with_app=False)
    world.outbox.wants = {"desk": ["w1"]}
    for n in range(600):
        world.store.receive("desk" if n % 2 else "shop", "ana", str(n))
    async with world.running():
        await world.settle()
        assert len(world.store.confirmed) == len(world.store.open) == 300
        assert len(world.told) == 600
        reads = world.store.reads
        await trio.sleep(3600)
        assert world.store.reads == reads, "nothing new, nothing read"
        world.outbox.wants = {"*": ["w1"]}
        world.consumer.loop.rescan()
        await trio.sleep(1)
        assert not world.store.waiting
        assert len(world.told) == 600, "shown once"


async def test_what_is_not_decrypted_is_passed_over_until_it_is_read(autojump_clock: MockClock) -> None:
    world = World()
    locked = world.store.receive("desk", "ana", None)
    world.store.receive("desk", "rui", "open")
    async with world.running():
        await world.settle()
        assert world.store.confirmed == [2]
        reads = world.store.reads
        await trio.sleep(3600)
        assert world.store.reads == reads, "it costs no looks"
        read = world.store.decrypt(locked, "now")
        await world.settle()
        assert world.texts() == ["open", "now"]
        assert world.store.confirmed == [2, read]


async def test_a_chat_with_many_that_are_not_decrypted_goes_on_behind_them(autojump_clock: MockClock) -> None:
    world = World()
    locked = []
    for n in range(30):
        if 6 <= n < 22:
            locked.append(world.store.receive("desk", "ana", None))
        else:
            world.store.receive("desk", "ana", str(n))
    async with world.running():
        await world.settle(2)
        assert world.texts() == [str(n) for n in range(30) if not 6 <= n < 22]
        assert world.store.reads < 50
        for seq in locked:
            world.store.decrypt(seq, f"late {seq}")
        await world.settle(30)
    assert world.texts()[14:] == [f"late {seq}" for seq in locked]
    assert not world.store.waiting


async def test_a_store_that_fails_loses_nothing_and_is_told_of_once(autojump_clock: MockClock) -> None:
    structlog.reset_defaults()
    world = World()
    world.outbox.wants = {"*": ["w1"]}
    world.store.receive("desk", "ana", "one")
    async with world.running():
        await world.settle(0.005)
        world.store.is_broken = True
        world.store.receive("desk", "ana", "two")
        with capture_logs() as lines:
            await world.settle(30)
            assert world.store.confirmed == []
            world.store.is_broken = False
            await trio.sleep(5)
        told = [line["event"] for line in lines if "store" in line["event"]]
        assert told == ["store failed", "store works again"]
    assert world.texts() == ["one", "two"]
    assert world.store.confirmed == [1, 2]
    assert len(world.store.open) == 2


@pytest.mark.pain(22)
async def test_memory_is_bounded_whatever_waits(autojump_clock: MockClock) -> None:
    world = World(concurrency=2, timeout_s=10_000)
    world.hangs = {"hang"}
    for n in range(2000):
        world.store.receive("desk", f"chat {n % 700}", "hang")
    async with world.running():
        await world.settle()
        assert world.lanes.held <= 32 + PAGE
