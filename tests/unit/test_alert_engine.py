"""The life of an alert: once in, once out, whatever lies between."""

from __future__ import annotations

from itertools import count

import pytest

from runner.alerts import saved
from runner.alerts.engine import Engine, Observation, Silence, State, Transition, What, counts
from runner.alerts.warnable import Kind, Severity, Warnable


def a_rule(slug: str, **fields: object) -> Warnable:
    shape: dict[str, object] = {
        "slug": slug,
        "kind": Kind.SYSTEM,
        "severity": Severity.WARNING,
        "meaning": "m",
        "first_look": "l",
        "action": "a",
    }
    return Warnable(**{**shape, **fields})  # type: ignore[arg-type]


RULES = {
    rule.slug: rule
    for rule in (
        a_rule("parent", severity=Severity.CRITICAL),
        a_rule("hot", threshold=0.8, clear_ratio=0.5, for_s=10, clear_s=5),
        a_rule("child", for_s=2, depends_on=("parent",), aftermath_s=20),
    )
}


class Desk:
    """An engine with its state, driven by hand. Times in seconds."""

    def __init__(self, patience: float = 1.0) -> None:
        numbers = count(1)
        thresholds = {slug: rule.threshold for slug, rule in RULES.items()}
        self.engine = Engine(RULES, thresholds, patience, lambda _ms: f"al_{next(numbers)}")
        self.state = State()
        self.told: list[Transition] = []

    def look(self, at_s: float, *seen: Observation) -> list[tuple[str, str]]:
        self.state, told = self.engine.step(self.state, seen, round(at_s * 1000))
        self.told += told
        return [(it.what.value.removeprefix("alert."), it.alert.alert) for it in told]


def hot(value: float | None) -> Observation:
    return Observation("hot", "", "hot", value)


PARENT, CHILD = Observation("parent"), Observation("child", "one")


def test_a_value_must_stay_above_the_threshold_for_its_time() -> None:
    desk = Desk()
    assert desk.look(0, hot(0.9)) == []
    assert desk.look(9.9, hot(0.9)) == []
    assert desk.look(10, hot(0.9)) == [("firing", "hot")]
    assert desk.look(11, hot(0.99)) == []
    assert desk.state.shown()[0].value == 0.99


def test_a_good_moment_begins_the_time_anew() -> None:
    desk = Desk()
    desk.look(0, hot(0.9))
    desk.look(5, hot(0.3))
    assert desk.look(12, hot(0.9)) == []
    assert desk.look(22, hot(0.9)) == [("firing", "hot")]


def test_inside_the_hysteresis_nothing_begins_and_nothing_ends() -> None:
    desk = Desk()
    for at in range(20):
        assert desk.look(at, hot(0.6)) == []
    desk.look(20, hot(0.9))
    assert desk.look(30, hot(0.9)) == [("firing", "hot")]
    for at in range(31, 60):
        assert desk.look(at, hot(0.6)) == []
    assert desk.look(60, hot(0.4)) == []
    assert desk.look(64, hot(0.9)) == []
    assert desk.look(65, hot(0.4)) == []
    assert desk.look(70, hot(0.4)) == [("resolved", "hot")]
    assert [it.alert for it in desk.state.history] == ["hot"]


def test_a_value_that_is_no_longer_measured_counts_as_good() -> None:
    desk = Desk()
    desk.look(0, hot(0.9))
    desk.look(10, hot(0.9))
    desk.look(11, hot(None))
    assert desk.look(16) == [("resolved", "hot")]


def test_patience_scales_every_duration() -> None:
    desk = Desk(patience=0.1)
    desk.look(0, hot(0.9))
    assert desk.look(1, hot(0.9)) == [("firing", "hot")]
    desk.look(2, hot(0.1))
    assert desk.look(2.5, hot(0.1)) == [("resolved", "hot")]


def test_an_explained_alert_is_shown_and_neither_told_nor_counted() -> None:
    desk = Desk()
    assert desk.look(0, PARENT, CHILD) == [("firing", "parent")]
    assert desk.look(10, PARENT, CHILD) == []
    shown = desk.state.shown()
    assert [(it.alert, it.suppressed_by, it.fired_at) for it in shown] == [
        ("parent", None, 0),
        ("child", "parent", None),
    ]
    assert counts(shown) == {"critical": 1, "warning": 0, "acknowledged": 0, "silenced": 0}


def test_what_a_fault_leaves_behind_is_no_second_fault() -> None:
    desk = Desk()
    desk.look(0, PARENT, CHILD)
    assert desk.look(10, CHILD) == [("resolved", "parent")]
    assert desk.look(21.9, CHILD) == []
    assert desk.look(22, CHILD) == [("firing", "child")]  # 20 s after, and its own two


def test_an_explanation_also_covers_what_only_shows_after_it_ended() -> None:
    desk = Desk()
    desk.look(0, PARENT)
    desk.look(1)
    desk.look(5, CHILD)
    assert desk.look(19, CHILD) == []


