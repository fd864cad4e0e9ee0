"""`GET /metrics`: bounded labels, opt-in sessions, and text that Prometheus' own checker accepts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from runner.metric_definitions import PROMETHEUS
from runner.prometheus import TOP, Choice, pieces, session_label
from runner.session import State
from runner.supervisor.row import Standing
from support.columns import Counted
from support.numbers import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = Choice()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def text(bench: Bench, choice: Choice = OFF, states: dict[str, State] | None = None) -> str:
    return b"".join(pieces(bench.metrics, choice, lambda: standings(states or {}))).decode()


def standings(states: dict[str, State]) -> Iterator[Standing]:
    return (Standing(session, state, 2, 1_700_000_000_123, 2.0) for session, state in states.items())


def sessions_in(shown: str) -> set[str]:
    return set(re.findall(r'session="([^"]+)"', shown))


def busy(bench: Bench) -> None:
    bench.states = {"online": 2, "backoff": 1}
    bench.revision = 12
    bench.event("online", "15550001111")
    bench.event("closed", "15550001111", "pong_deadline", "online")
    bench.facts.counting.put("15550001111", Counted(online_age_s=2.0, messages_received=4))
    bench.facts.answer("15550001111", 1, 0, 2, 0, seconds=0.6)
    bench.samples()


@pytest.mark.pain(25)
def test_labels_are_bounded_and_never_sessions_unless_asked_for(bench: Bench) -> None:
    busy(bench)
    shown = text(bench, states={"15550001111": State.ONLINE})
    assert "15550001111" not in shown
    assert not sessions_in(shown)
    for line in (
        'runner_sessions{state="backoff"} 1',
        'runner_sessions{state="online"} 2',
        'runner_sessions{state="parked"} 0',
        "runner_session_changes_total 12",
        'runner_closes_total{reason="pong_deadline"} 1',
        'runner_response_seconds_bucket{le="0.01"} 1',
        'runner_response_seconds_bucket{le="0.1"} 1',
        'runner_response_seconds_bucket{le="1"} 3',
        'runner_response_seconds_bucket{le="+Inf"} 3',
        "runner_response_seconds_sum 0.6",
        "runner_response_seconds_count 3",
    ):
        assert line in shown.splitlines(), line
    assert shown.endswith("\n")


def test_what_is_counted_is_in_one_piece_with_the_reading_that_it_is_of(bench: Bench) -> None:
    bench.facts.add("a", frames_received=7)
    bench.samples()
    made = pieces(bench.metrics, OFF, lambda: standings({}))
    first = next(made).decode().splitlines()
    bench.facts.add("a", frames_received=7)
    bench.samples()  # somebody else had a turn
    rest = b"".join(made).decode()
    assert {"runner_engine_readings_total 1", "runner_frames_received_total 7"} <= set(first)
    assert "runner_engine_readings" not in rest


def test_a_sessions_series_say_what_its_metrics_say(bench: Bench) -> None:
    bench.event("online", "desk")
    bench.event("closed", "desk", "pong_deadline", "online")
    bench.event("online", "desk")
    bench.facts.counting.put(
        "desk", Counted(online_age_s=2.0, messages_received=4, requests_failed=3, stanzas_malformed=1)
    )
    bench.facts.answer("desk", 0, 4, 0, 0, seconds=0.2)
    bench.samples()
    lines = text(bench, Choice("all"), {"desk": State.ONLINE}).splitlines()
    for line in (
        'runner_session_state{session="desk",state="online"} 1',
        'runner_session_connection{session="desk"} 2',
        'runner_session_state_since_seconds{session="desk"} 1700000000.123',
        'runner_session_uptime_seconds{session="desk"} 2',
        'runner_session_messages_total{session="desk",direction="in"} 4',
        'runner_session_errors_total{session="desk",kind="connection"} 1',
        'runner_session_errors_total{session="desk",kind="request"} 3',
        'runner_session_errors_total{session="desk",kind="stanza"} 1',
        'runner_session_reconnects_total{session="desk"} 1',
        'runner_session_response_seconds{session="desk",quantile="0.5"} 0.055',
        'runner_session_response_seconds_sum{session="desk"} 0.2',
        'runner_session_response_seconds_count{session="desk"} 4',
    ):
        assert line in lines, line


@pytest.mark.pain(25)
def test_the_worst_are_shown_and_never_more_than_the_limit(bench: Bench) -> None:
    states = {f"s{number}": State.ONLINE for number in range(1200)}
    states |= {"banned": State.PARKED, "late": State.BACKOFF}
    bench.facts.counting.put("s700", Counted(requests_failed=9))
    bench.samples()
    assert sessions_in(text(bench, Choice("all", 3), states)) == {"banned", "late", "s700"}
    assert len(sessions_in(text(bench, Choice("all", 1000), states))) == 1000
    top = sessions_in(text(bench, Choice("top"), states))
    assert len(top) == TOP
    assert {"banned", "late", "s700"} <= top


@pytest.mark.parametrize("session", ["15550001111", "+55 11 91234567", "desk-5511912345678"])
def test_an_id_that_could_be_a_phone_number_is_a_digest(session: str) -> None:
    label = session_label(session)
    assert re.fullmatch("id-[0-9a-f]{16}", label)
    assert label == session_label(session)


def test_other_ids_stand_as_they_are_with_what_the_format_wants_escaped() -> None:
    assert session_label("desk-12") == "desk-12"
    assert session_label('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


@pytest.mark.pain(25)
def test_a_large_fleet_is_written_in_small_pieces(bench: Bench) -> None:
    states = {f"s{number}": State.ONLINE for number in range(3000)}
    bench.samples()
    made = list(pieces(bench.metrics, Choice("all", 3000), lambda: standings(states)))
    assert len(made) > 6 * 30
    assert max(piece.count(b"\n") for piece in made) <= 600


def test_every_series_is_defined_and_every_definition_is_shown(bench: Bench) -> None:
    bench.facts.connections = 1000
    bench.metrics.footprint.start = bench.metrics.mark()._replace(connections=0)
    for _ in range(30):
        bench.event("closed", reason="tcp_refused", phase="dialling")
    bench.samples()
    shown = text(bench, Choice("all"), {"desk": State.ONLINE})
    names = [line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert set(names) == {it.series for it in PROMETHEUS.values()}


def test_prometheus_own_checker_accepts_the_text(bench: Bench) -> None:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), ".ci/run installs it"
        pytest.skip("promtool (Debian: prometheus) is not installed")
    busy(bench)
    shown = text(bench, Choice("all"), {"desk": State.ONLINE, "15550001111": State.BACKOFF})
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=shown, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    broken = subprocess.run(
        ["promtool", "check", "metrics"],
        input=shown.replace("# TYPE runner_dials_total counter", "# TYPE runner_dials_total gauge"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.returncode != 0, "the checker checks nothing"
