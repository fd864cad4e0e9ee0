"""A restart in place while callers, and others who would like to be the runner, never let up: of any size."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.processes import UnixHTTPConnection, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.pair import Pair
    from support.processes import RunnerProcess


class Onlookers:
    """Polls the admin socket, and tries for the runner's locks, as fast as it can, on threads of its own."""

    def __init__(self, socket_path: Path, data_dir: Path) -> None:
        self.answers = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self.got_hold_of: list[str] = []
        self._socket = socket_path
        self._locks = (socket_path.with_name(f"{socket_path.name}.lock"), data_dir / "runner.lock")
        self._over = threading.Event()

    def poll(self) -> None:
        """A new connection for each call, so that each has to be accepted by somebody."""
        while not self._over.is_set():
            began = time.monotonic()
            link = UnixHTTPConnection(self._socket, 60.0)
            try:
                link.request("GET", "/health/live")
                if link.getresponse().status == 200:
                    self.answers += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)
            except OSError as error:
                self.failures.append(repr(error))
            finally:
                link.close()
            self._over.wait(0.002)

    def grab(self) -> None:
        """Somebody who would take the runner's place the moment that it is free."""
        while not self._over.is_set():
            for path in self._locks:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.got_hold_of.append(str(path))
                except BlockingIOError:
                    pass
                finally:
                    os.close(descriptor)
            self._over.wait(0.0005)

    def end(self) -> None:
        """Stop."""
        self._over.set()


@contextmanager
def watched(runner: RunnerProcess) -> Iterator[Onlookers]:
    """Onlookers around a block; afterwards none of them may have been let down."""
    from pathlib import Path

    onlookers = Onlookers(runner.socket, Path(runner.env["WHATSAPP_DATA_DIR"]))
    threads = [threading.Thread(target=task) for task in (onlookers.poll, onlookers.grab)]
    for thread in threads:
        thread.start()
    try:
        yield onlookers
    finally:
        onlookers.end()
        for thread in threads:
            thread.join()
    assert not onlookers.failures, onlookers.failures[:3]
    assert not onlookers.got_hold_of
    assert onlookers.answers


def process_of(runner: RunnerProcess) -> dict[str, Any]:
    """What `/health` says about the process."""
    _status, health = runner.request("GET", "/health", timeout_s=60.0)
    return dict(health["process"])


def request_restart(runner: RunnerProcess) -> None:
    """Ask for it, and wait until the next process answers."""
    before = process_of(runner)["restarts"]
    status, said = runner.request("POST", "/api/restart", timeout_s=75.0)
    assert status == 202, said
    wait_restarted(runner, before)


def wait_restarted(runner: RunnerProcess, before: int, timeout_s: float = 60.0) -> None:
    """Until a process after restart number `before` answers. An accepted connection may end with the old
    one."""

    def is_new() -> bool:
        try:
            return int(process_of(runner)["restarts"]) > before
        except OSError:
            return False

    wait_until(is_new, timeout_s, "the next process")


def gaps(p: Pair, begin: Callable[[], None], online_within_s: float = 120.0) -> dict[str, Any]:
    """Each session's time offline around a restart, by the simulator's clock, from its close to its next
    login."""
    before = p.control.stats()
    since, logins = before["now"], before["logins"]
    began = time.monotonic()
    begin()
    answered_s = time.monotonic() - began
    p.control.wait_stats(logins=logins + p.n, timeout_s=online_within_s)
    p.runner.wait_ready(p.n, online_within_s)
    closed = {event["user"]: event["t"] for event in p.events("close", since_ms=since)}
    back = {event["user"]: event["t"] for event in p.events("login", since_ms=since)}
    offline = sorted(back[user] - closed[user] for user in p.users.values())
    first_close, last_login = min(closed.values()), max(back.values())
    stats = p.control.stats()
    assert stats["duplicates"] == 0, "two connections of one device"
    return {
        "offline_ms": offline,
        "whole_ms": last_login - first_close,
        "first_close_to_first_login_ms": min(back.values()) - first_close,
        "answered_ms": 1000 * answered_s,
        "handshakes_ik": stats["handshakesIk"] - before["handshakesIk"],
        "tls_resumed": stats["tlsResumed"] - before["tlsResumed"],
    }