def test_what_was_told_before_its_explanation_is_resolved_aloud() -> None:
    desk = Desk()
    desk.look(0, CHILD)
    assert desk.look(2, CHILD) == [("firing", "child")]
    assert desk.look(3, PARENT, CHILD) == [("firing", "parent")]
    assert counts(desk.state.shown())["warning"] == 0
    assert desk.look(4, PARENT) == [("resolved", "child")]


def test_a_silence_keeps_quiet_until_it_expires() -> None:
    desk = Desk()
    desk.state = desk.engine.silence(desk.state, Silence("s1", "child", "o*", 10_000))
    desk.look(0, CHILD)
    assert desk.look(5, CHILD) == []
    assert counts(desk.state.shown())["silenced"] == 1
    assert desk.look(5.5, CHILD, Observation("child", "two")) == []
    assert desk.look(7.5, CHILD, Observation("child", "two")) == [("firing", "child")]
    assert desk.look(10, CHILD) == [("firing", "child"), ("resolved", "child")]
    assert [it.alert.about for it in desk.told if it.what is What.FIRING] == ["two", "one"]
    assert desk.state.silences == ()


def test_what_began_and_ended_in_silence_was_never_told() -> None:
    desk = Desk()
    desk.state = desk.engine.silence(desk.state, Silence("s1", "*", None, 100_000))
    desk.look(0, CHILD)
    desk.look(5, CHILD)
    assert desk.look(6) == []
    assert not desk.state.history
    assert not desk.told


def test_an_acknowledgement_is_told_once_and_stays() -> None:
    desk = Desk()
    desk.look(0, PARENT)
    alert_id = desk.state.shown()[0].id
    desk.state, told = desk.engine.acknowledge(desk.state, alert_id, "ana", "on it", 1000)
    assert [it.what for it in told] == [What.ACKNOWLEDGED]
    desk.state, told = desk.engine.acknowledge(desk.state, alert_id, "bea", None, 2000)
    assert told == []
    assert desk.look(3, PARENT) == []
    assert counts(desk.state.shown()) == {"critical": 0, "warning": 0, "acknowledged": 1, "silenced": 0}
    assert desk.look(4) == [("resolved", "parent")]
    assert desk.state.history[-1].acknowledged_by == "ana"
    with pytest.raises(KeyError):
        desk.engine.acknowledge(desk.state, alert_id, "ana", None, 5000)


def test_a_dismissed_alert_comes_again_only_with_the_next_episode() -> None:
    desk = Desk()
    desk.look(0, PARENT)
    desk.state, told = desk.engine.dismiss(desk.state, desk.state.shown()[0].id, 1000)
    assert [it.what for it in told] == [What.RESOLVED]
    assert desk.look(2, PARENT) == []
    assert desk.state.shown() == []
    assert desk.look(2.5, PARENT, CHILD) == []
    assert desk.state.shown()[0].suppressed_by == "parent", "it still explains"
    assert desk.look(3) == []
    assert desk.look(4, PARENT) == [("firing", "parent")]


def test_a_wall_clock_that_is_set_back_delays_nothing() -> None:
    desk = Desk()
    desk.look(10_000, hot(0.9))
    desk.look(0, hot(0.9))
    assert desk.look(10, hot(0.9)) == [("firing", "hot")]
    desk.look(20, hot(0.1))
    desk.look(1, hot(0.1))
    assert desk.look(6, hot(0.1)) == [("resolved", "hot")]


def test_a_restart_neither_repeats_nor_forgets_an_alert() -> None:
    before = Desk()
    before.look(0, PARENT)
    before.state, _ = before.engine.acknowledge(before.state, before.state.shown()[0].id, "ana", None, 1)
    before.state = before.engine.silence(before.state, Silence("s1", "hot", None, 10**9))
    meta = {
        saved.ACTIVE_KEY: saved.active_json(before.state),
        saved.HISTORY_KEY: saved.history_json(before.state),
    }
    after = Desk()
    after.state, problems = saved.restored(meta, RULES, 10_000, 30_000)
    assert problems == []
    assert after.state.silences == before.state.silences
    assert after.look(11) == [], "called well before it could be looked at"
    assert after.look(20, PARENT) == []
    assert after.state.shown()[0].acknowledged_by == "ana"
    assert after.look(40) == [("resolved", "parent")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version":99,"alerts":[],"silences":[]}',
        '{"version":1,"alerts":[{"id":1}]}',
        "[" * 5000,
    ],
)
def test_damaged_state_is_reported_and_dropped(text: str) -> None:
    state, problems = saved.restored({saved.ACTIVE_KEY: text, saved.HISTORY_KEY: text}, RULES, 0, 0)
    assert (len(problems), state.shown(), len(state.history)) == (2, [], 0)


def test_the_history_is_bounded() -> None:
    desk = Desk()
    for at in range(0, 1200, 2):
        desk.look(at, PARENT)
        desk.look(at + 1)
    assert len(desk.state.history) == 500
    assert len(saved.history_json(desk.state)) < 300_000
