"""What the simulator can do to sessions and to a fleet, and what each must be told as."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import faults
from support.crashes import Refusing
from support.processes import wait_until
from support.watch import INDIFFERENT, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.watch import Watched

SETTINGS = INDIFFERENT | {
    "WHATSAPP_CLIENT_VERSION": "auto",
    "WHATSAPP_IK": "off",  # as with the real host: a resumed handshake shows no certificates
    # A breaker opens, and retries are used up, before a session has been away for two minutes.
    "WHATSAPP_CIRCUIT_BREAKER_THRESHOLD": "2",
    "WHATSAPP_RECONNECTION_MAX_RETRIES": "3",
}
"""With these each of the faults below has one name only."""

# -- one session ---------------------------------------------------------------------------------------------


def force(w: Watched, session_id: str) -> None:
    """A new connection, whatever holds it."""
    w.p.runner.request("POST", f"/force-reconnection/{session_id}?override=true")


def forgive(w: Watched, *session_ids: str) -> None:
    """No breaker and no penalty is left of it."""
    for session_id in session_ids:
        w.p.runner.request("POST", f"/reset-circuit-breaker/{session_id}?penalty=true")


def mend(w: Watched, session_id: str) -> None:
    """Whatever the server did to it is over, and an operator brings it back."""
    user = w.user(session_id)
    w.p.control.post("/login-policy", user=user, mode="success")
    w.p.control.post("/relink", user=user)
    forgive(w, session_id)
    force(w, session_id)
    w.p.runner.wait_state(session_id, "online", 20.0 * w.slowness)
    # Half-open until the connection has been stable for 30 s; a second reset says that it is good.
    forgive(w, session_id)


def _login(w: Watched, session_id: str, **rule: object) -> None:
    """The next logins of this session go as the rule says, and it has to log in."""
    w.p.control.post("/login-policy", {"count": 1000, **rule}, user=w.user(session_id))
    w.p.control.post("/close", user=w.user(session_id))


def thrown_out_after_each_login(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="close", afterMs=50)


def refused_for_no_reason(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="failure", reason=500)


def server_too_busy_for_it(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="failure", reason=503)


def banned_for_an_hour(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="failure", reason=402, attrs={"expire": "3600"}, count=1)


def too_fast_for_the_server(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="failure", reason=429, count=3)


def locked(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="failure", reason=403, count=1)


def left_waiting_for_its_login(w: Watched, session_id: str) -> None:
    _login(w, session_id, mode="ignore")


def replaced_by_another_client(w: Watched, session_id: str) -> None:
    w.p.control.post(
        "/stream-error", user=w.user(session_id), child="conflict", childAttrs={"type": "replaced"}
    )


def unlinked_by_its_phone(w: Watched, session_id: str) -> None:
    w.p.control.post("/unlink", user=w.user(session_id))
    wait_until(lambda: w.p.rows()[session_id]["reason"] == "stream_device_removed", 20.0, "the first word")
    force(w, session_id)  # the confirming login comes after a minute; an operator may have it now


OF_ONE_SESSION: dict[Callable[[Watched, str], None], str] = {
    thrown_out_after_each_login: "breaker_open",
    refused_for_no_reason: "breaker_open",
    server_too_busy_for_it: "reconnect_loop",
    banned_for_an_hour: "session_penalised",
    too_fast_for_the_server: "session_penalised",
    locked: "session_parked",
    replaced_by_another_client: "session_parked",
    left_waiting_for_its_login: "session_offline",
    unlinked_by_its_phone: "session_logged_out",
}


def of_one_session(w: Watched) -> list[Fault]:
    """Each of them, and each for another session: none hides another. (The simulator forgets the rules for
    the logins of all together.)"""

    def fault(begin: Callable[[Watched, str], None], alert: str, session_id: str) -> Fault:
        return Fault(alert, lambda: begin(w, session_id), lambda: mend(w, session_id), session_id)

    ids = w.p.ids()
    return [fault(begin, alert, ids[it]) for it, (begin, alert) in enumerate(OF_ONE_SESSION.items())]


# -- what nobody needs to hear of ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Nothing:
    """An order to the control port that must not lead to an alert."""

    route: str
    order: dict[str, object]
    ends_it: bool = True
    """The session's connection does not survive it: it comes back on the next."""


