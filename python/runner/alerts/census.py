"""How many sessions are in which condition, kept up to date session by session; never walks the fleet.

A condition of few sessions is one alert each, so that each can be acknowledged. Above `GROUP_ABOVE` it is one
alert that says how many, and stays one until none is left. Sessions whose condition something else explains
are one more group: shown with what explains it, never told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.alerts.engine import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.alerts.sessions import Condition
    from runner.alerts.warnable import Warnable

GROUP_ABOVE: Final = 3
SETTLE_MS: Final = 3000
"""What begins within this time of each other is counted together before single sessions are told."""
LEAST_SETTLE_MS: Final = 1500
"""Two looks, however impatient the operator."""
NAMED: Final = 3
RIPEN_A_LOOK: Final = 200
"""Sessions read again in one look and group: a fleet that falls at once takes a few looks."""


class _Group:
    """The sessions in one condition with one explanation. Dicts keep the order in which they came."""

    __slots__ = ("is_grouped", "ripe", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}  # session -> since when, oldest first
        self.ripe: dict[str, tuple[int, str]] = {}  # session -> (since when, why)
        self.is_grouped = False


class Census:
    """Fed by `put` with each session that changed; asked by `observations` once a look."""

    def __init__(self, rules: Mapping[str, Warnable], patience: float) -> None:
        self._rules = rules
        self.patience = patience
        self._groups: dict[tuple[str, str | None], _Group] = {}
        self._places: dict[str, tuple[str, str | None]] = {}

    def put(self, session_id: str, condition: Condition | None, now_ms: int) -> None:
        """The session is in this condition now."""
        place = None if condition is None else (condition.slug, condition.explained_by)
        before = self._places.get(session_id)
        if before == place:
            return
        since = now_ms
        if before is not None:
            group = self._groups[before]
            begun = group.waiting.pop(session_id, None)
            ripe = group.ripe.pop(session_id, None)
            if place is not None and place[0] == before[0]:  # the same, explained otherwise
                since = begun if begun is not None else ripe[0] if ripe is not None else now_ms
            del self._places[session_id]
        if place is not None:
            self._places[session_id] = place
            group = self._groups.setdefault(place, _Group())
            group.waiting[session_id] = since

    def __len__(self) -> int:
        return len(self._places)

    def observations(
        self, recheck: Callable[[str], tuple[Condition | None, bool]], now_ms: int
    ) -> Iterator[Observation]:
        """What is to be said now. `recheck` reads a session: its condition, and whether it waits its turn.

        A session is read again when its time is up, because what explains it may have come in the meantime.
        """
        for place in list(self._groups):
            self._ripen(place, recheck, now_ms)
        for place, group in list(self._groups.items()):
            if not group.waiting and not group.ripe:
                del self._groups[place]
                continue
            yield from self._said(place, group, now_ms)

    def _ripen(
        self,
        place: tuple[str, str | None],
        recheck: Callable[[str], tuple[Condition | None, bool]],
        now_ms: int,
    ) -> None:
        group = self._groups[place]
        lasts_ms = 1000 * self._rules[place[0]].for_s * self.patience
        for _ in range(min(RIPEN_A_LOOK, len(group.waiting))):
            if not group.waiting:
                return
            session_id, since = next(iter(group.waiting.items()))
            if 0 <= now_ms - since < lasts_ms:
                return
            condition, is_queued = recheck(session_id)
            if condition is None or (condition.slug, condition.explained_by) != place:
                self.put(session_id, condition, now_ms)
                group.waiting.pop(session_id, None)
            elif is_queued:  # whoever waits for the limiter is not in trouble: count anew from here
                del group.waiting[session_id]
                group.waiting[session_id] = now_ms
            else:
                del group.waiting[session_id]
                group.ripe[session_id] = (since, condition.why)

    def _said(self, place: tuple[str, str | None], group: _Group, now_ms: int) -> Iterator[Observation]:
        slug, explained_by = place
        if not group.ripe:
            group.is_grouped = group.is_grouped and bool(group.waiting)
            return
        if len(group.ripe) > GROUP_ABOVE or explained_by is not None:
            group.is_grouped = True
        if group.is_grouped:
            since, why = next(iter(group.ripe.values()))
            names = ", ".join(list(group.ripe)[:NAMED])
            more = len(group.ripe) - NAMED
            text = f"{len(group.ripe)} sessions, {names}{f' and {more} more' if more > 0 else ''}: {why}"
            about = "" if explained_by is None else f"explained by {explained_by}"
            yield Observation(slug, about, text, float(len(group.ripe)), since, explained_by)
            return
        settle_ms = max(SETTLE_MS * self.patience, LEAST_SETTLE_MS)
        settled_ms = 1000 * self._rules[slug].for_s * self.patience + settle_ms
        for session_id, (since, why) in group.ripe.items():
            if not 0 <= now_ms - since < settled_ms:
                yield Observation(slug, session_id, why, None, since, explained_by)
