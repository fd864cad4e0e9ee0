"""The admin API over its ASGI application, with a fleet that needs no engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import structlog
import trio

from runner.admin.api import application
from runner.admin.backend import BATCH_SESSIONS
from runner.admin.guard import PEER, Access
from runner.admin.peer import Peer
from runner.admin.tokens import parse
from runner.session import State
from support.fleet import AN_ALERT, FakeAlerts, FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runner.admin.backend import Backend
    from runner.admin.guard import App

ROOT = Path(__file__).parents[2]
OWN_UID = 1000
TOKEN = "a-token-of-the-operator"


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet(
        a_view("desk-1"),
        a_view("desk-2", State.BACKOFF, "pong_deadline"),
        a_view("shop", State.PARKED, "stream_replaced_code"),
    )


@pytest.fixture
def backend(fleet: FakeFleet) -> Backend:
    return a_backend(fleet)


def from_peer(app: App, peer: Peer) -> App:
    async def known(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        scope[PEER] = peer
        await app(scope, receive, send)

    return known


def a_client(backend: Backend, peer: Peer | None = None, access: Access | None = None) -> httpx2.AsyncClient:
    app = application(backend, access or Access(parse(TOKEN), own_uid=OWN_UID))
    transport = httpx2.ASGITransport(from_peer(app, peer or Peer("unix", OWN_UID)))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost:4001")


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[httpx2.AsyncClient]:
    async with a_client(backend) as client:
        yield client


async def test_reconnection_status_shows_every_session(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/reconnection-status")
    assert answer.status_code == 200
    body = answer.json()
    assert [row["id"] for row in body["sessions"]] == ["desk-1", "desk-2", "shop"]
    assert body["sessions"][1]["reason"] == "pong_deadline"
    assert (body["total"], body["matched"], body["next"]) == (3, 3, None)
    assert body["states"] == {"online": 3}


async def test_performance_metrics_has_the_system_and_every_session(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/performance-metrics")).json()
    assert {"totalMemory", "usedMemory", "cpuUsage", "activeConnections", "errorRate"} <= body[
        "system"
    ].keys()
    assert {
        "id",
        "connectionUptime",
        "messagesProcessed",
        "messagesPerMinute",
        "averageResponseTime",
        "errorCount",
        "reconnectCount",
    } <= body["sessions"][0].keys()


@pytest.mark.parametrize(
    ("brief", "alias"),
    [("/performance-metrics", "/api/metrics"), ("/reconnection-status", "/api/reconnections")],
)
async def test_the_aliases_say_the_same(client: httpx2.AsyncClient, brief: str, alias: str) -> None:
    assert (await client.get(brief)).json() == (await client.get(alias)).json()


@pytest.mark.pain(17)
@pytest.mark.parametrize("path", ["/force-reconnection/desk-1", "/api/sessions/desk-1/reconnect"])
async def test_force_reconnection_answers_with_the_new_connection(
    client: httpx2.AsyncClient, fleet: FakeFleet, path: str
) -> None:
    answer = await client.post(path)
    assert (answer.status_code, answer.json()["connection"]) == (202, 2)
    assert fleet.called == [("reconnect", "desk-1", False)]


async def test_a_risky_reconnect_is_refused_with_the_reason(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    answer = await client.post("/force-reconnection/shop")
    assert answer.status_code == 409
    assert answer.json() == {
        "error": "refused",
        "message": "shop ended with stream_replaced_code",
        "reason": "stream_replaced_code",
        "remedy": "add ?override=true",
    }
    assert not fleet.called
    assert (await client.post("/force-reconnection/shop?override=true")).status_code == 202


@pytest.mark.parametrize("path", ["/reset-circuit-breaker/desk-2", "/api/sessions/desk-2/breaker/reset"])
async def test_the_breaker_is_reset_and_the_penalty_only_when_told(
    client: httpx2.AsyncClient, fleet: FakeFleet, path: str
) -> None:
    assert (await client.post(path)).json()["breaker"]["state"] == "closed"
    assert (await client.post(f"{path}?penalty=true")).status_code == 200
    assert fleet.called == [("reset_breaker", "desk-2", False), ("reset_breaker", "desk-2", True)]


@pytest.mark.parametrize(
    ("verb", "state"),
    [("start", "connecting"), ("stop", "stopped"), ("restart", "connecting"), ("logout", "logged_out")],
)
async def test_a_command_answers_with_the_session(client: httpx2.AsyncClient, verb: str, state: str) -> None:
    answer = await client.post(f"/api/sessions/desk-1/{verb}")
    assert (answer.status_code, answer.json()["state"]) == (200, state)


async def test_a_session_is_created_from_uploaded_files(client: httpx2.AsyncClient) -> None:
    body = {"id": "new", "files": {"creds.json": "{}"}, "binary": {"session-1.json": "AAE="}}
    answer = await client.post("/api/sessions", json=body)
    assert (answer.status_code, answer.json()["id"]) == (201, "new")
    assert answer.json()["warnings"] == ["stop the old program first"]
    again = await client.post("/api/sessions", json=body)
    assert (again.status_code, again.json()["reason"]) == (409, "exists")
    twin = await client.post("/api/sessions", json={"id": "y", "files": {"creds.json": "of desk-1"}})
    assert (twin.status_code, twin.json()["reason"]) == (409, "same_device")
    damaged = await client.post("/api/sessions", json={"id": "x", "files": {}})
    assert (damaged.status_code, damaged.json()["reason"]) == (422, "credentials_missing")
    assert damaged.json()["message"] == "x/creds.json: is missing"


async def test_of_a_batch_each_is_told_and_one_that_is_refused_costs_only_itself(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    whole = {"files": {"creds.json": "{}"}}
    wishes = [{"id": "a", **whole}, {"id": "desk-1", **whole}, {"id": "b", "files": {}}, {"id": "c", **whole}]
    answer = await client.post("/api/sessions/batch", json={"sessions": wishes})
    assert answer.status_code == 200
    a, taken, damaged, c = answer.json()["outcomes"]
    assert a == {"id": "a", "imported": True, "warnings": ["stop the old program first"]}
    assert taken == {
        "id": "desk-1",
        "error": "import_refused",
        "reason": "exists",
        "message": "desk-1 is taken",
        "remedy": "choose another --id",
    }
    assert (damaged["id"], damaged["error"], damaged["reason"]) == (
        "b",
        "import_refused",
        "credentials_missing",
    )
    assert (c["id"], c["imported"]) == ("c", True)
    assert {"a", "c"} <= fleet.views.keys()
    assert "b" not in fleet.views


async def test_a_batch_is_bounded_in_number_and_in_bytes(backend: Backend, fleet: FakeFleet) -> None:
    access = Access(parse(TOKEN), own_uid=OWN_UID, import_limit=10_000)
    wishes = [{"id": f"s{number}", "files": {}} for number in range(BATCH_SESSIONS + 1)]
    async with a_client(backend, access=access) as client:
        few = await client.post("/api/sessions/batch", json={"sessions": wishes[:-1]})
        many = await client.post("/api/sessions/batch", json={"sessions": wishes})
        large = await client.post("/api/sessions/batch", content=b"x" * 10_001)
    assert (few.status_code, len(few.json()["outcomes"])) == (200, BATCH_SESSIONS)
    assert (many.status_code, many.json()["error"]) == (422, "body_wrong")
    assert "200" in many.json()["message"]
    assert (large.status_code, large.json()["error"]) == (413, "body_too_large")


async def test_a_batch_needs_the_scope_of_an_import(backend: Backend) -> None:
    access = Access(parse(f"{TOKEN}:operate"), own_uid=OWN_UID)
    async with a_client(backend, Peer("tcp", OWN_UID + 1), access) as client:
        client.headers["x-api-key"] = TOKEN
        assert (await client.post("/api/sessions/batch", json={"sessions": []})).status_code == 403


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"id": 1}', b'{"id": "x", "files": {}, "more": 1}', b'{"id": "\xff"}']
)
async def test_a_wrong_body_is_explained(client: httpx2.AsyncClient, body: bytes) -> None:
    single = await client.post("/api/sessions", content=body)
    batch = await client.post("/api/sessions/batch", content=b'{"sessions": [' + body + b"x]}")
    for answer, path in ((single, "/api/sessions"), (batch, "/api/sessions/batch")):
        assert (answer.status_code, answer.json()["error"]) == (422, "body_wrong")
        assert answer.json()["remedy"] == f"see POST {path} in /openapi.json"


async def test_a_session_is_deleted(client: httpx2.AsyncClient, fleet: FakeFleet) -> None:
    assert (await client.delete("/api/sessions/desk-1")).json() == {"id": "desk-1", "deleted": True}
    assert (await client.get("/api/sessions/desk-1")).status_code == 404
    assert fleet.called == [("remove", "desk-1")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/sessions/none"),
        ("GET", "/api/sessions/none/metrics"),
        ("POST", "/force-reconnection/none"),
        ("POST", "/reset-circuit-breaker/none"),
        ("POST", "/api/sessions/none/start"),
        ("DELETE", "/api/sessions/none"),
    ],
)
async def test_an_unknown_session_is_a_404_with_a_remedy(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_session")
    assert "python -m runner sessions" in answer.json()["remedy"]


async def test_what_is_not_there_or_not_allowed_is_json_too(client: httpx2.AsyncClient) -> None:
    missing, wrong = await client.get("/nope"), await client.delete("/health")
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"], wrong.headers["allow"]) == (
        405,
        "method_not_allowed",
        "GET",
    )


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=-1",
        "limit=",
        "offset=1.5",
        "offset=1000000000",
        "state=sleeping",
        "state=",
        "state=online,",
        "limit=99999999999999999999",
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx2.AsyncClient, query: str) -> None:
    answer = await client.get(f"/api/sessions?{query}")
    assert (answer.status_code, answer.json()["error"]) == (422, "parameter_wrong")
    assert query.split("=")[0] in answer.json()["message"]


@pytest.mark.parametrize(
    "query", ["metric=", "metric=cpu", "since=-1", "until=null", "points=x", "since=1.0"]
)
async def test_a_wrong_parameter_of_the_history_is_named(client: httpx2.AsyncClient, query: str) -> None:
    """Also when no metric is asked for."""
    answer = await client.get(f"/api/metrics/history?{query}")
    assert (answer.status_code, answer.json()["error"]) == (422, "parameter_wrong")
    assert query.split("=")[0] in answer.json()["message"]


async def test_an_empty_id_names_no_session_and_not_all(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/sessions?session=")).json()["sessions"] == []


async def test_the_methods_of_a_path_are_all_named(client: httpx2.AsyncClient) -> None:
    for path, methods in {
        "/api/sessions": "GET, POST",
        "/api/sessions/batch": "POST",
        "/api/sessions/desk-1": "DELETE, GET, PUT",
        "/api/sessions/desk-1/stop": "POST",
        "/api/alerts/silences": "GET, POST",
    }.items():
        answer = await client.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods), path


async def test_a_wrong_flag_is_named(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/force-reconnection/desk-1?override=perhaps")
    assert (answer.status_code, answer.json()["error"]) == (422, "parameter_wrong")
    assert answer.json()["message"].startswith("override:")


async def test_lists_are_paged_and_filtered(client: httpx2.AsyncClient) -> None:
    first = (await client.get("/api/sessions?limit=2")).json()
    assert ([row["id"] for row in first["sessions"]], first["next"], first["matched"]) == (
        ["desk-1", "desk-2"],
        2,
        3,
    )
    second = (await client.get("/api/sessions?limit=2&offset=2")).json()
    assert ([row["id"] for row in second["sessions"]], second["next"]) == (["shop"], None)
    desks = (await client.get("/api/sessions?q=desk&state=backoff,parked")).json()
    assert ([row["id"] for row in desks["sessions"]], desks["matched"], desks["total"]) == (["desk-2"], 1, 3)
    by_reason = (await client.get("/api/sessions?reason=stream_replaced_code")).json()
    assert [row["id"] for row in by_reason["sessions"]] == ["shop"]
    nothing = (await client.get("/api/sessions?limit=0")).json()
    assert (nothing["sessions"], nothing["matched"], nothing["next"]) == ([], 3, None)


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 250])
async def test_a_page_is_valid_json_at_every_chunk_border(rows: int) -> None:
    fleet = FakeFleet(*(a_view(f"s{number:04}") for number in range(rows)))
    async with a_client(a_backend(fleet)) as client:
        for offset in (0, 1, 99, 100, 150):
            body = (await client.get(f"/reconnection-status?offset={offset}&limit=100")).json()
            assert [row["id"] for row in body["sessions"]] == [
                f"s{number:04}" for number in range(offset, min(offset + 100, rows))
            ]


async def test_health_says_ready_by_its_status(fleet: FakeFleet) -> None:
    async with a_client(a_backend(fleet)) as client:
        assert (await client.get("/health")).status_code == 200
    async with a_client(a_backend(fleet, healthy=False)) as client:
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert answer.json()["checks"] == [{"name": "store", "healthy": False, "detail": ""}]
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503


async def test_named_sessions_only_are_shown_when_some_are_named(client: httpx2.AsyncClient) -> None:
    for path in ("/performance-metrics", "/api/sessions", "/reconnection-status"):
        body = (await client.get(f"{path}?session=shop,none&session=desk-1&session=shop")).json()
        assert [row["id"] for row in body["sessions"]] == ["shop", "desk-1"]
        assert (body["matched"], body["next"]) == (2, None)


async def test_the_history_lists_its_names_and_gives_what_is_asked_for(client: httpx2.AsyncClient) -> None:
    names = (await client.get("/api/metrics/history")).json()["metrics"]
    assert {"cpuUsage", "loopLagMs", "sessions.online"} <= {it["name"] for it in names}
    assert all(it["unit"] and it["description"] for it in names)
    answer = await client.get(
        "/api/metrics/history?metric=cpuUsage,openFds&since=1795694594472&until=5&points=7"
    )
    assert answer.json() == {
        "resolutions": [
            {"stepS": 10, "spanS": 3600},
            {"stepS": 60, "spanS": 21600},
            {"stepS": 300, "spanS": 86400},
        ],
        "series": {
            name: {"stepS": 10, "at": [1795694594472, 5], "values": [7, None]}
            for name in ("cpuUsage", "openFds")
        },
    }
    assert (await client.get("/api/metrics/history?metric=cpuUsage")).json()["series"]["cpuUsage"]["at"] == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("metric=nope,cpuUsage", "nope"),
        ("metric=cpuUsage&since=-1", "since"),
        ("metric=cpuUsage&points=x", "points"),
    ],
)
async def test_a_wrong_question_to_the_history_is_explained(
    client: httpx2.AsyncClient, query: str, named: str
) -> None:
    answer = await client.get(f"/api/metrics/history?{query}")
    assert (answer.status_code, answer.json()["error"]) == (422, "parameter_wrong")
    assert named in answer.json()["message"]


async def test_prometheus_text_has_its_type(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == 'runner_sessions{state="online"} 1\nrunner_up 1\n'


async def test_log_lines_are_given_as_json_lines(client: httpx2.AsyncClient, backend: Backend) -> None:
    for number in range(5):
        backend.logs.append(
            json.dumps({"event": f"e{number}", "session": f"s{number}"}, separators=(",", ":")).encode()
        )
    lines = [json.loads(line) for line in (await client.get("/api/logs?tail=2")).text.splitlines()]
    assert [line["event"] for line in lines] == ["e3", "e4"]
    assert (await client.get("/api/logs?session=s1")).text.count("\n") == 1


async def test_a_bug_of_ours_is_a_500_that_tells_nothing(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    fleet.broken = True
    with structlog.testing.capture_logs() as written:
        answer = await client.get("/api/sessions")
    assert [(line["event"], line["path"]) for line in written] == [("admin request failed", "/api/sessions")]
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "bug of ours" not in answer.text
    fleet.broken = False
    assert (await client.get("/api/sessions")).status_code == 200


async def test_a_bug_is_written_down_although_its_caller_leaves_with_the_answer(
    backend: Backend, fleet: FakeFleet
) -> None:
    """The server ends what it does for a caller who is gone: also the way of the error to the log."""
    fleet.broken = True
    app = application(backend, Access(parse(TOKEN), own_uid=OWN_UID))
    answered: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    with structlog.testing.capture_logs() as written, trio.CancelScope() as caller:

        async def send(message: dict[str, Any]) -> None:
            answered.extend([message["status"]] if "status" in message else [])
            if message["type"] == "http.response.body":
                caller.cancel()
            await trio.lowlevel.checkpoint()

        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/api/sessions",
            "raw_path": b"/api/sessions",
            "query_string": b"",
            "headers": [],
            PEER: Peer("unix", OWN_UID),
        }
        await app(scope, receive, send)  # type: ignore[arg-type]
    assert answered == [500]
    assert caller.cancelled_caught
    assert [line["event"] for line in written] == ["admin request failed"]


async def test_a_scope_that_is_missing_is_named(backend: Backend) -> None:
    access = Access(parse("reading-token-xx:read"), own_uid=OWN_UID)
    async with a_client(backend, Peer("tcp"), access) as client:
        client.headers["x-api-key"] = "reading-token-xx"
        assert (await client.get("/api/sessions")).status_code == 200
        answer = await client.post("/force-reconnection/desk-1")
        assert (answer.status_code, answer.json()["error"]) == (403, "scope_missing")


async def test_a_refused_caller_is_told_how_to_come_in(backend: Backend) -> None:
    async with a_client(backend, Peer("tcp", OWN_UID + 1)) as client:
        answer = await client.get("/reconnection-status")
        assert (answer.status_code, answer.json()["error"]) == (401, "token_missing")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "X-Api-Key" in answer.json()["remedy"]
        assert (await client.get("/openapi.json")).status_code == 401


async def test_a_body_beyond_the_limit_is_refused(backend: Backend) -> None:
    access = Access(parse(TOKEN), own_uid=OWN_UID, import_limit=1000)
    async with a_client(backend, access=access) as client:
        small = await client.post("/force-reconnection/desk-1", content=b"x" * 70_000)
        large = await client.post("/api/sessions", content=b"x" * 1001)
        assert [answer.status_code for answer in (small, large)] == [413, 413]


async def test_answers_are_not_cached_or_sniffed(client: httpx2.AsyncClient) -> None:
    for path in ("/health", "/nope", "/reconnection-status"):
        headers = (await client.get(path)).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_the_description_names_every_endpoint_of_the_brief(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {
        "/performance-metrics": ["get"],
        "/reconnection-status": ["get"],
        "/force-reconnection/{session_id}": ["post"],
        "/reset-circuit-breaker/{session_id}": ["post"],
    }.items() <= {path: list(verbs) for path, verbs in paths.items()}.items()


async def test_the_description_on_paper_is_the_one_that_is_served(client: httpx2.AsyncClient) -> None:
    served = (await client.get("/openapi.json")).json()
    on_paper = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert served | {"info": None} == on_paper | {"info": None}
    assert "HTTPValidationError" not in str(served), "errors have one form, and it is ours"


@pytest.mark.parametrize("path", ["/reconnection-status", "/performance-metrics", "/api/sessions"])
async def test_ten_thousand_rows_let_others_have_their_turns(path: str) -> None:
    """The Trio thread decides for every session: a list must not stop it. Turns of another task are counted,
    since wall time on a shared machine proves nothing."""
    fleet = FakeFleet(*(a_view(f"session-{number}") for number in range(10_000)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with a_client(a_backend(fleet)) as client, trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        body = (await client.get(f"{path}?limit=10000")).json()
        nursery.cancel_scope.cancel()
    assert len(body["sessions"]) == 10_000
    assert turns >= 100


async def test_a_session_gets_another_proxy_and_the_answer_hides_the_password(
    client: httpx2.AsyncClient, fleet: FakeFleet
) -> None:
    answer = await client.put("/api/sessions/desk-1", json={"proxy": "socks5://user:hunter2@10.0.0.7:1080"})
    assert (answer.status_code, answer.json()["proxy"]) == (200, "socks5://10.0.0.7:1080")
    assert "hunter2" not in answer.text
    assert fleet.called == [("set_proxy", "desk-1", "socks5://user:hunter2@10.0.0.7:1080")]
    answer = await client.put("/api/sessions/desk-1", json={"proxy": None})
    assert (answer.status_code, answer.json()["proxy"]) == (200, None)
    assert fleet.called[-1] == ("set_proxy", "desk-1", None)


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("ftp://user:hunter2@10.0.0.7:1080", "'ftp://***@10.0.0.7:1080'"),
        ("socks5://user:hunter2@10.0.0.7:99999", "'socks5://***@10.0.0.7:99999'"),
        ("socks5://user:hunter2@10.0.0.7:1080/path", "'socks5://***@10.0.0.7:1080…'"),
        ("user:hunter2@10.0.0.7:1080", "'***@10.0.0.7:1080'"),
        ("10.0.0.7:1080:user:hunter2", "'10.0.0.7:1080…'"),
        ("http://10.0.0.7:3128?password=hunter2", "'http://10.0.0.7:3128…'"),
        ("http://user:hunter2%@10.0.0.7:3128", "'http://***@10.0.0.7:3128'"),
        ("http://:hunter2@10.0.0.7:3128", "'http://***@10.0.0.7:3128'"),
        ("", "''"),
    ],
)
async def test_a_wrong_proxy_is_refused_by_field_and_value_without_the_password(
    client: httpx2.AsyncClient, fleet: FakeFleet, proxy: str, shown: str
) -> None:
    answer = await client.put("/api/sessions/desk-1", json={"proxy": proxy})
    told = answer.json()
    assert (answer.status_code, told["error"]) == (422, "parameter_wrong")
    assert told["message"].startswith(f"proxy {shown} ")
    assert "percent-encoded" in told["remedy"]
    assert "hunter2" not in answer.text
    assert fleet.called == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "proxy"),
        ({"proxy": None, "proxi": "x"}, "proxi"),
        ({"proxy": 7}, "proxy must be"),
        ("not an object", "object"),
    ],
)
async def test_a_change_that_is_not_understood_is_refused_whole(
    client: httpx2.AsyncClient, fleet: FakeFleet, body: object, said: str
) -> None:
    answer = await client.put("/api/sessions/desk-1", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "body_wrong")
    assert said in answer.json()["message"]
    assert fleet.called == []


@pytest.mark.parametrize(
    ("scopes", "status"), [("read", 403), ("send", 403), ("operate", 200), ("admin", 200)]
)
async def test_another_proxy_needs_the_scope_of_an_operator(
    backend: Backend, scopes: str, status: int
) -> None:
    access = Access(parse(f"{TOKEN}:{scopes}"), own_uid=OWN_UID)
    async with a_client(backend, Peer("tcp", OWN_UID + 1), access) as client:
        answer = await client.put(
            "/api/sessions/desk-1", json={"proxy": "http://10.0.0.7:1"}, headers={"x-api-key": TOKEN}
        )
    assert answer.status_code == status


async def test_another_proxy_for_a_session_that_is_not_there_is_404(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/api/sessions/nobody", json={"proxy": None})
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_session")


SECRET = "<failure reason='403' appeal_token='hunter2'/>"


@pytest.mark.parametrize(
    "path", ["/reconnection-status", "/api/reconnections", "/api/sessions", "/api/sessions/a"]
)
@pytest.mark.parametrize(
    ("scopes", "sees"), [("read", False), ("operate", True), ("admin", True), (None, True), ("unix", True)]
)
async def test_the_words_of_the_server_are_for_those_who_may_operate(
    path: str, scopes: str | None, sees: bool
) -> None:
    """`detail` is the raw stanza and may hold an appeal token. None and unix: the runner's own user."""
    fleet = FakeFleet(replace(a_view("a", State.PARKED, "failure_locked"), detail=SECRET))
    has_token = scopes not in (None, "unix")
    access = Access(parse(f"{TOKEN}:{scopes}" if has_token else TOKEN), own_uid=OWN_UID)
    peer = Peer("unix" if scopes == "unix" else "tcp", OWN_UID)
    async with a_client(a_backend(fleet), peer, access) as client:
        answer = await client.get(path, headers={"x-api-key": TOKEN} if has_token else {})
    assert answer.status_code == 200
    shown = answer.json()
    shown = shown["sessions"][0] if "sessions" in shown else shown
    assert shown["detail"] == (SECRET if sees else None)
    assert ("hunter2" in answer.text) == sees


