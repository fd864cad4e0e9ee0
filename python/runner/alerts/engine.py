"""From what is observed to what is told. Pure: no clock, no Trio, no randomness of its own.

An alert is named by its condition and what it is about. Its life, as `step` moves it:

- *pending* from the first bad observation; a good one ends it, and nobody ever heard of it.
- *firing* once it was bad for `for_s`. Told exactly once, unless a silence matches or another alert explains
  it; then it waits, visible, and is told when that ends and it is still bad.
- *resolved* once it was good for `clear_s` without a break. Told exactly once, if it was told before.
  A value between the threshold and `clear_ratio` of it is neither good nor bad and changes nothing.
- *dismissed* by an operator: resolved now, and not heard of again until the condition has been good.

Whatever is explained by another alert begins its `for_s` anew when the explanation ends, `aftermath_s` later:
a window that still holds the outage is no second fault.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runner.alerts.warnable import Warnable

HISTORY: Final = 500
"""Resolved alerts that are remembered."""
MOST_SILENCES: Final = 200
ANY: Final = "*"
MOST_TEXT: Final = 500


@dataclass(frozen=True, slots=True)
class Observation:
    """One condition as it is at this moment. Those that hold and are not observed are good."""

    alert: str
    about: str = ""
    """A session id, a path, or empty for the fleet."""
    text: str = ""
    value: float | None = None
    since_ms: int | None = None
    """Since when it is known to hold; None: since the first observation."""
    explained_by: str | None = None
    """A slug that explains this one observation, beside those of its rule."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as every surface shows it. Times are Unix milliseconds."""

    id: str
    alert: str
    kind: str
    severity: str
    about: str
    text: str
    since: int
    fired_at: int | None = None
    resolved_at: int | None = None
    value: float | None = None
    threshold: float | None = None
    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    silenced_until: int | None = None
    suppressed_by: str | None = None
    remedy: str = ""
    good_since: int | None = None
    """Since when the condition has been gone, while `clear_s` runs."""
    is_dismissed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is called."""
        return self.alert, self.about

    @property
    def is_known(self) -> bool:
        """Whether more than the engine knows of it: it fired, or would have without what keeps it back."""
        return self.fired_at is not None or self.suppressed_by is not None or self.silenced_until is not None

    def to_json(self) -> dict[str, object]:
        """The JSON names of this alert, the same on every surface."""
        return {
            "id": self.id,
            "alert": self.alert,
            "class": self.kind,
            "severity": self.severity,
            "about": self.about or None,
            "text": self.text,
            "since": self.since,
            "firedAt": self.fired_at,
            "resolvedAt": self.resolved_at,
            "value": self.value,
            "threshold": self.threshold,
            "acknowledgedAt": self.acknowledged_at,
            "acknowledgedBy": self.acknowledged_by,
            "note": self.note,
            "silencedUntil": self.silenced_until,
            "suppressedBy": self.suppressed_by,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that match are not told until it expires."""

    id: str
    alert: str
    about: str | None
    """A glob, or None for whatever it is about."""
    until: int
    note: str = ""

    def matches(self, alert: Alert) -> bool:
        """Whether it covers this alert."""
        return self.alert in (ANY, alert.alert) and (
            self.about is None or fnmatchcase(alert.about, self.about)
        )

    def to_json(self) -> dict[str, object]:
        """The JSON names."""
        return {
            "id": self.id,
            "alert": self.alert,
            "about": self.about,
            "until": self.until,
            "note": self.note,
        }


class What(StrEnum):
    """What is told; the words are the names of the events."""

    FIRING = "alert.firing"
    RESOLVED = "alert.resolved"
    ACKNOWLEDGED = "alert.acknowledged"


