"""The webhook against a receiver on loopback: tried again, given up, guarded, in order, over a restart."""

from __future__ import annotations

import sys
import threading
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from runner.alerts.mail import SEND_S, Mail, notifiers
from runner.alerts.webhook import Webhook
from runner.delivery.retry import Retry
from runner.delivery.target import allowed_of
from runner.errors import StartError
from support.alerts import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from runner.alerts.delivery import Notice

BODY = b'{"id":"evt_1","event":"alert.firing","payload":{"alert":"disk_full","about":null}}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver("key") as running:
        yield running


class Clock:
    """Wall time that only moves when asked: a delay of hours is over at once."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self.steps: list[int] = []

    def __call__(self) -> int:
        return self.ms


class Observed(Webhook):
    """Tells when an attempt is over."""

    attempted: trio.Event

    async def _attempt(self, client: httpx2.AsyncClient, notice: Notice) -> None:
        await super()._attempt(client, notice)
        self.attempted.set()


def a_webhook(url: str, clock: Clock, *, allow: str = "127.0.0.1", attempts: int = 4) -> Observed:
    return Observed(url, "key", allowed_of([allow]), attempts, unix_ms=clock, rng=Random(1))


async def delivered(webhook: Observed, clock: Clock) -> None:
    """Run until nothing waits; each pause is noted and skipped."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(webhook.run)
        with trio.fail_after(10):
            while (first := webhook.queue.first) is not None:
                if first.not_before_ms > clock.ms:
                    clock.steps.append(first.not_before_ms - clock.ms)
                    restored = webhook.queue.all()
                    clock.ms = first.not_before_ms
                    nursery.cancel_scope.cancel()
                    webhook.restore(restored)
                    break
                webhook.attempted = trio.Event()
                await webhook.attempted.wait()
            else:
                nursery.cancel_scope.cancel()
    if webhook.queue.first is not None:
        await delivered(webhook, clock)


async def test_a_notice_arrives_signed_once_and_in_order(receiver: Receiver) -> None:
    clock = Clock()
    webhook = a_webhook(receiver.url, clock)
    for number in range(3):
        webhook.put("alert.firing", f"evt_{number}", BODY)
    await delivered(webhook, clock)
    assert [it["idempotency-key"] for it in receiver.requests] == ["evt_0", "evt_1", "evt_2"]
    assert not receiver.problems
    assert len({it["x-webhook-request-id"] for it in receiver.requests}) == 3


async def test_an_answer_that_may_change_is_tried_again_after_a_delay(receiver: Receiver) -> None:
    clock = Clock()
    receiver.answers = [(503, {}), (429, {"retry-after": "77"})]
    webhook = a_webhook(receiver.url, clock)
    webhook.put("alert.firing", "evt_1", BODY)
    webhook.put("alert.resolved", "evt_2", BODY)
    await delivered(webhook, clock)
    assert [it["x-webhook-attempt"] for it in receiver.requests] == ["1", "2", "3", "1"]
    assert [it["idempotency-key"] for it in receiver.requests] == ["evt_1"] * 3 + ["evt_2"]
    assert 1000 <= clock.steps[0] <= 2000
    assert clock.steps[1] >= 77_000
    assert webhook.undelivered_total == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_an_answer_that_will_not_change_ends_it(receiver: Receiver, status: int) -> None:
    clock = Clock()
    receiver.answers = [(status, {})]
    webhook = a_webhook(receiver.url, clock)
    webhook.put("alert.firing", "evt_1", BODY)
    webhook.put("alert.resolved", "evt_2", BODY)
    await delivered(webhook, clock)
    assert [it["idempotency-key"] for it in receiver.requests] == ["evt_1", "evt_2"]
    assert webhook.undelivered_total == 1


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    clock = Clock()
    receiver.answers = [(307, {"location": "http://169.254.169.254/latest/meta-data"})]
    webhook = a_webhook(receiver.url, clock)
    webhook.put("alert.firing", "evt_1", BODY)
    await delivered(webhook, clock)
    assert (len(receiver.requests), webhook.undelivered_total) == (1, 1)


