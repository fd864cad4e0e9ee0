"""The policy under whatever Hypothesis thinks of: breakers, backoff, limiter, path, durable state, states."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runner.errors import IllegalTransitionError
from runner.reconnect.backoff import delay_s
from runner.reconnect.breaker import BreakerState
from runner.reconnect.decide import Ending, decide
from runner.reconnect.decision import LoggedOut, Park, RetryAfter, RetryNow, Suspend
from runner.reconnect.history import LONGEST_BAN_S, Durable, History, Hold, from_json, to_json
from runner.reconnect.limiter import Limiter, Priority
from runner.reconnect.path import PathBreaker
from runner.reconnect.policy import Policy
from runner.reconnect.table import TABLE
from runner.session import State, Trigger, step

POLICY = Policy()
REASONS = st.sampled_from(sorted(TABLE))
PHASES = st.sampled_from(
    ["dialling", "securing", "upgrading", "handshaking", "authenticating", "online", "closing"]
)
TIMES = st.floats(0, 1e6, allow_nan=False)


@given(st.integers(0, 10**9), st.floats(0.001, 1e4), st.floats(0.001, 1e6), st.integers())
def test_backoff_is_between_half_the_ceiling_and_the_ceiling(
    failures: int, base: float, top: float, seed: int
) -> None:
    wait = delay_s(failures, base, top, Random(seed))
    assert 0.0 <= wait <= top
    if failures:
        assert wait >= min(base, top) / 2


ENDS_WITHOUT_VERDICT = st.sampled_from(
    sorted(reason for reason, rule in TABLE.items() if rule.verdict == "backoff")
)


@given(
    st.lists(st.tuples(ENDS_WITHOUT_VERDICT, PHASES), min_size=1, max_size=60),
    st.integers(0, 20),
    st.floats(1, 10_000),
    st.integers(),
)
def test_an_exhausted_session_waits_ever_longer_up_to_an_hour_whatever_its_breaker_says(
    ends: list[tuple[str, str]], most: int, max_delay: float, seed: int
) -> None:
    """Every delay is within [ceiling / 2, ceiling], the ceiling doubling from the longest ordinary delay."""
    policy = replace(POLICY, max_retries=most, max_delay_s=max_delay)
    history, now, rng = History(), 1_000.0, Random(seed)
    longest = max(policy.probe_max_s, max_delay)
    for reason, phase in ends:
        history = replace(history, breaker=history.breaker.attempted())
        decision, history = decide(Ending(reason, phase), history, policy, now, rng)
        if not isinstance(decision, RetryAfter):
            assert isinstance(decision, Suspend), "an open breaker has a wait of its own"
            continue
        assert not (history.exhausted and most == 0), "0: no limit"
        if not history.exhausted:
            assert decision.delay_s <= max_delay
            continue
        spent = max(history.failures - history.path_failures, history.breaker.failures)
        ceiling = min(longest, max_delay * 2.0 ** (spent - most + 1))
        assert ceiling / 2 <= decision.delay_s <= ceiling


class SessionLife(RuleBasedStateMachine):
    """One session under any sequence of ends and gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.now = 1_000.0
        self.rng = Random(0)
        self.opened_at: float | None = None
        self.waited_until = 0.0

    @rule(seconds=st.floats(0, 4000))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        reason=REASONS,
        phase=PHASES,
        online=st.none() | st.floats(0, 1e5),
        expire=st.none() | st.floats(-10, 1e12),
    )
    def connection_ends(self, reason: str, phase: str, online: float | None, expire: float | None) -> None:
        if self.history.breaker.is_open:
            retry_at = self.history.breaker.retry_at
            assert retry_at is not None
            self.now = max(self.now, retry_at)
            self.history = replace(self.history, breaker=self.history.breaker.attempted())
        before = self.history
        decision, self.history = decide(
            Ending(reason, phase, expire, online), before, POLICY, self.now, self.rng
        )
        if isinstance(decision, RetryAfter):
            longest_s = POLICY.probe_max_s if self.history.exhausted else POLICY.max_delay_s
            assert 0 < decision.delay_s <= max(longest_s, 1.5 * POLICY.confirm_delay_s)
        if isinstance(decision, Suspend):
            longest = LONGEST_BAN_S + POLICY.ban_jitter_s
            assert self.now <= decision.until <= self.now + longest, (
                "it always says when, and that is in the future"
            )
        if isinstance(decision, RetryNow):
            stable = online is not None and online >= POLICY.stable_s
            assert (
                stable or TABLE[reason].verdict in ("at_once", "same_attempt") or self.history.failures == 0
            )
        if reason == "resume_failed" and (online is None or online < POLICY.stable_s):
            assert (decision, self.history) == (RetryNow(), before), "the full handshake is the same attempt"
        if isinstance(decision, Park | LoggedOut):
            assert TABLE[reason].verdict in ("park", "confirm", "logged_out")
        if TABLE[reason].fault in ("path", "operator"):
            assert self.history.breaker.failures <= before.breaker.failures or online is not None

    @invariant()
    def breaker_is_sound(self) -> None:
        breaker = self.history.breaker
        assert (breaker.retry_at is not None) == (breaker.state is BreakerState.OPEN)
        if breaker.state is BreakerState.OPEN:
            assert breaker.retry_at is not None
            assert breaker.opened_at is not None
            longest = max(POLICY.probe_max_s, POLICY.breaker_timeout_s * 1.1)
            assert 0 < breaker.retry_at - breaker.opened_at <= longest

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.history.flaps) <= 64

    @invariant()
    def survives_a_restart(self) -> None:
        text = to_json(Durable(history=self.history), self.now, 1_800_000_000_000)
        back, problem = from_json(text, 7.0, 1_800_000_000_000, POLICY)
        assert problem is None
        assert back.history.breaker.state is self.history.breaker.state
        assert back.history.failures == self.history.failures


