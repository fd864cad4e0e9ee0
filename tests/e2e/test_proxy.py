"""A proxy for each session, in a real run: which way a connection goes, and what a dead proxy costs."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from support.pair import Pair, log_lines, pair
from support.processes import RunnerProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "desk", "hunter2"


class Proxy:
    """CONNECT or SOCKS5 on loopback, for one user; `targets` has one entry for each tunnel it opened."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.targets: list[tuple[str, int]] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """As an operator gives it."""
        return f"{self._kind}://{USER}:{PASSWORD}@{self.address}"

    @property
    def shown(self) -> str:
        """As the runner may show it."""
        return f"{self._kind}://{self.address}"

    @property
    def tunnels(self) -> int:
        """How many are open now."""
        return len(self._open)

    def close(self) -> None:
        """Die: what listens and every tunnel."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a thread waits in `accept`
        self._listener.close()
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError):
            ask = self._connect if self._kind == "http" else self._socks5
            target, granted = ask(client)
            with socket.create_connection(target) as server:
                client.sendall(granted)
                self.targets.append(target)
                self._open.add(client)
                try:
                    there = threading.Thread(target=_pipe, args=(client, server), daemon=True)
                    there.start()
                    _pipe(server, client)
                    there.join()
                finally:
                    self._open.discard(client)

    @staticmethod
    def _connect(client: socket.socket) -> tuple[tuple[str, int], bytes]:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(client, 1)
        verb, authority, _ = head.split(b"\r\n")[0].decode().split()
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if verb != "CONNECT" or f"Basic {expected}" not in head.decode():
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            raise ValueError("not for you")
        parts = urlsplit(f"//{authority}")
        return (str(parts.hostname), int(parts.port or 0)), b"HTTP/1.1 200 OK\r\n\r\n"

    @staticmethod
    def _socks5(client: socket.socket) -> tuple[tuple[str, int], bytes]:
        _, methods = _exactly(client, 2)
        if 2 not in _exactly(client, methods):
            raise ValueError("user and password were not offered")
        client.sendall(b"\x05\x02")
        _, size = _exactly(client, 2)
        user = _exactly(client, size)
        password = _exactly(client, _exactly(client, 1)[0])
        if (user, password) != (USER.encode(), PASSWORD.encode()):
            client.sendall(b"\x01\x01")
            raise ValueError("not for you")
        client.sendall(b"\x01\x00")
        kind = _exactly(client, 4)[3]
        if kind == 3:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, _exactly(client, 4 if kind == 1 else 16))
        port = int.from_bytes(_exactly(client, 2), "big")
        return (host, port), b"\x05\x00\x00\x01" + bytes(6)


