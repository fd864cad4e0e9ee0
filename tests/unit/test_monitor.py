"""The monitor: its judgement as a pure function, its log under concurrency, and what it asks whom."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from runner.cli.main import cli
from runner.monitor import ping as pinging
from runner.monitor import record
from runner.monitor.look import Look, NoAnswerError, look, process_age_s
from runner.monitor.verdict import Bars, Level, Past, judge, remember

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_700_000_000.0
SETTINGS = {
    "MEMORY_THRESHOLD": "0.8",
    "CPU_THRESHOLD": "0.9",
    "ERROR_RATE_THRESHOLD": "0.1",
    "RESPONSE_TIME_THRESHOLD": "5000",
    "CONNECT_RATE": "10",
}


def a_look(**changes: Any) -> Look:  # noqa: ANN401 - parts of JSON
    """A healthy runner of 100 sessions that has run for a day; `changes` replace parts of its answers."""
    health = {
        "live": True,
        "ready": True,
        "checks": [{"name": "engine_lag", "healthy": True, "detail": ""}],
        "process": {"pid": 7, "startedAt": 1_699_900_000_000, "uptime": 86_400.0},
    }
    system = {
        "system": {"totalMemory": 1000, "usedMemory": 500, "cpuUsage": 0.2, "errorRate": None},
        "averageResponseTime": 80.0,
        "states": {"online": 100},
        "process": {"rss": 90_000_000},
        "engine": {"heartbeatAge": 0.2, "framesReceived": 5000},
        "fleet": {"incidents": []},
        "settings": SETTINGS,
    }
    for part, values in changes.items():
        target = health if part in health else system
        old = target.get(part)
        target[part] = {**old, **values} if isinstance(old, dict) and part != "states" else values
    return Look(NOW, health, system, 0.02, 7, 7, 90_000.0)


def level(found: Look, past: Past | None = None) -> Level:
    return judge(found, past, Bars()).level


def test_all_well_is_one_line_with_numbers() -> None:
    line = judge(a_look(), None, Bars()).line()
    assert line.startswith("OK: 100 of 100 sessions online | ")
    for number in ("online=100;", "missing=0;5;50;0;100", "memory=0.5;0.8;;0;1", "response_time=80ms;5000;"):
        assert number in line
    assert "error_rate" not in line  # null below 20 operations: no number is better than a wrong one


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system": {"usedMemory": 801}}, "memory 80.1% is above 80.0%"),
        ({"system": {"cpuUsage": 0.91}}, "cpu 91.0% is above 90.0%"),
        ({"system": {"errorRate": 0.11}}, "error rate 11.0% is above 10.0%"),
        ({"averageResponseTime": 5001.0}, "response time 5001 ms is above 5000 ms"),
    ],
)
def test_each_threshold_of_the_settings_in_force_is_a_warning(changes: dict[str, Any], said: str) -> None:
    verdict = judge(a_look(**changes), None, Bars())
    assert (verdict.level, verdict.texts) == (Level.WARNING, (said,))


@pytest.mark.parametrize(
    "changes",
    [
        {"system": {"usedMemory": 800}},
        {"system": {"cpuUsage": 0.9}},
        {"system": {"errorRate": 0.1}},
        {"averageResponseTime": 5000.0},
        {"averageResponseTime": None},
    ],
)
def test_at_the_threshold_all_is_well(changes: dict[str, Any]) -> None:
    assert level(a_look(**changes)) is Level.OK


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"online": 96, "backoff": 4}, Level.OK),
        ({"online": 95, "backoff": 5}, Level.WARNING),
        ({"online": 51, "suspended": 30, "parked": 19}, Level.WARNING),
        ({"online": 50, "suspended": 30, "degraded": 20}, Level.CRITICAL),
        ({"online": 1, "stopped": 99}, Level.OK),
        ({"pairing": 5}, Level.OK),
        ({"online": 4, "logged_out": 1}, Level.WARNING),
        ({}, Level.OK),
    ],
)
def test_sessions_that_should_be_online_and_are_not(states: dict[str, int], expected: Level) -> None:
    assert level(a_look(states=states)) is expected


def test_a_fleet_that_is_being_dialled_after_a_start_is_not_missing() -> None:
    """100 sessions at ten a second, and a minute of grace."""
    states = {"online": 10, "connecting": 90}
    assert level(a_look(states=states, process={"pid": 7, "startedAt": 1, "uptime": 69.0})) is Level.OK
    assert level(a_look(states=states, process={"pid": 7, "startedAt": 1, "uptime": 71.0})) is Level.CRITICAL
    parked = {"online": 10, "parked": 90}
    assert level(a_look(states=parked, process={"pid": 7, "startedAt": 1, "uptime": 5.0})) is Level.CRITICAL


def test_not_ready_and_not_live_are_critical_and_say_why() -> None:
    checks = [{"name": "store_lag", "healthy": False, "detail": "the store has not committed for 9.0 s"}]
    verdict = judge(a_look(ready=False, checks=checks), None, Bars())
    assert verdict.line().startswith("CRITICAL: not ready: the store has not committed for 9.0 s |")
    assert level(a_look(live=False, ready=False)) is Level.CRITICAL


@pytest.mark.parametrize(("severity", "expected"), [("warning", Level.WARNING), ("critical", Level.CRITICAL)])
def test_an_open_incident_has_its_own_level(severity: str, expected: Level) -> None:
    incidents = [{"kind": "path_outage", "severity": severity, "text": "dials fail: tcp_refused"}]
    verdict = judge(a_look(fleet={"incidents": incidents}), None, Bars())
    assert (verdict.level, verdict.texts) == (expected, ("path_outage: dials fail: tcp_refused",))


def test_the_worst_comes_first() -> None:
    found = a_look(states={"online": 95, "backoff": 5}, engine={"heartbeatAge": 9.0})
    assert judge(found, None, Bars()).texts[0].startswith("it says ready")


# Lies


def test_ready_with_an_engine_that_stands_still_is_a_lie() -> None:
    assert level(a_look(engine={"heartbeatAge": 5.0})) is Level.OK
    assert level(a_look(engine={"heartbeatAge": 5.1})) is Level.CRITICAL


def past(**changes: Any) -> Past:  # noqa: ANN401
    return replace(remember(a_look()), at=NOW - 120, frames=4000, **changes)


@pytest.mark.parametrize(
    ("before", "frames", "expected"),
    [
        (past(), 5000, Level.OK),
        (past(), 4000, Level.CRITICAL),
        (replace(past(), at=NOW - 59), 4000, Level.OK),  # two looks in quick succession prove nothing
        (replace(past(), online=0), 4000, Level.OK),
        (replace(past(), pid=8), 10, Level.OK),  # another process counts from zero
        (replace(past(), started_at=1), 10, Level.OK),  # so does one that restarted in place
    ],
)
def test_online_sessions_whose_frames_do_not_move_are_a_lie(
    before: Past, frames: int, expected: Level
) -> None:
    assert level(a_look(engine={"framesReceived": frames}), before) is expected


def test_a_pid_that_is_not_the_listeners_or_the_lock_holders_is_a_lie() -> None:
    assert level(a_look(process={"pid": 8})) is Level.CRITICAL
    assert level(replace(a_look(), lock_pid=9)) is Level.CRITICAL
    assert level(replace(a_look(), lock_pid=None)) is Level.OK


def test_an_uptime_longer_than_its_process_is_a_lie() -> None:
    assert level(replace(a_look(), process_age_s=86_396.0)) is Level.OK
    assert level(replace(a_look(), process_age_s=86_394.0)) is Level.CRITICAL
    assert level(replace(a_look(), process_age_s=None)) is Level.OK


def test_an_answer_of_another_shape_does_not_break_the_judge() -> None:
    odd = Look(NOW, {"live": True, "ready": True}, {"system": [], "states": None}, 0.1, 7, None, None)
    assert judge(odd, None, Bars()).level is Level.OK


def test_a_line_stays_one_line_whatever_an_incident_says() -> None:
    text = "dials fail: \x1b[2J\n| online=9999 \u2028"
    line = judge(
        a_look(fleet={"incidents": [{"kind": "x", "severity": "warning", "text": text}]}), None, Bars()
    ).line()
    assert line.count("|") == 1
    assert line.isprintable()


# The log


def test_lines_of_overlapping_runs_are_whole_and_none_is_lost_while_the_log_rotates(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "monitor.log"

    def write(writer: int) -> None:
        for number in range(20):
            record.append(path, f"OK: {writer}-{number}", NOW, rotate_bytes=1200)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path, *(path.with_name(f"monitor.log.{number}") for number in range(1, record.KEPT + 1))]
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 80
    assert all(line.startswith("2023-11-14T22:13:20Z OK: ") for line in lines)
    assert len([file for file in files if file.exists()]) > 1


def test_the_oldest_log_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "monitor.log"
    for number in range(10):
        record.append(path, f"OK: {number}", NOW, rotate_bytes=1)
    assert sorted(file.name for file in tmp_path.glob("monitor.log*") if file.suffix != ".lock") == [
        "monitor.log",
        *(f"monitor.log.{number}" for number in range(1, 6)),
    ]
    assert path.read_text().endswith("OK: 9\n")


def test_the_last_look_is_kept_and_damage_is_no_error(tmp_path: Path) -> None:
    path = record.state_file(tmp_path / "monitor.log")
    assert record.load_past(path) is None
    record.save_past(path, past())
    assert record.load_past(path) == past()
    path.write_text('{"at": 1')
    assert record.load_past(path) is None
    path.write_text('{"something": 1}')
    assert record.load_past(path) is None


# The look and the whole command, against a server of ours


@contextmanager
def answering(path: Path, health: dict[str, Any], system: dict[str, Any]) -> Iterator[None]:
    """A runner that says what it is told to say."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(health if self.path == "/health" else system).encode()
            self.send_response(200 if health.get("ready") else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_args: object) -> None:
            return

    class Server(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)  # type: ignore[arg-type]

    with Server(str(path), Handler) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            path.unlink()


