"""The end of a process as a decision: what is asked first, what wins, what is remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from runner import lifetime as module
from runner import memory_limit
from runner.config import Settings
from runner.errors import RefusedError, StartError
from runner.handover import BY_MEMORY, BY_REQUEST, Restart
from runner.lifetime import AGAIN_S, Lifetime
from support.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from trio.testing import MockClock

    from runner.handover import Door
    from runner.supervisor import Supervisor

MIB = 1024 * 1024
GOOD = b'{"problems": [], "locks": ["/d/runner"], "listeners": ["unix:/d/admin.sock"]}'


class FakeDoor:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.is_listening = True
        self.asked: list[object] = []
        self.refuses: StartError | None = None

    def stop_listening(self) -> None:
        self.is_listening = False

    def try_to_open(self, locks: list[str], listeners: list[str]) -> None:
        self.asked.append((locks, listeners))
        if self.refuses:
            raise self.refuses


class Ending:
    """A lifetime with everything around it under control."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        before: Restart | None = None,
        reference: str | None = None,
    ) -> None:
        self.door = FakeDoor()
        self.ends = 0
        self.stdout, self.stderr, self.code, self.takes_s = GOOD, b"", 0, 1.0
        self.settings = Settings()
        monkeypatch.setattr(trio, "run_process", self._run_process)
        self.lifetime = Lifetime(
            cast("Door", self.door),
            before,
            {},
            7,
            settings=lambda: self.settings,
            begin_end=self._begin_end,
            reference=reference,
        )

    def _begin_end(self) -> None:
        self.ends += 1

    async def _run_process(self, command: list[str], **_kwargs: object) -> Any:  # noqa: ANN401
        self.command = command
        await trio.sleep(self.takes_s)
        return SimpleNamespace(returncode=self.code, stdout=self.stdout, stderr=self.stderr)


async def test_a_restart_begins_after_the_rehearsal(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ending = Ending(monkeypatch)
    await ending.lifetime.restart(BY_REQUEST, "by a test")
    assert ending.ends == 1
    wanted = ending.lifetime.restart_wanted
    assert wanted is not None
    assert (wanted.reason, wanted.count, wanted.streak) == (BY_REQUEST, 1, 0)
    assert ending.door.asked == [(["/d/runner"], ["unix:/d/admin.sock"])]
    assert ending.door.is_listening
    with pytest.raises(RefusedError, match="already"):
        await ending.lifetime.restart(BY_REQUEST, "again")


async def test_the_rehearsal_loads_the_app_that_the_next_process_will_be_given(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ending = Ending(monkeypatch, reference="my_app:app")
    await ending.lifetime.restart(BY_REQUEST, "by a test")
    assert ending.command[-2:] == ["--app", "my_app:app"]


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        (b'{"problems": ["WHATSAPP_IK must be on or off"]}', b"", "WHATSAPP_IK must be on or off"),
        (b"", b"Traceback\n  File\nImportError: no module named runner.x\n", "no module named runner.x"),
        (b"", b"", "it ended without a word"),
    ],
)
async def test_a_process_that_could_not_start_is_refused_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, stdout: bytes, stderr: bytes, said: str
) -> None:
    ending = Ending(monkeypatch)
    ending.code, ending.stdout, ending.stderr = 2, stdout, stderr
    with pytest.raises(RefusedError, match=said):
        await ending.lifetime.restart(BY_REQUEST, "")
    assert (ending.ends, ending.lifetime.restart_wanted) == (0, None)
    ending.code, ending.stdout = 0, GOOD
    await ending.lifetime.restart(BY_REQUEST, "mended")  # and the next one is not held up by it


