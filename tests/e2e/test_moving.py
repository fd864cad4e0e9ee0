"""A session moves out and in again; a store is copied while it is used, lost, and made anew of the copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner.baileys import read_device
from runner.sim import SimulatorControl
from support.processes import RunnerProcess, SimulatorProcess, import_all, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def say(sim: SimulatorProcess, n: int, contact: int = 0) -> None:
    """A contact writes so many messages to everybody, and everybody receipts them."""
    control = SimulatorControl(sim.control)
    before = control.stats()["contactReceipts"]
    told = control.post("/say", all=True, n=n, contact=contact)
    expected = before + n * told["targets"]
    wait_until(lambda: control.stats()["contactReceipts"] == expected, 30.0, "receipts")


@pytest.mark.pain(11)
def test_an_exported_session_is_not_dialled_by_accident_and_moves_in_again(tmp_path: Path) -> None:
    target = tmp_path / "out" / "auth"
    with SimulatorProcess(tmp_path, sessions=2) as sim, RunnerProcess(tmp_path, sim) as runner:
        import_all(sim.credentials, runner.env)
        runner.wait_online(2)
        say(sim, 3)
        refused = runner.command("export", "sim-00001", str(tmp_path / "early"), "--json")
        assert (refused.returncode, json.loads(refused.stderr)["reason"]) == (5, "running")
        assert not (tmp_path / "early").exists()
        no_parent = runner.command("export", "sim-00001", str(target), "--force")
        assert (no_parent.returncode, "make it first" in no_parent.stderr) == (1, True)
        assert runner.wait_state("sim-00001", "online"), "nothing was stopped for a directory that cannot be"
        target.parent.mkdir()

        done = runner.command("export", "sim-00001", str(target), "--format", "baileys", "--force")
        assert done.returncode == 0, done.stderr
        assert "only the other program may use this device" in done.stderr
        assert target.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o600}
        names = {path.name.rpartition("-")[0] for path in target.iterdir()}
        assert {"session", "lid-mapping", "identity-key"} <= names
        again = runner.command("export", "sim-00002", str(target), "--force")
        assert (again.returncode, "is not empty" in again.stderr) == (1, True)

        row = runner.wait_state("sim-00001", "stopped")
        assert row["reason"] == "exported"
        assert runner.command("start", "sim-00001").returncode == 0
        assert runner.wait_state("sim-00001", "parked")["reason"] == "exported"
        forced = runner.command("reconnect", "sim-00001", "--json")
        assert (forced.returncode, json.loads(forced.stderr)["reason"]) == (5, "exported")
        assert runner.command("export", "nobody", str(tmp_path / "x")).returncode == 4

        # The next process does not dial it either; and the files are a device that goes on.
        assert runner.stop() == 0
        with RunnerProcess(tmp_path, sim) as runner:
            runner.wait_online(1)
            assert runner.wait_state("sim-00001", "parked")["reason"] == "exported"
            assert runner.command("delete", "sim-00001", "--yes").returncode == 0
            moved = runner.command("import", str(target), "--id", "moved")
            assert moved.returncode == 0, moved.stderr
            runner.wait_online(2)
            say(sim, 3)
            say(sim, 1, contact=4)
            assert SimulatorControl(sim.control).stats()["contactRetries"] == 0
            assert runner.stop() == 0


@pytest.mark.pain(11)
def test_a_store_that_was_lost_is_restored_and_goes_on_reading(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with SimulatorProcess(tmp_path, sessions=3) as sim:
        with RunnerProcess(tmp_path, sim) as runner:
            import_all(sim.credentials, runner.env)
            runner.wait_online(3)
            say(sim, 4)
            made = runner.command("backup", str(copy), "--json")
            assert made.returncode == 0, made.stderr
            told = json.loads(made.stdout)
            assert (told["sessions"], told["bytes"]) == (3, copy.stat().st_size)
            assert copy.stat().st_mode & 0o777 == 0o600
            assert runner.command("backup", str(copy)).returncode == 5, "it exists"
            say(sim, 4)
            say(sim, 2, contact=1)
            held = runner.command("restore", str(copy), "--replace")
            assert (held.returncode, "stop it first" in held.stderr) == (6, True), held.stderr
            runner.kill()
        kept = runner.command("restore", str(copy))
        assert (kept.returncode, "--replace" in kept.stderr) == (5, True), kept.stderr
        nothing = runner.command("restore", str(sim.credentials / "sim-00001" / "creds.json"), "--replace")
        assert (nothing.returncode, "is no backup" in nothing.stderr) == (1, True)
        done = runner.command("restore", str(copy), "--replace", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["sessions"], told["unreadable"]) == (3, [])
        assert told["changed"] >= 9, "a session, and both states, of each"
        with RunnerProcess(tmp_path, sim) as runner:
            runner.wait_online(3)
            say(sim, 5)
            say(sim, 5, contact=1)
            say(sim, 5, contact=2)
            assert runner.stop() == 0
        # Also without a runner, and the next one knows of it.
        out = tmp_path / "out"
        assert runner.command("export", "nobody", str(out)).returncode == 4
        done = runner.command("export", "sim-00002", str(out))
        assert done.returncode == 0, done.stderr
        assert read_device(out).fields["jid"] == "15550000001:1@s.whatsapp.net"
        with RunnerProcess(tmp_path, sim) as runner:
            runner.wait_online(2)
            assert runner.wait_state("sim-00002", "stopped")["reason"] == "exported"
            assert runner.stop() == 0
        offline = runner.command("backup", str(tmp_path / "second.db"))
        assert offline.returncode == 0, offline.stderr
        assert "3 sessions" in offline.stdout
