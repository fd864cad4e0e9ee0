"""Serves the ASGI application with anycorn on listeners of ours.

anycorn speaks HTTP/1.1 and WebSocket on each connection, and not HTTP/2, which it would offer; accepting is
ours, because only the accepted socket knows its peer. What its own server would leave open is closed here:
connections are capped and each is known by the kernel's word (`Peer`); a client that stops reading fails
after `SEND_TIMEOUT_S` instead of holding a task for ever; on stop the application closes its WebSockets
itself (`stopping`), and what is still open after the grace is cut.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio._backends._trio  # else anyio loads it with the first request: 25 ms, and not on a thread
import anyio.abc
import trio
from anycorn.app_wrappers import ASGIWrapper
from anycorn.config import Config
from anycorn.protocol.h11 import H11Protocol
from anycorn.tcp_server import TCPServer
from anycorn.typing import ConnectionState
from anycorn.worker_context import WorkerContext

from runner.admin.guard import PEER
from runner.admin.peer import Peer, tcp_peer, unix_peer
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import h11
    from anycorn.typing import ASGIFramework, LifespanState

    from runner.admin.guard import App, Receive, Scope, Send

SEND_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 75.0
"""Between two reads; WebSockets are pinged more often than this."""
WEBSOCKET_PING_S: Final = 25.0
FIRST_REQUEST_S: Final = 0.25
"""For a caller that was accepted just now to say what it wants, before idle connections are closed."""
GRACE_S: Final = 1.0
CLOSE_LINGER_S: Final = 0.5
"""For the last bytes of a WebSocket that is over to reach the peer."""
_FILES_FULL_PAUSE_S: Final = 0.1


class BoundedStream(anyio.abc.ByteStream):
    """A socket whose writes give up on a peer that does not read, and that tells when the peer is done.

    A write that the kernel takes at once is no checkpoint. Each would be a round of the whole loop: beside a
    few lists under way a receiver got a hundred events a second. Who sends much takes checkpoints of its own.
    """

    def __init__(
        self, stream: anyio.abc.SocketStream, send_timeout_s: float, ended: Callable[[], Awaitable[None]]
    ) -> None:
        self._stream = stream
        self._socket = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        self._send_timeout_s = send_timeout_s
        self._ended = ended

    async def send(self, item: bytes) -> None:
        taken = 0
        with contextlib.suppress(OSError):  # what is wrong with the socket, the slow way says better
            taken = self._socket.send(item, socket.MSG_DONTWAIT)
        if taken < len(item):
            await self._send_slowly(item[taken:])

    async def _send_slowly(self, item: bytes) -> None:
        try:
            with anyio.fail_after(self._send_timeout_s):
                await self._stream.send(item)
        except TimeoutError:
            # anycorn would go on reading, and the connection keep its place, for as long as the peer likes.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            raise

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            # anycorn would keep the connection, and its place, until its idle time is over.
            await self._ended()
            raise

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


class _NotHttp1Error(Exception):
    """The caller speaks another version of HTTP; it was told so."""


class _Http1Server(TCPServer):
    """anycorn's server of one connection, without its two ways into HTTP/2 over plain text.

    A parser of binary frames is nothing that this port needs to offer. Prior knowledge gets a 505;
    `Upgrade: h2c` is ignored, as RFC 9110 §7.8 allows. Its lock is no checkpoint, as a write is none.
    """

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: anyio.abc.SocketStream,
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self.send_lock = anyio.Lock(fast_acquire=True)

    async def _read_data(self) -> None:
        http1 = self.protocol.protocol
        if not isinstance(http1, H11Protocol):
            return  # only TLS could have chosen another one
        http1._check_protocol = partial(_stay_http1, http1)  # type: ignore[method-assign]
        with contextlib.suppress(_NotHttp1Error):
            await super()._read_data()


async def _stay_http1(http1: H11Protocol, request: h11.Request) -> None:
    if not request.http_version.startswith(b"1."):
        await http1._send_error_response(505)
        raise _NotHttp1Error


class AdminServer:
    """All connections of the admin API."""

    def __init__(self, app: App, *, connections: int = 256, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._app = app
        self._free = trio.CapacityLimiter(connections)
        self._send_timeout_s = send_timeout_s
        self._open: set[socket.socket] = set()
        self._config = _config()
        self._contexts: set[WorkerContext] = set()
        """One for each connection: "terminated" is for anycorn the end of idling."""
        self._none_open = trio.Event()
        self._none_open.set()

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        stopping: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until `stopping`, let requests end for `GRACE_S`, cut the rest. Closes the listeners."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                task_status.started()
                await stopping.wait()
                accepting.cancel_scope.cancel()
            with trio.move_on_after(FIRST_REQUEST_S):
                await self._none_open.wait()
            for context in list(self._contexts):
                await context.terminated.set()
            with trio.move_on_after(GRACE_S):
                await self._none_open.wait()
            for open_socket in self._open:
                # A write in anycorn is shielded from cancellation; only its socket's end ends it.
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
            connections.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        with trio.socket.from_stdlib_socket(listener) as waiting:
            is_told = False
            while True:
                # Taken before accepting: above the cap, callers wait in the kernel's queue, not in memory.
                token = object()
                await self._free.acquire_on_behalf_of(token)
                try:
                    accepted, _address = await waiting.accept()
                except OSError as error:
                    self._free.release_on_behalf_of(token)
                    if not is_told:
                        logger().warning("admin connections not accepted", error=str(error))
                    is_told = True
                    await trio.sleep(_FILES_FULL_PAUSE_S)  # no file descriptor left: another must close first
                    continue
                except BaseException:
                    self._free.release_on_behalf_of(token)
                    raise
                is_told = False
                connections.start_soon(self._converse, accepted, token)

    async def _converse(self, accepted: trio.socket.SocketType, token: object) -> None:
        plain = socket.socket(fileno=accepted.detach())
        context = WorkerContext(None)
        self._contexts.add(context)
        self._opened(plain)
        try:
            if plain.family == socket.AF_UNIX:
                peer = unix_peer(plain)
            else:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = tcp_peer(plain)
            inner = await anyio.abc.SocketStream.from_socket(plain)
            stream = BoundedStream(inner, self._send_timeout_s, context.terminated.set)
            state = cast("LifespanState", ConnectionState({}))
            raw = cast("anyio.abc.SocketStream", stream)  # all that TCPServer asks of it, BoundedStream has
            with trio.CancelScope() as scope:
                app = ASGIWrapper(cast("ASGIFramework", _of_connection(self._app, peer, scope)))
                await _Http1Server(app, self._config, context, state, raw).run()
        except OSError as error:  # the peer went away before it said anything
            logger().debug("admin connection ended", error=str(error))
        except Exception:  # one caller of the admin API must not end the runner and its sessions
            logger().exception("admin connection failed")
        finally:
            self._contexts.discard(context)
            self._closed(plain)
            self._free.release_on_behalf_of(token)

    def _opened(self, plain: socket.socket) -> None:
        if not self._open:
            self._none_open = trio.Event()
        self._open.add(plain)

    def _closed(self, plain: socket.socket) -> None:
        self._open.discard(plain)
        plain.close()
        if not self._open:
            self._none_open.set()


def _config() -> Config:
    config = Config()
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.read_timeout = int(IDLE_TIMEOUT_S)
    config.websocket_ping_interval = WEBSOCKET_PING_S
    config.websocket_max_message_size = 64 * 1024
    config.websocket_permessage_deflate = False
    config.h11_max_incomplete_size = 16 * 1024
    config.errorlog = logging.getLogger("anycorn")
    return config


def _of_connection(app: App, peer: Peer, connection: trio.CancelScope) -> App:
    """The application as one connection sees it."""

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = peer
        await app(scope, receive, send)
        if scope["type"] == "websocket":
            # anycorn would keep the connection until its next ping is due.
            connection.deadline = trio.current_time() + CLOSE_LINGER_S

    return known
