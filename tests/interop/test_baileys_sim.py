"""Real Baileys against our simulator: it is believed only where a foreign client has worked with it."""

import json
import subprocess
from pathlib import Path

import pytest

from runner.sim import Simulator
from support.signal_peers import missing

BAILEYS = Path(__file__).parent / "baileys"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(180),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_baileys_logs_in_stays_and_sees_each_fault_as_its_code(tls: bool, tmp_path: Path) -> None:
    with Simulator(sessions=30, tls=tls, directory=tmp_path) as simulator:
        info = json.dumps(simulator.client.info())
        command = ["node", "sim_login.mjs", info, "--sessions", "25", *(["--tls"] if tls else [])]
        run = subprocess.run(command, cwd=BAILEYS, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 failed" in run.stdout


@pytest.mark.pain(13)
def test_baileys_links_itself_by_qr_code_and_by_pairing_code(tmp_path: Path) -> None:
    with Simulator(sessions=0, directory=tmp_path) as simulator:
        info = json.dumps(simulator.client.info())
        command = ["node", "sim_pair.mjs", info]
        run = subprocess.run(command, cwd=BAILEYS, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 failed" in run.stdout
