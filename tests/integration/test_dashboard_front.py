"""What stands before the admin API: files without a token, everything else behind the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from runner.admin.api import application
from runner.admin.guard import PEER, Access
from runner.admin.guesses import Guesses
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
WRONG = Guesses().each


class Stranger:
    """A browser of another user, before a dashboard whose clock is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.access = Access(TOKENS, own_uid=OWN_UID, clock=lambda: self.now)
        self.fleet = FakeFleet(a_view("desk-1"), a_view("desk-2", State.BACKOFF, "pong_deadline"))
        self.front = Front(application(a_backend(self.fleet), self.access), self.access)
        self.peer = Peer("tcp", OWN_UID + 1)
        self.transport = transport = httpx2.ASGITransport(self._known)  # type: ignore[arg-type]
        self.http = httpx2.AsyncClient(transport=transport, base_url=ORIGIN)

    async def _known(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = self.peer
        await self.front(scope, receive, send)

    async def sign_in(self, token: str = TOKEN, origin: str = ORIGIN) -> httpx2.Response:
        return await self.http.post(f"{origin}/login", json={"token": token}, headers={"origin": origin})


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


async def test_guessing_at_the_sign_in_and_in_a_header_are_one_guessing(stranger: Stranger) -> None:
    for number in range(WRONG.number - 1):
        assert (await stranger.sign_in(f"no-such-token-{number}")).status_code == 401
    headers = {"x-api-key": "no-such-token-in-a-header"}
    assert (await stranger.http.get("/api/caller", headers=headers)).status_code == 401
    refused = await stranger.sign_in(TOKEN)
    assert (refused.status_code, refused.json()["error"]) == (429, "too_many_wrong_tokens")
    assert refused.headers["retry-after"] == str(round(WRONG.every_s))
    assert "set-cookie" not in refused.headers
    assert (await stranger.http.get("/")).status_code == 200
    stranger.now += WRONG.every_s
    assert (await stranger.sign_in(TOKEN)).status_code == 200


async def test_who_signed_in_goes_on_while_somebody_of_his_guesses(stranger: Stranger) -> None:
    """A cookie is no token: 256 random bits need no limit, and an old one after a restart is no guess."""
    await stranger.sign_in()
    for number in range(WRONG.number + 1):
        await stranger.http.get("/api/caller", headers={"x-api-key": f"no-such-token-{number}"})
    assert (await stranger.http.get("/api/caller")).status_code == 200
    for _ in range(WRONG.number + 1):
        await stranger.http.get("/api/caller", headers={"cookie": "runner_session_4001=of-another-life"})
    assert stranger.access.guesses.wrong_total == WRONG.number


async def test_runners_on_two_ports_do_not_sign_each_other_out() -> None:
    """A browser keeps cookies by host, whatever the port: both get both."""
    one, two = Stranger(), Stranger()
    jar = one.http.cookies
    second = httpx2.AsyncClient(transport=two.transport, base_url="http://localhost:4002", cookies=jar)
    async with one.http, second:
        for it, client, port in ((one, one.http, 4001), (two, second, 4002)):
            it.http = client
            assert (await it.sign_in(origin=f"http://localhost:{port}")).status_code == 200
            jar.update(client.cookies)
            client.cookies = jar
        assert {it.name for it in jar.jar} == {"runner_session_4001", "runner_session_4002"}
        assert (await one.http.get("/api/caller")).status_code == 200
        assert (await second.get("/api/caller")).status_code == 200
        await one.http.post("/logout", headers={"origin": ORIGIN})
        assert (await one.http.get("/api/caller")).status_code == 401
        assert (await second.get("/api/caller")).status_code == 200


async def test_a_cookie_is_of_no_use_to_another_user_of_this_machine(stranger: Stranger) -> None:
    """A browser sends it to every port of the host, so to a server of theirs as well."""
    await stranger.sign_in()
    owner, stranger.peer = stranger.peer, Peer("tcp", OWN_UID + 2)
    assert (await stranger.http.get("/api/caller")).status_code == 401
    cookie = stranger.http.cookies["runner_session_4001"]
    await stranger.http.post("/logout", headers={"origin": ORIGIN, "cookie": f"runner_session_4001={cookie}"})
    stranger.peer = owner
    answer = await stranger.http.get("/api/caller", headers={"cookie": f"runner_session_4001={cookie}"})
    assert answer.status_code == 200


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
    signed_in = front._cookies.sign_in(TOKENS.digest(TOKEN), None, trio.current_time())
    headers = [(b"host", b"localhost"), (b"cookie", f"a=b; runner_session={signed_in}".encode())]
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
    signed_in = front._cookies.sign_in(TOKENS.digest(TOKEN), None, trio.current_time())
    headers = [(b"cookie", f"runner_session={signed_in}".encode())]
    begin = trio.current_time()
    await front({"type": "websocket", "path": "/ws", "headers": headers}, trio.sleep_forever, trio.sleep)  # type: ignore[arg-type]
    assert trio.current_time() - begin == pytest.approx(LIFETIME_S)
    assert got[0]["code"] == 1008


def test_browsers_are_bounded_and_the_oldest_goes() -> None:
    known = Cookies()
    digest = TOKENS.digest(TOKEN)
    first = known.sign_in(digest, None, 0.0)
    last = [known.sign_in(digest, None, 1.0) for _ in range(MOST_BROWSERS)][-1]
    assert known.browser(first, None, 2.0) is None
    assert known.browser(last, None, 2.0) is not None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", None),
        ("x=y", None),
        ("runner_session_4001=", None),
        ("runner_session=abc; runner_session_4002=def", None),
        ("x=y;runner_session_4001=abc ; z=1", "abc"),
    ],
)
def test_our_cookie_is_found_among_others(header: str, found: str | None) -> None:
    assert cookies.presented({"host": "localhost:4001", "cookie": header}) == found


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:4001", "runner_session_4001"),
        ("[::1]:4001", "runner_session_4001"),
        ("[::1]", "runner_session"),
        ("ops.example", "runner_session"),
        ("localhost:" + "9" * 5000, "runner_session"),
        ("localhost:\u00b2", "runner_session"),
    ],
)
def test_the_cookie_is_called_after_the_port_that_the_browser_sees(host: str, name: str) -> None:
    assert cookies.name_at(host) == name


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
