"""The store fails while a session is archived or removed: the fleet goes on, nothing is lost from sight."""

from __future__ import annotations

import threading
from random import Random

import pytest
import trio
import trio.testing

from runner.session import State
from runner.supervisor import Options, Supervisor
from support.fake_engine import FakeEngine, FakeStore
from support.world import ENDPOINT, FAST, PINNED

pytestmark = pytest.mark.usefixtures("quiet_logs")


class FailingStore(FakeStore):
    """Refuses to archive and to delete while it fails."""

    is_failing = True

    def __init__(self, *session_ids: str) -> None:
        super().__init__(*session_ids)
        self.has_refused = threading.Event()

    def archive(self, session_id: str, reason: str) -> None:
        if self.is_failing:
            self.has_refused.set()
            raise RuntimeError("disk_full")
        super().archive(session_id, reason)

    def delete(self, session_id: str) -> None:
        if self.is_failing:
            raise RuntimeError("disk_full")
        super().delete(session_id)


async def test_credentials_that_cannot_be_archived_end_nothing_and_are_archived_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, engine = FailingStore("a", "b"), FakeEngine(trio.current_time)
    supervisor = _supervisor(engine, store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await nursery.start(supervisor.run)
        await trio.sleep(5)
        await supervisor.logout("a")
        assert await trio.to_thread.run_sync(store.has_refused.wait, 10)
        await trio.sleep(1)
        assert _state(supervisor, "a") is State.LOGGED_OUT
        assert _state(supervisor, "b") is State.ONLINE
        assert store.archived == {}
        store.is_failing = False
        assert await trio.to_thread.run_sync(store.has_archived.wait, 10)
        assert store.archived == {"a": "logged_out_by_request"}
        nursery.cancel_scope.cancel()
    engine.release()


async def test_a_session_that_cannot_be_removed_is_still_shown_and_can_be_removed_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, engine = FailingStore("a"), FakeEngine(trio.current_time)
    supervisor = _supervisor(engine, store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await nursery.start(supervisor.run)
        await trio.sleep(5)
        with pytest.raises(RuntimeError, match="disk_full"):
            await supervisor.remove("a")
        assert _state(supervisor, "a") is State.STOPPED
        await trio.sleep(1)
        assert '"desired":"stopped"' in (store.policies["a"] or "")
        store.is_failing = False
        await supervisor.remove("a")
        assert supervisor.view("a") is None
        nursery.cancel_scope.cancel()
    engine.release()


async def test_a_removal_that_is_cancelled_leaves_the_session_in_sight(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, engine = FakeStore("a"), FakeEngine(trio.current_time)
    supervisor = _supervisor(engine, store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await nursery.start(supervisor.run)
        await trio.sleep(5)
        with trio.CancelScope() as caller:
            caller.cancel()
            await supervisor.remove("a")
        assert _state(supervisor, "a") is State.STOPPED
        nursery.cancel_scope.cancel()
    engine.release()


def _supervisor(engine: FakeEngine, store: FakeStore) -> Supervisor:
    return Supervisor(engine, store, FAST, Options(endpoint=ENDPOINT, client_version=PINNED), rng=Random(0))


def _state(supervisor: Supervisor, session_id: str) -> State:
    view = supervisor.view(session_id)
    assert view is not None
    return view.state