async def test_the_doctor_gives_the_findings_of_tune(client: httpx2.AsyncClient) -> None:
    from runner.config import Settings
    from runner.tune.subject import look

    body = (await client.get("/api/system/doctor?sessions=5000")).json()
    assert body == look(Settings(), 5000, 3).to_json()
    assert (await client.get("/api/system/doctor")).json()["sessions"] == 3
    for wrong in ("0", "-1", "many", "1000001"):
        assert (await client.get(f"/api/system/doctor?sessions={wrong}")).status_code == 422


async def test_alerts_are_shown_acknowledged_resolved_and_silenced(
    client: httpx2.AsyncClient, backend: Backend
) -> None:
    desk = backend.alerts
    assert isinstance(desk, FakeAlerts)
    assert (await client.get("/api/alerts")).json()["active"] == [AN_ALERT]
    assert (await client.get("/api/alerts/definitions")).json() == {"definitions": []}
    assert (await client.get("/api/alerts/silences")).json() == {"silences": []}
    assert (await client.get("/api/alerts/history?limit=7&before=al_0")).status_code == 200
    answer = await client.post("/api/alerts/al_1/ack")
    assert (answer.status_code, answer.json()["acknowledgedBy"]) == (200, "operator")
    answer = await client.post("/api/alerts/al_1/ack", json={"by": "ana", "note": "on it"})
    assert answer.json()["acknowledgedBy"] == "ana"
    assert (await client.post("/api/alerts/al_1/resolve")).status_code == 200
    answer = await client.post("/api/alerts/silences", json={"alert": "*", "about": "shop-*", "minutes": 5})
    assert (answer.status_code, answer.json()) == (201, {"id": "sil_1", "alert": "*"})
    assert (await client.delete("/api/alerts/silences/sil_1")).status_code == 200
    assert desk.called == [
        ("history", 7, "al_0"),
        ("ack", "al_1", "operator", None),
        ("ack", "al_1", "ana", "on it"),
        ("resolve", "al_1"),
        ("silence", "*", "shop-*", 5.0, ""),
        ("unsilence", "sil_1"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/alerts/al_2/ack", None, 404),
        ("POST", "/api/alerts/al_2/resolve", None, 404),
        ("DELETE", "/api/alerts/silences/sil_2", None, 404),
        ("GET", "/api/alerts/history?limit=0", None, 422),
        ("POST", "/api/alerts/al_1/ack", "[", 422),
        ("POST", "/api/alerts/al_1/ack", '{"who":"ana"}', 422),
        ("POST", "/api/alerts/silences", "", 422),
        ("POST", "/api/alerts/silences", '{"alert":"*","minutes":0}', 422),
        ("POST", "/api/alerts/silences", '{"alert":"*","minutes":1e99}', 422),
        ("POST", "/api/alerts/silences", '{"alert":"*","about":7}', 422),
    ],
)
async def test_alerts_refuse_what_is_wrong(
    client: httpx2.AsyncClient, method: str, path: str, body: str | None, status: int
) -> None:
    answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.json().keys() >= {"error", "message"}
