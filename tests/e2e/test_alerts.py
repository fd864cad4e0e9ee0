"""Each injected fault is one alert and one recovery, the same on API, WebSocket, file and webhook."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support import faults
from support.alerts import Listener, Receiver, Told, assert_once_each, file_told, told_of
from support.pair import FAST_PINGS, pair, running, simulated, store_path
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.pair import Pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

N = 12
SECRET = "a-secret-of-the-webhook"
ONE, TWO, THREE = "sim-00001", "sim-00002", "sim-00003"
SETTINGS = FAST_PINGS | {
    # A minute of docs/operating.md is two seconds here.
    "WHATSAPP_ALERT_PATIENCE": "0.03",
    # What the machine of the test does besides is not its subject.
    "WHATSAPP_CPU_THRESHOLD": "1",
    "WHATSAPP_MEMORY_THRESHOLD": "1",
    "WHATSAPP_DISK_THRESHOLD": "1",
    "WHATSAPP_ERROR_RATE_THRESHOLD": "1",
    "WHATSAPP_CLIENT_VERSION": "auto",
    "WHATSAPP_ALERT_WEBHOOK_SECRET": SECRET,
    "WHATSAPP_ALERT_WEBHOOK_ALLOW": "127.0.0.1",
}


@dataclass(frozen=True)
class Watched:
    p: Pair
    receiver: Receiver
    listener: Listener
    log: Path

    def user(self, session_id: str) -> str:
        return self.p.users[session_id]

    def active(self) -> list[dict[str, Any]]:
        status, told = self.p.runner.request("GET", "/api/alerts")
        assert status == 200
        return list(told["active"])

    def wait_firing(self, alert: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            self.p.runner.request("GET", "/performance-metrics?limit=0")  # brings the numbers up to date
            return next((it for it in self.active() if it["alert"] == alert and it["firedAt"]), None)

        return wait_until(there, 15.0, f"{alert} firing, active: {self.active()}")

    def history(self) -> list[Told]:
        status, told = self.p.runner.request("GET", "/api/alerts/history?limit=500")
        assert status == 200
        return [told_of("alert.resolved", it) for it in reversed(told["alerts"])]

    def marks(self) -> tuple[int, int, int, int]:
        return (
            len(self.receiver.told()),
            len(self.listener.told()),
            len(file_told(self.log)),
            len(self.history()),
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One fleet for all faults: starting two processes costs more than most of them."""
    directory = tmp_path_factory.mktemp("alerts")
    with Receiver(SECRET) as receiver:
        with pair(directory, N, SETTINGS | {"WHATSAPP_ALERT_WEBHOOK_URLS": receiver.url}) as p:
            listener = Listener(p.runner.socket)
            yield Watched(p, receiver, listener, directory / "data" / "logs" / "alerts.log")
        listener.close()
        assert not receiver.problems


def assert_one_alert(w: Watched, expected: list[tuple[str, str | None]], inject: Callable[[], None]) -> None:
    """Inject a fault and mend it: exactly these alerts, once on and once off, on every channel."""
    before = w.marks()
    inject()
    wait_until(lambda: not w.active(), 15.0, f"all alerts over, active: {w.active()}")
    ends = len(expected)
    wait_until(lambda: len(w.receiver.told()) >= before[0] + 2 * ends, 5.0, "the webhook told")
    wait_until(lambda: len(file_told(w.log)) >= before[2] + 2 * ends, 5.0, "alerts.log told")
    wait_until(lambda: len(w.listener.told()) >= before[1] + 2 * ends, 5.0, "the WebSocket told")
    assert_once_each(w.receiver.told()[before[0] :], expected, "webhook")
    assert_once_each(w.listener.told()[before[1] :], expected, "WebSocket")
    assert_once_each(file_told(w.log)[before[2] :], expected, "alerts.log")
    assert sorted(w.history()[before[3] :], key=str) == [("alert.resolved", *it) for it in expected]
    w.p.runner.wait_ready(N, 20.0)


