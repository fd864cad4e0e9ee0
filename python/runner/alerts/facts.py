"""From numbers to observations: what the rules with a threshold look at. No clock of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.alerts.delivery import UNDELIVERED
from runner.alerts.engine import Observation

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_S: Final = 60.0
FIVE_MINUTES_S: Final = 300.0
HOUR_S: Final = 3600.0
_POINTS: Final = 30
FEWEST_DROPPED: Final = 5
"""Below this many sessions a share of the fleet says nothing: one of four is one session."""
FEWEST_DEAD: Final = 3
FEWEST_FAILING: Final = 3
"""What fails for fewer sessions is told of each of them; one that hangs makes a quiet fleet's rate high."""


class Increase:
    """How much a counter grew within a window; reaches back a thirtieth of it further at the most."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._points: deque[tuple[float, float]] = deque()

    def __call__(self, total: float, now: float) -> float:
        """Note the counter as it is now; its growth."""
        points = self._points
        if not points:
            points.append((now, total))
        while len(points) > 1 and now - points[1][0] >= self.window_s:
            points.popleft()
        grown = total - points[0][1]
        if now - points[-1][0] >= self.window_s / _POINTS:
            points.append((now, total))
        return grown


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One reading. Counters count since the start; None: not measured."""

    memory_ratio: float | None = None
    memory_scope: str = "host"
    cpu_ratio: float | None = None
    cpu_scope: str = "host"
    error_rate: float | None = None
    failing: int = 0
    """Sessions whose dials or requests failed within the five minutes of the rate."""
    disk_ratio: float | None = None
    disk_path: str = ""
    fds: int = 0
    fd_limit: int | None = None
    oldest_unanswered_s: float = 0.0
    sessions: int = 0
    """Those that an operator wants to run."""
    responses_total: float = 0
    responses_s_total: float = 0.0
    dropped: int = 0
    """Sessions that lost an open connection within the last minute."""
    found_dead: int = 0
    """Those of them whose connection an unanswered ping ended."""
    clock_steps_total: int = 0
    exceptions_total: int = 0
    panics_total: int = 0
    events_dropped_total: int = 0
    undelivered_total: int = 0
    given_up_total: int = 0
    """Messages and events that became dead letters."""
    wrong_tokens_total: int = 0
    """Those that were not looked at included."""
    is_monitoring: bool = True
    """Whether thresholds are watched at all."""


class Windows:
    """The windows of one process."""

    def __init__(self, patience: float) -> None:
        five = FIVE_MINUTES_S * patience
        self.clock, self.exceptions, self.panics, self.dropped = (Increase(five) for _ in range(4))
        self.undelivered, self.given_up = Increase(HOUR_S * patience), Increase(HOUR_S * patience)
        self.wrong_tokens = Increase(five)
        self.responses, self.responses_s = Increase(FIVE_MINUTES_S), Increase(FIVE_MINUTES_S)

    def observations(self, facts: Facts, now: float) -> Iterator[Observation]:
        """Every value that a rule has a threshold for. `now` is monotonic."""
        sessions = max(facts.sessions, 1)
        yield _seen(
            "connection_drops",
            facts.dropped / sessions if facts.dropped >= FEWEST_DROPPED else 0.0,
            f"{facts.dropped} of {facts.sessions} sessions lost their connection",
        )
        yield _seen(
            "dead_sockets",
            facts.found_dead / sessions if facts.found_dead >= FEWEST_DEAD else 0.0,
            f"{facts.found_dead} of {facts.sessions} connections were found dead",
        )
        for slug, window, total, text in (
            ("clock_stepped", self.clock, facts.clock_steps_total, "times the wall clock was set"),
            (
                "handler_exceptions",
                self.exceptions,
                facts.exceptions_total,
                "exceptions of ours; see the log",
            ),
            ("engine_panic", self.panics, facts.panics_total, "panics in the engine; see the log"),
            ("events_dropped", self.dropped, facts.events_dropped_total, "events did not fit the outbox"),
            (UNDELIVERED, self.undelivered, facts.undelivered_total, "notices were not delivered"),
            ("messages_given_up", self.given_up, facts.given_up_total, "messages and events were given up"),
            (
                "token_guessing",
                self.wrong_tokens,
                facts.wrong_tokens_total,
                "wrong tokens were presented to the admin API within five minutes",
            ),
        ):
            grown = window(total, now)
            yield _seen(slug, grown, f"{grown:.0f} {text}")
        yield _seen(
            "stanzas_unanswered",
            facts.oldest_unanswered_s,
            f"the oldest stanza has waited {facts.oldest_unanswered_s:.1f} s for our answer",
        )
        mean_s = self._mean_response_s(facts, now)
        if facts.is_monitoring:
            yield from _thresholds(facts, mean_s)

    def _mean_response_s(self, facts: Facts, now: float) -> float | None:
        answered = self.responses(facts.responses_total, now)
        answered_s = self.responses_s(facts.responses_s_total, now)
        return answered_s / answered if answered > 0 else None


def _thresholds(facts: Facts, mean_s: float | None) -> Iterator[Observation]:
    if facts.memory_ratio is not None:
        text = f"{100 * facts.memory_ratio:.1f} % of the memory of the {facts.memory_scope} is in use"
        yield _seen("memory_high", facts.memory_ratio, text)
    if facts.cpu_ratio is not None:
        text = f"{100 * facts.cpu_ratio:.0f} % of the CPU of the {facts.cpu_scope} is in use"
        yield _seen("cpu_high", facts.cpu_ratio, text)
    if facts.error_rate is not None:
        text = f"{100 * facts.error_rate:.1f} % of dials, requests and messages failed within five minutes"
        rate = facts.error_rate if facts.failing >= FEWEST_FAILING else 0.0
        yield _seen("error_rate_high", rate, text)
    if mean_s is not None:
        text = f"the server took {1000 * mean_s:.0f} ms to answer, in the mean of five minutes"
        yield _seen("response_time_high", mean_s, text)
    if facts.disk_ratio is not None:
        text = f"{100 * facts.disk_ratio:.1f} % of the file system of {facts.disk_path} is in use"
        yield _seen("disk_space_low", facts.disk_ratio, text)
    if facts.fd_limit:
        text = f"{facts.fds} of {facts.fd_limit} file descriptors are open"
        yield _seen("file_descriptors_high", facts.fds / facts.fd_limit, text)


def _seen(slug: str, value: float, text: str) -> Observation:
    return Observation(slug, "", text, round(value, 4))