@dataclass(frozen=True, slots=True)
class Transition:
    """One thing to tell."""

    what: What
    alert: Alert
    at_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """All that is remembered between two steps. A value: every change makes a new one."""

    active: Mapping[tuple[str, str], Alert] = field(default_factory=dict)
    """Pending, firing, suppressed and dismissed ones."""
    silences: tuple[Silence, ...] = ()
    history: deque[Alert] = field(default_factory=lambda: deque(maxlen=HISTORY))
    """The last resolved ones, oldest first. Shared by the states of one engine; only ever appended to."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """When each condition that explains others was last there; it explains for a while after."""
    settles_at: int = 0
    """After a start: what was firing before is not called well before it could be looked at."""

    def find(self, alert_id: str) -> Alert | None:
        """The active alert of that id."""
        return next((it for it in self.active.values() if it.id == alert_id), None)

    def shown(self) -> list[Alert]:
        """What operators see: the fired ones, and those that an explanation or a silence keeps back."""
        return [it for it in self.active.values() if it.is_known and not it.is_dismissed]


@dataclass(frozen=True, slots=True)
class _Why:
    """What keeps an alert from being told: filled as one step goes on."""

    there: set[str]
    ended: Mapping[str, int]
    silences: tuple[Silence, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """The rules and their numbers."""

    rules: Mapping[str, Warnable]
    thresholds: Mapping[str, float | None]
    patience: float
    new_id: Callable[[int], str]

    def step(
        self, state: State, observations: Iterable[Observation], now_ms: int
    ) -> tuple[State, list[Transition]]:
        """The state after one look at everything, and what is to be told.

        Times are those of the wall clock. When it is set back, what lay in the future counts as now.
        """
        silences = tuple(it for it in state.silences if it.until > now_ms)
        told: list[Transition] = []
        active: dict[tuple[str, str], Alert] = {}
        # What explains others must be known before them, so the rules' order is the order of work.
        seen: dict[str, list[Observation]] = {}
        for observation in observations:
            seen.setdefault(observation.alert, []).append(observation)
        before: dict[str, list[Alert]] = {}
        for alert in state.active.values():
            before.setdefault(alert.alert, []).append(alert)
        ended = {slug: min(at, now_ms) for slug, at in state.ended.items()}
        known: set[str] = set()
        for slug in (it for it in self.rules if it in seen or it in before):
            rule = self.rules[slug]
            bad = {it.about: it for it in seen.get(slug, ())}
            old = {it.about: it for it in before.get(slug, ())}
            for about in (*old, *(it for it in bad if it not in old)):
                why = _Why(known, ended, silences)
                moved = self._move(rule, old.get(about), bad.get(about), why, state, now_ms)
                if moved is None:
                    continue
                alert, transition = moved
                if transition is not None:
                    told.append(transition)
                if transition is not None and transition.what is What.RESOLVED:
                    state.history.append(alert)
                    continue
                active[alert.key] = alert
                if alert.is_known:
                    known.add(slug)
                    ended[slug] = now_ms
        return replace(state, active=active, silences=silences, ended=ended), told

    def _move(
        self,
        rule: Warnable,
        old: Alert | None,
        seen: Observation | None,
        why: _Why,
        state: State,
        now_ms: int,
    ) -> tuple[Alert, Transition | None] | None:
        threshold = self.thresholds.get(rule.slug)
        verdict = _verdict(rule, threshold, seen)
        if old is None:
            if verdict is not True or seen is None:
                return None
            since = now_ms if seen.since_ms is None else min(seen.since_ms, now_ms)
            old = self._begin(rule, seen, since, now_ms)
        elif old.since > now_ms or (old.good_since or 0) > now_ms:
            good_since = None if old.good_since is None else min(old.good_since, now_ms)
            old = replace(old, since=min(old.since, now_ms), good_since=good_since)
        if seen is not None and not old.is_dismissed:
            old = replace(old, text=seen.text[:MOST_TEXT] or old.text, value=seen.value, threshold=threshold)
        if verdict is False:
            return self._good(rule, old, state, now_ms)
        if old.good_since is not None and verdict is True:
            old = replace(old, good_since=None)
        if old.is_dismissed or (verdict is None and old.fired_at is None):
            return old, None  # between the two limits a pending one goes on waiting
        return self._bad(rule, old, seen, why, now_ms)

    def _begin(self, rule: Warnable, seen: Observation, since: int, now_ms: int) -> Alert:
        return Alert(
            id=self.new_id(now_ms),
            alert=rule.slug,
            kind=rule.kind.value,
            severity=rule.severity.value,
            about=seen.about,
            text=seen.text[:MOST_TEXT],
            since=since,
            value=seen.value,
            threshold=self.thresholds.get(rule.slug),
            remedy=rule.action,
        )

    def _good(
        self, rule: Warnable, old: Alert, state: State, now_ms: int
    ) -> tuple[Alert, Transition | None] | None:
        if old.is_dismissed or old.fired_at is None:
            return None
        if now_ms < state.settles_at:
            return old, None
        good_since = now_ms if old.good_since is None else old.good_since
        if now_ms - good_since < self._ms(rule.clear_s):
            return replace(old, good_since=good_since), None
        resolved = replace(old, resolved_at=now_ms, good_since=None, suppressed_by=None)
        return resolved, Transition(What.RESOLVED, resolved, now_ms)

    def _bad(
        self,
        rule: Warnable,
        old: Alert,
        seen: Observation | None,
        why: _Why,
        now_ms: int,
    ) -> tuple[Alert, Transition | None]:
        explained = seen.explained_by if seen is not None else None
        parents = (*((explained,) if explained else ()), *rule.depends_on)
        parent = next((it for it in parents if it in why.there), None)
        silenced = max((it.until for it in why.silences if it.matches(old)), default=None)
        alert = replace(old, silenced_until=silenced, suppressed_by=parent)
        if alert.fired_at is not None or parent is not None:
            return alert, None
        ends = max((why.ended[it] for it in parents if it in why.ended), default=None)
        begun = alert.since if ends is None else max(alert.since, ends + self._ms(rule.aftermath_s))
        if now_ms - begun < self._ms(rule.for_s):
            return replace(alert, silenced_until=None), None
        if silenced is not None:
            return alert, None
        fired = replace(alert, fired_at=now_ms)
        return fired, Transition(What.FIRING, fired, now_ms)

    def _ms(self, seconds: float) -> int:
        return round(1000 * seconds * self.patience)

    # -- what operators do -----------------------------------------------------------------------------------

    def acknowledge(
        self, state: State, alert_id: str, by: str, note: str | None, now_ms: int
    ) -> tuple[State, list[Transition]]:
        """Somebody looks after it. Idempotent: the first one stays. Errors: KeyError."""
        alert = _found(state, alert_id)
        if alert.acknowledged_at is not None:
            return state, []
        known = replace(alert, acknowledged_at=now_ms, acknowledged_by=by, note=note)
        after = replace(state, active={**state.active, alert.key: known})
        return after, [Transition(What.ACKNOWLEDGED, known, now_ms)]

    def dismiss(self, state: State, alert_id: str, now_ms: int) -> tuple[State, list[Transition]]:
        """Resolve it by hand, until the condition becomes true anew. Errors: KeyError."""
        alert = _found(state, alert_id)
        resolved = replace(alert, resolved_at=now_ms, good_since=None)
        after = replace(state, active={**state.active, alert.key: replace(resolved, is_dismissed=True)})
        if alert.fired_at is None:
            return after, []
        state.history.append(resolved)
        return after, [Transition(What.RESOLVED, resolved, now_ms)]

    def silence(self, state: State, silence: Silence) -> State:
        """Add a silence. Errors: OverflowError when there are `MOST_SILENCES`."""
        if len(state.silences) >= MOST_SILENCES:
            raise OverflowError
        return replace(state, silences=(*state.silences, silence))

    def unsilence(self, state: State, silence_id: str) -> State:
        """End a silence. Errors: KeyError."""
        left = tuple(it for it in state.silences if it.id != silence_id)
        if len(left) == len(state.silences):
            raise KeyError(silence_id)
        return replace(state, silences=left)


def _found(state: State, alert_id: str) -> Alert:
    alert = state.find(alert_id)
    if alert is None or alert.is_dismissed:
        raise KeyError(alert_id)
    return alert


def _verdict(rule: Warnable, threshold: float | None, seen: Observation | None) -> bool | None:
    """True: bad. False: good. None: between the two limits, so as it was."""
    if seen is None:
        return False
    if threshold is None:
        return True
    if seen.value is None:
        return False
    if seen.value > threshold:
        return True
    return False if seen.value <= threshold * rule.clear_ratio else None


def counts(alerts: Iterable[Alert]) -> dict[str, int]:
    """Those that need somebody, by severity; the explained ones are not counted."""
    found = {"critical": 0, "warning": 0, "acknowledged": 0, "silenced": 0}
    for alert in _unexplained(alerts):
        if alert.silenced_until is not None:
            found["silenced"] += 1
        elif alert.acknowledged_at is not None:
            found["acknowledged"] += 1
        else:
            found[alert.severity] += 1
    return found


def _unexplained(alerts: Iterable[Alert]) -> Iterator[Alert]:
    return (it for it in alerts if it.suppressed_by is None)