@pytest.mark.pain(25)
def test_an_account_that_is_thrown_out_again_and_again(watched: Watched) -> None:
    def inject() -> None:
        w = watched
        w.p.control.post("/login-policy", user=w.user(THREE), mode="close", afterMs=50, count=1000)
        w.p.control.post("/close", user=w.user(THREE))
        w.wait_firing("breaker_open")
        w.p.control.post("/login-policy", user=w.user(THREE), mode="success")
        w.p.runner.request("POST", f"/reset-circuit-breaker/{THREE}")
        w.p.runner.wait_ready(N)
        # Half-open until the connection has been stable for 30 s; a second reset says that it is good.
        w.p.runner.request("POST", f"/reset-circuit-breaker/{THREE}")

    assert_one_alert(watched, [("breaker_open", THREE)], inject)


@pytest.mark.pain(25)
def test_a_ban_an_unlinked_device_and_a_replaced_session_are_one_alert_each(watched: Watched) -> None:
    """Three sessions in three troubles at once: none hides another, none is told twice."""

    def inject() -> None:
        w = watched
        request, control = w.p.runner.request, w.p.control
        banned, unlinked, replaced = ONE, TWO, "sim-00004"
        control.post(
            "/login-policy",
            user=w.user(banned),
            mode="failure",
            reason=402,
            attrs={"expire": "3600"},
            count=1,
        )
        control.post("/login-policy", user=w.user(unlinked), mode="failure", reason=401, count=2)
        control.post("/close", users=[w.user(banned), w.user(unlinked)])
        control.post(
            "/stream-error", user=w.user(replaced), child="conflict", childAttrs={"type": "replaced"}
        )
        wait_until(lambda: w.p.rows()[unlinked]["reason"] == "failure_logged_out", 10.0, "a first refusal")
        # The confirming login comes after a minute; an operator may have it now.
        request("POST", f"/force-reconnection/{unlinked}?override=true")
        w.wait_firing("session_logged_out")
        w.wait_firing("session_parked")
        alert = w.wait_firing("session_penalised")
        assert (alert["class"], alert["severity"], alert["about"]) == ("connectivity", "critical", banned)
        request("POST", f"/reset-circuit-breaker/{banned}?penalty=true")
        request("POST", f"/force-reconnection/{unlinked}?override=true")
        request("POST", f"/force-reconnection/{replaced}?override=true")

    expected: list[tuple[str, str | None]] = [
        ("session_logged_out", TWO),
        ("session_parked", "sim-00004"),
        ("session_penalised", ONE),
    ]
    assert_one_alert(watched, expected, inject)


@pytest.mark.pain(25)
def test_four_at_once_are_one_alert(watched: Watched) -> None:
    def inject() -> None:
        w = watched
        some = w.p.ids()[4:8]
        users = [w.user(it) for it in some]
        w.p.control.post(
            "/login-policy", users=users, mode="failure", reason=402, attrs={"expire": "3600"}, count=4
        )
        w.p.control.post("/close", users=users)
        alert = w.wait_firing("session_penalised")
        assert (alert["about"], alert["value"]) == (None, 4.0)
        for it in some:
            w.p.runner.request("POST", f"/reset-circuit-breaker/{it}?penalty=true")

    assert_one_alert(watched, [("session_penalised", None)], inject)


@pytest.mark.pain(25)
def test_connections_that_fall_silent(watched: Watched) -> None:
    assert_one_alert(
        watched, [("dead_sockets", None)], lambda: faults.zombies(watched.p, 3, "socket", 5.0) and None
    )


@pytest.mark.pain(25)
def test_a_fleet_that_is_dropped(watched: Watched) -> None:
    def inject() -> None:
        watched.p.control.post("/drop-all")
        watched.wait_firing("connection_drops")

    assert_one_alert(watched, [("connection_drops", None)], inject)


