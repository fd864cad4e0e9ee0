"""The door of the admin API: each rule, and that it bites."""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.admin.guard import Access, admit, needed_scope
from runner.admin.guesses import Guesses
from runner.admin.peer import Peer
from runner.admin.tokens import load_or_create, parse
from runner.errors import AdminError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

OWN, STRANGER = 1000, 1001
TOKENS = parse("everything-token-x,reading-token-xx:read,operating-token-x:operate,sending-token-xx:send")
LOOPBACK = Access(TOKENS, is_loopback=True, own_uid=OWN, hosts=frozenset({"runner.internal"}))
OPEN = Access(TOKENS, is_loopback=False, own_uid=OWN)
LOCAL = {"host": "localhost:4001"}
WRONG = Guesses().each


def admitted(
    peer: Peer, method: str, headers: dict[str, str], access: Access, now: float = 0.0
) -> frozenset[str]:
    """What the door says to the first call of a caller."""
    return admit(peer, method, headers, replace(access, guesses=Guesses()), now=now)


def refusal(
    peer: Peer, headers: dict[str, str], access: Access = LOOPBACK, method: str = "GET"
) -> tuple[int, str]:
    with pytest.raises(AdminError) as caught:
        admitted(peer, method, headers, access)
    return caught.value.status, caught.value.error


@pytest.mark.parametrize("uid", [OWN, 0])
def test_the_runners_user_and_root_pass_without_a_token(uid: int) -> None:
    assert admitted(Peer("tcp", uid), "POST", LOCAL, LOOPBACK) == {"read", "operate", "send", "admin"}
    assert admitted(Peer("unix", uid), "POST", {}, LOOPBACK) == {"read", "operate", "send", "admin"}


@pytest.mark.parametrize("uid", [STRANGER, None])
def test_others_need_a_token_on_loopback(uid: int | None) -> None:
    assert refusal(Peer("tcp", uid), LOCAL) == (401, "token_missing")


def test_everybody_needs_a_token_on_an_open_bind() -> None:
    assert refusal(Peer("tcp", OWN), LOCAL, OPEN) == (401, "token_missing")
    assert refusal(Peer("tcp", 0), LOCAL, OPEN) == (401, "token_missing")


@pytest.mark.parametrize("uid", [STRANGER, None])
def test_a_stranger_is_refused_on_the_unix_socket_even_with_a_token(uid: int | None) -> None:
    assert refusal(Peer("unix", uid), {"x-api-key": "everything-token-x"}) == (403, "peer_refused")


@pytest.mark.parametrize(
    "header",
    [
        {"x-api-key": "everything-token-x"},
        {"authorization": "Bearer everything-token-x"},
        {"authorization": "bearer everything-token-x"},
    ],
)
def test_a_token_opens_the_door(header: dict[str, str]) -> None:
    assert admitted(Peer("tcp", STRANGER), "GET", LOCAL | header, LOOPBACK) == {
        "read",
        "operate",
        "send",
        "admin",
    }
    assert admitted(Peer("tcp", None), "GET", LOCAL | header, OPEN) == {"read", "operate", "send", "admin"}


def test_a_wrong_token_is_refused_even_from_the_runners_user() -> None:
    assert refusal(Peer("tcp", OWN), LOCAL | {"x-api-key": "everything-token-y"}) == (401, "token_wrong")
    assert refusal(Peer("tcp", OWN), LOCAL | {"authorization": "Bearer "}) == (401, "token_wrong")


def guess(access: Access, peer: Peer, token: str, now: float) -> tuple[int, str, str | None]:
    """Status, slug and Retry-After; 200 for one that is let in."""
    try:
        admit(peer, "GET", LOCAL | {"x-api-key": token}, access, now=now)
    except AdminError as error:
        return error.status, error.error, error.headers.get("retry-after")
    return 200, "", None


def test_after_too_many_wrong_tokens_even_the_right_one_is_not_looked_at() -> None:
    """Else guessing would go on: the one answer that differs is all that a guesser wants."""
    access = Access(TOKENS, own_uid=OWN)
    guesser = Peer("tcp", STRANGER)
    wrong = [guess(access, guesser, f"wrong-token-{n:05}", 50.0) for n in range(WRONG.number)]
    assert wrong == [(401, "token_wrong", None)] * WRONG.number
    told = (429, "too_many_wrong_tokens", str(round(WRONG.every_s)))
    assert guess(access, guesser, "wrong-token-xxxxx", 50.0) == told
    assert guess(access, guesser, "everything-token-x", 50.0) == told
    assert guess(access, guesser, "everything-token-x", 50.0 + WRONG.every_s)[0] == 200
    assert (access.guesses.wrong_total, access.guesses.refused_total) == (WRONG.number, 2)


def test_what_one_guesses_holds_up_nobody_else() -> None:
    access = Access(TOKENS, own_uid=OWN)
    for n in range(WRONG.number + 5):
        guess(access, Peer("tcp", STRANGER), f"wrong-token-{n:05}", 50.0)
    assert guess(access, Peer("tcp", STRANGER + 1), "everything-token-x", 50.0)[0] == 200
    assert guess(access, Peer("tcp", address="10.0.0.7"), "everything-token-x", 50.0)[0] == 200
    assert admit(Peer("tcp", OWN), "POST", LOCAL, access, now=50.0), "the runner's user needs no token"


