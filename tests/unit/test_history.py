"""The last 24 hours: bounded, thinned out honestly, and silent about what was not known."""

from __future__ import annotations

from runner.history import MOST_POINTS, RESOLUTIONS, History, highest, mean
from runner.metric_definitions import HISTORY
from runner.metric_docs import document, history_bytes

STEP_MS = 10_000


def filled(points: int, value: float | None = None) -> History:
    history = History({"mean": mean, "worst": highest})
    for number in range(1, points + 1):
        shown = float(number) if value is None else value
        history.push(number * STEP_MS, {"mean": shown, "worst": shown})
    return history


def test_the_size_is_what_the_docs_say_and_never_grows() -> None:
    folds = {name: it.fold for name, it in HISTORY.items() if it.fold is not None}
    history = History(folds)
    before = history.size_bytes()
    for number in range(2000):
        history.push(number * STEP_MS, dict.fromkeys(folds, 1.0))
    assert history.size_bytes() == before == history_bytes()
    assert before == sum(it.points for it in RESOLUTIONS) * 8 * (len(folds) + 1)
    assert f"{before:,} bytes" in document()


def test_an_hour_is_there_point_by_point() -> None:
    step_s, at, values = filled(500).series("mean", 400 * STEP_MS, 450 * STEP_MS)
    assert step_s == 10
    assert at == [number * STEP_MS for number in range(400, 451)]
    assert values == [float(number) for number in range(400, 451)]


def test_what_lies_further_back_is_there_by_the_minute_and_by_five() -> None:
    history = filled(8640)  # a day
    now = 8640 * STEP_MS
    step_s, at, values = history.series("mean", now - 5 * 3_600_000, now)
    assert step_s == 60
    assert at[-1] == now
    assert values[-1] == (8635 + 8640) / 2, "the mean of its minute"
    assert history.series("worst", now - 5 * 3_600_000, now)[2][-1] == 8640
    step_s, at, values = history.series("mean", 0, now)
    assert step_s == 300
    assert len(at) == 288
    assert at[0] == 300_000


def test_before_anything_is_lost_the_finest_series_reaches_back_for_ever() -> None:
    step_s, at, _ = filled(100).series("mean", 0, 100 * STEP_MS)
    assert (step_s, len(at)) == (10, 100)


def test_an_answer_is_thinned_out_to_what_was_asked_for() -> None:
    history = filled(300)
    step_s, at, values = history.series("mean", 0, 300 * STEP_MS, 60)
    assert (step_s, len(at), len(values)) == (50, 60, 60)
    assert values[0] == 3.0
    assert history.series("worst", 0, 300 * STEP_MS, 60)[2][0] == 5.0
    assert len(filled(360).series("mean", 0, 360 * STEP_MS, 10**9)[1]) <= MOST_POINTS
    assert len(history.series("mean", 0, 300 * STEP_MS, 0)[1]) == 1


def test_unknown_is_null_and_stays_out_of_means() -> None:
    history = History({"mean": mean, "worst": highest})
    for number in range(1, 4000):
        known = 6.0 if number % 6 == 0 else None
        history.push(number * STEP_MS, {"mean": known, "worst": None})
    assert history.series("mean", 3990 * STEP_MS, 3996 * STEP_MS)[2] == [6.0, *[None] * 5, 6.0]
    assert set(history.series("mean", 0, 3999 * STEP_MS)[2]) == {6.0}
    assert set(history.series("worst", 0, 3999 * STEP_MS)[2]) == {None}


def test_cleared_it_is_empty() -> None:
    history = filled(10)
    history.clear()
    assert history.series("mean", 0, 10**12) == (10, [], [])
