"""The admin API on real sockets: binding, peers, caps, slow clients, WebSockets, stopping."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import wsproto
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, Request, TextMessage

from runner.admin import guard as guard_module
from runner.admin import server as server_module
from runner.admin.api import application
from runner.admin.events import EVENTS_A_STEP
from runner.admin.guard import Access
from runner.admin.server import AdminServer
from runner.admin.sockets import SocketLock, bind_tcp, bind_unix
from runner.admin.tokens import parse
from runner.errors import LeaseHeldError, StartError
from runner.session import State
from runner.supervisor.feed import StatusEvent
from support.fleet import FakeFleet, FakeNumbers, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from runner.admin.backend import Backend

TOKEN = "a-token-of-the-operator"


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.heard = trio.Event()

    def __getattr__(self, _level: str) -> Callable[..., None]:
        def tell(event: str, **_fields: object) -> None:
            self.told.append(event)
            self.heard.set()

        return tell


class CountingServer(AdminServer):
    """Counts its connections, and lets a test wait for them."""

    opened = ended = 0
    _changed = trio.Event()

    def _opened(self, plain: socket.socket) -> None:
        super()._opened(plain)
        self.opened += 1
        self._changed.set()

    def _closed(self, plain: socket.socket) -> None:
        super()._closed(plain)
        self.ended += 1
        self._changed.set()

    async def wait_counted(self, *, opened: int = 0, ended: int = 0) -> None:
        """Until so many were opened, and so many of them have ended."""
        with trio.fail_after(10):
            while self.opened < opened or self.ended < ended:
                self._changed = trio.Event()
                await self._changed.wait()


class Running:
    """A served fleet and how to reach it."""

    def __init__(
        self, backend: Backend, fleet: FakeFleet, unix: Path, port: int, admin: CountingServer
    ) -> None:
        self.backend, self.fleet, self.unix, self.port, self.admin = backend, fleet, unix, port, admin

    async def over_unix(self) -> trio.SocketStream:
        return await trio.open_unix_socket(str(self.unix))

    async def over_tcp(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def served(
    tmp_path: Path, *, access: Access | None = None, connections: int = 16, send_timeout_s: float = 30.0
) -> AsyncIterator[Running]:
    fleet = FakeFleet(a_view("desk-1"), a_view("desk-2"))
    backend = a_backend(fleet)
    app = application(backend, access or Access(parse(TOKEN)))
    unix, tcp = bind_unix(tmp_path / "admin.sock"), bind_tcp("127.0.0.1", 0)
    admin = CountingServer(app, connections=connections, send_timeout_s=send_timeout_s)
    port = tcp.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(admin.serve, [unix, tcp], backend.stopping)
        yield Running(backend, fleet, tmp_path / "admin.sock", port, admin)
        backend.stopping.set()


async def ask(stream: trio.abc.Stream, request: str, *headers: str) -> tuple[int, dict[str, Any]]:
    """One HTTP/1.1 request; status and JSON. The connection is closed afterwards."""
    lines = [f"{request} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    async with stream:
        await stream.send_all("\r\n".join(lines).encode())
        raw = b""
        while piece := await stream.receive_some():
            raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunked(body)
    return int(head.split()[1]), json.loads(body)


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return whole


class Receiver:
    """The client end of a WebSocket."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.pending: list[Any] = []

    async def connect(self, target: str, **headers: str) -> Any:  # noqa: ANN401 - an event
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request(host="localhost", target=target, extra_headers=extra)
        await self.stream.send_all(self.protocol.send(request))
        return await self.next()

    async def next(self) -> Any:  # noqa: ANN401 - an event
        while not self.pending:
            data = await self.stream.receive_some()
            self.protocol.receive_data(data or None)
            self.pending = list(self.protocol.events())
        event = self.pending.pop(0)
        if isinstance(event, Ping):
            await self.stream.send_all(self.protocol.send(event.response()))
            return await self.next()
        return event

    async def message(self) -> dict[str, Any]:
        text = ""
        while True:
            event = await self.next()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                decoded: dict[str, Any] = json.loads(text)
                return decoded