MALFORMED = ["token", "truncated", "deep", "zlib", "zip-bomb", "empty", "text"]
NOT_A_STREAM = ["undecryptable", "frame-too-long", "opcode", "masked"]
NOTHING_TO_TELL = [
    Nothing("/close", {}),
    Nothing("/close", {"code": 1011}),
    Nothing("/close", {"hard": True}),
    Nothing("/close", {"fin": True}),
    Nothing("/stream-end", {}),
    Nothing("/stream-error", {"code": 500}),
    Nothing("/stream-error", {"code": 503}),
    Nothing("/stream-error", {"code": 515}),
    Nothing("/stream-error", {"child": "xml-not-well-formed"}),
    Nothing("/stream-error", {"child": "ack"}),
    Nothing("/stream-error", {"code": 599}),
    Nothing("/silent", {"on": True, "level": "app"}),
    Nothing("/silent", {"on": True, "level": "socket"}),
    *(Nothing("/malformed", {"kind": kind}) for kind in NOT_A_STREAM),
    *(Nothing("/malformed", {"kind": kind}, ends_it=False) for kind in MALFORMED),
    Nothing("/delay", {"ms": 100}, ends_it=False),
    Nothing("/shape", {"splitBytes": 7, "zlib": True}, ends_it=False),
    *(
        Nothing("/push", {"template": template, "n": 20}, ends_it=False)
        for template in ["receipt", "notification", "message", "ciphertext", "call", "ping", "ib"]
    ),
]


def do_nothing_to_tell(w: Watched, it: Nothing, session_id: str) -> None:
    """Injects it, and waits until the session is well, on a new connection if the old one is gone."""
    user, before = w.user(session_id), w.p.rows()[session_id]["connection"]
    w.p.control.post(it.route, it.order, user=user)
    if it.ends_it:
        wait_until(lambda: _is_online(w, session_id, before + 1), 20.0 * w.slowness, f"{it} is over")
    else:
        w.p.control.post("/push", user=user, template="message")
        wait_until(lambda: _owed(w, user) == 0, 20.0, f"{it} is answered")
        assert _is_online(w, session_id, before), f"{it} cost a connection"


def _owed(w: Watched, user: str) -> int:
    return sum(it["owed"] for it in w.p.control.sessions() if it["user"] == user)


def _is_online(w: Watched, session_id: str, connection: int) -> bool:
    row = w.p.rows()[session_id]
    return (row["state"], row["connection"]) == ("online", connection)


# -- the fleet -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A fault of the fleet, from its beginning until it is mended; `about` is the alert's."""

    name: str
    alert: str
    happen: Callable[[Watched], None]
    about: Callable[[Watched], str | None] = lambda _w: None


def all_are_dropped(w: Watched) -> None:
    w.p.control.post("/drop-all")
    w.wait_firing("connection_drops")


def all_streams_end(w: Watched) -> None:
    w.p.control.post("/stream-error", all=True, code=503)
    w.wait_firing("connection_drops")


def three_fall_silent(w: Watched) -> None:
    faults.zombies(w.p, 3, "socket", 5.0 * w.slowness)


def refused(mode: str) -> Callable[[Watched], None]:
    """Nobody can connect, and nobody is connected: the drops are explained, before or after."""

    def happen(w: Watched) -> None:
        w.p.control.post("/refuse", seconds=60.0, mode=mode)
        w.p.control.post("/drop-all")
        w.wait_firing("path_outage", w.p.simulator.url, 30.0)
        w.p.control.post("/refuse", seconds=0.0, mode=mode)

    return happen


def certificate_expires(w: Watched) -> None:
    w.p.control.post("/config", chain="expired")
    w.p.control.post("/drop-all")
    w.wait_firing("path_outage", w.p.simulator.url)
    w.p.control.post("/config", chain=None)


