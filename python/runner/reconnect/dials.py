"""Who may dial next: the limiter, the version gate and the path breakers seen as one.

A session that wants a connection calls `want`; `take` hands out one session at a time, whenever all three
agree. Nothing else starts a dial.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.reconnect.limiter import Limiter, Priority
from runner.reconnect.path import PathBreaker, PathKey
from runner.reconnect.table import BEFORE_LOGIN, Fault, is_path_failure, rule_for
from runner.reconnect.version import VersionGate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from runner.reconnect.policy import Policy
    from runner.reconnect.version import Version


@dataclass(frozen=True, slots=True)
class _Wish:
    """One session that waits for its turn."""

    key: PathKey
    priority: Priority
    last_active_unix_ms: int


@dataclass(frozen=True, slots=True)
class _Dial:
    """One dial under way."""

    key: PathKey
    started_at: float


class Dials:
    """Admission of every dial. Times are on the caller's monotonic clock."""

    def __init__(self, policy: Policy, now: float, rng: Random, pinned: Version | None = None) -> None:
        self._policy = policy
        self._rng = rng
        self.limiter = Limiter(
            policy.connect_rate_per_s, policy.connect_burst, policy.connect_concurrency, now
        )
        self.gate = VersionGate(policy, pinned)
        self._paths: dict[PathKey, PathBreaker] = {}
        self._members: dict[str, PathKey] = {}
        self._users: dict[PathKey, dict[str, None]] = {}
        self._wishes: dict[str, _Wish] = {}
        self._held: dict[PathKey, dict[str, int]] = {}  # path -> session -> last active
        self._dialling: dict[str, _Dial] = {}
        # With a proxy for each session there are as many paths as sessions: never look at all of them.
        self._canaries: list[tuple[float, int, PathKey]] = []
        self._awaited: dict[PathKey, float] = {}  # path -> its live entry in that heap
        self._serial = 0
        self._probed: set[PathKey] = set()  # paths whose canary waits for its turn or dials

    def configure(self, policy: Policy, now: float) -> None:
        """Other numbers from now on; what waits and what is under way stays."""
        self._policy = policy
        self.limiter.configure(
            policy.connect_rate_per_s, policy.connect_burst, policy.connect_concurrency, now
        )

    def join(self, session_id: str, key: PathKey) -> PathKey | None:
        """The session runs and uses this path. The one it left, when nobody is left to see its outage."""
        if self._members.get(session_id) == key:
            return None
        left = self.leave(session_id)
        self._members[session_id] = key
        self._users.setdefault(key, {})[session_id] = None
        return left

    def leave(self, session_id: str) -> PathKey | None:
        """The session needs its path no more. The path, when nobody is left to see its outage."""
        key = self._members.pop(session_id, None)
        if key is None:
            return None
        users = self._users[key]
        del users[session_id]
        if users:
            return None
        del self._users[key]
        self._held.pop(key, None)
        self._probed.discard(key)
        path = self._paths.pop(key, None)
        return key if path is not None and path.is_open else None

    def want(self, session_id: str, priority: Priority, last_active_unix_ms: int, now: float) -> None:
        """Wait for a turn. A forced session passes an open path breaker and is the canary itself."""
        key = self._members[session_id]
        self.withdraw(session_id, now)
        self._wishes[session_id] = _Wish(key, priority, last_active_unix_ms)
        self._admit(session_id)

    def withdraw(self, session_id: str, now: float) -> None:
        """Wait no longer."""
        wish = self._wishes.pop(session_id, None)
        if wish is None:
            return
        self.limiter.withdraw(session_id)
        self._held.get(wish.key, {}).pop(session_id, None)
        path = self._paths.get(wish.key)
        if path is not None:
            path.withdraw(session_id, now)
            self._await_canary(wish.key)

    def take(self, now: float) -> str | None:
        """The session that dials now, or None. The caller dials it at once."""
        self._send_canaries(now)
        while self.gate.may_start(now) and self.limiter.may_start(now):
            session_id = self.limiter.next_session()
            if session_id is None:
                return None
            wish = self._wishes[session_id]
            if self._must_wait(session_id, wish):
                self.limiter.withdraw(session_id)
                self._hold(session_id, wish)
                continue
            del self._wishes[session_id]
            self.limiter.start(session_id, now)
            self.gate.started(session_id, now)
            self._dialling[session_id] = _Dial(wish.key, now)
            return session_id
        return None

    def reached_login(self, session_id: str, now: float) -> PathKey | None:
        """The dial got through to the server. The path, when this ends its outage."""
        dial = self._dialling.get(session_id)
        path = self._paths.get(dial.key) if dial else None
        if dial is None or path is None or not path.succeeded(session_id, now):
            return None
        self._probed.discard(dial.key)
        for held in self._held.pop(dial.key, {}):
            self._admit(held)
        return dial.key

    def logged_in(self, session_id: str, now: float) -> bool:
        """The server accepted the login. True when this ends an outage of the client version."""
        self._dialling.pop(session_id, None)
        self.limiter.finish(session_id)
        return self.gate.accepted(session_id, now)

    def ended(self, session_id: str, reason: str, phase: str | None, now: float) -> PathKey | None:
        """A connection ended, dialling or not. The path, when this begins its outage."""
        self.limiter.finish(session_id)
        self.gate.ended(session_id)
        dial = self._dialling.pop(session_id, None)
        if dial is None:
            return None
        if not is_path_failure(reason, phase):
            path = self._paths.get(dial.key)
            if path is not None:
                asked_for = rule_for(reason).fault is Fault.OPERATOR
                path.withdraw(session_id, now if asked_for else now + self._policy.canary_min_s)
                self._await_canary(dial.key)
            return None
        path = self._paths.setdefault(dial.key, PathBreaker(self._policy))
        sessions = len(self._users.get(dial.key, ())) or 1
        begins = path.failed(session_id, dial.started_at, reason, sessions, now, self._rng)
        self._await_canary(dial.key)
        return dial.key if begins else None

    def passed_login(self, session_id: str, phase: str | None) -> bool:
        """Whether an end in `phase` shows that the dial had reached the server."""
        return session_id in self._dialling and phase is not None and phase not in BEFORE_LOGIN

    def path(self, session_id: str) -> PathBreaker | None:
        """The breaker of a session's path, or None while nothing ever failed on it."""
        key = self._members.get(session_id)
        return None if key is None else self._paths.get(key)

    def users(self, key: PathKey) -> list[str]:
        """The sessions that use a path."""
        return list(self._users.get(key, ()))

    @property
    def paths_in_use(self) -> int:
        """How many paths sessions use."""
        return len(self._users)

    def dialled_path(self, session_id: str) -> PathKey | None:
        """What the dial of the session that is under way goes through."""
        dial = self._dialling.get(session_id)
        return None if dial is None else dial.key

    def is_held(self, session_id: str) -> bool:
        """Whether the session waits for a canary."""
        wish = self._wishes.get(session_id)
        return wish is not None and session_id in self._held.get(wish.key, {})

    def is_waiting(self, session_id: str) -> bool:
        """Whether the session waits for its turn, for whatever reason."""
        return session_id in self._wishes

    def dials_of(self, session_id: str) -> bool:
        """Whether a dial of the session is under way."""
        return session_id in self._dialling

    def open_paths(self) -> Iterator[tuple[PathKey, PathBreaker, int]]:
        """The paths with an outage, and how many sessions each holds."""
        for key, path in self._paths.items():
            if path.is_open:
                yield key, path, len(self._held.get(key, {}))

    def next_at(self, now: float) -> float | None:
        """When `take` may have something to give by the passing of time alone, or None."""
        canary = self._next_canary() if len(self._probed) < self._most_canaries() else None
        times = [] if canary is None else [canary[0]]
        slot = self.limiter.next_start_at(now)
        version = self.gate.next_start_at(now)
        if slot is not None and version is not None:
            times.append(max(slot, version))
        return min(times, default=None)

    def _admit(self, session_id: str) -> None:
        wish = self._wishes[session_id]
        if self._must_wait(session_id, wish):
            self._hold(session_id, wish)
        else:
            self.limiter.enqueue(session_id, wish.priority, wish.last_active_unix_ms)

    def _must_wait(self, session_id: str, wish: _Wish) -> bool:
        path = self._paths.get(wish.key)
        if path is None or not path.is_open or wish.priority is Priority.FORCED:
            return False
        return path.canary != session_id

    def _hold(self, session_id: str, wish: _Wish) -> None:
        self._held.setdefault(wish.key, {})[session_id] = wish.last_active_unix_ms
        self._await_canary(wish.key)

    def _await_canary(self, key: PathKey) -> None:
        """The path's canary, or who could be it, may have changed."""
        path = self._paths.get(key)
        if path is None or path.canary is None:
            self._probed.discard(key)
        if path is None or path.canary_at is None or not self._held.get(key):
            self._awaited.pop(key, None)
        elif self._awaited.get(key) != path.canary_at:
            self._serial += 1
            self._awaited[key] = path.canary_at
            heapq.heappush(self._canaries, (path.canary_at, self._serial, key))

    def _next_canary(self) -> tuple[float, PathKey] | None:
        """When the earliest canary may go, and on which path."""
        while self._canaries:
            at, _, key = self._canaries[0]
            if self._awaited.get(key) == at:
                path = self._paths.get(key)
                if path is not None and path.canary_at == at and self._held.get(key):
                    return at, key
                del self._awaited[key]
            heapq.heappop(self._canaries)
        return None

    def _most_canaries(self) -> int:
        """Canaries go first, so they get a quarter of the places: dead proxies must not shut out others."""
        places = self._policy.connect_concurrency
        if not self.gate.is_proven:
            places = min(places, self._policy.version_unproven_max)
        return max(1, places // 4)

    def _send_canaries(self, now: float) -> None:
        while len(self._probed) < self._most_canaries():
            following = self._next_canary()
            if following is None or following[0] > now:
                return
            key = following[1]
            self._probed.add(key)
            path, held = self._paths[key], self._held[key]
            canary = max(held, key=lambda session_id: held[session_id])
            del held[canary]
            path.send_canary(canary)
            wish = self._wishes[canary]
            self.limiter.enqueue(canary, Priority.FORCED, wish.last_active_unix_ms)
