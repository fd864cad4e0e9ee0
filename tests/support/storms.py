"""A reconnect storm, and what every surface must say when it is over: exactly what the simulator counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from support import surfaces
from support.messages import SENT_CAPACITY, answered, wait_answered
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.pair import Pair
    from support.surfaces import Sample

REFUSALS = (500, 503, 400, 501)
"""Codes of failures after which the policy soon tries again."""
PATIENCE_S = 120.0


def settings(rate: float, burst: int) -> dict[str, str]:
    """A runner that shows every session everywhere, and whose storms last."""
    return {
        "WHATSAPP_CONNECT_RATE": f"{rate:g}",
        "WHATSAPP_CONNECT_BURST": str(burst),
        "WHATSAPP_RECONNECTION_MAX_DELAY": "500",
        "WHATSAPP_METRICS_SESSIONS": "all",
        "WHATSAPP_METRICS_SESSION_LIMIT": "100000",
        "WHATSAPP_EVENT_QUEUE": "100000",
    }


def storm(p: Pair, waves: int) -> None:
    """Everybody is dropped `waves` times; a tenth is refused first, and for a third messages wait.

    Each wave is over when all are back and have answered: what was in flight at a drop, nobody could count.
    """
    users = sorted(p.users.values())
    p.control.post("/config", sentCapacity=SENT_CAPACITY)
    for wave in range(waves):
        refused = users[wave % 10 :: 10]
        for user in refused:  # one by one: the count of a rule is for all of its users together
            p.control.post(
                "/login-policy", user=user, mode="failure", reason=REFUSALS[wave % len(REFUSALS)], count=1
            )
        logins = p.control.stats()["logins"]
        p.control.post("/drop-all", hard=wave % 2 == 0)
        p.control.post("/push", users=users[wave % 3 :: 3], n=1, template="message", offline=True)
        p.control.wait_stats(PATIENCE_S, logins=logins + p.n)
        p.runner.wait_ready(p.n, PATIENCE_S)
        wait_answered(p.control)


def ragged(p: Pair, drops: int, meanwhile: Callable[[], None]) -> None:
    """Everybody who is there is dropped again while the others are on their way back."""
    for drop in range(drops):
        logins = p.control.stats()["logins"]
        p.control.post("/drop-all", hard=drop % 2 == 0)
        meanwhile()
        p.control.wait_stats(PATIENCE_S, logins=logins + p.n // 3)
    p.runner.wait_ready(p.n, PATIENCE_S)


def agree_at_rest(p: Pair) -> dict[str, Any]:
    """All are online and nothing is on its way: every surface says what the simulator counted, exactly."""
    rest = settled(p)
    by_id = {it["id"]: it for it in rest["sessions"]}
    text = surfaces.asked(p.runner.socket, "/metrics")[0].decode()
    stats, devices = p.control.stats(), {it["user"]: it for it in p.control.get("/devices")}
    acks = Counter(user for user, _ in answered(p.control))
    shown = per_session(text)
    views = p.rows()
    for session_id, user in p.users.items():
        metrics, view = by_id[session_id], views[session_id]
        assert (metrics["state"], metrics["connection"]) == (view["state"], view["connection"])
        assert view["state"] == "online"
        assert devices[user]["online"]
        told = (metrics["reconnectCount"], metrics["messagesProcessed"], metrics["errorCount"])
        assert shown[session_id] == told, (session_id, shown[session_id], told)
        # Every end was unwanted: each is one error, and one more connection.
        wanted = (devices[user]["logins"] - 1, acks[user], view["connection"] - 1)
        assert told == wanted, f"{session_id}: {told} reconnects, messages, errors; the simulator: {wanted}"
    totals = {name: value for name, labels, value in surfaces.series(text) if not labels}
    closes = {
        labels["reason"]: value for name, labels, value in surfaces.series(text) if name == "closes_total"
    }
    engine, system = rest["engine"], rest["system"]
    assert rest["states"].get("online") == stats["online"] == system["activeConnections"] == p.n
    assert engine["dials"] == totals["engine_dials_total"] == stats["connections"]
    assert sum(it["connection"] for it in views.values()) == stats["connections"]
    assert sum(closes.values()) == stats["connections"] - p.n
    refusals = sum(value for reason, value in closes.items() if reason.startswith("failure_"))
    assert refusals == stats["loginFailures"]
    assert totals["reconnects_total"] == stats["logins"] - p.n
    assert totals["messages_received_total"] == stats["ackByClass"].get("message", 0)
    assert stats["duplicates"] == stats["unexpectedAnswers"] == stats["protocolErrors"] == 0
    return {
        "sessions": p.n,
        "connections": stats["connections"],
        "reconnects": int(totals["reconnects_total"]),
        "refusals": int(refusals),
        "messages": int(totals["messages_received_total"]),
    }


def settled(p: Pair) -> dict[str, Any]:
    """`/performance-metrics`, with a reading of the counters that is younger than this call."""
    began = p.runner.request("GET", "/performance-metrics?limit=0")[1]["engine"]["readings"]

    def anew() -> dict[str, Any] | None:
        _status, told = p.runner.request("GET", "/performance-metrics?limit=100000", timeout_s=30.0)
        return dict(told) if told["engine"]["readings"] > began else None

    return wait_until(anew, 10.0, "another reading") or {}


def per_session(text: str) -> dict[str, tuple[int, int, int]]:
    """Reconnects, messages and errors of each session in the text of `/metrics`."""
    found: dict[str, Counter[str]] = {}
    for name, labels, value in surfaces.series(text):
        if "session" in labels:
            found.setdefault(labels["session"], Counter())[name] += int(value)
    return {
        session: (
            it["session_reconnects_total"],
            it["session_messages_total"],
            it["session_errors_total"],
        )
        for session, it in found.items()
    }


def pings_agree(p: Pair) -> dict[str, Any]:
    """Everybody is stopped, so nothing is counted any more: the simulator has had the pings that were sent,
    but for those that a reset swallowed, and these were not answered."""
    for session_id in p.ids():
        assert p.runner.request("POST", f"/api/sessions/{session_id}/stop")[0] == 200
    wait_until(lambda: p.control.stats()["open"] == 0, PATIENCE_S, "all closed")
    engine, stats = settled(p)["engine"], p.control.stats()
    sample: Sample = surfaces.prometheus(p.runner.socket)
    assert sample.read["pings_sent"] == engine["pingsSent"]
    assert sample.read["pongs_received"] == engine["pongsReceived"]
    assert engine["pongsReceived"] <= stats["pings"] <= engine["pingsSent"]
    return {"sent": engine["pingsSent"], "seen": stats["pings"], "answered": engine["pongsReceived"]}
