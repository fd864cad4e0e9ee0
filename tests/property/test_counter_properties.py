"""Rows that change hands: whatever the order, a session's numbers are its own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from support.numbers import Bench

NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), NAMES, st.integers(1, 5)),
        st.tuples(st.just("forget"), NAMES, st.just(0)),
        st.tuples(st.just("sample"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("read"), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_sessions_minute_and_its_answers_are_its_own(steps: list[tuple[str, str, int]]) -> None:
    bench = Bench()
    counting = bench.facts.counting
    lived: dict[str, int] = {}
    total = 0
    for kind, name, number in steps:
        if kind == "count":
            row = counting.of(name)
            counting.put(name, replace(row, messages_received=row.messages_received + number))
            bench.facts.answer(name, number, 0, 0, 0, seconds=number / 1000)
            lived[name] = lived.get(name, 0) + number
            total += number
        elif kind == "forget":
            counting.forget(name)
            bench.metrics.forget(name)
            lived.pop(name, None)
        elif kind == "sample":
            bench.samples(number)
        else:
            bench.facts.counters.refresh()
    bench.facts.counters.refresh()
    assert bench.facts.counters.rows.keys() == lived.keys()
    assert bench.metrics.totals["messages_received"] == total
    for name, messages in lived.items():
        shown = bench.metrics.session(name)
        assert shown["messagesProcessed"] == messages
        assert 0 <= shown["messagesPerMinute"] <= messages  # type: ignore[operator]
        # Each answer took a millisecond, whoever had the row before.
        assert shown["averageResponseTime"] in (None, 1.0)
        assert shown["responseTimeP50"] is None or 0 < shown["responseTimeP50"] <= 10  # type: ignore[operator]
