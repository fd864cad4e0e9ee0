"""How sessions in trouble become alerts: few are told one by one, many are one, the explained ones none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.alerts.census import GROUP_ABOVE, RIPEN_A_LOOK, Census
from runner.alerts.facts import Facts, Increase, Windows
from runner.alerts.rules import RULES
from runner.alerts.sessions import OFFLINE, Condition

if TYPE_CHECKING:
    from runner.alerts.engine import Observation

SPENT = Condition("reconnect_loop", "failures")
AWAY = Condition(OFFLINE, "pong_deadline")
HELD = Condition(OFFLINE, "tcp_refused", "path_outage")


class Fleet:
    def __init__(self) -> None:
        self.census = Census(RULES, 1.0)
        self.now: dict[str, Condition | None] = {}
        self.queued: set[str] = set()

    def put(self, at_s: float, condition: Condition | None, *names: str) -> None:
        for name in names:
            self.now[name] = condition
            self.census.put(name, condition, round(1000 * at_s))

    def look(self, at_s: float) -> list[Observation]:
        return list(
            self.census.observations(
                lambda name: (self.now.get(name), name in self.queued), round(1000 * at_s)
            )
        )

    def abouts(self, at_s: float) -> list[str]:
        return [it.about for it in self.look(at_s)]


def many(n: int) -> list[str]:
    return [f"s{number}" for number in range(n)]


def test_few_are_told_one_by_one_once_no_more_came() -> None:
    fleet = Fleet()
    fleet.put(0, SPENT, "a", "b")
    assert fleet.abouts(1) == []
    assert fleet.abouts(3) == ["a", "b"]
    fleet.put(4, None, "a")
    assert fleet.abouts(4) == ["b"]


def test_many_are_one_at_once_and_stay_one_until_none_is_left() -> None:
    fleet = Fleet()
    fleet.put(0, SPENT, *many(37))
    found = fleet.look(0)
    assert [(it.about, it.value) for it in found] == [("", 37.0)]
    assert found[0].text == "37 sessions, s0, s1, s2 and 34 more: failures"
    fleet.put(1, None, *many(36))
    assert [(it.about, it.value) for it in fleet.look(2)] == [("", 1.0)]
    fleet.put(3, None, *many(37))
    assert fleet.look(4) == []
    assert len(fleet.census) == 0
    fleet.put(5, SPENT, "s1")
    assert fleet.abouts(9) == ["s1"]


def test_one_more_than_a_few_makes_the_group() -> None:
    fleet = Fleet()
    fleet.put(0, SPENT, *many(GROUP_ABOVE))
    assert len(fleet.abouts(5)) == GROUP_ABOVE
    fleet.put(6, SPENT, "late")
    assert fleet.abouts(6) == [""]


def test_a_session_must_be_away_for_its_time_and_short_absences_do_not_add_up() -> None:
    fleet = Fleet()
    for_s = RULES[OFFLINE].for_s
    fleet.put(0, AWAY, "a")
    assert fleet.abouts(for_s - 1) == []
    fleet.put(for_s - 1, None, "a")
    fleet.put(for_s, AWAY, "a")
    assert fleet.abouts(2 * for_s - 1) == []
    fleet.look(2 * for_s)
    assert fleet.abouts(2 * for_s + 3) == ["a"]


def test_what_an_outage_holds_is_shown_with_it() -> None:
    fleet = Fleet()
    fleet.put(0, HELD, *many(1000))
    for at in range(120, 126):
        found = fleet.look(at)
    assert [(it.about, it.explained_by, it.value) for it in found] == [
        ("explained by path_outage", "path_outage", 1000.0)
    ]


def test_an_explanation_that_came_late_is_found_before_anything_is_told() -> None:
    fleet = Fleet()
    fleet.put(0, AWAY, "a")
    fleet.now["a"] = HELD
    fleet.look(121)
    assert [it.explained_by for it in fleet.look(125)] == ["path_outage"]


def test_who_waits_for_the_limiter_is_not_in_trouble() -> None:
    fleet = Fleet()
    fleet.put(0, AWAY, *many(50))
    fleet.queued = set(many(50))
    for at in range(0, 1000, 50):
        assert fleet.look(at) == []
    fleet.queued = set()
    for at in range(1000, 1300, 10):
        found = fleet.look(at)
    assert [it.value for it in found] == [50.0]


def test_a_fleet_that_falls_at_once_is_read_in_pieces() -> None:
    fleet = Fleet()
    reads = 0

    def recheck(_name: str) -> tuple[Condition | None, bool]:
        nonlocal reads
        reads += 1
        return AWAY, False

    fleet.put(0, AWAY, *many(10_000))
    list(fleet.census.observations(recheck, 200_000))
    assert reads == RIPEN_A_LOOK


def test_an_increase_is_that_of_its_window() -> None:
    grown = Increase(60.0)
    assert grown(100, 0) == 0
    assert grown(103, 10) == 3
    assert grown(103, 59) == 3
    assert grown(103, 71) == 0
    assert grown(104, 72) == 1


def seen(windows: Windows, now: float, **facts: object) -> dict[str, float | None]:
    return {it.alert: it.value for it in windows.observations(Facts(**facts), now)}  # type: ignore[arg-type]


def test_memory_and_cpu_are_told_as_they_are_measured() -> None:
    found = seen(Windows(1.0), 0, memory_ratio=0.91, cpu_ratio=0.2, fds=90, fd_limit=100, disk_ratio=0.5)
    assert (found["memory_high"], found["cpu_high"]) == (0.91, 0.2)
    assert (found["file_descriptors_high"], found["disk_space_low"]) == (0.9, 0.5)
    assert "error_rate_high" not in found
    assert "response_time_high" not in found


def test_without_monitoring_no_threshold_is_watched_but_bugs_are() -> None:
    found = seen(Windows(1.0), 0, memory_ratio=0.99, cpu_ratio=1.0, is_monitoring=False)
    assert "memory_high" not in found
    assert "handler_exceptions" in found


def test_the_mean_response_time_is_that_of_five_minutes() -> None:
    windows = Windows(1.0)
    seen(windows, 0, responses_total=1000, responses_s_total=10.0)
    assert seen(windows, 60, responses_total=1010, responses_s_total=80.0)["response_time_high"] == 7.0
    found = seen(windows, 400, responses_total=1020, responses_s_total=81.0)
    assert found["response_time_high"] == pytest.approx(0.1)


@pytest.mark.parametrize(("dropped", "share"), [(4, 0.0), (5, 0.25), (20, 1.0)])
def test_a_few_drops_say_nothing_about_a_fleet(dropped: int, share: float) -> None:
    assert seen(Windows(1.0), 0, sessions=20, dropped=dropped)["connection_drops"] == share


@pytest.mark.parametrize(("failing", "rate"), [(2, 0.0), (3, 0.15)])
def test_the_failures_of_one_or_two_sessions_are_no_error_rate_of_the_fleet(
    failing: int, rate: float
) -> None:
    assert seen(Windows(1.0), 0, error_rate=0.15, failing=failing)["error_rate_high"] == rate


def test_guessed_tokens_are_told_as_long_as_they_come() -> None:
    windows = Windows(1.0)
    seen(windows, 0)
    assert seen(windows, 60, wrong_tokens_total=21)["token_guessing"] == 21
    assert seen(windows, 400, wrong_tokens_total=21)["token_guessing"] == 0
