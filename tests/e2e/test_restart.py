"""The whole runner restarted in place: on request, for memory, refused, and under the eyes of everybody
else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.pair import FAST_PINGS, Pair, log_lines, pair, running, simulated
from support.processes import RunnerProcess, wait_until
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
        done = command(runner, "restart", "--yes")
    finally:
        toml.unlink()
    assert (done.returncode, "conect_rate is not a setting" in done.stderr) == (5, True)
    assert process_of(runner)["startedAt"] == before["startedAt"]
    assert {row["id"]: row["connection"] for row in runner.sessions()} == connections


# Memory

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


def test_a_process_over_its_limit_restarts_once_and_every_session_comes_back(tmp_path: Path) -> None:
    settings = {**FAST_PINGS, "WHATSAPP_MAX_MEMORY_RESTART": "256M"}
    with simulated(tmp_path, N) as simulator:
        with RunnerProcess(tmp_path, simulator, settings, HOG) as runner:
            runner.wait_ready(N)
            with watched(runner):
                runner.child.send_signal(signal.SIGUSR1)
                wait_restarted(runner, 0)
                runner.wait_ready(N)
            process = process_of(runner)
            assert (process["pid"], process["restarts"]) == (runner.pid, 1)
            assert process["lastRestart"]["reason"] == "memory"
            assert "WHATSAPP_MAX_MEMORY_RESTART is 256 MiB" in process["lastRestart"]["detail"]
            _status, numbers = runner.request("GET", "/api/system")
            assert numbers["process"]["rss"] < 256 * MIB
            assert {row["connection"] for row in runner.sessions()} == {2}
            assert runner.stop() == 0
        assert "Traceback" not in runner.output()


def test_a_limit_below_the_need_is_told_and_does_not_loop(tmp_path: Path) -> None:
    young = HOG.replace("memory_limit.LEAST_UPTIME_S = 0.5", "")
    with (
        simulated(tmp_path, 1) as simulator,
        RunnerProcess(tmp_path, simulator, {"WHATSAPP_MAX_MEMORY_RESTART": "64M"}, young) as runner,
    ):
        runner.wait_ready(1)

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


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_systemd_and_the_monitor_follow_one_runner_through_its_life(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, simulated(tmp_path, 2) as simulator:
        manager.bind("\0runner-e2e-notify")
        manager.setblocking(False)
        words: list[str] = []

        def word(wanted: str, times: int = 1) -> bool:
            words.extend(line for message in heard(manager) for line in message.splitlines())
            return words.count(wanted) >= times

        settings = {"NOTIFY_SOCKET": "@runner-e2e-notify", "WATCHDOG_USEC": "600000"}
        with running(tmp_path, simulator, 2, settings) as p:
            p.runner.wait_ready(2)
            wait_until(lambda: word("READY=1"), 10, "READY")
            wait_until(lambda: word("STATUS=2 of 2 sessions online"), 10, "STATUS")
            wait_until(lambda: word("WATCHDOG=1", 3), 10, "WATCHDOG")
            p.runner.child.send_signal(signal.SIGHUP)
            wait_until(lambda: word("RELOADING=1") and word("READY=1", 2), 10, "a reload")
            request_restart(p.runner)
            wait_until(lambda: word("RELOADING=1", 2) and word("READY=1", 3), 10, "a restart")
            p.runner.wait_ready(2)
            assert "STOPPING=1" not in words
            assert command(p.runner, "monitor").returncode in {
                0,
                1,
            }  # 1: this machine's CPU is busy with tests
            p.runner.child.send_signal(signal.SIGSTOP)
            hung = command(p.runner, "monitor", "--timeout", "0.5")
            p.runner.child.send_signal(signal.SIGCONT)
            assert (hung.returncode, "CRITICAL: hung" in hung.stdout) == (2, True)
            assert p.runner.stop() == 0
            assert word("STOPPING=1")
            dead = command(p.runner, "monitor")
            assert (dead.returncode, "CRITICAL: dead" in dead.stdout) == (2, True)
            log = Path(p.runner.env["WHATSAPP_DATA_DIR"]) / "logs" / "monitor.log"
            assert [line.split()[1][:2] for line in log.read_text().splitlines()][1:] == ["CR", "CR"]


STUCK = """
import sys, trio
from runner import app
from runner.supervisor import Supervisor
async def never(self, timeout_s):
    await trio.sleep_forever()
Supervisor.shutdown = never
app.HARD_STOP_S = 3.0
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""


def test_a_restart_whose_orderly_end_hangs_goes_on_by_the_clock(tmp_path: Path) -> None:
    with simulated(tmp_path, 1) as simulator, RunnerProcess(tmp_path, simulator, None, STUCK) as runner:
        runner.wait_ready(1)
        request_restart(runner)
        runner.wait_ready(1)
        assert process_of(runner)["pid"] == runner.pid


def test_told_to_stop_during_a_restart_it_stops(tmp_path: Path) -> None:
    code = STUCK.replace("app.HARD_STOP_S = 3.0", "app.HARD_STOP_S = 1.5")
    with simulated(tmp_path, 1) as simulator, RunnerProcess(tmp_path, simulator, None, code) as runner:
        runner.wait_ready(1)
        assert runner.request("POST", "/api/restart", timeout_s=60.0)[0] == 202
        runner.child.send_signal(signal.SIGTERM)
        assert runner.child.wait(20) == 1
        assert not runner.socket.exists()
