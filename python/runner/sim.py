"""The simulator: a WhatsApp Web server on loopback, with faults on command (docs/simulator.md)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import urlencode, urlsplit

from runner import _core
from runner.errors import StartError
from runner.limits import raise_fd_limit

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType

Json: TypeAlias = Any
"""What JSON decodes to; each route's shape is in docs/simulator.md."""

FIRST_USERNAME: Final = 15_550_000_000
"""The number of sim-00001 (rust/sim/src/core/fleet.rs); the others follow by one."""
_CHECK_S: Final = 0.25
"""How often `serve` looks whether the control port was told to quit."""
_TIMEOUT_S: Final = 130.0
"""A push answers when all is written, after two minutes at the latest."""


class ControlError(Exception):
    """The control port refused a request: the caller's mistake. `args` is `(status, message)`."""


class SimulatorControl:
    """A client of the control port: of our simulator, and of the reference server in tests/interop/baileys.

    Blocking. One connection per request, so an instance can be shared by threads.
    """

    def __init__(self, url: str) -> None:
        """`url` is what the server printed as `control`."""
        self.url = url
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port

    def get(self, route: str, **query: object) -> Json:
        """Read something: `get("/events", since=7)`."""
        asked = {key: value for key, value in query.items() if value is not None}
        return self._request("GET", f"{route}?{urlencode(asked)}" if asked else route, None)

    def post(self, route: str, body: dict[str, Any] | None = None, **more: object) -> Json:
        """Order something: `post("/stream-error", user=15550000000, code=515)`."""
        return self._request("POST", route, {**(body or {}), **more})

    def info(self) -> dict[str, Any]:
        """Addresses, keys and directories of the server."""
        return dict(self.get("/info"))

    def stats(self) -> dict[str, Any]:
        """The counters since the start or the last reset."""
        return dict(self.get("/stats"))

    def sessions(self) -> list[dict[str, Any]]:
        """One row for each connection."""
        return list(self.get("/sessions"))

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What happened to connections, from the event after `since` on."""
        return list(self.get("/events", since=since))

    def sent(
        self, *, since: int = 0, user: str | int | None = None, tag: str | None = None
    ) -> list[dict[str, Any]]:
        """What clients sent (our simulator only)."""
        return list(self.get("/sent", since=since, user=user, tag=tag))

    def heard(self, *, since: int = 0, user: str | int | None = None) -> list[dict[str, Any]]:
        """What contacts were sent, from the entry after `since` on: `contact`, `user`, `group`, `id`, `text`,
        `quoted` (our simulator only)."""
        return list(self.get("/heard", since=since, user=user))

    def reset(self) -> None:
        """Zero the counters and forget the logs."""
        self.post("/reset")

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Json:
        link = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            raw = None if body is None else json.dumps(body)
            link.request(method, path, raw, {"content-type": "application/json", "connection": "close"})
            answer = link.getresponse()
            parsed = json.loads(answer.read())
        finally:
            link.close()
        if answer.status != http.HTTPStatus.OK:
            raise ControlError(answer.status, parsed.get("error", "refused"))
        return parsed


class Simulator:
    """A running simulator; also a context manager.

    Errors: StartError when a port is taken or the directory cannot be written.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        control_port: int = 0,
        sessions: int = 0,
        tls: bool = False,
        directory: str | PathLike[str],
    ) -> None:
        """Start listening, with credentials for `sessions` devices below `directory`. Blocking, short."""
        try:
            self._core = _core.Simulator(
                port=port, control_port=control_port, sessions=sessions, tls=tls, directory=str(directory)
            )
        except OSError as error:
            raise StartError(str(error)) from error

    @property
    def url(self) -> str:
        """What clients dial."""
        return self._core.url

    @property
    def control(self) -> str:
        """The base URL of the control port."""
        return self._core.control

    @property
    def client(self) -> SimulatorControl:
        """A client of the control port."""
        return SimulatorControl(self._core.control)

    @property
    def root_key_hex(self) -> str:
        """The certificate root that clients must trust in the Noise handshake."""
        return self._core.root_key_hex

    @property
    def ca_file(self) -> str | None:
        """The CA that clients must trust in TLS, PEM."""
        return self._core.ca_file

    @property
    def credentials(self) -> str:
        """The folder with one Baileys-format directory for each device."""
        return self._core.credentials

    @property
    def running(self) -> bool:
        """False once it has stopped, by `stop` or over the control port."""
        return self._core.running

    def stop(self) -> None:
        """Close every connection. Blocking, short; does nothing the second time."""
        self._core.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    *,
    port: int,
    control_port: int,
    sessions: int,
    tls: bool,
    directory: str | PathLike[str] | None,
    parent: int | None = None,
) -> None:
    """Run a simulator until SIGTERM, SIGINT or `/quit`; prints one JSON line when it listens.

    With `parent`, also until this process is no longer that one's child: a runner that was killed could not
    take its simulator along.

    The line: `url`, `control`, `rootKeyHex`, `caFile`, `credentials` (docs/simulator.md).
    """
    raise_fd_limit()  # a connection is a descriptor, and the usual soft limit of 1,024 is below most fleets
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked rather than handled: the simulator's threads inherit this, and the wait below takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    where = directory or tempfile.mkdtemp(prefix="runner-sim-")
    with Simulator(
        port=port, control_port=control_port, sessions=sessions, tls=tls, directory=where
    ) as running:
        line = {
            "url": running.url,
            "control": running.control,
            "rootKeyHex": running.root_key_hex,
            "caFile": running.ca_file,
            "credentials": running.credentials,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        while running.running and signal.sigtimedwait(ends, _CHECK_S) is None:
            if parent is not None and os.getppid() != parent:
                return
