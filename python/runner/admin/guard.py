"""The door of the admin API: who may call, from where, how much.

`admit` is the rule as a function of its arguments; `Guard` is the ASGI wrapper around the whole application,
HTTP and WebSocket alike, so that no route can forget it. In order:

1. A Unix socket belongs to the runner's user and root. The file mode says so and the kernel is asked again.
2. On TCP the Host header must name this machine, or a page that rebinds its own name to 127.0.0.1 could call.
3. A browser says where a call comes from (Origin, Sec-Fetch-Site); other origins are refused.
4. A token that is presented must be one of ours, and whoever presented too many that were not is not
   listened to for a while (`guesses`). Without one, a browser that signed in passes by its cookie, but to
   change something it must say where the call comes from. Else only the runner's user and root pass, and only
   on a loopback bind.
5. The scopes of the caller must cover what the route does.
"""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from runner.admin.guesses import Guesses
from runner.admin.peer import Peer
from runner.admin.tokens import ADMIN, EVERYTHING, OPERATE, READ, SEND, Tokens
from runner.errors import AdminError
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER: Final = "runner.peer"
"""Key of the `Peer` in an ASGI scope, put there by the server that accepted the connection."""
SCOPES: Final = "runner.scopes"
"""Key of the caller's scopes in an ASGI scope, put there by `Guard`."""

SIGNED_IN: Final = "runner.signed_in"
"""Key of the scopes that a browser's cookie stands for, put there by the dashboard; absent without one."""
_WRITTEN_DOWN: Final = "runner.written_down"
"""Key of whether the log knows already that this request failed."""

SMALL_BODY: Final = 64 * 1024
TEXT_BODY: Final = 1024 * 1024
"""The longest text is 65,536 characters, each of up to 12 bytes in JSON."""
SEND_TEXT: Final = "/api/sendText"
"""Largest body of any call but an import."""

_IMPORTS: Final = frozenset({"/api/sessions", "/api/sessions/batch"})
"""Routes that take credentials in."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


@dataclass(slots=True)
class Access:
    """What the door goes by. Mutable: SIGHUP changes tokens and hosts."""

    tokens: Tokens
    is_loopback: bool = True
    """Whether the TCP side is bound to loopback, so that a known uid can stand in for a token."""
    own_uid: int = field(default_factory=os.geteuid)
    hosts: frozenset[str] = frozenset()
    import_limit: int = 64 * 1024 * 1024
    guesses: Guesses = field(default_factory=Guesses)
    clock: Callable[[], float] = trio.current_time


def host_names(configured: Iterable[str]) -> frozenset[str]:
    """The names, beside addresses and localhost, that a Host header may carry."""
    return frozenset(name.strip().lower() for name in (*configured, socket.gethostname()) if name.strip())


def needed_scope(method: str, path: str) -> str:
    """What a caller must be allowed for this route. What is not known needs the most."""
    if method in _SAFE_METHODS or method == "WEBSOCKET":
        return READ
    if method == "POST" and path.rstrip("/") == SEND_TEXT:
        return SEND
    is_import = path.rstrip("/") in _IMPORTS
    if path.startswith("/api/webhooks") and not path.endswith("/test"):
        return ADMIN  # who adds one can have every message sent to himself
    if path.rstrip("/") in {"/api/dead-letters/drop", "/api/backup"}:
        return ADMIN
    if path.startswith("/api/sessions/") and path.rstrip("/").endswith("/export"):
        return ADMIN  # all keys of a device
    is_change = method == "PUT" and path.startswith("/api/sessions/")
    is_whole = path.rstrip("/") == "/api/restart"
    is_command = method == "POST" and not (is_import or is_whole or path.endswith("/logout"))
    is_silence_over = method == "DELETE" and path.startswith("/api/alerts/silences/")
    return OPERATE if is_command or is_change or is_silence_over else ADMIN


def sees_detail(scope: Scope) -> bool:
    """Whether the caller may read what the peer said in its own words: who may operate, not who may look."""
    return OPERATE in scope.get(SCOPES, ())


def admit(
    peer: Peer,
    method: str,
    headers: Mapping[str, str],
    access: Access,
    signed_in: frozenset[str] | None = None,
    *,
    now: float,
) -> frozenset[str]:
    """The scopes of a caller; `signed_in` are those of his cookie, if he has a good one.

    Errors: AdminError 401, 403 or 429; the message never tells what the right token would be.
    """
    if peer.transport == "unix":
        if not peer.is_trusted(access.own_uid):
            raise AdminError(
                403, "peer_refused", "this socket belongs to another user", "use the TCP port with a token"
            )
        return EVERYTHING
    refuse_other_hosts(headers, access)
    refuse_other_origins(method, headers)
    if (token := _presented_token(headers)) is not None:
        return try_token(token, peer, access, now)
    if signed_in is not None:
        if method not in _SAFE_METHODS and not headers.keys() & {"origin", "sec-fetch-site"}:
            raise AdminError(403, "cross_origin", "a browser says where a call comes from; this one did not")
        return signed_in
    if access.is_loopback and peer.is_trusted(access.own_uid):
        return EVERYTHING
    raise AdminError(401, "token_missing", "this call needs a token", _WHERE_TOKEN, headers=_CHALLENGE)


_CHALLENGE: Final = {"www-authenticate": "Bearer"}
_WHERE_TOKEN: Final = (
    "send X-Api-Key with the token from WHATSAPP_ADMIN_TOKEN or $WHATSAPP_DATA_DIR/admin.token"
)


def try_token(token: str, peer: Peer, access: Access, now: float) -> frozenset[str]:
    """The scopes of a token that this peer presents; what a wrong one costs is noted.

    Errors: AdminError 401; 429, and then the token was not looked at.
    """
    wait_s = access.guesses.wait_s(peer.caller, now)
    if wait_s > 0.0:
        access.guesses.refused()
        seconds = math.ceil(wait_s)
        raise AdminError(
            429,
            "too_many_wrong_tokens",
            f"too many wrong tokens came from {peer.caller}; this one was not looked at",
            f"wait {seconds} s; {_WHERE_TOKEN}",
            headers={"retry-after": str(seconds)},
        )
    scopes = access.tokens.scopes(token)
    if scopes is None:
        access.guesses.wrong(peer.caller, now)
        logger().warning("token refused", caller=peer.caller)
        raise AdminError(401, "token_wrong", "this token is not known here", _WHERE_TOKEN, headers=_CHALLENGE)
    access.guesses.right(peer.caller, now)
    return scopes


def _is_own_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names this machine. An address cannot be rebound, a name can."""
    name = _without_port(host).lower()
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (name.endswith("]") or ":" not in name) else host


