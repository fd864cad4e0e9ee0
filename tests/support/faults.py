"""The faults of the network and of the server, and what must follow; each takes a pair of any size.

Every function injects one fault, asserts what operators were promised and returns its figures.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.pair import Pair

Figures = dict[str, Any]


def most_in_window(times_ms: Sequence[float], window_ms: float) -> int:
    """The most events within any window of that length."""
    ordered = sorted(times_ms)
    most = low = 0
    for high, at in enumerate(ordered):
        while at - ordered[low] >= window_ms:
            low += 1
        most = max(most, high - low + 1)
    return most


def assert_never_doubled(p: Pair) -> None:
    """The simulator has not seen a device log in beside an older connection of its own."""
    stats = p.control.stats()
    assert stats["duplicates"] == 0, "two connections of one device"
    assert stats["protocolErrors"] == 0


def everybody_back(p: Pair, since_ms: float, timeout_s: float) -> float:
    """Wait until all sessions are online again after `since_ms`; seconds until the last login."""
    wanted = set(p.users.values())
    wait_until(
        lambda: {e["user"] for e in p.events("login", since_ms=since_ms)} >= wanted,
        timeout_s,
        f"a login of all {p.n} after the fault",
    )
    p.runner.wait_ready(p.n, timeout_s)
    last: dict[str, float] = {}
    for event in p.events("login", since_ms=since_ms):
        last.setdefault(event["user"], event["t"])
    return (max(last.values()) - since_ms) / 1000


# -- 4: zombies ----------------------------------------------------------------------------------------------


def zombies(p: Pair, n: int, level: str, bar_s: float, spread_s: float = 0.0) -> Figures:
    """N sessions fall silent, one after the other within `spread_s`.

    Each must be noticed within the bar by the unanswered probe, and nobody else may lose a connection.
    Who logged in together pings together: only silences spread over a ping interval show the median.
    """
    victims = dict(zip(p.ids()[:n], [p.users[it] for it in p.ids()[:n]], strict=True))
    before = {row["id"]: row["connection"] for row in p.runner.sessions()}
    seen = len(p.lines("session dropped: reconnect"))
    silent_at: dict[str, float] = {}
    pause = threading.Event()
    for session_id, user in victims.items():
        silent_at[session_id] = p.control.post("/silent", user=user, on=True, level=level)["doneAt"] / 1000
        pause.wait(spread_s / n)
    lines = wait_until(
        lambda: found if len(found := p.lines("session dropped: reconnect")[seen:]) >= n else None,
        bar_s + 5.0,
        f"{n} zombies noticed",
    )
    assert sorted(line["session"] for line in lines) == sorted(victims), "another session was dropped as well"
    assert {line["reason"] for line in lines} == {"pong_deadline"}
    p.runner.wait_ready(p.n, 60.0)
    after = {row["id"]: row["connection"] for row in p.runner.sessions()}
    moved = {who: (before[who], after[who]) for who in after if after[who] != before[who]}
    assert set(moved) == set(victims), moved
    noticed_s = sorted(unix_s(line["ts"]) - silent_at[line["session"]] for line in lines)
    assert noticed_s[-1] <= bar_s
    return {
        "silent": n,
        "level": level,
        "noticed_p50_s": noticed_s[len(noticed_s) // 2],
        "noticed_p99_s": noticed_s[min(n - 1, round(0.99 * n))],
        "noticed_max_s": noticed_s[-1],
        "others_touched": 0,
    }


def unix_s(ts: str) -> float:
    """The time of a log line."""
    from datetime import datetime

    return datetime.fromisoformat(ts).timestamp()


# -- 6: storms -----------------------------------------------------------------------------------------------


def mass_drop(p: Pair, rate: float, burst: int, *, hard: bool = True) -> Figures:
    """Everybody is dropped at once: the dials keep to the limiter, and all come back."""
    cut = p.control.post("/drop-all", hard=hard)["t"]
    back_s = everybody_back(p, cut, p.n / rate + 60.0)
    dials = [e["t"] for e in p.events("connect", since_ms=cut)]
    # The bucket gives `burst` at once and `rate` a second. The runner's own account must keep to that; on the
    # way to the simulator's clock a busy machine may bunch half a second of dials.
    lines = [1000 * unix_s(line["ts"]) for line in p.lines("session reconnecting")]
    asked = most_in_window([at for at in lines if at >= cut - 1], 1000)
    assert asked <= burst + rate + 2, f"{asked} dials asked for in one second"
    peak_1s, peak_5s = most_in_window(dials, 1000), most_in_window(dials, 5000)
    assert peak_1s <= burst + rate * 1.5 + 1, f"{peak_1s} dials arrived in one second"
    assert peak_5s <= burst + rate * 5.5 + 1, f"{peak_5s} dials arrived in five seconds"
    assert_never_doubled(p)
    return {
        "n": p.n,
        "rate": rate,
        "burst": burst,
        "asked_1s": asked,
        "arrived_1s": peak_1s,
        "back_s": back_s,
    }


def outage(p: Pair, seconds: float, mode: str, back_within_s: float) -> Figures:
    """Nobody can connect for a while: one incident, few canaries, and all back soon after its end."""
    opened = len(incidents(p, "path_outage"))
    began = p.now_ms()
    p.control.post("/refuse", seconds=seconds, mode=mode)
    p.control.post("/drop-all")
    back_s = everybody_back(p, began, seconds + back_within_s + 30.0) - seconds
    mine = incidents(p, "path_outage")[opened:]
    assert len(mine) == 1, f"{len(mine)} incidents for one outage"
    assert back_s <= back_within_s, f"all back {back_s:.1f} s after the end of the outage"
    wait_until(lambda: not open_incidents(p), 10.0, "the incident closed")
    assert_never_doubled(p)
    return {"n": p.n, "outage_s": seconds, "mode": mode, "all_back_after_its_end_s": back_s, "incidents": 1}


def incidents(p: Pair, kind: str) -> list[dict[str, Any]]:
    """Incidents of a kind that the log names."""
    return [line for line in p.lines("incident opened") if line["incident"] == kind]


def open_incidents(p: Pair) -> list[dict[str, Any]]:
    """Those that the API shows now."""
    return list(p.runner.request("GET", "/reconnection-status?limit=0")[1]["incidents"])


def flapping(p: Pair, session_id: str, most_logins: int) -> Figures:
    """One account is let in and thrown out again and again: its breaker opens, nobody else notices."""
    user = p.users[session_id]
    began = p.now_ms()
    p.control.post("/login-policy", user=user, mode="close", afterMs=50, count=1000)
    p.control.post("/close", user=user)
    row = p.runner.wait_state(session_id, "suspended", 60.0)
    logins = [e for e in p.events("login", since_ms=began) if e["user"] == user]
    others = [e for e in p.events("login", since_ms=began) if e["user"] != user]
    assert row["breaker"]["state"] == "open", row
    assert row["nextRetryAt"] > began
    assert len(logins) <= most_logins, f"{len(logins)} logins until the breaker opened"
    assert not others
    p.control.post("/login-policy", user=user, mode="success")
    p.runner.request("POST", f"/reset-circuit-breaker/{session_id}")
    p.runner.wait_ready(p.n, 30.0)
    return {"logins_until_open": len(logins), "breaker": row["breaker"]["why"]}


def forces_racing_drops(p: Pair, forces: int) -> Figures:
    """So many forces at once, while the network drops the same sessions: never two connections."""
    dice = random.Random(7)
    targets = [dice.choice(p.ids()) for _ in range(forces)]
    stop = threading.Event()
    drops = 0

    def force(session_id: str) -> float:
        status, answer = p.runner.request("POST", f"/force-reconnection/{session_id}", timeout_s=30.0)
        assert status == 202, answer
        return float(answer["connection"])

    def keep_dropping() -> None:
        nonlocal drops
        while not stop.is_set():
            some = dice.sample(sorted(p.users.values()), max(1, p.n // 4))
            p.control.post("/close", users=some, hard=dice.random() < 0.5)
            drops += 1
            stop.wait(0.05)

    dropper = threading.Thread(target=keep_dropping)
    dropper.start()
    try:
        with ThreadPoolExecutor(forces) as pool:
            assert all(number >= 2 for number in pool.map(force, targets))
    finally:
        stop.set()
        dropper.join()
    for row in p.runner.sessions():  # a breaker that so many drops opened is not the question here
        p.runner.request("POST", f"/reset-circuit-breaker/{row['id']}")
    p.runner.wait_ready(p.n, 60.0)
    assert_never_doubled(p)
    connections = p.control.stats()["connections"]
    return {"n": p.n, "forces": forces, "waves_of_drops": drops, "connections": connections, "doubled": 0}


def raised_version(p: Pair, rate: float, revision: int = 1_050_000_000) -> Figures:
    """The server wants a newer client from all at once: at the most three rejected logins, and all return."""
    outdated = p.control.stats()["outdated"]
    p.control.post("/config", clientRevision=revision, minRevision=revision)
    cut = p.control.post("/drop-all")["t"]
    back_s = everybody_back(p, cut, p.n / rate + 60.0)
    rejected = p.control.stats()["outdated"] - outdated
    assert 1 <= rejected <= 3, f"{rejected} rejected logins"
    assert {s["version"] for s in p.control.sessions()} == {f"2.3000.{revision}"}
    assert_never_doubled(p)
    return {"n": p.n, "rejected_logins": rejected, "all_back_s": back_s}