def test_a_call_without_a_token_costs_nothing() -> None:
    access = Access(TOKENS, own_uid=OWN)
    for _ in range(100):
        with pytest.raises(AdminError, match="needs a token"):
            admit(Peer("tcp", STRANGER), "GET", LOCAL, access, now=50.0)
    assert guess(access, Peer("tcp", STRANGER), "everything-token-x", 50.0)[0] == 200


@pytest.mark.parametrize(
    ("token", "scopes"),
    [
        ("reading-token-xx", {"read"}),
        ("operating-token-x", {"operate", "read"}),
        ("sending-token-xx", {"send"}),
    ],
)
def test_a_token_has_the_scopes_it_was_given(token: str, scopes: set[str]) -> None:
    assert admitted(Peer("tcp"), "GET", LOCAL | {"x-api-key": token}, LOOPBACK) == scopes


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:4001",
        "127.0.0.1:4001",
        "[::1]:4001",
        "10.0.0.7",
        "runner.internal:4001",
        "a.localhost",
    ],
)
def test_a_host_header_that_names_this_machine_is_taken(host: str) -> None:
    assert admitted(Peer("tcp", OWN), "GET", {"host": host}, LOOPBACK)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "evil.example:4001", "127.0.0.1.evil.example"]
)
def test_a_rebound_name_is_refused(host: str) -> None:
    """A page that points its own name at 127.0.0.1 sends that name as Host."""
    assert refusal(Peer("tcp", OWN), {"host": host}) == (403, "host_refused")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "WEBSOCKET"])
def test_calls_from_another_page_are_refused(headers: dict[str, str], method: str) -> None:
    assert refusal(Peer("tcp", OWN), LOCAL | headers, method=method) == (403, "cross_origin")


def test_calls_from_our_own_page_and_by_hand_are_taken() -> None:
    own = LOCAL | {"origin": "http://localhost:4001", "sec-fetch-site": "same-origin"}
    assert admitted(Peer("tcp", OWN), "POST", own, LOOPBACK)
    assert admitted(Peer("tcp", OWN), "GET", LOCAL | {"sec-fetch-site": "none"}, LOOPBACK)


def test_a_change_by_hand_in_the_address_bar_is_refused() -> None:
    assert refusal(Peer("tcp", OWN), LOCAL | {"sec-fetch-site": "none"}, method="POST") == (
        403,
        "cross_origin",
    )


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/api/sessions/a/export", "admin"),
        ("POST", "/api/sessions/a/export/", "admin"),
        ("POST", "/api/backup", "admin"),
        ("GET", "/metrics", "read"),
        ("WEBSOCKET", "/ws", "read"),
        ("POST", "/force-reconnection/x", "operate"),
        ("POST", "/api/sessions/x/stop", "operate"),
        ("POST", "/api/sessions/x/logout", "admin"),
        ("POST", "/api/sessions", "admin"),
        ("POST", "/api/sessions/", "admin"),
        ("POST", "/api/sessions/batch", "admin"),
        ("DELETE", "/api/sessions/x", "admin"),
        ("POST", "/api/alerts/al_1/ack", "operate"),
        ("POST", "/api/alerts/silences", "operate"),
        ("DELETE", "/api/alerts/silences/sil_1", "operate"),
        ("DELETE", "/api/alerts/al_1", "admin"),
        ("PUT", "/whatever", "admin"),
        ("POST", "/api/restart", "admin"),
        ("POST", "/api/sendText", "send"),
        ("GET", "/api/webhooks", "read"),
        ("POST", "/api/webhooks", "admin"),
        ("PUT", "/api/webhooks/wh_1", "admin"),
        ("DELETE", "/api/webhooks/wh_1", "admin"),
        ("POST", "/api/webhooks/wh_1/test", "operate"),
        ("POST", "/api/dead-letters/redrive", "operate"),
        ("POST", "/api/dead-letters/drop", "admin"),
        ("POST", "/api/sessions/x/restart", "operate"),
    ],
)
def test_each_route_needs_its_scope(method: str, path: str, scope: str) -> None:
    assert needed_scope(method, path) == scope


def test_a_token_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    made = load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text().strip()
    assert len(token) > 40
    assert made.scopes(token) == {"read", "operate", "send", "admin"}
    assert load_or_create(path).scopes(token) is not None
    assert made.scopes(token[:-1]) is None


def test_a_full_disk_leaves_no_empty_token_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "admin.token"
    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_urlsafe", is_full)  # as if its writing failed
        with pytest.raises(
            ConfigError, match=r"admin\.token cannot be read or made: No space left on device"
        ):
            load_or_create(path)
    assert list(tmp_path.iterdir()) == []
    assert load_or_create(path).scopes(path.read_text().strip()) is not None


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        load_or_create(path)


@pytest.mark.parametrize("content", ["", "\n", "short"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admin.token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no usable token"):
        load_or_create(path)
