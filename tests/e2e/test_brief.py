"""docs/brief.md walked row by row: every command that it names is run as it stands there, and looked at.

A command without a look of its own fails; so does a look at what the page does not name.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from runner.cli.exits import Exit
from support.control import Control
from support.processes import ROOT, wait_until
from support.tuned import PORTS, tunable
from support.written import SESSION, Written, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Look = Callable[[Written, str], object]

PAGE: Final = ROOT / "docs" / "brief.md"
COMMANDS: Final = list(dict.fromkeys(command for _, commands in rows(PAGE) for command in commands))
"""Each once. What is an address, or has its own in the line that the runner prints (`…`), is none."""
ELEVEN: Final = """
WHATSAPP_RECONNECTION_MAX_RETRIES=10
WHATSAPP_RECONNECTION_BASE_DELAY=2000
WHATSAPP_RECONNECTION_MAX_DELAY=300000
WHATSAPP_CIRCUIT_BREAKER_THRESHOLD=5
WHATSAPP_CIRCUIT_BREAKER_TIMEOUT=600000
WHATSAPP_PERFORMANCE_MONITORING=true
WHATSAPP_HEALTH_CHECK_INTERVAL=30000
WHATSAPP_MEMORY_THRESHOLD=0.8
WHATSAPP_CPU_THRESHOLD=0.9
WHATSAPP_ERROR_RATE_THRESHOLD=0.1
WHATSAPP_RESPONSE_TIME_THRESHOLD=5000
"""
SIX: Final = {
    "connectionUptime",
    "messagesProcessed",
    "messagesPerMinute",
    "averageResponseTime",
    "errorCount",
    "reconnectCount",
}
FIVE: Final = {"totalMemory", "usedMemory", "cpuUsage", "activeConnections", "errorRate"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short one: the path of a socket has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="runner-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def walk(folder: Path) -> Iterator[Written]:
    """A runner with a simulator, contacts that talk, and a bot that answers."""
    with Written(folder / "all", "--chatter", "2/s", "examples.echo:app") as running:
        running.wait_online()
        yield running
        assert running.stop() == 0


def control(walk: Written) -> Control:
    """The simulator, at the address that the runner printed."""
    (address,) = re.findall(r"curl -X POST (http://\S+)/drop-all", walk.printed("/drop-all"))
    return Control(address)


# -- smart reconnection


def waits_for_its_server(walk: Written, command: str) -> None:
    server = control(walk)
    server.post("/refuse", {"seconds": 30, "mode": "reset"})
    server.post("/drop-all")

    def waiting() -> bool:
        shown = dict(line.split(maxsplit=1) for line in walk.said(command).splitlines() if " " in line)
        return int(shown["attempt"]) >= 1 and shown["nextRetryAt"].strip() != "-"

    wait_until(waiting, 20.0, "an attempt and the time of the next")
    server.post("/refuse", {"seconds": 0, "mode": "reset"})
    walk.said("curl -X POST http://localhost:4001/force-reconnection/{whatsappId}")
    walk.wait_online()


def every_breaker(walk: Written, command: str) -> None:
    listed = walk.told(command)["sessions"]
    assert len(listed) == walk.sessions
    assert {it["breaker"]["state"] for it in listed} == {"closed"}


def healthy(walk: Written, command: str) -> None:
    assert walk.told(command)["ready"] is True


def comes_back_by_itself(walk: Written, command: str) -> None:
    sessions = int(command.rsplit(" ", 1)[1])
    with Written(walk.log.parent / "plain", sessions=sessions) as plain:
        assert plain.was_started_as(command)
        plain.wait_online()
        before = plain.told("curl http://localhost:4001/reconnection-status")["sessions"]
        plain.said(plain.printed("/drop-all"))

        def all_again() -> bool:
            after = plain.told("curl http://localhost:4001/reconnection-status")["sessions"]
            return all(it["connection"] == 2 and it["state"] == "online" for it in after)

        assert {it["connection"] for it in before} == {1}
        wait_until(all_again, 30.0, "every session on its second connection")
        assert plain.stop() == 0


# -- tuned connection, settings


def every_setting(walk: Written, command: str) -> None:
    said = walk.said(command).splitlines()
    assert set(ELEVEN.split()) <= set(said)
    named = set(re.findall(r"WHATSAPP_[A-Z_]+", PAGE.read_text()))
    assert named <= {line.partition("=")[0] for line in said}


def last_pong(walk: Written, command: str) -> None:
    def all_pinged() -> bool:
        return all(it["lastPongAt"] and it["pongRttMs"] is not None for it in walk.told(command))

    wait_until(all_pinged, 40.0, "a pong of every session", every_s=1.0)


def asked_again(walk: Written, command: str) -> None:
    assert walk.was_started_as(command)
    resent = re.compile(rb"^runner_messages_resent_total (\d+)$", re.MULTILINE)

    def count() -> int:
        (found,) = resent.findall(walk.said("curl http://localhost:4001/metrics").encode())
        return int(found)

    before, server = count(), control(walk)
    server.post("/mishear", {"contact": 1, "n": 1})
    server.post("/say", {"all": True, "contact": 1, "text": "is anybody there?"})
    wait_until(lambda: count() > before, 30.0, "an answer that was sent again")


# -- monitoring


def measures(walk: Written, command: str) -> None:
    told = walk.told(command)
    assert set(told["system"]) >= FIVE
    assert told["system"]["activeConnections"] == walk.sessions
    assert told["responseTime"]["p99Ms"] > 0
    assert told["process"]["rss"] > 0


def has_row(name: str) -> Look:
    def look(walk: Written, command: str) -> None:
        assert re.search(rf"(?m)^{name}\b", walk.said(command)), command

    return look


def log_lines_as_they_come(walk: Written, command: str) -> None:
    with walk.following(command) as log:
        wait_until(lambda: "runner started" in log.output(), 30.0, "a line of the log")


def whole_screen(walk: Written, command: str) -> None:
    with walk.at_a_terminal(command) as screen:
        wait_until(lambda: "of 25 online" in screen.output(), 30.0, "the fleet on the screen")
        screen.stop()  # and what runs in it


def alerts_as_they_come(walk: Written, command: str) -> None:
    with Written(walk.log.parent / "alerting", sessions=2) as alerting:
        alerting.wait_online()
        with alerting.following(command) as tail:
            log = Path(alerting.env["WHATSAPP_DATA_DIR"]) / "logs" / "alerts.log"

            def told() -> bool:
                return "alert.firing" in tail.output() and "session_parked" in tail.output()

            other_client = {"child": "conflict", "childAttrs": {"type": "replaced"}}
            control(alerting).post("/stream-error", {"user": "15550000001", **other_client})
            wait_until(told, 30.0, "an alert of a session that was replaced")
            assert "session_parked" in log.read_text()
        assert alerting.stop() == 0


def page(walk: Written, command: str) -> None:
    html = walk.said(f"curl --include {command}")
    assert "200" in html.splitlines()[0]
    scripts = re.findall(r'src="(/static/[^"]+)"', html)
    assert scripts
    for path in scripts:
        walk.said(f"curl http://localhost:4001{path}")


# -- the machine


def advice(walk: Written, command: str) -> None:
    said = walk.said(command)
    assert {"open-files", "tcp-keepalive", "gc-freeze", "worker-threads"} <= set(said.split())


def applied_and_taken_back(walk: Written, command: str) -> None:
    left = (0, Exit.NOT_ALLOWED)  # a clock that only the host can set
    with tunable():
        file = Path("/proc/sys") / PORTS.replace(".", "/")
        file.write_text("60000 60999")
        assert walk.run(command).returncode in left
        assert file.read_text().split() == ["60000", "60999"]  # enough for 25 sessions
        assert walk.run(f"{command} --sessions 10000").returncode in left
        assert int(file.read_text().split()[0]) < 60000
        assert walk.run(command.replace("--apply", "--check")).returncode in (0, 1)
        walk.said(command.replace("--apply", "--undo"))
        assert file.read_text().split() == ["60000", "60999"]


# -- commands and endpoints


def next_connection(walk: Written, command: str) -> None:
    told = walk.told(command)
    assert told["id"] == SESSION
    assert told["connection"] >= 2
    walk.wait_online()


def closed_breaker(walk: Written, command: str) -> None:
    assert walk.told(command)["breaker"]["state"] == "closed"


def says(wanted: str) -> Look:
    def look(walk: Written, command: str) -> None:
        assert wanted in walk.said(command)

    return look


def one_line_for_cron(walk: Written, command: str) -> None:
    done = walk.run(command.split(maxsplit=5)[5])
    assert done.returncode in (0, 1), done.stdout  # a busy machine may be told of
    assert re.fullmatch(r"(OK|WARNING): .*\|.*\n", done.stdout)
    assert (Path(walk.env["WHATSAPP_DATA_DIR"]) / "logs" / "monitor.log").exists()


def service_file(walk: Written, command: str) -> None:
    wanted = {"systemd": "Type=notify", "pm2": "apps:", "docker": "FROM ", "compose": "services:"}
    for kind, word in wanted.items():
        assert word in walk.said(command.replace("systemd", kind))


def six(walk: Written, command: str) -> None:
    assert set(walk.told(command)) >= SIX


def four_classes(walk: Written, command: str) -> None:
    classes = {it["class"] for it in walk.told(command)["definitions"]}
    assert classes == {"performance", "connectivity", "system", "application"}
    files = {it.name for it in (Path(walk.env["WHATSAPP_DATA_DIR"]) / "logs").iterdir()}
    assert {"alerts.log", "performance.log"} <= files


def reconnect_lines(walk: Written, command: str) -> None:
    walk.said("curl -X POST http://localhost:4001/force-reconnection/{whatsappId}")
    walk.wait_online()
    assert SESSION in walk.said(f"{command} | grep reconnect")


def the_whole_runner(walk: Written, command: str) -> None:
    before = walk.told("curl http://localhost:4001/health")["process"]
    walk.said(f"echo y | {command}")
    after = walk.told("curl http://localhost:4001/health")["process"]
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"] + 1)
    walk.wait_online()


LOOKS: Final[dict[str, Look]] = {
    "python -m runner show ID": waits_for_its_server,
    "curl http://localhost:4001/reconnection-status": every_breaker,
    "curl http://localhost:4001/health": healthy,
    "python -m runner run --simulator 25": comes_back_by_itself,
    "python -m runner config print --effective": every_setting,
    "python -m runner sessions --json": last_pong,
    "python -m runner run --simulator 25 --chatter 2/s examples.echo:app": asked_again,
    "curl http://localhost:4001/performance-metrics": measures,
    "python -m runner metrics": has_row("system.cpuUsage"),
    "python -m runner top": whole_screen,
    "python -m runner alerts": lambda walk, command: walk.said(command),
    "python -m runner logs -f": log_lines_as_they_come,
    "http://127.0.0.1:4001/": page,
    "python -m runner tune --sessions 10000": advice,
    "sudo python -m runner tune --apply": applied_and_taken_back,
    "curl -X POST http://localhost:4001/force-reconnection/{whatsappId}": next_connection,
    "curl -X POST http://localhost:4001/reset-circuit-breaker/{whatsappId}": closed_breaker,
    "*/2 * * * * runner monitor": one_line_for_cron,
    "python -m runner service print systemd": service_file,
    "curl http://localhost:4001/api/sessions/{whatsappId}/metrics": six,
    "curl http://localhost:4001/performance-metrics?limit=0": measures,
    "curl http://localhost:4001/api/alerts/definitions": four_classes,
    "python -m runner tail --events alert.firing --events alert.resolved": alerts_as_they_come,
    "python -m runner logs": reconnect_lines,
    "curl http://localhost:4001/api/alerts": lambda walk, command: walk.told(command)["active"],
    "curl http://localhost:4001/metrics": has_row("runner_sessions"),
    "python -m runner reconnect ID": says("is on its way"),
    "python -m runner restart": the_whole_runner,
    "python -m runner reset-breaker ID": says("breaker closed"),
}


def test_every_command_of_the_page_has_a_look_and_every_look_a_command() -> None:
    assert sorted(COMMANDS) == sorted(LOOKS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_row_holds(walk: Written, command: str) -> None:
    LOOKS[command](walk, command)
