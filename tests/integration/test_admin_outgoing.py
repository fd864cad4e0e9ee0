"""Webhooks, dead letters and the stream of events over the admin API, with a store in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest
import trio
import trio.testing

from runner.admin.api import application
from runner.admin.guard import PEER, Access
from runner.admin.peer import Peer
from runner.admin.tokens import parse
from runner.supervisor.feed import StatusEvent
from support.alerts import Receiver
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from runner.admin.backend import Backend

READER = "a-token-that-only-reads"
OPERATOR = "a-token-that-operates"


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet(a_view("desk"), a_view("shop"))


@pytest.fixture
def backend(fleet: FakeFleet) -> Backend:
    return a_backend(fleet)


def a_client(backend: Backend, token: str | None = None) -> httpx2.AsyncClient:
    app = application(backend, Access(parse(f"{READER}:read,{OPERATOR}:operate"), own_uid=1000))

    async def known(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = Peer("unix", 1000) if token is None else Peer("tcp")
        await app(scope, receive, send)

    headers = {} if token is None else {"x-api-key": token}
    transport = httpx2.ASGITransport(known)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost:4001", headers=headers)


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[httpx2.AsyncClient]:
    async with a_client(backend) as client:
        yield client


async def test_a_webhook_is_added_shown_changed_and_removed(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    wish = {"url": "http://127.0.0.1:9/hook", "events": ["message"], "secret": "s3cret", "session": "desk"}
    made = (await client.post("/api/webhooks", json=wish)).json()
    assert (made["events"], made["session"], made["signed"], made["source"]) == (
        ["message"],
        "desk",
        True,
        "api",
    )
    assert ("messages_wanted",) in fleet.called
    for path in ("/api/webhooks", f"/api/webhooks/{made['id']}", "/api/webhooks?session=desk"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "s3cret" not in answer.text
        assert made["id"] in answer.text
    assert (await client.get("/api/webhooks?session=shop")).json() == {"webhooks": []}
    changed = await client.put(f"/api/webhooks/{made['id']}", json={**wish, "events": ["session.*"]})
    assert changed.json()["events"] == ["session.*"]
    removed = await client.delete(f"/api/webhooks/{made['id']}")
    assert removed.json() == {"id": made["id"], "givenUp": 0}
    assert (await client.get(f"/api/webhooks/{made['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"url": "http://10.0.0.1/x"}, "WHATSAPP_WEBHOOK_ALLOW"),
        ({"url": "gopher://x"}, "url must be"),
        ({"url": "https://93.184.216.34/", "events": ["nothing"]}, "there is no event 'nothing'"),
        ({"url": "https://93.184.216.34/", "session": "nobody"}, "no session is called 'nobody'"),
        ({"url": "https://93.184.216.34/", "retries": {"policy": "often"}}, "policy"),
        ({"url": "https://93.184.216.34/", "retries": {"attempts": 0}}, "attempts"),
        ({"url": "https://93.184.216.34/", "event": []}, "event"),
        ({}, "url"),
    ],
)
async def test_a_wish_that_cannot_be_is_a_422_with_a_reason(
    client: httpx2.AsyncClient, wish: dict[str, object], said: str
) -> None:
    answer = await client.post("/api/webhooks", json=wish)
    assert answer.status_code == 422
    assert said in answer.json()["message"]


async def test_a_test_event_says_what_came_of_it(client: httpx2.AsyncClient) -> None:
    with Receiver("s3cret") as receiver:
        wish = {"url": receiver.url, "secret": "s3cret"}
        made = (await client.post("/api/webhooks", json=wish)).json()
        answer = (await client.post(f"/api/webhooks/{made['id']}/test")).json()
        assert (answer["delivered"], answer["status"], answer["problem"]) == (True, 200, None)
        (body,) = receiver.bodies
        assert (body["event"], body["id"], receiver.problems) == ("webhook.test", answer["eventId"], [])
        receiver.answers = [(401, {})]
        answer = (await client.post(f"/api/webhooks/{made['id']}/test")).json()
        assert (answer["delivered"], answer["problem"]) == (False, "status 401")


async def test_dead_letters_are_listed_in_pages_put_back_and_dropped(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    store = fleet.store
    for n in range(3):
        store.receive("desk", f"1555000111{n}@s.whatsapp.net", "secret text")
    store.bury([(n + 1, 5, "ValueError at bot.py:3 in handle") for n in range(3)])
    store.post([("evt_1", "message", "desk", "", b"", 0, ["wh_gone"])], [])
    store.remove_webhook("wh_gone", "the webhook was removed")

    page = (await client.get("/api/dead-letters?limit=2")).json()
    assert [it["id"] for it in page["deadLetters"]] == ["1", "2"]
    assert page["deadLetters"][0]["why"] == "ValueError at bot.py:3 in handle"
    rest = (await client.get(f"/api/dead-letters?after={page['next']}")).json()
    assert ([it["id"] for it in rest["deadLetters"]], rest["next"]) == (["3", "4"], None)
    assert len((await client.get("/api/dead-letters?sink=app")).json()["deadLetters"]) == 3

    back = (await client.post("/api/dead-letters/redrive", json={"ids": ["1"]})).json()
    assert back == {"messages": 1, "deliveries": 0, "kept": 0}
    assert list(store.waiting) == [1]
    back = (await client.post("/api/dead-letters/redrive", json={"all": True})).json()
    assert back == {"messages": 2, "deliveries": 0, "kept": 1}, "its webhook is gone"
    dropped = (await client.post("/api/dead-letters/drop", json={"all": True, "sink": "wh_gone"})).json()
    assert dropped == {"dropped": 1}
    assert not store.dead


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"ids": ["1"], "all": True}, 422), ({"ids": ["7"]}, 404), ({"ids": ["x"]}, 404)],
)
async def test_what_is_to_be_put_back_must_be_said(
    client: httpx2.AsyncClient, body: dict[str, object], status: int
) -> None:
    for verb in ("redrive", "drop"):
        assert (await client.post(f"/api/dead-letters/{verb}", json=body)).status_code == status


async def test_a_store_that_fails_is_a_503_and_nothing_is_said_to_be_done(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    made = (await client.post("/api/webhooks", json={"url": "http://127.0.0.1:9/"})).json()
    fleet.store.receive("desk", "chat", "oi")
    fleet.store.bury([(1, 5, "x")])
    fleet.store.is_broken = True
    for answer in (
        await client.get("/api/webhooks"),
        await client.get("/api/dead-letters"),
        await client.post("/api/webhooks", json={"url": "http://127.0.0.1:9/"}),
        await client.put(f"/api/webhooks/{made['id']}", json={"url": "http://127.0.0.1:9/"}),
        await client.post("/api/dead-letters/redrive", json={"all": True}),
        await client.post("/api/dead-letters/drop", json={"all": True}),
        await client.delete(f"/api/webhooks/{made['id']}"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (503, "store_failed"), answer.text
        assert "no space left" in answer.json()["message"]


async def test_who_may_only_read_sees_no_address_and_no_chat(backend: Backend, fleet: FakeFleet) -> None:
    fleet.store.receive("desk", "15550001111@s.whatsapp.net", "oi")
    fleet.store.bury([(1, 5, "x")])
    async with a_client(backend) as admin:
        made = (await admin.post("/api/webhooks", json={"url": "http://127.0.0.1:9/pa/th"})).json()
        assert made["url"].endswith("/pa/th")
    async with a_client(backend, READER) as reader:
        for path in ("/api/webhooks", "/api/dead-letters"):
            text = (await reader.get(path)).text
            assert "pa/th" not in text
            assert "15550001111" not in text
        assert (await reader.post("/api/webhooks", json={"url": "http://127.0.0.1:9/"})).status_code == 403
    async with a_client(backend, OPERATOR) as operator:
        assert "15550001111" in (await operator.get("/api/dead-letters")).text
        assert (await operator.delete(f"/api/webhooks/{made['id']}")).status_code == 403
        assert (await operator.post("/api/dead-letters/drop", json={"all": True})).status_code == 403


def a_message(session: str, text: str) -> StatusEvent:
    return StatusEvent("message", session, 1_700_000_000_000, None, {"body": text}, event_id="evt_same")


async def streamed(backend: Backend, fleet: FakeFleet, query: str, token: str | None = None) -> list[Any]:
    """What `GET /api/events` gives for three events and the end of the runner."""
    found: list[Any] = []

    async def read() -> None:
        async with a_client(backend, token) as client:
            answer = await client.get(f"/api/events{query}")
            found.append(answer.status_code)
            found.extend(json.loads(line) for line in answer.text.splitlines() if answer.status_code == 200)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.move_on_after(1):
            await fleet.subscribed.wait()
        fleet.feed.publish(a_message("desk", "oi"))
        fleet.feed.publish(a_message("shop", "olá"))
        fleet.change("desk", reason=None)
        await trio.testing.wait_all_tasks_blocked(0.01)
        backend.stopping.set()
    return found


async def test_events_come_a_line_each_with_the_filters_of_the_websocket(
    backend: Backend, fleet: FakeFleet, autojump_clock: trio.testing.MockClock
) -> None:
    status, *lines = await streamed(backend, fleet, "?session=desk")
    assert status == 200
    assert [(it["event"], it["session"]) for it in lines] == [("message", "desk"), ("session.status", "desk")]
    assert (lines[0]["id"], lines[0]["payload"]["body"]) == ("evt_same", "oi")
    assert [it["me"] for it in lines] == [{"id": "15550001111@c.us", "pushName": "Ana"}] * 2


async def test_a_family_of_events_means_all_that_begin_so(
    backend: Backend, fleet: FakeFleet, autojump_clock: trio.testing.MockClock
) -> None:
    status, *lines = await streamed(backend, fleet, "?events=session.*")
    assert (status, [it["event"] for it in lines]) == (200, ["session.status"])


@pytest.mark.parametrize("named", ["sesion.status", "", "message,nothing.*"])
async def test_an_event_that_there_is_not_is_refused_and_not_waited_for(backend: Backend, named: str) -> None:
    async with a_client(backend) as client:
        answer = await client.get(f"/api/events?events={named}")
    assert (answer.status_code, answer.json()["error"]) == (422, "parameter_wrong")
    assert "there is no event" in answer.json()["message"]
    assert "session.status" in answer.json()["message"] + answer.json()["remedy"]


async def test_messages_are_not_for_who_may_only_read(
    backend: Backend, fleet: FakeFleet, autojump_clock: trio.testing.MockClock
) -> None:
    status, *lines = await streamed(backend, fleet, "", READER)
    assert (status, [it["event"] for it in lines]) == (200, ["session.status"])
    assert lines[0]["me"] is None, "nor whose number it is"


async def test_asking_for_messages_without_the_scope_is_refused(backend: Backend) -> None:
    async with a_client(backend, READER) as reader:
        answer = await reader.get("/api/events?events=message")
    assert answer.status_code == 403
    assert "operate" in answer.json()["message"]
