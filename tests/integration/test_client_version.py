"""Reading the client version from the endpoint's /sw.js."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
import structlog

from runner.client_version import read_version
from runner.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config import Settings


class Endpoint(BaseHTTPRequestHandler):
    """Answers /sw.js, also through a proxied request."""

    body = b""
    status = 200
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers["Sec-Fetch-Dest"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[type[Endpoint]]:
    Endpoint.seen, Endpoint.status = [], 200
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Endpoint.port = server.server_port  # type: ignore[attr-defined]
    yield Endpoint
    server.shutdown()
    thread.join()
    server.server_close()


def settings(port: int, **more: str) -> Settings:
    names = {f"WHATSAPP_{name}": value for name, value in more.items()}
    return load({"WHATSAPP_ENDPOINT": f"ws://127.0.0.1:{port}/ws/chat", **names})


def test_the_version_is_found_in_the_escaped_json(endpoint: type[Endpoint]) -> None:
    endpoint.body = b'self.x = "{\\"client_revision\\":1023456789,\\"y\\":1}";'
    assert read_version(settings(endpoint.port)) == (2, 3000, 1023456789)  # type: ignore[attr-defined]
    assert endpoint.seen == [("/sw.js", "serviceworker")]


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"nothing here"), (404, b'"client_revision":1023456789'), (200, b"\xff")]
)
def test_an_endpoint_that_does_not_say_is_no_error(
    endpoint: type[Endpoint], status: int, body: bytes
) -> None:
    endpoint.status, endpoint.body = status, body
    with structlog.testing.capture_logs() as written:
        assert read_version(settings(endpoint.port)) is None  # type: ignore[attr-defined]
    assert [line["event"] for line in written] == ["client version not found"]


def test_an_endpoint_that_is_down_is_no_error() -> None:
    with structlog.testing.capture_logs() as written:
        assert read_version(settings(9)) is None
    assert [line["event"] for line in written] == ["client version not read"]


def test_a_socks_proxy_is_never_gone_around(endpoint: type[Endpoint]) -> None:
    with structlog.testing.capture_logs() as written:
        assert read_version(settings(endpoint.port, PROXY="socks5://127.0.0.1:1")) is None  # type: ignore[attr-defined]
    assert "WHATSAPP_CLIENT_VERSION" in written[0]["error"]
    assert endpoint.seen == []


def test_an_http_proxy_is_used(endpoint: type[Endpoint]) -> None:
    with structlog.testing.capture_logs():
        assert read_version(settings(1, PROXY=f"http://127.0.0.1:{endpoint.port}")) is None  # type: ignore[attr-defined]
    assert endpoint.seen == []  # it was asked to CONNECT, which this one refuses
