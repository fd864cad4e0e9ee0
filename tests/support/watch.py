"""A runner whose alerts are heard on every channel, and the promise that a fault is told once on each.

A fault is begun and ended by a test; what it must be told as stands beside it. Faults that do not explain one
another may run side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.alerts import (
    Letters,
    Listener,
    Receiver,
    Told,
    assert_once_each,
    file_told,
    kind_of,
    told_of,
)
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.pair import Pair

SECRET = "a-secret-of-the-webhook"
LOOK_S = 0.2
"""Between two looks at the API: many look at the same time."""
LETTERBOX = Path(__file__).with_name("letterbox")
IMPATIENT = {
    # A minute of docs/operating.md is three seconds here: what lasts a minute is seen by two looks at least.
    "WHATSAPP_ALERT_PATIENCE": "0.05",
}
INDIFFERENT = {
    # What the machine of a test does besides, where that is not its subject.
    "WHATSAPP_CPU_THRESHOLD": "1",
    "WHATSAPP_MEMORY_THRESHOLD": "1",
    "WHATSAPP_DISK_THRESHOLD": "1",
    "WHATSAPP_ERROR_RATE_THRESHOLD": "1",
}


@dataclass(frozen=True)
class Post:
    """The two channels that the runner calls: they are there before it is."""

    hook: Receiver
    letters: Letters

    def settings(self) -> dict[str, str]:
        told = {
            "WHATSAPP_ALERT_WEBHOOK_URLS": self.hook.url,
            "WHATSAPP_ALERT_WEBHOOK_SECRET": SECRET,
            "WHATSAPP_ALERT_WEBHOOK_ALLOW": "127.0.0.1",
            "WHATSAPP_ALERT_APPRISE_URLS": self.letters.apprise_url,
        }
        if find_spec("apprise") is None:  # an optional extra
            told["PYTHONPATH"] = os.pathsep.join(filter(None, [str(LETTERBOX), os.environ.get("PYTHONPATH")]))
        return told


@contextmanager
def post() -> Iterator[Post]:
    """Receivers on loopback; every signature must have been right."""
    with Receiver(SECRET) as hook, Letters() as letters:
        yield Post(hook, letters)
        assert hook.problems == []


@dataclass(frozen=True)
class Watched:
    """A pair, and everything that its runner tells."""

    p: Pair
    post: Post
    listener: Listener
    alerts_log: Path
    slowness: float = 1.0
    """What a second of the waiting here is for this runner: with the default settings all takes longer."""

    def user(self, session_id: str) -> str:
        return self.p.users[session_id]

    def active(self) -> list[dict[str, Any]]:
        status, told = self.p.runner.request("GET", "/api/alerts")
        assert status == 200
        return list(told["active"])

    def wait_firing(self, alert: str, about: str | None = None, timeout_s: float = 20.0) -> dict[str, Any]:
        """Until the API shows that one as firing; the alert."""

        def there() -> dict[str, Any] | None:
            self.p.runner.request("GET", "/performance-metrics?limit=0")  # brings the numbers up to date
            return next(
                (
                    it
                    for it in self.active()
                    if (it["alert"], it["about"]) == (alert, about) and it["firedAt"]
                ),
                None,
            )

        found = wait_until(there, timeout_s * self.slowness, f"{alert} firing", LOOK_S)
        told_of("alert.firing", found)
        return found

    def wait_over(self, alert: str | None = None, about: str | None = None, timeout_s: float = 60.0) -> None:
        """Until the API shows that one no more, or none at all."""

        def gone() -> bool:
            self.p.runner.request("GET", "/performance-metrics?limit=0")
            left = [(it["alert"], it["about"]) for it in self.active()]
            return (alert, about) not in left if alert else not left

        wait_until(gone, timeout_s * self.slowness, f"{alert or 'all'} over", LOOK_S)

    def channels(self) -> dict[str, list[Told]]:
        """What each has told so far."""
        return {
            "WebSocket": self.listener.told(),
            "webhook": self.post.hook.told(),
            "apprise": self.post.letters.told(),
            "alerts.log": file_told(self.alerts_log),
            "performance.log": file_told(self.alerts_log.with_name("performance.log")),
            "log": self._logged(),
            "history": self._history(),
        }

    def _logged(self) -> list[Told]:
        text = self.p.runner.output()
        lines = (json.loads(line) for line in text.splitlines() if '"alert ' in line)
        wanted = {"alert firing": "alert.firing", "alert resolved": "alert.resolved"}
        return [told_of(wanted[it["event"]], it) for it in lines if it["event"] in wanted]

    def _history(self) -> list[Told]:
        status, told = self.p.runner.request("GET", "/api/alerts/history?limit=500")
        assert status == 200
        past = [it for it in reversed(told["alerts"]) if it["firedAt"] and it["resolvedAt"]]
        return [told_of(event, it) for it in past for event in ("alert.firing", "alert.resolved")]


@contextmanager
def watched(p: Pair, post: Post, directory: Path, slowness: float = 1.0) -> Iterator[Watched]:
    """Everybody listens from now on."""
    listener = Listener(p.runner.socket)
    yield Watched(p, post, listener, directory / "data" / "logs" / "alerts.log", slowness)
    p.runner.stop()
    listener.close()


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and the one alert that must come of it."""

    alert: str
    begin: Callable[[], object]
    end: Callable[[], object]
    about: str | None = None


@contextmanager
def exactly(w: Watched, *expected: tuple[str, str | None]) -> Iterator[None]:
    """These alerts and no others, each once on and once off, on every channel."""
    before = {name: len(told) for name, told in w.channels().items()}
    yield
    w.wait_over()
    performance = [it for it in expected if kind_of(it[0]) == "performance"]

    def new(name: str) -> list[Told]:
        return w.channels()[name][before[name] :]

    for name in before:
        wanted = performance if name == "performance.log" else list(expected)
        with contextlib.suppress(AssertionError):  # the comparison says more
            wait_until(lambda: len(new(name)) >= 2 * len(wanted), 10.0 * w.slowness)  # noqa: B023 - called here
        assert_once_each(new(name), wanted, name)


def side_by_side(w: Watched, *chains: Sequence[Fault]) -> None:
    """The faults of a chain one by one, the chains at the same time: each is told, and nothing else is."""
    faults = [fault for chain in chains for fault in chain]
    with exactly(w, *((it.alert, it.about) for it in faults)), ThreadPoolExecutor(len(chains)) as pool:
        for done in [pool.submit(_chain, w, chain) for chain in chains]:
            done.result()


def all_at_once(w: Watched, faults: Sequence[Fault]) -> None:
    """All begin, and none ends before all are told."""
    with exactly(w, *((it.alert, it.about) for it in faults)):
        for fault in faults:
            fault.begin()
        for fault in faults:
            w.wait_firing(fault.alert, fault.about)
        for fault in faults:
            fault.end()


def _chain(w: Watched, chain: Sequence[Fault]) -> None:
    for fault in chain:
        fault.begin()
        try:
            w.wait_firing(fault.alert, fault.about, 40.0)
        finally:
            fault.end()
        w.wait_over(fault.alert, fault.about)
