"""The README's commands, all of them, as a reader types them; a new one there must have a line here.

What stands for something of the reader's own (`ID`, `FILE`, `/srv/bots`) is put in; nothing else is changed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.processes import ROOT, wait_until
from support.written import Written, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS: Final = list(dict.fromkeys(blocks(ROOT / "README.md")))
BAILEYS_FILES: Final = ROOT / "tests" / "vectors" / "baileys_auth"
P: Final = "python -m runner"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHOWN_ELSEWHERE: Final = {
    "make run": "every test here: it is `run --simulator 25` after a build",
    "make test": "this very run",
    f"{P} run --simulator 25": "test_brief.py",
    f"{P} run --simulator 25 --chatter 2/s examples.echo:app": "the runner that this file talks to",
    f"{P} run examples.echo:app": "test_bot.py: an app without a simulator",
    f"{P}": "test_run.py: with an empty store it says how to fill it",
    "export WHATSAPP_DATA_DIR=/var/lib/wa-runner": "each command here has its own",
    f"{P} pair support-1": "the same command as for shop-1",
    f"{P} pair ID": "the same command as for shop-1",
    f"{P} top": "test_brief.py, at a terminal",
    f"{P} tune --sessions 10000": "test_brief.py",
    f"sudo {P} tune --sessions 10000 --apply": "test_brief.py",
}
FOLLOWING: Final = {
    f"{P} tail": "message",
    f"{P} logs -f": "runner started",
}
"""Those that go on, and what comes by itself while contacts write."""
TYPED: Final = {
    # as written: as typed, and what is in the answer
    f"{P} status": [(f"{P} status", r"^online +\d+$")],
    f"{P} reconnect sim-00007": [(f"{P} reconnect sim-00007", "connection 2 is on its way")],
    f"{P} sessions": [(f"{P} sessions", "sim-00007 +online")],
    "curl -X POST http://localhost:4001/force-reconnection/sim-00001": [
        ("curl -X POST http://localhost:4001/force-reconnection/sim-00001", '"connection":2')
    ],
    'curl -X POST localhost:4001/api/sessions -d \'{"id": "shop-1"}\'': [
        ('curl -X POST localhost:4001/api/sessions -d \'{"id": "shop-2"}\'', '"id":"shop-2"')
    ],
    "curl localhost:4001/api/shop-1/auth/qr > qr.png": [
        ("curl localhost:4001/api/shop-2/auth/qr --retry 20 --retry-all-errors > $HERE/qr.png", ""),
        ("head -c 4 $HERE/qr.png | od -c", "P +N +G"),
        ("curl 'localhost:4001/api/shop-2/auth/qr?format=raw'", '"value"'),
    ],
    'curl -X POST localhost:4001/api/shop-1/auth/request-code -d \'{"phoneNumber": "+55 11 91234-5678"}\'': [
        (
            'curl localhost:4001/api/shop-2/auth/request-code -d \'{"phoneNumber": "5511912345678"}\'',
            '"code"',
        )
    ],
    "curl -X POST localhost:4001/api/sessions/shop-1/pair": [
        ("curl -X POST localhost:4001/api/sessions/shop-2/pair", '"id":"shop-2"'),
    ],
    f"{P} import /srv/bot/auth_info --id support-1": [
        (f"{P} import {BAILEYS_FILES / 'one'} --id support-1", "support-1"),
    ],
    f"{P} import --all /srv/bots": [(f"{P} import --all $HERE/bots", "bot-1")],
    f'{P} sim say sim-00001 "is anybody there?"': [(f'{P} sim say sim-00001 "is anybody there?"', "")],
    f'{P} send sim-00001 15559000000 "we open at nine"': [
        (f'{P} send sim-00001 15559000000 "we open at nine"', "")
    ],
    f"{P} webhooks add https://example.com/hook --events message --secret-file key": [
        ("printf a-secret-of-32-bytes-or-more-for-it > $HERE/key", ""),
        (f"{P} webhooks add http://127.0.0.1:9/hook --events message --secret-file $HERE/key", "wh_"),
    ],
    f"{P} dead-letters list|redrive|drop": [
        (f"{P} dead-letters list", ""),
        (f"{P} dead-letters redrive --all", ""),
        (f"{P} dead-letters drop --all", ""),
    ],
    f"{P} reconnect ID": [(f"{P} reconnect ID", "on its way")],
    f"{P} reset-breaker ID": [(f"{P} reset-breaker ID", "breaker closed")],
    f"{P} show ID": [(f"{P} show ID", "breaker.state +closed")],
    f"{P} start | stop | restart ID": [
        (f"{P} stop ID", "stopped"),
        (f"{P} start ID", ""),
        (f"{P} restart ID", ""),
    ],
    f"{P} metrics": [(f"{P} metrics", "system.cpuUsage")],
    f"{P} set-proxy ID URL|none": [
        (f"{P} set-proxy ID http://127.0.0.1:9", ""),
        (f"{P} set-proxy ID none", ""),
    ],
    f"{P} config print --effective": [(f"{P} config print --effective", "WHATSAPP_ADMIN_PORT=")],
    f"{P} monitor": [(f"{P} monitor || test $? = 1", r"^(OK|WARNING): ")],
    f"{P} tune": [(f"{P} tune", "open-files")],
    f"{P} logout ID": [(f"{P} logout sim-00020", "sim-00020")],
    f"{P} delete ID --yes": [(f"{P} delete sim-00021 --yes", "sim-00021")],
    f"{P} export ID DIR": [
        (f"{P} export sim-00022 $HERE/exported --force", "sim-00022"),
        ("ls $HERE/exported", r"creds\.json"),
    ],
    f"{P} backup FILE | restore FILE": [
        (f"{P} backup $HERE/backup", "backup"),
        (f"WHATSAPP_DATA_DIR=$HERE/other {P} restore $HERE/backup", ""),
    ],
    f"{P} send ID CHAT TEXT": [(f"{P} send ID 15559000001 hello", "")],
    f"{P} sim say ID TEXT": [(f"{P} sim say ID hello", "")],
    f"{P} alerts": [(f"{P} alerts", "")],
    f"{P} alerts ack|resolve|silence …": [(f"{P} alerts silence cpu_high --minutes 1", "cpu_high")],
    f"{P} webhooks list|add|remove|test": [(f"{P} webhooks list", "127.0.0.1")],
    "curl http://localhost:4001/performance-metrics": [
        ("curl http://localhost:4001/performance-metrics", '"activeConnections":2')
    ],
    "curl http://localhost:4001/reconnection-status": [
        ("curl http://localhost:4001/reconnection-status", '"nextRetryAt"')
    ],
    "curl -X POST http://localhost:4001/force-reconnection/{whatsappId}": [
        ("curl -X POST http://localhost:4001/force-reconnection/{whatsappId}", '"connection":')
    ],
    "curl -X POST http://localhost:4001/reset-circuit-breaker/{whatsappId}": [
        ("curl -X POST http://localhost:4001/reset-circuit-breaker/{whatsappId}", '"closed"')
    ],
    "curl http://localhost:4001/health": [("curl http://localhost:4001/health", '"ready":true')],
    "curl http://localhost:4001/metrics": [("curl http://localhost:4001/metrics", "runner_sessions")],
    'curl "http://localhost:4001/api/metrics/history?metric=cpuUsage"': [
        ('curl "http://localhost:4001/api/metrics/history?metric=cpuUsage"', "cpuUsage")
    ],
    'curl --unix-socket "$WHATSAPP_DATA_DIR/admin.sock" http://localhost/api/sessions': [
        ('curl --unix-socket "$WHATSAPP_DATA_DIR/admin.sock" http://localhost/api/sessions', "sim-00001")
    ],
    "*/2 * * * *  WHATSAPP_DATA_DIR=/var/lib/wa-runner /opt/runner/bin/runner monitor >/dev/null": [
        ("runner monitor >/dev/null || test $? = 1", "")
    ],
}


@pytest.fixture(scope="module")
def reader() -> Iterator[Written]:
    """A runner with its simulator, a bot and contacts that write; what a reader has himself is in `$HERE`."""
    folder = Path(tempfile.mkdtemp(prefix="runner-"))
    shutil.copytree(BAILEYS_FILES / "two", folder / "bots" / "bot-1")
    own = {"HERE": str(folder), "WHATSAPP_WEBHOOK_ALLOW": "127.0.0.1"}
    with Written(folder / "it", "--chatter", "2/s", "examples.echo:app", settings=own) as running:
        running.wait_online()
        yield running
        assert running.stop() == 0
    shutil.rmtree(folder)


def test_every_command_of_the_page_is_here_once_and_none_that_it_has_not() -> None:
    here = [*SHOWN_ELSEWHERE, *FOLLOWING, *TYPED, *LINKING, RESTART]
    assert sorted(COMMANDS) == sorted(here)


def links_by_camera(reader: Written, command: str, scan: str) -> None:
    with reader.following(command) as pairing:
        wait_until(lambda: reader.run(scan).returncode == 0, 30.0, scan, every_s=0.2)
        assert pairing.child.wait(30) == 0
        assert "shop-1: linked, online" in pairing.output()


def links_by_code(reader: Written, command: str) -> None:
    phone = "15551112222"
    with reader.following(command.replace("ID", "shop-3").replace(" N", f" {phone}")) as pairing:

        def code() -> str:
            found = re.search(r"\b([0-9A-Z]{4})-?([0-9A-Z]{4})\b", pairing.output())
            return "".join(found.groups()) if found else ""

        shown = wait_until(code, 30.0, "a code")
        reader.said(f"{P} sim enter {shown} --phone {phone}")
        assert pairing.child.wait(30) == 0
        assert "shop-3: linked, online" in pairing.output()


LINKING: Final = (f"{P} pair shop-1", f"{P} sim scan shop-1", f"{P} pair ID --phone N")
RESTART: Final = f"{P} restart"


def test_a_phone_is_linked_by_camera_and_by_code(reader: Written) -> None:
    by_camera, scan, by_code = LINKING
    links_by_camera(reader, by_camera, scan)
    links_by_code(reader, by_code)


@pytest.mark.parametrize("command", [it for it in COMMANDS if it in TYPED])
def test_it_does_what_the_page_says(reader: Written, command: str) -> None:
    for typed, wanted in TYPED[command]:
        assert re.search(wanted, reader.said(typed), re.MULTILINE), typed


@pytest.mark.parametrize("command", FOLLOWING)
def test_it_tells_what_comes(reader: Written, command: str) -> None:
    with reader.following(command) as told:
        wait_until(lambda: FOLLOWING[command] in told.output(), 30.0, command)


def test_a_restart_in_place_comes_back(reader: Written) -> None:
    before = reader.told("curl http://localhost:4001/health")["process"]["restarts"]
    reader.said(f"{RESTART} --yes")
    assert reader.told("curl http://localhost:4001/health")["process"]["restarts"] == before + 1