def certificate_is_refused_to_one(w: Watched) -> None:
    session_id = _one(w)
    w.p.control.post("/config", chain="bad-root-signature")
    w.p.control.post("/close", user=w.user(session_id))
    w.wait_firing("certificate_trouble", session_id)
    w.p.control.post("/config", chain=None)
    force(w, session_id)


def client_is_too_old(w: Watched) -> None:
    faults.raised_version(w.p, 500.0, 1_060_000_000)


def many_are_unlinked(w: Watched) -> None:
    """No login risks a number; when the operator has linked them again, nobody is left to ask."""
    some = w.p.ids()[30:40]
    users = [w.user(it) for it in some]
    w.p.control.post("/unlink", users=users)
    w.wait_firing("fleet_logout")
    w.p.control.post("/relink", users=users)
    for session_id in some:
        force(w, session_id)
    w.p.runner.wait_ready(w.p.n, 30.0 * w.slowness)
    forgive(w, *some)


def four_are_banned(w: Watched) -> None:
    some = w.p.ids()[40:44]
    users = [w.user(it) for it in some]
    w.p.control.post(
        "/login-policy", users=users, mode="failure", reason=402, attrs={"expire": "3600"}, count=4
    )
    w.p.control.post("/close", users=users)
    alert = w.wait_firing("session_penalised")
    assert alert["value"] == 4.0
    forgive(w, *some)


def deaf(ids: slice, alert: str) -> Callable[[Watched], None]:
    """Their pings are answered, and what they ask after a login is not: a new connection does not help."""

    def happen(w: Watched) -> None:
        some = w.p.ids()[ids]
        w.p.control.post("/shape", all=True, mute=["encrypt"], next=True)
        for session_id in some:
            force(w, session_id)
        w.wait_firing(alert, some[0] if len(some) == 1 else None)
        w.p.control.post("/shape", all=True, mute=[], next=True)
        for session_id in some:
            force(w, session_id)

    return happen


def store_refuses(w: Watched) -> None:
    fault = Refusing(w.alerts_log.parents[2])
    fault.begin()
    w.p.control.post("/push", all=True, template="message")
    w.wait_firing("store_stalled")
    fault.end()
    wait_until(lambda: sum(it["owed"] for it in w.p.control.sessions()) == 0, 20.0, "all answered")


def process_is_stopped(w: Watched) -> None:
    """As by a hypervisor: its own clocks stand still, and the server's do not."""
    w.p.runner.child.send_signal(signal.SIGSTOP)
    threading.Event().wait(4.0)
    w.p.runner.child.send_signal(signal.SIGCONT)
    w.wait_firing("engine_lag")


def _path(w: Watched) -> str | None:
    return w.p.simulator.url


def _one(w: Watched) -> str | None:
    return w.p.ids()[20]


PASSING = (
    Trouble("dropped", "connection_drops", all_are_dropped),
    Trouble("silent connections", "dead_sockets", three_fall_silent),
    Trouble("streams ended by an error", "connection_drops", all_streams_end),
)
"""These are over by themselves, and hidden while something that was there before explains them."""
LASTING = (
    Trouble("unlinked together", "fleet_logout", many_are_unlinked),
    Trouble("nobody listens", "path_outage", refused("unlisten"), _path),
    Trouble("reset at accept", "path_outage", refused("reset"), _path),
    Trouble("HTTP 503", "path_outage", refused("503"), _path),
    Trouble("certificate expired", "path_outage", certificate_expires, _path),
    Trouble("one refused certificate", "certificate_trouble", certificate_is_refused_to_one, _one),
    Trouble("four banned", "session_penalised", four_are_banned),
    Trouble("one deaf", "session_deaf", deaf(slice(20, 21), "session_deaf"), _one),
    Trouble("a tenth deaf", "deaf_fleet", deaf(slice(44, 50), "deaf_fleet")),
    Trouble("store refuses", "store_stalled", store_refuses),
    Trouble("client too old", "client_outdated", client_is_too_old),
)
TAKES_LONG = (
    # Some dials have to time out: while they hang, an impatient runner tells their sessions.
    Trouble("dials hang", "path_outage", refused("hang"), _path),
    # The engine's lag is that of the last minute.
    Trouble("stopped for seconds", "engine_lag", process_is_stopped),
)