async def test_attempts_are_bounded(receiver: Receiver) -> None:
    clock = Clock()
    receiver.answers = [(500, {})] * 9
    webhook = a_webhook(receiver.url, clock)
    webhook.put("alert.firing", "evt_1", BODY)
    await delivered(webhook, clock)
    assert (len(receiver.requests), webhook.undelivered_total) == (4, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_guard_keeps_a_webhook_from_this_machine(receiver: Receiver, host: str) -> None:
    clock = Clock()
    webhook = a_webhook(receiver.url.replace("127.0.0.1", host), clock, allow="10.0.0.0/8")
    webhook.put("alert.firing", "evt_1", BODY)
    await delivered(webhook, clock)
    assert (receiver.requests, webhook.undelivered_total) == ([], 1)


async def test_the_connection_goes_to_the_address_that_was_judged(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means something else a moment later gains nothing: it is resolved once."""
    clock = Clock()
    asked: list[str] = []

    async def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)
    webhook = a_webhook(receiver.url.replace("127.0.0.1", "hook.example"), clock)
    webhook.put("alert.firing", "evt_1", BODY)
    await delivered(webhook, clock)
    assert asked == ["hook.example"]
    assert receiver.requests[0]["host"].startswith("hook.example:")


async def test_nobody_there_is_tried_again() -> None:
    clock = Clock()
    with Receiver() as gone:
        url = gone.url
    webhook = a_webhook(url, clock, attempts=2)
    webhook.put("alert.firing", "evt_1", BODY)
    await delivered(webhook, clock)
    assert (len(clock.steps), webhook.undelivered_total) == (1, 1)


async def test_apprise_that_fails_is_counted_and_the_next_is_told() -> None:
    told: list[str] = []
    done = trio.Event()

    def notify(title: str, _body: str, _kind: str) -> bool:
        told.append(title)
        if title == "good":
            trio.from_thread.run_sync(done.set)
        if title == "bad":
            raise RuntimeError("a service of a hundred")
        return title != "refused"

    mail = Mail(notify, attempts=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mail.run)
        for title in ("bad", "refused", "good"):
            mail.put(title, "", "failure")
        await done.wait()
        nursery.cancel_scope.cancel()
    assert (told, mail.undelivered_total) == (["bad", "refused", "good"], 2)


async def test_apprise_that_fails_for_a_while_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a mail from being sent is often what it tells of: the network was away."""
    monkeypatch.setattr(Retry, "wait_s", lambda _self, attempts, _rng: waits.append(attempts) or 0.0)
    waits: list[int] = []
    told: list[str] = []
    done = trio.Event()

    def notify(title: str, _body: str, _kind: str) -> bool:
        told.append(title)
        if title == "second":
            trio.from_thread.run_sync(done.set)
        return len(told) > 2

    mail = Mail(notify, attempts=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mail.run)
        mail.put("first", "", "failure")
        mail.put("second", "", "failure")
        await done.wait()
        nursery.cancel_scope.cancel()
    assert (told, waits, mail.undelivered_total) == (["first", "first", "first", "second"], [1, 2], 0)


def test_each_address_of_apprise_is_told_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses must not have the others told again."""
    told: list[tuple[str, str]] = []

    class Apprise:
        def add(self, url: str) -> bool:
            self.url = url
            return True

        def notify(self, *, title: str, **_more: str) -> bool:
            told.append((self.url, title))
            return True

    monkeypatch.setitem(sys.modules, "apprise", SimpleNamespace(Apprise=Apprise))
    assert [notify("title", "", "failure") for notify in notifiers(["one://", "two://"])] == [True, True]
    assert told == [("one://", "title"), ("two://", "title")]


async def test_apprise_that_hangs_is_left_behind(autojump_clock: trio.testing.MockClock) -> None:
    release = threading.Event()

    def notify(_title: str, _body: str, _kind: str) -> bool:
        return release.wait(20.0)

    mail = Mail(notify, attempts=1)
    mail.put("hangs", "", "failure")
    try:
        with trio.move_on_after(SEND_S + 1):
            await mail.run()
        assert mail.undelivered_total == 1
        assert trio.current_time() >= SEND_S
    finally:
        release.set()


def test_apprise_that_is_not_installed_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert notifiers([]) == []
    with pytest.raises(StartError) as caught:
        notifiers(["mailto://x"])
    assert "wa-runner[apprise]" in caught.value.remedy