TestSessionLife = SessionLife.TestCase
TestSessionLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class LimiterLife(RuleBasedStateMachine):
    """Never more than the bucket and the concurrency allow; nobody waits for ever or is handed out twice."""

    RATE, BURST, CONCURRENCY = 5.0, 4, 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.limiter = Limiter(self.RATE, self.BURST, self.CONCURRENCY, self.now)
        self.waiting: set[str] = set()
        self.under_way: set[str] = set()
        self.starts: list[float] = []

    @rule(name=st.sampled_from("abcdefgh"), priority=st.sampled_from(Priority), active=st.integers(0, 9))
    def enqueue(self, name: str, priority: Priority, active: int) -> None:
        if name not in self.under_way:
            self.limiter.enqueue(name, priority, active)
            self.waiting.add(name)

    @rule(name=st.sampled_from("abcdefgh"))
    def withdraw(self, name: str) -> None:
        self.limiter.withdraw(name)
        self.waiting.discard(name)

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_as_told(self) -> None:
        at = self.limiter.next_start_at(self.now)
        if at is not None:
            self.now = max(self.now, at)
            assert self.limiter.may_start(self.now)

    @rule()
    def start(self) -> None:
        name = self.limiter.next_session()
        assert (name is None) == (not self.waiting)
        if name is not None and self.limiter.may_start(self.now):
            assert name in self.waiting
            self.limiter.start(name, self.now)
            self.waiting.discard(name)
            self.under_way.add(name)
            self.starts.append(self.now)

    @rule(name=st.sampled_from("abcdefgh"))
    def finish(self, name: str) -> None:
        self.limiter.finish(name)
        self.under_way.discard(name)

    @invariant()
    def within_bounds(self) -> None:
        assert self.limiter.under_way == len(self.under_way) <= self.CONCURRENCY
        assert self.limiter.waiting == len(self.waiting)
        for first in range(max(0, len(self.starts) - 30), len(self.starts)):
            window = self.starts[-1] - self.starts[first]
            assert len(self.starts) - first <= self.BURST + window * self.RATE + 1


TestLimiterLife = LimiterLife.TestCase
TestLimiterLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class PathLife(RuleBasedStateMachine):
    """At most one canary; always a way back; successes close."""

    def __init__(self) -> None:
        super().__init__()
        self.path = PathBreaker(POLICY)
        self.now = 100.0
        self.rng = Random(0)

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from("abcdefgh"), ago=st.floats(0, 20), sessions=st.integers(1, 50))
    def fails(self, name: str, ago: float, sessions: int) -> None:
        was_open = self.path.is_open
        opened = self.path.failed(name, self.now - ago, "tcp_refused", sessions, self.now, self.rng)
        assert opened == (self.path.is_open and not was_open)

    @rule(name=st.sampled_from("abcdefgh"))
    def succeeds(self, name: str) -> None:
        was_open = self.path.is_open
        assert self.path.succeeded(name, self.now) == was_open
        assert not self.path.is_open

    @rule(name=st.sampled_from("abcdefgh"))
    def canary(self, name: str) -> None:
        if self.path.is_canary_due(self.now):
            self.path.send_canary(name)
            assert not self.path.is_canary_due(self.now + 1e9)

    @rule(name=st.sampled_from("abcdefgh"))
    def withdraw(self, name: str) -> None:
        self.path.withdraw(name, self.now)

    @invariant()
    def open_means_a_canary_is_out_or_due_soon(self) -> None:
        if not self.path.is_open:
            assert self.path.canary is None
            assert self.path.canary_at is None
        elif self.path.canary is None:
            assert self.path.canary_at is not None
            assert self.path.canary_at <= self.now + POLICY.canary_max_s
        else:
            assert self.path.canary_at is None


TestPathLife = PathLife.TestCase
TestPathLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.sampled_from(Trigger), max_size=60))
def test_any_sequence_of_triggers_ends_in_a_state_or_says_whose_bug_it_is(triggers: list[Trigger]) -> None:
    state = State.STOPPED
    for trigger in triggers:
        try:
            state = step(state, trigger)
        except IllegalTransitionError:
            continue
        assert state in State


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.data())
def test_no_damage_to_a_record_crashes_or_loses_a_sound_hold(data: st.DataObject) -> None:
    durable = Durable(True, Hold("suspended", 5000.0), "failure_temporary_ban", 402, None, 3)
    raw = json.loads(to_json(durable, 1000.0, 1_800_000_000_000))
    for key in data.draw(st.lists(st.sampled_from(sorted(raw)), max_size=4)):
        raw[key] = data.draw(JSON)
    back, _ = from_json(json.dumps(raw), 1000.0, 1_800_000_000_000, POLICY)
    assert back.hold is None or back.hold.until is None or 1000.0 <= back.hold.until <= 1000.0 + LONGEST_BAN_S
    assert len(back.history.flaps) <= 64
    if raw.get("hold") == {"state": "suspended", "not_before": 1_800_004_000_000}:
        assert back.hold is not None
        assert back.hold.until is not None, "a sound ban is never dropped because something else is damaged"


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_no_text_crashes_the_reader(text: str) -> None:
    back, problem = from_json(text, 0.0, 0, POLICY)
    assert problem is not None
    assert back.hold is not None
