"""Sending a text over the admin API, with an engine that only notes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from runner.admin.api import application
from runner.admin.guard import PEER, Access
from runner.admin.peer import Peer
from runner.admin.tokens import parse
from runner.sending import derived_message_id, send_error
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANA = "15550001111@s.whatsapp.net"


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet(a_view("desk"))


def a_client(fleet: FakeFleet, token: str) -> httpx2.AsyncClient:
    tokens = parse("a-token-that-sends:send,a-token-that-reads:operate")
    app = application(a_backend(fleet), Access(tokens, own_uid=1000))

    async def known(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = Peer("tcp")
        await app(scope, receive, send)

    transport = httpx2.ASGITransport(known)  # type: ignore[arg-type]
    return httpx2.AsyncClient(
        transport=transport, base_url="http://localhost:4001", headers={"x-api-key": token}
    )


@pytest.fixture
async def client(fleet: FakeFleet) -> AsyncIterator[httpx2.AsyncClient]:
    async with a_client(fleet, "a-token-that-sends") as client:
        yield client


async def test_a_text_is_sent_and_answered_with_its_id(client: httpx2.AsyncClient, fleet: FakeFleet) -> None:
    body = {"session": "desk", "chatId": "15550001111@c.us", "text": "hi", "id": "order-1"}
    answer = await client.post("/api/sendText", json=body | {"reply_to": "Q1"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": "order-1", "chatId": ANA, "timestamp": 1_700_000_000_000}
    assert fleet.called == [("send_text", "desk", ANA, "hi", "order-1", ("Q1", ANA, b"\x0a\x02hi"), True)]


async def test_a_group_is_written_to_and_answered_in(client: httpx2.AsyncClient, fleet: FakeFleet) -> None:
    group = "120363000000000001@g.us"
    body = {"session": "desk", "chatId": group, "text": "hi", "id": "order-1"}
    answer = await client.post("/api/sendText", json=body)
    assert answer.json()["chatId"] == group
    answer = await client.post(
        "/api/sendText", json=body | {"reply_to": "Q1", "reply_to_sender": "15550001111"}
    )
    assert answer.status_code == 200, answer.text
    assert [call[2:] for call in fleet.called] == [
        (group, "hi", "order-1", None, True),
        (group, "hi", "order-1", ("Q1", ANA, b"\x0a\x02hi"), True),
    ]


async def test_an_idempotency_key_makes_the_id(client: httpx2.AsyncClient, fleet: FakeFleet) -> None:
    body = {"session": "desk", "chatId": ANA, "text": "hi"}
    for _ in range(2):
        answer = await client.post("/api/sendText", json=body, headers={"idempotency-key": "order 1"})
        assert answer.json()["id"] == derived_message_id("key", "desk", "order 1")
    assert (await client.post("/api/sendText", json=body)).json()["id"] == "3EB0"


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("not_online", 409),
        ("id_taken", 409),
        ("busy", 429),
        ("unknown_user", 409),
        ("unknown_group", 409),
        ("not_a_member", 409),
        ("admins_only", 409),
        ("group_too_large", 422),
        ("refused", 502),
        ("restricted", 502),
        ("store_failed", 503),
        ("no_answer", 504),
        ("unconfirmed", 504),
    ],
)
async def test_what_is_not_sent_says_why_and_what_to_do(
    client: httpx2.AsyncClient, fleet: FakeFleet, reason: str, status: int
) -> None:
    fleet.unsent["hi"] = send_error(reason)
    answer = await client.post("/api/sendText", json={"session": "desk", "chatId": ANA, "text": "hi"})
    told = answer.json()
    assert (answer.status_code, told["error"], told["reason"]) == (status, "not_sent", reason)
    assert reason == "id_taken" or told["remedy"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"session": "nobody"}, 404),
        ({"chatId": "1-2@g.us"}, 422),
        ({"chatId": "120363000000000001@g.us", "reply_to": "Q1"}, 422),
        ({"chatId": "120363000000000001@g.us", "reply_to": "Q1", "reply_to_sender": "1234567-1@g.us"}, 422),
        ({"id": "a b"}, 422),
        ({"text": ""}, 422),
        ({"more": 1}, 422),
    ],
)
async def test_a_wrong_wish_sends_nothing(
    client: httpx2.AsyncClient, fleet: FakeFleet, change: dict[str, object], status: int
) -> None:
    body: dict[str, object] = {"session": "desk", "chatId": ANA, "text": "a secret text", **change}
    answer = await client.post("/api/sendText", json=body)
    assert answer.status_code == status, answer.text
    assert "secret" not in answer.text
    assert fleet.called == []


async def test_only_who_may_send_sends(fleet: FakeFleet) -> None:
    async with a_client(fleet, "a-token-that-reads") as client:
        body = {"session": "desk", "chatId": ANA, "text": "hi"}
        assert (await client.post("/api/sendText", json=body)).status_code == 403
