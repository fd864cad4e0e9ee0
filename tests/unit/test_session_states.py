"""The nine states: the table, its edges, and the page made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import IllegalTransitionError
from runner.reconnect.docs import document
from runner.session import (
    MEANING,
    OPEN_STATES,
    TRANSITIONS,
    TRIGGER_MEANING,
    Deadlines,
    State,
    Trigger,
    step,
)


def test_every_state_and_trigger_is_explained() -> None:
    assert set(MEANING) == set(State)
    assert set(TRIGGER_MEANING) == set(Trigger)


def test_every_state_can_be_reached_from_stopped_and_left() -> None:
    reached, frontier = {State.STOPPED}, {State.STOPPED}
    while frontier:
        frontier = {target for (state, _), target in TRANSITIONS.items() if state in frontier} - reached
        reached |= frontier
    assert reached == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


@pytest.mark.pain(17)
def test_every_state_leads_back_to_a_dial() -> None:
    for state in State:
        assert step(step(state, Trigger.QUEUE), Trigger.DIAL) is State.CONNECTING


@pytest.mark.parametrize(
    ("state", "trigger"), [(s, t) for s in State for t in Trigger if (s, t) not in TRANSITIONS]
)
def test_what_is_not_in_the_table_is_our_bug(state: State, trigger: Trigger) -> None:
    with pytest.raises(IllegalTransitionError) as caught:
        step(state, trigger)
    assert (caught.value.state, caught.value.event) == (state, trigger)


def test_a_dial_starts_from_the_queue_only_and_a_login_follows_a_dial() -> None:
    assert [state for state, trigger in TRANSITIONS if trigger is Trigger.DIAL] == [State.BACKOFF]
    logins = {state for state, trigger in TRANSITIONS if trigger is Trigger.LOGIN}
    assert logins == {State.CONNECTING, State.PAIRING}


def test_unlinked_stays_unlinked_unless_somebody_overrides() -> None:
    ways_out = {trigger for state, trigger in TRANSITIONS if state is State.LOGGED_OUT}
    assert Trigger.STOP not in ways_out
    assert Trigger.LOGIN not in ways_out


@pytest.mark.pain(17)
def test_states_that_may_not_last_have_a_deadline() -> None:
    deadlines = Deadlines()
    lasting = {state for state in State if deadlines.of(state) is None}
    # backoff and suspended carry a time of their own; the rest may last for ever.
    assert lasting == set(State) - {State.CONNECTING, State.PAIRING, State.DEGRADED}
    assert OPEN_STATES - {State.ONLINE} <= set(State) - lasting


def test_the_page_of_states_is_current() -> None:
    """Run `python -m runner.reconnect.docs > docs/states.md` after a change of the tables."""
    page = Path(__file__).parents[2] / "docs" / "states.md"
    assert page.read_text(encoding="utf-8") == document()
