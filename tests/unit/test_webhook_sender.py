"""One webhook: in the order of each chat, tried again as its policy says, given up, held up by nobody."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import httpx2
import pytest
import trio

from runner.delivery.target import allowed_of
from runner.lane_loop import PAGE
from runner.lanes import Lanes
from runner.tally import DONE, FAILED, Tally
from runner.webhooks.hook import Retries, Webhook
from runner.webhooks.sender import LONGEST_WAIT_S, Outgoing, Rules, Sender
from support.inbox import FakeStore, inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

HOUR_S = 3600.0
START_MS = 1_700_000_000_000
HOOK = Webhook(
    id="w", url="https://93.184.216.34/hook?key=1", events=("*",), secret="s", headers={"X-Desk": "7"}
)


class World:
    """A sender, a store, and a receiver that does what it is told."""

    def __init__(self, webhook: Webhook = HOOK, store: FakeStore | None = None, concurrency: int = 8) -> None:
        self.store = store or FakeStore()
        self.tally = Tally()
        self.requests: list[httpx2.Request] = []
        self.taken: list[str] = []
        self.taken_at: list[float] = []
        self.status = 200
        self.statuses: dict[str, int] = {}
        """By event, in place of `status`."""
        self.answer_headers: dict[str, str] = {}
        self.is_refusing = False
        self.takes_s = 0.01
        self.slow: set[str] = set()
        self.rules = Rules(allowed_of([]), concurrency, 10.0, 24 * HOUR_S)
        self.lanes: Lanes[Outgoing] = Lanes(per_lane=4, most_held=32)
        self.sender = Sender(
            webhook,
            self.store,
            lambda: self.rules,
            self.tally,
            unix_ms=lambda: START_MS + round(1000 * trio.current_time()),
            rng=Random(1),
            lanes=self.lanes,
            aside=inline,
        )

    async def _receive(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        event = request.headers["idempotency-key"]
        await trio.sleep(1000 if event in self.slow else self.takes_s)
        if self.is_refusing:
            raise httpx2.ConnectError("refused")
        status = self.statuses.get(event, self.status)
        if status == 200:
            self.taken.append(event)
            self.taken_at.append(trio.current_time())
        return httpx2.Response(status, headers=self.answer_headers)

    def post(self, event_id: str, chat: str, at_ms: int | None = None) -> None:
        now_ms = START_MS + round(1000 * trio.current_time()) if at_ms is None else at_ms
        self.store.post([(event_id, "message", "desk", chat, b'{"a":1}', now_ms, ["w"])], [])
        self.sender.loop.wake()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        transport = httpx2.MockTransport(self._receive)
        async with httpx2.AsyncClient(transport=transport) as link, trio.open_nursery() as nursery:
            nursery.start_soon(self.sender.run, link)
            yield
            nursery.cancel_scope.cancel()

    def ids(self, event_id: str) -> list[httpx2.Request]:
        return [it for it in self.requests if it.headers["idempotency-key"] == event_id]


async def test_an_event_is_posted_as_documented_and_done_with(autojump_clock: MockClock) -> None:
    world = World()
    world.post("e1", "ana")
    async with world.running():
        await trio.sleep(1)
    (request,) = world.requests
    assert (request.method, request.url.path, request.content) == ("POST", "/hook", b'{"a":1}')
    head = request.headers
    assert (head["x-desk"], head["idempotency-key"], head["x-webhook-attempt"]) == ("7", "e1", "1")
    assert len(head["x-webhook-hmac"]) == 128
    assert head["host"] == "93.184.216.34"
    assert not world.store.open
    assert (world.tally.deliveries[DONE], world.tally.deliveries[FAILED]) == (1, 0)
    assert world.sender.last is not None
    assert world.sender.last["delivered"]


async def test_what_fails_is_tried_again_under_its_id_and_its_chat_waits(autojump_clock: MockClock) -> None:
    world = World()
    world.statuses = {"a1": 500}
    for event, chat in (("a1", "ana"), ("a2", "ana"), ("b1", "rui")):
        world.post(event, chat)
    async with world.running():
        await trio.sleep(60)
        assert world.taken == ["b1"]
        tried = world.ids("a1")
        assert [it.headers["x-webhook-attempt"] for it in tried] == [str(n + 1) for n in range(len(tried))]
        assert len({it.headers["x-webhook-request-id"] for it in tried}) == len(tried) > 3
        world.statuses = {}
        await trio.sleep(60)
        assert world.taken == ["b1", "a1", "a2"]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 422])
async def test_what_will_not_change_is_given_up_and_its_chat_goes_on(
    status: int, autojump_clock: MockClock
) -> None:
    world = World()
    world.statuses = {"a1": status}
    world.post("a1", "ana")
    world.post("a2", "ana")
    async with world.running():
        await trio.sleep(1)
    assert world.taken == ["a2"]
    (dead,) = world.store.dead.values()
    assert (dead.sink, dead.id, dead.attempts, dead.why) == ("w", "a1", 1, f"status {status}")


async def test_attempts_are_bounded_by_the_webhooks_own_policy(autojump_clock: MockClock) -> None:
    retries = Retries(policy="constant", delay_seconds=10, attempts=3)
    world = World(Webhook(id="w", url=HOOK.url, events=("*",), retries=retries))
    world.is_refusing = True
    world.post("a1", "ana")
    async with world.running():
        await trio.sleep(60)
    assert len(world.requests) == 3
    (dead,) = world.store.dead.values()
    assert dead.why.startswith("ConnectError")
    assert not world.store.open


@pytest.mark.pain(22)
async def test_a_receiver_that_is_down_for_six_hours_loses_nothing_and_is_drained(
    autojump_clock: MockClock,
) -> None:
    """Proof 6 of the issue, with many more chats than are held in memory."""
    world = World()
    world.is_refusing = True
    sent: dict[str, list[str]] = {}
    async with world.running():
        for n in range(360):
            chat = f"chat {n % 60}"
            world.post(f"e{n}", chat)
            sent.setdefault(chat, []).append(f"e{n}")
            await trio.sleep(60)
            assert world.lanes.held <= 32 + PAGE
        assert trio.current_time() >= 6 * HOUR_S
        assert not world.store.dead
        world.is_refusing = False
        await trio.sleep(LONGEST_WAIT_S)
        assert not world.store.open
    assert sorted(world.taken) == sorted(event for events in sent.values() for event in events)
    for events in sent.values():
        assert [event for event in world.taken if event in events] == events


@pytest.mark.pain(22)
async def test_a_slow_receiver_holds_a_bounded_number_and_gets_all_in_order(
    autojump_clock: MockClock,
) -> None:
    """Proof 6 of the issue: more comes than it takes, and what is held does not grow with it."""
    world = World()
    world.takes_s = 9.0
    sent: dict[str, list[str]] = {}
    async with world.running():
        held = []
        for n in range(1200):
            chat = f"chat {n % 90}"
            world.post(f"e{n}", chat)
            sent.setdefault(chat, []).append(f"e{n}")
            await trio.sleep(0.5)
            held.append(world.lanes.held)
        assert len(world.store.open) > 500, "it is behind"
        assert max(held) <= 32 + PAGE
        world.takes_s = 0.001
        await trio.sleep(600)
        assert not world.store.open
    by_chat: dict[str, list[str]] = {}
    for event in world.taken:
        by_chat.setdefault(f"chat {int(event[1:]) % 90}", []).append(event)
    assert by_chat == sent


async def test_after_an_outage_everything_goes_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.is_refusing = True
    for n in range(20):
        world.post(f"e{n}", f"chat {n}")
    async with world.running():
        await trio.sleep(5 * HOUR_S)
        world.is_refusing = False
        await trio.sleep(LONGEST_WAIT_S)
        assert len(world.taken) == 20
        assert max(world.taken_at) - min(world.taken_at) < 2


async def test_a_receiver_that_asks_for_quiet_gets_it_for_all_chats(autojump_clock: MockClock) -> None:
    world = World()
    world.status, world.answer_headers = 429, {"retry-after": "600"}
    world.post("a1", "ana")
    async with world.running():
        await trio.sleep(1)
        world.post("b1", "rui")
        world.status = 200
        await trio.sleep(590)
        assert len(world.requests) == 1
        await trio.sleep(30)
        assert sorted(world.taken) == ["a1", "b1"]
    assert world.ids("b1")[0].headers["x-webhook-attempt"] == "1", "it was not tried before"


async def test_what_is_too_old_is_given_up_at_its_next_failure(autojump_clock: MockClock) -> None:
    world = World()
    world.is_refusing = True
    world.post("old", "ana", at_ms=START_MS - round(1000 * 25 * HOUR_S))
    async with world.running():
        await trio.sleep(1)
    assert [it.attempts for it in world.store.dead.values()] == [1]


async def test_a_slow_answer_is_cut_off_and_holds_up_its_own_chat_only(autojump_clock: MockClock) -> None:
    world = World()
    world.slow = {"a1"}
    for n in range(10):
        world.post(f"a{n + 1}", "ana")
        world.post(f"b{n}", "rui")
    async with world.running():
        await trio.sleep(5)
        assert world.taken == [f"b{n}" for n in range(10)]
        await trio.sleep(6)
        assert world.store.open[1].attempts == 1


async def test_no_more_attempts_at_a_time_than_the_limit(autojump_clock: MockClock) -> None:
    world = World(concurrency=3)
    world.takes_s = 5
    for n in range(9):
        world.post(f"e{n}", f"chat {n}")
    async with world.running():
        await trio.sleep(1)
        assert len(world.requests) == 3


async def test_a_restart_goes_on_counting_and_waits_as_long_as_was_left(autojump_clock: MockClock) -> None:
    before = World()
    before.is_refusing = True
    before.post("a1", "ana")
    async with before.running():
        await trio.sleep(500)
    (left,) = before.store.open.values()
    assert left.attempts > 5
    wait_s = (left.not_before_unix_ms - START_MS) / 1000 - trio.current_time()
    assert wait_s > 1
    again = World(store=before.store)
    async with again.running():
        await trio.sleep(wait_s - 0.5)
        assert not again.requests
        await trio.sleep(1)
    assert [it.headers["x-webhook-attempt"] for it in again.requests] == [str(left.attempts + 1)]
    assert again.taken == ["a1"]


async def test_what_ends_during_the_stop_is_written_down(autojump_clock: MockClock) -> None:
    world = World()
    world.takes_s = 1
    world.post("a1", "ana")
    world.post("a2", "ana")
    async with world.running():
        await trio.sleep(0.1)
        assert await world.sender.loop.shutdown(3)
        assert not await world_is_posting(world)
    assert [it.event_id for it in world.store.open.values()] == ["a2"]


async def world_is_posting(world: World) -> bool:
    before = len(world.requests)
    await trio.sleep(10)
    return len(world.requests) > before


async def test_the_guard_refuses_and_the_event_is_kept(autojump_clock: MockClock) -> None:
    world = World(Webhook(id="w", url="http://127.0.0.1:9/hook", events=("*",)))
    world.post("a1", "ana")
    async with world.running():
        await trio.sleep(1)
    assert not world.requests
    (dead,) = world.store.dead.values()
    assert "not public" in dead.why


async def test_a_store_that_fails_delivers_twice_at_worst(autojump_clock: MockClock) -> None:
    world = World()
    world.post("a1", "ana")
    async with world.running():
        await trio.sleep(0.005)
        world.store.is_broken = True
        await trio.sleep(10)
        assert world.taken == ["a1"]
        assert world.store.open
        world.store.is_broken = False
        await trio.sleep(5)
    assert world.taken == ["a1"], "what is known is not sent again by the same process"
    assert not world.store.open


def test_the_retry_rule_is_the_webhooks_with_the_common_ceiling() -> None:
    webhook = Webhook(id="w", url=HOOK.url, events=("*",), retries=Retries("linear", 5, 7))
    retry = webhook.retry(60.0)
    assert (retry.policy, retry.delay_s, retry.attempts, retry.longest_s) == ("linear", 5, 7, 60.0)
