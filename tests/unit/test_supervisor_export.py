"""A session that another program goes on with: not while it runs, and not dialled by accident afterwards."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from runner.alerts.sessions import condition_of
from runner.errors import RefusedError, StoreFailedError, UnknownSessionError
from runner.session import State
from runner.supervisor import Options, Supervisor
from support.fake_engine import FakeEngine, FakeStore
from support.world import ENDPOINT, FAST, PINNED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("quiet_logs")


class Desk:
    """A supervisor that runs, with a session `a`."""

    def __init__(self, store: FakeStore) -> None:
        self.engine = FakeEngine(trio.current_time)
        self.store = store
        self.supervisor = Supervisor(
            self.engine, store, FAST, Options(endpoint=ENDPOINT, client_version=PINNED)
        )

    def shown(self) -> tuple[State, str | None]:
        view = self.supervisor.view("a")
        assert view is not None
        return view.state, view.reason


@asynccontextmanager
async def opened(store: FakeStore | None = None) -> AsyncIterator[Desk]:
    desk = Desk(store or FakeStore("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.engine.run)
        await nursery.start(desk.supervisor.run)
        await trio.sleep(5.0)
        yield desk
        nursery.cancel_scope.cancel()


async def test_a_session_that_runs_is_not_exported_and_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        assert desk.shown() == (State.ONLINE, None)
        with pytest.raises(RefusedError) as refused:
            await desk.supervisor.export("a")
        assert refused.value.reason == "running"
        assert "two programs" in str(refused.value)
        assert desk.shown() == (State.ONLINE, None)
        with pytest.raises(UnknownSessionError):
            await desk.supervisor.export("nobody")


@pytest.mark.pain(11)
async def test_after_an_export_nothing_dials_but_an_override(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        device = await desk.supervisor.export("a", force=True)
        assert device.left_out == []
        assert desk.shown() == (State.STOPPED, "exported")
        desk.supervisor.start("a")
        await trio.sleep(3600.0)
        assert desk.shown() == (State.PARKED, "exported")
        with pytest.raises(RefusedError) as refused:
            desk.supervisor.reconnect("a")
        assert refused.value.reason == "exported"
        desk.supervisor.restart("a")
        await trio.sleep(3600.0)
        assert desk.shown() == (State.PARKED, "exported")
        machine = desk.supervisor.machine
        assert condition_of(machine.row("a"), machine) is None, "as it was wished: no alert"
        assert len(desk.engine.opens) == 1
        desk.supervisor.reconnect("a", override=True)
        await trio.sleep(5.0)
        assert desk.shown() == (State.ONLINE, None)
    # And so it is after a restart of the process.
    async with opened() as desk:
        await desk.supervisor.export("a", force=True)
        await desk.supervisor.shutdown()
        store = desk.store
    async with opened(store) as desk:
        assert desk.shown() == (State.STOPPED, "exported")
        assert desk.engine.opens == []


async def test_a_session_that_is_stopped_is_exported_without_force(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as desk:
        desk.supervisor.stop("a")
        await trio.sleep(5.0)
        await desk.supervisor.export("a")
        assert desk.shown() == (State.STOPPED, "exported")
        await desk.supervisor.export("a")  # the files were lost: once more


class Stuck(FakeStore):
    """Does not commit."""

    def flush(self, timeout_s: float) -> bool:
        return False


async def test_a_store_that_does_not_commit_exports_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(Stuck("a")) as desk:
        with pytest.raises(StoreFailedError):
            await desk.supervisor.export("a", force=True)
        assert desk.shown() == (State.STOPPED, None), "stopped, and startable"