async def test_a_rehearsal_that_hangs_and_a_port_that_is_taken_are_refusals(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ending = Ending(monkeypatch)
    ending.takes_s = module.REHEARSAL_S + 1
    with pytest.raises(RefusedError, match="did not load"):
        await ending.lifetime.restart(BY_REQUEST, "")
    ending.takes_s = 1
    ending.door.refuses = StartError("cannot listen on 127.0.0.1 port 1: Address already in use", "stop it")
    with pytest.raises(RefusedError, match="port 1") as caught:
        await ending.lifetime.restart(BY_REQUEST, "")
    assert caught.value.remedy == "stop it"
    assert ending.ends == 0


async def test_without_a_free_descriptor_the_process_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Neither the memory watch nor a restart that cannot be rehearsed may end it."""
    run_process = trio.run_process
    ending, incidents = Ending(monkeypatch), FakeIncidents()
    ending.settings = Settings(max_memory_restart=1)
    monkeypatch.setattr(trio, "run_process", run_process)
    with no_descriptor_left():
        with trio.move_on_after(3 * memory_limit.LOOK_S) as looks:
            await ending.lifetime.watch_memory(cast("Supervisor", incidents))
        with pytest.raises(RefusedError, match="Too many open files"):
            await ending.lifetime.restart(BY_REQUEST, "")
    assert looks.cancelled_caught
    assert ending.ends == 0


async def test_a_stop_wins_over_a_restart_before_during_and_after_its_rehearsal(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    begun = Ending(monkeypatch)
    await begun.lifetime.restart(BY_REQUEST, "")
    begun.lifetime.stop()
    assert (begun.lifetime.restart_wanted, begun.door.is_listening) == (None, False)

    rehearsing = Ending(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_after, rehearsing.lifetime, 0.5)
        with pytest.raises(RefusedError, match="told to stop"):
            await rehearsing.lifetime.restart(BY_REQUEST, "")
    assert rehearsing.lifetime.restart_wanted is None
    with pytest.raises(RefusedError):
        await rehearsing.lifetime.restart(BY_REQUEST, "")


async def _stop_after(lifetime: Lifetime, seconds: float) -> None:
    await trio.sleep(seconds)
    lifetime.stop()


def test_health_tells_why_the_process_before_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Ending(monkeypatch, Restart(BY_MEMORY, "too much", 5, count=3)).lifetime.report()
    assert (report["pid"], report["restarts"]) == (7, 3)
    assert report["lastRestart"] == {"reason": "memory", "detail": "too much", "at": 5}
    assert Ending(monkeypatch).lifetime.report()["lastRestart"] is None


class FakeIncidents:
    """The supervisor, as far as the memory watch knows it."""

    def __init__(self) -> None:
        self.machine = self
        self.open: dict[str, str] = {}

    def raise_incident(self, kind: str, _key: str, severity: str, text: str) -> None:
        assert severity == "critical"
        self.open.setdefault(kind, text)

    def end_incident(self, kind: str, _key: str) -> None:
        self.open.pop(kind, None)


async def test_the_memory_watch_restarts_is_refused_tries_again_and_ends_its_incident(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    ending, incidents = Ending(monkeypatch, Restart(BY_MEMORY, "", 1, count=4, streak=1)), FakeIncidents()
    ending.settings = Settings(max_memory_restart=100 * MIB)
    rss = 200 * MIB
    uptime_s = 0.0
    monkeypatch.setattr(memory_limit, "rss_bytes", lambda: rss)
    monkeypatch.setattr(Lifetime, "uptime_s", property(lambda _self: uptime_s))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending.lifetime.watch_memory, cast("Supervisor", incidents))
        await trio.sleep(3 * memory_limit.LOOK_S + 1)
        assert "none before 240 s" in incidents.open["memory_limit"]
        rss = 50 * MIB
        await trio.sleep(memory_limit.LOOK_S)
        assert not incidents.open
        rss, uptime_s, ending.code, ending.stdout = 200 * MIB, 240.0, 2, b'{"problems": ["x is wrong"]}'
        await trio.sleep(3 * memory_limit.LOOK_S)
        assert "refused" in incidents.open["memory_limit"]
        assert ending.ends == 0
        ending.code, ending.stdout = 0, GOOD
        await trio.sleep(AGAIN_S + 3 * memory_limit.LOOK_S)
        assert ending.ends == 1
        nursery.cancel_scope.cancel()
    wanted = ending.lifetime.restart_wanted
    assert wanted is not None
    assert (wanted.reason, wanted.count, wanted.streak) == (BY_MEMORY, 5, 2)
    assert wanted.detail == "the process holds 200 MiB, WHATSAPP_MAX_MEMORY_RESTART is 100 MiB"
