"""Supervisor, health and the real engine in this process: a blocked interpreter, and each deaf rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner import wire
from support.crashes import Refusing
from support.inside import Heard, block_the_interpreter, blocked, inside, refuse_inbox_rows
from support.pair import simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.inside import Inside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

PINGS = {"keepalive_min_s": 0.4, "keepalive_max_s": 0.6, "keepalive_second_s": 0.7, "dead_socket_s": 1.5}
DEAF = {
    "probe_interval_s": 0.5,
    "query_timeout_s": 0.6,
    "send_timeout_s": 0.6,
    "offline_timeout_s": 1.0,
    "stanza_answer_timeout_s": 0.6,
}
VICTIM = "sim-00007"


@pytest.fixture
async def deaf_fleet(tmp_path: Path) -> AsyncIterator[Inside]:
    with simulated(tmp_path, 40) as simulator:
        async with inside(tmp_path, simulator, health_s=0.2, **PINGS, **DEAF) as it:
            yield it


@pytest.mark.pain(14)
async def test_a_blocked_interpreter_costs_no_connection_no_ping_and_no_answer(tmp_path: Path) -> None:
    with simulated(tmp_path, 50) as simulator:
        async with inside(tmp_path, simulator, health_s=1.0, **PINGS) as it:
            figures = await blocked(it, 5.0, 4.0, 0.6)
            assert figures["pings"] >= 50 * 5


async def only_the_victim_is_rebuilt(it: Inside, heard: Heard, probe: str, connection: int) -> None:
    """The victim shows this probe and no other and gets one new connection; nobody else shows or gets any."""
    before = it.connections()
    await heard.until(lambda: it.connections()[VICTIM] == connection and it.are_online(), 20.0)
    assert heard.degraded() == {(VICTIM, probe)}
    assert heard.incidents() == []
    assert it.health.rebuilt_total == 1
    assert it.connections() == before | {VICTIM: connection}
    assert it.control.stats()["duplicates"] == 0


@pytest.mark.pain(1, 15)
async def test_requests_that_stay_unanswered_rebuild_their_session(deaf_fleet: Inside) -> None:
    heard = Heard(deaf_fleet)
    deaf_fleet.control.post("/shape", user=deaf_fleet.users[VICTIM], mute=["encrypt"])
    await only_the_victim_is_rebuilt(deaf_fleet, heard, "iq_unanswered", 2)


@pytest.mark.pain(1)
async def test_a_send_without_an_ack_rebuilds_its_session(deaf_fleet: Inside) -> None:
    heard = Heard(deaf_fleet)
    deaf_fleet.control.post("/shape", users=list(deaf_fleet.users.values()), muteAcks=True)
    node = wire.Node("message", {"id": "M1", "to": "15550009999@s.whatsapp.net", "type": "text"}, None)
    deaf_fleet.engine.send(VICTIM, 1, wire.encode_node(node))
    await only_the_victim_is_rebuilt(deaf_fleet, heard, "send_unacked", 2)


@pytest.mark.pain(1)
async def test_a_login_whose_backlog_does_not_end_rebuilds_its_session(deaf_fleet: Inside) -> None:
    heard = Heard(deaf_fleet)
    deaf_fleet.control.post("/shape", user=deaf_fleet.users[VICTIM], muteOffline=True, next=True)
    assert deaf_fleet.supervisor.reconnect(VICTIM) == 2
    await heard.until(lambda: deaf_fleet.connections()[VICTIM] == 2 and deaf_fleet.are_online(), 10.0)
    await heard.until(lambda: heard.degraded() == {(VICTIM, "offline_missing")}, 10.0)
    deaf_fleet.control.post("/shape", user=deaf_fleet.users[VICTIM], muteOffline=False, next=True)
    await only_the_victim_is_rebuilt(deaf_fleet, heard, "offline_missing", 3)


@pytest.mark.pain(1, 20)
async def test_a_message_that_cannot_be_kept_costs_its_session_one_connection_and_nobody_else(
    tmp_path: Path,
) -> None:
    """It never comes to a verdict: the store says when it is well, and what was lost is fetched again."""
    with simulated(tmp_path, 40) as simulator:
        refuse_inbox_rows(tmp_path, VICTIM)
        async with inside(tmp_path, simulator, health_s=0.2, **PINGS, stanza_answer_timeout_s=3.0) as it:
            it.control.post("/config", redeliver=False)
            heard = Heard(it)
            before = it.connections()
            it.control.post("/push", user=it.users[VICTIM], template="message")
            await heard.until(lambda: it.connections()[VICTIM] == 2 and it.are_online(), 20.0)
            assert heard.incidents() == ["store_stalled"]
            assert heard.degraded() == set()
            assert it.connections() == before | {VICTIM: 2}
            assert it.health.rebuilt_total == 0
            others = [user for session_id, user in it.users.items() if session_id != VICTIM]
            it.control.post("/push", users=others, template="message")
            it.control.wait_stats(acks=len(others))
            assert it.supervisor.incidents() == ()


@pytest.mark.pain(1, 15, 25)
async def test_a_store_that_cannot_write_makes_all_look_deaf_and_all_come_back_when_it_can(
    tmp_path: Path,
) -> None:
    with simulated(tmp_path, 40) as simulator:
        fault = Refusing(tmp_path)
        async with inside(tmp_path, simulator, health_s=0.2, **PINGS, stanza_answer_timeout_s=0.6) as it:
            heard = Heard(it)
            fault.begin()
            it.control.post("/push", all=True, template="message")
            await heard.until(lambda: len(heard.degraded()) == 40 and len(heard.incidents()) == 2, 20.0)
            assert set(heard.incidents()) == {"store_stalled", "deaf_fleet"}
            it.health.look()
            it.health.look()
            assert (set(it.connections().values()), it.health.rebuilt_total) == ({1}, 0)
            acks = it.control.stats()["acks"]
            fault.end()
            await heard.until(lambda: set(it.connections().values()) == {2} and it.are_online(), 20.0)
            await heard.until(lambda: it.supervisor.incidents() == (), 5.0)
            it.control.wait_stats(acks=acks + 40)
            assert it.health.rebuilt_total == 0
            assert {view.breaker.state for view in it.supervisor.rows()} == {"closed"}
            assert {view.attempt for view in it.supervisor.rows()} == {0}


@pytest.mark.pain(1, 15, 25)
async def test_a_tenth_of_the_fleet_deaf_is_one_alert_and_nothing_is_rebuilt(deaf_fleet: Inside) -> None:
    heard = Heard(deaf_fleet)
    sick = sorted(deaf_fleet.users)[:4]
    looks = deaf_fleet.health.report.looks_total
    # They have to be deaf in the same look: two are two sessions, four of forty are our own fault.
    deaf_fleet.health.interval_s = 3600.0
    deaf_fleet.control.post("/shape", users=[deaf_fleet.users[it] for it in sick], mute=["encrypt"])
    await heard.until(lambda: len(heard.degraded()) == 4, 20.0)
    deaf_fleet.health.look()
    deaf_fleet.health.look()
    assert deaf_fleet.health.report.looks_total >= looks + 2
    await heard.until(lambda: heard.incidents() == ["deaf_fleet"], 5.0)
    assert heard.degraded() == {(it, "iq_unanswered") for it in sick}
    assert deaf_fleet.health.rebuilt_total == 0
    assert set(deaf_fleet.connections().values()) == {1}


def test_the_block_holds_the_interpreter_and_not_only_its_thread() -> None:
    import threading
    import time

    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    block_the_interpreter(0.3)
    ended = time.monotonic()
    stop.set()
    thread.join()
    assert ended - began >= 0.3
    assert not [t for t in ticks if began + 0.02 < t < ended - 0.02]
