"""All webhooks: who gets what, what an operator may ask for, and what a wrong wish is told."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from runner.config import Settings
from runner.envelope import Me
from runner.errors import AdminError, ConfigError, RefusedError, WebhookWrongError
from runner.supervisor.feed import Feed, StatusEvent
from runner.tally import LOST, Tally
from runner.webhooks import registry
from runner.webhooks.hook import EVENTS, NewWebhook, Retries, Webhook, checked, decoded, encoded, is_meant
from runner.webhooks.registry import Webhooks, webhooks_of
from support.fleet import a_view
from support.inbox import FakeStore, inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

URL = "https://93.184.216.34/hook"


class World:
    """A registry over a store in memory, with a feed to listen to."""

    def __init__(self, settings: Settings | None = None, store: FakeStore | None = None) -> None:
        self.store = store or FakeStore()
        self.feed = Feed()
        self.tally = Tally()
        self.messages_wanted = 0
        self.webhooks = Webhooks(
            self.store,
            settings or Settings(),
            subscribe=self.feed.subscribe,
            wanted=self._wanted,
            me={"desk": Me("15550001111@c.us", "Ana")}.get,
            version="1",
            tally=self.tally,
            unix_ms=lambda: 1_700_000_000_000,
            rng=Random(1),
            aside=inline,
        )

    def _wanted(self) -> None:
        self.messages_wanted += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.webhooks.run)
            yield
            nursery.cancel_scope.cancel()

    def happen(self, name: str, session: str = "desk", **more: object) -> None:
        self.feed.publish(StatusEvent(name, session, 1_700_000_000_000, a_view(session), more))

    def posted(self) -> list[tuple[str, str, list[str]]]:
        return [(name, session, hooks) for _, name, session, _, _, _, hooks in self.store.events.values()]


@pytest.fixture(autouse=True)
def _nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The senders have tests of their own (test_webhook_sender.py)."""

    async def nothing(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Webhooks, "_serve", nothing)


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ("message", "message", True),
        ("message", "message.any", False),
        ("message", "message.undecryptable", False),
        ("message.*", "message.undecryptable", True),
        ("session.*", "session.status", True),
        ("session.*", "sessions", False),
        ("*", "alert.firing", True),
    ],
)
def test_a_pattern_means_what_it_says(pattern: str, event: str, expected: bool) -> None:
    assert is_meant(pattern, event) is expected


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (NewWebhook(url="ftp://example.com"), "url must be one http(s) address"),
        (NewWebhook(url="https://"), "url must be"),
        (NewWebhook(url="https://a.example,https://b.example"), "must be one http(s) address"),
        (NewWebhook(url=URL, events=["mesage"]), "did you mean message"),
        (NewWebhook(url=URL, events=["group.*"]), "there is no event 'group.*'"),
        (NewWebhook(url=URL, headers={"bad name": "x"}), "cannot be the name of a header"),
        (NewWebhook(url=URL, headers={"X-A": "b\r\nX-C: d"}), "has a character"),
        (NewWebhook(url=URL, headers={"X-Webhook-Hmac": "0"}), "is set by the runner"),
        (NewWebhook(url=URL, retries=Retries(attempts=1.5)), "must be a whole number"),
        (NewWebhook(url=URL, headers={"Host": "evil"}), "is set by the runner"),
        (NewWebhook(url=URL, headers={"X-HUB-signature-256": "0"}), "is set by the runner"),
        (NewWebhook(url=URL, headers={f"X-{n}": "" for n in range(21)}), "21 headers"),
    ],
)
def test_a_wish_that_cannot_be_is_told_why(wish: NewWebhook, said: str) -> None:
    with pytest.raises(WebhookWrongError) as caught:
        checked("wh_1", wish)
    assert said in str(caught.value)


