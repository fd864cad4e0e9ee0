"""Another user of this machine, without the token: refused everything, by every way that leads in."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from support.pair import Pair, pair
from support.processes import ROOT, wait_until
from support.stranger import Call, ask, request, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(90),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

TOKEN = "a-token-of-the-operator"
DESCRIPTION = json.loads((ROOT / "docs" / "openapi.json").read_text())
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "QUERY")
BODIES = {
    "/api/sessions": b'{"id":"intruder","files":{"creds.json":"{}"}}',
    "/api/sessions/batch": b'{"sessions":[{"id":"intruder","files":{"creds.json":"{}"}}]}',
    "/api/sessions/{session_id}": b'{"proxy":"http://127.0.0.1:9"}',
    "/api/alerts/silences": b'{"alert":"*"}',
    "/api/alerts/{alert_id}/ack": b'{"by":"intruder"}',
    "/api/webhooks": b'{"url":"http://127.0.0.1:9/intruder"}',
    "/api/webhooks/{webhook_id}": b'{"url":"http://127.0.0.1:9/intruder"}',
    "/api/dead-letters/drop": b'{"all":true}',
    "/api/dead-letters/redrive": b'{"all":true}',
}
FREE = re.compile(r"(?:GET|HEAD) (?:/|/static/[0-9a-f]{16}/[\w./-]+)|POST /log(?:in|out)")
"""All that is answered without a token: the page, its files, the sign-in, and the end of one that is not."""
REFUSED = {400, 401, 403, 404, 429, 505}
"""404 for a file of the dashboard that there is not."""


class Known:
    """A runner with something to see and to spoil, and where it listens."""

    def __init__(self, p: Pair, port: int) -> None:
        self.p = p
        self.port = port
        self.addresses: dict[str, list[object] | str] = {
            "tcp": ["127.0.0.1", port],
            "unix": str(p.runner.socket),
        }
        self.alert_id: str = wait_until(self._alert, 20.0, "an alert")
        _, silence = p.runner.request("POST", "/api/alerts/silences", {"alert": "disk_full"})
        self.silence_id: str = silence["id"]
        _, hook = p.runner.request("POST", "/api/webhooks", {"url": "http://127.0.0.1:9/hook"})
        self.webhook_id: str = hook["id"]

    def _alert(self) -> str | None:
        active = self.p.runner.request("GET", "/api/alerts")[1]["active"]
        return active[0]["id"] if active else None

    def path(self, template: str) -> str:
        """A route with what there is put in."""
        return template.format(
            session_id="sim-00001",
            alert_id=self.alert_id,
            silence_id=self.silence_id,
            webhook_id=self.webhook_id,
        )

    def state(self) -> dict[str, Any]:
        """Everything that a caller can change."""
        read = self.p.runner.request
        kept = ("id", "state", "connection", "since", "breaker", "proxy")
        alerts = read("GET", "/api/alerts")[1]
        process = read("GET", "/health")[1]["process"]
        hooks = read("GET", "/api/webhooks")[1]["webhooks"]
        return {
            "sessions": [{key: row[key] for key in kept} for row in self.p.runner.sessions()],
            "alert": [it["acknowledgedAt"] for it in alerts["active"] if it["id"] == self.alert_id],
            "silences": alerts["silences"],
            "webhooks": [{key: it[key] for key in ("id", "url", "events")} for it in hooks],
            "process": (process["pid"], process["startedAt"]),
            "settings": read("GET", "/api/system")[1]["settings"],
        }

    def marks(self) -> list[bytes]:
        """What no answer to a stranger may hold: ids, the version, anything of the state."""
        ids = [*self.p.ids(), self.alert_id, self.silence_id, self.webhook_id]
        return [it.encode() for it in (*ids, *self.p.users.values(), "connectionUptime", "runner_sessions")]

    def ask(self, calls: list[Call]) -> dict[str, bytes]:
        """What `nobody` gets."""
        return ask(self.addresses, calls)

    def assert_refused(self, calls: list[Call]) -> dict[str, bytes]:
        """Not one call may show or change anything, but what is free."""
        before = self.state()
        answers = self.ask(calls)
        after = self.state()
        assert after == before
        assert len(answers) == len(calls)
        said = {call.name: call.said for call in calls}
        for name, answer in answers.items():
            leaked = [mark for mark in self.marks() if mark in answer and mark not in said[name]]
            assert not leaked, f"{name}: {leaked}"
            if not FREE.fullmatch(name):
                assert status_of(answer) in REFUSED, f"{name}: {answer[:300]!r}"
                assert answer.count(b"HTTP/1.1 2") == 0, name
        return answers


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "WHATSAPP_ADMIN_PORT": str(port),
        "WHATSAPP_ADMIN_TOKEN": TOKEN,
        "WHATSAPP_ALERT_PATIENCE": "0.01",
        "WHATSAPP_MEMORY_THRESHOLD": "0.0001",
        "WHATSAPP_WEBHOOK_ALLOW": "127.0.0.1",
    }
    with pair(tmp_path_factory.mktemp("stranger"), 3, settings) as p:
        yield Known(p, port)


def test_the_stranger_is_refused_for_what_he_is_and_not_for_how_he_asks(known: Known) -> None:
    """The same calls with the token are answered: so what follows refuses the user, and not a mistake."""
    calls = [
        Call(path, "tcp", request(f"GET {path}", f"X-Api-Key: {TOKEN}"))
        for path in ("/api/sessions", "/metrics", "/performance-metrics", "/health", "/openapi.json")
    ]
    answers = known.ask(calls)
    assert [status_of(answer) for answer in answers.values()] == [200] * len(calls)
    assert known.p.ids()[0].encode() in answers["/api/sessions"]
    root = ask(known.addresses, [Call("root", "tcp", request("GET /api/sessions"))], uid=0)
    assert status_of(root["root"]) == 200


def test_every_route_and_every_method_of_it(known: Known) -> None:
    others = ("/ws", "/login", "/logout", "/openapi.json", "/docs", "/redoc", "/favicon.ico", "/nothing")
    paths = [*DESCRIPTION["paths"], *others]
    calls = [
        Call(f"{method} {template}", "tcp", request(f"{method} {known.path(template)}", body=body))
        for template, method in itertools.product(paths, METHODS)
        for body in (BODIES.get(template, b"") if method in {"POST", "PUT"} else b"",)
    ]
    assert len(calls) > 400
    answers = known.assert_refused(calls)
    described = [f"{m.upper()} {path}" for path, ops in DESCRIPTION["paths"].items() for m in ops]
    assert {status_of(answers[name]) for name in described} == {401}, "not even whether it is there"


def test_signing_in_needs_the_token(known: Known) -> None:
    bodies = (
        b"",
        b"{}",
        b'{"token":""}',
        b'{"token":null}',
        b'{"token":["a"]}',
        b'{"token":"guess-guess-guess"}',
    )
    calls = [Call(f"POST /login {it!r}", "tcp", request("POST /login", body=it)) for it in bodies]
    calls.append(
        Call("cross-site", "tcp", request("POST /login", "Origin: http://evil.example", body=bodies[-1]))
    )
    before = known.state()
    answers = known.ask(calls)
    assert known.state() == before
    assert [status_of(it) for it in answers.values()] == [422, 422, 401, 422, 422, 401, 403]
    assert not [it for it in answers.values() if b"set-cookie" in it.lower()]


def test_the_page_and_its_files_and_nothing_else_is_free(known: Known) -> None:
    page = known.ask([Call("GET /", "tcp", request("GET /"))])["GET /"]
    files = sorted(set(re.findall(rb"/static/[^\"' >]+", page)))
    assert len(files) >= 3
    names = [f"{method} {it.decode()}" for it in files for method in ("GET", "HEAD")]
    names += ["GET /", "HEAD /", "POST /logout"]
    answers = known.assert_refused([Call(name, "tcp", request(name)) for name in names])
    assert all(FREE.fullmatch(name) for name in names)
    assert {status_of(answer) for answer in answers.values()} == {200}
    others = ("/static/", "/static/../store.db", "/static/%2e%2e/%2e%2e/front.py", "/static/x/../../api.py")
    refused = known.assert_refused([Call(f"GET {it}", "tcp", request(f"GET {it}")) for it in others])
    assert {status_of(answer) for answer in refused.values()} == {404}


TARGETS = (
    "//api/sessions",
    "///api/sessions",
    "/./api/sessions",
    "/../api/sessions",
    "/static/../api/sessions",
    "/static/%2e%2e/api/sessions",
    "/static/..%2fapi/sessions",
    "/static//../api/sessions",
    "/%2fapi/sessions",
    "/%61pi/sessions",
    "/%2561pi/sessions",
    "/API/sessions",
    "/Api/Sessions",
    "/api/sessions/",
    "/api/sessions//",
    "/api//sessions",
    "/api/sessions;a=b",
    "/api/sessions%00",
    "/api/sessions%0d%0aX-Api-Key:%20x",
    "/api/sessions?",
    "/api/sessions%3f",
    "/api/sessions#",
    "/?/api/sessions",
    "/login/../api/sessions",
    "/\\api\\sessions",
    "\\api\\sessions",
    "/%ff%fe",
    "/api/sessions/%ff",
    "/.",
    "/index.html",
    "http://localhost/api/sessions",
    "http://127.0.0.1:{port}/api/sessions",
    "http://evil.example/api/sessions",
    "https://localhost/",
    "http://localhost",
    "localhost:{port}",
    "127.0.0.1:{port}",
    "*",
    "/x" * 4000,
)


def test_every_way_to_write_a_path(known: Known) -> None:
    calls = []
    for method, target in itertools.product(("GET", "POST", "DELETE", "CONNECT", "OPTIONS"), TARGETS):
        at = target.format(port=known.port)
        calls.append(Call(f"{method} {at}"[:200], "tcp", request(f"{method} {at}")))
        stop = at.replace("/api/sessions", "/api/sessions/sim-00001/stop")
        calls.append(Call(f"{method} {stop}"[:200] + " stop", "tcp", request(f"{method} {stop}")))
    calls = [call for call in calls if not FREE.fullmatch(call.name.split("?")[0])]
    known.assert_refused(calls)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
INNER = b"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\n\r\n"
WORDINGS = {
    "http/0.9": b"GET /api/sessions\r\n",
    "http/1.0": b"GET /api/sessions HTTP/1.0\r\n\r\n",
    "http/1.0 with a host": b"GET /api/sessions HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "http/1.1 without a host": b"GET /api/sessions HTTP/1.1\r\nConnection: close\r\n\r\n",
    "http/1.2": b"GET /api/sessions HTTP/1.2\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "http/2": PREFACE,
    "http/2 and a request": PREFACE + INNER,
    "a request and http/2": request("POST /logout") + PREFACE,
    "h2c": request("GET /api/sessions", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "two hosts": request("GET /api/sessions", "Host: 127.0.0.1"),
    "a line folded": request("GET /api/sessions", "X-Api-Key: a", "\tb"),
    "a blank before the colon": request("GET /api/sessions", f"X-Api-Key : {TOKEN}"),
    "bare newlines": b"GET /api/sessions HTTP/1.1\nHost: localhost\nConnection: close\n\n",
    "two lengths": request("POST /logout", "Content-Length: 0", f"Content-Length: {len(INNER)}") + INNER,
    "a length and chunks": request(
        "POST /logout", f"Content-Length: {len(INNER)}", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n"
    + INNER,
    "one request after another": b"POST /logout HTTP/1.1\r\nHost: localhost\r\n\r\n" + INNER + INNER,
    "one request in another": request("POST /logout", body=INNER),
    "tls": bytes.fromhex("16030100050100000100"),
    "nothing but a newline": b"\r\n\r\n\r\n",
}


def test_every_way_to_speak_http(known: Known) -> None:
    before = known.state()
    answers = known.ask([Call(name, "tcp", said, "end") for name, said in WORDINGS.items()])
    assert known.state() == before
    for name, answer in answers.items():
        assert not [mark for mark in known.marks() if mark in answer], name
        oks = answer.count(b"HTTP/1.1 200")
        assert oks == answer.count(b'{"signedOut":true}') <= 1, f"{name}: {answer[:400]!r}"
    assert answers["one request after another"].count(b"HTTP/1.1 401") == 2


def test_whoever_leaves_at_once_is_not_taken_for_root(known: Known) -> None:
    """The kernel names root as the owner of a socket that nobody has any more."""
    before = known.state()
    said = request("POST /api/sessions/sim-00001/stop")
    known.ask([Call(f"stop {number}", "tcp", said, "leave") for number in range(100)])
    wait_until(lambda: known.p.runner.request("GET", "/health")[0] == 200, 10.0)
    assert known.state() == before


CLAIMS = (
    "X-Forwarded-For: 127.0.0.1",
    "X-Real-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=localhost",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-User: root",
    "X-Remote-User: root",
    "X-Original-URL: /",
    "X-Rewrite-URL: /",
    "X-HTTP-Method-Override: GET",
    "Authorization: Basic cm9vdDo=",
    "Authorization: Bearer",
    "Authorization: Bearer ",
    "Authorization: Bearer null",
    "Authorization: Digest username=root",
    "X-Api-Key:",
    f"X-Api-Key: {TOKEN[:-1]}",
    f"X-Api-Key: {TOKEN}x",
    f"X-Api-Key: {TOKEN.upper()}",
    f"X-Api-Key: {TOKEN}:admin",
    f"Cookie: runner_session_{{port}}={TOKEN}",
    "Cookie: runner_session_{port}=; runner_session=x",
    "Cookie: runner_session_{port}=" + "A" * 43,
    "Origin: http://localhost",
    "Origin: http://localhost:{port}",
    "Origin: null",
    "Origin: file://",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: none",
    "Content-Length: 99999999999999999999",
    "Content-Length: -1",
    "Expect: 100-continue",
)
HOSTS = (
    "localhost:{port}",
    "127.0.0.1:{port}",
    "127.0.0.1",
    "0.0.0.0:{port}",
    "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "2130706433",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost",
    "localhost@evil.example",
    "evil.localhost",
    "localhost:" + "9" * 5000,
    "",
)


def test_whatever_he_claims_to_be(known: Known) -> None:
    claims = [it.format(port=known.port) for it in CLAIMS]
    hosts = [it.format(port=known.port) for it in HOSTS]
    calls = [
        Call(f"{line} {claim}", "tcp", request(line, claim))
        for line in ("GET /api/sessions", "POST /api/sessions/sim-00001/stop", "GET /ws")
        for claim in claims
    ]
    calls += [
        Call(f"{line} {host[:99]}", "tcp", request(line, host=host))
        for line in ("GET /api/sessions", "POST /force-reconnection/sim-00001")
        for host in hosts
    ]
    known.assert_refused(calls)


@pytest.mark.parametrize("origin", ["", "Origin: http://localhost", "Origin: http://evil.example"])
def test_the_websocket(known: Known, origin: str) -> None:
    upgrade = (
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    lines = [*upgrade, *([origin] if origin else [])]
    said = request("GET /ws?events=*", *lines).replace(b"Connection: close", b"Connection: Upgrade")
    (answer,) = known.assert_refused([Call("websocket", "tcp", said)]).values()
    assert status_of(answer) in {401, 403}
    allowed = ask(known.addresses, [Call("root", "tcp", said, "hear")], uid=0) if "evil" not in origin else {}
    assert all(status_of(it) == 101 for it in allowed.values()), "it is the stranger that is refused"


PAGES = {
    "a name that was bound to us": {"host": "evil.example:{port}"},
    "a name below localhost of somebody": {"host": "localhost.evil.example:{port}"},
    "another page": {"origin": "http://evil.example"},
    "another port of this host": {"origin": "http://localhost:1"},
    "a sandboxed frame": {"origin": "null"},
    "a cross-site call without an origin": {"sec-fetch-site": "cross-site"},
    "a call from a sister site": {"sec-fetch-site": "same-site"},
}


def test_a_web_page_in_the_browser_of_the_runners_own_user(known: Known) -> None:
    """He needs no token, so his browser is what a page has to make use of: DNS rebinding, and forgery."""
    calls = []
    for name, headers in PAGES.items():
        host = headers.get("host", f"localhost:{known.port}").format(port=known.port)
        lines = [f"{header}: {value}" for header, value in headers.items() if header != "host"]
        calls += [
            Call(f"{name}: {line}", "tcp", request(line, *lines, host=host))
            for line in ("GET /api/sessions", "POST /api/sessions/sim-00001/stop", "POST /logout", "GET /ws")
        ]
    before = known.state()
    answers = ask(known.addresses, calls, uid=0)
    assert known.state() == before
    assert {name: status_of(answer) for name, answer in answers.items()} == dict.fromkeys(answers, 403)


def test_the_unix_socket_by_its_mode_and_by_the_kernels_word(known: Known) -> None:
    path = known.p.runner.socket
    mode = stat.S_IMODE(path.stat().st_mode)
    with_token = request("GET /api/sessions", f"X-Api-Key: {TOKEN}")
    calls = [Call("without", "unix", request("GET /api/sessions")), Call("with", "unix", with_token)]
    path.parent.chmod(0o755)
    try:
        assert mode == 0o600
        assert set(known.ask(calls).values()) == {b"PermissionError"}
        path.chmod(0o666)
        answers = known.assert_refused(calls)
        assert {status_of(answer) for answer in answers.values()} == {403}
        assert all(b"peer_refused" in answer for answer in answers.values())
    finally:
        path.chmod(mode)
        path.parent.chmod(0o700)


def test_what_the_runner_writes_is_for_its_user_only(known: Known, tmp_path: Path) -> None:
    data = known.p.runner.log.parent / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    found = [path for path in data.rglob("*") if path.is_file()]
    assert {"wa-runner.db"} & {path.name for path in found} or any(it.suffix == ".db" for it in found)
    secret = [it for it in found if it.suffix in {".db", ".token"} or "-wal" in it.name or "-shm" in it.name]
    assert secret
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in secret} == {0}


def test_guessing_holds_up_the_guesser_and_nobody_else(known: Known) -> None:
    calls = [
        Call(f"guess {n}", "tcp", request("GET /health", f"X-Api-Key: guess-{n:012}")) for n in range(20)
    ]
    answers = known.assert_refused(calls)
    assert 429 in {status_of(answer) for answer in answers.values()}
    right = request("GET /health", f"X-Api-Key: {TOKEN}")
    told = known.ask([Call("right", "tcp", right)])["right"]
    assert (status_of(told), b"retry-after: " in told.lower()) == (429, True)
    assert status_of(ask(known.addresses, [Call("x", "tcp", right)], uid=65533)["x"]) == 200
    assert status_of(ask(known.addresses, [Call("x", "tcp", right)], uid=0)["x"]) == 200
