"""Messages that could not be read: expected for a time, then given up and said so."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog.testing
import trio

from runner.consumer.undecryptable import EVERY_S, PAGE, Undecryptable, event_id_of
from runner.tally import Tally
from support.inbox import FakeStore, inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio.testing import MockClock

DAY_S = 86_400.0
START_MS = 1_700_000_000_000


class FakeOutbox:
    """One webhook that wants everything."""

    def __init__(self) -> None:
        self.woken: set[str] = set()

    def wanting(self, event: str, _session_id: str) -> list[str]:
        assert event == "message.undecryptable"
        return ["w1"]

    def body(
        self, _event: str, _session: str, payload: dict[str, object], _at_ms: int, _event_id: str
    ) -> bytes:
        return json.dumps(payload).encode()

    def posted(self, webhook_ids: Iterable[str]) -> None:
        self.woken.update(webhook_ids)


class World:
    def __init__(self, timeout_s: float = DAY_S) -> None:
        self.store, self.outbox, self.tally = FakeStore(), FakeOutbox(), Tally()
        self.told: list[tuple[str, dict[str, object], str]] = []
        self.sweeps = Undecryptable(
            self.store,
            self.outbox,
            timeout_s,
            tell=lambda session, payload, _ms, event_id: self.told.append((session, payload, event_id)),
            tally=self.tally,
            unix_ms=lambda: START_MS + round(1000 * trio.current_time()),
            aside=inline,
        )

    def unread(self, why: str, *, is_final: bool = False) -> int:
        seq = self.store.receive("desk", "ana", None, sender="ana")
        self.store.fail(seq, why, is_final=is_final)
        return seq

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sweeps.run)
            yield
            nursery.cancel_scope.cancel()


async def test_a_message_is_expected_for_its_time_and_then_given_up(autojump_clock: MockClock) -> None:
    world = World()
    world.unread("no_session")
    async with world.running():
        await trio.sleep(DAY_S - EVERY_S)
        assert not world.store.dead
        assert world.told == []
        await trio.sleep(2 * EVERY_S + 1)
    (letter,) = world.store.dead.values()
    assert (letter.sink, letter.why, letter.attempts) == ("undecryptable", "no_session", 1)
    (event,) = world.store.events.values()
    payload = json.loads(event[4])
    assert payload == {
        "id": "ID1",
        "chatId": "ana",
        "from": "ana",
        "timestamp": START_MS + 1,
        "reason": "no_session",
        "attempts": 1,
    }
    assert world.outbox.woken == {"w1"}
    assert world.told == [("desk", payload, event[0])]
    assert world.tally.undecryptable == 1
    assert not world.store.waiting


async def test_what_asking_cannot_mend_is_given_up_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.unread("unavailable", is_final=True)
    world.unread("bad_mac")
    async with world.running():
        await trio.sleep(EVERY_S + 1)
        assert [it.why for it in world.store.dead.values()] == ["unavailable"]


async def test_many_are_given_up_in_pages_and_told_in_one_line(autojump_clock: MockClock) -> None:
    world = World()
    for _ in range(3 * PAGE + 1):
        world.unread("bad_mac", is_final=True)
    with structlog.testing.capture_logs() as lines:
        async with world.running():
            await trio.sleep(1)
    assert len(world.store.dead) == len(world.told) == world.tally.undecryptable == 3 * PAGE + 1
    assert [(line["messages"], line["reasons"]) for line in lines] == [
        (3 * PAGE + 1, {"bad_mac": 3 * PAGE + 1})
    ]


async def test_a_store_that_fails_is_asked_again_and_nothing_is_told_twice(autojump_clock: MockClock) -> None:
    world = World()
    world.unread("bad_mac", is_final=True)
    world.store.is_broken = True
    async with world.running():
        await trio.sleep(EVERY_S * 3)
        assert world.told == []
        world.store.is_broken = False
        await trio.sleep(EVERY_S * 3)
    assert len(world.told) == len(world.store.dead) == 1


async def test_the_same_message_is_the_same_event_after_a_crash(autojump_clock: MockClock) -> None:
    world = World()
    world.unread("bad_mac", is_final=True)
    (row,) = world.store.unread(START_MS, 9)
    assert event_id_of(row) == event_id_of(row)
    assert event_id_of(row).startswith("evt_")


async def test_an_hour_of_failures_is_a_line_now_and_then(autojump_clock: MockClock) -> None:
    """Pain 4: twenty a second. The failures themselves are counted, and no line each."""
    world = World(timeout_s=60.0)
    with structlog.testing.capture_logs() as lines:
        async with world.running():
            for _ in range(3600):
                for _ in range(20):
                    seq = world.store.receive("desk", "ana", None)
                    world.store.fail(seq, "bad_mac", is_final=True)
                await trio.sleep(1)
            await trio.sleep(2 * EVERY_S)
    assert world.tally.undecryptable == 72_000
    assert not world.store.waiting
    assert len(lines) <= 3600 / EVERY_S + 1
    assert sum(line["messages"] for line in lines) == 72_000
