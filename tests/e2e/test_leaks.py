"""While everything goes wrong at `WHATSAPP_LOG_LEVEL=debug`, nothing that the runner puts out holds a key, a
number, a word of a message, a token or a password."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.parse
from functools import partial
from typing import TYPE_CHECKING

import pytest

from support import mishaps
from support.alerts import Listener, Receiver
from support.control import Control
from support.leaks import Secrets, leaves
from support.pair import FAST_PINGS, Pair, running, simulated
from support.processes import ROOT, RunnerProcess, wait_until
from support.stranger import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.processes import SimulatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

N = 12
DESCRIPTION = json.loads((ROOT / "docs" / "openapi.json").read_text())
TOKEN, READING = "t0ken-that-may-do-all-of-it", "t0ken-that-may-only-read"
GUESS = "t0ken-that-was-mistyped-once"
WEBHOOK_SECRET, WEBHOOK_PATH = "s3cret-of-the-webhook", "s3cret-path-of-a-hook"
COMMANDS = (
    *("status", "sessions", "show sim-00001", "metrics", "alerts", "alerts history"),
    *("config print --effective", "logs --tail 100000", "monitor"),
)


def secrets_of(p: Pair) -> Secrets:
    found = Secrets()
    for directory in sorted(p.simulator.credentials.iterdir()):
        found.credentials(directory)
    for name in (
        *("TEXT", "NAME", "NUMBER", "GROUP", "APPEAL", "PASSWORD", "QUERY"),
        *("HOOK_SECRET", "HOOK_PATH", "HOOK_HEADER"),
    ):
        found.word(name.lower(), getattr(mishaps, name))
    found.word("password, decoded", urllib.parse.unquote(mishaps.PASSWORD))
    for name, text in (("token", TOKEN), ("read token", READING), ("guessed token", GUESS)):
        found.word(name, text)
    found.word("webhook secret", WEBHOOK_SECRET)
    found.word("webhook path", WEBHOOK_PATH)
    return found


class Told:
    """Everything that came out, by where."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._by_name: dict[str, bytes] = {}

    def add(self, name: str, output: bytes | str) -> None:
        raw = output.encode() if isinstance(output, str) else output
        self._by_name[name] = self._by_name.get(name, b"") + raw

    def of(self, name: str) -> bytes:
        return self._by_name[name]

    def assert_clean(self, *, least: dict[str, bytes]) -> None:
        """Nothing secret in any of it; and each of these has what shows that it was worth a look."""
        found = {name: self._secrets.found_in(output) for name, output in self._by_name.items()}
        leaks = {name: it for name, it in found.items() if it}
        assert not leaks, json.dumps(leaks, indent=1)
        longest = max(self._by_name.values(), key=len)
        planted = longest + f"\nsent to {mishaps.NUMBER}\n".encode()
        assert self._secrets.found_in(planted) == ["number"], "the search is blind"
        for name, mark in least.items():
            assert mark in self._by_name[name], name


def read_over_tcp(port: int, path: str) -> bytes:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    link.request("GET", path, headers={"x-api-key": READING})
    answer = link.getresponse()
    body = answer.read()
    link.close()
    assert answer.status == 200, body
    return body


def command(p: Pair, words: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words.split()],
        env=p.runner.env,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SimulatorProcess]]:
    """A simulator and a data directory with its devices, for runners that come and go."""
    directory = tmp_path_factory.mktemp("leaks")
    with simulated(directory, N) as simulator:
        yield directory, simulator


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def settings_of(port: int, log_format: str) -> dict[str, str]:
    return FAST_PINGS | {
        "WHATSAPP_LOG_LEVEL": "debug",
        "WHATSAPP_LOG_FORMAT": log_format,
        "WHATSAPP_LOG_SESSION_RATE": "100000",
        "WHATSAPP_LOG_BUFFER": "100000",
        "WHATSAPP_ADMIN_PORT": str(port),
        "WHATSAPP_METRICS_SESSIONS": "all",
        "WHATSAPP_ALERT_PATIENCE": "0.01",
        "WHATSAPP_ALERT_WEBHOOK_ALLOW": "127.0.0.1",
        "WHATSAPP_WEBHOOK_ALLOW": "127.0.0.1",
        "WHATSAPP_CONNECT_RATE": "1000",
        "WHATSAPP_HANDSHAKE_TIMEOUT": "1500",
        "WHATSAPP_LOGIN_TIMEOUT": "1500",
        "WHATSAPP_MEMORY_THRESHOLD": "0.0001",
    }


def guess(port: int) -> None:
    """Wrong tokens, in each of the places where one may be put."""
    origin = f"Origin: http://localhost:{port}"
    for said in (
        request("GET /api/sessions", f"X-Api-Key: {GUESS}"),
        request("GET /api/sessions", f"Authorization: Bearer {GUESS}"),
        request("GET /ws", f"X-Api-Key: {GUESS}"),
        request(f"GET /api/sessions?token={GUESS}"),
        request(f"GET /{GUESS}"),
        request("POST /login", origin, body=json.dumps({"token": GUESS}).encode(), host=f"localhost:{port}"),
        request("POST /login", origin, body=GUESS.encode(), host=f"localhost:{port}"),
        request("GET /api/sessions", f"Cookie: runner_session={GUESS}; runner_session_{port}={GUESS}"),
    ):
        say(port, said, to_the_end=True)


