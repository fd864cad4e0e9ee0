"""A phone is linked with the runner by those who use it: the command line, HTTP, the simulator's phone."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sim import SimulatorControl
from support.pair import FAST_PINGS
from support.pair import pair as fleet
from support.pairings import pairings
from support.processes import Process, RunnerProcess, SimulatorProcess, wait_until

PHONE = "15550007777"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RunnerProcess, SimulatorProcess]]:
    with SimulatorProcess(tmp_path, sessions=0) as sim, RunnerProcess(tmp_path, sim) as runner:
        runner.wait_api()
        yield runner, sim
        assert runner.stop() == 0


class Pairing(Process):
    """`python -m runner pair`, in a pipe."""

    def __init__(self, runner: RunnerProcess, directory: Path, *words: str) -> None:
        args = [sys.executable, "-u", "-m", "runner", "pair", *words]
        super().__init__(args, {**os.environ, **runner.env}, directory / "pair.log")


@pytest.mark.pain(18)
def test_pair_and_a_phone_that_scans_bring_a_session_online(
    pair: tuple[RunnerProcess, SimulatorProcess], tmp_path: Path
) -> None:
    runner, sim = pair
    with Pairing(runner, tmp_path, "shop-1") as pairing:
        wait_until(lambda: "linked_devices#" in pairing.output(), 30.0, "a QR code")
        assert runner.wait_state("shop-1", "pairing")["linked"] is False
        scanned = runner.command("sim", "scan", "shop-1", "--control", sim.control, "--phone", PHONE)
        assert scanned.returncode == 0, scanned.stderr
        assert pairing.child.wait(30) == 0
        assert pairing.output().endswith("shop-1: linked, online\n")
    row = runner.wait_state("shop-1", "online")
    assert (row["linked"], row["attempt"], row["connection"]) == (True, 0, 2)
    again = runner.command("pair", "shop-1", "--json")
    assert (again.returncode, json.loads(again.stderr)["reason"]) == (5, "linked")
    control = SimulatorControl(sim.control)
    assert control.stats()["paired"] == 1
    said = runner.command("sim", "say", "shop-1", "hello", "--control", sim.control)
    assert (said.returncode, said.stdout) == (0, "said to 1: 1 each\n"), said.stderr
    wait_until(lambda: control.stats()["contactReceipts"] == 1, 20.0, "a receipt")
    nobody = runner.command("sim", "say", "shop-2", "hello", "--control", sim.control)
    assert (nobody.returncode, "no shop-2" in nobody.stderr) == (1, True)

    # Logged out, it is linked anew, with another device; the old one is kept.
    assert runner.command("logout", "shop-1").returncode == 0
    with Pairing(runner, tmp_path, "shop-1", "--json") as pairing:
        wait_until(lambda: "qr" in pairing.output(), 30.0, "a QR code")
        qr = json.loads(pairing.output().splitlines()[0])["qr"]
        SimulatorControl(sim.control).post("/pair", qr=qr, phone=PHONE)
        assert pairing.child.wait(30) == 0
    assert json.loads(pairing.output().splitlines()[-1])["state"] == "online"
    log = runner.output()
    assert "session linked" in log
    assert PHONE not in log, "numbers stay out of logs"
    assert qr not in log


def test_a_code_for_a_phone_is_typed_in_and_survives_a_restart(
    pair: tuple[RunnerProcess, SimulatorProcess], tmp_path: Path
) -> None:
    runner, sim = pair
    with Pairing(runner, tmp_path, "desk", "--phone", f"+{PHONE}") as pairing:
        wait_until(lambda: "type it into the phone" in pairing.output(), 30.0, "a code")
        code = pairing.output().split()[1]
        assert len(code) == 9
        wrong = runner.command("sim", "enter", "1111-1111", "--phone", "4915", "--control", sim.control)
        assert (wrong.returncode, "no device offers a code" in wrong.stderr) == (1, True)
        typed = runner.command("sim", "enter", code.lower(), "--phone", PHONE, "--control", sim.control)
        assert typed.returncode == 0, typed.stderr
        assert pairing.child.wait(30) == 0
    assert PHONE not in runner.output()
    status, answer = runner.request("POST", "/api/sessions/desk/restart")
    assert (status, answer["linked"]) == (200, True)
    runner.wait_state("desk", "online")


def test_a_new_device_uploads_keys_and_reads_a_contact_also_one_with_a_new_phone(
    pair: tuple[RunnerProcess, SimulatorProcess], tmp_path: Path
) -> None:
    runner, sim = pair
    control = SimulatorControl(sim.control)
    assert runner.request("POST", "/api/sessions", {"id": "desk"})[0] == 201
    shown = runner.request("GET", "/api/desk/auth/qr?format=raw", timeout_s=40.0)[1]
    control.post("/pair", qr=shown["value"], phone=PHONE)
    runner.wait_state("desk", "online")

    def asked() -> list[str]:
        return [iq.get("child", "") for iq in control.sent(tag="iq")]

    wait_until(lambda: "registration" in asked(), 20.0, "an upload")
    runner.command("sim", "say", PHONE, "hello", "--control", sim.control)
    wait_until(lambda: control.stats()["contactReceipts"] == 1, 20.0, "a receipt")
    renewed = runner.command("sim", "new-identity", "1", PHONE, "--control", sim.control)
    assert renewed.stdout == "contact 1 has other keys; told 1\n", renewed.stderr
    runner.command("sim", "say", PHONE, "my new phone", "--control", sim.control)
    wait_until(lambda: control.stats()["contactReceipts"] == 2, 20.0, "a second receipt")
    assert (control.stats()["contactRetries"], control.stats()["unexpectedAnswers"]) == (0, 0)
    assert "the server had other keys" not in runner.output()


@pytest.mark.pain(19)
def test_an_empty_session_over_http_shows_its_code_and_costs_nothing_when_stopped(
    pair: tuple[RunnerProcess, SimulatorProcess],
) -> None:
    runner, sim = pair
    status, made = runner.request("POST", "/api/sessions", {"id": "later", "start": False})
    assert (status, made["state"], made["linked"]) == (201, "stopped", False)
    status, refused = runner.request("GET", "/api/later/auth/qr?format=raw")
    assert (status, refused["reason"]) == (409, "not_linked")
    assert "pair" in refused["remedy"]
    status, _ = runner.request("POST", "/api/sessions/later/start")
    assert status == 200
    status, shown = runner.request("GET", "/api/later/auth/qr?format=raw", timeout_s=40.0)
    assert (status, shown["left"]) == (200, 5)
    runner.request("POST", "/api/sessions/later/stop")
    runner.wait_state("later", "stopped")
    wait_until(lambda: not SimulatorControl(sim.control).sessions(), 10.0, "no socket")
    status, taken = runner.request("POST", "/api/sessions", {"id": "later"})
    assert (status, taken["reason"]) == (409, "exists")
    assert runner.request("DELETE", "/api/sessions/later")[0] == 200
    assert runner.sessions() == []


@pytest.mark.pain(9)
def test_fifty_phones_are_linked_at_once_and_nobody_else_notices(tmp_path: Path) -> None:
    """That their pings are no slower meanwhile is measured: `bench.scenarios.soak --only pairing`."""
    with fleet(tmp_path, 20, FAST_PINGS) as p:
        noticed = pairings(p, 50, 2.0)
        print(f"peak memory of 50 pairings: +{noticed.peak_bytes / 1024**2:.1f} MiB")
        assert len(noticed.meanwhile_ms) >= 20, "the others went on with their pings"
