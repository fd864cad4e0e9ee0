"""What schemathesis is taught about this API, in its own process (`SCHEMATHESIS_HOOKS`).

A fuzzer that only knows made-up ids sees nothing but 404. So a call that is otherwise valid is pointed at
something that exists: a session (imported anew after it was deleted or unlinked), an active alert, a silence.
Calls with wrong data go out as they were made, and so do those of stateful tests, which find ids themselves.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import schemathesis

from runner.admin.outgoing import MOST_SECONDS
from runner.sim import SimulatorControl
from support.processes import UnixHTTPConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemathesis import Case, HookContext

SOCKET = Path(os.environ["FUZZ_SOCKET"])
CONTROL = SimulatorControl(os.environ["FUZZ_CONTROL"])
DEVICES = sorted(Path(os.environ["FUZZ_CREDENTIALS"]).iterdir())
KEPT = [it.name for it in DEVICES[: len(DEVICES) // 2]]
"""Sessions that every valid call may be about; the other devices are for imports."""
UNLINKED = "no-phone-yet"
LINKING = ("/pair", "/auth/qr", "/auth/request-code")
ONLINE_S = 5.0
TARGET = "http://127.0.0.1:9/hook"
"""Where nobody listens."""
MOST_WEBHOOKS = 10
"""Each that is left behind tries to deliver every event of all calls that follow."""

_turn = itertools.count()


def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """A call of our own beside the fuzzer's; status and JSON."""
    link = UnixHTTPConnection(SOCKET, 30.0)
    try:
        raw = None if body is None else json.dumps(body)
        link.request(method, path, raw, {"content-type": "application/json"})
        answer = link.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        link.close()


def files_of(device: Path) -> dict[str, str]:
    """A directory of credentials as the API takes it."""
    return {it.name: it.read_text() for it in sorted(device.iterdir())}


def a_session(*, online: bool) -> str:
    """One that exists, and can reach the server again if it was unlinked."""
    place = next(_turn) % len(KEPT)
    session_id, device = KEPT[place], DEVICES[place]
    status, row = ask("GET", f"/api/sessions/{session_id}")
    if status == 200 and row["state"] == "logged_out":
        ask("DELETE", f"/api/sessions/{session_id}")
        status = 404
    if status == 404:
        me = json.loads((device / "creds.json").read_text())["me"]["id"]
        CONTROL.post("/relink", user=me.partition("@")[0].partition(":")[0])
        status, told = ask("POST", "/api/sessions", {"id": session_id, "files": files_of(device)})
        assert status == 201, told
    elif row["reason"] == "exported":
        ask("POST", f"/api/sessions/{session_id}/reconnect?override=true")
    if online:
        ask("POST", f"/api/sessions/{session_id}/start")
        _wait_online(session_id)
    return session_id


def an_unlinked_session() -> str:
    """One that no phone has linked."""
    ask("POST", "/api/sessions", {"id": UNLINKED, "start": False})
    return UNLINKED


def _wait_online(session_id: str) -> None:
    pause, deadline = threading.Event(), time.monotonic() + ONLINE_S
    while time.monotonic() < deadline:
        if ask("GET", f"/api/sessions/{session_id}")[1].get("state") in {"online", "parked", "suspended"}:
            return
        pause.wait(0.02)


def an_alert() -> str | None:
    """One that is active, the oldest: newer ones are left for later calls."""
    active = ask("GET", "/api/alerts")[1]["active"]
    return active[0]["id"] if active else None


def a_silence() -> str:
    """One that is in force, made if there is none."""
    found = ask("GET", "/api/alerts/silences")[1]["silences"]
    if not found:
        found = [ask("POST", "/api/alerts/silences", {"alert": "disk_full"})[1]]
    return str(found[0]["id"])


def a_webhook() -> str:
    """One that is there, made if there is none."""
    found = ask("GET", "/api/webhooks")[1]["webhooks"]
    if not found:
        found = [ask("POST", "/api/webhooks", {"url": TARGET})[1]]
    return str(found[0]["id"])


