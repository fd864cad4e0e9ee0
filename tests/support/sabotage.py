"""A runner whose inside can be disturbed from outside: what no setting and no server can do to it.

SIGUSR1 blocks its Python thread, SIGUSR2 sets its wall clock, SIGWINCH turns a bug of the next session on and
off, `GET /api/alerts/definitions` has a bug always, and the descriptors that it was given hold fewer sessions
than there are.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from runner.limits import OWN_FDS
from support.troubles import force, forgive
from support.watch import Fault

if TYPE_CHECKING:
    from support.watch import Watched

BLOCKED_S: Final = 3.0
STEP_S: Final = 5.0
FIT: Final = 5
SETTINGS: Final = {"WHATSAPP_ADMIN_CONNECTIONS": "32"}
_FILES: Final = OWN_FDS + 32 + FIT
CODE: Final = f"""
import resource, runpy, signal, time

resource.setrlimit(resource.RLIMIT_NOFILE, ({_FILES}, {_FILES}))
real, ahead_s, is_buggy, victim = time.time, 0.0, False, None
time.time = lambda: real() + ahead_s

from runner.alerts.loop import Alerts
from runner.supervisor.machine import Machine

def step(*_):
    global ahead_s
    ahead_s += {STEP_S}

def toggle(*_):
    global is_buggy
    is_buggy = not is_buggy

def on_online(self, row, event, now, right=Machine._on_online):
    global victim
    if is_buggy:
        victim = victim or row.session_id
        if row.session_id == victim:
            raise ZeroDivisionError("a bug of one session")
    right(self, row, event, now)

def definitions(self):
    raise ZeroDivisionError("a bug of a request")

Machine._on_online, Alerts.definitions = on_online, definitions
signal.signal(signal.SIGUSR1, lambda *_: time.sleep({BLOCKED_S}))
signal.signal(signal.SIGUSR2, step)
signal.signal(signal.SIGWINCH, toggle)
runpy.run_module("runner", run_name="__main__")
"""


def blocked_thread(w: Watched) -> Fault:
    return Fault("event_loop_lag", lambda: w.p.runner.child.send_signal(signal.SIGUSR1), _it_ends_itself)


def clock_that_is_set(w: Watched) -> Fault:
    return Fault("clock_stepped", lambda: w.p.runner.child.send_signal(signal.SIGUSR2), _it_ends_itself)


def bug_in_a_request(w: Watched) -> Fault:
    def begin() -> None:
        assert w.p.runner.request("GET", "/api/alerts/definitions")[0] == 500

    return Fault("handler_exceptions", begin, _it_ends_itself)


def bug_in_a_session(w: Watched) -> Fault:
    """Its exceptions are counted as those of requests are, and told as one thing."""
    victim = next(it for it, row in w.p.rows().items() if row["state"] == "online")

    def begin() -> None:
        w.p.runner.child.send_signal(signal.SIGWINCH)
        force(w, victim)

    def end() -> None:
        w.p.runner.child.send_signal(signal.SIGWINCH)
        forgive(w, victim)
        force(w, victim)

    return Fault("session_fault", begin, end)


def one_session_too_many(w: Watched) -> Fault:
    """The one for which no descriptor was left at the start; it was stopped, and is started."""
    one = next(it for it, row in w.p.rows().items() if row["state"] == "stopped")
    path = f"/api/sessions/{one}"
    return Fault(
        "fd_limit",
        lambda: w.p.runner.request("POST", f"{path}/start"),
        lambda: w.p.runner.request("POST", f"{path}/stop"),
    )


def stop_the_last(w: Watched) -> None:
    """The runner tells of `fd_limit` when it starts; from then on it is well."""
    w.wait_firing("fd_limit")
    one = next(it for it, row in w.p.rows().items() if row["state"] == "suspended")
    w.p.runner.request("POST", f"/api/sessions/{one}/stop")
    w.wait_over()


def _it_ends_itself() -> None:
    return
