"""The whole runner restarted in place: on request, for memory, refused, and under the eyes of everybody
else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.control import Control
from support.messages import Load, kept_once, wait_answered
from support.pair import FAST_PINGS, Pair, log_lines, pair, simulated, users_of
from support.processes import RunnerProcess, SimulatorProcess, wait_until
from support.restarts import gaps, process_of, request_restart, wait_restarted, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
N = 20
MIB = 1024 * 1024


def command(runner: RunnerProcess, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *args], env=runner.env, capture_output=True, text=True, timeout=60
    )


def open_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SimulatorProcess]]:
    """A simulator, and a data directory with its sessions for a runner to come."""
    directory = tmp_path_factory.mktemp("alone")
    with simulated(directory, N) as simulator:
        yield directory, simulator


Alone = tuple[Path, SimulatorProcess]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("restart"), N, FAST_PINGS, tls=True) as made:
        yield made


def test_a_restart_refuses_nobody_and_never_has_two_connections_of_a_device(fleet: Pair) -> None:
    runner = fleet.runner
    before = process_of(runner)
    with watched(runner) as onlookers:
        figures = gaps(fleet, lambda: request_restart(runner))
        second = command(runner, "run")
    assert (second.returncode, f"pid {runner.pid}" in second.stderr) == (6, True)
    after = process_of(runner)
    assert after["pid"] == before["pid"] == runner.pid
    assert after["startedAt"] > before["startedAt"]
    assert after["lastRestart"]["reason"] == "requested"
    assert log_lines(runner, "runner started")[-1]["restarted"] == "requested"
    assert len(figures["offline_ms"]) == N
    assert onlookers.answers > 10
    assert {row["connection"] for row in runner.sessions()} == {2}


def test_the_command_waits_for_the_next_process_and_no_descriptor_is_left_behind(fleet: Pair) -> None:
    runner = fleet.runner
    fds = open_fds(runner.pid)
    said = json.loads(command(runner, "restart", "--yes", "--json").stdout)
    assert (said["restarted"], said["pid"], said["restarts"]) == (True, runner.pid, 2)
    runner.wait_ready(N)
    wait_until(lambda: open_fds(runner.pid) <= fds, 10, f"{fds} descriptors")
    assert command(runner, "restart", "sim-00001").returncode == 0  # with an ID: that session alone
    assert process_of(runner)["restarts"] == 2
    runner.wait_ready(N)


def test_settings_that_would_not_start_are_refused_and_nothing_moves(fleet: Pair) -> None:
    runner = fleet.runner
    toml = Path(runner.env["WHATSAPP_DATA_DIR"]) / "runner.toml"
    before, connections = process_of(runner), {row["id"]: row["connection"] for row in runner.sessions()}
    try:
        toml.write_text("conect_rate = 7\n")
        status, said = runner.request("POST", "/api/restart", timeout_s=60.0)
    finally:
        toml.unlink()
    assert (status, said["reason"], "conect_rate is not a setting" in said["message"]) == (
        409,
        "cannot_start",
        True,
    )
    assert process_of(runner)["startedAt"] == before["startedAt"]
    assert {row["id"]: row["connection"] for row in runner.sessions()} == connections


# Memory

LOAD_PER_S = 400.0
HOG = """
import signal, sys, threading
from runner import memory_limit
memory_limit.LOOK_S = 0.05
memory_limit.LEAST_UPTIME_S = 0.5
kept = []
def eat(*_):
    kept.append(bytearray(b"x") * (256 * 1024 * 1024))
signal.signal(signal.SIGUSR1, eat)
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""


def test_a_process_over_its_limit_restarts_once_and_no_message_is_lost_or_kept_twice(alone: Alone) -> None:
    directory, simulator = alone
    control, users = Control(simulator.control), list(users_of(simulator.credentials).values())
    settings = {**FAST_PINGS, "WHATSAPP_MAX_MEMORY_RESTART": "256M"}
    with RunnerProcess(directory, simulator, settings, HOG) as runner:
        runner.wait_ready(N)
        before = {row["id"]: row["connection"] for row in runner.sessions()}
        with watched(runner), Load(control, users, LOAD_PER_S) as load:
            control.wait_stats(acks=N)
            runner.child.send_signal(signal.SIGUSR1)
            wait_restarted(runner, 0)
            runner.wait_ready(N)
            control.wait_stats(acks=control.stats()["acks"] + N)
        process = process_of(runner)
        assert (process["pid"], process["restarts"]) == (runner.pid, 1)
        assert process["lastRestart"]["reason"] == "memory"
        assert "WHATSAPP_MAX_MEMORY_RESTART is 256 MiB" in process["lastRestart"]["detail"]
        _status, numbers = runner.request("GET", "/api/system")
        assert numbers["process"]["rss"] < 256 * MIB
        assert {row["id"]: row["connection"] - 1 for row in runner.sessions()} == before
        wait_answered(control)
        assert runner.stop() == 0
        assert "Traceback" not in runner.output()
    answered, kept = kept_once(directory, simulator)
    assert answered == kept
    assert len(kept) == load.pushed


