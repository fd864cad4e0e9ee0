"""The judge of tests/e2e/test_truth.py lets nothing pass that contradicts."""

from __future__ import annotations

import pytest

from support.surfaces import Row, Sample
from support.truth import History, Judge

BEFORE = Sample("before", revision=2, rows=[Row("a", "online", 1, 100, 1), Row("b", "online", 1, 100, 2)])
CHANGES = [
    Row("a", "backoff", 1, 200, 3),
    Row("a", "connecting", 2, 201, 4),
    Row("b", "backoff", 1, 205, 5),
    Row("a", "online", 2, 210, 6),
]
A_NOW, B_NOW = CHANGES[3], CHANGES[2]


def judged(*samples: Sample, changes: list[Row] = CHANGES) -> list[str]:
    judge = Judge(History(BEFORE, changes, [sample.revision for sample in samples]))
    judge.hear(Sample("the account", rows=changes))
    for sample in samples:
        judge.hear(sample)
    return judge.history.problems + judge.problems


def test_what_is_true_passes() -> None:
    assert not judged(
        Sample("x", revision=2, counts={"online": 2}, rows=BEFORE.rows),
        Sample("x", revision=4, counts={"online": 1, "connecting": 1}, rows=[CHANGES[1], BEFORE.rows[1]]),
        # A row that changed while the list went out is newer than what the list says of itself.
        Sample("x", revision=4, counts={"online": 1, "connecting": 1}, rows=[CHANGES[1], B_NOW]),
        Sample("x", revision=6, counts={"online": 1, "backoff": 1}, rows=[A_NOW, B_NOW]),
    )


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("x", revision=5, counts={"online": 2}), "after change 5"),
        (Sample("x", rows=[Row("a", "online", 2, 201)]), "the account said connecting"),
        (Sample("x", revision=6, rows=[A_NOW._replace(state="degraded", since_ms=211)]), "the account says"),
        (Sample("x", revision=6, rows=[CHANGES[1]]), "not change 6"),
    ],
    ids=["a count", "a state", "a row of that change", "a row that is old"],
)
def test_a_surface_that_lies_is_found(sample: Sample, said: str) -> None:
    (problem,) = judged(sample)
    assert said in problem


@pytest.mark.parametrize(
    ("earlier", "later", "said"),
    [
        (Sample("x", rows=[A_NOW]), Sample("x", rows=[CHANGES[0]]), "a went back"),
        (Sample("x", live={"dials": 5}), Sample("x", live={"dials": 4}), "dials went back"),
        (
            Sample("x", reading=7, read={"pings_sent": 5}),
            Sample("y", reading=7, read={"pings_sent": 6}),
            "pings_sent of reading 7",
        ),
    ],
    ids=["a row", "a counter", "one reading on two surfaces"],
)
def test_two_samples_that_contradict_are_found(earlier: Sample, later: Sample, said: str) -> None:
    (problem,) = judged(earlier, later)
    assert said in problem


def test_a_change_without_an_event_is_found() -> None:
    assert judged(changes=[CHANGES[0], CHANGES[2]]) == ["the account says 5 after 3"]


def test_a_figure_lies_between_what_the_simulator_had_before_and_has_after() -> None:
    judge = Judge(History(BEFORE, [], []))
    theirs = [
        Sample("simulator", began, began + 1, live={"connections": n, "logins": n, "pings": n})
        for began, n in ((0.0, 10), (8.0, 20))
    ]
    fine = Sample(
        "x", 4.0, 5.0, live={"dials": 10, "logins": 20}, read={"pings_sent": 10, "pongs_received": 20}
    )
    assert judge.sandwich([fine], theirs) == 4
    assert not judge.problems
    wrong = Sample(
        "x", 4.0, 5.0, live={"dials": 9, "logins": 21}, read={"pings_sent": 9, "pongs_received": 21}
    )
    assert judge.sandwich([wrong], theirs) == 4
    assert len(judge.problems) == 4
    old = Sample("x", 4.0, 5.0, read={"pings_sent": 0}, reading_age_s=3.5)
    assert judge.sandwich([old], theirs) == 0, "it is of a time before anything is known of the simulator"
