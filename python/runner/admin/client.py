"""A client of the admin API over its Unix socket: standard library only, so that a command starts in no time.

    with Client(Path("/var/lib/wa-runner/admin.sock")) as runner:
        for session in runner.sessions(state="backoff"):
            print(session["id"], session["reason"], session["nextRetryAt"])
            runner.reconnect(session["id"])

Errors: NotRunningError when nobody answers; AdminError with status, slug, reason and remedy when the answer
is not a success.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING, Any, Final, NotRequired, Self, TypedDict, cast
from urllib.parse import quote, urlencode

from runner.errors import AdminError, NotRunningError, UnknownSessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

PAGE: Final = 1000
"""Sessions fetched by one request."""
IMPORT_DEVICES: Final = 200
IMPORT_BYTES: Final = 8 * 1024 * 1024
"""Of one request that imports: what the runner takes in one transaction."""
IMPORT_LIMIT: Final = 64 * 1024 * 1024
"""`WHATSAPP_ADMIN_IMPORT_LIMIT` where nobody changed it."""


class Breaker(TypedDict):
    """A session's circuit breaker. Times are Unix milliseconds."""

    state: str
    why: str | None
    openedAt: int | None
    retryAt: int | None


class Session(TypedDict):
    """One session as every surface shows it. Times are Unix milliseconds."""

    id: str
    state: str
    reason: str | None
    code: int | None
    detail: str | None
    connection: int
    since: int
    revision: int
    attempt: int
    nextRetryAt: int | None
    lastDataReceivedAt: int | None
    lastPongAt: int | None
    pongRttMs: float | None
    breaker: Breaker
    stableSince: int | None
    flap5m: int
    flap60m: int
    phase: str | None
    proxy: str | None
    linked: bool


class Reconnect(TypedDict):
    """The answer to a forced reconnect: the number that the new connection will have."""

    id: str
    connection: int
    state: str


class Imported(TypedDict):
    """What became of one device of `create_all`: `imported` and `warnings`, or the fields of an error."""

    id: str
    imported: NotRequired[bool]
    warnings: NotRequired[list[str]]
    error: NotRequired[str]
    reason: NotRequired[str]
    message: NotRequired[str]
    remedy: NotRequired[str]