def leave_in_the_middle(port: int) -> None:
    """Callers who hang up while they say something."""
    said = request(f"POST /api/sessions/{mishaps.NUMBER}/{mishaps.QUERY}", body=mishaps.TEXT.encode())
    say(port, said[:-5], to_the_end=False)
    say(port, f"GET /{mishaps.NUMBER} {mishaps.TEXT} HTTP/9.9\r\n\r\n".encode(), to_the_end=True)


def say(port: int, said: bytes, *, to_the_end: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(said)
        while to_the_end and link.recv(65536):
            pass


WRONG_SETTINGS = (
    f'proxy = "http://user:{mishaps.PASSWORD}@[::1"',
    f'admin_token = "{GUESS}:{GUESS}"',
    f'admin_token = "{GUESS[:8]}"',
    f'alert_webhook_urls = "ftp://hooks.example/{WEBHOOK_PATH}"',
    f'alert_webhook_urls = "http://[{WEBHOOK_PATH}"',
    f'alert_webhook_secre = "{WEBHOOK_SECRET}"',
    f'alert_webhook_secret = ["{WEBHOOK_SECRET}"]',
    f'alert_webhook_secret = "{WEBHOOK_SECRET}',
    f"alert_webhook_secret = {WEBHOOK_SECRET}",
)


def reload_wrong_settings(p: Pair) -> None:
    """SIGHUP with settings that cannot be used."""
    toml = p.runner.log.parent / "data" / "runner.toml"
    before = toml.read_text()
    for number, line in enumerate(WRONG_SETTINGS, 1):
        toml.write_text(line + "\n")
        p.runner.child.send_signal(signal.SIGHUP)
        refused = partial(_refused, p, number)
        wait_until(refused, 20.0, f"{line} refused")
    toml.write_text(before)


def _refused(p: Pair, times: int) -> bool:
    return p.runner.output().count("settings not reloaded") >= times


@pytest.mark.pain(25)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_that_comes_out_holds_a_secret(
    fleet: tuple[Path, SimulatorProcess], port: int, log_format: str
) -> None:
    data = fleet[0] / "data"
    with Receiver(WEBHOOK_SECRET) as receiver:
        (data / "runner.toml").write_text(
            f'admin_token = "{TOKEN},{READING}:read"\n'
            f'alert_webhook_urls = "{receiver.url}/{WEBHOOK_PATH},http://127.0.0.1:9/{WEBHOOK_PATH}"\n'
            f'alert_webhook_secret = "{WEBHOOK_SECRET}"\n'
        )
        with running(*fleet, N, settings_of(port, log_format)) as p:
            p.runner.wait_ready(N)
            told = Told(secrets_of(p))
            listener = Listener(port, "*", READING)
            for method, path, body in mishaps.webhooks():
                p.runner.request(method, path, body)
            mishaps.everything_goes_wrong(p)
            for method, path, body in mishaps.requests(p):
                _, answer = p.runner.request(method, path, body, timeout_s=60.0)
                told.add(f"answer to {method} {path}", json.dumps(answer))
            for method, path, body in mishaps.misplaced(p):
                assert p.runner.request(method, path, body)[0] >= 400
            guess(port)
            leave_in_the_middle(port)
            reload_wrong_settings(p)
            mishaps.bring_back(p)
            read_everything(p, port, told)
            if log_format == "json":  # commands do not know how the runner writes its log
                run_commands(p, fleet[0], told)
            assert p.runner.stop() == 0
        listener.close()
        told.add("websocket", json.dumps(listener.bodies))
        told.add("log", p.runner.log.read_bytes())
        for path in (data / "logs").iterdir():
            told.add(path.name, path.read_bytes())
        told.add("webhook", json.dumps(receiver.bodies))
    (data / "runner.toml").unlink()
    marks = {"monitor.log": b"online=", "import": b"damaged-", "set-proxy": b"***@"}
    told.assert_clean(
        least=(marks if log_format == "json" else {})
        | {
            "log": b"session dropped: reconnect",
            "alerts.log": b"alert.firing",
            "performance.log": b"alert.firing",
            "webhook": b"alert.firing",
            "websocket": b"session.status",
            "/api/logs?tail=100000": b"alert webhook failed",
            "/metrics": b'session="sim-00001"',
            "/api/webhooks": b'"id":',
            "/api/dead-letters": b'"id":',
        }
    )


def read_everything(p: Pair, port: int, told: Told) -> None:
    """All that a token of scope `read` can read, and the page."""
    paths = ["/", "/api/logs?tail=100000", "/api/alerts/history?limit=500"]
    paths += [path for path, its in DESCRIPTION["paths"].items() if "get" in its and "{" not in path]
    for session_id in p.ids():
        paths += [f"/api/sessions/{session_id}{rest}" for rest in ("", "/timeline", "/metrics")]
    for path in paths:
        told.add(path, read_over_tcp(port, f"{path}?seconds=0" if path == "/api/events" else path))


def run_commands(p: Pair, directory: Path, told: Told) -> None:
    """What an operator sees at a terminal, and cron mails."""
    for words in COMMANDS:
        told.add(words, command(p, words))
    told.add("import", command(p, f"import --all {mishaps.directories(p, directory / 'damaged')}"))
    told.add("set-proxy", command(p, f"set-proxy sim-00001 {mishaps.PROXIES[7]}"))


WRONG_START = {
    "WHATSAPP_PROXY": f"http://user:{mishaps.PASSWORD}@[::1",
    "WHATSAPP_ADMIN_TOKEN": f"{TOKEN}:{GUESS}",
    "WHATSAPP_ALERT_WEBHOOK_URLS": f"ftp://x/{WEBHOOK_PATH}",
    "WHATSAPP_ALERT_WEBHOOK_SECRT": WEBHOOK_SECRET,
}
DEAD_PROXY = {
    "WHATSAPP_PROXY": f"http://user:{mishaps.PASSWORD}@127.0.0.1:1",
    "WHATSAPP_CLIENT_VERSION": "auto",
}


def test_what_is_wrong_at_the_start_is_told_without_what_it_holds(
    fleet: tuple[Path, SimulatorProcess],
) -> None:
    with running(*fleet, N, WRONG_START) as p:
        assert p.runner.child.wait(20) == 2
        told = Told(secrets_of(p))
        told.add("start", p.runner.output())
    with running(*fleet, N, DEAD_PROXY) as p:
        wait_until(lambda: "client version not read" in p.runner.output(), 20.0)
        assert p.runner.stop() == 0
        told.add("dead proxy", p.runner.output())
    told.assert_clean(least={"start": b"WHATSAPP_ALERT_WEBHOOK_SECRT", "dead proxy": b"client version not"})
    assert all(name.encode() in told.of("start") for name in WRONG_START)


CRASHES = """
import threading
from pathlib import PosixPath
from runner.alerts.loop import Alerts
from runner.app import Process
from runner.metrics import Metrics

CARRIED = {carried!r}

class Carrier(Exception):
    pass

def raising(*_args, **_more):
    try:
        raise Carrier(*CARRIED)
    except Carrier as error:
        raise ValueError("while " + " and ".join(map(str, CARRIED))) from error

Metrics.system = raising                                  # a handler of the API
Alerts.look = raising                                     # a loop

class Left:
    def __del__(self):
        raising()

async def crash(self):
    import trio
    while not {flag!r}.exists():
        await trio.sleep(0.02)
    ours = threading.Thread(target=raising, name="a thread of ours")
    ours.start()
    ours.join()
    Left()
    raising()

Process._housekeep = crash
from runner.__main__ import main
main()
"""


@pytest.mark.pain(25)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_a_bug_carries_is_not_told_when_it_ends_a_call_a_thread_or_the_process(
    fleet: tuple[Path, SimulatorProcess], port: int, log_format: str
) -> None:
    directory, simulator = fleet
    creds = json.loads((simulator.credentials / "sim-00001" / "creds.json").read_text())
    (_, key), *_ = [it for it in leaves(creds["noiseKey"], "") if isinstance(it[1], bytes)]
    carried = [
        f"http://user:{mishaps.PASSWORD}@127.0.0.1:1",
        creds["me"]["id"],
        creds["me"]["lid"],
        f"+{mishaps.NUMBER}",
        creds["advSecretKey"],
        key.hex(),
        key,
        list(key),
        base64.urlsafe_b64encode(key).decode(),
        f"Bearer {TOKEN}",
    ]
    flag = directory / f"crash-{log_format}"
    code = CRASHES.format(carried=carried, flag=flag)
    settings = settings_of(port, log_format) | {"WHATSAPP_ADMIN_TOKEN": TOKEN}
    with RunnerProcess(directory, simulator, settings, code) as runner:
        told = Told(secrets_of(Pair(runner, simulator, Control(simulator.control), N, {})))
        wait_until(runner.sessions, 20.0)
        status, answer = runner.request("GET", "/api/system")
        assert (status, answer["error"]) == (500, "internal_error")
        told.add("answer", json.dumps(answer))
        wait_until(lambda: "a look failed" in runner.output(), 20.0)
        flag.touch()
        assert runner.child.wait(20) not in (0, None)
        told.add("crash", runner.output())
    told.assert_clean(least={"crash": b"Carrier"})
    ways = ("a look failed", "admin request failed", "a thread of ours", "Left", "runner failed")
    assert [way for way in ways if way.encode() not in told.of("crash")] == []
