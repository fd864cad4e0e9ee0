"""What stands before the admin API: files without a token, everything else behind the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from runner.admin.api import application
from runner.admin.guard import PEER, Access
from runner.admin.peer import Peer
from runner.admin.tokens import parse
from runner.dashboard import cookies
from runner.dashboard.cookies import LIFETIME_S, MOST_BROWSERS, Cookies
from runner.dashboard.front import MOST_BODY, Front
from runner.session import State
from support.fleet import FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN, READING = "everything-token-x", "reading-token-xx"
TOKENS = parse(f"{TOKEN},{READING}:read")
OWN_UID = 1000
ORIGIN = "http://localhost:4001"


class Stranger:
    """A browser of another user, before a dashboard whose clock is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.access = Access(TOKENS, own_uid=OWN_UID)
        self.fleet = FakeFleet(a_view("desk-1"), a_view("desk-2", State.BACKOFF, "pong_deadline"))
        self.front = Front(application(a_backend(self.fleet), self.access), self.access, lambda: self.now)
        self.peer = Peer("tcp", OWN_UID + 1)
        transport = httpx2.ASGITransport(self._known)  # type: ignore[arg-type]
        self.http = httpx2.AsyncClient(transport=transport, base_url=ORIGIN)

    async def _known(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = self.peer
        await self.front(scope, receive, send)

    async def sign_in(self, token: str = TOKEN) -> httpx2.Response:
        return await self.http.post("/login", json={"token": token}, headers={"origin": ORIGIN})


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    it = Stranger()
    async with it.http:
        yield it


async def test_only_the_page_and_its_files_are_free(stranger: Stranger) -> None:
    page = await stranger.http.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await stranger.http.head("/")).content == b""
    for path in (
        "/api/sessions",
        "/performance-metrics",
        "/api/caller",
        "/openapi.json",
        "/api/alerts",
        "/ws",
    ):
        assert (await stranger.http.get(path)).status_code == 401, path


async def test_a_file_that_is_not_there_is_told_as_everywhere(stranger: Stranger) -> None:
    answer = await stranger.http.get("/static/x/nothing.js")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_the_cookie_stands_for_the_token_and_is_not_it(stranger: Stranger) -> None:
    answer = await stranger.sign_in()
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert f"Max-Age={int(LIFETIME_S)}" in cookie
    assert TOKEN not in cookie
    assert "Secure" not in cookie
    assert (await stranger.http.get("/api/caller")).json() == {
        "scopes": ["admin", "operate", "read", "send"],
        "signedIn": True,
    }
    assert (await stranger.http.get("/api/sessions")).json()["total"] == 2


async def test_over_https_the_cookie_stays_on_https(stranger: Stranger) -> None:
    headers = {"origin": "https://localhost:4001"}
    answer = await stranger.http.post("/login", json={"token": TOKEN}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]


async def test_a_wrong_token_is_refused(stranger: Stranger) -> None:
    answer = await stranger.sign_in("no-such-token-here")
    assert (answer.status_code, answer.json()["error"]) == (401, "token_wrong")
    assert "set-cookie" not in answer.headers


async def test_the_scopes_of_the_token_hold(stranger: Stranger) -> None:
    await stranger.sign_in(READING)
    assert (await stranger.http.get("/api/sessions/desk-1")).status_code == 200
    answer = await stranger.http.post("/api/sessions/desk-1/stop", headers={"origin": ORIGIN})
    assert (answer.status_code, answer.json()["error"]) == (403, "scope_missing")
    assert not stranger.fleet.called


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": ORIGIN}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": ORIGIN}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
async def test_a_cookie_changes_something_only_from_our_own_page(
    stranger: Stranger, headers: dict[str, str], status: int
) -> None:
    await stranger.sign_in()
    answer = await stranger.http.post("/api/sessions/desk-1/stop", headers=headers)
    assert answer.status_code == status
    assert bool(stranger.fleet.called) is (status == 200)


@pytest.mark.parametrize("path", ["/login", "/logout"])
async def test_signing_in_and_out_is_only_for_our_own_page(stranger: Stranger, path: str) -> None:
    answer = await stranger.http.post(path, json={"token": TOKEN}, headers={"origin": "http://evil.example"})
    assert (answer.status_code, answer.json()["error"]) == (403, "cross_origin")


@pytest.mark.parametrize("path", ["/", "/login"])
async def test_a_name_that_is_not_ours_is_refused(stranger: Stranger, path: str) -> None:
    method = "GET" if path == "/" else "POST"
    answer = await stranger.http.request(method, path, headers={"host": "rebound.example"})
    assert (answer.status_code, answer.json()["error"]) == (403, "host_refused")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 422), (b'{"token": 5}', 422), (b'{"token":"x","more":1}', 422), (b"x" * (MOST_BODY + 1), 413)],
)
async def test_a_sign_in_of_another_form_is_refused(stranger: Stranger, body: bytes, status: int) -> None:
    assert (
        await stranger.http.post("/login", content=body, headers={"origin": ORIGIN})
    ).status_code == status


