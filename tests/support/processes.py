"""Real processes for end-to-end tests and scenarios: the runner, our simulator, a server built on Baileys.

Each is a context manager that ends its process; nothing here outlives a test. The runner is asked over its
Unix socket with a client of its own, so that the product's client is not what proves the product.
"""

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from support.leaks import Secrets

ROOT = Path(__file__).resolve().parents[2]
BAILEYS = ROOT / "tests" / "interop" / "baileys"
SELF_SIGNED = shlex.split(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=127.0.0.1"
    " -addext subjectAltName=IP:127.0.0.1,DNS:localhost -addext basicConstraints=critical,CA:FALSE"
)


SEARCHED_SESSIONS = 50
"""Of a large fleet, whose secrets are looked for in what the runner wrote."""
T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout_s: float, what: str = "the condition", every_s: float = 0.02
) -> T:
    """Ask `condition` until it gives something true, or fail after `timeout_s`."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {timeout_s} s")
        pause.wait(every_s)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Process:
    """A child with its output in a file, ended on exit whatever happens."""

    def __init__(self, args: list[str], env: dict[str, str], log: Path, stdout: int | None = None) -> None:
        self.log = log
        self._log_file: IO[bytes] = log.open("wb")
        self.child = subprocess.Popen(
            args,
            env=env,
            cwd=ROOT,
            stdout=stdout or self._log_file,
            stderr=self._log_file,
            stdin=subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.child.pid

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, then wait for the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.child.kill()
        self.child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child.poll() is None:
            self.kill()
        self._log_file.close()
        if self.child.stdout:
            self.child.stdout.close()
        if error is not None:
            print(f"--- {self.log.name}\n{self.output()[-4000:]}", file=sys.stderr)


def first_line_json(process: Process, timeout_s: float = 60.0) -> dict[str, Any]:
    """The one JSON line that a server prints when it listens."""
    assert process.child.stdout is not None
    timer = threading.Timer(timeout_s, process.child.kill)
    timer.start()
    try:
        line = process.child.stdout.readline()
    finally:
        timer.cancel()
    if not line:
        raise AssertionError(f"no first line: {process.output()[-2000:]}")
    parsed: dict[str, Any] = json.loads(line)
    return parsed


class ReferenceServer(Process):
    """`refserver.mjs`: a server built on real Baileys, so not written for us."""

    def __init__(self, directory: Path, *, tls: bool = False, ik_as_xx: bool = False) -> None:
        args = ["node", str(BAILEYS / "refserver.mjs"), "--ttl", "900"]
        self.ca_file: Path | None = None
        if tls:
            folder = directory / "tls"
            folder.mkdir(parents=True, exist_ok=True)
            self.ca_file = folder / "cert.pem"
            subprocess.run(
                [*SELF_SIGNED, "-keyout", str(folder / "key.pem"), "-out", str(self.ca_file)],
                check=True,
                capture_output=True,
            )
            args += ["--tls", str(folder)]
        if ik_as_xx:
            args.append("--ik-as-xx")
        super().__init__(args, dict(os.environ), directory / "refserver.log", stdout=subprocess.PIPE)
        info = first_line_json(self)
        self.url: str = info["tlsUrl"] if tls else info["url"]
        self.control: str = info["control"]
        self.root_key_hex: str = info["rootKeyHex"]


class SimulatorProcess(Process):
    """`python -m runner sim` as a process of its own."""

    def __init__(self, directory: Path, *, sessions: int, tls: bool = False) -> None:
        args = [
            sys.executable,
            "-m",
            "runner",
            "sim",
            "--sessions",
            str(sessions),
            "--port",
            "0",
            "--control-port",
            "0",
        ]
        if tls:
            args.append("--tls")
        env = {**os.environ, "WHATSAPP_DATA_DIR": str(directory / "sim")}
        super().__init__(args, env, directory / "sim.log", stdout=subprocess.PIPE)
        info = first_line_json(self)
        self.url: str = info["url"]
        self.control: str = info["control"]
        self.root_key_hex: str = info["rootKeyHex"]
        self.ca_file = Path(info["caFile"]) if info.get("caFile") else None
        self.credentials = Path(info["credentials"])


class RunnerProcess(Process):
    """`python -m runner` against a server, with short timings unless `settings` says otherwise."""

    def __init__(
        self,
        directory: Path,
        server: ReferenceServer | SimulatorProcess,
        settings: dict[str, str] | None = None,
        code: str | None = None,
        module: str = "runner",
    ) -> None:
        """`code` runs instead of `python -m runner`: it patches something and calls the runner's main."""
        directory.mkdir(parents=True, exist_ok=True)
        self.socket = Path(tempfile.mkdtemp(prefix="runner-")) / "admin.sock"
        env = {k: v for k, v in os.environ.items() if not k.startswith("WHATSAPP_")} | runner_environment(
            directory, server, self.socket
        )
        env.update(settings or {})
        self.env = env
        self._credentials = getattr(server, "credentials", None)
        command = ["-m", module] if code is None else ["-c", code]
        super().__init__([sys.executable, *command], env, directory / "runner.log")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.socket.parent)
        if error is None and self._credentials is not None:
            self._assert_told_no_secrets(self._credentials)

    def _assert_told_no_secrets(self, credentials: Path) -> None:
        """Whatever a test did to it: nothing that it wrote may hold a key or a number of its sessions."""
        secrets = Secrets()
        for directory in sorted(credentials.iterdir())[:SEARCHED_SESSIONS]:
            secrets.credentials(directory)
        folder = Path(self.env["WHATSAPP_DATA_DIR"]) / "logs"
        for path in (self.log, *(folder.glob("*.log") if folder.is_dir() else ())):
            assert secrets.found_in(path.read_bytes()) == [], path

    def request(
        self, method: str, path: str, body: object = None, timeout_s: float = 10.0
    ) -> tuple[int, Any]:
        """One call of the admin API; status and the decoded JSON."""
        link = UnixHTTPConnection(self.socket, timeout_s)
        try:
            headers = {"content-type": "application/json"} if body is not None else {}
            link.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            raw = answer.read()
        finally:
            link.close()
        return answer.status, json.loads(raw) if raw else None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command line with the runner's settings; also when it does not run any more."""
        return subprocess.run(
            [sys.executable, "-m", "runner", *words],
            env={**os.environ, **self.env},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions, or nothing while the API is not there yet."""
        if self.child.poll() is not None:
            raise AssertionError(f"the runner ended with {self.child.returncode}: {self.output()[-3000:]}")
        try:
            status, rows = self.request("GET", "/api/sessions?limit=20000")
        except OSError:
            return []
        if status != 200:
            return []
        return list(rows["sessions"] if isinstance(rows, dict) else rows)

    def wait_api(self, timeout_s: float = 30.0) -> None:
        """Until the admin API answers."""

        def answers() -> bool:
            if self.child.poll() is not None:
                said = f"the runner ended with {self.child.returncode}: {self.output()[-3000:]}"
                raise AssertionError(said)
            try:
                return self.request("GET", "/health/live")[0] == 200
            except OSError:
                return False

        wait_until(answers, timeout_s, "the admin API")

    def wait_online(self, n: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Until exactly `n` sessions or more are online; all rows."""

        def enough() -> list[dict[str, Any]]:
            rows = self.sessions()
            return rows if sum(r["state"] == "online" for r in rows) >= n else []

        return wait_until(enough, timeout_s, f"{n} sessions online")

    def wait_ready(self, n: int, timeout_s: float = 30.0) -> None:
        """Until `n` sessions are online, asked cheaply: for thousands of sessions."""

        def enough() -> bool:
            if self.child.poll() is not None:
                raise AssertionError(
                    f"the runner ended with {self.child.returncode}: {self.output()[-3000:]}"
                )
            try:
                status, numbers = self.request("GET", "/performance-metrics?limit=0")
            except OSError:
                return False
            # The states are of this moment; what is read of the engine may be a second old.
            return status == 200 and numbers["states"].get("online", 0) >= n

        wait_until(enough, timeout_s, f"{n} sessions online")

    def wait_committed(self, timeout_s: float = 20.0) -> None:
        """Until nothing waits for the disk: what was shown before this call survives a `kill -9` after it."""

        def empty() -> bool:
            _, numbers = self.request("GET", "/performance-metrics?limit=0")
            return int(numbers["store"]["queued"]) == 0

        wait_until(empty, timeout_s, "an empty queue of the store")

    def wait_state(self, session_id: str, state: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Until one session is in a state; its row."""

        def there() -> dict[str, Any] | None:
            rows = {r["id"]: r for r in self.sessions()}
            row = rows.get(session_id)
            return row if row and row["state"] == state else None

        return wait_until(there, timeout_s, f"{session_id} {state}")


def runner_environment(
    directory: Path, server: ReferenceServer | SimulatorProcess, admin_socket: Path
) -> dict[str, str]:
    """The settings of a runner under test: its own folder, loopback server, short timings, fast limiter."""
    env = {
        "WHATSAPP_DATA_DIR": str(directory / "data"),
        "WHATSAPP_ADMIN_SOCKET": str(admin_socket),
        "WHATSAPP_ADMIN_PORT": "0",
        "WHATSAPP_ENDPOINT": server.url,
        "WHATSAPP_ROOT_KEY": server.root_key_hex,
        "WHATSAPP_CLIENT_VERSION": "2.3000.1040000000",
        "WHATSAPP_CONNECT_RATE": "500",
        "WHATSAPP_RECONNECTION_BASE_DELAY": "200",
        "WHATSAPP_LOG_FORMAT": "json",
        "WHATSAPP_LOG_LEVEL": "debug",
    }
    if server.ca_file:
        env["WHATSAPP_TLS_CA"] = str(server.ca_file)
    return env


def import_all(parent: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m runner import --all PARENT` with a runner's settings; fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", "import", "--all", str(parent), "--json"],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
