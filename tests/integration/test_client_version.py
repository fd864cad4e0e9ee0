"""Reading the client version from the endpoint's /sw.js."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Self

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


VERSION_PAGE = b'{"client_revision":1023456789}'


class Socks5:
    """A SOCKS5 proxy for one tunnel to `target`, whatever it is asked for; `seen` is what it was sent."""

    def __init__(self, target: int, *, login: bool = False, answers: list[bytes] | None = None) -> None:
        self.seen: list[bytes] = []
        self._target = target
        self._login = login
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                if self._answers is not None:
                    self._play(client, self._answers)
                    return
                self._play(client, [b"\5\2", b"\1\0"] if self._login else [b"\5\0"])
                self._play(client, [b"\5\0\0\3\4here\0\0"])
                with socket.create_connection(("127.0.0.1", self._target)) as server:
                    back = threading.Thread(target=pipe, args=(server, client))
                    back.start()
                    pipe(client, server)
                    back.join(10)

    def _play(self, client: socket.socket, answers: list[bytes]) -> None:
        for answer in answers:
            self.seen.append(client.recv(1024))
            client.sendall(answer)


def pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What this thread dials or looks up; the proxy and the endpoint have threads of their own."""
    asked: list[object] = []
    look_up = socket.getaddrinfo

    def recorded(host: object, port: object, *args: object, **more: object) -> object:
        if threading.current_thread() is threading.main_thread():
            asked.append((host, port))
        return look_up(host, port, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", recorded)
    return asked


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_the_page_is_read_through_a_socks_proxy_and_the_proxy_resolves_its_name(
    endpoint: type[Endpoint], dialled: list[object], scheme: str
) -> None:
    endpoint.body = VERSION_PAGE
    with Socks5(endpoint.port) as proxy:  # type: ignore[attr-defined]
        behind = settings(
            1, ENDPOINT="ws://far.localhost:1/ws/chat", PROXY=f"{scheme}://127.0.0.1:{proxy.port}"
        )
        assert read_version(behind) == (2, 3000, 1023456789)
        assert proxy.seen == [b"\5\1\0", b"\5\1\0\3\rfar.localhost\0\1"]
    assert endpoint.seen == [("/sw.js", "serviceworker")]
    assert dialled == [("127.0.0.1", proxy.port)]


def test_a_socks_proxy_gets_its_user_and_password_decoded(endpoint: type[Endpoint]) -> None:
    endpoint.body = VERSION_PAGE
    with Socks5(endpoint.port, login=True) as proxy:  # type: ignore[attr-defined]
        url = f"socks5://us%40er:p%3Ass@127.0.0.1:{proxy.port}"
        assert read_version(settings(endpoint.port, PROXY=url)) == (2, 3000, 1023456789)  # type: ignore[attr-defined]
        assert proxy.seen[:2] == [b"\5\2\0\2", b"\1\5us@er\4p:ss"]
        assert proxy.seen[2][:8] == b"\5\1\0\1\x7f\0\0\1"


def test_tls_begins_inside_the_tunnel(endpoint: type[Endpoint]) -> None:
    """No TLS server is behind it: the hello comes out of the tunnel, and nothing is asked in the clear."""
    with Socks5(endpoint.port) as proxy, structlog.testing.capture_logs() as written:  # type: ignore[attr-defined]
        url = f"socks5://127.0.0.1:{proxy.port}"
        assert read_version(settings(1, ENDPOINT="wss://far.localhost/ws/chat", PROXY=url)) is None
        assert proxy.seen[1] == b"\5\1\0\3\rfar.localhost\1\xbb"
    assert "SSL" in written[0]["error"].upper()
    assert endpoint.seen == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([b"\5\xff"], "takes no user and password"),
        ([b"\5\1"], "takes no user and password"),
        ([b"HT"], "does not speak SOCKS5"),
        ([b"\5\2", b"\1\1"], "refused its user and password"),
        ([b"\5\0", b"\5\2\0\1" + bytes(6)], "not allowed by its rules"),
        ([b"\5\0", b"\5\x63\0\1" + bytes(6)], "reply 99"),
        ([b"\5\0", b"\5\0\0\7" + bytes(6)], "an address of an unknown kind"),
        ([b"\5"], "hung up"),
        ([b""], "hung up"),
        ([b"\5\0", b"\5\0\0\1"], "hung up"),
    ],
)
def test_a_socks_proxy_that_refuses_is_told_and_never_gone_around(
    endpoint: type[Endpoint], answers: list[bytes], said: str
) -> None:
    endpoint.body = VERSION_PAGE
    with Socks5(0, answers=answers) as proxy, structlog.testing.capture_logs() as written:
        url = f"socks5://user:hunter2@127.0.0.1:{proxy.port}"
        assert read_version(settings(endpoint.port, PROXY=url)) is None  # type: ignore[attr-defined]
    assert [line["event"] for line in written] == ["client version not read"]
    assert said in written[0]["error"]
    assert "hunter2" not in str(written)
    assert endpoint.seen == []


def test_a_socks_proxy_that_is_down_is_never_gone_around(
    endpoint: type[Endpoint], dialled: list[object]
) -> None:
    with structlog.testing.capture_logs() as written:
        assert read_version(settings(endpoint.port, PROXY="socks5://127.0.0.1:1")) is None  # type: ignore[attr-defined]
    assert [line["event"] for line in written] == ["client version not read"]
    assert endpoint.seen == []
    assert dialled == [("127.0.0.1", 1)]


def test_an_http_proxy_is_used(endpoint: type[Endpoint]) -> None:
    with structlog.testing.capture_logs():
        assert read_version(settings(1, PROXY=f"http://127.0.0.1:{endpoint.port}")) is None  # type: ignore[attr-defined]
    assert endpoint.seen == []  # it was asked to CONNECT, which this one refuses
