"""The whole process: `python -m runner`, its embedded simulator, its sockets, its signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from support.processes import Process, SimulatorProcess, UnixHTTPConnection, free_port, import_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
VECTORS = Path(__file__).parents[1] / "vectors" / "baileys_auth"


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WHATSAPP_")}
    named = {f"WHATSAPP_{name}": value for name, value in settings.items()}
    return {**clean, "WHATSAPP_DATA_DIR": str(data_dir), "WHATSAPP_LOG_FORMAT": "json", **named}


class Runner(Process):
    """A runner in a folder of its own. The folder is short: a socket path has 107 bytes."""

    def __init__(self, folder: Path, *args: str, **settings: str) -> None:
        self.port = free_port()
        self.env = environment(folder, ADMIN_PORT=str(self.port), **settings)
        self.socket = folder / "admin.sock"
        super().__init__([sys.executable, "-m", "runner", *args], self.env, folder.with_suffix(".log"))

    def get(self, path: str, method: str = "GET") -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(f"http://localhost:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def over_unix(self, path: str) -> Any:  # noqa: ANN401 - JSON
        link = UnixHTTPConnection(self.socket, 10.0)
        try:
            link.request("GET", path)
            return json.loads(link.getresponse().read())
        finally:
            link.close()

    def states(self) -> dict[str, int]:
        assert self.child.poll() is None, self.output()
        try:
            return dict(self.over_unix("/api/system")["states"])
        except OSError:
            return {}

    def wait_online(self, number: int) -> Self:
        wait_until(lambda: self.states().get("online", 0) == number, 60, f"{number} online")
        return self

    def wait_serving(self) -> Self:
        wait_until(lambda: self.states() is not None and self.is_serving(), 60, "serving")
        return self

    def is_serving(self) -> bool:
        try:
            return bool(self.over_unix("/health/live")["live"])
        except OSError:
            return False

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runner", *args], env=self.env, capture_output=True, text=True, timeout=60
        )

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.output().splitlines() if line.startswith("{")]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="runner-"))
    yield made / "d"
    shutil.rmtree(made)


DEAD_ENDPOINT = {"ENDPOINT": "ws://127.0.0.1:9/ws/chat", "CLIENT_VERSION": "2.3000.1"}


def test_the_embedded_simulator_and_the_curl_lines_work_as_written(folder: Path) -> None:
    with Runner(folder, "run", "--simulator", "25") as runner:
        runner.wait_online(25)
        assert "curl -X POST" in runner.output()
        metrics = runner.get("/performance-metrics")
        assert metrics["system"]["activeConnections"] == 25
        rows = runner.get("/reconnection-status")["sessions"]
        assert [row["state"] for row in rows] == ["online"] * 25
        session_id = rows[0]["id"]
        forced = runner.get(f"/force-reconnection/{session_id}", "POST")
        assert (forced["id"], forced["connection"]) == (session_id, 2)
        assert runner.get(f"/reset-circuit-breaker/{session_id}", "POST")["breaker"]["state"] == "closed"
        runner.wait_online(25)
        assert runner.over_unix(f"/api/sessions/{session_id}")["connection"] == 2
        shown = runner.command("status")
        assert (shown.returncode, "25" in shown.stdout) == (0, True)
        assert "reconnect" in runner.command("logs").stdout
        assert runner.stop() == 0
        assert runner.events()[-1] == "runner stopped"
        assert not runner.socket.exists()


def test_commands_change_what_the_fleet_does(folder: Path) -> None:
    with Runner(folder, "run", "--simulator", "2") as runner:
        runner.wait_online(2)
        first = json.loads(runner.command("sessions", "--json").stdout)[0]["id"]
        assert json.loads(runner.command("stop", first, "--json").stdout)["state"] == "stopped"
        runner.wait_online(1)
        assert runner.command("start", first).returncode == 0
        runner.wait_online(2)
        assert runner.command("delete", first, "--yes").returncode == 0
        assert runner.command("show", first).returncode == 4
        assert runner.command("import", str(VECTORS / "one"), "--id", "imported").returncode == 0
        assert runner.command("show", "imported", "--json").returncode == 0
        assert runner.stop() == 0


def test_an_empty_store_says_how_to_fill_it(folder: Path) -> None:
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        assert "python -m runner pair NAME, or import DIR" in runner.output()
        assert runner.stop() == 0


def test_the_generated_token_is_private(folder: Path) -> None:
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        assert (folder / "admin.token").stat().st_mode & 0o777 == 0o600
        assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "admin.token").read_text().strip() not in runner.output()


def test_a_second_runner_is_refused_and_the_first_goes_on(folder: Path) -> None:
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        second = runner.command("run")
        assert second.returncode == 6
        assert f"pid {runner.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert runner.is_serving()
        assert runner.stop() == 0


def test_after_a_kill_the_next_start_takes_over_the_socket(folder: Path) -> None:
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        runner.kill()
        assert runner.socket.exists()
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        assert runner.stop() == 0


def test_a_taken_port_is_a_line_and_not_a_traceback(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "runner"],
            env=environment(folder, ADMIN_PORT=port, **DEAD_ENDPOINT),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "WHATSAPP_ADMIN_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_end_it_with_two(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner"],
        env=environment(folder, ROOT_KEY="ab" * 32, QUERY_TIMOUT="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert not folder.exists()


HANGING = """
import sys, trio
from runner import app
from runner.supervisor import Supervisor
async def never(self, timeout_s):
    sys.stdout.write("hanging\\n")
    sys.stdout.flush()
    await trio.sleep_forever()
