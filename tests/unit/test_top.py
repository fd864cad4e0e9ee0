"""The frame of `top`: what it shows, and that it says how old it is."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from runner.cli.top_screen import Past, Reading, frame
from runner.session import State
from support.fleet import a_view

NOW = 1_700_000_100.0


def shown(
    reading: Reading, *, now: float = NOW, width: int = 120, height: int = 40, past: Past | None = None
) -> str:
    console = Console(width=width, height=height, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(frame(reading, past or Past(), now, width, height))
    return captured.get()


def a_reading(*states: tuple[str, State], **more: Any) -> Reading:  # noqa: ANN401
    system = {
        "version": {"version": "0.1.0"},
        "system": {"totalMemory": 2**30, "usedMemory": 2**29, "cpuUsage": 0.25, "errorRate": None},
        "states": {"online": 9_750, "backoff": 3},
        "averageResponseTime": 38.0,
        "responseTime": {"p95Ms": 112.0},
        "process": {"rss": 2**28},
    }
    fields: dict[str, Any] = {
        "at": NOW,
        "system": system,
        "health": {"live": True, "ready": True, "process": {"uptime": 61.0}},
        "troubled": [a_view(name, state, "pong_deadline").to_json() for name, state in states],
        **more,
    }
    return Reading(**fields)


def test_a_frame_has_states_numbers_and_the_worst_sessions_first() -> None:
    text = shown(a_reading(("b", State.BACKOFF), ("a", State.CONNECTING), ("z", State.PARKED)))
    assert "9,750 of 9,753 online" in text
    assert "up 1m01s" in text
    assert "38 ms, p95 112 ms" in text
    assert "512.0 MiB of 1.0 GiB" in text
    assert "nothing is wrong" in text
    rows = [line.split()[0] for line in text.splitlines() if "pong_deadline" in line]
    assert rows == ["z", "b", "a"]


def test_alerts_are_shown_but_not_those_that_are_silenced() -> None:
    alert = {"alert": "disk_full", "severity": "critical", "text": "no space", "since": 1_700_000_040_000}
    text = shown(a_reading(alerts=[alert, {**alert, "alert": "cpu_high", "silencedUntil": 1}]))
    assert "disk_full" in text
    assert "1m00s" in text
    assert "cpu_high" not in text


def test_a_narrow_terminal_shows_whole_names_and_numbers() -> None:
    alert = {"alert": "session_penalised", "severity": "critical", "about": "shop-of-ana"}
    alert |= {"text": "failure_temporary_ban: wait until the expiry", "since": 1_700_000_040_000}
    reading = a_reading(("a-session-of-a-shop", State.BACKOFF), alerts=[alert])
    wide, small, phone = (shown(reading, width=width) for width in (120, 80, 44))
    for text in (small, phone):
        for whole in ("reconnects/min", "512.0 MiB of 1.0 GiB", "38 ms, p95 112 ms", "error rate"):
            assert whole in text
        for name in ("a-session-of-a-shop", "session_penalised", "shop-of-ana"):
            assert name in text
    assert "BREAKER" in wide
    assert "failure_temporary_ban: wait until the expiry" in wide
    assert "failure_tem" in small
    assert all(len(line) <= 44 for line in phone.splitlines())


def test_an_old_frame_says_so() -> None:
    assert "no answer" not in shown(a_reading(), now=NOW + 2)
    assert "no answer: what you see is 12s old" in shown(a_reading(), now=NOW + 12)


def test_what_does_not_fit_is_counted() -> None:
    text = shown(a_reading(*((f"s{i:02}", State.BACKOFF) for i in range(30))), height=24)
    assert text.count("pong_deadline") == 12
    assert "18 more" in text


def test_markup_in_a_name_is_only_text() -> None:
    assert "[red]x" in shown(a_reading(("[red]x", State.PARKED)))


def test_the_curve_stays_within_its_blocks() -> None:
    past = Past()
    for cpu in (0.0, 0.5, 1.0, 7.0):
        reading = a_reading()
        past.add(
            Reading(NOW, {**reading.system, "system": {**reading.system["system"], "cpuUsage": cpu}}, {}, [])
        )
    assert past.curve("cpu", 1.0) == "▁▅██"
    assert past.curve("errors") == ""
