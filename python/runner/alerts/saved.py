"""What of the alerts survives a restart: versioned JSON in the store's meta table. Pure.

Two keys, since the history is large and changes only when something is resolved. Pending alerts are not kept:
what still holds is observed again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from runner.alerts.engine import HISTORY, MOST_SILENCES, Alert, Silence, State

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
ACTIVE_KEY: Final = "alerts"
HISTORY_KEY: Final = "alerts_history"
MOST_ACTIVE: Final = 500
SETTLE_S: Final = 30.0
"""After a start, until what was firing before may be called well."""


@dataclass(frozen=True, slots=True)
class _Active:
    version: int
    alerts: tuple[Alert, ...]
    silences: tuple[Silence, ...]


@dataclass(frozen=True, slots=True)
class _History:
    version: int
    alerts: tuple[Alert, ...]


T = TypeVar("T", _Active, _History)


def active_json(state: State) -> str:
    """What is firing, what was dismissed, and the silences."""
    kept = [it for it in state.active.values() if it.fired_at is not None or it.is_dismissed]
    return msgspec.json.encode(_Active(VERSION, tuple(kept[:MOST_ACTIVE]), state.silences)).decode()


def history_json(state: State) -> str:
    """The resolved ones."""
    return msgspec.json.encode(_History(VERSION, tuple(state.history))).decode()


def restored(
    meta: Mapping[str, str], rules: Mapping[str, object], now_ms: int, settle_ms: int
) -> tuple[State, list[str]]:
    """The state of the last run, and what of it could not be read. Never fails: damage is dropped."""
    problems: list[str] = []
    active = _decoded(meta.get(ACTIVE_KEY), _Active, problems)
    history = _decoded(meta.get(HISTORY_KEY), _History, problems)
    alerts = active.alerts[:MOST_ACTIVE] if active is not None else ()
    # A rule that this version does not have would never be observed, and so never end.
    kept = {alert.key: alert for alert in alerts if alert.alert in rules}
    silences = active.silences[:MOST_SILENCES] if active is not None else ()
    past = deque(history.alerts if history is not None else (), maxlen=HISTORY)
    return State(kept, silences, past, settles_at=now_ms + settle_ms), problems


def _decoded(text: str | None, kind: type[T], problems: list[str]) -> T | None:
    if text is None:
        return None
    try:
        found = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problems.append(f"{error} in {text[:60]!r}")
        return None
    if found.version != VERSION:
        problems.append(f"version {found.version} is not {VERSION}")
        return None
    return found
