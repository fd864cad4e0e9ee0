"""The loop over a supervisor in virtual time: each fault of the fleet is one alert and one recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from runner.alerts.engine import Transition, What
from runner.alerts.facts import Facts
from runner.alerts.loop import Alerts
from runner.config import Settings
from runner.errors import AdminError
from runner.health import FleetFacts, Limits, judge
from support.fake_engine import FakeEvent, FakeServer, FakeStore
from support.world import World, names

if TYPE_CHECKING:
    from collections.abc import Callable


class Readings:
    def __init__(self) -> None:
        self.facts = Facts()

    async def watch_disk(self) -> None:
        return

    def read(self) -> Facts:
        return self.facts


class Channels:
    def __init__(self) -> None:
        self.told: list[Transition] = []

    async def run(self) -> None:
        return

    def tell(self, transition: Transition, _session: str | None) -> None:
        self.told.append(transition)


class Desk:
    def __init__(self, world: World) -> None:
        self.world = world
        self.readings, self.channels = Readings(), Channels()
        self.alerts = Alerts(world.machine, self.readings, self.channels, Settings())  # type: ignore[arg-type]

    async def run(self, seconds: int) -> None:
        """That many looks, a second apart."""
        for _ in range(seconds):
            self.world.run(1.0)
            await self.alerts.look()

    def told(self) -> list[tuple[str, str, str]]:
        return [
            (it.what.value.removeprefix("alert."), it.alert.alert, it.alert.about)
            for it in self.channels.told
        ]

    def shown(self) -> list[dict[str, Any]]:
        return list(self.alerts.active()["active"])  # type: ignore[call-overload]


async def a_desk(n: int, **options: object) -> Desk:
    desk = Desk(World(FakeStore(*names(n)), **options))  # type: ignore[arg-type]
    await desk.run(40)
    assert desk.told() == []
    return desk


def raised(kind: str, key: str = "") -> Callable[[Desk], None]:
    return lambda desk: desk.world.machine.raise_incident(kind, key, "critical", "as injected")


def ended(kind: str, key: str = "") -> Callable[[Desk], None]:
    return lambda desk: desk.world.machine.end_incident(kind, key)


def health_says(**facts: float) -> Callable[[Desk], None]:
    def look(desk: Desk) -> None:
        for kind, told in judge(FleetFacts(**facts), (), Limits()).incidents.items():  # type: ignore[arg-type]
            desk.world.machine.raise_incident(kind, "", *told)

    return look


FAULTS: dict[str, tuple[str, Callable[[Desk], None], Callable[[Desk], None]]] = {
    "disk full": ("disk_full", health_says(disk_full=True, store_age_s=60.0), ended("disk_full")),
    "store lag": ("store_lag", health_says(store_age_s=9.0), ended("store_lag")),
    "engine lag": ("engine_lag", health_says(engine_lag_s=3.0), ended("engine_lag")),
    "engine dead": ("engine_lag", health_says(heartbeat_age_s=30.0), ended("engine_lag")),
    "loop lag": ("event_loop_lag", health_says(loop_lag_s=5.0), ended("event_loop_lag")),
    "deaf fleet": ("deaf_fleet", raised("deaf_fleet"), ended("deaf_fleet")),
    "store stalled": ("store_stalled", raised("store_stalled"), ended("store_stalled")),
    "fd limit": ("fd_limit", raised("fd_limit"), ended("fd_limit")),
    "stuck close": ("stuck_close", raised("stuck_close", "s0001"), ended("stuck_close", "s0001")),
    "fleet logout": ("fleet_logout", raised("fleet_logout"), ended("fleet_logout")),
    "session fault": ("session_fault", raised("session_fault"), ended("session_fault")),
    "memory limit": ("memory_limit", raised("memory_limit"), ended("memory_limit")),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_one_alert_and_one_recovery(fault: str) -> None:
    alert, begin, end = FAULTS[fault]
    desk = await a_desk(6)
    begin(desk)
    await desk.run(30)
    assert [it[:2] for it in desk.told()] == [("firing", alert)]
    end(desk)
    await desk.run(300)
    assert [it[:2] for it in desk.told()] == [("firing", alert), ("resolved", alert)]
    assert desk.shown() == []


async def test_a_full_disk_is_told_as_one_from_the_first_failed_commit_on() -> None:
    """Health sees it at its next look; the failed commit is heard of at once, and must not be told first."""
    desk = await a_desk(6)
    desk.world.store.fake_health.disk_full = True
    desk.world.engine.emit(FakeEvent("store", healthy=False, detail="disk_full: sqlite: disk is full"))
    await desk.run(10)
    assert desk.told() == [("firing", "disk_full", "")]
    assert {it["alert"]: it["suppressedBy"] for it in desk.shown()} == {
        "disk_full": None,
        "store_stalled": "disk_full",
    }
    desk.world.store.fake_health.disk_full = False
    desk.world.engine.emit(FakeEvent("store", healthy=True))
    await desk.run(200)
    assert desk.told() == [("firing", "disk_full", ""), ("resolved", "disk_full", "")]


async def test_a_process_that_stood_still_is_one_alert() -> None:
    """Its Python thread and its I/O thread were late together: a paused machine is one fault."""
    desk = await a_desk(6)
    health_says(loop_lag_s=8.0, engine_lag_s=7.0)(desk)
    await desk.run(10)
    ended("event_loop_lag")(desk)
    await desk.run(30)
    ended("engine_lag")(desk)
    await desk.run(200)
    assert desk.told() == [("firing", "engine_lag", ""), ("resolved", "engine_lag", "")]


async def test_an_incident_between_two_looks_is_told_too() -> None:
    desk = await a_desk(3)
    raised("path_outage", "a path")(desk)
    ended("path_outage", "a path")(desk)
    await desk.run(5)
    assert desk.told() == [("firing", "path_outage", "a path"), ("resolved", "path_outage", "a path")]


@pytest.mark.pain(25)
async def test_a_path_outage_hides_its_thousand_sessions() -> None:
    server = FakeServer()
    desk = await a_desk(1000, server=server)
    server.refuses = True
    desk.world.engine.drop_all()
    await desk.run(300)
    assert [it[:2] for it in desk.told()] == [("firing", "path_outage")]
    hidden = [it for it in desk.shown() if it["suppressedBy"] == "path_outage"]
    assert [(it["alert"], it["value"] > 900) for it in hidden] == [("session_offline", True)]
    assert desk.alerts.active()["counts"] == {"critical": 1, "warning": 0, "acknowledged": 0, "silenced": 0}
    server.refuses = False
    await desk.run(400)
    assert [it[:2] for it in desk.told()] == [("firing", "path_outage"), ("resolved", "path_outage")]
    assert desk.shown() == []


async def test_more_sessions_than_descriptors_are_one_alert() -> None:
    desk = Desk(World(FakeStore(*names(20)), fd_capacity=10))
    await desk.run(200)
    assert desk.told() == [("firing", "fd_limit", "")]


async def test_a_session_that_cannot_come_back_is_told_after_two_minutes() -> None:
    server = FakeServer()
    desk = await a_desk(8, server=server)
    server.hung.add("s0003")
    desk.world.engine.drop("s0003")
    await desk.run(100)
    assert desk.told() == []
    await desk.run(60)
    assert desk.told() == [("firing", "session_offline", "s0003")]
    server.hung.clear()
    await desk.run(1500)
    assert desk.shown() == []


async def test_a_refused_certificate_is_one_alert_until_the_session_is_back() -> None:
    """However far apart its attempts are by then, and whatever else is true of a session that is away."""
    server = FakeServer(refusal="certificate_expired")
    desk = await a_desk(8, server=server)
    server.refused.add("s0003")
    desk.world.engine.drop("s0003")
    await desk.run(1500)
    assert desk.told() == [("firing", "certificate_trouble", "s0003")]
    server.refused.clear()
    desk.world.force("s0003")
    await desk.run(60)
    assert desk.told()[1:] == [("resolved", "certificate_trouble", "s0003")]


async def test_the_text_says_what_the_reason_means() -> None:
    desk = await a_desk(6)
    machine = desk.world.machine
    machine.park(machine.rows["s0001"], "stream_replaced")
    machine.park(machine.rows["s0002"], "a_reason_of_tomorrow")
    await desk.run(10)
    assert {it["about"]: it["text"] for it in desk.shown()} == {
        "s0001": "stream_replaced: another connection of this device took over",
        "s0002": "a_reason_of_tomorrow",
    }


async def test_a_removed_session_takes_its_alert_with_it() -> None:
    desk = await a_desk(3)
    machine = desk.world.machine
    machine.park(machine.rows["s0001"], "stream_replaced")
    await desk.run(10)
    assert desk.told() == [("firing", "session_parked", "s0001")]
    from runner.supervisor import commands

    row = machine.rows["s0001"]
    commands.stop(machine, row)
    desk.world.run(5.0)
    commands.forget(machine, row)
    await desk.run(2)
    assert desk.told()[-1] == ("resolved", "session_parked", "s0001")


async def test_memory_and_cpu_cross_their_thresholds_once() -> None:
    desk = await a_desk(1)
    desk.readings.facts = Facts(memory_ratio=0.85, cpu_ratio=0.95)
    await desk.run(100)
    assert desk.told() == [("firing", "memory_high", ""), ("firing", "cpu_high", "")]
    desk.readings.facts = Facts(memory_ratio=0.78, cpu_ratio=0.87)
    await desk.run(100)
    assert len(desk.told()) == 2, "inside the hysteresis"
    desk.readings.facts = Facts(memory_ratio=0.5, cpu_ratio=0.5)
    await desk.run(100)
    assert desk.told()[2:] == [("resolved", "memory_high", ""), ("resolved", "cpu_high", "")]


@pytest.mark.parametrize(
    ("fault", "facts"),
    [("session_fault", {"exceptions_total": 1}), ("event_loop_lag", {"events_dropped_total": 9})],
)
async def test_a_window_that_still_holds_a_fault_is_no_second_one(fault: str, facts: dict[str, int]) -> None:
    desk = await a_desk(3)
    raised(fault)(desk)
    desk.readings.facts = Facts(**facts)  # type: ignore[arg-type]
    await desk.run(30)
    ended(fault)(desk)
    await desk.run(600)
    assert desk.told() == [("firing", fault, ""), ("resolved", fault, "")]


async def test_what_operators_do_is_told_and_kept() -> None:
    desk = await a_desk(2)
    raised("disk_full")(desk)
    await desk.run(1)
    alert_id = desk.shown()[0]["id"]
    assert desk.alerts.acknowledge(alert_id, "ana", None)["acknowledgedBy"] == "ana"
    assert desk.channels.told[-1].what is What.ACKNOWLEDGED
    made = desk.alerts.silence("store_lag", None, 5, "")
    assert desk.alerts.silences() == [made]
    again = Desk(desk.world)
    again.alerts.restore(desk.world.store.meta())
    assert again.shown()[0]["acknowledgedBy"] == "ana"
    assert again.alerts.silences() == [made]
    again.alerts.unsilence(str(made["id"]))
    assert desk.alerts.resolve(alert_id)["resolvedAt"] is not None
    assert [it["id"] for it in desk.alerts.history(10, None)["alerts"]] == [alert_id]  # type: ignore[attr-defined]
    for call in (
        lambda: desk.alerts.acknowledge("al_none", "x", None),
        lambda: desk.alerts.resolve("al_none"),
        lambda: desk.alerts.unsilence("sil_none"),
        lambda: desk.alerts.history(10, "al_none"),
        lambda: desk.alerts.silence("no_such_alert", None, 5, ""),
    ):
        with pytest.raises(AdminError):
            call()


async def test_alerts_reach_the_feed_with_the_session_they_are_about() -> None:
    desk = await a_desk(2)
    channel = desk.world.machine.feed.subscribe(10)
    raised("stuck_close", "s0001")(desk)
    await desk.run(1)
    events = [channel.receive_nowait() for _ in range(2)]
    assert [(it.name, it.session_id) for it in events] == [("incident.opened", ""), ("alert.firing", "s0001")]
    assert events[1].data["alert"] == "stuck_close"


async def test_a_bug_in_a_look_ends_neither_the_loop_nor_the_runner(autojump_clock: object) -> None:
    desk = Desk(World(FakeStore("a")))
    looks = 0

    def read() -> Facts:
        nonlocal looks
        looks += 1
        raise ZeroDivisionError("a bug of ours")

    desk.readings.read = read  # type: ignore[method-assign]
    with trio.move_on_after(5.5):
        await desk.alerts.run()
    assert looks == 5