Supervisor.shutdown = never
app.HARD_STOP_S = {hard_stop_s}
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""


def hanging_in_its_stop(folder: Path, hard_stop_s: float) -> Process:
    """A runner whose orderly stop never ends, told to stop once."""
    env = environment(folder, ADMIN_PORT="0", **DEAD_ENDPOINT)
    code = HANGING.format(hard_stop_s=hard_stop_s)
    process = Process([sys.executable, "-c", code], env, folder.with_suffix(".log"))
    wait_until(lambda: "runner started" in process.output(), 30, "started")
    process.child.send_signal(signal.SIGTERM)
    wait_until(lambda: "hanging" in process.output(), 30, "hanging")
    return process


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Path, second: signal.Signals) -> None:
    with hanging_in_its_stop(folder, 60) as process:
        process.child.send_signal(second)
        assert process.child.wait(5) == -second


def test_a_stop_that_hangs_is_ended_by_the_clock(folder: Path) -> None:
    with hanging_in_its_stop(folder, 0.2) as process:
        assert process.child.wait(5) == 1


def test_sighup_reloads_what_can_change_and_says_what_cannot(folder: Path) -> None:
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        (folder / "runner.toml").write_text("connect_rate = 77\nquery_timeout = 1000\n")
        runner.child.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings reloaded" in runner.events(), 10, "reloaded")
        line = next(json.loads(row) for row in runner.output().splitlines() if "settings reloaded" in row)
        assert line["changed"] == ["WHATSAPP_CONNECT_RATE"]
        assert line["need_restart"] == ["WHATSAPP_QUERY_TIMEOUT"]
        assert runner.over_unix("/api/system")["settings"]["CONNECT_RATE"] == "77"
        (folder / "runner.toml").write_text("conect_rate = 77\n")
        runner.child.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings not reloaded" in runner.events(), 10, "refused")
        assert runner.is_serving()
        (folder / "runner.toml").unlink()
        (folder / "admin.token").chmod(0o644)
        runner.child.send_signal(signal.SIGHUP)
        wait_until(lambda: runner.output().count("settings not reloaded") == 2, 10, "refused again")
        assert "chmod 600" in runner.output()
        assert runner.is_serving()
        assert runner.stop() == 0


def test_a_simulator_of_a_runner_that_was_killed_ends_too(folder: Path) -> None:
    """Its parent is this test, so another id is one that is gone."""
    args = [sys.executable, "-m", "runner", "sim", "--directory", str(folder), "--parent", str(os.getppid())]
    done = subprocess.run(args, env=environment(folder), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["url"]


def test_import_without_a_runner_goes_into_the_store(folder: Path) -> None:
    env = environment(folder, **DEAD_ENDPOINT)
    done = subprocess.run(
        [sys.executable, "-m", "runner", "import", "--all", str(VECTORS), "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    results = {result["id"]: result for result in json.loads(done.stdout)}
    assert done.returncode == 1  # one of the three was never paired
    assert results["one"]["imported"]
    assert results["unpaired"]["error"] == "not_registered"
    with Runner(folder, **DEAD_ENDPOINT) as runner:
        runner.wait_serving()
        assert {row["id"] for row in runner.over_unix("/api/sessions")["sessions"]} == {"one", "two"}
        assert runner.stop() == 0


def test_more_sessions_than_descriptors_start_what_fits(folder: Path) -> None:
    """64 descriptors are ours and 4 the admin API's; 32 connections fit below 100."""
    folder.parent.mkdir(exist_ok=True)
    with SimulatorProcess(folder.parent, sessions=40) as server:
        settings = {
            "ENDPOINT": server.url,
            "ROOT_KEY": server.root_key_hex,
            "CONNECT_RATE": "500",
            "ADMIN_CONNECTIONS": "4",
            "ADMIN_PORT": "0",
        }
        assert import_all(server.credentials, environment(folder, **settings)).returncode == 0
        command = ["sh", "-c", f"ulimit -n 100; exec {sys.executable} -m runner"]
        with Process(command, environment(folder, **settings), folder.with_suffix(".log")) as process:
            states = Counter[str]()

            def all_settled() -> bool:
                link = UnixHTTPConnection(folder / "admin.sock", 10.0)
                try:
                    link.request("GET", "/api/sessions")
                    rows = json.loads(link.getresponse().read())["sessions"]
                except OSError:
                    return False
                finally:
                    link.close()
                states.clear()
                states.update(f"{row['state']} {row['reason']}" for row in rows)
                return states["online None"] == 32

            wait_until(all_settled, 30, "32 online")
            assert states == {"online None": 32, "suspended fd_limit": 8}
            lines = [json.loads(line) for line in process.output().splitlines()]
            assert len([line for line in lines if line["level"] == "critical"]) == 1
            assert process.stop() == 0


DYING = """
import sys, threading
from runner import app
opened = app.open_engine
def dying(store, **config):
    engine = opened(store, **config)
    threading.Timer(1.0, engine.shutdown).start()  # behind the supervisor's back: as if it had died
    return engine
app.open_engine = dying
sys.argv = ["runner"]
from runner.__main__ import main
main()
"""


def test_an_engine_that_dies_ends_the_process_with_seventy(folder: Path) -> None:
    env = environment(folder, ADMIN_PORT="0", **DEAD_ENDPOINT)
    with Process([sys.executable, "-c", DYING], env, folder.with_suffix(".log")) as process:
        assert process.child.wait(30) == 70
        last = json.loads(process.output().splitlines()[-1])
    assert (last["level"], last["event"]) == ("critical", "engine failed")
