"""Every way in which the reference server can end a connection, and what the policy makes of each.

One session for each fault, all against one server, so that no fault stands in another's history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interop.test_runner_refserver import Pair, make_credentials, pair, pytestmark  # noqa: F401
from support.pair import FAST_PINGS, log_lines
from support.processes import wait_until


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server does to one session, and what the runner must read, decide and show."""

    route: str
    body: dict[str, Any]
    reason: str
    decision: str
    state: str = "online"
    """Where the session is some seconds later: back, or what holds it."""
    code: int | None = None

    def __str__(self) -> str:
        return " ".join([self.route, *(f"{key}={value}" for key, value in self.body.items())])


def failure(code: int, reason: str, decision: str = "RetryAfter", state: str = "online") -> Fault:
    return Fault("/failure", {"reason": code}, f"failure_{reason}", decision, state, code)


def stream_error(code: int, reason: str, decision: str = "RetryAfter", state: str = "online") -> Fault:
    return Fault("/stream-error", {"code": code}, f"stream_{reason}", decision, state, code)


def child(tag: str, reason: str, decision: str = "RetryAfter", state: str = "online", **attrs: str) -> Fault:
    return Fault("/stream-error", {"child": tag, "childAttrs": attrs}, reason, decision, state)


FAULTS = [
    failure(400, "generic"),
    failure(401, "logged_out", "RetryAfter", "backoff"),  # one confirming login, after a minute
    failure(402, "temporary_ban", "Suspend", "suspended"),
    failure(403, "locked", "Park", "parked"),
    failure(406, "banned", "Park", "parked"),
    failure(409, "bad_user_agent", "Park", "parked"),
    failure(413, "cat_expired"),
    failure(414, "cat_invalid"),
    failure(415, "not_found"),
    failure(418, "client_unknown"),
    failure(429, "rate_limited", "Suspend"),
    failure(500, "internal_error"),
    failure(501, "experimental"),
    failure(503, "service_unavailable"),
    failure(599, "unknown"),
    stream_error(401, "unauthorized", "RetryAfter", "backoff"),
    stream_error(403, "forbidden", "Park", "parked"),
    stream_error(409, "conflict", "Park", "parked"),
    stream_error(413, "cat_expired"),
    stream_error(414, "cat_invalid"),
    stream_error(429, "rate_limited", "Suspend"),
    stream_error(440, "replaced_code", "Park", "parked"),
    stream_error(500, "internal_error"),
    stream_error(503, "service_unavailable"),
    stream_error(515, "restart_required", "RetryNow"),
    stream_error(516, "logged_out", "Park", "parked"),
    stream_error(599, "unknown"),
    child("conflict", "stream_replaced", "Park", "parked", type="replaced"),
    child("conflict", "stream_device_removed", "RetryAfter", "backoff", type="device_removed"),
    child("conflict", "stream_conflict_other", "Park", "parked", type="tea_time"),
    child("ack", "stream_unanswered_stanza", "RetryNow", **{"class": "message", "id": "X"}),
    child("xml-not-well-formed", "stream_bad_xml"),
    child("tea-time", "stream_unknown"),
    Fault("/close", {"code": 1000}, "websocket_closed", "RetryAfter", code=1000),
    Fault("/close", {"code": 1011}, "websocket_closed", "RetryAfter", code=1011),
    Fault("/close", {"hard": True}, "connection_", "RetryAfter"),
]
REFUSES_FORCE = {
    "failure_logged_out",
    "failure_temporary_ban",
    "failure_locked",
    "failure_banned",
    "stream_replaced",
    "stream_replaced_code",
}
SESSIONS = 80
"""So many that three unlinked ones are no mass logout."""
SETTINGS = {
    "WHATSAPP_RECONNECTION_BASE_DELAY": "200",
    "WHATSAPP_RECONNECTION_MAX_DELAY": "400",
    "WHATSAPP_CONNECT_RATE": "100",
}


