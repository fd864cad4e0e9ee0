"""The past of a session: what is kept, in how many bytes."""

from __future__ import annotations

import pytest

from runner.reconnect.policy import Policy
from runner.session import State
from runner.supervisor.row import Row
from runner.supervisor.timeline import MOST_ENTRIES, MOST_SLUGS, Timeline
from support.fake_engine import FakeStore
from support.world import World

pytestmark = pytest.mark.usefixtures("quiet_logs")
AT = 1_700_000_000_000


def test_what_is_noted_comes_back() -> None:
    timeline, row = Timeline(), Row("a", state=State.PARKED, reason="stream_replaced_code", code=440)
    row.connection = 7
    timeline.note(row, AT)
    row.state, row.reason, row.code = State.ONLINE, None, None
    timeline.note(row, AT + 5)
    assert [entry.to_json() for entry in timeline.entries(row)] == [
        {"at": AT, "state": "parked", "reason": "stream_replaced_code", "code": 440, "connection": 7},
        {"at": AT + 5, "state": "online", "reason": None, "code": None, "connection": 7},
    ]


def test_the_oldest_go_and_an_idle_session_costs_a_hundred_bytes() -> None:
    timeline, row = Timeline(), Row("a")
    for number in range(3):
        timeline.note(row, AT + number)
    assert row.past.__sizeof__() < 100
    for number in range(3, 2 * MOST_ENTRIES):
        timeline.note(row, AT + number)
    entries = timeline.entries(row)
    assert len(entries) == MOST_ENTRIES
    assert (entries[0].at_unix_ms, entries[-1].at_unix_ms) == (AT + MOST_ENTRIES, AT + 2 * MOST_ENTRIES - 1)


def test_numbers_that_do_not_fit_are_no_error() -> None:
    timeline, row = Timeline(), Row("a", code=2**40)
    row.connection = 2**33 + 1
    timeline.note(row, AT)
    (entry,) = timeline.entries(row)
    assert (entry.code, entry.connection) == (None, 1)


def test_reasons_are_bounded() -> None:
    timeline, row = Timeline(), Row("a")
    for number in range(MOST_SLUGS + 3):
        row.reason = f"made_up_{number}"
        timeline.note(row, AT)
    assert timeline.entries(row)[-1].reason == "other"


def test_the_supervisor_notes_every_state_with_its_reason() -> None:
    world = World(FakeStore("a"), Policy())
    world.run(40)
    world.engine.drop("a", "stream_logged_out", 516)
    world.run(1)
    row = world.machine.rows["a"]
    seen = [(entry.state.value, entry.reason, entry.code) for entry in world.machine.timeline.entries(row)]
    assert seen == [
        ("backoff", None, None),
        ("connecting", None, None),
        ("online", None, None),
        ("parked", "stream_logged_out", 516),
    ]
