"""Sessions that no phone has linked yet: codes while somebody is there, and nothing at all afterwards."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from runner.alerts.sessions import condition_of
from runner.envelope import Me
from runner.errors import RateLimitedError, RefusedError, UnknownSessionError
from runner.phone_number import checked_phone
from runner.session import State
from runner.supervisor import Options, Supervisor, linking
from support.fake_engine import FakeEngine, FakeEvent, FakeServer, FakeStore
from support.world import ENDPOINT, FAST, PINNED, World, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("quiet_logs")

BUDGET_S = 160.0
"""What six QR codes last."""


def unlinked(*session_ids: str, server: FakeServer | None = None) -> World:
    store = FakeStore()
    for session_id in session_ids:
        store.create(session_id)
    return World(store, server=server)


def begin(world: World, session_id: str = "a") -> None:
    linking.begin(world.machine, world.machine.row(session_id))


@pytest.mark.pain(19)
def test_an_unlinked_session_waits_for_somebody_without_a_socket() -> None:
    world = unlinked("a")
    world.run(3600.0)
    assert (world.state(), world.view().reason, world.view().linked) == (State.PARKED, "not_linked", False)
    assert world.attempts() == 0


@pytest.mark.pain(19)
def test_codes_are_shown_for_their_time_and_then_the_session_is_parked_for_nothing() -> None:
    world = unlinked("a")
    begin(world)
    world.run(1.0)
    assert world.state() is State.PAIRING
    assert world.engine.opens[0].pair
    begin(world)  # asking again while they are shown changes nothing
    world.run(BUDGET_S - 2.0)
    assert (world.state(), world.attempts()) == (State.PAIRING, 1)
    world.run(3.0)
    assert (world.state(), world.view().reason) == (State.PARKED, "pairing_expired")
    world.run(3600.0)
    assert world.attempts() == 1
    assert not world.engine.online
    begin(world)
    world.run(1.0)
    assert (world.state(), world.attempts()) == (State.PAIRING, 2)


@pytest.mark.pain(19)
def test_five_hundred_unlinked_sessions_have_no_socket_after_their_budget() -> None:
    world = unlinked(*names(500))
    for session_id in names(500):
        begin(world, session_id)
    world.run(30.0)
    assert world.census() == {"pairing": 500}
    world.run(3600.0)
    assert world.census() == {"parked": 500}
    assert (world.attempts(), len(world.engine._connections)) == (500, 0)
    events, writes = world.engine._serial, world.store.writes
    world.run(3600.0)
    assert (world.engine._serial, world.store.writes) == (events, writes), "nothing happens any more"


def test_a_linked_session_logs_in_on_its_next_connection_at_once_and_as_new() -> None:
    world = unlinked("a")
    begin(world)
    world.run(10.0)
    assert world.machine.row("a").me is None
    world.engine.scan("a")
    world.run(1.0)
    view = world.view()
    assert (view.state, view.linked, view.attempt, view.connection) == (State.ONLINE, True, 0, 2)
    assert not world.engine.opens[1].pair
    assert world.machine.row("a").linking is None
    assert world.machine.row("a").me == Me("15550001111@c.us", None)
    world.store.unlinked.clear()  # as the engine's commit did
    assert world.restart().view().linked


def test_a_session_that_was_linked_by_a_process_that_died_logs_in_at_the_next_start() -> None:
    world = unlinked("a")
    begin(world)
    world.run(BUDGET_S + 10.0)
    assert world.view().reason == "pairing_expired"
    world.store.unlinked.clear()
    again = world.restart()
    again.run(2.0)
    assert again.state() is State.ONLINE


def test_a_restart_in_the_middle_of_pairing_dials_nothing_by_itself() -> None:
    world = unlinked("a", "b")
    begin(world)
    world.stop("b")
    world.run(10.0)
    again = world.restart()
    again.run(600.0)
    assert (again.state(), again.view().reason) == (State.PARKED, "not_linked")
    assert (again.state("b"), again.attempts()) == (State.STOPPED, 0)


def test_a_connection_that_breaks_while_somebody_is_there_is_made_anew_but_not_for_ever() -> None:
    world = unlinked("a")
    begin(world)
    world.run(10.0)
    world.engine.drop("a")
    world.run(30.0)
    assert (world.state(), world.attempts()) == (State.PAIRING, 2)
    world.server.refuses = True
    world.engine.drop("a")
    world.run(3600.0)
    assert (world.state(), world.view().reason) == (State.PARKED, "pairing_expired")
    assert not [at for at in world.dial_times() if at > world.machine.now() - 3600.0 + linking.BUDGET_S]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("pairing_invalid", None),
        ("failure_logged_out", 401),
        ("failure_temporary_ban", 402),
        ("failure_rate_limited", 429),
    ],
)
def test_a_server_that_refuses_a_new_device_is_not_asked_again(reason: str, code: int | None) -> None:
    world = unlinked("a", server=FakeServer(failures={"a": (reason, code, None)}))
    begin(world)
    world.run(3600.0)
    assert (world.state(), world.view().reason, world.attempts()) == (State.PARKED, reason, 1)
    assert not world.store.archived, "there is no device to archive"


def test_a_device_that_is_in_the_store_after_all_is_believed_and_judged_as_one() -> None:
    """The connection ended between the commit and its answer: the server does not know the device."""
    world = unlinked("a", server=FakeServer(failures={"a": ("failure_logged_out", 401, None)}))
    begin(world)
    world.run(0.01)
    world.engine.emit(FakeEvent("linked", "a", 1))
    world.run(600.0)
    assert (world.state(), world.view().linked) == (State.LOGGED_OUT, True)


def test_a_session_that_waits_for_its_phone_alerts_nobody_and_one_that_was_cheated_does() -> None:
    world = unlinked("a")

    def condition() -> str | None:
        found = condition_of(world.machine.row("a"), world.machine)
        return None if found is None else found.slug

    assert condition() is None
    begin(world)
    world.run(10.0)
    assert (world.state(), condition()) == (State.PAIRING, None)
    world.run(BUDGET_S)
    assert (world.view().reason, condition()) == ("pairing_expired", None)
    world.server.failures["a"] = ("pairing_invalid", None, None)
    begin(world)
    world.run(10.0)
    assert condition() == "session_parked"


def test_stop_ends_the_codes_and_start_shows_them_again() -> None:
    world = unlinked("a")
    begin(world)
    world.run(10.0)
    world.stop()
    world.run(10.0)
    assert (world.state(), world.engine.is_open("a")) == (State.STOPPED, False)
    begin(world)
    world.run(1.0)
    assert world.state() is State.PAIRING


def test_force_works_from_every_state_of_an_unlinked_session() -> None:
    world = unlinked("a")
    assert world.force() == 1
    world.run(10.0)
    assert world.state() is State.PAIRING
    assert world.force() == 2
    world.run(10.0)
    assert (world.state(), world.view().connection) == (State.PAIRING, 2)


def test_a_person_who_is_slow_is_no_session_that_hangs() -> None:
    world = unlinked("a")
    begin(world)
    world.run(150.0)
    row = world.machine.row("a")
    assert world.machine.overdue_s(row, world.now) == 0.0


def test_a_lost_end_of_a_pairing_connection_is_noticed() -> None:
    world = unlinked("a")
    world.engine.loses_closed.add("a")
    begin(world)
    world.run(BUDGET_S + 300.0)
    assert (world.state(), world.view().reason) == (State.PARKED, "pairing_expired")


def test_phone_numbers_are_read_as_people_write_them_and_never_repeated() -> None:
    assert checked_phone("+55 (11) 91234-5678") == 5511912345678
    for wrong in ["", "667", "0049 170 1234567", "+49170x", "1" * 16]:
        with pytest.raises(RefusedError) as refused:
            checked_phone(wrong)
        assert not wrong or wrong not in str(refused.value) + refused.value.remedy


# -- what waits ----------------------------------------------------------------------------------------------


class Desk:
    """A supervisor that runs, with a session `a` that no phone has linked, and one that is `linked`."""

    def __init__(self) -> None:
        self.engine = FakeEngine(trio.current_time)
        self.store = FakeStore("linked")
        self.store.create("a")
        options = Options(endpoint=ENDPOINT, client_version=PINNED)
        self.supervisor = Supervisor(self.engine, self.store, FAST, options)
        self.phones = self.supervisor.phones

    def state(self, session_id: str = "a") -> State | None:
        view = self.supervisor.view(session_id)
        return None if view is None else view.state


@asynccontextmanager
async def opened() -> AsyncIterator[Desk]:
    desk = Desk()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.engine.run)
            await nursery.start(desk.supervisor.run)
            yield desk
            nursery.cancel_scope.cancel()
    finally:
        desk.engine.release()


async def test_a_qr_code_is_waited_for_and_follows_the_one_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        with pytest.raises(RefusedError, match="is parked") as refused:
            await desk.phones.qr("a")
        assert refused.value.reason == "not_linked"
        await desk.phones.pair("a")
        first = await desk.phones.qr("a")
        assert first == await desk.phones.qr("a")
        assert first.left == 5
        assert first.text not in repr(first)
        await trio.sleep(61.0)
        second = await desk.phones.qr("a")
        assert (second.text != first.text, second.left) == (True, 4)
        await trio.sleep(200.0)
        with pytest.raises(RefusedError) as refused:
            await desk.phones.qr("a")
        assert refused.value.reason == "pairing_expired"


async def test_a_code_begins_the_pairing_and_comes_once_in_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        shown = await desk.phones.code("a", 15550001111)
        assert shown.text == "ABCD-EFGH"
        assert desk.engine.codes_asked == [("a", 1, 15550001111)]
        with pytest.raises(RateLimitedError) as limited:
            await desk.phones.code("a", 15550001111)
        assert 0 < limited.value.retry_after_s <= 30
        await trio.sleep(30.0)
        await desk.phones.code("a", 15550001111)
        assert len(desk.engine.codes_asked) == 2


@pytest.mark.parametrize("answer", [("refused", 429), ("too_many", None), ("spent", None)])
async def test_a_code_that_there_is_not_is_told_with_what_to_do(
    autojump_clock: trio.testing.MockClock, answer: tuple[str, int | None]
) -> None:
    async with opened() as desk:
        desk.engine.server.code_answer = answer
        with pytest.raises(RefusedError, match=answer[0]) as refused:
            await desk.phones.code("a", 15550001111)
        assert (refused.value.reason, bool(refused.value.remedy)) == (f"code_{answer[0]}", True)
        assert desk.state() is State.PAIRING, "the QR codes go on"


async def test_whoever_waits_for_a_code_learns_that_it_is_linked_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        desk.engine.server.hung.add("a")
        await desk.phones.pair("a")
        with pytest.raises(RefusedError) as refused:
            await desk.phones.qr("a")
        assert refused.value.reason == "no_qr"
        with pytest.raises(UnknownSessionError):
            await desk.phones.qr("nobody")


async def test_a_session_in_use_is_not_linked_with_another_phone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        await trio.sleep(5.0)
        assert desk.state("linked") is State.ONLINE
        for asking in (desk.phones.pair, desk.phones.qr):
            with pytest.raises(RefusedError) as refused:
                await asking("linked")
            assert refused.value.reason == "linked"
        assert desk.state("linked") is State.ONLINE


@pytest.mark.pain(12)
async def test_an_unlinked_device_goes_to_the_archive_before_the_next_is_linked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        await trio.sleep(5.0)
        await desk.supervisor.logout("linked")
        assert desk.state("linked") is State.LOGGED_OUT
        await desk.phones.pair("linked")
        assert "linked" in desk.store.unlinked
        assert (await desk.phones.qr("linked")).text
        desk.engine.scan("linked")
        await trio.sleep(5.0)
        assert desk.state("linked") is State.ONLINE
        assert not desk.store.archived


async def test_subscribers_hear_of_each_qr_code(autojump_clock: trio.testing.MockClock) -> None:
    async with opened() as desk:
        with desk.supervisor.subscribe() as events:
            await desk.phones.pair("a")
            await desk.phones.qr("a")
            heard = []
            while True:
                try:
                    heard.append(events.receive_nowait())
                except trio.WouldBlock:
                    break
        codes = [event for event in heard if event.name == "session.qr"]
        assert len(codes) == 1
        assert (codes[0].data["qr"], codes[0].data["left"]) == ((await desk.phones.qr("a")).text, 5)