def thin_out_webhooks() -> None:
    """Leave the newest of them."""
    for it in ask("GET", "/api/webhooks")[1]["webhooks"][:-MOST_WEBHOOKS]:
        ask("DELETE", f"/api/webhooks/{it['id']}")


SPARE = DEVICES[len(DEVICES) // 2 :]
_imported = {device: device.name for device in SPARE}
"""The session that each spare device is, or was."""


def an_import(body: dict[str, Any]) -> dict[str, Any]:
    """The same wish with credentials that can be taken; now and then as it is, which is refused."""
    turn = next(_turn)
    if turn % 4 == 0:
        return body
    device = SPARE[turn % len(SPARE)]
    ask("DELETE", f"/api/sessions/{_imported[device]}")  # one device is one session
    _imported[device] = body["id"]
    return {**body, "files": files_of(device), "binary": {}, "proxy": None}


MADE_POSSIBLE = {
    ("POST", "/api/sessions"),
    ("POST", "/api/sendText"),
    ("POST", "/api/webhooks"),
    ("PUT", "/api/webhooks/{webhook_id}"),
}


def made_possible(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The same body, about things that are there."""
    if path == "/api/sessions":
        return an_import(body)
    if path == "/api/sendText":
        return {**body, "session": a_session(online=True), "chatId": "15559000000@c.us"}
    thin_out_webhooks()
    return {**body, "url": TARGET, "session": None, "headers": {}}


EXISTING: dict[str, Callable[[Case], str | None]] = {
    "session_id": lambda case: (
        an_unlinked_session()
        if case.path.endswith(LINKING)
        else a_session(online=case.path.endswith("/logout"))
    ),
    "alert_id": lambda _case: an_alert(),
    "silence_id": lambda _case: a_silence(),
    "webhook_id": lambda _case: a_webhook(),
}


@schemathesis.hook
def before_load_schema(_context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Answers may hold nothing but what is described, although clients are not to rely on that."""
    close(raw_schema["components"]["schemas"])
    for operation in (it for path in raw_schema["paths"].values() for it in path.values()):
        close(operation["responses"])


def close(schema: object) -> None:
    """Forbid what is not described, in every object below."""
    if isinstance(schema, list):
        for item in schema:
            close(item)
    elif isinstance(schema, dict):
        for item in schema.values():
            close(item)
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)


def is_true(value: object) -> bool:
    """Whether the API takes this for a yes; the last of several counts."""
    if isinstance(value, list):
        return bool(value) and is_true(value[-1])
    return str(value).lower() in {"true", "1", "1.0", "t", "yes", "y", "on"}


def keep_backups_here(case: Case) -> None:
    """No file anywhere on this machine, which we may have the right to write."""
    if case.path != "/api/backup" or not isinstance(case.body, dict):
        return
    file = case.body.get("file")
    if isinstance(file, str) and file.startswith("/"):
        case.body["file"] = str(DEVICES[0].parent.parent / f"backup-{next(_turn)}.db")


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """Point a valid call at something that exists, and end a stream that would not end."""
    if case.path == "/api/logs" and isinstance(case.query, dict) and is_true(case.query.get("follow")):
        case.query["follow"] = "false"
    if case.path == "/api/events" and (case.query is None or isinstance(case.query, dict)):
        query = {"seconds": 0, **(case.query or {})}
        is_time = query["seconds"] is None or str(query["seconds"]).isdigit()
        if is_time and int(query["seconds"] or 0) <= MOST_SECONDS:
            query["seconds"] = 0
        case.query = query
    keep_backups_here(case)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # A body that is assigned is judged anew, and one that is absent then counts as wrong.
    if (case.method, case.path) in MADE_POSSIBLE:
        case.body = made_possible(case.path, case.body)
    if case.meta.phase.name != "stateful":
        for name in case.path_parameters:
            if (existing := EXISTING[name](case)) is not None:
                case.path_parameters[name] = existing
