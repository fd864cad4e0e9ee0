"""The heap of deadlines against a plain dict of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.supervisor.deadlines import Deadlines, Kind

NAMES = st.sampled_from("abc")
KINDS = st.sampled_from(list(Kind))
TIMES = st.integers(0, 9).map(float)
SET = st.tuples(st.just("set"), NAMES, KINDS, TIMES)
CLEAR = st.tuples(st.just("clear"), NAMES, KINDS, TIMES)
POP = st.tuples(st.just("pop"), NAMES, KINDS, TIMES)


@given(st.lists(SET | CLEAR | POP))
def test_what_is_due_comes_in_order_and_nothing_else(steps: list[tuple[str, str, Kind, float]]) -> None:
    it, model = Deadlines(), dict[tuple[str, Kind], float]()
    for what, name, kind, at in steps:
        if what == "set":
            it.set(name, kind, at)
            model[name, kind] = at
        elif what == "clear":
            it.clear(name, kind)
            model.pop((name, kind), None)
        else:
            due = min((it for it in model.values() if it <= at), default=None)
            popped = it.pop_due(at)
            assert (None if popped is None else model.pop(popped)) == due
        assert len(it) == len(model)
        assert it.has(name, kind) == ((name, kind) in model)
        assert it.next_at() == min(model.values(), default=None)