async def test_one_application_answers_on_both_sockets(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        for stream in (await running.over_unix(), await running.over_tcp()):
            status, body = await ask(stream, "GET /reconnection-status")
            assert (status, len(body["sessions"])) == (200, 2)


async def test_a_bug_in_one_connection_ends_that_connection_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object) -> None:
        raise RuntimeError("a bug of the web server")

    async with served(tmp_path) as running:
        with monkeypatch.context() as patched:
            patched.setattr(server_module.TCPServer, "run", broken)
            async with await running.over_tcp() as stream:
                assert await stream.receive_some() == b""
        assert (await ask(await running.over_tcp(), "GET /health"))[0] == 200


async def test_a_caller_who_leaves_in_the_middle_of_his_body_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(guard_module, "logger", lambda: recorder)
    async with served(tmp_path) as running:
        async with await running.over_tcp() as stream:
            await stream.send_all(
                b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx"
            )
        with trio.fail_after(10):
            await recorder.heard.wait()
        assert (await ask(await running.over_tcp(), "GET /health"))[0] == 200
        assert isinstance(running.backend.numbers, FakeNumbers)
        assert running.backend.numbers.failed == 0
    assert recorder.told == ["admin caller left"]


async def test_the_unix_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        assert stat.S_IMODE(running.unix.stat().st_mode) == 0o600


async def test_a_stranger_on_loopback_is_told_apart_by_the_kernel(tmp_path: Path) -> None:
    """The runner pretends to be another user: now this process is the stranger."""
    access = Access(parse(TOKEN), own_uid=os.getuid() + 1)
    if os.getuid() == 0:
        pytest.skip("root passes everywhere")
    async with served(tmp_path, access=access) as running:
        assert (await ask(await running.over_tcp(), "GET /health"))[0] == 401
        assert (await ask(await running.over_unix(), "GET /health"))[0] == 403
        assert (await ask(await running.over_tcp(), "GET /health", f"X-Api-Key: {TOKEN}"))[0] == 200