def _exactly(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = end.recv(size - len(found))
        if not piece:
            raise OSError("it left")
        found += piece
    return found


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxies(*kinds: str) -> Iterator[list[Proxy]]:
    made = [Proxy(kind) for kind in kinds]
    try:
        yield made
    finally:
        for proxy in made:
            proxy.close()


def row(runner: RunnerProcess, session_id: str) -> dict[str, Any]:
    status, told = runner.request("GET", f"/api/sessions/{session_id}")
    assert status == 200, told
    return dict(told)


def put_proxy(runner: RunnerProcess, session_id: str, url: str | None) -> dict[str, Any]:
    status, told = runner.request("PUT", f"/api/sessions/{session_id}", {"proxy": url})
    assert status == 200, told
    assert PASSWORD not in str(told)
    return dict(told)


def wait_online(runner: RunnerProcess, session_id: str, connection: int) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        now = row(runner, session_id)
        return now if now["state"] == "online" and now["connection"] >= connection else None

    return wait_until(there, 30.0, f"{session_id} online with connection {connection}")


def assert_no_password(p: Pair) -> None:
    assert PASSWORD not in p.runner.output()
    for route in ("/api/sessions", "/reconnection-status", "/api/system", "/api/logs?tail=10000"):
        # The log answers one object a line, so the text is looked at and not the JSON.
        assert PASSWORD not in _text(p.runner, route)


def _text(runner: RunnerProcess, route: str) -> str:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10.0)
        link.connect(str(runner.socket))
        link.sendall(f"GET {route} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    return answer.decode(errors="replace")


@pytest.mark.pain(24)
@pytest.mark.parametrize(("first", "second"), [("socks5", "http"), ("http", "socks5")])
def test_a_session_moves_from_one_proxy_to_another_with_one_reconnect(
    tmp_path: Path, first: str, second: str
) -> None:
    with proxies(first, second) as (a, b), pair(tmp_path, 2) as p:
        moved, other = p.ids()
        put_proxy(p.runner, moved, a.url)
        wait_online(p.runner, moved, 2)
        assert (len(a.targets), a.tunnels) == (1, 1)
        assert a.targets[0][1] == urlsplit(p.simulator.url).port
        answer = put_proxy(p.runner, moved, b.url)
        assert (answer["connection"], answer["proxy"]) == (3, b.shown)
        assert wait_online(p.runner, moved, 3)["connection"] == 3
        assert (len(a.targets), len(b.targets), b.tunnels) == (1, 1, 1)
        wait_until(lambda: a.tunnels == 0, 10.0, "the old connection gone")
        put_proxy(p.runner, moved, b.url)  # the same again
        put_proxy(p.runner, moved, None)
        assert wait_online(p.runner, moved, 4)["connection"] == 4
        assert (len(a.targets), len(b.targets)) == (1, 1)
        assert row(p.runner, other)["connection"] == 1
        accepted = [event["user"] for event in p.events("login") if event["user"] == p.users[moved]]
        assert len(accepted) == 4, "one login for each connection and no more"
        assert_no_password(p)


def test_a_proxy_survives_a_restart(tmp_path: Path) -> None:
    with proxies("socks5") as (a,), pair(tmp_path, 1) as p:
        (session,) = p.ids()
        put_proxy(p.runner, session, a.url)
        wait_online(p.runner, session, 2)
        assert p.runner.stop() == 0
        with RunnerProcess(
            tmp_path / "again", p.simulator, {"WHATSAPP_DATA_DIR": str(tmp_path / "data")}
        ) as r:
            r.wait_online(1)
            assert row(r, session)["proxy"] == a.shown
            assert len(a.targets) == 2
            assert r.stop() == 0


@pytest.mark.pain(24)
def test_a_dead_proxy_is_a_failure_of_its_path_and_of_nobody_else(tmp_path: Path) -> None:
    with proxies("http", "socks5") as (dead, alive), pair(tmp_path, 3) as p:
        unlucky, lucky, direct = p.ids()
        put_proxy(p.runner, lucky, alive.url)
        put_proxy(p.runner, unlucky, dead.url)
        wait_online(p.runner, lucky, 2)
        wait_online(p.runner, unlucky, 2)
        before = [row(p.runner, session) for session in (lucky, direct)]
        dead.close()
        waits = wait_until(
            lambda: (now := row(p.runner, unlucky))["reason"] == "proxy_failed" and now, 30.0, "it failed"
        )
        assert (waits["state"], waits["breaker"]["state"]) == ("backoff", "closed")
        wait_until(lambda: log_lines(p.runner, "incident opened"), 60.0, "the outage of the path")
        assert row(p.runner, unlucky)["breaker"]["state"] == "closed"
        opened = log_lines(p.runner, "incident opened")
        assert [(line["incident"], dead.shown in line["about"]) for line in opened] == [("path_outage", True)]
        after = [row(p.runner, session) for session in (lucky, direct)]
        assert [(now["state"], now["connection"]) for now in after] == [
            ("online", then["connection"]) for then in before
        ]
        put_proxy(p.runner, unlucky, alive.url)
        wait_online(p.runner, unlucky, 3)
        assert_no_password(p)


def test_the_proxy_of_the_settings_is_for_all_that_have_none(tmp_path: Path) -> None:
    with proxies("http", "socks5") as (common, own), pair(tmp_path, 3, {"WHATSAPP_PROXY": common.url}) as p:
        session = p.ids()[0]
        assert (len(common.targets), common.tunnels) == (3, 3)
        put_proxy(p.runner, session, own.url)
        wait_online(p.runner, session, 2)
        assert (len(common.targets), len(own.targets)) == (3, 1)
        assert_no_password(p)