def alive(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401
    """The answers of a healthy runner that lives in this very process."""
    process = {"pid": os.getpid(), "startedAt": 1, "uptime": 0.0}
    found = a_look(**{"process": process, **changes})
    return found.health, found.system


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHATSAPP_DATA_DIR", str(tmp_path))
    return tmp_path


def monitor(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["monitor", *args])
    return done.exit_code, done.stdout


def test_the_command_prints_logs_and_exits_as_a_plugin(data: Path) -> None:
    with answering(data / "admin.sock", *alive()):
        code, line = monitor()
        assert (code, line[:3]) == (0, "OK:")
    log = (data / "logs" / "monitor.log").read_text()
    assert log.endswith(line)
    assert len(log.splitlines()) == 1


def test_a_dead_runner_is_critical(data: Path) -> None:
    assert monitor() == (2, f"CRITICAL: dead: there is no socket {data}/admin.sock\n")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(data / "admin.sock"))
    code, line = monitor()
    assert (code, "nobody listens" in line) == (2, True)
    assert len((data / "logs" / "monitor.log").read_text().splitlines()) == 2


def test_a_hung_runner_is_critical(data: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "admin.sock"))
        listener.listen(1)
        assert monitor("--timeout", "0.1") == (2, "CRITICAL: hung: no answer within 0.1 s\n")


