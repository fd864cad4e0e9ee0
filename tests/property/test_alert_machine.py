"""Whatever is observed and whatever operators do: every alert is told in turns, firing then resolved."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runner.alerts import saved
from runner.alerts.engine import Engine, Observation, Silence, State, Transition, What
from runner.alerts.warnable import Kind, Severity, Warnable

ABOUTS = st.sampled_from(["", "a", "b"])


def _rule(slug: str, **fields: object) -> Warnable:
    shape: dict[str, object] = {"kind": Kind.SYSTEM, "severity": Severity.WARNING}
    words = {"meaning": "m", "first_look": "l", "action": "a"}
    return Warnable(slug=slug, **{**shape, **words, **fields})  # type: ignore[arg-type]


RULES = {
    it.slug: it
    for it in (
        _rule("parent", clear_s=1),
        _rule("hot", threshold=10.0, clear_ratio=0.5, for_s=3, clear_s=2),
        _rule("child", for_s=1, depends_on=("parent",), aftermath_s=5),
    )
}


def engine() -> Engine:
    numbers = count(1)
    return Engine(
        RULES, {slug: it.threshold for slug, it in RULES.items()}, 1.0, lambda _ms: f"al_{next(numbers)}"
    )


class AlertMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine, self.twin = engine(), engine()
        self.state, self.other = State(), State()
        self.now_ms = 1_000_000
        self.told: list[Transition] = []
        self.bad: dict[tuple[str, str], Observation] = {}
        self.serial = 0

    @rule(slug=st.sampled_from(["parent", "child"]), about=ABOUTS)
    def begin(self, slug: str, about: str) -> None:
        self.bad[slug, about] = Observation(slug, about, "x")

    @rule(value=st.sampled_from([0.0, 5.0, 5.1, 7.0, 10.0, 10.1, 99.0]))
    def measure(self, value: float) -> None:
        self.bad["hot", ""] = Observation("hot", "", "x", value)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.bad:
            del self.bad[data.draw(st.sampled_from(sorted(self.bad)))]

    @rule(ms=st.sampled_from([0, 1, 500, 1000, 2500, 6000]))
    def look(self, ms: int) -> None:
        self.now_ms += ms
        self.state, told = self.engine.step(self.state, list(self.bad.values()), self.now_ms)
        self.other, again = self.twin.step(self.other, list(self.bad.values()), self.now_ms)
        assert told == again, "the same past gave another answer"
        for it in told:
            if it.what is What.FIRING:
                assert it.alert.key in self.bad, "fired for something that is not there"
                assert it.alert.suppressed_by is None
                silences = [s for s in self.state.silences if s.matches(it.alert)]
                assert not silences
                if it.alert.alert == "hot":
                    assert self.bad["hot", ""].value > 10.0  # type: ignore[operator]
                if it.alert.alert == "child":
                    assert not [key for key in self.bad if key[0] == "parent"]
            elif it.alert.alert == "hot":
                seen = self.bad.get(("hot", ""))
                assert seen is None or (seen.value or 0) <= 5.0, "cleared inside the hysteresis"
        self.told += told

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if shown := sorted(it.id for it in self.state.shown()):
            chosen = data.draw(st.sampled_from(shown))
            self.state, told = self.engine.acknowledge(self.state, chosen, "x", None, self.now_ms)
            self.other, _ = self.twin.acknowledge(self.other, chosen, "x", None, self.now_ms)
            self.told += told

    @rule(data=st.data())
    def dismiss(self, data: st.DataObject) -> None:
        if shown := sorted(it.id for it in self.state.shown()):
            chosen = data.draw(st.sampled_from(shown))
            self.state, told = self.engine.dismiss(self.state, chosen, self.now_ms)
            self.other, _ = self.twin.dismiss(self.other, chosen, self.now_ms)
            self.told += told

    @rule(
        slug=st.sampled_from(["*", *RULES]),
        about=st.sampled_from([None, "a", "*"]),
        ms=st.sampled_from([1, 3000]),
    )
    def silence(self, slug: str, about: str | None, ms: int) -> None:
        self.serial += 1
        made = Silence(f"s{self.serial}", slug, about, self.now_ms + ms)
        self.state, self.other = self.engine.silence(self.state, made), self.twin.silence(self.other, made)

    @rule()
    def restart(self) -> None:
        def again(state: State) -> State:
            meta = {
                saved.ACTIVE_KEY: saved.active_json(state),
                saved.HISTORY_KEY: saved.history_json(state),
            }
            found, problems = saved.restored(meta, RULES, self.now_ms, 0)
            assert not problems
            return found

        self.state, self.other = again(self.state), again(self.other)

    @invariant()
    def told_in_turns(self) -> None:
        open_ids: dict[tuple[str, str], str] = {}
        for it in self.told:
            if it.what is What.FIRING:
                assert it.alert.key not in open_ids, "fired twice"
                open_ids[it.alert.key] = it.alert.id
            elif it.what is What.RESOLVED:
                assert open_ids.pop(it.alert.key) == it.alert.id, "resolved what was not firing"
        firing = {it.key: it.id for it in self.state.active.values() if it.fired_at and not it.is_dismissed}
        assert firing == open_ids, "what is shown as firing is not what was told"

    @invariant()
    def bounded(self) -> None:
        assert len(self.state.history) <= 500


TestAlerts = AlertMachine.TestCase
