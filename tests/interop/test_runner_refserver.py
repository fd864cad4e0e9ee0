"""Our runner against a server built on real Baileys: not written for us, so it can disagree with us."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.sim import Simulator
from support.control import Control
from support.pair import FAST_PINGS
from support.processes import (
    ROOT,
    ReferenceServer,
    RunnerProcess,
    import_all,
    runner_environment,
    wait_until,
)
from support.signal_peers import missing

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(150),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two processes, and the server's control port."""

    runner: RunnerProcess
    server: ReferenceServer
    control: Control


def pair(
    directory: Path, credentials: Path, n: int, settings: dict[str, str], **server_options: bool
) -> Iterator[Pair]:
    """A runner with the devices of `credentials`, all online at the reference server."""
    with ReferenceServer(directory, **server_options) as server:
        env = runner_environment(directory, server, directory / "unused.sock")
        import_all(credentials, env)
        with RunnerProcess(directory, server, settings) as runner:
            runner.wait_ready(n, 60.0)
            yield Pair(runner, server, Control(server.control))
            assert runner.stop() == 0


def make_credentials(directory: Path, n: int) -> Path:
    """N directories as Baileys writes them."""
    with Simulator(sessions=n, directory=directory / "made") as made:
        return Path(made.credentials)


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def five(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Five sessions with fast keep-alives."""
    yield from pair(tmp_path, make_credentials(tmp_path, 5), 5, FAST_PINGS, tls=request.param)


def events_of(control: Control, kind: str) -> list[dict[str, Any]]:
    """The server's own account of what happened."""
    return [event for event in control.get("/events") if event["type"] == kind]


@pytest.mark.pain(17, 18)
def test_sessions_log_in_and_the_server_counts_their_keep_alives(five: Pair) -> None:
    stats = five.control.wait_stats(logins=5, pings=25)
    assert stats["protocolErrors"] == 0
    assert stats["connections"] == 5, "a session that dials twice is two sockets for one device"
    assert stats["iqByXmlns"]["encrypt"] >= 5
    assert stats["iqByXmlns"]["passive"] >= 5
    rows = five.runner.sessions()
    assert {row["state"] for row in rows} == {"online"}
    assert all(row["pongRttMs"] is not None for row in rows)


@pytest.mark.pain(6, 13, 17)
def test_every_scripted_end_is_followed_by_what_the_policy_says(five: Pair) -> None:
    """One fault after another on the same five sessions: back again, or left as the table says."""
    control, runner = five.control, five.runner
    for n, fault in enumerate(
        [
            ("/close", {"all": True}),
            ("/drop-all", {}),
            ("/stream-error", {"all": True, "code": 515}),
            ("/stream-error", {"all": True, "code": 503}),
        ],
        start=1,
    ):
        control.post(*fault)
        control.wait_stats(logins=5 * (n + 1), timeout_s=30)
        runner.wait_ready(5)
    assert control.stats()["protocolErrors"] == 0

    for row in runner.sessions():  # five ends in a few seconds are what the breaker is there for
        assert runner.request("POST", f"/reset-circuit-breaker/{row['id']}")[0] in (200, 202)
    victims = sorted({s["user"] for s in control.get("/sessions")})
    control.post("/stream-error", user=victims[0], child="conflict", childAttrs={"type": "replaced"})
    control.post("/failure", user=victims[1], reason=403)
    control.post("/login-policy", mode="failure", reason=402, count=1)
    control.post("/stream-error", user=victims[2], code=515)

    wanted = [
        "online",
        "online",
        "parked failure_locked",
        "parked stream_replaced",
        "suspended failure_temporary_ban",
    ]

    def outcome() -> list[str]:
        rows = runner.sessions()
        return sorted(r["state"] if r["state"] == "online" else f"{r['state']} {r['reason']}" for r in rows)

    try:
        wait_until(lambda: outcome() == wanted, 20.0)
    except AssertionError:
        assert outcome() == wanted  # says what stands there instead


@pytest.mark.pain(1, 15)
@pytest.mark.parametrize("level", ["app", "socket"])
def test_a_zombie_is_noticed_and_only_that_session_is_rebuilt(five: Pair, level: str) -> None:
    control = five.control
    control.wait_stats(logins=5, pings=5)
    victim = str(control.get("/sessions")[0]["user"])
    control.post("/silent", user=victim, on=True, level=level)
    control.wait_stats(logins=6, timeout_s=20)
    five.runner.wait_ready(5)
    logins = [event["user"] for event in events_of(control, "login")]
    assert sorted(logins) == sorted([*set(logins), victim]), "another session was rebuilt as well"


@pytest.mark.pain(16)
def test_an_endpoint_that_refuses_for_a_while_gets_everybody_back(five: Pair) -> None:
    control = five.control
    for mode in ("unlisten", "reset", "503"):
        before = control.stats()["logins"]
        control.post("/refuse", seconds=3, mode=mode)
        control.post("/drop-all")
        control.wait_stats(logins=before + 5, timeout_s=30)
        five.runner.wait_ready(5)


@pytest.mark.pain(7)
def test_a_forced_reconnect_is_a_new_connection_and_never_a_second_one(five: Pair) -> None:
    session = five.runner.sessions()[0]
    status, answer = five.runner.request("POST", f"/force-reconnection/{session['id']}")
    assert status == 202
    assert answer["connection"] == session["connection"] + 1
    row = five.runner.wait_state(session["id"], "online")
    five.control.wait_stats(logins=6)
    assert row["connection"] >= answer["connection"]
    open_users = [s["user"] for s in five.control.get("/sessions")]
    assert len(open_users) == len(set(open_users)) == 5


@pytest.mark.parametrize("ik_as_xx", [False, True], ids=["fallback", "as-xx"])
def test_a_server_that_refuses_to_resume_costs_no_session(tmp_path: Path, ik_as_xx: bool) -> None:
    """The second login tries IK: the server falls back, or answers as if nothing had been said."""
    credentials = make_credentials(tmp_path, 3)
    for both in pair(tmp_path, credentials, 3, {**FAST_PINGS, "WHATSAPP_IK": "on"}, ik_as_xx=ik_as_xx):
        both.control.post("/drop-all")
        both.control.wait_stats(logins=6, timeout_s=30)
        both.runner.wait_ready(3)
        assert {row["state"] for row in both.runner.sessions()} == {"online"}


def test_directories_made_by_real_baileys_are_imported_and_log_in(tmp_path: Path) -> None:
    made = tmp_path / "bots"
    for name in ("one", "two"):
        shutil.copytree(ROOT / "tests" / "vectors" / "baileys_auth" / name, made / name)
    for both in pair(tmp_path, made, 2, FAST_PINGS):
        both.control.wait_stats(logins=2, pings=2)
        assert sorted(row["id"] for row in both.runner.sessions()) == ["one", "two"]


@pytest.mark.slow
@pytest.mark.pain(16)
def test_five_hundred_sessions(tmp_path: Path) -> None:
    credentials = make_credentials(tmp_path, 500)
    for both in pair(tmp_path, credentials, 500, {}):
        stats = both.control.stats()
        assert stats["protocolErrors"] == 0
        assert stats["connections"] == 500


@pytest.mark.pain(18)
def test_a_new_session_is_linked_by_a_server_that_we_did_not_write(tmp_path: Path) -> None:
    with ReferenceServer(tmp_path) as server, RunnerProcess(tmp_path, server) as runner:
        control = Control(server.control)
        runner.wait_api()
        assert runner.request("POST", "/api/sessions", {"id": "shop"})[0] == 201
        status, shown = runner.request("GET", "/api/shop/auth/qr?format=raw", timeout_s=40.0)
        assert status == 200
        # Its word on signatures (`skeyOk`, `ok`) says little: Baileys' Curve.verify notices wrong forms only.
        (registered,) = events_of(control, "registration")
        assert registered["skeyOk"]
        jid, lid = "15550001111:7@s.whatsapp.net", "915550001111:7@lid"
        control.post("/pair", qr=shown["value"], jid=jid, lid=lid)
        assert runner.wait_state("shop", "online")["linked"]
        (paired,) = events_of(control, "paired")
        assert (paired["ok"], paired["jid"], paired["keyIndex"]) == (True, jid, "1")
        (login,) = events_of(control, "login")
        assert login["user"] == "15550001111"
        assert control.get("/stats")["protocolErrors"] == 0
        assert "15550001111" not in runner.output()
        assert runner.stop() == 0