def test_a_lying_runner_is_critical(data: Path) -> None:
    with answering(data / "admin.sock", *alive()):
        assert monitor()[0] == 0
    last = record.state_file(data / "logs" / "monitor.log")
    kept = record.load_past(last)
    assert kept is not None
    record.save_past(last, replace(kept, at=kept.at - 120))  # two minutes pass, and not a frame comes in
    with answering(data / "admin.sock", *alive()):
        code, line = monitor()
    assert (code, "no frame came in" in line) == (2, True)
    with answering(data / "admin.sock", *alive(process={"pid": 1})):
        assert "is what it says" in monitor()[1]


def test_something_else_on_the_socket_is_critical(data: Path) -> None:
    with answering(data / "admin.sock", {}, {}):
        code, line = monitor()
    assert (code, "not a runner" in line) == (2, True)


def test_wrong_settings_and_wrong_options_are_unknown(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert monitor("--nothing")[0] == 3
    assert monitor("--ping-url", "file:///etc/passwd")[0] == 3
    monkeypatch.setenv("WHATSAPP_IK", "perhaps")
    code, line = monitor()
    assert (code, line[:8]) == (3, "UNKNOWN:")


def test_a_log_that_cannot_be_written_does_not_hide_the_verdict(data: Path) -> None:
    (data / "logs").write_text("a file where the directory should be")
    assert monitor()[0] == 2


def test_no_time_to_answer_is_wrong_usage_and_not_a_hung_runner(data: Path) -> None:
    done = CliRunner().invoke(cli, ["monitor", "--timeout", "0"])
    assert (done.exit_code, "is not in the range" in done.stderr) == (3, True)


def test_a_bug_of_the_monitor_is_unknown_and_never_a_warning(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("runner.cli.monitoring.look", broken)
    assert monitor()[0] == 3


def test_the_look_takes_the_pid_from_the_kernel(data: Path) -> None:
    (data / "admin.sock.lock").write_text("123\n")
    with answering(data / "admin.sock", *alive()):
        found = look(data / "admin.sock", 5.0)
    assert (found.listener_pid, found.lock_pid) == (os.getpid(), 123)
    assert found.process_age_s == pytest.approx(process_age_s(os.getpid()), abs=5)
    with pytest.raises(NoAnswerError):
        look(data / "admin.sock", 5.0)


# The ping


@contextmanager
def watcher(status: int = 200) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A healthchecks.io of our own: its URL, and what it was told."""
    told: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(status)
            self.send_header("location", "ftp://elsewhere.invalid/")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/uuid?create=1", told
        finally:
            server.shutdown()
            thread.join()


def test_the_watcher_is_told_of_success_and_of_failure(data: Path) -> None:
    with watcher() as (url, told):
        assert monitor("--ping-url", url)[0] == 2
        with answering(data / "admin.sock", *alive(averageResponseTime=9000)):
            assert monitor("--ping-url", url)[0] == 1
    assert [path for path, _ in told] == ["/uuid/fail?create=1", "/uuid?create=1"]
    assert told[0][1].startswith("CRITICAL: dead")


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_ping_that_fails_is_logged_and_changes_nothing(data: Path, status: int) -> None:
    with watcher(status) as (url, _told), answering(data / "admin.sock", *alive()):
        assert monitor("--ping-url", url)[0] == 0
    assert f"ping failed: the watcher answered {status}" in (data / "logs" / "monitor.log").read_text()


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "file:///etc/passwd", "hc-ping.com/x", "https://", "https:///x"]
)
def test_only_http_is_pinged(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        pinging.checked_url(url)


def test_the_check_imports_nothing_heavy(data: Path) -> None:
    heavy = ("trio", "fastapi", "anycorn", "msgspec", "structlog", "psutil", "runner._core", "urllib.request")
    code = (
        "import sys; sys.argv = ['runner', 'monitor']\n"
        "from runner.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
