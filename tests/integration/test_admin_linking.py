"""The routes that link a session with a phone: pictures, texts, codes, and who may see them."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from runner.admin.api import application
from runner.admin.events import payload_of
from runner.admin.guard import PEER, Access
from runner.admin.linking import png
from runner.admin.peer import Peer
from runner.admin.tokens import parse
from runner.supervisor.feed import StatusEvent
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OWN_UID = 1000


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet(a_view("desk"))


def a_client(fleet: FakeFleet, token: str | None = None) -> httpx2.AsyncClient:
    app = application(a_backend(fleet), Access(parse(token or "a-token-of-somebody"), own_uid=OWN_UID))
    peer = Peer("unix" if token is None else "tcp", OWN_UID)

    async def known(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = peer
        await app(scope, receive, send)

    headers = {} if token is None else {"x-api-key": token.split(":")[0]}
    transport = httpx2.ASGITransport(known)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost:4001", headers=headers)


@pytest.fixture
async def client(fleet: FakeFleet) -> AsyncIterator[httpx2.AsyncClient]:
    async with a_client(fleet) as client:
        made = await client.post("/api/sessions", json={"id": "new"})
        assert (made.status_code, made.json()["linked"]) == (201, False)
        yield client


async def test_the_qr_code_comes_as_a_picture_as_base64_and_as_text(client: httpx2.AsyncClient) -> None:
    picture = await client.get("/api/new/auth/qr")
    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["cache-control"] == "no-store"
    assert picture.headers["x-expires-at"] == "1700000060000"
    assert picture.content.startswith(b"\x89PNG\r\n\x1a\n")
    as_json = (await client.get("/api/new/auth/qr", headers={"accept": "application/json"})).json()
    assert (as_json["mimetype"], as_json["left"]) == ("image/png", 5)
    assert base64.b64decode(as_json["data"]) == picture.content
    raw = (await client.get("/api/new/auth/qr?format=raw")).json()
    assert raw == {
        "value": "https://wa.me/settings/linked_devices#2@ref,a,b,c,1",
        "expiresAt": 1_700_000_060_000,
        "left": 5,
    }
    wrong = await client.get("/api/new/auth/qr?format=gif")
    assert (wrong.status_code, wrong.json()["error"]) == (422, "parameter_wrong")


def test_a_code_as_long_as_a_real_one_makes_a_picture_that_fits_a_screen() -> None:
    picture = png("https://wa.me/settings/linked_devices#" + "2@" + "x" * 150 + ("," + "k" * 44) * 3 + ",1")
    (length, kind, width, height) = struct.unpack(">I4sII", picture[8:24])
    assert (length, kind, width) == (13, b"IHDR", height)
    assert 300 < width < 700
    assert zlib.decompress(picture[picture.index(b"IDAT") + 4 : picture.index(b"IEND") - 8])


async def test_a_pairing_code_is_for_a_number_and_not_too_often(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    body = {"phoneNumber": "+55 11 91234-5678"}
    answer = await client.post("/api/new/auth/request-code", json=body)
    assert (answer.status_code, answer.json()["code"]) == (200, "ABCD-EFGH")
    assert ("code", "new", 5511912345678) in fleet.called
    again = await client.post("/api/new/auth/request-code", json=body)
    assert (again.status_code, again.headers["retry-after"]) == (429, "27")
    assert again.json()["remedy"] == "try again in 27 s"


@pytest.mark.parametrize("body", [{"phoneNumber": "0171 5550001"}, {"phoneNumber": 4917}, {"phone": "1"}, []])
async def test_what_is_no_number_is_refused_and_not_repeated(
    client: httpx2.AsyncClient, body: object
) -> None:
    answer = await client.post("/api/new/auth/request-code", json=body)
    assert answer.status_code == 422
    assert "5550001" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/sessions/{}/pair"),
        ("GET", "/api/{}/auth/qr"),
        ("POST", "/api/{}/auth/request-code"),
    ],
)
async def test_a_linked_or_unknown_session_is_refused(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    body = {"phoneNumber": "5511912345678"}
    linked = await client.request(method, path.format("desk"), json=body)
    assert (linked.status_code, linked.json()["reason"]) == (409, "linked")
    unknown = await client.request(method, path.format("nobody"), json=body)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown_session")


async def test_pair_answers_with_the_session(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/sessions/new/pair")
    assert (answer.status_code, answer.json()["state"]) == (200, "pairing")


@pytest.mark.parametrize(("scopes", "status"), [("read", 403), ("operate", 200)])
async def test_codes_that_link_a_phone_are_not_for_those_who_only_read(
    fleet: FakeFleet, scopes: str, status: int
) -> None:
    async with a_client(fleet) as own:
        await own.post("/api/sessions", json={"id": "new"})
    async with a_client(fleet, f"a-token-of-somebody:{scopes}") as client:
        answer = await client.get("/api/new/auth/qr?format=raw")
        assert answer.status_code == status
        assert ("2@ref" in answer.text) is (status == 200)


@pytest.mark.parametrize("may_operate", [False, True])
def test_an_event_with_a_qr_code_comes_without_it_to_those_who_only_read(may_operate: bool) -> None:
    change = StatusEvent("session.qr", "new", 1_700_000_000_000, a_view("new"), {"qr": "2@ref", "left": 5})
    payload = payload_of(change, with_detail=may_operate)
    assert (payload["left"], "qr" in payload) == (5, may_operate)
