"""`tune` on this very machine: a live runner says the same; root applies and takes it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from runner.tune import kept
from runner.tune.facts import sysctl_path
from support.processes import ROOT, RunnerProcess, SimulatorProcess, import_all, runner_environment
from support.tuned import MACHINE, PORTS, tunable, values

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def tune(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "tune", *args],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_live_runner_says_what_tune_says(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path, sessions=3) as simulator:
        import_all(simulator.credentials, runner_environment(tmp_path, simulator, tmp_path / "unused.sock"))
        with RunnerProcess(tmp_path, simulator) as runner:
            runner.wait_online(3)
            for args, query in (([], ""), (["--sessions", "40000"], "?sessions=40000")):
                status, api = runner.request("GET", f"/api/system/doctor{query}")
                said = json.loads(tune(runner.env, "--json", *args).stdout)
                assert status == 200
                assert api == said
            assert said["processId"] == runner.pid
            assert '"process tuned"' in runner.output()
            runner.stop()


def test_apply_and_undo_on_this_machine(tmp_path: Path) -> None:
    env = {**os.environ, "WHATSAPP_DATA_DIR": str(tmp_path)}
    with tunable():
        sysctl_path(MACHINE, PORTS).write_text("32768 60999")
        at_first = values()
        applied = tune(env, "--sessions", "50000", "--apply", "--json")
        assert applied.returncode == 0, applied.stdout + applied.stderr
        done: dict[str, Any] = {it["what"]: it for it in json.loads(applied.stdout)["outcomes"]}
        assert done[PORTS]["done"]
        assert sysctl_path(MACHINE, PORTS).read_text().split() == ["10240", "65535"]
        assert (MACHINE / kept.SYSCTL_FILE).read_text().startswith(kept.MARK)
        undone = tune(env, "--undo")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert values() == at_first
        for file in (kept.SYSCTL_FILE, kept.LIMITS_FILE, kept.STATE_FILE.parent):
            assert not (MACHINE / file).exists()