async def test_signing_out_ends_it_also_for_a_copy_of_the_cookie(stranger: Stranger) -> None:
    await stranger.sign_in()
    copied = dict(stranger.http.cookies)
    answer = await stranger.http.post("/logout", headers={"origin": ORIGIN})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    stranger.http.cookies.update(copied)
    assert (await stranger.http.get("/api/caller")).status_code == 401


async def test_a_sign_in_is_over_after_its_time(stranger: Stranger) -> None:
    await stranger.sign_in()
    stranger.now += LIFETIME_S - 1
    assert (await stranger.http.get("/api/caller")).status_code == 200
    stranger.now += 1
    assert (await stranger.http.get("/api/caller")).status_code == 401


async def test_a_token_that_is_taken_away_takes_its_browsers_with_it(stranger: Stranger) -> None:
    await stranger.sign_in(READING)
    stranger.access.tokens = parse(TOKEN)
    assert (await stranger.http.get("/api/caller")).status_code == 401


async def test_the_runners_own_user_needs_no_cookie(stranger: Stranger) -> None:
    stranger.peer = Peer("tcp", OWN_UID)
    answer = await stranger.http.get("/api/caller")
    assert (answer.status_code, answer.json()["signedIn"]) == (200, False)


async def test_a_token_in_a_header_counts_before_the_cookie(stranger: Stranger) -> None:
    await stranger.sign_in()
    answer = await stranger.http.get("/api/caller", headers={"x-api-key": READING})
    assert answer.json()["scopes"] == ["read"]


async def test_signing_out_ends_an_open_websocket() -> None:
    access = Access(TOKENS, own_uid=OWN_UID)
    got: list[Any] = []
    listening = trio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:  # noqa: ANN401
        listening.set()
        got.append(await receive())

    front = Front(app, access)
    signed_in = front._cookies.sign_in(TOKEN, TOKENS, trio.current_time())
    assert signed_in is not None
    headers = [(b"host", b"localhost"), (b"cookie", f"a=b; {cookies.NAME}={signed_in}".encode())]
    scope = {"type": "websocket", "path": "/ws", "headers": headers}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front, scope, trio.sleep_forever, trio.sleep)
            await listening.wait()
            front._cookies.sign_out(signed_in)
    assert got == [{"type": "websocket.disconnect", "code": 1008}]


async def test_an_open_websocket_ends_with_the_time_of_its_sign_in(autojump_clock: object) -> None:
    got: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:  # noqa: ANN401
        got.append(await receive())

    front = Front(app, Access(TOKENS, own_uid=OWN_UID))
    signed_in = front._cookies.sign_in(TOKEN, TOKENS, trio.current_time())
    headers = [(b"cookie", f"{cookies.NAME}={signed_in}".encode())]
    begin = trio.current_time()
    await front({"type": "websocket", "path": "/ws", "headers": headers}, trio.sleep_forever, trio.sleep)  # type: ignore[arg-type]
    assert trio.current_time() - begin == pytest.approx(LIFETIME_S)
    assert got[0]["code"] == 1008


def test_browsers_are_bounded_and_the_oldest_goes() -> None:
    known = Cookies()
    first = known.sign_in(TOKEN, TOKENS, 0.0)
    last = [known.sign_in(TOKEN, TOKENS, 1.0) for _ in range(MOST_BROWSERS)][-1]
    assert first is not None
    assert last is not None
    assert known.browser(first, 2.0) is None
    assert known.browser(last, 2.0) is not None


@pytest.mark.parametrize(
    ("header", "found"),
    [("", None), ("x=y", None), (f"{cookies.NAME}=", None), (f"x=y;{cookies.NAME}=abc ; z=1", "abc")],
)
def test_our_cookie_is_found_among_others(header: str, found: str | None) -> None:
    assert cookies.presented(header) == found


async def test_the_timeline_of_a_session(stranger: Stranger) -> None:
    from support.dashboard import a_past

    await stranger.sign_in()
    stranger.fleet.pasts["desk-1"] = a_past(1_700_000_000_000)
    body = (await stranger.http.get("/api/sessions/desk-1/timeline")).json()
    assert body["id"] == "desk-1"
    assert body["states"][-1] == {
        "at": 1_699_999_881_500,
        "state": "backoff",
        "reason": "tcp_refused",
        "code": 111,
        "connection": 2,
    }
    assert (await stranger.http.get("/api/sessions/nobody/timeline")).status_code == 404