@pytest.fixture
def eighty(tmp_path: Path) -> Iterator[Pair]:
    yield from pair(tmp_path, make_credentials(tmp_path, SESSIONS), SESSIONS, SETTINGS)


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Pair]:
    yield from pair(tmp_path, make_credentials(tmp_path, 5), 5, FAST_PINGS)


def users(both: Pair) -> list[str]:
    """The server's names of the sessions, in the order of ours (both count up)."""
    return sorted({s["user"] for s in both.control.get("/sessions")})


def endings(both: Pair) -> dict[str, dict[str, Any]]:
    """The first end that the runner logged of each session."""
    found: dict[str, dict[str, Any]] = {}
    for line in log_lines(both.runner, "session dropped: reconnect"):
        found.setdefault(line["session"], line)
    return found


@pytest.mark.pain(6, 12, 13, 17, 24)
def test_every_scripted_end_has_its_reason_its_decision_and_its_state(eighty: Pair) -> None:
    names = users(eighty)
    ids = sorted(row["id"] for row in eighty.runner.sessions())
    assert len(names) == len(ids) == SESSIONS
    victims = dict(zip(ids, FAULTS, strict=False))
    for user, fault in zip(names, FAULTS, strict=False):
        eighty.control.post(fault.route, user=user, **fault.body)
    wait_until(lambda: set(endings(eighty)) >= set(victims), 20.0, "an end of each")
    wrong = []
    for session_id, fault in victims.items():
        line = endings(eighty)[session_id]
        told = (line["reason"], line["code"], line["decision"])
        reason_fits = str(told[0]).startswith(fault.reason)  # a reset may show as a close
        if not reason_fits or (fault.code is not None and told[1] != fault.code) or told[2] != fault.decision:
            wrong.append(f"{fault}: {told}, wanted {(fault.reason, fault.code, fault.decision)}")
    assert not wrong, "\n".join(wrong)

    wanted = {session_id: fault.state for session_id, fault in victims.items()}

    def astray() -> dict[str, str]:
        states = {row["id"]: row["state"] for row in eighty.runner.sessions()}
        return {i: f"{victims[i]}: {states[i]}" for i in wanted if states[i] != wanted[i]}

    try:
        wait_until(lambda: not astray(), 20.0)
    except AssertionError:
        assert not astray()
    untouched = [row for row in eighty.runner.sessions() if row["id"] not in victims]
    assert {(row["state"], row["connection"]) for row in untouched} == {("online", 1)}
    for session_id, fault in victims.items():
        if fault.reason in REFUSES_FORCE:
            status, answer = eighty.runner.request("POST", f"/force-reconnection/{session_id}")
            assert (status, answer["reason"]) == (409, fault.reason)
    assert eighty.control.stats()["protocolErrors"] == 0


def test_late_answers_are_measured_and_end_nothing(few: Pair) -> None:
    user = users(few)[0]
    few.control.post("/delay", user=user, ms=250)
    session_id = min(row["id"] for row in few.runner.sessions())

    def row() -> dict[str, Any]:
        return next(row for row in few.runner.sessions() if row["id"] == session_id)

    wait_until(lambda: (row()["pongRttMs"] or 0) >= 250, 20.0, "a slow pong")
    assert (row()["state"], row()["connection"]) == ("online", 1)


@pytest.mark.pain(23)
def test_a_client_that_is_too_old_is_one_incident_and_one_rejected_login(few: Pair) -> None:
    """The reference server names no version, so the newest one known stays rejected: the fleet waits."""
    few.control.post("/login-policy", mode="failure", reason=405, count=1_000_000)
    before = few.control.stats()["connections"]
    few.control.post("/drop-all", hard=False)

    def told() -> list[str]:
        status = few.runner.request("GET", "/reconnection-status?limit=0")[1]
        return [incident["kind"] for incident in status["incidents"]]

    wait_until(lambda: "client_outdated" in told(), 20.0, "the incident")
    assert told().count("client_outdated") == 1
    assert few.control.stats()["connections"] - before <= 3
    few.control.post("/login-policy", mode="success")