def test_a_webhook_is_stored_whole_and_shown_without_its_secrets() -> None:
    wish = NewWebhook(
        url="https://user:pass@93.184.216.34/hook?key=1", secret="s3cret", headers={"Authorization": "t0ken"}
    )
    webhook = checked("wh_1", wish)
    assert decoded("wh_1", encoded(webhook)) == webhook
    assert decoded("wh_2", encoded(webhook)) is None
    assert decoded("wh_1", '{"id":"wh_1"}') is None
    for with_detail in (True, False):
        shown = json.dumps(
            {k: v for k, v in webhook.to_json(with_detail=with_detail).items() if k != "retries"}
        )
        assert not [secret for secret in ("s3cret", "t0ken", "pass", "key=1") if secret in shown]
    assert webhook.to_json(with_detail=True)["url"] == "https://93.184.216.34/hook"
    assert webhook.to_json(with_detail=False)["url"] == "https://93.184.216.34/…"


def test_a_webhook_of_a_session_gets_nothing_of_others_or_of_none() -> None:
    webhook = Webhook(id="w", url=URL, events=("*",), session="desk")
    assert webhook.wants("session.status", "desk")
    assert not webhook.wants("session.status", "shop")
    assert not webhook.wants("alert.firing", None)
    assert not webhook.wants("session.qr", "desk")