async def test_a_stranger_process_of_another_user_needs_the_token(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    async with served(tmp_path) as running:
        assert await as_nobody(running.port, "") == 401
        assert await as_nobody(running.port, TOKEN) == 200


async def as_nobody(port: int, token: str) -> int:
    code = (
        "import os, sys, http.client; 'x'.encode('idna'); os.setuid(65534)\n"
        f"link = http.client.HTTPConnection('127.0.0.1', {port})\n"
        f"link.request('GET', '/health', headers={{'X-Api-Key': {token!r}}} if {token!r} else {{}})\n"
        "print(link.getresponse().status)"
    )
    done = await trio.run_process(["python3", "-c", code], capture_stdout=True)
    return int(done.stdout)


async def test_an_open_bind_demands_the_token_from_everybody(tmp_path: Path) -> None:
    async with served(tmp_path, access=Access(parse(TOKEN), is_loopback=False)) as running:
        status, body = await ask(await running.over_tcp(), "GET /health")
        assert (status, body["error"]) == (401, "token_missing")
        assert (await ask(await running.over_tcp(), "GET /health", f"Authorization: Bearer {TOKEN}"))[
            0
        ] == 200


async def test_a_body_without_a_length_is_cut_at_the_limit(tmp_path: Path) -> None:
    access = Access(parse(TOKEN), import_limit=1000)
    async with served(tmp_path, access=access) as running:
        stream = await running.over_tcp()
        chunks = (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3 + b"0\r\n\r\n"
        head = b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with stream:
            await stream.send_all(head + chunks)
            answer = b""
            while b"body_too_large" not in answer:
                answer += await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_connections_above_the_cap_wait_their_turn(tmp_path: Path) -> None:
    async with served(tmp_path, connections=3) as running:
        # Each listener holds one place for the connection it accepts next.
        first = await running.over_tcp()
        await first.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        others = [await running.over_tcp() for _ in range(4)]
        answers: list[int] = []

        async def wait_for_answer(stream: trio.SocketStream) -> None:
            answers.append((await ask(stream, "GET /health/live"))[0])

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for stream in others:
                    nursery.start_soon(wait_for_answer, stream)
        assert answers == [200] * 4
        await first.aclose()


@pytest.mark.pain(17, 25)
async def test_a_caller_who_hangs_up_makes_room_at_once(tmp_path: Path) -> None:
    """Clients that keep alive and simply leave: their places must not wait for the idle time."""
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with served(tmp_path, connections=4) as running:
        with trio.fail_after(10):
            for _ in range(20):
                async with await running.over_unix() as stream:
                    await stream.send_all(request)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_a_caller_who_only_ends_his_side_gets_his_answer(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.send_eof()
        with trio.fail_after(5):
            answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async with served(tmp_path, send_timeout_s=0.05) as running:
        for number in range(20_000):
            running.fleet.views[f"s{number}"] = a_view(f"s{number}")
        with socket.socket(socket.AF_UNIX) as lazy:
            lazy.connect(str(running.unix))
            lazy.send(b"GET /api/sessions?limit=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await running.admin.wait_counted(ended=1)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
"""An empty SETTINGS frame."""


@pytest.mark.parametrize("cut", [0, 1, len(b"PRI * HTTP/2.0\r\n")])
@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_http_2_with_prior_knowledge_is_refused(tmp_path: Path, transport: str, cut: int) -> None:
    """HTTP/1.1 and WebSocket only; 505, the connection closed, and nothing of HTTP/2 ever spoken."""
    async with served(tmp_path) as running:
        stream = await (running.over_unix() if transport == "unix" else running.over_tcp())
        async with stream:
            for piece in (PREFACE[:cut], PREFACE[cut:] + SETTINGS):
                if piece:
                    await stream.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(5):
                answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"HTTP/1.1 505 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert answer.endswith(b"\r\n\r\n"), "and not a byte of HTTP/2 after it"


@pytest.mark.parametrize("headers", [[], ["X-Api-Key: wrong-token-of-nobody"]], ids=["own", "wrong token"])
async def test_an_upgrade_to_http_2_is_ignored(tmp_path: Path, headers: list[str]) -> None:
    """The request is answered as what it is, HTTP/1.1, by the same door."""
    asked = ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", *headers]
    async with served(tmp_path) as running:
        status, body = await ask(await running.over_tcp(), "GET /api/sessions/desk-1", *asked)
    assert (status, body.get("id"), body.get("error")) == (
        (401, None, "token_wrong") if headers else (200, "desk-1", None)
    )


async def test_an_unknown_version_of_http_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        await stream.send_all(b"GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 505 ")


async def test_a_websocket_gets_status_events_in_their_envelope(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        receiver = Receiver(stream)
        assert isinstance(await receiver.connect("/ws?session=desk-1"), AcceptConnection)
        await subscribed(running)
        running.fleet.change("desk-2", state=State.BACKOFF)
        running.fleet.change("desk-1", state=State.BACKOFF, reason="pong_deadline")
        message = await receiver.message()
        assert message["id"].startswith("evt_")
        assert len(message["id"]) == 4 + 26
        assert (message["event"], message["session"], message["timestamp"]) == (
            "session.status",
            "desk-1",
            1_700_000_003_000,
        )
        assert message["payload"]["reason"] == "pong_deadline"
        assert message["payload"]["previous"] == "online"
        assert message["environment"] == {"version": "0.1.0"}


@pytest.mark.parametrize(("scopes", "sees"), [("read", False), ("operate", True), ("admin", True)])
async def test_a_websocket_shows_the_words_of_the_server_to_those_who_may_operate(
    tmp_path: Path, scopes: str, sees: bool
) -> None:
    access = Access(parse(f"{TOKEN}:{scopes}"))
    async with served(tmp_path, access=access) as running, await running.over_tcp() as stream:
        receiver = Receiver(stream)
        await receiver.connect("/ws?events=session.status", **{"x-api-key": TOKEN})
        await subscribed(running)
        running.fleet.change("desk-1", state=State.PARKED, detail="<failure appeal_token='hunter2'/>")
        message = await receiver.message()
        assert ("hunter2" in str(message)) == sees
        assert (message["payload"]["detail"] is not None) == sees


async def test_a_websocket_that_asks_for_what_there_is_not_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        answer = await Receiver(stream).connect("/ws?events=sesion.status", **{"x-api-key": TOKEN})
    assert getattr(answer, "status_code", 101) == 422


@pytest.mark.parametrize(("scopes", "status"), [("read", 403), ("operate", 101)])
async def test_a_websocket_shows_messages_to_those_who_may_operate(
    tmp_path: Path, scopes: str, status: int
) -> None:
    access = Access(parse(f"{TOKEN}:{scopes}"))
    async with served(tmp_path, access=access) as running, await running.over_tcp() as stream:
        receiver = Receiver(stream)
        answer = await receiver.connect("/ws?events=message&session=desk-1", **{"x-api-key": TOKEN})
        assert getattr(answer, "status_code", 101) == status
        if status == 101:
            await subscribed(running)
            for session in ("desk-2", "desk-1"):
                payload = {"body": f"to {session}"}
                running.fleet.feed.publish(
                    StatusEvent("message", session, 7, None, payload, event_id="evt_x")
                )
            message = await receiver.message()
            assert (message["id"], message["payload"]) == ("evt_x", {"body": "to desk-1"})


async def subscribed(running: Running) -> None:
    with trio.fail_after(10):
        await running.fleet.subscribed.wait()


async def test_a_websocket_gets_metrics_when_it_asks(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        receiver = Receiver(stream)
        await receiver.connect("/ws?session=desk-1&events=system.metrics&events=session.metrics")
        await subscribed(running)
        numbers = running.backend.numbers
        assert isinstance(numbers, FakeNumbers)
        for _ in range(2):  # at once, and again with the next sample
            first, second = await receiver.message(), await receiver.message()
            assert (first["event"], first["payload"]["states"]["online"]) == ("system.metrics", 3)
            assert (second["event"], second["session"], second["payload"]["connectionUptime"]) == (
                "session.metrics",
                "desk-1",
                3.5,
            )
            await trio.testing.wait_all_tasks_blocked()
            numbers.sampled.set()


async def test_whoever_waits_for_metrics_is_told_once_that_none_will_come(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        numbers = running.backend.numbers
        assert isinstance(numbers, FakeNumbers)
        numbers.monitoring = False
        receiver = Receiver(stream)
        await receiver.connect("/ws?events=system.metrics")
        told = await receiver.message()
        assert told["event"] == "metrics.paused"
        assert "WHATSAPP_PERFORMANCE_MONITORING" in told["payload"]["reason"]
        numbers.monitoring = True
        await trio.testing.wait_all_tasks_blocked()
        numbers.sampled.set()
        assert (await receiver.message())["event"] == "system.metrics"
        numbers.monitoring = False
        await trio.testing.wait_all_tasks_blocked()
        numbers.sampled.set()
        assert (await receiver.message())["event"] == "metrics.paused"


async def test_a_slow_websocket_is_told_what_it_lost(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        receiver = Receiver(stream)
        await receiver.connect("/ws")
        await subscribed(running)
        for _ in range(10):  # the fake's subscribers hold 4
            running.fleet.change("desk-1", state=State.BACKOFF)
        told = [await receiver.message() for _ in range(4)]
        await trio.testing.wait_all_tasks_blocked()
        running.fleet.change("desk-1", state=State.ONLINE)
        while told[-1]["event"] == "session.status":
            told.append(await receiver.message())
        assert told[-1]["event"] == "stream.lost"
        assert len(told[:-1]) + told[-1]["payload"]["events"] == 10
        assert (await receiver.message())["payload"]["state"] == "online"


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop that tasks of a name had."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.had = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.had += self._name in task.name


async def test_a_websocket_gets_many_events_in_a_turn(tmp_path: Path) -> None:
    """With three turns for each, a receiver beside a few lists gets a hundred a second; a storm has more."""
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        running.fleet.capacity = 1000
        receiver = Receiver(stream)
        await receiver.connect("/ws")
        await subscribed(running)
        await trio.testing.wait_all_tasks_blocked()
        turns = Turns("_send_changes")
        trio.lowlevel.add_instrument(turns)
        for number in range(320):
            running.fleet.change("desk-1", reason=str(number))
        for number in range(320):
            assert (await receiver.message())["payload"]["reason"] == str(number)
        trio.lowlevel.remove_instrument(turns)
    assert turns.had <= 2 * 320 / EVENTS_A_STEP


async def test_a_websocket_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        async with await running.over_tcp() as stream:
            receiver = Receiver(stream)
            await receiver.connect("/ws")
            await subscribed(running)
        await running.admin.wait_counted(ended=1)
        running.fleet.change("desk-1", state=State.BACKOFF)
        assert not running.fleet.feed.is_heard


async def test_a_websocket_from_another_page_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_tcp() as stream:
        answer = await Receiver(stream).connect("/ws", origin="https://evil.example")
        assert isinstance(answer, RejectConnection)
        assert answer.status_code == 403


async def grace(clock: trio.testing.MockClock) -> None:
    """So much time as a server that stops may take, and no more: whoever waits for longer waits for ever."""
    for seconds in (server_module.FIRST_REQUEST_S, server_module.GRACE_S):
        await trio.testing.wait_all_tasks_blocked(0.05)
        clock.jump(seconds)


async def test_stopping_closes_websockets_with_going_away_and_at_once(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """The server alone would leave them open for its grace and then drop them with 1006."""
    async with trio.open_nursery() as nursery, served(tmp_path) as running:
        stream = await running.over_tcp()
        receiver = Receiver(stream)
        await receiver.connect("/ws")
        await subscribed(running)
        running.backend.stopping.set()
        closing = await receiver.next()  # no time has passed
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1001
        await stream.aclose()
        nursery.start_soon(grace, mock_clock)


async def test_stopping_does_not_wait_for_a_client_that_hangs(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery, served(tmp_path) as running:
        hanging = await running.over_tcp()
        await hanging.send_all(b"GET /health HTTP/1.1\r\n")
        lazy = socket.socket(socket.AF_UNIX)
        for number in range(20_000):
            running.fleet.views[f"s{number}"] = a_view(f"s{number}")
        lazy.connect(str(running.unix))
        lazy.send(b"GET /api/sessions?limit=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.lowlevel.wait_readable(lazy)  # its answer has begun, and nobody reads it
        await running.admin.wait_counted(opened=2)
        running.backend.stopping.set()
        nursery.start_soon(grace, mock_clock)
    lazy.close()
    await hanging.aclose()


async def test_log_lines_are_followed(tmp_path: Path) -> None:
    async with served(tmp_path) as running, await running.over_unix() as stream:
        running.backend.logs.append(b'{"event":"one"}')
        await stream.send_all(b"GET /api/logs?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while b"one" not in seen:
            seen += await stream.receive_some()
        running.backend.logs.append(b'{"event":"two"}')
        while b"two" not in seen:
            seen += await stream.receive_some()


def test_a_second_holder_of_the_socket_is_refused_by_pid(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    lock = SocketLock(path)
    with pytest.raises(LeaseHeldError, match=f"pid {os.getpid()}"):
        SocketLock(path)
    lock.close()
    SocketLock(path).close()


def test_a_full_disk_is_told_by_the_name_of_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", is_full)
    with pytest.raises(StartError, match=r"admin\.sock\.lock: No space left on device") as told:
        SocketLock(tmp_path / "admin.sock")
    assert told.value.remedy == "free some space there"
    monkeypatch.undo()
    SocketLock(tmp_path / "admin.sock").close()


def test_a_directory_that_is_not_there_is_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file") as told:
        SocketLock(tmp_path / "nowhere" / "admin.sock")
    assert "WHATSAPP_ADMIN_SOCKET" in told.value.remedy


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bind_unix(path).close()
    assert path.exists()
    bind_unix(path).close()


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="is not a socket"):
        bind_unix(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="longer than 107 bytes") as caught:
        bind_unix(tmp_path / ("x" * 120))
    assert "WHATSAPP_ADMIN_SOCKET" in caught.value.remedy


def test_a_taken_port_is_explained() -> None:
    with bind_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port}") as caught:
            bind_tcp("127.0.0.1", port)
        assert "WHATSAPP_ADMIN_PORT" in caught.value.remedy


def test_a_host_that_is_none_is_explained() -> None:
    with pytest.raises(StartError, match="WHATSAPP_ADMIN_HOST") as caught:
        bind_tcp("not a host", 0)
    assert "Errno" not in str(caught.value)
    assert "address of this machine" in caught.value.remedy


def test_an_address_of_another_machine_is_explained() -> None:
    with pytest.raises(StartError, match="cannot listen on 192") as caught:
        bind_tcp("192.0.2.1", 0)
    assert "WHATSAPP_ADMIN_HOST" in caught.value.remedy
