"""Thresholds crossed for real by what a machine and a server can do to a runner: one alert, one recovery.

Memory and processors are used up by other processes, the disk is a small tmpfs that is filled, descriptors
run out, the server is slow and fails. What each is told as is looked for on every channel.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from support.crashes import FullDisk, open_fds
from support.hogs import a_place, cpu_hog, memory_hog
from support.pair import FAST_PINGS, running, simulated
from support.processes import wait_until
from support.watch import IMPATIENT, Fault, exactly, post, side_by_side, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.hogs import Place
    from support.watch import Watched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

N = 24
RUN = "import runpy\nrunpy.run_module('runner', run_name='__main__')\n"
SETTINGS = (
    FAST_PINGS
    | IMPATIENT
    | {
        "WHATSAPP_HEALTH_CHECK_INTERVAL": "300",
        "WHATSAPP_RESPONSE_TIME_THRESHOLD": "150",
        # So that some are left for the other faults of that moment.
        "WHATSAPP_FD_THRESHOLD": "0.5",
    }
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullDisk]:
    made = FullDisk(tmp_path_factory.mktemp("thresholds"))
    if not made.is_possible:
        pytest.skip("a tmpfs can be mounted by root only")
    yield made
    made.unmount()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    found = a_place(f"runner-thresholds-{os.getpid()}")
    if found is None:
        pytest.skip("no cgroup can be made, and the machine is too busy or too full to be filled further")
    yield found
    found.remove()


@pytest.fixture(scope="module")
def w(place: Place, disk: FullDisk) -> Iterator[Watched]:
    """One runner for all: starting two processes costs more than most of the faults."""
    directory = disk.mounted.parent
    with post() as letters, simulated(directory, N) as simulator:
        settings = SETTINGS | place.settings() | letters.settings()
        with running(directory, simulator, N, settings, code=place.entering + RUN) as p:
            p.runner.wait_ready(N)
            with watched(p, letters, directory) as made:
                yield made
            assert "Traceback" not in p.runner.output()


def limit_fds(w: Watched, soft: int) -> None:
    """Another soft limit for the runner while it runs."""
    _soft, hard = resource.prlimit(w.p.runner.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(w.p.runner.pid, resource.RLIMIT_NOFILE, (soft, hard))


def reload(w: Watched, line: str) -> None:
    """These settings in the file, and no others."""
    (w.alerts_log.parents[1] / "runner.toml").write_text(line)
    w.p.runner.child.send_signal(signal.SIGHUP)


def processors(w: Watched, place: Place) -> Fault:
    hog = cpu_hog(place)

    def begin() -> None:
        place.limit_cpus(0.3)
        hog.begin()

    return Fault("cpu_high", begin, hog.end)


def memory(w: Watched, place: Place) -> Fault:
    hog = memory_hog(place)
    return Fault("memory_high", hog.begin, hog.end)


def memory_of_the_process(w: Watched) -> Fault:
    """More than its own limit, and too young to be restarted for that."""
    return Fault("memory_limit", lambda: reload(w, 'max_memory_restart = "64M"\n'), lambda: reload(w, ""))


def descriptors(w: Watched) -> Fault:
    before, _hard = resource.prlimit(w.p.runner.pid, resource.RLIMIT_NOFILE)
    return Fault(
        "file_descriptors_high",
        lambda: limit_fds(w, round(open_fds(w.p.runner.pid) / 0.6)),
        lambda: limit_fds(w, before),
    )


def disk_space(w: Watched, disk: FullDisk) -> Fault:
    return Fault("disk_space_low", lambda: disk.begin(leave_bytes=1024 * 1024), disk.end)


def slow_server(w: Watched) -> Fault:
    def delay(ms: int) -> None:
        w.p.control.post("/delay", all=True, ms=ms)

    return Fault("response_time_high", lambda: delay(500), lambda: delay(0))


def failing_server(w: Watched) -> Fault:
    """It refuses the logins of a quarter of the sessions. The rate is that of five minutes, so well-doing has
    to outweigh it in the end."""
    some = w.p.ids()[:6]
    users = [w.user(it) for it in some]

    def begin() -> None:
        w.p.control.post("/login-policy", users=users, mode="failure", reason=503, count=1_000_000)
        for session_id in some:
            w.p.runner.request("POST", f"/force-reconnection/{session_id}")

    def end() -> None:
        w.p.control.post("/login-policy", users=users, mode="success")
        for _ in range(8):
            logins = w.p.control.stats()["logins"]
            for session_id in w.p.ids():
                w.p.runner.request("POST", f"/force-reconnection/{session_id}")
            w.p.control.wait_stats(logins=logins + N)
            w.p.runner.wait_ready(N)

    return Fault("error_rate_high", begin, end)


@pytest.mark.pain(25)
def test_what_runs_out_and_what_is_slow_is_told_side_by_side(
    w: Watched, place: Place, disk: FullDisk
) -> None:
    side_by_side(
        w,
        [processors(w, place)],
        # Within a minute of its start a process is not restarted for its memory.
        [memory_of_the_process(w), memory(w, place)],
        [slow_server(w), failing_server(w)],
        [descriptors(w), disk_space(w, disk)],
    )


@pytest.mark.pain(25)
def test_a_disk_without_room_is_told_once_and_by_the_file_on_it_too(w: Watched, disk: FullDisk) -> None:
    """No commit, no answer: the messages come anew on other connections, and of that nobody needs to hear."""
    with exactly(w, ("disk_full", None)):
        disk.begin()
        try:
            w.p.control.post("/push", all=True, template="message")
            w.wait_firing("disk_full")
            assert {it["alert"] for it in w.active() if it["suppressedBy"] == "disk_full"} >= {
                "store_stalled"
            }
        finally:
            disk.end()
        wait_until(lambda: sum(it["owed"] for it in w.p.control.sessions()) == 0, 20.0, "all answered")
        w.p.runner.wait_ready(N)


@pytest.mark.pain(25)
def test_a_process_without_a_free_descriptor_lives_on_and_tells_it_once(w: Watched) -> None:
    """Neither its API nor a webhook can be reached meanwhile: it is heard of by who listens already."""
    before, _hard = resource.prlimit(w.p.runner.pid, resource.RLIMIT_NOFILE)
    some, lines = w.p.ids()[:3], len(w.p.lines("admin connections not accepted"))
    with exactly(w, ("file_descriptors_high", None)):
        limit_fds(w, 8)  # the numbers below belong to what stays
        w.p.control.post("/close", users=[w.user(it) for it in some], hard=True)
        told = ("alert.firing", "file_descriptors_high", None)
        try:
            wait_until(lambda: told in w.listener.told()[-1:], 20.0, "the alert")
            with pytest.raises(TimeoutError):
                w.p.runner.request("GET", "/health/live", timeout_s=0.5)
        finally:
            limit_fds(w, before)
        w.wait_over("file_descriptors_high")
        for session_id in some:  # they would look again after a minute
            w.p.runner.request("POST", f"/force-reconnection/{session_id}")
        w.p.runner.wait_ready(N)
    assert len(w.p.lines("admin connections not accepted")) == lines + 1