def refuse_other_hosts(headers: Mapping[str, str], access: Access) -> None:
    """Errors: AdminError 403 when the Host header names another machine."""
    host = headers.get("host", "")
    if not _is_own_host(host, access.hosts):
        raise AdminError(
            403,
            "host_refused",
            f"the Host header {host[:80]!r} is not this machine",
            "add it to WHATSAPP_ADMIN_HOSTS",
        )


def refuse_other_origins(method: str, headers: Mapping[str, str]) -> None:
    """Errors: AdminError 403 when a browser says that another page calls."""
    host = headers.get("host", "")
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    is_typed_by_hand = site == "none" and method in _SAFE_METHODS
    if (site != "same-origin" and not is_typed_by_hand) or (
        origin is not None and not _is_same(origin, host)
    ):
        raise AdminError(403, "cross_origin", "calls from another web page are refused")


def _is_same(origin: str, host: str) -> bool:
    return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _presented_token(headers: Mapping[str, str]) -> str | None:
    if "x-api-key" in headers:
        return headers["x-api-key"]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class Guard:
    """The ASGI application behind the door."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            limit = self._enter(scope)
            await self._app(scope, _limited(receive, limit), answer)
        except AdminError as error:
            await refuse(scope, send, error)
        except ClientDisconnect:  # in the middle of its body: nobody is left to answer
            logger().debug("admin caller left", path=scope["path"])
        except Exception as error:  # the admin request handler: one bad request must not end the runner
            write_down(scope, error)
            if not answer.is_started:
                await refuse(
                    scope, send, AdminError(500, "internal_error", "the runner failed here; its log says why")
                )

    def _enter(self, scope: Scope) -> int:
        """Let the caller in, or raise; the largest body he may send."""
        headers = headers_of(scope)
        method = scope.get("method", "WEBSOCKET")
        path = scope["path"]
        peer = scope.get(PEER, Peer("tcp"))
        now = self._access.clock()
        scopes = admit(peer, method, headers, self._access, scope.get(SIGNED_IN), now=now)
        needed = needed_scope(method, path)
        scope[SCOPES] = scopes
        if needed not in scopes:
            raise AdminError(403, "scope_missing", f"this token may not do that: it needs the scope {needed}")
        limit = SMALL_BODY
        if path.rstrip("/") in _IMPORTS:
            limit = self._access.import_limit
        elif path.rstrip("/") == SEND_TEXT:
            limit = TEXT_BODY
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            raise AdminError(413, "body_too_large", f"the body is larger than {limit} bytes")
        return limit


def write_down(scope: Scope, error: Exception) -> None:
    """Log that a request ended in a bug of ours; once, whoever notices it first."""
    if not scope.setdefault(_WRITTEN_DOWN, False):
        scope[_WRITTEN_DOWN] = True
        method = scope.get("method", "WEBSOCKET")
        logger().error("admin request failed", path=scope["path"], method=method, exc_info=error)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request, their names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


class _Answer:
    """`send`, with our headers added and a note whether the answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        elif message["type"] in {"websocket.accept", "websocket.close", "websocket.http.response.start"}:
            self.is_started = True
        await self._send(message)


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive` that stops a body without a length at `limit` bytes."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                # FastAPI turns any other exception from here into a 400.
                raise HTTPException(413, f"the body is larger than {limit} bytes")
        return message

    return limited


async def refuse(scope: Scope, send: Send, error: AdminError) -> None:
    """Answer with an error instead of the application; a WebSocket gets an HTTP answer if possible."""
    body = msgspec.json.encode(error_body(error))
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
    ]
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.error})
            return
        prefix = "websocket.http.response"
    await send({"type": f"{prefix}.start", "status": error.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


def error_body(error: AdminError) -> dict[str, str]:
    """The JSON body of every answer that is not a success."""
    body = {"error": error.error, "message": error.message}
    if error.reason is not None:
        body["reason"] = error.reason
    if error.remedy:
        body["remedy"] = error.remedy
    return body
