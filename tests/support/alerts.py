"""Everything that an alert is told on, listened to from outside, and what must be the same on all of it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import wsproto
from wsproto.events import CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import LocalProtocolError

if TYPE_CHECKING:
    from pathlib import Path

Told = tuple[str, str, str | None]
"""(event, alert, about)."""
KINDS = {
    "cpu_high": ("performance", "warning"),
    "engine_lag": ("performance", "critical"),
    "event_loop_lag": ("performance", "warning"),
    "memory_high": ("performance", "warning"),
    "memory_limit": ("performance", "critical"),
    "response_time_high": ("performance", "warning"),
    "breaker_open": ("connectivity", "warning"),
    "certificate_trouble": ("connectivity", "critical"),
    "client_outdated": ("connectivity", "critical"),
    "connection_drops": ("connectivity", "warning"),
    "dead_sockets": ("connectivity", "warning"),
    "deaf_fleet": ("connectivity", "critical"),
    "error_rate_high": ("connectivity", "warning"),
    "fleet_logout": ("connectivity", "critical"),
    "path_outage": ("connectivity", "critical"),
    "reconnect_loop": ("connectivity", "critical"),
    "session_deaf": ("connectivity", "warning"),
    "session_logged_out": ("connectivity", "critical"),
    "session_offline": ("connectivity", "warning"),
    "session_parked": ("connectivity", "critical"),
    "session_penalised": ("connectivity", "critical"),
    "clock_stepped": ("system", "warning"),
    "disk_full": ("system", "critical"),
    "fd_limit": ("system", "critical"),
    "disk_space_low": ("system", "warning"),
    "file_descriptors_high": ("system", "warning"),
    "store_stalled": ("system", "critical"),
    "handler_exceptions": ("application", "warning"),
    "session_fault": ("application", "critical"),
}
"""Class and severity of the alerts that are proved from outside, by the brief and not by the product."""


def kind_of(alert: str) -> str:
    """The class of an alert."""
    return KINDS[alert][0]


class Receiver:
    """A webhook's other end. `answers` are statuses for the next requests, 200 when there are none."""

    def __init__(self, secret: str = "") -> None:
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.problems: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                status, extra = receiver.answers.pop(0) if receiver.answers else (200, {})
                head = {name.lower(): value for name, value in self.headers.items()}
                if secret:
                    receiver.problems += wrong_signatures(secret.encode(), head, raw)
                receiver.requests.append(head)
                if status == 200:
                    receiver.bodies.append(json.loads(raw))
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def told(self) -> list[Told]:
        return [told_of(body["event"], body["payload"]) for body in self.bodies]


class Letters(Receiver):
    """The other end of a `json://` address of apprise."""

    @property
    def apprise_url(self) -> str:
        return self.url.replace("http://", "json://", 1)

    def told(self) -> list[Told]:
        return [_letter(body["title"], body["message"]) for body in self.bodies]


def _letter(title: str, body: str) -> Told:
    found = re.fullmatch(r"runner: (\w+) (\w+)", title)
    assert found is not None, title
    alert, word = found.groups()
    event = "alert.resolved" if word == "resolved" else "alert.firing"
    assert word in ("resolved", KINDS[alert][1]), title
    about = re.match(r"about: (.*)\n", body)
    return event, alert, about[1] if about else None


def wrong_signatures(key: bytes, head: dict[str, str], raw: bytes) -> list[str]:
    """The headers that do not sign this body with this key."""
    timed = head.get("x-webhook-timestamp", "").encode() + b"." + raw
    wanted = {
        "x-webhook-hmac": hmac.new(key, raw, hashlib.sha512).hexdigest(),
        "x-webhook-hmac-v2": hmac.new(key, timed, hashlib.sha512).hexdigest(),
        "x-hub-signature-256": "sha256=" + hmac.new(key, raw, hashlib.sha256).hexdigest(),
    }
    return [name for name, value in wanted.items() if not hmac.compare_digest(head.get(name, ""), value)]


class Listener:
    """`WS /ws?events=alert.*` on a thread: over the Unix socket, or over TCP with a token."""

    def __init__(
        self,
        where: Path | int,
        events: str = "alert.firing,alert.resolved,alert.acknowledged",
        token: str = "",
    ) -> None:
        self.bodies: list[dict[str, Any]] = []
        if isinstance(where, int):
            self._socket = socket.create_connection(("127.0.0.1", where))
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(where))
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        headers = [(b"x-api-key", token.encode())] if token else []
        self._send(Request(host="localhost", target=f"/ws?events={events}", extra_headers=headers))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _send(self, event: Any) -> None:  # noqa: ANN401 - wsproto's union of events
        self._socket.sendall(self._protocol.send(event))

    def _run(self) -> None:
        with contextlib.suppress(OSError, LocalProtocolError):  # the runner ended, or was killed
            self._listen()

    def _listen(self) -> None:
        text = ""
        while data := self._socket.recv(65536):
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        self.bodies.append(json.loads(text))
                        text = ""
                elif isinstance(event, Ping):
                    self._send(event.response())
                elif isinstance(event, CloseConnection):
                    self._send(event.response())
                    return

    def close(self) -> None:
        self._thread.join(10.0)
        self._socket.close()

    def told(self) -> list[Told]:
        return [told_of(body["event"], body["payload"]) for body in self.bodies]


def told_of(event: str, alert: dict[str, Any]) -> Told:
    """What a channel said, with the class and the severity that it must have."""
    kind = (alert["class"], alert["severity"])
    assert kind == KINDS[alert["alert"]], f"{alert['alert']} is {kind}"
    return event, alert["alert"], alert["about"]


def file_told(path: Path) -> list[Told]:
    """The alerts in `alerts.log`, or among the samples of `performance.log`."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [told_of(line["event"], line) for line in lines if line["event"].startswith("alert.")]


def assert_once_each(told: list[Told], expected: list[tuple[str, str | None]], where: str) -> None:
    """Exactly these, each once begun and once over, the end after the beginning."""
    wanted = Counter(("alert.firing", *it) for it in expected) + Counter(
        ("alert.resolved", *it) for it in expected
    )
    assert Counter(told) == wanted, f"{where}: {told}"
    for it in expected:
        assert told.index(("alert.firing", *it)) < told.index(("alert.resolved", *it)), where