def test_those_of_the_settings_have_all_that_the_settings_say() -> None:
    settings = Settings(
        webhook_urls=f"{URL}, https://b.example/x",
        webhook_events="message,session.*",
        webhook_secret="k",
        webhook_headers="X-A: b\nX-C: d: e\n",
        webhook_retry_policy="linear",
        webhook_retry_delay_s=5.0,
        webhook_attempts=3,
    )
    first, second = webhooks_of(settings)
    assert first.id != second.id
    assert (first.events, first.secret, first.headers) == (
        ("message", "session.*"),
        "k",
        {"x-a": "b", "x-c": "d: e"},
    )
    retry = first.retry(60)
    assert (retry.policy, retry.delay_s, retry.attempts) == ("linear", 5.0, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"webhook_events": "mesage"}, "there is no event 'mesage'"),
        ({"webhook_headers": "no colon"}, "WHATSAPP_WEBHOOK_HEADERS"),
        ({"webhook_headers": "Host: x"}, "set by the runner"),
        ({"webhook_urls": "http://10.1.2.3/x"}, "10.1.2.3 is not public; see WHATSAPP_WEBHOOK_ALLOW"),
        ({"webhook_urls": f"{URL},http://[::1]:5/x"}, "::1 is not public; see WHATSAPP_WEBHOOK_ALLOW"),
    ],
)
def test_wrong_settings_stop_the_start(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        webhooks_of(replace(Settings(webhook_urls=URL), **changes))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_private_address_of_the_settings_that_is_allowed_is_one() -> None:
    settings = Settings(webhook_urls="http://10.1.2.3/x", webhook_allow="10.0.0.0/8")
    assert [it.url for it in webhooks_of(settings)] == ["http://10.1.2.3/x"]


async def test_what_happens_to_sessions_goes_to_those_who_want_it(autojump_clock: MockClock) -> None:
    world = World(Settings(webhook_urls=URL, webhook_events="session.status,alert.*"))
    async with world.running():
        world.happen("session.status", previous="online")
        world.happen("session.breaker")
        world.happen("message")
        world.happen("alert.firing", session="")
        await trio.sleep(1)
    (hook,) = [name for (name,) in [(it.id,) for it in webhooks_of(Settings(webhook_urls=URL))]]
    assert world.posted() == [("session.status", "desk", [hook]), ("alert.firing", "", [hook])]
    body, of_fleet = (json.loads(it[4]) for it in world.store.events.values())
    assert body["me"] == {"id": "15550001111@c.us", "pushName": "Ana"}
    assert of_fleet["me"] is None
    assert (body["event"], body["session"], body["payload"]["previous"]) == (
        "session.status",
        "desk",
        "online",
    )
    assert body["payload"]["state"] == "online"
    assert body["id"].startswith("evt_")


async def test_nobody_listens_while_no_webhook_wants_to_know(autojump_clock: MockClock) -> None:
    world = World(Settings(webhook_urls=URL, webhook_events="message"))
    async with world.running():
        assert not world.feed.is_heard
        made = await world.webhooks.add(NewWebhook(url=URL, events=["session.status"]))
        await trio.testing.wait_all_tasks_blocked()
        assert world.feed.is_heard
        world.happen("session.status")
        await world.webhooks.add(NewWebhook(url=URL, events=["*"]))
        world.happen("session.status")
        await trio.sleep(1)
        assert len(world.posted()) == 2, "adding another loses nothing on the way"
        assert world.messages_wanted == 1
        await world.webhooks.remove(str(made["id"]))
        assert world.feed.is_heard


async def test_one_that_was_added_outlives_the_process(autojump_clock: MockClock) -> None:
    world = World()
    async with world.running():
        made = await world.webhooks.add(NewWebhook(url=URL, events=["message"], session="desk"))
        assert str(made["id"]).startswith("wh_")
    again = World(store=world.store)
    assert again.webhooks.wanting("message", "desk") == [made["id"]]
    assert again.webhooks.wanting("message", "shop") == []
    async with again.running():
        changed = await again.webhooks.change(str(made["id"]), NewWebhook(url=URL, events=["*"]))
        assert changed["events"] == ["*"]
        assert again.webhooks.wanting("message", "shop") == [made["id"]]


async def test_what_waited_for_one_that_is_gone_is_a_dead_letter(autojump_clock: MockClock) -> None:
    store = FakeStore()
    store.post([("e1", "message", "desk", "ana", b"", 0, ["cfg_old"])], [])
    world = World(store=store)
    assert [(it.sink, it.why) for it in store.dead.values()] == [("cfg_old", registry.NOT_SET)]
    async with world.running():
        made = await world.webhooks.add(NewWebhook(url=URL))
        store.post([("e2", "message", "desk", "ana", b"", 0, [str(made["id"])])], [])
        assert await world.webhooks.remove(str(made["id"])) == 1
    assert len(store.dead) == 2


async def test_one_that_this_version_cannot_read_is_kept_and_so_is_what_waits(
    autojump_clock: MockClock,
) -> None:
    store = FakeStore()
    store.put_webhook("wh_new", '{"id":"wh_new","url":7}')
    store.post([("e1", "message", "desk", "ana", b"", 0, ["wh_new"])], [])
    world = World(store=store)
    assert world.webhooks.wanting("message", "desk") == []
    assert (len(store.hooks), len(store.open)) == (1, 1)
    assert await world.webhooks.remove("wh_new") == 1
    assert not store.hooks


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://10.1.2.3/x", "http://[::1]/x"])
async def test_a_private_address_is_refused_when_it_is_added(url: str) -> None:
    world = World()
    with pytest.raises(WebhookWrongError, match="WHATSAPP_WEBHOOK_ALLOW"):
        await world.webhooks.add(NewWebhook(url=url))
    assert not world.store.hooks


async def test_those_of_the_settings_are_changed_there() -> None:
    world = World(Settings(webhook_urls=URL))
    (shown,) = await world.webhooks.listed(None, with_detail=True)
    for change in (
        world.webhooks.remove(str(shown["id"])),
        world.webhooks.change(str(shown["id"]), NewWebhook(url=URL)),
    ):
        with pytest.raises(RefusedError, match="comes from the settings"):
            await change
    with pytest.raises(AdminError, match="there is no webhook 'nope'"):
        await world.webhooks.remove("nope")


async def test_events_wait_for_a_store_that_fails_and_then_arrive(autojump_clock: MockClock) -> None:
    world = World(Settings(webhook_urls=URL))
    async with world.running():
        world.store.is_broken = True
        for _ in range(3):
            world.happen("session.status")
        await trio.sleep(10)
        assert not world.store.events
        world.store.is_broken = False
        await trio.sleep(2)
        assert len(world.store.events) == 3


async def test_what_happened_right_before_the_stop_is_posted(autojump_clock: MockClock) -> None:
    world = World(Settings(webhook_urls=URL))
    async with world.running():
        world.store.is_broken = True
        world.happen("session.status")
        await trio.sleep(0.1)
        world.store.is_broken = False
        await world.webhooks.shutdown(0.0)
    assert len(world.store.events) == 1


async def test_events_that_find_no_room_are_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "EVENT_QUEUE", 4)
    world = World(Settings(webhook_urls=URL))
    async with world.running():
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(10):
            world.happen("session.status")
        await trio.sleep(1)
        world.happen("session.status")
        await trio.sleep(1)
    assert world.tally.deliveries[LOST] == 11 - len(world.store.events) > 0


def test_every_event_is_explained() -> None:
    assert all(EVENTS.values())