@pytest.mark.pain(25)
def test_an_outage_hides_the_drops_that_it_caused(watched: Watched) -> None:
    def inject() -> None:
        w = watched
        w.p.control.post("/refuse", seconds=2.5, mode="unlisten")
        w.p.control.post("/drop-all")
        w.wait_firing("path_outage")
        hidden = [it for it in w.active() if it["suppressedBy"] == "path_outage"]
        assert "connection_drops" in {it["alert"] for it in hidden}

    path = watched.p.simulator.url
    assert_one_alert(watched, [("path_outage", path)], inject)


@pytest.mark.pain(25)
def test_a_client_version_that_is_refused(watched: Watched) -> None:
    assert_one_alert(
        watched,
        [("client_outdated", None)],
        lambda: faults.raised_version(watched.p, 500.0, 1_060_000_000) and None,
    )


@pytest.mark.pain(25)
def test_thresholds_crossed_by_settings_acknowledged_and_mended(tmp_path: Path) -> None:
    """Memory and response time above thresholds that SIGHUP lowers and raises, over a restart in between."""
    low, high = "memory_threshold = 0.001\nresponse_time_threshold = 1\n", "memory_threshold = 1\n"
    settings = {k: v for k, v in SETTINGS.items() if k != "WHATSAPP_MEMORY_THRESHOLD"}
    toml = tmp_path / "data" / "runner.toml"
    with Receiver() as unused, simulated(tmp_path, 4) as simulator:
        toml.write_text(low)
        with running(tmp_path, simulator, 4, settings) as p:
            p.runner.wait_ready(4)
            p.control.post("/delay", all=True, ms=30)
            w = Watched(p, unused, Listener(p.runner.socket), tmp_path / "data/logs/alerts.log")
            memory, slow = w.wait_firing("memory_high"), w.wait_firing("response_time_high")
            assert (memory["class"], memory["threshold"], slow["threshold"]) == ("performance", 0.001, 0.001)
            status, acked = p.runner.request("POST", f"/api/alerts/{memory['id']}/ack", {"by": "ana"})
            assert (status, acked["acknowledgedBy"]) == (200, "ana")
            wait_until(lambda: len(w.listener.told()) == 3, 5.0, "three events")
            wait_until(lambda: "ana" in saved_alerts(tmp_path), 5.0, "the acknowledgement in the store")
            p.runner.kill()
            w.listener.close()
        with running(tmp_path, simulator, 4, settings) as p:
            w = Watched(p, unused, Listener(wait_until_socket(p)), tmp_path / "data/logs/alerts.log")
            p.runner.wait_ready(4)
            again = w.wait_firing("memory_high")
            assert (again["id"], again["acknowledgedBy"]) == (memory["id"], "ana")
            toml.write_text(high)
            p.runner.child.send_signal(signal.SIGHUP)
            wait_until(lambda: not w.active(), 15.0, "both over")
            assert p.runner.stop() == 0
            w.listener.close()
    told = file_told(w.log)
    acknowledged = ("alert.acknowledged", "memory_high", None)
    assert told.count(acknowledged) == 1
    rest = [it for it in told if it != acknowledged]
    assert_once_each(rest, [("memory_high", None), ("response_time_high", None)], "alerts.log")
    performance = [json.loads(line) for line in (w.log.with_name("performance.log")).read_text().splitlines()]
    assert {it["event"] for it in performance} >= {"alert.firing", "alert.resolved"}
    assert sorted(w.listener.told()) == [
        ("alert.resolved", "memory_high", None),
        ("alert.resolved", "response_time_high", None),
    ]


def wait_until_socket(p: Pair) -> Path:
    """The admin socket of a runner that starts."""
    wait_until(p.runner.sessions, 30.0, "the API")
    return p.runner.socket


def saved_alerts(directory: Path) -> str:
    """What the store has of the alerts, read by SQLite itself."""
    with contextlib.closing(sqlite3.connect(store_path(directory))) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'alerts'").fetchone()
    return str(row[0]) if row else ""