class Exported(TypedDict):
    """A session's files for another program."""

    files: dict[str, bytes]
    leftOut: list[str]
    warnings: list[str]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One connection to a runner. Blocking; not for use by two threads at once."""

    def __init__(self, socket_path: Path, timeout_s: float = 10.0) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._link = _UnixConnection(socket_path, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._link.close()

    def is_running(self) -> bool:
        """Whether a runner answers."""
        try:
            self.get("/health/live")
        except NotRunningError:
            return False
        except AdminError:
            return True
        return True

    def sessions(self, *, state: str | None = None, reason: str | None = None) -> Iterator[Session]:
        """All sessions, fetched page by page."""
        offset: int | None = 0
        while offset is not None:
            page = self.get(
                "/api/sessions", {"offset": offset, "limit": PAGE, "state": state, "reason": reason}
            )
            yield from page["sessions"]
            offset = page["next"]

    def session(self, session_id: str) -> Session:
        """One session."""
        return cast("Session", self.get(f"/api/sessions/{_in_path(session_id)}"))

    def session_metrics(self, session_id: str) -> dict[str, Any]:
        """The six metrics of one session."""
        return cast("dict[str, Any]", self.get(f"/api/sessions/{_in_path(session_id)}/metrics"))

    def reconnect(self, session_id: str, *, override: bool = False) -> Reconnect:
        """Reconnect now. Errors: AdminError 409 with the reason when the number could be at risk."""
        path = f"/force-reconnection/{_in_path(session_id)}"
        return cast("Reconnect", self.post(path, {"override": "true"} if override else {}))

    def reset_breaker(self, session_id: str, *, penalty: bool = False) -> Session:
        """Close the circuit breaker; with `penalty`, also forget a 402's or 429's waiting time."""
        path = f"/reset-circuit-breaker/{_in_path(session_id)}"
        return cast("Session", self.post(path, {"penalty": "true"} if penalty else {}))

    def command(self, session_id: str, verb: str) -> Session:
        """`start`, `stop`, `restart`, `pair` or `logout`."""
        return cast("Session", self.post(f"/api/sessions/{_in_path(session_id)}/{verb}"))

    def set_proxy(self, session_id: str, proxy: str | None) -> Session:
        """Use another proxy from now on, or with None the one of `WHATSAPP_PROXY`.

        Errors: AdminError 422 for a proxy that cannot be used.
        """
        path = f"/api/sessions/{_in_path(session_id)}"
        return cast("Session", self.request("PUT", path, body={"proxy": proxy}))

    def delete(self, session_id: str) -> None:
        """Remove a session; its credentials move to the archive."""
        self.request("DELETE", f"/api/sessions/{_in_path(session_id)}")

    def create_empty(self, session_id: str, *, proxy: str | None = None) -> Session:
        """A new session that shows QR codes, for a phone to link."""
        body = {"id": session_id, "proxy": proxy}
        return cast("Session", self.request("POST", "/api/sessions", body=body))

    def qr(self, session_id: str) -> dict[str, Any]:
        """The QR code to scan now: `value`, `expiresAt` (Unix ms), `left`. Waits half a minute for the first.

        Errors: AdminError 409 when none is shown, with the reason.
        """
        path = f"/api/{_in_path(session_id)}/auth/qr"
        return cast("dict[str, Any]", self.get(path, {"format": "raw"}))

    def pairing_code(self, session_id: str, phone: str) -> dict[str, Any]:
        """A code to type into the phone with this number: `code`, `expiresAt` (Unix ms).

        Errors: AdminError 409 with the reason, 422 for what is no number, 429 when one was made just now.
        """
        path = f"/api/{_in_path(session_id)}/auth/request-code"
        return cast("dict[str, Any]", self.request("POST", path, body={"phoneNumber": phone}))

    def send_text(
        self,
        session_id: str,
        chat: str,
        text: str,
        *,
        message_id: str | None = None,
        reply_to: str | None = None,
        reply_to_sender: str | None = None,
    ) -> dict[str, Any]:
        """Send a text to a person or a group: `id`, `chatId`, `timestamp` (Unix ms). Waits until WhatsApp has
        it.

        Errors: AdminError with the reason: 409 not online, no such person, or not in that group, 502 refused,
        504 unconfirmed.
        """
        body = {
            "session": session_id,
            "chatId": chat,
            "text": text,
            "id": message_id,
            "reply_to": reply_to,
            "reply_to_sender": reply_to_sender,
        }
        return cast("dict[str, Any]", self.request("POST", "/api/sendText", body=body))

    def export(self, session_id: str, form: str, *, force: bool) -> Exported:
        """A session's files for another program; it is parked here from then on."""
        path = f"/api/sessions/{_in_path(session_id)}/export"
        told = self.request("POST", path, body={"format": form, "force": force})
        files = {name: text.encode() for name, text in told["files"].items()}
        files |= {name: base64.b64decode(text) for name, text in told["binary"].items()}
        return {"files": files, "leftOut": told["leftOut"], "warnings": told["warnings"]}

    def backup(self, file: Path) -> dict[str, Any]:
        """Copy the store into a new file on the runner's machine."""
        return cast("dict[str, Any]", self.request("POST", "/api/backup", body={"file": str(file)}))

    def create(
        self, session_id: str, files: Mapping[str, bytes], *, start: bool = True, proxy: str | None = None
    ) -> dict[str, Any]:
        """Take over a Baileys directory, given as file name to content."""
        body = _new_session(session_id, files, start=start, proxy=proxy)
        return cast("dict[str, Any]", self.request("POST", "/api/sessions", body=body))

    def create_all(
        self,
        devices: Iterable[tuple[str, Mapping[str, bytes]]],
        *,
        start: bool = True,
        proxy: str | None = None,
        limit_bytes: int = IMPORT_LIMIT,
    ) -> Iterator[Imported]:
        """Take over many Baileys directories, each an id and its files: what became of each, in their order.

        A request for each batch of up to `IMPORT_DEVICES` or `IMPORT_BYTES`; none is larger than
        `limit_bytes`. A device that is refused, or too large by itself, costs only itself. Read lazily.
        """
        batch: list[tuple[str, bytes]] = []
        size = 0
        for session_id, files in devices:
            upload = _encoded(_new_session(session_id, files, start=start, proxy=proxy))
            if batch and (
                len(batch) >= IMPORT_DEVICES or size + len(upload) > min(limit_bytes, IMPORT_BYTES)
            ):
                yield from self._create_batch(batch, limit_bytes)
                batch, size = [], 0
            batch.append((session_id, upload))
            size += len(upload) + 1
        if batch:
            yield from self._create_batch(batch, limit_bytes)

    def _create_batch(self, batch: list[tuple[str, bytes]], limit_bytes: int) -> Iterator[Imported]:
        body = b'{"sessions":[' + b",".join(upload for _, upload in batch) + b"]}"
        try:
            if len(body) > limit_bytes:
                raise AdminError(
                    413, "body_too_large", f"{len(body)} bytes are more than {limit_bytes}", _RAISE_LIMIT
                )
            status, raw, _ = self._exchange("POST", "/api/sessions/batch", body)
            yield from self._decode(status, raw)["outcomes"]
        except AdminError as error:
            if error.status != 413:
                raise
            if len(batch) > 1:  # the runner's limit is not the one that we were told
                half = len(batch) // 2
                yield from self._create_batch(batch[:half], limit_bytes)
                yield from self._create_batch(batch[half:], limit_bytes)
                return
            yield {
                "id": batch[0][0],
                "error": error.error,
                "message": f"{batch[0][0]}: {error.message}",
                "remedy": _RAISE_LIMIT,
            }

    def health(self) -> dict[str, Any]:
        """Live, ready and every check; a runner that is not ready is an answer and no error."""
        status, raw, _ = self._exchange("GET", "/health", None)
        return cast("dict[str, Any]", self._decode(status, raw, accept=(200, 503)))

    def system(self) -> dict[str, Any]:
        """System metrics, build and settings in force."""
        return cast("dict[str, Any]", self.get("/api/system"))

    def prometheus(self) -> str:
        """The text of `GET /metrics`."""
        status, raw, _ = self._exchange("GET", "/metrics", None)
        if status != 200:
            self._decode(status, raw)
        return raw.decode()

    def events(self, sessions: Iterable[str] = (), names: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
        """What happens from now on, as envelopes, until the runner stops; of these sessions and names only.

        Messages that nobody listened to are not given here; handlers and webhooks get all of them.
        """
        query = {"session": ",".join(sessions) or None, "events": ",".join(names) or None}
        yield from self._stream("/api/events", query)

    def logs(
        self, tail: int = 100, *, follow: bool = False, session_id: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The last log lines; with `follow`, further ones as they are written."""
        query = {"tail": tail, "follow": str(follow).lower(), "session": session_id}
        yield from self._stream("/api/logs", query)

    def _stream(self, path: str, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """One JSON object a line, over a connection of its own."""
        link = _UnixConnection(self._path, self._timeout_s)
        try:
            answer = self._send(link, "GET", _with_query(path, query), None)
            if answer.status != 200:
                self._decode(answer.status, answer.read())
            if link.sock is not None:
                link.sock.settimeout(None)  # silence is not an error here
            while line := answer.readline():
                yield json.loads(line)
        finally:
            link.close()

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        """One GET; the decoded JSON."""
        return self.request("GET", path, query)

    def post(self, path: str, query: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        """One POST without a body; the decoded JSON."""
        return self.request("POST", path, query)

    def request(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> Any:  # noqa: ANN401 - JSON
        """One call; the decoded JSON of a success."""
        payload = None if body is None else _encoded(body)
        status, raw, _ = self._exchange(method, _with_query(path, query or {}), payload)
        return self._decode(status, raw)

    def _exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes, str]:
        answer = self._send(self._link, method, target, body)
        raw = answer.read()
        if answer.status == 413:
            self._link.close()  # the runner hung up in the middle of the body
        return answer.status, raw, answer.headers.get("content-type", "")

    def _send(
        self, link: _UnixConnection, method: str, target: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"content-type": "application/json"} if body else {}
        try:
            # A body that is too large is answered, and the connection closed, while it is being sent.
            with contextlib.suppress(BrokenPipeError):
                link.request(method, target, body, headers)
            return link.getresponse()
        except TimeoutError as error:
            link.close()
            raise NotRunningError(self._path, f"no answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            link.close()
            raise NotRunningError(self._path, getattr(error, "strerror", None) or str(error)) from error

    def _decode(self, status: int, raw: bytes, accept: tuple[int, ...] = (200, 201, 202)) -> Any:  # noqa: ANN401
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = {"error": "not_json", "message": f"status {status} without a JSON body"}
        if status in accept:
            return answer
        raise AdminError(
            status,
            str(answer.get("error", "unknown")),
            str(answer.get("message", f"status {status}")),
            str(answer.get("remedy", "")),
            answer.get("reason"),
        )


_RAISE_LIMIT: Final = "raise WHATSAPP_ADMIN_IMPORT_LIMIT of the runner"


def _new_session(
    session_id: str, files: Mapping[str, bytes], *, start: bool, proxy: str | None
) -> dict[str, Any]:
    """The body of `POST /api/sessions`."""
    body: dict[str, Any] = {"files": {}, "binary": {}, "id": session_id, "start": start, "proxy": proxy}
    for name, content in files.items():
        try:
            body["files"][name] = content.decode("utf-8")
        except UnicodeDecodeError:
            body["binary"][name] = base64.b64encode(content).decode("ascii")
    return body


def _encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def _in_path(session_id: str) -> str:
    """Errors: UnknownSessionError for what no session can be called, and what would be another route."""
    if not session_id or "/" in session_id:
        raise UnknownSessionError(session_id)
    return quote(session_id, safe="")


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