def test_a_limit_below_the_need_is_told_and_does_not_loop(alone: Alone) -> None:
    young = HOG.replace("memory_limit.LEAST_UPTIME_S = 0.5", "")
    with RunnerProcess(*alone, {"WHATSAPP_MAX_MEMORY_RESTART": "64M"}, young) as runner:
        runner.wait_ready(N)

        def told() -> list[dict[str, Any]]:
            return [
                line for line in log_lines(runner, "incident opened") if line["incident"] == "memory_limit"
            ]

        (line,) = wait_until(told, 20, "memory_limit")
        assert line["level"] == "critical"
        assert "a restart would not help" in line["detail"]
        assert process_of(runner)["restarts"] == 0
        assert runner.stop() == 0


# Systemd and the monitor


class Manager:
    """systemd, as far as a service hears of it: reads all the time, for its queue holds ten messages only."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0runner-e2e-{os.getpid()}")
        self.address = f"@runner-e2e-{os.getpid()}"
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while message := self._socket.recv(4096):
            self.lines += message.decode().splitlines()

    def close(self) -> None:
        """Stop reading."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def wait(self, line: str, times: int = 1) -> None:
        """Until a line was said so often."""
        wait_until(lambda: self.lines.count(line) >= times, 20, f"{line} {times} times")


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    yield made
    made.close()


def test_systemd_and_the_monitor_follow_one_runner_through_its_life(alone: Alone, manager: Manager) -> None:
    with RunnerProcess(*alone, {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000"}) as runner:
        runner.wait_ready(N)
        manager.wait("READY=1")
        manager.wait(f"STATUS={N} of {N} sessions online")
        manager.wait("WATCHDOG=1", 3)
        runner.child.send_signal(signal.SIGHUP)
        manager.wait("RELOADING=1")
        manager.wait("READY=1", 2)
        request_restart(runner)
        manager.wait("RELOADING=1", 2)
        manager.wait("READY=1", 3)
        assert "STOPPING=1" not in manager.lines
        runner.wait_ready(N)
        assert command(runner, "monitor").returncode in {0, 1}  # 1: this machine's CPU is busy with tests
        runner.child.send_signal(signal.SIGSTOP)
        hung = command(runner, "monitor", "--timeout", "0.5")
        runner.child.send_signal(signal.SIGCONT)
        assert (hung.returncode, "CRITICAL: hung" in hung.stdout) == (2, True)
        assert runner.stop() == 0
        manager.wait("STOPPING=1")
        dead = command(runner, "monitor")
        assert (dead.returncode, "CRITICAL: dead" in dead.stdout) == (2, True)
        log = Path(runner.env["WHATSAPP_DATA_DIR"]) / "logs" / "monitor.log"
        assert [line.split()[1] for line in log.read_text().splitlines()][1:] == ["CRITICAL:", "CRITICAL:"]


STUCK = """
import sys, trio
from runner import app
from runner.supervisor import Supervisor
async def never(self, timeout_s):
    await trio.sleep_forever()
Supervisor.shutdown = never
app.HARD_STOP_S = 1.0
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""


def test_an_orderly_end_that_hangs_is_ended_by_the_clock_and_a_stop_wins_over_a_restart(alone: Alone) -> None:
    with RunnerProcess(*alone, None, STUCK) as runner:
        runner.wait_ready(N)
        request_restart(runner)
        runner.wait_ready(N)
        assert process_of(runner)["pid"] == runner.pid
        assert runner.request("POST", "/api/restart", timeout_s=60.0)[0] == 202
        runner.child.send_signal(signal.SIGTERM)
        assert runner.child.wait(20) == 1
        assert not runner.socket.exists()
