"""What an operator can read in the log about a session that dropped, and about an incident."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from runner.redact import Redactor
from runner.session import State
from support.fake_engine import FakeStore
from support.world import World


def test_a_drop_says_how_long_nothing_will_be_tried() -> None:
    structlog.reset_defaults()
    world = World(FakeStore("a"))
    world.run(5)
    with capture_logs() as lines:
        world.engine.drop("a", "connection_closed")
        world.run(0.01)
    (line,) = [line for line in lines if "reconnect" in line["event"] and line.get("reason")]
    view = world.machine.view("a")
    assert view is not None
    assert view.next_retry_at_unix_ms is not None
    assert abs(view.next_retry_at_unix_ms - world.unix_ms - line["delayMs"]) <= 11


@pytest.mark.pain(20)
def test_a_panic_is_told_with_its_session_and_its_place_and_costs_nobody_else() -> None:
    structlog.reset_defaults()
    world = World(FakeStore("a", "b"))
    world.run(5)
    with capture_logs() as lines:
        world.engine.drop("a", "session_panicked", detail="a bug of ours at client.rs:7, please report it: x")
        world.run(60)
    (line,) = [line for line in lines if line["event"].startswith("session panicked")]
    told = Redactor()(None, "error", dict(line))
    assert (told["session"], told["log_level"]) == ("a", "error")
    assert told["detail"] == "a bug of ours at client.rs:7, please report it: x"
    rows = {view.session_id: view for view in map(world.machine.view, ("a", "b")) if view is not None}
    assert {view.state for view in rows.values()} == {State.ONLINE}
    assert (rows["a"].connection, rows["b"].connection) == (2, 1)


def test_an_incident_says_what_is_wrong_after_redaction() -> None:
    structlog.reset_defaults()
    world = World(FakeStore("a"))
    with capture_logs() as lines:
        world.machine.raise_incident("disk_full", "", "critical", "the disk is full; free some space")
    assert Redactor()(None, "critical", dict(lines[-1]))["detail"] == "the disk is full; free some space"
