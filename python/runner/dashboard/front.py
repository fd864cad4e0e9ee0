"""What stands before the admin API: the page, its files, signing in and out.

These four are all that is served without authentication; everything else goes on to the API's own door
(`runner.admin.guard`), with the scopes of the browser's cookie if it has a good one. The rules about hosts
and origins are the door's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from runner.admin.guard import (
    PEER,
    SIGNED_IN,
    headers_of,
    refuse,
    refuse_other_hosts,
    refuse_other_origins,
    try_token,
)
from runner.admin.peer import Peer
from runner.dashboard import cookies
from runner.dashboard.cookies import Cookies
from runner.dashboard.files import PREFIX, Files, Sent
from runner.errors import AdminError
from runner.logs import logger

if TYPE_CHECKING:
    from runner.admin.guard import Access, App, Message, Receive, Scope, Send
    from runner.dashboard.cookies import Browser

MOST_BODY: Final = 4096
"""Of `POST /login`."""
_POLICY_VIOLATED: Final = 1008


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /login`."""

    token: str


class Front:
    """The ASGI application of both sockets."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access
        self._files = Files()
        self._cookies = Cookies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        try:
            answer = await self._own(scope, receive, headers)
        except AdminError as error:
            await refuse(scope, send, error)
            return
        if answer is not None:
            await _send(send, answer, with_body=scope["method"] != "HEAD")
            return
        browser = self._browser(headers, peer_of(scope))
        if browser is not None:
            scopes = self._access.tokens.scopes_of(browser.token_digest)
            if scopes is not None:
                scope[SIGNED_IN] = scopes
                if scope["type"] == "websocket":
                    receive = _while_signed_in(receive, browser)
        await self._app(scope, receive, send)

    async def _own(self, scope: Scope, receive: Receive, headers: dict[str, str]) -> Sent | None:
        """The answer of the dashboard itself; None for what is the API's. Errors: AdminError."""
        if scope["type"] != "http":
            return None
        method, path = scope["method"], scope["path"]
        if method in {"GET", "HEAD"} and (path == "/" or path.startswith(PREFIX)):
            refuse_other_hosts(headers, self._access)
            if (sent := self._files.answer(path, headers)) is None:
                raise AdminError(404, "not_found", f"there is no file {path[:200]!r}")
            return sent
        if method == "POST" and path in {"/login", "/logout"}:
            refuse_other_hosts(headers, self._access)
            refuse_other_origins(method, headers)
            if path == "/login":
                if _is_large(headers.get("content-length", "0")):
                    raise _too_large()
                return await self._sign_in(receive, headers, peer_of(scope))
            return self._sign_out(headers, peer_of(scope))
        return None

    async def _sign_in(self, receive: Receive, headers: dict[str, str], peer: Peer) -> Sent:
        try:
            token = msgspec.json.decode(await _body(receive), type=SignIn).token
        except msgspec.DecodeError as error:
            raise AdminError(422, "body_wrong", str(error), 'send {"token": "…"}') from error
        now = self._access.clock()
        scopes = try_token(token, peer, self._access, now)
        session_id = self._cookies.sign_in(self._access.tokens.digest(token), peer.uid, now)
        logger().info("browser signed in", caller=peer.caller)
        return _json({"scopes": sorted(scopes)}, headers, session_id)

    def _sign_out(self, headers: dict[str, str], peer: Peer) -> Sent:
        session_id = cookies.presented(headers)
        if session_id is not None and self._browser(headers, peer) is not None:
            self._cookies.sign_out(session_id)
        return _json({"signedOut": True}, headers, "")

    def _browser(self, headers: dict[str, str], peer: Peer) -> Browser | None:
        session_id = cookies.presented(headers)
        if session_id is None:
            return None
        return self._cookies.browser(session_id, peer.uid, self._access.clock())


def peer_of(scope: Scope) -> Peer:
    """Who calls, by the kernel's word."""
    peer: Peer = scope.get(PEER, Peer("tcp"))
    return peer


def _json(answer: object, headers: dict[str, str], session_id: str) -> Sent:
    """An answer that signs in, or with an empty id out."""
    is_secure = headers.get("origin", "").startswith("https:")
    body = msgspec.json.encode(answer)
    shown = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "set-cookie": cookies.setting(headers.get("host", ""), session_id, secure=is_secure),
    }
    return Sent(200, shown, body)


async def _send(send: Send, answer: Sent, *, with_body: bool) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


def _too_large() -> AdminError:
    return AdminError(413, "body_too_large", f"the body is larger than {MOST_BODY} bytes")


def _is_large(length: str) -> bool:
    return not length.isdigit() or int(length) > MOST_BODY


async def _body(receive: Receive) -> bytes:
    """Errors: AdminError 413 above `MOST_BODY`."""
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _while_signed_in(receive: Receive, browser: Browser) -> Receive:
    """`receive` of a WebSocket that ends with the sign-in: nobody watches on after signing out."""

    async def limited() -> Message:
        message: Message = {"type": "websocket.disconnect", "code": _POLICY_VIOLATED}
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                with trio.move_on_at(browser.until):
                    await browser.ended.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            message = await receive()
            nursery.cancel_scope.cancel()
        return message

    return limited
